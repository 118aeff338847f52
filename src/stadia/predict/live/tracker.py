"""Estimate camera poses frame by frame: image corners of a keyframe are tracked, and its predicted depth gives their
points.
"""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.geometry.poses import invert_pose

Array = NDArray[np.float64]
ReadDepth = Callable[[], NDArray[np.float32]]

CORNERS, MIN_CORNERS = 300, 40
"""Fewest tracked points that give a pose (CORNERS: most points that are tracked from a keyframe)."""

MIN_SHARE, MAX_FLOW_SHARE = 0.5, 0.08
"""A frame becomes the next keyframe if its points moved by more than this share of the image width, or if less than
MIN_SHARE of them are left.
"""

MAX_ERROR_PX, MAX_ERROR_SHARE, RANSAC_STEPS = 1.5, 0.007, 100
"""Largest distance of a point from its place, pixels (MAX_ERROR_SHARE: as a share of the image's width, if that is
more), because predicted depth is wrong by far more than corners are.
"""

STILL_PX = 0.3
"""Largest median motion of the points, pixels, of a stationary camera."""

FLOW = {"winSize": (15, 15), "maxLevel": 3, "criteria": (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 15, 0.03)}


@dataclass(eq=False)
class _KeyFrame:
    """The last keyframe with its map points.

    points: (N, 3) in its axes.
    at: (N, 2) current position of the points.
    T_world_camera: pose of the keyframe.
    """

    points: Array
    start: NDArray[np.float32]
    at: NDArray[np.float32]
    count: int
    T_world_camera: Array


class FrameTracker:
    """Estimate the pose T_world_camera of each frame, in the unit of the depth; the world is the first camera.

    After frames without a pose the trajectory continues from the last pose, because the motion in between is unknown.

    T_world_camera: (4, 4) last pose.
    length: length of the trajectory so far.
    lost: number of frames without a pose.
    """

    def __init__(self) -> None:
        self.T_world_camera: Array = np.eye(4)
        self.length = 0.0
        self.lost = 0
        self._key: _KeyFrame | None = None
        self._gray: NDArray[np.uint8] | None = None
        self._guess: tuple[Array, Array] | None = None
        self._has_world = False

    def add(self, image: NDArray[np.uint8], read_depth: ReadDepth, K: Array) -> Array | None:
        """Return the pose T_world_camera (4, 4) of the next frame; None if too few points of the keyframe are found in
        it.

        The first frame with enough corners is the world.

        Args:
            image: (h, w, 3) uint8 RGB.
            read_depth: returns the depth (h, w) along the optical axis, 0 where unknown; called for keyframes only.
            K: (3, 3) intrinsics of the image in pixels.
        """
        gray = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)
        if self._key is None or self._gray is None or self._gray.shape != gray.shape:
            self._start(gray, read_depth, K)
            if self._key is not None and not self._has_world:
                self._has_world = True
                return self.T_world_camera
            self.lost += 1
            return None
        key, before = self._key, self._gray
        at, found, _ = cv2.calcOpticalFlowPyrLK(before, gray, key.at[:, None], None, **FLOW)  # type: ignore[call-overload]
        kept = found[:, 0] > 0
        key.points, key.start, key.at = key.points[kept], key.start[kept], at[kept, 0]
        self._gray = gray
        flow_px = float(np.median(np.linalg.norm(key.at - key.start, axis=1))) if len(key.at) else 0.0
        pose = None if len(key.at) < MIN_CORNERS else self._solve(key, K, gray.shape[1])
        if pose is None:
            self.lost += 1
            self._start(gray, read_depth, K)
            return None
        moved = key.T_world_camera @ pose
        if flow_px > STILL_PX:
            self.length += float(np.linalg.norm(moved[:3, 3] - self.T_world_camera[:3, 3]))
            self.T_world_camera = moved
        if len(key.at) < MIN_SHARE * key.count or flow_px > MAX_FLOW_SHARE * gray.shape[1]:
            self._start(gray, read_depth, K)
        return self.T_world_camera

    def _solve(self, key: _KeyFrame, K: Array, width: int) -> Array | None:
        """Return T_key_now by perspective from points, from the pose before, in an image of a width in pixels."""
        rotation, shift = self._guess if self._guess is not None else (np.zeros((3, 1)), np.zeros((3, 1)))
        is_found, rotation, shift, inliers = cv2.solvePnPRansac(
            key.points,
            key.at.astype(np.float64),
            K,
            None,
            rvec=rotation.copy(),
            tvec=shift.copy(),
            useExtrinsicGuess=True,
            iterationsCount=RANSAC_STEPS,
            reprojectionError=max(MAX_ERROR_PX, MAX_ERROR_SHARE * width),
            flags=cv2.SOLVEPNP_ITERATIVE,
        )
        if not is_found or inliers is None or len(inliers) < MIN_CORNERS // 2:
            return None
        rows = inliers[:, 0]
        rotation, shift = cv2.solvePnPRefineLM(
            key.points[rows], key.at[rows].astype(np.float64), K, None, rotation, shift
        )
        self._guess = rotation, shift
        T_now_key = np.eye(4)
        T_now_key[:3, :3], T_now_key[:3, 3] = cv2.Rodrigues(rotation)[0], shift[:, 0]
        return invert_pose(T_now_key)

    def _start(self, gray: NDArray[np.uint8], read_depth: ReadDepth, K: Array) -> None:
        self._gray, self._guess, self._key = gray, None, None
        corners = cv2.goodFeaturesToTrack(gray, CORNERS, 0.01, max(gray.shape[1] // 50, 4))
        if corners is None:
            return
        at = corners[:, 0]
        x, y = np.rint(at).astype(int).T
        z = read_depth()[y, x].astype(np.float64)
        known = z > 0
        rays = np.column_stack((at[known], np.ones(known.sum()))) @ np.linalg.inv(K).T
        start = at[known].astype(np.float32)
        if len(start) >= MIN_CORNERS:
            self._key = _KeyFrame(rays * z[known, None], start, start.copy(), len(start), self.T_world_camera.copy())
