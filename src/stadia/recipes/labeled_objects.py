"""Labels of objects without a network: drawn on their images, and what other programs found scored against them."""

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
    """Boxes as metrics and drawings take them; sure of each where no score is given."""
    return Objects(
        torch.tensor([one.class_id for one in boxes], dtype=torch.int64),
        torch.from_numpy(np.array([one.T_camera_object for one in boxes]).reshape(-1, 4, 4)),
        torch.from_numpy(np.array([one.size_m for one in boxes]).reshape(-1, 3)),
        Symmetry.of([one.symmetry for one in boxes]),
        torch.ones(len(boxes)) if scores is None else torch.tensor(scores, dtype=torch.float64),
    )


def drawn_labels(images: ObjectImages, index: int, *, masks: bool = True) -> NDArray[np.uint8]:
    """(H, W, 3) RGB, an image with what is labeled in it: boxes, axes, classes, and the masks where there are any."""
    image, K = images.image(index), images.camera(index).K.double().numpy()
    if not masks:
        return draw_objects(image, K, objects_of(images.boxes(index)), images.classes)
    labels = images.labels(index)
    seen = np.array([one.visible_px > 0 for one in labels.objects], bool)
    number = np.concatenate(([0], np.where(seen, seen.cumsum(), 0)))
    shown = objects_of([one for one in labels.objects if one.visible_px])
    return ImageOfObjects("", image, K, number[labels.instance.clip(0)], shown).drawn(images.classes, scores=False)


def draw_labels(path: Path, split: str, out: Path, most: int, format: str = "auto") -> Iterator[Path]:
    """Draw up to `most` images of a split, evenly spread over it, into a folder; yields each file. Raises DataError,
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
    """What a program found in each image, in the format of its benchmark: BOP's csv, or a folder of KITTI's label files
    with scores.

    Raises DataError naming the file, also where it holds no estimate, or lengths in another unit; ConfigError for other
    data sets.
    """
    if isinstance(images, BopImages):
        rows, unit = read_results(results), "millimetres"
        found, said = boxes_of(rows, images, results), [one.T_camera_model for one in rows]
        true = [T @ model.T_object_model for index in range(len(images)) for model, T in images.poses(index)]
    elif isinstance(images, KittiObjectImages):
        found, unit = images.results(results), "metres"
        said = [box.T_camera_object for of_image in found for box, _ in of_image]
        true = [box.T_camera_object for index in range(len(images)) for box in images.boxes(index)]
    else:
        expected = "those of a BOP or KITTI data set"
        raise ConfigError("--objects", found=f"results for {images.name}", expected=expected, fix="see --reference")
    if not said:
        raise DataError(
            results, found="no estimate in any file", expected="one at least", fix="let the program write them again"
        )
    _check_unit(results, said, true, unit)
    return found


ANOTHER_UNIT = 50.0
"""Times as near or as far as the labels, in the median: no estimate errs so, and a wrong unit does by a thousand.

One single estimate, at any object's place, is 0.36 to 1.55 times as far as the median label (LM-O, TableWorld); roads
span a factor of 20.
"""


def _check_unit(results: Path, found: Sequence[Points], true: Sequence[Points], unit: str) -> None:
    """Raises DataError where distances of poses (4, 4) are a thousand times those of the labels, or a thousandth."""
    if not len(true):
        return
    said, there = (float(np.median([np.linalg.norm(T[:3, 3]) for T in Ts])) for Ts in (found, true))
    if there / ANOTHER_UNIT < said < there * ANOTHER_UNIT:
        return
    factor = {"millimetres": 1000, "metres": 1}[unit]
    short, long = {"millimetres": ("metres", "micrometres"), "metres": ("kilometres", "millimetres")}[unit]
    seems, fix = (short, "multiply t by 1000") if said < there else (long, "divide t by 1000")
    raise DataError(
        results,
        found=f"objects {said * factor:.3g} {unit} away in the median, in {seems} it seems",
        expected=f"t in {unit}: the labels' are {there * factor:.3g} away",
        fix=fix,
    )


COUNTED = "those that a pixel of the image shows, at its own size"
"""Which labeled objects are scored, whoever found what; a BOP benchmark's targets are a choice of its own."""


def score_found(images: ObjectImages, found: Sequence[Sequence[EstimatedBox]]) -> dict[str, Any]:
    """Average precisions of what was found in each image, over the labeled objects that can be seen; of BOP's,
    `add_recall` too.

    Where a BOP benchmark lists its targets these alone count (`_compare_asked`). Else every label that a pixel shows
    does, and whatever was found where there is none is a false alarm, but for what overlaps most with a labeled object
    that no pixel shows: of KITTI's benchmark, its levels of difficulty and its regions without labels are not known
        here.
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
            compared.append(_compare_asked(images, index, predicted))
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
        "objects counted": COUNTED if targets is None else f"those that {TARGETS} asks for",
        "estimates": sum(len(one.class_id) for one in compared),
        **of_models,
        **known(average_precisions(compared, classes)),
        "class": of_class,
        "as published": {"nocs_compat": known(average_precisions(compared, classes, NOCS_COMPAT))},
    }


def _compare_asked(images: BopImages, index: int, predicted: Objects) -> Comparison:
    """With what the benchmark asks for in an image: of each class as many instances as it says, the most visible first.

    The others are neither missed nor, found, false alarms: what is of a class that is not asked for, or overlaps most
        with an instance
    that is not.
    """
    labels = images.labels(index).objects
    count = {images.classes.index(images.models[number].name): n for number, n in images.requested_counts(index).items()}
    asked = np.zeros(len(labels), bool)
    most_visible = sorted(range(len(labels)), key=lambda row: -labels[row].visible_px)
    for class_id, n in count.items():
        asked[[row for row in most_visible if labels[row].class_id == class_id][:n]] = True
    return _compare_some(predicted, labels, asked, list(count))


def _compare_some(
    predicted: Objects, labels: Sequence[ObjectBox], some: Truth, classes: Sequence[int] | None = None
) -> Comparison:
    """With `some` of the labeled objects, (G,) bool.

    What overlaps most with another one is neither right nor a false alarm, nor is what is of none of the classes, where
    these are named.
    """
    whole = compare(predicted, objects_of(labels))
    kept = whole.iou[:, ~some].max(1, initial=0) <= whole.iou[:, some].max(1, initial=0)
    if classes is not None:
        kept &= np.isin(whole.class_id, classes)
    return whole.part(np.flatnonzero(kept), np.flatnonzero(some))
