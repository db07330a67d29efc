"""Sources of many kinds: tables, folders, datasets, codes made elsewhere; and the problems in them."""

from __future__ import annotations

import io
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from llasa_cli.errors import UsageError
from llasa_cli.prompt import PromptFormat
from llasa_cli.training.options import PrepareOptions
from llasa_cli.training.prepare import prepare
from llasa_cli.training.recordings import read_codes, read_header, read_samples
from llasa_cli.training.rows import Columns, DatasetAudio, Problem, Row, Unusable
from llasa_cli.training.sources import read_rows

CODES = 64


def rows_of(source: Path, **options: Any) -> list[Row | Problem]:
    return list(read_rows(source, **options))


def texts_of(source: Path, **options: Any) -> list[str]:
    return [row.text if isinstance(row, Row) else f"! {row.reason}" for row in rows_of(source, **options)]


def write_sound(path: Path, seconds: float = 0.5, rate: int = 16_000, channels: int = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = 0.1 * np.random.default_rng(len(path.name)).standard_normal((round(seconds * rate), channels))
    soundfile.write(path, noise, rate)
    return path


# --- tables ---


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("comma.csv", 'audio,text\na.wav,"one, two"\nb.wav,three\n'),
        ("quoted_names.csv", '"audio","text"\n"a.wav","one, two"\n"b.wav","three"\n'),
        ("other_order.csv", 'text,note,audio\n"one, two",x,a.wav\nthree,,b.wav\n'),
        ("capitals.csv", 'Audio,Text\na.wav,"one, two"\nb.wav,three\n'),
        ("semicolon.csv", "audio;text\na.wav;one, two\nb.wav;three\n"),
        ("old_windows.csv", 'audio,text\r\na.wav,"one, two"\r\nb.wav,three\r\n'),
        ("lines_within.csv", 'audio,text\na.wav,"one,\n two"\nb.wav,three\n'),
        ("blank_lines.csv", '\ufeffaudio,text\n\na.wav,"one, two"\n,\nb.wav,three\n\n'),
        ("tabs.tsv", "audio\ttext\na.wav\tone, two\nb.wav\tthree\n"),
        ("common_voice.tsv", "client_id\tpath\tsentence\nx\ta.wav\tone, two\ny\tb.wav\tthree\n"),
        ("bars.txt", "audio|text\na.wav|one, two\nb.wav|three\n"),
        ("ids.csv", 'id,text\na,"one, two"\nb,three\n'),
        ("ljspeech.csv", "a|one, two\nb|three\n"),
        ("excel.csv", "sep=;\naudio;text\na.wav;one, two\nb.wav;three\n"),
        ("spaces.csv", 'audio, text\na.wav, "one, two"\nb.wav, three\n'),
        ("speaker_last.txt", "a.wav|one, two|5\nb.wav|three|5\n"),
        ("ljspeech_normalised.csv", "a|1, 2|one, two\nb|3|three\n"),
        ("lines.jsonl", '{"audio": "a.wav", "text": "one, two"}\n\n{"text": "three", "audio": "b.wav"}\n'),
        ("ids.jsonl", '{"id": "a", "text": "one, two"}\n{"id": "b", "text": "three"}\n'),
        ("nemo.json", '{"audio_filepath": "a.wav", "duration": 1, "text": "one, two"}\n{"audio_filepath": "b.wav", "text": "three"}\n'),
    ],
    ids=lambda value: value if "\n" not in value else "",
)  # fmt: skip
def test_tables_of_every_kind_give_the_same_rows(tmp_path: Path, name: str, content: str) -> None:
    for clip in "ab":
        write_sound(tmp_path / f"{clip}.wav")
    (tmp_path / name).write_text(content, encoding="utf-8", newline="")
    assert texts_of(tmp_path / name) == ["one, two", "three"]
    rows = rows_of(tmp_path / name)
    assert [row.audio for row in rows if isinstance(row, Row)] == [tmp_path / "a.wav", tmp_path / "b.wav"]


@pytest.mark.parametrize("line", ["{}.wav|{}|ann", "{}.wav|ann|{}"])
def test_a_file_list_with_bars_may_name_speakers(tmp_path: Path, line: str) -> None:
    texts = ["Good evening.", "Yes.", "How are you?"]
    (tmp_path / "train.txt").write_text("\n".join(line.format(*pair) for pair in zip("abc", texts, strict=True)))
    rows = [row for row in rows_of(tmp_path / "train.txt") if isinstance(row, Row)]
    assert [(row.text, row.speaker) for row in rows] == [(text, "ann") for text in texts]


def test_recordings_of_phones_and_of_a_stopped_recorder_are_read(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "a.m4a"), "w") as container:
        stream = container.add_stream("aac", rate=16_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.full((1, 16_000), 0.1, np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16_000
        resampler = av.AudioResampler(stream.format, "mono", 16_000, stream.frame_size)
        for part in [*resampler.resample(frame), *resampler.resample(None), None]:
            container.mux(stream.encode(part))
    whole = write_sound(tmp_path / "b.wav", 1.0).read_bytes()
    (tmp_path / "b.wav").write_bytes(whole[:40] + bytes(4) + whole[44:])
    for name in ("a.txt", "b.TXT"):
        (tmp_path / name).write_text("a text")
    rows = [row for row in rows_of(tmp_path) if isinstance(row, Row)]
    assert [row.audio.name for row in rows if isinstance(row.audio, Path)] == ["a.m4a", "b.wav"]
    for row in rows:
        assert read_header(row.audio, Columns()).samples == pytest.approx(16_000, abs=2_100)


def test_utf_16_of_a_spreadsheet_is_read(tmp_path: Path) -> None:
    (tmp_path / "table.txt").write_text("audio\ttext\na.wav\täöü\n", encoding="utf-16")
    assert texts_of(tmp_path / "table.txt") == ["äöü"]


def test_a_line_in_another_encoding_is_skipped_alone(tmp_path: Path) -> None:
    for name, line in (("t.csv", b"%s.wav,%s\n"), ("t.jsonl", b'{"audio": "%s.wav", "text": "%s"}\n')):
        head = b"audio,text\n" if name.endswith("csv") else b""
        texts = ("café".encode(), "café".encode("latin-1"), b"tea")
        (tmp_path / name).write_bytes(head + b"".join(line % (b"abc"[i : i + 1], text) for i, text in enumerate(texts)))
        assert texts_of(tmp_path / name) == ["café", "! not UTF-8", "tea"], name
    (tmp_path / "lj.csv").write_bytes(b"a|caf\xe9\nb|tea\n")
    assert texts_of(tmp_path / "lj.csv") == ["! not UTF-8", "tea"]


def test_a_problem_names_the_line_and_the_reason(tmp_path: Path) -> None:
    lines = ['{"text": "one", "audio": "a.wav"}', "{broken", '["a list"]', '{"text": "no audio"}', '{"audio": "a.wav"}',
             '{"text": null, "audio": "a.wav"}', '{"text": 7, "audio": "a.wav"}', '{"text": "x", "codes": [1, "b"]}']  # fmt: skip
    (tmp_path / "t.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert texts_of(tmp_path / "t.jsonl") == [
        "one", "! not JSON", "! not a JSON object", "! no audio file given", "! no text", "! no text", "7",
        "! codes are not whole numbers",
    ]  # fmt: skip


def test_a_quotation_mark_that_is_not_closed_is_reported(tmp_path: Path) -> None:
    lines = ["audio,text", "a.wav,fine", 'b.wav,"open', *(f"{number}.wav,text" for number in range(100))]
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert texts_of(tmp_path / "t.csv") == ["fine", "! a quotation mark is not closed"]
    # In tab-separated text a quotation mark belongs to the text, unless it encloses the whole cell.
    (tmp_path / "t.tsv").write_text(
        'audio\ttext\na.wav\t"open\nb.wav\t"a ""b"" c"\nc.wav\t"a" and "b"\n', encoding="utf-8"
    )
    assert texts_of(tmp_path / "t.tsv") == ['"open', 'a "b" c', '"a" and "b"']


def test_columns_can_be_named(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("text,raw,clip,who\nx,spoken,a.wav,kore\n", encoding="utf-8")
    columns = Columns(text="raw", audio="clip", speaker="who")
    (row,) = rows_of(tmp_path / "t.csv", columns=columns)
    assert isinstance(row, Row)
    assert (row.text, row.speaker, row.audio) == ("spoken", "kore", tmp_path / "a.wav")
    with pytest.raises(UsageError, match="does not name the columns"):
        rows_of(tmp_path / "t.csv", columns=Columns(text="absent"))


def test_missing_columns_and_splits_are_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("id,audio,text\n1,a.wav,hello\n")
    for wrong in ({"speaker": "singer"}, {"audio": "sound"}):
        with pytest.raises(UsageError, match="has no column") as caught:
            rows_of(tmp_path / "t.csv", columns=Columns(**wrong))
        assert "id, audio, text" in caught.value.hint
    with pytest.raises(UsageError, match="--split chooses from datasets"):
        prepare(PrepareOptions((tmp_path / "t.csv",), tmp_path / "out", splits=("train",)), None, None, "f")  # type: ignore[arg-type]


def test_a_mistyped_path_is_not_searched_on_the_hub(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"organization/name does not exist.") as caught:
        rows_of(Path("organization/name"))
    assert "hf:organization/name" in caught.value.hint


# --- folders ---


def test_a_folder_is_read_in_order_with_what_else_lies_in_it(tmp_path: Path) -> None:
    write_sound(tmp_path / "b.wav")
    write_sound(tmp_path / "deep" / "c.flac")
    write_sound(tmp_path / "a.wav")
    write_sound(tmp_path / "alone.wav")
    for name, text in (("a.txt", "one"), ("b.normalized.txt", "two"), ("deep/c.lab", "three"), ("bad.txt", "x")):
        (tmp_path / name).write_text(text)
    write_sound(tmp_path / "bad.wav")
    (tmp_path / "bad.txt").write_bytes(b"\xff\xfe\xfa")
    (tmp_path / "._a.wav").write_bytes(b"what a Macintosh leaves")
    (tmp_path / "deep" / "round").symlink_to(tmp_path)
    (tmp_path / "a.npy").write_bytes(b"features of another program")
    assert texts_of(tmp_path) == ["one", "! no text file of the same name", "two", "! not UTF-8", "three"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("metadata.txt", "a|one\nb|two\n"),
        ("metadata.txt", "audio\ttext\na.wav\tone\nb.wav\ttwo\n"),
        ("metadata.csv", "a|one|one\nb|2|two\n"),
        ("transcripts.tsv", "path\tsentence\na.wav\tone\nb.wav\ttwo\n"),
        ("manifest.json", '{"audio_filepath": "a.wav", "text": "one"}\n{"audio_filepath": "b.wav", "text": "two"}\n'),
        ("filelist.list", "a.wav|one\nb.wav|two\n"),
    ],
)
def test_a_table_in_a_folder_of_clips_is_found_by_its_name(tmp_path: Path, name: str, content: str) -> None:
    for clip in "ab":
        write_sound(tmp_path / "wavs" / f"{clip}.wav")
    (tmp_path / name).write_text(content, encoding="utf-8")
    assert texts_of(tmp_path) == ["one", "two"]
    assert [row.audio for row in rows_of(tmp_path) if isinstance(row, Row)] == [
        tmp_path / "wavs" / "a.wav",
        tmp_path / "wavs" / "b.wav",
    ]


@pytest.mark.parametrize(
    ("name", "content"),
    [("metadata.txt", "Recorded in May.\n"), ("manifest.json", '{"version": 2}\n'), ("transcript.txt", "one | two\n")],
)
def test_other_files_of_such_a_name_are_no_tables(tmp_path: Path, name: str, content: str) -> None:
    """A text file beside a clip of its name is that clip's transcript."""
    write_sound(tmp_path / "transcript.wav")
    (tmp_path / "transcript.txt").write_text("one")
    (tmp_path / name).write_text(content, encoding="utf-8")
    assert texts_of(tmp_path) == ["one | two" if name == "transcript.txt" else "one"]


def test_a_folder_of_codes_needs_no_audio(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(30))
    np.save(tmp_path / "b.wav.npy", np.arange(40))
    for name in "ab":
        (tmp_path / f"{name}.txt").write_text(name)
    rows = rows_of(tmp_path)
    assert [(row.text, row.codes, row.audio) for row in rows if isinstance(row, Row)] == [
        ("a", tmp_path / "a.npy", None),
        ("b", tmp_path / "b.wav.npy", None),
    ]


def test_file_names_that_are_not_text_are_read(tmp_path: Path, tokenizer_folder: Path) -> None:
    """Linux allows any bytes in a file name."""
    data = tmp_path / "data"
    data.mkdir()
    odd = data / os.fsdecode(b"caf\xe9")
    try:
        np.save(odd.with_suffix(".npy"), np.arange(30))
    except OSError:
        pytest.skip("this file system wants text")
    odd.with_suffix(".txt").write_text("one")
    sound = write_sound(tmp_path / "b.wav").rename(tmp_path / (odd.name + "2.wav"))
    assert read_header(sound, Columns()).samples == 8_000
    index = prepare(
        PrepareOptions((data,), tmp_path / "out", validation=0), PromptFormat.load(tokenizer_folder), None, "t"
    )
    assert index["splits"]["train"]["rows"] == 1


def test_a_flac_of_unknown_length_is_reported_as_such(tmp_path: Path) -> None:
    """The header gives no number of samples, and libsndfile then returns 9,223,372,036,854,775,807."""
    path = write_sound(tmp_path / "a.flac", 1)
    data = bytearray(path.read_bytes())
    data[21] &= 0xF0  # the 36 bits of the number
    data[22:26] = bytes(4)
    path.write_bytes(data)
    with pytest.raises(Unusable, match="the file does not say how long it is"):
        read_header(path, Columns())


# --- codes made elsewhere ---


@pytest.mark.parametrize("shape", [(5,), (1, 5), (1, 1, 5)])
@pytest.mark.parametrize("kind", ["int64", "int32", "uint16", ">i4"])
def test_codes_of_any_integer_type_are_read(tmp_path: Path, shape: tuple[int, ...], kind: str) -> None:
    np.save(tmp_path / "c.npy", np.array([3, 0, 63, 7, 7]).astype(kind).reshape(shape))
    assert read_codes(tmp_path / "c.npy", CODES).tolist() == [3, 0, 63, 7, 7]


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.array([0, 64]), "codes outside the model's range of 0 to 63"),
        (np.array([-1, 3]), "codes outside the model's range of 0 to 63"),
        (np.array([0.0, 1.0]), "codes are not whole numbers"),
        (np.zeros((2, 3), int), "codes are not one-dimensional"),
        (np.zeros(0, int), "empty codes"),
        (np.array([[1], None], object), "codes can't be read"),
        (b"\x93NUMPY\x01\x00v\x00{'descr': '<i8', 'fortran_order': False, 'shape': (99,), }", "codes can't be read"),
        (b"PK\x03\x04 an archive", "codes can't be read"),
        (b"", "codes can't be read"),
        (None, "no such codes file"),
    ],
    ids=["too high", "negative", "float", "table", "empty", "objects", "cut", "archive", "nothing", "missing"],
)
def test_unusable_codes_have_a_reason(tmp_path: Path, array: Any, reason: str) -> None:
    path = tmp_path / "c.npy"
    if isinstance(array, bytes):
        path.write_bytes(array)
    elif array is not None:
        np.save(path, array, allow_pickle=True)
    with pytest.raises(Unusable, match=reason):
        read_codes(path, CODES)


def test_codes_are_found_by_the_names_that_published_scripts_give(tmp_path: Path, tokenizer_folder: Path) -> None:
    """`id.wav.npy` from LLaSA_training's get_memmap_from_token.py, `folder/id.npy` from X-Codec-2.0's inference_save_code.py."""
    prompt_format = PromptFormat.load(tokenizer_folder)
    codes = tmp_path / "vq_codes"
    for name in ("LJ1.wav.npy", "LJ2.npy", "book/LJ3.npy"):
        (codes / name).parent.mkdir(parents=True, exist_ok=True)
        np.save(codes / name, np.arange(int(name.strip("bok/LJ")[0]), 30, dtype=np.int32))
    (tmp_path / "metadata.csv").write_text("LJ1|one|one\nLJ2|two|two\nbook/LJ3|three|three\nLJ4|four|four\n")
    out = tmp_path / "out"
    options = PrepareOptions((tmp_path / "metadata.csv",), out, codes=codes, validation=0)
    index = prepare(options, prompt_format, None, "t")
    shape = tuple(np.load(out / "train_input_ids_shape.npy"))
    table = np.memmap(out / "train_input_ids.memmap", np.int32, "r", shape=shape)
    assert [prompt_format.decode_row(row.tolist()) for row in table] == [
        (prompt_format.text_ids(text), list(range(first, 30))) for first, text in ((1, "one"), (2, "two"), (3, "three"))
    ]
    assert index["skipped"]["reasons"] == {"no such codes file": 1}
    assert index["codec"] is None


def test_codes_in_json_lines_are_read(tmp_path: Path, tokenizer_folder: Path) -> None:
    prompt_format = PromptFormat.load(tokenizer_folder)
    rows = [{"text": "one", "codes": list(range(20))}, {"text": "two", "codes": [64] * 20}, {"text": "hi", "codes": []}]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    index = prepare(PrepareOptions((tmp_path / "t.jsonl",), tmp_path / "out", validation=0), prompt_format, None, "t")
    assert index["splits"]["train"] == {"rows": 1, "hours": 0.0, "codes": 20, "tokens": 27}
    assert set(index["skipped"]["reasons"]) == {"codes outside the model's range of 0 to 63", "empty codes"}


# --- datasets ---


def sound_bytes(seconds: float, rate: int, channels: int = 1) -> bytes:
    file = io.BytesIO()
    noise = 0.1 * np.random.default_rng(rate).standard_normal((round(seconds * rate), channels))
    soundfile.write(file, noise, rate, format="WAV")
    return file.getvalue()


@pytest.fixture
def saved_dataset(tmp_path: Path) -> Path:
    """Train and validation with the audio inside, of several rates and channel counts, and a row that can't be used."""
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    sounds = [sound_bytes(0.5, 48_000, 2), sound_bytes(0.6, 16_000), b"no audio", sound_bytes(0.7, 22_050)]

    def part(numbers: list[int]) -> Any:
        rows = {
            "audio": [{"bytes": sounds[number], "path": None} for number in numbers],
            "text": [("zero", "one", "two", "three")[number] for number in numbers],
            "id": numbers,
        }
        # With features in place of a cast, the library would need another package to encode audio that is encoded already.
        return datasets.Dataset.from_dict(rows).cast_column("audio", datasets.Audio(decode=False))

    folder = tmp_path / "saved"
    datasets.DatasetDict({"train": part([0, 1, 2]), "validation": part([3])}).save_to_disk(str(folder))
    return folder


def test_a_saved_dataset_is_prepared_with_its_own_validation_rows(
    saved_dataset: Path, tmp_path: Path, tokenizer_folder: Path, random_codec: Path
) -> None:
    from llasa_cli.codec.codec import load_codec

    prompt_format, codec = PromptFormat.load(tokenizer_folder), load_codec(random_codec, "cpu")
    out = tmp_path / "out"
    index = prepare(PrepareOptions((saved_dataset,), out, validation=0.5), prompt_format, codec, "t")
    assert {name: split["rows"] for name, split in index["splits"].items()} == {"train": 2, "val": 1}
    assert index["skipped"] == {
        "reasons": {"audio can't be read": 1},
        "rows": [{"row": f"{saved_dataset} train[2]", "reason": "audio can't be read"}],
    }
    table = np.fromfile(out / "val_input_ids.memmap", np.int32).reshape(1, 2048)
    text, codes = prompt_format.decode_row(table[0].tolist())
    samples = read_samples(DatasetAudio(str(saved_dataset), "validation", 0), Columns())
    assert (text, codes) == (prompt_format.text_ids("three"), codec.encode(samples))
    assert len(samples) == 11_200
    only_train = PrepareOptions((saved_dataset,), tmp_path / "two", splits=("train",), validation=0)
    assert prepare(only_train, prompt_format, codec, "t")["splits"]["val"]["rows"] == 0
    with pytest.raises(UsageError, match="has no split 'en'"):
        prepare(PrepareOptions((saved_dataset,), tmp_path / "three", splits=("en",)), prompt_format, codec, "t")


def test_parquet_with_arrays_or_paths_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    clip = write_sound(tmp_path / "clip.wav", 0.5, 44_100, 2)
    arrays = [{"array": [0.5, -0.5] * 800, "sampling_rate": 8_000}, {"array": [0.1] * 100, "sampling_rate": 8_000}]
    datasets.Dataset.from_dict({"sentence": ["one", "two"], "audio": arrays}).to_parquet(tmp_path / "arrays.parquet")
    datasets.Dataset.from_dict({"text": ["one"], "path": [str(clip)]}).to_parquet(tmp_path / "paths.parquet")
    rows = rows_of(tmp_path / "arrays.parquet")
    assert [row.text for row in rows if isinstance(row, Row)] == ["one", "two"]
    headers = [read_header(row.audio, Columns()) for row in rows if isinstance(row, Row) and row.audio is not None]
    assert [header.samples for header in headers] == [3200, 200]
    (row,) = rows_of(tmp_path / "paths.parquet")
    assert isinstance(row, Row)
    assert row.audio is not None
    assert read_header(row.audio, Columns()).samples == 8_000


def test_a_dataset_without_the_columns_names_those_it_has(saved_dataset: Path) -> None:
    with pytest.raises(UsageError, match="no columns of text and audio") as caught:
        rows_of(saved_dataset, columns=Columns(text="sentence"))
    assert "It has: audio, text, id" in caught.value.hint


def test_the_error_names_the_missing_library(saved_dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from llasa_cli.errors import LlasaError
    from llasa_cli.training.hub_datasets import open_dataset

    open_dataset.cache_clear()
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(LlasaError, match="the `datasets` library, which is not installed") as caught:
        rows_of(saved_dataset)
    assert caught.value.hint == "Install it with: pip install 'llasa-cli[datasets]'"


# --- everything that goes wrong, in one report ---


def test_all_problems_are_listed_and_the_other_rows_are_prepared(tmp_path: Path, tokenizer_folder: Path) -> None:
    prompt_format = PromptFormat.load(tokenizer_folder)
    data = tmp_path / "data"
    write_sound(data / "long.wav", 90, 8_000)
    write_sound(data / "nothing.wav", 0)
    (data / "broken.flac").write_bytes(b"fLaC and no more")
    np.save(data / "good.npy", np.arange(40))
    np.save(data / "other.npy", np.arange(30, 70))
    (data / "corrupt.npy").write_bytes(b"\x93NUMPY\x01\x00\x76\x00{'descr'")
    lines: list[Any] = [
        {"id": 1, "codes": "good.npy", "text": "good"},
        {"id": 2, "audio": "absent.wav", "text": "hello"},
        {"id": 3, "audio": "long.wav", "text": "hello"},
        {"id": 4, "audio": "nothing.wav", "text": "hello"},
        {"id": 5, "audio": "broken.flac", "text": "hello"},
        {"id": 6, "codes": "corrupt.npy", "text": "hello"},
        {"id": 7, "codes": "other.npy", "text": "vocabulary"},
        {"id": 8, "codes": list(range(40)), "text": " \n"},
        {"id": 1, "codes": list(range(40)), "text": "again"},
        {"id": 9, "codes": [1] * 2040, "text": "hello"},
        {"id": 10, "codes": [1] * 40, "text": "hello", "speaker": "<|SPEECH_GENERATION_END|>"},
        {"id": 11, "codes": [2] * 40, "text": "last"},
    ]
    (data / "t.jsonl").write_bytes(
        b"".join(json.dumps(line).encode() + b"\n" for line in lines) + b'{"text": "caf\xe9", "codes": [1]}\nnot json\n'
    )
    out = tmp_path / "out"
    index = prepare(PrepareOptions((data / "t.jsonl",), out, validation=0), prompt_format, None, "t")
    listed = [json.loads(line) for line in (out / "skipped.jsonl").read_text().splitlines()]
    assert index["skipped"]["rows"] == listed
    assert index["splits"]["train"]["rows"] == 2
    assert {row["row"].rpartition(":")[2]: row["reason"] for row in listed} == {
        "2": "no such audio file",
        "3": "too long: over 2048 tokens",
        "4": "empty audio file",
        "5": "audio can't be read",
        "6": "codes can't be read",
        "7": "codes outside the model's range of 0 to 63",
        "8": "no text",
        "9": "duplicate id or audio",
        "10": "too long: over 2048 tokens",
        "11": "'<|SPEECH_GENERATION_END|>' can't be a speaker's name.",
        "13": "not UTF-8",
        "14": "not JSON",
    }
    assert sum(index["skipped"]["reasons"].values()) == 12


def test_a_dry_run_reports_the_same_without_codec_or_output(
    tmp_path: Path, tokenizer_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompt_format = PromptFormat.load(tokenizer_folder)
    data = tmp_path / "data"
    for number, rate in enumerate((8_000, 16_000, 44_100, 48_000)):
        write_sound(data / f"{number}.wav", 1 + number, rate, 1 + number % 2)
        (data / f"{number}.txt").write_text(f"this is clip number {number}")
    write_sound(data / "5.wav", 0.01)
    (data / "5.txt").write_text("hi")
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.chdir(tmp_path)
    index = prepare(PrepareOptions((data,), Path(), validation=1, dry_run=True), prompt_format, None, "t")
    assert sorted(tmp_path.rglob("*")) == before
    assert {name: split["rows"] for name, split in index["splits"].items()} == {"train": 3, "val": 1}
    assert sum(split["codes"] for split in index["splits"].values()) == 50 * (1 + 2 + 3 + 4)
    assert index["seconds"] == {"shortest": 1.0, "tenth": 1.0, "half": 3.0, "nine_tenths": 4.0, "longest": 4.0}
    assert index["skipped"]["reasons"] == {"shorter than 40 ms": 1}


def test_a_share_or_the_first_rows_can_be_taken(tmp_path: Path, tokenizer_folder: Path) -> None:
    prompt_format = PromptFormat.load(tokenizer_folder)
    lines = [json.dumps({"text": f"row {number}", "codes": [number % 60] * 20}) for number in range(50)]
    (tmp_path / "t.jsonl").write_text("\n".join(lines))

    def taken(**options: Any) -> list[int]:
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        prepare(
            PrepareOptions((tmp_path / "t.jsonl",), tmp_path / "out", validation=0, **options), prompt_format, None, "t"
        )
        table = np.fromfile(tmp_path / "out" / "train_input_ids.memmap", np.int32).reshape(
            -1, options.get("max_tokens", 2048)
        )
        return [prompt_format.decode_row(row.tolist())[1][0] for row in table]

    assert taken(sample=10) == list(range(10))
    assert taken(subset=0.1) == [9, 19, 29, 39, 49]
    assert taken(subset=0.5, sample=6, max_tokens=64) == [1, 3, 5]
