"""The reference clips of a list: each is read and judged once, before anything heavy is loaded."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from llasa_cli.errors import AudioError, UsageError

if TYPE_CHECKING:
    from llasa_cli.voices.reference import Clip


def load_reference(path: Path, transcript: str | None, heard: str | None = None) -> Clip:
    """A clip that a voice can be taken from.

    Args:
        transcript: What the list says is said in it; None cuts it at a pause, to be heard.
        heard: What a recogniser has heard in it since.

    Raises:
        AudioError: It can't be used.
        UsageError: The transcript can't be of this clip.
    """
    from dataclasses import replace

    from llasa_cli.audio.reader import read_recording
    from llasa_cli.text.sentences import split_sentences
    from llasa_cli.voices.reference import LONGEST_FILE_S, check_rate, check_sound, check_transcript, cut_at_pause

    if transcript is not None and not transcript.strip():
        raise UsageError("The clip's transcript is empty.", "Leave it out to have the clip heard with --asr.")
    recording = read_recording(path, longest_s=LONGEST_FILE_S)
    sound = check_sound(recording.samples, 16_000)
    sound = replace(sound, warnings=(*check_rate(recording.file_rate), *sound.warnings))
    if transcript is not None:
        return check_transcript(sound, transcript, split_sentences)
    sound = cut_at_pause(sound)
    if heard is None:
        return sound
    try:
        return check_transcript(sound, heard)
    except UsageError as error:
        raise AudioError(
            f"What was heard can't be all that is said in {sound.speech_s:.1f} s.", "Say what it is in ref_text."
        ) from error


def digest_of(path: Path) -> str:
    """Of a clip's file: another recording under the same name is another voice."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()[:16]
