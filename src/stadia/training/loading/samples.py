"""Make samples of video: a target frame, its neighbors in time and its stereo partner, packed as bytes.

A sample of a mapped video also marks the pixels that move, or move with the camera.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from stadia.core.errors import ConfigError, DataError, GeometryError
from stadia.core.seeds import make_generator
from stadia.core.types import LEFT, RIGHT, Camera, Recording
from stadia.data.config import NO_AUGMENTATION, AugmentationConfig, CacheConfig, Damaged, DatasetConfig
from stadia.data.frame_store import (
    FrameStore,
    ReportProgress,
    open_frame_store,
    read_resized_frame,
    resize_depth,
    resize_sparse_depth,
)
from stadia.data.sharded_dataset import DamagedShardError
from stadia.data.splits import TargetFrames, all_frames
from stadia.differentiable.batch import Batch, Inputs, Meta, Targets
from stadia.geometry.cameras import mirror_camera, resize_camera
from stadia.geometry.poses import invert_pose, mirror_x
from stadia.training.loading import transforms
from stadia.training.loading.loader import PackedTensors, stack_or_default, stack_packed

Array = NDArray[np.float64]

TOLERANCE_PX = 1.0  # error of static flow, plus TOLERANCE_SHARE of its parallax

TOLERANCE_SHARE = 0.25  # of the parallax of static flow, for the error of its depth
MAX_BACK_PX = 1.0  # distance between flow forward and back, if flow is available
MIN_GRADIENT = 4.0  # gray levels per pixel, along the motion: without texture flow is a guess
ROAD_SHARE = 0.6
"""Points with a smaller share of the road's inverse depth appear behind the road, like a car that drives alongside."""

MAX_ROAD_RATIO = 1.5
"""A pixel is road up to this ratio of its residual as road to its residual along the flow."""

MAX_ROAD_RESIDUAL = 3.0
"""A pixel is road up to this residual as road, gray levels."""

MAX_MOVING = 0.6  # The flow is wrong if a larger share of the image moves.
_GROW = np.ones((5, 5), np.uint8)  # closes gaps in moving objects, and covers their blurred outline


def find_moving(
    target: NDArray[np.uint8],
    source: NDArray[np.uint8],
    K_target: Array,
    K_source: Array,
    T_source_target: Array,
    road: Array | None = None,
) -> NDArray[np.bool_]:
    """Return (h, w), true if a pixel leaves the epipolar line, moves the wrong way along it, or is behind the road.

    target, source: gray images (h, w).
    K_target, K_source: (3, 3).
    T_source_target: (4, 4), in any unit.
    road: (4,) plane of the road in the target's axes, normal and height in the same unit.
    """
    finder = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    flow = finder.calc(target, source, None)
    back = finder.calc(source, target, None)
    height, width = target.shape
    y, x = np.mgrid[:height, :width].astype(np.float32)
    at_x, at_y = x + flow[..., 0], y + flow[..., 1]
    returned = cv2.remap(back, at_x, at_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=(1e3, 1e3))
    known = np.linalg.norm(flow + returned, axis=-1) < MAX_BACK_PX
    rays = np.stack((x, y, np.ones_like(x)), -1).astype(np.float64) @ np.linalg.inv(K_target).T
    infinite = rays @ (K_source @ T_source_target[:3, :3]).T
    toward = K_source @ T_source_target[:3, 3]
    place = np.stack((at_x, at_y), -1).astype(np.float64)
    # (infinite + inverse_depth * toward) is at `place`: two equations along `line` for one inverse depth
    line = toward[:2] - place * toward[2]
    off = place * infinite[..., 2:] - infinite[..., :2]
    squared = np.maximum((line**2).sum(-1), 1e-12)
    inverse_depth = (off * line).sum(-1) / squared
    known &= _measure_gradient(target, line / np.sqrt(squared)[..., None]) > MIN_GRADIENT
    px_per_inverse = np.sqrt(squared) / np.maximum(np.abs(infinite[..., 2]), 1e-9)
    across_px = np.abs(off[..., 0] * line[..., 1] - off[..., 1] * line[..., 0]) / np.sqrt(squared)
    across_px = across_px / np.maximum(np.abs(infinite[..., 2]), 1e-9)
    along_px = inverse_depth * px_per_inverse
    allowed_px = TOLERANCE_PX + TOLERANCE_SHARE * np.abs(along_px)
    moving = (across_px > allowed_px) | (along_px < -allowed_px)
    if road is not None:
        of_road = np.maximum(-(rays @ road[:3]) / road[3], 0)
        missing_px = (of_road - inverse_depth) * px_per_inverse
        moving |= (inverse_depth < ROAD_SHARE * of_road) & (missing_px > 2 * TOLERANCE_PX)
        on_road = infinite + of_road[..., None] * toward
        at_road = (on_road[..., :2] / np.maximum(on_road[..., 2:], 1e-9)).astype(np.float32)
        by_road = _compare(target, source, at_road[..., 0], at_road[..., 1])
        by_flow = _compare(target, source, at_x, at_y)
        moving &= ~((by_road < MAX_ROAD_RATIO * by_flow + MAX_ROAD_RESIDUAL) & (of_road > 0))
    moving &= known
    moving = cv2.morphologyEx(moving.astype(np.uint8), cv2.MORPH_OPEN, np.ones((2, 2), np.uint8))
    grown = cv2.dilate(cv2.morphologyEx(moving, cv2.MORPH_CLOSE, _GROW), _GROW) > 0
    return grown if grown.mean() < MAX_MOVING else np.zeros_like(grown)


def _compare(
    target: NDArray[np.uint8], source: NDArray[np.uint8], x: NDArray[np.float32], y: NDArray[np.float32]
) -> Array:
    """Return (h, w), the mean difference from the source at (x, y) over 5x5 pixels; 0 outside."""
    warped = cv2.remap(source, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0)
    inside = (x >= 0) & (y >= 0) & (x <= source.shape[1] - 1) & (y <= source.shape[0] - 1)
    difference = np.abs(warped.astype(np.float32) - target) * inside
    return np.asarray(cv2.blur(difference, (5, 5)), np.float64)


def _measure_gradient(gray: NDArray[np.uint8], direction: Array) -> Array:
    """Return (h, w), the mean gradient along a unit direction (h, w, 2) over 5x5 pixels."""
    values = cv2.GaussianBlur(gray, (3, 3), 0).astype(np.float32)
    x, y = (cv2.Sobel(values, cv2.CV_32F, *order) / 8 for order in ((1, 0), (0, 1)))
    along = np.abs(x * direction[..., 0] + y * direction[..., 1]).astype(np.float32)
    return np.asarray(cv2.blur(along, (5, 5)), np.float64)


def make_map_labels(
    recording: Recording, target: tuple[int, str], planar: Sequence[NDArray[np.uint8]], K: Array, T_source_target: Array
) -> tuple[Tensor | None, Tensor | None]:
    """Return the depth of the map's points and the static pixels, both (1, H, W); None without a map."""
    index, side = target
    points = recording.map_points(index) if side == LEFT else None
    if points is None:
        return None, None
    height, width = planar[0].shape[-2:]
    camera = recording.camera(index)
    depth = np.zeros((height, width), np.float32)
    at = np.floor((points[:, :2] + 0.5) * (width / camera.width, height / camera.height)).astype(int)
    inside = ((at >= 0) & (at < (width, height))).all(1)
    order = np.argsort(-points[inside, 2])  # the nearest point of a pixel is written last
    x, y = at[inside][order].T
    depth[y, x] = points[inside, 2][order]
    gray = [cv2.cvtColor(np.ascontiguousarray(image.transpose(1, 2, 0)), cv2.COLOR_RGB2GRAY) for image in planar]
    movable = recording.map_movable(index)
    moving = np.zeros(depth.shape, bool)
    if movable is not None:
        small = cv2.resize(255 * movable.astype(np.uint8), (width, height), interpolation=cv2.INTER_AREA)
        moving = np.asarray(small > 0, bool)
    for number, T in enumerate(T_source_target, 1):
        if np.isfinite(T).all():
            moving |= find_moving(gray[0], gray[number], K[0], K[number], T, recording.map_road())
    depth[moving] = 0
    return torch.from_numpy(depth)[None], torch.from_numpy(~moving)[None]


log = logging.getLogger(__name__)

_OTHER_SIDE = {LEFT: RIGHT, RIGHT: LEFT}
_UNKNOWN = torch.full((4, 4), float("nan"), dtype=torch.float64)  # the pose of a frame without one


@dataclass(frozen=True, slots=True)
class PackedSample(PackedTensors):
    """A sample of video. The first image is the target.

    images: (N + 1, 3, H, W) uint8, resized, mirrored, tilted and zoomed.
    K: (N + 1, 3, 3) of each image.
    color: (3, 4) map for the network's input, see `transforms.make_color_matrix`, or None.
    T_source_target_rig, T_source_target_true: (N, 4, 4), see Inputs and Targets.
    depth_m: (1, H, W) of the target, 0 = none; None without ground truth.
    bad_images: (N + 1, 3, H, W) uint8, the network's input if `weather` changed it.
    ignored: (1, H, W) uint8, 1 for pixels to leave out, see Targets.
    point_depth, static: (1, H, W) of the target, float and bool; None without a map.
    """

    images: Tensor
    K: Tensor
    color: Tensor | None
    T_source_target_rig: Tensor
    T_source_target_true: Tensor
    depth_m: Tensor | None
    meta: tuple[Meta, ...]
    source_names: tuple[str, ...]
    bad_images: Tensor | None = None
    ignored: Tensor | None = None
    point_depth: Tensor | None = None
    static: Tensor | None = None


def stack_samples(samples: Sequence[PackedSample]) -> PackedSample:
    """Stack samples to a batch. Samples without depth or color map get 0 or the identity if others have one."""
    names = {sample.source_names for sample in samples}
    if len(names) > 1:
        found, expected = f"sources {sorted(names)}", "the same sources in each sample"
        raise GeometryError("batch", found=found, expected=expected, fix="load mono and stereo with separate loaders")
    no_depth = torch.zeros(1, *samples[0].images.shape[-2:])
    inputs = None
    if any(sample.bad_images is not None for sample in samples):
        inputs = torch.stack([sample.images if sample.bad_images is None else sample.bad_images for sample in samples])
    return stack_packed(
        samples,
        depth_m=stack_or_default([sample.depth_m for sample in samples], no_depth),
        bad_images=inputs,
        ignored=stack_or_default([sample.ignored for sample in samples], no_depth.byte()),
        point_depth=stack_or_default([sample.point_depth for sample in samples], no_depth),
        static=stack_or_default([sample.static for sample in samples], torch.ones_like(no_depth, dtype=torch.bool)),
    )


def unpack_batch(packed: PackedSample, device: torch.device | str = "cpu") -> Batch:
    """Convert to floats on the device. Without color augmentation, inputs share memory with targets."""
    packed = packed.to(device)
    images, K = packed.images, packed.K
    image, sources = images[..., 0, :, :, :].mul(1 / 255), images[..., 1:, :, :, :].mul(1 / 255)
    input_image, input_sources = image, sources
    if (bad := packed.bad_images) is not None:
        input_image, input_sources = bad[..., 0, :, :, :].mul(1 / 255), bad[..., 1:, :, :, :].mul(1 / 255)
    if packed.color is not None:
        gray = transforms.compute_mean_gray(input_image)
        input_image = transforms.apply_color(input_image[..., None, :, :, :], packed.color, gray)[..., 0, :, :, :]
        input_sources = transforms.apply_color(input_sources, packed.color, gray)
    height, width = images.shape[-2:]
    camera, source_camera = Camera(K[..., 0, :, :], height, width), Camera(K[..., 1:, :, :], height, width)
    inputs = Inputs(input_image, input_sources, camera, packed.T_source_target_rig)
    targets = Targets(
        image,
        sources,
        camera,
        source_camera,
        packed.T_source_target_true,
        packed.depth_m,
        ignored=None if packed.ignored is None else packed.ignored > 0,
        point_depth=packed.point_depth,
        static=packed.static,
    )
    return Batch(inputs=inputs, targets=targets, meta=packed.meta, source_names=packed.source_names)


@dataclass(frozen=True, slots=True)
class _Target:
    """A frame and its neighbors in time, by index in the recording."""

    recording: int
    index: int
    side: str
    neighbors: tuple[int, ...]


class VideoSamples(Dataset[Batch]):
    """A map-style dataset of video samples. A sample depends only on (seed, epoch, index). See `DatasetConfig`.

    parts: recordings, or selected target frames of recordings.
    offsets: offsets of the source frames; the sources are named "-1", "+1" in this order, then "stereo".
    damaged: "skip" replaces a sample of a damaged shard by the next one.

    The attribute `without_neighbors` counts the targets that are left out because a neighbor is missing.

    Raises DataError if no target is left, and ConfigError for stereo with a one-sided recording.
    """

    def __init__(
        self,
        parts: Sequence[Recording | TargetFrames],
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
        damaged: Damaged = "stop",
        shuffle_shards: int = 16,
        progress: ReportProgress | None = None,
    ) -> None:
        frames: list[TargetFrames] = []
        for part in parts:
            frames += [part] if isinstance(part, TargetFrames) else all_frames(part, target_sides)
        self.recordings = list({id(f.recording): f.recording for f in frames}.values())
        self.height, self.width, self.offsets, self.seed = height, width, tuple(offsets), seed
        self.augmentation, self.ground_truth_depth = augmentation, ground_truth_depth
        self._resize_depth = resize_sparse_depth if sparse_depth else resize_depth
        self.stereo = _resolve_stereo(stereo, self.recordings)
        self.source_names = tuple(f"{offset:+d}" for offset in self.offsets) + ("stereo",) * self.stereo
        self._targets, self.without_neighbors = self._list_targets(frames)
        self.damaged, self.shuffle_shards = damaged, shuffle_shards
        self._warned: set[str] = set()
        self._stores: dict[tuple[int, str], FrameStore] = {}
        if cache is not None and cache.enabled:
            both = (LEFT, RIGHT)
            used = {(t.recording, side) for t in self._targets for side in (both if self.stereo else (t.side,))}
            for number, side in sorted(used):
                if self.recordings[number].is_streamed:
                    continue
                self._stores[number, side] = open_frame_store(
                    self.recordings[number], *self.stored_size(number, side), side=side, config=cache, progress=progress
                )

    @classmethod
    def from_config(
        cls,
        parts: Sequence[Recording | TargetFrames],
        config: DatasetConfig,
        *,
        training: bool,
        seed: int = 0,
        progress: ReportProgress | None = None,
    ) -> "VideoSamples":
        """Make samples of a configuration; validation is never augmented. Raises ConfigError for sparse_depth=auto."""
        if config.ground_truth_depth and config.sparse_depth == "auto":
            expected = "true (single returns) or false (a surface)"
            fix = "set it, or open the data with stadia.training.recipes.base.video_data.open_video"
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
            damaged=config.damaged,
            shuffle_shards=config.shuffle_shards,
            progress=progress,
        )

    def _list_targets(self, frames: Sequence[TargetFrames]) -> tuple[list[_Target], int]:
        numbers = {id(recording): number for number, recording in enumerate(self.recordings)}
        before, after = min((0, *self.offsets)), max((0, *self.offsets))
        targets, count = list[_Target](), 0
        for part in frames:
            number, count = numbers[id(part.recording)], count + len(part.indices)
            for index in part.indices:
                sources = [part.recording.map_neighbor(index, offset) for offset in self.offsets]
                neighbors = tuple(source for source in sources if source is not None)
                if len(neighbors) == len(self.offsets):
                    targets.append(_Target(number, index, part.side, neighbors))
        if not targets:
            names = ", ".join(r.name for r in self.recordings[:3]) or "data"
            found = f"{count} frames, none with neighbors {', '.join(self.source_names)}"
            expected = f"recordings of at least {after - before + 1} frames"
            selections = (getattr(recording, "selection", None) for recording in self.recordings)
            dropped = [f"; {selection}" for selection in selections if selection and selection.total > count]
            fix = "record more while the camera moves, or choose smaller data.offsets"
            raise DataError(names, found=found + "".join(dropped)[:300], expected=expected, fix=fix)
        return targets, count - len(targets)

    stack, unpack = staticmethod(stack_samples), staticmethod(unpack_batch)  # the interface of a Loader

    def __len__(self) -> int:
        return len(self._targets)

    def __getitem__(self, key: int | tuple[int, int]) -> Batch:
        return unpack_batch(self.packed(key))

    def list_shards(self) -> NDArray[np.int64] | None:
        """Return the number of the shard of each of N samples, (N,); None without shards."""
        if not any(recording.is_streamed for recording in self.recordings):
            return None
        pairs = [(self.recordings[target.recording], target) for target in self._targets]
        keys = [
            (0, recording.shard_of(target.index)) if recording.is_streamed else (1, target.recording)
            for recording, target in pairs
        ]
        numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
        return np.array([numbers[key] for key in keys], np.int64)

    def prefetch(self, index: int) -> None:
        """Decode the images of samples ahead."""
        target = self._targets[index]
        self.recordings[target.recording].prefetch(target.index)

    def packed(self, key: int | tuple[int, int]) -> PackedSample:
        """Return the sample as bytes; with `damaged` "skip" the next readable one."""
        epoch, index = key if isinstance(key, tuple) else (0, key)
        for further in range(len(self) if self.damaged == "skip" else 1):
            try:
                return self._pack((epoch, (index + further) % len(self)))
            except DamagedShardError as error:
                if self.damaged == "stop" or further == len(self) - 1:
                    raise
                if error.where not in self._warned:
                    self._warned.add(error.where)
                    log.warning("%s is left out: %s", error.where, error.found)
        raise AssertionError("the last sample is returned or raises")

    def _pack(self, key: int | tuple[int, int]) -> PackedSample:
        epoch, index = key if isinstance(key, tuple) else (0, key)
        target, change = self._targets[index], self.change((epoch, index))
        recording = self.recordings[target.recording]
        # A mirrored left image is a right camera's view: sides swap, and the right camera stays at +x.
        side = _OTHER_SIDE[target.side] if change.mirror and self.stereo else target.side
        views = [(index, side) for index in (target.index, *target.neighbors)]
        if self.stereo:
            views.append((target.index, _OTHER_SIDE[side]))
        planar = [self._image(target.recording, *view) for view in views]
        height, width = planar[0].shape[-2:]
        resized = [resize_camera(recording.camera(*view), height, width) for view in views]
        cameras = Camera(torch.from_numpy(np.stack([camera.K for camera in resized])), height, width)
        depth_m = self._depth(recording, target.index, side, height, width) if self.ground_truth_depth else None
        ignored = self._ignored(recording, side, height, width)
        rig, true = _read_motions(recording, views, stereo=self.stereo)
        point_depth, static = make_map_labels(recording, views[0], planar, cameras.K.numpy(), true.numpy())
        if change.mirror:
            planar = [transforms.mirror_planar(image) for image in planar]
            cameras = mirror_camera(cameras)
            depth_m = None if depth_m is None else depth_m.flip(-1)
            ignored = None if ignored is None else ignored.flip(-1)
            point_depth = None if point_depth is None else point_depth.flip(-1)
            static = None if static is None else static.flip(-1)
            rig, true = mirror_x(rig), mirror_x(true)
        images = torch.from_numpy(np.stack(planar))
        if (tilt := change.R_tilted_camera) is not None:
            images, K = transforms.tilt_planar(images, cameras.K, tilt), cameras.K[0]
            depth_m = None if depth_m is None else transforms.tilt_depth(depth_m, K, tilt)
            point_depth = None if point_depth is None else transforms.tilt_depth(point_depth, K, tilt)
            if static is not None:
                moving = transforms.tilt_values((~static[0]).numpy().astype(np.float32), K.double().numpy(), tilt)
                static = torch.from_numpy(moving == 0)[None]
            unseen = transforms.find_unseen_pixels(K, tilt, height, width)
            if ignored is not None:
                turned = transforms.tilt_values(ignored[0].numpy().astype(np.float32), K.double().numpy(), tilt)
                unseen |= torch.from_numpy(turned > 0)
            ignored = unseen.byte()
            rig, true = transforms.tilt_motion(rig, tilt), transforms.tilt_motion(true, tilt)
        if change.window is not None:
            images, cameras = transforms.zoom_images(images, cameras, change.window)
            depth_m = None if depth_m is None else transforms.zoom_depth(depth_m, change.window)
            ignored = None if ignored is None else transforms.zoom_depth(ignored.float(), change.window).byte()
            point_depth = None if point_depth is None else transforms.zoom_depth(point_depth, change.window)
            static = None if static is None else transforms.zoom_depth(static.float(), change.window) > 0
        if depth_m is not None and ignored is not None:
            depth_m = depth_m.masked_fill(ignored > 0, 0.0)
        bad, horizon_row = change.weather, float(cameras.K[0, 1, 2])
        return PackedSample(
            images=images,
            K=cameras.K.float(),
            color=change.color,
            T_source_target_rig=rig.float(),
            T_source_target_true=true.float(),
            depth_m=depth_m,
            meta=(Meta(recording.name, target.index, side, change.mirror, recording.file(target.index, side)),),
            source_names=self.source_names,
            bad_images=None
            if bad is None
            else torch.from_numpy(transforms.add_weather(images.numpy(), bad, horizon_row)),
            ignored=ignored,
            point_depth=point_depth,
            static=static,
        )

    def change(self, key: tuple[int, int]) -> transforms.AugmentationDraw:
        """Return the random draw of a key (epoch, index)."""
        random = make_generator(self.seed, "sample", *key)
        target = self._targets[key[1]]
        return transforms.draw_augmentation(self.augmentation, *self.stored_size(target.recording, target.side), random)

    def stored_size(self, number: int, side: str) -> tuple[int, int]:
        """Return the (height, width) of a recording's images before a draw changes them."""
        camera = self.recordings[number].camera(0, side)
        return transforms.find_covering_size(
            self.augmentation, (self.height, self.width), (camera.height, camera.width)
        )

    def _image(self, number: int, index: int, side: str) -> NDArray[np.uint8]:
        store = self._stores.get((number, side))
        if store is not None:
            return store.planar(index)
        image = read_resized_frame(self.recordings[number], index, side, *self.stored_size(number, side))
        return np.ascontiguousarray(image.transpose(2, 0, 1))

    def _depth(self, recording: Recording, index: int, side: str, height: int, width: int) -> Tensor | None:
        depth_m = recording.depth_m(index, side)
        return None if depth_m is None else torch.from_numpy(self._resize_depth(depth_m, height, width))[None]

    def _ignored(self, recording: Recording, side: str, height: int, width: int) -> Tensor | None:
        """Return (1, height, width) uint8, 1 in the ignored region of a camera; None without one."""
        region = recording.ignored(side)
        if region is None:
            return None
        share = cv2.resize(region.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
        return torch.from_numpy((share > 0).astype(np.uint8))[None]


def _resolve_stereo(stereo: bool | Literal["auto"], recordings: Sequence[Recording]) -> bool:
    mono = [recording.name for recording in recordings if RIGHT not in recording.sides]
    if stereo is True and mono:
        found, fix = f"true, but {mono[0]} has one side", "add the right images, or set data.stereo=false"
        raise ConfigError("data.stereo", found=found, expected="a right image for each left one", fix=fix)
    return not mono if stereo == "auto" else stereo


def _read_motions(recording: Recording, views: Sequence[tuple[int, str]], *, stereo: bool) -> tuple[Tensor, Tensor]:
    """Return T_source_target (N, 4, 4) by calibration and as measured, for views (frame, side); the target is first."""
    target, *sources = views
    rig = [_UNKNOWN] * len(sources)
    if stereo:
        T_right_left = torch.from_numpy(np.asarray(recording.T_right_left, dtype=np.float64))
        rig[-1] = T_right_left if target[1] == LEFT else invert_pose(T_right_left)
    T_world_target = recording.T_world_camera(*target)
    true = list(rig)
    for number, source in enumerate(sources[:-1] if stereo else sources):
        T_world_source = recording.T_world_camera(*source)
        if T_world_target is not None and T_world_source is not None:
            true[number] = torch.from_numpy(invert_pose(T_world_source) @ T_world_target)
    empty = torch.empty(0, 4, 4, dtype=torch.float64)
    return (torch.stack(rig), torch.stack(true)) if sources else (empty, empty)
