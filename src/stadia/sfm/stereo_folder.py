"""Write stadia's folder layout of a recording from a stereo pair: `stadia stereo LEFT RIGHT CALIB --out FOLDER`."""

import contextlib
import math
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import ConfigError, DataError, StadiaError
from stadia.core.progress import TrackProgress
from stadia.data.video.video_camera import fit_to_size, read_image_size
from stadia.geometry.cameras import Intrinsics
from stadia.geometry.poses import invert_pose
from stadia.io.atomic_files import atomic_folder, write_json, write_lines
from stadia.io.image_files import list_images
from stadia.io.image_io import write_image
from stadia.io.input_files import check_path_exists, expand_home
from stadia.io.records.calibration import read_calibration
from stadia.io.records.camera_keys import CalibratedCamera
from stadia.io.records.read import read_trajectory
from stadia.io.records.trajectory import Trajectory, write_kitti_trajectory
from stadia.io.video_decoding import (
    count_indexed_frames,
    estimate_frame_count,
    read_frame_rate_hz,
    stream_selected,
    stream_video,
)
from stadia.judge.plausible_lengths import suggest_baseline_units

MAX_ROTATION = 1e-3
"""Largest entry of R - I for the rotation R between two cameras that count as rectified."""
MAX_OFF_AXIS = 0.02
"""Largest vertical or forward component of the baseline of two rectified cameras, as a share of its length."""
MIN_BASELINE_M, MAX_BASELINE_M = 1e-4, 10.0
"""Distance between the cameras, metres, above which the calibration is taken to be in millimetres."""
SAME_BASELINE = 0.005
"""Largest relative difference of a given and a calibrated baseline that count as equal."""
SAME_RATE = 0.001
"""Largest relative difference of a given and a video's frame rate that count as equal."""
MIN_SYNCED = 8
"""Fewest pairs of frames taken at one moment that two hand-started videos must have."""

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class StereoRequest:
    """The arguments of `stadia stereo LEFT RIGHT CALIB...`.

    left, right: two videos, or two folders of images; rectified and of equal length, unless `sync` is given.
    calibrations: one file with both cameras, or one file for each.
    out: the folder to write.
    cameras: names of the left and the right camera in the calibration file; None takes its first two.
    baseline_m: distance between the cameras, metres; None takes the calibrated one.
    every: take each n-th frame.
    fps: frames per second of the input; None takes the rate of the videos.
    poses: file of poses of the left camera (camera to world) with a KITTI or TUM row for each frame; TUM rows also give
        the times.
    sync: for two videos that were started by hand: "auto", "sound", "motion", or the delay of the right video in
        seconds. The pair is then rectified from its matches.
    """

    left: Path
    right: Path
    calibrations: Sequence[Path]
    out: Path
    cameras: tuple[str, str] | None = None
    baseline_m: float | None = None
    every: int = 1
    fps: float | None = None
    poses: Path | None = None
    sync: str | None = None


def write_stereo_folder(request: StereoRequest, track: TrackProgress) -> list[str]:
    """Write a recording in stadia's folder layout (docs/reference/stadia-folder.md); return lines of text about it.

    Images are hard links if the disk allows them; frames of a video become PNG files.

    request: the arguments.
    track: shows progress.

    Raises DataError if the pair does not fit together, StadiaError if the output folder has files.
    """
    sources = [expand_home(path) for path in (request.left, request.right)]
    for source in sources:
        check_path_exists(source)
    out = expand_home(request.out)
    if (out / "recording.json").is_file():
        fix = f"use it (stadia check {out}), or choose another --out"
        raise StadiaError(out, found="a recording", expected="a new folder", fix=fix)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise StadiaError(out, found="files in it", expected="a new folder", fix="choose another --out")
    if sources[0].is_dir() != sources[1].is_dir():
        found = "a folder and a file"
        raise DataError(
            sources[1],
            found=found,
            expected="two videos or two folders",
            fix="pass two videos, or two folders of images",
        )
    sizes = [read_image_size(source) for source in sources]
    if sizes[0] != sizes[1]:
        found = f"images of {sizes[1][1]}x{sizes[1][0]}, left {sizes[0][1]}x{sizes[0][0]}"
        raise DataError(sources[1], found=found, expected="two images of one size", fix="rectify the pair")
    if request.sync is not None:
        return write_hand_held_folder(request, sources, sizes[0], out, track)
    left, right, baseline_m = find_rig(request)
    lines = compare_baselines(request, left, right)
    poses = None if request.poses is None else read_poses(request)
    intrinsics = [
        fit_to_size(Intrinsics(camera.K, *(camera.size or size)), source, *size)
        for camera, source, size in zip((left, right), sources, sizes, strict=True)
    ]
    rate_hz = None if sources[0].is_dir() else read_frame_rate_hz(sources[0])
    if request.fps is not None:
        if rate_hz is not None and not math.isclose(request.fps, rate_hz, rel_tol=SAME_RATE):
            lines.append(f"note: using --fps {request.fps:g}, although {sources[0]} has {rate_hz:.4g}")
        rate_hz = request.fps
    with atomic_folder(out) as folder:
        write = _link_images if sources[0].is_dir() else _write_frames
        total = write(sources, folder, request.every, track)
        if poses is not None:
            _write_poses(request, poses, folder, total)
        cameras = {
            side: {"K": known.K.tolist(), "height": known.height, "width": known.width}
            for side, known in zip(("left", "right"), intrinsics, strict=True)
        }
        T = np.eye(4)
        T[0, 3] = -baseline_m
        has_times = poses is not None and poses.times_s is not None
        rate = {} if rate_hz is None or has_times else {"frame_rate_hz": rate_hz / request.every}
        write_json(folder / "recording.json", {"cameras": cameras, "T_right_left": T.tolist(), **rate})
    frames = len(range(0, total, request.every))
    lines.append(f"{out}: {frames} pairs of {sizes[0][1]}x{sizes[0][0]}, baseline {baseline_m:.4g} m")
    return [*lines, f"check it: stadia check {out}"]


def write_hand_held_folder(
    request: StereoRequest, sources: Sequence[Path], size: tuple[int, int], out: Path, track: TrackProgress
) -> list[str]:
    """Write a recording from two videos that were started by hand; return lines of text about it.

    request: the arguments.
    sources: the left and the right video.
    size: (height, width) of the frames, pixels.
    out: the folder to write.
    track: shows progress.

    Raises ConfigError for options that do not fit, DataError if no time offset or no rectification is found.
    """
    from stadia.sfm import hand_held_pair as hand_held

    if sources[0].is_dir() or request.poses is not None or request.fps is not None:
        found = "a folder of images" if sources[0].is_dir() else "--poses or --fps"
        raise ConfigError("--sync", found=found, expected="two videos alone", fix="leave one of them out")
    baseline_m = limit_baseline(request)
    if baseline_m is None:
        fix = "measure the distance between the two lenses, and pass it: --baseline 0.12"
        raise ConfigError("--sync", found="no --baseline", expected="the distance of the cameras, metres", fix=fix)
    cameras = choose_cameras(request)
    lenses = [hand_held.make_lens(*pair, size) for pair in zip(cameras, sources, strict=True)]
    offset, *turns = hand_held.find_offset(sources[0], sources[1], request.sync or "auto", track)
    rows = hand_held.pair_frames(turns[0], turns[1], offset.seconds)
    if len(rows[0]) < MIN_SYNCED:
        found = f"{len(rows[0])} common frames at an offset of {offset.seconds:+.3f} s"
        fix = "pass two videos of one moment, or other seconds: --sync 1.25"
        raise DataError(sources[1], found=found, expected=f"at least {MIN_SYNCED}", fix=fix)
    pair, lines = hand_held.rectify_hand_held(sources, lenses, rows, baseline_m, track)
    kept = [side[:: request.every] for side in rows]
    with atomic_folder(out) as folder:
        for name, source, wanted, view in zip(("left", "right"), sources, kept, (pair.left, pair.right), strict=True):
            (folder / name).mkdir()
            frames = track(stream_selected(source, {int(i) for i in wanted}), len(wanted), f"{name} frames")
            for index, frame in enumerate(frames):
                image = cv2.cvtColor(view(frame.image), cv2.COLOR_RGB2BGR)
                write_image(folder / name / f"{index:06d}.png", image)
        known = {"K": pair.left.new_K.tolist(), "height": size[0], "width": size[1]}
        content = {"cameras": {"left": known, "right": known}, "T_right_left": pair.T_right_left.tolist()}
        write_json(folder / "recording.json", content)
        write_lines(folder / "times.txt", (repr(float(turns[0].times_s[i])) for i in kept[0]))
    when = "later" if offset.seconds >= 0 else "earlier"
    lines.insert(0, f"offset: a moment is {abs(offset.seconds):.3f} s {when} in {sources[1]}, by {offset.source}")
    lines.append(f"{out}: {len(kept[0])} pairs of {size[1]}x{size[0]}, baseline {baseline_m:.4g} m")
    return [*lines, f"check it: stadia check {out}"]


def read_poses(request: StereoRequest) -> Trajectory:
    """Read the poses of the left camera from the file of `--poses`.

    Raises DataError for invalid or missing rows, ConfigError if --fps is given although TUM rows have times.
    """
    assert request.poses is not None
    path = expand_home(request.poses)
    poses = read_trajectory(path)
    if poses.frames is not None and not np.array_equal(poses.frames, np.arange(len(poses))):
        fix = "pass a pose for each frame, or remove frames without a pose"
        raise DataError(path, found="missing frame numbers", expected="each frame from 0 on", fix=fix)
    if poses.times_s is not None and request.fps is not None:
        found = f"used together with the times of {path}"
        raise ConfigError("--fps", found=found, expected="one of the two", fix="remove --fps")
    return poses


def _write_poses(request: StereoRequest, poses: Trajectory, folder: Path, total: int) -> None:
    if len(poses) != total:
        expected = f"{total}, one for each frame of {request.left}"
        fix = "pass the poses of these frames"
        raise DataError(expand_home(request.poses or ""), found=f"{len(poses)} poses", expected=expected, fix=fix)
    chosen = poses.rows(np.arange(0, total, request.every))
    write_kitti_trajectory(folder / "poses.txt", chosen)
    if chosen.times_s is not None:
        write_lines(folder / "times.txt", (repr(float(time)) for time in chosen.times_s))


def choose_cameras(request: StereoRequest) -> tuple[CalibratedCamera, CalibratedCamera]:
    """Return the left and the right camera of the calibration.

    Raises ConfigError for a wrong number of files, DataError for cameras that the file does not have.
    """
    if len(request.calibrations) == 2:
        left, right = (read_calibration(path)[0] for path in request.calibrations)
        return left, right
    if len(request.calibrations) != 1:
        found, fix = f"{len(request.calibrations)} files", "pass the file of the pair, or one for each camera"
        raise ConfigError("CALIB", found=found, expected="one or two", fix=fix)
    return _choose_pair(request.calibrations[0], request.cameras, is_single=request.baseline_m is not None)


def limit_baseline(request: StereoRequest) -> float | None:
    """Return the baseline that the user gave, metres; None if none was given.

    Raises ConfigError if it is above MAX_BASELINE_M, so in another unit.
    """
    if request.baseline_m is not None and request.baseline_m > MAX_BASELINE_M:
        found, expected = f"{request.baseline_m:g} m", f"at most {MAX_BASELINE_M:g} m"
        fix = f"pass metres: {_suggest_metres(request.baseline_m)}"
        raise ConfigError("--baseline", found=found, expected=expected, fix=fix)
    return request.baseline_m


def find_rig(request: StereoRequest) -> tuple[CalibratedCamera, CalibratedCamera, float]:
    """Return the left camera, the right camera, and the baseline in metres.

    Raises DataError if the cameras are not rectified, or left and right are swapped.
    """
    file = request.calibrations[0]
    left, right = choose_cameras(request)
    for camera in (left, right):
        if camera.is_distorted:
            fix = "rectify the pair with cv2.stereoRectify"
            raise DataError(file, found=f"distortion of {camera.name}", expected="rectified cameras", fix=fix)
    baseline_m = limit_baseline(request)
    return left, right, _measure_baseline(file, left, right) if baseline_m is None else baseline_m


def compare_baselines(request: StereoRequest, left: CalibratedCamera, right: CalibratedCamera) -> list[str]:
    """Return a note if the baseline that the user gave differs from the calibrated one; otherwise an empty list."""
    if request.baseline_m is None or left.T_camera_first is None or right.T_camera_first is None:
        return []
    T = right.T_camera_first @ invert_pose(left.T_camera_first)
    calibrated_m = float(np.linalg.norm(T[:3, 3]))
    if calibrated_m <= 0 or math.isclose(request.baseline_m, calibrated_m, rel_tol=SAME_BASELINE):
        return []
    given, file = request.baseline_m, request.calibrations[-1]
    return [f"note: using --baseline {given:g} m, although {file} has {calibrated_m:.4g}. Depth scales with it"]


def _choose_pair(
    file: Path, names: tuple[str, str] | None, *, is_single: bool
) -> tuple[CalibratedCamera, CalibratedCamera]:
    cameras = read_calibration(file)
    posed = [camera for camera in cameras if camera.T_camera_first is not None]
    if names is not None:
        named = {camera.name: camera for camera in cameras}
        if missing := [name for name in names if name not in named]:
            expected = f"two of {', '.join(named)}"
            raise DataError(file, found=f"no camera '{missing[0]}'", expected=expected, fix="change --cameras")
        return named[names[0]], named[names[1]]
    if len(posed) >= 2:
        return posed[0], posed[1]
    if is_single:
        return cameras[0], cameras[min(1, len(cameras) - 1)]
    found = f"one camera ({cameras[0].name})" if len(cameras) == 1 else "cameras without their positions"
    fix = "pass --baseline METRES, or a file with both projections (P1 and P2)"
    raise DataError(file, found=found, expected="the two cameras of a rectified pair", fix=fix)


def _measure_baseline(file: Path, left: CalibratedCamera, right: CalibratedCamera) -> float:
    if left.T_camera_first is None or right.T_camera_first is None:
        found = f"no position of {left.name if left.T_camera_first is None else right.name}"
        raise DataError(file, found=found, expected="projections P of both cameras", fix="pass --baseline METRES")
    T = right.T_camera_first @ invert_pose(left.T_camera_first)
    off = float(np.abs(T[:3, :3] - np.eye(3)).max())
    x, y, z = T[:3, 3]
    if off > MAX_ROTATION or max(abs(y), abs(z)) > MAX_OFF_AXIS * abs(x):
        found = f"cameras that are rotated (R - I up to {off:.2g}) or not side by side"
        fix = "rectify the pair with cv2.stereoRectify"
        raise DataError(file, found=found, expected="a rectified pair", fix=fix)
    if abs(x) < MIN_BASELINE_M:
        fix = "pass --baseline METRES: the file has none (Tx is 0)"
        raise DataError(file, found="two cameras at one place", expected="a rectified pair", fix=fix)
    if x >= 0:
        found = f"{right.name} {x:.3g} m to the left of {left.name}"
        fix = f"swap LEFT and RIGHT; if the images are in order, Tx has a wrong sign: pass --baseline {x:.4g}"
        raise DataError(file, found=found, expected="the right camera on the right", fix=fix)
    if -x > MAX_BASELINE_M:
        found = f"a baseline of {-x:.4g} m"
        fix = f"pass --baseline in metres: {_suggest_metres(float(-x))}"
        raise DataError(file, found=found, expected=f"metres, at most {MAX_BASELINE_M:g}", fix=fix)
    return float(-x)


def _suggest_metres(baseline: float) -> str:
    """Return what a baseline that is too long for metres would be, from each other unit."""
    found = suggest_baseline_units(baseline) or [("millimetres", baseline / 1000)]
    return " or ".join(f"{metres:.4g} if it is in {unit}" for unit, metres in found)


def _link_images(sources: Sequence[Path], folder: Path, every: int, track: TrackProgress) -> int:
    files = [list_images(source) for source in sources]
    _check_equal(sources, *map(len, files))
    pairs = list(zip(*files, strict=True))[::every]
    for side in ("left", "right"):
        (folder / side).mkdir()
    for index, pair in enumerate(track(pairs, len(pairs), "images")):
        for side, image in zip(("left", "right"), pair, strict=True):
            target = folder / side / f"{index:06d}{image.suffix.lower()}"
            with contextlib.suppress(OSError):  # another disk, or one without hard links
                os.link(image.resolve(), target)
                continue
            shutil.copyfile(image, target)
    return len(files[0])


def _write_frames(sources: Sequence[Path], folder: Path, every: int, track: TrackProgress) -> int:
    indexed = [count_indexed_frames(source) for source in sources]
    if indexed[0] is not None and indexed[1] is not None:
        _check_equal(sources, indexed[0], indexed[1])  # The check runs before the images are decoded.
    counts = [0, 0]
    written = 0
    frames = zip_longest(*(stream_video(source) for source in sources))
    for index, pair in enumerate(track(frames, estimate_frame_count(sources[0]), "frames")):
        counts = [count + (frame is not None) for count, frame in zip(counts, pair, strict=True)]
        if index % every or None in pair:
            continue
        for side, frame in zip(("left", "right"), pair, strict=True):
            (folder / side).mkdir(exist_ok=True)
            write_image(folder / side / f"{written:06d}.png", cv2.cvtColor(frame.image, cv2.COLOR_RGB2BGR))
        written += 1
    _check_equal(sources, *counts)
    return counts[0]


def _check_equal(sources: Sequence[Path], left: int, right: int) -> None:
    if left != right:
        fix = "remove frames without a partner"
        raise DataError(sources[1], found=f"{right} frames, {left} on the left", expected="equal numbers", fix=fix)
