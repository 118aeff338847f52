"""Note suspicious scores: dead images, wrong units, reversed depth order."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median

from stadia.core.types import DepthScale
from stadia.evaluation.protocols import Protocol

MOST_AT_CLAMP = 0.1
"""Largest share of an image's scored pixels at the clamp. Worst images of valid predictions: on KITTI's scans 0 for the
mean depth, .0084 for truth with 40 % noise, .025 for the doubled mean depth; on RoadWorld .032 for that noise. For
an image that a network failed on, nearly all pixels are at the clamp.
"""

STEADY_BELOW, RATIO_WITHIN = 0.02, 0.03
"""A unit is wrong for all images where the spread of the scale ratio is below the first number, and the ratio is within
the second (in the logarithm) of a known mistake.
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
"""Known unit mistakes, by the factor by which depth is too large."""


TURNED_BELOW = -0.3
"""Median over images of the rank correlation with the truth. A map of mean depths has .51 to .97 (KITTI, RoadWorld),
its inverse the negative of this; random numbers have -.04 to .04.
"""

NEVER_ABOVE = (("d1", "d2", 1.0), ("d2", "d3", 1.0), ("mae", "rmse", 1.0), ("silog", "rmse_log", 100.0))
"""Bounds of each image, and so of means over images: the first metric is at most the second times the factor."""

SHARES = ("d1", "d2", "d3")
ROUNDING = 1e-9


def note_of_clamp(at_clamp: Mapping[str, float]) -> list[str]:
    """Note images with too many pixels at the protocol's clamp.

    at_clamp: share of the scored pixels, by image name.
    """
    dead = {name: share for name, share in at_clamp.items() if share > MOST_AT_CLAMP}
    if not dead:
        return []
    worst = max(dead, key=lambda name: dead[name])
    which = f"{len(dead)} of {len(at_clamp)} images have more than {MOST_AT_CLAMP:.0%} of their scored pixels"
    most = f"(most '{worst}': {dead[worst]:.1%})"
    return [f"{which} at the protocol's clamp {most}: check these predictions and their unit"]


def note_of_unit(ratio: float, spread: float) -> list[str]:
    """Note a scale ratio of metres that fits a known unit mistake.

    spread: of the ratio over two images or more. The errors of a network differ from image to image.
    """
    truth, predictions = _find_unit_mistake(ratio), _find_unit_mistake(1 / ratio)
    if truth is None or spread >= STEADY_BELOW:
        return []
    found = f"scale_ratio_median is {ratio:.4g}, and nearly that for every image ({spread:.2g} spread): a wrong unit"
    return [
        f"{found}; is the ground truth {truth}, or are the predictions {predictions}? "
        "PNG holds value / 256 m, and millimetres under nyu and sevenscenes; .npy and .npz hold metres"
    ]


def note_of_order(orders: Sequence[float], depth_scale: DepthScale) -> list[str]:
    """Note predictions that grow where the truth falls: inverse depth scored as depth, or depth as inverse depth.

    orders: rank correlation of prediction and truth, for every image.
    """
    if not orders or (middle := median(orders)) >= TURNED_BELOW:
        return []
    assumed, likely, fix = "depth", "inverse depth", f"if so, use --depth-scale {DepthScale.AFFINE_INVERSE}"
    if depth_scale is DepthScale.AFFINE_INVERSE:
        assumed, likely, fix = likely, assumed, "set --depth-scale"
    found = f"predictions taken as {assumed} are far where the truth is near (median rank correlation {middle:.2f})"
    return [f"{found}: are they {likely}? {fix}"]


def note_of_truth(labeled: float, protocol: Protocol) -> list[str]:
    """Note ground truth that is too sparse for a protocol.

    labeled: median over images of the share of pixels with ground truth.
    """
    if labeled >= protocol.min_labeled:
        return []
    found = f"ground truth at {labeled:.1%} of the pixels, as of single LiDAR scans"
    return [f"not comparable with published figures: {found}, where {protocol.name} means {protocol.ground_truth}"]


def note_of_bounds(metrics: Mapping[str, float]) -> list[str]:
    """Note metrics that no prediction can have. They show a mistake in the program that computed them.

    metrics: of one image, or means over images, by the names of `stadia.metrics.METRICS`. Missing ones are skipped.
    """
    broken = [
        f"{lower} {metrics[lower]:.4g} is above {upper} {metrics[upper]:.4g}"
        for lower, upper, factor in NEVER_ABOVE
        if {lower, upper} <= metrics.keys() and metrics[lower] > metrics[upper] * factor * (1 + ROUNDING) + ROUNDING
    ]
    broken += [f"{name} is {metrics[name]:.4g}" for name in SHARES if name in metrics and not 0 <= metrics[name] <= 1]
    return [f"no prediction has such scores: {'; '.join(broken)}"] if broken else []


def _find_unit_mistake(factor: float) -> str | None:
    return next((what for known, what in MISTAKES.items() if abs(math.log(factor / known)) < RATIO_WITHIN), None)
