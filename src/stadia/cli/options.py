"""Arguments and options of commands: shared ones, and options that the fields of a dataclass define.

An option that has no effect is refused.
"""

import inspect
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import Field, fields
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_type_hints

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


# -- outputs
OUTPUTS = ("--out", "--fix", "--junit", "--record", "--report", "--runs", "--sheet")
"""Options of all commands that name a file or folder to write."""


def check_outputs(words: Sequence[str]) -> None:
    """Check the files and folders that a command line names to be written.

    words: the words after `stadia`. Only `stadia predict` of many videos writes to an address.

    Raises ConfigError for an empty name, an address, and a device.
    """
    for place, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name not in OUTPUTS or not (equals or place + 1 < len(words)):
            continue
        value = value if equals else words[place + 1]
        fix = "pass a file or folder of this machine"
        if not value.strip():
            raise ConfigError(name, found="an empty name", expected="a file or folder to write", fix=fix)
        if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", value) and words[0] != "predict":
            raise ConfigError(name, found=f"the address {value}", expected="a file or folder", fix=fix)
        if value.startswith("/dev/") and not value.startswith("/dev/shm/"):
            raise ConfigError(name, found=f"the device {value}", expected="a file or folder", fix=fix)


# -- settings of a configuration
InputSettings = Annotated[
    list[str] | None, argument("How to open INPUT: data.camera.horizontal_fov_deg=69", metavar="KEY=VALUE")
]


TrainingSettings = Annotated[list[str] | None, argument("Dotted keys: optimizer.lr=2e-4", metavar="KEY=VALUE")]


# -- how a network runs
EveryOption = Annotated[int, typer.Option(min=1, help="Use each n-th frame.")]


WorkersOption = Annotated[
    int | None, typer.Option(min=0, max=4096, help="Processes for many videos.", show_default=False)
]


EngineOption = Annotated[
    str, option("What runs the processes of many items: local, ray, dask, ray:ADDRESS or dask:ADDRESS.")
]


StrictOption = Annotated[bool, flag("--strict", "Exit with 1 if the verdict is unusable.")]


# -- metrics of a study
MetricOption = Annotated[str | None, option("A column of metrics.csv; the recipe's best metric by default.")]


BetterOption = Annotated[str | None, option("Whether lower or higher values are better.")]


RUNS = Path("runs")


RunsOption = Annotated[Path, typer.Option(help="The folder for runs.")]


ForceOption = Annotated[bool, flag("--force", "Replace a file that stadia did not write.")]


JsonOption = Annotated[bool, flag("--json", "Print only JSON.")]


VerboseOption = Annotated[bool, flag("--verbose", "Show all evidence, notes and reasons.")]


CommandT = TypeVar("CommandT", bound=Callable[..., Any])
OptionsT = TypeVar("OptionsT")


def add_options(options: type, *names: str) -> Callable[[CommandT], CommandT]:
    """Create a decorator that gives a command the options that the fields of a dataclass define.

    The command takes their values as `**options`; the help shows them before the command's own keyword options.

    options: a class whose fields have the metadata of `stadia.predict.options.about`.
    names: names of the fields to add; none adds all fields that are options.
    """
    types = get_type_hints(options)
    chosen = [one for one in fields(options) if (one.name in names if names else "help" in one.metadata)]
    return _add_parameters([_make_parameter(one, types[one.name]) for one in chosen])


def add_options_of_inputs(inputs: Mapping[str, type]) -> Callable[[CommandT], CommandT]:
    """Create a decorator that gives a command the options of all kinds of its input; `take_options` selects one kind.

    inputs: the dataclass of options by words for the kind of input. The help groups the options of a single kind.
    """
    parameters: dict[str, inspect.Parameter] = {}
    for title, options in inputs.items():
        types = get_type_hints(options)
        for one in fields(options):
            if "help" in one.metadata and one.name not in parameters:
                is_shared = len(_find_inputs(inputs, one.name)) > 1
                parameters[one.name] = _make_parameter(one, types[one.name], panel=None if is_shared else title)
    return _add_parameters(sorted(parameters.values(), key=lambda one: len(_find_inputs(inputs, one.name))))


def take_options(
    context: typer.Context, inputs: Mapping[str, type[OptionsT]], title: str, values: Mapping[str, Any]
) -> OptionsT:
    """Return the options of a command for one kind of input.

    context: the call of the command.
    inputs: the dataclass of options of each kind of input.
    title: the kind of this input, a key of `inputs`.
    values: values of the options of all kinds.

    Raises ConfigError for an option of the command line that has no effect on this kind.
    """
    for name in values:
        if title not in (others := _find_inputs(inputs, name)):
            refuse_options(context, [name], found=f"no effect on {title}", expected=" or ".join(others))
    chosen = [one for one in fields(inputs[title]) if one.name in values]  # type: ignore[arg-type]
    given = {one.name: tuple(values[one.name] or ()) if one.default == () else values[one.name] for one in chosen}
    return inputs[title](**given)


def is_given(context: typer.Context, name: str) -> bool:
    """Return whether the command line has a parameter of its command, also with the value of the default."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def refuse_options(
    context: typer.Context, names: Iterable[str], *, found: str, expected: str, fix: str = "leave it out"
) -> None:
    """Raise ConfigError for the first of some parameters that the command line has, because it has no effect there.

    context: the call of the command.
    names: names of parameters of the command.
    found: why the parameter has no effect.
    expected: what it has an effect on.
    fix: what to do.
    """
    for parameter in context.command.params:
        if parameter.name in names and is_given(context, str(parameter.name)):
            is_option = parameter.param_type_name == "option"
            shown = parameter.opts[0] if is_option else getattr(parameter, "metavar", None) or parameter.name
            raise ConfigError(shown, found=found, expected=expected, fix=fix)


def _find_inputs(inputs: Mapping[str, type], name: str) -> list[str]:
    return [title for title, options in inputs.items() if any(one.name == name for one in fields(options))]


def _add_parameters(added: list[inspect.Parameter]) -> Callable[[CommandT], CommandT]:
    def decorate(command: CommandT) -> CommandT:
        signature = inspect.signature(command, eval_str=True)
        own = [one for one in signature.parameters.values() if one.kind is not inspect.Parameter.VAR_KEYWORD]
        first = next((n for n, one in enumerate(own) if one.kind is inspect.Parameter.KEYWORD_ONLY), len(own))
        parameters = [*own[:first], *added, *own[first:]]
        command.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {one.name: one.annotation for one in parameters}
        return command

    return decorate


def _make_parameter(one: Field[Any], type_: Any, panel: str | None = None) -> inspect.Parameter:
    dashed, default = one.name.replace("_", "-"), one.default
    settings: dict[str, Any] = {"help": one.metadata["help"], "show_default": default not in (None, False, ())}
    settings["rich_help_panel"] = panel
    names = [one.metadata["name"]] if one.metadata["name"] else []
    if type_ is bool and default is False:
        names = names or [f"--{dashed}"]
    elif type_ in (bool, bool | None):
        names = [f"--{dashed}/--no-{dashed}"]
    elif type_ in (float, float | None):
        settings["callback"] = check_finite
    if one.metadata["unit"]:
        settings["metavar"] = one.metadata["unit"]
    if one.metadata["least"] is not None:
        settings["min"] = one.metadata["least"]
    if default == ():
        type_, default = list[str] | None, None
    annotation = Annotated[type_, typer.Option(*names, **settings)]
    return inspect.Parameter(one.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
