"""Check whether the depth range of the model contains the depth of a stereo pair, by its matches and without labels."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stadia.diagnostics.catalog import finding
from stadia.diagnostics.contract.start import Start
from stadia.diagnostics.finding import Finding, Severity
from stadia.diagnostics.instruments import two_view
from stadia.diagnostics.instruments.matching import detect, match
from stadia.diagnostics.survey import NotChecked

MAX_PAIRS, ENOUGH = 4, 30
"""Pairs that are matched, and the number of matches that are needed."""

MAX_EPIPOLAR_PX, OUT_OF_REACH_PX, MAX_OUTSIDE = 1.0, 1.0, 0.25
"""Distance from the epipolar line; pixels beyond the range, so that far points are not outside; and the share of
matches that may be outside, for instance mountains.
"""

Array = NDArray[np.float64]


def pair_is_in_reach(start: Start) -> Iterator[Finding]:
    """M03: disparities of a stereo pair lie in the depth range. Labeled samples use `check_initial_depth`."""
    pairs = unlabeled_pairs(start)
    if not pairs or start.depth_range_m is None:
        return
    beyond = beyond_px(start)
    if len(beyond) < ENOUGH:
        raise NotChecked(f"{len(beyond)} matches between the images of {len(pairs)} pairs, and {ENOUGH} are needed")
    too_near, too_far = (beyond > OUT_OF_REACH_PX).sum(0)
    outside = (too_near + too_far) / len(beyond)
    if outside <= MAX_OUTSIDE:
        return
    nearest, farthest = start.depth_range_m
    yield finding(
        "M03",
        Severity.WARN,
        measured=(
            f"of {len(beyond)} matches of the pair {outside:.0%} lie outside of {nearest:g} to {farthest:g} m, which"
            f" the depth can be: {too_near} are nearer, {too_far} farther"
        ),
        expected=f"at most {MAX_OUTSIDE:.0%}",
        evidence={"matches": len(beyond), "nearer": int(too_near), "farther": int(too_far)},
    )


def unlabeled_pairs(start: Start) -> list[tuple[int, int]]:
    """Return (sample, source) of the first MAX_PAIRS pairs with a known rig and without depth labels."""
    rig = getattr(start.batch.inputs, "T_source_target_rig", None)
    if rig is None:
        return []
    labels = getattr(start.batch.targets, "depth_m", None)
    known = torch.zeros(len(rig), dtype=torch.bool) if labels is None else (labels > 0).flatten(1).any(1).cpu()
    chosen = rig.isfinite().all(-1).all(-1).cpu() & ~known[:, None]
    return [(sample, source) for sample, source in chosen.nonzero().tolist()][:MAX_PAIRS]


def beyond_px(start: Start) -> Array:
    """Return (M, 2) pixels by which matches of `unlabeled_pairs` exceed the disparity of the nearest depth, and fall
    below that of the farthest, at the focal length of the source. Negative inside the range.
    """
    assert start.depth_range_m is not None
    targets, found = start.batch.targets, [np.zeros((0, 2))]
    for sample, source in unlabeled_pairs(start):
        matches = match(detect(_image(targets.image[sample])), detect(_image(targets.sources[sample, source])))
        K, K_source = _numbers(targets.camera.K[sample]), _numbers(targets.source_camera.K[sample, source])
        way = K, K_source, _numbers(start.batch.inputs.T_source_target_rig[sample, source])
        matches = matches.where(
            two_view.epipolar_distance_px(matches.first_px, matches.second_px, *way) < MAX_EPIPOLAR_PX
        )
        per_inverse_metre = K_source[0, 0] * np.linalg.norm(way[2][:3, 3])
        apart_px = per_inverse_metre * two_view.inverse_depth(matches.first_px, matches.second_px, *way)
        most_px, least_px = (per_inverse_metre / metres for metres in start.depth_range_m)
        found.append(np.column_stack([apart_px - most_px, least_px - apart_px]))
    return np.concatenate(found)


def _image(image: Tensor) -> NDArray[np.uint8]:
    """Convert (3, H, W) in [0, 1] to (H, W, 3) uint8."""
    return np.asarray((255 * image.clamp(0, 1)).round().byte().permute(1, 2, 0).cpu().numpy())


def _numbers(matrix: Tensor) -> Array:
    return np.asarray(matrix.double().cpu().numpy())
