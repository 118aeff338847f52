"""Depth and camera motion without labels: the networks, `ViewSynthesis`, and logged statistics."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor
from torch.nn import functional

from stadia.core.errors import ConfigError, DataError
from stadia.core.seeds import make_generator
from stadia.core.types import Camera, DepthScale
from stadia.data.config import POSES_OF_MAP
from stadia.data.video.map_geometry import MEDIAN_DEPTH
from stadia.differentiable.batch import Batch, Inputs, Meta, Prediction, Targets, is_temporal
from stadia.differentiable.images import resize_map
from stadia.differentiable.view_synthesis import synthesize_views
from stadia.evaluation.plots.colormaps import category_key, color_categories, color_heat, color_inverse_depth, to_uint8
from stadia.evaluation.plots.motion_chart import draw_motions
from stadia.geometry.cameras import depth_from_inverse, resize_camera
from stadia.losses.affine_brightness import BrightnessGate, find_saturated_pixels
from stadia.losses.config import SelfSupervisedLossConfig, load_loss
from stadia.losses.loss_report import LossReport, add_terms, check_report
from stadia.losses.reprojection import find_masked_pixels
from stadia.losses.selfsup_loss import RATIO_EPS, SelfSupervisedLoss
from stadia.losses.sparse_depth import MeasuredTerms
from stadia.losses.teacher_loss import align_teacher, compute_difference, find_relation, teacher_error
from stadia.losses.tilt_consistency import roll_images, tilt_consistency
from stadia.networks.config import DepthNetworkConfig
from stadia.networks.depth.depth_network import DepthNetwork, check_depth_network, check_trains, find_depth_range
from stadia.networks.encoders import check_encoder
from stadia.networks.pose_net import DepthPoseNet
from stadia.training.loop.batches import ValidationScores
from stadia.training.loss_checks.loss_case import LossCase
from stadia.training.loss_checks.video_cases import OutputSpec, make_video_case
from stadia.training.recipes.base.build_recipe import describe_network, load_predictor, open_network_checkpoint
from stadia.training.recipes.base.config import SelfSupervisedConfig, TeacherConfig
from stadia.training.recipes.base.depth_predictor import DepthPredictor
from stadia.training.recipes.base.depth_recipe import VideoTargetsT
from stadia.training.recipes.base.validation_scores import (
    MotionPairs,
    compute_depth_scores,
    compute_motion_scores,
    compute_uncertainty_scores,
)
from stadia.training.recipes.base.video_data import VideoData


def make_networks(config: SelfSupervisedConfig) -> DepthPoseNet:
    """Return the depth network, and the pose network if there are neighbors in time."""
    data = config.data
    return DepthPoseNet(config.model, motion=bool(data.offsets), size=(data.height, data.width))


def check_networks(config: SelfSupervisedConfig) -> None:
    """Raise ConfigError for networks that cannot be built, or not for the image size of a dataset."""
    check_trains(config.model)
    load_loss(config.loss.name, SelfSupervisedLoss)
    sets = config.data.sets.values()
    whole = [(data_set.height, data_set.width) for data_set in sets]
    sizes = whole + [data_set.augmentation.crop for data_set in sets if data_set.augmentation.crop]
    check_depth_network(config.model, sizes)
    if config.data.offsets and config.model.pose_net == "resnet":
        for height, width in sizes:
            check_encoder(config.model.pose_encoder, height=height, width=width)


MAX_HELD_STEPS = 100
"""The motion is found with unchanged depth for at most so many updates."""

HELD_SHARE = 0.25
"""The motion is found with unchanged depth for at most this share of all updates."""


def find_depth_start(config: SelfSupervisedConfig, *, starts_from_depth: bool, last_step: int) -> int:
    """Return `depth_from_step` with "auto" resolved.

    A pose network without a motion yet would spoil the depth of the start.
    """
    if config.depth_from_step != "auto":
        return config.depth_from_step
    is_mono = len(config.data.mono) == len(config.data.sets)
    has_map = all(data_set.poses == POSES_OF_MAP for data_set in config.data.sets.values())
    if not starts_from_depth or not is_mono or has_map or not config.data.offsets:
        return 0
    return min(MAX_HELD_STEPS, int(HELD_SHARE * last_step))


ConfigT = TypeVar("ConfigT", bound=SelfSupervisedConfig)


def set_network(config: ConfigT, network: DepthNetworkConfig) -> ConfigT:
    """Return the configuration with another configuration of its depth network."""
    model = config.model.model_copy(update={"network": network})
    return config.model_copy(update={"model": model})


def choose_teacher(config: ConfigT) -> ConfigT:
    """Return the configuration with "auto" of `teacher` resolved.

    config: the configuration with `data.stereo` resolved.
    """
    is_mono = len(config.data.mono) == len(config.data.sets)
    is_taught = is_mono and config.model.pretrained and config.model.network.name == "base" and not config.start_from
    teacher = config.teacher.model_copy(update={"network": "base" if is_taught else None})
    return config.model_copy(update={"teacher": teacher})


def _check(report: object) -> LossReport:
    maps = ("residual", "winner", "unwarped", "warped")
    return check_report(report, "loss.name", maps=maps, logged=("warped_over_unwarped",))


class ViewSynthesis:
    """The photometric loss with its logged statistics, and the validation scores of depth and motion.

    It has no weights: a recipe passes the prediction of its networks, and registers `gate`, which has buffers.

    config: the configuration with `data.stereo` resolved.
    has_known_motion: the recorded motion of a map replaces the predicted one, and trains the pose network.
    """

    def __init__(self, config: SelfSupervisedConfig, *, has_known_motion: bool = False) -> None:
        self.config, self.has_known_motion = config, has_known_motion
        self.loss = load_loss(config.loss.name, SelfSupervisedLoss)(config.loss)
        self.measured = MeasuredTerms(config.loss) if config.loss.is_measured else None
        # Checkpoints without brightness have no buffers of a gate.
        self.gate = BrightnessGate(config.loss.brightness_from_step) if config.model.brightness else None
        self.start_validation(DepthScale.UP_TO_SCALE)
        # predicted and true motions of the last validation, of all processes
        self.epoch_motions = np.empty((0, 6)), np.empty((0, 6))

    def __call__(
        self, batch: Batch[Inputs, VideoTargetsT], prediction: Prediction, step: int, *, road: Tensor | None = None
    ) -> LossReport:
        """Compare the target with the sources warped by the prediction; see `SelfSupervisedLoss`."""
        names, model = batch.source_names, self.config.model
        predicted, prediction = prediction, self.take_motion(batch, prediction)
        held = self.gate(prediction, step) if self.gate else prediction
        report = _check(self.loss(batch.targets, held, names, step, road=road))
        if self.measured is not None:
            report = add_terms(report, self.measured(batch.targets, prediction, names))
        if self.gate and self.gate.training:
            self.gate.update(report.logged["warped_over_unwarped"])
        depth_sources, _ = self.loss.split_sources(names, step)
        depth = depth_stats(prediction.inverse_depth[0], find_depth_range(model.network, batch.inputs.camera))
        logged = min_reprojection_stats(report.maps["winner"], names, depth_sources) | depth
        logged |= motion_stats(prediction.T_source_target, names, depth["depth/median"])
        logged |= brightness_and_uncertainty_stats(prediction, names)
        report = replace(report, logged={**report.logged, **logged})
        if prediction is predicted:
            return report
        true, typical_depth = batch.targets.T_source_target_true, MEDIAN_DEPTH * (self.config.data.map_unit_m or 1.0)
        return add_motion_term(report, predicted.T_source_target, true, typical_depth)

    def change_loss(self, config: SelfSupervisedLossConfig) -> None:
        """Compute all terms of the loss with another configuration from now on."""
        self.config = self.config.model_copy(update={"loss": config})
        self.loss = type(self.loss)(config)
        self.measured = MeasuredTerms(config) if config.is_measured else None

    def take_motion(self, batch: Batch[Inputs, VideoTargetsT], prediction: Prediction) -> Prediction:
        """Return the prediction with the motion of the map, if known."""
        if not self.has_known_motion:
            return prediction
        true = batch.targets.T_source_target_true
        known = true.isfinite().all(-1).all(-1)[..., None, None]
        T = torch.where(known, true.to(prediction.T_source_target.dtype), prediction.T_source_target)
        return replace(prediction, T_source_target=T)

    def tilt_consistency(self, depth: DepthNetwork, inputs: Inputs, prediction: Prediction, step: int) -> LossReport:
        """Return the loss "tilt_consistency" of a batch, weighted."""
        weights, camera = self.config.loss, inputs.camera
        roll_deg = float(make_generator(self.config.seed, "tilt", step).uniform(-1, 1)) * weights.tilt_deg
        rolled, _ = roll_images(inputs.image, camera, roll_deg)
        (finest, *_), _, _ = depth(rolled.to(inputs.image.dtype), camera)
        with torch.autocast(inputs.image.device.type, enabled=False):
            given = prediction.inverse_depth[0].float(), finest.float()
            term = weights.tilt_consistency * tilt_consistency(*given, camera.to(torch.float32), roll_deg)
        return LossReport.from_terms({"tilt_consistency": term}, {}, least={"tilt_consistency": 0.0})

    def residual_finder(
        self, batch: Batch[Inputs, VideoTargetsT], prediction: Prediction, step: int
    ) -> Callable[[Tensor], Tensor]:
        """Return a function from inverse depth (B, 1, H, W) to its residual (B, 1, H, W) by the motions of the loss."""
        prediction = self.take_motion(batch, prediction)
        held = self.gate(prediction, step) if self.gate else prediction

        def find_residual(inverse_depth: Tensor) -> Tensor:
            return self.loss.find_residual(batch.targets, inverse_depth, held, batch.source_names, step)

        return find_residual

    @torch.no_grad()
    def loss_cases(self, source_names: Sequence[str], end: int) -> Mapping[str, LossCase]:
        """Return the loss at step `end` on a synthetic plane seen by these sources.

        With a stereo pair and neighbors in time, also return the loss of the neighbors alone.
        """
        model, weights = self.config.model, self.config.loss
        _, motion_only_sources = self.loss.split_sources(source_names, end)
        weight_of = {
            "smoothness": weights.smoothness,
            "brightness": weights.brightness * weights.smoothness,
            "right_view": weights.right_view,
        }
        outputs = OutputSpec(
            model.network.num_scales,
            self.config.loss.pyramid,
            brightness=model.brightness,
            uncertainty=model.network.predicts_uncertainty,
            right_view=model.network.predicts_right_view,
            motion_alone=bool(motion_only_sources),
            left_out=tuple(name for name, weight in weight_of.items() if not weight),
        )

        def loss(targets: Targets, prediction: Prediction, source_names: Sequence[str]) -> LossReport:
            return self.loss(targets, prediction, source_names, end)

        losses = {"loss": make_video_case(loss, source_names, outputs)}
        neighbors = tuple(filter(is_temporal, source_names))
        if 0 < len(neighbors) < len(source_names):
            alone = replace(outputs, right_view=False, motion_alone=False)
            losses["loss of neighbors in time"] = make_video_case(loss, neighbors, alone)
        return losses

    # -- validation

    def start_validation(self, scale: DepthScale) -> None:
        """Forget the motions and residuals of the last validation.

        scale: scale of the predicted motions.
        """
        self.scale, self.motions, self.residuals = scale, MotionPairs(scale), ValidationScores()

    def score(
        self, batch: Batch[Inputs, VideoTargetsT], predicted: Prediction, step: int, end: int, depth_scale: DepthScale
    ) -> dict[str, Tensor | float]:
        """Return scores of a batch: `residual`, `residual_unwarped` (identity reprojection), and depth scores.

        With ground truth these are `abs_rel`, `rmse` and `d1`, median-scaled unless in metres. Uncertainty and
        brightness do not enter the residual. A trained uncertainty is scored against the residual and depth errors.

        step: updates made.
        end: last step of the training, so that all validations compare the same sources.
        depth_scale: scale that depth is scored with.
        """
        prediction = replace(predicted, inverse_depth_right=None, log_uncertainty=None, brightness=None)
        prediction = self.take_motion(batch, prediction)
        report = _check(self.loss(batch.targets, prediction, batch.source_names, end))
        scores: dict[str, Tensor | float] = {
            "residual": report.maps["residual"].mean(dim=(1, 2, 3)),
            "residual_unwarped": report.maps["unwarped"].mean(dim=(1, 2, 3)),
        }
        self._add_residuals(batch.meta, report)
        log_uncertainty = None if predicted.log_uncertainty is None else predicted.log_uncertainty[0]
        if step < self.config.loss.uncertainty_from_step:
            log_uncertainty = None  # The uncertainty is not trained yet.
        if log_uncertainty is not None:
            if self.gate:
                calibrated = replace(prediction, brightness=self.gate(predicted, step).brightness)
                report = _check(self.loss(batch.targets, calibrated, batch.source_names, end))
            scores |= compute_uncertainty_scores(report.maps["residual"], log_uncertainty)
        true_m = batch.targets.depth_m
        if true_m is not None:
            scores |= compute_depth_scores(prediction.inverse_depth[0], true_m, depth_scale, log_uncertainty)
        self.motions.add(batch.meta, batch.source_names, predicted.T_source_target, batch.targets.T_source_target_true)
        return scores

    def _add_residuals(self, meta: Sequence[Meta], report: LossReport) -> None:
        unwarped = report.maps["unwarped"].mean() + RATIO_EPS
        warped = report.logged["warped_over_unwarped"] * unwarped
        self.residuals.add(tuple(meta), {"warped": warped, "unwarped": unwarped})

    def summary(self) -> dict[str, float]:
        """Return the scores of the whole validation. Called by all processes."""
        return self.residual_ratios() | self.motion_scores()

    def residual_ratios(self) -> dict[str, float]:
        """Return `warped_over_unwarped`, the residual without auto-mask over the unwarped one.

        Both are means over the samples, because single pairs of equal images would dominate a mean of ratios.
        """
        means, (over, under) = self.residuals.means(), ("warped", "unwarped")
        names = [name.removesuffix(under) for name in means if name.rpartition("/")[2] == under]
        return {f"{name}warped_over_unwarped": means[name + over] / means[name + under] for name in names}

    def motion_scores(self) -> dict[str, float]:
        """Return slope and correlation of predicted over true motion by axis, if poses are known.

        With several datasets also return `NAME/motion_scale`, the factor from predicted to true motion.
        """
        self.epoch_motions = self.motions.collect()
        scales = {f"{name}/motion_scale": scale for name, scale in self.motions.scales().items()}
        return compute_motion_scores(*self.epoch_motions) | scales

    def draw_motion(self) -> dict[str, NDArray[np.uint8]]:
        """Draw predicted over true motion of the last validation; nothing without poses."""
        return {"motion": draw_motions(*self.epoch_motions, self.scale)} if len(self.epoch_motions[1]) else {}

    @torch.no_grad()
    def draw_sources(
        self, model: DepthPoseNet, batch: Batch[Inputs, VideoTargetsT], report: LossReport
    ) -> dict[str, NDArray[np.uint8]]:
        """Draw the first sample: scales, warped sources, residual, the best source of each pixel, masks."""
        source_names, targets = batch.source_names, batch.targets
        was_training = model.training
        prediction = model.eval()(batch)
        model.train(was_training)
        names = (*source_names, *(f"{name} unwarped: masked" for name in source_names))
        finest, *coarser = (inverse_depth[:1].float() for inverse_depth in prediction.inverse_depth)
        size = targets.image.shape[-2:]
        scales = {
            f"inverse depth at 1/{size[0] // inverse_depth.shape[-2]}": color_inverse_depth(
                functional.interpolate(inverse_depth, size, mode="nearest")[0, 0].cpu()
            )
            for inverse_depth in coarser
        }
        T_source_target = self.take_motion(batch, prediction).T_source_target[:1].float()
        camera = Camera(targets.camera.K[:1], targets.camera.height, targets.camera.width)
        source_camera = Camera(targets.source_camera.K[:1], targets.source_camera.height, targets.source_camera.width)
        depth = depth_from_inverse(resize_map(finest, *size))
        views = synthesize_views(targets.sources[:1].float(), depth, camera, source_camera, T_source_target)
        warped = dict(zip(source_names, views.image[0].cpu(), strict=True)) if len(source_names) > 1 else {}
        exposed, masks = {}, {}
        if prediction.brightness is not None:
            for name, change in zip(source_names, prediction.brightness[0].float(), strict=True):
                gain, offset = change.tolist()
                image = (gain * targets.image[0] + offset).clamp(0, 1).cpu()
                exposed[f"exposed as {name}: {gain:.2f} times, {offset:+.2f}"] = image
            images = torch.cat([targets.image[:1, None], targets.sources[:1]], 1)
            masks["saturated"] = find_saturated_pixels(images, self.config.loss.saturation)[0].any(0)
        if (threshold := self.config.loss.residual_threshold) is not None:
            masks[f"residual above {threshold:g}"] = report.maps["residual"][0] > threshold
        winner = report.maps["winner"][0, 0]
        return {
            **scales,
            **{f"warped {name}": to_uint8(view) for name, view in warped.items()},
            **{name: to_uint8(image) for name, image in exposed.items()},
            "best warped source": to_uint8(report.maps["warped"][0]),
            "residual": color_heat(report.maps["residual"][0, 0]),
            "best source": color_categories(winner, len(names)),
            "colors of the sources": category_key(names, self.config.data.height, self.config.data.width),
            **{name: to_uint8(mask.cpu().expand(3, -1, -1)) for name, mask in masks.items()},
        }


MOTION_WEIGHT = 0.02
"""The pose network's error against the map has this weight."""


def add_motion_term(
    report: LossReport, T_predicted: Tensor, T_known: Tensor, depth: float = MEDIAN_DEPTH
) -> LossReport:
    """Return the report with the term "motion_of_map", which teaches the pose network the motion of a map.

    The error is the parallax of a wrong motion at the median depth of the points, over the motion's parallax.

    T_predicted, T_known: (B, N, 4, 4), the latter NaN if unknown.
    depth: depth of the points, in their unit.
    """
    known = T_known.isfinite().all(-1).all(-1)
    true = torch.where(known[..., None, None], T_known.to(T_predicted.dtype), T_predicted.detach())
    error = T_predicted - true
    length = true[..., :3, 3].norm(dim=-1)
    length = length.clamp(min=0.1 * float(length.mean()) + 1e-6)
    parallax = error[..., :3, 3].square().sum(-1) + depth**2 * error[..., :3, :3].square().flatten(-2).sum(-1)
    value = MOTION_WEIGHT * ((parallax + 1e-8).sqrt() / length)[known].mean() if bool(known.any()) else 0 * error.sum()
    terms = {**report.terms, "motion_of_map": value.detach()}
    return replace(report, total=report.total + value, terms=terms, least={**report.least, "motion_of_map": 0.0})


# -- scalars of depth, motion, brightness, uncertainty and the auto-mask that each training step logs

PIXEL_STRIDE = 8
"""Every n-th pixel along each axis is used, because medians sort the pixels."""

BOUND_TOLERANCE = 0.05
"""Depth within this relative distance of a bound is at the bound."""

QUANTILE_PERCENTS = (10, 50, 90)
"""Percentiles of the predicted uncertainty that are logged."""


def min_reprojection_stats(
    winner: Tensor, source_names: Sequence[str], depth_sources: Sequence[int]
) -> dict[str, Tensor]:
    """Return `auto_masked`, `outside` (pixels that no source shows) and `explained_by/SOURCE`, as shares.

    winner: (B, 1, H, W) int, of `LossReport.maps`.
    depth_sources: indices of the sources that train depth.
    """
    stats = {"auto_masked": find_masked_pixels(winner, len(source_names)).float().mean()}
    sampled = winner[..., ::PIXEL_STRIDE, ::PIXEL_STRIDE]
    stats["outside"] = (sampled < 0).float().mean()
    if len(depth_sources) > 1:  # a single source explains all
        explained = (~find_masked_pixels(sampled, len(source_names))).sum()
        stats |= {f"explained_by/{source_names[n]}": (sampled == n).sum() / explained for n in depth_sources}
    return stats


def depth_stats(inverse_depth: Tensor, depth_range_m: tuple[Tensor, Tensor] | None) -> dict[str, Tensor]:
    """Return `depth/median`, `depth/spread`, `depth/at_nearest`, `depth/at_farthest`.

    `depth/spread` is the standard deviation of inverse depth over its mean. The last two are shares of pixels at the
    bounds.

    inverse_depth: (B, 1, H, W) in 1/m.
    depth_range_m: the result of `find_depth_range`, metres.
    """
    pixels = inverse_depth.detach()[..., ::PIXEL_STRIDE, ::PIXEL_STRIDE].flatten(1).float()
    stats = {"depth/median": 1 / pixels.median(), "depth/spread": (pixels.std(dim=1) / pixels.mean(dim=1)).median()}
    if depth_range_m is None:
        return stats
    nearest_m, farthest_m = (limit.flatten(1) for limit in depth_range_m)
    return {
        **stats,
        "depth/at_nearest": (pixels > (1 - BOUND_TOLERANCE) / nearest_m).float().mean(),
        "depth/at_farthest": (pixels < (1 + BOUND_TOLERANCE) / farthest_m).float().mean(),
    }


def motion_stats(T_source_target: Tensor, source_names: Sequence[str], depth: Tensor) -> dict[str, Tensor]:
    """Return motion statistics of each source in time, medians of the batch.

    `motion/over_depth/SOURCE`: length of the translation over the median depth.
    `motion/turn_deg/SOURCE`: rotation angle.
    `motion/same_side`: mean cosine between the translations to a source before and one after; -1 on a straight path.

    T_source_target: (B, N, 4, 4).
    depth: (), in the unit of the translations.
    """
    temporal = {name: n for n, name in enumerate(source_names) if is_temporal(name)}
    if not temporal:
        return {}
    # stack, because a list as an index would wait for a GPU
    T = torch.stack([T_source_target[:, n] for n in temporal.values()], dim=1).detach().float()
    lengths = T[..., :3, 3].norm(dim=-1).median(dim=0).values / depth
    # |R - 1| = sqrt(8) sin(angle / 2)
    half_sines = (T - torch.eye(4, device=T.device))[..., :3, :3].flatten(-2).norm(dim=-1) / 8**0.5
    turns_deg = torch.rad2deg(2 * half_sines.clamp(max=1).asin()).median(dim=0).values
    stats = {f"motion/over_depth/{name}": length for name, length in zip(temporal, lengths, strict=True)}
    stats |= {f"motion/turn_deg/{name}": turn for name, turn in zip(temporal, turns_deg, strict=True)}
    before, after = ([number for number, name in enumerate(temporal) if name.startswith(sign)] for sign in "-+")
    if before and after:
        cosine = torch.cosine_similarity(T[:, before[0], :3, 3], T[:, after[0], :3, 3], dim=-1)
        stats["motion/same_side"] = cosine.mean()
    return stats


def brightness_and_uncertainty_stats(prediction: Prediction, source_names: Sequence[str]) -> dict[str, Tensor]:
    """Return `gain/SOURCE` and `offset/SOURCE`, means of the batch, and `log_uncertainty/pN`, percentiles."""
    stats: dict[str, Tensor] = {}
    if prediction.brightness is not None:
        for name, (gain, offset) in zip(source_names, prediction.brightness.detach().mean(dim=0), strict=True):
            stats |= {f"gain/{name}": gain, f"offset/{name}": offset}
    if prediction.log_uncertainty is not None:
        pixels = prediction.log_uncertainty[0].detach()[..., ::PIXEL_STRIDE, ::PIXEL_STRIDE].flatten().float()
        quantiles = pixels.quantile(pixels.new_tensor(QUANTILE_PERCENTS) / 100)
        names = (f"log_uncertainty/p{percent}" for percent in QUANTILE_PERCENTS)
        stats |= dict(zip(names, quantiles, strict=True))
    return stats


def check_metric_labels(loss: SelfSupervisedLossConfig, data: VideoData) -> None:
    """Raise DataError if `loss.speed` or `loss.sparse_depth` would take another unit of the data for metres."""
    if not (loss.speed or loss.sparse_depth):
        return
    for data_set in data.data_sets.values():
        for recording in data_set.recordings["train"]:
            if loss.speed and not recording.has_metric_poses:
                found = f"poses of {recording.name} up to one scale, and loss.speed"
                fix = "give poses in metres (data.poses=FILE), or leave loss.speed out"
                raise DataError("loss.speed", found=found, expected="poses in metres", fix=fix)
            if loss.sparse_depth and not recording.has_metric_depth:
                found = f"depth of {recording.name} without a unit, and loss.sparse_depth"
                fix = "leave loss.sparse_depth out"
                raise DataError("loss.sparse_depth", found=found, expected="depth in metres", fix=fix)


FindResidual = Callable[[Tensor], Tensor]
"""A function that returns the photometric residual (B, 1, H, W) of inverse depth (B, 1, H, W)."""


def open_teacher(config: TeacherConfig, height: int, width: int) -> tuple[DepthPredictor, str]:
    """Return the predictor of a teacher, and the line about its licence.

    Raises ConfigError for depth up to scale and shift, and for a network of cropped images.
    """
    name = str(config.network)
    opened = open_network_checkpoint(name, lambda: (height, width), config.settings)
    predictor: Any = load_predictor(opened)
    key = f"teacher={name}"
    if predictor.crop != "none":
        found, fix = f"a network of the crop '{predictor.crop}'", "choose one of whole images"
        raise ConfigError(key, found=found, expected="depth of whole images", fix=fix)
    if predictor.depth_scale is DepthScale.AFFINE_DEPTH:
        expected, fix = "metres, depth up to scale, or inverse depth up to scale and shift", "choose another network"
        raise ConfigError(key, found="depth up to scale and shift", expected=expected, fix=fix)
    return predictor, describe_network(opened)


def check_teacher(config: TeacherConfig, height: int, width: int, console: Console) -> None:
    """Open the teacher of a configuration before the data are decoded, and print its output."""
    predictor, licence = open_teacher(config, height, width)
    line = f"teacher: {config.network}, {predictor.depth_scale}, at {predictor.width}x{predictor.height}"
    console.print(f"{line}; {licence}" if licence else line, markup=False, highlight=False, soft_wrap=True)


class TeacherTerm:
    """The difference from a teacher's depth in the loss of a batch. Checkpoints do not contain the teacher."""

    def __init__(self, config: TeacherConfig) -> None:
        self.config = config
        self._predictor: DepthPredictor | None = None

    def weight(self, step: int, last_step: int) -> float:
        """Return the weight at a step, which falls linearly to 0 at the share `until` of the steps."""
        if self.config.until is None or last_step <= 0:
            return self.config.weight
        return self.config.weight * max(1 - step / (self.config.until * last_step), 0.0)

    @torch.no_grad()
    def predict(self, batch: Batch[Any, Any]) -> Tensor:
        """Return the teacher's inverse depth (B, 1, H, W) of the images as recorded."""
        image, camera = batch.targets.image, batch.targets.camera
        height, width = image.shape[-2:]
        if self._predictor is None:
            self._predictor = open_teacher(self.config, height, width)[0]
            self._predictor.move(image.device)
        teacher = self._predictor
        size = teacher.height, teacher.width
        resized = functional.interpolate(image.float(), size=size, mode="bilinear", align_corners=False, antialias=True)
        predicted = teacher.inverse_depth(resized, resize_camera(camera, *size)).to(image.device).clone()
        return functional.interpolate(predicted, size=(height, width), mode="bilinear", align_corners=False)

    def add(
        self,
        report: LossReport,
        inverse_depth: Tensor,
        batch: Batch[Any, Any],
        *,
        student_scale: DepthScale,
        step: int,
        last_step: int,
        find_residual: FindResidual | None = None,
    ) -> LossReport:
        """Return the loss of a batch with the term "teacher".

        report: report of the recipe's own loss.
        inverse_depth: (B, 1, H, W) of the student.
        batch: the batch with the images as recorded.
        student_scale: scale of the recipe's depth.
        step, last_step: updates made, and in the whole training.
        find_residual: pixels with a larger residual than the student's do not count.
        """
        weight = self.weight(step, last_step)
        if weight == 0:
            term, left_out = 0 * inverse_depth.float().mean(), inverse_depth.new_zeros(())
        else:
            with torch.autocast(inverse_depth.device.type, enabled=False):
                teacher, own = self.predict(batch), inverse_depth.float()
                assert self._predictor is not None
                relation = find_relation(student_scale, self._predictor.depth_scale)
                known = teacher.isfinite() if relation == "affine" else teacher > 0
                if (ignored := getattr(batch.targets, "ignored", None)) is not None:  # targets of video have it
                    known = known & ~ignored
                if find_residual is not None:
                    aligned = align_teacher(own, teacher, known, relation)
                    worse = find_residual(aligned) > report.maps["residual"] + self.config.max_contradiction
                    known = known & ~worse
                difference = compute_difference(own, teacher, known, relation)
                term = weight * teacher_error(difference, known)
                left_out = 1 - known.float().mean()
        logged = {"teacher/left_out": left_out, "teacher/weight": left_out.new_tensor(weight)}
        return add_terms(report, LossReport.from_terms({"teacher": term}, {}, least={"teacher": 0.0}, logged=logged))
