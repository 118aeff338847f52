"""`stadia odometry`: the path of a camera by a trained recipe of depth, into files, and scored where the truth is
known.
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

DRAWING, POINTS, RECORD = "path.png", "points.ply", "odometry.json"


def odometry_asked(asked: OdometryAsked, watch: Watch) -> Iterator[str]:
    """Follow every recording of an input into a folder; gives the lines to say.

    Raises StadiaError where a folder is in use: nothing is overwritten.
    """
    FOLLOWERS.check(asked.method)
    opened = Checkpoint.open(asked.checkpoint)
    size = other_size(asked.size, opened.header.config)
    provenance, predictor = (
        Provenance.of(asked.checkpoint, asked_size=size),
        workflow.load_predictor(asked.checkpoint, size),
    )
    yield from (f"note: {note}" for note in note_of_size(size, opened.header.config))
    inputs = open_input(asked.source, **as_trained(asked.checkpoint, asked.source, asked.options))
    out = asked.out or _beside_the_run(asked)
    folders = [out] if len(inputs) == 1 else [inside(out, given.name) for given in inputs]
    for folder in folders:
        _check_free(folder)
    for given, folder in zip(inputs, folders, strict=True):
        yield from _write(
            given,
            predictor,
            folder,
            asked.method,
            {"recipe": provenance.recipe, "checkpoint": provenance.checkpoint},
            watch,
        )
    yield f"claim: {IN_WORDS[predictor.claim]}"


def _beside_the_run(asked: OdometryAsked) -> Path:
    """A folder of the checkpoint's run, or a ConfigError where there is none."""
    run = next(
        (folder for folder in (asked.checkpoint, *asked.checkpoint.parents[:2]) if (folder / "run.json").is_file()),
        None,
    )
    if run is None:
        raise ConfigError(
            "--out", found="a checkpoint outside a run's folder", expected="a folder for the path", fix="pass --out DIR"
        )
    return run / "odometry" / f"{asked.source.resolve().stem}-{asked.method}"


def _check_free(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise StadiaError(
            folder,
            found="something there already",
            expected="a new or an empty folder",
            fix="choose another --out: nothing is overwritten",
        )
    check_writable(folder)


@contextmanager
def _all_or_nothing(folder: Path) -> Iterator[None]:
    """The files of a path together, or none of them and no folder that was made for them."""
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
    """Follow one recording into its folder; gives the lines to say."""
    with _all_or_nothing(folder):
        path, points = _follow(given, predictor, folder, method, watch)
        score, notes = _score(given, path, predictor.claim, folder / TRAJECTORY)
        if points == 0:
            notes.append(
                f"{POINTS} is empty: the camera moved too little for the images to tell the depth of a point to 5 %"
            )
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
        told = ", ".join(f"{name} {value:.4g}" for name, value in score.metrics.items() if value is not None)
        yield f"  against the measured path of {score.path_m:.1f} m, {score.alignment}-aligned: {told}"
    yield from (f"note: {note}" for note in notes)
    yield from (f"  {file.name}" for file in sorted(folder.iterdir()))


def _follow(
    given: Input, predictor: Predictor, folder: Path, method: str, watch: Watch
) -> tuple[FollowedPath, int | None]:
    """The path, and how many points its map holds, written as they come; None where the method makes none."""
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
    """As rows and drawn, beside the measured one where there is one."""
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
    """Against the recording's poses, as `stadia evaluate` scores them, None where there are too few; and what is to be
    noted.
    """
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
