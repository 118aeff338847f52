"""Labels of objects without a network: draw them, and score the estimates of other programs against them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stadia.core.errors import ConfigError, DataError
from stadia.core.files import inside
from stadia.core.types import Meta
from stadia.data.bop import TARGETS, BopImages
from stadia.data.bop_results import boxes_of, read_results
from stadia.data.kitti_object import KittiObjectImages
from stadia.data.object_labels import EstimatedBox, ObjectBox, ObjectImages, Points
from stadia.data.object_sources import BOXES_ALONE, format_of, open_object_images
from stadia.evaluation.object_drawings import draw_objects
from stadia.evaluation.object_files import ImageOfObjects, write_image
from stadia.geometry.symmetry import Symmetry
from stadia.metrics.matching import Truth
from stadia.metrics.object_pose import Objects
from stadia.metrics.object_scores import NOCS_COMPAT, Comparison, average_precisions, compare
from stadia.recipes.bop_recall import add_recall
from stadia.recipes.object_scoring import image_name, known


def objects_of(boxes: Sequence[ObjectBox], scores: Sequence[float] | None = None) -> Objects:
    """Convert boxes for metrics and drawings; scores default to 1."""
    return Objects(
        torch.tensor([one.class_id for one in boxes], dtype=torch.int64),
        torch.from_numpy(np.array([one.T_camera_object for one in boxes]).reshape(-1, 4, 4)),
        torch.from_numpy(np.array([one.size_m for one in boxes]).reshape(-1, 3)),
        Symmetry.of([one.symmetry for one in boxes]),
        torch.ones(len(boxes)) if scores is None else torch.tensor(scores, dtype=torch.float64),
    )


def drawn_labels(images: ObjectImages, index: int, *, masks: bool = True) -> NDArray[np.uint8]:
    """Draw an image (H, W, 3) RGB with its labels: boxes, axes, classes and masks."""
    image, K = images.image(index), images.camera(index).K.double().numpy()
    if not masks:
        return draw_objects(image, K, objects_of(images.boxes(index)), images.classes)
    labels = images.labels(index)
    seen = np.array([one.visible_px > 0 for one in labels.objects], bool)
    number = np.concatenate(([0], np.where(seen, seen.cumsum(), 0)))
    shown = objects_of([one for one in labels.objects if one.visible_px])
    return ImageOfObjects("", image, K, number[labels.instance.clip(0)], shown).drawn(images.classes, scores=False)


def draw_labels(path: Path, split: str, out: Path, most: int, format: str = "auto") -> Iterator[Path]:
    """Draw up to `most` images of a split, evenly spaced, into a folder; yield each file. Raises DataError,
    ConfigError.
    """
    images = open_object_images(path, split, format)
    masks = (format_of(path) if format == "auto" else format) not in BOXES_ALONE
    for index in np.unique(np.linspace(0, len(images) - 1, min(most, len(images))).round().astype(int)).tolist():
        name = image_name(Meta(images.name, index, file=images.file(index))).replace("/", "-")
        file = inside(out, f"{name}.png")
        write_image(file, drawn_labels(images, index, masks=masks)[..., ::-1])
        yield file


def found_by_others(images: ObjectImages, results: Path) -> list[list[EstimatedBox]]:
    """Read the estimates of a program for each image: a BOP csv, or a folder of KITTI label files with scores.

    Raises DataError for unreadable or empty files or a wrong unit; ConfigError for other data sets.
    """
    if isinstance(images, BopImages):
        rows, unit = read_results(results), "millimetres"
        found, poses = boxes_of(rows, images, results), [one.T_camera_model for one in rows]
        true = [T @ model.T_object_model for index in range(len(images)) for model, T in images.poses(index)]
    elif isinstance(images, KittiObjectImages):
        found, unit = images.results(results), "metres"
        poses = [box.T_camera_object for of_image in found for box, _ in of_image]
        true = [box.T_camera_object for index in range(len(images)) for box in images.boxes(index)]
    else:
        expected = "those of a BOP or KITTI data set"
        raise ConfigError("--objects", found=f"results for {images.name}", expected=expected, fix="see --reference")
    if not poses:
        raise DataError(
            results, found="no estimate in any file", expected="one at least", fix="let the program write them again"
        )
    _check_unit(results, poses, true, unit)
    return found


ANOTHER_UNIT = 50.0
"""Maximum ratio of median distances to the labels: a wrong unit gives a factor of a thousand.

A single estimate at any object is 0.36 to 1.55 times as far as the median label (LM-O, TableWorld); roads span 20.
"""


def _check_unit(results: Path, found: Sequence[Points], true: Sequence[Points], unit: str) -> None:
    """Raise DataError if distances of poses (4, 4) differ from the labels by a factor of a thousand."""
    if not len(true):
        return
    estimated_m, there = (float(np.median([np.linalg.norm(T[:3, 3]) for T in Ts])) for Ts in (found, true))
    if there / ANOTHER_UNIT < estimated_m < there * ANOTHER_UNIT:
        return
    factor = {"millimetres": 1000, "metres": 1}[unit]
    short, long = {"millimetres": ("metres", "micrometres"), "metres": ("kilometres", "millimetres")}[unit]
    seems, fix = (short, "multiply t by 1000") if estimated_m < there else (long, "divide t by 1000")
    raise DataError(
        results,
        found=f"objects {estimated_m * factor:.3g} {unit} away in the median, in {seems} it seems",
        expected=f"t in {unit}: the labels' are {there * factor:.3g} away",
        fix=fix,
    )


COUNTED = "those that a pixel of the image shows, at its own size"
"""Labeled objects that are scored; a BOP benchmark lists its own targets."""


def score_found(images: ObjectImages, found: Sequence[Sequence[EstimatedBox]]) -> dict[str, Any]:
    """Return average precisions of the estimates over the visible labeled objects; for BOP also `add_recall`.

    If a BOP benchmark lists targets, only these count (`_compare_targets`). Else every visible label counts. Estimates
    without a label are false alarms, unless they overlap most with an invisible object. KITTI's difficulty levels and
    unlabeled regions are not applied.
    """
    compared, targets = [], images.targets if isinstance(images, BopImages) else None
    for index, of_image in enumerate(found):
        predicted = objects_of([box for box, _ in of_image], [score for _, score in of_image])
        if not isinstance(images, BopImages):
            compared.append(compare(predicted, objects_of(images.boxes(index))))
        elif targets is None:
            labels = images.labels(index).objects
            compared.append(_compare_some(predicted, labels, np.array([one.visible_px > 0 for one in labels], bool)))
        elif images.requested_counts(index):
            compared.append(_compare_targets(images, index, predicted))
    true = np.concatenate([np.zeros(0, np.int64), *(one.true_class_id for one in compared)])
    classes = range(1, len(images.classes))
    of_class = {
        images.classes[number]: {
            "objects": int((true == number).sum()),
            **{
                name: value
                for name, value in average_precisions(compared, [number]).items()
                if name.startswith("ap_iou")
            },
        }
        for number in classes
        if (true == number).any()
    }
    of_models = add_recall(images, found) if isinstance(images, BopImages) else {"class": {}}
    for name, scores in of_models.pop("class").items():
        of_class.setdefault(name, {}).update(scores)
    return {
        "images": len(compared),
        "objects": len(true),
        "objects counted": COUNTED if targets is None else f"those listed in {TARGETS}",
        "estimates": sum(len(one.class_id) for one in compared),
        **of_models,
        **known(average_precisions(compared, classes)),
        "class": of_class,
        "as published": {"nocs_compat": known(average_precisions(compared, classes, NOCS_COMPAT))},
    }


def _compare_targets(images: BopImages, index: int, predicted: Objects) -> Comparison:
    """Compare with the targets of a benchmark: as many instances of each class as listed, the most visible first.

    Other classes, and estimates that overlap most with other instances, are neither missed nor false alarms.
    """
    labels = images.labels(index).objects
    count = {images.classes.index(images.models[number].name): n for number, n in images.requested_counts(index).items()}
    is_target = np.zeros(len(labels), bool)
    most_visible = sorted(range(len(labels)), key=lambda row: -labels[row].visible_px)
    for class_id, n in count.items():
        is_target[[row for row in most_visible if labels[row].class_id == class_id][:n]] = True
    return _compare_some(predicted, labels, is_target, list(count))


def _compare_some(
    predicted: Objects, labels: Sequence[ObjectBox], some: Truth, classes: Sequence[int] | None = None
) -> Comparison:
    """Compare with `some` of the labeled objects, (G,) bool.

    Estimates that overlap most with other objects, or are of no class in `classes`, are neither right nor false alarms.
    """
    whole = compare(predicted, objects_of(labels))
    kept = whole.iou[:, ~some].max(1, initial=0) <= whole.iou[:, some].max(1, initial=0)
    if classes is not None:
        kept &= np.isin(whole.class_id, classes)
    return whole.part(np.flatnonzero(kept), np.flatnonzero(some))
