"""What is exported is what was trained, or there is no file."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tests.refusals import refuses

import stadia.core.torchvision_operators  # noqa: F401 - before timm

# isort: split
from timm.layers import Conv2dSame, padding
from torch import Tensor, nn
from torch.nn import functional

from stadia.core.errors import StadiaError
from stadia.core.types import DepthScale
from stadia.evaluation.predictions_folder import Provenance
from stadia.predict.exported_network import ExportDescription
from stadia.training.prediction.network_export import DESCRIPTION, _compute_same_padding, export_torch

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


class Off(Toy):
    """A network that is another one once it is exported."""

    def forward(self, image: Tensor) -> Tensor:
        return super().forward(image) * (1.002 if torch.compiler.is_exporting() else 1)


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


class Padded(Toy):
    """Four strides with TensorFlow's padding, which depends on the size."""

    def __init__(self) -> None:
        super().__init__()
        sizes = ((3, 3), (3, 5), (3, 3), (1, 5))
        self.coarse = nn.Sequential(*(Conv2dSame(3, out, kernel, stride=2) for out, kernel in sizes))


@pytest.mark.slow
def test_padding_by_size_is_a_number_in_the_graph(tmp_path: Path) -> None:
    """Timm's rounds quotients of sizes, which nests an expression for each stride; tracing an encoder took minutes."""
    torch.manual_seed(0)
    original = padding.get_same_padding
    compared = export_torch(Padded().eval(), tmp_path / "padded.pt2", ABOUT)
    assert max(each.relative for each in compared) < 1e-5
    assert padding.get_same_padding is original
    nodes = [str(node) for node in torch.export.load(tmp_path / "padded.pt2").graph.nodes]
    assert any("pad" in node for node in nodes)
    assert not [node for node in nodes if "ceil" in node or "truediv" in node or "float" in node]


class InPlace(Toy):
    """Activations in place, and tensors that are read after they, or a part of them, were changed."""

    def forward(self, image: Tensor) -> Tensor:
        wide = functional.hardswish(super().forward(image) * 2, inplace=True)
        read_later = wide * 0.5
        read_later[:, :, :8].mul_(3)
        return functional.relu_(functional.elu_(wide) - 0.3) + read_later


@pytest.mark.slow
def test_activations_in_place_are_replaced_where_nothing_reads_what_they_change(tmp_path: Path) -> None:
    torch.manual_seed(0)
    toy = InPlace().eval()
    export_torch(toy, tmp_path / "toy.pt2", ABOUT)
    loaded = torch.export.load(tmp_path / "toy.pt2")
    names = [str(node.target) for node in loaded.graph.nodes if node.op == "call_function"]
    assert {"aten.hardswish.default", "aten.elu.default", "aten.relu.default"} <= set(names)
    assert [name for name in names if "_." in name] == ["aten.mul_.Tensor"], "a slice of what is read later"
    image = torch.rand(3, 3, 80, 48)
    torch.testing.assert_close(loaded.module()(image), toy(image))


class ChangedViews(Toy):
    """A view is taken, then its tensor is changed in place, and then the view is read."""

    def __init__(self, view: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.view = view

    def forward(self, image: Tensor) -> Tensor:
        wide = super().forward(image)
        wide = wide - wide.mean()
        view = self.view(wide)
        changed = functional.relu_(wide)
        return changed + view.flatten(1).sum(1)[:, None, None, None]


@pytest.mark.slow
@pytest.mark.parametrize(
    "view",
    [
        pytest.param(lambda x: x[:, :, :8], id="slice", marks=pytest.mark.exhaustive),
        pytest.param(lambda x: x.flatten(1), id="flatten"),
        pytest.param(lambda x: x.chunk(2, 2)[1], id="chunk", marks=pytest.mark.exhaustive),
        pytest.param(lambda x: x[:, :, 4:].transpose(2, 3), id="slice and transpose"),
    ],
)
def test_an_activation_in_place_stays_where_a_view_is_read_later(
    view: Callable[[Tensor], Tensor], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    toy = ChangedViews(view).eval()
    export_torch(toy, tmp_path / "toy.pt2", ABOUT)
    loaded = torch.export.load(tmp_path / "toy.pt2")
    assert "aten.relu_.default" in {str(node.target) for node in loaded.graph.nodes}
    image = torch.rand(3, 3, 80, 48)
    with torch.no_grad():  # gradients of a chunk do not follow a change in place
        torch.testing.assert_close(loaded.module()(image), toy(image))


def test_padding_by_integers_is_that_of_timm() -> None:
    for size, kernel, stride, dilation in itertools.product(range(1, 70), (1, 2, 3, 5, 7), (1, 2, 3, 4), (1, 2)):
        given = size, kernel, stride, dilation
        assert _compute_same_padding(*given) == padding.get_same_padding(*given), given


@pytest.mark.slow
def test_a_file_that_is_off_is_not_left(tmp_path: Path) -> None:
    with refuses(StadiaError, where="toy.pt2", found=("1", "64x48", "2.0e-03"), expected="0.001"):
        export_torch(Off().eval(), tmp_path / "toy.pt2", ABOUT)
    assert not list(tmp_path.iterdir())


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
