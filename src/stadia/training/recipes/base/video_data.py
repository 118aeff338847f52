"""Open, split, decode and batch the video data of a training, and choose the depth at which it starts.

The photometric loss finds a match only near its start: it corrects starts from .5 to 80 m, in 75 to 350 steps.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from typing import Any, Self, TypeVar

import numpy as np
from rich.console import Console
from rich.progress import TaskID

from stadia.core.errors import ConfigError, DataError
from stadia.core.progress import PAUSE_S, SHOWN_PROGRESS
from stadia.core.terminal import make_progress
from stadia.core.types import Recording
from stadia.data.config import POSES_OF_MAP, DataConfig, DatasetConfig
from stadia.data.frame_store import ReportProgress
from stadia.data.recordings import summarize_recordings
from stadia.data.splits import TargetFrames, TrainValSplit, frame_indices, keep_labeled, open_split, unique_recordings
from stadia.differentiable.batch import Batch
from stadia.io.image_files import hash_depth, hash_frames, join_hashes
from stadia.judge.finding import Finding, Severity
from stadia.judge.recordings.preflight_runner import MAX_PREFLIGHT_SECONDS, run_preflight
from stadia.judge.recordings.recording_survey import Array, RecordingSurvey
from stadia.networks.config import DepthNetworkConfig
from stadia.training.loading.loader import Loader, MixtureLoader, PackedSamples, SequentialLoader
from stadia.training.loading.samples import PackedSample, VideoSamples
from stadia.training.loop.batches import select_device
from stadia.training.loop.config import TrainingConfig
from stadia.training.loss_checks.init_checks import MAX_START_RATIO, MIN_START_RATIO

PackedT = TypeVar("PackedT")
BatchT = TypeVar("BatchT", bound=Batch[Any, Any])


@contextmanager
def report_progress(console: Console, *, log: bool = False) -> Iterator[ReportProgress]:
    """Yield a function that shows progress bars on a terminal, and with `log` prints lines elsewhere."""
    with make_progress(console, "frames") as bars:
        tasks: dict[str, TaskID] = {}
        printed = time.monotonic()

        def report(what: str, done: int, total: int | None) -> None:
            nonlocal printed
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
                line = what
            else:
                line = f"{what}: {done} of {total}" if time.monotonic() - printed >= PAUSE_S else ""
            if line and log and not console.is_terminal and not SHOWN_PROGRESS.is_silent:
                printed = time.monotonic()
                console.print(line, markup=False, highlight=False)
            bars.update(tasks[what], completed=done, total=total)

        yield report


def make_loaders(
    train: PackedSamples[PackedT, BatchT],
    val: PackedSamples[PackedT, BatchT] | None,
    training: TrainingConfig,
    *,
    seed: int,
) -> tuple[Loader[PackedT, BatchT], Loader[PackedT, BatchT] | None]:
    """Return a shuffled training loader, and a validation loader in order; None without validation data."""
    device = select_device(training.accelerator)
    load = partial(
        Loader[PackedT, BatchT], batch_size=training.batch_size, workers=training.workers, seed=seed, device=device
    )
    return load(train, shuffle=True), None if val is None else load(val, shuffle=False)


@dataclass(frozen=True)
class VideoData:
    """Batches for training and validation, and their origin.

    config: configuration of the data with every "auto" resolved.
    split: frames behind the loaders.
    train, val: loaders; val may be None.
    """

    config: DatasetConfig
    split: TrainValSplit
    train: Loader[PackedSample, Batch]
    val: Loader[PackedSample, Batch] | None

    @property
    def data_sets(self) -> Mapping[str, VideoData]:
        """Return the datasets by name; a single one has the name ""."""
        return {"": self}

    @property
    def recordings(self) -> dict[str, list[Recording]]:
        """Return the recordings by split, each once."""
        named = {"train": self.split.train, "val": self.split.val}
        return {name: unique_recordings(frames) for name, frames in named.items() if frames}

    @property
    def facts(self) -> dict[str, object]:
        """Return the identity of the data for run.json, see `describe_split`."""
        return {
            "path": self.config.path,
            **describe_split(self.split, trains_depth=self.config.ground_truth_depth),
            "train_samples": len(self.train.samples),
            "val_samples": len(self.val.samples) if self.val else 0,
        }

    def findings(self) -> list[Finding]:
        """Check every recording, and what the splits share."""
        frames = {"train": self.split.train, "val": self.split.val}
        one_camera = [
            recording
            for part in self.data_sets.values()
            if part.config.offsets and not part.config.stereo
            for recording in unique_recordings([*part.split.train, *part.split.val])
        ]
        splits = {name: [(part.recording, part.indices) for part in parts] for name, parts in frames.items() if parts}
        findings = run_preflight(
            unique_recordings([*self.split.train, *self.split.val]),
            splits,
            seconds=MAX_PREFLIGHT_SECONDS * len(self.data_sets),
            one_camera=one_camera,
        )
        if self.config.poses == POSES_OF_MAP:  # pairs of measured parallax
            findings = [finding for finding in findings if finding.code != LITTLE_PARALLAX]
        if self.config.offsets:
            return findings
        return [
            replace(finding, severity=Severity.NOTE) if finding.code == STATIC_CAMERA else finding
            for finding in findings
            if finding.code != LITTLE_PARALLAX
        ]


STATIC_CAMERA = "D03"
"""This finding is a note without neighbors in time."""

LITTLE_PARALLAX = "D18"
"""This finding is left out without neighbors in time."""

MAX_SPARSE_SHARE = 0.35
"""LiDAR labels a smaller share; depth cameras and renderers label more."""


def measure_labeled_share(recording: Recording) -> float:
    """Return the largest share of labeled pixels in five frames, or in five of those with a file of depth."""

    def measure(indices: Sequence[int]) -> float:
        chosen = (indices[k] for k in np.linspace(0, len(indices) - 1, 5).astype(int))
        maps = (recording.depth_m(index) for index in chosen)
        return max((float((depth_m > 0).mean()) for depth_m in maps if depth_m is not None), default=0.0)

    frames = range(len(recording))
    share = measure(frames)
    if share > 0:
        return share
    labeled = keep_labeled([TargetFrames(recording, frames)])
    return max((measure(part.indices) for part in labeled if len(part.indices) < len(frames)), default=0.0)


def _keep_labeled(
    frames: Sequence[TargetFrames], unlabeled: Sequence[Recording], console: Console
) -> list[TargetFrames]:
    if unlabeled:
        names = ", ".join(recording.name for recording in unlabeled[:3])
        raise DataError(
            f"ground truth of {names}" + f" and {len(unlabeled) - 3} more" * (len(unlabeled) > 3),
            found="no depth in five frames",
            expected="depth in metres for training",
            fix="name the recordings with depth by data.recordings=[...], or train selfsup",
        )
    labeled = keep_labeled(frames)
    before, after = (sum(len(part.indices) for part in parts) for parts in (frames, labeled))
    if after < before:
        note = f"note: {before - after} of {before} training frames have no ground truth and are left out"
        console.print(note, markup=False, soft_wrap=True)
    return labeled


def open_video(config: DatasetConfig, training: TrainingConfig, *, seed: int, console: Console) -> VideoData:
    """Open the data of a configuration, with a progress bar while images are decoded.

    Validation gets ground truth for scores if there is any; training only with `config.ground_truth_depth`. Raises
    DataError; ConfigError also for several datasets.
    """
    if isinstance(config, DataConfig) and config.extra_datasets:
        found, expected = f"the datasets {', '.join(config.sets)}", "one, which is what this recipe trains on"
        fix = "leave data.extra_datasets out, or train selfsup"
        raise ConfigError("data.extra_datasets", found=found, expected=expected, fix=fix)
    with report_progress(console) as progress:
        split = open_split(config, progress)
        shares = {id(r): measure_labeled_share(r) for r in unique_recordings([*split.train, *split.val])}
        if config.ground_truth_depth:
            unlabeled = [r for r in unique_recordings(split.train) if shares[id(r)] == 0]
            split = replace(split, train=_keep_labeled(split.train, unlabeled, console))
        if config.sparse_depth == "auto":
            sparse = any(0 < share < MAX_SPARSE_SHARE for share in shares.values())
            config = config.model_copy(update={"sparse_depth": sparse})
        train = VideoSamples.from_config(split.train, config, training=True, seed=seed, progress=progress)
        config = config.model_copy(update={"stereo": train.stereo})
        val = None
        if split.val:
            with_truth = any(shares[id(recording)] > 0 for recording in unique_recordings(split.val))
            labeled = config.model_copy(update={"ground_truth_depth": with_truth})
            val = VideoSamples.from_config(split.val, labeled, training=False, seed=seed, progress=progress)
    for line in summarize_recordings(unique_recordings([*split.train, *split.val])):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    for recording in unique_recordings([*split.train, *split.val]):
        if selection := getattr(recording, "selection", None):  # Some frames of a user's video were left out.
            console.print(f"{recording.name}: {selection}", markup=False, soft_wrap=True)
    return VideoData(config, split, *make_loaders(train, val, training, seed=seed))


# -- several datasets: each opened alone, their batches alternate


@dataclass(frozen=True)
class MultiVideoData(VideoData):
    """Several datasets as one. `config` is the first dataset's, with the rest in it; `split` has all frames.

    parts: each dataset by name, the first one first.
    """

    config: DataConfig
    train: MixtureLoader[Batch]  # type: ignore[assignment]
    val: SequentialLoader[Batch] | None  # type: ignore[assignment]
    parts: Mapping[str, VideoData]

    @classmethod
    def combine(cls, config: DataConfig, parts: Mapping[str, VideoData], *, seed: int) -> Self:
        """Combine datasets that were opened one by one, with their resolved configurations."""
        first, *_ = parts.values()
        others = {name: part.config for name, part in parts.items() if name != config.name}
        settled = {"stereo": first.config.stereo, "sparse_depth": first.config.sparse_depth}
        config = config.model_copy(update={**settled, "extra_datasets": others})
        split = TrainValSplit(
            train=[frames for part in parts.values() for frames in part.split.train],
            val=[frames for part in parts.values() for frames in part.split.val],
        )
        epochs = {name: data_set.epochs for name, data_set in config.sets.items()}
        train = MixtureLoader({name: part.train for name, part in parts.items()}, epochs, order=config.order, seed=seed)
        validate = {name: part.val for name, part in parts.items() if part.val is not None}
        return cls(config, split, train, SequentialLoader(validate) if validate else None, parts)

    @property
    def data_sets(self) -> Mapping[str, VideoData]:
        return self.parts

    @property
    def facts(self) -> dict[str, object]:
        (name, first), *others = self.parts.items()
        return {**first.facts, "name": name, "extra_datasets": {extra: part.facts for extra, part in others}}

    def summary_lines(self) -> list[str]:
        """Return one line for each dataset."""
        batches = self.train.batches
        return [
            f"dataset {name}: {len(part.train.samples)} samples train, {len(part.val.samples) if part.val else 0}"
            f" validate, {part.config.width}x{part.config.height}, {'stereo' if part.config.stereo else 'one camera'},"
            f" {batches[name]} of {sum(batches.values())} batches an epoch"
            for name, part in self.parts.items()
        ]


def open_data_sets(config: DataConfig, training: TrainingConfig, *, seed: int, console: Console) -> VideoData:
    """Open the one dataset of a configuration, or each of several. Raises DataError, ConfigError."""
    if not config.extra_datasets:
        return open_video(config, training, seed=seed, console=console)
    parts = {}
    for name, data_set in config.sets.items():
        values = {key: getattr(data_set, key) for key in DatasetConfig.model_fields}
        single = DatasetConfig.model_construct(**values)
        parts[name] = open_video(single, training, seed=seed, console=console)
    data = MultiVideoData.combine(config, parts, seed=seed)
    for line in data.summary_lines():
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    return data


DIGITS = 3  # significant digits of depths in the configuration
PAIRS = 6  # matched stereo pairs, spread over the recordings
QUICK_PAIRS = 2  # stereo pairs that confirm most given starts; the others use all
MIN_MATCHES = 30  # matches that give a median

RANGE_PERCENTILES = 2.0, 75.0
"""Nearest and farthest matches are at these percentiles, because far ones are uncertain."""


def resolve_initial_depth(
    config: DepthNetworkConfig, stereo: Sequence[Recording], console: Console
) -> DepthNetworkConfig:
    """Return the configuration with a number for `init_depth_m`; print it unless it is the given one.

    stereo: recordings whose stereo pairs train.
    """
    given = config.init_depth_m
    if given != "auto" and (not stereo or not _is_out_of_reach(given, measure_match_depth(stereo, QUICK_PAIRS))):
        return config
    matches = measure_match_depth(stereo)
    if given != "auto" and not _is_out_of_reach(given, matches):
        return config
    if not matches.is_known:
        resolved = config.model_copy(update={"init_depth_m": config.start_m})
        why = f"{len(matches.depth_m)} matches in {matches.pairs} stereo pairs, and {MIN_MATCHES} are needed"
        why = why if stereo else "one camera has no scale"
        line = f"initial depth: {config.start_m:g}, the default ({why})"
    else:
        resolved = _fit_to_matches(config, matches)
        line = f"initial depth: {resolved.start_m:g} m, the median of {len(matches.depth_m)} matches"
        if resolved.depth_range_m is not None and resolved.depth_range_m != config.depth_range_m:
            line += "; depth range: {:g} to {:g} m".format(*resolved.depth_range_m)
        if given != "auto":
            line += f"; model.network.init_depth_m={given:g} is out of their reach"
    if resolved != config:  # nothing changes if a resumed run already has this range
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    return resolved


def _is_out_of_reach(start_m: float, matches: MatchDepth) -> bool:
    return matches.is_known and not matches.is_in_reach(start_m)


def _fit_to_matches(config: DepthNetworkConfig, matches: MatchDepth) -> DepthNetworkConfig:
    """Return the configuration that starts at the median of the matches, with a range that includes them.

    Only the default range is replaced. A median outside of the given range is moved into it.
    """
    start_m = _round(matches.median_m)
    if config.depth_range_m is None or config.starts_in_metres:
        return config.model_copy(update={"init_depth_m": start_m})
    fields = type(config).model_fields
    default_m = fields["min_depth_m"].default, fields["max_depth_m"].default
    nearest_m, farthest_m = matches.range_m
    min_m, max_m = config.depth_range_m
    if (min_m, max_m) == default_m and not (min_m < nearest_m and farthest_m < max_m):
        unit = matches.median_m / type(config)(name=config.name).start_m
        min_m, max_m = _round(min(min_m * unit, nearest_m)), _round(max(max_m * unit, farthest_m))
    if not min_m < start_m < max_m:
        start_m = min(max(start_m, _round(1.2 * min_m)), _round(max_m / 1.2))
    return type(config).model_validate(
        config.model_dump() | {"init_depth_m": start_m, "min_depth_m": min_m, "max_depth_m": max_m}
    )


def _round(depth_m: float) -> float:
    return float(f"{depth_m:.{DIGITS}g}")


@dataclass(frozen=True, slots=True)
class MatchDepth:
    """Depth of matches by the rig.

    depth_m: (M,) metres.
    pairs: number of matched stereo pairs.
    """

    depth_m: Array
    pairs: int

    @property
    def is_known(self) -> bool:
        """Return whether there are enough matches for a median."""
        return len(self.depth_m) >= MIN_MATCHES

    @property
    def median_m(self) -> float:
        """Return the median depth of the matches in metres."""
        return float(np.median(self.depth_m))

    def is_in_reach(self, start_m: float) -> bool:
        """Return whether training from this depth in metres can reach the matches: 1/3 to 3 times their median."""
        return MIN_START_RATIO <= start_m / self.median_m <= MAX_START_RATIO

    @property
    def range_m(self) -> tuple[float, float]:
        """Return nearest and farthest depth, the RANGE_PERCENTILES."""
        nearest, farthest = np.percentile(self.depth_m, RANGE_PERCENTILES)
        return float(nearest), float(farthest)


def measure_match_depth(recordings: Sequence[Recording], max_pairs: int = PAIRS) -> MatchDepth:
    """Match some stereo pairs, and triangulate. Empty without a stereo pair."""
    surveys = [survey for survey in map(RecordingSurvey, recordings) if survey.stereo]
    chosen = [surveys[i] for i in _spread(len(surveys), max_pairs)]
    depths, pairs = [np.zeros(0)], 0
    for survey in chosen:
        for i in _spread(len(survey.anchors), -(-max_pairs // len(chosen))):
            depth_m = survey.rig_depth(survey.match_pair(survey.anchors[i]))
            depths.append(depth_m[depth_m > 0])
            pairs += 1
    return MatchDepth(np.concatenate(depths), pairs)


def _spread(count: int, wanted: int) -> list[int]:
    wanted = min(wanted, count)
    return [(2 * i + 1) * count // (2 * wanted) for i in range(wanted)]


# -- the frames that train, for run.json: a resume compares them, and scores find them

POSE_FREQUENCIES = (2.0, 3.0, 5.0, 7.0)
"""The cosines of these squared frequencies weigh the numbers of the poses."""


def describe_split(split: TrainValSplit, *, trains_depth: bool) -> dict[str, object]:
    """Return the facts of the recordings and frames of a split, for `TrainingOverlap`.

    trains_depth: whether training reads depth.
    """
    every = unique_recordings([*split.train, *split.val])
    images: dict[str, list[str]] = {}
    videos: dict[str, set[int]] = {}
    for part in split.train:
        if part.recording.video_hash:
            numbers = videos.setdefault(part.recording.video_hash, set())
            numbers.update(map(part.recording.number, part.indices))
        hashes = hash_frames(part.recording, part.indices, part.side)
        images.setdefault(part.recording.name, []).extend(hashes.values())
    return {
        "fingerprints": {recording.name: recording.fingerprint() for recording in every},
        "poses": {recording.name: measure_poses(recording) for recording in every},
        "depth": describe_depth([*(split.train if trains_depth else ()), *split.val]),
        "train_frames": _describe_frames(split.train),
        "val_frames": _describe_frames(split.val),
        "train_images": {name: join_hashes(hashes) for name, hashes in images.items()},
        **({"train_videos": {name: index_spans(sorted(n)) for name, n in videos.items()}} if videos else {}),
        "train_sessions": sorted({recording.session for recording in unique_recordings(split.train)}),
    }


def measure_poses(recording: Recording) -> list[float] | None:
    """Return the number of poses, and weighted sums of all poses; None without poses."""
    poses = [recording.T_world_camera(index) for index in range(len(recording))]
    known = np.stack([np.zeros((3, 4)) if pose is None else pose[:3] for pose in poses]).ravel()
    count = sum(pose is not None for pose in poses)
    if not count:
        return None
    places = np.arange(1, known.size + 1)
    sums = [float(np.cos(math.sqrt(square) * places) @ known) for square in POSE_FREQUENCIES]
    return [float(count), *(total / math.sqrt(count) for total in sums)]


def describe_depth(frames: Sequence[TargetFrames]) -> dict[str, str | None]:
    """Return a hash of the depth files of frames, by the name of their recording, or None."""
    images: dict[str, set[tuple[int, str]]] = {}
    for part in frames:
        images.setdefault(part.recording.name, set()).update((index, part.side) for index in part.indices)
    recordings = {recording.name: recording for recording in unique_recordings(frames)}
    return {name: hash_depth(recordings[name], sorted(sides)) for name, sides in images.items()}


def _describe_frames(frames: Sequence[TargetFrames]) -> dict[str, list[list[int]]]:
    recordings = {recording.name: recording for recording in unique_recordings(frames)}
    return {name: index_spans(map(recordings[name].number, indices)) for name, indices in frame_indices(frames).items()}


def index_spans(numbers: Iterable[int]) -> list[list[int]]:
    """Return ascending numbers as [start, stop) blocks."""
    blocks = (list(block) for _, block in groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0]))
    return [[block[0][1], block[-1][1] + 1] for block in blocks]
