"""Quaternions w, x, y, z: products and averages.

A quaternion of any length above 0 is a rotation, q and -q the same one; the zero quaternion is none.
"""

from __future__ import annotations

import torch
from torch import Tensor

from stadia.geometry.segments import segment_sums


def conjugate(quaternion: Tensor) -> Tensor:
    """Return the inverse rotation (..., 4), of the same length."""
    return quaternion * quaternion.new_tensor([1, -1, -1, -1])


def multiply(a: Tensor, b: Tensor) -> Tensor:
    """Return the product of quaternions (..., 4): b's rotation first, then a's, as R_a R_b. Lengths multiply."""
    a_w, a_x, a_y, a_z = a.unbind(-1)
    b_w, b_x, b_y, b_z = b.unbind(-1)
    return torch.stack(
        (
            a_w * b_w - a_x * b_x - a_y * b_y - a_z * b_z,
            a_w * b_x + a_x * b_w + a_y * b_z - a_z * b_y,
            a_w * b_y - a_x * b_z + a_y * b_w + a_z * b_x,
            a_w * b_z + a_x * b_y - a_y * b_x + a_z * b_w,
        ),
        -1,
    )


def quaternion_of_ray(ray: Tensor) -> Tensor:
    """Return the shortest rotation (..., 4) that brings the optical axis to a ray (..., 3), z > 0, of any length.

    An object's appearance depends on the rotation relative to the ray to it, not to the camera's axes (Kundu et al.,
    "3D-RCNN", CVPR 2018, section 3.3): q_camera = quaternion_of_ray * q_ray.
    """
    x, y, z = torch.nn.functional.normalize(ray, dim=-1).unbind(-1)
    return torch.nn.functional.normalize(torch.stack((1 + z, -y, x, torch.zeros_like(z)), -1), dim=-1)


# -- averages


def quaternion_mean(quaternions: Tensor, weights: Tensor | None = None, known: Tensor | None = None) -> Tensor:
    """Return the rotation nearest to all of (..., N, 4): unit (..., 4), w >= 0.

    It is the principal eigenvector of sum w q q^T (Markley et al., "Averaging quaternions", JGCD 30(4), 2007). So q and
    -q count alike, where a sum of quaternions would cancel. A longer quaternion counts as the square of its length.

    Args:
        quaternions: w, x, y, z of any length.
        weights: (..., N), none below 0.
        known: (..., N) bool; values where it is false are not read.

    Returns the zero quaternion where nothing is known. Where the two largest eigenvalues are equal (two rotations half
    a turn apart and equally heavy) every mix of both is as near: one of them is returned, and the gradient leaves that
    direction out.
    """
    quaternions = quaternions.to(torch.promote_types(quaternions.dtype, torch.float32))
    if known is not None:
        quaternions = quaternions.where(known[..., None], 0.0)
    weighted = quaternions if weights is None else quaternions * weights[..., None]
    if known is not None and weights is not None:
        weighted = weighted.where(known[..., None], 0.0)
    return _principal((weighted[..., :, None] * quaternions[..., None, :]).sum(-3))


def quaternion_mean_of_segments(
    quaternions: Tensor, segment: Tensor, count: int, weights: Tensor | None = None
) -> Tensor:
    """Return `quaternion_mean` of all objects of a batch: pixels (P, 4), each of the object `segment` (P,), to (count,
    4).

    weights: (P,). An object without a pixel has the zero quaternion.
    """
    quaternions = quaternions.to(torch.promote_types(quaternions.dtype, torch.float32))
    weighted = quaternions if weights is None else quaternions * weights[:, None].to(quaternions.dtype)
    return _principal(segment_sums(weighted[:, :, None] * quaternions[:, None, :], segment, count))


def _principal(outer: Tensor) -> Tensor:
    """Return the eigenvector (..., 4) of the largest eigenvalue of symmetric (..., 4, 4), w >= 0; zero for the zero
    matrix.

    torch's gradient of `eigh` divides by the differences of all eigenvalues. It is NaN where any two are equal, as the
    three smallest of quaternions that agree are. One eigenvector needs only its own: dv = sum_j v_j v_j^T dA v / (l -
    l_j). That is the gradient of the last step below; its value is 0.
    """
    with torch.no_grad(), torch.autocast(outer.device.type, enabled=False):
        values, vectors = torch.linalg.eigh(outer)
        value, vector = values[..., 3], vectors[..., 3]
        gaps = value[..., None] - values[..., :3]
        open_ = gaps > 8 * torch.finfo(gaps.dtype).eps * value[..., None]
        share = torch.where(open_, 1 / gaps.where(open_, 1.0), 0.0)
        vector = torch.where((value > 0)[..., None], torch.where(vector[..., :1] < 0, -vector, vector), 0.0)
    turned = (outer * vector[..., None, :]).sum(-1)
    along = (vectors[..., :3] * (turned - turned.detach())[..., :, None]).sum(-2) * share
    return vector + (vectors[..., :3] * along[..., None, :]).sum(-1)
