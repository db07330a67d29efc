"""Saved voices: a clip's codes and transcript as one small JSON file, readable without torch.

    path = save(SavedVoice(...))              voices folder/NAME.json, written whole or not at all
    voice = find("kim")                       by name, or by a path
    for entry in listed(): ...                broken files included, each with its sentence

The folder is `voices` in the user's data folder for llasa (platformdirs), or what LLASA_VOICES names.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from llasa_cli.errors import LlasaError, UsageError

FORMAT = 1
"""Raised when a reader of today would misread the file."""
ENDING = ".json"
_LARGEST = 4_000_000
"""Bytes. 15 s of speech are 750 codes, about 5 kB; a file of gigabytes is something else."""
_LONGEST_NAME = 64


@dataclass(frozen=True)
class SavedVoice:
    """A voice to speak with.

    Attributes:
        name: As it is asked for.
        text: What is said in the clip, as it was written; a voice that needs words spelled out does so when it is used.
        codes: The clip, 50 codes a second.
        codec: The identity of the codec they were made with; to another they are noise.
        language: Such as "en"; None if nobody said.
        model, revision: What it was made with.
        license: Who may do what with it, in words.
        created: The day and time, ISO 8601, UTC.
        sound: Of the clip: `seconds`, `sampling_rate` (Hz) and `channels` of the file it came from.
        transcribed_by: The recogniser that wrote the text; None if a person did.
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
class Entry:
    """A file in the folder: its voice, or what is wrong with it."""

    name: str
    path: Path
    voice: SavedVoice | None
    error: str = ""


def voices_folder() -> Path:
    """Where voices are saved; it need not exist."""
    named = os.environ.get("LLASA_VOICES")
    if named:
        return Path(named).expanduser()
    from platformdirs import user_data_dir

    return Path(user_data_dir("llasa", appauthor=False)) / "voices"


def check_name(name: str) -> str:
    """A name that is a file's on every system, and nothing that could be taken for a path or a flag.

    Raises:
        UsageError: It is not.
    """
    devices = r"(?i)con|prn|aux|nul|com\d|lpt\d"
    too_long = len(name.encode(errors="replace")) > _LONGEST_NAME
    if too_long or not re.fullmatch(r"\w[\w-]*(?:[ .][\w-]+)*", name) or re.fullmatch(devices, name):
        raise UsageError(f"{_short(name)} can't be a voice's name.", "Use letters, digits, - and _; such as kim-2.")
    if name.lower().endswith(ENDING):
        raise UsageError(f"{_short(name)} can't be a voice's name.", f"It is the name without {ENDING}.")
    return name


def path_of(name: str) -> Path:
    """The file a voice is, or would be, saved in; names that differ only in case are one.

    Raises:
        UsageError: There is none, and none could be saved under that name. (Files that lie there may have any.)
    """
    folder = voices_folder()
    wanted = (name + ENDING).casefold()
    try:
        there = [path for path in sorted(folder.iterdir()) if path.name.casefold() == wanted]
    except FileNotFoundError:
        there = []
    except OSError as error:
        raise LlasaError(f"The folder of saved voices, {folder}, can't be read: {error.strerror}.", _OTHER) from error
    return there[0] if there else folder / (check_name(name) + ENDING)


def is_saved(name: str) -> bool:
    """Whether there is a file for it; any text may be asked for."""
    try:
        return path_of(name).is_file()
    except (LlasaError, OSError):
        # Not a name, or a folder that can't be read: that is said to who asks for a saved voice, not for a speaker.
        return False


def is_path(name: str) -> bool:
    """Whether a voice is meant as a file: it has a separator in it, or the ending."""
    return name.lower().endswith(ENDING) or "/" in name or os.sep in name


def find(name: str) -> SavedVoice:
    """A saved voice by its name, or by the path of its file.

    Raises:
        UsageError: There is none, or the file is not one.
        LlasaError: It can't be read.
    """
    if is_path(name):
        return read(Path(name).expanduser())
    path = path_of(name)
    if not path.is_file():
        raise UsageError(f"There is no saved voice {_short(name)}.", _known())
    return read(path)


def listed() -> list[Entry]:
    """What is in the folder, by name."""
    folder = voices_folder()
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix.lower() == ENDING and path.name[0] != ".")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise LlasaError(f"The folder of saved voices, {folder}, can't be read: {error.strerror}.", _OTHER) from error
    return [_entry(path) for path in paths]


def _entry(path: Path) -> Entry:
    try:
        return Entry(path.stem, path, read(path))
    except LlasaError as error:
        return Entry(path.stem, path, None, error.message)


def check_free(name: str, force: bool) -> Path:
    """The path a voice may be saved at; asked before the work is done.

    Raises:
        UsageError: Not a name, or one that is taken.
    """
    path = path_of(check_name(name))
    if path.exists() and not force:
        raise UsageError(f"There is a voice {path.stem} already.", "Take another name, or replace it with --force.")
    return path


def save(voice: SavedVoice, force: bool = False) -> Path:
    """Write a voice's file, whole or not at all; -> its path.

    Raises:
        UsageError: The name is taken, and not `force`.
        LlasaError: It can't be written.
    """
    path = check_free(voice.name, force)
    # A line for each fact: a column of 750 numbers would hide what a person may want to read or mend.
    facts = [f" {json.dumps(name)}: {json.dumps(value, ensure_ascii=False)}" for name, value in asdict(voice).items()]
    text = "{\n" + ",\n".join([f' "format": {FORMAT}', *facts]) + "\n}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_whole(path, text + "\n", replace=force)
    except FileExistsError:
        raise UsageError(f"There is a voice {path.stem} already.", "Replace it with --force.") from None
    except OSError as error:
        raise LlasaError(f"{path} can't be written: {error.strerror}.", _OTHER) from error
    return path


def _write_whole(path: Path, text: str, replace: bool) -> None:
    """By a temporary file beside it. Without `replace`, a file that came meanwhile stays, and this fails."""
    number, temporary = tempfile.mkstemp(prefix=f".{path.stem}.", suffix=".part", dir=path.parent)
    try:
        with os.fdopen(number, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        if replace:
            os.replace(temporary, path)
            return
        try:
            os.link(temporary, path)
        except FileExistsError:
            raise
        except OSError:  # a file system without links
            if path.exists():
                raise FileExistsError(path) from None
            os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def remove(name: str) -> Path:
    """Delete a saved voice, also a broken one; -> the path it had.

    Raises:
        UsageError: There is none.
        LlasaError: It can't be deleted.
    """
    path = path_of(name)
    try:
        path.unlink()
    except FileNotFoundError:
        raise UsageError(f"There is no saved voice {_short(name)}.", _known()) from None
    except OSError as error:
        raise LlasaError(f"{path} can't be removed: {error.strerror}.") from error
    return path


def read(path: Path) -> SavedVoice:
    """Read a voice's file.

    Raises:
        UsageError: There is no such file, or it is not a voice's, or of a later format.
        LlasaError: It can't be read.
    """
    again = "Save the voice again: llasa clone --ref CLIP --save NAME --force."
    try:
        if not path.is_file():
            raise UsageError(f"There is no voice file {path}." if not path.exists() else f"{path} is not a file.")
        if path.stat().st_size > _LARGEST:
            raise UsageError(f"{path} is too big for a saved voice.")
        found = json.loads(path.read_bytes().decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not a saved voice: {_reason(error)}.", again) from error
    except OSError as error:
        raise LlasaError(f"{path} can't be read: {error.strerror}.") from error
    wrong = _what_is_wrong(found)
    if wrong:
        raise UsageError(f"{path} is not a saved voice: {wrong}.", again)
    if found["format"] > FORMAT:
        raise UsageError(f"{path} was saved by a later llasa (format {found['format']}).", "Upgrade llasa-cli.")
    known = {part.name for part in fields(SavedVoice)}
    values = {name: value for name, value in found.items() if name in known}
    # By whatever name it was passed on: a copy called otherwise is another voice.
    return SavedVoice(**values | {"codes": tuple(found["codes"]), "name": path.stem})


def _reason(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"line {error.lineno} is not JSON ({error.msg})"
    return "it is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else "it is not JSON"


def _what_is_wrong(found: Any) -> str:
    """The first thing a hand-edited file has wrong, in words; empty if it can be used."""
    if not isinstance(found, dict):
        return "it holds no JSON object"
    if not _is_whole(found.get("format")) or found["format"] < 1:
        return "it has no format number"
    codes = found.get("codes")
    if not isinstance(codes, list) or not codes:
        return "it has no codes"
    if not all(_is_whole(code) and code >= 0 for code in codes):
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


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


_OTHER = "LLASA_VOICES can name another folder."


def _known() -> str:
    names = [entry.name for entry in listed()]
    return "Saved are: " + ", ".join(names) + "." if names else "Save one: llasa clone --ref CLIP --save NAME."


def _short(name: str) -> str:
    return repr(name if len(name) <= 40 else name[:37] + "...")


def tag_of(name: str, speakers: Sequence[str]) -> str | None:
    """The model's own spelling of a speaker's name: `Kore`, `kore` and `Speaker kore` are one; None if it knows none.

    A spelling that fits exactly counts before one in other case, in which two speakers may differ.
    """
    bare = bare_tag(name)
    for wanted in (name, bare):
        if wanted in speakers:
            return wanted
    found = [speaker for speaker in speakers if speaker.casefold() == bare.casefold()]
    return found[0] if len(found) == 1 else None


def bare_tag(name: str) -> str:
    """`Speaker kore` -> `kore`."""
    return re.sub(r"(?i)^\s*speaker\s+", "", name).strip()
