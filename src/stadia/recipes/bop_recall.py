"""Recall of poses by the distance of model points (ADD, ADD-S) over the targets of a BOP benchmark."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, median
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stadia.data.bop import BopImages, Model
from stadia.data.object_labels import EstimatedBox, Points
from stadia.metrics.matching import greedy_pairs
from stadia.metrics.object_pose import add_m, add_s_m

WITHIN = 0.1
"""Threshold as a share of the diameter (Hinterstoisser et al., ACCV 2012)."""


def distance_m(model: Model, T_estimated: Points, T_true: Points) -> float:
    """Return ADD in metres; ADD-S for a symmetric model. Both T_camera_object are (4, 4)."""
    given = torch.from_numpy(T_estimated), torch.from_numpy(T_true), torch.from_numpy(model.vertices_m)
    return float(add_m(*given) if model.symmetry == "none" else add_s_m(*given))


def add_recall(images: BopImages, found: Sequence[Sequence[EstimatedBox]]) -> dict[str, Any]:
    """Return the ADD(-S) recall: the share of targets with an estimate within a tenth of the diameter.

    Of each object only as many estimates count as there are targets, highest score first; each takes the nearest free
    one.

    Returns "targets" (number of targets), "add_recall", "add_median_mm" over counted estimates (None without any), and
    "class", the recall of each class.
    """
    right: dict[str, list[bool]] = {}
    distances: list[float] = []
    for index, boxes in enumerate(found):
        for obj_id, count in images.requested_counts(index).items():
            model = images.models[obj_id]
            class_id = images.classes.index(model.name)
            estimates = sorted((one for one in boxes if one[0].class_id == class_id), key=lambda one: -one[1])[:count]
            true = [T for other, T in images.poses(index) if other.obj_id == obj_id]
            of_pair = _distances(model, [box.T_camera_object for box, _ in estimates], true)
            score = np.array([score for _, score in estimates])
            taken = int((greedy_pairs(of_pair, of_pair < WITHIN * model.diameter_m, score) >= 0).sum())
            right.setdefault(model.name, []).extend([True] * taken + [False] * (count - taken))
            distances += of_pair.min(1).tolist()
    every = [one for of_class in right.values() for one in of_class]
    return {
        "targets": len(every),
        "add_recall": fmean(every) if every else None,
        "add_median_mm": 1000 * median(distances) if distances else None,
        "class": {name: {"add_recall": fmean(right[name])} for name in sorted(right)},
    }


def _distances(model: Model, estimated: Sequence[Points], true: Sequence[Points]) -> NDArray[np.float64]:
    """Return distances (P, G), metres."""
    return np.array([[distance_m(model, T, T_true) for T_true in true] for T in estimated]).reshape(
        len(estimated), len(true)
    )
