"""Write predicted frames to a folder. Imports no torch."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError, StadiaError
from stadia.core.types import DepthScale
from stadia.evaluation.io.depth_files import write_depth_map, write_depth_png
from stadia.evaluation.io.predictions_folder import (
    DEPTH_KEYS,
    RECORD,
    SCALE_DESCRIPTIONS,
    UNCERTAINTY_KEY,
    Predictions,
    PredictionsRecord,
    Provenance,
    read_record,
)
from stadia.evaluation.predict.frame_preparation import Listener, Network, PredictedFrame

log = logging.getLogger(__name__)

TRAJECTORY, TRAJECTORY_TUM = "trajectory.txt", "trajectory_tum.txt"


def write_predictions(
    frames: Iterable[PredictedFrame],
    network: Network,
    out: Path,
    provenance: Provenance,
    *,
    source: str,
    fingerprint: str = "",
    listeners: Sequence[Listener] = (),
) -> Predictions:
    """Write predicted frames into a new folder (layout: `stadia.evaluation.io.predictions_folder`).

    Args:
        frames: an iterable that predicts; it is consumed once the folder is checked.
        network: that predicted them.
        out, provenance, source, fingerprint, listeners: as of `stadia.evaluation.predict.predict_frames.predict_to_folder`, with the same
            errors.
    """
    out = Path(out)
    names: dict[str, None] = {}
    poses: dict[str, NDArray[np.float64]] = {}
    ends = ""
    times: list[float | None] = []
    sizes: set[tuple[int, int]] = set()
    record = PredictionsRecord(
        depth_scale=network.depth_scale,
        trust=SCALE_DESCRIPTIONS[network.depth_scale],
        source=source,
        fingerprint=fingerprint,
        network_size=(network.height, network.width),
        crop=network.crop,
        **provenance.model_dump(),
    )
    _make_room(out, record)
    record.write(out)
    for predicted in frames:
        name = predicted.frame.name
        if name in names:
            raise DataError(
                source, found=f"two frames called '{name}'", expected="one name a frame", fix="rename the images"
            )
        _write_maps(out, predicted)
        for listener in listeners:
            listener(predicted)
        names[name] = None
        sizes.add(predicted.image_size)
        if predicted.T_world_camera is not None:
            poses[name] = predicted.T_world_camera
            times.append(predicted.frame.time_s)
        elif predicted.frame.on_path and poses and not ends:
            ends = f"the path ends at {next(reversed(poses))}: the motion to {name} is unknown"
    if not names:
        raise DataError(source, found="no frame", expected="at least one image", fix="check the input")
    path = tuple(poses) if len(poses) > 1 else ()
    if poses and not path:
        ends = _why_no_path(list(names), next(iter(poses)), ends)
    if path:
        _write_path(out, np.stack(list(poses.values())), times)
    found = {"entries": tuple(names), "path": path, "path_ends": ends}
    record.model_copy(update={**found, "finished": True, "image_size": sizes.pop() if len(sizes) == 1 else None}).write(
        out
    )
    return Predictions.open(out)


def _why_no_path(names: Sequence[str], start: str, ends: str) -> str:
    """Explain why only the first frame has a pose; empty for a single frame.

    ends: the reason, if there is one; empty where the camera stands still, so that no later frame is on the path
    (`datasets.video.frame_selection.FrameSelector`).
    """
    if len(names) == 1:
        return ""
    stood = f"no frame shows that the camera has moved since {start} (data.stride=1 takes each frame)"
    return f"no path: {ends.partition(': ')[2] or stood}"


def _write_maps(folder: Path, predicted: PredictedFrame) -> None:
    """Write the map as predicted with its K, and a PNG at the image's size for people and other programs."""
    stem = folder / "depth" / predicted.frame.name
    affine = predicted.depth_scale is DepthScale.AFFINE_INVERSE
    arrays: dict[str, NDArray] = {
        DEPTH_KEYS[predicted.depth_scale]: predicted.inverse_depth if affine else predicted.depth(),
        "K": predicted.K,
    }
    if predicted.log_uncertainty is not None:
        arrays[UNCERTAINTY_KEY] = predicted.log_uncertainty
    # Suffixes are appended, not replaced: a stem may hold a dot ("frame-000000.color").
    write_depth_map(stem.with_name(f"{stem.name}.npz"), **arrays)
    if not affine:
        write_depth_png(stem.with_name(f"{stem.name}.png"), predicted.depth_at_image())


def _make_room(out: Path, record: PredictionsRecord) -> None:
    """Remove an unfinished prediction of the same input by the same network. Raise StadiaError for any
    other content.
    """
    visible = {path.name for path in out.iterdir() if not path.name.startswith(".")} if out.is_dir() else set()
    if not visible and not (out.exists() and not out.is_dir()):
        return
    there = read_record(out) if RECORD in visible else None
    if there == record and visible <= {RECORD, "depth", TRAJECTORY, TRAJECTORY_TUM}:
        log.warning("%s: an unfinished prediction of the same is there, and is begun again", out)
        for path in (*out.glob("depth/*.npz"), *out.glob("depth/*.png"), *out.glob("trajectory*.txt"), out / RECORD):
            path.unlink()
        return
    kind = (
        "something"
        if there is None
        else "a finished prediction"
        if there.finished
        else "an unfinished prediction of something else"
    )
    raise StadiaError(
        out,
        found=f"{kind} in it",
        expected="a new or an empty folder",
        fix="choose another --out: nothing is overwritten",
    )


def _write_path(out: Path, poses: NDArray[np.float64], times: list[float | None]) -> None:
    """Write KITTI rows, and TUM rows where every frame has a time."""
    from stadia.evaluation.io.trajectory_files import (  # imports torch
        Trajectory,
        write_kitti_trajectory,
        write_tum_trajectory,
    )

    write_kitti_trajectory(out / TRAJECTORY, Trajectory(poses))
    known = [time for time in times if time is not None]
    if len(known) == len(poses):
        write_tum_trajectory(out / TRAJECTORY_TUM, Trajectory(poses, np.array(known)))
