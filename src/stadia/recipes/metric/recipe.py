"""The recipe `metric`: self-supervised depth of mono road video, in metres by objects of known height.

Each object implies a camera height. Their median over frames and epochs is precise, and it then supervises every frame
with a road (FUMET, arXiv 2312.04530). Prediction needs none of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor

from stadia.core import random_state
from stadia.core.types import Batch, Camera, DepthScale, Inputs, Meta, PredictedMaps, Prediction, RoadTargets
from stadia.datasets.masks.height_priors import find_prior
from stadia.diagnostics.loss_checks.loss_case import ErrorAxis, LossCase, Outputs
from stadia.diagnostics.monitors.prediction_monitors import check_drift, check_epoch
from stadia.evaluation.plots.charts import draw_heights_over_epochs
from stadia.evaluation.validation_metrics import compute_depth_scores
from stadia.geometry.depth_maps import depth_from_inverse
from stadia.geometry.ground.drive_heights import DRIVE_PARTS, MIN_PART_FRAMES
from stadia.geometry.ground.road_plane import RoadPixelHeights, fit_inverse_depth_plane, road_pixel_heights
from stadia.geometry.segments import segments_from_instances
from stadia.losses.loss_report import LossReport, combine_losses
from stadia.losses.metric_scale import (
    KnownHeights,
    MetricScaleLoss,
    erode_road_mask,
    estimate_camera_heights,
    weight_objects,
)
from stadia.metrics.depth_metrics import object_extent, rows_out_of_order, share_at_max_depth
from stadia.recipes.base.depth_recipe import DepthRecipe
from stadia.recipes.base.logged_stats import compute_auto_mask
from stadia.recipes.base.self_supervised import ViewSynthesis, check_encoders, make_networks
from stadia.recipes.metric.camera_heights import (
    CameraHeights,
    HeightHistory,
    ScaleLossShares,
    compute_scale_loss_shares,
)
from stadia.recipes.metric.config import MetricConfig
from stadia.recipes.metric.data import RoadVideo, open_road_video
from stadia.training.run_folder import Run

MIN_SCHEDULE_EPOCHS = 4
"""Minimum epochs of the scale schedule: the first height is estimated in the third epoch."""

MAX_HEIGHT_LOG_ERROR = 0.1
"""Maximum log ratio between the estimated height and the height in predicted depth for depth in metres."""

RoadBatch = Batch[Inputs, RoadTargets]


class MetricRecipe(DepthRecipe[MetricConfig, RoadVideo, Inputs, RoadTargets]):
    """Self-supervised depth with metres from mono road video: object heights and camera heights give the scale.

    Args:
        config: with `camera_groups` resolved.
    """

    recipe = "metric"
    compatible_recipes, data_buffers = ("selfsup",), ("camera_height_m", "predicted_height_m")
    # the last one: a residual does not depend on the scale, and ground truth must not choose
    best_metrics = ()

    camera_height_m: (
        Tensor  # (groups,) the cameras' heights that the weights were trained with, NaN where none was known
    )
    predicted_height_m: (
        Tensor  # (groups,) the same in the depth of the last epoch's frames, NaN where it showed no road
    )

    def __init__(self, config: MetricConfig) -> None:
        super().__init__(config)
        self.model = make_networks(config)
        self.view_synthesis = ViewSynthesis(config)
        self.gate = self.view_synthesis.gate  # its buffers belong to checkpoints
        self.scale_loss, self.heights = MetricScaleLoss(config.scale), CameraHeights(config.heights)
        self.groups = config.camera_groups if isinstance(config.camera_groups, tuple) else ("",)
        self.register_buffer("camera_height_m", torch.full((len(self.groups),), math.nan))
        self.register_buffer("predicted_height_m", torch.full((len(self.groups),), math.nan))
        self.frames: dict[
            tuple[str, str], int
        ] = {}  # of each data set's each recording that trains, set by `save_data_stats`
        self.after_epochs: dict[str, list[float]] = {name: [] for name in self.groups}  # the heights, for their drift
        self.course = HeightHistory(self.groups)

    @classmethod
    def prepare(cls, config: MetricConfig, console: Console) -> tuple[MetricConfig, RoadVideo]:
        """Open the data with masks; return the configuration with every "auto" resolved, and the data."""
        check_encoders(config)
        return open_road_video(config, console)

    def save_data_stats(self, data: RoadVideo) -> None:
        super().save_data_stats(data)
        self.frames = {
            (name, one.name): len(one) for name, data_set in data.each.items() for one in data_set.recordings["train"]
        }

    @property
    def depth_scale(self) -> DepthScale:
        """Return metres if every camera group has a height and depth agrees with it, else depth up to one unknown
        scale.
        """
        follows = (self.predicted_height_m / self.camera_height_m).log().abs() < MAX_HEIGHT_LOG_ERROR  # NaN does not
        return DepthScale.METRES if bool(follows.all()) else DepthScale.UP_TO_SCALE

    def maps(self, image: Tensor) -> PredictedMaps:
        left, _, log_uncertainty = self.model.depth(image)
        return PredictedMaps(left[0], None, log_uncertainty and log_uncertainty[0])

    def T_next_now(self, now: Tensor, following: Tensor) -> Tensor | None:
        motion = self.model.motion(now, following)
        return None if motion is None else motion.T_later_earlier

    def check_size(self, height: int, width: int) -> None:
        """Allow any size that suits the encoders. A linear pose head supports only the training size."""
        if self.config.data.offsets and self.config.model.pose_head == "linear":
            super().check_size(height, width)
        check_encoders(self.config, [(height, width)])

    @property
    def weights(self) -> Mapping[str, str]:
        return self.model.weights

    @property
    def depth_range_m(self) -> tuple[float, float]:
        return self.config.model.min_depth_m, self.config.model.max_depth_m

    def inverse_depth(self, image: Tensor) -> Tensor:
        return self.maps(image).inverse_depth

    @property
    def run_metadata(self) -> Mapping[str, object]:
        """Return the depth scale, and the heights that it rests on."""
        known = [(name, find_prior(name, self.config.road.height_priors)) for name in self.config.road.objects]
        rests = [
            f"{name} {prior.mean_m:g} m, spread {prior.spread_m:g} m ({prior.source})"
            for name, prior in known
            if prior is not None
        ]
        each = "heights of single objects, else " * (self.config.road.heights == "each")
        rests_on = f"{each}heights of classes: {'; '.join(rests)}. A mean that is 5 % off makes all lengths 5 % off"
        if self.depth_scale is not DepthScale.METRES:
            return {**super().run_metadata, "rests_on": rests_on, "scale_from": None}
        heights = {
            name: round(float(metres), 4) for name, metres in zip(self.groups, self.camera_height_m, strict=True)
        }
        listed = ", ".join(f"{metres:.2f} m" + f" of '{name}'" * bool(name) for name, metres in heights.items())
        scale_from = f"the camera's height over the road ({listed}), estimated from objects of known height"
        return {**super().run_metadata, "rests_on": rests_on, "scale_from": scale_from, "camera_height_m": heights}

    def finish_training(self, run: Run, console: Console) -> None:
        """Record the depth scale of the trained weights, or why there are no metres."""
        why = None if self.depth_scale is DepthScale.METRES else self._reason_without_metres()
        run.note(**self.run_metadata, no_metres=why)
        if why is not None:
            console.print(f"note: depth is up to scale: {why}", markup=False, highlight=False, soft_wrap=True)

    def _reason_without_metres(self) -> str:
        """Return why depth is not in metres."""
        if not any(self.course.of.values()):
            return "the best weights are from before the first camera height was estimated; train longer"
        return "; ".join(filter(None, map(self._missing_of_group, range(len(self.groups)))))

    def _missing_of_group(self, group: int) -> str:
        """Return what one camera group lacks; empty for nothing."""
        name, known_m, predicted_m = (
            self.groups[group],
            float(self.camera_height_m[group]),
            float(self.predicted_height_m[group]),
        )
        of = f" of the cameras '{name}'" if name else ""
        if not known_m > 0:
            why = next((one.refused for one in reversed(self.course.of[name]) if one.refused), "no epoch gave one")
            return f"no height{of} is known: {why}; see the findings"
        if not predicted_m > 0:
            return f"the road{of} does not occur in the last epoch (height {known_m:.2f} m); check the masks"
        if abs(math.log(predicted_m / known_m)) < MAX_HEIGHT_LOG_ERROR:
            return ""
        return (
            f"depth of the last epoch gives a camera height{of} of {predicted_m:.2f} m instead of {known_m:.2f} m; "
            "train longer"
        )

    # -- training step

    def on_batch_start(self) -> None:
        self.start_epoch(self._epoch_of(self.global_step + 1))

    def _epoch_of(self, step: int) -> int:
        """Return the epoch of heights: several epochs of the data if there are more than `max_height_epochs`."""
        assert self.plan is not None
        return self.plan.epoch_of(step) // math.ceil(
            max(self.plan.epoch_of(self.plan.total_steps), 1) / self.config.max_height_epochs
        )

    def start_epoch(self, epoch: int) -> None:
        """Start a new epoch: update the camera heights from the last one, and add its findings."""
        ended = self.heights.epoch
        if epoch == ended:
            return
        estimates = self.heights.begin(epoch)
        metres = [
            self.heights.heights[group].metres if group in self.heights.heights else math.nan
            for group in range(len(self.groups))
        ]
        self.camera_height_m.copy_(torch.tensor(metres))
        self.predicted_height_m.copy_(
            torch.tensor([estimates[group].road_m if group in estimates else math.nan for group in range(len(metres))])
        )
        self.course.add(ended, estimates, metres)
        for name, height in zip(self.groups, metres, strict=True):
            self.after_epochs[name].append(height)
        by_name = {self.groups[group]: found for group, found in estimates.items() if group < len(self.groups)}
        known_m = dict(zip(self.groups, metres, strict=True))
        self.found += check_epoch(ended, by_name, first_epoch=self.config.heights.first_epoch, known_m=known_m)
        self.found += check_drift(self.after_epochs)
        if epoch == self.config.reinitialize_at_epoch:
            self._reinitialize()

    def _reinitialize(self) -> None:
        with random_state.preserve_generators():
            random_state.seed_generators(self.config.seed, "anew")
            fresh = make_networks(self.config)
        self.model.load_state_dict(fresh.state_dict())
        assert self.optimizer is not None
        self.optimizer.state.clear()

    def training_step(self, batch: RoadBatch) -> LossReport:
        road = batch.targets.road
        prediction = self.model(batch)  # depth at several scales, motion to each source
        unmasked = road if self.config.unmask_road else None
        photometric = self.view_synthesis(batch, prediction, self.global_step, road=unmasked)  # warp, compare
        metric_scale = self.metric_scale_loss(batch, prediction)  # object heights, camera height
        report = combine_losses({"selfsup": (1.0, photometric), "metric": (1.0, metric_scale)})
        masked = compute_auto_mask(photometric.maps["winner"], len(batch.source_names))
        return replace(report, seen={**report.seen, "metric/road_masked": (masked & road).sum() / road.sum()})

    def metric_scale_loss(self, batch: RoadBatch, prediction: Prediction) -> LossReport:
        """Return the scale loss of a batch. In training, keep the camera heights that its objects imply."""
        targets, camera = batch.targets, batch.targets.camera
        objects = segments_from_instances(targets.objects[:, 0])
        object_m = targets.object_height_m[objects.image, objects.instance - 1]
        with torch.no_grad(), torch.autocast(targets.road.device.type, enabled=False):
            depth = depth_from_inverse(prediction.inverse_depth[0].float())
            road = road_pixel_heights(depth, camera, erode_road_mask(targets.road))
            evidence = estimate_camera_heights(depth, camera, road, objects, object_m)
            apart = (fit_inverse_depth_plane(depth, camera, road.valid)[:, 3] / road.median_height).log()
        if self.training:
            parts = self._parts(batch.meta)
            self.heights.add(
                parts,
                targets.camera_group,
                road.median_height,
                apart,
                objects.image,
                evidence.camera_m,
                evidence.horizon_m,
            )
        reference = self.heights.by_horizon(targets.camera_group)[objects.image]
        heights = self.config.heights
        weight = weight_objects(
            evidence.horizon_m, reference, spread=heights.outlier_sigma, tolerance=heights.tolerance
        )
        weight = weight * road.median_height.isfinite()[objects.image]  # without a road nothing stands on it
        known = KnownHeights(objects, object_m, weight, self.heights.known(targets.camera_group))
        shares = self.shares()
        report = self.scale_loss(
            prediction.inverse_depth,
            camera,
            targets.road,
            known,
            object_share=shares.objects,
            camera_share=shares.camera,
        )
        with torch.no_grad():
            stats = {
                "objects_over_road": (evidence.camera_m / known.camera_m[objects.image]).log().nanmedian(),
                "object_extent": object_extent(depth, objects).nanmedian(),
                "rows_out_of_order": rows_out_of_order(depth, targets.road).nanmean(),
                "objects_at_limit": share_at_max_depth(depth, targets.objects > 0, self.config.model.max_depth_m),
            }
        return replace(report, seen={**report.seen, **self._logged_values(depth, road, known), **stats})

    def loss_cases(self, batch: RoadBatch) -> Mapping[str, LossCase]:
        """Return the loss cases of `selfsup`, and the camera height over a flat road."""
        heights = (
            {"height of the camera": camera_height_loss_case(self.scale_loss)}
            if self.scale_loss.config.camera_height
            else {}
        )
        return {**self.view_synthesis.loss_cases(batch.source_names, self.last_step), **heights}

    def images(self, batch: RoadBatch, report: LossReport) -> Mapping[str, NDArray[np.uint8]]:
        return {**super().images(batch, report), **self.view_synthesis.draw_sources(batch.source_names, report)}

    def shares(self) -> ScaleLossShares:
        """Return the weights of the object loss and the camera-height loss in this epoch.

        Objects keep full weight until every camera group has a height. If all heights are known from the start, the
        camera-height loss has full weight from the first step.
        """
        assert self.plan is not None
        requested, third = self.config.scale_schedule_epochs, (self._epoch_of(self.plan.total_steps) + 1) // 3
        shares = compute_scale_loss_shares(
            self.heights.epoch, epochs=max(third, MIN_SCHEDULE_EPOCHS) if requested == "auto" else requested
        )
        missing = any(not math.isfinite(self._metres(group)) for group in range(len(self.groups)))
        if missing:
            return ScaleLossShares(1.0, shares.camera)
        return ScaleLossShares(shares.objects, 1.0) if len(self.config.heights.known_m) >= len(self.groups) else shares

    def _metres(self, group: int) -> float:
        return self.heights.heights[group].metres if group in self.heights.heights else math.nan

    def _parts(self, meta: Sequence[Meta]) -> list[str]:
        """Return the name of the part of the recording that each image is in, for findings."""
        named = []
        for one in meta:
            frames = self.frames.get((one.data, one.recording), 0)
            of = max(math.ceil(frames / DRIVE_PARTS), MIN_PART_FRAMES)
            first = one.index // of * of
            named.append(
                one.recording if frames <= of else f"{one.recording}, frames {first} to {min(first + of, frames) - 1}"
            )
        return named

    def _logged_values(self, depth: Tensor, road: RoadPixelHeights, known: KnownHeights) -> dict[str, Tensor]:
        """Return logged values: share of accepted objects, spread of depth, camera heights, and the error of depth."""
        has_height = known.object_m.isfinite()
        seen = {
            "inlier_share": (known.weight * has_height).sum() / has_height.sum().clamp(min=1),
            "depth_spread": (depth.flatten(1).std(1) / depth.flatten(1).mean(1)).mean(),
        }
        for group, name in enumerate(self.groups):
            if math.isfinite(metres := self._metres(group)):
                seen[f"camera_height_known_m/{name}" if name else "camera_height_known_m"] = depth.new_tensor(metres)
        off = (road.median_height / known.camera_m).log()
        if any(name.startswith("camera_height_known_m") for name in seen):
            seen["off_camera_height"] = off.nanmean()
        return seen

    # -- validation and checkpoint

    def on_validation_start(self) -> None:
        self.view_synthesis.start_validation(DepthScale.METRES)  # from first to last step, so that scores compare

    def validation_step(self, batch: RoadBatch) -> Mapping[str, Tensor | float]:
        """Return the scores of `selfsup` as metres, plus `abs_rel_scaled` (median-scaled) and `camera_height_m`."""
        predicted = self.model(batch)
        scores = self.view_synthesis.score(batch, predicted, self.global_step, self.last_step, DepthScale.METRES)
        targets = batch.targets
        if targets.depth_m is not None:
            scores["abs_rel_scaled"] = compute_depth_scores(
                predicted.inverse_depth[0], targets.depth_m, DepthScale.UP_TO_SCALE
            )["abs_rel"]
        depth = depth_from_inverse(predicted.inverse_depth[0].float())
        scores["camera_height_m"] = road_pixel_heights(
            depth, targets.camera, erode_road_mask(targets.road)
        ).median_height
        return scores

    def validation_summary(self) -> Mapping[str, float]:
        return self.view_synthesis.motion_scores()

    def validation_images(self) -> Mapping[str, NDArray[np.uint8]]:
        """Draw the motions of a validation, and the camera heights of the past epochs."""
        motion = self.view_synthesis.draw_motion()
        if not any(self.course.of.values()):
            return motion
        names, heights = dict(enumerate(self.groups)), self.config.heights
        known = {names[group]: metres for group, metres in heights.known_m.items() if group in names}
        between = {names[group]: ends for group, ends in heights.between_m.items() if group in names}
        drawn = draw_heights_over_epochs(self.course.of, before_m=known, between_m=between)
        return {**motion, "camera height": drawn}

    def training_state(self) -> dict[str, Any]:
        return {
            "heights": self.heights.state_dict(),
            "after_epochs": self.after_epochs,
            "course": self.course.state_dict(),
        }

    def load_training_state(self, state: Mapping[str, Any]) -> None:
        self.heights.load_state_dict(state["heights"], rank=self.rank)
        self.after_epochs = {name: list(heights) for name, heights in state["after_epochs"].items()}
        self.course.load_state_dict(state["course"])


# -- the loss case of the camera-height loss: a flat road

HEIGHT_M = 1.65
FARTHEST_M = 60.0
TIMES = (0.5, 0.8, 0.9, 1.0, 1.1, 1.25, 2.0)


def flat_road(height: int = 48, width: int = 96) -> tuple[Tensor, Tensor, Camera]:
    """Return inverse depth (1, 1, H, W), road mask (1, 1, H, W) and camera: level, HEIGHT_M above the road, the horizon
    above the image center.
    """
    fy, cy = 0.9 * width, 0.4 * height
    K = torch.tensor([[[0.9 * width, 0, width / 2 - 0.5], [0, fy, cy], [0, 0, 1]]], dtype=torch.float64)
    rows = torch.arange(height, dtype=torch.float64)[:, None].expand(height, width)
    inverse_depth = ((rows - cy) / (fy * HEIGHT_M)).clamp(min=1 / FARTHEST_M)
    road = inverse_depth > 1.2 / FARTHEST_M
    return inverse_depth[None, None], road[None, None], Camera(K, height, width)


def camera_height_loss_case(loss: MetricScaleLoss) -> LossCase:
    """Return the loss case of a known camera height, without objects."""
    inverse_depth, road, camera = flat_road()
    objects = segments_from_instances(torch.zeros_like(road[:, 0], dtype=torch.int64))
    nothing = torch.zeros(0, dtype=torch.float64)
    known = KnownHeights(objects, nothing, nothing, torch.tensor([HEIGHT_M], dtype=torch.float64))

    def evaluate(maps: Outputs) -> Any:
        return loss((maps["inverse_depth"],), camera, road, known)

    right = {"inverse_depth": inverse_depth}
    wrong = {x: right if x == 1 else {"inverse_depth": inverse_depth / x} for x in TIMES}
    waves = 1 + 0.05 * torch.linspace(0, 9, inverse_depth.shape[-1], dtype=torch.float64).sin()
    axis = ErrorAxis("depth, times the true one", "L01", 1.0, wrong)
    return LossCase(evaluate, right, {"inverse_depth": inverse_depth * waves / 1.1}, (axis,), {"road": road})
