"""`llasa say --server` and `llasa clone --server`: the same command as without a server, without torch."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner, Result

from llasa_cli.cli.app import app
from llasa_cli.serve.client import Connection, RemoteSynthesizer, _groups
from llasa_cli.settings import SamplingRequest, SpeechOptions
from llasa_cli.synthesis.synthesizer import Synthesizer
from llasa_cli.synthesis.text_to_speech import StreamSettings
from llasa_cli.synthesis.utterance import ResumePoint, Utterance
from tests.serve.conftest import KEY, Running
from tests.serve.test_serve import SHORT, TRANSCRIPT, clip

OPTIONS = ["--max-seconds", "0.4", "--temperature", "0", "--seed", "7", "--accept-failed"]
TEXT = "One thing. Another thing that is a little longer, and then some.\n\nA [pause:0.5] third."


def say(*arguments: str, text: str | None = None) -> Result:
    return CliRunner().invoke(app, ["say", *OPTIONS, *arguments], input=text)


def remote(server: Running) -> list[str]:
    return ["--server", server.url, "--api-key", KEY]


BEST = ["--best-of", "3", "--choose-by", "likelihood", "--temperature", "0.8"]


@pytest.mark.parametrize(
    ("ending", "beside", "more"), [("wav", True, []), ("flac", False, []), ("ogg", False, []), ("wav", False, BEST)]
)
def test_the_file_is_the_one_without_a_server(
    server: Running, random_checkpoint: Path, tmp_path: Path, ending: str, beside: bool, more: list[str]
) -> None:
    kinds = {"--subtitles": "srt", "--words": "json"} if beside else {}

    def outputs(name: str) -> list[str]:
        files = {"-o": ending} | kinds
        return [word for flag, kind in files.items() for word in (flag, str(tmp_path / f"{name}.{kind}"))]

    local = say(TEXT, "-m", str(random_checkpoint), *outputs("here"), *more, "--json")
    served = say(TEXT, *remote(server), *outputs("there"), *more, "--json")
    assert (local.exit_code, served.exit_code) == (0, 0), served.output
    assert np.array_equal(*(soundfile.read(tmp_path / f"{name}.{ending}")[0] for name in ("here", "there")))
    for kind in kinds.values():
        assert (tmp_path / f"here.{kind}").read_text() == (tmp_path / f"there.{kind}").read_text()
    assert what_was_made(local) == what_was_made(served)


def what_was_made(result: Result) -> dict[str, Any]:
    """The object of `--json` without its path and its times of computing."""
    found = json.loads(result.stdout.splitlines()[-1])
    hidden = ("path", "wall_s", "model")
    found["chunks"] = [{k: v for k, v in row.items() if k not in hidden} for row in found["chunks"]]
    return {name: value for name, value in found.items() if name not in hidden}


def test_parts_of_a_text_are_spoken_as_the_whole(server: Running, synthesizer: Synthesizer) -> None:
    client = RemoteSynthesizer.connect(server.url, KEY)
    options = SpeechOptions(sampling=SamplingRequest(temperature=0, **SHORT), seed=7, retries=0)
    parts = ["First one. ", "Second one, which goes on.\n\n", "...", "A third."]
    wanted: list[Utterance] = []
    here = [chunk.samples for chunk in synthesizer.stream(parts, options, None, wanted.append)]
    for is_growing in (False, True):
        found: list[Utterance] = []
        settings = StreamSettings(is_growing=is_growing)
        there = [chunk.samples for chunk in client.stream(parts, options, None, found.append, settings)]
        assert all(map(np.array_equal, there, here))
        assert [u.text for u in found] == [u.text for u in wanted]
        settings = replace(settings, resume_from=ResumePoint(2))
        rest = [chunk.samples for chunk in client.stream(parts, options, settings=settings)]
        assert all(map(np.array_equal, rest, here[2:]))
        assert (len(there), len(rest)) == (len(here), len(here) - 2)


def test_a_connection_that_the_server_closed_is_made_anew() -> None:
    def answer(listening: socket.socket) -> None:
        for _ in range(2):
            with listening.accept()[0] as connection:
                connection.recv(4096)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = threading.Thread(target=answer, args=(listening,))
        server.start()
        client = Connection(f"http://127.0.0.1:{listening.getsockname()[1]}", None)
        assert [client.json("GET", "/"), client.json("GET", "/")] == [{}, {}]
        server.join()


def test_requests_have_at_least_a_word_and_at_most_the_limit() -> None:
    parts = ["...", "One. ", "Two. " * 10, "-", "Three.", "***"]
    for limit, most in ((1, 20), (30, 40), (1000, 2000)):
        groups = list(_groups(parts, limit, most))
        assert "".join(piece for group in groups for piece in group).startswith("".join(parts)[:-3])
        assert all(any(c.isalnum() for piece in group for c in piece) for group in groups)


def test_a_pipe_is_spoken(server: Running, tmp_path: Path) -> None:
    made = say(*remote(server), "-o", str(tmp_path / "a.wav"), text="Piped words. And more.\n")
    assert made.exit_code == 0, made.output
    assert soundfile.info(tmp_path / "a.wav").frames


def test_a_pipe_with_several_voices_is_refused(server: Running, tmp_path: Path) -> None:
    made = say(*remote(server), "-o", str(tmp_path / "a.wav"), text="[voice:heart] Piped words.\n")
    assert made.exit_code == 2, made.output
    assert "Several voices need the model on this machine" in made.output
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--server", "http://127.0.0.1:9"], 3, "can't be reached"),
        (["--server", "ftp://x"], 2, "not the address"),
        (["SERVER", "--api-key", "wrong"], 2, "another API key"),
        (["SERVER", "--voice", "nobody"], 2, "no saved voice"),
        (["SERVER", "--speaker", "nobody"], 2, "no speaker"),
        (["SERVER", "-m", "1b"], 3, "has the model"),
        (["SERVER", "--device", "cpu"], 2, "--device"),
        (["SERVER", "--verify"], 2, "Start it with --asr"),
        (["SERVER", "--best-of", "2", "--choose-by", "words"], 2, "Start it with --asr"),
        (["SERVER", "--choose-by", "likelihood"], 2, "no effect without --best-of"),
        (
            ["SERVER", "--best-of", "2", "--choose-by", "likeness", "--speaker-model", "resemblyzer"],
            2,
            "--speaker-model",
        ),
        (["--server-or-local"], 2, "no effect"),
        (["SERVER", "[voice:heart] And this."], 2, "Several voices need the model on this machine"),
        (["SERVER", "--cast", "Anna=heart"], 2, "Several voices need the model on this machine"),
    ],
)
def test_errors_have_the_exit_codes_of_the_command(
    server: Running, tmp_path: Path, arguments: list[str], code: int, message: str
) -> None:
    if arguments[0] == "SERVER":
        arguments = [*remote(server), *arguments[1:]]
    made = say("Hello.", "-o", str(tmp_path / "a.wav"), *arguments)
    assert made.exit_code == code, made.output
    assert message in made.output
    assert not list(tmp_path.iterdir())


def test_the_model_is_loaded_here_only_if_that_was_asked_for(random_checkpoint: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    made = say(
        "Hi.", "-m", str(random_checkpoint), "--server", "http://127.0.0.1:9", "--server-or-local", "-o", str(path)
    )
    assert made.exit_code == 0, made.output
    assert "loaded here" in made.output
    assert path.exists()


def test_a_clip_is_cloned_as_without_a_server(
    server: Running, random_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLASA_VOICES", str(tmp_path / "voices"))
    (tmp_path / "clip.wav").write_bytes(clip())
    command = ["clone", "--ref", str(tmp_path / "clip.wav"), "--ref-text", TRANSCRIPT, "Hello there.", *OPTIONS]
    outputs = [tmp_path / "here.wav", tmp_path / "there.wav"]
    for path, where in zip(outputs, (["-m", str(random_checkpoint)], remote(server)), strict=True):
        made = CliRunner().invoke(app, [*command, "-o", str(path), "--save", path.stem, *where])
        assert made.exit_code == 0, made.output
    voices = [json.loads((tmp_path / "voices" / f"{path.stem}.json").read_text()) for path in outputs]
    assert voices[0]["codes"] == voices[1]["codes"]
    assert outputs[0].read_bytes() == outputs[1].read_bytes()
    again = say("Hello there.", "--voice", "there", "-o", str(tmp_path / "again.wav"), *remote(server))
    assert again.exit_code == 0, again.output
    assert (tmp_path / "again.wav").read_bytes() == outputs[1].read_bytes()


def test_torch_is_not_imported(server: Running, tmp_path: Path) -> None:
    (tmp_path / "clip.wav").write_bytes(clip())
    said, cloned = str(tmp_path / "said.wav"), str(tmp_path / "cloned.wav")
    reference = ["--ref", str(tmp_path / "clip.wav"), "--ref-text", TRANSCRIPT]
    rest = ["Hello.", *OPTIONS, *remote(server), "-o"]
    program = (
        "import sys\nfrom llasa_cli.__main__ import main\n"
        f"for arguments in {[['say', *rest, said], ['clone', *reference, *rest, cloned]]!r}:\n"
        "    sys.argv = ['llasa', *arguments]\n"
        "    try: main()\n    except SystemExit as end: assert not end.code, end.code\n"
        "heavy = {'torch', 'transformers', 'tokenizers', 'huggingface_hub', 'fastapi'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    made = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    assert Path(said).exists()
    assert Path(cloned).exists()
