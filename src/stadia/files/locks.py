"""Hold the lock of an output: a second process that would write it is refused. A killed process holds no lock."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from stadia.core.errors import StadiaError
from stadia.files.write_errors import explain_write_error

LOCK_FILE = ".lock"
"""The lock of a folder is a file inside it: its parent may be a place where nothing else can be written."""

PROBE_S = 0.5
"""Time to wait for a lock: a process that looks whether it is held, such as `stadia app`, holds it for a moment."""


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
