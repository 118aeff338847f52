"""Read meshes (PLY) and models_info.json of a BOP dataset."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from stadia.core.errors import DataError
from stadia.datasets.objects.object_labels import Points, Quaternion, SymmetryLabel, check_rotation, check_turns
from stadia.datasets.text_files import FileEntry, read_typed_json
from stadia.files.input_files import name_parser_errors, parse_integer, read_bytes
from stadia.geometry.se3 import quaternion_wxyz_from_matrix

_TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2",
    "ushort": "u2", "uint16": "u2", "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4",
    "float": "f4", "float32": "f4", "double": "f8", "float64": "f8",
}  # fmt: skip
_MAX_BYTES = 128 << 20
_INDEX_NAMES = ("vertex_indices", "vertex_index")

Element = tuple[str, int, list[list[str]]]  # name, count, properties: [type, name] or ["list", type, type, name]


def _make_error(path: Path, found: object) -> DataError:
    fix = "copy it again, or triangulate it"
    return DataError(path, found=found, expected="a whole PLY file of triangles", fix=fix)


def _find_types(words: list[str]) -> set[str]:
    """Return the types in a property line: "property float x", "property list uchar int vertex_indices"."""
    return set(words[2:4] if words[1] == "list" else words[1:2])


def _read_header(path: Path, data: bytes) -> tuple[str, list[Element], int]:
    """Return format, elements, and the start of the body."""
    end = data.find(b"end_header")
    start = data.find(b"\n", end) + 1
    if not data.startswith(b"ply") or end < 0 or start == 0:
        raise _make_error(path, "no PLY header")
    layout = ""
    elements: list[Element] = []
    for line in data[:end].decode("ascii", "replace").splitlines():
        words = line.split()
        if words[:1] == ["format"] and len(words) == 3:
            layout = words[1]
        elif words[:1] == ["element"] and len(words) == 3 and parse_integer(words[2], most=len(data)) is not None:
            elements.append((words[1], int(words[2]), []))
        elif words[:1] == ["property"] and elements and len(words) > 2 and _TYPES.keys() >= _find_types(words):
            elements[-1][2].append(words[1:])
        elif words[:1] in (["element"], ["property"]):
            raise _make_error(path, f"the header line '{line}'")
    return layout, elements, start


def _read_binary(path: Path, data: bytes, elements: list[Element], start: int, order: str) -> dict[str, NDArray]:
    """Return the records of each element. Lists must have a constant length, as in triangles."""
    found = {}
    for name, count, properties in elements:
        record: list[tuple[str, str] | tuple[str, str, tuple[int, ...]]] = []
        for prop in properties:
            if prop[0] != "list":
                record.append((prop[1], order + _TYPES[prop[0]]))
                continue
            before = np.dtype(record).itemsize if record else 0
            kind = np.dtype(order + _TYPES[prop[1]])
            if start + before + kind.itemsize > len(data):
                raise _make_error(path, f"a file cut off after {len(data)} bytes")
            length = int(np.frombuffer(data, kind, 1, start + before)[0]) if count else 0
            record += [(f"{prop[3]} length", kind.str), (prop[3], order + _TYPES[prop[2]], (min(length, 64),))]
        dtype = np.dtype(record)
        if start + count * dtype.itemsize > len(data):
            raise _make_error(path, f"a file cut off after {len(data)} bytes, or faces that are not all triangles")
        found[name] = np.frombuffer(data, dtype, count, start)
        start += count * dtype.itemsize
    return found


def _read_text(path: Path, data: bytes, elements: list[Element], start: int) -> tuple[NDArray, NDArray]:
    """Return vertices (N, 3) and faces (M, 3) of a text file."""
    lines = data[start:].decode("ascii", "replace").splitlines()
    vertices, faces = np.zeros((0, 3)), np.zeros((0, 3), np.int64)
    try:
        for name, count, properties in elements:
            rows, lines = lines[:count], lines[count:]
            if len(rows) < count:
                raise _make_error(path, f"a file cut off in element '{name}'")
            if name == "vertex":
                names = [prop[-1] for prop in properties]
                vertices = np.array([row.split() for row in rows], np.float64)[:, [names.index(axis) for axis in "xyz"]]
            elif name == "face":
                words = [row.split() for row in rows]
                if any(row[0] != "3" for row in words):
                    raise _make_error(path, "faces that are not all triangles")
                faces = np.array([row[1:4] for row in words], np.int64)
    except (ValueError, IndexError) as error:
        raise _make_error(path, f"a damaged file ({error})") from error
    return vertices, faces


def read_ply(path: Path) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Return vertices (N, 3) in the file's unit, and triangles (M, 3). Raises DataError that names the file."""
    data = read_bytes(path, expected="a PLY mesh", max_bytes=_MAX_BYTES, fix="copy it from the data set")
    with name_parser_errors(path, expected="a whole PLY file of triangles"):
        return _parse_ply(path, data)


def _parse_ply(path: Path, data: bytes) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    layout, elements, start = _read_header(path, data)
    if layout == "ascii":
        vertices, faces = _read_text(path, data, elements, start)
    elif layout in ("binary_little_endian", "binary_big_endian"):
        found = _read_binary(path, data, elements, start, "<" if layout == "binary_little_endian" else ">")
        vertex, face = found.get("vertex", np.zeros(0)), found.get("face", np.zeros(0))
        index = next((name for name in _INDEX_NAMES if name in (face.dtype.names or ())), None)
        if index is None or not {"x", "y", "z"} <= set(vertex.dtype.names or ()):
            raise _make_error(path, "no vertices or no faces")
        if (face[f"{index} length"] != 3).any():
            raise _make_error(path, "faces that are not all triangles")
        vertices, faces = np.stack([vertex[axis] for axis in "xyz"], 1).astype(np.float64), face[index]
    else:
        raise _make_error(path, f"format '{layout}'")
    if vertices.ndim != 2 or faces.shape[1:] != (3,) or faces.dtype.kind not in "iu":
        raise _make_error(path, "coordinates that are lists, or faces that are not three integers")
    if not len(faces) or not np.isfinite(vertices).all() or faces.min() < 0 or faces.max() >= len(vertices):
        raise _make_error(path, f"{len(vertices)} vertices and {len(faces)} faces that do not fit together")
    return vertices, np.ascontiguousarray(faces, np.int32)


@dataclass(frozen=True, slots=True)
class BopModel:
    """One object with its mesh in the frame of `ObjectLabel`: metres, centered, axis of revolution along y.

    file: its mesh, beside models_info.json.
    T_object_model: (4, 4), from the frame of BOP's mesh and poses, in metres.
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


_SMALLEST_MM = 5.0  # of a diameter: no dataset has objects this small, and a chair in metres is below it
_AXIS_OFF = 0.02  # of the diameter: tolerated distance of an axis of revolution from the box center of a scanned mesh

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
    axes = [one.direction for one in entry.symmetries_continuous]
    if not axes:
        return np.eye(3)
    if any(abs(abs(axis @ axes[0]) - 1) > 1e-6 for axis in axes):
        found = "two axes of revolution"
        raise DataError(what, found=found, expected="at most one", fix="leave out this object: a ball has no pose")
    axis, y = axes[0], np.array([0.0, 1.0, 0.0])
    v, c = np.cross(axis, y), float(axis @ y)
    if c < -1 + 1e-9:
        return np.diag([1.0, -1.0, -1.0])
    hat = np.array([[0, -v[2], v[1]], [v[2], 0, -v[0]], [-v[1], v[0], 0]])
    return np.eye(3) + hat + hat @ hat / (1 + c)


def _check_axis(what: str, entry: _ModelEntry, center_mm: Points) -> None:
    """Raise DataError where an axis of revolution misses the box center (3,), which labels rotate about."""
    for one in entry.symmetries_continuous:
        off_mm = float(np.linalg.norm(np.cross(center_mm - one.offset, one.direction)))
        if off_mm > _AXIS_OFF * entry.diameter:
            found = f"an axis {off_mm:.3g} mm beside the center of the mesh's box"
            expected = f"one through it, within {_AXIS_OFF * entry.diameter:.2g} mm"
            fix = "correct the offset, or remove this symmetry: a body of revolution turns about the middle of its box"
            raise DataError(f"{what}.symmetries_continuous.offset", found=found, expected=expected, fix=fix)


def _read_symmetry(what: str, entry: _ModelEntry, R_object_model: Points) -> SymmetryLabel:
    """Return rotations in the object's frame. The translation of a symmetry, at most about a millimetre, is dropped."""
    check_turns(f"{what}.symmetries_discrete", len(entry.symmetries_discrete))
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
    flips = tuple(turn for turn in turns if np.hypot(turn[1], turn[3]) > 0.01)  # what is left turns about the axis
    return ("revolution", *flips) if flips else "revolution"


def read_bop_json(path: Path, kind: Any) -> Any:
    """Read a JSON file of BOP as a type. Raises DataError that names the file and the first wrong key."""
    return read_typed_json(path, kind, expected="BOP's layout (bop_datasets_format.md)", fix="copy the file again")


def read_bop_model(folder: Path, obj_id: int) -> BopModel:
    """Read an object of models_eval. Raises DataError, also where the mesh size contradicts models_info.json."""
    infos: dict[int, _ModelEntry] = read_bop_json(folder / "models_info.json", dict[int, _ModelEntry])
    if obj_id not in infos:
        found, expected = f"no object {obj_id}", "each object of scene_gt.json"
        raise DataError(folder / "models_info.json", found=found, expected=expected, fix="copy it again")
    path, entry = folder / f"obj_{obj_id:06d}.ply", infos[obj_id]
    what = f"{folder / 'models_info.json'}: {obj_id}"
    if entry.diameter < _SMALLEST_MM:
        found = f"{entry.diameter:.4g}, probably in metres"
        fix = "multiply all lengths of models_info.json by 1000, and the meshes' vertices if they are in metres too"
        raise DataError(f"{what}.diameter", found=found, expected="millimetres", fix=fix)
    vertices, triangles = read_ply(path)
    diagonal = float(np.linalg.norm(np.ptp(vertices, axis=0)))
    # A box's diagonal is 1 to sqrt(3) times the diameter inside it.
    if not 0.9 * entry.diameter <= diagonal <= 1.8 * entry.diameter:
        metres = 0.9 * entry.diameter <= 1000 * diagonal <= 1.8 * entry.diameter
        found = f"a box of diagonal {diagonal:.4g}" + (", probably in metres" if metres else "")
        expected = f"millimetres, as the diameter {entry.diameter:.4g} of models_info.json"
        fix = "multiply its vertices by 1000" if metres else "use mesh and models_info.json of one data set"
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
