"""A hub on this machine for each test, and a repository that looks like a Llasa."""

from __future__ import annotations

import json
import os
import random
import shutil
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import close_session
from typer.testing import CliRunner

from llasa_cli.cli.app import app
from llasa_cli.hub.http import HubClient, RetryPolicy
from tests.hub.fake_hub import FakeHub

REPO = "somebody/small-llasa"
QUICK = RetryPolicy(first_pause_s=0.01, longest_pause_s=0.02, timeout_s=0.4)
MARKERS = (
    "<|TEXT_UNDERSTANDING_START|>",
    "<|TEXT_UNDERSTANDING_END|>",
    "<|SPEECH_GENERATION_START|>",
    "<|SPEECH_GENERATION_END|>",
)


@lru_cache
def noise(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def write_repo(folder: Path, weights: int = 2_000_003, **config: Any) -> Path:
    """The files of a Llasa as the hub has them. The weights are random bytes because no test loads them."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "vocab_size": 300, **config}))
    tokens = [*MARKERS, *(f"<|s_{number}|>" for number in range(16))]
    write_tokenizer(folder, tokens)
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": "{{ messages }}"}))
    (folder / "README.md").write_text("A model.")
    (folder / "model.safetensors").write_bytes(noise(weights))
    return folder


def write_tokenizer(folder: Path, tokens: list[str]) -> None:
    added = [{"id": 256 + number, "content": token} for number, token in enumerate(tokens)]
    (folder / "tokenizer.json").write_text(json.dumps({"added_tokens": added, "model": {}}))


def write_codec(folder: Path, weights: int = 300_001) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "xcodec2"}))
    (folder / "model.safetensors").write_bytes(noise(weights))
    return folder


@pytest.fixture
def repo_folder(tmp_path: Path) -> Path:
    return write_repo(tmp_path / "served" / "small-llasa")


@pytest.fixture(scope="session")
def one_certificate(tmp_path_factory: pytest.TempPathFactory) -> Path | None:
    """A file with a single authority. Reading all of them takes 40 ms of processor time for each new session."""
    known = ssl.create_default_context().get_ca_certs(binary_form=True)
    if not known:
        return None
    path = tmp_path_factory.mktemp("certificates") / "one.pem"
    path.write_text(ssl.DER_cert_to_PEM_cert(known[0]), encoding="utf-8")
    return path


@pytest.fixture
def hub(
    repo_folder: Path, one_certificate: Path | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[FakeHub]:
    """A hub with one model. The hub library's settings lead to it and to an empty cache."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    if one_certificate is not None:
        monkeypatch.setenv("SSL_CERT_FILE", str(one_certificate))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.delenv("LLASA_CACHE", raising=False)
    monkeypatch.setattr(os, "fsync", lambda number: None)  # each takes tens of milliseconds on a busy disk
    with FakeHub({REPO: repo_folder}) as found:
        for name, value in {
            "ENDPOINT": found.url,
            "HF_HUB_CACHE": str(tmp_path / "home" / "hub"),
            "HF_TOKEN_PATH": str(tmp_path / "home" / "token"),
            "HF_HUB_OFFLINE": False,
        }.items():
            monkeypatch.setattr(f"huggingface_hub.constants.{name}", value)
        close_session()  # the library keeps one connection, with the proxy and the certificates of its start
        yield found
        close_session()


@pytest.fixture
def notes() -> list[str]:
    return []


@pytest.fixture
def client(hub: FakeHub, notes: list[str]) -> HubClient:
    return HubClient(QUICK, notes.append)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "home" / "hub"


@dataclass(frozen=True)
class Made:
    returncode: int
    stdout: str
    stderr: str


Llasa = Callable[..., Made]


@pytest.fixture
def llasa(hub: FakeHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Llasa:
    """The command in this process; starting another one takes most of a second."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Made:
        made = CliRunner().invoke(app, list(arguments))
        assert made.exception is None or isinstance(made.exception, SystemExit), made.exception
        return Made(made.exit_code, made.stdout, made.stderr)

    return run


@pytest.fixture
def environment(hub: FakeHub, tmp_path: Path) -> dict[str, str]:
    """For the command in its own process, to be killed or to run beside others."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("HF_", "LLASA_", "TRANSFORMERS_"))
    }
    return kept | {
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(tmp_path / "home"),
        "OMP_NUM_THREADS": "1",
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }


def same_files(served: Path, fetched: Path) -> bool:
    """Whether every downloaded file equals the served one, and the weights are among them."""
    names = [path.relative_to(fetched) for path in fetched.rglob("*") if path.is_file()]
    return Path("model.safetensors") in names and all(
        (served / name).read_bytes() == (fetched / name).read_bytes() for name in names
    )


def forget(cache: Path) -> None:
    shutil.rmtree(cache, ignore_errors=True)
