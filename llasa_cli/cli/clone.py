"""`llasa clone`: speak text in the voice of a reference clip, and save the voice."""

from __future__ import annotations

import hashlib
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from llasa_cli.cli.audio_output import check_paths, open_audio_output
from llasa_cli.cli.chapters import list_chapters
from llasa_cli.cli.common_options import ReferenceOptions, SpeakOptions, TextOptions
from llasa_cli.cli.console import Console, as_json, claim_stdout, result
from llasa_cli.cli.flags import with_flags
from llasa_cli.cli.model import find_model
from llasa_cli.cli.speak import speak
from llasa_cli.cli.speech_plan import plan_speech
from llasa_cli.cli.text_input import NO_TEXT, TextInput, open_text
from llasa_cli.errors import UsageError
from llasa_cli.options import Flag, Options
from llasa_cli.settings import REFERENCE_FLAG

if TYPE_CHECKING:
    from llasa_cli.checkpoint.resolve import ModelDescription
    from llasa_cli.prompt import Reference
    from llasa_cli.voices.library import SavedVoice
    from llasa_cli.voices.reference import ReferenceClip


@dataclass(frozen=True)
class CloneOptions(Options, panel="Reference clip"):
    """The reference clip, and whether its voice is saved."""

    ref: Annotated[Path, REFERENCE_FLAG]
    save: Annotated[str | None, Flag("Save the voice for --voice NAME. A text is not needed then.", metavar="NAME")] = (
        None
    )
    force: Annotated[bool, Flag("Replace a saved voice of that name.")] = False
    license_note: Annotated[
        str | None, Flag("Who may use the voice, and how; saved with it.", names=("--license",))
    ] = None


@with_flags
def clone(options: CloneOptions, text: TextOptions, reference_options: ReferenceOptions, common: SpeakOptions) -> None:
    """Speak text in the voice of a reference clip, save the voice, or both."""
    claim_stdout()
    if text.book.chapters:
        list_chapters(text.file, common.output.json)
        return
    if reference_options.ref_text is not None:
        common.refuse_unused_recognizer()
    model = find_model(common)
    _check_name(options, model.checkpoint)
    source = _open_text(text, common, is_saved=options.save is not None)
    from llasa_cli.voices.resolve import ResolvedVoice

    plan = plan_speech(common, model, source, ResolvedVoice(language=reference_options.language))
    check_paths(common.output, options.ref, source.path)
    with Console(common.console.quiet, common.console.verbose) as console:
        if model.checkpoint.metadata.get("cloning_note"):
            console.line(f"warning: {model.checkpoint.metadata['cloning_note']}")
        clip = _load_clip(options.ref, reference_options, common, console)
        voice = hashlib.sha256(clip.samples.tobytes()).hexdigest() + clip.transcript
        speaks = source is not NO_TEXT
        with open_audio_output(plan, console, voice) if speaks else nullcontext() as audio_output:
            text_to_speech = plan.load(console)
            console.stage("encoding the reference clip")
            reference = text_to_speech.encode_reference(clip.samples, clip.transcript).require_words()
            if options.save is not None:
                saved = _saved_voice(options, reference_options.language, model.checkpoint, reference, clip)
                _save(saved, options.force, console, common.output.json, prints_path=not speaks)
            if audio_output is not None:
                speak(plan, text_to_speech, reference, audio_output)


def _check_name(options: CloneOptions, checkpoint: ModelDescription) -> None:
    """Raises UsageError if the voice can't be saved under its name, or an option needs `--save`."""
    if options.save is not None:
        from llasa_cli.voices.library import check_free
        from llasa_cli.voices.resolve import check_not_a_speaker

        check_free(options.save, options.force)
        check_not_a_speaker(options.save, checkpoint)
    elif options.force or options.license_note is not None:
        raise UsageError("--force and --license have no effect without --save.", "Add --save NAME.")


def _open_text(text: TextOptions, common: SpeakOptions, is_saved: bool) -> TextInput:
    """The text to speak; NO_TEXT if the voice is only saved. With --save, standard input is read only if `-f -` names it."""
    if not is_saved or text.text or text.file is not None:
        return open_text(text, "clone")
    output = common.output
    about_sound = (
        output.output,
        output.play,
        output.subtitles,
        output.words,
        output.file_format,
        output.stream,
        output.loudness,
    )
    if any(value is not None for value in about_sound) or output.check.verify or common.speech.best_of > 1:
        raise UsageError("There is no text to speak.", "Give a text, -f - for standard input, or --save NAME alone.")
    return NO_TEXT


def _load_clip(path: Path, options: ReferenceOptions, common: SpeakOptions, console: Console) -> ReferenceClip:
    """Read and check the clip, and transcribe it where no transcript is given."""
    from llasa_cli.voices.reference import ReferenceTranscriber, load_reference

    clip = load_reference(path, options.ref_text)
    for warning in clip.warnings:
        console.line(f"warning: {warning}")
    if options.ref_text is not None:
        return clip
    shown = len(clip.warnings)
    recognizer, device = common.output.check.asr, common.models.values["device"]
    clip = ReferenceTranscriber(recognizer, options.language, device, console.stage, console.line).complete(clip)
    for warning in clip.warnings[shown:]:
        console.line(f"warning: {warning}")
    return clip


def _saved_voice(
    options: CloneOptions,
    language: str | None,
    model: ModelDescription,
    reference: Reference,
    clip: ReferenceClip,
) -> SavedVoice:
    """The voice to save: the clip's codes and transcript, and their origin."""
    from datetime import datetime, timezone

    from llasa_cli.checkpoint.metadata import only_language
    from llasa_cli.voices.library import SavedVoice

    return SavedVoice(
        name=str(options.save),
        text=clip.transcript,
        codes=reference.codes,
        codec=model.codec_identity,
        language=language or only_language(model.metadata),
        model=model.name,
        revision=model.revision,
        license=f"recording: {' '.join((options.license_note or 'not stated').split())}; model: {model.license}",
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
