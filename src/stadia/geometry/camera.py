"""Project and back-project with a pinhole camera, and change images together with their cameras."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from stadia.core.errors import GeometryError
from stadia.core.types import Camera
from stadia.geometry.numpy_camera import NEAR, centered_K, focal_px_from_fov

# -- making one


def intrinsics(
    fx: float, fy: float, cx: float, cy: float, *, height: int, width: int, dtype: torch.dtype = torch.float64
) -> Camera:
    """Return a camera with the given focal lengths and principal point, all in pixels.

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
        raise GeometryError("intrinsics", found=found, expected=expected, fix="pass pixels")
    return Camera(torch.tensor([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], dtype=dtype), height, width)


def from_field_of_view(horizontal_deg: float, *, height: int, width: int) -> Camera:
    """Return a camera with square pixels and a centered principal point, from its horizontal field of view in degrees.

    height, width: image size in pixels.

    Examples:
        >>> round(float(from_field_of_view(90, height=48, width=64).fx), 4)
        32.0
    """
    K = centered_K(focal_px_from_fov(horizontal_deg, width), height, width)
    return Camera(torch.from_numpy(K), height, width)


# -- changing the camera


def _moved(
    camera: Camera, scale_x: float, scale_y: float, shift_x: float, shift_y: float, height: int, width: int
) -> Camera:
    K = camera.K.clone()  # numbers are set in place, because a new matrix would need a transfer to the device
    K[..., 0, :] *= scale_x
    K[..., 1, :] *= scale_y
    K[..., 0, 2] += shift_x
    K[..., 1, 2] += shift_y
    return Camera(K, height, width)


def resize_camera(camera: Camera, height: int, width: int) -> Camera:
    """Return the camera of the resized image: f' = f s and c' = (c + 0.5) s - 0.5, with s the ratio along x or y.

    Examples:
        >>> small = resize_camera(intrinsics(100, 100, 49.5, 39.5, height=80, width=100), 40, 50)
        >>> float(small.fx), float(small.cx), float(small.cy)
        (50.0, 24.5, 19.5)
    """
    sx, sy = width / camera.width, height / camera.height
    return _moved(camera, sx, sy, (sx - 1) / 2, (sy - 1) / 2, height, width)


def crop_camera(camera: Camera, left: int, top: int, height: int, width: int) -> Camera:
    """Return the camera of a window of the image, `height` x `width` pixels with its top-left pixel at (left, top).

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
    return _moved(camera, 1, 1, -left, -top, height, width)


def mirror_camera(camera: Camera) -> Camera:
    """Return the camera of the horizontally mirrored image: cx' = (W - 1) - cx. `se3.mirror_x` mirrors its poses.

    Examples:
        >>> float(mirror_camera(intrinsics(100, 100, 52, 40, height=81, width=101)).cx)
        48.0
    """
    sign = camera.K.new_tensor([[1, -1, -1], [-1, 1, 1], [-1, 1, 1]])
    shift = camera.K.new_tensor([[0, 0, camera.width - 1], [0, 0, 0], [0, 0, 0]])
    return Camera(camera.K * sign + shift, camera.height, camera.width)


# -- changing image and camera together


def _check_size(image: Tensor, camera: Camera) -> None:
    if image.shape[-2:] != (camera.height, camera.width):
        found = f"{camera.width}x{camera.height} for an image of {image.shape[-1]}x{image.shape[-2]}"
        fix = "resize, crop and mirror image and camera together"
        raise GeometryError("camera size", found=found, expected="the image's own size", fix=fix)


def resize(image: Tensor, camera: Camera, height: int, width: int) -> tuple[Tensor, Camera]:
    """Resize images (B, C, H, W) bilinearly with antialiasing, and return them with the resized camera.

    Examples:
        >>> cam = intrinsics(100, 100, 49.5, 39.5, height=80, width=100)
        >>> image, small = resize(torch.rand(1, 3, 80, 100), cam, 40, 50)
        >>> tuple(image.shape), float(small.fx)
        ((1, 3, 40, 50), 50.0)
    """
    _check_size(image, camera)
    resampled = F.interpolate(image, size=(height, width), mode="bilinear", align_corners=False, antialias=True)
    return resampled, resize_camera(camera, height, width)


def crop(image: Tensor, camera: Camera, left: int, top: int, height: int, width: int) -> tuple[Tensor, Camera]:
    """Crop images (..., H, W) to a window with its top-left pixel at (left, top). Return them with the window's camera.

    Examples:
        >>> cam = intrinsics(100, 100, 50, 40, height=81, width=101)
        >>> image, window = crop(torch.rand(1, 3, 81, 101), cam, left=10, top=20, height=50, width=60)
        >>> tuple(image.shape), float(window.cx)
        ((1, 3, 50, 60), 40.0)
    """
    _check_size(image, camera)
    window = crop_camera(camera, left, top, height, width)
    return image[..., top : top + height, left : left + width], window


def mirror(image: Tensor, camera: Camera) -> tuple[Tensor, Camera]:
    """Mirror images (..., H, W) left to right, and return them with the mirrored camera.

    Depth maps are mirrored the same way. Mirror poses with `se3.mirror_x`, and swap the sides of a stereo pair.

    Examples:
        >>> image, cam = mirror(torch.tensor([[1.0, 2.0, 3.0]]), intrinsics(10, 10, 0.5, 0, height=1, width=3))
        >>> image.tolist(), float(cam.cx)
        ([[3.0, 2.0, 1.0]], 1.5)
    """
    _check_size(image, camera)
    return image.flip(-1), mirror_camera(camera)


# -- pixels and points


def pixel_grid(height: int, width: int, *, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return the coordinates (2, H, W) of every pixel's center: x, then y.

    Examples:
        >>> pixel_grid(2, 3)[:, 1, 2].tolist()  # x, then y, of the bottom right pixel
        [2.0, 1.0]
    """
    y, x = torch.meshgrid(torch.arange(height, dtype=dtype), torch.arange(width, dtype=dtype), indexing="ij")
    return torch.stack((x, y))


def apply_to_pixels(matrix: Tensor, height: int, width: int) -> Tensor:
    """Return the products (..., 3, H, W) of matrices (..., 3, 3) with (x, y, 1) at every pixel.

    Examples:
        >>> apply_to_pixels(torch.eye(3), 2, 3)[:, 1, 2].tolist()  # (x, y, 1)
        [2.0, 1.0, 1.0]
    """
    x = torch.arange(width, device=matrix.device, dtype=matrix.dtype)
    y = torch.arange(height, device=matrix.device, dtype=matrix.dtype)
    of_column = matrix[..., 0, None] * x + matrix[..., 2, None]  # (..., 3, W)
    of_row = matrix[..., 1, None] * y  # (..., 3, H)
    return of_column[..., None, :] + of_row[..., :, None]


def inverse_intrinsics(K: Tensor) -> Tensor:
    """Return the inverse (..., 3, 3) of upper-triangular intrinsics K (..., 3, 3).

    Examples:
        >>> K = torch.tensor([[2.0, 0, 4], [0, 2, 6], [0, 0, 1]])
        >>> (inverse_intrinsics(K) @ K).tolist()
        [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    fx, skew, cx, fy, cy = K[..., 0, 0], K[..., 0, 1], K[..., 0, 2], K[..., 1, 1], K[..., 1, 2]
    zero, one = torch.zeros_like(fx), torch.ones_like(fx)
    first = torch.stack((1 / fx, -skew / (fx * fy), (skew * cy - cx * fy) / (fx * fy)), -1)
    second = torch.stack((zero, 1 / fy, -cy / fy), -1)
    return torch.stack((first, second, torch.stack((zero, zero, one), -1)), -2)


def backproject(depth_m: Tensor, camera: Camera) -> Tensor:
    """Back-project depth (..., 1, H, W) to points (..., 3, H, W) in the camera's frame, in the unit of depth.

    Unknown depth, 0, gives the camera's center (0, 0, 0).

    camera: its K is (3, 3), or has the leading axes of depth.

    Examples:
        >>> cam = intrinsics(100, 100, 1, 0, height=1, width=3)
        >>> backproject(torch.full((1, 1, 3), 10.0), cam)[:, 0, 2]  # x, y, z of the last pixel
        tensor([ 0.1000,  0.0000, 10.0000])
    """
    _check_size(depth_m, camera)
    rays = apply_to_pixels(inverse_intrinsics(camera.K), camera.height, camera.width).to(depth_m.dtype)
    return depth_m * rays


def project(points: Tensor, camera: Camera) -> tuple[Tensor, Tensor]:
    """Project points (..., 3, H, W) in the camera's frame to pixels (..., 2, H, W), and return z (..., 1, H, W) too.

    Pixels of points with z <= NEAR are finite but invalid. `warp.inside_frame` finds the valid ones.

    Examples:
        >>> cam = intrinsics(100, 100, 50, 40, height=81, width=101)
        >>> pixel, z = project(torch.tensor([1.0, 0.5, 10.0]).view(3, 1, 1), cam)
        >>> (pixel.flatten().tolist(), z.item())
        ([60.0, 45.0], 10.0)
    """
    z = points[..., 2:3, :, :]
    normalized = points[..., :2, :, :] / torch.where(z > NEAR, z, torch.ones_like(z))
    x, y = normalized[..., 0:1, :, :], normalized[..., 1:2, :, :]
    K = camera.K.to(points.dtype)[..., :2, :, None, None]  # (..., 2, 3, 1, 1)
    pixels = K[..., 0, :, :] * x + K[..., 1, :, :] * y + K[..., 2, :, :]
    return pixels, z
