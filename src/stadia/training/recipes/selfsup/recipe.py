"""The recipe `selfsup`: depth and camera motion from unlabeled video (Monodepth2, arXiv 1806.01260).

With a stereo source, whose transform is the rig's, depth is in metres.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor

from stadia.core.errors import ConfigError, StadiaError
from stadia.core.types import LEFT, Camera, DepthScale, PredictedMaps
from stadia.data.config import POSES_OF_MAP, DatasetConfig
from stadia.data.open_dataset import VIDEO, detect_format
from stadia.data.video.video_camera import read_image_size, read_user_camera, read_user_intrinsics
from stadia.data.video.video_map import NO_MOTION_OF_MAP, check_usable, find_map, find_map_folder, find_map_geometry
from stadia.differentiable.batch import Batch
from stadia.io.input_files import expand_home
from stadia.io.run_facts import RecipeFacts
from stadia.losses.loss_report import LossReport, add_terms
from stadia.losses.reprojection import STEREO_SOURCE
from stadia.networks.config import DepthModelConfig
from stadia.predict.predict_frames import predict_frame_depth
from stadia.sfm.odometry.mapped_path import MappedPath, MapUnit, describe_conflict
from stadia.training.loss_checks.loss_case import LossCase
from stadia.training.recipes.base.depth_predictor import adapt_predictor
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
from stadia.training.recipes.base.video_data import VideoData, open_data_sets, report_progress, resolve_initial_depth
from stadia.training.recipes.selfsup.config import SelfsupConfig

MIN_PLACED = 0.5  # a map must place this share of the frames
DIGITS = 3  # significant digits of the unit in the configuration

DatasetT = TypeVar("DatasetT", bound=DatasetConfig)


def resolve_motion(config: SelfsupConfig, console: Console) -> SelfsupConfig:
    """Return the configuration with `motion` resolved: with "map" the datasets take the poses of their maps.

    It prints the reason if a map is not used. Raises ConfigError for motion=map without a usable map, or with a loss
    that gives metres.
    """
    if config.motion == "network":
        return config
    wanted = config.motion == "map" or config.data.poses == POSES_OF_MAP
    metric = [f"loss.{name}" for name in ("sparse_depth", "speed") if getattr(config.loss, name)]
    if wanted and metric:
        found = f"a map together with {' and '.join(metric)}, in metres"
        expected = "one unit: a map is not in metres"
        raise ConfigError("motion=map", found=found, expected=expected, fix=f"leave out the map, or {metric[0]}")
    without = {
        name: reason for name, data in config.data.sets.items() if (reason := find_reason_against(data)) is not None
    }
    missing = next(iter(without.values()), None)
    if missing is None and not metric:
        return _take_maps(config, console)
    if wanted:
        data_set, fix = config.data.sets[next(iter(without))], "set motion=network"
        if not missing and detect_format(expand_home(data_set.path), data_set.format) == VIDEO:
            fix = f"make it: stadia map {data_set.path}; or set motion=network"
        raise ConfigError("motion=map", found=missing or "none", expected="a map of each video", fix=fix)
    if missing is None:
        missing = f"it is not in metres, and {' and '.join(metric)} is"
    if missing:
        console.print(f"the map of the video is not used: {missing}", markup=False, soft_wrap=True)
    return config.model_copy(update={"motion": "network"})


def find_reason_against(data_set: DatasetConfig) -> str | None:
    """Return why a dataset does not take its motion from a map; "" without a map, None if it does.

    Raises DataError if the map's verdict is unusable: its frames show no motion that a network could learn either.
    """
    path = expand_home(data_set.path)
    if not data_set.offsets or data_set.stereo is True:
        return ""
    try:
        is_own = detect_format(path, data_set.format) == VIDEO
        mapped = find_map(path) if is_own else None
        if mapped is None:
            return ""
        if data_set.poses not in (None, POSES_OF_MAP):
            return f"data.poses={data_set.poses} gives the motion"
        camera = read_user_intrinsics(data_set.camera, path, *read_image_size(path))
    except StadiaError as error:
        return str(error) if find_map_folder(path).exists() else ""  # the data themselves report it then
    check_usable(mapped, fix=NO_MOTION_OF_MAP)
    if mapped.placed < MIN_PLACED:
        return f"{find_map_folder(path).name} places {mapped.placed:.0%} of the frames"
    return mapped.find_camera_mismatch(float(camera.select_K(0)[0, 0]) / camera.width)


def _take_maps(config: SelfsupConfig, console: Console) -> SelfsupConfig:
    names = ", ".join(find_map_folder(expand_home(data_set.path)).name for data_set in config.data.sets.values())
    line = f"motion: from {names}, whose points also help depth (motion=network learns the motion instead)"
    console.print(line, markup=False, highlight=False, soft_wrap=True)
    starts_in_metres = config.model.pretrained and config.model.network.starts_in_metres and config.start_from is None

    def take(data_set: DatasetT) -> DatasetT:
        unit = data_set.map_unit_m
        if unit is None and starts_in_metres:
            measured = measure_map_unit(config.model, data_set, console)
            geometry = find_map_geometry(expand_home(data_set.path), skip_damaged=True)
            if measured is not None and geometry is not None:
                unit = float(f"{measured.size / geometry.stored_unit:.{DIGITS}g}")
                line = f"metres: one unit of the map is {measured.size:.{DIGITS}g} m by the depth of the network"
                line += f", +- {1.96 * measured.deviation:.0%} (95 %)"
                if not measured.is_known:
                    line = f"note: lengths of the map are unknown, because {describe_conflict(measured)}"
                console.print(line, markup=False, highlight=False, soft_wrap=True)
        return data_set.model_copy(update={"poses": POSES_OF_MAP, "map_unit_m": unit})

    others = {name: take(data_set) for name, data_set in config.data.extra_datasets.items()}
    data = take(config.data).model_copy(update={"extra_datasets": others})
    return config.model_copy(update={"data": data, "motion": "map"})


def measure_map_unit(model: DepthModelConfig, data_set: DatasetConfig, console: Console) -> MapUnit | None:
    """Return the unit of a video's map in metres, by a network whose published weights predict metres, or None.

    It is measured as `stadia predict` measures it. console: shows progress.
    """
    from stadia.data.frame_preparation import Frame
    from stadia.networks.depth.depth_network import build_depth_network
    from stadia.sfm.frame_stream import FrameStream
    from stadia.training.recipes.base.build_recipe import make_network_recipe

    path = expand_home(data_set.path)
    with suppress(StadiaError):  # a damaged map is reported where its motion is read
        mapped = MappedPath.find(path, DepthScale.METRES)
        if mapped is None:
            return None
        recipe = make_network_recipe(model, build_depth_network(model).eval(), (data_set.height, data_set.width))
        stream = FrameStream.open(path, data_set.camera)
        camera = read_user_camera(data_set.camera, path, *read_image_size(path), frames=stream.count())
        numbers = mapped.list_measured()
        filmed = replace(stream, lens=camera.undistortion).select(numbers)
        frames = (Frame(one.name, one.filmed, camera.intrinsics.select_K(one.index)) for one in filmed)
        with report_progress(console, log=True) as report:
            predict_depth = partial(predict_frame_depth, adapt_predictor(recipe.predictor()))
            for done, _ in enumerate(mapped.observe(predict_depth, frames), 1):
                report("measuring the unit of the map", done, len(numbers))
        return mapped.unit
    return None


PARTLY_MONO_NOTE = (
    "note: depth is up to scale, because {} has no stereo pairs. Metres hold only for images like the stereo pairs"
)

RIG_TOLERANCE = 0.01
"""Rigs may differ by this share of the baseline."""


class SelfsupRecipe(DepthRecipe[SelfsupConfig]):
    """Depth and pose networks, trained by view synthesis."""

    recipe = "selfsup"
    best_metrics = ("val/abs_rel", "val/residual")
    supports_stages = True

    T_right_left: Tensor
    """The rig (4, 4) of the pairs that trained the right view, NaN if unknown; only with a right view."""

    def __init__(self, config: SelfsupConfig) -> None:
        super().__init__(config)
        self.model = make_networks(config)
        self.view_synthesis = ViewSynthesis(config, has_known_motion=config.motion == "map")
        self.teacher = TeacherTerm(config.teacher) if config.teacher.is_used else None
        self.gate = self.view_synthesis.gate  # its buffers belong to checkpoints
        if self.starts_from_published_depth:
            self.start_steps = math.inf
        if config.model.network.predicts_right_view:
            self.register_buffer("T_right_left", torch.full((4, 4), torch.nan))

    # -- training

    def keeps_start(self, metric: str) -> bool:
        is_known = self.config.motion == "map" or not self.config.data.mono
        return super().keeps_start("val/abs_rel" if is_known else metric)

    @property
    def depth_from_step(self) -> int:
        starts_from_depth = self.starts_from_published_depth and not self.has_start
        return find_depth_start(self.config, starts_from_depth=starts_from_depth, last_step=self.last_step)

    def training_step(self, batch: Batch) -> LossReport:
        self.model.holds_depth = self.holds_depth
        prediction = self.model(batch)  # depth at several scales, motion to each source
        report = self.view_synthesis(batch, prediction, self.global_step)  # warp the sources, compare
        if self.holds_depth:
            return report
        if self.teacher is not None:
            report = self.teacher.add(
                report,
                prediction.inverse_depth[0],
                batch,
                student_scale=self.depth_scale,
                step=self.global_step,
                last_step=self.last_step,
                find_residual=self.view_synthesis.residual_finder(batch, prediction, self.global_step),
            )
        if not self.view_synthesis.config.loss.tilt_consistency:
            return report
        tilted = self.view_synthesis.tilt_consistency(self.model.depth, batch.inputs, prediction, self.global_step)
        return add_terms(report, tilted)

    def compile_loss(self, **options: Any) -> None:
        self.view_synthesis.loss.compile(**options)

    def change_loss(self, changes: Mapping[str, Any]) -> None:
        self.view_synthesis.change_loss(self.change_loss_config(changes))

    def loss_cases(self, batch: Batch) -> Mapping[str, LossCase]:
        return self.view_synthesis.loss_cases(batch.source_names, self.last_step)

    def images(self, batch: Batch, report: LossReport) -> Mapping[str, NDArray[np.uint8]]:
        return {**super().images(batch, report), **self.view_synthesis.draw_sources(self.model, batch, report)}

    # -- validation

    def on_validation_start(self) -> None:
        self.view_synthesis.start_validation(self.depth_scale)

    def validation_step(self, batch: Batch) -> Mapping[str, Tensor | float]:
        scale = self.batch_depth_scale(batch)
        return self.view_synthesis.score(batch, self.model(batch), self.global_step, self.last_step, scale)

    def batch_depth_scale(self, batch: Batch) -> DepthScale:
        """Return metres for datasets with a rig, even if others have none: this shows a drift of the scale."""
        return DepthScale.METRES if STEREO_SOURCE in batch.source_names else self.depth_scale

    def validation_summary(self) -> Mapping[str, float]:
        return self.view_synthesis.summary()

    def validation_images(self) -> Mapping[str, NDArray[np.uint8]]:
        return self.view_synthesis.draw_motion()

    # -- prediction

    @property
    def depth_scale(self) -> DepthScale:
        is_metric = self.view_synthesis.config.loss.is_measured or not self.config.data.mono or self._has_metric_map
        return DepthScale.METRES if is_metric else DepthScale.UP_TO_SCALE

    @property
    def _has_metric_map(self) -> bool:
        """Return whether the motion comes from maps whose unit is known in metres."""
        sets = self.config.data.sets.values()
        return self.config.motion == "map" and all(data_set.map_unit_m is not None for data_set in sets)

    def maps(self, image: Tensor, camera: Camera | None = None) -> PredictedMaps:
        left, right, log_uncertainty = self.model.depth(image, camera)
        if not self.config.model.network.predicts_uncertainty:
            log_uncertainty = None
        rig = None if right is None or self.T_right_left.isnan().any() else self.T_right_left
        return PredictedMaps(left[0], right and right[0], log_uncertainty and log_uncertainty[0], rig)

    # -- data

    @classmethod
    def prepare(cls, config: SelfsupConfig, console: Console) -> tuple[SelfsupConfig, VideoData]:
        check_networks(config)
        if config.teacher.is_used:
            check_teacher(config.teacher, config.data.height, config.data.width, console)
        config = resolve_motion(config, console)
        data = open_data_sets(config.data, config.training, seed=config.seed, console=console)
        mono = [name for name, data_set in data.data_sets.items() if not data_set.config.stereo]
        if config.model.network.predicts_right_view and mono:
            found = "recordings of one camera" + f" in {', '.join(mono)}" * bool(mono[0])
            raise ConfigError(
                "model.network.right_view", found=found, expected="a stereo pair, which trains it", fix="leave it out"
            )
        targets = [*data.split.train, *data.split.val]
        if config.model.network.predicts_right_view and any(target.side != LEFT for target in targets):
            raise ConfigError(
                "model.network.right_view",
                found="right images among the targets",
                expected="left images alone",
                fix="keep the lines of the split files that end in l",
            )
        if 0 < len(mono) < len(data.data_sets):
            console.print(PARTLY_MONO_NOTE.format(", ".join(mono)), markup=False, highlight=False, soft_wrap=True)
        config = config.model_copy(update={"data": data.config})
        if config.teacher.network == "auto":
            config = choose_teacher(config)
            if config.teacher.is_used:
                check_teacher(config.teacher, config.data.height, config.data.width, console)
        if config.start_from is not None and config.model.network.init_depth_m != "auto":
            return config, data  # the bias of the heads comes from the checkpoint
        if config.model.pretrained and config.model.network.starts_in_metres:
            return config, data
        stereo = [
            recording
            for data_set in data.data_sets.values()
            if data_set.config.stereo
            for recording in data_set.recordings["train"]
        ]
        return set_network(config, resolve_initial_depth(config.model.network, stereo, console)), data

    def save_data_stats(self, data: VideoData) -> None:
        super().save_data_stats(data)
        check_metric_labels(self.config.loss, data)
        if (finish := self.config.training.finish) is not None and finish.loss:
            check_metric_labels(self.change_loss_config(finish.loss), data)
        self.start_at_initial_depth(data)
        if not self.config.model.network.predicts_right_view:
            return
        rigs = np.stack(
            [recording.T_right_left for recording in data.recordings["train"] if recording.T_right_left is not None]
        )
        if np.ptp(rigs, axis=0).max() < RIG_TOLERANCE * np.linalg.norm(rigs[0, :3, 3]):
            self.T_right_left.copy_(torch.from_numpy(rigs[0]))

    @property
    def run_metadata(self) -> RecipeFacts:
        sets, mono = self.config.data.sets, self.config.data.mono
        facts = super().run_metadata
        own = {**facts.own, "init_depth_m": self.config.model.network.start_m}
        if self.view_synthesis.config.loss.is_measured:
            kinds = {"measured depth": self.config.loss.sparse_depth, "measured motion": self.config.loss.speed}
            return replace(facts, scale_from=" and ".join(name for name, on in kinds.items() if on), own=own)
        if not mono:
            several = f"the baselines of the stereo pairs of {', '.join(sets)}"
            pair = "the baseline of the stereo pair" if len(sets) == 1 else several
            return replace(facts, scale_from=pair, own=own)
        if self._has_metric_map:
            return replace(facts, scale_from="data.map_unit_m, given or by the depth of the start", own=own)
        if len(mono) < len(sets):
            own["without_scale"] = mono
        return replace(facts, own=own)
