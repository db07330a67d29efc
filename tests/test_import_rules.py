"""The house's import rules, checked on the source (see the table in README, "Where code lives")."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "llasa_cli"
LEVELS = {
    "errors": 0, "settings": 0, "files": 0.5, "tensors": 0.7,
    "text": 1, "protocol": 1, "audio": 1, "hub": 1, "voices": 1, "device": 1, "checks": 1, "items": 1,
    "products": 1,
    "lm": 2, "codec": 2, "asr": 2,
    "batch": 1.5, "speech": 3, "many": 3.5, "crew": 3.7, "training": 3, "hf": 3, "conversation": 3,
    "commands": 4,
    "app": 5, "__main__": 6,
}  # fmt: skip
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def room(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def imports(tree: ast.Module, at_module_level: bool) -> list[str]:
    """Dotted names imported, either only those run at import time or all."""
    nodes = tree.body if at_module_level else list(ast.walk(tree))
    names: list[str] = []
    for node in nodes:
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_room_imports_only_rooms_below_it(path: Path) -> None:
    own = room(path)
    assert own in LEVELS, f"{own} has no level: add it to the table here and in the README"
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for name in imports(tree, at_module_level=False):
        parts = name.split(".")
        if parts[0] != "llasa_cli" or len(parts) == 1 or parts[1] == "__version__":
            continue
        other = parts[1]
        if other == own:
            continue
        assert LEVELS[other] < LEVELS[own], f"{own} must not import {other}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_light_rooms_import_nothing_heavy_at_start(path: Path) -> None:
    level = LEVELS[room(path)]
    heavy = {"torch", "transformers"} if level == 1 else {"torch", "transformers", "numpy", "soundfile", "tokenizers"}
    if level in (2, 3):
        return
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = heavy & {name.split(".")[0] for name in imports(tree, at_module_level=True)}
    assert not found, f"{path.name} imports {found} when it is itself imported"
    if level >= 4:
        below = [
            n for n in imports(tree, True) if n.startswith("llasa_cli.") and LEVELS.get(n.split(".")[1], 0) in (1, 2, 3)
        ]
        assert not below, f"{path.name} must import {below} inside functions"
