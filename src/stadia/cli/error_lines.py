"""Describe an error in one line, and choose the exit code."""

import errno
import os
import re
from typing import Any

from stadia.core.errors import ConfigMistakes, StadiaError, VerdictError
from stadia.core.floors import find_missing_floor
from stadia.core.registry import find_nearest_name
from stadia.core.signals import INTERRUPTED

SHARED_OPTIONS = ("--traceback", "--quiet", "--allow-code")
"""Options that every command accepts, anywhere on the line."""

UNUSABLE, MISTAKE, INTERNAL = 1, 2, 70  # exit codes

_OPTIONS_OF_CAMERA = ("--fov", "--focal-px", "--focal-mm")
"""These options of `stadia camera` are often passed to other commands."""

_OUT_OF_MEMORY = re.compile(
    r"can(no|')t allocate memory|not enough memory|out of memory|insufficient memory|"
    # A primitive descriptor fails because of wrong shapes, not of memory.
    r"could not create a primitive(?! descriptor)",
    re.IGNORECASE,
)
"""RuntimeErrors of torch, oneDNN, cv2 and CUDA contain this."""


def describe_error(error: BaseException) -> tuple[str, int]:
    """Return the text of an error for the user in one line, and the exit code.

    The exit code is 1 for unusable predictions, 2 for a mistake of the user, 70 for a bug of stadia, 130 for an
    interruption.
    """
    if hasattr(error, "format_message"):  # typer's; empty if the help was printed
        return _describe_usage_error(error) if error.format_message() else "", MISTAKE
    if isinstance(error, ConfigMistakes) and len(error.mistakes) > 1:
        return "\n  ".join((error.title, *map(str, error.mistakes))), MISTAKE
    error = find_missing_floor(error) or error
    if isinstance(error, StadiaError):
        return str(error), UNUSABLE if isinstance(error, VerdictError) else MISTAKE
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", INTERRUPTED
    if (failure := _find_failure_of_machine(error)) is not None:
        return str(failure), MISTAKE
    text = f"internal error, {type(error).__name__}: {' '.join(str(error).split())}"
    return f"{text}. Please report it, with the output of --traceback", INTERNAL


def _describe_usage_error(error: Any) -> str:
    found = " ".join(error.format_message().split())
    if error.ctx is None:  # an option lacks its value
        return f"command line: {found.rstrip('.')}. Fix: see `stadia --help`."
    command, path = error.ctx.command, error.ctx.command_path
    word, valid = "", list[str]()
    if found.startswith("No such option"):
        word = error.option_name
        found = f"No such option '{word}'"
        options = [each for parameter in command.params for each in (*parameter.opts, *parameter.secondary_opts)]
        valid = [each for each in dict.fromkeys((*options, "--help", *SHARED_OPTIONS)) if each.startswith("--")]
    elif found.startswith("No such command"):
        word, valid = found.split("'")[1], list(command.commands)
        found = f"No such command '{word}'"
    usage = " ".join([path, *command.collect_usage_pieces(error.ctx)])
    expected = f"one of {', '.join(valid)}" if valid else usage.removesuffix(".")
    if found.startswith("Invalid value") and ": Input should be " in found:
        found, _, expected = found.rstrip(".").partition(": Input should be ")
    elif found.startswith("Missing") and (text := getattr(error.param, "help", None)):
        found = f"{found.rstrip('.')} ({text.rstrip('.')})"
    if word in _OPTIONS_OF_CAMERA:
        fix = f"run once: stadia camera INPUT {word} VALUE."
    elif near := find_nearest_name(word, valid):
        fix = f"did you mean '{near}'?"
    elif word.startswith("--") and "KEY=VALUE" in usage:
        fix = f"write a setting as KEY=VALUE; see `{path} --help`."
    else:
        fix = f"see `{path} --help`."
    where = path.removeprefix("stadia").strip() or "command line"
    return f"{where}: {found.rstrip('.')}; expected {expected}. Fix: {fix}"


def _find_failure_of_machine(error: BaseException) -> StadiaError | None:
    number = error.errno if isinstance(error, OSError) else None
    text = str(error)
    if isinstance(error, MemoryError) or number == errno.ENOMEM or _OUT_OF_MEMORY.search(text):
        fix = "use a smaller size or batch (data.height, data.width, training.batch_size, --size), or fewer workers"
        return StadiaError("memory", found="no memory left", expected="enough for data and network", fix=fix)
    if number in (errno.EMFILE, errno.ENFILE):
        fix = "set fewer training.workers, or raise `ulimit -n`"
        return StadiaError("open files", found="the limit of the system", expected="fewer", fix=fix)
    if number == errno.EAGAIN or "can't start new thread" in text:
        fix = "set fewer training.workers, or raise `ulimit -u`"
        return StadiaError("processes", found="the limit of the system", expected="fewer", fix=fix)
    if isinstance(error, OSError) and number is None:
        from stadia.io.atomic_files import FULL_DISK, is_full_disk

        if is_full_disk(error):
            fix = "free some disk space, or raise the limit of `ulimit -f`"
            return StadiaError("output", found=f"{FULL_DISK} ({error})", expected="free space for the files", fix=fix)
    if isinstance(error, OSError) and number is not None:
        reason = error.strerror or type(error).__name__
        if error.filename is None:
            fix = "check disks, connections and limits of this machine"
            return StadiaError("system", found=f"a failed call ({reason})", expected="a working system", fix=fix)
        name = os.fsdecode(error.filename)  # TensorBoard's is bytes
        fix = "check the path, its permissions and free space"
        return StadiaError(name, found=f"a path that cannot be used ({reason})", expected="a usable path", fix=fix)
    return None
