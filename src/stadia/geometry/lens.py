"""Lens distortion: where a lens moves rays of the ideal pinhole, for OpenCV's polynomial and every model of COLMAP.

Points are at a focal length of 1: x / z and y / z in the camera's axes. The intrinsics K convert them to pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

MAX_OFF_AXIS_DEG = 65.0
"""Largest angle from the axis at which `Lens.undistort` returns a point.

There, an error of a pixel is 5.6 times as large in the image of a pinhole camera as in the middle.
"""

_ROUNDS = 20  # rounds of Newton's method; usual lenses take 4
_STEP = 1e-6  # distance of the points from which a derivative is computed
_MAX_MOVE = 0.3  # most that one round moves a point
_TOLERANCE = 1e-7  # largest error of an inverse: a ten-thousandth of a pixel
_MAX_RADIUS = 30.0  # 88 degrees: beyond this radius a polynomial means nothing, and would overflow
_RADII = 256  # radii at which a lens is computed to find where the inverse starts


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
    """Return the points (N, 2) of the ideal pinhole that a lens with OpenCV's polynomial moves to points (N, 2).

    This inverts `distort`. Points that the polynomial never reaches, or only where it folds the image, are NaN.

    xy: (N, 2) points in the distorted image at a focal length of 1.
    coefficients: (4,), (5,) or (8,) for all points, or (N, 4), ... for each, as for `distort`.

    Examples:
        >>> undistort(np.array([[0.5125, 0.0], [0.9, 0.0]]), np.array([0.1, 0, 0, 0])).round(3).tolist()
        [[0.5, 0.0], [0.841, 0.0]]
        >>> undistort(np.array([[0.9, 0.0]]), np.array([-0.3, 0, 0, 0])).tolist()  # its largest radius is 0.70
        [[nan, nan]]
    """
    bent = np.broadcast_to(coefficients, (len(xy), coefficients.shape[-1])).any(-1)
    point = np.array(xy, np.float64)
    of_bent = coefficients if coefficients.ndim == 1 else coefficients[bent]
    if of_bent.ndim == 2 and len(of_bent) and not np.ptp(of_bent, axis=0).any():  # one lens, which is faster
        of_bent = of_bent[0]

    def differentiate(points: Array, rows: NDArray[np.intp]) -> Derivatives:
        return _differentiate(points, of_bent if of_bent.ndim == 1 else of_bent[rows])

    point[bent] = _invert(differentiate, xy[bent])
    return point


Derivatives = tuple[Array, Array, Array]
"""Distorted points (M, 2), and their derivatives (M, 2) by x and by y of the points."""


def _differentiate(xy: Array, coefficients: Array) -> Derivatives:
    """Return what `distort` makes of points (M, 2), and its derivatives by x and y."""
    x, y = xy[:, 0], xy[:, 1]
    squared = x * x + y * y
    factor = _radial_factor(squared, coefficients)
    slope = _radial_slope(squared, factor, coefficients)
    p1, p2 = coefficients[..., 2], coefficients[..., 3]
    mixed = 2 * (x * y * slope + p1 * x + p2 * y)
    across = factor + 2 * x * x * slope + 2 * p1 * y + 6 * p2 * x
    down = factor + 2 * y * y * slope + 6 * p1 * y + 2 * p2 * x
    value = xy * factor[:, None] + _tangential_shift(xy, squared, coefficients)
    return value, np.stack((across, mixed), -1), np.stack((mixed, down), -1)


def _invert(
    differentiate: Callable[[Array, NDArray[np.intp]], Derivatives], xy: Array, start: Array | None = None
) -> Array:
    """Return the points (N, 2) that a lens moves to points (N, 2), by Newton's method; NaN where there are none.

    differentiate: function from points (M, 2) and their rows (M,) to the distorted points and their derivatives.
    xy: the distorted points.
    start: (N, 2) points to start from; None starts from the distorted points.
    """
    point = np.array(xy if start is None else start, np.float64)
    found, rows = np.full_like(point, np.nan), np.flatnonzero(np.isfinite(point).all(1))
    for _ in range(_ROUNDS):
        here = point[rows]
        value, across, down = differentiate(here, rows)
        determinant = across[:, 0] * down[:, 1] - across[:, 1] * down[:, 0]
        x, y = (xy[rows] - value).T
        is_right = (np.maximum(np.abs(x), np.abs(y)) < _TOLERANCE) & (determinant > 0) & (across[:, 0] > 0)
        found[rows[is_right]] = here[is_right]
        with np.errstate(divide="ignore", invalid="ignore"):
            move = np.stack(
                ((x * down[:, 1] - y * down[:, 0]) / determinant, (y * across[:, 0] - x * across[:, 1]) / determinant),
                -1,
            )
            length = np.hypot(move[:, 0], move[:, 1])
            move *= np.minimum(1, _MAX_MOVE / length)[:, None]
        here = here + np.nan_to_num(move)
        is_open = ~is_right & (np.hypot(here[:, 0], here[:, 1]) < _MAX_RADIUS) & np.isfinite(length)
        point[rows] = here
        rows = rows[is_open]
        if not len(rows):
            break
    return found


def _radial_factor(squared: Array, coefficients: Array) -> Array:
    k1, k2, _, _, *higher = np.moveaxis(coefficients, -1, 0)
    k3 = higher[0] if higher else 0.0
    above = 1 + squared * (k1 + squared * (k2 + squared * k3))
    if len(higher) < 4:
        return above
    k4, k5, k6 = higher[1:4]
    return above / (1 + squared * (k4 + squared * (k5 + squared * k6)))


def _radial_slope(squared: Array, factor: Array, coefficients: Array) -> Array:
    """Return the derivative of the radial factor by the squared radius."""
    k1, k2, _, _, *higher = np.moveaxis(coefficients, -1, 0)
    k3 = higher[0] if higher else 0.0
    above = k1 + squared * (2 * k2 + squared * 3 * k3)
    if len(higher) < 4:
        return above
    k4, k5, k6 = higher[1:4]
    below = 1 + squared * (k4 + squared * (k5 + squared * k6))
    return (above - factor * (k4 + squared * (2 * k5 + squared * 3 * k6))) / below


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


def _distort_equirectangular(xy: Array, lens: Sequence[float]) -> Array:
    return np.stack((np.arctan(xy[..., 0]), np.arctan2(xy[..., 1], np.hypot(xy[..., 0], 1))), -1)


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
    "EQUIRECTANGULAR": _distort_equirectangular,
}
"""For each camera model of COLMAP, a function from points (N, 2) of the pinhole and the lens's parameters to distorted
points. The parameters are those after focal lengths and principal point, in COLMAP's order.

EQUIRECTANGULAR is there with longitude and latitude in radians as its distorted points: its pixels are w / (2 pi) and
h / pi of these, and `geometry.panorama` converts whole images.
"""


@dataclass(frozen=True)
class Lens:
    """A lens by its model and parameters, without focal lengths and principal point.

    model: a key of COLMAP_LENSES.
    params: the parameters of the model in COLMAP's order.
    """

    model: str
    params: tuple[float, ...] = ()

    def distort(self, xy: Array) -> Array:
        """Return the distorted points (N, 2) of points (N, 2) of the ideal pinhole, both at a focal length of 1."""
        return np.asarray(COLMAP_LENSES[self.model](xy, self.params), np.float64)

    def undistort(self, xy: Array) -> Array:
        """Return the points (N, 2) of the ideal pinhole that the lens moves to points (N, 2), at a focal length of 1.

        Points beyond MAX_OFF_AXIS_DEG, and points that the lens never reaches, are NaN.

        Examples:
            >>> Lens("FISHEYE").undistort(np.array([[np.pi / 4, 0.0], [np.pi / 2, 0.0]])).round(6).tolist()
            [[1.0, 0.0], [nan, nan]]
        """
        farthest = np.tan(np.radians(MAX_OFF_AXIS_DEG))
        radii = np.linspace(0, farthest, _RADII)
        bent = np.maximum.accumulate(self.distort(np.column_stack((radii, np.zeros(_RADII))))[:, 0])
        reached = np.linalg.norm(xy, axis=1)
        start = xy * (np.interp(reached, bent, radii) / np.maximum(reached, 1e-12))[:, None]
        point = _invert(self._differentiate, np.asarray(xy, np.float64), start)
        return np.where((np.linalg.norm(point, axis=1) <= farthest)[:, None], point, np.nan)

    def _differentiate(self, points: Array, rows: NDArray[np.intp]) -> Derivatives:
        value = self.distort(points)
        across, down = ((self.distort(points + axis) - value) / _STEP for axis in _STEP * np.eye(2))
        return value, across, down
