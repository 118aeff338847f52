"""A teacher: a network whose depth is a label in addition to a recipe's own loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from rich.console import Console
from torch import Tensor
from torch.nn import functional

from stadia.core.errors import ConfigError
from stadia.core.types import Batch, DepthScale
from stadia.evaluation.predict_frames import DepthPredictor
from stadia.geometry.camera import resize_camera
from stadia.losses.loss_report import LossReport, add_terms
from stadia.losses.teacher_loss import align_teacher, compute_difference, find_relation, teacher_error
from stadia.training.recipes.base.build_recipe import load_predictor
from stadia.training.recipes.base.config import TeacherConfig
from stadia.training.recipes.base.network_checkpoint import describe_network, open_network_checkpoint

FindResidual = Callable[[Tensor], Tensor]
"""A function that returns the photometric residual (B, 1, H, W) of inverse depth (B, 1, H, W)."""


def open_teacher(config: TeacherConfig, height: int, width: int) -> tuple[DepthPredictor, str]:
    """Return the predictor of a teacher, and the line about its licence.

    Raises ConfigError for depth up to scale and shift, and for a network of cropped images.
    """
    name = str(config.network)
    opened = open_network_checkpoint(name, lambda: (height, width), config.settings)
    predictor: Any = load_predictor(opened)
    key = f"teacher={name}"
    if predictor.crop != "none":
        found, fix = f"a network of the crop '{predictor.crop}'", "choose one of whole images"
        raise ConfigError(key, found=found, expected="depth of whole images", fix=fix)
    if predictor.depth_scale is DepthScale.AFFINE_DEPTH:
        expected, fix = "metres, depth up to scale, or inverse depth up to scale and shift", "choose another network"
        raise ConfigError(key, found="depth up to scale and shift", expected=expected, fix=fix)
    return predictor, describe_network(opened)


def check_teacher(config: TeacherConfig, height: int, width: int, console: Console) -> None:
    """Open the teacher of a configuration before the data are decoded, and print its output."""
    predictor, licence = open_teacher(config, height, width)
    line = f"teacher: {config.network}, {predictor.depth_scale}, at {predictor.width}x{predictor.height}"
    console.print(f"{line}; {licence}" if licence else line, markup=False, highlight=False, soft_wrap=True)


class TeacherTerm:
    """The difference from a teacher's depth in the loss of a batch. Checkpoints do not contain the teacher."""

    def __init__(self, config: TeacherConfig) -> None:
        self.config = config
        self._predictor: DepthPredictor | None = None

    def weight(self, step: int, last_step: int) -> float:
        """Return the weight at a step, which falls linearly to 0 at the share `until` of the steps."""
        if self.config.until is None or last_step <= 0:
            return self.config.weight
        return self.config.weight * max(1 - step / (self.config.until * last_step), 0.0)

    @torch.no_grad()
    def predict(self, batch: Batch[Any, Any]) -> Tensor:
        """Return the teacher's inverse depth (B, 1, H, W) of the images as recorded."""
        image, camera = batch.targets.image, batch.targets.camera
        height, width = image.shape[-2:]
        if self._predictor is None:
            self._predictor = open_teacher(self.config, height, width)[0]
            self._predictor.move(image.device)
        teacher = self._predictor
        size = teacher.height, teacher.width
        resized = functional.interpolate(image.float(), size=size, mode="bilinear", align_corners=False, antialias=True)
        predicted = teacher.inverse_depth(resized, resize_camera(camera, *size)).to(image.device).clone()
        return functional.interpolate(predicted, size=(height, width), mode="bilinear", align_corners=False)

    def add(
        self,
        report: LossReport,
        inverse_depth: Tensor,
        batch: Batch[Any, Any],
        *,
        student_scale: DepthScale,
        step: int,
        last_step: int,
        find_residual: FindResidual | None = None,
    ) -> LossReport:
        """Return the loss of a batch with the term "teacher".

        report: of the recipe's own loss.
        inverse_depth: (B, 1, H, W) of the student.
        batch: with the images as recorded.
        student_scale: of the recipe's depth.
        step, last_step: updates made, and in the whole training.
        find_residual: pixels with a larger residual than the student's do not count.
        """
        weight = self.weight(step, last_step)
        if weight == 0:
            term, left_out = 0 * inverse_depth.float().mean(), inverse_depth.new_zeros(())
        else:
            with torch.autocast(inverse_depth.device.type, enabled=False):
                teacher, own = self.predict(batch), inverse_depth.float()
                assert self._predictor is not None
                relation = find_relation(student_scale, self._predictor.depth_scale)
                known = teacher.isfinite() if relation == "affine" else teacher > 0
                if (ignored := getattr(batch.targets, "ignored", None)) is not None:  # targets of video have it
                    known = known & ~ignored
                if find_residual is not None:
                    aligned = align_teacher(own, teacher, known, relation)
                    worse = find_residual(aligned) > report.maps["residual"] + self.config.max_contradiction
                    known = known & ~worse
                difference = compute_difference(own, teacher, known, relation)
                term = weight * teacher_error(difference, known, self.config.gradient_weight)
                left_out = 1 - known.float().mean()
        logged = {"teacher/left_out": left_out, "teacher/weight": left_out.new_tensor(weight)}
        return add_terms(report, LossReport.from_terms({"teacher": term}, {}, least={"teacher": 0.0}, logged=logged))
