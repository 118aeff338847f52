"""Find places that look alike and were made one: a second witness, because matches share the ambiguity of the scene.

Matches that join two places agree with the poses that they gave. But each place shows things that the other lacks:
points that one image sees would appear in the other image, at the same angle and distance, and it shows something else
there (Heinly et al., Correcting for Duplicate Scene Structure in Sparse 3D Reconstruction, ECCV 2014).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components, minimum_spanning_tree

from stadia.sfm.match_triangulation import VirtualView
from stadia.sfm.sparse_map import Array

MAX_ANGLE_DEG = 15.0
"""Largest angle between two images' rays to a point that both are expected to show."""

MAX_NEARER = 1.3
"""Largest ratio of their distances from the point."""

CELLS_ACROSS = 8
"""Cells along the longer side of an image, in which expected and found points are counted."""

MIN_EXPECTED = 6
"""Fewest expected points of a cell that is judged, and fewest points that the other image shows there instead."""

MAX_FOUND = 0.05
"""Largest share of the expected points that appears in a cell that contradicts."""

MIN_SHARE = 0.35
"""Least share of the expected points that two images show, if what they lack is to say something."""

MAX_CHANCE = 0.01
"""Largest chance that all expected points of a cell that contradicts are missed, if they are found as often as in the
whole image: far views and blurred images share few points anyway.
"""

MIN_BEHIND = 0.9
"""Least distance of these points over that of the expected ones: nearer things may hide what is expected."""

MIN_CONTRADICTING, MIN_WRONG = 0.015, 12
"""Share and number of expected points in contradicting cells, from which two images show different places."""

MIN_PAIRS_ACROSS, MIN_IMAGES = 4, 3
"""Fewest pairs of images that contradict, and fewest images of a place."""

ACROSS, WITHIN = 0.5, 0.05
"""Usual shares of the pairs of images that contradict: across two places, and within one."""

MAX_WITHIN = 0.3
"""Largest share of the pairs within both places that contradict, over that of the pairs across them."""

MIN_EVIDENCE = 8.0
"""Least logarithm of the likelihood ratio of two places over one."""


@dataclass(frozen=True, slots=True)
class Overlap:
    """What two images show of the points that both are expected to show: numbers of points.

    expected: points of either image that the other one is expected to show.
    found: those that it shows.
    wrong: those where it shows something else.
    """

    expected: int
    found: int
    wrong: int

    @property
    def share(self) -> float:
        """Return the share of the expected points that the images show."""
        return self.found / self.expected

    @property
    def is_contradicting(self) -> bool:
        """Return whether the images show different places."""
        return self.share >= MIN_SHARE and self.wrong >= max(MIN_WRONG, MIN_CONTRADICTING * self.expected)


@dataclass(frozen=True, slots=True)
class LookAlikes:
    """Two places that look alike.

    first, second: rows of the images of each place.
    pairs: rows of the images of the contradicting pairs, the worst first.
    """

    first: tuple[int, ...]
    second: tuple[int, ...]
    pairs: tuple[tuple[int, int], ...]


def measure_overlaps(view: VirtualView, points: Array, of_feature: NDArray[np.intp]) -> dict[tuple[int, int], Overlap]:
    """Return what pairs of images that match show of the points that both are expected to show.

    view: matches in one virtual camera.
    points: (N, 3) triangulated points.
    of_feature: (M,) the point of each feature, -1 without one (`triangulate_features`).
    """
    features, count = view.features, len(view.posed.images)
    known = np.flatnonzero(of_feature >= 0)
    order = known[np.argsort(features.rows[known], kind="stable")]
    of_image = np.split(order, np.searchsorted(features.rows[order], np.arange(1, count)))
    joined, found = _list_joined(view, of_feature), dict[tuple[int, int], Overlap]()
    for first, second in np.unique(features.images, axis=0).tolist():
        counts = [
            _count_points(view, points, of_feature, (of_image[one], of_image[other]), (one, other), joined)
            for one, other in ((first, second), (second, first))
        ]
        if min(expected for expected, _, _ in counts) >= MIN_EXPECTED:
            found[first, second] = Overlap(*(sum(numbers) for numbers in zip(*counts, strict=True)))
    return found


def _list_joined(view: VirtualView, of_feature: NDArray[np.intp]) -> NDArray[np.int64]:
    """Return (point, image) of all points that appear in an image, as sorted numbers point * F + image."""
    features, count = view.features, len(view.posed.images)
    ends = features.ends
    pairs = np.concatenate((ends, ends[:, ::-1]))
    seen = of_feature[pairs[:, 0]] >= 0
    keys = of_feature[pairs[seen, 0]] * count + features.rows[pairs[seen, 1]]
    own = np.flatnonzero(of_feature >= 0)
    return np.unique(np.concatenate((keys, of_feature[own] * count + features.rows[own])))


def _count_points(
    view: VirtualView,
    points: Array,
    of_feature: NDArray[np.intp],
    features: tuple[NDArray[np.intp], NDArray[np.intp]],
    rows: tuple[int, int],
    joined: NDArray[np.int64],
) -> tuple[int, int, int]:
    """Return how many points of an image another image is expected to show, how many it shows, and how many are where
    it shows something else.

    features: the features of both images that have a point.
    rows: rows of both images.
    joined: from `_list_joined`.
    """
    camera, T = view.camera, view.posed.T_camera_world[list(rows)]
    (own, others), (_, other) = features, rows
    point = of_feature[own]
    X = points[point]
    inside = X @ T[1, :3, :3].T + T[1, :3, 3]
    rays = [X + T_one[:3, :3].T @ T_one[:3, 3] for T_one in T]
    lengths = [np.maximum(np.linalg.norm(ray, axis=1), 1e-12) for ray in rays]
    cosine = (rays[0] * rays[1]).sum(1) / (lengths[0] * lengths[1])
    is_near = np.abs(np.log(lengths[0] / lengths[1])) < np.log(MAX_NEARER)
    is_alike = (cosine > np.cos(np.deg2rad(MAX_ANGLE_DEG))) & is_near
    usable = np.flatnonzero(is_alike & (inside[:, 2] > 0))
    if not len(usable):
        return 0, 0, 0
    xy = camera.project(inside[usable])
    shown = ((xy >= 0) & (xy < (camera.width, camera.height))).all(1)
    usable, xy = usable[shown], xy[shown]
    side = max(camera.width, camera.height) / CELLS_ACROSS

    def find_cells(xy: Array) -> NDArray[np.intp]:
        column, row = (xy / side).astype(np.intp).clip(0, CELLS_ACROSS - 1).T
        return np.asarray(row * CELLS_ACROSS + column)

    wanted = point[usable] * len(view.posed.images) + other
    is_found = joined[np.searchsorted(joined, wanted).clip(0, len(joined) - 1)] == wanted
    cells, cells_instead = find_cells(xy), find_cells(view.xy[others])
    depths = inside[usable, 2], points[of_feature[others]] @ T[1, 2, :3] + T[1, 2, 3]
    expected, found, instead = (
        np.bincount(numbers, minlength=CELLS_ACROSS**2) for numbers in (cells, cells[is_found], cells_instead)
    )
    mean, mean_instead = (
        np.bincount(numbers, depth, CELLS_ACROSS**2) / np.maximum(count, 1)
        for numbers, depth, count in zip((cells, cells_instead), depths, (expected, instead), strict=True)
    )
    wrong = (expected >= MIN_EXPECTED) & (found <= MAX_FOUND * expected) & (instead >= MIN_EXPECTED)
    wrong &= mean_instead > MIN_BEHIND * mean
    wrong &= (1 - found.sum() / max(expected.sum(), 1)) ** expected < MAX_CHANCE
    return int(expected.sum()), int(found.sum()), int(expected[wrong].sum())


def find_look_alikes(overlaps: Mapping[tuple[int, int], Overlap], count: int) -> LookAlikes | None:
    """Return two places that look alike, whose images match and contradict each other; None without them.

    overlaps: of pairs of images, from `measure_overlaps`.
    count: number of images.
    """
    pairs = np.array(list(overlaps), np.intp).reshape(-1, 2)
    wrong = np.array([overlap.is_contradicting for overlap in overlaps.values()], bool)
    if wrong.sum() < MIN_PAIRS_ACROSS:
        return None
    # images of one place share the most points, so the weakest links of the tree join places
    found = np.array([overlap.found for overlap in overlaps.values()], np.float64)
    graph = coo_matrix((1 / (1 + found) + wrong, pairs.T), (count, count))
    tree = minimum_spanning_tree(graph).tocoo()
    links = np.column_stack((tree.row, tree.col))
    evidence = np.where(wrong, np.log(ACROSS / WITHIN), np.log((1 - ACROSS) / (1 - WITHIN)))
    best: tuple[float, NDArray[np.intp]] | None = None
    for number in range(len(links)):
        kept = np.delete(links, number, 0)
        place = connected_components(coo_matrix((np.ones(len(kept)), kept.T), (count, count)), directed=False)[1]
        one, other = place[links[number]]
        is_across = (place[pairs[:, 0]] != place[pairs[:, 1]]) & np.isin(place[pairs], (one, other)).all(1)
        total = float(evidence[is_across].sum())
        sizes = min((place == one).sum(), (place == other).sum())
        enough = (wrong & is_across).sum() >= MIN_PAIRS_ACROSS and sizes >= MIN_IMAGES
        if enough and total > max(MIN_EVIDENCE, best[0] if best else 0.0):
            best = total, np.where(place == one, 1, np.where(place == other, 2, 0))
    if best is None:
        return None
    place = best[1]
    is_across = place[pairs].prod(1) == 2
    is_within = (place[pairs[:, 0]] == place[pairs[:, 1]]) & (place[pairs[:, 0]] > 0)
    if wrong[is_within].mean() > MAX_WITHIN * wrong[is_across].mean():
        return None
    at = np.flatnonzero(is_across & wrong)
    at = at[np.argsort([-overlaps[first, second].wrong for first, second in pairs[at].tolist()], kind="stable")]
    first, second = (tuple(np.flatnonzero(place == number).tolist()) for number in (1, 2))
    return LookAlikes(first, second, tuple((int(a), int(b)) for a, b in pairs[at]))
