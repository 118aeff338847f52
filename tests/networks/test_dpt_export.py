"""A dense prediction transformer as a file, for images of any size. Exporters take seconds: networks are tiny."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tests.networks.dpt_files import drawn
from torch import Tensor, nn

from stadia.core.types import DepthScale
from stadia.evaluation.predictions_folder import Provenance
from stadia.networks.depth.dpt import Architecture, Dpt, make_hybrid, make_plain
from stadia.predict.exported_network import ExportDescription, ExportedNetwork
from stadia.training.prediction.network_export import export_onnx, export_torch


class InverseDepth(nn.Module):
    """The inverse depth of a network as a tensor, which is what an exported file returns."""

    def __init__(self, network: Dpt) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        inverse_depth: Tensor = self.network(image).inverse_depth[0]
        return inverse_depth


STRIDE = 32
STRIDES = ((1, 3, 3), (3, 5, 7), (2, 8, 4))
"""Images, rows and columns: small and odd ones, upright and lying."""


def hybrid() -> Architecture:
    sizes = {"stem": 8, "stages": (16, 32, 64), "depths": (1, 1, 1), "groups": 8, "width": 16, "blocks": 2, "heads": 2}
    return make_hybrid(**sizes, hooks=(0, 1), fusion=8, hub=None)


def plain() -> Architecture:
    sizes = {"width": 16, "blocks": 4, "heads": 2, "fusion": 8}
    return make_plain(**sizes, hooks=(0, 1, 2, 3), neck=(8, 8, 8, 8), hub=None)


def described(network: InverseDepth) -> ExportDescription:
    made_by = Provenance(recipe="supervised", config_hash="", checkpoint="drawn")
    size = {"height": 3 * STRIDE, "width": 4 * STRIDE, "stride": STRIDE}
    return ExportDescription.from_provenance(made_by, DepthScale.AFFINE_INVERSE, crop="none", focal=0.6, **size)


def check_sizes(network: InverseDepth, run: Callable[[Tensor], Tensor]) -> None:
    for images, rows, columns in STRIDES:
        image = torch.rand(images, 3, rows * STRIDE, columns * STRIDE)
        with torch.no_grad():
            expected = network(image)
        spread = float(expected.max() - expected.min())
        assert spread > 0.2 * float(expected.mean()), "a map that is nearly constant would prove nothing"
        torch.testing.assert_close(run(image), expected, atol=1e-4 * spread, rtol=0)


@pytest.mark.slow
@pytest.mark.exhaustive
def test_onnx(tmp_path: Path) -> None:
    network = InverseDepth(drawn(plain))
    export_onnx(network, tmp_path / "model.onnx", described(network))
    exported = ExportedNetwork(tmp_path / "model.onnx", threads=1)
    check_sizes(network, lambda image: torch.from_numpy(exported.inverse_depth(image.numpy())))


@pytest.mark.slow
@pytest.mark.exhaustive
def test_onnx_of_one_size(tmp_path: Path) -> None:
    network = InverseDepth(drawn(hybrid))
    size = 3 * STRIDE, 4 * STRIDE
    compared = export_onnx(network, tmp_path / "model.onnx", described(network), size)
    assert {(comparison.height, comparison.width) for comparison in compared} == {size}


@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.parametrize("arch", [plain, hybrid])
def test_an_archive_of_torch_export(arch: Callable[[], Architecture], tmp_path: Path) -> None:
    network = InverseDepth(drawn(arch))
    export_torch(network, tmp_path / "model.pt2", described(network))
    check_sizes(network, torch.export.load(tmp_path / "model.pt2").module())
