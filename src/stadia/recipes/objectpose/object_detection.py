"""Find objects in network maps, and compare them with the ground truth."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from stadia.core.types import Camera
from stadia.dataloading.object_samples import IGNORED_CLASS, ObjectTargets
from stadia.geometry.objects.instances import group_instances, vote_center, vote_center_ransac
from stadia.geometry.objects.symmetry import Symmetry
from stadia.geometry.segments import Segments, segments_from_instances, subsample_segments
from stadia.metrics.object_metrics import ImageComparison, PosedObjects, compare_objects, instance_mask_iou
from stadia.models.object_pose_net import (
    ObjectMaps,
    ObjectPoseNet,
    aggregate_objects,
    predict_object_class,
    score_classes,
)
from stadia.recipes.objectpose.config import DetectionConfig


@dataclass(frozen=True, slots=True)
class FoundObjects:
    """Objects found in a batch of images.

    instance: (B, H, W), 0 = none, n = n-th object of the image.
    class_map: (B, H, W), class of each pixel's object.
    image: (M,), image of each object; rows of an image are contiguous, in the order of `instance`.
    objects: M rows.
    center_known: (M,) bool; false if the pixels' directions do not cross: then the mean pixel replaces the center.
    """

    instance: Tensor
    class_map: Tensor
    image: Tensor
    objects: PosedObjects
    center_known: Tensor

    def of_image(self, index: int) -> PosedObjects:
        return self.objects[self.image == index]


def find_objects(network: ObjectPoseNet, image: Tensor, camera: Camera, config: DetectionConfig) -> FoundObjects:
    """Find the objects in images (B, 3, H, W) with K (B, 3, 3)."""
    return group_pixels(network, network(image), camera, config)


def group_pixels(network: ObjectPoseNet, maps: ObjectMaps, camera: Camera, config: DetectionConfig) -> FoundObjects:
    """Group pixels that point at one center into objects, and aggregate class and pose over the pixels."""
    instance = group_instances(maps.class_logits, maps.direction, min_px=config.min_px)
    segments = subsample_segments(segments_from_instances(instance), config.pixels)
    class_id = predict_object_class(maps.class_logits, segments)
    vote = vote_center
    if config.hypotheses:
        vote = partial(vote_center_ransac, generator=torch.Generator().manual_seed(0), hypotheses=config.hypotheses)
    poses = aggregate_objects(network.pixels(maps, segments, class_id, camera), segments, camera, vote)
    score = score_classes(maps.class_logits, segments, class_id)
    nothing = Symmetry.of(["none"] * segments.count)
    symmetry = Symmetry(nothing.revolution.to(score.device), nothing.turns.to(score))
    objects = PosedObjects(class_id, poses.T_camera_object, poses.size_m, symmetry, score)
    return FoundObjects(
        instance, _paint_classes(class_id, instance, segments), segments.image, objects, poses.center_known
    )


def _paint_classes(class_id: Tensor, instance: Tensor, segments: Segments) -> Tensor:
    """Return the class of each pixel's object, (B, H, W); 0 = none. class_id: (M,)."""
    of_number = instance.new_zeros(len(instance), segments.count + 1)
    of_number[segments.image, segments.instance] = class_id
    return of_number.gather(1, instance.flatten(1)).view_as(instance)


def ground_truth_objects(targets: ObjectTargets, segments: Segments) -> PosedObjects:
    """Return the M objects that segments of `targets.instance` show, one a row."""
    return _objects_at(targets, (segments.image, segments.instance - 1))


def image_objects(targets: ObjectTargets, index: int) -> PosedObjects:
    """Return all labeled objects of one image, also those without a pixel at the network size."""
    places = targets.known[index].nonzero()[:, 0]
    return _objects_at(targets, (torch.full_like(places, index), places))


def _objects_at(targets: ObjectTargets, at: tuple[Tensor, Tensor]) -> PosedObjects:
    """Return the objects at image indices and object indices, (M,) each."""
    size_m, symmetry = targets.size_m[at], Symmetry(targets.symmetry.revolution[at], targets.symmetry.turns[at])
    return PosedObjects(
        targets.class_id[at], targets.T_camera_object[at], size_m, symmetry, torch.ones_like(size_m[:, 0])
    )


def compare_images(found: FoundObjects, targets: ObjectTargets) -> list[ImageComparison]:
    """Compare the found objects of each image with all labeled ones.

    Pixels of unlabeled objects belong to no mask; an object found mostly there is neither right nor a false alarm.
    """
    comparisons = []
    labeled = found.instance.where(targets.class_map != IGNORED_CLASS, 0)
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
