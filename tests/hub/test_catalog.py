"""The catalog is consistent, and names resolve to repositories."""

from __future__ import annotations

import pytest

from llasa_cli.hub.catalog import ALIASES, CATALOG, repo_of


@pytest.mark.parametrize(
    ("name", "repo"),
    [
        ("8b", ("HKUSTAudio/Llasa-8B", None)),
        ("1b@main", ("HKUSTAudio/Llasa-1B", "main")),
        ("a/b@c", ("a/b", "c")),
        ("./a", None),
    ],
)
def test_names_become_repositories(name: str, repo: tuple[str, str | None] | None) -> None:
    assert repo_of(name) == repo


def test_the_catalog_is_consistent() -> None:
    repos = [entry.repo for entry in CATALOG.values()]
    assert len(set(repos)) == len(repos)
    assert set(ALIASES.values()) <= set(CATALOG)
    assert not set(ALIASES) & set(CATALOG)
    for name, entry in CATALOG.items():
        assert repo_of(name) == (entry.repo, None), "the hub allows such a name"
        assert entry.codec is None or entry.codec in repos, "the codec is in the catalog too"
        assert entry.size or any("size" in doubt for doubt in entry.unverified), "an unknown size is marked as such"
