"""`llasa batch` from a list to its files: names, resume, bad items, results."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner, Result

from llasa_cli.checkpoint.resolve import revision_of
from llasa_cli.cli.app import app
from tests.conftest import SPEAKERS

SHORT = ["--max-seconds", "0.2", "--retries", "0", "--device", "cpu", "--accept-failed"]
MADE = "failed_checks"
"""The status of a complete item here: the random model never ends within 0.2 s."""


@pytest.fixture(autouse=True)
def model(random_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLASA_MODEL", str(random_checkpoint))


def batch(folder: Path, *more: str, name: str = "lines.txt") -> Result:
    return CliRunner().invoke(app, ["batch", str(folder / name), "-o", str(folder / "out"), *SHORT, *more])


def rows(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "out" / "results.jsonl").read_text().splitlines()]


def test_lines_become_numbered_files_and_rows(tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_text("one of them\n\nand two\n")
    made = batch(tmp_path, "--seed", "4")
    assert made.exit_code == 0, made.output
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["00001.wav", "00003.wav", "results.jsonl"]
    assert [(r["id"], r["status"], r["seed"]) for r in rows(tmp_path)] == [("00001", MADE, 4), ("00003", MADE, 4)]
    assert made.stdout.split() == [str(tmp_path / "out" / f"{n}.wav") for n in ("00001", "00003")]
    assert soundfile.info(tmp_path / "out" / "00001.wav").duration == rows(tmp_path)[0]["seconds"]


def test_existing_items_are_kept_and_changed_ones_are_made_again(tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_text("a|one\nb|two\n")
    batch(tmp_path)
    times = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "out").glob("*.wav")}
    (tmp_path / "lines.txt").write_text("a|one\nb|two, but other\nc|three\n")
    made = batch(tmp_path)
    assert "2 items made, 1 existed already" in made.stderr
    assert (tmp_path / "out" / "a.wav").stat().st_mtime_ns == times["a.wav"]
    assert (tmp_path / "out" / "b.wav").stat().st_mtime_ns != times["b.wav"]
    (tmp_path / "out" / "c.wav").unlink()
    assert "1 items made, 2 existed already" in batch(tmp_path).stderr
    assert "3 items made, 0 existed already" in batch(tmp_path, "--top-k", "3").stderr


def test_rows_have_the_current_lines_of_the_list(tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_text("a|one\nb|two\n")
    batch(tmp_path)
    (tmp_path / "lines.txt").write_text("c|three\nb|two\n")
    batch(tmp_path)
    assert [(row["id"], row["line"]) for row in rows(tmp_path)] == [("c", 1), ("b", 2), ("a", None)]


def test_verbose_reports_each_item_that_is_made(tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_text("a|one\n")
    batch(tmp_path)
    (tmp_path / "lines.txt").write_text("a|one\nb|two\n")
    found = batch(tmp_path, "--verbose", "--seed", "4").stderr
    assert sorted(line.split(":")[0] for line in found.splitlines() if "retries" in line) == ["line 1", "line 2"]
    assert "seed 4, 0 retries: 'two'" in found
    assert "line " not in batch(tmp_path, "--verbose", "--seed", "4").stderr


def test_an_incomplete_row_of_a_killed_run_is_ignored(tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_text("a|one\n")
    batch(tmp_path)
    with (tmp_path / "out" / "results.jsonl").open("ab") as file:
        file.write('{"id": "b", "text": "日'.encode()[:-1])
    (tmp_path / "lines.txt").write_text("a|one\nc|three\n")
    assert "1 items made, 1 existed already" in batch(tmp_path).stderr
    assert "0 items made, 2 existed already" in batch(tmp_path).stderr


def test_lines_with_the_same_text_are_all_remembered(tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_text("Yes.\nYes.\nYes.\n")
    batch(tmp_path)
    assert "0 items made, 3 existed already" in batch(tmp_path).stderr


def test_other_weights_of_the_same_name_make_all_items_again(
    tmp_path: Path, random_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tmp_path / "mine"
    shutil.copytree(random_checkpoint, model)
    monkeypatch.setenv("LLASA_MODEL", str(model))
    (tmp_path / "lines.txt").write_text("a|one\n")
    batch(tmp_path)
    (row,) = rows(tmp_path)
    assert row["revision"] == revision_of(model)
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\1")
    assert "1 items made, 0 existed already" in batch(tmp_path).stderr
    weights = model / "codec" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\1")
    assert "1 items made, 0 existed already" in batch(tmp_path).stderr


@pytest.mark.parametrize(
    ("more", "code"), [(["-m", "1b"], 3), (["--device", "cuda:77"], 2), (["--voice", "unknown"], 2)]
)
def test_an_error_that_concerns_all_items_ends_the_run_at_once(tmp_path: Path, more: list[str], code: int) -> None:
    (tmp_path / "lines.txt").write_text("a|one\nb|two\n")
    made = batch(tmp_path, *more)
    assert made.exit_code == code, made.output
    assert made.stderr.count("error:") == 1
    assert rows(tmp_path) == [] if (tmp_path / "out" / "results.jsonl").exists() else True


def test_one_bad_item_does_not_stop_the_rest(tmp_path: Path) -> None:
    items = [{"id": "a", "text": "one"}, {"id": "b", "text": ""}, {"id": "c", "text": "x", "voice": "unknown"}]
    items += [
        {"id": "d", "text": "y", "ref": "absent.wav", "ref_text": "z"},
        {"id": "e", "text": "two", "voice": SPEAKERS[1]},
    ]
    (tmp_path / "list.jsonl").write_text("\n".join(json.dumps(item) for item in items))
    made = batch(tmp_path, "--json", name="list.jsonl")
    assert made.exit_code == 5
    assert [row["status"] for row in rows(tmp_path)] == [MADE, "error", "error", "error", MADE]
    reasons = [str(row["error"]) for row in rows(tmp_path)][1:4]
    assert [word in reason for word, reason in zip(("empty", "unknown", "absent.wav"), reasons, strict=True)] == [
        True
    ] * 3
    assert sorted(p.name for p in (tmp_path / "out").glob("*.wav")) == ["a.wav", "e.wav"]
    found = [json.loads(line) for line in made.stdout.splitlines()]
    assert sorted(row["id"] for row in found[:-1]) == ["a", "b", "c", "d", "e"]
    assert found[-1]["summary"]["made"] == 2
    assert "3 of 5 items failed" in made.stderr


def invoke(folder: Path, rows: list[dict[str, object]], output: str, *more: str) -> Result:
    (folder / "list.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    return CliRunner().invoke(app, ["batch", str(folder / "list.jsonl"), "-o", str(folder / output), *SHORT, *more])


def test_all_items_can_become_one_file_with_pauses_and_subtitles(tmp_path: Path) -> None:
    items: list[dict[str, object]] = [{"text": "one of them"}, {"text": "and two. [pause:0.3] Then three."}]
    long = ("--max-seconds", "1.2", "--temperature", "0")  # cues last at least 0.8 s: shorter speech would share one
    made = invoke(tmp_path, items, "book.flac", "--pause", "0.5", "--subtitles", str(tmp_path / "book.srt"), *long)
    assert made.exit_code == 0, made.output
    assert sorted(p.name for p in tmp_path.iterdir()) == ["book.flac", "book.srt", "list.jsonl"]
    assert made.stdout.split() == [str(tmp_path / "book.flac")]
    invoke(tmp_path, items, "apart", *long)
    parts = [soundfile.read(tmp_path / "apart" / f"0000{n}.wav")[0] for n in (1, 2)]
    sound, rate = soundfile.read(tmp_path / "book.flac")
    assert np.array_equal(sound, np.concatenate([parts[0], np.zeros(rate // 2), parts[1]]))
    subtitles = (tmp_path / "book.srt").read_text()
    assert [word in subtitles for word in ("one of them", "and two.", "Then three.")] == [True] * 3
    begins_ms = round(len(parts[0]) / rate * 1000 + 500)
    assert f"00:00:0{begins_ms // 1000},{begins_ms % 1000:03}" in subtitles


def word_rows(path: Path) -> list[dict[str, object]]:
    return list(json.loads(path.read_text())["words"])


def test_word_times_stand_beside_the_one_file(tmp_path: Path) -> None:
    items: list[dict[str, object]] = [{"text": "one of them"}, {"text": "and two"}]
    beside = [
        "--words",
        str(tmp_path / "book.json"),
        "--subtitles",
        str(tmp_path / "book.srt"),
        "--subtitles-by",
        "word",
    ]
    made = invoke(tmp_path, items, "book.wav", "--pause", "0.5", *beside, "--words-per-cue", "2")
    assert made.exit_code == 0, made.output
    words = word_rows(tmp_path / "book.json")
    assert [row["word"] for row in words] == ["one", "of", "them", "and", "two"]
    assert [row["sentence"] for row in words] == [0, 0, 0, 1, 1]
    assert float(str(words[3]["begin_s"])) - float(str(words[2]["end_s"])) > 0.49, "the pause between items"
    assert "one of\n" in (tmp_path / "book.srt").read_text()


def test_an_item_that_changes_its_voice_is_a_bad_one(tmp_path: Path) -> None:
    made = invoke(tmp_path, [{"text": "[voice:bella] one"}, {"text": "two"}], "out", "--json")
    assert made.exit_code == 5, made.output
    assert "An item has one voice" in made.stderr
    assert sorted(path.name for path in (tmp_path / "out").glob("*.wav")) == ["00002.wav"]


def test_the_word_times_of_a_folder_need_a_folder(tmp_path: Path) -> None:
    made = invoke(tmp_path, [{"text": "one"}], "out", "--words", str(tmp_path / "words.json"))
    assert made.exit_code == 2
    assert "words.json is the name of a file" in made.output
    assert [path.name for path in tmp_path.iterdir()] == ["list.jsonl"]


def test_each_item_of_a_folder_has_its_word_times(tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_text("a|one of them\nb|two\n")
    folder = tmp_path / "words"
    assert "2 items made" in batch(tmp_path).stderr
    assert "2 items made" in batch(tmp_path, "--words", str(folder)).stderr, "they were made without times"
    assert [row["word"] for row in word_rows(folder / "a.json")] == ["one", "of", "them"]
    first = (folder / "a.json").read_bytes()
    (folder / "a.json").unlink()
    assert "2 existed already" in batch(tmp_path, "--words", str(folder)).stderr
    assert (folder / "a.json").read_bytes() == first
    assert sorted(path.name for path in folder.iterdir()) == ["a.json", "b.json"]


def test_one_file_needs_every_item_and_continues_from_existing_ones(tmp_path: Path) -> None:
    items: list[dict[str, object]] = [{"id": "a", "text": "one"}, {"id": "b", "text": "..."}]
    failed = invoke(tmp_path, items, "book.wav")
    assert failed.exit_code == 5
    assert "book.wav is not written without them. Correct the list; the same command then continues." in failed.stderr
    assert not (tmp_path / "book.wav").exists()
    assert (tmp_path / "book.wav.partial" / "a.wav").exists()
    made = invoke(tmp_path, [items[0], {"id": "b", "text": "two"}], "book.wav")
    assert "1 items made, 1 existed already" in made.stderr
    assert soundfile.info(tmp_path / "book.wav").duration > 0.6
    assert not (tmp_path / "book.wav.partial").exists()


def test_say_and_batch_keep_the_unfinished_work_of_each_other(tmp_path: Path) -> None:
    items: list[dict[str, object]] = [{"id": "a", "text": "one"}, {"id": "b", "text": "..."}]
    assert invoke(tmp_path, items, "book.wav").exit_code == 5
    before = sorted(p.name for p in (tmp_path / "book.wav.partial").iterdir())
    said = CliRunner().invoke(app, ["say", "hi", "--resume", "-o", str(tmp_path / "book.wav"), *SHORT])
    assert (said.exit_code, sorted(p.name for p in (tmp_path / "book.wav.partial").iterdir())) == (2, before)

    for name in ("about.json", "notes"):
        folder = tmp_path / f"{name}.wav.partial"
        folder.mkdir()
        (folder / name).write_text("{}")
        (folder / "results.jsonl").touch() if name == "about.json" else None
        made = invoke(tmp_path, items[:1], f"{name}.wav")
        assert made.exit_code == 2, made.output
        assert f"such as {name}." in made.stderr
        assert (folder / name).read_text() == "{}"


def test_a_finished_book_removes_only_its_own_items(tmp_path: Path) -> None:
    items: list[dict[str, object]] = [{"text": "one", "output": "act1/kim"}, {"text": "..."}]
    assert invoke(tmp_path, items, "book.wav").exit_code == 5
    (tmp_path / "book.wav.partial" / "notes").write_text("mine")
    assert invoke(tmp_path, items[:1], "book.wav").exit_code == 0
    assert [p.name for p in (tmp_path / "book.wav.partial").rglob("*")] == ["notes"]


def test_the_column_output_sets_place_and_format(tmp_path: Path) -> None:
    items: list[dict[str, object]] = [
        {"text": "one", "output": "act1/kim.ogg"},
        {"text": "two", "output": "../act1/kim.ogg"},
        {"text": "three"},
    ]
    made = invoke(tmp_path, items, "out", "--format", "flac")
    assert made.exit_code == 0, made.output
    found = sorted(str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*.*") if p.is_file())
    assert found == ["00003.flac", "act1/kim-2.ogg", "act1/kim.ogg", "results.jsonl"]
    assert soundfile.info(tmp_path / "out" / "act1" / "kim.ogg").format == "OGG"
    assert "0 items made, 3 existed already" in invoke(tmp_path, items, "out", "--format", "flac").stderr


def test_a_dry_run_reports_the_plan_and_writes_nothing(tmp_path: Path) -> None:
    items: list[dict[str, object]] = [{"text": "one"}, {"text": ""}, {"text": "x", "ref": "absent.wav"}]
    made = invoke(tmp_path, items, "out", "--dry-run", "--json")
    assert made.exit_code == 5
    assert json.loads(made.stdout)["plan"] == {"all": 3, "there": 0, "failed": 2, "to_make": 1, "characters": 3}
    assert [line.split(":")[1].split(" (")[0] for line in made.stderr.splitlines()[:2]] == [" line 2", " line 3"]
    assert [p.name for p in tmp_path.iterdir()] == ["list.jsonl"]


def test_an_invalid_list_leaves_nothing(tmp_path: Path) -> None:
    for text in ("", "\n\n", "[1]\n{}\n"):
        (tmp_path / "list.jsonl").write_text(text)
        made = CliRunner().invoke(app, ["batch", str(tmp_path / "list.jsonl"), "-o", str(tmp_path / "out"), *SHORT])
        assert made.exit_code == 2, made.output
        assert [p.name for p in tmp_path.iterdir()] == ["list.jsonl"]


def test_a_list_may_come_through_a_pipe(tmp_path: Path) -> None:
    command = ["batch", "-", "-o", str(tmp_path / "out"), *SHORT]
    for text in (
        "a|one\nb|two\n",
        '{"id": "a", "text": "one"}\n{"id": "b", "text": "two"}\n',
        "id,text\na,one\nb,two\n",
    ):
        made = CliRunner().invoke(app, command, input=text)
        assert made.exit_code == 0, made.output
        assert [(row["id"], row["text"]) for row in rows(tmp_path)] == [("a", "one"), ("b", "two")]


def test_a_removed_item_is_reported_and_its_file_is_kept(tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_text("a|one\nb|two\n")
    batch(tmp_path)
    (tmp_path / "lines.txt").write_text("b|two\n")
    assert "no longer in the list: a.wav (the file is kept)" in batch(tmp_path).stderr
    assert [row["id"] for row in rows(tmp_path)] == ["b", "a"]
    (tmp_path / "out" / "a.wav").unlink()
    assert "no longer" not in batch(tmp_path).stderr


def test_the_items_of_an_audiobook_are_its_chapters(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    made = invoke(tmp_path, [{"id": "one", "text": "one"}, {"id": "two", "text": "two"}], "book.m4b")
    assert made.exit_code == 0, made.output
    with av.open(str(tmp_path / "book.m4b")) as book:
        assert [chapter["metadata"]["title"] for chapter in book.chapters()] == ["one", "two"]


def test_an_unknown_sound_format_makes_no_folder(tmp_path: Path) -> None:
    made = invoke(tmp_path, [{"text": "one"}], "book.wma")
    assert made.exit_code == 2, made.output
    assert "The format 'wma' is not supported." in made.stderr
    assert not (tmp_path / "book.wma").exists()
    (tmp_path / "old.wma").mkdir()
    assert invoke(tmp_path, [{"text": "one"}], "old.wma").exit_code == 0
    assert (tmp_path / "old.wma" / "00001.wav").exists()


def test_a_clip_is_not_replaced_by_an_item(tmp_path: Path) -> None:
    speech = np.random.default_rng(0).normal(0, 0.1, 48_000) * (np.sin(np.arange(48_000) / 2000) > -0.5)
    soundfile.write(tmp_path / "me.wav", speech, 16_000)
    before = (tmp_path / "me.wav").read_bytes()
    clip = {"ref": "me.wav", "ref_text": "some words that are said"}
    items: list[dict[str, object]] = [{"id": "me", "text": "one"}, {"id": "you", "text": "two"} | clip]
    made = invoke(tmp_path, items, ".")
    assert made.exit_code == 5, made.output
    assert "error: line 1 ('one'): It would replace the clip" in made.stderr
    assert (tmp_path / "me.wav").read_bytes() == before
    assert (tmp_path / "you.wav").exists()


def test_a_list_is_not_replaced_by_its_results(tmp_path: Path) -> None:
    (tmp_path / "results.jsonl").write_text('{"text": "one"}')
    made = CliRunner().invoke(app, ["batch", str(tmp_path / "results.jsonl"), "-o", str(tmp_path), *SHORT])
    assert made.exit_code == 2, made.output
    assert (tmp_path / "results.jsonl").read_text() == '{"text": "one"}'


def test_an_unusable_clip_of_the_flags_ends_the_run_at_once(tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_text("a|one\n")
    assert batch(tmp_path, "--ref", str(tmp_path / "absent.wav"), "--ref-text", "words").exit_code == 4


def test_rows_have_all_their_fields(tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_text("a b|one\n")
    batch(tmp_path)
    (row,) = rows(tmp_path)
    assert {"id": "a b", "path": "a b.wav", "text": "one", "line": 1, "error": None}.items() <= row.items()
    assert {"seconds", "seed", "model", "revision", "settings", "checks", "retries", "wall_s", "status", "key"} <= set(
        row
    )


def test_equal_lines_have_their_own_seeds_and_the_same_list_gives_the_same_audio(tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_text("Yes.\nYes.\n")
    batch(tmp_path)
    first = [(row["seed"], row["key"]) for row in rows(tmp_path)]
    assert first[0][0] != first[1][0], "equal texts are two takes"
    shutil.rmtree(tmp_path / "out")
    batch(tmp_path)
    assert [(row["seed"], row["key"]) for row in rows(tmp_path)] == first


@pytest.mark.parametrize(
    "more",
    [
        ["--format", "pcm"],
        ["--subtitles", "x.srt"],
        ["--subtitles-by", "word"],
        ["--words-per-cue", "2"],
        ["--words", __file__],
        ["--engine", "other"],
        ["--devices", "cuda:77"],
        ["--pause", "0.6"],
        ["--ref-text", "words"],
        ["--ref", "clip.wav", "--voice", SPEAKERS[1]],
        ["--ref", "clip.wav", "--speaker", SPEAKERS[1]],
    ],
)
def test_contradicting_flags_are_refused(tmp_path: Path, more: list[str]) -> None:
    (tmp_path / "lines.txt").write_text("one\n")
    assert batch(tmp_path, *more).exit_code == 2
    assert not (tmp_path / "out").exists()


def speech_file(path: Path) -> bytes:
    """A clip that is accepted as speech: two seconds of a modulated tone."""
    time = np.arange(32_000) / 16_000
    buzz = np.sign(np.sin(2 * np.pi * 140 * time)) * np.clip(np.sin(2 * np.pi * 4 * time) + 0.7, 0, 1)
    with path.open("wb") as file:
        soundfile.write(file, (0.2 * buzz).astype(np.float32), 16_000, format="WAV")
    return path.read_bytes()


def test_one_file_does_not_replace_a_clip_of_the_list(tmp_path: Path) -> None:
    before = speech_file(tmp_path / "me.wav")
    item = {"text": "hi", "ref": "me.wav", "ref_text": "Twenty letters or so of speech."}
    (tmp_path / "l.jsonl").write_text(json.dumps(item) + "\n")
    made = CliRunner().invoke(app, ["batch", str(tmp_path / "l.jsonl"), "-o", str(tmp_path / "me.wav"), *SHORT])
    assert made.exit_code == 2, made.output
    assert "would be overwritten" in made.stderr
    assert (tmp_path / "me.wav").read_bytes() == before


def test_a_clip_with_an_impossible_name_fails_its_own_item_only(tmp_path: Path) -> None:
    """For example if the transcript is in the column of the clips."""
    items = [{"id": "a", "text": "one", "ref": "what is said " * 40, "ref_text": "x"}, {"id": "b", "text": "two"}]
    (tmp_path / "l.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    made = batch(tmp_path, name="l.jsonl")
    assert made.exit_code == 5, made.output
    assert "1 items made" in made.stderr
    assert "line 1" in made.stderr


@pytest.mark.parametrize("output", [("deep" * 30 + "/") * 40 + "x", "in_the_way", "there.wav/deeper"])
def test_an_output_that_can_not_be_written_fails_its_own_item_only(tmp_path: Path, output: str) -> None:
    (tmp_path / "out" / "in_the_way.wav").mkdir(parents=True)
    items = [{"text": "one", "output": output}, {"text": "two", "output": "there"}, {"text": "three", "output": "c"}]
    (tmp_path / "l.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    made = batch(tmp_path, name="l.jsonl")
    assert made.exit_code == 5, made.output
    status = [row["status"] for row in rows(tmp_path)]
    assert sorted(status) == ["error", MADE, MADE]
    assert (tmp_path / "out" / "c.wav").is_file()
    assert not list((tmp_path / "out").rglob("*.part"))


@pytest.mark.skipif(os.name != "posix", reason="names are Unicode there")
def test_names_need_not_be_utf_8(tmp_path: Path) -> None:
    odd = tmp_path / os.fsdecode(b"caf\xe9")
    odd.mkdir()
    speech_file(odd / os.fsdecode(b"m\xe9.wav"))
    (odd / "lines.txt").write_text("one\n")
    clip = ["--ref", str(odd / os.fsdecode(b"m\xe9.wav")), "--ref-text", "Twenty letters or so of speech."]
    made = batch(odd, *clip)
    assert made.exit_code == 0, made.output
    assert made.stdout_bytes.strip() == os.fsencode(odd / "out" / "00001.wav")
    found = batch(odd, *clip, "--json", "--seed", "9")
    assert json.loads(found.stdout_bytes.splitlines()[0])["text"] == "one"


def test_removing_a_line_of_a_plain_list_keeps_the_files_of_the_others(tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_text("one\ntwo\nthree\n")
    batch(tmp_path)
    files = {path.name: path.read_bytes() for path in (tmp_path / "out").glob("*.wav")}
    (tmp_path / "lines.txt").write_text("two\nthree\n")
    made = batch(tmp_path)
    assert "0 items made, 2 existed already" in made.stderr
    assert "2 items keep the file names of the earlier run" in made.stderr
    assert "no longer in the list: 00001.wav (the file is kept)" in made.stderr
    assert [(row["line"], row["path"]) for row in rows(tmp_path)][:2] == [(1, "00002.wav"), (2, "00003.wav")]
    (tmp_path / "lines.txt").write_text("zero\none\ntwo\nfour\n")
    assert "2 items made, 2 existed already" in batch(tmp_path).stderr
    assert {name: (tmp_path / "out" / name).read_bytes() for name in ("00001.wav", "00002.wav")} == {
        name: files[name] for name in ("00001.wav", "00002.wav")
    }
    paths = [row["path"] for row in rows(tmp_path)]
    assert len(paths) == len(set(paths))


def test_a_changed_line_of_a_plain_list_keeps_its_file_name(tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_text("one\ntwo\nthree\n")
    batch(tmp_path)
    (tmp_path / "lines.txt").write_text("one\nanother\nthree\n")
    assert "1 items made, 2 existed already" in batch(tmp_path).stderr
    assert [row["path"] for row in rows(tmp_path)] == ["00001.wav", "00002.wav", "00003.wav"]


def test_two_items_with_one_id_are_reported(tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_text("a|one\nb|two\na|three\n")
    made = batch(tmp_path)
    assert "warning: line 3: a.wav is the file of line 1; this item is written to a-2.wav" in made.stderr


def test_speech_that_fails_its_checks_is_kept_and_marked_and_exits_with_5(tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_text("a|a rather long sentence for so short a limit\n")
    command = ["batch", str(tmp_path / "lines.txt"), "-o", str(tmp_path / "out"), *SHORT[:-1], "--json"]
    for made_now in (1, 0):  # a second run finds the same file with the same mark
        made = CliRunner().invoke(app, command)
        assert made.exit_code == 5, made.output
        assert "1 of 1 items still fail their checks" in made.stderr
        (row,) = rows(tmp_path)
        assert (row["status"], row["path"], row["error"]) == ("failed_checks", "a.wav", None)
        assert row["checks"]
        assert (tmp_path / "out" / "a.wav").exists()
        summary = json.loads(made.stdout.splitlines()[-1])["summary"]
        assert (summary["made"], summary["failed"], summary["failed_checks"]) == (made_now, 0, 1)
    assert CliRunner().invoke(app, [*command, "--accept-failed"]).exit_code == 0


def test_a_book_with_failed_checks_is_written_and_exits_with_5(tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_text("a rather long sentence for so short a limit\n")
    command = ["batch", str(tmp_path / "lines.txt"), "-o", str(tmp_path / "book.wav"), *SHORT[:-1]]
    made = CliRunner().invoke(app, command)
    assert made.exit_code == 5, made.output
    assert f"{tmp_path / 'book.wav'} is written with them" in made.stderr
    assert (tmp_path / "book.wav").exists()
    assert CliRunner().invoke(app, [*command, "--accept-failed"]).exit_code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["book.wav", "lines.txt"]


def test_strange_rows_are_ignored(tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_text("one\n")
    batch(tmp_path)
    kept = (tmp_path / "out" / "results.jsonl").read_text()
    strange = {**json.loads(kept), "batch": "many"}
    more = ["[" * 100_000, '{"path": "\\ud800", "key": "\\ud800"}', json.dumps(strange), '{"path": 3}']
    (tmp_path / "out" / "results.jsonl").write_text(kept + "\n".join(more) + "\n")
    made = batch(tmp_path)
    assert made.exit_code == 0, made.output
    assert "0 items made, 1 existed already" in made.stderr


def test_a_batch_is_not_written_to_standard_output(tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_text("one\n")
    made = CliRunner().invoke(app, ["batch", str(tmp_path / "lines.txt"), "-o", "-", *SHORT])
    assert made.exit_code == 2, made.output


def test_a_dry_run_leaves_no_folder_behind(tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_text("one\n")
    deep = tmp_path / "new" / "deep" / "out"
    made = CliRunner().invoke(app, ["batch", str(tmp_path / "lines.txt"), "-o", str(deep), "--dry-run", *SHORT])
    assert made.exit_code == 0, made.output
    assert not (tmp_path / "new").exists()


def test_the_models_style_fields_are_a_flag_and_columns(
    random_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tmp_path / "styled"
    shutil.copytree(random_checkpoint, model)
    known = json.loads((model / "llasa.json").read_text())
    (model / "llasa.json").write_text(json.dumps(known | {"style": ["mood", "speed"]}))
    monkeypatch.setenv("LLASA_MODEL", str(model))
    (tmp_path / "list.csv").write_text("id,text,mood,style_speed\na,one,calm,\nb,one,angry,\nc,one,,fast\n")
    made = batch(tmp_path, "--seed", "4", "--style", "speed=slow", name="list.csv")
    assert made.exit_code == 0, made.output
    assert "is unknown" not in made.stderr
    assert len({(tmp_path / "out" / f"{name}.wav").read_bytes() for name in "abc"}) == 3, "three prompts"
    (tmp_path / "list.csv").write_text("id,text,mood,style_speed\na,one,calm,\nb,one,glad,\nc,one,,fast\n")
    assert (
        "1 items made, 2 existed already"
        in batch(tmp_path, "--seed", "4", "--style", "speed=slow", name="list.csv").stderr
    )
    assert "3 items made" in batch(tmp_path, "--seed", "4", "--style", "speed=fast", name="list.csv").stderr
    refused = batch(tmp_path, "--style", "tempo=1", name="list.csv")
    assert refused.exit_code == 2
    assert "Its fields: mood, speed." in refused.output
    monkeypatch.setenv("LLASA_MODEL", str(random_checkpoint))
    assert "'mood' is unknown and ignored" in batch(tmp_path, name="list.csv").stderr
