"""Find what the values of a result's depth maps mean, and judge them, by the depth of triangulated points."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from stadia.core.verdict import Verdict
from stadia.io.records.reconstruction import Reconstruction
from stadia.judge.error import Measured
from stadia.judge.limits import RESULT_LIMITS
from stadia.judge.purposes import list_good_for
from stadia.judge.questions import QuestionVerdict
from stadia.sfm.match_triangulation import VirtualView
from stadia.sfm.sparse_map import Array, SparseMap

DEPTH_IMAGES = 40
"""Depth maps that are compared, spread over the images."""

MIN_DEPTH_POINTS = 100
"""Fewest triangulated points that judge depth maps."""

MAX_POINT_DEVIATION = 0.1
"""Largest relative deviation of a triangulated depth that depth maps are compared with."""

MIN_MEANING_GAIN = 2.0
"""Another meaning is named if it reduces the median error of depth maps at least by this factor."""


@dataclass(frozen=True, slots=True)
class DepthMeaning:
    """What values of depth maps mean.

    name: key in DEPTH_MEANINGS.
    scale: factor to the unit of the poses.
    error: median relative error at triangulated points.
    error_given: the same for depth in the unit of the poses, up to one factor.
    points: number of compared points.
    images: number of compared depth maps.
    """

    name: str
    scale: float
    error: float
    error_given: float
    points: int
    images: int


DEPTH_MEANINGS: Mapping[str, tuple[str, Callable[[Array, Array], Array]]] = {
    "depth": ("depth along the view", lambda values, length: values),
    "disparity": ("disparity or inverse depth", lambda values, length: 1 / values),
    "distance": ("distance from the camera (length of the ray)", lambda values, length: values / length),
}
"""What values of depth maps may mean: description, and function of the values (N,) and the lengths (N,) of the rays
with z = 1 that returns depth up to one factor.
"""


def measure_depth(reconstruction: Reconstruction, view: VirtualView, sparse: SparseMap) -> DepthMeaning | None:
    """Find what the values of depth maps mean, by the depth of triangulated points; None without enough of them.

    reconstruction: a reconstruction with depth maps.
    view: matches in one virtual camera.
    sparse: points triangulated from them.
    """
    assert reconstruction.depth is not None
    if not len(sparse.points):
        return None
    precise = sparse.relative_deviations() < MAX_POINT_DEVIATION
    z = sparse.in_camera()[:, 2]
    found = list[Array]()
    for row in np.unique(np.linspace(0, len(view.posed.images) - 1, DEPTH_IMAGES).astype(int)):
        observed = np.flatnonzero((sparse.observed[:, 0] == row) & precise[sparse.observed[:, 1]] & (z > 0))
        values = reconstruction.depth(int(view.posed.rows[row]))
        ray = (sparse.xy[observed] - view.camera.center_px) / view.camera.focal_px
        at = view.posed.project(row, ray)
        height, width = values.shape
        size = view.posed.sizes[row]
        scale = np.array([width, height]) / size
        if view.posed.squares and width == height:
            scale[:] = scale.min() if view.posed.squares == "padded" else scale.max()
        x, y = np.rint((at + 0.5 - size / 2) * scale + np.array([width, height]) / 2 - 0.5).astype(int).T
        inside = (x >= 0) & (y >= 0) & (x < width) & (y < height)
        sampled = np.full(len(at), np.nan)
        sampled[inside] = values[y[inside], x[inside]]
        found.append(np.column_stack((sampled, z[observed], np.sqrt(1 + (ray**2).sum(1)))))
    stacked = np.concatenate(found) if found else np.empty((0, 3))
    stacked = stacked[np.isfinite(stacked).all(1) & (stacked[:, 0] > 0)]
    if len(stacked) < MIN_DEPTH_POINTS:
        return None
    values, depth, length = stacked.T
    errors, scales = {}, {}
    for name, (_, convert) in DEPTH_MEANINGS.items():
        log_ratio = np.log(depth) - np.log(convert(values, length))
        scales[name] = float(np.exp(np.median(log_ratio)))
        errors[name] = float(np.median(np.abs(log_ratio - np.median(log_ratio))))
    best = min(errors, key=lambda name: errors[name])
    if errors["depth"] < MIN_MEANING_GAIN * errors[best] or errors[best] > RESULT_LIMITS["depth_error"].unusable:
        best = "depth"
    return DepthMeaning(best, scales[best], errors[best], errors["depth"], len(stacked), len(found))


def judge_depth(meaning: DepthMeaning | None, path: QuestionVerdict) -> QuestionVerdict:
    """Return the verdict on the depth maps of a result.

    meaning: what their values mean; None if too few points were compared.
    path: the verdict on the poses, from which the points are triangulated.
    """
    if meaning is None:
        return QuestionVerdict(Verdict.NOT_JUDGED, "too few triangulated points are inside depth maps", "0 points")
    basis = f"{meaning.points} points in {meaning.images} depth maps"
    if path.verdict is Verdict.UNUSABLE:
        return QuestionVerdict(Verdict.NOT_JUDGED, "the points rest on poses that are wrong", basis)
    share = Measured(meaning.error, meaning.error / meaning.points**0.5)
    error = f"median error {meaning.error:.0%} up to one factor, {list_good_for(share)}"
    if meaning.name != "depth":
        what = f"the values are {DEPTH_MEANINGS[meaning.name][0]}: {error}, {meaning.error_given:.0%} as depth"
        return QuestionVerdict(Verdict.UNUSABLE, what, basis)
    verdict = RESULT_LIMITS["depth_error"].judge(meaning.error)
    of_unit = RESULT_LIMITS["depth_unit"].judge(meaning.scale)
    if of_unit.is_worse_than(verdict):
        return QuestionVerdict(of_unit, f"depth times {meaning.scale:.4g} is in the unit of the poses; {error}", basis)
    return QuestionVerdict(verdict, error, basis)


def changes_depth(meaning: DepthMeaning) -> bool:
    """Return whether the values of depth maps must change to be depth in the unit of the poses."""
    return meaning.name != "depth" or RESULT_LIMITS["depth_unit"].judge(meaning.scale) is not Verdict.USABLE


def measure_rays(reconstruction: Reconstruction) -> Callable[[int, tuple[int, ...]], Array]:
    """Return a function of a row and the shape of its depth map that returns the lengths (h, w) of rays with z = 1."""

    def measure(row: int, shape: tuple[int, ...]) -> Array:
        height, width = shape
        K = reconstruction.K[row]
        size = reconstruction.sizes[row] if reconstruction.sizes[row].all() else np.array([width, height])
        scale = np.array([width, height]) / size
        x = (np.arange(width) + 0.5) / scale[0] - 0.5 - K[0, 2]
        y = (np.arange(height) + 0.5) / scale[1] - 0.5 - K[1, 2]
        return np.sqrt(1 + (x[None] / K[0, 0]) ** 2 + (y[:, None] / K[1, 1]) ** 2)

    return measure
