"""Resize, crop and mirror images together with their cameras, with gradients; move cameras to torch."""

import torch
from torch import Tensor
from torch.nn import functional as F

from stadia.core.types import Camera
from stadia.geometry.cameras import check_image_size, crop_camera, mirror_camera, resize_camera


def camera_to_torch(camera: Camera, dtype: torch.dtype = torch.float64) -> Camera[Tensor]:
    """Return a camera whose K is a tensor (..., 3, 3) on the CPU, from a camera whose K is an array.

    dtype: number type of the tensor.

    Examples:
        >>> camera_to_torch(Camera(np.eye(3), 4, 6)).K.dtype
        torch.float64
    """
    return Camera(torch.as_tensor(camera.K, dtype=dtype), camera.height, camera.width)


def resize(image: Tensor, camera: Camera, height: int, width: int) -> tuple[Tensor, Camera]:
    """Resize images (B, C, H, W) bilinearly with antialiasing, and return them with the camera for their new size.

    image: (B, C, H, W) floating-point images.
    camera: the camera of the images, with their size H x W.
    height, width: the new size in pixels.

    Raises GeometryError if the images and the camera differ in size.

    Examples:
        >>> from stadia.geometry.cameras import intrinsics
        >>> cam = intrinsics(100, 100, 49.5, 39.5, height=80, width=100)
        >>> image, small = resize(torch.rand(1, 3, 80, 100), cam, 40, 50)
        >>> tuple(image.shape), float(small.fx)
        ((1, 3, 40, 50), 50.0)
    """
    check_image_size(image, camera)
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
        >>> from stadia.geometry.cameras import intrinsics
        >>> cam = intrinsics(100, 100, 50, 40, height=81, width=101)
        >>> image, window = crop(torch.rand(1, 3, 81, 101), cam, left=10, top=20, height=50, width=60)
        >>> tuple(image.shape), float(window.cx)
        ((1, 3, 50, 60), 40.0)
    """
    check_image_size(image, camera)
    window = crop_camera(camera, left, top, height, width)
    return image[..., top : top + height, left : left + width], window


def mirror(image: Tensor, camera: Camera) -> tuple[Tensor, Camera]:
    """Mirror images (..., H, W) left to right, and return them with the mirrored camera.

    Depth maps are mirrored the same way. Mirror poses with `poses.mirror_x`, and exchange the left and right images of
    a stereo pair.

    Raises GeometryError if the images and the camera differ in size.

    Examples:
        >>> from stadia.geometry.cameras import intrinsics
        >>> image, cam = mirror(torch.tensor([[1.0, 2.0, 3.0]]), intrinsics(10, 10, 0.5, 0, height=1, width=3))
        >>> image.tolist(), float(cam.cx)
        ([[3.0, 2.0, 1.0]], 1.5)
    """
    check_image_size(image, camera)
    return image.flip(-1), mirror_camera(camera)


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
