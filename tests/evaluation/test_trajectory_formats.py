"""Trajectories of other programs are read by their content, and what changed is a note."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from tests.refusals import refuses

from stadia.core.errors import DataError
from stadia.evaluation.recording_scores import score_trajectory
from stadia.io.records.colmap import write_colmap
from stadia.io.records.formats import TrajectoryFormat
from stadia.io.records.read import read_kitti_trajectory, read_trajectory
from stadia.io.records.reconstruction import Reconstruction
from stadia.io.records.times import convert_times
from stadia.io.records.trajectory import (
    Trajectory,
    associate_trajectories,
    write_kitti_trajectory,
    write_tum_trajectory,
)

OPENGL = np.diag([1.0, -1, -1, 1])
START_NS = 1403636579763555584


def walk(n: int = 12) -> NDArray[np.float64]:
    T = np.tile(np.eye(4), (n, 1, 1))
    T[:, :3, :3] = Rotation.from_rotvec(np.arange(n)[:, None] * [0.05, 0.1, -0.02]).as_matrix()
    T[:, :3, 3] = np.arange(n)[:, None] * [0.3, -0.1, 1.0]
    return T


def rows(times: list[str], *, w_first: bool, separator: str, extra: str = "") -> list[str]:
    T = walk(len(times))
    xyzw = Rotation.from_matrix(T[:, :3, :3]).as_quat()
    q = np.roll(xyzw, 1, axis=1) if w_first else xyzw
    numbers = np.hstack([T[:, :3, 3], q])
    return [
        separator.join([time, *(f"{v:.9f}" for v in row)]) + extra for time, row in zip(times, numbers, strict=True)
    ]


SECONDS = [f"{1403636579.76 + k / 10:.6f}" for k in range(12)]
NANOSECONDS = [str(START_NS + k * 10**8) for k in range(12)]
EUROC_HEADER = (
    "#timestamp, p_RS_R_x [m], p_RS_R_y [m], p_RS_R_z [m], q_RS_w [], q_RS_x [], q_RS_y [], q_RS_z [], v_x [m s^-1]"
)
SPLIT_TIMES = [f"{k},{row[:10]},{row[10:]}" for k, row in enumerate(rows(NANOSECONDS, w_first=False, separator=","))]
MATRICES = [" ".join(f"{v:.9e}" for v in T[:3].ravel()) for T in walk()]

FILES: dict[str, list[str]] = {
    "tum": rows(SECONDS, w_first=False, separator=" "),
    "tum with commas and names": ["t,x,y,z,qx,qy,qz,qw", *rows(SECONDS, w_first=False, separator=",")],
    "tum with semicolons": rows(SECONDS, w_first=False, separator=";"),
    "tum in nanoseconds": rows(NANOSECONDS, w_first=False, separator=" "),
    "tum in milliseconds": rows([str(1403636579763 + k * 100) for k in range(12)], w_first=False, separator=" "),
    "tum in scientific notation": rows(
        [f"{1403636579.76 + k / 10:.12e}" for k in range(12)], w_first=False, separator=" "
    ),
    "tum with w first by name": ["time tx ty tz qw qx qy qz", *rows(SECONDS, w_first=True, separator=" ")],
    "topic of ros": [
        "%time,field.pose.position.x,field.pose.position.y,field.pose.position.z,field.pose.orientation.x,"
        "field.pose.orientation.y,field.pose.orientation.z,field.pose.orientation.w",
        *rows(NANOSECONDS, w_first=False, separator=","),
    ],
    "euroc": [EUROC_HEADER, *rows(NANOSECONDS, w_first=True, separator=",", extra=",0.1")],
    "euroc without a header": rows(NANOSECONDS, w_first=True, separator=",", extra=",0" * 9),
    "vins": rows(NANOSECONDS, w_first=True, separator=",", extra=",0.1,0.1,0.1,"),
    "vins loop": rows(NANOSECONDS, w_first=True, separator=",", extra=","),
    "times and counters in front": [
        f"{time},{2734 + k},{row},0,0,0,0,0,0"
        for k, (time, row) in enumerate(zip(NANOSECONDS, rows(NANOSECONDS, w_first=False, separator=","), strict=True))
    ],
    "tum with the scale of each pose": rows(SECONDS, w_first=False, separator=" ", extra=" 0.86"),
    "a counter, seconds and nanoseconds": SPLIT_TIMES,
    "seconds and nanoseconds by name": ["#sec,nsec,x,y,z,qx,qy,qz,qw", *(row.partition(",")[2] for row in SPLIT_TIMES)],
    "kitti": MATRICES,
    "kitti with frames": [f"{k} {row}" for k, row in enumerate(MATRICES)],
    "kitti-360": [f"{k} {row} 0 0 0 1" for k, row in enumerate(MATRICES)],
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("format", [None, "tum"])
def test_rows_are_read_by_their_content(name: str, format: str | None, tmp_path: Path) -> None:
    (tmp_path / "path.txt").write_text("\n".join(FILES[name]) + "\n")
    read = read_trajectory(tmp_path / "path.txt", None if format is None else TrajectoryFormat(format))
    np.testing.assert_allclose(read.T_world_camera, walk(), atol=1e-6)
    if read.times_s is not None:
        np.testing.assert_allclose(np.diff(read.times_s), 0.1, atol=1e-3)
        assert 1.4e9 < read.times_s[0] < 1.5e9
    is_other = name.startswith(("euroc", "vins", "kitti")) or name == "tum with w first by name"
    assert any("is read as" in note for note in read.notes) == (format == "tum" and is_other)


def test_images_of_colmap_are_inverted_and_sorted(tmp_path: Path) -> None:
    """Also where the line of points is empty, and the images are not sorted."""
    T_camera_world = np.linalg.inv(walk(3))
    q = np.roll(Rotation.from_matrix(T_camera_world[:, :3, :3]).as_quat(), 1, axis=1)
    lines = [
        "# Image list with two lines of data per image:",
        "#   IMAGE_ID, QW, QX, QY, QZ, TX, TY, TZ, CAMERA_ID, NAME",
    ]
    for k in (2, 0, 1):
        numbers = " ".join(f"{value:.9f}" for value in (*q[k], *T_camera_world[k, :3, 3]))
        lines += [f"{k + 1} {numbers} 1 cam/frame {(k + 1) * 2}.jpg", "" if k else "1.0 2.0 -1"]
    (tmp_path / "images.txt").write_text("\n".join(lines) + "\n")
    read = read_trajectory(tmp_path / "images.txt")
    np.testing.assert_allclose(read.T_world_camera, walk(3), atol=1e-6)
    assert read.frames is not None
    assert read.frames.tolist() == [2, 4, 6]
    np.testing.assert_array_equal(read_trajectory(tmp_path).T_world_camera, read.T_world_camera)  # the model's folder
    (tmp_path / "binary").mkdir()
    (tmp_path / "binary" / "images.bin").write_bytes(b"\0")
    with refuses(DataError, where="images.bin", fix="model_converter"):
        read_trajectory(tmp_path / "binary")


def test_the_time_of_a_ros_message_counts_before_that_of_its_arrival(tmp_path: Path) -> None:
    stamps = NANOSECONDS[:4]
    arrived = [str(int(stamp) + 40_000_000) for stamp in stamps]
    head = ["%time", "field.header.seq", "field.header.stamp", "field.header.frame_id"]
    names = head + [f"field.pose.position.{a}" for a in "xyz"] + [f"field.pose.orientation.{a}" for a in "xyzw"]
    posed = rows(stamps, w_first=False, separator=",")
    lines = [
        f"{time},{k},{row.replace(',', ',world,', 1)}" for k, (time, row) in enumerate(zip(arrived, posed, strict=True))
    ]
    path = tmp_path / "odom.csv"
    path.write_text("\n".join([",".join(names), *lines]))
    read = read_trajectory(path)
    assert read.times_s is not None
    np.testing.assert_allclose(read.times_s, np.array(stamps, np.float64) * 1e-9, atol=1e-6)
    np.testing.assert_allclose(read.T_world_camera, walk(4), atol=1e-6)
    assert any("field.header.stamp" in note for note in read.notes)


def test_transforms_of_nerfstudio_get_the_axes_of_opencv(tmp_path: Path) -> None:
    frames = [
        {"file_path": f"images/frame_{k + 1:05d}.png", "transform_matrix": (T @ OPENGL).tolist()}
        for k, T in enumerate(walk(12))
    ]
    (tmp_path / "transforms.json").write_text(json.dumps({"fl_x": 700.0, "frames": frames[::-1]}))
    read = read_trajectory(tmp_path / "transforms.json")
    np.testing.assert_allclose(read.T_world_camera, walk(12), atol=1e-9)
    assert read.frames is None, "names that count on are rows"
    (tmp_path / "transforms.json").write_text(json.dumps({"frames": [frames[0], *frames[3:]]}))
    gaps = read_trajectory(tmp_path / "transforms.json")
    assert gaps.frames is not None
    assert gaps.frames.tolist() == [0, *range(3, 12)]


def test_quaternions_of_another_length_are_normalized_and_zeros_left_out(tmp_path: Path) -> None:
    table = np.array([row.split() for row in FILES["tum"]], np.float64)
    table[:, 4:] *= 2
    table[3, 4:] = 0
    np.savetxt(tmp_path / "path.txt", table, fmt="%.9f")
    read = read_trajectory(tmp_path / "path.txt")
    np.testing.assert_allclose(read.T_world_camera, np.delete(walk(), 3, axis=0), atol=1e-6)
    assert ["length 2" in note for note in read.notes] == [True, False]
    table[:, 4:] = 0
    np.savetxt(tmp_path / "path.txt", table, fmt="%.9f")
    with refuses(DataError, found="12"):
        read_trajectory(tmp_path / "path.txt")


def test_times_with_too_few_digits_name_the_cure(tmp_path: Path) -> None:
    (tmp_path / "path.txt").write_text("\n".join(rows(["1.403636e+18"] * 12, w_first=False, separator=" ")))
    with refuses(DataError, where="path.txt", found=("12", "1.403636e+18"), fix="fmt='%.9f"):
        read_trajectory(tmp_path / "path.txt")


PX4 = "timestamp,timestamp_sample,position[0],position[1],position[2],q[0],q[1],q[2],q[3]"
PLOTJUGGLER = "__time,/pose/header/stamp," + ",".join(
    [f"/pose/pose/position/{a}" for a in "xyz"] + [f"/pose/pose/orientation/{a}" for a in "wxyz"]
)


@pytest.mark.parametrize("names", [PX4, PLOTJUGGLER])
def test_names_with_brackets_and_slashes(names: str, tmp_path: Path) -> None:
    posed = rows(SECONDS[:4], w_first=True, separator=",")
    lines = [f"{float(row.partition(',')[0]) + 0.05 + 0.01 * k:.6f},{row}" for k, row in enumerate(posed)]
    path = tmp_path / "a.csv"
    path.write_text("\n".join([names, *lines]))
    read = read_trajectory(path)
    assert read.times_s is not None
    np.testing.assert_allclose(read.times_s, np.array(SECONDS[:4], np.float64), atol=1e-5)
    np.testing.assert_allclose(read.T_world_camera, walk(4), atol=1e-6)


@pytest.mark.parametrize(("name", "text", "found"), [
    ("a.kml", '<?xml version="1.0"?>\n<kml><gx:coord>8.4 49.0 110</gx:coord></kml>', "degrees"),
    ("a.geojson", '{"type": "FeatureCollection", "features": []}', "degrees"),
    ("a.csv", "time,easting,northing,altitude,roll,pitch,heading\n" + "1,2,3,4,0.1,0.2,0.3\n" * 3, "roll and pitch"),
])  # fmt: skip
def test_positions_and_angles_are_named(name: str, text: str, found: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with refuses(DataError, found=found, fix="write"):
        read_trajectory(tmp_path / name)


@pytest.mark.parametrize(("name", "names"), [("images.bin", ("model_converter",)), ("drive.bag", ("evo_traj",))])
def test_files_that_are_not_read_name_the_conversion(name: str, names: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"\0")
    with refuses(DataError, names=names):
        read_trajectory(tmp_path / name)


Stadia = Callable[..., tuple[int, str, str]]


def curve(count: int) -> np.ndarray:
    """(N, 4, 4): one metre a frame, on a bend."""
    T = np.tile(np.eye(4), (count, 1, 1))
    angle = 0.02 * np.arange(count)
    T[:, 0, 0], T[:, 0, 2], T[:, 2, 0], T[:, 2, 2] = np.cos(angle), np.sin(angle), -np.sin(angle), np.cos(angle)
    T[:, 0, 3], T[:, 2, 3] = np.cumsum(np.sin(angle)), np.cumsum(np.cos(angle))
    return T


def write_numbered(path: Path, frames: list[int], T: np.ndarray) -> Path:
    rows = (" ".join(map(repr, [frame, *T[frame, :3].ravel().tolist()])) for frame in frames)
    path.write_text("\n".join(rows) + "\n")
    return path


def test_rows_with_a_frame_number_are_matched_by_it(tmp_path: Path) -> None:
    frames = [0, 1, 2, 5, 6, 9]
    read = read_kitti_trajectory(write_numbered(tmp_path / "est.txt", frames, curve(10)))
    assert read.frames is not None
    assert read.frames.tolist() == frames
    score = score_trajectory(read, Trajectory(curve(10)))
    assert score.metrics["ate_rmse_m"] == pytest.approx(0, abs=1e-9)
    assert score.notes[0].startswith("6 of 10 frames have a pose in both: errors between frames span the gaps")
    P, Q = associate_trajectories(Trajectory(curve(10)), read)  # and the other way round
    np.testing.assert_allclose(P.T_world_camera, Q.T_world_camera, atol=1e-12)


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        ("0.5 " + "1 0 0 0 0 1 0 0 0 0 1 0", "0.5"),
        ("1 1 0 0 0 0 1 0 0 0 0 1 0\n1 1 0 0 0 0 1 0 0 0 0 1 0", "expected a frame number: an integer above 1"),
        ("-1 1 0 0 0 0 1 0 0 0 0 1 0", "an integer from 0"),
        ("0 1 0 0 0 0 1 0 0 0 0 1 0\n1 0 0 0 0 1 0 0 0 0 1 0", "a row without a frame number"),
        ("1 0 0 0 0 1 0 0 0 0 1 0\n0 1 0 0 0 0 1 0 0 0 0 1 0", "a row with a frame number after one without"),
    ],
)
def test_wrong_frame_numbers(rows: str, found: str, tmp_path: Path) -> None:
    (tmp_path / "bad.txt").write_text(rows)
    with pytest.raises(DataError) as error:
        read_kitti_trajectory(tmp_path / "bad.txt")
    assert found in str(error.value)
    assert "bad.txt, line" in str(error.value)


def test_estimate_and_reference_have_a_format_each(tmp_path: Path, stadia: Stadia) -> None:
    write_kitti_trajectory(tmp_path / "est.txt", Trajectory(curve(20)))
    write_tum_trajectory(tmp_path / "ref.txt", Trajectory(curve(20), np.arange(20) / 10))
    words = ("evaluate", "--trajectory", tmp_path / "est.txt", "--reference", tmp_path / "ref.txt", "--json")
    for options in ((), ("--reference-format", "tum"), ("--format", "tum")):
        code, out, err = stadia(*words, *options)
        assert code == 0, err
        assert json.loads(out)["poses"] == 20
    assert "est.txt is read as kitti" in err


def test_the_world_frame_is_aligned_by_default_and_the_line_names_it(tmp_path: Path, stadia: Stadia) -> None:
    """A path in another world frame is 0 m off, as `stadia odometry` says; without alignment it is far off."""
    turned = np.array([[0.0, 0, 1, 5], [0, 1, 0, 0], [-1, 0, 0, 2], [0, 0, 0, 1]]) @ curve(20)
    write_kitti_trajectory(tmp_path / "est.txt", Trajectory(turned))
    write_kitti_trajectory(tmp_path / "ref.txt", Trajectory(curve(20)))
    words = ("evaluate", "--trajectory", tmp_path / "est.txt", "--reference", tmp_path / "ref.txt")
    code, out, err = stadia(*words)
    assert code == 0, err
    assert "m (SE(3)-aligned), 20 poses, path 19.0 m" in out.splitlines()[0]
    scores = json.loads(stadia(*words, "--json")[1])
    assert (scores["align"], round(scores["ate_rmse_m"], 6)) == ("se3", 0)
    unaligned = json.loads(stadia(*words, "--align", "none", "--json")[1])
    assert unaligned["ate_rmse_m"] > 1
    assert "(not aligned)" in stadia(*words, "--align", "none")[1]


COUNT = 12


def make_path() -> np.ndarray:
    """Return (12, 4, 4) T_world_camera that turns about all axes."""
    s = np.linspace(0, 2, COUNT)
    T = np.tile(np.eye(4), (COUNT, 1, 1))
    T[:, :3, :3] = Rotation.from_euler("yxz", np.stack([s, 0.3 * np.sin(s), 0.2 * s], 1)).as_matrix()
    T[:, :3, 3] = np.stack([np.sin(s), 0.1 * s, 3 * s], 1)
    return T


T = make_path()
Q, P = Rotation.from_matrix(T[:, :3, :3]).as_quat(), T[:, :3, 3]
GL = Rotation.from_matrix(T[:, :3, :3] * [1, -1, -1]).as_quat()
INVERSE = np.linalg.inv(T)
VECTORS = Rotation.from_matrix(INVERSE[:, :3, :3]).as_rotvec()


def write_rows(path: Path, rows: np.ndarray, prefix: str = "", separator: str = " ") -> Path:
    """Write rows of numbers with all digits."""
    path.write_text("\n".join(prefix + separator.join(map(repr, map(float, row))) for row in rows))
    return path


def write_g2o(folder: Path) -> Path:
    rows = np.column_stack([np.arange(COUNT), P, Q])[::-1]
    lines = [f"VERTEX_SE3:QUAT {int(row[0])} " + " ".join(map(str, row[1:])) for row in rows]
    path = folder / "graph.g2o"
    path.write_text("\n".join([*lines, "EDGE_SE3:QUAT 0 1 0 0 0 0 0 0 1"]))
    return path


def write_folder(folder: Path) -> Path:
    for k in range(COUNT):
        np.savetxt(folder / f"{k}.txt", T[k])
    return folder


def write_mvsnet(folder: Path) -> Path:
    for k in range(COUNT):
        rows = "\n".join(" ".join(map(str, row)) for row in INVERSE[k])
        (folder / f"{k:08d}_cam.txt").write_text(f"extrinsic\n{rows}\n\nintrinsic\n1 0 0\n0 1 0\n0 0 1\n")
    return folder


def save(name: str, values: np.ndarray) -> Callable[[Path], Path]:
    """Return a function that saves an array."""

    def write(folder: Path) -> Path:
        np.save(folder / name, values)
        return folder / name

    return write


def dump(name: str, content: object) -> Callable[[Path], Path]:
    """Return a function that writes JSON."""

    def write(folder: Path) -> Path:
        (folder / name).write_text(json.dumps(content))
        return folder / name

    return write


def write_metashape(path: Path) -> Path:
    cameras = (f'<camera id="{k}" label="{k:03d}">\n<transform>{" ".join(map(str, T[k].ravel()))}</transform></camera>'
               for k in range(COUNT))  # fmt: skip
    path.write_text(f"<document><chunk><cameras>{''.join(cameras)}</cameras></chunk></document>")
    return path


def write_npz(path: Path) -> Path:
    np.savez(path, extrinsic=INVERSE[:, :3], depth=np.ones((COUNT, 2, 2)))
    return path


LLFF = np.concatenate([np.stack([T[:, :3, 1], T[:, :3, 0], -T[:, :3, 2], P], 2), np.ones((COUNT, 3, 1))], 2)
NAMES = [f"{k:03d}.jpg" for k in range(COUNT)]
MESHROOM = {
    "views": [{"poseId": str(k), "path": name} for k, name in enumerate(NAMES)],
    "poses": [
        {"poseId": str(k), "pose": {"transform": {"rotation": T[k, :3, :3].ravel().astype(str).tolist(),
                                                  "center": P[k].astype(str).tolist()}}} for k in range(COUNT)
    ],
}  # fmt: skip
OPENSFM = [{"shots": {name: {"rotation": VECTORS[k].tolist(), "translation": INVERSE[k, :3, 3].tolist()}
                      for k, name in enumerate(NAMES)}}]  # fmt: skip
KINDS: dict[str, Callable[[Path], Path]] = {
    "g2o": write_g2o,
    "folder of 4x4 files": write_folder,
    "MVSNet": write_mvsnet,
    "ARKitScenes": lambda f: write_rows(
        f / "a.traj", np.column_stack([np.arange(COUNT) / 10, VECTORS, INVERSE[:, :3, 3]])
    ),
    "seven numbers": lambda f: write_rows(f / "a.txt", np.column_stack([P, Q])),
    "Record3D": dump("metadata.json", {"K": [1, 0, 0, 0, 1, 0, 1, 1, 1], "poses": np.column_stack([GL, P]).tolist()}),
    "OpenSfM": dump("reconstruction.json", OPENSFM),
    "Meshroom": dump("cameras.sfm", MESHROOM),
    "PandaSet": dump(
        "poses.json",
        [
            {"position": dict(zip("xyz", p, strict=True)), "heading": dict(zip("xyzw", q, strict=True))}
            for p, q in zip(P.tolist(), Q.tolist(), strict=True)
        ],
    ),
    "ScanNet++": dump(
        "pose_intrinsic_imu.json",
        {
            f"frame_{k:06d}": {"timestamp": k / 10, "pose": np.eye(4).tolist(), "aligned_pose": T[k].tolist()}
            for k in range(COUNT)
        },
    ),
    "nuScenes": dump(
        "ego_pose.json",
        [
            {
                "translation": P[k].tolist(),
                "rotation": np.roll(Q[k], 1).tolist(),
                "timestamp": 1_532_402_927_000_000 + 100_000 * k,
            }
            for k in range(COUNT)
        ],
    ),
    "Metashape": lambda f: write_metashape(f / "cameras.xml"),
    "VGGT": lambda f: write_npz(f / "predictions.npz"),
    "npy of 4x4": save("poses.npy", T),
    "npy of 3x4": save("poses.npy", T[:, :3]),
    "npy of x y z and quaternion": save("poses.npy", np.column_stack([P, Q])),
    "npy with times": save("poses.npy", np.column_stack([np.arange(COUNT) / 10, P, Q])),
    "ROS": dump(
        "poses.json",
        [
            {
                "header": {"stamp": {"secs": 1_532_402_927 + k // 10, "nsecs": 100_000_000 * (k % 10)}},
                "pose": {
                    "position": dict(zip("xyz", P[k], strict=True)),
                    "orientation": dict(zip("xyzw", Q[k], strict=True)),
                },
            }
            for k in range(COUNT)
        ],
    ),
    "LLFF": save("poses_bounds.npy", np.column_stack([LLFF.reshape(COUNT, 15), np.ones((COUNT, 2))])),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_path_in_every_format(kind: str, tmp_path: Path) -> None:
    read = read_trajectory(KINDS[kind](tmp_path))
    np.testing.assert_allclose(read.T_world_camera, T, atol=1e-6)
    assert read.notes
    assert (read.times_s is not None) == (kind in ("ARKitScenes", "ScanNet++", "nuScenes", "npy with times", "ROS"))


def test_rows_without_a_pose_leave_a_gap(tmp_path: Path) -> None:
    rows = T[:, :3].reshape(COUNT, 12).copy()
    rows[4:6] = -np.inf
    read = read_trajectory(write_rows(tmp_path / "a.txt", rows))
    assert read.frame_numbers.tolist() == [0, 1, 2, 3, *range(6, COUNT)]
    np.testing.assert_allclose(read.T_world_camera, np.delete(T, [4, 5], axis=0), atol=1e-6)
    assert "2 of 12 rows" in read.notes[-1]


def test_a_file_without_a_pose_leaves_a_gap(tmp_path: Path) -> None:
    write_folder(tmp_path)
    np.savetxt(tmp_path / "3.txt", np.full((4, 4), -np.inf))
    assert read_trajectory(tmp_path).frame_numbers.tolist() == [0, 1, 2, *range(4, COUNT)]


def test_seven_numbers_without_a_quaternion_are_refused(tmp_path: Path) -> None:
    rows = np.column_stack([np.arange(COUNT), P, 0.1 * P])
    with pytest.raises(DataError, match="7 columns"):
        read_trajectory(write_rows(tmp_path / "a.txt", rows))
    with pytest.raises(DataError) as refused:
        read_trajectory(write_rows(tmp_path / "b.txt", rows[:, :3]), is_reference=True)
    assert "--reference-format" not in str(refused.value.fix), "no option was given"


def test_decimal_commas(tmp_path: Path) -> None:
    rows = [" ".join(f"{value:.9f}".replace(".", ",") for value in T[k, :3].ravel()) for k in range(COUNT)]
    (tmp_path / "a.txt").write_text("\n".join(rows))
    read = read_trajectory(tmp_path / "a.txt")
    np.testing.assert_allclose(read.T_world_camera, T, atol=1e-6)
    assert "decimal points" in read.notes[-1]


def test_world_to_camera_rows_of_several_cameras(tmp_path: Path) -> None:
    """Programs such as kapture and Virtual KITTI write the poses of all cameras of a rig in one file."""
    T = np.linalg.inv(walk(4))
    q = np.roll(Rotation.from_matrix(T[:, :3, :3]).as_quat(), 1, axis=1)
    kapture, vkitti = ["# kapture format: 1.1"], ["frame cameraID r1,1 r1,2 r1,3 t1 r2,1 r2,2 r2,3 t2 0 0 0 1"]
    for k, camera in ((k, camera) for k in range(4) for camera in range(2)):
        kapture.append(", ".join(map(str, (k, f"cam{camera}", *q[k], *(T[k, :3, 3] + camera)))))
        vkitti.append(" ".join(map(str, (k, camera, *(T[k] + camera * np.eye(4, k=3)).ravel()))))
    (tmp_path / "sensors").mkdir()
    (tmp_path / "sensors" / "trajectories.txt").write_text("\n".join(kapture))
    (tmp_path / "extrinsic.txt").write_text("\n".join(vkitti))
    for path in (tmp_path, tmp_path / "extrinsic.txt"):
        read = read_trajectory(path)
        np.testing.assert_allclose(read.T_world_camera, walk(4), atol=1e-9)
        assert any("first of 2" in note for note in read.notes)


def test_poses_in_json(tmp_path: Path) -> None:
    path = tmp_path / "poses.json"
    gaussians = [{"img_name": f"{k}", "rotation": T[:3, :3].tolist(), "position": T[:3, 3].tolist()}
                 for k, T in enumerate(walk(4))]  # fmt: skip
    for content in (gaussians, {str(k): T.tolist() for k, T in enumerate(walk(4))}):
        path.write_text(json.dumps(content))
        np.testing.assert_allclose(read_trajectory(path).T_world_camera, walk(4), atol=1e-9)


def test_integers_stay_integers_and_another_clock_is_named(tmp_path: Path) -> None:
    stamps = [str(START_NS + 100 * k) for k in range(12)]  # a float in seconds holds steps of 240 ns
    path = tmp_path / "fine.csv"
    path.write_text("\n".join(rows(stamps, w_first=False, separator=",")))
    read = read_trajectory(path)
    assert read.times_s is not None
    assert (np.diff(read.times_s) > 0).all()
    names = "device_time,system_time,x,y,z,qx,qy,qz,qw"
    late = [
        f"{time},{float(time) + 0.12:.6f},{row.partition(',')[2]}"
        for time, row in zip(SECONDS, rows(SECONDS, w_first=False, separator=","), strict=True)
    ]
    path.write_text("\n".join([names, *late]))
    assert any("device_time; system_time differs by up to 0.12 s" in note for note in read_trajectory(path).notes)


@pytest.mark.parametrize(("step", "first", "unit"), [
    (500_000, 132697151403874938, "intervals of 100 ns"), (50_000, 1403636579763555, "microseconds"),
])  # fmt: skip
def test_units_of_times(step: int, first: int, unit: str) -> None:
    times_s, found = convert_times([str(first + step * k) for k in range(5)])
    assert found == unit
    np.testing.assert_allclose(np.diff(times_s), 0.05, atol=1e-5)


def test_degrees_become_metres_and_a_still_camera_far_from_the_origin_does_not(tmp_path: Path) -> None:
    moved_m = np.stack([np.linspace(0, 50, 20), np.linspace(0, 90, 20) ** 1.2, np.zeros(20)], axis=1)  # east, north, up
    latitude, longitude = 49.0 + moved_m[:, 1] / 111_218.0, 8.4 + moved_m[:, 0] / 73_172.0
    rows_ = [
        f"{k * 0.5} {a:.9f} {o:.9f} 116.0 0 0 0 1" for k, (a, o) in enumerate(zip(latitude, longitude, strict=True))
    ]
    path = tmp_path / "gps.txt"
    path.write_text("\n".join(rows_))
    read = read_trajectory(path)
    np.testing.assert_allclose(read.T_world_camera[:, :3, 3], moved_m, rtol=2e-3, atol=1e-2)  # the earth is bent
    assert any("degrees" in note for note in read.notes)
    path.write_text("\n".join(f"{k * 0.1} {49 + k * 1e-7} {8.4 - k * 1e-7} 1.5 0 0 0 1" for k in range(20)))
    assert read_trajectory(path).T_world_camera[0, 0, 3] == 49
    path.write_text("\n".join(f"{k * 0.05} {0.88 + k * 1e-4} {2.16 - k * 1e-4} 0.95 0 0 0 1" for k in range(60)))
    assert read_trajectory(path).T_world_camera[0, 0, 3] == 0.88  # a drone that hovers, in metres


def test_the_binary_model_of_a_rig_gives_the_poses_of_its_first_camera(tmp_path: Path) -> None:
    T = np.concatenate([walk(3), walk(3) @ np.diag([1.0, 1, 1, 1])])
    T[3:, 0, 3] += 1
    model = Reconstruction(
        names=tuple(f"cam{side}/{row}.png" for side in (0, 1) for row in range(3)),
        T_camera_world=np.linalg.inv(T),
        K=np.tile(np.array([[500.0, 0, 320], [0, 500, 240], [0, 0, 1]]), (6, 1, 1)),
        distortion=np.zeros((6, 4)),
        sizes=np.tile(np.array([640, 480]), (6, 1)),
        format="colmap",
        path=tmp_path,
    )
    write_colmap(model, tmp_path / "sparse")
    text = read_trajectory(tmp_path / "sparse")
    np.testing.assert_allclose(text.T_world_camera, walk(3), atol=1e-6)
    assert any("2 cameras" in note for note in text.notes)


def test_a_folder_of_polycam(tmp_path: Path) -> None:
    axes, folder = np.diag([1.0, -1, -1, 1]), tmp_path / "keyframes" / "corrected_cameras"
    folder.mkdir(parents=True)
    folder.with_name("cameras").mkdir()
    for row, T in enumerate(walk(3) @ axes):
        keys = {f"t_{r}{c}": T[r, c] for r in range(3) for c in range(4)}
        camera = {"fx": 500, "fy": 500, "cx": 320, "cy": 240, "width": 640, "height": 480}
        (folder / f"{row}.json").write_text(json.dumps({**keys, **camera}))
    read = read_trajectory(tmp_path)
    np.testing.assert_allclose(read.T_world_camera, walk(3), atol=1e-9)
    assert any("corrected_images" in note for note in read.notes)
