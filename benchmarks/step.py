r"""Measure the cost of the self-supervised loss: a training step against the bare networks, in one run.

    python benchmarks/step.py [--encoder resnet18] [--batch 2] [--height 192] [--width 640] [--repeats 7] \
        [--threads 2] [--json FILE]

Five kinds of step, interleaved, medians:

bare:       forward, backward and optimizer of the depth and pose networks, with the mean of their outputs as the loss.
fast:       the whole step as training runs it on this machine. d3vo:       the same with all of D3VO's losses (arXiv
2003.01060): brightness, uncertainty, right view, consistency. The
            networks are the same: D3VO's additional outputs are synthetic, so that the losses alone are measured.
readable:   the same with the plain torch version of the photometric operation. reference:  the structure of the
field's reference code (Monodepth2), rebuilt here: every scale computes the unwarped
            residuals again and every candidate the target's window statistics, one source after the other.

Each step is also compared with the peak of matrix products here (`peak.py`). The networks' convolutions and
products alone are counted, as the loss has none. An impossible share stops the run.

Sources -1, +1 and stereo, four scales upsampled to full resolution, float32.
"""

# mypy: disable-error-code="attr-defined, index, no-untyped-call, operator"

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from peak import FlopCounter, PeakFlops
from torch import Tensor
from torch.nn import functional

from stadia.core.types import Camera
from stadia.differentiable.batch import Batch, Inputs, Meta, Prediction, Targets
from stadia.differentiable.images import camera_to_torch, resize_map
from stadia.differentiable.view_synthesis import synthesize_views, warp_image
from stadia.geometry.cameras import depth_from_inverse, intrinsics
from stadia.geometry.poses import se3_exp
from stadia.losses.config import SelfSupervisedLossConfig
from stadia.losses.reprojection import TorchReprojector, photometric_residual
from stadia.losses.selfsup_loss import SelfSupervisedLoss, edge_aware_smoothness
from stadia.networks.config import DepthPoseNetConfig, UnetConfig
from stadia.networks.pose_net import DepthPoseNet

SOURCES = ("-1", "+1", "stereo")


def made_up_batch(size: int, height: int, width: int) -> Batch:
    """Return a textured slope, with forward motion and a stereo rig, so that warped sources win where they do in
    training.
    """
    generator = torch.Generator().manual_seed(0)
    texture = torch.rand(size, 3, height // 8, width // 8, generator=generator)
    target = functional.interpolate(texture, (height, width), mode="bicubic", align_corners=False).clamp(0, 1)
    pinhole = intrinsics(0.58 * width, 1.92 * height, 0.49 * width, 0.46 * height, height=height, width=width)
    camera = camera_to_torch(pinhole, torch.float32)
    camera = Camera(camera.K.expand(size, 3, 3), height, width)
    source_camera = Camera(camera.K[:, None].expand(size, 3, 3, 3), height, width)
    depth_m = torch.linspace(25, 6, height).view(1, 1, height, 1).expand(size, 1, height, width)
    motion = torch.tensor([[0, 0, 0.3, 0, 0, 0], [0, 0, -0.3, 0, 0, 0], [-0.5, 0, 0, 0, 0, 0]])
    T_source_target = se3_exp(motion).expand(size, 3, 4, 4)
    # A source is the target, warped to its view: the inverse warp, exact enough for a benchmark.
    sources = synthesize_views(
        target[:, None].expand(size, 3, 3, height, width), depth_m, camera, source_camera, T_source_target.inverse()
    ).image
    rig = T_source_target.clone()
    rig[:, :2] = torch.nan
    return Batch(
        inputs=Inputs(target, sources, camera, rig),
        targets=Targets(target, sources, camera, source_camera, T_source_target.clone()),
        meta=tuple(Meta("benchmark", i, "left") for i in range(size)),
        source_names=SOURCES,
    )


def reference_loss(targets: Targets, prediction: Prediction) -> Tensor:
    """Compute one scale after the other, one source after the other, without caching."""
    total = torch.zeros(())
    for scale, inverse_depth in enumerate(prediction.inverse_depth):
        depth_m = depth_from_inverse(resize_map(inverse_depth, *targets.image.shape[-2:]))
        warped, unwarped = [], []
        for i in range(targets.sources.shape[1]):
            source_camera = Camera(targets.source_camera.K[:, i], targets.camera.height, targets.camera.width)
            view, _ = warp_image(
                targets.sources[:, i], depth_m, targets.camera, source_camera, prediction.T_source_target[:, i]
            )
            warped.append(photometric_residual(view, targets.image))
        for i in range(targets.sources.shape[1]):
            unwarped.append(photometric_residual(targets.sources[:, i], targets.image))
        identity = torch.cat(unwarped, dim=1)
        identity = identity + 1e-5 * torch.randn_like(identity)
        image = functional.interpolate(targets.image, inverse_depth.shape[-2:], mode="area")
        total = total + torch.cat([identity, *warped], dim=1).amin(dim=1).mean()
        total = total + 1e-3 / 2**scale * edge_aware_smoothness(inverse_depth, image)
    return total / len(prediction.inverse_depth)


def bare_loss(prediction: Prediction) -> Tensor:
    maps = torch.stack([inverse_depth.mean() for inverse_depth in prediction.inverse_depth]).sum()
    return maps + prediction.T_source_target[:, :2, :3].mean()


def d3vo_prediction(prediction: Prediction) -> Prediction:
    """Return synthetic outputs of D3VO's networks, each with a gradient: the right view as the left, equal
    uncertainty, a little brighter.
    """
    maps = prediction.inverse_depth
    exposure = torch.tensor([1.02, 0.01]).expand(*prediction.T_source_target.shape[:2], 2)
    return replace(
        prediction,
        inverse_depth_right=tuple(m.detach().clone().requires_grad_() for m in maps),
        log_uncertainty=tuple(torch.zeros_like(m).requires_grad_() for m in maps),
        brightness=exposure.clone().requires_grad_(),
    )


def measure(arguments: argparse.Namespace) -> dict[str, object]:
    torch.manual_seed(0)
    torch.set_num_threads(arguments.threads)
    batch = made_up_batch(arguments.batch, arguments.height, arguments.width)
    model = DepthPoseNet(
        DepthPoseNetConfig(
            network=UnetConfig(encoder=arguments.encoder),
            pose_net="resnet",
            pose_encoder=arguments.encoder,
            pretrained=False,
        )
    )
    optimizer = torch.optim.Adam(
        model.parameters(), lr=1e-5
    )  # a small rate: every repeat works on nearly the same depth
    fast, readable = (
        SelfSupervisedLoss(SelfSupervisedLossConfig()),
        SelfSupervisedLoss(SelfSupervisedLossConfig(), reprojector=TorchReprojector),
    )
    all_of_it = SelfSupervisedLoss(SelfSupervisedLossConfig(left_right_consistency=0.1))
    losses: dict[str, Callable[[Prediction], Tensor]] = {
        "bare": bare_loss,
        "fast": lambda prediction: fast(batch.targets, prediction, SOURCES).total,
        "d3vo": lambda prediction: all_of_it(batch.targets, d3vo_prediction(prediction), SOURCES).total,
        "readable": lambda prediction: readable(batch.targets, prediction, SOURCES).total,
        "reference": lambda prediction: reference_loss(batch.targets, prediction),
    }

    def step(loss: Callable[[Prediction], Tensor]) -> float:
        start = time.perf_counter()
        optimizer.zero_grad()
        loss(model(batch)).backward()
        optimizer.step()
        return time.perf_counter() - start

    for loss in losses.values():  # compile, fill the allocator's pools
        step(loss)
    with FlopCounter() as counter:
        step(bare_loss)
    flops, peak = counter.flops, PeakFlops()
    times: dict[str, list[float]] = {name: [] for name in losses}
    for _ in range(arguments.repeats):
        for name, loss in losses.items():
            times[name].append(step(loss))
    seconds = {name: statistics.median(values) for name, values in times.items()}
    trained = (fast(batch.targets, model(batch), SOURCES).maps["winner"] < len(SOURCES)).float().mean().item()
    return {
        "seconds": seconds,
        "flops": flops,
        "matmul_peak_flops_per_s": peak.flops_per_s,
        "share_of_peak": {name: peak.share(f"step '{name}'", flops, value) for name, value in seconds.items()},
        "d3vo_over_plain": seconds["d3vo"] / seconds["fast"],
        "ratio_to_bare": {name: value / seconds["bare"] for name, value in seconds.items()},
        "spread_seconds": {name: [min(values), max(values)] for name, values in times.items()},
        "share_of_pixels_that_train": trained,
        "settings": {
            **{k: v for k, v in vars(arguments).items() if k != "json"},
            "torch": torch.__version__,
            "machine": platform.processor() or platform.machine(),
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", default="resnet18")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--height", type=int, default=192)
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    arguments = parser.parse_args()
    result = measure(arguments)
    print(f"{'step':<12}{'seconds':>9}{'to bare':>9}{'GFLOP/s':>9}{'of peak':>9}")
    for name, seconds in result["seconds"].items():
        rate = result["flops"] / seconds / 1e9
        ratio, share = result["ratio_to_bare"][name], result["share_of_peak"][name]
        print(f"{name:<12}{seconds:>9.3f}{ratio:>9.2f}{rate:>9.0f}{share:>9.0%}")
    print(f"products of matrices reach {result['matmul_peak_flops_per_s'] / 1e9:.0f} GFLOP/s")
    print(f"all of D3VO's losses over the plain step: {result['d3vo_over_plain']:.2f}")
    print(f"pixels that train: {result['share_of_pixels_that_train']:.0%}")
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
