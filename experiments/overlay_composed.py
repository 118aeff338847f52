"""Depth and mask of composed pictures of unseen backgrounds and foregrounds, at 64x64, in minutes on two cores.

    python experiments/overlay_composed.py OUT [key=value ...]

Trains `overlay` with its defaults for ten minutes' worth of steps and prints, of the validation's pictures, the mask's IoU (goal: .95 at
least) and depth RMSE beside that of the mean depth (goal: half of it at most). Worlds, objects and their pictures of the validation are
none of the training's: findings C01 and C02 stop the training otherwise.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from stadia import recipes
from stadia.core.files import read_json

IOU, SHARE = 0.95, 0.5


def main(out: Path, overrides: list[str]) -> None:
    """Train, then print a line each."""
    began = time.perf_counter()
    run = recipes.train(recipes.configure("overlay", ["training.threads=2", *overrides]), out=out)
    minutes = (time.perf_counter() - began) / 60
    found, mean = (read_json(run.folder / "scores" / f"{name}.json")["metrics"] for name in ("val", "val-mean-depth"))
    share = found["rmse"] / mean["rmse"]
    print(f"{run.folder}: {minutes:.1f} minutes, data and scores included")
    print(f"mask IoU {found['mask_iou']:.3f} (goal {IOU:g}: {'reached' if found['mask_iou'] >= IOU else 'missed'})")
    print(
        f"depth RMSE {found['rmse']:.2f} m, mean depth {mean['rmse']:.2f} m: {1 - share:.0%} below "
        f"(goal {SHARE:.0%}: {'reached' if share <= SHARE else 'missed'})"
    )
    print("others: " + ", ".join(f"{name} {found[name]:.3f}" for name in ("mask_dice", "mask_boundary_f", "abs_rel", "d1")))


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), sys.argv[2:])
