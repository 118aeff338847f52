"""Exact attention: the fused form and the written-out one are the same."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import Tensor

from stadia.core.config import resolve_config
from stadia.core.errors import ConfigError
from stadia.models import ATTENTIONS
from stadia.models.attention import compute_attention_map
from stadia.models.attention_config import AttentionConfig

GRID = (12, 40)


def tokens(norm: float | None = None, *, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Random q, k, v (1, 12, 481, 64); with a norm, each query and key has it."""
    q, k, v = torch.randn(3, 1, 12, 481, 64, generator=torch.Generator().manual_seed(seed))
    if norm is not None:
        q, k = (norm * x / x.norm(dim=-1, keepdim=True) for x in (q, k))
    return q, k, v


def exact(name: str) -> torch.nn.Module:
    return ATTENTIONS.load(name)(AttentionConfig(name=name), 12, 64)


@pytest.mark.parametrize("norm", [1, 8, 16, 64])
def test_the_fused_form_and_the_explicit_one_are_equal(norm: float) -> None:
    q, k, v = tokens(norm)
    torch.testing.assert_close(exact("sdpa")(q, k, v, GRID), exact("explicit")(q, k, v, GRID), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["sdpa", "explicit"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_exact_attention_is_finite_in_every_precision(name: str, dtype: torch.dtype) -> None:
    q, k, v = (x.to(dtype) for x in tokens(16))
    assert exact(name)(q, k, v, GRID).isfinite().all()


@pytest.mark.parametrize("name", ["sdpa", "explicit"])
def test_exact_attention_is_permutation_equivariant(name: str) -> None:
    q, k, v = tokens()
    order = torch.randperm(481, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(
        exact(name)(q[:, :, order], k[:, :, order], v[:, :, order], GRID), exact(name)(q, k, v, GRID)[:, :, order]
    )


def test_the_attention_map_gives_the_weight_of_each_token() -> None:
    k = 40 * torch.eye(5)[None, None]
    num_checked = torch.tensor([3, 0, 4, 1, 2])
    weights = compute_attention_map(k[:, :, num_checked], k)
    assert weights.shape == (1, 1, 5, 5)
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(1, 1, 5))
    assert weights[0, 0].argmax(dim=-1).tolist() == num_checked.tolist()


def test_only_the_explicit_form_keeps_the_matrix_for_the_backward_pass() -> None:
    """At 1216x352, two heads of it: queries, keys, values and output against N x N numbers a head."""
    q, k, v = (x.requires_grad_() for x in torch.randn(3, 1, 2, 22 * 76 + 1, 64))
    kept = {}
    for name in ("sdpa", "explicit"):
        storages: dict[int, int] = {}

        def keep(tensor: Tensor, storages: dict[int, int] = storages) -> Tensor:
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            output = exact(name)(q, k, v, (22, 76))
        kept[name] = sum(storages.values())
        output.sum().backward()
    assert kept["explicit"] >= 2 * 1673**2 * 4
    assert kept["sdpa"] < 0.6 * kept["explicit"]


def test_a_misspelt_attention_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'explicit'"):
        resolve_config(AttentionConfig, {"name": "explict"})


def test_the_configuration_needs_no_torch() -> None:
    program = (
        "import sys; sys.modules['torch'] = None; from stadia.models.attention_config import AttentionConfig as C;"
        " print(C().name)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "sdpa"
