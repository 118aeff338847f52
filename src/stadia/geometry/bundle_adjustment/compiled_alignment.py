"""Align one pair of float32 images on the processor by compiled loops; `direct_alignment` is the readable reference."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from stadia.core.types import Camera
from stadia.geometry.bundle_adjustment import direct_alignment_kernels as kernels
from stadia.geometry.numpy_camera import NEAR

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
    lens: (3, 3), as of `direct_alignment_kernels.add_normal_equations`.
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
        K, K_source = (one.K.double().expand(len(target), 3, 3)[number].numpy() for one in (camera, source_camera))
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
            before, after = kernels.compare_costs(*images, np.float32(1 / (variance * freedom)))
            if not after < before:
                damping *= 10
                continue
            state, damping, variance = trial, damping / 10, None
            if after > (1 - settings.min_gain) * before:
                break
        return state

    def _find_variance(self, state: _State, settings: AlignmentSettings) -> float:
        rounds = settings.freedom, NEAR**2, settings.scale_rounds
        return max(kernels.find_variance(state.residual, state.seen, *rounds), settings.min_scale**2)

    def _linearize(self, T: Doubles, brightness: Doubles) -> _State:
        moved = np.empty((3, 4))
        moved[:, :3], moved[:, 3] = T[:3, :3] @ self.K_target_inverse, T[:3, 3]
        transform: Any = (self.K_source @ moved).astype(np.float32)
        residual, seen = np.empty_like(self.target), np.empty_like(self.target)
        gain, offset = _gain(brightness), np.float32(brightness[1])
        values = transform, gain, offset, np.float32(NEAR), residual, seen
        kernels.warp_residuals(self.source, self.target, self.inverse_depth, *values)
        return _State(T, brightness, transform, residual, seen)

    def _normal_equations(self, state: _State, inverse_variance: float) -> tuple[Doubles, Doubles]:
        curvature, downhill = np.zeros((8, 8)), np.zeros(8)
        kernels.add_normal_equations(
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
