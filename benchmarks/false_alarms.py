"""Find false alarms: findings of preflight, loss checks and monitors on correct data and on trainings that learn.

    python benchmarks/false_alarms.py [--data FOLDER_OF_REAL_SAMPLES] [--only TEXT ...] [--out TABLE.md]
    python benchmarks/false_alarms.py --run RUN           the findings of a finished training of your own

Data: RoadWorld of three seeds and two camera heights, KITTI odometry 06, KITTI raw, EuRoC, 7-Scenes, TableWorld,
Linemod-Occluded and composites; the real ones where they are available. Twenty trainings: the five recipes, some with
three seeds, and the real samples, small and on one thread. Each must improve on its untrained networks in validation.
Takes about 40 minutes on one core; worlds are rendered into the cache once.

Prints a row for each: its findings by severity, and what they report. Findings that are true are in TRUE_FINDINGS with
the reason. Any other finding is a false alarm: the exit status is then 1, as for a training that did not learn. Ends
with a line of JSON.
"""

# mypy: disable-error-code="attr-defined"

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import stadia.differentiable.torchvision_operators  # noqa: F401

# isort: split
import torch
from harness import REAL_DATA, TINY_NETWORK
from preflight import SEEDS, clean_splits, real_recordings
from rich.console import Console

from stadia import training
from stadia.core.config import resolve_config
from stadia.core.types import Recording
from stadia.data.config import CacheConfig
from stadia.data.open_dataset import open_recordings
from stadia.differentiable import torch_state
from stadia.io.atomic_files import write_text
from stadia.io.metrics_table import read_rows
from stadia.judge.finding import Finding, OnStop, Severity, read_valid_findings
from stadia.judge.recordings.preflight_runner import run_preflight
from stadia.synthetic.config import ROADWORLD_TINY, SPLITS
from stadia.synthetic.roadworld.roadworld_writer import render_cached_worlds, render_demo_worlds
from stadia.training import recipes
from stadia.training.loop.batches import TrainingPlan, ValidationScores
from stadia.training.loop.run_folder import Run
from stadia.training.recipes import CONFIGS, RECIPES
from stadia.training.recipes.base.build_recipe import init_recipe
from stadia.training.recipes.base.config import RecipeConfig
from stadia.training.recipes.presets import preset_overrides

HEIGHTS_M = (1.2, 1.65)
MAX_SECONDS = 600.0
"""For the checks of a recording, so that all of it is checked also on a busy machine."""

LITTLE_ROTATION = "the camera drives straight, and only rotation shows fx"
SLOW = "the car moves 0.10 m from frame to frame, by its LiDAR"
LITTLE_MOTION = "its points move by 0.76 px of 320 beyond rotation from frame to frame, by its poses too"
ONE_CAMERA = "it has one camera, and these compare two"
TWO_EXPOSURES = "its cameras have separate exposures, see D3VO"
NO_DEPTH = "it has no ground-truth depth"
STATIC = "its camera is static: the first three seconds of a flight"
ONE_SPEED = "only its speed shows the unit of the poses of one drive"
HEIGHT_LATER = "the height from silhouettes is used until depth gives one"
TILTED_ROAD = (
    "its road is still tilted by two degrees, and objects on it appear too low; longer trainings have no finding"
)
HALF_THE_SCALE = "500 steps do not find the scale from such a start: AbsRel .605, and .291 after scaling"
LIKE_ITS_MEAN = "after 500 steps its depth is no better than the mean of its maps: AbsRel .336 and .336 by the truth"
NEARLY_ITS_MEAN = "after 500 steps most of its depth is the mean of its maps: AbsRel .268, and .289 by this mean"
ONE_LENS = "one camera, and no motion known well enough to warp along"
FAR = "its scene is far: points move by .31 px beyond rotation from frame to frame"
NOT_LEARNED = "the motion is not learned, and the warped images differ more than the unwarped ones; a map mends it"
FLAT = "depth became one number, as the motion of a turning hand-held camera is not learned; a map mends it"
FAR_START = "DPT starts at 9 m, and the room has a median depth of 1.8 m"
LIKE_CONSTANT = "AbsRel .136, where the mean depth of each pixel has .096"
NO_MORE_DATA = "its drives have no more data"
SAMPLED = "it has more data than is checked before a training"
OUT_OF_TIME = "the 20 s of the loss checks were over: a slow or busy processor"

TRUE_FINDINGS: dict[str, dict[str, str]] = {
    "RoadWorld": {"N01 resize": LITTLE_ROTATION},
    "kitti_odometry/06": {"N01 resize": LITTLE_ROTATION, "N01 ground_truth": NO_DEPTH},
    "kitti_raw": {"D18": SLOW, "N01 resize": LITTLE_ROTATION, "N01 sides": ONE_CAMERA, "N01 baseline": ONE_CAMERA},
    "euroc": {
        "D03": STATIC,
        "B03": TWO_EXPOSURES,
        **dict.fromkeys(("N01 resize", "N01 baseline", "N01 poses"), STATIC),
        "N01 ground_truth": NO_DEPTH,
    },
    "sevenscenes": {"D18": LITTLE_MOTION, "N01 sides": ONE_CAMERA, "N01 baseline": ONE_CAMERA},
    "TableWorld": {"N02": SAMPLED},
    "Linemod-Occluded": {"O01": "one of its objects is hidden behind the others"},
    "selfsup": {"N01 resize": LITTLE_ROTATION, "N01 poses": ONE_SPEED, "N02": SAMPLED},
    "selfsup, one camera": {"M34": LIKE_ITS_MEAN, "S30": LIKE_ITS_MEAN},
    "metric": {
        "N01 resize": LITTLE_ROTATION,
        "N01 poses": ONE_SPEED,
        "N02": SAMPLED,
        "H06": HEIGHT_LATER,
        "H11": TILTED_ROAD,
        "H19": HALF_THE_SCALE,
        "M31": NEARLY_ITS_MEAN,
        "M34": LIKE_ITS_MEAN,
        "S30": LIKE_ITS_MEAN,
    },
    "selfsup, stereo, KITTI": {"N01 ground_truth": NO_DEPTH},
    "selfsup, stereo, EuRoC": {
        "D03": STATIC,
        "B03": TWO_EXPOSURES,
        **dict.fromkeys(("N01 resize", "N01 baseline", "N01 poses"), STATIC),
        "P21": STATIC,
        "N01 ground_truth": NO_DEPTH,
    },
    "selfsup, one camera, KITTI 06": {"N01 ground_truth": NO_DEPTH},
    "selfsup, one camera, a highway": {
        "D18": FAR,
        **dict.fromkeys(("N01 sides", "N01 baseline"), ONE_CAMERA),
        "N01 ground_truth": NO_DEPTH,
        **dict.fromkeys(("S20", "S21", "S30", "M34", "T40"), NOT_LEARNED),
    },
    "selfsup, one camera, 7-Scenes": {
        "D18": LITTLE_MOTION,
        **dict.fromkeys(("N01 sides", "N01 baseline"), ONE_CAMERA),
        **dict.fromkeys(("M20", "M30", "T40"), FLAT),
    },
    **{
        name: {**dict.fromkeys(("N01 sides", "N01 baseline"), ONE_CAMERA), "N01 ground_truth": ONE_LENS}
        for name in ("supervised, KITTI raw", "supervised, 7-Scenes")
    },
    "supervised, 7-Scenes kitchen": {"M01": FAR_START, "S30": LIKE_CONSTANT},
    "run": (
        {f"N01 {what}": NO_MORE_DATA for what in ("sides", "baseline", "resize", "poses", "ground_truth")}
        | {"N02": SAMPLED, "H06": HEIGHT_LATER}
    ),
    "supervised": {"N01 resize": LITTLE_ROTATION, "N01 poses": ONE_SPEED, "N02": SAMPLED},
    "objectpose": {"N02": SAMPLED},
}
"""True findings and their reasons, by the name of the row or its beginning. N01 with what could not be checked."""

SHORT = (
    *("training.max_steps=300", "training.batch_size=4", "training.validate_every=60", "schedule.warmup_steps=50"),
    *("training.workers=0", "training.threads=1", "training.log_every=5", "training.images_every=0"),
)
SMALL = ("data.height=64", "data.width=192")
DPT = ("model.network=dpt", "model.network.size=tiny", "optimizer.lr=1e-3")
LONGER = ("training.max_steps=500", "training.batch_size=6", "training.validate_every=100")
"""For depth from motion only, or scale from cars only: after 300 steps of 4 images cars are nearer than their road."""

ON_ROADS, MONO = ("selfsup", "metric", "supervised"), "selfsup, one camera"


@dataclass(frozen=True)
class Training:
    """A training: its recipe, the validation score (lower is better), overrides of its configuration, the training
    whose weights it starts from, by name, and the path of a real sample in place of rendered worlds.
    """

    recipe: str
    score: str
    overrides: tuple[str, ...]
    after: str | None = None
    sample: str | None = None


TRAININGS: dict[str, Training] = {
    "selfsup, stereo": Training("selfsup", "abs_rel", (*preset_overrides("demo"), *TINY_NETWORK, *SMALL, *SHORT)),
    MONO: Training("selfsup", "residual", (*preset_overrides("metric-demo-start"), *SHORT, *LONGER)),
    "metric": Training("metric", "abs_rel", (*preset_overrides("metric-demo"), *SHORT, *LONGER), after=MONO),
    "supervised": Training("supervised", "abs_rel", (*DPT, *SMALL, *SHORT)),
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
"""Trainings as in the demos, with smaller images and fewer steps."""

STEREO = (*preset_overrides("demo"), *TINY_NETWORK, *SMALL, *SHORT)
ONE_CAMERA_OF = (*preset_overrides("metric-demo-start"), *SHORT)
LABELS = (*DPT, *SMALL, *SHORT)
TRAININGS |= {
    f"{name}, seed {seed}": replace(TRAININGS[name], overrides=(*TRAININGS[name].overrides, f"seed={seed}"))
    for name, seeds_of_it in {"selfsup, stereo": 2, "supervised": 2, "overlay": 2, "objectpose": 1}.items()
    for seed in range(1, seeds_of_it + 1)
}
TRAININGS |= {
    "selfsup, stereo, KITTI 06": Training("selfsup", "residual", STEREO, sample="kitti_odometry"),
    "selfsup, stereo, EuRoC": Training("selfsup", "residual", STEREO, sample="euroc"),
    "selfsup, one camera, KITTI 06": Training("selfsup", "residual", ONE_CAMERA_OF, sample="kitti_odometry"),
    "selfsup, one camera, 7-Scenes": Training("selfsup", "residual", ONE_CAMERA_OF, sample="sevenscenes/kitchen"),
    "selfsup, one camera, a highway": Training(
        "selfsup", "residual", (*ONE_CAMERA_OF, "data.camera.horizontal_fov_deg=58"), sample="clips/highway.mp4"
    ),
    "supervised, KITTI raw": Training("supervised", "abs_rel", LABELS, sample="kitti_raw"),
    "supervised, 7-Scenes kitchen": Training("supervised", "abs_rel", LABELS, sample="sevenscenes/kitchen"),
}

MAX_SCORE_RATIO = 0.9
"""Largest score over that of untrained networks, for a training that has learned something."""


@dataclass(frozen=True)
class Improvement:
    """The validation score before the first step and after the last, lower is better."""

    score: str
    before: float
    after: float

    @property
    def is_enough(self) -> bool:
        return self.after < MAX_SCORE_RATIO * self.before

    def __str__(self) -> str:
        return f"{self.score} {self.before:.3f} to {self.after:.3f}" + ("" if self.is_enough else ", **did not learn**")


@dataclass(frozen=True)
class Row:
    """Findings of correct data, or of a training with its improvement."""

    name: str
    found: list[Finding]
    seconds: float
    improvement: Improvement | None = None

    @property
    def reported(self) -> dict[str, str | None]:
        """Why each finding is true, by its code; None for a false alarm."""
        reasons = {
            reported: why
            for name, each in TRUE_FINDINGS.items()
            if self.name.startswith(name)
            for reported, why in each.items()
        }
        return {
            _describe(one): OUT_OF_TIME if "time limit of the checks" in one.measured else reasons.get(_describe(one))
            for one in self.found
        }

    @property
    def passed(self) -> bool:
        return None not in self.reported.values() and (self.improvement is None or self.improvement.is_enough)

    def __str__(self) -> str:
        counts = Counter(one.severity for one in self.found)
        measured = {_describe(one): one.measured.replace("|", "\\|") for one in self.found}
        reasons = [f"{name}: {why or f'**false alarm**, {measured[name]}'}" for name, why in self.reported.items()]
        reported = "; ".join(reasons) or "nothing"
        numbers = " | ".join(str(counts[severity]) for severity in Severity)
        return f"| {self.name} | {numbers} | {reported} | {self.improvement or ''} | {self.seconds:.0f} s |"


def _describe(one: Finding) -> str:
    return f"N01 {one.measured.partition(':')[0]}" if one.code == "N01" else one.code


def check_roadworld(seed: int, height_m: float) -> list[Finding]:
    """Check three worlds of six pairs, one for each split."""
    folder = render_cached_worlds(
        "tiny", ROADWORLD_TINY.model_copy(update={"camera_height_m": (height_m,)}), CacheConfig(), seed=seed
    )
    splits = {split: open_recordings(folder, split=split) for split in SPLITS}
    each = {
        split: [(recording, range(len(recording))) for recording in recordings] for split, recordings in splits.items()
    }
    return run_preflight(
        [recording for recordings in splits.values() for recording in recordings], each, seconds=MAX_SECONDS
    )


def check_sample(recording: Recording) -> list[Finding]:
    """Check a recording and its splits."""
    return run_preflight([recording], clean_splits(recording), seconds=MAX_SECONDS)


def check_recipe(recipe: str, *overrides: str) -> list[Finding]:
    """Return the findings of a recipe about its data before training."""
    _, data = RECIPES.load(recipe).prepare(recipes.configure(recipe, overrides), Console(quiet=True))
    found: list[Finding] = data.findings()
    return found


def data_rows(real: Path) -> Iterator[tuple[str, Callable[[], list[Finding]]]]:
    """Yield each name with the function that checks it."""
    for seed in SEEDS:
        for height_m in HEIGHTS_M:
            yield f"RoadWorld, seed {seed}, camera at {height_m:g} m", partial(check_roadworld, seed, height_m)
    for recording in real_recordings(real):
        yield recording.name, partial(check_sample, recording)
    yield "TableWorld", partial(check_recipe, "objectpose")
    if (lmo := real / "bop" / "lmo").is_dir():
        overrides = (
            f"data.path={json.dumps(str(lmo))}",
            "data.format=bop",
            "data.train_split=test",
            "data.val_split=null",
        )
        yield "Linemod-Occluded", partial(check_recipe, "objectpose", *overrides)
    yield "composed images", partial(check_recipe, "overlay")


class Trainings:
    """Trainings in a folder. Each runs once; a training that another one starts from runs first."""

    def __init__(self, folder: Path, real: Path) -> None:
        self.folder = folder
        self.real = real
        self.runs: dict[str, Run] = {}

    def make_config(self, name: str) -> RecipeConfig:
        """Return the configuration, on the worlds of the demo where the recipe renders none by itself."""
        one = TRAININGS[name]
        start = () if one.after is None else (f"start_from={json.dumps(str(self.run(one.after).folder))}",)
        data: dict[str, Any] = {}
        if one.sample is not None:
            data = {"data": {"path": str(self.real / one.sample)}}
        elif one.recipe in ON_ROADS:
            data = {"data": {"path": str(render_demo_worlds(CacheConfig()))}}
        return recipes.configure(one.recipe, (*one.overrides, *start), **data)

    def run(self, name: str) -> Run:
        """Train to the end, whatever is found."""
        if name not in self.runs:
            self.runs[name] = training.train(self.make_config(name), out=self.folder, on_stop=OnStop.WARN)
        return self.runs[name]

    def row(self, name: str) -> Row:
        score = f"val/{TRAININGS[name].score}"
        before = validate_untrained(self.make_config(name))[score]
        began = time.monotonic()
        run = self.run(name)
        return read_run(name, run.folder, before, score, time.monotonic() - began)


def read_run(name: str, folder: Path, before: float, score: str, seconds: float) -> Row:
    """Return the findings of a training, and its improvement."""
    after = [float(row[score]) for row in read_rows(folder / "metrics.csv") if row.get(score)][-1]
    return Row(
        name,
        read_valid_findings(folder / "findings.jsonl")[0],
        seconds,
        Improvement(score.removeprefix("val/"), before, after),
    )


def read_finished_run(folder: Path) -> Row:
    """Return the row of a training that is finished, by the score of its recipe."""
    run = Run.open(folder)
    score = next(f"val/{one.score}" for one in TRAININGS.values() if one.recipe == run.recipe)
    untrained = {
        **run.config,
        "start_from": None,
    }  # else a training that goes on from another would have to learn it all again
    before = validate_untrained(resolve_config(CONFIGS.load(run.recipe), untrained))[score]
    began, finished = (datetime.fromisoformat(str(moment)) for moment in (run.facts.started, run.facts.finished))
    return read_run(f"run {folder.name}", folder, before, score, (finished - began).total_seconds())


@torch.no_grad()
def validate_untrained(config: RecipeConfig) -> dict[str, float]:
    """Return the validation scores of the weights that a training starts from."""
    recipe_class = RECIPES.load(config.recipe)
    config, data = recipe_class.prepare(config, Console(quiet=True))
    torch_state.seed_generators(config.seed, "training")
    recipe = init_recipe(recipe_class, config, resumed=False)
    recipe.save_data_stats(data)
    recipe.plan = TrainingPlan.from_loader(data.train, config.training)
    recipe.eval().on_validation_start()
    book = ValidationScores()
    for batch in data.val:
        book.add(batch.meta, recipe.validation_step(batch))
    return {f"val/{name}": value for name, value in (book.means() | dict(recipe.validation_summary())).items()}


def run_checks(name: str, check: Callable[[], list[Finding]]) -> Row:
    began = time.monotonic()
    return Row(name, check(), time.monotonic() - began)


def rows(real: Path, only: Sequence[str], folder: Path) -> Iterator[Row]:
    """Yield the rows of these names: the training of a name, or all whose name contains the text."""
    trainings = Trainings(folder, real)

    def is_wanted(name: str) -> bool:
        return any(name == text or (text not in TRAININGS and text in name) for text in only)

    for name, check in data_rows(real):
        if is_wanted(name):
            yield run_checks(name, check)
    for name, one in TRAININGS.items():
        if is_wanted(name) and (one.sample is None or (real / one.sample).exists()):
            yield trainings.row(name)


def summarize(row: Row) -> dict[str, Any]:
    """Return JSON-ready values."""
    improvement = None if row.improvement is None else asdict(row.improvement)
    severities = Counter(str(one.severity) for one in row.found)
    return {
        "passed": row.passed,
        "severities": severities,
        "findings": row.reported,
        "learnt": improvement,
        "seconds": round(row.seconds, 1),
    }


def main(real: Path, only: Sequence[str], run: Path | None, out: Path | None) -> int:
    """Print the table and a line of JSON. Return the exit status."""
    lines = [
        f"| data or training | {' | '.join(Severity)} | reported, and why it is true | improvement | time |",
        "|---|---|---|---|---|---|---|",
    ]
    print("\n".join(lines))
    each: dict[str, Row] = {}
    with tempfile.TemporaryDirectory() as folder:
        for row in rows(real, only, Path(folder)) if run is None else [read_finished_run(run)]:
            each[row.name] = row
            lines.append(str(row))
            print(row, flush=True)
    if not each:
        print(f"--only {' '.join(only)}: found nothing of this name", file=sys.stderr)
        return 2
    passed = all(row.passed for row in each.values())
    lines.append(
        json.dumps(
            {"passed": passed, "threads": torch.get_num_threads(), "rows": {n: summarize(r) for n, r in each.items()}}
        )
    )
    print(lines[-1])
    if out is not None:
        write_text(out, "\n".join([*lines[:-1], "", lines[-1], ""]))
    return 0 if passed else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=REAL_DATA, help="the folder of real samples")
    parser.add_argument(
        "--only", nargs="+", default=[""], metavar="TEXT", help="a training, or what has this in its name"
    )
    parser.add_argument(
        "--run", type=Path, metavar="RUN", help="the folder of a training that has read_finished_run, and nothing else"
    )
    parser.add_argument("--out", type=Path, help="write the table there as well")
    arguments = parser.parse_args()
    sys.exit(main(arguments.data, arguments.only, arguments.run, arguments.out))
