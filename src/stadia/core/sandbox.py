"""Run a function on hostile input in a process of its own, with limits of time, memory, files and system calls.

Decoders are C libraries: a damaged image may crash them, and a hostile one may make them run foreign code. Here that
costs one process, which can neither start another one, nor signal one, nor open a connection, nor write a file. What
it sends back is numbers, text and arrays of a checked size, never objects: nothing of it is run.

Platforms: Linux has every limit. macOS and Windows have no filter of system calls. There the parent limits time and
memory, which it measures every 50 ms. Files and connections are not limited there.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import io
import json
import math
import os
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import psutil

from stadia.core.errors import CheckpointError, DataError, GeometryError, StadiaError, summarize_exception

MAX_RESULT_BYTES = 1 << 30
_MAX_HEADER_BYTES = 1 << 20  # of a message, without its arrays
_MAX_FILES = 64
_POLL_S = 0.05
_OUT_OF_MEMORY, _SIGXCPU = 99, 24
_START_S = 60.0  # imports of the child, which are not of the input
_KEPT_ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "SYSTEMROOT", "LD_LIBRARY_PATH", "TMPDIR", "TEMP", "TZ")
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
_ERRORS = {kind.__name__: kind for kind in (StadiaError, DataError, GeometryError, CheckpointError)}
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


# -- Messages: a length, a JSON header, then the bytes of arrays. Both sides check them; neither unpickles.

_END = object()
_PREFIX = struct.Struct("<QQ")  # bytes of the header, and of all


def pack_message(value: Any) -> list[bytes]:
    """Return a value as the pieces of a message. Raises TypeError for a value that none can hold."""
    pieces: list[bytes] = []
    header = json.dumps(_encode(value, pieces)).encode()
    return [_PREFIX.pack(len(header), len(header) + sum(map(len, pieces))), header, *pieces]


def unpack_message(header: bytes, data: bytearray) -> Any:
    """Return the value of a message. Raises ValueError, TypeError or LookupError where it is none."""
    stream = io.BytesIO(data)
    value = _decode(json.loads(header), data, stream)
    if stream.tell() != len(data):
        raise ValueError("bytes that no array claims")
    return value


def _encode(value: Any, pieces: list[bytes]) -> Any:
    if value is None or type(value) in (bool, int, str):
        return value
    if type(value) is float:
        return value if math.isfinite(value) else {"float": str(value)}
    if isinstance(value, Path):
        return {"path": os.fspath(value)}
    if isinstance(value, bytes):
        pieces.append(value)
        return {"bytes": len(value)}
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "biuf":
        pieces.append(np.ascontiguousarray(value).tobytes())
        return {"array": [value.dtype.str, list(value.shape)]}
    if isinstance(value, list):
        return [_encode(entry, pieces) for entry in value]
    if isinstance(value, tuple):
        return {"tuple": [_encode(entry, pieces) for entry in value]}
    if isinstance(value, dict):
        return {"map": [[_encode(key, pieces), _encode(entry, pieces)] for key, entry in value.items()]}
    raise TypeError(f"no message can hold {type(value).__name__}")


def _decode(value: Any, data: bytearray, stream: io.BytesIO) -> Any:
    if isinstance(value, list):
        return [_decode(entry, data, stream) for entry in value]
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    match kind:
        case "float":
            return float(content)
        case "path":
            return Path(content)
        case "bytes":
            return bytes(_take(data, stream, int(content)))
        case "array":
            dtype, shape = np.dtype(str(content[0])), tuple(int(side) for side in content[1])
            if dtype.kind not in "biuf" or dtype.itemsize > 8 or min(shape, default=0) < 0:
                raise ValueError(f"an array of {dtype} and shape {shape}")
            return np.frombuffer(_take(data, stream, math.prod(shape) * dtype.itemsize), dtype).reshape(shape)
        case "tuple":
            return tuple(_decode(entry, data, stream) for entry in content)
        case "map":
            return {_decode(key, data, stream): _decode(entry, data, stream) for key, entry in content}
    raise ValueError(f"'{kind}'")


def _take(data: bytearray, stream: io.BytesIO, size: int) -> memoryview:
    start = stream.tell()
    if not 0 <= size <= len(data) - start:
        raise ValueError(f"{size} of {len(data) - start} bytes")
    stream.seek(size, os.SEEK_CUR)
    return memoryview(data)[start : start + size]


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
            base = int(self._receive(_MAX_HEADER_BYTES, {"ready"})[1])
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
            kind, value = _read_message(self._process.stdout, max_bytes)
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


def _read_message(stream: Any, max_bytes: int) -> Any:
    """Read a message of at most this size. Raises EOFError at the end of the stream, ValueError for a larger one."""
    header_bytes, size = _PREFIX.unpack(_read_exactly(stream, _PREFIX.size))
    if not header_bytes <= size or header_bytes > _MAX_HEADER_BYTES or size > max_bytes + _MAX_HEADER_BYTES:
        raise ValueError(f"{size} bytes, where {max_bytes} are accepted")
    header = _read_exactly(stream, header_bytes)
    return unpack_message(bytes(header), _read_exactly(stream, size - header_bytes))


def _read_exactly(stream: Any, size: int) -> bytearray:
    data = bytearray()
    while len(data) < size:
        chunk = stream.read(min(size - len(data), 1 << 20))
        if not chunk:
            raise EOFError
        data += chunk
    return data


# -- The child


def serve() -> None:
    """Run one job of the standard input under its limits, and write its results to the standard output."""
    source, results = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print is no result
    job = _read_message(source, 1 << 62)
    sys.path[:] = job["path"]
    module, _, name = job["function"].partition(":")
    function: Any = importlib.import_module(module)
    for part in name.split("."):
        function = getattr(function, part)
    _write_message(results, ("ready", psutil.Process().memory_info().rss))
    try:
        apply_limits(job["limits"]["seconds"], job["limits"]["bytes"])
        value = function(*job["args"])
        for item in value if job["is_iterator"] else [value]:
            _write_message(results, ("result", item))
        _write_message(results, ("end", None))
    except StadiaError as error:
        _write_message(results, ("error", [type(error).__name__, error.what, error.found, error.expected, error.fix]))
    except MemoryError:
        os._exit(_OUT_OF_MEMORY)
    except Exception as error:
        _write_message(results, ("fault", summarize_exception(error)))
    finally:
        os._exit(0)


def _write_message(stream: BinaryIO, value: Any) -> None:
    for piece in pack_message(value):
        stream.write(piece)
    stream.flush()


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


# -- Linux: a filter of system calls (seccomp) that no code of the process can remove

_ALLOWED = {
    "x86_64": {
        "read": 0, "write": 1, "open": 2, "close": 3, "stat": 4, "fstat": 5, "lstat": 6, "poll": 7, "lseek": 8,
        "mmap": 9, "mprotect": 10, "munmap": 11, "brk": 12, "rt_sigaction": 13, "rt_sigprocmask": 14,
        "rt_sigreturn": 15, "ioctl": 16, "pread64": 17, "readv": 19, "writev": 20, "access": 21, "sched_yield": 24,
        "mremap": 25, "madvise": 28, "nanosleep": 35, "getpid": 39, "clone": 56, "exit": 60, "uname": 63, "fcntl": 72,
        "getcwd": 79, "readlink": 89, "gettimeofday": 96, "getrusage": 98, "sysinfo": 99, "times": 100, "getuid": 102,
        "getgid": 104, "geteuid": 107, "getegid": 108, "sigaltstack": 131, "prctl": 157, "gettid": 186, "time": 201,
        "futex": 202, "sched_getaffinity": 204, "getdents64": 217, "restart_syscall": 219, "fadvise64": 221,
        "clock_gettime": 228, "clock_getres": 229, "clock_nanosleep": 230, "exit_group": 231, "tgkill": 234,
        "openat": 257, "newfstatat": 262, "readlinkat": 267, "faccessat": 269, "ppoll": 271, "set_robust_list": 273,
        "getcpu": 309, "getrandom": 318, "statx": 332, "rseq": 334,
    },
    "aarch64": {
        "getcwd": 17, "fcntl": 25, "ioctl": 29, "faccessat": 48, "openat": 56, "close": 57, "getdents64": 61,
        "lseek": 62, "read": 63, "write": 64, "readv": 65, "writev": 66, "pread64": 67, "ppoll": 73, "readlinkat": 78,
        "newfstatat": 79, "fstat": 80, "exit": 93, "exit_group": 94, "futex": 98, "set_robust_list": 99,
        "nanosleep": 101, "clock_gettime": 113, "clock_getres": 114, "clock_nanosleep": 115, "sched_getaffinity": 123,
        "sched_yield": 124, "restart_syscall": 128, "tgkill": 131, "sigaltstack": 132, "rt_sigaction": 134,
        "rt_sigprocmask": 135, "rt_sigreturn": 139, "times": 153, "uname": 160, "getrusage": 165, "prctl": 167,
        "getcpu": 168, "gettimeofday": 169, "getpid": 172, "getuid": 174, "geteuid": 175, "getgid": 176,
        "getegid": 177, "gettid": 178, "sysinfo": 179, "brk": 214, "munmap": 215, "mremap": 216, "clone": 220,
        "mmap": 222, "fadvise64": 223, "mprotect": 226, "madvise": 233, "getrandom": 278, "statx": 291, "rseq": 293,
    },
}  # fmt: skip
"""What decoding takes: reading files, memory, threads, clocks. All other calls fail, and later kernels add none."""

_WRITING = os.O_WRONLY | getattr(os, "O_RDWR", 2) | os.O_CREAT | os.O_TRUNC
_THREAD_FLAGS = 0x003D0F00  # of clone, by glibc; musl adds the flag of detached ones
_ARGUMENTS: dict[str, tuple[int, tuple[int, ...]]] = {
    "ioctl": (1, (0x5401, 0x5451)),  # TCGETS, FIOCLEX
    "fcntl": (1, (0, 1, 2, 3, 1030)),  # duplicate, get and set the flags of a descriptor
    "prctl": (0, (15,)),  # the name of a thread
    "clone": (0, (_THREAD_FLAGS, _THREAD_FLAGS | 0x00400000)),
    "sched_getaffinity": (0, (0,)),  # of itself
}
"""Call, place of an argument, and its allowed values."""
_FIRST_NEW = 424  # clone3 and later: at "not implemented" the C library takes the older call
_ARCHITECTURE = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_MADV_HWPOISON = 100  # it and later advice are tests of the machine's memory, for root
_EPERM, _ENOSYS = 1, 38
_ALLOW, _ERRNO, _KILL_PROCESS = 0x7FFF0000, 0x00050000, 0x80000000
_NO_NEW_PRIVILEGES, _SET_FILTER = 38, 22  # of prctl
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06


_Rule = tuple[int, int, int, int]
"""Code, steps to skip where it holds, steps to skip where it does not, and value."""


def deny_system_calls() -> bool:
    """Deny this process all system calls but those of decoding, for good.

    Returns False on unsupported machines; where the kernel refuses, it raises OSError.
    """
    machine = os.uname().machine
    if machine not in _ALLOWED:
        return False
    _install_filter(b"".join(struct.pack("=HBBI", *rule) for rule in list_rules(machine, os.getpid())))
    return True


def list_rules(machine: str, pid: int) -> list[_Rule]:
    """Return the filter's program for a machine of `_ALLOWED`; `pid` is the process, the only one to get signals."""
    rules = [(_LOAD, 0, 0, 4), (_EQUAL, 1, 0, _ARCHITECTURE[machine]), (_RETURN, 0, 0, _KILL_PROCESS), (_LOAD, 0, 0, 0)]
    if machine == "x86_64":  # calls of the x32 interface have other numbers
        rules += [(_AT_LEAST, 0, 1, 0x40000000), (_RETURN, 0, 0, _KILL_PROCESS)]
    for name, number in _ALLOWED[machine].items():
        if name in _ARGUMENTS:
            rules += _allow_values(number, *_ARGUMENTS[name])
        elif name == "tgkill":
            rules += _allow_values(number, 0, (pid,))
        elif name in ("open", "openat"):
            rules += _deny_argument(number, 1 if name == "open" else 2, (_ANY_BIT, _WRITING))
        elif name == "madvise":
            rules += _deny_argument(number, 2, (_AT_LEAST, _MADV_HWPOISON))
        else:
            rules += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ALLOW)]
    return [*rules, (_AT_LEAST, 0, 1, _FIRST_NEW), (_RETURN, 0, 0, _ERRNO | _ENOSYS), (_RETURN, 0, 0, _ERRNO | _EPERM)]


def _allow_values(number: int, place: int, values: tuple[int, ...]) -> list[_Rule]:
    """Return rules that allow a call where an argument, of 32 bits, has one of the values."""
    tests = [rule for value in values for rule in ((_EQUAL, 0, 1, value), (_RETURN, 0, 0, _ALLOW))]
    return [(_EQUAL, 0, len(tests) + 2, number), _load(place), *tests, (_RETURN, 0, 0, _ERRNO | _EPERM)]


def _deny_argument(number: int, place: int, test: tuple[int, int]) -> list[_Rule]:
    """Return rules that allow a call unless the test of an argument, of 32 bits, holds."""
    code, value = test
    results = [(_RETURN, 0, 0, _ERRNO | _EPERM), (_RETURN, 0, 0, _ALLOW)]
    return [(_EQUAL, 0, 4, number), _load(place), (code, 0, 1, value), *results]


def _load(place: int) -> _Rule:
    """Return the rule that loads the lower half of an argument."""
    return _LOAD, 0, 0, 16 + 8 * place


def _install_filter(program: bytes) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(program)
    described = struct.pack("@HxxxxxxP", len(program) // 8, ctypes.addressof(buffer))
    for words in ((_NO_NEW_PRIVILEGES, 1, 0, 0, 0), (_SET_FILTER, 2, described, 0, 0)):
        converted = [ctypes.c_char_p(word) if isinstance(word, bytes) else ctypes.c_ulong(word) for word in words]
        if libc.prctl(*converted):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
