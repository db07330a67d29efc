"""Files that llasa 0.1.0 wrote still work: prepared data, an interrupted `prepare`, its code cache, and a run to resume.

`fixtures/version_0_1.zip` holds one of each, made by that version with a random model of one layer, and the losses that it
reached without an interruption.
"""

from __future__ import annotations

import json
import sqlite3
import zipfile
from contextlib import closing
from pathlib import Path

import pytest

from llasa_cli.prompt import PromptFormat
from llasa_cli.training.code_cache import CodeCache
from llasa_cli.training.dataset import SpeechDataset
from llasa_cli.training.finetune import finetune
from llasa_cli.training.index import tokenizer_fingerprint
from llasa_cli.training.options import FinetuneOptions, PrepareOptions
from llasa_cli.training.prepare import prepare


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The unpacked files, in the current folder, as they were made."""
    with zipfile.ZipFile(Path(__file__).parent / "fixtures" / "version_0_1.zip") as archive:
        archive.extractall(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_prepared_data_is_read(files: Path) -> None:
    rows = SpeechDataset(files / "data", "train", PromptFormat.load(files / "model"))
    assert (len(rows), rows.skipped) == (21, 0)
    assert set(rows.speakers) == {"rms", "slt"}
    assert len(SpeechDataset(files / "data", "val", PromptFormat.load(files / "model"))) == 3


def test_the_code_cache_is_read_and_continued(files: Path) -> None:
    with (files / "codes" / "codes-0123456789abcdef.jsonl").open("a") as lines:
        lines.write('["dddddddddddddddd", 43, ')  # interrupted in the middle of a line
    for added in ({}, {"e" * 16: [5, 6]}):
        with closing(sqlite3.connect("")) as scratch, CodeCache(files / "codes", "0123456789abcdef", scratch) as cache:
            stored = {key: cache[key].tolist() for key in ("a" * 16, "b" * 16, "c" * 16)}
            assert stored == {"a" * 16: [1, 2, 3], "b" * 16: list(range(40)), "c" * 16: [63] * 7}
            assert "d" * 16 not in cache
            cache.add(list(added.items()))
    with closing(sqlite3.connect("")) as scratch, CodeCache(files / "codes", "0123456789abcdef", scratch) as cache:
        assert cache["e" * 16].tolist() == [5, 6]


def test_an_interrupted_prepare_is_completed(files: Path) -> None:
    assert (files / "interrupted" / "writing.json").is_file()
    options = PrepareOptions((Path("rows.jsonl"),), Path("interrupted"), validation=3, max_tokens=96)
    prepare(options, PromptFormat.load(files / "model"), None, tokenizer_fingerprint(files / "model"))
    for name in ("train_input_ids.memmap", "val_input_ids.memmap", "train_speakers.txt", "index.json"):
        assert (files / "interrupted" / name).read_bytes() == (files / "data" / name).read_bytes(), name
    assert not [
        path.name for path in (files / "interrupted").iterdir() if path.suffix == ".part" or "writing" in path.name
    ]


@pytest.mark.parametrize("saved_with_numpy", [1, 2])
def test_a_run_in_the_middle_resumes_to_the_losses_of_an_uninterrupted_one(files: Path, saved_with_numpy: int) -> None:
    if saved_with_numpy == 1:
        state = files / "run" / "checkpoint-3" / "rng_state.pth"
        with zipfile.ZipFile(state) as archive:
            parts = {name: archive.read(name) for name in archive.namelist()}
        with zipfile.ZipFile(state, "w") as archive:
            for name, part in parts.items():
                archive.writestr(name, part.replace(b"cnumpy._core.", b"cnumpy.core."))
    options = FinetuneOptions(
        files / "data", files / "run", steps=6, learning_rate=1e-3, warm_up_steps=2, tokens_per_batch=200, device="cpu",
        log_every=1, evaluate_every=99, save_every_steps=3, speaker_dropout=0.2,
    )  # fmt: skip
    assert finetune(options)["steps"] == 6
    losses = json.loads((files / "losses.json").read_text())
    lines = map(json.loads, (files / "run" / "log.jsonl").read_text().splitlines())
    resumed = {str(line["step"]): line["loss"] for line in lines if "loss" in line}
    assert resumed == pytest.approx(losses, abs=1e-4)


def test_a_run_without_a_recorded_rate_keeps_the_former_default(files: Path) -> None:
    metadata = json.loads((files / "run" / "llasa.json").read_text())
    del metadata["recipe"]["learning_rate"], metadata["recipe"]["warm_up_steps"]
    (files / "run" / "llasa.json").write_text(json.dumps(metadata))
    options = FinetuneOptions(
        files / "data", files / "run", steps=6, tokens_per_batch=200, device="cpu", log_every=1, evaluate_every=99
    )
    finetune(options)
    lines = map(json.loads, (files / "run" / "log.jsonl").read_text().splitlines())
    rates = [line["learning_rate"] for line in lines if "loss" in line and line["step"] > 4]
    assert max(rates) <= 1e-5 * 6 / 60, "in the middle of the former warm-up of 60 steps"
