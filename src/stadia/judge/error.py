"""A measured error: values with a standard deviation, which contains what the images leave open.

Without a measurement there is None, and the error says why.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple


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

    def show(self, factor: float = 1.0, sign: str = "") -> str:
        """Return value and deviation times a factor, with as many digits as the deviation allows.

        Examples:
            >>> Measured(0.02413, 0.0012).show(100, "+")
            '+2.4 ± 0.1'
            >>> Measured(-0.004, 0.1).show()
            '0.0 ± 0.1'
        """
        value, deviation = factor * self.value, abs(factor * self.deviation)
        digits = 2 if not deviation > 0 else min(max(-math.floor(math.log10(deviation)), 0), 6)
        return f"{value:{sign}z.{digits}f} ± {deviation:.{digits}f}"


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
    focal_share: given over measured focal length of the camera with most images, minus 1: above 0 if the given one is
        too long.
    principal_point_px: given minus measured principal point (x, y), pixels of the file's K.
    aspect_share: given over measured ratio of fy to fx, minus 1.
    distortion_px: how much farther out the given lens moves a point at the middle of the longer edge than the measured
        one, pixels of the file's K.
    drift_deg: change of the rotation error along the whole path, degrees.
    depth_share: median relative error of depth at triangulated points.
    length_share: error that 95 % of the lengths between points stay below, up to one scale.
    inconsistent_px: how far points miss their pixels because of the poses and cameras, pixels of images of 640: the
        root of the difference between the squared errors of held-out matches before and after the adjustment.
    images: the error of each image.
    posed: number of images with a pose; those that match too little are in no part, and have no error.
    parts: number of parts that matches do not join; errors are those within the parts.
    extent: length of the diagonal of the path, in the unit of the reconstruction.
    reason: why nothing is measured; "" otherwise.
    """

    rotation_deg: Measured | None = None
    neighbor_rotation_deg: Measured | None = None
    position_share: Measured | None = None
    focal_share: Measured | None = None
    principal_point_px: tuple[Measured, Measured] | None = None
    aspect_share: Measured | None = None
    distortion_px: Measured | None = None
    drift_deg: Measured | None = None
    depth_share: Measured | None = None
    length_share: Measured | None = None
    inconsistent_px: Measured | None = None
    images: tuple[ImageError, ...] = ()
    parts: int = 0
    posed: int = 0
    extent: float = float("nan")
    reason: str = ""

    @property
    def unmeasured_share(self) -> float:
        """Return the share of the images with a pose that match too little to be measured, 0 to 1."""
        return 1 - len(self.images) / self.posed if self.posed else 0.0

    @property
    def is_measured(self) -> bool:
        """Return whether the error of the poses is measured."""
        return self.rotation_deg is not None

    @property
    def wrong_images(self) -> tuple[ImageError, ...]:
        """Return the images whose pose is wrong."""
        return tuple(image for image in self.images if image.is_wrong)

    def describe(self) -> dict[str, str]:
        """Return the measured quantities with their deviations, as text by their names."""
        lines = dict[str, str]()
        if self.rotation_deg is not None and self.neighbor_rotation_deg is not None:
            between = self.neighbor_rotation_deg.show()
            lines["rotation"] = f"{self.rotation_deg.show()} degrees ({between} from image to image)"
        if self.position_share is not None:
            lines["position"] = f"{self.position_share.show(100)} % of the extent"
        if self.focal_share is not None:
            lines["focal length"] = f"{self.focal_share.show(100, sign='+')} %"
        if self.principal_point_px is not None:
            x, y = (axis.show(sign="+") for axis in self.principal_point_px)
            lines["principal point"] = f"{x}, {y} px"
        if self.aspect_share is not None and self.aspect_share.is_above(0.0):
            lines["aspect"] = f"{self.aspect_share.show(100, sign='+')} % (fy over fx)"
        if self.distortion_px is not None and self.distortion_px.is_above(0.0):
            lines["lens"] = f"{self.distortion_px.show(sign='+')} px at the edge"
        if self.drift_deg is not None:
            lines["drift"] = f"{self.drift_deg.show()} degrees over the path"
        return lines

    def to_json(self) -> dict[str, Any]:
        """Return JSON values: value and deviation of each measurement, or None."""
        found: dict[str, Any] = {}
        for name in QUANTITIES:
            measured: Measured | None = getattr(self, name)
            found[name] = describe_measured(measured)
        center = self.principal_point_px
        found["principal_point_px"] = None if center is None else [axis._asdict() for axis in center]
        return {**found, "parts": self.parts, "extent": self.extent}


QUANTITIES = (
    "rotation_deg",
    "neighbor_rotation_deg",
    "position_share",
    "focal_share",
    "aspect_share",
    "distortion_px",
    "drift_deg",
    "depth_share",
    "length_share",
    "inconsistent_px",
)
"""Fields of `MeasuredError` that are single measurements."""


def describe_measured(measured: Measured | None) -> dict[str, float] | None:
    """Return JSON values of a measurement: value and deviation; None if it was not made."""
    return None if measured is None else measured._asdict()
