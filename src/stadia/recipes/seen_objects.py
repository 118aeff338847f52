"""Read boxes of road objects from masks of a recording, or from the labels of a data set."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError
from stadia.core.recording import LEFT, Recording
from stadia.data.height_priors import same_class
from stadia.data.kitti_object import KittiObjectImages
from stadia.data.mask_boxes import cut_by_edge, mask_boxes
from stadia.data.object_layout import object_layout, splits_of
from stadia.data.road_masks import ROAD, shows_road, with_masks
from stadia.data.sources import open_recordings
from stadia.evaluation.watch import Watch
from stadia.recipes.camera_height_config import CameraHeightAsked


@dataclass(frozen=True)
class SeenObject:
    """class_name: as in the priors.  box_px: left, top, right, bottom.  hidden, cut: see `geometry.height_survey`."""

    class_name: str
    box_px: tuple[float, float, float, float]
    hidden: bool
    cut: bool


@dataclass(frozen=True)
class SeenFrame:
    """An image and its objects.

    image: reads it, (H, W, 3) uint8 RGB.
    K: (3, 3) at this size.
    height, width: of the image.
    drive: frames of one camera that follow each other have the same name; empty: a single image.
    road: whether it shows a road; None if unknown, as for labels and for masks without that class.
    """

    name: str
    image: Callable[[], NDArray[np.uint8]]
    K: NDArray[np.float64]
    height: int
    width: int
    objects: Sequence[SeenObject]
    drive: str = ""
    road: bool | None = None


def seen_frames(request: CameraHeightAsked, watch: Watch) -> list[SeenFrame]:
    """Return every frame with masks or labels, in order. Raises DataError without any."""
    if request.config.data.format == "auto" and object_layout(request.source) == "kitti":
        return list(_labeled(request))
    options = request.config.data.model_dump(exclude_unset=True)
    recordings = open_recordings(request.source, options.pop("format", "auto"), **options)
    if request.config.masks is not None:
        with_masks(recordings, Path(request.config.masks).expanduser())
    frames = [(one, index) for one in recordings for index in range(0, len(one), request.every)]
    found = [
        frame for one, index in watch(frames, len(frames), "reading masks") if (frame := _masked(one, index, request))
    ]
    if not found:
        raise DataError(
            request.source,
            found="no masks",
            expected="masks of cars or people beside the images, or in a folder given by masks=FOLDER",
            fix="make them: stadia prepare VIDEO --masks",
        )
    return found


def _masked(recording: Recording, index: int, request: CameraHeightAsked) -> SeenFrame | None:
    masks = recording.masks(index)
    if masks is None or recording.mask_reader is None:
        return None
    camera = recording.camera(index)
    classes = recording.mask_reader.classes
    boxes = mask_boxes(masks, classes, margin_px=request.config.border_px)
    return SeenFrame(
        f"{recording.name}/{recording.stem(index)}",
        lambda: recording.image(index, LEFT),
        recording.K(index),
        camera.height,
        camera.width,
        [SeenObject(same_class(box.class_name), box.box_px, box.hidden, box.cut) for box in boxes],
        recording.name,
        shows_road(masks.semantic, classes) if ROAD in classes.values() else None,
    )


def _labeled(request: CameraHeightAsked) -> Iterator[SeenFrame]:
    """Yield KITTI images with their labels, which include occlusion and truncation."""
    for split in splits_of(request.source, "kitti"):
        images = KittiObjectImages.open(request.source, split)
        for index in range(0, len(images), request.every):
            camera = images.camera(index)
            size = camera.height, camera.width
            objects = [
                SeenObject(
                    same_class(one.kind),
                    one.box_px,
                    hidden=one.occluded > 0,
                    cut=one.truncated > 0 or cut_by_edge(one.box_px, *size, request.config.border_px),
                )
                for one in images.written(index)
            ]
            image = _reader(images, index)
            yield SeenFrame(
                f"{images.name}/{images.file(index).stem}", image, camera.K.double().numpy(), *size, objects
            )


def _reader(images: KittiObjectImages, index: int) -> Callable[[], NDArray[np.uint8]]:
    return lambda: images.image(index)
