"""How many images of a published table were dead: predicted as nearly 0 all over, and clamped, in a mean that does not show it.

A dead image has no pixel within any factor of the truth, and logarithms of the truth over the clamp as its errors. Of what a score differs
in from another one of the same protocol that is sound, three metrics each tell the share of dead images by themselves:

    metric = (1 - share) alive + share dead,   with dead = 0 for d3, ln(z / near) for RMSE log, log10(z / near) for log10.

Where the three agree the difference is dead images, and not a worse network, whose metrics have other proportions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

AGREE_WITHIN = 1.5
"""The largest share of the three over the smallest: 1.01 to 1.21 for the published row that had five dead images among 652, beside sound
rows of its kind; 2 or more, or negative, for rows that differ by their training.
"""

LIKE_IN_D1 = 0.03
"""What `d1` of two networks of about the same quality differs by at most: a few dead images hardly change it."""


def dead_shares(metrics: Mapping[str, float], alive: Mapping[str, float], *, typical_m: float, near_m: float = 1e-3) -> dict[str, float]:
    """The share of dead images by each of `d3`, `rmse_log` and `log10`.

    Args:
        metrics: means over images that may hold dead ones.
        alive: the same of a sound network of about the same quality, by the same protocol.
        typical_m: the geometric mean of the ground truth in metres: 8 on KITTI.
        near_m: what the protocol clamps predictions to.
    """
    log_ratio = math.log(typical_m / near_m)
    dead = {"d3": 0.0, "rmse_log": log_ratio, "log10": log_ratio / math.log(10)}
    return {name: (metrics[name] - alive[name]) / (value - alive[name]) for name, value in dead.items()}


def dead_images(
    metrics: Mapping[str, float], alive: Mapping[str, float], images: int, *, typical_m: float, near_m: float = 1e-3
) -> int | None:
    """How many of `images` were dead, by the mean of `dead_shares`; None where the two differ in quality, or the three in number."""
    if abs(metrics["d1"] - alive["d1"]) > LIKE_IN_D1:
        return None
    shares = dead_shares(metrics, alive, typical_m=typical_m, near_m=near_m).values()
    agree = min(shares) > 0 and max(shares) <= AGREE_WITHIN * min(shares)
    return round(images * sum(shares) / len(shares)) or None if agree else None
