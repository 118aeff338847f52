"""Write depth of any program, scaled to metres, as a dataset for training."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError
from stadia.core.progress import TrackProgress
from stadia.core.types import LEFT, Recording
from stadia.data.frame_preparation import frame_name
from stadia.io.atomic_files import write_json, write_lines
from stadia.io.image_io import write_image
from stadia.io.input_files import safe_join
from stadia.io.output_files import fill_new_folder


def write_scaled_labels(
    recordings: Sequence[Recording],
    every: int,
    read: Callable[[Recording, int], NDArray[np.float32]],
    factors: Mapping[tuple[str, str], float],
    out: Path,
    track: TrackProgress,
) -> list[str]:
    """Write a dataset in the stadia layout: images, cameras, and depth scaled to metres; return lines of text about
    it.

    Poses in metres are kept; other poses are left out, with a note.

    recordings: each of one camera.
    every: take each n-th frame.
    read: returns the depth (H, W) of a frame in any unit, 0 where unknown.
    factors: metres per unit of depth, by the names of recording and frame; a frame without a factor gets no depth.
    out: a new or empty folder.
    track: shows progress.

    Raises DataError if the camera of a recording changes.
    """
    for recording in recordings:
        _check_one_camera(recording, range(0, len(recording), every))
    with fill_new_folder(out) as content:
        for number, recording in enumerate(recordings):
            folder = safe_join(content, f"{number:03d}-{Path(recording.name).name}")
            _write_recording(recording, range(0, len(recording), every), read, factors, folder, track)
    lines = [f"{out}: depth in metres of {len(factors)} frames. Next: stadia train supervised {out}"]
    unscaled = [recording.name for recording in recordings if not recording.has_metric_poses]
    return lines + [f"note: {out} has no poses of {', '.join(unscaled)}, which are not in metres"] * bool(unscaled)


def _check_one_camera(recording: Recording, indices: range) -> None:
    K = recording.K(0)
    for index in indices:
        if not np.allclose(recording.K(index), K):
            found = f"another camera at {frame_name(recording, index)}"
            expected, fix = "one camera, for --labels", "pass frames of one camera and focal length"
            raise DataError(recording.name, found=found, expected=expected, fix=fix)


def _write_recording(
    recording: Recording,
    indices: range,
    read: Callable[[Recording, int], NDArray[np.float32]],
    factors: Mapping[tuple[str, str], float],
    folder: Path,
    track: TrackProgress,
) -> None:
    rows: list[str] = []
    (folder / "depth" / LEFT).mkdir(parents=True)
    for place, index in enumerate(track(indices, len(indices), f"labels of {recording.name}")):
        write_image(folder / LEFT / f"{place:06d}.png", recording.image(index)[..., ::-1])
        factor = factors.get((recording.name, frame_name(recording, index)))
        if factor is not None:
            depth_m = (read(recording, index) * np.float32(factor)).astype(np.float32)
            np.save(folder / "depth" / LEFT / f"{place:06d}.npy", depth_m)
        T = recording.T_world_camera(index) if recording.has_metric_poses else None
        rows += [] if T is None else [" ".join(map(repr, np.asarray(T)[:3].ravel().tolist()))]
    camera = recording.camera(0)
    facts: dict[str, Any] = {"K": recording.K(0).tolist(), "height": camera.height, "width": camera.width}
    write_json(folder / "recording.json", {"cameras": {LEFT: facts}})
    if len(rows) == len(indices):
        write_lines(folder / "poses.txt", rows)
