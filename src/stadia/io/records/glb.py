"""Read the cameras in glb scenes of reconstruction networks."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError
from stadia.geometry.conventions import OPENGL
from stadia.io.input_files import name_parser_errors, parse_json, read_bytes
from stadia.io.records.poses import find_nearest_rotations
from stadia.io.records.reconstruction import Reconstruction, make_reconstruction

Array = NDArray[np.float64]

MAX_GLB_BYTES = 2 << 30
_MAGIC, _JSON, _BIN = 0x46546C67, 0x4E4F534A, 0x004E4942
_TRIANGLES, _LINES = 4, 1
_FRUSTUM_VERTICES = 16  # 8 segments: 4 from the center to the corners, 4 around the image
_CONE_VERTICES = (14, 18)  # trimesh merges some vertices of a cone, or keeps all.
_MAX_NODES = 100_000
FRUSTUM_SIDE_PX = 504
"""Longer side of the images of Depth Anything 3. Scenes contain the shape of the images, and not their size."""


def is_glb(path: Path) -> bool:
    """Return whether a path is a glb file, by its suffix."""
    return path.is_file() and path.suffix.lower() == ".glb"


def read_glb(path: Path) -> Reconstruction:
    """Read the cameras of a glTF binary: camera nodes, the frustums of Depth Anything 3, or the cones of VGGT.

    Camera nodes and frustums have the shape of the image and no size, so K belongs to images with a longer side of
    504 px. A cone has a pose only.

    path: the file.

    Raises DataError for a damaged file or a scene without cameras.

    Source: glTF 2.0, sections 3.10 and 4.4; Depth Anything 3, utils/export/glb.py; VGGT, visual_util.py, whose cones
    MapAnything uses too.
    """
    scene, data = _read_chunks(path)
    names, poses, K, sizes, kinds = list[str](), list[Array](), list[Array](), list[tuple[int, int]](), set[str]()
    with name_parser_errors(path, expected="a glTF binary with cameras"):
        for name, kind, T, one, size in _list_cameras(path, scene, data):
            names.append(name)
            poses.append(T)
            K.append(one)
            sizes.append(size)
            kinds.add(kind)
    if not poses or len(kinds) > 1:
        found = "no camera" if not poses else f"{' and '.join(sorted(kinds))}"
        fix = "pass the npz of the same result, such as predictions.npz"
        raise DataError(path, found=found, expected="cameras of one kind", fix=fix)
    notes = [f"{len(poses)} poses are read from the {kinds.pop()}s of the scene, whose world is turned and centered"]
    if np.isnan(K[0]).any():
        notes.append("the scene has no focal length: add --camera fx=700,fy=700,cx=640,cy=360")
    posed = make_reconstruction(path, np.stack(poses), "", names=names, format="glb")
    return replace(posed, K=np.stack(K), sizes=np.array(sizes, np.int64).reshape(-1, 2), notes=tuple(notes))


def _read_chunks(path: Path) -> tuple[dict[str, Any], bytes]:
    expected = "a glTF binary, version 2"
    data = read_bytes(path, expected=expected, max_bytes=MAX_GLB_BYTES)
    with name_parser_errors(path, expected=expected):
        magic, version, _ = struct.unpack_from("<III", data)
        size, kind = struct.unpack_from("<II", data, 12)
        if (magic, version, kind) != (_MAGIC, 2, _JSON) or 20 + size > len(data):
            raise ValueError("another header")
        scene = parse_json(path, data[20 : 20 + size].decode(), expected)
        start = 20 + size
        length, kind = struct.unpack_from("<II", data, start) if start + 8 <= len(data) else (0, _BIN)
    if not isinstance(scene, dict) or kind != _BIN:
        raise DataError(
            path, found="another content", expected=expected, fix="export the result again from its program"
        )
    return scene, data[start + 8 : start + 8 + length]


def _list_cameras(
    path: Path, scene: Mapping[str, Any], data: bytes
) -> Iterator[tuple[str, str, Array, Array, tuple[int, int]]]:
    """Yield name, kind, T_world_camera, K and size of each camera, in the order of the nodes."""
    none, nodes = np.full((3, 3), np.nan), scene.get("nodes", [])
    for node, to_world in _walk(path, scene):
        if "camera" in nodes[node]:
            T = to_world @ OPENGL.T_axes_camera
            R = T[None, :3, :3] / np.cbrt(np.linalg.det(T[:3, :3]))
            T[:3, :3] = find_nearest_rotations(R, lambda _: f"{path}, node {node}")[0]  # noqa: B023 - used at once
            K, size = _read_perspective(scene["cameras"][nodes[node]["camera"]])
            yield str(nodes[node].get("name", "")), "camera node", T, K, size
            continue
        if "mesh" not in nodes[node]:
            continue
        for primitive in scene["meshes"][nodes[node]["mesh"]]["primitives"]:
            vertices = _read_vertices(scene, data, primitive)
            vertices = vertices @ to_world[:3, :3].T + to_world[:3, 3]
            mode = primitive.get("mode", _TRIANGLES)
            is_frustum = mode == _LINES and len(vertices) == _FRUSTUM_VERTICES
            frustum = _find_frustum(vertices) if is_frustum else None
            is_cone = mode == _TRIANGLES and len(vertices) in _CONE_VERTICES
            cone = _find_cone(vertices) if is_cone else None
            if frustum is not None:
                yield "", "frustum", *frustum
            elif cone is not None:
                yield "", "cone", cone, none, (0, 0)


def _read_perspective(camera: Any) -> tuple[Array, tuple[int, int]]:
    """Return K and (width, height) of a glTF camera with a longer side of FRUSTUM_SIDE_PX, or NaN without a shape."""
    perspective = camera.get("perspective") if isinstance(camera, dict) else None
    if not isinstance(perspective, dict):
        raise TypeError("a camera without perspective")
    yfov, aspect = perspective.get("yfov"), perspective.get("aspectRatio")
    if (
        not isinstance(yfov, int | float)
        or not isinstance(aspect, int | float)
        or not 0 < yfov < math.pi
        or aspect <= 0
    ):
        return np.full((3, 3), np.nan), (0, 0)
    side = FRUSTUM_SIDE_PX
    width, height = (side, max(round(side / aspect), 1)) if aspect >= 1 else (max(round(side * aspect), 1), side)
    focal_px = height / 2 / math.tan(yfov / 2)
    return np.array([[focal_px, 0, (width - 1) / 2], [0, focal_px, (height - 1) / 2], [0, 0, 1]]), (width, height)


def _walk(path: Path, scene: Mapping[str, Any]) -> Iterator[tuple[int, Array]]:
    """Yield the index of each node and its transformation to the world."""
    nodes = scene.get("nodes", [])
    children = {child for node in nodes for child in node.get("children", ())}
    stack = [(root, np.eye(4)) for root in range(len(nodes)) if root not in children][::-1]
    visited = 0
    while stack:
        index, above = stack.pop()
        visited += 1
        if visited > min(len(nodes), _MAX_NODES):
            raise DataError(
                path, found="nodes in a circle, or too many", expected="a tree of nodes", fix="export again"
            )
        T = above @ _parse_node(nodes[index])
        yield index, T
        stack += [(child, T) for child in reversed(nodes[index].get("children", ()))]


def _parse_node(node: Mapping[str, Any]) -> Array:
    from scipy.spatial.transform import Rotation  # slow to import

    if "matrix" in node:
        return np.array(node["matrix"], np.float64).reshape(4, 4).T
    T = np.eye(4)
    T[:3, :3] = Rotation.from_quat(node.get("rotation", (0, 0, 0, 1))).as_matrix() * node.get("scale", (1, 1, 1))
    T[:3, 3] = node.get("translation", (0, 0, 0))
    return T


def _read_vertices(scene: Mapping[str, Any], data: bytes, primitive: Mapping[str, Any]) -> Array:
    """Return the positions (V, 3) of a primitive; an empty array if it cannot be a camera."""
    accessor = scene["accessors"][primitive["attributes"]["POSITION"]]
    count = accessor["count"]
    if count not in (_FRUSTUM_VERTICES, *_CONE_VERTICES) or accessor["componentType"] != 5126:
        return np.empty((0, 3))
    view = scene["bufferViews"][accessor["bufferView"]]
    start, stride = view.get("byteOffset", 0) + accessor.get("byteOffset", 0), view.get("byteStride", 12)
    rows = [struct.unpack_from("<3f", data, start + stride * row) for row in range(count)]
    return np.array(rows, np.float64)


def _find_frustum(vertices: Array) -> tuple[Array, Array, tuple[int, int]] | None:
    """Return T_world_camera, K and the size from 8 segments: the center to 4 corners, and the outline in this order."""
    rounded = [tuple(vertex) for vertex in vertices.tolist()]
    distinct = list(dict.fromkeys(rounded))
    centers = [vertex for vertex in distinct if rounded.count(vertex) == 4]
    if len(distinct) != 5 or len(centers) != 1:
        return None
    center = np.array(centers[0])
    corners = np.array([vertex for vertex in distinct if vertex != centers[0]])
    across, down = corners[1] - corners[0], corners[3] - corners[0]
    if min(np.linalg.norm(across), np.linalg.norm(down)) == 0:
        return None
    T = np.eye(4)
    x, y = across / np.linalg.norm(across), down / np.linalg.norm(down)
    T[:3, :3], T[:3, 3] = _complete_axes(x, y), center
    in_camera = (corners - center) @ T[:3, :3]
    plane = in_camera[:, :2] / in_camera[:, 2:]
    spans = plane[2] - plane[0]
    if in_camera[:, 2].min() <= 0 or spans.min() <= 0:
        return None
    focal = (FRUSTUM_SIDE_PX - 1) / spans.max()
    width, height = (round(float(span * focal)) + 1 for span in spans)
    fx, fy = (width - 1) / spans[0], (height - 1) / spans[1]
    K = np.array([[fx, 0, -plane[0, 0] * fx], [0, fy, -plane[0, 1] * fy], [0, 0, 1]])
    return T, K, (width, height)


def _complete_axes(x: Array, y: Array) -> Array:
    """Return the rotation whose columns are nearest to x, y and their cross product."""
    U, _, Vt = np.linalg.svd(np.stack([x, y, np.cross(x, y)], -1))
    return np.asarray(U @ Vt)


_MAX_CONE_ERROR = 0.02  # largest error of the cone's corners, as a share of its height


def _find_cone(vertices: Array) -> Array | None:
    """Return T_world_camera from the vertices of trimesh's cone with four sides, whose apex is the camera's center."""
    cone = vertices[1:6] if len(vertices) == max(_CONE_VERTICES) else vertices[:5]
    base, apex = cone[[0, 2, 3, 4]], cone[1]
    middle = base.mean(axis=0)
    height = float(np.linalg.norm(middle - apex))
    across, down = base[0] - base[1], base[2] - base[1]
    sides = [float(np.linalg.norm(side)) for side in (across, down)]
    if min(height, *sides) == 0:
        return None
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = _complete_axes(across / sides[0], down / sides[1]), apex
    half = sides[0] / 2
    expected = np.array([(half, -half, height), (-half, -half, height), (-half, half, height), (half, half, height)])
    error = np.abs((base - apex) @ T[:3, :3] - expected).max()
    return T if error < _MAX_CONE_ERROR * height else None
