"""Find folders of the user's cache that nobody else can write to. `docs/explanation/security.md` has the rules."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from pathlib import Path

import platformdirs

PRIVATE_MODE, CLOSED_MODE = 0o700, 0o755


def make_closed_folder(folder: Path) -> None:
    """Create a folder that only this user can write to, also where the umask lets the group write (002 of Linux).

    One that exists stays as it is.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=CLOSED_MODE)


def find_private_folder(name: str) -> Path | None:
    """Return the folder `stadia/NAME` of the user's cache (`~/.cache`), created where it is missing.

    Both folders belong to this user and are no links. The first can be written by nobody else, the second is closed to
    all others (mode 700). No folder above may let others rename them. None where one of these does not hold.
    """
    parent = Path(platformdirs.user_cache_dir()).absolute()
    shared, private = parent / "stadia", parent / "stadia" / name
    try:
        make_closed_folder(shared)
        with contextlib.suppress(FileExistsError):
            private.mkdir(mode=PRIVATE_MODE)
        if sys.platform == "win32":  # a profile is private there, and has no modes
            return private
        real = Path(os.path.realpath(parent))
        above = [real, *real.parents]
        is_private = _is_own(shared, closed=0o022) and _is_own(private, closed=0o077)
        return private if is_private and not any(map(_is_open_to_others, above)) else None
    except OSError:
        return None


def _is_own(folder: Path, *, closed: int) -> bool:
    """Return whether a folder is no link, belongs to this user, and gives others none of the permissions `closed`."""
    status = folder.lstat()
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not stat.S_IMODE(status.st_mode) & closed


def _is_open_to_others(folder: Path) -> bool:
    """Return whether any user can rename what a folder holds: writable for all, and not sticky as /tmp is."""
    mode = folder.stat().st_mode
    return bool(mode & stat.S_IWOTH) and not mode & stat.S_ISVTX
