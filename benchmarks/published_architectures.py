"""All architectures of transformers for depth, built small from their configuration and saved as local folders:

    python benchmarks/published_architectures.py [--adapt-only] [ARCHITECTURE ...]

Each one predicts, is evaluated and exported, trains three steps in each recipe, resumes, and adapts for 20 steps, on a
RoadWorld in miniature. Prints a row of the table of docs/results/published-networks.md for each.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.training.recipes.published_folders import ARCHITECTURES, write_network

from stadia import training as launch
from stadia.cli.main import run as run_command_line
from stadia.evaluation.predictions_folder import Predictions
from stadia.synthetic.config import ROADWORLD_TINY
from stadia.synthetic.roadworld.roadworld_writer import write_roadworld
from stadia.training import adapt_network, recipes
from stadia.training.loop.checkpoint import Checkpoint
from stadia.training.prediction.export import export_checkpoint
from stadia.training.recipes import RECIPES
from stadia.training.recipes.base.build_recipe import open_network_checkpoint
from stadia.training.recipes.supervised.recipe import SupervisedRecipe

STEPS = 3
"""Updates of a training in each recipe."""

ADAPT_STEPS = 20
"""Updates of `stadia adapt`."""

SETTINGS: dict[str, Any] = {"workers": 0, "threads": 1, "check_seconds": 0, "loggers": ["csv"]}
"""Of `training`, for a network that trains in seconds."""


def run_stadia(*words: object) -> str:
    """Return what a command prints. Raises RuntimeError with its error where it fails."""
    out, err = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            run_command_line([str(word) for word in words])
    except SystemExit as ending:
        if ending.code:
            raise RuntimeError(f"stadia {words[0]}: {err.getvalue().strip().splitlines()[-1]}") from None
    return out.getvalue()


def train_and_resume(recipe: str, folder: Path, world: Path, out: Path) -> bool:
    """Return whether a training that was stopped before its last step ends with the weights of a whole one."""
    network = {"name": "published", "source": str(folder)}
    data: dict[str, Any] = {"path": str(world), "height": 32, "width": 96, "cache": {"folder": str(out / "cache")}}
    values: dict[str, Any] = {"model": {"network": network, "pretrained": True}}
    if recipe == "metric":
        data |= {"stereo": False, "offsets": [-1, 1]}
        values["road"] = {"priors": "roadworld"}
    if recipe != "supervised":
        values["model"]["pose_net"] = "correlation"
    training = {**SETTINGS, "max_steps": STEPS, "max_epochs": None, "batch_size": 2, "checkpoint_every": 1}
    config = recipes.configure(recipe, data=data, training=training, **values)
    whole = launch.train(config, out=out / "whole")
    recipe_class = RECIPES.load(recipe)
    training_step = recipe_class.training_step

    def stop(self: Any, batch: Any) -> Any:
        if self.global_step == STEPS - 1:
            raise KeyboardInterrupt
        return training_step(self, batch)

    recipe_class.training_step = stop
    try:
        with contextlib.suppress(KeyboardInterrupt):
            launch.train(config, out=out / "stopped")
    finally:
        recipe_class.training_step = training_step
    (stopped,) = (out / "stopped").iterdir()
    resumed = launch.train(config, resume=stopped)
    first, second = (Checkpoint.open(run.folder / "checkpoints" / "last.safetensors") for run in (whole, resumed))
    return first.header.step == second.header.step == STEPS and first.checksum == second.checksum


def measure_architecture(name: str, world: Path, out: Path) -> dict[str, Any]:
    """Return the row of an architecture."""
    folder = write_network(out / "network", name)
    run_stadia("predict", folder, world, "--out", out / "predicted", "--no-video", "data.split=val")
    predictions = Predictions.open(next((out / "predicted").rglob("predictions.json")).parent)
    arguments = ("--protocol", "relative", "--out", out / "scores", "--json", "data.split=val")
    scores = json.loads(run_stadia("evaluate", folder, world, *arguments))
    _, compared = export_checkpoint(open_network_checkpoint(folder, lambda: (64, 96)), out / "model.onnx")
    row: dict[str, Any] = {
        "depth": str(predictions.depth_scale),
        "images": len(predictions.files),
        "alignment": scores["alignment"],
        "abs_rel": round(scores["abs_rel"], 3),
        "export": max(comparison.relative for comparison in compared),
    }
    for recipe in ("selfsup", "metric", "supervised"):
        row[f"{recipe}_resumes"] = train_and_resume(recipe, folder, world, out / recipe)
    return {**row, **adapt(folder, world, out)}


def adapt(folder: Path, world: Path, out: Path) -> dict[str, Any]:
    """Return what 20 steps of `stadia adapt` print and keep."""
    settings = [f"training.{key}={json.dumps(value)}" for key, value in SETTINGS.items()]
    adapted = adapt_network(
        str(folder),
        world,
        out=out / "adapted",
        steps=ADAPT_STEPS,
        settings=[*settings, f"data.cache.folder={out / 'cache'}"],
    )
    return {"before": adapted.before.averages(), "after": adapted.after.averages(), "kept": adapted.kept}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("architectures", nargs="*", default=list(ARCHITECTURES), metavar="ARCHITECTURE")
    parser.add_argument("--adapt-only", action="store_true", help="adapt, and nothing else")
    arguments = parser.parse_args()
    SupervisedRecipe._fit = lambda recipe, network, data: network.calibrate(0.05, 0.01)  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as folder:
        world = Path(folder) / "world"
        write_roadworld(ROADWORLD_TINY.model_copy(update={"frames": 5}), world, workers=1)
        for name in arguments.architectures:
            out = Path(folder) / name
            if arguments.adapt_only:
                row = adapt(write_network(out / "network", name), world, out)
            else:
                row = measure_architecture(name, world, out)
            print(json.dumps({"architecture": name, **row}), flush=True)


if __name__ == "__main__":
    main()
