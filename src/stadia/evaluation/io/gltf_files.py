"""Write points and cameras as binary glTF (.glb), which browsers, Blender and telephones show. Imports no torch."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_MAGIC, _VERSION, _JSON, _BINARY = b"glTF", 2, b"JSON", b"BIN\0"
_FLOAT, _BYTE, _POINTS, _LINE_STRIP = 5126, 5121, 0, 3
_VERTICES = 34962  # target of a buffer view
_FLIP = np.array([1, -1, -1], np.float32)
"""From x right, y down, z forward to glTF's x right, y up, z backward. It is its own inverse."""


def encode_glb(
    points: NDArray[np.floating], colors: NDArray[np.uint8], path: NDArray[np.floating] | None = None
) -> bytes:
    """Return a .glb with colored points, and the path of the camera as a line.

    Args:
        points: (N, 3) x right, y down, z forward, in any unit; glTF's is the metre.
        colors: (N, 3) RGB.
        path: (M, 3) centers of the camera, of the same frame; None without one.

    Source: glTF 2.0, Khronos Group, section 4 (GLB) and 3.6 (accessors).
    """
    blocks: list[bytes] = []
    document: dict[str, Any] = {
        "asset": {"version": "2.0", "generator": "stadia"},
        "scene": 0,
        "scenes": [{"nodes": []}],
        "nodes": [],
        "meshes": [],
        "accessors": [],
        "bufferViews": [],
    }
    rgba = np.full((len(colors), 4), 255, np.uint8)
    rgba[:, :3] = colors
    _add_mesh(document, blocks, "points", _POINTS, points, rgba)
    if path is not None and len(path) > 1:
        _add_mesh(document, blocks, "path", _LINE_STRIP, path, None)
    binary = b"".join(blocks)
    document["buffers"] = [{"byteLength": len(binary)}]
    text = json.dumps(document, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    total = 12 + 8 + len(text) + 8 + len(binary)
    head = struct.pack("<4sII", _MAGIC, _VERSION, total)
    return b"".join(
        (head, struct.pack("<I4s", len(text), _JSON), text, struct.pack("<I4s", len(binary), _BINARY), binary)
    )


def _add_mesh(
    document: dict[str, Any],
    blocks: list[bytes],
    name: str,
    mode: int,
    points: NDArray[np.floating],
    rgba: NDArray[np.uint8] | None,
) -> None:
    """Add points (N, 3), and colors (N, 4) if given, as a mesh of its own node."""
    positions = np.ascontiguousarray(np.asarray(points, np.float32) * _FLIP, "<f4")
    ends: Sequence[NDArray[np.float32]] = (positions.min(axis=0), positions.max(axis=0)) if len(positions) else ()
    about: dict[str, Any] = {"type": "VEC3", "componentType": _FLOAT, "count": len(positions)}
    about |= {key: end.tolist() for key, end in zip(("min", "max"), ends, strict=False)}
    attributes = {"POSITION": _add_accessor(document, blocks, positions.tobytes(), about)}
    if rgba is not None:
        about = {"type": "VEC4", "componentType": _BYTE, "normalized": True, "count": len(rgba)}
        attributes["COLOR_0"] = _add_accessor(document, blocks, rgba.tobytes(), about)
    document["meshes"].append({"name": name, "primitives": [{"mode": mode, "attributes": attributes}]})
    document["scenes"][0]["nodes"].append(len(document["nodes"]))
    document["nodes"].append({"name": name, "mesh": len(document["meshes"]) - 1})


def _add_accessor(document: dict[str, Any], blocks: list[bytes], data: bytes, about: dict[str, Any]) -> int:
    """Add the bytes of one attribute, whose length is a multiple of 4; return the number of its accessor."""
    start = sum(map(len, blocks))
    blocks.append(data)
    view = {"buffer": 0, "byteOffset": start, "byteLength": len(data), "target": _VERTICES}
    document["bufferViews"].append(view)
    document["accessors"].append({"bufferView": len(document["bufferViews"]) - 1, **about})
    return len(document["accessors"]) - 1
