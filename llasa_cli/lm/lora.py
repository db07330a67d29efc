"""A LoRA adapter as peft writes it -> what it adds to the weights of its base.

In: a folder with `adapter_config.json` and `adapter_model.safetensors`. An adapted matrix W (out, in) acts as
W + scale * B A, with A (rank, in), B (out, rank), and scale = alpha / rank. Added once when the weights are read, it costs
nothing while speaking, and the base's files stay as they are.

Source of names and scales: peft, `tuners/lora/layer.py`, `utils/save_and_load.py`.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from llasa_cli.checkpoint.resolve import ADAPTER_CONFIG
from llasa_cli.checkpoint.safetensors_header import read_header, read_tensor
from llasa_cli.errors import ModelError
from llasa_cli.files import read_json_object

WEIGHTS_FILE = "adapter_model.safetensors"
_PREFIX = "base_model.model."
_NOT_DONE = {
    "use_dora": "DoRA",
    "lora_bias": "biases in the adapter",
    "fan_in_fan_out": "transposed matrices",
    "megatron_config": "Megatron layers",
    "layer_replication": "repeated layers",
}


@dataclass(frozen=True)
class Adapter:
    """Attributes:
    folder: Where it was read from.
    base: What its configuration calls the model it belongs to.
    pairs: Weight's name -> A, B and scale.
    replaced: Weight's name -> the whole tensor that stands for it (peft's `modules_to_save`).
    """

    folder: Path
    base: str | None
    pairs: dict[str, tuple[torch.Tensor, torch.Tensor, float]]
    replaced: dict[str, torch.Tensor]

    def applied(self, name: str, weight: torch.Tensor) -> torch.Tensor:
        """The weight with what the adapter adds, float32; the weight itself where it adds nothing.

        Raises:
            ModelError: The shapes are not of one model.
        """
        if name in self.replaced:
            self._check_shape(name, tuple(self.replaced[name].shape), weight)
            return self.replaced[name]
        if name not in self.pairs:
            return weight
        first, second, scale = self.pairs[name]
        self._check_shape(name, (second.shape[0], first.shape[1]), weight)
        return weight.float() + scale * (second.float() @ first.float())

    def _check_shape(self, name: str, own: tuple[int, ...], weight: torch.Tensor) -> None:
        if own != tuple(weight.shape):
            raise ModelError(
                f"The adapter in {self.folder} is for {name} of {' x '.join(map(str, own))}, "
                f"the model has {' x '.join(map(str, weight.shape))}.",
                f"It belongs to {self.base or 'another model'}.",
            )

    def check(self, names: set[str]) -> None:
        """Every part of the adapter has a place among the base's weights.

        Raises:
            ModelError: One has none: it would be left out in silence.
        """
        lost = sorted((set(self.pairs) | set(self.replaced)) - names)
        if lost:
            raise ModelError(
                f"The adapter in {self.folder} changes {lost[0]}, which the model does not have.",
                f"It belongs to {self.base or 'another model'}.",
            )


def read_adapter(folder: Path) -> Adapter:
    """Read peft's two files.

    Raises:
        ModelError: They are missing or broken, or of a form that is not a plain LoRA.
    """
    for name in (ADAPTER_CONFIG, WEIGHTS_FILE):
        if not (folder / name).is_file():
            raise ModelError(f"There is no {name} in {folder}.", "An adapter's folder holds both of peft's files.")
    config = read_json_object(folder / ADAPTER_CONFIG, "Copy it again.")
    if config.get("peft_type", "LORA") != "LORA":
        raise ModelError(f"The adapter in {folder} is a {config['peft_type']}, not a LoRA.")
    for flag, what in _NOT_DONE.items():
        if config.get(flag):
            raise ModelError(f"The adapter in {folder} uses {what}, which is not done here.", "Merge it with peft.")
    places = read_header(folder / WEIGHTS_FILE)
    tensors = {name: read_tensor(place, name) for name, place in places.items()}
    halves: dict[str, dict[str, torch.Tensor]] = {}
    replaced: dict[str, torch.Tensor] = {}
    for key, tensor in tensors.items():
        name = key.removeprefix(_PREFIX)
        found = re.fullmatch(r"(.+)\.lora_(A|B)(?:\.default)?\.weight", name)
        if found:
            halves.setdefault(found[1], {})[found[2]] = tensor
        elif ".lora_" in name:
            raise ModelError(f"The adapter in {folder} has {key}, which is not done here.", "Merge it with peft.")
        else:
            replaced[name.replace(".modules_to_save.default", "").replace(".base_layer", "")] = tensor
    pairs = {}
    for module, both in halves.items():
        if len(both) != 2:
            raise ModelError(f"The adapter in {folder} has one half of {module} only.", "Copy it again.")
        if both["A"].dim() != 2 or both["B"].dim() != 2 or both["A"].shape[0] != both["B"].shape[1]:
            raise ModelError(f"The two halves of {module} in {folder} do not fit each other.", "Copy it again.")
        rank = both["A"].shape[0]
        pairs[f"{module}.weight"] = (both["A"], both["B"], _scale(config, module, rank))
    named = config.get("base_model_name_or_path")
    return Adapter(folder, named if isinstance(named, str) else None, pairs, replaced)


def _scale(config: dict[str, Any], module: str, rank: int) -> float:
    alpha = config.get("lora_alpha", 8)
    for pattern, value in (config.get("alpha_pattern") or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            alpha = value
            break
    return float(alpha) / (math.sqrt(rank) if config.get("use_rslora") else rank)
