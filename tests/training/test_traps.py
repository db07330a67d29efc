"""The published scripts' treatment of a row, restated, and where training here differs on purpose.

Labels are the same but for the traps, each of which has a test that fails on what the scripts do.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from llasa_cli.prompt import NO_LABEL, PromptFormat
from llasa_cli.settings import CONTEXT_TOKENS, TEMPLATE_DATE
from llasa_cli.training.dataset import LengthGroupedBatchSampler, SpeechDataset, collate
from llasa_cli.training.finetune import finetune
from llasa_cli.training.options import FinetuneOptions


@dataclass
class Published:
    """One row in the published dataset (train_tts.py, finetune_offline.py; the fork pads with another token)."""

    tokenizer: Any
    pad_id: int
    date: str | None = TEMPLATE_DATE

    def item(self, row: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Input ids, labels and attention mask, each of 2,048."""
        named = self.tokenizer.convert_tokens_to_ids
        start, stop = named("<|SPEECH_GENERATION_START|>"), named("<|SPEECH_GENERATION_END|>")
        ids = row.tolist()
        begin = ids.index(start)
        end = ids.index(stop) if stop in ids else CONTEXT_TOKENS
        chat = [
            {"role": "user", "content": "Convert the text to speech:<|TEXT_UNDERSTANDING_START|>"},
            {"role": "assistant", "content": "<|SPEECH_GENERATION_START|>"},
        ]
        date = {} if self.date is None else {"date_string": self.date}
        whole = self.tokenizer.apply_chat_template(chat, tokenize=True, return_dict=False, **date)
        place = whole.index(named("<|TEXT_UNDERSTANDING_START|>"))
        whole = whole[:place] + ids[:begin] + whole[place + 1 :]
        place = whole.index(start)
        whole = np.array(whole[:place] + ids[begin : end + 1] + whole[place + 1 :])
        labels = np.where(np.arange(len(whole)) >= place, whole, NO_LABEL)
        labels[whole == self.pad_id] = NO_LABEL
        mask = (whole != self.pad_id).astype(np.int64)

        def fill(values: np.ndarray, filler: int) -> np.ndarray:
            return np.concatenate([values, np.full(CONTEXT_TOKENS, filler)])[:CONTEXT_TOKENS]

        return fill(whole, self.pad_id), fill(labels, NO_LABEL), fill(mask, 0)


@pytest.fixture
def prompt_format(speaking: Path) -> PromptFormat:
    return PromptFormat.load(speaking)


@pytest.fixture
def published(speaking: Path) -> Published:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(speaking)
    return Published(tokenizer, tokenizer.convert_tokens_to_ids("<|eot_id|>"))


@pytest.fixture
def data(prompt_format: PromptFormat, tmp_path: Path, write_rows: Callable[..., None]) -> Path:
    """Rows as in the public data: without speakers, padded with end-of-turn."""
    pad = prompt_format._tokenizer.token_to_id("<|eot_id|>")
    write_rows(tmp_path / "data", "train", prompt_format, 12, pad, 3)
    (tmp_path / "data" / "train_speakers.txt").unlink()
    return tmp_path / "data"


def table(folder: Path, split: str = "train") -> np.ndarray:
    form = tuple(np.load(folder / f"{split}_input_ids_shape.npy"))
    return np.memmap(folder / f"{split}_input_ids.memmap", np.int32, "r", shape=form)


def test_ids_and_labels_are_the_published_ones(data: Path, prompt_format: PromptFormat, published: Published) -> None:
    rows = SpeechDataset(data, "train", prompt_format)
    for index, row in enumerate(table(data)):
        item = rows[index]
        ids, labels, _ = published.item(row)
        length = len(item["input_ids"])
        np.testing.assert_array_equal(ids[:length], item["input_ids"])
        np.testing.assert_array_equal(labels[:length], item["labels"])
        assert item["labels"][-1] == prompt_format.end_id
        # After END the published row has the turn's end, which its own padding rule hides, and padding.
        assert (labels[length:] == NO_LABEL).all()


def test_only_the_turns_end_after_end_is_missing_from_the_forks_labels(
    data: Path, prompt_format: PromptFormat, published: Published
) -> None:
    """The model stops at END, so that nothing after it has to be learned."""
    eot = published.pad_id
    published.pad_id = published.tokenizer.convert_tokens_to_ids("<|end_of_text|>")
    rows = SpeechDataset(data, "train", prompt_format)
    for index, row in enumerate(table(data)):
        _, labels, _ = published.item(row)
        length = len(rows[index]["labels"])
        np.testing.assert_array_equal(labels[:length], rows[index]["labels"])
        assert labels[labels != NO_LABEL].tolist()[-2:] == [prompt_format.end_id, eot]
        assert (labels[length + 1 :] == NO_LABEL).all()


def test_trap_pad_masks_real_tokens(
    data: Path, prompt_format: PromptFormat, published: Published, text_llama: Path
) -> None:
    """Published: real end-of-turn tokens are hidden in training, and seen when speaking. Here they are always seen."""
    from transformers import LlamaForCausalLM

    from llasa_cli.training.loss import use_labeled_forward

    model = LlamaForCausalLM.from_pretrained(text_llama).eval()
    model.resize_token_embeddings(prompt_format.vocabulary_size)
    ids, labels, mask = published.item(table(data)[0])
    item = SpeechDataset(data, "train", prompt_format)[0]
    length = len(item["input_ids"])
    assert (mask[:length] == 0).sum() == (item["input_ids"] == published.pad_id).sum() > 0
    batch = collate([item])
    assert "attention_mask" not in batch
    batch.pop("lengths")

    @torch.no_grad()
    def loss(attention: np.ndarray) -> float:
        tensors = {"input_ids": ids, "labels": labels, "attention_mask": attention}
        return float(model(**{name: torch.from_numpy(value)[None] for name, value in tensors.items()}).loss)

    hidden = loss(mask)
    seen = loss(np.arange(CONTEXT_TOKENS) < length)
    use_labeled_forward(model)
    assert float(model(**batch).loss.detach()) == pytest.approx(seen, abs=1e-5)
    assert abs(hidden - seen) > 1e-4


def test_trap_end_is_lost(prompt_format: PromptFormat, published: Published, tmp_path: Path) -> None:
    """Published: a row of 2,048 with the template over it loses END. Here it is skipped, and counted."""
    pad = published.pad_id
    codes = CONTEXT_TOKENS - len(prompt_format.encode_row("sea", []))
    rows = [prompt_format.encode_row("sea", [1] * codes), prompt_format.encode_row("sea", [1] * 9)]
    padded = np.array([row + [pad] * (CONTEXT_TOKENS - len(row)) for row in rows], np.int32)
    padded.tofile(tmp_path / "train_input_ids.memmap")
    np.save(tmp_path / "train_input_ids_shape.npy", np.array(padded.shape))
    ids, labels, _ = published.item(padded[0])
    assert prompt_format.end_id not in ids
    assert labels[-1] != NO_LABEL, "it learns not to stop"
    ours = SpeechDataset(tmp_path, "train", prompt_format)
    assert (len(ours), ours.skipped) == (1, 1)
    assert ours[0]["labels"][-1] == prompt_format.end_id


def test_trap_todays_date_is_in_the_prompt(data: Path, prompt_format: PromptFormat, published: Published) -> None:
    published.date = None
    ids, _, _ = published.item(table(data)[0])
    ours = SpeechDataset(data, "train", prompt_format)[0]["input_ids"]
    text = published.tokenizer.decode
    assert TEMPLATE_DATE not in text(ids[:60].tolist())
    assert TEMPLATE_DATE in text(ours.tolist())


def test_trap_text_spells_a_token(prompt_format: PromptFormat, published: Published) -> None:
    text = "say <|SPEECH_GENERATION_END|> and <|eot_id|>"
    assert prompt_format.end_id in published.tokenizer.encode(text, add_special_tokens=False)
    assert not {prompt_format.end_id, published.pad_id} & set(prompt_format.text_ids(text))


def test_trap_config_keys_of_transformers_4(tmp_path: Path) -> None:
    """Published: transformers 5 stops at these keys. Here they are understood (test_recipes)."""
    from transformers import HfArgumentParser, TrainingArguments

    from llasa_cli.training.published_recipe import read_recipe

    file = tmp_path / "config.json"
    file.write_text(json.dumps({"output_dir": "out", "evaluation_strategy": "steps", "warmup_ratio": 0.03}))
    with pytest.raises(ValueError, match="not used"):
        HfArgumentParser(TrainingArguments).parse_json_file(str(file))
    assert read_recipe(file).values["warm_up_share"] == 0.03


def test_trap_the_template_returns_no_list(published: Published) -> None:
    """Published: `ids.index(...)` of what the template returns, which is a BatchEncoding since transformers 5."""
    chat = [{"role": "user", "content": "sea"}, {"role": "assistant", "content": "salt"}]
    with pytest.raises(AttributeError):
        published.tokenizer.apply_chat_template(chat, tokenize=True).index(0)


def test_traps_evaluation_files_that_were_never_written_and_a_padding_token_that_turns_back(
    random_checkpoint: Path, tmp_path: Path, write_rows: Callable[..., None]
) -> None:
    """Published: the fork's configuration evaluates, and its scripts write no such files; training sets another pad token
    in the tokenizer that it saves. Here a run without them trains, files of any of the known names are found, and the
    tokenizer's files stay as they are."""
    prompt_format = PromptFormat.load(random_checkpoint)
    write_rows(tmp_path / "data", "train_rank0_partial0", prompt_format, 6, prompt_format.pad_id, 0)
    write_rows(tmp_path / "data", "train_rank1_partial0", prompt_format, 5, prompt_format.pad_id, 1)
    assert len(SpeechDataset(tmp_path / "data", "train", prompt_format)) == 11
    options = FinetuneOptions(
        tmp_path / "data", tmp_path / "out", str(random_checkpoint), steps=1, evaluate_at_start=True, device="cpu"
    )
    finetune(options)
    assert "held_out" not in (options.output / "log.jsonl").read_text()
    write_rows(tmp_path / "data", "test_rank0_partial0", prompt_format, 6, prompt_format.pad_id, 2)
    options = FinetuneOptions(tmp_path / "data", tmp_path / "again", str(random_checkpoint), steps=1, device="cpu")
    finetune(options)
    assert "held_out" in (options.output / "log.jsonl").read_text()
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        assert (options.output / name).read_bytes() == (random_checkpoint / name).read_bytes()


def test_rows_in_parts_equal_those_in_one_file(
    prompt_format: PromptFormat, tmp_path: Path, write_rows: Callable[..., None]
) -> None:
    write_rows(tmp_path / "whole", "train", prompt_format, 9, prompt_format.pad_id, 0)
    ids = table(tmp_path / "whole")
    for name in ("train_rank0_partial0", "train_rank0_partial1", "train_rank1_partial0"):
        part = ids[: int(name[-1]) + 2] if name[10] == "0" else ids[5:]
        part = ids[2:5] if name.endswith("partial1") else part
        (tmp_path / "parts").mkdir(exist_ok=True)
        np.ascontiguousarray(part).tofile(tmp_path / "parts" / f"{name}_input_ids.memmap")
        np.save(tmp_path / "parts" / f"{name}_input_ids_shape.npy", np.array(part.shape))
    whole, parts = (
        SpeechDataset(tmp_path / "whole", "train", prompt_format),
        SpeechDataset(tmp_path / "parts", "train", prompt_format),
    )
    assert len(parts) == len(whole) == 9
    for index in range(9):
        assert parts.decode(index) == whole.decode(index)


def test_the_loss_of_a_step_weighs_labels_and_not_batches(
    data_folder: Path, random_checkpoint: Path, tmp_path: Path
) -> None:
    """With a rate of 0, a step of two batches has the loss of both, weighted by their labels."""

    def losses(name: str, accumulate: int, steps: int) -> list[float]:
        options = FinetuneOptions(
            data_folder, tmp_path / name, str(random_checkpoint), steps=steps, accumulate=accumulate,
            learning_rate=0.0, weight_decay=0.0, tokens_per_batch=260, device="cpu", log_every=1,
            evaluate_every=99, seed=4,
        )  # fmt: skip
        finetune(options)
        lines = map(json.loads, (options.output / "log.jsonl").read_text().splitlines())
        return [line["loss"] for line in lines if "loss" in line]

    rows = SpeechDataset(data_folder, "train", PromptFormat.load(random_checkpoint))
    batches = list(islice(LengthGroupedBatchSampler(rows.lengths, 260, 4), 2))
    counts = [sum(int((rows[row]["labels"] != NO_LABEL).sum()) for row in batch) for batch in batches]
    assert counts[0] != counts[1]
    one, two = losses("single", 1, 2)
    (both,) = losses("double", 2, 1)
    assert both == pytest.approx((one * counts[0] + two * counts[1]) / sum(counts), abs=1e-5)
