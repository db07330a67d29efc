"""`llasa clone`: speak text in the voice of a reference clip, and save the voice."""

from __future__ import annotations

import hashlib
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from llasa_cli.batch.options import SchedulingOptions
from llasa_cli.cli.audio_output import check_paths, open_audio_output
from llasa_cli.cli.chapters import list_chapters
from llasa_cli.cli.common_options import (
    BookOptions,
    CastOptions,
    ConsoleOptions,
    LexiconOptions,
    OutputOptions,
    ReferenceOptions,
    RemoteOptions,
    TextOptions,
)
from llasa_cli.cli.console import Console, as_json, claim_stdout, result
from llasa_cli.cli.flags import Parsed, with_flags
from llasa_cli.cli.speak import find_cast, find_model, find_verifiers, open_synthesizer, passages_at_once, speak
from llasa_cli.cli.text_input import TextInput, open_text
from llasa_cli.errors import UsageError
from llasa_cli.options import Flag, Options
from llasa_cli.settings import REFERENCE_FLAG, ModelOptions, SpeechOptions

if TYPE_CHECKING:
    from llasa_cli.batch.passages import PassageSynthesizer
    from llasa_cli.prompt import Reference
    from llasa_cli.serve.client import RemoteSynthesizer
    from llasa_cli.synthesis.synthesizer import Synthesizer
    from llasa_cli.voices.library import SavedVoice
    from llasa_cli.voices.reference import ReferenceClip


_CLIP = "Reference clip"


@dataclass(frozen=True)
class CloneOptions(Options):
    """The reference clip, and whether its voice is saved."""

    ref: Annotated[Path, REFERENCE_FLAG]
    save: Annotated[
        str | None,
        Flag("Save the voice for --voice NAME. A text is not needed then.", metavar="NAME", panel=_CLIP),
    ] = None
    force: Annotated[bool, Flag("Replace a saved voice of that name.", panel=_CLIP)] = False
    license_note: Annotated[
        str | None,
        Flag("Who may use the voice, and how; saved with it.", names=("--license",), panel=_CLIP),
    ] = None


@with_flags
def clone(
    options: CloneOptions,
    text: TextOptions,
    book: BookOptions,
    reference_options: ReferenceOptions,
    cast_options: CastOptions,
    lexicon: LexiconOptions,
    console_options: ConsoleOptions,
    output: OutputOptions,
    models: Parsed[ModelOptions],
    speech: SpeechOptions,
    remote: RemoteOptions,
    scheduling: SchedulingOptions,
) -> None:
    """Speak text in the voice of a reference clip, save the voice, or both."""
    claim_stdout()
    if book.chapters:
        list_chapters(text.file, output.json)
        return
    if reference_options.ref_text is not None and not cast_options.cast:
        output.check.refuse_unused(speech, output.needs_words)
    speech = replace(speech, lexicon=lexicon.words())
    model = find_model(models, remote, output.check, speech, console_options.quiet)
    if options.save is not None:
        from llasa_cli.voices.library import check_free
        from llasa_cli.voices.resolve import check_not_a_speaker

        check_free(options.save, options.force)
        check_not_a_speaker(options.save, model)
    elif options.force or options.license_note is not None:
        raise UsageError("--force and --license have no effect without --save.", "Add --save NAME.")
    source = _open_text(text, book, output, speech, is_saved=options.save is not None)
    cast = find_cast(model, cast_options, output.check.asr, models.values["device"], console_options.quiet)
    if source is not None:
        source = source.with_voices(cast.find, cast.names)
    verifiers = find_verifiers(model, output.check, speech, reference_options.language)
    from llasa_cli.checkpoint.metadata import only_language

    timing = output.check.timing(output.needs_words, reference_options.language or only_language(model.metadata))
    at_once = None if source is None else passages_at_once(scheduling, model, source, output, speech)
    check_paths(output, options.ref, source.path if source is not None else None)
    with Console(console_options.quiet, console_options.verbose) as console:
        if model.metadata.get("cloning_note"):
            console.line(f"warning: {model.metadata['cloning_note']}")
        clip = _load_clip(options.ref, reference_options, output.check.asr, models.values["device"], console)
        voice = hashlib.sha256(clip.samples.tobytes()).hexdigest() + clip.transcript + cast.key
        with (
            open_audio_output(output, source, speech, model, console, voice, verifiers, timing)
            if source is not None
            else nullcontext() as audio_output
        ):
            synthesizer = open_synthesizer(model, console, None, at_once, verifiers)
            console.stage("encoding the reference clip")
            reference = synthesizer.encode_reference(clip.samples, clip.transcript)
            if not reference.text:
                raise UsageError("The model can't read the transcript of the clip.", "Choose another model with -m.")
            if options.save is not None:
                saved = _saved_voice(
                    options.save, synthesizer, reference, clip, reference_options.language, options.license_note
                )
                _save(saved, options.force, console, output.json, prints_path=source is None)
            if source is not None and audio_output is not None:
                cast.encode(synthesizer.encode_reference)
                speak(
                    synthesizer, source, speech, reference, audio_output, console, verifiers, timing, cast=cast.voices
                )


def _open_text(
    text: TextOptions, book: BookOptions, output: OutputOptions, speech: SpeechOptions, is_saved: bool
) -> TextInput | None:
    """The text to speak; None if the voice is only saved. With --save, standard input is read only if `-f -` names it."""
    if not is_saved or text.text or text.file is not None:
        return open_text(text, "clone", (book.first_chapter, book.last_chapter))
    about_sound = (
        output.output,
        output.play,
        output.subtitles,
        output.words,
        output.file_format,
        output.stream,
        output.loudness,
    )
    if any(value is not None for value in about_sound) or output.check.verify or speech.best_of > 1:
        raise UsageError("There is no text to speak.", "Give a text, -f - for standard input, or --save NAME alone.")
    return None


def _load_clip(path: Path, options: ReferenceOptions, recognizer: str, device: str, console: Console) -> ReferenceClip:
    """Read and check the clip, and transcribe it where no transcript is given."""
    from llasa_cli.voices.reference import ReferenceTranscriber, load_reference

    clip = load_reference(path, options.ref_text)
    for warning in clip.warnings:
        console.line(f"warning: {warning}")
    if options.ref_text is not None:
        return clip
    shown = len(clip.warnings)
    clip = ReferenceTranscriber(recognizer, options.language, device, console.stage, console.line).complete(clip)
    for warning in clip.warnings[shown:]:
        console.line(f"warning: {warning}")
    return clip


def _saved_voice(
    name: str,
    synthesizer: Synthesizer | RemoteSynthesizer | PassageSynthesizer,
    reference: Reference,
    clip: ReferenceClip,
    language: str | None,
    license_note: str | None,
) -> SavedVoice:
    """The voice to save: the clip's codes and transcript, and their origin."""
    from datetime import datetime, timezone

    from llasa_cli.checkpoint.metadata import only_language
    from llasa_cli.voices.library import SavedVoice

    return SavedVoice(
        name=name,
        text=clip.transcript,
        codes=reference.codes,
        codec=synthesizer.checkpoint.codec_identity,
        language=language or only_language(synthesizer.checkpoint.metadata),
        model=synthesizer.name,
        revision=synthesizer.revision,
        license=f"recording: {' '.join((license_note or 'not stated').split())}; model: {synthesizer.checkpoint.license}",
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        sound={
            "seconds": round(clip.seconds, 2),
            "sampling_rate": clip.file_rate,
            "channels": clip.channels,
        },
        transcribed_by=clip.transcribed_by,
    )


def _save(voice: SavedVoice, force: bool, console: Console, json: bool, prints_path: bool) -> None:
    """Write the voice's file and report it.

    Args:
        prints_path: Print the path to standard output, because nothing else is printed there.
    """
    from llasa_cli.voices.library import save

    path = save(voice, force)
    console.line(f"saved as {voice.name}: {len(voice.codes)} codes, {path}")
    if json:
        facts = {name: value for name, value in asdict(voice).items() if name not in ("codes", "name")}
        result(as_json({"voice": voice.name, "path": str(path), **facts}))
    elif prints_path:
        result(str(path))
