"""A product equals that of the exact weights within the format's rounding, whichever code computes it, for any number of states."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from llasa_cli.device import WeightFormat
from llasa_cli.lm.cpu import build
from llasa_cli.lm.cpu.build import load_kernels
from llasa_cli.lm.linear import INTEGER_FORMATS, Linear
from llasa_cli.lm.quantize import GROUP, quantize_int4, quantize_q8_0
from llasa_cli.packed_linear import pack_linear

ERRORS = {"fp32": 1e-6, "bf16": 4e-3, "fp16": 5e-4, "int8": 0.01, "int4": 0.09}
"""Relative error of a product, which comes from rounding Gaussian weights to the format."""


@pytest.fixture(params=["kernels", "torch"])
def with_kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[bool]:
    """With `kernels.c`, and without it as on a machine that has no compiler."""
    if request.param == "kernels" and load_kernels() is None:
        pytest.skip("no C compiler")
    if request.param == "torch":
        monkeypatch.setenv(build.ENVIRONMENT_VARIABLE, "torch")
        load_kernels.cache_clear()
    yield request.param == "kernels"
    load_kernels.cache_clear()


def linear(weights: torch.Tensor, kind: str, pieces: tuple[int, ...]) -> Linear:
    return Linear.from_parts(weights.split(pieces), *weights.shape, WeightFormat(kind, torch.float32))


@pytest.mark.parametrize("kind", ERRORS)
@pytest.mark.parametrize(
    ("width", "stored"),
    [
        (32, torch.float32),
        (80, torch.bfloat16),
        (704, torch.float32),
        (704, torch.bfloat16),
        (1024, torch.float32),
        (4096, torch.bfloat16),
    ],
    ids=str,
)
def test_products_equal_those_of_the_exact_weights(
    with_kernels: bool, kind: str, width: int, stored: torch.dtype
) -> None:
    generator = torch.Generator().manual_seed(width)
    weights = torch.randn(1031, width, generator=generator).to(stored)
    made = linear(weights, kind, (700, 301, 30))
    assert (made.shape, made.format) == ((1031, width), kind)
    # torch multiplies integers, and many states, with 16-bit states.
    slack = 1.0 if with_kernels and kind != "int8" else 1.2
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
def test_a_row_of_states_gets_the_same_bits_in_every_place(kind: str) -> None:
    """The independence of the sequences in a batch rests on this."""
    generator = torch.Generator().manual_seed(0)
    made = linear(torch.randn(2051, 2048, generator=generator), kind, (2051,))
    state = torch.randn(2048, generator=generator)
    for count in (2, 5, 16, 37):
        found = []
        for place in {0, 1, 3, 4, 7, 8, 15, 16, 31, 32, count - 1} & set(
            range(count)
        ):  # both sides of every tile's end
            states = torch.randn(count, 2048, generator=generator)
            states[place] = state
            found.append(made(states)[place])
        assert all(torch.equal(found[0], other) for other in found), count


@pytest.mark.parametrize("kind", INTEGER_FORMATS)
@pytest.mark.parametrize(("rows", "width"), [(1, 16), (7, 80), (64, 256), (101, 704), (33, 2080)])
def test_a_row_gets_the_same_bits_in_any_number_of_rows(kind: str, rows: int, width: int) -> None:
    """1 to 70 rows of states in tiles, compared with the kernel for a single row."""
    kernels = load_kernels()
    if kernels is None:
        pytest.skip("no C compiler")
    width += -width % GROUP if kind.startswith("q") else 0
    made = quantized(torch.randn(rows, width, generator=torch.Generator().manual_seed(width)), kind)
    states = torch.randn(70, width, generator=torch.Generator().manual_seed(1)) * torch.logspace(-3, 3, 70)[:, None]
    alone = torch.cat([made(state[None]) for state in states])
    for count in range(1, 71):
        assert torch.equal(made(states[:count]), alone[:count]), count
    assert torch.equal(made(states[37:51].flip(0)), alone[37:51].flip(0))


def quantized(weights: torch.Tensor, kind: str) -> Linear:
    if kind in ERRORS:
        return linear(weights, kind, (len(weights),))
    kernels = load_kernels()
    assert kernels is not None
    integers, scales = quantize_q8_0(weights)
    if kind == "q4_0":
        integers = integers // 16
    return Linear.from_blocks(
        [(integers, scales)], (len(weights), weights.shape[1]), WeightFormat(kind, torch.float32), kernels
    )


def test_int4_weights_are_the_same_with_and_without_a_compiler() -> None:
    """A group is 32 weights in a row for torch and 32 weights 16 apart for the kernels; equal groups give equal integers."""
    kernels = load_kernels()
    if kernels is None:
        pytest.skip("no C compiler")
    weights = torch.randn(50, 512, generator=torch.Generator().manual_seed(0))
    weights[3] = 0
    weights[4, :32] = torch.linspace(-0.001, 5, 32)
    numbers, scales = quantize_int4(weights)
    apart = weights.view(50, 16, 32).transpose(1, 2).reshape(50, 512)
    packed, steps = torch.zeros(50, 64, dtype=torch.int32), torch.zeros(50, 1, 16, dtype=torch.bfloat16)
    kernels.quantize("int4", apart, packed, steps)
    assert torch.allclose(steps.view(50, 16).float() / 16, scales.float(), rtol=1e-2)
    expanded = (
        kernels.multiply("int4", torch.eye(512), packed, steps, 50).T.view(50, 32, 16).transpose(1, 2).reshape(50, 512)
    )
    exact = numbers.view(50, 16, 32) * scales[..., None]
    assert torch.allclose(expanded.view(50, 16, 32), exact.float(), rtol=1e-2, atol=1e-6)


def test_weights_of_zero_stay_zero(with_kernels: bool) -> None:
    for kind in ERRORS:
        assert not linear(torch.zeros(64, 256), kind, (64,))(torch.randn(3, 256)).any()


def test_a_matrix_takes_the_bytes_of_its_format() -> None:
    weights = torch.randn(4096, 2048)
    bits = {kind: linear(weights, kind, (4096,)).bytes * 8 / weights.numel() for kind in ERRORS}
    assert bits == pytest.approx({"fp32": 32, "bf16": 16, "fp16": 16, "int8": 8, "int4": 4.5}, rel=0.01)


def test_without_a_working_compiler_there_are_no_kernels(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("CC", "false")
    load_kernels.cache_clear()
    assert load_kernels() is None
    assert not list(tmp_path.rglob("*.so"))
    load_kernels.cache_clear()


def test_a_damaged_library_is_compiled_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if load_kernels() is None:
        pytest.skip("no C compiler")
    compiler, runs = tmp_path / "cc", tmp_path / "runs"  # seconds of compiling are left out
    compiler.write_text(
        f'#!/bin/sh\nwhile [ "$1" != -o ]; do shift; done\ncp {build.library()} "$2" && echo run >> {runs}\n'
    )
    compiler.chmod(0o700)
    monkeypatch.setenv("CC", str(compiler))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    build.library().write_bytes(b"damaged")
    load_kernels.cache_clear()
    assert load_kernels() is not None
    assert build.library().stat().st_size > 1000
    assert runs.read_text() == "run\nrun\n"
    load_kernels.cache_clear()


@pytest.mark.skipif(load_kernels() is None, reason="no C compiler")
def test_norm_and_rotation_equal_those_of_torch() -> None:
    from llasa_cli.lm.llama import rotate_

    kernels = load_kernels()
    assert kernels is not None
    torch.manual_seed(0)
    states, weight = torch.randn(5, 96) * 3, torch.rand(96)
    torch.testing.assert_close(
        kernels.norm(states, weight, 1e-5), torch.nn.functional.rms_norm(states, (96,), weight, 1e-5)
    )
    heads, cosine, sine = torch.randn(5, 6, 32), torch.randn(5, 32), torch.randn(5, 32)
    expected = heads.clone()
    rotate_(expected[:, :4], cosine[:, None], sine[:, None])
    kernels.rotate(heads, 4, cosine, sine)
    torch.testing.assert_close(heads, expected)


def test_numbers_of_rows_share_kernels_without_another_result(monkeypatch: pytest.MonkeyPatch) -> None:
    """oneDNN keeps a kernel for each number of rows that it is given."""
    multiply, counts = torch.ops.mkldnn._linear_pointwise, set()

    def record(states: torch.Tensor, *arguments: object) -> torch.Tensor:
        counts.add(states.shape[:-1].numel())
        return multiply(states, *arguments)

    monkeypatch.setattr(torch.ops.mkldnn, "_linear_pointwise", record)
    weight, states = torch.randn(96, 64), torch.randn(300, 64)
    product = pack_linear(weight, torch.randn(96))
    if product is None:
        pytest.skip("this torch has no oneDNN")
    whole = product(states)
    for count in range(1, 300):
        assert torch.equal(product(states[:count]), whole[:count])
    assert len(counts) < 40
    assert product(states.view(3, 100, 64)).shape == (3, 100, 96)
