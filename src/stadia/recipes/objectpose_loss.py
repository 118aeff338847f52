"""The loss of the recipe `objectpose`: what the pixels of each true object say, compared with what is known of it."""

from __future__ import annotations

import torch
from torch import Tensor

from stadia.core.types import Camera
from stadia.data.object_samples import ObjectTargets
from stadia.geometry.center import center_of_translation, directions_to
from stadia.geometry.segments import Segments, segment_means, segments_of
from stadia.losses import ROTATION_LOSSES, mask
from stadia.losses.object_pose import center_error, log_depth_error, size_error
from stadia.losses.reduction import mean_count, sum_by
from stadia.losses.report import LossReport
from stadia.losses.rotation import norm_penalty
from stadia.models.object_aggregation import means_of
from stadia.models.object_pose_net import ObjectMaps, ObjectPoseNet
from stadia.recipes.found_objects import true_objects
from stadia.recipes.objectpose_config import ObjectLossConfig


class ObjectPoseLoss:
    """Terms by name, weighted as the configuration says. An image without an object teaches the mask alone.

    Terms are means over the pixels, images or objects of all processes' batches (`losses.reduction.mean_count`): every
    process has to call it. Batches that are accumulated to a step count alike, whatever they show: how many objects the
    next ones have is not known yet.
    """

    def __init__(self, config: ObjectLossConfig) -> None:
        self.config = config
        self.rotation = ROTATION_LOSSES.load(config.rotation.name)

    def __call__(self, network: ObjectPoseNet, maps: ObjectMaps, targets: ObjectTargets) -> LossReport:
        segments, known = segments_of(targets.instance), mask.known(targets.class_map)
        shown = (targets.class_map > 0).flatten(1).any(1)
        count = known.new_full((), segments.count, dtype=torch.float32)
        pixels, images, objects = mean_count(torch.stack((known.sum().float(), shown.sum().float(), count)))
        terms = self._of_mask(maps.class_logits, targets.class_map, pixels, images)
        terms |= {
            name: sum_by(values, objects) for name, values in self._of_objects(network, maps, targets, segments).items()
        }
        weighted = {name: self._weight(name) * value for name, value in terms.items()}
        total = torch.stack([*weighted.values(), _of_nothing(maps)]).sum()
        terms = {name: value.detach() for name, value in weighted.items()}
        return LossReport(total, terms, {}, least=dict.fromkeys(terms, 0.0))

    def _weight(self, term: str) -> float:
        of_rotation = {"rotation": self.config.rotation_weight, "norm": self.config.rotation.norm_penalty}
        return of_rotation[term] if term in of_rotation else float(getattr(self.config, term))

    def _of_mask(self, logits: Tensor, classes: Tensor, pixels: Tensor, images: Tensor) -> dict[str, Tensor]:
        """Of as many pixels with a class, and images with an object, as there are."""
        config, terms = self.config, {}
        if config.cross_entropy:
            terms["cross_entropy"] = sum_by(mask.cross_entropy(logits, classes), pixels)
        if config.focal:
            terms["focal"] = sum_by(mask.focal(logits, classes, config.focal_gamma), pixels)
        if config.dice:
            terms["dice"] = sum_by(mask.dice(logits, classes), images)  # 0 of an image without an object
        return terms

    def _of_objects(
        self, network: ObjectPoseNet, maps: ObjectMaps, targets: ObjectTargets, segments: Segments
    ) -> dict[str, Tensor]:
        """(M,) of each object."""
        if not segments.count:
            return dict.fromkeys(("rotation", "norm", "center", "depth", "size"), maps.class_logits.new_zeros(0))
        true, row = true_objects(targets, segments), (segments.image, segments.instance - 1)
        said = network.pixels(maps, segments, true.class_id, targets.camera)
        found = means_of(said, segments)
        of_pixel, count = segments.segment, segments.count
        quaternion_true = targets.quaternion_wxyz[row]
        if self.config.rotation_of == "object":
            rotation = self.rotation(found.quaternion_wxyz, quaternion_true, true.symmetry)
        else:
            each = self.rotation(said.quaternion, quaternion_true[of_pixel], true.symmetry[of_pixel])
            rotation = segment_means(each, of_pixel, count)
        camera, t_m = targets.camera, true.T_camera_object[:, :3, 3]
        center = center_of_translation(t_m, Camera(camera.K[segments.image], camera.height, camera.width))
        direction = directions_to(center[of_pixel], said.place)
        return {
            "rotation": rotation,
            "norm": segment_means(norm_penalty(said.quaternion), of_pixel, count),
            "center": segment_means(center_error(said.to_center, direction), of_pixel, count),
            "depth": log_depth_error(found.log_depth, t_m[:, 2]),
            "size": size_error(found.size_m, true.size_m),
        }


def _of_nothing(maps: ObjectMaps) -> Tensor:
    """0, with a gradient of 0 for every answer: processes that train together (DDP) stop where one has none for a
    weight.
    """
    answers = (maps.class_logits, maps.quaternion, maps.to_center, maps.log_pixel_m, maps.log_size)
    return torch.stack([answer[:0].sum() for answer in answers]).sum()
