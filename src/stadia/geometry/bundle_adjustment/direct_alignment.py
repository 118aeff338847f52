"""Align two images directly, one of them with depth."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from stadia.core.types import Camera
from stadia.geometry.camera import inverse_intrinsics, resize
from stadia.geometry.depth_maps import depth_from_inverse, inverse_from_depth
from stadia.geometry.numpy_camera import NEAR
from stadia.geometry.se3 import compose, se3_exp
from stadia.geometry.warp import check_sizes, inside_frame, reproject, sample_image

_MIN_ROWS = 12  # of the smallest images compared: a motion of a quarter of the image is a few pixels there
_MAX_PIXELS = 1 << 21  # of the largest images compared: 300 bytes of memory each; Full HD is just below
_STEPS = 10  # Gauss-Newton steps a size, at most
_MIN_GAIN = 1e-3  # share of the cost; a step that gains less is the last of its size
_FREEDOM = 5.0  # degrees of Student's t distribution of residuals, as Kerl et al. found them
_SCALE_ROUNDS = 10  # of the likelihood of that distribution
_MIN_SCALE = 1 / 255  # of that distribution: the images' own rounding is no outlier


@dataclass(frozen=True, slots=True)
class DirectAlignment:
    """The motion found, and measures of its reliability.

    T_source_target: (B, 4, 4) float64.
    gain, offset: (B,) of brightness: source = gain * target + offset where visible show the same point.
    seen: (B,) share of the target's pixels that lie inside the source.
    residual: (B,) mean absolute difference of the visible pixels, at the target's brightness.
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
    """Align by damped Gauss-Newton on brightness differences, Student-t weighted, from small images to large ones.

    Every pixel with depth takes part. Moving and hidden objects are outliers, whose weight falls with the square of the
    residual; where they cover most of the contrast, their motion is found instead. No gradient passes.

    Images of more than 2 million pixels are compared at half their size or less, which bounds the memory.

    Args:
        target, source: (B, 3, H, W) and (B, 3, Hs, Ws), RGB in [0, 1].
        depth_m: (B, 1, H, W) z of the target, in metres or the unit of the translation; 0 = none.
        camera, source_camera: K (B, 3, 3).
        T_source_target: (B, 4, 4) to start from, best within a quarter of the image.

    Raises GeometryError where an image and its camera differ in size.
    """
    check_sizes(source, depth_m, camera, source_camera)
    T, brightness = T_source_target.double(), torch.zeros(len(target), 2, dtype=torch.float64, device=target.device)
    result = None
    gray, source_gray = (image.mean(1, keepdim=True) for image in (target, source))
    inverse_depth = inverse_from_depth(depth_m)
    least = min(camera.height / _MIN_ROWS, camera.width, source_camera.height, source_camera.width)
    coarsest = int(math.log2(max(least, 1)))  # each side of an image keeps a pixel
    finest = max(math.ceil(math.log2(camera.height * camera.width / _MAX_PIXELS) / 2), 0)
    for level in range(coarsest, min(finest, coarsest) - 1, -1):
        pair = _Pair.downsample(gray, source_gray, inverse_depth, camera, source_camera, level)
        result = pair.align(T, brightness)
        T, brightness = result.T_source_target, result.brightness
    assert result is not None
    gain, seen = brightness[:, 0].exp(), result.seen.double()
    residual = (result.residual.abs() * seen).sum((1, 2, 3)) / seen.sum((1, 2, 3)).clamp(min=1) / gain
    return DirectAlignment(T, gain, brightness[:, 1], seen.mean((1, 2, 3)), residual)


@dataclass(frozen=True, slots=True)
class _Linearization:
    """A pair under one motion and one change of brightness (B, 2), the logarithm of the gain, and the offset.

    residual: (B, 1, H, W), the warped source less the target at its brightness.  seen: the same shape, bool.
    slope: (B, 8, H, W), of the residual in a twist (v, w) from the left and in the brightness.
    """

    T_source_target: Tensor
    brightness: Tensor
    residual: Tensor
    seen: Tensor
    slope: Tensor

    def scale(self) -> Tensor:
        """Return the scale (B, 1, 1, 1) of the residuals' t distribution by its likelihood (Kerl et al., eq. 15)."""
        squared, count = self.residual.square() * self.seen, self.seen.sum((1, 2, 3), keepdim=True).clamp(min=1)
        variance = squared.sum((1, 2, 3), keepdim=True) / count
        for _ in range(_SCALE_ROUNDS):
            weighted = squared * (_FREEDOM + 1) / (_FREEDOM + squared / variance.clamp(min=NEAR**2))
            variance = weighted.sum((1, 2, 3), keepdim=True) / count
        return variance.sqrt().clamp(min=_MIN_SCALE)

    def cost(self, scale: Tensor, pixels: Tensor) -> Tensor:
        """Return (B,) negative log-likelihood, summed over some of the visible pixels (B, 1, H, W)."""
        return (torch.log1p((self.residual / scale).square() / _FREEDOM) * pixels).sum((1, 2, 3))

    def step(self, scale: Tensor, damping: Tensor) -> Tensor:
        """Return the Gauss-Newton step (B, 8), each unknown damped in proportion to its own curvature."""
        weights = self.seen / (1 + (self.residual / scale).square() / _FREEDOM)
        slope = self.slope.flatten(2)
        weighted = slope * weights.flatten(2)
        curvature = (weighted @ slope.mT).double()
        downhill = -(weighted @ self.residual.flatten(2).mT).double()
        curvature = curvature + torch.diag_embed(damping[:, None] * curvature.diagonal(dim1=1, dim2=2) + NEAR)
        return torch.linalg.solve(curvature, downhill)[..., 0]

    def merge(self, other: _Linearization, where: Tensor) -> _Linearization:
        """Return this one, with the other for those of the batch where `where` (B,) is true."""
        pairs = ((getattr(self, field.name), getattr(other, field.name)) for field in fields(self))
        merged = (torch.where(where.view(-1, *[1] * (mine.dim() - 1)), theirs, mine) for mine, theirs in pairs)
        return _Linearization(*merged)


@dataclass(frozen=True, slots=True)
class _Pair:
    """Two gray images at one size: target (B, 1, H, W); source (B, 3, Hs, Ws), its gray and slopes along x and y."""

    target: Tensor
    source: Tensor
    depth_m: Tensor
    camera: Camera
    source_camera: Camera

    @classmethod
    def downsample(
        cls, target: Tensor, source: Tensor, inverse_depth: Tensor, camera: Camera, source_camera: Camera, times: int
    ) -> _Pair:
        """Return gray images (B, 1, H, W) at 1 / 2^times of their size; inverse depth is the mean of known values."""
        if times:  # at its own size an image stays as it is, bit for bit
            target, camera = resize(target, camera, camera.height >> times, camera.width >> times)
            height, width = source_camera.height >> times, source_camera.width >> times
            source, source_camera = resize(source, source_camera, height, width)
            known = F.interpolate((inverse_depth > 0).to(inverse_depth), target.shape[-2:], mode="area")
            inverse_depth = F.interpolate(inverse_depth, target.shape[-2:], mode="area") / known.clamp(min=NEAR)
        around = F.pad(source, (1, 1, 1, 1), mode="replicate")
        slope_x = (around[..., 1:-1, 2:] - around[..., 1:-1, :-2]) / 2
        slope_y = (around[..., 2:, 1:-1] - around[..., :-2, 1:-1]) / 2
        source = torch.cat((source, slope_x, slope_y), 1)
        return cls(target, source, depth_from_inverse(inverse_depth), camera, source_camera)

    def align(self, T_source_target: Tensor, brightness: Tensor) -> _Linearization:
        """Take steps that lower the cost of pixels visible before and after: hiding pixels gains nothing."""
        if self.target.dtype == torch.float32 and self.target.device.type == "cpu":
            return self._align_compiled(T_source_target, brightness)
        state = self.linearize(T_source_target, brightness)
        damping = torch.full_like(brightness[:, 0], 1e-3)
        done = torch.zeros_like(damping, dtype=torch.bool)  # each pair stops by itself
        for _ in range(_STEPS):
            scale = state.scale()
            step = state.step(scale, damping)
            trial = self.linearize(compose(se3_exp(step[:, :6]), state.T_source_target), state.brightness + step[:, 6:])
            visible = state.seen & trial.seen
            before, after = state.cost(scale, visible), trial.cost(scale, visible)
            better = (after < before) & ~done
            damping = torch.where(better, damping / 10, damping * 10)
            state = state.merge(trial, better)
            done = done | (better & (after > (1 - _MIN_GAIN) * before))
            if bool(done.all()):
                break
        return state

    def _align_compiled(self, T_source_target: Tensor, brightness: Tensor) -> _Linearization:
        """Return what `align` returns, by compiled loops and without slopes."""
        from stadia.geometry.bundle_adjustment.compiled_alignment import AlignmentSettings, CompiledPair

        settings = AlignmentSettings(_STEPS, _MIN_GAIN, _FREEDOM, _MIN_SCALE, _SCALE_ROUNDS)
        images = self.target, self.source, inverse_from_depth(self.depth_m), self.camera, self.source_camera
        found = []
        for number, (T, change) in enumerate(zip(T_source_target.numpy(), brightness.numpy(), strict=True)):
            found.append(CompiledPair.extract(*images, number).align(T, change, settings))
        names = "T_source_target", "brightness", "residual", "seen"
        T, change, residual, seen = (
            torch.from_numpy(np.stack([getattr(result, name) for result in found])) for name in names
        )
        return _Linearization(T, change, residual[:, None], seen[:, None] > 0, residual.new_zeros(0))

    def linearize(self, T_source_target: Tensor, brightness: Tensor) -> _Linearization:
        """Compute residuals and slopes; a twist moves a source point by v + w x p (Kerl et al., eq. 10 and 11)."""
        pixels, nearness = reproject(self.depth_m, self.camera, self.source_camera, T_source_target)
        gray, *slopes = torch.split(sample_image(self.source, pixels), 1, dim=1)
        gain, offset = (value.to(gray)[:, None, None, None] for value in (brightness[:, 0].exp(), brightness[:, 1]))
        rays = inverse_intrinsics(self.source_camera.K).to(pixels)[..., None, None]
        x = rays[:, 0:1, 0] * pixels[:, :1] + rays[:, 0:1, 1] * pixels[:, 1:] + rays[:, 0:1, 2]
        y = rays[:, 1:2, 1] * pixels[:, 1:] + rays[:, 1:2, 2]
        K = self.source_camera.K.to(gray)[..., None, None, None]
        along_x = slopes[0] * K[:, 0, 0]  # from pixels to x and y
        along_y = slopes[0] * K[:, 0, 1] + slopes[1] * K[:, 1, 1]
        outwards = along_x * x + along_y * y
        inverse_z = inverse_from_depth(self.depth_m * nearness)
        in_translation = (along_x * inverse_z, along_y * inverse_z, -outwards * inverse_z)
        in_rotation = (-along_y - outwards * y, along_x + outwards * x, along_y * x - along_x * y)
        slope = torch.cat((*in_translation, *in_rotation, -gain * self.target, -torch.ones_like(gray)), 1)
        seen = inside_frame(pixels, nearness, self.source_camera)
        return _Linearization(T_source_target, brightness, gray - gain * self.target - offset, seen, slope)
