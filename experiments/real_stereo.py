"""Learn depth in metres from the 51 gray stereo pairs of KITTI odometry 06, and compare it with semi-global matching.

    python experiments/real_stereo.py             trained and scored on all pairs
    python experiments/real_stereo.py --held-out  trained on the first 40 pairs, scored on the last 8
    python experiments/real_stereo.py model.network.right_view=true   with D3VO's right view, and its own WIR

Random weights, no label. Prints one JSON object:
- the median relative difference to OpenCV's matcher where it is confident and nearer than 50 m;
- WIR, the residual of the warped right image over that of the unwarped one;
- the path aligned by this depth alone, since no pose network was trained, against the measured one.

A right view's WIR is that of the left image in the right camera, warped by the inverse depth that the network
predicted for the right image without having it as input.
"""

# mypy: disable-error-code="attr-defined"

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from harness import REAL_DATA, make_parser

from stadia import report, training
from stadia.core.types import LEFT, RIGHT, Camera, MapsPredictor, Predictor, Recording
from stadia.data.open_dataset import open_recordings
from stadia.data.recordings import FrameRange
from stadia.differentiable.images import resize, resize_map
from stadia.differentiable.view_synthesis import warp_image
from stadia.evaluation.predictions_folder import Provenance
from stadia.geometry.cameras import depth_from_inverse
from stadia.losses.reprojection import photometric_residual
from stadia.training import recipes
from stadia.training.loop.checkpoint import open_checkpoint
from stadia.training.loop.run_folder import Run
from stadia.training.prediction.validation import score_recordings

NEARER_THAN_M = 50.0
SETTINGS = (
    "name=kitti06-stereo",
    "data.height=128",
    "data.width=416",
    "data.offsets=[]",
    "data.split_by.val_share=0",
    "model.network.encoder=mobilenetv3_small_100",
    "model.pose_net=resnet",
    "model.pose_encoder=mobilenetv3_small_050",
    "model.pretrained=false",
    "model.network.decoder_channels=[8,16,24,32,64]",
    "model.network.scales=1",
    "loss.pyramid=4",
    "optimizer.lr=1e-3",
    "schedule.warmup_steps=50",
    "training.max_epochs=null",
    "training.batch_size=4",
    "training.clip_norm=1.0",
)


def semi_global_matching(left: NDArray[np.uint8], right: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return (H, W) disparity in pixels of an RGB pair, 0 where the matcher is not confident (unique, consistent, no
    speckle).
    """
    gray = [cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in (left, right)]
    matcher = cv2.StereoSGBM_create(
        minDisparity=0,
        numDisparities=128,
        blockSize=5,
        P1=8 * 25,
        P2=32 * 25,
        disp12MaxDiff=1,
        uniquenessRatio=15,
        speckleWindowSize=100,
        speckleRange=2,
        mode=cv2.STEREO_SGBM_MODE_HH,
    )
    disparity_px = matcher.compute(*gray).astype(np.float64) / 16
    return np.where(disparity_px > 0.5, disparity_px, 0)


def residual_of_warp(
    source: Tensor, target: Tensor, inverse_depth: Tensor, camera: Camera, T_source_target: Tensor
) -> tuple[float, float]:
    """Return sums over the visible pixels: the residual of the source warped to the target, and of the unwarped
    source.
    """
    view, valid = warp_image(source, depth_from_inverse(inverse_depth), camera, camera, T_source_target.double())
    warped, unwarped = (photometric_residual(picture, target)[valid].sum() for picture in (view, source))
    return float(warped), float(unwarped)


def compare(predictor: Any, recording: Recording, indices: range) -> dict[str, float]:
    """Return the two figures over these pairs."""
    assert recording.T_right_left is not None
    baseline_m = -float(recording.T_right_left[0, 3])
    T_right_left = torch.from_numpy(recording.T_right_left).float()[None]
    differences, residuals, residuals_right = [], [], []
    for index in indices:
        left, right, camera = recording.image(index, LEFT), recording.image(index, RIGHT), recording.camera(index)
        planar = [torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255 for picture in (left, right)]
        (small_left, small), (small_right, _) = (
            resize(picture, camera, predictor.height, predictor.width) for picture in planar
        )
        maps = predictor.maps(small_left, small)
        inverse_depth = maps.inverse_depth
        depth_m = depth_from_inverse(resize_map(inverse_depth, camera.height, camera.width))[0, 0].numpy()
        disparity_px = semi_global_matching(left, right)
        matched_m = float(camera.fx) * baseline_m / np.maximum(disparity_px, 1e-6)
        sure = (disparity_px > 0) & (matched_m < NEARER_THAN_M)
        differences.append(np.abs(depth_m - matched_m)[sure] / matched_m[sure])

        residuals.append(residual_of_warp(small_right, small_left, inverse_depth, small, T_right_left))
        if maps.inverse_depth_right is not None:
            residuals_right.append(
                residual_of_warp(small_left, small_right, maps.inverse_depth_right, small, T_right_left.inverse())
            )
    relative = np.concatenate(differences)
    return {
        "median_relative_difference": float(np.median(relative)),
        "mean_relative_difference": float(relative.mean()),
        "wir": float(np.divide(*np.sum(residuals, axis=0))),
        **({"wir_right": float(np.divide(*np.sum(residuals_right, axis=0)))} if residuals_right else {}),
        "pixels": int(relative.size),
        "pairs": len(indices),
    }


def path_figures(predictor: Predictor, recording: Recording, run: Run) -> dict[str, float | None]:
    """Return ATE (SE(3)-aligned, metres as predicted) and its share of the path's length."""
    scored = score_recordings(
        predictor,
        [recording],
        run,
        "scored",
        Provenance.from_checkpoint(open_checkpoint(run.folder)),
        Console(stderr=True),
    )
    assert scored is not None
    (path,) = scored.odometry.values()
    ate_m = path.metrics["ate_rmse_m"]
    assert ate_m is not None
    return {"ate_m": ate_m, "path_m": path.path_m, "ate_over_path": ate_m / path.path_m}


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--data", default=REAL_DATA, help="folder of the real samples (STADIA_REAL_DATA)")
    parser.add_argument("--held-out", action="store_true", help="train on the first 40 pairs, score on the last 8")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--out", type=Path, default=Path("runs"))
    parser.add_argument("overrides", nargs="*", help="dotted.key=value")
    arguments = parser.parse_args()

    path = str(Path(arguments.data) / "kitti_odometry")
    (recording,) = open_recordings(path)
    scored = range(len(recording) - 8, len(recording)) if arguments.held_out else range(len(recording))
    frames = {"frames": (0, 40)} if arguments.held_out else {}
    settings = (*SETTINGS, f"training.max_steps={arguments.steps}", *arguments.overrides)
    started = time.monotonic()
    run = training.train(recipes.configure("selfsup", settings, data={"path": path, **frames}), out=arguments.out)
    trained_s = time.monotonic() - started
    predictor = cast(MapsPredictor, recipes.load_predictor(run.folder))
    figures = compare(predictor, recording, scored) | path_figures(
        predictor, FrameRange(recording, scored.start, scored.stop), run
    )
    report.build_report(run.folder)
    print(
        json.dumps(
            {
                **figures,
                "held_out": arguments.held_out,
                "train_s": round(trained_s),
                "cores": os.cpu_count(),
                "run": str(run.folder),
            }
        )
    )


if __name__ == "__main__":
    main()
