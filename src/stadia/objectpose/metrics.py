"""Match predicted with true objects of an image, and compute pose errors, 3D IoU and average precision."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stadia.core.types import TensorDataclass
from stadia.geometry.poses import quaternion_wxyz_from_matrix, transform
from stadia.objectpose import boxes
from stadia.objectpose.boxes import Symmetry, symmetric_angle_deg

FloatArray = NDArray[np.float64]
IndexArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Matches:
    """Hold the pairs of P predictions and G true objects of an image that were matched, and those that were not.

    predicted: (K,) index of the prediction in each of the K matched pairs.
    true: (K,) index of the true object in each matched pair.
    false_positives: indices of the predictions that no true object was matched with.
    false_negatives: indices of the true objects that no prediction was matched with.
    """

    predicted: IndexArray
    true: IndexArray
    false_positives: IndexArray
    false_negatives: IndexArray


def instance_mask_iou(predicted: Tensor, true: Tensor, predicted_count: int, true_count: int) -> FloatArray:
    """Return the mask IoU of every predicted with every true object of one image, (P, G).

    predicted: (H, W) predicted instance map: the number of the object at each pixel, counted from 1; 0 means no object.
    true: (H, W) true instance map with numbers of the same kind.
    predicted_count: number P of predicted objects.
    true_count: number G of true objects.
    """
    seen = (true_count + 1) * predicted.long().flatten() + true.long().flatten()
    shape = predicted_count + 1, true_count + 1
    pixels = torch.bincount(seen, minlength=shape[0] * shape[1]).view(shape)
    shared = pixels[1:, 1:].double()
    joint = pixels[1:].sum(1, keepdim=True) + pixels[:, 1:].sum(0, keepdim=True) - shared
    found: FloatArray = (shared / joint.clamp(min=1)).cpu().numpy()
    return found


def match_hungarian(overlap: FloatArray, same_class: BoolArray, threshold: float = 0.5) -> Matches:
    """Match predictions with true objects of the same class so that the sum of overlaps is largest (Hungarian method).

    overlap: (P, G) overlap of each prediction with each true object, such as the mask IoU.
    same_class: (P, G) bool, true where prediction and true object have the same class.
    threshold: smallest overlap of a pair.
    """
    from scipy.optimize import linear_sum_assignment  # slow to import

    worth = np.where(same_class & (overlap >= threshold), overlap, 0.0)
    rows, columns = linear_sum_assignment(worth, maximize=True)
    paired = worth[rows, columns] > 0
    predicted, true = rows[paired], columns[paired]
    unpaired = [np.setdiff1d(np.arange(size), of) for size, of in zip(overlap.shape, (predicted, true), strict=True)]
    return Matches(predicted, true, *unpaired)


def match_greedy(cost: FloatArray, allowed: BoolArray, score: FloatArray) -> IndexArray:
    """Match predictions with true objects in the order of falling scores; return each one's object, (P,), -1 for none.

    Each prediction takes the allowed object of least cost that no earlier prediction has taken. Predictions of equal
    score choose together with the least sum of costs, so that their order in the arrays does not matter.

    cost: (P, G) cost of each pair of a prediction and a true object.
    allowed: (P, G) bool, whether the pair may be matched.
    score: (P,) score of each prediction.
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


@dataclass(frozen=True, slots=True)
class PosedObjects(TensorDataclass):
    """Hold class, pose and size of M predicted or true objects.

    class_id: (M,) class numbers; 0 is the background.
    T_camera_object: (M, 4, 4) poses, from object to camera coordinates in metres.
    size_m: (M, 3) edge lengths of each object's box along its x, y and z axes, in metres.
    symmetry: rotations that leave the objects unchanged. It is known for true objects; predicted ones have none.
    score: (M,) confidence of each prediction; 1 for true objects.
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
    """Return the angle in degrees, (M,), between predicted and true rotations, the smallest over the symmetry.

    predicted: M predicted objects.
    true: the M true objects that they are compared with, in the same order. Their symmetry is used.
    """
    q, q_true = (quaternion_wxyz_from_matrix(x.T_camera_object[..., :3, :3].double()) for x in (predicted, true))
    return symmetric_angle_deg(q, q_true, true.symmetry)


def translation_error_cm(predicted: PosedObjects, true: PosedObjects) -> Tensor:
    """Return the distance in centimetres, (M,), between the predicted and the true center of each object.

    predicted: M predicted objects.
    true: the M true objects that they are compared with, in the same order.
    """
    predicted_m, true_m = (x.T_camera_object[..., :3, 3].double() for x in (predicted, true))
    return 100 * (predicted_m - true_m).norm(dim=-1)


def iou_3d(predicted: PosedObjects, true: PosedObjects) -> Tensor:
    """Return the exact IoU, (M,), of predicted and true oriented boxes, the largest over the symmetry.

    predicted: M predicted objects.
    true: the M true objects that they are compared with, in the same order. Their symmetry is used.
    """
    given = (predicted.T_camera_object, predicted.size_m, true.T_camera_object, true.size_m)
    return boxes.symmetric_box_iou(*given, true.symmetry)


def iou_3d_hull(predicted: PosedObjects, true: PosedObjects) -> Tensor:
    """Return the IoU, (M,), of the axis-aligned boxes that enclose the predicted and the true box of each object.

    The boxes are aligned with the axes of the camera, as in evaluations of NOCS. This IoU is usually larger than the
    exact one of the oriented boxes (`iou_3d`).

    predicted: M predicted objects.
    true: the M true objects that they are compared with, in the same order. Their symmetry is used.
    """
    given = (predicted.T_camera_object, predicted.size_m, true.T_camera_object, true.size_m)
    return boxes.max_hull_iou_over_turns(*given, true.symmetry.revolution)


def add_m(T_predicted: Tensor, T_true: Tensor, points: Tensor) -> Tensor:
    """Return ADD in metres, (...): the mean distance between a model's points in the predicted and in the true pose.

    T_predicted: (..., 4, 4) predicted poses, from model to camera coordinates in metres.
    T_true: (..., 4, 4) true poses.
    points: (N, 3) points of the model in metres.

    Source: Hinterstoisser et al., "Model based training, detection and pose estimation", ACCV 2012.
    """
    points = points.double()
    return (transform(T_predicted.double(), points) - transform(T_true.double(), points)).norm(dim=-1).mean(-1)


def add_s_m(T_predicted: Tensor, T_true: Tensor, points: Tensor) -> float:
    """Return ADD-S (ADI) in metres: the mean distance from model points in the true pose to the nearest predicted one.

    It is meant for symmetric objects, because ADD would count their equivalent poses as wrong. Points that coincide are
    searched once, because a search tree cannot separate them, but count as often as they occur.

    T_predicted: (4, 4) predicted pose, from model to camera coordinates in metres.
    T_true: (4, 4) true pose.
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


IOU_THRESHOLDS = (0.25, 0.5, 0.75)  # 3D IoU from which an object is found, as NOCS reports it
# Degrees and centimetres up to which a pose is right, as NOCS reports them.
POSE_THRESHOLDS = ((5.0, 2.0), (5.0, 5.0), (10.0, 2.0), (10.0, 5.0), (10.0, 10.0))
ROTATION_THRESHOLDS = (5.0, 10.0)  # degrees, whatever the translation: "ap_5deg"
"""Limits in degrees of the rotation error for scores such as "ap_5deg", with any translation error."""


@dataclass(frozen=True, slots=True)
class ImageComparison:
    """Hold the comparison of every one of P predictions in an image with every one of its G true objects.

    class_id: (P,) class number of each prediction.
    score: (P,) score of each prediction.
    true_class_id: (G,) class number of each true object.
    rotation_deg: (P, G) rotation errors in degrees; infinite for different classes.
    translation_cm: (P, G) translation errors in centimetres; infinite for different classes.
    iou: (P, G) exact IoU of the oriented boxes; 0 for different classes.
    hull_iou: (P, G) IoU of the enclosing axis-aligned boxes (see `iou_3d_hull`); 0 for different classes.
    mask_iou: (P, G) IoU of the masks; 0 if masks were not compared.
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
        """Return for each prediction and each true object whether their classes are equal, (P, G) bool."""
        return self.class_id[:, None] == self.true_class_id[None]

    def part(self, rows: IndexArray, columns: IndexArray) -> "ImageComparison":
        """Return the comparison restricted to some of the predictions and some of the true objects.

        rows: indices of the predictions to keep.
        columns: indices of the true objects to keep.
        """
        pairs = (self.rotation_deg, self.translation_cm, self.iou, self.hull_iou, self.mask_iou)
        chosen = (x[rows[:, None], columns] for x in pairs)
        return ImageComparison(self.class_id[rows], self.score[rows], self.true_class_id[columns], *chosen)


_TURNED_PAIRS_AT_ONCE = 1 << 14  # pairs times rotations of a symmetry: a quarter of a gigabyte


def compare_objects(predicted: PosedObjects, true: PosedObjects, mask_iou: FloatArray | None = None) -> ImageComparison:
    """Compare every prediction in one image with every true object of the same class in that image.

    predicted: the P predicted objects.
    true: the G true objects.
    mask_iou: (P, G) IoU of their masks (see `instance_mask_iou`); None sets it to 0.
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
    """Choose how average precision compares boxes and which objects it counts.

    hull: True compares the enclosing axis-aligned boxes, False the oriented boxes themselves.
    gate: if given, the pose scores (limits of rotation and translation errors) count only predictions and objects
        whose boxes overlap by more than this IoU. None counts all, so that a missed object lowers the pose scores.
    """

    hull: bool
    gate: float | None


ORIENTED_BOX_RULES = ApRules(hull=False, gate=None)  # oriented boxes, and missed objects count

NOCS_COMPAT_RULES = ApRules(hull=True, gate=0.1)
"""Rules of the scores published on REAL275 (Wang et al., CVPR 2019): axis-aligned boxes, and poses of found objects
only.
"""


def average_precision(score: FloatArray, right: BoolArray, objects: int) -> float:
    """Return the average precision of predictions: the area under the falling envelope of precision over recall.

    This is the definition of PASCAL VOC since 2010. Predictions of equal score count together. The result is NaN
    without true objects.

    score: (P,) score of each prediction.
    right: (P,) bool, whether the prediction was matched with a true object.
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
    """Return average precisions in [0, 1], averaged over classes, by name ("ap_iou50", "ap_5deg_5cm", ...).

    Predictions take true objects of their class in the order of falling scores (see `match_greedy`). For "ap_iou...",
    a prediction takes the object with the largest overlap above the threshold. For "ap_...deg_...cm", it takes the
    object with the least sum of degrees and centimetres of error, both within the limits. Classes without a true
    object are left out. Without any object all values are NaN.

    images: the comparison of predictions with true objects of each image.
    classes: class numbers to average over.
    rules: which boxes are compared and which objects count in pose scores.
    """
    images = list(images)
    of_class = [_average_precisions([_select_class(image, one) for image in images], rules) for one in classes]
    scored = [scores for scores in of_class if scores is not None]
    return {name: fmean(scores[name] for scores in scored) if scored else math.nan for name in score_names()}


def score_names() -> list[str]:
    """Return the names of all scores of `mean_average_precisions`, such as "ap_iou50", "ap_5deg_2cm" and "ap_5deg"."""
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


def matched_scores(images: Iterable[ImageComparison]) -> dict[str, float]:
    """Match predicted with true objects by their masks, from an IoU of 0.5; return counts, recalls and mean errors.

    "objects" is the number of true objects, "found" of those that were matched, and "false_alarms" of predictions
    that were not. "recall" and "precision" are found / objects and found / predictions. "rotation_error_deg",
    "translation_error_cm" and "iou_3d" are means over the found objects; the first two have medians, too
    (..."_median"). "recall_5deg_5cm" and the like are the shares of all true objects that were found with errors
    within both limits. "rotation_error_deg_of_all" is a mean over all true objects; a missed object counts as 180
    degrees. A mean or share of nothing is NaN.

    images: the comparison of predictions with true objects of each image.
    """
    errors: dict[str, list[float]] = {"rotation_error_deg": [], "translation_error_cm": [], "iou_3d": []}
    objects = predictions = 0
    for image in images:
        pairs = match_hungarian(image.mask_iou, image.same_class)
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
    """Merge the image comparisons of several processes into one list, which contains each image once.

    parts: for each process, its comparisons by a key that identifies the image.
    """
    return list({image: comparison for part in parts for image, comparison in part.items()}.values())
