"""Pinhole cameras: their intrinsics K, changes of their images, and the projection of points.

Functions of cameras, pixels and points take arrays of NumPy or tensors of torch and return the same kind.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from array_api_compat import array_namespace
from numpy.typing import NDArray

from stadia.core.errors import ConfigError, DataError, GeometryError
from stadia.core.types import Array, Camera
from stadia.geometry.poses import transform

NEAR = 1e-6
"""Points whose z is not larger than this are taken as behind the camera; depths not larger than this are unknown."""

ASSUMED_LONGER_FOV_DEG = 60.0
"""Field of view across the longer side that is assumed if nothing states the camera. Phones have 65 to 70 degrees, and
lenses of 50 mm have 40.
"""

ASSUMED_HORIZONTAL_FOV_DEG = 60.0
"""Field of view across the width with which a search for the camera starts, and of data whose losses do not depend on
the camera: between dashcams and phones.
"""

MIN_USUAL_LONGER_FOV_DEG = 10.0
"""Smallest usual field of view across the longer side. Below it a focal length mostly has another unit."""

MAX_USUAL_LONGER_FOV_DEG = 120.0
"""Largest usual field of view across the longer side. Above it a focal length mostly has another unit."""

MIN_SEARCHED_HORIZONTAL_FOV_DEG = 20.0
"""Smallest field of view across the width that a search for the camera returns: that of a telephoto lens."""

MAX_SEARCHED_HORIZONTAL_FOV_DEG = 140.0
"""Largest field of view across the width that a search for the camera returns: beyond, lenses are fisheyes."""

_MAX_VALUES = 1 << 22  # columns resized at once: SciPy copies them as float32, which is 400 MB for an 8K image


def focal_px_from_fov(horizontal_deg: float, width: int) -> float:
    """Return the focal length in pixels of an image `width` pixels wide, from its horizontal field of view in degrees.

    horizontal_deg: angle between the left and right edges of the image.
    width: image width in pixels.

    Raises GeometryError unless the field of view is between 0 and 180 degrees.

    Examples:
        >>> round(focal_px_from_fov(90, 640), 3)
        320.0
    """
    if not 0 < horizontal_deg < 180:
        found, expected = f"{horizontal_deg} deg", "between 0 and 180"
        raise GeometryError("field of view", found=found, expected=expected, fix="give the angle in degrees")
    return width / 2 / math.tan(math.radians(horizontal_deg) / 2)


def focal_px_from_lens(focal_mm: float, sensor_width_mm: float, width: int) -> float:
    """Return the focal length in pixels, from the focal length and the sensor's width in millimetres.

    focal_mm: focal length of the lens. For a "35 mm equivalent" focal length, pass a sensor width of 36 mm.
    sensor_width_mm: width of the part of the sensor that the image covers.
    width: image width in pixels.

    Raises GeometryError if a length is not positive.

    Examples:
        >>> focal_px_from_lens(26, 36, 1080)
        780.0
    """
    if not (0 < focal_mm < math.inf and 0 < sensor_width_mm < math.inf):
        found, fix = f"{focal_mm} mm on {sensor_width_mm} mm", "pass focal length and sensor width"
        raise GeometryError("lens", found=found, expected="both above 0", fix=fix)
    return focal_mm / sensor_width_mm * width


def centered_K(focal_px: float, height: int, width: int) -> NDArray[np.float64]:
    """Return intrinsics K (3, 3) in pixels with square pixels and the principal point at the image's center.

    focal_px: focal length in pixels.
    height, width: image size in pixels.

    Examples:
        >>> centered_K(500, 48, 64).tolist()
        [[500.0, 0.0, 31.5], [0.0, 500.0, 23.5], [0.0, 0.0, 1.0]]
    """
    return np.array([[focal_px, 0, (width - 1) / 2], [0, focal_px, (height - 1) / 2], [0, 0, 1]])


def relative_focal(K: NDArray[np.floating], height: int, width: int) -> NDArray[np.float64]:
    """Return focal lengths relative to the image size, sqrt(fx fy / (height width)), which do not change by resizing.

    K: (..., 3, 3) intrinsics in pixels; the result has the leading axes (...).
    height, width: image size in pixels.

    Examples:
        >>> float(relative_focal(centered_K(32, 64, 64), 64, 64))
        0.5
    """
    return np.sqrt(np.asarray(K[..., 0, 0] * K[..., 1, 1] / (height * width), np.float64))


def _scale_and_shift_K(K: Array, scale_x: float, scale_y: float, shift_x: float, shift_y: float) -> Array:
    x, y = scale_x * K[..., :1, :], scale_y * K[..., 1:2, :]  # no new matrix, which would be copied to the device
    x[..., 2] += shift_x
    y[..., 2] += shift_y
    return array_namespace(K).concat((x, y, K[..., 2:, :]), axis=-2)


def crop_K(K: Array, left: int, top: int) -> Array:
    """Return the intrinsics (..., 3, 3) for a window cut from an image, with its top-left pixel at (left, top).

    K: (..., 3, 3) intrinsics of the whole image, in pixels.
    left, top: column and row of the window's top-left pixel in the whole image.

    Examples:
        >>> crop_K(centered_K(500, 48, 64), left=10, top=4)[:2, 2].tolist()
        [21.5, 19.5]
    """
    return _scale_and_shift_K(K, 1, 1, -left, -top)


def resize_K(K: Array, size: tuple[int, int], height: int, width: int) -> Array:
    """Return the intrinsics (..., 3, 3) of an image resized from `size` to `height` x `width` pixels.

    They are f' = f s and c' = (c + 0.5) s - 0.5, with s the ratio of new to old size along x or y, f a focal length and
    c a coordinate of the principal point.

    K: (..., 3, 3) intrinsics of the image before it is resized, in pixels.
    size: (height, width) of the image before it is resized.
    height, width: image size afterwards.

    Examples:
        >>> resize_K(centered_K(500, 48, 64), (48, 64), 24, 32).tolist()
        [[250.0, 0.0, 15.5], [0.0, 250.0, 11.5], [0.0, 0.0, 1.0]]
    """
    scale_x, scale_y = width / size[1], height / size[0]
    return _scale_and_shift_K(K, scale_x, scale_y, (scale_x - 1) / 2, (scale_y - 1) / 2)


# -- cameras: K together with the size of its image


def intrinsics(fx: float, fy: float, cx: float, cy: float, *, height: int, width: int) -> Camera[NDArray[np.float64]]:
    """Return a pinhole camera with the given focal lengths and principal point, all in pixels.

    fx, fy: focal lengths along x and y.
    cx, cy: principal point; (0, 0) is the center of the top-left pixel.
    height, width: image size in pixels.

    Raises GeometryError if a number is not finite or a focal length is not positive.

    Examples:
        >>> cam = intrinsics(100, 100, 50, 40, height=81, width=101)
        >>> float(cam.fx), float(cam.cx), cam.height, cam.width
        (100.0, 50.0, 81, 101)
    """
    if not all(map(math.isfinite, (fx, fy, cx, cy))) or min(fx, fy) <= 0:
        found, expected = f"fx {fx}, fy {fy}, cx {cx}, cy {cy}", "finite, fx and fy above 0"
        raise GeometryError(
            "intrinsics", found=found, expected=expected, fix="give focal length and principal point in pixels"
        )
    return Camera(np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], np.float64), height, width)


def from_field_of_view(horizontal_deg: float, *, height: int, width: int) -> Camera[NDArray[np.float64]]:
    """Return a camera with square pixels and a centered principal point, from its horizontal field of view in degrees.

    horizontal_deg: angle between the left and right edges of the image, above 0 and below 180 degrees.
    height, width: image size in pixels.

    Raises GeometryError if the angle is outside this range.

    Examples:
        >>> round(float(from_field_of_view(90, height=48, width=64).fx), 4)
        32.0
    """
    return Camera(centered_K(focal_px_from_fov(horizontal_deg, width), height, width), height, width)


def resize_camera(camera: Camera[Array], height: int, width: int) -> Camera[Array]:
    """Return the camera for its image resized to `height` x `width`: f' = f s and c' = (c + 0.5) s - 0.5.

    Here s is the ratio of the new to the old image size along x or y, f a focal length and c a coordinate of the
    principal point.

    camera: the camera of the image before it is resized.
    height, width: image size after it, in pixels.

    Examples:
        >>> small = resize_camera(intrinsics(100, 100, 49.5, 39.5, height=80, width=100), 40, 50)
        >>> float(small.fx), float(small.cx), float(small.cy)
        (50.0, 24.5, 19.5)
    """
    return Camera(resize_K(camera.K, (camera.height, camera.width), height, width), height, width)


def crop_camera(camera: Camera[Array], left: int, top: int, height: int, width: int) -> Camera[Array]:
    """Return the camera for a window cut from the image, `height` x `width` pixels at (left, top).

    camera: the camera of the whole image.
    left, top: column and row of the window's top-left pixel in the whole image.
    height, width: size of the window in pixels.

    Raises GeometryError if the window reaches beyond the image.

    Examples:
        >>> cam = intrinsics(100, 100, 50, 40, height=81, width=101)
        >>> window = crop_camera(cam, left=10, top=20, height=50, width=60)
        >>> float(window.cx), float(window.cy), float(window.fx)
        (40.0, 20.0, 100.0)
    """
    if left < 0 or top < 0 or left + width > camera.width or top + height > camera.height:
        found, expected = f"{width}x{height} at ({left}, {top})", f"a window inside {camera.width}x{camera.height}"
        raise GeometryError("crop", found=found, expected=expected, fix="shrink the window")
    return Camera(crop_K(camera.K, left, top), height, width)


def mirror_camera(camera: Camera[Array]) -> Camera[Array]:
    """Return the camera of the image mirrored left to right: cx' = (W - 1) - cx if the image has W columns.

    Poses of a mirrored camera must be mirrored too, by `poses.mirror_x`.

    Examples:
        >>> float(mirror_camera(intrinsics(100, 100, 52, 40, height=81, width=101)).cx)
        48.0
    """
    row = -camera.K[..., :1, :]
    row[..., 0] = camera.K[..., :1, 0]
    row[..., 2] += camera.width - 1
    K = array_namespace(row).concat((row, camera.K[..., 1:, :]), axis=-2)
    return Camera(K, camera.height, camera.width)


def check_image_size(image: Any, camera: Camera) -> None:
    """Raise GeometryError if images (..., H, W) and their camera differ in size."""
    if image.shape[-2:] != (camera.height, camera.width):
        found = f"{camera.width}x{camera.height} for an image of {image.shape[-1]}x{image.shape[-2]}"
        fix = "resize, crop and mirror image and camera together"
        raise GeometryError("camera size", found=found, expected="the image's own size", fix=fix)


# -- pixels and points


def pixel_grid(height: int, width: int) -> NDArray[np.float64]:
    """Return the coordinates (2, H, W) of every pixel's center in an image: x (the column), then y (the row).

    height, width: image size H and W in pixels.

    Examples:
        >>> pixel_grid(2, 3)[:, 1, 2].tolist()  # x, then y, of the bottom right pixel
        [2.0, 1.0]
    """
    y, x = np.indices((height, width), dtype=np.float64)
    return np.stack((x, y))


def apply_to_pixels(matrix: Array, height: int, width: int) -> Array:
    """Multiply matrices (..., 3, 3) by the vector (x, y, 1) of every pixel; return (..., 3, H, W).

    matrix: (..., 3, 3), for example the inverse of K for the rays of all pixels, or a homography.
    height, width: image size H and W in pixels.

    Examples:
        >>> apply_to_pixels(np.eye(3), 2, 3)[:, 1, 2].tolist()  # (x, y, 1)
        [2.0, 1.0, 1.0]
    """
    xp = array_namespace(matrix)
    x = xp.arange(width, device=matrix.device, dtype=matrix.dtype)
    y = xp.arange(height, device=matrix.device, dtype=matrix.dtype)
    of_column = matrix[..., 0, None] * x + matrix[..., 2, None]  # (..., 3, W)
    of_row = matrix[..., 1, None] * y  # (..., 3, H)
    return of_column[..., None, :] + of_row[..., :, None]


def inverse_intrinsics(K: Array) -> Array:
    """Return the inverse matrices (..., 3, 3) of intrinsics K (..., 3, 3), in closed form.

    K must be upper triangular with K[2, 2] = 1; it may contain skew.

    Examples:
        >>> K = np.array([[2.0, 0, 4], [0, 2, 6], [0, 0, 1]])
        >>> (inverse_intrinsics(K) @ K).tolist()
        [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    xp = array_namespace(K)
    fx, skew, cx, fy, cy = K[..., 0, 0], K[..., 0, 1], K[..., 0, 2], K[..., 1, 1], K[..., 1, 2]
    zero, one = xp.zeros_like(fx), xp.ones_like(fx)
    first = xp.stack((1 / fx, -skew / (fx * fy), (skew * cy - cx * fy) / (fx * fy)), axis=-1)
    second = xp.stack((zero, 1 / fy, -cy / fy), axis=-1)
    return xp.stack((first, second, xp.stack((zero, zero, one), axis=-1)), axis=-2)


def backproject(depth_m: Array, camera: Camera) -> Array:
    """Back-project depth (..., 1, H, W) to points (..., 3, H, W) in the camera's coordinate frame.

    The points are in the unit of depth.

    Unknown depth, 0, gives the camera's center (0, 0, 0).

    depth_m: (..., 1, H, W) depth along the optical axis (z).
    camera: its K is (3, 3), or has the leading axes of depth.

    Raises GeometryError if the depth map and the camera differ in size.

    Examples:
        >>> cam = intrinsics(100, 100, 1, 0, height=1, width=3)
        >>> backproject(np.full((1, 1, 3), 10.0), cam)[:, 0, 2].tolist()  # x, y, z of the last pixel
        [0.1, 0.0, 10.0]
    """
    check_image_size(depth_m, camera)
    rays = apply_to_pixels(inverse_intrinsics(camera.K), camera.height, camera.width)
    return depth_m * array_namespace(rays).astype(rays, depth_m.dtype, copy=False)


def project(points: Array, camera: Camera) -> tuple[Array, Array]:
    """Project points to pixels; return pixels (..., 2, H, W) and depth z (..., 1, H, W).

    Pixels of points behind the camera, with z <= NEAR (1e-6), are finite but meaningless.
    `view_synthesis.inside_frame` marks the valid pixels.

    points: (..., 3, H, W) points x, y, z in the camera's coordinate frame.
    camera: its K is (3, 3), or has the leading axes of the points.

    Examples:
        >>> cam = intrinsics(100, 100, 50, 40, height=81, width=101)
        >>> pixel, z = project(np.array([1.0, 0.5, 10.0]).reshape(3, 1, 1), cam)
        >>> pixel.flatten().tolist(), z.item()
        ([60.0, 45.0], 10.0)
    """
    xp, z = array_namespace(points), points[..., 2:3, :, :]
    normalized = points[..., :2, :, :] / xp.where(z > NEAR, z, xp.ones_like(z))
    x, y = normalized[..., 0:1, :, :], normalized[..., 1:2, :, :]
    K = xp.astype(camera.K, points.dtype, copy=False)[..., :2, :, None, None]  # (..., 2, 3, 1, 1)
    pixels = K[..., 0, :, :] * x + K[..., 1, :, :] * y + K[..., 2, :, :]
    return pixels, z


def depth_from_inverse(inverse_depth: Array) -> Array:
    """Convert inverse depth in 1/m to depth in metres, of any shape. Unknown values, 0, stay 0 and have gradient 0.

    Examples:
        >>> depth_from_inverse(np.array([0.0, 0.25])).tolist()  # 0 = none
        [0.0, 4.0]
    """
    xp, known = array_namespace(inverse_depth), inverse_depth > NEAR
    safe = xp.where(known, inverse_depth, xp.ones_like(inverse_depth))
    return xp.where(known, 1 / safe, xp.zeros_like(inverse_depth))


def inverse_from_depth(depth_m: Array) -> Array:
    """Convert depth in metres to inverse depth in 1/m, of any shape. Unknown values, 0, stay 0.

    Examples:
        >>> inverse_from_depth(np.array([0.0, 4.0])).tolist()  # 0 = none
        [0.0, 0.25]
    """
    return depth_from_inverse(depth_m)


def depth_to_points(depth_m: Array, camera: Camera, T_world_camera: Array | None = None) -> tuple[Array, Array]:
    """Back-project depth maps to 3-D points; return points (..., H*W, 3) and the mask of known ones.

    Pixels are in row-major order.

    The mask (..., H*W) bool is true where depth is known.

    depth_m: (..., 1, H, W) z in metres; 0 means unknown.
    camera: its K is (3, 3), or has the leading axes of depth.
    T_world_camera: (..., 4, 4) camera-to-world poses, which move the points to the world frame; None leaves the points
        in the camera's coordinate frame.

    Raises GeometryError if the depth map and the camera differ in size.

    Examples:
        >>> cam = intrinsics(1, 1, 0, 0, height=1, width=2)
        >>> points, known = depth_to_points(np.array([[[2.0, 0.0]]]), cam)
        >>> (points[0].tolist(), known.tolist())
        ([0.0, 0.0, 2.0], [True, False])
    """
    xp, points = array_namespace(depth_m), backproject(depth_m, camera)
    points = points.reshape(*points.shape[:-2], -1).mT
    known = (depth_m > NEAR).reshape(*depth_m.shape[:-3], -1)
    if T_world_camera is None:
        return points, known
    return transform(xp.astype(T_world_camera, points.dtype, copy=False), points), known


# -- images


def resize_to_planar(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.float32]:
    """Resize an image (H, W, C) in [0, 255] to (C, height, width) in [0, 1], bilinearly with antialiasing.

    Examples:
        >>> resize_to_planar(np.full((4, 6, 3), 255, np.uint8), 2, 3).shape
        (3, 2, 3)
    """
    rows, columns, channels = image.shape
    lines, step = image.reshape(rows, -1), max(_MAX_VALUES // rows, 1)
    weights = _triangle_weights(rows, height)
    parts = [weights @ lines[:, start : start + step] for start in range(0, lines.shape[1], step)]
    across = np.hstack(parts) / np.float32(255)  # (height, W C)
    upright = across.reshape(height, columns, channels).transpose(1, 2, 0).reshape(columns, -1)  # (W, C height)
    resized = (_triangle_weights(columns, width) @ upright).reshape(width, channels, height)
    return np.ascontiguousarray(resized.transpose(1, 2, 0))


def _triangle_weights(before: int, after: int) -> Any:
    """Return weights (after, before) of a line's pixels: triangles two coarse pixels wide, rows summing to 1.

    Centers are rounded to float32, as in torch.
    """
    from scipy.sparse import csr_array  # slow to import, and needed only here

    scale = np.float32(before) / np.float32(after)
    reach = np.maximum(scale, np.float32(1))
    center = (float(scale) * (np.arange(after) + 0.5)).astype(np.float32)
    neighbors = np.floor(center - reach).astype(int)[:, None] + np.arange(math.ceil(2 * reach) + 1)
    weights = np.maximum(1 - np.abs(neighbors.astype(np.float32) - center[:, None] + np.float32(0.5)) / reach, 0)
    weights[(neighbors < 0) | (neighbors >= before)] = 0
    weights /= weights.sum(axis=1, keepdims=True)
    ends = np.arange(after + 1) * neighbors.shape[1]
    return csr_array((weights.ravel(), neighbors.clip(0, before - 1).ravel(), ends), shape=(after, before))


# -- the part of an image that networks see

IMAGE_CROPS: Mapping[str, tuple[int, int] | None] = {"none": None, "kb": (352, 1216)}
"""Named crops: height and width in pixels of a window at the bottom middle of the image. None is the whole image.

kb: the crop of the KITTI benchmark (Uhrig et al., 3DV 2017, arXiv 1708.06500), which removes the sky.
"""


@dataclass(frozen=True, slots=True)
class CropWindow:
    """A rectangular window of an image.

    top, left: row and column of the window's top-left pixel in the image.
    height, width: size of the window in pixels.
    """

    top: int
    left: int
    height: int
    width: int

    @property
    def rows(self) -> slice:
        """Return the range of image rows that the window covers, as a slice."""
        return slice(self.top, self.top + self.height)

    @property
    def columns(self) -> slice:
        """Return the range of image columns that the window covers, as a slice."""
        return slice(self.left, self.left + self.width)

    def cut(self, array: Any) -> Any:
        """Cut the window out of an image-sized NumPy array or torch tensor (H, W, ...)."""
        return array[self.rows, self.columns]


def crop_window(crop: str, height: int, width: int) -> CropWindow:
    """Return the window of a named crop in an image of `height` x `width` pixels.

    A crop of h x w pixels begins at top = height - h and left = floor((width - w) / 2).

    crop: a name of IMAGE_CROPS.

    Raises GeometryError if the image is smaller than the crop, and ConfigError for an unknown name.

    Examples:
        >>> window = crop_window("kb", 375, 1242)
        >>> (window.rows, window.columns)
        (slice(23, 375, None), slice(13, 1229, None))
    """
    if crop not in IMAGE_CROPS:
        expected = f"one of {', '.join(IMAGE_CROPS)}"
        raise ConfigError("crop", found=f"'{crop}'", expected=expected, fix="choose one of them")
    h, w = IMAGE_CROPS[crop] or (height, width)
    if height < h or width < w:
        found, expected = f"an image of {width}x{height}", f"at least {w}x{h} pixels, which this crop keeps"
        fix = "use images of that size, as KITTI's are, or a network that was trained with data.crop=none"
        raise GeometryError(f"crop '{crop}'", found=found, expected=expected, fix=fix)
    return CropWindow(height - h, (width - w) // 2, h, w)


def register_depth(
    depth_m: NDArray[np.float32],
    K_depth: NDArray[np.float64],
    K_color: NDArray[np.float64],
    T_color_depth: NDArray[np.float64],
) -> NDArray[np.float32]:
    """Move the depth map of a depth camera to the pixels of a color camera, in metres of its z, (H, W).

    Both cameras have images of the same size. Each depth moves to the nearest pixel of the color image. If several
    depths reach one pixel, the nearest surface is kept. Pixels that no depth reaches are 0.

    depth_m: (H, W) z in metres of the depth camera; 0 or a value that is not finite means unknown.
    K_depth, K_color: (3, 3) intrinsics in pixels.
    T_color_depth: (4, 4) motion from the depth camera's frame to the color camera's frame, in metres.

    Examples:
        >>> K = centered_K(100, 5, 5)
        >>> depth_m = np.full((5, 5), 2, np.float32)
        >>> T = np.eye(4); T[0, 3] = 0.02  # a pixel to the right
        >>> register_depth(depth_m, K, K, T)[0].tolist()
        [0.0, 2.0, 2.0, 2.0, 2.0]
    """
    height, width = depth_m.shape
    rows, columns = np.nonzero((depth_m > 0) & np.isfinite(depth_m))
    z = depth_m[rows, columns].astype(np.float64)
    points = np.linalg.inv(K_depth) @ np.stack((columns * z, rows * z, z))
    x, y, far = K_color @ (T_color_depth[:3, :3] @ points + T_color_depth[:3, 3:])
    column, row = (np.rint(at / np.maximum(far, NEAR)).astype(np.int64) for at in (x, y))
    seen = np.flatnonzero((far > NEAR) & (column >= 0) & (column < width) & (row >= 0) & (row < height))
    seen = seen[np.argsort(-far[seen], kind="stable")]
    registered = np.zeros((height, width), np.float32)
    registered[row[seen], column[seen]] = far[seen]
    return registered


# -- intrinsics with the size of their images

MAX_FOCAL_PX = 1e7
"""Intrinsics with a larger absolute value are refused.

The longest lenses have 1e6 px, and float32 holds squares of this limit.
"""


@dataclass(frozen=True)
class Intrinsics:
    """Pinhole intrinsics of the images of a recording, which all have the same size.

    K: float64 intrinsics in pixels: (3, 3) for all images, or (N, 3, 3), one matrix for each of N images.
    height, width: size of the images in pixels.
    """

    K: NDArray[np.float64]
    height: int
    width: int

    def select_K(self, index: int) -> NDArray[np.float64]:
        """Return a copy of the matrix K (3, 3) of the image with this index."""
        return (self.K if self.K.ndim == 2 else self.K[index]).copy()

    def select_frames(self, kept: Sequence[int]) -> Intrinsics:
        """Return the intrinsics of the images with these indices only, in this order."""
        return self if self.K.ndim == 2 else replace(self, K=self.K[list(kept)])

    def resized(self, height: int, width: int) -> Intrinsics:
        """Return the intrinsics that hold after all images are resized to `height` x `width` pixels."""
        return Intrinsics(resize_K(self.K, (self.height, self.width), height, width), height, width)

    def make_camera(self, index: int) -> Camera[NDArray[np.float64]]:
        """Return the camera of the image with this index, with K and image size."""
        return Camera(self.select_K(index), self.height, self.width)


def check_K(what: object, K: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return K unchanged if it can be pinhole intrinsics in pixels.

    what: the owner of K that an error message names, such as a file.
    K: matrix to check.

    Raises DataError if the shape is not (3, 3), a value is not finite or too large, the matrix is normalized (focal
    lengths below 2), transposed or for axes of Unreal Engine, or it is not upper triangular with last row (0, 0, 1).

    Examples:
        >>> check_K("K.txt", np.array([[500.0, 0, 31.5], [0, 500, 23.5], [0, 0, 1]]))[0, 0].item()
        500.0
    """
    fault, fix = None, "correct K (if it is normalized, multiply by the image's width and height)"
    if K.shape != (3, 3):
        fault = f"shape {K.shape}"
    elif not np.isfinite(K).all():
        fault = "a value that is not finite"
    elif np.allclose(K[2], (1, 0, 0)) and K[0, 1] > 2 and K[1, 2] < -2:
        right = (K @ np.array([[0.0, 0, 1], [1, 0, 0], [0, -1, 0]])).tolist()
        fault, fix = "a K for the axes of Unreal Engine (x forward, y right, z up)", f"turn them: K = {right}"
    elif min(K[0, 0], K[1, 1]) < 2:  # normalized or invalid: 2 px at 240 px are 179 degrees
        fault = f"fx {K[0, 0]:g}, fy {K[1, 1]:g}"
    elif np.abs(K).max() > MAX_FOCAL_PX:
        fault = f"fx {K[0, 0]:g}, fy {K[1, 1]:g}, center {K[0, 2]:g}, {K[1, 2]:g}"
    elif np.allclose(K[:, 2], (0, 0, 1)) and not np.allclose(K[2], (0, 0, 1)):
        fault, fix = f"a transposed K with last row {K[2].tolist()}", "transpose it"
    elif not np.allclose(K[2], (0, 0, 1)) or K[1, 0] != 0:
        fault = f"lower rows {K[1].tolist()} and {K[2].tolist()}"
    if fault:
        raise DataError(what, found=fault, expected="K = [[fx, 0, cx], [0, fy, cy], [0, 0, 1]] in pixels", fix=fix)
    return K


MAX_CENTER_OUTSIDE = 0.5
"""Largest accepted distance of a principal point from the image, as a share of the image size. Crops move it by less.
"""


def check_center(what: object, intrinsics: Intrinsics) -> Intrinsics:
    """Return the intrinsics unchanged if no principal point is far outside its image.

    what: the owner of the intrinsics that an error message names, such as a file.
    intrinsics: one or several matrices K with the image size.

    Raises DataError if a principal point is outside the image by more than MAX_CENTER_OUTSIDE times the image size.

    Examples:
        >>> K = np.array([[500.0, 0, 31.5], [0, 500, 23.5], [0, 0, 1]])
        >>> check_center("K.txt", Intrinsics(K, 48, 64)).width
        64
    """
    size = np.array([intrinsics.width, intrinsics.height])
    center = intrinsics.K[..., :2, 2].reshape(-1, 2)
    far = (center < -MAX_CENTER_OUTSIDE * size) | (center > (1 + MAX_CENTER_OUTSIDE) * size)
    if far.any():
        x, y = center[far.any(1).argmax()]
        found = f"the principal point ({x:g}, {y:g}) far outside the image"
        raise DataError(
            what, found=found, expected=f"cx, cy inside {size[0]}x{size[1]} pixels", fix="correct cx and cy"
        )
    return intrinsics


def make_K(what: object, fx: float, fy: float, cx: float, cy: float) -> NDArray[np.float64]:
    """Return the intrinsics K (3, 3) built from focal lengths and principal point in pixels.

    what: the owner of K that an error message names, such as a file.
    fx, fy: focal lengths.
    cx, cy: principal point.

    Raises DataError if the numbers cannot be intrinsics in pixels, as `check_K` does.
    """
    return check_K(what, np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]]))


@dataclass(frozen=True, slots=True)
class FocalEstimate:
    """An estimate of the focal length that is independent of the given intrinsics.

    focal: estimated focal length divided by the width of the image, fx / width.
    source: origin of the estimate in messages.
    deviation: relative standard deviation of the estimate.
    """

    focal: float
    source: str
    deviation: float = 0.05
