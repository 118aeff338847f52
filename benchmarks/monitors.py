"""Measure the cost of the monitors and of the phase clock against the shortest training step.

    python benchmarks/monitors.py [--repeats 300]

The monitors get a batch and a row with everything that any recipe logs, as with training.log_every=1, ten times as
often as by default. The clock gets the marks of one step. The step is one of `dpt-tiny` on two images of 64x64. Prints
microseconds of both, milliseconds of the step, and their shares (at most 2 % and 1 %).
"""

from __future__ import annotations

import argparse
import io
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console
from torch import nn

import stadia.differentiable.torchvision_operators  # noqa: F401
from stadia.networks.config import DptConfig
from stadia.networks.depth.dpt import Dpt
from stadia.training.loop.batches import TrainingPlan
from stadia.training.loop.clock import PhaseClock
from stadia.training.loop.run_folder import Run
from stadia.training.monitors.training_monitor import TrainingMonitor

MAX_SHARE, MAX_CLOCK_SHARE = 0.02, 0.01
ROW = {
    **{
        f"train/term/{name}": 0.1
        for name in ("photometric", "motion", "brightness", "depth_l1", "depth_mse", "mask_bce")
    },
    **{f"train/weight/{name}": 1.0 for name in ("depth_l1", "depth_mse", "mask_bce")},
    **{
        f"train/{name}/{source}": 0.0 + (name == "gain")
        for name in ("gain", "offset")
        for source in ("+1", "-1", "stereo")
    },
    **{f"train/explained_by/{source}": 1 / 3 for source in ("+1", "-1", "stereo")},
    **{f"train/motion/over_depth/{source}": 0.05 for source in ("+1", "-1")},
    **{f"train/motion/turn_deg/{source}": 0.3 for source in ("+1", "-1")},
    **{f"train/gradient_share/{name}": 1 / 3 for name in ("depth_l1", "depth_mse", "mask_bce")},
    **{f"train/log_uncertainty/p{percent}": percent / 100 - 2 for percent in (10, 50, 90)},
    **{
        f"train/metric/{name}": 0.1
        for name in ("off_camera_height", "objects_over_road", "object_extent", "road_masked")
    },
    **{f"gradient/{name}": 1.0 for name in ("inverse_depth/0", "translation", "rotation")},
    **{f"time/{name}_s": 0.01 for name in ("loading", "forward", "loss", "backward", "optimizer", "rest")},
    "time/step_s": 0.06,
    "train/term/smoothness": 1e-4,
    "train/metric/depth_spread": 0.3,
    "train/metric/inlier_share": 0.9,
    "train/depth/median": 12.0,
    "train/depth/spread": 0.5,
    "train/depth/at_nearest": 0.0,
    "train/depth/at_farthest": 0.1,
    "train/motion/same_side": -1.0,
    "train/outside": 0.02,
    "train/auto_masked": 0.3,
    "train/saturated": 0.1,
    "train/warped_over_unwarped": 0.5,
    "train/at_floor": 0.0,
    "train/lr": 1e-4,
    "train/gradient_norm": 0.2,
    "train/update_ratio": 1e-3,
}


def measure_seconds(work: Callable[[int], object], repeats: int) -> float:
    """Return the median seconds of a call."""
    times = []
    for number in range(repeats):
        started = time.perf_counter()
        work(number)
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def measure_monitors(repeats: int) -> tuple[float, float, list[str]]:
    """Return seconds of the monitors for a row, seconds of the step, and the codes reported of a healthy row."""
    with tempfile.TemporaryDirectory() as folder:
        run = Run.create(Path(folder), "monitors", {}, recipe="monitors", seed=0)
        monitor = TrainingMonitor(run, Console(file=io.StringIO()))

        def observe(number: int) -> None:
            terms = {name: value * (1 - number / 1e4) for name, value in ROW.items() if name.startswith("train/term/")}
            loss = sum(terms.values())
            monitor._notify("on_batch", number, loss, ("drive 7",))
            monitor._notify("on_row", number, ROW | terms | {"train/loss": loss})

        cost_s = measure_seconds(observe, repeats)
        reported = sorted(monitor.reported)
    network = Dpt(DptConfig(size="tiny"), pretrained=False)
    images, optimizer = torch.rand(2, 3, 64, 64), torch.optim.AdamW(network.parameters())

    def train(number: int) -> None:
        optimizer.zero_grad()
        network(images).inverse_depth[0].mean().backward()
        optimizer.step()

    return cost_s, measure_seconds(train, 20), reported


class TwoNetworks(nn.Module):
    """Two networks with a weight each, as the clock finds them in a recipe."""

    def __init__(self) -> None:
        super().__init__()
        self.depth = nn.Identity()
        self.pose = nn.Identity()
        self.depth.weight = nn.Parameter(torch.zeros(1))
        self.pose.weight = nn.Parameter(torch.zeros(1))


def measure_clock(repeats: int) -> float:
    """Return the seconds of all calls to the clock in one step."""
    clock = PhaseClock(TrainingPlan(1000, 1, 1_000_000))
    recipe = TwoNetworks()
    clock.start(torch.device("cpu"), recipe)
    value = torch.zeros(())

    def mark_step(_: int) -> None:
        clock.mark("other")
        clock.mark("loading")
        clock.begin_batch(0)
        recipe.depth(value)
        recipe.pose(value)
        clock.mark("loss")
        clock.end_backward()
        for phase in ("optimizer", "metrics", "optimizer", "metrics", "images", "metrics"):
            clock.mark(phase)
        clock.end_step()
        clock.mark("checkpoints")

    mark_step(0)  # the first one counts operations
    return measure_seconds(mark_step, repeats)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=300)
    repeats = parser.parse_args().repeats
    torch.set_num_threads(1)
    cost_s, step_s, reported = measure_monitors(repeats)
    print(
        f"{cost_s * 1e6:.1f} us of the monitors for a row, {step_s * 1e3:.1f} ms a step: {cost_s / step_s:.2%} (goal"
        f" {MAX_SHARE:.0%})"
    )
    clock_s = measure_clock(repeats)
    print(f"{clock_s * 1e6:.1f} us of the clock for a step: {clock_s / step_s:.2%} (goal {MAX_CLOCK_SHARE:.0%})")
    assert not reported, f"the row is healthy, and {reported} were reported"
    assert cost_s <= MAX_SHARE * step_s, f"the monitors cost {cost_s / step_s:.1%} of a step"
    assert clock_s <= MAX_CLOCK_SHARE * step_s, f"the clock costs {clock_s / step_s:.1%} of a step"


if __name__ == "__main__":
    main()
