"""Results of other programs: files that cannot be scored are refused, each with one line and its reason; hidden objects
are no alarms.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.refusals import refuses

from stadia.core.errors import DataError
from stadia.objectpose import scores as scores_module
from stadia.objectpose.data.bop import (
    RESULTS_HEADER,
    BopImages,
    BopResult,
    ground_truth_results,
    to_boxes,
    write_results,
)
from stadia.objectpose.scores import read_estimates, score_estimates

R = "1 0 0 0 1 0 0 0 1"


def csv(path: Path, *rows: str) -> Path:
    path.write_text("\n".join([RESULTS_HEADER, *rows]) + "\n")
    return path


def scaled(path: Path, by: float) -> Path:
    """The same csv with each t multiplied."""
    lines = path.read_text().splitlines()
    columns = [line.split(",") for line in lines[1:]]
    rows = [",".join([*c[:5], " ".join(str(by * float(x)) for x in c[5].split()), c[6]]) for c in columns]
    return csv(path.with_name(f"{by}.csv"), *rows)


def test_lengths_in_another_unit_are_refused(bop: Path, tmp_path: Path) -> None:
    images = BopImages.open(bop)
    write_results(tmp_path / "truth.csv", ground_truth_results(images))
    for by, names in ((1e-3, ("0.001.csv", "0.578", "1000")), (1e3, ("1000.0.csv",))):
        with refuses(DataError, names=names):
            read_estimates(images, scaled(tmp_path / "truth.csv", by))
    for by in (0.05, 1.0, 20.0):  # far worse than any estimate that is in the right unit
        assert sum(map(len, read_estimates(images, scaled(tmp_path / "truth.csv", by)))) == 4


@pytest.mark.parametrize(
    ("write", "names"),
    [
        (lambda path: path.write_bytes(b""), ("results.csv", "0")),
        (lambda path: csv(path), ("results.csv",)),
        (lambda path: path.mkdir(), ("results.csv",)),
        (lambda path: csv(path, f"1,3,1,nan,{R},0 0 500,-1"), ("2",)),
        (lambda path: csv(path, f"1,3,1,1,{R},0 0 500,nan"), ("2",)),
        (lambda path: csv(path, f"4,3,1,1,{R},0 0 500,-1"), ("results.csv", "4", "tiny/test", "1")),
        (lambda path: csv(path, f"1,8,1,1,{R},0 0 500,-1"), ("results.csv", "1", "8", "3", "7")),
        (
            lambda path: csv(path, *(f"1,3,{n},1,{R},0 0 500,-1" for n in (5, 4, 3))),
            ("results.csv", "3", "4", "obj_id", "1", "2", "5"),
        ),
    ],
)
def test_file_that_cannot_be_scored_is_named(
    bop: Path, tmp_path: Path, write: Callable[[Path], object], names: tuple[str, ...]
) -> None:
    path = tmp_path / "results.csv"
    write(path)
    with refuses(DataError, names=names):
        read_estimates(BopImages.open(bop), path)


def test_score_that_is_not_finite_is_not_written(tmp_path: Path) -> None:
    T = np.eye(4)
    T[2, 3] = 1
    with refuses(DataError, where="1"):
        write_results(tmp_path / "results.csv", [BopResult(1, 1, 1, float("nan"), T)])


def test_ground_truth_poses_score_1_with_hidden_objects(bop: Path) -> None:
    """A small copy of object 5 that object 1 hides: scene_gt.json has its pose, but no pixel shows it."""
    (bop / "test_targets_bop19.json").unlink()
    file = bop / "test" / "000001" / "scene_gt.json"
    poses = json.loads(file.read_text())
    poses["3"].append({**poses["3"][0], "obj_id": 5, "cam_t_m2c": [5, 0, 3000]})
    file.write_text(json.dumps(poses))
    images = BopImages.open(bop)
    assert [one.visible_px > 0 for one in images.labels(0).objects] == [True, True, True, False]
    every = [
        BopResult(*images.ids[index], model.obj_id, 1.0, T @ model.T_object_model)
        for index in range(len(images))
        for model, T in images.poses(index)
    ]
    scores = score_estimates(images, to_boxes(every, images))
    assert (
        scores["objects"],
        scores["estimates"],
        scores["ap_iou75"],
        scores["ap_5deg_2cm"],
        scores["add_recall"],
    ) == (4, 4, 1, 1, 1)
    twice = score_estimates(images, to_boxes(every * 2, images))
    assert (twice["objects"], twice["estimates"]) == (4, 8), "rows of the csv, and not how many objects were found"


def test_many_pairs_of_estimates_and_objects_are_refused(bop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = BopImages.open(bop)
    estimates = to_boxes(ground_truth_results(images) * 5, images)
    score_estimates(images, estimates)
    monkeypatch.setattr(scores_module, "_MAX_PAIRS", 20)
    with refuses(DataError, where="000003.png", found="15"):
        score_estimates(images, estimates)


def test_a_folder_whose_name_is_no_number_of_a_scene_is_refused(bop: Path) -> None:
    shutil.copytree(bop / "test" / "000001", bop / "test" / "0foo")
    with refuses(DataError, where="0foo"):
        BopImages.open(bop)
