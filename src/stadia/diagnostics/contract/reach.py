"""Is what a rig's pictures show within what depth can be? Asked of their matches, so that no label is needed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from stadia.diagnostics.catalogue import finding
from stadia.diagnostics.contract.start import Start
from stadia.diagnostics.finding import Finding, Severity
from stadia.diagnostics.instruments import two_view
from stadia.diagnostics.instruments.matching import detect, match

PAIRS, ENOUGH, ON_THEIR_LINE_PX, OUT_OF_REACH_PX, MOST_OUTSIDE = 4, 30, 1.0, 1.0, 0.25
"""Pairs that are looked at; matches that say something; how far from its epipolar line a match may lie, and by how many pixels beyond the
range's ends it is outside, so that what is far is not; and the share that may be, for mountains.
"""

Array = NDArray[np.float64]


def pair_is_in_reach(start: Start) -> Iterator[Finding]:
    """M03: the matches of a pair of known rig are as far apart as depths in the range make them. Labels say it better, where any are."""
    rig = getattr(start.batch.inputs, "T_source_target_rig", None)
    if rig is None or start.depth_range_m is None or getattr(start.batch.targets, "depth_m", None) is not None:
        return
    pairs = rig.isfinite().all(-1).all(-1).nonzero().tolist()[:PAIRS]
    beyond_px = np.concatenate([np.zeros((0, 2)), *(_beyond_px(start, start.depth_range_m, *pair) for pair in pairs)])
    too_near, too_far = (beyond_px > OUT_OF_REACH_PX).sum(0)
    outside = (too_near + too_far) / max(len(beyond_px), 1)
    if len(beyond_px) < ENOUGH or outside <= MOST_OUTSIDE:
        return
    nearest, farthest = start.depth_range_m
    yield finding(
        "M03",
        Severity.WARN,
        measured=f"of {len(beyond_px)} matches of the pair {outside:.0%} lie outside of {nearest:g} to {farthest:g} m, which the depth "
        f"can be: {too_near} are nearer, {too_far} farther",
        expected=f"at most {MOST_OUTSIDE:.0%}",
        evidence={"matches": len(beyond_px), "nearer": int(too_near), "farther": int(too_far)},
    )


def _beyond_px(start: Start, depth_range_m: tuple[float, float], sample: int, source: int) -> Array:
    """(M, 2) pixels by which matches of a pair are further apart than at the nearest depth, and nearer together than at the farthest."""
    targets = start.batch.targets
    matches = match(detect(_picture(targets.image[sample])), detect(_picture(targets.sources[sample, source])))
    K, K_source = _numbers(targets.camera.K[sample]), _numbers(targets.source_camera.K[sample, source])
    T_source_target = _numbers(start.batch.inputs.T_source_target_rig[sample, source])
    way = K, K_source, T_source_target
    matches = matches.where(two_view.epipolar_distance_px(matches.first_px, matches.second_px, *way) < ON_THEIR_LINE_PX)
    z, _ = two_view.triangulate(matches.first_px, matches.second_px, *way)
    per_inverse_metre = K_source[0, 0] * np.linalg.norm(T_source_target[:3, 3])
    apart_px, (most_px, least_px) = per_inverse_metre / z, (per_inverse_metre / metres for metres in depth_range_m)
    return np.column_stack([apart_px - most_px, least_px - apart_px])


def _picture(image: Tensor) -> NDArray[np.uint8]:
    """(3, H, W) in [0, 1] to (H, W, 3)."""
    return np.asarray((255 * image.clamp(0, 1)).round().byte().permute(1, 2, 0).cpu().numpy())


def _numbers(matrix: Tensor) -> Array:
    return np.asarray(matrix.double().cpu().numpy())
