"""A second newcomer: depth from single images of recordings and sparse ground truth, no sources, no pose network."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

from stadia import predict, training
from stadia.core.config import resolve_config
from stadia.core.types import Batch, DepthScale
from stadia.data.config import DataConfig
from stadia.differentiable.view_synthesis import intrinsics
from stadia.losses.loss_report import LossReport, combine_losses
from stadia.training import recipes
from stadia.training.loop.run_folder import Run
from stadia.training.recipes.base import build_recipe
from stadia.training.recipes.base.config import RecipeConfig
from stadia.training.recipes.base.depth_recipe import DepthRecipe
from stadia.training.recipes.base.validation_scores import compute_depth_scores
from stadia.training.recipes.base.video_data import VideoData, open_video


class SupervisedConfig(RecipeConfig):
    recipe: str = "supervised"
    data: DataConfig


class Supervised(DepthRecipe[SupervisedConfig]):
    recipe = "supervised"
    best_metrics = ("val/abs_rel",)

    def __init__(self, config: SupervisedConfig) -> None:
        super().__init__(config)
        self.log_depth = nn.Parameter(torch.zeros(()))

    @classmethod
    def prepare(cls, config: SupervisedConfig, console: Console) -> tuple[SupervisedConfig, VideoData]:
        data = open_video(config.data, config.training, seed=config.seed, console=console)
        return config.model_copy(update={"data": data.config}), data

    @property
    def depth_scale(self) -> DepthScale:
        return DepthScale.METRES

    def inverse_depth(self, image: Tensor) -> Tensor:
        return (-self.log_depth).exp() * torch.ones_like(image[:, :1])

    def training_step(self, batch: Batch) -> LossReport:
        assert batch.source_names == ()
        true_m = batch.targets.depth_m
        assert true_m is not None, "training data have ground truth if requested"
        known = true_m > 0
        error = (self.log_depth - true_m.where(known, 1.0).log()).abs().where(known, 0.0).sum() / known.sum()
        return combine_losses({"depth": (2.0, LossReport(error, {"log": error.detach()}, {}))})

    def validation_step(self, batch: Batch) -> Mapping[str, Tensor | float]:
        assert batch.targets.depth_m is not None
        return compute_depth_scores(self.inverse_depth(batch.inputs.image), batch.targets.depth_m, self.depth_scale)


@pytest.fixture
def trained(small: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    for table, part in (
        (recipes.RECIPES, f"{__name__}:Supervised"),
        (recipes.CONFIGS, f"{__name__}:SupervisedConfig"),
        (predict.TASKS, "stadia.predict.tasks:DepthTask"),
    ):
        monkeypatch.setitem(table._parts, "supervised", part)
    words = [
        "optimizer.lr=0.1",
        "training.max_steps=40",
        "training.images_every=20",
        "data.offsets=[]",
        "data.stereo=false",
    ]
    words += ["data.ground_truth_depth=true", "data.sparse_depth=true"]
    shared = small.model_dump(mode="json", include={"data", "training"})
    return training.train(resolve_config(SupervisedConfig, shared, words), out=tmp_path / "runs")


@pytest.mark.slow
def test_from_sparse_ground_truth_to_scores_in_metres(trained: Run) -> None:
    assert trained.facts.recipe_facts.depth_scale == "metres"
    score = json.loads((trained.folder / "scores" / "val.json").read_text())
    assert (score["protocol"], score["images"]) == ("metric", 5)
    assert 0.5 < score["scale_ratio_median"] < 2
    assert list((trained.folder / "images").glob("step-*.png"))


@pytest.mark.slow
def test_its_predictor_knows_the_lens_and_no_motion(trained: Run) -> None:
    predictor = recipes.load_predictor(trained.folder)
    image = torch.rand(1, 3, predictor.height, predictor.width)
    fx = float(build_recipe.load_recipe(trained.folder).focal) * predictor.width
    own, longer = (intrinsics(factor * fx, factor * fx, 47.5, 15.5, height=32, width=96) for factor in (1, 2))
    torch.testing.assert_close(predictor.inverse_depth(image, longer), predictor.inverse_depth(image, own) / 2)
    assert predictor.T_next_now(image, own, image, own) is None


@pytest.mark.parametrize(
    ("depth_scale", "label"),
    [
        (DepthScale.METRES, "AbsRel (metres, unaligned)"),
        (DepthScale.UP_TO_SCALE, "AbsRel (median scaling)"),
        (DepthScale.AFFINE_INVERSE, "AbsRel (scale and shift fitted)"),
    ],
)
def test_a_score_is_printed_with_its_alignment(depth_scale: DepthScale, label: str) -> None:
    recipe: Any = SimpleNamespace(depth_scale=depth_scale, focal=torch.zeros(()))
    assert DepthRecipe.describe_score(recipe, "val/abs_rel") == label
    recipe.focal = torch.zeros(2)  # of two data sets, whose scales may differ
    assert DepthRecipe.describe_score(recipe, "val/abs_rel") == "AbsRel (mean of the datasets)"
