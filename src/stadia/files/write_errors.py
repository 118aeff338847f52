"""Explain why a file could not be written: a full disk, a limit, no access, or a name that is taken."""

from __future__ import annotations

import errno
import hashlib
import os
import platform
import re
from pathlib import Path

from stadia.core.errors import StadiaError, summarize_exception

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
