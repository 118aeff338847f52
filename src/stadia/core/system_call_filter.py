"""A filter of system calls (Linux, seccomp), which no code of the process can remove."""

from __future__ import annotations

import ctypes
import os
import struct

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
