"""Labeled objects as rows, labels of the loss, maps of a perfect network, and a loss case."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from stadia.core.types import Camera
from stadia.diagnostics.loss_checks.loss_case import ErrorAxis, LossCase, Outputs
from stadia.geometry.camera import inverse_intrinsics
from stadia.geometry.se3 import quaternion_conjugate, quaternion_from_ray, quaternion_multiply
from stadia.geometry.segments import Segments, segments_from_instances
from stadia.losses.loss_report import LossReport
from stadia.objectpose.boxes import Symmetry
from stadia.objectpose.config import ObjectPoseLossConfig
from stadia.objectpose.data.object_samples import ObjectTargets
from stadia.objectpose.instances import center_from_translation, unit_directions
from stadia.objectpose.losses import ObjectPoseLabels
from stadia.objectpose.metrics import PosedObjects
from stadia.objectpose.network import ObjectMaps

CERTAIN_LOGIT = 20.0
"""Logit of the true class in the maps of a perfect network."""

# Errors of the loss case: factors of depth and size, turns, and factors of the logits.
TIMES = (0.5, 0.8, 1.0, 1.25, 2.0)
TURNS_DEG = (0.0, 10.0, 30.0, 60.0, 90.0)
LOGITS = (-1.0, -0.2, 0.0, 0.2, 1.0)


def ground_truth_objects(targets: ObjectTargets, segments: Segments) -> PosedObjects:
    """Return the M objects that segments of `targets.instance` show, one per row."""
    return _objects_at(targets, (segments.image, segments.instance - 1))


def image_objects(targets: ObjectTargets, index: int) -> PosedObjects:
    """Return all labeled objects of one image, even without a pixel at the network size."""
    places = targets.known[index].nonzero()[:, 0]
    return _objects_at(targets, (torch.full_like(places, index), places))


def _objects_at(targets: ObjectTargets, at: tuple[Tensor, Tensor]) -> PosedObjects:
    size_m, symmetry = targets.size_m[at], Symmetry(targets.symmetry.revolution[at], targets.symmetry.turns[at])
    return PosedObjects(
        targets.class_id[at], targets.T_camera_object[at], size_m, symmetry, torch.ones_like(size_m[:, 0])
    )


def label_object_poses(targets: ObjectTargets) -> tuple[PosedObjects, ObjectPoseLabels]:
    """Return the M objects that pixels of `targets.instance` show, and their labels for the loss."""
    segments = segments_from_instances(targets.instance)
    true, camera = ground_truth_objects(targets, segments), targets.camera
    t_m = true.T_camera_object[:, :3, 3]
    center = center_from_translation(t_m, Camera(camera.K[segments.image], camera.height, camera.width))
    quaternion = targets.quaternion_wxyz[segments.image, segments.instance - 1]
    labels = ObjectPoseLabels(targets.class_map, segments, quaternion, center, t_m[:, 2], true.size_m, true.symmetry)
    return true, labels


def ground_truth_maps(targets: ObjectTargets, classes: int) -> ObjectMaps:
    """Return the maps of a perfect network, the same for each class. classes: with the background."""
    images, height, width = targets.instance.shape
    K = targets.camera.K
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    place = torch.stack((x, y), -1).to(K).expand(images, -1, -1, -1)
    rays = (
        torch.cat((place, torch.ones_like(place[..., :1])), -1)[..., None, :]
        .mul(inverse_intrinsics(K)[:, None, None])
        .sum(-1)
    )

    def per_pixel(values: Tensor) -> Tensor:
        """(B, N, k) to (B, H, W, k)."""
        at = (targets.instance - 1).clamp(min=0).flatten(1)[..., None].expand(-1, -1, values.shape[-1])
        return values.gather(1, at).reshape(images, height, width, -1)

    t = targets.T_camera_object[..., :3, 3]
    center = center_from_translation(t, Camera(K[:, None], height, width))
    quaternion = quaternion_multiply(
        quaternion_conjugate(quaternion_from_ray(rays)), per_pixel(targets.quaternion_wxyz)
    )
    pixel_m = per_pixel(t[..., 2:]) / K[:, 0, 0, None, None, None]
    outputs = (quaternion, unit_directions(per_pixel(center), place), pixel_m.log(), per_pixel(targets.size_m).log())
    expanded = (x.movedim(-1, 1)[:, None].expand(-1, classes - 1, -1, -1, -1).contiguous() for x in outputs)
    logits = CERTAIN_LOGIT * F.one_hot(targets.class_map.clamp(0, classes - 1), classes).movedim(-1, 1).to(K)
    return ObjectMaps(logits, *expanded)


def make_object_pose_case(
    compute_loss: Callable[[ObjectMaps, ObjectTargets], LossReport],
    config: ObjectPoseLossConfig,
    targets: ObjectTargets,
    classes: int,
) -> LossCase:
    """Return the loss case: the ground truth, and wrong classes, rotations, depths and sizes, in float64 on the CPU."""
    true = ground_truth_maps(replace(targets, camera=targets.camera.to(torch.float64)), classes)
    right = {name: getattr(true, name).double() for name in true.__dataclass_fields__}

    def evaluate(maps: Outputs) -> LossReport:
        return compute_loss(ObjectMaps(**maps), targets)

    def turned(degrees: float) -> Tensor:
        """About the object's x axis, which no symmetry of a body of revolution about y forgives."""
        half = math.radians(degrees) / 2
        turn = torch.tensor([math.cos(half), math.sin(half), 0, 0], dtype=torch.float64)
        return quaternion_multiply(right["quaternion"].movedim(2, -1), turn).movedim(-1, 2)

    def scaled(name: str) -> dict[float, Outputs]:
        return {x: {**right, name: right[name] + math.log(x)} for x in TIMES}

    axes = [
        ErrorAxis(
            "class logits, times the right ones",
            "L17",
            1.0,
            {x: {**right, "class_logits": right["class_logits"] * x} for x in LOGITS},
        )
    ]
    if config.rotation_weight:
        axes.append(
            ErrorAxis(
                "degrees from the true rotation", "L17", 0.0, {x: {**right, "quaternion": turned(x)} for x in TURNS_DEG}
            )
        )
    if config.depth:
        axes.append(ErrorAxis("depth, times the true one", "L01", 1.0, scaled("log_pixel_m")))
    if config.size:
        axes.append(ErrorAxis("size, times the true one", "L17", 1.0, scaled("log_size")))
    off = {
        "class_logits": right["class_logits"] / 10,
        "quaternion": turned(20.0),
        "to_center": right["to_center"] + 0.3,
        "log_pixel_m": right["log_pixel_m"] + 0.1,
        "log_size": right["log_size"] - 0.1,
    }
    switched_off = (name.removesuffix("_weight") for name, value in config if value == 0)
    return LossCase(
        evaluate,
        right,
        off,
        tuple(axes),
        {"targets.quaternion_wxyz": targets.quaternion_wxyz, "targets.size_m": targets.size_m},
        left_out=("norm", *switched_off),  # the quaternions of the case are normalized
    )
