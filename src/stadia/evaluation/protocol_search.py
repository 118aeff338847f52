"""Find the evaluation protocols that reproduce published scores: the same predictions are scored in many ways.

Papers rarely state all of crop, depth cap, clamp, resizing, alignment and average. The grid has what their scripts do:

- Monodepth2 (`evaluate_depth.py`): Garg's crop, .001 to 80 m, inverse depth resized bilinearly, median per image,
  clamp; on annotated depth all pixels are scored, and the prediction is clamped to 80 m.
- Zhou et al., CVPR 2017 (`eval_depth.py`), and Garg et al., ECCV 2016: caps of 80 m, and of 1 to 50 m.
- BTS and AdaBins (`eval_with_pngs.py`): crop of Garg or Eigen, clamp, no alignment; ZoeDepth (`utils/misc.py`): depth
  resized bilinearly with aligned corners, after the crop of KITTI's benchmark, and limits of .1 to 10 m for rooms.
- Depth Anything V2 (`metric_depth/util/metric.py`) and UniDepth (`utils/evaluation_depth.py`): no clamp, and depth
  resized bilinearly.
- MiDaS (Ranftl et al., PAMI 44(3), 2022): scale and shift of inverse depth per image, caps of 10 and 80 m.
- Marigold (`src/util/alignment.py`): scale and shift of depth per image, Eigen's crop after the benchmark's.
- DDAD and nuScenes: caps of 120 and 200 m, and one median for the whole dataset.
- Eigen et al., NeurIPS 2014: the metrics, averaged over all pixels, or over images as most scripts do.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import ConfigError, ProtocolError
from stadia.core.progress import TrackProgress, no_progress
from stadia.core.registry import find_nearest_name
from stadia.core.types import DepthScale
from stadia.evaluation.protocols import ANY_DEPTH_M, CROPS, PROTOCOLS, Alignment
from stadia.geometry.cameras import IMAGE_CROPS, CropWindow, crop_window
from stadia.geometry.resizing import Interpolation, resize_dense_map

Array = NDArray[np.float64]

# -- published figures

METRIC_NAMES: Mapping[str, str] = {
    "abs_rel": "abs_rel", "absrel": "abs_rel", "rel": "abs_rel", "arel": "abs_rel",
    "sq_rel": "sq_rel", "sqrel": "sq_rel",
    "rmse": "rmse", "rms": "rmse",
    "rmse_log": "rmse_log", "rmselog": "rmse_log", "rmsle": "rmse_log",
    "silog": "silog", "log10": "log10", "log_10": "log10", "mae": "mae",
    "d1": "d1", "a1": "d1", "delta1": "d1",
    "d2": "d2", "a2": "d2", "delta2": "d2",
    "d3": "d3", "a3": "d3", "delta3": "d3",
}  # fmt: skip
"""Metric by the names that papers use."""

ROUNDING = 1e-9  # relative difference of figures that count as equal


class PublishedFigure(NamedTuple):
    """A score as it was printed.

    metric: metric of `stadia.metrics.METRICS`.
    text: the number as printed, such as ".115".
    value: the number.
    half_unit: half a unit of the last printed digit: values within it round to the printed number.
    """

    metric: str
    text: str
    value: float
    half_unit: float


def parse_published(text: str) -> tuple[PublishedFigure, ...]:
    """Return the figures of a text such as ".115" (AbsRel) or "abs_rel=.115,a1=87.7%".

    Raises ConfigError for an unknown metric, a wrong number, or a metric that is named twice.

    Examples:
        >>> [(figure.metric, figure.value, figure.half_unit) for figure in parse_published(".115")]
        [('abs_rel', 0.115, 0.0005)]
    """
    figures = list[PublishedFigure]()
    for part in text.replace(" ", "").split(","):
        name, _, number = part.rpartition("=")
        metric = METRIC_NAMES.get((name or "abs_rel").lower())
        if metric is None:
            near = find_nearest_name(name.lower(), list(METRIC_NAMES))
            fix = f"did you mean '{near}'?" if near else "such as abs_rel=.115,rmse=4.8"
            expected = f"one of {', '.join(dict.fromkeys(METRIC_NAMES.values()))}"
            raise ConfigError("--find-protocol", found=f"'{name}'", expected=expected, fix=fix)
        if not re.fullmatch(r"(\d+\.?\d*|\.\d+)%?", number, re.ASCII):
            fix = "write the number as the paper prints it, such as .115 or a1=87.7%"
            raise ConfigError("--find-protocol", found=f"'{part}'", expected="a positive number", fix=fix)
        if metric in (figure.metric for figure in figures):
            raise ConfigError("--find-protocol", found=f"{metric} twice", expected="one figure for each metric")
        digits, unit = number.rstrip("%"), 0.01 if number.endswith("%") else 1.0
        half_unit = 0.5 * 10.0 ** -len(digits.partition(".")[2]) * unit
        figures.append(PublishedFigure(metric, number, float(digits) * unit, half_unit))
    return tuple(figures)


# -- the grid

WINDOWS: Mapping[str, tuple[str, str]] = {
    "none": ("none", "none"),
    "garg": ("none", "garg"),
    "eigen": ("none", "eigen"),
    "nyu": ("none", "nyu"),
    "kb": ("kb", "none"),
    "garg of kb": ("kb", "garg"),
    "eigen of kb": ("kb", "eigen"),
}
"""Scored windows: a crop in pixels of IMAGE_CROPS, and a crop of CROPS inside it."""

NYU_SHAPE = (480, 640)  # height and width of the images that have the crop `nyu`
NEAR_M = (1e-3, 0.1, 1.0)
FAR_M = (80.0, 50.0, 10.0, 20.0, 100.0, 120.0, 200.0)
RANGES = (*product(NEAR_M, FAR_M), (0.0, math.inf))
"""Limits of scored true depth, metres."""

ALL_CLAMP_M = 80.0  # largest depth after clamping, if all true depth is scored
CLAMPS = (True, False)
AVERAGES = ("images", "pixels")
SET_MEDIAN = "median of the dataset"

ALIGNMENTS: Mapping[DepthScale, tuple[str, ...]] = {
    DepthScale.METRES: (
        Alignment.NONE, Alignment.MEDIAN, SET_MEDIAN, Alignment.SCALE, Alignment.LOG_SCALE,
        Alignment.SCALE_SHIFT, Alignment.SCALE_SHIFT_DEPTH,
    ),
    DepthScale.UP_TO_SCALE: (
        Alignment.MEDIAN, SET_MEDIAN, Alignment.SCALE, Alignment.LOG_SCALE,
        Alignment.SCALE_SHIFT, Alignment.SCALE_SHIFT_DEPTH,
    ),
    DepthScale.AFFINE_INVERSE: (Alignment.SCALE_SHIFT,),
    DepthScale.AFFINE_DEPTH: (Alignment.SCALE_SHIFT_DEPTH,),
}  # fmt: skip
"""What is fitted to the ground truth, for each scale of predictions."""


class Resize(NamedTuple):
    """How predictions and ground truth get the same size.

    mode: interpolation of the prediction; "truth" resizes the ground truth to the prediction, by its nearest pixel.
    is_inverse: whether inverse depth is interpolated instead of depth.
    """

    mode: str
    is_inverse: bool

    def describe(self) -> str:
        """Return the resize as text."""
        if self.mode == "truth":
            return "truth to the prediction's size"
        return self.mode if self.mode == "nearest" else f"{self.mode} in {'inverse ' * self.is_inverse}depth"


DEFAULT_RESIZE = Resize("bilinear", is_inverse=True)  # `stadia evaluate` resizes like this.
RESIZES = (
    DEFAULT_RESIZE,
    Resize("bilinear", is_inverse=False),
    Resize("bilinear, corners aligned", is_inverse=True),
    Resize("bilinear, corners aligned", is_inverse=False),
    Resize("bicubic", is_inverse=True),
    Resize("bicubic", is_inverse=False),
    Resize("nearest", is_inverse=False),
    Resize("truth", is_inverse=False),
)


@dataclass(frozen=True, slots=True)
class Scheme:
    """One way to score predictions.

    crop: window of WINDOWS that contains the scored pixels.
    scored_m: limits of scored true depth, metres.
    clamp_m: clamping limits of aligned predictions, metres; None for none.
    resize: how prediction and truth get the same size.
    alignment: what is fitted to the truth: one of `Alignment`, or SET_MEDIAN.
    average: whether scores are averaged over "images" or over all "pixels".
    """

    crop: str
    scored_m: tuple[float, float]
    clamp_m: tuple[float, float] | None
    resize: Resize
    alignment: str
    average: str

    def describe(self) -> str:
        """Return the scheme in words."""
        near, far = self.scored_m
        span = f"{near:g} m and farther" if math.isinf(far) else f"{near:g} to {far:g} m"
        clamp = "no clamp" if self.clamp_m is None else "clamped"
        if self.clamp_m is not None and math.isinf(far):
            clamp = f"clamped to {self.clamp_m[1]:g} m"
        fitted = "no alignment" if self.alignment == Alignment.NONE else self.alignment
        crop = "no crop" if self.crop == "none" else f"crop {self.crop}"
        return f"{crop}; {span}, {clamp}; {fitted}; {self.resize.describe()}; mean over {self.average}"

    def option(self, depth_scale: DepthScale) -> str | None:
        """Return the value of `--protocol` that scores in this way; None if `stadia evaluate` has no such option."""
        if self.crop not in CROPS or self.average != "images" or self.alignment == SET_MEDIAN:
            return None
        if self.resize.mode != "bilinear" or self.resize.is_inverse != (depth_scale is not DepthScale.AFFINE_DEPTH):
            return None
        clamp_m = self.clamp_m or ANY_DEPTH_M
        for name, protocol in PROTOCOLS.items():
            is_same = (protocol.crop, protocol.scored_m, protocol.clamp_m) == (self.crop, self.scored_m, clamp_m)
            if is_same and protocol.alignments.get(depth_scale) == self.alignment:
                return name
        near, far = self.scored_m
        clamp = "no" if self.clamp_m is None else f"{clamp_m[1]:g}"
        return f"crop={self.crop},min={near:g},max={far:g},clamp={clamp},align={self.alignment.replace(' ', '-')}"


# -- sums of errors over pixels

PARTS: Mapping[str, tuple[str, ...]] = {
    "abs_rel": ("abs_rel",), "sq_rel": ("sq_rel",), "rmse": ("square",), "rmse_log": ("square_log",),
    "silog": ("square_log", "log"), "log10": ("log10",), "mae": ("mae",), "d1": ("d1",), "d2": ("d2",), "d3": ("d3",),
}  # fmt: skip
"""Mean pixel errors that each metric is computed from."""

PIXEL_ERRORS: Mapping[str, Callable[[Array, Array, Array], NDArray[Any]]] = {
    "abs_rel": lambda ratio, log, true: np.abs(ratio - 1),
    "sq_rel": lambda ratio, log, true: (ratio - 1) ** 2 * true,
    "square": lambda ratio, log, true: ((ratio - 1) * true) ** 2,
    "square_log": lambda ratio, log, true: log**2,
    "log": lambda ratio, log, true: log,
    "log10": lambda ratio, log, true: np.abs(log) / math.log(10),
    "mae": lambda ratio, log, true: np.abs(ratio - 1) * true,
    "d1": lambda ratio, log, true: _is_within(ratio, 1.25),
    "d2": lambda ratio, log, true: _is_within(ratio, 1.25**2),
    "d3": lambda ratio, log, true: _is_within(ratio, 1.25**3),
}
"""Errors of pixels from prediction / truth, its logarithm, and the truth in metres."""


def _is_within(ratio: Array, factor: float) -> NDArray[np.bool_]:
    return (ratio < factor) & (ratio > 1 / factor)


def _finish(metric: str, means: Mapping[str, Array]) -> Array:
    """Return a metric from the means of its PARTS."""
    if metric == "silog":
        return 100 * np.sqrt(np.maximum(means["square_log"] - means["log"] ** 2, 0))
    (part,) = PARTS[metric]
    return np.sqrt(means[part]) if part.startswith("square") else means[part]


def sum_pixel_errors(predicted: Array, true: Array, parts: Sequence[str]) -> Array:
    """Return the sums of pixel errors (A, len(parts)) of predictions (A, N) with the truth (N,), metres."""
    ratio = predicted / true
    with np.errstate(invalid="ignore", divide="ignore"):
        log = np.log(ratio) if any("log" in part for part in parts) else ratio
        return np.stack([PIXEL_ERRORS[part](ratio, log, true).sum(-1) for part in parts], -1)


def align_predictions(predicted: Array, true: Array, alignments: Sequence[str], set_ratio: float) -> Array:
    """Return predicted depth (len(alignments), N) after each alignment; infinite if the fitted inverse depth is not
    positive.

    predicted: (N,) depth; inverse depth or affine depth if the only alignment is the one of an affine scale.
    true: (N,) true depth, metres.
    alignments: rows of ALIGNMENTS.
    set_ratio: factor of SET_MEDIAN.
    """
    is_inverse = alignments == ALIGNMENTS[DepthScale.AFFINE_INVERSE]
    aligned = np.empty((len(alignments), len(true)))
    for row, alignment in enumerate(alignments):
        if alignment == Alignment.SCALE_SHIFT:
            fitted = _fit_line(predicted if is_inverse else 1 / predicted, 1 / true)
            aligned[row] = np.divide(1, fitted, out=np.full_like(fitted, np.inf), where=~(fitted <= 0))
        elif alignment == Alignment.SCALE_SHIFT_DEPTH:
            aligned[row] = _fit_line(predicted, true)
        else:
            aligned[row] = predicted * _fit_factor(predicted, true, alignment, set_ratio)
    return aligned


def _fit_factor(predicted: Array, true: Array, alignment: str, set_ratio: float) -> float:
    if alignment == Alignment.MEDIAN:
        return float(np.median(true) / np.median(predicted))
    if alignment == Alignment.SCALE:
        return float((predicted * true).sum() / (predicted * predicted).sum())
    if alignment == Alignment.LOG_SCALE:
        return float(np.exp(np.log(true / predicted).mean()))
    return set_ratio if alignment == SET_MEDIAN else 1.0


def _fit_line(values: Array, target: Array) -> Array:
    """Return scale * values + shift, least squares; the mean of the target for constant values."""
    centered = values - values.mean()
    spread = (centered * centered).sum()
    slope = (centered * (target - target.mean())).sum() / spread if spread > 0 else 0.0
    return slope * centered + target.mean()


# -- one image


@dataclass(frozen=True)
class LabeledMap:
    """A predicted map with its ground truth.

    name: name of the image.
    predicted: (h, w) prediction of any size.
    true_m: (H, W) true depth in metres; 0 means unknown.
    crop: window of IMAGE_CROPS that the prediction covers.
    """

    name: str
    predicted: NDArray[np.floating]
    true_m: NDArray[np.floating]
    crop: str = "none"


@dataclass(frozen=True)
class ImagePixels:
    """The pixels of an image that have true depth, sorted by it, for each way to resize the prediction.

    true: (N,) true depth in metres; an array for each resize.
    predicted: (N,) predicted values at these pixels; NaN for holes; an array for each resize.
    inside: for each resize, which pixels are inside each window, (N,) bool by the name of the window.
    windows: names of the windows of WINDOWS that the image has.
    """

    true: Sequence[Array]
    predicted: Sequence[Array]
    inside: Sequence[Mapping[str, NDArray[np.bool_]]]

    @classmethod
    def sample(cls, labeled: LabeledMap, resizes: Sequence[Resize], depth_scale: DepthScale) -> ImagePixels:
        """Resize a map in each way, and take its pixels with truth."""
        true, predicted, inside = list[Array](), list[Array](), list[Mapping[str, NDArray[np.bool_]]]()
        whole = np.asarray(labeled.true_m, np.float64)
        whole = np.where(np.isfinite(whole), whole, 0)
        window = crop_window(labeled.crop, *whole.shape)
        masks = {name: window.cut(mask) for name, mask in list_windows(*whole.shape).items()}
        cut = window.cut(whole)
        values = np.asarray(labeled.predicted, np.float64)
        as_labeled = _sort_by_truth(cut, masks)
        for resize in resizes:
            shape, (at, sorted_m, shown) = cut.shape, as_labeled
            if resize.mode == "truth":
                shape = values.shape
                grid = np.ix_(*(np.arange(n) * m // n for n, m in zip(shape, cut.shape, strict=True)))
                at, sorted_m, shown = _sort_by_truth(cut[grid], {name: mask[grid] for name, mask in masks.items()})
            resized = resize_prediction(values, shape, resize, depth_scale)
            true.append(sorted_m)
            predicted.append(resized.ravel()[at])
            inside.append(shown)
        return cls(true, predicted, inside)


def _sort_by_truth(
    true_m: Array, masks: Mapping[str, NDArray[np.bool_]]
) -> tuple[NDArray[np.intp], Array, dict[str, NDArray[np.bool_]]]:
    """Return the places (N,) of pixels with truth in order of it, their truth (N,), and which are in each mask."""
    flat = true_m.ravel()
    at = np.flatnonzero(flat > 0)
    at = at[np.argsort(flat[at], kind="stable")]
    return at, flat[at], {name: mask.ravel()[at] for name, mask in masks.items()}


def list_windows(height: int, width: int) -> dict[str, NDArray[np.bool_]]:
    """Return the windows of WINDOWS that fit an image, as masks (height, width), by name."""
    masks = {}
    for name, (pixels, crop) in WINDOWS.items():
        size = IMAGE_CROPS[pixels] or (height, width)
        if height < size[0] or width < size[1] or (crop == "nyu" and (height, width) != NYU_SHAPE):
            continue
        outer: CropWindow = crop_window(pixels, height, width)
        masks[name] = np.zeros((height, width), np.bool_)
        masks[name][outer.rows, outer.columns][CROPS[crop].box(outer.height, outer.width)] = True
    return masks


def resize_prediction(values: Array, shape: tuple[int, ...], resize: Resize, depth_scale: DepthScale) -> Array:
    """Return a prediction (h, w) at another size; pixels without a usable prediction are NaN.

    values: (h, w) in the unit of the depth scale.
    shape: the new height and width.
    resize: how; "truth" and equal sizes leave the prediction as it is.
    depth_scale: scale of the prediction. Depth must be positive, affine values may have any sign.
    """
    if not depth_scale.is_affine:
        values = np.where((values > 0) & np.isfinite(values), values, np.nan)
    if values.shape != shape:
        is_turned = resize.is_inverse and not depth_scale.is_affine
        interpolation, _, corners = resize.mode.partition(", ")
        height, width = shape
        resized = resize_dense_map(
            1 / values if is_turned else values,
            height,
            width,
            cast(Interpolation, interpolation),
            align_corners=bool(corners),
        )
        values = 1 / resized if is_turned else resized
    return values if depth_scale.is_affine else np.where(values > 0, values, np.nan)


@dataclass(frozen=True)
class ErrorSums:
    """Sums of pixel errors of an image for each point of the grid.

    sums: (windows, ranges, resizes, clamps, alignments, parts); NaN if not scored.
    counts: (windows, ranges, resizes) numbers of scored pixels.
    """

    sums: Array
    counts: Array


def sum_image(
    pixels: ImagePixels, windows: Sequence[str], alignments: Sequence[str], parts: Sequence[str], set_ratios: Array
) -> ErrorSums:
    """Sum the errors of an image's pixels in every way.

    set_ratios: (windows, ranges, resizes) factors of SET_MEDIAN.
    """
    shape = (len(windows), len(RANGES), len(pixels.true))
    counts = np.zeros(shape)
    sums = np.full((*shape, len(CLAMPS), len(alignments), len(parts)), np.nan)
    for (w, window), s in product(enumerate(windows), range(len(pixels.true))):
        chosen = pixels.inside[s][window]
        true, predicted = pixels.true[s][chosen], pixels.predicted[s][chosen]
        done: dict[tuple[int, int, float], tuple[Array, Array]] = {}
        for r, limits in enumerate(RANGES):
            low, high = _find_slice(true, limits)
            counts[w, r, s] = high - low
            p, g, ratio = predicted[low:high], true[low:high], float(set_ratios[w, r, s])
            if low == high or not np.isfinite(p).all():
                continue
            if (low, high, ratio) not in done:
                aligned = align_predictions(p, g, alignments, ratio)
                done[low, high, ratio] = aligned, sum_pixel_errors(aligned, g, parts)
            sums[w, r, s] = _add_clamped(*done[low, high, ratio], g, alignments, parts, find_clamp(limits))
    return ErrorSums(sums, counts)


def _find_slice(true: Array, limits: tuple[float, float]) -> tuple[int, int]:
    near, far = limits
    return int(np.searchsorted(true, near, "right")), int(np.searchsorted(true, far, "left"))


def find_clamp(scored_m: tuple[float, float]) -> tuple[float, float]:
    """Return the clamp that belongs to the limits of scored depth: the same, or ALL_CLAMP_M without a far limit."""
    near, far = scored_m
    return max(near, NEAR_M[0]), far if math.isfinite(far) else ALL_CLAMP_M


def _add_clamped(
    aligned: Array,
    free_sums: Array,
    true: Array,
    alignments: Sequence[str],
    parts: Sequence[str],
    clamp_m: tuple[float, float],
) -> Array:
    """Return the sums (clamps, alignments, parts) with and without clamp. Affine alignments are always clamped."""
    near, far = clamp_m
    is_affine = [name in (Alignment.SCALE_SHIFT, Alignment.SCALE_SHIFT_DEPTH) for name in alignments]
    is_cut = ~((aligned.min(1) >= near) & (aligned.max(1) <= far))
    sums = np.stack([free_sums, free_sums])
    sums[0, is_cut] = sum_pixel_errors(aligned[is_cut].clip(near, far), true, parts)
    sums[1, is_affine] = np.nan
    return sums


# -- the search


@dataclass(frozen=True)
class Match:
    """A scheme that reproduces the published figures.

    scheme: the scheme; the one of `stadia evaluate` or the most common one, if several give identical figures.
    option: its value of `--protocol`; None if `stadia evaluate` cannot score in this way.
    figures: its figures by metric.
    distance: largest difference from a published figure, over half a unit of the last digit: at most 1.
    equivalent: other schemes with identical figures.
    """

    scheme: Scheme
    option: str | None
    figures: Mapping[str, float]
    distance: float
    equivalent: tuple[Scheme, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the match as JSON values."""
        return {
            "protocol": self.scheme.describe(),
            **({} if self.option is None else {"option": f"--protocol {self.option}"}),
            **self.figures,
            "distance": self.distance,
            "equivalent": [scheme.describe() for scheme in self.equivalent],
        }


@dataclass(frozen=True, eq=False)
class ProtocolSearch:
    """Figures of every scheme that was tried.

    published: the figures to reproduce.
    schemes: the tried schemes.
    figures: (len(schemes), len(published)) what they give.
    depth_scale: scale of the predictions.
    images: number of images with truth.
    """

    published: tuple[PublishedFigure, ...]
    schemes: Sequence[Scheme] = field(repr=False)
    figures: Array = field(repr=False)
    depth_scale: DepthScale
    images: int

    @cached_property
    def groups(self) -> list[list[int]]:
        """Groups of schemes that give identical figures, as rows of `figures`, in the order of the grid."""
        groups: dict[tuple[float, ...], list[int]] = {}
        for row, figures in enumerate(self.figures):
            key = tuple(float(f"{value:.9g}") for value in figures)
            groups.setdefault(key, []).append(row)
        return list(groups.values())

    def measure_distance(self, row: int) -> float:
        """Return the largest difference of a scheme from a published figure, in halves of its last digit."""
        differences = [
            abs(value - figure.value) / figure.half_unit
            for value, figure in zip(self.figures[row], self.published, strict=True)
        ]
        return float(max(differences))

    @cached_property
    def nearest(self) -> Match:
        """The scheme whose figures are nearest to the published ones, whether it reproduces them or not."""
        return self._make_match(min(self.groups, key=lambda group: self.measure_distance(group[0])))

    @cached_property
    def matches(self) -> list[Match]:
        """Schemes that reproduce all published figures, nearest first; each stands for all with identical figures."""
        found = [group for group in self.groups if self.measure_distance(group[0]) <= 1 + 1e-6]
        return sorted(map(self._make_match, found), key=lambda match: match.distance)

    def _make_match(self, group: list[int]) -> Match:
        options = {row: self.schemes[row].option(self.depth_scale) for row in group}
        named = [row for row in group if options[row] in PROTOCOLS] or [row for row in group if options[row]]
        first = (named or group)[0]
        values = {figure.metric: float(self.figures[first, k]) for k, figure in enumerate(self.published)}
        others = tuple(self.schemes[row] for row in group if row != first)
        return Match(self.schemes[first], options[first], values, self.measure_distance(first), others)

    @property
    def chance(self) -> float:
        """Expected number of distinct results that reproduce an unrelated figure.

        The figure is drawn evenly from the middle 90 % of what the tried schemes give, each metric separately.
        """
        distinct = self.figures[[group[0] for group in self.groups]]
        low, high = np.quantile(distinct, (0.05, 0.95), axis=0)
        widths = np.array([2 * figure.half_unit for figure in self.published])
        return float(len(distinct) * np.prod(np.minimum(widths / np.maximum(high - low, widths), 1)))

    def to_json(self) -> dict[str, Any]:
        """Return the result as JSON values."""
        return {
            "published": {figure.metric: figure.text for figure in self.published},
            "tried": len(self.schemes),
            "distinct": len(self.groups),
            "expected_by_chance": self.chance,
            "images": self.images,
            "matches": [match.to_json() for match in self.matches],
            "nearest": self.nearest.to_json(),
        }


def search_protocols(
    published: tuple[PublishedFigure, ...],
    maps: Callable[[], Iterable[LabeledMap]],
    depth_scale: DepthScale,
    *,
    count: int | None = None,
    track: TrackProgress = no_progress,
) -> ProtocolSearch:
    """Score predictions in every way of the grid, to find those that reproduce published figures.

    published: the figures, from `parse_published`.
    maps: returns the predictions with their ground truth; it is called twice.
    depth_scale: scale of the predictions.
    count: number of maps, which the progress shows.
    track: shows the progress.

    Raises ProtocolError if no map has ground truth.
    """
    alignments = ALIGNMENTS[depth_scale]
    resizes = choose_resizes(depth_scale)
    parts = list(dict.fromkeys(part for figure in published for part in PARTS[figure.metric]))
    ratios, windows, is_resized = _collect_ratios(
        track(maps(), count, "reading depth"), resizes, depth_scale, SET_MEDIAN in alignments
    )
    resizes = resizes if is_resized else resizes[:1]
    ratios = ratios[:, :, : len(resizes)]
    grid = (*ratios.shape, len(CLAMPS), len(alignments))
    by_image, images = np.zeros((*grid, len(published))), np.zeros((*grid, 1))
    by_pixel, pixels = np.zeros((*grid, len(parts))), np.zeros((*grid, 1))
    shown = 0
    with np.errstate(invalid="ignore", divide="ignore"):
        for labeled in track(maps(), count, "trying protocols"):
            sampled = ImagePixels.sample(labeled, resizes, depth_scale)
            found = sum_image(sampled, windows, alignments, parts, ratios)
            scored = (found.counts > 0)[..., None, None, None]
            means = found.sums / found.counts[..., None, None, None]
            metrics = np.stack([_finish(one.metric, _by_part(means, parts)) for one in published], -1)
            by_image += np.where(scored, metrics, 0)
            images += scored
            by_pixel += np.where(scored, found.sums, 0)
            pixels += found.counts[..., None, None, None]
            shown += bool(scored.any())
        means = by_pixel / pixels
        over_pixels = np.stack([_finish(one.metric, _by_part(means, parts)) for one in published], -1)
        averaged = np.stack([by_image / images, over_pixels])
    schemes, figures = list[Scheme](), list[Array]()
    for index in zip(*np.nonzero(np.isfinite(averaged).all(-1)), strict=True):
        average, window, span, resize, clamp, alignment = map(int, index)
        limits = RANGES[span]
        clamp_m = find_clamp(limits) if CLAMPS[clamp] else None
        schemes.append(
            Scheme(windows[window], limits, clamp_m, resizes[resize], str(alignments[alignment]), AVERAGES[average])
        )
        figures.append(averaged[index])
    if not schemes:
        fix = "pass ground truth with depth at predicted pixels"
        raise ProtocolError("--find-protocol", found="no pixel with truth and prediction", expected="some", fix=fix)
    return ProtocolSearch(published, schemes, np.array(figures), depth_scale, shown)


def choose_resizes(depth_scale: DepthScale) -> list[Resize]:
    """Return the resizes of a depth scale. Affine predictions are resized as they are."""
    if not depth_scale.is_affine:
        return list(RESIZES)
    is_inverse = depth_scale is DepthScale.AFFINE_INVERSE
    return [resize for resize in RESIZES if resize.mode in ("nearest", "truth") or resize.is_inverse == is_inverse]


def _by_part(means: Array, parts: Sequence[str]) -> dict[str, Array]:
    return {part: means[..., number] for number, part in enumerate(parts)}


def _collect_ratios(
    maps: Iterable[LabeledMap], resizes: Sequence[Resize], depth_scale: DepthScale, needs_ratios: bool
) -> tuple[Array, list[str], bool]:
    """Return the median ratio over images (windows, ranges, resizes), the windows of all images, and whether a
    prediction has another size than its truth.
    """
    ratios, windows, is_resized = list[Array](), list(WINDOWS), False
    for labeled in maps:
        window = crop_window(labeled.crop, *labeled.true_m.shape)
        is_resized |= labeled.predicted.shape != (window.height, window.width)
        fitting = list_windows(*labeled.true_m.shape)
        windows = [name for name in windows if name in fitting]
        if not needs_ratios:
            continue
        pixels = ImagePixels.sample(labeled, resizes, depth_scale)
        found = np.full((len(WINDOWS), len(RANGES), len(resizes)), np.nan)
        for (w, name), s in product(enumerate(WINDOWS), range(len(resizes))):
            if name not in fitting:
                continue
            chosen = pixels.inside[s][name]
            true, predicted = pixels.true[s][chosen], pixels.predicted[s][chosen]
            done: dict[tuple[int, int], float] = {}
            for r, limits in enumerate(RANGES):
                low, high = _find_slice(true, limits)
                if low < high:
                    if (low, high) not in done:
                        done[low, high] = float(np.median(true[low:high]) / np.median(predicted[low:high]))
                    found[w, r, s] = done[low, high]
        ratios.append(found)
    rows = [list(WINDOWS).index(name) for name in windows]
    if not ratios:
        return np.ones((len(rows), len(RANGES), len(resizes))), windows, is_resized
    stacked = np.array(ratios)
    known = np.isfinite(stacked).any(0)
    medians = np.where(known, np.nanmedian(np.where(known, stacked, 1.0), axis=0), np.nan)
    return medians[rows], windows, is_resized
