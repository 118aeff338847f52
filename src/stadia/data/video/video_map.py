"""Read what `stadia map` wrote next to a video or a folder of images: camera, path and static parts."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from stadia.core.errors import DataError, StadiaError
from stadia.data.config import Matrix
from stadia.data.lens_distortion import DISTORTION_MODELS, RADTAN, DistortedCamera, make_undistortion
from stadia.data.video.map_geometry import MAX_FOCAL_DIFFERENCE, MEDIAN_DEPTH, MIN_SEEN, MapGeometry
from stadia.data.video.photo_fit import PhotoFit
from stadia.geometry.numpy_camera import MAX_FOCAL_PX, Intrinsics, check_K
from stadia.io.array_files import FileEntry, Layout, StackedArray, open_npz, read_arrays, read_typed_json
from stadia.io.image_files import IMAGE_SUFFIXES, read_upright_size
from stadia.io.video_decoding import hash_source

RECORD, POINTS, MOVABLE, MASK = "map.json", "points.npz", "movable.npz", "static.png"
FORMAT = "stadia-map"
MAP_CAMERA = "the camera of the map"
UNUSABLE = "unusable"  # grade of a map that nothing takes path, points or camera from

MAX_RECORD_BYTES = 1 << 28
_REMAKE = "make it again: stadia map VIDEO"


_POINTS = {
    "points": Layout(("P", 3)),
    "relative_deviation": Layout(("P",), "f"),
    "track_length": Layout(("P",), "i"),
    "frames": Layout(("K",), "i", below=("N",), least=1),
    "observed": Layout(("M", 2), "i", below=("K", "P")),
}
"""Arrays of POINTS that are read, with P points, K key frames of N frames, and M observations (key frame, point)."""

MAX_MEASURED = 1000  # frames whose masks are read for a mean
MAX_LENGTH = 1e9  # of a map, in its own unit, in which a road is about 1 below the camera

_Side = Annotated[int, Field(ge=1, le=1 << 14)]
_Center = Annotated[float, Field(gt=-(1 << 16), lt=1 << 16)]
_Row = tuple[float, float, float, float]
_Coefficient = Annotated[float, Field(gt=-1e3, lt=1e3)]


class MapLens(FileEntry):
    """The lens whose distortion was removed before mapping."""

    K: Matrix
    model: str
    coefficients: tuple[float, ...]


class MapCamera(FileEntry):
    """The camera of a map, for the frames that were mapped.

    origin: "given", "estimated", "uncertain", or "assumed" if the motion does not determine it.
    focal_px, center_px: focal length and principal point in pixels.
    distortion: k1, k2, p1, p2 of OpenCV.
    height, width: size of the frames.
    intervals_95: low and high end of the 95 % intervals of focal_px, center_x_px, center_y_px, k1 and k2; empty for a
        given camera.
    filmed: the lens whose distortion was removed before; None if the frames were mapped as filmed.
    """

    origin: str
    focal_px: Annotated[float, Field(ge=2, le=MAX_FOCAL_PX)]
    center_px: tuple[_Center, _Center]
    distortion: tuple[_Coefficient, _Coefficient, _Coefficient, _Coefficient]
    height: _Side
    width: _Side
    intervals_95: dict[str, tuple[float, float]] = Field(default_factory=dict)
    filmed: MapLens | None = None

    @property
    def is_determined(self) -> bool:
        """Return whether the focal length is known."""
        return self.origin in ("given", "estimated")

    @property
    def intrinsics(self) -> Intrinsics:
        """Return K of the frames as filmed, ignoring the distortion."""
        x, y = self.center_px
        return Intrinsics(np.array([[self.focal_px, 0, x], [0, self.focal_px, y], [0, 0, 1]]), self.height, self.width)

    @property
    def lens(self) -> DistortedCamera | None:
        """Return the lens of the filmed frames; None if its distortion is not visible."""
        if self.filmed is not None:
            K = np.array(self.filmed.K)
            return DistortedCamera(K, self.filmed.model, np.array(self.filmed.coefficients), self.height, self.width)
        known = self.intrinsics
        lens = DistortedCamera(known.K, RADTAN, np.array(self.distortion), self.height, self.width)
        return lens if self.is_determined and lens.corner_shift_px >= MIN_CORNER_SHIFT_PX else None

    def fit_to_photo(self, height: int, width: int) -> "MapCamera | None":
        """Return the camera of a mapped photo of this size; None if the photo has another shape."""
        fit = PhotoFit.find((height, width), (self.height, self.width))
        if fit is None or (height, width) == (self.height, self.width):
            return None if fit is None else self
        center = fit.restore_xy(np.array([self.center_px]) + 0.5, self.height, self.width)[0] - 0.5
        k1, k2, p1, p2 = self.distortion
        p2, p1 = fit.T[:2, :2] @ (p2, p1)  # the tangential part is a vector
        changes = {"height": height, "width": width, "center_px": tuple(center.tolist()), "intervals_95": {}}
        focal_px = self.focal_px * float(np.sqrt(np.prod(fit.find_scale(self.height, self.width))))
        return self.model_copy(update={**changes, "focal_px": focal_px, "distortion": (k1, k2, float(p1), float(p2))})

    @property
    def relative_focal(self) -> float:
        """Return fx of the undistorted frames divided by their width."""
        return float(self.undistorted.K[0, 0]) / self.width

    @property
    def undistorted(self) -> Intrinsics:
        """Return K of the undistorted frames."""
        lens = self.lens
        return self.intrinsics if lens is None else make_undistortion(lens, MAP_CAMERA).intrinsics


class _MapFrame(FileEntry):
    camera: MapCamera | None = None
    index: int
    name: str
    status: str
    time_s: float | None = None
    T_world_camera: tuple[_Row, _Row, _Row] | None = None


class MapRoad(FileEntry):
    """The road below the camera of a map: normal . X + height = 0 in the frame of each camera.

    normal: unit normal of the road.
    height, height_deviation: mean and standard deviation of the camera height in units of the path.
    pitch_deg, pitch_deviation_deg: mean and standard deviation of the camera's pitch, positive upwards.
    """

    normal: tuple[float, float, float]
    height: Annotated[float, Field(gt=0, lt=MAX_LENGTH)]
    height_deviation: float
    pitch_deg: float
    pitch_deviation_deg: float

    def horizon_row(self, K: NDArray[np.float64]) -> float:
        """Return the row of the horizon in pixels at the column of the principal point, for K (3, 3)."""
        return float(K[1, 2] + K[1, 1] * np.tan(np.radians(self.pitch_deg)))


class _MapReason(FileEntry):
    field: str


class MapVerdictRecord(FileEntry):
    """The verdict of `mapping.map_verdict`.

    grade: "usable", "doubtful" or "unusable".
    reasons: the fields that determined the grade.
    """

    grade: str
    reasons: list[_MapReason] = Field(default_factory=list)

    def __str__(self) -> str:
        return f"{self.grade} ({', '.join(reason.field for reason in self.reasons) or 'all checks passed'})"


class _MapRecord(FileEntry):
    format: str
    source: str = ""
    fingerprint: str
    camera: MapCamera
    frames: list[_MapFrame]
    road: MapRoad | None = None
    verdict: MapVerdictRecord | None = None


@dataclass(frozen=True, eq=False)
class StoredMap:
    """A map in its folder.

    source, fingerprint: name of the video, and its `hash_source`.
    names, status: name and status of all frames of the video; `mapping.frame_poses.FrameStatus` lists the states.
    poses: (N, 4, 4) T_world_camera, up to scale; NaN for lost frames.
    road: None if no road could be measured.
    verdict: None for a map of an earlier version, which is used.
    photos: cameras of the photos that differ from `camera`, by name.
    """

    folder: Path
    source: str
    fingerprint: str
    camera: MapCamera
    names: tuple[str, ...]
    status: tuple[str, ...]
    poses: NDArray[np.float64]
    road: MapRoad | None = None
    verdict: MapVerdictRecord | None = None
    photos: Mapping[str, MapCamera] = field(default_factory=dict)

    @property
    def is_usable(self) -> bool:
        """Return whether the path and the points may be used."""
        return self.verdict is None or self.verdict.grade != UNUSABLE

    def read_points(self) -> dict[str, NDArray[Any]]:
        """Return points (P, 3), relative_deviation (P,), track_length (P,), observed (M, 2) and frames (K,)."""
        return read_arrays(self.folder / POINTS, _POINTS, fix=_REMAKE, sizes={"N": len(self.names)})

    def open_movable(self) -> StackedArray | None:
        """Return one bit for each pixel that can move, (N, h, w / 8); None if the map was made without masks."""
        if not (path := self.folder / MOVABLE).is_file():
            return None
        found = open_npz(path, "movable")
        if found.dtype != np.uint8 or len(found.shape) != 3 or len(found) != len(self.names):
            what = f"{found.dtype} of shape {found.shape}"
            raise DataError(path, found=what, expected=f"bits of {len(self.names)} frames", fix=_REMAKE)
        return found

    def measure_movable(self) -> float:
        """Return the share of the image that can move, measured in at most MAX_MEASURED frames; 0 without masks."""
        if (movable := self.open_movable()) is None:
            return 0.0
        rows = range(0, len(movable), 1 + len(movable) // MAX_MEASURED)
        return float(np.mean([np.unpackbits(np.asarray(movable.read(row), np.uint8)).mean() for row in rows]))

    def select_poses(self, names: Iterable[str]) -> NDArray[np.float64]:
        """Return T_world_camera (N, 4, 4) of the named frames; NaN for lost and for unknown frames."""
        row_of_name = {name: row for row, name in enumerate(self.names)}
        lost = np.full((4, 4), np.nan)
        chosen = [self.poses[row_of_name[name]] if name in row_of_name else lost for name in names]
        return np.array(chosen).reshape(-1, 4, 4)

    def find_camera_mismatch(self, focal: float) -> str | None:
        """Return a text about how the map's camera differs from one with this fx / width; None if they agree."""
        ratio = self.camera.relative_focal / focal
        if abs(ratio - 1) <= MAX_FOCAL_DIFFERENCE:
            return None
        return f"a focal length {ratio:.2f} times as long as in the data"

    @cached_property
    def geometry(self) -> MapGeometry | None:
        """Return the geometry of all frames; None if there are too few points."""
        with suppress(StadiaError):
            return self.make_geometry(range(len(self.names)))
        return None

    def make_geometry(self, numbers: Sequence[int]) -> MapGeometry:
        """Return the geometry of the frames with these numbers. Raises DataError without usable points."""
        stored = self.read_points()
        observed = np.asarray(stored["observed"], np.int64)
        points = np.asarray(stored["points"], np.float64)
        usable = (stored["relative_deviation"] < MAX_RELATIVE_DEVIATION) & (stored["track_length"] >= MIN_TRACK)
        keys = np.asarray(stored["frames"], np.int64)
        poses = self.poses[np.clip(numbers, 0, len(self.poses) - 1)].copy()
        poses[np.asarray(numbers) >= len(self.poses)] = np.nan
        kept = usable[observed[:, 1]] & np.isfinite(self.poses[keys[observed[:, 0]]]).all((1, 2))
        observed = observed[kept]
        if len(observed) < MIN_SEEN or not np.isfinite(poses).all((1, 2)).any():
            found = f"{len(observed)} reliable observations of points"
            raise DataError(self.folder, found=found, expected=f"a map with {MIN_SEEN} for these frames", fix=_REMAKE)
        T = np.linalg.inv(self.poses[keys[observed[:, 0]]])
        inside = np.einsum("mij,mj->mi", T[:, :3, :3], points[observed[:, 1]]) + T[:, :3, 3]
        road = None
        if self.road is not None:
            plane = np.append(self.road.normal, self.road.height)
            is_below = inside @ plane[:3] + plane[3] < -BELOW_ROAD * plane[3]
            observed = observed[~np.isin(observed[:, 1], observed[is_below, 1])]
            road = plane
        unit = MEDIAN_DEPTH / (HEIGHTS_AHEAD * road[3] if road is not None else float(np.median(inside[:, 2])))
        poses[:, :3, 3] *= unit
        if road is not None:
            road[3] *= unit
        return MapGeometry(
            poses,
            points * unit,
            _list_observed(observed, keys, np.asarray(numbers)),
            self.camera.relative_focal,
            road,
            row_of_name={self.names[number]: row for row, number in enumerate(numbers) if number < len(self.names)},
            road_deviation=0.0 if self.road is None else self.road.height_deviation / self.road.height,
        )


def find_map_folder(source: Path) -> Path:
    """Return the folder for the map of a video or a folder of images, such as drive.map next to drive.mp4."""
    if not source.is_dir():
        return source.with_suffix(".map")
    named = source if source.name else source.resolve()  # "." has no name, and "/" has none at all
    return named.parent / f"{source.resolve().name}.map"


def read_map(folder: Path) -> StoredMap:
    """Read the record of a map. It is read again only after it changed.

    Raises DataError if it is missing or damaged.
    """
    path = folder / RECORD
    status = path.stat() if path.is_file() else None
    return _read_map(folder, None if status is None else (status.st_mtime_ns, status.st_size))


@lru_cache(maxsize=4)
def _read_map(folder: Path, _: tuple[int, int] | None) -> StoredMap:
    path = folder / RECORD
    record: _MapRecord = read_typed_json(
        path, _MapRecord, expected="a map of stadia", fix=_REMAKE, max_bytes=MAX_RECORD_BYTES
    )
    if record.format != FORMAT:
        raise DataError(path, found=f"format '{record.format[:40]}'", expected=f"'{FORMAT}'", fix=_REMAKE)
    camera = record.camera
    if (lens := camera.filmed) is not None:
        model = DISTORTION_MODELS.get(lens.model)
        if model is None or len(lens.coefficients) not in model.counts:
            found = f"{len(lens.coefficients)} coefficients of {lens.model[:40]!r}"
            raise DataError(path, found=found, expected="a lens", fix=_REMAKE)
        check_K(path, np.array(lens.K, np.float64))
    if record.road is not None:
        _check_road(path, record.road)
    poses = np.full((len(record.frames), 4, 4), np.nan)
    for row, frame in enumerate(record.frames):
        if frame.index != row:
            found = f"frame {frame.index} instead of {row}"
            raise DataError(path, found=found, expected="every frame of the video", fix=_REMAKE)
        if frame.T_world_camera is not None:
            values = np.array(frame.T_world_camera, np.float64)
            if np.abs(values).max() > MAX_LENGTH or abs(np.linalg.det(values[:, :3]) - 1) > 1e-3:
                raise DataError(path, found=f"no pose at frame {frame.name[:40]}", expected="3x4 numbers", fix=_REMAKE)
            poses[row] = np.vstack((values, (0, 0, 0, 1)))
    names, status = (tuple(getattr(frame, key) for frame in record.frames) for key in ("name", "status"))
    return StoredMap(
        folder=folder,
        source=record.source,
        fingerprint=record.fingerprint,
        camera=camera,
        names=names,
        status=status,
        poses=poses,
        road=record.road,
        verdict=record.verdict,
        photos={frame.name: frame.camera for frame in record.frames if frame.camera is not None},
    )


def _check_road(path: Path, road: MapRoad) -> None:
    numbers = [*road.normal, road.height, road.height_deviation, road.pitch_deg, road.pitch_deviation_deg]
    is_unit = np.isfinite(numbers).all() and abs(np.linalg.norm(road.normal) - 1) < 1e-3
    if not is_unit or road.normal[1] >= 0 or min(road.height_deviation, 0) < 0:
        found = f"a road with normal {road.normal} and height {road.height:g}"
        raise DataError(path, found=found, expected="a plane below the camera", fix=_REMAKE)


def find_map(source: Path) -> StoredMap | None:
    """Return the map of a video or folder of images, or None. Raises DataError if the map belongs to another video."""
    folder = find_map_folder(source)
    is_photo = source.suffix.lower() in IMAGE_SUFFIXES and not source.is_dir()
    if is_photo or not source.exists() or not (folder / RECORD).is_file():
        return None
    mapped = read_map(folder)
    if mapped.fingerprint != hash_source(source):
        found, fix = f"the map of another video ({mapped.source[:40]})", f"replace it: stadia map {source}"
        raise DataError(folder, found=found, expected=f"the map of {source.name}", fix=fix)
    return mapped


def find_usable_map(source: Path) -> StoredMap | None:
    """Return the map as `find_map` does, or None if its verdict is unusable."""
    mapped = find_map(source)
    return mapped if mapped is not None and mapped.is_usable else None


MIN_CORNER_SHIFT_PX = 0.5  # smaller distortion stays


def find_mapped_camera(source: Path) -> MapCamera | None:
    """Return the camera of a source's map, or of a photo that was mapped with its folder, or None.

    The result is None if the map does not determine the camera.
    """
    found = find_usable_map(source)
    camera = find_photo_camera(source) if found is None else found.camera
    return camera if camera is not None and camera.is_determined else None


def find_photo_camera(photo: Path) -> MapCamera | None:
    """Return the camera of a photo that is placed in the usable map of its folder, or None."""
    if photo.suffix.lower() not in IMAGE_SUFFIXES or not photo.is_file():
        return None
    with suppress(StadiaError):  # a map of other photos than the folder holds now
        mapped = find_usable_map(photo.parent)
        if mapped is not None and np.isfinite(mapped.select_poses([photo.stem])).all():
            return mapped.photos.get(photo.stem, mapped.camera).fit_to_photo(*read_upright_size(photo))
    return None


def read_mapped_camera(source: Path) -> MapCamera:
    """Return the camera of a source's map. Raises DataError if it is not determined."""
    found = _require_map(source)
    camera = found.camera
    if not camera.is_determined:
        fix = f"give the camera: stadia camera {source} --fov DEGREES"
        what = f"a camera that the motion does not determine ({camera.origin})"
        raise DataError(found.folder, found=what, expected="a path with turns", fix=fix)
    return camera


# -- a map, seen from the frames of a recording

MAX_RELATIVE_DEVIATION = 0.1  # of the distance of a used point
MIN_TRACK = 3  # key frames that observe a used point
HEIGHTS_AHEAD = 16.0  # if a camera sees a road, half of its image is nearer than this many camera heights
BELOW_ROAD = 0.4  # points this many camera heights below the road belong to moving objects: nothing static is there


def find_map_geometry(source: Path, *, skip_damaged: bool = False) -> MapGeometry | None:
    """Return the geometry of the usable map of a source, or None.

    skip_damaged: return None for a damaged map instead of raising DataError.
    """
    try:
        mapped = find_usable_map(source)
    except StadiaError:
        if skip_damaged:
            return None
        raise
    return None if mapped is None else mapped.geometry


def _require_map(source: Path) -> StoredMap:
    mapped = find_map(source)
    if mapped is None:
        expected = f"{find_map_folder(source).name} next to it"
        raise DataError(source, found="no map", expected=expected, fix=f"make it: stadia map {source}")
    check_usable(mapped)
    return mapped


def check_usable(mapped: StoredMap) -> None:
    """Raise DataError if the verdict of a map is unusable."""
    if not mapped.is_usable:
        fix = "map another part of the video, or go without the map: motion=network"
        raise DataError(mapped.folder, found=f"a map that is {mapped.verdict}", expected="a usable map", fix=fix)


def read_map_geometry(source: Path, numbers: Sequence[int], focal: float) -> MapGeometry:
    """Return the map's geometry for the frames with these numbers.

    Raises DataError if its fx / width is not `focal`.
    """
    mapped = _require_map(source)
    if (why := mapped.find_camera_mismatch(focal)) is not None:
        fix = f"make it again with this camera: stadia map {source}, or train without it: motion=network"
        raise DataError(mapped.folder, found=why, expected="the camera of the data", fix=fix)
    return replace(mapped.make_geometry(numbers), movable=mapped.open_movable())


def _list_observed(
    observed: NDArray[np.int64], keys: NDArray[np.int64], numbers: NDArray[np.int64]
) -> tuple[NDArray[np.int64], ...]:
    """Return the points that the key frames around each frame observe."""
    order = np.argsort(keys)
    of_key = {row: np.unique(observed[observed[:, 0] == row, 1]) for row in range(len(keys))}
    after = np.clip(np.searchsorted(keys[order], numbers), 0, len(keys) - 1)
    before = np.clip(np.searchsorted(keys[order], numbers, side="right") - 1, 0, len(keys) - 1)
    return tuple(
        np.union1d(of_key[int(order[first])], of_key[int(order[second])])
        for first, second in zip(before.tolist(), after.tolist(), strict=True)
    )
