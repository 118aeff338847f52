"""Write files and folders atomically: whole under their name, or not at all. Reading is in `input_files`."""

from __future__ import annotations

import errno
import hashlib
import importlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections import deque
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from stadia.core.errors import DataError, StadiaError
from stadia.files.write_errors import TEMPORARY_NAME, explain_write_error

IS_WINDOWS = sys.platform == "win32"
"""Whether an open file cannot be renamed or removed, and a folder cannot be opened."""

SYNC_THREADS = 8
"""A sync waits for the disk, and a journal commits those that wait together."""

_SYNC_BATCH = 1024  # files that are handed to these threads at once: a waiting one takes a kilobyte

_STALE_S = 24 * 3600.0  # age of a temporary file that no process writes any more, where it cannot hold a lock
_STEM_BYTES = 100  # of a temporary name, which a file system limits to 255
_CLEANED: set[str] = set()
"""Folders whose stale temporary files this process has removed."""


def is_existing_path(path: str | Path) -> bool:
    """Return whether a path exists; False for one that no file can have, such as a word of 300 letters."""
    try:
        return Path(path).exists()
    except (OSError, ValueError):
        return False


def expand_home(path: str | Path) -> Path:
    """Return a path with `~` as the home folder. `~name` stays where no user has this name: it may be a file."""
    return Path(os.path.expanduser(path))  # Path.expanduser raises


def make_absolute(path: str | Path) -> Path:
    """Return an absolute path without `..`, which is what the system opens: links before a `..` are followed.

    Examples:
        >>> make_absolute("/data/../data/kitti").as_posix()
        '/data/kitti'
    """
    parts = expand_home(path).absolute().parts
    last = max((number for number, part in enumerate(parts, start=1) if part == ".."), default=0)
    return Path(os.path.realpath(Path(*parts[:last])), *parts[last:]) if last else Path(*parts)


def is_same_place(one: Path, other: Path) -> bool:
    """Return whether two paths lead to one place, which need not exist; a loop of links leads to itself."""
    return os.path.realpath(expand_home(one)) == os.path.realpath(expand_home(other))


def check_writable(folder: Path) -> None:
    """Raise StadiaError where `folder` cannot be created or written to. Creates nothing."""
    folder = expand_home(folder)
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        explain_write_error(error, folder)
        if error.errno in (errno.ENOENT, errno.EINVAL, errno.EOPNOTSUPP):  # as of /proc: it names a temporary file
            found, expected = "a place where no file can be made", "a folder that can be written to"
            raise StadiaError(folder, found=found, expected=expected, fix="choose another place to write to") from error
        raise


_OPTUNA_LOCK = "optuna.log.lock"  # a link that Optuna makes and removes; nothing is written through it


def check_no_links(folder: Path, skip: Collection[str] = ("wandb",)) -> None:
    """Raise StadiaError where a folder that is written into holds a symbolic link, at any depth.

    What is written or removed there would be outside: in a run of somebody else, `checkpoints` may lead to your home.
    The folder itself may be a link, which its user made or named.

    Args:
        skip: names of folders that may hold links. W&B makes some; a study links whole runs.
    """
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(place, name)
            if path.is_symlink() and not name.startswith(_OPTUNA_LOCK):
                found, expected = "a symbolic link in a folder that is written into", "files and folders alone"
                raise StadiaError(path, found=found, expected=expected, fix="remove it, or copy there what it leads to")
        folders[:] = [name for name in folders if name not in skip]


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
    with _replace_whole(os.fspath(path)) as (temporary, _):
        yield Path(temporary)


@contextmanager
def open_atomic(path: str | Path) -> Iterator[BinaryIO]:
    """Yield a stream for the content of a file, which is then synced and renamed as by `atomic_write`.

    For files of many frames name them as text, by `join_name`: each Path puts its names into Python's table of strings,
    which grows with them.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with open_atomic(join_name(folder, "a.bin")) as stream:
        ...         _ = stream.write(b"complete")
        ...     Path(folder, "a.bin").read_bytes()
        b'complete'
    """
    with (
        _replace_whole(os.fspath(path)) as (temporary, handle),
        open(temporary if handle is None else handle, "wb", closefd=handle is None) as stream,
    ):
        yield stream


@contextmanager
def _replace_whole(path: str) -> Iterator[tuple[str, int | None]]:
    """Yield a temporary file beside `path`, and its descriptor where it may stay open; as `atomic_write`."""
    folder, name = os.path.split(path)
    temporary: str | None = None
    with ExitStack() as locked:
        try:
            temporary, handle = _make_temporary(folder or os.curdir, name, locked)
            yield temporary, handle
            absolute = os.path.abspath(path)
            is_synced_later = any(absolute.startswith(prefix) for prefix in tuple(_SYNCED_LATER))
            if not is_synced_later:
                _sync(temporary)
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
            temporary = None
            if not is_synced_later:
                _sync_folder(folder or os.curdir)
        except OSError as error:
            explain_write_error(error, path)
            raise
        finally:
            if temporary is not None:
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


def _make_temporary(folder: str, name: str, locked: ExitStack) -> tuple[str, int | None]:
    """Create an empty file in a folder, which is made where it is missing. Return its path and its descriptor.

    Its lock is held: a temporary file without a lock is stale. On Windows it has no lock and no descriptor, and is
    stale after a day.
    """
    stem, suffix = os.path.splitext(name)
    stem = stem.encode("utf-8", "surrogateescape")[:_STEM_BYTES].decode("utf-8", "ignore")
    naming = f".partial{suffix}", f".{stem}.", folder
    while True:
        try:
            remove_stale_files(folder)
            handle, temporary = tempfile.mkstemp(*naming)
        except FileNotFoundError:
            os.makedirs(folder, exist_ok=True)
            handle, temporary = tempfile.mkstemp(*naming)
        if IS_WINDOWS:  # an open file cannot be renamed
            os.close(handle)
            return temporary, None
        locked.callback(os.close, handle)
        if try_lock(handle) is not False and os.path.exists(temporary):  # else another took it for a stale one
            return temporary, handle


def remove_stale_files(folder: str | Path) -> None:
    """Remove the temporary files of `atomic_write` that no process holds; once in a process for each folder."""
    absolute = os.path.abspath(folder)
    if absolute in _CLEANED:
        return
    real = os.path.realpath(absolute)
    is_cleaned = real in _CLEANED
    _CLEANED.update((absolute, real))
    if is_cleaned:
        return
    for entry in os.scandir(folder):
        if TEMPORARY_NAME.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
            with suppress(OSError):  # another process may remove it at the same time
                _remove_if_stale(Path(entry.path))


def _remove_if_stale(temporary: Path) -> None:
    """Remove a temporary file that no process writes. Raises OSError where it is gone."""
    with ExitStack() as held:  # the lock is kept until the file is gone: its writer may be about to take it
        is_locked: bool | None = None
        if not IS_WINDOWS:
            handle = os.open(temporary, os.O_RDWR | os.O_NOFOLLOW)
            held.callback(os.close, handle)
            is_locked = try_lock(handle)
        if is_locked or (is_locked is None and time.time() - temporary.stat().st_mtime > _STALE_S):
            temporary.unlink()


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder beside `path`; on a clean exit sync its files and rename it to `path`, else remove it.

    Its name is fixed, so that the next process removes what a killed one left half-written. `path` must not exist yet,
    or be empty. Raises StadiaError where the disk is full, the folder cannot be written to, or another process writes
    it.
    """
    path = Path(path)
    temporary = path.parent / f".{path.name}.partial"
    made = [parent for parent in path.parents if not parent.exists()]
    with ExitStack() as locked:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if temporary.is_symlink():  # what it leads to is no half-written folder
                temporary.unlink()
            temporary.mkdir(exist_ok=True)
            locked.enter_context(hold_lock(temporary, path))
            _remove_content(temporary)
        except OSError as error:
            explain_write_error(error, path)
            raise
        try:
            yield temporary
            _sync_all([file for file in temporary.rglob("*") if file.is_file()])
            if IS_WINDOWS:
                with suppress(OSError):  # no folder can be renamed to one that exists, also an empty one
                    path.rmdir()
            temporary.rename(path)
            _sync_folder(path.parent)
        except OSError as error:
            explain_write_error(error, path)
            raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
            for parent in made:
                with suppress(OSError):  # it holds the new folder, or another's file
                    parent.rmdir()


def _remove_content(folder: Path) -> None:
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


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


@contextmanager
def hold_lock(path: Path, output: Path | None = None) -> Iterator[bool]:
    """Hold the lock of a file or folder that exists; kill -9 releases it. Yields False on file systems without locks.

    output: its name for the user, `path` by default. Raises StadiaError where another process holds it.
    """
    handle = _open_for_lock(path)
    try:
        if (is_locked := try_lock(handle)) is False:
            raise StadiaError(
                output or path,
                found="another process that writes it",
                expected="one process at a time",
                fix="wait until it has ended, or choose another output",
            )
        yield bool(is_locked)
    finally:
        os.close(handle)


def _open_for_lock(path: Path) -> int:
    """Open the file that carries the lock of `path`: itself, or on Windows one in the folder of temporary files."""
    if not IS_WINDOWS:
        return os.open(path, os.O_RDONLY)
    name = os.path.normcase(os.path.realpath(path)).encode("utf-8", "surrogatepass")
    file = Path(tempfile.gettempdir()) / f"stadia-{hashlib.sha256(name).hexdigest()[:32]}.lock"
    return os.open(file, os.O_RDWR | os.O_CREAT)


@contextmanager
def hold_folder(folder: Path) -> Iterator[bool]:
    """Make an output folder where it is missing, and hold its lock, as `hold_lock`.

    Raises StadiaError where another process writes it, or it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        explain_write_error(error, folder)
        raise
    with hold_lock(folder) as is_locked:
        yield is_locked


def try_lock(descriptor: int) -> bool | None:
    """Take the lock of an open file without waiting.

    Returns False where another process has it, and None on file systems without locks. On Windows the first byte is
    locked, which others can then neither read nor write.
    """
    module: Any = importlib.import_module("msvcrt" if IS_WINDOWS else "fcntl")
    try:
        if IS_WINDOWS:
            module.locking(descriptor, module.LK_NBLCK, 1)
        else:
            module.flock(descriptor, module.LOCK_EX | module.LOCK_NB)
    except OSError as error:
        return False if isinstance(error, PermissionError if IS_WINDOWS else BlockingIOError) else None
    return True


@contextmanager
def open_scratch_file(folder: Path) -> Iterator[BinaryIO]:
    """Open a file without a name in `folder`, for what would grow in memory. It is gone when the process ends."""
    try:
        with tempfile.TemporaryFile(dir=folder) as stream:
            yield stream
    except OSError as error:
        if error.filename is None:  # of the scratch file, which has no name
            explain_write_error(error, folder)
        raise


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


def join_name(folder: str | Path, name: str) -> str:
    """Return the path of a file of a folder as text, for files of many frames. Raises DataError for another path.

    Examples:
        >>> join_name("depth", "frame.000001.npz")
        'depth/frame.000001.npz'
    """
    marks = {"\0", os.sep, os.altsep or os.sep} | ({":"} if os.name == "nt" else set())
    if name in ("", os.curdir, os.pardir) or any(mark in name for mark in marks) or not _can_be_encoded(name):
        found, fix = "a name that leaves its folder, or that no file can have", "rename the image"
        raise DataError(repr(name[:60]), found=found, expected="the name of one file", fix=fix)
    return os.path.join(folder, name)


def _can_be_encoded(name: str) -> bool:
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        return False
    return True


def safe_join(folder: Path, name: str) -> Path:
    """Return `folder / name`. Raises DataError where that leaves the folder, or is a name that no file can have.

    Examples:
        >>> safe_join(Path("run"), "images/0.png").name
        '0.png'
    """
    try:
        path = (Path(folder) / name).resolve()
        with suppress(FileNotFoundError, NotADirectoryError, PermissionError):
            path.lstat()
    except (OSError, ValueError, RuntimeError) as error:  # too long, a NUL, a lone surrogate, a loop of links
        found, expected = "a name that no file can have", f"a path inside {folder}"
        raise DataError(repr(name[:60]), found=found, expected=expected, fix="correct the entry") from error
    if not path.is_relative_to(Path(folder).resolve()):
        raise DataError(
            name, found="a path outside its folder", expected=f"a path inside {folder}", fix="correct the entry"
        )
    return path
