"""The recipe `metric`: self-supervised depth of mono road video, in metres by objects of known height.

Each object implies a camera height; their average supervises every frame with a road (FUMET, arXiv 2312.04530).
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor

from stadia.core.types import DepthScale
from stadia.differentiable import torch_state
from stadia.differentiable.batch import Batch, Inputs, Prediction, RoadTargets
from stadia.evaluation.plots.height_charts import EpochHeight, draw_heights_over_epochs
from stadia.geometry.cameras import depth_from_inverse
from stadia.geometry.ground.camera_height import estimate_camera_heights, weight_objects
from stadia.geometry.ground.road_plane import erode_mask, fit_inverse_depth_plane, road_pixel_heights
from stadia.geometry.segments import segments_from_instances
from stadia.io.run_facts import RecipeFacts
from stadia.losses.config import load_loss
from stadia.losses.loss_balance import HeightLossBalance
from stadia.losses.loss_report import LossReport, add_terms, combine_losses
from stadia.losses.metric_scale import KnownHeights, MetricScaleLoss, ScaleLossShares, compute_scale_loss_shares
from stadia.losses.reprojection import find_masked_pixels
from stadia.networks.depth.depth_network import find_depth_range
from stadia.training.loop.run_folder import Run
from stadia.training.loss_checks.loss_case import LossCase, make_camera_height_case
from stadia.training.monitors.training_monitor import check_drift, check_epoch
from stadia.training.recipes.base.depth_recipe import DepthRecipe
from stadia.training.recipes.base.self_supervised import (
    TeacherTerm,
    ViewSynthesis,
    check_metric_labels,
    check_networks,
    check_teacher,
    choose_teacher,
    find_depth_start,
    make_networks,
    set_network,
)
from stadia.training.recipes.base.validation_scores import compute_depth_scores
from stadia.training.recipes.base.video_data import resolve_initial_depth
from stadia.training.recipes.metric.camera_heights import (
    CameraHeights,
    describe_height_priors,
    explain_missing_scale,
    follows_height,
)
from stadia.training.recipes.metric.config import MetricConfig
from stadia.training.recipes.metric.data import RoadVideo, name_drive_parts, open_road_video
from stadia.training.recipes.metric.depth_signs import object_extent, rows_out_of_order, share_at_max_depth

MIN_SCHEDULE_EPOCHS = 4
"""The first height is estimated in the third epoch."""

RoadBatch = Batch[Inputs, RoadTargets]


class MetricRecipe(DepthRecipe[MetricConfig, RoadVideo, Inputs, RoadTargets]):
    """Self-supervised depth with metres from mono road video: object heights and camera heights give the scale.

    camera_height_m: (groups,) buffer, the camera heights of the training, NaN if unknown.
    predicted_height_m: (groups,) buffer, the same in the depth of the last epoch's frames, NaN without a road.
    """

    recipe = "metric"
    base_recipe, compatible_recipes = "selfsup", ("selfsup",)
    data_buffers = ("camera_height_m", "predicted_height_m")
    # the last checkpoint: a residual does not depend on the scale, and ground truth must not choose
    best_metrics = ()

    camera_height_m: Tensor
    predicted_height_m: Tensor

    def __init__(self, config: MetricConfig) -> None:
        super().__init__(config)
        self.model = make_networks(config)
        self.view_synthesis = ViewSynthesis(config)
        self.teacher = TeacherTerm(config.teacher) if config.teacher.is_used else None
        self.gate = self.view_synthesis.gate  # its buffers belong to checkpoints
        if self.starts_from_published_depth:
            self.start_steps = math.inf
        self.scale_loss = load_loss(config.scale.name, MetricScaleLoss, key="scale.name")(config.scale)
        self.heights = CameraHeights(config.heights)
        self.balance = HeightLossBalance(config.scale)
        self.groups = config.camera_groups if isinstance(config.camera_groups, tuple) else ("",)
        for name in self.data_buffers:
            self.register_buffer(name, torch.full((len(self.groups),), math.nan))
        # Number of frames of each training recording, by its dataset and name.
        self.frames: dict[tuple[str, str], int] = {}
        self.epoch_heights: dict[str, list[EpochHeight]] = {name: [] for name in self.groups}

    @classmethod
    def prepare(cls, config: MetricConfig, console: Console) -> tuple[MetricConfig, RoadVideo]:
        check_networks(config)
        if config.teacher.is_used:
            check_teacher(config.teacher, config.data.height, config.data.width, console)
        if not (config.model.pretrained and config.model.network.starts_in_metres):
            config = set_network(config, resolve_initial_depth(config.model.network, (), console))
        config, data = open_road_video(config, console)
        if config.teacher.network == "auto":
            config = choose_teacher(config)
            if config.teacher.is_used:
                check_teacher(config.teacher, config.data.height, config.data.width, console)
        return config, data

    def save_data_stats(self, data: RoadVideo) -> None:
        super().save_data_stats(data)
        check_metric_labels(self.config.loss, data)
        if (finish := self.config.training.finish) is not None and finish.loss:
            check_metric_labels(self.change_loss_config(finish.loss), data)
        self.start_at_initial_depth(data)
        self.frames = {
            (name, recording.name): len(recording)
            for name, data_set in data.data_sets.items()
            for recording in data_set.recordings["train"]
        }

    # -- training step

    @property
    def depth_from_step(self) -> int:
        starts_from_depth = self.starts_from_published_depth and not self.has_start
        return find_depth_start(self.config, starts_from_depth=starts_from_depth, last_step=self.last_step)

    def training_step(self, batch: RoadBatch) -> LossReport:
        road = batch.targets.road
        self.model.holds_depth = self.holds_depth
        prediction = self.model(batch)  # depth at several scales, motion to each source
        unmasked = road if self.config.unmask_road else None
        photometric = self.view_synthesis(batch, prediction, self.global_step, road=unmasked)  # warp, compare
        if self.teacher is not None:
            photometric = self.teacher.add(
                photometric,
                prediction.inverse_depth[0],
                batch,
                student_scale=DepthScale.UP_TO_SCALE,  # metres come from the heights
                step=self.global_step,
                last_step=self.last_step,
                find_residual=self.view_synthesis.residual_finder(batch, prediction, self.global_step),
            )
        metric_scale = self.metric_scale_loss(batch, prediction, photometric.total)  # object heights, camera height
        if self.view_synthesis.config.loss.tilt_consistency:
            tilted = self.view_synthesis.tilt_consistency(self.model.depth, batch.inputs, prediction, self.global_step)
            photometric = add_terms(photometric, tilted)
        report = combine_losses({self.base_recipe: (1.0, photometric), "metric": (1.0, metric_scale)})
        masked = find_masked_pixels(photometric.maps["winner"], len(batch.source_names))
        return replace(report, logged={**report.logged, "metric/road_masked": (masked & road).sum() / road.sum()})

    def metric_scale_loss(self, batch: RoadBatch, prediction: Prediction, photometric: Tensor) -> LossReport:
        """Return the scale loss of a batch. In training, keep the camera heights that its objects imply.

        photometric: (), the loss against which `scale.balance` weights it.
        """
        targets, camera, group = batch.targets, batch.targets.camera, batch.targets.camera_group
        objects = segments_from_instances(targets.objects[:, 0])
        object_m = targets.object_height_m[objects.image, objects.instance - 1]
        with torch.no_grad(), torch.autocast(targets.road.device.type, enabled=False):
            depth = depth_from_inverse(prediction.inverse_depth[0].float())
            road = road_pixel_heights(depth, camera, erode_mask(targets.road))
            kind = self.config.heights.object_depth
            evidence = estimate_camera_heights(depth, camera, road, objects, object_m, kind)
            mismatch = (fit_inverse_depth_plane(depth, camera, road.valid)[:, 3] / road.median_height).log()
        if self.training and not self.holds_depth:  # the depth of the start has no metres yet
            self.heights.add(
                recordings=name_drive_parts(batch.meta, self.frames),
                group=group,
                road_m=road.median_height,
                height_mismatch=mismatch,
                image=objects.image,
                camera_m=evidence.camera_m,
                horizon_m=evidence.horizon_m,
            )
        reference = self.heights.reference_heights(group)[objects.image]
        heights = self.config.heights
        inlier = weight_objects(evidence.horizon_m, reference, tolerance=heights.tolerance)
        inlier = inlier * road.median_height.isfinite()[objects.image]  # No object is on a road that was not found.
        known = KnownHeights(objects, object_m, inlier, self.heights.known_heights(group))
        shares = self.loss_shares()
        report = self.scale_loss(
            prediction.inverse_depth,
            camera,
            targets.road,
            known,
            object_share=shares.objects,
            camera_share=shares.camera,
            balance=partial(self.balance.update, photometric) if self.training else None,
        )
        with torch.no_grad():
            stats = {
                "objects_over_road": (evidence.camera_m / known.camera_m[objects.image]).log().nanmedian(),
                "object_extent": object_extent(depth, objects).nanmedian(),
                "rows_out_of_order": rows_out_of_order(depth, targets.road).nanmean(),
            }
            if (limits_m := find_depth_range(self.config.model.network, camera)) is not None:
                stats["objects_at_limit"] = share_at_max_depth(depth, targets.objects > 0, limits_m[1])
        stats = {**self._height_stats(depth, road.median_height, known), **stats}
        return replace(report, logged={**report.logged, **stats})

    def _height_stats(self, depth: Tensor, road_m: Tensor, known: KnownHeights) -> dict[str, Tensor]:
        has_height = known.object_m.isfinite()
        stats = {
            "inlier_share": (known.weight * has_height).sum() / has_height.sum().clamp(min=1),
            "depth_spread": (depth.flatten(1).std(1) / depth.flatten(1).mean(1)).mean(),
        }
        heights = {name: height for name, height in self._heights_by_name().items() if math.isfinite(height)}
        for name, height in heights.items():
            stats[f"camera_height_known_m/{name}" if name else "camera_height_known_m"] = depth.new_tensor(height)
        if heights:
            stats["off_camera_height"] = (road_m / known.camera_m).log().nanmean()
        return stats

    def _heights_by_name(self) -> dict[str, float]:
        return {name: self.heights.height_m(group) for group, name in enumerate(self.groups)}

    def loss_shares(self) -> ScaleLossShares:
        """Return the weights of the object loss and the camera-height loss in this epoch.

        Objects keep full weight until every camera group has a height.
        """
        assert self.plan is not None
        requested, third = self.config.scale_schedule_epochs, (self._epoch_of(self.plan.total_steps) + 1) // 3
        epochs = max(third, MIN_SCHEDULE_EPOCHS) if requested == "auto" else requested
        shares = compute_scale_loss_shares(self.heights.epoch, epochs=epochs)
        if not all(map(math.isfinite, self._heights_by_name().values())):
            return shares._replace(objects=1.0)
        return shares._replace(camera=1.0) if len(self.config.heights.known_m) >= len(self.groups) else shares

    def compile_loss(self, **options: Any) -> None:
        self.view_synthesis.loss.compile(**options)

    def change_loss(self, changes: Mapping[str, Any]) -> None:
        self.view_synthesis.change_loss(self.change_loss_config(changes))

    def loss_cases(self, batch: RoadBatch) -> Mapping[str, LossCase]:
        cases = self.view_synthesis.loss_cases(batch.source_names, self.last_step)
        if not self.config.scale.camera_height:
            return cases
        return {**cases, "height of the camera": make_camera_height_case(self.scale_loss)}

    def images(self, batch: RoadBatch, report: LossReport) -> Mapping[str, NDArray[np.uint8]]:
        return {**super().images(batch, report), **self.view_synthesis.draw_sources(self.model, batch, report)}

    # -- camera heights over the epochs

    def on_batch_start(self) -> None:
        self.start_epoch(self._epoch_of(self.global_step + 1))

    def _epoch_of(self, step: int) -> int:
        assert self.plan is not None
        epochs = max(self.plan.epoch_of(self.plan.total_steps), 1)
        return self.plan.epoch_of(step) // math.ceil(epochs / self.config.max_height_epochs)

    def start_epoch(self, epoch: int) -> None:
        """Start a new epoch: update the camera heights from the last one, and add its findings."""
        ended = self.heights.epoch
        if epoch == ended:
            return
        estimates = self.heights.begin(epoch)
        known_m = self._heights_by_name()
        for group, (name, height) in enumerate(known_m.items()):
            estimate = estimates.get(group)
            self.camera_height_m[group] = height
            self.predicted_height_m[group] = estimate.road_m if estimate else math.nan
            median_and_quartiles = (estimate.camera_m, estimate.low_m, estimate.high_m) if estimate else (math.nan,) * 3
            refused = estimate.refused if estimate else ""
            self.epoch_heights[name].append(EpochHeight(ended, *median_and_quartiles, height, refused))
        by_name = {self.groups[group]: estimate for group, estimate in estimates.items() if group < len(self.groups)}
        self.found += check_epoch(ended, by_name, first_epoch=self.config.heights.first_epoch, known_m=known_m)
        kept_m = {name: [height.kept_m for height in heights] for name, heights in self.epoch_heights.items()}
        self.found += check_drift(kept_m)
        if epoch == self.config.reinitialize_at_epoch:
            self._reinitialize()
            self.heights.hold(epoch)

    def _reinitialize(self) -> None:
        with torch_state.preserve_generators():
            torch_state.seed_generators(self.config.seed, "anew")
            fresh = make_networks(self.config)
        self.model.load_state_dict(fresh.state_dict())
        assert self.optimizer is not None
        self.optimizer.state.clear()

    def training_state(self) -> dict[str, Any]:
        epoch_heights = {name: [asdict(height) for height in heights] for name, heights in self.epoch_heights.items()}
        heights, balance = self.heights.state_dict(), self.balance.state_dict()
        return {"heights": heights, "epoch_heights": epoch_heights, "balance": balance}

    def load_training_state(self, state: Mapping[str, Any]) -> None:
        self.heights.load_state_dict(state["heights"], rank=self.rank)
        if "balance" in state:
            self.balance.load_state_dict(state["balance"])
        self.epoch_heights = {
            name: [EpochHeight(**height) for height in state["epoch_heights"].get(name, ())] for name in self.groups
        }

    # -- validation

    def on_validation_start(self) -> None:
        # All validations score metres, so that their scores are comparable.
        self.view_synthesis.start_validation(DepthScale.METRES)

    def validation_step(self, batch: RoadBatch) -> Mapping[str, Tensor | float]:
        predicted, targets = self.model(batch), batch.targets
        scores = self.view_synthesis.score(batch, predicted, self.global_step, self.last_step, DepthScale.METRES)
        inverse_depth = predicted.inverse_depth[0]
        if targets.depth_m is not None:
            scaled = compute_depth_scores(inverse_depth, targets.depth_m, DepthScale.UP_TO_SCALE)
            scores["abs_rel_scaled"] = scaled["abs_rel"]
        depth, road = depth_from_inverse(inverse_depth.float()), erode_mask(targets.road)
        scores["camera_height_m"] = road_pixel_heights(depth, targets.camera, road).median_height
        return scores

    def validation_summary(self) -> Mapping[str, float]:
        return self.view_synthesis.summary()

    def validation_images(self) -> Mapping[str, NDArray[np.uint8]]:
        motion = self.view_synthesis.draw_motion()
        if not any(self.epoch_heights.values()):
            return motion
        names, heights = dict(enumerate(self.groups)), self.config.heights
        known = {names[group]: metres for group, metres in heights.known_m.items() if group in names}
        between = {names[group]: ends for group, ends in heights.between_m.items() if group in names}
        drawn = draw_heights_over_epochs(self.epoch_heights, before_m=known, between_m=between)
        return {**motion, "camera height": drawn}

    # -- metres

    @property
    def depth_scale(self) -> DepthScale:
        pairs = zip(self.predicted_height_m.tolist(), self.camera_height_m.tolist(), strict=True)
        return DepthScale.METRES if all(follows_height(*pair) for pair in pairs) else DepthScale.UP_TO_SCALE

    @property
    def run_metadata(self) -> RecipeFacts:
        facts = replace(super().run_metadata, rests_on=describe_height_priors(self.config.road), scale_from=None)
        if self.depth_scale is not DepthScale.METRES:
            return facts
        heights = dict(zip(self.groups, (round(metres, 4) for metres in self.camera_height_m.tolist()), strict=True))
        listed = ", ".join(f"{metres:.2f} m" + f" of '{name}'" * bool(name) for name, metres in heights.items())
        scale_from = f"the camera's height over the road ({listed}), estimated from objects of known height"
        return replace(facts, scale_from=scale_from, own={**facts.own, "camera_height_m": heights})

    def finish_training(self, run: Run, console: Console) -> None:
        why = None if self.depth_scale is DepthScale.METRES else self.explain_missing_scale()
        recipe_facts = replace(self.run_metadata, no_metres=why)
        run.update_facts(lambda facts: replace(facts, recipe_facts=recipe_facts))
        if why is not None:
            console.print(f"note: depth is up to scale: {why}", markup=False, highlight=False, soft_wrap=True)

    def explain_missing_scale(self) -> str:
        """Return why depth is not in metres."""
        return explain_missing_scale(
            self.epoch_heights, self.camera_height_m.tolist(), self.predicted_height_m.tolist()
        )
