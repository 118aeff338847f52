"""`base` predicts the same by ONNX Runtime and OpenVINO, and a long input gets the one that was measured faster."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stadia.core.types import Camera
from stadia.data.frame_preparation import Frame, PreparedFrame
from stadia.predict.network import open_network
from stadia.predict.networks import base
from stadia.predict.networks.base import MIN_OPENVINO_FRAMES, BasePredictor, choose_runtime
from stadia.predict.options import PredictOptions
from stadia.training.prediction.backend_predictor import find_export_folder

HEIGHT, WIDTH = 64, 96

needs_openvino = pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="no openvino")


@needs_openvino
def test_both_predict_the_same() -> None:
    image = np.random.default_rng(0).random((2, 3, HEIGHT, WIDTH), np.float32)
    camera = Camera(np.array([[80.0, 0, 48], [0, 80.0, 32], [0, 0, 1]]), HEIGHT, WIDTH)
    expected, found = (BasePredictor(HEIGHT, WIDTH, backend=one).maps(image, camera) for one in base.RUNTIMES)
    np.testing.assert_allclose(found.inverse_depth, expected.inverse_depth, rtol=1e-3)
    assert found.log_uncertainty is not None
    assert expected.log_uncertainty is not None
    np.testing.assert_allclose(found.log_uncertainty, expected.log_uncertainty, rtol=1e-3, atol=1e-3)


@needs_openvino
@pytest.mark.parametrize(
    ("count", "openvino_s", "chosen"),
    [
        (MIN_OPENVINO_FRAMES, 0.5, "openvino"),
        (None, 0.5, "openvino"),
        (MIN_OPENVINO_FRAMES, 0.9, "onnxruntime"),
        (MIN_OPENVINO_FRAMES - 1, 0.5, "onnxruntime"),
    ],
)
def test_a_long_input_gets_the_faster_one(
    count: int | None, openvino_s: float, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "find_rates", lambda *_: {"onnxruntime": 1.0, "openvino": openvino_s})
    assert choose_runtime(HEIGHT, WIDTH, count) == chosen
    network, options = open_network("base"), PredictOptions(size=f"{WIDTH}x{HEIGHT}", backend="auto")
    opened: Any = network.run_backend(network.make_predictor(options), options, list, count)
    assert (opened.backend_name, opened.height, opened.width) == (chosen, HEIGHT, WIDTH)


@needs_openvino
def test_both_are_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STADIA_CACHE", str(tmp_path))
    assert choose_runtime(HEIGHT, WIDTH, None) in base.RUNTIMES
    monkeypatch.setattr(base, "TIMED_RUNS", 0)
    assert choose_runtime(HEIGHT, WIDTH, None) in base.RUNTIMES


def test_exports_of_a_network_without_a_run_are_kept_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STADIA_CACHE", str(tmp_path))
    assert find_export_folder(open_network("base").open_in_torch().checkpoint) == tmp_path / "exports"
    (tmp_path / "file").touch()
    monkeypatch.setenv("STADIA_CACHE", str(tmp_path / "file"))
    assert find_export_folder(open_network("base").open_in_torch().checkpoint) is None


def test_a_photo_runs_the_network_once(monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[tuple[str, ...]] = []
    run = base.BaseSession.run

    def count(self: base.BaseSession, image: np.ndarray, *outputs: str) -> list[np.ndarray]:
        runs.append(outputs)
        return run(self, image, *outputs)

    image = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
    camera = Camera(np.array([[80.0, 0, 48], [0, 80.0, 32], [0, 0, 1]]), HEIGHT, WIDTH)
    monkeypatch.setattr(base.BaseSession, "run", count)
    predictor = BasePredictor(HEIGHT, WIDTH)
    network = open_network("base")
    assert network.measure_strangeness(predictor, iter([Frame("0", image, camera.K)])) is not None
    shown = PreparedFrame.prepare(predictor, Frame("0", image, camera.K)).image[None]
    found = predictor.maps(shown, camera)
    assert len(runs) == 1
    np.testing.assert_array_equal(found.inverse_depth, BasePredictor(HEIGHT, WIDTH).maps(shown, camera).inverse_depth)
