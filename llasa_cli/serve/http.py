"""The HTTP interface: OpenAI's speech endpoint, voices, health, metrics and the page.

    app = create_app(service, voices, settings)        a FastAPI application for uvicorn

No path in a request is ever opened, and a text can't become a control token (`PromptFormat` encodes it as plain text).
`serve.limits` bounds the size and the duration of requests.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import json
import logging
import math
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, cast

from fastapi import Depends, FastAPI, File, Form, Request, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from pydantic import BaseModel, Field, create_model, model_validator
from starlette.exceptions import HTTPException as StarletteHTTPException

from llasa_cli import __version__
from llasa_cli.errors import AudioError, LlasaError, ModelError, UsageError
from llasa_cli.prompt import Reference, parse_style
from llasa_cli.serve.encoders import MEDIA_TYPES, Encoder
from llasa_cli.serve.limits import RequestLimits, Truncated
from llasa_cli.serve.service import (
    Audio,
    Done,
    Event,
    Failed,
    JobQueue,
    Note,
    QueueFull,
    ShuttingDown,
    SpeechJob,
    SpeechModel,
    Spoken,
)
from llasa_cli.serve.voices import VoiceStore
from llasa_cli.settings import LARGEST_SEED, SamplingOptions, SamplingRequest, SpeechOptions
from llasa_cli.synthesis.batched import SynthesisRequest
from llasa_cli.synthesis.utterance import Utterance
from llasa_cli.text.dialogue import has_voices
from llasa_cli.text.unicode import whole_characters
from llasa_cli.voices.library import MAX_NAME_BYTES, NAME_PATTERN

T = TypeVar("T")
PAGE = Path(__file__).with_name("page.html")
ALIASES = ("tts-1", "tts-1-hd", "gpt-4o-mini-tts")
"""Names of OpenAI's models, which some clients always send. They mean the model that is loaded."""
RETRY_AFTER_S = 2
PING_S = 10.0
"""An event stream sends a comment after this time without an event, so that clients can tell waiting from a dead connection."""
MAX_CLIP_BYTES = 20_000_000
_CLIP = f"1 to 15 s of speech as WAV, FLAC, OGG, Opus or MP3, at most {MAX_CLIP_BYTES:,} bytes."
_TRANSCRIPT = "The words of the clip, exactly. A text that does not fit the length of the clip is refused."
_VOICE_NAME = (
    f"The name to save the voice under, at most {MAX_NAME_BYTES} bytes; letters of all scripts are accepted. Names of the "
    "model's speakers and of saved voices are refused. Without a name nothing is saved."
)
_VOICE_NAME_SCHEMA = {"pattern": NAME_PATTERN.replace(r"\w", "A-Za-z0-9_"), "minLength": 1}
"""Of ASCII names, whose bytes are characters; patterns of OpenAPI have no letters of other scripts."""
_WORDS_SCHEMA: Any = {"pattern": r"[^\s\x00-\x1f\x7f-\x9f]"}
"""Texts that are not blank."""
MAX_REFERENCE_CODES = 2048
MAX_BEST_OF = 32


@dataclass(frozen=True)
class ServerSettings:
    """The limits of the server, and its key.

    Attributes:
        api_key: Required as `Authorization: Bearer KEY`; None requires none.
        max_characters: The longest input.
        max_clip_bytes: The largest upload.
        hosts: The values of `Host` that are answered; None answers all. See `serve.limits`.
        origins: Web pages of other origins that may use the server (CORS).
    """

    api_key: str | None = None
    max_characters: int = 100_000
    max_clip_bytes: int = MAX_CLIP_BYTES
    hosts: tuple[str, ...] | None = None
    origins: tuple[str, ...] = ()

    @property
    def max_body_bytes(self) -> int:
        """The largest request: a clip in base64, or a text in JSON with each character escaped."""
        return max(self.max_clip_bytes * 4 // 3, 12 * self.max_characters) + 1_000_000


class _Body(BaseModel):
    """A JSON body; half surrogate pairs in its texts are replaced (U+FFFD)."""

    @model_validator(mode="before")
    @classmethod
    def _whole_characters(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        return {name: whole_characters(value) if isinstance(value, str) else value for name, value in values.items()}


class InlineVoice(_Body):
    """A reference clip inside a request."""

    audio: str = Field(description="Base64 of an audio file with 1 to 15 s of speech.")
    text: str = Field(
        min_length=1, max_length=2000, description="The words of the clip.", json_schema_extra=_WORDS_SCHEMA
    )


class VoiceCodes(_Body):
    """A voice inside a request, as `GET /v1/audio/voices/NAME` gives it. The transcript is used as it is."""

    text: str = Field(min_length=1, max_length=2000)
    codes: list[int] = Field(min_length=1, max_length=MAX_REFERENCE_CODES)
    codec: str | None = Field(None, max_length=200, description="Another codec than the model's is refused.")


_SAMPLING_FIELDS = tuple(part.name for part in fields(SamplingRequest))
_FIELD_TYPES: Any = {part.name: (type(part.default) | None, None) for part in fields(SamplingOptions)}
_SamplingFields: Any = create_model("_SamplingFields", __base__=_Body, **_FIELD_TYPES)


class SpeechRequest(_SamplingFields):
    """The body of `POST /v1/audio/speech`: OpenAI's fields, this server's own, and the sampling options."""

    model: str | None = Field(None, max_length=200, description="None: the model that is loaded.")
    input: str | list[str] = Field(description="A text, or parts of one, each of which ends a sentence.")
    voice: str | InlineVoice | VoiceCodes | None = Field(
        None, description="A speaker, a saved voice, a clip, or codes. None: the default."
    )
    response_format: Literal["mp3", "opus", "aac", "flac", "wav", "pcm", "f32"] = "mp3"
    speed: float = Field(1.0, ge=0.25, le=4.0, allow_inf_nan=False)
    stream_format: Literal["audio", "sse"] = "audio"
    instructions: str | None = Field(None, description="Has no effect with these models.")
    stream: bool = Field(False, description="Send the first chunk while it is generated; it gets one attempt.")
    seed: int | None = Field(None, ge=0, lt=LARGEST_SEED)
    retries: int = Field(
        SpeechOptions().retries, ge=0, le=10, description="How often a chunk that fails its checks is generated again."
    )
    best_of: int = Field(1, ge=1, le=MAX_BEST_OF, description="Takes of each chunk, of which the best is sent.")
    choose_by: list[Literal["words", "likeness", "likelihood"]] = Field(
        [],
        max_length=3,
        description="The verifiers that choose among the takes. Empty: words if the server has a recognizer, else likelihood.",
    )
    good_enough: float | None = Field(
        None, ge=0, le=1, allow_inf_nan=False, description="The score that ends the search of a chunk."
    )
    candidate: int | None = Field(None, ge=1, description="Make only this take of best_of again, counted from 1.")
    style: dict[str, str] = Field(
        {},
        max_length=32,
        description="How it is spoken, by the fields that the model knows: see `style` in GET /v1/models.",
    )
    verify: bool = Field(
        False, description="The server's recognizer has to find the words, or the chunk is generated again."
    )
    markdown: bool = Field(False, description="The input is Markdown, whose signs are not spoken.")
    skipped_chunks: int = Field(0, ge=0, lt=LARGEST_SEED, description="Chunks that were spoken before.")
    continues: bool = Field(False, description="The input continues another: it begins with a pause.")
    chunk_events: bool = Field(False, description="With sse: an event for each chunk when it is final.")


class ApiError(Exception):
    """An error in OpenAI's form."""

    def __init__(
        self,
        status: int,
        message: str,
        code: str | None = None,
        param: str | None = None,
        error: LlasaError | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param = status, message, code, param
        self.error = error

    def content(self) -> dict[str, Any]:
        """OpenAI's error object; `hint` and `exit_code` are for `llasa --server`."""
        kind = {401: "authentication_error", 429: "rate_limit_error"}.get(self.status, "invalid_request_error")
        if self.status >= 500:
            kind = "server_error"
        found: dict[str, Any] = {"message": self.message, "type": kind, "param": self.param, "code": self.code}
        if self.error is not None:
            found |= {"hint": self.error.hint, "exit_code": self.error.exit_code}
        return {name: whole_characters(value) if isinstance(value, str) else value for name, value in found.items()}

    def response(self) -> JSONResponse:
        headers = {"Retry-After": str(RETRY_AFTER_S)} if self.status in (429, 503) else {}
        return JSONResponse({"error": self.content()}, self.status, headers)


class ErrorObject(BaseModel):
    """OpenAI's error object."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None
    hint: str | None = None
    exit_code: int | None = None


class ErrorBody(BaseModel):
    """The body of a response with an error."""

    error: ErrorObject


_ERRORS: dict[int | str, Any] = {status: {"model": ErrorBody, "description": "An error."} for status in ("4XX", "5XX")}


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
        responses=_ERRORS,
    )
    for name in ("python_multipart", "multipart"):  # a client's bad form is not logged
        logging.getLogger(name).setLevel(logging.CRITICAL)
    if settings.origins:
        app.add_middleware(CORSMiddleware, allow_origins=settings.origins, allow_methods=["*"], allow_headers=["*"])
    app.add_middleware(
        RequestLimits, max_body_bytes=settings.max_body_bytes, hosts=settings.hosts, origins=settings.origins
    )
    for kind, response in _ERROR_RESPONSES.items():
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


async def _invalid(request: Request, error: RequestValidationError) -> Response:
    first = error.errors()[0] if error.errors() else {}
    where = ".".join(str(part) for part in first.get("loc", ()) if part != "body")
    message = f"{where}: {first.get('msg', 'invalid')}".strip(": ")
    return ApiError(400, message, "invalid_value", where or None).response()


async def _error_response(request: Request, error: Exception) -> Response:
    if isinstance(error, ApiError):
        return error.response()
    if isinstance(error, LlasaError):
        return _as_api_error(error).response()
    if isinstance(error, _Disconnected):
        return Response(status_code=499)
    if isinstance(error, StarletteHTTPException):
        return ApiError(error.status_code, str(error.detail)).response()
    return ApiError(500, f"A fault of the server: {type(error).__name__}.").response()


class _Endpoints:
    """The endpoints, one method for each route."""

    def __init__(self, service: JobQueue, voices: VoiceStore, settings: ServerSettings) -> None:
        self._service, self._voices, self._settings = service, voices, settings
        self._began = time.time()
        self._first_sounds: list[float] = []
        self._model, self._facts = service.synthesizer.name, model_facts(service.synthesizer)

    async def check_key(self, request: Request) -> None:
        if self._settings.api_key is None:
            return
        given = request.headers.get("authorization", "").removeprefix("Bearer ").strip()
        if not hmac.compare_digest(given.encode(), self._settings.api_key.encode()):
            raise ApiError(401, "Incorrect API key provided.", "invalid_api_key")

    async def speech(self, body: SpeechRequest, request: Request) -> Response:
        """Synthesize a text. The response is sent while the speech is generated."""
        text = _text_of(body, self._settings)
        if body.model not in (None, self._model, *ALIASES):
            message = f"The model {body.model[:60]!r} does not exist; this server has {self._model!r}."
            raise ApiError(404, message, "model_not_found", "model", ModelError(message))
        speaker, reference = await asyncio.to_thread(_voice_of, body.voice, self._voices, self._settings)
        options = SpeechOptions(
            sampling=SamplingRequest(**{name: getattr(body, name) for name in _SAMPLING_FIELDS}),
            seed=body.seed if body.seed is not None else secrets.randbelow(LARGEST_SEED),
            speaker=speaker,
            retries=body.retries,
            best_of=body.best_of,
            good_enough=body.good_enough,
            candidate=body.candidate,
            style=tuple(f"{name}={whole_characters(value)}" for name, value in body.style.items()),
            markdown=body.markdown,
        )
        parse_style(options.style, self._service.synthesizer.prompt_format.style_fields)
        judges = _judges_of(body, self._service.verifiers, reference is not None)
        rate = self._service.synthesizer.sampling_rate
        encoder = Encoder(body.response_format, rate, body.speed)
        events = _Events(asyncio.get_running_loop())
        received = time.monotonic()
        synthesis = SynthesisRequest(None, text, options, reference, body.skipped_chunks, body.continues)
        job = await asyncio.to_thread(self._service.submit, synthesis, events.put, body.stream, judges)

        def on_first_sound() -> None:
            self._first_sounds.append(time.monotonic() - received)
            del self._first_sounds[:-1000]

        headers = {"X-Llasa-Seed": str(options.seed), "X-Llasa-Sampling-Rate": str(rate)}
        if body.stream_format == "sse":
            sent = _as_sse(job, events, encoder, options.seed, body.chunk_events, on_first_sound)
            return StreamingResponse(sent, media_type="text/event-stream", headers=headers)
        try:
            # The first piece is awaited here, so that a failure before it becomes an error response.
            pieces = _encoded(job, events, encoder)
            first = await _unless_disconnected(request, anext(pieces))
        except BaseException:
            job.cancel()
            raise
        on_first_sound()
        headers |= _check_headers(job)
        return StreamingResponse(
            _response_body(job, first, pieces), media_type=MEDIA_TYPES[body.response_format], headers=headers
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
        file: Annotated[UploadFile, File(description=_CLIP)],
        text: Annotated[
            str, Form(min_length=1, max_length=2000, description=_TRANSCRIPT, json_schema_extra=_WORDS_SCHEMA)
        ],
        name: Annotated[
            str | None, Form(max_length=MAX_NAME_BYTES, description=_VOICE_NAME, json_schema_extra=_VOICE_NAME_SCHEMA)
        ] = None,
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
        text = _metrics(self._service, self._first_sounds)
        return PlainTextResponse(text, media_type="text/plain; version=0.0.4")

    async def page(self) -> Response:
        return FileResponse(PAGE, media_type="text/html")


def _check_headers(job: SpeechJob) -> dict[str, str]:
    """Headers with the checks of the chunks that were generated before the response begins."""
    spoken = [utterance for utterance in job.utterances if utterance.text]
    if not spoken:
        return {}
    problems = "; ".join(problem for utterance in spoken for problem in utterance.problems)
    return {
        "X-Llasa-Attempts": ", ".join(str(utterance.attempts) for utterance in spoken),
        "X-Llasa-Problems": problems.encode("ascii", "replace").decode(),
    }


class _Events:
    """Passes the events of a job from its threads to the event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop, self._queue = loop, asyncio.Queue[Event]()

    def put(self, event: Event) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._queue.put_nowait, event)

    async def get(self) -> Event:
        return await self._queue.get()


class _Disconnected(Exception):
    """The client disconnected before the response began."""


_ERROR_RESPONSES: dict[type[Exception], Any] = {
    RequestValidationError: _invalid,
    **dict.fromkeys((ApiError, LlasaError, _Disconnected, StarletteHTTPException, Exception), _error_response),
}


async def _unless_disconnected(request: Request, work: Awaitable[T]) -> T:
    """The result of `work`, which is cancelled when the client disconnects.

    Raises:
        _Disconnected: The client has disconnected.
    """

    async def wait_for_end() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    tasks = [asyncio.ensure_future(work), asyncio.ensure_future(wait_for_end())]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if tasks[0].done():
            return cast(T, tasks[0].result())
        raise _Disconnected
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def _encoded(job: SpeechJob, events: _Events, encoder: Encoder) -> AsyncIterator[bytes]:
    """The encoded sound of a job, piece by piece.

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
            raise _as_api_error(event.error)
        elif isinstance(event, Done):
            yield encoder.finish()
            return


async def _response_body(job: SpeechJob, first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    try:
        yield first
        async for data in rest:
            yield data
    except ApiError as error:
        raise Truncated(str(error)) from error
    finally:
        job.cancel()


async def _as_sse(
    job: SpeechJob,
    events: _Events,
    encoder: Encoder,
    seed: int | None,
    has_chunk_events: bool,
    on_first_sound: Callable[[], None],
) -> AsyncIterator[str]:
    """OpenAI's events `speech.audio.delta` and `speech.audio.done`, and one with the checks of each chunk."""
    has_sound = False
    try:
        while True:
            try:
                event = await asyncio.wait_for(events.get(), PING_S)
            except asyncio.TimeoutError:
                yield ": waiting\n\n"
                continue
            data = b""
            if isinstance(event, Audio):
                data = encoder.encode(event.samples)
                job.consumed(len(event.samples))
            elif isinstance(event, Done):
                data = encoder.finish()
            if data:
                if not has_sound:
                    on_first_sound()
                has_sound = True
                yield _event({"type": "speech.audio.delta", "audio": base64.b64encode(data).decode()})
            if isinstance(event, Spoken) and has_chunk_events:
                yield _event({"type": "llasa.chunk", **_row(event.utterance)})
            elif isinstance(event, Note) and has_chunk_events:
                yield _event({"type": "llasa.note", "text": whole_characters(event.text)})
            elif isinstance(event, Failed):
                yield _event({"type": "error", "error": _as_api_error(event.error).content()})
                return
            elif isinstance(event, Done):
                chunks = [_summary(utterance) for utterance in event.utterances if utterance.text]
                yield _event({"type": "speech.audio.done", "seed": seed, "count": event.chunks, "chunks": chunks})
                return
    finally:
        job.cancel()


def _row(utterance: Utterance) -> dict[str, Any]:
    """An utterance in the form of `Utterance.from_row`. Only the one that sets the voice needs its codes."""
    row = utterance.to_row()
    return row if utterance.is_voice else row | {"codes": []}


def _summary(utterance: Utterance) -> dict[str, Any]:
    return {
        "text": utterance.text,
        "seconds": round(utterance.seconds, 3),
        "seed": utterance.seed,
        "attempts": utterance.attempts,
        "problems": utterance.problems,
    } | (
        {"candidates": utterance.candidates, "chosen_because": utterance.chosen_because} if utterance.candidates else {}
    )


def _event(content: dict[str, Any]) -> str:
    return f"data: {json.dumps(content)}\n\n"


def model_facts(synthesizer: SpeechModel) -> dict[str, Any]:
    """The facts about the model that `llasa --server` needs; see `serve.client`."""
    checkpoint = synthesizer.checkpoint
    return {
        "revision": synthesizer.revision,
        "sampling_rate": synthesizer.sampling_rate,
        "speakers": list(synthesizer.speakers),
        "style": list(synthesizer.prompt_format.style_fields),
        "default_speaker": synthesizer.prompt_format.default_speaker,
        "codec": checkpoint.codec_identity,
        "license": checkpoint.license,
        "language": checkpoint.metadata.get("language"),
        "spell_out": bool(checkpoint.metadata.get("spell_out")),
        "sampling": asdict(checkpoint.sampling(SamplingRequest())),
    }


def _text_of(body: SpeechRequest, settings: ServerSettings) -> str | list[str]:
    """The input, if it is within the limits."""
    length = len(body.input) if isinstance(body.input, str) else sum(map(len, body.input))
    if length > settings.max_characters:
        raise ApiError(
            400,
            f"input has {length:,} characters; at most {settings.max_characters:,} are accepted.",
            "string_above_max_length",
            "input",
        )
    if any(map(has_voices, [body.input] if isinstance(body.input, str) else body.input)):
        raise ApiError(400, "A request has one voice: [voice:NAME] can't change it.", "invalid_value", "input")
    return body.input if isinstance(body.input, str) else [whole_characters(part) for part in body.input]


def _voice_of(
    voice: str | InlineVoice | VoiceCodes | None, voices: VoiceStore, settings: ServerSettings
) -> tuple[str | None, Reference | None]:
    """-> (speaker, reference); one of them is None, both for the model's default."""
    if isinstance(voice, VoiceCodes):
        if voice.codec not in (None, voices.codec_identity):
            raise UsageError(
                f"The voice was made with another codec than the model's ({voices.codec_identity}).",
                "Make it again with this model.",
            )
        return None, Reference(" ".join(voice.text.split()), tuple(voice.codes))
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


def _judges_of(body: SpeechRequest, known: Collection[str], has_reference: bool) -> list[str]:
    """The verifiers that a request asks for, by name.

    Raises:
        UsageError: An option has no effect, or the server has no such verifier.
    """
    if body.choose_by and body.best_of == 1:
        raise UsageError("choose_by has no effect without best_of.", "Add best_of.")
    names: list[str] = list(dict.fromkeys(body.choose_by))
    if body.best_of > 1 and not names:
        names = ["words"] if "words" in known else ["likelihood"]
    if body.verify and "words" not in names:
        names.append("words")
    flags = {"words": "--asr", "likeness": "--speaker-model"}
    for name in names:
        if name not in known:
            raise UsageError(f"This server can't judge takes by {name}.", f"Start it with {flags[name]}.")
    if "likeness" in names and not has_reference:
        raise UsageError("likeness compares with a reference clip, and this voice has none.", "Send another voice.")
    return names


def _as_api_error(error: LlasaError) -> ApiError:
    if isinstance(error, QueueFull):
        return ApiError(429, str(error), "queue_full")
    if isinstance(error, ShuttingDown):
        return ApiError(503, str(error), "shutting_down")
    if isinstance(error, UsageError | AudioError):
        return ApiError(400, str(error), "invalid_value", error=error)
    return ApiError(500, str(error), error=error)


def _metrics(service: JobQueue, first_sounds: list[float]) -> str:
    """Prometheus' text format."""
    counts = service.statistics
    rows: list[tuple[str, str, str, float | None]] = [
        ("llasa_requests_total", "counter", "Requests accepted.", counts.requests),
        ("llasa_requests_done_total", "counter", "Requests completed.", counts.done),
        ("llasa_requests_failed_total", "counter", "Requests that failed.", counts.failed),
        ("llasa_requests_cancelled_total", "counter", "Requests whose client disconnected.", counts.cancelled),
        ("llasa_requests_rejected_total", "counter", "Requests refused because of the queue.", counts.rejected),
        ("llasa_codes_total", "counter", "Speech codes generated.", counts.codes),
        ("llasa_steps_total", "counter", "Decode steps of the model.", None if service.slots is None else counts.steps),
        ("llasa_audio_seconds_total", "counter", "Seconds of sound generated.", counts.audio_s),
        ("llasa_requests_active", "gauge", "Requests in progress.", service.active),
        ("llasa_slots_used", "gauge", "Sequences in the batch.", service.running),
        ("llasa_slots", "gauge", "Slots of the batch.", service.slots),
        ("llasa_replicas", "gauge", "Replicas of the model that run.", service.replicas),
    ]
    lines = []
    for name, kind, text, known in rows:
        if known is not None:
            lines += [f"# HELP {name} {text}", f"# TYPE {name} {kind}", f"{name} {known:g}"]
    lines += [
        "# HELP llasa_first_sound_seconds Time to the first bytes, last 1,000 requests.",
        "# TYPE llasa_first_sound_seconds summary",
    ]
    ordered = sorted(first_sounds)
    for share in (0.5, 0.95):
        value = ordered[min(len(ordered) - 1, math.floor(share * len(ordered)))] if ordered else math.nan
        lines.append(f'llasa_first_sound_seconds{{quantile="{share}"}} {value:g}')
    return "\n".join(lines) + "\n"
