"""Measure how far a path around a RoadWorld ring of 200 m misses its end, with and without the pose graph.

    python experiments/pose_graph_loop.py --out worlds/ring

Renders the ring once (215 m are driven, so that the start is seen again), and tracks the camera with the depth of a
network, with the true depth, and with one whose scale drifts. Prints for --method refined and --method graph: the error
of the last position relative to the first one, its share of the path, and ATE (SE(3)-aligned).
"""

# mypy: disable-error-code="misc, no-untyped-call"

from __future__ import annotations

import argparse
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from stadia.core.types import Camera, DepthScale, Predictor, Recording
from stadia.data.open_dataset import open_recordings
from stadia.evaluation.frame_preparation import PreparedFrame, read_frames
from stadia.evaluation.recording_scores import score_trajectory
from stadia.io.trajectory_files import Trajectory
from stadia.metrics.trajectory_metrics import PathAlignment, path_length_m
from stadia.sfm.odometry.graph_odometry import GraphOdometry
from stadia.synthetic.config import RoadWorldConfig
from stadia.synthetic.rendering.dataset_files import SceneJob
from stadia.synthetic.roadworld.road_world import RoadRenderer, derive_world_seed, make_world
from stadia.synthetic.roadworld.roadworld_writer import _write_recording
from stadia.training.recipes.base.build_recipe import load_predictor, open_network_checkpoint

RING_M, DRIVEN_M = 200.0, 215.0
CONFIG = RoadWorldConfig(
    train=0,
    val=0,
    test=1,
    frames=300,
    height=96,
    width=320,
    stereo=False,
    supersampling=1,
    speed_m_per_frame=(0.95, 1.0),
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


def track(recording: Recording, predictor: Predictor) -> tuple[GraphOdometry, np.ndarray, np.ndarray]:
    """Track the camera once; return the method, and the paths (N, 4, 4) without and with loops."""
    odometry = GraphOdometry(predictor, lambda points: None)
    for frame in read_frames(recording):
        prepared = PreparedFrame.prepare(predictor, frame)
        camera = Camera(torch.from_numpy(prepared.K), predictor.height, predictor.width)
        if not odometry.add(torch.from_numpy(prepared.image)[None], camera):
            print(f"the path ends before {frame.name}")
            break
    return odometry, odometry.refined.path().numpy(), odometry.path().numpy()


def describe(found: np.ndarray, recording: Recording, *, is_metric: bool) -> str:
    """Return the error at the end of a path (N, 4, 4), in metres and as a share of the path, and its ATE."""
    true = np.stack([recording.T_world_camera(index) for index in range(len(found))])
    true = np.linalg.inv(true[0]) @ true
    if not is_metric:  # the first 10 m give the scale
        count = int(np.searchsorted(np.linalg.norm(true[:, :3, 3], axis=1), 10.0))
        found = found.copy()
        found[:, :3, 3] *= np.linalg.norm(true[count, :3, 3]) / np.linalg.norm(found[count, :3, 3])
    error = float(np.linalg.norm(found[-1, :3, 3] - true[-1, :3, 3]))
    score = score_trajectory(Trajectory(found), Trajectory(true), PathAlignment.SE3)
    share = error / path_length_m(torch.from_numpy(true))
    return f"end {error:.2f} m ({share:.1%}), ATE {score.metrics['ate_rmse_m']:.2f} m"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("worlds/ring"), help="where the ring is rendered to")
    parser.add_argument("--network", default="base", help="a network or a run whose depth is used too")
    parser.add_argument("--seed", type=int, default=0, help="of the world")
    parser.add_argument("--only", default="", help="part of the name of a row of depths")
    arguments = parser.parse_args()
    recording = render(arguments.out, arguments.seed)
    size = recording.camera(0).height, recording.camera(0).width
    print(f"{len(recording)} frames", flush=True)
    predictors = {
        "true depth, 2 % noise": lambda: DriftingDepth(recording, DepthScale.METRES, 1.0),
        "true depth whose scale drifts to 1.15": lambda: DriftingDepth(recording, DepthScale.UP_TO_SCALE, 1.15),
        arguments.network: lambda: load_predictor(open_network_checkpoint(arguments.network, lambda: size)),
    }
    for name, make in predictors.items():
        if arguments.only in name:
            predictor, started = make(), time.process_time()
            odometry, refined, graph = track(recording, predictor)
            is_metric = predictor.depth_scale is DepthScale.METRES
            print(f"{name}: {odometry.keyframes} keyframes, {time.process_time() - started:.0f} s of processor time")
            for method, path in (("refined", refined), ("graph", graph)):
                print(f"  {method}: {describe(path, recording, is_metric=is_metric)}", flush=True)
            print(f"  {'; '.join(odometry.notes)}", flush=True)


if __name__ == "__main__":
    main()
