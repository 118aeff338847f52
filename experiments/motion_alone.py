"""Measure the motion between two images of unseen worlds: by a network alone, and by matches with predicted depth.

    python experiments/motion_alone.py depth [--network base]
    python experiments/motion_alone.py network --pose-net correlation --worlds 200 --steps 800

The unseen worlds are the four test worlds of the demo. Prints a row of ATE over path in percent (SE(3)-aligned, metres)
for each way:
- depth: by matches and the predicted depth at them (PnP), by the essential matrix whose length is that at which depths
  of both agree, and by direct alignment with the predicted depth;
- network: by a pose network that was trained on the true motion, which is the upper bound of learning from images
  alone, and by the training's mean motion. --worlds: worlds of six frames that are rendered to train it (seed 4712);
  0 takes the demo's own.
"""

# mypy: disable-error-code="arg-type, assignment, no-untyped-call"

from __future__ import annotations

import argparse
import itertools
import tempfile
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stadia.core.types import Camera, Recording
from stadia.data.config import NO_AUGMENTATION, AugmentationConfig, CacheConfig
from stadia.data.frame_preparation import PreparedFrame, read_frames
from stadia.data.open_dataset import open_recordings
from stadia.differentiable import random_state
from stadia.differentiable.batch import Batch
from stadia.evaluation.recording_scores import score_trajectory
from stadia.geometry.image_features import detect_features, match_features
from stadia.geometry.poses import compose, invert_pose, rotation_angle_deg
from stadia.geometry.two_views import estimate_motion, pixel_rays, triangulate
from stadia.io.records.trajectory import Trajectory
from stadia.metrics.trajectory_metrics import PathAlignment
from stadia.networks.config import DepthPoseNetConfig
from stadia.networks.pose_net import PoseNet
from stadia.predict.predict_frames import FrameArrays
from stadia.synthetic.config import ROADWORLD_DEMO, RoadWorldConfig
from stadia.synthetic.roadworld.roadworld_writer import render_demo_worlds, write_roadworld
from stadia.training.loading.loader import Loader
from stadia.training.loading.samples import VideoSamples
from stadia.training.prediction.aligned_motion import align_motion
from stadia.training.recipes import load_predictor
from stadia.training.recipes.base.build_recipe import open_network_checkpoint

Array = NDArray[np.float64]

SIZE = ROADWORLD_DEMO.height, ROADWORLD_DEMO.width
SEED = 4712
"""Of the worlds that train the pose network: no world of the demo."""

MATCH_PX = 2.0
"""Distance from its projection within which a match agrees with a motion."""

FARTHEST = 60.0
"""Depth beyond which a match shows no translation."""


def score_percent(motions: list[Array], recording: Recording) -> float:
    """Return ATE over path in percent of the motions T_next_now (N, 4, 4) of all neighbors."""
    poses = [np.eye(4)]
    for motion in motions:
        poses.append(poses[-1] @ np.linalg.inv(motion))
    true = np.stack([np.asarray(recording.T_world_camera(index)) for index in range(len(recording))])
    score = score_trajectory(Trajectory(np.stack(poses)), Trajectory(true), PathAlignment.SE3)
    ate_m = score.metrics["ate_rmse_m"]
    assert ate_m is not None
    return 100 * ate_m / score.path_m


def print_row(name: str, recordings: list[Recording], motions: list[list[Array]]) -> None:
    percents = [score_percent(found, recording) for found, recording in zip(motions, recordings, strict=True)]
    print(
        f"| {name} | {' | '.join(f'{p:.1f}' for p in (*percents, np.mean(percents), np.max(percents)))} |", flush=True
    )


# -- with predicted depth


def solve_pnp(first: Array, second: Array, z: Array, K: Array) -> Array | None:
    """Return T_second_first (4, 4) from matches (N, 2) and their depth (N,) in the first image."""
    points = pixel_rays(first, K) * z[:, None]
    found, rotation, t, inliers = cv2.solvePnPRansac(points, second, K, None, reprojectionError=MATCH_PX)
    if not found or inliers is None or len(inliers) < 6:
        return None
    chosen = inliers.ravel()
    rotation, t = cv2.solvePnPRefineLM(points[chosen], second[chosen], K, None, rotation, t)
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = cv2.Rodrigues(rotation)[0], t.ravel()
    return T


def scale_essential(first: Array, second: Array, z: Array, K: Array) -> Array | None:
    """Return T_second_first (4, 4) of the essential matrix, with the length at which both depths agree."""
    motion = estimate_motion(first, second, K)
    if motion is None:
        return None
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = motion.R, motion.t
    triangulated, _ = triangulate(first, second, K, K, T)
    known = motion.inliers & (triangulated > 0) & (z < FARTHEST)
    if known.sum() < 6:
        return None
    T[:3, 3] *= float(np.exp(np.median(np.log(z[known] / triangulated[known]))))
    return T


WAYS: dict[str, Callable[[Array, Array, Array, Array], Array | None]] = {
    "matches and depth (PnP)": solve_pnp,
    "essential matrix, length by depth": scale_essential,
}


@torch.no_grad()
def measure_depth_ways(network: str, recordings: list[Recording]) -> None:
    """Print a row for each way; a motion that is not found is that of the pair before."""
    predictor: Any = load_predictor(open_network_checkpoint(network, lambda: SIZE))
    found: dict[str, list[list[Array]]] = {name: [] for name in (*WAYS, "direct alignment")}
    for recording in recordings:
        views = []
        for frame in read_frames(recording):
            shown = PreparedFrame.prepare(predictor, frame)
            camera = Camera(shown.K[None], predictor.height, predictor.width)
            near = predictor.inverse_depth(shown.image[None], camera)
            views.append((frame, detect_features(frame.image), FrameArrays(shown.image[None], camera, near)))
        for motions in found.values():
            motions.append([])
        before = None
        for (frame, features, now), (_, next_features, following) in pairwise(views):
            matches = match_features(features, next_features)
            inverse_m = cv2.resize(now.inverse_depth[0, 0], frame.image.shape[1::-1])  # type: ignore[index]
            spots = matches.first_px.astype(np.float32)
            z = 1 / cv2.remap(inverse_m, spots[:, 0:1], spots[:, 1:2], cv2.INTER_LINEAR).ravel().astype(np.float64)
            for name, way in WAYS.items():
                T = way(matches.first_px, matches.second_px, z, frame.K)
                motions = found[name][-1]
                motions.append(T if T is not None else motions[-1] if motions else np.eye(4))
            (link,) = align_motion(predictor, now, following, before)
            before = link.T_next_now if link.T_next_now is not None else before
            found["direct alignment"][-1].append(np.eye(4) if before is None else before)
    for name, motions in found.items():
        print_row(name, recordings, motions)


# -- a pose network alone


def make_samples(recordings: list[Recording], augmentation: AugmentationConfig) -> VideoSamples:
    """Return pairs of neighbors."""
    height, width = SIZE
    return VideoSamples(
        recordings, height=height, width=width, offsets=(1,), stereo=False, augmentation=augmentation
    )  # fmt: skip


def list_batches(loader: Loader) -> Iterator[Batch]:
    """Yield batches, epoch after epoch."""
    for epoch in itertools.count():
        loader.set_position(epoch)
        yield from loader


def predict_pairs(network: PoseNet, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return T_next_now (B, 4, 4), predicted and true."""
    true = batch.targets.T_source_target_true[:, 0]
    return network(batch.inputs.image, batch.inputs.sources[:, 0]).T_later_earlier, true


def train_network(arguments: argparse.Namespace, recordings: list[Recording]) -> tuple[PoseNet, Tensor]:
    """Return a pose network that was trained on the true motion, and the mean motion (4, 4)."""
    random_state.seed_generators(arguments.seed, "training")
    config = DepthPoseNetConfig(
        pose_net=arguments.pose_net, pose_encoder=arguments.encoder, pretrained=False, translation_scale=0.2
    )
    network = PoseNet(config, None)
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=arguments.steps, pct_start=0.05)
    samples = make_samples(recordings, AugmentationConfig())
    loader = Loader(samples, batch_size=6, seed=arguments.seed, shuffle=True, workers=0, device="cpu")
    seen: list[Tensor] = []
    for batch in itertools.islice(list_batches(loader), arguments.steps):
        predicted, true = predict_pairs(network, batch)
        error = compose(invert_pose(predicted), true)
        loss = error[:, :3, 3].abs().mean() + rotation_angle_deg(error[:, :3, :3]).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        seen.append(true[:, :3, 3])
    mean = torch.eye(4)
    mean[:3, 3] = torch.cat(seen).mean(0)
    return network.eval(), mean


def measure_network(arguments: argparse.Namespace, recordings: list[Recording]) -> None:
    """Train the pose network, and print its row and that of the mean motion."""
    if arguments.worlds:
        config = RoadWorldConfig(
            train=arguments.worlds, val=0, test=0, frames=6, height=SIZE[0], width=SIZE[1], stereo=False
        )
        with tempfile.TemporaryDirectory() as folder:
            write_roadworld(config, Path(folder) / "worlds", seed=SEED, workers=1)
            network, mean = train_network(arguments, open_recordings(Path(folder) / "worlds"))
    else:
        network, mean = train_network(arguments, open_recordings(render_demo_worlds(CacheConfig()), split="train"))
    by_network, by_mean, errors = [], [], []
    for recording in recordings:
        samples = make_samples([recording], NO_AUGMENTATION)
        loader = Loader(samples, batch_size=8, seed=0, shuffle=False, workers=0, device="cpu")
        with torch.inference_mode():
            pairs = [predict_pairs(network, batch) for batch in loader]
        predicted, true = (torch.cat(part).double() for part in zip(*pairs, strict=True))
        by_network.append([*predicted.numpy()])
        by_mean.append([mean.double().numpy()] * len(predicted))
        errors.append(torch.stack([(predicted - true)[:, 2, 3].abs(), (mean - true)[:, 2, 3].abs()]))
    of_network, of_mean = torch.cat(errors, dim=1).mean(1).tolist()
    print_row(f"{arguments.pose_net}, forward error {of_network:.3f} m a frame", recordings, by_network)
    print_row(f"mean motion, forward error {of_mean:.3f} m a frame", recordings, by_mean)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    by_depth = commands.add_parser("depth")
    by_depth.add_argument("--network", default="base", help="any network that `stadia predict` takes")
    alone = commands.add_parser("network")
    alone.add_argument("--pose-net", default="correlation", help="as of `model.pose_net`")
    alone.add_argument("--encoder", default="mobilenetv3_small_050", help="of --pose-net resnet")
    alone.add_argument("--worlds", type=int, default=0)
    alone.add_argument("--steps", type=int, default=1000)
    alone.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    recordings = open_recordings(render_demo_worlds(CacheConfig()), split="test")
    names = [recording.name.rpartition("/")[2] for recording in recordings]
    print(f"| way | {' | '.join(names)} | mean | worst |\n{'|---' * (len(names) + 3)}|", flush=True)
    if arguments.command == "depth":
        measure_depth_ways(arguments.network, recordings)
    else:
        measure_network(arguments, recordings)


if __name__ == "__main__":
    main()
