"""`stadia prior`: train, score and measure heights of cars."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from stadia.networks.size_prior import SizePrior
from stadia.training.size_prior import score_prior, train_prior
from stadia.training.size_prior_crops import HeightCrop, describe_heights, measure_heights


def make_crops(count: int, seed: int) -> list[HeightCrop]:
    """Bright crops are of tall cars."""
    random = np.random.default_rng(seed)
    crops = []
    for number in range(count):
        tall = number % 2
        image = np.full((32, 32, 3), 200 if tall else 60, np.uint8) + random.integers(0, 20, (32, 32, 3), np.uint8)
        crops.append(HeightCrop(image.astype(np.uint8), 2.0 if tall else 1.4, str(number)))
    return crops


def write_kitti(folder: Path) -> Path:
    """Two images of KITTI's boxes: cars of 1.5 and 1.7 m and a person."""
    for name in ("image_2", "label_2", "calib"):
        (folder / "training" / name).mkdir(parents=True)
    P = "700 0 300 0 0 700 100 0 0 0 1 0"
    calibration = "\n".join(f"P{n}: {P}" for n in range(4)) + "\nR0_rect: 1 0 0 0 1 0 0 0 1\n"
    calibration += "Tr_velo_to_cam: 1 0 0 0 0 1 0 0 0 0 1 0\nTr_imu_to_velo: 1 0 0 0 0 1 0 0 0 0 1 0\n"
    for index, height in enumerate((1.5, 1.7)):
        image = np.full((200, 600, 3), 120, np.uint8)
        cv2.imwrite(str(folder / "training" / "image_2" / f"{index:06d}.png"), image)
        lines = [
            f"Car 0.00 0 0.1 100 80 200 150 {height} 1.6 4.0 -2.0 1.6 10.0 0.1",
            "Pedestrian 0.00 0 0.1 400 60 430 150 1.8 0.6 0.8 1.5 1.6 12.0 0.1",
        ]
        (folder / "training" / "label_2" / f"{index:06d}.txt").write_text("\n".join(lines) + "\n")
        (folder / "training" / "calib" / f"{index:06d}.txt").write_text(calibration)
    return folder


def test_labeled_heights_that_masks_find_again_are_measured(tmp_path: Path) -> None:
    data = write_kitti(tmp_path / "kitti")
    heights = measure_heights(data, None)
    assert heights["car"].tolist() == [1.5, 1.7]
    assert heights["person"].tolist() == [1.8, 1.8]
    masks = tmp_path / "masks"
    for kind in ("semantic", "instance"):
        (masks / kind / "left").mkdir(parents=True)
    (masks / "classes.json").write_text(json.dumps({"1": "road", "9": "car"}))
    semantic = np.ones((200, 600), np.uint8)
    semantic[82:150, 102:198] = 9
    cv2.imwrite(str(masks / "semantic" / "left" / "000001.png"), semantic)
    cv2.imwrite(str(masks / "instance" / "left" / "000001.png"), (semantic == 9).astype(np.uint16))
    matched = measure_heights(data, masks)
    assert {name: values.tolist() for name, values in matched.items()} == {"car": [1.7]}
    lines = describe_heights(measure_heights(data, None, 1), data.name)
    assert lines[0].startswith("car: 2 boxes, mean 1.600 m, deviation 0.141 m")
    assert '"mean_m": 1.600' in lines[-1]


@pytest.mark.slow
def test_a_prior_learns_and_beats_one_height_for_all() -> None:
    torch.manual_seed(0)
    prior = SizePrior(1.7, side=32, encoder="test_resnet")
    crops = make_crops(24, 0)
    train_prior(prior, crops, steps=30, batch=16, rate=3e-3, seed=0)
    scores = score_prior(prior, make_crops(12, 1), np.array([1.4, 2.0]))
    assert scores["objects"] == 12
    assert scores["mae_class_mean_m"] == pytest.approx(0.3)
    assert scores["mae_over_class_mean"] < 0.5
