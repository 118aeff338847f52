"""Write files and folders atomically, and read JSON from outside."""

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
    """Raise StadiaError where the disk is full or the folder is not writable; return for any other error."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        raise StadiaError(
            path, found="a full disk", expected="free space for the file", fix="free some space"
        ) from error
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST):
        is_file = isinstance(error, NotADirectoryError | FileExistsError)
        found = "a file where a folder should be" if is_file else error.strerror or "no access"
        expected, fix = "a folder that can be written to", "choose another place to write to"
        raise StadiaError(path, found=found, expected=expected, fix=fix) from error
    if error.errno == errno.EISDIR:
        raise StadiaError(path, found="a folder", expected="a file's name", fix="add one to it") from error


def check_writable(folder: Path) -> None:
    """Raise StadiaError where `folder` cannot be created or written to. Creates nothing."""
    folder = Path(folder).expanduser()
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        _explain(error, folder)
        raise


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on a clean exit sync it and rename it to `path`, else remove it.

    The temporary name keeps the suffix, because some writers choose the format by it.
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
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder beside `path`; rename it to `path` on a clean exit, else remove it.

    Its name is fixed, so that the next process removes what a killed one left half-written. `path` must not exist yet.
    Raises StadiaError where the disk is full or the folder cannot be written to.
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
    """Write UTF-8 text atomically."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically: indented, keys in the given order, NaN refused."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: Path, *, max_bytes: int = 64 << 20) -> Any:
    """Read a JSON file from outside; its size is checked first. Raises DataError naming the file."""
    path = Path(path)
    try:
        size = path.stat().st_size
        if size > max_bytes:
            raise DataError(path, found=f"{size} bytes", expected=f"at most {max_bytes}", fix="pass another file")
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(path, found="no such file", expected="a JSON file", fix="check the path") from error
    except (ValueError, RecursionError) as error:  # not JSON, not UTF-8, a number of 5000 digits, nested 5000 deep
        raise DataError(path, found=f"invalid JSON ({error})", expected="JSON", fix="write the file again") from error


def safe_join(folder: Path, name: str) -> Path:
    """Return `folder / name`. Raises DataError where that leaves the folder: names from outside may be hostile."""
    path = (Path(folder) / name).resolve()
    if not path.is_relative_to(Path(folder).resolve()):
        raise DataError(
            name, found="a path outside its folder", expected=f"a path inside {folder}", fix="correct the entry"
        )
    return path
