"""Self-supervised loss: the sources, warped by predicted depth and motion, must match the target.

On a CPU, compiled loops (`losses.cpu`) compute the loss. On a GPU, and with `training.compile`, plain torch computes
the same values and gradients.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from stadia.core.errors import GeometryError
from stadia.differentiable.batch import Prediction, Targets, is_temporal
from stadia.differentiable.images import resize_map
from stadia.differentiable.view_synthesis import invert_brightness
from stadia.geometry.poses import invert_pose
from stadia.losses import RESIDUALS, SMOOTHNESS
from stadia.losses.affine_brightness import brightness_penalty, find_saturated_pixels
from stadia.losses.config import SelfSupervisedLossConfig
from stadia.losses.loss_report import LossReport
from stadia.losses.reprojection import (
    STEREO_SOURCE,
    Reprojection,
    ReprojectionInputs,
    Reprojector,
    TorchReprojector,
    find_left_out,
    leave_out,
    left_right_consistency,
    lift_auto_mask_from_road,
    select_sources,
    swap_target_and_source,
    weight_by_uncertainty,
    widen_region,
)
from stadia.losses.sparse_depth import MapLabels, point_depth_loss

RATIO_EPS = 1e-6
"""Added to both residuals of a ratio, so that the ratio is 1 for equal images."""


class SelfSupervisedLoss:
    """The self-supervised loss of depth and motion: minimum photometric residual plus edge-aware smoothness.

    The loss is averaged over the scales of the prediction. The depth of each scale is resized to full resolution
    (Monodepth2, arXiv 1806.01260, section 3.2). Each source image gives a residual map. The minimum over the sources
    that train depth at this step is the term "photometric". The other sources form the term "motion", which trains only
    the pose network: its depth is constant, and it has no auto-mask.

    Optional outputs follow D3VO (arXiv 2003.01060). Brightness changes the target, and the term "brightness" pulls it
    towards (1, 0). Log uncertainty weights the minimum, so "photometric" may be negative. The right view has its own
    term.

    config: options and weights of the terms; None takes the defaults.
    reprojector: implementation of warping and comparison; None chooses the fastest one for the device.
    """

    def __init__(
        self, config: SelfSupervisedLossConfig | None = None, *, reprojector: type[Reprojector] | None = None
    ) -> None:
        self.config = config or SelfSupervisedLossConfig()
        self.reprojector = reprojector
        self._compiled_compute: Callable[..., _Computed] | None = None
        self.smoothness: Callable[[Tensor, Tensor], Tensor] = SMOOTHNESS.load(self.config.smoothness_type)
        self.residual: Callable[..., Tensor] = RESIDUALS.load(self.config.residual)

    def __call__(
        self,
        targets: Targets,
        prediction: Prediction,
        source_names: Sequence[str],
        step: int = 0,
        *,
        road: Tensor | None = None,
    ) -> LossReport:
        """Compute the loss of a batch.

        targets: target and source images, cameras and masks of B samples.
        prediction: inverse depth at S scales, finest first, and T_source_target (B, N, 4, 4).
        source_names: names of the N sources, in the order of `targets.sources`.
        step: step of the optimizer, which the schedule depends on.
        road: (B, 1, H, W) bool, true on road, where the auto-mask is switched off while the camera moves; only with
            temporal sources.

        `logged` of the result contains "warped_over_unwarped", the unmasked residual over the residual without depth
        and motion; "warped_over_unwarped_right", the same for the right view; and "saturated", the share of pixels that
        brightness leaves unchanged.

        Raises GeometryError for inconsistent numbers of scales, a right view without a source "stereo", or a road with
        this source.
        """
        _check_road(road, source_names)
        with torch.autocast(targets.image.device.type, enabled=False):
            targets = targets.to(torch.promote_types(targets.image.dtype, torch.float32))
            prediction = prediction.to(torch.promote_types(prediction.inverse_depth[0].dtype, torch.float32))
            prediction = self._scale_translation_gradient(prediction, source_names, step)
            images, labels = self._make_inputs(targets, source_names), MapLabels.of_targets(targets)
            road = road if self.auto_masks(images.source_names, step) else None
            return self._report(images, prediction, step, road, labels)

    @torch.no_grad()
    def find_residual(
        self,
        targets: Targets,
        inverse_depth: Tensor,
        prediction: Prediction,
        source_names: Sequence[str],
        step: int = 0,
    ) -> Tensor:
        """Return the map "residual" (B, 1, H, W) that a prediction's motions give with another inverse depth.

        inverse_depth: (B, 1, H, W) the other inverse depth.
        """
        with torch.autocast(targets.image.device.type, enabled=False):
            targets, prediction = targets.to(torch.float32), prediction.to(torch.float32)
            images = self._make_inputs(targets, source_names)
            indices, _ = self.split_sources(images.source_names, step)
            auto_mask = self.auto_masks(images.source_names, step)
            reproject = self._reprojector(images, indices, prediction.brightness, auto_mask=auto_mask)
            T_source_target = select_sources(prediction.T_source_target, indices)
            resized = _resize_like(inverse_depth.float(), targets.image)
            comparison = reproject(resized, T_source_target)
            if images.ignored is not None:
                winner, selected = comparison.minimum.winner, images.select(indices)
                left_out = find_left_out(images.ignored, winner, resized, selected, T_source_target)
                comparison = leave_out(comparison, left_out)
            return comparison.minimum.residual

    def _make_inputs(self, targets: Targets, source_names: Sequence[str]) -> ReprojectionInputs:
        return ReprojectionInputs(
            target=targets.image,
            camera=targets.camera,
            sources=targets.sources,
            source_camera=targets.source_camera,
            source_names=tuple(source_names),
            ignored=None if targets.ignored is None else widen_region(targets.ignored),
            saturation=self.config.saturation,
        )

    def _scale_translation_gradient(self, prediction: Prediction, source_names: Sequence[str], step: int) -> Prediction:
        config, T = self.config, prediction.T_source_target
        factor = config.translation_gradient
        if config.translation_gradient_steps is not None:
            factor = 1 + (factor - 1) * math.exp(-step / config.translation_gradient_steps)
        if factor == 1:
            return prediction
        factors = T.new_ones(T.shape[1], 4, 4)
        factors[[i for i, name in enumerate(source_names) if is_temporal(name)], :3, 3] = factor
        return replace(prediction, T_source_target=T.detach() + factors * (T - T.detach()))

    def compile(self, **options: Any) -> None:
        """Let torch compute the loss, compiled as one region; `options` are arguments of torch.compile."""
        self.reprojector = TorchReprojector
        self._compiled_compute = torch.compile(self._compute, **options)

    def _report(
        self, images: ReprojectionInputs, prediction: Prediction, step: int, road: Tensor | None, labels: MapLabels
    ) -> LossReport:
        compute = self._compiled_compute or self._compute
        means, maps, logged = compute(images, prediction, self._last_change(step), road, labels)
        weighted = self._uncertainty(prediction, step) is not None
        least = {name: 0.0 for name in means if not (weighted and name == "photometric")}  # log Sigma is unbounded
        return LossReport.from_terms(means, maps, least=least, logged=logged)

    def _last_change(self, step: int) -> int:
        """Return the latest step at which the schedule changed, because code is compiled for each number."""
        config = self.config
        changes = (config.temporal_from_step, config.auto_mask_from_step, config.uncertainty_from_step)
        made = [change for change in changes if change is not None and change <= step]
        return max([0, *made])  # torch.compile does not support a default of max

    def _compute(
        self, images: ReprojectionInputs, prediction: Prediction, step: int, road: Tensor | None, labels: MapLabels
    ) -> _Computed:
        terms = _Terms(_scale_weights(prediction, self.config.scale_weights), self.config.term_scale_weights)
        sizes = [images.halved(times) for times in range(self.config.pyramid)]
        depth_sources, motion_only_sources = self.split_sources(images.source_names, step)
        finest = self._compare(terms, sizes, prediction, depth_sources, step, road, labels)
        logged = {"warped_over_unwarped": _warped_over_unwarped(finest)}
        if motion_only_sources:
            self._train_motion(terms, sizes, prediction, motion_only_sources)
        self._smooth(terms, prediction.inverse_depth, images.target)
        if labels.point_depth is not None and self.config.points:
            for scale, inverse_depth in enumerate(prediction.inverse_depth):
                resized = _resize_like(inverse_depth, images.target)
                terms.add("points", scale, self.config.points * point_depth_loss(resized, labels.point_depth))
        if prediction.inverse_depth_right is not None:
            finest_right = self._compare_right(terms, sizes, prediction, prediction.inverse_depth_right)
            logged["warped_over_unwarped_right"] = _warped_over_unwarped(finest_right)
        if prediction.brightness is not None:
            penalty = brightness_penalty(prediction.brightness)
            for scale in range(len(prediction.inverse_depth)):
                terms.add("brightness", scale, self.config.brightness * self._smoothness_weight(scale) * penalty)
            limits = images.saturation
            saturated = find_saturated_pixels(images.target, limits)[:, None]
            saturated = saturated | find_saturated_pixels(finest.views, limits)
            logged["saturated"] = saturated.to(images.target.dtype).mean()
        # With a non-finite transform no pixel is visible and no error arises: make the total non-finite.
        terms.add("photometric", 0, 0 * prediction.T_source_target.sum())
        return terms.means(), _make_maps(finest, depth_sources, len(images.source_names)), logged

    def _compare(
        self,
        terms: _Terms,
        sizes: Sequence[ReprojectionInputs],
        prediction: Prediction,
        depth_sources: list[int],
        step: int,
        road: Tensor | None,
        labels: MapLabels,
    ) -> Reprojection:
        """Add the term "photometric"; return the finest scale's comparison at full size."""
        comparisons, T_source_target = [], select_sources(prediction.T_source_target, depth_sources)
        for times, images in enumerate(sizes):
            log_uncertainty = self._uncertainty(prediction, step, times)
            auto_mask = self.auto_masks(images.source_names, step) and road is None
            reproject = self._reprojector(images, depth_sources, prediction.brightness, auto_mask=auto_mask)
            compare = reproject.bind_motion(T_source_target)
            left_out = None
            size = images.target.shape[-2:]
            on_road = None if road is None else functional.interpolate(road.float(), size, mode="nearest-exact") > 0
            for scale, inverse_depth in enumerate(prediction.inverse_depth):
                resized_depth = _resize_like(inverse_depth, images.target)
                comparison = compare(resized_depth)
                if on_road is not None:
                    unmasked, best_identity = comparison.minimum, reproject.best_identity
                    minimum = lift_auto_mask_from_road(unmasked, comparison.identity_residual, best_identity, on_road)
                    comparison = replace(comparison, minimum=minimum)
                if images.ignored is not None:
                    if left_out is None:  # the finest depth's, for all scales
                        winner, selected = comparison.minimum.winner, images.select(depth_sources)
                        left_out = find_left_out(images.ignored, winner, resized_depth, selected, T_source_target)
                    comparison = leave_out(comparison, left_out)
                comparisons.append(comparison)
                residual = self._trained(comparison)
                if log_uncertainty is not None:
                    resized = _resize_like(log_uncertainty[scale], images.target)
                    residual = weight_by_uncertainty(residual, resized)
                mean = labels.mask(residual).mean()  # the only reduction over pixels
                terms.add("photometric", scale, mean / len(sizes))
        return comparisons[0]

    def _train_motion(
        self, terms: _Terms, sizes: Sequence[ReprojectionInputs], prediction: Prediction, motion_only_sources: list[int]
    ) -> None:
        T_source_target = select_sources(prediction.T_source_target, motion_only_sources)
        for images in sizes:
            # No auto-mask: it would mask the pixels from which a motion that is too small learns to grow.
            reproject = self._reprojector(images, motion_only_sources, prediction.brightness, auto_mask=False)
            compare = reproject.bind_motion(T_source_target)
            for scale, inverse_depth in enumerate(prediction.inverse_depth):
                comparison = compare(_resize_like(inverse_depth.detach(), images.target))
                if images.ignored is not None:
                    comparison = leave_out(comparison, images.ignored)
                terms.add("motion", scale, self._trained(comparison).mean() / len(sizes))

    def _compare_right(
        self,
        terms: _Terms,
        sizes: Sequence[ReprojectionInputs],
        prediction: Prediction,
        inverse_depth_right: Sequence[Tensor],
    ) -> Reprojection:
        index = _find_stereo_source(sizes[0])
        T_right_left = prediction.T_source_target[:, index]
        T_left_right = invert_pose(T_right_left)
        brightness = prediction.brightness
        brightness = None if brightness is None else invert_brightness(brightness[:, index, None])
        comparisons = []
        for images in sizes:
            swapped = swap_target_and_source(images, index)
            reproject = self._reprojector(swapped, [0], brightness, auto_mask=self.config.auto_mask)
            compare = reproject.bind_motion(T_left_right[:, None])
            for scale, inverse_depth in enumerate(inverse_depth_right):
                comparison = compare(_resize_like(inverse_depth, swapped.target))
                comparisons.append(comparison if swapped.ignored is None else leave_out(comparison, swapped.ignored))
                mean = self._trained(comparisons[-1]).mean()
                terms.add("right_view", scale, self.config.right_view * mean / len(sizes))
        swapped = swap_target_and_source(sizes[0], index)
        self._smooth(terms, inverse_depth_right, swapped.target, weight=self.config.right_view)
        if weight := self.config.left_right_consistency:
            for scale, (left, right) in enumerate(zip(prediction.inverse_depth, inverse_depth_right, strict=True)):
                left, right = _resize_like(left, sizes[0].target), _resize_like(right, swapped.target)
                there = left_right_consistency(left, right, sizes[0].camera, swapped.camera, T_right_left)
                back = left_right_consistency(right, left, swapped.camera, sizes[0].camera, T_left_right)
                terms.add("left_right_consistency", scale, weight * (there + back) / 2)
        return comparisons[0]

    def _smooth(self, terms: _Terms, maps: Sequence[Tensor], target: Tensor, *, weight: float = 1.0) -> None:
        for scale, inverse_depth in enumerate(maps):
            value = self.smoothness(inverse_depth, _shrink(target, inverse_depth.shape[-2:]))
            terms.add("smoothness", scale, weight * self._smoothness_weight(scale) * value)

    def _smoothness_weight(self, scale: int) -> float:
        return self.config.smoothness / 2**scale

    def _uncertainty(self, prediction: Prediction, step: int, times: int = 0) -> tuple[Tensor, ...] | None:
        from_step, sizes = self.config.uncertainty_from_step, self.config.num_uncertainty_sizes
        return prediction.log_uncertainty if step >= from_step and (sizes is None or times < sizes) else None

    def _trained(self, comparison: Reprojection) -> Tensor:
        residual, threshold = comparison.minimum.residual, self.config.residual_threshold
        return residual if threshold is None else residual.clamp(max=threshold)

    def split_sources(self, source_names: Sequence[str], step: int) -> tuple[list[int], list[int]]:
        """Return the indices of the sources that train depth at this step, and of those that only train motion."""
        temporal = [i for i, name in enumerate(source_names) if is_temporal(name)]
        rig = [i for i, name in enumerate(source_names) if not is_temporal(name)]
        start = self.config.temporal_from_step
        if rig and temporal and (start is None or step < start):
            return rig, temporal
        return list(range(len(source_names))), []

    def auto_masks(self, source_names: Sequence[str], step: int) -> bool:
        """Return whether the auto-mask acts at this step. With a stereo source it always acts, if it is enabled."""
        alone = all(map(is_temporal, source_names))
        return self.config.auto_mask and not (alone and step < self.config.auto_mask_from_step)

    def _reprojector(
        self, images: ReprojectionInputs, indices: list[int], brightness: Tensor | None, *, auto_mask: bool
    ) -> Reprojector:
        reprojector: Callable[..., Reprojector] = self.reprojector or choose_reprojector(images.target)
        if self.config.residual != "ssim_l1":
            reprojector = partial(TorchReprojector, residual=self.residual)
        brightness = None if brightness is None else select_sources(brightness, indices)
        ssim_weight = self.config.ssim_weight
        return reprojector(images.select(indices), ssim_weight=ssim_weight, auto_mask=auto_mask, brightness=brightness)


_Computed = tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]


class _Terms:
    def __init__(self, scale_weights: Sequence[float], of_terms: Mapping[str, Sequence[float]]) -> None:
        self.scale_weights, self.of_terms = scale_weights, of_terms
        self.sums: dict[str, Tensor] = {}
        for name, weights in of_terms.items():
            if len(weights) != len(scale_weights):
                found, expected = f"{len(weights)} weights", f"{len(scale_weights)}, one a scale"
                fix = "give one weight for each scale of the network"
                raise GeometryError(f"loss.term_scale_weights.{name}", found=found, expected=expected, fix=fix)

    def add(self, name: str, scale: int, value: Tensor) -> None:
        weight = self.scale_weights[scale] * (self.of_terms[name][scale] if name in self.of_terms else 1.0)
        value = weight * value
        self.sums[name] = self.sums[name] + value if name in self.sums else value

    def means(self) -> dict[str, Tensor]:
        return {name: value / len(self.scale_weights) for name, value in self.sums.items()}


def choose_reprojector(target: Tensor) -> type[Reprojector]:
    """Return the compiled loops for a target (B, 3, H, W) on the CPU, and plain torch otherwise."""
    if target.device.type != "cpu":
        return TorchReprojector
    from stadia.losses.cpu.fused_reprojector import FusedReprojector  # slow to import

    return FusedReprojector


def _resize_like(inverse_depth: Tensor, image: Tensor) -> Tensor:
    height, width = image.shape[-2:]
    if inverse_depth.shape[-2] >= height:
        return _shrink(inverse_depth, (height, width))
    return resize_map(inverse_depth, height, width)


def _shrink(values: Tensor, size: Sequence[int]) -> Tensor:
    if values.shape[-2:] == tuple(size):
        return values
    (height, rest_y), (width, rest_x) = map(divmod, values.shape[-2:], size)
    if not (rest_y or rest_x):  # the same values in two thirds of the time
        return functional.avg_pool2d(values, (height, width))
    return functional.interpolate(values, tuple(size), mode="area")


def _make_maps(reprojection: Reprojection, indices: list[int], count: int) -> dict[str, Tensor]:
    """Return the maps of LossReport, with winners numbered among all `count` sources."""
    minimum = reprojection.minimum
    winner = minimum.winner.long()
    if indices != list(range(count)):
        numbers = [*indices, *(count + i for i in indices)]
        winner = torch.full_like(winner, -1)
        for own, number in enumerate(numbers):
            winner = winner.masked_fill(minimum.winner == own, number)
    maps = {"residual": minimum.residual.detach(), "winner": winner}
    return {**maps, "warped": reprojection.nearest_view(), "unwarped": reprojection.identity_residual}


def _warped_over_unwarped(reprojection: Reprojection) -> Tensor:
    return (reprojection.minimum.unmasked.mean() + RATIO_EPS) / (reprojection.identity_residual.mean() + RATIO_EPS)


def _find_stereo_source(images: ReprojectionInputs) -> int:
    if STEREO_SOURCE not in images.source_names:
        found, expected = f"the sources {', '.join(images.source_names)}", f"one named '{STEREO_SOURCE}'"
        fix = "pass a stereo source, or no inverse depth of the right view"
        raise GeometryError("right view", found=found, expected=expected, fix=fix)
    return images.source_names.index(STEREO_SOURCE)


def _scale_weights(prediction: Prediction, weights: Sequence[float] | None) -> Sequence[float]:
    scales = len(prediction.inverse_depth)
    maps = {"right view": prediction.inverse_depth_right, "log uncertainty": prediction.log_uncertainty}
    for name, values in {**maps, "loss.scale_weights": weights}.items():
        if values is not None and len(values) != scales:
            expected = f"{scales}, as for inverse depth"
            raise GeometryError(name, found=f"{len(values)} scales", expected=expected, fix="pass one value per scale")
    return weights or [1.0] * scales


def _check_road(road: Tensor | None, source_names: Sequence[str]) -> None:
    if road is not None and not all(map(is_temporal, source_names)):
        found, expected = f"the sources {', '.join(source_names)}", "temporal neighbors only"
        fix = "pass no road: a known baseline gives metres without it"
        raise GeometryError("auto-mask of the road", found=found, expected=expected, fix=fix)


def edge_aware_smoothness(inverse_depth: Tensor, image: Tensor) -> Tensor:
    """Return the mean absolute slope of inverse depth divided by its mean, a scalar. Image edges weigh less.

    The value is mean |dx d*| exp(-|dx I|) + mean |dy d*| exp(-|dy I|), with d* = d / mean(d) per sample (Monodepth2,
    arXiv 1806.01260, eq. 3; normalization of arXiv 1712.00175).

    inverse_depth: (B, 1, H, W), positive.
    image: (B, 3, H, W).
    """
    relative = inverse_depth / inverse_depth.mean(dim=(2, 3), keepdim=True)
    return edge_aware_slope(relative, image)


def edge_aware_slope(values: Tensor, image: Tensor) -> Tensor:
    """Return mean |dx v| exp(-|dx I|) + mean |dy v| exp(-|dy I|) of values v (B, 1, H, W), a scalar.

    The result depends on the unit of the values and rewards larger depth (D3VO, arXiv 2003.01060; Monodepth, arXiv
    1609.03677, eq. 3).

    image: (B, 3, H, W).
    """
    slope_x, slope_y = (values.diff(dim=dim).abs() for dim in (3, 2))
    with torch.no_grad():
        flat_x, flat_y = (torch.exp(-image.diff(dim=dim).abs().mean(dim=1, keepdim=True)) for dim in (3, 2))
    return (slope_x * flat_x).mean() + (slope_y * flat_y).mean()


def edge_aware_curvature(inverse_depth: Tensor, image: Tensor) -> Tensor:
    """Return the mean absolute second difference of inverse depth over its mean, a scalar. Image edges weigh less.

    Planes cost nothing, because their inverse depth is linear in the image (after SfMLearner, arXiv 1704.07813).

    inverse_depth: (B, 1, H, W), positive, with H and W at least 3.
    image: (B, 3, H, W).
    """
    relative = inverse_depth / inverse_depth.mean(dim=(2, 3), keepdim=True)
    total = relative.new_zeros(())
    for dim in (3, 2):
        with torch.no_grad():
            step = image.diff(dim=dim).abs().mean(dim=1, keepdim=True)
            size = step.shape[dim] - 1
            flat = torch.exp(-torch.maximum(step.narrow(dim, 0, size), step.narrow(dim, 1, size)))
        total = total + (relative.diff(n=2, dim=dim).abs() * flat).mean()
    return total
