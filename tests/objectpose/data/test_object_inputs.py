"""What a run of `objectpose` predicts: data sets of objects, images of another shape, one that cannot be read."""

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from rich.console import Console
from tests.refusals import refuses

from stadia.core.config import resolve_config
from stadia.core.errors import DataError
from stadia.core.types import Camera
from stadia.io.run_facts import UNKNOWN_FACTS, write_run_facts
from stadia.objectpose import config as presets
from stadia.objectpose.boxes import Symmetry
from stadia.objectpose.config import ObjectPoseConfig
from stadia.objectpose.data.bop import BopImages, read_results
from stadia.objectpose.data.object_data import open_object_inputs
from stadia.objectpose.data.open_objects import detect_object_layout, open_object_images
from stadia.objectpose.metrics import PosedObjects
from stadia.objectpose.recipe import FoundObjects, ObjectPoseRecipe
from stadia.objectpose.table_world import write_tableworld
from stadia.training.loop.checkpoint import CheckpointHeader, write_checkpoint

pytestmark = pytest.mark.slow  # its fixtures train or compile

HEIGHT, WIDTH = 64, 96
Stadia = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four tables, one side each."""
    sizes = {"train": 2, "val": 1, "test": 1, "views": 1, "height": HEIGHT, "width": WIDTH, "supersampling": 1}
    return write_tableworld(
        presets.TABLEWORLD_TINY.model_copy(update=sizes), tmp_path_factory.mktemp("tables") / "tiny", workers=1
    ).parent


@pytest.fixture
def run(tables: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run's folder whose network finds one cup in the middle of every image."""
    words = f"data.height={HEIGHT} data.width={WIDTH} model.encoder=test_efficientnet model.pretrained=false".split()
    words += ["model.pyramid_channels=4", "model.segmentation_channels=4", f"data.path={json.dumps(str(tables))}"]
    config, _ = ObjectPoseRecipe.prepare(resolve_config(ObjectPoseConfig, {}, words), Console())
    folder = tmp_path / "runs" / "2026-01-01-000000-objects"
    header = CheckpointHeader(
        recipe="objectpose", config=config.model_dump(mode="json"), kind="weights", step=7, epoch=0, metrics={}
    )
    write_checkpoint(
        folder / "checkpoints" / "best.safetensors", header, {"state_dict": ObjectPoseRecipe(config).state_dict()}
    )
    write_run_facts(folder, UNKNOWN_FACTS)
    monkeypatch.setattr(ObjectPoseRecipe, "find", _one_cup)
    return folder


def _one_cup(recipe: ObjectPoseRecipe, image: torch.Tensor, camera: Camera) -> FoundObjects:
    instance = torch.zeros(1, HEIGHT, WIDTH, dtype=torch.long)
    instance[:, HEIGHT // 4 : HEIGHT * 3 // 4, WIDTH // 4 : WIDTH * 3 // 4] = 1
    kind = presets.TABLEWORLD_CLASSES.index("cup")
    T = torch.eye(4)[None].clone()
    T[0, 2, 3] = 0.5
    cup = PosedObjects(torch.tensor([kind]), T, torch.full((1, 3), 0.1), Symmetry.parse(["none"]), torch.tensor([0.73]))
    return FoundObjects(
        instance, instance * kind, torch.zeros(1, dtype=torch.long), cup, torch.ones(1, dtype=torch.bool)
    )


def test_a_data_set_of_objects_is_predicted_with_its_cameras(
    run: Path, tables: Path, tmp_path: Path, stadia: Stadia
) -> None:
    code, text, err = stadia("predict", run, tables, "--out", tmp_path / "out")
    assert code == 0, err
    assert "1 object in 1 image of tiny/test" in text
    (entry,) = json.loads((tmp_path / "out" / "objects.json").read_text())["images"]
    scene = json.loads((tables / "test-00000" / "scene.json").read_text())
    assert np.allclose(entry["K"], scene["images"][0]["K"])
    (given,) = open_object_inputs(tables, split="train", every=2)
    assert [frame.name for frame in given.frames] == ["train-00000-000"]


def test_a_split_is_chosen_by_its_name(run: Path, tables: Path, tmp_path: Path, stadia: Stadia) -> None:
    code, _, err = stadia("predict", run, tables, "data.split=tain", "--out", tmp_path / "out")
    assert code != 0
    assert "splits train, val, test; expected a split 'tain'" in err
    code, _, err = stadia("predict", run, tables, "data.camera.focal_px=300", "--out", tmp_path / "out")
    assert code != 0
    assert "data.camera: found a value; expected no value" in err
    assert not (tmp_path / "out").exists()


@pytest.mark.real
def test_of_bop_the_csv_has_its_images_numbers(run: Path, real_data: Path, tmp_path: Path, stadia: Stadia) -> None:
    lmo = real_data / "bop" / "lmo"
    assert detect_object_layout(lmo) == "bop"
    code, text, err = stadia("predict", run, lmo, "--every", 20, "--out", tmp_path / "out")
    assert code == 0, err
    assert "of lmo/test" in text
    assert {(row.scene_id, row.im_id) for row in read_results(tmp_path / "out" / "bop.csv")} <= set(
        BopImages.open(lmo).ids
    )
    assert "the dataset has other classes than the run" in err


def test_a_wide_image_gets_margins_and_keeps_its_camera(run: Path, tmp_path: Path, stadia: Stadia) -> None:
    wide = tmp_path / "wide.png"
    cv2.imwrite(str(wide), np.full((100, 300, 3), 90, np.uint8))
    code, _, err = stadia("predict", run, wide, "--out", tmp_path / "out", "data.camera.horizontal_fov_deg=55")
    assert code == 0, err
    assert "1 image padded to the shape of the training" in err
    mask = cv2.imread(str(tmp_path / "out" / "masks" / "wide.png"), cv2.IMREAD_UNCHANGED)
    assert mask is not None
    assert mask.shape == (100, 300)
    assert mask[:, :74].max() == 0  # a quarter of the width, as it was shown
    assert mask[50, 150] == 1
    assert mask[:, 150].all()  # half of 200 rows with margins: all of the 100 that are the image's


def test_missing_split_is_refused_with_alternatives(tmp_path: Path, bop: Path) -> None:
    image = {"K": [[90, 0, 40], [0, 90, 30], [0, 0, 1]], "height": 60, "width": 80, "objects": []}
    (tmp_path / "own" / "table").mkdir(parents=True)
    (tmp_path / "own" / "table" / "scene.json").write_text(json.dumps({"images": [image]}))
    kind = {"format": "stadia-objects", "version": 1, "classes": ["background"], "splits": {"train": ["table"]}}
    (tmp_path / "own" / "dataset.json").write_text(json.dumps(kind))
    with refuses(DataError, where="own", found="val", fix="data.val_split=null"):
        open_object_images(tmp_path / "own", "val")
    with refuses(DataError, where="val", fix=("data.train_split=test", "data.val_split=null")):
        BopImages.open(bop, "val")
