"""Segment images by ONNX networks of other programs (classes of pixels, or boxes of objects), in a process
with limits.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError
from stadia.io.input_files import expand_home, read_bytes, read_lines
from stadia.predict.exported_network import OnnxSession, check_installed, find_fault
from stadia.predict.tiled_masks import CITYSCAPES_CLASSES

Image = NDArray[np.uint8]
Masks = tuple[Image, NDArray[np.uint16] | None]

EXPECTED = (
    "a network from images (1, 3, H, W) float32 to scores (1, classes, H, W), or to YOLOX's boxes (1, boxes, 85),"
    " of a fixed size"
)
MEAN, DEVIATION = np.array((0.485, 0.456, 0.406), np.float32), np.array((0.229, 0.224, 0.225), np.float32)
"""Standard deviation of the colors of ImageNet (MEAN: their mean) in the normalization of images for networks of pixel
classes; YOLOX takes BGR values from 0 to 255 instead.
"""

COCO = """
    person bicycle car motorcycle airplane bus train truck boat traffic_light fire_hydrant stop_sign parking_meter bench
    bird cat dog horse sheep cow elephant bear zebra giraffe backpack umbrella handbag tie suitcase frisbee skis
    snowboard sports_ball kite baseball_bat baseball_glove skateboard surfboard tennis_racket bottle wine_glass cup fork
    knife spoon bowl banana apple sandwich orange broccoli carrot hot_dog pizza donut cake chair couch potted_plant bed
    dining_table toilet tv laptop mouse remote keyboard cell_phone microwave oven toaster sink refrigerator book clock
    vase scissors teddy_bear hair_drier toothbrush
"""
COCO_CLASSES = tuple(name.replace("_", " ") for name in COCO.split())
VOC = """
    background aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorcycle person
    pottedplant sheep sofa train tvmonitor
"""
CLASSES = {names: CITYSCAPES_CLASSES + ("background",) * (names - 19) for names in (19, 20)} | {21: tuple(VOC.split())}
"""Class names by the number of classes of a network, unless a file MODEL.txt next to the network has one name in each
line.
"""

STRIDES = (8, 16, 32)  # YOLOX's grids have these strides.
GRAY = 114  # YOLOX fills the area below and right of an image with this gray.
MIN_SCORE, MAX_OVERLAP = 0.3, 0.5  # YOLOX's demo keeps the same boxes.
MIN_OPSET = 9  # oldest version of ONNX's operators that is read
_MAX_BYTES = 1 << 31


@dataclass(frozen=True, eq=False)
class OnnxSegmenter:
    """An ONNX network that finds classes of pixels or boxes of objects.

    session: runs the network.
    size: (height, width) of its input, pixels.
    output: shape of its output.
    names: names of its classes.
    identity: file name and hash.
    """

    session: OnnxSession
    size: tuple[int, int]
    output: tuple[int, ...]
    names: tuple[str, ...]
    identity: str

    @property
    def classes(self) -> Mapping[int, str]:
        """Return the class names by class number, which starts at 1."""
        return dict(enumerate(self.names, start=1))

    @property
    def kind(self) -> str:
        """Return words for what the network finds."""
        what = "boxes of objects" if self.has_boxes else "classes of pixels"
        return f"{what}, {len(self.names)} names ({', '.join(self.names[:4])} ...), {self.size[1]}x{self.size[0]}"

    def __call__(self, image: Image) -> Masks:
        return draw_boxes(*self.find_boxes(image), image.shape[:2]) if self.has_boxes else self._classify(image)

    @property
    def has_boxes(self) -> bool:
        """Return whether the network finds boxes of objects instead of classes of pixels."""
        return len(self.output) == 3

    def _classify(self, image: Image) -> Masks:
        height, width = self.size
        small = np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.float32) / 255
        values = np.asarray((small - MEAN) / DEVIATION, np.float32).transpose(2, 0, 1)[None]
        classes = self.session.run(values, self.output)[0].argmax(0).astype(np.uint8) + 1
        whole = cv2.resize(classes, (image.shape[1], image.shape[0]), interpolation=cv2.INTER_NEAREST_EXACT)
        return np.asarray(whole, np.uint8), None

    def find_boxes(self, image: Image) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
        """Find the objects in an image (H, W, 3) RGB.

        Returns boxes (N, 4) left, top, right, bottom in pixels of the image, scores (N,), and class indices (N,) from
        0.
        """
        height, width = self.size
        scale = min(height / image.shape[0], width / image.shape[1])
        small = cv2.resize(image, (round(image.shape[1] * scale), round(image.shape[0] * scale)))
        padded = np.full((height, width, 3), GRAY, np.float32)
        padded[: small.shape[0], : small.shape[1]] = small[..., ::-1]
        found = self.session.run(padded.transpose(2, 0, 1)[None], self.output)[0]
        boxes, scores, classes = decode_boxes(found, self.size)
        return boxes / scale, scores, classes


def decode_boxes(
    found: NDArray[np.float32], size: tuple[int, int]
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
    """Decode the output of a YOLOX network, with non-maximum suppression (as YOLOX's `demo_postprocess`,
    `multiclass_nms`).

    found: (boxes, 5 + classes), its output.
    size: (height, width) of its input, pixels.

    Returns boxes (N, 4) left, top, right, bottom in pixels of the input, scores (N,), and class indices (N,) from 0.
    """
    corners, strides = [], []
    for stride in STRIDES:
        rows, columns = np.mgrid[: size[0] // stride, : size[1] // stride]
        corners.append(np.stack([columns, rows], -1).reshape(-1, 2))
        strides.append(np.full(rows.size, stride))
    step = np.concatenate(strides)[:, None].astype(np.float32)
    center = (found[:, :2] + np.concatenate(corners)) * step
    half = np.exp(np.minimum(found[:, 2:4], 10)) * step / 2
    scores = found[:, 4:5] * found[:, 5:]
    classes, best = scores.argmax(1), scores.max(1)
    boxes = np.hstack([center - half, center + half]).astype(np.float32)
    sides = np.hstack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]])
    kept = cv2.dnn.NMSBoxesBatched(sides.tolist(), best.tolist(), classes.tolist(), MIN_SCORE, MAX_OVERLAP)
    chosen = np.array(kept, np.int64).reshape(-1)
    return boxes[chosen], best[chosen], classes[chosen]


def draw_boxes(
    boxes: NDArray[np.float32], scores: NDArray[np.float32], classes: NDArray[np.int64], size: tuple[int, ...]
) -> Masks:
    """Draw filled boxes as masks: class numbers (H, W) from 1, and object numbers (H, W) from 1; 0 outside.

    Small boxes, which fit their object more closely, cover large ones.

    boxes: (N, 4) left, top, right, bottom, pixels.
    scores: (N,), ignored.
    classes: (N,) class indices from 0.
    size: (height, width) of the masks.
    """
    semantic, instance = np.zeros(size, np.uint8), np.zeros(size, np.uint16)
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    for number, index in enumerate(np.argsort(-area).tolist(), start=1):
        left, top, right, bottom = np.maximum(boxes[index].round().astype(int), 0).tolist()
        semantic[top:bottom, left:right], instance[top:bottom, left:right] = classes[index] + 1, number
    return semantic, instance


def load_onnx_segmenter(path: Path) -> OnnxSegmenter:
    """Load an ONNX network that finds classes of pixels or boxes of objects.

    Raises DataError for any other network, ConfigError if onnxruntime is not installed.
    """
    path = expand_home(path)
    content = read_bytes(path, expected=EXPECTED, max_bytes=_MAX_BYTES)
    check_installed("onnx", "onnxruntime")
    fix = "export it with a fixed size, or pass a TFLite file or a COCO file from another program"
    if fault := find_fault(path, MIN_OPSET):
        raise DataError(path, found=fault, expected=EXPECTED, fix=fix)
    import onnx

    graph = onnx.load_model_from_string(content).graph
    weights = {tensor.name for tensor in graph.initializer}
    sides = [tensor for tensor in graph.input if tensor.name not in weights][:1] + list(graph.output)[:1]
    shapes = [tuple(side.dim_value for side in tensor.type.tensor_type.shape.dim) for tensor in sides]
    if [len(shape) for shape in shapes] not in ([4, 4], [4, 3]) or shapes[0][:2] != (1, 3) or 0 in sum(shapes, ()):
        raise DataError(path, found=f"a network with {shapes}", expected=EXPECTED, fix=fix)
    size, output = shapes[0][2:], shapes[1]
    names = _read_names(path, output)
    count = output[1] if len(output) == 4 else output[2] - 5
    anchors = sum((size[0] // stride) * (size[1] // stride) for stride in STRIDES)
    if len(names) != count or (len(output) == 3 and output[1] != anchors):
        found = f"a network with {shapes} and {len(names)} names of classes"
        fix = f"write the names of its {count} classes into {path.with_suffix('.txt').name}, one a line"
        raise DataError(path, found=found, expected=EXPECTED, fix=fix)
    session = OnnxSession(path, sides[0].name, sides[1].name)
    identity = f"{path.name} {hashlib.blake2b(content, digest_size=8).hexdigest()}"
    return OnnxSegmenter(session, (size[0], size[1]), output, names, identity)


def _read_names(path: Path, output: tuple[int, ...]) -> tuple[str, ...]:
    listed = path.with_suffix(".txt")
    if listed.is_file():
        return tuple(line.strip().lower() for line in read_lines(listed, expected="a name of a class in each line"))
    return COCO_CLASSES if len(output) == 3 else CLASSES.get(output[1], ())
