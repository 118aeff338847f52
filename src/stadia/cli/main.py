"""`stadia`: register the commands, and print each error as one line.

Nothing heavy is imported before a command runs, so `--help` is fast.
"""

import contextlib
import functools
import io
import os
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperCommand

from stadia import __version__
from stadia.cli.app import app as serve_app
from stadia.cli.app import view
from stadia.cli.audit import audit
from stadia.cli.check import check
from stadia.cli.check_result import refine
from stadia.cli.data import WING_COMMANDS, roadworld, shard, survey
from stadia.cli.demo import demo
from stadia.cli.error_lines import SHARED_OPTIONS, describe_error
from stadia.cli.evaluate import evaluate
from stadia.cli.list_parts import doctor, parts
from stadia.cli.live import live
from stadia.cli.networks import activations, adapt, export, import_network
from stadia.cli.odometry import odometry
from stadia.cli.options import check_outputs
from stadia.cli.output import echo
from stadia.cli.predict import predict
from stadia.cli.rig import rig
from stadia.cli.runs import compare, diagnose, explain, report
from stadia.cli.studies import ablate, sweep
from stadia.cli.train import TrainCommand, train
from stadia.cli.video import calibrate, camera, camera_height, map_source, masks, prior, scale, stereo
from stadia.core.errors import StadiaError
from stadia.core.progress import SHOWN_PROGRESS
from stadia.core.registry import OWN_PART, allow_code
from stadia.core.signals import INTERRUPTED, interrupt_on_termination

DONE = 0  # exit code besides those of `describe_error`

SPIN_COUNT = "10000"
"""Number of turns that a waiting thread of OpenMP spins before it sleeps. With OpenMP's default it spins for
milliseconds, and a prediction beside eight busy processes took four times as long; on idle cores both are equal.
"""

app = typer.Typer(
    name="stadia",
    help="Judge geometry from images, and compute it: depth in metres, camera trajectories, networks.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

COMMANDS: dict[str, tuple[Callable[..., None], ...]] = {
    "Use a network": (predict, live, adapt, odometry, scale, export, import_network, activations),
    "Your video": (camera, calibrate, map_source, masks, camera_height, stereo),
    "Train": (train, demo, parts),
    "Check and score": (check, audit, refine, evaluate, report, diagnose, explain, compare, doctor),
    "Studies": (ablate, sweep),
    "App": (serve_app, view),
}
"""Functions of the commands, by the group under which the help shows them, the most important group first."""

NAMES: dict[Callable[..., None], str] = {
    parts: "list", map_source: "map", serve_app: "app", import_network: "import"
}  # fmt: skip
RENAMED = {"prepare": "masks", "init": "stereo", "--steady": "--smooth", "--image": "--plot"}
"""Former names of commands and options, which keep working with a note."""

CLASSES: dict[Callable[..., None], type[TyperCommand]] = {train: TrainCommand}
data = typer.Typer(help="Render, survey and shard datasets.", no_args_is_help=True)
for command in (roadworld, *map(WING_COMMANDS.load, ("tableworld", "foregrounds", "overlay", "show"))):
    data.command()(command)
for command in (survey, shard):
    data.command()(command)
for group, commands in COMMANDS.items():
    for command in commands:
        app.command(NAMES.get(command), cls=CLASSES.get(command), rich_help_panel=group)(command)
app.add_typer(data, name="data", rich_help_panel="Train")
app.add_typer(prior, name="prior", rich_help_panel="Your video")
app.add_typer(rig, name="rig", rich_help_panel="Check and score")


def _version(wanted: bool) -> None:
    if wanted:
        echo(f"stadia {__version__}")
        raise typer.Exit


def _help(context: typer.Context, wanted: bool) -> None:
    if wanted:
        typer.echo(context.get_help())  # The help has colors, and needs no file.
        raise typer.Exit


@app.callback(add_help_option=False)
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    # Typer's own help option has no default value, and typer imports pydantic to handle that.
    help: Annotated[
        bool, typer.Option("--help", "-h", callback=_help, is_eager=True, help="Show this and exit.")
    ] = False,
    show_traceback: Annotated[bool, typer.Option("--traceback", help="Show the traceback of an error.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
    allow_code: Annotated[
        bool, typer.Option("--allow-code", help="Import classes (module:Class) that a checkpoint or run names.")
    ] = False,
) -> None:
    """Handle the options that all commands share; `run` removes them from the line before."""


_HOME = re.compile(r"(?P<option>(--[\w-]+=)?)(?P<path>~(/.*)?)", re.DOTALL)


def run(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit with a code.

    0: done. 1: a finding. 2: a mistake of the user. 70: a bug of stadia. 130: interrupted. A finding is a stop of
        `check` or `diagnose`, unusable predictions or unchecked data with `--strict`, a dry run without time for its
        checks, or output that was not read to its end.

    arguments: the words after `stadia`; None takes the arguments of this process.
    """
    line = [_expand_home(word) for word in (sys.argv[1:] if arguments is None else arguments)]
    os.environ["PYTHONSAFEPATH"] = "1"  # processes that this one starts load no module of the current folder
    os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)  # PyTorch, which is imported later, reads it
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name of any bytes is printed, in any locale
            stream.reconfigure(errors="backslashreplace")
    with interrupt_on_termination() if arguments is None else contextlib.nullcontext():
        code, message = _run_command(line)
        if message:
            with contextlib.suppress(OSError):  # nobody reads it
                echo(f"stadia: {message}", err=True)
    sys.exit(code)


def _expand_home(word: str) -> str:
    if (found := _HOME.fullmatch(word)) is None:
        return word
    from stadia.io.input_files import expand_home

    return f"{found['option']}{expand_home(found['path'])}"


@functools.cache
def _build_command() -> Any:
    return typer.main.get_command(app)


def _check_current_folder() -> None:
    try:
        Path.cwd()
    except OSError as error:
        found = f"a removed folder ({error.strerror})"
        raise StadiaError("current folder", found=found, expected="a folder", fix="cd to another one") from error


def _check_locale(line: Sequence[str]) -> None:
    if sys.getfilesystemencoding() != "utf-8" and not all(word.isascii() for word in line):
        found, fix = f"names outside its encoding, {sys.getfilesystemencoding()}", "run `export PYTHONUTF8=1`"
        raise StadiaError("locale", found=found, expected="UTF-8", fix=fix)


def _use_new_names(words: list[str]) -> list[str]:
    renamed = []
    for place, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name in RENAMED and (place == 0 or name.startswith("--")):
            echo(f"note: {name} is {RENAMED[name]} now", err=True)
            word = RENAMED[name] + equals + value
        renamed.append(word)
    return [word for word in renamed if word != "--masks"] if words[:1] == ["prepare"] else renamed


def _run_command(line: Sequence[str]) -> tuple[int | str | None, str]:
    try:
        _check_current_folder()
        _check_locale(line)
        words = _use_new_names([word for word in line if word not in SHARED_OPTIONS])
        check_outputs(words)
        given = (word.rpartition("=")[2] for word in line)
        if allowed := ["*"] if "--allow-code" in line else [*filter(OWN_PART.fullmatch, given)]:
            allow_code(allowed)
        SHOWN_PROGRESS.is_silent = "--quiet" in line or "--json" in line
        code = _build_command()(words, prog_name="stadia", standalone_mode=False) or DONE
        return code, "interrupted" if code == INTERRUPTED else ""  # typer turns Ctrl-C into this
    except SystemExit as ending:  # typer's, if the reader of the output has ended (`stadia list | head`)
        return ending.code, ""
    except BaseException as error:
        if "--traceback" in line:
            echo("".join(traceback.format_exception(error)), err=True, nl=False)
        message, code = describe_error(error)
        return code, message
