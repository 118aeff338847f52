"""`stadia predict` and `stadia evaluate` with `overlay`: write depth and mask to disk, and score what is there."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor

from stadia.core.errors import ConfigError, DataError, StadiaError
from stadia.core.progress import TrackProgress
from stadia.core.types import DepthScale
from stadia.core.verdict import Verdict
from stadia.data.frame_selection import spread_indices
from stadia.data.frame_store import ReportProgress, resize_image
from stadia.evaluation.depth_score import average_depths, find_best_threshold, max_channel_difference
from stadia.evaluation.plots.colormaps import color_inverse_depth
from stadia.evaluation.predictions_folder import SCALE_DESCRIPTIONS, Predictions, PredictionsRecord, Provenance
from stadia.evaluation.protocols import ALIGNMENT_BY_SCALE
from stadia.evaluation.recording_scores import write_score
from stadia.io.depth_files import DEPTH_KEYS, read_depth_map, write_depth_map, write_depth_png
from stadia.io.image_files import list_images, read_rgb
from stadia.io.image_io import compose_image_sheet, write_image
from stadia.io.input_files import safe_join
from stadia.io.output_files import hold_new_folder
from stadia.overlay.composites import CompositeSamples, open_composites
from stadia.overlay.config import OVERLAY_STRIDE, check_overlay_size
from stadia.overlay.layout import is_composite_set
from stadia.overlay.metrics import compute_image_sums, compute_overlay_scores, weaker_scale
from stadia.overlay.overlay_data import OverlayData
from stadia.overlay.recipe import OverlayRecipe
from stadia.overlay.world.composer import CompositeSource
from stadia.predict.describe import describe, describe_end
from stadia.predict.options import EvaluateOptions, PredictOptions, Size, requested_size
from stadia.predict.tasks import LabeledSet, ScoreOutput, Task
from stadia.training.loop.run_folder import Run

LOGITS_KEY = "mask_logits"


@dataclass(frozen=True)
class OverlayPrediction:
    """Hold the prediction for one composite image.

    name: name of the image.
    depth: (h, w) predicted z at the network's size.
    logits: (h, w) predicted logits of the mask of the pasted object.
    size: (height, width) of the image.
    sheet: images (H, W, 3) RGB by their caption, which are drawn side by side into one file; None draws nothing.
    """

    name: str
    depth: NDArray[np.float32]
    logits: NDArray[np.float32]
    size: tuple[int, int]
    sheet: Mapping[str, NDArray[np.uint8]] | None = None


def write_overlay_predictions(
    out: Path, depth_scale: DepthScale, provenance: Provenance, source: str, predicted: Iterable[OverlayPrediction]
) -> Predictions:
    """Write depth, masks and sheets into a new folder. predictions.json is written first and completed at the end.

    Raises StadiaError if the folder cannot be used.
    """
    record = PredictionsRecord(
        depth_scale=depth_scale,
        trust=SCALE_DESCRIPTIONS[depth_scale],
        source=source,
        network_size=None,
        **provenance.model_dump(),
    )
    names = list[str]()
    sizes = set[tuple[int, int]]()
    network_sizes = set[tuple[int, int]]()
    with hold_new_folder(Path(out)) as folder:
        record.write(folder)
        for image in predicted:
            stem = safe_join(folder, f"depth/{image.name}")
            maps = {DEPTH_KEYS[depth_scale]: image.depth, LOGITS_KEY: image.logits}
            write_depth_map(stem.with_name(f"{image.name}.npz"), **maps)
            depth = 1 / _resize(np.float32(1) / image.depth, image.size)
            write_depth_png(stem.with_name(f"{image.name}.png"), depth)
            mask = np.where(_resize(image.logits, image.size) > 0, 255, 0).astype(np.uint8)
            write_image(safe_join(folder, f"mask/{image.name}.png"), mask)
            if image.sheet is not None:
                write_image(safe_join(folder, f"drawn/{image.name}.png"), compose_image_sheet(image.sheet)[..., ::-1])
            names.append(image.name)
            sizes.add(image.size)
            network_sizes.add((image.depth.shape[0], image.depth.shape[1]))
        if not names:
            raise StadiaError("input", found="no image", expected="at least one to predict", fix="check the path")
    ended = {
        "entries": tuple(names),
        "image_size": sizes.pop() if len(sizes) == 1 else None,
        "network_size": network_sizes.pop() if len(network_sizes) == 1 else None,
        "finished": True,
    }
    record.model_copy(update=ended).write(out)
    return Predictions.open(out)


def _resize(values: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    if values.shape == size:
        return values
    return np.asarray(cv2.resize(values, size[::-1], interpolation=cv2.INTER_LINEAR))


MAX_VALIDATION_IMAGES = 1000  # images that a validation scores at most

MAX_BASELINE_IMAGES = 500  # training images for the baselines
DRAWN = 8  # scored images that are drawn


@dataclass(frozen=True, kw_only=True)
class LabeledComposites(LabeledSet):
    """Samples to score, by their numbers.

    training: training images and their numbers, for baselines; or None.
    """

    samples: CompositeSamples
    numbers: Sequence[int]
    source: str
    training: tuple[CompositeSource, Sequence[int]] | None = None


@dataclass(frozen=True)
class CompositeScore:
    """Scores as in the score file: "metrics" over all pixels, "per_image", and descriptions."""

    values: Mapping[str, Any]

    def summary(self) -> dict[str, Any]:
        """Return the scores without the scores of single images."""
        shown = {key: value for key, value in self.values.items() if key not in ("per_image", "metrics")}
        return {**shown, **self.values["metrics"]}

    def write(self, folder: Path, name: str, about: Mapping[str, Any]) -> list[Path]:
        """Write the score as FOLDER/NAME.json, and return the files."""
        write_score(folder / f"{name}.json", {**about, **self.values})
        return [folder / f"{name}.json"]


class OverlayTask(Task):
    """Predict depth and foreground mask of a composite image, from it and its background."""

    recipe: OverlayRecipe

    def open(self, source: Path, options: PredictOptions) -> "list[CompositeSession]":
        """Open composite images with their backgrounds, or a set of `stadia data overlay`."""
        is_set = options.background is None and is_composite_set(source)
        self.refuse_unused(options, {"every", "size"} if is_set else {"background", "size"})
        recipe = _resize_network(self.recipe, requested_size(options.size, {}))
        if is_set:
            pairs, samples = [], _open_samples(recipe, source)
        else:
            pairs, samples = find_pairs(source, options.background), None
        return [
            CompositeSession(
                str(source),
                recipe,
                self.network.make_provenance(options),
                pairs=pairs,
                samples=samples,
                numbers=range(0, len(samples or ()), options.every),
            )
        ]

    def open_labeled(self, data: Path, options: EvaluateOptions, progress: ReportProgress | None) -> LabeledComposites:
        """Open a composite set: its split "test", otherwise "val", otherwise the one that exists."""
        self.refuse_unused(options, {"every", "size"})
        recipe = _resize_network(self.recipe, requested_size(options.size, {}))
        samples = _open_samples(recipe, data, progress)
        about = _describe_labels(samples)
        return LabeledComposites(
            name=f"{data.resolve().name}-{samples.split}",
            about=about,
            summary=about,
            samples=samples,
            numbers=range(0, len(samples), options.every),
            source=str(data),
        )

    def open_validation(self, data: OverlayData, run: Run) -> list[LabeledComposites]:
        if data.val is None:
            return []
        overlays, samples = data.overlays, data.overlays.samples("val")
        count = min(MAX_VALIDATION_IMAGES, len(samples))
        numbers = spread_indices(len(samples), count)
        training = overlays.images["train"], range(min(MAX_BASELINE_IMAGES, overlays.count_images("train")))
        about = _describe_labels(samples)
        labeled = LabeledComposites(
            name="val", about=about, samples=samples, numbers=numbers, source="val", training=training
        )
        return [labeled]

    def score(self, labeled: LabeledComposites, out: ScoreOutput, track: TrackProgress) -> CompositeScore:
        samples, numbers = labeled.samples, labeled.numbers
        images = track(compose_samples(samples, numbers), len(numbers), "predicting composed images")
        recipe = _resize_network(self.recipe, (samples.height, samples.width))
        predictions = predict_composites(recipe, images, out.predictions, out.provenance, labeled.source)
        found = (
            (
                number,
                _to_tensor(predictions.read(_stem(number))),
                _to_tensor(read_depth_map(predictions.files[_stem(number)], key=LOGITS_KEY)),
            )
            for number in track(numbers, len(numbers), "scoring")
        )
        return CompositeScore({"checkpoint": out.provenance.checkpoint, **score_maps(self.recipe, samples, found)})

    def finish_validation(self, labeled: LabeledComposites, score: CompositeScore, run: Run, console: Console) -> None:
        """Write the scores of two baselines: scores/val-mean-depth.json and scores/val-difference.json."""
        for name, compute in (("mean-depth", score_mean_depth), ("difference", score_difference_mask)):
            values = compute(self.recipe, labeled)
            CompositeScore(values).write(run.folder / "scores", f"{labeled.name}-{name}", labeled.about)


@dataclass(frozen=True)
class WrittenComposites:
    """A finished prediction of composite images.

    split: split of their set, otherwise "".
    """

    name: str
    folder: Path
    count: int
    split: str
    depth_scale: DepthScale

    checks: Mapping[str, Any] = field(default_factory=lambda: {"verdict": Verdict.NOT_JUDGED, "findings": []})


@dataclass(frozen=True)
class CompositeSession:
    """Predicts composite images into a folder: pairs of image and background files, or samples of a composite set."""

    name: str
    recipe: OverlayRecipe
    provenance: Provenance
    pairs: Sequence[tuple[Path, Path]] = ()
    samples: CompositeSamples | None = None
    numbers: Sequence[int] = ()

    @property
    def count(self) -> int:
        """Return the number of images."""
        return len(self.pairs) or len(self.numbers)

    def start(self) -> None:
        """Do nothing, because nothing is measured before the first image."""

    def write(self, folder: Path, track: TrackProgress) -> WrittenComposites:
        """Predict depth and mask of each image into a folder, with drawings."""
        samples = self.samples
        images = read_pairs(self.pairs) if samples is None else compose_samples(samples, self.numbers)
        predict_composites(self.recipe, track(images, self.count, "predicting"), folder, self.provenance, self.name)
        split = "" if samples is None else samples.split
        return WrittenComposites(self.name, folder, self.count, split, self.recipe.depth_scale)


@describe.register
def _(session: CompositeSession) -> Iterator[str]:
    yield from ()


@describe.register
def _(result: WrittenComposites) -> Iterator[str]:
    yield f"{result.folder}: depth and mask of {result.count} image{'s' * (result.count != 1)}"
    if result.split:
        yield f"note: these are images of the split '{result.split}'; score them with `stadia evaluate`"


@describe_end.register
def _(result: WrittenComposites) -> Iterator[str]:
    yield f"depth: {SCALE_DESCRIPTIONS[result.depth_scale]}"
    if result.depth_scale is DepthScale.METRES:
        yield "note: another focal length than the training's scales all distances"


NamedComposite = tuple[str, NDArray[np.uint8], NDArray[np.uint8], Mapping[str, NDArray[np.uint8]] | None]


def read_pairs(pairs: Iterable[tuple[Path, Path]]) -> Iterator[NamedComposite]:
    """Read pairs of image and background files. Raises DataError if the sizes of a pair differ."""
    for image_file, background_file in pairs:
        image, background = read_rgb(image_file), read_rgb(background_file)
        if image.shape != background.shape:
            raise DataError(
                background_file,
                found=f"{background.shape[1]}x{background.shape[0]} pixels",
                expected=f"{image.shape[1]}x{image.shape[0]}, as {image_file.name}",
                fix="use the image of the same camera without the object",
            )
        yield image_file.stem, background, image, {}


def compose_samples(samples: CompositeSamples, numbers: Sequence[int]) -> Iterator[NamedComposite]:
    """Compose samples by their numbers. Some are drawn with mask and depth."""
    drawn = set(numbers[:: max(len(numbers) // DRAWN, 1)])
    for number in numbers:
        one = samples.images.composed(number).resized(samples.height, samples.width)
        true = None
        if number in drawn:
            known = np.divide(1, one.depth, out=np.zeros_like(one.depth), where=one.depth > 0)
            true = {"true mask": _black_and_white(one.mask), "true inverse depth": color_inverse_depth(known)}
        yield _stem(number), one.background, one.image, true


def predict_composites(
    recipe: OverlayRecipe, images: Iterable[NamedComposite], out: Path, provenance: Provenance, source: str
) -> Predictions:
    """Predict composite images into a new folder, with drawings."""

    def predict() -> Iterator[OverlayPrediction]:
        for name, background, image, shown in images:
            depth, logits = predict_pair(recipe, background, image)
            size, sheet = (image.shape[0], image.shape[1]), None
            if shown is not None:
                maps = {"mask": _black_and_white(logits > 0), "inverse depth": color_inverse_depth(1 / depth)}
                drawn = {label: resize_image(drawing, *size) for label, drawing in maps.items()}
                sheet = {"background": background, "image": image, **drawn, **shown}
            yield OverlayPrediction(name, depth, logits, size, sheet)

    return write_overlay_predictions(out, recipe.depth_scale, provenance, source, predict())


def _stem(number: int) -> str:
    return f"{number:06d}"


@torch.inference_mode()
def predict_pair(
    recipe: OverlayRecipe, background: NDArray[np.uint8], image: NDArray[np.uint8]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Predict depth and mask logits of a composite image from it and its background; return (h, w) float32 arrays.

    Both images are resized to (h, w), which has the image's aspect ratio and about as many pixels as training images.

    recipe: trained network.
    background: (H, W, 3) uint8 RGB without the pasted object.
    image: (H, W, 3) uint8 RGB with it.
    """
    height, width = fit_network_size(
        image.shape[0], image.shape[1], recipe.config.data.height, recipe.config.data.width
    )
    both = np.concatenate([resize_image(view, height, width) for view in (background, image)], axis=2)
    images = torch.from_numpy(both).to(next(recipe.parameters()).device).permute(2, 0, 1)[None] / 255
    predicted = recipe.network(images)
    return predicted.log_depth.exp()[0, 0].cpu().numpy(), predicted.mask_logits[0, 0].cpu().numpy()


def _resize_network(recipe: OverlayRecipe, size: Size | None) -> OverlayRecipe:
    """Return the recipe with another network size; None keeps it. Raises ConfigError."""
    if size is None:
        return recipe
    check_overlay_size(*size)
    resized, data = copy(recipe), recipe.config.data.model_copy(update={"height": size[0], "width": size[1]})
    resized.config = recipe.config.model_copy(update={"data": data})
    return resized


def fit_network_size(height: int, width: int, trained_height: int, trained_width: int) -> tuple[int, int]:
    """Return the size (h, w) for the network: the image's aspect ratio, and about as many pixels as in training.

    Both are multiples of OVERLAY_STRIDE.

    height: height of the image in pixels.
    width: width of the image in pixels.
    trained_height: height of the training images in pixels.
    trained_width: width of the training images in pixels.
    """
    scale = (trained_height * trained_width / (height * width)) ** 0.5
    rows, columns = (max(round(side * scale / OVERLAY_STRIDE), 1) for side in (height, width))
    return rows * OVERLAY_STRIDE, columns * OVERLAY_STRIDE


def find_pairs(source: Path, background: Path | None) -> list[tuple[Path, Path]]:
    """Return each composite image with its background: one background for all, or the one with the same name.

    Raises StadiaError if a background is missing.
    """
    if background is None:
        expected = "the image, or a folder of images, without what was pasted"
        raise ConfigError("--background", found="none", expected=expected, fix="pass --background")
    for path in (source, background):
        if not path.exists():
            raise DataError(path, found="nothing", expected="an image or a folder of images")
    images = _by_stem(source) if source.is_dir() else {source.stem: source}
    if not background.is_dir():
        return [(image, background) for image in images.values()]
    named = _by_stem(background)
    if missing := [image.name for stem, image in images.items() if stem not in named]:
        found, expected = f"no background named like {missing[0]} ({len(missing)} missing)", "one for each image"
        raise DataError(background, found=found, expected=expected, fix="rename them, or pass one image for all")
    return [(image, named[stem]) for stem, image in images.items()]


def _by_stem(folder: Path) -> dict[str, Path]:
    named: dict[str, Path] = {}
    for image in list_images(folder):
        if (other := named.setdefault(image.stem, image)) is not image:
            found, expected = f"{other.name} and {image.name}", f"one image called {image.stem}"
            raise DataError(folder, found=found, expected=expected, fix="rename one of the images with the same name")
    return named


def _black_and_white(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    return np.where(mask[..., None], 255, 0).astype(np.uint8).repeat(3, axis=2)


def _open_samples(recipe: OverlayRecipe, data: Path, progress: ReportProgress | None = None) -> CompositeSamples:
    config = recipe.config.data.model_copy(update={"path": str(data), "val_samples": 1 << 30, "samples": 1 << 30})
    overlays = open_composites(config, seed=recipe.config.seed, progress=progress)
    return overlays.samples(next(name for name in ("test", "val", "train") if name in overlays.images))


def _describe_labels(samples: CompositeSamples) -> dict[str, str]:
    label = samples.images.label.to_dict()
    return {"split": samples.split, **{f"label_{name}": value for name, value in label.items()}}


def score_maps(
    recipe: OverlayRecipe, samples: CompositeSamples, predicted: Iterable[tuple[int, Tensor, Tensor]]
) -> dict[str, Any]:
    """Return the scores over all pixels and of each image, at the weaker scale of predictions and labels.

    predicted: number, depth (1, 1, H, W) and mask logits (1, 1, H, W) of each sample.
    """
    scored_as, loss = weaker_scale(recipe.depth_scale, samples.images.label.depth_scale), recipe.config.loss
    found: dict[str, dict[str, float]] = {}
    for number, depth, logits in predicted:
        one = samples.images.composed(number).resized(samples.height, samples.width)
        true, mask = _to_tensor(one.depth), torch.from_numpy(one.mask)[None, None]
        interval = (loss.min_depth, loss.max_depth)
        (found[_stem(number)],) = compute_image_sums(depth, logits, true, mask, scored_as, interval)
    return {
        "depth_scale": str(recipe.depth_scale),
        "scored_as": str(scored_as),
        "alignment": str(ALIGNMENT_BY_SCALE[scored_as]),
        "images": len(found),
        "metrics": compute_overlay_scores(found.values()),
        "per_image": [{"name": name, **compute_overlay_scores([sums])} for name, sums in found.items()],
    }


def score_mean_depth(recipe: OverlayRecipe, labeled: LabeledComposites) -> dict[str, Any]:
    """Score the mean depth of the training images, a baseline that predicts no mask."""
    assert labeled.training is not None
    training, numbers_trained = labeled.training
    samples, numbers = labeled.samples, labeled.numbers
    low, high = recipe.config.loss.min_depth, recipe.config.loss.max_depth
    depths = (training.composed(number).depth for number in numbers_trained)
    scored = (np.where((depth > low) & (depth < high), depth, 0) for depth in depths)
    mean = average_depths(scored, samples.height, samples.width)
    if mean is None:
        found, fix = "no labels within the limits of the loss", "check loss.min_depth and loss.max_depth"
        raise DataError("mean depth", found=found, expected="a depth somewhere", fix=fix)
    depth = torch.from_numpy(mean)[None, None]
    score = score_maps(recipe, samples, ((number, depth, torch.full_like(depth, -1.0)) for number in numbers))
    metrics = {name: value for name, value in score["metrics"].items() if "mask" not in name}
    return _describe_baseline(score, f"the mean depth of {len(numbers_trained)} training images", metrics)


def score_difference_mask(recipe: OverlayRecipe, labeled: LabeledComposites) -> dict[str, Any]:
    """Score a baseline mask: the pixels that differ from the background by more than the best threshold in training."""
    assert labeled.training is not None
    training, numbers_trained = labeled.training
    samples, numbers = labeled.samples, labeled.numbers

    def difference_and_mask(images: CompositeSource, number: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        one = images.composed(number).resized(samples.height, samples.width)
        return max_channel_difference(one.image, one.background), one.mask

    threshold = find_best_threshold(difference_and_mask(training, number) for number in numbers_trained)
    masks = (difference_and_mask(samples.images, number)[0] > threshold for number in numbers)
    logits = (_to_tensor(np.where(mask, 1, -1)) for mask in masks)
    found = ((number, torch.ones_like(mask), mask) for number, mask in zip(numbers, logits, strict=True))
    score = score_maps(recipe, samples, found)
    what = f"image and background differ by more than {threshold} of 255"
    metrics = {name: score["metrics"][name] for name in ("mask_iou", "mask_dice", "mask_boundary_f")}
    return _describe_baseline(score, f"{what}, best of {len(numbers_trained)} training images", metrics)


def _describe_baseline(score: dict[str, Any], what: str, metrics: dict[str, float]) -> dict[str, Any]:
    return {**score, "checkpoint": what, "baseline": what, "metrics": metrics, "per_image": []}


def _to_tensor(values: NDArray[np.floating]) -> Tensor:
    return torch.from_numpy(np.asarray(values, np.float32))[None, None]
