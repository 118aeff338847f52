"""Road video of the recipe `metric`: recordings with masks, and cameras in groups."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from stadia.core.types import Batch, Inputs, RoadTargets
from stadia.data.loader import Loader
from stadia.data.mixture import InTurn, Mixture
from stadia.data.road_config import RoadConfig
from stadia.data.road_masks import with_masks
from stadia.data.road_samples import PackedRoad, RoadSamples, camera_groups
from stadia.data.road_survey import survey_road
from stadia.data.sources import format_of
from stadia.diagnostics.finding import Finding
from stadia.diagnostics.heights import mask_findings
from stadia.geometry.height_of_drives import DrivesHeight
from stadia.recipes.data_sets import SeveralData, open_data_sets
from stadia.recipes.first_heights import FirstHeights, first_heights
from stadia.recipes.loaders import loaders
from stadia.recipes.metric_config import MetricConfig
from stadia.recipes.video import VideoData, unique_recordings

RoadLoader = Loader[PackedRoad, Batch[Inputs, RoadTargets]]


@dataclass(frozen=True)
class RoadData(VideoData):
    """Batches of road video, road options, and the number of each camera group by name."""

    train: RoadLoader  # type: ignore[assignment]
    val: RoadLoader | None  # type: ignore[assignment]
    road: RoadConfig
    groups: Mapping[str, int]

    @property
    def facts(self) -> dict[str, object]:
        """Return the facts of video data, and the identity of the masks."""
        recordings = unique_recordings([*self.split.train, *self.split.val])
        masks = {r.name: r.mask_reader.fingerprint("left") for r in recordings if r.mask_reader is not None}
        return {**super().facts, "masks": masks}

    def findings(self) -> list[Finding]:
        """Check as any video, and the masks of the training recordings."""
        return [*super().findings(), *self.findings_of_masks()]

    def findings_of_masks(self) -> list[Finding]:
        """Return findings about the masks of the training recordings."""
        return mask_findings(survey_road(unique_recordings(self.split.train), self.road))


@dataclass(frozen=True)
class SeveralRoadData(SeveralData):
    """Several data sets of road video; camera groups are numbered through all of them."""

    train: Mixture[Batch[Inputs, RoadTargets]]  # type: ignore[assignment]
    val: InTurn[Batch[Inputs, RoadTargets]] | None  # type: ignore[assignment]
    parts: Mapping[str, RoadData]

    def findings(self) -> list[Finding]:
        """Check as any data sets, and the masks of each one: one without cars is found beside others."""
        return [*super().findings(), *(finding for part in self.parts.values() for finding in part.findings_of_masks())]


RoadVideo = RoadData | SeveralRoadData


def open_road_video(config: MetricConfig, console: Console) -> tuple[MetricConfig, RoadVideo]:
    """Open the data of a configuration; return it with every "auto" of data and cameras resolved.

    Raises DataError, ConfigError; ConfigError if a height was measured on a data set that validates.
    """
    config.road.check_scored_on(
        [format_of(Path(one.path).expanduser(), one.format) for one in config.data.sets.values()]
    )
    others = {name: one.model_copy(update={"stereo": False}) for name, one in config.data.others.items()}
    mono = config.data.model_copy(update={"stereo": False, "others": others})
    opened = open_data_sets(mono, config.training, seed=config.seed, console=console)
    if config.road.masks is not None:
        with_masks(unique_recordings([*opened.split.train, *opened.split.val]), Path(config.road.masks).expanduser())
    groups = _number_groups(opened, config.road)
    count = sum(map(len, groups.values()))
    parts = {name: _with_road(one, groups[name], config, unknown_from=count) for name, one in opened.each.items()}
    names = {number: _group_name(name, group) for name, own in groups.items() for group, number in own.items()}
    heights = config.heights
    if config.first_height == "silhouettes":
        first = _first_heights(parts)
        _print_notes(first, {name: group for group, name in names.items()}, heights.known_m, console)
        known = {
            **{group: round(estimated.height_m, 4) for group, estimated in first.estimated.items()},
            **heights.known_m,
        }
        between = {
            **{group: (estimated.low_m, estimated.high_m) for group, estimated in first.estimated.items()},
            **heights.between_m,
        }
        heights = heights.model_copy(update={"known_m": known, "between_m": between})
    alone = parts.get("")
    data = alone or SeveralRoadData.of(mono, parts, seed=config.seed)
    settled = {"data": data.config, "camera_groups": tuple(names.values()), "heights": heights}
    return config.model_copy(update=settled), data


def _number_groups(opened: VideoData, road: RoadConfig) -> dict[str, dict[str, int]]:
    """Return for each data set the numbers of its training camera groups by name, unique over all data sets."""
    groups: dict[str, dict[str, int]] = {}
    for name, one in opened.each.items():
        first, own = sum(map(len, groups.values())), camera_groups(unique_recordings(one.split.train), road)
        groups[name] = {group: first + number for group, number in own.items()}
    return groups


def _group_name(data_set: str, group: str) -> str:
    """Return the name of a camera group among all data sets; a single one has no name."""
    return ": ".join(part for part in (data_set, group) if part)


def _with_road(video: VideoData, groups: Mapping[str, int], config: MetricConfig, *, unknown_from: int) -> RoadData:
    """Return a data set with masks and groups; cameras that only validate are numbered from `unknown_from` on."""
    validating = sorted(camera_groups(unique_recordings(video.split.val), config.road).keys() - groups.keys())
    numbers = {**groups, **{name: number for number, name in enumerate(validating, start=unknown_from)}}

    def with_road(samples: object) -> RoadSamples:
        return RoadSamples(samples, config.road, numbers, cache=video.config.cache)  # type: ignore[arg-type]

    val = None if video.val is None else with_road(video.val.samples)
    train, val_loader = loaders(with_road(video.train.samples), val, config.training, seed=config.seed)
    return RoadData(video.config, video.split, train, val_loader, config.road, groups)


def _first_heights(parts: Mapping[str, RoadData]) -> FirstHeights:
    """Estimate initial heights of all groups, each data set at its image size."""
    estimated: dict[int, DrivesHeight] = {}
    reasons: dict[int, str] = {}
    for part in parts.values():
        recordings = unique_recordings(part.split.train)
        first = first_heights(recordings, part.groups, part.road, height=part.config.height, width=part.config.width)
        estimated |= first.estimated
        reasons |= first.reasons
    return FirstHeights(estimated, reasons)


def _print_notes(
    first: FirstHeights, groups: Mapping[str, int], known_m: Mapping[int, float], console: Console
) -> None:
    """Print a note for each group: the height from silhouettes, or why there is none; and disagreement with a known
    one.
    """
    for name, group in groups.items():
        of = f" of the cameras '{name}'" if name else ""
        estimated = first.estimated.get(group)
        interval = (
            f"{estimated.height_m:.2f} m (95 %: {estimated.low_m:.2f} to {estimated.high_m:.2f})" if estimated else ""
        )
        if group in known_m:
            if estimated is None or estimated.low_m <= known_m[group] <= estimated.high_m:
                continue
            note = (
                f"heights.known_m gives a height{of} of {known_m[group]:.2f} m, silhouettes alone {interval}: one of"
                " them is wrong"
            )
        elif estimated is not None:
            note = f"silhouettes alone give a height{of} of {interval}, which supervises from the first step"
        else:
            reason = first.reasons[group]
            note = f"silhouettes alone give no height{of}: {reason}. Depth gives the first one after some epochs"
        console.print(f"note: {note}", markup=False, highlight=False, soft_wrap=True)
