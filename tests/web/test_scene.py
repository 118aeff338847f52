"""What `stadia view` shows: points of all frames fit together where poses, depth and calibration do."""

import base64
import html
import http.client
import json
import queue
import re
import struct
import threading
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from scipy.spatial import cKDTree

from stadia.core.errors import DataError
from stadia.data import open_recordings
from stadia.data.video.video_map import POINTS, MapCamera, StoredMap
from stadia.io.records.colmap import read_colmap_points
from stadia.web.scene import collect_map, collect_scene, make_frame, render_result_scene, render_scene, show_page


def test_clouds_of_all_frames_are_one_world(worlds: Path) -> None:
    """Static parts of a rendered road: most points of a frame lie near points of the first one."""
    recording = open_recordings(worlds)[0]
    scene = collect_scene(recording)
    assert len(scene.frames) == len(recording)
    np.testing.assert_allclose(scene.frames[0].camera.T_world_camera, np.eye(4), atol=1e-9)
    near = [frame.points[np.linalg.norm(frame.points, axis=1) < 15] for frame in scene.frames]
    apart, _ = cKDTree(near[0]).query(near[1])
    assert np.median(apart) < 0.3
    moved = near[1] + np.float32([0, 2, 0])
    assert np.median(cKDTree(near[0]).query(moved)[0]) > 3 * np.median(apart), "a wrong pose is seen"
    assert len(scene.true_path) == len(recording)


def test_a_point_is_where_its_pixel_is() -> None:
    image, K = np.zeros((48, 64, 3), np.uint8), np.array([[50.0, 0, 31.5], [0, 50, 23.5], [0, 0, 1]])
    depth = np.zeros((48, 64))
    depth[10, 20] = 4.0
    T = np.eye(4)
    T[:3, 3] = 1, 2, 3
    frame = make_frame("a", image, K, T, depth)
    expected = np.array([(20 - 31.5) / 50 * 4 + 1, (10 - 23.5) / 50 * 4 + 2, 4 + 3])
    np.testing.assert_allclose(frame.points, [expected], atol=1e-5)


def test_the_page_of_a_scene_holds_its_points_and_cameras(worlds: Path) -> None:
    scene = collect_scene(open_recordings(worlds)[0])
    page = render_scene("<b>", scene)
    view = json.loads(html.unescape(re.search(r'data-view="([^"]*)"', page)[1]))
    assert (
        sum(frame["count"] for frame in view["frames"]) == view["count"] == sum(len(one.points) for one in scene.frames)
    )
    assert len(view["cameras"]) == len(scene.frames)
    assert "<b>" not in page
    assert not re.search(r"(?:src|href)=[\"'](?!data:)", page), "the page loads nothing"


def write_project(folder: Path, name: str) -> Path:
    """A project of COLMAP: two cameras that look at a red point 4 m ahead, and their images."""
    model = folder / "project" / "sparse" / "0"
    model.mkdir(parents=True)
    (model / "cameras.txt").write_text("1 PINHOLE 64 48 50 50 32 24\n")
    poses = ["1 0 0 0 0 0 0", "1 0 0 0 -1 0 0"]  # world to camera: the second one is 1 m to the right
    lines = [
        f"{row + 1} {pose} 1 {text}\n\n" for row, (pose, text) in enumerate(zip(poses, ("a.png", name), strict=True))
    ]
    (model / "images.txt").write_text("".join(lines))
    (model / "points3D.txt").write_text("# id x y z r g b error track\n7 0.5 0 4 255 0 0 0.1 1 0 2 0\n")
    images = folder / "project" / "images"
    images.mkdir()
    for path in (images / "a.png", folder / "secret.png"):
        cv2.imwrite(str(path), np.full((48, 64, 3), 90, np.uint8))
    return model


def test_the_result_of_any_program_is_shown(tmp_path: Path) -> None:
    """Cameras, path, points with their colors, and the images that lie next to it; a name cannot lead elsewhere."""
    model = write_project(tmp_path, "../../../secret.png")
    page = render_result_scene(model)
    view = json.loads(html.unescape(re.search(r'data-view="([^"]*)"', page)[1]))
    assert (view["count"], len(view["cameras"]), len(view["lines"])) == (1, 2, 1)
    data = base64.b64decode(re.search(r'data-points="([^"]*)"', page)[1])
    point, color = np.frombuffer(data[:12], "<f4"), np.frombuffer(data[12:], np.uint8)
    assert color.tolist() == [255, 0, 0]
    for camera, x in zip(view["cameras"], (-0.5, 0.5), strict=True):
        T = np.array(camera["T"])
        np.testing.assert_allclose(T[:, :3].T @ (point - T[:, 3]), [x, 0, 4], atol=1e-5)
    assert [bool(one["image"]) for one in view["views"]] == [False, True], "sorted by name"


def test_points_of_colmap_are_equal_as_text_and_binary(tmp_path: Path) -> None:
    model = write_project(tmp_path, "b.png")
    points, colors = read_colmap_points(model)
    for name in ("cameras", "images"):
        (model / f"{name}.bin").write_bytes(b"")
    record = struct.pack("<Q3d3BdQ", 7, 0.5, 0, 4, 255, 0, 0, 0.1, 2) + bytes(16)
    (model / "points3D.bin").write_bytes(struct.pack("<Q", 1) + record)
    binary = read_colmap_points(model)
    np.testing.assert_array_equal(points, binary[0])
    np.testing.assert_array_equal(colors, binary[1])
    for data in (b"", struct.pack("<Q", 1 << 60) + record, struct.pack("<Q", 2) + record):
        (model / "points3D.bin").write_bytes(data)
        with pytest.raises(DataError):
            read_colmap_points(model)


def test_a_map_is_its_points_and_placed_cameras(tmp_path: Path) -> None:
    camera = MapCamera(origin="given", focal_px=50, center_px=(32, 24), distortion=(0, 0, 0, 0), height=48, width=64)
    poses = np.repeat(np.eye(4)[None], 3, 0)
    poses[1] = np.nan
    poses[2, 0, 3] = 2.0
    mapped = StoredMap(tmp_path, "a.mp4", "", camera, ("a", "b", "c"), ("key", "lost", "key"), poses)
    np.savez(tmp_path / POINTS, points=np.ones((5, 3)), relative_deviation=np.ones(5), track_length=np.ones(5, int),
             frames=np.zeros(1, int), observed=np.zeros((1, 2), int))  # fmt: skip
    scene = collect_map(mapped)
    assert [frame.name for frame in scene.frames] == ["a", "c"]
    assert sum(len(frame.points) for frame in scene.frames) == 5
    np.testing.assert_allclose(scene.path[:, 0], [0, 2])


def test_a_scene_is_one_file_to_share(worlds: Path, tmp_path: Path, stadia: Any) -> None:
    out = tmp_path / "scene.html"
    for _ in range(2):  # its own file is replaced
        assert stadia("view", worlds, "--frames", 2, "--out", out)[0] == 0
    assert "data-points" in out.read_text()


def test_the_server_of_view_hands_out_its_page_alone() -> None:
    """Also not a file outside, by a path with `..`."""
    started: queue.Queue[str] = queue.Queue()
    threading.Thread(target=show_page, args=("a page", "127.0.0.1", 0, started.put), daemon=True).start()
    port = int(started.get(timeout=600).rstrip("/").rpartition(":")[2])
    for path, status in (("/", 200), (f"/{'../' * 20}etc/passwd", 404)):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
        connection.request("GET", path)
        reply = connection.getresponse()
        assert (reply.status, reply.read()) == (status, b"a page" if status == 200 else b"")
        connection.close()
