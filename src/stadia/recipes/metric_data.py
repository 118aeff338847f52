"""Road video for the recipe `metric`: recordings as for any recipe of video, with masks, and cameras in groups."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from stadia.core.types import Batch, Inputs, RoadTargets
from stadia.data.loader import Loader
from stadia.data.road_config import RoadConfig
from stadia.data.road_masks import with_masks
from stadia.data.road_samples import PackedRoad, RoadSamples, camera_groups
from stadia.data.road_survey import survey_road
from stadia.data.sources import format_of
from stadia.diagnostics.finding import Finding
from stadia.diagnostics.heights import mask_findings
from stadia.recipes.first_heights import FirstHeights, first_heights
from stadia.recipes.loaders import loaders
from stadia.recipes.metric_config import MetricConfig
from stadia.recipes.video import VideoData, open_video, unique_recordings

RoadLoader = Loader[PackedRoad, Batch[Inputs, RoadTargets]]


@dataclass(frozen=True)
class RoadData(VideoData):
    """Batches of road video, what is known of the road, and the number of each group of cameras by its name."""

    train: RoadLoader  # type: ignore[assignment]
    val: RoadLoader | None  # type: ignore[assignment]
    road: RoadConfig
    groups: Mapping[str, int]

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
    config.road.check_scored_on([format_of(Path(config.data.path).expanduser(), config.data.format)])
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
    heights = config.heights
    if config.first_height == "silhouettes":
        trains = unique_recordings(data.split.train)
        first = first_heights(trains, groups, config.road, height=data.config.height, width=data.config.width)
        _tell(first, {name: group for name, group in groups.items() if group not in heights.known_m}, console)
        known = {**{group: round(said.height_m, 4) for group, said in first.said.items()}, **heights.known_m}
        between = {**{group: (said.low_m, said.high_m) for group, said in first.said.items()}, **heights.between_m}
        heights = heights.model_copy(update={"known_m": known, "between_m": between})
    settled = config.model_copy(update={"data": data.config, "camera_groups": tuple(groups), "heights": heights})
    return settled, RoadData(data.config, data.split, train, val_loader, config.road, groups)


def _tell(first: FirstHeights, groups: Mapping[str, int], console: Console) -> None:
    """A note of each group: what silhouettes say of its height, or why nothing."""
    for name, group in groups.items():
        of = f" of the cameras '{name}'" if name else ""
        if group in first.said:
            said = first.said[group]
            interval = f"{said.height_m:.2f} m (95 %: {said.low_m:.2f} to {said.high_m:.2f})"
            note = f"silhouettes alone say a height{of} of {interval}, which teaches from the first step"
        else:
            note = f"silhouettes alone say no height{of}: {first.silent[group]}. Depth says the first one, after some epochs"
        console.print(f"note: {note}", markup=False, highlight=False, soft_wrap=True)
