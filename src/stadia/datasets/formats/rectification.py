"""Undistort lenses and rectify a stereo pair to one pinhole camera, displaced along its x axis."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError
from stadia.core.recording import LEFT, RIGHT
from stadia.datasets.lens_distortion import DistortedCamera, Undistortion, compute_pinhole_K

Array = NDArray[np.float64]

IMAGES_EXCHANGED = "the images of the two cameras exchanged"
INTRINSICS_EXCHANGED = "the intrinsics and distortion of the two cameras exchanged"


@dataclass(frozen=True, slots=True, eq=False)
class RectifiedPair:
    """Both sides with one new_K. A point has one row in both images, and x_left - x_right = fx baseline_m / z."""

    left: Undistortion
    right: Undistortion
    baseline_m: float

    @property
    def sides(self) -> dict[str, Undistortion]:
        """The undistortion of each side."""
        return {LEFT: self.left, RIGHT: self.right}

    @property
    def T_right_left(self) -> Array:
        """(4, 4) of the rectified pair: t = (-baseline, 0, 0)."""
        T = np.eye(4)
        T[0, 3] = -self.baseline_m
        return T

    def other_rows_px(self, left_px: Array, right_px: Array) -> dict[str, Array]:
        """Return what `core.recording.Rectification` does, with the images or the lenses of both sides exchanged."""
        left, right = self.left, self.right
        raw = left.find_raw(left_px), right.find_raw(right_px)
        focal = float(left.new_K[1, 1])

        def rows_px(lenses: tuple[Undistortion, Undistortion], axes: tuple[Undistortion, Undistortion]) -> Array:
            """Return the row offsets for the lens of each image, and the rotation that goes with it."""
            y = [
                view.lens.rays(at, turned.R_new_lens)[:, 1] for view, at, turned in zip(lenses, raw, axes, strict=True)
            ]
            return focal * (y[0] - y[1])

        return {
            IMAGES_EXCHANGED: rows_px((right, left), (right, left)),
            INTRINSICS_EXCHANGED: rows_px((right, left), (left, right)),
        }


def rectify_pair(left: DistortedCamera, right: DistortedCamera, T_right_left: Array, where: object) -> RectifiedPair:
    """Rotate each camera by half of their relative rotation, then both until the baseline is x (Bouguet, as in OpenCV).

    The new focal length is the smallest without empty pixels, about the principal point that centers the four corners.
    Versions of OpenCV choose different ones; this one is the published one of EuRoC (f = 435.2 px).

    T_right_left: (4, 4) points of the left lens to the right one, metres.  where: a name for messages.
    Raises DataError where the second lens is not to the right of the first one (both facing forward).
    """
    R, t = T_right_left[:3, :3], T_right_left[:3, 3]
    half = cv2.Rodrigues(cv2.Rodrigues(R)[0] / 2)[0]
    x, y, z = half.T @ t
    if not (x < 0 and abs(x) > max(abs(y), abs(z)) and np.trace(R) > 1):
        turned_deg = np.degrees(np.linalg.norm(cv2.Rodrigues(R)[0]))
        place = f"({-x:+.4f}, {-y:+.4f}, {-z:+.4f}) m (right, down, ahead)"
        found = f"a right camera at {place}, turned by {turned_deg:.1f} degrees"
        expected = "one to the right of the left camera, facing the same direction"
        fix = "T_BS maps the sensor to the body: T_right_left = inv(T_BS1) T_BS0; check that cam0 is the left camera"
        raise DataError(where, found=found, expected=expected, fix=fix)
    baseline_m = float(np.linalg.norm(t))
    level = _rotate_onto_x(np.array([x, y, z]) / -baseline_m)
    R_left, R_right = level @ half, level @ half.T
    new_K = compute_pinhole_K(((left, R_left), (right, R_right)))
    return RectifiedPair(Undistortion(left, R_left, new_K), Undistortion(right, R_right, new_K), baseline_m)


def _rotate_onto_x(axis: Array) -> Array:
    """Return (3, 3), the smallest rotation of a unit vector to (1, 0, 0)."""
    across = np.cross(axis, (1.0, 0, 0))
    sine = float(np.linalg.norm(across))
    return np.asarray(cv2.Rodrigues(across / max(sine, 1e-12) * np.arctan2(sine, axis[0]))[0])
