"""Measure how much the road in a training's depth leans against the true one: the cause of H11 early in `metric`
trainings.

    python experiments/road_lean.py RUN [--data FOLDER] [--split val]

RUN is the folder of a training. The data are RoadWorld's: by default the demo's worlds, every third frame of the
split. The lean of a road is the angle, in degrees, from the camera's y axis to the road's mean normal about the
camera's x axis; positive if the road rises ahead. Prints a line of JSON: medians over frames, of the predicted and of
the true depth, and of the angle between both normals.
"""

# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from stadia.core.types import Predictor, Recording
from stadia.data.config import CacheConfig
from stadia.data.mask_files import ROAD, select_classes
from stadia.data.open_dataset import open_recordings
from stadia.differentiable.images import camera_to_torch, resize
from stadia.geometry.cameras import depth_from_inverse
from stadia.geometry.ground.road_plane import erode_mask, road_pixel_heights
from stadia.synthetic.roadworld.roadworld_writer import render_demo_worlds
from stadia.training.recipes.base.build_recipe import load_predictor

EVERY = 3


@torch.no_grad()
def normals(predictor: Predictor, recording: Recording) -> Iterator[Tensor]:
    """Return (2, 3) for frames that show a road: its mean normal, towards the camera, by the predicted and by the
    true depth.
    """
    for index in range(0, len(recording), EVERY):
        reader, masks, true_m = recording.mask_reader, recording.masks(index), recording.depth_m(index)
        if reader is None or masks is None or true_m is None:
            continue
        pixels = torch.from_numpy(recording.image(index)).permute(2, 0, 1)[None] / 255
        image, camera = resize(
            pixels.float(), camera_to_torch(recording.camera(index)), predictor.height, predictor.width
        )
        predicted_m = depth_from_inverse(torch.from_numpy(predictor.inverse_depth(image.numpy(), camera)))
        shown = select_classes(masks.semantic, reader.classes, {ROAD})
        maps = torch.stack([torch.from_numpy(true_m), torch.from_numpy(shown).float()])[None]
        true, road = interpolate(maps, predicted_m.shape[-2:], mode="nearest-exact").split(1, dim=1)
        both = torch.cat(
            [road_pixel_heights(depth_m, camera, erode_mask(road > 0)).normal for depth_m in (predicted_m, true)]
        )
        if both.isfinite().all():
            yield both


def lean_deg(normal: Tensor) -> Tensor:
    """Return the lean, (..., 3) to (...)."""
    return torch.rad2deg(torch.atan2(-normal[..., 2], -normal[..., 1]))


def main(run: Path, data: Path, split: str) -> None:
    predictor = load_predictor(run)
    each = [both for recording in open_recordings(data, split=split) for both in normals(predictor, recording)]
    if not each:
        raise SystemExit(f"{data}: no frame of '{split}' with a road and depth")
    predicted, true = torch.stack(each).unbind(1)
    apart = torch.rad2deg(torch.acos((predicted * true).sum(-1).clamp(-1, 1)))
    angles = {"lean_deg": lean_deg(predicted), "true_lean_deg": lean_deg(true), "apart_deg": apart}
    rounded = {name: round(float(values.median()), 2) for name, values in angles.items()}
    print(json.dumps({**rounded, "frames": len(each), "split": split, "cores": os.cpu_count()}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", type=Path, help="default: the demo's worlds")
    parser.add_argument("--split", default="val")
    arguments = parser.parse_args()
    main(arguments.run, arguments.data or render_demo_worlds(CacheConfig()), arguments.split)
