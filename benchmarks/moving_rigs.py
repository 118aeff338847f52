"""Disturb calibrations of cameras that move together: error of what `stadia rig cameras` measures.

    python benchmarks/moving_rigs.py [--data FOLDER_OF_REAL_SAMPLES] [--seed 0]

Rigs are the stereo pairs of KITTI odometry and EuRoC, and rendered drives of RoadWorld with four cameras: one straight
ahead, and three around it. Each given calibration is turned by .05 to 2 degrees and moved by 1 to 50 mm. The measured
error, about three axes and in two directions across the baseline, is compared with the disturbance. Rendered cameras
are also 5 to 40 ms late.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from harness import REAL_DATA, make_parser
from numpy.typing import NDArray

from stadia.core.types import LEFT, RIGHT, Recording
from stadia.data.open_dataset import open_recordings
from stadia.geometry.image_features import SiftFeatures, detect_features
from stadia.geometry.poses import from_rotation_translation, invert_pose, so3_exp
from stadia.judge.rigs.camera_pair import Instant, judge_pair, match_instants, measure_pair
from stadia.judge.rigs.pose_log_mistakes import interpolate
from stadia.synthetic.config import RoadWorldConfig
from stadia.synthetic.roadworld.road_world import RoadRenderer, make_world

Array = NDArray[np.float64]
REAL = ("kitti_odometry", "euroc")
CONFIG = RoadWorldConfig(
    train=1, val=0, test=0, frames=12, height=256, width=640, stereo=False, supersampling=1, frame_rate_hz=10
)
MOUNTS = {
    "right": ((0.5, 0.0, 0.0), (0.0, 0.0, 0.0)),
    "turned": ((0.6, 0.0, 0.1), (0.0, 15.0, 0.0)),
    "above": ((0.1, -0.5, 0.0), (-5.0, -8.0, 2.0)),
}
"""Position in metres and rotation in degrees of the other cameras in the first."""

OFFSETS_S = (0.005, 0.01, 0.02, 0.04)


@dataclass(frozen=True)
class Rig:
    """Matches of two cameras with their right calibration."""

    name: str
    instants: Sequence[Instant]
    K_first: Array
    K_second: Array
    T_second_first: Array


def open_real(data: Path) -> list[Rig]:
    """Return the real pairs."""
    rigs = []
    for name in REAL:
        if not (data / name).is_dir():
            continue
        recording = open_recordings(str(data / name))[0]
        times = np.arange(len(recording)) * (0.1 if "kitti" in name else 0.05)
        cameras = [recording.camera(0, side) for side in (LEFT, RIGHT)]

        def detect(index: int, side: str, recording: Recording = recording) -> SiftFeatures:
            return detect_features(recording.image(index, side))

        instants = match_instants(
            detect, (LEFT, RIGHT), len(recording), times.tolist(), side_px=max(cameras[0].height, cameras[0].width)
        )
        K_left, K_right = (np.asarray(camera.K, np.float64) for camera in cameras)
        rigs.append(Rig(name, instants, K_left, K_right, np.asarray(recording.T_right_left, np.float64)))
    return rigs


def render_rig(seed: int, mount: str, offset_s: float = 0.0) -> Rig:
    """Return the rendered pair of the first camera and another one, which is late by an offset."""
    world = make_world(seed, CONFIG)
    t, angles = MOUNTS[mount]
    T_first_second = from_rotation_translation(so3_exp(np.radians(angles)), np.array(t))
    poses = np.asarray(world.drive.T_world_camera, np.float64)
    K = np.asarray(world.K, np.float64)
    share = np.full(len(poses) - 1, offset_s * CONFIG.frame_rate_hz)
    late = np.concatenate([interpolate(poses[:-1], poses[1:], share), poses[-1:]])
    second = replace(world, drive=replace(world.drive, T_world_camera=late @ T_first_second))
    renderers = {"first": RoadRenderer(world, CONFIG), "second": RoadRenderer(second, CONFIG)}

    def detect(index: int, side: str) -> SiftFeatures:
        return detect_features(np.asarray(renderers[side].render(index)["left"].image, np.uint8))

    times = (np.arange(CONFIG.frames) / CONFIG.frame_rate_hz).tolist()
    instants = match_instants(detect, ("first", "second"), CONFIG.frames, times, side_px=CONFIG.width)
    return Rig(f"world {seed}, {mount}", instants, K, K, invert_pose(T_first_second))


def main() -> None:
    """Disturb, measure and print."""
    parser = make_parser(__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--worlds", type=int, default=2)
    parser.add_argument("--disturbances", type=int, default=6)
    parser.add_argument("--data", type=Path, default=REAL_DATA)
    given = parser.parse_args()
    random = np.random.default_rng(given.seed)
    rigs = open_real(given.data)
    rigs += [render_rig(1000 + seed, mount) for seed in range(given.worlds) for mount in MOUNTS]
    ratios, named, claims = list[float](), list[bool](), list[str]()
    for rig in rigs:
        error = measure_pair(rig.instants, rig.K_first, rig.K_second, rig.T_second_first)
        causes = [cause.name for cause in judge_pair(rig.name, error).causes]
        claims += [f"{rig.name}: {causes}"] * bool(causes)
        shown = [turn.show() for turn in error.rotation_deg or ()], [one.show(1000) for one in error.across_m or ()]
        print(f"{rig.name:24} {error.reason or shown} {causes}", flush=True)
        if error.reason:
            continue
        for size in np.linspace(0, 1, given.disturbances):
            angle_deg, length_m = 0.05 * 40**size, 0.001 * 50**size
            axis, way = random.normal(size=3), random.normal(size=3)
            turn = np.radians(angle_deg) * axis / np.linalg.norm(axis)
            move = length_m * way / np.linalg.norm(way)
            D = from_rotation_translation(so3_exp(turn), move)
            found = measure_pair(rig.instants, rig.K_first, rig.K_second, D @ rig.T_second_first)
            assert found.rotation_deg is not None
            assert found.across_m is not None
            assert found.across is not None
            ratios += [
                abs(one.value - true) / one.deviation
                for one, true in zip(found.rotation_deg, np.degrees(turn), strict=True)
            ]
            ratios += [
                abs(one.value - true) / one.deviation
                for one, true in zip(found.across_m, found.across @ move, strict=True)
            ]
            if angle_deg >= 0.5:
                named.append("rotation" in [cause.name for cause in judge_pair(rig.name, found).causes])
    late, on_time = list[float](), list[bool]()
    for number, offset_s in enumerate(OFFSETS_S * 2):
        rig = render_rig(1000 + number % given.worlds, list(MOUNTS)[number % 3], offset_s)
        error = measure_pair(rig.instants, rig.K_first, rig.K_second, rig.T_second_first)
        causes = [cause.name for cause in judge_pair(rig.name, error).causes]
        if error.offset_s is not None:
            late.append(abs(error.offset_s.value - offset_s) / error.offset_s.deviation)
        on_time.append("not-synchronized" in causes)
        print(
            f"{rig.name:24} late by {1000 * offset_s:.0f} ms: {error.offset_s and error.offset_s.show(1000)} {causes}",
            flush=True,
        )
    print(f"disturbances within two deviations: {np.mean(np.array(ratios) < 2):.0%} of {len(ratios)} numbers")
    print(f"rotations of .5 degrees and more named: {sum(named)} of {len(named)}")
    print(f"offsets within two deviations: {np.sum(np.array(late) < 2)} of {len(OFFSETS_S) * 2}; named: {sum(on_time)}")
    print(f"untouched calibrations accused: {len(claims)} of {len(rigs)}", *claims)


if __name__ == "__main__":
    main()
