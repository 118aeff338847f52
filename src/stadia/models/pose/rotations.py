"""Rotations of a pose head: (..., n) numbers to rotations (..., 3, 3), the identity for zeros."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from stadia.geometry.se3 import matrix_from_euler

POLAR_STEPS = 12
"""Newton's error squares in each step of `matrix9d`, from a condition number of a thousand on."""


def euler_to_matrix(angles: Tensor, order: str = "xyz") -> Tensor:
    """Map angles (..., 3) in radians about the fixed axes x, y, z, applied in an order, to (..., 3, 3)."""
    return matrix_from_euler(angles[..., ["xyz".index(axis) for axis in order]], order)


def euler_xyz(angles: Tensor) -> Tensor:
    """Map angles about x, then y, then z to Rz Ry Rx."""
    return euler_to_matrix(angles, "xyz")


def euler_xzy(angles: Tensor) -> Tensor:
    """Map angles about x, then z, then y to Ry Rz Rx."""
    return euler_to_matrix(angles, "xzy")


def euler_yxz(angles: Tensor) -> Tensor:
    """Map angles about y, then x, then z to Rz Rx Ry."""
    return euler_to_matrix(angles, "yxz")


def euler_yzx(angles: Tensor) -> Tensor:
    """Map angles about y, then z, then x to Rx Rz Ry."""
    return euler_to_matrix(angles, "yzx")


def euler_zxy(angles: Tensor) -> Tensor:
    """Map angles about z, then x, then y to Ry Rx Rz."""
    return euler_to_matrix(angles, "zxy")


def euler_zyx(angles: Tensor) -> Tensor:
    """Map angles about z, then y, then x to Rx Ry Rz: the roll, pitch and yaw of R_roll R_pitch R_yaw."""
    return euler_to_matrix(angles, "zyx")


def matrix6d(values: Tensor) -> Tensor:
    """Map (..., 6), the first two columns of R - I, to rotations by Gram-Schmidt (arXiv 1812.07035, eq. 15)."""
    identity = torch.eye(3, dtype=values.dtype, device=values.device)
    x = F.normalize(identity[0] + values[..., :3], dim=-1)
    second = identity[1] + values[..., 3:]
    y = F.normalize(second - (x * second).sum(-1, keepdim=True) * x, dim=-1)
    return torch.stack([x, y, torch.linalg.cross(x, y)], dim=-1)


def matrix9d(values: Tensor) -> Tensor:
    """Map (..., 9), a matrix row by row minus the identity, to the nearest rotations (arXiv 2006.14616).

    They are U V^T of the singular value decomposition, found by Newton steps X <- (X + X^-T) / 2 (Higham, SIAM 1986),
    because a decomposition has an infinite derivative at the identity. A reflection becomes its negative.
    """
    identity = torch.eye(3, dtype=values.dtype, device=values.device)
    R = identity + values.reshape(*values.shape[:-1], 3, 3)
    for _ in range(POLAR_STEPS):
        R = (R + torch.linalg.inv(R).transpose(-1, -2)) / 2
    return R * torch.linalg.det(R).detach().sign()[..., None, None]
