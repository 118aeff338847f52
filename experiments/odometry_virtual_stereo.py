"""Test whether virtual stereo holds the scale of a real path: KITTI odometry 06, with and without the predicted
right view.

    python experiments/real_stereo.py --steps 1200 model.network.right_view=true
    python experiments/odometry_virtual_stereo.py runs/THAT_RUN

The run was trained on these 51 pairs and has no pose network: besides the images there is depth alone, and the rig's
baseline. Each method runs with the predicted depth, and with depth that is wrong by a factor, while the right view
stays unchanged. Prints one JSON object per path: its length relative to the measured one (Sim(3); a path that keeps
the factor is off by it), and ATE (SE(3)).
"""

# mypy: disable-error-code="arg-type"

from __future__ import annotations

import argparse
import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
from torch import Tensor

from stadia.core.types import Camera, DepthScale, MapsPredictor, PredictedMaps, Recording
from stadia.data.open_dataset import open_recordings
from stadia.evaluation.frame_preparation import read_frames
from stadia.evaluation.recording_scores import score_trajectory
from stadia.io.trajectory_files import Trajectory
from stadia.metrics.trajectory_metrics import PathAlignment
from stadia.sfm.odometry.visual_odometry import track_camera
from stadia.training import recipes


@dataclass(frozen=True)
class Altered:
    """A predictor whose depth of the left view is multiplied by `factor`, with or without the right view."""

    predictor: MapsPredictor
    depth_scale: DepthScale
    height: int
    width: int
    crop: str
    factor: float
    right_view: bool

    def maps(self, image: Tensor, camera: Camera) -> PredictedMaps:
        maps = self.predictor.maps(image, camera)
        right = maps.inverse_depth_right if self.right_view else None
        return replace(maps, inverse_depth=maps.inverse_depth / self.factor, inverse_depth_right=right)

    def inverse_depth(self, image: Tensor, camera: Camera) -> Tensor:
        return self.maps(image, camera).inverse_depth

    def T_next_now(self, now: Tensor, camera: Camera, following: Tensor, next_camera: Camera) -> None:
        return None


def followed(predictor: MapsPredictor, recording: Recording, factor: float, *, right_view: bool) -> dict[str, object]:
    """Return a path's figures against the measured one."""
    kept = (predictor.depth_scale, predictor.height, predictor.width, predictor.crop)
    altered = Altered(predictor, *kept, factor=factor, right_view=right_view)
    path = track_camera(altered, read_frames(recording), "refined", source=recording.name)
    poses = [recording.T_world_camera(index) for index in range(len(path.names))]
    truth, estimate = (
        Trajectory(np.stack([pose for pose in poses if pose is not None])),
        Trajectory(path.T_world_camera),
    )
    longer = 100 * (1 / score_trajectory(estimate, truth, PathAlignment.SIM3).scale - 1)
    ate_m = score_trajectory(estimate, truth, PathAlignment.SE3).metrics["ate_rmse_m"]
    assert ate_m is not None
    settings = {"depth_times": factor, "virtual_stereo": right_view}
    return {
        **settings,
        "longer_percent": round(longer, 2),
        "ate_m": round(ate_m, 3),
        "poses": len(path.names),
        "keyframes": path.keyframes,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    real = os.environ.get("STADIA_REAL_DATA", Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("run", type=Path, help="a run of real_stereo.py with model.network.right_view=true")
    parser.add_argument("--data", type=Path, default=real, help="folder of the real samples (STADIA_REAL_DATA)")
    parser.add_argument("--factors", type=float, nargs="+", default=[1.0, 0.9, 1.1])
    arguments = parser.parse_args()

    (recording,) = open_recordings(Path(arguments.data) / "kitti_odometry")
    predictor = cast(MapsPredictor, recipes.load_predictor(arguments.run))
    for factor in arguments.factors:
        for right_view in (False, True):
            print(json.dumps(followed(predictor, recording, factor, right_view=right_view)), flush=True)


if __name__ == "__main__":
    main()
