"""Segmentation networks of other programs as ONNX: classes of pixels and boxes, and what is neither."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from tests.refusals import refuses

from stadia.core.errors import DataError
from stadia.data.mask_files import attach_masks
from stadia.data.open_dataset import open_recordings
from stadia.predict.masks import MasksRequest, prepare_masks
from stadia.predict.onnx_masks import STRIDES, decode_boxes, draw_boxes, load_onnx_segmenter


def write_network(path: Path, names: int = 19, rank: int = 4) -> Path:
    """The brighter a pixel's red, the higher its class: 0 or 13 (car)."""
    onnx = pytest.importorskip("onnx")
    tensor = [
        onnx.helper.make_tensor_value_info(n, 1, s) for n, s in (("x", [1, 3, 32, 64]), ("y", [1, names, 32, 64]))
    ]
    weights = np.zeros((names, 3, 1, 1), np.float32)
    weights[13, 0] = 1
    node = onnx.helper.make_node("Conv", ["x", "w"], ["y"])
    graph = onnx.helper.make_graph([node], "g", tensor[:1], tensor[1:], [onnx.numpy_helper.from_array(weights, "w")])
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 11)], ir_version=8), path)
    return path


@pytest.mark.slow
def test_a_network_of_classes_makes_masks_of_its_own_video_only(tmp_path):
    network = write_network(tmp_path / "net.onnx")
    for name, level in (("video", 255), ("other", 250)):
        (tmp_path / name).mkdir()
        for number in range(3):
            image = np.zeros((40, 80, 3), np.uint8)
            image[10:20, 20:60] = level - number
            cv2.imwrite(str(tmp_path / name / f"{number:06d}.png"), image)
    out, options = tmp_path / "masks", {"stride": 1, "camera": {"focal_px": 50.0}}
    lines = prepare_masks(MasksRequest(source=tmp_path / "video", by=str(network), out=out, options=options))
    assert any("classes of pixels" in line and "64x32" in line for line in lines)
    mine, others = (open_recordings(tmp_path / name, **options)[0] for name in ("video", "other"))
    attach_masks([mine], out)
    shown = mine.masks(0).semantic
    assert (shown[11:19, 21:59] == 14).all()
    assert (shown[:9] == 1).all()
    with refuses(DataError, where="masks", found="another video"):
        attach_masks([others], out)


def test_boxes_are_decoded_as_yolox_does():
    size = 64, 96
    grid = [
        (stride, row, column) for stride in STRIDES for row, column in np.ndindex(size[0] // stride, size[1] // stride)
    ]
    found = np.zeros((len(grid), 85), np.float32)
    at = grid.index((16, 1, 3))
    found[at, :5] = 0.5, 0.25, np.log(2), 0, 1
    found[at, 5 + 2] = 0.9
    boxes, scores, classes = decode_boxes(found, size)
    np.testing.assert_allclose(boxes, [[16 * 3.5 - 16, 16 * 1.25 - 8, 16 * 3.5 + 16, 16 * 1.25 + 8]])
    assert (scores.tolist(), classes.tolist()) == ([pytest.approx(0.9)], [2])
    semantic, instance = draw_boxes(boxes, scores, classes, size)
    assert semantic[12:28, 40:72].min() == semantic.max() == 3
    assert instance.sum() == 32 * 16


def test_a_network_without_names_is_refused(tmp_path):
    with refuses(DataError, where="net.onnx", fix="net.txt"):
        load_onnx_segmenter(write_network(tmp_path / "net.onnx", names=17))
