"""Trajectory files: both formats round trip, poses find their partner in time, every fault is one line naming file and
row.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evo.core import sync
from evo.tools import file_interface
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from tests.refusals import refuses

from stadia.core.errors import DataError
from stadia.evaluation.recording_scores import score_trajectory
from stadia.io.records.formats import TrajectoryFormat
from stadia.io.records.poses import convert_times
from stadia.io.records.read import read_kitti_trajectory, read_trajectory
from stadia.io.records.trajectory import (
    Trajectory,
    associate_trajectories,
    write_kitti_trajectory,
    write_tum_trajectory,
)
from stadia.metrics.trajectory_metrics import PathAlignment


def poses(n: int = 30, seed: int = 0) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    T = np.tile(np.eye(4), (n, 1, 1))
    T[:, :3, :3] = Rotation.from_rotvec(rng.normal(0, 1, (n, 3))).as_matrix()
    T[:, :3, 3] = rng.normal(0, 10, (n, 3))
    return T


def one_line(error: pytest.ExceptionInfo[DataError], *words: str) -> None:
    message = str(error.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_kitti_round_trip_and_as_evo_reads_it(tmp_path: Path) -> None:
    T = poses()
    write_kitti_trajectory(tmp_path / "path.txt", Trajectory(T))
    back = read_kitti_trajectory(tmp_path / "path.txt")
    np.testing.assert_allclose(back.T_world_camera, T, atol=1e-7)
    assert back.times_s is None
    np.testing.assert_allclose(file_interface.read_kitti_poses_file(tmp_path / "path.txt").poses_se3, T, atol=1e-7)


def test_tum_round_trip_and_as_evo_reads_it(tmp_path: Path) -> None:
    T, times = poses(), 1305031102.16 + np.arange(30) / 30
    write_tum_trajectory(tmp_path / "path.txt", Trajectory(T, times))
    back = read_trajectory(tmp_path / "path.txt")
    np.testing.assert_allclose(back.T_world_camera, T, atol=1e-7)
    assert back.times_s is not None
    np.testing.assert_allclose(back.times_s, times, atol=1e-6)
    theirs = file_interface.read_tum_trajectory_file(tmp_path / "path.txt")
    np.testing.assert_allclose(theirs.poses_se3, T, atol=1e-7)


def test_rotations_come_out_orthonormal_though_files_round(tmp_path: Path) -> None:
    rows = [" ".join(f"{v:.4f}" for v in T[:3].ravel()) for T in poses()]
    (tmp_path / "rounded.txt").write_text("\n".join(rows))
    R = read_kitti_trajectory(tmp_path / "rounded.txt").T_world_camera[:, :3, :3]
    np.testing.assert_allclose(R @ R.transpose(0, 2, 1), np.tile(np.eye(3), (30, 1, 1)), atol=1e-12)


@pytest.mark.parametrize(("format", "name"), [("kitti", "trajectory.txt"), ("tum", "trajectory_tum.txt")])
def test_a_folder_of_predictions_names_its_path(format: str, name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError):
        read_trajectory(tmp_path, TrajectoryFormat(format))
    (tmp_path / name).write_text("")
    with refuses(DataError, fix=tmp_path / name):
        read_trajectory(tmp_path, TrajectoryFormat(format))


def test_association_as_evo_does_it() -> None:
    rng = np.random.default_rng(3)
    long = np.cumsum(rng.uniform(0.005, 0.02, 400))
    short = np.sort(rng.choice(long, 120, replace=False) + rng.uniform(-0.012, 0.012, 120))
    expected_short, expected_long = sync.matching_time_indices(short, long, 0.01)
    P, Q = associate_trajectories(Trajectory(poses(120), short), Trajectory(poses(400), long), 0.01)
    assert P.times_s is not None
    assert Q.times_s is not None
    one_to_one = sorted(set(zip(P.times_s, Q.times_s, strict=True)))
    theirs = set(zip(short[expected_short], long[expected_long], strict=True))
    assert set(one_to_one) <= theirs  # evo may give one pose to two; ours keeps the nearer
    assert {q for _, q in theirs} == {q for _, q in one_to_one}
    assert len(set(Q.times_s)) == len(Q)
    # and the other way round, with the longer one as the estimate
    swapped = associate_trajectories(Trajectory(poses(400), long), Trajectory(poses(120), short), 0.01)
    np.testing.assert_array_equal(swapped[0].T_world_camera, Q.T_world_camera)
    np.testing.assert_array_equal(swapped[1].times_s, P.times_s)


def test_no_overlap_in_time() -> None:
    with pytest.raises(DataError) as error:
        associate_trajectories(
            Trajectory(poses(5), np.arange(5.0), "est.txt"), Trajectory(poses(9), 100 + np.arange(9.0), "ref.txt")
        )
    one_line(error, "est.txt", "ref.txt", "0.000 to 4.000", "100.000 to 108.000")


REFERENCE_NUMBERS = [  # of evo 1.38.1, from the samples' README
    ("KITTI_00_ORB.txt", "KITTI_00_gt.txt", "kitti", "none", 7.790),
    ("KITTI_00_ORB.txt", "KITTI_00_gt.txt", "kitti", "se3", 1.303450),
    ("KITTI_00_ORB.txt", "KITTI_00_gt.txt", "kitti", "sim3", 0.937709),
    ("KITTI_00_SPTAM.txt", "KITTI_00_gt.txt", "kitti", "none", 9.224542),
    ("KITTI_00_SPTAM.txt", "KITTI_00_gt.txt", "kitti", "se3", 3.738488),
    ("KITTI_00_SPTAM.txt", "KITTI_00_gt.txt", "kitti", "sim3", 3.635294),
    ("freiburg1_xyz-rgbdslam.txt", "freiburg1_xyz-groundtruth.txt", "tum", "se3", 0.013470),
    ("fr2_desk_ORB.txt", "fr2_desk_groundtruth.txt", "tum", "sim3", 0.006123),
]


@pytest.mark.real
@pytest.mark.parametrize(("estimate", "reference", "format", "align", "ate_rmse_m"), REFERENCE_NUMBERS)
def test_reference_trajectories(
    estimate: str, reference: str, format: str, align: str, ate_rmse_m: float, real_data: Path
) -> None:
    folder, kind = real_data / "trajectories", TrajectoryFormat(format)
    score = score_trajectory(
        read_trajectory(folder / estimate, kind),
        read_trajectory(folder / reference, kind, is_reference=True),
        PathAlignment(align),
    )
    digits = 3 if ate_rmse_m == 7.790 else 6
    assert score.metrics["ate_rmse_m"] is not None
    assert round(score.metrics["ate_rmse_m"], digits) == ate_rmse_m


def test_gaps_in_time_are_noted_and_scored(tmp_path: Path) -> None:
    """Three intervals above ten medians are gaps, nine medians are none; numbers of frames count like times."""
    T, intervals = poses(30), np.full(29, 0.1)
    intervals[[4, 11, 20]], intervals[15] = (1.2, 14.25, 2), 0.9
    times_s = 1e9 + np.concatenate([[0], np.cumsum(intervals)])
    score = score_trajectory(Trajectory(T), Trajectory(T, times_s))
    assert any(note.startswith("3 gaps") and "14.2 s" in note for note in score.notes)
    assert score.gaps == (4, 11, 20)
    assert score.to_json()["path_gaps"] == [4, 11, 20]
    even = score_trajectory(Trajectory(T), Trajectory(T, np.arange(30.0)))
    assert (even.gaps, [one for one in even.notes if "gap" in one]) == ((), [])
    assert "path_gaps" not in even.to_json()
    frames = np.array([*range(15), *range(45, 60)])
    numbered = score_trajectory(Trajectory(T, frames=frames), Trajectory(poses(60)))
    assert numbered.gaps == (14,)
    assert any(one.startswith("1 gap between neighboring poses, the longest 31 frames (") for one in numbered.notes)


Stadia = Callable[..., tuple[int, str, str]]


def bend(n: int) -> NDArray[np.float64]:
    """Return (N, 4, 4) of a path whose speed and direction change, so that no shift along it fits."""
    T = np.tile(np.eye(4), (n, 1, 1))
    T[:, 2, 3] = np.arange(n) ** 1.5
    T[:, 0, 3] = np.sin(np.arange(n))
    return T


def mistake(result: tuple[int, str, str], *words: str) -> None:
    code, out, err = result
    assert (code, out) == (2, "")
    assert all(word in err.splitlines()[-1] for word in words)


@pytest.mark.parametrize(("record", "key"), [("predictions.json", "path"), ("odometry.json", "frames")])
def test_a_path_of_stadia_is_scored_by_the_frames_that_its_record_names(
    record: str, key: str, tmp_path: Path, stadia: Stadia
) -> None:
    kept = [0, 1, 4, 5, 9, 12, 13, 17, 18]
    write_kitti_trajectory(tmp_path / "est.txt", Trajectory(bend(20)[kept]))
    write_kitti_trajectory(tmp_path / "ref.txt", Trajectory(bend(20)))
    words = ("evaluate", "--trajectory", tmp_path / "est.txt", "--reference", tmp_path / "ref.txt", "--json")
    mistake(stadia(*words), "found 9 poses")
    frames = [f"{number:06d}" for number in kept]
    wrong: list[Any] = [["x"] * 9, ["3"] * 9, frames[:-1], "000001", [[]] * 9, None]
    for names in wrong:
        (tmp_path / record).write_text(json.dumps({key: names, "has_frame_numbers": True}))
        mistake(stadia(*words), "found 9 poses")
    (tmp_path / record).write_text(json.dumps({key: frames, "has_frame_numbers": True}))
    code, out, err = stadia(*words)
    assert (code, json.loads(out)["ate_rmse_m"]) == (0, pytest.approx(0, abs=1e-6))
    assert f"{record} names the frames of the path: 9, from 0 to 18" in err
    write_tum_trajectory(tmp_path / "ref.txt", Trajectory(bend(20), np.arange(20) / 100))
    mistake(stadia(*words, "--reference-format", "tum"), "found 9 poses", "times.txt")


@pytest.mark.parametrize(("record", "key"), [("predictions.json", "path"), ("odometry.json", "frames")])
@pytest.mark.parametrize("number", [lambda k: k + 1, lambda k: 5 * k], ids=["from 1", "in steps of 5"])
def test_a_name_of_an_image_file_is_no_frame_number(
    record: str, key: str, number: Callable[[int], int], tmp_path: Path, stadia: Stadia
) -> None:
    """The path lost its end; the reference has a pose for each image, which is named in another way than by it."""
    names = [f"{number(k):06d}" for k in range(20)]
    write_kitti_trajectory(tmp_path / "est.txt", Trajectory(bend(20)[:4]))
    write_kitti_trajectory(tmp_path / "ref.txt", Trajectory(bend(20)))
    words = ("evaluate", "--trajectory", tmp_path / "est.txt", "--reference", tmp_path / "ref.txt", "--json")
    (tmp_path / record).write_text(json.dumps({key: names[:4]}))
    mistake(stadia(*words), "found 4 poses")
    (tmp_path / record).write_text(json.dumps({key: names[:4], "entries": names[:-1]}))
    mistake(stadia(*words), "found 4 poses")
    (tmp_path / record).write_text(json.dumps({key: names[:4], "entries": names}))
    scores = json.loads(stadia(*words)[1])
    assert (scores["poses"], scores["ate_rmse_m"]) == (4, pytest.approx(0, abs=1e-6))
    assert f"{record} names the frames of the path: 4, from 0 to 3" in scores["notes"]


# -- rows


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


def test_integers_stay_integers(tmp_path: Path) -> None:
    """A float in seconds holds steps of 240 ns."""
    path = tmp_path / "fine.csv"
    path.write_text("\n".join(f"{1403636579763555584 + 100 * k},{k},0,0,0,0,0,1" for k in range(12)))
    times_s = read_trajectory(path).times_s
    assert times_s is not None
    assert (np.diff(times_s) > 0).all()


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
