"""The identity of the video data of a training, for run.json: a resume compares it, and scores find trained frames."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from stadia.core.recording import Recording
from stadia.datasets.image_files import hash_depth, hash_frames, join_hashes
from stadia.datasets.splits import TargetFrames, TrainValSplit
from stadia.recipes.base.training_overlap import index_spans

POSE_FREQUENCIES = (2.0, 3.0, 5.0, 7.0)
"""Squares of the frequencies whose cosines weigh the numbers of the poses."""


def describe_split(split: TrainValSplit, *, trains_depth: bool) -> dict[str, object]:
    """Return the facts of the recordings and frames of a split.

    trains_depth: whether training reads depth; validation does wherever there is any.

    For `recipes.base.training_overlap` they hold the training frames by number, by file content and by the content of
    their video, and their sessions (drives).
    """
    trained = unique_recordings(split.train)
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
        "train_images": {name: join_hashes(found) for name, found in images.items()},
        **({"train_videos": {name: index_spans(sorted(n)) for name, n in videos.items()}} if videos else {}),
        "train_sessions": sorted({recording.session for recording in trained}),
    }


def measure_poses(recording: Recording) -> list[float] | None:
    """Return the number of poses, and weighted sums of all poses; None where no frame has one.

    Another processor computes the last digits of a pose otherwise, so a hash would differ. `run_facts.match_facts`
    compares the sums within 1e-6, which a change of any pose exceeds.
    """
    poses = [recording.T_world_camera(index) for index in range(len(recording))]
    known = np.stack([np.zeros((3, 4)) if pose is None else pose[:3] for pose in poses]).ravel()
    count = sum(pose is not None for pose in poses)
    if not count:
        return None
    places = np.arange(1, known.size + 1)
    sums = [float(np.cos(math.sqrt(square) * places) @ known) for square in POSE_FREQUENCIES]
    return [float(count), *(total / math.sqrt(count) for total in sums)]


def describe_depth(frames: Sequence[TargetFrames]) -> dict[str, str | None]:
    """Return a hash of the depth files that frames read, by the name of their recording; None without any."""
    found: dict[str, set[tuple[int, str]]] = {}
    for part in frames:
        found.setdefault(part.recording.name, set()).update((index, part.side) for index in part.indices)
    recordings = {recording.name: recording for recording in unique_recordings(frames)}
    return {name: hash_depth(recordings[name], sorted(each)) for name, each in found.items()}


def unique_recordings(frames: Sequence[TargetFrames]) -> list[Recording]:
    """Return the recordings of these frames, each once, in order."""
    return list({id(f.recording): f.recording for f in frames}.values())


def frame_indices(frames: Sequence[TargetFrames]) -> dict[str, list[int]]:
    """Return the frame indices by recording name, ascending; a frame with both sides counts once."""
    found: dict[str, set[int]] = {}
    for part in frames:
        found.setdefault(part.recording.name, set()).update(part.indices)
    return {name: sorted(indices) for name, indices in found.items()}


def _describe_frames(frames: Sequence[TargetFrames]) -> dict[str, list[list[int]]]:
    """Return blocks of the frames' own numbers by recording name."""
    recordings = {recording.name: recording for recording in unique_recordings(frames)}
    return {name: index_spans(map(recordings[name].number, indices)) for name, indices in frame_indices(frames).items()}
