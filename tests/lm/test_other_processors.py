"""The kernels give the same bits on every processor for integer weights: sums of integers are exact, and floats are added in one order.

AVX2 and AVX-512 without VNNI run here if the processor has them; Arm runs under qemu where a cross compiler is installed.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from llasa_cli.device import WeightFormat
from llasa_cli.lm.cpu.build import FLAGS, SOURCE, Kernels, load_kernels
from llasa_cli.lm.linear import INTEGER_FORMATS, Linear
from llasa_cli.lm.quantize import quantize_q8_0

pytestmark = [pytest.mark.slow, pytest.mark.skipif(load_kernels() is None, reason="no C compiler")]
SHAPES = [(7, 512), (33, 1024), (101, 1536)]
"""Rows and widths of weights that all formats can store."""
COUNTS = (1, 2, 3, 4, 17)
ARM = ("aarch64-linux-gnu-gcc", "-O2", "-march=armv8.2-a+dotprod+fp16", "-fno-math-errno", "-fopenmp", "-static", "-w")


def weights_of(kind: str, rows: int, width: int) -> Linear:
    weights = torch.randn(rows, width, generator=torch.Generator().manual_seed(rows))
    if kind in ("int8", "int4"):
        return Linear.from_parts([weights], rows, width, WeightFormat(kind, torch.float32))
    kernels = load_kernels()
    assert kernels is not None
    integers, scales = quantize_q8_0(weights)
    if kind == "q4_0":
        integers = integers // 16
    return Linear.from_blocks([(integers, scales)], (rows, width), WeightFormat(kind, torch.float32), kernels)


def states_of(count: int, width: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(count)
    return torch.randn(count, width, generator=generator) * torch.logspace(-2, 2, count)[:, None]


@pytest.mark.parametrize("processor", ["x86-64-v3", "skylake-avx512"])
def test_integer_weights_have_the_same_products_on_older_processors(processor: str, tmp_path: Path) -> None:
    flags = Path("/proc/cpuinfo").read_text().partition("\nflags")[2].partition("\n")[0].split()
    if not {"avx2", "fma", "f16c"} <= set(flags) or (processor != "x86-64-v3" and "avx512bw" not in flags):
        pytest.skip(f"this processor is not a {processor}")
    path = tmp_path / "kernels.so"
    options = [flag for flag in FLAGS if not flag.startswith("-march")]
    subprocess.run(["cc", *options, f"-march={processor}", "-o", path, SOURCE, "-lm"], check=True, capture_output=True)
    other = Kernels(ctypes.CDLL(str(path)))
    for kind in INTEGER_FORMATS:
        for rows, width in SHAPES:
            made = weights_of(kind, rows, width)
            weights, scales, _ = made.kernel_layout() or (None, None, 0)
            for count in COUNTS:
                states = states_of(count, width)
                assert torch.equal(other.multiply(kind, states, weights, scales, rows), made(states)), (kind, count)
    states = torch.randn(5, 96)
    torch.testing.assert_close(
        other.norm(states, torch.rand(96, generator=torch.Generator().manual_seed(0)), 1e-5),
        torch.nn.functional.rms_norm(states, (96,), torch.rand(96, generator=torch.Generator().manual_seed(0)), 1e-5),
    )


@pytest.mark.skipif(not (shutil.which(ARM[0]) and shutil.which("qemu-aarch64")), reason="no cross compiler, or no qemu")
def test_integer_weights_have_the_same_products_on_arm(tmp_path: Path) -> None:
    program = tmp_path / "run_kernels"
    source = Path(__file__).with_name("run_kernels.c")
    subprocess.run([*ARM, "-o", program, source, "-lm"], check=True, capture_output=True)
    for kind in INTEGER_FORMATS:
        for rows, width in SHAPES:
            made = weights_of(kind, rows, width)
            for count in COUNTS:
                states = states_of(count, width)
                assert torch.equal(run_on_arm(program, made, states), made(states)), (kind, rows, width, count)


def run_on_arm(program: Path, linear: Linear, states: torch.Tensor) -> torch.Tensor:
    """float32 (N, W) -> float32 (N, R)"""
    layout = linear.kernel_layout()
    assert layout is not None
    sent = b"".join(
        tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes()
        for tensor in (*layout[:2], states)
        if tensor is not None
    )
    sizes = map(str, (len(states), *linear.shape))
    done = subprocess.run(["qemu-aarch64", program, linear.format, *sizes], input=sent, check=True, capture_output=True)
    return torch.frombuffer(bytearray(done.stdout), dtype=torch.float32).view(len(states), linear.shape[0])
