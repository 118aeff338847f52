"""Write files and folders atomically: they are complete under their name or absent; one process writes at a time."""

import errno
import hashlib
import json
import os
import platform
import re
import secrets
import shutil
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from filelock import FileLock, Timeout

from stadia.core.errors import StadiaError, mask_secrets, summarize_exception

IS_WINDOWS = sys.platform == "win32"
"""Whether this is Windows, which cannot sync folders, or files that are open for reading only."""

SYNC_THREADS = 8
"""Number of files that are synced to disk in parallel. A journaling file system commits waiting syncs together."""

_SYNC_BATCH = 1024
_STALE_S = 24 * 3600.0  # No process of another machine still writes a temporary file after a day.
_STEM_BYTES = 100  # file systems limit a name to 255
_CLEANED: set[str] = set()
"""Folders whose stale temporary files this process has removed."""

THIS_MACHINE = hashlib.sha256(platform.node().encode()).hexdigest()[:8]
"""Component of temporary file names that identifies the machine, because process ids have no meaning on others."""

FULL_DISK = "a full disk"
"""The `found` text of the error for a full disk starts with this. A sweep over many trainings stops at this error."""

_TEMPORARY_NAME = re.compile(
    r"\..*\.(?P<machine>[0-9a-f]{8})-(?P<process>\d{1,9})\.[a-z0-9_]{8}\.partial(\.[^.]*)?", re.DOTALL
)
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NO_ACCESS = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.EISDIR)
_PARTLY_WRITTEN = re.compile(r"\d+ requested and \d+ written")  # numpy's OSError, which has no number

LOCK_FILE = ".lock"
"""Name of the file in an output folder that shows that a process is writing there.

It is inside the folder, because the folder's parent may be read-only.
"""

PROBE_S = 0.5
"""Seconds to wait for a lock. A program that only reads, such as `stadia app`, holds a lock for a moment."""


def open_to_append(path: Path) -> BinaryIO:
    """Open a file to append bytes. Raises OSError if the path is a link or a pipe."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
    for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"):  # some systems lack them
        flags |= getattr(os, name, 0)
    return os.fdopen(os.open(path, flags, 0o644), "ab")


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path; when the `with` block ends without an error, its file is synced and renamed to `path`.

    After an error it is removed. The first write into a folder removes the temporary files of killed processes.
    `sync_later` delays the sync.

    Raises StadiaError if the disk is full or the folder is read-only.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with atomic_write(Path(folder, "a.txt")) as temporary:
        ...         _ = temporary.write_text("complete")
        ...     Path(folder, "a.txt").read_text()
        'complete'
    """
    with _replace_whole(os.fspath(path)) as temporary:
        yield Path(temporary)


@contextmanager
def open_atomic(path: str | Path) -> Iterator[BinaryIO]:
    """Yield a binary stream; when the `with` block ends without an error, what was written replaces the file `path`.

    Raises StadiaError if the disk is full or the folder is read-only.
    """
    with _replace_whole(os.fspath(path)) as temporary, open(temporary, "wb") as stream:
        yield stream


@contextmanager
def _replace_whole(path: str) -> Iterator[str]:
    folder, name = os.path.split(path)
    folder = folder or os.curdir
    temporary = ""
    with _explain_write_errors(path):
        try:
            temporary = _make_temporary(folder, name)
            yield temporary
            absolute = os.path.abspath(path)
            is_synced_later = any(absolute.startswith(prefix) for prefix in tuple(_SYNCED_LATER))
            if not is_synced_later:
                _sync(temporary)
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
            temporary = ""
            if not is_synced_later:
                _sync_folder(folder)
        finally:
            if temporary:
                with suppress(OSError):  # the first error is the cause
                    os.unlink(temporary)


_SYNCED_LATER: set[str] = set()
"""Absolute paths of folders that are synced later; they end with a separator."""


@contextmanager
def sync_later(folder: Path) -> Iterator[None]:
    """Delay the disk syncs of `atomic_write` in a folder: all its files are synced once, when the `with` block ends."""
    prefix = os.path.join(os.path.abspath(folder), "")
    _SYNCED_LATER.add(prefix)
    try:
        yield
    finally:
        _SYNCED_LATER.discard(prefix)
    _sync_all(os.path.join(place, name) for place, _, names in os.walk(prefix) for name in names)
    for place, _, _ in os.walk(prefix):
        _sync_folder(place)


def _make_temporary(folder: str, name: str) -> str:
    stem, suffix = os.path.splitext(name)
    stem = stem.encode("utf-8", "surrogateescape")[:_STEM_BYTES].decode("utf-8", "ignore")
    os.makedirs(folder, exist_ok=True)
    remove_stale_files(folder)
    handle, temporary = tempfile.mkstemp(f".partial{suffix}", _make_prefix(stem), folder)
    os.close(handle)  # Windows cannot rename open files
    return temporary


def make_temporary_folder(folder: Path, name: str) -> Path:
    """Create an empty folder for temporary files, and return it. Its name contains this process, so leftovers can be
    removed.

    folder: the parent of the new folder.
    name: start of its name.
    """
    remove_stale_files(folder)
    stem = name.encode("utf-8", "surrogateescape")[:_STEM_BYTES].decode("utf-8", "ignore")
    temporary = Path(folder, f"{_make_prefix(stem)}{secrets.token_hex(4)}.partial")
    temporary.mkdir()
    return temporary


def _make_prefix(stem: str) -> str:
    return f".{stem}.{THIS_MACHINE}-{os.getpid()}."


def remove_stale_files(folder: str | Path) -> None:
    """Remove the temporary files that killed processes left in a folder, and day-old ones of other machines.

    A process does this only once for a folder.
    """
    absolute = os.path.abspath(folder)
    if absolute in _CLEANED:
        return
    for entry in os.scandir(folder):
        is_folder = entry.is_dir(follow_symlinks=False)
        name = match_temporary_name(entry.name) if is_folder or entry.is_file(follow_symlinks=False) else None
        with suppress(OSError):  # another process may remove it at the same time
            if name and _is_stale(entry.stat(), name["machine"], int(name["process"])):
                shutil.rmtree(entry.path) if is_folder else os.unlink(entry.path)
    _CLEANED.add(absolute)


def _is_stale(status: os.stat_result, machine: str, process: int) -> bool:
    import psutil

    if machine == THIS_MACHINE:
        return not psutil.pid_exists(process)
    return time.time() - status.st_mtime > _STALE_S


@contextmanager
def atomic_folder(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """Yield an empty temporary folder; when the `with` block ends without an error, it is synced and renamed to `path`.

    After an error it is removed.

    path: must not exist, or be empty.
    replace: accept an existing folder, which is removed on success.

    Raises StadiaError if the disk is full, the place is read-only, or another process writes there.
    """
    path = Path(path)
    temporary: Path | None = None
    earlier: Path | None = None
    with _explain_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with hold_lock(path.parent / f".{path.name}.lock", path), _explain_write_errors(path):
        try:
            temporary = make_temporary_folder(path.parent, path.name)
            yield temporary
            _sync_all(file for file in temporary.rglob("*") if file.is_file())
            with suppress(OSError):  # Windows cannot rename to an existing folder
                path.rmdir()
            if replace and path.exists():
                earlier = make_temporary_folder(path.parent, path.name)
                path.rename(earlier / path.name)
            temporary.rename(path)
            _sync_folder(path.parent)
        finally:
            for folder in filter(None, (temporary, earlier)):
                if folder is earlier and not path.exists():
                    folder.joinpath(path.name).rename(path)
                shutil.rmtree(folder, ignore_errors=True)


def _sync(path: str | Path) -> None:
    with open(path, "r+b" if IS_WINDOWS else "rb") as stream:
        os.fsync(stream.fileno())


def _sync_all(paths: Iterable[str | Path]) -> None:
    left = iter(paths)
    with ThreadPoolExecutor(SYNC_THREADS) as pool:
        while batch := list(islice(left, _SYNC_BATCH)):
            deque(pool.map(_sync, batch), maxlen=0)


def _sync_folder(folder: str | Path) -> None:
    if not IS_WINDOWS:
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file atomically: it is complete under its name or unchanged."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write lines to a UTF-8 text file atomically. The lines may come from a generator, and are not kept in memory."""
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8") as stream:
        for line in lines:
            stream.write(f"{line}\n")


def write_json(path: Path, value: Any) -> None:
    """Write a value to an indented JSON file atomically, without the secrets of addresses.

    Raises ValueError if the value contains NaN or infinity.
    """
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8") as stream:
        stream.writelines(map(mask_secrets, json.JSONEncoder(indent=2, allow_nan=False).iterencode(value)))
        stream.write("\n")


# -- reasons why a file could not be written


def match_temporary_name(name: str) -> re.Match[str] | None:
    """Return a match with the groups `machine` and `process` if a file name belongs to a temporary file; otherwise
    None.

    Examples:
        >>> match_temporary_name(".last.0a1b2c3d-12.x1y2z3_4.partial.safetensors")["process"]
        '12'
    """
    return _TEMPORARY_NAME.fullmatch(name)


def is_full_disk(error: OSError) -> bool:
    """Return whether an error occurred because a disk or a limit of file sizes is full. NumPy's has no number."""
    return error.errno in _NO_SPACE or (error.errno is None and _PARTLY_WRITTEN.search(str(error)) is not None)


def explain_write_error(error: OSError, path: str | Path) -> None:
    """Raise StadiaError with an explanation if an error occurred because `path` could not be written.

    Returns without an exception if the error belongs to another file.

    error: the error of the operating system.
    path: the file that was being written.
    """
    reason = error.strerror or summarize_exception(error)
    if is_full_disk(error):
        expected, fix = "free space for the file", "free some disk space, or raise the limit of `ulimit -f`"
        raise StadiaError(path, found=f"{FULL_DISK} ({reason})", expected=expected, fix=fix) from error
    if error.errno in _NO_ACCESS:
        found, expected = f"a place that is not writable ({reason})", "a writable place"
        raise StadiaError(path, found=found, expected=expected, fix="choose another place to write to") from error
    is_ours = error.filename is None or match_temporary_name(Path(os.fsdecode(error.filename)).name)
    if is_ours and not isinstance(error, BrokenPipeError):  # errors of write and sync name no file
        found, fix = f"a file that cannot be written ({reason})", "check the disk, then run the command again"
        raise StadiaError(path, found=found, expected="a writable file", fix=fix) from error


@contextmanager
def _explain_write_errors(path: str | Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        explain_write_error(error, path)
        raise


# -- the lock of an output


@contextmanager
def hold_lock(path: Path, output: Path, refusal: StadiaError | None = None) -> Iterator[None]:
    """Hold a lock file while the `with` block writes an output. The lock of a killed process is released.

    path: path of the lock file.
    output: what the block writes, for messages.
    refusal: error to raise, instead of the usual one, if another process holds the lock.

    Raises StadiaError if another process holds the lock, or the lock file cannot be created.
    """
    lock = FileLock(path)
    with _explain_write_errors(output):
        if os.path.lexists(path) and (path.is_symlink() or not path.is_file() or path.stat().st_size):
            found = "a file that is not a lock of stadia"
            raise StadiaError(
                path,
                found=found,
                expected="no file of this name",
                fix="rename the existing file, or choose another output",
            )
        try:
            lock.acquire(timeout=PROBE_S, poll_interval=PROBE_S / 10)
        except Timeout:
            raise refusal or StadiaError(
                output,
                found="another process that writes it",
                expected="one process at a time",
                fix="wait until it ends, or choose another output",
            ) from None
    try:
        yield
    finally:
        with suppress(OSError):  # Windows cannot remove open files
            path.unlink()
        lock.release()


@contextmanager
def hold_folder(folder: Path) -> Iterator[None]:
    """Create an output folder if needed, and hold its lock while the `with` block writes into it.

    Raises StadiaError if another process holds the lock, or the folder cannot be created.
    """
    with _explain_write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with hold_lock(folder / LOCK_FILE, folder):
        yield


def is_empty(folder: Path) -> bool:
    """Return whether a folder contains nothing; a lock file (LOCK_FILE) does not matter."""
    return all(path.name == LOCK_FILE for path in folder.iterdir())
