"""Options of `stadia predict` and `evaluate`: one field each, with type, default, unit and help; and image sizes.

The command line and `Network` read the fields, so a new option is one more field. Imports neither torch nor numpy,
because `--help` imports this file.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stadia.core.errors import ConfigError, StadiaError

if TYPE_CHECKING:
    from stadia.predict.backends import BackendChoice


def about(help: str, *, name: str = "", unit: str = "", least: float | None = None) -> dict[str, Any]:
    """Return the metadata that makes a dataclass field an option of the command line (`--` and its name).

    A `bool` that is False by default becomes a flag; any other `bool` gets a `--no-` form; a tuple can be repeated.

    help: text for the command line and the reference.
    name: name of the option; `--` and the field's name by default.
    unit: unit of the value, which the help shows as its placeholder.
    least: smallest allowed value.
    """
    return {"help": help, "name": name, "unit": unit, "least": least}


@dataclass(frozen=True, kw_only=True)
class NetworkOptions:
    """Options for running a network on an input, with the names of the command line.

    data: options for opening the input, from `parse_source_options`.

    Raises ConfigError for a number below the `least` of its field, and for a size that is none.
    """

    data: Mapping[str, Any] = field(default_factory=dict)
    every: int = field(default=1, metadata=about("Use each n-th frame.", least=1))
    size: str | None = field(default=None, metadata=about("Another image size than in training: 1216x352."))
    flip: bool = field(
        default=False, metadata=about("Average with the mirrored image: better depth in twice the time.")
    )
    smooth: bool = field(default=False, metadata=about("Average depth over neighboring frames: less flicker."))
    scale_from: tuple[str, ...] = field(
        default=(),
        metadata=about(
            "Measure metres by: baseline, height=1.5, object=car:1.5@boxes.csv, point=X,Y:12.3, speed=10, gps, "
            "lidar, reference=DEPTHS, map=1.5 (height over its road), camera (kept by calibrate), file (the video's "
            "GPS). Repeat to compare."
        ),
    )

    def __post_init__(self) -> None:
        for one in fields(self):
            least, value = one.metadata.get("least"), getattr(self, one.name)
            if least is not None and value is not None and not least <= value < math.inf:
                raise ConfigError(one.name, found=value, expected=f"{least:g} or more")
        if self.size is not None:
            parse_size(self.size)


AUTO = "auto"
"""The backend that is chosen for each network: for `base` the faster of onnxruntime and openvino, else torch."""


@dataclass(frozen=True, kw_only=True)
class PredictOptions(NetworkOptions):
    """Options of `stadia predict`, `Network.open` and `Network.stream`. Each field has a help text.

    backend: a name in `stadia.predict.backends.BACKENDS`; None is "auto".
    precision: a name in `stadia.predict.backends.PRECISIONS`.
    cloud: whether to write a point cloud; None writes it if the network predicts points.
    """

    max_depth: float | None = field(
        default=None,
        metadata=about(
            "Write depth beyond this as far, which is 0 like no depth. Needs metres.", unit="METRES", least=0.1
        ),
    )
    motion: str | None = field(default=None, metadata=about("How to estimate the path: aligned (default) or network."))
    video: bool = field(default=True, metadata=about("Write the side-by-side video."))
    color: bool = field(default=True, metadata=about("Write depth in colors."))
    cloud: bool | None = field(default=None, metadata=about("Write the point cloud (default: yes)."))
    glb: Path | None = field(
        default=None, metadata=about("Also write points and path as a .glb, for browsers and Blender.")
    )
    rerun: Path | None = field(default=None, metadata=about("Also write a recording (.rrd) for the viewer of rerun."))
    background: Path | None = field(
        default=None, metadata=about("For overlay: INPUT without the pasted object, an image or a folder.")
    )
    backend: str | None = field(
        default=None, metadata=about("What runs the network: auto (default), torch, onnxruntime or openvino.")
    )
    precision: str = field(default="float32", metadata=about("float32 or bf16 (torch, openvino)."))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.backend == AUTO:
            object.__setattr__(self, "backend", None)

    @property
    def backend_choice(self) -> BackendChoice:
        """Return the backend and the precision."""
        from stadia.predict.backends import TORCH, BackendChoice

        return BackendChoice(self.backend or TORCH, self.precision)

    @property
    def has_default_backend(self) -> bool:
        """Return whether PyTorch runs the network in float32."""
        from stadia.predict.backends import TORCH

        return self.backend in (None, TORCH) and self.precision == "float32"

    def check_backend(self, *, is_exported: bool = False) -> None:
        """Raise ConfigError for an unknown backend or precision, or a package that is not installed.

        is_exported: whether the network is an ONNX file, so that no package is needed to export it.
        """
        if not self.has_default_backend:
            from stadia.predict.backends import check_backend

            check_backend(self.backend_choice, is_exported=is_exported)


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions(NetworkOptions):
    """Options of `stadia evaluate NETWORK DATA` and `stadia.evaluate`.

    protocol: the rules for scoring depth, a name of `stadia list protocols`.
    by: groups of pixels that get separate scores in addition: names in `evaluation.protocols.PARTS` except "class".
    frames: file with a list of the frames to score; None scores all.
    held_out: whether to leave out frames that trained the network.
    motion: method for the camera trajectory: "aligned" or "network"; None is the best one that is installed.
    find_protocol: published figures such as "abs_rel=.115,a1=.877"; the evaluation searches the protocols that
        reproduce them.
    error_maps: new folder into which the depth errors of the best and the worst images are drawn; None draws none.
    """

    protocol: str = field(
        default="metric",
        metadata=about(
            "Depth protocol, of `stadia list protocols`, or options such as crop=eigen,max=50; with --find-protocol "
            "relative."
        ),
    )
    by: tuple[str, ...] = field(
        default=(), metadata=about("Also score parts of images: distance,region; of depth maps also class.")
    )
    frames: Path | None = field(default=None, metadata=about("A file with frames of DATA, `recording frame l` a line."))
    held_out: bool = field(default=False, metadata=about("Only frames of DATA that did not train CHECKPOINT."))
    motion: str | None = field(default=None, metadata=about("How to estimate the path: aligned (default) or network."))
    find_protocol: str | None = field(
        default=None,
        metadata=about("List the protocols that give a published score: .115 (AbsRel), or abs_rel=.115,a1=.877."),
    )

    error_maps: Path | None = field(
        default=None, metadata=about("Draw the errors of the best and the worst maps, into a new folder.")
    )

    @property
    def suffix(self) -> str:
        """Return the suffix of output names, so that other frames or methods do not overwrite earlier results."""
        frames = f"-{self.frames.stem}" if self.frames else f"-every{self.every}" * (self.every > 1)
        motion = "" if self.motion in (None, "aligned") else f"-{self.motion}"
        method = motion + "-flip" * self.flip + "-steady" * self.smooth
        return frames + "-held-out" * self.held_out + method + "-scaled" * bool(self.scale_from)


def as_predict_options(options: EvaluateOptions) -> PredictOptions:
    """Return the prediction options for an evaluation."""
    shared = {one.name: getattr(options, one.name) for one in fields(NetworkOptions)}
    return PredictOptions(**shared, motion=options.motion)


def check_scale_sources(texts: list[str] | None) -> tuple[str, ...]:
    """Check the texts of `--scale-from` and return them as a tuple; does not load PyTorch.

    Raises ConfigError for an invalid text.
    """
    if texts:
        from stadia.scale.grammar import parse_scale

        for text in texts:
            parse_scale(text)
    return tuple(texts or ())


def take_default_network(
    network: Path, source: Path | None, settings: list[str] | None, named: Path | None = None
) -> tuple[Path, Path, list[str] | None]:
    """Sort out network, input and settings of a command line that may name the input alone; the network is `base` then.

    network: the first argument.
    source: the second argument, or None.
    settings: `KEY=VALUE` arguments, or None.
    named: the network of the option `--network`, or None; the command line then has no other network.

    Returns network, input and settings. Does not load PyTorch.

    Raises ConfigError, CheckpointError or DataError if the network or the input does not exist.
    """
    from stadia.io.input_files import check_path_exists, expand_home
    from stadia.predict.networks import DEFAULT_NETWORK
    from stadia.predict.networks.published_networks import is_network_name, refuse_misspelt_network

    if source is not None and "=" in str(source) and not source.exists():
        source, settings = None, [str(source), *(settings or [])]
    if source is None:
        network, source = named or Path(DEFAULT_NETWORK), network
    elif named is not None:
        raise ConfigError("--network", found=f"{named} and {network}", expected="one network", fix="leave one out")
    if not is_network_name(str(network)):
        from stadia.io.run_facts import check_network_exists

        refuse_misspelt_network(str(network))
        check_network_exists(network)
    check_path_exists(expand_home(source))
    return network, source, settings


def refuse_finished(out: Path) -> None:
    """Raise StadiaError for an output folder with a finished prediction, before slow imports begin."""
    from stadia.evaluation.predictions_folder import RECORD
    from stadia.io.input_files import read_json

    path = out / RECORD
    if out.exists() and not out.is_dir():
        raise StadiaError(out, found="a file", expected="a new or an empty folder", fix="choose another --out")
    try:
        record = read_json(path) if path.is_file() else None
    except (StadiaError, OSError):  # opening the folder reports it
        return
    if isinstance(record, dict) and record.get("finished") is True:
        found, fix = "a finished prediction", "choose another --out"
        raise StadiaError(out, found=found, expected="a new or an empty folder", fix=fix)


def refuse_unused(options: NetworkOptions, used: Collection[str], what: str) -> None:
    """Raise ConfigError for options that are set but have no effect.

    options: the options.
    used: names of the options that have an effect.
    what: words for the network that runs.
    """
    optional = [option for option in fields(options) if option.name != "data"]
    given = [option.name for option in optional if getattr(options, option.name) not in (option.default, False)]
    names = [f"--{name.replace('_', '-')}" for name in given if name not in used]
    if "data" not in used:
        names += [f"data.{name}" for name in options.data]
    if names:
        usable = ", ".join(f"--{option.name.replace('_', '-')}" for option in optional if option.name in used)
        expected = f"options that it uses ({usable})" if usable else "no options"
        raise ConfigError(
            " and ".join(names), found=f"used together with {what}", expected=expected, fix="leave it out"
        )


NETWORK_KEY = "network."
"""Start of an argument that is a setting of a network without a run."""


def split_settings(overrides: Sequence[str] | None) -> tuple[list[str], list[str]]:
    """Split arguments into the `data.key=value` options and the `network.key=value` settings.

    Examples:
        >>> split_settings(["data.stride=2", "network.weights=meter.pt"])
        (['data.stride=2'], ['network.weights=meter.pt'])
    """
    settings = [text for text in overrides or () if text.startswith(NETWORK_KEY)]
    return [text for text in overrides or () if not text.startswith(NETWORK_KEY)], settings


Size = tuple[int, int]
"""Height and width of an image, pixels, in this order."""

_SIZE = re.compile(r"([0-9]{1,5})x([0-9]{1,5})")


def parse_size(text: str) -> Size:
    """Return (height, width) from a text such as "1216x352", which has the width first.

    Raises ConfigError for anything else, or too many pixels.
    """
    from stadia.data.config import MAX_NETWORK_PIXELS

    found = _SIZE.fullmatch(text.strip())
    width, height = (int(found[1]), int(found[2])) if found else (0, 0)
    if not height * width:
        raise ConfigError("--size", found=f"'{text}'", expected="WIDTHxHEIGHT in pixels, such as 1216x352")
    if height * width > MAX_NETWORK_PIXELS:
        given, expected = f"{text}, {height * width} pixels", f"at most {MAX_NETWORK_PIXELS} pixels"
        raise ConfigError("--size", found=given, expected=expected)
    return height, width


def size_text(size: Size) -> str:
    """Return a size (height, width) as the text "WIDTHxHEIGHT"."""
    return f"{size[1]}x{size[0]}"


def trained_size(config: Mapping[str, Any]) -> Size | None:
    """Return the image size (height, width) in the configuration of a training; None if it has none."""
    data = config.get("data")
    if not isinstance(data, Mapping) or not {"height", "width"} <= data.keys():
        return None
    return data["height"], data["width"]


def requested_size(requested: str | None, config: Mapping[str, Any]) -> Size | None:
    """Return the image size that the user requested, if it differs from the training's; otherwise None.

    requested: text such as "1216x352", or None.
    config: configuration of the training.
    """
    size = None if requested is None else parse_size(requested)
    return None if size == trained_size(config) else size


def network_size_notes(size: Size | None, config: Mapping[str, Any]) -> list[str]:
    """Return one note in a list if a network runs at another image size than its training's; else an empty list."""
    trained = trained_size(config)
    if size is None or trained is None:
        return []
    here, there = size_text(size), size_text(trained)
    return [f"runs at {here}, but was trained at {there}. Compare with the result without --size"]
