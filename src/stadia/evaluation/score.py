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
from stadia.evaluation.depth_files import depth_files, read_map
from stadia.evaluation.predictions import Predictions
from stadia.evaluation.protocols import Alignment, Protocol
from stadia.geometry.align import scale_shift
from stadia.geometry.depth_maps import resize_map
from stadia.metrics import METRICS
from stadia.metrics.depth import scale_ratio

Truth = Mapping[str, Callable[[], NDArray[np.floating] | None]]
"""Ground truth by name, read when it is its turn: (H, W) z in metres, 0 = none; None where a frame has none."""

ASPECT_TOLERANCE = 0.04
"""How far two aspect ratios may differ. 1024x320 for 1242x375 (3.4 %) is a squeezed whole picture; 1216x352 (4.3 % or more) is a crop."""


@dataclass(frozen=True, slots=True)
class ImageScore:
    """One image. scale_ratio: median(truth) / median(prediction) before any alignment; None for inverse depth up to scale and shift."""

    name: str
    metrics: Mapping[str, float]
    scale_ratio: float | None
    pixels: int

    def named(self, name: str) -> ImageScore:
        """The same score under another name."""
        return replace(self, name=name)

    def to_json(self) -> dict[str, Any]:
        """One flat object: name, metrics, scale_ratio, pixels."""
        return {"name": self.name, **self.metrics, "scale_ratio": self.scale_ratio, "pixels": self.pixels}


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
        return {name: float(np.mean([image.metrics[name] for image in self.per_image])) for name in self.per_image[0].metrics}

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

    def summary(self) -> dict[str, Any]:
        """The metrics by name, `images`, the scale ratio, and what was asked: one flat JSON object."""
        return {
            "protocol": self.protocol,
            "claim": str(self.claim),
            "alignment": str(self.alignment),
            **self.metrics,
            "scale_ratio_median": self.scale_ratio_median,
            "scale_ratio_spread": self.scale_ratio_spread,
            "images": len(self.per_image),
            "images_without_truth": len(self.without_truth),
        }

    def write(self, path: Path) -> None:
        """Write a score file: the means, and every image beside them."""
        head = self.summary()
        metrics = {name: head.pop(name) for name in self.metrics}
        images = [image.to_json() for image in self.per_image]
        notes = {"without_truth": list(self.without_truth), "notes": list(self.notes)}
        write_json(path, {**head, "metrics": metrics, **notes, "per_image": images})


def folder_truth(folder: Path, protocol: Protocol) -> Truth:
    """Ground truth from a folder of uint16 PNG (in the protocol's unit), .npz (`depth_m`, or the only array) or .npy maps."""
    return {name: partial(_read_truth, path, protocol.png_per_metre) for name, path in depth_files(folder).items()}


def _read_truth(path: Path, png_per_metre: float) -> NDArray[np.floating]:
    true_m = read_map(path, png_per_metre=png_per_metre)
    wrong = ~np.isfinite(true_m) | (true_m < 0)
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise DataError(
            path,
            found=f"ground truth of {true_m[row, column]} at row {row}, column {column} ({int(wrong.sum())} such pixels)",
            expected="metres, 0 where there is none",
            cure="write 0 where depth is unknown",
        )
    return true_m


def resize_depth(depth: Tensor, height: int, width: int) -> Tensor:
    """(h, w) depth to (H, W), bilinearly in inverse depth (align_corners=False), as Monodepth2's evaluation does.

    Depth itself must not be interpolated: across an edge it would invent a surface far behind the middle of the two.
    A pixel that is drawn from a hole (0) or from infinity alone comes out as 0, infinity or NaN, never as a number between.
    """
    if depth.shape == (height, width):
        return depth
    return 1 / resize_map((1 / depth)[None, None], height, width)[0, 0]


def _check_complete(name: str, predicted: Tensor, mask: Tensor) -> None:
    """Raises ProtocolError unless every scored pixel is predicted (both (H, W) bool)."""
    if holes := int((mask & ~predicted).sum()):
        raise ProtocolError(
            name,
            found=f"no finite positive depth at {holes} of {int(mask.sum())} scored pixels",
            expected="a prediction at every one",
            cure="fill the holes: a protocol does not choose what stands in them",
        )


def _aligned(name: str, values: Tensor, true_m: Tensor, mask: Tensor, claim: Claim, protocol: Protocol) -> tuple[Tensor, float | None]:
    """Depth in metres at the truth's size, aligned and clamped by the protocol, and the scale ratio before that."""
    near, far = protocol.clamp_m
    alignment = protocol.alignment(claim)
    if claim is Claim.AFFINE_INVERSE:  # may be negative: only its order means something
        inverse = resize_map(values[None, None], *true_m.shape)[0, 0]
        _check_complete(name, inverse.isfinite(), mask)
        scale, shift = scale_shift(inverse[mask], 1 / true_m[mask])
        return 1 / (scale * inverse + shift).clamp(1 / far, 1 / near), None
    depth = resize_depth(values.clamp(min=0), *true_m.shape)
    _check_complete(name, depth.isfinite() & (depth > 0), mask)
    ratio = scale_ratio(depth, true_m, mask)
    if alignment is Alignment.MEDIAN:
        depth = depth * ratio
    return depth.clamp(near, far), float(ratio)


def score_image(
    name: str, predicted: NDArray[np.floating], true_m: NDArray[np.floating], claim: Claim, protocol: Protocol
) -> ImageScore | None:
    """Score one image in float64; None where the protocol scores none of its pixels.

    Args:
        name: for the score and for errors.
        predicted: (h, w), of any size: depth or inverse depth, by the claim.
        true_m: (H, W) z in metres, 0 = none.
        claim: of the prediction.
        protocol: crop, caps, and what is aligned.

    Raises ProtocolError where a scored pixel has no prediction.
    """
    true = torch.from_numpy(np.asarray(true_m, np.float64))
    values = torch.from_numpy(np.asarray(predicted, np.float64))
    mask = protocol.mask(true)
    if not mask.any():
        return None
    depth, ratio = _aligned(name, values, true, mask, claim, protocol)
    metrics = {metric: float(METRICS.load(metric)(depth, true, mask)) for metric in METRICS}
    return ImageScore(name, metrics, ratio, int(mask.sum()))


def _check_aspect(name: str, picture: tuple[int, ...], truth: tuple[int, ...]) -> None:
    """Whether both can show the same view: a crop resized to the truth's size would be scored off its place."""
    ratio = (picture[1] / picture[0]) / (truth[1] / truth[0])
    if abs(ratio - 1) > ASPECT_TOLERANCE:
        raise ProtocolError(
            name,
            found=f"a prediction of {picture[1]}x{picture[0]} for ground truth of {truth[1]}x{truth[0]}",
            expected=f"aspect ratios within {ASPECT_TOLERANCE:.0%}",
            cure="bring it to the size of the ground truth: undo the crop, or resize it in inverse depth",
        )


def score_depth(predictions: Predictions, truth: Truth, protocol: Protocol) -> DepthScore:
    """Score a folder of predictions.

    Args:
        predictions: `Predictions.open(folder)`.
        truth: by the same names, for example `folder_truth(folder, protocol)`.
        protocol: a row of PROTOCOLS.

    Raises ProtocolError where the protocol refuses the claim, two shapes cannot be of one view, or nothing can be scored;
    DataError naming the file that is missing or wrong.
    """
    notes = []
    if extra := len(set(predictions.files) - set(truth)):
        notes.append(f"{extra} predictions have no ground truth and are not scored")
    if predictions.record is None:
        notes.append(f"no predictions.json in {predictions.folder}: taken as {predictions.claim}")
    return collect(score_images(predictions, truth, protocol), predictions.claim, protocol, notes)


def score_images(predictions: Predictions, truth: Truth, protocol: Protocol) -> Iterator[tuple[str, ImageScore | None]]:
    """Name and score of each ground truth, one image after the other in memory; None where no pixel is scored.

    Raises as `score_depth`, the claim and missing predictions before the first file is read.
    """
    protocol.alignment(predictions.claim)
    if missing := [name for name in truth if name not in predictions.files]:
        like = next(iter(predictions.files))
        raise DataError(
            predictions.folder,
            found=f"no prediction for {len(missing)} of {len(truth)} ground truths, the first '{missing[0]}' (there is '{like}')",
            expected="a prediction of the same stem for each",
            cure="rename the files, or predict the missing ones",
        )
    for name, read_truth in truth.items():
        true_m = read_truth()
        if true_m is None:
            yield name, None
            continue
        predicted, file = predictions.read(name), str(predictions.files[name])
        picture_size = predictions.record.picture_size if predictions.record else None
        _check_aspect(file, picture_size or predicted.shape, true_m.shape)
        score = score_image(file, predicted, true_m, predictions.claim, protocol)
        yield name, score and score.named(name)


def collect(scores: Iterable[tuple[str, ImageScore | None]], claim: Claim, protocol: Protocol, notes: Sequence[str] = ()) -> DepthScore:
    """Gather scored images. Raises ProtocolError where there is none."""
    every = list(scores)
    without = tuple(name for name, score in every if score is None)
    if len(without) == len(every):
        raise ProtocolError(
            f"protocol '{protocol.name}'",
            found=f"no ground truth between {protocol.scored_m[0]:g} and {protocol.scored_m[1]:g} m in {len(every)} images",
            expected="some",
            cure="check the folder and the unit of its ground truth",
        )
    if without:
        notes = [*notes, f"{len(without)} images have no pixel to score and are in no mean (the first '{without[0]}')"]
    images = tuple(score for _, score in every if score is not None)
    return DepthScore(protocol.name, claim, protocol.alignment(claim), images, without, tuple(notes))
