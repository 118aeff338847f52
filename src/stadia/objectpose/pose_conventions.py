"""Find the convention of estimated object poses that raises a bad recall. Nothing is applied."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from stadia.objectpose.data.bop import BopImages, read_results, to_boxes
from stadia.objectpose.data.object_labels import ObjectImages, Points
from stadia.objectpose.scores import add_recall

MAX_EXPLAINED_RECALL = 0.6  # ADD recall from which on no convention is searched
MIN_RECALL_GAIN = 0.15  # ADD recall with another convention less that as given
MAX_EXPLAINED_IMAGES = 40  # images, spread over the split, that hypotheses are scored on

POSE_CONVENTIONS: Mapping[str, tuple[str, Callable[[Points], Points]]] = {
    "R by columns, or transposed": ("write R row by row", lambda T: _change_pose(T, T[:3, :3].T, T[:3, 3])),
    "model-to-camera given as camera-to-model": ("invert each pose", lambda T: np.asarray(np.linalg.inv(T))),
    "camera axes of OpenGL (y up, z backward)": (
        "multiply each pose from the left by diag(1, -1, -1, 1)",
        lambda T: np.diag([1.0, -1, -1, 1]) @ T,
    ),
    "model axes with y and z exchanged (z up against y up)": (
        "turn the model's axes by 90 degrees about x",
        lambda T: T @ np.array([[1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]]),
    ),
    "t in centimetres": ("multiply t by 10", lambda T: _change_pose(T, T[:3, :3], 10 * T[:3, 3])),
    "R transposed, and t of the inverse": (
        "invert each pose, with R by rows",
        lambda T: _change_pose(T, T[:3, :3].T, -T[:3, :3] @ T[:3, 3]),
    ),
}
"""What the file holds by mistake -> the fix, and the pose T_camera_model that was meant."""


def _change_pose(T: Points, R: Points, t: Points) -> Points:
    changed = np.eye(4)
    changed[:3, :3], changed[:3, 3] = R, t
    return changed


def note_pose_convention(images: ObjectImages, results: Path, recall: float | None) -> list[str]:
    """Return a note if the ADD recall of a BOP csv is bad, and another convention raises it."""
    if not isinstance(images, BopImages) or recall is None or recall >= MAX_EXPLAINED_RECALL:
        return []
    rows = read_results(results)
    chosen = np.unique(np.linspace(0, len(images) - 1, min(len(images), MAX_EXPLAINED_IMAGES)).astype(int)).tolist()
    part = images.part(chosen)
    known = set(part.ids)
    kept = [row for row in rows if (row.scene_id, row.im_id) in known]

    def measure(change: Callable[[Points], Points]) -> float:
        changed = [replace(row, T_camera_model=change(row.T_camera_model)) for row in kept]
        return float(add_recall(part, to_boxes(changed, part, results))["add_recall"] or 0)

    as_given = measure(lambda T: T)
    recalls = {name: measure(change) for name, (_, change) in POSE_CONVENTIONS.items()}
    best = max(recalls, key=lambda name: recalls[name])
    if recalls[best] < as_given + MIN_RECALL_GAIN:
        return []
    gain = f"add_recall is {recalls[best]:.3g} instead of {as_given:.3g} (of {len(chosen)} images)"
    return [f"{gain} if the poses are read as {best}. Fix: {POSE_CONVENTIONS[best][0]}"]
