"""The mean of a decoder before and after `decoder.py`: often better than either (a model soup, Wortsman et al. 2022).

    python average.py BEFORE AFTER OUT --share 0.5

In: two codec folders, the second one trained from the first and perhaps deepened. Out: a codec folder in float16, whose
weights are `share` of the second and the rest of the first. Encoder, quantiser and codes are those of both.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from transformers import Xcodec2Config

from decoder import ADDS, deepened


@torch.no_grad()
def average(before: Path, after: Path, share: float) -> torch.nn.Module:
    """A layer that only the second has adds `share` of what it adds there."""
    codec = deepened(after, None)
    had = Xcodec2Config.from_pretrained(before).num_hidden_layers
    first = deepened(before, codec.config.num_hidden_layers)
    for old, new in zip(first.acoustic_decoder.layers[had:], codec.acoustic_decoder.layers[had:], strict=True):
        nothing = {name: torch.zeros_like(new.get_parameter(name)) for name in ADDS}
        old.load_state_dict(new.state_dict() | nothing)
    for mine, other in zip(codec.parameters(), first.parameters(), strict=True):
        mine.lerp_(other, 1 - share)
    return codec


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--share", type=float, default=0.5, help="of the second")
    arguments = parser.parse_args()
    average(arguments.before, arguments.after, arguments.share).half().save_pretrained(arguments.out)


if __name__ == "__main__":
    main()
