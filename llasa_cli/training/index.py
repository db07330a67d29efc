"""index.json and skipped.jsonl, which describe a folder of training files: its sources, tokenizer and settings, and the rows left out."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from llasa_cli.checkpoint.gguf_file import is_gguf, read_gguf
from llasa_cli.checkpoint.gguf_tokenizer import PRONUNCIATIONS_KEY, tokenizer_json
from llasa_cli.errors import UsageError
from llasa_cli.files import AtomicFile, write_json
from llasa_cli.prompt import PromptFormat
from llasa_cli.settings import CODES_PER_SECOND
from llasa_cli.text.pronunciations import PRONUNCIATIONS
from llasa_cli.training.options import PrepareOptions
from llasa_cli.training.row_check import MARKERS
from llasa_cli.training.row_database import RowDatabase

_MAX_LISTED = 10_000
"""Problems in index.json; `skipped.jsonl` has all."""
_OWN_FILES = (("index.json", "splits"), ("skipped.jsonl", "reason"))
"""Files that are written, and a member by which they are recognized."""


def tokenizer_fingerprint(folder: Path) -> str:
    """12 hexadecimal digits of a checkpoint's tokenizer.json and lexicon, or of those in a GGUF file."""
    if is_gguf(folder):
        file = read_gguf(folder)
        content = tokenizer_json(file).encode() + str(file.metadata.get(PRONUNCIATIONS_KEY, "")).encode()
    else:
        lexicon = folder / PRONUNCIATIONS
        content = (folder / "tokenizer.json").read_bytes() + (lexicon.read_bytes() if lexicon.is_file() else b"")
    return hashlib.sha256(content).hexdigest()[:12]


@dataclass(frozen=True)
class RunSettings:
    """Everything that decides what a run writes.

    Attributes:
        codec_identity: The identity of the codec; None without one.
        fingerprint: The result of `tokenizer_fingerprint`.
    """

    options: PrepareOptions
    prompt_format: PromptFormat
    codec_identity: str | None
    fingerprint: str

    @property
    def identity(self) -> str:
        """16 hexadecimal digits that all ranks of one run share."""
        values = {name: str(value) for name, value in asdict(self.options).items() if name not in ("rank", "output")}
        values |= {"codec": str(self.codec_identity), "tokenizer": self.fingerprint}
        values |= {"pad": str(self.prompt_format.pad_id), "spell_out": str(self.prompt_format.spell_out)}
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


# --- one rank ---


def describe(settings: RunSettings, database: RowDatabase) -> dict[str, Any]:
    """The content of index.json; call `RowDatabase.hold_out` before. A clip that is not encoded yet is counted as its header says."""
    options, prompt_format = settings.options, settings.prompt_format
    names = ("shortest", "tenth", "half", "nine_tenths", "longest")
    quantiles = database.quantiles((0, 0.1, 0.5, 0.9, 1))
    listed = [{"row": problem.where, "reason": problem.reason} for problem in database.problems(_MAX_LISTED)]
    return {
        "format": 1,
        "splits": _count_splits(database),
        "seconds": {name: count / CODES_PER_SECOND for name, count in zip(names, quantiles, strict=False)},
        "clips_by_seconds": database.by_seconds(),
        "speakers": database.speakers(),
        "codec": settings.codec_identity,
        "tokenizer": settings.fingerprint,
        "first_code_id": prompt_format.first_code_id,
        "code_count": prompt_format.code_count,
        "pad_id": prompt_format.pad_id,
        "width": options.max_tokens,
        "seed": options.seed,
        "sources": [str(source) for source in options.sources],
        "ranks": options.ranks,
        "skipped": {"reasons": database.reasons(), "rows": listed},
    }


def _count_splits(database: RowDatabase) -> dict[str, Any]:
    splits = {}
    for name in sorted({"train", "val", *database.splits()}):
        condition = f"good AND split = '{name}'"
        codes, rows = database.total("count", condition), database.total("1", condition)
        tokens = database.total("tokens", condition) + codes + MARKERS * rows
        splits[name] = {"rows": rows, "hours": _hours(codes), "codes": codes, "tokens": tokens}
    return splits


def _hours(codes: int) -> float:
    """Hours of speech, rounded."""
    return round(codes / CODES_PER_SECOND / 3600, 3)


def write_listing(path: Path, database: RowDatabase) -> None:
    """List all rows that are left out, a JSON line each; no file if there are none."""
    if next(database.problems(1), None) is None:
        path.unlink(missing_ok=True)
        return
    with AtomicFile(path) as target:
        for problem in database.problems():
            line = json.dumps({"row": problem.where, "reason": problem.reason}, ensure_ascii=False)
            target.file.write(f"{line}\n".encode())


def refuse_empty(reasons: dict[str, int], listing: Path) -> None:
    """Raises UsageError: No row can be used, with the most frequent reason."""
    why = next(iter(reasons), "there are no rows")
    more = f" (and {len(reasons) - 1} other reasons)" if len(reasons) > 1 else ""
    raise UsageError(f"No row could be used: {why}{more}.", f"{listing} has the reason for each row.")


# --- files of earlier runs ---


def refuse_other_files(folder: Path) -> None:
    """Raises UsageError where a file that would be replaced was not written by `llasa prepare`."""
    for name, member in _OWN_FILES:
        path = folder / name
        if path.is_file() and not _has_member(path, member):
            raise UsageError(
                f"{path} was not written by llasa prepare, which would replace it.", "Name another folder with -o."
            )


def _has_member(path: Path, name: str) -> bool:
    """Whether a file, or its first line, is a JSON object with this member."""
    with path.open(encoding="utf-8", errors="replace") as file:
        text = file.readline() if path.suffix == ".jsonl" else file.read()
    try:
        found = json.loads(text)
    except ValueError:
        return False
    return isinstance(found, dict) and name in found


def remove_indexes(folder: Path, rank_prefix: str, ranks: int) -> None:
    """Remove earlier indexes that would be taken for this run's: the merged one, this rank's, those of ranks that no longer exist.

    Args:
        rank_prefix: "rank00001", or empty for the only process.
    """
    own = {"index.json", "skipped.jsonl", f"index_{rank_prefix}.json", f"skipped_{rank_prefix}.jsonl"}
    for path in folder.iterdir():
        rank = re.fullmatch(r"(?:index_rank|skipped_rank)(\d+)\.jsonl?", path.name)
        stale = rank is not None and (ranks == 1 or int(rank[1]) >= ranks)
        if stale or path.name in own:
            path.unlink(missing_ok=True)


# --- several ranks ---


def join_indexes(folder: Path, ranks: int) -> dict[str, Any] | None:
    """Write one `index.json` from those of all ranks; None while one is missing or belongs to another run.

    Raises:
        UsageError: All indexes exist, and none has a usable row.
    """
    indexes = []
    for rank in range(ranks):
        try:
            indexes.append(json.loads((folder / f"index_rank{rank:05d}.json").read_text(encoding="utf-8")))
        except (OSError, ValueError):
            return None
    if len({index["run"] for index in indexes}) != 1:
        return None
    index = merge_indexes(indexes)
    if not any(split["rows"] for split in index["splits"].values()):
        refuse_empty(index["skipped"]["reasons"], folder / "skipped_rank00000.jsonl")
    write_json(folder / "index.json", index)
    return index


def merge_indexes(indexes: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Merge the indexes of several ranks into one."""
    index: dict[str, Any] = {key: value for key, value in indexes[0].items() if key not in ("rank", "run")}
    by_seconds = _sum_counts([one["clips_by_seconds"] for one in indexes])
    index["clips_by_seconds"] = dict(sorted(by_seconds.items(), key=lambda item: int(item[0])))
    index["speakers"] = dict(sorted(_sum_counts([one["speakers"] for one in indexes]).items()))
    names = sorted({name for one in indexes for name in one["splits"]})
    index["splits"] = {
        name: _sum_counts([one["splits"][name] for one in indexes if name in one["splits"]]) for name in names
    }
    for split in index["splits"].values():
        split["hours"] = _hours(split["codes"])
    lengths = [one["seconds"] for one in indexes if one["seconds"]]
    # The quantiles between can't be computed from those of the parts.
    ends = (("shortest", min), ("longest", max)) if lengths else ()
    index["seconds"] = {name: choose(length[name] for length in lengths) for name, choose in ends}
    reasons = _sum_counts([one["skipped"]["reasons"] for one in indexes])
    rows = [row for one in indexes for row in one["skipped"]["rows"]]
    index["skipped"] = {"reasons": dict(sorted(reasons.items(), key=lambda item: -item[1])), "rows": rows[:_MAX_LISTED]}
    return index


def _sum_counts(counts: list[dict[str, Any]]) -> dict[str, Any]:
    total: dict[str, Any] = {}
    for part in counts:
        for name, value in part.items():
            total[name] = total.get(name, 0) + value
    return total
