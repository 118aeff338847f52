"""Show a data set or a prediction in 3D in the browser (`stadia view`)."""

from __future__ import annotations

import contextlib
import io
import math
import re
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from stadia.core.errors import ConfigError, DataError
from stadia.core.recording import Recording
from stadia.evaluation.frame_preparation import frame_name
from stadia.evaluation.io.predictions_folder import Predictions
from stadia.evaluation.io.predictions_record import TRAJECTORY
from stadia.evaluation.io.trajectory_formats import read_kitti_trajectory
from stadia.files.atomic_files import open_atomic
from stadia.files.input_files import read_bytes
from stadia.geometry.numpy_camera import NEAR, resize_K

MAX_FRAMES = 60

MAX_FRAME_POINTS = 15_000

SHOWN_WIDTH = 320
"""Width of the images of cameras, pixels."""


@dataclass(frozen=True)
class SceneFrame:
    """One frame in the world.

    image: (h, w, 3) RGB, small.  K: (3, 3) of it.  T_world_camera: (4, 4).
    points: (N, 3) in the world, with colors (N, 3); empty without depth.
    """

    name: str
    image: NDArray[np.uint8]
    K: NDArray[np.float64]
    T_world_camera: NDArray[np.float64]
    points: NDArray[np.float32]
    colors: NDArray[np.uint8]


@dataclass(frozen=True)
class Scene:
    """Frames, and camera centers as predicted (N, 3) and true (M, 3), in the world of the first camera."""

    frames: Sequence[SceneFrame]
    path: NDArray[np.float64]
    true_path: NDArray[np.float64]


def collect_scene(recording: Recording, predictions: Path | None = None, max_frames: int = MAX_FRAMES) -> Scene:
    """Return the scene of a recording.

    predictions: a folder of `stadia predict`; None takes the ground truth.  max_frames: evenly spread.

    Raises DataError if no frame has depth.
    """
    count = min(max_frames, len(recording))
    indices = np.unique(np.linspace(0, len(recording) - 1, count).round().astype(int)).tolist()
    true = {index: T for index in indices if (T := recording.T_world_camera(index)) is not None}
    predicted = {} if predictions is None else read_predicted_poses(predictions)
    opened = None if predictions is None else Predictions.open(predictions)
    frames: list[SceneFrame] = []
    T_first_world = np.eye(4)
    for index in indices:
        name = frame_name(recording, index)
        T_world_camera = true.get(index, predicted.get(name))
        if T_world_camera is None and index != indices[0]:
            continue
        if T_world_camera is not None and not frames:
            T_first_world = np.asarray(np.linalg.inv(T_world_camera), np.float64)
        T_first_camera = np.eye(4) if T_world_camera is None else T_first_world @ T_world_camera
        depth = _read_depth(recording, index, opened, name)
        frames.append(make_frame(name, recording.image(index), recording.K(index), T_first_camera, depth))
    if not any(len(frame.points) for frame in frames):
        found, fix = "no depth", "pass --predictions FOLDER of `stadia predict`"
        raise DataError(recording.name, found=found, expected="ground truth or predictions", fix=fix)
    predicted_path = _centers([predicted[name] for name in sorted(predicted)])
    return Scene(frames, predicted_path, _centers([true[index] for index in sorted(true)]))


def read_predicted_poses(folder: Path) -> dict[str, NDArray[np.float64]]:
    """Return T_world_camera (4, 4) of predicted frames, by name."""
    record = Predictions.open(folder).record
    if record is None or not (folder / TRAJECTORY).is_file():
        return {}
    poses = read_kitti_trajectory(folder / TRAJECTORY).T_world_camera
    return {name: np.asarray(T, np.float64) for name, T in zip(record.path, poses, strict=False)}


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
    """Return a frame with at most MAX_FRAME_POINTS points of its depth (h, w), 0 = none."""
    height, width = image.shape[:2]
    shown_height, shown_width = max(round(height * min(1.0, SHOWN_WIDTH / width)), 1), min(width, SHOWN_WIDTH)
    small = np.asarray(cv2.resize(image, (shown_width, shown_height), interpolation=cv2.INTER_AREA), np.uint8)
    points, colors = np.zeros((0, 3), np.float32), np.zeros((0, 3), np.uint8)
    if depth is not None:
        known = np.isfinite(depth) & (depth > 0)
        rows, columns = np.nonzero(known)
        if (every := math.ceil(math.sqrt(len(rows) / MAX_FRAME_POINTS))) > 1:  # both ways: one way leaves stripes
            rows, columns = (every * place for place in np.nonzero(known[::every, ::every]))
        of_depth = resize_K(K, (height, width), *depth.shape)
        z = depth[rows, columns].astype(np.float64)
        x, y = (columns - of_depth[0, 2]) / of_depth[0, 0] * z, (rows - of_depth[1, 2]) / of_depth[1, 1] * z
        points = (np.stack([x, y, z], 1) @ T_world_camera[:3, :3].T + T_world_camera[:3, 3]).astype(np.float32)
        at = (rows * shown_height // depth.shape[0], columns * shown_width // depth.shape[1])
        colors = small[at]
    shown_K = resize_K(K, (height, width), shown_height, shown_width)
    return SceneFrame(name, small, shown_K, T_world_camera, points, colors)


def _centers(poses: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return the centers (N, 3) of cameras, in the frame of the first one."""
    if not poses:
        return np.zeros((0, 3))
    first = np.linalg.inv(poses[0])
    return np.stack([(first @ T)[:3, 3] for T in poses])


# -- the page, by viser

PLAY_RATE_HZ = 5.0
TRUE_COLOR, PATH_COLOR = (90, 200, 120), (240, 150, 60)
LEGEND = {"true path": "green: true path", "path": "orange: predicted path"}

WIDE = 1.3
"""Width over height of a window that shows a scene from left to right."""

MAX_POINT = 0.02
"""Largest size of a point, as a share of the scene."""


ANALYTICS = re.compile(rb"<!-- Google tag.*?<script.*?</script>\s*<script>.*?</script>", re.DOTALL)
"""In viser's page, which reports each visit to another host."""

PAGE = "index.html"


class PageFiles:
    """The files of viser's page, with another index.html, and none outside the folder."""

    def __init__(self, folder: Path, index: Path) -> None:
        self.folder, self.index = folder.resolve(), index

    def __truediv__(self, name: str) -> Path:
        path = (self.folder / name).resolve()
        if path == self.folder / PAGE:
            return self.index
        return path if path.is_relative_to(self.folder) and path.is_file() else self.folder / "none"


def remove_other_hosts(page: bytes) -> bytes:
    """Return viser's page without analytics. Raises ConfigError if it still loads from another host."""
    page = ANALYTICS.sub(b"", page)
    if re.search(rb"""(src|href)\s*=\s*["']?(https?:)?//""", page):
        found, fix = "a file of another host", "install the version of viser in constraints.txt"
        raise ConfigError("viser's page", found=found, expected="files of this machine alone", fix=fix)
    return page


def start_server(host: str, port: int, folder: Path) -> Any:
    """Start viser's server of a page that requests nothing from other hosts. folder: for the page."""
    import viser
    from viser import infra

    pages, index = Path(viser.__file__).parent / "client" / "build", folder / PAGE
    page = remove_other_hosts(read_bytes(pages / PAGE, expected="viser's page", max_bytes=1 << 20))
    with open_atomic(index) as stream:
        stream.write(page)

    class PageServer(infra.WebsockServer):
        def __init__(self, **settings: Any) -> None:
            super().__init__(**{**settings, "http_server_root": PageFiles(pages, index)})

    banner = contextlib.redirect_stdout(io.StringIO())  # viser frames the address, which the command prints
    with mock.patch.object(infra, "WebsockServer", PageServer), banner:
        server = viser.ViserServer(host=host, port=port, verbose=False)
    server.request_share_url = lambda verbose=True: None  # a visitor's click would publish the scene by viser's host
    return server


def show_scene(scene: Scene, host: str, port: int, started: Callable[[str], None]) -> None:
    """Serve a scene until it is interrupted. started: called with the address of the page."""
    with tempfile.TemporaryDirectory(prefix="stadia-view-") as folder:
        server = start_server(host, port, Path(folder))
        nodes = fill_scene(server, scene)
        started(f"http://{host}:{server.get_port()}/")
        run_timeline(server, scene, nodes)


def fill_scene(server: Any, scene: Scene) -> list[tuple[Any, Any]]:
    """Add cameras, clouds and paths; return the camera and the cloud of each frame."""
    server.scene.set_up_direction("-y")
    server.gui.configure_theme(dark_mode=True)
    size = find_size(scene)

    def place_view(client: Any) -> None:
        """Show the first cloud from behind and above its camera."""
        away = size * max(WIDE / client.camera.aspect, 1)
        client.camera.position = (-0.1 * away, -0.25 * away, -0.4 * away)
        below = 0.35 * (size + 0.4 * away) if client.camera.aspect < 1 else 0.0  # controls cover the half below
        client.camera.look_at = (0.0, below, size)

    server.on_client_connect(place_view)
    for name, path, color in (("true path", scene.true_path, TRUE_COLOR), ("path", scene.path, PATH_COLOR)):
        if len(path) > 1:
            segments = np.stack([path[:-1], path[1:]], axis=1)
            server.scene.add_line_segments(f"/{name}", segments, color, line_width=3.0)
    nodes = []
    for number, frame in enumerate(scene.frames):
        height, width = frame.image.shape[:2]
        x, y, z, w = Rotation.from_matrix(frame.T_world_camera[:3, :3]).as_quat()
        camera = server.scene.add_camera_frustum(
            f"/cameras/{number:04d}",
            fov=2 * math.atan(height / 2 / frame.K[1, 1]),
            aspect=width / height,
            scale=size / 60,
            image=frame.image,
            wxyz=np.array([w, x, y, z]),
            position=frame.T_world_camera[:3, 3],
        )
        cloud = server.scene.add_point_cloud(
            f"/clouds/{number:04d}",
            frame.points,
            frame.colors,
            point_size=find_point_size(frame, size),
            visible=number == 0,
        )
        nodes.append((camera, cloud))
    return nodes


def run_timeline(server: Any, scene: Scene, nodes: list[tuple[Any, Any]]) -> None:
    """Add the controls, and play until it is interrupted."""
    last = max(len(nodes) - 1, 1)
    slider = server.gui.add_slider("frame", 0, last, 1, 0)
    play = server.gui.add_checkbox("play", False)
    every = server.gui.add_checkbox("clouds of all frames", len(nodes) == 1)
    shown = [LEGEND[name] for name, path in (("true path", scene.true_path), ("path", scene.path)) if len(path) > 1]
    if shown:
        server.gui.add_markdown("; ".join(shown))
    image = server.gui.add_image(scene.frames[0].image, label=scene.frames[0].name)

    def show(_: object = None) -> None:
        number = min(int(slider.value), len(nodes) - 1)
        for at, (_, cloud) in enumerate(nodes):
            cloud.visible = every.value or at == number
        image.image, image.label = scene.frames[number].image, scene.frames[number].name

    slider.on_update(show)
    every.on_update(show)
    while True:
        time.sleep(1 / PLAY_RATE_HZ)
        if play.value:
            slider.value = (int(slider.value) + 1) % len(nodes)


def find_size(scene: Scene) -> float:
    """Return the median distance of points from their cameras, in the unit of depth."""
    distances = [
        float(np.median(np.linalg.norm(frame.points - frame.T_world_camera[:3, 3], axis=1)))
        for frame in scene.frames
        if len(frame.points)
    ]
    return max(float(np.median(distances)), NEAR) if distances else 1.0


def find_point_size(frame: SceneFrame, size: float) -> float:
    """Return the size of points that cover a surface.

    Examples:
        >>> image, K = np.zeros((60, 80, 3), np.uint8), np.diag([80.0, 80, 1])
        >>> points = np.ones((60 * 80, 3), np.float32)
        >>> find_point_size(SceneFrame("a", image, K, np.eye(4), points, points.astype(np.uint8)), 4.0)
        0.05
    """
    height, width = frame.image.shape[:2]
    spacing = math.sqrt(height * width / (frame.K[0, 0] * frame.K[1, 1]) / max(len(frame.points), 1))
    return float(size * min(spacing, MAX_POINT))
