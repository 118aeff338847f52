"""METER adapted to the left camera of KITTI 06 by the motion of a map: the loss alone, without `stadia train`.

    python benchmarks/adapt_one_camera.py --map left.map --rate 3e-4 --pyramid 4 --points 0.1

The map is that of the first 40 left images (`stadia map left data.camera.focal_px=707.0912`). Prints the relative
difference from semi-global matching, median and mean, at equal medians: of frames that train, and of the last 8 pairs.
Needs the real samples (STADIA_REAL_DATA, or shared/data beside the repository).
"""

# mypy: disable-error-code="misc, no-untyped-call"

from __future__ import annotations

import argparse
import os
from pathlib import Path

import cv2
import numpy as np
import torch
from published_networks import open_meter
from torch import Tensor, nn

from stadia.core.types import Camera, Prediction, Targets
from stadia.data.frame_preparation import PreparedFrame, read_frames
from stadia.io.input_files import read_json
from stadia.losses.config import SelfSupervisedLossConfig
from stadia.losses.selfsup_loss import SelfSupervisedLoss
from stadia.predict.inputs import open_inputs
from stadia.scale.sources import match_pair_depth

HEIGHT, WIDTH, TRAINED = 192, 640, 40
METRES_PER_UNIT = 0.0939
"""Of METER on KITTI 06 (`metres_by_source.py`): where depth starts."""

BATCH, WARM_UP = 2, 20


def read_map(folder: Path, true_poses: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Return poses (N, 4, 4) of a map in metres, and depth (1, H, W) of its points in each frame, 0 = none."""
    found = read_json(folder / "map.json")
    poses = torch.eye(4).double().repeat(TRAINED, 1, 1)
    poses[:, :3] = torch.tensor([frame["T_world_camera"] for frame in found["frames"]]).view(-1, 3, 4)
    unit = (true_poses[-1] - true_poses[0])[:3, 3].norm() / (poses[-1] - poses[0])[:3, 3].norm()
    poses[:, :3, 3] *= unit
    content = np.load(folder / "points.npz", allow_pickle=False)
    points, observed, pixels = torch.from_numpy(content["points"]).double() * unit, content["observed"], content["xy"]
    height, width = found["camera"]["height"], found["camera"]["width"]
    depths = []
    for index in range(TRAINED):
        rows = observed[:, 0] == index
        z = ((points[observed[rows, 1]] - poses[index, :3, 3]) @ poses[index, :3, :3])[:, 2].float()
        x, y = pixels[rows].T * np.array([[WIDTH / width], [HEIGHT / height]])
        depth = torch.zeros(1, HEIGHT, WIDTH)
        depth[0, y.astype(int).clip(0, HEIGHT - 1), x.astype(int).clip(0, WIDTH - 1)] = z.clamp(min=0)
        depths.append(depth)
    return poses, depths


@torch.no_grad()
def compare(network: nn.Module, images: Tensor, matched: dict[int, Tensor]) -> str:
    """Return median and mean of the relative difference from the matches."""
    rows: dict[str, list[tuple[float, float]]] = {"frames that train": [], "last 8 pairs": []}
    network.eval()
    for index, depth_m in matched.items():
        inverse_depth = network(images[index][None]).inverse_depth[0][0, 0].numpy()
        depth = torch.from_numpy(cv2.resize(1 / inverse_depth, depth_m.shape[::-1]))
        known = (depth_m > 0) & (depth_m < 50)
        found, true = depth[known], depth_m[known]
        error = (found * true.median() / found.median() - true).abs() / true
        rows["last 8 pairs" if index >= len(images) - 8 else "frames that train"].append(
            (float(error.median()), float(error.mean()))
        )
    return ", ".join(f"{name}: {np.mean(values, 0).round(4).tolist()}" for name, values in rows.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--map", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=os.environ.get("STADIA_REAL_DATA"))
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--rate", type=float, default=3e-4)
    parser.add_argument("--backbone", type=float, default=1.0, help="factor on the rate of the backbone")
    parser.add_argument("--pyramid", type=int, default=4)
    parser.add_argument("--points", type=float, default=0.1)
    arguments = parser.parse_args()
    data = Path(arguments.data or Path(__file__).parents[2] / "shared" / "data")
    torch.set_num_threads(1)
    predictor = open_meter(data, "kitti")
    recording = open_inputs(data / "kitti_odometry")[0].recording
    assert recording is not None
    assert recording.T_right_left is not None
    shown = [PreparedFrame.prepare(predictor, frame) for frame in read_frames(recording)]
    images, K = torch.from_numpy(np.stack([frame.image for frame in shown])), torch.from_numpy(shown[0].K).float()
    matched = {
        index: torch.from_numpy(
            match_pair_depth(
                recording.image(index), recording.image(index, "right"), recording.K(index), recording.T_right_left
            )
        )
        for index in range(len(recording))
        if index % 3 == 0 or index >= len(recording) - 8
    }
    true_poses = torch.from_numpy(np.stack([recording.T_world_camera(index) for index in range(TRAINED)]))
    poses, depths = read_map(arguments.map, true_poses)
    network = predictor.recipe.model
    network.scale.fill_(1 / METRES_PER_UNIT)
    network.keeps_statistics = True
    print("start", compare(network, images, matched), flush=True)
    groups = [
        {"params": network.decoder_parameters(), "lr": arguments.rate},
        {"params": network.backbone_parameters(), "lr": arguments.rate * arguments.backbone},
    ]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, (step + 1) / WARM_UP) * (0.5 + 0.5 * np.cos(np.pi * step / arguments.steps))
    )
    config = SelfSupervisedLossConfig(pyramid=arguments.pyramid, points=arguments.points)
    loss, generator = SelfSupervisedLoss(config), np.random.default_rng(0)
    camera = Camera(K.expand(BATCH, 3, 3).contiguous(), HEIGHT, WIDTH)
    sources = Camera(K.expand(BATCH, 2, 3, 3).contiguous(), HEIGHT, WIDTH)
    for step in range(arguments.steps):
        chosen = generator.choice(np.arange(1, TRAINED - 1), BATCH, replace=False)
        T = torch.stack(
            [torch.stack([torch.linalg.inv(poses[i + by]) @ poses[i] for by in (-1, 1)]) for i in chosen]
        ).float()
        neighbors = torch.stack([images[[i - 1, i + 1]] for i in chosen])
        point_depth = torch.stack([depths[i] for i in chosen])
        targets = Targets(images[chosen], neighbors, camera, sources, T, point_depth=point_depth)
        network.train()
        inverse_depth = network(images[chosen]).inverse_depth
        report = loss(targets, Prediction(inverse_depth, T), ("-1", "+1"), step)
        optimizer.zero_grad()
        report.total.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if (step + 1) % 20 == 0 or step + 1 == arguments.steps:
            print(step + 1, compare(network, images, matched), flush=True)


if __name__ == "__main__":
    main()
