"""Binary glTF, read back by trimesh."""

from __future__ import annotations

import io
import json

import numpy as np
import trimesh

from stadia.evaluation.io.scene_files import encode_glb


def test_points_and_path_are_read_back_by_trimesh() -> None:
    rng = np.random.default_rng(0)
    points, colors = rng.normal(size=(50, 3)), rng.integers(0, 256, (50, 3), np.uint8)
    path = rng.normal(size=(4, 3))
    scene = trimesh.load(io.BytesIO(encode_glb(points, colors, path)), file_type="glb")
    (cloud,) = (part for part in scene.geometry.values() if isinstance(part, trimesh.PointCloud))
    np.testing.assert_allclose(cloud.vertices * (1, -1, -1), points, atol=1e-6)
    np.testing.assert_array_equal(np.asarray(cloud.colors)[:, :3], colors)


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


def test_a_cloud_without_points_is_a_file() -> None:
    data = encode_glb(np.zeros((0, 3)), np.zeros((0, 3), np.uint8))
    assert data[:4] == b"glTF"
    assert int.from_bytes(data[8:12], "little") == len(data)
