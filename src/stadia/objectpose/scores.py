"""Scores of estimated object poses: average precision, ADD(-S) recall, and errors per class and per object."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stadia.core.errors import ConfigError, DataError
from stadia.data.frame_selection import spread_indices
from stadia.differentiable.batch import Meta
from stadia.evaluation.recording_scores import write_score
from stadia.io.image_io import write_image
from stadia.io.input_files import replace_nan, safe_join
from stadia.objectpose.boxes import Symmetry
from stadia.objectpose.data.bop import TARGETS_FILE, BopImages, read_results, to_boxes
from stadia.objectpose.data.bop_models import BopModel
from stadia.objectpose.data.object_folder import KittiObjectImages
from stadia.objectpose.data.object_labels import EstimatedBox, ObjectBox, ObjectImages, Points
from stadia.objectpose.data.open_objects import BOX_FORMATS, detect_object_format, open_object_images
from stadia.objectpose.metrics import (
    NOCS_COMPAT_RULES,
    BoolArray,
    ImageComparison,
    PosedObjects,
    add_m,
    add_s_m,
    compare_objects,
    match_greedy,
    match_hungarian,
    matched_scores,
    mean_average_precisions,
)
from stadia.objectpose.predictions import ObjectPredictions, draw_objects

ADD_THRESHOLD = 0.1  # threshold as a share of the diameter (Hinterstoisser et al., ACCV 2012)


def distance_m(model: BopModel, T_estimated: Points, T_true: Points) -> float:
    """Return the distance in metres between a model in two poses: ADD, or ADD-S if the model is symmetric.

    model: mesh of the object and its symmetry.
    T_estimated: (4, 4) estimated pose, from object to camera coordinates.
    T_true: (4, 4) true pose.
    """
    given = torch.from_numpy(T_estimated), torch.from_numpy(T_true), torch.from_numpy(model.vertices_m)
    return float(add_m(*given) if model.symmetry == "none" else add_s_m(*given))


def add_recall(images: BopImages, found: Sequence[Sequence[EstimatedBox]]) -> dict[str, Any]:
    """Return the ADD(-S) recall: the share of instances with an ADD(-S) below a tenth of the diameter.

    For each object of an image, as many estimates count as instances are requested, those with the highest scores
    first. The result has the entries "targets" (number of requested instances), "add_recall" (None without targets),
    "add_median_mm" (median ADD(-S) in millimetres, or None without estimates), and "class" (recall by class name).

    images: the BOP images with true poses.
    found: for each image, the estimated boxes with their scores.
    """
    right: dict[str, list[bool]] = {}
    distances: list[float] = []
    for index, boxes in enumerate(found):
        for obj_id, count in images.requested_counts(index).items():
            model = images.models[obj_id]
            class_id = images.classes.index(model.name)
            estimates = sorted((one for one in boxes if one[0].class_id == class_id), key=lambda one: -one[1])[:count]
            true = [T for other, T in images.poses(index) if other.obj_id == obj_id]
            distances_m = [[distance_m(model, box.T_camera_object, T) for T in true] for box, _ in estimates]
            of_pair = np.array(distances_m).reshape(len(estimates), len(true))
            score = np.array([score for _, score in estimates])
            taken = int((match_greedy(of_pair, of_pair < ADD_THRESHOLD * model.diameter_m, score) >= 0).sum())
            right.setdefault(model.name, []).extend([True] * taken + [False] * (count - taken))
            distances += of_pair.min(1).tolist()
    every = [one for of_class in right.values() for one in of_class]
    return {
        "targets": len(every),
        "add_recall": fmean(every) if every else None,
        "add_median_mm": 1000 * median(distances) if distances else None,
        "class": {name: {"add_recall": fmean(right[name])} for name in sorted(right)},
    }


@dataclass(frozen=True)
class ObjectScore:
    """Comparisons of images with the ground truth, and their scores.

    classes: names of the classes, background first.
    images: comparison of each image.
    """

    classes: Sequence[str]
    images: Sequence[tuple[Meta, ImageComparison]]

    def metrics(self) -> dict[str, float]:
        """Return the errors and recalls of objects with matched masks, and average precisions, over all objects."""
        comparisons = [comparison for _, comparison in self.images]
        return matched_scores(comparisons) | mean_average_precisions(comparisons, range(1, len(self.classes)))

    def per_class(self) -> dict[str, dict[str, float]]:
        """Return the number of objects, the recall and the median errors of each class that occurs."""
        found, columns = {}, ("objects", "recall", "rotation_error_deg_median", "translation_error_cm_median")
        for number, name in enumerate(self.classes):
            parts = [
                comparison.part(
                    np.flatnonzero(comparison.class_id == number), np.flatnonzero(comparison.true_class_id == number)
                )
                for _, comparison in self.images
            ]
            if any(len(part.true_class_id) for part in parts):
                scores = matched_scores(parts)
                found[name] = {key: scores[key] for key in columns}
        return found

    def per_object(self) -> list[dict[str, Any]]:
        """Return an entry for each true object: whether it was missed, and otherwise its errors."""
        entries = []
        for meta, comparison in self.images:
            pairs = match_hungarian(comparison.mask_iou, comparison.same_class)
            partner = dict(zip(pairs.true.tolist(), pairs.predicted.tolist(), strict=True))
            for column, kind in enumerate(comparison.true_class_id.tolist()):
                entry: dict[str, Any] = {
                    "name": f"{image_name(meta)}, {self.classes[kind]} {column + 1}",
                    "missed": column not in partner,
                }
                if column in partner:
                    at = partner[column], column
                    entry |= {"rotation_error_deg": float(comparison.rotation_deg[at])}
                    entry |= {"translation_error_cm": float(comparison.translation_cm[at])}
                    entry |= {"iou_3d": float(comparison.iou[at]), "mask_iou": float(comparison.mask_iou[at])}
                entries.append(entry)
        return entries

    def summary(self) -> dict[str, Any]:
        """Return all numbers except the list of objects; NaN becomes null."""
        comparisons = [comparison for _, comparison in self.images]
        published = mean_average_precisions(comparisons, range(1, len(self.classes)), NOCS_COMPAT_RULES)
        parts = {"metrics": self.metrics(), "nocs_compat": published} | {"per_class": self.per_class()}
        return {"images": len(self.images), **{name: replace_nan(part) for name, part in parts.items()}}

    def write(self, path: Path, about: dict[str, Any]) -> Path:
        """Write the score file, including all objects."""
        write_score(path, {**about, **self.summary(), "per_object": self.per_object()})
        return path


def image_name(meta: Meta) -> str:
    """Return folder and file of an image, for messages."""
    if meta.file is None:
        return f"{meta.recording} {meta.index}"
    folder = meta.file.parent
    scene = folder.parent if folder.name in ("image", "image_2", "rgb", "gray") else folder
    return f"{scene.name}/{meta.file.stem}"


def boxes_to_objects(boxes: Sequence[ObjectBox], scores: Sequence[float] | None = None) -> PosedObjects:
    """Convert labeled or estimated boxes to PosedObjects, the tensors that metrics and drawings take.

    boxes: class, pose, size and symmetry of each object.
    scores: score of each box; None gives every box the score 1.
    """
    return PosedObjects(
        torch.tensor([one.class_id for one in boxes], dtype=torch.int64),
        torch.from_numpy(np.array([one.T_camera_object for one in boxes]).reshape(-1, 4, 4)),
        torch.from_numpy(np.array([one.size_m for one in boxes]).reshape(-1, 3)),
        Symmetry.parse([one.symmetry for one in boxes]),
        torch.ones(len(boxes)) if scores is None else torch.tensor(scores, dtype=torch.float64),
    )


def draw_image_labels(images: ObjectImages, index: int, *, masks: bool = True) -> NDArray[np.uint8]:
    """Return an image (H, W, 3) RGB with its labels: boxes, axes, classes and masks."""
    image, K = images.image(index), images.camera(index).K
    if not masks:
        return draw_objects(image, K, boxes_to_objects(images.boxes(index)), images.classes)
    labels = images.labels(index)
    visible = np.array([one.visible_px > 0 for one in labels.objects], bool)
    number = np.concatenate(([0], np.where(visible, visible.cumsum(), 0)))
    shown = boxes_to_objects([one for one in labels.objects if one.visible_px])
    return ObjectPredictions("", image, K, number[labels.instance.clip(0)], shown).drawn(images.classes, scores=False)


def draw_labels(path: Path, split: str, out: Path, most: int, format: str = "auto") -> Iterator[Path]:
    """Draw up to `most` images of a split, evenly spaced, and yield each file. Raises DataError or ConfigError."""
    images = open_object_images(path, split, format)
    masks = (detect_object_format(path) if format == "auto" else format) not in BOX_FORMATS
    for index in spread_indices(len(images), most):
        name = image_name(Meta(images.name, index, file=images.file(index))).replace("/", "-")
        file = safe_join(out, f"{name}.png")
        write_image(file, draw_image_labels(images, index, masks=masks)[..., ::-1])
        yield file


def read_estimates(images: ObjectImages, results: Path) -> list[list[EstimatedBox]]:
    """Read another program's estimates for each image: a BOP csv, or a folder of KITTI label files.

    Raises DataError for a wrong file.
    """
    if isinstance(images, BopImages):
        rows, unit = read_results(results), "millimetres"
        found, poses = to_boxes(rows, images, results), [one.T_camera_model for one in rows]
        true = [T @ model.T_object_model for index in range(len(images)) for model, T in images.poses(index)]
    elif isinstance(images, KittiObjectImages):
        found, unit = images.results(results), "metres"
        poses = [box.T_camera_object for of_image in found for box, _ in of_image]
        true = [box.T_camera_object for index in range(len(images)) for box in images.boxes(index)]
    else:
        expected = "results for a BOP or KITTI dataset"
        raise ConfigError("--objects", found=f"results for {images.name}", expected=expected)
    if not poses:
        raise DataError(results, found="no estimate in any file", expected="at least one")
    _check_unit(results, poses, true, unit)
    return found


MAX_DISTANCE_RATIO = 50.0  # maximum ratio of median distances to the labels: a wrong unit gives a factor of a thousand


def _check_unit(results: Path, found: Sequence[Points], true: Sequence[Points], unit: str) -> None:
    if not len(true):
        return
    estimated_m, there = (float(np.median([np.linalg.norm(T[:3, 3]) for T in Ts])) for Ts in (found, true))
    if there / MAX_DISTANCE_RATIO < estimated_m < there * MAX_DISTANCE_RATIO:
        return
    factor = {"millimetres": 1000, "metres": 1}[unit]
    short, long = {"millimetres": ("metres", "micrometres"), "metres": ("kilometres", "millimetres")}[unit]
    seems, fix = (short, "multiply t by 1000") if estimated_m < there else (long, "divide t by 1000")
    origin = f", in {seems} it seems"
    ratio = there / max(estimated_m, 1e-12)
    if abs(math.log10(max(ratio, 1 / ratio)) - 3) > 0.5:
        origin, fix = "", f"multiply t by {ratio:.3g}: poses need a unit of length"
    raise DataError(
        results,
        found=f"objects {estimated_m * factor:.3g} {unit} away in the median{origin}",
        expected=f"t in {unit}: the labels' are {there * factor:.3g} away",
        fix=fix,
    )


COUNTED_OBJECTS = "objects with a visible pixel"


def score_estimates(images: ObjectImages, found: Sequence[Sequence[EstimatedBox]]) -> dict[str, Any]:
    """Return the average precisions of the estimates over the visible labeled objects; for BOP also `add_recall`.

    If a BOP benchmark lists targets, only these count. An estimate without a label is a false alarm, unless it overlaps
    most with an invisible object. KITTI's levels of difficulty and its unlabeled regions are not applied.
    """
    compared, targets = [], images.targets if isinstance(images, BopImages) else None
    for index, of_image in enumerate(found):
        predicted = boxes_to_objects([box for box, _ in of_image], [score for _, score in of_image])
        if not isinstance(images, BopImages):
            compared.append(_compare_all(images.file(index), predicted, images.boxes(index)))
        elif targets is None:
            labels = images.labels(index).objects
            is_shown = np.array([one.visible_px > 0 for one in labels], bool)
            compared.append(_compare_some(images.file(index), predicted, labels, is_shown))
        elif images.requested_counts(index):
            compared.append(_compare_targets(images, index, predicted))
    true = np.concatenate([np.zeros(0, np.int64), *(one.true_class_id for one in compared)])
    classes = range(1, len(images.classes))
    of_class: dict[str, dict[str, Any]] = {}
    for number in filter(lambda number: (true == number).any(), classes):
        precisions = mean_average_precisions(compared, [number])
        shown = {name: value for name, value in precisions.items() if name.startswith("ap_iou")}
        of_class[images.classes[number]] = {"objects": int((true == number).sum()), **shown}
    of_models = add_recall(images, found) if isinstance(images, BopImages) else {"class": {}}
    for name, scores in of_models.pop("class").items():
        of_class.setdefault(name, {}).update(scores)
    return {
        "images": len(compared),
        "objects": len(true),
        "objects counted": COUNTED_OBJECTS if targets is None else f"those listed in {TARGETS_FILE}",
        "estimates": sum(len(one.class_id) for one in compared),
        **of_models,
        **replace_nan(mean_average_precisions(compared, classes)),
        "class": of_class,
        "as published": {"nocs_compat": replace_nan(mean_average_precisions(compared, classes, NOCS_COMPAT_RULES))},
    }


def _compare_targets(images: BopImages, index: int, predicted: PosedObjects) -> ImageComparison:
    """Compare with the targets of a benchmark: as many instances of each class as listed, the most visible first."""
    labels = images.labels(index).objects
    count = {
        images.classes.index(images.models[number].name): n for number, n in images.requested_counts(index).items()
    }
    is_target = np.zeros(len(labels), bool)
    most_visible = sorted(range(len(labels)), key=lambda row: -labels[row].visible_px)
    for class_id, n in count.items():
        is_target[[row for row in most_visible if labels[row].class_id == class_id][:n]] = True
    return _compare_some(images.file(index), predicted, labels, is_target, list(count))


# Largest number of combinations of estimate, object and rotation of its symmetry in an image: 20 s.
_MAX_PAIRS = 400_000


def _compare_all(file: Path, predicted: PosedObjects, labels: Sequence[ObjectBox]) -> ImageComparison:
    true = boxes_to_objects(labels)
    turns = true.symmetry.turns.shape[-2]
    if len(predicted) * len(true) * turns > _MAX_PAIRS:
        found = f"{len(predicted)} estimates, and {len(true)} objects with {turns} rotations of a symmetry"
        fix = "keep the estimates with the highest scores"
        raise DataError(file, found=found, expected=f"at most {_MAX_PAIRS} of all three multiplied", fix=fix)
    return compare_objects(predicted, true)


def _compare_some(
    file: Path,
    predicted: PosedObjects,
    labels: Sequence[ObjectBox],
    some: BoolArray,
    classes: Sequence[int] | None = None,
) -> ImageComparison:
    """Compare with `some` (G,) objects; ignore estimates that overlap most with others or have other `classes`."""
    whole = _compare_all(file, predicted, labels)
    kept = whole.iou[:, ~some].max(1, initial=0) <= whole.iou[:, some].max(1, initial=0)
    if classes is not None:
        kept &= np.isin(whole.class_id, classes)
    return whole.part(np.flatnonzero(kept), np.flatnonzero(some))
