"""The decoder at the published size with random weights: the same sound as transformers', and bounded memory."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from llasa_cli.codec.codec import load_codec

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def full_size(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The published shapes except the semantic encoder, which decoding does not use; the weights give loud sound."""
    from transformers import Xcodec2Config, Xcodec2Model

    from recipes.heart.shape import initialize

    torch.manual_seed(0)
    settings = Xcodec2Config()
    semantic = settings.semantic_model_config
    semantic.num_hidden_layers = 1  # type: ignore[union-attr]
    model = Xcodec2Model(settings)
    initialize(model)
    folder = tmp_path_factory.mktemp("full") / "codec"
    model.save_pretrained(folder)
    return folder


def test_the_sound_equals_that_of_transformers(full_size: Path) -> None:
    from transformers import Xcodec2Model

    codes = np.random.default_rng(0).integers(0, 65_536, 1000).tolist()
    plain = Xcodec2Model.from_pretrained(full_size, dtype=torch.float32).eval()
    codec = load_codec(full_size, "cpu")
    for count in (1, 60, 1000):
        with torch.inference_mode():
            sound = plain.decode(torch.tensor(codes[:count])[None, None]).audio_values[0, 0].numpy()
        loudest = np.abs(sound).max()
        assert loudest > 0.01
        assert np.abs(codec.decode(codes[:count]) - sound).max() < min(1e-4, 1e-3 * loudest)


PROGRAM = """
import re, sys
from pathlib import Path
from llasa_cli.codec.codec import load_codec
from llasa_cli.codec.streaming import decode_stream

def held(name):
    return int(re.search(name + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024

codec = load_codec(Path(sys.argv[1]), "cpu")
codes = [number % 999 for number in range(int(sys.argv[2]) * 50)]
count = sum(len(piece) for piece in decode_stream(codec, codes)) if sys.argv[3] == "stream" else len(codec.decode(codes))
assert count == 320 * len(codes)
print(held("VmHWM"))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(("how", "most"), [("stream", 40), ("whole", 130)])
def test_a_minute_takes_little_more_memory_than_ten_seconds(full_size: Path, how: str, most: float) -> None:
    """The memory of separate processes in MB; a gigabyte of it is for the weights and torch."""

    def peak(seconds: int) -> float:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(full_size), str(seconds), how],
            check=True,
            capture_output=True,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        return float(re.findall(r"[0-9.]+", done.stdout)[-1])

    assert peak(60) - peak(10) < most
