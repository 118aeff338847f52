"""Point clouds of scored frames: data for the page's script, which draws them."""

import base64
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.io.input_files import read_json
from stadia.report.embedded_images import UNREADABLE, decode_png, encode_jpeg, note_unreadable
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


def add_marks(figure: PointCloudFigure, marks: Sequence[tuple[NDArray[np.float64], str]]) -> PointCloudFigure:
    """Return a 3D view with measured lines: points (N, 3), and the label of each."""
    shown = [{"points": points.tolist(), "text": text} for points, text in marks]
    return replace(figure, view=json.dumps({**json.loads(figure.view), "marks": shown}))


# -- scenes of points and cameras

SHOWN_SIDE = 640
"""Longest side, pixels, of the images of a scene."""

GIVEN_COLOR, CORRECTED_COLOR = (240, 150, 60), (255, 255, 255)


@dataclass(frozen=True)
class SceneCamera:
    """A camera in a 3D view.

    K: (3, 3) of an image of this size, pixels.
    height, width: size of the image.
    T_world_camera: (4, 4) pose, camera to world.
    color: RGB of its lines.
    """

    K: NDArray[np.float64]
    height: float
    width: float
    T_world_camera: NDArray[np.float64]
    color: tuple[int, int, int] = CORRECTED_COLOR

    def to_json(self) -> dict[str, Any]:
        """Return the values of the camera for the script of the page."""
        fov_deg = math.degrees(2 * math.atan(0.5 * self.width / self.K[0, 0]))
        T = self.T_world_camera[:3].tolist()
        return {"fov_deg": fov_deg, "aspect": self.width / self.height, "T": T, "color": self.color}


@dataclass(frozen=True)
class ViewMatches:
    """The matches of an image of a scene with another one.

    other: number of the other image in the list of views.
    about: sentence about the matches.
    places: (N, 4) x, y in the image and x, y in the other one, as shares of width and height.
    agrees: (N,), whether each match agrees with the poses.
    """

    other: int
    about: str
    places: NDArray[np.float64]
    agrees: NDArray[np.bool_]

    def to_json(self) -> dict[str, Any]:
        """Return the values for the script of the page."""
        places = self.places.round(4).tolist()
        return {"other": self.other, "about": self.about, "places": places, "agrees": self.agrees.tolist()}


@dataclass(frozen=True)
class SceneView:
    """An image of a scene, through whose camera readers look.

    name: name of the image.
    about: what is known about it, such as the number of its matches.
    image: (H, W, 3) RGB; None without one.
    camera: its camera.
    matches: its matches with the image that it matches best; None without them.
    """

    name: str
    about: str
    image: NDArray[np.uint8] | None
    camera: SceneCamera
    matches: ViewMatches | None = None


def pack_scene(
    points: NDArray[np.float32],
    colors: NDArray[np.uint8],
    unit: str,
    *,
    lines: Sequence[tuple[NDArray[np.float64], tuple[int, int, int]]],
    cameras: Sequence[SceneCamera],
    frames: Sequence[tuple[str, int, NDArray[np.uint8] | None]] = (),
    views: Sequence[SceneView] = (),
    radius: float = 0.0,
    center: Sequence[float] = (0.0, 0.0, 0.0),
    grain: float = 0.0,
    opening: NDArray[np.float64] | None = None,
) -> PointCloudFigure:
    """Pack a 3D view for a page.

    points: (N, 3).
    colors: (N, 3).
    unit: unit of lengths.
    lines: lines (M, 3), each with its RGB color.
    cameras: the cameras.
    frames: for a timeline, the name, the number of points and the image (H, W, 3) RGB or None of each camera, in the
        order of the points.
    views: images in a row below the view; a click on one looks through its camera.
    radius: radius of a scene around its center; 0 for one in front of a camera at the origin.
    center: center of a scene.
    grain: typical distance between neighboring points, whose gaps are then filled; 0 draws all in one size.
    opening: pose T_world_camera (4, 4) of the camera from behind which the view opens; None shows all.
    """
    view = {
        "count": len(points),
        "lines": [{"points": path.tolist(), "color": color} for path, color in lines],
        "cameras": [camera.to_json() for camera in cameras],
        "frames": [
            {"name": name, "count": count, "image": "" if image is None else encode_jpeg(image[..., ::-1], 320).uri}
            for name, count, image in frames
        ],
        "views": [
            {
                "name": one.name,
                "about": one.about,
                "image": "" if one.image is None else encode_jpeg(_shrink(one.image)[..., ::-1], SHOWN_SIDE).uri,
                "matches": None if one.matches is None else one.matches.to_json(),
                **one.camera.to_json(),
            }
            for one in views
        ],
        "radius": radius,
        "center": list(center),
        "grain": grain,
        "opening": None if opening is None else opening[:3].tolist(),
    }
    data = points.astype("<f4").tobytes() + colors.tobytes()
    packed = base64.b64encode(data).decode()
    return PointCloudFigure(name="scene", frame="", unit=unit, points=packed, view=json.dumps(view))


def _shrink(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    factor = min(1.0, SHOWN_SIDE / max(image.shape[:2]))
    size = max(round(image.shape[1] * factor), 1), max(round(image.shape[0] * factor), 1)
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


FRAMED = 5.0, 95.0
"""Percentiles of the coordinates of points and cameras between which a scene is framed."""


def frame_scene(points: NDArray[np.floating], centers: NDArray[np.float64]) -> tuple[list[float], float]:
    """Return the center (3) of a scene and its radius: where nine of ten of its points and cameras are.

    points: (N, 3) points.
    centers: (M, 3) positions of the camera.

    Examples:
        >>> frame_scene(np.array([[0.0, 0, 1], [4, 0, 3]]), np.zeros((0, 3)))
        ([2.0, 0.0, 2.0], 2.0124611797498106)
    """
    low, high = np.percentile(np.concatenate([points, centers]), FRAMED, axis=0)
    return ((low + high) / 2).tolist(), float(np.linalg.norm(high - low)) / 2


IN_VIEW = 10.0, 90.0
"""Percentiles of the coordinates of points, and of cameras, that the overview of a scene shows."""


def place_upright(
    points: NDArray[np.float64], T_world_camera: NDArray[np.float64]
) -> tuple[NDArray[np.float64], float]:
    """Return the pose T_view_world (4, 4) of a view of a scene, and the radius of the scene.

    The view is upright if most images are, looks along the mean direction of the cameras, and is centered at the scene.

    points: (N, 3) of the scene.
    T_world_camera: (F, 4, 4) poses.

    Examples:
        >>> T, radius = place_upright(np.zeros((0, 3)), np.eye(4)[None])
        >>> T.tolist() == np.eye(4).tolist()
        True
    """
    down, forward = T_world_camera[:, :3, 1].mean(0), T_world_camera[:, :3, 2].mean(0)
    y = down / max(float(np.linalg.norm(down)), 1e-12) if np.linalg.norm(down) > 0.1 else T_world_camera[0, :3, 1]
    level = forward - (forward @ y) * y
    if np.linalg.norm(level) < 0.1:  # The cameras look everywhere.
        level = T_world_camera[0, :3, 2] - (T_world_camera[0, :3, 2] @ y) * y
    z = level / max(float(np.linalg.norm(level)), 1e-12)
    R = np.stack([np.cross(y, z), y, z])
    groups = [group for group in (points, T_world_camera[:, :3, 3]) if len(group)]  # the cameras are fewer
    ends = np.array([np.percentile(group @ R.T, IN_VIEW, axis=0) for group in groups])
    low, high = ends[:, 0].min(0), ends[:, 1].max(0)
    center = (low + high) / 2 @ R
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = R, -R @ center
    return T, max(float(np.linalg.norm(high - low)) / 2, 1e-6)
