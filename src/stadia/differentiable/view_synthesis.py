"""Synthesize the view of one camera from the image of another, by depth and motion, with gradients."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from stadia.core.errors import GeometryError
from stadia.core.types import Camera
from stadia.geometry.cameras import NEAR, apply_to_pixels, inverse_from_depth, inverse_intrinsics
from stadia.geometry.poses import matmul


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

    The result is NaN at positions that are NaN.

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
    is_nan = pixels.isnan()  # on a CPU, torch's sampler then reads memory outside of the image, which ends the process
    pixels = pixels.masked_fill(is_nan, 0.0)
    x = pixels[:, 0] * (2 / width) + (1 / width - 1)
    y = pixels[:, 1] * (2 / height) + (1 / height - 1)
    grid = torch.stack((x, y), -1)
    sampled = F.grid_sample(image.to(grid.dtype), grid, mode="bilinear", padding_mode="border", align_corners=False)
    return sampled.masked_fill(is_nan.any(1, keepdim=True), torch.nan)


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
        >>> from stadia.geometry.cameras import intrinsics
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
        >>> from stadia.differentiable.images import camera_to_torch
        >>> from stadia.geometry.cameras import from_field_of_view
        >>> cam = camera_to_torch(from_field_of_view(90, height=4, width=6))
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
        >>> from stadia.differentiable.images import camera_to_torch
        >>> from stadia.geometry.cameras import from_field_of_view
        >>> cam = camera_to_torch(from_field_of_view(90, height=4, width=6))
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
        >>> from stadia.differentiable.images import camera_to_torch
        >>> from stadia.geometry.cameras import from_field_of_view
        >>> cam, image = camera_to_torch(from_field_of_view(90, height=4, width=6)), torch.rand(1, 3, 4, 6)
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
        >>> from stadia.differentiable.images import camera_to_torch
        >>> from stadia.geometry.cameras import from_field_of_view
        >>> cam, still = camera_to_torch(from_field_of_view(90, height=4, width=6)), torch.eye(4).expand(2, 3, 4, 4)
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
        >>> from stadia.differentiable.images import camera_to_torch
        >>> from stadia.geometry.cameras import from_field_of_view
        >>> cam = camera_to_torch(from_field_of_view(90, height=4, width=6))
        >>> check_sizes(torch.rand(1, 3, 4, 6), torch.rand(1, 1, 4, 6), cam, cam)  # raises for other sizes
    """
    for name, image, its_camera in (("depth", depth_m, camera), ("source", source, source_camera)):
        if image.shape[-2:] != (its_camera.height, its_camera.width):
            found = f"{its_camera.width}x{its_camera.height} for {image.shape[-1]}x{image.shape[-2]}"
            fix = "resize image and camera together (differentiable.images.resize)"
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
