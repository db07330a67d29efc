"""Reading and writing files: JSON objects, files that are complete or absent, locks."""

from __future__ import annotations

import contextlib
import errno
import glob
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from llasa_cli.errors import LlasaError, ModelError, UsageError, os_errors_as

_END_BYTES = 1 << 20


# --- complete or absent ---


class AtomicFile:
    """A binary file that appears under its name only when it is complete.

    The data goes to a temporary file in the same folder, which `commit` flushes to disk and renames. Several processes, on
    several machines, may write the same target at the same time; the last rename wins. A `with` block commits, or discards
    if it raises:

        with AtomicFile(path) as target:
            target.file.write(b"...")

    Opening also removes the temporary files that killed processes of this machine left for the same target.

    Args:
        path: The target. A symbolic link is replaced, not followed.
        replace: Whether an existing target may be replaced.

    Attributes:
        file: Open for writing, reading and seeking.
        part: The path of the temporary file.

    Raises:
        OSError: The temporary file can't be created. `commit` raises it as well, and FileExistsError without `replace`.
    """

    def __init__(self, path: Path, replace: bool = True) -> None:
        self.path, self._replace = path, replace
        _remove_stale_parts(path)
        self.part = temporary_path(path)
        self.file = self.part.open("w+b")

    def commit(self, flush_to_disk: bool = True) -> None:
        """Flush to disk and rename. If that fails, the temporary file is removed and the old target stays.

        Args:
            flush_to_disk: False saves time for a file that is made again if a crash of the system damages it.
        """
        try:
            self.file.flush()
            if flush_to_disk:
                os.fsync(self.file.fileno())
            self.file.close()
            if self._replace:
                os.replace(self.part, self.path)
            else:
                _rename_without_replacing(self.part, self.path)
        finally:
            self.discard()

    def discard(self) -> None:
        """Close and remove the temporary file. It may be called at any time, and again."""
        try:
            self.file.close()
        except OSError:
            pass  # a full disk: the buffered bytes are not needed
        finally:
            self.part.unlink(missing_ok=True)

    def __enter__(self) -> AtomicFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.commit()
        else:
            self.discard()


def _rename_without_replacing(part: Path, path: Path) -> None:
    try:
        os.link(part, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if path.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
        os.replace(part, path)


_HOST_NAME = os.uname().nodename if hasattr(os, "uname") else os.environ.get("COMPUTERNAME", "")
_HOST = hashlib.blake2b(_HOST_NAME.encode(), digest_size=4).hexdigest()


def temporary_path(path: Path) -> Path:
    """An unused hidden name in the same folder, unique across processes and machines."""
    # 40 characters of the name: all of it with an ending could exceed the file system's limit.
    return path.with_name(f".{path.name[:40]}.{_HOST}-{os.getpid()}-{secrets.token_hex(4)}.part")


def _remove_stale_parts(path: Path) -> None:
    """Remove the temporary files of this target whose processes ran on this machine and have ended."""
    if os.name == "nt":  # os.kill(pid, 0) would send Ctrl-C there
        return
    for part in path.parent.glob(f".{glob.escape(path.name[:40])}.{_HOST}-*-*.part"):
        number = part.name.rsplit("-", 2)[1]
        if number.isascii() and number.isdigit() and not _is_running(int(number)):
            part.unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True  # another user's
    with contextlib.suppress(OSError):  # elsewhere than on Linux
        # A zombie has ended, though its parent has not asked for its exit status.
        return Path(f"/proc/{process}/stat").read_bytes().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    return True


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file by `AtomicFile`.

    Raises:
        OSError: It can't be written.
    """
    data = text.encode("utf-8")
    with AtomicFile(path) as target:
        target.file.write(data)


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file by `AtomicFile`."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def take_lock(path: Path, busy: LlasaError) -> Callable[[], None]:
    """Lock a file without waiting. -> the function that releases the lock and removes the file

    The operating system releases the lock when the process ends, however it ends. On a file system without locks the file
    names the process and its machine instead; the lock of a process of this machine that has ended is taken over.

    Args:
        path: The lock file. It holds no data of the caller.
        busy: The error to raise if another process holds the lock. If the file system has no locks, its hint tells how to
            remove the lock of another machine.

    Raises:
        LlasaError: `busy`.
        OSError: The lock file can't be created.
    """
    from filelock import FileLock, SoftFileLock, Timeout

    lock: FileLock | SoftFileLock = FileLock(path, timeout=0, thread_local=False)
    try:
        try:
            lock.acquire()
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            if path.is_file() and not path.stat().st_size:
                path.unlink(missing_ok=True)  # left by the attempt above
            # In filelock 4.1, the last for Python 3.10, the first attempt only removes the lock of an ended process.
            lock = SoftFileLock(path, timeout=0.1, thread_local=False)
            lock.acquire()
    except Timeout as error:
        if isinstance(lock, SoftFileLock):
            busy.hint += f" If no other run is active, remove {path}: this file system has no locks."
        raise busy from error

    def release() -> None:
        if lock.is_locked:
            with contextlib.suppress(OSError):  # Windows keeps a file that is open
                path.unlink()  # before the release, so that no other process's file is removed
            lock.release()

    return release


_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)


# --- JSON ---


def read_json_object(path: Path, hint: str = "", error_type: type[LlasaError] = ModelError) -> dict[str, Any]:
    """Read a file that holds one JSON object.

    Raises:
        ModelError: It can't be read, or holds another value. Another type on request.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        raise error_type(f"{path} can't be read: {error}.", hint) from error
    if not isinstance(found, dict):
        raise error_type(f"{path} does not hold a JSON object.", hint)
    return found


def read_json_object_if_exists(path: Path, hint: str = "") -> dict[str, Any]:
    """Like `read_json_object`; an empty dictionary if there is no such file."""
    return read_json_object(path, hint) if path.is_file() else {}


# --- folders and paths ---


def make_folder(folder: Path) -> None:
    """Create an output folder with its parents.

    Raises:
        UsageError: It can't be created.
    """
    with os_errors_as(f"The folder {folder} can't be created", "Choose another one with -o.", UsageError):
        folder.mkdir(parents=True, exist_ok=True)


@contextlib.contextmanager
def output_folder(folder: Path) -> Iterator[None]:
    """Create an output folder with its parents. On exit the new ones that are still empty are removed.

    Raises:
        UsageError: It can't be created.
    """
    new = [path for path in (folder, *folder.parents) if not os.path.exists(path)]
    make_folder(folder)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # not empty
            for created in new:
                created.rmdir()


def move_to(part: Path, target: Path) -> str:
    """Rename a finished file to its target, creating the target's folder.

    Returns:
        An empty string, or why this target can't be written. In that case the finished file is removed.

    Raises:
        LlasaError: No other target would work either: the disk is full or can't be written.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(part, target)
    except OSError as error:
        part.unlink(missing_ok=True)
        problem = f"{target} can't be written: {error.strerror}."
        if error.errno in _PROBLEMS_OF_THE_NAME:
            return problem
        raise LlasaError(problem) from error
    return ""


_PROBLEMS_OF_THE_NAME = (errno.ENAMETOOLONG, errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENOTEMPTY)
"""The name is too long, or there is a folder where the file should be, or a file where its folder should be."""


def refuse_overwriting(writes: Iterable[Path | None], reads: Iterable[Path | None]) -> None:
    """Raise UsageError if an output file is also an input file, or is named for two outputs."""
    seen: list[Path] = []
    sources = [path for path in reads if path is not None]
    for path in writes:
        if path is None:
            continue
        if any(is_same_file(path, other) for other in sources):
            raise UsageError(f"{path} is an input of this command and would be overwritten.", "Write to another file.")
        if any(is_same_file(path, other) for other in seen):
            raise UsageError(f"{path} is named for two outputs.", "Give each output its own file name.")
        seen.append(path)


def is_same_file(one: Path, other: Path) -> bool:
    """Whether two paths lead to one regular file. The file need not exist yet."""
    try:
        return os.path.samefile(one, other) and one.is_file()
    except OSError:
        return os.path.realpath(one) == os.path.realpath(other)


def copy_files(source: Path, target: Path, names: Iterable[str]) -> None:
    """Copy the files of these names that exist. If both folders are the same, nothing changes."""
    for name in names:
        if (source / name).is_file() and source.resolve() != target.resolve():
            shutil.copyfile(source / name, target / name)


def bring_folder(source: Path, target: Path) -> None:
    """Bring a folder's files along, as hard links where the disk allows it. Files that are there already stay."""
    shutil.copytree(source, target, copy_function=_link_or_copy, dirs_exist_ok=True)


def _link_or_copy(source: str, target: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        if os.path.samefile(source, target):
            return
    Path(target).unlink(missing_ok=True)
    try:
        os.link(os.path.realpath(source), target)  # the hub's cache holds symbolic links
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)


def hash_ends(digest: hashlib._Hash, path: Path) -> None:
    """Add a file's first and last mebibyte to a digest. Hashing all of 2.5 GB would take seconds each time."""
    with path.open("rb") as file:
        digest.update(file.read(_END_BYTES))
        file.seek(max(0, path.stat().st_size - _END_BYTES))
        digest.update(file.read())


_DEVICES = re.compile(r"(?i)(con|prn|aux|nul|conin\$|conout\$|(?:com|lpt)[0-9¹²³])(?=[ .]|$)")
"""Windows reads a name that begins so as a device, whatever ending it has."""


def safe_name(name: str) -> str:
    """Make a file name of an id: no separators, no leading dot, no control characters, no device name, at most 150 bytes."""
    name = re.sub(r"[^\w.,+=@ -]+", "_", name).strip(" .")
    name = _DEVICES.sub(r"\1_", name, count=1) if _DEVICES.match(name) else name
    # File systems allow 255 bytes; an ending and a number are added later.
    return name.encode()[:150].decode(errors="ignore").strip(" .") or "_"
