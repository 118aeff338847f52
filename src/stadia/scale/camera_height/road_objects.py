"""Read the boxes of objects on the road from masks or labels, and check that the requested classes occur."""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError
from stadia.core.progress import TrackProgress
from stadia.core.types import LEFT, Camera, Recording
from stadia.data.formats.kitti_objects import KittiBoxImages, list_box_splits
from stadia.data.height_priors import find_prior, normalize_class
from stadia.data.mask_files import MAKE_MASKS, ROAD, attach_masks, has_road
from stadia.data.mask_objects import find_mask_boxes, is_cut_by_edge
from stadia.data.open_dataset import open_recordings
from stadia.geometry.ground.camera_height import BoxedObjects
from stadia.geometry.ground.drive_heights import transform_box
from stadia.io.input_files import expand_home
from stadia.scale.camera_height.config import CameraHeightConfig, CameraHeightRequest

MAX_SHARE_WITHOUT_ROAD = 0.5
"""Largest share of the frames without road pixels, if the masks have a class "road"; above it, a note is given."""

_MAX_NAMED = 5  # classes in a message


@dataclass(frozen=True)
class RoadObject:
    """An object in an image.

    class_name: class of the object.
    box_px: left, top, right, bottom, pixels.
    hidden: whether another object covers a part of it.
    cut: whether the image border cuts it off.
    number: value of the object in the masks; 0 for labels without masks.
    """

    class_name: str
    box_px: tuple[float, float, float, float]
    hidden: bool
    cut: bool
    number: int = 0


@dataclass(frozen=True)
class RoadFrame:
    """An image and its objects.

    name: name of the image.
    image: returns it, (H, W, 3) uint8 RGB.
    K: (3, 3), pixels.
    height, width: size of the image, pixels.
    objects: the objects.
    drive: the same name for all consecutive frames of one camera; "" for a single image.
    road: whether the masks show a road; None if unknown.
    """

    name: str
    image: Callable[[], NDArray[np.uint8]]
    K: NDArray[np.float64]
    height: int
    width: int
    objects: Sequence[RoadObject]
    drive: str = ""
    road: bool | None = None

    @property
    def camera(self) -> Camera:
        """Return the camera (K and size) of the image."""
        return Camera(self.K, self.height, self.width)


def read_road_frames(request: CameraHeightRequest, track: TrackProgress) -> list[RoadFrame]:
    """Read every frame with masks or labels, in order.

    Raises DataError if no frame has any.
    """
    if request.config.data.format == "auto" and list_box_splits(request.source):
        return list(_read_labeled(request))
    _, indices = open_masked_recordings(request)
    read = (
        _read_masked(recording, index, request) for recording, index in track(indices, len(indices), "reading masks")
    )
    frames = [frame for frame in read if frame]
    if not frames:
        raise make_missing_masks_error(request)
    return frames


def open_masked_recordings(request: CameraHeightRequest) -> tuple[Sequence[Recording], list[tuple[Recording, int]]]:
    """Open the recordings with their masks; returns them, and each n-th frame as (recording, index)."""
    options = request.config.data.model_dump(exclude_unset=True)
    recordings = open_recordings(request.source, options.pop("format", "auto"), **options)
    if request.config.masks is not None:
        attach_masks(recordings, expand_home(request.config.masks))
    return recordings, [
        (recording, index) for recording in recordings for index in range(0, len(recording), request.every)
    ]


def make_missing_masks_error(request: CameraHeightRequest) -> DataError:
    """Create the error for a source without masks."""
    expected = "masks of road and objects next to the images, or masks=FOLDER"
    fix = f"{MAKE_MASKS}; then pass masks=MASKS"
    return DataError(request.source, found="no masks", expected=expected, fix=fix)


def _read_masked(recording: Recording, index: int, request: CameraHeightRequest) -> RoadFrame | None:
    masks = recording.masks(index)
    if masks is None or recording.mask_reader is None:
        return None
    camera, classes = recording.camera(index), recording.mask_reader.classes
    boxes = find_mask_boxes(masks, classes, margin_px=request.config.border_px)
    return RoadFrame(
        f"{recording.name}/{recording.stem(index)}",
        lambda: recording.image(index, LEFT),
        recording.K(index),
        camera.height,
        camera.width,
        [RoadObject(normalize_class(box.class_name), box.box_px, box.hidden, box.cut, box.number) for box in boxes],
        recording.name,
        has_road(masks.semantic, classes) if ROAD in classes.values() else None,
    )


def _read_labeled(request: CameraHeightRequest) -> Iterator[RoadFrame]:
    for split in list_box_splits(request.source):
        images = KittiBoxImages.open(request.source, split)
        for index in range(0, len(images), request.every):
            camera = images.camera(index)
            size = camera.height, camera.width
            objects = [
                RoadObject(
                    normalize_class(label.kind),
                    label.box_px,
                    hidden=label.occluded > 0,
                    cut=label.truncated > 0 or is_cut_by_edge(label.box_px, *size, request.config.border_px),
                )
                for label in images.written(index)
            ]
            name, image = f"{images.name}/{images.file(index).stem}", partial(images.image, index)
            yield RoadFrame(name, image, camera.K, *size, objects)


def collect_boxes(frames: Sequence[RoadFrame], config: CameraHeightConfig) -> tuple[BoxedObjects, list[int]]:
    """Collect the objects of the requested classes of all frames, with boxes converted to the first frame's camera.

    Returns the objects, and for each its index in the object list of its frame.
    """
    found = [
        (number, place, transform_box(np.array(thing.box_px), frame.K, frames[0].K), thing, prior)
        for number, frame in enumerate(frames)
        for place, thing in enumerate(frame.objects)
        if (prior := find_prior(thing.class_name, config.height_priors)) or thing.class_name in config.classes
    ]

    objects = BoxedObjects(
        frame=np.array([number for number, *_ in found], np.int64),
        box_px=np.array([box for _, _, box, *_ in found]).reshape(-1, 4),
        height_m=np.array([prior.mean_m if prior else math.nan for *_, prior in found]),
        spread_m=np.array([prior.spread_m if prior else math.nan for *_, prior in found]),
        hidden=np.array([thing.hidden for *_, thing, _ in found], bool),
        cut=np.array([thing.cut for *_, thing, _ in found], bool),
    )
    return objects, [place for _, place, *_ in found]


# -- check that requested classes occur, have heights, and stand on a road


def check_classes(frames: Sequence[RoadFrame], config: CameraHeightConfig) -> None:
    """Raise DataError if no object has a requested class whose height is known."""
    counts = _count_classes(frames)
    if any(find_prior(name, config.height_priors) for name in counts):
        return
    bare = [name for name in config.classes if name in counts]
    requested = ", ".join(config.classes or config.height_priors) or "any class"
    there = ", ".join(
        f"{count} of class {name}, as in {_first_frame(frames, name)}" for name, count in counts.most_common(_MAX_NAMED)
    )
    without = f"no height of class {', '.join(bare)}" if bare else f"no object of class {requested}"
    is_there = ", and ".join(part for part in (there or "no object", _missing_road(frames)) if part)
    fix = "set objects to a class that occurs, or rename it in classes.json"
    raise DataError(
        f"objects on the road in {len(frames)} frames",
        found=f"{without}; found {is_there}",
        expected="objects of a requested class that has a height",
        fix="add mean_m, spread_m and source to priors, or request another class" if bare else fix,
    )


def class_notes(frames: Sequence[RoadFrame], config: CameraHeightConfig) -> list[str]:
    """Return notes about requested classes that do not occur or have no known height, and about frames without
    a road.
    """
    counts, notes = _count_classes(frames), list[str]()
    for name in config.classes:
        if not counts[name]:
            notes.append(f"note: no object of the requested class {name} in {len(frames)} frames")
        elif find_prior(name, config.height_priors) is None:
            first = _first_frame(frames, name)
            notes.append(f"note: {counts[name]} objects of class {name} have no height in priors, such as in {first}")
    if labeled := _missing_road(frames):
        notes.append(f"note: the masks show {labeled}. Check the masks' sheet")
    return notes


def _count_classes(frames: Sequence[RoadFrame]) -> Counter[str]:
    return Counter(thing.class_name for frame in frames for thing in frame.objects)


def _first_frame(frames: Sequence[RoadFrame], class_name: str) -> str:
    return next(frame.name for frame in frames if any(thing.class_name == class_name for thing in frame.objects))


def _missing_road(frames: Sequence[RoadFrame]) -> str:
    labeled = [frame for frame in frames if frame.road is not None]
    bare = [frame.name for frame in labeled if not frame.road]
    if len(bare) <= MAX_SHARE_WITHOUT_ROAD * len(labeled):
        return ""
    return f"no road in {len(bare)} of {len(labeled)} frames, such as {bare[0]}"
