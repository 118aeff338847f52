"""Project and back-project with a pinhole camera, and change images together with their cameras."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from stadia.core.errors import GeometryError
from stadia.core.types import Camera
from stadia.geometry.cameras import NEAR, centered_K, focal_px_from_fov
from stadia.geometry.poses import matmul, transform

# -- making one


def intrinsics(
    fx: float, fy: float, cx: float, cy: float, *, height: int, width: int, dtype: torch.dtype = torch.float64
) -> Camera:
    """Return a pinhole camera with the given focal lengths and principal point, all in pixels.

    fx, fy: focal lengths along x and y.
    cx, cy: principal point; (0, 0) is the center of the top-left pixel.
    height, width: image size in pixels.
    dtype: number type of the matrix K.

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
    return Camera(torch.tensor([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], dtype=dtype), height, width)


def from_field_of_view(horizontal_deg: float, *, height: int, width: int) -> Camera:
    """Return a camera with square pixels and a centered principal point, from its horizontal field of view in degrees.

    horizontal_deg: angle between the left and right edges of the image, above 0 and below 180 degrees.
    height, width: image size in pixels.

    Raises GeometryError if the angle is outside this range.

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
    sx, sy = width / camera.width, height / camera.height
    return _moved(camera, sx, sy, (sx - 1) / 2, (sy - 1) / 2, height, width)


def crop_camera(camera: Camera, left: int, top: int, height: int, width: int) -> Camera:
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
    return _moved(camera, 1, 1, -left, -top, height, width)


def mirror_camera(camera: Camera) -> Camera:
    """Return the camera of the image mirrored left to right: cx' = (W - 1) - cx if the image has W columns.

    Poses of a mirrored camera must be mirrored too, by `se3.mirror_x`.

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
    """Resize images (B, C, H, W) bilinearly with antialiasing, and return them with the camera for their new size.

    image: (B, C, H, W) floating-point images.
    camera: the camera of the images, with their size H x W.
    height, width: the new size in pixels.

    Raises GeometryError if the images and the camera differ in size.

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
    """Cut a window from images (..., H, W), and return it with its camera.

    image: (..., H, W) images.
    camera: the camera of the images, with their size H x W.
    left, top: column and row of the window's top-left pixel in the image.
    height, width: size of the window in pixels.

    Raises GeometryError if the window reaches beyond the image, or the images and the camera differ in size.

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

    Depth maps are mirrored the same way. Mirror poses with `se3.mirror_x`, and exchange the left and right images of a
    stereo pair.

    Raises GeometryError if the images and the camera differ in size.

    Examples:
        >>> image, cam = mirror(torch.tensor([[1.0, 2.0, 3.0]]), intrinsics(10, 10, 0.5, 0, height=1, width=3))
        >>> image.tolist(), float(cam.cx)
        ([[3.0, 2.0, 1.0]], 1.5)
    """
    _check_size(image, camera)
    return image.flip(-1), mirror_camera(camera)


# -- pixels and points


def pixel_grid(height: int, width: int, *, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return the coordinates (2, H, W) of every pixel's center in an image: x (the column), then y (the row).

    height, width: image size H and W in pixels.
    dtype: number type of the coordinates.

    Examples:
        >>> pixel_grid(2, 3)[:, 1, 2].tolist()  # x, then y, of the bottom right pixel
        [2.0, 1.0]
    """
    y, x = torch.meshgrid(torch.arange(height, dtype=dtype), torch.arange(width, dtype=dtype), indexing="ij")
    return torch.stack((x, y))


def apply_to_pixels(matrix: Tensor, height: int, width: int) -> Tensor:
    """Multiply matrices (..., 3, 3) by the vector (x, y, 1) of every pixel; return (..., 3, H, W).

    matrix: (..., 3, 3), for example the inverse of K for the rays of all pixels, or a homography.
    height, width: image size H and W in pixels.

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
    """Return the inverse matrices (..., 3, 3) of intrinsics K (..., 3, 3), in closed form.

    K must be upper triangular with K[2, 2] = 1; it may contain skew.

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
    """Back-project depth (..., 1, H, W) to points (..., 3, H, W) in the camera's coordinate frame.

    The points are in the unit of depth.

    Unknown depth, 0, gives the camera's center (0, 0, 0).

    depth_m: (..., 1, H, W) depth along the optical axis (z).
    camera: its K is (3, 3), or has the leading axes of depth.

    Raises GeometryError if the depth map and the camera differ in size.

    Examples:
        >>> cam = intrinsics(100, 100, 1, 0, height=1, width=3)
        >>> backproject(torch.full((1, 1, 3), 10.0), cam)[:, 0, 2]  # x, y, z of the last pixel
        tensor([ 0.1000,  0.0000, 10.0000])
    """
    _check_size(depth_m, camera)
    rays = apply_to_pixels(inverse_intrinsics(camera.K), camera.height, camera.width).to(depth_m.dtype)
    return depth_m * rays


def project(points: Tensor, camera: Camera) -> tuple[Tensor, Tensor]:
    """Project points to pixels; return pixels (..., 2, H, W) and depth z (..., 1, H, W).

    Pixels of points behind the camera, with z <= NEAR (1e-6), are finite but meaningless. `warp.inside_frame` marks the
    valid pixels.

    points: (..., 3, H, W) points x, y, z in the camera's coordinate frame.
    camera: its K is (3, 3), or has the leading axes of the points.

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


def depth_from_inverse(inverse_depth: Tensor) -> Tensor:
    """Convert inverse depth in 1/m to depth in metres, of any shape. Unknown values, 0, stay 0 and have gradient 0.

    Examples:
        >>> depth_from_inverse(torch.tensor([0.0, 0.25])).tolist()  # 0 = none
        [0.0, 4.0]
    """
    known = inverse_depth > NEAR
    safe = torch.where(known, inverse_depth, torch.ones_like(inverse_depth))
    return torch.where(known, 1 / safe, torch.zeros_like(inverse_depth))


def inverse_from_depth(depth_m: Tensor) -> Tensor:
    """Convert depth in metres to inverse depth in 1/m, of any shape. Unknown values, 0, stay 0.

    Examples:
        >>> inverse_from_depth(torch.tensor([0.0, 4.0])).tolist()  # 0 = none
        [0.0, 0.25]
    """
    return depth_from_inverse(depth_m)


def resize_map(values: Tensor, height: int, width: int) -> Tensor:
    """Resize dense maps (B, C, h, w), such as predicted depth, bilinearly to (B, C, height, width).

    The outer edges of both sizes coincide (align_corners=False). Do not resize sparse depth this way, because zeros for
    unknown depth would be mixed in. Do not resize disparity in pixels, because its values must be multiplied by the
    ratio of the widths too.

    values: (B, C, h, w) maps.
    height, width: the new size in pixels.

    Examples:
        >>> resize_map(torch.tensor([[[[1.0, 3.0]]]]), 1, 4).tolist()
        [[[[1.0, 1.5, 2.5, 3.0]]]]
    """
    return F.interpolate(values, size=(height, width), mode="bilinear", align_corners=False)


def _check_range(min_depth_m: float, max_depth_m: float) -> None:
    if not 0 < min_depth_m < max_depth_m:
        found, fix = f"{min_depth_m} to {max_depth_m} m", "pass metres, the nearer first"
        raise GeometryError("depth range", found=found, expected="0 < min < max", fix=fix)


def sigmoid_to_inverse_depth(logit: Tensor, min_depth_m: float, max_depth_m: float) -> Tensor:
    """Convert a network's raw output to inverse depth in 1/m: 1/max + (1/min - 1/max) * sigmoid(logit).

    Source: Monodepth2, arXiv 1806.01260, section 3.3.

    logit: raw outputs of any shape; the result has the same shape.
    min_depth_m, max_depth_m: smallest and largest possible depth in metres.

    Raises GeometryError unless 0 < min_depth_m < max_depth_m.

    Examples:
        >>> round(1 / sigmoid_to_inverse_depth(torch.tensor(0.0), 0.1, 100).item(), 2)  # metres
        0.2
    """
    _check_range(min_depth_m, max_depth_m)
    return 1 / max_depth_m + (1 / min_depth_m - 1 / max_depth_m) * torch.sigmoid(logit)


def init_depth_bias(init_depth_m: float, min_depth_m: float, max_depth_m: float) -> float:
    """Return the logit that `sigmoid_to_inverse_depth` converts to depth init_depth_m.

    A depth head whose output layer has this bias predicts about init_depth_m everywhere before training.

    init_depth_m: depth in metres at the start of training.
    min_depth_m, max_depth_m: range of depth of the head, in metres.

    Raises GeometryError unless min_depth_m < init_depth_m < max_depth_m.

    Examples:
        >>> bias = init_depth_bias(20, 0.1, 100)
        >>> round(1 / sigmoid_to_inverse_depth(torch.tensor(bias), 0.1, 100).item(), 2)
        20.0
    """
    _check_range(min_depth_m, max_depth_m)
    if not min_depth_m < init_depth_m < max_depth_m:
        found, expected = f"{init_depth_m} m", f"between {min_depth_m} and {max_depth_m} m"
        raise GeometryError("start depth", found=found, expected=expected, fix="pass a depth inside the range")
    share = (1 / init_depth_m - 1 / max_depth_m) / (1 / min_depth_m - 1 / max_depth_m)
    return math.log(share / (1 - share))


def softplus_to_inverse_depth(logit: Tensor, min_depth_m: float) -> Tensor:
    """Convert a network's raw output to inverse depth in 1/m: 1 / (min_depth_m + softplus(logit)).

    This depth has no upper limit.

    logit: raw outputs of any shape; the result has the same shape.
    min_depth_m: smallest possible depth in metres.

    Examples:
        >>> round(1 / softplus_to_inverse_depth(torch.tensor(1000.0), 0.5).item(), 1)
        1000.5
    """
    return 1 / (min_depth_m + F.softplus(logit))


def init_softplus_bias(init_depth_m: float, min_depth_m: float) -> float:
    """Return the logit that `softplus_to_inverse_depth` converts to depth init_depth_m.

    A depth head whose output layer has this bias predicts about init_depth_m everywhere before training.

    init_depth_m: depth in metres at the start of training, above min_depth_m.
    min_depth_m: smallest depth of the head, in metres.

    Raises GeometryError unless 0 < min_depth_m < init_depth_m.

    Examples:
        >>> bias = init_softplus_bias(20, 0.5)
        >>> round(1 / softplus_to_inverse_depth(torch.tensor(bias), 0.5).item(), 3)
        20.0
    """
    _check_range(min_depth_m, init_depth_m)
    beyond = init_depth_m - min_depth_m
    return beyond + math.log(-math.expm1(-beyond))


def depth_to_points(depth_m: Tensor, camera: Camera, T_world_camera: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Back-project depth maps to 3-D points; return points (..., H*W, 3) and the mask of known ones.

    Pixels are in row-major order.

    The mask (..., H*W) bool is true where depth is known.

    depth_m: (..., 1, H, W) z in metres; 0 means unknown.
    camera: its K is (3, 3), or has the leading axes of depth.
    T_world_camera: (..., 4, 4) camera-to-world poses, which move the points to the world frame; None leaves the points
        in the camera's coordinate frame.

    Raises GeometryError if the depth map and the camera differ in size.

    Examples:
        >>> from stadia.differentiable.view_synthesis import intrinsics
        >>> cam = intrinsics(1, 1, 0, 0, height=1, width=2)
        >>> points, known = depth_to_points(torch.tensor([[[2.0, 0.0]]]), cam)
        >>> (points[0].tolist(), known.tolist())
        ([0.0, 0.0, 2.0], [True, False])
    """
    points = backproject(depth_m, camera).flatten(-2).transpose(-1, -2)
    known = (depth_m > NEAR).flatten(-3)
    return (points if T_world_camera is None else transform(T_world_camera.to(points.dtype), points)), known


@dataclass(frozen=True, slots=True)
class SynthesizedViews:
    """The view of the target camera, synthesized from each of N source images.

    image: (B, N, 3, H, W) RGB in [0, 1], as the target camera would see it.
    valid: (B, N, 1, H, W) bool, true if the target pixel's depth is known and the source image shows its point.
    """

    image: Tensor
    valid: Tensor


def sample_image(image: Tensor, pixels: Tensor) -> Tensor:
    """Sample images (B, C, H, W) bilinearly at positions; return (B, C, h, w). Outside the image, its edge is repeated.

    With `align_corners=False`, the normalized coordinate of pixel x is (2x + 1) / W - 1.

    image: (B, C, H, W) images.
    pixels: (B, 2, h, w) positions x, then y, in pixels of the image.

    Examples:
        >>> image = torch.tensor([[[[0.0, 1.0]]]])
        >>> sample_image(image, torch.tensor([0.25, 0.0]).view(1, 2, 1, 1)).item()
        0.25
    """
    image = _to_powers_of_two(image)
    height, width = image.shape[-2:]
    x = pixels[:, 0] * (2 / width) + (1 / width - 1)
    y = pixels[:, 1] * (2 / height) + (1 / height - 1)
    grid = torch.stack((x, y), -1)
    return F.grid_sample(image.to(grid.dtype), grid, mode="bilinear", padding_mode="border", align_corners=False)


def _to_powers_of_two(image: Tensor) -> Tensor:
    """Extend the image's edge to the right and below to powers of two, so that integer pixels are sampled exactly."""
    below, right = (2 ** (n - 1).bit_length() - n for n in image.shape[-2:])
    return F.pad(image, (0, right, 0, below), mode="replicate")


def inside_frame(pixels: Tensor, z: Tensor, camera: Camera) -> Tensor:
    """Return whether projected points are inside the camera's image and in front of it, as (..., 1, H, W) bool.

    pixels: (..., 2, H, W) positions x, then y, in pixels of this camera's image.
    z: (..., 1, H, W) depth of the points in this camera; it must be above NEAR (1e-6).
    camera: the camera to whose image the points were projected.

    Examples:
        >>> from stadia.differentiable.view_synthesis import intrinsics
        >>> pixels = torch.tensor([[[0.0, 9.0]], [[0.0, 0.0]]])  # x, then y, of two pixels
        >>> inside_frame(pixels, torch.ones(1, 1, 2), intrinsics(1, 1, 0, 0, height=1, width=5)).tolist()
        [[[True, False]]]
    """
    x, y = pixels[..., 0:1, :, :], pixels[..., 1:2, :, :]
    in_x = (x >= -0.5) & (x <= camera.width - 0.5)
    in_y = (y >= -0.5) & (y <= camera.height - 0.5)
    return in_x & in_y & (z > NEAR)


def infinity_and_epipole(camera: Camera, source_camera: Camera, T_source_target: Tensor) -> tuple[Tensor, Tensor]:
    """Return the homography at infinity (..., 3, 3) and the epipole (..., 3) of target and source image.

    They are K_s R K_t^-1 and K_s t.

    A target pixel x with depth d appears in the source image at x_source ~ K_s R K_t^-1 x + K_s t / d. Both results are
    float64 if the device supports it, because rounding errors here would move whole images.

    camera, source_camera: cameras of the target image and of the source image, with intrinsics K_t and K_s.
    T_source_target: (..., 4, 4) motion from the target camera to the source camera, with rotation R and translation t.

    Examples:
        >>> from stadia.differentiable.view_synthesis import from_field_of_view
        >>> cam = from_field_of_view(90, height=4, width=6)
        >>> _, epipole = infinity_and_epipole(cam, cam, torch.eye(4)[None])
        >>> epipole[0].tolist()  # a camera that stands has none
        [0.0, 0.0, 0.0]
    """
    wide = torch.float32 if T_source_target.device.type == "mps" else torch.float64
    K_source, K_target, T = source_camera.K.to(wide), camera.K.to(wide), T_source_target.to(wide)
    at_infinity = matmul(matmul(K_source, T[..., :3, :3]), inverse_intrinsics(K_target))
    return at_infinity, matmul(K_source, T[..., :3, 3:])[..., 0]


def reproject(depth_m: Tensor, camera: Camera, source_camera: Camera, T_source_target: Tensor) -> tuple[Tensor, Tensor]:
    """Find where the points seen in the target image appear in a source image.

    With depth d, x_source ~ (K_s R K_t^-1) x + (K_s t) / d (Hartley and Zisserman, eq. 9.7). In this form the identity
    motion is exact.

    depth_m: (..., 1, H, W) depth z of the target image; 0 means unknown.
    camera, source_camera: cameras of the target image and of the source image, with K (..., 3, 3).
    T_source_target: (..., 4, 4) motion from the target camera to the source camera, in the unit of depth. All leading
        axes broadcast.

    Returns two maps: the position (..., 2, H, W) of each target pixel in the source image, x then y; and the ratio
    z_source / z_target (..., 1, H, W). The ratio is 0 if depth is unknown or the point is behind the source camera.

    Examples:
        >>> from stadia.differentiable.view_synthesis import from_field_of_view
        >>> cam = from_field_of_view(90, height=4, width=6)
        >>> pixels, z = reproject(torch.full((1, 1, 4, 6), 5.0), cam, cam, torch.eye(4)[None])
        >>> torch.allclose(pixels[0, :, 3, 5], torch.tensor([5.0, 3.0]), atol=1e-4)  # a camera that stands
        True
    """
    at_infinity, epipole = infinity_and_epipole(camera, source_camera, T_source_target)
    dtype = torch.promote_types(depth_m.dtype, torch.float32)
    inverse_depth = inverse_from_depth(depth_m.to(dtype))
    rays = apply_to_pixels(at_infinity.to(dtype), camera.height, camera.width)
    homogeneous = torch.addcmul(rays, epipole.to(dtype)[..., None, None], inverse_depth)
    nearness = homogeneous[..., 2:, :, :]
    in_front = nearness > NEAR
    pixels = homogeneous[..., :2, :, :] / torch.where(in_front, nearness, torch.ones_like(nearness))
    return pixels, torch.where(in_front & (inverse_depth > 0), nearness, torch.zeros_like(nearness))


def warp_image(
    source_image: Tensor, depth_m: Tensor, camera: Camera, source_camera: Camera, T_source_target: Tensor
) -> tuple[Tensor, Tensor]:
    """Synthesize the target camera's view (B, C, H, W) from one source image, with its valid pixels.

    The mask (B, 1, H, W) is true if the target pixel's depth is known and the source image shows its point.

    source_image: (B, C, Hs, Ws).
    depth_m: (B, 1, H, W) depth z of the target image, in the unit of the motion's translation; 0 means unknown.
    camera, source_camera: cameras of the target image and of the source image, with K (3, 3) or (B, 3, 3).
    T_source_target: (B, 4, 4) motion from the target to the source camera, p_source = T_source_target p_target.

    Raises GeometryError if an image and its camera differ in size.

    Examples:
        >>> from stadia.differentiable.view_synthesis import from_field_of_view
        >>> cam, image = from_field_of_view(90, height=4, width=6), torch.rand(1, 3, 4, 6)
        >>> warped, valid = warp_image(image, torch.full((1, 1, 4, 6), 5.0), cam, cam, torch.eye(4)[None])
        >>> (torch.allclose(warped, image, atol=1e-6), bool(valid.all()))
        (True, True)
    """
    check_sizes(source_image, depth_m, camera, source_camera)
    pixels, nearness = reproject(depth_m, camera, source_camera, T_source_target)
    return sample_image(source_image, pixels), inside_frame(pixels, nearness, source_camera)


def synthesize_views(
    sources: Tensor, depth_m: Tensor, camera: Camera, source_camera: Camera, T_source_target: Tensor
) -> SynthesizedViews:
    """Synthesize the target camera's view from every one of N source images, with one call of the sampler.

    sources: (B, N, 3, Hs, Ws) RGB source images.
    depth_m: (B, 1, H, W) depth z of the target image; 0 means unknown.
    camera: camera of the target image, with K (3, 3) or (B, 3, 3).
    source_camera: camera of the source images, with K (3, 3) or (B, N, 3, 3).
    T_source_target: (B, N, 4, 4) motions from the target camera to each source camera, in the unit of depth.

    Raises GeometryError if an image and its camera differ in size, or the number of source cameras is wrong.

    Examples:
        >>> from stadia.differentiable.view_synthesis import from_field_of_view
        >>> cam, still = from_field_of_view(90, height=4, width=6), torch.eye(4).expand(2, 3, 4, 4)
        >>> views = synthesize_views(torch.rand(2, 3, 3, 4, 6), torch.ones(2, 1, 4, 6), cam, cam, still)
        >>> tuple(views.image.shape)  # batch, sources, RGB, height, width
        (2, 3, 3, 4, 6)
    """
    check_sizes(sources, depth_m, camera, source_camera)
    if source_camera.K.dim() > 2 and source_camera.K.shape[:-2] != sources.shape[:2]:
        found, expected = f"K {tuple(source_camera.K.shape)}", f"(3, 3) or {(*sources.shape[:2], 3, 3)}"
        raise GeometryError("camera of the sources", found=found, expected=expected, fix="expand K over the sources")
    each = Camera(camera.K[..., None, :, :], camera.height, camera.width)  # one target for N sources
    pixels, nearness = reproject(depth_m[:, None], each, source_camera, T_source_target)
    image = sample_image(sources.flatten(0, 1), pixels.flatten(0, 1))
    image = image.reshape(*sources.shape[:3], *image.shape[-2:])
    return SynthesizedViews(image, inside_frame(pixels, nearness, source_camera))


def check_sizes(source: Tensor, depth_m: Tensor, camera: Camera, source_camera: Camera) -> None:
    """Raise GeometryError if the depth map or the source image differs in size from its camera.

    source: (..., Hs, Ws) source image.
    depth_m: (..., H, W) depth map of the target image.
    camera, source_camera: cameras of the target image, which must be H x W, and of the source image, which must be Hs x
        Ws.

    Examples:
        >>> from stadia.differentiable.view_synthesis import from_field_of_view
        >>> cam = from_field_of_view(90, height=4, width=6)
        >>> check_sizes(torch.rand(1, 3, 4, 6), torch.rand(1, 1, 4, 6), cam, cam)  # raises for other sizes
    """
    for name, image, its_camera in (("depth", depth_m, camera), ("source", source, source_camera)):
        if image.shape[-2:] != (its_camera.height, its_camera.width):
            found = f"{its_camera.width}x{its_camera.height} for {image.shape[-1]}x{image.shape[-2]}"
            fix = "resize image and camera together (geometry.camera.resize)"
            raise GeometryError(f"camera of the {name}", found=found, expected="the image's own size", fix=fix)


def invert_brightness(brightness: Tensor) -> Tensor:
    """Invert a brightness change y = a x + b of an image: return gain and offset (..., 2) of x = y / a - b / a.

    brightness: (..., 2) gain a and offset b.

    Examples:
        >>> invert_brightness(torch.tensor([2.0, 0.5])).tolist()
        [0.5, -0.25]
    """
    gain, offset = brightness.unbind(-1)
    return torch.stack((1 / gain, -offset / gain), dim=-1)
