"""Silent on what is right: what preflight, contract and watch say of sound data, and of trainings that learn. About 20
minutes on one core.

    python benchmarks/silence.py [--data FOLDER_OF_REAL_SAMPLES] [--only TEXT] [--out TABLE.md]
    python benchmarks/silence.py --run RUN                what a training of your own, which has ended, was told

Data: RoadWorld of three seeds and two heights of the camera, KITTI odometry 06, KITTI raw, EuRoC, 7-Scenes, TableWorld,
Linemod-Occluded
and composed images; the real ones where they are. Trainings: the five recipes, small and on one thread, contract and
watch on. Each has to beat its own untrained networks in what validates, or its silence would mean nothing. Worlds are
rendered into the cache, once.

Prints a row for each: its findings by severity, and all that was told. What is told and true stands in RIGHT with the
reason why; anything
else is a false alarm, and the exit status is 1, as where a training did not learn. Ends with a line of JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import stadia.core.torchvision_shim  # noqa: F401

# isort: split
import torch
from preflight import REAL_DATA, SEEDS, clean_splits, real_recordings
from rich.console import Console

from stadia import recipes
from stadia.apps import demo, metric_demo
from stadia.core import random_state
from stadia.core.config import resolve_config
from stadia.core.files import write_text
from stadia.core.recording import Recording
from stadia.datasets.config import CacheConfig
from stadia.datasets.open_dataset import open_recordings
from stadia.diagnostics.finding import Finding, OnStop, Severity, read_findings
from stadia.diagnostics.loss_checks.loss_check_runner import TimeLimitReached
from stadia.diagnostics.preflight.preflight_runner import run_preflight
from stadia.recipes import CONFIGS, RECIPES
from stadia.recipes.base.config import RecipeConfig
from stadia.recipes.base.init_weights import build_task
from stadia.synthetic.rendering.dataset_files import SPLITS
from stadia.synthetic.roadworld.config import TINY
from stadia.synthetic.roadworld.roadworld_writer import render_cached_worlds, render_demo_worlds
from stadia.training.batches import TrainingPlan
from stadia.training.loggers import read_rows
from stadia.training.run_folder import Run
from stadia.training.validation_scores import ValidationScores

HEIGHTS_M = (1.2, 1.65)
MOST_S = 600.0
"""For the checks of a recording: all of it is looked at, however busy the machine is."""

FEW_TURNS = "the camera goes straight on, and fx shows in its turns alone"
ONE_CAMERA = "it has one camera, and these compare two"
EXPOSES = "its cameras expose each for itself, as D3VO says"
NO_DEPTH = "it has no ground-truth depth"
STANDS = "its camera stands: the first three seconds of a flight"
SPEED = "of one drive the unit of its poses shows in its speed alone"
COMES = "the height that silhouettes say teaches, until depth says one"
TILTED = (
    "its road still leans by two degrees against the true one, and what stands on it looks too low; longer trainings"
    " are not told"
)
OWN = "its drives have no more"
SOME = "there is more of it than is looked at before a training"
BUSY = "the contract's twenty seconds were over: a slow processor, or a busy one"

RIGHT: dict[str, dict[str, str]] = {
    "RoadWorld": {"N01 resize": FEW_TURNS},
    "kitti_odometry/06": {"N01 resize": FEW_TURNS, "N01 ground_truth": NO_DEPTH},
    "kitti_raw": {"N01 resize": FEW_TURNS, "N01 sides": ONE_CAMERA, "N01 baseline": ONE_CAMERA},
    "euroc": {
        "D03": STANDS,
        "B03": EXPOSES,
        **dict.fromkeys(("N01 resize", "N01 baseline", "N01 poses"), STANDS),
        "N01 ground_truth": NO_DEPTH,
    },
    "sevenscenes": {"N01 sides": ONE_CAMERA, "N01 baseline": ONE_CAMERA},
    "TableWorld": {"N02": SOME},
    "Linemod-Occluded": {"O01": "one of its objects is hidden behind the others"},
    "selfsup": {"N01 resize": FEW_TURNS, "N02": SOME},
    "selfsup, one camera": {"N01 poses": SPEED},
    "metric": {"N01 resize": FEW_TURNS, "N01 poses": SPEED, "N02": SOME, "H06": COMES, "H11": TILTED},
    "run": (
        {f"N01 {what}": OWN for what in ("sides", "baseline", "resize", "poses", "ground_truth")}
        | {"N02": SOME, "H06": COMES}
    ),
    "dpt": {"N01 resize": FEW_TURNS, "N02": SOME},
    "objectpose": {"N02": SOME},
}
"""What is told and true, and why, by the name of the row or how it begins. N01 with what could not be checked."""

SHORT = (
    *("training.max_steps=300", "training.batch_size=4", "training.validate_every=60", "schedule.warmup_steps=50"),
    *("training.workers=0", "training.threads=1", "training.log_every=5", "training.images_every=0"),
)
SMALL = ("data.height=64", "data.width=192")
LONGER = ("training.max_steps=500", "training.batch_size=6", "training.validate_every=100")
"""Where nothing but motion tells depth, and nothing but cars the scale: after 300 steps of 4 cars are still nearer than
their road.
"""

ON_ROADS, MONO = ("selfsup", "metric", "dpt"), "selfsup, one camera"


@dataclass(frozen=True)
class Training:
    """recipe: whose.  score: of its validation, lower is better.  words: of its configuration.  after: the training
    whose weights it starts from, by name.
    """

    recipe: str
    score: str
    words: tuple[str, ...]
    after: str | None = None


TRAININGS: dict[str, Training] = {
    "selfsup, stereo": Training("selfsup", "abs_rel", (*demo.SETTINGS, *SMALL, *SHORT)),
    MONO: Training(
        "selfsup", "residual", (*metric_demo.SETTINGS, *metric_demo.RECIPE_SETTINGS["selfsup"], *SHORT, *LONGER)
    ),
    "metric": Training(
        "metric",
        "abs_rel",
        (*metric_demo.SETTINGS, *metric_demo.RECIPE_SETTINGS["metric"], *SHORT, *LONGER),
        after=MONO,
    ),
    "dpt": Training("dpt", "abs_rel", ("model.network=dpt-tiny", "optimizer.lr=1e-3", *SMALL, *SHORT)),
    "objectpose": Training(
        "objectpose",
        "rotation_error_deg_of_all",
        (
            *SHORT,
            "data.height=96",
            "data.width=128",
            "model.pretrained=false",
            "training.batch_size=16",
            "training.max_steps=400",
        ),
    ),
    "overlay": Training(
        "overlay",
        "depth_and_mask_error",
        (
            *SHORT,
            "data.height=32",
            "data.width=32",
            "data.val_samples=100",
            "training.batch_size=8",
            "training.max_steps=600",
        ),
    ),
}
"""Of roads as the demos train, with smaller images and fewer steps; without metres first, as there."""

LEAST = 0.9
"""Of the score of untrained networks, to have learnt something."""


@dataclass(frozen=True)
class Learnt:
    """The score of what validates before the first step and after the last, lower is better."""

    score: str
    before: float
    after: float

    @property
    def enough(self) -> bool:
        return self.after < LEAST * self.before

    def __str__(self) -> str:
        return f"{self.score} {self.before:.3f} to {self.after:.3f}" + ("" if self.enough else ", **did not learn**")


@dataclass(frozen=True)
class Row:
    """name: of what is right.  found: all that is told of it.  learnt: None of data."""

    name: str
    found: list[Finding]
    seconds: float
    learnt: Learnt | None = None

    @property
    def told(self) -> dict[str, str | None]:
        """Code, and of N01 what was not checked, with why it is true; None where nobody says so."""
        reasons = {
            told: why for name, each in RIGHT.items() if self.name.startswith(name) for told, why in each.items()
        }
        return {
            _told(one): BUSY if str(TimeLimitReached()) in one.measured else reasons.get(_told(one))
            for one in self.found
        }

    @property
    def passed(self) -> bool:
        return None not in self.told.values() and (self.learnt is None or self.learnt.enough)

    def __str__(self) -> str:
        counts = Counter(one.severity for one in self.found)
        told = "; ".join(f"{told}: {why or '**false alarm**'}" for told, why in self.told.items()) or "nothing"
        numbers = " | ".join(str(counts[severity]) for severity in Severity)
        return f"| {self.name} | {numbers} | {told} | {self.learnt or ''} | {self.seconds:.0f} s |"


def _told(one: Finding) -> str:
    return f"N01 {one.measured.partition(':')[0]}" if one.code == "N01" else one.code


# ----------------------------------------------------------------------------------------------------------------------
# data


def of_roadworld(seed: int, height_m: float) -> list[Finding]:
    """Three worlds of six pairs, each of a split."""
    folder = render_cached_worlds(
        "tiny", TINY.model_copy(update={"camera_height_m": (height_m,)}), CacheConfig(), seed=seed
    )
    splits = {split: open_recordings(folder, split=split) for split in SPLITS}
    each = {
        split: [(recording, range(len(recording))) for recording in recordings] for split, recordings in splits.items()
    }
    return run_preflight(
        [recording for recordings in splits.values() for recording in recordings], each, seconds=MOST_S
    )


def of_sample(recording: Recording) -> list[Finding]:
    """A recording, some frames of which train and some are held out."""
    return run_preflight([recording], clean_splits(recording), seconds=MOST_S)


def of_recipe(recipe: str, *words: str) -> list[Finding]:
    """What a recipe says of its data before it trains on them."""
    _, data = RECIPES.load(recipe).prepare(recipes.configure(recipe, words), Console(quiet=True))
    found: list[Finding] = data.findings()
    return found


def data_rows(real: Path) -> Iterator[tuple[str, Callable[[], list[Finding]]]]:
    """Each name, and how it is looked at."""
    for seed in SEEDS:
        for height_m in HEIGHTS_M:
            yield f"RoadWorld, seed {seed}, camera at {height_m:g} m", partial(of_roadworld, seed, height_m)
    for recording in real_recordings(real):
        yield recording.name, partial(of_sample, recording)
    yield "TableWorld", partial(of_recipe, "objectpose")
    if (lmo := real / "bop" / "lmo").is_dir():
        words = (f"data.path={json.dumps(str(lmo))}", "data.format=bop", "data.train_split=test", "data.val_split=null")
        yield "Linemod-Occluded", partial(of_recipe, "objectpose", *words)
    yield "composed images", partial(of_recipe, "overlay")


# -----------------------------------------------------------------------------------------------------------------
# trainings


class Trainings:
    """Trainings in a folder, each once: what another one starts from is trained for it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.runs: dict[str, Run] = {}

    def configured(self, name: str) -> RecipeConfig:
        """On the demo's worlds, where the recipe renders none by itself."""
        one = TRAININGS[name]
        start = () if one.after is None else (f"start_from={json.dumps(str(self.run(one.after).folder))}",)
        data = {"data": {"path": str(render_demo_worlds(CacheConfig()))}} if one.recipe in ON_ROADS else {}
        return recipes.configure(one.recipe, (*one.words, *start), **data)

    def run(self, name: str) -> Run:
        """To its end, whatever is found."""
        if name not in self.runs:
            self.runs[name] = recipes.train(self.configured(name), out=self.folder, on_stop=OnStop.WARN)
        return self.runs[name]

    def row(self, name: str) -> Row:
        score = f"val/{TRAININGS[name].score}"
        before = before_training(self.configured(name))[score]
        began = time.monotonic()
        run = self.run(name)
        return of_run(name, run.folder, before, score, time.monotonic() - began)


def of_run(name: str, folder: Path, before: float, score: str, seconds: float) -> Row:
    """What a training was told, and whether it learnt."""
    after = [float(row[score]) for row in read_rows(folder / "metrics.csv") if row.get(score)][-1]
    return Row(
        name, read_findings(folder / "findings.jsonl"), seconds, Learnt(score.removeprefix("val/"), before, after)
    )


def ended(folder: Path) -> Row:
    """Of a training that was done elsewhere, by the score of its recipe's row."""
    run = Run.open(folder)
    score = next(f"val/{one.score}" for one in TRAININGS.values() if one.recipe == run.recipe)
    untrained = {
        **run.config,
        "start_from": None,
    }  # else a training that goes on from another would have to learn it all again
    before = before_training(resolve_config(CONFIGS.load(run.recipe), untrained))[score]
    began, finished = (datetime.fromisoformat(run.facts[when]) for when in ("started", "finished"))
    return of_run(f"run {folder.name}", folder, before, score, (finished - began).total_seconds())


@torch.no_grad()
def before_training(config: RecipeConfig) -> dict[str, float]:
    """What validates, of the weights that a training starts from."""
    recipe = RECIPES.load(config.recipe)
    config, data = recipe.prepare(config, Console(quiet=True))
    random_state.seed_generators(config.seed, "training")
    task = build_task(recipe, config, resumed=False)
    task.save_data_stats(data)
    task.plan = TrainingPlan.of(data.train, config.training)
    task.eval().on_validation_start()
    book = ValidationScores()
    for batch in data.val:
        book.add(batch.meta, task.validation_step(batch))
    return {f"val/{name}": value for name, value in (book.means() | dict(task.validation_summary())).items()}


# ---------------------------------------------------------------------------------------------------------------------
# table


def num_checked(name: str, look: Callable[[], list[Finding]]) -> Row:
    began = time.monotonic()
    return Row(name, look(), time.monotonic() - began)


def rows(real: Path, only: str, folder: Path) -> Iterator[Row]:
    """Those whose name holds `only`."""
    trainings = Trainings(folder)
    for name, look in data_rows(real):
        if only in name:
            yield num_checked(name, look)
    for name in TRAININGS:
        if only in name:
            yield trainings.row(name)


def summary(row: Row) -> dict[str, Any]:
    """JSON-ready."""
    learnt = None if row.learnt is None else asdict(row.learnt)
    severities = Counter(str(one.severity) for one in row.found)
    return {
        "passed": row.passed,
        "severities": severities,
        "told": row.told,
        "learnt": learnt,
        "seconds": round(row.seconds, 1),
    }


def main(real: Path, only: str, run: Path | None, out: Path | None) -> int:
    """Print the table and a line of JSON; the exit status."""
    lines = [
        f"| right | {' | '.join(Severity)} | told, and why it is true | learnt | time |",
        "|---|---|---|---|---|---|---|",
    ]
    print("\n".join(lines))
    each: dict[str, Row] = {}
    with tempfile.TemporaryDirectory() as folder:
        for row in rows(real, only, Path(folder)) if run is None else [ended(run)]:
            each[row.name] = row
            lines.append(str(row))
            print(row, flush=True)
    if not each:
        print(f"--only {only}: found nothing of this name", file=sys.stderr)
        return 2
    passed = all(row.passed for row in each.values())
    lines.append(
        json.dumps(
            {"passed": passed, "threads": torch.get_num_threads(), "rows": {n: summary(r) for n, r in each.items()}}
        )
    )
    print(lines[-1])
    if out is not None:
        write_text(out, "\n".join([*lines[:-1], "", lines[-1], ""]))
    return 0 if passed else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=REAL_DATA, help="the folder of real samples")
    parser.add_argument("--only", default="", metavar="TEXT", help="what has this in its name")
    parser.add_argument(
        "--run", type=Path, metavar="RUN", help="the folder of a training that has ended, and nothing else"
    )
    parser.add_argument("--out", type=Path, help="write the table there as well")
    asked = parser.parse_args()
    sys.exit(main(asked.data, asked.only, asked.run, asked.out))
