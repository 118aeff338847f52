"""Make inputs that people reported to go wrong in this field, run them, and count what stadia says.

    python benchmarks/public_reports.py [--data FOLDER_OF_REAL_SAMPLES] [--only TEXT] [--fast] [--show]
    python benchmarks/public_reports.py --page docs/reference/it-says-that.md    write the page of symptoms

Each input names the project, and the thread where it has a number, or the habit that it is modeled on. It is made of
the real samples (STADIA_REAL_DATA, or ../shared/data) or drawn. Outcomes: right (read, or judged as it should be), cure
(one line names the cause and the fix), silent (neither), wrong (a cause whose fix would damage good data). The exit
status is 1 for any silent or wrong one. --fast leaves out inputs of real samples. Ends with a line of JSON.
"""

# mypy: disable-error-code="arg-type, assignment, index, operator, return-value, type-var, union-attr"

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import chdir, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

REAL_DATA = Path(os.environ.get("STADIA_REAL_DATA", Path(__file__).parents[2] / "shared" / "data"))
Array = NDArray[np.float64]
Words = Sequence[object]
After = Callable[[Path, str], str] | None


@dataclass(frozen=True)
class Report:
    """One reported input.

    make: writes it into an empty folder and returns the words of the command; `data` is the folder of real samples.
    expected: patterns that the output must all contain.  outcome: "right" or "cure", where it does.
    damaging: pattern of a wrong cause.  needs: folder of the real samples; empty for drawn inputs.
    after: returns more text to compare, from the folder and the output: of files, or of the command that was named.
    """

    name: str
    source: str
    make: Callable[[Path, Path], Words]
    expected: tuple[str, ...]
    outcome: str = "cure"
    damaging: str = ""
    needs: str = ""
    after: After = None


REPORTS: list[Report] = []


def report(
    name: str, source: str, *expected: str, outcome: str = "cure", damaging: str = "", needs: str = ""
) -> Callable[[Callable[[Path, Path], Words]], Callable[[Path, Path], Words]]:
    """Add the decorated function as the input of a report."""

    def add(make: Callable[[Path, Path], Words]) -> Callable[[Path, Path], Words]:
        REPORTS.append(Report(name, source, make, expected, outcome, damaging, needs))
        return make

    return add


# -- Trajectories: a camera that turns about all axes, at a speed that changes.


def make_path(n: int = 150) -> Array:
    """Return (n, 4, 4) T_world_camera."""
    s = np.cumsum(1 + 0.8 * np.sin(np.arange(n) / 5)) / 10
    T = np.tile(np.eye(4), (n, 1, 1))
    angles = np.stack([s / 3, 0.4 * np.sin(s), 0.3 * np.cos(s / 2)], 1)
    T[:, :3, :3] = Rotation.from_euler("yxz", angles).as_matrix()
    T[:, :3, 3] = np.stack([3 * np.sin(s / 3), 0.3 * np.cos(s), 3 * np.cos(s / 3) + 0.2 * s], 1)
    return T


START_S = 1403636579.76
TIMES_S = START_S + np.arange(150) / 20


def make_estimate() -> Array:
    """Return the path with 2 mm of noise."""
    T = make_path()
    T[:, :3, 3] += np.random.default_rng(0).normal(0, 0.002, (len(T), 3))
    return T


def write_tum(
    path: Path, T: Array, times: Array | Sequence[str] = TIMES_S, *, w_first: bool = False, separator: str = " ",
    header: str = "", end: str = "", scale: float = 1.0,
) -> None:  # fmt: skip
    """Write rows of a time, a position and a quaternion times `scale`."""
    q = scale * Rotation.from_matrix(T[:, :3, :3]).as_quat()
    q = np.roll(q, 1, axis=1) if w_first else q
    words = [time if isinstance(time, str) else f"{time:.6f}" for time in times]
    rows = zip(words, np.hstack([T[:, :3, 3], q]), strict=False)
    lines = [separator.join([word, *(f"{value:.7f}" for value in row)]) + end for word, row in rows]
    path.write_text("\n".join([*filter(None, [header]), *lines]) + "\n")


def write_kitti(path: Path, T: Array, *, numbered: bool = False, square: bool = False) -> None:
    """Write rows of 12 numbers, or 16, with the frame number in front."""
    rows = T.reshape(len(T), 16) if square else T[:, :3].reshape(len(T), 12)
    prefix = (f"{k} " if numbered else "" for k in range(len(T)))
    path.write_text("\n".join(p + " ".join(f"{v:.9e}" for v in row) for p, row in zip(prefix, rows, strict=True)))


def score_path(folder: Path, *options: object, estimate: str = "est.txt", reference: str = "ref.txt") -> Words:
    """Return the command that scores a path of the folder."""
    return "evaluate", "--trajectory", folder / estimate, "--reference", folder / reference, *options


def add_path_report(
    name: str, source: str, change: Callable[[Array], Array], *expected: str, tum: bool = False, damaging: str = ""
) -> None:
    """Add a report of an estimate in another convention."""

    def make(folder: Path, data: Path) -> Words:
        write = write_tum if tum else write_kitti
        write(folder / "ref.txt", make_path())
        write(folder / "est.txt", change(make_estimate()))
        return score_path(folder)

    REPORTS.append(Report(name, source, make, expected, "cure", damaging))


def turn_camera(R: Array) -> Callable[[Array], Array]:
    """Return the function that gives the camera other axes."""
    X = np.eye(4)
    X[:3, :3] = R
    return lambda T: T @ X


OPENGL = np.diag([1.0, -1, -1])
BODY = np.array([[0.0, -1, 0], [0, 0, -1], [1, 0, 0]])
MIRROR = np.diag([1.0, -1, 1, 1])


def reorder(T: Array) -> Array:
    """Return poses whose quaternions have w first, as rows with w last hold them."""
    q = np.roll(Rotation.from_matrix(T[:, :3, :3]).as_quat(), 1, axis=1)
    changed = T.copy()
    changed[:, :3, :3] = Rotation.from_quat(q).as_matrix()
    return changed


def set_position(T: Array, position: Array) -> Array:
    """Return poses at other positions."""
    changed = T.copy()
    changed[:, :3, 3] = position
    return changed


add_path_report("T06", "OKVIS2-X 12, VINS-Mono 10", reorder, "w of its quaternions first", "off by", tum=True)
add_path_report("T20", "nerfstudio 2019", turn_camera(OPENGL), "OpenGL", "off by")
add_path_report("T30", "evo", np.linalg.inv, "world-to-camera", "off by")
add_path_report("T31", "ORB_SLAM3: body frame of the IMU", turn_camera(BODY), "LiDAR or a body", "Fix")
add_path_report("T32", "LeGO-LOAM: axes of the LiDAR", turn_camera(BODY.T), "LiDAR or a body", "Fix")
add_path_report(
    "T33", "kalibr: camera mounted at an angle",
    turn_camera(Rotation.from_rotvec([0.2, 0.6, -0.3]).as_matrix()), "constant rotation of 40 degrees", "Fix",
)  # fmt: skip
add_path_report("T34", "colmap: world-to-camera with OpenGL axes",
                lambda T: np.linalg.inv(turn_camera(OPENGL)(T)), "world-to-camera poses, and", "OpenGL")  # fmt: skip
add_path_report("T35", "a path written from its end", lambda T: T[::-1].copy(), "in reverse order")
add_path_report("T36", "AirSim: left-handed axes of Unreal", lambda T: MIRROR @ T @ MIRROR, "left-handed")
add_path_report("T37", "evo: poses in millimetres",
                lambda T: set_position(T, 1000 * T[:, :3, 3]), "times as long", "millimetres")  # fmt: skip
add_path_report("T38", "monodepth2: monocular scale",
                lambda T: set_position(T, 0.05 * T[:, :3, 3]), "times as long", "sim3")  # fmt: skip
add_path_report("T39", "conjugated quaternions (JPL and Hamilton)",
                lambda T: np.concatenate([np.concatenate([np.swapaxes(T[:, :3, :3], 1, 2), T[:, :3, 3:]], 2),
                                          T[:, 3:]], 1), "transposed rotations", tum=True)  # fmt: skip
add_path_report("T40", "ORB_SLAM2: a lever arm to the prism",
                lambda T: set_position(T, T[:, :3, 3] + T[:, :3, :3] @ [0.6, -0.3, 0.9]),
                "two sensors of one rig")  # fmt: skip


@report("T41", "evo: clocks that differ by half a second", "late against the reference", "Fix")
def _offset(folder: Path, data: Path) -> Words:
    write_tum(folder / "ref.txt", make_path())
    write_tum(folder / "est.txt", make_estimate(), TIMES_S + 0.5)
    return score_path(folder)


@report("T42", "rgbd_benchmark_tools: times of another clock", "found times", "clocks start differently", "add 1000")
def _other_clock(folder: Path, data: Path) -> Words:
    write_tum(folder / "ref.txt", make_path(), TIMES_S + 1000)
    write_tum(folder / "est.txt", make_estimate())
    return score_path(folder)


@report("T43", "evo: milliseconds against seconds, from 0", "two units", "1e-3")
def _milliseconds(folder: Path, data: Path) -> Words:
    write_tum(folder / "ref.txt", make_path(), TIMES_S - START_S + 40)
    write_tum(folder / "est.txt", make_estimate(), 1000 * (TIMES_S - START_S + 40))
    return score_path(folder)


NANOSECONDS = [str(round(time * 1e9)) for time in TIMES_S]
EUROC_HEADER = (
    "#timestamp, p_RS_R_x [m], p_RS_R_y [m], p_RS_R_z [m], q_RS_w [], q_RS_x [], q_RS_y [], q_RS_z [],"
    " v_RS_R_x [m s^-1]"
)


def add_format_report(
    name: str, source: str, write: Callable[[Path], object], *options: object, note: str = "", file: str = "ref.txt"
) -> None:
    """Add a report of a reference in another format, which must be read: the ATE is the noise."""

    def make(folder: Path, data: Path) -> Words:
        write(folder / file)
        (write_kitti if "kitti" in options else write_tum)(folder / "est.txt", make_estimate())
        return score_path(folder, *options, reference=file)

    expected = (r"ATE 0\.003\d* m", note) if note else (r"ATE 0\.003\d* m",)
    REPORTS.append(Report(name, source, make, expected, "right"))


TUM = ("--format", "tum")
add_format_report("T05", "evo: EuRoC as a reference",
                  lambda p: write_tum(p, make_path(), NANOSECONDS, w_first=True, separator=",", header=EUROC_HEADER,
                                      end=",0"), *TUM, note="nanoseconds")  # fmt: skip
add_format_report("T10", "VINS-Mono", lambda p: write_tum(
    p, make_path(), NANOSECONDS, w_first=True, separator=",", end=",0.1,0.1,0.1,"), *TUM)  # fmt: skip
add_format_report("T44", "VINS-Fusion: vio_loop.csv", lambda p: write_tum(
    p, make_path(), NANOSECONDS, w_first=True, separator=",", end=","), *TUM)  # fmt: skip
add_format_report("T18b", "evo: a header line", lambda p: write_tum(
    p, make_path(), separator=",", header="t,x,y,z,qx,qy,qz,qw"), *TUM)  # fmt: skip
add_format_report("T45", "evo: w first, named by a header", lambda p: write_tum(
    p, make_path(), w_first=True, header="timestamp tx ty tz qw qx qy qz"), *TUM)  # fmt: skip
add_format_report("T46", "a table of a spreadsheet with semicolons", lambda p: write_tum(
    p, make_path(), separator=";"), *TUM)  # fmt: skip
add_format_report("T47", "ORB_SLAM3 SaveTrajectoryEuRoC: nanoseconds, w last", lambda p: write_tum(
    p, make_path(), [f"{word}.000000" for word in NANOSECONDS]), *TUM)  # fmt: skip
add_format_report("T48", "rostopic echo -p", lambda p: write_tum(
    p, make_path(), NANOSECONDS, separator=",",
    header="%time,field.pose.position.x,field.pose.position.y,field.pose.position.z,field.pose.orientation.x,"
           "field.pose.orientation.y,field.pose.orientation.z,field.pose.orientation.w"), *TUM)  # fmt: skip
add_format_report("T08", "rpg_trajectory_evaluation: quaternions of length 2",
                  lambda p: write_tum(p, make_path(), scale=2.0), *TUM, note="normalized")  # fmt: skip
add_format_report("T49", "kitti-odom-eval: frame numbers", lambda p: write_kitti(
    p, make_path(), numbered=True), "--format", "kitti")  # fmt: skip
add_format_report("T50", "kitti360Scripts: cam0_to_world.txt", lambda p: write_kitti(
    p, make_path(), numbered=True, square=True), "--format", "kitti")  # fmt: skip
add_format_report("T51", "poses as 4x4 rows", lambda p: write_kitti(p, make_path(), square=True), "--format", "kitti")


GL_PATH = turn_camera(OPENGL)(make_path())
KITTI = ("--format", "kitti")
add_format_report("T95", "nerfstudio: ns-export cameras", lambda p: p.write_text(json.dumps(
    [{"file_path": f"{k:04d}.jpg", "transform": T[:3].tolist()} for k, T in enumerate(GL_PATH)])), *KITTI,
    note="OpenGL", file="transforms_train.json")  # fmt: skip
add_format_report("T96", "nerfstudio: camera_path.json", lambda p: p.write_text(json.dumps(
    {"fps": 24, "camera_path": [{"camera_to_world": T.ravel().tolist(), "fov": 50} for T in GL_PATH]})), *KITTI,
    note="OpenGL", file="camera_path.json")  # fmt: skip
add_format_report("T97", "Open3D: PinholeCameraTrajectory, column by column", lambda p: p.write_text(json.dumps(
    {"parameters": [{"extrinsic": T.T.ravel().tolist()} for T in np.linalg.inv(make_path())]})), *KITTI,
    note="world-to-camera", file="trajectory.json")  # fmt: skip
add_format_report("T98", "Redwood: .log of four rows below a line of three numbers", lambda p: p.write_text(
    "".join(f"{k} {k} {k + 1}\n" + "".join(" ".join(map(repr, row)) + "\n" for row in T.tolist())
            for k, T in enumerate(make_path()))), *KITTI, file="ref.log")  # fmt: skip
add_format_report("T99", "Spectacular AI: one JSON a line", lambda p: p.write_text("".join(json.dumps(
    {"time": float(time), "position": dict(zip("xyz", T[:3, 3], strict=True)),
     "orientation": dict(zip("xyzw", Rotation.from_matrix(T[:3, :3]).as_quat(), strict=True))}) + "\n"
    for time, T in zip(TIMES_S, make_path(), strict=True))), *TUM, file="ref.jsonl")  # fmt: skip


def _write_motion_capture(path: Path) -> None:
    """Write seven lines of names, the quaternion in front of the position, and a row whose cells are empty."""
    T = make_path()
    q = Rotation.from_matrix(T[:, :3, :3]).as_quat()
    rows = [f"{k},{t:.6f},{','.join(f'{v:.7f}' for v in (*q[k], *T[k, :3, 3]))},0.0003" for k, t in enumerate(TIMES_S)]
    rows[70] = f"70,{TIMES_S[70]:.6f},,,,,,,,"
    names = ["Format Version,1.23,Take Name,a", "", ",,Rigid Body,Rigid Body", ",,camera,camera", ',,"4","4"',
             ",,Rotation,Rotation,Rotation,Rotation,Position,Position,Position,Mean Marker Error",
             "Frame,Time (Seconds),X,Y,Z,W,X,Y,Z,"]  # fmt: skip
    path.write_text("\n".join([*names, *rows]) + "\n")


add_format_report("T101", "ROS 2: TransformStamped as JSON", lambda p: p.write_text(json.dumps(
    [{"header": {"stamp": {"sec": int(word) // 10**9, "nanosec": int(word) % 10**9}},
      "transform": {"translation": dict(zip("xyz", T[:3, 3], strict=True)),
                    "rotation": dict(zip("xyzw", Rotation.from_matrix(T[:3, :3]).as_quat(), strict=True))}}
     for word, T in zip(NANOSECONDS, make_path(), strict=True)])), *TUM, file="ref.json")  # fmt: skip


def _write_json_folder(folder: Path) -> None:
    """Write a JSON file for each image, with the rotation to the world and the position, as Nerfies has them."""
    folder.mkdir()
    for k, T in enumerate(make_path()):
        pose = {"orientation": T[:3, :3].tolist(), "position": T[:3, 3].tolist(), "focal_length": 800.0}
        (folder / f"{k:06d}.json").write_text(json.dumps(pose))


add_format_report("T102", "Nerfies: a JSON file an image", _write_json_folder, *KITTI, note="Nerfies", file="camera")
add_format_report("T100", "OptiTrack Motive: csv of a rigid body", _write_motion_capture, *TUM, note="qw are 3 to 6")
add_format_report("T57", "mcdviral 8: num t x y z qx qy qz qw", lambda p: _write_numbered_tum(p), *TUM)
add_format_report("T58", "evo 379: mocap0/data.csv of TUM-VI", lambda p: write_tum(
    p, make_path(), NANOSECONDS, w_first=True, separator=",",
    header="#timestamp [ns],p_RS_R_x [m],p_RS_R_y [m],p_RS_R_z [m],q_RS_w [],q_RS_x [],q_RS_y [],q_RS_z []"),
    *TUM)  # fmt: skip


def _write_numbered_tum(path: Path) -> None:
    write_tum(path, make_path())
    rows = path.read_text().splitlines()
    path.write_text("\n".join(["num t x y z qx qy qz qw", *(f"{k} {row}" for k, row in enumerate(rows))]))


@report("T59", "evo 331: whole seconds", "6 distinct times in 150 rows", "all digits")
def _whole_seconds(folder: Path, data: Path) -> Words:
    write_tum(folder / "ref.txt", make_path())
    write_tum(folder / "est.txt", make_estimate(), np.floor(START_S + np.arange(150) / 30))
    return score_path(folder)


@report("T60", "evo 260, 486: two paths in one file", "a timestamp that goes back", "sorted by time")
def _two_paths(folder: Path, data: Path) -> Words:
    write_tum(folder / "ref.txt", make_path())
    write_tum(folder / "est.txt", np.concatenate([make_estimate()] * 2), np.concatenate([TIMES_S] * 2))
    return score_path(folder)


@report("T61", "UrbanNavDataset 56: a reference of 1 Hz", "pass --max-difference 0.029")
def _sparse_reference(folder: Path, data: Path) -> Words:
    write_tum(folder / "ref.txt", make_path()[::20], TIMES_S[::20] + 0.019)
    write_tum(folder / "est.txt", make_estimate())
    return score_path(folder)


@report("T62", "IncEventGS 13: another world frame without alignment", "--align se3")
def _not_aligned(folder: Path, data: Path) -> Words:
    T_new_world = np.eye(4)
    T_new_world[:3, :3], T_new_world[:3, 3] = Rotation.from_rotvec([0.3, 1.0, 0.2]).as_matrix(), (5, 2, 1)
    write_tum(folder / "ref.txt", make_path())
    write_tum(folder / "est.txt", T_new_world @ make_estimate())
    return score_path(folder, "--align", "none")


@report("T63", "AirSLAM 165: --format euroc for TUM rows", "w of its quaternions last", "pass --format tum")
def _euroc_for_tum(folder: Path, data: Path) -> Words:
    write_tum(folder / "ref.txt", make_path())
    write_tum(folder / "est.txt", make_estimate())
    return score_path(folder, "--format", "euroc")


@report("T02", "evo: 1.305031e+18", "distinct times in 150 rows", "write times with all digits")
def _too_few_digits(folder: Path, data: Path) -> Words:
    write_tum(folder / "ref.txt", make_path())
    write_tum(folder / "est.txt", make_estimate(), ["1.403637e+18"] * 150)
    return score_path(folder, *TUM)


@report("T03", "evo: few poses match", "warning: only", "--max-difference 0.02")
def _few_matches(folder: Path, data: Path) -> Words:
    write_tum(folder / "ref.txt", make_path())
    write_tum(folder / "est.txt", make_estimate(), TIMES_S + np.where(np.arange(150) % 30, 0.0199, 0))
    return score_path(folder, *TUM)


@report("T03b", "evo: two poses match", "found 2 of 3 poses", "raise --max-difference")
def _two_matches(folder: Path, data: Path) -> Words:
    write_tum(folder / "ref.txt", make_path()[:3], [*TIMES_S[:2], TIMES_S[2] + 1000])
    write_tum(folder / "est.txt", make_estimate())
    return score_path(folder, *TUM, "--align", "sim3")


@report("T09", "ORB_SLAM3: quaternions of zeros", "length 0 in each of 150 rows", "tracking is lost")
def _zeros(folder: Path, data: Path) -> Words:
    write_tum(folder / "ref.txt", make_path())
    write_tum(folder / "est.txt", make_estimate(), scale=0.0)
    return score_path(folder, *TUM)


@report("T52", "ORB_SLAM3: a part is lost", "30 of 150 rows of est.txt have a quaternion of zeros", outcome="right")
def _some_zeros(folder: Path, data: Path) -> Words:
    write_tum(folder / "ref.txt", make_path())
    write_tum(folder / "est.txt", make_estimate())
    lines = (folder / "est.txt").read_text().splitlines()
    lines[60:90] = [" ".join([*line.split()[:4], "0", "0", "0", "0"]) for line in lines[60:90]]
    (folder / "est.txt").write_text("\n".join(lines))
    return score_path(folder)


def write_transforms(path: Path, T: Array) -> None:
    """Write a transforms.json of nerfstudio, whose frames are in no order."""
    frames = [
        {"file_path": f"images/frame_{k + 1:05d}.png", "transform_matrix": pose.tolist()}
        for k, pose in enumerate(turn_camera(OPENGL)(T))
    ]
    path.write_text(json.dumps({"fl_x": 700.0, "frames": frames[::-1]}))


@report("T27", "nerfstudio 2019: transforms.json", r"ATE 0\.003\d* m", "OpenGL", outcome="right")
def _transforms(folder: Path, data: Path) -> Words:
    write_kitti(folder / "ref.txt", make_path())
    write_transforms(folder / "transforms.json", make_estimate())
    return score_path(folder, estimate="transforms.json")


@report("T53", "colmap: images.txt", r"ATE 0\.003\d* m", "inverted", outcome="right")
def _colmap_images(folder: Path, data: Path) -> Words:
    write_kitti(folder / "ref.txt", make_path())
    T = np.linalg.inv(make_estimate())
    q = np.roll(Rotation.from_matrix(T[:, :3, :3]).as_quat(), 1, axis=1)
    lines = ["# Image list with two lines of data per image:"]
    for k in range(len(T)):
        numbers = " ".join(f"{value:.8f}" for value in (*q[k], *T[k, :3, 3]))
        lines += [f"{k + 1} {numbers} 1 frame{k:04d}.jpg", "1.0 2.0 -1"]
    (folder / "images.txt").write_text("\n".join(lines))
    return score_path(folder, estimate="images.txt")


@report("T54", "colmap: images.bin", "model_converter")
def _colmap_binary(folder: Path, data: Path) -> Words:
    write_kitti(folder / "ref.txt", make_path())
    (folder / "images.bin").write_bytes(b"\0" * 64)
    return score_path(folder, estimate="images.bin")


@report("T55", "evo: rows without times", "read as x y z qx qy qz qw", outcome="right")
def _no_times(folder: Path, data: Path) -> Words:
    write_tum(folder / "ref.txt", make_path())
    text = (folder / "ref.txt").read_text().splitlines()
    (folder / "est.txt").write_text("\n".join(line.partition(" ")[2] for line in text))
    return score_path(folder, *TUM)


@report("T56", "a correct path has no hypothesis", r"ATE 0\.003\d* m", outcome="right", damaging="Fix:")
def _correct_path(folder: Path, data: Path) -> Words:
    write_tum(folder / "ref.txt", make_path())
    write_tum(folder / "est.txt", make_estimate())
    return score_path(folder)


# -- Depth files: scenes of 60x100 pixels in which near and far lie beside each other.


def make_depth(seed: int, near: float = 1.0, far: float = 12.0) -> Array:
    """Return (60, 100) metres of smooth surfaces."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(np.log(near), np.log(far), (6, 10))
    return np.exp(cv2.resize(coarse, (100, 60), interpolation=cv2.INTER_LINEAR))


def write_depth(folder: Path, name: str, depth: Array, factor: float | None, suffix: str = ".png") -> None:
    """Write one map: integers of `factor` a metre, or floats where it is None."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}{suffix}"
    if factor is not None:
        cv2.imwrite(str(path), np.clip(np.rint(depth * factor), 0, 65535).astype(np.uint16))
    elif suffix == ".npy":
        np.save(path, depth.astype(np.float32))
    elif suffix == ".npz":
        np.savez(path, depth=depth.astype(np.float32))
    else:
        cv2.imwrite(str(path), depth.astype(np.float32))


def add_depth_report(
    name: str,
    source: str,
    *expected: str,
    truth: float | None = 256.0,
    predicted: float | None = 256.0,
    suffix: str = ".png",
    change: Callable[[Array], Array] = lambda depth: depth,
    change_truth: Callable[[Array], Array] = lambda depth: depth,
    options: Words = (),
    outcome: str = "cure",
    damaging: str = "",
) -> None:
    """Add a report of four predicted maps, with a network's error of 5 %, and their ground truth."""

    def make(folder: Path, data: Path) -> Words:
        for k in range(4):
            depth = make_depth(k)
            error = 1.03 * np.exp(np.random.default_rng(k + 9).normal(0, 0.04, depth.shape))
            truth_suffix = ".png" if truth is not None else ".npy"
            write_depth(folder / "truth", f"{k:06d}", change_truth(depth), truth, truth_suffix)
            write_depth(folder / "pred", f"{k:06d}", change(depth * error), predicted, suffix)
        return "evaluate", "--depth", folder / "pred", "--reference", folder / "truth", *options

    REPORTS.append(Report(name, source, make, expected, outcome, damaging))


GOOD = r"d1 +0\.99|d1 +1"
add_depth_report("D01", "void-dataset 3", "a wrong unit", "--reference-factor 1000", truth=1000.0)
add_depth_report("D02", "void-dataset 3", "a wrong unit", "--depth-factor 1000", predicted=1000.0)
add_depth_report("D10", "sc_depth_pl 36", GOOD, "value / 5000 m", truth=5000.0, predicted=5000.0,
                 options=("--depth-factor", 5000), outcome="right")  # fmt: skip
add_depth_report("D20", "Replica 6553.5", GOOD, "value / 6553.5 m", truth=6553.5,
                 options=("--depth-factor", 256, "--reference-factor", 6553.5), outcome="right")  # fmt: skip
add_depth_report("D21", "rgbd TUM truth against KITTI's PNG", "--reference-factor 5000", truth=5000.0)
add_depth_report("D32", "DeepCompletionRelease 9: value / 4000", "--reference-factor 4000", truth=4000.0)
add_depth_report("D33", "deepvoxels 5: value / 10000", GOOD, truth=5000.0, predicted=10000.0,
                 options=("--depth-factor", 10000, "--reference-factor", 5000), outcome="right",
                 change=lambda d: np.minimum(d, 6.5), change_truth=lambda d: np.minimum(d, 6.5))  # fmt: skip
add_depth_report("D34", "map-free-reloc 20: millimetres by PIL", "--depth-factor 1000", predicted=1000.0)
add_depth_report("D14", "monodepth2 444", "--protocol relative", "right up to one scale", predicted=None,
                 suffix=".npy", change=lambda depth: depth / 28.2)  # fmt: skip
add_depth_report("D22", "Depth-Anything: millimetres in .npy", "millimetres", predicted=None, suffix=".npy",
                 change=lambda depth: 1000 * depth)  # fmt: skip
add_depth_report("D08b", "BoostingMonocularDepth 47", "up to scale and shift", "reread so.*Fix", predicted=1.0,
                 change=lambda d: 65535 * (1 / d - (1 / d).min()) / np.ptp(1 / d))  # fmt: skip
add_depth_report("D23", "MiDaS: inverse depth scored as depth", "inverse depth", "affine-inverse",
                 predicted=None, suffix=".npy", change=lambda depth: 20 / depth)  # fmt: skip
add_depth_report("D24", "CARLA: distance along the ray", "along the ray", "Fix", predicted=None, suffix=".npy",
                 change=lambda depth: depth * _ray_stretch(depth.shape))  # fmt: skip
for _name, _suffix in (("D04", ".tiff"), ("D25", ".pfm"), ("D26", ".npz"), ("D27", ".npy")):
    add_depth_report(_name, f"maps of floats as {_suffix}", GOOD, predicted=None, suffix=_suffix, outcome="right")
add_depth_report("D28", "integers of TIFF in millimetres", GOOD, predicted=1000.0, suffix=".tiff",
                 options=("--depth-factor", 1000, "--reference-factor", 256), outcome="right")  # fmt: skip
add_depth_report("D29", "NaN in ground truth", GOOD, "NaN, infinite or negative", truth=None, outcome="right",
                 change_truth=lambda d: np.where(d < 2, np.nan, d))  # fmt: skip
add_depth_report("D30", "65535 for no depth", GOOD, truth=1000.0, outcome="right",
                 options=("--depth-factor", 256, "--reference-factor", 1000),
                 change_truth=lambda d: np.where(d < 2, 99, d))  # fmt: skip
add_depth_report("D31", "correct maps have no hypothesis", GOOD, outcome="right", damaging="wrong unit|Fix:")


def _ray_stretch(shape: tuple[int, ...]) -> Array:
    v, u = np.mgrid[: shape[0], : shape[1]]
    return np.sqrt(1 + ((u - shape[1] / 2) ** 2 + (v - shape[0] / 2) ** 2) / (0.7 * shape[1]) ** 2)


@report("D05", "OpenEXR of Blender", r"d1 +(0\.99|1)|pip install 'stadia\[exr\]'", outcome="right")
def _exr(folder: Path, data: Path) -> Words:
    for k in range(4):
        write_depth(folder / "truth", f"{k}", make_depth(k), 256)
        (folder / "pred").mkdir(exist_ok=True)
        path = folder / "pred" / f"{k}.exr"
        try:
            import OpenEXR
        except ImportError:
            path.write_bytes(b"v/1\x01")
        else:
            channels = {"Z": make_depth(k).astype(np.float32)}
            OpenEXR.File({"type": OpenEXR.scanlineimage}, channels).write(str(path))
    return "evaluate", "--depth", folder / "pred", "--reference", folder / "truth"


def write_stack_reports(folder: Path, maps: Array, *options: object, name: str = "pred.npy") -> Words:
    """Write six maps of ground truth as PNG, whose names are not padded, and the predictions as one file."""
    for k in range(6):
        write_depth(folder / "truth", f"frame{k + 7}", make_depth(k), 256)
    if name.endswith(".npz"):
        np.savez_compressed(folder / name, disp=maps)
    else:
        np.save(folder / name, maps)
    return "evaluate", "--depth", folder / name, "--reference", folder / "truth", *options


def make_stack() -> Array:
    """Return (6, 60, 100) metres."""
    return np.stack([make_depth(k) for k in range(6)])


@report("D17", "monodepth2 444, 228: one stacked .npy", GOOD, "map 5 to frame12", outcome="right")
def _stack(folder: Path, data: Path) -> Words:
    return write_stack_reports(folder, make_stack().astype(np.float32))


@report("D35", "a stack in a compressed .npz, float16", r"rmse +0\.0", "map 0 to frame7", outcome="right")
def _compressed_stack(folder: Path, data: Path) -> Words:
    return write_stack_reports(folder, make_stack().astype(np.float16), name="pred.npz")


@report("D36", "a stack of integers in millimetres", GOOD, "value / 1000 m", outcome="right")
def _integer_stack(folder: Path, data: Path) -> Words:
    maps = np.rint(1000 * make_stack()).astype(np.uint16)[:, None]
    return write_stack_reports(folder, maps, "--depth-factor", 1000, "--reference-factor", 256)


@report("D37", "NYU labeled .mat: (H, W, N)", "maps of shape", r"moveaxis\(maps, -1, 0\)")
def _last_axis(folder: Path, data: Path) -> Words:
    return write_stack_reports(folder, np.ascontiguousarray(np.moveaxis(make_stack(), 0, -1)))


@report("D38", "a stack of other images", "5 maps", "expected 6 maps", "in the order of their names")
def _short_stack(folder: Path, data: Path) -> Words:
    return write_stack_reports(folder, make_stack()[:5])


# -- Cameras.


def write_images(folder: Path, count: int = 3, height: int = 192, width: int = 640) -> Path:
    """Write a few images of noise."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    for k in range(count):
        image = cv2.resize(rng.integers(0, 255, (12, 40, 3)).astype(np.uint8), (width, height))
        cv2.imwrite(str(folder / f"{k:04d}.png"), image)
    return folder


CALIBRATIONS = {
    "colmap: cameras.txt": ("cameras.txt", "# Camera list\n1 OPENCV 640 192 371.8 369.4 314 88.5 -0.1 0.02 0 0\n"),
    "colmap: SIMPLE_RADIAL": ("cameras.txt", "1 SIMPLE_RADIAL 640 192 371.8 314 88.5 -0.1\n"),
    "nerfstudio: transforms.json": (
        "transforms.json",
        '{"fl_x": 371.8, "fl_y": 369.4, "cx": 314, "cy": 88.5, "w": 640, "h": 192, "frames": []}',
    ),
    "nerf: camera_angle_x": ("transforms.json", '{"camera_angle_x": 1.422, "w": 640, "h": 192, "frames": []}'),
    "ORB_SLAM2": (
        "orb.yaml",
        "%YAML:1.0\nCamera.fx: 371.8\nCamera.fy: 369.4\nCamera.cx: 314.0\nCamera.cy: 88.5\nCamera.k1: 0.0\n",
    ),
    "ORB_SLAM3: Camera1": (
        "orb3.yaml",
        "%YAML:1.0\nCamera1.fx: 371.8\nCamera1.fy: 369.4\nCamera1.cx: 314.0\nCamera1.cy: 88.5\nCamera.width: 640\n"
        "Camera.height: 192\n",
    ),
    "VINS-Mono": (
        "vins.yaml",
        "%YAML:1.0\nmodel_type: PINHOLE\ncamera_name: camera\nimage_width: 640\nimage_height: 192\n"
        "distortion_parameters:\n   k1: -0.1\n   k2: 0.0\n   p1: 0.0\n   p2: 0.0\n"
        "projection_parameters:\n   fx: 371.8\n   fy: 369.4\n   cx: 314.0\n   cy: 88.5\n",
    ),
    "kalibr: camchain": (
        "camchain.yaml",
        "cam0:\n  camera_model: pinhole\n  intrinsics: [371.8, 369.4, 314.0, 88.5]\n  distortion_model: radtan\n"
        "  distortion_coeffs: [0, 0, 0, 0]\n  resolution: [640, 192]\n",
    ),
    "ros image_pipeline: camera_info": (
        "ost.yaml",
        "image_width: 640\nimage_height: 192\ncamera_matrix:\n  rows: 3\n  cols: 3\n"
        "  data: [371.8, 0, 314.0, 0, 369.4, 88.5, 0, 0, 1]\n",
    ),
    "opencv: FileStorage": (
        "calib.xml",
        "<?xml version='1.0'?><opencv_storage><camera_matrix type_id='opencv-matrix'><rows>3</rows><cols>3</cols>"
        "<dt>d</dt><data>371.8 0 314 0 369.4 88.5 0 0 1</data></camera_matrix></opencv_storage>",
    ),
    "a K with a comment": ("K.txt", "# intrinsics\n371.8 0 314\n0 369.4 88.5\n0 0 1\n"),
}


def _add_calibration(number: int, source: str, file: str, text: str) -> None:
    def make(folder: Path, data: Path) -> Words:
        (folder / file).write_text(text)
        return "camera", write_images(folder / "imgs"), "--calibration", folder / file

    REPORTS.append(
        Report(f"C10.{number}", source, make, (r"field of view 8[01]\.\d x \d+",), "right", "which no pinhole")
    )


for _number, (_source, (_file, _text)) in enumerate(CALIBRATIONS.items()):
    _add_calibration(_number, _source, _file, _text)


def _add_K(name: str, source: str, K: str, *expected: str, height: int = 480) -> None:
    def make(folder: Path, data: Path) -> Words:
        (folder / "K_of_lens.txt").write_text(K)
        imgs = write_images(folder / "imgs", height=height)
        return "camera", imgs, "--calibration", folder / "K_of_lens.txt"

    REPORTS.append(Report(name, source, make, expected))


_add_K("C01", "colmap 18 mm", "18 0 320\n0 18 240\n0 0 1\n", "field of view of 173.6", "--focal-mm")
_add_K("C11", "fy/fx 1.34", "500 0 320\n0 670 240\n0 0 1\n", "fy is 1.34 times fx", "Fix")
_add_K("C12", "cx and cy swapped", "500 0 240\n0 500 320\n0 0 1\n", "swap cx and cy")
_add_K("C13", "a normalized K", "0.58 0 0.5\n0 1.92 0.5\n0 0 1\n", "normalized|multiply by the image's width")
_add_K("C16", "pixelsplat 58, manydepth 49: K over width and height", "0.9 0 0.5\n0 1.2 0.5\n0 0 1\n",
       "normalized|multiply by the image's width")  # fmt: skip
_add_K("C17", "VSLAM-LAB 99: K of 1440x1080", "1050 0 720\n0 1050 540\n0 0 1\n", "images of about 1440x1080", "Fix")
_add_K("C14", "K of images of 1242x375", "721 0 609\n0 721 172\n0 0 1\n", "principal point|larger images", height=192)


@report("C15", "18 px by --focal-px", "field of view of 173.6", "--focal-mm")
def _focal_px(folder: Path, data: Path) -> Words:
    return "camera", write_images(folder / "imgs"), "--focal-px", 18


# -- Images.


FOV = "data.camera.horizontal_fov_deg=81"


def copy_frames(data: Path, folder: Path, count: int = 30, suffix: str = ".png") -> list[Path]:
    """Copy the left images of KITTI into a folder, half as large."""
    folder.mkdir(exist_ok=True)
    written = []
    for k in range(count):
        image = cv2.imread(str(data / f"kitti_odometry/sequences/06/image_0/{k:06d}.png"))
        written.append(folder / f"{k:06d}{suffix}")
        cv2.imwrite(str(written[-1]), cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))
    return written


@report("F08", "OpenNeuro 2520", "read: 30 frames", outcome="right", damaging="copy or extract", needs="kitti_odometry")
def _hidden(folder: Path, data: Path) -> Words:
    copy_frames(data, folder / "imgs")
    for name in ("._000001.png", ".DS_Store", "Thumbs.db", "._000002.png"):
        (folder / "imgs" / name).write_bytes(b"\0\5\x16\7")
    return "check", folder / "imgs", FOV


@report("K03b", "monodepth2 README", "two suffixes|one file for each frame", r"keep \.png", needs="kitti_odometry")
def _two_suffixes(folder: Path, data: Path) -> Words:
    copy_frames(data, folder / "imgs")
    copy_frames(data, folder / "imgs", suffix=".jpg")
    return "check", folder / "imgs", FOV


@report("F15b", "NOCS-like folders", "looks like depth", "to another folder", damaging="brightness",
        needs="kitti_odometry")  # fmt: skip
def _mixed(folder: Path, data: Path) -> Words:
    for k, path in enumerate(copy_frames(data, folder / "imgs", 12)):
        path.rename(path.with_name(f"{k:04d}_color.png"))
        write_depth(folder / "imgs", f"{k:04d}_depth", make_depth(k), 1000)
    return "check", folder / "imgs", FOV


@report("F10b", "PyNET 6", "12-bit", r"multiply the values by 16", needs="kitti_odometry")
def _twelve_bits(folder: Path, data: Path) -> Words:
    for path in copy_frames(data, folder / "imgs"):
        image = cv2.imread(str(path)).astype(np.uint16)
        cv2.imwrite(str(path), image * 16)
    return "check", folder / "imgs", FOV


@report("V11", "59 of 60 frames without motion", "59 without motion")
def _standing(folder: Path, data: Path) -> Words:
    writer = cv2.VideoWriter(str(folder / "clip.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 20, (320, 96))
    image = cv2.imread(str(write_images(folder / "imgs", 1, 96, 320) / "0000.png"))
    for _ in range(60):
        writer.write(image)
    writer.release()
    return "check", folder / "clip.mp4", FOV


# -- Streams: stereo of KITTI, written in the stadia layout.


def write_stereo(
    folder: Path, data: Path, *, right: Sequence[int] | None = None, poses: Array | None = None,
    baseline: float = 0.5372, turn: bool = False, count: int = 30,
) -> Path:  # fmt: skip
    """Write stereo pairs: `right` is the number of each right image."""
    drive = data / "kitti_odometry/sequences/06"
    for side, camera, numbers in (("left", "image_0", range(count)), ("right", "image_1", right or range(count))):
        (folder / side).mkdir(parents=True)
        for k, number in enumerate(list(numbers)[:count]):
            image = cv2.imread(str(drive / camera / f"{number:06d}.png"))
            image = np.ascontiguousarray(image[::-1, ::-1]) if turn else image
            cv2.imwrite(str(folder / side / f"{k:06d}.png"), image)
    K = [[707.0912, 0, 601.8873], [0, 707.0912, 183.1104], [0, 0, 1]]
    camera = {"K": K, "height": 370, "width": 1226}
    T = np.eye(4)
    T[0, 3] = -baseline
    described = {"cameras": {"left": camera, "right": camera}, "T_right_left": T.tolist(), "frame_rate_hz": 10}
    (folder / "recording.json").write_text(json.dumps(described))
    if poses is not None:
        write_kitti(folder / "poses.txt", poses[:count])
    return folder


def read_kitti_poses(data: Path) -> Array:
    """Return (51, 4, 4) of KITTI odometry 06."""
    T = np.tile(np.eye(4), (51, 1, 1))
    T[:, :3] = np.loadtxt(data / "kitti_odometry/poses/06.txt")[:51].reshape(-1, 3, 4)
    return T


@report("R04b", "depthai-ros 421", "not synchronized", "from frame 1[0-9] on", needs="kitti_odometry")
def _lost_frame(folder: Path, data: Path) -> Words:
    return "check", write_stereo(folder / "d", data, right=[k + (k >= 15) for k in range(30)])


@report("R06d", "depthai-ros 421, with poses", "not synchronized", "from frame 1[0-9] on", needs="kitti_odometry")
def _lost_frame_with_poses(folder: Path, data: Path) -> Words:
    right = [k + (k >= 12) for k in range(24)]
    return "check", write_stereo(folder / "d", data, right=right, poses=read_kitti_poses(data), count=24)


@report(
    "R10", "a right camera that is one frame late throughout", "not synchronized", "1 frame", needs="kitti_odometry"
)
def _late(folder: Path, data: Path) -> Words:
    return "check", write_stereo(folder / "d", data, right=range(1, 31))


@report("R11", "correct stereo with poses", "good: nothing to fix", outcome="right", needs="kitti_odometry")
def _correct_stereo(folder: Path, data: Path) -> Words:
    return "check", write_stereo(folder / "d", data, poses=read_kitti_poses(data), count=24)


@report("R12", "a rig mounted upside down", "turned by 180 degrees", damaging="flip all images horizontally;",
        needs="kitti_odometry")  # fmt: skip
def _turned(folder: Path, data: Path) -> Words:
    return "check", write_stereo(folder / "d", data, poses=read_kitti_poses(data), turn=True, count=40)


@report("R13", "poses in reverse order", "reverse order", damaging="frames? (late|early)", needs="kitti_odometry")
def _reversed_poses(folder: Path, data: Path) -> Words:
    return "check", write_stereo(folder / "d", data, poses=read_kitti_poses(data)[:40][::-1].copy(), count=40)


@report("R14", "P3 alone: a baseline 12 % too short", "Baseline has the wrong length", needs="kitti_odometry")
def _short_baseline(folder: Path, data: Path) -> Words:
    poses = read_kitti_poses(data)
    return "check", write_stereo(folder / "d", data, poses=poses, baseline=0.88 * 0.5372, count=40)


@report("S01", "monodepth2 235, 314", "review:", "E03", damaging="certain|stop:", needs="kitti_odometry")
def _endoscope(folder: Path, data: Path) -> Words:
    return "check", write_stereo(folder / "d", data, baseline=0.0049, count=12)


@report("S02", "monodepth2 235: --baseline 4.9", "millimetres", r"0\.0049 m", needs="kitti_odometry")
def _millimetre_baseline(folder: Path, data: Path) -> Words:
    return "check", write_stereo(folder / "d", data, baseline=4.9)


@report("E02", "depthai-ros 421: microseconds apart", "read: 60 frames", outcome="right", needs="euroc")
def _microseconds(folder: Path, data: Path) -> Words:
    return "check", shift_euroc(folder, data, 7000)


@report("E02b", "half of the right images", "30 left images without a right one", outcome="right", needs="euroc")
def _half(folder: Path, data: Path) -> Words:
    return "check", shift_euroc(folder, data, 7000, step=2)


def shift_euroc(folder: Path, data: Path, shift_ns: int, step: int = 1) -> Path:
    """Copy EuRoC with later times of the right camera."""
    target = folder / "V1"
    shutil.copytree(data / "euroc/V1_01_easy", target)
    camera = target / "mav0/cam1"
    rows = (camera / "data.csv").read_text().splitlines()
    names = [row.split(",")[1].strip() for row in rows[1:] if row.strip()]
    lines = [rows[0]]
    for k, name in enumerate(names):
        if k % step:
            (camera / "data" / name).unlink()
            continue
        stamp = int(Path(name).stem) + shift_ns
        (camera / "data" / name).rename(camera / "data" / f"{stamp}.png")
        lines.append(f"{stamp},{stamp}.png")
    (camera / "data.csv").write_text("\n".join(lines) + "\n")
    return target


# -- Poses and depth: 7-Scenes.


def write_scenes(
    folder: Path, data: Path, change: Callable[[Array], Array] = lambda depth: depth, count: int = 24,
    suffix: str = ".npy", which: Callable[[int], bool] = lambda k: True, poses: bool = True,
) -> Path:  # fmt: skip
    """Write frames of 7-Scenes in the stadia layout with changed depth, metres with 0 for none."""
    source = data / "sevenscenes/kitchen/seq-01"
    for part in ("left", "depth/left"):
        (folder / part).mkdir(parents=True)
    rows = []
    for k in range(count):
        stem = f"frame-{3 * k:06d}"
        shutil.copyfile(source / f"{stem}.color.jpg", folder / f"left/{k:06d}.jpg")
        rows.append(np.loadtxt(source / f"{stem}.pose.txt")[:3].ravel())
        stored = cv2.imread(str(source / f"{stem}.depth.png"), cv2.IMREAD_UNCHANGED)
        depth = np.where((stored == 0) | (stored == 65535), 0, stored / 1000.0)
        known = depth > 0
        changed = np.zeros_like(depth)
        changed[known] = change(depth[known])
        if which(k):
            if suffix == ".png256":
                write_depth(folder / "depth/left", f"{k:06d}", changed, 256)
            elif suffix == ".npy":
                np.save(folder / f"depth/left/{k:06d}.npy", changed.astype(np.float32))
            else:
                cv2.imwrite(str(folder / f"depth/left/{k:06d}{suffix}"), changed.astype(np.float32))
    if poses:
        np.savetxt(folder / "poses.txt", np.array(rows))
    camera = {"K": [[585, 0, 320], [0, 585, 240], [0, 0, 1]], "height": 480, "width": 640}
    (folder / "recording.json").write_text(json.dumps({"cameras": {"left": camera}}))
    return folder


@report("L03c", "InfiniTAM 30", "inverse depth", damaging="T_world_poses|E07|good:", needs="sevenscenes")
def _inverse_depth(folder: Path, data: Path) -> Words:
    return "check", write_scenes(folder / "d", data, lambda depth: 1 / depth)


@report("L01b", "void-dataset 3", "millimetres were read as KITTI", damaging="E08", needs="sevenscenes")
def _depth_unit(folder: Path, data: Path) -> Words:
    return "check", write_scenes(folder / "d", data, lambda depth: depth * 1000 / 256)


@report("L01c", "void-dataset 3, the reverse", "was read as millimetres", damaging="E08", needs="sevenscenes")
def _depth_unit_reverse(folder: Path, data: Path) -> Words:
    return "check", write_scenes(folder / "d", data, lambda depth: depth * 0.256)


@report("L00", "void-dataset 3: correct near depth", "good", outcome="right", damaging="D08", needs="sevenscenes")
def _near_depth(folder: Path, data: Path) -> Words:
    return "check", write_scenes(folder / "d", data, lambda depth: np.clip(depth, 0.6, 1.5), suffix=".png256",
                                 poses=False)  # fmt: skip


@report("L00b", "correct depth with poses", "good", outcome="right", damaging="D0[678]|E0[678]", needs="sevenscenes")
def _correct_depth(folder: Path, data: Path) -> Words:
    return "check", write_scenes(folder / "d", data)


@report("L08", "depth as .tiff", "depth as .tiff", "convert each file to metres", needs="sevenscenes")
def _tiff_depth(folder: Path, data: Path) -> Words:
    return "check", write_scenes(folder / "d", data, suffix=".tiff")


@report("K05", "depth that lacks the first frames", "ground truth of 19 of 24 frames", outcome="right",
        needs="sevenscenes")  # fmt: skip
def _late_depth(folder: Path, data: Path) -> Words:
    return "check", write_scenes(folder / "d", data, which=lambda k: k >= 5)


# -- Object poses: Linemod-Occluded, estimates that are right but for the convention.


def write_results(path: Path, data: Path, change: Callable[[Array, Array], tuple[Array, Array]]) -> None:
    """Write the true poses of LM-O as a BOP csv, with R and t (mm) changed."""
    scene = data / "bop/lmo/test/000002"
    lines = ["scene_id,im_id,obj_id,score,R,t,time"]
    for image, poses in json.loads((scene / "scene_gt.json").read_text()).items():
        for pose in poses:
            R, t = change(np.array(pose["cam_R_m2c"]).reshape(3, 3), np.array(pose["cam_t_m2c"]))
            numbers = (" ".join(f"{v:.6f}" for v in values.ravel()) for values in (R, t))
            lines.append(f"2,{image},{pose['obj_id']},0.9,{','.join(numbers)},0.5")
    path.write_text("\n".join(lines) + "\n")


def _add_objects(
    name: str, source: str, change: Callable[[Array, Array], tuple[Array, Array]], *expected: str, outcome: str = "cure"
) -> None:
    def make(folder: Path, data: Path) -> Words:
        write_results(folder / "est.csv", data, change)
        return "evaluate", "--objects", folder / "est.csv", "--reference", data / "bop/lmo", "--split", "test"

    REPORTS.append(Report(name, source, make, expected, outcome, "internal error", "bop"))


_add_objects("B00", "correct poses", lambda R, t: (R, t), r"add_recall +1", outcome="right")
_add_objects("B03", "CASS 3", lambda R, t: (R.T, t), "R by columns", "instead of 0")
_add_objects("B04", "bop_toolkit: camera-to-model", lambda R, t: (R.T, -R.T @ t), "invert each pose")
_add_objects("B05", "bop_toolkit: metres for millimetres", lambda R, t: (R, t / 1000), "multiply t by 1000")
_add_objects("B06", "NOCS: the scale in the rotation", lambda R, t: (0.3 * R, t), "a rotation times 0.3", "divide")
_add_objects("B07", "axes of OpenGL", lambda R, t: (OPENGL @ R, OPENGL @ t), "OpenGL", "from the left")


@report("N05", "bop_toolkit: meshes missing", "models", "NAME_models.zip", needs="bop")
def _no_meshes(folder: Path, data: Path) -> Words:
    shutil.copytree(data / "bop/lmo", folder / "lmo", ignore=shutil.ignore_patterns("models*"))
    write_results(folder / "est.csv", data, lambda R, t: (R, t))
    return "evaluate", "--objects", folder / "est.csv", "--reference", folder / "lmo", "--split", "test"


# -- Trajectories of further threads.


add_path_report(
    "T64",
    "evo 391, 551: rotation errors of 169 degrees",
    turn_camera(Rotation.from_rotvec(np.radians(169) * np.array([0.48, 0.6, 0.64])).as_matrix()),
    "constant rotation of 169 degrees",
    "Fix",
    tum=True,
)
add_path_report(
    "T72", "SVIn 26: a header of qx qy qz qw over rows with w first", reorder, "w of its quaternions first", tum=True
)
add_path_report(
    "T73",
    "VINS-RGBD 16: quaternions (-q2, q1, -q4, q3) of a motion capture",
    turn_camera(np.diag([-1.0, 1, -1])),
    "constant rotation of 180 degrees|axes",
    "Fix",
    tum=True,
)
add_path_report(
    "T78",
    "evo 503, KITTI_odometry_evaluation_tool 9: a LiDAR's world and axes",
    lambda T: np.linalg.inv(as_pose(BODY)) @ T @ as_pose(BODY),
    "LiDAR or a body",
    "Fix",
)
add_path_report(
    "T79",
    "Depth-VO-Feat 7, SfMLearner 58, monodepth2 33: poses from frame to frame",
    lambda T: np.concatenate([np.eye(4)[None], np.linalg.inv(T[:-1]) @ T[1:]]),
    "from frame to frame",
    "multiply",
)
add_path_report(
    "T79b",
    "SfMLearner 16: the inverse motions from frame to frame",
    lambda T: np.concatenate([np.eye(4)[None], np.linalg.inv(T[1:]) @ T[:-1]]),
    "from frame to frame",
    "multiply",
)
add_path_report(
    "T82",
    "VINS-RGBD 16, ORB_SLAM2 499: positions and rotations of two world frames",
    lambda T: set_position(T, T[:, :3, 3] @ Rotation.from_rotvec([0.4, 1.1, -0.5]).as_matrix()),
    "two world frames",
    "Fix",
)
add_path_report(
    "T75",
    "kalibr 751: inverse rotations with w first",
    lambda T: reorder(conjugate(T)),
    "transposed rotations|first",
    "off by",
    tum=True,
)


def as_pose(R: Array) -> Array:
    """Return a rotation as (4, 4)."""
    X = np.eye(4)
    X[:3, :3] = R
    return X


def conjugate(T: Array) -> Array:
    """Return poses with transposed rotations."""
    changed = T.copy()
    changed[:, :3, :3] = np.swapaxes(T[:, :3, :3], 1, 2)
    return changed


def roll_quaternions(T: Array, steps: int) -> Array:
    """Return poses whose quaternions were written in another order, as rows with w last hold them."""
    changed = T.copy()
    q = np.roll(Rotation.from_matrix(T[:, :3, :3]).as_quat(), steps, axis=1)
    changed[:, :3, :3] = Rotation.from_quat(q).as_matrix()
    return changed


add_path_report(
    "T86",
    "DPVO 57: quaternions as qy qz qw qx",
    lambda T: roll_quaternions(T, -1),
    "quaternions as qy qz qw qx",
    "Fix",
    tum=True,
)


@report("T74", "open_vins 100: ground truth with JPL quaternions", "ref.txt has transposed rotations", "transpose")
def _jpl_reference(folder: Path, data: Path) -> Words:
    write_tum(folder / "ref.txt", conjugate(make_path()))
    write_tum(folder / "est.txt", make_estimate())
    return score_path(folder)


@report("T65", "evo 470: EuRoC's csv on both sides", r"ATE 0\.003\d* m", "nanoseconds", outcome="right")
def _two_csv(folder: Path, data: Path) -> Words:
    for name, T in (("ref.txt", make_path()), ("est.txt", make_estimate())):
        write_tum(folder / name, T, NANOSECONDS, w_first=True, separator=",", header=EUROC_HEADER, end=",0")
    return score_path(folder)


@report("T66", "evo 265: the estimate stops midway", r"spans 2\.95 of 7\.45 s")
def _stops(folder: Path, data: Path) -> Words:
    write_tum(folder / "ref.txt", make_path())
    write_tum(folder / "est.txt", make_estimate()[:60])
    return score_path(folder)


@report("T67", "evo 152, 188, 204: keyframes as rows of KITTI", "15", "150", "frame number|time")
def _key_frames(folder: Path, data: Path) -> Words:
    write_kitti(folder / "ref.txt", make_path())
    write_kitti(folder / "est.txt", make_estimate()[::10])
    return score_path(folder)


@report("T68", "evo 218: rows without tz", "7 columns", "position|coordinate", damaging="read as x y z")
def _no_tz(folder: Path, data: Path) -> Words:
    write_tum(folder / "ref.txt", make_path())
    write_tum(folder / "est.txt", make_estimate())
    lines = [line.split() for line in (folder / "est.txt").read_text().splitlines()]
    (folder / "est.txt").write_text("\n".join(" ".join([*words[:3], *words[4:]]) for words in lines))
    return score_path(folder)


@report(
    "T69", "rpg_trajectory_evaluation 43: number x y z roll pitch yaw", "7 columns", "Fix: write t x y z qx qy qz qw"
)
def _euler(folder: Path, data: Path) -> Words:
    T = make_estimate()
    angles = Rotation.from_matrix(T[:, :3, :3]).as_euler("xyz", degrees=True)
    rows = np.column_stack([np.arange(len(T)), T[:, :3, 3], angles])
    np.savetxt(folder / "est.txt", rows, fmt="%.6f")
    write_tum(folder / "ref.txt", make_path())
    return score_path(folder)


@report(
    "T71", "C3VD 3: 4x4 poses column by column, with commas", r"ATE 0\.003\d* m", "column by column", outcome="right"
)
def _columns(folder: Path, data: Path) -> Words:
    write_kitti(folder / "ref.txt", make_path())
    rows = np.swapaxes(make_estimate(), 1, 2).reshape(-1, 16)
    np.savetxt(folder / "est.txt", rows, fmt="%.9f", delimiter=",")
    return score_path(folder)


@report("T76", "evo 218, openvslam 244: tabs and a blank at the end of each row", r"ATE 0\.003\d* m", outcome="right")
def _tabs(folder: Path, data: Path) -> Words:
    write_tum(folder / "ref.txt", make_path())
    write_tum(folder / "est.txt", make_estimate(), separator="\t", end=" ")
    return score_path(folder)


@report("T77", "mad-icp 9: rows of KITTI that end in a blank, and blank lines", r"ATE 0\.003\d* m", outcome="right")
def _blank(folder: Path, data: Path) -> Words:
    write_kitti(folder / "ref.txt", make_path())
    write_kitti(folder / "est.txt", make_estimate())
    text = (folder / "est.txt").read_text()
    (folder / "est.txt").write_text(text.replace("\n", "  \r\n\r\n") + "\n\n")
    return score_path(folder)


@report("T80", "the-exceptional-trajectories 7: nine of R, then t", "order of the columns", "Fix")
def _rotation_first(folder: Path, data: Path) -> Words:
    write_kitti(folder / "ref.txt", make_path())
    T = make_estimate()
    np.savetxt(folder / "est.txt", np.hstack([T[:, :3, :3].reshape(-1, 9), T[:, :3, 3]]), fmt="%.9f")
    return score_path(folder)


@report("T83", "monodepth2 33: poses as an array (N, 4, 4)", "camera-to-world matrices are read", outcome="right")
def _pose_array(folder: Path, data: Path) -> Words:
    write_kitti(folder / "ref.txt", make_path())
    np.save(folder / "poses.npy", make_estimate())
    return score_path(folder, estimate="poses.npy")


ARIA_HEADER = (
    "graph_uid,tracking_timestamp_us,utc_timestamp_ns,tx_world_device,ty_world_device,tz_world_device,"
    "qx_world_device,qy_world_device,qz_world_device,qw_world_device,quality_score"
)


@report("T87", "projectaria_tools 7: closed_loop_trajectory.csv", r"ATE 0\.003\d* m", outcome="right")
def _aria(folder: Path, data: Path) -> Words:
    T = make_path()
    q = Rotation.from_matrix(T[:, :3, :3]).as_quat()
    rows = [
        f"5a6b,{round(1e6 * (time - START_S))},{round(1e9 * time)},"
        + ",".join(f"{value:.7f}" for value in (*pose[:3, 3], *turn))
        + ",1.0"
        for time, pose, turn in zip(TIMES_S, T, q, strict=True)
    ]
    (folder / "ref.csv").write_text("\n".join([ARIA_HEADER, *rows]))
    write_tum(folder / "est.txt", make_estimate(), TIMES_S - START_S)
    return score_path(folder, reference="ref.csv")


@report("T92", "ORB_SLAM3 970: rows of nan where there is no pose", "3 of 150 rows", "left out", outcome="right")
def _nan_rows(folder: Path, data: Path) -> Words:
    write_tum(folder / "ref.txt", make_path())
    write_tum(folder / "est.txt", make_estimate())
    lines = (folder / "est.txt").read_text().splitlines()
    lines[60:63] = [" ".join([line.split()[0], *["nan"] * 7]) for line in lines[60:63]]
    (folder / "est.txt").write_text("\n".join(lines))
    return score_path(folder)


@report(
    "T93", "evo 125, 152: keyframes of TUM against KITTI without times", "no times|without times", "times.txt|numbers?"
)
def _tum_against_kitti(folder: Path, data: Path) -> Words:
    write_kitti(folder / "ref.txt", make_path())
    write_tum(folder / "est.txt", make_estimate()[::10], TIMES_S[::10] - START_S)
    return score_path(folder)


@report("T94", "Depth-VO-Feat 7, monodepth2 33: one motion less than poses", "149", "expected 150", "multiply")
def _one_row_less(folder: Path, data: Path) -> Words:
    T = make_estimate()
    write_kitti(folder / "ref.txt", make_path())
    write_kitti(folder / "est.txt", np.linalg.inv(T[:-1]) @ T[1:])
    return score_path(folder)


# -- Depth files of further threads.


@report("D63", "zed-opencv 75: one map of another name", GOOD, outcome="right")
def _one_map(folder: Path, data: Path) -> Words:
    write_depth(folder, "depth_27", make_depth(0), 256)
    write_depth(folder, "predicted", make_depth(0), None, ".npy")
    return "evaluate", "--depth", folder / "predicted.npy", "--reference", folder / "depth_27.png"


add_depth_report(
    "D39",
    "point_odyssey 14: value / 65.535",
    "a wrong unit|right up to one scale",
    "--reference-factor 65.5",
    truth=65.535,
)
add_depth_report(
    "D39b",
    "point_odyssey 14, with its factor",
    r"d1 +0\.9|d1 +1",
    truth=65.535,
    outcome="right",
    options=("--depth-factor", 256, "--reference-factor", 65.535),
    damaging="wrong unit",
)
add_depth_report(
    "D40",
    "Synthetic2Realistic 22: centimetres, 65535 for the sky",
    "--reference-factor 100",
    truth=100.0,
    change_truth=lambda d: np.where(d > 11, 655.35, d),
)
add_depth_report(
    "D41", "bts 136: 80 m are 65535", "right up to one scale", r"--depth-factor 8\d\d", predicted=65535 / 80
)
add_depth_report(
    "D42",
    "bts 59: millimetres of NYU on both sides",
    GOOD,
    "value / 1000 m",
    truth=1000.0,
    predicted=1000.0,
    options=("--protocol", "nyu"),
    outcome="right",
    change=lambda d: np.minimum(d, 9.5),
    change_truth=lambda d: np.minimum(d, 9.5),
)
add_depth_report(
    "D43",
    "DPT 81: inverse depth of 1000 to 4000 in .pfm",
    "inverse depth",
    "affine-inverse",
    predicted=None,
    suffix=".pfm",
    change=lambda d: 4000 / d,
)
add_depth_report(
    "D45",
    "monodepth2 228: metres divided by 256",
    "divided by 256 once too often",
    predicted=None,
    suffix=".npy",
    change=lambda d: d / 256,
)
add_depth_report(
    "D46",
    "ml-hypersim 9: truth along the ray",
    "along the ray",
    "the ground truth",
    "Fix",
    truth=None,
    change_truth=lambda d: d * _ray_stretch(d.shape),
)
add_depth_report(
    "D47",
    "EasySynth 58: depth over the range of 50 m",
    "right up to one scale|divided",
    predicted=None,
    suffix=".tiff",
    change=lambda d: d / 50,
)
add_depth_report(
    "D48",
    "MatrixCity 24, UnrealImageCapture 13: centimetres",
    "centimetres taken as metres",
    predicted=None,
    suffix=".tiff",
    change=lambda d: 100 * d,
)
add_depth_report(
    "D49",
    "mvcSnP 4, BlenderProc 423: 1e10 for the background",
    GOOD,
    truth=None,
    outcome="right",
    change_truth=lambda d: np.where(d > 9, 1e10, d),
    damaging="Fix:|wrong unit",
)
add_depth_report(
    "D51",
    "cityscapesScripts 55, 91: (p - 1) / 256 px of disparity",
    "inverse depth",
    "affine-inverse",
    predicted=1.0,
    change=lambda d: 1 + 256 * 100 / d,
)
add_depth_report(
    "D52",
    "mtan 25: the truth is disparity",
    "or the ground truth is inverse depth",
    truth=None,
    change_truth=lambda d: 1 / d,
)
add_depth_report(
    "D53",
    "servcttk 5: millimetres times 256",
    GOOD,
    "value / 256000 m",
    truth=256000.0,
    predicted=256000.0,
    options=("--depth-factor", 256000),
    outcome="right",
    change=lambda d: d / 60,
    change_truth=lambda d: d / 60,
)
add_depth_report(
    "D55",
    "zed-opencv 75: NaN where there is no depth",
    "NaN at",
    "write 0",
    predicted=None,
    suffix=".npy",
    change=lambda d: np.where(d < 2, np.nan, d),
)
add_depth_report(
    "D62",
    "bullet3 692, pytorch3d 100: maps upside down",
    "upside down",
    "Fix|flip",
    predicted=None,
    suffix=".npy",
    change=lambda d: d[::-1],
)
add_depth_report(
    "D62b",
    "pytorch3d 78: mirrored maps",
    "mirrored",
    "Fix|flip",
    predicted=None,
    suffix=".npy",
    change=lambda d: d[:, ::-1],
)


@report("D44", "zed-opencv 75: 8 bits", "8-bit", "store depth")
def _eight_bits(folder: Path, data: Path) -> Words:
    write_depth(folder / "truth", "0", make_depth(0), 256)
    (folder / "pred").mkdir()
    cv2.imwrite(str(folder / "pred/0.png"), (20 * make_depth(0)).astype(np.uint8))
    return "evaluate", "--depth", folder / "pred", "--reference", folder / "truth"


@report("D57", "ml-hypersim 9: depth as .hdf5", "hdf5", "expected", "convert|write")
def _hdf5(folder: Path, data: Path) -> Words:
    write_depth(folder / "pred", "0", make_depth(0), 256)
    (folder / "truth").mkdir()
    for k in range(3):
        (folder / f"truth/frame.{k:04d}.depth_meters.hdf5").write_bytes(b"\x89HDF\r\n\x1a\n")
    return "evaluate", "--depth", folder / "pred", "--reference", folder / "truth"


def add_names_report(name: str, source: str, truth: str, predicted: str, *expected: str, suffix: str = ".png") -> None:
    """Add a report of maps whose names, formats of the number 10 k, differ: the numbers in them decide."""

    def make(folder: Path, data: Path) -> Words:
        for k in range(3):
            write_depth(folder / "truth", truth.format(10 * k), make_depth(k), 256, suffix)
            write_depth(folder / "pred", predicted.format(10 * k), make_depth(k), None, ".npy")
        return "evaluate", "--depth", folder / "pred", "--reference", folder / "truth"

    REPORTS.append(Report(name, source, make, (r"abs_rel 0?\.0", *expected), "right"))


add_names_report("D60", "ScanNet: 10.png against 000010.npy", "{}", "{:06d}", "000000 to 0")
add_names_report(
    "D64", "Virtual KITTI 2: depth_00010.png against rgb_00010", "depth_{:05d}", "rgb_{:05d}", "rgb_00000 to"
)
add_names_report("D65", "KITTI: ..._groundtruth_depth_0000000010.png", "2011_09_26_groundtruth_depth_{:010d}_02",
                 "2011_09_26_image_{:010d}_02", "0000000000_02 to")  # fmt: skip
add_names_report("D66", "3RScan: frame-000010.depth.pgm", "frame-{:06d}.depth", "frame-{:06d}", suffix=".pgm")


@report("D67", "colmap: NAME.jpg.geometric.bin of patch_match_stereo", "abs_rel 0 ", outcome="right")
def _colmap_maps(folder: Path, data: Path) -> Words:
    (folder / "truth").mkdir()
    for k in range(3):
        depth = make_depth(k).astype("<f4")
        head = f"{depth.shape[1]}&{depth.shape[0]}&1&".encode()
        (folder / f"truth/{k}.jpg.geometric.bin").write_bytes(head + depth.tobytes())
        write_depth(folder / "pred", f"{k}", make_depth(k), None, ".npy")
    return "evaluate", "--depth", folder / "pred", "--reference", folder / "truth"


@report("D68", "ETH3D: ground truth of floats, named .JPG", "floats of ETH3D", "fromfile")
def _floats_named_jpg(folder: Path, data: Path) -> Words:
    for name in ("truth", "pred"):
        write_depth(folder / name, "DSC_1", make_depth(0), None, ".npy")
    (folder / "truth/DSC_1.npy").unlink()
    (folder / "truth/DSC_1.JPG").write_bytes(make_depth(0).astype("<f4").tobytes())
    return "evaluate", "--depth", folder / "pred", "--reference", folder / "truth"


@report("D61", "bts 59: 352x1216 of KITTI's 375x1242", "--crop kb|crop 'kb'|crop kb")
def _kb_crop(folder: Path, data: Path) -> Words:
    depth = cv2.resize(make_depth(0), (1242, 375))
    write_depth(folder / "truth", "0", depth, 256)
    write_depth(folder / "pred", "0", depth[-352:, 13:1229], 256)
    return "evaluate", "--depth", folder / "pred", "--reference", folder / "truth"


# -- Cameras of further threads.


_add_K(
    "C18",
    "monodepth2 213: width and height exchanged",
    "1.21875 0 0.6667\n0 0.9141 0.375\n0 0 1\n",
    "normalized|multiply by the image's width",
)
_add_K(
    "C19",
    "monodepth2 160: a part normalized, fy negative",
    "1.078 0 958.27\n0 -1.618 642.6\n0 0 1\n",
    "expected",
    "normalized|in pixels",
)
_add_K(
    "C24",
    "ScanNet, manhattan_sdf 40, VSLAM-LAB 99: K of 1296x968",
    "1170.2 0 647.8\n0 1170.2 483.8\n0 0 1\n",
    "images of about 1296x968",
    "Fix",
)
_add_K("C34", "record3d: K column by column", "500 0 0\n0 500 0\n320 240 1\n", "transpose")


@report("C20", "image_pipeline 840: fy is 1.34 times fx", "fy is 1.34 times fx", "Fix")
def _unequal(folder: Path, data: Path) -> Words:
    (folder / "left.yaml").write_text(
        "image_width: 640\nimage_height: 480\ncamera_matrix:\n  rows: 3\n  cols: 3\n"
        "  data: [403.7451, 0, 337.60424, 0, 539.71264, 230.0055, 0, 0, 1]\n"
    )
    return "camera", write_images(folder / "imgs", height=480), "--calibration", folder / "left.yaml"


@report("C23", "colmap 845: the camera of undistorted images", "expected the shape of 949x518")
def _undistorted(folder: Path, data: Path) -> Words:
    (folder / "cameras.txt").write_text("1 PINHOLE 949 518 460.58 460.82 463.41 268.04\n")
    return "camera", write_images(folder / "imgs", height=480, width=752), "--calibration", folder / "cameras.txt"


FURTHER_CALIBRATIONS = {
    "C31": (
        "ScanNet: intrinsic_color.txt of 4x4",
        "intrinsic_color.txt",
        "371.8 0 314 0\n0 369.4 88.5 0\n0 0 1 0\n0 0 0 1\n",
    ),
    "C32": ("DROID-SLAM 5: fx fy cx cy", "calib.txt", "371.8 369.4 314 88.5\n"),
    "C32b": ("DROID-SLAM 5: fx fy cx cy and distortion", "calib.txt", "371.8 369.4 314 88.5 0.0 0.0 0 0 0\n"),
    "C28": (
        "openvslam 266: kalibr with cameras by other names",
        "rig.yaml",
        "left:\n  camera_model: pinhole\n  intrinsics: [371.8, 369.4, 314.0, 88.5]\n  distortion_model: radtan\n"
        "  distortion_coeffs: [0, 0, 0, 0]\n  resolution: [640, 192]\n",
    ),
    "C29": (
        "librealsense 4577: intrinsics as ppx, ppy",
        "intrinsics.json",
        '{"width": 640, "height": 192, "ppx": 314.0, "ppy": 88.5, "fx": 371.8, "fy": 369.4, "coeffs": [0, 0, 0, 0, 0]}',
    ),
    "C30": (
        "opencv 16515: FileStorage in YAML",
        "calib.yml",
        "%YAML:1.0\n---\nimage_width: 640\nimage_height: 192\ncamera_matrix: !!opencv-matrix\n   rows: 3\n   cols: 3\n"
        "   dt: d\n   data: [ 371.8, 0., 314., 0., 369.4, 88.5, 0., 0., 1. ]\n",
    ),
    "C26": (
        "ORB_SLAM2 556: a heading in brackets",
        "K.txt",
        "[Left Camera Intrinsic]\n371.8       0 314\n      0 369.4 88.5\n      0       0       1\n",
    ),
    "C36": (
        "MATLAB: jsonencode(toStruct(cameraParams)), transposed, pixels from 1",
        "cameraParams.json",
        '{"RadialDistortion": [0, 0], "TangentialDistortion": [0, 0], "ImageSize": [192, 640],'
        ' "IntrinsicMatrix": [[371.8, 0, 0], [0, 369.4, 0], [315.0, 89.5, 1]]}',
    ),
    "C37": (
        "kalibr: results-cam.txt",
        "results-cam.txt",
        "Camera-system parameters:\n\tcam0 (/cam0/image_raw):\n\t distortion: [0 0 0 0] +- [0.1 0.1 0.1 0.1]\n"
        "\t projection: [371.8 369.4 314.0 88.5] +- [0.9 0.9 0.7 0.5]\n",
    ),
    "C38": (
        "Isaac Sim: focal length and aperture in mm",
        "camera_params_0000.json",
        '{"cameraAperture": [20.955, 6.29], "cameraFocalLength": 12.1, "renderProductResolution": [640, 192]}',
    ),
    "C39": (
        "3RScan: _info.txt",
        "_info.txt",
        "m_colorWidth = 640\nm_colorHeight = 192\nm_depthWidth = 224\nm_depthHeight = 172\n"
        "m_calibrationColorIntrinsic = 371.8 0 314 0 0 369.4 88.5 0 0 0 1 0 0 0 0 1\n"
        "m_calibrationDepthIntrinsic = 176.6 0 114.6 0 0 240.8 85.8 0 0 0 1 0 0 0 0 1\n",
    ),
    "C40": (
        "EPIC-Fields: a camera of COLMAP in JSON",
        "P02_04.json",
        '{"camera": {"id": 1, "model": "OPENCV", "width": 640, "height": 192,'
        ' "params": [371.8, 369.4, 314.5, 89.0, 0, 0, 0, 0]}, "images": {}}',
    ),
    "C41": (
        "Argoverse 2: intrinsics of a table as JSON",
        "camera.json",
        '{"fx_px": 371.8, "fy_px": 369.4, "cx_px": 314.0, "cy_px": 88.5, "height_px": 192, "width_px": 640}',
    ),
    "C44": (
        "rpg_vikit, FAST-LIVO2: names with cam_ in front, distortion as d0 to d3",
        "camera_pinhole.yaml",
        "cam_model: Pinhole\ncam_width: 640\ncam_height: 192\ncam_fx: 371.8\ncam_fy: 369.4\ncam_cx: 314.0\n"
        "cam_cy: 88.5\ncam_d0: 0.0\ncam_d1: 0.0\ncam_d2: 0.0\ncam_d3: 0.0\n",
    ),
    "C45": (
        "Waymo 2: a row of pandas, keys with dots",
        "calib.json",
        '{"[C].intrinsic.f_u": 371.8, "[C].intrinsic.f_v": 369.4, "[C].intrinsic.c_u": 314.0,'
        ' "[C].intrinsic.c_v": 88.5, "[C].width": 640, "[C].height": 192}',
    ),
    "C46": (
        "Zenseact: K of 3x4, image_dimensions",
        "calibration.json",
        '{"FC": {"intrinsics": [[371.8, 0, 314, 0], [0, 369.4, 88.5, 0], [0, 0, 1, 0]],'
        ' "image_dimensions": [640, 192]}}',
    ),
    "C35": (
        "Open3D 583: intrinsic_matrix column by column",
        "camera_intrinsic.json",
        '{"width": 640, "height": 192, "intrinsic_matrix": [371.8, 0, 0, 0, 369.4, 0, 314.0, 88.5, 1]}',
    ),
}


def _add_further_calibration(name: str, source: str, file: str, text: str) -> None:
    def make(folder: Path, data: Path) -> Words:
        (folder / file).write_text(text)
        return "camera", write_images(folder / "imgs"), "--calibration", folder / file

    REPORTS.append(Report(name, source, make, (r"field of view 8[01]\.\d x \d+",), "right", "which no pinhole"))


for _name, (_source, _file, _text) in FURTHER_CALIBRATIONS.items():
    _add_further_calibration(_name, _source, _file, _text)


@report("C42", "OpenCV: K and the distortion in JSON", "frames will be undistorted", outcome="right")
def _distorted_json(folder: Path, data: Path) -> Words:
    K = [[371.8, 0, 314], [0, 369.4, 88.5], [0, 0, 1]]
    (folder / "calib.json").write_text(json.dumps({"K": K, "dist": [0.1, -0.05, 0, 0, 0]}))
    return "camera", write_images(folder / "imgs"), "--calibration", folder / "calib.json"


@report("C47", "Kubric: focal length and sensor in mm, no size", "pass --focal-mm 39.375")
def _kubric_camera(folder: Path, data: Path) -> Words:
    (folder / "metadata.json").write_text('{"camera": {"focal_length": 35.0, "sensor_width": 32.0}}')
    return "camera", write_images(folder / "imgs"), "--calibration", folder / "metadata.json"


@report("C48", "Gazebo: horizontal_fov in radians", "a field of view", "pass --fov 59.9")
def _gazebo_camera(folder: Path, data: Path) -> Words:
    (folder / "model.sdf").write_text("<sdf><camera><horizontal_fov>1.047</horizontal_fov></camera></sdf>")
    return "camera", write_images(folder / "imgs"), "--calibration", folder / "model.sdf"


@report("C43", "RealityCapture: XMP without the size of the images", "pass --focal-mm 28")
def _xmp_camera(folder: Path, data: Path) -> Words:
    names = 'xmlns:xcr="http://a/1#" xcr:FocalLength35mm="28" xcr:PrincipalPointU="0" xcr:PrincipalPointV="0"'
    (folder / "a.xmp").write_text(f"<x><Description {names}/></x>")
    return "camera", write_images(folder / "imgs"), "--calibration", folder / "a.xmp"


@report("C33", "colmap 845: cameras.bin", "model_converter")
def _binary_cameras(folder: Path, data: Path) -> Words:
    (folder / "cameras.bin").write_bytes(b"\1\0\0\0\0\0\0\0" + b"\0" * 48)
    return "camera", write_images(folder / "imgs"), "--calibration", folder / "cameras.bin"


# -- Images of further threads.


@report(
    "F20",
    "arcticseals 4: thermal values from 51241 to 52181 of 16 bits",
    "few of their 16 bits",
    "stretch all images",
    needs="kitti_odometry",
)
def _thermal(folder: Path, data: Path) -> Words:
    for path in copy_frames(data, folder / "imgs"):
        gray = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE).astype(np.float64)
        cv2.imwrite(str(path), (51241 + gray * 940 / 255).astype(np.uint16))
    return "check", folder / "imgs", FOV


@report(
    "F21",
    "InfraredSolarModules 1, NTU4DRadLM 18: gray images of one channel",
    "read: 30 frames",
    outcome="right",
    needs="kitti_odometry",
)
def _gray(folder: Path, data: Path) -> Words:
    for path in copy_frames(data, folder / "imgs"):
        cv2.imwrite(str(path), cv2.imread(str(path), cv2.IMREAD_GRAYSCALE))
    return "check", folder / "imgs", FOV


# -- Streams of further threads.


@report("S03", "rtabmap_ros 1142, 517, 93: a baseline of the other sign", "sign|swapped", needs="kitti_odometry")
def _sign(folder: Path, data: Path) -> Words:
    return "check", write_stereo(folder / "d", data, baseline=-0.5372)


@report(
    "S04", "rtabmap 754: P(0, 3) of both cameras is 0", "baseline", "0 m|no baseline|found 0", needs="kitti_odometry"
)
def _no_baseline(folder: Path, data: Path) -> Words:
    return "check", write_stereo(folder / "d", data, baseline=0.0)


@report("R15", "ProjectAirSim 41, VIODE 16: right images 25 ms late", "25 ms", "trigger both cameras", needs="euroc")
def _half_period(folder: Path, data: Path) -> Words:
    return "check", shift_euroc(folder, data, 25_000_000)


@report("R16", "depthai-ros 421: the left images are one ahead", "not synchronized", "1 frame", needs="kitti_odometry")
def _left_ahead(folder: Path, data: Path) -> Words:
    return "check", write_stereo(folder / "d", data, right=[max(k - 1, 0) for k in range(30)])


@report("R18", "FIReStereo 5: more timestamps than images", "50", "30", "times.txt", needs="kitti_odometry")
def _more_times(folder: Path, data: Path) -> Words:
    target = write_stereo(folder / "d", data)
    np.savetxt(target / "times.txt", np.arange(50) / 10)
    return "check", target


@report("R20", "robotcar-dataset-sdk 19: poses three frames late", "other frames", needs="kitti_odometry")
def _late_poses(folder: Path, data: Path) -> Words:
    poses = read_kitti_poses(data)
    return "check", write_stereo(folder / "d", data, poses=np.concatenate([poses[:1]] * 3 + [poses])[:40], count=40)


@report("R23", "rtabmap_ros 108: left and right exchanged", "swapped", needs="kitti_odometry")
def _swapped(folder: Path, data: Path) -> Words:
    target = write_stereo(folder / "d", data)
    (target / "left").rename(target / "other")
    (target / "right").rename(target / "left")
    (target / "other").rename(target / "right")
    return "check", target


@report("R24", "realsense-ros 233: right images 6 rows lower", "rows|rectified", needs="kitti_odometry")
def _rows(folder: Path, data: Path) -> Words:
    target = write_stereo(folder / "d", data)
    for path in (target / "right").iterdir():
        cv2.imwrite(str(path), np.roll(cv2.imread(str(path)), 6, axis=0))
    return "check", target


@report(
    "R21",
    "ros2_orb_slam3 25: ground truth for a part of the images",
    r"poses of \d+ of 60 frames",
    outcome="right",
    needs="euroc",
)
def _part_of_poses(folder: Path, data: Path) -> Words:
    target = shift_euroc(folder, data, 7000)
    truth = next((target / "mav0").glob("state_groundtruth*/data.csv"))
    stamps = sorted(int(path.stem) for path in (target / "mav0/cam0/data").iterdir())
    rows = truth.read_text().splitlines()
    first, last = stamps[15], stamps[45]
    kept = [row for row in rows[1:] if first <= int(row.split(",")[0]) <= last]
    truth.write_text("\n".join([rows[0], *kept]))
    return "check", target


# -- Poses and depth of further threads.


def change_poses(folder: Path, change: Callable[[Array], Array]) -> Path:
    """Change the poses of a folder of the stadia layout."""
    rows = np.loadtxt(folder / "poses.txt").reshape(-1, 3, 4)
    T = np.concatenate([rows, np.tile([[[0, 0, 0, 1.0]]], (len(rows), 1, 1))], 1)
    np.savetxt(folder / "poses.txt", change(T)[:, :3].reshape(len(rows), 12))
    return folder


@report(
    "L10",
    "DL3DV-10K 21, monst3r 49: poses with the axes of OpenGL",
    "E07|different axes",
    "axes",
    damaging="E06|D0[67]",
    needs="sevenscenes",
)
def _opengl_poses(folder: Path, data: Path) -> Words:
    return "check", change_poses(write_scenes(folder / "d", data), turn_camera(OPENGL))


@report("L11", "MVHumanNet 22, NoPoSplat 65: world-to-camera", "inverted", damaging="E07|D0[67]", needs="sevenscenes")
def _inverse_poses(folder: Path, data: Path) -> Words:
    return "check", change_poses(write_scenes(folder / "d", data), np.linalg.inv)


@report(
    "L14",
    "MatrixCity 24: poses in centimetres",
    "wrong unit",
    "100|centimetres",
    damaging="D06|D07",
    needs="sevenscenes",
)
def _centimetre_poses(folder: Path, data: Path) -> Words:
    return "check", change_poses(write_scenes(folder / "d", data), lambda T: set_position(T, 100 * T[:, :3, 3]))


@report(
    "L13",
    "UnrealImageCapture 13: depth in centimetres",
    "depth|ground truth",
    "100|centimetres",
    damaging="E08",
    needs="sevenscenes",
)
def _centimetre_depth(folder: Path, data: Path) -> Words:
    return "check", write_scenes(folder / "d", data, lambda depth: 100 * depth)


@report(
    "L09",
    "BundleFusion 60, ScanNet 109: depth of another size",
    r"\(240, 320\)",
    "register depth from another camera",
    needs="sevenscenes",
)
def _small_depth(folder: Path, data: Path) -> Words:
    target = write_scenes(folder / "d", data)
    for path in (target / "depth/left").iterdir():
        np.save(path, np.load(path)[::2, ::2])
    return "check", target


@report(
    "L15",
    "RGBD-Integration-2020 4: depth of another frame",
    "frames?",
    "depth|ground truth",
    damaging="E0[678]",
    needs="sevenscenes",
)
def _late_depth_frames(folder: Path, data: Path) -> Words:
    target = write_scenes(folder / "d", data)
    files = sorted((target / "depth/left").iterdir())
    maps = [np.load(path) for path in files]
    for k, path in enumerate(files):
        np.save(path, maps[max(k - 4, 0)])
    return "check", target


# -- Object poses of further threads.


_add_objects(
    "B08",
    "NOCS_CVPR2019 33: z of the model mirrored",
    lambda R, t: (R @ np.diag([1.0, 1, -1]), t),
    "mirror|determinant -1",
)
_add_objects(
    "B09",
    "BundleTrack 67: axes of OpenGL and a scale in the rotation",
    lambda R, t: (0.3 * OPENGL @ R, OPENGL @ t),
    "a rotation times 0.3",
    "divide",
)
_add_objects(
    "B10",
    "Gen6D 3: translations in diameters of the object",
    lambda R, t: (R, t / 180),
    "multiply t by 18",
    "unit of length",
)
_add_objects("B11", "YCB_Video_toolbox 13: centimetres", lambda R, t: (R, t / 10), "multiply t by 10")


@report("B14", "bop_toolkit 71: columns of another table", "columns scene,image", "scene_id", needs="bop")
def _other_columns(folder: Path, data: Path) -> Words:
    write_results(folder / "est.csv", data, lambda R, t: (R, t))
    text = (folder / "est.csv").read_text().replace("scene_id,im_id", "scene,image")
    (folder / "est.csv").write_text(text)
    return "evaluate", "--objects", folder / "est.csv", "--reference", data / "bop/lmo", "--split", "test"


@report("B15", "YCB_Video_toolbox 11: quaternions in the place of R", "4", "9", needs="bop")
def _quaternions(folder: Path, data: Path) -> Words:
    write_results(folder / "est.csv", data, lambda R, t: (Rotation.from_matrix(R).as_quat(), t))
    return "evaluate", "--objects", folder / "est.csv", "--reference", data / "bop/lmo", "--split", "test"


# -- Inputs kept as files next to the real samples: ../cases/ROUND/NAME with `source` and `cmd`.

KEPT_CASES = Path("..") / "cases"


OTHER_IMAGES = "result-colmap-narrow-object/images"
"""Images of a case that several cases share."""


def add_kept_case(
    name: str, *expected: str, outcome: str = "cure", damaging: str = "", after: After = None, round: str = "round5"
) -> None:
    """Add a case of the folder KEPT_CASES: its files are copied, and the command in its file `cmd` is run there."""
    needs = KEPT_CASES / round / name

    def make(folder: Path, data: Path) -> Words:
        shutil.copytree(data / needs, folder, dirs_exist_ok=True)
        images = str((data / KEPT_CASES / round / OTHER_IMAGES).resolve())
        for path in [folder, *folder.rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)
        command = re.split(r"[;\n]", (folder / "cmd").read_text())[0].partition(" #")[0]
        samples = str(data.resolve())
        places = {"{case}": str(folder), "${STADIA_REAL_DATA}": samples, "$STADIA_REAL_DATA": samples}
        for text, place in {**places, f"../{OTHER_IMAGES}": images, "IMAGES": images}.items():
            command = command.replace(text, place)
        words = shlex.split(command)
        return [word for word in words if word != "stadia"]

    REPORTS.append(Report(name, KEPT_SOURCES[name], make, expected, outcome, damaging, str(needs), after))


def show_saved_camera(folder: Path, output: str) -> str:
    """Return the camera that `stadia camera` wrote."""
    saved = sorted([*folder.glob("imgs/K.json"), *folder.glob("*.K.json")])
    return f"saved {json.dumps(json.loads(saved[0].read_text()))}" if saved else "saved nothing"


def run_advice(*patterns: str) -> Callable[[Path, str], str]:
    """Return a function that runs the first printed command that matches each pattern, and returns the outputs."""

    def run_them(folder: Path, output: str) -> str:
        texts: list[str] = []
        for pattern in patterns:
            found = re.search(pattern, output + " ".join(texts))
            if found is None:
                return " ".join([*texts, "no command"])
            texts.append(run_words(shlex.split(found[1])[1:], folder / "advice.log"))
        return " ".join(texts)

    return run_them


def find_red_mark(folder: Path, output: str) -> str:
    """Return where the red mark of the mirrored video is in the pictures that were read."""
    from stadia.io.video_decoding import stream_video

    image = next(stream_video(folder / "a.mp4")).image.astype(int)
    redness = image[..., 0] - image[..., 1:].max(axis=2)
    row, column = np.argwhere(redness > redness.max() / 2).mean(axis=0)
    return f"red mark near {round(column / 10) * 10}, {round(row / 10) * 10}"


KEPT_SOURCES = {
    "K-of-landscape": "opencap-core 6, Meshroom 2115: calibrated lying, filmed upright",
    "K-of-photo-4-3": "dso 147, Depth-Anything-V2 52: calibrated by 4:3 photos, used for 16:9 video",
    "boxes-with-suffix": "YOLOX 1654, darknet 785: file_name of COCO has .png",
    "depth-inf": "dispnet-flownet-docker 6: inf for no depth",
    "dso-camera-txt": "dso 71, mono_dataset_code 26",
    "metashape-xml": "nerfstudio 1224, 3324, 2608",
    "ns-equirectangular": "nerfstudio 1634: transforms.json of a 360 camera",
    "ns-per-frame-camera": "nerfstudio 3057, 2142, sdfstudio 307: intrinsics in each frame",
    "ns-per-frame-scene": "nerfstudio 3057, 2142: a scene whose frames have intrinsics of their own",
    "photo-cropped-exif": "Depth-Anything 85, DeepCalib 9: cropped photo keeps its EXIF",
    "photo-panorama": "DenseDepth 135, Depth-Anything 181",
    "photo-webp-named-jpg": "dust3r 20, Meshroom 1654: pictures renamed to .jpg",
    "photos-heic-webp": "dust3r 20, colmap 3356, nerfstudio 2751",
    "record3d-metadata": "record3d 83, 99: K by columns",
    "ros-binning": "avt_vimba_camera 82, pylon-ros-camera 143: size of the sensor, K of the binned image",
    "ros-echo": "depthai-ros 598, zed-ros-wrapper 126: output of topic echo",
    "ros-k-zero": "depthai-ros 598, jsk_recognition 491: k all zeros, p valid",
    "ros-roi": "ar_track_alvar 40, camera1394 36: camera_info of a cropped image",
    "traj-arkitscenes": "ARKitScenes 26, 37",
    "traj-folder-of-poses": "ScanNet 174, monst3r 29: one 4x4 file a frame",
    "traj-g2o": "hdl_graph_slam 122, g2o 392",
    "traj-minus-inf": "ScanNet 174, Co-SLAM 59, monst3r 29: rows of -inf",
    "traj-record3d": "record3d 27, 83",
    "video-front-and-rear": "tesla_dashcam 190: front and rear camera in one picture",
    "video-interlaced": "vid.stab 32, VideoIO.jl 194",
    "video-mirrored-matrix": "react-native-vision-camera 3200, opencv 22088: mirrored display matrix",
    "video-sar": "opencv 4921, VideoIO.jl 185: pixels that are not square",
    "video-side-by-side": "DepthViewer 10, rtabmap 117",
    "video-two-streams": "mutagen 661, typed-ffmpeg 587: several video streams",
    "video-zoom-driving": "colmap 3606",
    "bop-nan": "FoundationPose 53: failed estimates are rows of NaN",
    "cam-azure-kinect": "Azure-Kinect-Sensor-SDK 1617, 1518: shares of width and height",
    "cam-blender-angle": "3DGS-to-PC 4: camera_angle_x alone",
    "cam-cityscapes": "manydepth 69, cityscapesScripts 92",
    "cam-scannet-txt": "ScanNet 101, 92",
    "cam-scannetpp-iphone": "scannetpp 163: K of each frame",
    "depth-carla-24bit": "carla 5710, Bench2Drive 190",
    "depth-monodepth2-npz": "Lite-Mono 149: maps of several sizes",
    "depth-pfm-scale": "FoundationStereo 149, cvkit 20",
    "depth-truth-disparity": "drivingstereo-dataset 8",
    "hub-processor-ignored": "Depth-Anything 215, Depth-Anything-ONNX 7",
    "images-gap": "monodepth2 440, ContactPose 17",
    "launch-slurm-ntasks": "pytorch-lightning 20391, 20776, 19762",
    "masks-flat-folder": "mmsegmentation 3531, lightning-flash 1400",
    "photo-float-tiff": "ml-hypersim 45",
    "shard-webdataset": "webdataset 65, 188, 225",
    "traj-colmap-folder": "MegaScenes nvs 3, FSGS 15",
    "traj-latlon": "evo 420, DiSCo-SLAM 3",
    "traj-polycam": "nerfstudio 1050",
    "traj-ros1-csv": "evo 725, ros_comm 330: two clocks",
    "video-animated-webp": "ComfyUI-VideoHelperSuite 411, create_thumbnail 9",
    "cam-ddad-json": "TRI-ML/DDAD: calibration of names, intrinsics, extrinsics",
    "cam-equidistant-skew-k": "ika-rwth-aachen/ros2_calib 6: a polynomial that turns back",
    "cam-nuscenes": "nuscenes-devkit: calibrated_sensor.json with a LiDAR",
    "cam-scaramuzza": "LF-VIO: Scaramuzza's polynomial",
    "check-rotated-images": "instant-ngp 1080, nerfstudio: pictures were turned upright",
    "depth-constant-pred": "monodepth2 470: one constant map",
    "depth-log": "Depth-Anything 78: a logarithm of metres",
    "depth-tiff-float-mm": "Zivid, Photoneo: TIFF of float32 in millimetres",
    "depth-truth-resized-bilinear": "RadarCam-Depth 8: sparse truth made smaller bilinearly",
    "hostile/glb_camlist": "a list in place of a camera",
    "hostile/glb_perspnull": "a camera without perspective",
    "hostile/ply_negative": "a negative number of points",
    "hostile/png_thin": "a picture of 60000x2",
    "live-rtsp-at-password": "opencv 27091: a password that ends in @",
    "result-blender-ground-truth": "nerf_data: exact poses of a rendered chair",
    "result-colmap-narrow-object": "test_colmap: a statue",
    "result-gs-cameras-json": "gaussian-splatting: camera_to_JSON",
    "result-llff-fix-npy": "milk: poses_bounds.npy has h, w, f",
    "result-opensfm-names-ignored": "sfm-data-bathtub: names in reconstruction.json",
    "result-two-images-swapped-usable": "COLMAP_multicam: two poses exchanged",
    "scale-gps-srt": "DJI_SRT_Parser 82, ODM 1667",
    "train-fade-in": "video editors: the first frames are black",
    "train-mixed-sizes": "landscape and portrait photos in one folder",
    "traj-covariance": "rtabmap, robot_localization: 36 numbers of covariance",
    "traj-duplicate-sorted": "evo 684: each pose three times",
    "traj-nuscenes-ego": "LiDAR4D 6: ego_pose.json",
    "video-dji-no-fix": "DJI before the first fix",
    "video-frozen": "lerobot-doctor 7: the feed froze",
    "video-insv": "Insta360: two fisheye circles",
    "video-lerobot-two-episodes": "lerobot 2627: two episodes in one file",
}
UNDISTORTER = "image_undistorter"
ATE_OF_ROUND5 = r"ATE 0?\.04[67]\d* m"

FIT = r"run `(stadia camera .*? --fit [-a-z]+)`"
add_kept_case("K-of-landscape", "turned", r"51\.3 x 65\.2", damaging=UNDISTORTER, after=run_advice(FIT))
add_kept_case("K-of-photo-4-3", "crop", r"476\.2", r"67\.8 x 41\.", damaging=UNDISTORTER, after=run_advice(FIT))
add_kept_case("boxes-with-suffix", r"one unit is \d+\.\d+ m, .* usable", outcome="right", damaging="no whole car")
add_kept_case("depth-inf", r"abs_rel 0?\.016", "inf", outcome="right")
add_kept_case("dso-camera-txt", r"saved .*\[\[223\.4", "fov", outcome="right", after=show_saved_camera)
add_kept_case("metashape-xml", r"saved .*\[\[520\.7, 0(\.0)?, 335\.0", r"0\.0447", outcome="right",
              after=show_saved_camera)  # fmt: skip
add_kept_case("ns-equirectangular", "EQUIRECTANGULAR", "saved nothing", "Fix", after=show_saved_camera)
add_kept_case("ns-per-frame-camera", r"saved .*\[\[500.*\[\[700.*\[\[650", outcome="right", after=show_saved_camera)
add_kept_case("ns-per-frame-scene", "24 frames", outcome="right", damaging="E09|associate")  # fmt: skip
add_kept_case("photo-cropped-exif", "crop", r"[Ff]ix|--fov|field of view")
add_kept_case("photo-panorama", "a panorama by its XMP data", outcome="right")
add_kept_case("photo-webp-named-jpg", r"depth \d", outcome="right", damaging="neither PNG nor JPEG|remove its frame")
add_kept_case("photos-heic-webp", "webp|3 frames|good|found", outcome="right", damaging="expected a dataset of one of")
add_kept_case("record3d-metadata", r"saved .*\[\[500.*318.*242", outcome="right", damaging="normalized",
              after=show_saved_camera)  # fmt: skip
add_kept_case("ros-binning", r"81\.[4-8]", r"saved .*\[\[29[89]\.5", outcome="right", damaging="millimetres",
              after=show_saved_camera)  # fmt: skip
add_kept_case("ros-echo", r"65\.2", r"saved .*\[\[500", outcome="right", after=show_saved_camera)
add_kept_case("ros-k-zero", r"65\.2", r"saved .*\[\[500.*330.*235", outcome="right", after=show_saved_camera)
add_kept_case("ros-roi", r"35\.5 x 27\.0", r"saved .*\[\[1000.*320.*240", outcome="right", after=show_saved_camera)
for _name in ("traj-arkitscenes", "traj-folder-of-poses", "traj-g2o", "traj-record3d"):
    add_kept_case(_name, ATE_OF_ROUND5, outcome="right", damaging="from_euler")
add_kept_case("traj-minus-inf", r"ATE 0?\.04\d* m", "110", outcome="right", damaging="remove the row")
add_kept_case("video-front-and-rear", "two pictures, one above the other, of two cameras", r"ffmpeg|--split")
add_kept_case("video-interlaced", "interlaced", "yadif|bwdif|deinterlac")
add_kept_case("video-mirrored-matrix", r"red mark near 390, 10", outcome="right", after=find_red_mark)
add_kept_case("video-sar", "49\\.1|square", outcome="right", after=show_saved_camera)
add_kept_case("video-side-by-side", "two pictures side by side, of a stereo camera", r"ffmpeg|--split")
add_kept_case("video-two-streams", "416x124", outcome="right")
add_kept_case("video-zoom-driving", "doubtful", "zooms", r"data\.frames=")
for _name, _outcome, *_expected in (
    ("bop-nan", "right", "rows without a pose", "left out"),
    ("cam-azure-kinect", "right", "2048x1536", "92.5 x 76.1", "Azure Kinect"),
    ("cam-blender-angle", "right", "39.6 x 39.6"),
    ("cam-cityscapes", "right", "48.7 x 25.5"),
    ("cam-scannet-txt", "right", "58.0 x 44.9"),
    ("cam-scannetpp-iphone", "cure", "K of 2 frames", "pose_intrinsic_imu.json"),
    ("depth-carla-24bit", "right", r"abs_rel 0?\.028", "CARLA"),
    ("depth-monodepth2-npz", "cure", "several sizes", "allow_pickle"),
    ("depth-pfm-scale", "right", r"abs_rel 0?\.027"),
    ("depth-truth-disparity", "cure", "ground truth", "disparity", "focal length"),
    ("hub-processor-ignored", "cure", "do_rescale", "do_flip_channel_order", "do_center_crop", "shortest_edge"),
    ("images-gap", "cure", r"(nothing to fix|to review)[^(]*; missing numbers \(12 to 23"),
    ("launch-slurm-ntasks", "cure", "SLURM_NTASKS", "--ntasks-per-node"),
    ("masks-flat-folder", "right", "masks of 6 frames", "22% road"),
    ("photo-float-tiff", "cure", "float32", "cv2.imwrite"),
    ("shard-webdataset", "cure", "webdataset", "tar xf"),
    ("traj-colmap-folder", "right", r"ATE 0?\.22\d* m", "40 poses"),
    ("traj-latlon", "right", r"ATE 0?\.25\d* m", "degrees", "path 291"),
    ("traj-polycam", "right", r"ATE 0?\.194 m", "60 poses"),
    ("traj-ros1-csv", "right", r"ATE 0?\.00697 m", "header.stamp"),
    ("video-animated-webp", "cure", "animated WEBP of 15 frames", "ImageSequence"),
):
    add_kept_case(_name, *_expected, outcome=_outcome, round="round6")


for _name, _outcome, *_expected in (
    ("cam-ddad-json", "right", r"968x608, field of view 47\.9"),
    ("cam-equidistant-skew-k", "cure", "shrinks from 49 degrees"),
    ("cam-nuscenes", "right", r"800x450, field of view 64\.6"),
    ("cam-scaramuzza", "cure", "the lens model scaramuzza"),
    ("check-rotated-images", "cure", "the images are turned by 90 degrees"),
    ("depth-constant-pred", "cure", "all 4 compared predictions are the same map"),
    ("depth-log", "cure", "predictions are a logarithm of depth", r"numpy\.exp"),
    ("depth-tiff-float-mm", "cure", "predictions are millimetres taken as metres"),
    ("depth-truth-resized-bilinear", "cure", "made smaller by interpolation", "INTER_NEAREST"),
    ("hostile/glb_camlist", "right", "found a damaged file"),
    ("hostile/glb_perspnull", "right", "found a damaged file"),
    ("hostile/ply_negative", "right", "expected a PLY file"),
    ("hostile/png_thin", "right", "60000x2 pixels"),
    ("live-rtsp-at-password", "right", r"rtsp://\*\*\*@127"),
    ("result-blender-ground-truth", "right", "is usable"),
    ("result-colmap-narrow-object", "right", "is usable"),
    ("result-gs-cameras-json", "right", "is usable", "3D Gaussian Splatting"),
    ("result-llff-fix-npy", "right", "43 of 43 images", "belongs to images of 1140x855"),
    ("result-opensfm-names-ignored", "right", "9 of 13 images have a pose"),
    ("result-two-images-swapped-usable", "cure", "000011-color.jpg and robot/000025-color.jpg are exchanged"),
    ("scale-gps-srt", "right", "m.txt: trajectory in metres"),
    ("train-fade-in", "cure", "frames 0 to 5 of 24 are black"),
    ("train-mixed-sizes", "cure", "16 of 24 images have another size", "orientation"),
    ("traj-covariance", "right", r"ATE 0?\.0135 m"),
    ("traj-duplicate-sorted", "right", r"ATE 0?\.0135 m", "1576 of 2364 rows"),
    ("traj-nuscenes-ego", "right", r"ATE 0?\.0135 m", "sorted by timestamp"),
    ("video-dji-no-fix", "cure", "no GPS fix"),
    ("video-frozen", "cure", "frames 8 to 15 repeat"),
    ("video-insv", "cure", "two fisheye circles"),
    ("video-lerobot-two-episodes", "cure", "a cut in front of frame 12"),
):
    add_kept_case(_name, *_expected, outcome=_outcome, damaging="Secret123|w of its quaternions", round="round7")


@report("H01", "IP cameras: the address of its page", "a web page", needs="../cases/round7/live-page-not-video")
def _camera_page(folder: Path, data: Path) -> Words:
    from functools import partial
    from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
    from threading import Thread

    (folder / "index.html").write_text("<html>camera</html>")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(folder)))
    Thread(target=server.serve_forever, daemon=True).start()
    return "live", f"http://127.0.0.1:{server.server_port}/", "--seconds", 1


# -- Positions in place of poses.


def add_position_report(name: str, source: str, file: str, text: str, *expected: str) -> None:
    """Add a report of a reference that has positions only."""

    def make(folder: Path, data: Path) -> Words:
        write_tum(folder / "est.txt", make_estimate())
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(text)
        return score_path(folder, reference=file.partition("/")[0])

    REPORTS.append(Report(name, source, make, expected, damaging="order of the columns"))


GPX = """<?xml version="1.0"?>
<gpx version="1.1"><trk><trkseg>
<trkpt lat="49.0" lon="8.4"><ele>100</ele></trkpt>
</trkseg></trk></gpx>
"""
DEGREES = "latitude longitude height 0 0 0 1"
add_position_report("P01", "evo 420: a GPX file", "ref.gpx", GPX, DEGREES, "--scale-from gps")
add_position_report("P02", "gpsd: a log of NMEA", "ref.nmea", "$GPGGA,123519,4807.038,N,01131.000,E,1,08,0.9,545.4,M\n",
                    DEGREES)  # fmt: skip
add_position_report("P03", "rostopic echo -p of NavSatFix", "ref.csv",
                    "%time,field.status,field.latitude,field.longitude\n" + "1,0,49.0,8.4\n" * 3, DEGREES)  # fmt: skip
add_position_report("P04", "pykitti: oxts of a drive", "oxts/data/0000000000.txt", " ".join(["49.0"] * 30) + "\n",
                    "oxts of KITTI", "pykitti")  # fmt: skip
add_position_report("P05", "a table of words", "ref.txt", "one two\n" * 12, "could not convert")


# -- Archives in place of a folder.


def add_archive_report(name: str, source: str, file: str, *words: str, command: str) -> None:
    """Add a report of an archive, or a pattern of archives, that is passed as data."""

    def make(folder: Path, data: Path) -> Words:
        for number in range(2):
            archive = folder / "shards" / f"{number}{Path(file).suffix or '.tar'}"
            archive.parent.mkdir(exist_ok=True)
            archive.write_bytes(bytes(512))
        return [folder / file if word == "{}" else word for word in words]

    REPORTS.append(Report(name, source, make, (command,)))


add_archive_report(
    "X01", "webdataset 65: a pattern", "shards/{0..1}.tar", "check", "{}", command="for file in .*tar xf"
)
add_archive_report("X02", "webdataset 188", "shards/0.tar", "camera", "{}", "--fov", "69", command="tar xf")
add_archive_report("X03", "webdataset 225: a folder of shards", "shards", "train", "selfsup", "{}", command="tar xf")
add_archive_report("X04", "depth maps as they are uploaded", "shards/0.zip", "evaluate", "--depth", "{}",
                   "--reference", "{}", command="unzip")  # fmt: skip
add_archive_report("X05", "poses as they are downloaded", "shards/0.zip", "evaluate", "--trajectory", "{}",
                   "--reference", "{}", command="unzip")  # fmt: skip


@report("X06", "Record3D: a zip with another suffix", "unzip -q")
def _record3d_zip(folder: Path, data: Path) -> Words:
    (folder / "scan.r3d").write_bytes(b"PK\3\4" + bytes(30))
    return "check", folder / "scan.r3d", "--images", folder


@report("X08", "ROS 2: a bag that zstd compressed", "unzstd")
def _zstd_bag(folder: Path, data: Path) -> Words:
    (folder / "rosbag2_0.mcap.zstd").write_bytes(b"(\xb5/\xfd" + bytes(30))
    return "map", folder / "rosbag2_0.mcap.zstd", "--out", folder / "out"


@report("X07", "OpenCV: FileStorage writes .yml.gz", "gunzip -k")
def _gzip_calibration(folder: Path, data: Path) -> Words:
    (folder / "calib.yml.gz").write_bytes(b"\x1f\x8b\x08" + bytes(30))
    return "camera", write_images(folder / "imgs"), "--calibration", folder / "calib.yml.gz"


@report("V12", "Raspberry Pi: libcamera-vid -o test.h264", "ffmpeg -r 30 -i .*test.h264 -c copy")
def _raw_video(folder: Path, data: Path) -> Words:
    (folder / "test.h264").write_bytes(b"\0\0\0\1\x67" + bytes(30))
    return "predict", folder / "test.h264", "--out", folder / "out"


@report("F22", "DSO, TUM monoVO: images as .pgm", "field of view 69", outcome="right")
def _pgm_images(folder: Path, data: Path) -> Words:
    (folder / "imgs").mkdir()
    for k in range(3):
        cv2.imwrite(str(folder / f"imgs/{k:05d}.pgm"), np.full((48, 64), 90 + k, np.uint8))
    return "camera", folder / "imgs", "--fov", 69


@report("B16", "KITTI tracking: frame and track in front", "KITTI's tracking", "without these two columns")
def _tracking_labels(folder: Path, data: Path) -> Words:
    (folder / "labels").mkdir()
    row = "0 1 Car 0 0 -1.57 100 120 200 180 1.5 1.6 3.9 1.0 1.6 12.0 -1.5\n"
    (folder / "labels/0000.txt").write_text(row)
    return "evaluate", "--objects", folder / "labels", "--reference", folder / "labels"


@report("B17", "FoundationPose: ob_in_cam, a 4x4 for each image", "a folder of texts", "write one csv", needs="bop")
def _poses_of_an_object(folder: Path, data: Path) -> Words:
    (folder / "ob_in_cam").mkdir()
    np.savetxt(folder / "ob_in_cam/000000.txt", np.eye(4))
    return "evaluate", "--objects", folder / "ob_in_cam", "--reference", data / "bop/lmo"


def add_mask_report(name: str, source: str, mask: Array, *expected: str, outcome: str = "cure") -> None:
    """Add a report of a mask (H, W) or (H, W, 3) that another program wrote."""

    def make(folder: Path, data: Path) -> Words:
        for part, image in (("imgs", np.full((96, 128, 3), 90, np.uint8)), ("masks", mask)):
            (folder / part).mkdir()
            cv2.imwrite(str(folder / part / "000000.png"), image)
        (folder / "masks/classes.json").write_text('{"1": "road", "14": "car"}')
        return ("masks", folder / "imgs", "--by", folder / "masks", "--out", folder / "out",
                "data.camera.horizontal_fov_deg=69")  # fmt: skip

    REPORTS.append(Report(name, source, make, expected, outcome))


RED = np.zeros((96, 128, 3), np.uint8)
RED[48:, :, 2] = 1
add_mask_report("M01", "CARLA: classes in the red channel", RED, "masks of 1 frame", "50% road", outcome="right")


@report("M03", "DAVIS, Pascal VOC: the indices of a palette", "masks of 1 frame", "50% road", outcome="right")
def _palette_mask(folder: Path, data: Path) -> Words:
    from PIL import Image

    words = next(case for case in REPORTS if case.name == "M01").make(folder, data)
    image = Image.fromarray(RED[..., 2], "P")
    image.putpalette([(37 * number) % 256 for number in range(768)])
    image.save(folder / "masks/000000.png")
    return words


add_mask_report(
    "M02", "KITTI MOTS: 1000 x class + object", np.full((96, 128), 2001, np.uint16), "a class and an object", "// 1000"
)


# -- Files of other programs in place of a network.


def add_network_report(name: str, source: str, file: str, content: bytes, *expected: str) -> None:
    """Add a report of a file that is passed as a network."""

    def make(folder: Path, data: Path) -> Words:
        (folder / file).write_bytes(content)
        cv2.imwrite(str(folder / "photo.jpg"), np.zeros((48, 64, 3), np.uint8))
        return "predict", folder / file, folder / "photo.jpg", "--out", folder / "depth"

    REPORTS.append(Report(name, source, make, expected))


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 98\n"
add_network_report("F01", "Depth-Anything 168: weights of its authors", "depth_anything_v2_vits.pth", b"PK\3\4",
                   "stadia list networks")  # fmt: skip
add_network_report("F02", "MoGe 25: model.pt", "model.pt", b"PK\3\4", "moge-2-vitl")
add_network_report(
    "F03",
    "openvino 7760: a model of OpenVINO",
    "model.xml",
    b"<net/>",
    "pass the run that it was exported from",
    "openvino",
)
add_network_report(
    "F04", "depth-anything-tensorrt 21", "vitb.engine", b"ftrt", "pass the run that it was exported from"
)
add_network_report("F05", "desktop2stereo 13: a clone without LFS", "model.safetensors", POINTER, "git lfs pull")


# -- The page of symptoms: docs/reference/it-says-that.md.

MESSAGES = (
    ("`only N of M poses have a partner`", "times of two clocks, in two units, or written with few digits",
     "raise `--max-difference`, correct the clock, or write all digits", "evo"),
    ("`found N distinct times in M rows`", "times in nanoseconds were printed as 1.305031e+18",
     "write nine decimals, or integers of nanoseconds", "evo"),
    ("`the w of its quaternions first`", "rows of `t x y z qw qx qy qz`, read as TUM's `qx qy qz qw`",
     "`--format euroc`, or `--reference-format euroc`", "OKVIS2-X 12, VINS-Mono 10"),
    ("`holds world-to-camera poses`", "COLMAP and many SLAM systems store the inverse",
     "invert each pose", "evo, colmap 1476"),
    ("`has the camera axes of OpenGL`", "nerfstudio, Blender and ARKit: y up, z backward",
     "multiply each pose from the right by diag(1, -1, -1, 1)", "nerfstudio 2019"),
    ("`a quaternion of length 0`", "the program writes zeros where tracking is lost",
     "leave out these rows, or write the rotations", "ORB_SLAM3"),
    ("`scale_ratio_median is R ... a wrong unit`", "integers of PNG read with another factor",
     "`--depth-factor` and `--reference-factor`: 256 KITTI, 1000 millimetres, 5000 TUM", "void-dataset 3"),
    ("`predictions are right up to one scale`", "depth up to scale, scored as metres",
     "`--protocol relative`", "monodepth2 444"),
    ("`maps span exactly 0 to 65535`", "each map was normalized to look at",
     "store what the network predicts", "BoostingMonocularDepth 47"),
    ("`the predictions are inverse depth`", "inverse depth or disparity",
     "`--depth-scale affine-inverse`", "MiDaS"),
    ("`add_recall is R instead of S if the poses are read as`", "R by columns, inverted, or other axes",
     "as the note names it", "CASS 3"),
    ("`a field of view of 178 degrees`", "a focal length in millimetres, given as pixels",
     "`--focal-mm`, or multiply by the image's width over the sensor's", "colmap"),
    ("`expected one file for each frame`", "copies as .jpg beside .png", "keep one suffix", "monodepth2"),
    ("`16 bits and one channel, which looks like depth`", "color and depth lie in one folder",
     "move the depth to another folder", "NOCS"),
)  # fmt: skip
"""Parts of messages that are no findings: what stadia prints, cause, fix, and where people report it."""


def write_page() -> str:
    """Return the page of messages that are no findings."""
    rows = ["# Messages", "", PAGE_INTRODUCTION, "", "| message | cause | fix | reported in |", "|---|---|---|---|"]
    rows += [f"| {' | '.join(message)} |" for message in MESSAGES]
    return "\n".join(rows) + "\n"


PAGE_INTRODUCTION = """\
Lines of commands that score or read files, with cause and fix. A line with a code, such as K04, is a
[finding](findings.md); `stadia explain K04` prints its cause and fix.
`python benchmarks/public_reports.py --page FILE` writes this page from [inputs of
people](../developing/inputs.md)."""


# -- Running them.


@contextmanager
def capture_output(path: Path) -> Iterator[None]:
    """Write stdout and stderr of this process to a file."""
    kept = os.dup(1), os.dup(2)
    sys.stdout.flush()
    sys.stderr.flush()
    with path.open("wb") as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
        try:
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, descriptor in zip((1, 2), kept, strict=True):
                os.dup2(descriptor, number)
                os.close(descriptor)


def run_report(case: Report, folder: Path, data: Path) -> tuple[str, str]:
    """Make one input and run its command in this process. Return the outcome and the output."""
    folder.mkdir()
    words, data = [str(word) for word in case.make(folder, data)], data.resolve()
    with chdir(folder):
        output = run_words(words, folder.with_suffix(".log"))
    return judge(case, output + (case.after(folder, output) if case.after else ""))


def run_words(words: list[str], log: Path) -> str:
    """Run a command of stadia in this process, after NAME=VALUE of its environment, and return its output."""
    from stadia.cli.main import run

    kept = dict(os.environ)
    while re.match(r"[A-Z_]+=", words[0]):
        name, _, value = words.pop(0).partition("=")
        os.environ[name] = value
    with capture_output(log), suppress(SystemExit):
        run(words)
    os.environ.clear()
    os.environ.update(kept)
    return log.read_text(errors="replace")


def judge(case: Report, output: str) -> tuple[str, str]:
    """Return the outcome of a command's output, and the output on one line."""
    output = " ".join(output.split())
    if "internal error" in output or (case.damaging and re.search(case.damaging, output)):
        return "wrong", output
    return (case.outcome if all(re.search(text, output) for text in case.expected) else "silent"), output


def select_reports(data: Path, only: str = "", *, fast: bool = False) -> list[Report]:
    """Return the reports whose samples are there: with `fast`, those that need none."""
    wanted = [case for case in REPORTS if only in f"{case.name} {case.needs}" and not (fast and case.needs)]
    return [case for case in wanted if not case.needs or (data / case.needs).is_dir()]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=REAL_DATA)
    parser.add_argument("--only", default="", help="part of the name, or of the folder, of an input")
    parser.add_argument("--fast", action="store_true", help="leave out inputs of real samples")
    parser.add_argument("--show", action="store_true", help="print the output of each input that is silent or wrong")
    parser.add_argument("--page", type=Path, help="write the page of symptoms to this file, and run nothing")
    options = parser.parse_args()
    if options.page is not None:
        options.page.write_text(write_page(), encoding="utf-8")
        return 0
    outcomes, began = Counter[str](), time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["STADIA_CACHE"] = str(Path(scratch) / "cache")
        os.environ["COLUMNS"] = "400"
        for case in select_reports(options.data, options.only, fast=options.fast):
            outcome, output = run_report(case, Path(scratch) / case.name.replace("/", "-"), options.data)
            outcomes[outcome] += 1
            print(f"{case.name:22} {outcome:7} {case.source}", flush=True)
            if options.show and outcome in ("silent", "wrong"):
                print(f"       {output[:1500]}", flush=True)
    wanted = [
        case for case in REPORTS if options.only in f"{case.name} {case.needs}" and not (options.fast and case.needs)
    ]
    missing = sorted({case.needs for case in wanted if case.needs and not (options.data / case.needs).is_dir()})
    for needs in missing:
        print(f"skipped: there is no folder {options.data / needs}")
    total = sum(outcomes.values())
    counts = {name: outcomes[name] for name in ("right", "cure", "silent", "wrong")}
    print(", ".join(f"{count} {name}" for name, count in counts.items()), f"of {total}")
    print(json.dumps({**counts, "total": total, "seconds": round(time.monotonic() - began, 1)}))
    return int(outcomes["silent"] + outcomes["wrong"] > 0)


if __name__ == "__main__":
    sys.exit(main())
