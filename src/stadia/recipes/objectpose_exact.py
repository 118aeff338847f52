"""The loss case of `objectpose`: the true objects of images as network maps."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from stadia.core.types import Camera
from stadia.data.object_samples import ObjectTargets
from stadia.diagnostics.contract.exact import Answer, Axis, Exact
from stadia.geometry.camera import inverse_intrinsics
from stadia.geometry.center import center_of_translation, directions_to
from stadia.geometry.rotations import conjugate, multiply, quaternion_of_ray
from stadia.models.object_pose_net import ObjectMaps, ObjectPoseNet
from stadia.recipes.objectpose_loss import ObjectPoseLoss

SURE = 20.0
TIMES = (0.5, 0.8, 1.0, 1.25, 2.0)
TURNS_DEG = (0.0, 10.0, 30.0, 60.0, 90.0)
LOGITS = (-1.0, -0.2, 0.0, 0.2, 1.0)


def true_maps(targets: ObjectTargets, classes: int) -> ObjectMaps:
    """Return the maps of a perfect network. Each class has the same values; the background those of the first object.

    classes: number of classes with the background.
    """
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
    center = center_of_translation(t, Camera(K[:, None], height, width))
    quaternion = multiply(conjugate(quaternion_of_ray(rays)), per_pixel(targets.quaternion_wxyz))
    pixel_m = per_pixel(t[..., 2:]) / K[:, 0, 0, None, None, None]
    outputs = (quaternion, directions_to(per_pixel(center), place), pixel_m.log(), per_pixel(targets.size_m).log())
    expanded = (x.movedim(-1, 1)[:, None].expand(-1, classes - 1, -1, -1, -1).contiguous() for x in outputs)
    logits = SURE * F.one_hot(targets.class_map.clamp(0, classes - 1), classes).movedim(-1, 1).to(K)
    return ObjectMaps(logits, *expanded)


def exact(loss: ObjectPoseLoss, network: ObjectPoseNet, targets: ObjectTargets, classes: int) -> Exact:
    """Return the loss case: the ground truth, and wrong classes, rotations, depths and sizes. In float64, on the CPU.

    network: gives the channel of each class; its weights are not used.
    """
    true = true_maps(replace(targets, camera=targets.camera.to(torch.float64)), classes)
    right = {name: getattr(true, name).double() for name in true.__dataclass_fields__}

    def evaluate(maps: Answer) -> Any:
        return loss(network, ObjectMaps(**maps), targets)

    def turned(degrees: float) -> Tensor:
        """About the object's x axis, which no symmetry of a body of revolution about y forgives."""
        half = math.radians(degrees) / 2
        turn = torch.tensor([math.cos(half), math.sin(half), 0, 0], dtype=torch.float64)
        return multiply(right["quaternion"].movedim(2, -1), turn).movedim(-1, 2)

    def scaled(name: str) -> dict[float, Answer]:
        return {x: {**right, name: right[name] + math.log(x)} for x in TIMES}

    axes = [
        Axis(
            "class logits, times the right ones",
            "L17",
            1.0,
            {x: {**right, "class_logits": right["class_logits"] * x} for x in LOGITS},
        )
    ]
    config = loss.config
    if config.rotation_weight:
        axes.append(
            Axis(
                "degrees from the true rotation", "L17", 0.0, {x: {**right, "quaternion": turned(x)} for x in TURNS_DEG}
            )
        )
    if config.depth:
        axes.append(Axis("depth, times the true one", "L01", 1.0, scaled("log_pixel_m")))
    if config.size:
        axes.append(Axis("size, times the true one", "L17", 1.0, scaled("log_size")))
    off = {
        "class_logits": right["class_logits"] / 10,
        "quaternion": turned(20.0),
        "to_center": right["to_center"] + 0.3,
        "log_pixel_m": right["log_pixel_m"] + 0.1,
        "log_size": right["log_size"] - 0.1,
    }
    return Exact(
        evaluate,
        right,
        off,
        tuple(axes),
        {"targets.quaternion_wxyz": targets.quaternion_wxyz, "targets.size_m": targets.size_m},
    )
