"""`llasa voices`: list the voices that `--voice` takes; show or remove a saved one."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llasa_cli.cli.console import as_json, boundary, claim_stdout, note, result
from llasa_cli.cli.flags import Parsed, with_flags
from llasa_cli.cli.help import Command, Group
from llasa_cli.errors import LlasaError, UsageError
from llasa_cli.options import Flag, Options
from llasa_cli.settings import BUILT_IN_MODEL, MODEL_FLAG, ModelOptions

if TYPE_CHECKING:
    from llasa_cli.checkpoint.resolve import Checkpoint
    from llasa_cli.voices.library import SavedVoice, VoiceEntry

app = typer.Typer(
    help="List the model's speakers and the saved voices; show or remove a saved voice.",
    cls=Group,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_COLUMNS = ("voice", "kind", "seconds", "language", "made with", "about")


_JSON = Flag("Print JSON, one voice a line.")


@dataclass(frozen=True)
class ListOptions(Options):
    """Options of `llasa voices`."""

    model: Annotated[str, MODEL_FLAG] = BUILT_IN_MODEL
    json: Annotated[bool, _JSON] = False


@dataclass(frozen=True)
class ShowOptions(Options):
    """Options of `llasa voices show`."""

    name: Annotated[str, Flag("A saved voice, or a voice file.", is_argument=True, completion="saved voices")]
    json: Annotated[bool, _JSON] = False


@dataclass(frozen=True)
class RemoveOptions(Options):
    """Options of `llasa voices remove`."""

    names: Annotated[
        tuple[str, ...], Flag("Saved voices.", is_argument=True, metavar="NAME...", completion="saved voices")
    ]
    json: Annotated[bool, _JSON] = False


@app.callback()
@boundary
@with_flags
def voices(context: typer.Context, options: Parsed[ListOptions]) -> None:
    """List the model's speakers and the saved voices, and which of those the model can use."""
    if context.invoked_subcommand is not None:
        if options.given:
            raise UsageError(
                "--model and --json before a subcommand apply to the list only.",
                f"llasa voices {context.invoked_subcommand} NAME --json",
            )
        return
    model, json = options.values["model"], options.values["json"]
    from llasa_cli.cli.tables import table_text
    from llasa_cli.voices.library import list_voices, voices_folder

    claim_stdout()
    checkpoint, codec = _look_up(model)
    speakers = checkpoint.known_speakers if checkpoint is not None else ()
    about = checkpoint.speaker_notes if checkpoint is not None else {}
    default = checkpoint.metadata.get("default_speaker") if checkpoint is not None else None
    saved = list_voices()
    if json:
        for speaker in speakers:
            facts = {"name": speaker, "kind": "speaker", "default": speaker == default, "model": model}
            result(as_json(facts | {"about": about.get(speaker, "")}))
        for entry in saved:
            result(as_json(_facts(entry, codec)))
        return
    kinds = ["speaker (default)" if speaker == default else "speaker" for speaker in speakers]
    rows: list[tuple[str, ...]] = [
        (speaker, kind, "", "", model, about.get(speaker, "")) for speaker, kind in zip(speakers, kinds, strict=True)
    ]
    rows += [_row(entry, codec) for entry in saved]
    if rows:
        result(table_text(_COLUMNS, rows))
    if checkpoint is None:
        note(f"The model {model} is not on this machine, so its speakers are not listed.")
    if saved:
        note(f"saved voices: {voices_folder()}")
    else:
        note(f"No voice is saved in {voices_folder()}.\n       llasa clone --ref clip.wav --save kim")


@app.command("show", cls=Command)
@boundary
@with_flags
def show(options: ShowOptions) -> None:
    """Show a saved voice, or a voice file."""
    from llasa_cli.cli.tables import printable
    from llasa_cli.voices.library import find, is_voice_path, voice_path

    claim_stdout()
    name = options.name
    voice = find(name)
    path = Path(name).expanduser() if is_voice_path(name) else voice_path(name)
    if options.json:
        result(as_json(asdict(voice) | {"path": str(path)}))
        return
    facts = {
        "voice": voice.name,
        "file": str(path),
        "says": voice.text,
        "transcribed by": voice.transcribed_by or "",
        "seconds": f"{seconds_of(voice):.1f} ({len(voice.codes)} codes)",
        "language": voice.language or "",
        "codec": voice.codec,
        "made with": " ".join([voice.model, voice.revision]).strip(),
        "license": voice.license,
        "created": voice.created,
    }
    for title, fact in facts.items():
        if fact:
            result(f"{title:<14} {printable(' '.join(fact.split()))}")


@app.command("remove", cls=Command)
@boundary
@with_flags
def remove(options: RemoveOptions) -> None:
    """Delete saved voices."""
    from llasa_cli.voices.library import remove as remove_voice

    claim_stdout()
    for name in options.names:
        path = remove_voice(name)
        if options.json:
            result(as_json({"voice": path.stem, "path": str(path), "removed": True}))
        else:
            note(f"removed {path}")


def seconds_of(voice: SavedVoice) -> float:
    from llasa_cli.settings import CODES_PER_SECOND

    return len(voice.codes) / CODES_PER_SECOND


def _row(entry: VoiceEntry, codec: str | None) -> tuple[str, ...]:
    voice = entry.voice
    if voice is None:
        return entry.name, "broken", "", "", "", " ".join(entry.error.split())
    made_with = voice.model + ("" if codec in (None, voice.codec) else " (another codec)")
    return (
        entry.name,
        "saved",
        f"{seconds_of(voice):.1f}",
        voice.language or "",
        made_with,
        f"says: {' '.join(voice.text.split())}",
    )


def _facts(entry: VoiceEntry, codec: str | None) -> dict[str, Any]:
    """A saved voice for `--json`, without its codes; `show --json` prints them."""
    facts: dict[str, Any] = {"name": entry.name, "kind": "saved", "path": str(entry.path)}
    if entry.voice is None:
        return facts | {"error": entry.error}
    voice = {name: value for name, value in asdict(entry.voice).items() if name not in ("codes", "name")}
    usable = None if codec is None else codec == entry.voice.codec
    return facts | voice | {"seconds": seconds_of(entry.voice), "usable": usable}


def _look_up(model: str) -> tuple[Checkpoint | None, str | None]:
    """The model and the identity of its codec; each is None if it is not on this machine."""
    from llasa_cli.checkpoint.resolve import resolve_checkpoint

    try:
        checkpoint = resolve_checkpoint(ModelOptions(model=model))
    except LlasaError:
        return None, None
    try:
        return checkpoint, checkpoint.codec_identity
    except LlasaError:
        return checkpoint, None
