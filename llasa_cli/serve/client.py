"""A model that runs in `llasa serve`: a `TextToSpeech` that needs no torch.

    server = RemoteSynthesizer.connect("http://127.0.0.1:8880", api_key=None)
    for chunk in server.stream("Hello.", SpeechOptions(seed=7)): ...        the same audio as `Synthesizer.stream`

A text is sent in parts, one request after the other: a text that is still growing as its parts arrive, any other in requests of
about `_REQUEST_CHARACTERS`.
"""

from __future__ import annotations

import base64
import http.client
import json
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import quote, urlsplit

from llasa_cli.audio.chunk import AudioChunk
from llasa_cli.errors import AudioError, LlasaError, ModelError, UsageError
from llasa_cli.prompt import Reference, parse_style
from llasa_cli.settings import LARGEST_SEED, ModelOptions, SamplingOptions, SamplingRequest, SpeechOptions
from llasa_cli.synthesis.text_to_speech import PLAIN, StreamSettings
from llasa_cli.synthesis.utterance import Utterance
from llasa_cli.wording import shorten

if TYPE_CHECKING:
    import numpy as np

    from llasa_cli.voices.resolve import ResolvedVoice

_CONNECT_TIMEOUT_S = 5.0
_SILENCE_TIMEOUT_S = 60.0
"""The server sends something at least every ten seconds (`serve.responses.PING_S`)."""
_BUSY_PATIENCE_S = 120.0
"""The time for which a request to a busy server is repeated."""
_REQUEST_CHARACTERS = 20_000
_ERRORS: dict[int, type[LlasaError]] = {2: UsageError, 3: ModelError, 4: AudioError}


class ServerUnreachable(ModelError):
    """No server answers at the address."""


@dataclass(frozen=True)
class ServedModel:
    """The model of a server: a `ModelDescription`.

    Attributes:
        name: The name that the server gives it.
        metadata: The values of the model's `llasa.json` that commands read.
    """

    name: str
    revision: str
    codec_identity: str
    license: str
    known_speakers: tuple[str, ...]
    style_fields: tuple[str, ...]
    metadata: Mapping[str, Any]

    @classmethod
    def from_facts(cls, name: str, facts: Mapping[str, Any]) -> ServedModel:
        """The model by the facts that the server gives (`serve.http.model_facts`)."""
        return cls(
            name,
            revision=str(facts["revision"]),
            codec_identity=str(facts["codec"]),
            license=str(facts["license"]),
            known_speakers=tuple(facts["speakers"]),
            style_fields=tuple(facts.get("style") or ()),
            metadata={part: facts.get(part) for part in ("spell_out", "language", "cloning_note")}
            | {"sampling": facts["sampling"]},
        )

    @property
    def options(self) -> ModelOptions:
        """The options of a model of this name; device and dtype are the server's."""
        return ModelOptions(model=self.name)

    def sampling(self, request: SamplingRequest) -> SamplingOptions:
        return request.over(self.metadata["sampling"])

    def check_unlisted_speaker(self, tag: str) -> None:
        """See `ModelDescription`. The server lists all speakers."""
        known = ", ".join(self.known_speakers) or "none that it lists"
        raise UsageError(f"The server's model has no speaker {shorten(tag)}.", f"Its speakers: {known}.")


class RemoteSynthesizer:
    """Build it with `connect`.

    Attributes:
        checkpoint: The server's model.
        sampling_rate: Hz.
        judging: Fields of the requests that choose the server's verifiers: `choose_by` and `verify`.
    """

    def __init__(
        self, connection: Connection, name: str, facts: Mapping[str, Any], judging: Mapping[str, Any] | None = None
    ) -> None:
        self._connection, self.judging = connection, dict(judging or {})
        self.checkpoint = ServedModel.from_facts(name, facts)
        self.sampling_rate = int(facts["sampling_rate"])
        self._max_characters = int(facts["max_characters"])

    @classmethod
    def connect(
        cls, url: str, api_key: str | None, model: str | None = None, judging: Mapping[str, Any] | None = None
    ) -> RemoteSynthesizer:
        """Ask a server for its model.

        Args:
            model: The required model; None accepts any.
            judging: See the class.

        Raises:
            UsageError: The address or the key is wrong.
            ServerUnreachable: No llasa server answers.
            ModelError: The server has another model.
        """
        connection = Connection(url, api_key)
        found = connection.json("GET", "/v1/models")
        try:
            entry = found["data"][0]
            server = cls(connection, str(entry["id"]), entry["llasa"], judging)
        except (KeyError, IndexError, TypeError, ValueError):
            raise ServerUnreachable(f"There is no llasa server at {url}.", _START_HINT) from None
        name = server.checkpoint.name
        if model not in (None, name):
            raise ModelError(f"The server at {url} has the model {name}, not {model}.", "Leave out -m.")
        return server

    def resolve_voice(self, voice: str | None, speaker: str | None) -> ResolvedVoice:
        """Find a voice: a speaker, or a voice that is saved on this machine or on the server.

        Raises:
            UsageError: The name is unknown or ambiguous, or the voice was made with another codec.
        """
        from llasa_cli.voices.library import SavedVoice, is_voice_path, match_speaker, voice_exists
        from llasa_cli.voices.resolve import adapt_voice, resolve_voice

        is_here = voice is None or is_voice_path(voice) or voice_exists(voice)
        is_tag = voice is not None and match_speaker(voice, self.checkpoint.known_speakers) is not None
        if speaker is not None or is_here or is_tag:
            return resolve_voice(voice, speaker, self.checkpoint)
        found = self._connection.json("GET", f"/v1/audio/voices/{quote(str(voice), safe='')}")
        saved = SavedVoice(str(voice), found["text"], tuple(found["codes"]), found["codec"], found["language"])
        return adapt_voice(saved, self.checkpoint)

    def encode_reference(self, samples: np.ndarray, text: str) -> Reference:
        """Make a voice to clone from a clip that `voices.reference` has prepared; see `Synthesizer.encode_reference`."""
        import io

        import soundfile

        file = io.BytesIO()
        soundfile.write(file, samples, 16_000, format="WAV", subtype="FLOAT")
        found = self._connection.upload("/v1/audio/voices", {"text": text, "as_is": "true"}, file.getvalue())
        return Reference(found["text"], tuple(found["codes"]))

    def stream(
        self,
        text: str | Iterable[str],
        options: SpeechOptions | None = None,
        reference: Reference | None = None,
        on_utterance: Callable[[Utterance], None] | None = None,
        settings: StreamSettings = PLAIN,
    ) -> Iterator[AudioChunk]:
        """Speak a text; see `TextToSpeech`.

        Args:
            settings: A gate asks for sound before its chunk is complete; the server decides for which chunk. Verifiers and a
                cast have no effect: the server has its own verifiers, and a request has one voice.

        Raises:
            LlasaError: The server refuses the request, or the connection is lost.
        """
        options = (options or SpeechOptions()).with_seed()
        skipped, voice = settings.resume_from.chunks, reference or settings.resume_from.voice
        parts = [text] if isinstance(text, str) else text
        limit = 1 if settings.is_growing else _REQUEST_CHARACTERS
        continues, trailing_space = False, ""
        for group in _groups(parts, limit, self._max_characters):
            # The blank lines after the last group decide the pause before this one.
            body = (
                self._body([trailing_space, *group], options, voice)
                | {"stream": settings.gate is not None}
                | self.judging
            )
            last = "".join(group[-2:])
            trailing_space = last[len(last.rstrip()) :]
            body |= {"skipped_chunks": skipped, "continues": continues}
            continues = True
            for event in self._connection.events("/v1/audio/speech", body):
                kind = event.get("type")
                if kind == "speech.audio.delta":
                    yield AudioChunk(_samples(event["audio"]), self.sampling_rate)
                elif kind == "llasa.note":
                    settings.on_note(event["text"])
                elif kind == "llasa.chunk":
                    utterance = Utterance.from_row(event)
                    if utterance.is_voice:
                        voice = Reference(utterance.text, utterance.codes)
                    if on_utterance is not None:
                        on_utterance(utterance)
                elif kind == "speech.audio.done":
                    skipped = max(0, skipped - int(event["count"]))

    def _body(self, parts: list[str], options: SpeechOptions, voice: Reference | None) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self.checkpoint.name,
            "input": parts,
            "voice": options.speaker,
            "response_format": "f32",
            "stream_format": "sse",
            "chunk_events": True,
            "seed": (options.seed or 0) % LARGEST_SEED,
            "retries": options.retries,
            "style": parse_style(options.style, self.checkpoint.style_fields),
            "best_of": options.best_of,
            "good_enough": options.good_enough,
            "candidate": options.candidate,
            "markdown": options.markdown,
        }
        if voice is not None:
            body["voice"] = {"text": voice.text, "codes": voice.codes, "codec": self.checkpoint.codec_identity}
        return body | {name: value for name, value in asdict(options.sampling).items() if value is not None}


def _groups(parts: Iterable[str], limit: int, most: int) -> Iterator[list[str]]:
    """Group consecutive parts, at least `limit` and at most `most` characters each.

    Parts without a word are joined to others, because a request needs at least one word.
    """
    group: list[str] = []
    length = 0
    for part in parts:
        for piece in _pieces(part, most):
            if group and length + len(piece) > most and _has_word(group):
                yield group
                group, length = [], 0
            group.append(piece)
            length += len(piece)
        if length >= limit and _has_word(group):
            yield group
            group, length = [], 0
    if group and _has_word(group):
        yield group


def _has_word(parts: Iterable[str]) -> bool:
    return any(character.isalnum() for part in parts for character in part)


def _pieces(part: str, most: int) -> Iterator[str]:
    """Split a part into pieces of at most `most` characters, at the ends of sentences if possible."""
    from llasa_cli.text.sentences import sentence_ends

    while len(part) > most:
        ends = [end for end in sentence_ends(part[:most]) if 0 < end < most]
        end = ends[-1] if ends else part.rfind(" ", 1, most)
        end = end if end > 0 else most
        yield part[:end]
        part = part[end:]
    yield part


def _samples(data: str) -> np.ndarray:
    import numpy as np

    found: np.ndarray = np.frombuffer(base64.b64decode(data), "<f4")
    return found


_START_HINT = "Start one with `llasa serve`, or leave out --server (LLASA_SERVER)."


class Connection:
    """Requests to one server, one at a time.

    Raises:
        UsageError: The address is not an HTTP address.
    """

    def __init__(self, url: str, api_key: str | None) -> None:
        self._url = url if "://" in url else f"http://{url}"
        try:
            parts = urlsplit(self._url)
            port = parts.port
        except ValueError:
            parts, port = urlsplit(""), None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(f"{url!r} is not the address of a server.", "It has the form http://127.0.0.1:8880.")
        self._path = parts.path.rstrip("/").removesuffix("/v1")
        self._headers = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._connection = kind(parts.hostname, port, timeout=_CONNECT_TIMEOUT_S)

    def json(self, method: str, path: str) -> dict[str, Any]:
        """Send a request and return the JSON object of the response."""
        return self._object(self._request(method, path))

    def upload(self, path: str, fields: Mapping[str, str], file: bytes) -> dict[str, Any]:
        """Send a form with a file and return the JSON object of the response."""
        boundary = secrets.token_hex(16)
        lines = b"".join(
            f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
            for name, value in fields.items()
        )
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="clip.wav"\r\n\r\n'.encode()
        body = lines + head + file + f"\r\n--{boundary}--\r\n".encode()
        return self._object(self._request("POST", path, body, f"multipart/form-data; boundary={boundary}"))

    def events(self, path: str, body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """The events of a response. Closing the iterator closes the connection, which ends the request.

        Raises:
            LlasaError: The stream ends with an error, or without its last event.
        """
        response = self._request("POST", path, json.dumps(body).encode(), "application/json")
        is_complete = False
        try:
            while not is_complete:
                line = self._guarded(response.readline)
                if not line:
                    raise LlasaError("The server ended the connection before the speech was complete.", "Try again.")
                if not line.startswith(b"data: "):
                    continue
                event = json.loads(line[6:])
                if event.get("type") == "error":
                    _raise(event["error"], 500)
                is_complete = event.get("type") == "speech.audio.done"
                yield event
            self._guarded(response.read)  # the end of the body, so that the connection can be used again
        finally:
            if not response.isclosed():
                self._connection.close()

    def _request(
        self, method: str, path: str, body: bytes | None = None, content_type: str = ""
    ) -> http.client.HTTPResponse:
        headers = self._headers | ({"Content-Type": content_type} if content_type else {})
        give_up = time.monotonic() + _BUSY_PATIENCE_S
        while True:
            response = self._guarded(lambda: self._send(method, self._path + path, body, headers))
            if response.status == 200:
                return response
            data = self._guarded(response.read)
            try:
                error = json.loads(data)["error"]
            except (ValueError, KeyError, TypeError):
                raise ServerUnreachable(
                    f"{self._url} is not a llasa server: it answered with status {response.status}.", _START_HINT
                ) from None
            if response.status not in (429, 503) or time.monotonic() > give_up:
                _raise(error, response.status)
            with suppress(ValueError):
                time.sleep(min(10.0, float(response.headers.get("Retry-After") or 1)))

    def _send(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> http.client.HTTPResponse:
        is_new = self._connection.sock is None
        if is_new:
            try:
                self._connection.connect()
            except OSError as error:
                reason = error.strerror or str(error)
                raise ServerUnreachable(f"The server {self._url} can't be reached: {reason}.", _START_HINT) from error
            assert self._connection.sock is not None
            self._connection.sock.settimeout(_SILENCE_TIMEOUT_S)
        try:
            self._connection.request(method, path, body, headers)
            return self._connection.getresponse()
        except ConnectionError:
            if is_new:
                raise
            self._connection.close()  # a server closes connections without requests, as between the sentences of a pipe
            return self._send(method, path, body, headers)

    def _guarded(self, work: Callable[[], Any]) -> Any:
        """The result of `work`; failures of the connection become a LlasaError."""
        try:
            return work()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise LlasaError(f"The connection to {self._url} was lost: {error or type(error).__name__}.") from error

    def _object(self, response: http.client.HTTPResponse) -> dict[str, Any]:
        try:
            found = json.loads(self._guarded(response.read))
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise ServerUnreachable(f"{self._url} is not a llasa server: its answer is no JSON object.", _START_HINT)
        return found


def _raise(error: Mapping[str, Any], status: int) -> NoReturn:
    """Raise the server's error here, with its exit code."""
    if status == 401:
        raise UsageError("The server requires another API key.", "Give it with --api-key or LLASA_API_KEY.")
    hint = str(error.get("hint") or "")
    message = str(error.get("message") or f"The server answered with status {status}.")
    default = UsageError.exit_code if 400 <= status < 429 else LlasaError.exit_code
    raise _ERRORS.get(error.get("exit_code", default), LlasaError)(message.removesuffix(hint).rstrip(), hint)
