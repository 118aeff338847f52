"""Predictions as one file in 3D: what a .glb and a recording of rerun hold."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import trimesh
from tests.refusals import refuses

from stadia.core.errors import ConfigError
from stadia.core.types import DepthScale
from stadia.data.frame_preparation import Frame, PredictedFrame
from stadia.evaluation import point_clouds
from stadia.evaluation.point_clouds import encode_glb, find_edges, open_glb_file, open_rerun_file
from stadia.geometry.cameras import CropWindow, centered_K

HEIGHT, WIDTH = 24, 40


def make_frame(number: int, *, posed: bool = True) -> PredictedFrame:
    """Return a wall at 4 m whose right half is at 2 m, seen by a camera at `number` metres to the right."""
    inverse = np.full((HEIGHT, WIDTH), 0.25, np.float32)
    inverse[:, WIDTH // 2 :] = 0.5
    image, K = np.full((HEIGHT, WIDTH, 3), 200, np.uint8), centered_K(30.0, HEIGHT, WIDTH)
    T = np.eye(4)
    T[0, 3] = number
    frame, box = Frame(f"{number:06d}", image, K), CropWindow(0, 0, HEIGHT, WIDTH)
    return PredictedFrame(frame, DepthScale.METRES, inverse, K, T if posed else None, (HEIGHT, WIDTH), box)


def read_points(path: Path) -> np.ndarray:
    scene = trimesh.load(io.BytesIO(path.read_bytes()), file_type="glb")
    (cloud,) = (part for part in scene.geometry.values() if isinstance(part, trimesh.PointCloud))
    return np.asarray(cloud.vertices) * (1, -1, -1)


def test_a_glb_has_points_of_all_frames_without_edges(tmp_path: Path) -> None:
    with open_glb_file(tmp_path / "scene.glb", 2) as add:
        add(make_frame(0))
        add(make_frame(1))
        assert not (tmp_path / "scene.glb").exists(), "it appears whole"
    points = read_points(tmp_path / "scene.glb")
    assert len(points) == 2 * HEIGHT * (WIDTH - 2), "the two columns at the edge of depth are left out"
    assert set(np.round(points[:, 2], 4)) == {2.0, 4.0}
    assert np.ptp(points[points[:, 2] > 3, 0]) == pytest.approx((WIDTH // 2 - 2) / 30 * 4 + 1, rel=1e-3)


def test_edges_are_both_sides_of_a_jump() -> None:
    assert find_edges(np.array([[1.0, 1.0, 2.0], [1.0, 1.0, 2.0]]), 0.06).tolist() == [[False, True, True]] * 2


def test_rerun_is_named_where_it_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(point_clouds.importlib.util, "find_spec", lambda name: None)
    with (
        refuses(ConfigError, where="--rerun", fix="stadia[rerun]"),
        open_rerun_file(tmp_path / "scene.rrd", DepthScale.METRES, 1),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_recording_of_rerun_holds_camera_and_points(tmp_path: Path) -> None:
    pytest.importorskip("rerun", reason="needs the extra rerun")
    with open_rerun_file(tmp_path / "scene.rrd", DepthScale.METRES, 2) as add:
        add(make_frame(0))
        add(make_frame(1))
    data = (tmp_path / "scene.rrd").read_bytes()
    assert data[:2] == b"RR"
    assert len(data) > 2000
    assert [path.name for path in tmp_path.iterdir()] == ["scene.rrd"]


def test_the_path_is_a_line() -> None:
    """Trimesh shows no lines: the document and the bytes are read as the specification has them."""
    path = np.random.default_rng(1).normal(size=(4, 3)).astype(np.float32)
    data = encode_glb(np.zeros((1, 3)), np.zeros((1, 3), np.uint8), path)
    length = int.from_bytes(data[12:16], "little")
    document = json.loads(data[20 : 20 + length])
    (primitive,) = document["meshes"][1]["primitives"]
    accessor = document["accessors"][primitive["attributes"]["POSITION"]]
    start = document["bufferViews"][accessor["bufferView"]]["byteOffset"] + 20 + length + 8
    assert (primitive["mode"], accessor["count"]) == (3, 4)
    np.testing.assert_array_equal(np.frombuffer(data, "<f4", 12, start).reshape(4, 3) * (1, -1, -1), path)
