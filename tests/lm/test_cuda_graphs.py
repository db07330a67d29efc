"""The step for a GPU, run on a CPU: the plain step's codes, and nothing that a recording could not repeat."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from llasa_cli.lm.cuda_graphs import GraphedDecodeStep
from llasa_cli.lm.engine import SlotEngine
from llasa_cli.lm.llama import Layer, Llama
from llasa_cli.lm.loader import LanguageModel
from tests.lm.test_engine import folder, model, requests, spoken  # noqa: F401 - fixtures

EVERY = (frozenset(["greedy", "plain", "filtered"]), True)


class Calls(TorchDispatchMode):
    """Notes every call and the shapes that go in."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[tuple[str, tuple[Any, ...]]] = []

    def __torch_dispatch__(self, call: Any, types: Any, given: Any = (), named: Any = None) -> Any:
        shapes = tuple(tuple(value.shape) for value in given if isinstance(value, torch.Tensor))
        self.made.append((str(call), shapes))
        return call(*given, **(named or {}))


@pytest.mark.parametrize("slots", [1, 3])
def test_the_static_step_speaks_as_the_plain_one(model: LanguageModel, slots: int) -> None:  # noqa: F811
    plain = spoken(model.batch(slots), requests(model))
    for chance in (None, random.Random(1)):
        assert (
            spoken(SlotEngine(model.network, model.prompt_format, slots, static=True), requests(model), chance) == plain
        )


@pytest.mark.parametrize("guided", [False, True])
def test_the_static_step_makes_the_same_calls_whatever_the_data(model: LanguageModel, guided: bool) -> None:  # noqa: F811
    step = GraphedDecodeStep(model.network, model.prompt_format, 4, guided)
    made = []
    with torch.inference_mode():
        for round_ in range(3):
            for slot, request in enumerate(requests(model)[round_ : round_ + 4]):
                step.join(slot, request.prompt, request.sampling, request.seed)
            if round_ == 2:
                step.leave(1)
            step.compute(((0, step.rows, 256),), *EVERY, look=False)
            with Calls() as calls:
                step.compute(((0, step.rows, 256),), *EVERY, look=False)
            made.append(calls.made)
    assert made[0] == made[1] == made[2]
    waits = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "lift_fresh", "equal")
    assert not [name for name, _ in made[0] if any(word in name for word in waits)]
    assert len(made[0]) > 100


def test_the_static_step_never_needs_a_number(
    model: LanguageModel,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On the meta device there are shapes and nothing else: what looks at data, or mixes in a tensor of the CPU, fails."""
    own = model.network
    meta = torch.device("meta")

    class Product:
        def __init__(self, rows: int) -> None:
            self.rows = rows

        def __call__(self, states: torch.Tensor) -> torch.Tensor:
            return states.new_empty(*states.shape[:-1], self.rows)

    class Rows:
        device, dtype = meta, torch.float32

        def __call__(self, ids: torch.Tensor) -> torch.Tensor:
            return torch.empty(len(ids), own.shape.hidden, device=meta)

    def layer(real: Layer) -> Any:
        return Layer(
            **{
                name: value.to(meta) if isinstance(value, torch.Tensor) else Product(value.shape[0])
                for name, value in vars(real).items()
            }
        )

    layers = [layer(real) for real in own.layers]
    network = Llama(own.shape, Rows(), layers, own.norm.to(meta), Product(own.head.shape[0]))  # type: ignore[arg-type]
    step = GraphedDecodeStep(network, model.prompt_format, 4)
    with torch.inference_mode():
        assert step.compute(((0, step.rows, 256),), *EVERY, look=False).shape == (4,)
        monkeypatch.setattr("llasa_cli.lm.sampler.LIKELIEST", 8)
        with pytest.raises((RuntimeError, NotImplementedError)):  # this one looks: the check can fail
            step.compute(((0, 4, 256),), *EVERY, look=True)


def test_a_step_that_can_not_be_recorded_runs_call_by_call(
    model: LanguageModel,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Here no step can be recorded, for there is no CUDA: said once, and the codes are the same."""

    def fails(self: GraphedDecodeStep, form: Any) -> Any:
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(GraphedDecodeStep, "_record", fails)
    step = GraphedDecodeStep(model.network, model.prompt_format, 3)
    step._records = True  # and below is what __call__ does with it, but for the copy by a stream that is not here
    request = requests(model)[1]
    wanted = list(model.generate(request.prompt, request.sampling, request.seed))

    def speak() -> list[int]:
        step.join(0, request.prompt, request.sampling, request.seed)
        made = []
        for _ in wanted:
            step._go_on()
            made.append(int(step._codes((((0, 4, 256),), *step._ways()))[0]))
        return made

    with torch.inference_mode():
        with pytest.warns(UserWarning, match="call by call") as told:
            assert speak() == wanted
        assert len(told) == 1
        assert speak() == wanted
