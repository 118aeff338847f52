"""The expected errors of predicted depth, and the standard deviation of what is measured in it."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DEVIATION_OF_MEAN = 1.25
"""Standard deviation of normal errors over their mean absolute value."""

SINGLE_SHARE = 0.61
"""Standard deviation of the errors of single pixels, as a share of that of all errors.

Of the network `base`, log depth has a standard deviation of .19 within the images of seven samples, and .24 between the
images and the truth (experiments/zero_shot.py has the samples).
"""

REACH = 0.11
"""Distance of two pixels, in widths of the image, at which the correlation of their errors falls to 1 / e.

Over these samples the mean is .6 at .03 widths, .5 at .06, .3 at .11 and 0 at a third.
"""


@dataclass(frozen=True)
class DepthDeviations:
    """Relative standard errors of depth.

    common: of a whole image, such as that of its scale.
    single: of each pixel; errors of neighboring pixels are alike.
    """

    common: float
    single: float

    @classmethod
    def of(cls, network_error: float | None, scale_deviation: float | None) -> "DepthDeviations | None":
        """Return the errors of a network and of a measured scale; None if both are unknown.

        network_error: mean relative error of the network's depth (AbsRel).
        scale_deviation: relative standard deviation of a measured scale, which replaces that of the network.

        Examples:
            >>> DepthDeviations.of(None, 0.05)
            DepthDeviations(common=0.05, single=0.0)
        """
        if network_error is None and scale_deviation is None:
            return None
        own = DEVIATION_OF_MEAN * (network_error or 0.0)
        common = own * math.sqrt(1 - SINGLE_SHARE**2) if scale_deviation is None else scale_deviation
        return cls(common, SINGLE_SHARE * own)

    @property
    def relative(self) -> float:
        """Return the relative standard error of the depth of a pixel."""
        return math.hypot(self.common, self.single)

    @property
    def mean(self) -> float:
        """Return the mean relative error of the depth of a pixel."""
        return self.relative / DEVIATION_OF_MEAN

    def find_deviation(self, changes: NDArray[np.floating], pixels: NDArray[np.floating], width: int) -> float:
        """Return the standard deviation of a quantity that depends on the depth of N pixels.

        changes: (N,) change of the quantity over the relative change of the depth of each pixel.
        pixels: (N, 2), x and y.
        width: width of the image, pixels.

        Examples:
            >>> DepthDeviations(0.1, 0.0).find_deviation(np.array([3.0, -1.0]), np.zeros((2, 2)), 100)
            0.2
        """
        apart = np.linalg.norm(pixels[:, None] - pixels[None], axis=-1)
        covariance = self.common**2 + self.single**2 * np.exp(-apart / (REACH * width))
        return math.sqrt(max(float(changes @ covariance @ changes), 0.0))
