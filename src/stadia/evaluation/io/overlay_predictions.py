"""Write and read predicted depth and masks of composite images."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import StadiaError
from stadia.core.files import safe_join
from stadia.core.types import DepthScale
from stadia.evaluation.io.depth_files import read_depth_map, write_depth_map, write_depth_png
from stadia.evaluation.io.object_predictions import write_image
from stadia.evaluation.io.predictions_folder import (
    DEPTH_KEYS,
    SCALE_DESCRIPTIONS,
    Predictions,
    PredictionsRecord,
    Provenance,
)
from stadia.training.loggers import compose_image_sheet

LOGITS_KEY = "mask_logits"


class OverlayPredictionsWriter:
    """Write predictions into a new folder one by one, and predictions.json before the first and after the last."""

    def __init__(self, out: Path, depth_scale: DepthScale, provenance: Provenance, *, source: str) -> None:
        self.out, self.depth_scale, self.names = Path(out), depth_scale, list[str]()
        if self.out.exists() and (not self.out.is_dir() or any(self.out.iterdir())):
            fix = "choose another --out: nothing is overwritten"
            raise StadiaError(self.out, found="something there already", expected="a new or an empty folder", fix=fix)
        self.record = PredictionsRecord(
            depth_scale=depth_scale,
            trust=SCALE_DESCRIPTIONS[depth_scale],
            source=source,
            network_size=None,
            **provenance.model_dump(),
        )
        self.sizes: set[tuple[int, int]] = set()
        self.network_sizes: set[tuple[int, int]] = set()
        self.record.write(self.out)

    def add(self, name: str, depth: NDArray[np.float32], logits: NDArray[np.float32], size: tuple[int, int]) -> None:
        """Write depth and logits (h, w) as predicted, for an image of `size` (height, width)."""
        stem = safe_join(self.out, f"depth/{name}")
        write_depth_map(stem.with_name(f"{name}.npz"), **{DEPTH_KEYS[self.depth_scale]: depth, LOGITS_KEY: logits})
        write_depth_png(stem.with_name(f"{name}.png"), 1 / _at(np.float32(1) / depth, size))
        mask = np.where(_at(logits, size) > 0, 255, 0).astype(np.uint8)
        write_image(safe_join(self.out, f"mask/{name}.png"), mask)
        self.names.append(name)
        self.sizes.add(size)
        self.network_sizes.add((depth.shape[0], depth.shape[1]))

    def draw(self, name: str, images: Mapping[str, NDArray[np.uint8]]) -> None:
        """Write a sheet of labeled (H, W, 3) RGB images."""
        write_image(safe_join(self.out, f"drawn/{name}.png"), compose_image_sheet(images)[..., ::-1])

    def finish(self) -> Predictions:
        """Write the final record. Raise StadiaError where no image was added."""
        if not self.names:
            raise StadiaError(self.out, found="no image", expected="at least one", fix="check the input")
        sizes = {"image_size": self.sizes, "network_size": self.network_sizes}
        one_size = {name: next(iter(found)) if len(found) == 1 else None for name, found in sizes.items()}
        self.record.model_copy(update={"entries": tuple(self.names), "finished": True, **one_size}).write(self.out)
        return Predictions.open(self.out)


def read_mask_logits(predictions: Predictions, name: str) -> NDArray[np.floating]:
    """Read mask logits (h, w) of an entry."""
    return read_depth_map(predictions.files[name], key=LOGITS_KEY)


def _at(values: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """Resize to (height, width), bilinearly, outer edges on outer edges."""
    if values.shape == size:
        return values
    return np.asarray(cv2.resize(values, size[::-1], interpolation=cv2.INTER_LINEAR))
