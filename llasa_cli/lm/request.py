"""A request to an engine, and its answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from llasa_cli.prompt import Prompt
from llasa_cli.settings import CONTEXT_TOKENS, SamplingOptions


@dataclass(frozen=True)
class GenerationRequest:
    """A prompt and how to continue it; the caller chooses `tag`.

    Attributes:
        begun: Codes that the speech begins with. They are part of the result.
    """

    prompt: Prompt
    sampling: SamplingOptions
    seed: int
    tag: Any = None
    begun: tuple[int, ...] = ()

    @property
    def limit(self) -> int:
        """The most codes that can be generated: `max_seconds`, or the room in the context."""
        room = CONTEXT_TOKENS - len(self.prompt.ids)
        return max(1, min(room, round(self.sampling.max_seconds * self.prompt.codes_per_second)))

    @property
    def guided(self) -> bool:
        """Whether guidance is on; a guidance of 1 changes nothing and costs nothing."""
        return self.sampling.guidance != 1


@dataclass(frozen=True)
class Finished:
    """Attributes:
    codes: Speech codes, 0 to code_count - 1, 50 per second.
    ended: The model generated END; otherwise the sequence reached its limit.
    log_probability: Natural logarithm of the probability of the sampled codes and of END, given the prompt, without the
        sampling options; None where the engine doesn't compute it.
    """

    request: GenerationRequest
    codes: tuple[int, ...]
    ended: bool
    log_probability: float | None = None
