"""Parse the texts of `--scale-from`: the name of a source of metres and its value. Does not import PyTorch."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import ConfigError, DataError
from stadia.core.registry import find_nearest_name
from stadia.data.height_priors import PRIORS, find_prior
from stadia.io.depth_files import StackedMap, find_depth_files
from stadia.io.image_io import PICTURE_SUFFIXES
from stadia.io.input_files import expand_home, name_parser_errors, read_text
from stadia.io.number_rows import parse_number

GIVEN_SPREAD = 0.05
"""Relative standard deviation that is assumed for an object height that the user gives."""

Box = tuple[float, float, float, float]
"""Left, top, right and bottom of a box, pixels of the whole image."""


@dataclass(frozen=True)
class MeasuredPoint:
    """A measured distance from the camera plane to the scene point at one pixel (along the optical axis).

    x, y: pixel of the whole image.
    metres: the distance.
    frame: name of the video frame; None takes the first one.
    """

    x: float
    y: float
    metres: float
    frame: str | None


@dataclass(frozen=True)
class KnownDistance:
    """A measured distance between two camera positions, two points in space, or the scene points at two pixels.

    ends: names of two images, two points (x, y, z), or two pixels (x, y).
    metres: the distance.
    frame: name of the video frame of the pixels; None takes the first one.
    """

    ends: tuple[str, str] | tuple[tuple[float, ...], tuple[float, ...]]
    metres: float
    frame: str | None = None


@dataclass(frozen=True)
class PositionsFile:
    """A file or folder of measured positions.

    path: the file or folder.
    offset_s: seconds to add to the times of the positions, so that they fit the clock of the frames.
    """

    path: Path
    offset_s: float = 0.0


@dataclass(frozen=True)
class KnownObject:
    """Objects of known height.

    name: name of their class, such as "car".
    height_m: their mean height, metres.
    spread: relative standard deviation of their height.
    boxes: boxes of these objects by frame name; None takes the masks of the data.
    detector: file of an ONNX network that finds the boxes instead; None without one.
    """

    name: str
    height_m: float
    spread: float
    boxes: Mapping[str, Sequence[Box]] | None
    detector: Path | None = None


@dataclass(frozen=True)
class ReferenceMaps:
    """A folder of depth maps in metres.

    folder: the folder, as the user typed it.
    files: the depth files by frame name.
    """

    folder: str
    files: Mapping[str, Path | StackedMap]


def parse_scale(text: str) -> tuple[str, Any]:
    """Split a text of `--scale-from` into the name of the source and its value.

    The value is None, a number of metres, or an instance of one of the classes of this module; files that the text
    names are read.

    Raises ConfigError for an unknown or incomplete source, DataError for a wrong file.

    Examples:
        >>> parse_scale("height=1.5")
        ('height', 1.5)
        >>> parse_scale("point=640,200:12.3")
        ('point', MeasuredPoint(x=640.0, y=200.0, metres=12.3, frame=None))
    """
    name, _, value = text.partition("=")
    if name not in SCALE_VALUES:
        near = find_nearest_name(name, list(SCALE_VALUES))
        fix = f"did you mean '{near}'?" if near else "for example --scale-from height=1.5"
        expected = f"one of {', '.join(SCALE_VALUES)}"
        raise ConfigError("--scale-from", found=f"'{text}'", expected=expected, fix=fix)
    return name, SCALE_VALUES[name](text, value)


def find_given_height(sources: Sequence[str]) -> float | None:
    """Return the camera's height over the road, metres, that the sources `height` and `map` give; None if neither is
    given.

    Raises ConfigError for two different heights.

    Examples:
        >>> find_given_height(["lidar", "height=1.5"])
        1.5
    """
    given = [text for text in sources if text.partition("=")[0] in ("height", "map")]
    heights = {_parse_metres(text, text.partition("=")[2]) for text in given}
    if len(heights) > 1:
        raise ConfigError("--scale-from", found=" and ".join(given), expected="one height")
    return heights.pop() if heights else None


def _refuse_value(text: str, value: str) -> None:
    if value:
        name = text.partition("=")[0]
        raise ConfigError(f"--scale-from {text}", found=f"'{value}'", expected=name, fix="leave the value out")


MIN_LENGTH = 1e-6
MAX_LENGTH = 1e5
"""Lengths in metres, and speeds in metres per second, that a user measures."""


def _parse_metres(text: str, value: str, example: str = "", unit: str = "metres") -> float:
    try:
        metres = parse_number(value)
    except ValueError:
        metres = math.nan
    if not MIN_LENGTH <= metres < MAX_LENGTH:
        fix = f"for example {example or text.partition('=')[0] + '=1.5'}"
        raise ConfigError(f"--scale-from {text}", found=f"'{value}'", expected=unit, fix=fix)
    return metres


def _parse_speed(text: str, value: str) -> float:
    return _parse_metres(text, value, "speed=10", "metres per second")


def _parse_optional(text: str, value: str) -> float | None:
    return _parse_metres(text, value) if value else None


def _parse_positions(text: str, value: str) -> PositionsFile | None:
    if not value:
        return None
    path, at, offset = value.rpartition("@")
    try:
        offset_s = parse_number(offset) if at and path else 0.0
    except ValueError:  # an @ in the name
        at, offset_s = "", 0.0
    return PositionsFile(expand_home(Path(path if at and path else value)), offset_s)


_DISTANCE = re.compile(r"(?P<one>.+)\.\.(?P<two>.+):(?P<metres>[^:@]+)(@(?P<name>.+))?")
_COORDINATES = re.compile(r"[-+\d.eE]+(,[-+\d.eE]+)+", re.ASCII)


def _parse_distance(text: str, value: str) -> KnownDistance:
    match = _DISTANCE.fullmatch(value)
    ends = (match["one"], match["two"]) if match else ()
    fix = "for example distance=000000..000050:59.9, or distance=120,300..480,310:2.1@000010 for two pixels"
    error = ConfigError(f"--scale-from {text}", found=f"'{value}'", expected="A..B:METRES", fix=fix)
    if match is None:
        raise error
    metres = _parse_metres(text, match["metres"], "distance=000000..000050:59.9")
    if not any(_COORDINATES.fullmatch(end) for end in ends):
        if match["name"]:
            expected = "@FRAME after two pixels, which need it; images are frames themselves"
            fix = f"leave out @{match['name']}"
            raise ConfigError(f"--scale-from {text}", found=f"'@{match['name']}'", expected=expected, fix=fix)
        return KnownDistance((_shorten_name(match["one"]), _shorten_name(match["two"])), metres)
    try:
        one, two = (tuple(map(parse_number, end.split(","))) for end in ends)
    except ValueError as cause:
        raise error from cause
    if len(one) != len(two) or len(one) not in (2, 3) or (len(one) == 3 and match["name"]):
        raise error
    return KnownDistance((one, two), metres, match["name"])


def _parse_folder(text: str, value: str) -> ReferenceMaps:
    if not value:
        raise ConfigError(f"--scale-from {text}", found="no folder", expected="reference=FOLDER", fix="name a folder")
    return ReferenceMaps(value, find_depth_files(expand_home(Path(value))))


_POINT = re.compile(r"(?P<x>\d+\.?\d*),(?P<y>\d+\.?\d*):(?P<metres>[^:@]+)(@(?P<name>.+))?", re.ASCII)


def _parse_point(text: str, value: str) -> MeasuredPoint:
    match = _POINT.fullmatch(value)
    if match is None:
        fix = "for example point=640,200:12.3, or point=640,200:12.3@000010"
        raise ConfigError(f"--scale-from {text}", found=f"'{value}'", expected="X,Y:METRES", fix=fix)
    metres = _parse_metres(text, match["metres"], "point=640,200:12.3")
    return MeasuredPoint(float(match["x"]), float(match["y"]), metres, match["name"])


def _parse_object(text: str, value: str) -> KnownObject:
    given, _, boxes_file = value.partition("@")
    name, _, metres = given.partition(":")
    prior = find_prior(name, PRIORS["mixed"])
    if metres:
        height_m, spread = _parse_metres(text, metres, "object=car:1.5"), GIVEN_SPREAD
    elif prior is not None:
        height_m, spread = prior.mean_m, prior.spread_m / prior.mean_m
    else:
        fix = "for example object=car:1.5@boxes.csv"
        raise ConfigError(f"--scale-from {text}", found=f"'{value}'", expected="object=CLASS:METRES", fix=fix)
    if boxes_file.endswith(".onnx"):
        return KnownObject(name, height_m, spread, None, expand_home(Path(boxes_file)))
    boxes = read_boxes(expand_home(Path(boxes_file))) if boxes_file else None
    return KnownObject(name, height_m, spread, boxes)


MAX_BOX_PX = 1e6


def read_boxes(path: Path) -> dict[str, list[Box]]:
    """Read the boxes of objects from a CSV file with rows `name,left,top,right,bottom` in pixels, or in another order.

    `fit_boxes` finds out order and unit later. Names lose their folder and suffix.

    Returns the boxes by frame name.

    Raises DataError that names the row of a mistake.
    """
    expected = "rows name,left,top,right,bottom in pixels"
    boxes: dict[str, list[Box]] = {}
    with name_parser_errors(path, expected=expected):  # a field may be too long, and a line may end with CR
        rows = list(csv.reader(io.StringIO(read_text(path, expected=expected), newline="")))
    for number, row in enumerate(rows, 1):
        if not row or row[:1] in (["name"], ["image"], ["file_name"]):
            continue
        try:
            name, first, second, third, fourth = row[0], *(parse_number(word.strip()) for word in row[1:5])
        except ValueError as error:
            raise DataError(f"{path}:{number}", found=",".join(row)[:80], expected=expected) from error
        box = first, second, third, fourth
        if not all(-MAX_BOX_PX <= value <= MAX_BOX_PX for value in box) or min(third, fourth) <= 0:
            raise DataError(f"{path}:{number}", found="an empty or endless box", expected=expected)
        boxes.setdefault(_shorten_name(name), []).append(box)
    return boxes


def _shorten_name(name: str) -> str:
    name = name.strip().replace("\\", "/").rpartition("/")[2]
    stem, _, suffix = name.rpartition(".")
    return stem if stem and f".{suffix.lower()}" in (".png", ".jpg", ".jpeg", *PICTURE_SUFFIXES) else name


BoxOrder = Callable[[NDArray[np.float64]], NDArray[np.float64]]


def _list_box_orders(height: int, width: int) -> dict[str, BoxOrder]:
    """Return other orders and units of boxes than left, top, right, bottom in pixels."""
    whole = np.array([width, height, width, height], np.float64)
    corners: dict[str, BoxOrder] = {
        "left, top, width, height": lambda b: np.hstack([b[:, :2], b[:, :2] + b[:, 2:]]),
        "top, left, bottom, right": lambda b: b[:, [1, 0, 3, 2]],
        "center x, center y, width, height": lambda b: np.hstack([b[:, :2] - b[:, 2:] / 2, b[:, :2] + b[:, 2:] / 2]),
    }
    orders: dict[str, BoxOrder] = {"left, top, right, bottom, as shares of the image": lambda b: b * whole}
    for name, order in corners.items():
        orders[f"{name}, as shares of the image"] = lambda b, order=order: order(b) * whole  # type: ignore[misc]
        orders[f"{name}, in pixels"] = order
    return orders


MIN_BOX_SIDE_PX = 2.0
MAX_MISFIT_SHARE = 0.5  # another order has at most this share of the given rows' misfits


def fit_boxes(boxes: Mapping[str, Sequence[Box]], height: int, width: int) -> tuple[dict[str, list[Box]], str]:
    """Convert boxes in any order and unit to left, top, right, bottom in pixels.

    Order and unit are kept if the boxes then fit into the images; otherwise the order and unit that fit best are used.

    boxes: boxes by frame name.
    height, width: size of the images, pixels.

    Returns the boxes, and a note about a changed order or unit; "" if nothing was changed.

    Examples:
        >>> fit_boxes({"a": [(0.25, 0.5, 0.5, 0.75)]}, 100, 200)[0]
        {'a': [(50.0, 50.0, 100.0, 75.0)]}
    """
    names = [name for name, of_frame in boxes.items() for _ in of_frame]
    rows = np.array([box for of_frame in boxes.values() for box in of_frame], np.float64).reshape(-1, 4)

    def count_misfits(tried: NDArray[np.float64]) -> float:
        sides = tried[:, 2:] - tried[:, :2]
        fits = (sides >= MIN_BOX_SIDE_PX).all(1) & (tried >= -1).all(1)
        return float((~fits | (tried[:, 2:] > (width + 1, height + 1)).any(1)).mean())

    given = count_misfits(rows) if len(rows) else 0.0
    orders = {name: order(rows) for name, order in _list_box_orders(height, width).items()} if given else {}
    best = min(orders, key=lambda name: count_misfits(orders[name]), default="")
    if not best or count_misfits(orders[best]) > MAX_MISFIT_SHARE * given:
        return {name: list(of_frame) for name, of_frame in boxes.items()}, ""
    fitted = dict[str, list[Box]]()
    for name, box in zip(names, orders[best].tolist(), strict=True):
        fitted.setdefault(name, []).append((box[0], box[1], box[2], box[3]))
    return fitted, f"boxes are read as {best}, which fits images of {width}x{height}"


SCALE_VALUES: Mapping[str, Callable[[str, str], Any]] = {
    "baseline": _parse_optional,
    "camera": _refuse_value,
    "distance": _parse_distance,
    "file": _refuse_value,
    "height": _parse_metres,
    "map": _parse_metres,
    "object": _parse_object,
    "point": _parse_point,
    "speed": _parse_speed,
    "gps": _parse_positions,
    "lidar": _refuse_value,
    "reference": _parse_folder,
}
"""For each source of `--scale-from` by its name before "=", the function that parses the whole text and its value."""
