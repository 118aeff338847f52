"""Check the protocol of PNG folders: `stadia evaluate` against an independent loop in NumPy.

    python experiments/png_protocol.py

Ground truth: the single LiDAR scans of the 78 real KITTI frames. Predictions: synthetic uint16 PNG of the KB crop,
some of them beyond 80 m. Prints one JSON object: for each crop the means by the loop, and the largest difference of
`stadia evaluate --crop kb`, over the means and over every image.
"""

# mypy: disable-error-code="union-attr"

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.evaluation.depth_score import open_ground_truth_folder, score_depth
from stadia.evaluation.predictions_folder import Predictions
from stadia.evaluation.protocols import PROTOCOLS

REAL = Path(os.environ.get("STADIA_REAL_DATA", Path(__file__).parents[2] / "shared" / "data"))
SCANS = Path("kitti_raw/2011_09_26/2011_09_26_drive_0000_sync/proj_depth/velodyne_raw/image_02")
PROTOCOL_OF_CROP = {"garg": "kitti-eigen-improved-garg", "eigen": "kitti-eigen-improved-eigen-crop"}
NEAREST_M, FARTHEST_M = 1e-3, 80.0

Array = NDArray[np.float64]


def loop(
    predicted_m: dict[str, Array], true_m: dict[str, Array], crop: str, *, kb_crop: bool
) -> dict[str, dict[str, float]]:
    """Compute every image's metrics, as scripts for folders of PNG do: clamp, paste, mask, and the formulas of Eigen
    et al.

    Args:
        predicted_m: (352, 1216) for KB crops, else of the ground truth's size. Infinity is far, NaN near.
        true_m: (H, W), by the same names; infinity and NaN are none.
        crop: "garg", "eigen" or "none".
    """
    rows = {}
    for name, g in true_m.items():
        p = predicted_m[name].copy()
        p[np.isnan(p) | (p < NEAREST_M)] = NEAREST_M
        p[p > FARTHEST_M] = FARTHEST_M
        p[np.isinf(p)] = FARTHEST_M
        g = np.where(np.isfinite(g), g, 0.0)
        height, width = g.shape
        if kb_crop:
            pasted = np.zeros((height, width))
            top, left = height - 352, int((width - 1216) / 2)
            pasted[top : top + 352, left : left + 1216] = p
            p = pasted
        valid = np.logical_and(g > NEAREST_M, g < FARTHEST_M)
        window = np.zeros(valid.shape, bool)
        if crop == "garg":
            window[
                int(0.40810811 * height) : int(0.99189189 * height), int(0.03594771 * width) : int(0.96405229 * width)
            ] = True
        elif crop == "eigen":
            window[
                int(0.3324324 * height) : int(0.91351351 * height), int(0.0359477 * width) : int(0.96405229 * width)
            ] = True
        else:
            window[:] = True
        valid = np.logical_and(valid, window)
        if valid.any():
            rows[name] = formulas(p[valid], g[valid])
    return rows


def formulas(p: Array, g: Array) -> dict[str, float]:
    """Return the metrics of one image's N valid pixels, in metres."""
    worse = np.maximum(g / p, p / g)
    log_error = np.log(p) - np.log(g)
    return {
        "abs_rel": float(np.mean(np.abs(g - p) / g)),
        "sq_rel": float(np.mean((g - p) ** 2 / g)),
        "rmse": float(np.sqrt(np.mean((g - p) ** 2))),
        "rmse_log": float(np.sqrt(np.mean((np.log(g) - np.log(p)) ** 2))),
        "silog": float(np.sqrt(np.mean(log_error**2) - np.mean(log_error) ** 2) * 100),
        "log10": float(np.mean(np.abs(np.log10(p) - np.log10(g)))),
        "d1": float((worse < 1.25).mean()),
        "d2": float((worse < 1.25**2).mean()),
        "d3": float((worse < 1.25**3).mean()),
    }


def means(rows: dict[str, dict[str, float]]) -> dict[str, float]:
    """Return means over images, each with equal weight."""
    return {metric: float(np.mean([row[metric] for row in rows.values()])) for metric in next(iter(rows.values()))}


def write_predictions(folder: Path, truth: Path) -> None:
    """Write for each scan a KB crop: the median of the scan's rows, 5 % too far, with noise of a quarter in blocks;
    some pixels are beyond 80 m.
    """
    folder.mkdir(parents=True)
    noise = np.exp(np.random.default_rng(0).normal(0.05, 0.25, (44, 152)).repeat(8, axis=0).repeat(8, axis=1))
    for number, file in enumerate(sorted(truth.glob("*.png"))):
        scan = read_png(file)
        rows = np.flatnonzero((scan > 0).any(axis=1))
        of_row = np.interp(np.arange(len(scan)), rows, [np.median(scan[row][scan[row] > 0]) for row in rows])
        depth = of_row[-352:, None] * np.roll(noise, number, axis=1)
        stored = np.clip(np.rint(depth * 256), 1, 65535).astype(np.uint16)
        cv2.imwrite(str(folder / file.name), stored, [cv2.IMWRITE_PNG_COMPRESSION, 1])


def read_png(path: Path) -> Array:
    """Return metres of a uint16 PNG."""
    stored = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert stored.dtype == np.uint16
    return stored.astype(np.float64) / 256


def compare(predictions: Path, truth: Path, crop: str) -> tuple[dict[str, float], float, float]:
    """Return the loop's means, and our largest difference from it: of the means, and of any image's metric."""
    files = sorted(truth.glob("*.png"))
    rows = loop(
        {f.stem: read_png(predictions / f.name) for f in files},
        {f.stem: read_png(f) for f in files},
        crop,
        kb_crop=True,
    )
    protocol = PROTOCOLS[PROTOCOL_OF_CROP[crop]]
    score = score_depth(Predictions.open(predictions, crop="kb"), open_ground_truth_folder(truth, protocol), protocol)
    assert [image.name for image in score.per_image] == list(rows)
    expected = means(rows)
    of_means = max(abs(score.metrics[name] - value) for name, value in expected.items())
    of_images = max(
        abs(image.metrics[name] - value) for image in score.per_image for name, value in rows[image.name].items()
    )
    return expected, of_means, of_images


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    truth = REAL / SCANS
    with tempfile.TemporaryDirectory() as scratch:
        predictions = Path(scratch) / "predictions"
        write_predictions(predictions, truth)
        found = {}
        for crop in PROTOCOL_OF_CROP:
            expected, of_means, of_images = compare(predictions, truth, crop)
            found[crop] = {
                "loop": expected,
                "largest_difference_of_means": of_means,
                "largest_difference_of_an_image": of_images,
            }
    print(json.dumps({"images": len(list(truth.glob("*.png"))), **found}, indent=2))


if __name__ == "__main__":
    main()
