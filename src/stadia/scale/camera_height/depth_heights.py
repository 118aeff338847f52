"""Estimate camera height and metric scale from the depth of any network or program, and objects of known height.

In each image, objects give the factor from depth to metres, and the road plane's distance times this factor is the
height.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import ConfigError, DataError
from stadia.core.progress import TrackProgress, no_progress
from stadia.core.registry import load_part
from stadia.core.types import SHIFT_FIX, DepthScale, Recording
from stadia.core.verdict import Verdict
from stadia.data.frame_preparation import frame_name
from stadia.data.frame_store import resize_depth
from stadia.data.height_priors import find_prior
from stadia.data.mask_files import ROAD, make_road_rectangle, select_classes
from stadia.data.mask_objects import find_mask_boxes
from stadia.evaluation.plots.height_charts import draw_height_histogram
from stadia.evaluation.predictions_folder import Predictions
from stadia.geometry.ground.drive_heights import track_boxes
from stadia.geometry.ground.object_scale import PooledHeight, pool_heights, scale_objects
from stadia.geometry.ground.road_plane import erode_mask, road_pixel_heights
from stadia.geometry.segments import segments_from_instances
from stadia.io.atomic_files import write_json
from stadia.io.image_io import write_image
from stadia.scale.camera_height.config import CameraHeightConfig, CameraHeightRequest
from stadia.scale.camera_height.horizon_video import HorizonView, write_horizon_video
from stadia.scale.camera_height.road_objects import make_missing_masks_error, open_masked_recordings
from stadia.scale.camera_height.scaled_labels import write_scaled_labels

RESULT, HISTOGRAM, HORIZON_VIDEO = "camera_height.json", "histogram.png", "horizon.mp4"
PRIORS_NOTE = "note: priors that are 5 % off make the height 5 % off, in addition to its deviation"
MIN_USED_FRAMES = 5  # below, the height is doubtful: one wrong object moves the median
FEW_FRAMES = 10  # below, a note
MAX_SCATTER = 0.25  # robust, relative; above, a note

ReadDepth = Callable[[Recording, int], NDArray[np.float32]]
"""A function that returns depth (H, W) of a frame at the size of its image, in one unit for all frames; 0 where
unknown.
"""


@dataclass(frozen=True)
class DepthSource:
    """Where depth comes from.

    name: name of the network or folder in texts for people.
    read: returns the depth of a frame.
    """

    name: str
    read: ReadDepth


OPEN_NETWORK_DEPTH = "stadia.training.prediction.network_depth:open_network_depth"
"""Place of the function that opens a checkpoint, a run or a published network as a `DepthSource`."""


def open_depth_source(request: CameraHeightRequest, recordings: Sequence[Recording]) -> DepthSource:
    """Open the depth of a network, a run, or a folder of depth maps, as the request names it.

    Raises ConfigError for depth with an unknown shift.
    """
    if request.checkpoint is not None:
        return load_part(OPEN_NETWORK_DEPTH)(request.checkpoint, recordings)
    assert request.depth is not None
    folders = {recording.name: _find_folder(request.depth, recording, len(recordings)) for recording in recordings}
    opened = {name: Predictions.open(folder, factor=request.depth_factor) for name, folder in folders.items()}
    for predictions in opened.values():
        check_ratios(str(request.depth), predictions.depth_scale)

    def read(recording: Recording, index: int) -> NDArray[np.float32]:
        predictions, name, camera = opened[recording.name], frame_name(recording, index), recording.camera(index)
        if name not in predictions.files:
            found, fix = f"no map of {name}", "predict every frame, or pass the same --every"
            raise DataError(predictions.folder, found=found, expected="a map of each frame", fix=fix)
        depth = np.asarray(predictions.read(name), np.float32)
        return resize_depth(np.where(np.isfinite(depth) & (depth > 0), depth, 0), camera.height, camera.width)

    return DepthSource(f"{request.depth}", read)


def check_ratios(what: str, scale: DepthScale) -> None:
    """Raise ConfigError for depth whose ratios mean nothing, because its shift is unknown."""
    if scale.is_affine:
        found, expected = f"depth {scale}, with an unknown shift", "metres, or depth up to a factor"
        raise ConfigError(what, found=found, expected=expected, fix=SHIFT_FIX)


def _find_folder(depth: Path, recording: Recording, count: int) -> Path:
    places = [depth / recording.name, depth / Path(recording.name).name, *[depth] * (count == 1)]
    found = next((place for place in places if place.is_dir()), None)
    if found is None:
        expected = f"a folder {Path(recording.name).name} in it" if count > 1 else "a folder of depth maps"
        raise DataError(
            depth, found="no such folder", expected=expected, fix="pass the folder of `stadia predict --out`"
        )
    return found


@dataclass(frozen=True)
class FrameHeight:
    """The measurement of one image with N objects.

    recording, name, index: recording, name and index of the image.
    normal: (3,) road normal in the camera's axes; NaN without a road.
    unit_height: the camera's height over the road in the unit of depth; NaN without a road.
    factor: metres per unit of depth, the mean over the accepted objects; NaN for too few.
    variance: variance of `factor`.
    numbers: object numbers in the masks.
    boxes: (N, 4) left, top, right, bottom, pixels.
    factors: (N,) metres per unit of depth by each object.
    accepted: (N,) bool, whether the object is used.
    """

    recording: str
    name: str
    index: int
    normal: NDArray[np.float64]
    unit_height: float
    factor: float
    variance: float
    numbers: tuple[int, ...]
    boxes: NDArray[np.float64]
    factors: NDArray[np.float64]
    accepted: NDArray[np.bool_]

    @property
    def height_m(self) -> float:
        """Return the camera's height over the road by this image, metres; NaN without a road or without objects."""
        return self.unit_height * self.factor


@dataclass(frozen=True)
class DepthHeight:
    """The camera's height over the road by the depth of all images.

    source: origin of the depth, in words.
    frames: the measurements of all images.
    pooled: heights by each way of combining images, with the uncertainty.
    pool: the way that is used: median, mean, weighted or mode.
    unit_height: median height of the accepted images in the unit of depth.
    max_difference: largest |ln| of an accepted image's height over the median.
    used_frames: number of images whose heights were combined.
    """

    source: str
    frames: Sequence[FrameHeight]
    pooled: PooledHeight
    pool: str
    unit_height: float
    max_difference: float
    used_frames: int

    @property
    def height_m(self) -> float:
        """Return the combined height in metres."""
        return self.pooled.by[self.pool]

    @property
    def verdict(self) -> Verdict:
        """Return doubtful for a height from few images, and usable otherwise."""
        return Verdict.DOUBTFUL if self.used_frames < MIN_USED_FRAMES else Verdict.USABLE

    def factor(self, frame: FrameHeight) -> float:
        """Return metres per unit of an image's depth, by the combined height.

        NaN for an image whose height differs too much from the combined one. An image without a road has the factor of
        all images.
        """
        if not math.isfinite(frame.unit_height):
            return self.height_m / self.unit_height
        ratios = [frame.unit_height / self.unit_height, frame.height_m / self.height_m]
        agrees = all(abs(math.log(ratio)) < self.max_difference for ratio in ratios if math.isfinite(ratio))
        return self.height_m / frame.unit_height if agrees else math.nan


def measure_frame(
    recording: Recording, index: int, depth: NDArray[np.float32], config: CameraHeightConfig
) -> FrameHeight | None:
    """Measure one image.

    recording: the recording with masks.
    index: index of the image.
    depth: (H, W) in any unit, 0 where unknown.
    config: limits.

    Returns None for an image without masks.
    """
    masks, reader = recording.masks(index), recording.mask_reader
    if masks is None or reader is None:
        return None
    shown = select_classes(masks.semantic, reader.classes, {ROAD})
    if config.road is not None:
        shown = make_road_rectangle(config.road, depth.shape) & (masks.instance == 0)
    boxes = [
        box for box in find_mask_boxes(masks, reader.classes, margin_px=config.border_px) if _is_whole(box, config)
    ]
    map_ = depth.astype(np.float64)[None, None]
    camera = recording.camera(index)
    road = road_pixel_heights(map_, camera, erode_mask(shown[None, None]))
    kept = np.where(np.isin(masks.instance, [box.number for box in boxes]), masks.instance, 0)
    objects = segments_from_instances(kept.astype(np.int64)[None])
    by_number = {box.number: box for box in boxes}
    boxes = [by_number[number] for number in objects.instance.tolist()]
    priors = [find_prior(box.class_name, config.height_priors) for box in boxes]
    known = np.array([(prior.mean_m, prior.spread_m) for prior in priors if prior], np.float64).reshape(-1, 2)
    scales = scale_objects(map_, camera, road.plane, objects, *known.T, kind=config.object_depth)
    factors = scales.factor
    accepted = _select_agreeing(factors, config.tolerance)
    if accepted.any() and config.grounded:
        middle = float(np.quantile(factors[accepted], 0.5, method="lower"))
        accepted &= scales.is_grounded(middle, known[:, 0], tolerance=2 * config.tolerance)
    count = int(accepted.sum())
    enough = count >= config.min_objects
    return FrameHeight(
        recording=recording.name,
        name=frame_name(recording, index),
        index=index,
        normal=road.plane[0, :3],
        unit_height=float(road.median_height[0]),
        factor=float(factors[accepted].mean()) if enough else math.nan,
        variance=float(scales.variance[accepted].sum()) / count**2 if enough else math.nan,
        numbers=tuple(box.number for box in boxes),
        boxes=np.array([box.box_px for box in boxes]).reshape(-1, 4),
        factors=factors,
        accepted=accepted,
    )


def _is_whole(box: Any, config: CameraHeightConfig) -> bool:
    tall = box.box_px[3] - box.box_px[1] >= config.min_px
    wanted = not config.objects or box.class_name.lower() in config.classes
    return (
        tall and wanted and not (box.hidden or box.cut) and find_prior(box.class_name, config.height_priors) is not None
    )


def _select_agreeing(factors: NDArray[np.float64], tolerance: float) -> NDArray[np.bool_]:
    """Return (N,) bool: factors near the median of their image; with fewer than three objects all of them."""
    known = np.isfinite(factors) & (factors > 0)
    if known.sum() < 3:
        return known
    middle = np.quantile(factors[known], 0.5, method="lower")
    return known & (abs(np.log(np.where(known, factors / middle, 1.0))) < tolerance)


def pool_frames(frames: Sequence[FrameHeight], config: CameraHeightConfig, source: str = "") -> DepthHeight:
    """Combine the heights of all images, without those that differ from the median by more than twice the tolerance.

    frames: measurements of the images.
    config: how they are combined.
    source: origin of the depth, in words.

    Raises GeometryError if no image has a road and enough objects.
    """
    frames = _smooth_in_time(frames, config.time_window)
    has_height = np.array([math.isfinite(frame.height_m) for frame in frames], bool)
    heights = np.array([frame.height_m for frame in frames], np.float64)[has_height]
    kept, max_difference = np.zeros(0, np.int64), 2 * config.tolerance
    if len(heights):
        near = np.abs(np.log(heights / np.median(heights))) < max_difference
        kept = np.flatnonzero(has_height)[near]
    used = [frames[row] for row in kept]
    heights = np.array([frame.height_m for frame in used])
    variance = np.array([frame.variance * frame.unit_height**2 for frame in used])
    priors = config.height_priors.values()
    spread = max((prior.spread_m / prior.mean_m for prior in priors), default=0.1)
    pooled = pool_heights(heights, variance, _share_by_object(used), spread)
    unit_height = float(np.median([frame.unit_height for frame in used]))
    return DepthHeight(source, frames, pooled, config.pool, unit_height, max_difference, len(used))


def _share_by_object(frames: Sequence[FrameHeight]) -> NDArray[np.float64]:
    shares: list[NDArray[np.float64]] = []
    for name in dict.fromkeys(frame.recording for frame in frames):
        own = [frame for frame in frames if frame.recording == name]
        weights = np.concatenate([np.full(frame.accepted.sum(), 1 / max(frame.accepted.sum(), 1)) for frame in own])
        numbers = np.concatenate([np.full(frame.accepted.sum(), place) for place, frame in enumerate(own)])
        boxes = np.concatenate([frame.boxes[frame.accepted] for frame in own])
        track = track_boxes(numbers.astype(np.int64), boxes)
        shares.append(np.bincount(track, weights=weights).astype(np.float64))
    joined = np.concatenate(shares) if shares else np.ones(1)
    return joined / joined.sum()


def _smooth_in_time(frames: Sequence[FrameHeight], window: float) -> list[FrameHeight]:
    if not window:
        return list(frames)
    smoothed = []
    for place, frame in enumerate(frames):
        near = [
            (math.exp(-abs(other - place) / window), frames[other])
            for other in range(max(0, place - int(4 * window)), min(len(frames), place + int(4 * window) + 1))
            if frames[other].recording == frame.recording and math.isfinite(frames[other].factor)
        ]
        total = sum(weight for weight, _ in near)
        if total == 0 or not math.isfinite(frame.factor):
            smoothed.append(frame)
            continue
        factor = math.exp(sum(weight * math.log(other.factor) for weight, other in near) / total)
        variance = sum(weight**2 * other.variance for weight, other in near) / total**2
        smoothed.append(replace(frame, factor=factor, variance=variance))
    return smoothed


def run_depth_height(request: CameraHeightRequest, track: TrackProgress = no_progress) -> list[str]:
    """Measure all images, write the files to `request.out` and `request.labels`, and return lines of text about the
    result.
    """
    config = request.config
    recordings, indices = open_masked_recordings(request)
    source = open_depth_source(request, recordings)
    measured = [
        found
        for recording, index in track(indices, len(indices), "measuring depth")
        if (found := measure_frame(recording, index, source.read(recording, index), config)) is not None
    ]
    if not measured:
        raise make_missing_masks_error(request)
    height = pool_frames(measured, config, source.name)
    lines = describe_depth_height(height)
    if request.out is not None:
        write_json(request.out / RESULT, to_json(height, config))
        heights = [frame.height_m for frame in height.frames if math.isfinite(frame.height_m)]
        write_image(request.out / HISTOGRAM, draw_height_histogram(heights, height.pooled.by)[..., ::-1])
        write_horizon_video(request.out / HORIZON_VIDEO, _road_views(recordings, height.frames), track)
        lines.append(f"{request.out}: {RESULT}, {HISTOGRAM}, {HORIZON_VIDEO}")
    if request.labels is not None:
        factors = {(frame.recording, frame.name): height.factor(frame) for frame in height.frames}
        named = {key: factor for key, factor in factors.items() if math.isfinite(factor)}
        lines += write_scaled_labels(recordings, request.every, source.read, named, request.labels, track)
    return lines


def _road_views(recordings: Sequence[Recording], frames: Sequence[FrameHeight]) -> list[HorizonView]:
    by_name = {recording.name: recording for recording in recordings}
    return [
        HorizonView(by_name[frame.recording], frame.index, frame.normal, frame.boxes, frame.accepted)
        for frame in frames
    ]


def describe_depth_height(height: DepthHeight) -> list[str]:
    """Return lines of text about the height; warnings start with "note: "."""
    heights = np.array([frame.height_m for frame in height.frames if math.isfinite(frame.height_m)])
    accepted = sum(int(frame.accepted.sum()) for frame in height.frames)
    seen = sum(len(frame.accepted) for frame in height.frames)
    factors = np.array([height.factor(frame) for frame in height.frames])
    rejected, factors = int(np.isnan(factors).sum()), factors[np.isfinite(factors)]
    low, high = np.quantile(factors, (0.05, 0.95))
    pools = ", ".join(f"{name} {value:.3f}" for name, value in height.pooled.by.items())
    lines = [
        f"camera height: {height.height_m:.2f} m ± {height.pooled.sigma_m:.2f}, by the depth of {height.source}, "
        f"{height.verdict}",
        f"  {height.used_frames} of {len(height.frames)} frames: {pools} m",
        f"  {accepted} of {seen} objects in {len(height.frames)} frames",
        f"  metres over the unit of depth: {np.median(factors):.4g} ({low:.4g} to {high:.4g} in 90 % of the frames)",
    ]
    if rejected:
        ratio = math.exp(height.max_difference)
        lines.append(f"note: {rejected} frames differ by more than a factor of {ratio:.2f} and are left out")
    if height.used_frames < FEW_FRAMES:
        few = f"only {height.used_frames} of {len(height.frames)} frames are used"
        lines.append(f"note: {few}. Use more frames (--every), or a longer drive")
    scatter = 1.4826 * float(np.median(np.abs(heights / np.median(heights) - 1)))
    if scatter > MAX_SCATTER:
        lines.append(f"note: the heights of the frames scatter by {scatter:.0%}. Check {HISTOGRAM}")
    return [*lines, PRIORS_NOTE]


def to_json(height: DepthHeight, config: CameraHeightConfig) -> Mapping[str, Any]:
    """Return the result with each image and each object as JSON; lengths in metres, boxes in pixels."""

    def number(value: float) -> float | None:
        return value if math.isfinite(value) else None

    return {
        "format": "stadia-camera-height",
        "by": height.source,
        "camera_height_m": height.height_m,
        "sigma_m": height.pooled.sigma_m,
        "verdict": height.verdict,
        "used_frames": height.used_frames,
        "pools_m": height.pooled.by,
        "object_depth": config.object_depth,
        "priors": {name: prior.model_dump(mode="json") for name, prior in config.height_priors.items()},
        "frames": [
            {
                "recording": frame.recording,
                "frame": frame.name,
                "camera_height_m": number(frame.height_m),
                "sigma_m": number(math.sqrt(frame.variance) * frame.unit_height),
                "metres_over_unit": number(height.factor(frame)),
                "objects": [
                    {"number": own, "box_px": box, "metres_over_unit": number(factor), "accepted": accepted}
                    for own, box, factor, accepted in zip(
                        frame.numbers,
                        frame.boxes.tolist(),
                        frame.factors.tolist(),
                        frame.accepted.tolist(),
                        strict=True,
                    )
                ],
            }
            for frame in height.frames
        ],
    }
