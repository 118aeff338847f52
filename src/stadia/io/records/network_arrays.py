"""Read and write what reconstruction networks save: npz archives and glb scenes with cameras."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from stadia.core.errors import DataError
from stadia.io.array_files import MAX_STACK_BYTES, StackedArray, list_npz_arrays, open_npz, read_npz, read_npz_shape
from stadia.io.atomic_files import atomic_folder, open_atomic
from stadia.io.input_files import name_parser_errors, natural_sort_key, parse_json, read_bytes
from stadia.io.records.poses import MAX_POSES, OPENGL_AXES, find_nearest_rotation, invert_poses
from stadia.io.records.reconstruction import ReadDepth, Reconstruction, clean_depth

Array = NDArray[np.float64]

NPZ = "npz"
GLB = "glb"
EXPECTED_NPZ = "an .npz with poses, such as extrinsic (N, 3, 4) and intrinsic (N, 3, 3) of VGGT"


@dataclass(frozen=True)
class NpzLayout:
    """Names of the arrays that a program writes into an .npz. The first name that the file has is used.

    poses: poses (N, 3, 4) or (N, 4, 4).
    is_camera_to_world: whether the poses are camera-to-world.
    intrinsics: K (N, 3, 3) or (3, 3).
    focals: focal lengths (N,), (N, 1) or (N, 2) in pixels.
    depth: depth maps (N, H, W), (N, H, W, 1) or (N, 1, H, W).
    points: points of each pixel in the world, (N, H, W, 3).
    images: images (N, H, W, 3) or (N, 3, H, W).
    """

    poses: tuple[str, ...]
    is_camera_to_world: bool
    intrinsics: tuple[str, ...] = ("intrinsic", "intrinsics", "K", "Ks", "camera_intrinsics")
    focals: tuple[str, ...] = ("focals", "focal", "focal_lengths")
    centers: tuple[str, ...] = ("principal_points", "pps", "pp")
    depth: tuple[str, ...] = ("depth", "depths", "depth_z", "depthmaps", "depth_maps", "depth_map")
    points: tuple[str, ...] = ("pts3d", "world_points", "points")
    images: tuple[str, ...] = ("images", "image", "imgs", "img_no_norm", "rgb")


LAYOUTS = (
    NpzLayout(("extrinsic", "extrinsics", "w2c", "w2cs", "world_to_camera", "world2cam", "T_camera_world"), False),
    NpzLayout(("camera_poses", "cams2world", "cam2world", "cam2worlds", "cam_c2w", "c2w", "c2ws", "poses", "pose",
               "im_poses", "camera_pose", "T_world_camera"), True),
)  # fmt: skip
"""World-to-camera: VGGT (demo_gradio.py: extrinsic, intrinsic, depth (S, H, W, 1), images, world_points) and Depth
Anything 3 (utils/export/npz.py: extrinsics, intrinsics, depth, conf, image). Camera-to-world: MapAnything (infer:
camera_poses, intrinsics, depth_z, pts3d), DUSt3R and MASt3R (get_im_poses, get_focals, get_principal_points,
get_depthmaps, get_pts3d), MegaSaM (cam_c2w, intrinsic (3, 3), depths) and CUT3R (pose and intrinsics, one file for each
image).
"""


def find_npz_layout(names: Sequence[str]) -> tuple[NpzLayout, str] | None:
    """Return the layout of an .npz and the name of its poses; None if it has no poses."""
    for layout in LAYOUTS:
        if pose := _first(layout.poses, names):
            return layout, pose
    return None


def _first(candidates: Sequence[str], names: Sequence[str]) -> str:
    return next((name for name in candidates if name in names), "")


def find_npz(path: Path) -> list[Path]:
    """Return the .npz files with poses: a file, the usual files of an output folder, or one file per image."""
    if path.is_file():
        files = [path] if path.suffix.lower() == ".npz" else []
    else:
        usual = ("predictions.npz", "results.npz", "exports/npz/results.npz", "exports/mini_npz/results.npz")
        files = [path / name for name in usual if (path / name).is_file()][:1]
        for folder in (path, path / "camera", path / "cameras"):
            files = files or sorted(folder.glob("*.npz"), key=natural_sort_key)[:MAX_POSES]
    return files if files and find_npz_layout(list_npz_arrays(files[0], max_bytes=MAX_STACK_BYTES)) else []


def read_network_npz(path: Path) -> Reconstruction:
    """Read cameras, poses and depth that a network saved as .npz.

    Names are the names of the files if each image has one file. K belongs to the images that the network saw: they have
    the size of the depth maps or images in the archive.

    path: the file, or a folder with it.

    Raises DataError for arrays without poses or with wrong shapes.
    """
    files = find_npz(path)
    found = find_npz_layout(list_npz_arrays(files[0], max_bytes=MAX_STACK_BYTES))
    assert found is not None
    layout, pose_name = found
    parts = [_read_arrays(file, layout, pose_name) for file in files]
    T, K = np.concatenate([T for T, _, _ in parts]), np.concatenate([K for _, K, _ in parts])
    sizes = np.concatenate([sizes for _, _, sizes in parts])
    is_named = len(files) > 1 and len(T) == len(files)
    direction = "camera-to-world" if layout.is_camera_to_world else "world-to-camera"
    return Reconstruction(
        names=tuple(file.stem for file in files) if is_named else ("",) * len(T),
        T_camera_world=invert_poses(T) if layout.is_camera_to_world else T,
        K=K,
        distortion=np.zeros((len(T), 4)),
        sizes=sizes,
        depth=_find_npz_depth(files[0], layout, len(T)) if len(files) == 1 else None,
        format=NPZ,
        path=path,
        notes=(f"'{pose_name}' is read as {direction}",),
    )


def _read_arrays(path: Path, layout: NpzLayout, pose_name: str) -> tuple[Array, Array, NDArray[np.int64]]:
    """Return the poses as written (N, 4, 4), K (N, 3, 3), and the sizes (N, 2)."""
    names = list_npz_arrays(path, max_bytes=MAX_STACK_BYTES)
    wanted = {pose_name, *(_first(keys, names) for keys in (layout.intrinsics, layout.focals, layout.centers))}
    arrays = read_npz(path, only=wanted - {""}, max_bytes=MAX_STACK_BYTES)
    if pose_name not in arrays:
        raise DataError(
            path,
            found=f"arrays {list(names)[:20]}",
            expected=EXPECTED_NPZ,
            fix="save the result again with one of these sets of arrays",
        )
    poses = _drop_batch(np.asarray(arrays[pose_name], np.float64), 3)
    if poses.ndim != 3 or poses.shape[1:] not in ((3, 4), (4, 4)) or not 0 < len(poses) <= MAX_POSES:
        raise _make_shape_error(path, pose_name, poses, "(N, 3, 4) or (N, 4, 4)")
    count = len(poses)
    T = np.tile(np.eye(4), (count, 1, 1))
    for row, pose in enumerate(poses):
        where = f"{path}, array '{pose_name}', pose {row}"
        if not np.isfinite(pose).all():
            raise DataError(where, found="inf or NaN", expected="numbers", fix="leave the image out")
        T[row, :3, :3], T[row, :3, 3] = find_nearest_rotation(where, pose[:3, :3]), pose[:3, 3]
    size = _find_size(path, layout, names, count)
    if name := _first(layout.intrinsics, names):
        K = _drop_batch(np.asarray(arrays[name], np.float64), 3)
        K = np.tile(K, (count, 1, 1)) if K.shape == (3, 3) else K
        if K.shape != (count, 3, 3) or not np.isfinite(K).all():
            raise _make_shape_error(path, name, K, f"finite ({count}, 3, 3)")
        size = size or _find_centered_size(K)
    elif name := _first(layout.focals, names):
        K = _make_K(path, name, arrays, layout, size, count)
    else:
        K = np.full((count, 3, 3), np.nan)
    return T, K, np.tile(np.array(size or (0, 0), np.int64), (count, 1))


def _drop_batch(values: Array, dimensions: int) -> Array:
    """Return an array without axes of length 1 in front of, or after, the images' axis."""
    while values.ndim > dimensions and 1 in values.shape[:2]:
        values = values.squeeze(values.shape.index(1))
    return values[None] if dimensions == 3 and values.ndim == 2 and values.shape[1] == 4 else values


def _make_shape_error(path: Path, name: str, values: Array, expected: str) -> DataError:
    found = f"an array '{name}' of shape {values.shape}"
    return DataError(path, found=found, expected=expected, fix="save one pose, K and depth map for each image")


def _make_K(
    path: Path, name: str, arrays: Mapping[str, Any], layout: NpzLayout, size: tuple[int, int] | None, count: int
) -> Array:
    """Return K from focal lengths, and principal points or the middle of the images, as DUSt3R has it."""
    focals = np.asarray(arrays[name], np.float64).reshape(-1)
    focals = np.tile(focals, count) if len(focals) == 1 else focals
    if len(focals) not in (count, 2 * count) or not (np.isfinite(focals) & (focals > 0)).all():
        raise _make_shape_error(path, name, np.asarray(arrays[name]), f"({count},) or ({count}, 2), in pixels")
    K = np.tile(np.eye(3), (count, 1, 1))
    K[:, [0, 1], [0, 1]] = focals.reshape(count, -1)
    if center_name := _first(layout.centers, tuple(arrays)):
        centers = np.asarray(arrays[center_name], np.float64).reshape(-1, 2)
        if len(centers) not in (1, count):
            raise _make_shape_error(path, center_name, centers, f"({count}, 2)")
        K[:, :2, 2] = centers
    elif size is not None:
        K[:, :2, 2] = np.array(size) / 2
    else:
        K[:] = np.nan
    return K


def _find_centered_size(K: Array) -> tuple[int, int] | None:
    """Return (width, height) if all principal points are the middle of images of one size, as VGGT's are."""
    sizes = 2 * K[:, :2, 2]
    whole = np.rint(sizes[0])
    is_centered = np.abs(sizes - whole).max() < 1e-2 and whole.min() > 0
    return (int(whole[0]), int(whole[1])) if is_centered else None


def _find_size(path: Path, layout: NpzLayout, names: Sequence[str], count: int) -> tuple[int, int] | None:
    """Return (width, height) of the depth maps, points or images of an .npz."""
    for keys in (layout.depth, layout.points, layout.images):
        if name := _first(keys, names):
            shape = read_npz_shape(path, name)
            sides = [side for side in shape[1:] if side not in (1, 3)]
            if shape and shape[0] == count and len(sides) == 2:
                return sides[1], sides[0]
            if len(shape) > 2 and 1 in shape[:2]:  # a batch axis
                sides = [side for side in shape if side not in (1, 3, count)]
                return (sides[1], sides[0]) if len(sides) == 2 else None
    return None


def _find_npz_depth(path: Path, layout: NpzLayout, count: int) -> ReadDepth | None:
    name = _first(layout.depth, list_npz_arrays(path, max_bytes=MAX_STACK_BYTES))
    if not name or len(read_npz_shape(path, name)) < 3:
        return None
    opened = list[StackedArray]()

    def read(row: int) -> NDArray[np.float32]:
        if not opened:
            opened.append(open_npz(path, name))
        stack = opened[0]
        is_batched = stack.shape[0] == 1 and count > 1
        values = stack.read(0)[row] if is_batched else stack.read(row)
        values = values.squeeze() if values.ndim > 2 else values
        if values.ndim != 2 or len(stack) not in (1, count):
            raise _make_shape_error(path, name, np.empty(stack.shape), f"({count}, H, W)")
        return clean_depth(values)

    return read


def write_network_npz(reconstruction: Reconstruction, out: Path) -> None:
    """Write poses, intrinsics and depth as .npz, with the names and the direction of the original's arrays.

    Other arrays are left out. A folder gets the files that the original has.

    reconstruction: cameras and poses.
    out: the new folder if the original is one, else the new file, which is like VGGT's without an original.
    """
    path, files = reconstruction.path, find_npz(reconstruction.path)
    names = list_npz_arrays(files[0], max_bytes=MAX_STACK_BYTES) if files else ("extrinsic", "intrinsic", "depth")
    if not path.is_dir() or not files:
        _save(out, _collect_arrays(reconstruction, names))
        return
    with atomic_folder(out) as folder:
        inner = folder / files[0].relative_to(path)
        inner.parent.mkdir(parents=True, exist_ok=True)
        if len(files) == 1:
            _save(inner, _collect_arrays(reconstruction, names))
        for row, name in enumerate(reconstruction.names if len(files) > 1 else ()):
            arrays = _collect_arrays(reconstruction.rows([row]), names)
            _save(inner.with_name(f"{name}.npz"), {key: values[0] for key, values in arrays.items()})


def _save(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    with open_atomic(path) as stream:
        np.savez(stream, **arrays)  # type: ignore[arg-type]


def _collect_arrays(reconstruction: Reconstruction, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Return the arrays of a reconstruction, called as in a file with these names."""
    found = find_npz_layout(names)
    assert found is not None
    layout, pose_name = found
    T = reconstruction.T_camera_world
    poses = invert_poses(T) if layout.is_camera_to_world else T[:, :3]
    arrays: dict[str, NDArray[Any]] = {pose_name: poses}
    if np.isfinite(reconstruction.K).all():
        arrays[_first(layout.intrinsics, names) or "intrinsics"] = reconstruction.K
        if name := _first(layout.focals, names):
            arrays[name] = reconstruction.K[:, 0, 0]
    if reconstruction.depth is not None:
        maps = [reconstruction.depth(row) for row in range(len(reconstruction))]
        if len({one.shape for one in maps}) == 1:
            arrays[_first(layout.depth, names) or "depth"] = np.nan_to_num(np.stack(maps), nan=0.0)
    return arrays


# -- glb

MAX_GLB_BYTES = 2 << 30
_MAGIC, _JSON, _BIN = 0x46546C67, 0x4E4F534A, 0x004E4942
_TRIANGLES, _LINES = 4, 1
_FRUSTUM_VERTICES = 16  # 8 segments: 4 from the center to the corners, 4 around the image
_CONE_VERTICES = (14, 18)  # trimesh merges some vertices of a cone, or keeps all.
_MAX_NODES = 100_000
FRUSTUM_SIDE_PX = 504
"""Longer side of the images of Depth Anything 3. Scenes contain the shape of the images, and not their size."""


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
    return Reconstruction(
        names=tuple(names),
        T_camera_world=invert_poses(np.stack(poses)),
        K=np.stack(K),
        distortion=np.zeros((len(poses), 4)),
        sizes=np.array(sizes, np.int64).reshape(-1, 2),
        format=GLB,
        path=path,
        notes=tuple(notes),
    )


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
            T = to_world @ OPENGL_AXES
            T[:3, :3] = find_nearest_rotation(f"{path}, node {node}", T[:3, :3] / np.cbrt(np.linalg.det(T[:3, :3])))
            K, size = _read_perspective(scene["cameras"][nodes[node]["camera"]].get("perspective", {}))
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


def _read_perspective(camera: Mapping[str, Any]) -> tuple[Array, tuple[int, int]]:
    """Return K and (width, height) of a glTF camera with a longer side of FRUSTUM_SIDE_PX, or NaN without a shape."""
    yfov, aspect = camera.get("yfov"), camera.get("aspectRatio")
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
