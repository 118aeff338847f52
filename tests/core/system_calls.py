"""What code of a taken-over decoder would do: raw system calls, and what the kernel returns."""

from __future__ import annotations

import ctypes
import os
import struct

DANGEROUS = {
    "x86_64": {
        "fork": 57, "vfork": 58, "execve": 59, "execveat": 322, "clone": 56, "clone3": 435, "ptrace": 101, "kill": 62,
        "tkill": 200, "tgkill": 234, "rt_sigqueueinfo": 129, "rt_tgsigqueueinfo": 297, "pidfd_send_signal": 424,
        "setpriority": 141, "sched_setaffinity": 203, "sched_setscheduler": 144, "prlimit64": 302, "setrlimit": 160,
        "shmget": 29, "shmat": 30, "msgget": 68, "semget": 64, "mq_open": 240, "memfd_create": 319, "pipe2": 293,
        "add_key": 248, "request_key": 249, "keyctl": 250, "setxattr": 188, "lsetxattr": 189, "fsetxattr": 190,
        "removexattr": 197, "lremovexattr": 198, "fremovexattr": 199, "flock": 73, "ioctl": 16, "fcntl": 72,
        "prctl": 157, "socket": 41, "socketpair": 53, "connect": 42, "sendto": 44, "sendmsg": 46, "bind": 49,
        "truncate": 76, "ftruncate": 77, "fallocate": 285, "rename": 82, "renameat": 264, "renameat2": 316,
        "mkdir": 83, "mkdirat": 258, "rmdir": 84, "creat": 85, "link": 86, "linkat": 265, "unlink": 87,
        "unlinkat": 263, "symlink": 88, "symlinkat": 266, "chmod": 90, "fchmod": 91, "fchmodat": 268, "chown": 92,
        "fchown": 93, "lchown": 94, "fchownat": 260, "mknod": 133, "mknodat": 259, "utimensat": 280, "chroot": 161,
        "mount": 165, "umount2": 166, "unshare": 272, "setns": 308, "bpf": 321, "perf_event_open": 298,
        "userfaultfd": 323, "process_vm_readv": 310, "process_vm_writev": 311, "io_uring_setup": 425,
        "open_by_handle_at": 304, "name_to_handle_at": 303, "io_setup": 206, "openat2": 437, "mlockall": 151,
        "timer_create": 222, "splice": 275, "copy_file_range": 326, "reboot": 169, "init_module": 175,
    },
    "aarch64": {
        "execve": 221, "execveat": 281, "clone": 220, "clone3": 435, "ptrace": 117, "kill": 129, "tkill": 130,
        "tgkill": 131, "rt_sigqueueinfo": 138, "rt_tgsigqueueinfo": 240, "pidfd_send_signal": 424, "setpriority": 140,
        "sched_setaffinity": 122, "prlimit64": 261, "setrlimit": 164, "shmget": 194, "shmat": 196, "msgget": 186,
        "semget": 190, "mq_open": 180, "memfd_create": 279, "pipe2": 59, "add_key": 217, "request_key": 218,
        "keyctl": 219, "setxattr": 5, "lsetxattr": 6, "fsetxattr": 7, "removexattr": 14, "lremovexattr": 15,
        "fremovexattr": 16, "flock": 32, "ioctl": 29, "fcntl": 25, "prctl": 167, "socket": 198, "socketpair": 199,
        "bind": 200, "connect": 203, "sendto": 206, "sendmsg": 211, "truncate": 45, "ftruncate": 46, "fallocate": 47,
        "mknodat": 33, "mkdirat": 34, "unlinkat": 35, "symlinkat": 36, "linkat": 37, "renameat": 38, "umount2": 39,
        "mount": 40, "chroot": 51, "fchmod": 52, "fchmodat": 53, "fchownat": 54, "fchown": 55, "utimensat": 88,
        "unshare": 97, "setns": 268, "bpf": 280, "perf_event_open": 241, "userfaultfd": 282, "process_vm_readv": 270,
        "process_vm_writev": 271, "renameat2": 276, "io_uring_setup": 425, "openat2": 437, "io_setup": 0,
        "open_by_handle_at": 265, "splice": 76, "reboot": 142,
    },
}  # fmt: skip
"""Calls that reach other processes, other files, the network or memory that outlives the process, by number.

Arguments may be anything but those of `core.system_call_filter`: some of clone, ioctl, fcntl, prctl and tgkill are
allowed.
"""


def attack(pid: int, file: str) -> dict[str, int]:
    """Return the error number of each attempt on another process and on a file (x86_64), 0 where it succeeds."""
    libc = ctypes.CDLL(None, use_errno=True)
    handle = os.open(file, os.O_RDONLY)
    info = ctypes.create_string_buffer(128)
    struct.pack_into("=iii", info, 0, 0, 0, -1)
    name = os.fsencode(file)
    term, key = 15, -3
    attempts: dict[str, tuple[int | bytes | ctypes.Array[ctypes.c_char] | None, ...]] = {
        "rt_sigqueueinfo": (129, pid, term, info),
        "rt_tgsigqueueinfo": (297, pid, pid, term, info),
        "tgkill": (234, pid, pid, term),
        "F_SETOWN": (72, handle, 8, pid),
        "F_SETSIG": (72, handle, 10, 10),
        "setpriority": (141, 0, pid, 5),
        "sched_setaffinity": (203, pid, 8, struct.pack("Q", 1)),
        "add_key": (248, b"user", b"a", b"b", 1, key),
        "mq_open": (240, b"stadia", os.O_CREAT | os.O_RDWR, 0o600, None),
        "msgget": (68, 0, 0o1600),
        "shmget": (29, 0, 4096, 0o1600),
        "lsetxattr": (189, name, b"user.x", b"v", 1, 0),
        "fsetxattr": (190, handle, b"user.x", b"v", 1, 0),
        "lremovexattr": (198, name, b"user.x"),
        "FS_IOC_SETFLAGS": (16, handle, 0x40086602, struct.pack("l", 0x40)),
        "flock": (73, handle, 2 | 4),
        "memfd_create": (319, b"a", 0),
    }
    errors = {}
    for attempt, values in attempts.items():
        words = [value if isinstance(value, bytes | ctypes.Array) else ctypes.c_long(value or 0) for value in values]
        ctypes.set_errno(0)
        errors[attempt] = ctypes.get_errno() if libc.syscall(*words) < 0 else 0
    return errors
