"""`stadia odometry`: estimate the trajectory of a camera with a depth recipe, write it, and score it against ground
truth.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from stadia.core.errors import ConfigError, StadiaError
from stadia.core.files import check_writable, inside, replacing, write_json
from stadia.core.types import Claim, Predictor
from stadia.evaluation import FOLLOWERS
from stadia.evaluation.drawings import draw_paths
from stadia.evaluation.follow import FollowedPath, follow
from stadia.evaluation.frames import frame_name
from stadia.evaluation.odometry import TrajectoryScore, score_trajectory
from stadia.evaluation.point_cloud import PlyWriter
from stadia.evaluation.predictions import IN_WORDS, Provenance
from stadia.evaluation.recordings import LEAST_POSES, PATH_ALIGNMENT
from stadia.evaluation.refinement import MapPoints
from stadia.evaluation.to_disk import TRAJECTORY, TRAJECTORY_TUM
from stadia.evaluation.trajectory_files import Trajectory, write_kitti, write_tum
from stadia.evaluation.watch import Watch
from stadia.metrics.trajectory import PathAlignment
from stadia.recipes import workflow
from stadia.recipes.asked import OdometryAsked
from stadia.recipes.inputs import Input, open_input
from stadia.recipes.network_size import note_of_size, other_size
from stadia.recipes.prediction import as_trained
from stadia.training.checkpoints import Checkpoint

DRAWING = "path.png"
POINTS = "points.ply"
RECORD = "odometry.json"


def odometry_asked(request: OdometryAsked, watch: Watch) -> Iterator[str]:
    """Estimate the trajectory of every recording of an input; yield lines for people.

    Raises StadiaError if a folder is not empty: nothing is overwritten.
    """
    FOLLOWERS.check(request.method)
    opened = Checkpoint.open(request.checkpoint)
    size = other_size(request.size, opened.header.config)
    provenance, predictor = (
        Provenance.of(request.checkpoint, asked_size=size),
        workflow.load_predictor(request.checkpoint, size),
    )
    yield from (f"note: {note}" for note in note_of_size(size, opened.header.config))
    inputs = open_input(request.source, **as_trained(request.checkpoint, request.source, request.options))
    out = request.out or _default_folder(request)
    folders = [out] if len(inputs) == 1 else [inside(out, given.name) for given in inputs]
    for folder in folders:
        _check_empty(folder)
    for given, folder in zip(inputs, folders, strict=True):
        yield from _write(
            given,
            predictor,
            folder,
            request.method,
            {"recipe": provenance.recipe, "checkpoint": provenance.checkpoint},
            watch,
        )
    yield f"claim: {IN_WORDS[predictor.claim]}"


def _default_folder(request: OdometryAsked) -> Path:
    """Return a folder in the checkpoint's run. Raises ConfigError without a run."""
    run = next(
        (folder for folder in (request.checkpoint, *request.checkpoint.parents[:2]) if (folder / "run.json").is_file()),
        None,
    )
    if run is None:
        raise ConfigError(
            "--out", found="a checkpoint outside a run's folder", expected="a folder for the path", fix="pass --out DIR"
        )
    return run / "odometry" / f"{request.source.resolve().stem}-{request.method}"


def _check_empty(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise StadiaError(
            folder,
            found="something there already",
            expected="a new or an empty folder",
            fix="choose another --out: nothing is overwritten",
        )
    check_writable(folder)


@contextmanager
def _remove_on_error(folder: Path) -> Iterator[None]:
    """Remove all files and new folders of a trajectory if an error occurs."""
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        yield
    except BaseException:
        for name in (TRAJECTORY, TRAJECTORY_TUM, DRAWING, POINTS, RECORD):
            (folder / name).unlink(missing_ok=True)
        for path in made:
            with suppress(OSError):  # another's file is in it
                path.rmdir()
        raise


def _write(
    given: Input, predictor: Predictor, folder: Path, method: str, about: dict[str, str], watch: Watch
) -> Iterator[str]:
    """Estimate one recording into its folder; yield lines for people."""
    with _remove_on_error(folder):
        path, points = _estimate_path(given, predictor, folder, method, watch)
        score, notes = _score(given, path, predictor.claim, folder / TRAJECTORY)
        if points == 0:
            notes.append(f"{POINTS} is empty: the camera moved too little to estimate the depth of a point to 5 %")
        _write_path(folder, path, method, predictor.claim, score)
        record: dict[str, Any] = {
            **about,
            "claim": str(predictor.claim),
            "method": method,
            "source": given.name,
            "network_size": [predictor.height, predictor.width],
            "frames": list(path.names),
            "keyframes": path.keyframes,
            "frame_ms": {
                "mean": float(path.frame_ms.mean()),
                "median": float(np.median(path.frame_ms)),
                "max": float(path.frame_ms.max()),
            },
            "points": points or 0,
            "score": None if score is None else score.to_json(),
            "notes": notes,
        }
        write_json(folder / RECORD, record)
    rate = 1e3 / path.frame_ms.mean()
    yield (
        f"{folder}: {len(path.names)} poses, {path.keyframes or 'no'} keyframe{'s' * (path.keyframes != 1)}, {rate:.1f}"
        " frames/s"
    )
    if score is not None:
        listed = ", ".join(f"{name} {value:.4g}" for name, value in score.metrics.items() if value is not None)
        yield f"  against the measured path of {score.path_m:.1f} m, {score.alignment}-aligned: {listed}"
    yield from (f"note: {note}" for note in notes)
    yield from (f"  {file.name}" for file in sorted(folder.iterdir()))


def _estimate_path(
    given: Input, predictor: Predictor, folder: Path, method: str, watch: Watch
) -> tuple[FollowedPath, int | None]:
    """Return the trajectory, and the number of map points written; None if the method has no map."""
    frames = watch(given.frames, given.count, f"following {given.name}")
    if method != "refined":
        return follow(predictor, frames, method, source=given.name), None
    unit = "metres" if predictor.claim is Claim.METRES else "up to scale, no metres"
    with replacing(folder / POINTS) as temporary, temporary.open("wb") as stream:
        writer = PlyWriter(stream, unit)

        def take_points(points: MapPoints) -> None:
            writer.add(points.position.numpy(), (255 * points.color).round().byte().numpy())

        path = follow(predictor, frames, method, source=given.name, take_points=take_points)
        writer.finish()
    return path, writer.count


def _write_path(folder: Path, path: FollowedPath, method: str, claim: Claim, score: TrajectoryScore | None) -> None:
    """Write the trajectory as rows and as a drawing, with the true one if there is one."""
    write_kitti(folder / TRAJECTORY, Trajectory(path.T_world_camera))
    known = [time_s for time_s in path.times_s if time_s is not None]
    if len(known) == len(path.names):
        write_tum(folder / TRAJECTORY_TUM, Trajectory(path.T_world_camera, np.array(known)))
    if score is None:
        draw_paths(folder / DRAWING, {method: path.T_world_camera}, claim)
    else:
        seen = score.seen_from_start
        draw_paths(folder / DRAWING, {method: seen["estimated"], "measured": seen["true"]}, Claim.METRES)


def _score(given: Input, path: FollowedPath, claim: Claim, file: Path) -> tuple[TrajectoryScore | None, list[str]]:
    """Score against the recording's poses as `stadia evaluate` does; None if there are too few. Also return notes."""
    truth, ends = dict[int, Any](), [path.ends] if path.ends else []
    if given.recording is not None:
        row = {name: k for k, name in enumerate(path.names)}
        wanted = ((index, frame_name(given.recording, index)) for index in range(len(given.recording)))
        poses = {row[name]: given.recording.T_world_camera(index) for index, name in wanted if name in row}
        truth = {k: pose for k, pose in poses.items() if pose is not None}
    if len(truth) < LEAST_POSES:
        how = f"stadia evaluate --trajectory {file} --reference REF compares with one"
        return None, [f"no measured path here to score by: {how}", *ends]
    rows = sorted(truth)
    estimated = Trajectory(path.T_world_camera[rows])
    reference = Trajectory(np.stack([truth[k] for k in rows]), name=given.name)
    score = score_trajectory(estimated, reference, PATH_ALIGNMENT.get(claim, PathAlignment.SIM3))
    measured = [f"{len(rows)} of {len(path.names)} poses are measured: the score and {DRAWING} are of these"]
    return score, [*(measured if len(rows) < len(path.names) else []), *score.notes, *ends]
