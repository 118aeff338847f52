"""Train a size prior on crops of objects with known heights, and score it on unseen objects."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from stadia.core.errors import DataError
from stadia.core.progress import TrackProgress, no_progress
from stadia.data.formats.kitti_objects import list_box_splits
from stadia.data.formats.stadia_folder import FolderRecording
from stadia.data.open_dataset import open_recordings
from stadia.io.input_files import expand_home
from stadia.networks.size_prior import SizePrior, load_size_prior, log_height_loss, save_size_prior
from stadia.training.size_prior_crops import (
    DVM_TABLE,
    HeightCrop,
    augment_crop,
    crop_labeled_cars,
    crop_recording_cars,
    read_dvm_car_crops,
)

Floats = NDArray[np.float64]
MIN_OBJECTS = 8
"""Smallest number of objects to train on."""

SIDE_PX = 64
"""Side of a crop, pixels."""


def collect_crops(
    data: Path, split: str, side: int, every: int, track: TrackProgress = no_progress
) -> list[HeightCrop]:
    """Return the image crops of the objects of a split, with their heights.

    KITTI's objects can only be scored, not trained on: its labels do not identify a car in several images, so no car
    can be held out.

    Raises DataError if no object has a height, and for KITTI's split train.
    """
    data = expand_home(data)
    if data.is_dir() and next(data.rglob(DVM_TABLE), None) is not None:
        crops = [crop for crop in read_dvm_car_crops(data, side) if is_held_out(crop.instance) == (split == "test")]
    elif list_box_splits(data):
        if split != "test":
            fix = "use it with stadia prior evaluate"
            raise DataError(data, found="KITTI's boxes", expected="RoadWorld or DVM-CAR to train on", fix=fix)
        crops = list(crop_labeled_cars(data, side, every=every))
    else:
        recordings = open_recordings(data, split=split)
        crops = [
            crop
            for recording in track(recordings, len(recordings), f"crops of {split}")
            if isinstance(recording, FolderRecording)
            for crop in crop_recording_cars(recording, side, every=every)
        ]
    if not crops:
        expected = "whole cars with a known height: RoadWorld, KITTI's boxes or DVM-CAR"
        raise DataError(
            data,
            found=f"no car in the split {split}",
            expected=expected,
            fix="pass one of these datasets, or another split",
        )
    return crops


def is_held_out(instance: str) -> bool:
    """Return whether a model of DVM-CAR is scored: one of five, by its name."""
    return sum(instance.encode()) % 5 == 0


def run_train(
    data: Path,
    out: Path,
    *,
    steps: int = 900,
    encoder: str = "resnet10t",
    every: int = 1,
    seed: int = 0,
    track: TrackProgress = no_progress,
) -> list[str]:
    """Train on the split train, score on the split test, save, and return lines about the scores.

    data: RoadWorld, any stadia layout with instances.json, or DVM-CAR.
    out: file of the prior.
    encoder: name of an encoder of timm.
    every: each n-th image.
    """
    crops = collect_crops(data, "train", SIDE_PX, every, track)
    unseen = collect_crops(data, "test", SIDE_PX, every, track)
    heights = np.array(list({crop.instance: crop.height_m for crop in crops}.values()))
    if len(heights) < MIN_OBJECTS:
        raise DataError(data, found=f"{len(heights)} cars", expected=f"{MIN_OBJECTS} or more", fix="add data")
    torch.manual_seed(seed)
    prior = SizePrior(float(np.mean([crop.height_m for crop in crops])), side=SIDE_PX, encoder=encoder)
    train_prior(prior, crops, steps=steps, batch=48, rate=2e-3, seed=seed, track=track)
    save_size_prior(prior, out)
    return [
        f"{out}: trained on {len(heights)} cars in {len(crops)} crops, seed {seed}",
        *describe_scores(score_prior(prior, unseen, heights)),
        f"use it: stadia masks VIDEO --heights {out}, then train with road.heights=each",
    ]


def run_evaluate(prior_file: Path, data: Path, every: int, track: TrackProgress = no_progress) -> list[str]:
    """Score a saved prior on the split test, or on KITTI's boxes; return lines."""
    prior = load_size_prior(prior_file)
    crops = collect_crops(data, "test", prior.side, every, track)
    return describe_scores(score_prior(prior, crops, np.array([prior.mean_m])))


def describe_scores(scores: dict[str, float]) -> list[str]:
    """Return lines for people."""
    one, ratio = scores["mae_class_mean_m"], scores["mae_over_class_mean"]
    return [
        f"mean error of {scores['objects']:.0f} unseen cars: {scores['mae_m']:.3f} m",
        f"  with one height for all cars: {one:.3f} m, ratio {ratio:.2f}",
        f"  within two deviations: {scores['within_two_spreads']:.0%}",
    ]


def train_prior(
    prior: SizePrior,
    crops: Sequence[HeightCrop],
    *,
    steps: int,
    batch: int,
    rate: float,
    seed: int,
    track: TrackProgress = no_progress,
) -> None:
    """Train with every object equally often, however many crops it has."""
    rng = np.random.default_rng(seed)
    of_object = defaultdict(list)
    for crop in crops:
        of_object[crop.instance].append(crop)
    objects = sorted(of_object)
    optimizer = torch.optim.AdamW(prior.parameters(), lr=rate, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.15)
    prior.train()
    for _ in track(range(steps), steps, "training"):
        chosen = [of_object[objects[i]] for i in rng.integers(len(objects), size=batch)]
        some = [own[int(rng.integers(len(own)))] for own in chosen]
        images = (
            torch.from_numpy(np.stack([augment_crop(crop.image, rng) for crop in some])).movedim(-1, 1).float() / 255
        )
        log_m, deviation = prior(images)
        height_m = torch.tensor([crop.height_m for crop in some])
        optimizer.zero_grad()
        torch.autograd.backward(log_height_loss(log_m, deviation, height_m))
        torch.nn.utils.clip_grad_norm_(prior.parameters(), 1.0)
        optimizer.step()
        schedule.step()


def score_prior(prior: SizePrior, crops: Sequence[HeightCrop], class_heights: Floats) -> dict[str, float]:
    """Return errors in metres of each object (the median of its crops), of each crop, and of one height for all.

    class_heights: heights of the training objects, by class.
    """
    true = np.array([crop.height_m for crop in crops])
    predicted, spread = prior.predict_heights([crop.image for crop in crops])
    rows = defaultdict(list)
    for row, crop in enumerate(crops):
        rows[crop.instance].append(row)
    of_object = np.array([np.median(predicted[own]) for own in rows.values()])
    true_of_object = np.array([true[own[0]] for own in rows.values()])
    mae, mae_mean = (float(np.abs(values - true_of_object).mean()) for values in (of_object, class_heights.mean()))
    return {
        "objects": len(rows),
        "crops": len(crops),
        "mae_m": mae,
        "mae_crop_m": float(np.abs(predicted - true).mean()),
        "mae_class_mean_m": mae_mean,
        "mae_over_class_mean": mae / mae_mean,
        "mae_class_median_m": float(np.abs(np.median(class_heights) - true_of_object).mean()),
        "within_two_spreads": float((np.abs(predicted - true) < 2 * spread).mean()),
    }
