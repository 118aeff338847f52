"""Write predicted depth and masks of composite images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import StadiaError
from stadia.core.types import DepthScale
from stadia.evaluation.io.depth_files import DEPTH_KEYS, read_depth_map, write_depth_map, write_depth_png
from stadia.evaluation.io.predictions_folder import SCALE_DESCRIPTIONS, Predictions
from stadia.evaluation.io.predictions_record import PredictionsRecord, Provenance
from stadia.files.image_io import write_image
from stadia.files.output_files import hold_new_folder
from stadia.files.paths import safe_join
from stadia.training.loggers import compose_image_sheet

LOGITS_KEY = "mask_logits"


@dataclass(frozen=True)
class OverlayPrediction:
    """Predicted depth and mask logits (h, w) of a composite image of `size`, and labeled RGB images, or None."""

    name: str
    depth: NDArray[np.float32]
    logits: NDArray[np.float32]
    size: tuple[int, int]
    sheet: Mapping[str, NDArray[np.uint8]] | None = None


def write_overlay_predictions(
    out: Path, depth_scale: DepthScale, provenance: Provenance, source: str, predicted: Iterable[OverlayPrediction]
) -> Predictions:
    """Write depth, masks and sheets into a new folder, and predictions.json first and at the end.

    Raises StadiaError if the folder is not empty, or there is no image.
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
            raise StadiaError(out, found="no image", expected="at least one")
    ended = {
        "entries": tuple(names),
        "image_size": sizes.pop() if len(sizes) == 1 else None,
        "network_size": network_sizes.pop() if len(network_sizes) == 1 else None,
        "finished": True,
    }
    record.model_copy(update=ended).write(out)
    return Predictions.open(out)


def read_mask_logits(predictions: Predictions, name: str) -> NDArray[np.floating]:
    """Read mask logits (h, w) of an entry."""
    return read_depth_map(predictions.files[name], key=LOGITS_KEY)


def _resize(values: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    if values.shape == size:
        return values
    return np.asarray(cv2.resize(values, size[::-1], interpolation=cv2.INTER_LINEAR))
