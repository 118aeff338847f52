"""Fit the scale of predicted depth to measured lengths, and estimate its uncertainty.

Errors of measurements within one image are correlated. So are errors in the same part of the image over a video.
Therefore images and image parts count as independent measurements, not pixels.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import GeometryError

WITHIN = 1.25
"""A measurement is an inlier if its length and the fitted length differ by less than this factor, as in the metric d1.
"""

HEIGHT_DEVIATION = 0.02
"""Relative standard deviation of a camera height that a user measures."""

MAX_PARTS = 24
"""The measurements of an image, in row order, form at most this many groups with independent errors."""

CONTRADICTION = 3.0
"""Two scales contradict each other if their logarithms differ by more than this many standard deviations.

They must also differ by more than MIN_CONTRADICTION.
"""

MIN_CONTRADICTION = math.log(1.05)

_MAD = 1.4826  # standard deviation / median absolute deviation of a normal distribution
_STEPS = 20
_PAIRS, _SCORED = 256, 2048  # lines of RANSAC, and points that score them

Lengths = tuple[NDArray[np.floating], NDArray[np.floating]]
"""Predicted lengths (N,) and measured lengths (N,) of one image."""


@dataclass(frozen=True, slots=True)
class ScaleFit:
    """A fitted scale of predicted depth, with its uncertainty.

    factor: metres per predicted unit of length; in a fit with shift, the scale of inverse depth in 1/m per unit of
        output.
    deviation: relative standard deviation of the factor, an estimate of its error.
    residual: relative standard deviation of a single measurement from the fit.
    inliers: share of the measurements that are within a factor of WITHIN of the fit, from 0 to 1.
    count: number of measurements.
    images: number of images with measurements.
    shift: shift of inverse depth in 1/m, or None for a fit without shift.
    by_image: the factor fitted to each image alone; empty for a fit with shift.
    """

    factor: float
    deviation: float
    residual: float
    inliers: float
    count: int
    images: int
    shift: float | None = None
    by_image: tuple[float, ...] = ()


def fit_scale(images: Sequence[Lengths], *, systematic: float = 0.0) -> ScaleFit:
    """Fit the factor from predicted to measured lengths: the median over images of each image's median ratio.

    images: for each image the pair of predicted and measured lengths, (N,) each and positive.
    systematic: relative standard deviation of an error that all measurements share, such as the error of a camera
        height that they are all computed from.

    Raises GeometryError if no image has a measurement.
    """
    ratios = [_log_ratios(*lengths) for lengths in images]
    ratios = [ratio for ratio in ratios if len(ratio)]
    if not ratios:
        fix = "check that the source fits these images"
        raise GeometryError("scale", found="no measurement", expected="at least one", fix=fix)
    medians = np.array([np.median(ratio) for ratio in ratios])
    middle = float(np.median(medians))
    pooled = np.concatenate(ratios) - middle
    residual = _spread(pooled)
    deviation = _deviation_of_errors(ratios)
    return ScaleFit(
        factor=math.exp(middle),
        deviation=math.hypot(deviation, systematic),
        residual=residual,
        inliers=float(np.mean(np.abs(pooled) < math.log(WITHIN))),
        count=len(pooled),
        images=len(medians),
        by_image=tuple(np.exp(medians).tolist()),
    )


def fit_scale_with_shift(images: Sequence[Lengths]) -> ScaleFit:
    """Fit scale and shift of inverse depth, 1 / metres = scale * output + shift, robustly over all images.

    images: for each image the network's output (N,), which is larger for nearer points, and the measured depth in
        metres (N,) of the same points.

    Raises GeometryError if the output varies too little or does not grow with nearness.
    """
    usable = [(np.asarray(raw, float), np.asarray(metres, float)) for raw, metres in images if len(raw)]
    raw = np.concatenate([lengths[0] for lengths in usable] or [np.zeros(0)])
    inverse = 1 / np.concatenate([lengths[1] for lengths in usable] or [np.zeros(0)])
    if len(raw) < 2 or np.ptp(raw) < 1e-9 * max(1.0, float(np.abs(raw).max(initial=0))):
        fix = "pass a source with points at several depths"
        raise GeometryError("scale and shift", found=f"{len(raw)} measurements", expected="two depths or more", fix=fix)
    scale, shift = _fit_line(raw, inverse)
    if not scale > 0:
        found, fix = f"a scale of {scale:.3g}", "check that the source fits these images"
        raise GeometryError("scale and shift", found=found, expected="an output that grows with nearness", fix=fix)
    errors = [np.log(np.maximum(scale * one + shift, 1e-9) * metres) for one, metres in usable]
    error = np.concatenate(errors)
    deviation = _deviation_of_errors(errors)
    return ScaleFit(
        factor=scale,
        deviation=deviation,
        residual=_spread(error),
        inliers=float(np.mean(np.abs(error) < math.log(WITHIN))),
        count=len(raw),
        images=len(usable),
        shift=shift,
    )


@dataclass(frozen=True, slots=True)
class FusedScale:
    """One scale factor, fused from the factors of several sources, such as a camera height and LiDAR.

    factor: mean of the sources' factors, weighted by their uncertainties, in metres per predicted unit.
    deviation: relative standard deviation of this mean.
    contradictions: pairs of names of sources whose factors differ by more than their uncertainties allow.
    """

    factor: float
    deviation: float
    contradictions: tuple[tuple[str, str], ...]


def fuse_scales(fits: Mapping[str, ScaleFit], *, of_height: Collection[str] = ()) -> FusedScale:
    """Fuse several scale factors to their geometric mean, weighted by inverse variances.

    If two factors contradict each other, the deviation is at least half of the largest difference of contradicting
    factors.

    fits: the fitted scale of each source, by the source's name.
    of_height: names of fits that share the error of one measured camera height. Together they weigh no more than one
        fit with relative standard deviation HEIGHT_DEVIATION.

    Raises GeometryError if `fits` is empty.

    Examples:
        >>> fit = ScaleFit(2.0, 0.02, 0.1, 1.0, 9, 3)
        >>> round(fuse_scales({"height": fit, "map": fit}, of_height=["height", "map"]).deviation, 6)
        0.02
    """
    if not fits:
        raise GeometryError("scale", found="no source", expected="at least one")
    logs = {name: math.log(fit.factor) for name, fit in fits.items()}
    deviations = {name: max(fit.deviation, 1e-4) for name, fit in fits.items()}
    weights = {name: deviation**-2 for name, deviation in deviations.items()}
    shared = sum(weights[name] for name in of_height)
    weights |= {name: weights[name] * min(HEIGHT_DEVIATION**-2 / shared, 1.0) for name in of_height}
    total = sum(weights.values())
    mean = sum(weights[name] * logs[name] for name in fits) / total
    names = list(fits)
    pairs = [(one, two) for number, one in enumerate(names) for two in names[number + 1 :]]
    contradictions = [
        (one, two)
        for one, two in pairs
        if abs(logs[one] - logs[two])
        > max(CONTRADICTION * math.hypot(deviations[one], deviations[two]), MIN_CONTRADICTION)
    ]
    deviation = total**-0.5
    if contradictions:
        deviation = max(deviation, max(abs(logs[one] - logs[two]) for one, two in contradictions) / 2)
    return FusedScale(math.exp(mean), deviation, tuple(contradictions))


def _log_ratios(predicted: NDArray[np.floating], measured: NDArray[np.floating]) -> NDArray[np.float64]:
    predicted, measured = np.asarray(predicted, np.float64), np.asarray(measured, np.float64)
    known = np.isfinite(predicted) & np.isfinite(measured) & (predicted > 0) & (measured > 0)
    return np.log(measured[known] / predicted[known])


def _spread(values: NDArray[np.float64]) -> float:
    return float(_MAD * np.median(np.abs(values - np.median(values))))


def _deviation_of_errors(errors: Sequence[NDArray[np.float64]]) -> float:
    """Return the standard deviation of the median over images, from each image's logarithmic errors."""
    if len(errors) <= 2:
        return _deviation_of_images(errors)
    dense = [error for error in errors if len(error) >= MAX_PARTS]
    of_parts = math.sqrt(len(dense)) * _deviation_of_images(dense) if dense else 0.0
    return math.hypot(_deviation_of_median(np.array([np.median(error) for error in errors])), of_parts)


def _deviation_of_median(medians: NDArray[np.float64]) -> float:
    """Return the standard deviation of the median of images in time order."""
    variance = float(np.mean((medians - np.median(medians)) ** 2))
    if variance < 1e-24:
        return 0.0
    return 1.2533 * max(_spread(medians), 0.5 * math.sqrt(variance)) / math.sqrt(count_independent(medians))


def count_independent(values: NDArray[np.float64]) -> float:
    """Return the effective number of independent values among N correlated values (N,) in time order.

    It is N (1 - r) / (1 + r), at least 1, with r the correlation of neighboring values, limited to [0, 0.95].
    """
    centered = values - np.median(values)
    variance = float(np.mean(centered**2))
    if variance < 1e-24:
        return float(len(values))
    correlation = float(np.clip(np.mean(centered[1:] * centered[:-1]) / variance, 0, 0.95))
    return max(len(values) * (1 - correlation) / (1 + correlation), 1.0)


def _deviation_of_images(ratios: Sequence[NDArray[np.float64]]) -> float:
    deviations = []
    for ratio in ratios:
        parts = np.array_split(ratio, min(len(ratio), MAX_PARTS))
        medians = np.array([np.median(part) for part in parts])
        deviations.append(1.2533 * float(np.std(medians)) / math.sqrt(max(len(medians) - 1, 1)))
    return float(np.sqrt(np.mean(np.square(deviations)) / len(deviations)))


def _fit_line(raw: NDArray[np.float64], inverse: NDArray[np.float64]) -> tuple[float, float]:
    """Return scale and shift of the nearest line: RANSAC over pairs, then Cauchy weights of relative errors."""
    pairs = np.random.default_rng(0).integers(0, len(raw), (_PAIRS, 2))
    rise = raw[pairs[:, 1]] - raw[pairs[:, 0]]
    scales = np.divide(inverse[pairs[:, 1]] - inverse[pairs[:, 0]], rise, out=np.full(_PAIRS, -1.0), where=rise != 0)
    shifts = inverse[pairs[:, 0]] - scales * raw[pairs[:, 0]]
    some = slice(None, None, max(len(raw) // _SCORED, 1))
    fitted = scales[:, None] * raw[some] + shifts[:, None]
    inliers = (np.abs(fitted / inverse[some] - 1) < WITHIN - 1).sum(1)
    best = int(np.argmax(np.where(scales > 0, inliers, -1)))
    scale, shift = float(scales[best]), float(shifts[best])
    for _ in range(_STEPS):
        error = (scale * raw + shift - inverse) / inverse
        unit = max(_MAD * float(np.median(np.abs(error))), 1e-6)
        weights = 1 / (inverse**2 * (1 + (error / unit) ** 2))
        total = weights.sum()
        raw_mean, inverse_mean = (weights * raw).sum() / total, (weights * inverse).sum() / total
        centered = raw - raw_mean
        spread = (weights * centered**2).sum()
        scale = float((weights * centered * (inverse - inverse_mean)).sum() / max(spread, 1e-300))
        shift = float(inverse_mean - scale * raw_mean)
    return scale, shift
