"""A measured error: values with a standard deviation, which contains what the images leave open.

Without a measurement there is None, and the error says why.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Measured(NamedTuple):
    """A measurement and its standard deviation, in the same unit."""

    value: float
    deviation: float

    def is_above(self, bound: float, deviations: float = 2.0) -> bool:
        """Return whether the size of the measurement is above a bound by some standard deviations.

        Examples:
            >>> Measured(-0.3, 0.1).is_above(0.0), Measured(-0.3, 0.1).is_above(0.2)
            (True, False)
        """
        return abs(self.value) - deviations * self.deviation > bound


@dataclass(frozen=True, slots=True)
class ImageError:
    """The error of the pose of an image.

    index: index of the image.
    name: its name.
    rotation_deg: angle between given and adjusted rotation, degrees.
    position_share: distance of given and adjusted position, as a share of the extent of the path.
    part: number of the part that matches join the image to, from 0, the largest.
    is_wrong: whether the error is far above that of the other images.
    """

    index: int
    name: str
    rotation_deg: Measured
    position_share: Measured
    part: int
    is_wrong: bool


@dataclass(frozen=True, slots=True)
class MeasuredError:
    """The measured error of a reconstruction; None for what is not measured.

    rotation_deg: root mean square of the errors of rotations, degrees. Wrong images count separately, in `images`.
    neighbor_rotation_deg: the same for rotations from image to image.
    position_share: root mean square of the errors of positions, as a share of the extent of the path.
    focal_share: given over measured focal length, minus 1: above 0 if the given one is too long.
    principal_point_px: given minus measured principal point (x, y), pixels of the file's K.
    drift_deg: change of the rotation error along the whole path, degrees.
    depth_share: median relative error of depth at triangulated points.
    length_share: error that 95 % of the lengths between points stay below, up to one scale.
    inconsistent_px: how far points miss their pixels because of the poses and cameras, pixels of images of 640: the
        root of the difference between the squared errors of held-out matches before and after the adjustment.
    images: the error of each image.
    parts: number of parts that matches do not join; errors are those within the parts.
    extent: length of the diagonal of the path, in the unit of the reconstruction.
    reason: why nothing is measured; "" otherwise.
    """

    rotation_deg: Measured | None = None
    neighbor_rotation_deg: Measured | None = None
    position_share: Measured | None = None
    focal_share: Measured | None = None
    principal_point_px: tuple[Measured, Measured] | None = None
    drift_deg: Measured | None = None
    depth_share: Measured | None = None
    length_share: Measured | None = None
    inconsistent_px: Measured | None = None
    images: tuple[ImageError, ...] = ()
    parts: int = 0
    extent: float = float("nan")
    reason: str = ""

    @property
    def is_measured(self) -> bool:
        """Return whether the error of the poses is measured."""
        return self.rotation_deg is not None

    @property
    def wrong_images(self) -> tuple[ImageError, ...]:
        """Return the images whose pose is wrong."""
        return tuple(image for image in self.images if image.is_wrong)
