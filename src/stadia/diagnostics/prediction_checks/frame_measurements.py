"""Measure predicted maps against their images: spread, what changes with the image, sky, and matches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.diagnostics.preflight.two_view_geometry import (
    TwoViewMotion,
    detect_features,
    estimate_motion,
    gray,
    match_features,
    pixel_rays,
)
from stadia.geometry.numpy_camera import resize_K
from stadia.geometry.sky import find_sky

Map = NDArray[np.float32]

MIN_FRAMES = 4
"""Frames that show whether a map changes with its image."""

MIN_RELATIVE_RANGE = 1e-4
"""Of inverse depth up to scale and shift, to its largest absolute value; below, it is rounding, and the map is flat."""

MIN_IMAGE_CHANGE = 0.25
"""Share of the variance of brightness that is not in the mean image; below, the images are nearly the same."""

MIN_PARALLAX_PX = 2.0
"""Median displacement of matches beyond the rotation, for images of 640 pixels of width. Noise is about 0.5."""

MATCH_WIDTH, MIN_MATCH_WIDTH = 640, 128
"""Pixels of width of the images in which matches are found, at most and at least."""

SCALES = np.geomspace(0.02, 50, 120)
"""Translations that are tried for a depth map, in units of its median depth."""

MIN_SKY = 0.04
"""Share of an image that sky must have to be judged."""


@dataclass(frozen=True, slots=True, eq=False)
class SampledFrame:
    """A predicted frame.

    image: (H, W, 3) uint8 RGB, at most MATCH_WIDTH pixels wide, and its K (3, 3).
    inverse_depth: (h, w) float32 of the same view, positive unless it is up to scale and shift.
    following: the next frame (H, W, 3) of the same camera, where the camera moved on; else None.
    following_K: (3, 3) of that.
    """

    image: NDArray[np.uint8]
    K: NDArray[np.float64]
    inverse_depth: Map
    following: NDArray[np.uint8] | None = None
    following_K: NDArray[np.float64] | None = None


@dataclass(frozen=True, slots=True)
class FrameMeasurements:
    """What predictions show. None: could not be measured.

    frames: those that were sampled; the others are measured on the valid ones of them.
    spread: median over frames of the ratio of the 95 % to the 5 % quantile of depth.
    change: share of the variance of a map that is not in the mean map of all frames.
    image_change: the same of the brightness of the images.
    match_error: median distance of matches from where the map and the camera's motion put them, over the same for
        constant depth.
    match_pairs: pairs of frames with enough parallax.
    error_over_mean: median distance of matches from where the map and the camera's motion put them, over the same for
        the mean map of the other frames; 1 where the image adds nothing.
    row_share: median over frames of the share of the variance of a map that is between its rows.
    sky_nearer: share of the frames with sky where the median depth of the sky is below that of the lowest fifth of the
        image.
    invalid: frames with a value that is not finite or, unless inverse depth is up to scale and shift, not positive.
    has_ratios: False for inverse depth up to scale and shift.
    relative_range: without ratios, the median over frames of the range from the 5 % to the 95 % quantile of inverse
        depth, over its largest absolute value.
    """

    frames: int
    spread: float | None
    change: float | None
    image_change: float | None
    match_error: float | None
    match_pairs: int
    sky_nearer: float | None
    invalid: int = 0
    has_ratios: bool = True
    relative_range: float | None = None
    error_over_mean: float | None = None
    row_share: float | None = None


def reduce_image(image: NDArray[np.uint8], K: NDArray[np.float64]) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Return an image of at most MATCH_WIDTH pixels of width, and its K."""
    height, width = image.shape[:2]
    if width <= MATCH_WIDTH:
        return image, K
    size = (max(1, round(height * MATCH_WIDTH / width)), MATCH_WIDTH)
    small = cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.uint8), resize_K(K, (height, width), *size)


def measure_frames(frames: Sequence[SampledFrame], *, has_ratios: bool = True) -> FrameMeasurements:
    """Measure predicted frames of one input.

    frames: spread over the input. Maps of several sizes are compared at the size of the first.
    has_ratios: False for inverse depth up to scale and shift, whose ratios mean nothing.
    """
    valid = [one for one in frames if _is_valid(one.inverse_depth, has_ratios=has_ratios)]
    maps = [np.log(one.inverse_depth) if has_ratios else _normalize(one.inverse_depth) for one in valid]
    size = valid[0].inverse_depth.shape if valid else ()
    skies = [found for found in map(_is_sky_nearer, valid) if found is not None]
    logs = [_resize(one, size) for one in maps]
    errors = _match_errors(valid, _mean_of_others(logs)) if has_ratios else []
    spreads = [_range(one) for one in maps] if has_ratios else []
    ranges = [] if has_ratios else [_relative_range(one.inverse_depth) for one in valid]
    return FrameMeasurements(
        frames=len(frames),
        spread=float(np.exp(np.median(spreads))) if spreads else None,
        change=_share_of_own(logs),
        image_change=_share_of_own([_brightness(one.image, size) for one in valid]),
        match_error=float(np.median([one for one, _ in errors])) if errors else None,
        match_pairs=len(errors),
        sky_nearer=float(np.mean(skies)) if skies else None,
        invalid=len(frames) - len(valid),
        has_ratios=has_ratios,
        relative_range=float(np.median(ranges)) if ranges else None,
        error_over_mean=float(np.median([one for _, one in errors])) if errors and len(valid) >= MIN_FRAMES else None,
        row_share=float(np.median([_share_of_rows(one) for one in maps])) if maps else None,
    )


def _is_valid(inverse_depth: Map, *, has_ratios: bool) -> bool:
    return bool(np.isfinite(inverse_depth).all()) and (not has_ratios or bool(inverse_depth.min() > 0))


def _range(values: Map) -> float:
    """Return the range from the 5 % to the 95 % quantile."""
    return float(np.subtract(*np.quantile(values, [0.95, 0.05])))


def _relative_range(values: Map) -> float:
    return _range(values) / max(float(np.abs(values).max()), 1e-12)


def _normalize(inverse_depth: Map) -> Map:
    """Return inverse depth up to scale and shift with median 0 and a range of 1, or 0 everywhere where it is flat."""
    centered = inverse_depth - np.median(inverse_depth)
    is_flat = _relative_range(inverse_depth) < MIN_RELATIVE_RANGE
    return np.asarray(np.zeros_like(centered) if is_flat else centered / _range(inverse_depth), np.float32)


def _resize(values: Map, size: tuple[int, ...]) -> Map:
    if values.shape == size:
        return values
    return np.asarray(cv2.resize(values, (size[1], size[0]), interpolation=cv2.INTER_AREA), np.float32)


def _brightness(image: NDArray[np.uint8], size: tuple[int, ...]) -> Map:
    """Return (h, w) gray in [0, 1] at the size of a map."""
    return _resize(np.asarray(gray(image) / 255, np.float32), size)


def _share_of_own(maps: Sequence[Map]) -> float | None:
    """Return the share of the variance within a map that is not in the mean map; None for too few maps."""
    if len(maps) < MIN_FRAMES:
        return None
    centered = np.stack([one - np.median(one) for one in maps])
    own = centered - centered.mean(0)
    # each of n independent maps is 1 / n of the mean map
    return float(own.var((1, 2)).mean() / max(float(centered.var((1, 2)).mean()), 1e-12)) * len(maps) / (len(maps) - 1)


def _share_of_rows(values: Map) -> float:
    """Return the share of the variance of a map that is between its rows."""
    return float(values.mean(1).var() / max(float(values.var()), 1e-12))


def _mean_of_others(maps: Sequence[Map]) -> list[Map]:
    """Return, for each map of log inverse depth, the mean of the other ones with median 0; of one map, itself."""
    centered = np.stack([one - np.median(one) for one in maps]) if maps else np.zeros((0, 1, 1))
    count = max(len(maps) - 1, 1)
    return [(centered.sum(0) - (one if len(maps) > 1 else 0)) / count for one in centered]


def _is_sky_nearer(frame: SampledFrame) -> bool | None:
    """Return whether sky is predicted nearer than the lowest fifth of the image; None without sky."""
    sky = find_sky(frame.image, frame.inverse_depth.shape)
    if sky.mean() < MIN_SKY:
        return None
    lowest = frame.inverse_depth[-(len(sky) // 5) :]
    return bool(np.median(frame.inverse_depth[sky]) > np.median(lowest))


def _match_errors(frames: Sequence[SampledFrame], means: Sequence[Map]) -> list[tuple[float, float]]:
    """Return, for each pair with parallax, the error of its map over that of constant depth, and of the mean map.

    means: log inverse depth of the mean map for each frame.
    """
    errors = []
    for frame, mean in zip(frames, means, strict=True):
        if (found := _match_pair(frame)) is None:
            continue
        first, second, motion = found
        own, average, constant = (
            _error_px(frame, first, second, motion, _sample(values, _scale_pixels(first, frame.image, values)))
            for values in (frame.inverse_depth, np.exp(mean), np.ones((1, 1), np.float32))
        )
        errors.append((own / max(constant, 1e-6), own / max(average, 1e-6)))
    return errors


def _scale_pixels(pixels: NDArray[np.float64], image: NDArray[np.uint8], values: Map) -> NDArray[np.float32]:
    """Return pixels (N, 2) of an image as pixels of a map of the same view."""
    height, width = values.shape
    scale = np.array([width / image.shape[1], height / image.shape[0]])
    return ((pixels + 0.5) * scale - 0.5).astype(np.float32)


def _match_pair(frame: SampledFrame) -> tuple[NDArray[np.float64], NDArray[np.float64], TwoViewMotion] | None:
    """Return matches (N, 2) of a frame and the following one with the camera's motion; None without parallax."""
    if frame.following is None or frame.image.shape[1] < MIN_MATCH_WIDTH:
        return None
    matches = match_features(detect_features(frame.image), detect_features(frame.following))
    motion = estimate_motion(matches.first_px, matches.second_px, frame.K)
    if motion is None or motion.planar or motion.parallax_px < MIN_PARALLAX_PX * frame.image.shape[1] / MATCH_WIDTH:
        return None
    return matches.first_px[motion.inliers], matches.second_px[motion.inliers], motion


def _sample(values: Map, spots: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return (N,) values at pixels (N, 2)."""
    read = cv2.remap(values, spots[:, 0:1], spots[:, 1:2], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(read, np.float64).ravel()


def _error_px(
    frame: SampledFrame,
    first: NDArray[np.float64],
    second: NDArray[np.float64],
    motion: TwoViewMotion,
    inverse_depth: NDArray[np.float64],
) -> float:
    """Return the median distance of matches from their projections, for the best length of the translation."""
    K = frame.K if frame.following_K is None else frame.following_K
    turned = pixel_rays(first, frame.K) @ motion.R.T
    relative = inverse_depth / np.median(inverse_depth)
    moved = turned[None] + (SCALES[:, None] * relative)[..., None] * motion.t
    projected = moved @ K.T
    ahead = projected[..., 2:] > 1e-3
    pixels = np.where(ahead, projected[..., :2] / np.where(ahead, projected[..., 2:], 1), 1e4)
    return float(np.median(np.linalg.norm(pixels - second, axis=-1), axis=1).min())
