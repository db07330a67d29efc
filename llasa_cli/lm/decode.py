"""Prompt -> speech codes, one at a time.

    generation = model.generate(prompt, sampling, seed)
    for code in generation: ...        0 to code_count - 1, 50 a second
    generation.ended                   True: the model said END; False: it ran into the length

Closing it (or dropping it) stops the work: nothing is computed that nobody asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType

import torch

from llasa_cli.errors import ModelError
from llasa_cli.lm.network import Network
from llasa_cli.lm.sample import draw, penalise
from llasa_cli.protocol import Prompt, Protocol
from llasa_cli.settings import CODES_PER_SECOND, CONTEXT_TOKENS, SamplingOptions


class Generation(Iterator[int]):
    """The codes of one take, made as they are asked for.

    Attributes:
        ended: END was drawn.
        limit: The most codes there can be: `max_seconds`, or what the context leaves.
    """

    def __init__(
        self, network: Network, protocol: Protocol, prompt: Prompt, sampling: SamplingOptions, seed: int
    ) -> None:
        self.ended = False
        room = CONTEXT_TOKENS - len(prompt.ids)
        self.limit = max(1, min(room, round(sampling.max_seconds * CODES_PER_SECOND)))
        self._codes = self._run(network, protocol, prompt, sampling, seed)

    def __next__(self) -> int:
        return next(self._codes)

    def close(self) -> None:
        """Stop; what was made so far stays valid."""
        self._codes.close()

    def __enter__(self) -> Generation:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self, network: Network, protocol: Protocol, prompt: Prompt, sampling: SamplingOptions, seed: int):  # type: ignore[no-untyped-def]
        device = network.embedding.device
        generator = torch.Generator(device).manual_seed(seed)
        spoken = torch.zeros(protocol.code_count + 1, dtype=torch.bool, device=device)
        reference = prompt.ids[len(prompt.ids) - prompt.reference_codes :]
        if reference:
            spoken[torch.tensor(reference, device=device) - protocol.first_code_id] = True
        stream = network.stream(len(prompt.ids) + self.limit)
        ids = torch.tensor(prompt.ids, device=device)
        for made in range(self.limit):
            # Entered anew for each code: a generator must not hold the mode while its caller runs.
            with torch.inference_mode():
                scores = penalise(stream.feed(ids), spoken, sampling.repetition_penalty)
                if made == 0:
                    _check(scores)
                    scores[-1] = -torch.inf  # speech has at least one code
                code = draw(scores, sampling, generator)
                if code == protocol.code_count:
                    self.ended = True
                    return
                spoken[code] = True
                ids = torch.tensor([protocol.first_code_id + code], device=device)
            yield code


def _check(scores: torch.Tensor) -> None:
    """Refuse a model that has no opinion; once a take, since looking waits for the device.

    Broken weights do it, and float16 where a model needs a wider range.
    """
    if not bool(torch.isfinite(scores).all()):
        raise ModelError(
            "The model's scores are not numbers.",
            "Its weights are broken, or too large for --dtype float16: try bfloat16 or float32.",
        )
