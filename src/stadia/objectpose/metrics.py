"""Match objects, and compute pose errors, 3D IoU and average precision."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stadia.core.types import TensorDataclass
from stadia.geometry.se3 import quaternion_wxyz_from_matrix, transform
from stadia.objectpose import boxes
from stadia.objectpose.boxes import Symmetry, symmetric_angle_deg

FloatArray = NDArray[np.float64]
IndexArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Matches:
    """The result of matching predictions with objects.

    predicted, true: (K,) rows of the matched pairs.
    false_positives: rows of predictions without an object.
    false_negatives: rows of objects without a prediction.
    """

    predicted: IndexArray
    true: IndexArray
    false_positives: IndexArray
    false_negatives: IndexArray


def instance_mask_iou(predicted: Tensor, true: Tensor, predicted_count: int, true_count: int) -> FloatArray:
    """Return the IoU (P, G) of the objects in two instance maps (H, W) of one image.

    In both maps 0 is no object, and n is the n-th object, counted from 1.
    """
    seen = (true_count + 1) * predicted.long().flatten() + true.long().flatten()
    shape = predicted_count + 1, true_count + 1
    pixels = torch.bincount(seen, minlength=shape[0] * shape[1]).view(shape)
    shared = pixels[1:, 1:].double()
    joint = pixels[1:].sum(1, keepdim=True) + pixels[:, 1:].sum(0, keepdim=True) - shared
    found: FloatArray = (shared / joint.clamp(min=1)).cpu().numpy()
    return found


def match_hungarian(overlap: FloatArray, same_class: BoolArray, threshold: float = 0.5) -> Matches:
    """Return the pairs of one class with the largest sum of overlaps above the threshold (Hungarian method).

    overlap: (P, G).
    same_class: (P, G) bool.
    """
    from scipy.optimize import linear_sum_assignment  # slow to import

    worth = np.where(same_class & (overlap >= threshold), overlap, 0.0)
    rows, columns = linear_sum_assignment(worth, maximize=True)
    paired = worth[rows, columns] > 0
    return _make_matches(rows[paired], columns[paired], overlap.shape)


def match_greedy(cost: FloatArray, allowed: BoolArray, score: FloatArray) -> IndexArray:
    """Return the object that each prediction takes, (P,); -1 if it takes none.

    In the order of their scores, predictions take the free and allowed object with the least cost. Predictions of equal
    score choose together, so that the order of rows does not matter.

    cost: (P, G).
    allowed: (P, G) bool.
    score: (P,).
    """
    taken = np.full(cost.shape[0], -1, dtype=np.int64)
    free = np.ones(cost.shape[1], dtype=bool)
    able = np.any(allowed, axis=1)
    for one in np.unique(-score[able]):
        rows = np.flatnonzero(able & (-score == one))
        columns = np.flatnonzero(free & np.any(allowed[rows], axis=0))
        chosen, of_columns = _match_cheapest(cost[np.ix_(rows, columns)], allowed[np.ix_(rows, columns)])
        taken[rows[chosen]] = columns[of_columns]
        free[columns[of_columns]] = False
    return taken


def _match_cheapest(cost: FloatArray, allowed: BoolArray) -> tuple[IndexArray, IndexArray]:
    """Return rows and columns of as many allowed pairs (P, G) as possible, with the least sum of costs."""
    if len(cost) == 1:
        columns = np.flatnonzero(allowed[0])
        return np.zeros(min(len(columns), 1), dtype=np.int64), columns[cost[0, columns].argsort(kind="stable")[:1]]
    least, span = cost.min(initial=np.inf, where=allowed), np.ptp(cost[allowed]) if allowed.any() else 0.0
    relative = (np.where(allowed, cost, least) - least) / (span or 1.0)
    from scipy.optimize import linear_sum_assignment  # slow to import

    worth = np.where(allowed, len(cost) + 1 - relative, 0.0)  # one pair more outweighs all
    rows, columns = linear_sum_assignment(worth, maximize=True)
    paired = allowed[rows, columns]
    return rows[paired], columns[paired]


def _make_matches(predicted: IndexArray, true: IndexArray, shape: tuple[int, ...]) -> Matches:
    left = (np.setdiff1d(np.arange(size), of) for size, of in zip(shape, (predicted, true), strict=True))
    return Matches(predicted, true, *left)


@dataclass(frozen=True, slots=True)
class PosedObjects(TensorDataclass):
    """M objects with their poses. True objects have a symmetry, predictions a score.

    class_id: (M,).
    T_camera_object: (M, 4, 4) in metres.
    size_m: (M, 3) extents in metres.
    score: (M,).
    """

    class_id: Tensor
    T_camera_object: Tensor
    size_m: Tensor
    symmetry: Symmetry
    score: Tensor

    def __len__(self) -> int:
        return len(self.class_id)

    def __getitem__(self, index: Tensor) -> "PosedObjects":
        T, size_m, symmetry = self.T_camera_object[index], self.size_m[index], self.symmetry[index]
        return PosedObjects(self.class_id[index], T, size_m, symmetry, self.score[index])


def rotation_error_deg(predicted: PosedObjects, true: PosedObjects) -> Tensor:
    """Return the angle (M,) in degrees between predicted and true rotations, the least over the symmetry."""
    q, q_true = (quaternion_wxyz_from_matrix(x.T_camera_object[..., :3, :3].double()) for x in (predicted, true))
    return symmetric_angle_deg(q, q_true, true.symmetry)


def translation_error_cm(predicted: PosedObjects, true: PosedObjects) -> Tensor:
    """Return the distance (M,) in centimetres between predicted and true centers."""
    predicted_m, true_m = (x.T_camera_object[..., :3, 3].double() for x in (predicted, true))
    return 100 * (predicted_m - true_m).norm(dim=-1)


def iou_3d(predicted: PosedObjects, true: PosedObjects) -> Tensor:
    """Return the exact IoU (M,) of the oriented boxes, the largest over the true symmetry."""
    given = (predicted.T_camera_object, predicted.size_m, true.T_camera_object, true.size_m)
    return boxes.symmetric_box_iou(*given, true.symmetry)


def iou_3d_hull(predicted: PosedObjects, true: PosedObjects) -> Tensor:
    """Return the IoU (M,) of the axis-aligned hulls of both boxes, as evaluations of NOCS do.

    It is usually too large.
    """
    given = (predicted.T_camera_object, predicted.size_m, true.T_camera_object, true.size_m)
    return boxes.max_hull_iou_over_turns(*given, true.symmetry.revolution)


def add_m(T_predicted: Tensor, T_true: Tensor, points: Tensor) -> Tensor:
    """Return ADD (...): the mean distance in metres between a model's points moved by the predicted and the true pose.

    T_predicted, T_true: (..., 4, 4) poses.
    points: (N, 3) points of the model in metres.

    Source: Hinterstoisser et al., "Model based training, detection and pose estimation", ACCV 2012.
    """
    points = points.double()
    return (transform(T_predicted.double(), points) - transform(T_true.double(), points)).norm(dim=-1).mean(-1)


def add_s_m(T_predicted: Tensor, T_true: Tensor, points: Tensor) -> float:
    """Return ADD-S (ADI): the mean distance in metres from each true point to the nearest predicted one.

    It is meant for symmetric objects. Points that coincide are searched once, because a tree cannot separate them.

    T_predicted, T_true: (4, 4) poses.
    points: (N, 3) points of the model in metres.
    """
    from scipy.spatial import KDTree  # slow to import

    points = points.detach().double().cpu()
    predicted, true = (transform(T.detach().double().cpu(), points) for T in (T_predicted, T_true))
    true, times = _count_coinciding(true)
    distance: NDArray[np.float64] = KDTree(_count_coinciding(predicted)[0].numpy()).query(true.numpy())[0]
    return float((times.numpy() * distance).sum() / np.float64(len(points)))


def _count_coinciding(points: Tensor) -> tuple[Tensor, Tensor]:
    """Return the points (M, 3) without repetition, and how many (M,) coincide, in any order."""
    first = points[:, 0].sort().values
    if (first[1:] > first[:-1]).all():
        return points, torch.ones(len(points))
    return torch.unique(points, dim=0, return_counts=True)


IOU_THRESHOLDS = (0.25, 0.5, 0.75)
POSE_THRESHOLDS = ((5.0, 2.0), (5.0, 5.0), (10.0, 2.0), (10.0, 5.0), (10.0, 10.0))
ROTATION_THRESHOLDS = (5.0, 10.0)  # degrees, whatever the translation: "ap_5deg"
"""Limits of the rotation error in degrees; the translation may have any error."""


@dataclass(frozen=True, slots=True)
class ImageComparison:
    """The comparison of P predictions of one image with its G objects.

    class_id, score: (P,) class and score of each prediction.
    true_class_id: (G,) class of each object.
    rotation_deg, translation_cm: (P, G) errors; infinite if the classes differ.
    iou, hull_iou, mask_iou: (P, G) overlaps; 0 if the classes differ.
    """

    class_id: IndexArray
    score: FloatArray
    true_class_id: IndexArray
    rotation_deg: FloatArray
    translation_cm: FloatArray
    iou: FloatArray
    hull_iou: FloatArray
    mask_iou: FloatArray

    @property
    def same_class(self) -> BoolArray:
        """Return whether prediction and object have the same class, (P, G) bool."""
        return self.class_id[:, None] == self.true_class_id[None]

    def part(self, rows: IndexArray, columns: IndexArray) -> "ImageComparison":
        """Return the comparison of only some predictions with only some objects.

        rows, columns: indices of predictions and of objects.
        """
        pairs = (self.rotation_deg, self.translation_cm, self.iou, self.hull_iou, self.mask_iou)
        chosen = (x[rows[:, None], columns] for x in pairs)
        return ImageComparison(self.class_id[rows], self.score[rows], self.true_class_id[columns], *chosen)


_TURNED_PAIRS_AT_ONCE = 1 << 14  # pairs times rotations of a symmetry: a quarter of a gigabyte


def compare_objects(predicted: PosedObjects, true: PosedObjects, mask_iou: FloatArray | None = None) -> ImageComparison:
    """Compare every prediction of one image with every object of its class.

    mask_iou: (P, G) overlap of the masks, or None.
    """
    pairs = (predicted.class_id[:, None] == true.class_id[None]).nonzero()
    shape = (len(predicted), len(true))
    tables: list[FloatArray] = [np.full(shape, otherwise) for otherwise in (np.inf, np.inf, 0.0, 0.0)]
    rotation_deg, translation_cm, iou, hull_iou = tables
    for part in torch.split(pairs, max(_TURNED_PAIRS_AT_ONCE // true.symmetry.turns.shape[-2], 1)):
        p, g = predicted[part[:, 0]], true[part[:, 1]]
        rows, columns = part.cpu().numpy().T
        for table, measure in zip(tables, (rotation_error_deg, translation_error_cm, iou_3d, iou_3d_hull), strict=True):
            table[rows, columns] = measure(p, g).detach().cpu().numpy()
    return ImageComparison(
        predicted.class_id.cpu().numpy(),
        predicted.score.detach().double().cpu().numpy(),
        true.class_id.cpu().numpy(),
        rotation_deg,
        translation_cm,
        iou,
        hull_iou,
        np.zeros(shape) if mask_iou is None else mask_iou,
    )


@dataclass(frozen=True, slots=True)
class ApRules:
    """Rules for computing an average precision.

    hull: whether axis-aligned boxes are compared.
    gate: smallest overlap of a pose that is scored, or None.
    """

    hull: bool
    gate: float | None


ORIENTED_BOX_RULES = ApRules(hull=False, gate=None)  # oriented boxes, and missed objects count

NOCS_COMPAT_RULES = ApRules(hull=True, gate=0.1)
"""Rules of the published scores on REAL275 (Wang et al., CVPR 2019): only poses of found objects are scored."""


def average_precision(score: FloatArray, right: BoolArray, objects: int) -> float:
    """Return the area under the falling envelope of precision over recall (PASCAL VOC since 2010); NaN without objects.

    score: (P,) score of each prediction.
    right: (P,) bool, whether it is right.
    objects: number of true objects.
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


def mean_average_precisions(
    images: Iterable[ImageComparison], classes: Sequence[int], rules: ApRules = ORIENTED_BOX_RULES
) -> dict[str, float]:
    """Return average precisions from 0 to 1 by threshold ("ap_iou50", "ap_5deg_5cm", ...), averaged over classes.

    Only classes with an object count. In the order of their scores, predictions take an object of their class
    (`match_greedy`): the one with the largest overlap above the threshold, or with the least sum of degrees and
    centimetres within the limits. The result is NaN without objects.
    """
    images = list(images)
    of_class = [_average_precisions([_select_class(image, one) for image in images], rules) for one in classes]
    scored = [scores for scores in of_class if scores is not None]
    return {name: fmean(scores[name] for scores in scored) if scored else math.nan for name in score_names()}


def score_names() -> list[str]:
    """Return the names of the scores that `mean_average_precisions` returns."""
    names = [_iou_name(t) for t in IOU_THRESHOLDS] + [_pose_name(*t) for t in POSE_THRESHOLDS]
    return names + [_pose_name(degrees) for degrees in ROTATION_THRESHOLDS]


def _iou_name(threshold: float) -> str:
    return f"ap_iou{100 * threshold:.0f}"


def _pose_name(degrees: float, cm: float = math.inf) -> str:
    return f"ap_{degrees:.0f}deg" + (f"_{cm:.0f}cm" if math.isfinite(cm) else "")


def _select_class(image: ImageComparison, class_id: int) -> ImageComparison:
    return image.part(np.flatnonzero(image.class_id == class_id), np.flatnonzero(image.true_class_id == class_id))


def _average_precisions(images: Sequence[ImageComparison], rules: ApRules) -> dict[str, float] | None:
    if not sum(len(image.true_class_id) for image in images):
        return None
    scores = {_iou_name(t): _ap([(_match_by_overlap(p, t, rules), p) for p in images]) for t in IOU_THRESHOLDS}
    gated = images if rules.gate is None else [_select_gated(image, rules.gate, rules) for image in images]
    for degrees, cm in (*POSE_THRESHOLDS, *((degrees, math.inf) for degrees in ROTATION_THRESHOLDS)):
        ap = _ap([(_match_by_pose(image, degrees, cm), image) for image in gated])
        scores[_pose_name(degrees, cm)] = 0.0 if math.isnan(ap) else ap  # the gate left no object: none was found
    return scores


def _ap(images: Sequence[tuple[IndexArray, ImageComparison]]) -> float:
    right = np.concatenate([taken >= 0 for taken, _ in images])
    score = np.concatenate([image.score for _, image in images])
    return average_precision(score, right, sum(len(image.true_class_id) for _, image in images))


def _match_by_overlap(image: ImageComparison, threshold: float, rules: ApRules) -> IndexArray:
    overlap = image.hull_iou if rules.hull else image.iou
    return match_greedy(-overlap, overlap > threshold, image.score)


def _match_by_pose(image: ImageComparison, degrees: float, cm: float) -> IndexArray:
    allowed = (image.rotation_deg <= degrees) & (image.translation_cm <= cm) & np.isfinite(image.translation_cm)
    cost = image.rotation_deg + (image.translation_cm if math.isfinite(cm) else 0.0)
    return match_greedy(cost, allowed, image.score)


def _select_gated(image: ImageComparison, gate: float, rules: ApRules) -> ImageComparison:
    taken = _match_by_overlap(image, gate, rules)
    return image.part(np.flatnonzero(taken >= 0), np.sort(taken[taken >= 0]))


def matched_scores(images: Iterable[ImageComparison], min_mask_iou: float = 0.5) -> dict[str, float]:
    """Return the errors of objects with matched masks (`match_hungarian`), and their number.

    "recall" and "precision" are shares. "rotation_error_deg", "translation_error_cm" and "iou_3d" are means over the
    found objects; there are medians, too. "recall_5deg_5cm" and others are shares of all objects that were found within
    both limits. "rotation_error_deg_of_all" counts 180 degrees for a missed object. A mean over nothing is NaN.
    """
    errors: dict[str, list[float]] = {"rotation_error_deg": [], "translation_error_cm": [], "iou_3d": []}
    objects = predictions = 0
    for image in images:
        pairs = match_hungarian(image.mask_iou, image.same_class, min_mask_iou)
        objects += len(image.true_class_id)
        predictions += len(image.class_id)
        tables = image.rotation_deg, image.translation_cm, image.iou
        for values, table in zip(errors.values(), tables, strict=True):
            values += table[pairs.predicted, pairs.true].tolist()
    rotation, translation, _ = errors.values()
    found = len(rotation)
    scores: dict[str, float] = {"objects": objects, "found": found, "false_alarms": predictions - found}
    scores |= {"recall": _share(found, objects), "precision": _share(found, predictions)}
    scores |= {name: fmean(values) if values else math.nan for name, values in errors.items()}
    scores["rotation_error_deg_median"] = median(rotation) if rotation else math.nan
    scores["translation_error_cm_median"] = median(translation) if translation else math.nan
    scores["rotation_error_deg_of_all"] = fmean(rotation + [180.0] * (objects - found)) if objects else math.nan
    for degrees, cm in POSE_THRESHOLDS:
        within = sum(r <= degrees and t <= cm for r, t in zip(rotation, translation, strict=True))
        scores[_pose_name(degrees, cm).replace("ap_", "recall_")] = _share(within, objects)
    return scores


def _share(part: int, whole: int) -> float:
    return part / whole if whole else math.nan


def merge_comparisons(parts: Iterable[Mapping[object, ImageComparison]]) -> list[ImageComparison]:
    """Return the comparisons of several processes, with each image once."""
    return list({image: comparison for part in parts for image, comparison in part.items()}.values())
