"""The identity of the video data of a training, for run.json: a resume compares it, and scores find trained frames."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from stadia.core.recording import Recording
from stadia.datasets.image_files import encode_name, hash_file, hash_frames, join_hashes
from stadia.datasets.splits import TargetFrames, TrainValSplit
from stadia.recipes.base.training_overlap import index_spans

POSE_DECIMALS = 6
"""Of a pose before it is hashed: another machine may compute its last digits otherwise."""


def describe_split(split: TrainValSplit) -> dict[str, object]:
    """Return the facts of the recordings and frames of a split.

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
        "poses": {recording.name: hash_poses(recording) for recording in every},
        "depth": {recording.name: hash_depth_files(recording) for recording in every},
        "train_frames": _describe_frames(split.train),
        "val_frames": _describe_frames(split.val),
        "train_images": {name: join_hashes(found) for name, found in images.items()},
        **({"train_videos": {name: index_spans(sorted(n)) for name, n in videos.items()}} if videos else {}),
        "train_sessions": sorted({recording.session for recording in trained}),
    }


def hash_poses(recording: Recording) -> str | None:
    """Return a hash of the poses of all frames; None where no frame has one."""
    digest, has_pose = hashlib.blake2b(digest_size=16), False
    for index in range(len(recording)):
        pose = recording.T_world_camera(index)
        has_pose |= pose is not None
        rounded = b"none" if pose is None else (np.round(pose, POSE_DECIMALS) + 0.0).tobytes()  # no -0.0
        digest.update(rounded)
    return digest.hexdigest() if has_pose else None


def hash_depth_files(recording: Recording) -> str | None:
    """Return a hash of the names and sizes of all files of depth, and of what three of them hold; None without any."""
    digest, has_depth = hashlib.blake2b(digest_size=16), False
    for side in recording.sides:
        frames = [[file for file in recording.depth_files(i, side) if file.is_file()] for i in range(len(recording))]
        labeled = [files for files in frames if files]
        has_depth |= bool(labeled)
        for files in frames:
            names = ",".join(f"{file.name}:{file.stat().st_size}" for file in files)
            digest.update(encode_name(f"{side}/{names}\n"))
        for number in sorted({0, len(labeled) // 2, len(labeled) - 1}) if labeled else ():
            digest.update("".join(map(hash_file, labeled[number])).encode())
    return digest.hexdigest() if has_depth else None


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
