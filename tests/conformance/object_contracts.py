"""What parts for single objects promise: contract(name, part, a folder to write to), as those of test_tables.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch.testing import assert_close

from stadia.geometry.rotations import multiply
from stadia.geometry.symmetry import Symmetry


def rotation_loss(name: str, part: Any, folder: Path) -> None:
    """One value an object: 0 at the truth, rising to 180 degrees, blind to sign and to symmetry, with finite gradients everywhere."""
    generator = torch.Generator().manual_seed(0)
    true = torch.nn.functional.normalize(torch.randn(19, 4, generator=generator), dim=-1)
    half = torch.deg2rad(torch.linspace(0, 180, 19)) / 2
    away = multiply(true, torch.stack((half.cos(), half.sin(), 0 * half, 0 * half), -1)).requires_grad_()
    symmetry = Symmetry.of(["none", "revolution", [(0.0, 0.0, 1.0, 0.0)]] * 6 + ["none"])
    for of in (None, symmetry):
        said = part(away, true, of)
        assert said.shape == (19,)
        assert_close(part(-away, true, of), said)
        (gradient,) = torch.autograd.grad(said.sum(), away)
        assert gradient.isfinite().all()
    rising = part(away, true).detach()
    assert rising[0].abs() < 1e-6
    assert (rising.diff() > 0).all()
    spun = multiply(true, torch.stack((half.cos(), 0 * half, half.sin(), 0 * half), -1))
    assert_close(part(spun, true, Symmetry.of(["revolution"] * 19)), torch.zeros(19), atol=1e-6, rtol=0)
