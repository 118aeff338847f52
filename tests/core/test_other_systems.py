"""Every module imports where the calls of POSIX are missing, and trainings are equal where processes are not forked."""

import subprocess
import sys

import pytest

IMPORT_ALL = """
import stadia.differentiable.torchvision_operators
import timm, lightning_fabric
print("libraries loaded")

import importlib, os, pkgutil, signal, sys
import stadia

def import_all():
    names = [found.name for found in pkgutil.walk_packages(stadia.__path__, "stadia.")]
    return [importlib.import_module(name) for name in names if not name.endswith("__main__")]

import_all()  # with the libraries, whose variants for this system stay
for name in [name for name in sys.modules if name.partition(".")[0] == "stadia"]:
    del sys.modules[name]
sys.platform = "win32"
for name in ("fcntl", "grp", "posix", "pty", "pwd", "readline", "resource", "syslog", "termios", "tty"):
    sys.modules[name] = None
for module, names in HIDDEN.items():
    for name in names:
        if hasattr(module, name):
            delattr(module, name)
print(len(import_all()))
"""
HIDDEN = """
import os, signal, socket
HIDDEN = {
    os: (
        "O_DIRECTORY", "O_NOFOLLOW", "O_NONBLOCK", "chown", "fchmod", "fork", "forkpty", "getegid", "geteuid",
        "getgid", "getloadavg", "getpgid", "getuid", "killpg", "mkfifo", "nice", "posix_fadvise", "posix_spawn",
        "sched_getaffinity", "setsid", "statvfs", "sysconf", "uname", "wait3", "wait4",
    ),
    signal: ("SIGALRM", "SIGCHLD", "SIGHUP", "SIGKILL", "SIGUSR1", "SIGUSR2", "SIGXCPU", "setitimer"),
    socket: ("AF_UNIX", "socketpair"),
}
"""


@pytest.mark.slow
def test_libraries_load_after_the_shim_and_every_module_imports_without_the_calls_of_posix() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", HIDDEN + IMPORT_ALL], capture_output=True, text=True, check=False
    )
    assert done.stdout.startswith("libraries loaded"), done.stderr[-2000:]
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout.split()[-1]) > 250
