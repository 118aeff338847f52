"""Read what `stadia map` wrote next to a video or a folder of images: camera, trajectory and static parts."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from stadia.core.errors import DataError, StadiaError
from stadia.core.verdict import Verdict
from stadia.data.config import SET_CAMERA, Matrix
from stadia.data.lens_distortion import DISTORTION_MODELS, DistortedCamera, make_undistortion
from stadia.data.video.map_geometry import MAX_FOCAL_DIFFERENCE, MEDIAN_DEPTH, MIN_SEEN, MapGeometry
from stadia.data.video.photo_fit import PhotoFit
from stadia.geometry.cameras import MAX_FOCAL_PX, Intrinsics, check_K
from stadia.geometry.poses import invert_pose
from stadia.io.array_files import Layout, StackedArray, open_npz, read_arrays
from stadia.io.image_files import IMAGE_SUFFIXES, read_upright_size
from stadia.io.records.formats import RADTAN
from stadia.io.typed_json import FileEntry, read_typed_json
from stadia.io.video_decoding import hash_source

RECORD, POINTS, MOVABLE, MASK = "map.json", "points.npz", "movable.npz", "static.png"
FORMAT = "stadia-map"
MAP_CAMERA = "the camera of the map"
NO_MOTION_OF_MAP = "map another part of the video, or set motion=network"
"""The fix of a training that cannot use its map."""

MAX_RECORD_BYTES = 1 << 28
_REMAKE = "remove the map, then make it: stadia map VIDEO"


_POINTS = {
    "points": Layout(("P", 3)),
    "relative_deviation": Layout(("P",), "f"),
    "track_length": Layout(("P",), "i"),
    "frames": Layout(("K",), "i", below=("N",), least=1),
    "observed": Layout(("M", 2), "i", below=("K", "P")),
}
"""Arrays of POINTS that are read, with P points, K keyframes of N frames, and M observations (keyframe, point)."""

MAX_MEASURED = 1000  # largest number of frames whose masks are read for a mean share
MAX_LENGTH = 1e9  # longest length, in the unit of a map, in which a road is about 1 below the camera

_Side = Annotated[int, Field(ge=1, le=1 << 14)]
_Center = Annotated[float, Field(gt=-(1 << 16), lt=1 << 16)]
_Row = tuple[float, float, float, float]
_Coefficient = Annotated[float, Field(gt=-1e3, lt=1e3)]


class MapLens(FileEntry):
    """The lens whose distortion was removed before the video was mapped.

    K: 3x3 intrinsics in pixels.
    model: name of the distortion model.
    coefficients: distortion coefficients.
    """

    K: Matrix
    model: str
    coefficients: tuple[float, ...]


class MapCamera(FileEntry):
    """The camera of a map, in pixels of the mapped frames.

    origin: origin of its numbers: "given", "estimated", "uncertain", or "assumed" if the motion does not
        determine it.
    focal_px: focal length in pixels.
    center_px: principal point x, y in pixels.
    distortion: k1, k2, p1, p2 of OpenCV's model.
    height, width: size of the frames in pixels.
    intervals_95: low and high end of the 95 % intervals of focal_px, center_x_px, center_y_px, k1 and k2; empty for a
        given camera.
    filmed: the lens whose distortion was removed before mapping; None if the frames were mapped as filmed.
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
        """Return whether the focal length is known: it was given, or the motion of the camera determined it."""
        return self.origin in ("given", "estimated")

    @property
    def intrinsics(self) -> Intrinsics:
        """Return K and size of the mapped frames as they were filmed; the distortion is not included."""
        x, y = self.center_px
        return Intrinsics(np.array([[self.focal_px, 0, x], [0, self.focal_px, y], [0, 0, 1]]), self.height, self.width)

    @property
    def lens(self) -> DistortedCamera | None:
        """Return the lens of the filmed frames with its distortion; None if the distortion shifts no pixel visibly."""
        if self.filmed is not None:
            K = np.array(self.filmed.K)
            return DistortedCamera(K, self.filmed.model, np.array(self.filmed.coefficients), self.height, self.width)
        known = self.intrinsics
        lens = DistortedCamera(known.K, RADTAN, np.array(self.distortion), self.height, self.width)
        return lens if self.is_determined and lens.corner_shift_px >= MIN_CORNER_SHIFT_PX else None

    def fit_to_photo(self, height: int, width: int) -> "MapCamera | None":
        """Convert the camera to a mapped photo of a different size or orientation; None if its aspect ratio differs.

        height, width: size of the photo.
        """
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
        """Return the focal length fx after undistortion divided by the image width."""
        return float(self.undistorted.K[0, 0]) / self.width

    @property
    def undistorted(self) -> Intrinsics:
        """Return K and size of the frames after the distortion is removed."""
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
    """The road plane below the camera: normal . X + height = 0 for X in each camera's coordinate frame.

    normal: unit normal of the road, towards the camera.
    height: mean height of the camera above the road, in the unit of the map.
    height_deviation: standard deviation of this height.
    pitch_deg: mean pitch of the camera relative to the road in degrees, positive upwards.
    pitch_deviation_deg: standard deviation of this pitch.
    """

    normal: tuple[float, float, float]
    height: Annotated[float, Field(gt=0, lt=MAX_LENGTH)]
    height_deviation: float
    pitch_deg: float
    pitch_deviation_deg: float

    def horizon_row(self, K: NDArray[np.float64]) -> float:
        """Return the image row of the horizon, in pixels, at the column of the principal point.

        K: (3, 3) intrinsics of the image.
        """
        return float(K[1, 2] + K[1, 1] * np.tan(np.radians(self.pitch_deg)))


class _MapReason(FileEntry):
    field: str
    of: str = "path"


class MapVerdictRecord(FileEntry):
    """Whether a map can be used, as `stadia map` judged it.

    grade: "usable", "doubtful" or "unusable": the grade of the whole map, which equals the grade of its path.
    camera: the grade of its camera; None in files of earlier versions, whose grade is of path and camera together.
    reasons: names of the measured values that determined the grades, and whether of the "path" or the "camera".
    good_for: whether the path is good for each purpose; None if it is open. Empty in files of earlier versions.
    """

    grade: str
    camera: str | None = None
    good_for: dict[str, bool | None] = Field(default_factory=dict)
    reasons: list[_MapReason] = Field(default_factory=list)

    @model_validator(mode="before")
    @classmethod
    def _split_grade(cls, record: Any) -> Any:
        """Give the record of an earlier version a grade of the camera: there, `planar` made the whole map doubtful."""
        reasons = record.get("reasons") if isinstance(record, dict) else None
        if not isinstance(reasons, list) or record.get("camera") is not None:
            return record
        others = [reason for reason in reasons if not isinstance(reason, dict) or reason.get("field") != "planar"]
        if len(others) == len(reasons):
            return record
        grade = record.get("grade") if others else Verdict.USABLE
        return {
            **record,
            "grade": grade,
            "camera": Verdict.DOUBTFUL,
            "reasons": [*others, {"field": "planar", "of": "camera"}],
        }

    def __str__(self) -> str:
        fields = [reason.field for reason in self.reasons if reason.of == "path"]
        good = ", ".join(name for name, holds in self.good_for.items() if holds)
        return f"{self.grade} ({', '.join(fields) or (good and f'good for {good}') or 'all checks passed'})"


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
    """A map that `stadia map` wrote to a folder.

    folder: the folder.
    source: name of the video.
    fingerprint: hash of the video's content; a map belongs to the video with the same hash.
    camera: camera of the mapped frames.
    names, status: name and status of all frames of the video; `mapping.frame_poses.FrameStatus` lists the states.
    poses: (N, 4, 4) T_world_camera, up to scale; NaN for frames without a pose.
    road: plane of the road; None if no road could be measured.
    verdict: whether the map can be used; None for a map of an earlier version, which is used.
    photos: cameras of the photos whose camera differs from `camera`, by the photo's name.
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
        """Return whether poses and points of the map may be used (it was not judged "unusable")."""
        return self.verdict is None or self.verdict.grade != Verdict.UNUSABLE

    @property
    def placed(self) -> float:
        """Return the share of the frames whose image gave the pose: neither lost nor interpolated."""
        return sum(status not in ("lost", "interpolated") for status in self.status) / max(len(self.status), 1)

    def read_points(self) -> dict[str, NDArray[Any]]:
        """Read the map's P points and their M observations in K keyframes; return arrays by name.

        They are points (P, 3), relative_deviation (P,) of each point's distance, track_length (P,) in keyframes,
        observed (M, 2) with the keyframe and point of each observation, and frames (K,), the numbers of the
        keyframes.

        Raises DataError for a damaged file.
        """
        return read_arrays(self.folder / POINTS, _POINTS, fix=_REMAKE, sizes={"N": len(self.names)})

    def open_movable(self) -> StackedArray | None:
        """Open the masks of what can move: one bit per pixel, (N, h, w / 8), for all frames; None if the map has no
        masks.

        Raises DataError if the file does not fit the map.
        """
        if not (path := self.folder / MOVABLE).is_file():
            return None
        found = open_npz(path, "movable")
        if found.dtype != np.uint8 or len(found.shape) != 3 or len(found) != len(self.names):
            what = f"{found.dtype} of shape {found.shape}"
            raise DataError(path, found=what, expected=f"bits of {len(self.names)} frames", fix=_REMAKE)
        return found

    def measure_movable(self) -> float:
        """Return the mean share of the image that can move, over at most MAX_MEASURED frames; 0 without masks."""
        if (movable := self.open_movable()) is None:
            return 0.0
        rows = range(0, len(movable), 1 + len(movable) // MAX_MEASURED)
        return float(np.mean([np.unpackbits(np.asarray(movable.read(row), np.uint8)).mean() for row in rows]))

    def select_poses(self, names: Iterable[str]) -> NDArray[np.float64]:
        """Return T_world_camera (N, 4, 4) of the named frames; NaN for frames without a pose and for unknown names."""
        row_of_name = {name: row for row, name in enumerate(self.names)}
        lost = np.full((4, 4), np.nan)
        chosen = [self.poses[row_of_name[name]] if name in row_of_name else lost for name in names]
        return np.array(chosen).reshape(-1, 4, 4)

    def find_camera_mismatch(self, focal: float) -> str | None:
        """Compare the map's focal length with the data's: return a text about the difference; None if they agree.

        focal: focal length divided by image width, fx / width, of the data.
        """
        ratio = self.camera.relative_focal / focal
        if abs(ratio - 1) <= MAX_FOCAL_DIFFERENCE:
            return None
        return f"a focal length of {ratio:.2f} times the data's"

    @cached_property
    def geometry(self) -> MapGeometry | None:
        """Return poses and points of the map for all its frames; None if there are too few reliable points."""
        with suppress(StadiaError):
            return self.make_geometry(range(len(self.names)))
        return None

    def make_geometry(self, numbers: Sequence[int]) -> MapGeometry:
        """Return poses and reliable points of the map for some frames, in a unit suitable for networks.

        In this unit the median depth is about MEDIAN_DEPTH.

        numbers: numbers of the frames in the video.

        Raises DataError if there are too few reliable points or no pose.
        """
        stored = self.read_points()
        observed = np.asarray(stored["observed"], np.int64)
        points = np.asarray(stored["points"], np.float64)
        usable = find_reliable(stored)
        keys = np.asarray(stored["frames"], np.int64)
        poses = self.poses[np.clip(numbers, 0, len(self.poses) - 1)].copy()
        poses[np.asarray(numbers) >= len(self.poses)] = np.nan
        kept = usable[observed[:, 1]] & np.isfinite(self.poses[keys[observed[:, 0]]]).all((1, 2))
        observed = observed[kept]
        if len(observed) < MIN_SEEN or not np.isfinite(poses).all((1, 2)).any():
            found = f"{len(observed)} reliable observations of points"
            raise DataError(self.folder, found=found, expected=f"a map with {MIN_SEEN} for these frames", fix=_REMAKE)
        T = invert_pose(self.poses[keys[observed[:, 0]]])
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
            stored_unit=unit,
        )


def find_map_folder(source: Path) -> Path:
    """Return the folder of the map that `stadia map` writes for a source, such as drive.map next to drive.mp4.

    source: path of a video or a folder of images.
    """
    if not source.is_dir():
        return source.with_suffix(".map")
    named = source if source.name else source.resolve()  # "." has no name, and "/" has none at all
    return named.parent / f"{source.resolve().name}.map"


def read_map(folder: Path) -> StoredMap:
    """Read a map from its folder. The result is kept and read again only after the file changed.

    Raises DataError if the map is missing or damaged.
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
    """Return the map of a video or folder of images, also an unusable one; None without a map.

    Raises DataError if the map belongs to another video, or is damaged.
    """
    folder = find_map_folder(source)
    is_photo = source.suffix.lower() in IMAGE_SUFFIXES and not source.is_dir()
    if is_photo or not source.exists() or not (folder / RECORD).is_file():
        return None
    mapped = read_map(folder)
    if mapped.fingerprint != hash_source(source):
        found = f"the map of another video ({mapped.source[:40]})"
        raise DataError(folder, found=found, expected=f"the map of {source.name}", fix=_REMAKE)
    return mapped


def find_usable_map(source: Path) -> StoredMap | None:
    """Return the map of a video or folder of images; None if there is none, or if its grade is "unusable".

    Raises DataError if the map belongs to another video, or is damaged.
    """
    mapped = find_map(source)
    return mapped if mapped is not None and mapped.is_usable else None


MIN_CORNER_SHIFT_PX = 0.5  # smaller distortion stays


def find_mapped_camera(source: Path) -> MapCamera | None:
    """Return the camera that the map of a video or folder determined, or None.

    None means that the map is missing, or that the motion determined no camera.

    source: path of a video, of a folder of images, or of a photo in a mapped folder.
    """
    found = find_usable_map(source)
    camera = find_photo_camera(source) if found is None else found.camera
    return camera if camera is not None and camera.is_determined else None


def find_photo_camera(photo: Path) -> MapCamera | None:
    """Return the camera of a photo whose folder has a usable map with the photo's pose; otherwise None."""
    if photo.suffix.lower() not in IMAGE_SUFFIXES or not photo.is_file():
        return None
    with suppress(StadiaError):  # a map of other photos than the folder holds now
        mapped = find_usable_map(photo.parent)
        if mapped is not None and np.isfinite(mapped.select_poses([photo.stem])).all():
            return mapped.photos.get(photo.stem, mapped.camera).fit_to_photo(*read_upright_size(photo))
    return None


def read_mapped_camera(source: Path) -> MapCamera:
    """Return the camera that the map of a video or folder determined.

    Raises DataError without a usable map, or if the motion does not determine the camera.
    """
    found = _require_map(source)
    camera = found.camera
    if not camera.is_determined:
        what = f"a camera that the motion does not determine ({camera.origin})"
        raise DataError(found.folder, found=what, expected="a path with turns", fix=SET_CAMERA)
    return camera


# -- a map, seen from the frames of a recording

MAX_RELATIVE_DEVIATION = 0.1  # largest standard deviation of a used point, as a share of its distance
MIN_TRACK = 3  # keyframes that observe a used point
HEIGHTS_AHEAD = 16.0  # Half of an image of a road is nearer than this many camera heights.
BELOW_ROAD = 0.4  # points this many camera heights below the road belong to moving objects: nothing static is there


def find_reliable(stored: Mapping[str, NDArray[Any]]) -> NDArray[np.bool_]:
    """Return which points (P,) of `StoredMap.read_points` are accurate, and seen by at least MIN_TRACK keyframes."""
    is_reliable = (stored["relative_deviation"] < MAX_RELATIVE_DEVIATION) & (stored["track_length"] >= MIN_TRACK)
    return np.asarray(is_reliable, bool)


def find_map_geometry(source: Path, *, skip_damaged: bool = False) -> MapGeometry | None:
    """Return poses and points of the usable map of a video or folder; None without one or with too few points.

    source: path of the video or folder.
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


def check_usable(mapped: StoredMap, fix: str = "map another part of the video") -> None:
    """Raise DataError if the grade of a map is "unusable".

    fix: what the user can do, for the message.
    """
    if not mapped.is_usable:
        raise DataError(mapped.folder, found=f"a map that is {mapped.verdict}", expected="a usable map", fix=fix)


def read_map_geometry(source: Path, numbers: Sequence[int], focal: float) -> MapGeometry:
    """Return poses, points and masks of the map of a video for some of its frames.

    source: path of the video or folder.
    numbers: numbers of the frames in the video.
    focal: focal length divided by image width, fx / width, of the data, which the map's must match within 3 %.

    Raises DataError without a usable map, or if the focal lengths differ.
    """
    mapped = _require_map(source)
    if (why := mapped.find_camera_mismatch(focal)) is not None:
        raise DataError(mapped.folder, found=why, expected="the camera of the data", fix="remove data.poses=map")
    return replace(mapped.make_geometry(numbers), movable=mapped.open_movable())


def _list_observed(
    observed: NDArray[np.int64], keys: NDArray[np.int64], numbers: NDArray[np.int64]
) -> tuple[NDArray[np.int64], ...]:
    """Return the points that the keyframes around each frame observe."""
    order = np.argsort(keys)
    of_key = {row: np.unique(observed[observed[:, 0] == row, 1]) for row in range(len(keys))}
    after = np.clip(np.searchsorted(keys[order], numbers), 0, len(keys) - 1)
    before = np.clip(np.searchsorted(keys[order], numbers, side="right") - 1, 0, len(keys) - 1)
    return tuple(
        np.union1d(of_key[int(order[first])], of_key[int(order[second])])
        for first, second in zip(before.tolist(), after.tolist(), strict=True)
    )
