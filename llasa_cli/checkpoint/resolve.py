"""Find the `Checkpoint` on this machine for the name of a model. This never uses the network.

    checkpoint = resolve_checkpoint(ModelOptions(model="1b"))
    checkpoint.folder, checkpoint.codec_folder, checkpoint.revision

A command resolves its checkpoint once and hands it down.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from llasa_cli.checkpoint.gguf_file import SUFFIX, is_gguf
from llasa_cli.checkpoint.metadata import only_language, read_metadata
from llasa_cli.checkpoint.safetensors_header import locate_tensors
from llasa_cli.errors import ModelError
from llasa_cli.files import hash_ends, read_json_object
from llasa_cli.hub.cache_layout import find_snapshot, is_folder, missing_from, repo_of_folder
from llasa_cli.hub.catalog import CATALOG, PUBLISHED_CODEC, CatalogEntry, entry_named, entry_of, repo_of, variant_of
from llasa_cli.hub.select import choose_gguf
from llasa_cli.settings import BUILT_IN_MODEL, ModelOptions, SamplingOptions, SamplingRequest
from llasa_cli.wording import format_size

BUILT_IN_FOLDER = Path(__file__).parents[1] / "voices_data" / BUILT_IN_MODEL
ADAPTER_CONFIG = "adapter_config.json"


class ModelDescription(Protocol):
    """The description of a model without its weights: of a `Checkpoint`, or of a model that runs in `llasa serve`."""

    @property
    def name(self) -> str: ...
    @property
    def options(self) -> ModelOptions: ...
    @property
    def metadata(self) -> Mapping[str, Any]: ...
    @property
    def revision(self) -> str: ...
    @property
    def codec_identity(self) -> str: ...
    @property
    def known_speakers(self) -> tuple[str, ...]: ...
    @property
    def style_fields(self) -> tuple[str, ...]: ...
    @property
    def license(self) -> str: ...

    def sampling(self, request: SamplingRequest) -> SamplingOptions:
        """Complete a request with the model's own values, else with the general defaults."""

    def check_unlisted_speaker(self, tag: str) -> None:
        """Refuse a speaker that is not among `known_speakers`, unless the model may know others.

        Raises:
            UsageError: The model can't know this speaker.
        """


@dataclass(frozen=True)
class Checkpoint:
    """A model that is on this machine: what its folders say without its weights or its tokenizer.

    What costs a look into the weights or may be missing (codec, base, revision) is determined at its first use.

    Attributes:
        options: The options it was resolved from.
        folder: Has the tokenizer and the chat template. It is an adapter's folder if the name stands for one, or a GGUF file.
        adapter: The folder of the LoRA adapter to add to the weights, or None.
        metadata: `llasa.json` of the folder, updated by the adapter's.
    """

    options: ModelOptions
    folder: Path
    adapter: Path | None
    metadata: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The model's name as the user gave it."""
        return self.options.model

    @cached_property
    def weights_folder(self) -> Path:
        """Has the whole model's weights: the folder or GGUF file itself, or an adapter's base.

        Raises:
            ModelError: The base is not on this machine, or not named.
        """
        return find_model(base_of(self.folder)) if is_adapter(self.folder) else self.folder

    @cached_property
    def codec_folder(self) -> Path:
        """Raises ModelError if the codec is not on this machine."""
        return find_codec(self.folder, self.options.codec or self.metadata.get("codec"))

    @cached_property
    def codec_identity(self) -> str:
        """See `codec_identity`. Raises ModelError if the codec is not on this machine."""
        return codec_identity(self.codec_folder)

    def sampling(self, request: SamplingRequest) -> SamplingOptions:
        """Complete a request: open values come from the checkpoint's `llasa.json`, else from the general defaults."""
        return request.over(self.metadata.get("sampling") or {})

    def check_unlisted_speaker(self, tag: str) -> None:
        """See `ModelDescription`. A model that lists no speakers may know any tag that it was trained with."""
        from llasa_cli.prompt import PromptFormat

        PromptFormat.load(self.folder).prompt("", speaker=tag)

    @cached_property
    def revision(self) -> str:
        """Identifies the weights: the model's revision, and the adapter's if there is one."""
        own = revision_of(self.folder)
        return own if self.adapter in (None, self.folder) else f"{own}+{revision_of(self.adapter)}"

    @property
    def entry(self) -> CatalogEntry | None:
        """The catalog entry of a published model."""
        found = repo_of(self.name)
        return entry_of(found[0]) if found is not None and not is_folder(Path(self.name).expanduser()) else None

    @property
    def known_speakers(self) -> tuple[str, ...]:
        """The speaker tags that the metadata lists, else those that the catalog knows. It may be empty."""
        own = tuple(self.metadata.get("speakers") or ())
        return own or (self.entry.speakers if self.entry is not None else ())

    @property
    def speaker_notes(self) -> dict[str, str]:
        """A few words about each speaker, such as "woman, British", as far as the metadata has them."""
        return dict(self.metadata.get("speaker_notes") or {})

    @property
    def style_fields(self) -> tuple[str, ...]:
        """The style fields of its prompts: those of the metadata, else those that the catalog knows. It may be empty."""
        own = tuple(self.metadata.get("style") or ())
        return own or (self.entry.style if self.entry is not None else ())

    @property
    def language(self) -> str | None:
        """The only language that the model speaks, by the metadata or the catalog; None if it is not known."""
        listed = {"language": list(self.entry.languages)} if self.entry is not None else {}
        return only_language(self.metadata) or only_language(listed)

    @property
    def license(self) -> str:
        """The license of the weights: the metadata's, else the catalog's."""
        return str(self.metadata.get("license") or (self.entry.license if self.entry is not None else "not stated"))


def resolve_checkpoint(options: ModelOptions) -> Checkpoint:
    """Find the folders of a model and read its metadata.

    Raises:
        ModelError: The model or the adapter is not on this machine, or `llasa.json` is invalid.
    """
    folder, adapter = find_model(options.model), find_adapter(options.adapter)
    metadata = read_metadata(folder)
    if adapter is not None:
        codec = metadata.get("codec")  # an adapter's entry is relative to its own folder
        metadata |= read_metadata(adapter) | {"codec": codec}
    elif is_adapter(folder):
        adapter = folder
    return Checkpoint(options, folder, adapter, metadata)


# --- a model's name ---


def find_model(name: str) -> Path:
    """The folder of a model, or its GGUF file: the built-in voice, a path itself, or a model in a cache.

    Caches are LLASA_CACHE, then the hub's (HF_HOME, HF_HUB_CACHE).

    Raises:
        ModelError: The model is not on this machine, or only in part, or the name is not one of a model.
    """
    if name == BUILT_IN_MODEL:
        return BUILT_IN_FOLDER
    folder = Path(name).expanduser()
    if is_folder(folder) or (is_gguf(folder) and folder.is_file()):
        return folder
    found = repo_of(name)
    if found is None or name.startswith(("/", "./", "../", "~")):
        names = ", ".join([BUILT_IN_MODEL, *CATALOG])
        raise ModelError(
            f"There is no folder {name}, and no model of that name.", f"Names: {names}; or org/repository."
        )
    snapshot = find_snapshot(*found)
    if snapshot is None:
        raise ModelError(
            f"The model {name} is not on this machine{_size_and_license(name)}.",
            f"Download it with: llasa download {name}",
        )
    missing = missing_from(snapshot)
    if missing:
        raise ModelError(
            f"The model {name} is incomplete on this machine: {missing[0]} is missing or truncated.",
            f"Download the rest with: llasa download {name}",
        )
    files = [path.name for path in snapshot.glob(f"*{SUFFIX}")]
    variant = variant_of(name)
    if variant is None and (snapshot / "config.json").is_file():
        return snapshot
    try:
        return snapshot / choose_gguf(files, variant, found[0])
    except ModelError as error:
        if variant is None:
            raise
        raise ModelError(
            f"The model {name} is not on this machine; there is {', '.join(files) or 'no GGUF file of it'}.",
            f"Download it with: llasa download {name}",
        ) from error


def find_folder(name: str) -> Path:
    """Like `find_model`, for callers that need a checkpoint's folder.

    Raises:
        ModelError: The model is a GGUF file.
    """
    found = find_model(name)
    if is_gguf(found):
        raise ModelError(
            f"{found} is a GGUF file, which can speak but not be trained, merged or loaded by another program.",
            "Use the original checkpoint, in safetensors.",
        )
    return found


def find_helper_model(name: str, what: str, kinds: Sequence[Sequence[str]], local: str, hint: str) -> Path:
    """The folder of a model of another kind than Llasa, such as a recognizer: the given one, or its snapshot in the hub's cache.

    Args:
        what: The kind of model, for errors.
        kinds: For each kind of it, the files that a complete snapshot has.
        local: A model of this sort that needs no folder.
        hint: The way to get that one.

    Raises:
        ModelError: It is not on this machine, or the folder holds something else.
    """
    folder = Path(name).expanduser()
    if name.strip() and folder.is_dir():
        if not (folder / "config.json").is_file():
            raise ModelError(f"{folder} is not a {what}: it has no config.json.", hint)
        return folder
    repo = repo_of(name)
    if repo is None or name.startswith(("/", "./", "../", "~")):
        raise ModelError(f"There is no {what} {name!r}.", f"Give a folder, org/repository, or {local}.")
    found = find_snapshot(*repo)
    if found is None or not any(all((found / file).is_file() for file in files) for files in kinds):
        raise ModelError(
            f"The {what} {name} is not on this machine.", f"Download it with: llasa download {name}\n       {hint}"
        )
    return found


def _size_and_license(name: str) -> str:
    """ " (2.74 GB, license: CC BY-NC 4.0)" for a model of the catalog, else an empty string."""
    named = entry_named(name)
    if named is None:
        return ""
    size = f"{format_size(named[1].size)}, " if named[1].size else ""
    return f" ({size}license: {named[1].license})"


def revision_of(folder: Path) -> str:
    """Identifies the weights of a model: the commit in a cache, else 12 hexadecimal digits of the weight files.

    Of a big file only the size and the two ends count.
    """
    if folder.parent.name == "snapshots":
        return folder.name
    if folder.parent.parent.name == "snapshots":  # one of several GGUF files
        return f"{folder.parent.name}:{folder.name}"
    digest = hashlib.sha256()
    for path in [folder] if is_gguf(folder) else sorted(folder.glob("*.safetensors")):
        size = path.stat().st_size
        digest.update(f"{path.name} {size}".encode())
        hash_ends(digest, path)
    return digest.hexdigest()[:12]


# --- adapters ---


def find_adapter(name: str | None) -> Path | None:
    """The folder of a LoRA adapter: a folder itself, or a repository in the cache. None for None.

    Raises:
        ModelError: There is no adapter.
    """
    if name is None:
        return None
    folder = Path(name).expanduser()
    found = None if folder.is_dir() else repo_of(name)
    if found is not None:
        folder = find_snapshot(*found) or folder
    if not (folder / ADAPTER_CONFIG).is_file():
        raise ModelError(f"There is no adapter in {name}.", "Name the folder that `llasa finetune --lora` wrote.")
    return folder


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter and no whole model."""
    if is_gguf(folder):
        return False
    whole = (folder / "model.safetensors").is_file() or (folder / "model.safetensors.index.json").is_file()
    return (folder / ADAPTER_CONFIG).is_file() and not whole


def base_of(folder: Path) -> str:
    """The name of the model that an adapter was trained on.

    Raises:
        ModelError: Neither `llasa.json` nor `adapter_config.json` names it.
    """
    named = read_metadata(folder).get("base")
    named = named or read_json_object(folder / ADAPTER_CONFIG, "Copy it again.").get("base_model_name_or_path")
    if not isinstance(named, str):
        raise ModelError(
            f"The adapter in {folder} does not name the model it belongs to.",
            "Name it: llasa finetune --merge ADAPTER -m BASE -o FOLDER makes one model of the two.",
        )
    return named


# --- codecs ---


def find_codec(model: Path, named: str | None) -> Path:
    """The codec's folder: inside the checkpoint, elsewhere, or the one that belongs to a published model.

    Args:
        model: The checkpoint's folder or GGUF file.
        named: The codec that a flag or `llasa.json` names: a folder in the checkpoint, or a name as for `find_model`.

    Raises:
        ModelError: The codec is not on this machine, or `model` is not the folder of a checkpoint.
    """
    if is_gguf(model):
        model = model.parent
    elif named is None and not (model / "config.json").is_file():
        # Otherwise a folder of unrelated files would be reported to lack the published codec.
        raise ModelError(f"There is no config.json in {model}.", "Is this the folder of a Llasa checkpoint?")
    if named is not None and (model / named / "config.json").is_file():
        return model / named
    return find_model(named or codec_of(model))


def codec_of(model: Path) -> str:
    """The codec repository of a checkpoint whose metadata names none: the catalog's, else the published codec."""
    repo = repo_of_folder(model)
    entry = entry_of(repo) if repo is not None else None
    return (entry.codec if entry is not None else None) or PUBLISHED_CODEC


def codec_identity(folder: Path) -> str:
    """12 hexadecimal digits that are equal for codecs whose codes mean the same.

    They are computed from the quantizer and the layer before it. Both formats of X-Codec2, and finetunes of the decoder
    alone (44.1 kHz), have one identity: what one of them encoded, the others can decode.

    Raises:
        ModelError: The folder is not a codec's.
    """
    read_json_object(folder / "config.json", "A codec folder holds config.json and model.safetensors.")
    places = locate_tensors(folder)
    found = next((names for names in _MEANING if names[0] in places), tuple(sorted(places)))
    digest = hashlib.sha256()
    for name in found:
        if name in places:
            digest.update(f"{places[name].dtype} {places[name].shape}".encode())
            digest.update(places[name].ends(_MEANING_BYTES))
    return digest.hexdigest()[:12]


_MEANING: tuple[tuple[str, ...], ...] = (
    ("quantizer.project_in.weight", "quantizer.project_in.bias", "fc_encoder.weight"),
    ("generator.quantizer.project_in.weight", "generator.quantizer.project_in.bias", "fc_prior.weight"),
)
"""The tensors' names in the format of transformers, and in the original format."""
_MEANING_BYTES = 1 << 16
