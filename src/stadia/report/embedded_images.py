"""Pictures of a run as parts of its page: predicted depth, drawn predictions, and images that the training logged."""

import base64
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError, StadiaError
from stadia.io.image_io import read_image
from stadia.io.input_files import read_json, safe_join
from stadia.report.run_files import (
    METRES,
    PanelLabel,
    RunFiles,
    check_inside,
    label_validation_image,
    step_from_filename,
)

MAX_BYTES = 64 << 20
MAX_MAPS, MAX_DRAWN, MAX_SHEETS = 6, 3, 9
# This percentile of inverse depth gets the brightest color, so that a few near pixels do not darken the rest.
NEAR_PERCENTILE = 95
PNG_PER_METRE = 256.0  # Depth images of predictions have 256 levels per metre.
MIN_TICK_GAP = 12.0  # percent of the color scale between two labels
BASELINES = ("mean-depth",)  # recipes without training
COLOR_STOPS = 9  # number of colors of the scale; colors between them are interpolated


@dataclass(frozen=True)
class EmbeddedImage:
    """An image as a data URI, with its size in pixels."""

    uri: str
    width: int
    height: int


def embed_image_file(path: Path, name: str, run: RunFiles) -> EmbeddedImage | None:
    """Return a PNG as a JPEG at most `SHEET_WIDTH` wide. An invalid file adds a line to `unreadable`."""
    image = decode_png(path, cv2.IMREAD_COLOR, run.folder)
    if image is None:
        run.unreadable.append(f"{name}: not a valid PNG, or a link out of the run")
        return None
    return encode_jpeg(image, SHEET_WIDTH)


@dataclass(frozen=True)
class DepthFigure:
    """The predicted depth of a frame in colors.

    picture: the image of the frame, or None.
    ticks: (position in percent, label) of the color scale.
    """

    frame: str
    picture: EmbeddedImage | None
    depth: EmbeddedImage
    ticks: list[tuple[float, str]]
    unit: str


def embed_predicted_depth(run: RunFiles) -> list[DepthFigure]:
    """Return the depth in colors for the middle frame of each scored prediction, at most `MAX_MAPS`."""
    shown: dict[str, DepthFigure] = {}
    for path in sorted(run.folder.glob("predictions/**/predictions.json")):
        try:
            record = read_json(check_inside(run.folder, path))
            if not record["finished"] or record["recipe"] in BASELINES or len(shown) == MAX_MAPS:
                continue
            if (path.parent / "drawn").is_dir():  # shown by `embed_drawn_predictions`
                continue
            name = str(record["entries"][len(record["entries"]) // 2])
            depth = decode_png(safe_join(path.parent / "depth", f"{name}.png"), cv2.IMREAD_UNCHANGED, run.folder)
            picture = decode_png(safe_join(path.parent / "images", f"{name}.png"), cv2.IMREAD_COLOR, run.folder)
        except UNREADABLE as error:
            note_unreadable(path, error, run)
            continue
        if depth is not None and depth.ndim == 2 and depth.dtype == np.uint16:  # inverse depth has no such image
            frame, is_metric = f"{record['source']}/{name}", record.get("depth_scale") == METRES
            shown.setdefault(frame, _make_depth_figure(frame, depth, picture, is_metric=is_metric))
    return list(shown.values())


def _make_depth_figure(
    frame: str, depth: NDArray[np.uint16], picture: NDArray[np.uint8] | None, *, is_metric: bool
) -> DepthFigure:
    """Color depth (H, W) in counts of a PNG, 0 = none, and label the scale in metres or in nearest depths."""
    inverse = np.divide(1.0, depth, out=np.zeros(depth.shape), where=depth > 0)
    top = float(np.percentile(inverse[depth > 0], NEAR_PERCENTILE)) if depth.any() else 1.0
    near = 1 / (top * PNG_PER_METRE) if is_metric else 1.0
    return DepthFigure(
        frame,
        None if picture is None else encode_jpeg(picture, MAP_WIDTH),
        encode_jpeg(_color_shares(inverse / top), MAP_WIDTH),
        choose_depth_ticks(near),
        "metres" if is_metric else "relative, 1 is the nearest",
    )


def choose_depth_ticks(near: float) -> list[tuple[float, str]]:
    """Return (percent, label) of round depths on a scale of inverse depth that goes from `near` to infinity."""
    ticks = [(0.0, f"{near:.3g}")]
    power = math.floor(math.log10(near))
    for depth in (m * 10.0**exponent for exponent in range(power, power + 3) for m in (1, 2, 5)):
        at = 100 * (1 - near / depth)
        if ticks[-1][0] + MIN_TICK_GAP <= at <= 100 - MIN_TICK_GAP:
            ticks.append((at, f"{depth:g}"))
    return [*ticks, (100.0, "∞")]


def describe_color_scale() -> str:
    """Return the colors of the scale from near to far, as a CSS gradient."""
    bgr = _color_shares(np.linspace(1, 0, COLOR_STOPS)[None])[0]
    return "linear-gradient(to right, " + ", ".join(f"rgb({r}, {g}, {b})" for b, g, r in bgr.tolist()) + ")"


UNREADABLE = (StadiaError, OSError, ValueError, LookupError, TypeError)


def note_unreadable(path: Path, error: Exception, run: RunFiles) -> None:
    """Add the file and the reason to the unreadable files of the run."""
    reason = error.found if isinstance(error, StadiaError) else repr(error)
    run.unreadable.append(f"{path.relative_to(run.folder)}: {reason}")


def embed_drawn_predictions(run: RunFiles) -> list[tuple[str, EmbeddedImage]]:
    """Return (source/name, drawn prediction) of predictions that are spread evenly, at most `MAX_MAPS`."""
    drawn: list[tuple[str, EmbeddedImage]] = []
    for folder in sorted(run.folder.glob("predictions/**/drawn")):
        files = sorted(folder.glob("*.png"))
        for file in files[:: -(-len(files) // MAX_DRAWN) or 1]:
            name = str(file.relative_to(run.folder / "predictions").with_suffix(""))
            if len(drawn) < MAX_MAPS and (image := embed_image_file(file, name, run)) is not None:
                drawn.append((name.replace("/drawn/", "/"), image))
    return drawn


def _color_shares(shares: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Color (H, W) inverse depth, 1 = nearest, as (H, W, 3) BGR: bright is near, black is none."""
    gray = (np.clip(shares, 0, 1) * 255).astype(np.uint8)
    return np.asarray(cv2.applyColorMap(gray, cv2.COLORMAP_MAGMA), np.uint8)


def decode_png(path: Path, flags: int, folder: Path) -> NDArray[Any] | None:
    """Return an image in a run's folder, (H, W) or (H, W, C), or None.

    It is None if the file is missing, outside the folder, truncated or too large.
    """
    try:
        return read_image(check_inside(folder, path), flags, max_bytes=MAX_BYTES)
    except DataError:
        return None


def encode_jpeg(image: NDArray[Any], max_width: int) -> EmbeddedImage:
    """Return an image (H, W, 3) BGR as a JPEG at most `max_width` pixels wide."""
    height, width = image.shape[:2]
    if width > max_width:
        height, width = max(1, round(height * max_width / width)), max_width
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    _, encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return EmbeddedImage("data:image/jpeg;base64," + base64.b64encode(encoded.tobytes()).decode(), width, height)


def embed_image_sheets(run: RunFiles) -> list[tuple[int, EmbeddedImage]]:
    """Return at most `MAX_SHEETS` image sheets with their steps, spread evenly over the run."""
    count = len(run.images)
    chosen = sorted({round(i * (count - 1) / (MAX_SHEETS - 1)) for i in range(MAX_SHEETS)}) if count else []
    images = ((run.images[i][0], _embed_run_image(run.images[i][1], run)) for i in chosen)
    return [(step, image) for step, image in images if image is not None]


def embed_validation_images(run: RunFiles) -> list[tuple[PanelLabel, int, EmbeddedImage]]:
    """Return (label, step, image) of the last image of each kind of validation image."""
    last = {path.parent.name: path for path in sorted(run.folder.glob("images/*/step-*.png"))}
    images = ((name, step_from_filename(path), _embed_run_image(path, run)) for name, path in last.items())
    return [(label_validation_image(name), step, image) for name, step, image in images if image is not None]


def _embed_run_image(path: Path, run: RunFiles) -> EmbeddedImage | None:
    return embed_image_file(path, path.relative_to(run.folder).as_posix(), run)


SHEET_WIDTH, MAP_WIDTH, JPEG_QUALITY = 1280, 640, 88
