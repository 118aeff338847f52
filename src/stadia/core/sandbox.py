"""Run a function on hostile input in a process of its own, with limits of time, memory, files and system calls.

Decoders are C libraries: a damaged image may crash them, and a hostile one may make them run foreign code. Here that
costs one process, which can neither start another one, nor open a connection, nor write a file. What it sends back is
numbers, text and arrays of a checked size, never objects: nothing of it is run.

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

_DENIED = {
    "x86_64": {
        "fork": 57, "vfork": 58, "execve": 59, "execveat": 322, "ptrace": 101, "socket": 41, "connect": 42,
        "bind": 49, "socketpair": 53, "sendto": 44, "sendmsg": 46, "truncate": 76, "ftruncate": 77, "rename": 82,
        "mkdir": 83, "rmdir": 84, "creat": 85, "link": 86, "unlink": 87, "symlink": 88, "chmod": 90, "fchmod": 91,
        "chown": 92, "fchown": 93, "lchown": 94, "mknod": 133, "mount": 165, "umount2": 166, "tkill": 200,
        "utimes": 235, "utime": 132, "mkdirat": 258, "mknodat": 259, "fchownat": 260, "futimesat": 261, "unlinkat": 263,
        "renameat": 264, "linkat": 265, "symlinkat": 266, "fchmodat": 268, "utimensat": 280, "fallocate": 285,
        "perf_event_open": 298, "process_vm_readv": 310, "process_vm_writev": 311, "renameat2": 316, "bpf": 321,
        "userfaultfd": 323, "setxattr": 188, "removexattr": 197, "keyctl": 250, "unshare": 272, "setns": 308,
        "setrlimit": 160,
    },
    "aarch64": {
        "execve": 221, "execveat": 281, "ptrace": 117, "socket": 198, "socketpair": 199, "bind": 200, "connect": 203,
        "sendto": 206, "sendmsg": 211, "truncate": 45, "ftruncate": 46, "fallocate": 47, "fchmod": 52, "fchmodat": 53,
        "fchownat": 54, "fchown": 55, "mknodat": 33, "mkdirat": 34, "unlinkat": 35, "symlinkat": 36, "linkat": 37,
        "renameat": 38, "umount2": 39, "mount": 40, "utimensat": 88, "unshare": 97, "tkill": 130, "setxattr": 5,
        "removexattr": 14, "keyctl": 219, "perf_event_open": 241, "setns": 268, "process_vm_readv": 270,
        "process_vm_writev": 271, "renameat2": 276, "bpf": 280, "userfaultfd": 282, "setrlimit": 164,
    },
}  # fmt: skip
_FIRST_NEW = 424  # pidfd, io_uring, clone3, openat2 and all later: the C library does without them
_CLONE = {"x86_64": 56, "aarch64": 220}
_KILL = {"x86_64": (62, 234), "aarch64": (129, 131)}  # kill and tgkill: of this process alone
_OPEN = {"x86_64": ((2, 1), (257, 2)), "aarch64": ((56, 2),)}  # open and openat, with the argument of the flags
_PRLIMIT = {"x86_64": 302, "aarch64": 261}  # only to read: root may raise limits
_ARCHITECTURE = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_CLONE_THREAD = 0x00010000
_EPERM, _ENOSYS = 1, 38
_ALLOW, _ERRNO, _KILL_PROCESS = 0x7FFF0000, 0x00050000, 0x80000000
_NO_NEW_PRIVILEGES, _SET_FILTER = 38, 22  # of prctl
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06


_Rule = tuple[int, int, int, int]
"""Code, steps to skip where it holds, steps to skip where it does not, and value."""


def deny_system_calls() -> bool:
    """Deny this process new processes, programs, connections, writable files and signals to others, for good.

    Returns False on unsupported machines; where the kernel refuses, it raises OSError.
    """
    machine = os.uname().machine
    if machine not in _DENIED:
        return False
    rules = [(_LOAD, 0, 0, 4), (_EQUAL, 1, 0, _ARCHITECTURE[machine]), (_RETURN, 0, 0, _KILL_PROCESS), (_LOAD, 0, 0, 0)]
    if machine == "x86_64":  # calls of the x32 interface have other numbers
        rules += [(_AT_LEAST, 0, 1, 0x40000000), (_RETURN, 0, 0, _KILL_PROCESS)]
    for number in _DENIED[machine].values():
        rules += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ERRNO | _EPERM)]
    rules += [(_AT_LEAST, 0, 1, _FIRST_NEW), (_RETURN, 0, 0, _ERRNO | _ENOSYS)]
    rules += _check_argument(_CLONE[machine], 0, (_ANY_BIT, _CLONE_THREAD), is_allowed=True)
    for number in _KILL[machine]:
        rules += _check_argument(number, 0, (_EQUAL, os.getpid()), is_allowed=True)
    rules += _check_argument(_PRLIMIT[machine], 2, (_EQUAL, 0), is_allowed=True)
    written = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
    for number, place in _OPEN[machine]:
        rules += _check_argument(number, place, (_ANY_BIT, written), is_allowed=False)
    rules.append((_RETURN, 0, 0, _ALLOW))
    _install_filter(b"".join(struct.pack("=HBBI", *rule) for rule in rules))
    return True


def _check_argument(number: int, place: int, test: tuple[int, int], *, is_allowed: bool) -> list[_Rule]:
    """Return rules that allow (or deny) a call where the test of the lower half of an argument holds."""
    kinds = (_ALLOW, _ERRNO | _EPERM)
    holds, fails = kinds if is_allowed else kinds[::-1]
    code, value = test
    return [
        (_EQUAL, 0, 4, number),
        (_LOAD, 0, 0, 16 + 8 * place),
        (code, 0, 1, value),
        (_RETURN, 0, 0, holds),
        (_RETURN, 0, 0, fails),
    ]


def _install_filter(program: bytes) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(program)
    described = struct.pack("@HxxxxxxP", len(program) // 8, ctypes.addressof(buffer))
    for words in ((_NO_NEW_PRIVILEGES, 1, 0, 0, 0), (_SET_FILTER, 2, described, 0, 0)):
        converted = [ctypes.c_char_p(word) if isinstance(word, bytes) else ctypes.c_ulong(word) for word in words]
        if libc.prctl(*converted):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
