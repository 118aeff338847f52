"""Scores of detected objects over a set of images: average precision as in NOCS, and errors of matched objects.

Each image is compared once (`compare`), and every score is a function of all comparisons. Comparisons are small:
processes exchange theirs by image, so that an image scored twice counts once; the order of images does not matter.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median

import numpy as np
import torch

from stadia.metrics.matching import Floats, Indices, Truth, best_pairs, greedy_pairs
from stadia.metrics.object_pose import Objects, iou_3d, iou_3d_hull, rotation_error_deg, translation_error_cm

IOU_THRESHOLDS = (0.25, 0.5, 0.75)
POSE_THRESHOLDS = ((5.0, 2.0), (5.0, 5.0), (10.0, 2.0), (10.0, 5.0), (10.0, 10.0))
"""Degrees and centimetres."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """P predictions of one image against its G objects.

    class_id, score: (P,).  true_class_id: (G,).
    rotation_deg, translation_cm, iou, hull_iou, mask_iou: (P, G). Between two classes: infinite errors, no overlap.
    """

    class_id: Indices
    score: Floats
    true_class_id: Indices
    rotation_deg: Floats
    translation_cm: Floats
    iou: Floats
    hull_iou: Floats
    mask_iou: Floats

    @property
    def same_class(self) -> Truth:
        """Return (P, G) bool."""
        return self.class_id[:, None] == self.true_class_id[None]

    def part(self, rows: Indices, columns: Indices) -> Comparison:
        """Return selected predictions against selected objects."""
        pairs = (self.rotation_deg, self.translation_cm, self.iou, self.hull_iou, self.mask_iou)
        chosen = (x[rows[:, None], columns] for x in pairs)
        return Comparison(self.class_id[rows], self.score[rows], self.true_class_id[columns], *chosen)


def compare(predicted: Objects, true: Objects, mask_iou: Floats | None = None) -> Comparison:
    """Compare every prediction of one image with every object of its class. mask_iou: (P, G), `matching.mask_iou`, or
    None.
    """
    pairs = (predicted.class_id[:, None] == true.class_id[None]).nonzero()
    shape = (len(predicted), len(true))
    p, g = predicted[pairs[:, 0]], true[pairs[:, 1]]
    rows, columns = pairs.cpu().numpy().T

    def table(values: torch.Tensor, otherwise: float) -> Floats:
        filled = np.full(shape, otherwise)
        filled[rows, columns] = values.detach().cpu().numpy()
        return filled

    return Comparison(
        predicted.class_id.cpu().numpy(),
        predicted.score.detach().double().cpu().numpy(),
        true.class_id.cpu().numpy(),
        table(rotation_error_deg(p, g), np.inf),
        table(translation_error_cm(p, g), np.inf),
        table(iou_3d(p, g), 0.0),
        table(iou_3d_hull(p, g), 0.0),
        np.zeros(shape) if mask_iou is None else mask_iou,
    )


# -- average precision


@dataclass(frozen=True, slots=True)
class ApRules:
    """Rules of an average precision.

    hull: overlaps of axis-aligned hulls; else of the oriented boxes.
    gate: pose scores leave out predictions and objects that no overlap above this has matched; None: everything counts.
    """

    hull: bool
    gate: float | None


EXACT = ApRules(hull=False, gate=None)
"""Oriented boxes, and missed objects count."""

NOCS_COMPAT = ApRules(hull=True, gate=0.1)
"""Rules of published scores on REAL275 (Wang et al., "Normalized object coordinate space", CVPR 2019, and its
evaluation code): pose scores cover only objects that were found.
"""


def average_precision(score: Floats, right: Truth, objects: int) -> float:
    """Return the area under precision over recall, precision made falling first (PASCAL VOC from 2010 on); NaN without
    objects.

    score: (N,) of all predictions of a class.  right: (N,) whether it is an object.  objects: how many there are.
    Predictions of equal score count together, so that their order does not matter.
    """
    if objects == 0:
        return math.nan
    order = np.argsort(-score, kind="stable")
    falling_score = score[order]
    last = np.flatnonzero(np.append(falling_score[1:] != falling_score[:-1], True)[: len(score)])
    found = np.cumsum(right[order])[last]
    recall, precision = found / objects, found / (last + 1)
    falling = np.maximum.accumulate(precision[::-1])[::-1]
    return float((np.diff(recall, prepend=0.0) * falling).sum())


def average_precisions(
    images: Iterable[Comparison], classes: Sequence[int], rules: ApRules = EXACT
) -> dict[str, float]:
    """Return average precision by threshold, 0 to 1, averaged over classes with an object: "ap_iou50", "ap_5deg_5cm",
    ...

    Every prediction takes an object of its image and class, in order of score: the largest overlap above the threshold,
    or the least sum of degrees and centimetres within the limits. Predictions of equal score choose together
    (`matching.greedy_pairs`). NaN where no class has an object.
    """
    images = list(images)
    of_class = [_average_precisions([_select_class(image, one) for image in images], rules) for one in classes]
    scored = [scores for scores in of_class if scores is not None]
    return {name: fmean(scores[name] for scores in scored) if scored else math.nan for name in score_names()}


def score_names() -> list[str]:
    """Return the names of `average_precisions`."""
    return [_iou_name(t) for t in IOU_THRESHOLDS] + [_pose_name(*t) for t in POSE_THRESHOLDS]


def _iou_name(threshold: float) -> str:
    return f"ap_iou{100 * threshold:.0f}"


def _pose_name(degrees: float, cm: float) -> str:
    return f"ap_{degrees:.0f}deg_{cm:.0f}cm"


def _select_class(image: Comparison, class_id: int) -> Comparison:
    return image.part(np.flatnonzero(image.class_id == class_id), np.flatnonzero(image.true_class_id == class_id))


def _average_precisions(images: Sequence[Comparison], rules: ApRules) -> dict[str, float] | None:
    """Return the scores of one class; None where it has no object."""
    if not sum(len(image.true_class_id) for image in images):
        return None
    scores = {_iou_name(t): _ap([(_match_by_overlap(p, t, rules), p) for p in images]) for t in IOU_THRESHOLDS}
    gated = images if rules.gate is None else [_select_gated(image, rules.gate, rules) for image in images]
    for degrees, cm in POSE_THRESHOLDS:
        ap = _ap([(_match_by_pose(image, degrees, cm), image) for image in gated])
        scores[_pose_name(degrees, cm)] = 0.0 if math.isnan(ap) else ap  # the gate left no object: none was found
    return scores


def _ap(images: Sequence[tuple[Indices, Comparison]]) -> float:
    right = np.concatenate([taken >= 0 for taken, _ in images])
    score = np.concatenate([image.score for _, image in images])
    return average_precision(score, right, sum(len(image.true_class_id) for _, image in images))


def _match_by_overlap(image: Comparison, threshold: float, rules: ApRules) -> Indices:
    overlap = image.hull_iou if rules.hull else image.iou
    return greedy_pairs(-overlap, overlap > threshold, image.score)


def _match_by_pose(image: Comparison, degrees: float, cm: float) -> Indices:
    allowed = (image.rotation_deg <= degrees) & (image.translation_cm <= cm)
    return greedy_pairs(image.rotation_deg + image.translation_cm, allowed, image.score)


def _select_gated(image: Comparison, gate: float, rules: ApRules) -> Comparison:
    """Return the part of a class's image that is matched by an overlap above the gate."""
    taken = _match_by_overlap(image, gate, rules)
    return image.part(np.flatnonzero(taken >= 0), np.sort(taken[taken >= 0]))


# -- one to one by masks


def matched_scores(images: Iterable[Comparison], min_mask_iou: float = 0.5) -> dict[str, float]:
    """Return errors of the objects with matched masks (`matching.best_pairs`), and their number.

    By name: "objects", "found", "false_alarms" (counts over all images); "recall" and "precision", 0 to 1;
    "rotation_error_deg", "translation_error_cm", "iou_3d": means over found objects; "rotation_error_deg_median" and
    "translation_error_cm_median"; and for each of POSE_THRESHOLDS "recall_5deg_5cm", ..., the share of all objects that
    were found and are within both limits. A mean over nothing is NaN. A missed object is in every recall, and counts
    180 degrees in "rotation_error_deg_of_all", the mean over all objects.
    """
    rotation: list[float] = []
    translation: list[float] = []
    overlap: list[float] = []
    objects = predictions = 0
    for image in images:
        pairs = best_pairs(image.mask_iou, image.same_class, min_mask_iou)
        objects += len(image.true_class_id)
        predictions += len(image.class_id)
        for values, of_pairs in (
            (rotation, image.rotation_deg),
            (translation, image.translation_cm),
            (overlap, image.iou),
        ):
            values += of_pairs[pairs.predicted, pairs.true].tolist()
    found = len(rotation)
    scores: dict[str, float] = {"objects": objects, "found": found, "false_alarms": predictions - found}
    scores |= {"recall": _share(found, objects), "precision": _share(found, predictions)}
    for name, values in (("rotation_error_deg", rotation), ("translation_error_cm", translation), ("iou_3d", overlap)):
        scores[name] = fmean(values) if values else math.nan
    for name, values in (("rotation_error_deg_median", rotation), ("translation_error_cm_median", translation)):
        scores[name] = median(values) if values else math.nan
    scores["rotation_error_deg_of_all"] = fmean(rotation + [180.0] * (objects - found)) if objects else math.nan
    for degrees, cm in POSE_THRESHOLDS:
        within = sum(r <= degrees and t <= cm for r, t in zip(rotation, translation, strict=True))
        scores[_pose_name(degrees, cm).replace("ap_", "recall_")] = _share(within, objects)
    return scores


def _share(part: int, whole: int) -> float:
    return part / whole if whole else math.nan


def of_all(parts: Iterable[Mapping[object, Comparison]]) -> list[Comparison]:
    """Return the comparisons of several processes, each image once, by its `core.types.Meta` or another key."""
    return list({image: comparison for part in parts for image, comparison in part.items()}.values())
