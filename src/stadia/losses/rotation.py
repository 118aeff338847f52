"""Losses of quaternions against the true rotation of an object, one value each. ROTATION_LOSSES names them.

Every one of the table takes `quaternion` (..., 4) w, x, y, z as a network says it, of any length, `true` (..., 4) of
length 1, and the `Symmetry` of the objects, or None, and gives (...). Each is least at the truth and where it looks the
same, and rises from there to the orientation farthest away, so that what falls is the angle. (Minus a logarithm,
-log(eps + 1 - |q . q_true|), falls towards 180
degrees: ROTATION_LOSSES refuses its name.) q and -q are one rotation, and have one loss.

Gradients are finite everywhere, also at the truth, at 180 degrees, and for the zero quaternion, which is as far away as
can be.
`reduction.masked_mean` makes one number of them: per object, or per pixel over pixels that show an object and no
others.
"""

from __future__ import annotations

import torch
from torch import Tensor

from stadia.geometry.symmetry import Symmetry, half_angle

EPS = 0.1
"""Of `bounded_log`: its slope in 1 - a^2 is 1 / EPS at the truth and 1 / (1 + EPS) at 180 degrees."""


SHORTEST = 1e-18
"""A quaternion shorter than this has no angle: its squares are about to vanish in float32."""


def _some_angle(quaternion: Tensor, true: Tensor, symmetry: Symmetry | None) -> tuple[Tensor, Tensor]:
    """`half_angle`, and 180 degrees without a gradient where there is none."""
    sine, cosine = half_angle(quaternion, true, symmetry)
    return sine.where(torch.maximum(sine, cosine) > SHORTEST, 1.0), cosine


def geodesic(quaternion: Tensor, true: Tensor, symmetry: Symmetry | None = None) -> Tensor:
    """The angle itself, in radians, 0 to pi. Its slope has one size at every angle, so steps have to get smaller to
    end.

    The length of the quaternion does not matter.
    """
    return 2 * torch.atan2(*_some_angle(quaternion, true, symmetry))


def bounded_log(quaternion: Tensor, true: Tensor, symmetry: Symmetry | None = None) -> Tensor:
    """log((1 - a^2 + eps) / eps) with a = |q . q_true|: from 0 to log(1 + 1 / eps), steepest near the truth, and
    bounded there.

    The length of the quaternion does not matter.
    """
    return torch.log1p(one_minus_dot_squared(quaternion, true, symmetry) / EPS)


def one_minus_dot_squared(quaternion: Tensor, true: Tensor, symmetry: Symmetry | None = None) -> Tensor:
    """1 - a^2 with a = |q . q_true|, the squared sine of half the angle: 0 to 1, smooth, and flat at both ends.

    The length of the quaternion does not matter.
    """
    sine, cosine = _some_angle(quaternion, true, symmetry)
    return sine.square() / (sine.square() + cosine.square())


def squared_error(quaternion: Tensor, true: Tensor, symmetry: Symmetry | None = None) -> Tensor:
    """|q - q_true|^2 to the nearer of q_true and -q_true: the baseline. It asks for length 1 as well, of what has any
    other: of what a pixel says, that is (`loss.rotation_of=pixel`); the mean of an object has length 1 already, and 2 -
        2 |q . q_true| is left.

    Symmetric objects: to the nearest of all quaternions that look like the true one.
    """
    sine, cosine = half_angle(quaternion, true, symmetry)
    return sine.square() + (cosine - 1).square()


def norm_penalty(quaternion: Tensor) -> Tensor:
    """(|q| - 1)^2, (...). A loss that does not see the length only ever makes it grow, and steps with it smaller."""
    dtype = torch.promote_types(quaternion.dtype, torch.float32)
    return (torch.linalg.vector_norm(quaternion.to(dtype), dim=-1) - 1).square()
