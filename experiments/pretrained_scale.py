"""Compare pretraining with and without scale before a fine-tuning on few frames with LiDAR of KITTI raw.

    python experiments/metric_kitti.py PRE --data KITTI_RAW --masks kitti-masks --size 96 320 --steps 120 \
        --cases mixed selfsup --seeds 0 1 2 --overrides training.batch_size=2
    python experiments/pretrained_scale.py OUT --pretrained PRE --masks kitti-masks

Each run of PRE/results.jsonl, and the network of the package without a further training, is fine-tuned on four frames
with LiDAR, and scored on the last 15 frames in metres. PRE saw all frames of the drive without LiDAR.
Prints a line of JSON for each; the same command goes on where it was stopped. In the end the difference of each arm to
`selfsup`, paired by seed, with its 95 % interval.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
from metric_kitti import T_95
from rich.console import Console
from sparse_lidar import TRAINED, scores

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from harness import REAL_DATA, make_parser

from stadia import training
from stadia.data.open_dataset import open_recordings
from stadia.training import recipes

FRAMES = (TRAINED - 5, TRAINED + 1)  # the neighbors of four frames with LiDAR
SETTINGS = (
    *("data.height=96", "data.width=320", f"data.frames=[{FRAMES[0]},{FRAMES[1]}]", "data.split_by.val_share=0"),
    *("data.offsets=[-1,1]", "data.ground_truth_depth=true", "loss.sparse_depth=1.0", "teacher.network=null"),
    *("model.network=base", "model.pose_net=correlation", "optimizer.lr=1e-4", "schedule.warmup_steps=5"),
    *("training.batch_size=2", "training.clip_norm=1.0", "training.max_epochs=null", "training.threads=1"),
    *("training.workers=0", "training.validate_every=1000000", "training.images_every=0", "training.check_seconds=0"),
    # `metric` starts from both recipes; here its heights give nothing
    *("scale.object_height=0", "scale.camera_height=0", "first_height=depth", 'training.loggers=["csv"]'),
)
ARMS = {"selfsup": "selfsup", "mixed": "metric"}


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--pretrained", type=Path, required=True, help="OUT of metric_kitti.py")
    parser.add_argument("--masks", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=REAL_DATA, help="folder of the real samples (STADIA_REAL_DATA)")
    parser.add_argument("--steps", type=int, default=20)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    path = str(arguments.data / "kitti_raw")
    (recording,) = open_recordings(path)
    lines = map(json.loads, (arguments.pretrained / "results.jsonl").read_text().splitlines())
    runs = {
        (ARMS[line["case"]], line["seed"]): arguments.pretrained / "runs" / line["run"]
        for line in lines
        if line["case"] in ARMS and line["overrides"] == ["training.batch_size=2"]
    }
    seeds = sorted({seed for _, seed in runs})
    arguments.out.mkdir(parents=True, exist_ok=True)
    kept = arguments.out / "fine-tuned.json"
    found: dict[str, dict[str, float]] = json.loads(kept.read_text()) if kept.exists() else {}
    for seed in seeds:
        for arm in ("selfsup", "metric", "base"):
            start = runs.get((arm, seed))
            if f"{arm}/{seed}" in found:
                continue
            masks = f"road.masks={json.dumps(str(arguments.masks.resolve()))}"
            words = (
                *SETTINGS,
                masks,
                f"training.max_steps={arguments.steps}",
                *([f"start_from={start}"] if start else []),
            )
            config = recipes.configure("metric", words, seed=seed, data={"path": path})
            run = training.train(config, out=arguments.out / "runs", has_scores=False)
            after = scores(recipes.load_predictor(run.folder), recording, run, "test")
            row = {"abs_rel": after["abs_rel"], "d1": after["d1"]}
            found[f"{arm}/{seed}"] = row
            kept.write_text(json.dumps(found, indent=1))
            Console(soft_wrap=True).print_json(json.dumps({"start": arm, "seed": seed, **row}), indent=None)
    for arm in ("metric", "base"):
        steps = np.array([found[f"{arm}/{seed}"]["abs_rel"] - found[f"selfsup/{seed}"]["abs_rel"] for seed in seeds])
        half = T_95[len(seeds)] * steps.std(ddof=1) / len(seeds) ** 0.5
        print(f"{arm} minus selfsup: AbsRel {steps.mean():+.3f} +- {half:.3f}")


if __name__ == "__main__":
    main()
