"""Write predictions as one file in 3D: binary glTF for browsers and Blender, a recording of rerun for its viewer."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import ConfigError
from stadia.core.types import DepthScale
from stadia.evaluation.frame_preparation import Listener, PredictedFrame
from stadia.evaluation.io.gltf_files import encode_glb
from stadia.evaluation.io.point_clouds import CloudFrames, FindSky, color_points
from stadia.files.atomic_files import atomic_write

RERUN_APPLICATION = "stadia-predictions"


@contextmanager
def open_glb_file(path: Path, frames: int | None, find_sky: FindSky | None = None) -> Iterator[Listener]:
    """Open a .glb, and return a listener that adds points of some frames, and the path of the camera.

    The file appears only when the block ends without an error. Points are bounded as those of a PLY file. Those at
    edges of depth are left out.

    frames: number of frames; None where it is not known.
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
    """Raise ConfigError where the package rerun-sdk is missing."""
    if importlib.util.find_spec("rerun") is None:
        found, fix = "no package rerun-sdk", "pip install 'stadia[rerun]'"
        raise ConfigError("--rerun", found=found, expected="the package of the extra rerun", fix=fix)


@contextmanager
def open_rerun_file(
    path: Path, depth_scale: DepthScale, frames: int | None, find_sky: FindSky | None = None
) -> Iterator[Listener]:
    """Open a recording of rerun, and return a listener that adds each frame: camera, image, depth, points of some.

    The file appears only when the block ends without an error. Coordinates are x right, y down, z forward.

    Raises ConfigError where rerun-sdk is missing.
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
