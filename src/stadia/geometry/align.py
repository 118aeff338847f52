"""Fit rigid, similarity and scale-shift transforms in closed form, also with RANSAC.

The functions take arrays of NumPy or tensors of torch and return the same kind. Only RANSAC takes NumPy alone.
"""

from dataclasses import dataclass
from statistics import fmean, median, pstdev
from typing import Generic, Literal

import numpy as np
from array_api_compat import array_namespace
from numpy.typing import NDArray

from stadia.core.errors import GeometryError
from stadia.core.types import Array
from stadia.geometry.poses import from_rotation_translation, matmul


@dataclass(frozen=True, slots=True)
class SimilarityTransform(Generic[Array]):
    """A similarity transform of 3-D points between coordinate frames: p_target = scale * R p_source + t.

    scale: (...) scale factors, target units per source unit.
    R: (..., 3, 3) rotations from the source to the target coordinate frame.
    t: (..., 3) translations in the unit of the target.
    """

    scale: Array
    R: Array
    t: Array

    def apply(self, points: Array) -> Array:
        """Transform points (..., N, 3) from the source coordinate frame to the target coordinate frame."""
        rotated = (points[..., None, :] * self.R[..., None, :, :]).sum(-1)
        return self.scale[..., None, None] * rotated + self.t[..., None, :]

    def transform_poses(self, T_world_camera: Array) -> Array:
        """Transform camera-to-world poses (..., N, 4, 4) from the source frame as world to the target frame as world.

        Positions are scaled, rotated and moved. Rotation blocks are only rotated, so they stay rotations.

        T_world_camera: (..., N, 4, 4) poses from the camera to the source coordinate frame.
        """
        R = matmul(self.R[..., None, :, :], T_world_camera[..., :3, :3])
        return from_rotation_translation(R, self.apply(T_world_camera[..., :3, 3]))


def umeyama(source: Array, target: Array, kind: Literal["se3", "sim3"] = "se3") -> SimilarityTransform[Array]:
    """Return the least-squares transform from source points to target points (Umeyama, PAMI 13(4), 1991).

    source, target: (..., N, 3) points with N >= 3; source point i corresponds to target point i.
    kind: "se3" fits rotation and translation and sets the scale to 1; "sim3" fits the scale too.

    If the points are on a straight line, the rotation about this line is arbitrary.

    Raises GeometryError if the shapes differ, if all source points are equal, or for another `kind`.

    Examples:
        >>> source = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
        >>> found = umeyama(source, 2 * source + 1, "sim3")
        >>> (round(found.scale.item(), 6), found.t.round(6).tolist())
        (2.0, [1.0, 1.0, 1.0])
    """
    if source.shape != target.shape or source.shape[-1] != 3 or source.shape[-2] < 3:
        found, fix = f"{tuple(source.shape)} and {tuple(target.shape)}", "associate the trajectories by time first"
        raise GeometryError("alignment", found=found, expected="two of (..., N, 3) with N at least 3", fix=fix)
    if kind not in ("se3", "sim3"):
        raise GeometryError("alignment kind", found=repr(kind), expected="'se3' or 'sim3'", fix="choose one of them")
    xp = array_namespace(source, target)
    source_mean, target_mean = source.mean(-2), target.mean(-2)
    a, b = source - source_mean[..., None, :], target - target_mean[..., None, :]
    variance = (a * a).sum(-1).mean(-1)
    if not bool((variance > 0).all()):
        found, fix = "a source that never moves", "check the estimate"
        raise GeometryError("alignment", found=found, expected="distinct points", fix=fix)
    U, D, Vh = xp.linalg.svd((b[..., :, None] * a[..., None, :]).mean(-3))  # eq. 38
    proper = xp.ones_like(D)
    proper[..., 2] = xp.where(xp.linalg.det(U) * xp.linalg.det(Vh) < 0, -1.0, 1.0)  # eq. 43: no reflection
    R = matmul(U * proper[..., None, :], Vh)
    scale = (D * proper).sum(-1) / variance if kind == "sim3" else xp.ones_like(variance)
    t = target_mean - scale[..., None] * matmul(R, source_mean[..., None])[..., 0]
    return SimilarityTransform(scale, R, t)


# -- values


def _expand_mask(values: Array, known: Array | None) -> Array:
    xp = array_namespace(values)
    return xp.ones_like(values, dtype=xp.bool) if known is None else xp.broadcast_to(known, values.shape)


def masked_median(values: Array, known: Array | None = None) -> Array:
    """Return the median (...) along the last axis of those values (..., N) that the mask `known` selects.

    For an even count this is the mean of the two middle values. The median is NaN if no value is known.

    values: (..., N) numbers; those outside the mask are ignored and may be NaN.
    known: (..., N) bool mask of the values to use; None uses all.

    Examples:
        >>> masked_median(np.array([1.0, 2.0, 9.0]), np.array([True, True, False])).item()
        1.5
    """
    xp, known = array_namespace(values), _expand_mask(values, known)
    ordered = xp.sort(xp.where(known, values, xp.full_like(values, xp.inf)), axis=-1)
    count = known.sum(-1)[..., None]
    lower = xp.take_along_axis(ordered, ((count - 1) // 2).clip(min=0), axis=-1)
    upper = xp.take_along_axis(ordered, (count // 2).clip(max=values.shape[-1] - 1), axis=-1)
    return xp.where(count > 0, (lower + upper) / 2, xp.full_like(lower, xp.nan))[..., 0]


def median_and_deviation(values: Array, known: Array | None = None) -> tuple[Array, Array]:
    """Return the median t and the mean absolute deviation s = mean |x - t| of x (..., N), each (...).

    Both are taken along the last axis.

    Both are NaN if no value is known. The normalized value (x - t) / s does not change if all x are multiplied by a
    positive scale and shifted (Ranftl et al., PAMI 44(3), 2022, eq. 5 and 6).

    values: (..., N) numbers x; those outside the mask are ignored and may be NaN.
    known: (..., N) bool mask of the values to use; None uses all.

    Examples:
        >>> [float(x) for x in median_and_deviation(np.array([1.0, 3.0, 5.0, 7.0]))]
        [4.0, 2.0]
    """
    xp, known = array_namespace(values), _expand_mask(values, known)
    median = masked_median(values, known)
    distance = xp.where(known, abs(values - median[..., None]), xp.zeros_like(values))
    count = xp.astype(known.sum(-1), values.dtype)
    return median, xp.where(count > 0, distance.sum(-1) / count.clip(min=1), xp.full_like(median, xp.nan))


def _mask_unknown(prediction: Array, target: Array, known: Array | None) -> tuple[Array, Array, Array]:
    """Return both with 0 if unknown, because unknown values may be NaN, and weights of 1 and 0."""
    xp = array_namespace(prediction, target)
    if known is None:
        return prediction, target, xp.ones_like(prediction)
    known_prediction, known_target = (xp.where(known, values, xp.zeros_like(values)) for values in (prediction, target))
    return known_prediction, known_target, xp.broadcast_to(xp.astype(known, prediction.dtype), prediction.shape)


def fit_scale_median(prediction: Array, target: Array, known: Array | None = None) -> Array:
    """Return the factors (...) = median(target) / median(prediction), which scale a prediction to its target.

    This is the per-image median scaling of depth of Zhou et al., CVPR 2017. Both medians are taken along the last axis
    and over the known values only.

    prediction, target: (..., N) values in any unit.
    known: (..., N) bool mask of the values to use; None uses all.

    Examples:
        >>> fit_scale_median(np.array([1.0, 2.0, 3.0]), np.array([2.0, 4.0, 6.0])).item()
        2.0
    """
    return masked_median(target, known) / masked_median(prediction, known)


def fit_scale_least_squares(prediction: Array, target: Array, known: Array | None = None) -> Array:
    """Return the factor (...) that minimizes sum (factor * prediction - target)^2 over known values.

    prediction, target: (..., N) values in any unit; values that are not known may be NaN.
    known: (..., N) bool mask of the values to use; None uses all.

    Examples:
        >>> fit_scale_least_squares(np.array([1.0, 2.0]), np.array([3.0, 6.0])).item()
        3.0
    """
    prediction, target, _ = _mask_unknown(prediction, target, known)
    return (prediction * target).sum(-1) / (prediction * prediction).sum(-1)


def fit_scale_and_shift(prediction: Array, target: Array, known: Array | None = None) -> tuple[Array, Array]:
    """Return scale and shift, each (...), that minimize sum (scale * prediction + shift - target)^2.

    The sum is over the known values of the last axis.

    For a network with affine-invariant inverse depth, pass its output as the prediction and 1 / depth as the target
    (Ranftl et al., PAMI 44(3), 2022). A constant prediction gets scale 0 and the target's mean as shift.

    prediction, target: (..., N) values in any unit; values that are not known may be NaN.
    known: (..., N) bool mask of the values to use; None uses all.

    Examples:
        >>> scale, shift = fit_scale_and_shift(np.array([0.0, 1.0, 2.0]), np.array([1.0, 3.0, 5.0]))
        >>> (round(scale.item(), 5), round(shift.item(), 5))
        (2.0, 1.0)
    """
    xp = array_namespace(prediction, target)
    prediction, target, weights = _mask_unknown(prediction, target, known)
    total = weights.sum(-1)[..., None]
    prediction_mean = (weights * prediction).sum(-1)[..., None] / total
    target_mean = (weights * target).sum(-1)[..., None] / total
    centered = weights * (prediction - prediction_mean)
    spread = (centered * (prediction - prediction_mean)).sum(-1)
    # A constant prediction has no scale: the best scale is 0, and the best shift is the target's mean.
    varied = spread > total[..., 0] * (xp.finfo(spread.dtype).eps * prediction_mean[..., 0]) ** 2
    covariance = (centered * (target - target_mean)).sum(-1)
    scale = xp.where(varied, covariance / xp.where(varied, spread, xp.ones_like(spread)), xp.zeros_like(spread))
    return scale, target_mean[..., 0] - scale * prediction_mean[..., 0]


# -- one scale and shift for many images


@dataclass(frozen=True, slots=True)
class ScaleShift:
    """The scale and shift that convert predictions for a set of images: target = scale * prediction + shift.

    scale, shift: means of the scales and of the shifts that were fitted to the single images.
    scale_spread, shift_spread: standard deviations of these scales and shifts over the images.
    images: number of images that were used.
    unlabeled: number of images that were left out because they have too few values with known target, because these
        targets are all equal, or because the prediction is constant.
    falling: number of images that were left out because the target falls as the prediction grows.
    """

    scale: float
    shift: float
    scale_spread: float
    shift_spread: float
    images: int
    unlabeled: int
    falling: int


class ScaleShiftEstimator:
    """Fit one scale and shift that convert affine-invariant inverse depth to 1/m, over a stream of images.

    Call `add` for each batch of images and then `result`. For each image the estimator computes the scale a = s_target
    / s_prediction and the shift b = t_target - a * t_prediction, with t the median and s = mean |x - t| of the image's
    values x. The result is the mean of a and the mean of b over all images. DPT's metric models were calibrated the
    same way (Ranftl et al., ICCV 2021, arXiv 2103.13413).
    """

    MIN_VALUES = 10
    MIN_CORRELATION = -0.2
    """The estimator refuses a set of images if the median over the images of the correlation of prediction and target
    is lower.

    The limit is below 0, because an untrained network has a correlation near 0.
    """

    def __init__(self) -> None:
        self._found: list[tuple[float, float]] = []
        self._correlations: list[float] = []
        self._unlabeled = 0

    def add(self, prediction: Array, target: Array, known: Array) -> None:
        """Add B images of N pixels to the fit.

        prediction: (B, N) predicted inverse depth, known up to scale and shift.
        target: (B, N) inverse true depth, 1/m.
        known: (B, N) bool, true if the pixel has true depth.

        Raises GeometryError if the three shapes differ, or a prediction is not finite at a known pixel.
        """
        if prediction.ndim != 2 or not prediction.shape == target.shape == known.shape:
            found = ", ".join(str(tuple(x.shape)) for x in (prediction, target, known))
            expected, fix = "three of (B, N), a row for each image", "flatten the maps: map.flatten(1)"
            raise GeometryError("scale and shift", found=found, expected=expected, fix=fix)
        xp = array_namespace(prediction, target)
        if not bool(xp.isfinite(prediction[known]).all()):
            found, fix = "values that are not finite", "check the weights, and the dtype it runs in"
            raise GeometryError("prediction", found=found, expected="numbers", fix=fix)
        prediction, target = xp.astype(prediction, xp.float64), xp.astype(target, xp.float64)
        t_prediction, s_prediction = median_and_deviation(prediction, known)
        t_target, s_target = median_and_deviation(target, known)
        a = s_target / s_prediction
        slope = fit_scale_and_shift(prediction, target, known)[0]
        slope_back = fit_scale_and_shift(target, prediction, known)[0]
        correlation = xp.sign(slope) * xp.sqrt(slope * slope_back)  # 0: one of them is constant
        usable = (known.sum(-1) >= self.MIN_VALUES) & (correlation != 0) & xp.isfinite(correlation)
        self._unlabeled += int((~usable).sum())
        self._correlations += correlation[usable].tolist()
        rising = usable & (correlation > 0)
        self._found += zip(a[rising].tolist(), (t_target - a * t_prediction)[rising].tolist(), strict=True)

    def result(self) -> ScaleShift:
        """Return the scale and shift fitted to all images that were added.

        Raises GeometryError if no image has enough true depth, or if the prediction grows with depth instead of inverse
        depth.
        """
        if not self._correlations:
            found = f"{self._unlabeled} images, none with {self.MIN_VALUES} labels and a varying prediction"
            fix = "check that the dataset has depth, and that the prediction is not constant"
            raise GeometryError("scale and shift", found=found, expected="images with ground-truth depth", fix=fix)
        correlation = median(self._correlations)
        if correlation < self.MIN_CORRELATION or not self._found:
            found = f"a prediction that falls where inverse depth grows (median correlation {correlation:.2f})"
            expected, fix = "inverse depth up to scale and shift", "pass the reciprocal if the prediction is depth"
            raise GeometryError("scale and shift", found=found, expected=expected, fix=fix)
        scales, shifts = zip(*self._found, strict=True)
        falling, unlabeled = len(self._correlations) - len(scales), self._unlabeled
        return ScaleShift(fmean(scales), fmean(shifts), pstdev(scales), pstdev(shifts), len(scales), unlabeled, falling)


# -- rigid or similarity transforms with many outliers

_REFITS = 50  # largest number of fits; they end when the inliers no longer change
_SAMPLE = 5  # 3 points determine the transform; 5 are more stable against noise
_MIN_INLIER_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class RobustAlignment:
    """The transform that `umeyama_ransac` found, with the pairs of points that agree with it.

    similarity: the float64 transform from source to target points, a least-squares fit to the inliers.
    inlier: (N,) bool, true for each pair of points that is an inlier.
    """

    similarity: SimilarityTransform[NDArray[np.float64]]
    inlier: NDArray[np.bool_]


def umeyama_ransac(
    source: NDArray[np.float64],
    target: NDArray[np.float64],
    kind: Literal["se3", "sim3"] = "se3",
    *,
    inlier_distance: float,
    generator: np.random.Generator,
    iterations: int = 128,
) -> RobustAlignment:
    """Return the transform from source to target points with the most inliers (RANSAC; Fischler and Bolles, CACM 1981).

    source, target: (N, 3) points; source point i corresponds to target point i.
    kind: "se3" fits rotation and translation; "sim3" fits the scale too.
    inlier_distance: largest distance between a transformed source point and its target point that makes the pair an
        inlier, in the unit of the target.
    generator: a random generator that draws the samples.
    iterations: number of random samples; each has five points.

    Raises GeometryError for fewer than five points, for values that are not finite, or if less than a tenth of the
    points are inliers.

    Examples:
        >>> seeded = np.random.default_rng(0)
        >>> source = seeded.random((20, 3))
        >>> target = 2 * source + 1
        >>> target[0] += 9  # an outlier
        >>> found = umeyama_ransac(source, target, "sim3", inlier_distance=0.01, generator=seeded)
        >>> round(found.similarity.scale.item(), 6)
        2.0
    """
    if source.shape != target.shape or source.ndim != 2 or source.shape[-1] != 3 or len(source) < _SAMPLE:
        found, fix = f"{tuple(source.shape)} and {tuple(target.shape)}", "leave out objects with so few pixels"
        expected = f"two of (N, 3) with N at least {_SAMPLE}"
        raise GeometryError("robust alignment", found=found, expected=expected, fix=fix)
    if not np.isfinite([source, target]).all():
        found, fix = "NaN or infinity", "leave out pixels without depth"
        raise GeometryError("robust alignment", found=found, expected="finite points", fix=fix)

    drawn = generator.random((iterations, len(source))).argpartition(_SAMPLE - 1, axis=1)[:, :_SAMPLE]
    drawn = drawn[source[drawn].var(1).sum(-1) > 0]  # all one point: no transform
    if not len(drawn):
        found, fix = "a source of one point", "check the coordinates"
        raise GeometryError("robust alignment", found=found, expected="distinct points", fix=fix)
    sampled = umeyama(source[drawn], target[drawn], kind)
    each = zip(sampled.scale, sampled.R, sampled.t, strict=True)  # one by one: N may be large
    inliers = (_find_inliers(SimilarityTransform(*transform), source, target, inlier_distance) for transform in each)
    inlier = max(inliers, key=lambda agree: int(agree.sum()))

    needed = max(_SAMPLE, _MIN_INLIER_SHARE * len(source))
    for _ in range(_REFITS):
        if int(inlier.sum()) < needed:
            break
        fitted = umeyama(source[inlier], target[inlier], kind)
        before, inlier = inlier, _find_inliers(fitted, source, target, inlier_distance)
        if bool((inlier == before).all()):
            return RobustAlignment(fitted, inlier)
    counts = f"{int(inlier.sum())} of {len(source)} points within {inlier_distance:g} of their targets"
    expected = f"at least {needed:g}, the same ones after a fit"
    fix = "check units and signs of the axes of both, or allow a larger distance"
    raise GeometryError("robust alignment", found=counts, expected=expected, fix=fix)


def _find_inliers(
    similarity: SimilarityTransform[NDArray[np.float64]],
    source: NDArray[np.float64],
    target: NDArray[np.float64],
    distance: float,
) -> NDArray[np.bool_]:
    return np.linalg.norm(similarity.apply(source) - target, axis=-1) <= distance
