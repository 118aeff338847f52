"""The recipe `supervised`: its depth scale, its learning rates, the fit of scale and shift, and a pinned loss curve."""

import csv
import logging
from pathlib import Path

import pytest
import torch
from rich.console import Console
from tests.combinations import mark_others
from tests.refusals import refuses
from tests.tensor_cameras import intrinsics
from torch import Tensor

from stadia import training
from stadia.core.config import resolve_config
from stadia.core.errors import CheckpointError, GeometryError
from stadia.core.types import DepthScale
from stadia.io.run_facts import read_run_facts
from stadia.networks.depth.dpt import Dpt
from stadia.training import recipes
from stadia.training.loop.checkpoint import CheckpointHeader, write_checkpoint
from stadia.training.recipes.base.build_recipe import check_init_weights, init_recipe
from stadia.training.recipes.selfsup.config import SelfsupConfig
from stadia.training.recipes.supervised.config import SupervisedConfig
from stadia.training.recipes.supervised.recipe import SupervisedRecipe

SMALL = ("model.network=dpt", "model.network.size=tiny", "data.augmentation.mirror=0.5", "optimizer.lr=1e-3")
PINNED_LOSSES = [6.89356, 6.72101, 5.45903]  # of the three steps of `small_dpt`, seed 0


@pytest.fixture
def small_dpt(small: SelfsupConfig) -> SupervisedConfig:
    shared = small.model_dump(mode="json", include={"training": True, "data": {"path", "cache", "height", "width"}})
    return resolve_config(SupervisedConfig, shared, SMALL)


def changed(config: SupervisedConfig, *overrides: str) -> SupervisedConfig:
    return resolve_config(SupervisedConfig, config.model_dump(mode="json"), overrides)


class Lower(Dpt):
    def raw(self, image: Tensor) -> Tensor:
        rows = torch.linspace(5, 25, image.shape[-2], device=image.device)[:, None]
        return rows.expand(len(image), 1, -1, image.shape[-1]).contiguous()

    @property
    def predicts_depth_at_start(self) -> bool:
        return True


@pytest.mark.slow
def test_a_training_ends_in_metres_and_a_score(small_dpt: SupervisedConfig, tmp_path: Path) -> None:
    run = training.train(small_dpt, out=tmp_path / "runs")
    assert run.facts.recipe_facts.depth_scale == "metres"
    assert run.facts.recipe_facts.model == "dpt tiny, attention sdpa"
    assert (run.folder / "scores" / "val.json").is_file()
    with (run.folder / "metrics.csv").open() as file:
        losses = [float(row["train/loss"]) for row in csv.DictReader(file) if row["train/loss"]]
    assert losses == pytest.approx(PINNED_LOSSES, rel=2e-3)
    predictor = recipes.load_predictor(run.folder)
    image, lens = torch.rand(1, 3, 32, 96), intrinsics(57.6, 57.6, 47.5, 15.5, height=32, width=96)
    assert predictor.inverse_depth(image, lens).shape == (1, 1, 32, 96)
    assert predictor.T_next_now(image, lens, image, lens) is None


@pytest.mark.slow
def test_several_data_sets_are_balanced_by_their_gradients(small_dpt: SupervisedConfig) -> None:
    other = f"data.extra_datasets.other.path={small_dpt.data.path}"
    config = changed(small_dpt, other, "balance=min_norm", "balance_every=1")
    torch.manual_seed(0)
    settled, data = SupervisedRecipe.prepare(config, Console(quiet=True))
    recipe = SupervisedRecipe(settled).train()
    recipe.save_data_stats(data)
    batches = {batch.meta[0].data: batch for batch in data.train}
    assert set(batches) == {"first", "other"}
    plain = {}
    for name, batch in batches.items():
        with torch.no_grad():
            predicted = recipe.model(batch.inputs.image).inverse_depth[0]
            plain[name] = recipe.loss(predicted, batch.targets.depth_m).total.item()
    for name, batch in (*batches.items(), *batches.items()):
        report = recipe.training_step(batch)
        factor = float(report.logged[f"balance/{name}"])
        assert float(report.total.detach()) == pytest.approx(factor * plain[name], rel=1e-3)
        assert torch.stack([*report.terms.values()]).sum().item() == pytest.approx(float(report.total.detach()))
    assert sum(recipe.balance.factors.values()) == pytest.approx(2)
    again = SupervisedRecipe(settled)
    again.load_training_state(recipe.training_state())
    assert again.balance.factors == recipe.balance.factors


@pytest.mark.slow
def test_depth_is_in_metres_only_with_a_metric_loss(small_dpt: SupervisedConfig) -> None:
    assert SupervisedRecipe(small_dpt).depth_scale is DepthScale.METRES
    affine = changed(small_dpt, "loss.silog_per_image=0", "loss.affine_invariant=1", "loss.gradient_matching=0.5")
    assert SupervisedRecipe(affine).depth_scale is DepthScale.AFFINE_INVERSE
    assert SupervisedRecipe(small_dpt).run_metadata.scale_from == "the ground truth that it was trained on"
    assert SupervisedRecipe(affine).run_metadata.scale_from is None


def test_every_weight_is_trained_once_and_a_pretrained_backbone_slower(small_dpt: SupervisedConfig) -> None:
    recipe = SupervisedRecipe(small_dpt)
    trainable = {id(p) for p in recipe.parameters() if p.requires_grad}
    groups = recipe.parameter_groups()
    assert sorted(id(p) for group in groups for p in group["params"]) == sorted(trainable)
    assert {group.get("lr", 1e-3) for group in groups} == {1e-3}
    recipe.started_from = "another checkpoint"
    backbone = {id(p) for p in recipe.model.backbone_parameters()}
    for group in recipe.parameter_groups():
        assert {id(p) in backbone for p in group["params"]} == {"lr" in group}
        assert group.get("lr", 1e-3) == pytest.approx(1e-4 if "lr" in group else 1e-3)
    assert SupervisedRecipe(changed(small_dpt, "backbone_lr_factor=0.5")).backbone_lr_factor == 0.5


@pytest.mark.slow
def test_weights_without_metres_are_fitted_to_the_ground_truth_once(
    small_dpt: SupervisedConfig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("stadia.networks.depth.dpt.Dpt", Lower)
    config, data = SupervisedRecipe.prepare(small_dpt, Console(quiet=True))
    recipe = SupervisedRecipe(config)
    with caplog.at_level(logging.INFO):
        recipe.save_data_stats(data)
    assert "fitted to 5 images" in caplog.text
    assert "fitted best, but has 0 beyond 200 m" in caplog.text, "the sky is not at the head's 0 here"
    assert recipe.run_metadata.own["fitted"]["images"] == 5
    assert recipe.training
    batch = next(iter(data.val))
    true_m = batch.targets.depth_m
    known = true_m > 0
    predicted_m = 1 / recipe.inverse_depth(batch.inputs.image)
    assert 0.7 < float(predicted_m[known].median() / true_m[known].median()) < 1.4
    assert float(predicted_m.max()) < 200, "a head output of 0 still has a gradient"
    given = SupervisedRecipe(changed(config, "model.network.scale=2", "model.network.shift=0.5"))
    given.save_data_stats(data)
    assert (float(given.model.scale), float(given.model.shift)) == (2.0, 0.5)


@pytest.mark.slow
def test_a_fit_that_cannot_be_made_fails_the_run(
    small_dpt: SupervisedConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Higher(Lower):
        def raw(self, image: Tensor) -> Tensor:
            return super().raw(image).flip(-2)

    monkeypatch.setattr("stadia.networks.depth.dpt.Dpt", Higher)
    with refuses(GeometryError, where="scale and shift"):
        training.train(small_dpt, out=tmp_path / "runs")
    (folder,) = (tmp_path / "runs").iterdir()
    facts = read_run_facts(folder)
    assert facts.status == "failed"
    assert "pass the reciprocal if the prediction is depth" in str(facts.error)


@pytest.mark.slow
@pytest.mark.parametrize("name", mark_others(["memory_compressed", "performer", "token_merging"], ["performer"]))
def test_a_training_starts_from_another_attention(small_dpt: SupervisedConfig, tmp_path: Path, name: str) -> None:
    """The projections are kept, and the new core works: notebook 001 exchanges attention after a training."""
    path = tmp_path / "start.safetensors"
    before = SupervisedRecipe(small_dpt)
    values = {"recipe": "supervised", "config": small_dpt.model_dump(mode="json"), "kind": "weights", "metrics": {}}
    write_checkpoint(path, CheckpointHeader(step=3, epoch=0, **values), {"state_dict": before.state_dict()})
    config = changed(small_dpt, f"model.network.attention.name={name}").model_copy(update={"start_from": str(path)})
    check_init_weights(SupervisedRecipe, config)
    after = init_recipe(SupervisedRecipe, config, resumed=False).state_dict()
    kept = {key for key, value in before.state_dict().items() if key in after and torch.equal(after[key], value)}
    assert {key for key in after if ".core." not in key} <= kept
    other = changed(config, "model.network.size=small")
    with refuses(CheckpointError, where="start.safetensors"):
        check_init_weights(SupervisedRecipe, other)
