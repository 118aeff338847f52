"""Read the files of EuRoC's layout: sensor.yaml, and csv by timestamp (Burri et al., IJRR 2016).

Timestamps are whole nanoseconds, which float64 cannot represent exactly. They are compared as integers.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from pydantic import Field, ValidationError
from scipy.spatial.transform import Rotation, Slerp

from stadia.core.errors import DataError
from stadia.core.files import safe_join
from stadia.datasets.recordings import check_K
from stadia.datasets.rectification import DISTORTION_MODELS, DistortedCamera
from stadia.datasets.text_files import FileEntry, make_validation_error, read_lines

Array = NDArray[np.float64]
Timestamps = NDArray[np.int64]

MAX_YAML_BYTES = 16 << 10
MAX_GAP_NS = 100_000_000
"""Poses are not interpolated between states further apart than this: two images at 20 Hz."""

NS_PER_S = 1_000_000_000
_STATE_COLUMNS = 8  # timestamp, position, quaternion; velocity and biases follow


class _Matrix(FileEntry):
    rows: int = Field(ge=4, le=4)
    cols: int = Field(ge=4, le=4)
    data: tuple[float, ...] = Field(min_length=16, max_length=16)


class _SensorYaml(FileEntry):
    T_BS: _Matrix


class _CameraYaml(_SensorYaml):
    camera_model: str
    intrinsics: tuple[float, float, float, float]
    distortion_model: str
    distortion_coefficients: tuple[float, ...]
    resolution: tuple[int, int]


@dataclass(frozen=True, slots=True, eq=False)
class CameraFile:
    """One camera's sensor.yaml. T_body_lens: (4, 4), its T_BS, from the sensor to the body (the IMU)."""

    path: Path
    lens: DistortedCamera
    T_body_lens: Array


def read_camera(path: Path) -> CameraFile:
    """Read a pinhole camera with a distortion of `rectification.MODELS`. Raises DataError with file and key."""
    camera: _CameraYaml = _parse(_CameraYaml, path)
    if camera.camera_model != "pinhole":
        raise DataError(
            path, found=f"camera_model '{camera.camera_model}'", expected="pinhole", fix="calibrate it as one"
        )
    model = DISTORTION_MODELS.get(camera.distortion_model)
    if model is None:
        expected = f"one of {', '.join(DISTORTION_MODELS)}"
        fix = "calibrate with one of these, or undistort the images and write the stadia layout (docs/own-data.md)"
        raise DataError(path, found=f"distortion_model '{camera.distortion_model}'", expected=expected, fix=fix)
    if len(camera.distortion_coefficients) != model.coefficients:
        found = f"{len(camera.distortion_coefficients)} distortion_coefficients"
        raise DataError(
            path, found=found, expected=f"{model.coefficients} of {camera.distortion_model}", fix="copy the file again"
        )
    width, height = camera.resolution
    if not (0 < width <= 65536 and 0 < height <= 65536):
        raise DataError(path, found=f"resolution {width}x{height}", expected="the size of the images", fix="correct it")
    fx, fy, cx, cy = camera.intrinsics
    K = check_K(path, np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]]))
    lens = DistortedCamera(K, camera.distortion_model, np.array(camera.distortion_coefficients), height, width)
    return CameraFile(path, lens, _rigid(camera.T_BS, path))


def read_T_body_sensor(path: Path) -> Array:
    """Return (4, 4) T_BS of a sensor.yaml."""
    camera: _SensorYaml = _parse(_SensorYaml, path)
    return _rigid(camera.T_BS, path)


def _rigid(matrix: _Matrix, path: Path) -> Array:
    T = np.array(matrix.data).reshape(4, 4)
    R = T[:3, :3]
    if not (np.allclose(R @ R.T, np.eye(3), atol=1e-3) and np.linalg.det(R) > 0 and np.allclose(T[3], (0, 0, 0, 1))):
        found = "a T_BS that is no rigid motion"
        raise DataError(path, found=found, expected="[R | t] by rows, then 0 0 0 1", fix="copy the file again")
    return T


def _parse(model: type[Any], path: Path) -> Any:
    """Parse YAML as a model, without constructing objects from tags. Raises DataError with the first wrong key."""
    try:
        size = path.stat().st_size
        if size > MAX_YAML_BYTES:
            raise DataError(
                path,
                found=f"{size} bytes",
                expected=f"at most {MAX_YAML_BYTES}",
                fix="check that this is the right file",
            )
        text = path.read_text(encoding="utf-8")
        first, _, rest = text.partition("\n")
        body = rest if first.startswith("%YAML:") else text  # OpenCV writes `%YAML:1.0`
        return model.model_validate(yaml.safe_load(body))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DataError(
            path, found="no such file", expected="the sensor's calibration", fix="copy it from the dataset"
        ) from error
    except ValidationError as error:
        raise make_validation_error(path, error, "a sensor.yaml of EuRoC", "copy it from the dataset") from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        why = getattr(error, "problem", None) or type(error).__name__
        raise DataError(
            path, found=f"invalid YAML ({why})", expected="a sensor.yaml of EuRoC", fix="copy it from the dataset"
        ) from error


def list_camera_images(folder: Path) -> dict[int, Path]:
    """Return a camera's images by timestamp, in order, as data.csv lists them.

    Raises DataError that names the wrong line, or an image that is missing or not listed.
    """
    path = folder / "data.csv"
    stamps, rows = _read_csv(path, 2, "timestamp, filename")
    there = {p.name for p in (folder / "data").glob("*") if p.stem.isdigit()}
    found: dict[int, Path] = {}
    for stamp, (name,) in zip(stamps.tolist(), rows, strict=True):
        image = safe_join(folder / "data", name)
        if image.stem != str(stamp):
            raise DataError(
                path, found=f"'{name}' at {stamp}", expected=f"'{stamp}.png'", fix="copy data.csv from the dataset"
            )
        if image.name not in there:
            raise DataError(image, found="no such file", expected=f"an image that {path} lists", fix="copy it again")
        found[stamp] = image
    if len(there) > len(found):
        unlisted = min(there - {image.name for image in found.values()})
        raise DataError(
            path,
            found=f"{len(found)} of {len(there)} images listed, {unlisted} is not",
            expected="all of them",
            fix="the file was cut off: copy it again (or remove the images that it does not list)",
        )
    return found


@dataclass(frozen=True, slots=True, eq=False)
class GroundTruthStates:
    """Ground truth: stamps (N,) ns, and T_world_sensor as position (N, 3) metres and orientation."""

    stamps: Timestamps
    position: Array
    orientation: Rotation

    def at(self, stamps: Timestamps) -> Array:
        """Return (M, 4, 4) T_world_sensor at other times: positions by linear interpolation, orientations by slerp.

        NaN outside the time of the states, and in gaps of more than MOST_GAP_NS.
        """
        before = np.searchsorted(self.stamps, stamps, side="right") - 1
        after = np.searchsorted(self.stamps, stamps, side="left")
        during = (before >= 0) & (after < len(self.stamps))
        before, after = np.clip(before, 0, None), np.clip(after, None, len(self.stamps) - 1)
        known = during & (self.stamps[after] - self.stamps[before] <= MAX_GAP_NS)
        poses = np.full((len(stamps), 4, 4), np.nan)
        if known.any():
            own, seconds = ((s - self.stamps[0]) / NS_PER_S for s in (self.stamps, stamps[known]))
            poses[known] = np.eye(4)
            poses[known, :3, 3] = np.column_stack([np.interp(seconds, own, axis) for axis in self.position.T])
            poses[known, :3, :3] = (
                Slerp(own, self.orientation)(seconds) if len(own) > 1 else self.orientation
            ).as_matrix()
        return poses


def read_states(path: Path) -> GroundTruthStates:
    """Read state_groundtruth_estimate0/data.csv: timestamp, position, quaternion w x y z. Raises DataError."""
    stamps, words = _read_csv(path, _STATE_COLUMNS, "timestamp, position x y z, quaternion w x y z")
    rows = np.empty((len(words), _STATE_COLUMNS - 1))
    for number, row in enumerate(words):
        try:
            rows[number] = [float(word) for word in row[: _STATE_COLUMNS - 1]]
        except ValueError:
            rows[number] = np.nan
        if not np.isfinite(rows[number]).all() or abs(np.linalg.norm(rows[number, 3:]) - 1) > 1e-2:
            found = f"'{','.join(row)[:60]}' at {stamps[number]}"
            expected = "position x y z and a unit quaternion w x y z"
            raise DataError(path, found=found, expected=expected, fix="copy the file again")
    return GroundTruthStates(stamps, rows[:, :3], Rotation.from_quat(rows[:, [4, 5, 6, 3]]))  # SciPy's order is x y z w


def _read_csv(path: Path, columns: int, what: str) -> tuple[Timestamps, list[list[str]]]:
    """Return increasing timestamps and the other words of each row. Rows are equally long, at least `columns`."""
    lines = [
        (number, line)
        for number, line in enumerate(read_lines(path, what), start=1)
        if not line.lstrip().startswith("#")
    ]
    stamps, rows = np.empty(len(lines), np.int64), list[list[str]]()
    for at, (number, line) in enumerate(lines):
        stamp, *words = (word.strip() for word in line.split(","))
        if (
            len(words) + 1 < columns
            or (rows and len(words) != len(rows[0]))
            or not (stamp.isdecimal() and len(stamp) <= 19)
        ):
            expected = f"{len(rows[0]) + 1 if rows else columns} columns: {what}"
            raise DataError(path, found=f"'{line[:60]}' in line {number}", expected=expected, fix="copy the file again")
        stamps[at] = min(int(stamp), np.iinfo(np.int64).max)
        rows.append(words)
        if at and stamps[at] <= stamps[at - 1]:
            fault = "again" if stamps[at] == stamps[at - 1] else f"after {stamps[at - 1]}"
            found = f"timestamp {stamps[at]} {fault} in line {number}"
            fix = "copy the file again, or sort it and remove what is there twice"
            raise DataError(path, found=found, expected="timestamps that rise from line to line", fix=fix)
    if not rows:
        raise DataError(path, found="no rows", expected=what, fix="copy the file again")
    return stamps, rows
