"""Find what depth maps mean if their scores are bad: each hypothesis rereads the maps, and its error is measured.

No correction is applied. A hypothesis is named only if the reread maps agree much better, with the error before and
after. Without ground truth, maps of neighboring frames are compared.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.core.types import DepthScale
from stadia.geometry.align import fit_scale_and_shift

Array = NDArray[np.float64]
Pair = tuple[Array, Array]
"""Values of a prediction (h, w) as its file has them, and ground truth (H, W); holes of the truth are 0 or NaN."""

MAX_HYPOTHESIS_IMAGES = 12
"""Images that hypotheses reread, spread over all."""

MAX_ERROR_AS_GIVEN = 0.1
"""Median relative error up to which nothing is explained."""

MIN_ERROR_GAIN = 2.0
"""A hypothesis is named if it reduces the error at least by this factor."""

MAX_ERROR_EXPLAINED = 0.2
"""Largest error with a hypothesis that is named."""

MIN_READABLE = 0.9
"""A hypothesis gives depth at least at this share of the scored pixels."""

MIN_FILLER = 0.03
"""Smallest share of the pixels of a map with exactly one value that is a filler, such as 65535 or 10 m."""

MAX_EQUAL = 1e-3
"""Relative difference of the maps of two frames up to which they are the same map."""

TIE = 1.1
"""Two hypotheses explain equally if their errors differ by less than this factor."""

TIE_MARGIN = 0.002
"""The same, as a difference of errors: two hypotheses of exact maps."""

PLAUSIBLE_M = (0.03, 500.0)
"""Median depth, metres, of maps in the right unit: from a close-up to an aerial image."""


@dataclass(frozen=True, slots=True)
class DepthHypothesis:
    """What maps may hold.

    of: whose maps: "predictions" or "ground truth".
    what: what they hold, after "the predictions are".
    fix: what the user can do.
    read: function of the values (h, w) that returns depth up to a factor; NaN or below 0 where there is none.
    is_affine: whether `read` returns inverse depth up to scale and shift, which are fitted to each image.
    """

    of: str
    what: str
    fix: str
    read: Callable[[Array], Array]
    is_affine: bool = False


def _keep(values: Array) -> Array:
    return values


def _invert(values: Array) -> Array:
    return 1 / np.where(values > 0, values, np.nan)


def _drop_value(dropped: float, values: Array) -> Array:
    return np.where(values == dropped, np.nan, values)


def _drop_interpolated(values: Array) -> Array:
    """Return only the largest values of each neighborhood: zeros that were mixed in make the others smaller."""
    filled = np.nan_to_num(values).astype(np.float32)
    largest = cv2.dilate(filled, np.ones((NEIGHBORHOOD_PX, NEIGHBORHOOD_PX), np.uint8))
    return np.where((values > 0) & (filled >= MIN_OF_LARGEST * largest), values, np.nan)


MIN_OF_LARGEST = 0.9
"""Share of the largest depth of a neighborhood of NEIGHBORHOOD_PX that is not mixed with zeros."""

NEIGHBORHOOD_PX = 15


AS_GIVEN = {
    DepthScale.METRES: DepthHypothesis("predictions", "depth", "", _keep),
    DepthScale.UP_TO_SCALE: DepthHypothesis("predictions", "depth", "", _keep),
    DepthScale.AFFINE_INVERSE: DepthHypothesis("predictions", "inverse depth", "", _keep, is_affine=True),
}
"""How predictions are read, by their scale."""

MEANINGS = (
    ("inverse depth", "store 1 / value", _invert),
    ("a logarithm of depth", "store numpy.exp(value)", lambda values: np.exp(np.clip(values, -50, 50))),
    ("a logarithm of base 10", "store 10 ** value", lambda values: 10 ** np.clip(values, -20, 20)),
    ("a logarithm of inverse depth", "store numpy.exp(-value)", lambda values: np.exp(-np.clip(values, -50, 50))),
    ("log(1 + depth)", "store numpy.expm1(value)", lambda values: np.expm1(np.clip(values, -50, 50))),
    ("negative", "store -value", np.negative),
    ("negative inverse depth or disparity", "store 1 / -value", lambda values: _invert(-values)),
    ("the square of depth", "store numpy.sqrt(value)", lambda values: np.sqrt(np.where(values > 0, values, np.nan))),
)
"""What maps may hold, how to store depth, and the function that rereads them."""

AFFINE_INVERSE = f"pass --depth-scale {DepthScale.AFFINE_INVERSE} --protocol relative"
INVERSE_OF_TRUTH = "write z = focal length x baseline / disparity, or 1 / value"


def list_hypotheses(pairs: Sequence[Pair], depth_scale: DepthScale) -> list[DepthHypothesis]:
    """Return what the maps of some images may hold.

    pairs: prediction and ground truth of each image.
    depth_scale: scale as which predictions are read.
    """
    tried = []
    if depth_scale is DepthScale.AFFINE_INVERSE:
        tried.append(DepthHypothesis("predictions", "depth", "leave out --depth-scale", _keep))
        tried.append(DepthHypothesis("ground truth", "disparity or inverse depth", INVERSE_OF_TRUTH, _invert, True))
    else:
        what = "inverse depth up to scale and shift"
        tried.append(DepthHypothesis("predictions", what, AFFINE_INVERSE, _keep, is_affine=True))
    for of, fix_of_inverse in (("predictions", AFFINE_INVERSE), ("ground truth", INVERSE_OF_TRUTH)):
        for what, fix, read in MEANINGS:
            tried.append(DepthHypothesis(of, what, fix_of_inverse if read is _invert else fix, read))
    if depth_scale is not DepthScale.AFFINE_INVERSE and (buffer := _fit_buffer(pairs)) is not None:
        what = "the depth buffer of a renderer, 0 at the near and 1 at the far plane, which is not linear"
        tried.append(DepthHypothesis("predictions", what, LINEAR_DEPTH, buffer))
    if any(_share_of_mixed(true) is not None for _, true in pairs):
        what = "sparse depth that was made smaller by interpolation, which mixes depth with the zeros around it"
        tried.append(DepthHypothesis("ground truth", what, "resize it with cv2.INTER_NEAREST", _drop_interpolated))
    for of, maps in (("predictions", [one for one, _ in pairs]), ("ground truth", [true for _, true in pairs])):
        if (filler := find_filler(maps)) is not None:
            what = f"filled with {filler:g} where there is no depth"
            fix = f"write 0 in place of {filler:g}"
            tried.append(DepthHypothesis(of, what, fix, partial(_drop_value, filler)))
    return tried


LINEAR_DEPTH = "write z = near far / (far - value (far - near)), with the planes of the camera that rendered it"


def _fit_buffer(pairs: Sequence[Pair]) -> Callable[[Array], Array] | None:
    """Return the function that reads predictions as the depth buffer of OpenGL or Direct3D; None if they are none.

    The buffer is 1 / z times a negative scale plus a shift, the same for all images.
    """
    values, inverse = list[Array](), list[Array]()
    for predicted, true in pairs:
        if not (np.isfinite(predicted).all() and predicted.min() >= 0 and predicted.max() <= 1):
            return None
        resized = cv2.resize(predicted, true.shape[::-1], interpolation=cv2.INTER_NEAREST)
        known = np.isfinite(true) & (true > 0) & (resized < 1)  # 1 is the background
        values.append(resized[known])
        inverse.append(1 / true[known])
    if sum(map(len, values)) < MIN_FITTED:
        return None
    (scale,), (shift,) = fit_scale_and_shift(np.concatenate(values)[None], np.concatenate(inverse)[None])
    return partial(_read_buffer, float(scale), float(shift)) if scale < 0 < shift else None


def _read_buffer(scale: float, shift: float, values: Array) -> Array:
    inverse = scale * values + shift
    return np.where((values < 1) & (inverse > 0), 1 / np.where(inverse > 0, inverse, np.nan), np.nan)


MIN_FITTED = 20
"""Pixels from which a scale and a shift are fitted."""


def find_filler(maps: Sequence[Array]) -> float | None:
    """Return the value that may fill holes, the most frequent one of most maps; None without one.

    maps: (h, w) values of each image; 0 and NaN are holes already.
    """
    common = []
    for values in maps:
        known = values[np.isfinite(values) & (values != 0)]
        if known.size < 100:
            continue
        numbers, counts = np.unique(known, return_counts=True)
        if counts.max() >= MIN_FILLER * known.size:
            common.append(float(numbers[counts.argmax()]))
    if not common:
        return None
    value = float(np.median(common))
    return value if 2 * sum(one == value for one in common) > len(maps) else None


def explain_depth(pairs: Sequence[Pair], depth_scale: DepthScale) -> list[str]:
    """Return sentences that explain a bad score, with the error before and after.

    pairs: values of a prediction and ground truth of some images, in their order.
    depth_scale: scale as which predictions are read.
    """
    if depth_scale not in AS_GIVEN:
        return []
    has_changed = explain_equal_maps([np.nan_to_num(true) for _, true in pairs]) is None
    if has_changed and (note := explain_equal_maps([predicted for predicted, _ in pairs])) is not None:
        return [note]
    if depth_scale is DepthScale.METRES and (note := explain_wrapped(pairs)) is not None:
        return [note]
    as_read = AS_GIVEN[depth_scale]
    given = measure_error(pairs, as_read)
    codes = _find_codes(pairs, given) if depth_scale is DepthScale.METRES else None
    if given <= MAX_ERROR_AS_GIVEN and codes is None:
        return []
    measured = [(measure_error(pairs, one), one) for one in list_hypotheses(pairs, depth_scale)]
    if len(pairs) > 2:
        for shift, side in ((1, "later"), (-1, "earlier")):
            moved = [(pairs[k][0], pairs[k + shift][1]) for k in range(len(pairs)) if 0 <= k + shift < len(pairs)]
            what = f"of a frame that is one {side} in the list"
            measured.append((measure_error(moved, as_read), DepthHypothesis("ground truth", what, PAIRING, _keep)))
    if codes is not None:
        measured.append((measure_error(pairs, codes), codes))
    measured.sort(key=lambda one: one[0])
    error = measured[0][0]
    if given <= MAX_ERROR_AS_GIVEN and measured[0][1] is not codes:
        return []
    if error > MAX_ERROR_EXPLAINED or given < MIN_ERROR_GAIN * error:
        return []
    before = f"the error, after one factor for all images, is {given:.0%} as given"
    if not np.isfinite(given):
        before = "the values as given have no depth at many pixels; the error, after one factor for all images, is"
    likely = [one for of_one, one in measured if of_one <= TIE * error + TIE_MARGIN]
    likely = [one for one in likely if not one.is_affine][:2] or likely[:1]  # without a shift, it explains more
    causes = " or ".join(f"the {one.of} {'is' if one.of == 'ground truth' else 'are'} {one.what}" for one in likely)
    after = f"{'and ' if np.isfinite(given) else ''}{error:.0%} reread so"
    return [f"{causes}: {before} {after}. Fix: {', or '.join(dict.fromkeys(one.fix for one in likely))}"]


MIN_ERROR_OF_CODES = 0.02
"""Least relative error after one factor with which values may be codes: rounding gives less."""

MIN_CODE = 1.3
"""Least factor between a code and metres, or its inverse; a network that is off by less predicts metres."""


def _find_codes(pairs: Sequence[Pair], given: float) -> DepthHypothesis | None:
    """Return the hypothesis that predictions are depth after one scale and one shift for all images; None if not.

    given: error of the predictions after one factor for all images.
    """
    values, depths = list[Array](), list[Array]()
    for predicted, true in pairs:
        resized = cv2.resize(predicted, true.shape[::-1], interpolation=cv2.INTER_NEAREST)
        known = np.isfinite(true) & (true > 0) & np.isfinite(resized)
        values.append(resized[known])
        depths.append(true[known])
    if len(pairs) < 2 or sum(map(len, values)) < MIN_FITTED or given < MIN_ERROR_OF_CODES:
        return None
    (scale,), (shift,) = fit_scale_and_shift(np.concatenate(values)[None], np.concatenate(depths)[None])
    if scale <= 0 or abs(np.log(scale)) < np.log(MIN_CODE):
        return None
    metres = f"{scale:.4g} x value {'+' if shift > 0 else '-'} {abs(shift):.3g}"
    what = f"codes of a range, as Kubric stores it (metres are {metres}, in all compared images)"
    return DepthHypothesis("predictions", what, CODES, lambda stored: scale * stored + shift)


CODES = "store metres, by the range that the codes are of"


PAIRING = "pair the files by the numbers in their names; sorted as text, 10 comes before 2"


MIN_WRAPPED = 0.001
"""Least share of the scored pixels that wrapped around."""

MAX_ERROR_WRAPPED = 0.12
"""Largest relative error of these pixels once a period is added."""

MAX_ERROR_OF_OTHERS = 0.5
"""Relative error up to which the truth is right at most of the other pixels."""

NEAR_OF_PERIOD = 0.25
"""Distance from the predictions, over the largest value, up to which truth plus this value is right."""


def explain_wrapped(pairs: Sequence[Pair]) -> str | None:
    """Return a sentence if far depth of the truth wrapped around at the largest integer; None if it did not.

    Pixels are near in the truth where predictions are a period farther. The period is the largest value, which maps
    that wrapped reach.

    pairs: prediction and ground truth of each image, metres.
    """
    period = max((float(true[np.isfinite(true)].max(initial=0)) for _, true in pairs), default=0.0)
    moved, beyond, wrong, scored, error, reread = 0, 0, 0, 0, 0.0, 0.0
    for predicted, true in pairs:
        resized = cv2.resize(predicted, true.shape[::-1], interpolation=cv2.INTER_NEAREST)
        known = np.isfinite(true) & (true > 0) & np.isfinite(resized)
        wrapped = known & (true < period / 2) & (np.abs(resized - true - period) < NEAR_OF_PERIOD * period)
        far = known & ~wrapped & (resized > period)  # predictions that are far where the truth is not
        beyond += int(far.sum())
        others, errors = known & ~wrapped, np.abs(resized - true) / np.maximum(true, 1e-9)
        wrong += int((errors[others] > MAX_ERROR_OF_OTHERS).sum())
        moved += int(wrapped.sum())
        scored += int(known.sum())
        error += float(errors[wrapped].sum())
        reread += float((np.abs(resized - true - period) / (true + period))[wrapped].sum())
    if moved < max(MIN_WRAPPED * scored, MIN_FITTED, beyond) or reread > MAX_ERROR_WRAPPED * moved:
        return None
    if wrong > (scored - moved) / 2:  # the truth is also wrong where it did not wrap around
        return None
    return (
        f"the ground truth wraps around at {period:.4g} m: at {moved / scored:.1%} of the scored pixels it is near, and"
        f" the predictions are {period:.4g} m farther. Their error is {error / moved:.0%} as given and"
        f" {reread / moved:.0%} with {period:.4g} m added. Fix: {STORE_FAR}"
    )


STORE_FAR = "store it as float32, or as integers with fewer units a metre; 16 bits end at 65535"


def explain_equal_maps(maps: Sequence[Array]) -> str | None:
    """Return a sentence if the maps of different frames are one map; None if they differ.

    maps: (h, w) values of some frames.
    """
    if len(maps) < 3 or len({values.shape for values in maps}) > 1:
        return None
    stacked = np.stack(maps)
    with np.errstate(invalid="ignore"):
        change = np.nanmax(np.abs(stacked - stacked[0])) if np.isfinite(stacked).any() else np.inf
        size = np.nanmedian(np.abs(stacked[0]))
    if not change <= MAX_EQUAL * max(size, 1e-12):
        return None
    return (
        f"all {len(maps)} compared predictions are the same map: the network ignores its input. Look at its images,"
        " and at a training that collapsed"
    )


def measure_error(pairs: Sequence[Pair], hypothesis: DepthHypothesis) -> float:
    """Return the median relative error of reread maps after one factor for all images.

    The error is infinite if the reread maps lack depth. It is the median over images of the mean over pixels of
    |log(prediction / truth)|, so that far pixels count as much as near ones. An affine hypothesis has a scale and a
    shift for each image.

    pairs: prediction and ground truth of each image.
    hypothesis: how they are reread.
    """
    ratios = []
    for predicted, true in pairs:
        is_truth = hypothesis.of == "ground truth"
        with np.errstate(all="ignore"):
            truth = hypothesis.read(true) if is_truth else true
            values = predicted if is_truth else hypothesis.read(predicted)
        height, width = truth.shape
        resized = cv2.resize(values, (width, height), interpolation=cv2.INTER_NEAREST)
        scored = np.isfinite(truth) & (truth > 0)
        if hypothesis.is_affine:
            resized = _fit_inverse(resized, truth, scored & np.isfinite(resized))
        known = scored & np.isfinite(resized) & (resized > 0)
        if known.sum() < max(MIN_READABLE * scored.sum(), 20):
            return np.inf
        ratios.append(np.log(truth[known] / resized[known]))
    if not ratios:
        return np.inf
    middle = float(np.median([np.median(ratio) for ratio in ratios]))
    return float(np.median([np.abs(ratio - middle).mean() for ratio in ratios]))


def _fit_inverse(values: Array, truth: Array, known: NDArray[np.bool_]) -> Array:
    """Return depth (H, W) from inverse depth up to scale and shift; NaN if larger values are not nearer."""
    if known.sum() < MIN_FITTED:
        return np.full(values.shape, np.nan)
    scale, shift = fit_scale_and_shift(values[known][None], 1 / truth[known][None])
    if not scale[0] > 0:
        return np.full(values.shape, np.nan)
    return 1 / np.maximum(scale[0] * values + shift[0], 1 / (2 * truth[known].max()))


@dataclass(frozen=True, slots=True)
class TruthFault:
    """What is wrong with ground truth, by its own values.

    name: "equal", "filler" or "interpolated".
    measured: the measurement, as a sentence.
    """

    name: str
    measured: str


MAX_MIXED_SHARE = 0.5
"""Largest share of the values of a sparse map that are far below their largest neighbor; at edges of real maps .2."""

MIN_SPARSE, MAX_SPARSE = 0.02, 0.95
"""Share of the pixels with depth of a map that may be sparse."""

MIN_GAP = 0.05
"""Distance of a filler from the next value, over the filler: a surface has other values near it."""


def find_truth_fault(maps: Sequence[Array]) -> TruthFault | None:
    """Return the fault of ground truth that its own values show, without predictions and poses; None without one.

    maps: (h, w) depth of some frames, 0 where unknown.
    """
    if explain_equal_maps(maps) is not None:
        return TruthFault("equal", f"all {len(maps)} compared maps are the same")
    fillers = [found for values in maps if (found := _find_extreme_filler(values)) is not None]
    if 2 * len(fillers) > len(maps) and len({value for value, _ in fillers}) == 1:
        share = float(np.median([share for _, share in fillers]))
        return TruthFault("filler", f"{share:.0%} of the known pixels of a map are exactly {fillers[0][0]:g} m")
    mixed = [one for values in maps if (one := _share_of_mixed(values)) is not None]
    if 2 * len(mixed) > len(maps) and np.median(mixed) > MAX_MIXED_SHARE:
        measured = f"{np.median(mixed):.0%} of the values of a map are far below their largest neighbor"
        return TruthFault("interpolated", measured)
    return None


def _find_extreme_filler(values: Array) -> tuple[float, float] | None:
    """Return the largest or smallest value if many pixels have it, and none is near it, with their share; else None."""
    numbers, counts = np.unique(values[np.isfinite(values) & (values > 0)], return_counts=True)
    if len(numbers) < 2:
        return None
    for place, gap in ((-1, 1 - numbers[-2] / numbers[-1]), (0, numbers[1] / numbers[0] - 1)):
        share = float(counts[place] / counts.sum())
        if share >= MIN_FILLER and gap >= MIN_GAP:
            return float(numbers[place]), share
    return None


def _share_of_mixed(values: Array) -> float | None:
    """Return the share of the values of a sparse map that are far below their largest neighbor; None if it is dense."""
    known = np.isfinite(values) & (values > 0)
    if not MIN_SPARSE <= known.mean() <= MAX_SPARSE:
        return None
    filled = np.where(known, values, 0).astype(np.float32)
    largest = cv2.dilate(filled, np.ones((5, 5), np.uint8))
    return float((filled < 0.8 * largest)[known].mean())


def is_plausible(maps: Sequence[Array]) -> bool:
    """Return whether the median depth of maps, read as metres, is one of a camera image.

    maps: (h, w) depth of some images.
    """
    medians = [np.median(values[np.isfinite(values) & (values > 0)]) for values in maps if (values > 0).any()]
    return bool(medians) and PLAUSIBLE_M[0] <= float(np.median(medians)) <= PLAUSIBLE_M[1]
