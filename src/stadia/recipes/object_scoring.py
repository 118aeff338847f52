"""Scores of objects found in images with known poses."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stadia.core.types import Meta
from stadia.evaluation.score_files import write_score
from stadia.metrics.matching import best_pairs
from stadia.metrics.object_scores import NOCS_COMPAT, Comparison, average_precisions, matched_scores


@dataclass(frozen=True)
class ObjectScore:
    """Comparisons of images with the ground truth, and their scores.

    classes: names, background first.
    """

    classes: Sequence[str]
    images: Sequence[tuple[Meta, Comparison]]

    def metrics(self) -> dict[str, float]:
        """Return scores over all objects: errors and recalls of mask matches, and average precisions."""
        comparisons = [comparison for _, comparison in self.images]
        return matched_scores(comparisons) | average_precisions(comparisons, range(1, len(self.classes)))

    def per_class(self) -> dict[str, dict[str, float]]:
        """Return for each class that occurs: number of objects, recall and median errors."""
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
        """Return the errors of each true object; a missed one has none."""
        entries = []
        for meta, comparison in self.images:
            pairs = best_pairs(comparison.mask_iou, comparison.same_class)
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
        """Return the numbers without the list of objects; NaN becomes null."""
        comparisons = [comparison for _, comparison in self.images]
        published = average_precisions(comparisons, range(1, len(self.classes)), NOCS_COMPAT)
        parts = {"metrics": self.metrics(), "nocs_compat": published} | {"per_class": self.per_class()}
        return {"images": len(self.images), **{name: known(part) for name, part in parts.items()}}

    def write(self, path: Path, about: dict[str, Any]) -> Path:
        """Write the score file with all objects."""
        write_score(path, {**about, **self.summary(), "per_object": self.per_object()})
        return path


def image_name(meta: Meta) -> str:
    """Return folder and file of an image, a name for people."""
    if meta.file is None:
        return f"{meta.recording} {meta.index}"
    scene = (
        meta.file.parent.parent.name
        if meta.file.parent.name in ("image", "image_2", "rgb", "gray")
        else meta.file.parent.name
    )
    return f"{scene}/{meta.file.stem}"


def score_of(classes: Sequence[str], images: Iterable[tuple[Meta, Comparison]]) -> ObjectScore:
    """Return the score of images, each counted once."""
    return ObjectScore(classes, list(dict(images).items()))


def known(part: dict[str, Any]) -> dict[str, Any]:
    """Replace non-finite numbers by None, nested."""
    values = {name: known(value) if isinstance(value, dict) else value for name, value in part.items()}
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in values.items()
    }
