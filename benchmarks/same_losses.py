r"""Compare the logged numbers of short trainings of this version with those of another checkout, to the last digit.

    git worktree add ../before COMMIT
    python benchmarks/same_losses.py --before ../before [--steps 12] \
        [--before-words supervised "dpt model.network=dpt-tiny"]

Trains each recipe for a few steps with both versions, one thread, seed 0, and compares every cell of `metrics.csv`
except times and memory. `--before-words` gives the recipe and the keys of the other version where they have other
names. Scores of the validation (`val/`) may differ by rounding (MAX_ROUNDING): both versions may compute them by
other libraries. Prints a row per recipe and one JSON object; exits with 1 if another number differs.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
MEASURED = ("time/", "memory", "perf")
"""Columns that hold times or memory, which no two trainings share."""
MAX_ROUNDING = 1e-4
"""Scores of the validation may differ by this share."""
VIDEO = ["data.height=64", "data.width=96"]
RECIPES = {
    "selfsup": [*VIDEO, "model.pretrained=false"],
    "metric": [*VIDEO, "model.pretrained=false", "road.priors=roadworld"],
    "supervised": [*VIDEO, "model.network=dpt", "model.network.size=tiny"],
    "overlay": ["data.height=64", "data.width=64"],
    "objectpose": [],
}


def call(checkout: Path, folder: Path, *words: str) -> None:
    """Run `stadia WORDS` of a checkout, with a cache of its own."""
    environment = os.environ | {"PYTHONPATH": str(checkout.resolve() / "src"), "XDG_CACHE_HOME": str(folder / "cache")}
    command = [sys.executable, "-m", "stadia", *words]
    subprocess.run(command, env=environment, cwd=folder, check=True, capture_output=True)


def train(checkout: Path, folder: Path, recipe: str, keys: list[str], steps: int) -> list[dict[str, str]]:
    """Train a recipe for some steps; return the rows of its metrics.csv."""
    folder.mkdir(parents=True, exist_ok=True)
    words = [*keys, f"training.max_steps={steps}", "training.batch_size=2", "training.workers=0"]
    words += ["training.accelerator=cpu", "training.threads=1", "training.log_every=1"]
    if recipe not in ("overlay", "objectpose"):
        if not (folder / "world").exists():
            call(checkout, folder, "data", "roadworld", "--out", "world", "--preset", "tiny")
        words = ["--data", "world", *words]
    call(checkout, folder, "train", recipe, *words, "--out", f"runs-{recipe}")
    (run,) = (folder / f"runs-{recipe}").iterdir()
    with (run / "metrics.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def compare(before: list[dict[str, str]], after: list[dict[str, str]]) -> tuple[int, list[str], float]:
    """Return how many numbers were compared, the columns that differ or are missing, and the largest rounding."""
    compared, largest, wrong = 0, 0.0, set() if len(before) == len(after) else {"rows"}
    for old, new in zip(before, after, strict=False):
        for column, value in old.items():
            if any(part in column for part in MEASURED):
                continue
            compared += bool(value)
            found = new.get(column)
            if found == value:
                continue
            if not (found and value and column.startswith("val/")):
                wrong.add(column)
                continue
            difference = abs(float(found) - float(value)) / max(abs(float(value)), 1e-12)
            largest = max(largest, difference)
            if not difference <= MAX_ROUNDING:
                wrong.add(column)
    return compared, sorted(wrong), largest


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--before", type=Path, required=True, help="a checkout of the other version")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--before-words", nargs=2, action="append", default=[], metavar=("RECIPE", "WORDS"))
    arguments = parser.parse_args()
    other = {recipe: words.split() for recipe, words in arguments.before_words}
    result = {}
    with tempfile.TemporaryDirectory() as folder:
        for recipe, keys in RECIPES.items():
            name, *old_keys = other.get(recipe, [recipe, *keys])
            old_keys = [*VIDEO, *old_keys] if recipe in other else old_keys
            before = train(arguments.before, Path(folder) / "before", name, old_keys, arguments.steps)
            after = train(ROOT, Path(folder) / "after", recipe, keys, arguments.steps)
            compared, wrong, rounding = compare(before, after)
            result[recipe] = {"numbers": compared, "different": wrong, "rounding": rounding}
            print(
                f"{recipe:12} {compared} numbers, {', '.join(wrong) or 'all equal'}, rounding {rounding:.1e}",
                flush=True,
            )
    print(json.dumps(result))
    sys.exit(any(row["different"] for row in result.values()))


if __name__ == "__main__":
    main()
