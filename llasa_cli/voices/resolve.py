"""The voice that `--voice` and `--speaker` select: a saved voice, a voice file, or one of the model's speakers.

    resolved = resolve_voice("kim", None, checkpoint)
    resolved.reference or resolved.speaker              one of them is given to the `Synthesizer`

Only metadata is read; no weights are loaded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from llasa_cli.errors import UsageError
from llasa_cli.wording import shorten

if TYPE_CHECKING:
    from llasa_cli.checkpoint.resolve import ModelDescription
    from llasa_cli.prompt import Reference
    from llasa_cli.voices.library import SavedVoice


@dataclass(frozen=True)
class ResolvedVoice:
    """The voice in the form that `Synthesizer` takes.

    Attributes:
        speaker: A speaker tag as the model spells it; None means the model's default.
        reference: A saved voice. It is used without a speaker tag.
        language: The language of the saved voice, such as "en".
    """

    speaker: str | None = None
    reference: Reference | None = None
    language: str | None = None


def resolve_voice(voice: str | None, speaker: str | None, checkpoint: ModelDescription) -> ResolvedVoice:
    """Find the voice that the two flags name.

    Args:
        voice: A saved voice, the path of a voice file, or one of the model's speakers.
        speaker: One of the model's speakers. For a model that lists none, any tag it was trained with.
        checkpoint: The model that will speak.

    Raises:
        UsageError: The name is unknown or ambiguous, or the voice was made with another codec.
        ModelError: The model's codec is not on this machine.
    """
    from llasa_cli.voices.library import find, is_voice_path, match_speaker, voice_exists

    if voice is not None and speaker is not None:
        raise UsageError(
            "--voice and --speaker are both given.", "Give one of them: a saved voice is used without a speaker."
        )
    if speaker is not None:
        return ResolvedVoice(speaker=_speaker_tag(speaker, checkpoint))
    if voice is None:
        return ResolvedVoice()
    if is_voice_path(voice):
        return adapt_voice(find(voice), checkpoint)
    tag = match_speaker(voice, checkpoint.known_speakers)
    if voice_exists(voice):
        if tag is not None:
            raise UsageError(
                f"{voice!r} is both a saved voice and a speaker of the model.",
                f"Use --speaker {tag} for the speaker. For the saved voice, give the path of its file, or rename the file.",
            )
        return adapt_voice(find(voice), checkpoint)
    if tag is None:
        raise _unknown(voice, checkpoint)
    return ResolvedVoice(speaker=tag)


def check_not_a_speaker(name: str, checkpoint: ModelDescription) -> None:
    """Refuse a name for a saved voice that one of the model's speakers has.

    Raises:
        UsageError: `--voice NAME` would be ambiguous.
    """
    from llasa_cli.voices.library import match_speaker

    if match_speaker(name, checkpoint.known_speakers) is not None:
        raise UsageError(
            f"{name!r} is a speaker of this model, so --voice {name} would be ambiguous.",
            "Choose another name for the saved voice.",
        )


def _speaker_tag(name: str, checkpoint: ModelDescription) -> str:
    """The model's spelling of a speaker's name. A model that lists no speakers gets the name as it is.

    Raises:
        UsageError: The model can't know this speaker.
    """
    from llasa_cli.voices.library import match_speaker, strip_speaker_prefix

    found = match_speaker(name, checkpoint.known_speakers)
    if found is None:
        found = strip_speaker_prefix(name)
        checkpoint.check_unlisted_speaker(found)
    return found


def _unknown(name: str, checkpoint: ModelDescription) -> UsageError:
    """The error for a name that is neither a saved voice nor a speaker; its hint lists the known ones."""
    from llasa_cli.voices.library import list_voices

    saved = [entry.name for entry in list_voices()]
    hints = [f"Saved voices: {', '.join(saved)}." if saved else "There are no saved voices."]
    if checkpoint.known_speakers:
        hints.append("The model's speakers: " + ", ".join(checkpoint.known_speakers) + ".")
    else:
        hints.append("The model lists no speakers; --speaker uses a tag that it was trained with.")
    return UsageError(f"There is no voice {shorten(name)}.", " ".join(hints))


def adapt_voice(voice: SavedVoice, checkpoint: ModelDescription) -> ResolvedVoice:
    """A saved voice in the form that this model takes.

    Raises:
        UsageError: It was made with another codec, or the model can't read its transcript.
    """
    from llasa_cli.prompt import Reference
    from llasa_cli.text.normalize.loader import load_normalizer

    codec = checkpoint.codec_identity
    if voice.codec != codec:
        made_with = f", by the model {voice.model}" if voice.model else ""
        raise UsageError(
            f"The voice {voice.name} was made with another codec ({voice.codec}{made_with}) than the model's ({codec}).",
            "Save it again with this model: llasa clone --ref CLIP --save NAME -m MODEL --force.",
        )
    normalize = load_normalizer(bool(checkpoint.metadata.get("spell_out")))
    text = normalize(voice.text) if normalize else voice.text
    reference = Reference(" ".join(text.split()), voice.codes).require_words(f"the voice {voice.name}")
    return ResolvedVoice(reference=reference, language=voice.language)
