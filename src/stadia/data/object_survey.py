"""What there is to learn in a set of pictures of objects, counted before training: how many of each class, and what nobody can see."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from stadia.data.object_labels import ObjectPictures


@dataclass(frozen=True, slots=True)
class Survey:
    """Of the pictures that were looked at.

    objects: how many of each class are visible.  pictures_with: in how many pictures.
    hidden: (picture, object from 1) of each labelled object that no pixel shows.  empty: pictures without a visible object.
    median_visible_px: of the visible ones; 0 where there are none.
    """

    pictures: int
    objects: dict[str, int]
    pictures_with: dict[str, int]
    hidden: tuple[tuple[int, int], ...]
    empty: tuple[int, ...]
    median_visible_px: float


def survey(pictures: ObjectPictures, at_most: int = 200) -> Survey:
    """Look at the labels of up to `at_most` pictures, spread evenly over the set. Raises DataError for labels that cannot be."""
    looked_at = np.unique(np.linspace(0, len(pictures) - 1, min(at_most, len(pictures))).round().astype(int)).tolist()
    objects, pictures_with = Counter[str](), Counter[str]()
    hidden: list[tuple[int, int]] = []
    empty: list[int] = []
    visible_px: list[int] = []
    for index in looked_at:
        labels = pictures.labels(index).objects
        hidden += [(index, place) for place, one in enumerate(labels, start=1) if one.visible_px == 0]
        visible = [one for one in labels if one.visible_px > 0]
        visible_px += [one.visible_px for one in visible]
        names = [pictures.classes[one.class_id] for one in visible]
        objects.update(names)
        pictures_with.update(set(names))
        if not visible:
            empty.append(index)
    return Survey(
        len(looked_at), dict(objects), dict(pictures_with), tuple(hidden), tuple(empty), float(np.median(visible_px)) if visible_px else 0.0
    )
