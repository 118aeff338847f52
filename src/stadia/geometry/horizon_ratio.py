"""Camera height without depth: distances to the horizon against heights in the image; and which objects are inliers.

For an object on the road, (pixels from its foot to the horizon) : (its height in pixels) = (the camera's height) : (its
height), at any distance (Lee et al., Scale Field, CVPR 2023, eq. 2). With an object's known height that gives a camera
height. An object with another camera height is an outlier: its top is hidden, it is no car, or it does not stand on the
road.

Where camera and object are equally high, a hidden foot is not detected; it does not change the silhouette's height
either. The horizon is the largest source of error: 0.5 degrees of pitch make half of the good objects outliers, the far
ones first.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stadia.geometry.horizon import above_horizon_map
from stadia.geometry.segments import Segments, segment_quantiles


@dataclass(frozen=True, slots=True)
class HorizonRatios:
    """Objects relative to the horizon, (M,) each, in pixels perpendicular to it; NaN in an image without a horizon.

    foot_below: of the lowest pixel, positive below the horizon.
    top_above: of the highest pixel, negative where all of the object is below the horizon.
    """

    foot_below: Tensor
    top_above: Tensor

    @property
    def ratio(self) -> Tensor:
        """Return (M,) object height / camera height: (foot_below + top_above + 1) / foot_below; infinite if the foot is
        not below.
        """
        below = self.foot_below > 0
        ratio = (self.foot_below + self.top_above + 1) / self.foot_below.where(below, 1.0)
        return torch.where(below | self.foot_below.isnan(), ratio, torch.inf)


def horizon_ratios(horizon: Tensor, objects: Segments, height: int, width: int) -> HorizonRatios:
    """Return the ratios of all objects of a batch, from horizons (B, 3) (`horizon_of`) and masks (B, height, width),
    `segments_of`.

    Pixel centers are counted, and the ratio adds the one pixel that they leave out. With true masks it is about 3 % too
    large, since a roof is deeper than its foot; so camera heights from it are 3 % too small.
    """
    distance = objects.of(above_horizon_map(horizon, height, width))[:, 0]
    lowest, highest = segment_quantiles(distance, objects.segment, objects.count, (0.0, 1.0))
    return HorizonRatios(-lowest, highest)


def implied_camera_height(object_height_m: Tensor, ratio: Tensor) -> Tensor:
    """Return the camera's height (M,) in metres implied by each object's known height (M,); 0 where the ratio is
    infinite.

    NaN for an object without a known height. Its median over many objects is an estimate that needs no depth.
    """
    return object_height_m / ratio


def oddness(implied_m: Tensor, reference_m: Tensor) -> Tensor:
    """Return ln(implied / reference) (M,): the error of an object's implied camera height.

    Above 0 the object appears lower than it should (its top is hidden), below 0 higher; -inf where it stands above the
    horizon.

    Args:
        implied_m: (M,) by `implied_camera_height`.
        reference_m: (M,) or one for all. Centered: the median over all objects of the cameras, which does not depend on
            a start. Absolute: a camera height from before, which locks in: from a height 1.6 times too large it accepts
            only objects that agree with it, and a height fitted to those does not change.
    """
    return (implied_m / reference_m).log()


def inlier_mask(odd: Tensor, *, tolerance: float = 0.2) -> Tensor:
    """Return (M,) bool: objects with |oddness| below the tolerance; false for NaN.

    Symmetric in the logarithm, a factor of 1.22 either way; the published test on |ratio camera height - H| / H has
    factors of 0.8 and 1.2.
    """
    return odd.abs() < tolerance
