"""Read and write files of a store by URL (S3, GCS, HTTP, a folder) through fsspec, with retries and named errors."""

from __future__ import annotations

import os
import random
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from stadia.core.errors import DataError, StadiaError, summarize_exception

T = TypeVar("T")

ATTEMPTS = 6
"""Attempts of one call to a store: the waits between them add up to 6 s, longer than most refusals (503) last."""

FIRST_WAIT_S = 0.2
"""Wait after the first failed attempt; it doubles with each, and is drawn from half of it to all of it."""

CONNECT_TIMEOUT_S, READ_TIMEOUT_S = 10.0, 60.0
"""Times after which an attempt is given up: a store that does not answer, and a transfer that stands still."""

_URL = re.compile(r"([a-z][a-z0-9+]+):/{1,2}(?=[^/])(.*)", re.DOTALL)
SCHEMES = ("s3", "gs", "gcs", "http", "https", "memory")
"""Schemes that are read as URLs. A folder may be given as a plain path."""

_EXTRAS = {"s3": "stadia[s3]", "gs": "gcsfs", "gcs": "gcsfs"}
_MISSING = (FileNotFoundError, IsADirectoryError, NotADirectoryError)
_EMPTY = "range is not satisfiable"
"""In the error of a store for a part of an empty file."""

_MISSING_BUCKET = "The specified bucket does not exist"


def is_url(path: str | Path) -> bool:
    """Return whether a path is a URL of a store; also where `Path` has joined its slashes.

    Examples:
        >>> is_url("s3://bucket/drives"), is_url(Path("s3://bucket/drives")), is_url("drives")
        (True, True, False)
    """
    match = _URL.fullmatch(str(path))
    return match is not None and match[1] in SCHEMES


def restore_url(path: str | Path) -> str:
    """Return the URL of a path that `is_url`, with both slashes.

    Examples:
        >>> restore_url(Path("s3://bucket/drives"))
        's3://bucket/drives'
    """
    match = _URL.fullmatch(str(path))
    return str(path) if match is None else f"{match[1]}://{match[2]}"


class RemoteStore:
    """Files below a URL or a folder. Cheap to pickle: each process opens its own connections.

    A call that fails for a reason that may pass (a refusal, a reset, a timeout) is repeated with growing waits. Missing
    files and refused credentials are not. Raises DataError that names the file.

    Args:
        url: of a folder; a plain path is a local one.
    """

    def __init__(self, url: str | Path) -> None:
        self.url = restore_url(url).rstrip("/")
        self._opened: tuple[int, Any, str] | None = None

    def __getstate__(self) -> Mapping[str, Any]:
        return {"url": self.url, "_opened": None}

    def __repr__(self) -> str:
        return f"RemoteStore({self.url!r})"

    def _open(self) -> tuple[Any, str]:
        """Return the file system of this process, and the root in it. Raises StadiaError without its package."""
        if self._opened is None or self._opened[0] != os.getpid():
            import fsspec

            options: dict[str, Any] = {}
            scheme = self.url.partition("://")[0]
            if scheme == "s3":
                timeouts = {"connect_timeout": CONNECT_TIMEOUT_S, "read_timeout": READ_TIMEOUT_S}
                options["config_kwargs"] = {**timeouts, "retries": {"max_attempts": 1}}
            try:
                system, root = fsspec.core.url_to_fs(self.url, use_listings_cache=False, **options)
            except (ImportError, ValueError) as error:
                fix = f"pip install '{_EXTRAS.get(scheme, 'fsspec')}'"
                found = f"no package for {scheme}:// ({summarize_exception(error)})"
                raise StadiaError(self.url, found=found, expected="a store that can be opened", fix=fix) from error
            if scheme == "s3":
                system.retries = 1  # this class repeats a call
            self._opened = os.getpid(), system, root
        return self._opened[1], self._opened[2]

    def _call(self, name: str, call: Callable[[Any, str], T], *, found_missing: str = "no such file") -> T:
        """Call with the file system and the path of a file, again where an error may pass."""
        system, root = self._open()
        path = f"{root}/{name}" if name else root
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return call(system, path)
            except _MISSING as error:
                fix = "check the URL; where it was complete, write it again"
                raise DataError(self.join(name), found=found_missing, expected="a file", fix=fix) from error
            except PermissionError as error:
                found = f"access refused ({summarize_exception(error)})"
                fix = "renew the credentials, or allow them this bucket"
                raise DataError(self.join(name), found=found, expected="a file that may be read", fix=fix) from error
            except Exception as error:  # each store has errors of its own
                if isinstance(error, StadiaError | AssertionError):
                    raise
                if (is_final := _describe_final(error)) or attempt == ATTEMPTS:
                    found = is_final or f"a store that failed {ATTEMPTS} times ({summarize_exception(error)})"
                    fix = "check URL, credentials and network" if is_final else "try again later: the work resumes"
                    raise DataError(self.join(name), found=found, expected="a store that answers", fix=fix) from error
                time.sleep(
                    FIRST_WAIT_S * 2 ** (attempt - 1) * random.uniform(0.5, 1)
                )  # all machines would retry at once
        raise AssertionError("the last attempt returns or raises")

    def join(self, name: str) -> str:
        """Return the URL of a file."""
        return f"{self.url}/{name}" if name else self.url

    def read(self, name: str, *, max_bytes: int) -> bytes:
        """Return the content of a file. Raises DataError where it is missing, or larger than `max_bytes`."""
        size = self.size(name)
        if size > max_bytes:
            found, expected = f"{size} bytes, more than {max_bytes} bytes", f"at most {max_bytes}"
            raise DataError(self.join(name), found=found, expected=expected, fix="check that this is the right file")
        return self.fetch(name, max_bytes=size) if size else b""

    def size(self, name: str) -> int:
        """Return the bytes of a file. Raises DataError where it is missing."""
        return int(self._call(name, lambda system, path: system.info(path)["size"]) or 0)

    def fetch(self, name: str, *, max_bytes: int) -> bytes:
        """Return the content of a file by one request, for files whose size is known. Raises as `read`."""

        def fetch(system: Any, path: str) -> bytes:
            try:
                return bytes(system.cat_file(path, start=0, end=max_bytes))
            except OSError as error:
                if _EMPTY in str(error):
                    return b""
                raise

        return self._call(name, fetch)

    def write(self, name: str, data: bytes) -> None:
        """Write a file, which replaces an earlier one whole."""

        def write(system: Any, path: str) -> None:
            _make_parent(system, path)
            system.pipe_file(path, data)

        self._call(name, write)

    def upload(self, file: Path, name: str) -> None:
        """Copy a local file into the store."""

        def put(system: Any, path: str) -> None:
            _make_parent(system, path)
            system.put_file(str(file), path)

        self._call(name, put)

    def exists(self, name: str) -> bool:
        """Return whether there is such a file."""
        return bool(self._call(name, lambda system, path: system.exists(path)))


def _make_parent(system: Any, path: str) -> None:
    """Make the folder of a file, where the store has folders."""
    if "file" in (system.protocol if isinstance(system.protocol, tuple) else (system.protocol,)):
        system.makedirs(path.rpartition("/")[0], exist_ok=True)


def _describe_final(error: Exception) -> str | None:
    """Return what is wrong where no later attempt can succeed; None for an error that may pass."""
    text = summarize_exception(error)
    if type(error).__name__ in ("NoCredentialsError", "PartialCredentialsError", "TokenRetrievalError"):
        return f"no credentials ({text})"
    if any(word in text for word in ("ExpiredToken", "InvalidAccessKeyId", "SignatureDoesNotMatch")):
        return f"credentials that the store refuses ({text})"
    if _MISSING_BUCKET in text:
        return f"no such bucket ({text})"
    return None
