r"""Compare progressive resizing (32, 64, 128 pixels) with 128 alone, on the same samples, by the time to the same
quality.

    python experiments/progressive.py
    python experiments/progressive.py --recipe supervised --sizes 32x96 64x192 96x320 \
        --shares 0.4 0.3 0.3 data.path=WORLDS model.network=dpt model.network.size=tiny
    python experiments/progressive.py --batch-size 16

Each seed trains twice: at the last size alone, `--steps` steps of `training.batch_size`; and in stages, which share as
many samples. Time is that of the steps, by metrics.csv: loading, computing and logging, no validation. Quality is the
recipe's best metric, lower is better, on images of the last size. Prints a table and one JSON object: both qualities,
the time after which the stages reached the other's best, and whether that is at most 60 % of the other's time.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
from pathlib import Path
from typing import Any

import stadia.differentiable.torchvision_operators  # noqa: F401
from stadia import training
from stadia.io.metrics_table import read_rows
from stadia.training import recipes
from stadia.training.loop.run_folder import Run
from stadia.training.recipes import RECIPES

GOAL = 0.6
SAME = 1.01
"""Of the other's best: as good as that, since single validations scatter."""


def course(run: Run, metric: str) -> list[tuple[float, float]]:
    """Return (seconds of training, value) of each validation."""
    seconds, before, found = 0.0, 0, []
    for row in read_rows(run.metrics_csv):
        step = int(row["step"])
        if row.get("time/step_s"):
            seconds += float(row["time/step_s"]) * (step - before)
            before = step
        if row.get(metric):
            found.append((seconds, float(row[metric])))
    return found


def reached(found: list[tuple[float, float]], value: float) -> float:
    """Return the seconds after which it was as good; infinite if it never was."""
    return next((seconds for seconds, reached in found if reached <= value * SAME), math.inf)


def trained(arguments: argparse.Namespace, seed: int, stages: list[dict[str, Any]]) -> Run:
    height, width = size(arguments.sizes[-1])
    settings = [
        f"seed={seed}",
        f"name={'stages' if stages else 'alone'}-{seed}",
        f"data.height={height}",
        f"data.width={width}",
    ]
    settings += [
        f"training.max_steps={arguments.steps}",
        "training.max_epochs=null",
        f"training.validate_every={arguments.validate_every}",
    ]
    if stages:
        settings += [f"training.stages={json.dumps(stages)}", f"training.stage_lr_scaling={arguments.stage_lr_scaling}"]
    return training.train(recipes.configure(arguments.recipe, [*settings, *arguments.overrides]), out=arguments.out)


def size(text: str) -> tuple[int, int]:
    """Return (height, width) of "64" or of "64x192"."""
    height, _, width = text.partition("x")
    return int(height), int(width or height)


def compared(arguments: argparse.Namespace, seed: int, metric: str) -> dict[str, Any]:
    shares = arguments.shares or [1 / len(arguments.sizes)] * len(arguments.sizes)
    sizes = [size(text) for text in arguments.sizes]
    batch = {} if arguments.batch_size is None else {"batch_size": arguments.batch_size}
    stages = [{"height": h, "width": w, "share": share, **batch} for (h, w), share in zip(sizes, shares, strict=True)]
    alone, staged = trained(arguments, seed, []), trained(arguments, seed, stages)
    of_alone, of_staged = course(alone, metric), course(staged, metric)
    best = min(value for _, value in of_alone)
    needed, took = reached(of_alone, best), reached(of_staged, best)
    return {
        "seed": seed,
        "alone": best,
        "stages": min(value for _, value in of_staged),
        "alone_s": of_alone[-1][0],
        "stages_s": of_staged[-1][0],
        "alone_to_its_best_s": needed,
        "stages_to_that_s": took,
        "share": took / needed,
        "batches": [stage.batch_size for stage in staged.facts.stages],
        "steps": [stage.steps for stage in staged.facts.stages],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="overlay")
    parser.add_argument(
        "--sizes", nargs="+", default=["32", "64", "128"], help="HEIGHT or HEIGHTxWIDTH, the last one is validated"
    )
    parser.add_argument("--shares", nargs="+", type=float, help="of the samples, by size; equal ones by default")
    parser.add_argument("--steps", type=int, default=2000, help="of the training at the last size alone")
    parser.add_argument("--validate-every", type=int, default=100)
    parser.add_argument("--stage-lr-scaling", default="root", choices=["root", "linear", "constant"])
    parser.add_argument("--batch-size", type=int, help="of every stage; without, that of constant pixels")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--out", type=Path, default=Path("runs"))
    parser.add_argument("overrides", nargs="*", help="dotted.key=value")
    arguments = parser.parse_args()
    (metric, *_) = RECIPES.load(arguments.recipe).best_metrics
    found = [compared(arguments, seed, metric) for seed in arguments.seeds]
    print(
        f"{'seed':>4} {'alone':>9} {'in stages':>9} {'to its best':>12} {'stages to that':>15} {'share':>7}   {metric}"
    )
    for one in found:
        times = f"{one['alone_to_its_best_s']:>10.0f} s {one['stages_to_that_s']:>13.0f} s {one['share']:>7.0%}"
        print(f"{one['seed']:>4} {one['alone']:>9.4f} {one['stages']:>9.4f} {times}")
    share = statistics.median(one["share"] for one in found)
    verdict = "reached" if share <= GOAL else "not reached"
    print(f"the same quality in at most {GOAL:.0%} of the time: {verdict} (median of {len(found)}: {share:.0%})")
    per_seed = json.loads(json.dumps(found).replace("Infinity", "null"))
    print(
        json.dumps(
            {
                "recipe": arguments.recipe,
                "metric": metric,
                "goal": GOAL,
                "reached": share <= GOAL,
                "cores": os.cpu_count(),
                "each": per_seed,
            }
        )
    )


if __name__ == "__main__":
    main()
