"""TableWorld on disk and back: equal bytes for equal seeds, the command, and invalid labels that are refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from tests.processes import leave_stale_folder
from tests.refusals import refuses
from typer.testing import CliRunner

from stadia.cli.main import app
from stadia.core.errors import DataError
from stadia.objectpose.config import TABLEWORLD_CLASSES, TABLEWORLD_TINY
from stadia.objectpose.data.object_folder import ObjectFolder
from stadia.objectpose.data.object_samples import ObjectSamples
from stadia.objectpose.table_world import TableRenderer, derive_table_seed, make_table, write_tableworld

SMALL = TABLEWORLD_TINY.model_copy(update={"train": 2, "val": 1, "test": 1, "height": 48, "width": 64})


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tableworld(SMALL, tmp_path_factory.mktemp("tables") / "data", seed=5, workers=2).parent


@pytest.fixture
def dataset(written: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    for name, data in contents(written).items():
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / name).write_bytes(data)
    return tmp_path / "data"


@pytest.mark.slow
def test_reading_returns_what_was_rendered(written: Path) -> None:
    images = ObjectFolder.open(written, "train")
    assert (len(images), images.classes, images.name) == (4, TABLEWORLD_CLASSES, "data/train")
    renderer = TableRenderer(make_table(derive_table_seed(5, "train", 1), SMALL), SMALL)
    view = renderer.render(1)
    np.testing.assert_array_equal(images.image(3), view.image)
    np.testing.assert_array_equal(images.depth_m(3), view.depth_m)
    np.testing.assert_array_equal(images.camera(3).K.numpy(), view.K)
    labels = images.labels(3)
    np.testing.assert_array_equal(labels.instance, view.instance)
    for label, one in zip(labels.objects, view.objects, strict=True):
        np.testing.assert_allclose(label.T_camera_object, one.T_camera_object, atol=1e-12)
        np.testing.assert_array_equal(label.size_m, one.placed.shape.size_m)
        assert TABLEWORLD_CLASSES[label.class_id] == one.placed.shape.kind
        assert (label.visible_px, label.full_px, label.symmetry) == (one.visible_px, one.full_px, one.symmetry)


def test_written_tables_load_as_samples(written: Path) -> None:
    samples = ObjectSamples([ObjectFolder.open(written, "train")], height=32, width=64)
    batch = samples.unpack(samples.stack([samples[0], samples[3]]))
    assert batch.targets.known.sum() > 2
    assert (batch.targets.class_map > 0).equal(batch.targets.instance > 0)


def test_the_same_seed_gives_the_same_bytes_whatever_the_workers(written: Path, tmp_path: Path) -> None:
    write_tableworld(SMALL, tmp_path / "one", seed=5, workers=1)
    assert contents(tmp_path / "one") == contents(written)


def test_an_interrupted_rendering_resumes(dataset: Path, written: Path) -> None:
    shutil.rmtree(dataset / "val-00000")
    leave_stale_folder(dataset / "val-00000")
    done: list[int] = []
    write_tableworld(SMALL, dataset, seed=5, advance=done.append)
    assert sum(done) == 8
    assert contents(dataset) == contents(written)


def test_a_table_of_other_settings_is_not_overwritten(dataset: Path) -> None:
    with refuses(DataError, where="train-00000"):
        write_tableworld(SMALL.model_copy(update={"noise": False}), dataset, seed=5)


def test_the_command_renders(tmp_path: Path) -> None:
    words = [
        "data",
        "tableworld",
        "--preset",
        "tiny",
        "--tables",
        "1,0,0",
        "--out",
        str(tmp_path / "out"),
        "views=1",
        "height=32",
        "width=48",
    ]
    result = CliRunner().invoke(app, words, catch_exceptions=False)
    assert result.exit_code == 0
    assert "dataset.json" in result.output
    assert cv2.imread(str(tmp_path / "out" / "preview.png")).shape[0] == 32
    assert len(ObjectFolder.open(tmp_path / "out", "train")) == 1
    assert len(ObjectFolder.open(tmp_path / "out", "test")) == 0


def objects(scene: Any) -> Any:
    return scene["images"][0]["objects"]


def test_invalid_masks_are_refused(dataset: Path) -> None:
    path = dataset / "train-00000" / "instance" / "000.png"
    cv2.imwrite(str(path), np.zeros((48, 64, 3), np.uint8))
    with refuses(DataError, where="000.png", expected="PNG"):
        ObjectFolder.open(dataset, "train").labels(0)
    path.unlink()
    with refuses(DataError, where="000.png"):
        ObjectFolder.open(dataset, "train").labels(0)


def test_a_folder_of_another_kind_is_refused(dataset: Path) -> None:
    path = dataset / "dataset.json"
    description = json.loads(path.read_text())
    path.write_text(json.dumps(description | {"format": "stadia"}))
    with refuses(DataError, where="dataset.json"):
        ObjectFolder.open(dataset, "train")
    path.write_text(json.dumps(description | {"splits": {"train": ["../elsewhere"]}}))
    with refuses(DataError, where="../elsewhere"):
        ObjectFolder.open(dataset, "train")
    path.write_text(json.dumps(description | {"classes": ["cup", "bowl"]}))
    with refuses(DataError, where="dataset.json", expected="background"):
        ObjectFolder.open(dataset, "train")
