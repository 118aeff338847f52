"""Nothing is half-written: a file appears whole under its name, or not at all."""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stadia.core.errors import DataError, StadiaError


def _explain(error: OSError, path: Path) -> None:
    """Raise StadiaError where the disk is full or the folder cannot be written to; return for any other error."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        raise StadiaError(path, found="a full disk", expected="room for the file", fix="free some space") from error
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST):
        found = (
            "a file where a folder should be"
            if isinstance(error, NotADirectoryError | FileExistsError)
            else error.strerror
        )
        raise StadiaError(
            path,
            found=found or "no access",
            expected="a folder that can be written to",
            fix="choose another place to write to",
        ) from error
    if error.errno == errno.EISDIR:
        raise StadiaError(path, found="a folder", expected="a file's name", fix="add one to it") from error


def check_writable(folder: Path) -> None:
    """Raise StadiaError where `folder` could not be made or written to: told before work is done for it. Makes nothing."""
    folder = Path(folder).expanduser()
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        _explain(error, folder)
        raise


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on a clean exit it is synced and renamed to `path`, else it is removed.

    The temporary name keeps the suffix, so that writers which choose a format by suffix choose the right one.
    Raises StadiaError where the disk is full or the folder cannot be written to.
    """
    path = Path(path)
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        _explain(error, path)
        raise
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder beside `path`, renamed to `path` on a clean exit and removed on any other.

    Its name is fixed, so that what a killed process left half-written is removed by the next one. `path` must not exist
    yet. Raises StadiaError where the disk is full or the folder cannot be written to.
    """
    path = Path(path)
    temporary = path.parent / f".{path.name}.partial"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        yield temporary
        temporary.rename(path)
    except OSError as error:
        _explain(error, path)
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write JSON (indented, keys in the order given; NaN is refused), whole or not at all."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: Path, *, max_bytes: int = 64 << 20) -> Any:
    """Read a JSON file from outside: its size is checked first. Raises DataError naming the file."""
    path = Path(path)
    try:
        size = path.stat().st_size
        if size > max_bytes:
            raise DataError(path, found=f"{size} bytes", expected=f"at most {max_bytes}", fix="is this the right file?")
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(path, found="no such file", expected="a JSON file", fix="check the path") from error
    except (ValueError, RecursionError) as error:  # not JSON, not UTF-8, a number of 5000 digits, nested 5000 deep
        raise DataError(path, found=f"invalid JSON ({error})", expected="JSON", fix="write the file again") from error


def inside(folder: Path, name: str) -> Path:
    """`folder / name`, refused where it would leave the folder (names from outside are hostile)."""
    path = (Path(folder) / name).resolve()
    if not path.is_relative_to(Path(folder).resolve()):
        raise DataError(
            name, found="a path outside its folder", expected=f"a path inside {folder}", fix="correct the entry"
        )
    return path
