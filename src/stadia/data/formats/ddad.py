"""Read DDAD (github.com/TRI-ML/DDAD): ROOT/ddad.json, SCENE/{scene_*.json, calibration, rgb, point_cloud}.

A scene is a recording of CAMERA_01 (front) at 10 Hz, with the pose of each image and the depth of its LiDAR scan.
"""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from stadia.core.errors import DataError
from stadia.core.types import Recording
from stadia.data.config import SourceOptions
from stadia.data.formats.lidar_frames import LidarFrame, make_lidar_recording
from stadia.data.frame_store import ReportProgress
from stadia.data.open_dataset import DatasetFormat
from stadia.io.array_files import read_npz
from stadia.io.input_files import safe_join
from stadia.io.records.calibration import make_rigid
from stadia.io.typed_json import FileEntry, read_typed_json

INDEX = "ddad*.json"  # DDAD_tiny has ddad_tiny.json
CAMERA, SCANNER = "CAMERA_01", "LIDAR"
SPLITS = {"0": "train", "1": "val", "2": "test"}  # `scene_splits` in dgp/proto/dataset.proto
MAX_SCENE_BYTES = 256 << 20
POINTS = "data"  # array of a scan: (N, 3 or more) with x, y, z first
_EXPECTED, _FIX = "the DGP layout of DDAD", "copy the official file"
_FileName = Annotated[str, Field(min_length=1, max_length=4096)]
_Side = Annotated[int, Field(ge=1, le=1 << 16)]


class _SceneFiles(FileEntry):
    filenames: list[_FileName]


class _IndexFile(FileEntry):
    scene_splits: Annotated[dict[str, _SceneFiles], Field(min_length=1)]


class _Vector(FileEntry):
    x: float
    y: float
    z: float


class _Rotation(FileEntry):
    qw: float
    qx: float
    qy: float
    qz: float


class _Pose(FileEntry):
    translation: _Vector
    rotation: _Rotation


class _DdadImage(FileEntry):
    filename: _FileName
    height: _Side
    width: _Side
    pose: _Pose


class _PointCloud(FileEntry):
    filename: _FileName
    pose: _Pose


class _Content(FileEntry):
    image: _DdadImage | None = None
    point_cloud: _PointCloud | None = None


class _Identity(FileEntry):
    name: str = ""
    timestamp: datetime | None = None


class _Datum(FileEntry):
    key: str
    id: _Identity
    datum: _Content


class _DdadSample(FileEntry):
    datum_keys: list[str]
    calibration_key: _FileName


class _DdadScene(FileEntry):
    data: list[_Datum]
    samples: Annotated[list[_DdadSample], Field(min_length=1)]


class _Intrinsics(FileEntry):
    fx: float
    fy: float
    cx: float
    cy: float
    skew: float = 0.0


class _CalibrationFile(FileEntry):
    names: list[str]
    intrinsics: list[_Intrinsics]


class Ddad(DatasetFormat):
    """The reader of DDAD. The path of the dataset is the folder that contains ddad.json; each scene is a recording."""

    layout = "ddad.json with SCENE/scene_*.json"

    def recognizes(self, path: Path) -> bool:
        return any(path.glob(INDEX))

    def find_recordings(self, path: Path) -> dict[str, Path]:
        if not self.recognizes(path):
            return {}
        files = [name for part in _read_index(path).scene_splits.values() for name in part.filenames]
        return {Path(name).parent.name: safe_join(path, name) for name in files}

    def splits(self, path: Path) -> dict[str, list[str]]:
        parts = _read_index(path).scene_splits if self.recognizes(path) else {}
        named = {SPLITS[number]: part.filenames for number, part in parts.items() if number in SPLITS}
        return {name: [Path(file).parent.name for file in files] for name, files in named.items()}

    def open_recording(
        self, name: str, folder: Path, options: SourceOptions, progress: ReportProgress | None
    ) -> Recording:
        path, scene_folder = folder, folder.parent
        scene: _DdadScene = _parse(_DdadScene, path, max_bytes=MAX_SCENE_BYTES)
        datums = {datum.key: datum for datum in scene.data}
        cameras: dict[str, NDArray[np.float64]] = {}
        frames, sizes = list[LidarFrame](), set[tuple[int, int]]()
        for sample in scene.samples:
            if missing := next((key for key in sample.datum_keys if key not in datums), None):
                found = f"a sample with the key '{missing[:60]}'"
                raise DataError(path, found=found, expected="a row for each key in data", fix=_FIX)
            named = {datums[key].id.name.upper(): datums[key] for key in sample.datum_keys}
            if (K := cameras.get(sample.calibration_key)) is None:
                K = cameras[sample.calibration_key] = _read_K(scene_folder, sample.calibration_key)
            frames.append(_make_frame(path, named, K))
            image, _ = _find_image(path, named)
            sizes.add((image.height, image.width))
        if len(sizes) > 1:
            found = f"images of {' and '.join(f'{width}x{height}' for height, width in sorted(sizes))}"
            raise DataError(path, found=found, expected="one size", fix=_FIX)
        return make_lidar_recording(path, f"ddad/{name}", frames, size=sizes.pop(), read_points=read_points)


def _parse(kind: type[FileEntry], path: Path, **limits: int) -> Any:
    return read_typed_json(path, kind, expected=_EXPECTED, fix=_FIX, **limits)


def _read_index(path: Path) -> _IndexFile:
    index: _IndexFile = _parse(_IndexFile, min(path.glob(INDEX)))
    return index


def _read_K(scene_folder: Path, key: str) -> NDArray[np.float64]:
    """Return K (3, 3) of CAMERA_01. Raises DataError if the calibration lacks this camera."""
    path = safe_join(scene_folder, f"calibration/{key}.json")
    calibration: _CalibrationFile = _parse(_CalibrationFile, path)
    rows = dict(zip(map(str.upper, calibration.names), calibration.intrinsics, strict=False))
    if CAMERA not in rows or len(calibration.names) != len(calibration.intrinsics):
        found = f"{len(calibration.intrinsics)} cameras named {', '.join(calibration.names[:8]) or 'nothing'}"
        raise DataError(path, found=found, expected=f"{CAMERA}, and one name per camera", fix=_FIX)
    row = rows[CAMERA]
    return np.array([[row.fx, row.skew, row.cx], [0, row.fy, row.cy], [0, 0, 1]])


def _find_image(path: Path, named: Mapping[str, _Datum]) -> tuple[_DdadImage, datetime]:
    datum = named.get(CAMERA)
    if datum is None or datum.datum.image is None or datum.id.timestamp is None:
        found = f"a sample with {', '.join(sorted(named)[:8]) or 'nothing'}"
        raise DataError(path, found=found, expected=f"an image and a time of {CAMERA} in each sample", fix=_FIX)
    return datum.datum.image, datum.id.timestamp


def _make_frame(path: Path, named: Mapping[str, _Datum], K: NDArray[np.float64]) -> LidarFrame:
    image, taken = _find_image(path, named)
    cloud = named[SCANNER].datum.point_cloud if SCANNER in named else None
    return LidarFrame(
        image=safe_join(path.parent, image.filename),
        time_s=taken.timestamp(),
        K=K,
        T_world_camera=_make_pose(path, image.pose),
        scan=None if cloud is None else safe_join(path.parent, cloud.filename),
        T_world_scan=None if cloud is None else _make_pose(path, cloud.pose),
    )


def _make_pose(path: Path, pose: _Pose) -> NDArray[np.float64]:
    q, t = pose.rotation, pose.translation
    return make_rigid(path, (q.qw, q.qx, q.qy, q.qz), (t.x, t.y, t.z))


def read_points(path: Path) -> NDArray[np.float32]:
    """Read the points (N, 3) of a LiDAR scan, in the scanner's coordinate frame and in metres.

    Raises DataError for a damaged file.
    """
    points = read_npz(path, only={POINTS}).get(POINTS)
    if points is None or points.ndim != 2 or points.shape[1] < 3 or points.dtype.kind != "f":
        found = "no array 'data'" if points is None else f"{points.dtype} of shape {points.shape}"
        raise DataError(path, found=found, expected="floats (N, 3 or more), x y z first", fix="copy the scan again")
    xyz = points[:, :3].astype(np.float32)
    if not np.isfinite(xyz).all():
        raise DataError(path, found="a point that is not finite", expected="finite metres", fix="copy the scan again")
    return xyz
