"""What the model says in the middle of its training: a few sentences, always the same, kept as WAV files.

    spoken/0-0000500.wav    sentence 0 at step 500; spoken/sentences.txt tells what they are

The model speaks as it is in memory, by transformers' own `generate`, which runs an adapter and a 16-bit model as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llasa_cli.errors import LlasaError, UsageError
from llasa_cli.prompt import PromptFormat
from llasa_cli.settings import CODES_PER_SECOND, FinetuneOptions, SamplingRequest
from llasa_cli.training.row_check import Unusable
from llasa_cli.training.texts import text_ids

if TYPE_CHECKING:
    import torch

    from llasa_cli.training.trainer import Data

SENTENCES = 3
SECONDS = 12
FOLDER = "spoken"


class Samples:
    """Speaks the same sentences with the same seeds each time.

    Args:
        held_out: Whose first sentences are spoken where the options name none.
        codec: Its folder.
        about: The checkpoint's llasa.json: its sampling, and the tag for texts of the options; held-out rows bring their own.

    Raises:
        UsageError: There is nothing to speak, or what the model does not read.
        ModelError: No codec in the folder.
    """

    def __init__(
        self,
        options: FinetuneOptions,
        prompt_format: PromptFormat,
        held_out: Data | None,
        codec: Path,
        about: Mapping[str, Any],
    ) -> None:
        from llasa_cli.codec.codec import load_codec

        self._prompt_format, self._seed = prompt_format, options.seed
        self._sampling = SamplingRequest().over(about.get("sampling") or {})
        speaker = about.get("default_speaker")
        self._folder = options.output / FOLDER
        texts = [(_ids(prompt_format, text), speaker) for text in options.speak]
        if not texts and held_out is not None:
            rows = range(min(SENTENCES, len(held_out)))
            texts = [(held_out.parts(row)[0], held_out.speakers[row]) for row in rows]
        if not texts:
            raise UsageError("There is nothing to speak: the data has no held-out rows.", "Give sentences by --speak.")
        # Everything before the first code: a row without codes, less END.
        self._prompts = [
            [prompt_format.training_example(said, [], tag)[0][:-1] for said in (ids, [])] for ids, tag in texts
        ]
        self._codec = load_codec(codec, options.device)
        self._folder.mkdir(parents=True, exist_ok=True)
        words = [prompt_format.text_of(ids) for ids, _ in texts]
        (self._folder / "sentences.txt").write_text("".join(f"{word}\n" for word in words), encoding="utf-8")

    def speak(self, model: Any, step: int) -> list[Path]:
        """One WAV a sentence. torch's random numbers go on as if nothing had been spoken."""
        import soundfile
        import torch

        written = []
        devices = [model.device] if model.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            for number, (prompt, unconditional) in enumerate(self._prompts):
                torch.manual_seed(self._seed + number)
                codes = self._codes(model, prompt, unconditional)
                path = self._folder / f"{number}-{step:07}.wav"
                part = path.with_name(path.name + ".part")
                try:
                    soundfile.write(part, self._codec.decode(codes), self._codec.sampling_rate, format="WAV")
                except OSError as error:
                    raise LlasaError(f"{path} can't be written: {error}") from error
                part.replace(path)
                written.append(path)
        return written

    def _codes(self, model: Any, prompt: Sequence[int], unconditional: Sequence[int]) -> list[int]:
        import torch
        from transformers import LogitsProcessorList

        ids = torch.tensor([list(prompt)], device=model.device)
        sampling = self._sampling
        drawn = {"temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": sampling.top_k}
        drawn |= {"min_p": sampling.min_p} if sampling.min_p > 0 else {}
        guided = {
            "guidance_scale": sampling.guidance,
            "negative_prompt_ids": torch.tensor([list(unconditional)], device=model.device),
        }
        made = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            do_sample=sampling.temperature > 0,
            repetition_penalty=sampling.repetition_penalty,
            **(drawn if sampling.temperature > 0 else {}),
            **(guided if sampling.guidance != 1 else {}),
            max_new_tokens=SECONDS * CODES_PER_SECOND,
            eos_token_id=self._prompt_format.end_id,
            pad_token_id=self._prompt_format.end_id,
            use_cache=True,
            logits_processor=LogitsProcessorList([_OnlySpeech(self._prompt_format)]),
        )[0, len(prompt) :].tolist()
        first = self._prompt_format.first_code_id
        return [token - first for token in made if token != self._prompt_format.end_id]


def _ids(prompt_format: PromptFormat, text: str) -> list[int]:
    try:
        return text_ids(prompt_format, text)
    except Unusable as why:
        raise UsageError(f"The model can't speak {text!r}: {why}.", "Give another sentence by --speak.") from why


class _OnlySpeech:
    """Nothing but codes and END can be drawn; END not first."""

    def __init__(self, prompt_format: PromptFormat) -> None:
        self._prompt_format, self._begin = prompt_format, None  # type: tuple[PromptFormat, int | None]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        import torch

        prompt_format = self._prompt_format
        allowed = torch.full_like(scores, float("-inf"))
        codes = slice(prompt_format.first_code_id, prompt_format.first_code_id + prompt_format.code_count)
        allowed[:, codes] = scores[:, codes]
        if self._begin is None:
            self._begin = input_ids.shape[1]
        if input_ids.shape[1] > self._begin:
            allowed[:, prompt_format.end_id] = scores[:, prompt_format.end_id]
        return allowed
