"""transformers' Trainer over length-grouped batches, with a clock, a log, and checkpoints that `llasa say` can read.

Several processes (torchrun, Slurm) share a step: each computes its own batches, the loss is divided by the number of labels in
all of them, and process 0 decides what depends on the clock.

At the end of a step the order is: progress, log, evaluation, save, speech samples. A failed speech sample does not stop training.
"""

from __future__ import annotations

import json
import math
import time
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback
from transformers.trainer_callback import PrinterCallback

from llasa_cli.errors import LlasaError
from llasa_cli.files import write_json
from llasa_cli.prompt import NO_LABEL
from llasa_cli.settings import CODES_PER_SECOND
from llasa_cli.training.dataset import LengthGroupedBatchSampler, collate
from llasa_cli.training.evaluation import evaluate_rows, evaluation_batches
from llasa_cli.training.loss import class_forward
from llasa_cli.training.loss_plot import draw_losses
from llasa_cli.training.model import without_adapter
from llasa_cli.training.run import Callbacks, Run, RunProgress
from llasa_cli.training.run_state import PROGRESS_FILE, export_checkpoint, read_progress, use_umask
from llasa_cli.training.samples import SpeechSamples
from llasa_cli.training.schedule import LearningRate, max_codes_at
from llasa_cli.training.stop_signal import StopSignals
from llasa_cli.wording import first_line

LOG_FILE, PLOT_FILE = "log.jsonl", "loss.svg"
FIRST_SAVE_S = 60.0
"""A new run saves once after this time, so that `llasa say -m` works early and a full disk is found early."""
_PROGRESS_EVERY_S = 0.3
"""Reading the loss waits for the GPU, so progress is not reported after each of many short steps."""


class SpeechTrainer(Trainer):
    """Trains a Llama on rows of speech.

    Args:
        stop: Its request is looked at after each step, and while the model is evaluated or speaks.
        samples: The sentences to speak every `speak_every` steps.
    """

    def __init__(
        self, model: Any, run: Run, callbacks: Callbacks, stop: StopSignals, samples: SpeechSamples | None = None
    ) -> None:
        self.model: Any
        self.optimizer: Any
        self._run, self._callbacks, self._stop, self._samples = run, callbacks, stop, samples
        self._options, self._prompt_format, self._clock = run.options, run.prompt_format, run.clock
        options = run.options
        assert options.warm_up_steps is not None, "set by starting_point.with_learning_rate"
        self._rate = LearningRate(
            options.schedule, options.warm_up_steps, options.decay_share, options.warm_up_share, run.clock.steps
        )
        self._agreed_share: float | None = None
        self._first_share = 0.0
        self._loss_since_log = torch.zeros(())
        self._speech_due = False
        self._shown_at = -math.inf
        self.tokens_seen = int(read_progress(run.start.resumed).get("tokens", 0))
        self._mark, self._marked_tokens = time.monotonic(), 0
        super().__init__(
            model=model,
            args=run.arguments,
            train_dataset=run.rows,  # type: ignore[arg-type]
            data_collator=collate,
            callbacks=[_Timekeeper(self, run)],
        )
        self.remove_callback(PrinterCallback)  # it prints to stdout, which is reserved for results

    # --- data and schedule ---

    def share(self, step: int) -> float:
        """The share of the run that is done: by the clock of process 0 where there are several."""
        if self.args.world_size == 1 or self._clock.seconds is None:
            return self._clock.share(step)
        return self._clock.share(step) if self._agreed_share is None else self._agreed_share

    def agree(self, share: float, save: bool, stop: bool) -> tuple[float, bool, bool]:
        """Agree among all processes: share and save are those of process 0, and stop is true if any process wants to stop."""
        if self.args.world_size == 1:
            return share, save, stop
        first = self.is_world_process_zero()
        values = torch.tensor(
            [share if first else 0.0, float(save and first), float(stop)], dtype=torch.float64, device=self.args.device
        )
        torch.distributed.all_reduce(values, torch.distributed.ReduceOp.MAX)
        agreed = values.tolist()
        return agreed[0], bool(agreed[1]), bool(agreed[2])

    def get_train_dataloader(self) -> DataLoader:
        """A plain loader, not accelerate's: each process skips the batches of the others, and the seed gives the order."""
        options, rows = self._options, self._run.rows
        batches = LengthGroupedBatchSampler(
            rows.lengths,
            options.tokens_per_batch,
            options.seed,
            # Called for the first batch, when a resumed run knows its step.
            skip_batches=lambda: self.state.global_step * options.accumulate,
            codes=rows.codes,
            max_codes=self._max_codes if options.length_curriculum > 0 else None,
            rows_per_batch=options.rows_per_batch,
            rank=self.args.process_index,
            world_size=self.args.world_size,
        )
        loader: DataLoader = DataLoader(
            rows,  # type: ignore[arg-type]
            batch_sampler=batches,  # type: ignore[arg-type]
            collate_fn=collate,
            num_workers=self.args.dataloader_num_workers,
            prefetch_factor=self.args.dataloader_prefetch_factor if self.args.dataloader_num_workers else None,
            pin_memory=self.args.dataloader_pin_memory,
            # Otherwise the loader draws its seed from torch's global generator, and a resumed run would draw other
            # dropout than one that was not interrupted.
            generator=torch.Generator().manual_seed(options.seed),
        )
        return loader

    def _max_codes(self, batch: int) -> float:
        share = self.share(batch // (self._options.accumulate * self.args.world_size))
        return max_codes_at(share, self._options.length_curriculum, CODES_PER_SECOND, float(self._run.rows.codes.max()))

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        def factor(step: int) -> float:
            return self._rate.factor(step, self.share(step))

        self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer if optimizer is not None else self.optimizer, factor
        )
        self._created_lr_scheduler = True
        return self.lr_scheduler

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """Load the optimizer's state, but keep the current options (weight decay, betas, rate)."""
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
        self.lr_scheduler._last_lr = [group["lr"] for group in self.optimizer.param_groups]  # shown in the log

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: torch.device) -> Any:
        """The batches of a step, and the number of labels in all processes' batches, by which its loss is divided."""
        batches, labels = super().get_batch_samples(epoch_iterator, num_batches, device)
        own = sum(int(batch.pop("lengths").sum()) for batch in batches)  # the model takes no `lengths`
        if self.args.world_size > 1:
            own = int(self.accelerator.reduce(torch.tensor(own, device=self.args.device)).item())
        self.tokens_seen += own
        return batches, labels

    # --- evaluation and speech ---

    @property
    def _is_sharded(self) -> bool:
        """Whether no process has all weights."""
        stage = getattr(getattr(self.accelerator.state, "deepspeed_plugin", None), "zero_stage", 0)
        return bool(self.is_fsdp_enabled or (self.is_deepspeed_enabled and stage == 3))

    @torch.no_grad()
    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Held-out loss and text gain, see `evaluation.evaluate_rows`; empty without held-out rows."""
        rows = self._run.held_out
        if rows is None or len(rows) == 0:
            return {}
        began = time.monotonic()
        model = self.model_wrapped if self.is_deepspeed_enabled or self.is_fsdp_enabled else self.model
        alone = self.args.world_size == 1  # several processes must all compute every batch
        model.eval()
        metrics = evaluate_rows(
            rows,
            evaluation_batches(rows, self._options.evaluate_rows, self._options.tokens_per_batch),
            self._prompt_format,
            lambda items: self._code_loss(model, items),
            lambda: alone and self._stop.requested,
        )
        model.train()
        self._mark += time.monotonic() - began  # the log's tokens a second count training alone
        if metrics:
            self.log(metrics)
            self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _code_loss(self, model: Any, items: list[dict[str, np.ndarray]]) -> float:
        """Summed cross-entropy over the codes alone, without START and END."""
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

    def _speak(self) -> None:
        """Write speech samples, outside the trainer's autocast. An error becomes a warning."""
        if self._samples is None or not self.is_world_process_zero():
            return
        began, step = time.monotonic(), self.state.global_step
        if self._is_sharded:
            self._callbacks.on_note("warning: no speech samples are written, because no process holds all weights.")
            self._samples = None
            return
        model = self.accelerator.unwrap_model(self.model)
        model.eval()
        try:
            with torch.no_grad(), class_forward(model, without_adapter(model)):
                self._samples.speak(model, step, lambda: self._stop.requested)
        except Exception as error:  # whatever it is, the training is worth more than a sample
            self._callbacks.on_note(f"warning: no speech samples were written at step {step}: {first_line(error)}")
        finally:
            model.train()
        self._mark += time.monotonic() - began

    # --- log and checkpoints ---

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add a line to log.jsonl, in place of transformers' own record, which grows inside each checkpoint."""
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
        self._callbacks.on_log(line)

    def _diverged(self) -> LlasaError:
        return LlasaError(
            f"The training has diverged: at step {self.state.global_step} the loss or a weight is NaN or infinite.",
            "Use a lower --learning-rate. The same command resumes from the last save; another -o starts a new run.",
        )

    def _maybe_log_save_evaluate(self, tr_loss: torch.Tensor, *rest: Any, **others: Any) -> None:
        self._loss_since_log = tr_loss
        self._report_progress(tr_loss)
        super()._maybe_log_save_evaluate(tr_loss, *rest, **others)
        if self._speech_due:
            self._speech_due = False
            self._speak()

    def _report_progress(self, tr_loss: torch.Tensor) -> None:
        step, report = self.state.global_step, self._callbacks.on_progress
        steps = step - self._globalstep_last_logged
        if report is None or steps <= 0 or time.monotonic() - self._shown_at < _PROGRESS_EVERY_S:
            return
        self._shown_at = time.monotonic()
        share = self.share(step)
        left_s = self._clock.left(share, self._first_share)
        report(RunProgress(step, share, float(tr_loss) / steps, left_s))

    @torch.no_grad()
    def _is_finite(self, model: Any) -> bool:
        """Whether the loss since the last log and every weight are finite, in all processes."""
        wrong = torch.zeros((), device=self.args.device)
        for value in (self._loss_since_log, *model.parameters()):
            wrong += (~torch.isfinite(value)).any().to(wrong.device)
        return float(self.accelerator.reduce(wrong) if self.args.world_size > 1 else wrong) == 0

    def draw_losses(self) -> None:
        """Draw the losses so far as a picture."""
        if self.is_world_process_zero():
            draw_losses(self._options.output / LOG_FILE, self._options.output / PLOT_FILE)

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Always 0: the figure is not used."""
        return 0

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Save; an earlier save stays whole if this one fails.

        Raises:
            LlasaError: The run has diverged, or the disk is full or gone.
        """
        if not self._is_finite(model):
            raise self._diverged()
        try:
            self._write_checkpoint(model, trial)
        except (OSError, RuntimeError, SafetensorError) as error:  # torch's writer raises RuntimeError
            raise LlasaError(
                f"Step {self.state.global_step} can't be saved in {self._options.output}: {first_line(error)}",
                "Free some disk space; the same command resumes from the save before.",
            ) from error

    def _write_checkpoint(self, model: Any, trial: Any) -> None:
        began = time.monotonic()
        super()._save_checkpoint(model, trial)
        # All processes together gather weights that are split between them.
        sharded = self.is_deepspeed_enabled or self.is_fsdp_enabled
        state = self.accelerator.get_state_dict(self.model_wrapped) if sharded else None
        self.accelerator.wait_for_everyone()
        if self.is_world_process_zero():
            step, output = self.state.global_step, self._options.output
            metadata = self._run.metadata | {"steps": step, "tokens": self.tokens_seen}
            export_checkpoint(self.accelerator.unwrap_model(model), output, metadata, state)
            folder = output / f"checkpoint-{step}"
            use_umask(folder)
            write_json(folder / PROGRESS_FILE, {"seconds": self._clock.spent(), "tokens": self.tokens_seen})
        self.draw_losses()
        self._mark += time.monotonic() - began

    def begin(self) -> None:
        """Count time and tokens from here."""
        self._mark, self._marked_tokens = time.monotonic(), self.tokens_seen
        self._first_share, _, _ = self.agree(self._clock.share(self.state.global_step), False, False)
        self._agreed_share = self._first_share


class _Timekeeper(TrainerCallback):
    """Decides after each step whether to log, evaluate, save, speak and stop."""

    def __init__(self, trainer: SpeechTrainer, run: Run) -> None:
        self._trainer, self._options, self._clock = trainer, run.options, run.clock
        self._saved_at = 0.0
        self._has_checkpoint = False
        self._first_step = 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._clock.start()
        self._saved_at = self._clock.spent()
        self._first_step = state.global_step + 1
        self._has_checkpoint = state.global_step > 0
        self._trainer.begin()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        options, trainer, step = self._options, self._trainer, state.global_step
        unsaved_s = self._clock.spent() - self._saved_at
        due = unsaved_s >= options.save_every_minutes * 60 or (not self._has_checkpoint and unsaved_s >= FIRST_SAVE_S)
        share, save, stop = trainer.agree(self._clock.share(step), due, trainer._stop.requested)
        trainer._agreed_share = share
        over = share >= 1
        speak = options.speak_every > 0 and (over or step % options.speak_every == 0) and not stop
        save |= over or stop or bool(options.save_every_steps and step % options.save_every_steps == 0)
        save |= speak and not self._has_checkpoint  # nothing is lost should the process die while it speaks
        control.should_training_stop |= over or stop
        control.should_log |= over or stop or step == self._first_step
        control.should_evaluate |= not stop and (over or step % options.evaluate_every == 0)
        control.should_save |= save
        trainer._speech_due = speak
        if control.should_save:
            self._saved_at, self._has_checkpoint = self._clock.spent(), True
        return control
