"""Where the boxes of objects on a road come from: masks of a recording, or the labels of a data set of boxes."""

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
    """class_name: as the priors name it.  box_px: left, top, right, bottom, edges.  hidden, cut: see
    `geometry.height_survey`.
    """

    class_name: str
    box_px: tuple[float, float, float, float]
    hidden: bool
    cut: bool


@dataclass(frozen=True)
class SeenFrame:
    """An image and the objects in it. image: reads it, (H, W, 3) uint8 RGB. K: (3, 3) of its size. height, width: of
    the image.

    drive: frames that follow each other and have one name are of one camera; empty: an image by itself.
    road: whether it shows a road; None where nobody says, as of labels, and of masks without such a class.
    """

    name: str
    image: Callable[[], NDArray[np.uint8]]
    K: NDArray[np.float64]
    height: int
    width: int
    objects: Sequence[SeenObject]
    drive: str = ""
    road: bool | None = None


def seen_frames(asked: CameraHeightAsked, watch: Watch) -> list[SeenFrame]:
    """Every frame that has masks or labels, in order. Raises DataError where none has."""
    if asked.config.data.format == "auto" and object_layout(asked.source) == "kitti":
        return list(_labeled(asked))
    options = asked.config.data.model_dump(exclude_unset=True)
    recordings = open_recordings(asked.source, options.pop("format", "auto"), **options)
    if asked.config.masks is not None:
        with_masks(recordings, Path(asked.config.masks).expanduser())
    frames = [(one, index) for one in recordings for index in range(0, len(one), asked.every)]
    found = [
        frame for one, index in watch(frames, len(frames), "reading masks") if (frame := _masked(one, index, asked))
    ]
    if not found:
        raise DataError(
            asked.source,
            found="no masks",
            expected="masks of cars or people beside the images, or in a folder given by masks=FOLDER",
            fix="make them: stadia prepare VIDEO --masks",
        )
    return found


def _masked(recording: Recording, index: int, asked: CameraHeightAsked) -> SeenFrame | None:
    masks = recording.masks(index)
    if masks is None or recording.mask_reader is None:
        return None
    camera = recording.camera(index)
    classes = recording.mask_reader.classes
    boxes = mask_boxes(masks, classes, margin_px=asked.config.border_px)
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


def _labeled(asked: CameraHeightAsked) -> Iterator[SeenFrame]:
    """KITTI's labels say what is hidden and cut; of those, the ones that are neither count."""
    for split in splits_of(asked.source, "kitti"):
        images = KittiObjectImages.open(asked.source, split)
        for index in range(0, len(images), asked.every):
            camera = images.camera(index)
            size = camera.height, camera.width
            objects = [
                SeenObject(
                    same_class(one.kind),
                    one.box_px,
                    hidden=one.occluded > 0,
                    cut=one.truncated > 0 or cut_by_edge(one.box_px, *size, asked.config.border_px),
                )
                for one in images.written(index)
            ]
            image = _reader(images, index)
            yield SeenFrame(
                f"{images.name}/{images.file(index).stem}", image, camera.K.double().numpy(), *size, objects
            )


def _reader(images: KittiObjectImages, index: int) -> Callable[[], NDArray[np.uint8]]:
    return lambda: images.image(index)
