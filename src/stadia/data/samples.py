"""Make samples: a target frame, its neighbors in time and its stereo partner, as a `Batch` without its first axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from stadia.core.errors import ConfigError, DataError
from stadia.core.recording import LEFT, RIGHT, Recording
from stadia.core.seeds import generator
from stadia.core.types import Batch, Camera, Meta
from stadia.data.cache import FrameStore, Progress, frame_store
from stadia.data.config import NO_AUGMENTATION, AugmentationConfig, CacheConfig, OneDataConfig
from stadia.data.frames import resized_frame
from stadia.data.packed import Packed, stack_samples, unpack_batch
from stadia.data.resize import resize_depth, resize_returns
from stadia.data.splits import Frames, whole
from stadia.data.transforms import Draw, draw, mirror_planar, zoomed, zoomed_depth
from stadia.geometry.camera import mirrored, resized
from stadia.geometry.se3 import inverse, mirror_x

_OTHER_SIDE = {LEFT: RIGHT, RIGHT: LEFT}
_UNKNOWN = torch.full((4, 4), float("nan"), dtype=torch.float64)


@dataclass(frozen=True, slots=True)
class _Target:
    recording: int
    index: int
    side: str


@dataclass(frozen=True, slots=True)
class _View:
    """One image of a sample: frame and side."""

    index: int
    side: str


class Samples(Dataset[Batch]):
    """A map-style dataset of samples. A sample depends only on (seed, epoch, index), for any number of workers.

    Args:
        parts: recordings, or frames of recordings that may be targets (`stadia.data.splits`).
        height, width: the network's size.
        offsets: temporal neighbors; sources are named "-1", "+1" in this order, then "stereo".
        stereo: whether the stereo partner is a source; "auto" where every recording has one.
        target_sides: sides whose images become targets, for parts given as whole recordings.
        augmentation: none by default.
        ground_truth_depth: whether `targets.depth_m` is filled.
        sparse_depth: depth is single returns, which are all kept where depth is shrunk.
        cache: where decoded images are kept; None reads and resizes the files for every sample.
        progress: called while the cache is filled.

    Targets without all neighbors are left out and counted in `without_neighbors`. Raises DataError where nothing is
    left, ConfigError for stereo with a one-sided recording.
    """

    def __init__(
        self,
        parts: Sequence[Recording | Frames],
        *,
        height: int,
        width: int,
        offsets: Sequence[int] = (-1, 1),
        stereo: bool | Literal["auto"] = "auto",
        target_sides: Sequence[str] = (LEFT,),
        augmentation: AugmentationConfig = NO_AUGMENTATION,
        ground_truth_depth: bool = False,
        sparse_depth: bool = False,
        seed: int = 0,
        cache: CacheConfig | None = None,
        progress: Progress | None = None,
    ) -> None:
        frames = [f for part in parts for f in ([part] if isinstance(part, Frames) else whole(part, target_sides))]
        self.recordings = list({id(f.recording): f.recording for f in frames}.values())
        self.height, self.width, self.offsets, self.seed = height, width, tuple(offsets), seed
        self.augmentation, self.ground_truth_depth = augmentation, ground_truth_depth
        self._resize_depth = resize_returns if sparse_depth else resize_depth
        self.stereo = _resolve_stereo(stereo, self.recordings)
        self.source_names = tuple(f"{offset:+d}" for offset in self.offsets) + ("stereo",) * self.stereo
        self._targets, self.without_neighbors = self._list_targets(frames)
        self._stores: dict[tuple[int, str], FrameStore] = {}
        if cache is not None and cache.enabled:
            sides = {
                (t.recording, side) for t in self._targets for side in (LEFT, RIGHT) if self.stereo or side == t.side
            }
            for number, side in sorted(sides):
                self._stores[number, side] = frame_store(
                    self.recordings[number], height, width, side=side, config=cache, progress=progress
                )

    @classmethod
    def from_config(
        cls,
        parts: Sequence[Recording | Frames],
        config: OneDataConfig,
        *,
        training: bool,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> Samples:
        """Make samples of a configuration; validation is never augmented.

        Raises ConfigError for ground truth with `config.sparse_depth` "auto": the opener of the data must resolve it.
        """
        if config.ground_truth_depth and config.sparse_depth == "auto":
            expected = "true (single returns) or false (a surface)"
            fix = "set it, or open the data by stadia.recipes.video.open_video, which detects it"
            raise ConfigError("data.sparse_depth", found="'auto', unresolved", expected=expected, fix=fix)
        return cls(
            parts,
            height=config.height,
            width=config.width,
            offsets=config.offsets,
            stereo=config.stereo,
            target_sides=config.target_sides,
            augmentation=config.augmentation if training else NO_AUGMENTATION,
            ground_truth_depth=config.ground_truth_depth,
            sparse_depth=config.sparse_depth is True,
            seed=seed,
            cache=config.cache,
            progress=progress,
        )

    def _list_targets(self, frames: Sequence[Frames]) -> tuple[list[_Target], int]:
        numbers = {id(recording): number for number, recording in enumerate(self.recordings)}
        before, after = min((0, *self.offsets)), max((0, *self.offsets))
        requested = [
            (f.recording, _Target(numbers[id(f.recording)], index, f.side)) for f in frames for index in f.indices
        ]
        targets = [t for recording, t in requested if t.index + before >= 0 and t.index + after < len(recording)]
        if not targets:
            raise DataError(
                ", ".join(r.name for r in self.recordings[:3]) or "data",
                found=f"{len(requested)} frames, none with neighbors {', '.join(self.source_names)}",
                expected=f"recordings of at least {after - before + 1} frames",
                fix="record more frames, or choose smaller data.offsets",
            )
        return targets, len(requested) - len(targets)

    stack, unpack = staticmethod(stack_samples), staticmethod(unpack_batch)  # the interface of a Loader

    def __len__(self) -> int:
        return len(self._targets)

    def __getitem__(self, key: int | tuple[int, int]) -> Batch:
        return unpack_batch(self.packed(key))

    def packed(self, key: int | tuple[int, int]) -> Packed:
        """Return the sample as bytes, before its conversion to float."""
        epoch, index = key if isinstance(key, tuple) else (0, key)
        target, change = self._targets[index], self.change((epoch, index))
        # A mirrored left image is the view of a right camera: sides swap, and the right camera stays at +x.
        side = _OTHER_SIDE[target.side] if change.mirror and self.stereo else target.side
        views = [_View(target.index, side), *(_View(target.index + offset, side) for offset in self.offsets)]
        if self.stereo:
            views.append(_View(target.index, _OTHER_SIDE[side]))
        return self._apply_draw(target.recording, views, change)

    def change(self, key: tuple[int, int]) -> Draw:
        """Return the random draw of a key (epoch, index), for other data of its target."""
        epoch, index = key
        return draw(self.augmentation, self.height, self.width, generator(self.seed, "sample", epoch, index))

    def _apply_draw(self, number: int, views: list[_View], change: Draw) -> Packed:
        """Return the views with their cameras, depth and poses, all changed by the same draw."""
        recording, first = self.recordings[number], views[0]
        planar = [self._image(number, view) for view in views]
        if change.mirror:
            planar = [mirror_planar(image) for image in planar]
        images = torch.from_numpy(np.stack(planar))
        cameras = self._cameras(recording, views)
        depth_m = self._depth(recording, first) if self.ground_truth_depth else None
        rig, true = _read_motions(recording, views, stereo=self.stereo)
        if change.mirror:
            cameras = mirrored(cameras)
            depth_m = None if depth_m is None else depth_m.flip(-1)
            rig, true = mirror_x(rig), mirror_x(true)
        if change.window is not None:
            images, cameras = zoomed(images, cameras, change.window)
            depth_m = None if depth_m is None else zoomed_depth(depth_m, change.window)
        return Packed(
            images=images,
            K=cameras.K.float(),
            color=change.color,
            T_source_target_rig=rig.float(),
            T_source_target_true=true.float(),
            depth_m=depth_m,
            meta=(
                Meta(recording.name, first.index, first.side, change.mirror, recording.file(first.index, first.side)),
            ),
            source_names=self.source_names,
        )

    def _image(self, number: int, view: _View) -> NDArray[np.uint8]:
        """Return (3, H, W) at the network's size."""
        store = self._stores.get((number, view.side))
        if store is not None:
            return store.planar(view.index)
        image = resized_frame(self.recordings[number], view.index, view.side, self.height, self.width)
        return np.ascontiguousarray(image.transpose(2, 0, 1))

    def _cameras(self, recording: Recording, views: Sequence[_View]) -> Camera:
        """Return K (N + 1, 3, 3) at the network's size: each image's own camera, resized with it."""
        cameras = [resized(recording.camera(view.index, view.side), self.height, self.width) for view in views]
        return Camera(torch.stack([camera.K for camera in cameras]), self.height, self.width)

    def _depth(self, recording: Recording, view: _View) -> Tensor | None:
        depth_m = recording.depth_m(view.index, view.side)
        return None if depth_m is None else torch.from_numpy(self._resize_depth(depth_m, self.height, self.width))[None]


def _resolve_stereo(stereo: bool | Literal["auto"], recordings: Sequence[Recording]) -> bool:
    mono = [recording.name for recording in recordings if RIGHT not in recording.sides]
    if stereo is True and mono:
        found = f"true, but {mono[0]} has one side"
        expected = "a right image for each left one"
        raise ConfigError("data.stereo", found=found, expected=expected, fix="set data.stereo=false")
    return not mono if stereo == "auto" else stereo


def _read_motions(recording: Recording, views: Sequence[_View], *, stereo: bool) -> tuple[Tensor, Tensor]:
    """Return (N, 4, 4) T_source_target by calibration (NaN in time), and measured (calibrated if stereo)."""
    target, *sources = views
    rig = [_UNKNOWN] * len(sources)
    if stereo:
        T_right_left = torch.from_numpy(np.asarray(recording.T_right_left, dtype=np.float64))
        rig[-1] = T_right_left if target.side == LEFT else inverse(T_right_left)
    T_world_target = recording.T_world_camera(target.index, target.side)
    true = list(rig)
    for number, source in enumerate(sources[:-1] if stereo else sources):
        T_world_source = recording.T_world_camera(source.index, source.side)
        if T_world_target is not None and T_world_source is not None:
            true[number] = torch.from_numpy(np.linalg.inv(T_world_source) @ T_world_target)
    empty = torch.empty(0, 4, 4, dtype=torch.float64)
    return (torch.stack(rig), torch.stack(true)) if sources else (empty, empty)
