"""Learn object pose from 30 real images: a small network on the eight objects of Linemod-Occluded, scored on ten
others.

    python experiments/lmo_pose.py
    python experiments/lmo_pose.py --steps 600 model.encoder=regnetx_002 model.pretrained=false
    python experiments/lmo_pose.py start_from=runs/2026-03-01-142530-bounded_log-seed0 data.height=128 data.width=160

The first 30 of the sample's 40 images train, from the encoder of `base`; the last ten are scored. The run's
predictions hold the found objects as images and as BOP's csv. Prints one JSON object: the scores of the ten before
the first step and after the last, and those of the 30 that trained. The last checkpoint is scored, as in the run's
own scores/val.json, since the ten images choose the best one (they validate). 30 images of eight objects are few:
this tests the pipeline, not the quality.
"""

# mypy: disable-error-code="arg-type, attr-defined"

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from harness import REAL_DATA, make_parser

from stadia import report, training
from stadia.core.progress import no_progress
from stadia.differentiable import torch_state
from stadia.evaluation.predictions_folder import Provenance
from stadia.objectpose.config import ObjectPoseConfig
from stadia.objectpose.data.bop import BopImages, to_boxes, write_results
from stadia.objectpose.recipe import ObjectPoseRecipe
from stadia.objectpose.scores import add_recall, replace_nan
from stadia.objectpose.task import CSV, score_images
from stadia.training import recipes
from stadia.training.loop.checkpoint import open_checkpoint
from stadia.training.loop.run_folder import Run
from stadia.training.recipes.base.build_recipe import init_recipe, load_recipe

TRAINED = 30
SETTINGS = (
    "name=lmo-pose",
    "data.format=bop",
    "data.train_split=test",
    "data.val_split=null",
    "data.val_share=0.25",
    "data.height=256",
    "data.width=320",
    "optimizer.lr=2e-3",
    "schedule.warmup_steps=50",
    "training.batch_size=4",
)
TOLD = (
    "objects",
    "recall",
    "precision",
    "rotation_error_deg_median",
    "rotation_error_deg_of_all",
    "translation_error_cm_median",
    "iou_3d",
    "ap_iou50",
    "ap_5deg_5cm",
    "ap_10deg_10cm",
    "add_recall",
)


def scores(recipe: ObjectPoseRecipe, images: BopImages, run: Run, name: str, made_by: Provenance) -> dict[str, Any]:
    """Score the objects found in these images, write them as BOP's csv, and draw the worst images."""
    folder = run.folder / "predictions" / name
    score, results = score_images(recipe.eval(), images, folder, made_by, no_progress)
    write_results(folder / CSV, results)
    of_models = add_recall(images, to_boxes(results, images))
    found = replace_nan({**score.metrics(), "add_recall": of_models["add_recall"]})
    return {key: found[key] for key in TOLD}


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--data", default=REAL_DATA, help="folder of the real samples (STADIA_REAL_DATA)")
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--out", type=Path, default=Path("runs"))
    parser.add_argument("overrides", nargs="*", help="dotted.key=value")
    arguments = parser.parse_args()

    path = str(Path(arguments.data) / "bop" / "lmo")
    every = f"training.validate_every={max(1, arguments.steps // 4)}"
    config = recipes.configure(
        "objectpose",
        [*SETTINGS, f"training.max_steps={arguments.steps}", every, *arguments.overrides],
        data={"path": path},
    )
    assert isinstance(config, ObjectPoseConfig)
    began = time.monotonic()
    run = training.train(config, out=arguments.out)
    train_s = round(time.monotonic() - began)
    last = run.checkpoints / "last.safetensors"
    images, trained, made_by = (
        BopImages.open(Path(path)),
        load_recipe(last),
        Provenance.from_checkpoint(open_checkpoint(last)),
    )
    train, held_out = images.part(range(TRAINED)), images.part(range(TRAINED, len(images)))
    torch_state.seed_generators(config.seed, "training")
    start = init_recipe(ObjectPoseRecipe, trained.config, resumed=False)
    figures = {
        "start": scores(
            start, held_out, run, "held-out-start", made_by.model_copy(update={"checkpoint": "none, step 0"})
        ),
        "trained": scores(trained, held_out, run, "held-out", made_by),
        "trained_on": scores(trained, train, run, "trained-on", made_by),
    }
    report.build_report(run.folder)
    print(
        json.dumps(
            {**figures, "train_s": train_s, "cores": os.cpu_count(), "seed": config.seed, "run": str(run.folder)}
        )
    )


if __name__ == "__main__":
    main()
