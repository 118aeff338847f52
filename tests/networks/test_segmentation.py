"""Segmenters: tiling, a panoptic network with random weights, errors for missing models."""

import io
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.refusals import refuses

import stadia.differentiable.torchvision_operators  # noqa: F401

# isort: split
from stadia.core.errors import CheckpointError
from stadia.networks.segmentation import load_panoptic_model, split_panoptic_segments
from stadia.predict import tiled_masks
from stadia.predict.tiled_masks import TiledSegmenter, compute_tile_starts, load_tflite_model


@pytest.mark.parametrize(("length", "side"), [(1242, 375), (640, 192), (100, 100), (80, 100), (101, 100)])
def test_tiles_reach_from_end_to_end_and_overlap(length, side):
    starts = compute_tile_starts(length, side)
    assert starts[0] == 0
    assert starts[-1] == max(0, length - side)
    assert all(b - a <= 0.75 * side for a, b in itertools.pairwise(starts))


@pytest.mark.parametrize("shape", [(40, 130), (130, 40), (40, 40)])
def test_tiles_of_a_class_image_reproduce_it(shape):
    classes = np.random.default_rng(0).integers(0, 3, (shape[0] // 10, shape[1] // 10)).repeat(10, 0).repeat(10, 1)
    image = (classes[..., None] * 80).astype(np.uint8).repeat(3, 2)
    network = TiledSegmenter(lambda tile: (tile[..., 0] + 40) // 80, 40, ("road", "car"), 1, "itself")
    semantic, instance = network(image)
    assert instance is None
    assert (semantic == classes).all()  # 0 is its background, then road, car
    assert network.classes == {1: "road", 2: "car"}


def test_segments_become_classes_from_one_and_objects():
    segmentation_map = np.array([[0, 0, 4], [7, 7, 4]])
    semantic, instance = split_panoptic_segments(segmentation_map, {4: 0, 7: 13})
    assert semantic.tolist() == [[0, 0, 1], [14, 14, 1]]
    assert instance.tolist() == [[0, 0, 1], [2, 2, 1]]


def save_mask2former(folder):
    """Save a small network with random weights."""
    from transformers import (
        Mask2FormerConfig,
        Mask2FormerForUniversalSegmentation,
        Mask2FormerImageProcessor,
        SwinConfig,
    )

    torch.manual_seed(0)
    swin = SwinConfig(
        embed_dim=8,
        depths=[1, 1, 1, 1],
        num_heads=[1, 1, 1, 1],
        window_size=4,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    config = Mask2FormerConfig(
        backbone_config=swin, hidden_dim=32, feature_size=32, mask_feature_size=32, num_queries=6,
        num_attention_heads=1, encoder_layers=1, decoder_layers=2, dim_feedforward=16, encoder_feedforward_dim=16,
        id2label={0: "Road", 1: "Car"},
    )  # fmt: skip
    Mask2FormerForUniversalSegmentation(config).save_pretrained(folder)
    Mask2FormerImageProcessor(size={"height": 64, "width": 64}).save_pretrained(folder)


@pytest.mark.slow
def test_a_mask2former_with_random_weights_classifies_every_pixel(tmp_path):
    save_mask2former(tmp_path)
    network = load_panoptic_model(str(tmp_path))
    assert network.classes == {1: "road", 2: "car"}
    image = np.random.default_rng(0).integers(0, 255, (48, 96, 3), np.uint8)
    semantic, instance = network(image)
    assert semantic.shape == instance.shape == (48, 96)
    assert set(np.unique(semantic)) <= {0, 1, 2}
    assert ((semantic > 0) == (instance > 0)).all()
    again = load_panoptic_model(str(tmp_path))
    assert again.identity == network.identity
    with torch.no_grad():
        next(again.network.parameters()).add_(1)
    again.network.save_pretrained(tmp_path)
    assert load_panoptic_model(str(tmp_path)).identity != network.identity


PLACES = ("config.json", "preprocessor_config.json", "no auto_map", "pickle")


def write_code(place: str, folder: Path, canary: Path) -> None:
    """Write a folder of a model whose code, at one place of it, would create the file `canary`."""
    folder.mkdir()
    code = f"open({str(canary)!r}, 'w').close()\nfrom transformers import PretrainedConfig as Mine\n"
    config, processor = {"model_type": "mine"}, {"image_processor_type": "Mask2FormerImageProcessor"}
    if place == "pickle":
        config = {"model_type": "mask2former"}
        program = f"(cbuiltins\nexec\n(V{code.splitlines()[0]}\ntR."
        (folder / "pytorch_model.bin").write_bytes(program.encode())
    else:
        (folder / "mine.py").write_text(code)
    mapped = {"AutoConfig": "mine.Mine", "AutoImageProcessor": "mine.Mine", "AutoModel": "mine.Mine"}
    if place == "config.json":
        config["auto_map"] = mapped
    elif place == "preprocessor_config.json":
        config, processor = {"model_type": "mask2former"}, {"auto_map": mapped}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES)
def test_no_code_of_a_folder_is_run(place, tmp_path, monkeypatch):
    folder, canary = tmp_path / "model", tmp_path / "code-was-run"
    write_code(place, folder, canary)
    monkeypatch.setattr("sys.stdin", io.StringIO("yes\n" * 20))
    with pytest.raises(CheckpointError) as refused:
        load_panoptic_model(str(folder))
    assert str(folder) in str(refused.value)
    assert place == "pickle" or "code in it (mine.py)" in str(refused.value)
    assert not canary.exists()


@pytest.mark.parametrize(
    "key", ["auto_map", "attn_implementation", "_attn_implementation", "repo_path", "class_info_file"]
)
def test_a_folder_that_names_code_elsewhere_is_refused(tmp_path, key):
    content = {"model_type": "mask2former", "a": [{key: "mine/kernel"}]}
    (tmp_path / "config.json").write_text(json.dumps(content))
    with refuses(CheckpointError, found=("config.json", key)):
        load_panoptic_model(str(tmp_path))


@pytest.mark.real
def test_the_cityscapes_model_agrees_with_its_reference(real_data):
    pytest.importorskip("ai_edge_litert")
    import cv2

    folder: Path = real_data / "segmentation_model"
    network = load_tflite_model(next(folder.glob("*.tflite")))
    assert network.classes[14] == "car"
    image = cv2.imread(str(folder / "cityscapes_segmentation.bmp"))[..., ::-1]
    from PIL import Image

    reference = np.asarray(Image.open(folder / "cityscapes_segmentation_mask.bmp"))
    semantic, _ = network(np.ascontiguousarray(image))
    assert (semantic.astype(int) - 1 == reference).mean() > 0.91
    assert tiled_masks.CITYSCAPES_CLASSES[0] == "road"
