"""Measure the cost of all checks: data checks at most 60 s, loss checks at most 20 s, monitors at most 2 % of a step.

    python benchmarks/check_costs.py [--only selfsup monitors ...] [--size 96 320]

Data checks and loss checks run for each recipe, which is set up as by `stadia train` on a small RoadWorld with random
weights; data checks also run on the demo's drives and on the real samples that are available (STADIA_REAL_DATA). The
monitors get a batch and a row with everything that any recipe logs, ten times as often as by default, next to a step of
`dpt-tiny` on two images of 64x64. Prints a line each; exits with 1 if one takes too long, or reports a finding.
"""

# mypy: disable-error-code="arg-type"

from __future__ import annotations

import io
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import preflight
import torch
from harness import REAL_DATA, make_parser, print_table, time_calls
from rich.console import Console

from stadia.data.config import CacheConfig
from stadia.data.open_dataset import open_recordings
from stadia.differentiable import torch_state
from stadia.judge.recordings.preflight_runner import run_preflight
from stadia.networks.config import DptConfig
from stadia.networks.depth.dpt import Dpt
from stadia.synthetic.config import ROADWORLD_TINY
from stadia.synthetic.roadworld.roadworld_writer import render_demo_worlds, write_roadworld
from stadia.training import recipes
from stadia.training.loop.run_folder import Run
from stadia.training.monitors.training_monitor import TrainingMonitor
from stadia.training.recipes import RECIPES
from stadia.training.start_checks import run_loss_checks

MAX_DATA_S, MAX_LOSS_S, MAX_SHARE = 60.0, 20.0, 0.02
VIDEO_SETTINGS = ("model.pretrained=false",)
D3VO = ("model.brightness=true", "model.network.uncertainty=true", "model.network.right_view=true")
SETTINGS: dict[str, tuple[str, ...]] = {
    "selfsup": VIDEO_SETTINGS,
    "selfsup d3vo": (*VIDEO_SETTINGS, *D3VO),
    "selfsup mono": (*VIDEO_SETTINGS, "data.stereo=false"),
    "metric": (*VIDEO_SETTINGS, "road.priors=roadworld"),
    "supervised": ("model.network=dpt", "model.network.size=tiny"),
    "objectpose": (),
    "overlay": (),
}
TERMS = ("photometric", "motion", "brightness", "depth_l1", "depth_mse", "mask_bce")
COMPOSITE, SOURCES = TERMS[3:], ("+1", "-1", "stereo")
ROW = {
    **{f"train/term/{name}": 0.1 for name in TERMS},
    **{f"train/weight/{name}": 1.0 for name in COMPOSITE},
    **{f"train/gain/{source}": 1.0 for source in SOURCES},
    **{f"train/offset/{source}": 0.0 for source in SOURCES},
    **{f"train/explained_by/{source}": 1 / 3 for source in SOURCES},
    **{f"train/motion/over_depth/{source}": 0.05 for source in SOURCES[:2]},
    **{f"train/motion/turn_deg/{source}": 0.3 for source in SOURCES[:2]},
    **{f"train/gradient_share/{name}": 1 / 3 for name in COMPOSITE},
    **{f"train/log_uncertainty/p{percent}": percent / 100 - 2 for percent in (10, 50, 90)},
    **{f"train/metric/{name}": 0.1 for name in ("off_camera_height", "objects_over_road", "object_extent")},
    **{f"gradient/{name}": 1.0 for name in ("inverse_depth/0", "translation", "rotation")},
    **{f"time/{name}_s": 0.01 for name in ("loading", "forward", "loss", "backward", "optimizer", "rest")},
    "time/step_s": 0.06,
    "train/term/smoothness": 1e-4,
    "train/lr": 1e-4,
    "train/update_ratio": 1e-3,
    "train/metric/road_masked": 0.1,
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
    "train/gradient_norm": 0.2,
}
"""What recipes log in a step of a healthy training."""


def set_up(name: str, worlds: Path, height: int, width: int) -> tuple[Any, Any, Any]:
    """Return the recipe of a training, its configuration and its data, as they are before the first step."""
    recipe_class: Any = RECIPES.load(name.split()[0])
    is_video = recipe_class.recipe in ("selfsup", "metric", "supervised")
    sized = (f"data.height={height}", f"data.width={width}") if is_video else ()
    path = {"data": {"path": str(worlds)}} if is_video else {}
    words = (*sized, *SETTINGS[name], "training.workers=0")
    config, data = recipe_class.prepare(recipes.configure(recipe_class.recipe, words, **path), Console(quiet=True))
    torch_state.seed_generators(config.seed, "training")
    recipe = recipe_class(config)
    recipe.save_data_stats(data)
    return recipe, config, data


def measure_monitors() -> tuple[float, list[str]]:
    """Return the seconds of the monitors for a row over those of a step, and the codes reported of a healthy row."""
    network = Dpt(DptConfig(size="tiny"), pretrained=False)
    images, optimizer = torch.rand(2, 3, 64, 64), torch.optim.AdamW(network.parameters())
    with tempfile.TemporaryDirectory() as folder:
        run = Run.create(Path(folder), "monitors", {}, recipe="monitors", seed=0)
        monitor, steps = TrainingMonitor(run, Console(file=io.StringIO())), iter(range(10**6))

        def observe() -> None:
            number = next(steps)
            terms = {name: value * (1 - number / 1e4) for name, value in ROW.items() if name.startswith("train/term/")}
            loss = sum(terms.values())
            monitor._notify("on_batch", number, loss, ("drive 7",))
            monitor._notify("on_row", number, ROW | terms | {"train/loss": loss})

        def train() -> None:
            optimizer.zero_grad()
            network(images).inverse_depth[0].mean().backward()
            optimizer.step()

        observe_s, train_s = time_calls(observe, train, rounds=100)
        return observe_s / train_s, sorted(monitor.reported)


def main() -> None:
    parser = make_parser(__doc__)
    parts = [*SETTINGS, "drives", "monitors"]
    parser.add_argument("--only", nargs="+", choices=parts, default=parts)
    parser.add_argument("--size", type=int, nargs=2, default=(96, 320), metavar=("HEIGHT", "WIDTH"))
    arguments = parser.parse_args()
    rows: list[dict[str, object]] = []

    def add(what: str, name: str, measured: float, most: float, found: list[str]) -> None:
        rows.append({"what": what, "of": name, "measured": measured, "goal": most, "findings": "; ".join(found)})

    with tempfile.TemporaryDirectory() as folder:
        write_roadworld(ROADWORLD_TINY, Path(folder), seed=0)
        for name in [name for name in SETTINGS if name in arguments.only]:
            recipe, config, data = set_up(name, Path(folder), *arguments.size)
            add("data checks", name, time_calls(data.findings, rounds=1)[0], MAX_DATA_S, [])
            began = time.monotonic()
            found = run_loss_checks(recipe, config, data, Console(quiet=True))
            seconds = time.monotonic() - began
            reported = [f"{one.code} {one.measured}" for one in found if one.code != "N01"]
            add("loss checks", name, seconds, MAX_LOSS_S, reported)
    if "drives" in arguments.only:
        drives = {"demo": open_recordings(render_demo_worlds(CacheConfig()))}
        drives |= {recording.name: [recording] for recording in preflight.real_recordings(REAL_DATA)}
        for name, recordings in drives.items():
            seconds = time_calls(partial(run_preflight, recordings), rounds=1)[0]
            add("data checks", name, seconds, MAX_DATA_S, [])
    if "monitors" in arguments.only:
        torch.set_num_threads(1)
        share, reported = measure_monitors()
        add("monitors", "share of a step", share, MAX_SHARE, reported)
    print_table(rows)
    sys.exit(any(row["measured"] > row["goal"] or row["findings"] for row in rows))  # type: ignore[operator]


if __name__ == "__main__":
    main()
