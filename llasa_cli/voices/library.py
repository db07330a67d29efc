"""Saved voices: the codes and the transcript of a clip in a small JSON file, which is read without torch.

    path = save(SavedVoice(...))                    writes NAME.json into the voices folder
    voice = find("kim")                             by name, or by the path of a file
    for entry in list_voices(): ...                 broken files included, each with its problem

The folder is `voices` in the user's data folder for llasa (see platformdirs), or what LLASA_VOICES names.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from llasa_cli.errors import LlasaError, UsageError
from llasa_cli.files import AtomicFile
from llasa_cli.wording import shorten

FORMAT = 1
"""The version of the file format. It is increased when older readers would misread a new file."""
ENDING = ".json"
_MAX_BYTES = 4_000_000
"""15 s of speech are 750 codes, about 5 kB."""
MAX_NAME_BYTES = 64
NAME_PATTERN = (
    r"^(?!(?:[cC][oO][nN]|[pP][rR][nN]|[aA][uU][xX]|[nN][uU][lL]|(?:[cC][oO][mM]|[lL][pP][tT])[0-9])(?:\.|$))"
    r"(?!.*\.[jJ][sS][oO][nN]$)(?!.*\n)[\w][\w-]*(?:[ .][\w-]+)*$"
)
"""Names that can be a file's name on every system: no device of Windows, no ending of our own."""
_CHANGE_FOLDER = "Set LLASA_VOICES to use another folder."


@dataclass(frozen=True)
class SavedVoice:
    """A saved voice.

    Attributes:
        name: The name for `--voice`.
        text: The transcript of the clip, as it was written. A model that needs numbers as words normalizes it on use.
        codes: The codes of the clip, 50 a second.
        codec: The identity of the codec that made the codes; for another codec they are noise.
        language: Such as "en"; None if unknown.
        model, revision: The model that the voice was saved with.
        license: The terms of the recording and of the model, as text.
        created: The time of saving, ISO 8601, UTC.
        sound: `seconds` of the clip, and `sampling_rate` (Hz) and `channels` of its file.
        transcribed_by: The recognizer that wrote the transcript; None if a person gave it.
    """

    name: str
    text: str
    codes: tuple[int, ...]
    codec: str
    language: str | None = None
    model: str = ""
    revision: str = ""
    license: str = ""
    created: str = ""
    sound: dict[str, float] = field(default_factory=dict)
    transcribed_by: str | None = None


@dataclass(frozen=True)
class VoiceEntry:
    """A file in the voices folder: its voice, or the problem with it."""

    name: str
    path: Path
    voice: SavedVoice | None
    error: str = ""


def voices_folder() -> Path:
    """The folder of saved voices; it need not exist."""
    named = os.environ.get("LLASA_VOICES")
    if named:
        return Path(named).expanduser()
    from platformdirs import user_data_dir

    return Path(user_data_dir("llasa", appauthor=False)) / "voices"


def check_name(name: str) -> str:
    """Check that a name can be a file name on every system, and can't be confused with a path or a flag.

    Raises:
        UsageError: The name can't be used.
    """
    if len(name.encode(errors="replace")) > MAX_NAME_BYTES or not re.fullmatch(NAME_PATTERN, name):
        is_file = name.lower().endswith(ENDING)
        hint = f"Give the name without {ENDING}." if is_file else "Use letters, digits, - and _, such as kim-2."
        raise UsageError(f"{shorten(name)} can't be a voice's name.", hint)
    return name


def voice_path(name: str) -> Path:
    """The file in which a voice is or would be saved. Names that differ only in case are the same voice.

    Raises:
        UsageError: There is no such file, and none could be saved under this name. (An existing file may have any name.)
        LlasaError: The folder can't be read.
    """
    folder = voices_folder()
    wanted = (name + ENDING).casefold()
    found = [path for path in _files(folder) if path.name.casefold() == wanted]
    return found[0] if found else folder / (check_name(name) + ENDING)


def _files(folder: Path) -> list[Path]:
    """The sorted content of the voices folder; empty if there is no such folder."""
    try:
        return sorted(folder.iterdir())
    except FileNotFoundError:
        return []
    except OSError as error:
        problem = f"The folder of saved voices, {folder}, can't be read: {error.strerror}."
        raise LlasaError(problem, _CHANGE_FOLDER) from error


def voice_exists(name: str) -> bool:
    """Whether a voice of this name is saved. The name may be any text."""
    try:
        return voice_path(name).is_file()
    except (LlasaError, OSError):
        # An impossible name, or an unreadable folder: `find` reports it, but a speaker of that name can still be used.
        return False


def is_voice_path(name: str) -> bool:
    """Whether `--voice` means a file: the text has a path separator or the ending."""
    return name.lower().endswith(ENDING) or "/" in name or os.sep in name


def find(name: str) -> SavedVoice:
    """Read a saved voice by its name, or by the path of its file.

    Raises:
        UsageError: There is no such voice, or the file is not a saved voice.
        LlasaError: The file can't be read.
    """
    if is_voice_path(name):
        return read(Path(name).expanduser())
    path = voice_path(name)
    if not path.is_file():
        raise _not_saved(name)
    return read(path)


def list_voices() -> list[VoiceEntry]:
    """All files in the voices folder, sorted by name."""
    paths = [path for path in _files(voices_folder()) if path.suffix.lower() == ENDING and path.name[0] != "."]
    return [_entry(path) for path in paths]


def _entry(path: Path) -> VoiceEntry:
    try:
        return VoiceEntry(path.stem, path, read(path))
    except LlasaError as error:
        return VoiceEntry(path.stem, path, None, error.message)


def check_free(name: str, force: bool) -> Path:
    """The path for a new voice, checked before any work is done.

    Raises:
        UsageError: The name is not possible, or taken.
    """
    path = voice_path(check_name(name))
    if path.exists() and not force:
        raise _taken(path)
    return path


def save(voice: SavedVoice, force: bool = False) -> Path:
    """Write a voice's file and return its path. The file is complete or absent.

    Args:
        force: Whether an existing voice of that name is replaced.

    Raises:
        UsageError: The name is taken.
        LlasaError: The file can't be written.
    """
    path = check_free(voice.name, force)
    # One line for each entry: with indentation, 750 codes would be 750 lines.
    entries = [f" {json.dumps(name)}: {json.dumps(value, ensure_ascii=False)}" for name, value in asdict(voice).items()]
    text = "{\n" + ",\n".join([f' "format": {FORMAT}', *entries]) + "\n}\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with AtomicFile(path, replace=force) as target:
            target.file.write(text.encode("utf-8"))
    except FileExistsError:
        raise _taken(path) from None
    except OSError as error:
        raise LlasaError(f"{path} can't be written: {error.strerror}.", _CHANGE_FOLDER) from error
    return path


def remove(name: str) -> Path:
    """Delete a saved voice, even a broken one, and return the path that it had.

    Raises:
        UsageError: There is no such voice.
        LlasaError: The file can't be deleted.
    """
    path = voice_path(name)
    try:
        path.unlink()
    except FileNotFoundError:
        raise _not_saved(name) from None
    except OSError as error:
        raise LlasaError(f"{path} can't be removed: {error.strerror}.") from error
    return path


def read(path: Path) -> SavedVoice:
    """Read a voice's file.

    Raises:
        UsageError: There is no such file, or it is not a saved voice, or it has a later format.
        LlasaError: The file can't be read.
    """
    again = "Save the voice again: llasa clone --ref CLIP --save NAME --force."
    try:
        if not path.is_file():
            raise UsageError(f"{path} is not a file." if path.exists() else f"The voice file {path} does not exist.")
        if path.stat().st_size > _MAX_BYTES:
            raise UsageError(f"{path} is too large for a saved voice.")
        found = json.loads(path.read_bytes().decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not a saved voice: {_reason(error)}.", again) from error
    except OSError as error:
        raise LlasaError(f"{path} can't be read: {error.strerror}.") from error
    problem = _problem(found)
    if problem:
        raise UsageError(f"{path} is not a saved voice: {problem}.", again)
    if found["format"] > FORMAT:
        raise UsageError(f"{path} was saved by a later llasa (format {found['format']}).", "Upgrade llasa-cli.")
    known = {part.name for part in fields(SavedVoice)}
    values = {name: value for name, value in found.items() if name in known}
    # The file's name counts: a copy under another name is another voice.
    return SavedVoice(**values | {"codes": tuple(found["codes"]), "name": path.stem})


def _reason(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"line {error.lineno} is not JSON ({error.msg})"
    return "it is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else "it is not JSON"


def _problem(found: Any) -> str:
    """The first problem of a file that was edited by hand; empty if it can be used."""
    if not isinstance(found, dict):
        return "it is not a JSON object"
    if not _is_integer(found.get("format")) or found["format"] < 1:
        return "it has no format number"
    codes = found.get("codes")
    if not isinstance(codes, list) or not codes:
        return "it has no codes"
    if not all(_is_integer(code) and code >= 0 for code in codes):
        return "its codes are not whole numbers from 0"
    for name in ("text", "codec"):
        if not isinstance(found.get(name), str) or not found[name].strip():
            return f"it has no {name}"
    for name in ("language", "transcribed_by"):
        if not isinstance(found.get(name), (str, type(None))):
            return f"its {name} is not a text"
    for name in ("model", "revision", "license", "created"):
        if not isinstance(found.get(name, ""), str):
            return f"its {name} is not a text"
    sound = found.get("sound", {})
    if not isinstance(sound, dict) or not all(isinstance(value, (int, float)) for value in sound.values()):
        return "its sound is not a table of numbers"
    return ""


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _taken(path: Path) -> UsageError:
    return UsageError(f"The voice {path.stem} already exists.", "Choose another name, or replace it with --force.")


def _not_saved(name: str) -> UsageError:
    names = [entry.name for entry in list_voices()]
    saved = f"Saved voices: {', '.join(names)}." if names else "Save one: llasa clone --ref CLIP --save NAME."
    return UsageError(f"There is no saved voice {shorten(name)}.", saved)


def match_speaker(name: str, speakers: Sequence[str]) -> str | None:
    """The model's spelling of a speaker's name, or None: `Kore`, `kore` and `Speaker kore` mean the same speaker.

    An exact match counts before one that differs in case, since two speakers may differ in case alone.
    """
    bare = strip_speaker_prefix(name)
    for wanted in (name, bare):
        if wanted in speakers:
            return wanted
    found = [speaker for speaker in speakers if speaker.casefold() == bare.casefold()]
    return found[0] if len(found) == 1 else None


def strip_speaker_prefix(name: str) -> str:
    """`Speaker kore` -> `kore`."""
    return re.sub(r"(?i)^\s*speaker\s+", "", name).strip()
