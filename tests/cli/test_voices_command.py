"""Saved voices on the command line: saved, listed, used, and refused before a model is loaded."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from llasa_cli.checkpoint.resolve import codec_identity, resolve_checkpoint
from llasa_cli.cli.app import app
from llasa_cli.errors import ModelError, UsageError
from llasa_cli.settings import ModelOptions, SpeechOptions
from llasa_cli.synthesis.synthesizer import Synthesizer
from llasa_cli.voices.library import SavedVoice, find, save
from llasa_cli.voices.resolve import ResolvedVoice
from llasa_cli.voices.resolve import resolve_voice as resolve

WORDS = "Nine words are said in it, or so."
SHORT = ["--max-seconds", "0.3", "--retries", "0", "-q", "--accept-failed"]
Command = Callable[..., tuple[int, str, str]]


def resolve_voice(voice: str | None, speaker: str | None, models: ModelOptions) -> ResolvedVoice:
    return resolve(voice, speaker, resolve_checkpoint(models))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LLASA_VOICES", str(tmp_path / "voices"))
    return tmp_path / "voices"


@pytest.fixture
def models(random_checkpoint: Path) -> ModelOptions:
    return ModelOptions(model=str(random_checkpoint))


@pytest.fixture
def kim(random_codec: Path) -> SavedVoice:
    return SavedVoice("kim", "Paid 7 dollars.", (1, 2, 3), codec_identity(random_codec), language="en")


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    noise = np.random.default_rng(0).normal(0, 0.1, 48_000).astype(np.float32)
    soundfile.write(tmp_path / "clip.wav", noise, 16_000)
    return tmp_path / "clip.wav"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, random_checkpoint: Path) -> Command:
    monkeypatch.setenv("LLASA_MODEL", str(random_checkpoint))

    def start(*arguments: str) -> tuple[int, str, str]:
        made = CliRunner().invoke(app, list(arguments))
        assert made.exception is None or isinstance(made.exception, SystemExit), made.exception
        return made.exit_code, made.stdout, made.stderr

    return start


def test_a_clip_becomes_a_voice_that_can_speak(
    run: Command, clip: Path, folder: Path, tmp_path: Path, models: ModelOptions, random_codec: Path
) -> None:
    saving = ["clone", "--ref", str(clip), "--ref-text", f" {WORDS} ", "--save", "kim", "--license", "mine\nalone"]
    code, out, said = run(*saving, "--language", "en", "--json")
    assert code == 0, said
    facts = json.loads(out)
    assert facts["voice"] == "kim"
    assert facts["path"] == str(folder / "kim.json")
    voice = find("kim")
    assert (voice.text, voice.language, voice.transcribed_by) == (WORDS, "en", None)
    assert (voice.codec, voice.model) == (codec_identity(random_codec), models.model)
    assert voice.license == "recording: mine alone; model: not stated"
    assert voice.sound["sampling_rate"] == 16_000
    assert len(voice.codes) == 150
    (tmp_path / "list.txt").write_text("hello\n")
    code, out, said = run(
        "batch", str(tmp_path / "list.txt"), "-o", str(tmp_path / "out"), "--voice", "kim", "--accept-failed", *SHORT
    )
    assert code == 0, said
    assert soundfile.info(tmp_path / "out" / "00001.wav").frames > 0


def test_text_is_spoken_and_the_voice_is_kept(run: Command, clip: Path, tmp_path: Path) -> None:
    out_file = tmp_path / "out.wav"
    code, out, said = run(
        "clone", "--ref", str(clip), "--ref-text", WORDS, "--save", "kim", "hi", "-o", str(out_file), *SHORT
    )
    assert (code, out) == (0, ""), said
    assert out_file.exists()
    assert find("kim").codes
    again = ["clone", "--ref", str(clip), "--ref-text", "other words are in it", "--save", "kim"]
    assert run(*again)[0] == 2
    assert find("kim").text == WORDS
    assert run(*again, "--force")[0] == 0
    assert find("kim").text == "other words are in it"


def test_a_model_that_can_not_clone_says_so_wherever_a_clip_is_given(
    run: Command, clip: Path, random_checkpoint: Path, tmp_path: Path
) -> None:
    model = tmp_path / "model"
    shutil.copytree(random_checkpoint, model)
    about = model / "llasa.json"
    about.write_text(json.dumps(json.loads(about.read_text()) | {"cloning_note": "It is too small to clone."}))
    lists = {"clips": [{"text": "Hello.", "ref": str(clip), "ref_text": WORDS}], "speakers": [{"text": "Hello."}]}
    said = {}
    for name, items in lists.items():
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, items)))
        batch = ("batch", str(tmp_path / f"{name}.jsonl"), "-o", str(tmp_path / name), "--dry-run")
        said[name] = [run(*batch, "-m", str(other))[2] for other in (model, random_checkpoint)]
    clone = ("clone", "--ref", str(clip), "--ref-text", WORDS, "--save", "kim", "--force")
    said["clone"] = [run(*clone, "-m", str(other))[2] for other in (model, random_checkpoint)]
    warning = "warning: It is too small to clone."
    found = {name: [text.count(warning) for text in texts] for name, texts in said.items()}
    assert found == {"clips": [1, 0], "speakers": [0, 0], "clone": [1, 0]}


def test_voices_are_listed_shown_and_removed(run: Command, kim: SavedVoice, folder: Path) -> None:
    code, out, said = run("voices")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == ["voice", "heart", "bella"]
    assert "speaker (default)" in out.splitlines()[1]
    assert out.splitlines()[2].endswith("woman, American")
    assert "No voice is saved" in said
    save(kim)
    save(replace(kim, name="lee", codec="000000000000", text="Red \x1b[31m [bold]letters[/bold]"))
    (folder / "odd.json").write_text("{")
    code, out, said = run("voices")
    lines = out.splitlines()
    assert code == 0
    assert [line.split()[0] for line in lines] == ["voice", "heart", "bella", "kim", "lee", "odd"]
    assert str(folder) in said
    assert "another codec" in lines[4]
    assert "[bold]letters[/bold]" in lines[4]
    assert "broken" in lines[5]
    assert "\x1b" not in out
    rows = [json.loads(line) for line in run("voices", "--json")[1].splitlines()]
    speakers, saved = rows[:2], rows[2:]
    assert [(row["name"], row["kind"], row["default"]) for row in speakers] == [
        ("heart", "speaker", True),
        ("bella", "speaker", False),
    ]
    assert [(row["name"], row.get("usable")) for row in saved] == [("kim", True), ("lee", False), ("odd", None)]
    assert json.loads(run("voices", "show", "kim", "--json")[1])["codes"] == [1, 2, 3]
    assert "Paid 7 dollars." in run("voices", "show", "kim")[1]
    assert "\x1b" not in run("voices", "show", "lee")[1]
    assert run("voices", "remove", "odd", "lee")[0] == 0
    assert os.listdir(folder) == ["kim.json"]
    code, _, said = run("voices", "remove", "lee")
    assert (code, said.splitlines()[0]) == (2, "error: There is no saved voice 'lee'.")


@pytest.mark.parametrize("flag", [["--json"], ["-m", "nosuch"]])
def test_flags_of_the_list_are_refused_before_a_subcommand(run: Command, kim: SavedVoice, flag: list[str]) -> None:
    code, out, messages = run("voices", *flag, "show", "kim")
    assert (code, out) == (2, "")
    assert "llasa voices show NAME --json" in messages


def test_saved_voices_are_listed_without_the_model(run: Command, kim: SavedVoice) -> None:
    save(kim)
    code, out, _ = run("voices", "-m", "no-such-model", "--json")
    assert (code, json.loads(out)["usable"]) == (0, None)
    assert "no-such-model is not on this machine" in run("voices", "-m", "no-such-model")[2]


def test_a_name_is_a_saved_voice_a_file_or_a_speaker(models: ModelOptions, kim: SavedVoice, tmp_path: Path) -> None:
    path = save(kim)
    for asked in ("kim", "KIM", str(path)):
        chosen = resolve_voice(asked, None, models)
        assert chosen.speaker is None
        assert chosen.reference is not None
        assert (chosen.reference.text, chosen.reference.codes) == ("Paid 7 dollars.", (1, 2, 3))
    for asked in ("bella", "BELLA", "Speaker bella", "speaker Bella"):
        assert resolve_voice(asked, None, models).speaker == "bella"
        assert resolve_voice(None, asked, models).speaker == "bella"
    nothing = resolve_voice(None, None, models)
    assert (nothing.speaker, nothing.reference) == (None, None)


def test_a_model_that_needs_numbers_as_words_normalizes_the_transcript(
    models: ModelOptions, kim: SavedVoice, tmp_path: Path
) -> None:
    save(kim)
    other = tmp_path / "model"
    shutil.copytree(models.model, other)
    about = json.loads((other / "llasa.json").read_text()) | {"spell_out": True}
    (other / "llasa.json").write_text(json.dumps(about))
    chosen = resolve_voice("kim", None, ModelOptions(model=str(other)))
    assert chosen.reference is not None
    assert chosen.reference.text == "Paid seven dollars."
    save(replace(kim, name="wei", text="你好。"))
    with pytest.raises(UsageError, match="can't read the transcript"):
        resolve_voice("wei", None, ModelOptions(model=str(other)))


def test_an_ambiguous_or_unknown_name_is_refused(models: ModelOptions, kim: SavedVoice) -> None:
    save(replace(kim, name="bella"))
    with pytest.raises(UsageError, match="both a saved voice and a speaker") as raised:
        resolve_voice("bella", None, models)
    assert "--speaker bella" in raised.value.hint
    assert resolve_voice(None, "bella", models).speaker == "bella"
    with pytest.raises(UsageError, match="--voice and --speaker are both given"):
        resolve_voice("bella", "heart", models)
    for voice, speaker in (("nobody", None), (None, "nobody"), ("x" * 300, None), ("../x", None), ("", None)):
        with pytest.raises(UsageError):
            resolve_voice(voice, speaker, models)


def test_a_model_without_listed_speakers_takes_a_tag_by_the_speaker_flag_alone(
    models: ModelOptions, kim: SavedVoice, tmp_path: Path
) -> None:
    other = tmp_path / "model"
    shutil.copytree(models.model, other)
    (other / "llasa.json").write_text('{"codec": "codec"}')
    unnamed = ModelOptions(model=str(other))
    assert resolve_voice(None, "Speaker kore", unnamed).speaker == "kore"
    with pytest.raises(UsageError) as raised:
        resolve_voice("kore", None, unnamed)
    assert "--speaker" in raised.value.hint
    with pytest.raises(UsageError):
        resolve_voice(None, "<|SPEECH_GENERATION_END|>", unnamed)


def test_the_speakers_of_a_published_model_come_from_the_catalog(
    models: ModelOptions, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shutil.copytree(models.model, tmp_path / "model")
    (tmp_path / "model" / "llasa.json").unlink()
    monkeypatch.setattr("llasa_cli.checkpoint.resolve.find_model", lambda name: tmp_path / "model")
    assert resolve_voice("Kore", None, ModelOptions(model="1b-kore-puck")).speaker == "kore"
    with pytest.raises(UsageError, match="no voice 'kore'"):
        resolve_voice("kore", None, ModelOptions(model="1b"))


def test_a_missing_model_or_codec_is_an_error(models: ModelOptions, kim: SavedVoice) -> None:
    save(kim)
    with pytest.raises(ModelError):
        resolve_voice("kim", None, ModelOptions(model="1b"))
    with pytest.raises(ModelError):
        resolve_voice("kim", None, replace(models, codec="absent"))


def test_another_codecs_voice_is_refused_before_torch_is_imported(
    models: ModelOptions, kim: SavedVoice, tmp_path: Path
) -> None:
    save(replace(kim, codec="000000000000"))
    (tmp_path / "list.txt").write_text("hello\n")
    code = (
        "import sys\nfrom llasa_cli.__main__ import main\n"
        f"sys.argv = ['llasa', 'batch', 'list.txt', '-o', 'out', '-v', 'kim', '-m', {models.model!r}]\n"
        "try: main()\nexcept SystemExit as end: assert end.code == 2, end.code\n"
        "assert 'torch' not in sys.modules"
    )
    made = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    assert "another codec" in made.stderr


def test_every_item_of_a_list_has_its_own_voice(
    run: Command, kim: SavedVoice, tmp_path: Path, random_codec: Path, clip: Path
) -> None:
    save(kim)
    save(replace(kim, name="odd", codec="000000000000"))
    rows = [
        {"id": "a", "text": "hi", "voice": "kim", "seed": 1},
        {"id": "b", "text": "hi", "voice": "BELLA", "seed": 1},
        {"id": "c", "text": "hi", "voice": "odd"},
        {"id": "d", "text": "hi", "ref": "clip.wav", "ref_text": WORDS},
        {"id": "e", "text": "hi", "ref": "clip.wav", "ref_text": WORDS},
        {"id": "f", "text": "hi", "seed": 1},
    ]
    (tmp_path / "list.jsonl").write_text("\n".join(map(json.dumps, rows)))
    command = ["batch", str(tmp_path / "list.jsonl"), "-o", str(tmp_path / "out"), "--accept-failed", *SHORT]
    assert run(*command)[0] == 5
    results = [json.loads(line) for line in (tmp_path / "out" / "results.jsonl").read_text().splitlines()]
    # The takes of the random model fail their checks, and are accepted.
    assert [row["status"] == "error" for row in results] == [False, False, True, False, False, False]
    assert "another codec" in results[2]["error"]
    sounds = [soundfile.read(tmp_path / "out" / f"{name}.wav")[0] for name in "abf"]
    assert not np.array_equal(sounds[0], sounds[1])
    assert not np.array_equal(sounds[1], sounds[2])
    save(replace(kim, codes=(4, 5, 6)), force=True)
    again = [Path(line).stem for line in run(*command)[1].splitlines()]
    assert again == ["a"], "what a saved voice says now is another take; the rest is there"


def test_a_clip_without_a_transcript_is_transcribed(run: Command, tmp_path: Path) -> None:
    """The built-in voice speaks and pocketsphinx transcribes it: no part is replaced. It is found without `--asr`."""
    pytest.importorskip("pocketsphinx")
    said = "The morning train was crowded with people going to work."
    samples = Synthesizer.load().synthesize(said, SpeechOptions(seed=0))
    silence = np.zeros(16_000, np.float32)
    soundfile.write(tmp_path / "clip.flac", np.concatenate([silence, samples, silence]), 16_000)
    code, _, messages = run("clone", "--ref", str(tmp_path / "clip.flac"), "--save", "kim")
    assert code == 0, messages
    assert "pocketsphinx makes many mistakes" in messages
    voice = find("kim")
    assert "transcribed by pocketsphinx: " + voice.text in messages
    assert len(set(said.lower().replace(".", "").split()) & set(voice.text.split())) >= 6
    assert voice.transcribed_by == "pocketsphinx"
    assert len(voice.codes) / 50 < len(samples) / 16_000 + 0.3, "the silence around it is gone"


def test_without_a_recognizer_the_error_says_what_to_do(
    run: Command, clip: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llasa_cli.asr._is_installed", lambda module: False)
    code, out, messages = run("clone", "--ref", str(clip), "--save", "kim")
    assert (code, out) == (3, "")
    assert "llasa download openai/whisper-base" in messages
    assert "--ref-text" in messages
    monkeypatch.undo()
    monkeypatch.setenv("LLASA_VOICES", str(folder))
    pytest.importorskip("pocketsphinx")
    code, _, messages = run("clone", "--ref", str(clip), "--save", "kim", "--asr", "pocketsphinx", "--language", "de")
    assert (code, messages.count("error: ")) == (1, 1)
    assert not folder.exists()


def test_files_of_any_name_are_voices_and_hints_quote_them(run: Command, kim: SavedVoice, folder: Path) -> None:
    text = save(kim).read_text()
    for name, written in (("my", text), ("voice", text), ("my voice", "{"), ("kim!", text), ("bad!", "{")):
        (folder / f"{name}.json").write_text(written)
    messages = run("doctor", "--no-self-test")[1]
    for name in ("my voice", "bad!"):
        assert f"llasa voices remove {shlex.quote(name)}" in messages
        assert run("voices", "remove", name)[0] == 0
    assert sorted(path.stem for path in folder.iterdir()) == sorted({"my", "voice", "kim!", kim.name})
    assert find("kim!").codes == kim.codes
    with pytest.raises(UsageError):
        save(replace(kim, name="kim!"), force=True)
