"""Write point clouds as binary PLY files, frame by frame."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from stadia.core.files import replacing
from stadia.core.types import Camera, Claim
from stadia.evaluation.frames import Listener, PredictedFrame
from stadia.geometry.points import point_cloud

MAX_POINTS = 1_000_000
MAX_FRAMES = 40
FAR = 5.0  # times the median depth: beyond, one pixel of error moves a point by metres
_VERTEX = np.dtype([("position", "<f4", 3), ("color", "u1", 3)])
_DIGITS = 12


def _header(count: int, unit: str) -> bytes:
    """Return a header whose length does not depend on the count, so that the count can be filled in at the end."""
    padding = "." * (_DIGITS - len(str(count)))
    lines = (
        "ply",
        "format binary_little_endian 1.0",
        f"comment x right, y down, z forward, in the first camera's frame; {unit}",
        f"comment {padding}",
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


def colored_points(predicted: PredictedFrame, limit: int) -> tuple[NDArray[np.floating], NDArray[np.uint8]]:
    """Return up to `limit` points (N, 3) of a frame in the world, with colors (N, 3), without points beyond FAR."""
    depth = predicted.depth()
    T = None if predicted.T_world_camera is None else torch.from_numpy(predicted.T_world_camera)
    camera = Camera(torch.from_numpy(predicted.K), *depth.shape)
    points, known = point_cloud(torch.from_numpy(depth)[None].double(), camera, T)
    near = known.numpy() & (depth.ravel() < FAR * np.median(depth))
    chosen = np.flatnonzero(near)[:: max(1, -(-int(near.sum()) // limit))]
    image = cv2.resize(predicted.frame.image, depth.shape[::-1], interpolation=cv2.INTER_AREA)
    return points.numpy()[chosen], image.reshape(-1, 3)[chosen]


@contextmanager
def point_cloud_file(path: Path, claim: Claim, frames: int | None) -> Iterator[Listener]:
    """Open a PLY file and return a listener that adds points of up to MAX_FRAMES frames, evenly spread.

    Args:
        path: of the .ply, which holds up to MAX_POINTS points and appears only when the block ends without an error.
        claim: names the unit in the header. Inverse depth up to scale and shift has no points.
        frames: number of frames; if None, each hundredth is taken until the file is full. Frames without a pose cannot
            be joined, so only the first of them is taken.
    """
    every = 100 if frames is None else max(1, -(-frames // MAX_FRAMES))
    limit = MAX_POINTS // (MAX_FRAMES if frames is None else -(-frames // every))
    unit = "metres" if claim is Claim.METRES else "up to scale, no metres"
    count = due = 0
    with replacing(path) as temporary, temporary.open("wb") as stream:
        writer = PlyWriter(stream, unit)

        def add(predicted: PredictedFrame) -> None:
            nonlocal count, due
            has_space = writer.count + limit <= MAX_POINTS
            if count == 0 or (count >= due and has_space and predicted.T_world_camera is not None):
                writer.add(*colored_points(predicted, limit))
                due = count - count % every + every
            count += 1

        yield add
        writer.finish()
