"""Tests marked `gpu` run on the CUDA GPU where there is one, else on the CPU, so that they stay correct without one."""

from collections.abc import Iterator

import pytest
import torch

import stadia.differentiable.torchvision_operators  # noqa: F401 - before any test imports torchvision


@pytest.fixture
def device() -> Iterator[torch.device]:
    """The GPU, with float32 products in full precision; the CPU without one."""
    if not torch.cuda.is_available():
        yield torch.device("cpu")
        return
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    yield torch.device("cuda")
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


@pytest.fixture
def gpu(device: torch.device) -> torch.device:
    """The GPU; the test is skipped without one."""
    if device.type != "cuda":
        pytest.skip("no CUDA GPU")
    return device
