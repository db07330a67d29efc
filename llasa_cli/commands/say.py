"""`llasa say`: text to sound."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llasa_cli.commands import options as flags
from llasa_cli.commands.report import Report, as_json, claim_stdout, result, speed
from llasa_cli.errors import UsageError
from llasa_cli.settings import ModelOptions, SpeechOptions

if TYPE_CHECKING:
    from llasa_cli.audio.sinks import Sink
    from llasa_cli.protocol import Reference
    from llasa_cli.speech import Speech, Take


WRITER_PAUSE_S = 0.1
"""A line that stands alone for so long was meant to be spoken, even if no mark ends it."""


def say(
    text: flags.Text = None,
    file: flags.File = None,
    output: flags.Output = None,
    voice: flags.Voice = None,
    play: flags.Play = None,
    file_format: flags.Format = None,
    model: flags.Model = flags.DEFAULT_MODEL,
    codec: flags.Codec = None,
    device: flags.Device = "auto",
    dtype: flags.Dtype = "auto",
    seed: flags.Seed = None,
    temperature: flags.Temperature = None,
    top_p: flags.TopP = None,
    top_k: flags.TopK = None,
    min_p: flags.MinP = None,
    repetition_penalty: flags.RepetitionPenalty = None,
    max_seconds: flags.MaxSeconds = None,
    retries: flags.Retries = flags.DEFAULT_RETRIES,
    quiet: flags.Quiet = False,
    verbose: flags.Verbose = False,
    json: flags.Json = False,
) -> None:
    """Speak text: from the arguments, a file, or a pipe (as it is written)."""
    wanted = flags.speech_options(
        temperature, top_p, top_k, min_p, repetition_penalty, max_seconds, seed, voice, retries
    )
    parts = text_parts(text, file, "say")
    with Report(quiet, verbose) as report, open_output(output, file_format, play, json) as sink:
        speech = load_speech(flags.model_options(model, codec, device, dtype), report, voice)
        deliver(speech, parts, wanted, None, sink, report, output, json)


def text_parts(text: list[str] | None, file: str | None, command: str) -> Iterable[str]:
    """The text, or its parts as they arrive on standard input.

    Raises:
        UsageError: No text, two texts, an empty one, or a file that can't be read.
    """
    if text and file:
        raise UsageError("There is text in the arguments and a file as well.", "Give one of them.")
    if text and text != ["-"]:
        return [_not_empty(" ".join(text), "The text")]
    if file is not None and file != "-":
        try:
            return [_not_empty(Path(file).read_text(encoding="utf-8-sig"), file)]
        except UnicodeDecodeError as error:
            raise UsageError(f"{file} is not UTF-8 text.", "Convert it first: iconv -t utf-8.") from error
        except OSError as error:
            raise UsageError(f"{file} can't be read: {error.strerror}.") from error
    if sys.stdin is None or (sys.stdin.isatty() and file is None and text is None):
        raise UsageError(
            "There is no text.",
            f'llasa {command} "Good evening." -o evening.wav\n       llasa {command} -f chapter.txt',
        )
    return _piped()


def _piped() -> Iterator[str]:
    """Standard input, sentence by sentence; refused before anything is loaded when it is empty."""
    from llasa_cli.text.stream import sentences_of

    pipe = sys.stdin.buffer
    read = pipe.read1 if hasattr(pipe, "read1") else pipe.read
    parts = sentences_of(read, _is_more_waiting)
    first = next(parts, None)
    if first is None:
        raise UsageError("The text is empty.", "Give it words.")

    def all_parts() -> Iterator[str]:
        yield first
        yield from parts

    return all_parts()


def _is_more_waiting() -> bool:
    """Whether standard input goes on at once; a moment is allowed for a writer that writes in pieces."""
    import select

    try:
        return bool(select.select([sys.stdin.buffer], [], [], WRITER_PAUSE_S)[0])
    except (OSError, ValueError):
        return False  # Windows can't ask a pipe; a test's stream has no descriptor


def _not_empty(text: str, name: str) -> str:
    if not text.strip():
        raise UsageError(f"{name} is empty.", "Give it words.")
    if not any(character.isalnum() for character in text):
        raise UsageError(f"{name} has nothing to say in it.", "Give it words.")
    return text


def open_output(output: str | None, file_format: str | None, play: bool | None, json: bool) -> Sink:
    """The sink for the flags; refusals come before a model is loaded."""
    from llasa_cli.audio.sinks import is_standard_output, open_sink

    if json and is_standard_output(output):
        raise UsageError("Audio and JSON can't both go to standard output.", "Name a file with -o.")
    if output is None and play is False:
        raise UsageError("--no-play without -o makes nothing.", "Name a file with -o.")
    stdout = claim_stdout()
    return open_sink(output, file_format, play if play is not None else output is None, stdout)


def load_speech(options: ModelOptions, report: Report, speaker: str | None = None) -> Speech:
    """Load the model; `speaker` is refused before its weights are read."""
    import os

    from llasa_cli.speech import Speech

    speech = Speech.load(options, report.stage, speaker)
    if speech.model.is_small and "OMP_NUM_THREADS" not in os.environ:
        import torch

        # Its steps take microseconds: threads wait for each other longer than they work, the more so on a busy machine.
        torch.set_num_threads(1)
    return speech


def deliver(
    speech: Speech,
    parts: Iterable[str],
    wanted: SpeechOptions,
    reference: Reference | None,
    sink: Sink,
    report: Report,
    output: str | None,
    json: bool,
) -> list[Take]:
    """Speak the parts into the sink, telling how it goes; the sink is closed by its owner."""
    import secrets
    import time

    from llasa_cli.speech import LARGEST_SEED

    wanted = wanted if wanted.seed is not None else replace(wanted, seed=secrets.randbelow(LARGEST_SEED))
    takes: list[Take] = []
    began = time.monotonic()
    seconds = 0.0

    def on_take(take: Take) -> None:
        takes.append(take)
        tell_take(take, len(takes), report)

    report.stage("speaking")
    for chunk in speech.say(parts, wanted, reference, on_take):
        sink.write(chunk)
        seconds += chunk.seconds
        report.progress(speed(seconds, time.monotonic() - began))
    wall_s = time.monotonic() - began
    report.line(f"{speed(seconds, wall_s)}, seed {wanted.seed}" + (f": {output}" if output not in (None, "-") else ""))
    if json:
        result(as_json(summary(takes, seconds, wall_s, wanted, speech, output)))
    return takes


def tell_take(take: Take, number: int, report: Report) -> None:
    """A line for a take that is still wrong; with --verbose one for each."""
    if take.problems:
        report.line(f"warning: chunk {number} ({shorten(take.text)}): {'; '.join(take.problems)}; {take.tries} tries")
    again = f", again after: {'; '.join(take.retried)}" if take.retried else ""
    report.detail(f"chunk {number}: {shorten(take.text)}: {speed(take.seconds, take.wall_s)}, seed {take.seed}{again}")


def shorten(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:37] + "...")


def summary(
    takes: list[Take], seconds: float, wall_s: float, wanted: SpeechOptions, speech: Speech, output: str | None
) -> dict[str, Any]:
    """What `--json` prints."""
    chunks = [{k: v for k, v in asdict(take).items() if k != "codes"} for take in takes]
    return {
        "path": output,
        "model": speech.name,
        "revision": speech.revision,
        "seconds": round(seconds, 3),
        "wall_s": round(wall_s, 3),
        "sampling_rate": speech.sampling_rate,
        "seed": wanted.seed,
        "sampling": asdict(speech.sampling(wanted.sampling)),
        "chunks": chunks,
    }
