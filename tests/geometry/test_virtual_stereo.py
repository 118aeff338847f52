"""Virtual stereo: its slopes are autograd's, it is at rest at the truth, and it holds the scale that a path alone
leaves free.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from stadia.geometry import se3
from stadia.geometry.bundle_adjustment import photometric_residuals as direct
from stadia.geometry.bundle_adjustment.photometric_residuals import HostPoints, VirtualStereo, compute_stereo_residuals
from stadia.geometry.camera import intrinsics, pixel_grid

F64 = torch.float64
K = intrinsics(60.0, 58.0, 47.3, 22.8, height=48, width=96).K
RIG = se3.se3_exp(torch.tensor([-0.5, 0.0, 0.0, 0.0, 0.0, 0.0], dtype=F64))


def waves() -> Tensor:
    """(2, 48, 96) in [0, 1]."""
    x, y = pixel_grid(48, 96, dtype=F64)
    return torch.stack(
        [0.5 + (torch.sin(0.31 * x + 0.2 * y + k) + torch.sin(0.4 * y - 0.17 * x + k)) / 4 for k in range(2)]
    )


def points(inverse_depth: Tensor) -> HostPoints:
    hosts = []
    for host in range(2):
        pixel = torch.stack((torch.randint(25, 76, (20,)), torch.randint(12, 36, (20,))), -1)
        hosts.append(
            direct.make_host_points(waves()[host], K, host, pixel, inverse_depth, torch.ones_like(inverse_depth))
        )
    return HostPoints(*(torch.cat([getattr(part, name) for part in hosts]) for name in HostPoints.__slots__))


@pytest.mark.parametrize("rig", [RIG, se3.se3_exp(torch.tensor([-0.5, 0.03, 0.1, 0.01, 0.02, -0.01], dtype=F64))])
def test_slopes_are_autograds(rig):
    """In float64 to 1e-6, of a rig that is not rectified too."""
    slanted = 0.1 + 0.001 * pixel_grid(48, 96, dtype=F64)[1] + 0.02 * waves()[0]
    window = points(slanted)
    stereo = VirtualStereo((slanted + 0.01 * waves()[1]).expand(2, -1, -1), rig)

    def value(inverse_depth: Tensor) -> Tensor:
        return compute_stereo_residuals(
            waves(), K.expand(2, 3, 3), replace(window, inverse_depth=inverse_depth), stereo
        ).value

    jacobian = torch.autograd.functional.jacobian(value, window.inverse_depth)
    found = compute_stereo_residuals(waves(), K.expand(2, 3, 3), window, stereo)
    rows = torch.arange(40)
    assert found.seen.all()
    assert_close(found.slope, jacobian[rows, :, rows], atol=1e-6, rtol=1e-6)
    assert found.slope.abs().median() > 0.1  # nothing was compared with nothing


def test_where_both_depths_agree_there_is_no_residual():
    """Of a wall, 8 m away in both; nearer or farther there is one."""
    wall = torch.full((48, 96), 1 / 8, dtype=F64)
    window, stereo = points(wall), VirtualStereo(wall.expand(2, -1, -1), RIG)
    at_rest = compute_stereo_residuals(waves(), K.expand(2, 3, 3), window, stereo)
    assert at_rest.value.abs().max() < 1e-12
    nearer = compute_stereo_residuals(
        waves(), K.expand(2, 3, 3), replace(window, inverse_depth=1.2 * window.inverse_depth), stereo
    )
    assert nearer.value.abs().mean() > 0.02


def test_what_leaves_the_right_image_is_not_visible():
    near = torch.full((48, 96), 1.0, dtype=F64)  # 30 px of disparity
    window = points(near)
    found = compute_stereo_residuals(waves(), K.expand(2, 3, 3), window, VirtualStereo(near.expand(2, -1, -1), RIG))
    assert_close(found.seen, window.pixel[:, 0] - 30 - 2 >= 0)
    assert not found.seen.all()
    assert found.slope.isfinite().all()
