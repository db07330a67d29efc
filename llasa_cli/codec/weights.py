"""The tensors in a codec's folder, under transformers' names, whether the files have transformers' format or the authors'.

Shapes come from the headers; a tensor is read when it is used.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch

from llasa_cli.checkpoint.resolve import find_model
from llasa_cli.checkpoint.safetensors_header import TensorLocation, is_finite, locate_tensors, read_tensor
from llasa_cli.codec import original_format as original
from llasa_cli.errors import ModelError
from llasa_cli.files import read_json_object

AGAIN = "Download the codec again."
_HINT = "A codec folder has config.json and model.safetensors."
NATIVE_TYPES = ("xcodec2", "neucodec")
"""`model_type` in config.json of transformers' classes. NeuCodec has X-Codec2's decoder, at 24 kHz."""
_TYPES = (*NATIVE_TYPES, "xcodec", "bigcodec", None)
"""The values of `model_type` that are accepted, those of the authors' code included."""
_SEMANTIC = "semantic_encoder."


class CodecTensors:
    """The tensors and the configuration in a codec's folder.

    Attributes:
        folder: The codec's folder.
        is_original: Whether the files have the authors' format.
        is_neucodec: Whether it is a NeuCodec, whose encoder gets its features without a margin.
        settings: config.json as transformers would write it.
        shapes: Tensor name -> shape.

    Raises:
        ModelError: Files are missing or broken, or it is not an X-Codec2.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if not (folder / "config.json").is_file():
            raise ModelError(f"{folder} has no config.json.", _HINT)
        self.settings = read_json_object(folder / "config.json", AGAIN)
        self._places: dict[str, TensorLocation] = {}
        self._sources: dict[str, original.Source] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        kind = self.settings.get("model_type")
        places = locate_tensors(folder) if kind in _TYPES else {}
        self.is_original, self.is_neucodec = original.is_original(places), kind == "neucodec"
        if self.is_original:
            self._take_original(places)
        elif kind in NATIVE_TYPES:
            self._take_native(places)
        else:
            raise ModelError(f"{folder} has a {kind!r} model, not an X-Codec2.", _HINT)

    def _take_native(self, places: dict[str, TensorLocation]) -> None:
        if "auto_map" in self.settings:
            raise ModelError(
                f"The codec in {self.folder} needs code from its own repository (auto_map), which is never run.",
                "HKUSTAudio/xcodec2-hf is the same codec without such code.",
            )
        self._add(places, {name: original.Source((name,)) for name in places})

    def _take_original(self, places: dict[str, TensorLocation]) -> None:
        """Take the tensors of the authors' format. config.json may name their code (auto_map), which is neither needed nor run."""
        sources, unknown = original.sources(places)
        if unknown:
            raise ModelError(
                f"The codec in {self.folder} has the unknown tensor {unknown[0]}.", "Use an unmodified X-Codec2."
            )
        self._add(places, sources)
        # The shapes don't tell these two.
        stated = {name: self.settings[name] for name in ("sample_rate", "upsample_factors") if name in self.settings}
        self._refuse_missing([name for name in original.MATRICES if len(self.shapes.get(name, ())) != 2])
        self.settings = original.configuration(self.shapes) | stated

    def __call__(self, name: str) -> torch.Tensor:
        """Read one tensor, with the dtype of its file.

        Raises:
            ModelError: It contains NaN or infinite values, or integers.
        """
        tensor: torch.Tensor = self._sources[name].read(self._stored)
        if not tensor.is_floating_point():
            raise ModelError(f"{name} in {self.folder} has the type {tensor.dtype}.", "Use the codec in 16 or 32 bit.")
        if not is_finite(tensor):
            raise ModelError(f"{name} in {self.folder} contains NaN or infinite values.", AGAIN)
        return tensor

    def require(self, names: Iterable[str]) -> None:
        """Raises:
        ModelError: One of these tensors is missing.
        """
        self._refuse_missing(sorted(set(names) - set(self.shapes)))

    def _refuse_missing(self, names: Sequence[str]) -> None:
        if names:
            raise ModelError(f"The codec in {self.folder} lacks {names[0]} ({len(names)} in all).", AGAIN)

    def find_semantic(self) -> None:
        """Take the semantic encoder from its own repository if the codec's file does not contain it.

        Raises:
            ModelError: The repository is not on this machine.
        """
        if not self.is_original or any(name.startswith(_SEMANTIC) for name in self.shapes):
            return
        try:
            folder = find_model(original.SEMANTIC_REPO)
        except ModelError as error:
            raise ModelError(
                f"The codec in {self.folder} can decode but not encode: it does not contain {original.SEMANTIC_REPO}.",
                f"Download it with: llasa download {original.SEMANTIC_REPO}",
            ) from error
        places = {original.semantic_name(name): place for name, place in locate_tensors(folder).items()}
        self._add(places, original.sources(places)[0])

    def _add(self, places: dict[str, TensorLocation], sources: dict[str, original.Source]) -> None:
        """Add tensors.

        Args:
            places: Name in a source -> location.
            sources: transformers' name -> the source of the tensor.
        """
        self._places |= places
        for name, source in sources.items():
            self._refuse_missing([stored for stored in source.stored if stored not in self._places])
            self.shapes[name] = source.shape(lambda stored: self._places[stored].shape)
        self._sources |= sources

    def _stored(self, name: str) -> torch.Tensor:
        tensor: torch.Tensor = read_tensor(self._places[name])
        return tensor
