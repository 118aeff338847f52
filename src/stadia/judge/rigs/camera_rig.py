"""Judge several cameras that move together, by matches between each two of them, and name the camera that is off."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError
from stadia.core.progress import TrackProgress, no_progress
from stadia.core.verdict import Verdict, find_worst
from stadia.geometry.image_features import SiftFeatures, detect_features
from stadia.geometry.lens import undistort
from stadia.geometry.poses import invert_pose
from stadia.geometry.two_views import signed_epipolar_distance_px
from stadia.io.image_files import read_rgb, read_upright_size
from stadia.io.records.calibration import read_calibration
from stadia.io.records.camera_keys import CalibratedCamera
from stadia.io.records.colmap import convert_lens
from stadia.io.records.formats import RADTAN
from stadia.judge.purposes import Purpose
from stadia.judge.rigs.camera_pair import (
    MIN_SHARED_MATCHES,
    CameraPairVerdict,
    Instant,
    describe_pair,
    judge_pair,
    match_instants,
    measure_pair,
)
from stadia.judge.rigs.pinned_rig import list_cameras
from stadia.judge.rigs.rig_cause import RigCause
from stadia.sfm.image_matches import ImageMatches, list_image_files
from stadia.sfm.match_triangulation import find_image_times, scale_intrinsics

Array = NDArray[np.float64]

NEAR_SHARE = 0.005
"""Distance from an epipolar line at which a match fits, as a share of the longer side: 3 pixels of 640."""

MIN_FITTING, MIN_EXCHANGE_GAIN = 0.6, 2.0
"""Least share of matches that fit exchanged cameras, and its least factor over that of the given ones."""

MAX_SHAPE_DIFFERENCE = 0.01
"""Largest relative difference of the aspect ratios of images and calibration that count as one shape."""

MIN_PAIRS_OF_CAMERA = 2
"""Fewest judged pairs of a camera that show that it is the one which is off."""

KEPT_FEATURES = 64
"""Number of images whose features are kept while the pairs are matched."""


@dataclass(frozen=True, slots=True, eq=False)
class RigCamera:
    """A camera of a rig.

    name: its name in the calibration.
    K: (3, 3) intrinsics, pixels.
    T_camera_first: (4, 4) pose of the first camera in this one, metres.
    lens: (4,) coefficients k1, k2, p1, p2.
    side_px: longer side of its images.
    files: its images, one an instant.
    """

    name: str
    K: Array
    T_camera_first: Array
    lens: Array
    side_px: int
    files: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class CameraRigVerdict:
    """The verdict on a rig.

    name: its name.
    pairs: verdicts on the pairs of cameras that share a view.
    count: number of all pairs.
    causes: what is wrong with single cameras.
    """

    name: str
    pairs: tuple[CameraPairVerdict, ...]
    count: int
    causes: tuple[RigCause, ...]

    @property
    def grade(self) -> Verdict:
        """Return the worst grade of the pairs."""
        if any(cause.is_fault for cause in self.causes):
            return Verdict.UNUSABLE
        return find_worst([pair.grade for pair in self.pairs]) if self.pairs else Verdict.NOT_JUDGED


Matches = Mapping[tuple[int, int], Sequence[Instant]]
"""Matches of each pair of cameras, by their rows."""


def read_rig(data: Path, calibration: Path) -> list[RigCamera]:
    """Return the cameras of a rig: a folder of images for each, and a calibration with their poses.

    data: a folder with a folder of images a camera, named as the cameras, or in their order.
    calibration: a file with several cameras and their poses, such as Kalibr's camchain.

    Raises DataError if the cameras or their images do not belong together.
    """
    listed, folders = read_calibration(calibration), list_cameras(data)
    if len(listed) < 2 or any(camera.T_camera_first is None for camera in listed):
        found = f"{len(listed)} camera{'s' * (len(listed) != 1)}" + " without a pose" * (len(listed) > 1)
        fix = "pass Kalibr's camchain.yaml"
        raise DataError(calibration, found=found, expected="cameras with their poses", fix=fix)
    if all(camera.name in folders for camera in listed):
        chosen = [folders[camera.name] for camera in listed]
    elif len(folders) == len(listed):
        chosen = list(folders.values())
    else:
        found, expected = f"the folders {', '.join(folders)}", f"a folder for each of {len(listed)} cameras"
        raise DataError(data, found=found[:200], expected=expected, fix="name the folders as the cameras")
    for folder in chosen:
        if not folder.is_dir():
            raise DataError(folder, found="a file", expected="a folder of images (its frames) for each camera")
    files = _pair_files(data, [list_image_files(folder) for folder in chosen])
    cameras = []
    for camera, own in zip(listed, files, strict=True):
        height, width = read_upright_size(own[0])
        model, coefficients = camera.find_distortion(calibration) or (RADTAN, ())
        K = _fit_K(calibration, camera, height, width)
        K, lens = convert_lens(calibration, K, model, coefficients, (width, height))
        assert camera.T_camera_first is not None
        pose = np.asarray(camera.T_camera_first, np.float64)
        cameras.append(RigCamera(camera.name, K, pose, lens, max(height, width), tuple(own)))
    return cameras


def _fit_K(path: Path, camera: CalibratedCamera, height: int, width: int) -> Array:
    """Return the K (3, 3) of a calibration for images of another size and the same shape."""
    own_height, own_width = camera.size or (height, width)
    scale = np.array([width / own_width, height / own_height])
    if abs(scale[0] / scale[1] - 1) > MAX_SHAPE_DIFFERENCE:
        found, expected = (
            f"images of {width}x{height}",
            f"{own_width}x{own_height}, as in the calibration of {camera.name}",
        )
        raise DataError(path, found=found, expected=expected, fix="calibrate images of this shape")
    return scale_intrinsics(camera.K[None], scale[None])[0]


def _pair_files(data: Path, files: Sequence[Sequence[Path]]) -> list[list[Path]]:
    """Return the images of each camera at the same instants: those of one name, else all in their order."""
    named = [{file.stem: file for file in own} for own in files]
    shared = [stem for stem in named[0] if all(stem in own for own in named)]
    if len(shared) >= 2:
        return [[own[stem] for stem in shared] for own in named]
    counts = [len(own) for own in files]
    if min(counts) < 2 or min(counts) != max(counts):
        found = f"{' and '.join(map(str, counts))} images of other names"
        raise DataError(data, found=found, expected="images of one name for each instant", fix="give them equal names")
    return [list(own) for own in files]


def match_rig(cameras: Sequence[RigCamera], track: TrackProgress = no_progress) -> Matches:
    """Return the matches of each pair of cameras, in pixels without distortion.

    cameras: the cameras.
    track: shows progress.
    """
    first = cameras[0]
    sizes = np.tile(np.array([[first.side_px, first.side_px]]), (len(first.files), 1))
    times_s = find_image_times(ImageMatches(tuple(file.name for file in first.files), sizes, []))

    @lru_cache(KEPT_FEATURES)
    def detect(index: int, side: str) -> SiftFeatures:
        camera = cameras[int(side)]
        found = detect_features(read_rgb(camera.files[index]))
        return replace(found, pixels=_straighten(found.pixels, camera))

    pairs, found = list(combinations(range(len(cameras)), 2)), dict[tuple[int, int], list[Instant]]()
    for one, other in track(pairs, len(pairs), "matching"):
        sides = str(one), str(other)
        times = None if times_s is None else times_s.tolist()
        found[one, other] = match_instants(detect, sides, len(first.files), times, side_px=cameras[one].side_px)
    return found


def _straighten(pixels: Array, camera: RigCamera) -> Array:
    """Return pixels (N, 2) of the pinhole; those without a ray get a place far outside, where nothing matches."""
    if not camera.lens.any():
        return pixels
    focal, center = camera.K[(0, 1), (0, 1)], camera.K[:2, 2]
    return np.asarray(np.nan_to_num(undistort((pixels - center) / focal, camera.lens) * focal + center, nan=-1e4))


def judge_rig(
    name: str, cameras: Sequence[RigCamera], matches: Matches, purposes: Sequence[Purpose] = ()
) -> CameraRigVerdict:
    """Judge the calibration of a rig: each pair of cameras that share a view, and which camera is off.

    name: its name, for messages.
    cameras: the cameras.
    matches: matches of each pair (`match_rig`).
    purposes: what each pair is to be good for; empty for all of PAIR_PURPOSES.
    """
    exchanged = _find_exchanged(cameras, matches)
    places = list(range(len(cameras)))
    causes = list[RigCause]()
    if exchanged is not None:
        one, other = exchanged
        places[one], places[other] = other, one
        names = cameras[one].name, cameras[other].name
        what = f"the images of {names[0]} and {names[1]} are exchanged"
        causes.append(RigCause("exchanged", what, "exchange them", items=names))
    judged = dict[tuple[int, int], CameraPairVerdict]()
    for (one, other), instants in matches.items():
        if sum(len(instant.first_px) for instant in instants) < MIN_SHARED_MATCHES:
            continue
        first, second = cameras[places[one]], cameras[places[other]]
        T = second.T_camera_first @ invert_pose(first.T_camera_first)
        title = f"{first.name}, {second.name}"
        judged[one, other] = judge_pair(title, measure_pair(instants, first.K, second.K, T), purposes)
    wrong = {pair for pair, verdict in judged.items() if verdict.causes}
    for row, place in enumerate(places):
        own = [pair for pair in judged if row in pair]
        if len(own) >= MIN_PAIRS_OF_CAMERA and wrong == set(own):
            kinds = Counter(cause.name for pair in own for cause in judged[pair].causes)
            shown = cameras[place].name
            agree = ", and the other cameras agree" if any(row not in pair for pair in judged.keys() - wrong) else ""
            what = f"{shown} differs from its calibration ({kinds.most_common(1)[0][0]}){agree}"
            fix = f"calibrate {shown} again, or use its measured pose"
            causes.append(RigCause("camera", what, fix, items=(shown,), is_fault=False))
    return CameraRigVerdict(name, tuple(judged.values()), len(matches), tuple(causes))


def _find_exchanged(cameras: Sequence[RigCamera], matches: Matches) -> tuple[int, int] | None:
    """Return the two cameras whose images fit the calibrations of each other much better than their own."""
    rows = range(len(cameras))
    if len(rows) < 3:  # the pair of two cameras shows this by itself
        return None
    given = _measure_fit(cameras, matches, rows)
    found = dict[tuple[int, int], float]()
    for one, other in combinations(rows, 2):
        places = list(rows)
        places[one], places[other] = other, one
        found[one, other] = _measure_fit(cameras, matches, places)
    best = max(found, key=lambda pair: found[pair])
    return best if found[best] > max(MIN_FITTING, MIN_EXCHANGE_GAIN * given) else None


def _measure_fit(cameras: Sequence[RigCamera], matches: Matches, places: Iterable[int]) -> float:
    """Return the share of all matches that are near their epipolar lines, if camera n has the calibration places[n]."""
    chosen = [cameras[place] for place in places]
    fits = []
    for (one, other), instants in matches.items():
        first, second = chosen[one], chosen[other]
        T = second.T_camera_first @ invert_pose(first.T_camera_first)
        for instant in instants:
            off_px = signed_epipolar_distance_px(instant.first_px, instant.second_px, first.K, second.K, T)
            fits.append(np.abs(off_px) < NEAR_SHARE * first.side_px)
    return float(np.concatenate(fits).mean()) if any(map(len, fits)) else 0.0


def describe_camera_rig(verdict: CameraRigVerdict) -> dict[str, Any]:
    """Return all fields of a verdict for JSON."""
    return {
        "name": verdict.name,
        "grade": verdict.grade,
        "causes": [cause.to_json() for cause in verdict.causes],
        "pairs": [describe_pair(pair) for pair in verdict.pairs],
        "pairs_without_a_shared_view": verdict.count - len(verdict.pairs),
    }
