"""What there is to learn in a set of pictures of objects, counted before training: how many of each class, and what has no label."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from stadia.data.object_labels import ObjectPictures


@dataclass(frozen=True, slots=True)
class Survey:
    """Of the pictures that were looked at.

    objects: how many of each class are visible.
    hidden: (picture, object) of each that no pixel shows: its place from 1, or its number in the files where it has no label.
    left_out: (picture, object by its number in the files, reason) of each that pixels show, and that has no label.
    """

    pictures: int
    objects: dict[str, int]
    hidden: tuple[tuple[int, int], ...]
    left_out: tuple[tuple[int, int, str], ...]


def survey(pictures: ObjectPictures, at_most: int = 200) -> Survey:
    """Look at the labels of up to `at_most` pictures, spread evenly over the set. Raises DataError for labels that cannot be."""
    looked_at = np.unique(np.linspace(0, len(pictures) - 1, min(at_most, len(pictures))).round().astype(int)).tolist()
    objects = Counter[str]()
    hidden: list[tuple[int, int]] = []
    left_out: list[tuple[int, int, str]] = []
    for index in looked_at:
        labels, unlabelled = pictures.labels(index).objects, pictures.left_out(index)
        objects.update(pictures.classes[one.class_id] for one in labels if one.visible_px)
        hidden += [(index, place) for place, one in enumerate(labels, start=1) if not one.visible_px]
        hidden += [(index, one.number) for one in unlabelled if not one.visible_px]
        left_out += [(index, one.number, one.reason) for one in unlabelled if one.visible_px]
    return Survey(len(looked_at), dict(objects), tuple(hidden), tuple(left_out))
