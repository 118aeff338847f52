"""Measure how many labels depth needs: a small DPT on RoadWorld with 3 % of the pixels labeled, and with all of them.

    python experiments/few_labels.py
    python experiments/few_labels.py --share 0.01 training.max_steps=300

Trains on the same worlds with the same network, seed and steps twice. The labeled pixels are drawn once per frame.
Prints one JSON object: AbsRel on four unseen worlds (every pixel scored, metres, no fit), the ratio of the two, and
the share of the labels that was kept (`labeled`).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import time
import zlib
from pathlib import Path

import numpy as np
from rich.console import Console

from stadia import training
from stadia.data.open_dataset import open_recordings
from stadia.evaluation.predictions_folder import Provenance
from stadia.training import recipes
from stadia.training.demo import render_worlds
from stadia.training.loop.checkpoint import open_checkpoint
from stadia.training.prediction.validation import score_recordings

SETTINGS = (
    "data.height=96",
    "data.width=320",
    "model.network=dpt",
    "model.network.size=tiny",
    "optimizer.lr=1e-3",
    "schedule.warmup_steps=50",
    "training.batch_size=6",
    "training.clip_norm=1.0",
    "training.max_epochs=null",
    "training.validate_every=500",
)


def with_labels_at(share: float, worlds: Path, out: Path) -> float:
    """Copy the worlds to `out` with ground truth at a random share of the pixels, drawn by the file's name.

    Returns the share of the pixels with ground truth that still have it.
    """
    shutil.copytree(worlds, out, dirs_exist_ok=True)
    maps = sorted(out.glob("*/depth/*/*.npy"))
    assert maps, f"{out} has no ground truth to thin out"
    labeled = before = 0
    for path in maps:
        depth_m = np.load(path, allow_pickle=False)
        before += int(np.count_nonzero(depth_m))
        random = np.random.default_rng(zlib.crc32(str(path.relative_to(out)).encode()))
        kept = np.where(random.random(depth_m.shape) < share, depth_m, 0).astype(np.float32)
        labeled += int(np.count_nonzero(kept))
        np.save(path, kept)
    return labeled / before


def trained_on(worlds: Path, name: str, truth: Path, arguments: argparse.Namespace) -> dict[str, float]:
    """Train, and return AbsRel and RMSE on the test worlds of `truth`, metres, every pixel."""
    settings = (*SETTINGS, f"name={name}", f"training.max_steps={arguments.steps}", *arguments.overrides)
    began = time.monotonic()
    run = training.train(recipes.configure("supervised", settings, data={"path": str(worlds)}), out=arguments.out)
    train_s = round(time.monotonic() - began)
    test, console = open_recordings(truth, split="test"), Console(stderr=True)
    scored = score_recordings(
        recipes.load_predictor(run.folder),
        test,
        run,
        "test",
        Provenance.from_checkpoint(open_checkpoint(run.folder)),
        console,
    )
    assert scored is not None
    assert scored.depth is not None
    return {"abs_rel": scored.depth.metrics["abs_rel"], "rmse": scored.depth.metrics["rmse"], "train_s": train_s}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--share", type=float, default=0.03, help="of the pixels, that is labeled")
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--out", type=Path, default=Path("runs"))
    parser.add_argument("overrides", nargs="*", help="dotted.key=value")
    arguments = parser.parse_args()

    worlds = render_worlds(Console(stderr=True))
    few = arguments.out / f"worlds-labeled-{arguments.share:g}"
    if few.exists():
        shutil.rmtree(few)  # of a run that was broken off: thinned out twice, it would have fewer labels
    labeled = with_labels_at(arguments.share, worlds, few)
    found = {
        "all": trained_on(worlds, "labels-all", worlds, arguments),
        "few": trained_on(few, f"labels-{arguments.share:g}", worlds, arguments),
    }
    shutil.rmtree(few)
    ratio = found["few"]["abs_rel"] / found["all"]["abs_rel"]
    print(
        json.dumps(
            {**found, "share": arguments.share, "labeled": labeled, "ratio": ratio, "cores": os.cpu_count(), "seed": 0}
        )
    )


if __name__ == "__main__":
    main()
