"""What a score looks like where it is not the network that is wrong: dead images, a wrong unit, near for far. In words,
no refusals.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median

from stadia.core.types import Claim
from stadia.evaluation.protocols import Protocol

MOST_AT_CLAMP = 0.1
"""Share of an image's scored pixels. Worst images of what is alive: against KITTI's scans the mean depth has none at
the clamp, truth with noise of 40 % .0084, the mean depth doubled .025; in RoadWorld that noise gives .032. An image
that a network died on has nearly all.
"""

STEADY_BELOW, RATIO_WITHIN = 0.02, 0.03
"""Of the scale ratio: its spread where one number is wrong for all images, and how near it then comes to that number.
"""

MISTAKES: Mapping[float, str] = {
    1000 / 256: "millimetres read as value / 256",
    256 / 1000: "value / 256 read as millimetres",
    256: "PNG values not divided by 256",
    1 / 256: "divided by 256 once too often",
    1000: "millimetres taken as metres",
    1 / 1000: "kilometres taken as metres",
    100: "centimetres taken as metres",
    1 / 100: "metres divided by 100",
}
"""By how many times too large depth is after each."""


TURNED_BELOW = -0.3
"""Median over images of the rank correlation with the truth. A map of mean depths has .51 to .97 (KITTI, RoadWorld),
its inverse the same below 0; random numbers have -.04 to .04.
"""

NEVER_ABOVE = (("d1", "d2", 1.0), ("d2", "d3", 1.0), ("mae", "rmse", 1.0), ("silog", "rmse_log", 100.0))
"""Of every image, and so of means over images: the first is at most so many times the second."""

SHARES = ("d1", "d2", "d3")
ROUNDING = 1e-9


def note_of_clamp(at_clamp: Mapping[str, float]) -> list[str]:
    """Whether images have too much at the protocol's clamp.

    at_clamp: share of the scored pixels, by the image's name.
    """
    dead = {name: share for name, share in at_clamp.items() if share > MOST_AT_CLAMP}
    if not dead:
        return []
    worst = max(dead, key=lambda name: dead[name])
    which = (
        f"{len(dead)} of {len(at_clamp)} images have more than {MOST_AT_CLAMP:.0%} of their scored pixels at the"
        " protocol's clamp"
    )
    return [f"{which} (most '{worst}': {dead[worst]:.1%}): look at what was predicted there, and at its unit"]


def note_of_unit(ratio: float, spread: float) -> list[str]:
    """Whether the scale ratio of metres is that of a known mistake with units.

    Args:
        ratio: `scale_ratio_median` of two images or more.
        spread: `scale_ratio_spread`. A network errs differently from image to image.
    """
    truth, predictions = _mistake(ratio), _mistake(1 / ratio)
    if truth is None or spread >= STEADY_BELOW:
        return []
    found = f"scale_ratio_median is {ratio:.4g}, and nearly that for every image ({spread:.2g} spread): a wrong unit"
    return [
        f"{found}; is the ground truth {truth}, or are the predictions {predictions}? "
        "PNG holds value / 256 m, and millimetres under nyu and sevenscenes; .npy and .npz hold metres"
    ]


def note_of_order(orders: Sequence[float], claim: Claim) -> list[str]:
    """Whether predictions grow where the truth falls: inverse depth scored as depth, or depth as inverse depth.

    orders: of every image, the rank correlation of the prediction, as claimed, with the truth.
    """
    if not orders or (middle := median(orders)) >= TURNED_BELOW:
        return []
    said, likely = ("inverse depth", "depth") if claim is Claim.AFFINE_INVERSE else ("depth", "inverse depth")
    fix = (
        "--claim says what they are"
        if claim is Claim.AFFINE_INVERSE
        else f"if so, --claim {Claim.AFFINE_INVERSE} scores them"
    )
    found = f"predictions taken as {said} are far where the truth is near (median rank correlation {middle:.2f})"
    return [f"{found}: are they {likely}? {fix}"]


def note_of_truth(labeled: float, protocol: Protocol) -> list[str]:
    """Whether ground truth is too sparse to be the one that a protocol means.

    labeled: the median over images of the share of pixels that have any.
    """
    if labeled >= protocol.labeled_from:
        return []
    found = f"ground truth at {labeled:.1%} of the pixels, as of single LiDAR scans"
    return [f"not comparable with published figures: {found}, where {protocol.name} means {protocol.ground_truth}"]


def note_of_bounds(metrics: Mapping[str, float]) -> list[str]:
    """Whether metrics of one image, or their means over images, are such that no prediction has them: a mistake in who
    computed them.

    metrics: by the names of `stadia.metrics.METRICS`; those that are missing are not looked at.
    """
    broken = [
        f"{lower} {metrics[lower]:.4g} is above {upper} {metrics[upper]:.4g}"
        for lower, upper, factor in NEVER_ABOVE
        if lower in metrics
        and upper in metrics
        and metrics[lower] > metrics[upper] * factor * (1 + ROUNDING) + ROUNDING
    ]
    broken += [f"{name} is {metrics[name]:.4g}" for name in SHARES if name in metrics and not 0 <= metrics[name] <= 1]
    return [f"no prediction has such scores: {'; '.join(broken)}"] if broken else []


def _mistake(factor: float) -> str | None:
    return next((what for known, what in MISTAKES.items() if abs(math.log(factor / known)) < RATIO_WITHIN), None)
