"""Object pose from random weights on TableWorld, shapes never seen; and rotation losses against each other over seeds.

    python experiments/tableworld_pose.py --out runs/tableworld-pose
    python experiments/tableworld_pose.py --out runs/rotation-losses --losses bounded_log squared_error --seeds 0 1 2 --steps 1200

The first is the default of `stadia train objectpose`: --minutes of training (its steps are measured first, so that the learning rate
ends where the time does), then the test tables, none of whose shapes was seen. The second trains each loss from each seed for the same
--steps. Prints, for each run, the scores of the test tables and medians by class; then the mean and the spread over seeds.

Half of what stands on a table is a body of revolution, of which the direction of one axis counts: read the medians by class, too.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from stadia import recipes
from stadia.core.files import write_json
from stadia.evaluation.predictions import Provenance
from stadia.evaluation.watch import unwatched
from stadia.recipes.asked import EvaluationAsked
from stadia.recipes.objectpose import ObjectPoseRecipe
from stadia.recipes.objectpose_config import ObjectPoseConfig
from stadia.recipes.workflow import load_task

TOLD = ("recall", "rotation_error_deg_median", "rotation_error_deg_of_all", "translation_error_cm_median", "iou_3d", "ap_10deg_10cm")


def steps_in(minutes: float, config: ObjectPoseConfig, tried: int = 12) -> int:
    """How many steps this machine does in that time, loading and validating left out of a tenth of it."""
    console = Console(stderr=True)
    settled, data = ObjectPoseRecipe.prepare(config, console)
    torch.manual_seed(0)
    if config.training.threads is not None:
        torch.set_num_threads(config.training.threads)
    task = ObjectPoseRecipe(settled)
    optimiser = torch.optim.AdamW(task.parameters(), lr=1e-4)
    data.train.set_position(0)
    times = []
    for number, batch in enumerate(data.train):
        started = time.perf_counter()
        task.step(batch).total.backward()
        optimiser.step()
        optimiser.zero_grad()
        times.append(time.perf_counter() - started)
        if number + 1 == tried:
            break
    return max(1, int(0.9 * 60 * minutes / statistics.median(times)))


def one(config: ObjectPoseConfig, out: Path) -> dict[str, Any]:
    """Train, and score the test tables."""
    started = time.perf_counter()
    run = recipes.train(config, out=out)
    trained_s = time.perf_counter() - started
    task, path = load_task(run.folder), Path(str(run.facts["data"]["path"]))  # type: ignore[index]
    asked = EvaluationAsked(run.folder, path, {"split": "test"})
    scores, _ = task.evaluate(asked, run.folder, unwatched, lambda *_: None)
    medians = {name: of_class["rotation_error_deg_median"] for name, of_class in scores["class"].items()}
    made_by = Provenance.of(run.folder).checkpoint
    told = {name: scores[name] for name in TOLD}
    return {"run": run.folder.name, "checkpoint": made_by, "trained_s": round(trained_s), **told, "rotation_error_deg_median_of": medians}


def main() -> None:
    """Print a line a run, then each loss over its seeds; all of it into result.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--steps", type=int, help="instead of --minutes")
    parser.add_argument("--losses", nargs="+", default=["bounded_log"], help="rotation losses, see `stadia parts rotation-losses`")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--set", nargs="+", default=[], dest="words", metavar="KEY=VALUE", help="of the configuration")
    arguments = parser.parse_args()
    words = ["model.pretrained=false", *arguments.words]
    base = recipes.configure("objectpose", words)
    assert isinstance(base, ObjectPoseConfig)
    steps = arguments.steps or steps_in(arguments.minutes, base)
    print(f"{steps} steps of {base.training.batch_size} pictures", flush=True)
    found: dict[str, list[dict[str, Any]]] = {}
    for loss in arguments.losses:
        for seed in arguments.seeds:
            given = [*words, f"training.max_steps={steps}", f"seed={seed}", f"loss.rotation.name={loss}", f"name={loss}-seed{seed}"]
            config = recipes.configure("objectpose", given)
            assert isinstance(config, ObjectPoseConfig)
            found.setdefault(loss, []).append(one(config, arguments.out))
            print(loss, f"seed {seed}", json.dumps(found[loss][-1]), flush=True)
    for loss, runs in found.items():
        for name in ("rotation_error_deg_median", "rotation_error_deg_of_all", "ap_10deg_10cm"):
            values = [float(run[name]) for run in runs if run[name] is not None]
            spread = f" +- {statistics.stdev(values):.3g}" if len(values) > 1 else ""
            print(f"{loss}: {name} {statistics.fmean(values):.4g}{spread} over {len(values)} seeds" if values else f"{loss}: no {name}")
    write_json(arguments.out / "result.json", {"steps": steps, "runs": found})


if __name__ == "__main__":
    main()
