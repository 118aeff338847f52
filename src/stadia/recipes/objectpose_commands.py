"""`stadia predict` and `stadia evaluate` of a trained `objectpose`."""

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
from stadia.core.files import inside
from stadia.core.types import Camera, Meta
from stadia.data.bop import BopImages
from stadia.data.bop_results import BopResult, boxes_of, write_results
from stadia.data.loader import Loader
from stadia.data.object_labels import ObjectImages
from stadia.data.object_samples import ObjectSamples
from stadia.data.object_sources import bop_of
from stadia.data.resize import resize_image
from stadia.evaluation.frames import Frame
from stadia.evaluation.object_files import ImageOfObjects, ObjectsFolder, resized_instances
from stadia.evaluation.object_padding import is_padded, padding_to
from stadia.evaluation.predictions import Provenance
from stadia.evaluation.watch import Watch
from stadia.geometry.numpy_camera import resized_K
from stadia.metrics.matching import best_pairs
from stadia.metrics.object_pose import Objects
from stadia.metrics.object_scores import Comparison
from stadia.recipes.asked import EvaluationAsked, PredictionAsked
from stadia.recipes.found_objects import FoundObjects, compare_images
from stadia.recipes.labeled_objects import COUNTED, objects_of, score_found
from stadia.recipes.object_inputs import open_object_inputs
from stadia.recipes.object_scoring import ObjectScore, image_name, score_of
from stadia.recipes.objectpose_config import ObjectPoseConfig
from stadia.recipes.scored_images import scored_images
from stadia.training.run import Run

T = TypeVar("T")
CSV = "bop.csv"
WORST = 8
"""Number of drawn images: those with the largest rotation errors; a missed object counts 180 degrees."""

_ONLY_DEPTH = {"motion": "aligned", "size": None, "protocol": "metric", "frames": None}


class TrainedObjectPose(Protocol):
    """What the commands need of a trained recipe: `ObjectPoseRecipe` imports this module, not the reverse."""

    config: ObjectPoseConfig
    classes: tuple[str, ...]

    def find(self, image: Tensor, camera: Camera) -> FoundObjects: ...

    def parameters(self) -> Iterator[Tensor]: ...


def refuse_depth_options(request: PredictionAsked | EvaluationAsked) -> None:
    """Raise ConfigError for options that were given and have no effect."""
    for name, unset in _ONLY_DEPTH.items():
        if getattr(request, name, unset) != unset:
            raise ConfigError(
                f"--{name}", found="given for a recipe of objects", expected="it for depth alone", fix="leave it out"
            )


@torch.inference_mode()
def found_in(task: TrainedObjectPose, frame: Frame) -> ImageOfObjects:
    """Find objects in one image of any size, in metres by its K. An image of another aspect ratio is padded."""
    data = task.config.data
    padding = padding_to(frame, data.height, data.width, data.pixel_ratio or 1.0)
    image, K = padding.image, padding.K
    size = image.shape[0], image.shape[1]
    device = next(task.parameters()).device
    seen = torch.from_numpy(resize_image(image, data.height, data.width)).to(device).permute(2, 0, 1)[None] / 255
    seen_K = torch.from_numpy(resized_K(K, size, data.height, data.width)).float().to(device)[None]
    found = task.find(seen, Camera(seen_K, data.height, data.width))
    instance = padding.cut(resized_instances(found.instance[0], *size))
    return ImageOfObjects(
        frame.name,
        frame.image,
        frame.K,
        instance,
        found.objects.to("cpu"),
        center_known=found.center_known.cpu().numpy(),
    )


def predict(task: TrainedObjectPose, request: PredictionAsked, watch: Watch) -> Iterator[str]:
    """Write the objects found in each image of an input; yield lines for people."""
    refuse_depth_options(request)
    data = task.config.data
    provenance, inputs = (
        Provenance.of(request.checkpoint),
        open_object_inputs(request.source, every=request.every, **request.options),
    )
    for one in inputs:
        given = one.given
        folder = ObjectsFolder(
            request.out if len(inputs) == 1 else inside(request.out, given.name), task.classes, provenance
        )
        results: list[BopResult] = []
        bop = bop_of(one.images) if one.images is not None else None
        own = bop if bop is not None and bop.classes == task.classes else None
        padded = 0
        with folder:
            for number, frame in enumerate(watch(given.frames, given.count, f"finding objects in {given.name}")):
                picture = found_in(task, frame)
                folder.add(picture)
                scene_id, im_id = bop.ids[number * one.every] if bop is not None else (0, number)
                results += _rows(picture.objects, scene_id, im_id, images=own, classes=task.classes)
                padded += is_padded(frame, data.height, data.width, data.pixel_ratio or 1.0)
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
    objects: Objects, scene_id: int, im_id: int, images: BopImages | None = None, classes: Sequence[str] = ()
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
    task: TrainedObjectPose, request: EvaluationAsked, run: Path, watch: Watch
) -> tuple[dict[str, Any], list[Path]]:
    """Score the objects found in a data set. Returns the summary to print, and the written files."""
    refuse_depth_options(request)
    chosen = scored_images(task.classes, task.config.data, request, run)
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
    bop = bop_of(images)
    of_csv = {} if bop is None else score_found(bop, boxes_of(results, bop))
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
        "objects counted": COUNTED,
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
    task: TrainedObjectPose, images: ObjectImages, folder: Path, provenance: Provenance, watch: Watch
) -> tuple[ObjectScore, list[BopResult]]:
    """Find and compare objects; for BOP data also return csv rows. Draw the worst images with true and found boxes."""
    data = task.config.data
    samples = ObjectSamples([images], height=data.height, width=data.width)
    device = next(task.parameters()).device
    loader = Loader(samples, batch_size=8, shuffle=False, device=device)
    compared: list[tuple[Meta, Comparison]] = []
    results: list[BopResult] = []
    bop = bop_of(images)
    for batch in watch(loader, len(loader), f"finding objects in {images.name}"):
        found = task.find(batch.inputs.image, batch.inputs.camera)
        compared += zip(batch.meta, compare_images(found, batch.targets), strict=True)
        if bop is not None:
            for row, meta in enumerate(batch.meta):
                objects = found.of_image(row).to("cpu")
                results += _rows(objects, *bop.ids[meta.index], images=bop, classes=task.classes)
    score = score_of(task.classes, compared)
    _draw_worst(task, images, score, folder, provenance)
    return score, results


def _draw_worst(
    task: TrainedObjectPose, images: ObjectImages, score: ObjectScore, folder: Path, provenance: Provenance
) -> None:
    """Draw the images with the largest rotation errors: found objects, and true ones below."""
    worst = sorted(score.images, key=lambda one: _largest_and_mean_error(one[1]), reverse=True)[:WORST]
    out = ObjectsFolder(folder / "worst", task.classes, provenance)
    for meta, _ in worst:
        image = images.image(meta.index)
        name = image_name(meta).replace("/", "-")
        found = found_in(task, Frame(name, image, images.camera(meta.index).K.double().numpy()))
        out.add(replace(found, true=objects_of(images.boxes(meta.index))))
    out.finish()


def _largest_and_mean_error(comparison: Comparison) -> tuple[float, float]:
    """Return the largest and mean rotation error, degrees, of objects matched by mask.

    A missed object counts 180; -1 without objects.
    """
    pairs = best_pairs(comparison.mask_iou, comparison.same_class)
    errors = [*comparison.rotation_deg[pairs.predicted, pairs.true].tolist(), *[180.0] * len(pairs.false_negatives)]
    return (max(errors), fmean(errors)) if errors else (-1.0, -1.0)
