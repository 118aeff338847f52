"""Read and write files of a store by URL (S3, GCS, HTTP, a folder) with fsspec and retries."""

import os
import random
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from stadia.core.errors import DataError, StadiaError, summarize_exception
from stadia.io.input_files import restore_url

T = TypeVar("T")

ATTEMPTS = 6
"""Number of attempts to reach a store. The waits between them add up to 6 s, longer than most refusals (HTTP 503)."""

FIRST_WAIT_S = 0.2
"""Seconds to wait before the second attempt to reach a store. The wait doubles each time; half of it is random."""

CONNECT_TIMEOUT_S, READ_TIMEOUT_S = 10.0, 60.0

_EXTRAS = {"s3": "stadia[s3]", "gs": "gcsfs", "gcs": "gcsfs"}
_MISSING = (FileNotFoundError, IsADirectoryError, NotADirectoryError)
_EMPTY = "range is not satisfiable"  # the error for a part of an empty file


class RemoteStore:
    """Files below a URL or in a local folder. Each process opens its own connections.

    Calls that fail for a temporary reason are repeated after growing waits. Other failures raise DataError with the
    file.

    url: the URL or folder.
    """

    def __init__(self, url: str | Path) -> None:
        self.url = restore_url(url).rstrip("/")
        self._opened: tuple[int, Any, str] | None = None

    def __getstate__(self) -> Mapping[str, Any]:
        return {"url": self.url, "_opened": None}

    def __repr__(self) -> str:
        return f"RemoteStore({self.url!r})"

    def _open(self) -> tuple[Any, str]:
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
                system.retries = 1  # this class repeats calls
            self._opened = os.getpid(), system, root
        return self._opened[1], self._opened[2]

    def _call(self, name: str, call: Callable[[Any, str], T]) -> T:
        system, root = self._open()
        path = f"{root}/{name}" if name else root
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return call(system, path)
            except _MISSING as error:
                fix = "check the URL, or write the file again"
                raise DataError(self.join(name), found="no such file", expected="a file", fix=fix) from error
            except PermissionError as error:
                found = f"access refused ({summarize_exception(error)})"
                fix = "renew the credentials, or give them access to this bucket"
                raise DataError(self.join(name), found=found, expected="a readable file", fix=fix) from error
            except Exception as error:  # each store has its own errors
                if isinstance(error, StadiaError | AssertionError):
                    raise
                if (is_final := _describe_final(error)) or attempt == ATTEMPTS:
                    found = is_final or f"a store that failed {ATTEMPTS} times ({summarize_exception(error)})"
                    fix = "check URL, credentials and network" if is_final else "try again later: the work resumes"
                    raise DataError(self.join(name), found=found, expected="a store that responds", fix=fix) from error
                longest_s = FIRST_WAIT_S * 2 ** (attempt - 1)
                # random, because all machines would otherwise retry at once
                time.sleep(longest_s * random.uniform(0.5, 1))
        raise AssertionError("the last attempt returns or raises")

    def join(self, name: str) -> str:
        """Return the URL of the file with this name in the store."""
        return f"{self.url}/{name}" if name else self.url

    def read(self, name: str, *, max_bytes: int) -> bytes:
        """Return the content of a file of the store. Raises DataError if it is missing or larger than `max_bytes`."""
        size = self.size(name)
        if size > max_bytes:
            expected, fix = f"at most {max_bytes} bytes", "check that this is the right file"
            raise DataError(self.join(name), found=f"{size} bytes", expected=expected, fix=fix)
        return self.fetch(name, max_bytes=size) if size else b""

    def size(self, name: str) -> int:
        """Return the size in bytes of a file of the store. Raises DataError if it is missing."""
        return int(self._call(name, lambda system, path: system.info(path)["size"]) or 0)

    def fetch(self, name: str, *, max_bytes: int) -> bytes:
        """Return the first `max_bytes` bytes of a file of the store, without a request for its size.

        Raises DataError if the file is missing.
        """

        def fetch(system: Any, path: str) -> bytes:
            try:
                return bytes(system.cat_file(path, start=0, end=max_bytes))
            except OSError as error:
                if _EMPTY in str(error):
                    return b""
                raise

        return self._call(name, fetch)

    def write(self, name: str, data: bytes) -> None:
        """Write or replace a file of the store."""

        def write(system: Any, path: str) -> None:
            _make_parent(system, path)
            system.pipe_file(path, data)

        self._call(name, write)

    def upload(self, file: Path, name: str) -> None:
        """Copy a local file into the store under a name."""

        def put(system: Any, path: str) -> None:
            _make_parent(system, path)
            system.put_file(str(file), path)

        self._call(name, put)

    def remove(self, name: str) -> None:
        """Remove a file from the store."""
        self._call(name, lambda system, path: system.rm_file(path))

    def exists(self, name: str) -> bool:
        """Return whether the store contains a file with this name."""
        return bool(self._call(name, lambda system, path: system.exists(path)))


def _make_parent(system: Any, path: str) -> None:
    if "file" in (system.protocol if isinstance(system.protocol, tuple) else (system.protocol,)):
        system.makedirs(path.rpartition("/")[0], exist_ok=True)


def _describe_final(error: Exception) -> str | None:
    text = summarize_exception(error)
    if type(error).__name__ in ("NoCredentialsError", "PartialCredentialsError", "TokenRetrievalError"):
        return f"no credentials ({text})"
    if any(word in text for word in ("ExpiredToken", "InvalidAccessKeyId", "SignatureDoesNotMatch")):
        return f"invalid credentials ({text})"
    if "The specified bucket does not exist" in text:
        return f"no such bucket ({text})"
    return None
