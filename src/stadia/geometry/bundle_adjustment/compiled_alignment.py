"""Align one pair of float32 images on the processor by compiled loops; `direct_alignment` is the readable reference."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from stadia.core.types import Camera
from stadia.geometry.numpy_camera import NEAR
from stadia.process.numba_jit import compile_loops

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class AlignmentSettings:
    """Constants of the method, as of `direct_alignment`."""

    max_steps: int
    min_gain: float
    freedom: float
    min_scale: float
    scale_rounds: int = 10


@dataclass(frozen=True, slots=True)
class _State:
    """A pair under one motion and one change of brightness. residual, seen: (H, W), 0 where not seen."""

    T_source_target: Doubles
    brightness: Doubles
    transform: Floats
    residual: Floats
    seen: Floats


@dataclass(frozen=True, slots=True)
class CompiledPair:
    """Two gray images at one size.

    target, inverse_depth: (H, W).  source: (Hs, Ws, 3), gray and its slopes along x and y.
    K_target_inverse, K_source: (3, 3) float64.
    lens: (3, 3), as of `direct_alignment_add_normal_equations`.
    """

    target: Floats
    source: Floats
    inverse_depth: Floats
    K_target_inverse: Doubles
    K_source: Doubles
    lens: Floats

    @classmethod
    def extract(
        cls, target: Tensor, source: Tensor, inverse_depth: Tensor, camera: Camera, source_camera: Camera, number: int
    ) -> CompiledPair:
        """Return one pair of a batch: target (B, 1, H, W), source (B, 3, Hs, Ws), inverse depth (B, 1, H, W)."""
        K, K_source = (lens.K.double().expand(len(target), 3, 3)[number].numpy() for lens in (camera, source_camera))
        images = target[number, 0], source[number].permute(1, 2, 0), inverse_depth[number, 0]
        own, other, inverse = (np.ascontiguousarray(image.numpy()) for image in images)
        lens = np.zeros((3, 3), np.float32)
        lens[:2] = np.linalg.inv(K_source)[:2]
        lens[2] = K_source[0, 0], K_source[0, 1], K_source[1, 1]
        return cls(own, other, inverse, np.linalg.inv(K), K_source, lens)

    def align(self, T: Doubles, brightness: Doubles, settings: AlignmentSettings) -> _State:
        """Take steps that lower the cost of pixels visible before and after."""
        state, damping, freedom = self._linearize(T, brightness), 1e-3, settings.freedom
        variance: float | None = None
        for _ in range(settings.max_steps):
            if variance is None:
                variance = self._find_variance(state, settings)
                curvature, downhill = self._normal_equations(state, 1 / (variance * freedom))
            damped = curvature + np.diag(damping * curvature.diagonal() + NEAR)
            step = np.asarray(np.linalg.solve(damped, downhill), np.float64)
            trial = self._linearize(_exponential(step[:6]) @ state.T_source_target, state.brightness + step[6:])
            images = state.residual, state.seen, trial.residual, trial.seen
            before, after = compare_costs(*images, np.float32(1 / (variance * freedom)))
            if not after < before:
                damping *= 10
                continue
            state, damping, variance = trial, damping / 10, None
            if after > (1 - settings.min_gain) * before:
                break
        return state

    def _find_variance(self, state: _State, settings: AlignmentSettings) -> float:
        rounds = settings.freedom, NEAR**2, settings.scale_rounds
        return max(find_variance(state.residual, state.seen, *rounds), settings.min_scale**2)

    def _linearize(self, T: Doubles, brightness: Doubles) -> _State:
        moved = np.empty((3, 4))
        moved[:, :3], moved[:, 3] = T[:3, :3] @ self.K_target_inverse, T[:3, 3]
        transform: Any = (self.K_source @ moved).astype(np.float32)
        residual, seen = np.empty_like(self.target), np.empty_like(self.target)
        gain, offset = _gain(brightness), np.float32(brightness[1])
        values = transform, gain, offset, np.float32(NEAR), residual, seen
        warp_residuals(self.source, self.target, self.inverse_depth, *values)
        return _State(T, brightness, transform, residual, seen)

    def _normal_equations(self, state: _State, inverse_variance: float) -> tuple[Doubles, Doubles]:
        curvature, downhill = np.zeros((8, 8)), np.zeros(8)
        add_normal_equations(
            self.source,
            self.target,
            self.inverse_depth,
            state.transform,
            self.lens,
            _gain(state.brightness),
            np.float32(NEAR),
            state.residual,
            np.float32(inverse_variance),
            curvature,
            downhill,
        )
        return curvature, downhill


_MAX_LOG_GAIN = 80.0  # its exponential is within float32; a step that goes there is refused for its cost


def _gain(brightness: Doubles) -> np.float32:
    """Return the gain of a logarithm, which a step of a nearly black image takes far beyond what has an exponential."""
    return np.float32(math.exp(min(float(brightness[0]), _MAX_LOG_GAIN)))


_SMALL_RAD = 1e-4  # below it the series are exact to float64


def _exponential(twist: Doubles) -> Doubles:
    """Return the motion (4, 4) of a twist (6,), v then w, as `se3.se3_exp` for one, in a tenth of the time."""
    x, y, z = twist[3:]
    W = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = math.sqrt(x * x + y * y + z * z)
    if angle < _SMALL_RAD:
        a, b, c = 1 - angle**2 / 6, 0.5 - angle**2 / 24, 1 / 6 - angle**2 / 120
    else:
        a, b = math.sin(angle) / angle, 2 * (math.sin(angle / 2) / angle) ** 2
        c = (angle - math.sin(angle)) / angle**3
    squared, T = W @ W, np.eye(4)
    T[:3, :3] += a * W + b * squared
    T[:3, 3] = (np.eye(3) + b * W + c * squared) @ twist[:3]
    return T


# -- The compiled loops
#
# A step needs the normal equations alone, so no slope of the whole image is stored: each row is warped, its slopes are
# computed, and their products are added up. All arrays are C-contiguous.

Scalar = Any
"""A float32. A Python number would make the arithmetic float64."""

row_kernel = partial(compile_loops, fastmath={"contract", "arcp", "nsz", "reassoc"})

UNKNOWNS, CHANNELS = 8, 6
"""A twist and two of brightness; buffers of a row: u, v, nearness over inverse depth, gray and its two slopes."""


@row_kernel
def warp_gray_row(
    y: int,
    source: Floats,  # (Hs, Ws, 3): gray, its slopes along x and y
    inverse_depth: Floats,  # (H, W), 0 = none
    transform: Floats,  # (3, 4): [at infinity | epipole], see geometry.warp
    near: Scalar,
    channels: int,
    buffer: Floats,  # out (CHANNELS, W)
    seen: Floats,  # out (W,), 1 or 0
) -> None:
    """Sample the source where it shows the pixels of a row; only gray where `channels` is 1."""
    height, width = source.shape[0], source.shape[1]
    zero, one, half = np.float32(0), np.float32(1), np.float32(0.5)
    right, bottom, line = np.float32(width - 1), np.float32(height - 1), np.float32(y)
    m = transform
    for x in range(inverse_depth.shape[1]):
        inverse, at = inverse_depth[y, x], np.float32(x)
        q0 = m[0, 0] * at + m[0, 1] * line + m[0, 2] + m[0, 3] * inverse
        q1 = m[1, 0] * at + m[1, 1] * line + m[1, 2] + m[1, 3] * inverse
        q2 = m[2, 0] * at + m[2, 1] * line + m[2, 2] + m[2, 3] * inverse
        in_front = q2 > near
        scale = one / q2 if in_front else one
        u, v = q0 * scale, q1 * scale
        inside = u >= -half and u <= right + half and v >= -half and v <= bottom + half
        if not (in_front and inside and inverse > zero):
            seen[x] = zero
            buffer[0, x], buffer[1, x], buffer[2, x] = zero, zero, zero
            buffer[3, x], buffer[4, x], buffer[5, x] = zero, zero, zero
            continue
        seen[x] = one
        buffer[0, x], buffer[1, x], buffer[2, x] = u, v, inverse * scale
        u, v = min(max(u, zero), right), min(max(v, zero), bottom)
        x0, y0 = int(u), int(v)
        x1, y1 = min(x0 + 1, width - 1), min(y0 + 1, height - 1)
        fx, fy = u - np.float32(x0), v - np.float32(y0)
        for c in range(channels):
            upper = source[y0, x0, c] + fx * (source[y0, x1, c] - source[y0, x0, c])
            lower = source[y1, x0, c] + fx * (source[y1, x1, c] - source[y1, x0, c])
            buffer[3 + c, x] = upper + fy * (lower - upper)


@row_kernel
def warp_residuals(
    source: Floats,
    target: Floats,  # (H, W) gray
    inverse_depth: Floats,
    transform: Floats,
    gain: Scalar,
    offset: Scalar,
    near: Scalar,
    residual: Floats,  # out (H, W), 0 where not seen
    seen: Floats,  # out (H, W)
) -> None:
    """Compute the warped source less the target at its brightness."""
    height, width = target.shape
    buffer = np.empty((CHANNELS, width), np.float32)
    for y in range(height):
        warp_gray_row(y, source, inverse_depth, transform, near, 1, buffer, seen[y])
        for x in range(width):
            residual[y, x] = (buffer[3, x] - gain * target[y, x] - offset) * seen[y, x]


@row_kernel
def find_variance(residual: Floats, seen: Floats, freedom: float, least: float, rounds: int) -> float:
    """Return the squared scale of the residuals' t distribution by its likelihood (Kerl et al., eq. 15)."""
    count, squared = 0.0, 0.0
    for y in range(residual.shape[0]):
        row_count, row_squared = np.float32(0), np.float32(0)
        for x in range(residual.shape[1]):
            row_count += seen[y, x]
            row_squared += residual[y, x] * residual[y, x]
        count += float(row_count)
        squared += float(row_squared)
    count = max(count, 1.0)
    variance = squared / count
    for _ in range(rounds):
        inverse, freedom_, more = np.float32(1 / max(variance, least)), np.float32(freedom), np.float32(freedom + 1)
        weighted = 0.0
        for y in range(residual.shape[0]):
            row = np.float32(0)
            for x in range(residual.shape[1]):
                square = residual[y, x] * residual[y, x]
                row += square * more / (freedom_ + square * inverse)
            weighted += float(row)
        variance = weighted / count
    return variance


@row_kernel
def add_normal_equations(
    source: Floats,
    target: Floats,
    inverse_depth: Floats,
    transform: Floats,
    lens: Floats,  # (2, 3) of the source's inverse K, then its fx, skew and fy: (3, 3)
    gain: Scalar,
    near: Scalar,
    residual: Floats,
    inverse_variance: Scalar,  # over the degrees of freedom
    curvature: NDArray[np.float64],  # out (8, 8), 0 before
    downhill: NDArray[np.float64],  # out (8,)
) -> None:
    """Add up weighted products of the slopes (B, 8) with each other and with the residual."""
    height, width = target.shape
    buffer, seen = np.empty((CHANNELS, width), np.float32), np.empty(width, np.float32)
    slope, weighted = np.empty((UNKNOWNS, width), np.float32), np.empty((UNKNOWNS, width), np.float32)
    one = np.float32(1)
    for y in range(height):
        warp_gray_row(y, source, inverse_depth, transform, near, 3, buffer, seen)
        for x in range(width):
            u, v, inverse_z = buffer[0, x], buffer[1, x], buffer[2, x]
            ray_x = lens[0, 0] * u + lens[0, 1] * v + lens[0, 2]
            ray_y = lens[1, 1] * v + lens[1, 2]
            along_x = buffer[4, x] * lens[2, 0]
            along_y = buffer[4, x] * lens[2, 1] + buffer[5, x] * lens[2, 2]
            outwards = along_x * ray_x + along_y * ray_y
            slope[0, x] = along_x * inverse_z
            slope[1, x] = along_y * inverse_z
            slope[2, x] = -outwards * inverse_z
            slope[3, x] = -along_y - outwards * ray_y
            slope[4, x] = along_x + outwards * ray_x
            slope[5, x] = along_y * ray_x - along_x * ray_y
            slope[6, x] = -gain * target[y, x]
            slope[7, x] = -one
        for x in range(width):
            weight = seen[x] / (one + residual[y, x] * residual[y, x] * inverse_variance)
            for a in range(UNKNOWNS):
                weighted[a, x] = slope[a, x] * weight
        for a in range(UNKNOWNS):
            total = np.float32(0)
            for x in range(width):
                total += weighted[a, x] * residual[y, x]
            downhill[a] -= total
            for b in range(a, UNKNOWNS):
                total = np.float32(0)
                for x in range(width):
                    total += weighted[a, x] * slope[b, x]
                curvature[a, b] += total
    for a in range(UNKNOWNS):
        for b in range(a):
            curvature[a, b] = curvature[b, a]


@row_kernel
def compare_costs(
    before: Floats, seen_before: Floats, after: Floats, seen_after: Floats, inverse_variance: Scalar
) -> tuple[float, float]:
    """Return the negative log-likelihoods of two states over the pixels that both see.

    The logarithm is of the product of eight pixels, of which each is at least 1 and far below 1e30.
    """
    one, most = np.float32(1), np.float32(1e4)
    first, second = 0.0, 0.0
    width = before.shape[1]
    for y in range(before.shape[0]):
        for start in range(0, width, 8):
            one_product, other_product = one, one
            for x in range(start, min(start + 8, width)):
                both = seen_before[y, x] * seen_after[y, x] * inverse_variance
                one_product *= min(one + before[y, x] * before[y, x] * both, most)
                other_product *= min(one + after[y, x] * after[y, x] * both, most)
            first += math.log(one_product)
            second += math.log(other_product)
    return first, second
