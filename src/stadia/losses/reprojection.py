"""Warp the sources by depth and motion, compare them with the target, and handle the right view of a stereo pair."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from stadia.core.types import Camera
from stadia.geometry.camera import resize
from stadia.geometry.depth_maps import depth_from_inverse
from stadia.geometry.warp import inside_frame, reproject, sample_image, synthesize_views
from stadia.losses.affine_brightness import apply_brightness
from stadia.losses.auto_mask import MinimumReprojection, identity_reprojection, minimum_reprojection
from stadia.losses.config import SATURATION
from stadia.losses.photometric import photometric_residual, window_statistics


def select_sources(values: Tensor, indices: Sequence[int]) -> Tensor:
    """Select sources from values (B, N, ...), giving (B, len(indices), ...).

    Unlike indexing with a list, this does not synchronize the device.
    """
    if not indices:
        return values[:, :0]
    return torch.stack([values[:, index] for index in indices], dim=1)


@dataclass(frozen=True, slots=True)
class ReprojectionInputs:
    """The target and its N sources; RGB images in [0, 1] without augmentation.

    target: (B, 3, H, W).
    camera: camera of the target, with K (B, 3, 3).
    sources: (B, N, 3, Hs, Ws).
    source_camera: camera of the sources, with K (B, N, 3, 3).
    source_names: N names; "stereo" is the rig's other camera, and others are temporal neighbors.
    ignored: (B, 1, H, W) bool, pixels of target and sources that do not count, or None.
    saturation: limits beyond which pixels keep their brightness.
    """

    target: Tensor
    camera: Camera
    sources: Tensor
    source_camera: Camera
    source_names: tuple[str, ...]
    ignored: Tensor | None = None
    saturation: tuple[float, float] = SATURATION

    def select(self, indices: Sequence[int]) -> "ReprojectionInputs":
        """Return the same target with only the sources of the given indices."""
        if list(indices) == list(range(len(self.source_names))):
            return self
        K = select_sources(self.source_camera.K, indices)
        source_camera = Camera(K, self.source_camera.height, self.source_camera.width)
        names = tuple(self.source_names[i] for i in indices)
        sources = select_sources(self.sources, indices)
        return replace(self, sources=sources, source_camera=source_camera, source_names=names)

    def halved(self, times: int) -> "ReprojectionInputs":
        """Return images and cameras at 1 / 2^times of their size, rounded down."""
        if times == 0:
            return self
        target, camera = resize(self.target, self.camera, self.camera.height >> times, self.camera.width >> times)
        height, width = self.source_camera.height >> times, self.source_camera.width >> times
        sources, source_camera = resize(self.sources.flatten(0, 1), self.source_camera, height, width)
        sources = sources.view(*self.sources.shape[:2], *sources.shape[1:])
        ignored = self.ignored
        if ignored is not None:
            size = camera.height, camera.width
            ignored = functional.adaptive_max_pool2d(ignored.float(), size) > 0  # any ignored pixel that falls on it
        return replace(
            self, target=target, camera=camera, sources=sources, source_camera=source_camera, ignored=ignored
        )


@dataclass(frozen=True, slots=True)
class Reprojection:
    """The comparison of target and warped sources at one scale.

    minimum: per-pixel minimum over the warped sources.
    identity_residual: (B, 1, H, W) the largest of the unwarped residuals over the kinds of sources, without gradient.
    sample_views: function that computes `views`.
    """

    minimum: MinimumReprojection
    identity_residual: Tensor
    sample_views: Callable[[], Tensor]

    @property
    def views(self) -> Tensor:
        """Return the warped sources (B, N, 3, H, W), detached."""
        return self.sample_views()

    def nearest_view(self) -> Tensor:
        """Return the most similar warped source at each pixel, (B, 3, H, W); 0 if no source sees the pixel."""
        nearest = self.minimum.nearest.long()[:, None].expand(-1, -1, 3, -1, -1)
        return self.views.gather(1, nearest.clamp(min=0)).squeeze(1) * (self.minimum.nearest >= 0)


class Reprojector(Protocol):
    """Compares a target with its sources. It is created once per step and called once per scale with depth and motion.

    brightness: (B, N, 2) gain and offset from the target to each source, or None.
    """

    best_identity: Tensor
    """The best unwarped source at each pixel, (B, 1, H, W), coded as N + index like `MinimumReprojection.winner`."""

    def __init__(
        self, images: ReprojectionInputs, *, ssim_weight: float, auto_mask: bool, brightness: Tensor | None = None
    ) -> None: ...

    def __call__(self, inverse_depth: Tensor, T_source_target: Tensor) -> Reprojection:
        """Compare at inverse depth (B, 1, H, W) and T_source_target (B, N, 4, 4); differentiable in all inputs."""
        ...

    def bind_motion(self, T_source_target: Tensor) -> Callable[[Tensor], Reprojection]:
        """Return a function that compares by inverse depth (B, 1, H, W) at the motions T_source_target (B, N, 4, 4).

        The function can be called with several depth maps.
        """
        ...


class TorchReprojector:
    """The readable reference implementation. It runs on any device and has gradients to every tensor.

    residual: function of `losses.RESIDUALS`.
    """

    def __init__(
        self,
        images: ReprojectionInputs,
        *,
        ssim_weight: float,
        auto_mask: bool,
        brightness: Tensor | None = None,
        residual: Callable[..., Tensor] = photometric_residual,
    ) -> None:
        self.residual = residual
        self.images, self.ssim_weight, self.auto_mask, self.brightness = images, ssim_weight, auto_mask, brightness
        self.target_statistics: tuple[Tensor, Tensor] | None = None  # with brightness, each source has its own target
        if brightness is None:
            mean, variance = window_statistics(images.target)
            self.target_statistics = self._repeat_for_sources(mean), self._repeat_for_sources(variance)
        with torch.no_grad():
            self.unwarped = self._residuals(images.sources)
            self.identity_residual = identity_reprojection(self.unwarped, images.source_names)
            self.best_identity = self.unwarped.shape[1] + self.unwarped.min(dim=1, keepdim=True).indices

    def __call__(self, inverse_depth: Tensor, T_source_target: Tensor) -> Reprojection:
        images, depth_m = self.images, depth_from_inverse(inverse_depth)
        views = synthesize_views(images.sources, depth_m, images.camera, images.source_camera, T_source_target)
        compared = self._residuals(views.image), views.valid[:, :, 0], self.unwarped, self.identity_residual
        minimum = minimum_reprojection(*compared, auto_mask=self.auto_mask)
        image, identity_residual = views.image.detach(), self.identity_residual.amax(dim=1, keepdim=True)
        return Reprojection(minimum, identity_residual, lambda: image)

    def bind_motion(self, T_source_target: Tensor) -> Callable[[Tensor], Reprojection]:
        """Return a function that compares by inverse depth (B, 1, H, W) at the motions T_source_target (B, N, 4, 4)."""
        return lambda inverse_depth: self(inverse_depth, T_source_target)

    def _residuals(self, images: Tensor) -> Tensor:
        if self.brightness is None:
            target = self._repeat_for_sources(self.images.target)
        else:
            target = apply_brightness(images, self.images.target, self.brightness, self.images.saturation)
            target = target.flatten(0, 1)
        residuals = self.residual(images.flatten(0, 1), target, self.ssim_weight, self.target_statistics)
        return residuals.view(*images.shape[:2], *images.shape[3:])

    def _repeat_for_sources(self, values: Tensor) -> Tensor:
        return values[:, None].expand(-1, self.images.sources.shape[1], -1, -1, -1).flatten(0, 1)


# -- the right view of a stereo pair: its inverse depth, predicted from the left image alone
#
# D3VO (arXiv 2003.01060), section 3.1, after Monodepth (arXiv 1609.03677). It is a separate loss.

STEREO_SOURCE = "stereo"
"""Name of the source that is the rig's other camera."""


def swap_target_and_source(images: ReprojectionInputs, index: int) -> ReprojectionInputs:
    """Return inputs with source `index` as the target and the target as its only source."""
    camera, source_camera = images.camera, images.source_camera
    return ReprojectionInputs(
        target=images.sources[:, index],
        camera=Camera(source_camera.K[:, index], source_camera.height, source_camera.width),
        sources=images.target[:, None],
        source_camera=Camera(camera.K[:, None], camera.height, camera.width),
        source_names=(images.source_names[index],),
        ignored=images.ignored,
        saturation=images.saturation,
    )


def left_right_consistency(
    inverse_depth: Tensor, inverse_depth_other: Tensor, camera: Camera, camera_other: Camera, T_other_camera: Tensor
) -> Tensor:
    """Return the mean absolute difference of two cameras' inverse depths, divided by the first one's mean; a scalar.

    The point of each pixel is compared with the other camera's map. Points outside the other image count as 0. Correct
    occlusions are penalized too (Monodepth, arXiv 1609.03677, eq. 4).

    inverse_depth, inverse_depth_other: (B, 1, H, W) and (B, 1, Ho, Wo), each in its own camera.
    camera, camera_other: cameras with K (B, 3, 3).
    T_other_camera: (B, 4, 4) motion from the first camera's frame to the other's.
    """
    pixels, nearness = reproject(depth_from_inverse(inverse_depth), camera, camera_other, T_other_camera)
    seen = inside_frame(pixels, nearness, camera_other)
    there = inverse_depth / torch.where(seen, nearness, 1.0)
    mean = inverse_depth.mean(dim=(1, 2, 3), keepdim=True)
    relative = (sample_image(inverse_depth_other, pixels) - there).abs() / mean
    return torch.where(seen, relative, 0.0).mean()


# -- pixels that do not count: the ignored region, and pixels at which a source shows its own


def widen_region(ignored: Tensor) -> Tensor:
    """Dilate a region (B, 1, H, W) bool by one pixel, because SSIM windows at its edge reach into it."""
    return functional.max_pool2d(ignored.float(), kernel_size=3, stride=1, padding=1) > 0


@torch.no_grad()
def find_left_out(
    ignored: Tensor, winner: Tensor, inverse_depth: Tensor, images: ReprojectionInputs, T_source_target: Tensor
) -> Tensor:
    """Return the pixels to leave out, (B, 1, H, W) bool.

    These are the ignored pixels of the target, and pixels at which the winning source shows one of its ignored pixels.

    ignored: (B, 1, H, W) bool, ignored pixels of target and sources.
    winner: (B, 1, H, W) of `MinimumReprojection`.
    inverse_depth: (B, 1, H, W).
    T_source_target: (B, N, 4, 4) motions.
    """
    camera = Camera(images.camera.K[:, None], images.camera.height, images.camera.width)
    depth_m = depth_from_inverse(inverse_depth)[:, None]
    pixels, _ = reproject(depth_m, camera, images.source_camera, T_source_target)
    height, width = ignored.shape[-2:]
    column = pixels[:, :, 0].round().clamp(0, width - 1).long()
    row = pixels[:, :, 1].round().clamp(0, height - 1).long()
    shown = ignored.flatten(1).gather(1, (row * width + column).flatten(1)).view_as(row)  # (B, N, H, W)
    count = shown.shape[1]
    own = shown.gather(1, winner.long().clamp(0, count - 1)) & (winner >= 0) & (winner < count)
    return ignored | own


def leave_out(comparison: Reprojection, left_out: Tensor) -> Reprojection:
    """Return the comparison with residual 0 at the pixels `left_out` (B, 1, H, W) bool.

    The other residuals of an image are scaled up, so that a mean over all pixels equals the mean over the others.
    """
    counted = (~left_out).to(comparison.identity_residual.dtype)
    factor = counted / counted.mean(dim=(1, 2, 3), keepdim=True).clamp(min=1 / counted[0].numel())
    minimum = comparison.minimum
    kept = MinimumReprojection(
        residual=minimum.residual * factor,
        winner=minimum.winner.masked_fill(left_out, -1),
        nearest=minimum.nearest.masked_fill(left_out, -1),
        unmasked=minimum.unmasked * factor,
    )
    return replace(comparison, minimum=kept, identity_residual=comparison.identity_residual * factor)
