"""Check paths: their kind, whether they are writable, and whether they stay inside their folder."""

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

from stadia.core.errors import DataError, StadiaError, summarize_exception
from stadia.io.atomic_files import explain_write_error
from stadia.io.remote_store import is_url


def is_existing_path(path: str | Path) -> bool:
    """Return whether a path exists. Impossible names do not."""
    try:
        return Path(path).exists()
    except (OSError, ValueError):
        return False


def check_path_exists(path: Path) -> None:
    """Raise DataError if a path does not exist."""
    try:
        if not is_glob(path) and not is_url(path):
            path.stat()
    except (OSError, ValueError) as error:
        what: object = path
        found = "no such file or folder"
        if not isinstance(error, FileNotFoundError | NotADirectoryError):
            what, found = repr(str(path)[:200]), f"a path that cannot be read ({summarize_exception(error)})"
        expected = "a dataset's folder, a video file, or an image to predict"
        raise DataError(what, found=found, expected=expected, fix="check the path") from error


def is_glob(path: str | Path) -> bool:
    """Return whether a path is a pattern, such as `drives/*/front.mp4`, and not an existing file.

    Examples:
        >>> is_glob("drives/*/front.mp4"), is_glob("drives")
        (True, False)
    """
    return any(mark in str(path) for mark in "*?[") and not is_existing_path(path)


def find_glob(pattern: str | Path) -> list[Path]:
    """Return the paths that match a pattern, in natural order."""
    return sorted(
        map(Path, glob.glob(str(pattern), recursive=True)), key=lambda path: natural_sort_key(path, whole=True)
    )


def expand_home(path: str | Path) -> Path:
    """Return a path with `~` expanded. An unknown `~name` is kept."""
    return Path(os.path.expanduser(path))


def make_absolute(path: str | Path) -> Path:
    """Return an absolute path without `..`. Links are followed before `..` is applied, as the system does."""
    parts = expand_home(path).absolute().parts
    last = max((number for number, part in enumerate(parts, start=1) if part == ".."), default=0)
    return Path(os.path.realpath(Path(*parts[:last])), *parts[last:]) if last else Path(*parts)


def check_writable(folder: Path) -> None:
    """Raise StadiaError if `folder` cannot be created or written to. Nothing is created."""
    folder = expand_home(folder)
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        explain_write_error(error, folder)
        if error.errno in (errno.ENOENT, errno.EINVAL, errno.EOPNOTSUPP):  # in /proc, for example
            found, expected = "a place where no file can be created", "a writable folder"
            raise StadiaError(folder, found=found, expected=expected, fix="choose another place to write to") from error
        raise


def check_no_links(folder: Path, skip: Collection[str] = ("wandb",)) -> None:
    """Raise StadiaError if an output folder contains a symbolic link at any depth.

    Folders named `skip` are not searched.
    """
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(place, name)
            if path.is_symlink():
                found, expected = "a symbolic link in an output folder", "files and folders only"
                raise StadiaError(path, found=found, expected=expected, fix="remove it, or replace it by a copy")
        folders[:] = [name for name in folders if name not in skip]


def natural_sort_key(path: Path, *, whole: bool = False) -> tuple[tuple[int, int | str], ...]:
    """Return a sort key of a name, or of the `whole` path, that puts `frame2` before `frame10`.

    Examples:
        >>> sorted([Path("frame10.png"), Path("frame2.png")], key=natural_sort_key)[0].name
        'frame2.png'
    """
    text = path.as_posix() if whole else path.name
    return tuple((0, int(part)) if part.isdecimal() else (1, part) for part in re.split(r"(\d+)", text) if part)


def join_name(folder: str | Path, name: str) -> str:
    """Return the path of a file in a folder as text. Raises DataError if `name` leads out of the folder.

    Examples:
        >>> join_name("depth", "frame.000001.npz")
        'depth/frame.000001.npz'
    """
    marks = {"\0", os.sep, os.altsep or os.sep} | ({":"} if os.name == "nt" else set())
    is_valid = name not in ("", os.curdir, os.pardir) and not any(mark in name for mark in marks)
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        is_valid = False
    if not is_valid:
        found = "a name that leaves its folder, or that no file can have"
        raise DataError(repr(name[:60]), found=found, expected="the name of one file", fix="rename the image")
    return os.path.join(folder, name)


def safe_join(folder: Path, name: str) -> Path:
    """Return `folder / name`. Raises DataError if this leads out of the folder, or if no file can have this name.

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


# -- private folders: `docs/explanation/security.md` has the rules

PRIVATE_MODE = 0o700
CLOSED_MODE = 0o755


def make_closed_folder(folder: Path) -> None:
    """Create a folder to which only this user can write."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=CLOSED_MODE)


def find_private_folder(name: str) -> Path | None:
    """Return the folder `stadia/NAME` in the user's cache, which is created if missing, or None if it is not private.

    Only this user may write to `stadia` and read `stadia/NAME`. No link and no folder above them may allow others to
    rename them.
    """
    parent = Path(platformdirs.user_cache_dir()).absolute()
    shared, private = parent / "stadia", parent / "stadia" / name
    try:
        make_closed_folder(shared)
        with contextlib.suppress(FileExistsError):
            private.mkdir(mode=PRIVATE_MODE)
        if sys.platform == "win32":  # a profile is private, and has no modes
            return private
        real = Path(os.path.realpath(parent))
        above = [real, *real.parents]
        is_private = _is_own(shared, closed=0o022) and _is_own(private, closed=0o077)
        return private if is_private and not any(map(_is_open_to_others, above)) else None
    except OSError:
        return None


def _is_own(folder: Path, *, closed: int) -> bool:
    """Return whether a folder belongs to this user and denies others the permissions `closed`."""
    status = folder.lstat()
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not stat.S_IMODE(status.st_mode) & closed


def _is_open_to_others(folder: Path) -> bool:
    """Return whether any user can rename a folder's entries."""
    mode = folder.stat().st_mode
    return bool(mode & stat.S_IWOTH) and not mode & stat.S_ISVTX
