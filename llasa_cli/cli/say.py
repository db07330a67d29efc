"""`llasa say`: text to sound."""

from __future__ import annotations

from dataclasses import replace

from llasa_cli.cli.audio_output import check_paths, open_audio_output, voice_key
from llasa_cli.cli.chapters import list_chapters
from llasa_cli.cli.common_options import BookOptions, ConsoleOptions, OutputOptions, TextOptions, VoiceOptions
from llasa_cli.cli.console import Console
from llasa_cli.cli.flags import with_flags
from llasa_cli.cli.speak import load_synthesizer, speak
from llasa_cli.cli.text_input import open_text
from llasa_cli.settings import ModelOptions, SpeechOptions


@with_flags
def say(
    text: TextOptions,
    book: BookOptions,
    voice: VoiceOptions,
    console_options: ConsoleOptions,
    output: OutputOptions,
    models: ModelOptions,
    speech: SpeechOptions,
) -> None:
    """Speak text from the arguments, a file, or a pipe while it is being written."""
    if book.chapters:
        list_chapters(text.file, output.json)
        return
    source = open_text(text, "say", (book.first_chapter, book.last_chapter))
    check_paths(output, source.path)
    output.check.refuse_unused()
    from llasa_cli.checkpoint.resolve import resolve_checkpoint

    checkpoint = resolve_checkpoint(models)
    from llasa_cli.voices.resolve import resolve_voice

    chosen = resolve_voice(voice.voice, voice.speaker, checkpoint)
    speech = replace(speech, speaker=chosen.speaker)
    with (
        Console(console_options.quiet, console_options.verbose) as console,
        open_audio_output(output, source, speech, checkpoint, console, voice_key(chosen)) as audio_output,
    ):
        synthesizer = load_synthesizer(checkpoint, console, chosen.speaker)
        speak(synthesizer, source, speech, chosen.reference, audio_output, console, chosen.language)
