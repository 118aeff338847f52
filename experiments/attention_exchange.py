"""Train a small DPT with exact attention, exchange the attention and fine-tune, against training with it from scratch.

    python experiments/attention_exchange.py OUT [--seeds 0 1 2] [--steps 300] [--data kitti | worlds]
    python experiments/attention_exchange.py OUT --start-steps 2000 --steps 100 --data worlds --seeds {0..29}
    python experiments/attention_exchange.py OUT --times

Attentions: Performer, memory-compressed 2 and 3, token merging 25 %. Every arm has the same number of steps: SDPA two
thirds, then the exchange (as `start_from` does it) and one third; or all of them from scratch. SDPA itself goes the
same way. The same batches of 2 images at 224x64 train all arms of a seed, by AdamW at 1e-3 after 20 steps of warm-up.

kitti: the first 60 frames of KITTI raw with LiDAR train, the last 15 are scored. worlds: the demo's RoadWorld, scored
on four unseen worlds. AbsRel in metres without a fit, of the last checkpoint, which no score chose. Each seed prints
a line of JSON for each arm; in the end the table, with the difference from SDPA over the seeds and its 95 % interval.
The same command goes on where it was stopped. `exchanged` is the score right after the exchange, without a step.

--start-steps: one training with SDPA of so many steps is the start of all seeds and arms, and --steps are those after
the exchange. The first line of JSON has the scores of this start, and those without attention (its values are 0).

--times: seconds of processor time of a training step (forward and backward, batch of 1), interleaved, medians.
"""

# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import json
import math
import os
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.console import Console
from scipy import stats
from torch import Tensor
from torch.nn.functional import interpolate

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from harness import REAL_DATA, make_parser

from stadia.core.types import Predictor, Recording
from stadia.data.open_dataset import open_recordings
from stadia.differentiable import torch_state
from stadia.differentiable.batch import Batch
from stadia.differentiable.images import camera_to_torch, resize
from stadia.geometry.cameras import depth_from_inverse
from stadia.metrics import depth_metrics
from stadia.networks.config import AttentionConfig, DptConfig
from stadia.networks.depth.dpt import Dpt
from stadia.training import recipes
from stadia.training.demo import render_worlds
from stadia.training.recipes.base.build_recipe import list_exchanged
from stadia.training.recipes.base.depth_predictor import make_predictor
from stadia.training.recipes.supervised.config import SupervisedConfig
from stadia.training.recipes.supervised.recipe import SupervisedRecipe

LR, WARMUP, BATCH, EPOCHS = 1e-3, 20, 2, 4
ATTENTIONS: dict[str, dict[str, Any]] = {
    "sdpa": {},
    "performer": {"name": "performer"},
    "memory_compressed 2": {"name": "memory_compressed", "factor": 2},
    "memory_compressed 3": {"name": "memory_compressed", "factor": 3},
    "token_merging 25 %": {"name": "token_merging", "merge": 0.25},
}
SETTINGS = (
    *("data.height=64", "data.width=224", "data.split_by.val_share=0", "model.network=dpt", "model.network.size=tiny"),
    *(f"training.batch_size={BATCH}", "training.workers=0"),
)
DECIDED = 0.01  # a difference of AbsRel
METRICS = ("abs_rel", "sq_rel", "rmse", "rmse_log", "silog", "log10", "d1", "d2", "d3")
START_SEED = 1000
TIMED = ((192, 640), (352, 1216))


def words(attention: str) -> tuple[str, ...]:
    return tuple(f"model.network.attention.{key}={value}" for key, value in ATTENTIONS[attention].items())


class Trained(NamedTuple):
    """Scores by metric after the training, AbsRel right after the exchange, and processor time of the steps."""

    scores: dict[str, float]
    exchanged: float | None
    processor_s: float
    steps: int


class Task:
    """Data that train, and frames that are scored."""

    frames: tuple[str, ...]

    def __init__(self, name: str) -> None:
        if name == "kitti":
            self.path, self.frames = REAL_DATA / "kitti_raw", ("data.frames=[0,60]",)
            (recording,) = open_recordings(self.path)
            self.scored = [(recording, index) for index in range(len(recording) - 15, len(recording))]
        else:
            self.path, self.frames = render_worlds(Console(stderr=True)), ()
            worlds = open_recordings(self.path, split="test")
            self.scored = [(world, index) for world in worlds for index in range(0, len(world), 5)]

    @torch.no_grad()
    def score(self, predictor: Predictor) -> dict[str, float]:
        each = [score_frame(predictor, *frame) for frame in self.scored]
        return {name: round(statistics.fmean(scores[name] for scores in each), 5) for name in METRICS}


def score_frame(predictor: Predictor, recording: Recording, index: int) -> dict[str, float]:
    """Return the metrics of depth in metres within 80 m."""
    image = torch.from_numpy(recording.image(index)).permute(2, 0, 1)[None].float() / 255
    depth_m = recording.depth_m(index)
    assert depth_m is not None
    true: Tensor = torch.from_numpy(depth_m).float()
    small, camera = resize(image, camera_to_torch(recording.camera(index)), predictor.height, predictor.width)
    depth = depth_from_inverse(torch.from_numpy(predictor.inverse_depth(small.numpy(), camera)))
    full = interpolate(depth, true.shape, mode="bilinear", align_corners=False)[0, 0].clamp(1e-3, 80)
    known = (true > 0) & (true < 80)
    return {name: float(getattr(depth_metrics, name)(full.numpy(), true.numpy(), known.numpy())) for name in METRICS}


def configure(task: Task, attention: str, seed: int) -> SupervisedConfig:
    """Return the configuration of an arm."""
    given = (*SETTINGS, *task.frames, *words(attention))
    config = recipes.configure("supervised", given, seed=seed, data={"path": str(task.path)})
    assert isinstance(config, SupervisedConfig)
    return config


def read_batches(config: SupervisedConfig) -> tuple[SupervisedConfig, list[Batch]]:
    """Return the batches of a few epochs, which train again and again."""
    config, data = SupervisedRecipe.prepare(config, Console(quiet=True))
    found: list[Batch] = []
    for epoch in range(EPOCHS):
        data.train.set_position(epoch, 0)
        found += [batch for batch in data.train if batch.size == BATCH]
    return config, found


def train(
    task: Task,
    config: SupervisedConfig,
    batches: Sequence[Batch],
    steps: int,
    seed: int,
    device: str,
    start: dict[str, Tensor] | None = None,
) -> tuple[Trained, dict[str, Tensor]]:
    """Train an arm. start: weights that it starts from."""
    torch_state.seed_generators(seed, "training")
    recipe = SupervisedRecipe(config)
    exchanged = None
    if start is not None:
        new = list_exchanged(start, recipe.state_dict())
        recipe.load_state_dict({**recipe.state_dict(), **{name: start[name] for name in start.keys() - new}})
        exchanged = task.score(make_predictor(recipe.eval(), Path("start")))["abs_rel"]
    recipe.train().to(device)
    optimizer = torch.optim.AdamW(recipe.parameters(), LR)
    warm_up = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min((step + 1) / WARMUP, 1))
    began_s = time.process_time()
    for step in range(steps):
        batch = batches[step % len(batches)].to(device)
        optimizer.zero_grad()
        inverse_depth = recipe.model(batch.inputs.image, batch.inputs.camera).inverse_depth[0]
        recipe.loss(inverse_depth, batch.targets.depth_m).total.backward()
        torch.nn.utils.clip_grad_norm_(recipe.parameters(), 1.0)
        optimizer.step()
        warm_up.step()
    spent_s = time.process_time() - began_s
    predictor = make_predictor(recipe.eval().cpu(), Path("trained"))
    return Trained(task.score(predictor), exchanged, round(spent_s, 1), steps), dict(recipe.state_dict())


def score_without_attention(task: Task, config: SupervisedConfig, weights: dict[str, Tensor]) -> dict[str, float]:
    """Return the scores of trained weights whose attention passes nothing on."""
    recipe = SupervisedRecipe(config)
    values = [name for name in weights if ".attention.attention.value." in name]
    assert values
    recipe.load_state_dict({**weights, **{name: torch.zeros_like(weights[name]) for name in values}})
    return task.score(make_predictor(recipe.eval(), Path("start")))


def compare(found: dict[str, Any], seeds_used: Sequence[int], ways: Sequence[str]) -> list[str]:
    """Return the table: arms, their scores, and the difference from SDPA, paired by seed."""
    lines = []
    arms = [f"{way}/{name}" for name in ATTENTIONS for way in ways]
    arms.sort(key=f"{ways[-1]}/sdpa".__ne__)
    for arm in arms:
        each = [found[f"{arm}/{seed}"]["scores"]["abs_rel"] for seed in seeds_used]
        means = {
            name: round(statistics.fmean(found[f"{arm}/{seed}"]["scores"][name] for seed in seeds_used), 4)
            for name in METRICS
        }
        line = f"{arm}: {means}"
        before = [found[f"{arm}/{seed}"]["exchanged"] for seed in seeds_used]
        if before[0] is not None:
            line += f"; AbsRel right after the exchange {statistics.fmean(before):.4f}"
        if arm != arms[0] and len(each) > 1:
            pairs = zip(each, [found[f"{arms[0]}/{seed}"]["scores"]["abs_rel"] for seed in seeds_used], strict=True)
            steps = [mine - exact for mine, exact in pairs]
            half = float(stats.t.ppf(0.975, len(steps) - 1)) * statistics.stdev(steps) / len(steps) ** 0.5
            line += f"; AbsRel minus SDPA {statistics.fmean(steps):+.4f} +- {half:.4f}"
            line += f", {math.ceil((1.96 * statistics.stdev(steps) / DECIDED) ** 2)} seeds decide {DECIDED}"
        lines.append(line)
    return lines


def measure_times(sizes: Sequence[str], repeats: int) -> None:
    """Print the processor time of a training step."""
    torch.set_num_threads(1)
    for size in sizes:
        for height, width in TIMED:
            torch.manual_seed(0)
            networks = {
                name: Dpt(DptConfig(size=size, attention=AttentionConfig(**given)), pretrained=False).train()  # type: ignore[arg-type]
                for name, given in ATTENTIONS.items()
            }
            image = torch.rand(1, 3, height, width)
            times: dict[str, list[float]] = {name: [] for name in networks}
            for _ in range(repeats + 1):
                for name, network in networks.items():
                    began = time.process_time()
                    network.raw(image).mean().backward()
                    times[name].append(time.process_time() - began)
            medians = {name: statistics.median(each[1:]) for name, each in times.items()}
            line = {"size": size, "image": f"{width}x{height}", "tokens": height * width // 256 + 1}
            line |= {name: round(seconds, 3) for name, seconds in medians.items()}
            ratios = {name: round(seconds / medians["sdpa"], 2) for name, seconds in medians.items()}
            print(json.dumps({**line, "relative": ratios, "repeats": repeats, "threads": 1}), flush=True)


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", choices=["kitti", "worlds"], default="kitti")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--start-steps", type=int, default=0, help="steps of one training that all seeds start from")
    parser.add_argument("--device", default="cpu", help="cuda on a machine with a GPU")
    parser.add_argument("--times", action="store_true")
    parser.add_argument("--sizes", nargs="+", default=["tiny", "small"], help="of DPT, to time")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    if arguments.times:
        measure_times(arguments.sizes, arguments.repeats)
        return
    torch.set_num_threads(1)
    arguments.out.mkdir(parents=True, exist_ok=True)
    task = Task(arguments.data)
    ways: tuple[str, ...] = ("exchange", "scratch")
    shared = arguments.start_steps
    last = arguments.steps if shared else arguments.steps // 3
    if shared:
        ways = ("exchange",)
        start_of_all = arguments.out / f"start-{arguments.data}-{shared}.pt"
        resolved, batches = read_batches(configure(task, "sdpa", START_SEED))
        if not start_of_all.exists():
            torch.save(train(task, resolved, batches, shared, START_SEED, arguments.device)[1], start_of_all)
        weights = torch.load(start_of_all)
        recipe = SupervisedRecipe(resolved)
        recipe.load_state_dict(weights)
        known = task.score(make_predictor(recipe.eval(), Path("start")))
        print(json.dumps({"start": known, "without attention": score_without_attention(task, resolved, weights)}))
    kept = arguments.out / f"exchange-{arguments.data}-{shared}-{arguments.steps}.json"
    found: dict[str, Any] = json.loads(kept.read_text()) if kept.exists() else {}
    for seed in arguments.seeds:
        resolved, batches = read_batches(configure(task, "sdpa", seed))
        if not shared:
            start = arguments.out / f"start-{arguments.data}-{arguments.steps}-{seed}.pt"
            if not start.exists():
                torch.save(train(task, resolved, batches, arguments.steps - last, seed, arguments.device)[1], start)
            weights = torch.load(start)
        for attention in ATTENTIONS:
            config = resolved.model_copy(update={"model": configure(task, attention, seed).model})
            for way in ways:
                arm = f"{way}/{attention}/{seed}"
                if arm not in found:
                    steps, first = (last, weights) if way == "exchange" else (arguments.steps, None)
                    found[arm] = train(task, config, batches, steps, seed, arguments.device, first)[0]._asdict()
                    kept.write_text(json.dumps(found, indent=1))
                print(json.dumps({"arm": arm, **found[arm], "cores": os.cpu_count(), "threads": 1}), flush=True)
    print("\n".join(compare(found, arguments.seeds, ways)))


if __name__ == "__main__":
    main()
