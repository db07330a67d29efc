"""The voices of a dialogue: the names in a text, each with a saved voice, a speaker or a clip.

    cast = Cast(("Anna=bella,Bob=bob.wav",), resolve)
    cast.find("anna")                       "Anna"; UsageError for a name without a voice
    cast.encode(synthesizer.encode_reference)
    synthesizer.stream(..., settings=StreamSettings(cast=cast.voices))

A name that `--cast` does not give may be a voice itself: a saved voice, the file of one, or one of the model's speakers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from llasa_cli.audio.formats import READ_ENDINGS
from llasa_cli.errors import UsageError
from llasa_cli.voices.resolve import ResolvedVoice

if TYPE_CHECKING:
    import numpy as np

    from llasa_cli.prompt import Reference
    from llasa_cli.voices.reference import ReferenceClip


class Cast:
    """See the module.

    Args:
        pairs: Values of `--cast`: NAME=VOICE, several of them with commas between.
        resolve: A saved voice, its file or a speaker -> the voice. Raises UsageError.
        transcribe: Completes a clip without a transcript.
        on_server: A server speaks the text, which supports one voice only.

    Attributes:
        names: The given names, in lower case.
        voices: The voices that were found so far, by name. The voice of a clip has no reference until `encode`.

    Raises:
        UsageError: A pair is not NAME=VOICE, a name has two voices, a voice can't be used, or a server speaks the text.
    """

    def __init__(
        self,
        pairs: Iterable[str],
        resolve: Callable[[str], ResolvedVoice],
        transcribe: Callable[[ReferenceClip], ReferenceClip] | None = None,
        on_server: bool = False,
    ) -> None:
        self._resolve, self._transcribe, self._on_server = resolve, transcribe, on_server
        self._spelled: dict[str, str] = {}
        self.voices: dict[str, ResolvedVoice] = {}
        self._clips: dict[str, ReferenceClip] = {}
        for name, voice in _pairs(pairs):
            self._refuse_server()
            if name.casefold() in self._spelled:
                raise UsageError(f"--cast gives {name} two voices.", "Give each name once.")
            self._spelled[name.casefold()] = name
            self.voices[name] = self._voice(name, voice)
        self.names = frozenset(self._spelled)

    @property
    def key(self) -> str:
        """Identifies the voices that the text uses, among the settings of a resumable run; empty if there are none."""
        clips = {name: (clip.transcript, _digest(clip.samples)) for name, clip in self._clips.items()}
        parts = [f"{name}={voice!r}{clips.get(name, '')}" for name, voice in sorted(self.voices.items())]
        return f"Cast({', '.join(parts)})" if parts else ""

    def find(self, name: str) -> str:
        """The name under which `voices` has a voice.

        Raises:
            UsageError: There is no such voice, or a server speaks the text.
        """
        self._refuse_server()
        spelled = self._spelled.get(name.casefold())
        if spelled is not None:
            return spelled
        if name not in self.voices:
            try:
                self.voices[name] = self._resolve(name)
            except UsageError as error:
                raise UsageError(
                    f"{name!r} is neither in --cast nor a voice.",
                    f"Add --cast '{name}=VOICE', where VOICE is a saved voice, a speaker or a clip."
                    if self._spelled
                    else error.hint,
                ) from error
        return name

    def encode(self, encode_reference: Callable[[np.ndarray, str], Reference]) -> None:
        """Make references from the clips.

        Raises:
            UsageError: The model can't read a transcript.
        """
        for name, clip in self._clips.items():
            reference = encode_reference(clip.samples, clip.transcript).require_words(f"{name}'s clip")
            self.voices[name] = replace(self.voices[name], reference=reference)

    def _refuse_server(self) -> None:
        if self._on_server:
            raise UsageError("Several voices need the model on this machine.", "Leave out --server (LLASA_SERVER).")

    def _voice(self, name: str, voice: str) -> ResolvedVoice:
        path = Path(voice)
        if path.suffix.lower() not in READ_ENDINGS:
            try:
                return self._resolve(voice)
            except UsageError as error:
                raise UsageError(f"--cast {name}={voice}: {error.message}", error.hint) from error
        from llasa_cli.voices.reference import load_reference

        text_file = path.with_suffix(".txt")
        transcript = None
        if text_file.is_file():
            transcript = " ".join(text_file.read_text(encoding="utf-8-sig", errors="replace").split()) or None
        clip = load_reference(path, transcript)
        if transcript is None:
            if self._transcribe is None:
                raise UsageError(f"The clip {voice} has no transcript.", f"Write its words into {text_file}.")
            clip = self._transcribe(clip)
        self._clips[name] = clip
        return ResolvedVoice()


def _pairs(values: Iterable[str]) -> Iterable[tuple[str, str]]:
    for value in values:
        for pair in value.split(","):
            name, equals, voice = (part.strip() for part in pair.partition("="))
            if not (name and equals and voice):
                raise UsageError(
                    f"--cast takes NAME=VOICE, not {pair.strip()!r}.", "For example: --cast Anna=bella,Bob=bob.wav."
                )
            yield " ".join(name.split()), voice


def _digest(samples: np.ndarray) -> str:
    import hashlib

    return hashlib.sha256(samples.tobytes()).hexdigest()
