"""`llasa say`: text to sound."""

from __future__ import annotations

from dataclasses import replace

from llasa_cli.cli import flags
from llasa_cli.cli.audio_output import OutputOptions, check_places, open_audio_output
from llasa_cli.cli.console import Console
from llasa_cli.cli.speak import deliver, load_speech
from llasa_cli.cli.text_input import text_source
from llasa_cli.cli.voices import chosen_voice
from llasa_cli.errors import UsageError


def say(
    text: flags.Text = None,
    file: flags.File = None,
    markdown: flags.Markdown = None,
    output: flags.Output = None,
    voice: flags.Voice = None,
    speaker: flags.Speaker = None,
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
    quiet: flags.Quiet = False,
    verbose: flags.Verbose = False,
    json: flags.Json = False,
) -> None:
    """Speak text: from the arguments, a file, or a pipe (as it is written)."""
    wanted = flags.speech_options(
        temperature, top_p, top_k, min_p, repetition_penalty, guidance, max_seconds, seed, None, retries
    )
    models = flags.model_options(model, codec, device, dtype, adapter, attention)
    source = text_source(text, file, "say", markdown)
    chosen = chosen_voice(voice, speaker, models)
    wanted = replace(wanted, speaker=chosen.speaker)
    wishes = OutputOptions(output, file_format, play, subtitles, resume, stream, json, asr if verify else None)
    check_places(wishes, source.path)
    if asr != flags.DEFAULT_RECOGNISER and not verify:
        raise UsageError("--asr is given without --verify: nobody listens.", "Add --verify.")
    with (
        Console(quiet, verbose) as report,
        open_audio_output(wishes, source, wanted, models, report, repr(chosen)) as outlet,
    ):
        speech = load_speech(models, report, chosen.speaker)
        deliver(speech, source, wanted, chosen.reference, outlet, report, chosen.language)
