"""Estimate the scale of a depth map from objects of known height on a road: per object, per image, and pooled.

An object of height H that is h pixels high at depth D implies the scale factor f_y H / (h D). The factor times the
camera height in the depth map is the camera height in metres (FUMET, arXiv 2312.04530).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Generic

import numpy as np
from array_api_compat import array_namespace
from numpy.typing import NDArray

from stadia.core.errors import GeometryError
from stadia.core.types import Array, Camera
from stadia.geometry.ground.road_plane import Silhouettes, height_from_box, measure_silhouettes
from stadia.geometry.segments import Segments, segment_bounds, segment_quantiles

Floats = NDArray[np.float64]

OBJECT_DEPTHS = ("nearest", "quartile", "median", "mean", "silhouette")
"""Ways to represent an object by one depth. "silhouette" instead measures its height along the road's normal."""

POOLS = ("median", "mean", "weighted", "mode")
"""Ways to pool the camera heights of many images."""

_QUANTILES = {"nearest": 0.0, "quartile": 0.25, "median": 0.5}
TRIM = 0.02  # share of an object's points left out at each end, because single pixels are noisy


def represent_depths(depth: Array, objects: Segments[Array], kind: str) -> Array:
    """Return one depth (M,) per object, in the way that `kind` names in OBJECT_DEPTHS; NaN if the object has no depth.

    depth: (B, 1, H, W) z in any unit; 0 means unknown.
    """
    xp = array_namespace(depth)
    values, known = objects.gather(depth)[:, 0], objects.gather(depth > 0)[:, 0]
    values, segment = values[known], objects.segment[known]
    if kind == "mean":
        order = xp.argsort(segment, stable=True)
        first, size = segment_bounds(segment[order], objects.count)
        total = xp.cumulative_sum(xp.astype(values[order], xp.float64), include_initial=True)
        mean = xp.astype((total[first + size] - total[first]) / size.clip(min=1), depth.dtype)
        return xp.where(size > 0, mean, xp.full_like(mean, xp.nan))
    return segment_quantiles(values, segment, objects.count, (_QUANTILES[kind],))[0]


def count_mask_rows(objects: Segments[Array], height: int, width: int) -> Array:
    """Return the number of rows (M,) that each object's mask covers, from its first row to its last, as float32.

    height, width: size of the images (B, height, width).
    """
    xp = array_namespace(objects.pixel)
    row = xp.astype(objects.pixel // width % height, xp.float32)  # exact up to 16 million rows
    first, last = segment_quantiles(row, objects.segment, objects.count, (0.0, 1.0))
    return last - first + 1


def focal_of_objects(camera: Camera, depth: Array, objects: Segments[Array]) -> Array:
    """Return the focal length f_y (M,) in pixels of the image that shows each object, in the number type of depth.

    camera: its K is (3, 3) or (B, 3, 3).
    depth: (B, 1, H, W) depth of the images.
    """
    xp = array_namespace(depth)
    return xp.broadcast_to(xp.astype(camera.fy, depth.dtype), (len(depth),))[objects.image]


def measure_box_heights(depth: Array, camera: Camera, objects: Segments[Array], kind: str) -> Array:
    """Return the height (M,) of each object in the unit of depth, from the rows of its mask and one depth.

    The height is NaN if the object has no depth.

    depth: (B, 1, H, W) z in any unit; 0 means unknown.
    camera: its K is (3, 3) or (B, 3, 3).
    kind: name of the way to represent the object by one depth, one of OBJECT_DEPTHS.
    """
    fy = focal_of_objects(camera, depth, objects)
    return height_from_box(count_mask_rows(objects, *depth.shape[-2:]), represent_depths(depth, objects, kind), fy)


@dataclass(frozen=True, slots=True)
class ObjectScales(Generic[Array]):
    """The scale factors from the unit of a depth map to metres that M objects imply.

    factor: (M,) metres per unit of depth; NaN if the object's known height, its depth, or the road is missing.
    variance: (M,) variance of the factor that follows from the spread of the known height.
    top, bottom: (M,) heights of the highest and lowest point above the road, in the unit of depth.
    """

    factor: Array
    variance: Array
    top: Array
    bottom: Array

    def is_grounded(self, factor: float, height_m: Array, *, tolerance: float) -> Array:
        """Return, (M,) bool, whether an object's top is at its known height and its bottom is near the road.

        factor: scale factor of the image.
        height_m: (M,) known heights in metres.
        tolerance: largest |ln(top / known height)|, and largest height of the bottom divided by the known height.
        """
        odd = abs(array_namespace(height_m).log(factor * self.top / height_m))
        return (odd < tolerance) & (factor * self.bottom < tolerance * height_m)


def scale_objects(
    depth: Array,
    camera: Camera,
    plane: Array,
    objects: Segments[Array],
    height_m: Array,
    spread_m: Array,
    *,
    kind: str = "silhouette",
) -> ObjectScales[Array]:
    """Return the scale factor that each of the M objects implies.

    depth: (B, 1, H, W) z in any unit; 0 means unknown.
    camera: its K is (3, 3) or (B, 3, 3).
    plane: (B, 4) road plane of each image, see `RoadPixelHeights.plane`.
    objects: pixels of the M objects.
    height_m, spread_m: (M,) known heights and their standard deviations.
    kind: one of OBJECT_DEPTHS.

    Raises GeometryError if `kind` is not in OBJECT_DEPTHS.
    """
    if kind not in OBJECT_DEPTHS:
        expected = f"one of {', '.join(OBJECT_DEPTHS)}"
        raise GeometryError("depth of an object", found=f"'{kind}'", expected=expected, fix="choose one of them")
    silhouettes = measure_silhouettes(depth, camera, plane, objects, trim=TRIM)
    xp, fy = array_namespace(depth), focal_of_objects(camera, depth, objects)
    # The center of the highest pixel is on average half a pixel below the edge.
    half_px = 0.5 * represent_depths(depth, objects, "median") / fy
    edges = Silhouettes(silhouettes.top + half_px, silhouettes.bottom)
    unit_height = edges.height if kind == "silhouette" else measure_box_heights(depth, camera, objects, kind)
    factor = height_m / xp.where(unit_height > 0, unit_height, xp.full_like(unit_height, xp.nan))
    return ObjectScales(factor, (factor * spread_m / height_m) ** 2, edges.top, edges.bottom)


@dataclass(frozen=True, slots=True)
class PooledHeight:
    """One camera height, pooled from many images.

    by: pooled height in metres, by the name of the way in `POOLS`.
    sigma_m: standard deviation in metres. It leaves out the error of the class's mean height.
    """

    by: dict[str, float]
    sigma_m: float


def pool_heights(height_m: Floats, variance: Floats, shares: Floats, spread: float) -> PooledHeight:
    """Pool the camera heights of F images.

    height_m: (F,) camera height that each image implies.
    variance: (F,) variance of each height that follows from the spread of its objects.
    shares: (T,) share of each object in all measurements.
    spread: relative standard deviation of an object's height.

    "weighted" weights each image by the largest variance minus its own; "mode" is the most frequent logarithm. The
    standard deviation is the larger one of two estimates: by the number of objects, and by the scatter of the images.

    Raises GeometryError without a height.
    """
    if not len(height_m):
        fix = "pass more images, or masks of road and cars"
        raise GeometryError("camera height", found="no image with a road and objects", expected="some", fix=fix)
    middle = float(np.median(height_m))
    weight = variance.max() - variance
    weight = weight if weight.sum() > 0 else np.ones(len(height_m))
    by = {
        "median": middle,
        "mean": float(height_m.mean()),
        "weighted": float((weight * height_m).sum() / weight.sum()),
        "mode": _find_mode(height_m),
    }
    by_objects = middle * spread * math.sqrt(float((shares**2).sum()))
    scatter = 1.4826 * float(np.median(np.abs(height_m - middle)))
    by_images = scatter / math.sqrt(min(len(shares), len(height_m)))
    return PooledHeight(by, max(by_objects, by_images))


def _find_mode(values: Floats) -> float:
    logs = np.log(values)
    low, high = np.quantile(logs, (0.25, 0.75))
    width = max(0.9 * min(float(logs.std()), float(high - low) / 1.34) * len(logs) ** -0.2, 0.005)
    grid = np.linspace(logs.min(), logs.max(), 401)
    density = np.exp(-0.5 * ((grid[:, None] - logs) / width) ** 2).sum(1)
    return float(np.exp(grid[density.argmax()]))
