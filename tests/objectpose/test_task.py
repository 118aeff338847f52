"""`stadia predict`, `stadia evaluate` and `stadia check` of objects: what they draw, write, score, and refuse."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from rich.console import Console

from stadia.core.config import resolve_config
from stadia.core.types import Camera
from stadia.data.frame_preparation import Frame
from stadia.geometry import poses as se3
from stadia.io.run_facts import UNKNOWN_FACTS, write_run_facts
from stadia.objectpose import config as presets
from stadia.objectpose.boxes import Symmetry
from stadia.objectpose.config import ObjectPoseConfig
from stadia.objectpose.data.bop import read_results
from stadia.objectpose.data.object_folder import ObjectFolder
from stadia.objectpose.metrics import PosedObjects
from stadia.objectpose.predictions import ObjectPredictions, draw_objects
from stadia.objectpose.recipe import FoundObjects, ObjectPoseRecipe
from stadia.objectpose.scores import boxes_to_objects
from stadia.objectpose.table_world import write_tableworld
from stadia.objectpose.task import list_scales
from stadia.training.loop.checkpoint import CheckpointHeader, write_checkpoint

HEIGHT, WIDTH = 64, 96
Stadia = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four tables, one side each, twice the size of the network's images."""
    sizes = {"train": 2, "val": 1, "test": 1, "views": 1, "height": 2 * HEIGHT, "width": 2 * WIDTH, "supersampling": 1}
    return write_tableworld(
        presets.TABLEWORLD_TINY.model_copy(update=sizes), tmp_path_factory.mktemp("tables") / "tiny", workers=1
    ).parent


@pytest.fixture
def run(tables: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run's folder whose network is untrained, but finds the objects of the test table, one centimetre too far to the
    right.
    """
    words = f"data.height={HEIGHT} data.width={WIDTH} model.encoder=test_efficientnet model.pretrained=false".split()
    words += ["model.pyramid_channels=4", "model.segmentation_channels=4", f"data.path={json.dumps(str(tables))}"]
    config, _ = ObjectPoseRecipe.prepare(resolve_config(ObjectPoseConfig, {}, words), Console())
    recipe, folder = ObjectPoseRecipe(config), tmp_path / "runs" / "2026-01-01-000000-objects"
    header = CheckpointHeader(
        recipe="objectpose", config=config.model_dump(mode="json"), kind="weights", step=7, epoch=0, metrics={}
    )
    write_checkpoint(folder / "checkpoints" / "best.safetensors", header, {"state_dict": recipe.state_dict()})
    write_run_facts(folder, UNKNOWN_FACTS)
    monkeypatch.setattr(ObjectPoseRecipe, "find", lambda self, image, camera: _almost_true(tables, image, camera))
    return folder


def _almost_true(tables: Path, image: torch.Tensor, camera: Camera) -> FoundObjects:
    assert WIDTH / 2 / np.tan(np.radians(30)) - 1 < float(camera.fx[0]) < WIDTH / 2 / np.tan(np.radians(24)) + 1, (
        "K of this size"
    )
    labels = ObjectFolder.open(tables, "test").labels(0)
    instance = cv2.resize(
        labels.instance.astype(np.uint16), (WIDTH, HEIGHT), interpolation=cv2.INTER_NEAREST_EXACT
    ).astype(np.int64)
    seen = [row for row in range(len(labels.objects)) if (instance == row + 1).any()]
    numbers = np.zeros(len(labels.objects) + 1, np.int64)
    numbers[[row + 1 for row in seen]] = range(1, len(seen) + 1)
    objects = [labels.objects[row] for row in seen]
    T = torch.from_numpy(np.stack([one.T_camera_object for one in objects])).float()
    T[:, 0, 3] += 0.01
    kinds = torch.tensor([one.class_id for one in objects])
    size = torch.from_numpy(np.stack([one.size_m for one in objects])).float()
    found = PosedObjects(
        kinds, T, size, Symmetry.parse(["none"] * len(objects)), torch.linspace(0.9, 0.5, len(objects))
    )
    counted = torch.from_numpy(numbers[instance])[None]
    assert image.shape == (1, 3, HEIGHT, WIDTH)
    picture = torch.zeros(len(objects), dtype=torch.long)
    return FoundObjects(
        counted, torch.cat((torch.zeros(1, dtype=torch.long), kinds))[counted], picture, found, picture == 0
    )


@pytest.mark.slow
def test_objects_in_ones_own_image(run: Path, tables: Path, tmp_path: Path, stadia: Stadia) -> None:
    images, out = ObjectFolder.open(tables, "test"), tmp_path / "out"
    code, text, err = stadia("predict", run, images.file(0), "--out", out, "data.camera.horizontal_fov_deg=55")
    assert code == 0, err
    record = json.loads((out / "objects.json").read_text())
    (entry,), labels = record["images"], images.labels(0)
    assert f"{len(entry['objects'])} objects in 1 image" in text
    assert record["classes"] == list(presets.TABLEWORLD_CLASSES)
    true = {images.classes[one.class_id] for one in labels.objects}
    assert {one["class"] for one in entry["objects"]} <= true
    first = entry["objects"][0]
    assert np.linalg.norm(first["quaternion_wxyz"]) == pytest.approx(1)
    assert min(abs(first["t_camera_object_m"][0] - 0.01 - one.T_camera_object[0, 3]) for one in labels.objects) < 1e-6
    mask = cv2.imread(str(out / entry["mask"]), cv2.IMREAD_UNCHANGED)
    assert mask.shape == (2 * HEIGHT, 2 * WIDTH)
    assert [int((mask == n + 1).sum()) for n in range(len(entry["objects"]))] == [
        one["mask_px"] for one in entry["objects"]
    ]
    drawn = cv2.imread(str(next((out / "drawn").iterdir())))[..., ::-1]
    assert (drawn != images.image(0)).any(-1).mean() > 0.02
    rows = read_results(out / "bop.csv")
    assert [row.score for row in rows] == pytest.approx([one["score"] for one in entry["objects"]])
    again = stadia("predict", run, images.file(0), "--out", out, "data.camera.horizontal_fov_deg=55")
    assert again[0] == 2
    assert "files in it" in again[2]


@pytest.mark.slow
def test_a_labeled_set_is_scored_and_its_worst_images_drawn(run: Path, tables: Path, stadia: Stadia) -> None:
    code, out, err = stadia("evaluate", run, tables, "--json")
    assert code == 0, err
    scores = json.loads(out)
    assert (scores["split"], scores["images"], scores["recall"]) == ("test", 1, 1)
    assert scores["translation_error_cm_median"] == pytest.approx(1, abs=1e-3)
    assert scores["rotation_error_deg"] < 0.1
    assert scores["ap_5deg_2cm"] == 1
    assert sum(one["objects"] for one in scores["class"].values()) == scores["objects"]
    kept = json.loads((run / "scores" / "tiny-test.json").read_text())
    assert len(kept["per_object"]) == scores["objects"]
    assert all(one["name"].startswith("test-00000/000, ") and not one["missed"] for one in kept["per_object"])
    drawn = cv2.imread(str(run / "predictions" / "tiny-test" / "worst" / "drawn" / "test-00000-000.png"))
    assert drawn.shape == (4 * HEIGHT, 2 * WIDTH, 3)
    image = ObjectFolder.open(tables, "test").image(0)[..., ::-1]
    assert (drawn[2 * HEIGHT :] != image).any(-1).mean() > 0.02, "the true boxes, below those found"
    assert stadia("evaluate", run, tables, "--json")[0] == 0, "a second time"


def _nothing(frame: Frame) -> ObjectPredictions:
    return ObjectPredictions(
        frame.name, frame.image, frame.K, np.zeros(frame.image.shape[:2], np.int64), boxes_to_objects([])
    )


def test_a_box_is_drawn_where_its_corners_are() -> None:
    """A metre's cube two metres away, front on: its front is seen at a scale of 100 / 1.5, the back at 100 / 2.5."""
    T = se3.from_rotation_translation(torch.eye(3), torch.tensor([0.0, 0, 2]))[None]
    cube = PosedObjects(torch.tensor([1]), T, torch.ones(1, 3), Symmetry.parse(["none"]), torch.ones(1))
    K = np.array([[100.0, 0, 60], [0, 100, 50], [0, 0, 1]])
    drawn = draw_objects(np.zeros((101, 121, 3), np.uint8), K, cube).any(-1)
    rows, columns = drawn.nonzero()
    assert (columns.min(), columns.max()) == pytest.approx((60 - 33.3, 60 + 33.3), abs=2)
    assert (rows.min(), rows.max()) == pytest.approx((50 - 33.3, 50 + 33.3), abs=2)
    assert drawn[30, 60:80].all(), "the back's upper edge"
    behind = cube.T_camera_object.clone()
    behind[:, 2, 3] = -2
    assert not draw_objects(
        np.zeros((101, 121, 3), np.uint8),
        K,
        PosedObjects(cube.class_id, behind, cube.size_m, cube.symmetry, cube.score),
    ).any()


@dataclass(frozen=True)
class OneBox:
    """Data with one object, 0.8 m away."""

    def __len__(self) -> int:
        return 1

    def boxes(self, index: int) -> list[SimpleNamespace]:
        T = np.eye(4)
        T[2, 3] = 0.8
        return [SimpleNamespace(T_camera_object=T)]


def test_estimates_of_a_larger_mesh_are_farther_away() -> None:
    """FoundationPose 380: a mesh ten times as large gives right rotations and ten times the translation."""
    T = np.eye(4)
    T[2, 3] = 8
    rows = [SimpleNamespace(T_camera_model=T)]
    ((what, (fix, change)),) = list_scales(OneBox(), rows).items()  # type: ignore[arg-type]
    assert "a mesh 10 times as large" in what
    assert fix == "multiply t by 0.1"
    assert change(T)[2, 3] == pytest.approx(0.8)
    T[2, 3] = 0.8
    assert list_scales(OneBox(), rows) == {}  # type: ignore[arg-type]
