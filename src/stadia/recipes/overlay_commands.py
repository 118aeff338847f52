"""What `stadia predict` and `stadia evaluate` do with a trained `overlay`: answers to disk first, scores from there."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from torch import Tensor

from stadia.core.errors import ConfigError, DataError
from stadia.core.types import Claim
from stadia.data.cache import Progress
from stadia.data.images import list_images, read_rgb
from stadia.data.overlay.composer import OverlayImages
from stadia.data.overlay.label import Label
from stadia.data.overlay.samples import OverlaySamples
from stadia.data.overlay.sources import open_overlays
from stadia.data.overlay.written import is_written
from stadia.data.resize import resize_image
from stadia.evaluation.colors import color_inverse_depth
from stadia.evaluation.mask_difference import best_threshold, difference
from stadia.evaluation.mean_depth import mean_depth
from stadia.evaluation.overlay_files import OverlayFolder, read_logits
from stadia.evaluation.overlay_scores import image_sums, overlay_scores, weaker
from stadia.evaluation.predictions import Predictions, PredictionsRecord, Provenance
from stadia.evaluation.protocols import BY_CLAIM
from stadia.evaluation.score_files import write_score
from stadia.evaluation.watch import Watch
from stadia.models.overlay_config import STRIDE
from stadia.recipes.asked import EvaluationAsked, PredictionAsked
from stadia.training.run import Run

if TYPE_CHECKING:
    from stadia.recipes.overlay import OverlayRecipe
    from stadia.recipes.overlay_data import OverlayData

T = TypeVar("T")
MOST_IMAGES, MEAN_OF, DRAWN = 1000, 500, 8
"""Scored of what validated; of the training's for the baselines; and drawn of those that were scored."""

_IDLE = {"every": 1, "motion": "aligned", "size": None, "protocol": "metric", "frames": None, "held_out": False}


def refuse_idle(asked: PredictionAsked | EvaluationAsked, *but: str) -> None:
    """An option that was given and would do nothing is a mistake. Raises ConfigError."""
    given = [name for name, unset in _IDLE.items() if name not in but and getattr(asked, name, unset) != unset]
    given += [f"data.{name}" for name in asked.options]
    if given:
        what = " and ".join(f"--{name.replace('_', '-')}" if not name.startswith("data.") else name for name in given)
        raise ConfigError(
            what, found="given for a recipe of composed images", expected="none of it", fix="leave it out"
        )


# ------------------------------------------------------------------------------------------------------------------
# answers


@torch.inference_mode()
def answer(
    task: OverlayRecipe, background: NDArray[np.uint8], image: NDArray[np.uint8]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Depth and the mask's logits, (h, w) each, of two images (H, W, 3) RGB of one size.

    They are seen with about as many pixels as the training's and in their own shape, sides rounded to what the network
    can take.
    """
    height, width = seen_size(image.shape[0], image.shape[1], task.config.data.height, task.config.data.width)
    both = np.concatenate([resize_image(one, height, width) for one in (background, image)], axis=2)
    images = torch.from_numpy(both).to(next(task.parameters()).device).permute(2, 0, 1)[None] / 255
    said = task.network(images)
    return said.log_depth.exp()[0, 0].cpu().numpy(), said.mask_logits[0, 0].cpu().numpy()


def seen_size(height: int, width: int, trained_height: int, trained_width: int) -> tuple[int, int]:
    """(h, w), multiples of STRIDE: the shape of an image of height x width, with the pixels of the training's."""
    scale = (trained_height * trained_width / (height * width)) ** 0.5
    return max(round(height * scale / STRIDE), 1) * STRIDE, max(round(width * scale / STRIDE), 1) * STRIDE


def predict(task: OverlayRecipe, asked: PredictionAsked, watch: Watch) -> Iterator[str]:
    """Write depth and mask of each pair into a new folder, and say so, line by line."""
    if asked.background is None and is_written(asked.source):
        yield from _predict_set(task, asked, watch)
        return
    refuse_idle(asked)
    pairs = find_pairs(asked.source, asked.background)
    folder = OverlayFolder(asked.out, task.claim, Provenance.of(asked.checkpoint), source=str(asked.source))
    for image_file, background_file in watch(pairs, len(pairs), "predicting"):
        image, background = read_rgb(image_file), read_rgb(background_file)
        if image.shape != background.shape:
            raise DataError(
                background_file,
                found=f"{background.shape[1]}x{background.shape[0]} pixels",
                expected=f"{image.shape[1]}x{image.shape[0]}, as {image_file.name}",
                fix="give the image that the same camera took without the object",
            )
        depth, logits = answer(task, background, image)
        folder.add(image_file.stem, depth, logits, (image.shape[0], image.shape[1]))
        folder.draw(
            image_file.stem, {"background": background, "image": image, **_drawn(depth, logits, image.shape[:2])}
        )
    folder.finish()
    yield from _written(asked.out, len(pairs), folder.record)


def _predict_set(task: OverlayRecipe, asked: PredictionAsked, watch: Watch) -> Iterator[str]:
    """As `predict`, of a set that `stadia data overlay` wrote, which has its backgrounds."""
    refuse_idle(asked, "every")
    samples, split, _ = _samples_of(task, asked.source)
    numbers = list(range(0, len(samples), asked.every))
    predictions = _write(task, samples, numbers, asked.out, Provenance.of(asked.checkpoint), str(asked.source), watch)
    yield from _written(asked.out, len(numbers), predictions.record)
    yield f"note: of its split '{split}'; `stadia evaluate` scores it"


def _written(out: Path, images: int, record: PredictionsRecord) -> Iterator[str]:
    """What a prediction left."""
    yield f"{out}: depth and mask of {images} image{'s' * (images != 1)}"
    yield from (f"  {path.name}{'/' if path.is_dir() else ''}" for path in sorted(out.iterdir()))
    yield f"depth: {record.trust}"
    if record.claim is Claim.METRES:
        yield (
            "note: metres are right through a camera like the training's; another lens makes every distance wrong by"
            " one factor"
        )


def find_pairs(source: Path, background: Path | None) -> list[tuple[Path, Path]]:
    """Each composed image with its background: one for all, or of the same name in a folder. Raises DataError,
    ConfigError.
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
    """Its images in order, by the name that answers have. Raises DataError where two have one."""
    named: dict[str, Path] = {}
    for picture in list_images(folder):
        if (other := named.setdefault(picture.stem, picture)) is not picture:
            expected = f"one image called {picture.stem}: answers go by that"
            raise DataError(
                folder, found=f"{other.name} and {picture.name}", expected=expected, fix="rename one of them"
            )
    return named


def _drawn(
    depth: NDArray[np.float32], logits: NDArray[np.float32], size: tuple[int, int]
) -> dict[str, NDArray[np.uint8]]:
    """Mask and inverse depth at (height, width)."""
    drawn = {"mask": _black_and_white(logits > 0), "inverse depth": color_inverse_depth(1 / depth)}
    return {name: resize_image(picture, *size) for name, picture in drawn.items()}


def _black_and_white(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    return np.where(mask[..., None], 255, 0).astype(np.uint8).repeat(3, axis=2)


# -------------------------------------------------------------------------------------------------------------------
# scores


def score_validation(task: OverlayRecipe, data: OverlayData, run: Run, console: Console) -> None:
    """Of a training that has ended: predictions/val/, scores/val.json, and beside it those of what both have to beat:
    scores/val-mean-depth.json and scores/val-difference.json.
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
    predictions = _write(task, samples, numbers, folder, provenance, "val", shown)
    about = {"checkpoint": provenance.checkpoint, "split": "val", **_of_label(overlays.label)}
    write_score(
        run.folder / "scores" / "val.json", {**about, **score_folder(task, predictions, samples, numbers, shown)}
    )
    taught = range(min(MEAN_OF, overlays.asked("train")))
    for name, score in (("mean-depth", score_mean), ("difference", score_difference)):
        write_score(
            run.folder / "scores" / f"val-{name}.json",
            {**about, **score(task, overlays.images["train"], taught, samples, numbers)},
        )


def evaluate(
    task: OverlayRecipe, asked: EvaluationAsked, run: Path, watch: Watch, progress: Progress
) -> tuple[dict[str, Any], list[Path]]:
    """Score a set of composed images: its split "test", else "val", else what there is. Returns the summary, and what
    was written.
    """
    refuse_idle(asked, "every")
    in_run = (run / "run.json").is_file()
    if asked.out is None and not in_run:
        found, expected = "a checkpoint outside a run's folder", "a folder for its predictions"
        raise ConfigError("--out", found=found, expected=expected, fix="pass --out DIR")
    samples, split, label = _samples_of(task, asked.data, progress)
    numbers = list(range(0, len(samples), asked.every))
    name = f"{asked.data.resolve().name}-{split}{asked.suffix}"
    folder = asked.out or run / "predictions" / name
    if asked.out is None:
        shutil.rmtree(folder, ignore_errors=True)  # of the same images, by an earlier evaluation
    provenance = Provenance.of(asked.checkpoint)
    predictions = _write(task, samples, numbers, folder, provenance, str(asked.data), watch)
    about = {"checkpoint": provenance.checkpoint, "data": str(asked.data.resolve()), "split": split, **_of_label(label)}
    score = {**about, **score_folder(task, predictions, samples, numbers, watch)}
    path = (run if in_run else folder) / "scores" / f"{name}.json"
    write_score(path, score)
    shown = {key: value for key, value in score.items() if key not in ("per_image", "metrics", "data")}
    return {**shown, **score["metrics"]}, [folder, path]


def _samples_of(task: OverlayRecipe, data: Path, progress: Progress | None = None) -> tuple[OverlaySamples, str, Label]:
    """All samples of a set's split "test", else "val", else what there is; the split, and the set's label."""
    config = task.config.data.model_copy(update={"path": str(data), "val_samples": 1 << 30, "samples": 1 << 30})
    overlays = open_overlays(config, seed=task.config.seed, progress=progress)
    split = next(name for name in ("test", "val", "train") if name in overlays.images)
    return overlays.samples(split), split, overlays.label


def _of_label(label: Label) -> dict[str, str]:
    return {f"label_{name}": value for name, value in label.to_dict().items()}


@torch.inference_mode()
def _write(
    task: OverlayRecipe,
    samples: OverlaySamples,
    numbers: Sequence[int],
    out: Path,
    provenance: Provenance,
    source: str,
    watch: Watch,
) -> Predictions:
    """Answers to samples, under their numbers; some of them drawn, evenly over all."""
    folder = OverlayFolder(out, task.claim, provenance, source=source)
    drawn = set(numbers[:: max(len(numbers) // DRAWN, 1)])
    for number in watch(numbers, len(numbers), "predicting composed images"):
        one = samples.images.composed(number).resized(samples.height, samples.width)
        depth, logits = answer(task, one.background, one.image)
        folder.add(_stem(number), depth, logits, (samples.height, samples.width))
        if number in drawn:
            said = {"background": one.background, "image": one.image, **_drawn(depth, logits, one.mask.shape)}
            known = np.divide(1, one.depth, out=np.zeros_like(one.depth), where=one.depth > 0)
            true = {"true mask": _black_and_white(one.mask), "true inverse depth": color_inverse_depth(known)}
            folder.draw(_stem(number), {**said, **true})
    return folder.finish()


def _stem(number: int) -> str:
    return f"{number:06d}"


def score_folder(
    task: OverlayRecipe, predictions: Predictions, samples: OverlaySamples, numbers: Sequence[int], watch: Watch
) -> dict[str, Any]:
    """Of a folder of answers to these samples, read from disk."""
    found: list[tuple[str, dict[str, float]]] = []
    for number in watch(numbers, len(numbers), "scoring"):
        depth, logits = predictions.read(_stem(number)), read_logits(predictions, _stem(number))
        found.append((_stem(number), _sums(task, _map(depth), _map(logits), samples, number)))
    return _score(task, samples, found)


def score_mean(
    task: OverlayRecipe, training: OverlayImages, taught: Sequence[int], samples: OverlaySamples, numbers: Sequence[int]
) -> dict[str, Any]:
    """Of the mean of what depth is scored in training images, whatever the images show; it says of no mask."""
    low, high = task.config.loss.min_depth, task.config.loss.max_depth
    depths = (training.composed(number).depth for number in taught)
    scored = (np.where((depth > low) & (depth < high), depth, 0) for depth in depths)
    depth = mean_depth(scored, samples.height, samples.width).depth_m[None, None]
    found = [(_stem(n), _sums(task, depth, torch.full_like(depth, -1.0), samples, n)) for n in numbers]
    return _baseline(
        _score(task, samples, found),
        f"the mean depth of {len(taught)} training images",
        lambda name: "mask" not in name,
    )


def score_difference(
    task: OverlayRecipe, training: OverlayImages, taught: Sequence[int], samples: OverlaySamples, numbers: Sequence[int]
) -> dict[str, Any]:
    """Of the mask where image and background differ, by more than was best in training images; it says of no depth."""

    def seen(images: OverlayImages, number: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        one = images.composed(number).resized(samples.height, samples.width)
        return difference(one.image, one.background), one.mask

    threshold = best_threshold(seen(training, number) for number in taught)
    found = []
    for number in numbers:
        logits = _map(np.where(seen(samples.images, number)[0] > threshold, 1, -1))
        found.append((_stem(number), _sums(task, torch.ones_like(logits), logits, samples, number)))
    what = f"image and background differ by more than {threshold} of 255, best of {len(taught)} training images"
    return _baseline(
        _score(task, samples, found), what, lambda name: name in ("mask_iou", "mask_dice", "mask_boundary_f")
    )


def _baseline(score: dict[str, Any], what: str, scored: Callable[[str], bool]) -> dict[str, Any]:
    """A score with those metrics alone that the baseline says something of."""
    return {
        **score,
        "checkpoint": what,
        "baseline": what,
        "metrics": {n: v for n, v in score["metrics"].items() if scored(n)},
        "per_image": [],
    }


def _map(values: NDArray[np.floating]) -> Tensor:
    return torch.from_numpy(np.asarray(values, np.float32))[None, None]


def _sums(task: OverlayRecipe, depth: Tensor, logits: Tensor, samples: OverlaySamples, number: int) -> dict[str, float]:
    one = samples.images.composed(number).resized(samples.height, samples.width)
    true, mask, loss = _map(one.depth), torch.from_numpy(one.mask)[None, None], task.config.loss
    claim = weaker(task.claim, samples.images.label.claim)
    return image_sums(depth, logits, true, mask, claim, (loss.min_depth, loss.max_depth))[0]


def _score(
    task: OverlayRecipe, samples: OverlaySamples, found: Sequence[tuple[str, dict[str, float]]]
) -> dict[str, Any]:
    """Over all pixels, and of each image by itself; by the weaker claim of answers and labels."""
    scored_as = weaker(task.claim, samples.images.label.claim)
    metrics = overlay_scores(sums for _, sums in found)
    each = [{"name": name, **overlay_scores([sums])} for name, sums in found]
    about = {"claim": str(task.claim), "scored_as": str(scored_as), "alignment": str(BY_CLAIM[scored_as])}
    return {**about, "images": len(found), "metrics": metrics, "per_image": each}
