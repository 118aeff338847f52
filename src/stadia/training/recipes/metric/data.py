"""Road video with masks: datasets, camera groups, and initial camera heights from silhouettes."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from stadia.core.errors import DataError, GeometryError
from stadia.core.types import LEFT, Recording
from stadia.data.frame_selection import spread_indices
from stadia.data.height_priors import RoadConfig
from stadia.data.mask_files import MAKE_MASKS, attach_masks
from stadia.data.mask_objects import find_mask_boxes
from stadia.data.open_dataset import detect_format
from stadia.data.splits import unique_recordings
from stadia.data.surveys import survey_masks
from stadia.differentiable.batch import Batch, Inputs, Meta, RoadTargets
from stadia.geometry.ground.drive_heights import (
    DRIVE_PARTS,
    MIN_PART_FRAMES,
    DriveHeights,
    estimate_drive_heights,
    track_boxes,
    transform_box,
)
from stadia.io.input_files import expand_home
from stadia.judge.catalog import make_finding
from stadia.judge.finding import Finding, Severity
from stadia.judge.recordings.label_checks import check_masks
from stadia.training.loading.loader import Loader, MixtureLoader, SequentialLoader
from stadia.training.loading.road_samples import (
    PackedRoad,
    RoadSamples,
    find_camera_group,
    find_object_height_m,
    number_camera_groups,
)
from stadia.training.recipes.base.video_data import MultiVideoData, VideoData, make_loaders, open_data_sets
from stadia.training.recipes.metric.config import PLAUSIBLE_HEIGHT_M, MetricConfig

RoadLoader = Loader[PackedRoad, Batch[Inputs, RoadTargets]]


@dataclass(frozen=True)
class RoadData(VideoData):
    """Batches of road video, road options, the number of each camera group by name, and findings about its height."""

    train: RoadLoader  # type: ignore[assignment]
    val: RoadLoader | None  # type: ignore[assignment]
    road: RoadConfig
    groups: Mapping[str, int]
    height_findings: tuple[Finding, ...] = ()

    @property
    def facts(self) -> dict[str, object]:
        recordings = unique_recordings([*self.split.train, *self.split.val])
        masks = {r.name: r.mask_reader.fingerprint("left") for r in recordings if r.mask_reader is not None}
        return {**super().facts, "masks": masks}

    def findings(self) -> list[Finding]:
        return [*super().findings(), *self.road_mask_findings(), *self.height_findings]

    def road_mask_findings(self) -> list[Finding]:
        """Return findings about the masks of the training recordings."""
        return check_masks(survey_masks(unique_recordings(self.split.train), self.road))


@dataclass(frozen=True)
class MultiRoadData(MultiVideoData):
    """Several datasets of road video; camera groups are numbered through all of them."""

    train: MixtureLoader[Batch[Inputs, RoadTargets]]  # type: ignore[assignment]
    val: SequentialLoader[Batch[Inputs, RoadTargets]] | None  # type: ignore[assignment]
    parts: Mapping[str, RoadData]

    def findings(self) -> list[Finding]:
        masks = join_mask_findings([part.road_mask_findings() for part in self.parts.values()])
        heights = [finding for part in self.parts.values() for finding in part.height_findings]
        return [*super().findings(), *masks, *heights]


def join_mask_findings(parts: Sequence[Sequence[Finding]]) -> list[Finding]:
    """Return the findings about the masks of all datasets; one of them needs masks."""
    findings = [finding for part in parts for finding in part]
    if all(any(finding.severity is Severity.STOP for finding in part) for part in parts):
        return findings
    return [
        replace(finding, severity=Severity.WARN) if finding.severity is Severity.STOP else finding
        for finding in findings
    ]


RoadVideo = RoadData | MultiRoadData


def open_road_video(config: MetricConfig, console: Console) -> tuple[MetricConfig, RoadVideo]:
    """Open the data of a configuration; return it with every "auto" of data and cameras resolved.

    Raises DataError; ConfigError also if a height was measured on a dataset that validates.
    """
    formats = [detect_format(expand_home(data_set.path), data_set.format) for data_set in config.data.sets.values()]
    config.road.check_scored_on(formats)
    others = {
        name: data_set.model_copy(update={"stereo": False}) for name, data_set in config.data.extra_datasets.items()
    }
    mono = config.data.model_copy(update={"stereo": False, "extra_datasets": others})
    opened = open_data_sets(mono, config.training, seed=config.seed, console=console)
    if config.road.masks is not None:
        attach_masks(unique_recordings([*opened.split.train, *opened.split.val]), expand_home(config.road.masks))
    groups = _number_groups(opened, config.road)
    count = sum(map(len, groups.values()))
    parts = {
        name: _with_road(data_set, groups[name], config, unknown_from=count)
        for name, data_set in opened.data_sets.items()
    }
    names = {
        number: ": ".join(filter(None, (name, group)))
        for name, numbers in groups.items()
        for group, number in numbers.items()
    }
    heights = config.heights
    if config.first_height == "silhouettes":
        first = _first_heights(parts)
        data_sets = {number: name for name, numbers in groups.items() for number in numbers.values()}
        for number, finding in check_known_heights(heights.known_m, first.estimated).items():
            part = parts[data_sets[number]]
            parts[data_sets[number]] = replace(part, height_findings=(*part.height_findings, finding))
        _print_notes(first, names, heights.known_m, console)
        known = {number: round(height.height_m, 4) for number, height in first.estimated.items()}
        between = {number: (height.low_m, height.high_m) for number, height in first.estimated.items()}
        settled = {"known_m": known | heights.known_m, "between_m": between | heights.between_m}
        heights = heights.model_copy(update=settled)
    data = parts.get("") or MultiRoadData.combine(mono, parts, seed=config.seed)
    resolved = {"data": data.config, "camera_groups": tuple(names.values()), "heights": heights}
    return config.model_copy(update=resolved), data


def _number_groups(opened: VideoData, road: RoadConfig) -> dict[str, dict[str, int]]:
    groups: dict[str, dict[str, int]] = {}
    for name, data_set in opened.data_sets.items():
        first = sum(map(len, groups.values()))
        numbers = number_camera_groups(unique_recordings(data_set.split.train), road)
        groups[name] = {group: first + number for group, number in numbers.items()}
    return groups


def _with_road(video: VideoData, groups: Mapping[str, int], config: MetricConfig, *, unknown_from: int) -> RoadData:
    validating = sorted(number_camera_groups(unique_recordings(video.split.val), config.road).keys() - groups.keys())
    numbers = {**groups, **{name: number for number, name in enumerate(validating, start=unknown_from)}}

    def with_road(samples: object) -> RoadSamples:
        return RoadSamples(samples, config.road, numbers, cache=video.config.cache)  # type: ignore[arg-type]

    val = None if video.val is None else with_road(video.val.samples)
    train, val_loader = make_loaders(with_road(video.train.samples), val, config.training, seed=config.seed)
    return RoadData(video.config, video.split, train, val_loader, config.road, groups)


def name_drive_parts(meta: Iterable[Meta], frames: Mapping[tuple[str, str], int]) -> list[str]:
    """Return for each image the part of its recording, as findings name it.

    frames: number of frames of each recording, by its dataset and name.
    """
    names = []
    for image in meta:
        count = frames.get((image.data, image.recording), 0)
        length = max(math.ceil(count / DRIVE_PARTS), MIN_PART_FRAMES)
        first = image.index // length * length
        part = f", frames {first} to {min(first + length, count) - 1}" if count > length else ""
        names.append(image.recording + part)
    return names


def _first_heights(parts: Mapping[str, RoadData]) -> "InitialHeights":
    estimated: dict[int, DriveHeights] = {}
    reasons: dict[int, str] = {}
    for part in parts.values():
        recordings = unique_recordings(part.split.train)
        first = estimate_initial_heights(
            recordings, part.groups, part.road, height=part.config.height, width=part.config.width
        )
        estimated |= first.estimated
        reasons |= first.reasons
    return InitialHeights(estimated, reasons)


def _print_notes(
    first: "InitialHeights", names: Mapping[int, str], known_m: Mapping[int, float], console: Console
) -> None:
    for number, name in names.items():
        of = f" of the cameras '{name}'" if name else ""
        estimated = first.estimated.get(number)
        interval = (
            f"{estimated.height_m:.2f} m (95 %: {estimated.low_m:.2f} to {estimated.high_m:.2f})" if estimated else ""
        )
        if number in known_m:
            if estimated is None or estimated.low_m <= known_m[number] <= estimated.high_m:
                continue
            note = (
                f"the height{of} is {known_m[number]:.2f} m by heights.known_m, but {interval} by silhouettes: check it"
            )
        elif estimated is not None:
            note = f"camera height{of} by silhouettes: {interval}, used from the first step"
        else:
            note = (
                f"no camera height{of} by silhouettes: {first.reasons[number]}. Depth gives one after some epochs. Or"
                f" estimate it with stadia camera-height, and pass heights.known_m.{number}=METRES"
            )
        console.print(f"note: {note}", markup=False, highlight=False, soft_wrap=True)


# -- initial heights from silhouettes
#
# Self-supervised depth has a wrong minimum: a tilted road with matching motion explains images nearly as well as a
# level road, and its height is wrong (docs/explanation/metric.md). Objects of known height avoid it: they need no
# depth.

MAX_HEIGHT_FRAMES = 1000
"""A group has at most this many frames, evenly spaced."""

MAX_HEIGHT_FACTOR = 1.3
"""A height contradicts an interval if it is outside by this factor."""

MAX_LOG_INTERVAL = math.log(1.3)
"""A wider 95 % interval, as a log ratio, is not used."""


@dataclass(frozen=True, slots=True)
class InitialHeights:
    """Estimates of the height, or reasons against one, by group number."""

    estimated: Mapping[int, DriveHeights]
    reasons: Mapping[int, str]


def estimate_initial_heights(
    recordings: Sequence[Recording], groups: Mapping[str, int], config: RoadConfig, *, height: int, width: int
) -> InitialHeights:
    """Estimate the height of each camera group from silhouettes.

    groups: their numbers by name.
    height, width: network image size, the unit of `config.border_px`.
    """
    low_m, high_m = PLAUSIBLE_HEIGHT_M
    estimated: dict[int, DriveHeights] = {}
    reasons: dict[int, str] = {}
    for name, number in groups.items():
        mounted = [recording for recording in recordings if find_camera_group(recording, config) == name]
        sightings = _collect_sightings(mounted, config, height, width)
        try:
            fitted = _fit_height(sightings, float(mounted[0].K(0)[1, 1]))
        except GeometryError as error:
            reasons[number] = f"{error.found}, {error.expected} are needed{sightings.unread_note}"
            continue
        if not low_m <= fitted.height_m <= high_m:
            expected = f"expected {low_m:g} to {high_m:g} m"
            reasons[number] = f"{fitted.height_m:.3g} m, {expected}{sightings.unread_note}"
        elif math.log(fitted.high_m / fitted.low_m) < MAX_LOG_INTERVAL:
            estimated[number] = fitted
        else:
            reasons[number] = f"the interval is {fitted.low_m:.2f} to {fitted.high_m:.2f} m{sightings.unread_note}"
    return InitialHeights(estimated, reasons)


def check_known_heights(known_m: Mapping[int, float], estimated: Mapping[int, DriveHeights]) -> dict[int, Finding]:
    """Return H20 by the number of each group whose known height is outside of the interval from silhouettes."""
    findings = {}
    for group in sorted(known_m.keys() & estimated.keys()):
        known, by_silhouettes = known_m[group], estimated[group]
        low, high = by_silhouettes.low_m, by_silhouettes.high_m
        if low <= known <= high:
            continue
        severity = Severity.stop_if(known < low / MAX_HEIGHT_FACTOR or known > high * MAX_HEIGHT_FACTOR)
        measured, expected = f"heights.known_m gives {known:.2f} m for group {group}", f"{low:.2f} to {high:.2f} m"
        evidence = {"known_m": known, "silhouettes_m": by_silhouettes.height_m, "objects": by_silhouettes.inlier_count}
        findings[group] = make_finding(
            "H20", severity, measured, f"{expected}, by {by_silhouettes.inlier_count} objects", evidence=evidence
        )
    return findings


@dataclass(frozen=True, slots=True)
class _Sightings:
    """Boxes of objects with known height.

    rows: drive, frame, box edges from the first camera's principal point (pixels), object height (metres).
    unread: error of each frame without masks.
    """

    rows: Sequence[tuple[float, ...]]
    frames: int
    unread: Sequence[str]

    @property
    def unread_note(self) -> str:
        if not self.unread:
            return ""
        return f"; masks of {len(self.unread)} of {self.frames} frames cannot be read, such as: {self.unread[0]}"


def _collect_sightings(recordings: Sequence[Recording], config: RoadConfig, height: int, width: int) -> _Sightings:
    every = [(drive, index) for drive, recording in enumerate(recordings) for index in range(len(recording))]
    chosen = [every[at] for at in spread_indices(len(every), MAX_HEIGHT_FRAMES)]
    rows: list[tuple[float, ...]] = []
    unread = []
    for drive, index in chosen:
        recording = recordings[drive]
        camera = recording.camera(index)
        margin_px = config.border_px * max(camera.height / height, camera.width / width)
        try:
            boxes = _read_frame(recording, index, recordings[0].K(0), config, margin_px)
        except DataError as error:
            unread.append(str(error))
            continue
        rows += [(drive, index, *box) for box in boxes]
    return _Sightings(rows, len(chosen), unread)


def _fit_height(sightings: _Sightings, focal_px: float) -> DriveHeights:
    rows = np.array(sightings.rows, np.float64).reshape(-1, 7)
    drive, frame = rows[:, 0].astype(np.int64), rows[:, 1].astype(np.int64)
    box_px, height_m = rows[:, 2:6], rows[:, 6]
    top, bottom = box_px[:, 1], box_px[:, 3]
    track = np.zeros_like(drive)
    for number in np.unique(drive):  # instance numbers differ between images, so boxes are tracked
        in_drive = drive == number
        track[in_drive] = track_boxes(frame[in_drive], box_px[in_drive])
    return estimate_drive_heights(drive, track, bottom, bottom - top, height_m, focal_px=focal_px)


def _read_frame(
    recording: Recording, index: int, K: NDArray[np.float64], config: RoadConfig, margin_px: float
) -> list[tuple[float, ...]]:
    """Return box edges and known height (metres) of each whole object.

    Edges are in pixels of a camera with matrix K, from its principal point. Raises DataError without readable masks.
    """
    masks = recording.masks(index, LEFT)
    if masks is None or recording.mask_reader is None:
        what = f"masks of {recording.name}, frame {index}"
        raise DataError(what, found="none", expected="a file of each frame", fix=MAKE_MASKS)
    boxes = []
    for box in find_mask_boxes(masks, recording.mask_reader.classes, margin_px=margin_px):
        metres = find_object_height_m(recording, index, LEFT, box.number, box.class_name, config)
        if math.isfinite(metres) and not box.hidden and not box.cut:
            edges = transform_box(np.array(box.box_px), recording.K(index), K)
            boxes.append((*(edges - np.tile(K[:2, 2], 2)).tolist(), metres))
    return boxes
