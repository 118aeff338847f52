"""Find objects in network maps, and compare them with the ground truth."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from stadia.core.types import Camera
from stadia.data.object_samples import UNKNOWN, ObjectTargets
from stadia.geometry.center import vote_center, vote_center_ransac
from stadia.geometry.instances import instances_of
from stadia.geometry.segments import Segments, segments_of, thinned
from stadia.geometry.symmetry import Symmetry
from stadia.metrics.matching import mask_iou
from stadia.metrics.object_pose import Objects
from stadia.metrics.object_scores import Comparison, compare
from stadia.models.object_aggregation import aggregate, class_scores, likeliest_class
from stadia.models.object_pose_net import ObjectMaps, ObjectPoseNet
from stadia.recipes.objectpose_config import FindingConfig


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
    objects: Objects
    center_known: Tensor

    def of_image(self, picture: int) -> Objects:
        return self.objects[self.image == picture]


def find(network: ObjectPoseNet, image: Tensor, camera: Camera, config: FindingConfig) -> FoundObjects:
    """Find the objects in images (B, 3, H, W) with K (B, 3, 3)."""
    return gather(network, network(image), camera, config)


def gather(network: ObjectPoseNet, maps: ObjectMaps, camera: Camera, config: FindingConfig) -> FoundObjects:
    """Group pixels that point at one center into objects, and aggregate class and pose over the pixels."""
    instance = instances_of(maps.class_logits, maps.direction, fewest_px=config.fewest_px)
    segments = thinned(segments_of(instance), config.pixels)
    class_id = likeliest_class(maps.class_logits, segments)
    vote = vote_center
    if config.hypotheses:
        vote = partial(vote_center_ransac, generator=torch.Generator().manual_seed(0), hypotheses=config.hypotheses)
    poses = aggregate(network.pixels(maps, segments, class_id, camera), segments, camera, vote)
    score = class_scores(maps.class_logits, segments, class_id)
    nothing = Symmetry.of(["none"] * segments.count)
    symmetry = Symmetry(nothing.revolution.to(score.device), nothing.turns.to(score))
    objects = Objects(class_id, poses.T_camera_object, poses.size_m, symmetry, score)
    return FoundObjects(
        instance, _paint_classes(class_id, instance, segments), segments.image, objects, poses.center_known
    )


def _paint_classes(class_id: Tensor, instance: Tensor, segments: Segments) -> Tensor:
    """Return the class of each pixel's object, (B, H, W); 0 = none. class_id: (M,)."""
    of_number = instance.new_zeros(len(instance), segments.count + 1)
    of_number[segments.image, segments.instance] = class_id
    return of_number.gather(1, instance.flatten(1)).view_as(instance)


def true_objects(targets: ObjectTargets, segments: Segments) -> Objects:
    """Return the M objects that segments of `targets.instance` show, one a row."""
    return _objects_at(targets, (segments.image, segments.instance - 1))


def objects_of_image(targets: ObjectTargets, picture: int) -> Objects:
    """Return all labeled objects of one image, also those without a pixel at the network size."""
    places = targets.known[picture].nonzero()[:, 0]
    return _objects_at(targets, (torch.full_like(places, picture), places))


def _objects_at(targets: ObjectTargets, at: tuple[Tensor, Tensor]) -> Objects:
    """Return the objects at image indices and object indices, (M,) each."""
    size_m, symmetry = targets.size_m[at], Symmetry(targets.symmetry.revolution[at], targets.symmetry.turns[at])
    return Objects(targets.class_id[at], targets.T_camera_object[at], size_m, symmetry, torch.ones_like(size_m[:, 0]))


def compare_images(found: FoundObjects, targets: ObjectTargets) -> list[Comparison]:
    """Compare the found objects of each image with all labeled ones.

    Pixels of unlabeled objects belong to no mask; an object found mostly there is neither right nor a false alarm.
    """
    comparisons = []
    labeled = found.instance.where(targets.class_map != UNKNOWN, 0)
    for picture, known in enumerate(targets.known.cpu().numpy()):
        predicted = found.of_image(picture)
        whole, left = (
            torch.bincount(of[picture].flatten(), minlength=len(predicted) + 1)[1:] for of in (found.instance, labeled)
        )
        kept = 2 * left >= whole
        overlap = mask_iou(labeled[picture], targets.instance[picture], len(predicted), len(known))[kept.cpu().numpy()][
            :, known
        ]
        comparisons.append(compare(predicted[kept], objects_of_image(targets, picture), overlap))
    return comparisons
