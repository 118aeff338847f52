"""Synchronize and rectify videos of two cameras that were started by hand: `stadia stereo --sync`."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares
from scipy.signal import correlate
from scipy.spatial.transform import Rotation

from stadia.core.errors import ConfigError, DataError
from stadia.core.progress import TrackProgress
from stadia.data.frame_selection import spread_indices
from stadia.data.lens_distortion import DistortedCamera, RectifiedPair, rectify_pair
from stadia.data.video.video_camera import fit_to_size
from stadia.geometry.cameras import Intrinsics
from stadia.geometry.image_features import detect_features, gray, match_features
from stadia.io.records.camera_keys import CalibratedCamera
from stadia.io.records.formats import RADTAN
from stadia.io.video_decoding import estimate_frame_count, open_video_file, stream_selected, stream_video

Array = NDArray[np.float64]

SMALL_WIDTH = 160  # width of the frames whose motion is measured
GRID_HZ = 120.0
MIN_OVERLAP_S, MIN_OVERLAP = 2.0, 0.25  # least overlap of both signals, in seconds and as a share of the shorter one
MIN_CORRELATION, MIN_LEAD, SAME_PEAK_S = 0.5, 0.1, 0.5
SOUND_HZ, MAX_SOUND_S, MIN_SOUND_PEAK = 8000, 600, 8.0
SOUND_GAP_S, MAX_SECOND_PEAK = 0.02, 0.5  # least distance of the second peak, and its largest share of the first peak
MAX_CONTRADICTION_S = 0.1
PAIRS = 16  # The matches of these pairs give the rotation between the cameras.
EPIPOLAR_PX, MIN_MATCHES, MIN_RIGID = 1.5, 100, 0.5
FARTHEST = 1e9  # unit: baselines. OpenCV leaves out points beyond 50, and mirrors the pose if all points are.
MAX_DIRECTION_DEG = 10.0  # largest angle between the baseline's directions by two halves of the pairs


@dataclass(frozen=True)
class ClockOffset:
    """The time offset between two videos: an event at time t of the left video is at t + `seconds` of the right video.

    seconds: the offset.
    source: what it was found by: "sound", "motion", or "--sync" if the user gave it.
    """

    seconds: float
    source: str


@dataclass(frozen=True)
class Turns:
    """The motion of a video's whole image from frame to frame, which mostly comes from turns of the camera.

    times_s: (N,) times of the frames, seconds.
    rates: (N, 2) speed of the image content to the right and down, in image widths per second.
    """

    times_s: Array
    rates: Array


def measure_turns(video: Path, track: TrackProgress) -> Turns:
    """Measure how the image of a video shifts from frame to frame, by phase correlation.

    video: the video file.
    track: shows progress.
    """
    times, shifts = list[float](), list[tuple[float, float]]()
    before: Any = None
    for frame in track(stream_video(video), estimate_frame_count(video), f"motion of {video.name}"):
        height = max(round(frame.image.shape[0] * SMALL_WIDTH / frame.image.shape[1]), 2)
        small = cv2.resize(gray(frame.image), (SMALL_WIDTH, height), interpolation=cv2.INTER_AREA).astype(np.float32)
        window = cv2.createHanningWindow((SMALL_WIDTH, height), cv2.CV_32F)
        shifts.append((0.0, 0.0) if before is None else cv2.phaseCorrelate(before, small, window)[0])
        times.append(frame.time_s)
        before = small
    clock = np.array(times)
    steps = np.maximum(np.diff(clock, prepend=clock[:1] - 1), 1e-3)
    return Turns(clock, np.array(shifts).reshape(-1, 2) / SMALL_WIDTH / steps[:, None])


def find_motion_offset(left: Turns, right: Turns) -> ClockOffset | None:
    """Find the time offset that makes the images of two videos shift equally.

    left, right: image motion of both videos, from `measure_turns`.

    Returns None if no offset is clearly the best.
    """
    if min(len(left.times_s), len(right.times_s)) < 2:
        return None
    signals = []
    for turns in (left, right):
        grid = np.arange(turns.times_s[1], turns.times_s[-1], 1 / GRID_HZ)
        sampled = np.column_stack([np.interp(grid, turns.times_s, rate) for rate in turns.rates.T])
        signals.append(sampled - np.median(sampled, axis=0))
    a, b = signals
    needed = max(MIN_OVERLAP_S * GRID_HZ, MIN_OVERLAP * min(len(a), len(b)))
    if min(len(a), len(b)) < needed:
        return None
    product = sum(correlate(b[:, axis], a[:, axis], "full", "fft") for axis in (0, 1))
    ones = np.ones(len(a)), np.ones(len(b))
    energy = correlate((b**2).sum(1), ones[0], "full", "fft") * correlate(ones[1], (a**2).sum(1), "full", "fft")
    overlap = correlate(ones[1], ones[0], "full", "fft")
    scores = np.where(overlap >= needed, product / np.sqrt(np.maximum(energy, 1e-12)), -1.0)
    best = int(scores.argmax())
    lags = (np.arange(len(scores)) - (len(a) - 1)) / GRID_HZ
    others = scores[np.abs(lags - lags[best]) > SAME_PEAK_S]
    if scores[best] < MIN_CORRELATION or scores[best] - others.max(initial=-1.0) < MIN_LEAD:
        return None
    return ClockOffset(float(lags[best] + right.times_s[1] - left.times_s[1]), "motion")


def read_sound(video: Path) -> Array | None:
    """Read the sound of a video as (N,) mono samples at SOUND_HZ a second; sample 0 is at the time of the first video
    frame.

    Returns None for a video without sound.
    """
    with open_video_file(video) as (container, first), suppress(av.FFmpegError):  # damaged sound ends early
        if not container.streams.audio:
            return None
        stream, start_s = container.streams.audio[0], float((first.start_time or 0) * (first.time_base or 0))
        resampler, parts = av.AudioResampler("s16", "mono", SOUND_HZ), list[Array]()
        begin_s, length = float((stream.start_time or 0) * (stream.time_base or 0)), 0
        for decoded in container.decode(stream):
            parts += [block.to_ndarray().ravel().astype(np.float64) for block in resampler.resample(decoded)]
            length += decoded.samples
            if length > MAX_SOUND_S * decoded.sample_rate:
                break
    shift = round(float(np.clip(begin_s - start_s, -MAX_SOUND_S, MAX_SOUND_S)) * SOUND_HZ)
    samples = np.concatenate([*parts, np.zeros(1)])
    return np.concatenate([np.zeros(max(shift, 0)), samples[max(-shift, 0) :]])


def find_sound_offset(left: Array, right: Array) -> ClockOffset | None:
    """Find the time offset of two sounds by the generalized cross-correlation GCC-PHAT (Knapp and Carter, 1976).

    left, right: (N,) samples at SOUND_HZ a second, from `read_sound`.

    Returns None if the correlation has no clear peak.
    """
    size = 1 << (len(left) + len(right) - 1).bit_length()
    cross = np.conj(np.fft.rfft(left, size)) * np.fft.rfft(right, size)
    peaks = np.fft.irfft(cross / np.maximum(np.abs(cross), 1e-9 + 1e-3 * np.abs(cross).max()), size)
    lag = int(peaks.argmax())
    apart = np.abs((np.arange(size) - lag + size // 2) % size - size // 2)
    second = float(peaks[apart > SOUND_GAP_S * SOUND_HZ].max(initial=0.0))
    if peaks[lag] < MIN_SOUND_PEAK * peaks.std() or second > MAX_SECOND_PEAK * peaks[lag]:  # a hum has many peaks
        return None
    return ClockOffset((lag if lag < size // 2 else lag - size) / SOUND_HZ, "sound")


def find_offset(left: Path, right: Path, sync: str, track: TrackProgress) -> tuple[ClockOffset, Turns, Turns]:
    """Find the time offset between a left and a right video, and the image motion of both.

    left, right: video files.
    sync: "motion", "sound", "auto" (both, which must agree), or the offset itself in seconds.
    track: shows progress.

    Raises DataError if no offset is clear or sound and motion contradict each other, ConfigError for any other `sync`.
    """
    turns = measure_turns(left, track), measure_turns(right, track)
    if sync not in ("auto", "motion", "sound"):
        try:
            return ClockOffset(float(sync), "--sync"), *turns
        except ValueError as error:
            expected = "auto, motion, sound, or the delay of the right video in seconds"
            raise ConfigError("--sync", found=sync, expected=expected, fix="choose one of them") from error
    sounds = (None, None) if sync == "motion" else (read_sound(left), read_sound(right))
    by_sound = None if sounds[0] is None or sounds[1] is None else find_sound_offset(sounds[0], sounds[1])
    by_motion = None if sync == "sound" else find_motion_offset(*turns)
    if by_sound is not None and by_motion is not None:
        if abs(by_sound.seconds - by_motion.seconds) > MAX_CONTRADICTION_S:
            found = f"an offset of {by_sound.seconds:+.3f} s by sound, and {by_motion.seconds:+.3f} s by motion"
            raise DataError(right, found=found, expected="one offset", fix="choose: --sync sound or --sync motion")
        return by_sound, *turns
    chosen = by_sound or by_motion
    if chosen is None:
        found = "no offset that makes both images move equally" if sync != "sound" else "no common sound"
        fix = "turn both cameras together a few times while they film, or pass the seconds: --sync 1.25"
        raise DataError(right, found=found, expected="two videos of one moment", fix=fix)
    return chosen, *turns


def pair_frames(left: Turns, right: Turns, offset_s: float) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Pair the frames of a left and a right video that were taken at the same moment.

    left, right: image motion of both videos, with their frame times.
    offset_s: offset of the right video's clock, seconds.

    Returns the frame indices (M,) of the left and (M,) of the right video. A pair's frames are each other's nearest in
    time, and at most half a frame interval apart.
    """
    wanted = left.times_s + offset_s
    to_right, to_left = _find_nearest(right.times_s, wanted), _find_nearest(wanted, right.times_s)
    rows = np.flatnonzero(to_left[to_right] == np.arange(len(wanted)))
    limit_s = 0.5 * max(float(np.median(np.diff(turns.times_s))) for turns in (left, right))
    rows = rows[np.abs(right.times_s[to_right[rows]] - wanted[rows]) <= limit_s * (1 + 1e-6)]
    return rows, to_right[rows]


def _find_nearest(times_s: Array, wanted_s: Array) -> NDArray[np.intp]:
    """Return the rows of rising times_s nearest to wanted_s."""
    after = np.clip(np.searchsorted(times_s, wanted_s), 1, len(times_s) - 1)
    return np.where(wanted_s - times_s[after - 1] <= times_s[after] - wanted_s, after - 1, after)


@dataclass(frozen=True)
class RelativePose:
    """The pose of a right camera relative to a left camera, from matches.

    R: (3, 3) rotation of T_right_left (left camera to right camera).
    t: (3,) translation of T_right_left, scaled to length 1.
    errors: (M,) Sampson distance of each match from its epipolar line, at a focal length of 1 (so radians for small
        angles).
    """

    R: Array
    t: Array
    errors: Array


def fit_relative_pose(left: Array, right: Array, tolerance: float) -> RelativePose | None:
    """Fit rotation and direction between a left and a right camera to matched rays.

    The essential matrix is found by MAGSAC, then the robust Sampson errors are minimized over its five parameters.

    left, right: (M, 2) rays of the matches, as x / z and y / z.
    tolerance: largest Sampson distance of an inlier, at a focal length of 1.

    Returns None if too few matches agree.
    """
    E, mask = cv2.findEssentialMat(left, right, np.eye(3), cv2.USAC_MAGSAC, 0.9999, tolerance)
    if E is None or E.shape != (3, 3) or int(mask.sum()) < MIN_MATCHES // 2:
        return None
    chosen = mask.ravel() > 0
    _, R, t, *_ = cv2.recoverPose(E, left[chosen], right[chosen], np.eye(3), distanceThresh=FARTHEST)
    rays = [np.column_stack([side, np.ones(len(side))]) for side in (left, right)]
    axes = np.linalg.svd(t.reshape(1, 3))[2][1:]  # across t

    def move(values: Array) -> tuple[Array, Array]:
        moved = t.ravel() + values[3:] @ axes
        return Rotation.from_rotvec(values[:3]).as_matrix() @ R, moved / np.linalg.norm(moved)

    def measure(values: Array) -> Array:
        turned, moved = move(values)
        essential = np.cross(np.eye(3), moved) @ turned
        lines, back = rays[0] @ essential.T, rays[1] @ essential
        norm = np.sqrt((lines[:, :2] ** 2).sum(1) + (back[:, :2] ** 2).sum(1))
        return np.asarray((rays[1] * lines).sum(1) / np.maximum(norm, 1e-12))

    fitted = least_squares(measure, np.zeros(5), loss="cauchy", f_scale=tolerance / 3).x
    return RelativePose(*move(fitted), np.abs(measure(fitted)))


def make_lens(camera: CalibratedCamera, source: Path, size: tuple[int, int]) -> DistortedCamera:
    """Create the lens model of a video's camera, for frames of a given size.

    camera: the calibrated camera.
    source: the video, for error messages.
    size: (height, width) of the frames, pixels.

    Raises DataError for an unknown distortion model.
    """
    known = fit_to_size(Intrinsics(camera.K, *(camera.size or size)), source, *size)
    model, coefficients = camera.find_distortion(source) or (RADTAN, (0.0, 0.0, 0.0, 0.0))
    return DistortedCamera(known.K, model, np.array(coefficients), *size)


def rectify_hand_held(
    videos: Sequence[Path],
    lenses: Sequence[DistortedCamera],
    rows: tuple[NDArray[np.intp], NDArray[np.intp]],
    baseline_m: float,
    track: TrackProgress,
) -> tuple[RectifiedPair, list[str]]:
    """Rectify two videos whose cameras are fixed to each other but were not calibrated as a pair, from matches between
    them.

    videos: the left and the right video.
    lenses: calibrated lens of the left and of the right camera.
    rows: indices (M,) of left and of right frames taken at the same moment, from `pair_frames`.
    baseline_m: distance between the cameras, metres.
    track: shows progress.

    Returns the rectification, and lines of text about its accuracy.

    Raises DataError if the cameras move against each other, are swapped, or show too little in common.
    """
    chosen = spread_indices(len(rows[0]), PAIRS)
    frames = [stream_selected(video, {int(i) for i in side[chosen]}) for video, side in zip(videos, rows, strict=True)]
    matched = []
    for left, right in track(zip(*frames, strict=True), len(chosen), "matching the two cameras"):
        matches = match_features(detect_features(left.image), detect_features(right.image))
        pixels = (matches.first_px, matches.second_px)
        matched.append([lens.rays(at, np.eye(3)) for lens, at in zip(lenses, pixels, strict=True)])
    tolerance = EPIPOLAR_PX / float(lenses[0].K[0, 0])

    def fit(pairs: Sequence[Any]) -> RelativePose | None:
        left, right = (np.concatenate([pair[side] for pair in pairs]) for side in (0, 1))
        return fit_relative_pose(left, right, tolerance) if len(left) >= MIN_MATCHES else None

    pose, halves = fit(matched), (fit(matched[::2]), fit(matched[1::2]))
    if pose is None or halves[0] is None or halves[1] is None:
        found = f"{sum(len(pair[0]) for pair in matched)} matches between the cameras in {len(matched)} pairs"
        fix = "point both cameras at the same scene"
        raise DataError(videos[1], found=found, expected="a common view", fix=fix)
    ends = np.cumsum([len(pair[0]) for pair in matched])[:-1]
    shares = [float((part < tolerance).mean()) for part in np.split(pose.errors, ends) if len(part)]
    if np.median(shares) < MIN_RIGID:
        found = f"cameras that move against each other ({np.median(shares):.0%} of the matches fit one position)"
        fix = "fix both cameras to one bar, or map each video alone: stadia map"
        raise DataError(videos[1], found=found, expected="cameras fixed to each other", fix=fix)
    spread_deg = float(np.degrees(np.arccos(np.clip(halves[0].t @ halves[1].t, -1, 1))))
    if spread_deg > MAX_DIRECTION_DEG:
        found = f"a direction between the cameras that differs by {spread_deg:.0f} degrees between halves of the video"
        fix = "film things that are nearer, at most 30 times the distance of the cameras"
        raise DataError(videos[1], found=found, expected=f"at most {MAX_DIRECTION_DEG:g} degrees", fix=fix)
    turned_deg = float(np.degrees(np.linalg.norm(Rotation.from_matrix(pose.R).as_rotvec())))
    right, down, ahead = -(pose.R.T @ pose.t)
    if right < max(abs(down), abs(ahead)):
        found = f"a second camera {baseline_m * right:+.3f} m right, {baseline_m * down:+.3f} down of the first"
        fix = "swap LEFT and RIGHT" if -right > max(abs(down), abs(ahead)) else "put the cameras side by side"
        raise DataError(videos[1], found=found, expected="the second camera on the right", fix=fix)
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = pose.R, baseline_m * pose.t
    pair = rectify_pair(lenses[0], lenses[1], T, videos[1])
    error_px = float(np.median(pose.errors[pose.errors < tolerance])) * float(pair.left.new_K[0, 0])
    line = f"rectified: the right camera is turned by {turned_deg:.2f} degrees"
    return pair, [f"{line}; matches are {error_px:.2f} px off their row; the baseline's direction +- {spread_deg:.1f}"]
