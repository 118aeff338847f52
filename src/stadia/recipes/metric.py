"""The recipe `metric`: `selfsup` on mono road video, with metres from objects of known height and the camera height.

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

from stadia.core.types import Batch, Claim, Inputs, Meta, Prediction, RoadTargets
from stadia.data.height_priors import prior_of
from stadia.diagnostics.contract.exact import Exact
from stadia.diagnostics.heights import drift_findings, epoch_findings
from stadia.evaluation.monitor import depth_scores
from stadia.evaluation.road_drawings import heights_over_epochs
from stadia.geometry.depth_maps import depth_from_inverse
from stadia.geometry.ground import RoadPixels, inverse_depth_plane, road_pixels
from stadia.geometry.segments import segments_of
from stadia.losses.combine import combine
from stadia.losses.metric_evidence import object_evidence, object_weights
from stadia.losses.metric_scale import KnownHeights, MetricScaleLoss, inner
from stadia.losses.report import LossReport
from stadia.metrics.road_depth import at_limit, object_extent, rows_out_of_order
from stadia.models.depth_and_motion import DepthAndMotion
from stadia.recipes.metric_config import MetricConfig
from stadia.recipes.metric_data import RoadVideo, open_road_video
from stadia.recipes.metric_exact import of_camera_height
from stadia.recipes.said import unexplained
from stadia.recipes.self_supervised import SelfSupervisedRecipe
from stadia.training import rng
from stadia.training.camera_heights import CameraHeights
from stadia.training.hand_over import Shares, hand_over
from stadia.training.height_course import HeightCourse
from stadia.training.run import Run

FEWEST_EPOCHS = 4
"""Minimum epochs of the scale schedule: the first height is estimated in the third epoch."""

PARTS = 8
"""Number of parts of a recording: a camera may be moved during it."""

FEWEST_OF_PART = 25
"""Minimum frames of a part."""

MOST_OFF = 0.1
"""Maximum log ratio between the estimated height and the height in predicted depth for a claim of metres."""

RoadBatch = Batch[Inputs, RoadTargets]


class Metric(SelfSupervisedRecipe[MetricConfig, RoadVideo, RoadTargets]):
    """Self-supervised depth with metres from mono road video: object heights and camera heights give the scale.

    Args:
        config: with `camera_groups` resolved.
    """

    recipe = "metric"
    starts_from, of_data = ("selfsup",), ("camera_m", "said_m")
    # the last one: a residual does not depend on the scale, and ground truth must not choose
    best_metrics = ()

    camera_m: Tensor  # (groups,) the cameras' heights that the weights were trained with, NaN where none was known
    said_m: Tensor  # (groups,) the same in the depth of the last epoch's frames, NaN where it showed no road

    def __init__(self, config: MetricConfig) -> None:
        super().__init__(config)
        self.scale_loss, self.heights = MetricScaleLoss(config.scale), CameraHeights(config.heights)
        self.groups = config.camera_groups if isinstance(config.camera_groups, tuple) else ("",)
        self.register_buffer("camera_m", torch.full((len(self.groups),), math.nan))
        self.register_buffer("said_m", torch.full((len(self.groups),), math.nan))
        self.frames: dict[tuple[str, str], int] = {}  # of each data set's each recording that trains, set by `remember`
        self.after_epochs: dict[str, list[float]] = {name: [] for name in self.groups}  # the heights, for their drift
        self.course = HeightCourse(self.groups)

    @classmethod
    def prepare(cls, config: MetricConfig, console: Console) -> tuple[MetricConfig, RoadVideo]:
        """Open the data with masks; return the configuration with every "auto" resolved, and the data."""
        cls.check_encoders(config)
        return open_road_video(config, console)

    def remember(self, data: RoadVideo) -> None:
        super().remember(data)
        self.frames = {
            (name, one.name): len(one) for name, data_set in data.each.items() for one in data_set.recordings["train"]
        }

    @property
    def claim(self) -> Claim:
        """Return metres if every camera group has a height and depth agrees with it, else depth up to one unknown
        scale.
        """
        follows = (self.said_m / self.camera_m).log().abs() < MOST_OFF  # NaN does not
        return Claim.METRES if bool(follows.all()) else Claim.UP_TO_SCALE

    @property
    def scored_as(self) -> Claim:
        return Claim.METRES

    @property
    def run_metadata(self) -> Mapping[str, object]:
        """Return the claim, and the heights that it rests on."""
        known = [(name, prior_of(name, self.config.road.height_priors)) for name in self.config.road.objects]
        rests = [
            f"{name} {prior.mean_m:g} m, spread {prior.spread_m:g} m ({prior.source})"
            for name, prior in known
            if prior is not None
        ]
        each = "heights of single objects, else " * (self.config.road.heights == "each")
        rests_on = f"{each}heights of classes: {'; '.join(rests)}. A mean that is 5 % off makes all lengths 5 % off"
        if self.claim is not Claim.METRES:
            return {**super().run_metadata, "rests_on": rests_on, "scale_from": None}
        heights = {name: round(float(metres), 4) for name, metres in zip(self.groups, self.camera_m, strict=True)}
        listed = ", ".join(f"{metres:.2f} m" + f" of '{name}'" * bool(name) for name, metres in heights.items())
        scale_from = f"the camera's height over the road ({listed}), estimated from objects of known height"
        return {**super().run_metadata, "rests_on": rests_on, "scale_from": scale_from, "camera_height_m": heights}

    def score(self, data: RoadVideo, run: Run, console: Console) -> None:
        """Record the claim of the trained weights, or why there are no metres; then score as any depth."""
        why = None if self.claim is Claim.METRES else self._reason_without_metres()
        run.note(**self.run_metadata, no_metres=why)
        if why is not None:
            console.print(f"note: no metres are claimed: {why}", markup=False, highlight=False, soft_wrap=True)
        super().score(data, run, console)

    def _reason_without_metres(self) -> str:
        """Return why no metres are claimed."""
        if not any(self.course.of.values()):
            return "the best weights are from before the first camera height was estimated; train longer"
        return "; ".join(filter(None, map(self._missing_of_group, range(len(self.groups)))))

    def _missing_of_group(self, group: int) -> str:
        """Return what one camera group lacks; empty for nothing."""
        name, known_m, said_m = self.groups[group], float(self.camera_m[group]), float(self.said_m[group])
        of = f" of the cameras '{name}'" if name else ""
        if not known_m > 0:
            why = next((one.refused for one in reversed(self.course.of[name]) if one.refused), "no epoch gave one")
            return f"no height{of} is known: {why}; see the findings"
        if not said_m > 0:
            return f"the road{of} does not occur in the last epoch (height {known_m:.2f} m); check the masks"
        if abs(math.log(said_m / known_m)) < MOST_OFF:
            return ""
        return (
            f"depth of the last epoch gives a camera height{of} of {said_m:.2f} m instead of {known_m:.2f} m; "
            "train longer"
        )

    # -- training step

    def on_batch_start(self) -> None:
        self.start_epoch(self._epoch_of(self.global_step + 1))

    def _epoch_of(self, step: int) -> int:
        """Return the epoch of heights: several epochs of the data if there are more than `most_epochs`."""
        assert self.plan is not None
        return self.plan.epoch_of(step) // math.ceil(
            max(self.plan.epoch_of(self.plan.total_steps), 1) / self.config.most_epochs
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
        self.camera_m.copy_(torch.tensor(metres))
        self.said_m.copy_(
            torch.tensor([estimates[group].road_m if group in estimates else math.nan for group in range(len(metres))])
        )
        self.course.add(ended, estimates, metres)
        for name, height in zip(self.groups, metres, strict=True):
            self.after_epochs[name].append(height)
        by_name = {self.groups[group]: found for group, found in estimates.items() if group < len(self.groups)}
        known_m = dict(zip(self.groups, metres, strict=True))
        self.found += epoch_findings(ended, by_name, first_epoch=self.config.heights.first_epoch, known_m=known_m)
        self.found += drift_findings(self.after_epochs)
        if epoch == self.config.reinitialize_at_epoch:
            self._reinitialize()

    def _reinitialize(self) -> None:
        with rng.untouched():
            rng.seed_all(self.config.seed, "anew")
            config = self.config
            fresh = DepthAndMotion(
                config.model, motion=bool(config.data.offsets), size=(config.data.height, config.data.width)
            )
        self.model.load_state_dict(fresh.state_dict())
        assert self.optimizer is not None
        self.optimizer.state.clear()

    def training_step(self, batch: RoadBatch) -> LossReport:
        prediction = self.model(batch)
        photometric = self.photometric_loss(
            batch, prediction, road=batch.targets.road if self.config.unmask_road else None
        )
        report = combine({"selfsup": (1.0, photometric), "metric": (1.0, self.metric_scale_loss(batch, prediction))})
        masked = unexplained(photometric.maps["winner"], len(batch.source_names))
        road = batch.targets.road
        return replace(report, seen={**report.seen, "metric/road_masked": (masked & road).sum() / road.sum()})

    def metric_scale_loss(self, batch: RoadBatch, prediction: Prediction) -> LossReport:
        """Return the scale loss of a batch. In training, keep the camera heights that its objects imply."""
        targets, camera = batch.targets, batch.targets.camera
        objects = segments_of(targets.objects[:, 0])
        object_m = targets.object_height_m[objects.image, objects.instance - 1]
        with torch.no_grad(), torch.autocast(targets.road.device.type, enabled=False):
            depth = depth_from_inverse(prediction.inverse_depth[0].float())
            road = road_pixels(depth, camera, inner(targets.road))
            evidence = object_evidence(depth, camera, road, objects, object_m)
            apart = (inverse_depth_plane(depth, camera, road.valid)[:, 3] / road.median_height).log()
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
        weight = object_weights(
            evidence.horizon_m, reference, spread=heights.oddness_spread, tolerance=heights.tolerance
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
                "objects_at_limit": at_limit(depth, targets.objects > 0, self.config.model.max_depth_m),
            }
        return replace(report, seen={**report.seen, **self._logged_values(depth, road, known), **stats})

    def exact_losses(self, batch: RoadBatch) -> Mapping[str, Exact]:
        """Return the loss cases of `selfsup`, and the camera height over a flat road."""
        heights = (
            {"height of the camera": of_camera_height(self.scale_loss)} if self.scale_loss.config.camera_height else {}
        )
        return {**super().exact_losses(batch), **heights}

    def shares(self) -> Shares:
        """Return the weights of the object loss and the camera-height loss in this epoch.

        Objects keep full weight until every camera group has a height. If all heights are known from the start, the
        camera-height loss has full weight from the first step.
        """
        assert self.plan is not None
        requested, third = self.config.hand_over_epochs, (self._epoch_of(self.plan.total_steps) + 1) // 3
        shares = hand_over(self.heights.epoch, epochs=max(third, FEWEST_EPOCHS) if requested == "auto" else requested)
        missing = any(not math.isfinite(self._metres(group)) for group in range(len(self.groups)))
        if missing:
            return Shares(1.0, shares.camera)
        return Shares(shares.objects, 1.0) if len(self.config.heights.known_m) >= len(self.groups) else shares

    def _metres(self, group: int) -> float:
        return self.heights.heights[group].metres if group in self.heights.heights else math.nan

    def _parts(self, meta: Sequence[Meta]) -> list[str]:
        """Return the name of the part of the recording that each image is in, for findings."""
        named = []
        for one in meta:
            frames = self.frames.get((one.data, one.recording), 0)
            of = max(math.ceil(frames / PARTS), FEWEST_OF_PART)
            first = one.index // of * of
            named.append(
                one.recording if frames <= of else f"{one.recording}, frames {first} to {min(first + of, frames) - 1}"
            )
        return named

    def _logged_values(self, depth: Tensor, road: RoadPixels, known: KnownHeights) -> dict[str, Tensor]:
        """Return logged values: share of accepted objects, spread of depth, camera heights, and the error of depth."""
        has_height = known.object_m.isfinite()
        seen = {
            "objects_believed": (known.weight * has_height).sum() / has_height.sum().clamp(min=1),
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

    def scored(self, batch: RoadBatch, predicted: Prediction) -> dict[str, Tensor | float]:
        """Return the scores of `selfsup` as metres, plus `abs_rel_scaled` (median-scaled) and `camera_height_m`."""
        scores = super().scored(batch, predicted)
        targets = batch.targets
        if targets.depth_m is not None:
            scores["abs_rel_scaled"] = depth_scores(predicted.inverse_depth[0], targets.depth_m, Claim.UP_TO_SCALE)[
                "abs_rel"
            ]
        depth = depth_from_inverse(predicted.inverse_depth[0].float())
        scores["camera_height_m"] = road_pixels(depth, targets.camera, inner(targets.road)).median_height
        return scores

    def validation_images(self) -> Mapping[str, NDArray[np.uint8]]:
        """Add the camera heights of the past epochs."""
        if not any(self.course.of.values()):
            return super().validation_images()
        names, heights = dict(enumerate(self.groups)), self.config.heights
        known = {names[group]: metres for group, metres in heights.known_m.items() if group in names}
        between = {names[group]: ends for group, ends in heights.between_m.items() if group in names}
        drawn = heights_over_epochs(self.course.of, before_m=known, between_m=between)
        return {**super().validation_images(), "camera height": drawn}

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
