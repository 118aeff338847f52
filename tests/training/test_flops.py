"""Timings that can be true."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from tests.refusals import refuses

from stadia.core.errors import RunError

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import peak as peak_flops
from peak import FlopCounter, PeakFlops


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(peak_flops.MATMUL_SIZES, "cpu", ((256, 7),))


@pytest.mark.usefixtures("small")
def test_real_work_stays_below_the_peak_and_a_clock_that_does_not_wait_does_not() -> None:
    peak = PeakFlops()
    flops = 10 * 2 * 192**3
    assert peak.share("a product", flops, flops / peak.flops_per_s * 2) == pytest.approx(0.5)
    with refuses(RunError, found=("0.142", "GFLOP")):
        peak.share("a product", flops, flops / peak.flops_per_s / 400)


@pytest.mark.parametrize("is_transposed", [False, True])
@pytest.mark.parametrize("groups", [1, 4, 8])
def test_backward_pass_of_a_convolution_costs_twice_its_forward_pass_whatever_its_groups(
    groups: int, is_transposed: bool
) -> None:
    """One gradient is that of the images, one that of the weight; torch's formula ignores the groups of the latter."""
    made = torch.nn.ConvTranspose2d if is_transposed else torch.nn.Conv2d
    network, counted = made(8, 16, 3, groups=groups, bias=False), []
    x = torch.randn(2, 8, 9, 10, requires_grad=True)
    with FlopCounter() as counter:
        out = network(x)
        counted.append(counter.flops)
        out.sum().backward()
        counted.append(counter.flops - counted[0])
    assert counted[1] == 2 * counted[0]
