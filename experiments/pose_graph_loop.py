"""Measure how far a path around a RoadWorld ring of 200 m misses its end, with and without the pose graph.

    python experiments/pose_graph_loop.py --out worlds/ring

Renders the ring once (215 m are driven, so that the start is seen again), and tracks the camera with the depth of a
network and with the true depth whose scale drifts, by --method refined and --method graph. Prints a row each: the
error of the last position relative to the first one, its share of the path, ATE (SE(3)-aligned), loops, and seconds.
"""

from __future__ import annotations

import argparse
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from stadia.core.recording import Recording
from stadia.core.types import DepthScale, Predictor
from stadia.datasets.open_dataset import open_recordings
from stadia.evaluation.frame_preparation import read_frames
from stadia.evaluation.io.trajectory_files import Trajectory
from stadia.evaluation.recording_scores import score_trajectory
from stadia.metrics.trajectory_metrics import PathAlignment, path_length_m
from stadia.odometry.visual_odometry import CameraPath, track_camera
from stadia.recipes.base.build_recipe import load_predictor
from stadia.recipes.prediction.network_checkpoint import open_network
from stadia.synthetic.config import RoadWorldConfig
from stadia.synthetic.rendering.dataset_files import SceneJob
from stadia.synthetic.roadworld.road_world import RoadRenderer, derive_world_seed, make_world
from stadia.synthetic.roadworld.roadworld_writer import _write_recording

RING_M, DRIVEN_M = 200.0, 215.0
CONFIG = RoadWorldConfig(
    train=0, val=0, test=1, frames=400, height=128, width=416, stereo=False, speed_m_per_frame=(0.7, 0.75)
)


class DriftingDepth:
    """The true depth times a factor that drifts from 1 to `last` along the drive, each frame off by 2 % beside.

    Known by its images: a predictor gets nothing else.
    """

    crop = "none"

    def __init__(self, recording: Recording, depth_scale: DepthScale, last: float) -> None:
        camera = recording.camera(0)
        self.height, self.width, self.depth_scale = camera.height, camera.width, depth_scale
        noise = np.random.default_rng(0).normal(0, 0.02, len(recording))
        self.factors = np.linspace(1, last, len(recording)) * np.exp(noise)
        self.recording = recording
        self.known: dict[bytes, int] = {}

    def index(self, image: Tensor) -> int:
        """Return the frame of an image (1, 3, H, W)."""
        if not self.known:
            self.known = {self.recording.image(i).tobytes(): i for i in range(len(self.recording))}
        return self.known[(255 * image[0]).round().byte().permute(1, 2, 0).contiguous().numpy().tobytes()]

    def inverse_depth(self, image: Tensor, camera: object) -> Tensor:
        """Return (1, 1, H, W)."""
        index = self.index(image)
        depth = self.recording.depth_m(index)
        assert depth is not None
        far = np.where(depth > 0, depth, 200.0)
        return torch.from_numpy(1 / (self.factors[index] * far))[None, None].float()

    def T_next_now(self, now: Tensor, camera: object, following: Tensor, next_camera: object) -> None:
        """Return nothing: there is no pose network."""
        return


def render(folder: Path, seed: int) -> Recording:
    """Render the ring, unless it is there already."""
    if not folder.exists():
        start = make_world(derive_world_seed(seed, "test", 0), CONFIG, ring_m=RING_M)
        travelled = np.cumsum(np.linalg.norm(np.diff(start.drive.T_world_camera[:, :3, 3], axis=0), axis=1))
        frames = int(np.searchsorted(travelled, DRIVEN_M)) + 2
        config = CONFIG.model_copy(update={"frames": min(frames, CONFIG.frames)})
        renderer = RoadRenderer(make_world(derive_world_seed(seed, "test", 0), config, ring_m=RING_M), config)
        with ThreadPoolExecutor(2) as pool:
            _write_recording(pool, SceneJob(folder, "test", 0, seed), renderer, lambda frames: None)
    (recording,) = open_recordings(folder)
    return recording


def measure(recording: Recording, predictor: Predictor, method: str) -> tuple[CameraPath, float, float, float, float]:
    """Return the path, the error at its end in metres and as a share of the path, ATE, and seconds."""
    started = time.perf_counter()
    path = track_camera(predictor, read_frames(recording), method, source=recording.name)
    seconds = time.perf_counter() - started
    true = np.stack([recording.T_world_camera(index) for index in range(len(path.names))])
    from_start = np.linalg.inv(true[0]) @ true
    found = path.T_world_camera
    if predictor.depth_scale is not DepthScale.METRES:  # the first 10 m give the scale
        count = int(np.searchsorted(np.linalg.norm(from_start[:, :3, 3], axis=1), 10.0))
        found = found.copy()
        found[:, :3, 3] *= np.linalg.norm(from_start[count, :3, 3]) / np.linalg.norm(found[count, :3, 3])
    error = float(np.linalg.norm(found[-1, :3, 3] - from_start[-1, :3, 3]))
    score = score_trajectory(Trajectory(found), Trajectory(from_start), PathAlignment.SE3)
    length = path_length_m(torch.from_numpy(true))
    return path, error, error / length, float(score.metrics["ate_rmse_m"]), seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("worlds/ring"), help="where the ring is rendered to")
    parser.add_argument("--network", default="base", help="a network or a run whose depth is used too")
    parser.add_argument("--seed", type=int, default=0, help="of the world")
    parser.add_argument("--only", default="", help="part of the name of a row of depths")
    arguments = parser.parse_args()
    recording = render(arguments.out, arguments.seed)
    camera = recording.camera(0)
    predictors = {
        "true depth, 2 % noise": lambda: DriftingDepth(recording, DepthScale.METRES, 1.0),
        "true depth whose scale drifts to 1.15": lambda: DriftingDepth(recording, DepthScale.UP_TO_SCALE, 1.15),
        arguments.network: lambda: load_predictor(
            open_network(arguments.network, lambda: (camera.height, camera.width))
        ),
    }
    print(f"{len(recording)} frames")
    for name, make in predictors.items():
        if arguments.only in name:
            for method in ("refined", "graph"):
                path, error, share, ate, seconds = measure(recording, make(), method)
                figures = (
                    f"end {error:.2f} m ({share:.1%}), ATE {ate:.2f} m, {path.keyframes} key frames, {seconds:.0f} s"
                )
                print(f"{name}, {method}: {figures}. {'; '.join((*path.notes, path.ends))}", flush=True)


if __name__ == "__main__":
    main()
