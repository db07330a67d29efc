"""`llasa clone`: text in the voice of a clip."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from llasa_cli.commands import options as flags
from llasa_cli.commands.delivery import Wishes, deliver, load_speech, open_outlet, text_source
from llasa_cli.commands.report import Report

if TYPE_CHECKING:
    from llasa_cli.audio.reference import Clip


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
    """Speak text in the voice of a reference clip whose words are known."""
    wanted = flags.speech_options(
        temperature, top_p, top_k, min_p, repetition_penalty, max_seconds, seed, None, retries
    )
    models = flags.model_options(model, codec, device, dtype)
    source = text_source(text, file, "clone", markdown)
    wishes = Wishes(output, file_format, play, subtitles, resume, stream, json)
    clip = read_reference(ref, ref_text)
    voice = hashlib.sha256(clip.samples.tobytes()).hexdigest() + (ref_text or "")
    with Report(quiet, verbose) as report, open_outlet(wishes, source, wanted, models, report, voice) as outlet:
        for warning in clip.warnings:
            report.line(f"warning: {warning}")
        speech = load_speech(models, report)
        report.stage("encoding the reference clip")
        reference = speech.encode_reference(clip.samples, ref_text or "")
        deliver(speech, source, wanted, reference, outlet, report)


def read_reference(path: Path, transcript: str | None) -> Clip:
    """Read and check a clip, before any model is loaded."""
    from llasa_cli.audio.read import read_clip
    from llasa_cli.audio.reference import check_reference

    return check_reference(read_clip(path), 16_000, transcript or "")
