"""The scene of a video in 3D while its path is searched: the pose of each frame comes from its predicted depth, and
each few frames refine the fused points.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stadia.core.types import Predictor
from stadia.data.frame_preparation import Frame, PredictedFrame, PreparedFrame
from stadia.data.frame_selection import spread_indices
from stadia.evaluation.depth_fusion import DepthView, fuse_views, shrink_view
from stadia.io.image_files import read_rgb
from stadia.predict.live.tracker import FrameTracker
from stadia.predict.network import Network
from stadia.predict.options import PredictOptions
from stadia.predict.predict_frames import predict_inverse_depth
from stadia.report.point_cloud_figures import frame_scene
from stadia.web.photo import PhotoCamera, PhotoPrediction, choose_points, find_predicted_sky, make_cloud

log = logging.getLogger(__name__)

MAX_POINTS = 100_000
"""Most points of the scene."""

MAX_FRAMES, SIDE = 30, 240
"""Most frames whose depth is fused, spread over the video (SIDE: longest side of their depth, pixels)."""

EVERY = 4
"""Number of further frames after which the scene is fused again."""


@dataclass(frozen=True, eq=False)
class FirstScene:
    """Points and cameras of the first frames.

    points: (N, 3) float32, x right, y down, z forward, in the axes of the first camera.
    colors: (N, 3) RGB.
    poses: T_world_camera (4, 4) of the frames.
    fov_deg: horizontal field of view of the frames, degrees.
    aspect: width divided by height of the frames.
    grain: typical distance between neighboring points; 0 for those of a single frame.
    """

    points: NDArray[np.float32]
    colors: NDArray[np.uint8]
    poses: tuple[NDArray[np.float64], ...]
    fov_deg: float
    aspect: float
    grain: float = 0.0

    def to_bytes(self) -> bytes:
        """Return at most MAX_POINTS points as float32 (N, 3), followed by their colors uint8 (N, 3)."""
        every = max(-(-len(self.points) // MAX_POINTS), 1)
        return self.points[::every].astype("<f4").tobytes() + self.colors[::every].tobytes()

    def describe(self) -> dict[str, object]:
        """Return the cameras as JSON."""
        poses = [T[:3].round(4).tolist() for T in self.poses]
        camera = {"poses": poses, "fov_deg": self.fov_deg, "aspect": self.aspect, "grain": self.grain}
        if len(self.poses) == 1:
            return {**camera, "center": None, "radius": 0}
        center, radius = frame_scene(self.points, np.array([T[:3, 3] for T in self.poses]))
        return {**camera, "center": center, "radius": radius}


def start_scene(prediction: PhotoPrediction) -> FirstScene:
    """Return the scene of the first frame alone, whose depth is no affine one."""
    height, width = prediction.image.shape[:2]
    return FirstScene(
        *make_cloud(prediction, MAX_POINTS), (np.eye(4),), round(prediction.camera.fov_deg, 1), width / height
    )


def grow_scene(
    network: Network, camera: PhotoCamera, files: Sequence[Path], rate_hz: float
) -> Iterator[FirstScene | None]:
    """Yield the fused scene after each EVERY frames, and None after the frames between them.

    It ends at the first frame without a pose, because what follows is not connected, and at any error: the scene only
    bridges the time until the path is found.

    network: the network; nothing is yielded if its depth is affine.
    camera: camera of the frames.
    files: paths of the frames, in order.
    rate_hz: their rate.
    """
    try:
        yield from _grow(network, camera, files, rate_hz)
    except Exception:
        log.warning("the scene of the first frames ends", exc_info=True)


def _grow(network: Network, camera: PhotoCamera, files: Sequence[Path], rate_hz: float) -> Iterator[FirstScene | None]:
    height, width = read_rgb(files[0]).shape[:2]
    given = camera.make_input("video", (), len(files), rate_hz, height, width)
    predictor, tracker = network.open_input(given, PredictOptions()).predictor, FrameTracker()
    if predictor.depth_scale.is_affine:
        return
    chosen, views = spread_indices(len(files), MAX_FRAMES), list[DepthView]()
    for number, file in enumerate(files):
        image = read_rgb(file)
        shown = PreparedFrame.prepare(predictor, Frame(file.stem, image, camera.make_K(height, width)))
        placed = place_frame(predictor, shown, tracker, is_view=number in chosen)
        if placed is None:
            return
        if isinstance(placed, DepthView):
            views.append(shrink_view(placed, SIDE))
            if len(views) % EVERY == 0 or len(views) in (2, len(chosen)):
                fused = fuse_views(views)
                poses = tuple(one.T_world_camera for one in views)
                yield FirstScene(
                    fused.points, fused.colors, poses, round(camera.fov_deg, 1), width / height, fused.grain
                )
                continue
        yield None


def place_frame(
    predictor: Predictor, shown: PreparedFrame, tracker: FrameTracker, *, is_view: bool
) -> DepthView | bool | None:
    """Track a frame. Return it with its depth, without sky and edges, if it `is_view`, else True; None if the tracker
    finds no pose.
    """
    small = shown.to_picture()

    @cache
    def predict() -> PredictedFrame:
        return shown.predicted(predictor.depth_scale, predict_inverse_depth(predictor, shown), None)

    pose = tracker.add(small, lambda: predict().depth(), shown.K)
    if pose is None or not is_view:
        return None if pose is None else True
    depth = predict().depth()
    kept = choose_points(depth) & ~find_predicted_sky(predict())
    return DepthView(shown.frame.name, small, np.where(kept, depth, np.float32(0)), shown.K, pose.copy())
