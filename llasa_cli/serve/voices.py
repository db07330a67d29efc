"""The voices of a server: the model's speakers, the saved voices, and clips that clients send."""

from __future__ import annotations

import os
import tempfile
import threading
from collections import OrderedDict
from dataclasses import replace
from datetime import datetime, timezone
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llasa_cli.errors import AudioError, UsageError
from llasa_cli.prompt import Reference
from llasa_cli.serve.service import SpeechModel
from llasa_cli.wording import shorten

if TYPE_CHECKING:
    from llasa_cli.voices.reference import ReferenceClip

_CLIPS_KEPT = 64


def _transcript(text: str | None) -> str:
    if not text or not text.strip():
        raise UsageError("The transcript of the clip is missing.", "Send its words as `text`.")
    return text


class VoiceStore:
    """See the module. Its methods may be called from several threads."""

    def __init__(self, synthesizer: SpeechModel) -> None:
        self._synthesizer, self._checkpoint = synthesizer, synthesizer.checkpoint
        self._lock = threading.Lock()
        self._clips: OrderedDict[str, Reference] = OrderedDict()

    @property
    def codec_identity(self) -> str:
        """Identifies the codec that the codes of voices belong to."""
        return self._checkpoint.codec_identity

    def describe(self) -> list[dict[str, Any]]:
        """The voices that a request can name, with a few words about those that have them. `id` repeats `name`: Open WebUI reads both."""
        from llasa_cli.voices.library import list_voices

        default = self._synthesizer.prompt_format.default_speaker
        kinds = dict.fromkeys(self._synthesizer.prompt_format.speakers, "speaker")
        found = [*kinds.items(), *((entry.name, "saved") for entry in list_voices() if entry.voice is not None)]
        about = self._checkpoint.speaker_notes
        return [
            {
                "id": name,
                "name": name,
                "kind": kind,
                "default": name == default,
                "about": about.get(name, "") if kind == "speaker" else "",
            }
            for name, kind in found
        ]

    def find(self, name: str | None) -> tuple[str | None, Reference | None]:
        """A voice's name -> (speaker, reference); one of them is None, both for the model's default.

        Raises:
            UsageError: There is no such voice, or it was made with another codec.
        """
        from llasa_cli.voices.resolve import resolve_voice

        if name is None or name in ("", "default"):
            return None, None
        if name in self._synthesizer.prompt_format.speakers:
            return name, None
        known = {voice["name"] for voice in self.describe()}
        if name not in known:  # compared with names only: a path in a request is never opened
            raise UsageError(f"There is no voice {shorten(name)}.", f"There are: {', '.join(sorted(known)) or 'none'}.")
        chosen = resolve_voice(name, None, self._checkpoint)
        return chosen.speaker, chosen.reference

    def read(self, name: str) -> dict[str, Any]:
        """A saved voice: name, text, codes, codec and language.

        Raises:
            UsageError: There is none of this name.
        """
        from llasa_cli.voices.library import list_voices

        for entry in list_voices():
            if entry.name == name and entry.voice is not None:
                voice = entry.voice
                return {
                    "name": name,
                    "text": voice.text,
                    "codes": list(voice.codes),
                    "codec": voice.codec,
                    "language": voice.language,
                }
        raise UsageError(f"There is no saved voice {shorten(name)}.")

    def encode(self, data: bytes, text: str | None, as_is: bool = False) -> Reference:
        """Make a voice of a clip and its transcript. The last ones are cached.

        Args:
            as_is: The clip was prepared by `voices.reference`: it is checked, and encoded without further changes.

        Raises:
            AudioError: The clip can't be used.
            UsageError: The transcript is missing, or can't be that of the clip.
        """
        text = _transcript(text)
        key = sha256(data + text.encode() + bytes([as_is])).hexdigest()
        with self._lock:
            if key in self._clips:
                self._clips.move_to_end(key)
                return self._clips[key]
            clip = self._checked(data, text, as_is)
            reference = self._synthesizer.encode_reference(clip.samples, clip.transcript or text)
            if not reference.text:
                raise UsageError("This model can't read the transcript of the clip.")
            self._clips[key] = reference
            while len(self._clips) > _CLIPS_KEPT:
                self._clips.popitem(last=False)
            return reference

    def add(self, name: str, data: bytes, text: str | None) -> list[str]:
        """Save a voice and return the warnings about its clip.

        Raises:
            UsageError: The name is taken or can't be a file's name, or there is no transcript.
            AudioError: The clip can't be used.
        """
        from llasa_cli.voices.library import SavedVoice, check_name, save

        check_name(name)
        if name in self._synthesizer.prompt_format.speakers:
            raise UsageError(f"{name!r} is a speaker of the model.", "Choose another name.")
        text = _transcript(text)
        with self._lock:
            clip = self._checked(data, text)
            reference = self._synthesizer.encode_reference(clip.samples, clip.transcript or text)
        save(
            SavedVoice(
                name=name,
                text=clip.transcript or text,
                codes=reference.codes,
                codec=self._checkpoint.codec_identity,
                model=self._checkpoint.name,
                revision=self._checkpoint.revision,
                created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            )
        )
        note = self._checkpoint.metadata.get("cloning_note")
        return [*clip.warnings, *([note] if note else [])]

    def remove(self, name: str) -> None:
        """Delete a saved voice.

        Raises:
            UsageError: There is none of this name.
        """
        from llasa_cli.voices.library import list_voices, remove

        if name not in {entry.name for entry in list_voices()}:
            raise UsageError(f"There is no saved voice {shorten(name)}.")
        remove(name)

    def _checked(self, data: bytes, text: str, as_is: bool = False) -> ReferenceClip:
        """A clip that was checked as `llasa clone` checks it, but whose `text` is never looked up as a file name."""
        from llasa_cli.audio.reader import read_recording
        from llasa_cli.voices.reference import (
            FULL_RATE_HZ,
            MAX_FILE_S,
            MAX_SPEECH_S,
            check_rate,
            check_sound,
            check_transcript,
        )

        if not data:
            raise AudioError("The clip is empty.", "Send an audio file.")
        number, path = tempfile.mkstemp(suffix=".audio")
        try:
            with os.fdopen(number, "wb") as file:
                file.write(data)
            recording = read_recording(Path(path), FULL_RATE_HZ, MAX_FILE_S)
            check_rate(recording.file_rate)
            clip = check_sound(recording.samples, FULL_RATE_HZ, recording.flat_tops)
            checked = check_transcript(clip, text)
            if as_is and len(recording.samples) <= (MAX_SPEECH_S + 1) * FULL_RATE_HZ:
                return replace(checked, samples=recording.samples, transcript=text)
            return checked
        except AudioError as error:
            # The hint names the file and a command for a shell.
            hint = "Send 1 to 15 s of speech as WAV, FLAC, OGG, Opus or MP3." if path[:-6] in error.hint else error.hint
            raise AudioError(error.message.replace(path, "The clip"), hint) from error
        finally:
            os.unlink(path)
