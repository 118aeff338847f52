"""Draw the relative errors of depth maps: the best and the worst images of a score."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.evaluation.depth_score import DepthScore, GroundTruthReaders
from stadia.evaluation.image_score import align_to_truth, sample_prediction
from stadia.evaluation.plots.colormaps import color_heat
from stadia.evaluation.predictions_folder import Predictions
from stadia.evaluation.protocols import Protocol
from stadia.geometry.cameras import crop_window
from stadia.io.image_io import write_image

DRAWN = 3  # best and worst images that are drawn
TOP = 0.5  # relative error from which a pixel is brightest
_HOLE_PX = 5  # side of the square that a scored pixel fills in sparse ground truth
_SPARSE = 0.3  # share of scored pixels of sparse ground truth


def draw_error_map(errors: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return the colors (H, W, 3) of relative errors (H, W).

    0 is dark, TOP and above are bright, and pixels that are not scored are gray.
    """
    known = np.isfinite(errors)
    values = np.where(known, errors, 0.0).astype(np.float32)
    if known.mean() < _SPARSE:
        square = np.ones((_HOLE_PX, _HOLE_PX), np.uint8)
        values, known = cv2.dilate(values, square), cv2.dilate(known.astype(np.uint8), square) > 0
    return np.where(known[..., None], color_heat(values, top=TOP), np.uint8(96)).astype(np.uint8)


def write_error_maps(
    folder: Path, predicted: Mapping[str, tuple[Predictions, GroundTruthReaders]], protocol: Protocol, score: DepthScore
) -> list[Path]:
    """Write the error maps of the best and the worst images into a folder. Return the files, RANK-NAME.png.

    predicted: predictions and the readers of their ground truth, by the recording's name, with which the names of
        images in the score begin: RECORDING/NAME. "" for predictions of one folder.
    """
    sources = {
        f"{recording}/{name}" if recording else name: (predictions, name, read)
        for recording, (predictions, truth) in predicted.items()
        for name, read in truth.items()
    }
    best, worst = find_extreme_images(score, DRAWN)
    written = []
    for kind, names in (("best", best), ("worst", worst)):
        for number, title in enumerate(names, 1):
            predictions, name, read_truth = sources[title]
            true_m = read_truth()
            assert true_m is not None, "only images with ground truth have a score"
            path = folder / f"{kind}-{number}-{title.replace('/', '-')}.png"
            drawn = draw_error_map(measure_error_map(predictions, name, true_m, protocol))
            write_image(path, drawn[..., ::-1])
            written.append(path)
    return written


def find_extreme_images(score: DepthScore, count: int) -> tuple[list[str], list[str]]:
    """Return the names of the images with the smallest and with the largest first metric, at most `count` of each."""
    metric = next(iter(score.per_image[0].metrics))
    ordered = sorted(score.per_image, key=lambda image: image.metrics[metric])
    names = [image.name for image in ordered]
    best = names[: min(count, (len(names) + 1) // 2)]
    return best, [name for name in reversed(names[-count:]) if name not in best]


def measure_error_map(
    predictions: Predictions, name: str, true_m: NDArray[np.floating], protocol: Protocol
) -> NDArray[np.float64]:
    """Return |prediction - truth| / truth (H, W) at the scored pixels, after alignment; NaN at other steps.

    true_m: (H, W) true depth in metres.
    """
    true = np.asarray(true_m, np.float64)
    predicted = predictions.read(name, png_per_metre=protocol.png_per_metre)
    values = np.asarray(predicted, np.float64)
    window, errors = crop_window(predictions.crop, *true.shape), np.full(true.shape, np.nan)
    mask = window.cut(protocol.mask(true))
    scored = window.cut(true)[mask][None]
    found = sample_prediction(name, values, mask, predictions.depth_scale)
    alignment = protocol.alignment(predictions.depth_scale)
    depth, _ = align_to_truth(found, scored, predictions.depth_scale, alignment, protocol.clamp_m)
    window.cut(errors)[mask] = (np.abs(depth - scored) / scored)[0]
    return errors
