"""The import rules of docs/architecture.md, checked on the source: levels, no cycles, nothing heavy at start."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "llasa_cli"
LEVELS = {
    "errors": 0, "options": 0.1, "settings": 0.2, "batch.options": 0.3, "training.options": 0.3, "wording": 0, "memory": 0, "scratch_database": 0, "files": 0.5, "packed_weights_folder": 0.6,
    "text": 0.9, "documents": 0.95, "chat_template": 0.9, "prompt_tokens": 0.5, "prompt": 1, "audio.formats": 0.1, "audio": 1, "checkpoint.safetensors_header": 0.7, "checkpoint.metadata": 0.7, "checkpoint.gguf_file": 0.7, "checkpoint.gguf_tokenizer": 0.7, "checkpoint.indexed_tokenizer": 0.7, "hub": 1, "checkpoint": 1.1, "voices": 1.2,
    "device": 1, "packed_linear": 1,
    "batch": 1.5, "batch.destination": 1.5, "hub.inventory": 1.15, "lm": 2, "codec": 2, "asr": 1.15, "speaker_embedding": 1.15,
    "synthesis.quality": 1, "synthesis.length_band": 1, "synthesis": 3, "synthesis.batched": 3.5,
    "batch.messages": 3.7, "batch.worker_pool": 3.7, "batch.worker": 3.7, "batch.scheduler": 3.7,
    "batch.run": 3.8, "batch.passages": 3.9, "batch.thread_backend": 3.7, "batch.process_backend": 3.7, "batch.ray_backend": 3.7,
    "serve": 3.8, "training": 3, "transformers_compat": 3.2, "hf": 3.3,
    "cli": 4, "cli.app": 5, "__main__": 6,
}  # fmt: skip
"""The level of each package; a module that has a level of its own is named with its package."""
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def level_name(path: Path) -> str:
    """The longest entry of LEVELS that names this module or a package around it."""
    return level_name_of(path.relative_to(PACKAGE).with_suffix("").parts)


def level_name_of(parts: tuple[str, ...]) -> str:
    for length in range(len(parts), 0, -1):
        name = ".".join(parts[:length])
        if name in LEVELS:
            return name
    return parts[0]


@cache
def imports(path: Path, at_module_level: bool) -> list[str]:
    """Dotted names imported, either only those run at import time or all."""
    tree = parsed(path)
    nodes = tree.body if at_module_level else list(ast.walk(tree))
    names: list[str] = []
    for node in nodes:
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_lower_levels(path: Path) -> None:
    own = level_name(path)
    assert own in LEVELS, f"{own} has no level: add it to the table here and in docs/architecture.md"
    for name in imports(path, at_module_level=False):
        parts = name.split(".")
        if parts[0] != "llasa_cli" or len(parts) == 1 or parts[1] == "__version__":
            continue
        other = level_name_of(tuple(parts[1:]))
        if other == own:
            continue
        same_package = own.split(".")[0] == other.split(".")[0]
        assert LEVELS[other] < LEVELS[own] or (same_package and LEVELS[other] == LEVELS[own]), (
            f"{own} must not import {other}"
        )


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_light_modules_import_nothing_heavy_at_start(path: Path) -> None:
    level = LEVELS[level_name(path)]
    heavy = (
        {"torch", "transformers"} if 1 <= level < 2 else {"torch", "transformers", "numpy", "soundfile", "tokenizers"}
    )
    if 2 <= level < 4:
        return
    found = heavy & {name.split(".")[0] for name in imports(path, at_module_level=True)}
    assert not found, f"{path.name} imports {found} when it is itself imported"
    if level >= 4:
        below = [
            n
            for n in imports(path, True)
            if n.startswith("llasa_cli.")
            and 0.9 <= LEVELS.get(level_name_of(tuple(n.split(".")[1:])), 0) < 4
            and "batch.destination" not in n
        ]
        assert not below, f"{path.name} must import {below} inside functions"


def test_there_are_no_import_cycles() -> None:
    """Neither between packages nor inside one, imports inside functions included."""
    names = {".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts): path for path in MODULES}
    graph = {}
    for name, path in names.items():
        imported = imports(path, at_module_level=False)
        graph[name] = {n for full in imported for n in (full, full.rpartition(".")[0]) if n in names and n != name}
    left = dict(graph)
    while leaves := {name for name, below in left.items() if not below & left.keys()}:
        left = {name: below for name, below in left.items() if name not in leaves}
    assert sorted(left) == [], "these modules import each other, or import modules that do"
