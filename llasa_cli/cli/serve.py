"""`llasa serve`: a model that stays loaded, behind OpenAI's speech endpoint, a web page and the Wyoming protocol."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from llasa_cli.cli.common_options import ConsoleOptions, LexiconOptions
from llasa_cli.cli.console import Console, claim_stdout, result
from llasa_cli.cli.flags import with_flags
from llasa_cli.cli.model import load_synthesizer
from llasa_cli.errors import UsageError, os_errors_as
from llasa_cli.memory import share_arenas
from llasa_cli.options import Flag, Options
from llasa_cli.settings import ModelOptions, VerifierOptions

if TYPE_CHECKING:
    from llasa_cli.checkpoint.resolve import Checkpoint
    from llasa_cli.serve.service import JobQueue
    from llasa_cli.text.respelling import Lexicon

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_EXIT_S = 15.0
"""The time after the deadline of requests in which the last responses are sent and the process ends."""
SPARE_CONNECTIONS = 128
"""Connections beyond `--max-requests`, so that a full server can still answer with status 429."""


@dataclass(frozen=True)
class ServeOptions(Options, panel="Server"):
    """The addresses of the server, and its limits."""

    host: Annotated[str, Flag("The address to listen on. Any other than loopback needs a key, or --no-auth.")] = (
        "127.0.0.1"
    )
    port: Annotated[int, Flag("The port of the HTTP interface.", minimum=1, maximum=65535)] = 8880
    wyoming: Annotated[
        int | None, Flag("The port of the Wyoming protocol (Home Assistant).", minimum=1, maximum=65535, metavar="PORT")
    ] = None
    wyoming_host: Annotated[
        str,
        Flag(
            "The address of the Wyoming port. The protocol has no key: every machine that reaches the port can use it."
        ),
    ] = "127.0.0.1"
    api_key: Annotated[
        str | None, Flag("Clients must send this key as a bearer token.", environment="LLASA_API_KEY", metavar="KEY")
    ] = None
    no_auth: Annotated[bool, Flag("Allow other machines to use the server without a key.")] = False
    cors_origin: Annotated[
        tuple[str, ...],
        Flag(
            "Web pages of this origin, such as https://example.org, may use the server; may be repeated.",
            metavar="ORIGIN",
        ),
    ] = ()
    asr: Annotated[
        str | None,
        Flag(
            "A recognizer for requests with best_of or verify: a Whisper model (folder or org/repo), or pocketsphinx.",
            completion="recognizers",
            default_text="none",
        ),
    ] = None
    speaker_model: Annotated[
        str | None,
        Flag(
            "A model that compares voices, for requests that choose by likeness: a WavLM-SV, or resemblyzer.",
            completion="speaker_models",
            default_text="none",
        ),
    ] = None
    voice_dir: Annotated[Path | None, Flag("The folder of the saved voices.", default_text="that of llasa voices")] = (
        None
    )
    slots: Annotated[
        int | None,
        Flag(
            "Texts that are generated together.", minimum=1, maximum=1024, default_text="by memory, at most 8 on a CPU"
        ),
    ] = None
    max_requests: Annotated[int, Flag("Requests in progress; further ones get status 429.", minimum=1)] = 256
    max_characters: Annotated[int, Flag("The longest input of a request.", minimum=1)] = 100_000
    devices: Annotated[
        str | None,
        Flag("Devices with a model each: 0,1,2 or all (every GPU), or cpu,cpu.", default_text="the one of --device"),
    ] = None
    ray: Annotated[
        str | None,
        Flag(
            "Load the model on the machines of a Ray cluster: its address, auto, or local for a new one.",
            metavar="ADDRESS",
        ),
    ] = None
    replicas: Annotated[
        int | None,
        Flag(
            "With --ray: how often the model is loaded.",
            minimum=1,
            default_text="one for each GPU, or for each machine without GPUs",
        ),
    ] = None
    background: Annotated[bool, Flag("Return when the server answers; it runs until it is stopped.")] = False
    stop: Annotated[bool, Flag("Stop the server on --port, and wait until it has stopped.")] = False
    deadline: Annotated[
        float, Flag("Seconds that requests have to finish when the server stops.", minimum=0, maximum=3600)
    ] = 10.0


@with_flags
def serve(
    options: ServeOptions, lexicon: LexiconOptions, models: ModelOptions, console_options: ConsoleOptions
) -> None:
    """Keep a model loaded and speak for other programs: OpenAI's /v1/audio/speech, a web page at /, Wyoming."""
    from llasa_cli.serve import background

    if options.stop:
        background.stop(options.port, options.deadline + _EXIT_S)
        return
    if options.host not in _LOOPBACK and options.api_key is None and not options.no_auth:
        raise UsageError(
            f"--host {options.host} lets other machines use this server without a key.",
            "Set --api-key or LLASA_API_KEY, or add --no-auth.",
        )
    _check_ray(options)
    _check_packages(options.wyoming is not None)
    words = lexicon.words
    if options.voice_dir is not None:
        os.environ["LLASA_VOICES"] = str(options.voice_dir)
    from llasa_cli.batch.process_backend import choose_devices
    from llasa_cli.checkpoint.resolve import resolve_checkpoint

    devices = choose_devices(options.devices, models.device, 1)
    checkpoints = [resolve_checkpoint(replace(models, device=device)) for device in devices]
    from llasa_cli.checkpoint.metadata import only_language
    from llasa_cli.synthesis.verifiers import resolve_verifiers

    language = only_language(checkpoints[0].metadata)
    verifiers = resolve_verifiers(VerifierOptions(options.asr, options.speaker_model, True, language))
    _check_port(options.host, options.port)
    if options.wyoming is not None:
        _check_port(options.wyoming_host, options.wyoming)
    with Console(console_options.quiet, console_options.verbose) as console:
        if options.background:
            console.stage("starting the server")
            result(background.start([part for part in sys.argv[2:] if part != "--background"], options.port))
            return
        claim_stdout()
        share_arenas()
        if options.ray is None:
            service = _local_service(options, checkpoints, words, verifiers, console)
        else:
            service = _ray_service(options, checkpoints[0], words, verifiers, console)
        _run(options, service, console)


def _local_service(
    options: ServeOptions,
    checkpoints: Sequence[Checkpoint],
    words: Lexicon,
    verifiers: VerifierOptions,
    console: Console,
) -> JobQueue:
    """The model on the devices of this machine."""
    from llasa_cli.serve.service import SpeechService
    from llasa_cli.synthesis.verifiers import load_verifiers

    synthesizers = [load_synthesizer(checkpoint, console) for checkpoint in checkpoints]
    for synthesizer in synthesizers:
        synthesizer.codec.wait()
        synthesizer.lexicon = words
    service = SpeechService(synthesizers, options.slots, options.max_requests, load_verifiers(verifiers))
    service.warm_up()
    return service


def _ray_service(
    options: ServeOptions, checkpoint: Checkpoint, words: Lexicon, verifiers: VerifierOptions, console: Console
) -> JobQueue:
    """The model on the machines of a Ray cluster."""
    from llasa_cli.serve.ray_service import RayService, ReplicaConfig

    console.stage("starting the replicas")
    config = ReplicaConfig(checkpoint.options, verifiers, words, options.slots, options.max_requests)
    return RayService(str(options.ray), f"llasa-{options.port}", checkpoint, config, options.replicas)


def _run(options: ServeOptions, service: JobQueue, console: Console) -> None:
    """Serve until SIGTERM or Ctrl-C. Requests in progress may finish before the deadline."""
    import asyncio

    import uvicorn

    from llasa_cli.serve.background import registered
    from llasa_cli.serve.http import create_app
    from llasa_cli.serve.limits import ServerSettings, TimedProtocol
    from llasa_cli.serve.server import Server
    from llasa_cli.serve.voices import VoiceStore

    checkpoint = service.synthesizer.checkpoint
    voices = VoiceStore(service.synthesizer)
    settings = ServerSettings(
        options.api_key, options.max_characters, hosts=_answered_hosts(options), origins=options.cors_origin
    )
    config = uvicorn.Config(
        create_app(service, voices, settings, options.deadline),
        options.host,
        options.port,
        http=TimedProtocol,
        log_level="error",  # a client's bad request is not logged
        access_log=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=round(options.deadline + _EXIT_S),
        limit_concurrency=options.max_requests + SPARE_CONNECTIONS,
        lifespan="on",
    )
    url = f"http://{f'[{options.host}]' if ':' in options.host else options.host}:{options.port}/"
    wyoming = None
    if options.wyoming is not None:
        from llasa_cli.serve.wyoming import serve_wyoming

        languages = checkpoint.metadata.get("language") or ["en"]
        wyoming = serve_wyoming(
            options.wyoming_host, options.wyoming, service, voices, languages, options.max_characters
        )
    with ExitStack() as running:

        def begin() -> None:
            running.enter_context(registered(options.port, url))
            console.line(f"{checkpoint.name} at {url}")

        asyncio.run(Server(config, service, options.deadline, begin).run_with(wyoming))


def _answered_hosts(options: ServeOptions) -> tuple[str, ...] | None:
    """The values of `Host` that are answered: without a key only this machine's own names."""
    if options.api_key is not None or options.no_auth:
        return None
    return (*_LOOPBACK, options.host)


def _check_ray(options: ServeOptions) -> None:
    """Raises UsageError if an option can't be combined with --ray, or needs it."""
    if options.ray is None:
        if options.replicas is not None:
            raise UsageError("--replicas has no effect without --ray.", "Use --devices on this machine.")
        return
    if options.devices is not None:
        raise UsageError("--devices is for this machine, --ray for a cluster.", "Leave one of them out.")
    if options.ray.startswith("ray://"):
        raise UsageError(
            f"llasa serve can't use {options.ray}: it has to run on a machine of the cluster.",
            "Run it there with --ray auto.",
        )


def _check_packages(needs_wyoming: bool) -> None:
    from importlib.util import find_spec

    names = ["fastapi", "uvicorn", "multipart", "av", *(["wyoming"] if needs_wyoming else [])]
    missing = [name for name in names if find_spec(name) is None]
    if missing:
        raise UsageError(f"llasa serve needs the packages {', '.join(missing)}.", "pip install 'llasa-cli[serve]'")


def _check_port(host: str, port: int) -> None:
    """Refuse a port in use before the model is loaded."""
    import socket

    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with os_errors_as(f"Port {port} of {host} can't be used", "Choose another with --port."):
            probe.bind((host, port))
