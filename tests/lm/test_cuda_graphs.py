"""The graphed decode step, run on a CPU: it gives the plain step's codes, and makes no call that a graph could not replay."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from llasa_cli.lm.cuda_graphs import GraphedDecodeStep
from llasa_cli.lm.engine import SlotEngine
from llasa_cli.lm.kv_cache import SlotGroup
from llasa_cli.lm.layer import LayerWeights
from llasa_cli.lm.llama import Llama
from llasa_cli.lm.loader import LanguageModel
from tests.lm.test_engine import assert_equal_codes, folder, generate_all, model, requests  # noqa: F401 - fixtures

EVERY_KIND = (frozenset(["greedy", "plain", "filtered"]), True)
"""All kinds of sampling, with a repetition penalty."""


class Calls(TorchDispatchMode):
    """Records every call and the shapes of its arguments."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[tuple[str, tuple[Any, ...]]] = []

    def __torch_dispatch__(self, call: Any, types: Any, given: Any = (), named: Any = None) -> Any:
        shapes = tuple(tuple(value.shape) for value in given if isinstance(value, torch.Tensor))
        self.made.append((str(call), shapes))
        return call(*given, **(named or {}))


@pytest.mark.parametrize("slots", [1, 3])
def test_the_graphed_step_generates_the_codes_of_the_plain_step(model: LanguageModel, slots: int) -> None:  # noqa: F811
    plain = generate_all(model.batch(slots), requests(model))
    for chance in (None, random.Random(1)):
        graphed = SlotEngine(model.network, model.prompt_format, slots, graphed=True)
        assert_equal_codes(generate_all(graphed, requests(model), chance), plain)


@pytest.mark.parametrize("guided", [False, True])
def test_the_graphed_step_makes_the_same_calls_whatever_the_data(model: LanguageModel, guided: bool) -> None:  # noqa: F811
    step = GraphedDecodeStep(model.network, model.prompt_format, 4, guided)
    made = []
    with torch.inference_mode():
        for round_ in range(3):
            for slot, request in enumerate(requests(model)[round_ : round_ + 4]):
                step.admit(slot, request)
            if round_ == 2:
                step.release(1)
            step.compute([SlotGroup(0, step.rows, 256)], *EVERY_KIND, early_exit=False)
            with Calls() as calls:
                step.compute([SlotGroup(0, step.rows, 256)], *EVERY_KIND, early_exit=False)
            made.append(calls.made)
    assert made[0] == made[1] == made[2]
    waits = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "lift_fresh", "equal")
    assert not [name for name, _ in made[0] if any(word in name for word in waits)]
    assert len(made[0]) > 100


def test_the_graphed_step_never_reads_a_value(
    model: LanguageModel,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The meta device has shapes only, so a call that reads data, or mixes in a tensor of the CPU, fails."""
    own = model.network
    meta = torch.device("meta")

    class MetaLinear:
        def __init__(self, rows: int) -> None:
            self.rows = rows

        def __call__(self, states: torch.Tensor) -> torch.Tensor:
            return states.new_empty(*states.shape[:-1], self.rows)

    class MetaEmbedding:
        device, dtype = meta, torch.float32

        def __call__(self, ids: torch.Tensor) -> torch.Tensor:
            return torch.empty(len(ids), own.config.hidden_size, device=meta)

    def layer(real: LayerWeights) -> Any:
        return LayerWeights(
            **{
                name: value.to(meta) if isinstance(value, torch.Tensor) else value and MetaLinear(value.shape[0])
                for name, value in vars(real).items()  # a Llama has no biases
            }
        )

    layers = [layer(real) for real in own.layers]
    network = Llama(own.config, MetaEmbedding(), layers, own.norm.to(meta), MetaLinear(own.head.shape[0]))  # type: ignore[arg-type]
    step = GraphedDecodeStep(network, model.prompt_format, 4)
    with torch.inference_mode():
        assert step.compute([SlotGroup(0, step.rows, 256)], *EVERY_KIND, early_exit=False).shape == (4,)
        monkeypatch.setattr("llasa_cli.lm.sampler.FEW", 8)
        with pytest.raises((RuntimeError, NotImplementedError)):  # an early exit reads data: the check can fail
            step.compute([SlotGroup(0, 4, 256)], *EVERY_KIND, early_exit=True)


def test_a_step_that_can_not_be_captured_runs_call_by_call(
    model: LanguageModel,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without CUDA no step can be captured: there is one warning, and the codes are the same."""

    def fails(self: GraphedDecodeStep, key: Any) -> Any:
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(GraphedDecodeStep, "_capture", fails)
    step = GraphedDecodeStep(model.network, model.prompt_format, 3)
    step.captures = True  # below is what __call__ does then, without the copy on a CUDA stream
    request = requests(model)[1]
    wanted = list(model.generate(request.prompt, request.sampling, request.seed))

    def generate() -> list[int]:
        step.admit(0, request)
        made = []
        for _ in wanted:
            step._advance_lengths()
            made.append(int(step._codes(((SlotGroup(0, 4, 256),), *step._sampling_kinds()))[0]))
        return made

    with torch.inference_mode():
        with pytest.warns(UserWarning, match="call by call") as warned:
            assert generate() == wanted
        assert len(warned) == 1
        assert generate() == wanted
