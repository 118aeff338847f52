"""Write predictions as point clouds: PLY, glTF (.glb) and rerun files, and a sample for the report."""

import importlib.util
import json
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import ConfigError, StadiaError
from stadia.core.types import SHIFT_FIX, DepthScale
from stadia.data.frame_preparation import Listener, PredictedFrame
from stadia.geometry.cameras import NEAR
from stadia.io.atomic_files import atomic_write, write_json
from stadia.io.depth_files import write_depth_png
from stadia.io.image_io import write_image
from stadia.io.input_files import check_writable, expand_home

MAX_POINTS = 1_000_000
MAX_FRAMES = 40
MAX_MEDIAN_DEPTHS = 5.0  # times the median depth: beyond, one pixel of error moves a point by metres
EDGE_RATIO = 0.06  # relative jump of depth to a neighbor, between two surfaces

FindSky = Callable[[NDArray[np.uint8], NDArray[np.floating]], NDArray[np.bool_]]
"""Type of a function that finds the sky: from an image (H, W, 3) RGB and its depth (h, w) to a bool mask (h, w)."""

_VERTEX = np.dtype([("position", "<f4", 3), ("color", "u1", 3)])
_DIGITS = 12

NO_VERDICT = "none"
_VERDICT = "comment verdict of the depth: "
_MAX_HEADER = 4096
_VERDICT_LENGTH = 16  # characters that are filled in at the end
MAX_SAMPLE_PIXELS = 40_000  # A pixel takes 5 bytes in the report.

_COUNTS = 65535  # largest value of a uint16 PNG


def _header(count: int, unit: str) -> bytes:
    padding = "." * (_DIGITS - len(str(count)))
    lines = (
        "ply",
        "format binary_little_endian 1.0",
        f"comment x right, y down, z forward, in the first camera's frame; {unit}",
        f"comment {padding}",
        f"{_VERDICT}{NO_VERDICT:<{_VERDICT_LENGTH}}",
        f"element vertex {count}",
        *(f"property float {axis}" for axis in "xyz"),
        *(f"property uchar {channel}" for channel in ("red", "green", "blue")),
        "end_header",
    )
    return "".join(f"{line}\n" for line in lines).encode("ascii")


class PlyWriter:
    """Appends colored points to an open binary file. `finish` writes their number into the header."""

    def __init__(self, stream: BinaryIO, unit: str) -> None:
        self.stream, self.unit, self.count = stream, unit, 0
        stream.write(_header(0, unit))

    def add(self, points: NDArray[np.floating], colors: NDArray[np.uint8]) -> None:
        """Append points (N, 3) with colors (N, 3) RGB."""
        vertices = np.empty(len(points), _VERTEX)
        vertices["position"], vertices["color"] = points, colors
        self.stream.write(vertices.tobytes())
        self.count += len(points)

    def finish(self) -> None:
        """Write the header again, with the final number of points."""
        self.stream.seek(0)
        self.stream.write(_header(self.count, self.unit))


def write_cloud_verdict(path: Path, verdict: str) -> None:
    """Write the verdict on the depth into the header of a PLY file."""
    with path.open("r+b") as stream:
        place = stream.read(_MAX_HEADER).find(_VERDICT.encode("ascii"))
        if place >= 0:
            stream.seek(place + len(_VERDICT))
            stream.write(f"{verdict[:_VERDICT_LENGTH]:<{_VERDICT_LENGTH}}".encode("ascii", "replace"))


def color_points(
    predicted: PredictedFrame, limit: int, find_sky: FindSky | None = None, *, without_edges: bool = False
) -> tuple[NDArray[np.floating], NDArray[np.uint8]]:
    """Return points of a video frame in world coordinates, (N, 3) in the unit of depth, with colors (N, 3) RGB.

    Points that are far compared with the median depth, and points of the sky, are left out.

    predicted: video frame with depth and camera pose.
    limit: largest number N of points.
    find_sky: function that finds the sky; None keeps it.
    without_edges: also leave out pixels where depth jumps.
    """
    depth = predicted.depth()
    pose = predicted.T_world_camera
    if (rays := predicted.rays) is None:
        rows, columns = np.indices(depth.shape, dtype=np.float64)
        rays = np.stack([columns, rows, np.ones(depth.shape)], axis=-1) @ np.linalg.inv(predicted.K).T
    points = rays.reshape(-1, 3) * depth.reshape(-1, 1).astype(np.float64)
    if pose is not None:
        points = points @ pose[:3, :3].T + pose[:3, 3]
    known = depth.ravel() > NEAR
    median = np.median(depth[depth > 0]) if (depth > 0).any() else 0.0
    near = known & (depth.ravel() < MAX_MEDIAN_DEPTHS * median)
    image = np.asarray(cv2.resize(predicted.frame.image, depth.shape[::-1], interpolation=cv2.INTER_AREA), np.uint8)
    if find_sky is not None:
        near &= ~find_sky(image, depth).ravel()
    if without_edges:
        near &= ~find_edges(depth, EDGE_RATIO).ravel()
    chosen = np.flatnonzero(near)[:: max(1, -(-int(near.sum()) // limit))]
    return points[chosen], image.reshape(-1, 3)[chosen]


def find_edges(depth: NDArray[np.floating], ratio: float) -> NDArray[np.bool_]:
    """Return a mask (H, W) of the pixels where depth (H, W) jumps to a neighbor.

    ratio: smallest jump, relative to the nearer one of the two depths.
    """
    edges = np.zeros(depth.shape, np.bool_)
    for axis in (0, 1):
        before = depth[:-1] if axis == 0 else depth[:, :-1]
        after = depth[1:] if axis == 0 else depth[:, 1:]
        jumps = np.abs(after - before) > ratio * np.minimum(before, after)
        edges[tuple(slice(None, -1) if at == axis else slice(None) for at in (0, 1))] |= jumps
        edges[tuple(slice(1, None) if at == axis else slice(None) for at in (0, 1))] |= jumps
    return edges


class CloudFrames:
    """Chooses the frames and the number of points for a point cloud.

    Up to MAX_FRAMES of `frames` frames are chosen, evenly spaced; every hundredth one if their number is unknown. They
    give up to MAX_POINTS points together.
    """

    def __init__(self, frames: int | None) -> None:
        self.every = 100 if frames is None else max(1, -(-frames // MAX_FRAMES))
        self.limit = MAX_POINTS // (MAX_FRAMES if frames is None else max(-(-frames // self.every), 1))
        self.count = self.due = 0

    def choose(self, predicted: PredictedFrame, points: int) -> int:
        """Return the largest number of points to take from the next video frame for the point cloud; 0 skips it.

        predicted: the next video frame.
        points: number of points that were taken so far.
        """
        has_space = points + self.limit <= MAX_POINTS
        is_due = self.count >= self.due and has_space and predicted.T_world_camera is not None
        is_chosen = self.count == 0 or is_due
        if is_chosen:
            self.due = self.count - self.count % self.every + self.every
        self.count += 1
        return self.limit if is_chosen else 0


def check_scene_files(glb: Path | None, rerun: Path | None, *, recordings: int, has_points: bool) -> None:
    """Raise StadiaError if --glb or --rerun cannot be written: a used name, depth without points, or several inputs.

    recordings: number of inputs.
    has_points: whether the depth has no unknown shift.
    """
    if rerun is not None:
        check_rerun()
    for option, path in (("--glb", glb), ("--rerun", rerun)):
        if path is None:
            continue
        path = expand_home(path)
        if recordings != 1:
            fix = "choose one with data.recordings=NAME"
            raise ConfigError(option, found=f"{recordings} recordings", expected="one", fix=fix)
        if not has_points:
            found, expected = "depth with an unknown shift", "depth that gives points"
            raise ConfigError(option, found=found, expected=expected, fix=SHIFT_FIX)
        if path.exists() or path.is_symlink():
            raise StadiaError(path, found="an existing file", expected="a new name")
        check_writable(path.parent)


def describe_unit(depth_scale: DepthScale, *, has_sky: bool) -> str:
    """Return what the header of a PLY file states about its unit, and what was left out."""
    unit = "metres" if depth_scale is DepthScale.METRES else "up to scale, no metres"
    return f"{unit}; without {'' if has_sky else 'sky and '}points beyond {MAX_MEDIAN_DEPTHS:g} median depths"


def write_point_cloud(
    path: Path, points: NDArray[np.floating], colors: NDArray[np.uint8], depth_scale: DepthScale, verdict: str = ""
) -> None:
    """Write points without sky as a PLY file.

    path: file to write.
    points: (N, 3), x right, y down, z forward.
    colors: (N, 3) RGB.
    depth_scale: kind of scale of the points.
    verdict: on the depth; "" without one.
    """
    with atomic_write(path) as temporary, temporary.open("wb") as stream:
        writer = PlyWriter(stream, describe_unit(depth_scale, has_sky=False))
        writer.add(points, colors)
        writer.finish()
    if verdict:
        write_cloud_verdict(path, verdict)


@contextmanager
def open_point_cloud_file(
    path: Path, depth_scale: DepthScale, frames: int | None, find_sky: FindSky | None = None
) -> Iterator[Listener]:
    """Open a PLY file, and return a listener that adds the points of chosen frames. After an error no file is left.

    frames: number of frames that will follow; None if unknown.
    """
    chosen, unit = CloudFrames(frames), describe_unit(depth_scale, has_sky=find_sky is None)
    with atomic_write(path) as temporary, temporary.open("wb") as stream:
        writer = PlyWriter(stream, unit)

        def add(predicted: PredictedFrame) -> None:
            if limit := chosen.choose(predicted, writer.count):
                writer.add(*color_points(predicted, limit, find_sky))

        yield add
        writer.finish()


def write_cloud_sample(
    folder: Path,
    name: str,
    depth_scale: DepthScale,
    image: NDArray[np.uint8],
    depth: NDArray[np.floating],
    K: NDArray[np.float64],
) -> None:
    """Write one frame for the report's point cloud: camera.json, image.png (RGB) and depth.png (uint16, 0 is unknown).

    image: (h, w, 3) uint8 RGB.
    depth: (h, w) z.
    K: (3, 3) intrinsics.

    Above MAX_SAMPLE_PIXELS, only every n-th row and column is kept.
    """
    every = int(np.ceil(np.sqrt(depth.size / MAX_SAMPLE_PIXELS)))
    kept, shown = depth[::every, ::every], image[::every, ::every]
    near = kept < MAX_MEDIAN_DEPTHS * np.median(kept[kept > 0])
    per_count = float(kept[near].max()) / _COUNTS
    of_kept = K.copy()
    of_kept[:2] /= every
    write_depth_png(folder / "depth.png", np.where(near, kept, 0), 1 / per_count)
    write_image(folder / "image.png", shown[..., ::-1])
    about = {"frame": name, "depth_scale": str(depth_scale), "K": of_kept.tolist(), "depth_per_count": per_count}
    write_json(folder / "camera.json", about)


RERUN_APPLICATION = "stadia-predictions"


@contextmanager
def open_glb_file(path: Path, frames: int | None, find_sky: FindSky | None = None) -> Iterator[Listener]:
    """Open a .glb file, and return a listener that adds the points of chosen frames and the path.

    After an error no file is left.

    frames: number of frames that will follow; None if unknown.
    """
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
    """Open a rerun recording, and return a listener that adds frames. After an error no file is left.

    frames: number of frames that will follow; None if unknown.

    Raises ConfigError if the package rerun-sdk is missing.
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
_VERTICES, _INDICES = 34962, 34963  # targets of a buffer view
_FLIP = np.array([1, -1, -1], np.float32)  # glTF has x right, y up, z backward.


def encode_glb(
    points: NDArray[np.floating], colors: NDArray[np.uint8], path: NDArray[np.floating] | None = None
) -> bytes:
    """Return the bytes of a .glb file with colored points, and the camera trajectory as a line.

    Coordinates have x right, y down and z forward, in any unit. Source: glTF 2.0, Khronos Group, section 4 (GLB) and
    3.6 (accessors).

    points: (N, 3) positions.
    colors: (N, 3) RGB.
    path: (M, 3) positions of the camera along its trajectory; None draws no line.
    """
    document, blocks = start_glb()
    rgba = np.full((len(colors), 4), 255, np.uint8)
    rgba[:, :3] = colors
    _add_mesh(document, blocks, "points", _POINTS, points, rgba)
    if path is not None and len(path) > 1:
        _add_mesh(document, blocks, "path", _LINE_STRIP, path, None)
    return pack_glb(document, blocks)


def start_glb() -> tuple[dict[str, Any], list[bytes]]:
    """Return an empty document of glTF, and the list of its blocks of binary data."""
    document: dict[str, Any] = {
        "asset": {"version": "2.0", "generator": "stadia"},
        "scene": 0,
        "scenes": [{"nodes": []}],
        "nodes": [],
        "meshes": [],
        "accessors": [],
        "bufferViews": [],
    }
    return document, []


def pack_glb(document: dict[str, Any], blocks: Sequence[bytes]) -> bytes:
    """Return the bytes of a .glb file of a document and its binary data, whose blocks have multiples of 4 bytes."""
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
    attributes = {"POSITION": add_accessor(document, blocks, positions.tobytes(), about)}
    if rgba is not None:
        about = {"type": "VEC4", "componentType": _BYTE, "normalized": True, "count": len(rgba)}
        attributes["COLOR_0"] = add_accessor(document, blocks, rgba.tobytes(), about)
    document["meshes"].append({"name": name, "primitives": [{"mode": mode, "attributes": attributes}]})
    document["scenes"][0]["nodes"].append(len(document["nodes"]))
    document["nodes"].append({"name": name, "mesh": len(document["meshes"]) - 1})


def add_accessor(
    document: dict[str, Any], blocks: list[bytes], data: bytes, about: dict[str, Any], *, is_index: bool = False
) -> int:
    """Add an array to a document of glTF.

    document, blocks: as `start_glb` returns them.
    data: the array, a multiple of 4 bytes.
    about: type, componentType and count of the accessor.
    is_index: whether the array has indices of vertices.

    Returns the index of its accessor.
    """
    start = sum(map(len, blocks))
    blocks.append(data)
    view = {"buffer": 0, "byteOffset": start, "byteLength": len(data), "target": _INDICES if is_index else _VERTICES}
    document["bufferViews"].append(view)
    document["accessors"].append({"bufferView": len(document["bufferViews"]) - 1, **about})
    return len(document["accessors"]) - 1
