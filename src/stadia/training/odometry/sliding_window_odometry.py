"""Estimate a trajectory by a sliding window of keyframes that are adjusted together."""

from dataclasses import dataclass, field, fields
from functools import partial
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from stadia.core.errors import StadiaError
from stadia.core.types import Camera, PredictedMaps, Predictor
from stadia.predict.predict_frames import FrameArrays, predict_maps, predict_motion
from stadia.predict.track_camera import TakePoints
from stadia.training.odometry.sliding_window_ba import IncomingFrame, SlidingWindow


@dataclass(slots=True)
class SlidingWindowOdometry:
    """Adjust poses, depths and exposure of a window of keyframes so that their brightness agrees (back end of D3VO).

    predictor: the network, which must predict depth.
    take_points: receives the map points of each keyframe that leaves the window.
    window: the keyframes.
    before: the last frame; None before the first one.
    network_length: length of the trajectory by the pose network's motions alone so far; None if one of them is unknown.

    Raises StadiaError for a network that predicts inverse depth up to scale and shift.
    """

    predictor: Predictor
    take_points: TakePoints
    window: SlidingWindow = field(init=False)
    before: FrameArrays | None = None
    network_length: float | None = 0.0
    notes: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        if self.predictor.depth_scale.is_affine:
            fix = "use a network that predicts depth, or --method network"
            found = "inverse depth up to scale and shift"
            raise StadiaError("--method refined", found=found, expected="depth", fix=fix)
        self.window = SlidingWindow(self.take_points)

    @property
    def keyframes(self) -> int:
        """Return the number of keyframes so far."""
        return len(self.window.numbers)

    def add(self, image: NDArray[np.float32], camera: Camera) -> bool:
        """Estimate the pose of the next video frame.

        image: (1, 3, H, W) RGB in [0, 1].
        camera: its K (3, 3) and size.

        Returns False if its motion from the frame before is unknown.
        """
        now, before = FrameArrays(image, camera), self.before
        motion = None if before is None else predict_motion(self.predictor, before, now, None)[0].T_next_now
        self.before = now
        shown = Camera(torch.from_numpy(camera.K), camera.height, camera.width)
        incoming = IncomingFrame(torch.from_numpy(image), shown, partial(self._predict_maps, image, camera))
        is_placed = self.window.add(incoming, None if motion is None else torch.from_numpy(motion))
        if is_placed and before is not None and self.network_length is not None:
            self.network_length = None if motion is None else self.network_length + float(np.linalg.norm(motion[:3, 3]))
        return is_placed

    def _predict_maps(self, image: NDArray[np.float32], camera: Camera) -> PredictedMaps:
        maps = predict_maps(self.predictor, image, camera)
        found = {field.name: getattr(maps, field.name) for field in fields(maps)}
        return PredictedMaps(**{name: x if x is None else torch.from_numpy(x) for name, x in found.items()})

    def path(self) -> NDArray[np.float64]:
        """Finish the window, and return T_world_camera (N, 4, 4) float64 of all frames; the world is the first
        camera.
        """
        self.window.finish()
        return self.window.path().numpy()
