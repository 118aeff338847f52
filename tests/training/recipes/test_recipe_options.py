"""Every option of the losses and outputs trains a step of every recipe that has it: recipe x option."""

import math
from typing import Any

import pytest
import torch
from rich.console import Console
from tests.combinations import mark_repeats
from tests.training.recipes.test_metric import EASY
from torch import Tensor

from stadia.core.config import resolve_config
from stadia.training.loop.batches import TrainingPlan
from stadia.training.recipes import CONFIGS, RECIPES

pytestmark = pytest.mark.slow  # its fixtures open data

UNCERTAIN = ("model.network.uncertainty=true",)
BOTH_VIEWS = ("model.network.right_view=true", "data.stereo=true")
OPTIONS: dict[str, tuple[str, ...]] = {
    "loss.residual=mse": ("selfsup", "metric"),
    "loss.residual=patch": ("selfsup", "metric"),
    "loss.smoothness_type=slope": ("selfsup", "metric"),
    "loss.smoothness_type=bend": ("selfsup", "metric"),
    "loss.auto_mask=false": ("selfsup", "metric"),
    "loss.pyramid=2": ("selfsup", "metric"),
    "loss.residual_threshold=0.1": ("selfsup", "metric"),
    "loss.scale_weights=[1,0.5,0,0]": ("selfsup", "metric"),
    "loss.translation_gradient=10": ("selfsup", "metric"),
    "loss.temporal_from_step=5": ("selfsup",),
    "loss.tilt_consistency=0.1": ("selfsup", "metric"),
    "model.brightness=true": ("selfsup", "metric"),
    "loss.uncertainty_from_step=5": ("selfsup", "metric"),
    "loss.num_uncertainty_sizes=1": ("selfsup", "metric"),
    "loss.left_right_consistency=0.1": ("selfsup",),
    "scale.balance=ratio": ("metric",),
    "scale.balance=variation": ("metric",),
    "scale.form=gaussian": ("metric",),
    "unmask_road=false": ("metric",),
    "loss.silog_pooled=1": ("supervised",),
    "loss.affine_invariant=1": ("supervised",),
    "loss.gradient_matching=0.5": ("supervised",),
    "loss.silog_form=variance": ("supervised",),
}
"""Options, and the recipes that have them."""
NEEDED = {
    "loss.uncertainty_from_step=5": UNCERTAIN,
    "loss.num_uncertainty_sizes=1": (*UNCERTAIN, "loss.pyramid=2"),
    "loss.left_right_consistency=0.1": BOTH_VIEWS,
    "loss.temporal_from_step=5": ("data.stereo=true",),
}
"""What an option works on."""
CASES = [(option, recipe) for option, recipes in OPTIONS.items() for recipe in recipes]
OF_BOTH = ("loss.tilt_consistency=0.1",)
"""Options for which each recipe has code of its own; of the others the suite trains one recipe."""
ACT_LATER = ("scale.balance=ratio", "scale.balance=variation")
"""Options whose first step is that without them."""
OF_RECIPES = {
    "selfsup": (),
    "metric": (*EASY, "heights.known_m={0: 1.65}"),
    "supervised": ("model.network=unet", "model.network.encoder=test_efficientnet", "model.pretrained=false"),
}


def configure(recipe: str, small: Any, words: tuple[str, ...]) -> Any:
    values = small.model_dump(mode="json", exclude={"motion"}) | {"recipe": recipe, "name": recipe}
    if recipe == "supervised":
        kept = {"training": True, "data": {"path", "cache", "height", "width"}}
        values = small.model_dump(mode="json", include=kept)
    return resolve_config(CONFIGS.load(recipe), values, (*OF_RECIPES[recipe], *words))


def train_step(config: Any) -> tuple[Any, Tensor]:
    """Return the report of the losses of a step, and the sum of the gradient of each weight that has one."""
    torch.manual_seed(0)
    recipe_class = RECIPES.load(config.recipe)
    settled, data = recipe_class.prepare(config, Console(quiet=True))
    recipe = recipe_class(settled)
    recipe.save_data_stats(data)
    recipe.plan = TrainingPlan(batches_per_epoch=3, grad_accumulation_steps=1, total_steps=60)
    report = recipe.train().training_step(next(iter(data.train)))
    report.total.backward()
    return report, torch.stack([p.grad.abs().sum() for p in recipe.model.parameters() if p.grad is not None])


@pytest.fixture(scope="module")
def plain() -> dict[tuple[str, tuple[str, ...]], tuple[Any, Tensor]]:
    """The steps without an option, by recipe and by what the option works on."""
    return {}


@pytest.mark.parametrize(
    ("option", "recipe"), mark_repeats(CASES, lambda case: case if case[0] in OF_BOTH else case[0])
)
def test_an_option_trains_a_step(option: str, recipe: str, small: Any, plain: dict[Any, Any]) -> None:
    """The loss is finite, is the sum of its terms, reaches the network, and is not that without the option."""
    needed = NEEDED.get(option, ())
    report, gradients = train_step(configure(recipe, small, (*needed, option)))
    assert math.isfinite(float(report.total.detach()))
    torch.testing.assert_close(sum(report.terms.values()), report.total.detach(), check_dtype=False)
    assert float(gradients.sum()) > 0

    if option in ACT_LATER:
        return
    if (recipe, needed) not in plain:
        plain[recipe, needed] = train_step(configure(recipe, small, needed))
    expected, before = plain[recipe, needed]
    assert not (torch.equal(report.total, expected.total) and torch.equal(gradients, before))
