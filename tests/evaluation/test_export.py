"""What is exported is what was trained, or there is no file."""

import json
from pathlib import Path

import pytest
import torch
from tests.refusals import refuses

import stadia.differentiable.torchvision_operators  # noqa: F401 - before timm

# isort: split
from torch import Tensor, nn
from torch.nn import functional

from stadia.core.errors import StadiaError
from stadia.core.types import DepthScale
from stadia.evaluation.predictions_folder import Provenance
from stadia.predict.exported_network import ExportDescription
from stadia.training.prediction.network_export import DESCRIPTION, export_torch

MADE_BY = Provenance(recipe="toy", config_hash="0123456789abcdef", checkpoint="best.safetensors, step 7")
ABOUT = ExportDescription.from_provenance(
    MADE_BY, DepthScale.METRES, height=48, width=64, crop="none", stride=16, focal=0.7
)


class Toy(nn.Module):
    """Coarse and back to the image's size; and a part that depth does not need."""

    def __init__(self) -> None:
        super().__init__()
        self.coarse = nn.Conv2d(3, 1, 16, stride=16)
        self.elsewhere = nn.Linear(1000, 1000)
        self.register_buffer("not_kept", torch.zeros(1000), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        return functional.interpolate(self.coarse(image).sigmoid(), size=image.shape[-2:], mode="bilinear") + 0.01


class ByTheImage(Toy):
    """Looks at a pixel to decide what to do."""

    def forward(self, image: Tensor) -> Tensor:
        return super().forward(image) if image.mean() > 0.5 else image[:, :1]


class NearlyConstant(Toy):
    """Ten metres, give or take five percent; exported it is off by 4e-4 of what it answers."""

    def forward(self, image: Tensor) -> Tensor:
        return (1 + super().forward(image) / 10) / 10 + (4e-5 if torch.compiler.is_exporting() else 0)


@pytest.mark.slow
def test_an_archive_of_torch_export(tmp_path: Path) -> None:
    torch.manual_seed(0)
    toy = Toy().eval()
    path = tmp_path / "new" / "toy.pt2"
    compared = export_torch(toy, path, ABOUT)
    assert [(each.images, each.height, each.width) for each in compared] == [(1, 48, 64), (2, 64, 96)]
    assert max(each.relative for each in compared) < 1e-5
    assert list(path.parent.iterdir()) == [path]
    found = {DESCRIPTION: ""}
    loaded = torch.export.load(path, extra_files=found)
    assert ExportDescription.model_validate(json.loads(found[DESCRIPTION])) == ABOUT
    assert set(loaded.state_dict) == {"coarse.weight", "coarse.bias"}, "a million numbers that depth does not need"
    assert path.stat().st_size < 200_000
    assert str(Path(__file__).parent).encode() not in path.read_bytes(), "where it was made is nobody's business"
    image = torch.rand(3, 3, 80, 48)
    torch.testing.assert_close(loaded.module()(image), toy(image))


@pytest.mark.slow
def test_of_a_map_that_varies_little_what_varies_is_compared(tmp_path: Path) -> None:
    with refuses(StadiaError, where="toy.pt2", found="e-04", expected="0.001"):
        export_torch(NearlyConstant().eval(), tmp_path / "toy.pt2", ABOUT)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_training_at_two_strides_is_exported_for_two_and_more(tmp_path: Path) -> None:
    toy, path = Toy().eval(), tmp_path / "toy.pt2"
    export_torch(toy, path, ABOUT.model_copy(update={"height": 32}))
    image = torch.rand(1, 3, 32, 160)
    torch.testing.assert_close(torch.export.load(path).module()(image), toy(image))
    path.unlink()
    with refuses(StadiaError, where="toy.pt2", found="64x16", expected="32", fix="model.onnx"):
        export_torch(toy, path, ABOUT.model_copy(update={"height": 16}))
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_data_dependent_network_is_refused(tmp_path: Path) -> None:
    with refuses(StadiaError, where="toy", found="torch.export") as caught:
        export_torch(ByTheImage().eval(), tmp_path / "toy.pt2", ABOUT)
    assert "\n" not in str(caught.value)
