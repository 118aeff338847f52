"""Recall by the distance of model points: the truth scores 100 %, what is a little off still does, what is wrong or
missing does not.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from rich.console import Console
from tests.objectpose.data.bop_truth import ground_truth_results

from stadia.cli.main import run as run_command_line
from stadia.core.config import resolve_config
from stadia.core.types import Camera
from stadia.io.run_facts import UNKNOWN_FACTS, write_run_facts
from stadia.objectpose.config import ObjectPoseConfig
from stadia.objectpose.data.bop import BopImages, read_results, to_boxes, write_results
from stadia.objectpose.data.object_data import training_image_facts
from stadia.objectpose.data.object_labels import EstimatedBox
from stadia.objectpose.recipe import FoundObjects, ObjectPoseRecipe
from stadia.objectpose.scores import add_recall, boxes_to_objects, score_estimates
from stadia.training.loop.checkpoint import CheckpointHeader, write_checkpoint

Found = list[list[EstimatedBox]]


def truth(images: BopImages) -> Found:
    return to_boxes(ground_truth_results(images), images)


def of_classes(found: dict[str, Any]) -> dict[str, float]:
    return {name: scores["add_recall"] for name, scores in found["class"].items()}


def changed(found: Found, T: NDArray[np.float64], *, first: bool = False) -> Found:
    """Every box moved in its own frame; or in the camera's, `first`."""
    return [
        [
            (replace(box, T_camera_object=T @ box.T_camera_object if first else box.T_camera_object @ T), s)
            for box, s in of
        ]
        for of in found
    ]


def shift(x: float) -> NDArray[np.float64]:
    T = np.eye(4)
    T[0, 3] = x
    return T


def test_ground_truth_csv_has_full_recall(bop: Path, tmp_path: Path) -> None:
    images = BopImages.open(bop)
    write_results(tmp_path / "truth.csv", ground_truth_results(images))
    found = add_recall(images, to_boxes(read_results(tmp_path / "truth.csv"), images))
    assert (found["targets"], found["add_recall"]) == (3, 1), "image 7 is no target"
    assert found["add_median_mm"] == pytest.approx(0, abs=1e-6)
    assert of_classes(found) == {"obj_000001": 1, "obj_000002": 1, "obj_000005": 1}


def test_limit_is_a_tenth_of_diameter(bop: Path) -> None:
    images = BopImages.open(bop)
    smallest, largest = (edge(model.diameter_m for model in images.models.values()) for edge in (min, max))
    assert add_recall(images, changed(truth(images), shift(0.0999 * smallest), first=True))["add_recall"] == 1
    assert add_recall(images, changed(truth(images), shift(0.15 * largest), first=True))["add_recall"] == 0
    found = add_recall(images, changed(truth(images), shift(0.1001 * smallest), first=True))
    assert of_classes(found) == {"obj_000001": 1, "obj_000002": 1, "obj_000005": 0}, "the can is the smallest"


def test_half_turn_is_wrong_except_for_symmetric_objects(bop: Path) -> None:
    images = BopImages.open(bop)
    found = add_recall(images, changed(truth(images), np.diag([-1.0, -1.0, 1.0, 1.0])))  # the symmetry of object 2
    assert (of_classes(found)["obj_000001"], of_classes(found)["obj_000002"]) == (0, 1)
    assert found["add_median_mm"] < 80


def test_the_command_scores_a_csv(bop: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write_results(tmp_path / "truth.csv", ground_truth_results(BopImages.open(bop)))
    with pytest.raises(SystemExit, match="0"):
        run_command_line(["evaluate", "--objects", str(tmp_path / "truth.csv"), "--reference", str(bop), "--json"])
    scores = json.loads(capfd.readouterr().out)
    assert (scores["objects"], scores["targets"], scores["add_recall"], scores["ap_iou75"], scores["ap_5deg_2cm"]) == (
        3,
        3,
        1,
        1,
        1,
    )
    assert {one["add_recall"] for one in scores["class"].values()} == {1}


def test_objects_without_target_are_neither_missed_nor_false_alarms(bop: Path) -> None:
    """Of image 3 the first box and the can, one of each, with a second can that is smaller; of image 7 nothing."""
    targets = [{"scene_id": 1, "im_id": 3, "obj_id": number, "inst_count": 1} for number in (1, 5)]
    (bop / "test_targets_bop19.json").write_text(json.dumps(targets))
    file = bop / "test" / "000001" / "scene_gt.json"
    poses = json.loads(file.read_text())
    poses["3"].insert(0, {**poses["3"][2], "cam_t_m2c": [300, 60, 900]})
    file.write_text(json.dumps(poses))
    images = BopImages.open(bop)
    every = truth(images)
    assert [len(of) for of in every] == [4, 1]
    can = images.classes.index("obj_000005")
    large = min((box.T_camera_object[2, 3] for box, _ in every[0] if box.class_id == can))
    wanted = [box.class_id == 1 or box.T_camera_object[2, 3] == large for box, _ in every[0]]
    alone = [[one for one, it_is in zip(every[0], wanted, strict=True) if it_is], []]
    for found in (alone, every):
        scores = score_estimates(images, found)
        assert (scores["images"], scores["objects"], scores["estimates"], scores["targets"]) == (1, 2, 2, 2)
        assert {value for name, value in scores.items() if name.startswith("ap_")} | {scores["add_recall"]} == {1}
        assert list(scores["class"]) == ["obj_000001", "obj_000005"]
    lost = score_estimates(images, [[one for one, it_is in zip(every[0], wanted, strict=True) if not it_is], every[1]])
    assert (lost["objects"], lost["estimates"], lost["ap_iou25"]) == (2, 0, 0)
    astray = [(replace(box, T_camera_object=shift(0.2) @ box.T_camera_object), 2.0) for box, _ in alone[0]]
    assert score_estimates(images, [[*alone[0], *astray], []])["ap_iou50"] == 0.5, (
        "a false alarm of a requested object still counts"
    )
    (bop / "test_targets_bop19.json").unlink()
    assert score_estimates(BopImages.open(bop), alone)["objects"] == 5


@pytest.mark.real
def test_the_truth_of_linemod_occluded_is_100_percent_and_shifted_by_3_cm_it_is_not(real_data: Path) -> None:
    images = BopImages.open(real_data / "bop" / "lmo").part(range(2))
    found = add_recall(images, truth(images))
    assert (found["add_recall"], found["targets"]) == (
        1,
        sum(len(images.requested_counts(index)) for index in range(2)),
    )
    moved = of_classes(add_recall(images, changed(truth(images), shift(0.03), first=True)))
    symmetric = {"obj_000010", "obj_000011"}  # whose nearest points are nearer
    assert {moved[name] for name in moved.keys() - symmetric} == {0}


@pytest.fixture
def run(bop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Trained on image 3, image 7 held out; it finds every object, 12 mm too far right: a tenth of object 1's diameter
    is 12.3.
    """
    words = [
        "data.height=64",
        "data.width=96",
        "model.encoder=test_efficientnet",
        "model.pretrained=false",
        "data.train_split=test",
    ]
    words += ["model.pyramid_channels=4", "model.segmentation_channels=4", "data.val_split=null", "data.val_share=0.5"]
    config, data = ObjectPoseRecipe.prepare(
        resolve_config(ObjectPoseConfig, {"data": {"path": str(bop)}}, words), Console()
    )
    recipe, folder = ObjectPoseRecipe(config), tmp_path / "runs" / "2026-01-01-000000-objects"
    header = CheckpointHeader(
        recipe="objectpose", config=config.model_dump(mode="json"), kind="weights", step=7, epoch=0, metrics={}
    )
    write_checkpoint(folder / "checkpoints" / "best.safetensors", header, {"state_dict": recipe.state_dict()})
    write_run_facts(folder, replace(UNKNOWN_FACTS, data=training_image_facts(data.images["train"])))
    monkeypatch.setattr(ObjectPoseRecipe, "find", lambda self, image, camera: _shifted(bop, image, camera))
    return folder


def _shifted(bop: Path, image: torch.Tensor, camera: Camera) -> FoundObjects:
    images = BopImages.open(bop)
    boxes = [box for index in ((0, 1) if len(image) == 2 else (1,)) for box in images.boxes(index)]
    objects = boxes_to_objects(boxes, np.linspace(0.9, 0.5, len(boxes)).tolist())
    objects.T_camera_object[:, 0, 3] += 0.012
    picture = torch.tensor([0] * 3 + [1] if len(image) == 2 else [0])
    nothing = torch.zeros(len(image), 64, 96, dtype=torch.long)
    return FoundObjects(nothing, nothing, picture, objects, picture >= 0)


def command(capfd: pytest.CaptureFixture[str], *words: object) -> dict[str, Any]:
    with pytest.raises(SystemExit) as ending:
        run_command_line([*(str(word) for word in words), "--json"])
    out, err = capfd.readouterr()
    assert not ending.value.code, err
    found: dict[str, Any] = json.loads(out)
    return found


def flat(scores: dict[str, Any]) -> dict[str, Any]:
    return {
        key: value for key, value in scores.items() if not isinstance(value, dict) and key not in ("split", "notes")
    }
