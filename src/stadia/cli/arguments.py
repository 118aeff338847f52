"""Define arguments and options that several commands share."""

import math
from pathlib import Path
from typing import Annotated, Any

import typer

from stadia.core.errors import ConfigError


def argument(help: str, **settings: Any) -> Any:
    """Create a typer argument (a word of the command line by its place) whose default the help does not show.

    help: text for the help.
    settings: further arguments of `typer.Argument`.
    """
    return typer.Argument(help=help, show_default=False, **settings)


def option(help: str, **settings: Any) -> Any:
    """Create a typer option, `--` and the parameter's name, whose default the help does not show.

    help: text for the help.
    settings: further arguments of `typer.Option`.
    """
    return typer.Option(help=help, show_default=False, **settings)


def number(help: str, *, name: str | None = None, show_default: bool = False, **settings: Any) -> Any:
    """Create a typer option that takes a finite number.

    help: text for the help.
    name: its name with `--`; None takes the parameter's name.
    show_default: whether the help shows the default.
    settings: further arguments of `typer.Option`.
    """
    names = () if name is None else (name,)
    return typer.Option(*names, help=help, show_default=show_default, callback=check_finite, **settings)


def check_finite(parameter: typer.CallbackParam, value: float | None) -> float | None:
    """Return the number given for an option unchanged; a callback of typer.

    Raises ConfigError if it is infinite or NaN.
    """
    if value is not None and not math.isfinite(value):
        raise ConfigError(parameter.opts[0], found=value, expected="a finite number", fix="pass a number")
    return value


def flag(name: str, help: str) -> Any:
    """Create a typer option without a value.

    name: its name with `--`.
    help: text for the help.
    """
    return typer.Option(name, help=help, show_default=False)


# -- inputs
CheckpointArgument = Annotated[Path, argument("A run, a checkpoint, or a published network.")]
InputArgument = Annotated[Path, argument("An image, a folder, a video, or a dataset.", metavar="INPUT")]
DefaultNetwork = Annotated[Path, argument("A run, a checkpoint, or a published network; base by default.")]
OptionalInput = Annotated[Path | None, argument("An image, a folder, a video, or a dataset.", metavar="INPUT")]
RunArgument = Annotated[Path, argument("A run's folder, runs/<date>-<name>.")]
DataOption = Annotated[Path | None, option("The data: short for data.path=PATH.")]

# -- settings of a configuration
InputSettings = Annotated[
    list[str] | None, argument("How to open INPUT: data.camera.horizontal_fov_deg=69", metavar="KEY=VALUE")
]
TrainingSettings = Annotated[list[str] | None, argument("Dotted keys: optimizer.lr=2e-4", metavar="KEY=VALUE")]

# -- how a network runs
EveryOption = Annotated[int, typer.Option(min=1, help="Use each n-th frame.")]
StrictOption = Annotated[bool, flag("--strict", "Exit with 1 if the verdict is unusable.")]

# -- metrics of a study
MetricOption = Annotated[str | None, option("A column of metrics.csv; the recipe's best metric by default.")]
BetterOption = Annotated[str | None, option("Whether lower or higher values are better.")]

# -- outputs
RUNS = Path("runs")
RunsOption = Annotated[Path, typer.Option(help="The folder for runs.")]
ForceOption = Annotated[bool, flag("--force", "Replace a file that stadia did not write.")]
JsonOption = Annotated[bool, flag("--json", "Print only JSON.")]
VerboseOption = Annotated[bool, flag("--verbose", "Show all evidence, notes and reasons.")]
