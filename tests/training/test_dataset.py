from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from llasa_cli.errors import UsageError
from llasa_cli.prompt import NO_LABEL, PromptFormat
from llasa_cli.settings import CONTEXT_TOKENS
from llasa_cli.training.dataset import LengthGroupedBatchSampler, SpeechDataset, collate, rows_to_hold_out


def test_a_row_has_the_template_and_labels_from_start_on(data_folder: Path, prompt_format: PromptFormat) -> None:
    rows = SpeechDataset(data_folder, "train", prompt_format)
    assert len(rows) == 120
    for index in (0, 1, 57):
        item = rows[index]
        text, codes = rows.decode(index)
        ids, labels = prompt_format.training_example(text, codes, rows.speakers[index])
        assert item["input_ids"].tolist() == ids
        assert item["labels"].tolist() == labels
        start = ids.index(prompt_format.start_id)
        assert set(labels[:start]) == {NO_LABEL}
        assert labels[start:] == ids[start:]
        assert rows.lengths[index] == len(ids)
        assert rows.codes[index] == len(codes)


def test_every_row_ends_with_end(data_folder: Path, prompt_format: PromptFormat) -> None:
    rows = SpeechDataset(data_folder, "train", prompt_format)
    batch = collate([rows[index] for index in range(40)])
    for ids, labels, length in zip(batch["input_ids"], batch["labels"], batch["lengths"], strict=True):
        assert ids[length - 1] == labels[length - 1] == prompt_format.end_id
        assert (labels[length:] == NO_LABEL).all()


def write_rows(folder: Path, rows: list[list[int]], pad_id: int) -> None:
    table = np.full((len(rows), CONTEXT_TOKENS), pad_id, np.int32)
    for place, row in zip(table, rows, strict=True):
        place[: min(len(row), CONTEXT_TOKENS)] = row[:CONTEXT_TOKENS]
    folder.mkdir(exist_ok=True)
    table.tofile(folder / "train_input_ids.memmap")
    np.save(folder / "train_input_ids_shape.npy", np.array(table.shape))


def test_numbered_parts_are_read_each_with_its_own_speakers(tmp_path: Path, prompt_format: PromptFormat) -> None:
    for number, name in enumerate(("heart", "bella")):
        write_rows(tmp_path, [prompt_format.encode_row("sea", [1, 2, number])], prompt_format.pad_id)
        (tmp_path / "train_input_ids.memmap").rename(tmp_path / f"train_input_ids_{number}.memmap")
        (tmp_path / "train_input_ids_shape.npy").rename(tmp_path / f"train_input_ids_{number}_shape.npy")
        if number:
            (tmp_path / f"train_speakers_{number}.txt").write_text(f"{name}\n", encoding="utf-8")
    rows = SpeechDataset(tmp_path, "train", prompt_format)
    assert rows.speakers == [None, "bella"]
    assert [rows.decode(index)[1] for index in range(2)] == [[1, 2, 0], [1, 2, 1]]


def test_rows_without_end_are_counted_and_skipped(tmp_path: Path, prompt_format: PromptFormat) -> None:
    whole = prompt_format.encode_row("sea", [1, 2, 3])
    cut = prompt_format.encode_row("sea", [1] * 3000)
    write_rows(tmp_path, [whole, cut, [0] * 20], prompt_format.pad_id)
    rows = SpeechDataset(tmp_path, "train", prompt_format)
    assert len(rows) == 1
    assert rows.skipped == 2


def test_rows_that_the_template_makes_too_long_are_skipped_and_never_cut(
    tmp_path: Path, prompt_format: PromptFormat
) -> None:
    frame = len(prompt_format.training_example([], [])[0])
    fits, too_long = CONTEXT_TOKENS - frame - 3, CONTEXT_TOKENS - frame - 2
    write_rows(
        tmp_path,
        [prompt_format.encode_row("sea", [1] * fits), prompt_format.encode_row("sea", [1] * too_long)],
        prompt_format.pad_id,
    )
    rows = SpeechDataset(tmp_path, "train", prompt_format)
    assert rows.lengths.tolist() == [CONTEXT_TOKENS]
    assert rows[0]["input_ids"][-1] == prompt_format.end_id
    assert rows.skipped == 1


@pytest.mark.parametrize("padding", ["stop", "text_end", "a"])
def test_the_padding_token_does_not_matter(tmp_path: Path, prompt_format: PromptFormat, padding: str) -> None:
    pad_id = {"stop": prompt_format.end_id, "text_end": prompt_format.text_end_id, "a": prompt_format.text_ids("a")[0]}[
        padding
    ]
    write_rows(tmp_path, [prompt_format.encode_row("salt", [5, 6])], pad_id)
    assert SpeechDataset(tmp_path, "train", prompt_format).decode(0) == (prompt_format.text_ids("salt"), [5, 6])


def test_only_rows_of_the_chosen_speakers_are_read(data_folder: Path, prompt_format: PromptFormat) -> None:
    rows = SpeechDataset(data_folder, "train", prompt_format, speakers=("bella",))
    assert len(rows) == 60
    assert set(rows.speakers) == {"bella"}
    with pytest.raises(UsageError, match="No row is left") as caught:
        SpeechDataset(data_folder, "train", prompt_format, speakers=("other",))
    assert "bella" in caught.value.hint


def test_the_error_says_why_no_row_is_left(tmp_path: Path, prompt_format: PromptFormat) -> None:
    write_rows(tmp_path, [prompt_format.encode_row("salt", [5, 6])], prompt_format.end_id)
    with pytest.raises(UsageError, match="No row is left") as caught:
        SpeechDataset(tmp_path, "train", prompt_format, context=4)
    assert caught.value.hint == "No row fits into --context 4."
    with pytest.raises(UsageError) as caught:
        SpeechDataset(tmp_path, "train", prompt_format, speakers=("other",))
    assert caught.value.hint == "The data names no speakers."


def test_speaker_dropout_drops_the_same_tags_each_time(data_folder: Path, prompt_format: PromptFormat) -> None:
    rows = SpeechDataset(data_folder, "train", prompt_format, speaker_dropout=0.5)
    lengths = [len(rows[index]["input_ids"]) for index in range(120)]
    assert lengths == [len(rows[index]["input_ids"]) for index in range(120)]
    speaker_dropout = sum(length == full - 1 for length, full in zip(lengths, rows.lengths, strict=True))
    assert 40 < speaker_dropout < 80


def test_text_dropout_removes_only_the_text(data_folder: Path, prompt_format: PromptFormat) -> None:
    full, rows = (SpeechDataset(data_folder, "train", prompt_format, text_dropout=share) for share in (0.0, 0.5))
    changed = 0
    for index in range(120):
        text, codes = full.decode(index)
        wanted = [prompt_format.training_example(words, codes, full.speakers[index])[0] for words in (text, [])]
        ids = rows[index]["input_ids"].tolist()
        assert ids in wanted
        assert ids == rows[index]["input_ids"].tolist()
        changed += ids == wanted[1]
    assert 40 < changed < 80


def test_data_of_another_tokenizer_is_refused(tmp_path: Path, prompt_format: PromptFormat) -> None:
    write_rows(tmp_path, [[1, 2, 3]], prompt_format.pad_id)
    with pytest.raises(UsageError, match="has this model's markers"):
        SpeechDataset(tmp_path, "train", prompt_format)


@pytest.mark.parametrize(
    ("share", "rows", "ranks", "wanted"),
    [(0.01, 11, 1, 1), (0.01, 12, 1, 3), (0.01, 40, 1, 3), (0.01, 1000, 1, 10), (0.5, 8, 1, 4), (0.01, 20, 8, 1)],
)
def test_at_least_three_of_a_dozen_rows_are_held_out(share: float, rows: int, ranks: int, wanted: int) -> None:
    assert rows_to_hold_out(share, rows, ranks) == wanted


def test_an_epoch_has_every_row_once_and_no_batch_over_the_limit() -> None:
    lengths = np.random.default_rng(0).integers(20, 400, 10_000)
    lengths[7] = 5000  # longer than a batch, so it is a batch of its own
    batches = LengthGroupedBatchSampler(lengths, 2000, seed=3)
    one_pass = list(islice(iter(batches), batches.batches_per_epoch()))
    assert sorted(row for batch in one_pass for row in batch) == list(range(10_000))
    assert all(lengths[batch].max() * len(batch) <= 2000 for batch in one_pass if 7 not in batch)
    assert [7] in one_pass
    padded = sum(lengths[batch].max() * len(batch) for batch in one_pass)
    assert padded < 1.05 * lengths.sum(), "padding is a small part"


def test_a_resumed_sampler_continues_with_the_next_batch() -> None:
    lengths = np.random.default_rng(0).integers(20, 400, 500)
    whole = list(islice(iter(LengthGroupedBatchSampler(lengths, 2000, seed=3)), 300))
    assert (
        list(islice(iter(LengthGroupedBatchSampler(lengths, 2000, seed=3, skip_batches=lambda: 170)), 130))
        == whole[170:]
    )


def test_a_length_curriculum_begins_with_short_rows() -> None:
    random = np.random.default_rng(0)
    codes, text = random.integers(20, 400, 5000), random.integers(5, 200, 5000)
    batches = LengthGroupedBatchSampler(
        codes + text, 2000, codes=codes, max_codes=lambda number: 100 if number < 5 else 400
    )
    stream = list(islice(iter(batches), 300))
    assert all(codes[batch].max() <= 100 for batch in stream[:5])
    assert max(codes[batch].max() for batch in stream) > 350
