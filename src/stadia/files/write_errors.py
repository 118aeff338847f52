"""Name what a file could not be written for: a full disk, a limit, no access, or a name that is taken."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

from stadia.core.errors import StadiaError, summarize_exception

TEMPORARY_NAME = re.compile(r"\..*\.[a-z0-9_]{8}\.partial(\.[^.]*)?", re.DOTALL)
"""Of a file that is being written."""

_PARTLY_WRITTEN = re.compile(r"\d+ requested and \d+ written")
"""numpy's words, in an OSError without a number."""


FULL_DISK = "a full disk"
"""What is found where no space is left, or no more is allowed."""


def explain_write_error(error: OSError, path: str | Path) -> None:
    """Raise StadiaError for an error of writing `path`; return for an error that names another file."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        raise StadiaError(path, found=FULL_DISK, expected="free space for the file", fix="free some space") from error
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST):
        found = f"a place that cannot be written to ({error.strerror or 'no access'})"
        if isinstance(error, NotADirectoryError | FileExistsError):
            is_dangling = any(place.is_symlink() and not place.exists() for place in (Path(path), *Path(path).parents))
            found = "a link to a place that is missing" if is_dangling else "a file where a folder should be"
        expected, fix = "a folder that can be written to", "choose another place to write to"
        raise StadiaError(path, found=found, expected=expected, fix=fix) from error
    if error.errno == errno.EISDIR:
        raise StadiaError(path, found="a folder", expected="a file's name", fix="add a name to this path") from error
    if error.errno == errno.EFBIG:
        found, expected = "a file larger than this system or shell allows", "room for a larger file"
        raise StadiaError(
            path, found=found, expected=expected, fix="raise `ulimit -f`, or write to another disk"
        ) from error
    if error.errno is None and _PARTLY_WRITTEN.search(str(error)):
        found, expected = "a disk, or a limit of `ulimit -f`, that took a part of the file", "free space for the file"
        raise StadiaError(path, found=found, expected=expected, fix="free some space, then run it again") from error
    is_ours = error.filename is None or TEMPORARY_NAME.fullmatch(Path(os.fsdecode(error.filename)).name)
    if is_ours and not isinstance(error, BrokenPipeError):  # a write or a sync names no file
        found = f"a file that cannot be written ({error.strerror or summarize_exception(error)})"
        expected = "a file that can be written"
        raise StadiaError(path, found=found, expected=expected, fix="check the disk, then run it again") from error
