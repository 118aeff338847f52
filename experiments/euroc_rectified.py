"""Check EuRoC after rectification: whether the rows of the pair agree, and whether its rig explains the images.

    python experiments/euroc_rectified.py [--data FOLDER_OF_REAL_SAMPLES] [--out pair.png]

Prints one JSON object, over pairs spread along the first sequence:
- the median distance of matched features from each other's row, rectified and raw;
- WIR, the mean residual (0.85 SSIM + 0.15 L1) of left and warped right image over that of left and right, with depth
  by OpenCV's semi-global matching where it is confident;
- the same of gray levels alone, which depend on the exposures of the sides;
- the same of gray levels after a fit of gain and offset.

Draws one pair with a line every 32 rows: both images show the same point on a line.
"""

# mypy: disable-error-code="arg-type, index"

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from real_stereo import semi_global_matching
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from harness import REAL_DATA, make_parser

from stadia.core.types import LEFT, RIGHT, Recording
from stadia.data.open_dataset import open_recordings
from stadia.differentiable.view_synthesis import warp_image
from stadia.geometry.image_features import detect_features, match_features
from stadia.io.atomic_files import atomic_write
from stadia.io.image_files import read_rgb
from stadia.losses.reprojection import photometric_residual

PAIRS = 10
LINES_EVERY = 32


def rows_apart_px(left: NDArray[np.uint8], right: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return (M,) |y_left - y_right| of matched features."""
    matches = match_features(detect_features(left), detect_features(right))
    return np.abs(matches.first_px[:, 1] - matches.second_px[:, 1])


def wir(recording: Recording, index: int) -> dict[str, float]:
    """Return WIR of one pair, with depth by semi-global matching: by the training's residual, by gray levels, and by
    gray levels without exposure.
    """
    left, right, K = recording.image(index), recording.image(index, RIGHT), recording.K(index)
    disparity_px = semi_global_matching(left, right)
    sure = disparity_px > 0
    depth_m = np.where(sure, K[0, 0] * -recording.T_right_left[0, 3] / np.maximum(disparity_px, 1e-6), 0)
    planar = [torch.from_numpy(picture).permute(2, 0, 1)[None].double() / 255 for picture in (left, right)]
    camera, T_right_left = recording.camera(index), torch.from_numpy(recording.T_right_left)[None]
    view, valid = warp_image(
        planar[1], torch.from_numpy(depth_m)[None, None], camera, recording.camera(index, RIGHT), T_right_left
    )
    where = valid & torch.from_numpy(sure)
    (target, source), warped = planar, view
    gain, offset = np.polyfit(warped[:, :1][where].numpy(), target[:, :1][where].numpy(), 1)

    def ratio(residual: Callable[[Tensor, Tensor], Tensor], a: float = 1.0, b: float = 0.0) -> float:
        return float(residual(a * warped + b, target)[where].mean() / residual(a * source + b, target)[where].mean())

    return {
        "wir": ratio(photometric_residual),
        "wir_gray": ratio(gray_residual),
        "wir_gray_exposure_fitted": ratio(gray_residual, gain, offset),
        "sure": float(sure.mean()),
        "gain": float(gain),
        "offset": float(offset),
    }


def gray_residual(first: Tensor, second: Tensor) -> Tensor:
    """Return the (B, 1, H, W) mean absolute difference."""
    return (first - second).abs().mean(1, keepdim=True)


def drawn(recording: Recording, index: int) -> NDArray[np.uint8]:
    """Return (H, 2 W, 3) RGB, the pair with lines across both."""
    pair = np.hstack([recording.image(index, side) for side in (LEFT, RIGHT)])
    pair[LINES_EVERY // 2 :: LINES_EVERY] = (255, 70, 60)
    return pair


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--data", type=Path, default=REAL_DATA, help="folder of the real samples (STADIA_REAL_DATA)")
    parser.add_argument("--out", type=Path, default=Path("euroc-rectified.png"))
    arguments = parser.parse_args()
    recording = open_recordings(arguments.data / "euroc", "euroc")[0]
    indices = np.unique(np.linspace(0, len(recording) - 1, PAIRS).astype(int)).tolist()
    rows = np.concatenate([rows_apart_px(recording.image(i), recording.image(i, RIGHT)) for i in indices])
    raw = np.concatenate(
        [rows_apart_px(read_rgb(recording.file(i)), read_rgb(recording.file(i, RIGHT))) for i in indices]
    )
    ratios = [wir(recording, i) for i in indices]
    ratios_median = {name: round(float(np.median([one[name] for one in ratios])), 3) for name in ratios[0]}
    with atomic_write(arguments.out) as temporary:
        cv2.imwrite(str(temporary), drawn(recording, indices[len(indices) // 2])[..., ::-1])
    figures = {
        "recording": recording.name,
        "pairs": len(indices),
        "matches": len(rows),
        "rows_apart_px_median": float(np.median(rows)),
        "rows_apart_px_median_raw": float(np.median(raw)),
        **ratios_median,
        "wir_most": round(max(one["wir"] for one in ratios), 3),
        "drawn": str(arguments.out),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
