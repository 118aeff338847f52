"""What `stadia view` shows: points of all frames fit together where poses, depth and calibration do."""

from __future__ import annotations

import http.client
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial import cKDTree
from tests.refusals import refuses

from stadia.core.errors import ConfigError, DataError
from stadia.datasets import open_recordings
from stadia.web.scene import PageFiles, collect_scene, find_size, make_frame, remove_other_hosts


def test_clouds_of_all_frames_are_one_world(worlds: Path) -> None:
    """Static parts of a rendered road: most points of a frame lie near points of the first one."""
    recording = open_recordings(worlds)[0]
    scene = collect_scene(recording)
    assert len(scene.frames) == len(recording)
    np.testing.assert_allclose(scene.frames[0].T_world_camera, np.eye(4), atol=1e-9)
    near = [frame.points[np.linalg.norm(frame.points, axis=1) < 15] for frame in scene.frames]
    apart, _ = cKDTree(near[0]).query(near[1])
    assert np.median(apart) < 0.3
    moved = near[1] + np.float32([0, 2, 0])
    assert np.median(cKDTree(near[0]).query(moved)[0]) > 3 * np.median(apart), "a wrong pose is seen"
    assert len(scene.true_path) == len(recording)
    assert find_size(scene) > 1


def test_a_point_is_where_its_pixel_is() -> None:
    image, K = np.zeros((48, 64, 3), np.uint8), np.array([[50.0, 0, 31.5], [0, 50, 23.5], [0, 0, 1]])
    depth = np.zeros((48, 64))
    depth[10, 20] = 4.0
    T = np.eye(4)
    T[:3, 3] = 1, 2, 3
    frame = make_frame("a", image, K, T, depth)
    expected = np.array([(20 - 31.5) / 50 * 4 + 1, (10 - 23.5) / 50 * 4 + 2, 4 + 3])
    np.testing.assert_allclose(frame.points, [expected], atol=1e-5)


def test_without_depth_it_names_what_is_missing(drive_images: Path) -> None:
    with refuses(DataError, fix="--predictions"):
        collect_scene(open_recordings(drive_images, camera={"horizontal_fov_deg": 70})[0])


@pytest.fixture
def drive_images(tmp_path: Path) -> Path:
    import cv2

    rng = np.random.default_rng(0)
    for number in range(3):
        cv2.imwrite(str(tmp_path / f"{number:06d}.png"), rng.integers(0, 255, (48, 64, 3), np.uint8))
    return tmp_path


def test_files_of_the_page_stay_in_its_folder(tmp_path: Path) -> None:
    pages, index = tmp_path / "pages", tmp_path / "index.html"
    pages.mkdir()
    for path in (pages / "logo.svg", pages / "index.html", tmp_path / "secret.txt"):
        path.write_text("text")
    files = PageFiles(pages, index)
    inside = [files / name for name in ("logo.svg", "index.html", "a/../index.html")]
    assert inside == [pages / "logo.svg", index, index]
    outside = [files / name for name in ("../secret.txt", f"{tmp_path}/secret.txt", "", "a/../../secret.txt")]
    assert not any(path.exists() for path in outside)


def test_another_host_is_removed_or_refused() -> None:
    tag = b'<!-- Google tag (gtag.js) --> <script async src="https://a.org/gtag"></script> <script>gtag()</script>'
    page = b'<head><script src="./assets/index.js"></script></head>'
    assert remove_other_hosts(tag + page) == page
    with refuses(ConfigError, where="viser's page"):
        remove_other_hosts(page + b'<script async src="//b.org/other.js"></script>')


SERVE = """
import sys, time, viser
from pathlib import Path
from stadia.web.scene import start_server
server = start_server("127.0.0.1", int(sys.argv[1]), Path(sys.argv[2]))
viser._viser.ViserTunnel = None
server.request_share_url()  # as a click on the page does: it would connect to another host
time.sleep(120)
"""


@pytest.mark.slow
def test_the_server_of_view_hands_out_its_page_alone(tmp_path: Path) -> None:
    """Viser's own page reports visits to another host, and its server hands out any file by a path with `..`."""
    pytest.importorskip("viser", reason="the extra view is not installed")
    (tmp_path / "secret.txt").write_text("secret")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with subprocess.Popen([sys.executable, "-c", SERVE, str(port), str(tmp_path)], stdout=subprocess.PIPE) as server:
        try:
            page = _get(port, "/")
            outside = _get(port, f"/{'../' * 20}{tmp_path}/secret.txt")
        finally:
            server.kill()
        printed = server.communicate()[0]
    assert b"assets/index" in page
    assert printed == b"", "the command prints the address"
    assert b"googletagmanager" not in page
    assert b"secret" not in outside


def _get(port: int, path: str) -> bytes:
    """Return the reply of a server that may still start. The path is sent as it is."""
    deadline = time.monotonic() + 90
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        try:
            connection.request("GET", path)
            return connection.getresponse().read()
        except ConnectionRefusedError:
            assert time.monotonic() < deadline, "no server"
            time.sleep(0.2)
        finally:
            connection.close()
