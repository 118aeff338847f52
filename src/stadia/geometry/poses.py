"""Rotations SO(3) and rigid motions SE(3). `T_b_a` transforms points of frame a to frame b: p_b = T_b_a p_a.

All functions are batched over leading axes and have exact gradients at the identity. Quaternions are in the order w, x,
y, z; angles are in radians.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from stadia.core.errors import GeometryError
from stadia.geometry.segments import segment_sums

_SMALL_SQUARED = 0.25  # squared angle below which the power series is used, with an error below 1e-15

# Coefficients of the series in the squared angle s.
_SIN_BY_ANGLE = tuple((-1) ** n / math.factorial(2 * n + 1) for n in range(7))  # sin(a) / a
_ONE_MINUS_COS = tuple((-1) ** n / math.factorial(2 * n + 2) for n in range(7))  # (1 - cos a) / a^2
_ANGLE_MINUS_SIN = tuple((-1) ** n / math.factorial(2 * n + 3) for n in range(7))  # (a - sin a) / a^3
# |B_2n| / (2n)!
_INVERSE_V = (1 / 12, 1 / 720, 1 / 30240, 1 / 1209600, 1 / 47900160, 691 / 1307674368000, 1 / 74724249600)


def _series(squared: Tensor, coefficients: Sequence[float]) -> Tensor:
    value = torch.full_like(squared, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        value = value * squared + coefficient
    return value


def _split(squared: Tensor) -> tuple[Tensor, Tensor]:
    """Return whether the series is used, and an angle that is safe to divide by."""
    small = squared < _SMALL_SQUARED
    return small, torch.where(small, torch.ones_like(squared), squared).sqrt()


def at_least_float32(values: Tensor) -> Tensor:
    """Convert half-precision values of any shape to float32; leave other values unchanged.

    Examples:
        >>> at_least_float32(torch.ones(1, dtype=torch.bfloat16)).dtype
        torch.float32
    """
    return values.to(torch.promote_types(values.dtype, torch.float32))


def matmul(a: Tensor, b: Tensor) -> Tensor:
    """Multiply small matrices (..., n, k) and (..., k, m) elementwise, so that neither autocast nor TF32 applies.

    Examples:
        >>> matmul(torch.eye(2), torch.tensor([[1.0, 2.0], [3.0, 4.0]])).tolist()
        [[1.0, 2.0], [3.0, 4.0]]
    """
    return (a[..., :, :, None] * b[..., None, :, :]).sum(-2)


def hat(w: Tensor) -> Tensor:
    """Return the skew-symmetric matrices [w]x (..., 3, 3) of vectors w (..., 3), with [w]x v = w x v.

    Examples:
        >>> hat(torch.tensor([1.0, 2.0, 3.0])).tolist()
        [[0.0, -3.0, 2.0], [3.0, 0.0, -1.0], [-2.0, 1.0, 0.0]]
    """
    x, y, z = w.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.stack((zero, -z, y, z, zero, -x, -y, x, zero), -1).reshape(*w.shape[:-1], 3, 3)


# -- exponentials


def so3_exp(w: Tensor) -> Tensor:
    """Convert axis-angle vectors (..., 3) in radians to rotation matrices (..., 3, 3) (Rodrigues).

    Examples:
        >>> R = so3_exp(torch.tensor([0.0, 0.0, torch.pi / 2]))  # a quarter turn about z
        >>> round((R @ torch.tensor([1.0, 0.0, 0.0]))[1].item(), 4)  # x becomes y
        1.0
    """
    w = at_least_float32(w)
    squared = (w * w).sum(-1)
    small, angle = _split(squared)
    a = torch.where(small, _series(squared, _SIN_BY_ANGLE), torch.sin(angle) / angle)
    b = torch.where(small, _series(squared, _ONE_MINUS_COS), 2 * (torch.sin(angle / 2) / angle) ** 2)
    W = hat(w)
    return torch.eye(3, dtype=w.dtype, device=w.device) + a[..., None, None] * W + b[..., None, None] * matmul(W, W)


def so3_log(R: Tensor) -> Tensor:
    """Convert rotation matrices (..., 3, 3) to axis-angle vectors (..., 3) in radians, with angles in [0, pi].

    The result is accurate near 0 and near pi.

    Examples:
        >>> so3_log(so3_exp(torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64))).numpy().round(6).tolist()
        [0.1, 0.2, 0.3]
    """
    quaternion = quaternion_wxyz_from_matrix(R)
    cosine, axis = quaternion[..., :1], quaternion[..., 1:]  # half angle's; cosine >= 0
    squared = (axis * axis).sum(-1, keepdim=True)
    small = squared < 1e-4
    sine = torch.where(small, torch.ones_like(squared), squared).sqrt()
    tangent_squared = squared / torch.where(small, cosine * cosine, torch.ones_like(cosine))
    near_zero = _series(-tangent_squared, (1, 1 / 3, 1 / 5, 1 / 7)) / torch.where(small, cosine, 1.0)
    return 2 * axis * torch.where(small, near_zero, torch.atan2(sine, cosine) / sine)


def se3_exp(twist: Tensor) -> Tensor:
    """Convert twists (..., 6) to rigid motions (..., 4, 4) by the exponential map of SE(3).

    The motion has the rotation R = exp([w]x) and the translation t = V v, with V the left Jacobian of SO(3) at w.

    twist: (..., 6), v (translational part) and then w (axis-angle vector in radians).

    Examples:
        >>> se3_exp(torch.tensor([1.0, 2.0, 3.0, 0.0, 0.0, 0.0]))[:3, 3].tolist()  # without rotation t = v
        [1.0, 2.0, 3.0]
    """
    twist = at_least_float32(twist)
    v, w = twist[..., :3], twist[..., 3:]
    squared = (w * w).sum(-1)
    small, angle = _split(squared)
    b = torch.where(small, _series(squared, _ONE_MINUS_COS), 2 * (torch.sin(angle / 2) / angle) ** 2)
    c = torch.where(small, _series(squared, _ANGLE_MINUS_SIN), (angle - torch.sin(angle)) / angle**3)
    w_v = torch.linalg.cross(w, v)
    t = v + b[..., None] * w_v + c[..., None] * torch.linalg.cross(w, w_v)
    return from_rotation_translation(so3_exp(w), t)


def se3_log(T: Tensor) -> Tensor:
    """Convert rigid motions (..., 4, 4) to twists (..., 6), v and then w. This inverts `se3_exp` for angles up to pi.

    In the twist, v is the translational part and w the axis-angle vector in radians.

    Examples:
        >>> twist = torch.tensor([1.0, 2.0, 3.0, 0.1, 0.2, 0.3], dtype=torch.float64)
        >>> se3_log(se3_exp(twist)).numpy().round(6).tolist()
        [1.0, 2.0, 3.0, 0.1, 0.2, 0.3]
    """
    w, t = so3_log(T[..., :3, :3]), at_least_float32(T[..., :3, 3])
    squared = (w * w).sum(-1)
    small, angle = _split(squared)
    exact = (1 - angle / 2 * torch.cos(angle / 2) / torch.sin(angle / 2)) / angle**2
    d = torch.where(small, _series(squared, _INVERSE_V), exact)
    w_t = torch.linalg.cross(w, t)
    return torch.cat((t - 0.5 * w_t + d[..., None] * torch.linalg.cross(w, w_t), w), -1)


# -- motions


def from_rotation_translation(R: Tensor, t: Tensor) -> Tensor:
    """Return motions (..., 4, 4) from rotations R (..., 3, 3) and translations t (..., 3).

    Examples:
        >>> from_rotation_translation(torch.eye(3), torch.tensor([0.0, 0.0, 5.0])).tolist()
        [[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 5.0], [0.0, 0.0, 0.0, 1.0]]
    """
    top = torch.cat((R, t[..., None]), -1)
    bottom = torch.zeros_like(top[..., :1, :])
    bottom[..., 3] = 1
    return torch.cat((top, bottom), -2)


def inverse(T: Tensor) -> Tensor:
    """Return the inverse motions T_a_b (..., 4, 4) of T_b_a (..., 4, 4): rotation R^T and translation -R^T t.

    Examples:
        >>> T_b_a = from_rotation_translation(torch.eye(3), torch.tensor([1.0, 2.0, 3.0]))
        >>> inverse(T_b_a)[:3, 3].tolist()
        [-1.0, -2.0, -3.0]
    """
    R_inverse = T[..., :3, :3].transpose(-1, -2)
    return from_rotation_translation(R_inverse, -matmul(R_inverse, T[..., :3, 3:])[..., 0])


def compose(T_c_b: Tensor, T_b_a: Tensor) -> Tensor:
    """Compose motions: return T_c_a = T_c_b T_b_a, from frame a over frame b to frame c, (..., 4, 4) each.

    The inner frame names of the two factors must be equal: here both are b.

    Examples:
        >>> step = from_rotation_translation(torch.eye(3), torch.tensor([0.0, 0.0, -1.0]))
        >>> compose(step, step)[:3, 3].tolist()  # two steps of 1 m ahead
        [0.0, 0.0, -2.0]
    """
    return matmul(T_c_b, T_b_a)


def transform(T: Tensor, points: Tensor) -> Tensor:
    """Transform points (..., N, 3) from coordinate frame a to coordinate frame b.

    T: (..., 4, 4) motions T_b_a from frame a to frame b.
    points: (..., N, 3) in frame a.

    Examples:
        >>> T_b_a = from_rotation_translation(torch.eye(3), torch.tensor([0.0, 0.0, -1.0]))
        >>> transform(T_b_a, torch.tensor([[0.0, 0.0, 10.0]])).tolist()  # 10 m ahead becomes 9 m ahead
        [[0.0, 0.0, 9.0]]
    """
    x, y, z = points[..., 0:1], points[..., 1:2], points[..., 2:3]
    column = [T[..., None, :3, i] for i in range(4)]  # (..., 1, 3)
    return x * column[0] + y * column[1] + z * column[2] + column[3]


def mirror_x(T: Tensor) -> Tensor:
    """Return the motions (..., 4, 4) between two cameras after both images are mirrored left to right.

    The result is S T S with S = diag(-1, 1, 1, 1). Mirror both images with `camera.mirror`.

    T: (..., 4, 4) motions between the cameras of the images that are not mirrored.

    Examples:
        >>> T_right_left = from_rotation_translation(torch.eye(3), torch.tensor([-0.5, 0.0, 0.0]))
        >>> mirror_x(T_right_left)[:3, 3].tolist()
        [0.5, 0.0, 0.0]
    """
    sign = T.new_ones(4)
    sign[0] = -1
    return sign[:, None] * T * sign


# -- quaternions


def quaternion_wxyz_from_matrix(R: Tensor) -> Tensor:
    """Convert rotation matrices (..., 3, 3) to unit quaternions (..., 4) with w >= 0 (Shepperd 1978).

    Examples:
        >>> quaternion_wxyz_from_matrix(torch.eye(3)).tolist()
        [1.0, 0.0, 0.0, 0.0]
    """
    R = at_least_float32(R)
    (a, b, c), (d, e, f), (g, h, i) = (row.unbind(-1) for row in R.unbind(-2))
    rows = (
        (1 + a + e + i, h - f, c - g, d - b),
        (h - f, 1 + a - e - i, b + d, c + g),
        (c - g, b + d, 1 - a + e - i, f + h),
        (d - b, c + g, f + h, 1 - a - e + i),
    )
    outer = torch.stack([torch.stack(row, -1) for row in rows], -2)
    longest = outer.diagonal(dim1=-2, dim2=-1).argmax(-1)
    row = torch.take_along_dim(outer, longest[..., None, None], -2)[..., 0, :]
    row = torch.where(row[..., :1] < 0, -row, row)
    return F.normalize(row, dim=-1)


def matrix_from_quaternion_wxyz(quaternion: Tensor) -> Tensor:
    """Convert quaternions (..., 4) of any nonzero length to rotation matrices (..., 3, 3).

    Examples:
        >>> matrix_from_quaternion_wxyz(torch.tensor([2.0, 0.0, 0.0, 0.0])).tolist()  # of any length
        [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    w, x, y, z = F.normalize(at_least_float32(quaternion), dim=-1).unbind(-1)
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


def rotation_angle_deg(R: Tensor) -> Tensor:
    """Return the angles (...) of rotations (..., 3, 3) in degrees, from 0 to 180; they are accurate near 0.

    Examples:
        >>> round(rotation_angle_deg(so3_exp(torch.tensor([0.0, torch.pi / 2, 0.0]))).item(), 3)
        90.0
    """
    quaternion = quaternion_wxyz_from_matrix(R)
    return torch.rad2deg(2 * torch.atan2(quaternion[..., 1:].norm(dim=-1), quaternion[..., 0]))


# -- Euler angles


def matrix_from_euler(angles: Tensor, order: str) -> Tensor:
    """Convert Euler angles (..., 3) in radians to rotation matrices (..., 3, 3), with SciPy's names of axis orders.

    angles: (..., 3) angles, in the order of the letters of `order`.
    order: three of the letters x, y, z. A lower-case order rotates about fixed axes: "xyz" is Rz Ry Rx. An upper-case
        order rotates about moving axes: "XYZ" is Rx Ry Rz.

    Raises GeometryError for another order, or if neighboring letters are equal.

    Examples:
        >>> R = matrix_from_euler(torch.tensor([0.0, 0.0, torch.pi / 2]), "xyz")
        >>> round((R @ torch.tensor([1.0, 0.0, 0.0]))[1].item(), 4)  # a quarter turn about z: x becomes y
        1.0
    """
    axes = ["xyz".find(letter) for letter in order.lower()]
    is_repeated = len(order) != 3 or axes[0] == axes[1] or axes[1] == axes[2]
    if is_repeated or -1 in axes or order not in (order.lower(), order.upper()):
        expected, fix = "three axes such as 'xyz' or 'ZYX'", "lower case: fixed axes; upper: moving"
        raise GeometryError("Euler order", found=f"'{order}'", expected=expected, fix=fix)
    unit = torch.eye(3, dtype=angles.dtype, device=angles.device)
    first, second, third = (so3_exp(angles[..., i, None] * unit[axis]) for i, axis in enumerate(axes))
    return matmul(first, matmul(second, third)) if order.isupper() else matmul(third, matmul(second, first))


# -- quaternion products and averages: any length above 0 is a rotation, and q and -q are equal


def quaternion_conjugate(quaternion: Tensor) -> Tensor:
    """Return the conjugate quaternions (..., 4), which describe the inverse rotation and have the same length.

    quaternion: (..., 4) w, x, y, z.

    Examples:
        >>> quaternion_conjugate(torch.tensor([0.5, 0.5, 0.5, 0.5])).tolist()
        [0.5, -0.5, -0.5, -0.5]
    """
    return quaternion * quaternion.new_tensor([1, -1, -1, -1])


def quaternion_multiply(a: Tensor, b: Tensor) -> Tensor:
    """Return the products of quaternions a and b, (..., 4) each. The product rotates by b first, then by a.

    Examples:
        >>> quarter = torch.tensor([0.5**0.5, 0.0, 0.0, 0.5**0.5])  # about z
        >>> quaternion_multiply(quarter, quarter).round(decimals=3).tolist()  # a half turn
        [0.0, 0.0, 0.0, 1.0]
    """
    a_w, a_x, a_y, a_z = a.unbind(-1)
    b_w, b_x, b_y, b_z = b.unbind(-1)
    product = (
        a_w * b_w - a_x * b_x - a_y * b_y - a_z * b_z,
        a_w * b_x + a_x * b_w + a_y * b_z - a_z * b_y,
        a_w * b_y - a_x * b_z + a_y * b_w + a_z * b_x,
        a_w * b_z + a_x * b_y - a_y * b_x + a_z * b_w,
    )
    return torch.stack(product, -1)


def quaternion_from_ray(ray: Tensor) -> Tensor:
    """Return the shortest rotation, as quaternions (..., 4), that turns the optical axis (0, 0, 1) into a viewing ray.

    The orientation of an object relative to the camera is q_camera = q_of_ray * q_relative_to_ray, with q_of_ray this
    rotation. The object's appearance depends on the second factor only (Kundu et al., 3D-RCNN, CVPR 2018, section 3.3).

    ray: (..., 3) directions of any length, with z > 0.

    Examples:
        >>> quaternion_from_ray(torch.tensor([0.0, 0.0, 3.0])).abs().tolist()  # straight ahead: no rotation
        [1.0, 0.0, 0.0, 0.0]
    """
    x, y, z = F.normalize(ray, dim=-1).unbind(-1)
    return F.normalize(torch.stack((1 + z, -y, x, torch.zeros_like(z)), -1), dim=-1)


def quaternion_mean_by_segment(
    quaternions: Tensor, segment: Tensor, count: int, weights: Tensor | None = None
) -> Tensor:
    """Return the mean rotation of each object over its pixels, as quaternions (count, 4) with w >= 0.

    The mean is the principal eigenvector of sum w q q^T (Markley et al., JGCD 30(4), 2007). It is zero for an object
    without pixels. The square of a quaternion's length acts as a further weight.

    quaternions: (P, 4) w, x, y, z: the rotation at each pixel.
    segment: (P,) object number of each pixel, from 0 to count - 1.
    count: number of objects.
    weights: (P,) weights that are not negative; None weighs all pixels equally.

    Examples:
        >>> pixels = torch.tensor([[1.0, 0, 0, 0], [-1.0, 0, 0, 0], [0, 1.0, 0, 0]])
        >>> quaternion_mean_by_segment(pixels, torch.tensor([0, 0, 1]), 2).abs().tolist()
        [[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]]
    """
    quaternions = at_least_float32(quaternions)
    weighted = quaternions if weights is None else quaternions * weights[:, None].to(quaternions.dtype)
    return _principal(segment_sums(weighted[:, :, None] * quaternions[:, None, :], segment, count))


def _principal(outer: Tensor) -> Tensor:
    """Return the principal eigenvector (..., 4) of (..., 4, 4), w >= 0; zero for the zero matrix.

    torch's gradient of `eigh` is NaN for equal eigenvalues; this one needs only dv = sum_j v_j v_j^T dA v / (l - l_j).
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
