"""Measure what tilt, weather, crops and ignored regions change, on the demo's worlds. About a minute a training.

    python benchmarks/augmentation.py --out runs/augmentation [--steps 200] [--seeds 0 1 2] [--only tilt weather]

Trains `selfsup` with the preset `demo` at 192x64, stereo alone, one thread, without and with each option. Each network
is scored on every third frame of the four test worlds: AbsRel in metres of the frames as they are, and in fog, rain,
blur and noise of full strength; and the roll of the predicted road in frames rolled by 8 degrees to both sides, of
which a network that ignores the roll has an error of 8.

The rows "hood" train on the same worlds with a hood painted into every image, alone and with the region ignored; AbsRel
counts the pixels above the hood alone, for all rows.

Prints a JSON line for each run, and one for each option with mean differences to the plain training by seed and their
95 % interval.
"""

# mypy: disable-error-code="attr-defined, assignment, index, no-untyped-call, operator"

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch.nn.functional import interpolate

from stadia.core.types import Predictor, Recording
from stadia.data.config import WEATHERS, CacheConfig
from stadia.data.mask_files import ROAD, select_classes
from stadia.data.open_dataset import open_recordings
from stadia.differentiable.images import camera_to_torch, resize
from stadia.geometry.cameras import depth_from_inverse
from stadia.geometry.ground.road_plane import road_pixel_heights
from stadia.synthetic.roadworld.roadworld_writer import render_demo_worlds
from stadia.training.loading.transforms import WeatherDraw, add_weather, make_tilt, tilt_depth, tilt_image, tilt_values
from stadia.training.recipes.base.build_recipe import load_predictor

SIZE = (64, 192)
SETTINGS = (
    *(f"data.height={SIZE[0]}", f"data.width={SIZE[1]}", "data.offsets=[]", "model.pretrained=false"),
    *("model.network=unet", "model.network.encoder=mobilenetv3_small_100", "model.network.scales=2"),
    *("model.network.decoder_channels=[8,16,24,32,64]", "loss.pyramid=2", "optimizer.lr=5e-4"),
    *("training.batch_size=4", "training.workers=0", "training.threads=1", "training.max_epochs=null"),
    *("training.images_every=0", "training.checkpoint_every=1000000", "training.validate_every=1000000"),
)
ROLL_DEG = 8.0
HOOD_ROW = 78  # of 96: the hood reaches from here to the lower edge in the middle
TILT = ("data.augmentation.tilt.probability=0.5", f"data.augmentation.tilt.roll_deg={ROLL_DEG:g}")
CONSISTENCY = ("loss.tilt_consistency=0.1", f"loss.tilt_deg={ROLL_DEG:g}")
OPTIONS: dict[str, tuple[str, ...]] = {
    "plain": (),
    "tilt": TILT,
    "tilt_consistency": CONSISTENCY,
    "tilt, consistency": (*TILT, *CONSISTENCY),
    "weather": ("data.augmentation.weather.probability=0.5",),
    "zoom": ("data.augmentation.zoom=1.5",),
    "crop": ("data.augmentation.crop=[64,96]",),
    "hood": (),
    "hood, ignored": (),
}


def paint_hoods(data: Path, out: Path) -> Path:
    """Return a copy of the worlds with a hood in every image, and hood.png, the region."""
    folder, mask = out / "hood-worlds", out / "hood.png"
    if mask.exists():
        return folder
    shutil.copytree(data, folder, dirs_exist_ok=True)
    region = np.zeros((96, 320), np.uint8)
    cv2.ellipse(region, (160, 120), (190, 120 - HOOD_ROW), 0, 180, 360, 255, -1)
    shade = np.linspace(60, 140, 320)[None, :, None] + np.linspace(0, 60, 96)[:, None, None]
    for side in ("left", "right"):
        for file in sorted(folder.glob(f"**/{side}/*.png")):
            image = cv2.imread(str(file))
            if file.parent.parent.name in ("semantic", "instance") or image is None:
                continue
            image[region > 0] = np.broadcast_to(shade, image.shape)[region > 0].astype(np.uint8)
            cv2.imwrite(str(file), image)
    cv2.imwrite(str(mask), region)
    return folder


def train(name: str, options: tuple[str, ...], data: Path, seed: int, steps: int, out: Path) -> Path:
    """Train once and return the folder of the run."""
    called = f"{name.replace(', ', '-')}-{seed}"
    if not list(out.glob(f"runs/*{called}")):
        values = [*SETTINGS, *options, f"training.max_steps={steps}", f"seed={seed}", f"name={called}"]
        command = [sys.executable, "-m", "stadia", "train", "selfsup", "--preset", "demo", "--data", str(data)]
        command += ["--on-stop", "warn"]  # a training that fails is a result, too
        subprocess.run([*command, *values], check=True, stdout=subprocess.DEVNULL, cwd=out)
    return next(out.glob(f"runs/*{called}"))


@torch.no_grad()
def predict(predictor: Predictor, recording: Recording, image: NDArray[np.uint8]) -> torch.Tensor:
    """Return depth (1, 1, h, w) in metres of an image (H, W, 3)."""
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
    small, camera = resize(pixels, camera_to_torch(recording.camera(0)), predictor.height, predictor.width)
    return depth_from_inverse(torch.from_numpy(predictor.inverse_depth(small.numpy(), camera)))


def score(run: Path, worlds: Path, painted: Path | None) -> dict[str, float]:
    """Return AbsRel of clean and bad images above the hood, and the error of the road's roll in degrees."""
    predictor = load_predictor(run)
    values: dict[str, list[float]] = {}
    for number, recording in enumerate(open_recordings(worlds, split="test")):
        shown = recording if painted is None else open_recordings(painted, split="test")[number]
        for index in range(0, len(recording), 3):
            image, true_m = shown.image(index), recording.depth_m(index)
            assert true_m is not None
            values.setdefault("abs_rel", []).append(abs_rel(predict(predictor, recording, image), true_m))
            for kind in WEATHERS:
                draw = WeatherDraw(kind, 1.0, index)
                bad = add_weather(image.transpose(2, 0, 1)[None], draw, float(recording.K(index)[1, 2]))[0]
                found = predict(predictor, recording, np.ascontiguousarray(bad.transpose(1, 2, 0)))
                values.setdefault(f"abs_rel_{kind}", []).append(abs_rel(found, true_m))
            for roll_deg in (-ROLL_DEG, ROLL_DEG):
                error = roll_error_deg(predictor, recording, index, roll_deg)
                if np.isfinite(error):
                    values.setdefault("roll_error_deg", []).append(error)
    return {name: round(float(np.mean(errors)), 4) for name, errors in values.items()}


def abs_rel(predicted_m: torch.Tensor, true_m: NDArray[np.float32]) -> float:
    """Return the mean relative error of the pixels above the hood, nearer than 80 m."""
    predicted = interpolate(predicted_m, true_m.shape, mode="bilinear", align_corners=False)[0, 0].numpy()
    counted = (true_m > 0) & (true_m < 80)
    counted[HOOD_ROW:] = False
    return float((np.abs(predicted - true_m) / true_m)[counted].mean()) if counted.any() else float("nan")


def roll_error_deg(predictor: Predictor, recording: Recording, index: int, roll_deg: float) -> float:
    """Return the angle between the predicted and the true road of a rolled frame, about the optical axis."""
    masks, true_m, reader = recording.masks(index), recording.depth_m(index), recording.mask_reader
    assert masks is not None
    assert true_m is not None
    assert reader is not None
    K, R = recording.K(index), make_tilt(roll_deg=roll_deg, pitch_deg=0)
    predicted_m = predict(predictor, recording, tilt_image(recording.image(index), K, R))
    size = predicted_m.shape[-2:]
    on_road = select_classes(masks.semantic, reader.classes, {ROAD}).astype(np.float32)
    road = torch.from_numpy(tilt_values(on_road, K, R))
    true = tilt_depth(torch.from_numpy(true_m)[None], torch.from_numpy(K), R)
    _, camera = resize(torch.zeros(1, 3, *true_m.shape), camera_to_torch(recording.camera(index)), *size)
    shown, truth = interpolate(torch.stack([road, true[0]])[None], size, mode="nearest-exact").split(1, dim=1)
    rolls = []
    for depth_m in (predicted_m, truth):
        normal = road_pixel_heights(depth_m.float(), camera, (shown > 0) & (truth > 0)).normal[0]
        rolls.append(float(torch.rad2deg(torch.atan2(-normal[0], -normal[1]))))
    return abs(rolls[0] - rolls[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", choices=list(OPTIONS), default=list(OPTIONS))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    worlds, out = render_demo_worlds(CacheConfig()), arguments.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    if worlds.is_file():
        worlds = worlds.parent
    rows: dict[str, list[dict[str, float]]] = {}
    for seed in arguments.seeds:
        for name in dict.fromkeys(["plain", *arguments.only]):
            painted = paint_hoods(worlds, out) if name.startswith("hood") else None
            options = (f"data.ignore={out / 'hood.png'}",) if name == "hood, ignored" else OPTIONS[name]
            run = train(name, options, painted or worlds, seed, arguments.steps, out)
            found = score(run, worlds, painted)
            rows.setdefault(name, []).append(found)
            print(json.dumps({"option": name, "seed": seed, **found}), flush=True)
    for name, found in rows.items():
        differences = {}
        for key in found[0]:
            values = np.array([mine[key] - plain[key] for mine, plain in zip(found, rows["plain"], strict=True)])
            half = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values) if len(values) > 1 else float("nan")
            differences[key] = [round(float(np.mean([mine[key] for mine in found])), 4), round(float(values.mean()), 4)]
            differences[key].append(round(float(half), 4))
        print(json.dumps({"option": name, "mean, difference, half of the interval": differences}), flush=True)
    print(json.dumps({"cores": os.cpu_count(), "steps": arguments.steps}))


if __name__ == "__main__":
    main()
