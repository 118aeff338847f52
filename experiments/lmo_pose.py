"""Object pose from 30 real pictures: a small network learns the eight objects of Linemod-Occluded, and is scored on ten others.

    python experiments/lmo_pose.py
    python experiments/lmo_pose.py --steps 300
    python experiments/lmo_pose.py start_from=runs/2026-03-01-142530-bounded_log-seed0 data.height=128 data.width=160

The first 30 of the sample's 40 pictures train, from random weights; the last ten are scored, and what is found there is in the run's
predictions as pictures and as BOP's csv. Prints one JSON object: the scores of the ten before the first step and after the last, and
those of the 30 that trained. 30 pictures of eight objects are few: the way is tested, not the quality.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from stadia import recipes, report
from stadia.data.bop_results import write_results
from stadia.data.object_labels import ObjectPictures
from stadia.evaluation.predictions import Provenance
from stadia.evaluation.watch import unwatched
from stadia.recipes.object_scoring import known
from stadia.recipes.objectpose import ObjectPoseRecipe
from stadia.recipes.objectpose_commands import CSV, score_pictures
from stadia.recipes.objectpose_config import ObjectPoseConfig
from stadia.recipes.workflow import build_task, load_task
from stadia.training import rng
from stadia.training.run import Run

SETTINGS = (
    "name=lmo-pose",
    "data.format=bop",
    "data.train_split=test",
    "data.val_split=null",
    "data.val_share=0.25",
    "data.height=256",
    "data.width=320",
    "model.pretrained=false",
    "optimiser.lr=2e-3",
    "schedule.warmup_steps=50",
    "training.batch_size=4",
)
TOLD = ("objects", "recall", "precision", "rotation_error_deg_median", "rotation_error_deg_of_all", "translation_error_cm_median", "iou_3d")


def scores(task: ObjectPoseRecipe, pictures: ObjectPictures, run: Run, name: str) -> dict[str, Any]:
    """Of what is found in these pictures; the worst of them are drawn."""
    folder = run.folder / "predictions" / name
    score, results = score_pictures(task.eval(), pictures, folder, Provenance.of(run.folder), unwatched)
    write_results(folder / CSV, results)
    found = known(score.metrics())
    return {key: found[key] for key in (*TOLD, "ap_iou50", "ap_10deg_10cm")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    real = os.environ.get("STADIA_REAL_DATA", Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--data", default=real, help="folder of the real samples (STADIA_REAL_DATA)")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--out", type=Path, default=Path("runs"))
    parser.add_argument("overrides", nargs="*", help="dotted.key=value")
    arguments = parser.parse_args()

    path = str(Path(arguments.data) / "bop" / "lmo")
    every = f"training.validate_every={max(1, arguments.steps // 4)}"
    config = recipes.configure(
        "objectpose", [*SETTINGS, f"training.max_steps={arguments.steps}", every, *arguments.overrides], data={"path": path}
    )
    assert isinstance(config, ObjectPoseConfig)
    began = time.monotonic()
    run = recipes.train(config, out=arguments.out)
    train_s = round(time.monotonic() - began)
    settled, data = ObjectPoseRecipe.prepare(config, Console(stderr=True))
    rng.seed_all(config.seed, "training")
    start, trained = build_task(ObjectPoseRecipe, settled, resumed=False), load_task(run.folder)
    figures = {
        "start": scores(start, data.pictures["val"], run, "held-out-start"),
        "trained": scores(trained, data.pictures["val"], run, "held-out"),
        "trained_on": scores(trained, data.pictures["train"], run, "trained-on"),
    }
    report.build(run.folder)
    print(json.dumps({**figures, "train_s": train_s, "cores": os.cpu_count(), "seed": config.seed, "run": str(run.folder)}))


if __name__ == "__main__":
    main()
