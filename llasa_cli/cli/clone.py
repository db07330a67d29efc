"""`llasa clone`: speak text in the voice of a reference clip, and save the voice."""

from __future__ import annotations

import hashlib
from contextlib import nullcontext
from dataclasses import asdict
from typing import TYPE_CHECKING

from llasa_cli.cli import flags
from llasa_cli.cli.audio_output import check_places, open_audio_output
from llasa_cli.cli.common_options import CheckOptions, OutputOptions
from llasa_cli.cli.console import Console, as_json, claim_stdout, result
from llasa_cli.cli.speak import deliver, load_speech
from llasa_cli.cli.text_input import TextInput, text_source
from llasa_cli.errors import UsageError

if TYPE_CHECKING:
    from llasa_cli.prompt import Reference
    from llasa_cli.synthesis.synthesizer import Synthesizer
    from llasa_cli.voices.library import SavedVoice
    from llasa_cli.voices.reference import ReferenceClip


def clone(
    ref: flags.Reference,
    text: flags.Text = None,
    ref_text: flags.ReferenceText = None,
    file: flags.File = None,
    markdown: flags.Markdown = None,
    output: flags.Output = None,
    play: flags.Play = None,
    stream: flags.Stream = None,
    file_format: flags.Format = None,
    subtitles: flags.Subtitles = None,
    resume: flags.Resume = None,
    model: flags.Model = flags.DEFAULT_MODEL,
    codec: flags.Codec = None,
    adapter: flags.AdapterFolder = None,
    device: flags.Device = "auto",
    dtype: flags.Dtype = "auto",
    attention: flags.Attention = "auto",
    seed: flags.Seed = None,
    temperature: flags.Temperature = None,
    top_p: flags.TopP = None,
    top_k: flags.TopK = None,
    min_p: flags.MinP = None,
    repetition_penalty: flags.RepetitionPenalty = None,
    guidance: flags.Guidance = None,
    max_seconds: flags.MaxSeconds = None,
    retries: flags.Retries = flags.DEFAULT_RETRIES,
    verify: flags.Verify = False,
    asr: flags.Recogniser = flags.DEFAULT_RECOGNISER,
    language: flags.Language = None,
    save: flags.Save = None,
    force: flags.Force = False,
    license_note: flags.License = None,
    quiet: flags.Quiet = False,
    verbose: flags.Verbose = False,
    json: flags.Json = False,
) -> None:
    """Speak text in the voice of a reference clip; save the voice."""
    wanted = flags.speech_options(
        temperature, top_p, top_k, min_p, repetition_penalty, guidance, max_seconds, seed, None, retries
    )
    models = flags.model_options(model, codec, device, dtype, adapter, attention)
    wishes = OutputOptions(output, play, stream, file_format, subtitles, resume, CheckOptions(verify, asr), json)
    claim_stdout()
    if asr != flags.DEFAULT_RECOGNISER and ref_text is not None and not verify:
        raise UsageError("--asr has no effect beside --ref-text.", "Leave out one of them, or add --verify.")
    from llasa_cli.checkpoint.resolve import resolve_checkpoint

    checkpoint = resolve_checkpoint(models)
    if save is not None:
        from llasa_cli.voices.library import check_free
        from llasa_cli.voices.resolve import check_not_a_speaker

        check_free(save, force)
        check_not_a_speaker(save, checkpoint)
    elif force or license_note is not None:
        raise UsageError("--force and --license have no effect without --save.", "Add --save NAME.")
    source = _source(text, file, markdown, save, wishes)
    check_places(wishes, ref, source.path if source is not None else None)
    with Console(quiet, verbose) as report:
        from llasa_cli.voices.reference import ReferenceTranscriber, load_reference

        clip = load_reference(ref, ref_text)
        for warning in clip.warnings:
            report.line(f"warning: {warning}")
        if ref_text is None:
            known = len(clip.warnings)
            clip = ReferenceTranscriber(asr, language, device, report.stage, report.line).complete(clip)
            for warning in clip.warnings[known:]:
                report.line(f"warning: {warning}")
        voice = hashlib.sha256(clip.samples.tobytes()).hexdigest() + clip.transcript
        outlet = (
            open_audio_output(wishes, source, wanted, checkpoint, report, voice)
            if source is not None
            else nullcontext()
        )
        with outlet as open_one:
            speech = load_speech(checkpoint, report)
            report.stage("encoding the reference clip")
            reference = speech.encode_reference(clip.samples, clip.transcript)
            if not reference.text:
                raise UsageError("The model can't read the transcript of the clip.", "Choose another model with -m.")
            if save is not None:
                saved = _saved_voice(save, speech, reference, clip, language, license_note)
                _keep(saved, force, report, json, alone=source is None)
            if source is not None and open_one is not None:
                deliver(speech, source, wanted, reference, open_one, report, language)


def _source(
    text: list[str] | None, file: str | None, markdown: bool | None, save: str | None, wishes: OutputOptions
) -> TextInput | None:
    """The text to speak; None if the voice is only saved. Standard input is read then only if `-f -` names it."""
    if save is None or text or file is not None:
        return text_source(text, file, "clone", markdown)
    about_sound = (
        wishes.output,
        wishes.play,
        wishes.subtitles,
        wishes.file_format,
        wishes.stream,
        wishes.check.recognizer,
    )
    if any(wish not in (None, False) for wish in about_sound):
        raise UsageError("There is no text to speak.", "Give a text, -f - for standard input, or --save NAME alone.")
    return None


def _saved_voice(
    name: str,
    speech: Synthesizer,
    reference: Reference,
    clip: ReferenceClip,
    language: str | None,
    license_note: str | None,
) -> SavedVoice:
    """What is saved: the clip's codes and transcript, and where they come from."""
    from datetime import datetime, timezone

    from llasa_cli.voices.library import SavedVoice

    spoken = speech.checkpoint.metadata.get("language", [])
    return SavedVoice(
        name=name,
        text=clip.transcript,
        codes=reference.codes,
        codec=speech.codec.identity,
        language=language or (spoken[0] if isinstance(spoken, list) and len(spoken) == 1 else None),
        model=speech.name,
        revision=speech.revision,
        license=f"recording: {' '.join((license_note or 'not stated').split())}; model: {speech.checkpoint.license}",
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        sound={
            "seconds": round(clip.seconds, 2),
            "sampling_rate": clip.file_rate,
            "channels": clip.channels,
        },
        transcribed_by=clip.transcribed_by,
    )


def _keep(voice: SavedVoice, force: bool, report: Console, json: bool, alone: bool) -> None:
    """Write the voice's file and report it. The path goes to standard output if nothing is spoken."""
    from llasa_cli.voices.library import save

    path = save(voice, force)
    report.line(f"saved as {voice.name}: {len(voice.codes)} codes, {path}")
    if json:
        facts = {name: value for name, value in asdict(voice).items() if name not in ("codes", "name")}
        result(as_json({"voice": voice.name, "path": str(path), **facts}))
    elif alone:
        result(str(path))
