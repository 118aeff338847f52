"""What a model promises: contract(name, part, a folder to write to), as those of test_tables.py; and what each is asked with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stadia.core.config import StrictModel
from stadia.core.types import Batch, Camera, Inputs, Meta, Targets
from stadia.models.config import DepthAndMotionConfig
from stadia.models.dpt_config import DptConfig
from stadia.models.object_pose_config import ObjectPoseNetConfig


def model(name: str, part: Any, folder: Path) -> None:
    """Built from a configuration, it predicts: finite, with gradients in every parameter that trains. See MODEL_EXAMPLES."""
    assert name in MODEL_EXAMPLES, f"a new model needs an example: MODEL_EXAMPLES['{name}'] = its configuration, and what it sees"
    torch.manual_seed(0)
    config, given = MODEL_EXAMPLES[name]()
    built = part(config)
    prediction = built(given)
    parts = [prediction] if isinstance(prediction, Tensor) else [getattr(prediction, field.name) for field in fields(prediction)]
    said = [tensor for part_ in parts for tensor in (part_ if isinstance(part_, tuple) else (part_,))]
    assert said
    assert all(tensor.isfinite().all() for tensor in said)
    sum(tensor.sum() for tensor in said).backward()
    assert [n for n, p in built.named_parameters() if p.requires_grad and p.grad is None] == []


def batch() -> Batch:
    """Two random samples of 64x96 with the sources -1, +1 and stereo."""
    generator = torch.Generator().manual_seed(0)
    image, sources = torch.rand(2, 3, 64, 96, generator=generator), torch.rand(2, 3, 3, 64, 96, generator=generator)
    K = torch.tensor([[60.0, 0, 47.5], [0, 60.0, 31.5], [0, 0, 1]])
    camera, source_camera = Camera(K.expand(2, 3, 3), 64, 96), Camera(K.expand(2, 3, 3, 3), 64, 96)
    rig = torch.full((2, 3, 4, 4), torch.nan)
    rig[:, 2] = torch.eye(4)
    rig[:, 2, 0, 3] = -0.5
    return Batch(
        inputs=Inputs(image=image, sources=sources, camera=camera, T_source_target_rig=rig),
        targets=Targets(image=image, sources=sources, camera=camera, source_camera=source_camera, T_source_target_true=rig),
        meta=(Meta("random", 0, "left"), Meta("random", 1, "left")),
        source_names=("-1", "+1", "stereo"),
    )


def depth_and_motion() -> tuple[StrictModel, Batch]:
    encoders = {"encoder": "mobilenetv3_small_050", "pose_encoder": "mobilenetv3_small_050"}
    return DepthAndMotionConfig(**encoders, pretrained=False), batch()


def dpt() -> tuple[StrictModel, Tensor]:
    return DptConfig(network="dpt-tiny"), batch().inputs.image


def objectpose_net() -> tuple[StrictModel, Tensor]:
    config = ObjectPoseNetConfig(encoder="mobilenetv3_small_050", pretrained=False, pyramid_channels=8, segmentation_channels=8)
    return config, batch().inputs.image


MODEL_EXAMPLES: dict[str, Callable[[], tuple[StrictModel, Batch[Any, Any] | Tensor]]] = {
    "depth_and_motion": depth_and_motion,
    "dpt": dpt,
    "objectpose_net": objectpose_net,
}
"""By name, a model's small configuration and what it sees. What it says is a tensor, or a dataclass of tensors or tuples of them."""
