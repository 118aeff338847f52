"""Embed images and point clouds of a run in the report: base64 of JPEGs, and of points for the page's script."""

from __future__ import annotations

import base64
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError, StadiaError
from stadia.files.atomic_files import safe_join
from stadia.files.image_io import read_image
from stadia.files.json_files import read_json
from stadia.report.figures import round_down
from stadia.report.metric_labels import METRES, format_number
from stadia.report.run_files import RunFiles, check_inside

SHEET_WIDTH, MAP_WIDTH, JPEG_QUALITY = 1280, 640, 88
MAX_BYTES = 64 << 20
MAX_MAPS, MAX_DRAWN = 6, 3
NEAR_PERCENTILE = 95  # of inverse depth: the brightest color, so that a few near pixels do not darken the rest
PNG_PER_METRE = 256.0  # of the depth images that predictions write
MIN_TICK_GAP = 12.0  # percent of the color scale between two labels
COLOR_STOPS = 9  # of the color scale; the colors between are interpolated
BASELINES = ("mean-depth",)  # recipes without training

WIDTH, HEIGHT = 960, 480  # of a drawn point cloud
MAX_CLOUDS, MAX_CLOUD_PIXELS = 2, 65_536
CLOUD_BACKGROUND = (20, 21, 23)
YAW_DEG, PITCH_DEG = 20.0, 20.0  # of the first view: from behind the camera, to its left and above
EYE_DISTANCE = 1.9  # distance of the eye from the middle of the cloud, in distances of the camera from it
EYE_FOCAL = 1.3  # in HEIGHT
MAX_POINT_PX = 6  # side of a drawn point
AXES = (
    ("x right", (1, 0, 0), (255, 120, 100)),
    ("y down", (0, 1, 0), (120, 210, 120)),
    ("z forward", (0, 0, 1), (120, 170, 255)),
)
"""Axes of the camera: label, direction, RGB."""


@dataclass(frozen=True)
class EmbeddedImage:
    """An image as a data URI."""

    uri: str
    width: int
    height: int


def embed_image_file(path: Path, name: str, run: RunFiles) -> EmbeddedImage | None:
    """Read a PNG as a JPEG at most `SHEET_WIDTH` wide; an invalid file gets a line in `unreadable`."""
    image = decode_png(path, cv2.IMREAD_COLOR, run.folder)
    if image is None:
        run.unreadable.append(f"{name}: not a PNG of a sensible size, truncated, or a link out of the run's folder")
        return None
    return encode_jpeg(image, SHEET_WIDTH)


@dataclass(frozen=True)
class DepthFigure:
    """The predicted depth of a frame, beside its picture where the prediction has it.

    ticks: (position in percent from the near end, label) of the color scale.  unit: of the labels.
    """

    frame: str
    picture: EmbeddedImage | None
    depth: EmbeddedImage
    ticks: list[tuple[float, str]]
    unit: str


def embed_predicted_depth(run: RunFiles) -> list[DepthFigure]:
    """Return the colored depth of the middle frame of each scored prediction, at most `MAX_MAPS`."""
    found: dict[str, DepthFigure] = {}
    for path in sorted(run.folder.glob("predictions/**/predictions.json")):
        try:
            record = read_json(check_inside(run.folder, path))
            if not record["finished"] or record["recipe"] in BASELINES or len(found) == MAX_MAPS:
                continue
            if (path.parent / "drawn").is_dir():  # shown by `embed_drawn_predictions`
                continue
            name = str(record["entries"][len(record["entries"]) // 2])
            depth = decode_png(safe_join(path.parent / "depth", f"{name}.png"), cv2.IMREAD_UNCHANGED, run.folder)
            picture = decode_png(safe_join(path.parent / "images", f"{name}.png"), cv2.IMREAD_COLOR, run.folder)
        except _UNREADABLE as error:
            _list_unreadable(path, error, run)
            continue
        if depth is not None and depth.ndim == 2 and depth.dtype == np.uint16:  # inverse depth has no such image
            frame, is_metric = f"{record['source']}/{name}", record.get("depth_scale") == METRES
            found.setdefault(frame, _make_depth_figure(frame, depth, picture, is_metric=is_metric))
    return list(found.values())


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
        "metres" if is_metric else "relative: 1 is the nearest depth of the scale, no metres",
    )


def choose_depth_ticks(near: float) -> list[tuple[float, str]]:
    """Return (position in percent, label) of round depths on a scale of inverse depth, from `near` (0) to infinity."""
    ticks = [(0.0, f"{near:.3g}")]
    power = math.floor(math.log10(near))
    for depth in (m * 10.0**exponent for exponent in range(power, power + 3) for m in (1, 2, 5)):
        at = 100 * (1 - near / depth)
        if ticks[-1][0] + MIN_TICK_GAP <= at <= 100 - MIN_TICK_GAP:
            ticks.append((at, f"{depth:g}"))
    return [*ticks, (100.0, "∞")]


def describe_color_scale() -> str:
    """Return the colors of the scale, near to far, as a CSS gradient."""
    bgr = _color_shares(np.linspace(1, 0, COLOR_STOPS)[None])[0]
    return "linear-gradient(to right, " + ", ".join(f"rgb({r}, {g}, {b})" for b, g, r in bgr.tolist()) + ")"


_UNREADABLE = (StadiaError, OSError, ValueError, LookupError, TypeError)


def _list_unreadable(path: Path, error: Exception, run: RunFiles) -> None:
    reason = error.found if isinstance(error, StadiaError) else repr(error)
    run.unreadable.append(f"{path.relative_to(run.folder)}: {reason}")


def embed_drawn_predictions(run: RunFiles) -> list[tuple[str, EmbeddedImage]]:
    """Return (source/name, drawn prediction) spread evenly over each prediction, at most `MAX_MAPS`."""
    found: list[tuple[str, EmbeddedImage]] = []
    for folder in sorted(run.folder.glob("predictions/**/drawn")):
        files = sorted(folder.glob("*.png"))
        for file in files[:: -(-len(files) // MAX_DRAWN) or 1]:
            name = str(file.relative_to(run.folder / "predictions").with_suffix(""))
            if len(found) < MAX_MAPS and (image := embed_image_file(file, name, run)) is not None:
                found.append((name.replace("/drawn/", "/"), image))
    return found


def _color_shares(shares: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Color (H, W) inverse depth, 1 = nearest, as (H, W, 3) BGR: bright is near, black is none."""
    gray = (np.clip(shares, 0, 1) * 255).astype(np.uint8)
    return np.asarray(cv2.applyColorMap(gray, cv2.COLORMAP_MAGMA), np.uint8)


def decode_png(path: Path, flags: int, folder: Path) -> NDArray[Any] | None:
    """Decode an image inside a run's folder; None where it is missing, leads out of it, is truncated or too large."""
    try:
        return read_image(check_inside(folder, path), flags, max_bytes=MAX_BYTES)
    except DataError:
        return None


def encode_jpeg(image: NDArray[Any], max_width: int) -> EmbeddedImage:
    """Encode (H, W, 3) BGR as a JPEG of limited width."""
    height, width = image.shape[:2]
    if width > max_width:
        height, width = max(1, round(height * max_width / width)), max_width
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    _, encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return EmbeddedImage("data:image/jpeg;base64," + base64.b64encode(encoded.tobytes()).decode(), width, height)


# -- Point clouds of scored frames: data for the page's script, and a still image for print and without script.


@dataclass(frozen=True)
class PointCloudFigure:
    """A point cloud of the page.

    name: score file and frame.  frame: of a recording.  count: of its points.
    axis: length of the drawn axes with its unit.
    points: base64 of depth (h, w) in little-endian uint16 counts, 0 = none, then of RGB (h, w, 3).
    view: parameters of the script, as JSON.  still: the first view.
    """

    name: str
    frame: str
    count: int
    axis: str
    points: str
    view: str
    still: EmbeddedImage


@dataclass(frozen=True)
class CloudPoints:
    """depth: (h, w) uint16 counts, 0 = none.  image: (h, w, 3) RGB.  fx to cy: pixels.  per_count: depth of a count."""

    depth: NDArray[np.uint16]
    image: NDArray[np.uint8]
    fx: float
    fy: float
    cx: float
    cy: float
    per_count: float

    @property
    def xyz(self) -> NDArray[np.float64]:
        """Return (N, 3) points in the camera's frame, row by row."""
        row, column = np.nonzero(self.depth)
        z = self.depth[row, column] * self.per_count
        return np.stack([(column - self.cx) / self.fx * z, (row - self.cy) / self.fy * z, z], axis=1)

    @property
    def view(self) -> dict[str, Any]:
        """Return the first view and the decoding parameters; the names are those of cloud.js."""
        middle = np.median(self.xyz, axis=0)
        away = float(np.linalg.norm(middle))
        return {
            "columns": self.depth.shape[1],
            "rows": self.depth.shape[0],
            **{name: getattr(self, name) for name in ("fx", "fy", "cx", "cy")},
            "perCount": self.per_count,
            "middle": middle.tolist(),
            "distance": EYE_DISTANCE * away,
            "yaw": math.radians(YAW_DEG),
            "pitch": math.radians(PITCH_DEG),
            "focal": EYE_FOCAL * HEIGHT,
            "largest": MAX_POINT_PX,
            "axis": round_down(away / 5),
            "axes": [{"name": name, "to": to, "color": f"rgb{color}"} for name, to, color in AXES],
            "background": CLOUD_BACKGROUND,
        }


def load_point_clouds(run: RunFiles) -> list[PointCloudFigure]:
    """Load at most MAX_CLOUDS different point clouds of a run; unreadable ones get a line in `unreadable`."""
    found: dict[tuple[str, str], PointCloudFigure] = {}
    for camera in sorted(run.folder.glob("clouds/*/camera.json")):
        try:
            if len(found) < MAX_CLOUDS:
                cloud = _load_point_cloud(camera, run.folder)
                found.setdefault((cloud.frame, cloud.points), cloud)
        except _UNREADABLE as error:
            _list_unreadable(camera.parent, error, run)
    return list(found.values())


def _load_point_cloud(camera: Path, run: Path) -> PointCloudFigure:
    about = read_json(check_inside(run, camera))
    points = _read_points(camera.parent, about, run)
    metres = about["depth_scale"] == METRES
    view, count = points.view, int((points.depth > 0).sum())
    packed = points.depth.astype("<u2").tobytes() + points.image.tobytes()
    return PointCloudFigure(
        name=f"{camera.parent.name}: {about['frame']}",
        frame=str(about["frame"]),
        count=count,
        axis=format_number(view["axis"], "m" if metres else "of depth's own unit, which is no metre,"),
        points=base64.b64encode(packed).decode(),
        view=json.dumps(view),
        still=encode_jpeg(draw_point_cloud(points)[..., ::-1], WIDTH),
    )


def _read_points(folder: Path, about: dict[str, Any], run: Path) -> CloudPoints:
    """Read depth, image and camera. Raises ValueError where they are invalid."""
    depth = decode_png(folder / "depth.png", cv2.IMREAD_UNCHANGED, run)
    image = decode_png(folder / "image.png", cv2.IMREAD_COLOR, run)
    is_depth = depth is not None and depth.dtype == np.uint16 and depth.ndim == 2
    if depth is None or image is None or not is_depth or image.shape != (*depth.shape, 3):
        raise ValueError("no depth.png of 16 bits with an image.png of its size")
    if depth.size > MAX_CLOUD_PIXELS or not depth.any():
        counts = f"{depth.size} pixels with {np.count_nonzero(depth)} points"
        raise ValueError(f"{counts}, where 1 to {MAX_CLOUD_PIXELS} are drawn")
    (fx, _, cx), (_, fy, cy), _ = np.asarray(about["K"], np.float64).tolist()
    numbers = fx, fy, cx, cy, float(about["depth_per_count"])
    if not all(map(math.isfinite, numbers)) or min(fx, fy, numbers[-1]) <= 0:
        raise ValueError(f"a camera of {numbers}")
    return CloudPoints(depth, np.ascontiguousarray(image[..., ::-1]), *numbers)


def draw_point_cloud(points: CloudPoints) -> NDArray[np.uint8]:
    """Draw the first view (HEIGHT, WIDTH, 3) RGB with the camera's axes, with the arithmetic of cloud.js."""
    view, canvas = points.view, np.full((HEIGHT * WIDTH, 3), CLOUD_BACKGROUND, np.uint8)
    u, v, z = _project_points(points.xyz, view)
    side = np.ceil(view["focal"] * points.xyz[:, 2] / points.fx / np.maximum(z, 1e-9))
    size = np.clip(side, 1, MAX_POINT_PX).astype(int)
    colors = points.image[points.depth > 0]
    order = np.argsort(-z, kind="stable")  # the far ones first, so that the near ones cover them
    order = order[z[order] > 0]
    pixels, sources = [], []
    for dy in range(MAX_POINT_PX):
        for dx in range(MAX_POINT_PX):
            large = order[np.maximum(dx, dy) < size[order]]
            x, y = (np.floor(q[large] - size[large] / 2).astype(int) + step for q, step in ((u, dx), (v, dy)))
            inside = (x >= 0) & (x < WIDTH) & (y >= 0) & (y < HEIGHT)
            pixels.append((y * WIDTH + x)[inside])
            sources.append(large[inside])
    pixel, point = np.concatenate(pixels), np.concatenate(sources)
    last = np.argsort(-z[point], kind="stable")
    canvas[pixel[last]] = colors[point[last]]
    image = canvas.reshape(HEIGHT, WIDTH, 3)
    _draw_axes(image, view)
    return image


def _project_points(
    xyz: NDArray[np.float64], view: dict[str, Any]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Project points (N, 3) to pixels u, v and distance z before the eye; z <= 0 is behind it."""
    x, y, z = (xyz - view["middle"]).T
    cos, sin = math.cos(view["yaw"]), math.sin(view["yaw"])
    x, z = cos * x - sin * z, sin * x + cos * z
    cos, sin = math.cos(view["pitch"]), math.sin(view["pitch"])
    y, z = cos * y - sin * z, cos * z + sin * y
    z = z + view["distance"]
    ahead = np.where(z > 0, z, np.inf)
    return WIDTH / 2 + view["focal"] * x / ahead, HEIGHT / 2 + view["focal"] * y / ahead, z


def _draw_axes(image: NDArray[np.uint8], view: dict[str, Any]) -> None:
    ends = np.array([(0, 0, 0), *(to for _, to, _ in AXES)], np.float64) * view["axis"]
    u, v, z = _project_points(ends, view)
    for number, (name, _, color) in enumerate(AXES, start=1):
        if min(z[0], z[number]) > 0 and max(np.abs([u[0], v[0], u[number], v[number]])) < 1 << 14:
            start, end = ((round(u[i]), round(v[i])) for i in (0, number))
            cv2.line(image, start, end, color, 2, cv2.LINE_AA)
            cv2.putText(image, name, (end[0] + 6, end[1] + 4), cv2.FONT_HERSHEY_SIMPLEX, 0.45, color, 1, cv2.LINE_AA)
