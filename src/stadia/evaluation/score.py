"""Score depth from disk: needs no network, and can be repeated."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stadia.core.errors import DataError, ProtocolError
from stadia.core.files import write_json
from stadia.core.types import Claim
from stadia.evaluation.depth_files import PNG_PER_METRE, depth_files, read_map
from stadia.evaluation.order import rank_correlation
from stadia.evaluation.predictions import Predictions
from stadia.evaluation.protocols import Alignment, Protocol
from stadia.evaluation.score_notes import note_of_bounds, note_of_clamp, note_of_order, note_of_truth, note_of_unit
from stadia.evaluation.uncertainty import Orders, mean_order, score_order, uncertainty_at
from stadia.evaluation.watch import Watch, unwatched
from stadia.geometry.align import scale_shift
from stadia.geometry.crops import IMAGE_CROPS, image_box
from stadia.geometry.depth_maps import resize_map
from stadia.metrics import METRICS
from stadia.metrics.depth import scale_ratio

Truth = Mapping[str, Callable[[], NDArray[np.floating] | None]]
"""Ground truth by name, read when it is its turn: (H, W) z in metres, 0 = none; None where a frame has none."""

ASPECT_TOLERANCE = 0.04
"""How far two aspect ratios may differ. 1024x320 for 1242x375 (3.4 %) is a squeezed whole image; 1216x352 (4.3 % or
more) is a crop.
"""


@dataclass(frozen=True, slots=True)
class ImageScore:
    """One image.

    scale_ratio: median(truth) / median(prediction) before any alignment; None for inverse depth up to scale and shift.
    pixels: scored.  outside_crop: that the protocol would score, where the prediction's crop has nothing.
    at_clamp: share of the scored pixels where the aligned prediction is at the near or the far end of what the protocol
        clamps it to.
    labeled: share of the image's pixels that have ground truth, scored or not.
    order: rank correlation of the prediction, as claimed, with the truth: 1 where near and far are in its order, -1
        where they are turned around; None where one of them is constant.
    uncertainty: what the prediction's uncertainty is worth; None where it says none, or fewer than 2 pixels are scored.
    """

    name: str
    metrics: Mapping[str, float]
    scale_ratio: float | None
    pixels: int
    outside_crop: int = 0
    at_clamp: float = 0.0
    labeled: float = 1.0
    order: float | None = None
    uncertainty: Orders | None = None

    def named(self, name: str) -> ImageScore:
        """The same score under another name."""
        return replace(self, name=name)

    def to_json(self) -> dict[str, Any]:
        """Name, metrics, scale_ratio, pixels, outside_crop, at_clamp, labeled, order side by side; `uncertainty` by
        error, if any.
        """
        counts = {
            "pixels": self.pixels,
            "outside_crop": self.outside_crop,
            "at_clamp": self.at_clamp,
            "labeled": self.labeled,
        }
        doubt = (
            {}
            if self.uncertainty is None
            else {"uncertainty": {name: order.numbers() for name, order in self.uncertainty.items()}}
        )
        return {
            "name": self.name,
            **self.metrics,
            "scale_ratio": self.scale_ratio,
            **counts,
            "order": self.order,
            **doubt,
        }


@dataclass(frozen=True, slots=True)
class DepthScore:
    """Means over images, and every image.

    without_truth: names of images of which no pixel is scored: counted here, in no mean.
    notes: what a reader of the numbers should know, in words.
    """

    protocol: str
    claim: Claim
    alignment: Alignment
    per_image: tuple[ImageScore, ...]
    without_truth: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def metrics(self) -> dict[str, float]:
        """Means over images, each image alike whatever the number of its pixels."""
        return {
            name: float(np.mean([image.metrics[name] for image in self.per_image]))
            for name in self.per_image[0].metrics
        }

    @property
    def scale_ratio_median(self) -> float | None:
        """The median over images of median(truth) / median(prediction)."""
        ratios = [image.scale_ratio for image in self.per_image if image.scale_ratio is not None]
        return float(np.median(ratios)) if ratios else None

    @property
    def scale_ratio_spread(self) -> float | None:
        """The standard deviation over images of the ratio, divided by its median."""
        ratios = [image.scale_ratio for image in self.per_image if image.scale_ratio is not None]
        return float(np.std(np.divide(ratios, np.median(ratios)))) if ratios else None

    @property
    def uncertainty(self) -> Orders:
        """What the uncertainty said is worth, by error: means over the images that say one; empty where none does."""
        return mean_order([image.uncertainty for image in self.per_image if image.uncertainty is not None])

    def summary(self) -> dict[str, Any]:
        """The metrics by name, `images`, the scale ratio, what was asked, and `notes`: one JSON object.

        Where an image says an uncertainty, `uncertainty` by error too, and how many say none.
        """
        doubt = {name: order.numbers() for name, order in self.uncertainty.items()}
        silent = sum(image.uncertainty is None for image in self.per_image)
        return {
            "protocol": self.protocol,
            "claim": str(self.claim),
            "alignment": str(self.alignment),
            **self.metrics,
            "scale_ratio_median": self.scale_ratio_median,
            "scale_ratio_spread": self.scale_ratio_spread,
            "images": len(self.per_image),
            "images_without_truth": len(self.without_truth),
            **({"images_without_uncertainty": silent, "uncertainty": doubt} if doubt else {}),
            "notes": list(self.notes),
        }

    def to_json(self) -> dict[str, Any]:
        """What a score file holds: the means, and every image beside them; of `uncertainty` the mean curves too."""
        head = self.summary()
        if "uncertainty" in head:
            head["uncertainty"] = {name: order.to_json() for name, order in self.uncertainty.items()}
        metrics = {name: head.pop(name) for name in self.metrics}
        images = [image.to_json() for image in self.per_image]
        return {**head, "metrics": metrics, "without_truth": list(self.without_truth), "per_image": images}

    def write(self, path: Path) -> None:
        """Write a score file."""
        write_json(path, self.to_json())


def folder_truth(folder: Path, protocol: Protocol) -> Truth:
    """Ground truth from a folder of uint16 PNG (in the protocol's unit), .npz (`depth_m`, or the only array) or .npy
    maps.
    """
    return {name: partial(_read_truth, path, protocol.png_per_metre) for name, path in depth_files(folder).items()}


def _read_truth(path: Path, png_per_metre: float) -> NDArray[np.floating]:
    true_m = read_map(path, png_per_metre=png_per_metre)
    wrong = ~np.isfinite(true_m) | (true_m < 0)
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise DataError(
            path,
            found=(
                f"ground truth of {true_m[row, column]} at row {row}, column {column} ({int(wrong.sum())} such pixels)"
            ),
            expected="metres, 0 where there is none",
            fix="write 0 where depth is unknown",
        )
    return true_m


def resize_depth(depth: Tensor, height: int, width: int) -> Tensor:
    """(h, w) depth to (H, W), bilinearly in inverse depth (align_corners=False), as Monodepth2's evaluation does.

    Depth itself must not be interpolated: across an edge it would invent a surface far behind the middle of the two.
    A pixel that is drawn from a hole (0) or from infinity alone comes out as 0, infinity or NaN, never as a number
    between.
    """
    if depth.shape == (height, width):
        return depth
    return 1 / resize_map((1 / depth)[None, None], height, width)[0, 0]


def _predicted_at(name: str, values: Tensor, mask: Tensor, claim: Claim) -> Tensor:
    """The prediction, brought to the truth's size, at the N scored pixels: (1, N). Raises ProtocolError where one has
    none.

    Infinite metres are a depth, farther than any: they are clamped like one, but for an image that is mostly infinite.
        Of depth up
    to scale there is no such thing.
    """
    if claim is Claim.AFFINE_INVERSE:  # may be negative: only its order means something
        scored = resize_map(values[None, None], *mask.shape)[0, 0][mask]
        complete = scored.isfinite()
    else:
        scored = resize_depth(values.clamp(min=0), *mask.shape)[mask]
        beyond = scored.isposinf()
        complete = (scored > 0) & ~(beyond & (claim is not Claim.METRES or 2 * beyond.sum() >= len(scored)))
    if holes := int((~complete).sum()):
        raise ProtocolError(
            name,
            found=f"no finite positive depth at {holes} of {len(scored)} scored pixels",
            expected="a prediction at every one",
            fix="fill the holes: a protocol does not choose what stands in them",
        )
    return scored[None]


def _aligned(predicted: Tensor, true_m: Tensor, claim: Claim, protocol: Protocol) -> tuple[Tensor, float | None]:
    """Of (1, N) scored pixels: depth in metres, aligned and clamped by the protocol, and the scale ratio before that."""
    near, far = protocol.clamp_m
    alignment = protocol.alignment(claim)
    if alignment is Alignment.SCALE_SHIFT:
        scale, shift = scale_shift(predicted, 1 / true_m)
        return 1 / (scale[..., None] * predicted + shift[..., None]).clamp(1 / far, 1 / near), None
    ratio = scale_ratio(predicted, true_m, torch.ones_like(true_m, dtype=torch.bool))
    depth = predicted * ratio if alignment is Alignment.MEDIAN else predicted
    return depth.clamp(near, far), float(ratio)


def score_image(
    name: str,
    predicted: NDArray[np.floating],
    true_m: NDArray[np.floating],
    claim: Claim,
    protocol: Protocol,
    crop: str = "none",
    log_uncertainty: NDArray[np.floating] | None = None,
) -> ImageScore | None:
    """Score one image in float64; None where the protocol scores none of its pixels.

    Args:
        name: for the score and for errors.
        predicted: (h, w), of any size: depth or inverse depth, by the claim.
        true_m: (H, W) z in metres, 0 = none.
        claim: of the prediction.
        protocol: crop, caps, and what is aligned.
        crop: of `geometry.crops.IMAGE_CROPS`, what the prediction shows of the image. It is brought to that window's
            size and place, and scored where the protocol's mask and the window overlap.
        log_uncertainty: (h, w) as `predicted`, larger where it is trusted less; None where none is said.

    Raises ProtocolError where a scored pixel has no prediction.
    """
    whole = torch.from_numpy(np.asarray(true_m, np.float64))
    values = torch.from_numpy(np.asarray(predicted, np.float64))
    window, asked = image_box(crop, *whole.shape), protocol.mask(whole)
    true, mask = window.cut(whole), window.cut(asked)
    if not mask.any():
        return None
    scored = true[mask][None]  # (1, N): on KITTI 3 to 20 % of the pixels
    found = _predicted_at(name, values, mask, claim)
    order = rank_correlation(found[0], 1 / scored[0] if claim is Claim.AFFINE_INVERSE else scored[0])
    depth, ratio = _aligned(found, scored, claim, protocol)
    every = torch.ones_like(scored, dtype=torch.bool)
    metrics = {metric: float(METRICS.load(metric)(depth, scored, every)) for metric in protocol.metrics}
    near, far = protocol.clamp_m
    at_clamp = float(((depth <= near) | (depth >= far)).double().mean())
    outside, labeled = int(asked.sum()) - scored.numel(), float((whole > 0).double().mean())
    doubt = None if log_uncertainty is None else uncertainty_at(name, log_uncertainty, predicted.shape, mask)
    worth = None if doubt is None else score_order(depth, scored, doubt)
    return ImageScore(name, metrics, ratio, scored.numel(), outside, at_clamp, labeled, order, worth)


def _check_view(name: str, shape: tuple[int, ...], truth: tuple[int, ...], predictions: Predictions) -> None:
    """Whether a map of this shape can show what the truth shows, or the crop of it: else it would be scored off its
    place.
    """
    crop, record = predictions.crop, predictions.record
    picture = record.image_size if record else None
    if record is not None and crop != "none":  # ours, whose network may squeeze the crop to any shape
        if picture not in (None, truth):
            raise ProtocolError(
                name,
                found=f"crop '{crop}' of an image of {record.image_size}, for ground truth of {truth} (height, width)",
                expected="both of one size: a crop is one of pixels",
                fix="use ground truth at the image's size",
            )
        return
    window, (height, width) = image_box(crop, *truth), picture or shape
    if abs((width / height) / (window.width / window.height) - 1) > ASPECT_TOLERANCE:
        part = "" if crop == "none" else f", of which crop '{crop}' is {window.width}x{window.height}"
        like = [name for name, size in IMAGE_CROPS.items() if size == (height, width)]
        raise ProtocolError(
            name,
            found=f"a prediction of {width}x{height} for ground truth of {truth[1]}x{truth[0]}{part}",
            expected=f"aspect ratios within {ASPECT_TOLERANCE:.0%}",
            fix=(
                f"--crop {like[0]} says that it is this part of the image"
                if like and crop == "none"
                else "bring it to the size of the ground truth: undo the crop, or resize it in inverse depth"
            ),
        )


def score_depth(predictions: Predictions, truth: Truth, protocol: Protocol, *, watch: Watch = unwatched) -> DepthScore:
    """Score a folder of predictions.

    Args:
        predictions: `Predictions.open(folder)`.
        truth: by the same names, for example `folder_truth(folder, protocol)`.
        protocol: a row of PROTOCOLS.
        watch: shows progress.

    Raises ProtocolError where the protocol refuses the claim, two shapes cannot be of one view, or nothing can be
    scored; DataError naming the file that is missing or wrong.
    """
    notes = []
    if extra := len(set(predictions.files) - set(truth)):
        notes.append(f"not scored for want of ground truth: {extra} of {len(predictions.files)} predictions")
    if predictions.record is None:
        cut = "" if predictions.crop == "none" else f", of the crop '{predictions.crop}'"
        notes.append(f"no predictions.json in {predictions.folder}: taken as {predictions.claim}{cut}")
        if protocol.png_per_metre != PNG_PER_METRE and any(
            file.suffix.lower() == ".png" for file in predictions.files.values()
        ):
            notes.append(f"predicted PNG read as value / {protocol.png_per_metre:g} m, as {protocol.name} has it")
    scores = watch(score_images(predictions, truth, protocol), len(truth), "scoring")
    return collect(scores, predictions.claim, protocol, notes)


def score_images(predictions: Predictions, truth: Truth, protocol: Protocol) -> Iterator[tuple[str, ImageScore | None]]:
    """Name and score of each ground truth, one image after the other in memory; None where no pixel is scored.

    Raises as `score_depth`, the claim and missing predictions before the first file is read.
    """
    protocol.alignment(predictions.claim)
    if missing := [name for name in truth if name not in predictions.files]:
        like = next(iter(predictions.files))
        raise DataError(
            predictions.folder,
            found=(
                f"no prediction for {len(missing)} of {len(truth)} ground truths, the first '{missing[0]}' (there is"
                f" '{like}')"
            ),
            expected="a prediction of the same stem for each",
            fix="rename the files, or predict the missing ones",
        )
    for name, read_truth in truth.items():
        true_m = read_truth()
        if true_m is None:
            yield name, None
            continue
        predicted, file = predictions.read(name, png_per_metre=protocol.png_per_metre), str(predictions.files[name])
        _check_view(file, predicted.shape, true_m.shape, predictions)
        score = score_image(
            file, predicted, true_m, predictions.claim, protocol, predictions.crop, predictions.log_uncertainty(name)
        )
        yield name, score and score.named(name)


def collect(
    scores: Iterable[tuple[str, ImageScore | None]], claim: Claim, protocol: Protocol, notes: Sequence[str] = ()
) -> DepthScore:
    """Gather scored images. Raises ProtocolError where there is none."""
    every = list(scores)
    without = tuple(name for name, score in every if score is None)
    if len(without) == len(every):
        raise ProtocolError(
            f"protocol '{protocol.name}'",
            found=(
                f"no ground truth between {protocol.scored_m[0]:g} and {protocol.scored_m[1]:g} m in {len(every)}"
                " images"
            ),
            expected="some",
            fix="check the folder and the unit of its ground truth",
        )
    if without:
        notes = [
            *notes,
            (
                f"no pixel to score in {len(without)} of {len(every)} images, which are in no mean (the first"
                f" '{without[0]}')"
            ),
        ]
    alignment = protocol.alignment(claim)
    if alignment is not Alignment.NONE:
        notes = [*notes, f"not scored in metres: {alignment} of every image fitted to the truth first (claim: {claim})"]
    images = tuple(score for _, score in every if score is not None)
    if outside := sum(image.outside_crop for image in images):
        share = outside / (outside + sum(image.pixels for image in images))
        what = f"{share:.1%} of the pixels that {protocol.name} scores lie outside the predictions' crop"
        notes = [*notes, f"{what}, and are left out: not comparable with scores of whole images"]
    if protocol.images not in (None, len(images)):
        notes = [
            *notes,
            (
                f"not comparable with published figures: of {len(images)} images, where {protocol.name} means"
                f" {protocol.images}"
            ),
        ]
    notes = [*notes, *note_of_truth(float(np.median([image.labeled for image in images])), protocol)]
    notes = [*notes, *note_of_clamp({image.name: image.at_clamp for image in images})]
    notes = [*notes, *note_of_order([image.order for image in images if image.order is not None], claim)]
    score = DepthScore(protocol.name, claim, alignment, images, without)
    notes += note_of_bounds(score.metrics)
    ratio, spread = score.scale_ratio_median, score.scale_ratio_spread
    if (
        claim is Claim.METRES and ratio is not None and spread is not None and len(images) > 1
    ):  # of one image every ratio is steady
        notes = [*notes, *note_of_unit(ratio, spread)]
    return replace(score, notes=tuple(notes))
