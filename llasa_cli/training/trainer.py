"""transformers' Trainer over batches of like length, with a clock, a log and checkpoints that describe themselves.

Several processes (torchrun, Slurm) share a step: each takes its batches of it, the loss is divided by the labels of all of
them, and what depends on the clock is told by the first.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from safetensors import SafetensorError
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from llasa_cli.errors import LlasaError
from llasa_cli.files import write_json
from llasa_cli.prompt import NO_LABEL, PromptFormat
from llasa_cli.settings import CODES_PER_SECOND, FinetuneOptions
from llasa_cli.training.dataset import LengthGroupedBatchSampler, collate
from llasa_cli.training.loss_plot import draw_curve
from llasa_cli.training.run_state import PROGRESS_FILE
from llasa_cli.training.schedule import Clock, Rate, longest_row

LOG_FILE, CURVE_FILE = "log.jsonl", "loss.svg"


class Data(Protocol):
    """What can be trained on: `data.SpeechDataset`, `online.AudioRows`, `chat.ConcatDataset`."""

    lengths: np.ndarray
    codes: np.ndarray
    speakers: list[str | None]

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> dict[str, np.ndarray]: ...
    def parts(self, index: int) -> tuple[list[int], list[int]]: ...
    def wrap(self, text: Any, codes: Any, speaker: str | None) -> dict[str, np.ndarray]: ...


@dataclass(frozen=True)
class Hooks:
    """What happens outside while a run goes on.

    Attributes:
        export: Called by the first process at each save with the model, its gathered tensors (None: the model's own),
            the step and the tokens seen; it writes the checkpoint that others read.
        log: Called with each line of the log.
        speak: Called with the model and the step when samples are due.
        progress: Called after each step with the step and the share of the run.
    """

    export: Callable[[Any, Any, int, int], None]
    log: Callable[[dict[str, Any]], None] | None = None
    speak: Callable[[Any, int], object] | None = None
    progress: Callable[[int, float], None] | None = None


class SpeechTrainer(Trainer):
    """Train a Llama on rows of speech.

    Args:
        arguments: From `arguments.training_arguments`.
        rows, held_out: To train and to judge on.
    """

    def __init__(
        self,
        model: Any,
        options: FinetuneOptions,
        arguments: TrainingArguments,
        prompt_format: PromptFormat,
        rows: Data,
        held_out: Data | None,
        clock: Clock,
        hooks: Hooks,
    ) -> None:
        self.model: Any
        self.optimizer: Any
        self._options, self._prompt_format, self._clock, self._hooks = options, prompt_format, clock, hooks
        self._rows, self._held_out = rows, held_out
        self._rate = Rate(
            options.schedule, options.warm_up_steps, options.decay_share, options.warm_up_share, clock.steps
        )
        self._agreed: float | None = None
        self._loss_since_log = torch.zeros(())
        self.tokens_seen = 0
        self._mark, self._marked_tokens = time.monotonic(), 0
        super().__init__(
            model=model,
            args=arguments,
            train_dataset=rows,  # type: ignore[arg-type]
            data_collator=collate,
            callbacks=[_Timekeeper(self, options, clock)],
        )
        self.remove_callback(PrinterCallback)  # it prints to stdout, which is for results

    # --- data and schedule ---

    def share(self, step: int) -> float:
        """How much of the run is done: by one clock, where several processes would read different ones."""
        if self.args.world_size == 1 or self._clock.seconds is None:
            return self._clock.share(step)
        return self._clock.share(step) if self._agreed is None else self._agreed

    def agree(self, *numbers: float) -> list[float]:
        """The first process's numbers, in all of them."""
        if self.args.world_size == 1:
            return list(numbers)
        told = torch.tensor(numbers, dtype=torch.float64, device=self.args.device)
        torch.distributed.broadcast(told, 0)
        values: list[float] = told.tolist()
        return values

    def get_train_dataloader(self) -> DataLoader:
        """Not accelerate's: each process leaves out by itself what is another's, and the order is told by the seed."""
        options = self._options
        batches = LengthGroupedBatchSampler(
            self._rows.lengths,
            options.tokens_per_batch,
            options.seed,
            # Read when the first batch is asked for, by when a resumed run knows its step.
            lambda: self.state.global_step * options.accumulate,
            self._rows.codes,
            self._most_codes if options.short_first > 0 else None,
            options.rows_per_batch,
            self.args.process_index,
            self.args.world_size,
        )
        loader: DataLoader = DataLoader(
            self._rows,  # type: ignore[arg-type]
            batch_sampler=batches,  # type: ignore[arg-type]
            collate_fn=collate,
            num_workers=self.args.dataloader_num_workers,
            prefetch_factor=self.args.dataloader_prefetch_factor if self.args.dataloader_num_workers else None,
            pin_memory=self.args.dataloader_pin_memory,
            # Otherwise the loader draws its seed from torch's own stream, and a run resumed in the middle draws other
            # dropout than a straight one.
            generator=torch.Generator().manual_seed(options.seed),
        )
        return loader

    def _most_codes(self, batch: int) -> float:
        share = self.share(batch // (self._options.accumulate * self.args.world_size))
        return longest_row(share, self._options.short_first, CODES_PER_SECOND, float(self._rows.codes.max()))

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        def factor(step: int) -> float:
            return self._rate.factor(step, self.share(step))

        self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer if optimizer is not None else self.optimizer, factor
        )
        self._created_lr_scheduler = True
        return self.lr_scheduler

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """The optimiser's state comes back, and with it the settings of then; those that are asked for now count."""
        wanted = [
            {name: group[name] for name in ("weight_decay", "betas", "eps") if name in group}
            for group in self.optimizer.param_groups
        ]
        super()._load_optimizer_and_scheduler(checkpoint)
        for group, settings in zip(self.optimizer.param_groups, wanted, strict=True):
            group.update(settings)
        if not isinstance(self.lr_scheduler, torch.optim.lr_scheduler.LambdaLR):
            return
        rates, peak = self.lr_scheduler.base_lrs, self.args.learning_rate
        for number, group in enumerate(self.optimizer.param_groups):
            if rates[number] != peak:
                group["lr"] *= peak / rates[number] if rates[number] else 0
                rates[number] = peak
        self.lr_scheduler._last_lr = [group["lr"] for group in self.optimizer.param_groups]  # what the log tells

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: torch.device) -> Any:
        """The batches of a step, and the labels of all processes' batches, which its loss is divided by."""
        batches, labels = super().get_batch_samples(epoch_iterator, num_batches, device)
        # All processes' tokens: `lengths` never gets to the model.
        own = sum(int(batch.pop("lengths").sum()) for batch in batches)
        if self.args.world_size > 1:
            own = int(self.accelerator.reduce(torch.tensor(own, device=self.args.device)).item())
        self.tokens_seen += own
        return batches, labels

    # --- judging ---

    @torch.no_grad()
    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Held-out cross-entropy in nats a code, with the true text and with another row's.

        Their difference is the text gain: how much the model uses the text. It shows alignment long before the
        speech can be understood. A single row has no other's text, and so no text gain.
        """
        rows = self._held_out
        if rows is None or len(rows) == 0:
            return {}
        began = time.monotonic()
        chosen = np.random.default_rng(0).permutation(len(rows))[: self._options.evaluate_rows]
        chosen = chosen[np.argsort(rows.lengths[chosen], kind="stable")]
        sums, codes = np.zeros(2), 0
        has_others = len(chosen) > 1
        model = self.model_wrapped if self.is_deepspeed_enabled or self.is_fsdp_enabled else self.model
        model.eval()
        parts = max(1, int(rows.lengths[chosen].sum()) // self._options.tokens_per_batch)
        for group in np.array_split(chosen, min(len(chosen), parts)):  # a row may be longer than a batch
            own = [rows.parts(int(row)) for row in group]
            tags = [rows.speakers[int(row)] for row in group]
            others = own[1:] + own[:1]
            if len(own) == 1:
                others = [rows.parts(int(chosen[0] if group[0] != chosen[0] else chosen[-1]))]
            true = [rows.wrap(text, spoken, tag) for (text, spoken), tag in zip(own, tags, strict=True)]
            false = [
                rows.wrap(other[0], spoken, tag) for other, (_, spoken), tag in zip(others, own, tags, strict=True)
            ]
            sums += [self._code_loss(model, true), self._code_loss(model, false) if has_others else 0.0]
            codes += sum(len(spoken) for _, spoken in own)
        model.train()
        metrics = {"held_out": round(float(sums[0] / codes), 4)}
        if has_others:
            metrics["text_gain"] = round(float((sums[1] - sums[0]) / codes), 4)
        self._mark += time.monotonic() - began  # the log's tokens a second are of training
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def speak(self) -> None:
        """Samples for the ear. Not where the weights lie in pieces: every process would have to speak along."""
        if self._hooks.speak is None or not self.is_world_process_zero():
            return
        began = time.monotonic()
        self.model.eval()
        with torch.no_grad(), self.compute_loss_context_manager(), self.accelerator.autocast():
            self._hooks.speak(self.accelerator.unwrap_model(self.model), self.state.global_step)
        self.model.train()
        self._mark += time.monotonic() - began

    def _code_loss(self, model: Any, items: list[dict[str, np.ndarray]]) -> float:
        """Summed cross-entropy over the codes alone: START says nothing, and END little."""
        batch = collate(items)
        labels = batch["labels"]
        first = self._prompt_format.first_code_id
        labels[(labels < first) | (labels >= first + self._prompt_format.code_count)] = NO_LABEL
        with self.compute_loss_context_manager(), self.accelerator.autocast():
            out = model(
                input_ids=batch["input_ids"].to(self.args.device),
                labels=labels.to(self.args.device),
                num_items_in_batch=1,
            )
        return float(out.loss)

    # --- records ---

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """One line into log.jsonl instead of transformers' own record, which grows inside each checkpoint."""
        if "train_runtime" in logs:
            return
        if not math.isfinite(logs.get("loss", 0.0)):
            raise self._diverged()
        share = self.share(self.state.global_step)
        line: dict[str, Any] = {"step": self.state.global_step, "minutes": round(self._clock.spent() / 60, 2)}
        line |= {"share": round(share, 4), "tokens": self.tokens_seen}
        if "loss" in logs:
            now = time.monotonic()
            line["tokens_per_s"] = round((self.tokens_seen - self._marked_tokens) / max(now - self._mark, 1e-6))
            self._mark, self._marked_tokens = now, self.tokens_seen
            line["left_s"] = round(self._clock.left(share, self._first_share))
        line |= {name: round(float(value), 7) for name, value in logs.items() if name != "epoch"}
        self.control = self.callback_handler.on_log(self.args, self.state, self.control, logs)
        if not self.is_world_process_zero():
            return
        with (self._options.output / LOG_FILE).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        if self._hooks.log is not None:
            self._hooks.log(line)

    def _diverged(self) -> LlasaError:
        return LlasaError(
            f"The loss is no longer a number, by step {self.state.global_step}.",
            "Take a lower --learning-rate; the same command goes on from the last save, another folder begins anew.",
        )

    def _maybe_log_save_evaluate(self, tr_loss: torch.Tensor, *rest: Any, **others: Any) -> None:
        self._loss_since_log = tr_loss
        super()._maybe_log_save_evaluate(tr_loss, *rest, **others)

    @torch.no_grad()
    def _is_sound(self, model: Any) -> bool:
        """The loss since the last log and every weight are numbers, in all processes."""
        wrong = torch.zeros((), device=self.args.device)
        for value in (self._loss_since_log, *model.parameters()):
            wrong += (~torch.isfinite(value)).any().to(wrong.device)
        return float(self.accelerator.reduce(wrong) if self.args.world_size > 1 else wrong) == 0

    def draw(self) -> None:
        """The losses so far, as a picture."""
        if self.is_world_process_zero():
            draw_curve(self._options.output / LOG_FILE, self._options.output / CURVE_FILE)

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Not counted: nothing here reads it."""
        return 0

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Raises LlasaError: The run has diverged, or the disk is full, or gone. What was saved before is whole."""
        if not self._is_sound(model):
            raise self._diverged()
        try:
            self._write_checkpoint(model, trial)
        except (OSError, RuntimeError, SafetensorError) as error:  # torch's writer raises RuntimeError
            raise LlasaError(
                f"Step {self.state.global_step} can't be saved in {self._options.output}: {str(error).splitlines()[0]}",
                "Make room: the same command goes on from the save before.",
            ) from error

    def _write_checkpoint(self, model: Any, trial: Any) -> None:
        began = time.monotonic()
        super()._save_checkpoint(model, trial)
        # Weights that lie in pieces are gathered by all processes together.
        sharded = self.is_deepspeed_enabled or self.is_fsdp_enabled
        state = self.accelerator.get_state_dict(self.model_wrapped) if sharded else None
        self.accelerator.wait_for_everyone()
        if self.is_world_process_zero():
            self._hooks.export(self.accelerator.unwrap_model(model), state, self.state.global_step, self.tokens_seen)
            folder = self._options.output / f"checkpoint-{self.state.global_step}"
            write_json(folder / PROGRESS_FILE, {"seconds": self._clock.spent(), "tokens": self.tokens_seen})
        self.draw()
        self._mark += time.monotonic() - began

    def begin(self) -> None:
        """Training starts: time and tokens are counted from here."""
        self._mark, self._marked_tokens = time.monotonic(), self.tokens_seen
        (self._agreed,) = self.agree(self._clock.share(self.state.global_step))
        self._first_share = self._agreed


class _Timekeeper(TrainerCallback):
    """Tells the Trainer when to save, to evaluate and to stop."""

    def __init__(self, trainer: SpeechTrainer, options: FinetuneOptions, clock: Clock) -> None:
        self._trainer, self._options, self._clock = trainer, options, clock
        self._saved = 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._clock.start()
        self._saved = self._clock.spent()
        self._trainer.begin()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        options, trainer, step = self._options, self._trainer, state.global_step
        due = self._clock.spent() - self._saved >= options.save_every_minutes * 60
        share, save = trainer.agree(self._clock.share(step), float(due))
        trainer._agreed = share
        over = share >= 1
        control.should_training_stop |= over
        control.should_log |= over
        control.should_evaluate |= over or step % options.evaluate_every == 0
        control.should_save |= (
            over or bool(save) or bool(options.save_every_steps and step % options.save_every_steps == 0)
        )
        if control.should_save:
            self._saved = self._clock.spent()
        if options.speak_every > 0 and (over or step % options.speak_every == 0):
            trainer.speak()
        if trainer._hooks.progress is not None:
            trainer._hooks.progress(step, share)
        return control
