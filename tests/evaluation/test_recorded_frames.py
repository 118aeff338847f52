"""Paths of stadia that leave out frames are scored by the record beside them: by places among images, and by numbers of
a video's frames.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from stadia.evaluation.io.trajectory_files import Trajectory, write_kitti_trajectory, write_tum_trajectory

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
    for names in (["x"] * 9, ["3"] * 9, frames[:-1], "000001", [[]] * 9, None):
        (tmp_path / record).write_text(json.dumps({key: names, "has_frame_numbers": True}))
        mistake(stadia(*words), "found 9 poses")
    (tmp_path / record).write_text(json.dumps({key: frames, "has_frame_numbers": True}))
    code, out, err = stadia(*words)
    assert (code, json.loads(out)["ate_rmse_m"]) == (0, pytest.approx(0, abs=1e-6))
    assert f"{record} names the frames of the path: 9, from 0 to 18" in err
    write_tum_trajectory(tmp_path / "ref.txt", Trajectory(bend(20), np.arange(20) / 100))
    mistake(stadia(*words, "--reference-format", "tum"), "found 9 poses", "write the time of each row in front of it")


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
