"""Train on stereo pairs from several initial depths, and compare with semi-global matching or the true depth.

    python experiments/initial_depth.py
    python experiments/initial_depth.py --data-sets kitti --starts 3 80 --keep-starts loss.pyramid=4 --out runs/kept

Data sets: the 51 pairs of KITTI odometry 06, EuRoC's rectified pairs, RoadWorld's demo, and pairs of TableWorld at 1 m.
A small network from random weights learns from the stereo pairs alone, Adam at 1e-3, one thread. `kitti-resnet18` is
ResNet-18 at 1e-4.

Each training appends one line to OUT/trainings.jsonl; one that is there is not repeated. Its log has the median
relative difference to the true or matched depth of some pairs. The first start of a data set trains 200 steps; the
others stop within 1.2 of the least difference so far. Starts that are moved to the same depth are one training.
Prints a table: the least difference, and the step from which each start is within 1.2 of it.
"""

# mypy: disable-error-code="arg-type, assignment, no-untyped-call, operator, union-attr, unused-ignore"

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from real_stereo import NEARER_THAN_M, semi_global_matching
from rich.console import Console

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from harness import REAL_DATA, make_parser

from stadia.core.types import LEFT, RIGHT, Recording
from stadia.data.config import CacheConfig
from stadia.data.open_dataset import open_recordings
from stadia.differentiable import random_state
from stadia.differentiable.images import resize, resize_map
from stadia.geometry.cameras import depth_from_inverse
from stadia.io.atomic_files import atomic_folder, write_json
from stadia.objectpose.config import TableWorldConfig
from stadia.objectpose.table_world import TableRenderer, derive_table_seed, make_table
from stadia.synthetic.rendering.dataset_files import write_png
from stadia.synthetic.roadworld.roadworld_writer import render_demo_worlds
from stadia.training import recipes
from stadia.training.recipes.base.video_data import resolve_initial_depth
from stadia.training.recipes.selfsup.config import SelfsupConfig
from stadia.training.recipes.selfsup.recipe import SelfsupRecipe

SETTINGS = (
    "data.offsets=[]",
    "data.split_by.val_share=0",
    "model.pretrained=false",
    "model.network.min_depth_m=0.1",
    "training.batch_size=4",
    "training.workers=0",
)
SMALL = (
    "model.network.encoder=mobilenetv3_small_100",
    "model.network.decoder_channels=[8,16,24,32,64]",
    "model.network.scales=1",
)
STARTS = ("auto", "0.5", "1", "3", "10", "30", "80")
SCORE_EVERY, WITHIN = 25, 1.2
LOG = "step, difference, median depth_m, auto_masked"

TABLES, TABLE_VIEWS, TABLE_BASELINE_M = 12, 4, 0.05
TABLE = TableWorldConfig(
    train=TABLES,
    val=0,
    test=0,
    views=TABLE_VIEWS,
    height=96,
    width=128,
    field_of_view_deg=(54.0, 54.0),
    distance_m=(0.9, 1.1),
)


@dataclass(frozen=True)
class DataSet:
    """Stereo pairs to train on. size: (height, width) of the network's images; network: settings of another than SMALL.

    lr: learning rate of Adam.  scored: places of the scored pairs, as shares of the recordings and their frames.
    """

    path: Path
    size: tuple[int, int]
    network: tuple[str, ...] = SMALL
    lr: float = 1e-3
    scored: tuple[float, ...] = (1 / 6, 1 / 2, 5 / 6)


def render_table_pairs(out: Path) -> Path:
    """Render pairs of tables as one recording of the stadia layout; existing ones are kept."""
    if out.exists():
        return out
    shift = np.eye(4)
    shift[0, 3] = TABLE_BASELINE_M
    with atomic_folder(out) as folder:
        for kind in ("left", "right", "depth/left"):
            (folder / kind).mkdir(parents=True)
        for number in range(TABLES):
            table = make_table(derive_table_seed(0, "train", number), TABLE)
            pairs = np.stack([T for left in table.T_world_camera for T in (left, left @ shift)])
            renderer = TableRenderer(replace(table, T_world_camera=pairs, gains=table.gains.repeat(2)), TABLE)
            for view in range(TABLE_VIEWS):
                left, right = (renderer.render(2 * view + side) for side in range(2))
                name = f"{number * TABLE_VIEWS + view:06d}"
                write_png(folder / "left" / f"{name}.png", left.image[..., ::-1])
                write_png(folder / "right" / f"{name}.png", right.image[..., ::-1])
                np.save(folder / "depth" / "left" / f"{name}.npy", left.depth_m)
        camera = {"K": table.K.tolist(), "height": TABLE.height, "width": TABLE.width}
        T_right_left = np.linalg.inv(shift).tolist()
        write_json(
            folder / "recording.json", {"cameras": {"left": camera, "right": camera}, "T_right_left": T_right_left}
        )
    return out


def find_data_sets(real: Path, out: Path) -> dict[str, Callable[[], DataSet]]:
    """Return what opens or renders each data set by its name."""
    return {
        "kitti": lambda: DataSet(real / "kitti_odometry", (64, 192)),
        "kitti-resnet18": lambda: DataSet(
            real / "kitti_odometry", (64, 224), network=(), lr=1e-4, scored=(0.1, 0.5, 0.9)
        ),
        "euroc": lambda: DataSet(real / "euroc", (96, 160)),
        "roadworld": lambda: DataSet(render_demo_worlds(CacheConfig()), (64, 192)),
        "tableworld": lambda: DataSet(render_table_pairs(out / "table-pairs"), (96, 128)),
    }


def train(
    recipe: SelfsupRecipe, data: Any, lr: float, steps: int, score: Callable[[], float], target: float
) -> list[tuple[int, float, float, float]]:
    """Train until the score reaches the target; return step, score, median depth and auto-masked share."""
    optimizer = torch.optim.Adam(recipe.parameters(), lr)
    step, epoch, log = 0, 0, list[tuple[int, float, float, float]]()
    while True:
        data.train.set_position(epoch, 0)
        epoch += 1
        for batch in data.train:
            report = recipe.view_synthesis(batch, recipe.model(batch), step)
            optimizer.zero_grad()
            report.total.backward()
            optimizer.step()
            step += 1
            if step % SCORE_EVERY == 0:
                median_m, masked = (float(report.logged[name]) for name in ("depth/median", "auto_masked"))
                log.append((step, round(score(), 4), round(median_m, 3), round(masked, 2)))
                recipe.train()
                if log[-1][1] <= target:
                    return log
            if step >= steps:
                return log


KnownDepth = tuple[Recording, int, NDArray[np.floating]]
"""A recording, the index of a frame, and its depth (H, W) in metres, 0 where unknown."""


@torch.no_grad()
def compare(recipe: SelfsupRecipe, known: list[KnownDepth]) -> float:
    """Return the median relative difference to depth (H, W), 0 where unknown, of some frames."""
    recipe.eval()
    differences = []
    for recording, index, known_m in known:
        camera = recording.camera(index)
        image = torch.from_numpy(recording.image(index)).permute(2, 0, 1)[None].float() / 255
        small, _ = resize(image, camera, recipe.height, recipe.width)
        inverse_depth = resize_map(recipe.maps(small).inverse_depth, camera.height, camera.width)
        depth_m = depth_from_inverse(inverse_depth)[0, 0].numpy()
        valid = known_m > 0
        differences.append(np.abs(depth_m - known_m)[valid] / known_m[valid])
    return float(np.median(np.concatenate(differences)))


def find_depth(recording: Recording, index: int) -> NDArray[np.floating]:
    """Return the true depth (H, W) in metres where there is one, else that of the matcher; 0 where unknown or far."""
    depth_m: NDArray[np.floating] | None = recording.depth_m(index)
    if depth_m is None:
        assert recording.T_right_left is not None
        disparity_px = semi_global_matching(recording.image(index, LEFT), recording.image(index, RIGHT))
        baseline_m = -float(recording.T_right_left[0, 3])
        matched_m = float(recording.camera(index).fx) * baseline_m / np.maximum(disparity_px, 1e-6)
        depth_m = np.where(disparity_px > 0, matched_m, 0)
    return np.where(depth_m < NEARER_THAN_M, depth_m, 0)


def find_known_depth(data_set: DataSet) -> list[KnownDepth]:
    """Return the depth of the scored pairs."""
    recordings = open_recordings(data_set.path)
    chosen = [recordings[int(share * len(recordings))] for share in data_set.scored]
    frames = [int(share * len(one)) for share, one in zip(data_set.scored, chosen, strict=True)]
    return [(one, index, find_depth(one, index)) for one, index in zip(chosen, frames, strict=True)]


def prepare(data_set: DataSet, overrides: list[str]) -> tuple[SelfsupConfig, Any]:
    """Return the configuration that starts at the median of the matches, and the data."""
    size = (f"data.height={data_set.size[0]}", f"data.width={data_set.size[1]}")
    settings = (*SETTINGS, *data_set.network, *size, *overrides)
    config = recipes.configure("selfsup", settings, data={"path": str(data_set.path)})
    return SelfsupRecipe.prepare(config, Console(stderr=True))


def set_start(config: SelfsupConfig, data: Any, start: str, keep: bool) -> SelfsupConfig:
    """Return the configuration of a start; `keep` leaves one that is out of reach."""
    if start == "auto":
        return config
    model = config.model.model_copy(update={"init_depth_m": float(start)})
    if not keep:
        model = resolve_initial_depth(model, data.recordings["train"], Console(stderr=True))
    return config.model_copy(update={"model": model})


def run_start(
    config: SelfsupConfig,
    data: Any,
    known: list[KnownDepth],
    lr: float,
    steps: int,
    target: float,
    arguments: argparse.Namespace,
) -> Any:
    """Train from the start of the configuration; return a line of the results."""
    began_s = time.process_time()
    random_state.seed_generators(arguments.seed, "training")
    recipe = SelfsupRecipe(config)
    if arguments.head_std is not None:
        for head in recipe.model.depth.decoder.heads.values():
            torch.nn.init.normal_(head.weight, std=arguments.head_std)  # type: ignore[arg-type]
    log = train(recipe.train(), data, lr, steps, lambda: compare(recipe, known), target)
    return {
        "known_median_m": round(float(np.median(np.concatenate([one[one > 0] for _, _, one in known]))), 3),
        LOG: log,
        "cpu_s": round(time.process_time() - began_s),
    }


def print_table(lines: list[dict[str, Any]]) -> None:
    """Print a row for each data set: the least difference, and the step at which each start is within 1.2 of it."""
    for name in dict.fromkeys(line["data"] for line in lines):
        logs = {
            one["start"]: one["step, difference, median depth_m, auto_masked"] for one in lines if one["data"] == name
        }
        least = min(row[1] for log in logs.values() for row in log)
        found = {
            start: next((str(row[0]) for row in log if row[1] <= WITHIN * least), f"not: {min(r[1] for r in log):.1%}")
            for start, log in logs.items()
        }
        cells = " | ".join(f"{start}: {step}" for start, step in found.items())
        print(f"| {name} | {least:.1%} | {cells} |")


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--data", type=Path, default=REAL_DATA, help="folder of the real samples (STADIA_REAL_DATA)")
    parser.add_argument("--data-sets", nargs="+", default=["kitti", "euroc", "roadworld", "tableworld"])
    parser.add_argument("--starts", nargs="+", default=STARTS, help="values of model.network.init_depth_m")
    parser.add_argument("--steps", type=int, default=600, help="at most, of all starts but the first")
    parser.add_argument("--first-steps", type=int, default=200, help="of the first start of a data set")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep-starts", action="store_true", help="train from starts that the matches would move")
    parser.add_argument("--head-std", type=float, help="of the initial weights of the depth heads, default 0.01")
    parser.add_argument("--all-steps", action="store_true", help="train each start --steps")
    parser.add_argument("--out", type=Path, default=Path("runs/initial-depth"), help="folder of the results")
    arguments, overrides = parser.parse_known_args()

    torch.set_num_threads(1)
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / "trainings.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    data_sets = find_data_sets(Path(arguments.data), arguments.out)
    for name in arguments.data_sets:
        data_set = data_sets[name]()
        auto, data = prepare(data_set, overrides)
        known = find_known_depth(data_set)
        for start in arguments.starts:
            before = [line for line in lines if line["data"] == name]
            if any(line["start"] == start for line in before):
                continue
            config = set_start(auto, data, start, arguments.keep_starts)
            described = {"data": name, "start": start, "init_depth_m": config.model.network.init_depth_m}
            same = next((line for line in before if line["init_depth_m"] == config.model.network.init_depth_m), None)
            rows = [row for line in before for row in line[LOG]]
            target = 0.0 if arguments.all_steps or not rows else WITHIN * min(row[1] for row in rows)
            steps = arguments.steps if arguments.all_steps or rows else arguments.first_steps
            result = same or run_start(config, data, known, data_set.lr, steps, target, arguments)
            lines.append({**result, **described})
            with path.open("a") as stream:
                stream.write(json.dumps(lines[-1]) + "\n")
            print(json.dumps(lines[-1]), flush=True)
    print_table(lines)


if __name__ == "__main__":
    main()
