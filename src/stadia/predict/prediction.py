"""The prediction of one image in Python: depth, camera, pose, verdict, how the scale was measured, distances."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import GeometryError
from stadia.core.types import DepthScale
from stadia.data.frame_preparation import PredictedFrame
from stadia.predict.run import Session, WrittenPrediction
from stadia.scale.depth_deviations import DepthDeviations

if TYPE_CHECKING:
    from stadia.judge.depth import PredictionVerdict
    from stadia.scale.scale_receipt import ScaleReceipt


@dataclass(frozen=True, eq=False, repr=False)
class Prediction:
    """The prediction of one image: depth, camera, pose, verdict and scale.

    `Network.predict` and `Network.stream` return it.

    predicted: the image with its inverse depth and pose.
    session: the opened input that the image belongs to.

    Examples:
        >>> from stadia.predict.network import open_network
        >>> photo = open_network("base").predict(np.full((96, 128, 3), 127, np.uint8), fov_deg=60)
        >>> photo.depth.shape, str(photo.verdict.verdict), photo.receipt
        ((96, 128), 'not judged', None)
    """

    predicted: PredictedFrame
    session: Session

    def __repr__(self) -> str:
        height, width = self.predicted.image_size
        return f"Prediction({self.name!r}, {width}x{height}, {self.depth_scale})"

    @property
    def name(self) -> str:
        """Return the name of the image or video frame."""
        return self.predicted.frame.name

    @property
    def time_s(self) -> float | None:
        """Return the time of the video frame, seconds; None if unknown."""
        return self.predicted.frame.time_s

    @property
    def image(self) -> NDArray[np.uint8]:
        """Return the crop (h, w, 3) RGB of the image that the network used."""
        return self.predicted.frame.image

    @property
    def K(self) -> NDArray[np.float64]:
        """Return the intrinsics (3, 3) of the whole image, pixels.

        Raises GeometryError for a panorama, whose pixels have `predicted.rays`.
        """
        if self.predicted.rays is not None:
            found, fix = "a panorama", "use `predicted.rays`, the unit rays of its pixels"
            raise GeometryError("K", found=found, expected="a pinhole camera", fix=fix)
        K = self.predicted.frame.K.copy()
        K[:2, 2] += self.predicted.box.left, self.predicted.box.top
        return K

    @property
    def depth_scale(self) -> DepthScale:
        """Return the kind of scale of the depth: metres, up to scale, or up to scale and shift."""
        return self.predicted.depth_scale

    @cached_property
    def depth(self) -> NDArray[np.float32]:
        """Return the depth (H, W) of the whole image along the optical axis, in the unit of `depth_scale`; 0 where
        unknown. For a panorama, it is the distance along the ray of each pixel.

        Raises GeometryError if the network's output is only known up to a shift.
        """
        if self.depth_scale.is_affine:
            fix = 'use `predicted.inverse_depth`, or pass scale_from=["reference=DEPTHS"]'
            found = "values up to scale and shift, which define no depth"
            raise GeometryError("depth", found=found, expected="depth", fix=fix)
        depth = self.predicted.depth_at_image()
        depth.flags.writeable = False  # `distance` reads it
        return depth

    @property
    def depth_m(self) -> NDArray[np.float32]:
        """Return the depth (H, W) of the whole image in metres; 0 where unknown.

        Raises GeometryError if the depth is not in metres.
        """
        if self.depth_scale is not DepthScale.METRES:
            fix = 'pass a known length, scale_from=["height=1.5"], or use `depth`'
            raise GeometryError("depth_m", found=f"depth {self.depth_scale}", expected="depth in metres", fix=fix)
        return self.depth

    @property
    def T_world_camera(self) -> NDArray[np.float64] | None:
        """Return the pose (4, 4), camera to world, in the unit of depth; None for a frame outside the camera
        trajectory.

        The world is the camera of the first frame.
        """
        return self.predicted.T_world_camera

    @property
    def verdict(self) -> PredictionVerdict:
        """Return the verdict on the predictions of all frames so far, with its findings."""
        return self.session.verdict

    @property
    def receipt(self) -> ScaleReceipt | None:
        """Return the measurement of the metric scale; None if the network's own scale is kept."""
        return self.session.receipt

    @property
    def deviations(self) -> DepthDeviations | None:
        """Return the relative standard errors of the depth, by the network and the measured scale; None if unknown."""
        scale_deviation = None if self.receipt is None else self.receipt.deviation
        return DepthDeviations.of(self.session.network.relative_error, scale_deviation)

    @property
    def relative_error(self) -> float | None:
        """Return the relative standard error of the depth of a pixel; None if it is unknown."""
        return None if self.deviations is None else self.deviations.relative

    def distance(self, first: tuple[int, int], second: tuple[int, int]) -> MeasuredDistance:
        """Return the distance in space between the scene points at two pixels, in metres or else the unit of depth.

        Its standard deviation combines the spread of depth around both pixels with `deviations`. It is NaN if they are
        unknown.

        first, second: the pixels (x, y) of the whole image.

        Raises GeometryError if a pixel is outside the image or has no depth.
        """
        first, second = ((round(x), round(y)) for x, y in (first, second))
        unit = "m" if self.depth_scale is DepthScale.METRES else "unit of depth"
        found = replace(measure_distance(self.depth, self.K, first, second, self.deviations), unit=unit)
        return found if self.deviations is not None else replace(found, deviation=math.nan)

    def save(self, folder: str | Path) -> WrittenPrediction:
        """Predict the whole input again, and write the files of `stadia predict` into a new folder.

        folder: path of the new folder.
        """
        return self.session.renew().write(Path(folder))


WINDOW_PX = 2
"""Radius, pixels, of the window around a pixel whose spread of depth counts as uncertainty, since pointing is not more
exact.
"""


@dataclass(frozen=True)
class MeasuredDistance:
    """The distance in space between the scene points at two pixels.

    distance: the distance.
    deviation: standard deviation of the distance, from the spread of depth around the pixels and the errors of depth.
    depths: depth of both points along the optical axis.
    unit: "m", or "unit of depth" if the depth is not in metres.
    """

    distance: float
    deviation: float
    depths: tuple[float, float]
    unit: str = "unit of depth"


def measure_distance(
    depth: NDArray[np.floating],
    K: NDArray[np.floating],
    first: tuple[int, int],
    second: tuple[int, int],
    deviations: DepthDeviations | None = None,
) -> MeasuredDistance:
    """Measure the distance in space between the scene points at two pixels.

    depth: (H, W) along the optical axis, 0 where unknown.
    K: (3, 3), pixels.
    first, second: the pixels (x, y).
    deviations: of depth; None leaves them out.

    Raises GeometryError for a pixel outside the image or without depth.
    """
    points, spreads, changes = [], [], []
    for x, y in (first, second):
        points.append(lift_pixel(depth, K, x, y))
    apart = points[1] - points[0]
    distance = float(np.linalg.norm(apart))
    direction = apart / distance if distance > 0 else np.array([0.0, 0.0, 1.0])
    for sign, (x, y), point in zip((-1, 1), (first, second), points, strict=True):
        changes.append(sign * float(point @ direction))
        spreads.append(changes[-1] / point[2] * spread_of_depth(depth, x, y))
    pixels, known = np.array([first, second], float), deviations or DepthDeviations(0.0, 0.0)
    deviation = math.hypot(*spreads, known.find_deviation(np.array(changes), pixels, depth.shape[1]))
    return MeasuredDistance(distance, deviation, (float(points[0][2]), float(points[1][2])))


def lift_pixel(depth: NDArray[np.floating], K: NDArray[np.floating], x: int, y: int) -> NDArray[np.float64]:
    """Return the point (3,) in the camera's axes that the pixel (x, y) shows.

    depth: (H, W) along the optical axis, 0 where unknown.
    K: (3, 3), pixels.
    x, y: the pixel.

    Raises GeometryError for a pixel outside the image or without depth.
    """
    height, width = depth.shape
    if not (0 <= x < width and 0 <= y < height):
        found, expected = f"pixel {x}, {y}", f"one of an image of {width}x{height}"
        raise GeometryError("distance", found=found, expected=expected, fix="choose a pixel of the image")
    z = float(depth[y, x])
    if not (0 < z < math.inf):
        found = f"no depth at pixel {x}, {y}"
        raise GeometryError("distance", found=found, expected="a pixel with depth", fix="choose one that is not sky")
    return np.array([(x - K[0, 2]) / K[0, 0] * z, (y - K[1, 2]) / K[1, 1] * z, z], dtype=np.float64)


def spread_of_depth(depth: NDArray[np.floating], x: int, y: int) -> float:
    """Return the standard deviation of depth (H, W) in a window of WINDOW_PX around the pixel (x, y)."""
    rows, columns = (slice(max(at - WINDOW_PX, 0), at + WINDOW_PX + 1) for at in (y, x))
    near = depth[rows, columns]
    return float(np.std(near[near > 0], dtype=np.float64))
