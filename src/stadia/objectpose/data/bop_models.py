"""Read the meshes (PLY) and models_info.json of a BOP dataset."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from stadia.core.errors import DataError
from stadia.geometry.poses import hat, quaternion_wxyz_from_matrix
from stadia.io.input_files import name_parser_errors, read_bytes
from stadia.io.typed_json import FileEntry, read_typed_json
from stadia.objectpose.data.object_labels import Points, Quaternion, SymmetryLabel, check_rotation

_TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2",
    "ushort": "u2", "uint16": "u2", "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4",
    "float": "f4", "float32": "f4", "double": "f8", "float64": "f8",
}  # fmt: skip
_MAX_BYTES = 128 << 20  # largest model file that is read
_INDEX_NAMES = ("vertex_indices", "vertex_index")

PlyProperty = tuple[str, str, str]  # name, type, and the type of its length; the latter is empty if it is not a list


def read_ply(path: Path) -> tuple[Points, NDArray[np.int32]]:
    """Read a triangle mesh from a PLY file; return vertices (N, 3), and the vertex indices of each triangle (M, 3).

    Vertices have the unit of the file.

    path: the file.

    Raises DataError for a damaged file.
    """
    data = read_bytes(path, expected="a PLY mesh", max_bytes=_MAX_BYTES, fix="copy it from the dataset")
    fix = "copy it again, or triangulate it"
    with name_parser_errors(path, expected="a whole PLY file of triangles", fix=fix):
        return _parse_ply(data)


def _parse_ply(data: bytes) -> tuple[Points, NDArray[np.int32]]:
    layout, elements, start = _parse_ply_header(data)
    rows = iter(data[start:].decode("ascii").splitlines()) if layout == "ascii" else None
    order = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}[layout]
    columns: dict[str, Mapping[str, NDArray]] = {}
    for name, (count, properties) in elements.items():
        if rows is not None:
            columns[name] = _read_ply_rows(list(islice(rows, count)), properties)
        else:
            records = _read_ply_records(data, start, count, properties, order)
            columns[name] = {field: records[field] for field in records.dtype.names or ()}
            start += records.nbytes
    vertices = np.stack([columns["vertex"][axis] for axis in "xyz"], 1).astype(np.float64)
    index_name = next((name for name in _INDEX_NAMES if name in columns["face"]), _INDEX_NAMES[0])
    triangles = columns["face"][index_name]
    if triangles.shape[1:] != (3,) or (columns["face"][f"{index_name} length"] != 3).any():
        raise ValueError("faces that are not all triangles")
    is_index = (triangles >= 0) & (triangles < len(vertices)) & (triangles == np.floor(triangles))
    if not len(triangles) or vertices.ndim != 2 or not np.isfinite(vertices).all() or not is_index.all():
        raise ValueError(f"{len(vertices)} vertices and {len(triangles)} faces that do not fit together")
    return vertices, np.ascontiguousarray(triangles, np.int32)


def _parse_ply_header(data: bytes) -> tuple[str, dict[str, tuple[int, list[PlyProperty]]], int]:
    head = re.match(rb"ply\r?\n(.*?)end_header\r?\n", data, re.DOTALL)
    if head is None:
        raise ValueError("no PLY header")
    layout = ""
    elements: dict[str, tuple[int, list[PlyProperty]]] = {}
    properties: list[PlyProperty] = []
    for line in head[1].decode("ascii", "replace").splitlines():
        match line.split():
            case ["format", word, _]:
                layout = word
            case ["element", name, count]:
                properties = []
                elements[name] = int(count), properties
            case ["property", "list", length, kind, name]:
                properties.append((name, _TYPES[kind], _TYPES[length]))
            case ["property", kind, name]:
                properties.append((name, _TYPES[kind], ""))
    return layout, elements, head.end()


def _read_ply_records(data: bytes, start: int, count: int, properties: list[PlyProperty], order: str) -> NDArray:
    record: list[tuple[str, str] | tuple[str, str, tuple[int]]] = []
    for name, kind, length_kind in properties:
        if length_kind:
            at = start + np.dtype(record).itemsize
            length = int(np.frombuffer(data, order + length_kind, 1, at)[0]) if count else 0
            record += [(f"{name} length", order + length_kind), (name, order + kind, (length,))]
        else:
            record.append((name, order + kind))
    return np.frombuffer(data, record, count, start)


def _read_ply_rows(rows: list[str], properties: list[PlyProperty]) -> dict[str, NDArray]:
    table = np.array([row.split() for row in rows], np.float64)
    columns, at = dict[str, NDArray](), 0
    for name, _, length_kind in properties:
        if length_kind:
            columns[f"{name} length"] = table[:, at]
            length = int(table[0, at])
            columns[name] = table[:, at + 1 : at + 1 + length]
            at += 1 + length
        else:
            columns[name] = table[:, at]
            at += 1
    return columns


@dataclass(frozen=True, slots=True)
class BopModel:
    """Describe one object of a BOP dataset with its mesh.

    "Object coordinates" are stadia's: origin at the center of the object's box, y axis up and along an axis of
    symmetry.

    obj_id: number of the object in the dataset.
    file: PLY file of the mesh.
    vertices_m: (N, 3) vertices in object coordinates in metres.
    triangles: (M, 3) indices of the three vertices of each triangle.
    size_m: (3,) edge lengths of the box along x, y and z in metres.
    symmetry: rotations that leave the object unchanged.
    T_object_model: (4, 4) motion, from the coordinates of BOP's mesh to object coordinates, in metres.
    diameter_m: largest distance between two vertices in metres, as BOP gives it.
    """

    obj_id: int
    file: Path
    vertices_m: Points
    triangles: NDArray[np.int32]
    size_m: Points
    symmetry: SymmetryLabel
    T_object_model: Points
    diameter_m: float

    @property
    def name(self) -> str:
        """Return the name of the class: obj_ and six digits."""
        return f"obj_{self.obj_id:06d}"


_SMALLEST_MM = 5.0  # No dataset has objects with a smaller diameter, but a chair in metres has one.
_AXIS_OFF = 0.02  # tolerated distance of an axis of revolution from the box center of a scanned mesh, over the diameter

Vector3 = tuple[float, float, float]
_Sixteen = Annotated[list[float], Field(min_length=16, max_length=16)]
_Positive = Annotated[float, Field(gt=0)]


class _Continuous(FileEntry):
    axis: Vector3
    offset: Vector3 = (0.0, 0.0, 0.0)

    @property
    def direction(self) -> Points:
        return np.array(self.axis) / max(float(np.linalg.norm(self.axis)), 1e-12)


class _ModelEntry(FileEntry):
    diameter: _Positive
    symmetries_discrete: tuple[_Sixteen, ...] = ()
    symmetries_continuous: tuple[_Continuous, ...] = ()


def _turn_to_y(what: object, entry: _ModelEntry) -> Points:
    """Return (3, 3) R_object_model, the smallest rotation of an axis of revolution to y; else the identity."""
    axes = [symmetry.direction for symmetry in entry.symmetries_continuous]
    if not axes:
        return np.eye(3)
    if any(abs(abs(axis @ axes[0]) - 1) > 1e-6 for axis in axes):
        found = "two axes of revolution"
        raise DataError(what, found=found, expected="at most one", fix="leave out this object")
    axis, y = axes[0], np.array([0.0, 1.0, 0.0])
    v, c = np.cross(axis, y), float(axis @ y)
    if c < -1 + 1e-9:
        return np.diag([1.0, -1.0, -1.0])
    cross = hat(v)
    return np.eye(3) + cross + cross @ cross / (1 + c)


def _check_axis(what: str, entry: _ModelEntry, center_mm: Points) -> None:
    for symmetry in entry.symmetries_continuous:
        off_mm = float(np.linalg.norm(np.cross(center_mm - symmetry.offset, symmetry.direction)))
        if off_mm > _AXIS_OFF * entry.diameter:
            found = f"an axis {off_mm:.3g} mm away from the center of the mesh's box"
            expected = f"one through it, within {_AXIS_OFF * entry.diameter:.2g} mm"
            fix = "remove this symmetry"
            raise DataError(f"{what}.symmetries_continuous.offset", found=found, expected=expected, fix=fix)


def _read_symmetry(what: str, entry: _ModelEntry, R_object_model: Points) -> SymmetryLabel:
    turns: list[Quaternion] = []
    for values in entry.symmetries_discrete:
        R_model = check_rotation(f"{what}.symmetries_discrete", np.reshape(values, (4, 4))[:3, :3])
        R = R_object_model @ R_model @ R_object_model.T
        w, x, y, z = quaternion_wxyz_from_matrix(torch.from_numpy(R)).tolist()
        turns.append((w, x, y, z))
    if not entry.symmetries_continuous:
        return tuple(turns) or "none"
    if any(np.hypot(x, z) > 0.01 and np.hypot(x, z) < 0.9999 for _, x, _, z in turns):
        found = "turns of a body of revolution"
        raise DataError(what, found=found, expected="flips at most", fix="leave out this object")
    # The other rotations turn about the axis.
    flips = tuple(turn for turn in turns if np.hypot(turn[1], turn[3]) > 0.01)
    return ("revolution", *flips) if flips else "revolution"


def read_bop_json(path: Path, kind: Any) -> Any:
    """Read a JSON file of BOP and convert it to a type. Raises DataError with the first wrong key."""
    return read_typed_json(path, kind, expected="BOP's layout (bop_datasets_format.md)", fix="copy the file again")


def read_bop_model(folder: Path, obj_id: int) -> BopModel:
    """Read an object of models_eval. Raises DataError if a file is wrong, or if mesh and models_info.json disagree."""
    if not (folder / "models_info.json").is_file():
        found = "no models_info.json" if folder.is_dir() else "no such folder"
        expected = "the meshes of a BOP dataset: models_info.json and obj_000001.ply in models_eval/ or models/"
        fix = f"extract NAME_models.zip of the dataset into {folder.parent}"
        raise DataError(folder, found=found, expected=expected, fix=fix)
    infos: dict[int, _ModelEntry] = read_bop_json(folder / "models_info.json", dict[int, _ModelEntry])
    if obj_id not in infos:
        found, expected = f"no object {obj_id}", "each object of scene_gt.json"
        raise DataError(
            folder / "models_info.json", found=found, expected=expected, fix="copy the models of the dataset again"
        )
    path, entry = folder / f"obj_{obj_id:06d}.ply", infos[obj_id]
    what = f"{folder / 'models_info.json'}: {obj_id}"
    if entry.diameter < _SMALLEST_MM:
        found = f"{entry.diameter:.4g}, probably in metres"
        fix = "multiply all lengths of models_info.json and the meshes by 1000"
        raise DataError(f"{what}.diameter", found=found, expected="millimetres", fix=fix)
    vertices, triangles = read_ply(path)
    diagonal = float(np.linalg.norm(np.ptp(vertices, axis=0)))
    # A box's diagonal is 1 to sqrt(3) times the diameter inside it.
    if not 0.9 * entry.diameter <= diagonal <= 1.8 * entry.diameter:
        metres = 0.9 * entry.diameter <= 1000 * diagonal <= 1.8 * entry.diameter
        found = f"a box of diagonal {diagonal:.4g}" + (", probably in metres" if metres else "")
        expected = f"millimetres, as the diameter {entry.diameter:.4g} of models_info.json"
        fix = "multiply its vertices by 1000" if metres else "use mesh and models_info.json of one dataset"
        raise DataError(path, found=found, expected=expected, fix=fix)
    _check_axis(what, entry, (vertices.min(0) + vertices.max(0)) / 2)
    R = _turn_to_y(path, entry)
    turned = vertices / 1000 @ R.T
    low, high = turned.min(0), turned.max(0)
    center = (low + high) / 2
    T_object_model = np.eye(4)
    T_object_model[:3, :3], T_object_model[:3, 3] = R, -center
    symmetry, diameter_m = _read_symmetry(what, entry, R), entry.diameter / 1000
    return BopModel(obj_id, path, turned - center, triangles, high - low, symmetry, T_object_model, diameter_m)
