from __future__ import annotations

import json
import resource
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from llasa_cli.errors import LlasaError, ModelError, UsageError
from llasa_cli.files import bring_folder
from llasa_cli.lm.loader import load_language_model
from llasa_cli.prompt import NO_LABEL, PromptFormat
from llasa_cli.settings import SamplingOptions
from llasa_cli.training.dataset import SpeechDataset, collate
from llasa_cli.training.finetune import finetune
from llasa_cli.training.loss import use_labeled_forward
from llasa_cli.training.options import FinetuneOptions, LoraOptions
from llasa_cli.training.run import Callbacks
from llasa_cli.training.vocabulary import codec_size

SHAPE = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "intermediate_size": 64,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": True,
}


@pytest.fixture(scope="session")
def shape(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("shape") / "model.json"
    path.write_text(json.dumps(SHAPE), encoding="utf-8")
    return path


@pytest.fixture
def fresh(data_folder: Path, tokenizer_folder: Path, shape: Path, tmp_path: Path) -> FinetuneOptions:
    return fresh_options(data_folder, tokenizer_folder, shape, tmp_path / "out")


def fresh_options(data: Path, tokenizer: Path, shape: Path, output: Path) -> FinetuneOptions:
    return FinetuneOptions(
        data,
        output,
        fresh=shape,
        tokenizer=tokenizer,
        codec="some/codec",
        steps=20,
        learning_rate=1e-2,
        warm_up_steps=2,
        tokens_per_batch=600,
        device="cpu",
        log_every=5,
        evaluate_every=10,
    )


def log_of(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def model_revision(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


@pytest.fixture(scope="module")
def finished(data_folder: Path, tokenizer_folder: Path, shape: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of twenty steps, which several tests read."""
    output = tmp_path_factory.mktemp("finished") / "out"
    options = replace(fresh_options(data_folder, tokenizer_folder, shape, output), report_to=("none",))
    about = finetune(replace(options, schedule="cosine", warm_up_share=0.03))
    assert about["steps"] == 20
    return output


def test_twenty_steps_lower_the_loss(finished: Path) -> None:
    log = log_of(finished)
    losses = [line["loss"] for line in log if "loss" in line]
    assert losses[-1] < losses[0] - 0.3
    evaluated = [line for line in log if "held_out" in line]
    assert [line["step"] for line in evaluated] == [10, 20]
    assert evaluated[-1]["held_out"] < evaluated[0]["held_out"]
    assert "text_gain" in evaluated[0]
    assert all(line["tokens_per_s"] > 0 for line in log if "loss" in line)
    assert log[-1]["tokens"] > 0


def test_transformers_generates_with_the_checkpoint(finished: Path) -> None:
    from transformers import AutoTokenizer, LlamaForCausalLM

    assert not list(finished.glob("*.part")) + list(finished.glob(".saving"))
    prompt_format = PromptFormat.load(finished)
    assert prompt_format.speakers == ("bella", "heart")
    AutoTokenizer.from_pretrained(finished)
    model = LlamaForCausalLM.from_pretrained(finished)
    assert model.dtype == torch.bfloat16
    assert model.config.use_cache
    prompt = torch.tensor([prompt_format.prompt("sea").ids])
    made = model.generate(prompt, do_sample=False, max_new_tokens=5, attention_mask=torch.ones_like(prompt))
    assert made.shape[1] > prompt.shape[1]


def test_a_checkpoint_describes_itself(finished: Path) -> None:
    about = json.loads((finished / "llasa.json").read_text())
    assert about["speakers"] == ["bella", "heart"]
    assert about["default_speaker"] in ("heart", "bella")
    assert about["codec"] == "some/codec"
    assert about["recipe"]["schedule"] == "cosine"
    assert about["recipe"]["warm_up_share"] == 0.03
    assert "output" not in about["recipe"]
    assert about["protocol"]["instruction"] == "Convert the text to speech:"
    assert about["protocol"]["first_code_id"] == PromptFormat.load(finished).first_code_id
    assert about["data"]["rows"] == 120
    assert len(about["data"]["fingerprint"]) == 12
    assert (finished / "loss.svg").read_text().startswith("<svg")


@pytest.mark.parametrize("kind", ["qwen2", "qwen3"])
def test_a_qwen_is_trained_and_speaks(kind: str, fresh: FinetuneOptions, tmp_path: Path) -> None:
    (tmp_path / "shape.json").write_text(json.dumps(SHAPE | {"model_type": kind}))
    finetune(replace(fresh, fresh=tmp_path / "shape.json", steps=3))
    model = load_language_model(fresh.output, PromptFormat.load(fresh.output), "cpu")
    codes = list(model.generate(model.prompt_format.prompt("sea"), SamplingOptions(max_seconds=0.2), 0))
    assert codes
    (tmp_path / "shape.json").write_text(json.dumps(SHAPE | {"model_type": "gpt2"}))
    with pytest.raises(UsageError, match="gpt2"):
        finetune(replace(fresh, fresh=tmp_path / "shape.json", output=tmp_path / "other"))


class Killed(BaseException):
    pass


def losses_of(folder: Path) -> dict[float, float]:
    return {line["step"]: line["loss"] for line in log_of(folder) if "loss" in line}


def test_a_resumed_run_has_the_losses_and_the_weights_of_an_uninterrupted_one(
    fresh: FinetuneOptions, tmp_path: Path
) -> None:
    """With two batches a step and the cosine schedule: the data order, the rate and the optimizer's state are restored."""
    whole = replace(
        fresh,
        output=tmp_path / "whole",
        steps=12,
        accumulate=2,
        save_every_minutes=0,
        log_every=1,
        schedule="cosine",
        length_curriculum=0.5,
        seed=0,
    )
    finetune(whole)
    assert len(list(whole.output.glob("checkpoint-*"))) == 2, "only the last two are kept"

    def stop(line: dict[str, float]) -> None:
        if line["step"] == 6:
            raise Killed

    halves = replace(whole, output=tmp_path / "halves")
    with pytest.raises(Killed):
        finetune(halves, Callbacks(stop))
    # A kill in the middle of a save leaves a checkpoint without its last file.
    shutil.copytree(halves.output / "checkpoint-5", halves.output / "checkpoint-6")
    (halves.output / "checkpoint-6" / "progress.json").unlink()
    (halves.output / "checkpoint-6" / "optimizer.pt").write_bytes(b"half")
    about = finetune(replace(halves, fresh=None, tokenizer=None))
    assert about["steps"] == 12
    assert about["tokens"] == json.loads((whole.output / "llasa.json").read_text())["tokens"]
    straight, resumed = losses_of(whole.output), losses_of(halves.output)
    assert list(straight) == list(resumed) == list(range(1, 13))
    assert resumed == pytest.approx(straight, abs=1e-5)
    for name, value in model_revision(whole.output).items():
        torch.testing.assert_close(model_revision(halves.output)[name], value, rtol=0, atol=0)


def test_the_seed_decides_the_losses_and_zero_is_a_seed(fresh: FinetuneOptions, tmp_path: Path) -> None:
    def losses(name: str, seed: int) -> list[float]:
        torch.manual_seed(77)  # the global state before the run must not matter
        options = replace(fresh, output=tmp_path / name, steps=2, log_every=1, seed=seed, evaluate_every=99)
        finetune(options)
        return list(losses_of(options.output).values())

    zero = losses("a", 0)
    assert losses("b", 0) == zero
    assert losses("c", 1) != zero


def test_a_finished_run_is_left_alone(fresh: FinetuneOptions) -> None:
    options = replace(fresh, steps=2)
    finetune(options)
    before = (fresh.output / "model.safetensors").read_bytes()
    assert finetune(options)["steps"] == 2
    assert (fresh.output / "model.safetensors").read_bytes() == before
    with pytest.raises(UsageError, match="already holds a run"):
        finetune(replace(options, resume=False))


def test_a_resumed_run_needs_the_model_it_started_from_wherever_that_lies(
    data_folder: Path, random_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(random_checkpoint, tmp_path / "here" / "model")
    monkeypatch.chdir(tmp_path / "here")
    options = FinetuneOptions(
        data_folder, tmp_path / "out", model="model", steps=1, device="cpu", evaluate_every=99, tokens_per_batch=300
    )
    assert finetune(options)["base"] == str(tmp_path / "here" / "model"), "found from any folder"
    notes: list[str] = []
    finetune(options, Callbacks(on_note=notes.append))
    assert len(notes) == 1
    assert "is complete" in notes[0]
    for other in (str(random_checkpoint), "tiny"):
        with pytest.raises(UsageError, match=r"started from .*here/model, not from"):
            finetune(replace(options, model=other))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").rename(tmp_path / "there")
    assert finetune(replace(options, model="there/model", steps=2))["base"] == str(tmp_path / "there" / "model")


def test_a_published_model_is_recognized_by_any_of_its_names(fresh: FinetuneOptions) -> None:
    finetune(replace(fresh, steps=1))
    about = json.loads((fresh.output / "llasa.json").read_text())
    (fresh.output / "llasa.json").write_text(json.dumps(about | {"base": "1b"}))
    same, other = (replace(fresh, fresh=None, steps=1, model=f"HKUSTAudio/Llasa-{size}") for size in ("1B", "3B"))
    assert finetune(same)["steps"] == 1
    with pytest.raises(UsageError, match="started from 1b, not from"):
        finetune(other)


def test_a_resumed_run_takes_a_new_learning_rate_and_new_settings_of_the_optimizer(
    fresh: FinetuneOptions, capfd: pytest.CaptureFixture[str]
) -> None:
    options = replace(fresh, schedule="constant", warm_up_steps=0, log_every=1, evaluate_every=99)
    finetune(replace(options, steps=2, weight_decay=0.01))
    finetune(replace(options, steps=4, learning_rate=5e-3, weight_decay=0.5, betas=(0.8, 0.9)))
    assert [line["learning_rate"] for line in log_of(fresh.output) if "loss" in line] == [1e-2, 1e-2, 5e-3, 5e-3]
    groups = torch.load(fresh.output / "checkpoint-4" / "optimizer.pt", weights_only=True)["param_groups"]
    assert {group["weight_decay"] for group in groups} == {0.5, 0.0}
    assert {tuple(group["betas"]) for group in groups} == {(0.8, 0.9)}
    assert capfd.readouterr().out == "", "training writes nothing to standard output"


def test_other_data_in_a_resumed_run_is_a_warning(
    fresh: FinetuneOptions, write_rows: Callable[..., None], tmp_path: Path
) -> None:
    assert fresh.tokenizer is not None
    prompt_format = PromptFormat.load(fresh.tokenizer)
    write_rows(tmp_path / "data", "train", prompt_format, 20, prompt_format.pad_id, 5)
    finetune(replace(fresh, steps=1, evaluate_every=99))
    notes: list[str] = []
    finetune(replace(fresh, steps=1, evaluate_every=99, warm_up_steps=0), Callbacks(on_note=notes.append))
    assert len(notes) == 1, "the data is the same: only that the run is complete"
    notes.clear()
    finetune(replace(fresh, steps=2, evaluate_every=99, data=tmp_path / "data"), Callbacks(on_note=notes.append))
    assert len(notes) == 1
    assert "has changed since the run" in notes[0]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_model_that_is_not_from_a_run_is_never_overwritten(
    fresh: FinetuneOptions, random_checkpoint: Path, tmp_path: Path
) -> None:
    model = tmp_path / "model"
    shutil.copytree(random_checkpoint, model)
    before = contents(model)
    onto_itself = FinetuneOptions(fresh.data, model, model=str(model), steps=1, device="cpu")
    for options in (onto_itself, replace(fresh, output=model), replace(onto_itself, lora=LoraOptions())):
        with pytest.raises(UsageError, match="already holds a model"):
            finetune(options)
    assert contents(model) == before


def test_checkpoints_of_another_program_are_refused_and_kept(fresh: FinetuneOptions) -> None:
    kept = fresh.output / "checkpoint-500" / "model.safetensors"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"days of work")
    with pytest.raises(UsageError, match="checkpoints of another program"):
        finetune(fresh)
    assert kept.read_bytes() == b"days of work"


def test_a_run_that_was_interrupted_in_its_first_save_starts_again(fresh: FinetuneOptions) -> None:
    options = replace(fresh, steps=2, evaluate_every=99)
    finetune(options)
    (options.output / "checkpoint-2" / "progress.json").unlink()
    assert finetune(options)["steps"] == 2
    shutil.rmtree(options.output / "checkpoint-2")
    with pytest.raises(UsageError, match="already holds a model"):
        finetune(options)  # a model whose checkpoints were deleted is not an interrupted save


def test_bringing_a_folder_onto_itself_keeps_its_files(tmp_path: Path) -> None:
    (tmp_path / "codec").mkdir()
    (tmp_path / "codec" / "config.json").write_text("{}")
    bring_folder(tmp_path / "codec", tmp_path / "codec")
    assert (tmp_path / "codec" / "config.json").read_text() == "{}"


@pytest.mark.parametrize("count", [1, 2])
def test_rows_longer_than_a_batch_are_evaluated_one_by_one_and_text_gain_needs_two(
    fresh: FinetuneOptions, count: int
) -> None:
    finetune(replace(fresh, steps=1, tokens_per_batch=20, evaluate_rows=count))
    (evaluated,) = [line for line in log_of(fresh.output) if "held_out" in line]
    assert ("text_gain" in evaluated) == (count > 1)
    assert evaluated.get("text_gain", 1) != 0


def test_minutes_end_a_run(fresh: FinetuneOptions) -> None:
    about = finetune(replace(fresh, steps=None, minutes=0.02, warm_up_steps=0))
    assert about["steps"] > 0
    rates = [line["learning_rate"] for line in log_of(fresh.output) if "learning_rate" in line]
    assert about["minutes"] >= 0.02
    assert rates == sorted(rates, reverse=True)


def test_a_checkpoint_is_trained_on_and_brings_its_codec_and_speakers(
    data_folder: Path, random_checkpoint: Path, tmp_path: Path
) -> None:
    options = FinetuneOptions(
        data_folder, tmp_path / "out", model=str(random_checkpoint), steps=2, device="cpu", speakers=("bella",)
    )
    about = finetune(options)
    assert (options.output / about["codec"] / "model.safetensors").is_file()
    assert about["speakers"] == ["heart", "bella"]
    assert about["default_speaker"] == "bella"
    assert about["base"] == str(random_checkpoint)
    before, after = model_revision(random_checkpoint), model_revision(options.output)
    moved = [(after[name].float() - before[name].float()).abs().max() for name in after]
    assert max(moved) > 0
    assert set(after) == set(before)


def test_accumulated_batches_weigh_labels_and_not_batches(fresh: FinetuneOptions, tmp_path: Path) -> None:
    """Two batches of 300 tokens equal one of 600 only if the loss is divided by all labels of both."""
    plain = _model(fresh)
    rows = SpeechDataset(fresh.data, "train", PromptFormat.load(fresh.tokenizer or Path()))
    short, long = collate([rows[0], rows[1]]), collate([rows[2], rows[3], rows[4]])
    for batch in (short, long):
        batch.pop("lengths")
    whole = collate([rows[index] for index in range(5)])
    count = sum(int((batch["labels"] != NO_LABEL).sum()) for batch in (short, long))
    parts = sum(plain(**batch, num_items_in_batch=count).loss for batch in (short, long))
    whole.pop("lengths")
    torch.testing.assert_close(parts, plain(**whole).loss, rtol=1e-5, atol=1e-6)


def _model(options: FinetuneOptions) -> torch.nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    prompt_format = PromptFormat.load(options.tokenizer or Path())
    model = LlamaForCausalLM(LlamaConfig(**SHAPE, vocab_size=prompt_format.vocabulary_size))
    use_labeled_forward(model)
    return model.eval()


def test_the_loss_of_a_bucketed_batch_is_that_of_rows_padded_to_2048(fresh: FinetuneOptions) -> None:
    """The published way pads to 2,048, masks the padding, and computes the logits of every position."""
    model = _model(fresh)
    rows = SpeechDataset(fresh.data, "train", PromptFormat.load(fresh.tokenizer or Path()))
    items = [rows[index] for index in range(3)]
    batch = collate(items)
    batch.pop("lengths")
    ids, labels = np.zeros((3, 2048), np.int64), np.full((3, 2048), NO_LABEL)
    mask = np.zeros((3, 2048), np.int64)
    for row, item in enumerate(items):
        length = len(item["input_ids"])
        ids[row, :length], labels[row, :length], mask[row, :length] = item["input_ids"], item["labels"], 1
    published = (
        type(model)
        .forward(
            model,
            input_ids=torch.from_numpy(ids),
            attention_mask=torch.from_numpy(mask),
            labels=torch.from_numpy(labels),
        )
        .loss
    )
    torch.testing.assert_close(model(**batch).loss, published, rtol=1e-5, atol=1e-6)


def test_the_gradients_are_those_of_the_plain_loss(fresh: FinetuneOptions) -> None:
    model = _model(fresh)
    rows = SpeechDataset(fresh.data, "train", PromptFormat.load(fresh.tokenizer or Path()))
    batch = collate([rows[index] for index in range(4)])
    batch.pop("lengths")
    model(**batch).loss.backward()
    ours = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    type(model).forward(model, **batch).loss.backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(ours[name], parameter.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": None}, "exactly one length"),
        ({"minutes": 3.0}, "exactly one length"),
        ({"fresh": None}, "new configuration"),
        ({"tokenizer": None}, "needs a tokenizer"),
        ({"codec": None}, "codec of these 64 speech codes is not known"),
        ({"report_to": ("nowhere",)}, "nowhere is not known"),
        ({"data": Path("/nowhere")}, "no train_input_ids.memmap"),
        ({"speakers": ("other",)}, "No row is left"),
        ({"online": True, "text_dropout": 0.1}, "reads every row with its text"),
        ({"online": True, "speaker_dropout": 0.1}, "and its speaker"),
    ],
)
def test_options_that_contradict_each_other_are_a_usage_error(
    fresh: FinetuneOptions, change: dict, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        finetune(replace(fresh, **change))
    assert not fresh.output.exists(), "a folder for nothing"


def test_a_folder_or_name_that_is_not_a_codec_is_refused_before_training(
    fresh: FinetuneOptions, tmp_path: Path
) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "a.txt").write_text("mine")
    for codec in ("nosuch", str(tmp_path / "own")):
        with pytest.raises(ModelError):
            finetune(replace(fresh, codec=codec))
        with pytest.raises(ModelError):
            codec_size(codec)
        assert not fresh.output.exists()


def test_a_note_counts_the_rows_that_are_left_out(fresh: FinetuneOptions) -> None:
    notes: list[str] = []
    longest = int(SpeechDataset(fresh.data, "train", PromptFormat.load(fresh.tokenizer or Path())).lengths.max())
    finetune(replace(fresh, steps=1, context=longest - 1), Callbacks(on_note=notes.append))
    assert "rows are left out: longer than" in notes[0]


def test_an_output_folder_that_cant_be_made_is_a_usage_error(fresh: FinetuneOptions, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="can't be created: Not a directory"):
        finetune(replace(fresh, output=tmp_path / "file" / "mine"))


def test_data_of_another_codec_or_tokenizer_is_refused(
    fresh: FinetuneOptions, random_codec: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    shutil.copytree(fresh.data, data)
    (data / "index.json").write_text(json.dumps({"tokenizer": "other"}))
    with pytest.raises(UsageError, match="for another tokenizer"):
        finetune(replace(fresh, data=data))
    (data / "index.json").write_text(json.dumps({"codec": "other"}))
    with pytest.raises(UsageError, match="by another codec"):
        finetune(replace(fresh, data=data, codec=str(random_codec)))


@pytest.mark.slow
def test_gradient_checkpointing_gives_the_same_weights(fresh: FinetuneOptions, tmp_path: Path) -> None:
    plain, twice = (replace(fresh, output=tmp_path / name, steps=2, evaluate_every=99) for name in ("plain", "twice"))
    finetune(plain)
    finetune(replace(twice, gradient_checkpointing=True))
    for name, value in model_revision(plain.output).items():
        torch.testing.assert_close(model_revision(twice.output)[name], value, rtol=0, atol=1e-6)


def test_a_loss_that_is_not_finite_ends_the_run(fresh: FinetuneOptions) -> None:
    with pytest.raises(LlasaError, match="has diverged"):
        finetune(replace(fresh, learning_rate=1e30, gradient_norm=0, warm_up_steps=0, log_every=1, evaluate_every=99))


def test_a_diverged_model_does_not_replace_the_last_save(fresh: FinetuneOptions) -> None:
    """The save notices it long before the next line of the log."""
    wild = replace(fresh, learning_rate=1e30, gradient_norm=0, warm_up_steps=0, log_every=20, evaluate_every=99)
    with pytest.raises(LlasaError, match="diverged: at step 2 "):
        finetune(replace(wild, save_every_steps=1))
    assert [path.name for path in fresh.output.glob("checkpoint-*")] == ["checkpoint-1"]
    assert json.loads((fresh.output / "llasa.json").read_text())["steps"] == 1
    assert all(value.isfinite().all() for value in model_revision(fresh.output).values())


@pytest.fixture
def limit_files() -> Iterator[Callable[[int], None]]:
    """RLIMIT_FSIZE stands for a full disk: the same calls fail in the same places."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("size", [20_000, 100_000])
def test_a_full_disk_is_one_error_and_the_run_resumes_from_the_save_before(
    fresh: FinetuneOptions, limit_files: Callable[[int], None], size: int
) -> None:
    """The weights exceed 20 kB; with 100 kB they fit, and the optimizer's state does not."""
    options = replace(fresh, steps=4, save_every_steps=2, evaluate_every=99, log_every=1)

    def fill(line: dict[str, float]) -> None:
        if line["step"] == 3:
            limit_files(size)

    with pytest.raises(LlasaError, match="Step 4 can't be saved"):
        finetune(options, Callbacks(fill))
    assert json.loads((fresh.output / "llasa.json").read_text())["steps"] == 2
    limit_files(resource.getrlimit(resource.RLIMIT_FSIZE)[1])
    PromptFormat.load(fresh.output)
    assert len(model_revision(fresh.output)) > 0
    assert finetune(options)["steps"] == 4
    assert sorted(path.name for path in fresh.output.glob("checkpoint-*")) == ["checkpoint-2", "checkpoint-4"]
