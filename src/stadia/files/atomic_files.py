"""Write files and folders atomically: whole under their name, or not at all, and by one process at a time.

Reading is in `input_files`.
"""

from __future__ import annotations

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

from stadia.core.errors import StadiaError, summarize_exception

IS_WINDOWS = sys.platform == "win32"
"""Windows syncs no folder, and no file that is open for reading alone."""

SYNC_THREADS = 8
"""A journal commits the files whose syncs wait together, which is faster than one sync after the other."""

_SYNC_BATCH = 1024  # files that are handed to these threads at once: a waiting one takes a kilobyte

_STALE_S = 24 * 3600.0  # age of a temporary file that a process of another machine writes no more
_STEM_BYTES = 100  # of a temporary name, which a file system limits to 255
_CLEANED: set[str] = set()
"""Folders whose stale temporary files this process has removed."""

THIS_MACHINE = hashlib.sha256(platform.node().encode()).hexdigest()[:8]
"""Temporary files have the machine in their names: a folder may be shared, and process ids are those of one machine."""

FULL_DISK = "a full disk"
"""A sweep does not go on with the next trial after this error: it would fail too."""

_TEMPORARY_NAME = re.compile(
    r"\..*\.(?P<machine>[0-9a-f]{8})-(?P<process>\d{1,9})\.[a-z0-9_]{8}\.partial(\.[^.]*)?", re.DOTALL
)
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NO_ACCESS = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.EISDIR)
_PARTLY_WRITTEN = re.compile(r"\d+ requested and \d+ written")  # numpy's words, in an OSError without a number

LOCK_FILE = ".lock"
"""The lock of a folder is a file inside it: its parent may be a place where nothing else can be written."""

PROBE_S = 0.5
"""Time to wait for a lock: a process that looks whether it is held, such as `stadia app`, holds it for a moment."""


def open_to_append(path: Path) -> BinaryIO:
    """Open a file to append to it, new where it is missing. Raises OSError where it is a symbolic link or a pipe."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
    for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"):  # which some systems lack
        flags |= getattr(os, name, 0)
    return os.fdopen(os.open(path, flags, 0o644), "ab")


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on a clean exit sync it and rename it to `path`, else remove it.

    In a block of `sync_later` it is renamed at once and synced at the end of the block.

    The temporary name keeps the suffix, because some writers choose the format by it. The first write into a folder
    removes the temporary files of processes that were killed there. Raises StadiaError where the disk is full or the
    folder cannot be written to.

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
    """Yield a stream for the content of a file, which is then synced and renamed as by `atomic_write`.

    For files of many frames name them as text, by `paths.join_name`: each Path puts its names into Python's table of
    strings, which grows with them.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with open_atomic(Path(folder, "a.bin")) as stream:
        ...         _ = stream.write(b"complete")
        ...     Path(folder, "a.bin").read_bytes()
        b'complete'
    """
    with _replace_whole(os.fspath(path)) as temporary, open(temporary, "wb") as stream:
        yield stream


@contextmanager
def _replace_whole(path: str) -> Iterator[str]:
    """Yield a temporary file beside `path`, as `atomic_write`."""
    folder, name = os.path.split(path)
    folder = folder or os.curdir
    temporary = ""
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
    except OSError as error:
        explain_write_error(error, path)
        raise
    finally:
        if temporary:
            with suppress(OSError):  # the first error is the cause
                os.unlink(temporary)


_SYNCED_LATER: set[str] = set()
"""Absolute paths of folders, with a separator at their end."""


@contextmanager
def sync_later(folder: Path) -> Iterator[None]:
    """Sync the files that `atomic_write` writes into a folder, in any thread, once at the end of the block.

    For many files that mean nothing before a last one states that they are complete: write that one after the block.
    To sync each by itself takes longer than to compress it. Nothing is synced after an error.
    """
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
    """Create an empty file in a folder, which is made where it is missing. Its name states which process writes it."""
    stem, suffix = os.path.splitext(name)
    stem = stem.encode("utf-8", "surrogateescape")[:_STEM_BYTES].decode("utf-8", "ignore")
    os.makedirs(folder, exist_ok=True)
    remove_stale_files(folder)
    handle, temporary = tempfile.mkstemp(f".partial{suffix}", _make_prefix(stem), folder)
    os.close(handle)  # Windows renames no open file
    return temporary


def make_temporary_folder(folder: Path, name: str) -> Path:
    """Create an empty folder in another one, which exists. Its name states which process fills it."""
    remove_stale_files(folder)
    stem = name.encode("utf-8", "surrogateescape")[:_STEM_BYTES].decode("utf-8", "ignore")
    temporary = Path(folder, f"{_make_prefix(stem)}{secrets.token_hex(4)}.partial")
    temporary.mkdir()
    return temporary


def _make_prefix(stem: str) -> str:
    return f".{stem}.{THIS_MACHINE}-{os.getpid()}."


def remove_stale_files(folder: str | Path) -> None:
    """Remove the temporary files and folders of this module that no process writes; once in a process for each folder.

    Nothing else is removed: their names state the machine and the process. Of this machine those of processes that have
    ended, of another one those that are older than a day.
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
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder beside `path`; on a clean exit sync its files and rename it to `path`, else remove it.

    The next process that writes beside it removes what a killed one left half-written. `path` must not exist yet, or be
    empty. Raises StadiaError where the disk is full, the folder cannot be written to, or another process writes it.
    """
    path = Path(path)
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        explain_write_error(error, path)
        raise
    with hold_lock(path.parent / f".{path.name}.lock", path):
        try:
            temporary = make_temporary_folder(path.parent, path.name)
            yield temporary
            _sync_all(file for file in temporary.rglob("*") if file.is_file())
            with suppress(OSError):  # Windows renames no folder to one that exists
                path.rmdir()
            temporary.rename(path)
            _sync_folder(path.parent)
        except OSError as error:
            explain_write_error(error, path)
            raise
        finally:
            if temporary is not None:
                shutil.rmtree(temporary, ignore_errors=True)


def _sync(path: str | Path) -> None:
    with open(path, "r+b" if IS_WINDOWS else "rb") as stream:  # Windows syncs only what can be written to
        os.fsync(stream.fileno())


def _sync_all(paths: Iterable[str | Path]) -> None:
    """Sync files in threads. Raises the error of the first one that cannot be synced."""
    left = iter(paths)
    with ThreadPoolExecutor(SYNC_THREADS) as pool:
        while batch := list(islice(left, _SYNC_BATCH)):
            deque(pool.map(_sync, batch), maxlen=0)


def _sync_folder(folder: str | Path) -> None:
    """Sync a folder's entries, so that a rename survives a power failure. Windows has no such call."""
    if not IS_WINDOWS:
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write UTF-8 lines atomically, one at a time: a long list takes no memory as text. The line ends are added."""
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8") as stream:
        for line in lines:
            stream.write(f"{line}\n")


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically: indented, keys in the given order, NaN refused.

    Examples:
        >>> import json, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_json(Path(folder, "a.json"), {"depth_scale": "metres"})
        ...     json.loads(Path(folder, "a.json").read_text())
        {'depth_scale': 'metres'}
    """
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8") as stream:
        stream.writelines(json.JSONEncoder(indent=2, allow_nan=False).iterencode(value))  # piece by piece
        stream.write("\n")


# -- why a file could not be written: a full disk, a limit, no access, or a name that is taken


def match_temporary_name(name: str) -> re.Match[str] | None:
    """Return machine and process of the name of a file that is being written (`atomic_write`); None for other names.

    Examples:
        >>> match_temporary_name(".last.0a1b2c3d-12.x1y2z3_4.partial.safetensors")["process"]
        '12'
    """
    return _TEMPORARY_NAME.fullmatch(name)


def explain_write_error(error: OSError, path: str | Path) -> None:
    """Raise StadiaError for an error of writing `path`; return for an error that names another file."""
    reason = error.strerror or summarize_exception(error)
    if error.errno in _NO_SPACE or (error.errno is None and _PARTLY_WRITTEN.search(str(error))):
        expected, fix = "free space for the file", "free some space, or raise the limit of `ulimit -f`"
        raise StadiaError(path, found=f"{FULL_DISK} ({reason})", expected=expected, fix=fix) from error
    if error.errno in _NO_ACCESS:
        found, expected = f"a place that cannot be written to ({reason})", "a file in a folder that can be written to"
        raise StadiaError(path, found=found, expected=expected, fix="choose another place to write to") from error
    is_ours = error.filename is None or match_temporary_name(Path(os.fsdecode(error.filename)).name)
    if is_ours and not isinstance(error, BrokenPipeError):  # a write or a sync names no file
        found, expected = f"a file that cannot be written ({reason})", "a file that can be written"
        raise StadiaError(path, found=found, expected=expected, fix="check the disk, then run it again") from error


# -- the lock of an output: a second process that would write it is refused; a killed process holds none


@contextmanager
def hold_lock(path: Path, output: Path, refusal: StadiaError | None = None) -> Iterator[None]:
    """Hold a lock, a file that is made and removed again, while the block writes an output.

    Args:
        path: of the file.
        output: what the block writes, for messages.
        refusal: what is raised where another process holds the lock.

    Raises:
        StadiaError: another process holds the lock, its file cannot be made, or a file with content is in its place.
    """
    lock = FileLock(path)
    try:
        if os.path.lexists(path) and (path.is_symlink() or not path.is_file() or path.stat().st_size):
            found, expected = "something that is no lock of stadia's", "no file of this name"
            raise StadiaError(path, found=found, expected=expected, fix="rename it, or choose another output")
        lock.acquire(timeout=PROBE_S, poll_interval=PROBE_S / 10)
    except Timeout:
        raise refusal or StadiaError(
            output,
            found="another process that writes it",
            expected="one process at a time",
            fix="wait until it has ended, or choose another output",
        ) from None
    except OSError as error:
        explain_write_error(error, output)
        raise
    try:
        yield
    finally:
        with suppress(OSError):  # Windows removes no file that is open
            path.unlink()
        lock.release()


@contextmanager
def hold_folder(folder: Path) -> Iterator[None]:
    """Make an output folder where it is missing, and hold its lock, as `hold_lock`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        explain_write_error(error, folder)
        raise
    with hold_lock(folder / LOCK_FILE, folder):
        yield


def is_empty(folder: Path) -> bool:
    """Return whether a folder holds nothing but the lock of a process that writes it, or was killed."""
    return all(path.name == LOCK_FILE for path in folder.iterdir())
