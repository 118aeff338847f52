"""Lens distortion: where a lens moves rays of the ideal pinhole, for OpenCV's polynomial and every model of COLMAP.

Points are at a focal length of 1: x / z and y / z in the camera's axes. The intrinsics K convert them to pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_UNDISTORT_ROUNDS = 8  # rounds of the fixed point; each divides the error of usual lenses by 10
_MAX_SQUARED = 1e3  # beyond this squared radius a polynomial means nothing, and would overflow
_MIN_RADIAL = 0.1  # a polynomial that falls below this factor folds the image


def distort(xy: Array, coefficients: Array) -> Array:
    """Return the points (..., 2) that a lens with OpenCV's radial and tangential polynomial makes of points (..., 2).

    xy: (..., 2) points of the ideal pinhole at a focal length of 1.
    coefficients: (..., 4), (..., 5) or (..., 8): k1, k2, p1, p2 [, k3 [, k4, k5, k6]], for all points or for each.

    Source: OpenCV, Camera Calibration and 3D Reconstruction.

    Examples:
        >>> distort(np.array([0.5, 0.0]), np.array([0.1, 0, 0, 0])).tolist()  # 0.5 (1 + 0.1 * 0.25)
        [0.5125, 0.0]
    """
    squared = (xy**2).sum(-1)
    return xy * _radial_factor(squared, coefficients)[..., None] + _tangential_shift(xy, squared, coefficients)


def undistort(xy: Array, coefficients: Array) -> Array:
    """Return the points (..., 2) of the ideal pinhole that a lens with OpenCV's polynomial moves to points (..., 2).

    This inverts `distort` by a fixed point. Points that the polynomial never reaches get a finite value.

    xy: (..., 2) points in the distorted image at a focal length of 1.
    coefficients: as for `distort`.

    Examples:
        >>> undistort(np.array([0.5125, 0.0]), np.array([0.1, 0, 0, 0])).round(6).tolist()
        [0.5, 0.0]
    """
    point = xy.copy()
    for _ in range(_UNDISTORT_ROUNDS if coefficients.any() else 0):
        squared = np.minimum((point**2).sum(-1), _MAX_SQUARED)
        radial = _radial_factor(squared, coefficients)
        shift = _tangential_shift(point, squared, coefficients)
        point = (xy - shift) / np.where(abs(radial) < _MIN_RADIAL, _MIN_RADIAL, radial)[..., None]
    return point


def _radial_factor(squared: Array, coefficients: Array) -> Array:
    k1, k2, _, _, *higher = np.moveaxis(coefficients, -1, 0)
    k3 = higher[0] if higher else 0.0
    above = 1 + squared * (k1 + squared * (k2 + squared * k3))
    if len(higher) < 4:
        return above
    k4, k5, k6 = higher[1:4]
    return above / (1 + squared * (k4 + squared * (k5 + squared * k6)))


def _tangential_shift(xy: Array, squared: Array, coefficients: Array) -> Array:
    p1, p2 = coefficients[..., 2], coefficients[..., 3]
    x, y = xy[..., 0], xy[..., 1]
    across = 2 * p1 * x * y + p2 * (squared + 2 * x**2)
    down = p1 * (squared + 2 * y**2) + 2 * p2 * x * y
    return np.stack((across, down), -1)


def _radius(xy: Array) -> Array:
    return np.maximum(np.linalg.norm(xy, axis=-1, keepdims=True), 1e-12)


def distort_fisheye(xy: Array, coefficients: Sequence[float]) -> Array:
    """Return the points (N, 2) of a fisheye lens: radius a (1 + k1 a^2 + k2 a^4 + ...) at the angle a from the axis.

    coefficients: k1, k2, ...; without any the lens is equidistant.

    Source: Kannala and Brandt, PAMI 28(8), 2006, without the asymmetric terms.
    """
    radius = _radius(xy)
    angle = np.arctan(radius)
    return xy * angle / radius * np.polynomial.polynomial.polyval(angle**2, (1.0, *coefficients))


def _distort_thin_prism_fisheye(xy: Array, lens: Sequence[float]) -> Array:
    k1, k2, p1, p2, k3, k4, sx1, sy1 = lens
    bent = distort_fisheye(xy, ())
    squared = (bent**2).sum(-1)
    radial = np.polynomial.polynomial.polyval(squared, (1.0, k1, k2, k3, k4))
    prism = squared[..., None] * (sx1, sy1)
    return bent * radial[..., None] + _tangential_shift(bent, squared, np.array([0, 0, p1, p2])) + prism


def _distort_rad_tan_thin_prism_fisheye(xy: Array, lens: Sequence[float]) -> Array:
    p0, p1, s0, s1, s2, s3 = lens[6:12]
    bent = distort_fisheye(xy, lens[:6])
    squared = (bent**2).sum(-1)
    prism = np.stack((s0 * squared + s1 * squared**2, s2 * squared + s3 * squared**2), -1)
    return bent + _tangential_shift(bent, squared, np.array([0, 0, p1, p0])) + prism


def distort_fov(xy: Array, lens: Sequence[float]) -> Array:
    """Return the points (..., 2) of a lens with the FOV model: radius atan(2 r tan(w / 2)) / w.

    lens: the angle w in radians.

    Source: Devernay and Faugeras, Straight lines have to be straight, MVA 13, 2001.
    """
    omega, radius = max(abs(lens[0]), 1e-6), _radius(xy)
    return xy * np.arctan(2 * radius * np.tan(omega / 2)) / (omega * radius)


def _distort_division(xy: Array, lens: Sequence[float]) -> Array:
    """Fitzgibbon, CVPR 2001: a distorted point over 1 + k r^2 is the pinhole's, which is a quadratic equation."""
    squared = (xy**2).sum(-1, keepdims=True)
    return xy * 2 / (1 + np.sqrt(np.maximum(1 - 4 * lens[0] * squared, 0)))


def _distort_eucm(xy: Array, lens: Sequence[float]) -> Array:
    """Khomutenko, Garcia and Martinet, An enhanced unified camera model, RA-L 1(1), 2016."""
    alpha, beta = lens
    return xy / (alpha * np.sqrt(beta * (xy**2).sum(-1, keepdims=True) + 1) + 1 - alpha)


def _distort_polynomial(xy: Array, lens: Sequence[float]) -> Array:
    k = np.zeros(max(4, len(lens)))
    k[: len(lens)] = lens
    return distort(xy, k)


COLMAP_LENSES: Mapping[str, Callable[[Array, Sequence[float]], Array]] = {
    **dict.fromkeys(("SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV"), _distort_polynomial),
    "FULL_OPENCV": _distort_polynomial,
    **dict.fromkeys(
        ("SIMPLE_FISHEYE", "FISHEYE", "SIMPLE_RADIAL_FISHEYE", "RADIAL_FISHEYE", "OPENCV_FISHEYE"), distort_fisheye
    ),
    "THIN_PRISM_FISHEYE": _distort_thin_prism_fisheye,
    "RAD_TAN_THIN_PRISM_FISHEYE": _distort_rad_tan_thin_prism_fisheye,
    "FOV": distort_fov,
    "SIMPLE_DIVISION": _distort_division,
    "DIVISION": _distort_division,
    "EUCM": _distort_eucm,
}
"""For each camera model of COLMAP, a function from points (N, 2) of the pinhole and the lens's parameters to distorted
points. The parameters are those after focal lengths and principal point, in COLMAP's order.

EQUIRECTANGULAR has no pinhole; `geometry.panorama` converts it.
"""
