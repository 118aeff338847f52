"""What the loss of `objectpose` must like best: the images' own true objects, said at every pixel."""

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
    """What a network that knows the truth would say, at every pixel: each answer for each class, of the first object
    where there is none.

    classes: with the background.
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

    def of(values: Tensor) -> Tensor:
        """(B, N, k) to (B, H, W, k)."""
        at = (targets.instance - 1).clamp(min=0).flatten(1)[..., None].expand(-1, -1, values.shape[-1])
        return values.gather(1, at).reshape(images, height, width, -1)

    t = targets.T_camera_object[..., :3, 3]
    center = center_of_translation(t, Camera(K[:, None], height, width))
    quaternion = multiply(conjugate(quaternion_of_ray(rays)), of(targets.quaternion_wxyz))
    pixel_m = of(t[..., 2:]) / K[:, 0, 0, None, None, None]
    answers = (quaternion, directions_to(of(center), place), pixel_m.log(), of(targets.size_m).log())
    said = (x.movedim(-1, 1)[:, None].expand(-1, classes - 1, -1, -1, -1).contiguous() for x in answers)
    logits = SURE * F.one_hot(targets.class_map.clamp(0, classes - 1), classes).movedim(-1, 1).to(K)
    return ObjectMaps(logits, *said)


def exact(loss: ObjectPoseLoss, network: ObjectPoseNet, targets: ObjectTargets, classes: int) -> Exact:
    """The loss, asked of the true answer, and of answers with other classes, rotations, depths and sizes. In float64,
    on the processor.

    network: for the classes' places among its channels; none of its weights is read.
    """
    true = true_maps(replace(targets, camera=targets.camera.to(torch.float64)), classes)
    right = {name: getattr(true, name).double() for name in true.__dataclass_fields__}

    def asked(answer: Answer) -> Any:
        return loss(network, ObjectMaps(**answer), targets)

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
        asked,
        right,
        off,
        tuple(axes),
        {"targets.quaternion_wxyz": targets.quaternion_wxyz, "targets.size_m": targets.size_m},
    )
