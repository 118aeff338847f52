"""Run a function on hostile input in a process of its own, with limits of time, memory, files and system calls.

Decoders are C libraries: a damaged image may crash them, and a hostile one may make them run foreign code. Here that
costs one process, which can neither start another one, nor signal one, nor open a connection, nor write a file. What
it sends back is numbers, text and arrays of a checked size, never objects: nothing of it is run.

Platforms: Linux has every limit. macOS and Windows have no filter of system calls. There the parent limits time and
memory, which it measures every 50 ms. Files and connections are not limited there.
"""

from __future__ import annotations

import contextlib
import importlib
import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil

from stadia.core.errors import CheckpointError, DataError, GeometryError, StadiaError, summarize_exception
from stadia.core.sandbox_messages import MAX_HEADER_BYTES, pack_message, read_message, write_message
from stadia.core.system_call_filter import deny_system_calls

MAX_RESULT_BYTES = 1 << 30
_MAX_FILES = 64
_POLL_S = 0.05
_OUT_OF_MEMORY, _SIGXCPU = 99, 24
_START_S = 60.0  # imports of the child, which are not of the input
_KEPT_ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "SYSTEMROOT", "LD_LIBRARY_PATH", "TMPDIR", "TEMP", "TZ")
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
_ERRORS = {kind.__name__: kind for kind in (StadiaError, DataError, GeometryError, CheckpointError)}
_END = object()
_FIX = "check where the file comes from, or convert it with another program"


def run_limited(
    function: Callable[..., Any],
    *args: Any,
    seconds: float,
    max_bytes: int,
    max_result_bytes: int = MAX_RESULT_BYTES,
    what: object = "the input",
) -> Any:
    """Return `function(*args)`, computed in a process with limits.

    Args:
        function: of a module that can be imported.
        args: None, numbers, strings, bytes, paths, arrays of numbers, and lists, tuples and maps of these. The result
            is of these too.
        seconds: of computing time and of time on the clock.
        max_bytes: of memory, beyond that of the interpreter and its libraries.
        max_result_bytes: of the result.
        what: the file, for errors.

    Raises what the function raised where that is a StadiaError, else DataError: for a crash, a hang, or a limit.
    """
    with _Child(function, args, seconds=seconds, max_bytes=max_bytes, what=what) as child:
        return child.receive(max_result_bytes)


def iterate_limited(
    function: Callable[..., Iterator[Any]],
    *args: Any,
    seconds: float,
    max_bytes: int,
    max_result_bytes: int = MAX_RESULT_BYTES,
    what: object = "the input",
) -> Iterator[Any]:
    """Yield the items of an iterator, computed in a process with limits; arguments as of `run_limited`.

    seconds: of waiting for items, in all.  max_result_bytes: of an item.
    """
    with _Child(function, args, seconds=seconds, max_bytes=max_bytes, what=what, is_iterator=True) as child:
        while (item := child.receive(max_result_bytes)) is not _END:
            yield item


# -- The parent


class _Child:
    """The process, as a context manager: it is ended, with what it started, when the block is left."""

    def __init__(
        self,
        function: Callable[..., Any],
        args: Sequence[Any],
        *,
        seconds: float,
        max_bytes: int,
        what: object,
        is_iterator: bool = False,
    ) -> None:
        self._seconds, self._max_bytes, self._what = seconds, max_bytes, what
        place = f"{function.__module__}:{function.__qualname__}"
        if function.__module__ == "__main__" or "<" in place:
            raise ValueError(f"{place} cannot be imported by another process")
        limits = {"seconds": math.ceil(seconds) * (os.cpu_count() or 1) + 1, "bytes": max_bytes}
        self._job: dict[str, Any] = {
            "path": [entry for entry in sys.path if entry],
            "function": place,
            "limits": limits,
        }
        self._job |= {"args": list(args), "is_iterator": is_iterator}
        self._fault = ""
        self._left_s, self._waiting_since, self._allowed = _START_S, time.monotonic(), math.inf
        self._ended = threading.Event()

    def __enter__(self) -> _Child:
        environment = {key: os.environ[key] for key in _KEPT_ENVIRONMENT if key in os.environ} | _ONE_THREAD
        source = Path(__file__).parents[2]
        command = [sys.executable, "-P", "-c", f"import sys; sys.path.insert(0, {str(source)!r});"]
        command[-1] += "from stadia.core.sandbox import serve; serve()"
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,
        )
        self._watch = threading.Thread(target=self._end_beyond_limits, daemon=True)
        self._watch.start()
        try:
            self._send(self._job)
            base = int(self._receive(MAX_HEADER_BYTES, {"ready"})[1])
        except BaseException:
            self.__exit__()
            raise
        self._allowed, self._left_s = base + self._max_bytes, self._seconds
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        self._watch.join()

    def receive(self, max_result_bytes: int) -> Any:
        """Return the next result, or _END. Raises its StadiaError, or DataError."""
        kind, value = self._receive(max_result_bytes, {"result", "end", "error"})
        if kind == "error":
            raise self._rebuild_error(value)
        return _END if kind == "end" else value

    def _send(self, job: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # it has ended; receiving finds out why
            for piece in pack_message(job):
                self._process.stdin.write(piece)
            self._process.stdin.close()

    def _receive(self, max_bytes: int, kinds: set[str]) -> tuple[str, Any]:
        assert self._process.stdout is not None
        self._waiting_since = time.monotonic()
        try:
            kind, value = read_message(self._process.stdout, max_bytes)
            if kind == "fault":
                raise self._make_error(f"input that its decoder refuses ({value})")
            if kind not in kinds:
                raise ValueError(f"'{kind}'")
            return kind, value
        except (ValueError, TypeError, LookupError, RecursionError, OverflowError) as error:
            raise self._make_error(f"a result that is none ({summarize_exception(error)})") from error
        except EOFError as error:
            raise self._make_error(self._fault or self._explain_end()) from error
        finally:
            self._left_s -= time.monotonic() - self._waiting_since
            self._waiting_since = math.inf

    def _explain_end(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):  # it ended by itself: how it did explains more
            self._process.wait(timeout=1)
        self._kill()
        code = self._process.wait()
        if code == _OUT_OF_MEMORY:
            return f"input that takes more than {self._max_bytes >> 20} MiB of memory"
        if code == -_SIGXCPU:
            return f"input that takes more than {self._seconds:g} s"
        if code == 0:
            return "a decoder that ended early"
        return f"input that crashes its decoder ({f'signal {-code}' if code < 0 else f'exit code {code}'})"

    def _make_error(self, found: str) -> DataError:
        expected = f"input that takes at most {self._seconds:g} s and {self._max_bytes >> 20} MiB"
        return DataError(self._what, found=found, expected=expected, fix=_FIX)

    def _rebuild_error(self, value: Any) -> StadiaError:
        if not isinstance(value, list) or len(value) != 5:
            return self._make_error("an error that is none")
        name, what, found, expected, fix = map(str, value)
        kind = _ERRORS.get(name, DataError)
        return kind(what, found=found, expected=expected, fix=fix)

    def _end_beyond_limits(self) -> None:
        """End the process where it exceeds its time or memory; runs in a thread."""
        while not self._ended.wait(_POLL_S):
            if time.monotonic() - self._waiting_since > self._left_s:
                self._fault = f"input that takes more than {self._seconds:g} s"
            elif _measure_memory(self._process.pid) > self._allowed:
                self._fault = f"input that takes more than {self._max_bytes >> 20} MiB of memory"
            else:
                continue
            self._kill()
            return

    def _kill(self) -> None:
        if sys.platform == "win32":
            self._process.kill()
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if self._process.returncode is None:
                os.killpg(self._process.pid, 9)


def _measure_memory(pid: int) -> int:
    """Return the resident bytes of a process and of those that it started; 0 where it has ended."""
    try:
        process = psutil.Process(pid)
        started = [] if sys.platform == "linux" else process.children(recursive=True)  # Linux: it can start none
        return sum(one.memory_info().rss for one in (process, *started))
    except psutil.Error:
        return 0


# -- The child


def serve() -> None:
    """Run one job of the standard input under its limits, and write its results to the standard output."""
    source, results = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print is no result
    job = read_message(source, 1 << 62)
    sys.path[:] = job["path"]
    module, _, name = job["function"].partition(":")
    function: Any = importlib.import_module(module)
    for part in name.split("."):
        function = getattr(function, part)
    write_message(results, ("ready", psutil.Process().memory_info().rss))
    try:
        apply_limits(job["limits"]["seconds"], job["limits"]["bytes"])
        value = function(*job["args"])
        for item in value if job["is_iterator"] else [value]:
            write_message(results, ("result", item))
        write_message(results, ("end", None))
    except StadiaError as error:
        write_message(results, ("error", [type(error).__name__, error.what, error.found, error.expected, error.fix]))
    except MemoryError:
        os._exit(_OUT_OF_MEMORY)
    except Exception as error:
        write_message(results, ("fault", summarize_exception(error)))
    finally:
        os._exit(0)


def apply_limits(seconds: int, max_bytes: int) -> None:
    """Limit this process for good: its time, memory, files, and on Linux its system calls."""
    try:
        import resource
    except ImportError:  # Windows: the parent limits time and memory
        return
    limits = {"RLIMIT_CPU": seconds, "RLIMIT_FSIZE": 0, "RLIMIT_CORE": 0, "RLIMIT_NOFILE": _MAX_FILES}
    with contextlib.suppress(OSError):
        limits["RLIMIT_AS"] = psutil.Process().memory_info().vms + max_bytes
    for name, most in limits.items():
        with contextlib.suppress(ValueError, OSError):  # macOS has no RLIMIT_AS
            resource.setrlimit(getattr(resource, name), (most, most))
    if sys.platform == "linux":
        deny_system_calls()
