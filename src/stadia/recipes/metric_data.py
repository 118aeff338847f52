"""Road video for the recipe `metric`: recordings as for any recipe of video, with masks, and cameras in groups."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from stadia.core.types import Batch, Inputs, RoadTargets
from stadia.data.height_priors import check_scored_on, prior_of
from stadia.data.loader import Loader
from stadia.data.road_config import RoadConfig
from stadia.data.road_masks import with_masks
from stadia.data.road_samples import PackedRoad, RoadSamples, camera_groups
from stadia.data.road_survey import survey_road
from stadia.data.sources import format_of
from stadia.diagnostics.finding import Finding
from stadia.diagnostics.heights import mask_findings
from stadia.geometry.height_of_drives import DrivesHeight
from stadia.recipes.first_heights import first_heights
from stadia.recipes.loaders import loaders
from stadia.recipes.metric_config import MetricConfig
from stadia.recipes.video import VideoData, open_video, unique_recordings

RoadLoader = Loader[PackedRoad, Batch[Inputs, RoadTargets]]


@dataclass(frozen=True)
class RoadData(VideoData):
    """Batches of road video, what is known of the road, the number of each group of cameras by its name, and what silhouettes say of the
    heights of these before anything is trained (`first_heights`).
    """

    train: RoadLoader  # type: ignore[assignment]
    val: RoadLoader | None  # type: ignore[assignment]
    road: RoadConfig
    groups: Mapping[str, int]
    first: Mapping[int, DrivesHeight]

    @property
    def facts(self) -> dict[str, object]:
        """As of any video, and what identifies the masks."""
        recordings = unique_recordings([*self.split.train, *self.split.val])
        masks = {r.name: r.mask_reader.fingerprint("left") for r in recordings if r.mask_reader is not None}
        return {**super().facts, "masks": masks}

    def findings(self) -> list[Finding]:
        """As of any video, and what the masks of what trains cannot teach."""
        return [*super().findings(), *mask_findings(survey_road(unique_recordings(self.split.train), self.road))]


def open_road_video(config: MetricConfig, console: Console) -> tuple[MetricConfig, RoadData]:
    """Open what a configuration names; it comes back with every "auto" of its data and cameras settled.

    Raises DataError or ConfigError; ConfigError where a height was measured on the data set that validates.
    """
    taken = {name: prior for name in config.road.objects if (prior := prior_of(name, config.road.height_priors)) is not None}
    check_scored_on(taken, [format_of(Path(config.data.path).expanduser(), config.data.format)])
    mono = config.data.model_copy(update={"stereo": False})
    data = open_video(mono, config.training, seed=config.seed, console=console)
    recordings = unique_recordings([*data.split.train, *data.split.val])
    if config.road.masks is not None:
        with_masks(recordings, Path(config.road.masks).expanduser())
    groups = camera_groups(unique_recordings(data.split.train), config.road)
    unknown = {name: len(groups) for name in camera_groups(recordings, config.road) if name not in groups}  # of what validates alone

    def with_road(samples: object) -> RoadSamples:
        return RoadSamples(samples, config.road, groups | unknown, cache=config.data.cache)  # type: ignore[arg-type]

    val = None if data.val is None else with_road(data.val.samples)
    train, val_loader = loaders(with_road(data.train.samples), val, config.training, seed=config.seed)
    first = first_heights(unique_recordings(data.split.train), groups, config.road) if config.first_height == "silhouettes" else {}
    for name, group in groups.items():
        if group in first and group not in config.heights.known_m:
            said = first[group]
            of = f" of the cameras '{name}'" if name else ""
            interval = f"{said.height_m:.2f} m (95 %: {said.low_m:.2f} to {said.high_m:.2f})"
            console.print(f"note: silhouettes alone say a height{of} of {interval}, which teaches from the first step", soft_wrap=True)
    known = {**{group: round(said.height_m, 4) for group, said in first.items()}, **config.heights.known_m}
    between = {**{group: (said.low_m, said.high_m) for group, said in first.items()}, **config.heights.between_m}
    heights = config.heights.model_copy(update={"known_m": known, "between_m": between})
    settled = config.model_copy(update={"data": data.config, "camera_groups": tuple(groups), "heights": heights})
    return settled, RoadData(data.config, data.split, train, val_loader, config.road, groups, first)
