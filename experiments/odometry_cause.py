"""Find what limits a path that is aligned by predicted depth: depth, its scale, the start, or the iterations.

    python experiments/odometry_cause.py RUN --worlds worlds
    python experiments/odometry_cause.py RUN --worlds worlds --demo

RUN: a run of `stadia demo`. Eight worlds of 25 frames (seed 77, no demo has it) are rendered to WORLDS, so that nothing
is chosen on the demo's own four test worlds, which `--demo` scores. Prints ATE over path in percent, SE(3)-aligned, for
each world and way:
- "aligned": as `stadia demo` scores it;
- "true depth": the upper bound;
- "true scale": the predicted depth times the ratio of medians of each image;
- "true start": started at the true motion;
- "40 steps": up to 40 steps a size, and a threshold of 1e-5;
- "two-way": the mean with the alignment of the next frame to this one;
- "no edges": without pixels where inverse depth varies by half within 5 pixels;
- "flipped": inverse depth is the mean with that of the mirrored image;
- "both": "flipped" and "two-way";
- "refined": the default of `stadia odometry`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from stadia.core.types import Camera, Predictor, Recording
from stadia.data.config import CacheConfig
from stadia.data.frame_preparation import PreparedFrame, read_frames
from stadia.data.open_dataset import open_recordings
from stadia.differentiable import direct_alignment
from stadia.differentiable.view_synthesis import depth_from_inverse, inverse_from_depth, mirror
from stadia.evaluation.recording_scores import score_trajectory
from stadia.geometry.poses import compose, inverse, se3_exp, se3_log
from stadia.io.trajectory_files import Trajectory
from stadia.metrics.trajectory_metrics import PathAlignment
from stadia.sfm.odometry.visual_odometry import track_camera
from stadia.synthetic.config import RoadWorldConfig
from stadia.synthetic.roadworld.roadworld_writer import render_demo_worlds, write_roadworld
from stadia.training.recipes.base.build_recipe import load_predictor

WORLDS = RoadWorldConfig(train=0, val=0, test=8, frames=25, height=96, width=320, stereo=False)
SEED, MAX_DEPTH_M = 77, 80


@dataclass(frozen=True)
class View:
    """image: (1, 3, H, W).  camera: K (1, 3, 3).  depth_m, true_m: (1, 1, H, W).  T_world_camera: (4, 4), true.

    flipped_m: (1, 1, H, W), of the mean inverse depth of the image and its mirror image, whose camera is mirrored too.
    """

    image: Tensor
    camera: Camera
    depth_m: Tensor
    flipped_m: Tensor
    true_m: Tensor
    T_world_camera: Tensor


@torch.no_grad()
def read_views(predictor: Predictor, recording: Recording) -> list[View]:
    views = []
    for index, frame in enumerate(read_frames(recording)):
        shown = PreparedFrame.prepare(predictor, frame)
        image = torch.from_numpy(shown.image)[None]
        camera = Camera(torch.from_numpy(shown.K), predictor.height, predictor.width)
        near = predictor.inverse_depth(image, camera).float()
        mirrored = predictor.inverse_depth(*mirror(image, camera)).float().flip(-1)
        depth_m, flipped_m = depth_from_inverse(near), depth_from_inverse((near + mirrored) / 2)
        true_m = torch.from_numpy(np.asarray(recording.depth_m(index), np.float32))[None, None]
        batched = Camera(camera.K[None], camera.height, camera.width)
        pose = torch.from_numpy(np.asarray(recording.T_world_camera(index)))
        views.append(View(image, batched, depth_m, flipped_m, true_m, pose))
    return views


def align(now: View, following: View, depth_m: Tensor, start: Tensor) -> Tensor:
    cameras = now.camera, following.camera
    found = direct_alignment.align_direct(now.image, following.image, depth_m, *cameras, start[None])
    return found.T_source_target[0]


def scale_depth(now: View) -> Tensor:
    known = (now.true_m > 0) & (now.true_m < MAX_DEPTH_M)
    return now.depth_m * (now.true_m[known].median() / now.depth_m[known].median())


def drop_edges(now: View) -> Tensor:
    near = inverse_from_depth(now.depth_m)
    most, least = F.max_pool2d(near, 5, 1, 2), -F.max_pool2d(-near, 5, 1, 2)
    return now.depth_m * (most < 1.5 * least)


def align_two_way(now: View, following: View, start: Tensor, *, flipped: bool = False) -> Tensor:
    there = align(now, following, now.flipped_m if flipped else now.depth_m, start)
    back = align(following, now, following.flipped_m if flipped else following.depth_m, inverse(there))
    return compose(se3_exp(se3_log(compose(inverse(back), inverse(there))) / 2), there)


def align_longer(now: View, following: View, start: Tensor) -> Tensor:
    with mock.patch.multiple(direct_alignment, _STEPS=40, _MIN_GAIN=1e-5):
        return align(now, following, now.depth_m, start)


WAYS: dict[str, Callable[[View, View, Tensor], Tensor]] = {
    "aligned": lambda now, following, start: align(now, following, now.depth_m, start),
    "true depth": lambda now, following, start: align(now, following, now.true_m, start),
    "true scale": lambda now, following, start: align(now, following, scale_depth(now), start),
    "true start": lambda now, following, start: align(
        now, following, now.depth_m, compose(inverse(following.T_world_camera), now.T_world_camera)
    ),
    "40 steps": align_longer,
    "two-way": align_two_way,
    "flipped": lambda now, following, start: align(now, following, now.flipped_m, start),
    "both": partial(align_two_way, flipped=True),
    "no edges": lambda now, following, start: align(now, following, drop_edges(now), start),
}


def score_percent(path: np.ndarray, views: list[View]) -> float:
    """Return ATE over path of poses (N, 4, 4) T_world_camera, percent."""
    true = np.stack([view.T_world_camera.numpy() for view in views])
    score = score_trajectory(Trajectory(path), Trajectory(true), PathAlignment.SE3)
    ate_m = score.metrics["ate_rmse_m"]
    assert ate_m is not None
    return 100 * ate_m / score.path_m


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--worlds", type=Path, default=Path("worlds"), help="where the worlds are rendered to")
    parser.add_argument("--demo", action="store_true", help="the demo's own test worlds")
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    folder = arguments.worlds / "odometry-cause"
    if arguments.demo:
        folder = render_demo_worlds(CacheConfig())
    else:
        write_roadworld(WORLDS, folder, seed=SEED, workers=1)
    predictor = load_predictor(arguments.run)
    names = [*WAYS, "refined"]
    print(f"| world | {' | '.join(names)} |\n|{'---|' * (1 + len(names))}")
    rows = []
    for recording in open_recordings(folder, split="test"):
        views = read_views(predictor, recording)
        found = []
        for way in WAYS.values():
            poses = [torch.eye(4, dtype=torch.float64)]
            for now, following in pairwise(views):
                cameras = [Camera(one.camera.K[0], one.camera.height, one.camera.width) for one in (now, following)]
                predicted = predictor.T_next_now(now.image, cameras[0], following.image, cameras[1])
                start = torch.eye(4, dtype=torch.float64) if predicted is None else predicted[0].double()
                poses.append(compose(poses[-1], inverse(way(now, following, start))))
            found.append(score_percent(torch.stack(poses).numpy(), views))
        tracked = track_camera(predictor, read_frames(recording), "refined", source=recording.name)
        found.append(score_percent(tracked.T_world_camera, views))
        rows.append(found)
        print(f"| {recording.name.rpartition('/')[2]} | {' | '.join(f'{one:.2f}' for one in found)} |", flush=True)
    for name, values in (("mean", np.mean(rows, axis=0)), ("worst", np.max(rows, axis=0))):
        print(f"| {name} | {' | '.join(f'{one:.2f}' for one in values)} |")


if __name__ == "__main__":
    main()
