"""Show a dataset, a prediction, a map or a run in 3D in the browser (`stadia view`), as one page that loads nothing
else.
"""

import contextlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import ConfigError, DataError, StadiaError
from stadia.core.types import Recording
from stadia.data.frame_preparation import frame_name
from stadia.data.frame_selection import spread_indices
from stadia.data.video.input_camera import is_image_file
from stadia.data.video.video_map import StoredMap
from stadia.evaluation.predictions_folder import Predictions
from stadia.geometry.cameras import centered_K, focal_px_from_fov, resize_K
from stadia.geometry.poses import invert_pose
from stadia.io.image_files import read_rgb
from stadia.io.input_files import safe_join
from stadia.io.records.colmap import read_colmap_points
from stadia.io.records.read import read_reconstruction
from stadia.report.point_cloud_figures import SceneCamera, SceneView, pack_scene, place_upright
from stadia.report.result_page import ResultPage, render_result
from stadia.web.page_headers import HEADERS
from stadia.web.video import find_centers, read_poses

MAX_FRAMES, MAX_FRAME_POINTS = 60, 8_000

MAX_CAMERAS, MAX_RESULT_POINTS = 400, 400_000
"""Most cameras of a result of another program in the view (MAX_RESULT_POINTS: most points)."""

ASSUMED_SIZE, ASSUMED_K = (640, 480), centered_K(focal_px_from_fov(60.0, 640), 480, 640)
"""Size of the images of a result that states none, and intrinsics of one without a camera: 60 degrees across."""

SHOWN_WIDTH = 320
"""Width of the images shown at the cameras, pixels."""

TRUE_COLOR, PATH_COLOR = (90, 200, 120), (240, 150, 60)


@dataclass(frozen=True)
class SceneFrame:
    """One video frame in the scene.

    name: name of the frame.
    image: (h, w, 3) RGB, small; None without one.
    camera: its camera with its pose.
    points: (N, 3) in the world; empty without depth.
    colors: (N, 3) colors of the points.
    """

    name: str
    image: NDArray[np.uint8] | None
    camera: SceneCamera
    points: NDArray[np.float32]
    colors: NDArray[np.uint8]


@dataclass(frozen=True)
class Scene:
    """Frames and camera trajectories in the world of the first camera.

    frames: the frames.
    path: (N, 3) predicted camera positions.
    true_path: (M, 3) true camera positions; empty if unknown.
    unit: unit of lengths.
    verdict: on a map; "" for other scenes.
    """

    frames: Sequence[SceneFrame]
    path: NDArray[np.float64]
    true_path: NDArray[np.float64]
    unit: str = "m"
    verdict: str = ""


def collect_scene(recording: Recording, predictions: Path | None = None, max_frames: int = MAX_FRAMES) -> Scene:
    """Collect the scene of a recording.

    recording: the recording.
    predictions: a folder of `stadia predict`; None takes the ground truth.
    max_frames: most frames, evenly spread.

    Raises DataError if no frame has depth.
    """
    count = min(max_frames, len(recording))
    indices = spread_indices(len(recording), count)
    true = {index: T for index in indices if (T := recording.T_world_camera(index)) is not None}
    predicted = {} if predictions is None else read_poses(predictions)
    opened = None if predictions is None else Predictions.open(predictions)
    frames: list[SceneFrame] = []
    T_first_world = np.eye(4)
    for index in indices:
        name = frame_name(recording, index)
        T_world_camera = true.get(index, predicted.get(name))
        if T_world_camera is None and index != indices[0]:
            continue
        if T_world_camera is not None and not frames:
            T_first_world = invert_pose(T_world_camera)
        T_first_camera = np.eye(4) if T_world_camera is None else T_first_world @ T_world_camera
        depth = _read_depth(recording, index, opened, name)
        frames.append(make_frame(name, recording.image(index), recording.K(index), T_first_camera, depth))
    if not any(len(frame.points) for frame in frames):
        found, fix = "no depth", "pass --predictions FOLDER of `stadia predict`"
        raise DataError(recording.name, found=found, expected="ground truth or predictions", fix=fix)
    predicted_path = _center([predicted[name] for name in sorted(predicted)])
    return Scene(frames, predicted_path, _center([true[index] for index in sorted(true)]))


def collect_map(mapped: StoredMap) -> Scene:
    """Collect the scene of a map: its points, and the cameras of at most MAX_FRAMES frames."""
    points = np.asarray(mapped.read_points()["points"], np.float32)
    height, width = mapped.camera.height, mapped.camera.width
    placed = np.flatnonzero(np.isfinite(mapped.poses).all((1, 2)))
    shown = placed[spread_indices(len(placed), MAX_FRAMES)]
    depths = np.linalg.norm(points - np.median(points, 0), axis=1)
    shades = 255 - 160 * np.clip(depths / max(float(np.percentile(depths, 95)), 1e-9), 0, 1)
    colors = np.repeat(shades[:, None], 3, 1).astype(np.uint8)
    frames = [
        SceneFrame(mapped.names[row], None, SceneCamera(mapped.camera.intrinsics.K, height, width, mapped.poses[row]),
                   points if row == shown[0] else points[:0], colors if row == shown[0] else colors[:0])
        for row in shown
    ]  # fmt: skip
    verdict = "" if mapped.verdict is None else str(mapped.verdict.grade)
    return Scene(frames, find_centers(mapped.poses[placed]), np.zeros((0, 3)), "units of the map", verdict)


def _read_depth(recording: Recording, index: int, opened: Predictions | None, name: str) -> NDArray[Any] | None:
    if opened is None:
        return recording.depth_m(index)
    return opened.read(name) if name in opened.files else None


def make_frame(
    name: str,
    image: NDArray[np.uint8],
    K: NDArray[np.float64],
    T_world_camera: NDArray[np.float64],
    depth: NDArray[Any] | None,
) -> SceneFrame:
    """Create a frame of a scene, with at most MAX_FRAME_POINTS points of its depth.

    name: name of the frame.
    image: (H, W, 3) RGB.
    K: (3, 3) of the image, pixels.
    T_world_camera: (4, 4) pose.
    depth: (h, w), 0 = none; None without depth.
    """
    height, width = image.shape[:2]
    shown_height, shown_width = max(round(height * min(1.0, SHOWN_WIDTH / width)), 1), min(width, SHOWN_WIDTH)
    small = np.asarray(cv2.resize(image, (shown_width, shown_height), interpolation=cv2.INTER_AREA), np.uint8)
    points, colors = np.zeros((0, 3), np.float32), np.zeros((0, 3), np.uint8)
    if depth is not None:
        known = np.isfinite(depth) & (depth > 0)
        rows, columns = np.nonzero(known)
        if (every := math.ceil(math.sqrt(len(rows) / MAX_FRAME_POINTS))) > 1:  # Thinning one way only leaves stripes.
            rows, columns = (every * place for place in np.nonzero(known[::every, ::every]))
        of_depth = resize_K(K, (height, width), *depth.shape)
        z = depth[rows, columns].astype(np.float64)
        x, y = (columns - of_depth[0, 2]) / of_depth[0, 0] * z, (rows - of_depth[1, 2]) / of_depth[1, 1] * z
        points = (np.stack([x, y, z], 1) @ T_world_camera[:3, :3].T + T_world_camera[:3, 3]).astype(np.float32)
        colors = small[rows * shown_height // depth.shape[0], columns * shown_width // depth.shape[1]]
    return SceneFrame(name, small, SceneCamera(K, height, width, T_world_camera), points, colors)


def _center(poses: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return the centers (N, 3) of cameras, in the frame of the first one."""
    return find_centers(invert_pose(poses[0]) @ T for T in poses)


def render_result_scene(path: Path, images: Path | None = None) -> str:
    """Return the page of the result of another program: cameras, path, points if its format has them, and images.

    path: the result, of any format of `stadia.io.records.read.FORMATS`.
    images: the folder of its images; None searches next to the result, as projects of COLMAP and nerfstudio have them.

    Raises DataError for an unknown or damaged result.
    """
    result = read_reconstruction(path)
    T_world_camera = result.T_world_camera
    rows = np.flatnonzero(np.isfinite(T_world_camera).all((1, 2)))
    if not len(rows):
        raise DataError(path, found="no pose", expected="at least one", fix="check the file")
    rows = rows[spread_indices(len(rows), MAX_CAMERAS)]
    points, colors = (
        read_colmap_points(path) if result.format == "colmap" else (np.zeros((0, 3)), np.zeros((0, 3), np.uint8))
    )
    every = max(-(-len(points) // MAX_RESULT_POINTS), 1)
    points, colors = points[::every], colors[::every]
    T_view_world, radius = place_upright(points, T_world_camera[rows])
    centers = T_world_camera[rows][:, :3, 3] @ T_view_world[:3, :3].T + T_view_world[:3, 3]
    shown = set(rows[spread_indices(len(rows), MAX_FRAMES)].tolist())
    cameras, views = [], list[SceneView]()
    for row in rows.tolist():
        width, height = result.sizes[row].tolist() if all(result.sizes[row]) else ASSUMED_SIZE
        K = result.K[row] if np.isfinite(result.K[row]).all() else ASSUMED_K
        cameras.append(SceneCamera(K, height, width, T_view_world @ T_world_camera[row]))
        if row in shown:
            image = find_result_image(path, result.names[row], images)
            views.append(SceneView(result.names[row] or str(row), "", image, cameras[-1]))
    seen = points @ T_view_world[:3, :3].T + T_view_world[:3, 3]
    cloud = pack_scene(
        seen.astype(np.float32),
        colors,
        "units of the result",
        lines=[(centers, PATH_COLOR)],
        cameras=cameras,
        views=views,
        radius=radius,
    )
    facts = {"Format": result.format, "Images with a pose": f"{len(rows):,}", "Points": f"{len(points) * every:,}"}
    facts |= {"Notes": "; ".join(result.notes)} if result.notes else {}
    return render_result(
        ResultPage(title=path.name, images=(), verdict="", lines=(), trust="", facts=facts, cloud=cloud)
    )


def find_result_image(path: Path, name: str, images: Path | None) -> NDArray[np.uint8] | None:
    """Return an image (H, W, 3) RGB of a result, small; None if it is not found or cannot be read.

    path: the result.
    name: name of the image in the result, which others wrote: it cannot lead out of the folders that are searched.
    images: the folder of the images; None searches in folders next to the result.
    """
    near = [path if path.is_dir() else path.parent]
    near += [near[0].absolute().parent, near[0].absolute().parent.parent]
    folders = [images] if images is not None else [place for one in near for place in (one / "images", one)]
    for folder in folders:
        for inside in (name, Path(name).name):
            with contextlib.suppress(StadiaError, OSError, ValueError):
                file = safe_join(folder, inside)
                if inside and file.is_file() and is_image_file(file):
                    return read_rgb(file)
    return None


def render_scene(name: str, scene: Scene) -> str:
    """Return the page of a scene as HTML."""
    lines = [(path, color) for path, color in ((scene.true_path, TRUE_COLOR), (scene.path, PATH_COLOR))]
    points, colors = (np.concatenate([getattr(frame, part) for frame in scene.frames]) for part in ("points", "colors"))
    frames = [(frame.name, len(frame.points), frame.image) for frame in scene.frames]
    cameras = [frame.camera for frame in scene.frames]
    cloud = pack_scene(points, colors, scene.unit, lines=lines, cameras=cameras, frames=frames)
    paths = "green: true; orange: predicted" if len(scene.true_path) else "orange: of the camera"
    facts = {"Paths": paths, "Frames": str(len(frames)), "Points": f"{len(points):,}"}
    verdict = scene.verdict
    return render_result(
        ResultPage(title=name, images=(), verdict=verdict, lines=(), trust="", facts=facts, cloud=cloud)
    )


def show_page(page: str, host: str, port: int, started: Callable[[str], None]) -> None:
    """Serve one page until the process is interrupted.

    page: the HTML.
    host, port: address to serve.
    started: called with the address of the page.

    Raises ConfigError if the port is used.
    """
    data = page.encode()

    class _Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            """Send the page at /, and nothing at other paths."""
            is_page = self.path == "/"
            self.send_response(200 if is_page else 404)
            for name, value in HEADERS.items():
                if name != "content-security-policy":  # the page has its own
                    self.send_header(name, value)
            self.send_header("content-type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(data if is_page else b"")

        def log_message(self, format: str, *args: Any) -> None:
            """Print nothing."""

    try:
        server = ThreadingHTTPServer((host, port), _Handler)
    except OSError as error:
        found = f"{host}:{port}, which cannot be opened ({error.strerror})"
        raise ConfigError("--port", found=found, expected="a free port", fix="pass another --port") from error
    with server:
        started(f"http://{host}:{server.server_address[1]}/")
        server.serve_forever()
