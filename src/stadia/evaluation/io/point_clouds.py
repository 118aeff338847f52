"""Write point clouds: PLY files, and a report's sample."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from stadia.core.types import Camera, DepthScale
from stadia.evaluation.frame_preparation import Listener, PredictedFrame
from stadia.evaluation.io.depth_files import write_depth_png
from stadia.files.atomic_files import atomic_write, write_json
from stadia.files.image_io import write_image
from stadia.geometry.depth_maps import depth_to_points

MAX_POINTS = 1_000_000
MAX_FRAMES = 40
MAX_MEDIAN_DEPTHS = 5.0  # times the median depth: beyond, one pixel of error moves a point by metres
EDGE_RATIO = 0.06  # relative jump of depth to a neighbor, between two surfaces

FindSky = Callable[[NDArray[np.uint8], NDArray[np.floating]], NDArray[np.bool_]]
"""Returns the sky (h, w) of an image (H, W, 3) RGB with depth (h, w). See `geometry.find_far_sky`."""

_VERTEX = np.dtype([("position", "<f4", 3), ("color", "u1", 3)])
_DIGITS = 12

NO_VERDICT = "none"
_VERDICT = "comment verdict of the depth: "
_MAX_HEADER = 4096
_VERDICT_LENGTH = 16  # characters that are filled in at the end
MAX_SAMPLE_PIXELS = 40_000  # of 5 bytes each in the report

_COUNTS = 65535  # of a uint16 PNG


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
    """Appends colored points to an open binary file; `finish` fills in their number."""

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
        """Write the header again, with the count."""
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
    """Return up to `limit` points (N, 3) of a frame in the world, with colors (N, 3), without far ones and sky."""
    depth = predicted.depth()
    T = None if predicted.T_world_camera is None else torch.from_numpy(predicted.T_world_camera)
    camera = Camera(torch.from_numpy(predicted.K), *depth.shape)
    points, known = depth_to_points(torch.from_numpy(depth)[None].double(), camera, T)
    near = known.numpy() & (depth.ravel() < MAX_MEDIAN_DEPTHS * np.median(depth))
    image = np.asarray(cv2.resize(predicted.frame.image, depth.shape[::-1], interpolation=cv2.INTER_AREA), np.uint8)
    if find_sky is not None:
        near &= ~find_sky(image, depth).ravel()
    if without_edges:
        near &= ~find_edges(depth, EDGE_RATIO).ravel()
    chosen = np.flatnonzero(near)[:: max(1, -(-int(near.sum()) // limit))]
    return points.numpy()[chosen], image.reshape(-1, 3)[chosen]


def find_edges(depth: NDArray[np.floating], ratio: float) -> NDArray[np.bool_]:
    """Return where depth (H, W) jumps to a neighbor by more than a ratio of the nearer one.

    Examples:
        >>> find_edges(np.array([[1.0, 1.0, 2.0]]), 0.1).tolist()
        [[False, True, True]]
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
    """Chooses up to MAX_FRAMES of `frames`, evenly spread (each hundredth if None), and up to MAX_POINTS points."""

    def __init__(self, frames: int | None) -> None:
        self.every = 100 if frames is None else max(1, -(-frames // MAX_FRAMES))
        self.limit = MAX_POINTS // (MAX_FRAMES if frames is None else max(-(-frames // self.every), 1))
        self.count = self.due = 0

    def choose(self, predicted: PredictedFrame, points: int) -> int:
        """Return the largest number of points to take of the next frame; 0 takes none. points: taken so far."""
        has_space = points + self.limit <= MAX_POINTS
        is_due = self.count >= self.due and has_space and predicted.T_world_camera is not None
        is_chosen = self.count == 0 or is_due
        if is_chosen:
            self.due = self.count - self.count % self.every + self.every
        self.count += 1
        return self.limit if is_chosen else 0


@contextmanager
def open_point_cloud_file(
    path: Path, depth_scale: DepthScale, frames: int | None, find_sky: FindSky | None = None
) -> Iterator[Listener]:
    """Open a PLY file and return a listener that adds points of the frames that `CloudFrames` chooses.

    The file appears only if the block ends without an error. frames: number of frames; None if unknown.
    """
    chosen = CloudFrames(frames)
    unit = "metres" if depth_scale is DepthScale.METRES else "up to scale, no metres"
    unit += f"; without {'sky and ' if find_sky else ''}points beyond {MAX_MEDIAN_DEPTHS:g} median depths"
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
    """Write one frame as points for the report: camera.json, image.png (RGB) and depth.png (uint16, 0 = unknown).

    image: (h, w, 3) RGB. depth: (h, w) z. Above MAX_SAMPLE_PIXELS only every n-th row and column is kept.
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
