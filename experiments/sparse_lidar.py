"""Learn depth in metres from sparse ground truth: a small DPT on 60 of the 78 KITTI frames with LiDAR, scored on the
last 15.

    python experiments/sparse_lidar.py
    python experiments/sparse_lidar.py training.max_steps=200
    python experiments/sparse_lidar.py start_from=runs/2026-03-01-142530-supervised

The last 15 frames are scored and the three before them left out. Prints one JSON object: AbsRel and RMSE in metres
without a fit (protocol `metric`), of the network before its first step, of the trained one, and of the mean depth of
each pixel over the same 60 frames.
"""

# mypy: disable-error-code="attr-defined, arg-type, return-value"

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from rich.console import Console

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from harness import REAL_DATA, make_parser

from stadia import report, training
from stadia.core.types import Predictor, Recording
from stadia.data.open_dataset import open_recordings
from stadia.data.recordings import FrameRange
from stadia.differentiable import torch_state
from stadia.evaluation.predictions_folder import Provenance
from stadia.predict.mean_depth import average_recordings
from stadia.training import recipes
from stadia.training.loop.checkpoint import open_checkpoint
from stadia.training.loop.run_folder import Run
from stadia.training.prediction.validation import score_recordings
from stadia.training.recipes.base.build_recipe import init_recipe
from stadia.training.recipes.base.config import RecipeConfig
from stadia.training.recipes.supervised.recipe import SupervisedRecipe

TRAINED, GAP = 60, 3
SETTINGS = (
    "name=kitti-lidar",
    f"data.frames=[0,{TRAINED}]",
    "data.split_by.val_share=0",
    "data.height=128",
    "data.width=416",
    "model.network=dpt",
    "model.network.size=tiny",
    "optimizer.lr=1e-3",
    "schedule.warmup_steps=50",
    "training.batch_size=4",
    "training.clip_norm=1.0",
    "training.max_epochs=null",
)


def start(config: RecipeConfig) -> Predictor:
    """Return the network before its first step, its scale fitted to the training's ground truth."""
    config, data = SupervisedRecipe.prepare(config, Console(stderr=True))
    torch_state.seed_generators(config.seed, "training")
    recipe = init_recipe(SupervisedRecipe, config, resumed=False)
    recipe.save_data_stats(data)
    return recipe.predictor()


def scores(predictor: Predictor, recording: Recording, run: Run, name: str) -> dict[str, float]:
    """Return the scores in metres, on the frames that are scored."""
    indices = {recording.name: range(TRAINED + GAP, len(recording))}
    provenance = Provenance.from_checkpoint(open_checkpoint(run.folder))
    scored = score_recordings(predictor, [recording], run, name, provenance, Console(stderr=True), indices=indices)
    assert scored is not None
    assert scored.depth is not None
    return {key: scored.depth.metrics[key] for key in ("abs_rel", "rmse", "silog", "d1")}


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--data", default=REAL_DATA, help="folder of the real samples (STADIA_REAL_DATA)")
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--out", type=Path, default=Path("runs"))
    parser.add_argument("overrides", nargs="*", help="dotted.key=value")
    arguments = parser.parse_args()

    path = str(Path(arguments.data) / "kitti_raw")
    settings = (*SETTINGS, f"training.max_steps={arguments.steps}", *arguments.overrides)
    config = recipes.configure("supervised", settings, data={"path": path})
    began = time.monotonic()
    run = training.train(config, out=arguments.out)
    train_s = round(time.monotonic() - began)
    (recording,) = open_recordings(path)
    mean = average_recordings([FrameRange(recording, 0, TRAINED)], config.data.height, config.data.width)
    figures = {
        "start": scores(start(config), recording, run, "test-start"),
        "trained": scores(recipes.load_predictor(run.folder), recording, run, "test"),
        "mean_depth": scores(mean, recording, run, "test-mean-depth"),
    }
    report.build_report(run.folder)
    print(
        json.dumps(
            {**figures, "train_s": train_s, "cores": os.cpu_count(), "seed": config.seed, "run": str(run.folder)}
        )
    )


if __name__ == "__main__":
    main()
