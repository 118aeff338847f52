"""Score folders of depth maps: single images, their means, notes, and the baselines that a network has to beat."""

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError, ProtocolError
from stadia.core.progress import TrackProgress, no_progress
from stadia.core.types import DepthScale, Predictor, Recording
from stadia.data.frame_preparation import frame_name
from stadia.evaluation.depth_hypotheses import MAX_HYPOTHESIS_IMAGES, Pair, explain_depth, is_plausible
from stadia.evaluation.image_score import ImageScore, UncertaintyScores, average_uncertainty, score_image
from stadia.evaluation.predictions_folder import Predictions
from stadia.evaluation.protocols import (
    MIN_SCALE_RATIO,
    Alignment,
    Protocol,
    average_parts,
    find_gain,
    measure_row_order,
    note_of_clamp,
    note_of_disparity,
    note_of_flips,
    note_of_infinity,
    note_of_normalization,
    note_of_order,
    note_of_range,
    note_of_scale,
    note_of_truth,
    note_of_unit,
    read_classes,
)
from stadia.geometry.cameras import IMAGE_CROPS, crop_window
from stadia.io.depth_files import (
    DEPTH_KEYS,
    GREATEST_INTEGER,
    DepthFile,
    describe_stored_unit,
    find_depth_files,
    pair_stacks,
    read_depth_map,
    stores_integers,
)
from stadia.metrics.depth_metrics import DEPTH_ERRORS

GroundTruthReaders = Mapping[str, Callable[[], NDArray[np.floating] | None]]
"""Functions that read the true depth of an image, by the name of the image.

Each returns (H, W) z in metres with 0 for unknown depth, or None for an image without true depth.
"""


class GroundTruthFolder(Mapping[str, Callable[[], NDArray[np.floating]]]):
    """Functions that read the ground truth of a folder, by name.

    factor: integers per metre of integer maps.
    without_number: number of files with values that are not finite or negative.
    cut_off: for each map that was read, the share of its pixels that are cut off at the largest integer.
    row_orders: for each map that was read, the rank correlation of the median of a row with the row's number.
    """

    def __init__(self, folder: Path, factor: float) -> None:
        self.folder, self.factor, self.without_number = Path(folder), factor, 0
        self.cut_off: list[float] = []
        self.row_orders: list[float] = []
        self.files: Mapping[str, DepthFile] = find_depth_files(folder)

    def with_files(self, files: Mapping[str, DepthFile]) -> "GroundTruthFolder":
        """Return the same ground truth with other names."""
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
        infinite = np.isposinf(true_m)
        cut_off = infinite & (bool(infinite.any()) and stores_integers(path))
        self.cut_off.append(measure_cut_off(true_m, cut_off, GREATEST_INTEGER / self.factor))
        wrong = ~np.isfinite(true_m) | (true_m < 0)
        if wrong.any():
            self.without_number += bool((wrong & ~cut_off).any())
            true_m = np.where(wrong, 0, true_m)
        self.row_orders.append(measure_row_order(true_m))
        return true_m

    @property
    def notes(self) -> list[str]:
        """Notes on problems with the files that were read."""
        notes = []
        if self.without_number:
            count = f"{self.without_number} of {len(self)} maps of {self.folder}"
            notes.append(f"{count} have NaN, infinite or negative depth, which counts as unknown")
        if self.cut_off and (share := float(np.mean(self.cut_off))) >= MIN_CUT_OFF:
            what = f"{share:.0%} of the pixels of {self.folder} are {GREATEST_INTEGER}, where depth was cut off"
            limit = f"at {GREATEST_INTEGER / self.factor:.4g} m"
            notes.append(f"{what} {limit}: they are not scored. Fix: store fewer integers per metre, or metres as .npy")
        return notes


def measure_cut_off(true_m: NDArray[np.floating], cut_off: NDArray[np.bool_], limit_m: float) -> float:
    """Return the share of a map that is cut off at the largest integer; 0 if nothing comes near it, as with a filler.

    true_m: (H, W) depth, metres.
    cut_off: (H, W) whether the file has the largest integer.
    limit_m: depth of that integer, metres.
    """
    below = true_m[np.isfinite(true_m)]
    return float(cut_off.mean()) if below.max(initial=0) > MIN_OF_LIMIT * limit_m else 0.0


MIN_CUT_OFF = 0.02
"""Share of the pixels of ground truth at the largest integer from which it is named."""

MIN_OF_LIMIT = 0.98
"""Largest depth below the limit, over it, of a map that was cut off there: surfaces go on beyond."""


def open_ground_truth_folder(folder: Path, protocol: Protocol, factor: float | None = None) -> GroundTruthFolder:
    """Open a folder of ground truth depth maps.

    folder: path of the folder.
    protocol: the rules for scoring depth, which set the default unit of integer maps.
    factor: integers per metre; None takes the unit of the protocol.
    """
    return GroundTruthFolder(folder, factor or protocol.png_per_metre)


def pair_with_truth(predictions: Predictions, truth: GroundTruthFolder) -> tuple[Predictions, GroundTruthFolder, str]:
    """Return predictions and ground truth with equal names, and a note if names were changed.

    See `pair_stacks`.
    """
    if predictions.folder.is_file() and truth.folder.is_file() and len(predictions.files) == len(truth.files) == 1:
        (file,), (name,) = predictions.files.values(), truth.files
        return replace(predictions, files={name: file}), truth, ""
    files, truth_files, order = pair_stacks(predictions.files, truth.files)
    return replace(predictions, files=files), truth.with_files(truth_files), order


ASPECT_TOLERANCE = 0.04  # 1024x320 for 1242x375 (3.4 %) is resized; 1216x352 (4.3 % or more) is a crop


@dataclass(frozen=True, slots=True)
class DepthScore:
    """Hold the depth scores of a set of images: the score of each image; the means are computed from them.

    protocol: name of the evaluation protocol, such as "kitti-eigen".
    depth_scale: scale of the predicted depth (metres, up to scale, ...).
    alignment: what was fitted to the ground truth before depths were compared.
    per_image: score of each image with scored pixels.
    without_truth: names of the images without a scored pixel.
    notes: sentences about suspicious results, such as depth in a wrong unit.
    factors: integers per metre of the files of "predictions" and of ground truth, where files contain integers.
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
        """Return the means of the metrics over images, with equal weights."""
        return {
            name: float(np.mean([image.metrics[name] for image in self.per_image]))
            for name in self.per_image[0].metrics
        }

    @property
    def _scale_ratios(self) -> list[float]:
        return [image.scale_ratio for image in self.per_image if image.scale_ratio is not None]

    @property
    def scale_ratio_median(self) -> float | None:
        """Return the median over images of median(true depth) / median(predicted depth), 1 for the right scale.

        The result is None if predictions have an unknown shift, because such a ratio has no meaning then.
        """
        return float(np.median(self._scale_ratios)) if self._scale_ratios else None

    @property
    def scale_ratio_spread(self) -> float | None:
        """Return how much the scale of depth varies between images, without unit; 0 for the same scale in all images.

        It is the standard deviation over images of median(true depth) / median(predicted depth), after these ratios
        are divided by their median. The result is None if predictions have an unknown shift.
        """
        ratios = self._scale_ratios
        return float(np.std(np.divide(ratios, np.median(ratios)))) if ratios else None

    @property
    def by_alignment(self) -> dict[str, dict[str, float]]:
        """Return AbsRel, RMSE and d1 as means over images, for each kind of alignment to the ground truth.

        The result is empty if no alignments were compared.
        """
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
        """Return the scores of the uncertainty by the depth error ("abs_rel", "rmse", "d1") that it should predict.

        They are means over the images that have an uncertainty. The result is empty without such images.
        """
        scored = [image.uncertainty for image in self.per_image if image.uncertainty]
        return (
            {name: average_uncertainty([scores[name] for scores in scored]) for name in DEPTH_ERRORS} if scored else {}
        )

    @property
    def parts(self) -> dict[str, dict[str, float]]:
        """Return the scores of the parts of images, by name: means over the images that show the part."""
        return average_parts(image.parts for image in self.per_image)

    def summary(self) -> dict[str, Any]:
        """Return the metrics, the number of images, the scale ratio, the protocol and the notes."""
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
        """Return the content of a score file."""
        head = self.summary()
        if "uncertainty" in head:
            head["uncertainty"] = {name: order.to_json() for name, order in self.uncertainty.items()}
        metrics = {name: head.pop(name) for name in self.metrics}
        images = [image.to_json() for image in self.per_image]
        return {**head, "metrics": metrics, "without_truth": list(self.without_truth), "per_image": images}


def score_depth(
    predictions: Predictions,
    truth: GroundTruthReaders,
    protocol: Protocol,
    *,
    classes: Path | None = None,
    track: TrackProgress = no_progress,
) -> DepthScore:
    """Score depth predictions against the ground truth of the same names.

    If one side is a file with several maps, its maps take the names of the other side.

    predictions: an opened folder of predictions.
    truth: functions that read the ground truth, by name.
    protocol: the rules for scoring depth (alignment, crop, depth limits).
    classes: folder of PNG class maps. A protocol that scores by class needs it.
    track: wraps loops to show their progress.

    Raises ProtocolError if the protocol cannot score the predictions, and DataError for a wrong file.
    """
    notes = []
    if isinstance(truth, GroundTruthFolder):
        predictions, truth, order = pair_with_truth(predictions, truth)
        notes += [order] if order else []
    if extra := len(set(predictions.files) - set(truth)):
        notes.append(f"not scored, no ground truth: {extra} of {len(predictions.files)} predictions")
    if predictions.record is None:
        cut = "" if predictions.crop == "none" else f", of the crop '{predictions.crop}'"
        notes.append(f"no predictions.json in {predictions.folder}: read as {predictions.depth_scale}{cut}")
    factors = _find_factors(predictions, truth, protocol)
    try:
        scores = list(track(score_images(predictions, truth, protocol, classes), len(truth), "scoring"))
    except ProtocolError as error:
        explained = explain_depth(_read_pairs(predictions, truth, protocol), predictions.depth_scale)
        if not explained or "depth at" not in error.found:
            raise
        what, _, fix = explained[0].partition(" Fix: ")
        expected = "a prediction at every scored pixel"
        raise ProtocolError(error.where, found=f"{error.found}; {what}", expected=expected, fix=fix) from error
    if isinstance(truth, GroundTruthFolder):
        notes += truth.notes + note_of_disparity(truth.row_orders, predictions.depth_scale)
    notes += [f"integers of --{name.partition('_')[0]} are read as value / {per:g} m" for name, per in factors.items()]
    for name, files in (("--depth", predictions.files), ("--reference", getattr(truth, "files", {}))):
        if unit := describe_stored_unit(next(iter(files.values()))):
            notes.append(f"{name} is read as {unit}")
    if predictions.factor is not None and "depth_factor" not in factors:
        notes.append("--depth has no integers, so --depth-factor does not change it")
    pairs = _read_pairs(predictions, truth, protocol)
    explained = explain_depth(pairs, predictions.depth_scale)
    implausible = [
        side
        for side, maps in (("predictions", [one for one, _ in pairs]), ("truth", [true for _, true in pairs]))
        if not is_plausible(maps)
    ]
    return collect_scores(
        scores,
        predictions.depth_scale,
        protocol,
        notes,
        factors,
        explained=explained,
        implausible=implausible[0] if len(implausible) == 1 else "",
    )


def _read_pairs(predictions: Predictions, truth: GroundTruthReaders, protocol: Protocol) -> list[Pair]:
    """Return prediction and ground truth of some images, in the order of their names."""
    names = [name for name in truth if name in predictions.files]
    chosen = np.unique(np.linspace(0, len(names) - 1, min(len(names), MAX_HYPOTHESIS_IMAGES)).astype(int))
    pairs = []
    for name in (names[index] for index in chosen):
        true_m = truth[name]()
        if true_m is not None:
            predicted = predictions.read(name, png_per_metre=protocol.png_per_metre)
            window = crop_window(predictions.crop, *true_m.shape)
            pairs.append((np.asarray(predicted, np.float64), window.cut(np.asarray(true_m, np.float64))))
    return pairs


def _find_factors(predictions: Predictions, truth: GroundTruthReaders, protocol: Protocol) -> dict[str, float]:
    """Return integers a metre of other programs' files that may have integers."""
    factors = {}
    first = next(iter(predictions.files.values()))
    if predictions.record is None and stores_integers(first, DEPTH_KEYS[predictions.depth_scale]):
        factors["depth_factor"] = predictions.integers_per_metre(protocol.png_per_metre)
    if isinstance(truth, GroundTruthFolder) and stores_integers(next(iter(truth.files.values()))):
        factors["reference_factor"] = truth.factor
    return factors


def score_images(
    predictions: Predictions, truth: GroundTruthReaders, protocol: Protocol, classes: Path | None = None
) -> Iterator[tuple[str, ImageScore | None]]:
    """Yield the name and the score of each ground truth map, one image at a time; None if no pixel is scored.

    The arguments have the same meaning as in `score_depth`.
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


def _check_view(name: str, shape: tuple[int, ...], truth: tuple[int, ...], predictions: Predictions) -> None:
    """Raise ProtocolError for a map whose shape cannot cover the truth, or its crop."""
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
        part = "" if crop == "none" else f"; its crop '{crop}' is {window.width}x{window.height}"
        like = [name for name, size in IMAGE_CROPS.items() if size == (height, width)]
        fix = (
            f"pass --crop {like[0]} if it shows this part of the image"
            if like and crop == "none"
            else "bring it to the size of the ground truth: undo the crop, or resize it in inverse depth"
        )
        if abs((height / width) / (window.width / window.height) - 1) <= ASPECT_TOLERANCE:
            fix = "turn each map by 90 degrees: numpy.rot90(map), or numpy.rot90(map, 3)"
        found = f"a prediction of {width}x{height} for ground truth of {truth[1]}x{truth[0]}{part}"
        raise ProtocolError(name, found=found, expected=f"aspect ratios within {ASPECT_TOLERANCE:.0%}", fix=fix)


def collect_scores(
    scores: Iterable[tuple[str, ImageScore | None]],
    depth_scale: DepthScale,
    protocol: Protocol,
    notes: Sequence[str] = (),
    factors: Mapping[str, float] | None = None,
    *,
    explained: Sequence[str] = (),
    implausible: str = "",
) -> DepthScore:
    """Combine the scores of images into the score of a dataset, with means and notes.

    scores: name and score of each image; None for an image without scored pixels.
    depth_scale: scale of the predicted depth.
    protocol: the rules for scoring depth.
    notes: sentences for the user.
    factors: integers per metre of predictions and ground truth, if they are integers.
    explained: sentences on what the maps hold, which explain a bad score.
    implausible: "predictions" or "truth" if only its depth in metres is implausible; otherwise empty.

    Raises ProtocolError if no image is scored.
    """
    every, notes = list(scores), list(notes)
    without = tuple(name for name, score in every if score is None)
    if len(without) == len(every):
        fix = (
            "check the folder and the unit of its ground truth: millimetres need / 1000, and disparity in pixels is no"
            " depth (depth is focal length x baseline / disparity)"
        )
        found = "no ground truth between {:g} and {:g} m in {} images".format(*protocol.scored_m, len(every))
        raise ProtocolError(f"protocol '{protocol.name}'", found=found, expected="at least one such pixel", fix=fix)
    if without:
        count = f"{len(without)} of {len(every)} images"
        notes.append(f"no pixel to score in {count} (the first '{without[0]}'), which the means leave out")
    alignment = protocol.alignment(depth_scale)
    if alignment is not Alignment.NONE:
        fitted = f"{alignment} of every image is fitted to the truth (depth scale: {depth_scale})"
        notes.append(f"not scored in metres: {fitted}")
    images = tuple(score for _, score in every if score is not None)
    if outside := sum(image.outside_crop for image in images):
        share = outside / (outside + sum(image.pixels for image in images))
        what = f"{share:.1%} of the pixels that {protocol.name} scores are outside the predictions' crop"
        notes.append(f"{what} and left out: not comparable with scores of whole images")
    if protocol.images not in (None, len(images)):
        expected = f"{protocol.name} means {protocol.images}"
        notes.append(f"not comparable with published figures: {len(images)} images, but {expected}")
    notes += note_of_infinity([image.infinite for image in images])
    notes += note_of_truth(float(np.median([image.labeled for image in images])), protocol)
    notes += note_of_clamp({image.name: image.at_clamp for image in images})
    notes += note_of_flips([image.flip for image in images])
    orders = [image.order for image in images if image.order is not None]
    exchanged = [*explained] or note_of_order(orders, depth_scale)
    notes += exchanged
    if not depth_scale.is_affine:
        notes += note_of_range([image.range_slope for image in images])
    score = DepthScore(protocol.name, depth_scale, alignment, images, without, factors=dict(factors or {}))
    ratio, spread = score.scale_ratio_median, score.scale_ratio_spread
    is_near = ratio is not None and 1 / MIN_SCALE_RATIO < ratio < MIN_SCALE_RATIO
    has_metres = depth_scale is DepthScale.METRES and is_near
    if not depth_scale.is_affine and not has_metres:
        notes += note_of_normalization([image.span for image in images], is_inverse=bool(exchanged))
    is_judged = depth_scale is DepthScale.METRES and not exchanged and len(images) > 1
    if is_judged and ratio is not None and spread is not None:
        gain = find_gain(score.by_alignment)
        if alignment is Alignment.NONE and gain is not None:
            unit = note_of_unit(ratio, spread, gain, score.factors, implausible=implausible)
            notes += unit or note_of_scale(ratio, spread, gain, score.factors)
    return replace(score, notes=tuple(notes))


NUM_THRESHOLDS = 256
MAX_AVERAGED_FRAMES = 200  # The mean depth uses this many frames, spread over the training set.


def average_depths(depths_m: Iterable[NDArray[np.floating]], height: int, width: int) -> NDArray[np.float32] | None:
    """Return the mean (height, width) of true depth maps, resized to this size; None if no map has depth.

    A pixel that has no depth in any map, such as sky, gets the mean of its image row, or of all pixels if its row has
    none.

    depths_m: true maps (h, w) of any size, z in metres; 0 means unknown.
    height, width: size of the mean in pixels.
    """
    total, weight = np.zeros((height, width)), np.zeros((height, width))
    for depth_m in depths_m:
        valid = (depth_m > 0).astype(np.float64)
        total += cv2.resize(depth_m * valid, (width, height), interpolation=cv2.INTER_AREA)
        weight += cv2.resize(valid, (width, height), interpolation=cv2.INTER_AREA)
    if not weight.any():
        return None
    row_total, row_weight = total.sum(1, keepdims=True), weight.sum(1, keepdims=True)
    row = np.where(row_weight > 0, row_total / np.maximum(row_weight, 1e-12), total.sum() / weight.sum())
    mean: NDArray[np.float64] = np.where(weight > 1e-9, total / np.maximum(weight, 1e-9), row)
    return mean.astype(np.float32)


def score_mean_depth(
    trained_on: Sequence[tuple[Recording, Sequence[int]]],
    recordings: Sequence[Recording],
    indices: Mapping[str, Sequence[int]],
    predictor: Predictor,
    protocol: Protocol,
) -> dict[str, Any] | None:
    """Score the mean depth of the training frames in the way that predictors are scored.

    Returns the content of a score file, or None without ground truth.

    trained_on: training recordings, each with the indices of its frames.
    recordings, indices: recordings to score, and the indices of their frames by the recording's name.
    predictor: gives the size of the maps.
    """
    frames = [(recording, index) for recording, chosen in trained_on for index in chosen]
    step = max(-(-len(frames) // MAX_AVERAGED_FRAMES), 1)
    count = 0

    def read_maps() -> Iterator[NDArray[np.floating]]:
        nonlocal count
        for recording, index in frames[::step]:
            if (true_m := recording.depth_m(index)) is not None:
                count += 1
                yield crop_window(predictor.crop, *true_m.shape).cut(true_m)

    if (mean := average_depths(read_maps(), predictor.height, predictor.width)) is None:
        return None
    if predictor.depth_scale is DepthScale.AFFINE_INVERSE:
        mean = np.reciprocal(mean)
    scores: list[tuple[str, ImageScore | None]] = []
    for recording in recordings:
        for index in indices[recording.name]:
            name, true_m = f"{recording.name}/{frame_name(recording, index)}", recording.depth_m(index)
            score = None
            if true_m is not None:
                score = score_image(name, mean, true_m, predictor.depth_scale, protocol, predictor.crop)
            scores.append((name, score))
    what = f"the mean depth of {count} training image{'s' * (count != 1)}"
    collected = collect_scores(scores, predictor.depth_scale, protocol).to_json()
    return {"checkpoint": what, "baseline": what, **collected, "per_image": []}


def max_channel_difference(image: NDArray[np.uint8], background: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the largest absolute difference of the red, green and blue values at each pixel, (H, W) uint8.

    image: (H, W, 3) uint8.
    background: (H, W, 3) uint8 image with which it is compared.

    Examples:
        >>> max_channel_difference(np.full((1, 1, 3), 9, np.uint8), np.array([[[9, 5, 2]]], np.uint8)).tolist()
        [[7]]
    """
    return np.abs(image.astype(np.int16) - background).max(axis=2).astype(np.uint8)


def find_best_threshold(examples: Iterable[tuple[NDArray[np.uint8], NDArray[np.bool_]]]) -> int:
    """Return the threshold t from 0 to 255 that gives `difference > t` the best IoU over all pixels; of equal ones, the
    smallest.

    examples: differences (H, W), each with its true mask (H, W).

    Examples:
        >>> find_best_threshold([(np.array([[10, 200]], np.uint8), np.array([[False, True]]))])
        10
    """
    every, inside = np.zeros(NUM_THRESHOLDS), np.zeros(NUM_THRESHOLDS)
    for differs, mask in examples:
        every += np.bincount(differs.ravel(), minlength=NUM_THRESHOLDS)
        inside += np.bincount(differs[mask], minlength=NUM_THRESHOLDS)
    both, predicted = (counts.sum() - counts.cumsum() for counts in (inside, every))
    return int(np.argmax(both / np.maximum(predicted + inside.sum() - both, 1)))
