"""Read nuScenes (nuscenes.org): ROOT/v1.0-mini/{scene, sample, sample_data, ...}.json, ROOT/samples and ROOT/sweeps.

A scene is a recording of CAM_FRONT at 12 Hz, with the pose of the car at each image. Keyframes have the depth of
LIDAR_TOP.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from stadia.core.errors import DataError
from stadia.core.types import Recording
from stadia.data.config import SourceOptions
from stadia.data.formats.kitti import read_scan
from stadia.data.formats.lidar_frames import LidarFrame, make_lidar_recording
from stadia.data.frame_store import ReportProgress
from stadia.data.open_dataset import DatasetFormat, select_recordings
from stadia.io.input_files import safe_join, stream_json_rows
from stadia.io.records.calibration import make_rigid
from stadia.io.typed_json import FileEntry, validate_content

CAMERA, SCANNER = "CAM_FRONT", "LIDAR_TOP"
VERSIONS = ("v1.0-mini", "v1.0-trainval", "v1.0-test")
POINT_VALUES = 5  # floats of a point: x, y, z, intensity, ring
MINI_SPLITS = {"train": ("0061", "0553", "0655", "0757", "0796", "1077", "1094", "1100"), "val": ("0103", "0916")}
"""Scenes of mini_train and mini_val, as the tools of the dataset define them.

For v1.0-trainval no splits are known.
"""

MAX_TABLE_BYTES = 4 << 30  # sample_data.json of v1.0-trainval has 1 GB; one row at a time is in memory
US_PER_S = 1_000_000
_EXPECTED, _FIX = "a table of nuScenes", "copy the official file"
_Vector = tuple[float, float, float]


class _Scene(FileEntry):
    token: str
    name: str
    log_token: str
    nbr_samples: int


class _Sample(FileEntry):
    token: str
    scene_token: str


class _SampleData(FileEntry):
    token: str
    sample_token: str
    ego_pose_token: str
    calibrated_sensor_token: str
    timestamp: int
    filename: Annotated[str, Field(min_length=1, max_length=4096)]
    is_key_frame: bool
    height: int = 0
    width: int = 0


class _CalibratedSensor(FileEntry):
    token: str
    sensor_token: str
    translation: _Vector
    rotation: tuple[float, float, float, float]
    camera_intrinsic: tuple[_Vector, ...] = ()


class _EgoPose(FileEntry):
    token: str
    translation: _Vector
    rotation: tuple[float, float, float, float]


class _Sensor(FileEntry):
    token: str
    channel: str


class _Log(FileEntry):
    token: str
    logfile: str


RowT = TypeVar("RowT", bound=Any)


class NuScenes(DatasetFormat):
    """The reader of nuScenes. The path is the folder with samples and v1.0-*, or the folder of tables."""

    layout = "v1.0-mini/sample_data.json next to samples"

    def recognizes(self, path: Path) -> bool:
        return bool(_find_tables(path))

    def find_recordings(self, path: Path) -> dict[str, Path]:
        tables = _choose_tables(path)
        return {scene.name: tables for scene in _read_table(tables, "scene", _Scene)}

    def splits(self, path: Path) -> dict[str, list[str]]:
        if not self.recognizes(path) or _choose_tables(path).resolve().name != VERSIONS[0]:
            return {}
        names = self.find_recordings(path)
        listed = {part: [f"scene-{number}" for number in numbers] for part, numbers in MINI_SPLITS.items()}
        return {part: [name for name in scenes if name in names] for part, scenes in listed.items()}

    def open(self, path: Path, options: SourceOptions, progress: ReportProgress | None = None) -> list[Recording]:
        tables = _choose_tables(path)
        scenes = {scene.name: scene for scene in _read_table(tables, "scene", _Scene)}
        names = select_recordings(list(scenes), options, path)
        index = _SceneIndex.read(tables, [scenes[name] for name in names])
        return [index.open_scene(scene) for scene in index.scenes]


def _find_tables(path: Path) -> list[Path]:
    folders = (
        [path]
        if (path / "sample_data.json").is_file()
        else sorted(file.parent for file in path.glob("*/sample_data.json"))
    )
    return [folder for folder in folders if (folder / "sample_data.json").is_file()]


def _choose_tables(path: Path) -> Path:
    found = _find_tables(path)
    if not found:
        raise DataError(path, found="no table", expected=NuScenes.layout, fix="pass the folder that holds it")
    if len(found) > 1:
        names = " and ".join(folder.name for folder in found)
        raise DataError(path, found=f"tables of {names}", expected="one version", fix=f"pass {found[0]}")
    if (name := found[0].resolve().name) not in VERSIONS:
        fix = f"rename it to {VERSIONS[1]} if it has nuScenes' tables, as Lyft's dataset does"
        raise DataError(found[0], found=f"tables of {name}", expected=" or ".join(VERSIONS), fix=fix)
    return found[0]


def _read_rows(tables: Path, name: str) -> Iterator[dict[str, Any]]:
    path = tables / f"{name}.json"
    yield from stream_json_rows(path, expected=_EXPECTED, max_bytes=MAX_TABLE_BYTES, fix=_FIX)


def _validate(tables: Path, name: str, row: dict[str, Any], kind: type[RowT]) -> RowT:
    valid: RowT = validate_content(tables / f"{name}.json", row, kind, expected=_EXPECTED, fix=_FIX)
    return valid


def _read_table(tables: Path, name: str, kind: type[RowT]) -> list[RowT]:
    return [_validate(tables, name, row, kind) for row in _read_rows(tables, name)]


def _read_linked(tables: Path, name: str, kind: type[RowT], key: str, wanted: Collection[str]) -> list[RowT]:
    return [_validate(tables, name, row, kind) for row in _read_rows(tables, name) if row.get(key) in wanted]


def _index_by_token(
    tables: Path, name: str, rows: Collection[RowT], wanted: Collection[str], by: str
) -> Mapping[str, RowT]:
    found = {row.token: row for row in rows}
    if missing := next((token for token in wanted if token not in found), None):
        expected, fix = f"a row for each token in {by}.json", "copy the official tables of one version"
        raise DataError(tables / f"{name}.json", found=f"no row '{missing[:60]}'", expected=expected, fix=fix)
    return found


@dataclass(frozen=True, eq=False)
class _SceneIndex:
    """The rows of the selected scenes; `cameras` and `scans` by the token of their sample."""

    tables: Path
    scenes: list[_Scene]
    logs: Mapping[str, _Log]
    samples: Mapping[str, list[str]]
    cameras: Mapping[str, list[_SampleData]]
    scans: Mapping[str, list[_SampleData]]
    sensors: Mapping[str, _CalibratedSensor]
    ego_poses: Mapping[str, _EgoPose]

    @classmethod
    def read(cls, tables: Path, scenes: list[_Scene]) -> "_SceneIndex":
        calibrated = _read_table(tables, "calibrated_sensor", _CalibratedSensor)
        named = {row.sensor_token for row in calibrated}
        sensors = _index_by_token(tables, "sensor", _read_table(tables, "sensor", _Sensor), named, "calibrated_sensor")
        channels = {row.token: sensors[row.sensor_token].channel for row in calibrated}
        used = {row.token: row for row in calibrated if channels[row.token] in (CAMERA, SCANNER)}
        scene_tokens = {scene.token for scene in scenes}
        samples: dict[str, list[str]] = {token: [] for token in scene_tokens}
        for sample in _read_linked(tables, "sample", _Sample, "scene_token", scene_tokens):
            samples[sample.scene_token].append(sample.token)
        sample_tokens = {token for tokens in samples.values() for token in tokens}
        by_channel: dict[str, dict[str, list[_SampleData]]] = {CAMERA: {}, SCANNER: {}}
        for row in _read_linked(tables, "sample_data", _SampleData, "sample_token", sample_tokens):
            channel = channels.get(row.calibrated_sensor_token)
            if channel == CAMERA or (channel == SCANNER and row.is_key_frame):
                by_channel[channel].setdefault(row.sample_token, []).append(row)
        rows = [row for of_channel in by_channel.values() for group in of_channel.values() for row in group]
        wanted = {row.ego_pose_token for row in rows}
        poses = _read_linked(tables, "ego_pose", _EgoPose, "token", wanted)
        return cls(
            tables=tables,
            scenes=scenes,
            logs={log.token: log for log in _read_table(tables, "log", _Log)},
            samples=samples,
            cameras=by_channel[CAMERA],
            scans=by_channel[SCANNER],
            sensors=used,
            ego_poses=_index_by_token(tables, "ego_pose", poses, wanted, "sample_data"),
        )

    def open_scene(self, scene: _Scene) -> Recording:
        """Return the recording of CAM_FRONT. Raises DataError if its number of keyframes is wrong."""
        path = self.tables / "sample_data.json"
        rows = [row for sample in self.samples[scene.token] for row in self.cameras.get(sample, ())]
        if (keys := sum(row.is_key_frame for row in rows)) != scene.nbr_samples:
            found, expected = f"{keys} keyframes of {CAMERA} in {scene.name}", f"{scene.nbr_samples}, as in scene.json"
            raise DataError(path, found=found, expected=expected, fix="copy the official tables of one version")
        log = self.logs.get(scene.log_token)
        return make_lidar_recording(
            path,
            f"nuscenes/{scene.name}",
            [self._make_frame(row) for row in rows],
            size=(rows[0].height, rows[0].width) if rows else (0, 0),
            read_points=partial(read_scan, values=POINT_VALUES),
            place="" if log is None else f"nuscenes/{log.logfile}",
        )

    def _make_frame(self, row: _SampleData) -> LidarFrame:
        root = self.tables.parent
        sensor = self.sensors[row.calibrated_sensor_token]
        K = np.array(sensor.camera_intrinsic, np.float64)
        scan = next(iter(self.scans.get(row.sample_token, ())), None) if row.is_key_frame else None
        return LidarFrame(
            image=safe_join(root, row.filename),
            time_s=row.timestamp / US_PER_S,
            K=K,
            T_world_camera=self._locate(row),
            scan=None if scan is None else safe_join(root, scan.filename),
            T_world_scan=None if scan is None else self._locate(scan),
        )

    def _locate(self, row: _SampleData) -> NDArray[np.float64]:
        """Return (4, 4) sensor-to-world of a row, with the pose of the car at its own time."""
        ego, sensor = self.ego_poses[row.ego_pose_token], self.sensors[row.calibrated_sensor_token]
        T_world_ego = make_rigid(self.tables / "ego_pose.json", ego.rotation, ego.translation)
        return T_world_ego @ make_rigid(self.tables / "calibrated_sensor.json", sensor.rotation, sensor.translation)
