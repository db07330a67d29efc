"""`llasa say`: text to sound."""

from __future__ import annotations

from llasa_cli.cli.audio_output import check_paths, open_audio_output, voice_key
from llasa_cli.cli.chapters import list_chapters
from llasa_cli.cli.common_options import SpeakOptions, TextOptions, VoiceOptions
from llasa_cli.cli.console import Console
from llasa_cli.cli.flags import with_flags
from llasa_cli.cli.model import find_model
from llasa_cli.cli.speak import speak
from llasa_cli.cli.speech_plan import plan_speech
from llasa_cli.cli.text_input import open_text
from llasa_cli.errors import UsageError


@with_flags
def say(text: TextOptions, voice: VoiceOptions, options: SpeakOptions) -> None:
    """Speak text from the arguments, a file, or a pipe while it is being written."""
    if text.book.chapters:
        list_chapters(text.file, options.output.json)
        return
    source = open_text(text, "say")
    check_paths(options.output, source.path)
    options.refuse_unused_recognizer()
    model = find_model(options)
    chosen = model.find_voice(voice)
    plan = plan_speech(options, model, source, chosen)
    if plan.verifiers.likeness is not None and chosen.reference is None:
        raise UsageError(
            "--choose-by likeness compares with a reference clip, and this voice has none.",
            "Use clone, or a saved voice with --voice.",
        )
    with (
        Console(options.console.quiet, options.console.verbose) as console,
        open_audio_output(plan, console, voice_key(chosen)) as audio_output,
    ):
        speak(plan, plan.load(console), chosen.reference, audio_output)
