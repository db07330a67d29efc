"""Speak a text: the steps that `say`, `clone` and `chat` share.

    source = open_text(text_options, "say")                              refuses an empty text
    model = find_model(models, remote, check, speech, quiet)                on this machine, or a server's
    with open_audio_output(options, source, speech, model, console) as audio_output:     refuses a bad output
        synthesizer = open_synthesizer(model, console)
        speak(synthesizer, source, speech, reference, audio_output, console)

Everything that can be refused is refused before a model is loaded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from llasa_cli.batch.options import SchedulingOptions
from llasa_cli.cli.audio_output import LONG_BYTES, AudioOutput
from llasa_cli.cli.common_options import CastOptions, CheckOptions, OutputOptions, RemoteOptions, VoiceOptions
from llasa_cli.cli.console import Console, as_json, note, result, speed
from llasa_cli.cli.flags import Parsed
from llasa_cli.cli.progress import ProgressLine, TextTally
from llasa_cli.cli.text_input import TextInput
from llasa_cli.errors import LlasaError, UsageError
from llasa_cli.settings import (
    BUILT_IN_MODEL,
    CODES_PER_SECOND,
    DEFAULT_SPEAKER_ENCODER,
    NO_VERIFIERS,
    ModelOptions,
    SpeechOptions,
    VerifierOptions,
    WordTiming,
)
from llasa_cli.wording import format_clock, shorten

if TYPE_CHECKING:
    from llasa_cli.audio.chunk import AudioChunk
    from llasa_cli.audio.sink import Sink
    from llasa_cli.batch.passages import PassageSynthesizer
    from llasa_cli.checkpoint.resolve import Checkpoint
    from llasa_cli.prompt import Reference
    from llasa_cli.serve.client import RemoteSynthesizer
    from llasa_cli.synthesis.synthesizer import ResumePoint, Synthesizer, Utterance
    from llasa_cli.synthesis.verifiers import Verifier
    from llasa_cli.synthesis.word_times import WordTimer
    from llasa_cli.voices.cast import Cast
    from llasa_cli.voices.reference import ReferenceClip
    from llasa_cli.voices.resolve import ResolvedVoice

SECONDS_A_CHARACTER = 0.08
"""English is read at 0.055 to 0.09 seconds a character."""


def find_model(
    models: Parsed[ModelOptions], remote: RemoteOptions, check: CheckOptions, speech: SpeechOptions, quiet: bool
) -> Checkpoint | RemoteSynthesizer:
    """The model on this machine, or the one of the server that the options name.

    Raises:
        UsageError: An option can't be combined with a server.
        ModelError: The model is not on this machine, the server has another, or no server answers.
    """
    from llasa_cli.checkpoint.resolve import resolve_checkpoint

    if remote.server is None:
        if remote.server_or_local:
            raise UsageError("--server-or-local has no effect without --server.", "Add --server URL.")
        return resolve_checkpoint(models.build())
    from llasa_cli.serve.client import RemoteSynthesizer, ServerUnreachable

    if speech.speed != 1 or speech.lexicon:
        raise UsageError(
            "--speed and --lexicon need the model on this machine.", "Leave them out, or --server (LLASA_SERVER)."
        )
    try:
        for name in sorted(models.given - {"model"}):
            raise UsageError(f"--{name} is chosen where the server is started.", f"Leave out --{name}, or --server.")
        if speech.search is not None:
            raise UsageError(
                "--search needs the model on this machine.", "Leave out --search, or --server (LLASA_SERVER)."
            )
        if check.speaker_model != DEFAULT_SPEAKER_ENCODER:
            raise UsageError("--speaker-model is chosen where the server is started.", "Leave it out, or --server.")
        wanted = models.values["model"] if "model" in models.given else None
        return RemoteSynthesizer.connect(remote.server, remote.api_key, wanted)
    except ServerUnreachable as error:
        if not remote.server_or_local:
            raise
        if not quiet:
            note(f"warning: {error.message} The model is loaded here.")
        return resolve_checkpoint(models.build())


def find_verifiers(
    model: Checkpoint | RemoteSynthesizer, check: CheckOptions, speech: SpeechOptions, language: str | None
) -> VerifierOptions:
    """The verifiers that judge the takes on this machine; a server has its own.

    Raises:
        UsageError, ModelError: See `CheckOptions.verifiers`.
    """
    from llasa_cli.checkpoint.resolve import Checkpoint

    if isinstance(model, Checkpoint):
        return check.verifiers(speech, language)
    check.chosen(speech)
    return NO_VERIFIERS


def find_voice(model: Checkpoint | RemoteSynthesizer, options: VoiceOptions) -> ResolvedVoice:
    """The voice that `--voice` and `--speaker` mean.

    Raises:
        UsageError: See `voices.resolve.resolve_voice`.
    """
    from llasa_cli.checkpoint.resolve import Checkpoint
    from llasa_cli.voices.resolve import resolve_voice

    if isinstance(model, Checkpoint):
        return resolve_voice(options.voice, options.speaker, model)
    return model.resolve_voice(options.voice, options.speaker)


def find_cast(
    model: Checkpoint | RemoteSynthesizer, options: CastOptions, recognizer: str, device: str, quiet: bool
) -> Cast:
    """The voices of a dialogue. Their clips are checked here, and transcribed where they have no transcript.

    Raises:
        UsageError: See `voices.cast.Cast`.
    """
    from llasa_cli.checkpoint.resolve import Checkpoint
    from llasa_cli.voices.cast import Cast
    from llasa_cli.voices.reference import ReferenceTranscriber

    def line(text: str) -> None:
        if not quiet:
            note(text)

    def transcribe(clip: ReferenceClip) -> ReferenceClip:
        return ReferenceTranscriber(recognizer, None, device, on_line=line).complete(clip)

    on_server = not isinstance(model, Checkpoint)
    return Cast(options.cast, lambda voice: find_voice(model, VoiceOptions(voice=voice)), transcribe, on_server)


def open_synthesizer(
    model: Checkpoint | RemoteSynthesizer,
    console: Console,
    speaker: str | None = None,
    scheduling: SchedulingOptions | None = None,
    verifiers: VerifierOptions = NO_VERIFIERS,
) -> Synthesizer | RemoteSynthesizer | PassageSynthesizer:
    """Load the model, unless it is a server's.

    Args:
        scheduling: How several passages of the text are synthesized at once; None synthesizes one after the other.
    """
    from llasa_cli.checkpoint.resolve import Checkpoint

    if not isinstance(model, Checkpoint):
        return model
    if scheduling is None:
        return load_synthesizer(model, console, speaker)
    from llasa_cli.batch.passages import PassageSynthesizer

    loaded = load_synthesizer(model, console, speaker) if scheduling.is_local else None
    return PassageSynthesizer(model, scheduling, verifiers, loaded)


def passages_at_once(
    scheduling: SchedulingOptions,
    model: Checkpoint | RemoteSynthesizer,
    source: TextInput,
    output: OutputOptions,
    speech: SpeechOptions,
) -> SchedulingOptions | None:
    """How several passages are synthesized at once: for a book or a long text that is written to a file, or any text on request.

    Raises:
        UsageError: An option asks for it, and another one excludes it.
    """
    from llasa_cli.checkpoint.resolve import Checkpoint

    reason = ""
    if not isinstance(model, Checkpoint):
        reason = "a server decides that itself"
    elif output.output is None or output.play or _is_streaming(output, speech):
        reason = "sound that is played or streamed is spoken in order"
    elif source.size is None:
        reason = "a pipe is spoken as it grows"
    elif speech.search is not None:
        reason = "--search speaks one passage at a time"
    if scheduling.is_given:
        if reason:
            raise UsageError(
                f"--batch-size, --workers, --devices and --ray have no effect here: {reason}.",
                "Write a text or a book (-f FILE) to a file (-o FILE), or leave them out.",
            )
        return scheduling
    is_long = source.book is not None or (source.size or 0) >= LONG_BYTES
    return scheduling if is_long and not reason else None


def load_synthesizer(checkpoint: Checkpoint, console: Console, speaker: str | None = None) -> Synthesizer:
    """Load the model. An unknown speaker is refused before the weights are read."""
    import gc
    import os

    from llasa_cli.device import limit_threads
    from llasa_cli.synthesis.synthesizer import Synthesizer

    if checkpoint.name == BUILT_IN_MODEL:
        os.environ.setdefault("OMP_NUM_THREADS", "1")  # torch reads this once, when it is imported
    gc.disable()  # garbage collection takes a tenth of the import of torch and finds nothing
    try:
        synthesizer = Synthesizer.load(checkpoint, console.stage, speaker)
    finally:
        gc.freeze()
        gc.enable()
    limit_threads(synthesizer.model.is_small)
    return synthesizer


def speak(
    synthesizer: Synthesizer | RemoteSynthesizer | PassageSynthesizer,
    source: TextInput,
    speech: SpeechOptions,
    reference: Reference | None,
    audio_output: AudioOutput,
    console: Console,
    verifiers: VerifierOptions = NO_VERIFIERS,
    timing: WordTiming | None = None,
    *,
    cast: Mapping[str, ResolvedVoice] | None = None,
) -> None:
    """Speak a text into an open output and report the progress.

    The result is reported when the caller closes the output.

    Args:
        verifiers: The verifiers that judge the takes besides the checks.
        timing: How the times of words are found; None if they are not requested.
        cast: The voices of a dialogue by name. A pipe adds some while it is read.

    Raises:
        LlasaError: When the output is closed: a chunk still fails its checks. The file is kept.
    """
    from llasa_cli.serve.client import RemoteSynthesizer

    speech = replace(speech, seed=audio_output.seed, markdown=source.markdown)
    options = audio_output.options
    audio_output.best_of = speech.best_of
    gate = None
    if _is_streaming(options, speech):
        codec = getattr(synthesizer, "codec", None)
        gate = _PlaybackGate(audio_output.sink, CODES_PER_SECOND if codec is None else codec.codes_per_second)
    if verifiers:
        from llasa_cli.batch.passages import PassageSynthesizer

        if isinstance(synthesizer, PassageSynthesizer):
            verifiers = NO_VERIFIERS  # its workers load them
    judges: tuple[Verifier, ...] = ()
    timer: WordTimer | None = None
    if verifiers or timing is not None:
        from llasa_cli.synthesis.verifiers import load_judges

        console.stage("loading the verifiers" if verifiers else "loading the recognizer")
        judges, timer = load_judges(verifiers, timing)
        if timing is not None and timing.recognizer is None:
            console.line("note: the times of words are estimates: there is no recognizer (pip install pocketsphinx)")
    recorder = _UtteranceRecorder(audio_output, gate, console, timer)

    def warn(text: str) -> None:
        console.line(f"warning: {text}")

    def parts() -> Iterator[str]:
        for part in source.parts:
            while source.warnings:
                warn(source.warnings.pop(0))
            yield part

    console.stage("speaking")
    resume_from = _resume_point(audio_output, console)
    tally = TextTally(source.words, source.chapters, audio_output.words, audio_output.clock_s)
    progress = ProgressLine(console)
    request = (parts(), speech, reference, recorder.add)
    if isinstance(synthesizer, RemoteSynthesizer):
        chunks = synthesizer.stream(
            *request,
            on_note=warn,
            resume_from=resume_from,
            is_streamed=_is_streaming(options, speech),
            is_growing=source.size is None,
            judging=options.check.judging,
        )
    else:
        chunks = synthesizer.stream(
            *request, on_note=warn, resume_from=resume_from, verifiers=judges, gate=gate, cast=cast
        )
    for chunk in chunks:
        audio_output.sink.write(chunk)
        recorder.add_sound(chunk)
        recorder.record()
        tally.seconds += chunk.seconds
        tally.words, tally.chapters = audio_output.words, audio_output.chapters
        progress.show(tally)
    recorder.record()
    seconds, wall_s = tally.seconds, tally.wall_s

    def report() -> None:
        place = f": {options.output}" if options.output not in (None, "-") else ""
        _report_retries(audio_output, console)
        console.line(f"{speed(seconds, wall_s)}, seed {audio_output.seed}{place}")
        if options.json:
            result(as_json(_summary(audio_output, wall_s, speech, synthesizer)))
        if audio_output.failed and not options.check.accept_failed:
            raise _failure(audio_output)

    audio_output.on_finished = report


class _UtteranceRecorder:
    """Records an utterance once its sound has been written."""

    def __init__(
        self, audio_output: AudioOutput, gate: _PlaybackGate | None, console: Console, timer: WordTimer | None
    ) -> None:
        self._output, self._gate, self._console, self._timer = audio_output, gate, console, timer
        self._waiting: list[Utterance] = []
        self._sound: list[AudioChunk] = []

    def add_sound(self, chunk: AudioChunk) -> None:
        """Add sound that has been written. It belongs to the utterances that are recorded next."""
        if self._timer is not None:
            self._sound.append(chunk)

    def add(self, utterance: Utterance) -> None:
        """Add an utterance whose sound follows. The sound of a streamed utterance has been written."""
        self._waiting.append(utterance)
        if utterance.streamed:
            self.record()

    def record(self) -> None:
        """Record the waiting utterances: all of their sound has been written."""
        while self._waiting:
            utterance = self._with_words(self._waiting.pop(0))
            begin, end = self._output.record(utterance)
            if self._gate is not None and utterance.text and not utterance.streamed:
                self._gate.add(utterance)
            if self._output.resumable is not None:
                # Only the utterance that later ones take their voice from needs its codes.
                row = utterance.to_row()
                self._output.resumable.commit(row if utterance.is_voice else row | {"codes": []})
            _report_utterance(utterance, begin, end, self._console)
            self._output.sink.flush()

    def _with_words(self, utterance: Utterance) -> Utterance:
        """Find the times of the words in the sound since the last utterance, which ends with the speech of this one."""
        sound, self._sound = self._sound, []
        if self._timer is None or not utterance.text or not sound:
            return utterance
        import numpy as np

        rate = sound[0].sampling_rate
        samples = np.concatenate([chunk.samples for chunk in sound])
        samples = samples[-max(1, round(utterance.seconds * rate)) :]
        return replace(utterance, words=self._timer.times(utterance.sentences, utterance.text, samples, rate))


class _PlaybackGate:
    """Decides whether a chunk is streamed while it is generated, or there is time to complete and check it first."""

    def __init__(self, sink: Sink, codes_per_second: float) -> None:
        from llasa_cli.audio.stream_gate import RealTimeStreamGate

        self._sink = sink
        self._pacing = RealTimeStreamGate(codes_per_second=codes_per_second)
        self.watch, self.hold = self._pacing.watch, self._pacing.hold

    def add(self, utterance: Utterance) -> None:
        """Learn the speed from an utterance that was completed first."""
        self._pacing.add(utterance.seconds, utterance.wall_s / utterance.attempts)

    def wants(self, text: str) -> bool:
        from llasa_cli.text.width import spoken_length

        speed = self._pacing.speed
        if speed is None:
            return True
        if not self._pacing.is_fast():
            return False
        # There must be time for a retry as well.
        return self._sink.queued_s * speed < 2 * SECONDS_A_CHARACTER * spoken_length(text)


def _is_streaming(options: OutputOptions, speech: SpeechOptions) -> bool:
    """Whether sound is put out before its chunk is complete: by default if it is played."""
    if options.check.verify or speech.best_of > 1:
        return False
    plays = options.play if options.play is not None else options.output is None
    return plays if options.stream is None else options.stream


def _resume_point(audio_output: AudioOutput, console: Console) -> ResumePoint:
    """The point at which earlier runs ended. Records their utterances in the output."""
    from llasa_cli.prompt import Reference
    from llasa_cli.synthesis.utterance import ResumePoint, Utterance

    if audio_output.resumable is None or not audio_output.resumable.earlier:
        return ResumePoint()
    voice = None
    for row in audio_output.resumable.earlier:
        utterance = Utterance.from_row(row)
        audio_output.record(utterance)
        if utterance.is_voice:
            voice = Reference(utterance.text, utterance.codes)
    count = audio_output.resumable.count
    audio_output.resumable.earlier.clear()
    console.line(f"resuming after {audio_output.clock_s / 60:.1f} min of speech ({count} chunks)")
    return ResumePoint(count, voice)


# --- reports ---


def _report_utterance(utterance: Utterance, begin: float, end: float, console: Console) -> None:
    """Print a line for an utterance that still fails its checks; with --verbose, one for each."""
    if not utterance.text:
        return
    where = f"{format_clock(begin)} to {format_clock(end)} ({shorten(utterance.text)})"
    if utterance.problems:
        attempts = f"{utterance.attempts} attempt{'' if utterance.attempts == 1 else 's'}"
        console.line(f"warning: {where}: {'; '.join(utterance.problems)}; {attempts}")
    retried = f", retried after: {'; '.join(utterance.retried)}" if utterance.retried else ""
    console.detail(f"{where}: {speed(utterance.seconds, utterance.wall_s)}, seed {utterance.seed}{retried}")
    for take in utterance.candidates if len(utterance.candidates) > 1 else ():
        scores = ", ".join(f"{name} {value:.3f}" for name, value in take["scores"].items())
        found = "; ".join(filter(None, [scores, *take["problems"], "dropped" if take["dropped"] else ""]))
        chosen = f"; chosen: {utterance.chosen_because}" if take["chosen"] else ""
        console.detail(f"  seed {take['seed']}, {take['seconds']:.1f} s: {found}{chosen}")


def _report_retries(audio_output: AudioOutput, console: Console) -> None:
    """Print the places of chunks that were generated again, for a person to listen to."""
    if not audio_output.retried:
        return
    chunks = "1 chunk was" if audio_output.retried == 1 else f"{audio_output.retried} chunks were"
    console.line(f"{chunks} generated again; listen at")
    for text in audio_output.retry_lines:
        console.line(f"  {text}")
    if audio_output.retried > len(audio_output.retry_lines):
        console.line(f"  and {audio_output.retried - len(audio_output.retry_lines)} more (--verbose lists all)")


def _failure(audio_output: AudioOutput) -> LlasaError:
    chunks = f"{audio_output.failed} of {audio_output.count} chunks"
    kept = f"; {audio_output.options.output} is kept" if audio_output.options.output not in (None, "-") else ""
    return LlasaError(
        f"{chunks} failed the checks after the last retry{kept}.",
        "Another --seed makes other attempts; --accept-failed accepts such speech.",
    )


def _summary(
    audio_output: AudioOutput,
    wall_s: float,
    speech: SpeechOptions,
    synthesizer: Synthesizer | RemoteSynthesizer | PassageSynthesizer,
) -> dict[str, Any]:
    """The object that `--json` prints."""
    made_by = {"model": synthesizer.name, "revision": synthesizer.revision}
    return {
        "path": audio_output.options.output,
        **made_by,
        "seconds": round(audio_output.clock_s, 3),
        "wall_s": round(wall_s, 3),
        "sampling_rate": synthesizer.sampling_rate,
        "seed": audio_output.seed,
        "sampling": asdict(synthesizer.checkpoint.sampling(speech.sampling)),
        "failed": audio_output.failed,
        "chunks": [row | made_by for row in audio_output.rows],
    }
