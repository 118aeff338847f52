"""Make samples of road video: `samples.py` with masks of road and objects, changed by the same draw."""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from stadia.core.errors import DataError
from stadia.core.types import Recording, RoadMasks
from stadia.data.config import CacheConfig
from stadia.data.frame_store import FrameStore, ReportProgress, fill_frame_store, make_store_stem, report_each
from stadia.data.height_priors import RoadConfig, find_prior
from stadia.data.mask_files import (
    ROAD,
    clean_masks,
    find_edge_objects,
    make_road_rectangle,
    read_rejected_objects,
    resize_masks,
    select_classes,
)
from stadia.differentiable.batch import Batch, Inputs, RoadTargets
from stadia.io.input_files import find_cache_folder
from stadia.training.loading.loader import PackedTensors, stack_packed, stack_padded
from stadia.training.loading.samples import PackedSample, VideoSamples, stack_samples, unpack_batch
from stadia.training.loading.transforms import AugmentationDraw, tilt_values, unzoom_K, zoom_depth

log = logging.getLogger(__name__)

MASK_STORE_VERSION = 3  # part of a store's name


@dataclass(frozen=True, slots=True)
class PackedRoad(PackedTensors):
    """A sample of video with its masks; fields as in RoadTargets, but `road` is (1, H, W) uint8."""

    frames: PackedSample
    road: Tensor
    objects: Tensor
    object_class: Tensor
    object_height_m: Tensor
    camera_group: Tensor


class RoadSamples(Dataset[Batch[Inputs, RoadTargets]]):
    """Samples with masks, if an image has some.

    groups: number of each mount.
    cache: cache of cleaned masks, or None.
    """

    def __init__(
        self,
        samples: VideoSamples,
        config: RoadConfig,
        groups: Mapping[str, int],
        *,
        cache: CacheConfig | None = None,
        progress: ReportProgress | None = None,
    ) -> None:
        self.samples, self.config, self.groups = samples, config, groups
        self.recordings = {recording.name: recording for recording in samples.recordings}
        self.classes = tuple(
            sorted({name for r in samples.recordings if r.mask_reader for name in r.mask_reader.classes.values()})
        )
        self._stores: dict[tuple[str, str], FrameStore] = {}
        if cache is not None and cache.enabled:
            for recording in samples.recordings:
                if recording.mask_reader is not None:
                    for side in recording.sides:
                        self._stores[recording.name, side] = self._store(recording, side, cache, progress)

    def __len__(self) -> int:
        return len(self.samples)

    def packed(self, key: tuple[int, int]) -> PackedRoad:
        """Return the sample of a key (epoch, index)."""
        frames = self.samples.packed(key)
        (meta,) = frames.meta
        recording = self.recordings[meta.recording]
        store = self._stores.get((recording.name, meta.side))
        planes = self._make_planes(recording, meta.index, meta.side) if store is None else store.planar(meta.index)
        instance = planes[1] + (planes[2].astype(np.uint16) << 8)
        change = self.samples.change(key)
        masks = _apply_draw(RoadMasks(planes[0], instance), change, frames.K[0])
        at_edge = np.isin(masks.instance, find_edge_objects(masks.instance, self.config.border_px))
        instance = np.where(at_edge, 0, masks.instance)
        if frames.ignored is not None:
            cut = np.unique(instance[frames.ignored[0].numpy() > 0])
            instance = np.where(np.isin(instance, cut), np.uint16(0), instance)
        names = {} if recording.mask_reader is None else recording.mask_reader.classes
        road = select_classes(masks.semantic, names, {ROAD})
        if self.config.rectangle is not None:
            rectangle = make_road_rectangle(self.config.rectangle, planes[0].shape)
            shown = _apply_draw(RoadMasks(rectangle.astype(np.uint8), masks.instance * 0), change, frames.K[0]).semantic
            road = (shown > 0) & (masks.instance == 0)
        kept, objects = np.unique(instance, return_inverse=True)  # 0 comes first
        objects = objects.reshape(instance.shape) + (0 if kept[0] == 0 else 1)
        kept = kept[kept > 0]
        class_names = [names.get(int(masks.semantic[instance == number][0]), "") for number in kept]
        frame, named = (recording, meta.index, meta.side), zip(kept.tolist(), class_names, strict=True)
        known = [find_object_height_m(*frame, number, name, self.config) for number, name in named]
        if change.R_tilted_camera is not None:  # heights need upright columns
            known = [math.nan] * len(known)
        if sum(map(math.isfinite, known)) < self.config.min_objects:
            known = [math.nan] * len(known)
        class_ids = [self.classes.index(name) if name in self.classes else -1 for name in class_names]
        return PackedRoad(
            frames=frames,
            road=torch.from_numpy(road.astype(np.uint8))[None],
            objects=torch.from_numpy(objects.astype(np.int16))[None],
            object_class=torch.tensor(class_ids, dtype=torch.int64),
            object_height_m=torch.tensor(known, dtype=torch.float32),
            camera_group=torch.tensor(self.groups[find_camera_group(recording, self.config)]),
        )

    def stack(self, samples: Sequence[PackedRoad]) -> PackedRoad:
        """Stack samples to a batch, padded to the largest number of objects."""
        places = max(len(sample.object_class) for sample in samples)
        return stack_packed(
            samples,
            frames=stack_samples([sample.frames for sample in samples]),
            object_class=stack_padded([sample.object_class for sample in samples], places, torch.tensor(-1)),
            object_height_m=stack_padded(
                [sample.object_height_m for sample in samples], places, torch.tensor(math.nan)
            ),
        )

    def unpack(self, packed: PackedRoad, device: torch.device | str = "cpu") -> Batch[Inputs, RoadTargets]:
        """Convert to floats on the device."""
        packed = packed.to(device)
        batch = unpack_batch(packed.frames, device)
        targets = RoadTargets(
            **{field.name: getattr(batch.targets, field.name) for field in fields(batch.targets)},
            road=packed.road > 0,
            objects=packed.objects,
            object_class=packed.object_class,
            object_height_m=packed.object_height_m,
            camera_group=packed.camera_group,
        )
        return Batch(inputs=batch.inputs, targets=targets, meta=batch.meta, source_names=batch.source_names)

    def _size(self, recording: Recording, side: str) -> tuple[int, int]:
        number = next(n for n, known in enumerate(self.samples.recordings) if known.name == recording.name)
        return self.samples.stored_size(number, side)

    def _make_planes(self, recording: Recording, index: int, side: str) -> NDArray[np.uint8]:
        """Return (3, H, W): classes, low and high byte of the object number; all 0 for invalid masks."""
        size = self._size(recording, side)
        try:
            masks = recording.masks(index, side)
        except DataError as error:
            log.debug("%s", error)  # the mask survey reports such frames
            masks = None
        if masks is None:
            return np.zeros((3, *size), np.uint8)
        masks = clean_masks(resize_masks(masks, *size), self.config)
        low, high = (masks.instance & 255).astype(np.uint8), (masks.instance >> 8).astype(np.uint8)
        return np.stack([masks.semantic, low, high])

    def _store(
        self, recording: Recording, side: str, cache: CacheConfig, progress: ReportProgress | None
    ) -> FrameStore:
        assert recording.mask_reader is not None
        height, width = self._size(recording, side)
        settings = (MASK_STORE_VERSION, self.config.min_object_share, self.config.max_occlusion)
        contents = (recording.fingerprint(), recording.mask_reader.fingerprint(side), side, height, width)
        stem = make_store_stem(f"{recording.name}-{side}-masks-{width}x{height}", *contents, *settings)

        count = len(recording)
        indices = report_each(range(count), f"{recording.name} masks", count, progress)
        frames = (self._make_planes(recording, index, side).tobytes() for index in indices)
        return fill_frame_store(find_cache_folder(cache.folder) / f"{stem}.rgb", height, width, count, frames)


def find_camera_group(recording: Recording, config: RoadConfig) -> str:
    """Return the name of the group of recordings with one camera height."""
    return recording.name if config.cameras == "recording" else recording.mount


def number_camera_groups(recordings: Sequence[Recording], config: RoadConfig) -> dict[str, int]:
    """Return the number of each group of these recordings, in the order of names."""
    names = sorted({find_camera_group(recording, config) for recording in recordings})
    return {name: number for number, name in enumerate(names)}


def find_object_height_m(
    recording: Recording, index: int, side: str, number: int, name: str, config: RoadConfig
) -> float:
    """Return the mean height of an object in metres, NaN if it is unknown or its class is not used."""
    if name not in config.objects:
        return math.nan
    if config.verdicts is not None:
        rejected = read_rejected_objects(config.verdicts)
        if number in rejected.get(f"{recording.name}/{recording.stem(index, side)}", ()):
            return math.nan
    if config.heights == "each" and recording.mask_reader is not None:
        own = recording.mask_reader.heights_m(recording.stem(index, side), side)
        if number in own:
            return own[number][0]
    prior = find_prior(name, config.height_priors)
    return math.nan if prior is None else prior.mean_m


def _apply_draw(masks: RoadMasks, change: AugmentationDraw, K: Tensor) -> RoadMasks:
    """Mirror, tilt and zoom the masks like the images; K (3, 3) belongs to the changed image."""
    semantic, instance = masks.semantic, masks.instance
    if change.mirror:
        semantic, instance = semantic[:, ::-1], instance[:, ::-1]
    if change.R_tilted_camera is not None:
        matrix = unzoom_K(K, change.window).double().numpy()
        planes = (plane.astype(np.float32) for plane in (semantic, instance))
        tilted = [tilt_values(plane, matrix, change.R_tilted_camera) for plane in planes]
        semantic, instance = tilted[0].astype(np.uint8), tilted[1].astype(np.uint16)
    if change.window is not None:
        both = torch.from_numpy(np.stack([semantic, instance]).astype(np.float32))
        semantic, instance = zoom_depth(both, change.window).numpy()
    return RoadMasks(np.ascontiguousarray(semantic).astype(np.uint8), np.ascontiguousarray(instance).astype(np.uint16))
