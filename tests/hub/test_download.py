"""`llasa download` against a hub that speaks the hub's own protocol, on this machine."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """Serves folders as repositories: the model page's JSON, and the files."""

    def __init__(self, repositories: dict[str, Path]) -> None:
        self.repositories = repositories
        self.requests: list[str] = []
        self.gated: set[str] = set()
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self) -> None:
                self.answer(body=False)

            def do_GET(self) -> None:
                self.answer(body=True)

            def answer(self, body: bool) -> None:
                hub.requests.append(f"{self.command} {self.path}")
                status, content, headers = hub.look_up(self.path.split("?")[0])
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                if body:
                    self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def look_up(self, path: str) -> tuple[int, bytes, dict[str, str]]:
        for repo, folder in self.repositories.items():
            if path.startswith(f"/api/models/{repo}"):
                files = [p for p in sorted(folder.rglob("*")) if p.is_file()]
                if "/tree/" in path:
                    tree = [
                        {"type": "file", "path": str(p.relative_to(folder)), "size": p.stat().st_size, "oid": "0" * 40}
                        for p in files
                    ]
                    return 200, json.dumps(tree).encode(), {"Content-Type": "application/json"}
                siblings = [{"rfilename": str(p.relative_to(folder)), "size": p.stat().st_size} for p in files]
                page = {
                    "id": repo,
                    "modelId": repo,
                    "sha": COMMIT,
                    "siblings": siblings,
                    "cardData": {"license": "mit"},
                }
                return 200, json.dumps(page).encode(), {"Content-Type": "application/json"}
            prefix = f"/{repo}/resolve/{COMMIT}/"
            if path.startswith(prefix):
                if repo in self.gated:
                    return 403, b"", {"X-Error-Code": "GatedRepo", "X-Error-Message": "accept the terms"}
                content = (folder / path[len(prefix) :]).read_bytes()
                tag = hashlib.sha256(content).hexdigest()
                return (
                    200,
                    content,
                    {"ETag": f'"{tag}"', "X-Repo-Commit": COMMIT, "Content-Type": "application/octet-stream"},
                )
        return 404, b"", {"X-Error-Code": "RepoNotFound"}


@pytest.fixture
def hub(random_checkpoint: Path) -> Iterator[Hub]:
    found = Hub({"somebody/small-llasa": random_checkpoint})
    yield found
    found.server.shutdown()


def llasa(hub_url: str, cache: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "LLASA_"))}
    environment |= {"HF_ENDPOINT": hub_url, "HF_HOME": str(cache), "OMP_NUM_THREADS": "1", "HF_HUB_DISABLE_XET": "1"}
    environment |= {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    command = [sys.executable, "-m", "llasa_cli", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=cache.parent)


def test_a_model_is_fetched_once_and_spoken_with_offline(hub: Hub, tmp_path: Path, random_checkpoint: Path) -> None:
    (random_checkpoint / "pytorch_model.bin").write_bytes(b"pickled")
    try:
        made = llasa(hub.url, tmp_path / "home", "download", "somebody/small-llasa")
    finally:
        (random_checkpoint / "pytorch_model.bin").unlink()
    assert made.returncode == 0, made.stderr
    assert "somebody/small-llasa" in made.stderr
    assert "licence mit" in made.stderr
    folder = Path(made.stdout.strip())
    assert (folder / "model.safetensors").read_bytes() == (random_checkpoint / "model.safetensors").read_bytes()
    assert (folder / "codec" / "config.json").is_file()
    assert not (folder / "pytorch_model.bin").exists(), "pickled weights are not fetched"

    fetched = [request for request in hub.requests if request.startswith("GET") and "resolve" in request]
    again = llasa(hub.url, tmp_path / "home", "download", "somebody/small-llasa", "-q")
    assert again.returncode == 0, again.stderr
    assert again.stderr == ""
    assert [r for r in hub.requests if r.startswith("GET") and "resolve" in r] == fetched

    hub.requests.clear()
    said = llasa(
        hub.url, tmp_path / "home", "say", "hi", "-m", "somebody/small-llasa", "-o", "a.wav", "--max-seconds", "0.2"
    )
    assert said.returncode == 0, said.stderr
    assert (tmp_path / "a.wav").is_file()
    assert hub.requests == [], "a cached model makes no network call"


def test_a_gated_model_names_its_page_and_the_token(hub: Hub, tmp_path: Path) -> None:
    hub.gated.add("somebody/small-llasa")
    made = llasa(hub.url, tmp_path / "home", "download", "somebody/small-llasa")
    assert made.returncode == 3, made.stderr
    assert "Traceback" not in made.stderr
    assert "HF_TOKEN" in made.stderr
    assert f"{hub.url}/somebody/small-llasa" in made.stderr


@pytest.mark.parametrize("name", ["somebody/absent", "nonsense"])
def test_what_the_hub_does_not_have_is_exit_3(hub: Hub, tmp_path: Path, name: str) -> None:
    made = llasa(hub.url, tmp_path / "home", "download", name)
    assert made.returncode == 3, made.stderr
    assert made.stderr.count("error:") == 1
    assert "Traceback" not in made.stderr


def test_what_does_not_fit_is_refused_before_a_byte_is_fetched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from llasa_cli.errors import LlasaError
    from llasa_cli.hub.download import Plan, check_room

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    check_room([Plan("a/b", None, 10**18, 0, "mit")])  # all of it is there already
    with pytest.raises(LlasaError, match="are to be fetched"):
        check_room([Plan("a/b", None, 10**18, 5 * 10**17, "mit"), Plan("a/c", None, 10**18, 5 * 10**17, "mit")])


def test_the_built_in_voice_needs_no_download(tmp_path: Path) -> None:
    made = llasa("http://127.0.0.1:9", tmp_path / "home", "download", "tiny")
    assert made.returncode == 0
    assert (Path(made.stdout.strip()) / "config.json").is_file()


def test_an_unreachable_hub_is_one_line(tmp_path: Path) -> None:
    made = llasa("http://127.0.0.1:9", tmp_path / "home", "download", "1b")
    assert made.returncode == 3, made.stderr
    assert "can't be reached" in made.stderr
    assert "Traceback" not in made.stderr


def test_the_list_says_sizes_and_licence_without_a_network(tmp_path: Path) -> None:
    made = llasa("http://127.0.0.1:9", tmp_path / "home", "download")
    assert made.returncode == 0
    assert "HKUSTAudio/Llasa-8B" in made.stdout
    assert "17.10 GB" in made.stdout
    assert "non-commercial" in made.stdout
