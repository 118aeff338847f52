"""Write images of steps and validations, and compose image sheets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from stadia.core import random_state
from stadia.core.files import atomic_write
from stadia.training.loggers import Logger
from stadia.training.loop import Callback, TrainingLoop
from stadia.training.run_folder import Run


class Images(Callback):
    """Write images/step-000100.png every so many steps, at the first and the last: `Recipe.images` on one sheet.

    And images/NAME/step-000100.png of each validation: `Recipe.validation_images`. Never with every=0.
    """

    phase = "images"

    def __init__(self, run: Run, loggers: Sequence[Logger], every: int) -> None:
        self.run, self.loggers, self.every = run, loggers, every

    def on_step_end(self, loop: TrainingLoop) -> None:
        step = loop.step
        is_due = self.every and (step % self.every == 0 or step in (1, loop.plan.total_steps))
        if not is_due or not loop.fabric.is_global_zero:
            return
        assert loop.batch is not None
        assert loop.report is not None
        with torch.no_grad(), random_state.preserve_generators():
            images = loop.recipe.images(loop.batch, loop.report)
        if images:
            self._write(self.run.images, step, "images", compose_image_sheet(images))

    def on_validation_end(self, loop: TrainingLoop) -> None:
        if self.every and loop.fabric.is_global_zero:
            for name, image in loop.recipe.validation_images().items():
                self._write(self.run.images / name, loop.step, name, image)

    def _write(self, folder: Path, step: int, name: str, image: NDArray[np.uint8]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        _, png = cv2.imencode(".png", image[..., ::-1])
        with atomic_write(folder / f"step-{step:06d}.png") as temporary:
            temporary.write_bytes(png.tobytes())
        for logger in self.loggers:
            logger.image(step, name, image)


# -- Compose labeled images on one sheet.

_BAR, _GAP = 20, 4  # pixels: the label's bar, the gap between tiles
_BACKGROUND, _INK = 24, (235, 235, 235)
_FONT = cv2.FONT_HERSHEY_SIMPLEX, 0.45
_SHAPE = 1.5  # desired width over height of a sheet


def compose_image_sheet(images: Mapping[str, NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Lay labeled (H, W, 3) uint8 RGB images out on one sheet, in their order, row by row.

    All tiles have the size of the largest image. Smaller ones are enlarged with nearest-neighbor sampling at their
    aspect ratio. Where labels are wider than that, all are enlarged by an integer factor.
    """
    if not images:
        raise ValueError("a sheet needs an image")
    height = max(image.shape[0] for image in images.values())
    width = max(image.shape[1] for image in images.values())
    factor = -(-max(map(_label_width, images)) // width)
    height, width = factor * height, factor * width
    tile_height, tile_width = height + _BAR + _GAP, width + _GAP
    columns = min(
        range(1, len(images) + 1),
        key=lambda n: abs(np.log(n * tile_width / (-(-len(images) // n) * tile_height) / _SHAPE)),
    )
    rows = -(-len(images) // columns)
    sheet = np.full((rows * tile_height + _GAP, columns * tile_width + _GAP, 3), _BACKGROUND, np.uint8)
    for number, (label, image) in enumerate(images.items()):
        top, left = (number // columns) * tile_height + _GAP, (number % columns) * tile_width + _GAP
        cv2.putText(sheet, label, (left + 2, top + _BAR - 6), *_FONT, _INK, 1, cv2.LINE_AA)
        fitted = _enlarge(image, height, width)
        sheet[top + _BAR : top + _BAR + fitted.shape[0], left : left + fitted.shape[1]] = fitted
    return sheet


def _label_width(label: str) -> int:
    """Return the width of a label, with two pixels on either side."""
    return int(cv2.getTextSize(label, *_FONT, 1)[0][0]) + 4


def _enlarge(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"an image is (H, W, 3) uint8, found {image.shape} {image.dtype}")
    factor = min(height / image.shape[0], width / image.shape[1])
    size = max(round(image.shape[1] * factor), 1), max(round(image.shape[0] * factor), 1)
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_NEAREST), np.uint8)
