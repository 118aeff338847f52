"""Which objects to believe, and the camera's height without any depth: distances to the horizon against heights in the
image.

Of an object on the road, (pixels from its foot to the horizon) : (its height in pixels) = (the camera's height) : (its
height), whatever its distance (Lee et al., Scale Field, CVPR 2023, eq. 2). With an object's known height that gives a
camera height; an object whose camera
height is not that of the others is odd: its top is hidden, it is no car, or it does not stand on the road.

Blind where camera and object are equally high: a hidden foot changes nothing then. The silhouette's height does not
mind a hidden foot
either. A wrong horizon costs more than anything else: 0.5 degrees of pitch make half of the good objects odd, the far
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
    """Where objects stand against the horizon, (M,) each, in pixels perpendicular to it; NaN in an image without a
    horizon.

    foot_below: of the lowest pixel, positive below the horizon.
    top_above: of the highest pixel, negative where all of the object is below the horizon.
    """

    foot_below: Tensor
    top_above: Tensor

    @property
    def ratio(self) -> Tensor:
        """(M,) object height / camera height: (foot_below + top_above + 1) / foot_below; infinite where the foot is not
        below.
        """
        below = self.foot_below > 0
        ratio = (self.foot_below + self.top_above + 1) / self.foot_below.where(below, 1.0)
        return torch.where(below | self.foot_below.isnan(), ratio, torch.inf)


def horizon_ratios(horizon: Tensor, objects: Segments, height: int, width: int) -> HorizonRatios:
    """The ratios of all objects of a batch, from horizons (B, 3) (`horizon_of`) and masks (B, height, width),
    `segments_of`.

    Pixel centers are counted, and the ratio adds the one pixel that they leave out. With true masks it is about 3 % too
    large, since a roof is deeper than its foot; so heights of cameras from it are as much too small.
    """
    distance = objects.of(above_horizon_map(horizon, height, width))[:, 0]
    lowest, highest = segment_quantiles(distance, objects.segment, objects.count, (0.0, 1.0))
    return HorizonRatios(-lowest, highest)


def implied_camera_height(object_height_m: Tensor, ratio: Tensor) -> Tensor:
    """The camera's height (M,) in metres that each object's known height (M,) stands for; 0 where the ratio is
    infinite.

    NaN for an object without a known height. Its median over many objects is an estimate that needs no depth.
    """
    return object_height_m / ratio


def oddness(implied_m: Tensor, reference_m: Tensor) -> Tensor:
    """ln(implied / reference) (M,): how far what an object says of the camera's height is from what is believed of it.

    Above 0 the object looks lower than it should (its top is hidden), below 0 higher; -inf where it stands above the
    horizon.

    Args:
        implied_m: (M,) by `implied_camera_height`.
        reference_m: (M,) or one for all. Centered: the median of what all objects of the cameras say, which no wrong
            start can mislead.
            Absolute: a camera height known before. The absolute form locks in: from a height 1.6 times too large it
                believes only
            objects that agree, and a height that is fitted to those stays where it is.
    """
    return (implied_m / reference_m).log()


def believed(odd: Tensor, *, tolerance: float = 0.2) -> Tensor:
    """(M,) bool: objects whose oddness is less than the tolerance in size. One without an oddness (NaN) is not
    believed.

    Symmetric in the logarithm, a factor of 1.22 either way; the published test on |ratio camera height - H| / H has
    factors of 0.8 and 1.2.
    """
    return odd.abs() < tolerance
