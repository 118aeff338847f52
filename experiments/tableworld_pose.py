r"""Learn object pose on TableWorld, with unseen test shapes; compare rotation losses over seeds.

    python experiments/tableworld_pose.py --out runs/tableworld-pose
    python experiments/tableworld_pose.py --out runs/random --steps 300 --seeds 0 \
        --set model.encoder=regnetx_002 model.pretrained=false optimizer.lr=4e-3
    python experiments/tableworld_pose.py --score runs/tableworld-pose/RUN
    python experiments/tableworld_pose.py --out runs/rotation-losses --losses bounded_log squared_error:pixel \
        --seeds 0 1 2 --steps 1200

The first is the default of `stadia train objectpose` with data.tableworld=demo: --minutes of training (its steps are
measured first, so that the learning rate ends with the time), then the test tables with unseen shapes. The second
begins from random weights. The third scores an existing run, and writes nothing. The last one trains each loss from
each seed for the same --steps. NAME:pixel compares each pixel (`loss.rotation_of`), NAME the mean of an object. Only
per pixel is squared_error the baseline |q - q_true|^2: a mean has length 1, which leaves 2 - 2 |q . q_true|.

Prints the scores of each run, then each loss over its seeds and, seed by seed, its difference to the first one.

More than half of the objects on a table are bodies of revolution, of which the direction of one axis counts, and that
is mostly up. So beside the median of all found objects stand that without revolutions, and both for one constant
rotation per class on the same objects: the mean of the training's labels. The improvement over it is what the network
has learned.
"""

# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor
from torch.nn import functional as F

from stadia import training
from stadia.differentiable.batch import Meta
from stadia.differentiable.segments import quaternion_mean_by_segment
from stadia.evaluation.predictions_folder import Provenance
from stadia.geometry.poses import quaternion_conjugate, quaternion_multiply, quaternion_wxyz_from_matrix
from stadia.io.atomic_files import write_json
from stadia.io.input_files import replace_nan
from stadia.objectpose.boxes import Symmetry, symmetric_angle_deg
from stadia.objectpose.config import ObjectPoseConfig
from stadia.objectpose.data.object_labels import ObjectImages
from stadia.objectpose.data.object_samples import ObjectSamples, ObjectTargets
from stadia.objectpose.data.open_objects import open_object_images
from stadia.objectpose.metrics import ImageComparison, match_hungarian, matched_scores
from stadia.objectpose.network import ObjectMaps
from stadia.objectpose.recipe import ObjectPoseRecipe, compare_images, ground_truth_maps, group_pixels, image_objects
from stadia.objectpose.scores import ObjectScore, boxes_to_objects
from stadia.training import recipes
from stadia.training.loading.loader import Loader
from stadia.training.loop.checkpoint import open_checkpoint
from stadia.training.recipes.base.build_recipe import load_recipe

COMPARED = (
    "rotation_error_deg_median",
    "rotation_error_deg_median_without_revolutions",
    "rotation_error_deg_of_all",
    "ap_10deg_10cm",
)
TOLD = (
    "recall",
    "rotation_error_deg_median",
    "rotation_error_deg_of_all",
    "translation_error_cm_median",
    "iou_3d",
    "ap_5deg_5cm",
    "ap_10deg_10cm",
)


def steps_in(minutes: float, config: ObjectPoseConfig, tried: int = 12) -> int:
    """Return the number of steps in that time on this machine, without a tenth for loading and validation."""
    console = Console(stderr=True)
    settled, data = ObjectPoseRecipe.prepare(config, console)
    torch.manual_seed(0)
    if config.training.threads is not None:
        torch.set_num_threads(config.training.threads)
    recipe = ObjectPoseRecipe(settled)
    optimizer = torch.optim.AdamW(recipe.parameters(), lr=1e-4)
    data.train.set_position(0)
    times = []
    for number, batch in enumerate(data.train):
        started = time.perf_counter()
        recipe.training_step(batch).total.backward()
        optimizer.step()
        optimizer.zero_grad()
        times.append(time.perf_counter() - started)
        if number + 1 == tried:
            break
    return max(1, int(0.9 * 60 * minutes / statistics.median(times)))


# -- against a constant guess


@dataclass(frozen=True)
class Turned:
    """Found objects on which network and constant rotation are compared: (M,) each, errors in degrees."""

    revolution: Tensor
    error_deg: Tensor
    constant_error_deg: Tensor


def mean_rotation(quaternion: Tensor, symmetry: Symmetry, rounds: int = 10) -> Tensor:
    """Return the mean (4,) of labels (M, 4) of one class, each first turned by its symmetry to be nearest to the
    mean.
    """
    one_class = torch.zeros(len(quaternion), dtype=torch.long)
    mean = quaternion_mean_by_segment(quaternion, one_class, 1)[0]
    for _ in range(rounds):
        turned = quaternion_multiply(quaternion[:, None], symmetry.turns.to(quaternion))
        left = quaternion_multiply(quaternion_conjugate(turned), mean)
        w, y = torch.where(symmetry.revolution[:, None, None], left[..., 0::2], left.new_tensor([1.0, 0.0])).unbind(-1)
        about_y = F.normalize(torch.stack((w, 0 * w, y, 0 * y), -1), dim=-1)
        turned = quaternion_multiply(turned, about_y)
        nearest = (turned * mean).sum(-1).abs().argmax(1)
        mean = quaternion_mean_by_segment(turned[torch.arange(len(turned)), nearest], one_class, 1)[0]
    return mean


def constant_rotations(images: ObjectImages) -> Tensor:
    """Return one rotation per class, (C, 4), of the labels of a training; the identity for a class without any."""
    objects = boxes_to_objects([box for index in range(len(images)) for box in images.boxes(index)])
    quaternion = quaternion_wxyz_from_matrix(objects.T_camera_object[:, :3, :3].double())
    constant = torch.tensor([[1.0, 0, 0, 0]], dtype=torch.float64).repeat(len(images.classes), 1)
    for kind in sorted(set(objects.class_id.tolist())):
        rows = (objects.class_id == kind).nonzero()[:, 0]
        constant[kind] = mean_rotation(quaternion[rows], objects.symmetry[rows])
    return constant


def medians(turned: Turned) -> dict[str, Any]:
    """Return medians of network and constant, over all found objects and over those without revolution; None without
    objects.
    """
    scores: dict[str, Any] = {}
    for name, rows in (("", turned.revolution | True), ("_without_revolutions", ~turned.revolution)):
        scores[f"objects_found{name}"] = int(rows.sum())
        for of, errors in (("", turned.error_deg), ("_of_constant", turned.constant_error_deg)):
            key = f"rotation_error_deg_median{of}{name}"
            scores[key] = statistics.median(errors[rows].tolist()) if rows.any() else None
    return scores


def told_maps(maps: ObjectMaps, targets: ObjectTargets) -> dict[str, ObjectMaps]:
    """Return the maps with true classes, and with true directions: what is then found shows what limits the rest."""
    truth = ground_truth_maps(targets, maps.class_logits.shape[1])
    stride = truth.to_center.shape[-1] // maps.to_center.shape[-1]
    directions = truth.to_center[..., stride // 2 :: stride, stride // 2 :: stride]
    return {
        "classes": replace(maps, class_logits=truth.class_logits.to(maps.class_logits)),
        "directions": replace(maps, to_center=directions.to(maps.to_center)),
    }


@torch.inference_mode()
def scored(run: Path, data_path: Path) -> dict[str, Any]:
    """Score a trained run on the test tables, with a constant rotation beside it. Writes nothing."""
    recipe = load_recipe(run)
    assert isinstance(recipe, ObjectPoseRecipe)
    recipe.eval()
    data = recipe.config.data
    constant = constant_rotations(open_object_images(data_path, data.train_split, data.format))
    samples = ObjectSamples([open_object_images(data_path, "test", data.format)], height=data.height, width=data.width)
    compared: list[tuple[Meta, ImageComparison]] = []
    causes: dict[str, list[ImageComparison]] = {}
    turned: list[tuple[Tensor, Tensor, Tensor]] = []
    for batch in Loader(samples, batch_size=8, shuffle=False, device="cpu"):
        maps = recipe.network(batch.inputs.image)
        for name, told in told_maps(maps, batch.targets).items():
            of_told = group_pixels(recipe.network, told, batch.inputs.camera, recipe.config.detection)
            causes.setdefault(name, []).extend(compare_images(of_told, batch.targets))
        found_objects = group_pixels(recipe.network, maps, batch.inputs.camera, recipe.config.detection)
        comparisons = compare_images(found_objects, batch.targets)
        for picture, comparison in enumerate(comparisons):
            true = image_objects(batch.targets, picture)
            quaternion = quaternion_wxyz_from_matrix(true.T_camera_object[:, :3, :3].double())
            of_constant = symmetric_angle_deg(constant[true.class_id], quaternion, true.symmetry)
            pairs = match_hungarian(comparison.mask_iou, comparison.same_class)
            errors = torch.from_numpy(comparison.rotation_deg[pairs.predicted, pairs.true])
            turned.append((true.symmetry.revolution[pairs.true], errors, of_constant[pairs.true]))
        compared += zip(batch.meta, comparisons, strict=True)
    score = ObjectScore(recipe.classes, compared)
    metrics = replace_nan(score.metrics())  # NaN without a found object
    of_class = replace_nan({name: one["rotation_error_deg_median"] for name, one in score.per_class().items()})
    found = {
        "run": run.name,
        "checkpoint": Provenance.from_checkpoint(open_checkpoint(run)).checkpoint,
        **{name: metrics[name] for name in TOLD},
    }
    of_all = [entry.get("rotation_error_deg", 180.0) for entry in score.per_object()]  # a missed object counts 180
    found["rotation_error_deg_median_of_all"] = statistics.median(of_all)
    found |= {f"recall_with_true_{name}": matched_scores(images)["recall"] for name, images in causes.items()}
    return (
        found | medians(Turned(*map(torch.cat, zip(*turned, strict=True)))) | {"rotation_error_deg_median_of": of_class}
    )


# -- losses against each other


def words_of(loss: str) -> list[str]:
    """Return NAME or NAME:pixel, NAME:object, as words of the configuration."""
    name, _, of = loss.partition(":")
    return [f"loss.rotation.name={name}", f"loss.rotation_of={of or 'object'}", f"name={loss.replace(':', '-')}"]


def verdict(first: Sequence[float | None], other: Sequence[float | None]) -> str:
    """Return for the differences other - first, seed by seed: their mean, their standard deviation, and whether it
    is larger.
    """
    pairs = [
        (a, b) for a, b in zip(first, other, strict=True) if a is not None and b is not None and math.isfinite(a + b)
    ]
    if not pairs:
        return "no seed has both"
    differences = [b - a for a, b in pairs]
    mean = statistics.fmean(differences)
    if len(differences) == 1:
        return f"{mean:+.4g} of one seed: no spread, no verdict"
    spread = statistics.stdev(differences)
    larger = "larger than its spread" if abs(mean) > spread else "not larger than its spread"
    return f"{mean:+.4g}, spread {spread:.3g} over {len(differences)} seeds: {larger}"


def told_of(found: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Return lines: each loss over its seeds, then each against the first."""
    lines = []
    for loss, runs in found.items():
        for name in COMPARED:
            values = [float(run[name]) for run in runs if run[name] is not None and math.isfinite(run[name])]
            spread = f" +- {statistics.stdev(values):.3g}" if len(values) > 1 else ""
            lines.append(
                f"{loss}: {name} {statistics.fmean(values):.4g}{spread} over {len(values)} seeds"
                if values
                else f"{loss}: no {name}"
            )
    first, *others = found
    for loss in others:
        lines += [
            f"{loss} - {first}: {name} {verdict(*([run[name] for run in found[one]] for one in (first, loss)))}"
            for name in COMPARED
        ]
    return lines


def one(config: ObjectPoseConfig, out: Path) -> dict[str, Any]:
    """Train, and score the test tables."""
    started = time.perf_counter()
    run = training.train(config, out=out)
    trained_s = time.perf_counter() - started
    return {"trained_s": round(trained_s), **scored(run.folder, Path(str(run.facts.data["path"])))}


def main() -> None:
    """Print a line per run, then each loss over its seeds; write all of it into result.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    wanted = parser.add_mutually_exclusive_group(required=True)
    wanted.add_argument("--out", type=Path)
    wanted.add_argument("--score", type=Path, metavar="RUN", help="score this run; train nothing")
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--steps", type=int, help="instead of --minutes")
    parser.add_argument(
        "--losses", nargs="+", default=["bounded_log"], help="NAME or NAME:pixel, see `stadia parts rotation-losses`"
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--set", nargs="+", default=[], dest="words", metavar="KEY=VALUE", help="of the configuration")
    arguments = parser.parse_args()
    if arguments.score is not None:
        facts = json.loads((arguments.score / "run.json").read_text(encoding="utf-8"))
        print(json.dumps(scored(arguments.score, Path(facts["data"]["path"])), indent=2))
        return
    compare_losses(arguments)


def compare_losses(arguments: argparse.Namespace) -> None:
    """Train and score each loss from each seed, for the same steps."""
    words: list[str] = ["data.tableworld=demo", *arguments.words]
    configs = {
        loss: recipes.configure("objectpose", [*words, *words_of(loss)]) for loss in arguments.losses
    }  # refused before any trains
    base = next(iter(configs.values()))
    assert isinstance(base, ObjectPoseConfig)
    steps = arguments.steps or steps_in(arguments.minutes, base)
    print(f"{steps} steps of {base.training.batch_size} images", flush=True)
    found: dict[str, list[dict[str, Any]]] = {}
    for loss, of_loss in configs.items():
        for seed in arguments.seeds:
            given = [f"training.max_steps={steps}", f"seed={seed}", f"name={of_loss.name}-seed{seed}"]
            config = recipes.configure("objectpose", [*words, *words_of(loss), *given])
            assert isinstance(config, ObjectPoseConfig)
            found.setdefault(loss, []).append(one(config, arguments.out))
            print(loss, f"seed {seed}", json.dumps(found[loss][-1]), flush=True)
    print(*told_of(found), sep="\n")
    write_json(arguments.out / "result.json", {"steps": steps, "runs": found})


if __name__ == "__main__":
    main()
