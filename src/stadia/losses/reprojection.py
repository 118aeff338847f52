"""Warp the sources by depth and motion, compare them with the target, and handle the right view of a stereo pair."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from stadia.core.errors import GeometryError
from stadia.core.types import Camera
from stadia.differentiable.batch import is_temporal
from stadia.differentiable.images import resize
from stadia.differentiable.view_synthesis import inside_frame, reproject, sample_image, synthesize_views
from stadia.geometry.cameras import depth_from_inverse
from stadia.losses.affine_brightness import apply_brightness
from stadia.losses.config import SATURATION


def identity_reprojection(unwarped: Tensor, source_names: Sequence[str]) -> Tensor:
    """Return for each source the least unwarped residual among sources of its kind, temporal or stereo, (B, N, H, W).

    A warped source must be better than this. Monodepth2 takes the least residual over all sources instead, which masks
    a stereo source if the camera is at rest.

    unwarped: (B, N, H, W) residuals of the unwarped sources.
    source_names: N names, which give the kind of each source.

    Examples:
        >>> unwarped = torch.tensor([0.3, 0.2]).view(1, 2, 1, 1)
        >>> identity_reprojection(unwarped, ["-1", "+1"]).flatten()
        tensor([0.2000, 0.2000])
    """
    least: dict[bool, Tensor] = {}
    for residual, name in zip(unwarped.unbind(1), source_names, strict=True):
        kind = is_temporal(name)
        least[kind] = torch.minimum(least[kind], residual) if kind in least else residual
    return torch.stack([least[is_temporal(name)] for name in source_names], dim=1)


@dataclass(frozen=True, slots=True)
class MinimumReprojection:
    """The per-pixel minimum over N candidates.

    residual: (B, 1, H, W), differentiable with respect to the winner's residual only.
    winner: (B, 1, H, W) int8: i < N if warped source i wins, N + i if unwarped source i wins, -1 if no source sees the
        pixel.
    nearest: (B, 1, H, W) int8: the visible candidate with the least residual, whether masked or not, or -1.
    unmasked: (B, 1, H, W) residual of `nearest`, or `residual` if no source sees the pixel. It has no gradient.
    """

    residual: Tensor
    winner: Tensor
    nearest: Tensor
    unmasked: Tensor


def minimum_reprojection(
    residuals: Tensor, seen: Tensor, unwarped: Tensor, identity_residual: Tensor, *, auto_mask: bool = True
) -> MinimumReprojection:
    """Take the per-pixel minimum over visible candidates; with `auto_mask`, only over those better than unwarped
    sources.

    A candidate is better if its residual is *less* than `identity_residual`, so a camera at rest is masked. The other
    pixels get the constant `identity_residual`. The mean is taken over all pixels, so that masking never lowers the
    loss.

    residuals: (B, N, H, W) of the warped candidates.
    seen: (B, N, H, W) bool, true if the candidate projects into its source's image.
    unwarped: (B, N, H, W) residuals of the unwarped sources, without gradient.
    identity_residual: (B, N, H, W) from `identity_reprojection`, without gradient.

    Examples:
        >>> residuals, unwarped = torch.tensor([0.1, 0.4]).view(1, 2, 1, 1), torch.tensor([0.3, 0.2]).view(1, 2, 1, 1)
        >>> identity = identity_reprojection(unwarped, ["-1", "+1"])
        >>> found = minimum_reprojection(residuals, torch.ones(1, 2, 1, 1, dtype=torch.bool), unwarped, identity)
        >>> (round(found.residual.item(), 3), found.winner.item())
        (0.1, 0)
    """
    count = residuals.shape[1]
    nothing = torch.inf
    best_seen, nearest = residuals.detach().masked_fill(~seen, nothing).min(dim=1, keepdim=True)
    competes = seen & (residuals.detach() < identity_residual) if auto_mask else seen
    best, winner = residuals.masked_fill(~competes, nothing).min(dim=1, keepdim=True)
    trains = competes.any(dim=1, keepdim=True)
    any_seen = best_seen < nothing
    fallback = identity_residual.amax(dim=1, keepdim=True)
    identity_winner = count + unwarped.min(dim=1, keepdim=True).indices
    return MinimumReprojection(
        residual=torch.where(trains, best, fallback),
        winner=torch.where(trains, winner, identity_winner.masked_fill(~any_seen, -1)).to(torch.int8),
        nearest=nearest.masked_fill(~any_seen, -1).to(torch.int8),
        unmasked=torch.where(any_seen, best_seen, fallback),
    )


def find_masked_pixels(winner: Tensor, sources: int) -> Tensor:
    """Return the auto-mask, with the shape of `winner` (B, 1, H, W).

    A pixel is masked if an unwarped source explains it better, or if no source sees it.

    winner: (B, 1, H, W) of `MinimumReprojection`.
    sources: number of sources N.

    Examples:
        >>> find_masked_pixels(torch.tensor([[0, 2, -1]]), sources=2).tolist()
        [[False, True, True]]
    """
    return (winner < 0) | (winner >= sources)


# -- auto-mask exception for the road: while the camera moves, road pixels always train
#
# A road has little texture. If its depth is wrong, the unwarped image explains it better, the auto-mask removes it,
# and nothing corrects it (FUMET, arXiv 2312.04530; its code unmasks the road unless 3/4 of the image are masked).

MIN_MASKED_SHARE_AT_REST = 0.75
"""A camera is at rest if a larger share of its pixels is masked. Then the road is masked too."""


def lift_auto_mask_from_road(
    minimum: MinimumReprojection, identity_residual: Tensor, best_identity: Tensor, road: Tensor
) -> MinimumReprojection:
    """Apply the auto-mask to a minimum that was computed without it, except on the road while the camera moves.

    minimum: minimum over candidates of one kind, temporal or stereo.
    identity_residual: (B, 1, H, W) residual of the unwarped images.
    best_identity: (B, 1, H, W) index of the best unwarped image, coded as in `MinimumReprojection.winner`.
    road: (B, 1, H, W) bool.
    """
    unseen = minimum.winner < 0
    masked = unseen | (minimum.residual.detach() >= identity_residual)
    moves = masked.flatten(1).float().mean(1) < MIN_MASKED_SHARE_AT_REST
    masked_out = masked & ~(road & moves[:, None, None, None])
    winner = torch.where(masked_out & ~unseen, best_identity.to(minimum.winner.dtype), minimum.winner)
    return replace(minimum, residual=torch.where(masked_out, identity_residual, minimum.residual), winner=winner)


# Keep SSIM finite in flat, dark windows; for images in [0, 1] (Wang et al. 2004, eq. 13).
SSIM_C1 = 0.01**2
SSIM_C2 = 0.03**2


def _window_mean(x: Tensor) -> Tensor:
    return functional.avg_pool2d(functional.pad(x, (1, 1, 1, 1), mode="reflect"), 3, stride=1)


def window_statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and variance of images x (B, C, H, W) over 3x3 windows, each (B, C, H, W).

    Examples:
        >>> mean, variance = window_statistics(torch.full((1, 1, 4, 4), 0.5))
        >>> (mean.unique().tolist(), variance.abs().max().item())
        ([0.5], 0.0)
    """
    mean = _window_mean(x)
    return mean, _window_mean(x * x) - mean * mean


def ssim_distance(a: Tensor, b: Tensor, statistics_b: tuple[Tensor, Tensor] | None = None) -> Tensor:
    """Return (1 - SSIM) / 2 over 3x3 windows, clamped to [0, 1], (B, C, H, W). It is 0 for equal windows.

    a, b: (B, C, H, W) images in [0, 1], with H and W at least 2.
    statistics_b: `window_statistics(b)`, if already computed.

    Source: Wang et al., IEEE TIP 2004, eq. 13, with mean windows as in Monodepth2.

    Examples:
        >>> image = torch.rand(1, 3, 8, 8)
        >>> ssim_distance(image, image).abs().max().item() < 1e-6
        True
    """
    mean_a, variance_a = window_statistics(a)
    mean_b, variance_b = statistics_b or window_statistics(b)
    covariance = _window_mean(a * b) - mean_a * mean_b
    similarity = (2 * mean_a * mean_b + SSIM_C1) * (2 * covariance + SSIM_C2)
    similarity = similarity / ((mean_a * mean_a + mean_b * mean_b + SSIM_C1) * (variance_a + variance_b + SSIM_C2))
    return ((1 - similarity) / 2).clamp(0, 1)


def photometric_residual(
    a: Tensor, b: Tensor, ssim_weight: float = 0.85, statistics_b: tuple[Tensor, Tensor] | None = None
) -> Tensor:
    """Return the weighted sum of SSIM distance and absolute difference, averaged over channels, (B, 1, H, W).

    a, b: (B, 3, H, W) images in [0, 1].
    ssim_weight: weight of the SSIM distance; the absolute difference has the rest.
    statistics_b: `window_statistics(b)`, if already computed.

    Examples:
        >>> image = torch.rand(1, 3, 8, 8)
        >>> photometric_residual(image, image).abs().max().item()
        0.0
    """
    distance = ssim_weight * ssim_distance(a, b, statistics_b) + (1 - ssim_weight) * (a - b).abs()
    return distance.mean(dim=1, keepdim=True)


def squared_residual(
    a: Tensor, b: Tensor, ssim_weight: float = 0.0, statistics_b: tuple[Tensor, Tensor] | None = None
) -> Tensor:
    """Return the squared difference of images (B, 3, H, W), averaged over channels, (B, 1, H, W).

    Examples:
        >>> squared_residual(torch.full((1, 3, 4, 4), 0.7), torch.full((1, 3, 4, 4), 0.2)).mean().item()
        0.25
    """
    return (a - b).square().mean(dim=1, keepdim=True)


PATCH = ((0, -2), (-1, -1), (1, -1), (-2, 0), (0, 0), (2, 0), (-1, 1), (0, 2))
"""Offsets (x, y) of the eight pixels of a patch (DSO, arXiv 1607.02565, figure 4)."""

HUBER = 9 / 255
"""Difference at which DSO's Huber norm becomes linear."""


def patch_residual(
    a: Tensor, b: Tensor, ssim_weight: float = 0.0, statistics_b: tuple[Tensor, Tensor] | None = None
) -> Tensor:
    """Return Huber's norm of a - b, two images (B, 3, H, W), averaged over patches of eight pixels, (B, 1, H, W).

    Borders are repeated. The norm is divided by HUBER, so that its slope is 1 (DSO, arXiv 1607.02565, eq. 4).

    Examples:
        >>> round(patch_residual(torch.full((1, 3, 9, 9), 0.7), torch.full((1, 3, 9, 9), 0.2)).mean().item(), 4)
        0.4824
    """
    values = functional.huber_loss(a, b, reduction="none", delta=HUBER).mean(dim=1, keepdim=True) / HUBER
    height, width = values.shape[-2:]
    padded = functional.pad(values, (2, 2, 2, 2), mode="replicate")
    shifted = [padded[..., 2 + dy : 2 + dy + height, 2 + dx : 2 + dx + width] for dx, dy in PATCH]
    return torch.stack(shifted).mean(dim=0)


# -- uncertainty of the residual (D3VO)


def weight_by_uncertainty(residual: Tensor, log_uncertainty: Tensor) -> Tensor:
    """Return r / Sigma + log Sigma at each pixel, (B, 1, H, W), given a residual r and log Sigma.

    For a fixed residual the minimum is 1 + log r at Sigma = r. It is correct that it is *below 0 for r < 1 / e*. Sigma
    weights the minimum over the sources.

    residual, log_uncertainty: (B, 1, H, W).

    Raises GeometryError if the shapes differ. Source: D3VO, arXiv 2003.01060, eq. 7; Kendall and Gal, arXiv 1703.04977.

    Examples:
        >>> r = torch.full((1, 1, 1, 1), 0.5)
        >>> round(weight_by_uncertainty(r, r.log()).item(), 4)  # 1 + ln r, the minimum for this residual
        0.3069
    """
    if residual.shape != log_uncertainty.shape:
        found, expected = f"shape {tuple(log_uncertainty.shape)}", f"{tuple(residual.shape)}, the residual's"
        fix = "pass one map of one channel for each sample"
        raise GeometryError("log uncertainty", found=found, expected=expected, fix=fix)
    return residual * (-log_uncertainty).exp() + log_uncertainty


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
    identity_residual: (B, 1, H, W) the least unwarped residual of the temporal sources, or of the stereo sources if
        it is larger; without gradient.
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
        # With brightness, each source has its own target statistics.
        self.target_statistics: tuple[Tensor, Tensor] | None = None
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

    The other residuals of an image are scaled up, so that a mean over all pixels equals the mean over the remaining
    ones.
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
