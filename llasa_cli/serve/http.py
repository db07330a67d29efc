"""The HTTP interface: OpenAI's speech endpoint, voices, health, metrics and the page.

    app = create_app(service, voices, settings)        a FastAPI application for uvicorn

No path in a request is ever opened, and a text can't become a control token (`PromptFormat` encodes it as plain text).
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import json
import math
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import Depends, FastAPI, File, Form, HTTPException, Request, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from pydantic import BaseModel, Field, create_model
from starlette.exceptions import HTTPException as StarletteHTTPException

from llasa_cli import __version__
from llasa_cli.errors import AudioError, LlasaError, UsageError
from llasa_cli.serve.encoders import MEDIA_TYPES, Encoder
from llasa_cli.serve.service import Audio, Done, Event, Failed, QueueFull, SpeechJob, SpeechService
from llasa_cli.serve.voices import VoiceStore
from llasa_cli.settings import LARGEST_SEED, SamplingOptions, SamplingRequest, SpeechOptions

PAGE = Path(__file__).with_name("page.html")
ALIASES = ("tts-1", "tts-1-hd", "gpt-4o-mini-tts")
"""Names of OpenAI's models, which some clients send whatever the server offers. They mean the model that is loaded."""
RETRY_AFTER_S = 2


@dataclass(frozen=True)
class ServerSettings:
    """The limits of the server, and its key.

    Attributes:
        api_key: Required as `Authorization: Bearer KEY`; None requires none.
        max_characters: The longest input.
        max_clip_bytes: The largest upload.
    """

    api_key: str | None = None
    max_characters: int = 100_000
    max_clip_bytes: int = 20_000_000


class InlineVoice(BaseModel):
    """A reference clip inside a request."""

    audio: str = Field(description="Base64 of an audio file with 1 to 15 s of speech.")
    text: str = Field(min_length=1, max_length=2000, description="What is said in the clip.")


_SAMPLING_FIELDS = tuple(part.name for part in fields(SamplingRequest))
_FIELD_TYPES: Any = {part.name: (type(part.default) | None, None) for part in fields(SamplingOptions)}
_SamplingFields: Any = create_model("_SamplingFields", **_FIELD_TYPES)


class SpeechRequest(_SamplingFields):
    """The body of `POST /v1/audio/speech`: OpenAI's fields, this server's own, and the sampling options."""

    model: str = Field(max_length=200)
    input: str = Field(min_length=1)
    voice: str | InlineVoice | None = Field(None, description="A speaker, a saved voice, or a clip. None: the default.")
    response_format: Literal["mp3", "opus", "aac", "flac", "wav", "pcm"] = "mp3"
    speed: float = Field(1.0, ge=0.25, le=4.0)
    stream_format: Literal["audio", "sse"] = "audio"
    instructions: str | None = Field(None, description="Has no effect with these models.")
    stream: bool = Field(False, description="Send the first chunk while it is generated; it gets one attempt.")
    seed: int | None = Field(None, ge=0, lt=LARGEST_SEED)


class ApiError(Exception):
    """An error in OpenAI's form."""

    def __init__(self, status: int, message: str, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param = status, message, code, param

    def response(self) -> JSONResponse:
        kind = {401: "authentication_error", 429: "rate_limit_error"}.get(self.status, "invalid_request_error")
        if self.status >= 500:
            kind = "server_error"
        body = {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}
        headers = {"Retry-After": str(RETRY_AFTER_S)} if self.status in (429, 503) else {}
        return JSONResponse(body, self.status, headers)


def create_app(
    service: SpeechService, voices: VoiceStore, settings: ServerSettings, deadline_s: float = 10.0
) -> FastAPI:
    """The application. Shutting it down stops the service; requests in progress have `deadline_s` to finish."""
    began = time.time()
    first_sounds: list[float] = []

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(service.stop, deadline_s)

    async def check_key(request: Request) -> None:
        if settings.api_key is None:
            return
        given = request.headers.get("authorization", "").removeprefix("Bearer ").strip()
        if not hmac.compare_digest(given.encode(), settings.api_key.encode()):
            raise ApiError(401, "Incorrect API key provided.", "invalid_api_key")

    app = FastAPI(title="llasa", version=__version__, lifespan=lifespan)
    guarded = [Depends(check_key)]
    model_name = service.synthesizer.name

    @app.exception_handler(ApiError)
    async def show_api_error(request: Request, error: ApiError) -> Response:
        return error.response()

    @app.exception_handler(RequestValidationError)
    async def show_validation_error(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0] if error.errors() else {}
        where = ".".join(str(part) for part in first.get("loc", ()) if part != "body")
        return ApiError(
            400, f"{where}: {first.get('msg', 'invalid')}".strip(": "), "invalid_value", where or None
        ).response()

    @app.exception_handler(StarletteHTTPException)
    async def show_http_error(request: Request, error: HTTPException) -> Response:
        return ApiError(error.status_code, str(error.detail)).response()

    @app.exception_handler(LlasaError)
    async def show_known_error(request: Request, error: LlasaError) -> Response:
        return _as_api_error(error).response()

    @app.post("/v1/audio/speech", dependencies=guarded, response_class=StreamingResponse)
    async def speech(body: SpeechRequest) -> Response:
        """Speak a text. The response is sent while it is generated."""
        if body.model not in (model_name, *ALIASES):
            raise ApiError(
                404,
                f"The model {body.model[:60]!r} does not exist; this server has {model_name!r}.",
                "model_not_found",
                "model",
            )
        if len(body.input) > settings.max_characters:
            raise ApiError(
                400,
                f"input has {len(body.input):,} characters; at most {settings.max_characters:,} are accepted.",
                "string_above_max_length",
                "input",
            )
        options = SpeechOptions(
            sampling=SamplingRequest(**{name: getattr(body, name) for name in _SAMPLING_FIELDS}),
            seed=body.seed if body.seed is not None else secrets.randbelow(LARGEST_SEED),
        )
        speaker, reference = await asyncio.to_thread(_voice_of, body.voice, voices, settings)
        options = SpeechOptions(sampling=options.sampling, seed=options.seed, speaker=speaker)
        encoder = Encoder(body.response_format, service.synthesizer.sampling_rate, body.speed)
        events = _Events(asyncio.get_running_loop())
        asked = time.monotonic()
        job = await asyncio.to_thread(service.submit, body.input, options, reference, events.put, body.stream)
        sent = _bytes(job, events, encoder)
        try:
            # The first piece is awaited here, so that a failure before it is an error response.
            first = await anext(sent)
        except BaseException:
            job.cancel()
            raise
        first_sounds.append(time.monotonic() - asked)
        del first_sounds[:-1000]
        headers = {"X-Llasa-Seed": str(options.seed), "X-Llasa-Sampling-Rate": str(service.synthesizer.sampling_rate)}
        if body.stream_format == "sse":
            return StreamingResponse(
                _as_sse(job, first, sent, options.seed), media_type="text/event-stream", headers=headers
            )
        return StreamingResponse(
            _whole(job, first, sent), media_type=MEDIA_TYPES[body.response_format], headers=headers
        )

    @app.get("/v1/models", dependencies=guarded)
    async def models() -> dict[str, Any]:
        return {
            "object": "list",
            "data": [{"id": model_name, "object": "model", "created": int(began), "owned_by": "llasa"}],
        }

    @app.get("/v1/audio/voices", dependencies=guarded)
    async def list_voices() -> dict[str, Any]:
        return {"voices": await asyncio.to_thread(voices.describe)}

    @app.post("/v1/audio/voices", dependencies=guarded)
    async def add_voice(
        name: Annotated[str, Form(max_length=64)],
        file: Annotated[UploadFile, File()],
        text: Annotated[str | None, Form(max_length=2000)] = None,
    ) -> dict[str, Any]:
        """Save a voice from a clip, which is checked as `llasa clone` checks it."""
        data = await file.read(settings.max_clip_bytes + 1)
        if len(data) > settings.max_clip_bytes:
            raise ApiError(413, f"The clip is larger than {settings.max_clip_bytes:,} bytes.", "file_too_large", "file")
        warnings = await asyncio.to_thread(voices.add, name, data, text)
        return {"name": name, "warnings": warnings}

    @app.delete("/v1/audio/voices/{name}", dependencies=guarded)
    async def remove_voice(name: str) -> dict[str, Any]:
        await asyncio.to_thread(voices.remove, name)
        return {"name": name, "deleted": True}

    @app.get("/health")
    async def health() -> dict[str, Any]:
        return {"status": "ok", "model": model_name, "requests": service.active}

    @app.get("/metrics", dependencies=guarded)
    async def metrics() -> Response:
        return PlainTextResponse(_metrics(service, first_sounds), media_type="text/plain; version=0.0.4")

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return FileResponse(PAGE, media_type="text/html")

    return app


class _Events:
    """Events of a job, from its threads to the event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop, self._queue = loop, asyncio.Queue[Event]()

    def put(self, event: Event) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._queue.put_nowait, event)

    async def get(self) -> Event:
        return await self._queue.get()


class _Truncated(Exception):
    """The response has begun and can't be completed: closing the connection tells the client."""


async def _bytes(job: SpeechJob, events: _Events, encoder: Encoder) -> AsyncIterator[bytes]:
    """The encoded sound of a job, as it is made.

    Raises:
        LlasaError: The job failed.
    """
    while True:
        event = await events.get()
        if isinstance(event, Audio):
            data = encoder.encode(event.samples)
            job.consumed(len(event.samples))
            if data:
                yield data
        elif isinstance(event, Failed):
            if event.is_shutdown:
                raise ApiError(503, "The server is shutting down.", "shutting_down")
            raise event.error
        else:
            job.result = event
            yield encoder.finish()
            return


async def _whole(job: SpeechJob, first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    try:
        yield first
        async for data in rest:
            yield data
    except (LlasaError, ApiError) as error:
        raise _Truncated(str(error)) from error
    finally:
        job.cancel()


async def _as_sse(job: SpeechJob, first: bytes, rest: AsyncIterator[bytes], seed: int | None) -> AsyncIterator[str]:
    """OpenAI's events `speech.audio.delta` and `speech.audio.done`; the last one has the checks of each chunk."""

    def delta(data: bytes) -> str:
        return _event({"type": "speech.audio.delta", "audio": base64.b64encode(data).decode()})

    try:
        yield delta(first)
        async for data in rest:
            yield delta(data)
        done = job.result if isinstance(job.result, Done) else Done(())
        chunks = [
            {
                "text": u.text,
                "seconds": round(u.seconds, 3),
                "seed": u.seed,
                "attempts": u.attempts,
                "problems": u.problems,
            }
            for u in done.utterances
            if u.text
        ]
        yield _event({"type": "speech.audio.done", "seed": seed, "chunks": chunks})
    except (LlasaError, ApiError) as error:
        yield _event({"type": "error", "error": {"message": str(error), "type": "server_error"}})
    finally:
        job.cancel()


def _event(content: dict[str, Any]) -> str:
    return f"data: {json.dumps(content)}\n\n"


def _voice_of(voice: str | InlineVoice | None, voices: VoiceStore, settings: ServerSettings) -> tuple[str | None, Any]:
    """-> (speaker, reference), as `SpeechService.submit` takes them."""
    if isinstance(voice, InlineVoice):
        if len(voice.audio) > settings.max_clip_bytes * 4 // 3 + 4:
            raise ApiError(
                413, f"The clip is larger than {settings.max_clip_bytes:,} bytes.", "file_too_large", "voice"
            )
        try:
            data = base64.b64decode(voice.audio, validate=True)
        except (binascii.Error, ValueError):
            raise ApiError(400, "voice.audio is not base64.", "invalid_value", "voice") from None
        return None, voices.encode(data, voice.text)
    return voices.find(voice)


def _as_api_error(error: LlasaError) -> ApiError:
    if isinstance(error, QueueFull):
        return ApiError(429, str(error), "queue_full")
    if isinstance(error, UsageError | AudioError):
        return ApiError(400, str(error), "invalid_value")
    return ApiError(500, str(error))


def _metrics(service: SpeechService, first_sounds: list[float]) -> str:
    """Prometheus' text format."""
    counts = service.statistics
    rows: list[tuple[str, str, str, float]] = [
        ("llasa_requests_total", "counter", "Requests accepted.", counts.requests),
        ("llasa_requests_done_total", "counter", "Requests completed.", counts.done),
        ("llasa_requests_failed_total", "counter", "Requests that failed.", counts.failed),
        ("llasa_requests_cancelled_total", "counter", "Requests whose client left.", counts.cancelled),
        ("llasa_requests_rejected_total", "counter", "Requests refused because of the queue.", counts.rejected),
        ("llasa_codes_total", "counter", "Speech codes generated.", counts.codes),
        ("llasa_steps_total", "counter", "Steps of the model.", counts.steps),
        ("llasa_audio_seconds_total", "counter", "Seconds of sound made.", counts.audio_s),
        ("llasa_requests_active", "gauge", "Requests in progress.", service.active),
        ("llasa_slots_used", "gauge", "Sequences in the batch.", service.running),
        ("llasa_slots", "gauge", "Slots of the batch.", service.slots),
    ]
    lines = []
    for name, kind, text, value in rows:
        lines += [f"# HELP {name} {text}", f"# TYPE {name} {kind}", f"{name} {value:g}"]
    lines += [
        "# HELP llasa_first_sound_seconds Time to the first bytes, last 1,000 requests.",
        "# TYPE llasa_first_sound_seconds summary",
    ]
    ordered = sorted(first_sounds)
    for share in (0.5, 0.95):
        value = ordered[min(len(ordered) - 1, math.floor(share * len(ordered)))] if ordered else math.nan
        lines.append(f'llasa_first_sound_seconds{{quantile="{share}"}} {value:g}')
    return "\n".join(lines) + "\n"
