"""Describe an error in one line, and choose the exit code."""

import errno
import os
import re
import shlex
from collections.abc import Callable, Sequence
from typing import Any

from stadia.core.errors import ConfigMistakes, StadiaError, VerdictError
from stadia.core.registry import find_nearest_name

SHARED_OPTIONS = ("--traceback", "--quiet", "--allow-code")
"""Options that every command accepts, anywhere on the line."""

UNUSABLE, MISTAKE, INTERNAL = 1, 2, 70  # exit codes

_OPTIONS_OF_CAMERA = ("--fov", "--focal-px", "--focal-mm")
"""These options of `stadia camera` are often passed to other commands."""

_PLAINER = (
    ("Missing ", "a line without "),
    ("Got unexpected ", ""),
    (" requires an argument", " without a value"),
    (" does not take a value", " with a value"),
)
"""These replace typer's wording, to follow the word "found"."""


def _convert_usage_error(error: Any, line: Sequence[str]) -> StadiaError:
    context = getattr(error, "ctx", None)  # None if an option lacks its value
    command, path = (context.command, context.command_path) if context else (None, "stadia")
    found, valid = error.format_message().rstrip("."), list[str]()
    if command and found.startswith("No such option"):
        found = f"option '{error.option_name}'"
        options = (option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts))
        valid = list(
            dict.fromkeys(option for option in (*options, "--help", *SHARED_OPTIONS) if option.startswith("--"))
        )
    elif found.startswith("No such command"):
        found = found.partition(". Did you mean")[0].replace("No such command", "command")
        valid = list(getattr(command, "commands", ()))
    for words, plainer in _PLAINER:
        found = found.replace(words, plainer)
    word = found.split("'")[1] if valid else "="
    if word in _OPTIONS_OF_CAMERA and word not in valid and valid:
        fix = f"run once: {_find_camera_command(word, line)}"
    elif "=" not in word and (near := find_nearest_name(word, valid)):
        fix = f"did you mean '{near}'?"
    elif word.startswith("--") and (setting := _find_setting(word, line, context)):
        fix = f"write it as a key: {setting}"
    else:  # also a setting, which is no misspelled command
        fix = f"see `{path} --help`"
    usage = " ".join([path, *command.collect_usage_pieces(context)]) if command else "a valid command"
    expected = f"one of {', '.join(valid)}" if valid else usage
    found = found[:1].lower() + found[1:]
    return StadiaError(path.removeprefix("stadia").strip() or "command line", found=found, expected=expected, fix=fix)


def _find_option_value(option: str, line: Sequence[str]) -> str:
    after = [word for index, word in enumerate(line) if index and line[index - 1] == option]
    return next((word.partition("=")[2] for word in line if word.startswith(f"{option}=")), "".join(after[:1]))


def _find_camera_command(option: str, line: Sequence[str]) -> str:
    from stadia.io.input_files import is_existing_path

    source = next((word for word in line[1:] if not word.startswith("-") and is_existing_path(word)), "INPUT")
    return f"stadia camera {shlex.quote(source)} {option} {_find_option_value(option, line) or 'VALUE'}"


def _find_setting(option: str, line: Sequence[str], context: Any) -> str | None:
    if all("KEY=VALUE" not in (parameter.metavar or "") for parameter in context.command.params):
        return None
    from stadia.core.config import list_keys
    from stadia.data.config import SourceOptions
    from stadia.training.recipes import CONFIGS

    if context.info_name == "train":
        keys = list_keys(CONFIGS.load(next((word for word in line if word in CONFIGS), "selfsup")))
    else:
        keys = [f"data.{key}" for key in list_keys(SourceOptions)]
    name = option.removeprefix("--").replace("-", "_")
    fits: list[Callable[[str, str], bool]] = [
        lambda key, leaf: leaf == f"max_{name}" or key == name,
        lambda key, leaf: leaf == name,
        lambda key, leaf: name.removesuffix("s") in [word.removesuffix("s") for word in leaf.split("_")],
    ]
    groups = {key.rpartition(".")[0] for key in keys}
    named = {key: key.rpartition(".")[2] for key in keys if key not in groups and ".NAME." not in key}
    of_each = ([key for key, leaf in named.items() if is_named(key, leaf)] for is_named in fits)
    found = next(filter(None, of_each), [])
    found = [key for key in found if not any(key.endswith(f".{other}") for other in found)]  # training.finish.KEY
    if len(found) != 1:  # the word belongs to several keys, or to none
        return None
    return f"{found[0]}={_find_option_value(option, line) or 'VALUE'}"


_OUT_OF_MEMORY = re.compile(
    r"can(no|')t allocate memory|not enough memory|out of memory|insufficient memory|"
    r"could not create a primitive(?! descriptor)",  # with it the shapes are wrong
    re.IGNORECASE,
)
"""RuntimeErrors of torch, oneDNN, cv2 and CUDA contain this."""


def _find_exhausted_limit(error: BaseException) -> StadiaError | None:
    number = error.errno if isinstance(error, OSError) else None
    text = str(error)
    if isinstance(error, MemoryError) or number == errno.ENOMEM or _OUT_OF_MEMORY.search(text):
        fix = "use a smaller size or batch (data.height, data.width, training.batch_size, --size), or fewer workers"
        return StadiaError("memory", found="no memory left", expected="enough for data and network", fix=fix)
    if number in (errno.EMFILE, errno.ENFILE):
        fix = "set fewer training.workers, or raise `ulimit -n`"
        return StadiaError("open files", found="the limit of the system", expected="fewer", fix=fix)
    if isinstance(error, EOFError):  # its own error is printed above
        fix = "set training.workers=0, or raise `ulimit -n`"
        return StadiaError("processes", found="a failed process", expected="loaded images", fix=fix)
    if number == errno.EAGAIN or "can't start new thread" in text:
        fix = "set fewer training.workers, or raise `ulimit -u`"
        return StadiaError("processes", found="the limit of the system", expected="fewer", fix=fix)
    return None


def describe_error(error: BaseException, line: Sequence[str]) -> tuple[str, int]:
    """Return the text of an error for the user in one line, and the exit code.

    error: the exception.
    line: the words of the command line.

    The exit code is 1 for unusable predictions, 2 for a mistake of the user, 70 for a bug of stadia, 130 for an
    interruption.
    """
    from stadia.core.signals import INTERRUPTED

    if hasattr(error, "format_message"):  # click's; empty if the help was printed
        return str(_convert_usage_error(error, line)) if error.format_message() else "", MISTAKE
    if isinstance(error, ConfigMistakes) and len(error.mistakes) > 1:
        return "\n  ".join((error.title, *map(str, error.mistakes))), MISTAKE
    if isinstance(error, StadiaError):
        return str(error), UNUSABLE if isinstance(error, VerdictError) else MISTAKE
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", INTERRUPTED
    cause = error.__cause__ if isinstance(error.__cause__, EOFError) else error  # typer makes an Abort of it
    if (limit := _find_exhausted_limit(cause)) is not None:
        return str(limit), MISTAKE
    if isinstance(error, OSError) and error.filename is not None:
        found = f"a path that cannot be used ({error.strerror or type(error).__name__})"
        fix = "check the path, its permissions and free space"
        name = os.fsdecode(error.filename)  # TensorBoard's is bytes
        return str(StadiaError(name, found=found, expected="a usable file or folder", fix=fix)), MISTAKE
    if isinstance(error, OSError) and error.errno is not None:
        found = f"a failed call ({error.strerror or type(error).__name__})"
        fix = "check disks, connections and limits of this machine"
        return str(StadiaError("system", found=found, expected="a working system", fix=fix)), MISTAKE
    text = f"internal error, {type(error).__name__}: {' '.join(str(error).split())}"
    return f"{text}. Please report it, with the output of --traceback", INTERNAL
