"""The loss that needs no labels: the sources, seen through predicted depth and motion, must look like the target."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from stadia.core.errors import GeometryError
from stadia.core.types import Prediction, Targets, is_temporal
from stadia.geometry.brightness import inverse_brightness
from stadia.geometry.depth_maps import resize_map
from stadia.geometry.se3 import inverse
from stadia.losses import SMOOTHNESS
from stadia.losses.brightness import away_from_unchanged, saturated
from stadia.losses.config import LossConfig
from stadia.losses.report import LossReport
from stadia.losses.reprojection import Images, Reprojection, Reprojector, TorchReprojector, sources_at
from stadia.losses.reprojection_fast import FusedReprojector
from stadia.losses.right_view import STEREO, inconsistency, other_way_round
from stadia.losses.road_rule import masked_but_for_the_road
from stadia.losses.uncertainty import weighed_by_uncertainty


class SelfSupervisedLoss:
    """Photometric minimum over the sources plus edge-aware smoothness, averaged over the prediction's scales.

    `loss(targets, prediction, source_names, step)` synthesises the views itself, since each scale's depth is brought to
    full resolution first (Monodepth2, arXiv 1806.01260, section 3.2), so a recipe's step is a model and a loss.

    *How far it reaches*: with `LossConfig.pyramid` every map is also compared at smaller sizes of the images, where a
        match that
    is far away is near (as Monodepth, arXiv 1609.03677, does with its coarser maps). From random weights that is where
    depth comes from first; pretrained ones can do without.

    *Which sources teach depth* may change while training (`LossConfig.temporal_from_step`). Those that do compete in
    one minimum. Those that do not yet have a minimum of their own in which depth is a constant, so that they train the
    pose network without taking pixels from the others; it is reported as the term "motion", and has no auto-mask.

    *What else the networks say* enters where they say it (D3VO, arXiv 2003.01060). The brightness of each source
    changes the target before it is compared (`losses.brightness`), and is drawn to (1, 0) by the term "brightness". The
    log uncertainty weighs the minimum
    (`losses.uncertainty`): "photometric" may then be below 0. The right view has a term of its own
        (`losses.right_view`).

    Runs in float32 at least, whatever autocast says: at half precision a projection is wrong by whole pixels.

    Args:
        config: weights and schedule.
        reprojector: who warps and compares; None takes the fastest for the device (they agree, see the tests).
    """

    def __init__(self, config: LossConfig | None = None, *, reprojector: type[Reprojector] | None = None) -> None:
        self.config = config or LossConfig()
        self.reprojector = reprojector
        self.smoothness: Callable[[Tensor, Tensor], Tensor] = SMOOTHNESS.load(self.config.smoothness_kind)

    def __call__(
        self,
        targets: Targets,
        prediction: Prediction,
        source_names: Sequence[str],
        step: int = 0,
        *,
        road: Tensor | None = None,
    ) -> LossReport:
        """The loss of a batch.

        Args:
            targets: images and cameras as recorded.
            prediction: inverse depth at S scales, finest first, and T_source_target (B, N, 4, 4).
            source_names: the N sources, in the order of `targets.sources`.
            step: of the optimizer, for the schedule.
            road: (B, 1, H, W) bool, where the auto-mask is lifted as long as the camera moves (`losses.road_rule`); for
                sources in time.

        Returns: with `seen`: "warped_over_unwarped", the residual without auto-mask over what it would be without depth
            and motion;
        "warped_over_unwarped_right", of the right view; "saturated", the share of compared pixels that brightness
        leaves alone.

        Raises GeometryError where the number of sources differs between targets, prediction and names, that of scales
        between the maps and `LossConfig.scale_weights`, where there is a right view but no source "stereo", and a road
        with one.
        """
        _check_sources(targets, prediction, source_names)
        _check_road(road, source_names)
        with torch.autocast(targets.image.device.type, enabled=False):
            targets = targets.to(torch.promote_types(targets.image.dtype, torch.float32))
            prediction = prediction.to(torch.promote_types(prediction.inverse_depth[0].dtype, torch.float32))
            images = Images(targets.image, targets.camera, targets.sources, targets.source_camera, tuple(source_names))
            return self._report(images, prediction, step, road if self.config.auto_mask else None)

    def _report(self, images: Images, prediction: Prediction, step: int, road: Tensor | None) -> LossReport:
        terms = _Terms(_scale_weights(prediction, self.config.scale_weights))
        sizes = [images.halved(times) for times in range(self.config.pyramid)]
        teachers, others = self.teachers(images.source_names, step)
        finest = self._compare(terms, sizes, prediction, teachers, step, road)
        seen = {"warped_over_unwarped": _warped_over_unwarped(finest)}
        if others:
            self._train_motion(terms, sizes, prediction, others)
        self._smooth(terms, prediction.inverse_depth, images.target)
        if prediction.inverse_depth_right is not None:
            finest_right = self._compare_right(terms, sizes, prediction, prediction.inverse_depth_right)
            seen["warped_over_unwarped_right"] = _warped_over_unwarped(finest_right)
        if prediction.brightness is not None:
            away = away_from_unchanged(prediction.brightness)
            for scale in range(len(prediction.inverse_depth)):
                terms.add("brightness", scale, self.config.brightness * self._smoothness_weight(scale) * away)
            seen["saturated"] = (
                (saturated(images.target)[:, None] | saturated(finest.views)).to(images.target.dtype).mean()
            )
        # A transform that is not finite sees nothing, and what is not seen is no error: it must show all the same.
        terms.add("photometric", 0, 0 * prediction.T_source_target.sum())
        total, means = terms.means()
        weighed = self._uncertainty(prediction, step) is not None
        least = {name: 0.0 for name in means if not (weighed and name == "photometric")}  # log Sigma has no least value
        return LossReport(total, means, _maps(finest, teachers, len(images.source_names)), least, seen)

    def _compare(
        self,
        terms: _Terms,
        sizes: Sequence[Images],
        prediction: Prediction,
        teachers: list[int],
        step: int,
        road: Tensor | None,
    ) -> Reprojection:
        """The term "photometric"; returns the finest scale's comparison at full size."""
        comparisons, T_source_target = [], sources_at(prediction.T_source_target, teachers)
        for times, images in enumerate(sizes):
            log_uncertainty = self._uncertainty(prediction, step, times)
            auto_mask = self.config.auto_mask and road is None
            reproject = self._reprojector(images, teachers, prediction.brightness, auto_mask=auto_mask)
            size = images.target.shape[-2:]
            here = None if road is None else functional.interpolate(road.float(), size, mode="nearest-exact") > 0
            for scale, inverse_depth in enumerate(prediction.inverse_depth):
                comparison = reproject(_at_size(inverse_depth, *size), T_source_target)
                if here is not None:
                    minimum = masked_but_for_the_road(
                        comparison.minimum, comparison.unwarped, reproject.best_unwarped, here
                    )
                    comparison = replace(comparison, minimum=minimum)
                comparisons.append(comparison)
                residual = self._trained(comparisons[-1])
                if log_uncertainty is not None:
                    residual = weighed_by_uncertainty(residual, _at_size(log_uncertainty[scale], *size))
                terms.add(
                    "photometric", scale, residual.mean() / len(sizes)
                )  # the one reduction: what weighs pixels is above it
        return comparisons[0]

    def _train_motion(self, terms: _Terms, sizes: Sequence[Images], prediction: Prediction, others: list[int]) -> None:
        """The term "motion": depth is a constant."""
        T_source_target = sources_at(prediction.T_source_target, others)
        for images in sizes:
            # Unmasked: a motion that starts too small is beaten by the unwarped image just where it would learn to
            # grow.
            reproject = self._reprojector(images, others, prediction.brightness, auto_mask=False)
            for scale, inverse_depth in enumerate(prediction.inverse_depth):
                comparison = reproject(_at_size(inverse_depth.detach(), *images.target.shape[-2:]), T_source_target)
                terms.add("motion", scale, self._trained(comparison).mean() / len(sizes))

    def _compare_right(
        self, terms: _Terms, sizes: Sequence[Images], prediction: Prediction, inverse_depth_right: Sequence[Tensor]
    ) -> Reprojection:
        """The terms of the right view; returns the finest scale's comparison at full size."""
        index = _stereo(sizes[0])
        T_right_left = prediction.T_source_target[:, index]
        T_left_right = inverse(T_right_left)
        brightness = (
            None if prediction.brightness is None else inverse_brightness(prediction.brightness[:, index, None])
        )
        comparisons = []
        for images in sizes:
            swapped = other_way_round(images, index)
            reproject = self._reprojector(swapped, [0], brightness, auto_mask=self.config.auto_mask)
            for scale, inverse_depth in enumerate(inverse_depth_right):
                comparisons.append(
                    reproject(_at_size(inverse_depth, *swapped.target.shape[-2:]), T_left_right[:, None])
                )
                terms.add(
                    "right_view", scale, self.config.right_view * self._trained(comparisons[-1]).mean() / len(sizes)
                )
        swapped = other_way_round(sizes[0], index)
        self._smooth(terms, inverse_depth_right, swapped.target, weight=self.config.right_view)
        if weight := self.config.left_right_consistency:
            for scale, (left, right) in enumerate(zip(prediction.inverse_depth, inverse_depth_right, strict=True)):
                left, right = _at_size(left, *sizes[0].target.shape[-2:]), _at_size(right, *swapped.target.shape[-2:])
                there = inconsistency(left, right, sizes[0].camera, swapped.camera, T_right_left)
                back = inconsistency(right, left, swapped.camera, sizes[0].camera, T_left_right)
                terms.add("left_right_consistency", scale, weight * (there + back) / 2)
        return comparisons[0]

    def _smooth(self, terms: _Terms, maps: Sequence[Tensor], picture: Tensor, *, weight: float = 1.0) -> None:
        """The term "smoothness" of one view."""
        for scale, inverse_depth in enumerate(maps):
            image = functional.interpolate(picture, inverse_depth.shape[-2:], mode="area")
            terms.add(
                "smoothness", scale, weight * self._smoothness_weight(scale) * self.smoothness(inverse_depth, image)
            )

    def _smoothness_weight(self, scale: int) -> float:
        return self.config.smoothness / 2**scale

    def _uncertainty(self, prediction: Prediction, step: int, times: int = 0) -> tuple[Tensor, ...] | None:
        """What is said of log Sigma, one map a scale, once its time has come, for images halved so many times."""
        from_step, sizes = self.config.uncertainty_from_step, self.config.uncertainty_sizes
        return prediction.log_uncertainty if step >= from_step and (sizes is None or times < sizes) else None

    def _trained(self, comparison: Reprojection) -> Tensor:
        """(B, 1, H, W) the residual that trains: constant where it is above the threshold."""
        residual, threshold = comparison.minimum.residual, self.config.residual_threshold
        return residual if threshold is None else residual.clamp(max=threshold)

    def teachers(self, source_names: Sequence[str], step: int) -> tuple[list[int], list[int]]:
        """Indices of the sources that teach depth at this step, and of those that train the pose network alone."""
        temporal = [i for i, name in enumerate(source_names) if is_temporal(name)]
        rig = [i for i, name in enumerate(source_names) if not is_temporal(name)]
        start = self.config.temporal_from_step
        if rig and temporal and (start is None or step < start):
            return rig, temporal
        return list(range(len(source_names))), []

    def _reprojector(
        self, images: Images, indices: list[int], brightness: Tensor | None, *, auto_mask: bool
    ) -> Reprojector:
        reprojector = self.reprojector or fastest_reprojector(images.target)
        brightness = None if brightness is None else sources_at(brightness, indices)
        return reprojector(
            images.select(indices), ssim_weight=self.config.ssim_weight, auto_mask=auto_mask, brightness=brightness
        )


class _Terms:
    """Terms of the loss, while they are added up over the scales."""

    def __init__(self, scale_weights: Sequence[float]) -> None:
        self.scale_weights = scale_weights
        self.sums: dict[str, Tensor] = {}

    def add(self, name: str, scale: int, value: Tensor) -> None:
        value = self.scale_weights[scale] * value
        self.sums[name] = self.sums[name] + value if name in self.sums else value

    def means(self) -> tuple[Tensor, dict[str, Tensor]]:
        """The total, and the detached terms that it is made of."""
        means = {name: value / len(self.scale_weights) for name, value in self.sums.items()}
        return torch.stack(list(means.values())).sum(), {name: value.detach() for name, value in means.items()}


def fastest_reprojector(target: Tensor) -> type[Reprojector]:
    """The compiled loops for images in the processor's memory, plain torch elsewhere."""
    return FusedReprojector if target.device.type == "cpu" else TorchReprojector


def _at_size(inverse_depth: Tensor, height: int, width: int) -> Tensor:
    """(B, 1, h, w) inverse depth to (B, 1, H, W): bilinear to a larger size, means of what each pixel covers to a
    smaller one.
    """
    if inverse_depth.shape[-2] > height:
        return functional.interpolate(inverse_depth, (height, width), mode="area")
    return resize_map(inverse_depth, height, width)


def _maps(reprojection: Reprojection, indices: list[int], count: int) -> dict[str, Tensor]:
    """The images of LossReport, with winners numbered among all `count` sources."""
    minimum = reprojection.minimum
    winner = torch.full_like(minimum.winner, -1, dtype=torch.int64)
    for own, number in enumerate([*indices, *(count + i for i in indices)]):
        winner = winner.masked_fill(minimum.winner == own, number)
    return {
        "residual": minimum.residual.detach(),
        "winner": winner,
        "warped": reprojection.nearest_view(),
        "unwarped": reprojection.unwarped,
    }


def _warped_over_unwarped(reprojection: Reprojection) -> Tensor:
    """() the residual of what sees a pixel, masked or not, over what it would be without depth and motion. Of equal
    images 1.
    """
    nothing = 1e-6
    return (reprojection.minimum.unmasked.mean() + nothing) / (reprojection.unwarped.mean() + nothing)


def _stereo(images: Images) -> int:
    """Which source the right view is of."""
    if STEREO not in images.source_names:
        raise GeometryError(
            "right view",
            found=f"the sources {', '.join(images.source_names)}",
            expected=f"one named '{STEREO}'",
            fix="train on a stereo pair (data.stereo), or set model.right_view=false",
        )
    return images.source_names.index(STEREO)


def _scale_weights(prediction: Prediction, weights: Sequence[float] | None) -> Sequence[float]:
    """One weight a scale, for which every kind of map has to be there."""
    scales = len(prediction.inverse_depth)
    maps = {
        "right view": prediction.inverse_depth_right,
        "log uncertainty": prediction.log_uncertainty,
        "loss.scale_weights": weights,
    }
    for name, each in maps.items():
        if each is not None and len(each) != scales:
            raise GeometryError(
                name, found=f"{len(each)} scales", expected=f"{scales}, as inverse depth has", fix="give one each scale"
            )
    return weights or [1.0] * scales


def _check_sources(targets: Targets, prediction: Prediction, source_names: Sequence[str]) -> None:
    counts = (
        targets.sources.shape[1],
        targets.source_camera.K.shape[1],
        prediction.T_source_target.shape[1],
        len(source_names),
    )
    if len(set(counts)) > 1:
        raise GeometryError(
            "sources",
            found="{} images, {} cameras, {} transforms, {} names".format(*counts),
            expected="one of each a source",
            fix="pass the batch's own source_names and the prediction for this batch",
        )


def _check_road(road: Tensor | None, source_names: Sequence[str]) -> None:
    if road is not None and not all(map(is_temporal, source_names)):
        raise GeometryError(
            "auto-mask of the road",
            found=f"the sources {', '.join(source_names)}",
            expected="neighbors in time alone",
            fix="set data.stereo=false: a pair of known baseline gives metres without it",
        )
