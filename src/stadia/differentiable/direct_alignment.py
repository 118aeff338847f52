"""Align two images directly with compiled loops on the CPU; one of the images has depth."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from stadia.core.types import Camera
from stadia.differentiable.images import resize
from stadia.differentiable.view_synthesis import check_sizes
from stadia.geometry.cameras import NEAR, depth_from_inverse, inverse_from_depth

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

_MIN_ROWS = 12  # rows of the smallest compared images: a start that is a quarter of the image off is 3 pixels off there
_MAX_PIXELS = 1 << 21  # pixels of the largest compared images; Full HD is just below
_STEPS = 10  # largest number of Gauss-Newton steps at each size
_MIN_GAIN = 1e-3  # share of the cost; a smaller gain ends a size
_FREEDOM = 5.0  # degrees of freedom of Student's t distribution (Kerl et al.)
_SCALE_ROUNDS = 10  # rounds of fitting the distribution's scale
_MIN_SCALE = 1 / 255  # smallest scale: the rounding of images is not an outlier


@dataclass(frozen=True, slots=True)
class DirectAlignment:
    """The estimated motion between two images, and measures of its reliability.

    T_source_target: (B, 4, 4) float64 motion from the target camera's frame to the source camera's frame.
    gain, offset: (B,) brightness change: source = gain * target + offset.
    seen: (B,) share of the target's pixels that the source image shows.
    residual: (B,) mean absolute brightness difference of these pixels.
    """

    T_source_target: Tensor
    gain: Tensor
    offset: Tensor
    seen: Tensor
    residual: Tensor


@torch.no_grad()
def align_direct(
    target: Tensor, source: Tensor, depth_m: Tensor, camera: Camera, source_camera: Camera, T_source_target: Tensor
) -> DirectAlignment:
    """Align two images by damped Gauss-Newton steps with Student t weights, from coarse to fine image sizes.

    Every pixel with depth takes part. Moving objects are outliers unless they cover most of the image's contrast.
    Images above 2 million pixels are shrunk first. The result carries no gradient.

    target, source: (B, 3, H, W) and (B, 3, Hs, Ws) RGB images in [0, 1].
    depth_m: (B, 1, H, W) z of the target, in the unit of the translation; 0 means unknown.
    camera, source_camera: the cameras of the target and of the source.
    T_source_target: (B, 4, 4) initial motion. It should place pixels within a quarter of the image of their true
        position.

    Raises GeometryError if an image and its camera differ in size. Source: Kerl et al., ICRA 2013.
    """
    check_sizes(source, depth_m, camera, source_camera)
    gray, source_gray = (image.mean(1, keepdim=True).float().cpu() for image in (target, source))
    inverse_depth = inverse_from_depth(depth_m.float().cpu())
    T, brightness = T_source_target.double().cpu().numpy(), np.zeros((len(target), 2))
    least = min(camera.height / _MIN_ROWS, camera.width, source_camera.height, source_camera.width)
    coarsest = int(math.log2(max(least, 1)))  # each side of an image keeps a pixel
    finest = max(math.ceil(math.log2(camera.height * camera.width / _MAX_PIXELS) / 2), 0)
    states: list[_State] = []
    for level in range(coarsest, min(finest, coarsest) - 1, -1):
        pairs = _Pair.downsample(gray, source_gray, inverse_depth, camera, source_camera, level)
        states = [pair.align(T[number], brightness[number]) for number, pair in enumerate(pairs)]
        T = np.stack([state.T_source_target for state in states])
        brightness = np.stack([state.brightness for state in states])
    gain, pixels = np.exp(brightness[:, 0]), states[0].seen.size
    seen = np.array([state.seen.sum(dtype=np.float64) for state in states])
    total = np.array([np.abs(state.residual).sum(dtype=np.float64) for state in states])
    found = T, gain, brightness[:, 1], seen / pixels, total / np.maximum(seen, 1) / gain
    return DirectAlignment(*(torch.from_numpy(values).to(target.device) for values in found))


@dataclass(frozen=True, slots=True)
class _State:
    """An image pair under one motion, log gain and offset.

    residual: (H, W), as in `warp_residuals`.
    seen: (H, W), 1 or 0.
    """

    T_source_target: Doubles
    brightness: Doubles
    transform: Floats
    residual: Floats
    seen: Floats


@dataclass(frozen=True, slots=True)
class _Pair:
    """Two gray images at one size.

    target, inverse_depth: (H, W).
    source: (Hs, Ws, 3), gray and its slopes along x and y.
    """

    target: Floats
    source: Floats
    inverse_depth: Floats
    K_target_inverse: Doubles
    K_source: Doubles

    @classmethod
    def downsample(
        cls, target: Tensor, source: Tensor, inverse_depth: Tensor, camera: Camera, source_camera: Camera, times: int
    ) -> "Iterator[_Pair]":
        """Yield gray pairs (B, 1, H, W) at 1 / 2^times of their size, with mean inverse depth."""
        if times:  # An image at its own size stays the same, bit for bit.
            target, camera = resize(target, camera, camera.height >> times, camera.width >> times)
            height, width = source_camera.height >> times, source_camera.width >> times
            source, source_camera = resize(source, source_camera, height, width)
            known = F.interpolate((inverse_depth > 0).to(inverse_depth), target.shape[-2:], mode="area")
            inverse_depth = F.interpolate(inverse_depth, target.shape[-2:], mode="area") / known.clamp(min=NEAR)
        around = F.pad(source, (1, 1, 1, 1), mode="replicate")
        slope_x = (around[..., 1:-1, 2:] - around[..., 1:-1, :-2]) / 2
        slope_y = (around[..., 2:, 1:-1] - around[..., :-2, 1:-1]) / 2
        sources = torch.cat((source, slope_x, slope_y), 1).permute(0, 2, 3, 1)
        inverse_depth = inverse_from_depth(depth_from_inverse(inverse_depth))
        lenses = (lens.K.double().cpu().expand(len(target), 3, 3).numpy() for lens in (camera, source_camera))
        for K, K_source, *images in zip(*lenses, target[:, 0], sources, inverse_depth[:, 0], strict=True):
            own, other, inverse = (np.ascontiguousarray(image.numpy()) for image in images)
            yield cls(own, other, inverse, np.linalg.inv(K), K_source)

    def align(self, T: Doubles, brightness: Doubles) -> _State:
        """Take steps that lower the cost of pixels visible before and after, so that hiding pixels gains nothing."""
        from stadia.differentiable import alignment_kernels

        state, damping = self.linearize(T, brightness), 1e-3
        variance: float | None = None
        for _ in range(_STEPS):
            if variance is None:
                variance = alignment_kernels.find_variance(state.residual, state.seen, _FREEDOM, NEAR**2, _SCALE_ROUNDS)
                variance = max(variance, _MIN_SCALE**2)
                curvature, downhill = self.normal_equations(state, 1 / (variance * _FREEDOM))
            step = self.solve(curvature, downhill, damping)
            trial = self.linearize(_exponential(step[:6]) @ state.T_source_target, state.brightness + step[6:])
            images = state.residual, state.seen, trial.residual, trial.seen
            before, after = alignment_kernels.compare_costs(*images, np.float32(1 / (variance * _FREEDOM)))
            if not after < before:
                damping *= 10
                continue
            state, damping, variance = trial, damping / 10, None
            if after > (1 - _MIN_GAIN) * before:
                break
        return state

    @staticmethod
    def solve(curvature: Doubles, downhill: Doubles, damping: float) -> Doubles:
        """Return the Gauss-Newton step (8,), each unknown damped in proportion to its curvature."""
        damped = curvature + np.diag(damping * curvature.diagonal() + NEAR)
        return np.asarray(np.linalg.solve(damped, downhill), np.float64)

    def linearize(self, T: Doubles, brightness: Doubles) -> _State:
        from stadia.differentiable import alignment_kernels  # numba is imported only if images are aligned

        moved = np.empty((3, 4))
        moved[:, :3], moved[:, 3] = T[:3, :3] @ self.K_target_inverse, T[:3, 3]
        transform: Floats = (self.K_source @ moved).astype(np.float32)
        residual, seen = np.empty_like(self.target), np.empty_like(self.target)
        values = transform, _gain(brightness), np.float32(brightness[1]), np.float32(NEAR), residual, seen
        alignment_kernels.warp_residuals(self.source, self.target, self.inverse_depth, *values)
        return _State(T, brightness, transform, residual, seen)

    def normal_equations(self, state: _State, inverse_variance: float) -> tuple[Doubles, Doubles]:
        """Return curvature (8, 8) and downhill (8,) with respect to a left twist (v, w), log gain and offset.

        A twist moves a source point by v + w x p (Kerl et al., eq. 10 and 11).
        """
        from stadia.differentiable import alignment_kernels

        K = self.K_source
        lens = np.zeros((3, 3), np.float32)
        lens[:2], lens[2] = np.linalg.inv(K)[:2], (K[0, 0], K[0, 1], K[1, 1])
        curvature, downhill = np.zeros((8, 8)), np.zeros(8)
        images = self.source, self.target, self.inverse_depth, state.transform, lens
        values = _gain(state.brightness), np.float32(NEAR), state.residual, np.float32(inverse_variance)
        alignment_kernels.add_normal_equations(*images, *values, curvature, downhill)
        return curvature, downhill


_MAX_LOG_GAIN = 80.0  # its exponential fits float32; the cost refuses larger steps


def _gain(brightness: Doubles) -> np.float32:
    return np.float32(math.exp(min(float(brightness[0]), _MAX_LOG_GAIN)))


_SMALL_RAD = 1e-4  # the series are exact to float64 below it


def _exponential(twist: Doubles) -> Doubles:
    """Return the motion (4, 4) of a twist (6,), in a tenth of the time of `se3.se3_exp`."""
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


MIN_OVERLAP = 0.25  # smallest share of an image in the next one; with less, an alignment is unreliable
GAIN_RANGE = (0.7, 1.4)
"""Brightness gains between two video frames that are plausible, as a range.

Two unrelated images are aligned with a gain near 0, which explains one of them as a constant.
"""


def is_reliable(found: DirectAlignment) -> bool:
    """Return whether the direct alignment of two video frames is reliable: enough overlap, and a plausible gain.

    found: the alignment.
    """
    return float(found.seen) >= MIN_OVERLAP and GAIN_RANGE[0] <= float(found.gain) <= GAIN_RANGE[1]
