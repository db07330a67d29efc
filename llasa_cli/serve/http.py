"""The HTTP interface: OpenAI's speech endpoint, voices, health, metrics and the page.

    app = create_app(service, voices, settings)        a FastAPI application for uvicorn

No path in a request is ever opened, and a text can't become a control token (`PromptFormat` encodes it as plain text).
`serve.limits` bounds the size and the duration of requests.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Form, Request
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse

from llasa_cli import __version__
from llasa_cli.errors import ModelError
from llasa_cli.prompt import parse_style
from llasa_cli.serve.api_errors import ERROR_HANDLERS, ERROR_SCHEMAS, ApiError
from llasa_cli.serve.encoders import MEDIA_TYPES, Encoder
from llasa_cli.serve.limits import RequestLimits, ServerSettings
from llasa_cli.serve.metrics import FIRST_SOUNDS_KEPT, metrics_text
from llasa_cli.serve.requests import ClipFile, SpeechRequest, Transcript, VoiceName, find_voice
from llasa_cli.serve.responses import (
    check_headers,
    encoded,
    response_body,
    server_sent_events,
    unless_disconnected,
)
from llasa_cli.serve.service import EventQueue, JobQueue, SpeechModel
from llasa_cli.serve.voices import VoiceStore
from llasa_cli.settings import SamplingRequest
from llasa_cli.synthesis.batched import SynthesisRequest
from llasa_cli.text.unicode import whole_characters

PAGE = Path(__file__).with_name("page.html")
ALIASES = ("tts-1", "tts-1-hd", "gpt-4o-mini-tts")
"""Names of OpenAI's models, which some clients always send. They mean the model that is loaded."""


def create_app(service: JobQueue, voices: VoiceStore, settings: ServerSettings, deadline_s: float = 10.0) -> FastAPI:
    """The application. When it is shut down, the service stops if it has not been stopped before.

    Args:
        deadline_s: The time that requests in progress may then take to finish.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(service.stop, deadline_s)

    # FastAPI's pages for the API load scripts from other hosts.
    app = FastAPI(
        title="llasa",
        version=__version__,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        responses=ERROR_SCHEMAS,
    )
    for name in ("python_multipart", "multipart"):  # a client's bad form is not logged
        logging.getLogger(name).setLevel(logging.CRITICAL)
    if settings.origins:
        app.add_middleware(CORSMiddleware, allow_origins=settings.origins, allow_methods=["*"], allow_headers=["*"])
    app.add_middleware(RequestLimits, settings=settings)
    for kind, response in ERROR_HANDLERS.items():
        app.add_exception_handler(kind, response)
    endpoints = _Endpoints(service, voices, settings)
    guarded = [Depends(endpoints.check_key)]
    sound = {kind: {"schema": {"type": "string"}} for kind in (*MEDIA_TYPES.values(), "text/event-stream")}
    app.post(
        "/v1/audio/speech",
        dependencies=guarded,
        response_class=StreamingResponse,
        responses={200: {"description": "The speech, sent while it is generated.", "content": sound}},
    )(endpoints.speech)
    app.get("/v1/models", dependencies=guarded)(endpoints.models)
    app.get("/v1/audio/models", dependencies=guarded)(endpoints.models)
    app.get("/v1/audio/voices", dependencies=guarded)(endpoints.list_voices)
    app.get("/v1/audio/voices/{name}", dependencies=guarded)(endpoints.voice)
    app.post("/v1/audio/voices", dependencies=guarded)(endpoints.add_voice)
    app.delete("/v1/audio/voices/{name}", dependencies=guarded)(endpoints.remove_voice)
    app.get("/health")(endpoints.health)
    app.get("/metrics", dependencies=guarded)(endpoints.metrics)
    app.get("/", include_in_schema=False)(endpoints.page)
    return app


class _Endpoints:
    """The endpoints, one method for each route."""

    def __init__(self, service: JobQueue, voices: VoiceStore, settings: ServerSettings) -> None:
        self._service, self._voices, self._settings = service, voices, settings
        self._began = time.time()
        self._first_sounds: deque[float] = deque(maxlen=FIRST_SOUNDS_KEPT)
        self._model, self._facts = service.synthesizer.checkpoint.name, model_facts(service.synthesizer)

    async def check_key(self, request: Request) -> None:
        if self._settings.api_key is None:
            return
        given = request.headers.get("authorization", "").removeprefix("Bearer ").strip()
        if not hmac.compare_digest(given.encode(), self._settings.api_key.encode()):
            raise ApiError(401, "Incorrect API key provided.", "invalid_api_key")

    async def speech(self, body: SpeechRequest, request: Request) -> Response:
        """Synthesize a text. The response is sent while the speech is generated."""
        text = body.text(self._settings.max_characters)
        if body.model not in (None, self._model, *ALIASES):
            message = f"The model {body.model[:60]!r} does not exist; this server has {self._model!r}."
            raise ApiError(404, message, "model_not_found", "model", ModelError(message))
        speaker, reference = await asyncio.to_thread(find_voice, body.voice, self._voices, self._settings)
        options = body.options(speaker)
        parse_style(options.style, self._service.synthesizer.prompt_format.style_fields)
        judges = body.judges(self._service.verifiers, reference is not None)
        rate = self._service.synthesizer.sampling_rate
        encoder = Encoder(body.response_format, rate, body.speed)
        events = EventQueue()
        received = time.monotonic()
        synthesis = SynthesisRequest(None, text, options, reference, body.skipped_chunks, body.continues)
        job = await asyncio.to_thread(self._service.submit, synthesis, events.emit, body.stream, judges)

        def on_first_sound() -> None:
            self._first_sounds.append(time.monotonic() - received)

        headers = {"X-Llasa-Seed": str(options.seed), "X-Llasa-Sampling-Rate": str(rate)}
        if body.stream_format == "sse":
            sent = server_sent_events(job, events, encoder, options.seed, body.chunk_events, on_first_sound)
            return StreamingResponse(sent, media_type="text/event-stream", headers=headers)
        try:
            # The first piece is awaited here, so that a failure before it becomes an error response.
            pieces = encoded(job, events, encoder)
            first = await unless_disconnected(request, anext(pieces))
        except BaseException:
            job.cancel()
            raise
        on_first_sound()
        headers |= check_headers(job)
        return StreamingResponse(
            response_body(job, first, pieces), media_type=MEDIA_TYPES[body.response_format], headers=headers
        )

    async def models(self) -> dict[str, Any]:
        facts = self._facts | {"max_characters": self._settings.max_characters}
        model = {"id": self._model, "object": "model", "created": int(self._began), "owned_by": "llasa", "llasa": facts}
        return {"object": "list", "data": [model], "models": [model]}  # Open WebUI reads `models`

    async def list_voices(self) -> dict[str, Any]:
        return {"voices": await asyncio.to_thread(self._voices.describe)}

    async def voice(self, name: str) -> dict[str, Any]:
        """A saved voice: its transcript and its codes."""
        return await asyncio.to_thread(self._voices.read, name)

    async def add_voice(
        self,
        file: ClipFile,
        text: Transcript,
        name: VoiceName = None,
        as_is: Annotated[bool, Form()] = False,
    ) -> dict[str, Any]:
        """Save a voice from a clip, which is checked as `llasa clone` checks it.

        Without a name the voice is returned and not saved. With `as_is` the clip is checked but not trimmed.
        """
        most = self._settings.max_clip_bytes
        data = await file.read(most + 1)
        if len(data) > most:
            raise ApiError(413, f"The clip is larger than {most:,} bytes.", "file_too_large", "file")
        text = whole_characters(text)
        if name is not None:
            warnings = await asyncio.to_thread(self._voices.add, name, data, text)
            return {"name": name, "warnings": warnings}
        reference = await asyncio.to_thread(self._voices.encode, data, text, as_is)
        return {"text": reference.text, "codes": reference.codes, "codec": self._voices.codec_identity}

    async def remove_voice(self, name: str) -> dict[str, Any]:
        await asyncio.to_thread(self._voices.remove, name)
        return {"name": name, "deleted": True}

    async def health(self) -> Response:
        replicas = self._service.replicas
        found: dict[str, Any] = {"status": "ok" if replicas != 0 else "no replica", "model": self._model}
        found |= {"requests": self._service.active} | ({} if replicas is None else {"replicas": replicas})
        return JSONResponse(found, 200 if replicas != 0 else 503)

    async def metrics(self) -> Response:
        text = metrics_text(self._service, self._first_sounds)
        return PlainTextResponse(text, media_type="text/plain; version=0.0.4")

    async def page(self) -> Response:
        return FileResponse(PAGE, media_type="text/html")


def model_facts(synthesizer: SpeechModel) -> dict[str, Any]:
    """The facts about the model that `llasa --server` needs; see `serve.client`."""
    checkpoint = synthesizer.checkpoint
    return {
        "revision": checkpoint.revision,
        "sampling_rate": synthesizer.sampling_rate,
        "speakers": list(synthesizer.prompt_format.speakers),
        "style": list(synthesizer.prompt_format.style_fields),
        "default_speaker": synthesizer.prompt_format.default_speaker,
        "codec": checkpoint.codec_identity,
        "license": checkpoint.license,
        "language": checkpoint.metadata.get("language"),
        "cloning_note": checkpoint.metadata.get("cloning_note"),
        "spell_out": bool(checkpoint.metadata.get("spell_out")),
        "sampling": asdict(checkpoint.sampling(SamplingRequest())),
    }
