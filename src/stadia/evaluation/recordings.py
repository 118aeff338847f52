"""Evaluate a trained recipe on recordings: predict to disk, then score from disk."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from stadia.core.errors import ProtocolError
from stadia.core.files import inside
from stadia.core.recording import Recording
from stadia.core.types import Claim, Predictor
from stadia.evaluation.odometry import TrajectoryScore, score_trajectory
from stadia.evaluation.predict import TRAJECTORY, Frame, frame_name, frames_of, predict
from stadia.evaluation.predictions import Predictions, Provenance, read_record
from stadia.evaluation.protocols import Protocol
from stadia.evaluation.score import DepthScore, ImageScore, collect, score_images
from stadia.evaluation.trajectory_files import Trajectory, read_kitti
from stadia.metrics.trajectory import PathAlignment

PATH_ALIGNMENT: Mapping[Claim, PathAlignment] = {Claim.METRES: PathAlignment.SE3}
"""The world frame is free (its choice says nothing of the network), the scale only where the claim leaves it open (sim3)."""

Watch = Callable[[Iterable[Frame], int | None, str], Iterable[Frame]]
"""Passes frames through and shows how far they are: (frames, how many if known, whose)."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """depth: None where no recording has ground truth. odometry: by recording, those with poses."""

    depth: DepthScore | None
    odometry: Mapping[str, TrajectoryScore]

    def summary(self) -> dict[str, Any]:
        """Depth's flat summary, and `odometry` by recording."""
        depth = self.depth.summary() if self.depth else {"images": 0}
        return {**depth, "odometry": {name: score.summary() for name, score in self.odometry.items()}}

    def write(self, folder: Path, name: str) -> list[Path]:
        """Write score files: NAME.json for depth, NAME-RECORDING.json for each path; returns them."""
        written = []
        if self.depth is not None:
            written.append(folder / f"{name}.json")
            self.depth.write(written[-1])
        for recording, score in self.odometry.items():
            written.append(folder / f"{name}-{recording.replace('/', '-')}.json")
            score.write(written[-1])
        return written


def unwatched(frames: Iterable[Frame], count: int | None, name: str) -> Iterable[Frame]:
    """Shows nothing."""
    return frames


def evaluate_recordings(
    predictor: Predictor,
    recordings: Sequence[Recording],
    protocol: Protocol,
    out: Path,
    provenance: Provenance,
    *,
    every: int = 1,
    reuse: bool = False,
    watch: Watch = unwatched,
) -> Evaluation:
    """Predict each recording into a folder of its own in `out`, then score what is on disk.

    Args:
        predictor: from `stadia.recipes.load_predictor`.
        recordings: with ground truth depth, poses, or both, for some frames at least.
        protocol: of depth. Paths are aligned by PATH_ALIGNMENT.
        out: a folder; each recording's in it must be new or empty, but for `reuse`.
        provenance: what made the predictions.
        every: predict and score each `every`-th frame.
        reuse: score what is on disk already where `provenance` made it of these frames; refuse it where something else did.
        watch: shows progress.

    Raises ProtocolError where the protocol refuses the claim (before anything is predicted), where `out` holds other
    predictions, or there is nothing to score; StadiaError where `out` is in use.
    """
    protocol.alignment(predictor.claim)
    scores: list[tuple[str, ImageScore | None]] = []
    odometry: dict[str, TrajectoryScore] = {}
    for recording in recordings:
        indices = range(0, len(recording), every)
        if not _has_truth(recording, indices):
            continue  # a benchmark's test sequences: nothing to score, so nothing to predict
        predictions = _predictions(predictor, recording, indices, inside(out, recording.name), provenance, reuse, watch)
        scores += _depth_scores(predictions, recording, indices, protocol)
        path = _path_score(predictions, recording, indices)
        if path is not None:
            odometry[recording.name] = path
    depth = collect(scores, predictor.claim, protocol) if any(score for _, score in scores) else None
    if depth is None and not odometry:
        raise ProtocolError(
            ", ".join(recording.name for recording in recordings[:4]) or "no recording",
            found="neither ground truth depth nor poses",
            expected="one of them",
            cure="evaluate on recordings with ground truth, or use stadia predict",
        )
    return Evaluation(depth, odometry)


def _has_truth(recording: Recording, indices: range) -> bool:
    """Whether some frame has depth or a pose, by a look at a few."""
    some = [indices[k] for k in np.linspace(0, len(indices) - 1, min(len(indices), 5)).astype(int)]
    return any(recording.depth_m(index) is not None or recording.T_world_camera(index) is not None for index in some)


def _predictions(
    predictor: Predictor, recording: Recording, indices: range, folder: Path, provenance: Provenance, reuse: bool, watch: Watch
) -> Predictions:
    """Those that are on disk already, if they are wanted and exactly these; else predicted now."""
    fingerprint = recording.fingerprint()
    if reuse and read_record(folder) is not None:
        found = Predictions.open(folder, predictor.claim)
        found.check_made_by(provenance, fingerprint, [frame_name(recording, index) for index in indices])
        return found
    frames = watch(frames_of(recording, every=indices.step), len(indices), recording.name)
    return predict(predictor, frames, folder, provenance, source=recording.name, fingerprint=fingerprint)


def _depth_scores(
    predictions: Predictions, recording: Recording, indices: range, protocol: Protocol
) -> Iterator[tuple[str, ImageScore | None]]:
    """Scores of one recording, named RECORDING/STEM."""
    truth = {name: partial(recording.depth_m, index) for name, index in zip(predictions.files, indices, strict=True)}
    for name, score in score_images(predictions, truth, protocol):
        yield f"{recording.name}/{name}", score and score.named(f"{recording.name}/{name}")


def _path_score(predictions: Predictions, recording: Recording, indices: range) -> TrajectoryScore | None:
    """The path from disk against the recording's poses, at the frames that have one; None where there are fewer than three."""
    record = predictions.record
    if record is None or not record.trajectory:
        return None
    poses = [recording.T_world_camera(index) for index in indices]
    known = np.array([k for k, pose in enumerate(poses) if pose is not None], dtype=np.intp)
    if len(known) < 3:
        return None
    estimated = read_kitti(predictions.folder / TRAJECTORY).rows(known)
    reference = Trajectory(np.stack([pose for pose in poses if pose is not None]), name=recording.name)
    return score_trajectory(estimated, reference, PATH_ALIGNMENT.get(predictions.claim, PathAlignment.SIM3))
