"""A running server with a small random model, for the tests of `llasa serve` and its clients."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

import uvicorn

from llasa_cli.serve.http import create_app
from llasa_cli.serve.limits import ServerSettings, TimedProtocol
from llasa_cli.serve.service import SpeechService
from llasa_cli.serve.voices import VoiceStore
from llasa_cli.settings import ModelOptions
from llasa_cli.synthesis.synthesizer import Synthesizer
from llasa_cli.synthesis.verifiers import LikelihoodVerifier

KEY = "secret"


@dataclass
class Running:
    """A server in a thread."""

    service: SpeechService
    url: str
    model: str
    port: int

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {KEY}"}

    def is_idle(self, within_s: float = 20) -> bool:
        """Whether all requests end and all slots are free in time."""
        deadline = time.monotonic() + within_s
        while (self.service.active or self.service.running) and time.monotonic() < deadline:
            time.sleep(0.02)
        return not (self.service.active or self.service.running)


@pytest.fixture(scope="package")
def synthesizer(random_checkpoint: Path) -> Synthesizer:
    return Synthesizer.load(ModelOptions(model=str(random_checkpoint)))


@pytest.fixture(scope="package")
def server(synthesizer: Synthesizer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    service = SpeechService(synthesizer, slots=4, max_jobs=64, verifiers=[LikelihoodVerifier()])
    patch = pytest.MonkeyPatch()
    patch.setenv("LLASA_VOICES", str(tmp_path_factory.mktemp("voices")))
    app = create_app(service, VoiceStore(synthesizer), ServerSettings(KEY, max_characters=2000), deadline_s=1)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    web = uvicorn.Server(uvicorn.Config(app, "127.0.0.1", port, http=TimedProtocol, log_level="warning"))
    thread = threading.Thread(target=web.run, daemon=True)
    thread.start()
    while not web.started:
        time.sleep(0.02)
    yield Running(service, f"http://127.0.0.1:{port}", synthesizer.checkpoint.name, port)
    web.should_exit = True
    thread.join(timeout=20)
    patch.undo()
