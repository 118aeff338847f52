"""The pairs of images whose matches contradict a result most, with epipolar lines, to be drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stadia.geometry.poses import invert_pose
from stadia.io.records.reconstruction import Reconstruction
from stadia.judge.reconstructions.check_reconstruction import MIN_SEEN
from stadia.sfm.image_matches import ImageMatches
from stadia.sfm.map_evidence import MAX_ERROR, measure_epipolar, measure_errors
from stadia.sfm.match_triangulation import VirtualView, pose_images, triangulate_view, view_matches
from stadia.sfm.pair_matching import FramePair
from stadia.sfm.sparse_map import Array


@dataclass(frozen=True, slots=True, eq=False)
class ShownPair:
    """The matches of two images, to be drawn.

    first, second: indices of the images.
    xy_first, xy_second: (N, 2) pixels of the matches in the images as they are.
    agrees: (N,), whether each match agrees with the reconstruction.
    shown: indices of the matches whose epipolar lines are given.
    lines: for each of them the pixels (K, 2) of its epipolar line in the second image.
    """

    first: int
    second: int
    xy_first: Array
    xy_second: Array
    agrees: NDArray[np.bool_]
    shown: tuple[int, ...]
    lines: tuple[Array, ...]


MAX_LINES = 6  # epipolar lines that are drawn in a pair of images

_LINE_STEPS = np.linspace(-4, 4, 200)


def show_worst_pairs(reconstruction: Reconstruction, matches: ImageMatches, count: int = 4) -> list[ShownPair]:
    """Return the pairs of images with the most contradicting matches, worst first; an image is in at most one pair.

    reconstruction: cameras and poses.
    matches: matches between the images.
    count: most pairs.
    """
    view, ranked = _measure_pairs(reconstruction, matches)
    found, used = list[ShownPair](), set[int]()
    for pair, agrees in sorted(ranked.values(), key=lambda entry: entry[1].mean()):
        if len(found) < count and not {pair.first, pair.second} & used:
            used |= {pair.first, pair.second}
            order = np.argsort(agrees, kind="stable")[:: max(len(agrees) // MAX_LINES, 1)][:MAX_LINES]
            found.append(_show_pair(view, pair, agrees, matches, tuple(order.tolist())))
    return found


def show_repaired_pair(
    given: Reconstruction, corrected: Reconstruction, matches: ImageMatches
) -> tuple[ShownPair, ShownPair] | None:
    """Return the pair of images in which a correction repairs most matches, as given and as corrected; None if it
    repairs none.

    given, corrected: cameras and poses before and after.
    matches: matches between the images.
    """
    (view, before), (view_after, after) = (_measure_pairs(one, matches) for one in (given, corrected))
    repaired = {
        key: after[key][1] & ~agrees
        for key, (_, agrees) in before.items()
        if key in after and len(after[key][1]) == len(agrees)
    }
    best = max(repaired, key=lambda key: (int(repaired[key].sum()), key), default=None)
    if best is None or not repaired[best].any():
        return None
    helped = np.flatnonzero(repaired[best])
    rows = tuple(helped[:: -(-len(helped) // MAX_LINES)].tolist())
    return _show_pair(view, *before[best], matches, rows), _show_pair(view_after, *after[best], matches, rows)


@dataclass(frozen=True, slots=True, eq=False)
class PartnerMatches:
    """The matches of an image with the image that it matches best.

    other: index of that image.
    xy: (N, 2) pixels of the matches in the image.
    xy_other: (N, 2) pixels of the matches in the other image.
    agrees: (N,), whether each match agrees with the reconstruction.
    count: number of all matches of the two images, of which N are given.
    """

    other: int
    xy: Array
    xy_other: Array
    agrees: NDArray[np.bool_]
    count: int


MAX_SHOWN_MATCHES = 60


def match_partners(
    reconstruction: Reconstruction, matches: ImageMatches, indices: Sequence[int]
) -> dict[int, PartnerMatches]:
    """Return for each of some images its matches with the one of the others that it matches best; without an entry if
    none of them matches.

    reconstruction: cameras and poses.
    matches: matches between the images.
    indices: indices of the images.
    """
    wanted, best = set(indices), dict[int, PartnerMatches]()
    originals = {(one.first, one.second): one for one in matches.pairs}
    for key, (_, agrees) in _measure_pairs(reconstruction, matches)[1].items():
        if not wanted.issuperset(key):
            continue
        original = originals[key]
        rows = np.unique(np.linspace(0, len(agrees) - 1, min(len(agrees), MAX_SHOWN_MATCHES)).round().astype(int))
        ends = (original.xy_first[rows], original.xy_second[rows])
        for at, image in enumerate(key):
            if image not in best or best[image].count < len(agrees):
                best[image] = PartnerMatches(key[1 - at], ends[at], ends[1 - at], agrees[rows], len(agrees))
    return best


def _measure_pairs(
    reconstruction: Reconstruction, matches: ImageMatches
) -> tuple[VirtualView, dict[tuple[int, int], tuple[FramePair, NDArray[np.bool_]]]]:
    """Return the matches in a virtual camera, and whether they agree, by the indices of both images."""
    view = view_matches(pose_images(reconstruction, matches), matches)
    sparse = triangulate_view(view)
    limit = MAX_ERROR * max(view.camera.height, view.camera.width)
    ranked = {}
    for pair in view.list_pairs():
        if len(pair.is_held) >= MIN_SEEN:
            by_point = measure_errors(sparse, pair)
            errors = np.where(np.isnan(by_point), measure_epipolar(sparse, pair), by_point)
            ranked[pair.first, pair.second] = pair, errors <= limit
    return view, ranked


def _show_pair(
    view: VirtualView, pair: FramePair, agrees: NDArray[np.bool_], matches: ImageMatches, rows: tuple[int, ...]
) -> ShownPair:
    original = next(one for one in matches.pairs if (one.first, one.second) == (pair.first, pair.second))
    lines = tuple(_find_epipolar_line(view, pair, row) for row in rows)
    return ShownPair(pair.first, pair.second, original.xy_first, original.xy_second, agrees, rows, lines)


def _find_epipolar_line(view: VirtualView, pair: FramePair, row: int) -> Array:
    """Return pixels (K, 2) of the second image on the epipolar line of a match, in front of the camera."""
    first, second = view.find_rows(pair)
    T = view.posed.T_camera_world[second] @ invert_pose(view.posed.T_camera_world[first])
    ray = np.append((pair.xy_first[row] - view.camera.center_px) / view.camera.focal_px, 1.0)
    a, b, c = np.cross(T[:3, 3], T[:3, :3] @ ray)
    along = _LINE_STEPS
    is_steep = abs(b) < abs(a)
    points = np.column_stack(
        (-(b * along + c) / (a or 1e-12), along) if is_steep else (along, -(a * along + c) / (b or 1e-12))
    )
    return view.posed.project(second, points)
