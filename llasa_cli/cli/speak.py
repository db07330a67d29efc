"""From a text to its sound: what `say` and `clone` do after their flags.

    source = text_source(arguments, file, "say", markdown)             refused here when there is nothing to say
    with open_audio_output(wishes, source, wanted, checkpoint, report) as outlet:  refused here when it can't go there
        speech = load_speech(...)
        deliver(speech, source, wanted, reference, outlet, report)

All that can be refused is refused before a model is loaded.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from llasa_cli.cli.audio_output import AudioOutput
from llasa_cli.cli.common_options import OutputOptions
from llasa_cli.cli.console import Console, as_json, result, speed
from llasa_cli.cli.text_input import TextInput
from llasa_cli.settings import BUILT_IN_MODEL, SpeechOptions
from llasa_cli.wording import shorten

if TYPE_CHECKING:
    import numpy as np

    from llasa_cli.audio.sink import Sink
    from llasa_cli.checkpoint.resolve import Checkpoint
    from llasa_cli.prompt import Reference
    from llasa_cli.synthesis.synthesizer import Synthesizer, Utterance

SECONDS_A_CHARACTER = 0.08
"""English is read at 0.055 to 0.09."""


def load_speech(checkpoint: Checkpoint, report: Console, speaker: str | None = None) -> Synthesizer:
    """Load the model; `speaker` is refused before its weights are read."""
    import gc
    import os

    from llasa_cli.synthesis.synthesizer import Synthesizer

    if checkpoint.name == BUILT_IN_MODEL:
        os.environ.setdefault("OMP_NUM_THREADS", "1")  # as below, but in time for loading: torch reads it once
    gc.disable()  # what modules make stays: looking through it again and again is a tenth of importing torch
    try:
        speech = Synthesizer.load(checkpoint, report.stage, speaker)
    finally:
        gc.freeze()
        gc.enable()
    if speech.model.is_small and "OMP_NUM_THREADS" not in os.environ:
        import torch

        # Its steps take microseconds: threads wait for each other longer than they work, the more so on a busy machine.
        torch.set_num_threads(1)
    return speech


def deliver(
    speech: Synthesizer,
    source: TextInput,
    wanted: SpeechOptions,
    reference: Reference | None,
    outlet: AudioOutput,
    report: Console,
    language: str | None = None,
) -> None:
    """Speak the source into the outlet, telling how it goes; the outlet is closed by its owner.

    Args:
        language: Of the text, for the recogniser; None leaves it to it.
    """
    wanted = replace(wanted, seed=outlet.seed, markdown=source.markdown)
    decided: list[Utterance] = []
    began = time.monotonic()
    seconds = 0.0

    live = _Listening(outlet.sink) if _is_live(outlet.wishes) else None

    def on_take(take: Utterance) -> None:
        decided.append(take)
        if take.streamed:
            settle()  # its sound has been written

    def settle() -> None:
        """The takes whose sound has all been written."""
        while decided:
            take = decided.pop(0)
            outlet.write_down(take)
            if live is not None and take.text and not take.streamed:
                live.made(take)
            if outlet.resumable is not None:
                outlet.resumable.commit(_remembered(take))
            tell_take(take, outlet.count, report)
            outlet.sink.flush()

    def note(text: str) -> None:
        report.line(f"warning: {text}")

    check = None
    if outlet.wishes.check.recognizer is not None:
        report.stage("loading the recogniser")
        check = _word_check(outlet.wishes.check.recognizer, speech, language)
    report.stage("speaking")
    after = _taken_up(outlet, report)
    already_s = outlet.clock_s
    chunks = speech.stream(
        source.parts, wanted, reference, on_take, on_note=note, check=check, gate=live, resume_from=after
    )
    for chunk in chunks:
        outlet.sink.write(chunk)
        settle()
        seconds += chunk.seconds
        report.progress(speed(seconds, time.monotonic() - began) + (f", {already_s:.0f} s before" if already_s else ""))
    settle()
    wall_s = time.monotonic() - began
    output = outlet.wishes.output

    def tell() -> None:
        place = f": {output}" if output not in (None, "-") else ""
        report.line(f"{speed(seconds, wall_s)}, seed {outlet.seed}{place}")
        if outlet.wishes.json:
            result(as_json(summary(outlet, wall_s, wanted, speech)))

    outlet.when_finished = tell


def _word_check(
    listener: str, speech: Synthesizer, language: str | None
) -> Callable[[str, np.ndarray], tuple[str, ...]]:
    from llasa_cli.asr import load_recognizer
    from llasa_cli.text.word_check import word_problems

    loaded = load_recognizer(listener)
    return lambda text, samples: word_problems(text, loaded.transcribe(samples, speech.sampling_rate, language))


def _is_live(wishes: OutputOptions) -> bool:
    """What is only written gains nothing from being cut into windows."""
    if wishes.check.recognizer is not None:
        return False
    plays = wishes.play if wishes.play is not None else wishes.output is None
    return plays if wishes.stream is None else wishes.stream


class _Listening:
    """When whoever plays the sound needs it at once, and when there is time to make a passage whole and check it."""

    def __init__(self, sink: Sink) -> None:
        from llasa_cli.audio.stream_gate import RealTimeStreamGate

        self._sink = sink
        self._pacing = RealTimeStreamGate()
        self.watch, self.hold = self._pacing.watch, self._pacing.hold

    def made(self, take: Utterance) -> None:
        """A passage that was made whole tells a speed too."""
        self._pacing.add(take.seconds, take.wall_s / take.attempts)

    def wants(self, text: str) -> bool:
        from llasa_cli.text.width import spoken_length

        speed = self._pacing.speed
        if speed is None:
            return True
        if not self._pacing.is_fast():
            return False
        # A second try must fit in as well.
        return self._sink.queued_s * speed < 2 * SECONDS_A_CHARACTER * spoken_length(text)


def _remembered(take: Utterance) -> dict[str, Any]:
    """A take as a long text's folder keeps it. The codes only of the one that the others are to sound like."""
    row = take.to_row()
    if not take.is_voice:
        row["codes"] = []
    return row


def _taken_up(outlet: AudioOutput, report: Console) -> Any:
    """Count in what earlier runs have said."""
    from llasa_cli.prompt import Reference
    from llasa_cli.synthesis.synthesizer import ResumePoint, Utterance

    if outlet.resumable is None or not outlet.resumable.earlier:
        return ResumePoint()
    voice = None
    for row in outlet.resumable.earlier:
        take = Utterance.from_row(row)
        outlet.write_down(take)
        if take.is_voice:
            voice = Reference(take.text, take.codes)
    count = outlet.resumable.count
    outlet.resumable.earlier.clear()
    report.line(f"going on after {outlet.clock_s / 60:.1f} min of speech ({count} passages)")
    return ResumePoint(count, voice)


def tell_take(take: Utterance, number: int, report: Console) -> None:
    """A line for a take that is still wrong; with --verbose one for each."""
    if not take.text:
        return
    if take.problems:
        report.line(
            f"warning: chunk {number} ({shorten(take.text)}): {'; '.join(take.problems)}; {take.attempts} tries"
        )
    again = f", again after: {'; '.join(take.retried)}" if take.retried else ""
    report.detail(f"chunk {number}: {shorten(take.text)}: {speed(take.seconds, take.wall_s)}, seed {take.seed}{again}")


def summary(outlet: AudioOutput, wall_s: float, wanted: SpeechOptions, speech: Synthesizer) -> dict[str, Any]:
    """What `--json` prints."""
    made_by = {"model": speech.name, "revision": speech.revision}
    return {
        "path": outlet.wishes.output,
        **made_by,
        "seconds": round(outlet.clock_s, 3),
        "wall_s": round(wall_s, 3),
        "sampling_rate": speech.sampling_rate,
        "seed": outlet.seed,
        "sampling": asdict(speech.sampling(wanted.sampling)),
        "chunks": [row | made_by for row in outlet.rows],
    }
