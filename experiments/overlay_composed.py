"""Predict depth and mask of composite images with unseen backgrounds and foregrounds, at 64x64, in minutes on two
cores.

    python experiments/overlay_composed.py OUT [--minutes 10] [key=value ...]

Trains `overlay` with its defaults, for the number of steps that fits into the minutes by a short trial. Prints for the
validation's images:
- the mask's IoU (goal: at least .95) beside that of the difference between image and background;
- depth RMSE beside that of the mean depth (goal: at most half of it);
- the time (goal: ten minutes).

Worlds, objects and images of the validation are separate from the training's. Otherwise findings C01 and C02 stop the
training.
"""

# mypy: disable-error-code="union-attr"

from __future__ import annotations

import argparse
import time
from pathlib import Path

from stadia import training
from stadia.io.input_files import read_json
from stadia.training import recipes

IOU, SHARE, MINUTES = 0.95, 0.5, 10.0
TRIED, OF_STEPS = 300, 0.85
"""Steps of the trial; and what of the time steps take, validation, images and scores having the rest."""


def steps_in(minutes: float, out: Path, overrides: list[str]) -> int:
    """Return the number of steps in so many minutes on this machine, by the median step of a short training; render
    first.
    """
    tried = [f"training.max_steps={TRIED}", "training.validate_every=null", "data.val_samples=16"]
    run = training.train(recipes.configure("overlay", ["training.threads=2", *overrides, *tried]), out=out / "trial")
    return round(OF_STEPS * 60 * minutes / sum(run.facts.time.step_s.values()))


def main(out: Path, minutes: float | None, overrides: list[str]) -> None:
    """Train, then print a line each."""
    if minutes is not None:
        overrides = [*overrides, f"training.max_steps={steps_in(minutes, out, overrides)}"]
    began = time.perf_counter()
    run = training.train(recipes.configure("overlay", ["training.threads=2", *overrides]), out=out)
    took = (time.perf_counter() - began) / 60
    names = ("val", "val-mean-depth", "val-difference")
    found, mean, difference = (read_json(run.folder / "scores" / f"{name}.json")["metrics"] for name in names)
    share = found["rmse"] / mean["rmse"]
    print(f"{run.folder}: {run.config['training']['max_steps']} steps")
    print(
        f"{took:.1f} minutes, data and scores included"
        f" {verdict(took <= (minutes or MINUTES), f'{minutes or MINUTES:g}')}"
    )
    print(
        f"mask IoU {found['mask_iou']:.3f}, where the images differ {difference['mask_iou']:.3f} "
        f"{verdict(found['mask_iou'] >= IOU, f'{IOU:g}')}"
    )
    below = f"{1 - share:.0%} below {verdict(share <= SHARE, f'{SHARE:.0%}')}"
    print(f"depth RMSE {found['rmse']:.2f} m, mean depth {mean['rmse']:.2f} m: {below}")
    print(
        "others: "
        + ", ".join(f"{name} {found[name]:.3f}" for name in ("mask_dice", "mask_boundary_f", "abs_rel", "d1"))
    )


def verdict(reached: bool, goal: str) -> str:
    """Return it in words."""
    return f"(goal {goal}: {'reached' if reached else 'missed'})"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--minutes", type=float, help="train as long as this; else training.max_steps")
    arguments = parser.parse_intermixed_args()
    main(arguments.out, arguments.minutes, arguments.overrides)
