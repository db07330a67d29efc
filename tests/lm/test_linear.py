"""A matrix multiplies as its weights say, in every format, whichever kernel does it, however many states there are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from llasa_cli.device import NumberFormat
from llasa_cli.lm.cpu import build as native
from llasa_cli.lm.cpu.build import kernels
from llasa_cli.lm.linear import Matrix
from llasa_cli.lm.quantize import quantize_int4

ERRORS = {"fp32": 1e-6, "bf16": 4e-3, "fp16": 5e-4, "int8": 0.01, "int4": 0.09}
"""Of the products, as a share of their size: what rounding Gaussian weights to the format costs."""


@pytest.fixture(params=["own", "torch"])
def own(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[bool]:
    """With `kernels.c`, and as where there is no compiler."""
    if request.param == "own" and kernels() is None:
        pytest.skip("no C compiler")
    if request.param == "torch":
        monkeypatch.setenv(native.CHOICE, "torch")
        kernels.cache_clear()
    yield request.param == "own"
    kernels.cache_clear()


def matrix(weights: torch.Tensor, kind: str, pieces: tuple[int, ...]) -> Matrix:
    return Matrix.of(weights.split(pieces), *weights.shape, NumberFormat(kind, torch.float32))


@pytest.mark.parametrize("kind", ERRORS)
@pytest.mark.parametrize("width", [32, 80, 704, 1024, 4096])
@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16], ids=str)
def test_products_are_those_of_the_weights(own: bool, kind: str, width: int, stored: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(width)
    weights = torch.randn(1031, width, generator=generator).to(stored)
    made = matrix(weights, kind, (700, 301, 30))
    assert (made.shape, made.format) == ((1031, width), kind)
    # 16-bit states where torch multiplies whole numbers, or many states
    slack = 1.0 if own and kind != "int8" else 1.2
    for count in (1, 2, 3, 4, 5, 16, 33, 70):
        states = torch.randn(count, width, generator=generator)
        exact = states @ weights.float().T
        found = made(states)
        assert found.shape == exact.shape
        assert found.dtype == torch.float32
        error = ((found - exact).norm() / exact.norm()).item()
        assert error < ERRORS[kind] * slack + (4e-3 if kind in ("bf16", "int8") else 0), (count, error)
    assert made(states.view(7, 10, width)).shape == (7, 10, 1031)
    assert torch.equal(made(states.view(7, 10, width)).view(70, -1), made(states))


@pytest.mark.parametrize("kind", ERRORS)
def test_a_row_of_states_gets_the_same_bits_in_whichever_place(kind: str) -> None:
    """What a batch's sequences rest on: neither the others nor the place change a product."""
    generator = torch.Generator().manual_seed(0)
    made = matrix(torch.randn(2051, 2048, generator=generator), kind, (2051,))
    state = torch.randn(2048, generator=generator)
    for count in (2, 5, 16, 37):
        found = []
        for place in range(count):
            states = torch.randn(count, 2048, generator=generator)
            states[place] = state
            found.append(made(states)[place])
        assert all(torch.equal(found[0], other) for other in found), count


def test_four_bit_numbers_are_the_same_with_and_without_a_compiler() -> None:
    """Of a group of 32 in a row for torch's kernel, 16 apart for ours: the same numbers from the same groups."""
    own = kernels()
    if own is None:
        pytest.skip("no C compiler")
    weights = torch.randn(50, 512, generator=torch.Generator().manual_seed(0))
    weights[3] = 0
    weights[4, :32] = torch.linspace(-0.001, 5, 32)
    numbers, scales = quantize_int4(weights)
    apart = weights.view(50, 16, 32).transpose(1, 2).reshape(50, 512)
    packed, steps = torch.zeros(50, 64, dtype=torch.int32), torch.zeros(50, 1, 16, dtype=torch.bfloat16)
    own.quantise("int4", apart, packed, steps)
    assert torch.allclose(steps.view(50, 16).float() / 16, scales.float(), rtol=1e-2)
    expanded = own.expand_int4(packed, steps, 512).float().view(50, 32, 16).transpose(1, 2).reshape(50, 512)
    exact = numbers.view(50, 16, 32) * scales[..., None]
    assert torch.allclose(expanded.view(50, 16, 32), exact.float(), rtol=1e-2, atol=1e-6)


def test_weights_of_nothing_stay_nothing(own: bool) -> None:
    for kind in ERRORS:
        assert not matrix(torch.zeros(64, 256), kind, (64,))(torch.randn(3, 256)).any()


def test_bytes_are_those_of_the_format() -> None:
    weights = torch.randn(4096, 2048)
    bits = {kind: matrix(weights, kind, (4096,)).bytes * 8 / weights.numel() for kind in ERRORS}
    assert bits == pytest.approx({"fp32": 32, "bf16": 16, "fp16": 16, "int8": 8, "int4": 4.5}, rel=0.01)


def test_a_compiler_that_fails_is_done_without(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("CC", "false")
    kernels.cache_clear()
    assert kernels() is None
    assert not list(tmp_path.rglob("*.so"))
    kernels.cache_clear()


def test_a_damaged_library_is_made_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if kernels() is None:
        pytest.skip("no C compiler")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # what is mapped by now is another file
    native.library().write_bytes(b"no library")
    kernels.cache_clear()
    assert kernels() is not None
    assert native.library().stat().st_size > 1000
    kernels.cache_clear()


@pytest.mark.skipif(kernels() is None, reason="no C compiler")
def test_norm_and_rotation_are_those_of_torch() -> None:
    from llasa_cli.lm.llama import rotate_

    own = kernels()
    assert own is not None
    torch.manual_seed(0)
    states, weight = torch.randn(5, 96) * 3, torch.rand(96)
    torch.testing.assert_close(
        own.norm(states, weight, 1e-5), torch.nn.functional.rms_norm(states, (96,), weight, 1e-5)
    )
    heads, cosine, sine = torch.randn(5, 6, 32), torch.randn(5, 32), torch.randn(5, 32)
    expected = heads.clone()
    rotate_(expected[:, :4], cosine[:, None], sine[:, None])
    own.rotate(heads, 4, cosine, sine)
    torch.testing.assert_close(heads, expected)
