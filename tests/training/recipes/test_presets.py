"""Presets: each one resolves without torch, and options of the command line change it."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.refusals import refuses

from stadia.core.errors import ConfigError
from stadia.training.recipes import configure
from stadia.training.recipes.presets import preset_names, read_preset

Stadia = Callable[..., tuple[int, str, str]]

RESOLVE_ALL = """
import sys
from stadia.training.recipes import configure
from stadia.training.recipes.presets import preset_names, read_preset
for name in preset_names():
    recipe = read_preset(name)["recipe"]
    data = {} if recipe in ("objectpose", "overlay") else {"path": "DATA"}
    assert configure(recipe, preset=name, data=data).recipe == recipe, name
heavy = {"torch", "timm", "lightning_fabric", "transformers"} & sys.modules.keys()
assert not heavy, heavy
"""


@pytest.mark.slow
def test_every_preset_resolves_without_torch() -> None:
    done = subprocess.run([sys.executable, "-c", RESOLVE_ALL], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_preset_is_over_the_defaults_and_under_what_is_given() -> None:
    config = configure(
        "selfsup", ["training.batch_size=3"], preset="monodepth2-kitti", data={"path": "DATA", "height": 64}
    )
    data, training = config.data, config.training  # type: ignore[attr-defined]
    assert (data.height, data.width, data.stereo) == (64, 640, False)
    assert (training.batch_size, training.max_epochs) == (3, 20)
    assert config.schedule.milestones == (15,)


@pytest.mark.parametrize("recipe", ["selfsup", "metric", "supervised"])
def test_recipes_of_depth_start_from_the_network_of_the_package(recipe: str) -> None:
    data = {"path": "DATA"}
    config = configure(recipe, data=data)
    assert (config.model.network.name, config.model.pretrained) == ("base", True)  # type: ignore[attr-defined]
    keys = {"supervised": "model.network.size=tiny"}.get(recipe, "model.network.encoder=resnet50")
    tuned = configure(recipe, [keys], data=data)
    assert tuned.model.network.name == {"supervised": "dpt"}.get(recipe, "unet")  # type: ignore[attr-defined]
    for name in preset_names():
        if read_preset(name)["recipe"] == recipe:
            network = configure(recipe, preset=name, data=data).model.network  # type: ignore[attr-defined]
            assert (network.name == "base") == (name in ("demo", "tiny-laptop")), name


def test_what_is_no_preset_of_the_recipe_is_refused_in_one_line(tmp_path: Path) -> None:
    with refuses(ConfigError, where="--preset", found=("demo", "selfsup"), expected="metric"):
        configure("metric", preset="demo")
    with refuses(ConfigError, where="--preset", found="monodepth-kitti", expected="monodepth2-kitti"):
        configure("selfsup", preset="monodepth-kitti")
    with refuses(ConfigError, where="--preset"):
        configure("selfsup", preset="none.yaml")
    (tmp_path / "list.yaml").write_text("- 1\n")
    with refuses(ConfigError, where="list.yaml", found="recipe"):
        configure("selfsup", preset=tmp_path / "list.yaml")


def test_presets_have_the_values_of_the_notebooks_that_they_follow():
    monodepth2 = configure("selfsup", preset="monodepth2-kitti", data={"path": "DATA"})
    assert monodepth2.model.translation_scale == 0.01
    fumet = configure("metric", preset="fumet-kitti", data={"path": "DATA"})
    assert (fumet.first_height, fumet.heights.first_epoch, fumet.heights.pool) == ("depth", 0, "mean")
    assert fumet.heights.max_jump == 2
    dpt = configure("supervised", preset="dpt-hybrid-kitti", data={"path": "DATA"})
    assert (dpt.loss.silog_form, dpt.loss.silog_lam, dpt.optimizer.name) == ("variance", 0.5, "adam")
    assert (dpt.model.network.scale, dpt.model.network.shift) == (6.016e-05, 0.00579)
