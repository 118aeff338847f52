"""Score files: none is lost, and none takes the name of another."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from stadia.evaluation.io.trajectory_files import Trajectory
from stadia.evaluation.recording_scores import RecordingScores, score_trajectory, write_score


def test_a_score_is_never_lost(tmp_path: Path) -> None:
    path = tmp_path / "val.json"
    for value in (1, 1, 2, 3, 3):
        write_score(path, {"abs_rel": value})
    kept = {file.name: json.loads(file.read_text())["abs_rel"] for file in tmp_path.iterdir()}
    assert kept == {"val.json": 3, "val.earlier-1.json": 1, "val.earlier-2.json": 2}


def test_each_path_has_a_file_of_its_own(tmp_path: Path) -> None:
    """Neither do two recordings share one, nor is an earlier score of the depth taken for the path of a recording
    called "1".
    """
    write_score(tmp_path / "val.json", {"abs_rel": 1})
    write_score(tmp_path / "val.json", {"abs_rel": 2})
    paths = {}
    for length, name in enumerate(("a/b", "a-b", "1"), start=1):
        poses = np.tile(np.eye(4), (3, 1, 1))
        poses[:, 2, 3] = np.linspace(0, length, 3)
        paths[name] = score_trajectory(Trajectory(poses), Trajectory(poses))
    written = RecordingScores(None, paths).write(tmp_path, "val", {})
    assert [path.name for path in written] == ["val-a-b.json", "val-a-b-2.json", "val-1.json"]
    assert [json.loads(path.read_text())["path_m"] for path in written] == [1, 2, 3]
    assert json.loads((tmp_path / "val.earlier-1.json").read_text()) == {"format": "stadia-scores", "abs_rel": 1}
