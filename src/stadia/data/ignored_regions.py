"""Ignore a region of every image in losses, checks, predictions and scores: the car's hood, a logo, a time stamp."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError
from stadia.core.types import LEFT, Recording, RoadMasks
from stadia.data.config import Box
from stadia.data.recordings import RecordingView
from stadia.io.image_files import read_rgb
from stadia.io.input_files import expand_home

MAX_SHARE = 0.9  # largest ignored share of an image
MAX_ASPECT_RATIO = 1.03  # largest ratio between the aspects of a mask and its images


class IgnoringRecording(RecordingView):
    """A recording with a fixed image region that has no depth, road or objects.

    The images themselves are unchanged.

    recording: the recording.
    region: (H, W) bool, true for ignored pixels.
    """

    def __init__(self, recording: Recording, region: NDArray[np.bool_]) -> None:
        super().__init__(recording)
        self.region = region
        self.selection = getattr(recording, "selection", None)

    def ignored(self, side: str = LEFT) -> NDArray[np.bool_] | None:
        """Return the ignored region (H, W) bool, which is the same for all images."""
        return self.region

    def depth_m(self, index: int, side: str = LEFT) -> NDArray[np.float32] | None:
        """Return the depth (H, W) in metres with 0 (unknown) in the ignored region; None if the image has no depth."""
        depth_m = self.recording.depth_m(index, side)
        return None if depth_m is None else np.where(self.region, np.float32(0), depth_m)

    def masks(self, index: int, side: str = LEFT) -> RoadMasks | None:
        masks = self.recording.masks(index, side)
        if masks is None:
            return None
        cut = np.unique(masks.instance[self.region])  # cut objects have no height
        kept = np.isin(masks.instance, cut, invert=True)
        semantic = np.where(self.region, np.uint8(0), masks.semantic)
        return RoadMasks(semantic, np.where(kept, masks.instance, np.uint16(0)))

    def K(self, index: int, side: str = LEFT) -> NDArray[np.float64]:
        """Return the intrinsics K (3, 3) of the image with this index."""
        return self.recording.K(index, side)

    def fingerprint(self) -> str:
        digest = hashlib.blake2b(np.packbits(self.region).tobytes(), digest_size=8).hexdigest()
        return f"{self.recording.fingerprint()}[ignore {digest}]"


def name_mask(recording: str) -> str:
    """Return the file name of the mask of ignored pixels for a recording or mount: kitti_00.png for kitti/00."""
    return f"{recording.replace('/', '_')}.png"


def ignore_region(recording: Recording, ignore: str | Sequence[Box]) -> Recording:
    """Return the recording with a region of all images ignored, as the configuration key `data.ignore` describes it.

    recording: the recording.
    ignore: an image file, a folder of images, or boxes in pixels.

    Raises DataError if an image or a box is wrong, or the region is more than 90 % of the image.
    """
    stored, filmed = recording.camera(0), recording.filmed_camera(0)
    names = (recording.name, recording.name.rpartition("/")[2], recording.mount)
    sizes = {"size": (stored.height, stored.width), "filmed_size": (filmed.height, filmed.width)}
    return IgnoringRecording(recording, read_ignored_region(ignore, names, **sizes))


def read_ignored_region(
    ignore: str | Sequence[Box], names: Sequence[str], *, size: tuple[int, int], filmed_size: tuple[int, int]
) -> NDArray[np.bool_]:
    """Return a mask (H, W) bool that is true for ignored pixels.

    ignore: an image file whose pixels above 0 are ignored, a folder of such images, or boxes in pixels of the frames as
        filmed.
    names: names under which the recording's image is searched in the folder: the names of the recording and of its
        mount.
    size: (height, width) of the mask.
    filmed_size: (height, width) of the frames before they were resized.

    Raises DataError if an image or a box is wrong, or the region is more than 90 % of the image.
    """
    names = [name for name in names if name]
    region = (
        _read_mask(_find_file(expand_home(ignore), names), size)
        if isinstance(ignore, str)
        else _draw_boxes(ignore, names[0], size, filmed_size)
    )
    share = float(region.mean())
    if share > MAX_SHARE:
        found, expected = f"{share:.0%} of each image of {names[0]}", f"at most {MAX_SHARE:.0%}"
        raise DataError("data.ignore", found=found, expected=expected, fix="mark only the ignored region in white")
    return region


def _find_file(path: Path, names: Sequence[str]) -> Path:
    if not path.is_dir():
        return path
    files = {file.name: file for file in sorted(path.glob("*.png"))}
    for name in names:
        if (file := files.get(name_mask(name))) is not None:
            return file
    expected, found = f"a file {name_mask(names[0])}", f"{', '.join(list(files)[:4]) or 'no .png'} in it"
    raise DataError(path, found=found, expected=expected, fix="add it, black if nothing is ignored")


def _read_mask(path: Path, size: tuple[int, int]) -> NDArray[np.bool_]:
    marked = np.asarray(read_rgb(path).max(axis=-1) > 0)
    if marked.shape == size:
        return marked
    ratio = (marked.shape[1] / marked.shape[0]) / (size[1] / size[0])
    if not 1 / MAX_ASPECT_RATIO < ratio < MAX_ASPECT_RATIO:
        found, expected = f"{marked.shape[1]}x{marked.shape[0]}", f"the shape of the images, {size[1]}x{size[0]}"
        raise DataError(path, found=found, expected=expected, fix="draw it on an image of the recording")
    return np.asarray(cv2.resize(marked.astype(np.float32), size[::-1], interpolation=cv2.INTER_AREA) > 0)


def _draw_boxes(
    boxes: Sequence[Box], name: str, size: tuple[int, int], filmed_size: tuple[int, int]
) -> NDArray[np.bool_]:
    region = np.zeros(size, bool)
    for left, top, right, bottom in boxes:
        if right > filmed_size[1] or bottom > filmed_size[0]:
            found, expected = f"[{left}, {top}, {right}, {bottom}]", f"a box inside {filmed_size[1]}x{filmed_size[0]}"
            fix = f"give left, top, right and bottom in pixels of {name}"
            raise DataError("data.ignore", found=found, expected=expected, fix=fix)
        down, across = size[0] / filmed_size[0], size[1] / filmed_size[1]
        rows = slice(int(top * down), int(np.ceil(bottom * down)))
        region[rows, int(left * across) : int(np.ceil(right * across))] = True
    return region
