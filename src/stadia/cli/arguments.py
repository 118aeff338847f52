"""Define arguments and options that several commands share."""

from pathlib import Path
from typing import Annotated, Any

import typer


def argument(help: str, **settings: Any) -> Any:
    """Return a typer argument whose default the help does not show."""
    return typer.Argument(help=help, show_default=False, **settings)


def option(help: str, **settings: Any) -> Any:
    """Return a typer option, `--` and the parameter's name, whose default the help does not show."""
    return typer.Option(help=help, show_default=False, **settings)


def flag(name: str, help: str) -> Any:
    """Return a typer option without a value."""
    return typer.Option(name, help=help, show_default=False)


def check_size(text: str | None) -> str | None:
    """Return the text of `--size`. Raises ConfigError; loads no torch."""
    if text is not None:
        from stadia.predict.options import parse_size

        parse_size(text)
    return text


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
MotionOption = Annotated[str | None, option("How to estimate the path: aligned (default) or network.")]
SizeOption = Annotated[str | None, option("Another image size than in training: 1216x352.", callback=check_size)]
FlipOption = Annotated[bool, flag("--flip", "Average with the mirrored image: better depth in twice the time.")]
SteadyOption = Annotated[bool, flag("--steady", "Average depth over neighboring frames: less flicker.")]
ScaleOption = Annotated[
    list[str] | None,
    option(
        "Measure metres by: baseline, height=1.5, object=car:1.5@boxes.csv, point=X,Y:12.3, speed=10, gps, "
        "lidar, lanes, reference=DEPTHS, map=1.5 (height over the map's road). Repeat to compare."
    ),
]
BackendOption = Annotated[str | None, option("What runs the depth network: torch (default), onnxruntime, openvino.")]
PrecisionOption = Annotated[str, typer.Option(help="float32; bf16 (torch, openvino) or int8 (onnxruntime, openvino).")]

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


def check_scale_sources(texts: list[str] | None) -> tuple[str, ...]:
    """Return the sources of `--scale-from`. Raises ConfigError; loads no torch."""
    if texts:
        from stadia.predict.scale.grammar import parse_scale

        for text in texts:
            parse_scale(text)
    return tuple(texts or ())


def take_default_network(
    network: Path, source: Path | None, settings: list[str] | None, named: Path | None = None
) -> tuple[Path, Path, list[str] | None]:
    """Return network, input and settings of a line that may name the input alone: the network is base then.

    Raises ConfigError, CheckpointError or DataError if the network or the input does not exist. Loads no torch.

    named: the network of `--network`; the line then has no other.
    """
    from stadia.core.errors import ConfigError
    from stadia.files.paths import check_path_exists, expand_home
    from stadia.models.published_networks import DEFAULT_NETWORK, is_network_name, refuse_misspelt_network

    if source is not None and "=" in str(source) and not source.exists():
        source, settings = None, [str(source), *(settings or [])]
    if source is None:
        network, source = named or Path(DEFAULT_NETWORK), network
    elif named is not None:
        raise ConfigError("--network", found=f"{named} and {network}", expected="one network", fix="leave one out")
    if not is_network_name(str(network)):
        from stadia.files.run_facts import check_network_exists

        refuse_misspelt_network(str(network))
        check_network_exists(network)
    check_path_exists(expand_home(source))
    return network, source, settings
