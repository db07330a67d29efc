"""A LoRA adapter in peft's format -> its changes to the weights of the base model.

In: a folder with `adapter_config.json` and `adapter_model.safetensors`. An adapted matrix W (out, in) becomes
W + scale * B A, with A (rank, in), B (out, rank) and scale = alpha / rank. The change is added once, when the weights are
read, so generation costs nothing more and the base's files stay as they are.

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
_COPY_AGAIN = "Copy it again."
_PREFIX = "base_model.model."
_UNSUPPORTED = {
    "use_dora": "DoRA",
    "lora_bias": "biases in the adapter",
    "fan_in_fan_out": "transposed matrices",
    "megatron_config": "Megatron layers",
    "layer_replication": "repeated layers",
}


@dataclass(frozen=True)
class Adapter:
    """Attributes:
    folder: The folder that it was read from.
    base: The model that its configuration names.
    pairs: Name of a weight -> A, B and scale.
    replaced: Name of a weight -> the whole tensor that takes its place (peft's `modules_to_save`).
    """

    folder: Path
    base: str | None
    pairs: dict[str, tuple[torch.Tensor, torch.Tensor, float]]
    replaced: dict[str, torch.Tensor]

    def changes(self, name: str) -> bool:
        """Whether the adapter changes this weight."""
        return name in self.replaced or name in self.pairs

    def applied(self, name: str, weight: torch.Tensor) -> torch.Tensor:
        """The changed weight in float32, or the weight itself if the adapter does not change it.

        Raises:
            ModelError: The shapes belong to different models.
        """
        if name in self.replaced:
            self._check_shape(name, tuple(self.replaced[name].shape), weight)
            return self.replaced[name]
        if name not in self.pairs:
            return weight
        a, b, scale = self.pairs[name]
        self._check_shape(name, (b.shape[0], a.shape[1]), weight)
        return weight.float() + scale * (b.float() @ a.float())

    def _check_shape(self, name: str, shape: tuple[int, ...], weight: torch.Tensor) -> None:
        if shape != tuple(weight.shape):
            raise ModelError(
                f"The adapter in {self.folder} has {name} in the shape {' x '.join(map(str, shape))}, "
                f"but the model has it in {' x '.join(map(str, weight.shape))}.",
                f"The adapter belongs to {self.base or 'another model'}.",
            )

    def check(self, names: set[str]) -> None:
        """Check that the base has every weight that the adapter changes.

        Raises:
            ModelError: It lacks one, which would silently be left out.
        """
        missing = sorted((set(self.pairs) | set(self.replaced)) - names)
        if missing:
            raise ModelError(
                f"The adapter in {self.folder} changes {missing[0]}, which the model does not have.",
                f"The adapter belongs to {self.base or 'another model'}.",
            )


def read_adapter(folder: Path) -> Adapter:
    """Read peft's two files.

    Raises:
        ModelError: They are missing or damaged, or the adapter is not a plain LoRA.
    """
    for name in (ADAPTER_CONFIG, WEIGHTS_FILE):
        if not (folder / name).is_file():
            raise ModelError(f"There is no {name} in {folder}.", "An adapter's folder holds both of peft's files.")
    config = read_json_object(folder / ADAPTER_CONFIG, _COPY_AGAIN)
    if config.get("peft_type", "LORA") != "LORA":
        raise ModelError(f"The adapter in {folder} is a {config['peft_type']}, not a LoRA.")
    for flag, feature in _UNSUPPORTED.items():
        if config.get(flag):
            raise ModelError(
                f"The adapter in {folder} uses {feature}, which is not supported here.", "Merge it with peft."
            )
    places = read_header(folder / WEIGHTS_FILE)
    halves: dict[str, dict[str, torch.Tensor]] = {}
    replaced: dict[str, torch.Tensor] = {}
    for key, place in places.items():
        tensor = read_tensor(place)
        name = key.removeprefix(_PREFIX)
        found = re.fullmatch(r"(.+)\.lora_(A|B)(?:\.default)?\.weight", name)
        if found:
            halves.setdefault(found[1], {})[found[2]] = tensor
        elif ".lora_" in name:
            raise ModelError(f"The adapter in {folder} has {key}, which is not supported here.", "Merge it with peft.")
        else:
            replaced[name.replace(".modules_to_save.default", "").replace(".base_layer", "")] = tensor
    pairs = {}
    for module, both in halves.items():
        if len(both) != 2:
            raise ModelError(f"The adapter in {folder} has only one of the matrices A and B of {module}.", _COPY_AGAIN)
        if both["A"].dim() != 2 or both["B"].dim() != 2 or both["A"].shape[0] != both["B"].shape[1]:
            raise ModelError(f"The two halves of {module} in {folder} do not fit each other.", _COPY_AGAIN)
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
