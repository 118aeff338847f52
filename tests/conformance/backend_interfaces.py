"""Interface checks of backends on a file of three convolutions, for test_tables.py."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from tests.refusals import refuses

from stadia.core.errors import ConfigError
from stadia.core.types import DepthScale
from stadia.evaluation.predictions_folder import Provenance
from stadia.predict.backends import PRECISIONS, TORCH, BackendChoice, check_backend
from stadia.predict.exported_network import ExportDescription, ExportedNetwork

MADE_BY = Provenance(recipe="three", config_hash="0123456789abcdef", checkpoint="best.safetensors, step 7")
ABOUT = ExportDescription.from_provenance(
    MADE_BY, DepthScale.METRES, height=16, width=32, crop="none", stride=8, focal=0.7
)


def write_network(path: Path) -> Path:
    """Write three convolutions of positive weights as an ONNX file: inverse depth is positive."""
    random = np.random.default_rng(0)
    shapes = ((8, 3, 3, 3), (8, 8, 3, 3), (1, 8, 1, 1))
    weights = [np.float32(random.random(shape) / np.prod(shape[1:])) for shape in shapes]
    names = ["image", "first", "second", "inverse_depth"]
    nodes = [
        helper.make_node("Conv", [names[k], f"w{k}"], [names[k + 1]], name=f"conv{k}", pads=[shapes[k][2] // 2] * 4)
        for k in range(3)
    ]
    graph = helper.make_graph(
        nodes,
        "three",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["B", 3, "H", "W"])],
        [helper.make_tensor_value_info("inverse_depth", TensorProto.FLOAT, ["B", 1, "H", "W"])],
        [numpy_helper.from_array(values, f"w{k}") for k, values in enumerate(weights)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    helper.set_model_props(model, ABOUT.texts())
    onnx.save(model, path)
    return path


def noise(count: int) -> NDArray[np.float32]:
    return np.random.default_rng(1).random((count, 3, 16, 32), np.float32)


def backend(name: str, part: Any, folder: Path) -> None:
    """It runs float32 and predicts as onnxruntime, whatever the size of the batch; torch runs no file."""
    assert set(part.precisions) <= set(PRECISIONS)
    network = ExportedNetwork(write_network(folder / "three.onnx"))
    if name == TORCH:
        with refuses(ConfigError, where="--backend", found=("torch", "three.onnx")):
            part(network.graph, (16, 32))
        return
    try:
        check_backend(BackendChoice(name))
    except ConfigError as error:
        pytest.skip(str(error))
    opened = part(network.graph, (16, 32))
    for count in (5, 1):
        found = opened.run(noise(count))
        np.testing.assert_allclose(found, network.inverse_depth(noise(count)), rtol=1e-5)


INTERFACE_CHECKS = (backend,)
