"""transformers' Trainer over batches of like length, with a clock, a log and checkpoints that describe themselves."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from llasa_cli.protocol import NO_LABEL, Protocol
from llasa_cli.settings import CODES_PER_SECOND, FinetuneOptions
from llasa_cli.training.data import Batches, Rows, collate
from llasa_cli.training.schedule import Clock, longest_row, rate_factor

PROGRESS_FILE = "progress.json"
"""Written last into each `checkpoint-N`: one without it was cut off by a kill."""
_ENDLESS = 1_000_000_000
"""Steps, for a run whose end is told in minutes."""


class SpeechTrainer(Trainer):
    """Train a Llama on `Rows`.

    Args:
        export: Called with the model and its step at each save; it writes the checkpoint that others read.
        on_log: Called with each line of the log.
    """

    def __init__(
        self,
        model: Any,
        options: FinetuneOptions,
        protocol: Protocol,
        rows: Rows,
        held_out: Rows | None,
        clock: Clock,
        device: torch.device,
        export: Callable[[Any, int, int], None],
        on_log: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        self.model: Any
        self.optimizer: Any
        self._options, self._protocol, self._clock = options, protocol, clock
        self._rows, self._held_out = rows, held_out
        self._export, self._on_log = export, on_log
        self.tokens_seen = 0
        self._mark, self._marked_tokens = time.monotonic(), 0
        super().__init__(
            model=model,
            args=_arguments(options, clock, device),
            train_dataset=rows,
            data_collator=collate,
            callbacks=[_Timekeeper(self, options, clock)],
        )
        self.remove_callback(PrinterCallback)  # it prints to stdout, which is for results

    # --- data and schedule ---

    def get_train_dataloader(self) -> DataLoader:
        batches = Batches(
            self._rows.lengths,
            self._options.tokens_per_batch,
            self._options.seed,
            # Read when the first batch is asked for, by when a resumed run knows its step.
            lambda: self.state.global_step * self._options.accumulate,
            self._rows.codes,
            self._most_codes if self._options.short_first > 0 else None,
        )
        loader: DataLoader = DataLoader(self._rows, batch_sampler=batches, collate_fn=collate)  # type: ignore[arg-type]
        prepared: DataLoader = self.accelerator.prepare(loader)
        return prepared

    def _most_codes(self, batch: int) -> float:
        share = self._clock.share(batch // self._options.accumulate)
        return longest_row(share, self._options.short_first, CODES_PER_SECOND, float(self._rows.codes.max()))

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        options = self._options

        def factor(step: int) -> float:
            return rate_factor(step, self._clock.share(step), options.warm_up_steps, options.decay_share)

        self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer if optimizer is not None else self.optimizer, factor
        )
        self._created_lr_scheduler = True
        return self.lr_scheduler

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> torch.Tensor:
        self.tokens_seen += int(inputs.pop("lengths").sum())
        return super().training_step(model, inputs, num_items_in_batch)

    # --- judging ---

    @torch.no_grad()
    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Held-out cross-entropy in nats a code, with the true text and with another row's.

        Their difference is the text gain: how much the model uses the text. It shows alignment long before the
        speech can be understood.
        """
        rows = self._held_out
        if rows is None or len(rows) == 0:
            return {}
        began = time.monotonic()
        chosen = np.random.default_rng(0).permutation(len(rows))[: self._options.evaluate_rows]
        chosen = chosen[np.argsort(rows.lengths[chosen], kind="stable")]
        sums, codes = np.zeros(2), 0
        self.model.eval()
        for group in np.array_split(chosen, max(1, int(rows.lengths[chosen].sum()) // self._options.tokens_per_batch)):
            own = [rows.parts(int(row)) for row in group]
            tags = [rows.speakers[int(row)] for row in group]
            others = own[1:] + own[:1]
            if len(own) == 1:
                others = [rows.parts(int(chosen[0] if group[0] != chosen[0] else chosen[-1]))]
            true = [rows.wrap(text, spoken, tag) for (text, spoken), tag in zip(own, tags, strict=True)]
            false = [
                rows.wrap(other[0], spoken, tag) for other, (_, spoken), tag in zip(others, own, tags, strict=True)
            ]
            sums += [self._code_loss(true), self._code_loss(false)]
            codes += sum(len(spoken) for _, spoken in own)
        self.model.train()
        metrics = {
            "held_out": round(float(sums[0] / codes), 4),
            "text_gain": round(float((sums[1] - sums[0]) / codes), 4),
        }
        self._mark += time.monotonic() - began  # the log's tokens a second are of training
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _code_loss(self, items: list[dict[str, np.ndarray]]) -> float:
        """Summed cross-entropy over the codes alone: START says nothing, and END little."""
        batch = collate(items)
        labels = batch["labels"]
        first = self._protocol.first_code_id
        labels[(labels < first) | (labels >= first + self._protocol.code_count)] = NO_LABEL
        with self.compute_loss_context_manager(), self.accelerator.autocast():
            out = self.model(
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
        line: dict[str, Any] = {"step": self.state.global_step, "minutes": round(self._clock.spent() / 60, 2)}
        line |= {"share": round(self._clock.share(self.state.global_step), 4), "tokens": self.tokens_seen}
        if "loss" in logs:
            now = time.monotonic()
            line["tokens_per_s"] = round((self.tokens_seen - self._marked_tokens) / max(now - self._mark, 1e-6))
            self._mark, self._marked_tokens = now, self.tokens_seen
        line |= {name: round(float(value), 7) for name, value in logs.items() if name != "epoch"}
        if self.is_world_process_zero():
            with (self._options.output / "log.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        self.control = self.callback_handler.on_log(self.args, self.state, self.control, logs)
        if self._on_log is not None:
            self._on_log(line)

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Not counted: nothing here reads it."""
        return 0

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        began = time.monotonic()
        super()._save_checkpoint(model, trial)
        if self.is_world_process_zero():
            self._export(self.accelerator.unwrap_model(model), self.state.global_step, self.tokens_seen)
            folder = self._options.output / f"checkpoint-{self.state.global_step}"
            write_json(folder / PROGRESS_FILE, {"seconds": self._clock.spent(), "tokens": self.tokens_seen})
        self._mark += time.monotonic() - began


class _Timekeeper(TrainerCallback):
    """Tells the Trainer when to save, to evaluate and to stop."""

    def __init__(self, trainer: SpeechTrainer, options: FinetuneOptions, clock: Clock) -> None:
        self._trainer, self._options, self._clock = trainer, options, clock
        self._saved = 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._clock.start()
        self._saved = self._clock.spent()
        self._trainer._mark, self._trainer._marked_tokens = time.monotonic(), self._trainer.tokens_seen

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        over = self._clock.share(state.global_step) >= 1
        control.should_training_stop |= over
        control.should_evaluate |= over or state.global_step % self._options.evaluate_every == 0
        control.should_save |= over or self._clock.spent() - self._saved >= self._options.save_every_minutes * 60
        if control.should_save:
            self._saved = self._clock.spent()
        return control


def write_json(path: Path, content: Any) -> None:
    """Written beside and renamed: whole or not there."""
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    part.replace(path)


def _arguments(options: FinetuneOptions, clock: Clock, device: torch.device) -> TrainingArguments:
    bf16 = options.bf16 if options.bf16 is not None else device.type == "cuda"
    return TrainingArguments(
        output_dir=str(options.output),
        max_steps=clock.steps if clock.steps is not None else _ENDLESS,
        gradient_accumulation_steps=options.accumulate,
        learning_rate=options.learning_rate,
        adam_beta1=options.betas[0],
        adam_beta2=options.betas[1],
        weight_decay=options.weight_decay,
        max_grad_norm=options.gradient_norm,
        optim="adamw_torch_fused" if device.type in ("cpu", "cuda") else "adamw_torch",
        bf16=bf16,
        use_cpu=device.type == "cpu",
        seed=options.seed,
        logging_strategy="steps",
        logging_steps=options.log_every,
        save_strategy="no",  # `_Timekeeper` says when
        eval_strategy="no",
        save_total_limit=2,
        ignore_data_skip=True,  # `Batches` leaves out what was done without reading it
        remove_unused_columns=False,
        dataloader_pin_memory=device.type == "cuda",
        disable_tqdm=True,
        report_to=[],
        accelerator_config={"even_batches": False},  # batches have no fixed size to be evened to
    )
