"""The published scripts read our files, and we read theirs, byte for byte.

The scripts are restated here line by line: `get_memmap_from_token.py` and the
readers of zhenye234/LLaSA_training, and the reader of Deep-unlearning's fork.
"""

from __future__ import annotations

import glob
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llasa_cli.prompt import PromptFormat
from llasa_cli.settings import CONTEXT_TOKENS
from llasa_cli.training.dataset import SpeechDataset
from llasa_cli.training.memmap_writer import RowBuilder
from llasa_cli.training.options import PrepareOptions
from llasa_cli.training.prepare import prepare

TEXTS = ("the sea", "seven lanterns along the quiet river", "salt", "a gull, at evening", "the boat is here")


class PublishedTokenizer:
    """The part of transformers' tokenizer that the scripts use."""

    def __init__(self, folder: Path, pad_token_id: int) -> None:
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.pad_token_id = pad_token_id

    def encode(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def convert_tokens_to_ids(self, token: str) -> int:
        found = self._tokenizer.token_to_id(token)
        assert found is not None
        return int(found)


def published_row(tokenizer: PublishedTokenizer, transcript: str, code_file: Path, base_num: int) -> np.ndarray:
    """The script's `process_audio_id`."""
    codes = base_num + np.load(code_file, allow_pickle=True).astype(np.int64)
    text = np.array(tokenizer.encode(f"<|TEXT_UNDERSTANDING_START|>{transcript}<|TEXT_UNDERSTANDING_END|>"))
    start = tokenizer.convert_tokens_to_ids("<|SPEECH_GENERATION_START|>")
    end = tokenizer.convert_tokens_to_ids("<|SPEECH_GENERATION_END|>")
    total = np.concatenate([text, np.array([start, *codes.tolist(), end], np.int32)])
    if len(total) > 2048:
        total = total[:2048]
    else:
        total = np.pad(total, (0, 2048 - len(total)), "constant", constant_values=tokenizer.pad_token_id)
    return total.astype(np.int32)


def write_published(folder: Path, split: str, rows: list[np.ndarray]) -> None:
    """The script's `process_data`."""
    folder.mkdir(parents=True, exist_ok=True)
    array = np.array(rows)
    table: Any = np.memmap(folder / f"{split}_input_ids.memmap", dtype="int32", mode="w+", shape=array.shape)
    table[:] = array[:]
    table.flush()
    np.save(folder / f"{split}_input_ids_shape.npy", array.shape)


class PublishedDataset:
    """The file handling of both scripts' `TTSDataset`."""

    def __init__(self, data_path: Path, split: str, fork: bool) -> None:
        memmap_files = (
            sorted(glob.glob(os.path.join(data_path, f"{split}_rank*_partial*_input_ids.memmap"))) if fork else []
        )
        memmap_files = memmap_files or [os.path.join(data_path, f"{split}_input_ids.memmap")]
        self.chunks = []
        for memmap_file in memmap_files:
            shape_file = memmap_file.replace("input_ids.memmap", "input_ids_shape.npy")
            shape = tuple(np.load(shape_file))
            self.chunks.append(np.memmap(memmap_file, dtype="int32", mode="r", shape=shape))

    def rows(self) -> list[list[int]]:
        return [row.tolist() for chunk in self.chunks for row in chunk]


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """Five clips' codes and their LJSpeech metadata."""
    folder = tmp_path / "lj"
    (folder / "codes").mkdir(parents=True)
    random = np.random.default_rng(0)
    for number in range(len(TEXTS)):
        np.save(folder / "codes" / f"LJ{number}.wav.npy", random.integers(0, 64, 40 + 7 * number, dtype=np.int32))
    lines = [f"LJ{number}|{text}|{text}" for number, text in enumerate(TEXTS)]
    (folder / "metadata.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def run(clips: Path, out: Path, prompt_format: PromptFormat, **options: Any) -> dict[str, Any]:
    return prepare(PrepareOptions((clips,), out, codes=clips / "codes", **options), prompt_format, None, "t")


def test_the_same_bytes_as_the_published_script_writes(
    clips: Path, tmp_path: Path, prompt_format: PromptFormat, tokenizer_folder: Path
) -> None:
    tokenizer = PublishedTokenizer(tokenizer_folder, prompt_format.pad_id)
    rows = [
        published_row(tokenizer, text, clips / "codes" / f"LJ{number}.wav.npy", prompt_format.first_code_id)
        for number, text in enumerate(TEXTS)
    ]
    write_published(tmp_path / "theirs", "train", rows)
    run(clips, tmp_path / "ours", prompt_format, validation=0)
    name = "train_input_ids.memmap"
    assert (tmp_path / "ours" / name).read_bytes() == (tmp_path / "theirs" / name).read_bytes()
    shapes = [np.load(tmp_path / who / "train_input_ids_shape.npy") for who in ("ours", "theirs")]
    assert tuple(shapes[0]) == tuple(shapes[1]) == (5, 2048)
    assert shapes[0].dtype == shapes[1].dtype


@pytest.mark.parametrize("fork", [False, True])
def test_the_published_readers_read_our_files(
    clips: Path, tmp_path: Path, prompt_format: PromptFormat, fork: bool
) -> None:
    run(clips, tmp_path / "out", prompt_format, validation=2)
    found = [PublishedDataset(tmp_path / "out", split, fork).rows() for split in ("train", "val")]
    assert [len(rows) for rows in found] == [3, 2]
    read = {bytes(np.array(row)): prompt_format.decode_row(row) for rows in found for row in rows}
    expected = [
        (prompt_format.text_ids(text), np.load(clips / "codes" / f"LJ{number}.wav.npy").tolist())
        for number, text in enumerate(TEXTS)
    ]
    assert sorted(read.values()) == sorted(expected)


def test_parts_of_ranks_are_read_by_the_fork_and_here(clips: Path, tmp_path: Path, prompt_format: PromptFormat) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    run(clips, whole, prompt_format, validation=0)
    for rank in range(3):
        run(clips, parts, prompt_format, validation=0, rank=rank, ranks=3)
    together = PublishedDataset(parts, "train", fork=True)
    assert sorted(together.rows()) == sorted(PublishedDataset(whole, "train", fork=True).rows())
    ours = SpeechDataset(parts, "train", prompt_format)
    assert len(ours) == len(TEXTS)
    assert sorted(ours.decode(number) for number in range(5)) == sorted(
        prompt_format.decode_row(row) for row in together.rows()
    )


@pytest.mark.parametrize("pad", ["<|end_of_text|>", "<|pad|>"])
def test_files_of_the_published_script_are_read(
    clips: Path, tmp_path: Path, prompt_format: PromptFormat, tokenizer_folder: Path, pad: str
) -> None:
    """The padding token does not matter."""
    pad_id = PublishedTokenizer(tokenizer_folder, 0)._tokenizer.token_to_id(pad)
    tokenizer = PublishedTokenizer(tokenizer_folder, prompt_format.pad_id if pad_id is None else pad_id)
    rows = [
        published_row(tokenizer, text, clips / "codes" / f"LJ{number}.wav.npy", prompt_format.first_code_id)
        for number, text in enumerate(TEXTS)
    ]
    write_published(tmp_path / "theirs", "train", rows)
    ours = SpeechDataset(tmp_path / "theirs", "train", prompt_format)
    assert [ours.decode(number) for number in range(5)] == [
        (prompt_format.text_ids(text), np.load(clips / "codes" / f"LJ{number}.wav.npy").tolist())
        for number, text in enumerate(TEXTS)
    ]


def test_no_row_loses_its_end_where_the_published_script_cuts_it(
    tmp_path: Path, prompt_format: PromptFormat, tokenizer_folder: Path
) -> None:
    """At every length around the limit a row is complete, or skipped as too long. The script's rows lose END from 2,049 on."""
    text = ("salt and sand " * 12).strip()
    frame = len(prompt_format.training_example(prompt_format.text_ids(text), [])[0])
    longest = CONTEXT_TOKENS - frame
    counts = range(longest - 2, longest + 80)
    lines = [json.dumps({"text": text, "codes": [count % 64] * count}) for count in counts]
    (tmp_path / "t.jsonl").write_text("\n".join(lines))
    index = prepare(PrepareOptions((tmp_path / "t.jsonl",), tmp_path / "out", validation=0), prompt_format, None, "t")
    rows = PublishedDataset(tmp_path / "out", "train", fork=False).rows()
    assert [len(prompt_format.decode_row(row)[1]) for row in rows] == [longest - 2, longest - 1, longest]
    assert all(row.count(prompt_format.end_id) == 1 for row in rows)
    assert index["skipped"]["reasons"] == {"too long: over 2048 tokens": len(counts) - 3}
    read = SpeechDataset(tmp_path / "out", "train", prompt_format)
    assert read.skipped == 0
    for number in range(3):
        item = read[number]
        assert item["labels"][-1] == item["input_ids"][-1] == prompt_format.end_id
    assert len(read[2]["input_ids"]) == CONTEXT_TOKENS
    # The script's row:
    np.save(tmp_path / "c.npy", np.zeros(2046, np.int32))
    theirs = published_row(
        PublishedTokenizer(tokenizer_folder, 0), text, tmp_path / "c.npy", prompt_format.first_code_id
    )
    assert prompt_format.end_id not in theirs


def test_rows_are_built_as_by_the_prompt_format(prompt_format: PromptFormat) -> None:
    codes = np.array([5, 0, 63], np.uint16)
    made = RowBuilder(prompt_format)(np.array(prompt_format.text_ids("salt"), np.int32), codes)
    assert made.dtype == np.int32
    assert made.tolist() == prompt_format.encode_row("salt", codes.tolist())
