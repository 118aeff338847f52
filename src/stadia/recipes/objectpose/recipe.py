"""The recipe `objectpose`: class, mask, rotation, translation and size of objects (FastPoseCNN, arXiv 2406.11063).

The network predicts at every pixel. In training, predictions are compared at the pixels of the true objects. In
prediction, pixels that point at one center form an object.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor

from stadia.core.errors import ConfigError
from stadia.core.types import Camera
from stadia.dataloading.object_samples import ObjectInputs, ObjectTargets
from stadia.diagnostics.loss_checks.loss_case import LossCase
from stadia.diagnostics.loss_checks.training_start import take_samples
from stadia.evaluation.plots.colormaps import to_uint8
from stadia.evaluation.plots.image_overlays import draw_masks, draw_objects
from stadia.geometry.segments import segments_from_instances
from stadia.losses.loss_report import LossReport
from stadia.metrics.object_metrics import (
    ImageComparison,
    match_hungarian,
    matched_scores,
    mean_average_precisions,
    merge_comparisons,
)
from stadia.models.encoders import check_encoder
from stadia.models.object_pose_net import ObjectPoseNet
from stadia.recipes.objectpose.config import ObjectPoseConfig
from stadia.recipes.objectpose.data import ObjectBatch, ObjectData, open_objects
from stadia.recipes.objectpose.object_detection import FoundObjects, compare_images, find_objects, ground_truth_objects
from stadia.recipes.objectpose.objectpose_loss import ObjectPoseLoss, object_loss_case
from stadia.training.recipe import Recipe
from stadia.training.validation_scores import gather_from_processes


class ObjectPoseRecipe(Recipe[ObjectPoseConfig, ObjectData, ObjectInputs, ObjectTargets]):
    """Network, loss and validation.

    Args:
        config: with every "auto" resolved, `data.classes` too.
    """

    recipe = "objectpose"
    best_metrics = ("val/rotation_error_deg_of_all",)

    def __init__(self, config: ObjectPoseConfig) -> None:
        super().__init__(config)
        if config.data.classes is None:
            raise ConfigError(
                "data.classes",
                found="none",
                expected="those of the data set",
                fix="call ObjectPoseRecipe.prepare first",
            )
        self.classes = config.data.classes
        self.network = ObjectPoseNet(config.model, len(self.classes))
        self.loss = ObjectPoseLoss(config.loss)
        self._comparisons: dict[object, ImageComparison] = {}  # of the validation that runs

    @classmethod
    def prepare(cls, config: ObjectPoseConfig, console: Console) -> tuple[ObjectPoseConfig, ObjectData]:
        """Open the data, TableWorld by default. Raises DataError, ConfigError."""
        check_encoder(config.model.encoder, height=config.data.height, width=config.data.width)
        data = open_objects(config.data, config.training, seed=config.seed, console=console)
        return config.model_copy(update={"data": data.config}), data

    @property
    def weights(self) -> Mapping[str, str]:
        return {"encoder": self.network.net.encoder.weights}

    def find(self, image: Tensor, camera: Camera) -> FoundObjects:
        """Find the objects in images (B, 3, H, W) with K (B, 3, 3)."""
        return find_objects(self.network, image, camera, self.config.detection)

    def training_step(self, batch: ObjectBatch) -> LossReport:
        return self.loss(self.network, self.network(batch.inputs.image), batch.targets)

    def loss_cases(self, batch: ObjectBatch) -> Mapping[str, LossCase]:
        """Return the loss case of the first images' true objects; none if they show no object."""
        shown = take_samples(batch, 2).targets.to("cpu")
        return (
            {"loss": object_loss_case(self.loss, self.network, shown, len(self.classes))}
            if shown.instance.any()
            else {}
        )

    def on_validation_start(self) -> None:
        self._comparisons = {}

    def validation_step(self, batch: ObjectBatch) -> Mapping[str, Tensor | float]:
        """Return `mask_iou`; `validation_summary` computes the other scores over all images."""
        comparisons = compare_images(self.find(batch.inputs.image, batch.inputs.camera), batch.targets)
        self._comparisons |= dict(zip(batch.meta, comparisons, strict=True))
        return {"mask_iou": torch.tensor([mean_mask_iou(one) for one in comparisons])}

    def validation_summary(self) -> Mapping[str, float]:
        """Return median errors, recalls and average precisions over all objects."""
        images = merge_comparisons(gather_from_processes(self._comparisons))
        return matched_scores(images) | mean_average_precisions(images, range(1, len(self.classes)))

    @torch.no_grad()
    def images(self, batch: ObjectBatch, report: LossReport) -> Mapping[str, NDArray[np.uint8]]:
        """Draw the first sample: input, true boxes, found boxes and masks."""
        was_training = self.training
        first = Camera(batch.inputs.camera.K[:1], batch.inputs.camera.height, batch.inputs.camera.width)
        found = self.eval().find(batch.inputs.image[:1], first)
        self.train(was_training)
        segments = segments_from_instances(batch.targets.instance[:1])
        image, K = to_uint8(batch.inputs.image[0].cpu()), first.K[0].double().cpu().numpy()
        return {
            "input": image,
            "true": draw_objects(image, K, ground_truth_objects(batch.targets, segments)),
            "found": draw_objects(image, K, found.objects),
            "masks": draw_masks(image, found.instance[0].cpu().numpy(), found.class_map[0].cpu().numpy()),
        }


def mean_mask_iou(comparison: ImageComparison) -> float:
    """Return the mean over the true objects of an image, 0 for one that was not found; NaN without objects."""
    pairs = match_hungarian(comparison.mask_iou, comparison.same_class)
    objects = len(comparison.true_class_id)
    return float(comparison.mask_iou[pairs.predicted, pairs.true].sum()) / objects if objects else math.nan
