"""The model of a command: on this machine, or in the server that `--server` names.

model = find_model(options)                 no weights are read
voice = model.find_voice(VoiceOptions(voice="kim"))
text_to_speech = model.load(console, voice.speaker)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from llasa_cli.batch.options import SchedulingOptions
from llasa_cli.cli.common_options import CheckOptions, SpeakOptions, VoiceOptions
from llasa_cli.cli.console import Console, note
from llasa_cli.errors import UsageError
from llasa_cli.settings import BUILT_IN_MODEL, DEFAULT_SPEAKER_ENCODER, NO_VERIFIERS, SpeechOptions, VerifierOptions

if TYPE_CHECKING:
    from llasa_cli.checkpoint.resolve import Checkpoint, ModelDescription
    from llasa_cli.serve.client import RemoteSynthesizer
    from llasa_cli.synthesis.synthesizer import Synthesizer
    from llasa_cli.synthesis.text_to_speech import TextToSpeech
    from llasa_cli.voices.resolve import ResolvedVoice


@dataclass(frozen=True)
class LocalModel:
    """A model on this machine."""

    checkpoint: Checkpoint
    is_remote = False

    def find_voice(self, options: VoiceOptions) -> ResolvedVoice:
        """The voice that `--voice` and `--speaker` mean.

        Raises:
            UsageError: See `voices.resolve.resolve_voice`.
        """
        from llasa_cli.voices.resolve import resolve_voice

        return resolve_voice(options.voice, options.speaker, self.checkpoint)

    def find_verifiers(self, check: CheckOptions, speech: SpeechOptions, language: str | None) -> VerifierOptions:
        """The verifiers that judge the takes on this machine.

        Raises:
            UsageError, ModelError: See `CheckOptions.verifiers`.
        """
        return check.verifiers(speech, language)

    def load(
        self, console: Console, speaker: str | None, scheduling: SchedulingOptions | None, verifiers: VerifierOptions
    ) -> TextToSpeech:
        """Load the model.

        Args:
            speaker: A speaker that will be requested. An unknown one is refused before the weights are read.
            scheduling: How several passages of a text are synthesized at once; None synthesizes one after the other.
            verifiers: The verifiers that the workers load that synthesize several passages.
        """
        if scheduling is None:
            return load_synthesizer(self.checkpoint, console, speaker)
        from llasa_cli.batch.passages import PassageSynthesizer

        loaded = load_synthesizer(self.checkpoint, console, speaker) if scheduling.is_local else None
        return PassageSynthesizer(self.checkpoint, scheduling, verifiers, loaded)


@dataclass(frozen=True)
class ServerModel:
    """The model of a server: it speaks a text in one voice, judges the takes itself, and is loaded there."""

    server: RemoteSynthesizer
    is_remote = True

    @property
    def checkpoint(self) -> ModelDescription:
        return self.server.checkpoint

    def find_voice(self, options: VoiceOptions) -> ResolvedVoice:
        return self.server.resolve_voice(options.voice, options.speaker)

    def find_verifiers(self, check: CheckOptions, speech: SpeechOptions, language: str | None) -> VerifierOptions:
        check.chosen(speech)
        return NO_VERIFIERS

    def load(self, *_: object) -> TextToSpeech:
        return self.server


Model = LocalModel | ServerModel
"""A model that was found and is not loaded. A caller uses what both have in common."""


def find_model(options: SpeakOptions) -> Model:
    """The model on this machine, or the one of the server that the options name.

    Raises:
        UsageError: An option can't be combined with a server.
        ModelError: The model is not on this machine, the server has another, or no server answers.
    """
    from llasa_cli.checkpoint.resolve import resolve_checkpoint

    remote, models, check = options.remote, options.models, options.output.check
    if remote.server is None:
        if remote.server_or_local:
            raise UsageError("--server-or-local has no effect without --server.", "Add --server URL.")
        return LocalModel(resolve_checkpoint(models.build()))
    from llasa_cli.serve.client import RemoteSynthesizer, ServerUnreachable

    _refuse_local_options(options)
    wanted = models.values["model"] if "model" in models.given else None
    try:
        return ServerModel(RemoteSynthesizer.connect(remote.server, remote.api_key, wanted, check.judging))
    except ServerUnreachable as error:
        if not remote.server_or_local:
            raise
        if not options.console.quiet:
            note(f"warning: {error.message} The model is loaded here.")
        return LocalModel(resolve_checkpoint(models.build()))


def _refuse_local_options(options: SpeakOptions) -> None:
    """Raises UsageError if an option can't be combined with a server."""
    if options.speech.speed != 1 or options.lexicon.words:
        raise UsageError(
            "--speed and --lexicon need the model on this machine.", "Leave them out, or --server (LLASA_SERVER)."
        )
    for name in sorted(options.models.given - {"model"}):
        raise UsageError(f"--{name} is chosen where the server is started.", f"Leave out --{name}, or --server.")
    if options.speech.search is not None:
        raise UsageError("--search needs the model on this machine.", "Leave out --search, or --server (LLASA_SERVER).")
    if options.output.check.speaker_model != DEFAULT_SPEAKER_ENCODER:
        raise UsageError("--speaker-model is chosen where the server is started.", "Leave it out, or --server.")


def load_synthesizer(checkpoint: Checkpoint, console: Console, speaker: str | None = None) -> Synthesizer:
    """Load the model. An unknown speaker is refused before the weights are read."""
    import gc
    import os

    from llasa_cli.device import limit_threads, named_threads, usable_cores
    from llasa_cli.synthesis.synthesizer import Synthesizer

    threads = named_threads() or usable_cores()
    if checkpoint.name == BUILT_IN_MODEL:
        os.environ.setdefault("OMP_NUM_THREADS", "1")  # torch reads this once, when it is imported
    gc.disable()  # garbage collection takes a tenth of the import of torch and finds nothing
    try:
        synthesizer = Synthesizer.load(checkpoint, console.stage, speaker)
    finally:
        gc.freeze()
        gc.enable()
    limit_threads(synthesizer.model, threads if synthesizer.model.is_small else None)
    return synthesizer
