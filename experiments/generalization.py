"""Compare unseen images after a training from random weights: this code, timm's zero start, and Monodepth2's code.

    git clone https://github.com/nianticlabs/monodepth2
    python experiments/generalization.py --monodepth2 monodepth2

ResNet-18 from random weights on the 51 stereo pairs of KITTI odometry 06 (stereo alone, 192x64, batches of 4, Adam at
1e-4), for the same seconds of processor time each, one thread; further settings are KEY=VALUE:
- "default": `selfsup` with its defaults;
- "base": `selfsup` from the network of the package, and "untrained", that network without a step;
- "zero start": the same with timm's `zero_init_last`, so that only the skip connections start;
- "monodepth2": the networks and the loss of their repository, from the same batches, with their units and their start.

Scored on the training pairs (OpenCV's semi-global matching nearer than 50 m), on frames of another drive (KITTI raw,
LiDAR nearer than 50 m) and on the demo's four test worlds (true depth nearer than 50 m): the median relative error in
metres, the same with the medians of each image set equal, and the median of depth over true depth. Prints one JSON
object for each training, and the means.
"""

# mypy: disable-error-code="arg-type, no-untyped-call, operator"

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, Protocol
from unittest import mock

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from harness import REAL_DATA, find_depth, make_parser

from stadia.core.types import Camera, Recording
from stadia.data.config import CacheConfig
from stadia.data.open_dataset import open_recordings
from stadia.differentiable import torch_state
from stadia.differentiable.batch import Batch
from stadia.differentiable.images import camera_to_torch, resize, resize_map
from stadia.geometry.cameras import depth_from_inverse
from stadia.synthetic.roadworld.roadworld_writer import render_demo_worlds
from stadia.training import recipes
from stadia.training.recipes.selfsup.recipe import SelfsupRecipe

LR, BATCH = 1e-4, 4
SETTINGS = (
    "data.height=64",
    "data.width=192",
    "data.offsets=[]",
    "data.split_by.val_share=0",
    "model.pretrained=false",
    f"training.batch_size={BATCH}",
    "training.workers=0",
)
BASE = ("model.network=base", "model.pretrained=true", "teacher.network=null")
NETWORKS = ("default", "base", "untrained", "zero start", "monodepth2")
MONODEPTH2_BASELINE = 0.1
"""Baseline of a pair in Monodepth2's unit of length."""


class Trainable(Protocol):
    """A depth network with its loss."""

    def parameters(self) -> Iterator[nn.Parameter]: ...

    def compute_loss(self, batch: Batch, step: int) -> Tensor: ...

    def inverse_depth(self, image: Tensor, camera: Camera) -> Tensor:
        """Return (1, 1, H, W) in 1/m of an image (1, 3, H, W)."""
        ...


class Stadia:
    """`selfsup`. zero_start: with timm's `zero_init_last`."""

    def __init__(self, config: Any, *, zero_start: bool = False) -> None:
        self.recipe = SelfsupRecipe(config).train()
        for block in self.recipe.modules() if zero_start else ():
            if hasattr(block, "zero_init_last"):
                block.zero_init_last()

    def parameters(self) -> Iterator[nn.Parameter]:
        return self.recipe.parameters()

    def compute_loss(self, batch: Batch, step: int) -> Tensor:
        return self.recipe.view_synthesis(batch, self.recipe.model(batch), step).total

    def inverse_depth(self, image: Tensor, camera: Camera) -> Tensor:
        return self.recipe.eval().maps(image, camera).inverse_depth


class Monodepth2:
    """The networks of Monodepth2's repository, and the loss of its Trainer at its default options."""

    def __init__(self, clone: Path, config: Any, baseline_m: float) -> None:
        names = ("tensorboardX", "IPython", "six", "six.moves", "datasets", "kitti_utils")
        absent = {name: ModuleType(name) for name in names}  # imported for logs and downloads alone
        for module, part in (("tensorboardX", "SummaryWriter"), ("IPython", "embed"), ("six.moves", "urllib")):
            setattr(absent[module], part, None)
        with mock.patch.dict(sys.modules, absent), mock.patch.object(sys, "path", [str(clone), *sys.path]):
            import layers
            import networks
            import trainer
        self.layers, self.trainer, self.unit_m = layers, trainer.Trainer, baseline_m / MONODEPTH2_BASELINE
        sample = partial(nn.functional.grid_sample, align_corners=True)  # the default of the torch it was written for
        trainer.F = SimpleNamespace(grid_sample=sample, interpolate=nn.functional.interpolate)
        encoder = networks.ResnetEncoder(18, False)
        self.networks = nn.ModuleList([encoder, networks.DepthDecoder(encoder.num_ch_enc)]).train()
        height, width, scales = config.data.height, config.data.width, range(4)
        options = SimpleNamespace(
            scales=scales, frame_ids=[0, "s"], height=height, width=width, min_depth=0.1, max_depth=100.0
        )
        switches = ("v1_multiscale", "disable_automasking", "no_ssim", "avg_reprojection", "predictive_mask")
        for switch in switches:
            setattr(options, switch, False)
        options.pose_model_type, options.disparity_smoothness = "separate_resnet", 1e-3
        self.state = SimpleNamespace(opt=options, num_scales=4, device=torch.device("cpu"), ssim=layers.SSIM())
        self.state.compute_reprojection_loss = self.trainer.compute_reprojection_loss.__get__(self.state)
        self.state.backproject_depth = {0: layers.BackprojectDepth(BATCH, height, width)}
        self.state.project_3d = {0: layers.Project3D(BATCH, height, width)}

    def parameters(self) -> Iterator[nn.Parameter]:
        return self.networks.parameters()

    def compute_loss(self, batch: Batch, step: int) -> Tensor:
        K = torch.eye(4).repeat(batch.size, 1, 1)
        K[:, :3, :3] = batch.targets.camera.K
        stereo_T = batch.inputs.T_source_target_rig[:, 0].float().clone()
        stereo_T[:, :3, 3] /= self.unit_m
        inputs: dict[Any, Tensor] = {("K", 0): K, ("inv_K", 0): K.inverse(), "stereo_T": stereo_T}
        inputs["color", "s", 0] = batch.targets.sources[:, 0]
        for scale in self.state.opt.scales:
            pooled = nn.functional.avg_pool2d(batch.targets.image, 2**scale)
            inputs["color", 0, scale] = pooled
        encoder, decoder = self.networks
        outputs = decoder(encoder(batch.inputs.image))
        self.trainer.generate_images_pred(self.state, inputs, outputs)
        return self.trainer.compute_losses(self.state, inputs, outputs)["loss"]

    def inverse_depth(self, image: Tensor, camera: Camera) -> Tensor:
        encoder, decoder = self.networks.eval()
        disparity, _ = self.layers.disp_to_depth(decoder(encoder(image))["disp", 0], 0.1, 100.0)
        return disparity / self.unit_m


def train(network: Trainable, data: Any, seconds: float) -> int:
    """Train for some seconds of processor time; return the number of steps."""
    optimizer = torch.optim.Adam(network.parameters(), LR)
    step, epoch, began_s = 0, 0, time.process_time()
    while True:
        data.train.set_position(epoch, 0)
        epoch += 1
        for batch in data.train:
            if batch.size < BATCH:
                continue
            if time.process_time() - began_s > seconds:
                return step
            optimizer.zero_grad()
            network.compute_loss(batch, step).backward()
            optimizer.step()
            step += 1


@dataclass(frozen=True)
class Scored:
    """An image and its depth (H, W) in metres, 0 where unknown or far."""

    recording: Recording
    index: int
    depth_m: NDArray[np.floating]


def choose_frames(recordings: Sequence[Recording], count: int, among: Sequence[int] | None = None) -> list[Scored]:
    """Return some frames of each recording with their depth, spread over the indices `among` (default: all)."""
    found = []
    for recording in recordings:
        indices = range(len(recording)) if among is None else among
        for place in np.linspace(0, len(indices) - 1, count).round().astype(int).tolist():
            found.append(Scored(recording, indices[place], find_depth(recording, indices[place])))
    return found


@torch.no_grad()
def score(
    predict: Callable[[Tensor, Camera], Tensor], frames: Sequence[Scored], size: tuple[int, int]
) -> dict[str, float]:
    """Return the median relative error in metres and with equal medians, and the median of depth over true depth:
    means over the frames.

    predict: from an image (1, 3, H, W) and its camera to inverse depth (1, 1, H, W) in 1/m.
    """
    metric, scaled, ratios = [], [], []
    for frame in frames:
        camera = camera_to_torch(frame.recording.camera(frame.index))
        image = torch.from_numpy(frame.recording.image(frame.index)).permute(2, 0, 1)[None].float() / 255
        small, small_camera = resize(image, camera, *size)
        inverse_depth = resize_map(predict(small, small_camera), camera.height, camera.width)
        depth_m = depth_from_inverse(inverse_depth)[0, 0].numpy()
        known = frame.depth_m > 0
        found_m, true_m = depth_m[known], frame.depth_m[known]
        metric.append(np.median(np.abs(found_m - true_m) / true_m))
        ratio = np.median(true_m) / np.median(found_m)
        scaled.append(np.median(np.abs(found_m * ratio - true_m) / true_m))
        ratios.append(np.median(found_m / true_m))
    means = {"metres": metric, "median_scaled": scaled, "over_true": ratios}
    return {name: round(float(np.mean(values)), 4) for name, values in means.items()}


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--data", type=Path, default=REAL_DATA, help="folder of the real samples (STADIA_REAL_DATA)")
    parser.add_argument("--monodepth2", type=Path, metavar="CLONE", help="a clone of nianticlabs/monodepth2")
    parser.add_argument("--seconds", type=float, default=60, help="of processor time, each training")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=["default", "zero start", "monodepth2"])
    arguments, overrides = parser.parse_known_args()

    torch.set_num_threads(1)
    path = str(Path(arguments.data) / "kitti_odometry")
    (pairs,) = open_recordings(path)
    drives = open_recordings(Path(arguments.data) / "kitti_raw")
    worlds = open_recordings(render_demo_worlds(CacheConfig()), split="test")
    frames = {
        "seen": choose_frames([pairs], 4),
        "kitti_raw": choose_frames(drives, 10),
        "roadworld": choose_frames(worlds, 3),
    }
    assert pairs.T_right_left is not None
    baseline_m = -float(pairs.T_right_left[0, 3])
    rows: dict[str, list[dict[str, Any]]] = {}
    for seed in arguments.seeds:
        for name in arguments.networks:
            start = BASE if name in ("base", "untrained") else ()
            words = (*SETTINGS, *start, f"seed={seed}", *overrides)
            settings = recipes.configure("selfsup", words, data={"path": path})
            config, data = SelfsupRecipe.prepare(settings, Console(quiet=True))
            torch_state.seed_generators(seed, "training")
            network: Trainable
            if name == "monodepth2":
                network = Monodepth2(arguments.monodepth2.resolve(), config, baseline_m)
            else:
                network = Stadia(config, zero_start=name == "zero start")
            steps = 0 if name == "untrained" else train(network, data, arguments.seconds)
            size = (config.data.height, config.data.width)
            scores = {kind: score(network.inverse_depth, chosen, size) for kind, chosen in frames.items()}
            rows.setdefault(name, []).append(scores)
            print(json.dumps({"network": name, "seed": seed, "steps": steps, **scores}), flush=True)
    for name, scored in rows.items():
        means = {
            f"{kind}, {unit}": round(float(np.mean([one[kind][unit] for one in scored])), 3)
            for kind in frames
            for unit in ("metres", "median_scaled", "over_true")
        }
        print(json.dumps({"network": name, "seeds": len(scored), "seconds": arguments.seconds, **means}), flush=True)


if __name__ == "__main__":
    main()
