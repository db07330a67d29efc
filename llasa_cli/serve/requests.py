"""The bodies of requests: their fields, and the checks of their values."""

from __future__ import annotations

import base64
import binascii
import secrets
from collections.abc import Collection
from dataclasses import fields
from typing import Annotated, Any, Literal

from fastapi import File, Form, UploadFile
from pydantic import BaseModel, Field, create_model, model_validator

from llasa_cli.errors import UsageError
from llasa_cli.prompt import Reference
from llasa_cli.serve.api_errors import ApiError
from llasa_cli.serve.limits import MAX_CLIP_BYTES, ServerSettings
from llasa_cli.serve.voices import VoiceStore
from llasa_cli.settings import LARGEST_SEED, SamplingOptions, SamplingRequest, SpeechOptions
from llasa_cli.text.dialogue import has_voices
from llasa_cli.text.unicode import whole_characters
from llasa_cli.voices.library import MAX_NAME_BYTES, NAME_PATTERN

_WORDS_SCHEMA: Any = {"pattern": r"[^\s\x00-\x1f\x7f-\x9f]"}
"""Texts that are not blank."""
MAX_REFERENCE_CODES = 2048
MAX_BEST_OF = 32


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

    def text(self, max_characters: int) -> str | list[str]:
        """The input.

        Raises:
            ApiError: It is too long, or names voices.
        """
        length = len(self.input) if isinstance(self.input, str) else sum(map(len, self.input))
        if length > max_characters:
            raise ApiError(
                400,
                f"input has {length:,} characters; at most {max_characters:,} are accepted.",
                "string_above_max_length",
                "input",
            )
        if any(map(has_voices, [self.input] if isinstance(self.input, str) else self.input)):
            raise ApiError(400, "A request has one voice: [voice:NAME] can't change it.", "invalid_value", "input")
        return self.input if isinstance(self.input, str) else [whole_characters(part) for part in self.input]

    def options(self, speaker: str | None) -> SpeechOptions:
        """The options of the speech; a seed is drawn unless one is given."""
        return SpeechOptions(
            sampling=SamplingRequest(**{part.name: getattr(self, part.name) for part in fields(SamplingRequest)}),
            seed=self.seed if self.seed is not None else secrets.randbelow(LARGEST_SEED),
            speaker=speaker,
            retries=self.retries,
            best_of=self.best_of,
            good_enough=self.good_enough,
            candidate=self.candidate,
            style=tuple(f"{name}={whole_characters(value)}" for name, value in self.style.items()),
            markdown=self.markdown,
        )

    def judges(self, known: Collection[str], has_reference: bool) -> list[str]:
        """The names of the verifiers that judge the takes.

        Args:
            known: Those that the server has.

        Raises:
            UsageError: An option has no effect, or the server has no such verifier.
        """
        if self.choose_by and self.best_of == 1:
            raise UsageError("choose_by has no effect without best_of.", "Add best_of.")
        names: list[str] = list(dict.fromkeys(self.choose_by))
        if self.best_of > 1 and not names:
            names = ["words"] if "words" in known else ["likelihood"]
        if self.verify and "words" not in names:
            names.append("words")
        flags = {"words": "--asr", "likeness": "--speaker-model"}
        for name in names:
            if name not in known:
                raise UsageError(f"This server can't judge takes by {name}.", f"Start it with {flags[name]}.")
        if "likeness" in names and not has_reference:
            raise UsageError("likeness compares with a reference clip, and this voice has none.", "Send another voice.")
        return names


ClipFile = Annotated[
    UploadFile,
    File(description=f"1 to 15 s of speech as WAV, FLAC, OGG, Opus or MP3, at most {MAX_CLIP_BYTES:,} bytes."),
]
Transcript = Annotated[
    str,
    Form(
        min_length=1,
        max_length=2000,
        description="The words of the clip, exactly. A text that does not fit the length of the clip is refused.",
        json_schema_extra=_WORDS_SCHEMA,
    ),
]
VoiceName = Annotated[
    str | None,
    Form(
        max_length=MAX_NAME_BYTES,
        description=f"The name to save the voice under, at most {MAX_NAME_BYTES} bytes; letters of all scripts are accepted. "
        "Names of the model's speakers and of saved voices are refused. Without a name nothing is saved.",
        # Of ASCII names, whose bytes are characters; patterns of OpenAPI have no letters of other scripts.
        json_schema_extra={"pattern": NAME_PATTERN.replace(r"\w", "A-Za-z0-9_"), "minLength": 1},
    ),
]


def find_voice(
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
