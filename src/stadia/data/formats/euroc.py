"""Read EuRoC MAV: SEQUENCE/mav0/{cam0, cam1, state_groundtruth_estimate0} (Burri et al., IJRR 2016).

Images are rectified when read. Timestamps stay integers, because float64 cannot represent their nanoseconds.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from stadia.core.errors import DataError
from stadia.core.types import LEFT, RIGHT, Recording
from stadia.data.config import SourceOptions
from stadia.data.frame_selection import FrameSelection
from stadia.data.frame_store import ReportProgress
from stadia.data.lens_distortion import DISTORTION_MODELS, DistortedCamera, RectifiedPair, rectify_pair
from stadia.data.open_dataset import DatasetFormat
from stadia.data.recordings import ImageRecording
from stadia.data.video.video_files import select_images
from stadia.geometry.cameras import make_K
from stadia.geometry.poses import invert_pose
from stadia.io.image_files import check_image_size, read_rgb
from stadia.io.input_files import read_lines, read_text, safe_join
from stadia.io.number_rows import parse_numbers
from stadia.io.typed_json import FileEntry, validate_content
from stadia.io.yaml_files import parse_yaml

if TYPE_CHECKING:
    from scipy.spatial.transform import Rotation

Array = NDArray[np.float64]
Timestamps = NDArray[np.int64]

CAMERAS = {LEFT: "cam0", RIGHT: "cam1"}
GROUND_TRUTH = "state_groundtruth_estimate0"
MAX_YAML_BYTES = 16 << 10
MAX_GAP_NS = 100_000_000  # time between interpolated states: two images at 20 Hz
NS_PER_S = 1_000_000_000
_STATE_COLUMNS = 8  # timestamp, position, quaternion; velocity and biases follow
RESIZED_BY = 1.3  # a principal point this far from the middle belongs to another image size
MAX_FOCAL_RATIO = 1.15  # ratio of a lens's focal lengths: pixels are square, or nearly (old video has 1.09)
_COPY = "copy it from the dataset"

D3VO_TRAIN = ("MH_01", "MH_02", "MH_04", "V1_01", "V1_02")
D3VO_TEST = ("MH_03", "MH_05", "V1_03", "V2_01", "V2_02", "V2_03")
"""Test sequences of D3VO (Yang et al., CVPR 2020, section 4.1)."""

MAX_PAIR_GAP_NS = 5_000_000  # time between the two images of a pair
MAX_PAIR_GAP_SHARE = 0.25  # the same, divided by the median time between two left images


def _find_nearest(times: Timestamps, others: Timestamps) -> NDArray[np.intp]:
    after = np.searchsorted(others, times).clip(0, len(others) - 1)
    before = (after - 1).clip(min=0)
    return np.where(np.abs(others[before] - times) <= np.abs(others[after] - times), before, after)


def pair_stamps(left: Timestamps, right: Timestamps) -> NDArray[np.intp]:
    """Find the stereo pairs: return indices (P, 2) of left and right images that were taken together.

    The two images of a pair are the nearest in time for each other, and at most 5 ms and a quarter of the usual time
    between images apart.

    left, right: times of the left and right images in nanoseconds, (N,) and (M,).

    Examples:
        >>> pair_stamps(np.array([0, 50_000_000]), np.array([2_000, 99_000_000])).tolist()
        [[0, 0]]
    """
    order_left, order_right = np.argsort(left), np.argsort(right)
    first, second = left[order_left], right[order_right]
    partner = _find_nearest(first, second)
    largest = MAX_PAIR_GAP_NS
    if len(first) > 1:
        largest = min(largest, int(MAX_PAIR_GAP_SHARE * np.median(np.diff(first))))
    is_mutual = _find_nearest(second, first)[partner] == np.arange(len(first))
    kept = is_mutual & (np.abs(second[partner] - first) <= largest)
    pairs = np.stack([order_left[kept], order_right[partner[kept]]], 1)
    return pairs[np.argsort(pairs[:, 0])]


def _make_pair_error(path: Path, left: Timestamps, right: Timestamps) -> DataError:
    others = np.sort(right)
    gap_ms = float(np.abs(others[_find_nearest(left, others)] - left).min()) / 1e6
    found, fix = "no timestamp of the left camera", "copy both cameras of one sequence"
    if gap_ms < 1e3:
        found = f"images {gap_ms:.3g} ms and more from the left ones"
        fix = "trigger both cameras together, or correct a constant delay"
    expected = f"images within {MAX_PAIR_GAP_NS / 1e6:g} ms of the left ones"
    return DataError(path, found=found, expected=expected, fix=fix)


class Euroc(DatasetFormat):
    """The reader of EuRoC. The path is the folder of sequences (or groups), one sequence, or its folder mav0."""

    layout = "SEQUENCE/mav0 with cam0 and cam1"
    options = frozenset({"standing"})

    def find_recordings(self, path: Path) -> dict[str, Path]:
        if path.resolve().name == "mav0":
            candidates = [path]
        elif (path / "mav0").is_dir():
            candidates = [path / "mav0"]
        else:
            candidates = sorted({*path.glob("*/mav0"), *path.glob("*/*/mav0")})
        return {
            p.resolve().parent.name: p for p in candidates if any((p / camera).is_dir() for camera in CAMERAS.values())
        }

    def open_recording(
        self, name: str, folder: Path, options: SourceOptions, progress: ReportProgress | None
    ) -> Recording:
        for camera in CAMERAS.values():
            if not (folder / camera / "data").is_dir():
                found = "no images" if (folder / camera).is_dir() else "no such folder"
                expected, fix = "cameras cam0 (left) and cam1 (right)", f"{_COPY}: rectifying needs both"
                raise DataError(folder / camera, found=found, expected=expected, fix=fix)
        cameras = {side: read_camera(folder / camera / "sensor.yaml") for side, camera in CAMERAS.items()}
        listed = {side: list_camera_images(folder / camera) for side, camera in CAMERAS.items()}
        _check_sizes(cameras, {side: next(iter(images.values())) for side, images in listed.items()})
        T_right_left = invert_pose(cameras[RIGHT].T_body_lens) @ cameras[LEFT].T_body_lens
        pair = rectify_pair(cameras[LEFT].lens, cameras[RIGHT].lens, T_right_left, folder)

        stamps = {side: np.array(list(images)) for side, images in listed.items()}
        pairs = pair_stamps(stamps[LEFT], stamps[RIGHT])
        if not len(pairs):
            raise _make_pair_error(folder / CAMERAS[RIGHT] / "data.csv", stamps[LEFT], stamps[RIGHT])
        paths = {side: list(images.values()) for side, images in listed.items()}
        kept_stamps = stamps[LEFT][pairs[:, 0]]
        numbers = pairs[:, 0].tolist()
        recording = EurocRecording(
            name=f"euroc/{name}",
            images={side: [paths[side][k] for k in pairs[:, column]] for column, side in enumerate((LEFT, RIGHT))},
            intrinsics={side: undistortion.intrinsics for side, undistortion in pair.sides.items()},
            T_right_left=pair.T_right_left,
            numbers=numbers,
            poses=_read_poses(folder, kept_stamps, cameras[LEFT], pair),
            times_s=np.array([stamp / NS_PER_S for stamp in kept_stamps.tolist()]),
            rectification=pair,
        )
        return _drop_standing(recording, len(listed[LEFT]) - len(pairs), options, progress)

    def splits(self, path: Path) -> dict[str, list[str]]:
        if path.resolve().name == "mav0" or (path / "mav0").is_dir() or not path.is_dir():
            return {}
        names = list(self.find_recordings(path))
        lists = {"train": D3VO_TRAIN, "test": D3VO_TEST}
        found = {part: [name for name in names if name.startswith(starts)] for part, starts in lists.items()}
        return {part: names for part, names in found.items() if names}


@dataclass(kw_only=True, eq=False, repr=False)
class EurocRecording(ImageRecording):
    """A sequence of EuRoC, whose stereo pairs are rectified when read. Gray images are repeated to three channels.

    rectification: removes the lens distortion of both cameras and rotates their images parallel.
    """

    rectification: RectifiedPair
    pairs_by_name: ClassVar[bool] = False

    def image(self, index: int, side: str = LEFT) -> NDArray[np.uint8]:
        """Return the rectified image (H, W, 3) uint8 of a video frame.

        index: index of the frame in the recording.
        side: "left" or "right".
        """
        return self.rectification.sides[side](super().image(index, side))

    def fingerprint(self) -> str:
        digest = hashlib.blake2b(super().fingerprint().encode(), digest_size=16)
        for undistorted in self.rectification.sides.values():
            digest.update(undistorted.parameters())
        return digest.hexdigest()


def _drop_standing(
    recording: EurocRecording, unpaired: int, options: SourceOptions, progress: ReportProgress | None
) -> EurocRecording:
    every = FrameSelection(list(range(len(recording))))
    chosen = select_images(recording, "auto", options.cache, progress) if options.standing == "drop" else every
    selection = replace(chosen, kept=[recording.number(index) for index in chosen.kept], unpaired=unpaired)
    return recording.select_frames(chosen.kept, selection if selection.total > len(chosen.kept) else None)


def _check_sizes(cameras: Mapping[str, CameraFile], images: Mapping[str, Path]) -> None:
    lenses = [camera.lens for camera in cameras.values()]
    if len({(lens.height, lens.width) for lens in lenses}) > 1:
        found = f"cameras of {' and '.join(f'{lens.width}x{lens.height}' for lens in lenses)}"
        raise DataError(cameras[RIGHT].path, found=found, expected="one size", fix="resize one of them and its K")
    for side, camera in cameras.items():
        path, lens = images[side], camera.lens
        like, fix = f", the resolution of {camera.path}", "use the original images, or write their sensor.yaml"
        check_image_size(path, read_rgb(path), lens.height, lens.width, like=like, fix=fix)


def _read_poses(mav0: Path, stamps: Timestamps, left: CameraFile, pair: RectifiedPair) -> Array | None:
    """Return (N, 4, 4) T_world_camera of the rectified left camera, NaN if missing; None without ground truth."""
    folder = mav0 / GROUND_TRUTH
    if not folder.is_dir():
        return None
    states = read_states(folder / "data.csv")
    T_world_sensor = states.interpolate(stamps)
    if np.isnan(T_world_sensor).all():
        spans = [f"{s[0] / NS_PER_S:.3f} to {s[-1] / NS_PER_S:.3f} s" for s in (states.stamps, stamps)]
        found, expected = f"ground truth from {spans[0]}", f"the time of the images, {spans[1]}"
        fix = "use the ground truth of this sequence, in nanoseconds of the same clock, or remove its folder"
        raise DataError(folder / "data.csv", found=found, expected=expected, fix=fix)
    sensor_file = folder / "sensor.yaml"
    T_sensor_body = invert_pose(_read_rigid(_parse(_SensorYaml, sensor_file), sensor_file))
    T_lens_camera = np.eye(4)
    T_lens_camera[:3, :3] = pair.left.R_new_lens.T
    poses: Array = T_world_sensor @ T_sensor_body @ left.T_body_lens @ T_lens_camera
    return poses


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
    """The content of one camera's sensor.yaml.

    path: the file.
    lens: intrinsics and lens distortion.
    T_body_lens: (4, 4) motion from the camera's coordinate frame to the coordinate frame of the body (the IMU), in
        metres.
    """

    path: Path
    lens: DistortedCamera
    T_body_lens: Array


def read_camera(path: Path) -> CameraFile:
    """Read the sensor.yaml of a pinhole camera whose distortion model is one of `DISTORTION_MODELS`.

    Raises DataError, with the file and the key, for missing or impossible values.
    """
    camera: _CameraYaml = _parse(_CameraYaml, path)
    if camera.camera_model != "pinhole":
        found = f"camera_model '{camera.camera_model}'"
        raise DataError(path, found=found, expected="pinhole", fix="calibrate the camera as a pinhole")
    model = DISTORTION_MODELS.get(camera.distortion_model)
    if model is None:
        expected = f"one of {', '.join(DISTORTION_MODELS)}"
        fix = "calibrate with one of these, or undistort into the stadia layout: docs/reference/stadia-folder.md"
        raise DataError(path, found=f"distortion_model '{camera.distortion_model}'", expected=expected, fix=fix)
    if len(camera.distortion_coefficients) not in model.counts:
        found = f"{len(camera.distortion_coefficients)} distortion_coefficients"
        raise DataError(path, found=found, expected=f"{model.counts[0]} of {camera.distortion_model}", fix=_COPY)
    width, height = camera.resolution
    if not (0 < width <= 65536 and 0 < height <= 65536):
        raise DataError(path, found=f"resolution {width}x{height}", expected="the size of the images")
    fx, fy, cx, cy = camera.intrinsics
    K = make_K(path, fx, fy, cx, cy)
    _check_center(path, cx, cy, width, height)
    _check_focal_lengths(path, fx, fy)
    lens = DistortedCamera(K, camera.distortion_model, np.array(camera.distortion_coefficients), height, width)
    return CameraFile(path, lens, _read_rigid(camera, path))


def _check_center(path: Path, cx: float, cy: float, width: int, height: int) -> None:
    """Raise DataError for intrinsics of resized images, which rectification would hide."""
    across, down = (2 * cx + 1) / width, (2 * cy + 1) / height
    logs = [math.log(share) if share > 0 else 0.0 for share in (across, down)]
    if min(map(abs, logs)) < math.log(RESIZED_BY) or logs[0] * logs[1] < 0:
        return
    found = f"a principal point ({cx:g}, {cy:g}) for images of about {2 * cx + 1:.0f}x{2 * cy + 1:.0f}"
    fix = f"divide fx, fy, cx and cy by about {math.sqrt(across * down):.2f}, or write the intrinsics of these images"
    raise DataError(path, found=found, expected=f"intrinsics for images of {width}x{height}", fix=fix)


def _check_focal_lengths(path: Path, fx: float, fy: float) -> None:
    """Raise DataError for pixels far from square, which rectification would hide."""
    if max(fx / fy, fy / fx) <= MAX_FOCAL_RATIO:
        return
    found = f"fx {fx:g} and fy {fy:g}, a ratio of {max(fx / fy, fy / fx):.2f}"
    fix = "if images were resized along one axis, use the original ones"
    raise DataError(path, found=found, expected="nearly equal focal lengths", fix=fix)


def _read_rigid(sensor: _SensorYaml, path: Path) -> Array:
    T = np.array(sensor.T_BS.data).reshape(4, 4)
    R = T[:3, :3]
    with np.errstate(over="ignore", invalid="ignore"):
        is_rotation = np.allclose(R @ R.T, np.eye(3), atol=1e-3) and np.linalg.det(R) > 0
    if not (is_rotation and np.allclose(T[3], (0, 0, 0, 1))):
        found = "a T_BS that is not a rigid motion"
        raise DataError(path, found=found, expected="[R | t] by rows, then 0 0 0 1", fix=_COPY)
    return T


def _parse(model: type[FileEntry], path: Path) -> Any:
    expected = "a sensor.yaml of EuRoC"
    text = read_text(path, expected=expected, fix=_COPY, max_bytes=MAX_YAML_BYTES)
    first, _, rest = text.partition("\n")
    text = rest if first.startswith("%YAML:") else text  # OpenCV's `%YAML:1.0`
    content = parse_yaml(path, text, expected, fix=_COPY)
    return validate_content(path, content, model, expected=expected, fix=_COPY)


def list_camera_images(folder: Path) -> dict[int, Path]:
    """Return the image files of a camera by their timestamps in nanoseconds, as data.csv lists them.

    folder: the camera's folder, such as cam0.

    Raises DataError if data.csv is missing or wrong, or it and the image files do not correspond.
    """
    path = folder / "data.csv"
    stamps, rows = _read_csv(path, 2, "timestamp, filename")
    existing = {p.name for p in (folder / "data").glob("*") if p.stem.isdecimal()}
    found: dict[int, Path] = {}
    for stamp, (name, *_) in zip(stamps.tolist(), rows, strict=True):
        image = safe_join(folder / "data", name)
        if image.stem != str(stamp):
            raise DataError(path, found=f"'{name}' at {stamp}", expected=f"'{stamp}.png'", fix=_COPY)
        if image.name not in existing:
            raise DataError(
                image,
                found="no such file",
                expected=f"an image that {path} lists",
                fix="copy the recording again with all images",
            )
        found[stamp] = image
    if len(existing) > len(found):
        unlisted = min(existing - {image.name for image in found.values()})
        listed = f"{len(found)} of {len(existing)} images listed, without {unlisted}"
        fix = "copy the file again if it was cut off, or remove the images that it does not list"
        raise DataError(path, found=listed, expected="all images", fix=fix)
    return found


@dataclass(frozen=True, slots=True, eq=False)
class GroundTruthStates:
    """Ground-truth poses of the tracked sensor at N times.

    stamps: (N,) times in nanoseconds.
    position: (N, 3) position of the sensor in the world, in metres.
    orientation: N rotations from the sensor's to the world's coordinate frame.
    """

    stamps: Timestamps
    position: Array
    orientation: Rotation

    def interpolate(self, stamps: Timestamps) -> Array:
        """Interpolate the poses: return T_world_sensor (M, 4, 4) at M given times.

        A pose is NaN outside the time of the ground truth, and in its gaps longer than MAX_GAP_NS (0.1 s).

        stamps: (M,) times in nanoseconds.
        """
        from scipy.spatial.transform import Slerp  # slow to import

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
            turned = Slerp(own, self.orientation)(seconds) if len(own) > 1 else self.orientation
            poses[known, :3, :3] = turned.as_matrix()
        return poses


def read_states(path: Path) -> GroundTruthStates:
    """Read ground-truth poses from state_groundtruth_estimate0/data.csv: timestamp, position, quaternion w x y z.

    Raises DataError for a damaged file.
    """
    from scipy.spatial.transform import Rotation  # slow to import

    stamps, words = _read_csv(path, _STATE_COLUMNS, "timestamp, position x y z, quaternion w x y z")
    rows = np.empty((len(words), _STATE_COLUMNS - 1))
    for number, row in enumerate(words):
        values = parse_numbers(row[: _STATE_COLUMNS - 1])
        if not len(values) or abs(np.linalg.norm(values[3:]) - 1) > 1e-2:
            found, expected = f"'{','.join(row)[:60]}' at {stamps[number]}", "position x y z, unit quaternion w x y z"
            raise DataError(path, found=found, expected=expected, fix="copy the file again")
        rows[number] = values
    # SciPy's order is x y z w.
    return GroundTruthStates(stamps, rows[:, :3], Rotation.from_quat(rows[:, [4, 5, 6, 3]]))


def _read_csv(path: Path, columns: int, what: str) -> tuple[Timestamps, list[list[str]]]:
    numbered = enumerate(read_lines(path, expected=what), start=1)
    lines = [(number, line) for number, line in numbered if not line.lstrip().startswith("#")]
    stamps, rows = np.empty(len(lines), np.int64), list[list[str]]()
    for at, (number, line) in enumerate(lines):
        stamp, *words = (word.strip() for word in line.split(","))
        is_time = stamp.isdecimal() and len(stamp) <= 19
        if not is_time or len(words) + 1 < columns or (rows and len(words) != len(rows[0])):
            expected = f"{len(rows[0]) + 1 if rows else columns} columns: {what}"
            raise DataError(path, found=f"'{line[:60]}' in line {number}", expected=expected, fix="copy the file again")
        stamps[at] = min(int(stamp), np.iinfo(np.int64).max)
        rows.append(words)
        if at and stamps[at] <= stamps[at - 1]:
            fault = "again" if stamps[at] == stamps[at - 1] else f"after {stamps[at - 1]}"
            found = f"timestamp {stamps[at]} {fault} in line {number}"
            raise DataError(path, found=found, expected="rising timestamps", fix="copy the file again, or sort it")
    if not rows:
        raise DataError(path, found="no rows", expected=what, fix="copy the file again")
    return stamps, rows
