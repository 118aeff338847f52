"""Choose images of an item that overlap, match them, and add more until the answer is certain enough."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stadia.audit.item_images import ItemImages
from stadia.core.errors import DataError
from stadia.data.frame_selection import spread_indices
from stadia.geometry.image_features import describe_places, match_sift_features
from stadia.geometry.two_views import find_epipolar_inliers
from stadia.sfm.image_matches import ImageMatches, find_image_features, match_features
from stadia.sfm.pair_matching import FeatureFiles, read_features, write_features
from stadia.sfm.reconstruction import MAX_ERROR_PX, Workers
from stadia.sfm.sparse_map import Array

MIN_OVERLAP = 60
"""Fewest verified matches of neighbors in a sample, features of MAX_SIDE_PX."""

PROBES = (0.25, 0.5, 0.75)
"""Places of an item, as shares of its images, at which the distance of neighbors in a sample is tried."""

MAX_SPREAD = 40
"""Most photos without an order among which a sample is chosen."""


class ImageSample:
    """Images of an item with their features, which are computed once.

    images: the images of the item.
    folder: an empty folder for features.
    """

    def __init__(self, images: ItemImages, folder: Path) -> None:
        self.images = images
        self._folder = folder
        self._files = dict[int, Path]()
        self._scales = dict[int, Array]()
        self._step: int | None = None

    def choose(self, allowed: Sequence[int], count: int) -> list[int]:
        """Return `count` of the allowed images, all of fewer: equally far apart, as far as neighbors overlap.

        Of photos without an order, the ones that look most alike are chosen.

        allowed: indices of images, rising.
        count: number of images.
        """
        if len(allowed) <= count:
            return list(allowed)
        if self._step is None:
            self._step = self._find_step(allowed, count)
        if self._step == 0:
            return self._choose_alike(allowed, count)
        step, middle = self._step, len(allowed) // 2
        while step > 1 and len(range(middle % step, len(allowed), step)) < count:
            step = max(step // 2, 1)
        places = list(range(middle % step, len(allowed), step))
        first = min(max(places.index(middle) - count // 2, 0), len(places) - count)
        return [allowed[place] for place in places[first : first + count]]

    def _find_step(self, allowed: Sequence[int], count: int) -> int:
        """Return the largest distance of neighbors at which images match at each of PROBES; 0 without an order."""
        step = max((len(allowed) - 1) // (count - 1), 1)
        while True:
            starts = [min(int(share * len(allowed)), len(allowed) - 1 - step) for share in PROBES]
            found = list[int]()
            for start in starts:
                found.append(self._count_matches(allowed[start], allowed[start + step]))
                if found[-1] < MIN_OVERLAP and step > 1:  # the other places decide nothing
                    break
            if min(found) >= MIN_OVERLAP:
                return step
            if step == 1:
                return 1 if np.median(found) >= MIN_OVERLAP else 0
            step = max(step // 2, 1)

    def _choose_alike(self, allowed: Sequence[int], count: int) -> list[int]:
        spread = [allowed[place] for place in spread_indices(len(allowed), max(MAX_SPREAD, count))]
        files = self._read(spread)
        places = describe_places(FeatureFiles([files[index] for index in spread]))
        likeness = places @ places.T
        np.fill_diagonal(likeness, -np.inf)
        chosen = [int(np.sort(likeness, axis=1)[:, -3:].sum(1).argmax())]
        while len(chosen) < min(count, len(spread)):
            nearest = likeness[chosen].max(0)
            nearest[chosen] = -np.inf
            chosen.append(int(nearest.argmax()))
        return sorted(spread[place] for place in chosen)

    def _count_matches(self, first: int, second: int) -> int:
        files = self._read([first, second])
        one, other = (read_features(files[index]) for index in (first, second))
        rows = match_sift_features(one, other)
        if len(rows) < MIN_OVERLAP:
            return len(rows)
        return int(find_epipolar_inliers(one.xy[rows[:, 0]], other.xy[rows[:, 1]], MAX_ERROR_PX).sum())

    def _read(self, indices: Sequence[int]) -> dict[int, Path]:
        """Return the files of the features of images; those of new ones are computed."""
        for index in indices:
            if index not in self._files:
                image, factor = self.images.reader(index)
                found, scale = find_image_features(image)
                file = self._folder / f"{index:08d}.npz"
                write_features(file, found)
                self._files[index], self._scales[index] = file, scale * factor
        return {index: self._files[index] for index in indices}

    def match(self, chosen: Sequence[int]) -> ImageMatches:
        """Return the matches of images with each other; names and sizes are those of all images.

        Raises DataError if no pair of them matches.
        """
        pairs, ordered = match_features(self._read(chosen), self._scales, Workers(1))
        if not pairs:
            fix = "check that the images show one scene from several places"
            raise DataError(self.images.name, found="no two images that match", expected="images that overlap", fix=fix)
        images = self.images
        return ImageMatches(images.names, images.sizes, pairs, images.times_s, ordered)


def select_images(matches: ImageMatches, chosen: Sequence[int], times_s: Array | None) -> ImageMatches:
    """Return matches whose images are only the chosen ones.

    matches: matches between the chosen images.
    chosen: indices of images, rising.
    times_s: (N,) times of the chosen images; None if poses do not belong to images by time.
    """
    place = {index: row for row, index in enumerate(chosen)}
    kept: NDArray[np.intp] = np.asarray(chosen, np.intp)
    return ImageMatches(
        tuple(matches.names[index] for index in chosen),
        matches.sizes[kept],
        [replace(pair, first=place[pair.first], second=place[pair.second]) for pair in matches.pairs],
        times_s,
        matches.is_ordered,
    )
