"""Surfaces of depth maps as a textured mesh: they lie where the points lie, are cut at edges, and are shown once."""

import io

import numpy as np
import pytest
from numpy.typing import NDArray

from stadia.evaluation.depth_fusion import DepthView, make_view
from stadia.evaluation.textured_mesh import choose_vertices, encode_textured_glb

K = np.array([[40.0, 0, 31.5], [0, 40.0, 23.5], [0, 0, 1]])


def look(depth: NDArray[np.float32], x: float = 0.0, name: str = "a") -> DepthView:
    T = np.eye(4)
    T[0, 3] = x
    return make_view(name, np.full((48, 64, 3), (200, 30, 10), np.uint8), depth, K, T)


def wall(z: float = 2.0) -> NDArray[np.float32]:
    return np.full((48, 64), z, np.float32)


def test_the_mesh_lies_on_the_wall_with_its_picture_and_camera() -> None:
    trimesh = pytest.importorskip("trimesh")
    data = encode_textured_glb([look(wall(), x=1.0)], 0.06, 10_000)
    scene = trimesh.load(io.BytesIO(data), file_type="glb")
    (mesh,) = scene.dump()
    assert len(mesh.faces) == 2 * 47 * 63
    np.testing.assert_allclose(mesh.vertices[:, 2], -2.0, atol=1e-5)
    np.testing.assert_allclose(mesh.bounds[:, 0], 1 + np.array([-31.5, 31.5]) / 40 * 2, atol=1e-4)
    assert np.asarray(mesh.visual.material.baseColorTexture)[5, 5].astype(int) == pytest.approx([200, 30, 10], abs=8)
    assert (mesh.face_normals[:, 2] > 0.99).all(), "faces look at the camera"
    assert b'"type":"perspective"' in data


def test_an_edge_of_depth_cuts_the_mesh() -> None:
    trimesh = pytest.importorskip("trimesh")
    depth = wall()
    depth[:, 32:] = 4
    (mesh,) = trimesh.load(io.BytesIO(encode_textured_glb([look(depth)], 0.06, 10_000)), file_type="glb").dump()
    z = -mesh.vertices[mesh.faces][..., 2]
    assert (np.ptp(z, axis=1) < 1e-5).all()


def test_a_surface_is_shown_once_and_what_others_see_through_is_removed() -> None:
    views = [look(wall(), x, name) for x, name in ((0.0, "a"), (0.2, "b"), (0.4, "c"))]
    first, second, third = (mask.sum() for mask in choose_vertices(views, 0.06))
    assert first == 48 * 64
    assert second < 0.25 * first
    assert third < 0.25 * first
    ghost = wall()
    ghost[20:28, 28:36] = 0.8
    masks = choose_vertices([look(ghost), *views[1:]], 10.0)
    assert not masks[0][22:26, 30:34].any()
    assert masks[0][0, 0]
