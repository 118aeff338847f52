"""What a part of a loss promises: contract(name, part, a folder to write to), as those of test_tables.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch


def smoothness(name: str, part: Any, folder: Path) -> None:
    """A scalar with a slope: flat depth costs nothing, rough depth something, less where the picture has edges; twice the batch alike."""
    generator = torch.Generator().manual_seed(0)
    rough = (0.1 + torch.rand(2, 1, 8, 10, generator=generator, dtype=torch.float64)).requires_grad_()
    plain, busy = torch.full((2, 3, 8, 10), 0.5, dtype=torch.float64), torch.rand(2, 3, 8, 10, generator=generator, dtype=torch.float64)
    assert float(part(torch.full_like(rough, 0.3), plain)) < 1e-12
    cost = part(rough, plain)
    assert cost.ndim == 0
    assert 0 < float(part(rough, busy).detach()) < float(cost.detach())
    torch.testing.assert_close(part(rough.repeat(2, 1, 1, 1), plain.repeat(2, 1, 1, 1)), cost)
    cost.backward()
    assert rough.grad.isfinite().all()
    assert rough.grad.abs().sum() > 0
