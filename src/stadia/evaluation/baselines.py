"""Baselines that a network has to beat: mean depth, and a thresholded image difference."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stadia.core.errors import DataError
from stadia.core.recording import Recording
from stadia.core.types import Camera, DepthScale, Predictor
from stadia.evaluation.depth_score import collect_scores
from stadia.evaluation.frame_preparation import frame_name
from stadia.evaluation.image_score import ImageScore, score_image
from stadia.evaluation.protocols import Protocol
from stadia.geometry.numpy_camera import crop_window

NUM_THRESHOLDS = 256
MAX_AVERAGED_FRAMES = 200  # of a training, spread over it


class MeanDepthPredictor:
    """A predictor that returns the same depth (H, W) in metres, positive everywhere, for every image."""

    def __init__(self, depth_m: Tensor) -> None:
        self.depth_m, self.depth_scale, self.crop = depth_m, DepthScale.METRES, "none"
        self.height, self.width = depth_m.shape

    def inverse_depth(self, image: Tensor, camera: Camera) -> Tensor:
        """Return the inverse depth (B, 1, H, W) in 1/m for images (B, 3, H, W)."""
        return (1 / self.depth_m).expand(len(image), 1, -1, -1)

    def T_next_now(self, now: Tensor, camera: Camera, following: Tensor, next_camera: Camera) -> None:
        """Return None instead of motions (B, 4, 4), because the baseline predicts no motion."""


def average_depths(depths_m: Iterable[NDArray[np.floating]], height: int, width: int) -> MeanDepthPredictor:
    """Return the predictor of each pixel's mean depth, resized to (height, width).

    A pixel without depth, such as sky, gets the mean of its row, or of all pixels if its row has none.

    depths_m: maps (h, w) of any size, z in metres; 0 means unknown.

    Raises DataError if no map has depth.
    """
    if (mean := _average_maps(depths_m, height, width)) is None:
        fix = "use recordings with ground truth"
        raise DataError("mean depth", found="no ground truth", expected="a depth somewhere", fix=fix)
    return MeanDepthPredictor(torch.from_numpy(mean))


def _average_maps(depths_m: Iterable[NDArray[np.floating]], height: int, width: int) -> NDArray[np.float32] | None:
    """Return the mean (height, width) of `average_depths`; None if no map has depth."""
    total, weight = np.zeros((height, width)), np.zeros((height, width))
    for depth_m in depths_m:
        valid = (depth_m > 0).astype(np.float64)
        total += cv2.resize(depth_m * valid, (width, height), interpolation=cv2.INTER_AREA)
        weight += cv2.resize(valid, (width, height), interpolation=cv2.INTER_AREA)
    if not weight.any():
        return None
    row_total, row_weight = total.sum(1, keepdims=True), weight.sum(1, keepdims=True)
    row = np.where(row_weight > 0, row_total / np.maximum(row_weight, 1e-12), total.sum() / weight.sum())
    mean: NDArray[np.float64] = np.where(weight > 1e-9, total / np.maximum(weight, 1e-9), row)
    return mean.astype(np.float32)


def average_recordings(
    recordings: Iterable[Recording], height: int, width: int, *, every: int = 1
) -> MeanDepthPredictor:
    """Return the predictor of the mean depth over each `every`-th frame of recordings.

    Frames without ground truth are skipped.
    """
    maps = (recording.depth_m(index) for recording in recordings for index in range(0, len(recording), every))
    return average_depths((depth_m for depth_m in maps if depth_m is not None), height, width)


def score_mean_depth(
    trained_on: Sequence[tuple[Recording, Sequence[int]]],
    recordings: Sequence[Recording],
    indices: Mapping[str, Sequence[int]],
    predictor: Predictor,
    protocol: Protocol,
) -> dict[str, Any] | None:
    """Score the mean depth of the training frames in the way that predictors are scored.

    Returns the content of a score file, or None without ground truth.

    trained_on: training recordings, each with the indices of its frames.
    recordings, indices: recordings to score, and the indices of their frames by the recording's name.
    predictor: gives the size of the maps.
    """
    frames = [(recording, index) for recording, chosen in trained_on for index in chosen]
    step = max(-(-len(frames) // MAX_AVERAGED_FRAMES), 1)
    count = 0

    def read_maps() -> Iterator[NDArray[np.floating]]:
        nonlocal count
        for recording, index in frames[::step]:
            if (true_m := recording.depth_m(index)) is not None:
                count += 1
                yield crop_window(predictor.crop, *true_m.shape).cut(true_m)

    if (mean := _average_maps(read_maps(), predictor.height, predictor.width)) is None:
        return None
    if predictor.depth_scale is DepthScale.AFFINE_INVERSE:
        mean = np.reciprocal(mean)
    scores: list[tuple[str, ImageScore | None]] = []
    for recording in recordings:
        for index in indices[recording.name]:
            name, true_m = f"{recording.name}/{frame_name(recording, index)}", recording.depth_m(index)
            score = None
            if true_m is not None:
                score = score_image(name, mean, true_m, predictor.depth_scale, protocol, predictor.crop)
            scores.append((name, score))
    what = f"the mean depth of {count} training image{'s' * (count != 1)}"
    collected = collect_scores(scores, predictor.depth_scale, protocol).to_json()
    return {"checkpoint": what, "baseline": what, **collected, "per_image": []}


def max_channel_difference(image: NDArray[np.uint8], background: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the largest absolute difference of the three channels, (H, W) uint8, between two images (H, W, 3) uint8.

    Examples:
        >>> max_channel_difference(np.full((1, 1, 3), 9, np.uint8), np.array([[[9, 5, 2]]], np.uint8)).tolist()
        [[7]]
    """
    return np.abs(image.astype(np.int16) - background).max(axis=2).astype(np.uint8)


def find_best_threshold(examples: Iterable[tuple[NDArray[np.uint8], NDArray[np.bool_]]]) -> int:
    """Return the smallest threshold t from 0 to 255 for which `difference > t` has the best IoU over all pixels.

    examples: differences (H, W), each with its true mask (H, W).

    Examples:
        >>> find_best_threshold([(np.array([[10, 200]], np.uint8), np.array([[False, True]]))])
        10
    """
    every, inside = np.zeros(NUM_THRESHOLDS), np.zeros(NUM_THRESHOLDS)
    for differs, mask in examples:
        every += np.bincount(differs.ravel(), minlength=NUM_THRESHOLDS)
        inside += np.bincount(differs[mask], minlength=NUM_THRESHOLDS)
    both, predicted = (counts.sum() - counts.cumsum() for counts in (inside, every))
    return int(np.argmax(both / np.maximum(predicted + inside.sum() - both, 1)))
