"""The recipe `objectpose`: class, mask, rotation, translation and size of objects (FastPoseCNN, arXiv 2406.11063)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor

from stadia.core.errors import ConfigError
from stadia.core.types import Camera
from stadia.diagnostics.loss_checks.loss_case import LossCase
from stadia.diagnostics.loss_checks.training_start import take_samples
from stadia.evaluation.plots.colormaps import to_uint8
from stadia.evaluation.plots.image_overlays import draw_masks
from stadia.geometry.segments import Segments, segments_from_instances, subsample_segments
from stadia.losses.class_masks import IGNORE_INDEX
from stadia.losses.config import load_loss
from stadia.losses.loss_report import LossReport
from stadia.models.encoders import check_encoder
from stadia.objectpose.boxes import Symmetry
from stadia.objectpose.config import DetectionConfig, ObjectPoseConfig
from stadia.objectpose.data.object_data import ObjectBatch, ObjectData, open_objects
from stadia.objectpose.data.object_samples import ObjectInputs, ObjectTargets
from stadia.objectpose.ground_truth import (
    ground_truth_objects,
    image_objects,
    label_object_poses,
    make_object_pose_case,
)
from stadia.objectpose.instances import group_instances, vote_center, vote_center_ransac
from stadia.objectpose.losses import ObjectPoseLoss, ObjectPosePrediction
from stadia.objectpose.metrics import (
    ImageComparison,
    PosedObjects,
    compare_objects,
    instance_mask_iou,
    match_hungarian,
    matched_scores,
    mean_average_precisions,
    merge_comparisons,
)
from stadia.objectpose.network import (
    ObjectMaps,
    ObjectPoseNet,
    aggregate_objects,
    average_object_pixels,
    predict_object_class,
    score_classes,
)
from stadia.objectpose.predictions import draw_objects
from stadia.training.recipe import Recipe
from stadia.training.validation_scores import gather_from_processes


class ObjectPoseRecipe(Recipe[ObjectPoseConfig, ObjectData, ObjectInputs, ObjectTargets]):
    """Class, mask, rotation, translation and size of objects, from labels. config: with every "auto" resolved."""

    recipe = "objectpose"
    best_metrics = ("val/rotation_error_deg_of_all",)

    def __init__(self, config: ObjectPoseConfig) -> None:
        super().__init__(config)
        if config.data.classes is None:
            fix = "call ObjectPoseRecipe.prepare first"
            raise ConfigError("data.classes", found="none", expected="the data set's classes", fix=fix)
        self.classes = config.data.classes
        self.network = ObjectPoseNet(config.model, len(self.classes))
        self.loss = load_loss(config.loss.name, ObjectPoseLoss)(config.loss)
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
        return group_pixels(self.network, self.network(image), camera, self.config.detection)

    def training_step(self, batch: ObjectBatch) -> LossReport:
        return self.compute_loss(self.network(batch.inputs.image), batch.targets)

    def compute_loss(self, maps: ObjectMaps, targets: ObjectTargets) -> LossReport:
        """Compare predictions with labels at the pixels of the true objects."""
        true, labels = label_object_poses(targets)
        pixels = self.network.pixels(maps, labels.segments, true.class_id, targets.camera)
        found = average_object_pixels(pixels, labels.segments)
        prediction = ObjectPosePrediction(
            class_logits=maps.class_logits,
            place=pixels.place,
            pixel_quaternion=pixels.quaternion,
            pixel_to_center=pixels.to_center,
            quaternion=found.quaternion_wxyz,
            log_depth=found.log_depth,
            size_m=found.size_m,
        )
        return self.loss(prediction, labels)

    def loss_cases(self, batch: ObjectBatch) -> Mapping[str, LossCase]:
        """Return the loss case of the first images' true objects, if they show some."""
        shown = take_samples(batch, 2).targets.to("cpu")
        return (
            {"loss": make_object_pose_case(self.compute_loss, self.config.loss, shown, len(self.classes))}
            if shown.instance.any()
            else {}
        )

    def on_validation_start(self) -> None:
        self._comparisons = {}

    def validation_step(self, batch: ObjectBatch) -> Mapping[str, Tensor | float]:
        """Return `mask_iou`; `validation_summary` computes the other scores."""
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


@dataclass(frozen=True, slots=True)
class FoundObjects:
    """Objects found in a batch of images.

    instance: (B, H, W), 0 = none, n = n-th object of the image.
    class_map: (B, H, W), class of each pixel's object.
    image: (M,), image of each object; rows of an image are contiguous, in the order of `instance`.
    center_known: (M,) bool; false if the pixels' directions do not cross: then the mean pixel replaces the center.
    """

    instance: Tensor
    class_map: Tensor
    image: Tensor
    objects: PosedObjects
    center_known: Tensor

    def of_image(self, index: int) -> PosedObjects:
        """Return the objects of one image of the batch."""
        return self.objects[self.image == index]


def group_pixels(network: ObjectPoseNet, maps: ObjectMaps, camera: Camera, config: DetectionConfig) -> FoundObjects:
    """Group pixels that point at one center into objects, and average class and pose over them."""
    instance = group_instances(maps.class_logits, maps.direction, min_px=config.min_px)
    segments = subsample_segments(segments_from_instances(instance), config.pixels)
    class_id = predict_object_class(maps.class_logits, segments)
    vote = vote_center
    if config.hypotheses:
        vote = partial(vote_center_ransac, generator=torch.Generator().manual_seed(0), hypotheses=config.hypotheses)
    poses = aggregate_objects(network.pixels(maps, segments, class_id, camera), segments, camera, vote)
    score = score_classes(maps.class_logits, segments, class_id)
    nothing = Symmetry.parse(["none"] * segments.count)
    symmetry = Symmetry(nothing.revolution.to(score.device), nothing.turns.to(score))
    objects = PosedObjects(class_id, poses.T_camera_object, poses.size_m, symmetry, score)
    return FoundObjects(
        instance, _paint_classes(class_id, instance, segments), segments.image, objects, poses.center_known
    )


def _paint_classes(class_id: Tensor, instance: Tensor, segments: Segments) -> Tensor:
    of_number = instance.new_zeros(len(instance), segments.count + 1)
    of_number[segments.image, segments.instance] = class_id
    return of_number.gather(1, instance.flatten(1)).view_as(instance)


def compare_images(found: FoundObjects, targets: ObjectTargets) -> list[ImageComparison]:
    """Compare the found objects of each image with all labeled ones, without those on unlabeled objects."""
    comparisons = []
    labeled = found.instance.where(targets.class_map != IGNORE_INDEX, 0)
    for index, known in enumerate(targets.known.cpu().numpy()):
        predicted = found.of_image(index)
        whole, left = (
            torch.bincount(of[index].flatten(), minlength=len(predicted) + 1)[1:] for of in (found.instance, labeled)
        )
        kept = 2 * left >= whole
        overlap = instance_mask_iou(labeled[index], targets.instance[index], len(predicted), len(known))[
            kept.cpu().numpy()
        ][:, known]
        comparisons.append(compare_objects(predicted[kept], image_objects(targets, index), overlap))
    return comparisons


def mean_mask_iou(comparison: ImageComparison) -> float:
    """Return the mean over the true objects of an image, 0 for a missed one; NaN without objects."""
    pairs = match_hungarian(comparison.mask_iou, comparison.same_class)
    objects = len(comparison.true_class_id)
    return float(comparison.mask_iou[pairs.predicted, pairs.true].sum()) / objects if objects else math.nan
