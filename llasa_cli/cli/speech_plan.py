"""The decisions about the speech of a text before a model is loaded.

plan = plan_speech(options, find_model(options), open_text(text, "say"), ResolvedVoice(speaker="kore"))
text_to_speech = plan.load(console)
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from llasa_cli.batch.options import SchedulingOptions
from llasa_cli.cli.common_options import OutputOptions, SpeakOptions, VoiceOptions
from llasa_cli.cli.console import Console, note
from llasa_cli.cli.model import Model
from llasa_cli.cli.text_input import TextInput
from llasa_cli.errors import UsageError
from llasa_cli.settings import NO_VERIFIERS, SpeechOptions, VerifierOptions, WordTiming

if TYPE_CHECKING:
    from llasa_cli.synthesis.text_to_speech import TextToSpeech
    from llasa_cli.voices.cast import Cast
    from llasa_cli.voices.reference import ReferenceClip
    from llasa_cli.voices.resolve import ResolvedVoice

LONG_BYTES = 20_000
"""The size, about twenty minutes of speech, from which on a text can be resumed, and its passages are spoken at once."""


@dataclass(frozen=True)
class SpeechPlan:
    """See the module.

    Attributes:
        verifiers: The verifiers that judge the takes on this machine, besides the checks.
        timing: How the times of words are found; None if they are not requested.
        scheduling: How several passages are synthesized at once; None synthesizes one after the other.
        cast: The voices of a dialogue. A pipe adds some while it is read.
    """

    model: Model
    source: TextInput
    speech: SpeechOptions
    output: OutputOptions
    verifiers: VerifierOptions = NO_VERIFIERS
    timing: WordTiming | None = None
    scheduling: SchedulingOptions | None = None
    cast: Cast | None = None

    @property
    def plays(self) -> bool:
        """Whether the sound is played."""
        return self.output.play if self.output.play is not None else self.output.output is None

    @property
    def is_streamed(self) -> bool:
        """Whether sound is put out before its chunk is complete: by default if it is played."""
        if self.output.check.verify or self.speech.best_of > 1:
            return False
        return self.plays if self.output.stream is None else self.output.stream

    @property
    def loaded_verifiers(self) -> VerifierOptions:
        """The verifiers that this process loads: the workers that speak several passages load their own."""
        return self.verifiers if self.scheduling is None else NO_VERIFIERS

    def load(self, console: Console) -> TextToSpeech:
        """Load the model, unless it is a server's."""
        return self.model.load(console, self.speech.speaker, self.scheduling, self.verifiers)


def plan_speech(options: SpeakOptions, model: Model, source: TextInput, voice: ResolvedVoice) -> SpeechPlan:
    """Check the options that depend on the model, the voice and the text.

    Args:
        voice: Its reference is not read.

    Raises:
        UsageError: An option has no effect, or two of them exclude each other.
        ModelError: A verifier or a recognizer is not on this machine.
    """
    from llasa_cli.checkpoint.metadata import only_language

    output = options.output
    speech = replace(options.speech, lexicon=options.lexicon.words, speaker=voice.speaker)
    cast = _find_cast(options, model)
    source = source.with_voices(cast.find, cast.names)
    verifiers = model.find_verifiers(output.check, speech, voice.language)
    timing = output.check.timing(output.needs_words, voice.language or only_language(model.checkpoint.metadata))
    plan = SpeechPlan(model, source, speech, output, verifiers, timing, cast=cast)
    return replace(plan, scheduling=_passages_at_once(options.scheduling, plan))


def _find_cast(options: SpeakOptions, model: Model) -> Cast:
    """The voices of a dialogue. Their clips are checked here, and transcribed where they have no transcript.

    Raises:
        UsageError: See `voices.cast.Cast`.
    """
    from llasa_cli.voices.cast import Cast
    from llasa_cli.voices.reference import ReferenceTranscriber

    def line(text: str) -> None:
        if not options.console.quiet:
            note(text)

    def transcribe(clip: ReferenceClip) -> ReferenceClip:
        device = options.models.values["device"]
        return ReferenceTranscriber(options.output.check.asr, None, device, on_line=line).complete(clip)

    return Cast(options.cast.cast, lambda voice: model.find_voice(VoiceOptions(voice)), transcribe, model.is_remote)


def _passages_at_once(scheduling: SchedulingOptions, plan: SpeechPlan) -> SchedulingOptions | None:
    """The scheduling of passages that are synthesized at once: for a book or a long text that is written to a file, or any text on request.

    Raises:
        UsageError: An option asks for it, and another one excludes it.
    """
    source, reason = plan.source, ""
    if plan.model.is_remote:
        reason = "a server decides that itself"
    elif plan.output.output is None or plan.output.play or plan.is_streamed:
        reason = "sound that is played or streamed is spoken in order"
    elif source.size is None:
        reason = "a pipe is spoken as it grows"
    elif plan.speech.search is not None:
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
