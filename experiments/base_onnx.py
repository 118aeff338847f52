"""Write the ONNX file of the network `base` from its weights in PyTorch:

    python experiments/base_onnx.py WEIGHTS.safetensors [--out src/stadia/predict/networks/base.onnx]

Batch normalization stays apart from convolutions, and every weight keeps its name and its float16 number, so that
PyTorch reads the weights from this file. ONNX Runtime joins both when it opens the file.
"""

from __future__ import annotations

import argparse
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxscript.optimizer
import safetensors.numpy
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from stadia.io.atomic_files import open_atomic
from stadia.networks.config import BaseConfig
from stadia.networks.depth.unet import BaseNetwork, pool_features
from stadia.predict.networks.base import BASE_FILE
from stadia.training.prediction.network_export import OPSET, _dynamic_shapes, _trace
from stadia.training.recipes.base.build_recipe import configure_network

PREFIX = "network."
OUTPUTS = ["inverse_depth", "log_uncertainty", "features"]


class Outputs(nn.Module):
    """The outputs of the network for a canonical camera, and the mean features by which strange images are found."""

    def __init__(self, network: BaseNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Map images (B, 3, H, W) to inverse depth and log uncertainty (B, 1, H, W), and to features (B, C)."""
        features = self.network.encoder(image)
        maps = self.network.decode(features, image)
        assert maps.log_uncertainty is not None
        return maps.inverse_depth[0], maps.log_uncertainty[0], pool_features(features)


def export_graph(module: Outputs) -> onnx.ModelProto:
    """Return the optimized graph, whose weights are inputs, so that the optimizer leaves them as they are."""
    program = _trace(module, "export of base", 3, 32)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        exported: Any = torch.onnx.export(
            program,
            (),
            opset_version=OPSET,
            verbose=False,
            dynamic_shapes=_dynamic_shapes(32, None),
            input_names=["image"],
            output_names=OUTPUTS,
            optimize=False,
        )
    graph = exported.model.graph
    for name in [name for name in graph.initializers if name.startswith(PREFIX)]:
        value = graph.initializers.pop(name)
        value.const_value = None
        graph.inputs.append(value)
    onnxscript.optimizer.optimize_ir(exported.model, input_size_limit=1024, output_size_limit=1024)
    return exported.model_proto


def store_weights(model: onnx.ModelProto, module: Outputs, halves: dict[str, np.ndarray]) -> None:
    """Replace the inputs that are weights by float16 initializers, and buffers without a name by float32 ones."""
    buffers = {name: tensor.numpy() for name, tensor in module.named_buffers()}
    graph, casts, named = model.graph, [], dict[str, str]()
    for given in [given for given in graph.input if given.name != "image"]:
        graph.input.remove(given)
        name = given.name.removeprefix(PREFIX)
        if name not in halves:
            graph.initializer.append(numpy_helper.from_array(buffers[given.name], given.name))
            continue
        graph.initializer.append(numpy_helper.from_array(halves[name], name))
        casts.append(helper.make_node("Cast", [name], [f"{name}.float32"], to=TensorProto.FLOAT))
        named[given.name] = f"{name}.float32"
    nodes = list(graph.node)
    for node in nodes:
        node.input[:] = [named.get(name, name) for name in node.input]
        node.doc_string, node.name = "", ""
        del node.metadata_props[:]
    del graph.node[:], graph.value_info[:], model.metadata_props[:]
    graph.node.extend([*casts, *nodes])


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--out", type=Path, default=BASE_FILE)
    options = parser.parse_args()
    stored = safetensors.numpy.load_file(options.weights)
    network = BaseNetwork(BaseConfig(), pretrained=False).eval()
    network.load_state_dict({name: torch.from_numpy(value) for name, value in stored.items()})
    module = Outputs(network.float()).eval()
    model = export_graph(module)
    store_weights(model, module, {name: value for name, value in stored.items() if value.dtype == np.float16})
    settings = configure_network("base").model_dump(mode="json")
    helper.set_model_props(model, {"config": json.dumps(settings)})
    onnx.checker.check_model(model)
    with open_atomic(options.out) as stream:
        stream.write(model.SerializeToString())
    print(f"{options.out}: {options.out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
