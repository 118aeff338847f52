"""Point clouds of scored frames: data for the page's script, which draws them."""

import base64
import json
import math
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.io.input_files import read_json
from stadia.report.embedded_images import UNREADABLE, decode_png, note_unreadable
from stadia.report.run_files import METRES, RunFiles, check_inside

MAX_CLOUDS, MAX_CLOUD_PIXELS = 2, 65_536


@dataclass(frozen=True)
class PointCloudFigure:
    """A point cloud of the page.

    points: base64 of depth (h, w) uint16 with 0 for unknown, then of RGB (h, w, 3).
    view: camera and unit as JSON.
    """

    name: str
    frame: str
    unit: str
    points: str
    view: str


def load_point_clouds(run: RunFiles) -> list[PointCloudFigure]:
    """Return at most MAX_CLOUDS point clouds of a run. Unreadable files add a line to `unreadable`."""
    clouds: dict[tuple[str, str], PointCloudFigure] = {}
    for camera in sorted(run.folder.glob("clouds/*/camera.json")):
        try:
            if len(clouds) < MAX_CLOUDS:
                cloud = _load_point_cloud(camera, run.folder)
                clouds.setdefault((cloud.frame, cloud.points), cloud)
        except UNREADABLE as error:
            note_unreadable(camera.parent, error, run)
    return list(clouds.values())


def _load_point_cloud(camera: Path, run: Path) -> PointCloudFigure:
    about = read_json(check_inside(run, camera))
    depth = decode_png(camera.parent / "depth.png", cv2.IMREAD_UNCHANGED, run)
    image = decode_png(camera.parent / "image.png", cv2.IMREAD_COLOR, run)
    is_depth = depth is not None and depth.dtype == np.uint16 and depth.ndim == 2
    if depth is None or image is None or not is_depth or image.shape != (*depth.shape, 3):
        raise ValueError("the folder needs a 16-bit depth.png and an image.png of the same size")
    count = np.count_nonzero(depth)
    if depth.size > MAX_CLOUD_PIXELS or not count:
        raise ValueError(f"{depth.size} pixels with {count} points, expected 1 to {MAX_CLOUD_PIXELS}")
    (fx, _, cx), (_, fy, cy), _ = np.asarray(about["K"], np.float64).tolist()
    per_count = float(about["depth_per_count"])
    if not all(map(math.isfinite, (fx, fy, cx, cy, per_count))) or min(fx, fy, per_count) <= 0:
        raise ValueError(f"a camera of {(fx, fy, cx, cy, per_count)}")
    name, frame, scale = f"{camera.parent.name}: {about['frame']}", str(about["frame"]), about["depth_scale"]
    return pack_point_cloud(name, frame, depth, image[..., ::-1], (fx, fy, cx, cy), per_count, scale)


def pack_point_cloud(
    name: str,
    frame: str,
    counts: NDArray[np.uint16],
    image: NDArray[np.uint8],
    camera: tuple[float, float, float, float],
    per_count: float,
    depth_scale: str,
) -> PointCloudFigure:
    """Return the point cloud of a picture for the script of the page.

    counts: (H, W) uint16 depth; 0 means unknown.
    image: (H, W, 3) picture.
    camera: fx, fy, cx and cy for this size.
    per_count: depth of one count.
    """
    fx, fy, cx, cy = camera
    view = {"rows": counts.shape[0], "columns": counts.shape[1], "perCount": per_count}
    view |= {"fx": fx, "fy": fy, "cx": cx, "cy": cy}
    unit = "m" if depth_scale == METRES else "units of depth"
    points = base64.b64encode(counts.astype("<u2").tobytes() + image.tobytes()).decode()
    return PointCloudFigure(name=name, frame=frame, unit=unit, points=points, view=json.dumps(view))


_COUNTS = 65535  # largest value of depth in 16 bits


def fit_cloud_size(height: int, width: int) -> tuple[int, int]:
    """Return a (height, width) with the same aspect ratio and at most MAX_CLOUD_PIXELS pixels.

    Examples:
        >>> fit_cloud_size(720, 1280)
        (192, 341)
    """
    factor = min(1.0, math.sqrt(MAX_CLOUD_PIXELS / (height * width)))
    return max(int(height * factor), 1), max(int(width * factor), 1)


def make_point_cloud(
    name: str, image: NDArray[np.uint8], depth: NDArray[np.float32], K: NDArray[np.float64], depth_scale: str
) -> PointCloudFigure | None:
    """Return the point cloud of a picture for its page; None without depth.

    image: (H, W, 3) RGB.
    depth: (h, w) of size `fit_cloud_size`; 0 means unknown.
    K: (3, 3) intrinsics of the picture.
    """
    if not depth.any():
        return None
    (height, width), (rows, columns) = image.shape[:2], depth.shape
    small = cv2.resize(image, (columns, rows), interpolation=cv2.INTER_AREA)
    per_count = float(depth.max()) / _COUNTS
    counts = np.clip(np.rint(depth / per_count), 0, _COUNTS).astype(np.uint16)
    across, down = columns / width, rows / height
    center = (K[0, 2] + 0.5) * across - 0.5, (K[1, 2] + 0.5) * down - 0.5
    camera = (K[0, 0] * across, K[1, 1] * down, *center)
    return pack_point_cloud(name, name, counts, np.asarray(small, np.uint8), camera, per_count, depth_scale)
