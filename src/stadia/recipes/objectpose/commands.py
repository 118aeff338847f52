"""`stadia predict` and `stadia evaluate` of a trained `objectpose`, and scores of other programs on its held-out images."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any, Protocol, TypeVar

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor

from stadia.core.errors import ConfigError
from stadia.core.files import safe_join
from stadia.core.types import Camera, Meta, TrackProgress
from stadia.dataloading.loader import Loader
from stadia.dataloading.object_samples import ObjectSamples
from stadia.datasets.frame_store import resize_image
from stadia.datasets.objects.bop import BopImages
from stadia.datasets.objects.bop_results import BopResult, to_boxes, write_results
from stadia.datasets.objects.object_labels import EstimatedBox, ObjectImages
from stadia.datasets.objects.open_objects import open_object_images, unwrap_bop
from stadia.evaluation.io.object_predictions import ObjectPredictions, ObjectPredictionsWriter, resize_instances
from stadia.evaluation.io.predictions_folder import Provenance
from stadia.evaluation.predict.frame_preparation import Frame, needs_padding, pad_to_aspect
from stadia.geometry.numpy_camera import resize_K
from stadia.metrics.object_metrics import ImageComparison, PosedObjects, match_hungarian
from stadia.recipes.base.requests import EvaluateRequest, PredictRequest
from stadia.recipes.base.workflow import load_task
from stadia.recipes.objectpose.config import ObjectPoseConfig
from stadia.recipes.objectpose.data import ScoredImages, open_object_inputs, select_scored_images
from stadia.recipes.objectpose.object_detection import FoundObjects, compare_images
from stadia.recipes.objectpose.object_pose_scores import (
    COUNTED_OBJECTS,
    ObjectScore,
    boxes_to_objects,
    collect_score,
    image_name,
    read_estimates,
    score_estimates,
)
from stadia.training.checkpoint import Checkpoint
from stadia.training.run_folder import Run

# -- `stadia predict` and `stadia evaluate` of a trained `objectpose`.

T = TypeVar("T")
CSV = "bop.csv"
WORST_DRAWN = 8
"""Number of drawn images: those with the largest rotation errors; a missed object counts 180 degrees."""

_ONLY_DEPTH = {"motion": "aligned", "size": None, "protocol": "metric", "frames": None}


class TrainedObjectPose(Protocol):
    """What the commands need of a trained recipe: `ObjectPoseRecipe` imports this module, not the reverse."""

    config: ObjectPoseConfig
    classes: tuple[str, ...]

    def find(self, image: Tensor, camera: Camera) -> FoundObjects: ...

    def parameters(self) -> Iterator[Tensor]: ...


def refuse_depth_options(request: PredictRequest | EvaluateRequest) -> None:
    """Raise ConfigError for options that were given and have no effect."""
    for name, unset in _ONLY_DEPTH.items():
        if getattr(request, name, unset) != unset:
            raise ConfigError(
                f"--{name}", found="given for a recipe of objects", expected="it for depth alone", fix="leave it out"
            )


@torch.inference_mode()
def find_objects_in_frame(task: TrainedObjectPose, frame: Frame) -> ObjectPredictions:
    """Find objects in one image of any size, in metres by its K. An image of another aspect ratio is padded."""
    data = task.config.data
    padding = pad_to_aspect(frame, data.height, data.width, data.pixel_ratio or 1.0)
    image, K = padding.image, padding.K
    size = image.shape[0], image.shape[1]
    device = next(task.parameters()).device
    seen = torch.from_numpy(resize_image(image, data.height, data.width)).to(device).permute(2, 0, 1)[None] / 255
    seen_K = torch.from_numpy(resize_K(K, size, data.height, data.width)).float().to(device)[None]
    found = task.find(seen, Camera(seen_K, data.height, data.width))
    instance = padding.cut(resize_instances(found.instance[0], *size))
    return ObjectPredictions(
        frame.name,
        frame.image,
        frame.K,
        instance,
        found.objects.to("cpu"),
        center_known=found.center_known.cpu().numpy(),
    )


def predict(task: TrainedObjectPose, request: PredictRequest, watch: TrackProgress) -> Iterator[str]:
    """Write the objects found in each image of an input; yield lines for people."""
    refuse_depth_options(request)
    data = task.config.data
    provenance, inputs = (
        Provenance.of(request.checkpoint),
        open_object_inputs(request.source, every=request.every, **request.options),
    )
    for one in inputs:
        given = one.given
        folder = ObjectPredictionsWriter(
            request.out if len(inputs) == 1 else safe_join(request.out, given.name), task.classes, provenance
        )
        results: list[BopResult] = []
        bop = unwrap_bop(one.images) if one.images is not None else None
        own = bop if bop is not None and bop.classes == task.classes else None
        padded = 0
        with folder:
            for number, frame in enumerate(watch(given.frames, given.count, f"finding objects in {given.name}")):
                picture = find_objects_in_frame(task, frame)
                folder.add(picture)
                scene_id, im_id = bop.ids[number * one.every] if bop is not None else (0, number)
                results += _rows(picture.objects, scene_id, im_id, images=own, classes=task.classes)
                padded += needs_padding(frame, data.height, data.width, data.pixel_ratio or 1.0)
            write_results(folder.out / CSV, results)
            folder.finish()
        objects = sum(len(entry["objects"]) for entry in folder.entries)
        yield f"{folder.out}: {_plural(objects, 'object')} in {_plural(len(folder.entries), 'image')} of {given.name}"
        yield from (f"  {path.name}{'/' if path.is_dir() else ''}" for path in sorted(folder.out.iterdir()))
        if bop is not own:
            yield (
                "note: the data set's classes are not the run's: obj_id is the run's number of a class, the frame ours"
            )
        if padded:
            yield f"note: {_plural(padded, 'image')} of another shape than the training's: padded to it, not squeezed"
    yield "score: the mean probability of an object's class over its pixels; not how good its pose is"
    yield "metres by the camera that was given; a wrong focal length makes every distance wrong by the same factor"
    yield "note: nothing compares an image with those of the training: in one unlike them, what is found means little"


def _plural(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"


def _rows(
    objects: PosedObjects, scene_id: int, im_id: int, images: BopImages | None = None, classes: Sequence[str] = ()
) -> list[BopResult]:
    """Return rows of a BOP csv, in the frames of BOP's meshes if any, else in stadia's, numbered as classes."""
    rows = []
    by_name = {model.name: model for model in images.models.values()} if images is not None else {}
    for row in range(len(objects)):
        T, number = objects.T_camera_object[row].double().numpy(), int(objects.class_id[row])
        if by_name:
            model = by_name[classes[number]]
            T, number = T @ model.T_object_model, model.obj_id
        rows.append(BopResult(scene_id, im_id, number, float(objects.score[row]), T))
    return rows


# -- scores


def score_validation(task: TrainedObjectPose, images: ObjectImages, run: Run, console: Console) -> None:
    """Score the validation images after training: scores/val.json and predictions/val/."""

    def shown(items: Iterable[T], count: int | None, what: str) -> Iterable[T]:
        return track(items, what, total=count, console=console, transient=True, disable=not console.is_terminal)

    folder, provenance = run.folder / "predictions" / "val", Provenance.of(run.folder)
    shutil.rmtree(folder, ignore_errors=True)  # of this run before it was resumed
    score, _ = score_images(task, images, folder, provenance, shown)
    score.write(run.folder / "scores" / "val.json", {"checkpoint": provenance.checkpoint})


def evaluate(
    task: TrainedObjectPose, request: EvaluateRequest, run: Path, watch: TrackProgress
) -> tuple[dict[str, Any], list[Path]]:
    """Score the objects found in a data set. Returns the summary to print, and the written files."""
    refuse_depth_options(request)
    chosen = select_scored_images(task.classes, task.config.data, request, run)
    split, images = chosen.split, chosen.images
    in_run = (run / "run.json").is_file()
    if request.out is None and not in_run:
        found, expected = "a checkpoint outside a run's folder", "a folder for its predictions"
        raise ConfigError("--out", found=found, expected=expected, fix="pass --out DIR")
    name = f"{request.data.resolve().name}-{split}{request.suffix}"
    folder = request.out or run / "predictions" / name
    if request.out is None:
        shutil.rmtree(folder, ignore_errors=True)  # of the same images, by an earlier evaluation
    provenance = Provenance.of(request.checkpoint)
    score, results = score_images(task, images, folder, provenance, watch)
    written = [folder]
    if results:
        write_results(folder / CSV, results)
    about: dict[str, Any] = {"checkpoint": provenance.checkpoint, "data": str(request.data.resolve()), "split": split}
    bop = unwrap_bop(images)
    of_csv = {} if bop is None else score_estimates(bop, to_boxes(results, bop))
    about |= {"bop_csv": of_csv} if of_csv else {}
    about |= {"trained_on": chosen.trained_on, "of_trained_scenes": chosen.of_trained_scenes}
    scores = (run if in_run else folder) / "scores"
    written.append(score.write(scores / f"{name}.json", about))
    said = score.summary()
    known = {key: about[key] for key in ("split", "trained_on", "of_trained_scenes")}
    shown = {
        **known,
        "notes": list(chosen.notes),
        "images": said["images"],
        "objects counted": COUNTED_OBJECTS,
        **said["metrics"],
    }
    if of_csv:
        shown |= {
            CSV: {
                "as --objects scores it": {key: value for key, value in of_csv.items() if not isinstance(value, dict)}
            }
        }
    return {**shown, "class": said["per_class"], "as published": {"nocs_compat": said["nocs_compat"]}}, written


@torch.inference_mode()
def score_images(
    task: TrainedObjectPose, images: ObjectImages, folder: Path, provenance: Provenance, watch: TrackProgress
) -> tuple[ObjectScore, list[BopResult]]:
    """Find and compare objects; for BOP data also return csv rows. Draw the worst images with true and found boxes."""
    data = task.config.data
    samples = ObjectSamples([images], height=data.height, width=data.width)
    device = next(task.parameters()).device
    loader = Loader(samples, batch_size=8, shuffle=False, device=device)
    compared: list[tuple[Meta, ImageComparison]] = []
    results: list[BopResult] = []
    bop = unwrap_bop(images)
    for batch in watch(loader, len(loader), f"finding objects in {images.name}"):
        found = task.find(batch.inputs.image, batch.inputs.camera)
        compared += zip(batch.meta, compare_images(found, batch.targets), strict=True)
        if bop is not None:
            for row, meta in enumerate(batch.meta):
                objects = found.of_image(row).to("cpu")
                results += _rows(objects, *bop.ids[meta.index], images=bop, classes=task.classes)
    score = collect_score(task.classes, compared)
    _draw_worst(task, images, score, folder, provenance)
    return score, results


def _draw_worst(
    task: TrainedObjectPose, images: ObjectImages, score: ObjectScore, folder: Path, provenance: Provenance
) -> None:
    """Draw the images with the largest rotation errors: found objects, and true ones below."""
    worst = sorted(score.images, key=lambda one: _largest_and_mean_error(one[1]), reverse=True)[:WORST_DRAWN]
    out = ObjectPredictionsWriter(folder / "worst", task.classes, provenance)
    for meta, _ in worst:
        image = images.image(meta.index)
        name = image_name(meta).replace("/", "-")
        found = find_objects_in_frame(task, Frame(name, image, images.camera(meta.index).K.double().numpy()))
        out.add(replace(found, true=boxes_to_objects(images.boxes(meta.index))))
    out.finish()


def _largest_and_mean_error(comparison: ImageComparison) -> tuple[float, float]:
    """Return the largest and mean rotation error, degrees, of objects matched by mask.

    A missed object counts 180; -1 without objects.
    """
    pairs = match_hungarian(comparison.mask_iou, comparison.same_class)
    errors = [*comparison.rotation_deg[pairs.predicted, pairs.true].tolist(), *[180.0] * len(pairs.false_negatives)]
    return (max(errors), fmean(errors)) if errors else (-1.0, -1.0)


# -- `stadia evaluate --objects`: score the estimates of any program on a split, or on the held-out images of a run.


def score_results(results: Path, reference: Path, split: str | None, held_out_of: Path | None = None) -> dict[str, Any]:
    """Return the scores of results on a split (default "test"), or on the images that a run held out.

    The held-out images are those of `stadia evaluate RUN REFERENCE --held-out`; rows of other images are skipped with a
    note. Raises DataError, ConfigError, CheckpointError.
    """
    if held_out_of is None:
        split = split or "test"
        images = open_object_images(reference, split)
        return {"split": split, **score_estimates(images, read_estimates(images, results))}
    chosen = _held_out(reference, split, held_out_of)
    whole = open_object_images(reference, chosen.split)
    found = read_estimates(whole, results)
    files = [chosen.images.file(index) for index in range(len(chosen.images))]
    of_file = {whole.file(index): boxes for index, boxes in enumerate(found)}
    kept = [of_file[file] for file in files]
    notes = [
        *chosen.notes,
        f"{len(files)} of the {len(whole)} images of '{chosen.split}', those that {held_out_of} held out",
    ]
    if left := sum(map(len, found)) - sum(map(len, kept)):
        notes.append(f"{left} estimates of the other images are left out")
    return {"split": chosen.split, "notes": notes, **score_chosen(chosen.images, kept)}


def score_chosen(images: ObjectImages, found: list[list[EstimatedBox]]) -> dict[str, Any]:
    """Score estimates for selected images of a data set."""
    return score_estimates(unwrap_bop(images) or images, found)


def _held_out(reference: Path, split: str | None, run: Path) -> ScoredImages:
    task = load_task(run)
    if task.recipe != "objectpose":
        raise ConfigError(
            "--held-out-of", found=f"a run of '{task.recipe}'", expected="one of objectpose", fix="name another run"
        )
    options = {} if split is None else {"split": split}
    folder = Checkpoint.open(run).path.parent.parent
    request = EvaluateRequest(run, reference, options, held_out=True)
    return select_scored_images(task.config.data.classes, task.config.data, request, folder)
