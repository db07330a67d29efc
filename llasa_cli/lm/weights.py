"""A checkpoint folder -> its tensors by name, each checked before it is used.

safetensors only, one file or several. Pickled weights are refused: they run code. What the headers tell is checked for the
whole checkpoint before the first tensor is read.
"""

from __future__ import annotations

import re
from pathlib import Path

import torch

from llasa_cli.checkpoint.safetensors_header import AGAIN, Place, is_finite, places_of, read_tensor
from llasa_cli.errors import ModelError
from llasa_cli.lm.llama import LlamaConfig
from llasa_cli.lm.lora import Adapter

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
_HARMLESS = re.compile(r"model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq")
"""Old checkpoints hold these; they follow from config.json."""
_FORMATS = ("F16", "BF16", "F32", "F64")


class Weights:
    """Reads tensors by name; `files` tells which there are, and where."""

    def __init__(self, folder: Path, device: torch.device, dtype: torch.dtype, adapter: Adapter | None = None) -> None:
        self.folder, self.device, self.dtype = folder, device, dtype
        self.files = places_of(folder)
        self._adapter = adapter
        if adapter is not None:
            adapter.check(set(self.files))

    def check(self, shape: LlamaConfig, vocabulary: int, tied: bool) -> None:
        """The headers against what config.json and tokenizer say: all of a Llama, and nothing that would be left out.

        Args:
            vocabulary: Tokens that the tokenizer has; the weights may have more rows (padding).
            tied: config.json says that the embedding is the head as well; a head that is stored counts all the same
                (Llasa-3B has both).

        Raises:
            ModelError: They are not of one model.
        """
        embedding = self._place(EMBEDDING)
        if len(embedding.shape) != 2 or embedding.shape[0] < vocabulary or embedding.shape[1] != shape.hidden:
            raise ModelError(
                f"The weights have {' x '.join(map(str, embedding.shape))} numbers for tokens, "
                f"tokenizer and config.json say {vocabulary} of width {shape.hidden}.",
                "Tokenizer and weights are of different models.",
            )
        if HEAD not in self.files and not tied:
            raise ModelError(f"The checkpoint in {self.folder} has no {HEAD}, and config.json ties none.", AGAIN)
        if shape.layers > len(self.files):
            raise ModelError(
                f"config.json tells of {shape.layers} layers, the weights have not so many tensors.", AGAIN
            )
        expected = shapes_of(shape) | {EMBEDDING: embedding.shape, HEAD: embedding.shape}
        for name, wanted in expected.items():
            if name in self.files or name != HEAD:
                self._check_place(name, wanted)
        strange = [name for name in self.files if name not in expected and not _HARMLESS.fullmatch(name)]
        if strange:
            raise ModelError(f"The checkpoint has {strange[0]}, which no Llasa has and this program does not run.")

    def __call__(self, name: str, *shape: int) -> torch.Tensor:
        """One tensor, where and as it is wanted."""
        return self.stored(name, *shape).to(self.device, self.dtype)

    def stored(self, name: str, *shape: int) -> torch.Tensor:
        """One tensor as it is in its file and backed by it, checked against `shape` where that is given.

        Checked here because not every wrong shape fails later: one row is broadcast, and a short head speaks nonsense.

        Raises:
            ModelError: It is not there, of another shape or kind, or broken: not all of its numbers are finite.
        """
        self._check_place(name, shape or self._place(name).shape)
        place = self._place(name)
        tensor: torch.Tensor = read_tensor(place, name)
        if self._adapter is not None:
            tensor = self._adapter.applied(name, tensor)
        if not is_finite(tensor):
            raise ModelError(f"{name} in {place.file} holds numbers that are none (NaN or infinite).", AGAIN)
        return tensor

    def looked_up(self, name: str) -> torch.Tensor:
        """As `stored`, for what is used a few rows at a time: what looking it over has touched does not stay in memory."""
        tensor = self.stored(name)
        if self._adapter is not None and (name in self._adapter.replaced or name in self._adapter.pairs):
            return tensor
        del tensor
        return read_tensor(self._place(name), name)

    def _place(self, name: str) -> Place:
        if name not in self.files:
            raise ModelError(f"The checkpoint in {self.folder} has no {name}.", "It is incomplete: fetch it again.")
        return self.files[name]

    def _check_place(self, name: str, shape: tuple[int, ...]) -> None:
        place = self._place(name)
        if place.shape != shape:
            raise ModelError(
                f"{name} has the shape {place.shape}, config.json and tokenizer say {shape}.",
                "The files are of different models.",
            )
        if place.dtype not in _FORMATS:
            raise ModelError(f"{name} is stored as {place.dtype}.", "Use the checkpoint in 16 or 32 bit.")


def weight_files(folder: Path) -> dict[str, Path]:
    """Tensor name -> the file that holds it."""
    return {name: place.file for name, place in places_of(folder).items()}


def shapes_of(shape: LlamaConfig) -> dict[str, tuple[int, ...]]:
    """A Llama's tensors less embedding and head, and the shape that config.json gives them."""
    width, inner = shape.hidden, shape.inner
    queries, keys = shape.heads * shape.head, shape.key_value_heads * shape.head
    layer = {
        "input_layernorm": (width,),
        "self_attn.q_proj": (queries, width),
        "self_attn.k_proj": (keys, width),
        "self_attn.v_proj": (keys, width),
        "self_attn.o_proj": (width, queries),
        "post_attention_layernorm": (width,),
        "mlp.gate_proj": (inner, width),
        "mlp.up_proj": (inner, width),
        "mlp.down_proj": (width, inner),
    }
    found: dict[str, tuple[int, ...]] = {"model.norm.weight": (width,)}
    for index in range(shape.layers):
        found |= {f"model.layers.{index}.{part}.weight": size for part, size in layer.items()}
    return found
