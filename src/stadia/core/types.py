"""The types that cross rooms: Camera, Batch (inputs, targets, meta kept apart), Prediction, Predictor.

Frames and units are in names. `T_b_a` takes points of frame a to frame b: p_b = T_b_a p_a.
A sample is a Batch without its first axis; `collate` stacks samples into a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol, Self

import torch
from torch import Tensor

from stadia.core.errors import GeometryError


class Claim(StrEnum):
    """What a depth prediction claims to be; a protocol refuses a claim that it cannot score."""

    METRES = "metres"
    UP_TO_SCALE = "up-to-scale"
    AFFINE_INVERSE = "affine-inverse"  # inverse depth, up to scale and shift


@dataclass(frozen=True, slots=True)
class Camera:
    """A pinhole camera together with the size of the picture it belongs to.

    Args:
        K: (..., 3, 3) intrinsics in pixels; pixel centres at integer coordinates, the top-left centre is (0, 0).
        height, width: of the picture in pixels.

    It only records. Every change of a picture goes through `stadia.geometry.camera`, which changes both together.
    Raises GeometryError where K cannot be an intrinsic matrix.
    """

    K: Tensor
    height: int
    width: int

    def __post_init__(self) -> None:
        if self.K.shape[-2:] != (3, 3) or not self.K.is_floating_point():
            raise GeometryError(
                "camera K",
                found=f"shape {tuple(self.K.shape)} of {self.K.dtype}",
                expected="(..., 3, 3) of a float type",
                cure="pass [[fx, 0, cx], [0, fy, cy], [0, 0, 1]] in pixels",
            )
        if self.height < 1 or self.width < 1:
            raise GeometryError(
                "camera size", found=f"{self.width}x{self.height}", expected="a positive size", cure="pass the picture's size"
            )

    def to(self, *args: Any, **kwargs: Any) -> Camera:
        return Camera(self.K.to(*args, **kwargs), self.height, self.width)

    @property
    def fx(self) -> Tensor:
        """(...) focal length along x, pixels."""
        return self.K[..., 0, 0]

    @property
    def fy(self) -> Tensor:
        """(...) focal length along y, pixels."""
        return self.K[..., 1, 1]

    @property
    def cx(self) -> Tensor:
        """(...) principal point, x, pixels."""
        return self.K[..., 0, 2]

    @property
    def cy(self) -> Tensor:
        """(...) principal point, y, pixels."""
        return self.K[..., 1, 2]


class _Movable:
    """`.to(...)` over every tensor and camera of a dataclass."""

    def to(self, *args: Any, **kwargs: Any) -> Self:
        moved = {f.name: v.to(*args, **kwargs) for f in fields(self) if hasattr(v := getattr(self, f.name), "to")}  # type: ignore[arg-type]
        return replace(self, **moved)  # type: ignore[type-var]


@dataclass(frozen=True, slots=True)
class Inputs(_Movable):
    """What a network may see.

    image: (B, 3, H, W) the target picture, RGB in [0, 1], colour-augmented.
    sources: (B, N, 3, H, W) the other pictures, with the same colour draw.
    camera: of the target, K (B, 3, 3).
    T_source_target_rig: (B, N, 4, 4) metres, from the calibration of a rig (stereo); NaN where the camera moved instead.
    """

    image: Tensor
    sources: Tensor
    camera: Camera
    T_source_target_rig: Tensor


@dataclass(frozen=True, slots=True)
class Targets(_Movable):
    """What a loss or a metric may see; a network may not.

    image: (B, 3, H, W) the target picture as recorded, RGB in [0, 1].
    sources: (B, N, 3, H, W) as recorded.
    camera: of the target, K (B, 3, 3).  source_camera: K (B, N, 3, 3).
    T_source_target_true: (B, N, 4, 4) metres, measured motion, for metrics and checks only; NaN where unknown.
    depth_m: (B, 1, H, W) z in metres, 0 = none; None where the recording has none.
    """

    image: Tensor
    sources: Tensor
    camera: Camera
    source_camera: Camera
    T_source_target_true: Tensor
    depth_m: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Meta:
    """Where a sample came from. `mirrored` is part of it, since a mirrored left picture plays the right one."""

    recording: str
    index: int
    side: str
    mirrored: bool = False
    file: Path | None = None


def is_temporal(source_name: str) -> bool:
    """True for "-1", "+1", ...: a neighbour in time; False for a source of the same instant ("stereo")."""
    return source_name.lstrip("+-").isdigit()


@dataclass(frozen=True, slots=True)
class Batch(_Movable):
    """inputs (for networks), targets (for losses and metrics), meta (one a sample), and what each source is.

    source_names: N names, "-1" and "+1" for neighbours in time, "stereo" for the partner of the same instant.
    """

    inputs: Inputs
    targets: Targets
    meta: tuple[Meta, ...]
    source_names: tuple[str, ...]

    @property
    def size(self) -> int:
        return len(self.meta)


def _stack(values: Sequence[Any]) -> Any:
    """Stack leaf by leaf along a new first axis."""
    first = values[0]
    if isinstance(first, Tensor):
        return torch.stack(list(values))
    if isinstance(first, Camera):
        sizes = {(c.height, c.width) for c in values}
        if len(sizes) > 1:
            raise GeometryError("batch", found=f"picture sizes {sorted(sizes)}", expected="one size", cure="set data.height and data.width")
        return Camera(torch.stack([c.K for c in values]), first.height, first.width)
    if is_dataclass(first) and not isinstance(first, type):
        return type(first)(**{f.name: _stack([getattr(v, f.name) for v in values]) for f in fields(first)})
    if first is None:
        return first
    raise TypeError(f"cannot stack {type(first).__name__}")


def collate(samples: Sequence[Batch]) -> Batch:
    """Stack samples (batches without a first axis, one meta each) into a batch."""
    names = {s.source_names for s in samples}
    if len(names) > 1:
        raise GeometryError(
            "batch", found=f"sources {sorted(names)}", expected="the same sources in each sample", cure="train mono and stereo apart"
        )
    with_depth = {s.targets.depth_m is not None for s in samples}
    if len(with_depth) > 1:  # a mixed batch: the missing ground truth is 0 = none everywhere
        samples = [
            s if s.targets.depth_m is not None else replace(s, targets=replace(s.targets, depth_m=torch.zeros_like(s.targets.image[:1])))
            for s in samples
        ]
    return Batch(
        inputs=_stack([s.inputs for s in samples]),
        targets=_stack([s.targets for s in samples]),
        meta=tuple(m for s in samples for m in s.meta),
        source_names=samples[0].source_names,
    )


@dataclass(frozen=True, slots=True)
class Prediction(_Movable):
    """What the depth-and-motion networks say of a batch.

    inverse_depth: one map a scale, finest first, (B, 1, H / 2^s, W / 2^s), in 1/m where `claim` is metres.
    T_source_target: (B, N, 4, 4): the rig's transform where it is known, else the pose network's.
    """

    claim: Claim
    inverse_depth: tuple[Tensor, ...]
    T_source_target: Tensor

    def to(self, *args: Any, **kwargs: Any) -> Prediction:
        maps = tuple(m.to(*args, **kwargs) for m in self.inverse_depth)
        return replace(self, inverse_depth=maps, T_source_target=self.T_source_target.to(*args, **kwargs))


class Predictor(Protocol):
    """What evaluation and `stadia predict` need of a trained recipe."""

    claim: Claim
    height: int
    width: int

    def inverse_depth(self, image: Tensor, camera: Camera) -> Tensor:
        """(B, 3, H, W) pictures at the network's size to (B, 1, H, W) inverse depth."""
        ...

    def T_next_now(self, now: Tensor, following: Tensor) -> Tensor | None:
        """(B, 3, H, W) twice, neighbours in time, to (B, 4, 4); None where the recipe has no motion."""
        ...
