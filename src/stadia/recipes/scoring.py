"""After a training: predict recordings to disk, score them from disk, and keep both in the run's folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from stadia.core.files import write_json
from stadia.core.recording import Recording
from stadia.core.types import Claim, Predictor
from stadia.evaluation.predict import TRAJECTORY, Frame
from stadia.evaluation.predictions import Provenance
from stadia.evaluation.protocols import PROTOCOLS
from stadia.evaluation.recordings import Evaluation, evaluate_recordings
from stadia.evaluation.trajectory_files import Trajectory, read_kitti
from stadia.training.run import Run

MOST_FRAMES = 1000  # of a validation set: beyond them, every n-th frame is scored
PROTOCOL_BY_CLAIM = {Claim.METRES: "metric", Claim.UP_TO_SCALE: "relative", Claim.AFFINE_INVERSE: "relative"}


def score_recordings(predictor: Predictor, recordings: Sequence[Recording], run: Run, name: str, console: Console) -> Evaluation | None:
    """Score recordings by the protocol that fits the predictor's claim.

    Writes predictions/NAME/, scores/NAME-depth.json and scores/NAME-odometry-RECORDING.json into the run's folder.

    Args:
        predictor: trained.
        recordings: those without ground truth depth and poses are left out.
        run: whose folder is written to.
        name: of the split ("val", "test").
        console: for the progress.

    Returns None where no recording has anything to score by.
    """
    known = [r for r in recordings if r.depth_m(0) is not None or r.T_world_camera(0) is not None]
    if not known:
        return None
    protocol = PROTOCOLS[PROTOCOL_BY_CLAIM[predictor.claim]]
    every = max(1, sum(map(len, known)) // MOST_FRAMES)
    folder = run.folder / "predictions" / name

    def watch(frames: Iterable[Frame], count: int | None, recording: str) -> Iterator[Frame]:
        yield from track(frames, f"predicting {recording}", total=count, console=console, transient=True)

    evaluation = evaluate_recordings(predictor, known, protocol, folder, provenance_of(run), every=every, watch=watch)
    if evaluation.depth:
        evaluation.depth.write(run.folder / "scores" / f"{name}-depth.json")
    for recording in known:
        if recording.name in evaluation.odometry:
            estimated = read_kitti(folder / recording.name / TRAJECTORY)
            score = {**evaluation.odometry[recording.name].summary(), **drawn_paths(estimated, recording, every)}
            write_json(run.folder / "scores" / f"{name}-odometry-{recording.name.replace('/', '-')}.json", score)
    return evaluation


def provenance_of(run: Run) -> Provenance:
    """What made a run's predictions."""
    config = json.dumps(run.config, sort_keys=True).encode()
    return Provenance(recipe=str(run.facts["recipe"]), config_hash=hashlib.sha256(config).hexdigest(), checkpoint="checkpoints/best")


def drawn_paths(estimated: Trajectory, recording: Recording, every: int) -> dict[str, list[list[float]]]:
    """Both paths from above, (x, z) of each frame in the first camera's frame, unaligned: what a report draws."""
    poses = [recording.T_world_camera(index) for index in range(0, len(recording), every)]
    if any(pose is None for pose in poses):
        return {}
    true = Trajectory(np.stack([pose for pose in poses if pose is not None])).from_first_pose()
    return {"path_estimated_m": _from_above(estimated.T_world_camera), "path_true_m": _from_above(true.T_world_camera)}


def _from_above(T_world_camera: NDArray[np.float64]) -> list[list[float]]:
    return np.round(T_world_camera[:, [0, 2], 3], 4).tolist()
