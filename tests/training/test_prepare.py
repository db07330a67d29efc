from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile

from llasa_cli.codec.codec import Codec, load_codec
from llasa_cli.errors import UsageError
from llasa_cli.prompt import PromptFormat
from llasa_cli.settings import CONTEXT_TOKENS
from llasa_cli.training.options import PrepareOptions
from llasa_cli.training.prepare import prepare


@pytest.fixture(scope="module")
def codec(random_codec: Path) -> Codec:
    return load_codec(random_codec, "cpu")


def sound(seconds: float, seed: int, rate: int = 16_000) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(int(seconds * rate))).astype(np.float32)


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """Ten clips, a table that names them, and rows that can't be used."""
    folder = tmp_path / "data"
    folder.mkdir()
    lines = ["audio,text,speaker"]
    for number in range(10):
        soundfile.write(folder / f"{number}.wav", sound(0.5 + 0.1 * (number % 3), number), 16_000)
        lines.append(f'{number}.wav,"hello, number {number}",{"heart" if number % 2 else "bella"}')
    (folder / "broken.wav").write_bytes(b"RIFF nothing")
    soundfile.write(folder / "silent.wav", np.zeros(16_000), 16_000)
    soundfile.write(folder / "short.wav", sound(0.03, 1), 16_000)
    soundfile.write(folder / "long.flac", sound(45, 1), 16_000)
    soundfile.write(folder / "brief.wav", sound(0.1, 1), 16_000)
    lines += [
        "broken.wav,hello,heart",
        "absent.wav,hello,heart",
        "silent.wav,hello,heart",
        "short.wav,hello,heart",
        "long.flac,hello,heart",
        "brief.wav,this is more than anyone can say in a tenth of a second,heart",
        "1.wav,,heart",
        ",hello,heart",
    ]
    (folder / "table.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def read_split(folder: Path, split: str) -> np.ndarray:
    """Read a split as the published training scripts do."""
    shape = tuple(np.load(folder / f"{split}_input_ids_shape.npy"))
    return np.memmap(folder / f"{split}_input_ids.memmap", dtype="int32", mode="r", shape=shape)


def test_files_have_the_published_form(
    recordings: Path, tmp_path: Path, prompt_format: PromptFormat, codec: Codec
) -> None:
    out = tmp_path / "out"
    prepare(PrepareOptions((recordings / "table.csv",), out, validation=2), prompt_format, codec, "tokenizer")
    train, val = read_split(out, "train"), read_split(out, "val")
    assert train.shape == (8, CONTEXT_TOKENS)
    assert val.shape == (2, CONTEXT_TOKENS)
    assert (out / "train_input_ids.memmap").stat().st_size == 8 * CONTEXT_TOKENS * 4
    expected = []
    for number in range(10):
        codes = codec.encode(soundfile.read(recordings / f"{number}.wav", dtype="float32")[0])
        row = prompt_format.encode_row(f"hello, number {number}", codes)
        expected.append([*row, *[prompt_format.pad_id] * (CONTEXT_TOKENS - len(row))])
    found = [*train.tolist(), *val.tolist()]
    assert sorted(found) == sorted(expected)
    speakers = (out / "train_speakers.txt").read_text().splitlines()
    assert len(speakers) == 8
    for ids, speaker in zip(train.tolist(), speakers, strict=True):
        assert speaker == ("heart" if expected.index(ids) % 2 else "bella")


def test_every_bad_row_is_reported_with_its_reason(
    recordings: Path, tmp_path: Path, prompt_format: PromptFormat, codec: Codec
) -> None:
    out = tmp_path / "out"
    prepare(PrepareOptions((recordings / "table.csv",), out), prompt_format, codec, "tokenizer")
    index = json.loads((out / "index.json").read_text())
    reasons = {Path(row["row"]).name: row["reason"] for row in index["skipped"]["rows"]}
    assert reasons == {
        "table.csv:12": "audio can't be read",
        "table.csv:13": "no such audio file",
        "table.csv:14": "silent",
        "table.csv:15": "shorter than 40 ms",
        "table.csv:16": "too long: over 2048 tokens",
        "table.csv:17": "text too long for its audio",
        "table.csv:18": "no text",
        "table.csv:19": "no audio file given",
    }
    assert sum(index["skipped"]["reasons"].values()) == 8
    assert index["splits"]["train"]["rows"] + index["splits"]["val"]["rows"] == 10
    assert index["codec"] == codec.identity


class Interrupted(Exception):
    pass


class StoppingCodec:
    """Fails after some batches, as a killed process does, and counts the clips that it encoded."""

    def __init__(self, codec: Codec, batches: int) -> None:
        self._codec, self._batches, self.clips = codec, batches, 0
        self.identity, self.code_count = codec.identity, codec.code_count

    def encode_batch(self, clips: Sequence[np.ndarray]) -> list[list[int]]:
        if self._batches == 0:
            raise Interrupted
        self._batches -= 1
        self.clips += len(clips)
        return self._codec.encode_batch(clips)


def test_an_interrupted_run_resumes_to_the_same_files(
    recordings: Path, tmp_path: Path, prompt_format: PromptFormat, codec: Codec
) -> None:
    once, twice = tmp_path / "once", tmp_path / "twice"
    options = PrepareOptions((recordings / "table.csv",), once, validation=3)
    prepare(options, prompt_format, codec, "t")
    again = PrepareOptions(options.sources, twice, validation=3)
    with pytest.raises(Interrupted):
        prepare(again, prompt_format, StoppingCodec(codec, 2), "t")  # type: ignore[arg-type]
    lines = next(twice.glob("codes-*.jsonl"))
    kept = len(lines.read_text().splitlines())
    assert 0 < kept < 10
    # A kill in the middle of a write leaves codes without a line, and half a line.
    with next(twice.glob("codes-*.bin")).open("ab") as file:
        file.write(b"\x01\x02\x03")
    with lines.open("a") as file:
        file.write('["abc", 12')
    second = StoppingCodec(codec, 100)
    prepare(again, prompt_format, second, "t")  # type: ignore[arg-type]
    assert second.clips == 10 - kept
    for name in ("train_input_ids.memmap", "val_input_ids.memmap", "train_speakers.txt", "index.json"):
        assert (once / name).read_bytes() == (twice / name).read_bytes(), name


def test_a_changed_recording_is_encoded_again(
    recordings: Path, tmp_path: Path, prompt_format: PromptFormat, codec: Codec
) -> None:
    options = PrepareOptions((recordings / "table.csv",), tmp_path / "out", validation=0)
    prepare(options, prompt_format, codec, "t")
    before = read_split(options.output, "train")[3].copy()
    soundfile.write(recordings / "3.wav", sound(0.9, 77), 16_000)
    prepare(options, prompt_format, codec, "t")
    assert read_split(options.output, "train")[3].tolist() != before.tolist()


def test_a_folder_of_audio_and_text_files_is_read(
    recordings: Path, tmp_path: Path, prompt_format: PromptFormat, codec: Codec
) -> None:
    folder = tmp_path / "pairs" / "deep"
    folder.mkdir(parents=True)
    soundfile.write(folder / "a.flac", np.stack([sound(0.5, 1, 44_100), sound(0.5, 2, 44_100)], axis=1), 44_100)
    (folder / "a.txt").write_text("two\nchannels \n", encoding="utf-8")
    shutil.copy(recordings / "1.wav", folder / "b.wav")
    out = tmp_path / "out"
    index = prepare(PrepareOptions((folder.parent,), out, "heart", validation=0), prompt_format, codec, "t")
    rows = read_split(out, "train")
    assert len(rows) == 1
    text, codes = prompt_format.decode_row(rows[0].tolist())
    assert text == prompt_format.text_ids("two channels")
    assert len(codes) == 25
    assert index["skipped"]["reasons"] == {"no text file of the same name": 1}
    assert (out / "train_speakers.txt").read_text() == "heart\n"
    assert not (out / "val_input_ids.memmap").exists()


def test_ljspeech_form_is_read(recordings: Path, tmp_path: Path, prompt_format: PromptFormat, codec: Codec) -> None:
    folder = tmp_path / "lj"
    (folder / "wavs").mkdir(parents=True)
    for number in range(2):
        shutil.copy(recordings / f"{number}.wav", folder / "wavs" / f"LJ{number}.wav")
    (folder / "metadata.csv").write_text('LJ0|"so, he said|so he said\nLJ1|yes\nno bar\n', encoding="utf-8")
    index = prepare(PrepareOptions((folder,), tmp_path / "out", validation=0), prompt_format, codec, "t")
    texts = [prompt_format.decode_row(row)[0] for row in read_split(tmp_path / "out", "train").tolist()]
    assert texts == [prompt_format.text_ids("so he said"), prompt_format.text_ids("yes")]
    assert index["skipped"]["reasons"] == {"not in the form id|text": 1}


def test_several_sources_make_one_set(
    recordings: Path, tmp_path: Path, prompt_format: PromptFormat, codec: Codec
) -> None:
    tables = []
    for number in range(2):
        table = recordings / f"part{number}.csv"
        table.write_text(f"audio\ttext\n{number}.wav\tone\n{number + 2}.wav\ttwo\n", encoding="utf-8")
        tables.append(table)
    index = prepare(PrepareOptions(tuple(tables), tmp_path / "out", validation=0), prompt_format, codec, "t")
    assert index["splits"]["train"]["rows"] == 4


def test_data_without_a_usable_row_is_a_usage_error(tmp_path: Path, prompt_format: PromptFormat, codec: Codec) -> None:
    (tmp_path / "table.csv").write_text("audio,text\nnothing.wav,hello\n", encoding="utf-8")
    with pytest.raises(UsageError, match="No row could be used: no such audio file"):
        prepare(PrepareOptions((tmp_path / "table.csv",), tmp_path / "out"), prompt_format, codec, "t")
    (tmp_path / "other.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    with pytest.raises(UsageError, match="does not name the columns audio and text"):
        prepare(PrepareOptions((tmp_path / "other.csv",), tmp_path / "out"), prompt_format, codec, "t")


def test_a_text_that_spells_a_marker_stays_text(
    recordings: Path, tmp_path: Path, prompt_format: PromptFormat, codec: Codec
) -> None:
    table = recordings / "odd.csv"
    table.write_text("audio,text\n1.wav,<|SPEECH_GENERATION_END|>\n", encoding="utf-8")
    prepare(PrepareOptions((table,), tmp_path / "out", validation=0), prompt_format, codec, "t")
    row = read_split(tmp_path / "out", "train")[0].tolist()
    assert row.count(prompt_format.end_id) == 1
    assert len(prompt_format.decode_row(row)[1]) == 30


def test_transcripts_are_normalized_as_say_normalizes_its_text(
    recordings: Path, spelling_folder: Path, codec: Codec
) -> None:
    from llasa_cli.training.online_dataset import OnlineDataset

    table = recordings / "spelt.csv"
    table.write_text("audio,text\n1.wav,3 & 5%\n", encoding="utf-8")
    spelling = PromptFormat.load(spelling_folder)
    prepare(PrepareOptions((table,), recordings / "out", validation=0), spelling, codec, "t")
    words = spelling.text_ids("three and five percent")
    assert spelling.decode_row(read_split(recordings / "out", "train")[0].tolist())[0] == words
    rows = OnlineDataset.read((table,), spelling, codec, CONTEXT_TOKENS)
    assert rows.decode(0)[0] == words
    assert rows.lengths[0] == len(rows[0]["input_ids"])


@pytest.mark.parametrize(("spells", "unread"), [(False, "3 boats"), (True, "Лодки boats")])
def test_rows_with_letters_that_the_model_does_not_read_are_skipped(
    recordings: Path, spelling_folder: Path, codec: Codec, spells: bool, unread: str
) -> None:
    """Without normalization they are unknown tokens; with it they would be missing from the text, but not from the sound."""
    from llasa_cli.training.online_dataset import OnlineDataset

    if not spells:
        (spelling_folder / "llasa.json").unlink()
    table = recordings / "odd.csv"
    table.write_text(f"audio,text\n1.wav,{unread}\n2.wav,boats\n", encoding="utf-8")
    plain = PromptFormat.load(spelling_folder)
    index = prepare(PrepareOptions((table,), recordings / "out", validation=0), plain, codec, "t")
    wanted = {"characters that the model can't read": 1}
    assert index["skipped"]["reasons"] == wanted
    assert OnlineDataset.read((table,), plain, codec, CONTEXT_TOKENS).skipped == wanted


def test_a_model_of_another_codec_is_refused(
    recordings: Path, tmp_path: Path, prompt_format: PromptFormat, codec: Codec
) -> None:
    prompt_format.code_count = 4096
    with pytest.raises(UsageError, match="4096 speech codes, the codec 64"):
        prepare(PrepareOptions((recordings / "table.csv",), tmp_path / "out"), prompt_format, codec, "t")
