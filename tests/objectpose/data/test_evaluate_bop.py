"""A run on a BOP data set: the csv that it writes of held-out images is scored by `--objects` with the figures that it
printed.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from stadia.cli.main import run as run_command_line
from stadia.core.config import resolve_config
from stadia.core.types import Camera
from stadia.files.run_facts import UNKNOWN_FACTS, write_run_facts
from stadia.objectpose.config import ObjectPoseConfig
from stadia.objectpose.data.bop import BopImages
from stadia.objectpose.data.object_data import training_image_facts
from stadia.objectpose.recipe import FoundObjects, ObjectPoseRecipe
from stadia.objectpose.scores import boxes_to_objects
from stadia.training.checkpoint import CheckpointHeader, write_checkpoint


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


@pytest.mark.slow
def test_the_csv_of_held_out_images_is_scored_on_these(run: Path, bop: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (bop / "test_targets_bop19.json").unlink()
    printed = command(capfd, "evaluate", run, bop, "--held-out")
    csv = run / "predictions" / "tiny-test-held-out" / "bop.csv"
    assert (printed["images"], printed["objects"], printed["split"]) == (1, 1, "test")
    of_csv = printed["bop.csv"]["as --objects scores it"]
    assert (of_csv["targets"], of_csv["add_recall"], of_csv["estimates"]) == (1, 1, 1)
    assert of_csv["add_median_mm"] == pytest.approx(12)
    again = command(capfd, "evaluate", "--objects", csv, "--reference", bop, "--held-out-of", run)
    assert flat(again) == of_csv
    assert any("1 of 2 images of 'test'" in note for note in again["notes"])
    whole = command(capfd, "evaluate", "--objects", csv, "--reference", bop)
    assert (whole["objects"], whole["add_recall"]) == (4, 0.25), "without it, what the other image shows is missed"


@pytest.mark.slow
def test_rows_of_other_images_are_left_out_and_counted(run: Path, bop: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (bop / "test_targets_bop19.json").unlink()
    printed = command(capfd, "evaluate", run, bop)
    csv = run / "predictions" / "tiny-test" / "bop.csv"
    assert (
        flat(command(capfd, "evaluate", "--objects", csv, "--reference", bop))
        == printed["bop.csv"]["as --objects scores it"]
    )
    again = command(capfd, "evaluate", "--objects", csv, "--reference", bop, "--held-out-of", run)
    assert (again["images"], again["objects"], again["estimates"]) == (1, 1, 1)
    assert "left out 3 estimates of other images" in again["notes"]


def test_benchmark_scores_cover_its_targets(run: Path, bop: Path, capfd: pytest.CaptureFixture[str]) -> None:
    printed = command(capfd, "evaluate", run, bop)
    of_csv = printed["bop.csv"]["as --objects scores it"]
    assert (printed["objects"], of_csv["objects"], of_csv["targets"]) == (4, 3, 3)
    assert of_csv["objects counted"] == "those listed in test_targets_bop19.json"
    kept = json.loads((run / "scores" / "tiny-test.json").read_text())
    assert kept["bop_csv"]["class"]["obj_000001"]["add_recall"] == 1
