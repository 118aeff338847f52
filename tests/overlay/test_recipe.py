"""The recipe `overlay` on tiny composed images: pinned curve, exact resumption, predictions and scores, refusals."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from rich.console import Console
from tests.overlay.noisy_roads import write_noisy_roads
from tests.refusals import refuses
from tests.sessions import predict_lines

from stadia import report
from stadia import training as launch
from stadia.cli.main import run as run_command_line
from stadia.core.config import resolve_config
from stadia.core.errors import ConfigError, DataError, StadiaError
from stadia.evaluation.predictions_folder import Predictions
from stadia.io.image_io import compose_image_sheet
from stadia.io.input_files import read_json
from stadia.overlay.config import OverlayConfig
from stadia.overlay.recipe import OverlayRecipe
from stadia.overlay.task import fit_network_size
from stadia.training.loop.checkpoint import Checkpoint
from stadia.training.loop.run_folder import Run

pytestmark = pytest.mark.slow  # its fixtures train or compile

PINNED_LOSSES = [0.525358, 0.517458, 0.498347]  # of the three steps of `config`, seed 0


@pytest.fixture(scope="session")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two recordings of noise over a road with depth, and three things to paste."""
    root = tmp_path_factory.mktemp("overlay")
    write_noisy_roads(root / "roads", images=4, width=32)
    for number, split in enumerate(("train", "train", "val")):
        rgba = np.zeros((20, 16, 4), np.uint8)
        rgba[3:18, 2:14] = (60 * number, 200, 90, 255)
        (root / "cut" / split).mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(root / "cut" / split / f"thing-{number}.png"), rgba)
    return root


@pytest.fixture(scope="session")
def config(sets: Path) -> OverlayConfig:
    data = {
        "backgrounds": {"path": str(sets / "roads")},
        "foregrounds": {"path": str(sets / "cut")},
        "height": 16,
        "width": 24,
    }
    data |= {"samples": 12, "val_samples": 5, "cache": {"folder": str(sets / "cache")}}
    training = {
        "max_steps": 3,
        "batch_size": 4,
        "workers": 0,
        "log_every": 1,
        "threads": 1,
        "loggers": ["csv"],
        "accelerator": "cpu",
    }
    return OverlayConfig(data=data, training={**training, "validate_every": 2}, loss={"balance_every": 2})


def changed(config: OverlayConfig, *overrides: str) -> OverlayConfig:
    return resolve_config(OverlayConfig, config.model_dump(mode="json"), overrides)


@pytest.fixture(scope="session")
def trained(config: OverlayConfig, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return launch.train(config, out=tmp_path_factory.mktemp("overlay-runs"))


def rows(run: Run, name: str) -> list[float]:
    with (run.folder / "metrics.csv").open() as file:
        return [float(row[name]) for row in csv.DictReader(file) if row[name]]


def test_the_curve_is_the_pinned_one(trained: Run) -> None:
    assert rows(trained, "train/loss") == pytest.approx(PINNED_LOSSES, rel=2e-3)


def test_scores_are_computed_from_files_with_mean_depth_baseline(trained: Run, config: OverlayConfig) -> None:
    score, baseline = (read_json(trained.folder / "scores" / f"{name}.json") for name in ("val", "val-mean-depth"))
    assert score["metrics"].keys() >= {
        "mask_iou",
        "mask_dice",
        "mask_boundary_f",
        "rmse",
        "mse",
        "abs_rel",
        "depth_and_mask_error",
    }
    assert score["metrics"]["rmse"] == pytest.approx(score["metrics"]["mse"] ** 0.5)
    assert score["images"] == len(score["per_image"]) == 5
    assert "rmse" in baseline["metrics"]
    assert "mask_iou" not in baseline["metrics"]
    predictions = Predictions.open(trained.folder / "predictions" / "val")
    assert len(predictions.files) == 5
    assert predictions.read("000000").shape == (16, 24)
    mask = cv2.imread(str(trained.folder / "predictions" / "val" / "mask" / "000000.png"), cv2.IMREAD_UNCHANGED)
    assert set(np.unique(mask)) <= {0, 255}
    page = report.build_report(trained.folder).read_text()
    assert "Mask IoU" in page
    assert "val-mean-depth" in page
    difference = read_json(trained.folder / "scores" / "val-difference.json")
    assert set(difference["metrics"]) == {"mask_iou", "mask_dice", "mask_boundary_f"}
    assert difference["metrics"]["mask_iou"] > 0.8, (
        "noise behind one color: they differ nearly everywhere, and there alone"
    )
    assert "of 255, best of 12 training images" in difference["checkpoint"]
    assert difference["label_source"] == baseline["label_source"] == "exact"


def test_resumed_it_goes_on_exactly(
    trained: Run, config: OverlayConfig, sets: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    real = OverlayRecipe.training_step

    def training_step(self: OverlayRecipe, batch: Any) -> Any:
        if self.global_step == 2:
            raise RuntimeError("power cut")
        return real(self, batch)

    monkeypatch.setattr(OverlayRecipe, "training_step", training_step)
    with pytest.raises(RuntimeError, match="power cut"):
        launch.train(config, out=tmp_path / "runs")
    monkeypatch.undo()
    elsewhere = shutil.copytree(sets / "cut", tmp_path / "moved")
    moved = changed(config, f"data.foregrounds.path={elsewhere}")
    resumed = launch.train(moved, resume=next((tmp_path / "runs").iterdir()))
    weights = [Checkpoint.open(run.checkpoints / "last.safetensors").weights() for run in (trained, resumed)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert rows(resumed, "train/weight/depth_l1") == rows(trained, "train/weight/depth_l1")


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """A composed image and its background, of another shape than the training's."""
    background = np.random.default_rng(0).integers(0, 255, (60, 50, 3), np.uint8)
    image = background.copy()
    image[20:40, 10:30] = 255
    for name, picture in (("image", image), ("background", background)):
        cv2.imwrite(str(tmp_path / f"{name}.png"), picture)
    return tmp_path / "image.png", tmp_path / "background.png"


def test_a_pair_of_images_becomes_depth_and_mask_at_its_size(
    trained: Run, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    image, background = pair
    said = predict_lines(trained.folder, image, tmp_path / "out", background=background)
    assert "depth and mask of 1 image" in said[0]
    assert cv2.imread(str(tmp_path / "out" / "mask" / "image.png"), cv2.IMREAD_UNCHANGED).shape == (60, 50)
    assert cv2.imread(str(tmp_path / "out" / "depth" / "image.png"), cv2.IMREAD_UNCHANGED).shape == (60, 50)
    predictions = Predictions.open(tmp_path / "out")
    assert predictions.read("image").shape == fit_network_size(60, 50, 16, 24) == (24, 16)
    assert (predictions.record.image_size, predictions.record.network_size) == ((60, 50), (24, 16)), (
        "as seen, not as trained"
    )
    sheet = compose_image_sheet(dict.fromkeys(("background", "image", "mask", "inverse depth"), cv2.imread(str(image))))
    assert cv2.imread(str(tmp_path / "out" / "drawn" / "image.png")).shape == sheet.shape
    with refuses(StadiaError, where="out"):
        predict_lines(trained.folder, image, tmp_path / "out", background=background)


def test_pairs_that_cannot_be_are_refused(trained: Run, pair: tuple[Path, Path], tmp_path: Path) -> None:
    image, background = pair

    def predict(source: Path = image, out: str = "out", **options: Any) -> None:
        predict_lines(trained.folder, source, tmp_path / out, **options)

    with refuses(ConfigError, where="--background", fix="--background"):
        predict()
    with refuses(ConfigError, where=("--every", "data.stride"), found="overlay"):
        predict(every=2, background=background, data={"stride": 2})
    (tmp_path / "others").mkdir()
    cv2.imwrite(str(tmp_path / "others" / "image.png"), np.zeros((8, 8, 3), np.uint8))
    with refuses(DataError, where="image.png", found="8x8", expected=("50x60", "image.png")):
        predict(background=tmp_path / "others", out="out2")
    with refuses(DataError, where="others", found="background.png"):
        predict(tmp_path, background=tmp_path / "others", out="out3")
    cv2.imwrite(str(tmp_path / "others" / "image.jpg"), np.zeros((60, 50, 3), np.uint8))
    for both in ({"source": tmp_path / "others", "background": background}, {"background": tmp_path / "others"}):
        with refuses(DataError, where="others", found=("image.jpg", "image.png")):
            predict(**both, out="out4")
    assert not (tmp_path / "out4").exists()


@pytest.fixture(scope="module")
def written(trained: Run, sets: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set on disk, of the training's own images."""
    out = tmp_path_factory.mktemp("written") / "set"
    given = [f"backgrounds.path={sets / 'roads'}", f"foregrounds.path={sets / 'cut'}", "height=16", "width=24"]
    with pytest.raises(SystemExit, match="0"):
        run_command_line(["data", "overlay", "--out", str(out), "--count", "4", "--val", "3", *given])
    return out


def test_a_written_set_is_scored_from_the_command_line(stadia, trained: Run, written: Path) -> None:
    code, said, error = stadia("evaluate", trained.folder, written)
    assert code == 0, error
    assert "label_source" in said
    assert "mask_iou" in said
    code, said, error = stadia("evaluate", trained.folder, written, "--json")
    assert code == 0, error
    summary = json.loads(said)
    assert (summary["split"], summary["images"], summary["label_source"], summary["label_depth_scale"]) == (
        "val",
        3,
        "exact",
        "metres",
    )
    assert (summary["scored_as"], summary["alignment"]) == ("metres", "none")
    assert 0 <= summary["mask_iou"] <= 1
    assert read_json(trained.folder / "scores" / "set-val.json")["metrics"]["rmse"] == summary["rmse"]


@pytest.mark.slow
def test_sgd_effective_learning_rate_is_reported(config: OverlayConfig) -> None:
    """M-22: with SGD a factor on every weight is one on the learning rate."""
    scaled = changed(
        config, "optimizer.name=sgd", "optimizer.lr=0.001", "loss.depth_l1=70", "loss.mask_bce=70", "loss.balance=false"
    )
    recipe, data = OverlayRecipe(scaled), OverlayRecipe.prepare(scaled, Console(quiet=True))[1]
    assert recipe.run_metadata.own["effective_lr"] == pytest.approx(0.14)
    for one in (
        recipe,
        OverlayRecipe(changed(scaled, "loss.depth_l1=1", "loss.mask_bce=1")),
        OverlayRecipe(changed(scaled, "optimizer.name=adam")),
    ):
        one.save_data_stats(data)
        assert [found.code for found in one.found] == ["C13"] * (one is recipe)
    descent = OverlayRecipe(changed(scaled, "loss.balance=true"))
    seen = descent.train().training_step(data.overlays.samples("train")[0]).logged
    entering = sum(float(seen[f"weight/{name}"]) for name in ("depth_l1", "mask_bce"))
    assert float(seen["effective_lr"]) == pytest.approx(0.001 * entering)
    assert entering != pytest.approx(140), "balanced"
    assert "optimizer.lr=0.001 into 0.14" in recipe.found[0].measured
