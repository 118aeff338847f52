"""Train good and bad networks, predict, and count the right verdicts of the prediction checks. An hour on two cores.

    python benchmarks/prediction_checks.py --out FOLDER [--only TEXT] [--judge] [--data FOLDER_OF_REAL_SAMPLES]

Trains each case of CASES into FOLDER/NAME (finished ones stay; --judge trains nothing), then predicts and prints one
row: the verdict with its codes, what was measured, and the error of the depth over that of constant depth. Images are
192x64; preflight and loss checks are left out, since they are not measured here.

The label is by construction and by the truth, not by the checks. good: nothing is broken, 200 steps or more, and
AbsRel (scaled by the median) is at most .6 of that of constant depth on frames that did not train where there are such.
bad: a part is broken, at most 40 steps, or AbsRel is above .9 of that of constant depth. Others are not counted. Truth
is rendered (RoadWorld), measured (7-Scenes), or semi-global matching of the pair (KITTI 06, EuRoC).

A right verdict is "usable" for a good training, and "doubtful" or "unusable" for a bad one.
"""

# mypy: disable-error-code="index, operator, var-annotated"

from __future__ import annotations

import json
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import cv2
import numpy as np
from numpy.typing import NDArray

import stadia.differentiable.torchvision_operators  # noqa: F401

sys.path.insert(0, str(Path(__file__).parents[1] / "experiments"))
# isort: split
from broken_trainings import TRAININGS, broken_by
from harness import REAL_DATA, make_parser
from real_stereo import semi_global_matching

from stadia import training
from stadia.core.types import RIGHT, Recording
from stadia.data.config import CacheConfig
from stadia.data.frame_preparation import read_frames
from stadia.data.open_dataset import open_recordings
from stadia.judge.finding import OnStop
from stadia.predict.verdict import PredictionGate, observe_frames, read_training_record
from stadia.synthetic.roadworld.roadworld_writer import render_demo_worlds
from stadia.training import recipes
from stadia.training.loop.checkpoint import Checkpoint
from stadia.training.recipes.base.build_recipe import load_predictor
from stadia.training.recipes.presets import preset_overrides

MAX_GOOD, MIN_BAD, FEW_STEPS = 0.6, 0.9, 40
MAX_DEPTH_M, FRAMES = 80, 60
SMALL = (
    *("data.height=64", "data.width=192", "training.batch_size=4", "training.workers=0", "training.threads=1"),
    *("training.log_every=5", "training.images_every=0", "training.checkpoint_every=100000"),
)
SMALL_DECODER = ("model.network.decoder_channels=8,16,24,32,64", "model.network.scales=1")
LITE = ("model.network.encoder=tf_efficientnet_lite0", "model.pretrained=true", *SMALL_DECODER)
MONO = (
    *("data.stereo=false", "data.offsets=[-1,1]", "loss.pyramid=1"),
    *("model.translation_scale=0.01", "optimizer.lr=5e-4"),
)
AUTO = (
    *(*LITE, "data.offsets=[-1,1]", "model.network.decoder_channels=8,16,24,32,64", "model.network.scales=1"),
    *("model.pose_net=correlation", "model.translation_scale=0.2", "loss.pyramid=4", "loss.auto_mask_from_step=100"),
    *("optimizer.lr=1e-3", "training.clip_norm=1.0", "schedule.warmup_steps=12", "loss.temporal_from_step=0"),
)
"""What `--preset auto` chooses on a processor."""
DPT = ("model.network=dpt", "model.network.size=tiny", "optimizer.lr=1e-3", "training.max_epochs=null")


@dataclass(frozen=True)
class Case:
    """data: of DATA.  broken: its row of TRAININGS, or what is wrong; empty for none.  fov_deg: given for a clip."""

    data: str
    steps: int
    words: tuple[str, ...] = ()
    broken: str = ""
    fov_deg: float = 0
    recipe: str = "selfsup"


NEAR = ("model.network.init_depth_m=3", "model.network.min_depth_m=0.2")
INDOORS = ("model.network.init_depth_m=2",)
CASES: dict[str, Case] = {
    **{f"road, lite, seed {s}": Case("road", 200, (*LITE, f"seed={s}")) for s in range(4)},
    **{f"road, mobile, seed {s}": Case("road", 290, (f"seed={s}",)) for s in range(4)},
    **{
        f"road, stereo and time, seed {s}": Case("road", 250, (*LITE, f"seed={s}", "data.offsets=[-1,1]"))
        for s in (0, 1)
    },
    **{f"road, dpt, seed {s}": Case("road", 290, (*DPT, f"seed={s}"), recipe="supervised") for s in range(2)},
    **{f"kitti, lite, seed {s}": Case("kitti", 200, (*LITE, f"seed={s}")) for s in range(4)},
    **{f"kitti, mobile, seed {s}": Case("kitti", 290, (f"seed={s}",)) for s in range(2)},
    **{f"euroc, lite, seed {s}": Case("euroc", 200, (*LITE, *NEAR, f"seed={s}")) for s in range(2)},
    **{f"kitchen, mono, seed {s}": Case("kitchen", 290, (*LITE, *MONO, *INDOORS, f"seed={s}")) for s in range(3)},
    **{f"kitti, auto, seed {s}": Case("kitti", 200, (*AUTO, f"seed={s}")) for s in range(2)},
    "road, lite, 3 steps": Case("road", 3, LITE),
    "road, mobile, 10 steps": Case("road", 10),
    "road, mobile, 25 steps": Case("road", 25, ("seed=3",)),
    "road, dpt, 10 steps": Case("road", 10, DPT, recipe="supervised"),
    "road, dpt, 25 steps": Case("road", 25, (*DPT, "seed=1"), recipe="supervised"),
    "kitti, mobile, 15 steps": Case("kitti", 15),
    "kitti, mobile, 40 steps": Case("kitti", 40, ("seed=1",)),
    "euroc, mobile, 20 steps": Case("euroc", 20, NEAR),
    "kitchen, mono, 40 steps": Case("kitchen", 40, (*MONO, *INDOORS)),
    "rate of 1e-10": Case("road", 150, broken="the rate is next to nothing"),
    "depth detached": Case("road", 150, broken="depth is detached"),
    "other sources": Case("road", 250, broken="the sources are those of another sample"),
    "rig inverted": Case("road", 250, broken="the rig's transform is inverted"),
    "K of the sources twice": Case("road", 250, broken="K of the sources is that of twice the size"),
    "no depth beyond 2 m": Case("road", 250, broken="no depth beyond 2 m"),
    "smoothness is all": Case("road", 250, broken="smoothness is all"),
    "smoothness is all, kitti": Case("kitti", 150, ("seed=2",), broken="smoothness is all"),
    "loss times 0": Case("road", 100, broken="the loss is multiplied by 0"),
    "mono, road": Case("road", 150, MONO),
    "mono, road, high rate": Case("road", 150, (*MONO, "optimizer.lr=5e-3", "seed=1")),
    "mono, road, rate 2e-3": Case("road", 290, (*MONO, "optimizer.lr=2e-3", "seed=1")),
    "mono, kitti, auto, 200 steps": Case("kitti", 200, (*AUTO, "data.stereo=false")),
    "mono, road, auto, 200 steps": Case("road", 200, (*AUTO, "data.stereo=false")),
    "mono, kitti, seed 0": Case("kitti", 150, MONO),
    "mono, kitti, seed 1": Case("kitti", 200, (*MONO, "seed=1")),
    "mono, a camera that stands": Case("static", 150, MONO, broken="no motion", fov_deg=82),
    "mono, a camera that turns only": Case("pan", 200, MONO, broken="no translation", fov_deg=55),
    "mono, noise": Case("noise", 150, MONO, broken="noise", fov_deg=60),
    "mono, drive": Case("raw", 150, MONO, broken="hardly any motion: 7.7 m in 78 frames", fov_deg=82),
    "mono, drive, 40 for 82 degrees": Case("raw", 200, MONO, broken="field of view", fov_deg=40),
    "mono, drive, 40 degrees, high rate": Case(
        "raw", 200, (*MONO, "optimizer.lr=2e-3", "seed=1"), broken="field of view", fov_deg=40
    ),
}


def kitti_raw_images(real: Path) -> list[NDArray[np.uint8]]:
    return [np.asarray(cv2.imread(str(file)), np.uint8) for file in sorted(real.rglob("image_02/**/*.png"))]


def write_clip(name: str, out: Path, real: Path) -> Path:
    """Write a clip without depth to learn from, and return its folder."""
    folder = out / "clips" / name
    if folder.is_dir():
        return folder
    clips: dict[str, Callable[[], Iterator[NDArray[np.uint8]]]] = {
        "static": lambda: still_frames(real),
        "pan": lambda: turning_frames(real),
        "noise": noise_frames,
        "raw": lambda: iter(kitti_raw_images(real / "kitti_raw")),
    }
    folder.mkdir(parents=True)
    for number, image in enumerate(clips[name]()):
        cv2.imwrite(str(folder / f"{number:06d}.png"), image)
    return folder


def still_frames(real: Path) -> Iterator[NDArray[np.uint8]]:
    rng, (first, *_) = np.random.default_rng(0), sorted((real / "kitti_odometry").rglob("image_0/*.png"))
    image = np.asarray(cv2.imread(str(first)), np.float64)
    for _ in range(30):
        yield (image + rng.normal(0, 4, image.shape)).clip(0, 255).astype(np.uint8)


def turning_frames(real: Path) -> Iterator[NDArray[np.uint8]]:
    image, focal = kitti_raw_images(real / "kitti_raw")[0], 720.0
    height, width = image.shape[:2]
    K = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
    for number in range(30):
        R = cv2.Rodrigues(np.array([0, np.radians(0.4 * number - 6), 0]))[0]
        turned = cv2.warpPerspective(image, K @ R @ np.linalg.inv(K), (width, height), borderMode=cv2.BORDER_REFLECT)
        yield np.asarray(turned[60:300, 240:1000], np.uint8)


def noise_frames() -> Iterator[NDArray[np.uint8]]:
    rng = np.random.default_rng(0)
    for _ in range(30):
        yield rng.integers(0, 256, (192, 576, 3), dtype=np.uint8)


def describe_data(case: Case, out: Path, real: Path) -> dict[str, Any]:
    """Return the `data` of a case's configuration."""
    if case.fov_deg:
        clip = write_clip(case.data, out, real)
        return {"path": str(clip), "camera": {"horizontal_fov_deg": case.fov_deg}, "stride": 1}
    if case.data == "road":
        return {"path": str(render_demo_worlds(CacheConfig()))}
    folder = {"kitti": "kitti_odometry", "euroc": "euroc", "kitchen": "sevenscenes"}[case.data]
    offsets = {} if case.data == "kitchen" else {"offsets": []}
    return {"path": str(real / folder), **offsets, **({"split_by": {"val_share": 0.2}} if case.data == "kitti" else {})}


def train(name: str, case: Case, out: Path, real: Path) -> None:
    """Train a case into its folder, anew after an interrupted one; what halts a training is part of the case."""
    folder = out / name.replace(", ", "-").replace(" ", "-")
    ended = [json.loads(path.read_text())["status"] for path in folder.glob("*/run.json")]
    if set(ended) - {"running", "interrupted"}:
        return
    shutil.rmtree(folder, ignore_errors=True)
    broken = TRAININGS.get(case.broken)
    steps = (f"training.max_steps={case.steps}", f"training.validate_every={min(case.steps, 100)}")
    preset = preset_overrides("demo") if case.recipe == "selfsup" else []
    preset += ["model.network=unet", *SMALL_DECODER] if case.recipe == "selfsup" else []
    words = (*preset, *SMALL, *steps, *case.words, *(broken.words if broken else ()))
    config = recipes.configure(case.recipe, words, data=describe_data(case, out, real))
    no_preflight = mock.patch("stadia.training.recipes.base.video_data.run_preflight", return_value=[])
    with broken_by(broken.patch if broken else None), no_preflight:
        try:
            training.train(config, out=folder, on_stop=OnStop.WARN)
        except Exception as error:
            print(f"    halted: {error}", file=sys.stderr)


def scored_frames(case: Case, out: Path, real: Path) -> list[tuple[Recording, range]]:
    """Return recordings with the frames to predict: unseen ones of RoadWorld and KITTI."""
    about = describe_data(case, out, real)
    if case.fov_deg:
        chosen = open_recordings(about["path"], camera=about["camera"], stride=1)
    elif case.data == "road":
        chosen = open_recordings(about["path"], split="test")
    else:
        chosen = open_recordings(about["path"])[:1]
    return [(one, range(41 if case.data == "kitti" else 0, min(len(one), FRAMES))) for one in chosen]


def true_depth_m(case: Case, recording: Recording, index: int) -> NDArray[np.floating] | None:
    if case.fov_deg:
        return None
    if case.data not in ("kitti", "euroc"):
        return recording.depth_m(index)
    disparity_px = semi_global_matching(recording.image(index), recording.image(index, RIGHT))
    baseline_m = -recording.T_right_left[0, 3]
    return np.where(disparity_px > 0, recording.K(index)[0, 0] * baseline_m / np.maximum(disparity_px, 1e-6), 0)


def relative_error(pairs: list[tuple[NDArray[np.floating], NDArray[np.floating]]]) -> float:
    """Return AbsRel over that of constant depth, both scaled by the median of each image."""
    own, constant = [], []
    for inverse_depth, truth in pairs:
        known = (truth > 0) & (truth < MAX_DEPTH_M)
        depth, there = 1 / inverse_depth[known], truth[known]
        if len(there) >= 100:
            own.append(float(np.mean(np.abs(depth * np.median(there) / np.median(depth) - there) / there)))
            constant.append(float(np.mean(np.abs(np.median(there) - there) / there)))
    return float(np.mean(own) / np.mean(constant))


def judge(name: str, case: Case, out: Path, real: Path) -> dict[str, Any]:
    """Predict and judge one trained case; return its row."""
    (run,) = (out / name.replace(", ", "-").replace(" ", "-")).iterdir()
    checkpoint = Checkpoint.open(run)
    predictor = load_predictor(checkpoint)
    gate, pairs = PredictionGate(predictor.depth_scale, read_training_record(checkpoint)), []
    for recording, indices in scored_frames(case, out, real):
        for index, _ in enumerate(observe_frames(gate, predictor, read_frames(recording, indices)), indices.start):
            if len(gate.samples) > len(pairs) and not case.fov_deg:
                truth = true_depth_m(case, recording, index)
                assert truth is not None
                size = gate.samples[-1].inverse_depth.shape[::-1]
                small = cv2.resize(np.asarray(truth, np.float32), size, interpolation=cv2.INTER_NEAREST)
                pairs.append((gate.samples[-1].inverse_depth, np.asarray(small)))
            elif len(gate.samples) < len(pairs):  # every second sample was dropped
                pairs = pairs[::2]
    judged = gate.judge()
    error = relative_error(pairs) if pairs else None
    is_bad = bool(case.broken) or case.steps <= FEW_STEPS or (error is not None and error > MIN_BAD)
    is_good = not is_bad and error is not None and error <= MAX_GOOD
    label = "bad" if is_bad else "good" if is_good else "between"
    measured = judged.measured
    assert measured is not None
    return {
        "name": name,
        "label": label,
        "verdict": str(judged.verdict),
        "codes": [one.code for one in judged.findings],
        "error": error,
        "spread": measured.spread,
        "change": measured.change,
        "match_error": measured.match_error,
        "row_error": measured.row_error,
        "mean_map_error": measured.mean_map_error,
        "right": label == "between" or (str(judged.verdict) == "usable") == (label == "good"),
    }


def main(out: Path, real: Path, only: str, *, judge_only: bool) -> int:
    """Train, judge, print the table and a line of JSON; return the exit status."""
    head = ["case", "label", "verdict", "codes", "error / constant", "spread", "change", "matches", "rows", "mean map"]
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}", flush=True)
    rows = []
    for name, case in CASES.items():
        if only not in name:
            continue
        if not judge_only:
            train(name, case, out, real)
        try:
            row = judge(name, case, out, real)
        except Exception as error:
            print(f"    {name}: {error}", file=sys.stderr)
            continue
        rows.append(row)
        measured = ("error", "spread", "change", "match_error", "row_error", "mean_map_error")
        numbers = ["-" if row[key] is None else f"{row[key]:.2f}" for key in measured]
        cells = [name, row["label"], row["verdict"], " ".join(row["codes"]) or "-", *numbers]
        print(f"| {' | '.join(cells)} |{'' if row['right'] else ' wrong'}", flush=True)
    counts = {
        label: f"{sum(row['right'] for row in rows if row['label'] == label)} of {number}"
        for label, number in Counter(row["label"] for row in rows).items()
    }
    print(json.dumps({"right": counts, "not_judged": len(CASES) - len(rows)}))
    return 0 if rows and all(row["right"] for row in rows) else 1


if __name__ == "__main__":
    parser = make_parser(__doc__)
    parser.add_argument("--out", type=Path, required=True, help="the folder of the trainings")
    parser.add_argument("--only", default="", metavar="TEXT", help="cases with this in their name")
    parser.add_argument("--judge", action="store_true", help="train nothing")
    default = REAL_DATA
    parser.add_argument("--data", type=Path, default=Path(default), help="the folder of real samples")
    arguments = parser.parse_args()
    sys.exit(main(arguments.out, arguments.data, arguments.only, judge_only=arguments.judge))
