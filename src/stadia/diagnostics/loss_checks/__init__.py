"""Checks of losses, networks and optimizer before the first training step.

The thresholds here are used by the checks and by the texts of the catalog.
"""

from __future__ import annotations

MAX_BELOW_TRUTH = 3e-3
"""Share of the range along an axis by which the loss of a wrong prediction may be lower than that of the true one.
Reasons are rounding, terms without a preference, and the blur of interpolation: .2 % where only SSIM compares images.
A loss that slightly favors near depth is .6 % lower.
"""

MAX_DROP_AWAY = 0.02
"""Share of that range by which the loss may fall away from the truth: image borders leave the frame in steps."""

MIN_EFFECT = 1e-3
"""Share of the loss that inverted sources must add; a loss with less does not use the sources and is not checked."""

MIN_COLOR_COST = 0.1
"""Cost of sources with two inverted colors, over that of fully inverted sources."""

MAX_HALVES_COST = 0.15
"""Share of that cost by which sources inverted in one half each may exceed the mean of either source inverted. The
losses of this package have .03, a minimum over whole images has .3 to .4.
"""

MIN_RELIEF = 1e-4
"""Share of the loss: depth relief that costs less is not checked."""

MAX_RELIEF_GROWTH = 1.4
"""Cost of relief for images twice as large, whose gradients are half as steep, over that for the given size."""

MAX_UNIT_CHANGE = 0.01
"""Relative change of the cost of relief when the unit of length changes."""

MIN_HALF_NOISE = 0.5
"""A similarity term for images with half noise, over that for noise."""

NOISE, MAX_NOISE_REWARD = 0.1, 0.05
"""Noise of depth (standard deviation of its logarithm), and the share by which what is added to a loss may fall with
it. A prior on mean depth falls by .5 %.
"""

MIN_REWARD = 1e-3
"""Smallest reward for noise, over the whole loss with noise: a prior on mean depth is near 0 at its target."""

MAX_EDGE_EXCESS = 0.05
"""Cost of a depth edge at an image edge in the same place, above the least cost with one beside it, over the cost in an
image without edges. The smoothness terms of this package have 0, weights that are one pixel off have .33.
"""

MAX_TILE_CHANGE = 1.2
"""Factor by which what is added may change for two copies side by side, each with constant depth along the row of
copies. A mean over pixels has 1, a sum 2, a root of a sum of squares 1.41.
"""

MAX_PRINCIPAL_POINT_OUTSIDE = 0.1
"""Share of the image size by which a principal point may lie outside; that of half an image lies at its border."""

MIN_FOCAL_WIDTHS = 0.3
"""Focal length over the width of the smallest image that is centered on the principal point and contains this one."""

MIN_BATCH_SAMPLES = 4
"""Images for batch statistics."""

MIN_BATCH_VALUES = 256
"""Values per channel for batch statistics of two or three images: the variance is then known to 9 % if they are
independent.
"""
