"""Checkpoints that need no training: an adapter merged into its base, and a text model with speech tokens added."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llasa_cli.checkpoint.metadata import METADATA_FILE, read_metadata
from llasa_cli.checkpoint.resolve import base_of, find_folder
from llasa_cli.files import bring_folder, copy_files, make_folder, write_json
from llasa_cli.lm.lora import read_adapter
from llasa_cli.lm.weights import weight_files
from llasa_cli.training.run_state import refuse_model_in, use_umask
from llasa_cli.training.vocabulary import TOKENIZER_FILES, codec_size, extend_tokenizer

MAX_FILE_BYTES = 4_000_000_000
"""Weights in one file, as on the hub."""


def merge_adapter(adapter: Path, output: Path, base: str | None = None) -> dict[str, Any]:
    """Write base and adapter as one checkpoint, each tensor in the dtype that it has in the base.

    Tensors are read and written one by one, so that an 8B model takes the memory of one file.

    Args:
        adapter: Folder from `llasa finetune --lora`, or from peft.
        output: Becomes the checkpoint.
        base: The adapter's base; None takes the one that the adapter names.

    Returns:
        The new checkpoint's llasa.json.

    Raises:
        ModelError: The two do not belong together.
        UsageError: The output folder holds a model.
    """
    from safetensors import safe_open

    refuse_model_in(output)
    source = find_folder(base or base_of(adapter))
    added = read_adapter(adapter)
    files = weight_files(source)
    added.check(set(files))
    make_folder(output)
    writer = _ShardWriter(output)
    for path in sorted(set(files.values())):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - not a dict
                tensor = file.get_tensor(name)
                writer.add(name, added.applied(name, tensor).to(tensor.dtype).contiguous())
    writer.finish()
    use_umask(output)
    tokenizer = adapter if (adapter / TOKENIZER_FILES[0]).is_file() else source
    copy_files(source, output, ("config.json", "generation_config.json"))
    copy_files(tokenizer, output, TOKENIZER_FILES)
    metadata = {"format": 1} | read_metadata(source) | read_metadata(adapter)
    codec = metadata.get("codec")
    for owner in (adapter, source):
        if codec is not None and (owner / codec).is_dir():
            bring_folder(owner / codec, output / "codec")
            metadata["codec"] = "codec"
            break
    metadata["merged"] = {"adapter": adapter.name, "scale": sorted({scale for _, _, scale in added.pairs.values()})}
    write_json(output / METADATA_FILE, metadata)
    return metadata


class _ShardWriter:
    """Writes tensors into files of limited size, and the index that says which file holds which."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._size, self._count = folder, 0, 0
        self._file_of: dict[str, int] = {}
        self._pending: dict[str, Any] = {}
        self._total_size = 0

    def add(self, name: str, tensor: Any) -> None:
        size = tensor.numel() * tensor.element_size()
        if self._size + size > MAX_FILE_BYTES and self._pending:
            self._write()
        self._pending[name] = tensor
        self._file_of[name] = self._count
        self._size += size
        self._total_size += size

    def _write(self) -> None:
        from safetensors.torch import save_file

        save_file(self._pending, self._part(self._count), metadata={"format": "pt"})
        self._pending, self._size = {}, 0
        self._count += 1

    def _part(self, number: int) -> Path:
        return self._folder / f".model-{number}.part"

    def finish(self) -> None:
        """Write the last file, and give all files their names."""
        self._write()
        if self._count == 1:
            self._part(0).replace(self._folder / "model.safetensors")
            return
        names = [f"model-{number + 1:05}-of-{self._count:05}.safetensors" for number in range(self._count)]
        for number, name in enumerate(names):
            self._part(number).replace(self._folder / name)
        index = {
            "metadata": {"total_size": self._total_size},
            "weight_map": {name: names[number] for name, number in self._file_of.items()},
        }
        write_json(self._folder / "model.safetensors.index.json", index)


def extend_model(name: str, output: Path, codec: str | None = None, seed: int = 0) -> dict[str, Any]:
    """Write a text Llama with Llasa's tokens, untrained: a model for `llasa prepare -m` and `llasa finetune -m`.

    Args:
        name: The text model, as `find_folder` takes it.
        output: Becomes the checkpoint.
        codec: The codec whose codes are added; None adds the 65,536 of the published one.
        seed: Draws the new rows of the embeddings.
    """
    from transformers import set_seed

    from llasa_cli.device import pick_device
    from llasa_cli.hub.catalog import PUBLISHED_CODEC
    from llasa_cli.prompt import PromptFormat
    from llasa_cli.training.finetune import quiet_libraries
    from llasa_cli.training.model import build_model
    from llasa_cli.training.options import FinetuneOptions
    from llasa_cli.training.run_state import describe_prompt_format, export_checkpoint

    refuse_model_in(output)
    quiet_libraries()
    source = find_folder(name)
    extend_tokenizer(source, output, codec_size(codec))
    set_seed(seed)
    prompt_format = PromptFormat.load(output)
    model = build_model(FinetuneOptions(Path(), output, model=name), prompt_format, source, pick_device("cpu"))
    metadata: dict[str, Any] = {
        "format": 1,
        "base": name,
        "protocol": describe_prompt_format(prompt_format),
        "steps": 0,
    }
    metadata["codec"] = codec or PUBLISHED_CODEC
    if codec is not None and Path(codec).is_dir():
        bring_folder(Path(codec), output / "codec")
        metadata["codec"] = "codec"
    export_checkpoint(model, output, metadata)
    return metadata
