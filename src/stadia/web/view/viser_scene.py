"""Show a scene in the browser by viser: clouds, cameras with their images, paths, and a timeline with play."""

from __future__ import annotations

import contextlib
import io
import math
import re
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import ConfigError
from stadia.files.atomic_files import open_atomic
from stadia.files.input_files import read_bytes
from stadia.geometry.numpy_camera import NEAR
from stadia.web.view.scene import Scene, SceneFrame

PLAY_RATE_HZ = 5.0
TRUE_COLOR, PATH_COLOR = (90, 200, 120), (240, 150, 60)
LEGEND = {"true path": "green: true path", "path": "orange: predicted path"}

WIDE = 1.3
"""Width over height of a window at which a scene fits from left to right."""

MAX_POINT = 0.02
"""Largest size of a point, as a share of the scene: points of a LiDAR are few."""


ANALYTICS = re.compile(rb"<!-- Google tag.*?<script.*?</script>\s*<script>.*?</script>", re.DOTALL)
"""Of viser's page, which reports each visit to another host."""

PAGE = "index.html"


class PageFiles:
    """The files of viser's page, as viser joins their names with `/`: without analytics, and none outside the folder.

    folder: of the page.  index: a file that takes the place of its index.html.
    """

    def __init__(self, folder: Path, index: Path) -> None:
        self.folder, self.index = folder.resolve(), index

    def __truediv__(self, name: str) -> Path:
        path = (self.folder / name).resolve()
        if path == self.folder / PAGE:
            return self.index
        return path if path.is_relative_to(self.folder) and path.is_file() else self.folder / "none"


def remove_other_hosts(page: bytes) -> bytes:
    """Return viser's page without its analytics. Raises ConfigError where it still loads from another host."""
    page = ANALYTICS.sub(b"", page)
    if re.search(rb"""(src|href)\s*=\s*["']?(https?:)?//""", page):
        found, fix = "a file of another host", "install the version of viser in constraints.txt"
        raise ConfigError("viser's page", found=found, expected="files of this machine alone", fix=fix)
    return page


def start_server(host: str, port: int, folder: Path) -> Any:
    """Start viser's server of a page that requests nothing from other hosts.

    Args:
        host, port: of the server.
        folder: for the page, kept while the server runs.

    Raises ConfigError where viser's page still has another host's script.
    """
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
    """Serve a scene until it is interrupted.

    started: called with the address of the page.
    """
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
        """Show the first cloud from behind and above its camera; a narrow window needs more distance."""
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
        position, wxyz = frame.T_world_camera[:3, 3], make_quaternion(frame.T_world_camera[:3, :3])
        camera = server.scene.add_camera_frustum(
            f"/cameras/{number:04d}",
            fov=2 * math.atan(height / 2 / frame.K[1, 1]),
            aspect=width / height,
            scale=size / 60,
            image=frame.image,
            wxyz=wxyz,
            position=position,
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
    """Return the size of a scene: the median distance of its points from their cameras, in the unit of depth."""
    distances = [
        float(np.median(np.linalg.norm(frame.points - frame.T_world_camera[:3, 3], axis=1)))
        for frame in scene.frames
        if len(frame.points)
    ]
    return max(float(np.median(distances)), NEAR) if distances else 1.0


def find_point_size(frame: SceneFrame, size: float) -> float:
    """Return the distance of neighboring points at the size of the scene, so that they cover a surface.

    Examples:
        >>> image, K = np.zeros((60, 80, 3), np.uint8), np.diag([80.0, 80, 1])
        >>> points = np.ones((60 * 80, 3), np.float32)
        >>> find_point_size(SceneFrame("a", image, K, np.eye(4), points, points.astype(np.uint8)), 4.0)
        0.05
    """
    height, width = frame.image.shape[:2]
    spacing = math.sqrt(height * width / (frame.K[0, 0] * frame.K[1, 1]) / max(len(frame.points), 1))
    return float(size * min(spacing, MAX_POINT))


def make_quaternion(R: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the quaternion (w, x, y, z) of a rotation matrix.

    Examples:
        >>> make_quaternion(np.eye(3)).tolist()
        [1.0, 0.0, 0.0, 0.0]
    """
    from scipy.spatial.transform import Rotation

    x, y, z, w = Rotation.from_matrix(R).as_quat()
    return np.array([w, x, y, z])
