"""Interface checks of the parts of losses, for test_tables.py."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stadia.geometry.segments import segments_from_instances
from stadia.losses.loss_report import LossReport
from stadia.losses.metric_scale import KnownHeights
from stadia.overlay.config import OverlayLossConfig
from stadia.overlay.losses import OverlayComparison
from stadia.training.loss_checks.loss_case import HEIGHT_M, make_flat_road


def smoothness(name: str, part: Any, folder: Path) -> None:
    """A scalar with a slope: flat depth costs nothing, rough depth something, less where the image has edges; twice the
    batch alike.
    """
    generator = torch.Generator().manual_seed(0)
    rough = (0.1 + torch.rand(2, 1, 8, 10, generator=generator, dtype=torch.float64)).requires_grad_()
    plain, busy = (
        torch.full((2, 3, 8, 10), 0.5, dtype=torch.float64),
        torch.rand(2, 3, 8, 10, generator=generator, dtype=torch.float64),
    )
    assert float(part(torch.full_like(rough, 0.3), plain)) < 1e-12
    cost = part(rough, plain)
    assert cost.ndim == 0
    assert 0 < float(part(rough, busy).detach()) < float(cost.detach())
    torch.testing.assert_close(part(rough.repeat(2, 1, 1, 1), plain.repeat(2, 1, 1, 1)), cost)
    cost.backward()
    assert rough.grad.isfinite().all()
    assert rough.grad.abs().sum() > 0


def residual(name: str, part: Any, folder: Path) -> None:
    """One value a pixel: 0 for equal images, more the more they differ, symmetric, with finite slopes."""
    generator = torch.Generator().manual_seed(0)
    a, b = torch.rand(2, 2, 3, 8, 10, generator=generator, dtype=torch.float64)
    assert part(a, a, 0.85).abs().max() < 1e-12
    value = part(a.requires_grad_(), b, 0.85)
    assert value.shape == (2, 1, 8, 10)
    assert value.min() >= 0
    torch.testing.assert_close(part(b, a, 0.85), value)
    assert part((a + b) / 2, b, 0.85).mean() < value.mean()
    (slope,) = torch.autograd.grad(value.sum(), a)
    assert slope.isfinite().all()
    assert slope.abs().sum() > 0


def overlay_loss(name: str, part: Any, folder: Path) -> None:
    """0 for the truth, more for what is wrong, with a slope there; without a label 0. Its name is the key of its
    weight.
    """
    config = OverlayLossConfig()
    assert isinstance(getattr(config, name), float)
    generator = torch.Generator().manual_seed(0)
    true = 2 + 20 * torch.rand(2, 1, 8, 10, generator=generator, dtype=torch.float64)
    mask = torch.rand(true.shape, generator=generator) < 0.3
    sure = torch.where(mask, 40.0, -40.0).double()
    assert 0 <= float(part(OverlayComparison.from_maps(true.log(), true, sure, mask, config), config)) < 1e-9
    depth, logits = (x.clone().requires_grad_() for x in (true.log().flip(-1), -0.1 * sure))
    error = part(OverlayComparison.from_maps(depth, true, logits, mask, config), config)
    assert error.ndim == 0
    assert float(error.detach()) > 1e-3
    value, other = (depth, logits) if name.startswith("depth") else (logits, depth)
    error.backward()
    assert value.grad.isfinite().all()
    assert value.grad.abs().sum() > 0
    assert other.grad is None or not other.grad.any()
    if name.startswith("depth"):
        assert float(part(OverlayComparison.from_maps(depth, 0 * true, logits, mask, config), config).detach()) == 0


def composed() -> tuple[Callable[[Any, Tensor], LossReport], Tensor, tuple[Tensor, ...], tuple[int, int]]:
    """A slanted plane with an object pasted onto it. Inputs are ln z, then the logits of the mask."""
    known_m = torch.linspace(4, 20, 96).expand(2, 1, 64, 96)
    mask = torch.zeros_like(known_m)
    mask[..., 20:50, 30:60] = 1
    true = torch.cat((known_m.log(), 40 * mask - 20))

    def report(loss: Any, prediction: Tensor) -> LossReport:
        return loss(*prediction.chunk(2), known_m, mask > 0)

    return report, true, (true + 0.3, -0.1 * true, 0 * true), (64, 96)


def road() -> tuple[Callable[[Any, Tensor], LossReport], Tensor, tuple[Tensor, ...], tuple[int, int]]:
    """A flat road below a camera of known height, and an upright object of known height on it."""
    inverse_depth, on_road, camera = make_flat_road()
    height, width = on_road.shape[-2:]
    instances = torch.zeros(1, height, width, dtype=torch.int64)
    instances[:, 24:32, 40:50] = 1
    inverse_depth = torch.where(instances[:, None] > 0, inverse_depth[..., 31:32, :1], inverse_depth)
    height_m = 8 / (inverse_depth[:, 0, 31, 45] * camera.fy)
    of_camera_m = torch.tensor([HEIGHT_M], dtype=torch.float64)
    heights = KnownHeights(segments_from_instances(instances), height_m, torch.ones(1), of_camera_m)

    def report(loss: Any, prediction: Tensor) -> LossReport:
        return loss([prediction], camera, on_road & (instances[:, None] == 0), heights)

    return report, inverse_depth, (1.5 * inverse_depth, 0.7 * inverse_depth), (height, width)
