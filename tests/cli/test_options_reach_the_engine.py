"""Options reach the engine, and contradictions among them are refused before a model is loaded."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from llasa_cli.audio.chunk import AudioChunk
from llasa_cli.checkpoint.resolve import Checkpoint
from llasa_cli.cli.app import app
from llasa_cli.errors import LlasaError
from llasa_cli.prompt import Reference
from llasa_cli.settings import ModelOptions, SamplingOptions, SamplingRequest, SpeechOptions, VerifierOptions
from llasa_cli.synthesis.synthesizer import Synthesizer
from llasa_cli.synthesis.text_to_speech import StreamSettings
from llasa_cli.synthesis.verifiers import Take

FLAGS = {
    "temperature": 0.31,
    "top_p": 0.77,
    "top_k": 13,
    "min_p": 0.06,
    "repetition_penalty": 1.17,
    "guidance": 1.4,
    "max_seconds": 7.5,
}
MODEL_FLAGS = {
    "model": "somewhere",
    "codec": "else",
    "device": "cpu",
    "dtype": "float16",
    "adapter": "there",
    "attention": "eager",
}


class FakeSynthesizer:
    """A synthesizer that records its calls."""

    sampling_rate = 16_000
    model = SimpleNamespace(is_small=False)
    checkpoint = SimpleNamespace(name="fake", revision="0", sampling=lambda request: request.over({}))
    problems: tuple[str, ...] = ()
    history: list[tuple[str, Any]] = []  # noqa: RUF012 (emptied by the fixture)

    @classmethod
    def load(cls, checkpoint: Checkpoint, on_stage: Any = None, speaker: str | None = None) -> FakeSynthesizer:
        cls.history += [("load", checkpoint.options), ("load for", speaker)]
        return cls()

    def encode_reference(self, samples: np.ndarray, text: str) -> Reference:
        self.history.append(("reference", (len(samples), text)))
        return Reference(text, (1, 2, 3))

    def stream(
        self, text: Any, options: SpeechOptions, reference: Any, on_take: Any, settings: StreamSettings
    ) -> Iterator[AudioChunk]:
        self.history.append(("settings", settings))
        parts = [text] if isinstance(text, str) else list(text)
        self.history.append(("say", (parts, options, reference)))
        from llasa_cli.synthesis.synthesizer import Utterance

        on_take(Utterance(" ".join(parts), 1.0, (1,), options.seed or 0, 1, self.problems, (), 0.5))
        yield AudioChunk(np.full(16_000, 0.1, np.float32), 16_000)


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> type[FakeSynthesizer]:
    FakeSynthesizer.history = []
    FakeSynthesizer.problems = ()
    monkeypatch.setattr(Synthesizer, "load", FakeSynthesizer.load)
    monkeypatch.setattr("llasa_cli.checkpoint.resolve.find_model", Path)
    monkeypatch.setattr("llasa_cli.checkpoint.resolve.find_adapter", lambda name: name and Path(name))
    monkeypatch.setattr(Checkpoint, "known_speakers", ("kore",))
    return FakeSynthesizer


def arguments() -> list[str]:
    found = [
        part for name, value in (FLAGS | MODEL_FLAGS).items() for part in (f"--{name.replace('_', '-')}", str(value))
    ]
    return [*found, "--seed", "0", "--retries", "5"]


def seen(engine: type[FakeSynthesizer]) -> dict[str, Any]:
    return dict(engine.history)


def check(engine: type[FakeSynthesizer], speaker: str | None, markdown: bool = True) -> None:
    assert seen(engine)["load"] == ModelOptions(**MODEL_FLAGS)
    assert seen(engine)["load for"] == speaker
    parts, options, _ = seen(engine)["say"]
    assert options == SpeechOptions(
        sampling=SamplingRequest(**FLAGS), seed=0, speaker=speaker, retries=5, markdown=markdown
    )
    assert " ".join(parts).strip() == "good evening"
    default = SamplingOptions()
    assert all(getattr(default, name) != value for name, value in FLAGS.items()), "a default proves nothing"
    assert {part.name for part in fields(SamplingRequest)} == set(FLAGS), "a new option needs a flag here"


def test_say(engine: type[FakeSynthesizer], tmp_path: Path) -> None:
    out = tmp_path / "out.flac"
    made = CliRunner().invoke(
        app, ["say", *arguments(), "--markdown", "--voice", "kore", "-o", str(out), "good", "evening"]
    )
    assert made.exit_code == 0, made.output
    check(engine, "kore")
    assert len(soundfile.read(out)[0]) == 16_000


def test_clone(engine: type[FakeSynthesizer], tmp_path: Path) -> None:
    clip = tmp_path / "clip.wav"
    soundfile.write(clip, np.sin(np.arange(32_000) / 10) * 0.3, 16_000)
    command = ["clone", "--markdown", "--ref_audio", str(clip), "--ref_text", "some twenty letters", *arguments()]
    made = CliRunner().invoke(app, [*command, "-o", str(tmp_path / "out.wav"), "good", "evening"])
    assert made.exit_code == 0, made.output
    check(engine, None)
    assert seen(engine)["reference"] == (32_000, "some twenty letters")
    assert seen(engine)["say"][2] == Reference("some twenty letters", (1, 2, 3))


class FakeBackend:
    """Completes every item at once, and remembers it."""

    def __init__(self, history: list[tuple[str, Any]]) -> None:
        from llasa_cli.batch.messages import Event

        self._history = history
        self._events: list[Event] = []

    def capacity(self, left: int) -> int:
        return 9

    def submit(self, item: Any) -> None:
        from llasa_cli.batch.messages import Completed

        self._history.append(("item", item))
        self._events.append(Completed(item.number, 1.0, item.options.seed, 0, (), 0.5))

    def finish(self) -> None:
        from llasa_cli.batch.messages import Exited

        self._events.append(Exited())

    def events(self, timeout_s: float) -> list[Any]:
        found, self._events = self._events, []
        return found

    def close(self) -> None:
        pass

    def facts(self) -> dict[str, Any]:
        return {}


def test_batch(engine: type[FakeSynthesizer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def create_backend(options: Any, config: Any) -> FakeBackend:
        engine.history += [("options", options), ("config", config)]
        return FakeBackend(engine.history)

    monkeypatch.setattr("llasa_cli.batch.run.create_backend", create_backend)
    monkeypatch.setattr("llasa_cli.checkpoint.resolve.find_codec", lambda *_: Path())
    (tmp_path / "lines.txt").write_text("good evening\n")
    shared = {"--batch-size": 7, "--workers": 3, "--devices": "cpu,cpu", "--ray": "auto", "--engine": "vllm"}
    more = [str(part) for pair in shared.items() for part in pair]
    more += ["--voice", "kore", "--markdown", "--format", "flac", "--language", "de"]
    made = CliRunner().invoke(
        app, ["batch", str(tmp_path / "lines.txt"), "-o", str(tmp_path / "out"), *more, *arguments()]
    )
    assert made.exit_code == 0, made.output
    config, item, options = seen(engine)["config"], seen(engine)["item"], seen(engine)["options"]
    assert config.models == ModelOptions(**MODEL_FLAGS)
    assert (config.slots, config.engine, config.verifiers) == (7, "vllm", VerifierOptions(language="de"))
    assert item.options == SpeechOptions(
        sampling=SamplingRequest(**FLAGS), seed=0, speaker="kore", retries=5, markdown=True
    )
    assert (item.path, item.text, item.voice) == ("00001.flac", "good evening", None)
    assert (options.workers, options.devices, options.ray) == (3, "cpu,cpu", "auto")


def test_a_line_of_a_list_takes_precedence_over_a_flag(
    engine: type[FakeSynthesizer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llasa_cli.batch.run.create_backend", lambda *_: FakeBackend(engine.history))
    monkeypatch.setattr("llasa_cli.checkpoint.resolve.find_codec", lambda *_: Path())
    own = {name: value * 2 if name == "top_k" else round(value / 2, 3) for name, value in FLAGS.items()}
    row = own | {"text": "good evening", "speaker": "kore", "seed": 9, "output": "a/b.mp3"}
    (tmp_path / "list.jsonl").write_text(json.dumps(row))
    made = CliRunner().invoke(app, ["batch", str(tmp_path / "list.jsonl"), "-o", str(tmp_path / "out"), *arguments()])
    assert made.exit_code == 0, made.output
    item = seen(engine)["item"]
    assert item.options == SpeechOptions(sampling=SamplingRequest(**own), seed=9, speaker="kore", retries=5)
    assert item.path == "a/b.mp3"


def test_a_chunk_that_fails_its_checks_is_exit_1_and_the_file_is_kept(
    engine: type[FakeSynthesizer], tmp_path: Path
) -> None:
    engine.problems = ("too short",)
    out = tmp_path / "a.wav"
    failed = CliRunner().invoke(app, ["say", "hi", "-o", str(out)])
    assert failed.exit_code == 1
    assert f"error: 1 of 1 chunks failed the checks after the last retry; {out} is kept." in failed.stderr
    assert "warning: 0:00.0 to 0:01.0 ('hi'): too short; 1 attempt" in failed.stderr
    assert soundfile.info(str(out)).frames == 16_000
    accepted = CliRunner().invoke(app, ["say", "hi", "-o", str(out), "--accept-failed", "--json"])
    assert (accepted.exit_code, json.loads(accepted.stdout)["failed"]) == (0, 1)


@pytest.mark.parametrize("command", ["say", "clone"])
def test_verify_checks_the_words_with_the_recognizer(
    engine: type[FakeSynthesizer], tmp_path: Path, command: str
) -> None:
    pytest.importorskip("pocketsphinx")
    clip = tmp_path / "clip.wav"
    soundfile.write(clip, np.sin(np.arange(32_000) / 10) * 0.3, 16_000)
    more = ["--ref", str(clip), "--ref-text", "some twenty letters"] if command == "clone" else []
    wanted = [command, "good evening", *more, "--verify", "--asr", "pocketsphinx", "-o", str(tmp_path / "a.wav")]
    made = CliRunner().invoke(app, wanted)
    assert made.exit_code == 0, made.output
    (verifier,) = seen(engine)["settings"].verifiers
    score = verifier.score(Take("good evening", np.zeros(16_000, np.float32), 16_000))
    assert (score.value, score.problems) == (0.0, ("no word was understood",))
    absent = CliRunner().invoke(app, [*wanted, "--asr", "no/recogniser"])
    assert absent.exit_code == 3, absent.output
    assert CliRunner().invoke(app, [*wanted, "--stream"]).exit_code == 2


def test_best_of_reaches_the_engine_with_what_chooses(engine: type[FakeSynthesizer], tmp_path: Path) -> None:
    say = ["say", "hi", "-o", str(tmp_path / "a.wav"), "--best-of", "4"]
    made = CliRunner().invoke(app, [*say, "--good-enough", "0.9", "--choose-by", "likelihood"])
    assert made.exit_code == 0, made.output
    _, options, _ = seen(engine)["say"]
    assert (options.best_of, options.good_enough) == (4, 0.9)
    assert [verifier.name for verifier in seen(engine)["settings"].verifiers] == ["likelihood"]


@pytest.mark.parametrize(
    ("flags", "code", "sentence"),
    [
        (["--best-of", "2", "--asr", "no/recognizer"], 3, "The recognizer no/recognizer is not on this machine."),
        (
            ["--best-of", "2", "--choose-by", "likeness", "--speaker-model", "no/model"],
            3,
            "The speaker model no/model is not on this machine.",
        ),
        (["--best-of", "2", "--choose-by", "likeness", "--speaker-model", "."], 3, "is not a speaker model"),
        (["--best-of", "2", "--choose-by", "beauty"], 2, "must be one of words, likeness, likelihood"),
        (["--best-of", "0"], 2, "between 1 and 256"),
        (["--best-of", "2", "--stream", "--choose-by", "likelihood"], 2, "excludes --stream"),
        (["--choose-by", "likelihood"], 2, "has no effect without --best-of"),
        (["--good-enough", "1"], 2, "has no effect without --best-of"),
        (["--best-of", "2", "--candidate", "3"], 2, "no take 3 of 2"),
        (["--best-of", "2", "--speaker-model", "resemblyzer"], 2, "--speaker-model has no effect"),
    ],
)
def test_what_best_of_lacks_is_said_before_a_model_is_loaded(
    engine: type[FakeSynthesizer], tmp_path: Path, flags: list[str], code: int, sentence: str
) -> None:
    made = CliRunner().invoke(app, ["say", "hi", "-o", str(tmp_path / "a.wav"), *flags])
    assert (made.exit_code, sentence in made.stderr) == (code, True), made.output
    assert engine.history == []


def test_sound_is_streamed_only_to_a_player_or_with_stream(engine: type[FakeSynthesizer], tmp_path: Path) -> None:
    for flags, live in ((["-o", str(tmp_path / "a.wav")], False), (["-o", str(tmp_path / "a.wav"), "--stream"], True)):
        assert CliRunner().invoke(app, ["say", "hi", *flags]).exit_code == 0
        assert (seen(engine)["settings"].gate is not None) == live


@pytest.mark.parametrize("flags", [["--play", "-o", "a.wav"], ["--play", "-o", "b.m4b"], []])
def test_the_audio_device_reaches_the_player(
    engine: type[FakeSynthesizer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: list[str]
) -> None:
    asked: list[str | None] = []

    class NoSpeaker:
        def __init__(self, device: str | None = None) -> None:
            asked.append(device)
            raise LlasaError("There is no such device.")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("llasa_cli.audio.player.SpeakerSink", NoSpeaker)
    assert CliRunner().invoke(app, ["say", "hi", *flags, "--audio-device", "headset"]).exit_code == 1
    monkeypatch.setenv("LLASA_AUDIO_DEVICE", "3")
    assert CliRunner().invoke(app, ["say", "hi", *flags]).exit_code == 1
    assert asked == ["headset", "3"]
    assert list(tmp_path.iterdir()) == [], "a device that is missing leaves nothing behind"


def test_json_is_printed_only_for_a_complete_file(
    engine: type[FakeSynthesizer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    out = tmp_path / "a.wav"
    assert CliRunner().invoke(app, ["say", "hi", "--json", "-o", str(out)]).stdout.startswith("{")
    out.unlink()
    monkeypatch.setattr("llasa_cli.audio.writers.os.replace", full)
    made = CliRunner().invoke(app, ["say", "hi", "--json", "-o", str(out)])
    assert made.exit_code == 1
    assert made.stdout == ""
    assert "times real time" not in made.stderr


def test_a_flag_takes_precedence_over_the_environment(
    engine: type[FakeSynthesizer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLASA_MODEL", "from-the-environment")
    out = ["-o", str(tmp_path / "a.wav")]
    assert CliRunner().invoke(app, ["say", "hi", *out]).exit_code == 0
    assert CliRunner().invoke(app, ["say", "hi", "-m", "from-the-flag", *out]).exit_code == 0
    assert [o.model for name, o in engine.history if name == "load"] == ["from-the-environment", "from-the-flag"]


def test_without_a_seed_one_is_drawn_and_printed(engine: type[FakeSynthesizer], tmp_path: Path) -> None:
    made = CliRunner().invoke(app, ["say", "hi", "-o", str(tmp_path / "a.wav")])
    assert f"seed {seen(engine)['say'][1].seed}" in made.stderr


def test_refusals_come_before_the_model_is_loaded(engine: type[FakeSynthesizer], tmp_path: Path) -> None:
    for command in (
        ["say", "", "-o", str(tmp_path / "a.wav")],
        ["say", "hi", "-o", str(tmp_path / "a.xyz")],
        ["say", "hi", "-f", "x.txt", "-o", str(tmp_path / "a.wav")],
        ["say", "-f", str(tmp_path / "absent.txt"), "-o", str(tmp_path / "a.wav")],
        ["say", "hi", "--no-play"],
        ["say", "hi", "--json", "-o", "-"],
        ["say", "hi", "--json", "-o", "/dev/stdout"],
        ["say", "♥ … !", "-o", str(tmp_path / "a.wav")],
        ["say", "hi", "--temperature", "inf", "-o", str(tmp_path / "a.wav")],
        ["say", "hi", "--temperature", "1e-9", "-o", str(tmp_path / "a.wav")],
        ["say", "hi", "--temperature", "1e300", "-o", str(tmp_path / "a.wav")],
        ["say", "hi", "--guidance", "1e300", "-o", str(tmp_path / "a.wav")],
        ["say", "hi", "--top-k", "9" * 20, "-o", str(tmp_path / "a.wav")],
        ["say", "hi", "--max-seconds", "1e307", "-o", str(tmp_path / "a.wav")],
        ["say", "hi", "--max-seconds", "inf", "-o", str(tmp_path / "a.wav")],
        ["clone", "--ref", str(tmp_path / "absent.wav"), "--ref-text", "x", "hi", "-o", str(tmp_path / "a.wav")],
        ["batch", str(tmp_path / "absent.txt"), "-o", str(tmp_path / "out")],
        ["say", "hi", "--asr", "pocketsphinx", "-o", str(tmp_path / "a.wav")],
    ):
        made = CliRunner().invoke(app, command)
        assert made.exit_code in (2, 4), command
        assert made.stderr.startswith("error: "), command
    assert engine.history == []
    assert list(tmp_path.iterdir()) == []


def test_a_recognizer_without_use_is_refused(engine: type[FakeSynthesizer], tmp_path: Path) -> None:
    soundfile.write(tmp_path / "clip.wav", np.sin(np.arange(32_000) / 10) * 0.3, 16_000)
    clone = ["clone", "--ref", str(tmp_path / "clip.wav"), "--ref-text", "some twenty letters", "hi"]
    made = CliRunner().invoke(app, [*clone, "--asr", "pocketsphinx", "-o", str(tmp_path / "a.wav")])
    assert made.exit_code == 2, made.output
    assert "has no effect" in made.stderr
    assert engine.history == []


@pytest.mark.parametrize("flag", [["--force"], ["--license", "CC0"]])
def test_force_and_license_need_save(engine: type[FakeSynthesizer], tmp_path: Path, flag: list[str]) -> None:
    soundfile.write(tmp_path / "clip.wav", np.sin(np.arange(32_000) / 10) * 0.3, 16_000)
    clone = ["clone", "--ref", str(tmp_path / "clip.wav"), "--ref-text", "some twenty letters", "hi", *flag]
    made = CliRunner().invoke(app, [*clone, "-o", str(tmp_path / "a.wav")])
    assert made.exit_code == 2, made.output
    assert "--save" in made.stderr
    assert engine.history == []


def test_an_input_is_never_overwritten(engine: type[FakeSynthesizer], tmp_path: Path) -> None:
    text, clip, mark = tmp_path / "a.txt", tmp_path / "clip.wav", tmp_path / "a.srt"
    text.write_text("good evening")
    mark.write_text("good evening")
    soundfile.write(clip, np.sin(np.arange(32_000) / 10) * 0.3, 16_000)
    before = {path: path.read_bytes() for path in (text, clip, mark)}
    clone = ["clone", "--ref", str(clip), "--ref-text", "some twenty letters"]
    for command in (
        ["say", "-f", str(text), "-o", str(text), "--format", "wav"],
        ["say", "-f", str(mark), "-o", str(tmp_path / "b.wav"), "--subtitles", str(mark)],
        ["say", "hi", "-o", str(tmp_path / "b.srt"), "--format", "wav", "--subtitles", f"{tmp_path}/./b.srt"],
        [*clone, "hi", "-o", str(clip)],
        [*clone, "-f", str(text), "-o", str(text), "--format", "wav"],
        ["batch", str(text), "--ref", str(clip), "-o", str(clip)],
        ["batch", str(mark), "-o", str(tmp_path / "b.wav"), "--subtitles", str(mark)],
    ):
        made = CliRunner().invoke(app, command)
        assert made.exit_code == 2, (command, made.output)
        assert "overwritten" in made.stderr or "two outputs" in made.stderr, command
    assert engine.history == []
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
