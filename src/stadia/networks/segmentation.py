"""Segment road images with panoptic networks of transformers or TFLite class models, for inference only."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

import stadia.differentiable.torchvision_operators  # noqa: F401

# isort: split
from stadia.core.errors import CheckpointError, DataError, summarize_exception
from stadia.differentiable.matrix_products import choose_matrix_products
from stadia.io.input_files import expand_home, read_bytes, read_json
from stadia.networks.hub import describe_manual_copy, offline_if_unreachable, warn_newest_revision
from stadia.networks.published_networks import find_foreign_files

ImageArray = NDArray[np.uint8]
_CITYSCAPES = (
    "road, sidewalk, building, wall, fence, pole, traffic light, traffic sign, vegetation, terrain, sky, "
    "person, rider, car, truck, bus, train, motorcycle, bicycle"
)
CITYSCAPES_CLASSES = tuple(_CITYSCAPES.split(", "))  # the 19 evaluated classes in the order of their training ids

_TILE_STEP = 0.75  # step to the next tile, as a share of a tile's side
_MAX_TFLITE_BYTES = 1 << 30  # largest model of TensorFlow Lite that is opened
_MAX_CONFIG_BYTES = 16 << 20  # largest configuration that is read
_NO_CONFIGS = ("tokenizer.json", "vocab.json")  # large, and they name no code


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
class PanopticSegmenter:
    """A Mask2Former or OneFormer network of the package transformers, together with its image processor.

    network: the network.
    processor: prepares images and converts outputs.
    identity: text that identifies the network and its weights.
    task: whether the network is a OneFormer, which takes its task as an input.
    """

    network: Any
    processor: Any
    identity: str
    task: bool

    @property
    def classes(self) -> Mapping[int, str]:
        """Return the class names by number, counted from 1; 0 is unknown."""
        return {int(number) + 1: name.strip().lower() for number, name in self.network.config.id2label.items()}

    @torch.no_grad()
    def __call__(self, image: ImageArray) -> tuple[NDArray[np.uint8], NDArray[np.uint16] | None]:
        task_inputs = {"task_inputs": ["panoptic"]} if self.task else {}
        inputs = self.processor(images=image, return_tensors="pt", **task_inputs)
        outputs = self.network(**inputs)
        found = self.processor.post_process_panoptic_segmentation(outputs, target_sizes=[image.shape[:2]])[0]
        labels = {one["id"]: one["label_id"] for one in found["segments_info"]}
        return split_panoptic_segments(found["segmentation"].cpu().numpy(), labels)


def split_panoptic_segments(
    segmentation: NDArray[np.integer], label_of: Mapping[int, int]
) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
    """Split a panoptic map into class numbers (H, W), counted from 1, and object numbers (H, W); 0 is unknown.

    segmentation: (H, W) number of the segment at each pixel.
    label_of: class of each segment, counted from 0, by the segment's number.
    """
    semantic, instance = np.zeros(segmentation.shape, np.uint8), np.zeros(segmentation.shape, np.uint16)
    for number, (segment, label) in enumerate(sorted(label_of.items()), start=1):
        here = segmentation == segment
        semantic[here], instance[here] = label + 1, number
    return semantic, instance


def load_panoptic_model(name: str) -> PanopticSegmenter:
    """Load a panoptic network from a folder, or from the Hugging Face hub.

    Only safetensors are loaded, and no code.

    name: a folder, or a repository as NAME or NAME@REVISION (a commit hash).

    Raises CheckpointError if the network is unavailable or needs code.
    """
    choose_matrix_products()
    given, revision, is_folder = name, None, expand_home(name).is_dir()
    if is_folder:
        _check_no_code(expand_home(name))
    elif "@" in name:
        name, _, revision = name.partition("@")
    from huggingface_hub import hf_hub_download
    from transformers import AutoConfig, AutoImageProcessor, AutoModelForUniversalSegmentation, OneFormerProcessor

    try:
        with offline_if_unreachable():
            used = None if is_folder else Path(hf_hub_download(name, "config.json", revision=revision)).parent.name
            config = AutoConfig.from_pretrained(name, revision=used, trust_remote_code=False)
            config.use_pretrained_backbone = False  # all weights are in the file
            one_former = config.model_type == "oneformer"
            processor = (OneFormerProcessor if one_former else AutoImageProcessor).from_pretrained(
                name, revision=used, trust_remote_code=False
            )
            network = AutoModelForUniversalSegmentation.from_pretrained(
                name,
                config=config,
                revision=used,
                trust_remote_code=False,
                use_safetensors=True,
                attn_implementation="eager",
            )
    except Exception as error:  # transformers raises errors of the file's content
        found, fix = str(error).strip().split("\n")[0], "save it there with save_pretrained"
        if not isinstance(error, OSError | ValueError):
            found = f"a damaged model ({summarize_exception(error)})"
        if not expand_home(name).exists():
            fix = f"{describe_manual_copy(name)}; or pass --by model.tflite, or a COCO file"
        expected = "a Mask2Former or OneFormer: a folder (config.json, model.safetensors) or hub name"
        raise CheckpointError(given, found=found, expected=expected, fix=fix) from error
    if used is not None and revision is None:
        warn_newest_revision(name, f"{name}@{used}")
    weights = hashlib.blake2b(digest_size=8)
    for key, value in sorted(network.state_dict().items()):
        weights.update(key.encode())
        weights.update(value.double().sum().numpy().tobytes())
    identity = f"{Path(name).name}{'' if used is None else f'@{used}'} {weights.hexdigest()}"
    return PanopticSegmenter(network.eval(), processor, identity, one_former)


def _check_no_code(folder: Path) -> None:
    codes = [path.name for path in sorted(folder.rglob("*.py"))]
    for path in sorted(folder.glob("*.json")):
        if not codes and not path.name.endswith(_NO_CONFIGS):
            values = read_json(path, expected="a configuration of transformers", max_bytes=_MAX_CONFIG_BYTES)
            codes += [f"{path.name} with {found}" for found in find_foreign_files(values)]
    if codes:
        expected = "a folder without code: config.json, preprocessor_config.json, model.safetensors"
        fix = "remove the code; only networks that transformers itself contains are run"
        raise CheckpointError(folder, found=f"code in it ({', '.join(codes[:3])})", expected=expected, fix=fix)


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
        interpreter = Interpreter(model_content=content, num_threads=torch.get_num_threads())
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
