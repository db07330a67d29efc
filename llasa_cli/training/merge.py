"""Checkpoints made without training: an adapter merged into its base, a text model given speech tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llasa_cli.checkpoint.metadata import read_metadata
from llasa_cli.checkpoint.resolve import base_of, find_model
from llasa_cli.files import copy_files, make_folder, write_json
from llasa_cli.lm.lora import read_adapter
from llasa_cli.lm.weights import weight_files
from llasa_cli.training.finetune import bring_folder
from llasa_cli.training.run_state import refuse_model_in
from llasa_cli.training.vocabulary import TOKENIZER_FILES, codec_size, extend_tokenizer

LARGEST_FILE = 4_000_000_000
"""Bytes of weights in one file, as the hub likes them."""


def merge_adapter(adapter: Path, output: Path, base: str | None = None) -> dict[str, Any]:
    """Write base and adapter as one checkpoint, each tensor in the number format that the base has it in.

    Read and written tensor by tensor: an 8B model takes the memory of one file.

    Args:
        adapter: Of `llasa finetune --lora`, or of peft.
        output: Becomes the checkpoint.
        base: Its base; None takes the one that it names.

    Returns:
        The new checkpoint's llasa.json.

    Raises:
        ModelError: The two do not belong together.
        UsageError: There is a model in the output folder.
    """
    from safetensors import safe_open

    refuse_model_in(output)
    source = find_model(base or base_of(adapter))
    added = read_adapter(adapter)
    files = weight_files(source)
    added.check(set(files))
    make_folder(output)
    writer = _Shards(output)
    for path in sorted(set(files.values())):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - not a dict
                tensor = file.get_tensor(name)
                writer.add(name, added.applied(name, tensor).to(tensor.dtype).contiguous())
    writer.finish()
    named = adapter if (adapter / TOKENIZER_FILES[0]).is_file() else source
    copy_files(source, output, ("config.json", "generation_config.json"))
    copy_files(named, output, TOKENIZER_FILES)
    about = {"format": 1} | read_metadata(source) | read_metadata(adapter)
    codec = about.get("codec")
    for owner in (adapter, source):
        if codec is not None and (owner / codec).is_dir():
            bring_folder(owner / codec, output / "codec")
            about["codec"] = "codec"
            break
    about["merged"] = {"adapter": adapter.name, "scale": sorted({scale for _, _, scale in added.pairs.values()})}
    write_json(output / "llasa.json", about)
    return about


class _Shards:
    """Writes tensors into files of a bounded size, and the index that tells which is where."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._size, self._count = folder, 0, 0
        self._places: dict[str, int] = {}
        self._waiting: dict[str, Any] = {}
        self._whole = 0

    def add(self, name: str, tensor: Any) -> None:
        size = tensor.numel() * tensor.element_size()
        if self._size + size > LARGEST_FILE and self._waiting:
            self._write()
        self._waiting[name] = tensor
        self._places[name] = self._count
        self._size += size
        self._whole += size

    def _write(self) -> None:
        from safetensors.torch import save_file

        save_file(self._waiting, self._part(self._count), metadata={"format": "pt"})
        self._waiting, self._size = {}, 0
        self._count += 1

    def _part(self, number: int) -> Path:
        return self._folder / f".model-{number}.part"

    def finish(self) -> None:
        """All files get their names when the last is written."""
        self._write()
        if self._count == 1:
            self._part(0).replace(self._folder / "model.safetensors")
            return
        names = [f"model-{number + 1:05}-of-{self._count:05}.safetensors" for number in range(self._count)]
        for number, name in enumerate(names):
            self._part(number).replace(self._folder / name)
        index = {
            "metadata": {"total_size": self._whole},
            "weight_map": {name: names[number] for name, number in self._places.items()},
        }
        write_json(self._folder / "model.safetensors.index.json", index)


def extend_model(name: str, output: Path, codec: str | None = None, seed: int = 0) -> dict[str, Any]:
    """A text Llama with the tokens of a Llasa, untrained: what `llasa prepare -m` and `llasa finetune -m` begin with.

    Args:
        name: The text model, as `find_model` takes it.
        output: Becomes the checkpoint.
        codec: Whose codes it is given; None: the published one's 65,536.
        seed: Draws the new rows of the embeddings.
    """
    from transformers import set_seed

    from llasa_cli.device import pick_device
    from llasa_cli.hub.catalog import PUBLISHED_CODEC
    from llasa_cli.prompt import PromptFormat
    from llasa_cli.settings import FinetuneOptions
    from llasa_cli.training.finetune import quiet_libraries
    from llasa_cli.training.model import build_model
    from llasa_cli.training.run_state import describe_prompt_format, export_checkpoint

    refuse_model_in(output)
    quiet_libraries()
    source = find_model(name)
    extend_tokenizer(source, output, codec_size(codec))
    set_seed(seed)
    prompt_format = PromptFormat.load(output)
    model = build_model(FinetuneOptions(Path(), output, model=name), prompt_format, source, pick_device("cpu"))
    about: dict[str, Any] = {"format": 1, "base": name, "protocol": describe_prompt_format(prompt_format), "steps": 0}
    about["codec"] = codec or PUBLISHED_CODEC
    if codec is not None and Path(codec).is_dir():
        bring_folder(Path(codec), output / "codec")
        about["codec"] = "codec"
    export_checkpoint(model, output, about)
    return about
