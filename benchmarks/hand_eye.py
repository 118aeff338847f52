"""Simulated robots with mistakes in their logs: how often `stadia rig hand-eye` names the mistake, and how right it is.

    python benchmarks/hand_eye.py --robots 200 --seed 0

Each robot moves a camera to 12 to 35 views of a target; the camera's poses have the errors of a detected target (.15
degrees, 1 mm), the robot's those of a repeatable arm (.03 degrees, .3 mm). Each robot gets one of 12 mistakes, and is
judged without one, too. Robots whose hand turns too little are counted as refused.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from harness import make_parser
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from stadia.geometry.poses import from_rotation_translation, invert_pose, se3_exp, so3_log
from stadia.io.records.robot_log import RobotLog, RotationReading
from stadia.judge.rigs.check_hand_eye import judge_hand_eye
from stadia.judge.rigs.pose_log_mistakes import LogPairing, interpolate

Array = NDArray[np.float64]

TARGET_DEG, TARGET_M = 0.15, 0.001
ROBOT_DEG, ROBOT_M = 0.03, 0.0003


@dataclass(frozen=True)
class Robot:
    """A simulated robot with a camera on its hand.

    T_hand_camera: (4, 4) the true calibration.
    T_base_hand: (N, 4, 4) poses of its log.
    T_world_camera: (N, 4, 4) measured poses of the camera in the target.
    times_s: (N,) their times.
    """

    T_hand_camera: Array
    T_base_hand: Array
    T_world_camera: Array
    times_s: Array


def make_noise(random: np.random.Generator, count: int, angle_deg: float, length_m: float) -> Array:
    """Return small motions (N, 4, 4): deviations of angle and length of each coordinate."""
    scale = np.repeat([length_m, np.radians(angle_deg)], 3)
    return se3_exp(random.normal(size=(count, 6)) * scale)


def make_robot(seed: int, *, count: int | None = None, turn: tuple[float, float, float] = (0.35, 0.35, 0.35)) -> Robot:
    """Return a robot.

    seed: draws it.
    count: number of views; None draws 12 to 35.
    turn: deviation of the rotation between views about three axes, radians.
    """
    random = np.random.default_rng(seed)
    count = count or int(random.integers(12, 36))
    T_hand_camera = se3_exp(np.r_[random.normal(size=3) * 0.08, random.normal(size=3)])
    T_base_world = se3_exp(np.r_[random.normal(size=3) * 0.2 + [0.5, 0, 0], random.normal(size=3)])
    around = se3_exp(np.column_stack([np.zeros((count, 3)), random.normal(size=(count, 3)) * turn]))
    away = se3_exp(
        np.column_stack(
            [random.normal(size=(count, 3)) * 0.12 - [0, 0, 0.5], random.normal(size=(count, 3)) * 0.3 * np.array(turn)]
        )
    )
    T_world_camera = around @ away
    T_base_hand = T_base_world @ T_world_camera @ invert_pose(T_hand_camera)
    return Robot(
        T_hand_camera,
        T_base_hand @ make_noise(random, count, ROBOT_DEG, ROBOT_M),
        T_world_camera @ make_noise(random, count, TARGET_DEG, TARGET_M),
        np.arange(count, dtype=float),
    )


def make_log(T: Array, reading: RotationReading | None = None) -> RobotLog:
    """Return a log of poses (N, 4, 4) with quaternions, or with the numbers of another reading."""
    reading = reading or RotationReading("quaternion", "xyzw")
    rotation = Rotation.from_matrix(T[:, :3, :3])
    if reading.kind == "Euler angles":
        numbers = rotation.as_euler(reading.order, degrees=reading.is_degrees)
    elif reading.kind == "rotation vector":
        numbers = rotation.as_rotvec(degrees=reading.is_degrees)
    else:
        numbers = rotation.as_quat()
        numbers = numbers if reading.order == "xyzw" else numbers[:, [3, 0, 1, 2]]
    return RobotLog(Path("robot.csv"), T[:, :3, 3].copy(), numbers, reading)


def pair(robot: Robot, log: RobotLog) -> LogPairing:
    """Pair the rows of a log with the images in their order."""
    count = len(robot.T_world_camera)
    names = tuple(f"{row + 1}.png" for row in range(count))
    return LogPairing(log, robot.T_world_camera, names, None, np.arange(count))


def mistake_reading(wrong: RotationReading, right: RotationReading) -> Callable[..., LogPairing]:
    """Return a maker of logs with numbers of one reading, and the name of another one."""
    return lambda robot, random: pair(robot, replace(make_log(robot.T_base_hand, right), reading=wrong))


def reverse_hand(robot: Robot, random: np.random.Generator) -> LogPairing:
    """Write poses of the base in the hand."""
    return pair(robot, make_log(invert_pose(robot.T_base_hand)))


def turn_positions(robot: Robot, random: np.random.Generator) -> LogPairing:
    """Write positions in the axes of the hand."""
    R = robot.T_base_hand[:, :3, :3]
    return pair(robot, make_log(from_rotation_translation(R, (R.mT @ robot.T_base_hand[:, :3, 3:])[:, :, 0])))


def transpose(robot: Robot, random: np.random.Generator) -> LogPairing:
    """Write inverse rotations with right positions."""
    T = robot.T_base_hand
    return pair(robot, make_log(from_rotation_translation(T[:, :3, :3].mT.copy(), T[:, :3, 3])))


def write_millimetres(robot: Robot, random: np.random.Generator) -> LogPairing:
    """Write positions in millimetres."""
    log = make_log(robot.T_base_hand)
    return pair(robot, replace(log, positions=1000 * log.positions))


def shift(robot: Robot, random: np.random.Generator) -> LogPairing:
    """Lose the first rows of the log, and repeat the last."""
    count, lost = len(robot.T_base_hand), int(random.integers(1, 4))
    rows = np.minimum(np.arange(count) + lost, count - 1)
    return pair(robot, make_log(robot.T_base_hand).rows(rows))


def shuffle(robot: Robot, random: np.random.Generator) -> LogPairing:
    """Pair images with poses in the order of names as text, or in any order."""
    count = len(robot.T_base_hand)
    names = [f"{row + 1}" for row in range(count)]
    rows = np.argsort(names) if random.random() < 0.5 else random.permutation(count)
    return pair(robot, make_log(robot.T_base_hand).rows(rows))


def exchange(robot: Robot, random: np.random.Generator) -> LogPairing:
    """Exchange the poses of two images."""
    rows = np.arange(len(robot.T_base_hand))
    first, second = random.choice(len(rows), 2, replace=False)
    rows[[first, second]] = rows[[second, first]]
    return pair(robot, make_log(robot.T_base_hand).rows(rows))


def mirror(robot: Robot, random: np.random.Generator) -> LogPairing:
    """Write left-handed coordinates, or the wrong sign of one coordinate."""
    log = make_log(robot.T_base_hand)
    axis = int(random.integers(0, 4))
    if axis == 3:
        M = np.diag([1.0, -1, 1, 1])
        return pair(robot, make_log(M @ robot.T_base_hand @ M))
    sign = np.ones(3)
    sign[axis] = -1
    return pair(robot, replace(log, positions=log.positions * sign))


def delay(robot: Robot, random: np.random.Generator) -> LogPairing:
    """Move the hand along its views without a stop, and give its clock an offset of 20 to 500 ms."""
    offset_s = float(random.uniform(0.02, 0.5) * random.choice([-1, 1]))
    count = len(robot.T_base_hand)
    log_times = np.arange(0, count - 1, 0.02)
    at = log_times.clip(0, count - 1.001)
    low = at.astype(int)
    dense = interpolate(robot.T_base_hand[low], robot.T_base_hand[low + 1], at - low)
    dense = dense @ make_noise(random, len(dense), ROBOT_DEG / 10, ROBOT_M / 10)
    times = np.arange(0.6, count - 1.6, 0.4)
    low = times.astype(int)
    images = interpolate(robot.T_base_hand[low], robot.T_base_hand[low + 1], times - low)
    world = robot.T_world_camera[0] @ invert_pose(robot.T_hand_camera) @ invert_pose(robot.T_base_hand[0])
    cameras = world @ images @ robot.T_hand_camera @ make_noise(random, len(times), TARGET_DEG, TARGET_M)
    log = replace(make_log(dense), times_s=log_times + offset_s)
    names = tuple(f"{row + 1}.png" for row in range(len(times)))
    return LogPairing(log, cameras, names, times, np.zeros(len(times), np.intp))


def scale_target(robot: Robot, random: np.random.Generator) -> LogPairing:
    """Give the squares of the target a size that is 2 to 6 % wrong."""
    wrong = robot.T_world_camera.copy()
    wrong[:, :3, 3] *= 1 + float(random.uniform(0.02, 0.06) * random.choice([-1, 1]))
    return pair(replace(robot, T_world_camera=wrong), make_log(robot.T_base_hand))


DEGREES = RotationReading("Euler angles", "xyz", True)
MISTAKES: dict[str, tuple[Callable[..., LogPairing], str]] = {
    "inverse": (reverse_hand, "inverse"),
    "base against tool": (turn_positions, "base-against-tool"),
    "transposed": (transpose, "transposed"),
    "millimetres": (write_millimetres, "units"),
    "degrees": (mistake_reading(replace(DEGREES, is_degrees=False), DEGREES), "degrees"),
    "quaternion order": (
        mistake_reading(RotationReading("quaternion", "xyzw"), RotationReading("quaternion", "wxyz")),
        "quaternion-order",
    ),
    "Euler order": (
        mistake_reading(RotationReading("Euler angles", "xyz"), RotationReading("Euler angles", "ZXY")),
        "euler-order",
    ),
    "shifted": (shift, "shifted"),
    "shuffled": (shuffle, "shuffled"),
    "exchanged": (exchange, "wrong-pairs"),
    "mirrored axis": (mirror, "mirrored-axis"),
    "clock offset": (delay, "clock-offset"),
    "size of the target": (scale_target, "scale"),
}
"""Mistake -> how a log with it is made, and the cause to name."""


MOST_M, MOST_DEG = 0.006, 0.5
"""Error up to which a calibration is right, some deviations of the measured ones."""


def is_right(measured: Array, true: Array) -> bool:
    """Return whether a calibration (4, 4) is right; which axis of left-handed coordinates is mirrored is not seen."""
    errors = []
    for signs in ((1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1)):
        E = invert_pose(np.diag([*signs, 1.0]) @ measured) @ true
        errors.append((float(np.linalg.norm(E[:3, 3])), float(np.degrees(np.linalg.norm(so3_log(E[:3, :3]))))))
    return any(length < MOST_M and angle < MOST_DEG for length, angle in errors)


def main() -> None:
    """Simulate, judge and print."""
    parser = make_parser(__doc__)
    parser.add_argument("--robots", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    named, right, wrong_names = Counter[str](), Counter[str](), defaultdict[str, list[str]](list)
    tried, ratios, false = Counter[str](), list[float](), list[str]()
    for number in range(given.robots):
        robot = make_robot(1000 * given.seed + number)
        random = np.random.default_rng(number)
        kinds = list(MISTAKES)
        kind = kinds[number % len(kinds)]
        make, cause = MISTAKES[kind]
        verdict = judge_hand_eye(make(robot, random))
        tried[kind] += 1
        names = [one.name for one in verdict.causes]
        named[kind] += names == [cause]
        if names != [cause]:
            wrong_names[kind].append(f"{number}: {names or verdict.reason}")
        if verdict.T_hand_camera is not None and kind != "size of the target":
            right[kind] += is_right(verdict.T_hand_camera, robot.T_hand_camera)
        clean = judge_hand_eye(pair(robot, make_log(robot.T_base_hand)))
        if clean.causes or clean.reason:
            false.append(f"{number}: {[one.name for one in clean.causes] or clean.reason}")
        if clean.T_hand_camera is not None and clean.calibration_m is not None and clean.calibration_deg is not None:
            E = invert_pose(clean.T_hand_camera) @ robot.T_hand_camera
            ratios.append(float(np.linalg.norm(E[:3, 3])) / clean.calibration_m.deviation)
            ratios.append(float(np.degrees(np.linalg.norm(so3_log(E[:3, :3])))) / clean.calibration_deg.deviation)
    for kind in MISTAKES:
        print(
            f"{kind:20} named {named[kind]:3} of {tried[kind]}, calibration right {right[kind]:3}",
            *wrong_names[kind][:3],
        )
    print(f"named: {sum(named.values())} of {sum(tried.values())} ({sum(named.values()) / sum(tried.values()):.1%})")
    print(f"untouched logs accused: {len(false)} of {given.robots}", *false[:5])
    print(f"error within two deviations: {np.mean(np.array(ratios) < 2):.1%}")
    refused = 0
    for number in range(20):
        turn = [(0.4, 0.0, 0.0), (0.0, 0.0, 0.4), (0.01, 0.01, 0.01), (0.0, 0.3, 0.004)][number % 4]
        count = 4 if number % 5 == 4 else None
        robot = make_robot(900 + number, count=count, turn=(0.35, 0.35, 0.35) if count else turn)
        verdict = judge_hand_eye(pair(robot, make_log(robot.T_base_hand)))
        refused += bool(verdict.reason) and not verdict.causes
    print(f"motion that determines nothing: refused {refused} of 20")


if __name__ == "__main__":
    main()
