"""Prompt -> speech codes, one at a time.

    generation = model.generate(prompt, sampling, seed)
    for code in generation: ...        0 to code_count - 1, 50 per second
    generation.ended                   True: the model generated END; False: it reached the limit

Closing or dropping the iterator stops the work; only the codes that are consumed are computed.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator

from llasa_cli.lm.engine import SlotEngine
from llasa_cli.lm.llama import Llama
from llasa_cli.lm.request import GenerationRequest
from llasa_cli.prompt import Prompt, PromptFormat
from llasa_cli.settings import SamplingOptions


class Generation(Iterator[int]):
    """The codes of one utterance, computed lazily: a batch of one.

    Attributes:
        ended: The model has generated END.
        limit: The most codes that can be generated: `max_seconds`, or the room in the context.
    """

    def __init__(
        self, network: Llama, prompt_format: PromptFormat, prompt: Prompt, sampling: SamplingOptions, seed: int
    ) -> None:
        self.ended = False
        request = GenerationRequest(prompt, sampling, seed)
        self.limit = request.limit
        self._codes = self._generate(network, prompt_format, request)

    def __next__(self) -> int:
        return next(self._codes)

    def close(self) -> None:
        """Stop; codes generated so far stay valid."""
        self._codes.close()

    def __enter__(self) -> Generation:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _generate(
        self, network: Llama, prompt_format: PromptFormat, request: GenerationRequest
    ) -> Generator[int, None, None]:
        batch = SlotEngine(network, prompt_format, slots=1)
        batch.add(request)
        codes = batch.codes(request.tag)
        given = 0
        while not batch.free:
            for finished in batch.step():
                self.ended = finished.ended
            yield from codes[given:]
            given = len(codes)
