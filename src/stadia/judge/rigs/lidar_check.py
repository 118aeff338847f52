"""Measure how far the points of a LiDAR are from their place in the images of a camera, without a target.

Where a scan jumps from a near thing to a far one, the image has an edge. The calibration is turned and moved until the
jumps are on edges of the image. Half of the jumps are to the left or right of a neighbor, half above or below one.

Source: Levinson and Thrun, Automatic online calibration of cameras and lasers, RSS 2013, for the idea.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.core.types import Recording
from stadia.core.verdict import Verdict
from stadia.data.formats.kitti import DriveRecording
from stadia.geometry.poses import se3_exp, se3_log
from stadia.judge.error import Measured, describe_measured
from stadia.judge.purposes import LIDAR_PURPOSES, Purpose, PurposeVerdict, judge_limits
from stadia.judge.rigs.rig_cause import RigCause, grade_calibration

Array = NDArray[np.float64]
Gray = NDArray[np.uint8]

MAX_SCANS = 26
"""Most scans of a recording that are measured, drawn evenly."""

MAX_WIDTH_PX = 1280
"""Width in pixels above which images are reduced."""

REACH_PX = (6, 12)
"""Largest distances in pixels of neighbors of a scan: in a row of the image, and in a column, where lines of a scan are
farther apart.
"""

MIN_JUMP_M, MIN_JUMP_SHARE = 0.5, (0.08, 0.16)
"""Least jump of the depth between neighbors: in metres, and as a share of the nearer one for each direction."""

NEAREST_M = 2.5
"""Nearer points hit the car itself."""

MIN_SCANS, MIN_JUMPS = 12, 2000
"""Fewest scans, and fewest jumps of all of them, that measure a calibration: six scans of a drive gave .7 degrees more.
"""

SMOOTH_PX = (16.0, 8.0, 8.0, 4.0, 2.0)
"""Deviation of the blur of edges at each stage; the first TURNED stages only turn."""

TURNED = 2
ROUNDS = 12

UNIT = np.array([0.1, 0.1, 0.1, 0.01, 0.01, 0.01, 0.02])
"""Typical sizes of the numbers that are found: metres, radians, and a second of an offset."""

BIAS_PX = 1.2
"""Deviation by which edges of one part of the images, at one distance, are off as a group: shadows, leaves, borders of
paint next to a jump. Halves of a drive differ by as much.
"""

TILES = (4, 2)
"""Columns and rows of the parts of the images."""

DISTANCES_M = (8.0, 16.0, 30.0)
"""Limits of the distances of such groups."""

BLOCK = 3
"""Number of successive scans whose edges count as one."""

AWAY_PX, MIN_RISE = 12.0, 0.05
"""Distance from the jumps at which edges are compared with those at the jumps, and least difference, as a share of the
mean strength of edges. Drives have .27 to .31, and .01 if they are turned by 3 degrees.
"""

MAX_MOVE_M = 0.5
"""Largest displacement that is measured; a larger one means that the jumps determine none."""

LEAST_LIDAR_DEG, LEAST_LIDAR_M, LEAST_LIDAR_S = 0.1, 0.02, 0.005
"""Least error of a rotation, a position and a moment that is named."""

LIDAR_SIGMA = 4.0
"""Least size of an error in deviations that is named."""

MAX_LIDAR_S = 0.02
"""Deviation of a moment above which the motion of the recording shows none."""


@dataclass(frozen=True, slots=True, eq=False)
class ScannedImage:
    """An image, and the points of a scan at which its depth jumps.

    gray: (H, W) the image.
    jumps: points (N, 3) of the camera by the given calibration, metres: those with a farther neighbor in a row of the
        image, and those with one in a column.
    motion: (6,) twist of the camera in a second; None if unknown.
    """

    gray: Gray
    jumps: tuple[Array, Array]
    motion: Array | None = None


@dataclass(frozen=True, slots=True, eq=False)
class LidarError:
    """The error of a calibration of LiDAR and camera; None for what is not measured.

    reason: why nothing is measured; "" otherwise.
    rotation_deg: given less measured rotation of the points about the axes of the camera (x right, y down, z ahead).
    angle_deg: size of this rotation.
    position_m: given less measured position of the points, in the same axes.
    offset_s: seconds by which scans are later than images; None if the motion does not show it.
    edge_px: how far the given calibration moves a point in the images, pixels.
    jumps: number of points that were used.
    T_right_given: (4, 4) motion from points of the camera by the given calibration to their right place.
    """

    reason: str = ""
    rotation_deg: tuple[Measured, Measured, Measured] | None = None
    angle_deg: Measured | None = None
    position_m: tuple[Measured, Measured, Measured] | None = None
    offset_s: Measured | None = None
    edge_px: Measured | None = None
    jumps: int = 0
    T_right_given: Array | None = None


@dataclass(frozen=True, slots=True, eq=False)
class LidarVerdict:
    """The verdict on the calibration of LiDAR and camera.

    name: name of the recording.
    error: the measured error.
    causes: what is wrong.
    purposes: what the calibration is good for.
    are_asked: whether the user asked for these purposes.
    notes: sentences for the user about what was measured.
    """

    name: str
    error: LidarError
    causes: tuple[RigCause, ...] = ()
    purposes: tuple[PurposeVerdict, ...] = ()
    are_asked: bool = False
    notes: tuple[str, ...] = ()

    @property
    def grade(self) -> Verdict:
        """Return the grade of the purposes; unusable with a fault."""
        return grade_calibration(self.causes, self.error.reason, self.purposes, are_asked=self.are_asked)


# -- jumps of the depth


def find_jumps(depth_m: NDArray[np.float32], K: Array) -> tuple[Array, Array]:
    """Return the points (N, 3) of a camera at which a scan jumps, to a neighbor in a row and to one in a column.

    The border of a thing is between its last point and the next one behind it: in the middle, at the near depth.

    depth_m: (H, W) depth of the points of a scan at their pixels, 0 at others.
    K: (3, 3) intrinsics.

    Examples:
        >>> depth = np.zeros((9, 20), np.float32)
        >>> depth[4, 3:15:2] = [5, 5, 5, 20, 20, 20]
        >>> K = np.array([[10.0, 0, 0], [0, 10, 0], [0, 0, 1]])
        >>> find_jumps(depth, K)[0].tolist()
        [[4.0, 2.0, 5.0]]
    """
    height, width = depth_m.shape
    row, column = np.nonzero(depth_m > 0)
    z = depth_m[row, column].astype(np.float64)
    number = np.full((height, width), -1)
    number[row, column] = np.arange(len(z))
    found = []
    for axis, reach in enumerate(REACH_PX):
        neighbor = np.full(len(z), -1)
        for step in range(1, reach + 1):
            for aside in (0, -1, 1):
                right, down = (step, aside) if axis == 0 else (aside, step)
                x, y = column + right, row + down
                inside = (x >= 0) & (x < width) & (y >= 0) & (y < height) & (neighbor < 0)
                neighbor[inside] = number[y[inside], x[inside]]
        first = np.flatnonzero(neighbor >= 0)
        points = [np.zeros((0, 3))]
        for near, far in ((first, neighbor[first]), (neighbor[first], first)):
            least_m = np.maximum(MIN_JUMP_M, MIN_JUMP_SHARE[axis] * z[near])
            is_jump = (z[far] - z[near] > least_m) & (z[near] > NEAREST_M)
            near, far = near[is_jump], far[is_jump]
            pixels = np.column_stack([column[near] + column[far], row[near] + row[far]]) / 2
            rays = (pixels - K[:2, 2]) / np.diag(K)[:2]
            points.append(z[near][:, None] * np.column_stack([rays, np.ones(len(rays))]))
        found.append(np.concatenate(points))
    return found[0], found[1]


def read_scans(recording: Recording) -> tuple[list[ScannedImage], Array]:
    """Return images of a recording that have a scan, with the jumps of its depth, and K (3, 3) of the images.

    recording: a recording with depth of single scans, and poses if it has any.
    """
    K = np.asarray(recording.camera(0).K, np.float64)
    width = recording.camera(0).width
    factor = min(1.0, MAX_WIDTH_PX / width)
    small = K.copy()
    small[:2] *= factor
    small[:2, 2] += (factor - 1) / 2
    scans = list[ScannedImage]()
    for index in np.unique(np.linspace(0, len(recording) - 1, 3 * MAX_SCANS).astype(int)).tolist():
        if len(scans) == MAX_SCANS:
            break
        depth_m = recording.depth_m(index)
        if depth_m is None:
            continue
        gray = cv2.cvtColor(recording.image(index), cv2.COLOR_RGB2GRAY)
        if factor < 1:
            gray = cv2.resize(gray, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        scans.append(ScannedImage(np.asarray(gray, np.uint8), find_jumps(depth_m, K), _find_motion(recording, index)))
    return scans, small


def _find_motion(recording: Recording, index: int) -> Array | None:
    """Return the twist (6,) of the camera in a second at an image; None without poses or times."""
    first, last = max(index - 1, 0), min(index + 1, len(recording) - 1)
    poses = [recording.T_world_camera(one) for one in (first, last)]
    times_s = [recording.timestamp_s(one) for one in (first, last)]
    if poses[0] is None or poses[1] is None or times_s[0] is None or times_s[1] is None or times_s[0] == times_s[1]:
        return None
    T = np.linalg.inv(np.asarray(poses[0], np.float64)) @ np.asarray(poses[1], np.float64)
    return np.asarray(se3_log(T) / (times_s[1] - times_s[0]), np.float64)


# -- the measurement


def _slope_edges(gray: Gray, blur_px: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the slopes (H, W), along x and along y, of how strongly an image has an edge across this direction."""
    smooth = cv2.GaussianBlur(gray.astype(np.float32), (0, 0), 1.0)
    slopes = []
    for along in ((1, 0), (0, 1)):
        strength = np.abs(cv2.Sobel(smooth, cv2.CV_32F, *along, ksize=3, scale=0.125))
        strength = np.minimum(strength / (cv2.blur(strength, (41, 41)) + 4.0), 5.0)  # of gray areas as of bright ones
        slopes.append(cv2.Sobel(cv2.GaussianBlur(strength, (0, 0), blur_px), cv2.CV_32F, *along, ksize=3, scale=0.125))
    return slopes[0], slopes[1]


@dataclass(frozen=True, slots=True, eq=False)
class _Jumps:
    """All jumps of one direction at a calibration, in the images.

    scan: (N,) index of the scan.
    pixels: (N, 2) their places in the images.
    points: (N, 3) the points.
    J: (N, 7) derivative of the place along the direction by a motion of the points and the offset in time.
    """

    scan: NDArray[np.intp]
    pixels: NDArray[np.float32]
    points: Array
    J: Array


class _Problem:
    """The scans, and the slopes of the edges of their images at one blur."""

    def __init__(self, scans: Sequence[ScannedImage], K: Array, blur_px: float) -> None:
        self.scans, self.K = scans, K
        self.slopes = [_slope_edges(scan.gray, blur_px) for scan in scans]

    def place(self, axis: int, T: Array, offset_s: float) -> _Jumps:
        """Return the jumps of a direction (0: x, 1: y) that are inside of the images."""
        parts = []
        for number, scan in enumerate(self.scans):
            motion = np.zeros(6) if scan.motion is None else scan.motion
            moved = se3_exp(offset_s * motion) @ T
            points = scan.jumps[axis] @ moved[:3, :3].T + moved[:3, 3]
            points = points[points[:, 2] > 1.0]
            x, y, z = points.T
            pixels = np.column_stack([x / z, y / z]) * np.diag(self.K)[:2] + self.K[:2, 2]
            height, width = scan.gray.shape
            inside = ((pixels > 5) & (pixels < (width - 6, height - 6))).all(1)
            x, y, z = points[inside].T
            slope = np.zeros((len(z), 3))
            slope[:, axis] = self.K[axis, axis] / z
            slope[:, 2] = -self.K[axis, axis] * (x, y)[axis] / z**2
            J = np.column_stack([slope, np.cross(points[inside], slope)])
            J = np.column_stack([J, J @ motion])
            parts.append(_Jumps(np.full(len(z), number), pixels[inside].astype(np.float32), points[inside], J))
        return _Jumps(
            *(np.concatenate([getattr(part, name) for part in parts]) for name in ("scan", "pixels", "points", "J"))
        )

    def sample(self, axis: int, jumps: _Jumps, step_px: float = 0.0) -> Array:
        """Return the slopes (N,) of the edges at jumps, or a step beyond them along the direction."""
        found = np.zeros(len(jumps.scan))
        step = np.array([step_px, 0.0] if axis == 0 else [0.0, step_px], np.float32)
        for number, slopes in enumerate(self.slopes):
            mine = jumps.scan == number
            at = (jumps.pixels[mine] + step)[:, None]
            found[mine] = cv2.remap(slopes[axis], at, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)[:, 0]
        return found

    def score(self, T: Array, offset_s: float) -> tuple[Array, Array]:
        """Return the derivatives (F, 7) of the strength of edges at the jumps of each scan, and the second ones (7, 7)
        of their sum.
        """
        scores, curvature = np.zeros((len(self.scans), 7)), np.zeros((7, 7))
        for axis in (0, 1):
            jumps = self.place(axis, T, offset_s)
            np.add.at(scores, jumps.scan, jumps.J * self.sample(axis, jumps)[:, None])
            curvature += jumps.J.T @ (jumps.J * self.bend(axis, jumps)[:, None])
        return scores, curvature

    def bend(self, axis: int, jumps: _Jumps) -> Array:
        """Return the second derivatives (N,) of the strength of edges at jumps along their direction."""
        return (self.sample(axis, jumps, 1.0) - self.sample(axis, jumps, -1.0)) / 2


@dataclass(frozen=True, slots=True, eq=False)
class _Fit:
    """The calibration with the strongest edges at the jumps.

    T: (4, 4) motion of the points of the camera.
    offset_s: offset in time.
    covariance: (7, 7) of the numbers; 0 for those that were kept.
    """

    T: Array
    offset_s: float
    covariance: Array


def _climb(problem: _Problem, T: Array, offset_s: float, free: Sequence[int]) -> tuple[Array, float, Array, Array]:
    """Return motion and offset at which edges are strongest, the scores (F, 7) and the curvature (7, 7) there."""
    unit = UNIT[list(free)]
    chosen = np.ix_(free, free)
    scores, curvature = np.zeros((len(problem.scans), 7)), np.zeros((7, 7))
    for _ in range(ROUNDS):
        scores, curvature = problem.score(T, offset_s)
        values, vectors = np.linalg.eigh(-curvature[chosen] * np.outer(unit, unit))
        step = vectors @ ((vectors.T @ (scores.sum(0)[list(free)] * unit)) / np.maximum(values, 0.02 * values.max()))
        step *= min(1.0, 0.5 / max(float(np.abs(step).max()), 1e-12))
        full = np.zeros(7)
        full[list(free)] = step * unit
        T, offset_s = se3_exp(full[:6]) @ T, offset_s + float(full[6])
        if np.abs(step).max() < 1e-3:
            break
    return T, offset_s, scores, curvature


def _solve(scans: Sequence[ScannedImage], K: Array, start: _Fit | None, free: Sequence[int]) -> tuple[_Fit, _Problem]:
    """Return the fit of some of the seven numbers; without a start, from the given calibration in several stages."""
    T, offset_s = (np.eye(4), 0.0) if start is None else (start.T, start.offset_s)
    stages = SMOOTH_PX if start is None else SMOOTH_PX[-1:]
    for number, blur_px in enumerate(stages):
        problem = _Problem(scans, K, blur_px)
        turned = start is None and number < TURNED
        T, offset_s, scores, curvature = _climb(problem, T, offset_s, (3, 4, 5) if turned else free)
    spread = _find_spread(problem, T, offset_s, scores)
    chosen, unit = np.ix_(free, free), np.outer(UNIT[list(free)], UNIT[list(free)])
    inverse = np.linalg.pinv(-curvature[chosen] * unit, rcond=1e-4, hermitian=True)
    covariance = np.zeros((7, 7))
    covariance[chosen] = inverse @ (spread[chosen] * unit) @ inverse * unit
    return _Fit(T, offset_s, covariance), problem


def _find_spread(problem: _Problem, T: Array, offset_s: float, scores: Array) -> Array:
    """Return the covariance (7, 7) of the sum of scores: that of blocks of scans, and BIAS_PX of groups of edges."""
    blocks = np.add.reduceat(scores, np.arange(0, len(scores), BLOCK), axis=0)
    blocks = blocks - blocks.mean(0)
    spread = blocks.T @ blocks
    for axis in (0, 1):
        jumps = problem.place(axis, T, offset_s)
        bend = float(problem.bend(axis, jumps).mean())
        height, width = problem.scans[0].gray.shape
        tile = (jumps.pixels / (width / TILES[0], height / TILES[1])).astype(int)
        group = (tile[:, 0] * TILES[1] + tile[:, 1]) * 10 + np.digitize(jumps.points[:, 2], DISTANCES_M)
        for value in np.unique(group):
            pull = bend * BIAS_PX * jumps.J[group == value].sum(0)
            spread += np.outer(pull, pull)
    return np.asarray(spread)


def measure_lidar(scans: Sequence[ScannedImage], K: Array) -> LidarError:
    """Measure the error of the calibration of LiDAR and camera.

    scans: images with the jumps of their scans.
    K: (3, 3) intrinsics of the images.
    """
    if len(scans) < MIN_SCANS:
        return LidarError(reason=f"{len(scans)} images have a scan, at least {MIN_SCANS} are needed")
    count = sum(len(points) for scan in scans for points in scan.jumps)
    if count < MIN_JUMPS:
        return LidarError(reason=f"the depth of the scans jumps at {count} places, at least {MIN_JUMPS} are needed")
    fit, problem = _solve(scans, K, None, range(6))
    if _find_rise(problem, fit) < MIN_RISE:
        return LidarError(reason="the images have no edges where the depth of the scans jumps")
    if np.linalg.norm(fit.T[:3, 3]) > MAX_MOVE_M:
        return LidarError(reason="the jumps of the depth do not determine a position")
    offset_s = None
    if all(scan.motion is not None for scan in scans):
        timed, _ = _solve(scans, K, fit, range(7))
        measured = Measured(timed.offset_s, float(np.sqrt(timed.covariance[6, 6])))
        if measured.deviation < MAX_LIDAR_S:
            offset_s = measured
            fit = timed if measured.is_above(LEAST_LIDAR_S, LIDAR_SIGMA) else fit
    twist, deviations = se3_log(fit.T), np.sqrt(np.diag(fit.covariance))
    position = [Measured(-float(twist[axis]), float(deviations[axis])) for axis in range(3)]
    turn = [Measured(-float(np.degrees(twist[3 + axis])), float(np.degrees(deviations[3 + axis]))) for axis in range(3)]
    angle = float(np.linalg.norm(twist[3:]))
    direction = twist[3:] / angle if angle > 0 else np.array([1.0, 0, 0])
    spread = float(np.sqrt((direction @ fit.covariance[3:6, 3:6] @ direction).clip(0)))
    return LidarError(
        rotation_deg=(turn[0], turn[1], turn[2]),
        angle_deg=Measured(float(np.degrees(angle)), float(np.degrees(spread))),
        position_m=(position[0], position[1], position[2]),
        offset_s=offset_s,
        edge_px=_measure_shift(problem, fit),
        jumps=count,
        T_right_given=fit.T,
    )


def _find_rise(problem: _Problem, fit: _Fit) -> float:
    """Return how much stronger the edges of the images are at the jumps than AWAY_PX away from them."""
    rises = []
    for axis in (0, 1):
        jumps = problem.place(axis, fit.T, fit.offset_s)
        steps = np.arange(-AWAY_PX, AWAY_PX + 1)
        slopes = np.array([problem.sample(axis, jumps, step).mean() for step in steps])
        heights = np.cumsum(slopes)  # strength of edges relative to the first place
        rises.append(heights[len(steps) // 2] - (heights[0] + heights[-1]) / 2)
    return float(np.mean(rises))


def _measure_shift(problem: _Problem, fit: _Fit) -> Measured:
    """Return the distance between the places of a jump by the given and by the measured calibration, pixels; medians of
    both directions.
    """
    moved, variances = list[Array](), list[Array]()
    for axis in (0, 1):
        jumps = problem.place(axis, fit.T, fit.offset_s)
        moved.append((jumps.J[:, :6] @ se3_log(fit.T)) ** 2)
        variances.append(np.einsum("np,pq,nq->n", jumps.J[:, :6], fit.covariance[:6, :6], jumps.J[:, :6]))
    size_px, deviation_px = (np.sqrt(sum(float(np.median(one)) for one in squares)) for squares in (moved, variances))
    return Measured(float(size_px), float(deviation_px))


# -- the verdict


def judge_lidar(name: str, error: LidarError, purposes: Sequence[Purpose] = ()) -> LidarVerdict:
    """Judge a measured error of the calibration of LiDAR and camera.

    name: name of the recording.
    error: the measured error.
    purposes: what it is to be good for; empty for all of LIDAR_PURPOSES.
    """
    verdict = LidarVerdict(name, error, are_asked=bool(purposes))
    if error.reason:
        return verdict
    found = {"edge_px": error.edge_px}
    judged = tuple(judge_limits(purpose, found.get) for purpose in list(purposes) or list(LIDAR_PURPOSES.values()))
    return replace(verdict, causes=tuple(_list_causes(error)), purposes=judged)


def _list_causes(error: LidarError) -> Iterator[RigCause]:
    assert error.angle_deg is not None
    assert error.position_m is not None
    if error.angle_deg.is_above(LEAST_LIDAR_DEG, LIDAR_SIGMA):
        what = f"the points are turned by {error.angle_deg.show()} degrees about the camera"
        yield RigCause("rotation", what, "turn them back", size=error.angle_deg, unit="degrees", is_fault=False)
    for axis, length in zip(("right", "down", "ahead"), error.position_m, strict=True):
        if length.is_above(LEAST_LIDAR_M, LIDAR_SIGMA):
            what = f"the points are {length.show(100, '+')} cm too far {axis}"
            yield RigCause("position", what, "move them back", size=length, unit="metres", is_fault=False)
    if error.offset_s is not None and error.offset_s.is_above(LEAST_LIDAR_S, LIDAR_SIGMA):
        side = "later" if error.offset_s.value > 0 else "earlier"
        shown = error.offset_s._replace(value=abs(error.offset_s.value)).show(1000)
        what = f"scans are {shown} ms {side} than their images"
        fix = "correct the times, or move the points by the motion of the camera"
        yield RigCause("not-synchronized", what, fix, size=error.offset_s, unit="seconds", is_fault=False)


def judge_lidar_recording(recording: Recording, purposes: Sequence[Purpose] = ()) -> LidarVerdict:
    """Judge the calibration of LiDAR and camera of a recording.

    Depth maps that another program projected do not depend on the calibration. Scans are judged in their place if there
    are enough of them; otherwise a note names the maps.

    recording: a recording with scans as depth.
    purposes: what it is to be good for; empty for all of LIDAR_PURPOSES.
    """
    notes = tuple[str, ...]()
    if isinstance(recording, DriveRecording) and recording.ground_truth == "auto":
        kinds = Counter(recording.depth_kind(index) for index in range(len(recording)))
        projected = next((kind for kind in ("groundtruth", "velodyne_raw") if kinds[kind]), "")
        scans = replace(recording, ground_truth="lidar")
        if projected and sum(map(bool, map(scans.depth_kind, range(len(scans))))) >= MIN_SCANS:
            recording = scans
        elif projected:
            what = f"the depth is that of proj_depth/{projected}, which another program projected"
            notes = (f"{what}: it says nothing of calib_velo_to_cam.txt; at least {MIN_SCANS} scans do",)
    return replace(judge_lidar(recording.name, measure_lidar(*read_scans(recording)), purposes), notes=notes)


def describe_lidar(verdict: LidarVerdict) -> dict[str, Any]:
    """Return all fields of a verdict for JSON."""
    error = verdict.error
    return {
        "name": verdict.name,
        "grade": verdict.grade,
        "not_measurable": error.reason or None,
        "rotation_deg": None if error.rotation_deg is None else [describe_measured(one) for one in error.rotation_deg],
        "angle_deg": describe_measured(error.angle_deg),
        "position_m": None if error.position_m is None else [describe_measured(one) for one in error.position_m],
        "offset_s": describe_measured(error.offset_s),
        "edge_px": describe_measured(error.edge_px),
        "jumps": error.jumps,
        "T_right_given": None if error.T_right_given is None else error.T_right_given.tolist(),
        "causes": [cause.to_json() for cause in verdict.causes],
        "purposes": [one.to_json() for one in verdict.purposes],
        "notes": list(verdict.notes),
    }
