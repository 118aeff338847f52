"""Compare oriented 3D boxes and rotations of objects: symmetries, rotation angles, box corners, shared volume and IoU.

A box has a pose T (..., 4, 4) and a size size_m (..., 3). The pose maps points from the box's coordinates (origin at
the center, axes along the edges) to camera coordinates in metres. The size is the edge lengths along x, y and z in
metres.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from stadia.core.types import TensorDataclass
from stadia.geometry import poses as se3

IDENTITY = (1.0, 0.0, 0.0, 0.0)  # the quaternion w, x, y, z of no rotation


@dataclass(frozen=True, slots=True)
class Symmetry(TensorDataclass):
    """Hold the symmetry of M objects: the rotations, in each object's own coordinates, that leave its shape unchanged.

    revolution: (M,) bool, true for a body of revolution about y, which any rotation about y leaves unchanged.
    turns: (M, K, 4) unit quaternions w, x, y, z of single rotations that leave the object unchanged. The identity
        comes first, and also fills up the rows of objects with fewer than K rotations.
    """

    revolution: Tensor
    turns: Tensor

    @classmethod
    def parse(cls, objects: Sequence[str | Sequence[str | Sequence[float]]]) -> "Symmetry":
        """Convert one symmetry label per object to a Symmetry.

        objects: for each object "none", "revolution" (a body of revolution about y), or a list of unit quaternions w,
            x, y, z, which may also contain the word "revolution".

        Raises ValueError for any other word.
        """
        parts = [[entry] if isinstance(entry, str) else entry for entry in objects]
        words = [part for entry in parts for part in entry if isinstance(part, str)]
        if wrong := [word for word in words if word not in ("none", "revolution")]:
            raise ValueError(f"a symmetry is 'none', 'revolution' or a list of quaternions, not '{wrong[0]}'")
        turns = [[IDENTITY, *(tuple(part) for part in entry if not isinstance(part, str))] for entry in parts]
        longest = max((len(row) for row in turns), default=1)
        filled = [row + [IDENTITY] * (longest - len(row)) for row in turns]
        revolution = torch.tensor(["revolution" in entry for entry in parts], dtype=torch.bool)
        return cls(revolution, torch.tensor(filled).reshape(-1, longest, 4))

    def __getitem__(self, index: Tensor) -> "Symmetry":
        return Symmetry(self.revolution[index], self.turns[index])


def half_angle_sin_cos(quaternion: Tensor, true: Tensor, symmetry: Symmetry | None = None) -> tuple[Tensor, Tensor]:
    """Return sine and cosine, (...) each and both >= 0, of half the angle between predicted and true rotations.

    Both are multiplied by the length of the predicted quaternion. The angle is the smallest one over all rotations
    that the symmetry makes equivalent to the true one. With d = true^-1 q, sine and cosine are |(d_x, d_y, d_z)| and
    |d_w|. A rotation about y mixes only d_w and d_y, so for a body of revolution the smallest angle has the sine
    |(d_x, d_z)| and the cosine |(d_w, d_y)|. Of a finite set of rotations, all are tried. Both values are exact near
    0, and their gradients are finite everywhere.

    quaternion: (..., 4) predicted quaternions w, x, y, z of any length.
    true: (..., 4) true quaternions w, x, y, z of length 1.
    symmetry: symmetry of the objects, with the same leading dimensions as the quaternions; None if no object is
        symmetric.
    """
    dtype = torch.promote_types(torch.promote_types(quaternion.dtype, true.dtype), torch.float32)
    left = se3.quaternion_multiply(se3.quaternion_conjugate(true.to(dtype)), quaternion.to(dtype))
    if symmetry is None:
        return torch.linalg.vector_norm(left[..., 1:], dim=-1), left[..., 0].abs()
    left = se3.quaternion_multiply(se3.quaternion_conjugate(symmetry.turns.to(dtype)), left[..., None, :])
    about_y = symmetry.revolution[..., None]
    norm = torch.linalg.vector_norm
    sine = torch.where(about_y, norm(left[..., 1::2], dim=-1), norm(left[..., 1:], dim=-1))
    cosine = torch.where(about_y, norm(left[..., 0::2], dim=-1), left[..., 0].abs())
    least = cosine.argmax(-1, keepdim=True)
    return sine.gather(-1, least)[..., 0], cosine.gather(-1, least)[..., 0]


def symmetric_angle_deg(quaternion: Tensor, true: Tensor, symmetry: Symmetry | None = None) -> Tensor:
    """Return the angle in degrees, (...), between predicted and true rotations, the least over the symmetry.

    It is 2 atan2(sine, cosine) of `half_angle_sin_cos`, which is exact near 0 and never NaN. For a zero quaternion it
    is 180.

    quaternion: (..., 4) predicted quaternions w, x, y, z of any length.
    true: (..., 4) true quaternions w, x, y, z of length 1.
    symmetry: symmetry of the objects, with the same leading dimensions as the quaternions; None if no object is
        symmetric.

    Examples:
        >>> upright, turned = torch.tensor([[1.0, 0, 0, 0]]), torch.tensor([[0.6, 0, 0.8, 0]])  # about y
        >>> round(symmetric_angle_deg(turned, upright).item(), 2)
        106.26
        >>> symmetric_angle_deg(turned, upright, Symmetry.parse(["revolution"])).item() < 1e-3
        True
    """
    sine, cosine = half_angle_sin_cos(quaternion, true, symmetry)
    angle = torch.rad2deg(2 * torch.atan2(sine, cosine))
    return angle.where((sine > 0) | (cosine > 0), 180.0).clamp(max=180.0)


CORNERS = tuple(product((-0.5, 0.5), repeat=3))  # corners of the box of size 1: x varies slowest, z fastest

EDGES = tuple((i, i | bit) for bit in (4, 2, 1) for i in range(8) if not i & bit)
"""The twelve edges of a box, as pairs of indices into CORNERS: four along x, then four along y, then four along z."""

FACES = ((0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3))
"""The six faces of a box, -x, +x, -y, +y, -z, +z, as indices of their corners in CORNERS.

The corners of a face are in counter-clockwise order as seen from outside the box.
"""

ROTATIONS = 20  # rotations about y that the published NOCS evaluation tries for a body of revolution


def compute_box_corners(T_camera_object: Tensor, size_m: Tensor) -> Tensor:
    """Return the eight corners of boxes in camera coordinates, (..., 8, 3) in metres, in the order of CORNERS.

    T_camera_object: (..., 4, 4) poses, from box to camera coordinates.
    size_m: (..., 3) edge lengths of the boxes along their x, y and z axes, in metres.
    """
    unit = torch.tensor(CORNERS, dtype=size_m.dtype, device=size_m.device)
    return se3.transform(T_camera_object, unit * size_m[..., None, :])


def box_iou(T_a: Tensor, size_a_m: Tensor, T_b: Tensor, size_b_m: Tensor) -> Tensor:
    """Return the exact intersection over union of oriented boxes a and b, (...); 0 for boxes that do not overlap.

    T_a: (..., 4, 4) poses of the boxes a, from box to camera coordinates.
    size_a_m: (..., 3) edge lengths of the boxes a in metres.
    T_b: (..., 4, 4) poses of the boxes b.
    size_b_m: (..., 3) edge lengths of the boxes b in metres.
    """
    shared = intersection_volume(T_a, size_a_m, T_b, size_b_m)
    joint = size_a_m.double().prod(-1) + size_b_m.double().prod(-1) - shared
    return (shared / joint.where(joint > 0, 1.0)).clamp(max=1)


def box_hull_iou(T_a: Tensor, size_a_m: Tensor, T_b: Tensor, size_b_m: Tensor) -> Tensor:
    """Return the IoU, (...), of the axis-aligned boxes that enclose the oriented boxes a and b in camera coordinates.

    The NOCS benchmark computes its IoU so. It differs from the IoU of the oriented boxes themselves (`box_iou`).

    T_a: (..., 4, 4) poses of the boxes a, from box to camera coordinates.
    size_a_m: (..., 3) edge lengths of the boxes a in metres.
    T_b: (..., 4, 4) poses of the boxes b.
    size_b_m: (..., 3) edge lengths of the boxes b in metres.
    """
    a, b = compute_box_corners(T_a.double(), size_a_m.double()), compute_box_corners(T_b.double(), size_b_m.double())
    (a_low, a_high), (b_low, b_high) = a.aminmax(dim=-2), b.aminmax(dim=-2)
    shared = (torch.minimum(a_high, b_high) - torch.maximum(a_low, b_low)).clamp(min=0).prod(-1)
    joint = (a_high - a_low).prod(-1) + (b_high - b_low).prod(-1) - shared
    return shared / joint.where(joint > 0, 1.0)


def symmetric_box_iou(T_a: Tensor, size_a_m: Tensor, T_b: Tensor, size_b_m: Tensor, symmetry: Symmetry) -> Tensor:
    """Return the exact IoU of oriented boxes a and b, (...), the largest over all equivalent rotations of b's object.

    T_a: (..., 4, 4) poses of the boxes a, from box to camera coordinates.
    size_a_m: (..., 3) edge lengths of the boxes a in metres.
    T_b: (..., 4, 4) poses of the boxes b.
    size_b_m: (..., 3) edge lengths of the boxes b in metres.
    symmetry: symmetry of the objects in the boxes b: the rotations that leave them unchanged.
    """
    R = se3.matrix_from_quaternion_wxyz(symmetry.turns.double())
    turned_b = se3.compose(T_b.double()[..., None, :, :], se3.from_rotation_translation(R, torch.zeros_like(R[..., 0])))
    T_a = T_a.double()[..., None, :, :]
    T_a = _remove_twist(T_a, turned_b).where(symmetry.revolution[..., None, None, None], T_a)
    return box_iou(T_a, size_a_m[..., None, :], turned_b, size_b_m[..., None, :]).amax(-1)


def max_hull_iou_over_turns(T_a: Tensor, size_a_m: Tensor, T_b: Tensor, size_b_m: Tensor, revolution: Tensor) -> Tensor:
    """Return the `box_hull_iou` of boxes a and b, (...), the largest over turns of a for bodies of revolution.

    The published NOCS evaluation does so. The turns are about the y axis of box a and evenly spaced.

    T_a: (..., 4, 4) poses of the boxes a, from box to camera coordinates.
    size_a_m: (..., 3) edge lengths of the boxes a in metres.
    T_b: (..., 4, 4) poses of the boxes b.
    size_b_m: (..., 3) edge lengths of the boxes b in metres.
    revolution: (...) bool, true if the object is a body of revolution. Only boxes of such objects are turned.
    """
    turn = _rotation_about_y(2 * math.pi / ROTATIONS * torch.arange(ROTATIONS, dtype=torch.float64, device=T_a.device))
    given = (T_a.double(), size_a_m.double(), T_b.double(), size_b_m.double())
    shape = (T_a[..., 0, 0] + size_a_m[..., 0] + T_b[..., 0, 0] + size_b_m[..., 0] + revolution).shape
    T_a, size_a, T_b, size_b = (x.expand(*shape, *x.shape[-n:]) for x, n in zip(given, (2, 1, 2, 1), strict=True))
    revolution = revolution.expand(shape)
    best = box_hull_iou(T_a, size_a, T_b, size_b)
    turned = se3.compose(T_a[revolution][:, None], turn)
    of_turns = box_hull_iou(turned, size_a[revolution][:, None], T_b[revolution][:, None], size_b[revolution][:, None])
    return best.masked_scatter(revolution, of_turns.amax(1))


def _remove_twist(T_a: Tensor, T_b: Tensor) -> Tensor:
    R = T_b[..., :3, :3].transpose(-1, -2) @ T_a[..., :3, :3]
    sign = torch.where(R[..., 1, 1] < 0, -1.0, 1.0)
    twist = torch.atan2(sign * R[..., 0, 2] - R[..., 2, 0], R[..., 0, 0] + sign * R[..., 2, 2])
    return se3.compose(T_a, _rotation_about_y(-sign * twist))


def _rotation_about_y(angle: Tensor) -> Tensor:
    turn = torch.eye(4, dtype=angle.dtype, device=angle.device).repeat(*angle.shape, 1, 1)
    turn[..., 0, 0], turn[..., 0, 2] = angle.cos(), angle.sin()
    turn[..., 2, 0], turn[..., 2, 2] = -angle.sin(), angle.cos()
    return turn


def intersection_volume(T_a: Tensor, size_a_m: Tensor, T_b: Tensor, size_b_m: Tensor) -> Tensor:
    """Return the volume that oriented boxes a and b share, (...) in cubic metres, exact up to rounding.

    It is exactly 0 if a plane separates the boxes. The volume follows from the divergence theorem: with half edge
    lengths h of b, the vector field (clamp(x, -h_x, h_x), 0, 0) in b's coordinates has the divergence 1 inside b. Its
    flux out of a is a sum over the faces of a, clipped to |y| < h_y and |z| < h_z.

    T_a: (..., 4, 4) poses of the boxes a, from box to camera coordinates.
    size_a_m: (..., 3) edge lengths of the boxes a in metres.
    T_b: (..., 4, 4) poses of the boxes b.
    size_b_m: (..., 3) edge lengths of the boxes b in metres.
    """
    T_a, size_a, T_b, size_b = (x.double() for x in (T_a, size_a_m, T_b, size_b_m))
    T_b_a = se3.compose(se3.invert_pose(T_b), T_a)
    shape = (T_b_a[..., 0, 0] + size_a[..., 0] + size_b[..., 0]).shape
    T_b_a = T_b_a.expand(*shape, 4, 4).reshape(-1, 4, 4)
    size_a, size_b = size_a.expand(*shape, 3).reshape(-1, 3), size_b.expand(*shape, 3).reshape(-1, 3)
    volume = torch.zeros(len(T_b_a), dtype=torch.float64, device=T_b_a.device)
    meet = ~are_separated(T_b_a, size_a, size_b)
    if bool(meet.any()):
        volume[meet] = _compute_flux(compute_box_corners(T_b_a[meet], size_a[meet]), size_b[meet] / 2)
    return torch.minimum(volume.clamp(min=0), torch.minimum(size_a.prod(-1), size_b.prod(-1))).reshape(shape)


def are_separated(T_b_a: Tensor, size_a: Tensor, size_b: Tensor) -> Tensor:
    """Return whether a plane separates boxes a and b, (...) bool, by the separating axis test in 15 directions.

    T_b_a: (..., 4, 4) motions, from the coordinates of box a to the coordinates of box b.
    size_a: (..., 3) edge lengths of the boxes a.
    size_b: (..., 3) edge lengths of the boxes b, in the same unit.

    Source: Gottschalk et al., SIGGRAPH 1996.
    """
    R, t = T_b_a[..., :3, :3], T_b_a[..., :3, 3]
    axes_b = torch.eye(3, dtype=R.dtype, device=R.device).expand_as(R)
    axes_a = R.transpose(-1, -2)
    crossed = torch.linalg.cross(axes_a[..., :, None, :], axes_b[..., None, :, :]).flatten(-3, -2)
    directions = torch.cat((axes_a, axes_b, crossed), -2)  # (..., 15, 3); 0 of parallel axes separates nothing
    reach_a = ((directions[..., None, :] * axes_a[..., None, :, :]).sum(-1).abs() * size_a[..., None, :]).sum(-1) / 2
    reach_b = (directions.abs() * size_b[..., None, :]).sum(-1) / 2
    apart = (directions * t[..., None, :]).sum(-1).abs() - reach_a - reach_b
    return (apart > 1e-12 * (reach_a + reach_b)).any(-1)


def _compute_flux(corners_a: Tensor, half: Tensor) -> Tensor:
    """Return the flux (N,) of (clamp(x), 0, 0) through the faces of boxes (N, 8, 3) within |y|, |z| < half (N, 3)."""
    polygons = corners_a[:, torch.tensor(FACES, device=corners_a.device)].flatten(0, 1)  # (6 N, 4, 3)
    half = half.repeat_interleave(6, 0)
    for axis in (1, 2):
        polygons = _clip_polygons(_clip_polygons(polygons, axis, half[:, axis], 1.0), axis, half[:, axis], -1.0)
    high = half[:, 0]
    beyond, below = _clip_polygons(polygons, 0, -high, -1.0), _clip_polygons(polygons, 0, high, 1.0)
    before, within = _clip_polygons(below, 0, -high, 1.0), _clip_polygons(below, 0, high, -1.0)
    flux = high * (_integrate_polygons(beyond)[0] - _integrate_polygons(before)[0]) + _integrate_polygons(within)[1]
    return flux.view(-1, 6).sum(1)


def _clip_polygons(polygons: Tensor, axis: int, limit: Tensor, sign: float) -> Tensor:
    """Clip convex polygons (N, V, 3) to sign * coordinate <= limit (N,): (N, V + 1, 3), by Sutherland and Hodgman."""
    following = polygons.roll(-1, 1)
    d, d_following = limit[:, None] - sign * polygons[..., axis], limit[:, None] - sign * following[..., axis]
    inside = d >= 0
    cut = inside != (d_following >= 0)
    share = d / (d - d_following).where(cut, 1.0)
    crossing = polygons + share[..., None] * (following - polygons)
    points = torch.stack((polygons, crossing), 2).flatten(1, 2)  # each corner, then where its edge is cut
    kept = torch.stack((inside, cut), 2).flatten(1, 2)
    count = kept.sum(1, keepdim=True)
    order = kept.byte().argsort(dim=1, descending=True, stable=True)[:, : polygons.shape[1] + 1]
    order = order.where(torch.arange(order.shape[1], device=order.device) < count, order[:, :1])
    return points.gather(1, order[..., None].expand(-1, -1, 3))


def _integrate_polygons(polygons: Tensor) -> tuple[Tensor, Tensor]:
    """Return the signed area (N,) of polygons (N, V, 3) seen along -x, and the integral (N,) of x over it."""
    first, second, third = polygons[:, :1], polygons[:, 1:-1], polygons[:, 2:]
    a, b = second - first, third - first
    area = (a[..., 1] * b[..., 2] - a[..., 2] * b[..., 1]) / 2
    mean_x = (first[..., 0] + second[..., 0] + third[..., 0]) / 3
    return area.sum(1), (area * mean_x).sum(1)
