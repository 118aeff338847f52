"""Labels of objects without a network: drawn on their pictures, and what other programs found scored against them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stadia.core.errors import ConfigError
from stadia.core.files import inside
from stadia.core.types import Meta
from stadia.data.bop import BopPictures
from stadia.data.bop_results import boxes_of, read_results
from stadia.data.kitti_object import KittiObjectPictures
from stadia.data.object_labels import EstimatedBox, ObjectBox, ObjectPictures
from stadia.data.object_sources import BOXES_ALONE, format_of, open_object_pictures
from stadia.evaluation.object_drawings import draw_objects
from stadia.evaluation.object_files import PictureOfObjects, write_picture
from stadia.geometry.symmetry import Symmetry
from stadia.metrics.object_pose import Objects
from stadia.metrics.object_scores import NOCS_COMPAT, Comparison, average_precisions, compare
from stadia.recipes.bop_recall import add_recall
from stadia.recipes.object_scoring import known, picture_name


def objects_of(boxes: Sequence[ObjectBox], scores: Sequence[float] | None = None) -> Objects:
    """Boxes as metrics and drawings take them; sure of each where no score is given."""
    return Objects(
        torch.tensor([one.class_id for one in boxes], dtype=torch.int64),
        torch.from_numpy(np.array([one.T_camera_object for one in boxes]).reshape(-1, 4, 4)),
        torch.from_numpy(np.array([one.size_m for one in boxes]).reshape(-1, 3)),
        Symmetry.of([one.symmetry for one in boxes]),
        torch.ones(len(boxes)) if scores is None else torch.tensor(scores, dtype=torch.float64),
    )


def drawn_labels(pictures: ObjectPictures, index: int, *, masks: bool = True) -> NDArray[np.uint8]:
    """(H, W, 3) RGB, a picture with what is labelled in it: boxes, axes, classes, and the masks where there are any."""
    image, K = pictures.image(index), pictures.camera(index).K.double().numpy()
    if not masks:
        return draw_objects(image, K, objects_of(pictures.boxes(index)), pictures.classes)
    labels = pictures.labels(index)
    seen = np.array([one.visible_px > 0 for one in labels.objects], bool)
    number = np.concatenate(([0], np.where(seen, seen.cumsum(), 0)))
    shown = objects_of([one for one in labels.objects if one.visible_px])
    return PictureOfObjects("", image, K, number[labels.instance], shown).drawn(pictures.classes)


def draw_labels(path: Path, split: str, out: Path, most: int, format: str = "auto") -> Iterator[Path]:
    """Draw up to `most` pictures of a split, evenly spread over it, into a folder; yields each file. Raises DataError, ConfigError."""
    pictures = open_object_pictures(path, split, format)
    masks = (format_of(path) if format == "auto" else format) not in BOXES_ALONE
    for index in np.unique(np.linspace(0, len(pictures) - 1, min(most, len(pictures))).round().astype(int)).tolist():
        name = picture_name(Meta(pictures.name, index, file=pictures.file(index))).replace("/", "-")
        file = inside(out, f"{name}.png")
        write_picture(file, drawn_labels(pictures, index, masks=masks)[..., ::-1])
        yield file


def found_by_others(pictures: ObjectPictures, results: Path) -> list[list[EstimatedBox]]:
    """What a program found in each picture, in the format of its benchmark: BOP's csv, or a folder of KITTI's label files with scores."""
    if isinstance(pictures, BopPictures):
        return boxes_of(read_results(results), pictures)
    if isinstance(pictures, KittiObjectPictures):
        return pictures.results(results)
    raise ConfigError(
        "--objects", found=f"results for {pictures.name}", expected="those of a BOP or KITTI data set", cure="see --reference"
    )


def score_found(pictures: ObjectPictures, found: Sequence[Sequence[EstimatedBox]]) -> dict[str, Any]:
    """Average precisions of what was found in each picture, over the labelled objects that can be seen; of BOP's, `add_recall` too.

    Where a BOP benchmark lists its targets these alone count (`_compare_asked`). Else every label does, and whatever was found where
    there is none is a false alarm: of KITTI's benchmark, its levels of difficulty and its regions without labels are not known here.
    """
    compared = []
    for index, of_picture in enumerate(found):
        predicted = objects_of([box for box, _ in of_picture], [score for _, score in of_picture])
        if not isinstance(pictures, BopPictures) or pictures.targets is None:
            compared.append(compare(predicted, objects_of(pictures.boxes(index))))
        elif pictures.asked(index):
            compared.append(_compare_asked(pictures, index, predicted))
    true = np.concatenate([np.zeros(0, np.int64), *(one.true_class_id for one in compared)])
    classes = range(1, len(pictures.classes))
    of_class = {
        pictures.classes[number]: {
            "objects": int((true == number).sum()),
            **{name: value for name, value in average_precisions(compared, [number]).items() if name.startswith("ap_iou")},
        }
        for number in classes
        if (true == number).any()
    }
    of_models = add_recall(pictures, found) if isinstance(pictures, BopPictures) else {"class": {}}
    for name, scores in of_models.pop("class").items():
        of_class.setdefault(name, {}).update(scores)
    return {
        "images": len(compared),
        "objects": len(true),
        "found": sum(len(one.class_id) for one in compared),
        **of_models,
        **known(average_precisions(compared, classes)),
        "class": of_class,
        "as published": {"nocs_compat": known(average_precisions(compared, classes, NOCS_COMPAT))},
    }


def _compare_asked(pictures: BopPictures, index: int, predicted: Objects) -> Comparison:
    """With what the benchmark asks for in a picture: of each class as many instances as it says, the most visible first.

    The others are neither missed nor, found, false alarms: what is of a class that is not asked for, or overlaps most with an instance
    that is not.
    """
    labels = pictures.labels(index).objects
    count = {pictures.classes.index(pictures.models[number].name): n for number, n in pictures.asked(index).items()}
    asked = np.zeros(len(labels), bool)
    most_visible = sorted(range(len(labels)), key=lambda row: -labels[row].visible_px)
    for class_id, n in count.items():
        asked[[row for row in most_visible if labels[row].class_id == class_id][:n]] = True
    whole = compare(predicted, objects_of(labels))
    elsewhere = whole.iou[:, ~asked].max(1, initial=0) > whole.iou[:, asked].max(1, initial=0)
    return whole.part(np.flatnonzero(np.isin(whole.class_id, list(count)) & ~elsewhere), np.flatnonzero(asked))
