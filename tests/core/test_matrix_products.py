"""On an AMD processor torch multiplies by oneDNN if that is exact; what the user has set is kept."""

from collections.abc import Iterator

import pytest
import torch

from stadia.differentiable import torch_state
from stadia.differentiable.torch_state import ROUNDING, choose_matrix_products, find_product_error


@pytest.fixture
def amd(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    torch.set_float32_matmul_precision("highest")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"cpu_name": "AMD EPYC"}, raising=False)
    monkeypatch.setattr(torch_state, "find_product_error", lambda: 3e-7)
    choose_matrix_products.cache_clear()
    yield
    choose_matrix_products.cache_clear()
    monkeypatch.undo()
    torch.set_float32_matmul_precision("highest")


def test_the_error_tells_rounding_to_bfloat16_from_float32(monkeypatch):
    assert find_product_error() < ROUNDING / 5
    linear = torch.nn.functional.linear
    monkeypatch.setattr(
        torch.nn.functional, "linear", lambda x, weight: linear(x.bfloat16().float(), weight.bfloat16().float())
    )
    assert find_product_error() > 50 * ROUNDING


@pytest.mark.usefixtures("amd")
def test_an_amd_processor_multiplies_by_onednn_where_it_is_exact():
    assert choose_matrix_products()
    assert torch.get_float32_matmul_precision() == "medium"
