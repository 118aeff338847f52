"""Score depth maps from disk, and how well predicted uncertainty ranks their pixels by error."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stadia.core.errors import DataError, ProtocolError
from stadia.core.types import DepthScale, TrackProgress, no_progress
from stadia.evaluation.io.depth_files import (
    INTEGER_SUFFIXES,
    PNG_PER_METRE,
    DepthFile,
    StackedMap,
    describe_normalization,
    find_depth_files,
    pair_stacks,
    read_depth_map,
)
from stadia.evaluation.io.predictions_folder import Predictions
from stadia.evaluation.protocols import Alignment, Protocol
from stadia.evaluation.score_notes import (
    note_of_bounds,
    note_of_clamp,
    note_of_flips,
    note_of_normalization,
    note_of_order,
    note_of_range,
    note_of_scale,
    note_of_truth,
    note_of_unit,
)
from stadia.evaluation.score_parts import average_parts, read_classes, score_parts
from stadia.geometry.align import fit_scale_and_shift
from stadia.geometry.depth_maps import resize_map
from stadia.geometry.numpy_camera import IMAGE_CROPS, crop_window
from stadia.metrics import METRICS
from stadia.metrics.depth_metrics import scale_ratio
from stadia.metrics.uncertainty_metrics import DEPTH_ERRORS, Sparsification, sparsification, spearman

GroundTruthReaders = Mapping[str, Callable[[], NDArray[np.floating] | None]]
"""Readers of ground truth by name: (H, W) z in metres, 0 = none; None for a frame without ground truth."""

MAX_RANKED_PIXELS = 4096  # number of pixels of an image that are ranked, evenly spread over the scored ones
ASPECT_TOLERANCE = 0.04
"""Largest relative difference between two aspect ratios. 1024x320 for 1242x375 (3.4 %) is a resized whole image;
1216x352 (4.3 % or more) is a crop.
"""


@dataclass(frozen=True, slots=True)
class UncertaintyScore:
    """How well uncertainty ranks pixels by one depth error: of an image, or the mean over images.

    curves: (51,) each.
    spearman: rank correlation of uncertainty and error; None where one of them is constant.
    """

    curves: Sparsification
    spearman: float | None

    def numbers(self) -> dict[str, float | None]:
        """Return `ause`, `aurg`, `ause_of_random`, `below_random` (None where all errors are equal) and `spearman`."""
        curves = self.curves
        areas = {"ause": float(curves.ause), "aurg": float(curves.aurg), "ause_of_random": float(curves.ause_of_random)}
        below = float(curves.below_random) if areas["ause_of_random"] > 0 else None
        return {**areas, "below_random": below, "spearman": self.spearman}

    def to_json(self) -> dict[str, Any]:
        """Return the numbers and the curves: `curve`, `curve_of_oracle`, `curve_of_random`."""
        curves = self.curves
        by_name = {"curve": curves.by_uncertainty, "curve_of_oracle": curves.oracle, "curve_of_random": curves.random}
        return {**self.numbers(), **{name: curve.tolist() for name, curve in by_name.items()}}


UncertaintyScores = Mapping[str, UncertaintyScore]
"""By the name of the error, see `metrics.uncertainty_metrics.DEPTH_ERRORS`."""


@dataclass(frozen=True, slots=True)
class ImageScore:
    """Score of one image.

    scale_ratio: median(truth) / median(prediction) before alignment; None for inverse depth up to scale and shift.
    pixels: number of scored pixels.
    outside_crop: number of pixels that the protocol scores and the prediction's crop does not contain.
    at_clamp: share of scored pixels where the aligned prediction is at either end of the protocol's clamp.
    labeled: share of the image's pixels with ground truth, scored or not.
    order: rank correlation of prediction and truth: 1 for the same order, -1 for the reverse; None where one is
    constant.
    uncertainty: scores of the predicted uncertainty; None without one, or with fewer than 2 scored pixels.
    range_slope: of log(prediction / truth) over log(range / z), where that explains most of it; else None.
    span: range of a prediction that was normalized for looking at; else None.
    parts: metrics and pixels of parts of the image by name, where the protocol has them.
    flip: key of `score_notes.FLIPS` by which the prediction fits the truth; empty where none is needed or helps.
    by_alignment: COMPARED_METRICS by each alignment that the depth scale allows, whatever the protocol's.
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

    def to_json(self) -> dict[str, Any]:
        """Return all fields side by side, and `uncertainty` by error where there is one."""
        names = ("scale_ratio", "pixels", "outside_crop", "at_clamp", "labeled", "order")
        scores = {name: order.numbers() for name, order in (self.uncertainty or {}).items()}
        fields = {name: getattr(self, name) for name in names} | ({"uncertainty": scores} if scores else {})
        fields |= {"parts": {name: dict(part) for name, part in self.parts.items()}} if self.parts else {}
        return {"name": self.name, **self.metrics, **fields}


@dataclass(frozen=True, slots=True)
class DepthScore:
    """Means over images, and the score of every image.

    without_truth: names of images without a scored pixel. They enter no mean.
    notes: remarks for the reader of the numbers.
    factors: integers a metre of `depth_factor` and `reference_factor`, of those whose files hold integers.
    """

    protocol: str
    depth_scale: DepthScale
    alignment: Alignment
    per_image: tuple[ImageScore, ...]
    without_truth: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    factors: Mapping[str, float] = field(default_factory=dict)

    @property
    def metrics(self) -> dict[str, float]:
        """Means over images. Each image has the same weight, whatever its number of pixels."""
        return {
            name: float(np.mean([image.metrics[name] for image in self.per_image]))
            for name in self.per_image[0].metrics
        }

    @property
    def _scale_ratios(self) -> list[float]:
        return [image.scale_ratio for image in self.per_image if image.scale_ratio is not None]

    @property
    def scale_ratio_median(self) -> float | None:
        """Median over images of median(truth) / median(prediction)."""
        return float(np.median(self._scale_ratios)) if self._scale_ratios else None

    @property
    def scale_ratio_spread(self) -> float | None:
        """Standard deviation of the ratio over images, divided by its median."""
        ratios = self._scale_ratios
        return float(np.std(np.divide(ratios, np.median(ratios)))) if ratios else None

    @property
    def by_alignment(self) -> dict[str, dict[str, float]]:
        """Means over images of COMPARED_METRICS by alignment: raw and aligned scores side by side."""
        first = self.per_image[0].by_alignment
        return {
            alignment: {
                name: float(np.mean([image.by_alignment[alignment][name] for image in self.per_image]))
                for name in metrics
            }
            for alignment, metrics in first.items()
        }

    @property
    def uncertainty(self) -> UncertaintyScores:
        """Uncertainty scores by error: means over the images that have one; empty without any."""
        scored = [image.uncertainty for image in self.per_image if image.uncertainty]
        return (
            {name: _average_uncertainty([scores[name] for scores in scored]) for name in DEPTH_ERRORS} if scored else {}
        )

    @property
    def parts(self) -> dict[str, dict[str, float]]:
        """Scores of the parts of images by name: means over the images that have the part; empty without any."""
        return average_parts(image.parts for image in self.per_image)

    def summary(self) -> dict[str, Any]:
        """Return the metrics, the number of images, the scale ratio, the protocol and `notes` as one JSON object.

        If any image has an uncertainty, add `uncertainty` by error and the number of images without one.
        """
        uncertainty = {name: order.numbers() for name, order in self.uncertainty.items()}
        missing = sum(image.uncertainty is None for image in self.per_image)
        return {
            "protocol": self.protocol,
            "depth_scale": str(self.depth_scale),
            "alignment": str(self.alignment),
            **self.metrics,
            "scale_ratio_median": self.scale_ratio_median,
            "scale_ratio_spread": self.scale_ratio_spread,
            **self.factors,
            "images": len(self.per_image),
            "images_without_truth": len(self.without_truth),
            **({"images_without_uncertainty": missing, "uncertainty": uncertainty} if uncertainty else {}),
            **({"by_alignment": compared} if (compared := self.by_alignment) else {}),
            **({"by": parts} if (parts := self.parts) else {}),
            "notes": list(self.notes),
        }

    def to_json(self) -> dict[str, Any]:
        """Return the content of a score file: means, all images, and the mean curves of `uncertainty`."""
        head = self.summary()
        if "uncertainty" in head:
            head["uncertainty"] = {name: order.to_json() for name, order in self.uncertainty.items()}
        metrics = {name: head.pop(name) for name in self.metrics}
        images = [image.to_json() for image in self.per_image]
        return {**head, "metrics": metrics, "without_truth": list(self.without_truth), "per_image": images}


class GroundTruthFolder(Mapping[str, Callable[[], NDArray[np.floating]]]):
    """Readers of a folder of ground truth by name, and what reading has changed.

    factor: integers a metre in PNG and TIFF, and in arrays of integers.
    without_number: number of files read so far with NaN, infinite or negative values, which are taken as none.
    """

    def __init__(self, folder: Path, factor: float) -> None:
        self.folder, self.factor, self.without_number = Path(folder), factor, 0
        self.files: Mapping[str, DepthFile] = find_depth_files(folder)

    def with_files(self, files: Mapping[str, DepthFile]) -> GroundTruthFolder:
        """Return the same ground truth under other names."""
        named = copy.copy(self)
        named.files = files
        return named

    def __getitem__(self, name: str) -> Callable[[], NDArray[np.floating]]:
        return partial(self._read, self.files[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self.files)

    def __len__(self) -> int:
        return len(self.files)

    def _read(self, path: DepthFile) -> NDArray[np.floating]:
        true_m = read_depth_map(path, png_per_metre=self.factor, is_truth=True)
        wrong = ~np.isfinite(true_m) | (true_m < 0)
        if wrong.any():
            self.without_number += 1
            true_m = np.where(wrong, 0, true_m)
        return true_m

    @property
    def notes(self) -> list[str]:
        """Return notes on what was read."""
        if not self.without_number:
            return []
        count = f"{self.without_number} of {len(self)} maps of {self.folder}"
        return [f"{count} hold NaN, infinite or negative depth, which is taken as no ground truth"]


def open_ground_truth_folder(folder: Path, protocol: Protocol, factor: float | None = None) -> GroundTruthFolder:
    """Open a folder of ground truth: PNG, TIFF in the protocol's unit, PFM, EXR, .npy, .npz (`depth_m` or one array).

    factor: integers a metre; None for the protocol's unit.
    """
    return GroundTruthFolder(folder, factor or protocol.png_per_metre)


def interpolate_depth(depth: Tensor, height: int, width: int) -> Tensor:
    """Resize (h, w) depth to (H, W), bilinearly in inverse depth (align_corners=False), as Monodepth2's evaluation.

    Interpolated depth would create a surface far behind the middle of an edge. A pixel of a hole (0) or of infinity
    alone becomes 0, infinity or NaN, never a number between.
    """
    if depth.shape == (height, width):
        return depth
    return 1 / resize_map((1 / depth)[None, None], height, width)[0, 0]


def _sample_prediction(
    name: str, values: Tensor, mask: Tensor, depth_scale: DepthScale, span: str | None = None
) -> Tensor:
    """Return the prediction at the N scored pixels, (1, N), resized to the truth. Raise ProtocolError for holes.

    Infinite metres are clamped as far depth, unless half of the scored pixels are. Depth up to scale must be finite.
    """
    if depth_scale.is_affine:  # may be negative: only its order counts
        scored = resize_map(values[None, None], *mask.shape)[0, 0][mask]
        complete = scored.isfinite()
    else:
        scored = interpolate_depth(values.clamp(min=0), *mask.shape)[mask]
        beyond = scored.isposinf()
        complete = (scored > 0) & ~(beyond & (depth_scale is not DepthScale.METRES or 2 * beyond.sum() >= len(scored)))
    if holes := int((~complete).sum()):
        fix = "fill the holes of the prediction"
        if span is not None:
            fix = f"the map spans exactly {span}, as images to look at do: store the network's depth"
        found = f"no finite positive depth at {holes} of {len(scored)} scored pixels"
        raise ProtocolError(name, found=found, expected="a prediction at every scored pixel", fix=fix)
    return scored[None]


COMPARED_METRICS = ("abs_rel", "rmse", "d1")
"""Metrics that stand side by side by alignment."""

COMPARED_ALIGNMENTS: Mapping[DepthScale, tuple[Alignment, ...]] = {
    **dict.fromkeys(
        (DepthScale.METRES, DepthScale.UP_TO_SCALE), (Alignment.NONE, Alignment.MEDIAN, Alignment.SCALE_SHIFT)
    ),
    DepthScale.AFFINE_INVERSE: (Alignment.SCALE_SHIFT,),
    DepthScale.AFFINE_DEPTH: (Alignment.SCALE_SHIFT_DEPTH,),
}
"""What can be fitted to depth of each scale. NONE takes depth up to scale as metres."""


def _compare_alignments(
    predicted: Tensor, true_m: Tensor, depth_scale: DepthScale, clamp_m: tuple[float, float]
) -> dict[str, dict[str, float]]:
    """Return COMPARED_METRICS of (1, N) pixels by alignment."""
    every = torch.ones_like(true_m, dtype=torch.bool)
    compared = {}
    for alignment in COMPARED_ALIGNMENTS[depth_scale]:
        depth, _ = _align(predicted, true_m, depth_scale, alignment, clamp_m)
        compared[str(alignment)] = {name: float(METRICS.load(name)(depth, true_m, every)) for name in COMPARED_METRICS}
    return compared


def _align(
    predicted: Tensor, true_m: Tensor, depth_scale: DepthScale, alignment: Alignment, clamp_m: tuple[float, float]
) -> tuple[Tensor, float | None]:
    """Align and clamp (1, N) pixels. Return depth in metres, and the scale ratio before alignment."""
    near, far = clamp_m
    if alignment is Alignment.SCALE_SHIFT_DEPTH:
        scale, shift = fit_scale_and_shift(predicted, true_m)
        return (scale[..., None] * predicted + shift[..., None]).clamp(near, far), None
    if alignment is Alignment.SCALE_SHIFT:
        predicted = predicted if depth_scale is DepthScale.AFFINE_INVERSE else 1 / predicted
        scale, shift = fit_scale_and_shift(predicted, 1 / true_m)
        return 1 / (scale[..., None] * predicted + shift[..., None]).clamp(1 / far, 1 / near), None
    ratio = scale_ratio(predicted, true_m, torch.ones_like(true_m, dtype=torch.bool))
    depth = predicted * ratio if alignment is Alignment.MEDIAN else predicted
    return depth.clamp(near, far), float(ratio)


MAX_SCORED_PIXELS = 6144 * 4096
"""Largest map: ETH3D's images have up to 6048x4032 pixels. Scoring takes some 60 bytes a pixel."""


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
    """Score one image in float64. Return None where the protocol scores none of its pixels.

    Args:
        predicted: (h, w), of any size: depth or inverse depth, by `depth_scale`.
        true_m: (H, W) z in metres, 0 = none.
        crop: row of `geometry.numpy_camera.IMAGE_CROPS`, the window of the image that the prediction covers. The
            prediction is resized to it, and scored where the protocol's mask and the window overlap.
        log_uncertainty: (h, w) as `predicted`, larger for less certain pixels.
        factor: integers a metre in the file of the prediction.
        classes: (H, W) integers, for a protocol that scores by class.

    Raises ProtocolError where a scored pixel has no prediction, or a map has more than MAX_SCORED_PIXELS.

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
    whole = torch.from_numpy(np.asarray(true_m, np.float64))
    values = torch.from_numpy(np.asarray(predicted, np.float64))
    window, whole_mask = crop_window(crop, *whole.shape), protocol.mask(whole)
    true, mask = window.cut(whole), window.cut(whole_mask)
    if not mask.any():
        return None
    scored = true[mask][None]  # (1, N): on KITTI 3 to 20 % of the pixels
    outside, labeled = int(whole_mask.sum()) - scored.numel(), float((whole > 0).double().mean())
    span = describe_normalization(np.asarray(predicted), factor)
    found = _sample_prediction(name, values, mask, depth_scale, span)
    slope = None if depth_scale.is_affine else fit_range_slope(found[0], scored[0], mask)
    ranked = 1 / scored[0] if depth_scale is DepthScale.AFFINE_INVERSE else scored[0]
    order = rank_correlation(found[0], ranked)
    flip = "" if order is None or order > FLIPPED_BELOW else _find_flip(values, mask, ranked)
    del whole, true, values, whole_mask  # of large maps hundreds of megabytes
    depth, ratio = _align(found, scored, depth_scale, protocol.alignment(depth_scale), protocol.clamp_m)
    compared = _compare_alignments(found, scored, depth_scale, protocol.clamp_m)
    every = torch.ones_like(scored, dtype=torch.bool)
    metrics = {metric: float(METRICS.load(metric)(depth, scored, every)) for metric in protocol.metrics}
    parts = {}
    if protocol.by:
        cut = None if classes is None else window.cut(classes)
        parts = score_parts(depth, scored, mask, by=protocol.by, metrics=protocol.metrics, classes=cut)
    near, far = protocol.clamp_m
    at_clamp = float(((depth <= near) | (depth >= far)).double().mean())
    uncertainty = None
    if log_uncertainty is not None:
        sampled = _sample_uncertainty(name, log_uncertainty, predicted.shape, mask)
        uncertainty = _score_uncertainty(depth, scored, sampled)
    return ImageScore(
        name,
        metrics,
        ratio,
        scored.numel(),
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
    )


FLIPPED_BELOW, FLIPPED_FROM = 0.6, 0.9
"""Rank correlation with the truth below which flips are tried, and from which one fits. Road scenes fit mirrored too,
with .9: there the correlation as given is higher."""


def _find_flip(values: Tensor, mask: Tensor, ranked: Tensor) -> str:
    """Return the key of FLIPS by which the ranks of a map (h, w) fit those of the N scored pixels; "" for none."""
    orders = {}
    for name, axes in (("rows", (0,)), ("columns", (1,)), ("both", (0, 1))):
        sampled = resize_map(values.flip(axes)[None, None], *mask.shape)[0, 0][mask]
        orders[name] = (rank_correlation(sampled, ranked) or 0.0) if sampled.isfinite().all() else 0.0
    best = max(orders, key=lambda name: orders[name])
    return best if orders[best] >= FLIPPED_FROM else ""


def _sample_uncertainty(
    name: str, log_uncertainty: NDArray[np.floating], shape: tuple[int, ...], mask: Tensor
) -> Tensor:
    """Return log Sigma (h, w) at the N scored pixels of a mask (H, W), (1, N), resized bilinearly to the truth.

    Raises ProtocolError where the shapes differ, or a scored pixel has no finite value.
    """
    if log_uncertainty.shape != shape:
        found = f"log uncertainty of shape {log_uncertainty.shape}"
        raise ProtocolError(name, found=found, expected=f"that of depth, {shape}", fix="predict again")
    values = torch.from_numpy(np.asarray(log_uncertainty, np.float64))
    scored = resize_map(values[None, None], *mask.shape)[0, 0][mask]
    if wrong := int((~scored.isfinite()).sum()):
        found = f"log uncertainty that is not finite at {wrong} of {len(scored)} scored pixels"
        raise ProtocolError(name, found=found, expected="a finite number at every one", fix="predict again")
    return scored[None]


def _score_uncertainty(depth_m: Tensor, true_m: Tensor, uncertainty: Tensor) -> UncertaintyScores | None:
    """Score the (1, N) scored pixels of one image, depth aligned. Return None for fewer than 2 pixels."""
    if true_m.numel() < 2:
        return None
    every = torch.ones_like(true_m, dtype=torch.bool)
    orders = {}
    for name, error in DEPTH_ERRORS.items():
        rank = spearman(uncertainty, error.of_pixel(depth_m, true_m))
        curves = sparsification(depth_m, true_m, uncertainty, every, name)
        orders[name] = UncertaintyScore(curves, None if np.isnan(rank) else rank)
    return orders


def _average_uncertainty(scores: Sequence[UncertaintyScore]) -> UncertaintyScore:
    """Return means over images of the curves, and of Spearman's where it exists."""
    curves = [[getattr(score.curves, name) for score in scores] for name in ("by_uncertainty", "oracle", "random")]
    ranks = [score.spearman for score in scores if score.spearman is not None]
    mean = Sparsification(*(torch.stack(of_images).mean(0) for of_images in curves))
    return UncertaintyScore(mean, float(np.mean(ranks)) if ranks else None)


def _check_view(name: str, shape: tuple[int, ...], truth: tuple[int, ...], predictions: Predictions) -> None:
    """Refuse a map whose shape cannot cover the truth, or its crop: pixels would be compared at wrong places."""
    crop, record = predictions.crop, predictions.record
    image_size = record.image_size if record else None
    if record is not None and crop != "none":  # a stadia network may resize the crop to any shape
        if image_size not in (None, truth):
            fix = "use ground truth at the image's size"
            found = f"crop '{crop}' of an image of {record.image_size}, for ground truth of {truth} (height, width)"
            raise ProtocolError(name, found=found, expected="equal sizes, since a crop is defined in pixels", fix=fix)
        return
    window, (height, width) = crop_window(crop, *truth), image_size or shape
    if abs((width / height) / (window.width / window.height) - 1) > ASPECT_TOLERANCE:
        part = "" if crop == "none" else f", of which crop '{crop}' is {window.width}x{window.height}"
        like = [name for name, size in IMAGE_CROPS.items() if size == (height, width)]
        fix = (
            f"pass --crop {like[0]} if it shows this part of the image"
            if like and crop == "none"
            else "bring it to the size of the ground truth: undo the crop, or resize it in inverse depth"
        )
        found = f"a prediction of {width}x{height} for ground truth of {truth[1]}x{truth[0]}{part}"
        raise ProtocolError(name, found=found, expected=f"aspect ratios within {ASPECT_TOLERANCE:.0%}", fix=fix)


def pair_with_truth(predictions: Predictions, truth: GroundTruthFolder) -> tuple[Predictions, GroundTruthFolder, str]:
    """Return both with one set of names, as of `pair_stacks`, and a note where one is a file of several maps.

    Two files of one map belong together, whatever their names.
    """
    if predictions.folder.is_file() and truth.folder.is_file() and len(predictions.files) == len(truth.files) == 1:
        (file,), (name,) = predictions.files.values(), truth.files
        return replace(predictions, files={name: file}), truth, ""
    files, truth_files, order = pair_stacks(predictions.files, truth.files)
    return replace(predictions, files=files), truth.with_files(truth_files), order


def score_depth(
    predictions: Predictions,
    truth: GroundTruthReaders,
    protocol: Protocol,
    *,
    classes: Path | None = None,
    track: TrackProgress = no_progress,
) -> DepthScore:
    """Score a folder of predictions. truth: by the same names, for example from `open_ground_truth_folder`.

    classes: folder of PNG with a class a pixel of the truth, by the same names, for a protocol that scores by class.

    Where either is one file of several maps, its maps take the names of the other side in their order.

    Raises ProtocolError where the protocol refuses the scale, two shapes differ in view, or nothing can be scored;
    DataError with the name of a missing or wrong file.
    """
    notes = []
    if isinstance(truth, GroundTruthFolder):
        predictions, truth, order = pair_with_truth(predictions, truth)
        notes += [order] if order else []
    if extra := len(set(predictions.files) - set(truth)):
        notes.append(f"not scored, no ground truth: {extra} of {len(predictions.files)} predictions")
    if predictions.record is None:
        cut = "" if predictions.crop == "none" else f", of the crop '{predictions.crop}'"
        notes.append(f"no predictions.json in {predictions.folder}: taken as {predictions.depth_scale}{cut}")
    factors = _find_factors(predictions, truth, protocol)
    scores = list(track(score_images(predictions, truth, protocol, classes), len(truth), "scoring"))
    notes += truth.notes if isinstance(truth, GroundTruthFolder) else []
    notes += [f"integers of --{name.partition('_')[0]} are read as value / {per:g} m" for name, per in factors.items()]
    return collect_scores(scores, predictions.depth_scale, protocol, notes, factors)


def _find_factors(predictions: Predictions, truth: GroundTruthReaders, protocol: Protocol) -> dict[str, float]:
    """Return integers a metre of the files of other programs that may hold integers."""
    factors = {}
    if predictions.record is None and _has_integers(predictions.files):
        factors["depth_factor"] = predictions.integers_per_metre(protocol.png_per_metre)
    if isinstance(truth, GroundTruthFolder) and _has_integers(truth.files):
        factors["reference_factor"] = truth.factor
    return factors


def _has_integers(files: Mapping[str, DepthFile]) -> bool:
    return any(
        file.is_integer if isinstance(file, StackedMap) else file.suffix.lower() in INTEGER_SUFFIXES
        for file in files.values()
    )


def score_images(
    predictions: Predictions, truth: GroundTruthReaders, protocol: Protocol, classes: Path | None = None
) -> Iterator[tuple[str, ImageScore | None]]:
    """Yield name and score of each ground truth, one image at a time; None where no pixel is scored.

    Raises as `score_depth`; the scale and missing predictions are checked before the first file is read.
    """
    protocol.alignment(predictions.depth_scale)
    if missing := [name for name in truth if name not in predictions.files]:
        existing = next(iter(predictions.files))
        count = f"{len(missing)} of {len(truth)} ground truths"
        fix = "rename the files, or predict the missing ones"
        found = f"no prediction for {count}, the first '{missing[0]}' (there is '{existing}')"
        raise DataError(predictions.folder, found=found, expected="a prediction with the same stem for each", fix=fix)
    for name, read_truth in truth.items():
        true_m = read_truth()
        if true_m is None:
            yield name, None
            continue
        predicted, file = predictions.read(name, png_per_metre=protocol.png_per_metre), str(predictions.files[name])
        _check_view(file, predicted.shape, true_m.shape, predictions)
        uncertainty = predictions.log_uncertainty(name)
        of_class = None if classes is None else read_classes(classes, name, true_m.shape)
        score = score_image(
            file,
            predicted,
            true_m,
            predictions.depth_scale,
            protocol,
            predictions.crop,
            uncertainty,
            predictions.integers_per_metre(protocol.png_per_metre),
            of_class,
        )
        yield name, score and replace(score, name=name)


def collect_scores(
    scores: Iterable[tuple[str, ImageScore | None]],
    depth_scale: DepthScale,
    protocol: Protocol,
    notes: Sequence[str] = (),
    factors: Mapping[str, float] | None = None,
) -> DepthScore:
    """Gather scored images and their notes. Raise ProtocolError where no image is scored.

    factors: as of `DepthScore`.
    """
    every, notes = list(scores), list(notes)
    without = tuple(name for name, score in every if score is None)
    if len(without) == len(every):
        fix = "check the folder and the unit of its ground truth"
        found = "no ground truth between {:g} and {:g} m in {} images".format(*protocol.scored_m, len(every))
        raise ProtocolError(f"protocol '{protocol.name}'", found=found, expected="at least one such pixel", fix=fix)
    if without:
        count = f"{len(without)} of {len(every)} images"
        notes.append(f"no pixel to score in {count}, which enter no mean (the first '{without[0]}')")
    alignment = protocol.alignment(depth_scale)
    if alignment is not Alignment.NONE:
        fitted = f"{alignment} of every image fitted to the truth first (depth scale: {depth_scale})"
        notes.append(f"not scored in metres: {fitted}")
    images = tuple(score for _, score in every if score is not None)
    if outside := sum(image.outside_crop for image in images):
        share = outside / (outside + sum(image.pixels for image in images))
        what = f"{share:.1%} of the pixels that {protocol.name} scores lie outside the predictions' crop"
        notes.append(f"{what}, and are left out: not comparable with scores of whole images")
    if protocol.images not in (None, len(images)):
        expected = f"{protocol.name} means {protocol.images}"
        notes.append(f"not comparable with published figures: of {len(images)} images, where {expected}")
    notes += note_of_truth(float(np.median([image.labeled for image in images])), protocol)
    notes += note_of_clamp({image.name: image.at_clamp for image in images})
    notes += note_of_flips([image.flip for image in images])
    notes += note_of_order([image.order for image in images if image.order is not None], depth_scale)
    if not depth_scale.is_affine:
        notes += note_of_normalization([image.span for image in images])
        notes += note_of_range([image.range_slope for image in images])
    score = DepthScore(protocol.name, depth_scale, alignment, images, without, factors=dict(factors or {}))
    notes += note_of_bounds(score.metrics)
    ratio, spread = score.scale_ratio_median, score.scale_ratio_spread
    if depth_scale is DepthScale.METRES and ratio is not None and spread is not None and len(images) > 1:
        notes += note_of_unit(ratio, spread, score.factors) or note_of_scale(ratio, spread, alignment, score.factors)
    return replace(score, notes=tuple(notes))


def rank_correlation(predicted: Tensor, true: Tensor) -> float | None:
    """Return Spearman's correlation of (N,) pixels: 1 for the same order of near and far, -1 for the reverse.

    No scale or shift changes it. None where one of the two is constant.
    """
    step = max(len(true) // MAX_RANKED_PIXELS, 1)
    correlation = spearman(predicted[::step], true[::step])
    return None if np.isnan(correlation) else correlation


RANGE_FOCAL_LENGTHS = (0.45, 0.55, 0.7, 0.9, 1.15)
"""Focal lengths over the width of an image, from 96 to 47 degrees, that are tried."""

MIN_RANGE_EXPLAINED = 0.6  # share of the variance of log(prediction / truth) that range instead of z explains
MIN_RANGE_PIXELS = 200
MIN_RANGE_SPREAD = 0.01  # standard deviation of log(prediction / truth) from which it is explained


def fit_range_slope(predicted: Tensor, true_m: Tensor, mask: Tensor) -> float | None:
    """Return the slope of log(prediction / truth) over log(range / z) where that explains it; else None.

    1 where predictions are distances along the ray and the truth is z, -1 for the reverse.

    Args:
        predicted, true_m: (N,) pixels of the mask, in its order.
        mask: (H, W) bool, N of them true.
    """
    step = max(len(true_m) // MAX_RANKED_PIXELS, 1)
    y = (predicted[::step] / true_m[::step]).log()
    if len(y) < MIN_RANGE_PIXELS or not y.isfinite().all() or not (spread := float(y.std())) > MIN_RANGE_SPREAD:
        return None
    height, width = mask.shape
    rows, columns = np.divmod(np.flatnonzero(mask.numpy())[::step], width)
    squared = torch.from_numpy(((columns - width / 2) ** 2 + (rows - height / 2) ** 2) / width**2)
    best = (0.0, 0.0)
    for focal in RANGE_FOCAL_LENGTHS:
        x = (1 + squared / focal**2).log() / 2
        covariance = float(((x - x.mean()) * (y - y.mean())).mean())
        if (deviation := float(x.std())) > 0:
            best = max(best, ((covariance / (deviation * spread)) ** 2, covariance / deviation**2))
    return best[1] if best[0] >= MIN_RANGE_EXPLAINED else None


def find_extreme_images(score: DepthScore, count: int) -> tuple[list[str], list[str]]:
    """Return the names of the images with the least and the largest first metric, each at most `count`."""
    metric = next(iter(score.per_image[0].metrics))
    ordered = sorted(score.per_image, key=lambda image: image.metrics[metric])
    names = [image.name for image in ordered]
    best = names[: min(count, (len(names) + 1) // 2)]
    return best, [name for name in reversed(names[-count:]) if name not in best]


def measure_error_map(
    predictions: Predictions, name: str, true_m: NDArray[np.floating], protocol: Protocol
) -> NDArray[np.float64]:
    """Return |prediction - truth| / truth (H, W) at the scored pixels, aligned as the score is; NaN elsewhere."""
    true = torch.from_numpy(np.asarray(true_m, np.float64))
    predicted = predictions.read(name, png_per_metre=protocol.png_per_metre)
    values = torch.from_numpy(np.asarray(predicted, np.float64))
    window, errors = crop_window(predictions.crop, *true.shape), torch.full_like(true, torch.nan)
    mask = window.cut(protocol.mask(true))
    scored = window.cut(true)[mask][None]
    found = _sample_prediction(name, values, mask, predictions.depth_scale)
    alignment = protocol.alignment(predictions.depth_scale)
    depth, _ = _align(found, scored, predictions.depth_scale, alignment, protocol.clamp_m)
    window.cut(errors)[mask] = ((depth - scored).abs() / scored)[0]
    return errors.numpy()
