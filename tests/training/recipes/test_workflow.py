"""What every training goes through: findings refuse it, scores follow it, checkpoints come back."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from tests.refusals import refuses

from stadia import report, training
from stadia.core.config import resolve_config
from stadia.core.errors import CheckpointError, ConfigError, DataError, RunError
from stadia.core.types import DepthScale
from stadia.judge.finding import Finding, Severity, Stage
from stadia.training import recipes, workflow
from stadia.training.loop.checkpoint import Checkpoint
from stadia.training.loop.run_folder import Run
from stadia.training.recipes.base import build_recipe, video_data
from stadia.training.recipes.selfsup.config import SelfsupConfig
from stadia.training.recipes.selfsup.recipe import SelfsupRecipe
from stadia.training.time_budget import choose_steps

pytestmark = pytest.mark.slow  # its fixtures train or compile

STOP = Finding(
    "X01",
    Severity.STOP,
    Stage.DATA,
    measured="left is right",
    expected="two sides",
    cause="swapped",
    fix="swap them back",
)


def test_from_images_to_a_report(trained_small: Path) -> None:
    run = Run.open(trained_small)
    depth = json.loads((run.folder / "scores" / "val.json").read_text())
    assert depth["protocol"] == "metric"
    assert depth["images"] == 5
    assert 0 < depth["metrics"]["abs_rel"] < 5
    baseline = json.loads((run.folder / "scores" / "val-mean-depth.json").read_text())
    assert baseline["images"] == 5
    assert baseline["baseline"].startswith("the mean depth of ")
    (odometry,) = (run.folder / "scores").glob("val-*-val-*.json")
    assert len(json.loads(odometry.read_text())["path_true_m"]) == 5
    assert run.facts.status == "finished"
    assert run.facts.weights == {"encoder": "random", "pose_encoder": "random"}
    assert recipes.load_predictor(run.folder).depth_scale is DepthScale.METRES
    assert report.build_report(run.folder).is_file()


def test_stop_finding_refuses_training(small: SelfsupConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video_data, "run_preflight", lambda *_, **__: [STOP])
    with refuses(RunError, found="X01", fix=("--on-stop", 'on_stop="warn')):
        training.train(small, out=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()
    with refuses(RunError, found="X01"):
        training.train(small, out=tmp_path / "runs", on_stop="halt")
    with refuses(ConfigError, where="on_stop"):
        training.train(small, out=tmp_path / "runs", on_stop="stop")
    run = training.train(small, out=tmp_path / "runs", on_stop="warn")
    assert json.loads((run.folder / "findings.jsonl").read_text().splitlines()[0])["code"] == "X01"


def test_a_run_whose_data_were_moved_keeps_their_new_place(
    small: SelfsupConfig, trained_small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, place = tmp_path / "run", tmp_path / "moved" / Path(str(small.data.path)).name
    shutil.copytree(trained_small, run)
    gone = small.model_copy(update={"data": small.data.model_copy(update={"path": str(place)})})
    with refuses(DataError, where="tiny", fix="data.path=NEW"):
        training.train(gone, resume=run)
    assert json.loads((run / "config.json").read_text())["data"]["path"] == str(small.data.path)
    shutil.copytree(str(small.data.path), place)
    monkeypatch.chdir(place.parent)
    relative = small.model_copy(update={"data": small.data.model_copy(update={"path": place.name})})
    training.train(relative, resume=run)
    assert json.loads((run / "config.json").read_text())["data"]["path"] == str(place)
    assert json.loads((run / "run.json").read_text())["data"]["path"] == str(place)


def test_a_training_starts_from_the_weights_of_another(
    small: SelfsupConfig, trained_small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = small.model_copy(update={"start_from": str(trained_small / "checkpoints" / "last.safetensors")})
    trained = Checkpoint.open(trained_small / "checkpoints" / "last.safetensors").weights()
    recipe = build_recipe.init_recipe(SelfsupRecipe, more, resumed=False)
    assert all(torch.equal(tensor, trained[name]) for name, tensor in recipe.state_dict().items())
    second = training.train(more, out=tmp_path / "runs")
    assert second.facts.weights == {"weights of": f"{more.start_from}, step 3"}
    training.train(more.model_copy(update={"start_from": None}), resume=second.folder)  # it has its own weights by now
    other = resolve_config(SelfsupConfig, more.model_dump(mode="json"), ["model.network.decoder_channels=[4,4,8,8,16]"])
    with refuses(CheckpointError, where="last.safetensors") as refused:
        build_recipe.init_recipe(SelfsupRecipe, other, resumed=False)
    own = json.dumps(small.model_dump(mode="json")["model"]["network"]["decoder_channels"], separators=(",", ":"))
    assert refused.value.fix == f"set model.network.decoder_channels={own}"
    with monkeypatch.context() as patch:  # before anything is decoded
        patch.setattr(workflow, "open_data", lambda *_: pytest.fail("the data are opened"))
        with refuses(CheckpointError, where="last.safetensors"):
            training.train(other, out=tmp_path / "refused")
        with refuses(CheckpointError, where="last.safetensors"):
            choose_steps(other, 5, Console(quiet=True))
    same_size = resolve_config(SelfsupConfig, more.model_dump(mode="json"), ["model.network.init_depth_m=7"])
    build_recipe.check_init_weights(SelfsupRecipe, same_size)  # another model, whose weights fit


def test_networks_are_those_of_the_run_that_a_training_starts_from(trained_small: Path) -> None:

    def configure(recipe: str, *overrides: str) -> Any:
        return recipes.configure(recipe, overrides, data={"path": "drive.mp4"})

    start = f"start_from={trained_small}"
    of_run = Run.open(trained_small).config["model"]
    assert configure("selfsup", start).model_dump(mode="json")["model"] == of_run
    changed = configure("selfsup", start, "model.translation_scale=0.5")
    assert changed.model_dump(mode="json")["model"] == of_run | {"translation_scale": 0.5}
    assert configure("supervised", start).model == configure("supervised").model
    assert configure("selfsup", "start_from=nowhere").start_from == "nowhere"
