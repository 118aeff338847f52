"""KITTI rows with a frame number in front, as kitti-odom-eval writes them, and one alignment in every command."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from stadia.core.errors import DataError
from stadia.evaluation.io.trajectory_files import (
    Trajectory,
    associate_trajectories,
    write_kitti_trajectory,
    write_tum_trajectory,
)
from stadia.evaluation.io.trajectory_formats import read_kitti_trajectory
from stadia.evaluation.recording_scores import score_trajectory

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


def note_frames(frames: list[int], reference: list[int] | None = None) -> list[str]:
    """Return the notes on frames of an estimate with these, against a reference with these or with rows 0 to 49."""
    T = curve(50)
    estimated = Trajectory(T[np.array(frames) % 50], name="est.txt", frames=np.array(frames))
    known = Trajectory(T, name="ref.txt")
    if reference is not None:
        known = Trajectory(T[np.array(reference) % 50], name="ref.txt", frames=np.array(reference))
    return [note for note in score_trajectory(estimated, known).notes if "frames" in note or "poses" in note]


def test_only_gaps_between_frames_are_gaps() -> None:
    numbered = list(range(1000, 1030))
    assert note_frames(numbered, numbered) == [], "their numbers start at 1000"
    beyond = "30 of 50 poses of ref.txt are scored: it has more before frame 10 or after frame 39"
    assert note_frames(list(range(10, 40))) == [beyond]
    gaps, beyond = note_frames([10, 11, 14])
    assert gaps == "3 of 5 frames have a pose in both: errors between frames span the gaps"
    assert beyond.startswith("3 of 50 poses of ref.txt are scored: it has more before frame 10 or after frame 14")


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


def test_another_scale_is_a_note() -> None:
    """A path of twice the length has a large error by SE(3), and none by sim(3)."""
    poses = curve(10)
    twice = poses.copy()
    twice[:, :3, 3] *= 2
    (note,) = (note for note in score_trajectory(Trajectory(twice), Trajectory(poses)).notes if "as long" in note)
    assert note.startswith(
        "the estimate is 2 times as long as the reference (100% too long); with its scale fitted, too (sim3), ATE is "
    )
    notes = score_trajectory(Trajectory(poses), Trajectory(poses)).notes
    assert not any("as long" in note for note in notes)


def test_the_rounding_of_equal_paths_is_no_error() -> None:
    poses = np.linalg.inv(np.linalg.inv(curve(40)))
    metrics = score_trajectory(Trajectory(poses), Trajectory(curve(40))).metrics
    assert metrics == {name: None if value is None else 0 for name, value in metrics.items()}
    assert metrics["rpe_trans_m"] == 0
