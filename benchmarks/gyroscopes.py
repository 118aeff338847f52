"""Simulated gyroscopes with mistakes: how often `stadia rig imu` names them.

    python benchmarks/gyroscopes.py [--seed 0]

The camera turns as a hand-held one does, smoothly about all axes, for 30 s at 20 Hz; its poses have .05 degrees of
noise. The gyroscope has 200 Hz, the noise of a phone's (.01 rad/s), and a drawn bias, axes and clock. Each of 20 has
one mistake: camera poses that are inverse, degrees, a mirrored axis, or a clock that is off by 5 ms or more.
"""

from __future__ import annotations

import numpy as np
from harness import make_parser
from numpy.typing import NDArray

from stadia.geometry.poses import from_rotation_translation, invert_pose, so3_exp, so3_log
from stadia.io.records.gyroscope import GyroscopeLog
from stadia.io.records.trajectory import Trajectory
from stadia.judge.rigs.gyroscope_check import check_gyroscope

Array = NDArray[np.float64]

DURATION_S, CAMERA_HZ, GYROSCOPE_HZ = 30.0, 20.0, 200.0
CAMERA_DEG, RATE_NOISE = 0.05, 0.01
MISTAKES = ("inverse", "degrees", "mirrored-axis", "clock-offset")


def make_pair(
    seed: int, *, offset_s: float = 0.0, turn: tuple[float, float, float] = (0.6, 0.6, 0.6)
) -> tuple[Trajectory, GyroscopeLog, Array]:
    """Return poses of a camera, the rates of its gyroscope, and the true R_camera_gyroscope (3, 3).

    seed: draws them.
    offset_s: seconds by which the gyroscope's clock is ahead.
    turn: size of the rates about the axes of the camera, radians a second.
    """
    random = np.random.default_rng(seed)
    fine_hz = 1000.0
    times = np.arange(-1.5, DURATION_S + 1.5, 1 / fine_hz)
    waves = random.uniform(0.15, 1.5, (3, 5)), random.uniform(0, 6.3, (3, 5))
    rates = np.stack([np.sin(6.283 * times[:, None] * waves[0][axis] + waves[1][axis]).sum(1) for axis in range(3)], 1)
    rates *= np.array(turn) / 2
    R = np.tile(np.eye(3), (len(times), 1, 1))
    steps = so3_exp(rates[:-1] / fine_hz + np.diff(rates, axis=0) / fine_hz / 2)
    for row in range(1, len(times)):
        R[row] = R[row - 1] @ steps[row - 1]
    frames = np.searchsorted(times, np.arange(0, DURATION_S, 1 / CAMERA_HZ))
    noisy = R[frames] @ so3_exp(random.normal(size=(len(frames), 3)) * np.radians(CAMERA_DEG))
    path = Trajectory(from_rotation_translation(noisy, random.normal(size=(len(frames), 3))), times[frames])
    axes = so3_exp(random.normal(size=3) * 1.5)
    every = int(fine_hz / GYROSCOPE_HZ)
    measured = rates[::every] @ axes + random.normal(size=3) * 0.01
    measured = measured + random.normal(size=measured.shape) * RATE_NOISE
    return path, GyroscopeLog(times[::every] + offset_s, measured, "gyroscope.csv"), axes


def main() -> None:
    """Draw, judge and print."""
    parser = make_parser(__doc__)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    named, right, ratios, false = 0, 0, list[float](), 0
    for number in range(20):
        mistake = MISTAKES[number % 4]
        random = np.random.default_rng(number)
        offset_s = float(random.uniform(0.005, 0.3) * random.choice([-1, 1])) if mistake == "clock-offset" else 0.0
        path, log, axes = make_pair(100 * given.seed + number, offset_s=offset_s)
        clean = check_gyroscope(path, log)
        if mistake != "clock-offset":
            false += bool([cause for cause in clean.causes if cause.name != "bias"])
        assert clean.R_camera_gyroscope is not None
        assert clean.offset_s is not None
        ratios.append(
            float(np.degrees(np.linalg.norm(so3_log(clean.R_camera_gyroscope.T @ axes)))) / clean.deviation_deg
        )
        ratios.append(abs(clean.offset_s.value - offset_s) / clean.offset_s.deviation)
        if mistake == "inverse":
            path = Trajectory(np.asarray(invert_pose(path.T_world_camera)), path.times_s)
        elif mistake == "degrees":
            log = GyroscopeLog(log.times_s, np.degrees(log.rates), log.name)
        elif mistake == "mirrored-axis":
            log = GyroscopeLog(log.times_s, log.rates * (1, -1, 1), log.name)
        verdict = check_gyroscope(path, log)
        causes = [cause.name for cause in verdict.causes if cause.name != "bias"]
        named += causes == [mistake]
        right += verdict.offset_s is not None and abs(verdict.offset_s.value - offset_s) < 0.002
        print(f"{number}: {mistake} {offset_s:+.3f} s: {causes} {verdict.reason}", flush=True)
    print(f"mistakes named: {named} of 20; clock within 2 ms: {right} of 20; right ones accused: {false} of 15")
    print(f"axes and clock within two deviations: {np.mean(np.array(ratios) < 2):.0%} of {len(ratios)}")


if __name__ == "__main__":
    main()
