"""Write images of steps and validations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from stadia.core import random_state
from stadia.core.files import atomic_write
from stadia.training.loggers import Logger, compose_image_sheet
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
