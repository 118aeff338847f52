"""A network in an ONNX file: run without torch, by the rules of a recipe; and files that are none."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from stadia.core.errors import DataError
from stadia.core.types import Camera, DepthScale
from stadia.data.frame_preparation import Frame, PreparedFrame, read_frames
from stadia.evaluation.predictions_folder import Predictions, Provenance
from stadia.io.image_io import write_image
from stadia.networks.depth.depth_network import compute_focal_ratio
from stadia.predict.exported_network import (
    ExportDescription,
    ExportedNetwork,
    TrainingCamera,
    stream_exported_predictions,
)
from stadia.predict.predict_frames import stream_predictions
from stadia.training.prediction.aligned_motion import align_motion

MADE_BY = Provenance(recipe="selfsup", config_hash="0123456789abcdef", checkpoint="best.safetensors, step 7")
CAMERA = TrainingCamera(K=((60, 0, 44.5), (0, 60, 14.5), (0, 0, 1)), size=(30, 90))
ABOUT = ExportDescription.from_provenance(
    MADE_BY, DepthScale.METRES, height=15, width=45, crop="none", stride=15, focal=2 / 3, camera=CAMERA
)
Make = Callable[..., object]
Stadia = Callable[..., tuple[int, str, str]]


def red_reader_onnx(path: Path, texts: dict[str, str], *, law: TensorProto | None = None, image: str = "image") -> Path:
    """The law of Drive's world as an ONNX file, made by onnx alone: 0.04 + 0.3 times the red of a pixel."""
    weights = [
        numpy_helper.from_array(np.array([[[[0.3]], [[0]], [[0]]]], np.float32), "of_red") if law is None else law
    ]
    weights.append(numpy_helper.from_array(np.array([0.04], np.float32), "least"))
    graph = helper.make_graph(
        [helper.make_node("Conv", [image, "of_red", "least"], ["inverse_depth"])],
        "red_reader",
        [helper.make_tensor_value_info(image, TensorProto.FLOAT, ["B", 3, "H", "W"])],
        [helper.make_tensor_value_info("inverse_depth", TensorProto.FLOAT, ["B", 1, "H", "W"])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    helper.set_model_props(model, texts)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """RedReader, exported. The lens of Drive trained it: fx 60 of 90 pixels."""
    return red_reader_onnx(tmp_path / "model.onnx", ABOUT.texts())


def test_maps_are_those_of_torch(model: Path, drive: Make, red_reader: Make) -> None:
    network, recording = ExportedNetwork(model), drive(3)
    by_onnx, by_torch = (
        list(stream_exported_predictions(network, read_frames(recording))),
        list(stream_predictions(red_reader(), read_frames(recording), align_motion)),
    )
    assert len(by_onnx) == len(by_torch) == 3
    for ours, theirs in zip(by_onnx, by_torch, strict=True):
        np.testing.assert_allclose(ours.inverse_depth, theirs.inverse_depth, rtol=1e-5)
        np.testing.assert_array_equal(ours.K, theirs.K)
        assert (ours.T_world_camera, ours.depth_scale, ours.image_size) == (None, DepthScale.METRES, (30, 90))


@pytest.mark.slow
def test_other_focal_length_scales_depth_with_one_warning(
    model: Path, drive: Make, caplog: pytest.LogCaptureFixture
) -> None:
    red_reader_onnx(model, ABOUT.model_copy(update={"focal": 1 / 3}).texts())
    network, recording = ExportedNetwork(model), drive(2)
    for frame, predicted in zip(
        read_frames(recording), stream_exported_predictions(network, read_frames(recording)), strict=True
    ):
        alone = network.inverse_depth(PreparedFrame.prepare(network, frame).image[None])[0, 0]
        np.testing.assert_allclose(predicted.inverse_depth, alone / 2, rtol=1e-6)
    assert [record.getMessage() for record in caplog.records] == [
        "focal length is 2.00 times the training camera's: depth is scaled by it"
    ]


def test_a_canonical_focal_length_holds_for_images_of_any_shape(model: Path, drive: Make) -> None:
    """As `models.depth.depth_network.compute_focal_ratio`, also for an image that the network takes squeezed."""
    red_reader_onnx(model, ABOUT.model_copy(update={"focal": None, "canonical_focal": 0.5}).texts())
    network, frame = ExportedNetwork(model), next(iter(read_frames(drive(2))))
    upright = Frame("upright", np.ascontiguousarray(frame.image.swapaxes(0, 1)), frame.K[[1, 0, 2]][:, [1, 0, 2]])
    for shown in (frame, upright):
        height, width = shown.image.shape[:2]
        camera = Camera(torch.from_numpy(shown.K)[None], height, width)
        expected = float(compute_focal_ratio(camera, 0.5))
        (predicted,) = stream_exported_predictions(network, [shown])
        alone = network.inverse_depth(PreparedFrame.prepare(network, shown).image[None])[0, 0]
        np.testing.assert_allclose(predicted.inverse_depth, alone / expected, rtol=0.02)  # rounded to whole pixels


@pytest.mark.slow
def test_file_contains_its_description(model: Path) -> None:
    network = ExportedNetwork(model)
    assert network.about == ABOUT
    assert (network.depth_scale, network.height, network.width, network.crop) == (DepthScale.METRES, 15, 45, "none")
    assert ABOUT.texts()["unit"] == "1/m"
    red_reader_onnx(model, {**ABOUT.texts(), "quantized by": "another program"})
    assert ExportedNetwork(model).about == ABOUT, "others may add to it"


class TestPredictions:
    @pytest.mark.slow
    def test_predict(
        self, model: Path, video: Path, drive_folder: Path, tmp_path: Path, stadia: Stadia, red_reader: Make
    ) -> None:
        """An image, a folder of images, a video and a dataset."""
        inputs = {
            "image": drive_folder / "a" / "left" / "000002.png",
            "folder": drive_folder / "a" / "left",
            "video": video,
        }
        lines = [
            ["predict", str(model), str(path), "--out", str(tmp_path / name), "data.camera.focal_px=60"]
            for name, path in inputs.items()
        ]
        lines.append(["predict", str(model), str(drive_folder), "--out", str(tmp_path / "dataset"), "--size", "90x30"])
        assert [stadia(*line)[0] for line in lines] == [0] * 4
        for name, frames in (("image", 1), ("folder", 6), ("video", 12), ("dataset", 6)):
            predictions = Predictions.open(tmp_path / name)
            assert predictions.record is not None
            assert (len(predictions.files), predictions.record.path, predictions.record.motion) == (frames, (), "none")
            assert predictions.record.checkpoint == "best.safetensors, step 7, as model.onnx"
            assert (tmp_path / name / ("side_by_side.png" if frames == 1 else "side_by_side.mp4")).exists()
        assert predictions.record.requested_size == predictions.record.network_size == (30, 90)
        words = (
            "--depth",
            tmp_path / "dataset",
            "--reference",
            drive_folder / "a" / "depth" / "left",
            "--protocol",
            "metric",
        )
        code, text, err = stadia("evaluate", *words, "--json")
        assert code == 0, err
        assert json.loads(text)["abs_rel"] == pytest.approx(0, abs=1e-5)

    @pytest.mark.slow
    @pytest.mark.parametrize("words", [(), ("--size", "90x30")])
    def test_openvino_predicts_as_onnxruntime(
        self, words: tuple[str, ...], model: Path, drive_folder: Path, tmp_path: Path, stadia: Stadia
    ) -> None:
        pytest.importorskip("openvino")
        found = []
        for backend in ("onnxruntime", "openvino"):
            out = tmp_path / backend
            code, _, err = stadia("predict", model, drive_folder, "--out", out, "--backend", backend, *words)
            assert code == 0, err
            found.append(Predictions.open(out))
            assert found[-1].record is not None
            assert (found[-1].record.backend, found[-1].record.precision) == (backend, "float32")
        for name in found[0].files:
            np.testing.assert_allclose(found[1].read(name), found[0].read(name), rtol=1e-5)


class TestAssumedCamera:
    """Where no camera is given, that of the training is taken, for images of its shape alone."""

    @pytest.fixture
    def predict(self, model: Path, tmp_path: Path, stadia: Stadia) -> Callable[..., tuple[int, str, str]]:
        def run(height: int, width: int, *words: str) -> tuple[int, str, str]:
            noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
            (tmp_path / "photos").mkdir()
            write_image(tmp_path / "photos" / "1.png", noise)
            return stadia("predict", model, tmp_path / "photos", "--out", tmp_path / "out", "--no-video", *words)

        return run


def _outside(path: Path) -> Path:
    """Weights that lie above the model's folder, in a file that somebody else wrote."""
    (path.parent / "secret.bin").write_bytes(np.array([1, 2, 3], np.float32).tobytes())
    law = TensorProto(name="of_red", data_type=TensorProto.FLOAT, dims=[1, 3, 1, 1], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", "../secret.bin"), ("offset", "0"), ("length", "12")):
        law.external_data.add(key=key, value=value)
    (path.parent / "inside").mkdir()
    return red_reader_onnx(path.parent / "inside" / path.name, ABOUT.texts(), law=law)


def _of_graph(
    nodes: list[Any], *, weights: tuple[Any, ...] = (), channels: int = 1, opset: int = 18
) -> Callable[[Path], Path]:
    """A graph of any nodes with stadia's description."""

    def write(path: Path) -> Path:
        graph = helper.make_graph(
            nodes,
            "graph",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["B", 3, "H", "W"])],
            [helper.make_tensor_value_info("inverse_depth", TensorProto.FLOAT, ["B", channels, "H", "W"])],
            list(weights),
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
        helper.set_model_props(model, ABOUT.texts())
        path.write_bytes(model.SerializeToString())
        return path

    return write


def _tensor(name: str, *values: float, dtype: type = np.float32) -> Any:
    return numpy_helper.from_array(np.array(values, dtype), name)


_BODY = helper.make_graph([helper.make_node("Identity", ["image"], ["same"])], "body", [], [])
_NO_NETWORKS = {
    "identity": (
        _of_graph([helper.make_node("Identity", ["image"], ["inverse_depth"])], channels=3),
        "3 to 3 channels",
    ),
    "old": (
        _of_graph(
            [
                helper.make_node("ReduceMean", ["image"], ["mean"], axes=[1]),
                helper.make_node("Mul", ["mean", "half"], ["inverse_depth"]),
            ],
            weights=(_tensor("half", 0.5),),
            opset=11,
        ),
        "opset 11",
    ),
    "large": (
        _of_graph([helper.make_node("Relu", ["image"], [f"a{index}"]) for index in range(4001)]),
        "4001 operations",
    ),
    "loop": (
        _of_graph([helper.make_node("Loop", ["trips", "true", "image"], ["inverse_depth"], body=_BODY)]),
        "a graph of its own",
    ),
    "domain": (_of_graph([helper.make_node("Mul", ["image"], ["a"], domain="com.microsoft")]), "'com.microsoft'"),
}


@pytest.mark.parametrize("name", _NO_NETWORKS)
def test_a_graph_that_is_no_depth_network(name: str, tmp_path: Path) -> None:
    """Each has the description that `stadia export` writes."""
    write, said = _NO_NETWORKS[name]
    with pytest.raises(DataError) as caught:
        ExportedNetwork(write(tmp_path / "graph.onnx"))
    assert said in str(caught.value)
    assert "graph.onnx: found" in str(caught.value)


def _written(content: Callable[[bytes], bytes]) -> Callable[[Path], Path]:
    def write(path: Path) -> Path:
        path.write_bytes(content(red_reader_onnx(path, ABOUT.texts()).read_bytes()))
        return path

    return write


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: path, "no such file"),
        (_written(lambda data: b"a letter"), "a damaged file"),
        (_written(lambda data: data[: len(data) // 2]), "a damaged file"),
        (lambda path: red_reader_onnx(path, {}), "without stadia's description"),
        (lambda path: red_reader_onnx(path, {**ABOUT.texts(), "height": "0"}), "height in its metadata"),
        (lambda path: red_reader_onnx(path, {**ABOUT.texts(), "crop": "all"}), "the crop 'all'"),
        (lambda path: red_reader_onnx(path, ABOUT.texts(), image="input"), "a graph with [('input'"),
        (_outside, "weights in another file"),
    ],
    ids=["nothing", "text", "cut off", "of others", "size", "crop", "graph", "weights elsewhere"],
)
def test_files_that_are_none(
    make: Callable[[Path], Path], said: str, tmp_path: Path, video: Path, stadia: Stadia
) -> None:
    path = make(tmp_path / "bad.onnx")
    with pytest.raises(DataError) as caught:
        ExportedNetwork(path)
    assert said in str(caught.value)
    code, text, err = stadia("predict", path, video, "--out", tmp_path / "out", "data.camera.focal_px=60")
    assert (code, text, len(err.splitlines())) == (2, "", 1)
    assert "bad.onnx" in err
