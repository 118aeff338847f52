"""Score conventions of a result: the share of matches near their epipolar lines and in front of both cameras."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stadia.io.records.reconstruction import Reconstruction
from stadia.judge.reconstructions.result_convention import (
    Convention,
    change_camera,
    change_poses,
    name_camera,
    order_rows,
)
from stadia.sfm.image_matches import ImageMatches
from stadia.sfm.match_triangulation import pose_images
from stadia.sfm.pair_matching import FramePair
from stadia.sfm.sparse_map import Array

PIXELS = 640.0
"""Longer image side, pixels, that the distances of matches from their epipolar lines refer to."""

SOFT_PX = 2.0
"""Distance from the epipolar line at which a match counts half, pixels of an image of PIXELS."""

NEAR = 1.3
"""A match with less parallax than SOFT_PX times this counts as in front, since its side is unknown."""

MAX_PAIRS = 96
"""Most pairs of images that are scored; more take longer and name the same conventions."""

MAX_MATCHES = 50
"""Most matches of a pair of images that are scored."""

MIN_MATCHES = 20
"""Fewest matches of a scored pair: fewer give its share in steps above 5 %."""

MIN_MOTION = 0.02
"""Smallest median motion of a scored pair's matches, as a share of the longer side."""

MIN_KNOWN = 0.35
"""Share of the scored pairs that must have poses under a convention."""

_BATCH = 400_000  # matches times conventions that are scored at once


@dataclass(frozen=True, slots=True, eq=False)
class MatchSample:
    """P pairs of at most M matches each: ends (P, 2) as rows of posed images, pixels (P, M, 2), and which are real."""

    ends: NDArray[np.intp]
    first: Array
    second: Array
    is_real: NDArray[np.bool_]


class ConventionScorer:
    """Scores conventions on a sample of matches."""

    def __init__(self, reconstruction: Reconstruction, matches: ImageMatches) -> None:
        self.reconstruction = reconstruction
        self.matches = matches
        self.posed = pose_images(reconstruction, matches)
        self.sizes = self.posed.sizes.astype(np.float64)
        self.sample = choose_sample(self.posed.images, matches)
        self._rays: dict[tuple[Any, ...], tuple[Array, Array, Array]] = {}
        self._moved: dict[float, tuple[Array, NDArray[np.bool_]]] = {}
        first, second, _ = self.view(Convention())
        is_seen = np.isfinite(first).all(1) & np.isfinite(second).all(1)
        self.sample = replace(self.sample, is_real=self.sample.is_real & is_seen)

    def view(self, convention: Convention) -> tuple[Array, Array, Array]:
        """Return rays (P, 3, M) of both ends of matches, and the pixels (P,) of one unit, by a convention's camera."""
        key = name_camera(convention)
        if key not in self._rays:
            K = change_camera(self.posed.K, self.sizes, convention)
            rays = []
            for end, xy in ((0, self.sample.first), (1, self.sample.second)):
                rows = np.repeat(self.sample.ends[:, end], xy.shape[1])
                flat = self.posed.normalize(rows, xy.reshape(-1, 2), K)
                rays.append(np.concatenate((flat, np.ones((len(flat), 1))), 1).reshape(*xy.shape[:2], 3).swapaxes(1, 2))
            unit = np.sqrt(K[:, 0, 0] * K[:, 1, 1]) * PIXELS / self.sizes.max(1)
            self._rays[key] = rays[0], rays[1], unit[self.sample.ends].mean(1)
        return self._rays[key]

    def poses(self, convention: Convention) -> tuple[Array, NDArray[np.bool_]]:
        """Return world-to-camera poses (F, 4, 4) of the posed images without `axes`, and which images have one."""
        T, is_known = self._order(convention)
        without_axes = Convention(poses=convention.poses)
        return change_poses(T, without_axes, self.reconstruction.pose_format), is_known

    def _order(self, convention: Convention) -> tuple[Array, NDArray[np.bool_]]:
        posed, offset_s = self.posed, convention.offset_s
        if offset_s:
            if offset_s not in self._moved:
                moved = pose_images(self.reconstruction, self.matches, offset_s)
                at = np.searchsorted(moved.images, posed.images).clip(0, len(moved.images) - 1)
                self._moved[offset_s] = moved.T_camera_world[at], moved.images[at] == posed.images
            return self._moved[offset_s]
        rows = order_rows(len(posed.images), convention, [self.matches.names[i] for i in posed.images])
        return posed.T_camera_world[rows.clip(0)], rows >= 0

    def score(self, conventions: Sequence[Convention], soft_px: float = SOFT_PX, every: int = 1) -> Array:
        """Return (H, P), for each convention and pair the share of matches that fit; NaN for a pair without poses.

        conventions: H conventions.
        soft_px: distance from the epipolar line at which a match counts half, pixels of an image of PIXELS.
        every: only each so many-th match is scored.
        """
        shares = np.full((len(conventions), len(self.sample.ends)), np.nan)
        groups: dict[tuple[Any, ...], list[int]] = {}
        for number, convention in enumerate(conventions):
            key = name_camera(convention)
            groups.setdefault(key, []).append(number)
        poses: dict[tuple[Any, ...], tuple[Array, Array, NDArray[np.bool_]]] = {}
        size = max(_BATCH * every // max(self.sample.is_real.size, 1), 1)
        for members in groups.values():
            first, second, unit = self.view(conventions[members[0]])
            for start in range(0, len(members), size):
                batch = members[start : start + size]
                motions = [self.find_motion(conventions[number], poses) for number in batch]
                R, t = np.stack([motion[0] for motion in motions]), np.stack([motion[1] for motion in motions])
                fits = score_matches(R, t, first[..., ::every], second[..., ::every], unit[:, None] / soft_px)
                is_real = self.sample.is_real[:, ::every]
                count = is_real.sum(1)
                found = np.where(count, (np.nan_to_num(fits) * is_real).sum(2) / np.maximum(count, 1), np.nan)
                shares[batch] = np.where(np.stack([motion[2] for motion in motions]), found, np.nan)
        return shares

    def find_motion(
        self, convention: Convention, cached: dict[tuple[Any, ...], tuple[Array, Array, NDArray[np.bool_]]]
    ) -> tuple[Array, Array, NDArray[np.bool_]]:
        """Return rotations (P, 3, 3) and translations (P, 3) from first to second images, and which are known."""
        key = (convention.poses, convention.order, convention.shift, convention.offset_s)
        if key not in cached:
            T, is_known = self.poses(convention)
            first, second = T[self.sample.ends[:, 0]], T[self.sample.ends[:, 1]]
            R = second[:, :3, :3] @ first[:, :3, :3].transpose(0, 2, 1)
            t = second[:, :3, 3] - np.einsum("pij,pj->pi", R, first[:, :3, 3])
            cached[key] = R, t, np.asarray(is_known[self.sample.ends].all(1))
        R, t, known = cached[key]
        turn = convention.R
        return turn @ R @ turn.T, t @ turn.T, known


def choose_sample(images: NDArray[np.intp], matches: ImageMatches) -> MatchSample:
    """Choose pairs of posed images whose matches move enough, and some matches of each.

    images: (F,) indices of the posed images, rising.
    matches: matches between images.
    """
    known = set(images.tolist())
    usable = [
        pair
        for pair in matches.pairs
        if pair.first in known and pair.second in known and len(pair.is_held) >= MIN_MATCHES
    ]
    moving = [pair for pair in usable if _measure_motion(pair) >= MIN_MOTION * matches.sizes[pair.first].max()]
    chosen = (
        [moving[row] for row in np.unique(np.linspace(0, len(moving) - 1, MAX_PAIRS).astype(int))] if moving else []
    )
    first, second = np.zeros((2, len(chosen), MAX_MATCHES, 2))
    is_real = np.zeros((len(chosen), MAX_MATCHES), bool)
    for row, pair in enumerate(chosen):
        kept = np.unique(np.linspace(0, len(pair.is_held) - 1, MAX_MATCHES).astype(int))
        first[row, : len(kept)], second[row, : len(kept)] = pair.xy_first[kept], pair.xy_second[kept]
        is_real[row, : len(kept)] = True
    ends = np.searchsorted(images, [(pair.first, pair.second) for pair in chosen]).reshape(-1, 2)
    return MatchSample(ends, first, second, is_real)


def _measure_motion(pair: FramePair) -> float:
    return float(np.median(np.linalg.norm(pair.xy_second - pair.xy_first, axis=1)))


def score_matches(R: Array, t: Array, first: Array, second: Array, unit: Array) -> NDArray[np.float32]:
    """Return how well matches fit relative poses: 1 on the epipolar line and in front of both cameras, 0 far off.

    R: (H, P, 3, 3) rotations from the first to the second image of each pair.
    t: (H, P, 3) translations.
    first, second: (P, 3, M) rays of the matches.
    unit: (P, 1) softness: distance in rays at which a match counts half is 1 / unit.

    Returns (H, P, M).
    """
    x, y, z = (t / np.maximum(np.linalg.norm(t, axis=-1, keepdims=True), 1e-12)).astype(np.float32).transpose(2, 0, 1)
    zero = np.zeros_like(x)
    hat = np.stack((zero, -z, y, z, zero, -x, -y, x, zero), -1).reshape(*x.shape, 3, 3)
    R, first, second = R.astype(np.float32), first.astype(np.float32), second.astype(np.float32)
    turned = R @ first
    lines = hat @ turned
    side = hat @ second
    back = -(R.swapaxes(-1, -2) @ side)[..., :2, :]
    slope = lines[..., 0, :] ** 2 + lines[..., 1, :] ** 2 + back[..., 0, :] ** 2 + back[..., 1, :] ** 2
    distance = (second * lines).sum(-2) ** 2 / np.maximum(slope, 1e-18)
    closeness = 1 / (1 + distance * unit.astype(np.float32) ** 2)
    normal = np.empty_like(turned)  # turned times second; turned * a + t = second * b
    for axis in range(3):
        after, last = (axis + 1) % 3, (axis + 2) % 3
        normal[..., axis, :] = turned[..., after, :] * second[:, last] - turned[..., last, :] * second[:, after]
    ahead_first, ahead_second = -(side * normal).sum(-2), -(lines * normal).sum(-2)
    lengths = (turned**2).sum(-2) * (second**2).sum(-2)
    is_far = (normal**2).sum(-2) * (unit.astype(np.float32) * NEAR) ** 2 < lengths
    return np.asarray(closeness * (is_far | ((ahead_first > 0) & (ahead_second > 0))), np.float32)


def average_shares(shares: Array) -> Array:
    """Return the mean (H,) over pairs; 0 for a convention that gives poses to too few pairs."""
    known = np.isfinite(shares)
    mean = np.where(known, shares, 0).sum(1) / np.maximum(known.sum(1), 1)
    return np.where(known.mean(1) >= MIN_KNOWN, mean, 0.0)
