"""Progressive resizing of real recipes: each stage's data at its size, batches of equal pixels, and what is refused."""

from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from tests.refusals import refuses

from stadia import training as launch
from stadia.core.errors import ConfigError
from stadia.io.metrics_table import read_rows
from stadia.training import recipes
from stadia.training.loop.checkpoint import Checkpoint
from stadia.training.recipes.base.config import RecipeConfig
from stadia.training.recipes.selfsup.config import SelfsupConfig
from stadia.training.recipes.selfsup.recipe import SelfsupRecipe
from stadia.training.training_data import check_stages, choose_batch_sizes, list_stages, open_data

pytestmark = pytest.mark.slow  # its fixtures train or compile

SMALL = {"height": 32, "width": 96, "share": 0.5, "batch_size": 3}
LARGE = {"height": 64, "width": 192, "share": 0.5, "batch_size": 2}


def grown(config: RecipeConfig, *stages: dict[str, Any], size: tuple[int, int] = (64, 192), **training: Any) -> Any:
    values = config.model_dump(mode="json")
    values["data"] |= {"height": size[0], "width": size[1]}
    values["training"] |= {"stages": stages, "max_steps": 6, **training}
    return type(config).model_validate(values)


def rows(folder: Path) -> list[dict[str, str]]:
    return [{k: v for k, v in row.items() if not k.startswith("time/")} for row in read_rows(folder / "metrics.csv")]


def test_selfsup_stages_end_with_a_full_size_checkpoint(small: SelfsupConfig, tmp_path: Path) -> None:
    seen: list[tuple[int, ...]] = []

    class Seeing(SelfsupRecipe):
        def training_step(self, batch: Any) -> Any:
            camera = batch.inputs.camera
            assert (camera.height, camera.width) == batch.inputs.image.shape[-2:]
            relative = float(camera.K[0, 0, 0]) / camera.width
            report = super().training_step(batch)
            seen.append((*batch.inputs.image.shape, *report.maps["residual"].shape[-2:], round(relative, 4)))
            return report

    config = grown(small, SMALL, LARGE)
    settled, data = open_data(Seeing, config, Console(quiet=True))
    teacher = config.teacher.model_copy(update={"network": None})
    others = {"data": settled.data, "motion": "network", "teacher": teacher}  # there is no map, and no base
    assert settled == config.model_copy(update=others), "nothing else is settled"
    sizes = [(stage.data.height, stage.training.batch_size) for stage, _ in list_stages(settled, data)]
    assert sizes == [(32, 3), (64, 2)]
    assert [loaders.train for _, loaders in list_stages(settled, data)] == list(data.train.loaders)
    run = launch.train(config, out=tmp_path / "runs")
    assert [(stage.first_step, stage.steps) for stage in run.facts.stages] == [(1, 2), (3, 3)]
    recipe = Seeing(settled)
    for loader in data.train.loaders:
        loader.set_position(0, 0)
        recipe.training_step(next(iter(loader)))
    assert [shapes[:6] for shapes in seen] == [(3, 3, 32, 96, 32, 96), (2, 3, 64, 192, 64, 192)]
    assert seen[0][-1] == seen[1][-1], "the camera is resized with its image: its angle of view stays"
    predictor = recipes.load_predictor(run.folder)
    assert (predictor.height, predictor.width) == (64, 192)
    assert Checkpoint.open(run.folder).header.config["training"]["batch_size"] == 2


BAD = {
    "no multiple": (lambda c: grown(c, SMALL | {"height": 40}, LARGE), ("stages[0", "96x40", "32")),
    "another end": (lambda c: grown(c, SMALL | {"share": 1.0, "batch_size": 2}), ("96x32", "192x64", "data.width")),
    "too small for the pyramid": (
        lambda c: grown(c.model_copy(update={"loss": c.loss.model_copy(update={"pyramid": 5})}), SMALL, LARGE),
        ("training.stages[0", "96x32", "loss.pyramid=5"),
    ),
    "several data sets": (
        lambda c: grown(c, SMALL, LARGE).model_copy(
            update={"data": c.data.model_copy(update={"extra_datasets": {"b": 1}})}
        ),
        ("training.stages",),
    ),
    "epochs": (
        lambda c: grown(c, SMALL, LARGE).model_copy(
            update={"schedule": c.schedule.model_copy(update={"milestones_in": "epochs"})}
        ),
        ("milestones_in=epochs",),
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_is_refused_before_anything_is_opened(small: SelfsupConfig, name: str) -> None:
    change, names = BAD[name]
    config = change(small)
    with refuses(ConfigError, names=names):
        check_stages(SelfsupRecipe, config)


@pytest.mark.parametrize(
    ("length", "samples", "batch_size"),
    [
        ({"max_steps": 2000}, 10_000, 8),
        ({"max_steps": 2000}, 5, 5),
        ({"max_steps": 300}, 10_000, 3),
        ({"max_steps": None, "max_epochs": 1}, 1000, 5),
        ({"max_steps": 20}, 10_000, 2),
    ],
    ids=["equal pixels", "all samples", "100 steps", "100 steps of an epoch", "batch_size of the training"],
)
def test_auto_batches_have_equal_pixels_and_leave_steps(
    small: SelfsupConfig, length: dict[str, Any], samples: int, batch_size: int
) -> None:
    config = grown(small, SMALL | {"batch_size": "auto"}, LARGE | {"batch_size": "auto"}, **length)
    stages = choose_batch_sizes(config.training, samples)
    assert [stage.batch_size for stage in stages] == [batch_size, 2]
    given = grown(small, SMALL, LARGE, **length).training
    assert choose_batch_sizes(given, samples) == given.stages
