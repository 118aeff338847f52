"""Segment road images with TFLite networks of classes of pixels, tile by tile."""

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import CheckpointError, DataError
from stadia.io.input_files import expand_home, read_bytes

ImageArray = NDArray[np.uint8]
_CITYSCAPES = (
    "road, sidewalk, building, wall, fence, pole, traffic light, traffic sign, vegetation, terrain, sky, "
    "person, rider, car, truck, bus, train, motorcycle, bicycle"
)
CITYSCAPES_CLASSES = tuple(_CITYSCAPES.split(", "))  # the 19 evaluated classes in the order of their training ids

_TILE_STEP = 0.75  # step to the next tile, as a share of a tile's side
_MAX_TFLITE_BYTES = 1 << 30


class Segmenter(Protocol):
    """A network that maps images (H, W, 3) RGB to classes (H, W) uint8 and object ids (H, W) uint16; 0 means no object.

    Object ids are None if the network predicts classes only.
    """

    @property
    def classes(self) -> Mapping[int, str]:
        """Return the names of the classes by their numbers in the class map."""

    @property
    def identity(self) -> str:
        """Return a text that identifies the network and its weights."""

    def __call__(self, image: ImageArray) -> tuple[NDArray[np.uint8], NDArray[np.uint16] | None]: ...


@dataclass(frozen=True)
class TiledSegmenter:
    """Run a network with square input on overlapping tiles as high as the image, and join the class maps.

    Each pixel takes its class from the tile with the nearest center.

    run: maps an image (side, side, 3) uint8 RGB to class numbers (side, side), counted from 0.
    side: side of the network's input in pixels.
    names: class names.
    first: class number of the first name.
    identity: text that identifies the network and its weights.
    """

    run: Callable[[ImageArray], NDArray[np.integer]]
    side: int
    names: tuple[str, ...]
    first: int
    identity: str

    @property
    def classes(self) -> Mapping[int, str]:
        """Return the class names by number, counted from 1."""
        return dict(enumerate(self.names, start=1))

    def __call__(self, image: ImageArray) -> tuple[NDArray[np.uint8], None]:
        height, width = image.shape[:2]
        horizontal, down = width >= height, min(height, width)
        starts = compute_tile_starts(max(height, width), down)
        long = np.arange(max(height, width))
        nearest = np.abs(long[:, None] - (np.array(starts) + (down - 1) / 2)).argmin(1)
        semantic = np.zeros((height, width), np.uint8)
        for number, start in enumerate(starts):
            tile = image[:, start : start + down] if horizontal else image[start : start + down]
            interpolation = cv2.INTER_AREA if down > self.side else cv2.INTER_LINEAR
            scaled = np.asarray(cv2.resize(tile, (self.side, self.side), interpolation=interpolation))
            classes = np.asarray(self.run(scaled.astype(np.uint8))).astype(np.int32) - self.first
            classes = np.where((classes >= 0) & (classes < len(self.names)), classes + 1, 0).astype(np.uint8)
            size = (tile.shape[1], tile.shape[0])
            classes = np.asarray(cv2.resize(classes, size, interpolation=cv2.INTER_NEAREST_EXACT))
            mine = long[nearest == number]
            if horizontal:
                semantic[:, mine] = classes[:, mine - start]
            else:
                semantic[mine] = classes[mine - start]
        return semantic, None


def compute_tile_starts(length: int, side: int) -> list[int]:
    """Return the first pixel of evenly spaced tiles that cover an image side and overlap by at least a quarter.

    length: length of the image side in pixels.
    side: side of a tile in pixels.
    """
    count = 1 if length <= side else 1 + int(np.ceil((length - side) / (_TILE_STEP * side)))
    return [round(start) for start in np.linspace(0, length - side, count)] if count > 1 else [0]


def load_tflite_model(path: Path) -> TiledSegmenter:
    """Load a TFLite segmentation model of road images.

    It must map uint8 images (1, S, S, 3) to class numbers (1, S, S) or scores (1, S, S, C). Its classes are
    CITYSCAPES_CLASSES, after a background class if there is one more.

    path: the .tflite file.

    Raises CheckpointError if ai-edge-litert is not installed, or if the file is not such a model.
    """
    expected = "a TFLite model of images (1, S, S, 3) uint8 to classes (1, S, S)"
    try:
        content = read_bytes(expand_home(path), expected=expected, max_bytes=_MAX_TFLITE_BYTES)
    except DataError as error:
        raise CheckpointError(path, found=error.found, expected=expected, fix=error.fix) from error
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        expected, fix = "the package that runs TFLite", "pip install 'stadia[tflite]'"
        raise CheckpointError(path, found="no ai-edge-litert", expected=expected, fix=fix) from error
    try:
        interpreter = Interpreter(model_content=content, num_threads=os.cpu_count() or 1)
        interpreter.allocate_tensors()
        inputs, outputs = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    except (ValueError, RuntimeError) as error:
        raise CheckpointError(
            path, found=str(error).split("\n")[0], expected=expected, fix="pass a network that ONNX Runtime can open"
        ) from error
    shape, out = tuple(int(n) for n in inputs["shape"]), tuple(int(n) for n in outputs["shape"])
    is_square = len(shape) == 4 and shape[1] == shape[2] and shape[3] == 3
    if not is_square or inputs["dtype"] is not np.uint8 or out[1:3] != shape[1:3]:
        found = f"{shape} {np.dtype(inputs['dtype']).name} to {out}"
        fix = "export it with these shapes, or pass a COCO file from another program"
        raise CheckpointError(path, found=found, expected=expected, fix=fix)

    def run(image: ImageArray) -> NDArray[np.integer]:
        interpreter.set_tensor(inputs["index"], image[None])
        interpreter.invoke()
        classes = interpreter.get_tensor(outputs["index"])[0]
        return np.asarray(classes if classes.ndim == 2 else classes.argmax(-1))

    first = 1 if len(out) == 4 and out[3] == len(CITYSCAPES_CLASSES) + 1 else 0
    identity = f"{Path(path).name} {hashlib.blake2b(content, digest_size=8).hexdigest()}"
    return TiledSegmenter(run, shape[1], CITYSCAPES_CLASSES, first, identity)
