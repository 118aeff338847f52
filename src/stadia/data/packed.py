"""Pack samples for transfer from workers: images stay bytes, a sixth of the size of the batch.

Allocating a batch of floats and moving it through shared memory costs several times more than loading it. So workers
send bytes and the drawn color map, and the training process converts once, on its device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from stadia.core.errors import GeometryError
from stadia.core.types import Batch, Camera, Inputs, Meta, Targets
from stadia.data.transforms import NO_COLOR, colored, mean_gray


@dataclass(frozen=True, slots=True)
class Packed:
    """A sample, or a batch with a leading axis. The first image is the target.

    images: (N + 1, 3, H, W) uint8, resized, mirrored and zoomed.
    K: (N + 1, 3, 3) of each image.
    color: (3, 4) map for the network's input, see `transforms.colored`; None for none.
    T_source_target_rig, T_source_target_true: (N, 4, 4), see Inputs and Targets.
    depth_m: (1, H, W) of the target, 0 = none; None without ground truth.
    """

    images: Tensor
    K: Tensor
    color: Tensor | None
    T_source_target_rig: Tensor
    T_source_target_true: Tensor
    depth_m: Tensor | None
    meta: tuple[Meta, ...]
    source_names: tuple[str, ...]

    def pin_memory(self) -> Packed:
        """Pin the tensors, so that transfers to a GPU overlap with its work. Called by torch's DataLoader."""
        tensors: dict[str, Any] = {
            f.name: value.pin_memory() for f in fields(self) if isinstance(value := getattr(self, f.name), Tensor)
        }
        return replace(self, **tensors)


def stack_samples(samples: Sequence[Packed]) -> Packed:
    """Stack samples to a batch. Samples without depth or color map get 0 or the identity, if others have one."""
    names = {sample.source_names for sample in samples}
    if len(names) > 1:
        found = f"sources {sorted(names)}"
        raise GeometryError("batch", found=found, expected="the same in each sample", fix="load mono and stereo apart")
    depths = _stack_or_default([sample.depth_m for sample in samples], torch.zeros(1, *samples[0].images.shape[-2:]))
    colors = _stack_or_default([sample.color for sample in samples], NO_COLOR)
    return Packed(
        images=torch.stack([sample.images for sample in samples]),
        K=torch.stack([sample.K for sample in samples]),
        color=colors,
        T_source_target_rig=torch.stack([sample.T_source_target_rig for sample in samples]),
        T_source_target_true=torch.stack([sample.T_source_target_true for sample in samples]),
        depth_m=depths,
        meta=tuple(meta for sample in samples for meta in sample.meta),
        source_names=samples[0].source_names,
    )


def _stack_or_default(values: Sequence[Tensor | None], default: Tensor) -> Tensor | None:
    if all(value is None for value in values):
        return None
    return torch.stack([default if value is None else value for value in values])


def unpack_batch(packed: Packed, device: torch.device | str = "cpu") -> Batch:
    """Convert to floats on the device. Without color augmentation, inputs share memory with targets."""

    def to_device(tensor: Tensor) -> Tensor:
        return tensor.to(device, non_blocking=True)

    images = to_device(packed.images)
    image, sources = images[..., 0, :, :, :].mul(1 / 255), images[..., 1:, :, :, :].mul(1 / 255)
    input_image, input_sources = image, sources
    if packed.color is not None:
        color, gray = to_device(packed.color), mean_gray(image)
        input_image = colored(image[..., None, :, :, :], color, gray)[..., 0, :, :, :]
        input_sources = colored(sources, color, gray)
    height, width = images.shape[-2:]
    K = to_device(packed.K)
    camera = Camera(K[..., 0, :, :], height, width)
    return Batch(
        inputs=Inputs(
            image=input_image,
            sources=input_sources,
            camera=camera,
            T_source_target_rig=to_device(packed.T_source_target_rig),
        ),
        targets=Targets(
            image=image,
            sources=sources,
            camera=camera,
            source_camera=Camera(K[..., 1:, :, :], height, width),
            T_source_target_true=to_device(packed.T_source_target_true),
            depth_m=None if packed.depth_m is None else to_device(packed.depth_m),
        ),
        meta=packed.meta,
        source_names=packed.source_names,
    )
