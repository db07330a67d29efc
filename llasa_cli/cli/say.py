"""`llasa say`: text to sound."""

from __future__ import annotations

from dataclasses import replace

from llasa_cli.batch.options import SchedulingOptions
from llasa_cli.cli.audio_output import check_paths, open_audio_output, voice_key
from llasa_cli.cli.chapters import list_chapters
from llasa_cli.cli.common_options import (
    BookOptions,
    CastOptions,
    ConsoleOptions,
    LexiconOptions,
    OutputOptions,
    RemoteOptions,
    TextOptions,
    VoiceOptions,
)
from llasa_cli.cli.console import Console
from llasa_cli.cli.flags import Parsed, with_flags
from llasa_cli.cli.speak import (
    find_cast,
    find_model,
    find_verifiers,
    find_voice,
    open_synthesizer,
    passages_at_once,
    speak,
)
from llasa_cli.cli.text_input import open_text
from llasa_cli.settings import ModelOptions, SpeechOptions


@with_flags
def say(
    text: TextOptions,
    book: BookOptions,
    voice: VoiceOptions,
    cast_options: CastOptions,
    lexicon: LexiconOptions,
    console_options: ConsoleOptions,
    output: OutputOptions,
    models: Parsed[ModelOptions],
    speech: SpeechOptions,
    remote: RemoteOptions,
    scheduling: SchedulingOptions,
) -> None:
    """Speak text from the arguments, a file, or a pipe while it is being written."""
    if book.chapters:
        list_chapters(text.file, output.json)
        return
    source = open_text(text, "say", (book.first_chapter, book.last_chapter))
    check_paths(output, source.path)
    if not cast_options.cast:
        output.check.refuse_unused(speech, output.needs_words)
    speech = replace(speech, lexicon=lexicon.words())
    model = find_model(models, remote, output.check, speech, console_options.quiet)
    chosen = find_voice(model, voice)
    cast = find_cast(model, cast_options, output.check.asr, models.values["device"], console_options.quiet)
    source = source.with_voices(cast.find, cast.names)
    from llasa_cli.checkpoint.metadata import only_language

    speech = replace(speech, speaker=chosen.speaker)
    verifiers = find_verifiers(model, output.check, speech, chosen.language)
    timing = output.check.timing(output.needs_words, chosen.language or only_language(model.metadata))
    if verifiers:
        from llasa_cli.synthesis.verifiers import refuse_without_reference

        refuse_without_reference(verifiers, chosen.reference is not None)
    at_once = passages_at_once(scheduling, model, source, output, speech)
    with (
        Console(console_options.quiet, console_options.verbose) as console,
        open_audio_output(
            output, source, speech, model, console, voice_key(chosen) + cast.key, verifiers, timing
        ) as audio_output,
    ):
        synthesizer = open_synthesizer(model, console, chosen.speaker, at_once, verifiers)
        cast.encode(synthesizer.encode_reference)
        speak(synthesizer, source, speech, chosen.reference, audio_output, console, verifiers, timing, cast=cast.voices)
