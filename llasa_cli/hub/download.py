"""Fetch a published model into the hub's shared cache, by huggingface_hub.

Only configuration, tokenizer and safetensors: a pickled checkpoint runs code when it is loaded.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llasa_cli.errors import LlasaError, ModelError
from llasa_cli.hub.catalogue import CATALOGUE, entry_of, repo_of, size_text

WANTED = ("*.safetensors", "*.safetensors.index.json", "*.json", "*.jinja", "tokenizer.model", "LICENSE*", "README.md")


@dataclass(frozen=True)
class Plan:
    """What a download will fetch.

    Attributes:
        repo, revision: From where.
        size: Bytes, of all its files.
        missing: Bytes that are not in the cache yet.
        license: As the catalogue or the model's own page says.
    """

    repo: str
    revision: str | None
    size: int
    missing: int
    license: str


def plan(name: str) -> Plan:
    """Ask the hub what a model is made of.

    Raises:
        ModelError: No such name, not reachable, or its terms are not accepted.
    """
    from huggingface_hub import HfApi, try_to_load_from_cache

    found = repo_of(name)
    if found is None:
        raise ModelError(f"There is no model {name!r}.", "Names: " + ", ".join(CATALOGUE) + "; or org/repository.")
    repo, revision = found
    info = _hub(repo, lambda: HfApi().model_info(repo, revision=revision, files_metadata=True))
    files = [file for file in info.siblings or [] if _is_wanted(file.rfilename)]
    size = sum(file.size or 0 for file in files)
    if not any(file.rfilename.endswith(".safetensors") for file in files):
        raise ModelError(f"{repo} has no safetensors weights.", "Pickled weights can run any code and are not fetched.")
    entry = entry_of(repo)
    card = (info.card_data or {}).get("license") if info.card_data else None
    missing = sum(
        file.size or 0
        for file in files
        if not isinstance(try_to_load_from_cache(repo, file.rfilename, revision=info.sha), str)
    )
    # Not the commit: the cache remembers what `main` is only when `main` was asked for.
    return Plan(repo, revision, size, missing, entry.license if entry else str(card or "unknown"))


def check_room(plans: Sequence[Plan]) -> None:
    """Refuse before a byte is fetched what would not fit.

    Raises:
        LlasaError: The disk is too full, or the cache can't be written.
    """
    from huggingface_hub import constants

    cache = Path(constants.HF_HUB_CACHE)
    try:
        cache.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(cache).free
    except OSError as error:
        raise LlasaError(f"{cache} can't be used: {error.strerror}.", "Set HF_HUB_CACHE to a folder.") from error
    missing = sum(wanted.missing for wanted in plans)
    if free < missing * 1.05:
        raise LlasaError(
            f"{size_text(missing)} are to be fetched; {cache} has {size_text(free)} free.",
            "Make room, or set HF_HUB_CACHE.",
        )


def fetch(wanted: Plan, quiet: bool = False) -> Path:
    """Fetch it; what is there already is not fetched again. -> its folder in the cache."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils import disable_progress_bars

    if quiet:
        disable_progress_bars()
    folder = _hub(
        wanted.repo,
        lambda: snapshot_download(wanted.repo, revision=wanted.revision, allow_patterns=list(WANTED)),
    )
    return Path(folder)


def _is_wanted(name: str) -> bool:
    from fnmatch import fnmatch

    return any(fnmatch(name, pattern) for pattern in WANTED)


def _hub(repo: str, call: Callable[[], Any]) -> Any:
    """Run a call to the hub; say in a sentence what stands in the way."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    page = f"{os.environ.get('HF_ENDPOINT', 'https://huggingface.co')}/{repo}"
    try:
        return call()
    except GatedRepoError as error:
        raise ModelError(
            f"{repo} is gated: its authors want their terms accepted first.",
            f"Accept them at {page}, make a token there, and set HF_TOKEN to it.",
        ) from error
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise ModelError(
            f"The hub has no {repo} that you may see.", f"Check {page}; a private one needs HF_TOKEN."
        ) from error
    except OfflineModeIsEnabled as error:
        raise ModelError(f"{repo} can't be fetched: HF_HUB_OFFLINE is set.", "Unset it for the download.") from error
    except (HfHubHTTPError, LocalEntryNotFoundError, ConnectionError, TimeoutError) as error:
        reason = str(error).strip().splitlines()
        raise ModelError(
            f"The hub can't be reached: {reason[0] if reason else error}", "Run it again: it goes on."
        ) from error
    except Exception as error:
        # The hub library lets its HTTP client's errors through; their common root is not part of its interface.
        if type(error).__module__.split(".")[0] not in (
            "httpx",
            "httpx2",
            "httpcore",
            "httpcore2",
            "requests",
            "urllib3",
        ):
            raise
        raise ModelError(
            f"The hub can't be reached: {error}", "Check the connection; run it again: it goes on."
        ) from error
