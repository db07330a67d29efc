"""A checkpoint folder -> its tensors by name, each checked before it is used.

safetensors only, one file or several. Pickled weights are refused: they run code.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from llasa_cli.errors import ModelError
from llasa_cli.files import read_object
from llasa_cli.lm.adapter import Adapter

AGAIN = "Fetch the checkpoint again."


class Weights:
    """Reads tensors by name; `files` tells which there are, and where."""

    def __init__(self, folder: Path, device: torch.device, dtype: torch.dtype, adapter: Adapter | None = None) -> None:
        self.folder, self.device, self.dtype = folder, device, dtype
        self.files = weight_files(folder)
        self._adapter = adapter
        if adapter is not None:
            adapter.check(set(self.files))

    def __call__(self, name: str, *shape: int) -> torch.Tensor:
        """One tensor, where and as it is wanted."""
        return self.stored(name, *shape).to(self.device, self.dtype)

    def stack(self, parts: Sequence[tuple[str, int]], width: int) -> torch.Tensor:
        """Matrices of (name, rows) below each other; each is written where it belongs, not copied once more."""
        whole = torch.empty(sum(rows for _, rows in parts), width, dtype=self.dtype, device=self.device)
        begin = 0
        for name, rows in parts:
            whole[begin : begin + rows] = self.stored(name, rows, width)
            begin += rows
        return whole

    def stored(self, name: str, *shape: int) -> torch.Tensor:
        """One tensor as it is in its file, checked against `shape` where that is given.

        Checked here because not every wrong shape fails later: one row is broadcast, and a short head speaks nonsense.
        """
        from safetensors import SafetensorError, safe_open

        if name not in self.files:
            raise ModelError(f"The checkpoint in {self.folder} has no {name}.", "It is incomplete: fetch it again.")
        path = self.files[name]
        try:
            with safe_open(path, framework="pt") as file:
                tensor: torch.Tensor = file.get_tensor(name)
        except (SafetensorError, OSError) as error:
            raise ModelError(f"{path} can't be read: {error}", AGAIN) from error
        if self._adapter is not None:
            tensor = self._adapter.applied(name, tensor)
        if shape and tuple(tensor.shape) != shape:
            raise ModelError(
                f"{name} has the shape {tuple(tensor.shape)}, config.json and tokenizer say {shape}.",
                "The files are of different models.",
            )
        if not tensor.is_floating_point() or tensor.element_size() < 2:
            raise ModelError(f"{name} is stored as {tensor.dtype}.", "Use the checkpoint in 16 or 32 bit.")
        return tensor


def weight_files(folder: Path) -> dict[str, Path]:
    """Tensor name -> the file that holds it."""
    from safetensors import SafetensorError, safe_open

    index, single = folder / "model.safetensors.index.json", folder / "model.safetensors"
    if index.is_file():
        try:
            found = {name: folder / file for name, file in read_object(index, AGAIN)["weight_map"].items()}
        except (KeyError, AttributeError, TypeError) as error:
            raise ModelError(f"{index} names no weight files.", AGAIN) from error
        absent = sorted({path.name for path in found.values() if not path.is_file()})
        if absent:
            raise ModelError(f"{folder} lacks {', '.join(absent)}.", "The download is incomplete: run it again.")
        return found
    if single.is_file():
        try:
            with safe_open(single, framework="pt") as file:
                return dict.fromkeys(file.keys(), single)
        except (SafetensorError, OSError) as error:
            raise ModelError(f"{single} can't be read: {error}", AGAIN) from error
    hint = "It is incomplete: fetch it again."
    if (folder / "adapter_config.json").is_file():
        hint = "It is an adapter (LoRA), not a whole model: name its base, or merge the two."
    elif list(folder.glob("*.bin")) or list(folder.glob("*.pt*")):
        hint = "It has pickled weights only, which can run any code when loaded; convert it to safetensors."
    raise ModelError(f"There are no safetensors weights in {folder}.", hint)
