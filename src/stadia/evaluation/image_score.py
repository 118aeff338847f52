"""Score the depth map of one image, and its uncertainty."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import ProtocolError
from stadia.core.types import DepthScale
from stadia.evaluation.protocols import FLIPS, Alignment, Protocol, score_parts
from stadia.geometry.align import fit_scale_and_shift
from stadia.geometry.cameras import crop_window
from stadia.geometry.resizing import resize_dense_map
from stadia.io.depth_files import PNG_PER_METRE, describe_normalization
from stadia.metrics import METRICS
from stadia.metrics.depth_metrics import DEPTH_ERRORS, Sparsification, scale_ratio, sparsification, spearman

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

MAX_SCORED_PIXELS = 6144 * 4096  # ETH3D's images; scoring takes some 60 bytes a pixel
MAX_RANKED_PIXELS = 4096  # pixels of an image that are ranked, evenly spread

COMPARED_METRICS = ("abs_rel", "rmse", "d1")  # compared for each alignment

COMPARED_ALIGNMENTS: Mapping[DepthScale, tuple[Alignment, ...]] = {
    **dict.fromkeys(
        (DepthScale.METRES, DepthScale.UP_TO_SCALE), (Alignment.NONE, Alignment.MEDIAN, Alignment.SCALE_SHIFT)
    ),
    DepthScale.AFFINE_INVERSE: (Alignment.SCALE_SHIFT,),
    DepthScale.AFFINE_DEPTH: (Alignment.SCALE_SHIFT_DEPTH,),
}
"""Kinds of alignment with which scores are compared, for each scale of predicted depth.

Alignment.NONE takes depth up to scale for metres.
"""


@dataclass(frozen=True, slots=True)
class UncertaintyScore:
    """Measure how well a predicted uncertainty orders the pixels of an image by one depth error.

    curves: sparsification curves, (51,) each: error of the remaining pixels while the most uncertain ones are
        removed.
    spearman: rank correlation of uncertainty and error over pixels, from -1 to 1; None if one of them is constant.
    """

    curves: Sparsification
    spearman: float | None

    def numbers(self) -> dict[str, float | None]:
        """Return the numbers that summarize the sparsification curves, and the rank correlation, by name.

        `ause` is the area between the curve and the curve of the best order; `aurg` is the area to the curve of a
        random order. `ause_of_random` is the AUSE of a random order. `below_random` is the relative difference between
        `ause` and it (positive if `ause` is smaller), or None if all errors are equal. `spearman` is the rank
        correlation of uncertainty and error.
        """
        curves = self.curves
        areas = {"ause": float(curves.ause), "aurg": float(curves.aurg), "ause_of_random": float(curves.ause_of_random)}
        below = float(curves.below_random) if areas["ause_of_random"] > 0 else None
        return {**areas, "below_random": below, "spearman": self.spearman}

    def to_json(self) -> dict[str, Any]:
        """Return the numbers and the curves: `curve`, `curve_of_oracle`, `curve_of_random`."""
        curves = self.curves
        by_name = {"curve": curves.by_uncertainty, "curve_of_oracle": curves.oracle, "curve_of_random": curves.random}
        return {**self.numbers(), **{name: curve.tolist() for name, curve in by_name.items()}}


UncertaintyScores = Mapping[str, UncertaintyScore]  # The keys are names of `metrics.depth_metrics.DEPTH_ERRORS`.


@dataclass(frozen=True, slots=True)
class ImageScore:
    """Hold the depth score of one image. "Truth" is its ground truth depth.

    name: name of the image.
    metrics: depth errors of the protocol by name, such as "abs_rel".
    scale_ratio: median(truth) / median(prediction) before alignment; None for inverse depth with unknown scale and
        shift.
    pixels: number of scored pixels.
    outside_crop: number of pixels that the protocol scores but that are outside the image window of the prediction.
    at_clamp: share of scored pixels whose depth equals a clamping limit of the protocol.
    labeled: share of the image's pixels with ground truth.
    order: rank correlation of prediction and truth over pixels, 1 for the right order of depths; None if one is
        constant.
    uncertainty: scores of the predicted uncertainty by the depth error that it should predict; None without an
        uncertainty, or for fewer than two scored pixels.
    range_slope: slope of log(prediction / truth) over log(distance along the ray / z), about 1 if the prediction is
        that distance instead of z; None unless the slope explains most of the error.
    span: range of values of a prediction that was normalized for display, as text, otherwise None.
    flip: key of `stadia.evaluation.protocols.FLIPS` for the flip ("rows", ...) after which the prediction fits the
        truth; "" for none.
    by_alignment: AbsRel, RMSE and d1 after each kind of alignment that the scale of the depth allows.
    parts: depth errors and number of pixels of parts of the image (distances, regions or classes), by name of the
        part.
    infinite: share of the protocol's pixels that are left out because the prediction is infinite there.
    """

    name: str
    metrics: Mapping[str, float]
    scale_ratio: float | None
    pixels: int
    outside_crop: int = 0
    at_clamp: float = 0.0
    labeled: float = 1.0
    order: float | None = None
    uncertainty: UncertaintyScores | None = None
    range_slope: float | None = None
    span: str | None = None
    flip: str = ""
    by_alignment: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    parts: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    infinite: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Return all fields as JSON values."""
        names = ("scale_ratio", "pixels", "outside_crop", "at_clamp", "labeled", "order")
        scores = {name: order.numbers() for name, order in (self.uncertainty or {}).items()}
        fields = {name: getattr(self, name) for name in names} | ({"uncertainty": scores} if scores else {})
        fields |= {"parts": {name: dict(part) for name, part in self.parts.items()}} if self.parts else {}
        return {"name": self.name, **self.metrics, **fields}


def score_image(
    name: str,
    predicted: NDArray[np.floating],
    true_m: NDArray[np.floating],
    depth_scale: DepthScale,
    protocol: Protocol,
    crop: str = "none",
    log_uncertainty: NDArray[np.floating] | None = None,
    factor: float = PNG_PER_METRE,
    classes: NDArray | None = None,
) -> ImageScore | None:
    """Score one image in float64. Return None if the protocol scores no pixel.

    name: name of the image, for errors.
    predicted: (h, w) depth or inverse depth of any size, in the scale of `depth_scale`.
    true_m: (H, W) z in metres; 0 means unknown.
    depth_scale: scale of the prediction.
    protocol: which pixels are scored and how.
    crop: row of `geometry.cameras.IMAGE_CROPS` that the prediction covers. The prediction is resized to this
        window.
    log_uncertainty: (h, w) map that is larger for less certain pixels.
    factor: integers per metre in the prediction's file.
    classes: (H, W) integers. A protocol that scores by class needs them.

    Raises ProtocolError if a scored pixel has no prediction, or a map has more than MAX_SCORED_PIXELS.

    Examples:
        >>> from stadia.evaluation.protocols import find_protocol
        >>> same = np.full((4, 6), 2.0)
        >>> score = score_image("000000", same, same, DepthScale.METRES, find_protocol("metric"))
        >>> round(float(score.metrics["abs_rel"]), 6)
        0.0
    """
    for map_name, of_map in (("ground truth", true_m), ("prediction", predicted)):
        if of_map.size > MAX_SCORED_PIXELS:
            size, expected = f"{of_map.shape[1]}x{of_map.shape[0]}", f"at most {MAX_SCORED_PIXELS} pixels"
            raise ProtocolError(name, found=f"{map_name} of {size} pixels", expected=expected, fix="score smaller maps")
    whole, values = np.asarray(true_m, np.float64), np.asarray(predicted, np.float64)
    window, whole_mask = crop_window(crop, *whole.shape), protocol.mask(whole)
    true, mask = window.cut(whole), window.cut(whole_mask)
    if not mask.any():
        return None
    scored = true[mask][None]  # (1, N): on KITTI 3 to 20 % of the pixels
    outside, labeled = int(whole_mask.sum()) - scored.size, float((whole > 0).mean())
    span = describe_normalization(np.asarray(predicted), factor)
    found = sample_prediction(name, values, mask, depth_scale, span)
    infinite = float(np.isposinf(found).mean())
    if infinite:  # The network has no depth there, and the other pixels are scored.
        mask, before = mask.copy(), mask
        mask[before] = np.isfinite(found[0])
        found, scored = found[np.isfinite(found)][None], true[mask][None]
    slope = None if depth_scale.is_affine else fit_range_slope(found[0], scored[0], mask)
    ranked = 1 / scored[0] if depth_scale is DepthScale.AFFINE_INVERSE else scored[0]
    order = rank_correlation(found[0], ranked)
    flip = "" if order is None or order > FLIPPED_BELOW else _find_flip(values, mask, ranked)
    del whole, true, values, whole_mask  # hundreds of megabytes for large maps
    depth, ratio = align_to_truth(found, scored, depth_scale, protocol.alignment(depth_scale), protocol.clamp_m)
    compared = _compare_alignments(found, scored, depth_scale, protocol.clamp_m)
    every = np.ones(scored.shape, np.bool_)
    metrics = {metric: float(METRICS.load(metric)(depth, scored, every)) for metric in protocol.metrics}
    parts = {}
    if protocol.by:
        cut = None if classes is None else window.cut(classes)
        parts = score_parts(depth, scored, mask, by=protocol.by, metrics=protocol.metrics, classes=cut)
    near, far = protocol.clamp_m
    at_clamp = float(((depth <= near) | (depth >= far)).mean())
    uncertainty = None
    if log_uncertainty is not None:
        sampled = _sample_uncertainty(name, log_uncertainty, predicted.shape, mask)
        uncertainty = _score_uncertainty(depth, scored, sampled)
    return ImageScore(
        name,
        metrics,
        ratio,
        scored.size,
        outside,
        at_clamp,
        labeled,
        order,
        uncertainty,
        slope,
        span,
        flip,
        compared,
        parts,
        infinite=infinite,
    )


def interpolate_depth(depth: Array, height: int, width: int) -> Array:
    """Resize depth (h, w) to (height, width), bilinearly in inverse depth as Monodepth2's evaluation does.

    Interpolating depth itself would create a surface far behind an edge. Holes stay 0, infinity or NaN.
    """
    if depth.shape == (height, width):
        return depth
    with np.errstate(divide="ignore"):  # the inverse of a hole is infinite
        return 1 / resize_dense_map(1 / depth, height, width)


MAX_SHARE_OF_ZEROS = 0.01  # share of the scored pixels that are 0; a normalized map has few


def sample_prediction(name: str, values: Array, mask: Mask, depth_scale: DepthScale, span: str | None = None) -> Array:
    """Return the prediction at the N scored pixels, (1, N), resized to the size of the truth.

    values: (h, w) prediction.
    mask: (H, W) bool, true for the N scored pixels.

    Raises ProtocolError if the prediction has a hole at a scored pixel.
    """
    if depth_scale.is_affine:  # may be negative
        scored = resize_dense_map(values, *mask.shape)[mask]
        complete = np.isfinite(scored)
    else:
        scored = interpolate_depth(values.clip(min=0), *mask.shape)[mask]
        beyond = np.isposinf(scored)
        complete = (scored > 0) & ~(beyond & (depth_scale is not DepthScale.METRES or 2 * beyond.sum() >= len(scored)))
    if holes := int((~complete).sum()):
        fix = "look at these pixels: a network predicts depth everywhere"
        if not depth_scale.is_affine and (flip := _explain_holes(values, mask, holes)):
            fix = flip
        elif span is not None:
            fix = f"the map spans exactly {span}, as display images do: store the network's depth"
        elif not depth_scale.is_affine and holes < MAX_SHARE_OF_ZEROS * len(scored):
            relative = "--depth-scale affine-inverse --protocol relative"
            fix += f"; or pass {relative} if these are relative inverse depths, whose smallest is 0"
        found = f"no finite positive depth at {holes} of {len(scored)} scored pixels"
        raise ProtocolError(name, found=found, expected="a prediction at every scored pixel", fix=fix)
    return scored[None]


def align_to_truth(
    predicted: Array, true_m: Array, depth_scale: DepthScale, alignment: Alignment, clamp_m: tuple[float, float]
) -> tuple[Array, float | None]:
    """Align predicted depth to the truth and clamp it; return it in metres, (1, N), and the scale ratio before that.

    The scale ratio is median(truth) / median(prediction), or None for predictions with an unknown shift.

    predicted: (1, N) prediction at the N scored pixels: depth, or inverse depth for an affine scale.
    true_m: (1, N) true z in metres at the same pixels.
    depth_scale: scale of the prediction.
    alignment: what is fitted: nothing, a factor by medians or least squares, or scale and shift of inverse depth or of
        depth.
    clamp_m: smallest and largest depth in metres after alignment.
    """
    near, far = clamp_m
    if alignment is Alignment.SCALE_SHIFT_DEPTH:
        scale, shift = fit_scale_and_shift(predicted, true_m)
        return (scale[..., None] * predicted + shift[..., None]).clip(near, far), None
    if alignment is Alignment.SCALE_SHIFT:
        predicted = predicted if depth_scale is DepthScale.AFFINE_INVERSE else 1 / predicted
        scale, shift = fit_scale_and_shift(predicted, 1 / true_m)
        return 1 / (scale[..., None] * predicted + shift[..., None]).clip(1 / far, 1 / near), None
    ratio = float(scale_ratio(predicted, true_m, np.ones(true_m.shape, np.bool_)))
    factor = 1.0
    if alignment is Alignment.MEDIAN:
        factor = ratio
    elif alignment is Alignment.SCALE:
        factor = float((predicted * true_m).sum() / np.square(predicted).sum())
    elif alignment is Alignment.LOG_SCALE:
        factor = float(np.exp(np.log(true_m / predicted).mean()))
    return (predicted * factor).clip(near, far), ratio


def _compare_alignments(
    predicted: Array, true_m: Array, depth_scale: DepthScale, clamp_m: tuple[float, float]
) -> dict[str, dict[str, float]]:
    """Return COMPARED_METRICS of (1, N) pixels by alignment."""
    every = np.ones(true_m.shape, np.bool_)
    compared = {}
    for alignment in COMPARED_ALIGNMENTS[depth_scale]:
        depth, _ = align_to_truth(predicted, true_m, depth_scale, alignment, clamp_m)
        compared[str(alignment)] = {name: float(METRICS.load(name)(depth, true_m, every)) for name in COMPARED_METRICS}
    return compared


FLIPPED_BELOW, FLIPPED_FROM = 0.6, 0.9
"""Limits of the rank correlation of predicted and true depth that reveal flipped predictions.

FLIPPED_BELOW: below this correlation, flips of the prediction are tried.
FLIPPED_FROM: a flip explains the prediction if the correlation after it is at least this. The limit is high, because
    the depth of a road correlates by about 0.9 with its mirror image, too.
"""


def _list_flips(values: Array) -> dict[str, Array]:
    """Return a map (h, w) after each of FLIPS."""
    return {
        "rows": values[::-1],
        "columns": values[:, ::-1],
        "both": values[::-1, ::-1],
        "left": np.rot90(values),
        "right": np.rot90(values, 3),
    }


MAX_HOLES_AFTER_FLIP = 0.1
"""Share of the holes at scored pixels that may be left after a flip that explains them."""


def _explain_holes(values: Array, mask: Mask, holes: int) -> str:
    """Return a fix if the holes of a map (h, w) are where the flipped truth has its own; "" otherwise.

    mask: (H, W) bool, true for scored pixels.
    holes: number of scored pixels without a prediction.
    """
    left = {
        name: int((~(interpolate_depth(flipped.clip(min=0), *mask.shape)[mask] > 0)).sum())
        for name, flipped in _list_flips(values).items()
    }
    best = min(left, key=lambda name: left[name])
    if left[best] > MAX_HOLES_AFTER_FLIP * holes:
        return ""
    what, fix = FLIPS[best]
    return f"{fix}: the map is {what}, and then {left[best]} of these pixels are left"


def _find_flip(values: Array, mask: Mask, ranked: Array) -> str:
    """Return the key of FLIPS that makes the ranks of a map (h, w) fit the N scored pixels; "" for no flip."""
    orders = {}
    for name, changed in _list_flips(values).items():
        sampled = resize_dense_map(changed, *mask.shape)[mask]
        orders[name] = (rank_correlation(sampled, ranked) or 0.0) if np.isfinite(sampled).all() else 0.0
    best = max(orders, key=lambda name: orders[name])
    return best if orders[best] >= FLIPPED_FROM else ""


def _sample_uncertainty(name: str, log_uncertainty: NDArray[np.floating], shape: tuple[int, ...], mask: Mask) -> Array:
    """Return log Sigma (h, w) at N pixels of a mask (H, W), (1, N). Raises ProtocolError if it does not fit."""
    if log_uncertainty.shape != shape:
        found = f"log uncertainty of shape {log_uncertainty.shape}"
        raise ProtocolError(name, found=found, expected=f"the shape of depth, {shape}", fix="predict again")
    scored = resize_dense_map(np.asarray(log_uncertainty, np.float64), *mask.shape)[mask]
    if wrong := int((~np.isfinite(scored)).sum()):
        found = f"log uncertainty that is not finite at {wrong} of {len(scored)} scored pixels"
        raise ProtocolError(name, found=found, expected="a finite number at every one", fix="predict again")
    return scored[None]


def _score_uncertainty(depth_m: Array, true_m: Array, uncertainty: Array) -> UncertaintyScores | None:
    if true_m.size < 2:
        return None
    every = np.ones(true_m.shape, np.bool_)
    orders = {}
    for name, error in DEPTH_ERRORS.items():
        rank = spearman(uncertainty, error.of_pixel(depth_m, true_m))
        curves = sparsification(depth_m, true_m, uncertainty, every, name)
        orders[name] = UncertaintyScore(curves, None if np.isnan(rank) else rank)
    return orders


def average_uncertainty(scores: Sequence[UncertaintyScore]) -> UncertaintyScore:
    """Average the uncertainty scores of images: the mean of each sparsification curve and of Spearman's correlation.

    scores: score of each image for the same depth error.
    """
    curves = [[getattr(score.curves, name) for score in scores] for name in ("by_uncertainty", "oracle", "random")]
    ranks = [score.spearman for score in scores if score.spearman is not None]
    mean = Sparsification(*(np.mean(of_images, axis=0) for of_images in curves))
    return UncertaintyScore(mean, float(np.mean(ranks)) if ranks else None)


def rank_correlation(predicted: Array, true: Array) -> float | None:
    """Return Spearman's rank correlation of predicted and true depth over pixels; None if one of them is constant.

    Multiplying or shifting the prediction does not change it. Up to MAX_RANKED_PIXELS pixels, evenly spaced, are
    used.

    predicted: (N,) prediction at N pixels.
    true: (N,) true depth at the same pixels.
    """
    step = max(len(true) // MAX_RANKED_PIXELS, 1)
    correlation = spearman(predicted[::step], true[::step])
    return None if np.isnan(correlation) else correlation


RANGE_FOCAL_LENGTHS = (0.45, 0.55, 0.7, 0.9, 1.15)  # focal lengths over the width that are tried, 96 to 47 degrees
MIN_RANGE_EXPLAINED = 0.6  # share of the variance of log(prediction / truth) that range instead of z explains
MIN_RANGE_PIXELS = 200
MIN_RANGE_SPREAD = 0.01  # standard deviation of log(prediction / truth) from which it is explained


def fit_range_slope(predicted: Array, true_m: Array, mask: Mask) -> float | None:
    """Return the slope of log(prediction / truth) over log(range / z) if it explains the error, otherwise None.

    The slope is 1 if predictions are distances along the ray instead of z, and -1 for the reverse.

    predicted, true_m: (N,) values at the N pixels of the mask.
    mask: (H, W) bool.
    """
    step = max(len(true_m) // MAX_RANKED_PIXELS, 1)
    y = np.log(predicted[::step] / true_m[::step])
    if len(y) < MIN_RANGE_PIXELS or not np.isfinite(y).all():
        return None
    if not (spread := float(y.std(ddof=1))) > MIN_RANGE_SPREAD:
        return None
    height, width = mask.shape
    rows, columns = np.divmod(np.flatnonzero(mask)[::step], width)
    squared = ((columns - width / 2) ** 2 + (rows - height / 2) ** 2) / width**2
    best = (0.0, 0.0)
    for focal in RANGE_FOCAL_LENGTHS:
        x = np.log(1 + squared / focal**2) / 2
        covariance = float(((x - x.mean()) * (y - y.mean())).mean())
        if (deviation := float(x.std(ddof=1))) > 0:
            best = max(best, ((covariance / (deviation * spread)) ** 2, covariance / deviation**2))
    return best[1] if best[0] >= MIN_RANGE_EXPLAINED else None
