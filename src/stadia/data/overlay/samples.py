"""Load composite images as training samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from stadia.core.seeds import generator
from stadia.core.types import Batch, Camera, Meta, OverlayInputs, OverlayTargets
from stadia.data.config import NO_AUGMENTATION, AugmentationConfig
from stadia.data.overlay.composer import OverlayImages
from stadia.data.transforms import NO_COLOR, colored, draw, mean_gray
from stadia.geometry.camera import mirrored


@dataclass(frozen=True, slots=True)
class PackedOverlay:
    """A sample as a worker sends it, or a batch with one more axis in front.

    images: (2, 3, H, W) uint8, the composed one and its background.  K: (3, 3).  depth: (1, H, W) float32.  mask: (1,
        H, W) bool.
    color: (3, 4) map for what the network sees, see `transforms.colored`; None for none.
    """

    images: Tensor
    K: Tensor
    depth: Tensor
    mask: Tensor
    color: Tensor | None
    meta: tuple[Meta, ...]

    def pin_memory(self) -> PackedOverlay:
        """Copy all tensors to pinned memory, see `data.packed.Packed`."""
        tensors: dict[str, Any] = {
            f.name: value.pin_memory() for f in fields(self) if isinstance(value := getattr(self, f.name), Tensor)
        }
        return replace(self, **tensors)


class OverlaySamples(Dataset[Batch[OverlayInputs, OverlayTargets]]):
    """Composed images as samples. A sample is a function of (seed, epoch, index), whatever the workers.

    Args:
        images: the images to load.
        split: part of the samples' names.
        height, width: of the samples.
        count: of an epoch; of images on disk all of them, by default.
        fresh: of images that are composed, each epoch goes on where the last one ended.
        augmentation: none by default.  seed: of it; composed images have their own.
    """

    def __init__(
        self,
        images: OverlayImages,
        split: str,
        *,
        height: int,
        width: int,
        count: int | None = None,
        fresh: bool = False,
        augmentation: AugmentationConfig = NO_AUGMENTATION,
        seed: int = 0,
    ) -> None:
        self.images, self.split, self.height, self.width, self.seed = images, split, height, width, seed
        there = images.count
        self.count = min(x for x in (count, there) if x is not None)
        self.fresh = fresh and there is None
        self._augmentation = augmentation

    def __len__(self) -> int:
        return self.count

    def number(self, key: tuple[int, int]) -> int:
        """Return the number of the image for a key (epoch, index)."""
        epoch, index = key
        return epoch * self.count + index if self.fresh else index

    def packed(self, key: tuple[int, int]) -> PackedOverlay:
        """Return the sample of a key (epoch, index)."""
        number = self.number(key)
        one = self.images.composed(number).resized(self.height, self.width)
        random = generator(
            self.seed, "overlay", "colour", *key
        )  # the name of the stream stays, so that draws stay equal
        change = draw(self._augmentation, self.height, self.width, random)
        both = np.stack([one.image, one.background]).transpose(0, 3, 1, 2)
        camera, depth, mask = Camera(torch.from_numpy(one.K), self.height, self.width), one.depth, one.mask
        if change.mirror:
            both, camera, depth, mask = both[..., ::-1], mirrored(camera), depth[:, ::-1].copy(), mask[:, ::-1].copy()
        return PackedOverlay(
            images=torch.from_numpy(np.ascontiguousarray(both)),
            K=camera.K.float(),
            depth=torch.from_numpy(depth)[None],
            mask=torch.from_numpy(mask)[None],
            color=change.color,
            meta=(
                Meta(f"{self.split}: {one.pair.foreground} on {one.pair.background}", number, mirrored=change.mirror),
            ),
        )

    def __getitem__(self, index: int) -> Batch[OverlayInputs, OverlayTargets]:
        """Return the sample of the first epoch as a batch of one."""
        return unpack_overlays(stack_overlays([self.packed((0, index))]))

    def stack(self, samples: Sequence[PackedOverlay]) -> PackedOverlay:
        """Stack samples to a batch."""
        return stack_overlays(samples)

    def unpack(self, packed: PackedOverlay, device: torch.device | str = "cpu") -> Batch[OverlayInputs, OverlayTargets]:
        """Convert a stacked batch to floats on the device."""
        return unpack_overlays(packed, device)


def stack_overlays(samples: Sequence[PackedOverlay]) -> PackedOverlay:
    """Stack samples to a batch; samples without a color map get the identity where others have one."""
    color = None
    if any(one.color is not None for one in samples):
        color = torch.stack([NO_COLOR if one.color is None else one.color for one in samples])
    return PackedOverlay(
        images=torch.stack([one.images for one in samples]),
        K=torch.stack([one.K for one in samples]),
        depth=torch.stack([one.depth for one in samples]),
        mask=torch.stack([one.mask for one in samples]),
        color=color,
        meta=tuple(meta for one in samples for meta in one.meta),
    )


def unpack_overlays(packed: PackedOverlay, device: torch.device | str = "cpu") -> Batch[OverlayInputs, OverlayTargets]:
    """Convert a stacked batch to floats on the device.

    Inputs without color augmentation share memory with the targets.
    """

    def there(tensor: Tensor) -> Tensor:
        return tensor.to(device, non_blocking=True)

    images = there(packed.images).mul(1 / 255)
    image, seen = images[:, 0], images
    if packed.color is not None:
        seen = colored(images, there(packed.color), mean_gray(images[:, 1]))
    size, height, width = len(packed.meta), *images.shape[-2:]
    camera = Camera(there(packed.K), height, width)
    none, no_motion = images.new_zeros(size, 0, 3, height, width), images.new_zeros(size, 0, 4, 4)
    return Batch(
        inputs=OverlayInputs(
            image=seen[:, 0], sources=none, camera=camera, T_source_target_rig=no_motion, background=seen[:, 1]
        ),
        targets=OverlayTargets(
            image=image,
            sources=none,
            camera=camera,
            source_camera=Camera(camera.K[:, None].expand(-1, 0, -1, -1), height, width),
            T_source_target_true=no_motion,
            depth_m=there(packed.depth),
            mask=there(packed.mask),
        ),
        meta=packed.meta,
    )
