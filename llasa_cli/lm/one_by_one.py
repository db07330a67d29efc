"""A batch that speaks its sequences one after the other: stands in for `lm.batch`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from llasa_cli.protocol import Prompt
from llasa_cli.settings import SamplingOptions


@dataclass(frozen=True)
class Request:
    prompt: Prompt
    sampling: SamplingOptions
    seed: int
    tag: Any = None


@dataclass(frozen=True)
class Finished:
    request: Request
    codes: tuple[int, ...]
    ended: bool


class Batch:
    def __init__(self, model: Any, slots: int) -> None:
        self._model, self._slots = model, slots
        self._in: list[tuple[Request, Any, list[int]]] = []

    @property
    def free(self) -> int:
        return self._slots - len(self._in)

    def add(self, request: Request) -> None:
        assert self.free
        self._in.append((request, self._model.generate(request.prompt, request.sampling, request.seed), []))

    def step(self) -> list[Finished]:
        done = []
        for entry in list(self._in):
            request, generation, codes = entry
            code = next(generation, None)
            if code is None:
                self._in.remove(entry)
                done.append(Finished(request, tuple(codes), generation.ended))
            else:
                codes.append(code)
        return done

    def drop(self, tag: Any) -> None:
        self._in = [entry for entry in self._in if entry[0].tag != tag]
