"""Read triangle meshes from PLY files, binary or text (Turk, "The PLY polygon file format", 1994)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError

_TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2",
    "ushort": "u2", "uint16": "u2", "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4",
    "float": "f4", "float32": "f4", "double": "f8", "float64": "f8",
}  # fmt: skip
_MAX_BYTES = 1 << 30
_INDEX_NAMES = ("vertex_indices", "vertex_index")

Element = tuple[str, int, list[list[str]]]  # name, count, properties: [type, name] or ["list", type, type, name]


def _make_error(path: Path, found: object) -> DataError:
    return DataError(
        path, found=found, expected="a whole PLY file of triangles", fix="copy it again, or triangulate it"
    )


def _read_types(words: list[str]) -> list[str]:
    """Return the types in a property line: "property float x", "property list uchar int vertex_indices"."""
    return words[2:4] if words[1] == "list" else words[1:2]


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
        elif words[:1] == ["element"] and len(words) == 3 and words[2].isdigit():
            elements.append((words[1], int(words[2]), []))
        elif (
            words[:1] == ["property"]
            and elements
            and len(words) > 2
            and all(kind in _TYPES for kind in _read_types(words))
        ):
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
    try:
        if path.stat().st_size > _MAX_BYTES:
            fix = "check that this is the right file"
            raise DataError(path, found=f"{path.stat().st_size} bytes", expected=f"at most {_MAX_BYTES}", fix=fix)
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise DataError(path, found="no such file", expected="a PLY mesh", fix="copy it from the data set") from error
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
    if not len(faces) or not np.isfinite(vertices).all() or faces.min() < 0 or faces.max() >= len(vertices):
        raise _make_error(path, f"{len(vertices)} vertices and {len(faces)} faces that do not fit together")
    return vertices, np.ascontiguousarray(faces, np.int32)
