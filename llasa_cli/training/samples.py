"""Speech samples during training: a few sentences, the same each time, as WAV files.

    spoken/0-0000500.wav    sentence 0 at step 500; spoken/sentences.txt lists the sentences

The model in memory speaks through transformers' `generate`, which also runs an adapter and a 16-bit model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llasa_cli.errors import LlasaError, UsageError
from llasa_cli.files import AtomicFile
from llasa_cli.prompt import PromptFormat
from llasa_cli.settings import SamplingRequest
from llasa_cli.training.options import FinetuneOptions
from llasa_cli.training.rows import Unusable
from llasa_cli.training.texts import encode_text

if TYPE_CHECKING:
    import torch

    from llasa_cli.training.dataset import TrainingRows

SENTENCES = 3
SECONDS = 12
FOLDER = "spoken"


class SpeechSamples:
    """Speaks the same sentences with the same seeds each time.

    Args:
        held_out: Rows whose first sentences are spoken where the options name none.
        codec: Folder of the codec.
        metadata: The checkpoint's llasa.json: its sampling, and the speaker of the options' sentences; held-out rows bring
            their own speaker.

    Raises:
        UsageError: There is no sentence, or one that the model can't read.
        ModelError: The folder holds no codec.
    """

    def __init__(
        self,
        options: FinetuneOptions,
        prompt_format: PromptFormat,
        held_out: TrainingRows | None,
        codec: Path,
        metadata: Mapping[str, Any],
    ) -> None:
        from llasa_cli.codec.codec import load_codec

        self._prompt_format, self._seed = prompt_format, options.seed
        self._sampling = SamplingRequest().over(metadata.get("sampling") or {})
        speaker = metadata.get("default_speaker")
        self._folder = options.output / FOLDER
        texts = [(_encode(prompt_format, text), speaker) for text in options.speak]
        if not texts and held_out is not None:
            rows = range(min(SENTENCES, len(held_out)))
            texts = [(held_out.decode(row)[0], held_out.speakers[row]) for row in rows]
        if not texts:
            raise UsageError(
                "The data has no held-out rows to take sentences for speech samples from.",
                "Give sentences with --speak.",
            )
        # A prompt is a row without codes, less its END; beside it, the same without text, for guidance.
        self._prompts = [
            [prompt_format.training_example(words, [], tag)[0][:-1] for words in (ids, [])] for ids, tag in texts
        ]
        self._codec = load_codec(codec, options.device)
        self._folder.mkdir(parents=True, exist_ok=True)
        words = [prompt_format.decode_text(ids) for ids, _ in texts]
        (self._folder / "sentences.txt").write_text("".join(f"{word}\n" for word in words), encoding="utf-8")

    def speak(self, model: Any, step: int, should_stop: Callable[[], bool] = lambda: False) -> list[Path]:
        """Write one WAV a sentence. torch's random state afterwards is the same as before.

        Args:
            should_stop: Called at every code. If it returns True, this sentence and the later ones are not written.
        """
        import soundfile
        import torch

        written: list[Path] = []
        devices = [model.device] if model.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            for number, (prompt, unconditional) in enumerate(self._prompts):
                torch.manual_seed(self._seed + number)
                codes = self._generate(model, prompt, unconditional, should_stop)
                if should_stop():
                    break
                path = self._folder / f"{number}-{step:07}.wav"
                samples = self._codec.decode(codes)
                try:
                    with AtomicFile(path) as target:
                        soundfile.write(target.file, samples, self._codec.sampling_rate, format="WAV")
                except (OSError, RuntimeError) as error:  # libsndfile's errors are RuntimeErrors
                    raise LlasaError(f"{path} can't be written: {error}") from error
                written.append(path)
        return written

    def _generate(
        self, model: Any, prompt: Sequence[int], unconditional: Sequence[int], should_stop: Callable[[], bool]
    ) -> list[int]:
        """Speech codes for one prompt."""
        import torch
        from transformers import LogitsProcessorList

        ids = torch.tensor([list(prompt)], device=model.device)  # (1, T)
        sampling = self._sampling
        drawn = {"temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": sampling.top_k}
        drawn |= {"min_p": sampling.min_p} if sampling.min_p > 0 else {}
        guided = {
            "guidance_scale": sampling.guidance,
            "negative_prompt_ids": torch.tensor([list(unconditional)], device=model.device),
        }
        generated = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            do_sample=sampling.temperature > 0,
            repetition_penalty=sampling.repetition_penalty,
            **(drawn if sampling.temperature > 0 else {}),
            **(guided if sampling.guidance != 1 else {}),
            max_new_tokens=round(SECONDS * self._prompt_format.codes_per_second),
            eos_token_id=self._prompt_format.end_id,
            pad_token_id=self._prompt_format.end_id,
            use_cache=True,
            logits_processor=LogitsProcessorList([_OnlySpeech(self._prompt_format, should_stop)]),
        )[0, len(prompt) :].tolist()
        first = self._prompt_format.first_code_id
        return [token - first for token in generated if token != self._prompt_format.end_id]


def _encode(prompt_format: PromptFormat, text: str) -> list[int]:
    try:
        return encode_text(prompt_format, text)
    except Unusable as why:
        raise UsageError(f"The model can't speak {text!r}: {why}.", "Give another sentence with --speak.") from why


class _OnlySpeech:
    """Allows codes and END only, END not as the first token; only END once the run should stop."""

    def __init__(self, prompt_format: PromptFormat, should_stop: Callable[[], bool]) -> None:
        self._prompt_format, self._should_stop = prompt_format, should_stop
        self._prompt_length: int | None = None

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Token ids (1, T) and logits (1, vocabulary) -> logits with the others at minus infinity."""
        import torch

        prompt_format = self._prompt_format
        allowed = torch.full_like(scores, float("-inf"))
        if self._should_stop():
            allowed[:, prompt_format.end_id] = 0
            return allowed
        codes = slice(prompt_format.first_code_id, prompt_format.first_code_id + prompt_format.code_count)
        allowed[:, codes] = scores[:, codes]
        if self._prompt_length is None:
            self._prompt_length = input_ids.shape[1]
        if input_ids.shape[1] > self._prompt_length:
            allowed[:, prompt_format.end_id] = scores[:, prompt_format.end_id]
        return allowed
