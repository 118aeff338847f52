"""Progressive resizing of real recipes: each stage's data at its size, batches found by the memory, and what is
refused.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from stadia import recipes
from stadia.core.errors import ConfigError, RunError
from stadia.recipes.base.config import RecipeConfig
from stadia.recipes.launch import progressive_resizing as module
from stadia.recipes.launch.progressive_resizing import (
    MAX_TRIES,
    check_stages,
    find_largest_batch,
    keep_batch_sizes,
    prepare_data,
)
from stadia.recipes.selfsup.config import SelfsupConfig
from stadia.recipes.selfsup.recipe import SelfsupRecipe
from stadia.recipes.supervised.recipe import SupervisedRecipe
from stadia.training.checkpoint import Checkpoint
from stadia.training.loggers import read_rows

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
    """2 steps of 3 samples, then 3 of 2: images, cameras and maps at each stage's size."""
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
    settled, data = prepare_data(Seeing, config, Console(quiet=True))
    assert settled == config.model_copy(update={"data": settled.data}), "nothing else is settled"
    run = recipes.train(config, out=tmp_path / "runs")
    assert [(stage.first_step, stage.steps) for stage in run.facts.stages] == [(1, 2), (3, 3)]
    recipe = Seeing(settled)
    for batch in (*_first_batches(data.train.loaders),):
        recipe.training_step(batch)
    assert [one[:6] for one in seen] == [(3, 3, 32, 96, 32, 96), (2, 3, 64, 192, 64, 192)]
    assert seen[0][-1] == seen[1][-1], "the camera is resized with its image: its angle of view stays"
    predictor = recipes.load_predictor(run.folder)
    assert (predictor.height, predictor.width) == (64, 192)
    assert Checkpoint.open(run.folder).header.config["training"]["batch_size"] == 2


def _first_batches(loaders: Any) -> Any:
    for loader in loaders:
        loader.set_position(0, 0)
        yield next(iter(loader))


def test_single_full_size_stage_equals_no_stages_bit_for_bit(small: SelfsupConfig, tmp_path: Path) -> None:
    size = (32, 96)
    plain = recipes.train(grown(small, size=size, max_steps=4), out=tmp_path / "plain")
    one = recipes.train(
        grown(small, SMALL | {"share": 1.0, "batch_size": "auto"}, size=size, max_steps=4), out=tmp_path / "one"
    )
    assert rows(one.folder) == rows(plain.folder)
    before, after = (Checkpoint.open(run.folder).weights() for run in (plain, one))
    assert all(torch.equal(weight, after[name]) for name, weight in before.items())


def test_dpt_resizes_its_embeddings_of_places(worlds: Path, tmp_path: Path) -> None:
    """A transformer of no weights, at two sizes; the smaller one is no multiple of what the encoder was made for."""
    keys = (
        "model.network=dpt",
        "model.network.size=tiny",
        "training.workers=0",
        "training.batch_size=2",
        "training.max_steps=4",
        "training.threads=1",
    )
    config = recipes.configure(
        "supervised",
        keys,
        data={"path": str(worlds), "height": 64, "width": 96, "cache": {"folder": str(tmp_path / "c")}},
    )
    run = recipes.train(grown(config, SMALL, LARGE | {"width": 96}, size=(64, 96), max_steps=4), out=tmp_path / "runs")
    assert run.facts.status == "finished"
    assert [stage.steps for stage in run.facts.stages] == [1, 2]


BAD = {
    "no multiple": (
        lambda c: grown(c, SMALL | {"height": 40}, LARGE),
        r"stages\[0\]: found 96x40 \(expected a multiple of 32.*take 32",
    ),
    "another end": (
        lambda c: grown(c, SMALL | {"share": 1.0, "batch_size": 2}),
        r"found 96x32; expected 192x64 \(data.width",
    ),
    "too small for the pyramid": (
        lambda c: grown(c.model_copy(update={"loss": c.loss.model_copy(update={"pyramid": 5})}), SMALL, LARGE),
        r"training.stages\[0\]: found 96x32 \(loss.pyramid=5 halves",
    ),
    "several data sets": (
        lambda c: grown(c, SMALL, LARGE).model_copy(
            update={"data": c.data.model_copy(update={"extra_datasets": {"b": 1}})}
        ),
        "several data sets; expected one",
    ),
    "epochs": (
        lambda c: grown(c, SMALL, LARGE).model_copy(
            update={"schedule": c.schedule.model_copy(update={"milestones_in": "epochs"})}
        ),
        "milestones_in=epochs",
    ),
    "several devices": (lambda c: grown(c, SMALL | {"batch_size": "auto"}, LARGE, devices=2), "training.devices=2"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_is_refused_before_anything_is_opened(small: SelfsupConfig, name: str) -> None:
    change, message = BAD[name]
    config = change(small)
    with pytest.raises(ConfigError, match=message):
        check_stages(SelfsupRecipe, config)


def test_a_recipe_that_cannot_refuses_by_name() -> None:
    config = recipes.configure("objectpose")
    stage = {"height": config.data.height, "width": config.data.width, "share": 1.0}  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match="found stages for 'objectpose'"):
        recipes.train(grown(config, stage, size=(stage["height"], stage["width"])))


# -- the memory
# ---------------------------------------------------------------------------------------------------------


def held(base: int, each: int, room: int | None = None) -> tuple[Callable[[int], int | None], list[int]]:
    """Memory as it is: a constant, and so much a sample; None above `room`."""
    tried: list[int] = []

    def peak_of(batch: int) -> int | None:
        tried.append(batch)
        peak = base + each * batch
        return None if room is not None and peak > room else peak

    return peak_of, tried


@pytest.mark.parametrize("limit", [700, 1_000, 5_000, 100_000])
@pytest.mark.parametrize("guess", [1, 16, 400])
def test_the_largest_batch_is_found_and_holds(limit: int, guess: int) -> None:
    peak_of, tried = held(500, 20)
    found, best = find_largest_batch(peak_of, limit=limit, guess=guess, most=10_000), (limit - 500) // 20
    assert 500 + 20 * found <= limit
    assert found >= best / (1 + 1 / 16) - 1 or len(tried) == MAX_TRIES
    assert all(
        batch <= max(2 * max([1, *(b for b in tried[:i] if 500 + 20 * b <= limit)]), guess)
        for i, batch in enumerate(tried)
    )


def test_memory_that_runs_out_ends_nothing() -> None:
    peak_of, _ = held(500, 20, room=900)
    assert find_largest_batch(peak_of, limit=10_000, guess=64, most=1000) in range(18, 21)
    assert find_largest_batch(held(500, 20)[0], limit=510, guess=64, most=1000) == 0
    assert find_largest_batch(held(500, 20)[0], limit=10**9, guess=64, most=100) == 100


def test_batch_sizes_from_memory_are_resolved_and_kept(small: SelfsupConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Constant pixels without a limit, so 8 where the last stage has 2, but not more than there are samples."""
    tried: list[tuple[int, int]] = []

    def peak(recipe: Any, config: Any) -> int:
        tried.append((config.data.height, config.training.batch_size))
        return 500_000_000 + 1_000 * config.training.batch_size * config.data.height * config.data.width

    monkeypatch.setattr(module, "_measure_peak", peak)
    monkeypatch.setattr(module, "MIN_STAGE_STEPS", 1)
    auto = {"batch_size": "auto"}
    config = grown(small, SMALL | auto, LARGE | auto, max_steps=100)
    console = Console(file=io.StringIO(), width=300)
    settled, data = prepare_data(SelfsupRecipe, config, console)
    samples = len(data.train.samples)
    assert [stage.batch_size for stage in settled.training.stages] == [min(8, samples), 2]
    assert tried == [(64, 2), (32, min(8, samples))], "the last one has training.batch_size if that fits"
    assert f"stage 1: 96x32 in batches of {min(8, samples)}, which hold 0.51 GB" in console.file.getvalue()
    assert keep_batch_sizes(config, settled.model_dump(mode="json")).training == settled.training

    monkeypatch.setattr(module, "_memory_limit", lambda device: 513_000_000)
    settled, _ = prepare_data(SelfsupRecipe, config, Console(quiet=True))
    assert settled.training.batch_size == 1, "found before the training comes to its last stage"

    limited = config.model_copy(update={"training": config.training.model_copy(update={"memory_limit_gb": 0.5130})})
    settled, _ = prepare_data(SelfsupRecipe, limited, Console(quiet=True))
    assert [stage.batch_size for stage in settled.training.stages] == [min(4, samples), 1]
    assert settled.training.batch_size == 1
    tight = config.model_copy(update={"training": config.training.model_copy(update={"memory_limit_gb": 0.5})})
    with pytest.raises(
        RunError, match=r"memory of training.stages\[1\]: found 0.51 GB for a single sample of 192x64; expected 0.50 GB"
    ):
        prepare_data(SelfsupRecipe, tight, Console(quiet=True))


def test_memory_probe_trains_three_steps(small: SelfsupConfig) -> None:
    config = module.stage_config(grown(small, SMALL, LARGE), 0, 2)
    peak = module._measure_peak(SelfsupRecipe, config)
    assert peak is not None
    assert 10**8 < peak < 10**10


def test_recipes_declare_stage_support() -> None:
    assert SelfsupRecipe.supports_stages
    assert SupervisedRecipe.supports_stages
    assert not recipes.RECIPES.load("metric").supports_stages, "its heights are of one size"
