"""Options of `stadia predict` and `evaluate`, and image sizes. Imports no torch."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from stadia.core.config import StrictModel, resolve_config
from stadia.core.errors import ConfigError, StadiaError
from stadia.dataloading.config import DataConfig
from stadia.datasets.config import MAX_NETWORK_PIXELS, SourceOptions
from stadia.evaluation.backends import TORCH, BackendChoice
from stadia.evaluation.io.predictions_record import RECORD
from stadia.files.json_files import read_json


@dataclass(frozen=True, kw_only=True)
class NetworkOptions:
    """The network's options for an input, with the names of the command line.

    data: how to open the input, from `parse_source_options`.
    size: "1216x352", if it is not the training's.
    flip: average each map with the map of the mirrored image.
    steady: average depth over neighboring frames by their motion.
    scale_from: sources of metres, such as "height=1.5".
    """

    data: Mapping[str, Any] = field(default_factory=dict)
    size: str | None = None
    flip: bool = False
    steady: bool = False
    scale_from: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class PredictOptions(NetworkOptions):
    """Options of a prediction: `stadia predict`, `Network.open`, `Network.stream`.

    every: predict each n-th frame.
    motion: method of the trajectory; None = aligned.
    video, color, cloud: write them; cloud None = if the network predicts points.
    background: the image of a composite without its foreground, or a folder of such images.
    backend: a name in `stadia.evaluation.backends.BACKENDS`; None = torch, or onnxruntime for an exported network.
    precision: a name in `stadia.evaluation.backends.PRECISIONS`.
    glb, rerun: 3D files to write next to the folder.
    """

    every: int = 1
    motion: str | None = None
    video: bool = True
    color: bool = True
    cloud: bool | None = None
    background: Path | None = None
    backend: str | None = None
    precision: str = "float32"
    glb: Path | None = None
    rerun: Path | None = None

    @property
    def backend_choice(self) -> BackendChoice:
        """Return the backend and its precision."""
        return BackendChoice(self.backend or TORCH, self.precision)


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions(NetworkOptions):
    """Options of `stadia evaluate NETWORK DATA` and `stadia.evaluate`.

    protocol: of depth.
    by: also score parts of the images, `score_parts.PARTS` except "class".
    frames: file with a frame list.
    every: each n-th frame.
    held_out: only frames that did not train.
    motion: method of the trajectory.
    """

    protocol: str = "metric"
    by: tuple[str, ...] = ()
    frames: Path | None = None
    every: int = 1
    held_out: bool = False
    motion: str = "aligned"

    @property
    def suffix(self) -> str:
        """Return the suffix of output names, which other frames or methods change."""
        frames = f"-{self.frames.stem}" if self.frames else f"-every{self.every}" * (self.every > 1)
        method = f"-{self.motion}" * (self.motion != "aligned") + "-flip" * self.flip + "-steady" * self.steady
        return frames + "-held-out" * self.held_out + method + "-scaled" * bool(self.scale_from)


def as_predict_options(options: EvaluateOptions) -> PredictOptions:
    """Return the options of the scored predictions."""
    shared = {one.name: getattr(options, one.name) for one in fields(NetworkOptions)}
    return PredictOptions(**shared, every=options.every, motion=options.motion)


def refuse_finished(out: Path) -> None:
    """Raise StadiaError for a folder with a finished prediction, before the slow imports."""
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
    """Raise ConfigError for options that are set and have no effect.

    used: fields of the options that have an effect.
    what: the recipe or network that runs.
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


class FormatOptions(SourceOptions):
    """`SourceOptions` and the format."""

    format: str = "auto"


class _SourceKeys(StrictModel):
    data: FormatOptions = FormatOptions()


def parse_source_options(overrides: Sequence[str]) -> dict[str, Any]:
    """Return keyword arguments of `open_recordings` from `data.key=value` options. Raises ConfigError."""
    return resolve_config(_SourceKeys, {}, overrides).data.model_dump(exclude_unset=True)


NETWORK_KEY = "network."
"""A setting of a network without a run starts with this."""


def split_settings(overrides: Sequence[str] | None) -> tuple[list[str], list[str]]:
    """Return the `data.key=value` options, and the `network.key=value` settings.

    Examples:
        >>> split_settings(["data.stride=2", "network.weights=meter.pt"])
        (['data.stride=2'], ['network.weights=meter.pt'])
    """
    settings = [text for text in overrides or () if text.startswith(NETWORK_KEY)]
    return [text for text in overrides or () if not text.startswith(NETWORK_KEY)], settings


class _DataKeys(StrictModel):
    data: DataConfig


def parse_data_config(path: str, format: str, overrides: Sequence[str]) -> DataConfig:
    """Return the data configuration of `data.key=value` options. Raises ConfigError.

    Examples:
        >>> parse_data_config("drive.mp4", "auto", ["data.stride=2"]).stride
        2
    """
    return resolve_config(_DataKeys, {"data": {"path": path, "format": format}}, overrides).data


Size = tuple[int, int]
"""Height and width, pixels."""

_SIZE = re.compile(r"([0-9]{1,5})x([0-9]{1,5})")


def parse_size(text: str) -> Size:
    """Return height and width of "1216x352", width first. Raises ConfigError."""
    found = _SIZE.fullmatch(text.strip())
    width, height = (int(found[1]), int(found[2])) if found else (0, 0)
    if not height * width:
        raise ConfigError("--size", found=f"'{text}'", expected="WIDTHxHEIGHT in pixels, such as 1216x352")
    if height * width > MAX_NETWORK_PIXELS:
        given, expected = f"{text}, {height * width} pixels", f"at most {MAX_NETWORK_PIXELS} pixels"
        raise ConfigError("--size", found=given, expected=expected)
    return height, width


def size_text(size: Size) -> str:
    """Return "WIDTHxHEIGHT"."""
    return f"{size[1]}x{size[0]}"


def trained_size(config: Mapping[str, Any]) -> Size | None:
    """Return the training size in a checkpoint's configuration, or None."""
    data = config.get("data")
    if not isinstance(data, Mapping) or not {"height", "width"} <= data.keys():
        return None
    return data["height"], data["width"]


def requested_size(requested: str | None, config: Mapping[str, Any]) -> Size | None:
    """Return the requested size if it differs from the training size, else None."""
    size = None if requested is None else parse_size(requested)
    return None if size == trained_size(config) else size


def network_size_notes(size: Size | None, config: Mapping[str, Any]) -> list[str]:
    """Return a note about predictions and scores at another size."""
    trained = trained_size(config)
    if size is None or trained is None:
        return []
    here, there = size_text(size), size_text(trained)
    return [f"runs at {here}, but was trained at {there}. Compare with the result without --size"]
