"""`llasa clone`: text in the voice of a clip."""

from __future__ import annotations

import hashlib
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from llasa_cli.cli import flags
from llasa_cli.cli.audio_output import check_places, open_audio_output
from llasa_cli.cli.common_options import CheckOptions, OutputOptions
from llasa_cli.cli.console import Console, as_json, claim_stdout, result
from llasa_cli.cli.speak import deliver, load_speech
from llasa_cli.cli.text_input import TextInput, text_source
from llasa_cli.errors import AudioError, ModelError, UsageError

if TYPE_CHECKING:
    from llasa_cli.asr import Recognizer
    from llasa_cli.audio.reader import Recording
    from llasa_cli.prompt import Reference
    from llasa_cli.synthesis.synthesizer import Synthesizer
    from llasa_cli.voices.library import SavedVoice
    from llasa_cli.voices.reference import Clip


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
        raise UsageError("--asr is given beside --ref-text: nobody listens.", "Leave one of them out, or add --verify.")
    if save is not None:
        from llasa_cli.voices.library import check_free

        check_free(save, force)
    elif force or license_note is not None:
        raise UsageError("--force and --license are for a voice that is saved.", "Add --save NAME.")
    source = _source(text, file, markdown, save, wishes)
    check_places(wishes, ref, source.path if source is not None else None)
    from llasa_cli.checkpoint.resolve import resolve_checkpoint

    with Console(quiet, verbose) as report:
        heard = hear_reference(ref, ref_text, ReferenceTranscriber(asr, language, device, report))
        for warning in heard.clip.warnings:
            report.line(f"warning: {warning}")
        checkpoint = resolve_checkpoint(models)
        voice = hashlib.sha256(heard.clip.samples.tobytes()).hexdigest() + heard.clip.transcript
        outlet = (
            open_audio_output(wishes, source, wanted, checkpoint, report, voice)
            if source is not None
            else nullcontext()
        )
        with outlet as open_one:
            speech = load_speech(checkpoint, report)
            report.stage("encoding the reference clip")
            reference = speech.encode_reference(heard.clip.samples, heard.clip.transcript)
            if not reference.text:
                raise UsageError("This model reads no letter of the clip's transcript.", "Name another with -m.")
            if save is not None:
                saved = _saved_voice(save, speech, reference, heard, language, license_note)
                _keep(saved, force, report, json, alone=source is None)
            if source is not None and open_one is not None:
                deliver(speech, source, wanted, reference, open_one, report, language)


def _source(
    text: list[str] | None, file: str | None, markdown: bool | None, save: str | None, wishes: OutputOptions
) -> TextInput | None:
    """The text; None where a voice is only to be saved. Standard input is read then only if it is named."""
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
        raise UsageError("There is no text to speak.", "Give it, - for standard input, or only --save NAME.")
    return None


# --- the reference clip ---


@dataclass(frozen=True)
class ReferenceClip:
    """A clip that can be used, and what is known of it.

    Attributes:
        clip: With its transcript.
        recording: The file it came from.
        heard_by: The recogniser that wrote the transcript; None if it was given.
    """

    clip: Clip
    recording: Recording
    heard_by: str | None


class ReferenceTranscriber:
    """Hears clips whose words nobody gave. Its recogniser is loaded when the first of them needs it.

    Args:
        name: See `asr.load_recognizer`.
        language: Such as "en"; None leaves it to the recogniser.
    """

    def __init__(self, name: str, language: str | None, device: str, report: Console) -> None:
        self.name, self._language, self._device = name, language, device
        self._report = report
        self._listener: Recognizer | None = None

    def check(self) -> None:
        """Refuse a recogniser that is not here."""
        from llasa_cli.asr import check_recognizer

        try:
            check_recognizer(self.name)
        except ModelError as error:
            raise ModelError(error.message, f"{error.hint}\n       Or say what the clip says: --ref-text.") from error

    def hear(self, clip: Clip) -> str:
        """What is said in a clip.

        Raises:
            AudioError: Nothing that could be understood.
            ModelError: The recogniser is not here.
        """
        from llasa_cli.asr import load_recognizer

        if self._listener is None:
            self._report.stage(f"loading {self.name}")
            self._listener = load_recognizer(self.name, self._device)
        self._report.stage("listening to the reference clip")
        text = self._listener.hear(clip.samples, clip.sampling_rate, self._language)
        if not any(character.isalnum() for character in text):
            raise AudioError(f"{self.name} understood no word in the reference clip.", "Give them with --ref-text.")
        self._report.line(f"heard by {self.name}: {text}")
        return text


def hear_reference(path: Path, transcript: str | None, hearing: ReferenceTranscriber) -> ReferenceClip:
    """Read a clip and check it, before any big model is loaded; without a transcript it is heard.

    Raises:
        AudioError: The clip can't be used.
        UsageError: The transcript can't be of this clip.
        ModelError: There is no transcript, and the recogniser is not here.
    """
    from llasa_cli.audio.reader import read_recording
    from llasa_cli.text.sentences import split_sentences
    from llasa_cli.voices.reference import LONGEST_FILE_S, check_rate, check_sound, check_transcript, cut_at_pause

    if transcript is not None and not transcript.strip():
        raise UsageError("--ref-text is empty.", "Leave it out to have the clip heard with --asr.")
    recording = read_recording(path, longest_s=LONGEST_FILE_S)
    warnings = check_rate(recording.file_rate)
    sound = check_sound(recording.samples, 16_000)
    sound = replace(sound, warnings=(*warnings, *sound.warnings))
    if transcript is not None:
        return ReferenceClip(check_transcript(sound, transcript, split_sentences), recording, None)
    sound = cut_at_pause(sound)
    hearing.check()
    text = hearing.hear(sound)
    try:
        return ReferenceClip(check_transcript(sound, text), recording, hearing.name)
    except UsageError as error:
        raise AudioError(
            f"What {hearing.name} heard can't be all that is said in {sound.speech_s:.1f} s.",
            "Give it with --ref-text.",
        ) from error


# --- the saved voice ---


def _saved_voice(
    name: str,
    speech: Synthesizer,
    reference: Reference,
    heard: ReferenceClip,
    language: str | None,
    license_note: str | None,
) -> SavedVoice:
    from datetime import datetime, timezone

    from llasa_cli.voices.library import SavedVoice

    spoken = speech.checkpoint.metadata.get("language", [])
    return SavedVoice(
        name=name,
        text=heard.clip.transcript,
        codes=reference.codes,
        codec=speech.codec.identity,
        language=language or (spoken[0] if isinstance(spoken, list) and len(spoken) == 1 else None),
        model=speech.name,
        revision=speech.revision,
        license=f"recording: {' '.join((license_note or 'not stated').split())}; model: {speech.checkpoint.license}",
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        sound={
            "seconds": round(heard.clip.seconds, 2),
            "sampling_rate": heard.recording.file_rate,
            "channels": heard.recording.channels,
        },
        transcribed_by=heard.heard_by,
    )


def _keep(voice: SavedVoice, force: bool, report: Console, json: bool, alone: bool) -> None:
    """Write the file and say so; its path is the result where nothing is spoken."""
    from llasa_cli.voices.library import save

    path = save(voice, force)
    report.line(f"saved as {voice.name}: {len(voice.codes)} codes, {path}")
    if json:
        facts = {name: value for name, value in asdict(voice).items() if name not in ("codes", "name")}
        result(as_json({"voice": voice.name, "path": str(path), **facts}))
    elif alone:
        result(str(path))
