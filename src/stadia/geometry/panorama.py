"""Project between equirectangular panoramas, rays and perspective views; join maps of views to one panorama.

Axes as of a camera: x right, y down, z forward. The middle of a panorama shows the direction z, its left and right edge
-z, and its upper edge -y. Pixel centers have integer coordinates.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.geometry.cameras import centered_K, focal_px_from_fov

Array = NDArray[np.float64]

MIN_SHARED_PIXELS = 50
"""Fewest pixels of a panorama that two views must share before their scales are compared."""


def project_rays(rays: NDArray[np.floating], height: int, width: int) -> Array:
    """Project rays (..., 3) of any length to pixels (..., 2), x and y, of a panorama.

    Examples:
        >>> project_rays(np.array([[0, 0, 1], [1, 0, 0], [0, 1, 0]]), 180, 360).tolist()
        [[179.5, 89.5], [269.5, 89.5], [179.5, 179.5]]
    """
    x, y, z = np.moveaxis(np.asarray(rays, np.float64), -1, 0)
    longitude, latitude = np.arctan2(x, z), np.arctan2(y, np.hypot(x, z))
    return np.stack(((longitude / (2 * math.pi) + 0.5) * width - 0.5, (latitude / math.pi + 0.5) * height - 0.5), -1)


def lift_pixels(pixels: NDArray[np.floating], height: int, width: int) -> Array:
    """Return the unit rays (..., 3) of pixels (..., 2), x and y, of a panorama; the inverse of `project_rays`.

    Examples:
        >>> lift_pixels(np.array([179.5, 89.5]), 180, 360).tolist()
        [0.0, 0.0, 1.0]
    """
    x, y = np.moveaxis(np.asarray(pixels, np.float64), -1, 0)
    longitude = ((x + 0.5) / width - 0.5) * 2 * math.pi
    latitude = ((y + 0.5) / height - 0.5) * math.pi
    across = np.cos(latitude)
    return np.stack((across * np.sin(longitude), np.sin(latitude), across * np.cos(longitude)), -1)


def make_rays(height: int, width: int) -> Array:
    """Return the unit rays (height, width, 3) of all pixels of a panorama."""
    rows, columns = np.indices((height, width), dtype=np.float64)
    return lift_pixels(np.stack((columns, rows), -1), height, width)


def make_rotation(yaw_deg: float, pitch_deg: float) -> Array:
    """Return the rotation (3, 3) from a view to the panorama: first up by `pitch_deg`, then right by `yaw_deg`.

    Examples:
        >>> make_rotation(90, 0)[:, 2].round(6).tolist()  # the optical axis points right
        [1.0, 0.0, 0.0]
    """
    yaw, pitch = math.radians(yaw_deg), math.radians(pitch_deg)
    turn = np.array([[math.cos(yaw), 0, math.sin(yaw)], [0, 1, 0], [-math.sin(yaw), 0, math.cos(yaw)]])
    lift = np.array([[1, 0, 0], [0, math.cos(pitch), -math.sin(pitch)], [0, math.sin(pitch), math.cos(pitch)]])
    return turn @ lift


@dataclass(frozen=True, eq=False)
class View:
    """A square perspective view that is cut from a panorama.

    name: a name such as "yaw045-pitch+00".
    side: height and width, pixels.
    fov_deg: field of view from edge to edge, degrees.
    R_panorama_view: (3, 3) rotation from the axes of the view to the axes of the panorama.
    """

    name: str
    side: int
    fov_deg: float
    R_panorama_view: Array

    @property
    def K(self) -> Array:
        """Return the intrinsics (3, 3), pixels."""
        return centered_K(focal_px_from_fov(self.fov_deg, self.side), self.side, self.side)

    def make_rays(self) -> Array:
        """Return the rays (side, side, 3) of the pixels in the axes of the panorama; their z in the view is 1."""
        rows, columns = np.indices((self.side, self.side), dtype=np.float64)
        pixels = np.stack((columns, rows, np.ones_like(rows)), -1)
        return pixels @ np.linalg.inv(self.K).T @ self.R_panorama_view.T

    def cut(self, panorama: NDArray[np.generic]) -> NDArray[np.generic]:
        """Return the view (side, side, ...) of a panorama (H, W, ...), interpolated bilinearly across its edges.

        A panorama with more pixels per degree than the view is reduced first.
        """
        fit = round(2 * math.pi * float(self.K[0, 0]))
        if panorama.shape[1] > fit:
            panorama = cv2.resize(panorama, (fit, fit // 2), interpolation=cv2.INTER_AREA)
        height, width = panorama.shape[:2]
        wrapped = cv2.copyMakeBorder(panorama, 0, 0, 1, 1, cv2.BORDER_WRAP)
        x, y = np.moveaxis(project_rays(self.make_rays(), height, width).astype(np.float32), -1, 0)
        return cv2.remap(wrapped, x + 1, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)

    def project(self, rays: NDArray[np.floating]) -> tuple[Array, NDArray[np.bool_]]:
        """Project rays (..., 3) in the axes of the panorama to pixels (..., 2), and return which are inside the view.

        Pixels of rays outside are -1.
        """
        inside = rays @ self.R_panorama_view
        z = inside[..., 2]
        is_ahead = z > 1e-6
        pixels = inside @ self.K.T
        xy = np.full((*z.shape, 2), -1.0)
        np.divide(pixels[..., :2], z[..., None], out=xy, where=is_ahead[..., None])
        is_seen = is_ahead & ((xy >= -0.5) & (xy <= self.side - 0.5)).all(-1)
        xy[~is_seen] = -1
        return xy, is_seen


def is_panorama(image: NDArray[np.uint8]) -> bool:
    """Return whether an image (H, W, 3) is twice as wide as high, its left edge continues the right one, and its first
    and last row each show one point.
    """
    if image.shape[1] != 2 * image.shape[0]:
        return False
    values = image.astype(np.float32)
    across = np.abs(values[:, 0] - values[:, -1]).mean()
    neighbors = np.abs(np.diff(values, axis=1)).mean(axis=(1, 2))
    apart = np.abs(values[:, : image.shape[1] // 2] - values[:, image.shape[1] // 2 :]).mean()
    meets = across < 2 * neighbors.mean() + 1 and across < MAX_WRAP_SHARE * apart
    has_poles = max(neighbors[0], neighbors[-1]) < MAX_POLE_SHARE * neighbors.mean() + 1
    return bool(meets and has_poles and values[:, 0].std() > MIN_EDGE_SPREAD)


def make_views(pitches_deg: Sequence[tuple[float, int]], side: int, fov_deg: float) -> list[View]:
    """Create overlapping views in rows around a panorama.

    pitches_deg: for each row, its pitch, degrees up, and the number of views, which are evenly spaced.
    side: height and width of the views, pixels.
    fov_deg: field of view, degrees.
    """
    views = []
    for pitch_deg, count in pitches_deg:
        for number in range(count):
            yaw_deg = 360 * number / count
            name = f"yaw{yaw_deg:03.0f}-pitch{pitch_deg:+03.0f}"
            views.append(View(name, side, fov_deg, make_rotation(yaw_deg, pitch_deg)))
    return views


MAX_WRAP_SHARE = 0.5
"""Largest difference of a panorama's edges, over the difference of columns half an image apart."""

MAX_POLE_SHARE = 0.5
"""Largest difference of neighboring pixels in a panorama's first or last row, over the mean of all rows."""

MIN_EDGE_SPREAD = 8.0
"""Smallest standard deviation of a panorama's left edge, gray levels; a border of one color has less."""

LEAST_SPREAD = 0.05
"""Median absolute deviation of the logarithmic difference of two views that is added to the measured one."""


@dataclass(frozen=True, eq=False)
class JoinedViews:
    """Depth maps of views, joined to a panorama.

    distance: (H, W) float32 distance along the ray of each pixel; 0 if no view shows it.
    factors: (V,) factor on the depth of each view; their median is 1.
    disagreement: median relative difference of two views that show the same pixel, after the factors.
    """

    distance: NDArray[np.float32]
    factors: Array
    disagreement: float


def join_views(depths: Sequence[NDArray[np.floating]], views: Sequence[View], height: int, width: int) -> JoinedViews:
    """Join depth maps of overlapping views to one panorama of distances along the rays.

    Each view gets one factor, so that the logarithms of the distances agree in the overlaps in the least squares sense;
    the views then are blended, with weights that fall to 0 at their edges.

    depths: (side, side) depth along the optical axis of each view, in one unit up to an unknown factor; 0 if unknown.
    views: the views.
    height, width: size of the panorama, pixels.
    """
    rays = make_rays(height, width)
    logs = np.full((len(views), height, width), np.nan, np.float32)
    weights = np.zeros((len(views), height, width), np.float32)
    for view, depth, log, weight in zip(views, depths, logs, weights, strict=True):
        xy, is_seen = view.project(rays)
        x, y = np.moveaxis(xy.astype(np.float32), -1, 0)
        with np.errstate(divide="ignore"):
            values = np.log(depth.astype(np.float32))
        values[~np.isfinite(values)] = np.nan
        along = (rays[is_seen] @ view.R_panorama_view)[:, 2]
        found = cv2.remap(values, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)[is_seen]
        log[is_seen] = found - np.log(along)
        to_edge = 1 - np.abs(xy[is_seen] - (view.side - 1) / 2) / (view.side / 2)
        weight[is_seen] = np.where(np.isfinite(found), np.maximum(to_edge, 1e-3).prod(-1), 0)
    offsets = fit_log_factors(logs, np.cos((np.arange(height) + 0.5) / height * math.pi - math.pi / 2))
    logs += offsets[:, None, None].astype(np.float32)
    total = weights.sum(0)
    mean = np.where(weights > 0, logs * weights, 0).sum(0) / np.maximum(total, 1e-12)
    spread = np.where(weights > 0, np.abs(logs - mean) * weights, 0).sum(0) / np.maximum(total, 1e-12)
    is_shared = (weights > 0).sum(0) > 1
    disagreement = float(2 * np.median(spread[is_shared])) if is_shared.any() else math.nan
    distance = np.where(total > 0, np.exp(mean), 0).astype(np.float32)
    return JoinedViews(distance, np.exp(offsets), disagreement)


def fit_log_factors(logs: NDArray[np.floating], row_weights: NDArray[np.floating]) -> Array:
    """Return the offsets (V,) that make maps agree where they overlap, by least squares; their median is 0.

    Each pair of maps counts by its median difference, weighted by the solid angle that both show over the variance of
    the difference: two views of the sky differ by anything. All pairs are solved together, so that the offsets close
    around the circle.

    logs: (V, H, W) logarithms of distance; NaN if unknown.
    row_weights: (H,) solid angle of a pixel in each row.
    """
    count = len(logs)
    normal, right = np.zeros((count, count)), np.zeros(count)
    known = np.isfinite(logs)
    for one in range(count):
        for two in range(one + 1, count):
            shared = known[one] & known[two]
            if shared.sum() < MIN_SHARED_PIXELS:
                continue
            differences = logs[one][shared] - logs[two][shared]
            difference = float(np.median(differences))
            spread = float(np.median(np.abs(differences - difference)))
            weight = float((shared.sum(1) * row_weights).sum()) / (spread**2 + LEAST_SPREAD**2)
            normal[[one, two], [one, two]] += weight
            normal[[one, two], [two, one]] -= weight
            right[[one, two]] += -weight * difference, weight * difference
    offsets = np.linalg.lstsq(normal, right, rcond=None)[0]
    return np.asarray(offsets - np.median(offsets))
