"""Measure rotation differences up to the symmetry of an object."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stadia.core.types import TensorDataclass
from stadia.geometry.se3 import quaternion_conjugate, quaternion_multiply

IDENTITY = (1.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Symmetry(TensorDataclass):
    """The rotations, in their own frames, that leave M objects unchanged.

    revolution: (M,) bool, every rotation about y.
    turns: (M, K, 4) unit quaternions w, x, y, z, the identity first; an object with fewer than K repeats it. Those of a
        body of revolution are added to its revolution.
    """

    revolution: Tensor
    turns: Tensor

    @classmethod
    def of(cls, objects: Sequence[str | Sequence[str | Sequence[float]]]) -> Symmetry:
        """Return symmetries from one entry per object: "none", "revolution", or a list of quaternions w, x, y, z.

        The identity is added. A list may hold "revolution" too.
        """
        parts = [[one] if isinstance(one, str) else one for one in objects]
        words = [part for one in parts for part in one if isinstance(part, str)]
        if wrong := [word for word in words if word not in ("none", "revolution")]:
            raise ValueError(f"a symmetry is 'none', 'revolution' or a list of quaternions, not '{wrong[0]}'")
        turns = [[IDENTITY, *(tuple(part) for part in one if not isinstance(part, str))] for one in parts]
        longest = max((len(row) for row in turns), default=1)
        filled = [row + [IDENTITY] * (longest - len(row)) for row in turns]
        revolution = torch.tensor(["revolution" in one for one in parts], dtype=torch.bool)
        return cls(revolution, torch.tensor(filled).reshape(-1, longest, 4))

    def __getitem__(self, index: Tensor) -> Symmetry:
        """Return the symmetries of selected objects, such as those of the object of each pixel."""
        return Symmetry(self.revolution[index], self.turns[index])


def half_angle_sin_cos(quaternion: Tensor, true: Tensor, symmetry: Symmetry | None = None) -> tuple[Tensor, Tensor]:
    """Return sine and cosine (...), both >= 0, of half the angle between rotations, times the length of `quaternion`.

    With d = true^-1 q, the remaining rotation in the object's frame, they are |(d_x, d_y, d_z)| and |d_w|. Rotations
    about y mix only (d_w, d_y): the least angle over all of them has sine |(d_x, d_z)| and cosine |(d_w, d_y)|. Over a
    finite set the least is taken by enumeration.

    Args:
        quaternion: (..., 4) w, x, y, z of any length.
        true: (..., 4), of length 1.
        symmetry: of the objects, its leading axes those of both.

    Both are exact near 0 (unlike 1 - cosine^2), and their gradients are finite everywhere, and 0 where they are 0.
    """
    dtype = torch.promote_types(torch.promote_types(quaternion.dtype, true.dtype), torch.float32)
    left = quaternion_multiply(quaternion_conjugate(true.to(dtype)), quaternion.to(dtype))
    if symmetry is None:
        return torch.linalg.vector_norm(left[..., 1:], dim=-1), left[..., 0].abs()
    left = quaternion_multiply(quaternion_conjugate(symmetry.turns.to(dtype)), left[..., None, :])
    about_y = symmetry.revolution[..., None]
    norm = torch.linalg.vector_norm
    sine = torch.where(about_y, norm(left[..., 1::2], dim=-1), norm(left[..., 1:], dim=-1))
    cosine = torch.where(about_y, norm(left[..., 0::2], dim=-1), left[..., 0].abs())
    least = cosine.argmax(-1, keepdim=True)
    return sine.gather(-1, least)[..., 0], cosine.gather(-1, least)[..., 0]


def symmetric_angle_deg(quaternion: Tensor, true: Tensor, symmetry: Symmetry | None = None) -> Tensor:
    """Return the angle (...) in degrees, 0 to 180, between rotations (..., 4), the least over the object's symmetry.

    2 atan2(sine, cosine) of `half_angle_sin_cos`: never NaN, and exact where arccos loses half its digits.
    For a body of revolution it is the angle between the two y axes. The zero quaternion is no rotation: 180.
    """
    sine, cosine = half_angle_sin_cos(quaternion, true, symmetry)
    angle = torch.rad2deg(2 * torch.atan2(sine, cosine))
    return angle.where((sine > 0) | (cosine > 0), 180.0).clamp(max=180.0)
