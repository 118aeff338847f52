"""`stadia predict` and `stadia evaluate` of a trained `overlay`: predictions to disk, scores from there."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from torch import Tensor

from stadia.core.errors import ConfigError, DataError
from stadia.core.types import DepthScale, TrackProgress
from stadia.dataloading.composites import CompositeSamples, open_composites
from stadia.datasets.frame_store import ReportProgress, resize_image
from stadia.datasets.image_files import list_images, read_rgb
from stadia.evaluation.baselines import average_depths, find_best_threshold, max_channel_difference
from stadia.evaluation.io.overlay_predictions import OverlayPredictionsWriter, read_mask_logits
from stadia.evaluation.io.predictions_folder import Predictions, PredictionsRecord, Provenance
from stadia.evaluation.plots.colormaps import color_inverse_depth
from stadia.evaluation.protocols import ALIGNMENT_BY_SCALE
from stadia.evaluation.score.recording_scores import write_score
from stadia.evaluation.validation_metrics import compute_image_sums, compute_overlay_scores, weaker_scale
from stadia.models.config import OVERLAY_STRIDE
from stadia.models.overlay_net import OverlayNet
from stadia.recipes.base.requests import EvaluateRequest, PredictRequest
from stadia.recipes.overlay.config import OverlayConfig
from stadia.recipes.overlay.data import OverlayData
from stadia.synthetic.composites.backgrounds import DepthLabel
from stadia.synthetic.composites.composer import CompositeSource
from stadia.synthetic.composites.composite_files import is_composite_set
from stadia.training.run_folder import Run

T = TypeVar("T")
MOST_IMAGES = 1000
"""Maximum number of scored validation images."""

MEAN_OF = 500
"""Maximum number of training images for the baselines."""

DRAWN = 8
"""Number of drawn images, of those that were scored."""

_IDLE = {"every": 1, "motion": "aligned", "size": None, "protocol": "metric", "frames": None, "held_out": False}


class TrainedOverlay(Protocol):
    """What the commands need of a trained recipe: `OverlayRecipe` imports this module, not the reverse."""

    config: OverlayConfig
    network: OverlayNet

    @property
    def depth_scale(self) -> DepthScale: ...

    def parameters(self) -> Iterator[Tensor]: ...


def refuse_unused_options(request: PredictRequest | EvaluateRequest, *but: str) -> None:
    """Raise ConfigError for options that were given and have no effect."""
    given = [name for name, unset in _IDLE.items() if name not in but and getattr(request, name, unset) != unset]
    given += [f"data.{name}" for name in request.options]
    if given:
        what = " and ".join(f"--{name.replace('_', '-')}" if not name.startswith("data.") else name for name in given)
        raise ConfigError(
            what, found="given for a recipe of composed images", expected="none of it", fix="leave it out"
        )


# -- predictions


@torch.inference_mode()
def predict_pair(
    task: TrainedOverlay, background: NDArray[np.uint8], image: NDArray[np.uint8]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Predict depth and mask logits, (h, w) each, of a background and an image (H, W, 3) RGB of one size.

    The network gets about as many pixels as in training, in the shape of the image, sides rounded to its stride.
    """
    height, width = fit_network_size(image.shape[0], image.shape[1], task.config.data.height, task.config.data.width)
    both = np.concatenate([resize_image(one, height, width) for one in (background, image)], axis=2)
    images = torch.from_numpy(both).to(next(task.parameters()).device).permute(2, 0, 1)[None] / 255
    predicted = task.network(images)
    return predicted.log_depth.exp()[0, 0].cpu().numpy(), predicted.mask_logits[0, 0].cpu().numpy()


def fit_network_size(height: int, width: int, trained_height: int, trained_width: int) -> tuple[int, int]:
    """Return (h, w), multiples of STRIDE: the shape of a height x width image with the pixels of the training."""
    scale = (trained_height * trained_width / (height * width)) ** 0.5
    return max(round(height * scale / OVERLAY_STRIDE), 1) * OVERLAY_STRIDE, max(
        round(width * scale / OVERLAY_STRIDE), 1
    ) * OVERLAY_STRIDE


def predict(task: TrainedOverlay, request: PredictRequest, watch: TrackProgress) -> Iterator[str]:
    """Write depth and mask of each pair into a new folder; yield lines for people."""
    if request.background is None and is_composite_set(request.source):
        yield from _predict_set(task, request, watch)
        return
    refuse_unused_options(request)
    pairs = find_pairs(request.source, request.background)
    folder = OverlayPredictionsWriter(
        request.out, task.depth_scale, Provenance.of(request.checkpoint), source=str(request.source)
    )
    for image_file, background_file in watch(pairs, len(pairs), "predicting"):
        image, background = read_rgb(image_file), read_rgb(background_file)
        if image.shape != background.shape:
            raise DataError(
                background_file,
                found=f"{background.shape[1]}x{background.shape[0]} pixels",
                expected=f"{image.shape[1]}x{image.shape[0]}, as {image_file.name}",
                fix="give the image that the same camera took without the object",
            )
        depth, logits = predict_pair(task, background, image)
        folder.add(image_file.stem, depth, logits, (image.shape[0], image.shape[1]))
        folder.draw(
            image_file.stem, {"background": background, "image": image, **_draw_maps(depth, logits, image.shape[:2])}
        )
    folder.finish()
    yield from _output_lines(request.out, len(pairs), folder.record)


def _predict_set(task: TrainedOverlay, request: PredictRequest, watch: TrackProgress) -> Iterator[str]:
    """Predict a set written by `stadia data overlay`, which has its backgrounds."""
    refuse_unused_options(request, "every")
    samples, split, _ = _open_samples(task, request.source)
    numbers = list(range(0, len(samples), request.every))
    predictions = _predict_samples(
        task, samples, numbers, request.out, Provenance.of(request.checkpoint), str(request.source), watch
    )
    yield from _output_lines(request.out, len(numbers), predictions.record)
    yield f"note: of its split '{split}'; `stadia evaluate` scores it"


def _output_lines(out: Path, images: int, record: PredictionsRecord) -> Iterator[str]:
    """Yield lines about the files of a prediction."""
    yield f"{out}: depth and mask of {images} image{'s' * (images != 1)}"
    yield from (f"  {path.name}{'/' if path.is_dir() else ''}" for path in sorted(out.iterdir()))
    yield f"depth: {record.trust}"
    if record.depth_scale is DepthScale.METRES:
        yield (
            "note: metres hold for a camera like the training's; another focal length scales every "
            "distance by one factor"
        )


def find_pairs(source: Path, background: Path | None) -> list[tuple[Path, Path]]:
    """Return each composite image with its background: one for all, or of the same name in a folder.

    Raises DataError, ConfigError.
    """
    if background is None:
        expected, fix = "the same image without what was pasted", "pass --background, an image or a folder of them"
        raise ConfigError("--background", found="none", expected=expected, fix=fix)
    for path in (source, background):
        if not path.exists():
            raise DataError(path, found="nothing", expected="an image or a folder of images", fix="check the path")
    images = _by_stem(source) if source.is_dir() else {source.stem: source}
    if not background.is_dir():
        return [(picture, background) for picture in images.values()]
    named = _by_stem(background)
    if missing := [picture.name for stem, picture in images.items() if stem not in named]:
        found, expected = (
            f"none called as {missing[0]} ({len(missing)} such)",
            "a background of the same name for each image",
        )
        raise DataError(background, found=found, expected=expected, fix="name them alike, or pass one image for all")
    return [(picture, named[stem]) for stem, picture in images.items()]


def _by_stem(folder: Path) -> dict[str, Path]:
    """Return the images of a folder by the stem that predictions have. Raises DataError for duplicates."""
    named: dict[str, Path] = {}
    for picture in list_images(folder):
        if (other := named.setdefault(picture.stem, picture)) is not picture:
            expected = f"one image called {picture.stem}: predictions have that name"
            raise DataError(
                folder, found=f"{other.name} and {picture.name}", expected=expected, fix="rename one of them"
            )
    return named


def _draw_maps(
    depth: NDArray[np.float32], logits: NDArray[np.float32], size: tuple[int, int]
) -> dict[str, NDArray[np.uint8]]:
    """Draw mask and inverse depth at (height, width)."""
    drawn = {"mask": _black_and_white(logits > 0), "inverse depth": color_inverse_depth(1 / depth)}
    return {name: resize_image(picture, *size) for name, picture in drawn.items()}


def _black_and_white(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    return np.where(mask[..., None], 255, 0).astype(np.uint8).repeat(3, axis=2)


# -- scores


def score_validation(task: TrainedOverlay, data: OverlayData, run: Run, console: Console) -> None:
    """Score the validation images after training: predictions/val/ and scores/val.json.

    Also the baselines scores/val-mean-depth.json and scores/val-difference.json.
    """
    overlays = data.overlays
    if data.val is None:
        return

    def shown(items: Iterable[T], count: int | None, what: str) -> Iterable[T]:
        return track(items, what, total=count, console=console, transient=True, disable=not console.is_terminal)

    samples = overlays.samples("val")
    folder = run.folder / "predictions" / "val"
    shutil.rmtree(folder, ignore_errors=True)  # of this run before it was resumed
    numbers = np.unique(np.linspace(0, len(samples) - 1, min(MOST_IMAGES, len(samples))).round().astype(int)).tolist()
    provenance = Provenance.of(run.folder)
    predictions = _predict_samples(task, samples, numbers, folder, provenance, "val", shown)
    about = {"checkpoint": provenance.checkpoint, "split": "val", **_label_facts(overlays.label)}
    write_score(
        run.folder / "scores" / "val.json", {**about, **score_folder(task, predictions, samples, numbers, shown)}
    )
    taught = range(min(MEAN_OF, overlays.asked("train")))
    for name, score in (("mean-depth", score_mean_depth), ("difference", score_difference_mask)):
        write_score(
            run.folder / "scores" / f"val-{name}.json",
            {**about, **score(task, overlays.images["train"], taught, samples, numbers)},
        )


def evaluate(
    task: TrainedOverlay, request: EvaluateRequest, run: Path, watch: TrackProgress, progress: ReportProgress
) -> tuple[dict[str, Any], list[Path]]:
    """Score a set of composite images: its split "test", else "val", else what exists.

    Returns the summary, and the written files.
    """
    refuse_unused_options(request, "every")
    in_run = (run / "run.json").is_file()
    if request.out is None and not in_run:
        found, expected = "a checkpoint outside a run's folder", "a folder for its predictions"
        raise ConfigError("--out", found=found, expected=expected, fix="pass --out DIR")
    samples, split, label = _open_samples(task, request.data, progress)
    numbers = list(range(0, len(samples), request.every))
    name = f"{request.data.resolve().name}-{split}{request.suffix}"
    folder = request.out or run / "predictions" / name
    if request.out is None:
        shutil.rmtree(folder, ignore_errors=True)  # of the same images, by an earlier evaluation
    provenance = Provenance.of(request.checkpoint)
    predictions = _predict_samples(task, samples, numbers, folder, provenance, str(request.data), watch)
    about = {
        "checkpoint": provenance.checkpoint,
        "data": str(request.data.resolve()),
        "split": split,
        **_label_facts(label),
    }
    score = {**about, **score_folder(task, predictions, samples, numbers, watch)}
    path = (run if in_run else folder) / "scores" / f"{name}.json"
    write_score(path, score)
    shown = {key: value for key, value in score.items() if key not in ("per_image", "metrics", "data")}
    return {**shown, **score["metrics"]}, [folder, path]


def _open_samples(
    task: TrainedOverlay, data: Path, progress: ReportProgress | None = None
) -> tuple[CompositeSamples, str, DepthLabel]:
    """Return all samples of split "test", else "val", else what exists; the split, and the label of the set."""
    config = task.config.data.model_copy(update={"path": str(data), "val_samples": 1 << 30, "samples": 1 << 30})
    overlays = open_composites(config, seed=task.config.seed, progress=progress)
    split = next(name for name in ("test", "val", "train") if name in overlays.images)
    return overlays.samples(split), split, overlays.label


def _label_facts(label: DepthLabel) -> dict[str, str]:
    return {f"label_{name}": value for name, value in label.to_dict().items()}


@torch.inference_mode()
def _predict_samples(
    task: TrainedOverlay,
    samples: CompositeSamples,
    numbers: Sequence[int],
    out: Path,
    provenance: Provenance,
    source: str,
    watch: TrackProgress,
) -> Predictions:
    """Predict samples under their numbers; draw some of them, evenly spaced."""
    folder = OverlayPredictionsWriter(out, task.depth_scale, provenance, source=source)
    drawn = set(numbers[:: max(len(numbers) // DRAWN, 1)])
    for number in watch(numbers, len(numbers), "predicting composed images"):
        one = samples.images.composed(number).resized(samples.height, samples.width)
        depth, logits = predict_pair(task, one.background, one.image)
        folder.add(_stem(number), depth, logits, (samples.height, samples.width))
        if number in drawn:
            predicted = {"background": one.background, "image": one.image, **_draw_maps(depth, logits, one.mask.shape)}
            known = np.divide(1, one.depth, out=np.zeros_like(one.depth), where=one.depth > 0)
            true = {"true mask": _black_and_white(one.mask), "true inverse depth": color_inverse_depth(known)}
            folder.draw(_stem(number), {**predicted, **true})
    return folder.finish()


def _stem(number: int) -> str:
    return f"{number:06d}"


def score_folder(
    task: TrainedOverlay,
    predictions: Predictions,
    samples: CompositeSamples,
    numbers: Sequence[int],
    watch: TrackProgress,
) -> dict[str, Any]:
    """Score a folder of predictions of these samples, from disk."""
    found: list[tuple[str, dict[str, float]]] = []
    for number in watch(numbers, len(numbers), "scoring"):
        depth, logits = predictions.read(_stem(number)), read_mask_logits(predictions, _stem(number))
        found.append((_stem(number), _image_sums(task, _to_tensor(depth), _to_tensor(logits), samples, number)))
    return _summarize(task, samples, found)


def score_mean_depth(
    task: TrainedOverlay,
    training: CompositeSource,
    taught: Sequence[int],
    samples: CompositeSamples,
    numbers: Sequence[int],
) -> dict[str, Any]:
    """Score the mean depth of training images, a baseline without mask."""
    low, high = task.config.loss.min_depth, task.config.loss.max_depth
    depths = (training.composed(number).depth for number in taught)
    scored = (np.where((depth > low) & (depth < high), depth, 0) for depth in depths)
    depth = average_depths(scored, samples.height, samples.width).depth_m[None, None]
    found = [(_stem(n), _image_sums(task, depth, torch.full_like(depth, -1.0), samples, n)) for n in numbers]
    return _baseline(
        _summarize(task, samples, found),
        f"the mean depth of {len(taught)} training images",
        lambda name: "mask" not in name,
    )


def score_difference_mask(
    task: TrainedOverlay,
    training: CompositeSource,
    taught: Sequence[int],
    samples: CompositeSamples,
    numbers: Sequence[int],
) -> dict[str, Any]:
    """Score the mask where image and background differ, a baseline without depth.

    The threshold is the best one on training images.
    """

    def seen(images: CompositeSource, number: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        one = images.composed(number).resized(samples.height, samples.width)
        return max_channel_difference(one.image, one.background), one.mask

    threshold = find_best_threshold(seen(training, number) for number in taught)
    found = []
    for number in numbers:
        logits = _to_tensor(np.where(seen(samples.images, number)[0] > threshold, 1, -1))
        found.append((_stem(number), _image_sums(task, torch.ones_like(logits), logits, samples, number)))
    what = f"image and background differ by more than {threshold} of 255, best of {len(taught)} training images"
    return _baseline(
        _summarize(task, samples, found), what, lambda name: name in ("mask_iou", "mask_dice", "mask_boundary_f")
    )


def _baseline(score: dict[str, Any], what: str, scored: Callable[[str], bool]) -> dict[str, Any]:
    """Return a score with only the metrics that the baseline predicts."""
    return {
        **score,
        "checkpoint": what,
        "baseline": what,
        "metrics": {n: v for n, v in score["metrics"].items() if scored(n)},
        "per_image": [],
    }


def _to_tensor(values: NDArray[np.floating]) -> Tensor:
    return torch.from_numpy(np.asarray(values, np.float32))[None, None]


def _image_sums(
    task: TrainedOverlay, depth: Tensor, logits: Tensor, samples: CompositeSamples, number: int
) -> dict[str, float]:
    one = samples.images.composed(number).resized(samples.height, samples.width)
    true, mask, loss = _to_tensor(one.depth), torch.from_numpy(one.mask)[None, None], task.config.loss
    depth_scale = weaker_scale(task.depth_scale, samples.images.label.depth_scale)
    return compute_image_sums(depth, logits, true, mask, depth_scale, (loss.min_depth, loss.max_depth))[0]


def _summarize(
    task: TrainedOverlay, samples: CompositeSamples, found: Sequence[tuple[str, dict[str, float]]]
) -> dict[str, Any]:
    """Return scores over all pixels and of each image, by the weaker scale of predictions and labels."""
    scored_as = weaker_scale(task.depth_scale, samples.images.label.depth_scale)
    metrics = compute_overlay_scores(sums for _, sums in found)
    each = [{"name": name, **compute_overlay_scores([sums])} for name, sums in found]
    about = {
        "depth_scale": str(task.depth_scale),
        "scored_as": str(scored_as),
        "alignment": str(ALIGNMENT_BY_SCALE[scored_as]),
    }
    return {**about, "images": len(found), "metrics": metrics, "per_image": each}
