"""Check paths: what they lead to, whether they can be written to, and whether they stay inside their folder."""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import re
import stat
import sys
import tempfile
from collections.abc import Collection
from pathlib import Path

import platformdirs

from stadia.core.errors import DataError, StadiaError
from stadia.files.atomic_files import explain_write_error


def is_existing_path(path: str | Path) -> bool:
    """Return whether a path exists; False for one that no file can have, such as a word of 300 letters."""
    try:
        return Path(path).exists()
    except (OSError, ValueError):
        return False


def is_glob(path: str | Path) -> bool:
    """Return whether a path is a pattern, as `drives/*/front.mp4`, and no file has this very name.

    Examples:
        >>> is_glob("drives/*/front.mp4"), is_glob("drives")
        (True, False)
    """
    return any(mark in str(path) for mark in "*?[") and not is_existing_path(path)


def find_glob(pattern: str | Path) -> list[Path]:
    """Return the paths that match a pattern, in natural order; `**` matches folders at any depth."""
    return sorted(
        map(Path, glob.glob(str(pattern), recursive=True)), key=lambda path: natural_sort_key(path, whole=True)
    )


def expand_home(path: str | Path) -> Path:
    """Return a path with `~` as the home folder. `~name` stays where no user has this name: it may be a file."""
    return Path(os.path.expanduser(path))


def make_absolute(path: str | Path) -> Path:
    """Return an absolute path without `..`, which is what the system opens: links before a `..` are followed.

    Examples:
        >>> make_absolute("/data/../data/kitti").as_posix()
        '/data/kitti'
    """
    parts = expand_home(path).absolute().parts
    last = max((number for number, part in enumerate(parts, start=1) if part == ".."), default=0)
    return Path(os.path.realpath(Path(*parts[:last])), *parts[last:]) if last else Path(*parts)


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
            if path.is_symlink():
                found, expected = "a symbolic link in a folder that is written into", "files and folders alone"
                raise StadiaError(path, found=found, expected=expected, fix="remove it, or copy there what it leads to")
        folders[:] = [name for name in folders if name not in skip]


def natural_sort_key(path: Path, *, whole: bool = False) -> tuple[tuple[int, int | str], ...]:
    """Return a sort key that puts `frame2` before `frame10`, by the name, or by the whole path.

    Examples:
        >>> sorted([Path("frame10.png"), Path("frame2.png")], key=natural_sort_key)[0].name
        'frame2.png'
    """
    text = path.as_posix() if whole else path.name
    return tuple((0, int(part)) if part.isdecimal() else (1, part) for part in re.split(r"(\d+)", text) if part)


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
        with contextlib.suppress(FileNotFoundError, NotADirectoryError, PermissionError):
            path.lstat()
    except (OSError, ValueError, RuntimeError) as error:  # too long, a NUL, a lone surrogate, a loop of links
        found, expected = "a name that no file can have", f"a path inside {folder}"
        raise DataError(repr(name[:60]), found=found, expected=expected) from error
    if not path.is_relative_to(Path(folder).resolve()):
        raise DataError(name, found="a path outside its folder", expected=f"a path inside {folder}")
    return path


# -- Folders of the user alone: `docs/explanation/security.md` has the rules.

PRIVATE_MODE = 0o700
CLOSED_MODE = 0o755


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
