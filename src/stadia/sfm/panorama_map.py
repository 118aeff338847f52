"""Map a video of equirectangular panoramas: each keyframe is a rig of perspective views with fixed rotations."""

from __future__ import annotations

import math
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import ConfigError, DataError
from stadia.core.progress import TrackProgress, no_progress
from stadia.core.verdict import Verdict
from stadia.data.video.video_map import RECORD, find_map_folder
from stadia.geometry.dual_fisheye import DualFisheye, find_dual_fisheye, is_dual_fisheye
from stadia.geometry.panorama import View, make_views
from stadia.geometry.poses import hat, invert_pose
from stadia.io.atomic_files import atomic_folder, write_json
from stadia.io.image_io import write_image
from stadia.io.input_files import make_absolute
from stadia.io.video_decoding import estimate_frame_count, hash_video, stream_video
from stadia.judge.limits import PANORAMA_LIMITS
from stadia.judge.questions import QuestionVerdict
from stadia.sfm.frame_stream import read_panorama_samples
from stadia.sfm.map_evidence import MAX_ERROR, measure_sampson
from stadia.sfm.map_files import COLMAP, IMAGES, check_map_folder, digest_files, write_trajectories
from stadia.sfm.pair_matching import hold_features, hold_out
from stadia.sfm.reconstruction import MAX_ERROR_PX, MAX_POSE_ERROR_PX, Workers
from stadia.sfm.sparse_map import (
    MAX_FRAMES_BETWEEN,
    Array,
    FrameStatus,
    PlacedFrame,
    count_status,
    import_pycolmap,
    stack_poses,
)

FORMAT = "stadia-panorama-map"
ROWS = ((0, 6),)
"""Pitch and number of the views of a keyframe: level ones, since sky and photographer give no points."""

FOV_DEG, MAX_SIDE = 90.0, 512
DATABASE, REDUCED = "database.db", "reduced.db"  # the second one has no held-out matches
MAX_FEATURES = 1500
NEIGHBORS = (1, 2, 3, 5)
"""Differences in number of the keyframes that are matched. Places that the camera visits again are not searched."""

TRACKED_SIZE = 512, 256
"""Width and height of the panoramas, pixels, in which motion is tracked to choose keyframes."""

MIN_MOTION_PX = 5.0
"""Median motion, pixels of TRACKED_SIZE, after which a frame becomes a keyframe; 5 are 3.5 degrees."""

MIN_TRACKED = 0.5
"""Share of the points that are tracked, below which a frame becomes a keyframe."""

MIN_KEYS = 4

MIN_MATCHES = 20
"""Fewest held-out matches across a place of the path that are compared with the map."""


@dataclass(frozen=True, slots=True, eq=False)
class PanoramaEvidence:
    """What speaks for and against the map of a panoramic video. It closes no loops, so slow drift is not judged.

    Held-out matches are those of features that took no part in the map. A match crosses the places between its two
    keyframes.

    placed: share of the frames with a pose.
    angle_deg: median angle of triangulation of the points, degrees.
    names: names of the K keyframes with a pose, in order.
    fits: (K - 1,) number of held-out matches across the place after each keyframe that agree with the map.
    misses: (K - 1,) number of those that contradict it.
    """

    placed: float
    angle_deg: float
    names: Sequence[str]
    fits: Array
    misses: Array

    @property
    def within(self) -> float:
        """Return the share of held-out matches that agree with the map, median over the places; NaN if unknown."""
        shares = self.find_shares()
        return float(np.median(shares[~np.isnan(shares)])) if not np.isnan(shares).all() else float("nan")

    def find_shares(self) -> Array:
        """Return the shares (K - 1,) of held-out matches that agree with the map; NaN below MIN_MATCHES matches."""
        counts = self.fits + self.misses
        shares = np.full(len(counts), np.nan)
        np.divide(self.fits, counts, out=shares, where=counts >= MIN_MATCHES)
        return shares

    def judge(self) -> QuestionVerdict:
        """Return the verdict on the map and its reason; the reason of a usable map is empty."""
        shares, within = self.find_shares(), self.within
        limits = PANORAMA_LIMITS
        worst = int(np.argmin(np.nan_to_num(shares, nan=1.0)))
        if within < limits["within"].unusable:
            return QuestionVerdict(Verdict.UNUSABLE, f"{1 - within:.0%} of the held-out matches contradict it")
        if shares[worst] < limits["within"].unusable:
            wrong = f"{1 - shares[worst]:.0%} of the held-out matches between {self._name_place(worst)} contradict it"
            return QuestionVerdict(Verdict.UNUSABLE, wrong)
        if self.placed < limits["placed"].doubtful:
            return QuestionVerdict(Verdict.DOUBTFUL, f"only {self.placed:.0%} of the frames have a pose")
        if self.angle_deg < limits["angle_deg"].doubtful:
            angle = f"the median angle of triangulation is {self.angle_deg:.1f} degrees"
            return QuestionVerdict(Verdict.DOUBTFUL, f"{angle}: the camera hardly moved")
        if np.isnan(shares).all():
            return QuestionVerdict(Verdict.NOT_JUDGED, "too few matches to hold some out, so nothing checks it")
        if within < limits["within"].doubtful:
            return QuestionVerdict(Verdict.DOUBTFUL, f"{1 - within:.0%} of the held-out matches contradict it")
        if np.isnan(shares).any():
            place = self._name_place(int(np.isnan(shares).argmax()))
            return QuestionVerdict(
                Verdict.DOUBTFUL, f"too few matches connect {place}, so nothing checks the scale there"
            )
        return QuestionVerdict(Verdict.USABLE, "")

    def _name_place(self, row: int) -> str:
        return f"the frames {self.names[row]} and {self.names[row + 1]}"


def count_held_out(model: Any, database: Path) -> tuple[list[str], Array, Array]:
    """Count the held-out matches that agree with a map, and those that contradict it, across each place of its path.

    If the other end of a match has a point, the point must project within MAX_ERROR of the held-out feature. A match
    without a point contradicts the map if its Sampson distance is larger than this.

    model: pycolmap.Reconstruction of the views of the keyframes.
    database: COLMAP database with all matches of the views.

    Returns the names of the K keyframes with a pose, and both counts (K - 1,).
    """
    pycolmap = import_pycolmap()
    images = {image.image_id: image for image in model.images.values() if image.has_pose}
    names = sorted({Path(image.name).stem for image in images.values()})
    row_of = {name: row for row, name in enumerate(names)}
    fits, misses = np.zeros((2, max(len(names) - 1, 0)))
    with pycolmap.Database.open(str(database)) as store:
        ids, geometries = store.read_two_view_geometries()
        xy = {key: np.asarray(store.read_keypoints(key), float)[:, :2] for key in images}
    held = {key: hold_features(key, len(features)) for key, features in xy.items()}
    for pair_id, geometry in zip(ids, geometries, strict=True):
        first, second = sorted(pycolmap.pair_id_to_image_pair(pair_id))
        rows = np.asarray(geometry.inlier_matches, np.int64).reshape(-1, 2)
        if first not in images or second not in images or not len(rows):
            continue
        rows = rows[held[first][rows[:, 0]] | held[second][rows[:, 1]]]
        ends = [_View.read(model, images[key], xy[key][rows[:, side]]) for side, key in enumerate((first, second))]
        known = [_find_points(model, images[key], rows[:, side]) for side, key in enumerate((first, second))]
        errors = np.fmin(ends[1].measure_errors(known[0]), ends[0].measure_errors(known[1]))
        lost = np.isnan(errors)
        places = slice(*sorted(row_of[Path(images[key].name).stem] for key in (first, second)))
        fits[places] += (errors <= MAX_ERROR).sum()
        misses[places] += (errors > MAX_ERROR).sum() + (_measure_epipolar(*ends)[lost] > MAX_ERROR).sum()
    return names, fits, misses


@dataclass(frozen=True, slots=True, eq=False)
class _View:
    """Features of a view. Lengths are shares of its side.

    xy: (N, 2) places of the features, from the middle of the view, at a focal length of 1.
    T_view_world: (3, 4) pose.
    focal: focal length, as a share of the side.
    """

    xy: Array
    T_view_world: Array
    focal: float

    @classmethod
    def read(cls, model: Any, image: Any, xy: Array) -> _View:
        camera = model.cameras[image.camera_id]
        focal_px = camera.mean_focal_length()
        center = np.array([camera.width, camera.height]) / 2
        return cls((xy - center) / focal_px, image.cam_from_world().matrix(), focal_px / camera.width)

    def measure_errors(self, points: Array) -> Array:
        """Return the distances (N,) of points (N, 3) from the features; NaN for a point that is NaN."""
        inside = points @ self.T_view_world[:, :3].T + self.T_view_world[:, 3]
        ahead = inside[:, 2] > 0
        errors = np.where(np.isnan(inside[:, 2]), np.nan, np.inf)
        away = inside[ahead, :2] / inside[ahead, 2:] - self.xy[ahead]
        errors[ahead] = self.focal * np.linalg.norm(away, axis=1)
        return errors


def _find_points(model: Any, image: Any, rows: NDArray[np.int64]) -> Array:
    """Return the points (N, 3) of features of an image; NaN for a feature without a point."""
    features = image.points2D
    found = [features[row].point3D_id if features[row].has_point3D() else None for row in rows.tolist()]
    nowhere = np.full(3, np.nan)
    return np.array([nowhere if key is None else model.points3D[key].xyz for key in found]).reshape(-1, 3)


def _measure_epipolar(first: _View, second: _View) -> Array:
    """Return the Sampson distances (N,) of matches from the poses of their views, as shares of the side."""
    R = second.T_view_world[:, :3] @ first.T_view_world[:, :3].T
    E = hat(second.T_view_world[:, 3] - R @ first.T_view_world[:, 3]) @ R
    return first.focal * measure_sampson(first.xy, second.xy, E)


@dataclass(frozen=True, eq=False)
class PanoramaMap:
    """The map of a panoramic video. The world is the first frame with a pose, with the axes of the panorama.

    folder: folder of the written map.
    placed: every video frame in order, with its pose if it has one. Poses of frames between keyframes are
        interpolated.
    points: (P, 3), in the unit of the map.
    noise_px: mean reprojection error, pixels of a view.
    evidence: what speaks for and against the map.
    lenses: the two fisheye lenses of the video; None if its frames are panoramas.
    """

    folder: Path
    placed: Sequence[PlacedFrame]
    points: Array
    noise_px: float
    evidence: PanoramaEvidence
    lenses: DualFisheye | None = None

    @property
    def T_world_camera(self) -> Array:
        """Return the poses (N, 4, 4) of all frames, camera to world, up to scale; NaN if a frame is lost."""
        return invert_pose(stack_poses(self.placed))


def map_panorama(
    source: Path, *, out: Path | None = None, has_views: bool = False, track: TrackProgress = no_progress
) -> PanoramaMap:
    """Estimate the poses and sparse points of a video of 360 degrees, and write them into a folder.

    Its frames are equirectangular, or have the circles of two fisheye lenses, which are joined.
    Key frames are cut into level views of 90 degrees. They form a rig whose rotations are known and whose centers
    coincide, so that each frame has one pose and a known focal length.

    source: the video.
    out: folder of the map; None puts it next to the video.
    has_views: whether to write the views of the keyframes too, which the COLMAP model refers to.
    track: wraps loops to show their progress.

    Raises DataError if the video cannot be mapped; nothing is written in this case.
    """
    folder = find_map_folder(source) if out is None else make_absolute(out)
    content = hash_video(source)
    check_map_folder(folder, source, content)
    with tempfile.TemporaryDirectory(prefix="stadia-") as scratch:
        work = Path(scratch)
        lenses = _find_lenses(source)
        views, frames, keys = _cut_key_frames(source, lenses, work / IMAGES, track)
        if len(keys) < MIN_KEYS:
            fix = "film while you walk; a camera that stands or turns on the spot gives no map"
            raise DataError(source, found=f"{len(keys)} frames that differ", expected=f"{MIN_KEYS}", fix=fix)
        names = [frames[key][0] for key in keys]
        model = _reconstruct(source, work, views, names, track)
        for _ in track(range(1), 1, "writing"):
            return _write(folder, source, content, work, model, views, frames, lenses, has_views=has_views)
    raise AssertionError


def _find_lenses(source: Path) -> DualFisheye | None:
    """Return the lenses of a video of two fisheye circles; None if most sampled frames are panoramas."""
    shown = read_panorama_samples(source)
    pictures = [image for image in shown if is_dual_fisheye(image)]
    return find_dual_fisheye(pictures) if 2 * len(pictures) > len(shown) else None


def _cut_key_frames(
    source: Path, lenses: DualFisheye | None, folder: Path, track: TrackProgress
) -> tuple[list[View], list[tuple[str, float | None]], list[int]]:
    """Write the views of keyframes; return the views, name and time of all frames, and the numbers of keyframes."""
    views, frames, keys = list[View](), list[tuple[str, float | None]](), list[int]()
    chooser, last = KeyFrameChooser(), None
    join = np.asarray if lenses is None else lenses.join
    for frame in track(stream_video(source, takes_panoramas=True), estimate_frame_count(source), "choosing keyframes"):
        if not views:
            side = min(MAX_SIDE, round(join(frame.image).shape[1] / np.pi) // 2 * 2)
            views = make_views(ROWS, side, FOV_DEG)
        last = frame.image
        frames.append((f"{len(frames):06d}", frame.time_s))
        if chooser.choose(frame.image):
            keys.append(len(frames) - 1)
            _write_views(folder, views, frames[-1][0], join(frame.image))
    if last is not None and keys[-1] != len(frames) - 1:  # Every frame must be between two keyframes.
        keys.append(len(frames) - 1)
        _write_views(folder, views, frames[-1][0], join(last))
    return views, frames, keys


def _write_views(folder: Path, views: Sequence[View], name: str, image: NDArray[np.uint8]) -> None:
    for view in views:
        cut = np.asarray(view.cut(image), np.uint8)
        write_image(folder / view.name / f"{name}.jpg", cut[..., ::-1], (cv2.IMWRITE_JPEG_QUALITY, 95))


class KeyFrameChooser:
    """Choose the frames of a panoramic video whose images moved since the last chosen one."""

    def __init__(self) -> None:
        self._gray: NDArray[np.uint8] | None = None
        self._xy: Any = None

    def choose(self, image: NDArray[np.uint8]) -> bool:
        """Return whether the next frame (H, W, 3) RGB is a keyframe."""
        small = cv2.resize(image, TRACKED_SIZE, interpolation=cv2.INTER_AREA)
        gray = np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), np.uint8)
        if self._gray is not None and self._xy is not None:
            moved, there, _ = cv2.calcOpticalFlowPyrLK(self._gray, gray, self._xy, None)
            found = there[:, 0] > 0
            if found.mean() >= MIN_TRACKED:
                motion = np.linalg.norm((moved - self._xy)[found, 0], axis=1)
                if np.median(motion) < MIN_MOTION_PX:
                    return False
        self._gray = gray
        middle = np.zeros_like(gray)  # the poles are stretched
        middle[gray.shape[0] // 4 : -gray.shape[0] // 4] = 255
        self._xy = cv2.goodFeaturesToTrack(gray, 300, 0.01, 5, mask=middle)
        return True


def _reconstruct(source: Path, work: Path, views: Sequence[View], keys: Sequence[str], track: TrackProgress) -> Any:
    """Return the pycolmap.Reconstruction of the keyframes, in the world of the first frame with a pose."""
    pycolmap = import_pycolmap()
    database, threads = work / DATABASE, os.cpu_count() or 1
    with pycolmap.Database.open(str(database)):
        pass
    reader = pycolmap.ImageReaderOptions()
    K, side = views[0].K, views[0].side
    reader.camera_model = "SIMPLE_PINHOLE"
    reader.camera_params = f"{K[0, 0]},{K[0, 2] + 0.5},{K[1, 2] + 0.5}"
    extraction = pycolmap.FeatureExtractionOptions()
    extraction.num_threads, extraction.use_gpu, extraction.sift.max_num_features = threads, False, MAX_FEATURES
    for view in track(views, len(views), "finding features"):
        names = [f"{view.name}/{name}.jpg" for name in keys]
        pycolmap.extract_features(
            str(database), str(work / IMAGES), names, pycolmap.CameraMode.PER_FOLDER, reader, extraction
        )
    rig = pycolmap.RigConfig()
    camera = pycolmap.Camera.create_from_model_name(1, "SIMPLE_PINHOLE", float(K[0, 0]), side, side)
    rig.cameras = [_make_rig_camera(pycolmap, view, camera, is_first=view is views[0]) for view in views]
    with pycolmap.Database.open(str(database)) as store:
        pycolmap.apply_rig_config([rig], store)
    _match_neighbors(work, views, keys, threads, track)
    hold_out(database, work / REDUCED)
    options = _make_mapping_options(pycolmap, threads)
    with Workers(threads, track).count_steps(len(keys), "mapping") as step:
        models = pycolmap.incremental_mapping(
            str(work / REDUCED), str(work), str(work), options, next_image_callback=step
        )
    model = max(models.values(), key=lambda found: found.num_reg_frames(), default=None)
    if model is None or model.num_reg_frames() < MIN_KEYS:
        found, fix = "no two frames of one scene from two places", "film while you walk, in good light"
        raise DataError(source, found=found, expected="a moving camera", fix=fix)
    first = min((model.frames[number] for number in model.reg_frame_ids()), key=_name_frame(model))
    turn = first.rig_from_world
    model.transform(pycolmap.Sim3d(1.0, turn.rotation, turn.translation))
    return model


def _make_rig_camera(pycolmap: Any, view: View, camera: Any, *, is_first: bool) -> Any:
    config = pycolmap.RigConfigCamera()
    config.image_prefix, config.camera, config.ref_sensor = f"{view.name}/", camera, is_first
    if not is_first:
        config.cam_from_rig = pycolmap.Rigid3d(pycolmap.Rotation3d(view.R_panorama_view.T), np.zeros(3))
    return config


def _match_neighbors(
    work: Path, views: Sequence[View], keys: Sequence[str], threads: int, track: TrackProgress
) -> None:
    """Match each view with the same view and its two neighbors in near keyframes."""
    pycolmap = import_pycolmap()
    matching, pairing = pycolmap.FeatureMatchingOptions(), pycolmap.ImportedPairingOptions()
    matching.num_threads, matching.use_gpu = threads, False
    verification = pycolmap.TwoViewGeometryOptions()
    verification.ransac.max_error, verification.ransac.random_seed = MAX_ERROR_PX, 0
    pairing.match_list_path = str(work / "pairs.txt")
    for number in track(range(len(keys)), len(keys), "matching"):
        lines = [
            f"{view.name}/{keys[number]}.jpg {views[(row + turn) % len(views)].name}/{keys[number + apart]}.jpg"
            for apart in NEIGHBORS
            if number + apart < len(keys)
            for row, view in enumerate(views)
            for turn in (-1, 0, 1)
        ]
        if lines:
            Path(pairing.match_list_path).write_text("\n".join(lines) + "\n", encoding="utf-8")
            pycolmap.match_image_pairs(str(work / DATABASE), matching, pairing, verification)


def _make_mapping_options(pycolmap: Any, threads: int) -> Any:
    options = pycolmap.IncrementalPipelineOptions()
    options.num_threads, options.random_seed = threads, 0
    options.multiple_models, options.min_model_size = False, MIN_KEYS
    options.ba_refine_focal_length = options.ba_refine_extra_params = options.ba_refine_principal_point = False
    options.ba_refine_sensor_from_rig = False
    options.ba_global_frames_ratio = options.ba_global_points_ratio = 1.4
    mapper = options.mapper
    mapper.init_max_forward_motion, mapper.init_min_tri_angle, mapper.filter_min_tri_angle = 1.0, 2.0, 0.4
    mapper.abs_pose_refine_focal_length = mapper.abs_pose_refine_extra_params = False
    mapper.init_max_error = mapper.filter_max_reproj_error = MAX_ERROR_PX
    mapper.abs_pose_max_error = MAX_POSE_ERROR_PX
    options.triangulation.min_angle = 0.5
    return options


def _name_frame(model: Any) -> Any:
    """Return a function of a pycolmap.Frame that returns the name of its video frame."""

    def name(frame: Any) -> str:
        return Path(model.images[next(iter(frame.image_ids)).id].name).stem

    return name


def _place_frames(model: Any, frames: Sequence[tuple[str, float | None]]) -> list[PlacedFrame]:
    """Return every video frame, with the pose of keyframes, or one between two near keyframes."""
    pycolmap, name_of = import_pycolmap(), _name_frame(model)
    registered = [model.frames[number] for number in model.reg_frame_ids()]
    known = {int(name_of(frame)): frame.rig_from_world for frame in registered}
    numbers, placed = sorted(known), list[PlacedFrame]()
    for index, (name, time_s) in enumerate(frames):
        after = int(np.searchsorted(numbers, index))
        pose, status = known.get(index), FrameStatus.KEY
        if pose is None and 0 < after < len(numbers) and numbers[after] - numbers[after - 1] <= MAX_FRAMES_BETWEEN:
            before, following = numbers[after - 1], numbers[after]
            share = (index - before) / (following - before)
            pose = pycolmap.interpolate_camera_poses(known[before], known[following], share)
            status = FrameStatus.INTERPOLATED
        T = None if pose is None else np.vstack((pose.matrix(), (0, 0, 0, 1)))
        placed.append(PlacedFrame(index, name, time_s, FrameStatus.LOST if T is None else status, T))
    return placed


def _measure_angle_deg(model: Any) -> float:
    """Return the median over the points of the largest angle between two rays to a point, degrees."""
    centers = {number: model.frames[number].rig_from_world.inverse().translation for number in model.reg_frame_ids()}
    angles = []
    for point in list(model.points3D.values())[:: max(1, len(model.points3D) // 2000)]:
        seen = {model.images[element.image_id].frame_id for element in point.track.elements}
        rays = np.array([point.xyz - centers[number] for number in seen if number in centers])
        rays /= np.linalg.norm(rays, axis=1, keepdims=True)
        angles.append(float(np.degrees(np.arccos(np.clip((rays @ rays.T).min(), -1, 1)))))
    return float(np.median(angles)) if angles else 0.0


def _write(
    folder: Path,
    source: Path,
    content: str,
    work: Path,
    model: Any,
    views: Sequence[View],
    frames: Sequence[tuple[str, float | None]],
    lenses: DualFisheye | None,
    *,
    has_views: bool,
) -> PanoramaMap:
    points = np.array([point.xyz for point in model.points3D.values()]).reshape(-1, 3)
    placed = _place_frames(model, frames)
    share = 1 - count_status(placed).get(FrameStatus.LOST, 0) / len(placed)
    evidence = PanoramaEvidence(share, _measure_angle_deg(model), *count_held_out(model, work / DATABASE))
    found = PanoramaMap(folder, placed, points, model.compute_mean_reprojection_error(), evidence, lenses)
    model.extract_colors_for_all_images(str(work / IMAGES))
    with atomic_folder(folder, replace=True) as new:
        (new / COLMAP).mkdir()
        model.write_binary(str(new / COLMAP))
        model.export_PLY(str(new / "points.ply"))
        write_trajectories(new, found.placed, found.T_world_camera, found.points, is_film=True)
        if has_views:
            shutil.copytree(work / IMAGES, new / IMAGES)
        write_json(new / RECORD, {**_make_record(source, content, found, views), "files": digest_files(new)})
    return found


def _make_record(source: Path, content: str, found: PanoramaMap, views: Sequence[View]) -> dict[str, object]:
    judged = found.evidence.judge()
    return {
        "format": FORMAT,
        "source": source.name,
        "fingerprint": content,
        "projection": "equirectangular",
        "lenses": None if found.lenses is None else asdict(found.lenses),
        "points": len(found.points),
        "noise_px": found.noise_px,
        "angle_deg": found.evidence.angle_deg,
        "held_out_within": None if math.isnan(found.evidence.within) else found.evidence.within,
        "verdict": {"grade": judged.verdict, "reason": judged.reason},
        "views": [
            {"name": view.name, "K": view.K.tolist(), "R_panorama_view": view.R_panorama_view.tolist()}
            for view in views
        ],
        "frames": [
            {
                "index": frame.index,
                "name": frame.name,
                "time_s": frame.time_s,
                "status": str(frame.status),
                "T_world_camera": None if frame.T_camera_world is None else T[:3].tolist(),
            }
            for frame, T in zip(found.placed, found.T_world_camera, strict=True)
        ],
    }


def describe_panorama_map(found: PanoramaMap) -> Iterator[str]:
    """Yield lines of text about a map of a panoramic video."""
    counts = count_status(found.placed)
    placed = len(found.placed) - counts.get(FrameStatus.LOST, 0)
    yield (
        f"{found.folder}: {placed} of {len(found.placed)} panoramas placed, {counts.get(FrameStatus.KEY, 0)} key"
        f" frames, {len(found.points)} points, {found.noise_px:.2f} px, median angle"
        f" {found.evidence.angle_deg:.1f} degrees"
    )
    lenses = found.lenses
    kind = "equirectangular" if lenses is None else f"two fisheye lenses, {lenses.field_deg:.0f} degrees"
    yield f"  camera: {kind}, mapped as {sum(count for _, count in ROWS)} level views of {FOV_DEG:.0f} degrees"
    yield f"  frames: {', '.join(f'{count} {name}' for name, count in counts.items())}"
    judged = found.evidence.judge()
    reason = judged.reason
    if judged.verdict is Verdict.USABLE:
        reason = f"{found.evidence.within:.0%} of the held-out matches agree with it; drift is not judged"
    yield f"verdict: {judged.verdict}: {reason}"


def refuse_options(source: Path, given: dict[str, object]) -> None:
    """Raise ConfigError for options of `stadia map` that a panoramic video does not take.

    given: the options by name, with None or False if they are not given.
    """
    if used := [name for name, value in given.items() if value]:
        raise ConfigError(used[0], found=f"used with the panoramic video {source.name}", expected="--out or --views",
                          fix="leave it out")  # fmt: skip
