"""A codec's folder -> its tensors by transformers' names, whether it is in transformers' format or in its authors' own.

Shapes are known from the headers; a tensor is read when it is asked for.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from llasa_cli.checkpoint.resolve import find_model
from llasa_cli.checkpoint.safetensors_header import TensorLocation, is_finite, locate_tensors, read_tensor
from llasa_cli.codec import original_format as original
from llasa_cli.errors import ModelError
from llasa_cli.files import read_json_object

AGAIN = "Fetch the codec again."
_HINT = "A codec folder holds config.json and model.safetensors."
_TYPES = ("xcodec2", "xcodec", "bigcodec", None)
"""What config.json calls it: the first is transformers'; the authors' code says the second."""
_SEMANTIC = "semantic_encoder."


class CodecTensors:
    """What is stored in a codec's folder.

    Attributes:
        folder: Where it lies.
        is_original: In the authors' format.
        settings: config.json as transformers would write it.
        shapes: Tensor name -> its shape.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if not (folder / "config.json").is_file():
            raise ModelError(f"There is no config.json in {folder}.", _HINT)
        self.settings = read_json_object(folder / "config.json", AGAIN)
        self._places: dict[str, tuple[str, TensorLocation]] = {}
        self._sources: dict[str, original.Source] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        kind = self.settings.get("model_type")
        places = {name: (name, place) for name, place in locate_tensors(folder).items()} if kind in _TYPES else {}
        self.is_original = original.is_original(places)
        if self.is_original:
            self._take_original(places)
        elif kind == "xcodec2":
            self._take_native(places)
        else:
            raise ModelError(f"{folder} holds a {kind!r} model, not an X-Codec2.", _HINT)

    def _take_native(self, places: dict[str, tuple[str, TensorLocation]]) -> None:
        if "auto_map" in self.settings:
            raise ModelError(
                f"The codec in {self.folder} asks for code of its own (auto_map), which is never run here.",
                "HKUSTAudio/xcodec2-hf is X-Codec2 without.",
            )
        self._add(places, {name: original.Source((name,)) for name in places})

    def _take_original(self, places: dict[str, tuple[str, TensorLocation]]) -> None:
        """Its config.json may name the authors' code (auto_map), which is not needed and not run."""
        sources, strange = original.sources(places)
        if strange:
            raise ModelError(
                f"The codec in {self.folder} has {strange[0]}, which no X-Codec2 has and this program does not run."
            )
        self._add(places, sources)
        self.settings = self._told() | original.configuration(_complete(self.shapes, self.folder))

    def __call__(self, name: str) -> torch.Tensor:
        """One tensor, as its file has it.

        Raises:
            ModelError: It is broken: not all of its numbers are finite.
        """
        tensor: torch.Tensor = self._sources[name].read(self._stored)
        if not tensor.is_floating_point():
            raise ModelError(f"{name} in {self.folder} is stored as {tensor.dtype}.", "Use the codec in 16 or 32 bit.")
        if not is_finite(tensor):
            raise ModelError(f"{name} in {self.folder} holds numbers that are none (NaN or infinite).", AGAIN)
        return tensor

    def need(self, names: Iterable[str]) -> None:
        """Raises:
        ModelError: One is not there.
        """
        missing = sorted(set(names) - set(self.shapes))
        if missing:
            raise ModelError(
                f"The codec in {self.folder} lacks {missing[0]} ({len(missing)} in all).", "Fetch it again."
            )

    def find_semantic(self) -> None:
        """Take the semantic encoder from its own repository, where the codec's file leaves it out.

        Raises:
            ModelError: That is not on this machine.
        """
        if not self.is_original or any(name.startswith(_SEMANTIC) for name in self.shapes):
            return
        try:
            folder = find_model(original.SEMANTIC_REPO)
        except ModelError as error:
            raise ModelError(
                f"The codec in {self.folder} can speak but not hear: it leaves out {original.SEMANTIC_REPO}.",
                f"Fetch that with: llasa download {original.SEMANTIC_REPO}",
            ) from error
        places = {original.semantic_name(name): (name, place) for name, place in locate_tensors(folder).items()}
        self._add(places, original.sources(places)[0])

    def _add(self, places: dict[str, tuple[str, TensorLocation]], sources: dict[str, original.Source]) -> None:
        """Take tensors in: what a source calls them -> their name in their file, and where they are."""
        self._places |= places
        for name, source in sources.items():
            absent = [stored for stored in source.stored if stored not in self._places]
            if absent:
                raise ModelError(f"The codec in {self.folder} lacks {absent[0]} (1 in all).", "Fetch it again.")
            self.shapes[name] = source.shape(lambda stored: self._places[stored][1].shape)
        self._sources |= sources

    def _stored(self, name: str) -> torch.Tensor:
        own, place = self._places[name]
        tensor: torch.Tensor = read_tensor(place, own)
        return tensor

    def _told(self) -> dict[str, Any]:
        """What a config.json in the authors' format says that the shapes don't."""
        return {name: self.settings[name] for name in ("sample_rate", "upsample_factors") if name in self.settings}


def _complete(shapes: dict[str, tuple[int, ...]], folder: Path) -> dict[str, tuple[int, ...]]:
    """The shapes, if those are there that a configuration is read from."""
    for name in (
        "acoustic_decoder.fc.weight",
        "acoustic_decoder.layers.0.mlp.fc1.weight",
        "quantizer.project_out.weight",
    ):
        if len(shapes.get(name, ())) != 2:
            raise ModelError(f"The codec in {folder} lacks {name} (1 in all).", "Fetch it again.")
    return shapes
