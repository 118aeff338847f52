"""`SelfSupervisedRecipe`: depth and camera motion from unlabelled video, by view synthesis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Generic

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import TypeVar

from stadia.core.types import Batch, DepthScale, Inputs, PredictedMaps, Prediction, Targets, is_temporal
from stadia.diagnostics.loss_checks.loss_case import LossCase
from stadia.diagnostics.loss_checks.video_cases import OutputSpec, make_video_case
from stadia.evaluation.plots.charts import draw_motions
from stadia.evaluation.plots.colormaps import category_key, color_categories, color_heat, to_uint8
from stadia.evaluation.validation_metrics import (
    MotionPairs,
    compute_depth_scores,
    compute_motion_scores,
    compute_uncertainty_scores,
)
from stadia.losses.affine_brightness import BrightnessGate
from stadia.losses.loss_report import LossReport
from stadia.losses.selfsup_loss import SelfSupervisedLoss
from stadia.models.depth_pose_net import DepthPoseNet
from stadia.models.encoders import check_encoder
from stadia.recipes.base.config import SelfSupervisedConfig
from stadia.recipes.base.depth_recipe import DepthRecipe, VideoDataT, VideoTargetsT
from stadia.recipes.base.logged_stats import (
    brightness_and_uncertainty_stats,
    depth_stats,
    min_reprojection_stats,
    motion_stats,
)

SelfSupervisedConfigT = TypeVar("SelfSupervisedConfigT", bound=SelfSupervisedConfig)

RIG_TOLERANCE = 0.01
"""Share of the baseline: rigs that differ by less count as one."""


class SelfSupervisedRecipe(
    DepthRecipe[SelfSupervisedConfigT, VideoDataT, Inputs, VideoTargetsT],
    Generic[SelfSupervisedConfigT, VideoDataT, VideoTargetsT],
):
    """Networks, loss, logged statistics and validation.

    Args:
        config: with `data.stereo` resolved to true or false.
    """

    # (4, 4) of the pairs that trained the right view, NaN where that is not known; only where there is such a view
    T_right_left: Tensor

    def __init__(self, config: SelfSupervisedConfigT) -> None:
        sets = len(config.data.sets)
        super().__init__(
            config, height=config.data.height, width=config.data.width, crop=config.data.crop, data_sets=sets
        )
        self.model = DepthPoseNet(
            config.model, motion=bool(config.data.offsets), size=(config.data.height, config.data.width)
        )
        self.loss = SelfSupervisedLoss(config.loss)
        self.motions = MotionPairs(DepthScale.UP_TO_SCALE)  # of the validation that runs
        # predicted and true motions of the last validation, all processes together
        self.epoch_motions = torch.empty(0, 6), torch.empty(0, 6)
        # Only where there is something to hold: it has buffers, and checkpoints without brightness stay as they are.
        self.gate = BrightnessGate(config.loss.brightness_from_step) if config.model.brightness else None
        if config.model.right_view:
            self.register_buffer("T_right_left", torch.full((4, 4), torch.nan))

    @classmethod
    def check_encoders(cls, config: SelfSupervisedConfig) -> None:
        """Raise ConfigError for an encoder unknown to timm or unfit for the image size, before data are opened."""
        for name in config.model.encoders(motion=bool(config.data.offsets)):
            for height, width in dict.fromkeys((one.height, one.width) for one in config.data.sets.values()):
                check_encoder(name, height=height, width=width)

    def check_size(self, height: int, width: int) -> None:
        """Allow any size that suits the encoders. A linear pose head supports only the training size."""
        if self.config.data.offsets and self.config.model.pose_head == "linear":
            super().check_size(height, width)
        for name in self.config.model.encoders(motion=bool(self.config.data.offsets)):
            check_encoder(name, height=height, width=width)

    @property
    def weights(self) -> Mapping[str, str]:
        return self.model.weights

    def save_data_stats(self, data: VideoDataT) -> None:
        """Keep the focal length, and the stereo rig of the right view if all pairs share one."""
        super().save_data_stats(data)
        if not self.config.model.right_view:
            return
        rigs = np.stack(
            [recording.T_right_left for recording in data.recordings["train"] if recording.T_right_left is not None]
        )
        if np.ptp(rigs, axis=0).max() < RIG_TOLERANCE * np.linalg.norm(rigs[0, :3, 3]):
            self.T_right_left.copy_(torch.from_numpy(rigs[0]))

    def inverse_depth(self, image: Tensor) -> Tensor:
        return self.maps(image).inverse_depth

    def maps(self, image: Tensor) -> PredictedMaps:
        left, right, log_uncertainty = self.model.depth(image)
        rig = None if right is None or self.T_right_left.isnan().any() else self.T_right_left
        return PredictedMaps(left[0], right and right[0], log_uncertainty and log_uncertainty[0], rig)

    def T_next_now(self, now: Tensor, following: Tensor) -> Tensor | None:
        motion = self.model.motion(now, following)
        return None if motion is None else motion.T_later_earlier

    def training_step(self, batch: Batch[Inputs, VideoTargetsT]) -> LossReport:
        return self.photometric_loss(batch, self.model(batch))

    def photometric_loss(
        self, batch: Batch[Inputs, VideoTargetsT], prediction: Prediction, *, road: Tensor | None = None
    ) -> LossReport:
        """Compare the target with the sources warped by the prediction; see `SelfSupervisedLoss`."""
        through = self.gate(prediction, self.global_step) if self.gate else prediction
        report = self.loss(batch.targets, through, batch.source_names, self.global_step, road=road)
        if self.gate and self.training:
            self.gate.watch(report.seen["warped_over_unwarped"])
        names, (teachers, _) = batch.source_names, self.loss.teachers(batch.source_names, self.global_step)
        depth = depth_stats(prediction.inverse_depth[0], *self.depth_range_m)
        seen = min_reprojection_stats(report.maps["winner"], names, teachers) | depth
        seen |= motion_stats(prediction.T_source_target, names, depth["depth/median"])
        return replace(report, seen={**report.seen, **seen, **brightness_and_uncertainty_stats(prediction, names)})

    @property
    def depth_range_m(self) -> tuple[float, float]:
        return self.config.model.min_depth_m, self.config.model.max_depth_m

    @torch.no_grad()
    def loss_cases(self, batch: Batch[Inputs, VideoTargetsT]) -> Mapping[str, LossCase]:
        """Return the photometric loss as at the end of training, on a synthetic plane seen by the batch's sources.

        With a stereo pair and neighbors in time, also the loss of the neighbors alone.
        """
        model, end = self.config.model, self.plan.total_steps if self.plan else 0
        _, motion_alone = self.loss.teachers(batch.source_names, end)
        outputs = OutputSpec(
            model.scales,
            self.config.loss.pyramid,
            brightness=model.brightness,
            uncertainty=model.uncertainty,
            right_view=model.right_view,
            motion_alone=bool(motion_alone),
        )

        def loss(targets: Targets, prediction: Prediction, source_names: Sequence[str]) -> LossReport:
            return self.loss(targets, prediction, source_names, end)

        losses = {"loss": make_video_case(loss, batch.source_names, outputs)}
        neighbors = tuple(filter(is_temporal, batch.source_names))
        if 0 < len(neighbors) < len(batch.source_names):
            losses["loss of neighbors in time"] = make_video_case(
                loss, neighbors, replace(outputs, right_view=False, motion_alone=False)
            )
        return losses

    @property
    def scored_as(self) -> DepthScale:
        """Return the scale that validation assumes, the same from first to last step so that scores compare."""
        return self.claim

    def batch_depth_scale(self, batch: Batch[Inputs, VideoTargetsT]) -> DepthScale:
        """Return the scale that depth of this batch is scored with; data sets may differ."""
        return self.scored_as

    def validation_step(self, batch: Batch[Inputs, VideoTargetsT]) -> Mapping[str, Tensor | float]:
        """Return scores of a batch: `residual` and `residual_unwarped` at the finest scale, and depth scores.

        `residual_unwarped` is the identity reprojection: no depth, no motion. With ground truth: `abs_rel`, `rmse`,
        `d1`, median-scaled unless in metres. Uncertainty and brightness do not enter the residual, which they could
        lower alone, so trainings with and without them compare. The quality of the uncertainty is scored once it is
        trained: against the residual that trains it (with brightness), and against depth errors.
        """
        return self.scored(batch, self.model(batch))

    def scored(self, batch: Batch[Inputs, VideoTargetsT], predicted: Prediction) -> dict[str, Tensor | float]:
        """Return the scores of the prediction of a batch, see `validate`."""
        prediction = replace(predicted, inverse_depth_right=None, log_uncertainty=None, brightness=None)
        # the same candidates at every validation, so that residuals compare
        end = self.plan.total_steps if self.plan else 0
        report = self.loss(batch.targets, prediction, batch.source_names, end)
        scores: dict[str, Tensor | float] = {
            "residual": report.maps["residual"].mean(dim=(1, 2, 3)),
            "residual_unwarped": report.maps["unwarped"].mean(dim=(1, 2, 3)),
        }
        log_uncertainty = None if predicted.log_uncertainty is None else predicted.log_uncertainty[0]
        if self.global_step < self.config.loss.uncertainty_from_step:
            log_uncertainty = None  # not trained yet
        if log_uncertainty is not None:
            if self.gate:
                calibrated = replace(prediction, brightness=self.gate(predicted, self.global_step).brightness)
                report = self.loss(batch.targets, calibrated, batch.source_names, end)
            scores |= compute_uncertainty_scores(report.maps["residual"], log_uncertainty)
        if batch.targets.depth_m is not None:
            scores |= compute_depth_scores(
                prediction.inverse_depth[0], batch.targets.depth_m, self.batch_depth_scale(batch), log_uncertainty
            )
        self.motions.add(batch.meta, batch.source_names, predicted.T_source_target, batch.targets.T_source_target_true)
        return scores

    def on_validation_start(self) -> None:
        self.motions = MotionPairs(self.scored_as)

    def validation_summary(self) -> Mapping[str, float]:
        """Return slope and correlation of predicted over true motion by axis, if poses are known.

        With several data sets also `NAME/motion_scale`, the factor from predicted to true motion. If these factors
        differ, so does the unit of depth.
        """
        self.epoch_motions = self.motions.of_all()
        return compute_motion_scores(*self.epoch_motions) | {
            f"{name}/motion_scale": scale for name, scale in self.motions.scales().items()
        }

    def validation_images(self) -> Mapping[str, NDArray[np.uint8]]:
        return {"motion": draw_motions(*self.epoch_motions, self.scored_as)} if len(self.epoch_motions[1]) else {}

    def images(self, batch: Batch[Inputs, VideoTargetsT], report: LossReport) -> Mapping[str, NDArray[np.uint8]]:
        """Draw the first sample: input, outputs, residual, and the source that explains each pixel best."""
        names = (*batch.source_names, *(f"{name} unwarped" for name in batch.source_names))
        return {
            **super().images(batch, report),
            "best warped source": to_uint8(report.maps["warped"][0]),
            "residual": color_heat(report.maps["residual"][0, 0]),
            "winner": color_categories(report.maps["winner"][0, 0], len(names)),
            "winner's colors": category_key(names, self.height, self.width),
        }
