"""Products of float32 by the faster library: only where it was asked for by nobody else, and only exact ones."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from stadia.process import matrix_products
from stadia.process.matrix_products import ROUNDING, choose_matrix_products, find_product_error


@pytest.fixture(autouse=True)
def _restored_precision(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    torch.set_float32_matmul_precision("highest")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    choose_matrix_products.cache_clear()
    yield
    choose_matrix_products.cache_clear()
    torch.set_float32_matmul_precision("highest")


def _name_processor(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"cpu_name": name}, raising=False)


def test_the_error_tells_rounding_to_bfloat16_from_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_product_error() < ROUNDING / 5
    mm = torch.mm
    monkeypatch.setattr(torch, "mm", lambda a, b: mm(a.bfloat16().float(), b.bfloat16().float()))
    assert find_product_error() > 50 * ROUNDING


def test_an_amd_processor_multiplies_by_onednn_where_it_is_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    _name_processor(monkeypatch, "AMD EPYC")
    monkeypatch.setattr(matrix_products, "find_product_error", lambda: 3e-7)
    assert choose_matrix_products()
    assert torch.get_float32_matmul_precision() == "medium"


def test_products_that_round_are_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    _name_processor(monkeypatch, "AMD EPYC")
    monkeypatch.setattr(matrix_products, "find_product_error", lambda: 2e-3)
    assert not choose_matrix_products()
    assert torch.get_float32_matmul_precision() == "highest"


@pytest.mark.parametrize("name", ["Intel(R) Xeon(R)", ""])
def test_other_processors_keep_torchs_choice(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    _name_processor(monkeypatch, name)
    assert not choose_matrix_products()
    assert torch.get_float32_matmul_precision() == "highest"


def test_a_torch_without_the_processors_name_keeps_its_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert not choose_matrix_products()


def test_with_a_gpu_the_precision_of_its_products_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    _name_processor(monkeypatch, "AMD EPYC")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert not choose_matrix_products()
    assert torch.get_float32_matmul_precision() == "highest"


def test_a_precision_that_the_user_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    _name_processor(monkeypatch, "AMD EPYC")
    torch.set_float32_matmul_precision("high")
    assert not choose_matrix_products()
    assert torch.get_float32_matmul_precision() == "high"


def test_a_precision_that_the_user_set_for_one_library_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    _name_processor(monkeypatch, "AMD EPYC")

    def refuse() -> str:
        raise RuntimeError("a mix of the legacy and new APIs")

    with monkeypatch.context() as patch:
        patch.setattr(torch, "get_float32_matmul_precision", refuse)
        assert not choose_matrix_products()
