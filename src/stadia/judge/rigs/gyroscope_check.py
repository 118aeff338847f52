"""Compare a gyroscope with the rotations of a camera: the axes, the clock, the unit and the bias.

Between two images the camera turns by R (theta - b dt), where theta is the integral of the gyroscope's rates, R is the
rotation from the axes of the gyroscope to those of the camera, and b is its bias.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stadia.core.verdict import Verdict
from stadia.geometry.poses import invert_pose, so3_exp, so3_log
from stadia.io.records.gyroscope import GyroscopeLog
from stadia.io.records.trajectory import Trajectory
from stadia.judge.error import Measured, describe_measured
from stadia.judge.purposes import GYROSCOPE_PURPOSES, Purpose, PurposeVerdict, judge_limits
from stadia.judge.rigs.hand_eye import find_correlation
from stadia.judge.rigs.rig_cause import RigCause, grade_calibration

Array = NDArray[np.float64]

MAX_GYRO_OFFSET_S = 1.0
"""Largest offset of the clocks that is searched."""

GYRO_STEP_S = 0.01

MIN_INTERVALS = 20
"""Fewest intervals between images that are compared."""

MAX_GYRO_INTERVAL_S = 0.5
"""Longest interval between two images; rates of longer ones turn about changing axes."""

MAX_GYRO_DEVIATION_DEG = 5.0
"""Largest deviation of the axes; rotations about one axis leave them open."""

MAX_UNEXPLAINED = 0.35
"""Residual over the size of the rotations, beyond which gyroscope and camera are of two motions."""

LEAST_GYRO_OFFSET_S, LEAST_GYRO_BIAS_DEG, GYRO_SIGMA = 0.002, 0.3, 4.0
"""Least offset of the clocks, and least bias in degrees a second, that is named; and its least size in deviations."""

LEAST_GYRO_DEG = 0.3
"""Least error of a given rotation that is named, degrees."""

FACTORS = {1.0: "", np.pi / 180: "degrees a second"}
"""Factor that makes radians of a rate -> the unit of the file."""


SIGNS = ((1.0, 1.0, 1.0), (-1.0, 1.0, 1.0))
"""Signs of the rates that are tried: which single axis is mirrored cannot be told from a rotation of the others."""


@dataclass(frozen=True, slots=True, eq=False)
class GyroscopeVerdict:
    """The verdict on a gyroscope; None for what is not measured.

    reason: why nothing is measured; "" otherwise.
    R_camera_gyroscope: (3, 3) rotation from the axes of the gyroscope to those of the camera.
    deviation_deg: its deviation.
    rotation_deg: error of the given rotation; None without one.
    offset_s: seconds to add to the times of the images.
    bias_deg: bias about the axes of the gyroscope, degrees a second.
    residual_deg: difference between the rotations of both between two images, root mean square.
    causes: what is wrong.
    purposes: what it is good for.
    are_asked: whether the user asked for these purposes.
    """

    reason: str = ""
    R_camera_gyroscope: Array | None = None
    deviation_deg: float = float("nan")
    rotation_deg: Measured | None = None
    offset_s: Measured | None = None
    bias_deg: tuple[Measured, Measured, Measured] | None = None
    residual_deg: Measured | None = None
    causes: tuple[RigCause, ...] = ()
    purposes: tuple[PurposeVerdict, ...] = ()
    are_asked: bool = False

    @property
    def grade(self) -> Verdict:
        """Return unusable with a fault, and otherwise the grade of the purposes."""
        return grade_calibration(self.causes, self.reason, self.purposes, are_asked=self.are_asked)


@dataclass(frozen=True, slots=True, eq=False)
class _Fit:
    turn: Array
    drift: Array
    offset_s: float
    residuals: Array
    covariance: Array


class _Rotations:
    """Rotations of a camera between images, and those of the gyroscope between the same instants."""

    def __init__(self, T_world_camera: Array, times_s: Array, log: GyroscopeLog, factor: float, signs: Array) -> None:
        R = T_world_camera[:, :3, :3]
        self.turned = so3_log(R[:-1].mT @ R[1:])
        self.times_s, self.intervals_s = times_s, np.diff(times_s)
        self.used = (self.intervals_s > 0) & (self.intervals_s < MAX_GYRO_INTERVAL_S)
        steps = np.diff(log.times_s)[:, None] * (log.rates[1:] + log.rates[:-1]) / 2
        self.sums = factor * signs * np.vstack([np.zeros(3), np.cumsum(steps, axis=0)])
        self.log_times_s = log.times_s

    def integrate(self, offset_s: float) -> tuple[Array, NDArray[np.bool_]]:
        """Return the integrals (N, 3) of the rates between images, and which intervals (N,) the log covers."""
        at = self.times_s + offset_s
        summed = np.column_stack([np.interp(at, self.log_times_s, self.sums[:, axis]) for axis in range(3)])
        inside = (at[:-1] >= self.log_times_s[0]) & (at[1:] <= self.log_times_s[-1]) & self.used
        return np.diff(summed, axis=0), inside

    def rate(self, offset_s: float) -> float:
        """Return the median residual of the best linear map at an offset of the clocks."""
        theta, inside = self.integrate(offset_s)
        if inside.sum() < MIN_INTERVALS:
            return np.inf
        A = np.column_stack([theta, self.intervals_s])[inside]
        found = np.linalg.lstsq(A, self.turned[inside], rcond=None)[0]
        return float(np.median(np.linalg.norm(A @ found - self.turned[inside], axis=1)))

    def fit(self, offset_s: float) -> _Fit | None:
        """Return rotation, drift and offset by robust least squares, from an offset."""
        theta, inside = self.integrate(offset_s)
        if inside.sum() < MIN_INTERVALS:
            return None
        centered = [one[inside] - np.median(one[inside], axis=0) for one in (theta, self.turned)]
        U, _, Vt = np.linalg.svd(centered[1].T @ centered[0])
        R = U @ np.diag([1, 1, np.linalg.det(U @ Vt)]) @ Vt
        drift = np.zeros(3)
        residuals, covariance = np.zeros((0, 3)), np.eye(7)
        for _ in range(30):
            theta, inside = self.integrate(offset_s)
            if inside.sum() < MIN_INTERVALS:
                return None
            dt = self.intervals_s[inside, None]
            predicted = theta[inside] @ R.T
            residuals = predicted - drift * dt - self.turned[inside]
            lengths = np.linalg.norm(residuals, axis=1)
            sigma = max(float(np.median(lengths)), 1e-9)
            weights = 1 / (1 + (lengths / (2 * sigma)) ** 2)
            slope = (self.integrate(offset_s + 1e-3)[0] - self.integrate(offset_s - 1e-3)[0])[inside] @ R.T / 2e-3
            J = np.zeros((len(theta[inside]), 3, 7))
            x, y, z = predicted.T
            J[:, 0, 1], J[:, 0, 2], J[:, 1, 0], J[:, 1, 2], J[:, 2, 0], J[:, 2, 1] = z, -y, -z, x, y, -x
            J[:, :, 3:6] = -np.eye(3) * dt[:, :, None]
            J[:, :, 6] = slope
            A = np.einsum("nip,n,niq->pq", J, weights, J)
            scale = 1 / np.sqrt(np.maximum(np.diag(A), 1e-18))
            inverse = np.linalg.pinv(A * np.outer(scale, scale)) * np.outer(scale, scale)
            step = -inverse @ np.einsum("nip,n,ni->p", J, weights, residuals)
            R, drift = so3_exp(step[:3]) @ R, drift + step[3:6]
            offset_s += float(np.clip(step[6], -0.02, 0.02))
            scores = np.einsum("nip,n,ni->np", J, weights, residuals)
            covariance = inverse @ scores.T @ scores @ inverse * find_correlation(residuals)
            if np.abs(step[:3]).max() < 1e-9 and abs(step[6]) < 1e-7:
                break
        return _Fit(R, drift, offset_s, residuals, covariance)


def check_gyroscope(
    path: Trajectory, log: GyroscopeLog, *, given: Array | None = None, purposes: Sequence[Purpose] = ()
) -> GyroscopeVerdict:
    """Judge a gyroscope by the rotations of a camera.

    path: poses of the camera with times.
    log: the rates.
    given: (3, 3) R_camera_gyroscope to check; None measures it.
    purposes: what it is to be good for; empty for all of GYROSCOPE_PURPOSES.
    """
    if path.times_s is None:
        return GyroscopeVerdict(reason="the poses of the camera have no times")
    best: tuple[float, _Fit, float, Array, bool, _Rotations] | None = None
    for is_inverse in (False, True):
        T = invert_pose(path.T_world_camera) if is_inverse else path.T_world_camera
        offset_s = _search_offset(_Rotations(T, path.times_s, log, 1.0, np.ones(3)))
        for factor in FACTORS:
            for signs in SIGNS if offset_s is not None else ():
                rotations = _Rotations(T, path.times_s, log, factor, np.array(signs))
                fit = rotations.fit(float(offset_s or 0.0))
                if fit is None:
                    continue
                rest = float(np.median(np.linalg.norm(fit.residuals, axis=1)))
                price = 1.0 + 0.1 * is_inverse + 0.1 * (factor != 1) + 0.1 * (min(signs) < 0)
                if best is None or rest * price < best[0]:
                    best = (rest * price, fit, factor, np.array(signs), is_inverse, rotations)
    if best is None:
        return GyroscopeVerdict(reason="gyroscope and camera have fewer than 20 intervals in common")
    _, fit, factor, kept_signs, is_inverse, rotations = best
    causes = []
    if is_inverse:
        causes.append(RigCause("inverse", "the poses of the camera are world-to-camera", "invert them"))
    if factor != 1:
        causes.append(RigCause("degrees", f"rates of the gyroscope are {FACTORS[factor]}", "multiply them by pi / 180"))
    if (kept_signs < 0).any():
        what = "the axes of the gyroscope are left-handed: one has the wrong sign"
        causes.append(RigCause("mirrored-axis", what, "negate the wrong one, and calibrate again"))
    return _describe(fit, rotations, causes, given, purposes)


def _search_offset(rotations: _Rotations) -> float | None:
    """Return the offset of the clocks that any linear map fits best, whatever the unit and the axes are."""
    offsets = np.arange(-MAX_GYRO_OFFSET_S, MAX_GYRO_OFFSET_S + GYRO_STEP_S / 2, GYRO_STEP_S)
    rated = [rotations.rate(float(offset_s)) for offset_s in offsets]
    return float(offsets[int(np.argmin(rated))]) if np.isfinite(min(rated)) else None


def _describe(
    fit: _Fit, rotations: _Rotations, causes: list[RigCause], given: Array | None, purposes: Sequence[Purpose]
) -> GyroscopeVerdict:
    turned = rotations.turned[rotations.used]
    size = float(np.median(np.linalg.norm(turned - np.median(turned, axis=0), axis=1)))
    lengths = np.linalg.norm(fit.residuals, axis=1)
    rest = float(np.median(lengths))
    if rest > MAX_UNEXPLAINED * size:
        reason = f"gyroscope and camera do not turn as one: {rest / size:.0%} of the rotations are left"
        return GyroscopeVerdict(reason=reason)
    deviation_deg = float(np.degrees(np.sqrt(np.trace(fit.covariance[:3, :3]))))
    if deviation_deg > MAX_GYRO_DEVIATION_DEG:
        return GyroscopeVerdict(reason="the camera turns about one axis only, or too little; turn it about two")
    deviations = np.sqrt(np.diag(fit.covariance))
    offset = Measured(fit.offset_s, float(deviations[6]))
    if offset.is_above(LEAST_GYRO_OFFSET_S, GYRO_SIGMA):
        side = "ahead of" if offset.value > 0 else "behind"
        shown = offset._replace(value=abs(offset.value)).show(1000)
        what = f"the clock of the gyroscope is {shown} ms {side} that of the images"
        causes.append(
            RigCause("clock-offset", what, f"add {offset.value:+.4f} s to the times of the images", size=offset,
                     unit="seconds", is_fault=False)
        )  # fmt: skip
    bias = np.degrees(fit.turn.T @ fit.drift)
    of_bias = np.degrees(np.sqrt(np.diag(fit.turn.T @ fit.covariance[3:6, 3:6] @ fit.turn)))
    biases = [Measured(float(value), float(sigma)) for value, sigma in zip(bias, of_bias, strict=True)]
    for axis, one in zip("xyz", biases, strict=True):
        if one.is_above(LEAST_GYRO_BIAS_DEG, GYRO_SIGMA):
            what = f"the gyroscope has a bias of {one.show(sign='+')} degrees a second about {axis}"
            causes.append(RigCause("bias", what, "subtract it", size=one, unit="degrees a second", is_fault=False))
    residual_deg = float(np.degrees(np.sqrt((lengths**2).mean())))
    verdict = GyroscopeVerdict(
        R_camera_gyroscope=fit.turn,
        deviation_deg=deviation_deg,
        offset_s=offset,
        bias_deg=(biases[0], biases[1], biases[2]),
        residual_deg=Measured(residual_deg, residual_deg / np.sqrt(6 * len(lengths))),
        are_asked=bool(purposes),
    )
    error_deg = 0.0
    if given is not None:
        errors = {name: float(np.degrees(np.linalg.norm(so3_log(fit.turn.T @ R)))) for name, R in
                  (("", given), ("inverse", given.T))}  # fmt: skip
        error_deg = errors[""]
        verdict = replace(verdict, rotation_deg=Measured(error_deg, deviation_deg))
        if errors["inverse"] < errors[""] / 4:
            what = "the given rotation is from the camera to the gyroscope"
            causes.append(RigCause("calibration-inverse", what, "transpose it"))
        elif Measured(error_deg, deviation_deg).is_above(LEAST_GYRO_DEG, GYRO_SIGMA):
            what = f"the given rotation is off by {Measured(error_deg, deviation_deg).show()} degrees"
            causes.append(RigCause("rotation", what, "use the measured rotation", is_fault=False))
    found = {"gyroscope_deg": Measured(error_deg, deviation_deg), "clock_s": _take_size(offset)}
    wanted = list(purposes) or list(GYROSCOPE_PURPOSES.values())
    judged = tuple(judge_limits(purpose, found.get) for purpose in wanted)
    return replace(verdict, causes=tuple(causes), purposes=judged)


def _take_size(measured: Measured) -> Measured:
    """Return a measurement with its size in place of its value."""
    return measured._replace(value=abs(measured.value))


def describe_gyroscope(verdict: GyroscopeVerdict) -> dict[str, Any]:
    """Return all fields of a verdict for JSON."""
    return {
        "grade": verdict.grade,
        "not_measurable": verdict.reason or None,
        "R_camera_gyroscope": None if verdict.R_camera_gyroscope is None else verdict.R_camera_gyroscope.tolist(),
        "deviation_deg": verdict.deviation_deg,
        "rotation_deg": describe_measured(verdict.rotation_deg),
        "offset_s": describe_measured(verdict.offset_s),
        "bias_deg": None if verdict.bias_deg is None else [describe_measured(one) for one in verdict.bias_deg],
        "residual_deg": describe_measured(verdict.residual_deg),
        "causes": [cause.to_json() for cause in verdict.causes],
        "purposes": [one.to_json() for one in verdict.purposes],
    }
