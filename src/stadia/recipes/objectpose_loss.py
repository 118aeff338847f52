"""The loss of `objectpose`: predictions at the pixels of each true object against its ground truth."""

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
    """Terms by name, weighted by the configuration. An image without objects trains the mask only.

    Terms are means over pixels, images or objects of all processes (`losses.reduction.mean_count`): every process must
    call it. Accumulated batches have equal weight, since the object count of the next batches is unknown.
    """

    def __init__(self, config: ObjectLossConfig) -> None:
        self.config = config
        self.rotation = ROTATION_LOSSES.load(config.rotation.name)

    def __call__(self, network: ObjectPoseNet, maps: ObjectMaps, targets: ObjectTargets) -> LossReport:
        segments, known = segments_of(targets.instance), mask.known(targets.class_map)
        shown = (targets.class_map > 0).flatten(1).any(1)
        count = known.new_full((), segments.count, dtype=torch.float32)
        pixels, images, objects = mean_count(torch.stack((known.sum().float(), shown.sum().float(), count)))
        terms = self._mask_terms(maps.class_logits, targets.class_map, pixels, images)
        terms |= {
            name: sum_by(values, objects)
            for name, values in self._object_terms(network, maps, targets, segments).items()
        }
        weighted = {name: self._weight(name) * value for name, value in terms.items()}
        total = torch.stack([*weighted.values(), _zero_term(maps)]).sum()
        terms = {name: value.detach() for name, value in weighted.items()}
        return LossReport(total, terms, {}, least=dict.fromkeys(terms, 0.0))

    def _weight(self, term: str) -> float:
        of_rotation = {"rotation": self.config.rotation_weight, "norm": self.config.rotation.norm_penalty}
        return of_rotation[term] if term in of_rotation else float(getattr(self.config, term))

    def _mask_terms(self, logits: Tensor, classes: Tensor, pixels: Tensor, images: Tensor) -> dict[str, Tensor]:
        """Return the mask terms, means over labeled pixels and over images with objects."""
        config, terms = self.config, {}
        if config.cross_entropy:
            terms["cross_entropy"] = sum_by(mask.cross_entropy(logits, classes), pixels)
        if config.focal:
            terms["focal"] = sum_by(mask.focal(logits, classes, config.focal_gamma), pixels)
        if config.dice:
            terms["dice"] = sum_by(mask.dice(logits, classes), images)  # 0 of an image without an object
        return terms

    def _object_terms(
        self, network: ObjectPoseNet, maps: ObjectMaps, targets: ObjectTargets, segments: Segments
    ) -> dict[str, Tensor]:
        """Return the terms of each object, (M,)."""
        if not segments.count:
            return dict.fromkeys(("rotation", "norm", "center", "depth", "size"), maps.class_logits.new_zeros(0))
        true, row = true_objects(targets, segments), (segments.image, segments.instance - 1)
        predicted = network.pixels(maps, segments, true.class_id, targets.camera)
        found = means_of(predicted, segments)
        of_pixel, count = segments.segment, segments.count
        quaternion_true = targets.quaternion_wxyz[row]
        if self.config.rotation_of == "object":
            rotation = self.rotation(found.quaternion_wxyz, quaternion_true, true.symmetry)
        else:
            each = self.rotation(predicted.quaternion, quaternion_true[of_pixel], true.symmetry[of_pixel])
            rotation = segment_means(each, of_pixel, count)
        camera, t_m = targets.camera, true.T_camera_object[:, :3, 3]
        center = center_of_translation(t_m, Camera(camera.K[segments.image], camera.height, camera.width))
        direction = directions_to(center[of_pixel], predicted.place)
        return {
            "rotation": rotation,
            "norm": segment_means(norm_penalty(predicted.quaternion), of_pixel, count),
            "center": segment_means(center_error(predicted.to_center, direction), of_pixel, count),
            "depth": log_depth_error(found.log_depth, t_m[:, 2]),
            "size": size_error(found.size_m, true.size_m),
        }


def _zero_term(maps: ObjectMaps) -> Tensor:
    """Return 0 with a zero gradient for every map: DDP requires a gradient for each weight."""
    outputs = (maps.class_logits, maps.quaternion, maps.to_center, maps.log_pixel_m, maps.log_size)
    return torch.stack([output[:0].sum() for output in outputs]).sum()
