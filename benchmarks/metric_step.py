"""Measure the cost of the recipe `metric` over a training step of `selfsup`: forward and backward on the same batches.

    python benchmarks/metric_step.py DATA [--rounds 12] [--size 96 320]

DATA is a data set with masks (RoadWorld). Processor time of one thread, so that other work on the machine does not
count. Rounds alternate, and the medians are compared. Loading is left out: masks are read from the cache like images.
"""

# mypy: disable-error-code="arg-type, no-untyped-call"

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import torch
from rich.console import Console

from stadia.training import recipes
from stadia.training.loop.batches import TrainingPlan
from stadia.training.recipes.metric.camera_heights import AverageHeight
from stadia.training.recipes.metric.recipe import MetricRecipe


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--size", type=int, nargs=2, default=(96, 320), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--batch", type=int, default=4)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    overrides = (
        *(f"data.height={arguments.size[0]}", f"data.width={arguments.size[1]}", "road.priors=roadworld"),
        *("model.pretrained=false", "training.workers=0", f"training.batch_size={arguments.batch}"),
    )
    config, data = MetricRecipe.prepare(
        recipes.configure("metric", overrides, data={"path": str(arguments.data)}), Console(quiet=True)
    )
    recipe = MetricRecipe(config).train()
    recipe.plan = TrainingPlan(batches_per_epoch=100, grad_accumulation_steps=1, total_steps=10_000)
    recipe.heights.heights = {group: AverageHeight(1.65, 1, 1.6) for group in range(len(recipe.groups))}
    recipe.heights.epoch = 5
    batch = next(iter(data.train))

    def selfsup() -> torch.Tensor:
        return recipe.view_synthesis(batch, recipe.model(batch), recipe.global_step).total

    def metric() -> torch.Tensor:
        return recipe.training_step(batch).total

    took: dict[str, list[float]] = {"selfsup": [], "metric": []}
    for _ in range(arguments.rounds + 2):
        for name, step in (("selfsup", selfsup), ("metric", metric)):
            recipe.zero_grad()
            started = time.process_time()
            step().backward()
            took[name].append(time.process_time() - started)
    medians = {name: statistics.median(values[2:]) for name, values in took.items()}
    print(
        json.dumps(
            {
                **medians,
                "ratio": medians["metric"] / medians["selfsup"],
                "batch": arguments.batch,
                "size": arguments.size,
            }
        )
    )


if __name__ == "__main__":
    main()
