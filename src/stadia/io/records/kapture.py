"""Read the images, poses and cameras of kapture.

Source: naver/kapture, kapture_format.adoc. Each file has rows of words with commas between them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError
from stadia.geometry.lens import Lens
from stadia.io.input_files import read_lines
from stadia.io.number_rows import parse_numbers
from stadia.io.records import formats
from stadia.io.records.colmap import read_camera_words, split_camera
from stadia.io.records.poses import MAX_POSES, make_poses
from stadia.io.records.reconstruction import Reconstruction, make_lenses, make_reconstruction

Array = NDArray[np.float64]
SENSORS, POSES, IMAGES, RIGS = "sensors.txt", "trajectories.txt", "records_camera.txt", "rigs.txt"
EXPECTED = f"kapture's {SENSORS}, {POSES} and {IMAGES}"


def find_kapture(path: Path) -> Path | None:
    """Return the folder with the files of kapture: this one, or `sensors` inside; None without them."""
    folders = (path, path / "sensors")
    return next((one for one in folders if all((one / name).is_file() for name in (SENSORS, POSES, IMAGES))), None)


def read_kapture(path: Path) -> Reconstruction:
    """Read the images that have a pose, of their own or of the rig that their camera belongs to.

    path: the folder, or its `sensors`.

    Raises DataError for a damaged file, and for images without poses.
    """
    folder = find_kapture(path)
    assert folder is not None
    poses, rigs = _read_poses(folder / POSES), dict[str, tuple[str, Array]]()
    if (folder / RIGS).is_file():
        rigs = {sensor: (rig, T) for (rig, sensor), T in _read_poses(folder / RIGS).items()}
    images = [(time, device, name) for time, device, name, *_ in _read_rows(folder / IMAGES, 3)]
    names, devices, T_world_camera = list[str](), list[str](), list[Array]()
    for time, device, name in images:
        T = poses.get((time, device))
        if T is None and device in rigs:
            rig, T_rig_sensor = rigs[device]
            T_world_rig = poses.get((time, rig))
            T = None if T_world_rig is None else T_world_rig @ T_rig_sensor
        if T is not None:
            names.append(name)
            devices.append(device)
            T_world_camera.append(T)
    if not names:
        found = f"none of {len(images)} images with a pose"
        raise DataError(folder, found=found, expected=EXPECTED, fix=f"write the poses into {POSES}")
    note = f"poses of {folder.name} are world-to-device, in its own scale"
    read = make_reconstruction(
        path, np.stack(T_world_camera), note, names=names, format="kapture", pose_format=formats.KAPTURE
    )
    if len(names) < len(images):
        note = f"{len(images) - len(names)} of {len(images)} images have no pose"
        read = replace(read, notes=(*read.notes, note))
    return _add_cameras(read, devices, _read_cameras(folder / SENSORS))


def _read_rows(path: Path, least: int) -> list[list[str]]:
    """Return the words of each row. Raises DataError for a row with fewer words than `least`, and for too many rows."""
    rows = [
        [word.strip() for word in line.split(",")]
        for line in read_lines(path, expected=EXPECTED)
        if line.strip() and not line.lstrip().startswith("#")
    ]
    short = next((row for row in rows if len(row) < least), None)
    if short is not None or len(rows) > MAX_POSES:
        found = f"{len(rows)} rows" if short is None else f"the row '{', '.join(short)[:60]}'"
        expected = f"up to {MAX_POSES} rows of at least {least} words"
        raise DataError(path, found=found, expected=expected, fix="export it again")
    return rows


def _read_poses(path: Path) -> dict[tuple[str, str], Array]:
    """Return camera-to-world poses (4, 4) by the first two words of their row; rows without numbers are left out."""
    columns = len(formats.KAPTURE.columns.split())
    rows = _read_rows(path, columns)
    numbers = np.full((len(rows), columns), np.nan)
    for row, words in enumerate(rows):
        values = parse_numbers(words[2:columns])
        if len(values) == columns - 2:
            numbers[row] = (0, 0, *values)
    lengths = np.linalg.norm(numbers[:, 2:6], axis=1, keepdims=True)
    numbers[:, 2:6] /= np.where(lengths > 0, lengths, np.nan)  # kapture writes quaternions of any length
    T = make_poses(numbers, formats.KAPTURE, lambda row: f"{path}, row {row + 1}")
    return {(words[0], words[1]): pose for words, pose in zip(rows, T, strict=True) if np.isfinite(pose).all()}


def _read_cameras(path: Path) -> dict[str, tuple[Array, Array, Lens | None, tuple[int, int]]]:
    """Return K (3, 3), distortion (4,), the lens of another model, and width and height of each camera by its name."""
    cameras = {}
    for sensor, _, kind, *words in _read_rows(path, 3):
        if kind == "camera" and words[:1] != ["UNKNOWN_CAMERA"]:
            camera = read_camera_words(f"{path}, {sensor}", words)
            cameras[sensor] = (*split_camera(camera), (camera.width, camera.height))
    return cameras


def _add_cameras(
    read: Reconstruction,
    devices: Sequence[str],
    cameras: Mapping[str, tuple[Array, Array, Lens | None, tuple[int, int]]],
) -> Reconstruction:
    K, distortion, sizes = read.K.copy(), read.distortion.copy(), read.sizes.copy()
    lenses: list[Lens | None] = [None] * len(devices)
    for row, device in enumerate(devices):
        if device in cameras:
            K[row], distortion[row], lenses[row], sizes[row] = cameras[device]
    return replace(read, K=K, distortion=distortion, lenses=make_lenses(lenses), sizes=sizes)
