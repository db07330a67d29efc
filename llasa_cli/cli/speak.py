"""Speak a text into an open output: the last step of `say`, `clone` and `chat`.

plan = plan_speech(...)                                             refuses what can be refused
with open_audio_output(plan, console, voice) as audio_output:       refuses a bad output
    speak(plan, plan.load(console), reference, audio_output)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from llasa_cli.cli.audio_output import AudioOutput
from llasa_cli.cli.console import Console, as_json, result, speed
from llasa_cli.cli.progress import ProgressLine, TextTally
from llasa_cli.cli.speech_plan import SpeechPlan
from llasa_cli.cli.text_input import TextInput
from llasa_cli.errors import LlasaError
from llasa_cli.wording import format_clock, shorten

if TYPE_CHECKING:
    from llasa_cli.audio.chunk import AudioChunk
    from llasa_cli.audio.sink import Sink
    from llasa_cli.prompt import Reference
    from llasa_cli.synthesis.text_to_speech import TextToSpeech
    from llasa_cli.synthesis.utterance import ResumePoint, Utterance
    from llasa_cli.synthesis.verifiers import Verifier
    from llasa_cli.synthesis.word_times import WordTimer


def speak(plan: SpeechPlan, text_to_speech: TextToSpeech, reference: Reference | None, output: AudioOutput) -> None:
    """Speak a text into an open output and report the progress.

    The result is reported when the caller closes the output.

    Raises:
        LlasaError: When the output is closed: a chunk still fails its checks. The file is kept.
    """
    from llasa_cli.synthesis.text_to_speech import StreamSettings

    console, source = output.console, plan.source
    if plan.cast is not None:
        plan.cast.encode(text_to_speech.encode_reference)
    gate = _PlaybackGate(output.sink) if plan.is_streamed else None
    verifiers, timer = _load_judges(plan, console)
    recorder = _UtteranceRecorder(output, gate, timer)

    def warn(text: str) -> None:
        console.line(f"warning: {text}")

    console.stage("speaking")
    resume_from = _resume_point(output)
    cast = plan.cast.voices if plan.cast is not None else {}
    tally = TextTally(source.words, source.chapters, output.words, output.clock_s)
    progress = ProgressLine(console)
    chunks = text_to_speech.stream(
        _parts(source, warn),
        replace(plan.speech, seed=output.seed, markdown=source.markdown),
        reference,
        recorder.add,
        StreamSettings(warn, verifiers, gate, resume_from, cast, is_growing=source.size is None),
    )
    for chunk in chunks:
        output.sink.write(chunk)
        recorder.add_sound(chunk)
        recorder.record()
        tally.seconds += chunk.seconds
        tally.words, tally.chapters = output.words, output.chapters
        progress.show(tally)
    recorder.record()
    output.on_finished = partial(_report, output, text_to_speech, tally.seconds, tally.wall_s)


def _parts(source: TextInput, warn: Callable[[str], None]) -> Iterator[str]:
    for part in source.parts:
        while source.warnings:
            warn(source.warnings.pop(0))
        yield part


def _load_judges(plan: SpeechPlan, console: Console) -> tuple[tuple[Verifier, ...], WordTimer | None]:
    """The verifiers that this process loads, and what finds the times of words."""
    if not plan.loaded_verifiers and plan.timing is None:
        return (), None
    from llasa_cli.synthesis.verifiers import load_judges

    console.stage("loading the verifiers" if plan.loaded_verifiers else "loading the recognizer")
    found = load_judges(plan.loaded_verifiers, plan.timing)
    if plan.timing is not None and plan.timing.recognizer is None:
        console.line("note: the times of words are estimates: there is no recognizer (pip install pocketsphinx)")
    return found


class _UtteranceRecorder:
    """Records an utterance once its sound has been written."""

    def __init__(self, output: AudioOutput, gate: _PlaybackGate | None, timer: WordTimer | None) -> None:
        self._output, self._gate, self._timer = output, gate, timer
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
                self._output.resumable.commit(utterance.to_short_row())
            _report_utterance(utterance, begin, end, self._output.console)
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

    def __init__(self, sink: Sink) -> None:
        from llasa_cli.audio.stream_gate import RealTimeStreamGate

        self._sink = sink
        self._pacing = RealTimeStreamGate()
        self.watch, self.hold = self._pacing.watch, self._pacing.hold

    def add(self, utterance: Utterance) -> None:
        """Learn the speed from an utterance that was completed first."""
        self._pacing.add(utterance.seconds, utterance.wall_s / utterance.attempts)

    def wants(self, text: str) -> bool:
        from llasa_cli.text.width import SECONDS_A_CHARACTER, spoken_length

        speed = self._pacing.speed
        if speed is None:
            return True
        if not self._pacing.is_fast():
            return False
        # There must be time for a retry as well.
        return self._sink.queued_s * speed < 2 * SECONDS_A_CHARACTER * spoken_length(text)


def _resume_point(output: AudioOutput) -> ResumePoint:
    """The point at which earlier runs ended. Records their utterances in the output."""
    from llasa_cli.prompt import Reference
    from llasa_cli.synthesis.utterance import ResumePoint, Utterance

    if output.resumable is None or not output.resumable.earlier:
        return ResumePoint()
    voice = None
    for row in output.resumable.earlier:
        utterance = Utterance.from_row(row)
        output.record(utterance)
        if utterance.is_voice:
            voice = Reference(utterance.text, utterance.codes)
    count = output.resumable.count
    output.resumable.earlier.clear()
    output.console.line(f"resuming after {output.clock_s / 60:.1f} min of speech ({count} chunks)")
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


def _report(output: AudioOutput, text_to_speech: TextToSpeech, seconds: float, wall_s: float) -> None:
    """Print the closing lines, or the object of `--json`.

    Raises:
        LlasaError: A chunk still fails its checks.
    """
    options, console = output.plan.output, output.console
    path = options.output if options.output not in (None, "-") else None
    _report_retries(output)
    console.line(f"{speed(seconds, wall_s)}, seed {output.seed}{'' if path is None else f': {path}'}")
    if options.json:
        result(as_json(_summary(output, text_to_speech, wall_s)))
    if output.failed and not options.check.accept_failed:
        raise LlasaError(
            f"{output.failed} of {output.count} chunks failed the checks after the last retry"
            f"{'' if path is None else f'; {path} is kept'}.",
            "Another --seed makes other attempts; --accept-failed accepts such speech.",
        )


def _report_retries(output: AudioOutput) -> None:
    """Print the places of chunks that were generated again, for a person to listen to."""
    console = output.console
    if not output.retried:
        return
    chunks = "1 chunk was" if output.retried == 1 else f"{output.retried} chunks were"
    console.line(f"{chunks} generated again; listen at")
    for text in output.retry_lines:
        console.line(f"  {text}")
    if output.retried > len(output.retry_lines):
        console.line(f"  and {output.retried - len(output.retry_lines)} more (--verbose lists all)")


def _summary(output: AudioOutput, text_to_speech: TextToSpeech, wall_s: float) -> dict[str, Any]:
    """The object that `--json` prints."""
    model = text_to_speech.checkpoint
    made_by = {"model": model.name, "revision": model.revision}
    return {
        "path": output.plan.output.output,
        **made_by,
        "seconds": round(output.clock_s, 3),
        "wall_s": round(wall_s, 3),
        "sampling_rate": text_to_speech.sampling_rate,
        "seed": output.seed,
        "sampling": asdict(model.sampling(output.plan.speech.sampling)),
        "failed": output.failed,
        "chunks": [row | made_by for row in output.rows],
    }
