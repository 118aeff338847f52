"""Lens distortion: the models, and the conversion of a distorted image to the image of a pinhole camera."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError
from stadia.core.types import LEFT, RIGHT
from stadia.geometry.cameras import Intrinsics
from stadia.geometry.lens import distort_fov
from stadia.io.records.formats import COEFFICIENTS, EQUIDISTANT, FOV, RADTAN

Array = NDArray[np.float64]

MAX_ANGLE_DEG = 60.0  # largest angle from the axis in a pinhole image: beyond it the edges would be mostly stretched
_SIDE_POINTS = 9  # points along an image side, as in OpenCV 3 and 4, which reproduces EuRoC's published result
_ANGLES = np.linspace(0, np.radians(MAX_ANGLE_DEG), 4096)


@dataclass(frozen=True, slots=True, eq=False)
class DistortionModel:
    """The functions that compute with one distortion model of OpenCV.

    counts: possible numbers of coefficients.
    rays: function of distorted pixels (N, 2), K and coefficients that returns the viewing rays as (N, 2) x / z and y /
        z. Beyond MAX_ANGLE_DEG (60 degrees from the axis) only their direction is right.
    maps: function of K, coefficients, R, new K, (width, height) and a type that returns the maps of `cv2.remap`.
    """

    counts: tuple[int, ...]
    rays: Callable[[Array, Array, Array], Array]
    maps: Callable[..., tuple[Any, Any]]


def _radtan_rays(pixels: Array, K: Array, coefficients: Array) -> Array:
    rays = cv2.undistortPoints(pixels[:, None], K, coefficients)[:, 0]
    length = np.linalg.norm(rays, axis=1, keepdims=True)
    return np.asarray(rays * np.minimum(1, np.tan(_ANGLES[-1]) / np.maximum(length, 1e-12)))


def _equidistant_rays(pixels: Array, K: Array, coefficients: Array) -> Array:
    """Return rays of the model of Kannala and Brandt: radius = a (1 + k1 a^2 + k2 a^4 + k3 a^6 + k4 a^8) at angle a."""
    distorted = (pixels - K[:2, 2]) / (K[0, 0], K[1, 1])
    radius = np.linalg.norm(distorted, axis=1, keepdims=True)
    radii = _ANGLES * np.polynomial.polynomial.polyval(_ANGLES**2, np.concatenate([[1], coefficients]))
    return np.asarray(distorted / np.maximum(radius, 1e-12) * np.tan(np.interp(radius, radii, _ANGLES)))


def _fov_rays(pixels: Array, K: Array, coefficients: Array) -> Array:
    """Return rays of the FOV model. Source: Devernay and Faugeras, Straight lines have to be straight, 2001."""
    distorted, (w,) = (pixels - K[:2, 2]) / (K[0, 0], K[1, 1]), coefficients
    radius = np.linalg.norm(distorted, axis=1, keepdims=True)
    bent = np.minimum(np.tan(np.minimum(radius * w, 1.5)) / (2 * np.tan(w / 2)), np.tan(_ANGLES[-1]))
    return np.asarray(distorted / np.maximum(radius, 1e-12) * bent)


def _fov_maps(K: Array, coefficients: Array, R: Array, new_K: Array, size: tuple[int, int], _: int) -> tuple[Any, Any]:
    x, y = np.meshgrid(np.arange(size[0], dtype=np.float64), np.arange(size[1], dtype=np.float64))
    rays = np.stack((x, y, np.ones_like(x)), -1) @ np.linalg.inv(new_K).T @ R
    seen = distort_fov(rays[..., :2] / rays[..., 2:], coefficients.tolist())
    return tuple(np.float32(seen[..., axis] * K[axis, axis] + K[axis, 2]) for axis in (0, 1))  # type: ignore[return-value]


_RADTAN = DistortionModel(COEFFICIENTS[RADTAN], _radtan_rays, cv2.initUndistortRectifyMap)
_EQUIDISTANT = DistortionModel(COEFFICIENTS[EQUIDISTANT], _equidistant_rays, cv2.fisheye.initUndistortRectifyMap)
# Names from EuRoC's sensor.yaml, and Kalibr's radtan.
DISTORTION_MODELS = {
    RADTAN: _RADTAN,
    "radtan": _RADTAN,
    EQUIDISTANT: _EQUIDISTANT,
    FOV: DistortionModel(COEFFICIENTS[FOV], _fov_rays, _fov_maps),
}


@dataclass(frozen=True, slots=True, eq=False)
class DistortedCamera:
    """A camera with lens distortion.

    K: (3, 3) intrinsics of the raw image in pixels.
    model: a name of `DISTORTION_MODELS`.
    coefficients: k1 k2 p1 p2 [k3 ...] as in OpenCV (radial-tangential), k1 to k4 (equidistant), or the angle (fov).
    height, width: size of the raw image in pixels.
    """

    K: Array
    model: str
    coefficients: Array
    height: int
    width: int

    def rays(self, pixels: Array, R: Array) -> Array:
        """Return the viewing rays of distorted pixels as (N, 2) x / z and y / z.

        pixels: (N, 2) pixels of the raw image.
        R: (3, 3) rotation from the lens's axes to the axes of the returned rays.
        """
        rays = DISTORTION_MODELS[self.model].rays(pixels, self.K, self.coefficients)
        turned = np.column_stack([rays, np.ones(len(pixels))]) @ R.T
        return np.asarray(turned[:, :2] / turned[:, 2:])

    def resized(self, height: int, width: int) -> "DistortedCamera":
        """Return the camera for its images resized to `height` x `width` pixels."""
        known = Intrinsics(self.K, self.height, self.width).resized(height, width)
        return replace(self, K=known.K, height=height, width=width)

    def fingerprint(self) -> str:
        """Return a hash of all numbers of the lens, as a key of caches."""
        digest = hashlib.blake2b(f"{self.model} {self.height} {self.width}".encode(), digest_size=8)
        for values in (self.K, self.coefficients):
            digest.update(np.ascontiguousarray(values, dtype=np.float64).tobytes())
        return digest.hexdigest()

    @property
    def fold_deg(self) -> float | None:
        """Return the angle, degrees, from which the radius of a fisheye polynomial shrinks.

        It is None if the image ends before it, and above MAX_FOLD_DEG.
        """
        if self.model != EQUIDISTANT:
            return None
        angles = np.radians(np.linspace(0, MAX_FOLD_DEG, 241))
        k1, k2, k3, k4 = self.coefficients[:4]
        radius = angles * (1 + k1 * angles**2 + k2 * angles**4 + k3 * angles**6 + k4 * angles**8)
        falling = np.flatnonzero(np.diff(radius) <= 0)
        cx, cy = self.K[:2, 2]
        edge = max(
            cx / self.K[0, 0], (self.width - cx) / self.K[0, 0], cy / self.K[1, 1], (self.height - cy) / self.K[1, 1]
        )
        if not len(falling) or radius[falling[0]] >= edge:
            return None
        return float(np.degrees(angles[falling[0]]))

    @property
    def corner_shift_px(self) -> float:
        """Return how far the distortion shifts the image corner that it shifts most, in pixels.

        A corner has no ray if a polynomial of the lens falls towards it. Then the point nearest to it that has one
        counts.
        """
        corners = np.array([(0, 0), (1, 0), (0, 1), (1, 1)]) * (self.width - 1.0, self.height - 1.0)
        for share in np.linspace(1, 0.1, 10):
            pixels = self.K[:2, 2] + share * (corners - self.K[:2, 2])
            straight = self.rays(pixels, np.eye(3)) * (self.K[0, 0], self.K[1, 1]) + self.K[:2, 2]
            shift_px = float(np.linalg.norm(straight - pixels, axis=1).max())
            if shift_px > 1e-6:  # OpenCV returns the pixel itself if it has no ray
                return shift_px
        return 0.0


MAX_FOLD_DEG = 60.0
"""Largest angle from the axis at which a fold of a fisheye polynomial is a fault: beyond it, a lens has its rim."""


@dataclass(frozen=True, eq=False)
class Undistortion:
    """Converts images of a lens with distortion to images of a pinhole camera.

    lens: the lens.
    R_new_lens: (3, 3) rotation from the axes of the lens to the axes of the pinhole camera.
    new_K: (3, 3) intrinsics of the pinhole camera.
    """

    lens: DistortedCamera
    R_new_lens: Array
    new_K: Array

    @cached_property
    def _maps(self) -> tuple[Any, Any]:
        lens, model = self.lens, DISTORTION_MODELS[self.lens.model]
        size = lens.width, lens.height
        return model.maps(lens.K, lens.coefficients, self.R_new_lens, self.new_K, size, cv2.CV_32FC1)

    @property
    def intrinsics(self) -> Intrinsics:
        """Return K and image size of the pinhole camera."""
        return Intrinsics(self.new_K, self.lens.height, self.lens.width)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_maps"}

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return (H, W, 3) undistorted bilinearly at the same size; borders are repeated."""
        remapped = cv2.remap(image, *self._maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return np.asarray(remapped, dtype=np.uint8)

    def find_raw(self, pixels: Array) -> Array:
        """Return the pixels (N, 2) of the distorted image that appear at pixels (N, 2) of the undistorted image."""
        x, y = (np.asarray(coordinates, np.float32)[:, None] for coordinates in pixels.T)
        raw = [
            cv2.remap(coordinate_map, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)[:, 0]
            for coordinate_map in self._maps
        ]
        return np.column_stack(raw).astype(np.float64)

    def parameters(self) -> bytes:
        """Return bytes that determine the conversion, as a key of caches."""
        numbers = (self.lens.K, self.lens.coefficients, self.R_new_lens, self.new_K)
        return self.lens.model.encode() + b"".join(np.ascontiguousarray(n, dtype=np.float64).tobytes() for n in numbers)


def compute_pinhole_K(views: Sequence[tuple[DistortedCamera, Array]]) -> Array:
    """Return the K (3, 3) with the smallest focal length that leaves no empty pixel in the undistorted images.

    The principal point is chosen so that the image corners are centered around it.

    views: one or two lenses of the same image size, each with the rotation (3, 3) from its axes to the axes of the
        pinhole camera.
    """
    height, width = views[0][0].height, views[0][0].width
    last = np.array([width - 1.0, height - 1.0])
    rough = min(_estimate_focal(lens) for lens, _ in views)
    corners = np.array([(0, 0), (1, 0), (0, 1), (1, 1)]) * last
    cx, cy = np.mean([last / 2 - rough * lens.rays(corners, R).mean(0) for lens, R in views], axis=0)
    columns, rows = np.linspace(0, width, _SIDE_POINTS), np.linspace(0, height, _SIDE_POINTS)
    ones, zero = np.ones(_SIDE_POINTS), np.zeros(_SIDE_POINTS)
    needed: list[float] = []
    for lens, R in views:
        left, right = (lens.rays(np.column_stack([x, rows]), R)[:, 0] for x in (zero, width * ones))
        top, bottom = (lens.rays(np.column_stack([columns, y]), R)[:, 1] for y in (zero, height * ones))
        needed += [cx / -left.max(), (width - cx) / right.min(), cy / -top.max(), (height - cy) / bottom.min()]
    focal = max(needed)
    return np.array([[focal, 0, cx], [0, focal, cy], [0, 0, 1]])


def _estimate_focal(lens: DistortedCamera) -> float:
    """Return fy reduced by barrel distortion, as OpenCV before version 5 does."""
    fy, k1 = float(lens.K[1, 1]), float(lens.coefficients[0])
    return fy * (1 + min(k1, 0) * (lens.width**2 + lens.height**2) / (4 * fy**2))


KEEP_DISTORTION = "keep the distortion: data.camera.undistort=false"
MAX_CHANGE = 4.0  # largest plausible factor between the focal lengths of lens and pinhole camera


MAX_TANGENTIAL = 0.1
"""Largest plausible tangential coefficient; those of lenses are below MAX_LENS_TANGENTIAL."""

_ORDERS = {
    "the values are k1, k2, p1, p2, k3, under the names k1, k2, k3, p1, p2": (0, 1, 4, 2, 3),
    "the values are k1, k2, k3, p1, p2": (0, 1, 3, 4, 2),
}
"""Order of five coefficients that were read as k1, k2, p1, p2, k3, and the place of each of these among them."""


def find_other_order(lens: DistortedCamera) -> str:
    """Return the fix if a radial coefficient is in the place of a tangential one, and another order is a lens.

    Examples:
        >>> K = np.array([[650.0, 0, 320], [0, 650, 240], [0, 0, 1]])
        >>> find_other_order(DistortedCamera(K, RADTAN, np.array([-0.2, 0.1, -0.4, 1e-3, 2e-3]), 480, 640))
        'write k1, k2, p1, p2, k3 in this order: the values are k1, k2, k3, p1, p2'
    """
    if lens.model != RADTAN or len(lens.coefficients) != 5 or np.abs(lens.coefficients[2:4]).max() <= MAX_TANGENTIAL:
        return ""
    for order, places in _ORDERS.items():
        other = replace(lens, coefficients=lens.coefficients[list(places)])
        if np.abs(other.coefficients[2:4]).max() <= MAX_TANGENTIAL and other.fold_deg is None:
            return f"write k1, k2, p1, p2, k3 in this order: {order}"
    return ""


MAX_LENS_TANGENTIAL = 0.02
"""Largest tangential coefficient of real lenses; the k3 of a fisheye is often larger."""


def find_fisheye(lens: DistortedCamera) -> str:
    """Return the fix if the coefficients are no plausible lens, but those of a fisheye whose model has a wrong name.

    Drivers of the RealSense T265 write k1 to k4 of Kannala and Brandt as plumb_bob
    (https://github.com/IntelRealSense/realsense-ros/issues/679).

    lens: a radial-tangential lens.

    Examples:
        >>> K = np.array([[285.6, 0.0, 424.6], [0, 286.7, 408.2], [0, 0, 1]])
        >>> k = np.array([-0.0022, 0.0376, -0.0364, 0.0059, 0])
        >>> find_fisheye(DistortedCamera(K, RADTAN, k, 800, 848))
        'for raw images write distortion_model: equidistant and the first four numbers, if it is a fisheye'
    """
    k = lens.coefficients
    if lens.model != RADTAN or len(k) < 4 or np.any(k[4:]) or np.abs(k[2:4]).max() <= MAX_LENS_TANGENTIAL:
        return ""
    is_wide = lens.width > 2 * lens.K[0, 0] or lens.height > 2 * lens.K[1, 1]
    if not is_wide or replace(lens, model=EQUIDISTANT, coefficients=k[:4]).fold_deg is not None:
        return ""
    return "for raw images write distortion_model: equidistant and the first four numbers, if it is a fisheye"


def make_undistortion(lens: DistortedCamera, where: object) -> Undistortion:
    """Return the conversion of a lens's images to pinhole images without empty pixels.

    lens: the lens.
    where: file that describes the lens, for messages.

    Raises DataError for an impossible lens, which would fold the image.
    """
    if (fold_deg := lens.fold_deg) is not None:
        found = f"{lens.model} coefficients whose radius shrinks from {fold_deg:.0f} degrees on, inside the image"
        fix = f"calibrate again with the board in the corners of the image, or {KEEP_DISTORTION}"
        fix = find_other_order(lens) or fix
        raise DataError(where, found=found, expected="a radius that grows up to the edge of the image", fix=fix)
    with np.errstate(all="ignore"):
        new_K = compute_pinhole_K([(lens, np.eye(3))])
        made = Undistortion(lens, np.eye(3), new_K)
        is_lens = np.isfinite(new_K).all() and 1 / MAX_CHANGE < new_K[0, 0] / lens.K[0, 0] < MAX_CHANGE
        if is_lens:
            corners = np.array([(0, 0), (1, 0), (0, 1), (1, 1)]) * (lens.width - 1.0, lens.height - 1.0)
            raw = made.find_raw(corners)
            is_lens = bool((raw > -2).all() and (raw < (lens.width + 1, lens.height + 1)).all())
    if not is_lens:
        found = f"{lens.model} coefficients {', '.join(f'{value:.3g}' for value in lens.coefficients[:5])}"
        fix = find_other_order(lens) or f"look at the model and the unit of K, or {KEEP_DISTORTION}"
        raise DataError(where, found=found, expected="a lens that does not fold the image", fix=fix)
    return made


IMAGES_EXCHANGED = "the images of the two cameras exchanged"
INTRINSICS_EXCHANGED = "the intrinsics and distortion of the two cameras exchanged"


@dataclass(frozen=True, slots=True, eq=False)
class RectifiedPair:
    """The rectification of a stereo pair to two parallel pinhole cameras with the same K.

    A point is in the same row of both images, and x_left - x_right = fx baseline_m / z.

    left, right: conversion of each camera's images.
    baseline_m: distance between the cameras in metres.
    """

    left: Undistortion
    right: Undistortion
    baseline_m: float

    @property
    def sides(self) -> dict[str, Undistortion]:
        """Return the conversion of the images by side, "left" and "right"."""
        return {LEFT: self.left, RIGHT: self.right}

    @property
    def T_right_left(self) -> Array:
        """Return the motion (4, 4) from the rectified left to the rectified right camera, in metres.

        The translation is (-baseline, 0, 0).
        """
        T = np.eye(4)
        T[0, 3] = -self.baseline_m
        return T

    def other_rows_px(self, left_px: Array, right_px: Array) -> dict[str, Array]:
        """Return y_left - y_right (N,) of matches if the images, or the calibrations, of the two cameras were
        exchanged.

        If one of them is nearer to 0 than the present difference, that mistake is likely. The keys describe the
        mistakes.

        left_px, right_px: (N, 2) matched pixels in the rectified images.
        """
        left, right = self.left, self.right
        raw = left.find_raw(left_px), right.find_raw(right_px)
        focal = float(left.new_K[1, 1])

        def rows_px(lenses: tuple[Undistortion, Undistortion], axes: tuple[Undistortion, Undistortion]) -> Array:
            y = [
                view.lens.rays(at, turned.R_new_lens)[:, 1] for view, at, turned in zip(lenses, raw, axes, strict=True)
            ]
            return focal * (y[0] - y[1])

        return {
            IMAGES_EXCHANGED: rows_px((right, left), (right, left)),
            INTRINSICS_EXCHANGED: rows_px((right, left), (left, right)),
        }


def rectify_pair(left: DistortedCamera, right: DistortedCamera, T_right_left: Array, where: object) -> RectifiedPair:
    """Compute the rectification of a stereo pair.

    Each camera is rotated by half of their relative rotation, then both until the baseline is along x (Bouguet, as in
    OpenCV). The focal length is the smallest one without empty pixels, and the principal point centers the corners, as
    in EuRoC's published result.

    left, right: the two lenses.
    T_right_left: (4, 4) motion from the left to the right camera's coordinate frame, in metres.
    where: file, for messages.

    Raises DataError if the right camera is not to the right of the left one, or points in another direction.
    """
    R, t = T_right_left[:3, :3], T_right_left[:3, 3]
    half = cv2.Rodrigues(cv2.Rodrigues(R)[0] / 2)[0]
    x, y, z = half.T @ t
    if not (x < 0 and abs(x) > max(abs(y), abs(z)) and np.trace(R) > 1):
        turned_deg = np.degrees(np.linalg.norm(cv2.Rodrigues(R)[0]))
        place = f"({-x:+.4f}, {-y:+.4f}, {-z:+.4f}) m (right, down, ahead)"
        found = f"a right camera at {place}, turned by {turned_deg:.1f} degrees"
        expected = "a camera to the right of the left one, facing the same direction"
        fix = "T_BS maps the sensor to the body: T_right_left = inv(T_BS1) T_BS0; check that cam0 is the left camera"
        raise DataError(where, found=found, expected=expected, fix=fix)
    baseline_m = float(np.linalg.norm(t))
    level = _rotate_onto_x(np.array([x, y, z]) / -baseline_m)
    R_left, R_right = level @ half, level @ half.T
    new_K = compute_pinhole_K(((left, R_left), (right, R_right)))
    return RectifiedPair(Undistortion(left, R_left, new_K), Undistortion(right, R_right, new_K), baseline_m)


def _rotate_onto_x(axis: Array) -> Array:
    """Return the smallest rotation (3, 3) of a unit vector to (1, 0, 0)."""
    across = np.cross(axis, (1.0, 0, 0))
    sine = float(np.linalg.norm(across))
    return np.asarray(cv2.Rodrigues(across / max(sine, 1e-12) * np.arctan2(sine, axis[0]))[0])


SHAPE_TOLERANCE = 0.01  # relative difference of width / height between two sizes of one camera
CROPPED, STRETCHED, TURNED_RIGHT, TURNED_LEFT = "cropped", "stretched", "turned-right", "turned-left"
FITS = (TURNED_RIGHT, TURNED_LEFT, CROPPED, STRETCHED)


def has_shape(known: Intrinsics, height: int, width: int) -> bool:
    """Return whether images of `height` x `width` pixels have the aspect ratio of the camera's images, within 1 %."""
    return abs(width / height * known.height / known.width - 1) <= SHAPE_TOLERANCE


def turn_right(known: Intrinsics) -> Intrinsics:
    """Return the camera for its images turned by 90 degrees to the right (clockwise)."""
    K = known.K.copy()
    K[..., 0, 0], K[..., 1, 1] = known.K[..., 1, 1], known.K[..., 0, 0]
    K[..., 0, 2], K[..., 1, 2] = known.height - 1 - known.K[..., 1, 2], known.K[..., 0, 2]
    return Intrinsics(K, known.width, known.height)


def turn_left(known: Intrinsics) -> Intrinsics:
    """Return the camera for its images turned by 90 degrees to the left (counterclockwise)."""
    return turn_right(turn_right(turn_right(known)))


def crop(known: Intrinsics, height: int, width: int) -> Intrinsics:
    """Return the camera for images that are cut from the middle of its images and resized, as for video.

    known: camera of the whole images.
    height, width: size of the cut and resized images, whose aspect ratio may differ.
    """
    scale = max(width / known.width, height / known.height)
    whole = known.resized(round(known.height * scale), round(known.width * scale))
    K = whole.K.copy()
    K[..., 0, 2] -= (whole.width - width) / 2
    K[..., 1, 2] -= (whole.height - height) / 2
    return Intrinsics(K, height, width)


def fit_camera(known: Intrinsics, how: str, height: int, width: int) -> Intrinsics:
    """Return the camera for images that were made from its images by turning, cropping or stretching.

    known: camera of the original images.
    how: one of FITS: "turned-right", "turned-left", "cropped" or "stretched".
    height, width: size of the images that were made.
    """
    if how == STRETCHED:
        return known.resized(height, width)
    turns: dict[str, Callable[[Intrinsics], Intrinsics]] = {TURNED_RIGHT: turn_right, TURNED_LEFT: turn_left}
    return crop(turns[how](known) if how in turns else known, height, width)


def turn_lens(coefficients: tuple[float, ...], how: str | None) -> tuple[float, ...]:
    """Return the radial-tangential distortion coefficients for turned images: p1 and p2 turn with the image.

    coefficients: k1, k2, p1, p2 and more for the original images.
    how: "turned-right" or "turned-left"; for any other value nothing changes.
    """
    if how not in (TURNED_RIGHT, TURNED_LEFT) or len(coefficients) < 4:
        return coefficients
    k1, k2, p1, p2, *rest = coefficients
    sign = 1 if how == TURNED_RIGHT else -1
    return (k1, k2, sign * p2, -sign * p1, *rest)


def make_shape_error(known: Intrinsics, source: Path, height: int, width: int, calibration: Path | None) -> DataError:
    """Return the error for images whose aspect ratio differs from the camera's, with possible reasons.

    For each reason the message gives the camera that would follow.

    known: the camera.
    source: path of the images.
    height, width: size of the images.
    calibration: calibration file of the camera; None without a file.
    """
    command = f"stadia camera {source} --calibration {calibration or 'FILE'} --fit"
    turned = Intrinsics(np.swapaxes(known.K, -1, -2), known.width, known.height)
    is_turned = (known.width > known.height) != (width > height) and width != height
    if is_turned:
        what, ways = "turned by 90 degrees", (TURNED_RIGHT, TURNED_LEFT)
        what += "" if has_shape(turned, height, width) else " and cropped"
    else:
        what, ways = "cropped, as video modes crop photos", (CROPPED, STRETCHED)
    cases = "; ".join(f"{way}: {describe_K(fit_camera(known, way, height, width))}" for way in ways)
    fix = f"run `{command} {ways[0]}`"
    fix += (
        f", or `{ways[1]}` in its place"
        if is_turned
        else ". A video mode may crop more: look at the focal length of `stadia map`"
    )
    found = f"images of {width}x{height}, which may be {what} ({cases})"
    expected = f"the shape of {known.width}x{known.height}, which the camera has"
    return DataError(source, found=found, expected=expected, fix=fix)


def describe_K(known: Intrinsics) -> str:
    """Return the focal lengths and principal point of a camera as text, such as "fx 707.1, cx 601.9, cy 183.1".

    Examples:
        >>> describe_K(Intrinsics(np.array([[500.0, 0, 320], [0, 500, 240], [0, 0, 1]]), 480, 640))
        'fx 500, cx 320, cy 240'
    """
    K = known.select_K(0)
    numbers = {"fx": K[0, 0], "fy": K[1, 1], "cx": K[0, 2], "cy": K[1, 2]}
    if abs(K[0, 0] / K[1, 1] - 1) < 1e-3:
        del numbers["fy"]
    return ", ".join(f"{name} {round(float(value), 1):g}" for name, value in numbers.items())


def order_frames(known: Intrinsics, K_of_frames: dict[str, np.ndarray], stems: list[str], where: Path) -> Intrinsics:
    """Return intrinsics with one K for each video frame, (N, 3, 3), in the order of the frames.

    known: intrinsics of the camera, with the image size.
    K_of_frames: K (3, 3) by the name of an image, or in the order of the frames.
    stems: names of the frames' images without suffix.
    where: file, for messages.

    Raises DataError if the names do not correspond and the numbers of frames differ.
    """
    if all(stem in K_of_frames for stem in stems):
        K = np.stack([K_of_frames[stem] for stem in stems])
    elif len(stems) == len(K_of_frames):
        K = np.stack(list(K_of_frames.values()))
    else:
        found = f"K of {len(K_of_frames)} frames, which names {len(stems)} images differently"
        raise DataError(where, found=found, expected="a K for each image", fix="keep the images that the file names")
    return replace(known, K=K)
