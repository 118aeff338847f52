"""Measure what users mark in a picture: lengths, areas, angles, and heights above the ground."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from stadia.core.config import StrictModel
from stadia.core.errors import GeometryError
from stadia.core.types import DepthScale
from stadia.predict.prediction import lift_pixel, spread_of_depth
from stadia.scale.depth_deviations import DepthDeviations

Array = NDArray[np.float64]
Kind = Literal["length", "area", "angle", "height"]

MAX_POINTS, MAX_MEASURED = 40, 30
"""Most measurements of a page (MAX_POINTS: most points of one)."""

NEEDED: Mapping[Kind, tuple[int, int]] = {"length": (2, 2), "area": (3, MAX_POINTS), "angle": (3, 3), "height": (1, 1)}
"""Fewest and most points of each kind."""

NAMES: Mapping[Kind, str] = {"length": "Distance", "area": "Area", "angle": "Angle", "height": "Height over the ground"}

GROUND_SIDE = 120
"""Longest side, pixels, of the depth map in the search for the ground."""

GROUND_TRIALS = 300
MAX_GROUND_TILT = 45.0
"""Largest angle, degrees, between the ground's normal and the downward axis of the camera."""

GROUND_ERROR = 0.03
"""Largest distance of a point of the ground from its plane, over the depth of the point."""

MIN_GROUND_SHARE = 0.06
"""Smallest share of the points with depth that belong to the ground."""

MAX_BELOW_SHARE = 0.08
"""Largest share of the points below the ground: reflections and errors of depth."""

Coordinate = Annotated[int, Field(ge=0, lt=1 << 16)]
"""Column or row of a pixel."""


class MeasureForm(StrictModel):
    """What to measure.

    kind: a length of two points, the area of a polygon, the angle at the second of three points, or the height of a
        point above the ground.
    points: pixels (x, y).
    frame: number of the video frame; None for a picture.
    """

    kind: Kind = "length"
    points: Annotated[tuple[tuple[Coordinate, Coordinate], ...], Field(min_length=1, max_length=MAX_POINTS)]
    frame: Annotated[int, Field(ge=0, lt=1_000_000)] | None = None

    @model_validator(mode="after")
    def _check_count(self) -> "MeasureForm":
        least, most = NEEDED[self.kind]
        if not least <= len(self.points) <= most:
            raise ValueError(f"{self.kind} of {len(self.points)} points")
        return self


Position = Annotated[float, Field(allow_inf_nan=False)]
"""One coordinate of a point in the world."""

Point = tuple[Position, Position, Position]


class MeasuredForm(StrictModel):
    """What a user measured on a page.

    items: what was marked in pictures.
    lengths: end points of lengths that were measured in the 3D view, in the world frame of the trajectory.
    """

    items: Annotated[tuple[MeasureForm, ...], Field(max_length=MAX_MEASURED)] = ()
    lengths: Annotated[tuple[tuple[Point, Point], ...], Field(max_length=MAX_MEASURED)] = ()


@dataclass(frozen=True)
class Measured:
    """A measured value.

    kind: what was measured.
    value: the value in the unit of depth, its square for an area, or degrees for an angle.
    deviation: its standard deviation, from the spread of depth around the pixels and the relative error of depth.
    points: (N, 3) marked points in the camera's axes; of a height, the point and its foot on the ground.
    unit: "m", "m²", "°", or "" if depth is not in metres.
    has_network_error: whether the deviation contains the error of the network.
    """

    kind: Kind
    value: float
    deviation: float
    points: Array
    unit: str
    has_network_error: bool

    @property
    def label(self) -> str:
        """Return value, deviation and unit in a few words; the value has no more decimals than the deviation."""
        space = "" if self.unit == "°" else " "
        value, deviation = round_to(self.value, 3), round_to(self.deviation, 2)
        if self.deviation > 0:
            value = f"{self.value:.{min(len(text.partition('.')[2]) for text in (value, deviation))}f}"
        return f"{value} ± {deviation}{space}{self.unit}".strip()

    def describe(self) -> str:
        """Return a sentence about the value."""
        relative = "" if self.unit else " (relative, not metres)"
        error = "" if self.has_network_error or self.kind == "angle" else " (the network's own error is unknown)"
        depths = " and ".join(round_to(float(z), 3) for z in self.points[:2, 2])
        where = f", of points at depths {depths} {self.unit}".rstrip() if self.kind == "length" else ""
        return f"{NAMES[self.kind]} {self.label}{relative}{error}{where}"

    def to_json(self) -> dict[str, Any]:
        """Return the values for the page."""
        values = {"kind": self.kind, "value": self.value, "deviation": self.deviation, "unit": self.unit}
        return {**values, "label": self.label, "text": self.describe(), "points": self.points.tolist()}


def round_to(value: float, digits: int) -> str:
    """Return a number with so many significant digits.

    Examples:
        >>> round_to(1234.5, 3), round_to(0.25, 3)
        ('1234', '0.250')
    """
    if abs(value) >= 10**digits:
        return f"{value:.0f}"
    return f"{value:#.{digits}g}".removesuffix(".")


def measure(
    form: MeasureForm,
    depth: NDArray[np.float32],
    K: NDArray[np.floating],
    depth_scale: DepthScale,
    deviations: DepthDeviations | None,
    *,
    has_network_error: bool = True,
) -> Measured:
    """Measure what a form marks.

    form: what to measure; its pixels correspond to `depth`.
    depth: (H, W) along the optical axis, 0 = none.
    K: (3, 3), pixels.
    depth_scale: kind of scale of the depth.
    deviations: of depth; None if they are unknown.
    has_network_error: whether they contain the error of the network.

    Raises GeometryError for a pixel outside the image or without depth, or a height if no ground is seen.
    """
    points = np.stack([lift_pixel(depth, K, x, y) for x, y in form.points])
    spreads = [spread_of_depth(depth, x, y) for x, y in form.points]
    compute, power, shown = COMPUTED[form.kind], POWERS[form.kind], points
    if form.kind == "height":
        ground = find_ground(depth, K)
        normal, offset = ground[:3], ground[3]
        compute = _make_height(normal, offset)
        shown = np.stack([points[0], points[0] - (points[0] @ normal - offset) * normal])
    value = compute(points)
    known, changes = deviations or DepthDeviations(0.0, 0.0), np.zeros(len(points))
    for row in range(len(points)):
        nearer, farther = points.copy(), points.copy()
        nearer[row] *= 1 - 1e-4
        farther[row] *= 1 + 1e-4
        changes[row] = (compute(farther) - compute(nearer)) / 2e-4
    single = replace(known, common=0.0).find_deviation(changes, np.array(form.points, float), depth.shape[1])
    common = 0.0 if power is None else power * value * known.common
    parts = [common, single, *(changes / points[:, 2] * spreads)]
    unit = {"area": "m²", "angle": "°"}.get(form.kind, "m")
    unit = unit if depth_scale is DepthScale.METRES or unit == "°" else ""
    return Measured(form.kind, value, float(np.linalg.norm(parts)), shown, unit, has_network_error)


def _compute_length(points: Array) -> float:
    return float(np.linalg.norm(points[1] - points[0]))


def _compute_area(points: Array) -> float:
    """Return the area of a polygon (N, 3), projected on the plane that makes it largest."""
    around = points - points[0]
    return float(np.linalg.norm(np.cross(around, np.roll(around, -1, 0)).sum(0)) / 2)


def _compute_angle(points: Array) -> float:
    """Return the angle, degrees, at the second of three points."""
    first, second = points[0] - points[1], points[2] - points[1]
    return float(np.degrees(np.arctan2(np.linalg.norm(np.cross(first, second)), first @ second)))


def _make_height(normal: Array, offset: float) -> Callable[[Array], float]:
    return lambda points: float(abs(points[0] @ normal - offset))


COMPUTED: Mapping[Kind, Callable[[Array], float]] = {
    "length": _compute_length,
    "area": _compute_area,
    "angle": _compute_angle,
    "height": _compute_length,
}
"""The value of points (N, 3) by kind; a height needs the ground first."""

POWERS: Mapping[Kind, int | None] = {"length": 1, "area": 2, "angle": None, "height": 1}
"""Power with which each kind grows with the scale of depth."""


def find_ground(depth: NDArray[np.float32], K: NDArray[np.floating]) -> Array:
    """Find the ground: the lowest plane of many points that is about level in an upright picture.

    depth: (H, W), 0 = none.
    K: (3, 3), pixels.

    Returns its plane (4,): the normal, which points down, and its offset from the camera, so that points of the ground
    have `point @ normal == offset`.

    Raises GeometryError if there is none.
    """
    every = max(round(max(depth.shape) / GROUND_SIDE), 1)
    rows, columns = (at.ravel() for at in np.mgrid[: depth.shape[0] : every, : depth.shape[1] : every])
    z = depth[rows, columns].astype(np.float64)
    seen = z > 0
    rows, columns, z = rows[seen], columns[seen], z[seen]
    points = np.stack([(columns - K[0, 2]) / K[0, 0] * z, (rows - K[1, 2]) / K[1, 1] * z, z], axis=1)
    low = np.flatnonzero(rows > depth.shape[0] // 2)
    if len(low) >= 10:
        rng = np.random.default_rng(0)
        best, score = np.zeros(4), MIN_GROUND_SHARE * len(points)
        for _ in range(GROUND_TRIALS):
            plane = _fit_plane(points[rng.choice(low, 3, replace=False)])
            if plane is None:
                continue
            below = (points @ plane[:3] - plane[3]) / z
            inside = int((np.abs(below) < GROUND_ERROR).sum())
            if inside > score and (below > GROUND_ERROR).mean() < MAX_BELOW_SHARE:
                best, score = plane, inside
        for share in (1.0, 0.5, 0.25):  # points of a wall near the ground tilt a coarse plane
            near = np.abs(points @ best[:3] - best[3]) / z < share * GROUND_ERROR
            refined = _fit_plane(points[near]) if near.any() else None
            best = best if refined is None else refined
        if best.any():
            return best
    fix = "measure a length, or take a picture that shows the ground"
    raise GeometryError("height", found="no ground in this picture", expected="a level ground", fix=fix)


def _fit_plane(points: Array) -> Array | None:
    """Return the plane (4,) of points (N, 3) with its normal down; None if it is steep or not determined."""
    middle = points.mean(0)
    singular, axes = np.linalg.svd(points - middle, full_matrices=False)[1:]
    normal = axes[2] if axes[2, 1] > 0 else -axes[2]
    if singular[1] < 1e-6 * max(singular[0], 1e-12) or normal[1] < np.cos(np.radians(MAX_GROUND_TILT)):
        return None
    return np.append(normal, normal @ middle)
