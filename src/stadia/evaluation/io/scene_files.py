"""Write predictions as one file in 3D: binary glTF, or a recording of rerun."""

from __future__ import annotations

import importlib.util
import json
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import ConfigError
from stadia.core.types import DepthScale
from stadia.evaluation.frame_preparation import Listener, PredictedFrame
from stadia.evaluation.io.point_clouds import CloudFrames, FindSky, color_points
from stadia.files.atomic_files import atomic_write

RERUN_APPLICATION = "stadia-predictions"


@contextmanager
def open_glb_file(path: Path, frames: int | None, find_sky: FindSky | None = None) -> Iterator[Listener]:
    """Open a .glb, and return a listener that adds points of some frames, and the path; an error leaves no file."""
    chosen = CloudFrames(frames)
    clouds: list[tuple[NDArray[np.floating], NDArray[np.uint8]]] = []
    centers: list[NDArray[np.float64]] = []

    def add(predicted: PredictedFrame) -> None:
        if predicted.T_world_camera is not None:
            centers.append(predicted.T_world_camera[:3, 3])
        if limit := chosen.choose(predicted, sum(len(points) for points, _ in clouds)):
            clouds.append(color_points(predicted, limit, find_sky, without_edges=True))

    yield add
    points = np.concatenate([points for points, _ in clouds]) if clouds else np.zeros((0, 3))
    colors = np.concatenate([colors for _, colors in clouds]) if clouds else np.zeros((0, 3), np.uint8)
    with atomic_write(path) as temporary:
        temporary.write_bytes(encode_glb(points, colors, np.array(centers).reshape(-1, 3)))


def check_rerun() -> None:
    """Raise ConfigError if the package rerun-sdk is missing."""
    if importlib.util.find_spec("rerun") is None:
        found, fix = "no package rerun-sdk", "pip install 'stadia[rerun]'"
        raise ConfigError("--rerun", found=found, expected="the package of the extra rerun", fix=fix)


@contextmanager
def open_rerun_file(
    path: Path, depth_scale: DepthScale, frames: int | None, find_sky: FindSky | None = None
) -> Iterator[Listener]:
    """Open a recording of rerun, and return a listener that adds each frame: camera, image, depth, points of some.

    The file appears only if the block ends without an error. Raises ConfigError if rerun-sdk is missing.
    """
    check_rerun()
    import rerun

    chosen, count, number = CloudFrames(frames), 0, 0
    with atomic_write(path) as temporary:
        recording: Any = rerun.RecordingStream(RERUN_APPLICATION)
        recording.save(temporary)
        recording.log("world", rerun.ViewCoordinates.RDF, static=True)
        meter = {"meter": 1.0} if depth_scale is DepthScale.METRES else {}

        def add(predicted: PredictedFrame) -> None:
            nonlocal count, number
            recording.set_time("frame", sequence=number)
            number += 1
            depth = predicted.depth()
            height, width = depth.shape
            if (T := predicted.T_world_camera) is not None:
                recording.log("world/camera", rerun.Transform3D(translation=T[:3, 3], mat3x3=T[:3, :3]))
            recording.log("world/camera/view", rerun.Pinhole(image_from_camera=predicted.K, width=width, height=height))
            recording.log("world/camera/view/depth", rerun.DepthImage(depth.astype(np.float32), **meter))
            recording.log("image", rerun.Image(predicted.frame.image).compress())
            if limit := chosen.choose(predicted, count):
                points, colors = color_points(predicted, limit, find_sky, without_edges=True)
                count += len(points)
                recording.log(f"world/points/{number - 1:06d}", rerun.Points3D(points, colors=colors))

        yield add
        recording.flush()
        recording.disconnect()


_MAGIC, _VERSION, _JSON, _BINARY = b"glTF", 2, b"JSON", b"BIN\0"
_FLOAT, _BYTE, _POINTS, _LINE_STRIP = 5126, 5121, 0, 3
_VERTICES = 34962  # target of a buffer view
_FLIP = np.array([1, -1, -1], np.float32)  # to glTF's x right, y up, z backward


def encode_glb(
    points: NDArray[np.floating], colors: NDArray[np.uint8], path: NDArray[np.floating] | None = None
) -> bytes:
    """Return a .glb with points (N, 3) and colors (N, 3) RGB, and the path (M, 3) of the camera as a line.

    x is right, y down, z forward, in any unit. Source: glTF 2.0, Khronos Group, section 4 (GLB) and 3.6 (accessors).
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
    start = sum(map(len, blocks))
    blocks.append(data)
    view = {"buffer": 0, "byteOffset": start, "byteLength": len(data), "target": _VERTICES}
    document["bufferViews"].append(view)
    document["accessors"].append({"bufferView": len(document["bufferViews"]) - 1, **about})
    return len(document["accessors"]) - 1
