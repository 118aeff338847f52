"""Segment road images with panoptic networks of the package transformers, for inference only."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import stadia.differentiable.torchvision_operators  # noqa: F401

# isort: split
from stadia.core.errors import CheckpointError, summarize_exception
from stadia.differentiable.torch_state import choose_matrix_products
from stadia.io.input_files import expand_home, read_json
from stadia.networks.hub import describe_manual_copy, offline_if_unreachable, warn_newest_revision
from stadia.networks.published_files import find_foreign_files

ImageArray = NDArray[np.uint8]
_MAX_CONFIG_BYTES = 16 << 20  # largest configuration that is read
_NO_CONFIGS = ("tokenizer.json", "vocab.json")  # large, and they name no code


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
