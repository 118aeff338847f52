"""Timings that can be true."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import pytest
import torch
from tests.refusals import refuses

from stadia.core.errors import RunError
from stadia.training import phase_clock as peak_flops
from stadia.training.phase_clock import FlopCounter, measure_matmul_peak

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from peak import PeakFlops


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


def test_the_best_of_several_is_the_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    """Products that somebody else's work held up lower nothing, be they all of the large ones."""
    clock = iter([0.0, 9.0, 10.0, 12.0, 20.0, 25.0, *(t for i in range(30, 2000, 20) for t in (i, i + 19.0))])
    monkeypatch.setattr(peak_flops, "MATMUL_SIZES", {"cpu": ((10, 3), (20, 3)), "cuda": ()})
    monkeypatch.setattr(peak_flops.time, "perf_counter", lambda: next(clock))
    assert measure_matmul_peak("cpu") == 2 * 10**3 / 2.0


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


def test_counting_changes_no_digit_and_a_formula_that_fails_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gradient of SiLU is one that torch's own mode computes otherwise."""
    x, gradients = torch.randn(1000, generator=torch.Generator().manual_seed(0)).requires_grad_(), []
    monkeypatch.setattr(peak_flops, "_FORMULAS", {torch.ops.aten.silu_backward: lambda *_, **__: 1 / 0})
    for context in (contextlib.nullcontext(), FlopCounter()):
        with context:
            gradients += torch.autograd.grad(torch.nn.functional.silu(x).square().sum(), x)
    assert torch.equal(*gradients)
