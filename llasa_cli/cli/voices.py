"""`llasa voices`: the saved voices; and which voice is meant by `--voice` and `--speaker`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llasa_cli.cli import flags
from llasa_cli.cli.console import as_json, boundary, claim_stdout, note, result
from llasa_cli.errors import LlasaError, UsageError
from llasa_cli.settings import ModelOptions

if TYPE_CHECKING:
    from llasa_cli.checkpoint.resolve import Checkpoint
    from llasa_cli.prompt import Reference
    from llasa_cli.voices.library import Entry, SavedVoice

app = typer.Typer(
    help="List the saved voices; show or remove one.",
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
Name = Annotated[str, typer.Argument(help="A saved voice.", show_default=False)]


@app.callback()
@boundary
def voices(
    context: typer.Context,
    model: flags.Model = flags.DEFAULT_MODEL,
    json: Annotated[bool, typer.Option("--json", help="Print them as JSON, one a line.")] = False,
) -> None:
    """List the saved voices, and say which ones the model can't speak with."""
    if context.invoked_subcommand is not None:
        given = (context.get_parameter_source(name) for name in ("model", "json"))
        if any(source is not None and source.name == "COMMANDLINE" for source in given):
            raise UsageError(
                "--model and --json before a subcommand are of the list alone.",
                f"llasa voices {context.invoked_subcommand} NAME --json",
            )
        return
    from llasa_cli.cli.tables import table_text
    from llasa_cli.voices.library import listed, voices_folder

    claim_stdout()
    entries = listed()
    codec = _codec_of(model)
    if json:
        for entry in entries:
            result(as_json(_facts(entry, codec)))
        return
    if not entries:
        note(f"No voice is saved in {voices_folder()}.\n       llasa clone --ref clip.wav --save kim")
        return
    rows = [_row(entry, codec) for entry in entries]
    result(table_text(("voice", "seconds", "language", "made with", "says"), rows))


@app.command("show")
@boundary
def show(name: Name, json: flags.Json = False) -> None:
    """Show what is known of a saved voice (or of a voice's file)."""
    from llasa_cli.cli.tables import printable
    from llasa_cli.voices.library import find, is_path, path_of

    claim_stdout()
    voice = find(name)
    path = Path(name).expanduser() if is_path(name) else path_of(name)
    if json:
        result(as_json(asdict(voice) | {"path": str(path)}))
        return
    facts = {
        "voice": voice.name,
        "file": str(path),
        "says": voice.text,
        "heard by": voice.transcribed_by or "",
        "seconds": f"{seconds_of(voice):.1f} ({len(voice.codes)} codes)",
        "language": voice.language or "",
        "codec": voice.codec,
        "made with": " ".join([voice.model, voice.revision]).strip(),
        "license": voice.license,
        "created": voice.created,
    }
    for title, fact in facts.items():
        if fact:
            result(f"{title:<10} {printable(' '.join(fact.split()))}")


@app.command("remove")
@boundary
def remove(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Saved voices.", show_default=False)],
    json: flags.Json = False,
) -> None:
    """Delete saved voices."""
    from llasa_cli.voices.library import remove as remove_voice

    claim_stdout()
    for name in names:
        path = remove_voice(name)
        if json:
            result(as_json({"voice": path.stem, "path": str(path), "removed": True}))
        else:
            note(f"removed {path}")


def seconds_of(voice: SavedVoice) -> float:
    from llasa_cli.settings import CODES_PER_SECOND

    return len(voice.codes) / CODES_PER_SECOND


def _row(entry: Entry, codec: str | None) -> tuple[str, ...]:
    voice = entry.voice
    if voice is None:
        return entry.name, "", "", "broken", " ".join(entry.error.split())
    made_with = voice.model + ("" if codec in (None, voice.codec) else " (another codec)")
    return entry.name, f"{seconds_of(voice):.1f}", voice.language or "", made_with, " ".join(voice.text.split())


def _facts(entry: Entry, codec: str | None) -> dict[str, Any]:
    """Without the codes: `show --json` has them."""
    facts: dict[str, Any] = {"name": entry.name, "path": str(entry.path)}
    if entry.voice is None:
        return facts | {"error": entry.error}
    voice = {name: value for name, value in asdict(entry.voice).items() if name not in ("codes", "name")}
    usable = None if codec is None else codec == entry.voice.codec
    return facts | voice | {"seconds": seconds_of(entry.voice), "usable": usable}


def _codec_of(model: str) -> str | None:
    """The identity of the model's codec; None where it is not here, which is no reason not to list voices."""
    from llasa_cli.checkpoint.resolve import resolve_checkpoint

    try:
        return resolve_checkpoint(ModelOptions(model=model)).codec_identity
    except LlasaError:
        return None


# --- which voice is meant ---


@dataclass(frozen=True)
class ChosenVoice:
    """What `Synthesizer` is given.

    Attributes:
        speaker: The model's own spelling of a tag; None takes its default.
        reference: A saved voice; it stands for itself, no tag goes with it.
        language: Of a saved voice.
    """

    speaker: str | None = None
    reference: Reference | None = None
    language: str | None = None


def chosen_voice(voice: str | None, speaker: str | None, checkpoint: Checkpoint) -> ChosenVoice:
    """Whose voice is meant. Nothing heavy is loaded; what can't be spoken with is refused here.

    Args:
        voice: A saved voice, the path of a voice's file, or one of the model's speakers.
        speaker: One of the model's speakers, or, of a model that names none, any tag it was trained with.
        checkpoint: The model that will speak.

    Raises:
        UsageError: Nobody of that name, two that are meant by it, or a voice made with another codec.
        ModelError: The model's codec is not on this machine.
    """
    from llasa_cli.voices.library import find, is_path, is_saved

    if voice is not None and speaker is not None:
        raise UsageError("There are a --voice and a --speaker.", "Give one: a saved voice stands for itself.")
    if voice is None and speaker is None:
        return ChosenVoice()
    model = _Model(checkpoint)
    if speaker is not None:
        return ChosenVoice(speaker=model.tag(speaker))
    assert voice is not None
    if is_path(voice):
        return model.saved(find(voice))
    tag = model.known_tag(voice)
    if is_saved(voice):
        if tag is not None:
            raise UsageError(
                f"{voice!r} is a saved voice and a speaker of the model.",
                f"--speaker {tag} is the model's; for the saved one give its file, or save it by another name.",
            )
        return model.saved(find(voice))
    if tag is None:
        raise model.nobody(voice)
    return ChosenVoice(speaker=tag)


class _Model:
    """What a model's folder says of voices, without its weights."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint

    @property
    def speakers(self) -> tuple[str, ...]:
        return self._checkpoint.known_speakers

    def known_tag(self, name: str) -> str | None:
        from llasa_cli.voices.library import tag_of

        return tag_of(name, self.speakers)

    def tag(self, name: str) -> str:
        """The model's own spelling; a model that names no speakers may know it all the same."""
        from llasa_cli.prompt import PromptFormat
        from llasa_cli.voices.library import bare_tag

        found = self.known_tag(name)
        if found is None:
            found = bare_tag(name)
            PromptFormat.load(self._checkpoint.folder).prompt("", speaker=found)  # refuses what the model can't know
        return found

    def nobody(self, name: str) -> UsageError:
        from llasa_cli.voices.library import listed

        saved = [entry.name for entry in listed()]
        hints = ["Saved voices: " + (", ".join(saved) or "none") + "."]
        if self.speakers:
            hints.append("The model's speakers: " + ", ".join(self.speakers) + ".")
        else:
            hints.append("The model names no speakers; --speaker gives it a tag all the same.")
        shown = repr(name if len(name) <= 40 else name[:37] + "...")
        return UsageError(f"There is no voice {shown}.", " ".join(hints))

    def saved(self, voice: SavedVoice) -> ChosenVoice:
        """A saved voice as this model is given it.

        Raises:
            UsageError: It was made with another codec.
        """
        from llasa_cli.prompt import Reference
        from llasa_cli.text.normalize.loader import load_normalizer

        codec = self._checkpoint.codec_identity
        if voice.codec != codec:
            made_with = f", by the model {voice.model}" if voice.model else ""
            raise UsageError(
                f"The voice {voice.name} was made with another codec ({voice.codec}{made_with}) than the model's ({codec}).",
                "Save it again with this model: llasa clone --ref CLIP --save NAME -m MODEL --force.",
            )
        spell = load_normalizer(bool(self._checkpoint.metadata.get("spell_out")))
        text = spell(voice.text) if spell else voice.text
        if not any(character.isalnum() for character in text):
            raise UsageError(
                f"This model reads no letter of what the voice {voice.name} says.", "Name another with -m."
            )
        return ChosenVoice(reference=Reference(" ".join(text.split()), voice.codes), language=voice.language)
