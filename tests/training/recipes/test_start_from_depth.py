"""Trainings that start from weights that predict depth: what is held, what is joined, and what is kept."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from rich.console import Console

from stadia.io.run_facts import UNKNOWN_FACTS
from stadia.networks.encoders import load_base_weights
from stadia.training import keep
from stadia.training.keep import DepthErrors
from stadia.training.loop.checkpoint import Checkpoint, CheckpointHeader, write_checkpoint
from stadia.training.loss_checks.init_checks import check_parameter_gradients
from stadia.training.recipes import configure
from stadia.training.recipes.base.self_supervised import MAX_HELD_STEPS, choose_teacher, find_depth_start
from stadia.training.recipes.selfsup.recipe import SelfsupRecipe

MONO = {"path": "DATA", "height": 64, "width": 64, "offsets": [-1, 1], "stereo": False}


def selfsup(*settings: str, **data: Any) -> Any:
    return configure("selfsup", settings, data={**MONO, **data})


@pytest.mark.parametrize(
    ("settings", "data", "steps", "held"),
    [
        ((), {}, 1000, MAX_HELD_STEPS),
        ((), {}, 40, 10),
        (("depth_from_step=7",), {}, 1000, 7),
        ((), {"stereo": True}, 1000, 0),
        ((), {"poses": "map"}, 1000, 0),
        ((), {"offsets": [], "stereo": True}, 1000, 0),
    ],
)
def test_depth_waits_for_the_motion_of_one_camera_alone(
    settings: tuple[str, ...], data: dict[str, Any], steps: int, held: int
) -> None:
    config = selfsup(*settings, **data)
    assert find_depth_start(config, starts_from_depth=True, last_step=steps) == held
    if not settings:
        assert find_depth_start(config, starts_from_depth=False, last_step=steps) == 0


def test_held_depth_has_no_gradient_and_its_encoder_learns_slowly() -> None:
    recipe = SelfsupRecipe(selfsup("optimizer.lr=1e-3", "depth_from_step=5"))
    assert math.isinf(recipe.start_steps)
    assert recipe.holds_depth
    recipe.global_step = 5
    assert not recipe.holds_depth
    groups = recipe.parameter_groups()
    depth = {id(parameter) for parameter in recipe.model.depth.parameters()}
    encoder = {id(parameter) for parameter in recipe.model.depth.encoder.parameters()}
    for group in groups:
        for parameter in group["params"]:
            assert group.get("from_step", 0) == (5 if id(parameter) in depth else 0)
            assert group.get("lr", 1e-3) == pytest.approx(1e-4 if id(parameter) in encoder else 1e-3)
    assert sum(len(group["params"]) for group in groups) == len([*recipe.parameters()])
    for name, parameter in recipe.named_parameters():
        parameter.grad = None if name.startswith("model.depth.") else torch.zeros_like(parameter)
    start = cast(Any, SimpleNamespace(report=recipe, recipe=recipe))
    assert [finding.code for finding in check_parameter_gradients(start)] == ["T23"]
    recipe.global_step = 4
    assert not list(check_parameter_gradients(start))
    recipe.model.holds_depth = True
    image = torch.rand(1, 3, 64, 64)
    with torch.set_grad_enabled(torch.is_grad_enabled() and not recipe.model.holds_depth):
        assert not recipe.model.depth(image).inverse_depth[0].requires_grad


@pytest.mark.slow
def test_a_start_is_scored_where_the_motion_is_known() -> None:
    assert not SelfsupRecipe(selfsup()).keeps_start("val/residual")
    assert SelfsupRecipe(selfsup()).keeps_start("val/abs_rel")
    assert SelfsupRecipe(selfsup("motion=map")).keeps_start("val/residual")
    assert SelfsupRecipe(selfsup(stereo=True)).keeps_start("val/residual")
    assert not SelfsupRecipe(selfsup("model.pretrained=false", stereo=True)).keeps_start("val/residual")


@pytest.mark.parametrize(
    ("settings", "data", "teacher"),
    [
        ((), {}, "base"),
        (("teacher.network=null",), {}, None),
        (("model.network=unet",), {}, None),
        (("model.pretrained=false",), {}, None),
        ((), {"stereo": True}, None),
    ],
)
def test_the_network_of_the_package_teaches_depth_of_one_camera_that_starts_from_it(
    settings: tuple[str, ...], data: dict[str, Any], teacher: str | None
) -> None:
    config = selfsup(*settings, **data)
    resolved = choose_teacher(config) if config.teacher.network == "auto" else config
    assert (resolved.teacher.network, resolved.teacher.is_used) == (teacher, teacher is not None)
    assert not configure("supervised", data={"path": "DATA"}).teacher.is_used  # type: ignore[attr-defined]


def make_run(folder: Path, recipe: SelfsupRecipe, metrics: dict[str, float]) -> Any:
    (folder / "checkpoints").mkdir(parents=True)
    header = CheckpointHeader(recipe="selfsup", config={}, kind="weights", step=40, epoch=0, metrics=metrics)
    write_checkpoint(folder / "checkpoints" / "best.safetensors", header, {"state_dict": recipe.state_dict()})
    run = SimpleNamespace(folder=folder, checkpoints=folder / "checkpoints", writes=True, facts=UNKNOWN_FACTS)
    run.update_facts = lambda change: setattr(run, "facts", change(run.facts))
    return run


def make_errors(value: float | None) -> DepthErrors:
    return DepthErrors() if value is None else DepthErrors(match_error=(value, 2 * value, value))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("errors", "metrics", "kept"),
    [
        ((0.7, 0.4), {}, False),
        ((0.4, 0.7), {}, True),
        ((None, None), {}, True),
        ((0.4, 0.7), {"val/abs_rel": 0.1}, False),
    ],
)
def test_a_start_is_kept_unless_points_or_matches_are_nearer_after_the_training(
    errors: tuple[float | None, float | None],
    metrics: dict[str, float],
    kept: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trained = SelfsupRecipe(selfsup())
    with torch.no_grad():
        for parameter in trained.model.parameters():
            parameter += 0.01
    run = make_run(tmp_path / "run", trained, metrics)
    pose = {name: value.clone() for name, value in trained.model.pose.state_dict().items()}
    left = iter(errors)
    monkeypatch.setattr(keep, "_measure_errors", lambda recipe, data: make_errors(next(left)))
    console = Console(quiet=True)
    assert keep.keep_better_start(selfsup(), trained, None, run, console) is kept
    has_gain = not kept and not metrics
    assert run.facts.depth_gain == (pytest.approx(1 - 0.4 / 0.7) if has_gain else None)
    checkpoint = Checkpoint.open(run.folder)
    assert checkpoint.header.step == (0 if kept else 40)
    weights, base = checkpoint.weights(), load_base_weights()
    is_base = all(torch.equal(weights[f"model.depth.{name}"], value) for name, value in base.items())
    assert is_base is kept
    assert all(torch.equal(weights[f"model.pose.{name}"], value) for name, value in pose.items())
