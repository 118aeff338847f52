"""Break trainings on purpose, as people break them, and list what the monitors report. Ten minutes on one core.

    python experiments/broken_trainings.py [--only TEXT] [--out TABLE.md]

Each is the training of `stadia demo` for `selfsup` on small images for 280 steps, once intact and then with one error:
in a setting, in the loader's data, in the model, or in the loss. The monitors read the values of the broken training
itself. Preflight and loss checks do not take part: the error is not in the data, or is inserted after them.

Two errors are left out. K of twice the size for all cameras: a pair then gives depth of twice the size, which fits as
well, and the loss checks report K20. A motion that is inverted as it leaves the networks: loss and validation get the
same values and are correct, and no finding reports that odometry, which uses the pose network itself, runs backwards.

Prints for each all findings of the training, by code and step, and what `stadia diagnose` names first. "caught": one
of the codes of this failure was reported, and the first to fix is one of them. Exits with 1 if one is missed, or if
the intact training has a finding.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from unittest import mock

import stadia.differentiable.torchvision_operators  # noqa: F401

# isort: split
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from harness import TINY_NETWORK

from stadia import training
from stadia.core.types import Camera
from stadia.data.config import CacheConfig
from stadia.differentiable.batch import Batch, Prediction
from stadia.geometry.poses import invert_pose
from stadia.io.atomic_files import write_text
from stadia.judge.catalog import find_root_cause
from stadia.judge.finding import Finding, OnStop, Severity, Stage, read_valid_findings
from stadia.losses.loss_report import LossReport
from stadia.networks.pose_net import DepthPoseNet
from stadia.synthetic.roadworld.roadworld_writer import render_demo_worlds
from stadia.training import recipes
from stadia.training.recipes.presets import preset_overrides
from stadia.training.recipes.selfsup.recipe import SelfsupRecipe

SMALL = (
    *(
        "data.height=64",
        "data.width=192",
        "training.max_steps=280",
        "training.batch_size=4",
        "training.validate_every=70",
    ),
    *("training.workers=0", "training.threads=1", "training.log_every=4", "training.images_every=0"),
    *TINY_NETWORK,
)
Patch = Callable[[], "mock._patch[Callable]"]


@dataclass(frozen=True)
class Broken:
    """codes: that name it; none for the intact one.  words: of its configuration.  patch: of the package, like a bug
    in it.
    """

    codes: tuple[str, ...]
    words: tuple[str, ...] = ()
    patch: Patch | None = None


def batches(change: Callable[[Batch], Batch]) -> Patch:
    """Change every training batch."""
    step = SelfsupRecipe.training_step
    return lambda: mock.patch.object(SelfsupRecipe, "training_step", lambda recipe, batch: step(recipe, change(batch)))


def validations(change: Callable[[Batch], Batch]) -> Patch:
    """Change every validation batch."""
    validate = SelfsupRecipe.validation_step
    return lambda: mock.patch.object(
        SelfsupRecipe, "validation_step", lambda recipe, batch: validate(recipe, change(batch))
    )


def change_predictions(change: Callable[[Batch, Prediction], Prediction]) -> Patch:
    """Change the predictions of the networks."""
    forward = DepthPoseNet.forward
    return lambda: mock.patch.object(DepthPoseNet, "forward", lambda model, batch: change(batch, forward(model, batch)))


def reports(change: Callable[[LossReport], LossReport]) -> Patch:
    """Change the report of the loss."""
    step = SelfsupRecipe.training_step
    return lambda: mock.patch.object(SelfsupRecipe, "training_step", lambda recipe, batch: change(step(recipe, batch)))


def with_sources(batch: Batch, change: Callable[[Tensor], Tensor]) -> Batch:
    inputs, targets = batch.inputs, batch.targets
    return replace(
        batch,
        inputs=replace(inputs, sources=change(inputs.sources)),
        targets=replace(targets, sources=change(targets.sources)),
    )


def with_rig(batch: Batch, change: Callable[[Tensor], Tensor]) -> Batch:
    return replace(batch, inputs=replace(batch.inputs, T_source_target_rig=change(batch.inputs.T_source_target_rig)))


def with_true_motion(batch: Batch, change: Callable[[Tensor], Tensor]) -> Batch:
    return replace(
        batch, targets=replace(batch.targets, T_source_target_true=change(batch.targets.T_source_target_true))
    )


def with_K_of_sources(batch: Batch, times: float) -> Batch:
    def larger(camera: Camera) -> Camera:
        K = camera.K.clone()
        K[..., :2, :] *= times
        return Camera(K, camera.height, camera.width)

    return replace(batch, targets=replace(batch.targets, source_camera=larger(batch.targets.source_camera)))


def depth_detached(batch: Batch, prediction: Prediction) -> Prediction:
    return replace(prediction, inverse_depth=tuple(one.detach() for one in prediction.inverse_depth))


def times_nothing(report: LossReport) -> LossReport:
    return replace(report, total=0 * report.total, terms={name: 0 * term for name, term in report.terms.items()})


TRAININGS: dict[str, Broken] = {
    "intact": Broken(()),
    "the sources are those of another sample": Broken(
        ("S20",), patch=batches(lambda b: with_sources(b, lambda x: x.roll(1, 0)))
    ),
    "the rig's transform is inverted": Broken(("S20", "S22"), patch=batches(lambda b: with_rig(b, invert_pose))),
    "K of the sources is that of twice the size": Broken(
        ("S20", "S22", "S23"), patch=batches(lambda b: with_K_of_sources(b, 2.0))
    ),
    "depth is detached": Broken(("L20", "T10"), patch=change_predictions(depth_detached)),
    "the true motion is inverted": Broken(("P20",), patch=validations(lambda b: with_true_motion(b, invert_pose))),
    "the loss is multiplied by 0": Broken(("T10",), patch=reports(times_nothing)),
    "the rate is 300 times too high": Broken(("T02", "T08", "T01"), ("optimizer.lr=0.3",)),
    "the rate is next to nothing": Broken(("T15",), ("optimizer.lr=1e-10",)),
    "no depth beyond 2 m": Broken(
        ("M22", "S20"),
        ("model.network.min_depth_m=0.1", "model.network.max_depth_m=2", "model.network.init_depth_m=0.5"),
    ),
    "smoothness is all": Broken(("R20", "M20"), ("loss.smoothness=100",)),
    "the pose network's translation is next to nothing": Broken(("P21",), ("model.translation_scale=1e-7",)),
}


@contextmanager
def broken_by(patch: Patch | None) -> Iterator[None]:
    if patch is None:
        yield
        return
    with patch():
        yield


def run_training(one: Broken, folder: Path) -> list[Finding]:
    """Return all findings of the training, in order."""
    config = recipes.configure(
        "selfsup",
        (*preset_overrides("demo"), *SMALL, *one.words),
        data={"path": str(render_demo_worlds(CacheConfig()))},
    )
    with broken_by(one.patch):
        try:
            training.train(config, out=folder, on_stop=OnStop.HALT)
        except Exception as error:  # what halts a training is among its findings
            print(f"    halted: {error}", file=sys.stderr)
    (run,) = folder.iterdir()
    return [found for found in read_valid_findings(run / "findings.jsonl")[0] if found.stage is Stage.TRAINING]


def judged(one: Broken, found: list[Finding]) -> tuple[str, str]:
    """Return the verdict, and the first finding to fix."""
    first = find_root_cause(found).first
    named = first.code if first else "nothing"
    if not one.codes:
        return ("false alarm" if any(each.severity is not Severity.NOTE for each in found) else "no finding"), named
    if not any(each.code in one.codes for each in found):
        return "missed", named
    return ("detected" if named in one.codes else "reported, another first"), named


def main(only: str, out: Path | None) -> int:
    """Print the table and a line of JSON; return the exit status."""
    lines = ["| broken | names it | reported, at step | first to mend | |", "|---|---|---|---|---|"]
    print("\n".join(lines), flush=True)
    verdicts = {}
    for name, one in TRAININGS.items():
        if only not in name:
            continue
        with tempfile.TemporaryDirectory() as folder:
            found = run_training(one, Path(folder))
        verdicts[name], first = judged(one, found)
        reported = ", ".join(f"{each.code} ({each.evidence.get('step', '')})" for each in found) or "nothing"
        lines.append(f"| {name} | {' or '.join(one.codes) or '-'} | {reported} | {first} | {verdicts[name]} |")
        print(lines[-1], flush=True)
    passed = not {"missed", "false alarm"} & set(verdicts.values())
    lines.append(json.dumps({"passed": passed, "seed": 0, "threads": 1, "verdicts": verdicts}))
    print(lines[-1])
    if out is not None:
        write_text(out, "\n".join([*lines[:-1], "", lines[-1], ""]))
    return 0 if passed and verdicts else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="TEXT", help="what has this in its name")
    parser.add_argument("--out", type=Path, help="write the table there as well")
    arguments = parser.parse_args()
    sys.exit(main(arguments.only, arguments.out))
