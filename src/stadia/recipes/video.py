"""Video data of a training: open, split, decode once, batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from stadia.core.errors import ConfigError, DataError
from stadia.core.recording import Recording
from stadia.core.types import Batch
from stadia.data.config import DataConfig, OneDataConfig
from stadia.data.contents import contents, joined
from stadia.data.loader import Loader
from stadia.data.packed import Packed
from stadia.data.samples import Samples
from stadia.data.splits import Frames, Split, open_split
from stadia.diagnostics.engine import SECONDS, preflight
from stadia.diagnostics.finding import Finding, Severity
from stadia.recipes.loaders import loaders
from stadia.recipes.scored_frames import spans
from stadia.training.config import TrainingConfig


@dataclass(frozen=True)
class VideoData:
    """Batches for training and validation, and their origin.

    config: of the data, with every "auto" resolved.
    split: frames behind the loaders.
    train, val: loaders; val is None without validation data.
    """

    config: OneDataConfig
    split: Split
    train: Loader[Packed, Batch]
    val: Loader[Packed, Batch] | None

    @property
    def each(self) -> Mapping[str, VideoData]:
        """Return the data sets by name; a single one has the name ""."""
        return {"": self}

    @property
    def recordings(self) -> dict[str, list[Recording]]:
        """Return the recordings by split, each once."""
        named = {"train": self.split.train, "val": self.split.val}
        return {name: unique_recordings(frames) for name, frames in named.items() if frames}

    @property
    def facts(self) -> dict[str, object]:
        """Return the identity of the data for run.json.

        For `recipes.scored_frames` it holds the training frames by number and by file content, and their sessions
        (drives).
        """
        recordings = {recording.name: recording for recording in self.recordings["train"]}
        trained = {
            name: map(recordings[name].number, indices) for name, indices in indices_of(self.split.train).items()
        }
        images: dict[str, list[str]] = {}
        for part in self.split.train:
            images.setdefault(part.recording.name, []).extend(
                contents(part.recording, part.indices, part.side).values()
            )
        return {
            "path": self.config.path,
            "fingerprints": {r.name: r.fingerprint() for recordings in self.recordings.values() for r in recordings},
            "train_frames": {name: spans(numbers) for name, numbers in trained.items()},
            "train_images": {name: joined(found) for name, found in images.items()},
            "train_sessions": sorted({recording.session for recording in recordings.values()}),
            "train_samples": len(self.train.samples),
            "val_samples": len(self.val.samples) if self.val else 0,
        }

    def findings(self) -> list[Finding]:
        """Check every recording, and what the splits share."""
        frames = {"train": self.split.train, "val": self.split.val}
        splits = {name: [(part.recording, part.indices) for part in parts] for name, parts in frames.items() if parts}
        found = preflight(
            unique_recordings([*self.split.train, *self.split.val]), splits, seconds=SECONDS * len(self.each)
        )
        if self.config.offsets:
            return found
        return [
            replace(finding, severity=Severity.NOTE) if finding.code in ABOUT_MOTION else finding for finding in found
        ]


def unique_recordings(frames: Sequence[Frames]) -> list[Recording]:
    """Return the recordings of these frames, each once, in order."""
    return list({id(f.recording): f.recording for f in frames}.values())


def indices_of(frames: Sequence[Frames]) -> dict[str, list[int]]:
    """Return the frame indices by recording name, ascending; a frame with both sides counts once."""
    found: dict[str, set[int]] = {}
    for part in frames:
        found.setdefault(part.recording.name, set()).update(part.indices)
    return {name: sorted(indices) for name, indices in found.items()}


ABOUT_MOTION = {"D03"}
"""Findings that stop nothing without neighbors in time: a camera may stand still."""

SPARSE_BELOW = 0.35
"""Maximum labeled share of sparse depth: LiDAR .03 to .05, KITTI improved .16, depth cameras and renderers above .6."""


def labeled_share(recording: Recording) -> float:
    """Return the largest share of labeled pixels in five frames: the first ones of a drive often have none."""
    maps = (recording.depth_m(index) for index in np.linspace(0, len(recording) - 1, 5).astype(int))
    return max((float((depth_m > 0).mean()) for depth_m in maps if depth_m is not None), default=0.0)


def _check_labeled(bare: Sequence[Recording]) -> None:
    if bare:
        names = ", ".join(recording.name for recording in bare[:3])
        raise DataError(
            f"ground truth of {names}" + f" and {len(bare) - 3} more" * (len(bare) > 3),
            found="no depth in any of five frames",
            expected="depth in metres of what trains",
            fix="name the recordings that have it by data.recordings=[...], or train selfsup, which needs none",
        )


def open_video(config: OneDataConfig, training: TrainingConfig, *, seed: int, console: Console) -> VideoData:
    """Open the data of a configuration, with a progress bar while images are decoded.

    Validation gets ground truth for scores if there is any; training only with `config.ground_truth_depth`.
    Raises DataError, ConfigError; ConfigError for several data sets, which `recipes.data_sets` opens.
    """
    if isinstance(config, DataConfig) and config.others:
        names = ", ".join(config.sets)
        fix = "leave data.others out, or train selfsup"
        raise ConfigError(
            "data.others", found=f"the data sets {names}", expected="one, which is what this recipe trains on", fix=fix
        )
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        tasks: dict[str, TaskID] = {}

        def progress(what: str, done: int, total: int | None) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done, total=total)

        split = open_split(config, progress)
        shares = {id(r): labeled_share(r) for r in unique_recordings([*split.train, *split.val])}
        if config.ground_truth_depth:
            _check_labeled([r for r in unique_recordings(split.train) if shares[id(r)] == 0])
        if config.sparse_depth == "auto":
            config = config.model_copy(
                update={"sparse_depth": any(0 < share < SPARSE_BELOW for share in shares.values())}
            )
        train = Samples.from_config(split.train, config, training=True, seed=seed, progress=progress)
        config = config.model_copy(update={"stereo": train.stereo})
        val = None
        if split.val:
            with_truth = any(shares[id(recording)] > 0 for recording in unique_recordings(split.val))
            val = Samples.from_config(
                split.val,
                config.model_copy(update={"ground_truth_depth": with_truth}),
                training=False,
                seed=seed,
                progress=progress,
            )
    for recording in unique_recordings([*split.train, *split.val]):
        if selection := getattr(recording, "selection", None):  # of your own video: which frames were left out
            console.print(f"{recording.name}: {selection}", markup=False, soft_wrap=True)
    return VideoData(config, split, *loaders(train, val, training, seed=seed))
