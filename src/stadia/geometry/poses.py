"""Rotations SO(3) and rigid motions SE(3). `T_b_a` transforms points of frame a to frame b: p_b = T_b_a p_a.

All functions take arrays of NumPy or tensors of torch and return the same kind. They are batched over leading axes,
and have exact gradients at the identity. Quaternions are in the order w, x, y, z; angles are in radians.
"""

import math
from collections.abc import Sequence
from typing import Any

from array_api_compat import array_namespace

from stadia.core.errors import GeometryError
from stadia.core.types import Array

_MIN_LENGTH = 1e-12  # a vector is divided by at least this length, as in torch's `normalize`
_SMALL_SQUARED = 0.25  # squared angle below which the power series is used, with an error below 1e-15

# Coefficients of the series in the squared angle s.
_SIN_BY_ANGLE = tuple((-1) ** n / math.factorial(2 * n + 1) for n in range(7))  # sin(a) / a
_ONE_MINUS_COS = tuple((-1) ** n / math.factorial(2 * n + 2) for n in range(7))  # (1 - cos a) / a^2
_ANGLE_MINUS_SIN = tuple((-1) ** n / math.factorial(2 * n + 3) for n in range(7))  # (a - sin a) / a^3
# |B_2n| / (2n)!
_INVERSE_V = (1 / 12, 1 / 720, 1 / 30240, 1 / 1209600, 1 / 47900160, 691 / 1307674368000, 1 / 74724249600)


def _series(squared: Array, coefficients: Sequence[float]) -> Array:
    value: Any = coefficients[-1] * squared + coefficients[-2]
    for coefficient in reversed(coefficients[:-2]):
        value = value * squared + coefficient
    return value


def _split(squared: Array) -> tuple[Array, Array]:
    """Return whether the series is used, and an angle that is safe to divide by."""
    xp = array_namespace(squared)
    small = squared < _SMALL_SQUARED
    return small, xp.sqrt(xp.where(small, xp.ones_like(squared), squared))


def normalize(vectors: Array, axis: int = -1) -> Array:
    """Return vectors divided by their length; a vector of length 0 stays 0.

    vectors: array of any shape.
    axis: the axis of the vectors' coordinates.

    Examples:
        >>> normalize(np.array([3.0, 4.0])).tolist()
        [0.6, 0.8]
    """
    length = array_namespace(vectors).linalg.vector_norm(vectors, axis=axis, keepdims=True)
    return vectors / length.clip(min=_MIN_LENGTH)


def at_least_float32(values: Array) -> Array:
    """Convert half-precision values and integers of any shape to float32; leave float32 and float64 unchanged.

    Examples:
        >>> at_least_float32(np.ones(1, dtype=np.float16)).dtype
        dtype('float32')
    """
    xp = array_namespace(values)
    return values if values.dtype in (xp.float32, xp.float64) else xp.astype(values, xp.float32)


def matmul(a: Array, b: Array) -> Array:
    """Multiply small matrices (..., n, k) and (..., k, m) elementwise, so that neither autocast nor TF32 applies.

    Examples:
        >>> matmul(np.eye(2), np.array([[1.0, 2.0], [3.0, 4.0]])).tolist()
        [[1.0, 2.0], [3.0, 4.0]]
    """
    return (a[..., :, :, None] * b[..., None, :, :]).sum(-2)


def hat(w: Array) -> Array:
    """Return the skew-symmetric matrices [w]x (..., 3, 3) of vectors w (..., 3), with [w]x v = w x v.

    Examples:
        >>> hat(np.array([1.0, 2.0, 3.0])).tolist()
        [[0.0, -3.0, 2.0], [3.0, 0.0, -1.0], [-2.0, 1.0, 0.0]]
    """
    xp = array_namespace(w)
    x, y, z = w[..., 0], w[..., 1], w[..., 2]
    zero = xp.zeros_like(x)
    return xp.stack((zero, -z, y, z, zero, -x, -y, x, zero), axis=-1).reshape(*w.shape[:-1], 3, 3)


# -- exponentials


def so3_exp(w: Array) -> Array:
    """Convert axis-angle vectors (..., 3) in radians to rotation matrices (..., 3, 3) (Rodrigues).

    Examples:
        >>> R = so3_exp(np.array([0.0, 0.0, np.pi / 2]))  # a quarter turn about z
        >>> round((R @ np.array([1.0, 0.0, 0.0]))[1].item(), 4)  # x becomes y
        1.0
    """
    xp, w = array_namespace(w), at_least_float32(w)
    squared = (w * w).sum(-1)
    small, angle = _split(squared)
    a = xp.where(small, _series(squared, _SIN_BY_ANGLE), xp.sin(angle) / angle)
    b = xp.where(small, _series(squared, _ONE_MINUS_COS), 2 * (xp.sin(angle / 2) / angle) ** 2)
    W = hat(w)
    return xp.eye(3, dtype=w.dtype, device=w.device) + a[..., None, None] * W + b[..., None, None] * matmul(W, W)


def so3_log(R: Array) -> Array:
    """Convert rotation matrices (..., 3, 3) to axis-angle vectors (..., 3) in radians, with angles in [0, pi].

    The result is accurate near 0 and near pi.

    Examples:
        >>> so3_log(so3_exp(np.array([0.1, 0.2, 0.3]))).round(6).tolist()
        [0.1, 0.2, 0.3]
    """
    xp = array_namespace(R)
    quaternion = quaternion_wxyz_from_matrix(R)
    cosine, axis = quaternion[..., :1], quaternion[..., 1:]  # half angle's; cosine >= 0
    squared = (axis * axis).sum(-1)[..., None]
    small, one = squared < 1e-4, xp.ones_like(squared)
    sine = xp.sqrt(xp.where(small, one, squared))
    tangent_squared = squared / xp.where(small, cosine * cosine, one)
    near_zero = _series(-tangent_squared, (1, 1 / 3, 1 / 5, 1 / 7)) / xp.where(small, cosine, one)
    return 2 * axis * xp.where(small, near_zero, xp.atan2(sine, cosine) / sine)


def se3_exp(twist: Array) -> Array:
    """Convert twists (..., 6) to rigid motions (..., 4, 4) by the exponential map of SE(3).

    The motion has the rotation R = exp([w]x) and the translation t = V v, with V the left Jacobian of SO(3) at w.

    twist: (..., 6), v (translational part) and then w (axis-angle vector in radians).

    Examples:
        >>> se3_exp(np.array([1.0, 2.0, 3.0, 0.0, 0.0, 0.0]))[:3, 3].tolist()  # without rotation t = v
        [1.0, 2.0, 3.0]
    """
    xp, twist = array_namespace(twist), at_least_float32(twist)
    v, w = twist[..., :3], twist[..., 3:]
    squared = (w * w).sum(-1)
    small, angle = _split(squared)
    b = xp.where(small, _series(squared, _ONE_MINUS_COS), 2 * (xp.sin(angle / 2) / angle) ** 2)
    c = xp.where(small, _series(squared, _ANGLE_MINUS_SIN), (angle - xp.sin(angle)) / angle**3)
    w_v = xp.linalg.cross(w, v)
    t = v + b[..., None] * w_v + c[..., None] * xp.linalg.cross(w, w_v)
    return from_rotation_translation(so3_exp(w), t)


def se3_log(T: Array) -> Array:
    """Convert rigid motions (..., 4, 4) to twists (..., 6), v and then w. This inverts `se3_exp` for angles up to pi.

    In the twist, v is the translational part and w the axis-angle vector in radians.

    Examples:
        >>> twist = np.array([1.0, 2.0, 3.0, 0.1, 0.2, 0.3])
        >>> se3_log(se3_exp(twist)).round(6).tolist()
        [1.0, 2.0, 3.0, 0.1, 0.2, 0.3]
    """
    xp = array_namespace(T)
    w, t = so3_log(T[..., :3, :3]), at_least_float32(T[..., :3, 3])
    squared = (w * w).sum(-1)
    small, angle = _split(squared)
    exact = (1 - angle / 2 * xp.cos(angle / 2) / xp.sin(angle / 2)) / angle**2
    d = xp.where(small, _series(squared, _INVERSE_V), exact)
    w_t = xp.linalg.cross(w, t)
    return xp.concat((t - 0.5 * w_t + d[..., None] * xp.linalg.cross(w, w_t), w), axis=-1)


# -- motions


def from_rotation_translation(R: Array, t: Array) -> Array:
    """Return motions (..., 4, 4) from rotations R (..., 3, 3) and translations t (..., 3).

    Examples:
        >>> from_rotation_translation(np.eye(3), np.array([0.0, 0.0, 5.0])).tolist()
        [[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 5.0], [0.0, 0.0, 0.0, 1.0]]
    """
    xp = array_namespace(R)
    top = xp.concat((R, t[..., None]), axis=-1)
    bottom = xp.zeros_like(top[..., :1, :])
    bottom[..., 3] = 1
    return xp.concat((top, bottom), axis=-2)


def invert_pose(T: Array) -> Array:
    """Return the inverse motions T_a_b (..., 4, 4) of T_b_a (..., 4, 4): rotation R^T and translation -R^T t.

    Examples:
        >>> T_b_a = from_rotation_translation(np.eye(3), np.array([1.0, 2.0, 3.0]))
        >>> invert_pose(T_b_a)[:3, 3].tolist()
        [-1.0, -2.0, -3.0]
    """
    R_inverse = T[..., :3, :3].mT
    return from_rotation_translation(R_inverse, -matmul(R_inverse, T[..., :3, 3:])[..., 0])


def find_centers(T_camera_world: Array) -> Array:
    """Return the positions (..., 3) in the world of cameras with the world-to-camera poses (..., 4, 4).

    Examples:
        >>> find_centers(from_rotation_translation(np.eye(3), np.array([1.0, 2.0, 3.0]))).tolist()
        [-1.0, -2.0, -3.0]
    """
    return invert_pose(T_camera_world)[..., :3, 3]


def compose(T_c_b: Array, T_b_a: Array) -> Array:
    """Compose motions: return T_c_a = T_c_b T_b_a, from frame a over frame b to frame c, (..., 4, 4) each.

    The inner frame names of the two factors must be equal: here both are b.

    Examples:
        >>> step = from_rotation_translation(np.eye(3), np.array([0.0, 0.0, -1.0]))
        >>> compose(step, step)[:3, 3].tolist()  # two steps of 1 m ahead
        [0.0, 0.0, -2.0]
    """
    return matmul(T_c_b, T_b_a)


def transform(T: Array, points: Array) -> Array:
    """Transform points (..., N, 3) from coordinate frame a to coordinate frame b.

    T: (..., 4, 4) motions T_b_a from frame a to frame b.
    points: (..., N, 3) in frame a.

    Examples:
        >>> T_b_a = from_rotation_translation(np.eye(3), np.array([0.0, 0.0, -1.0]))
        >>> transform(T_b_a, np.array([[0.0, 0.0, 10.0]])).tolist()  # 10 m ahead becomes 9 m ahead
        [[0.0, 0.0, 9.0]]
    """
    x, y, z = points[..., 0:1], points[..., 1:2], points[..., 2:3]
    column = [T[..., None, :3, i] for i in range(4)]  # (..., 1, 3)
    return x * column[0] + y * column[1] + z * column[2] + column[3]


def mirror_x(T: Array) -> Array:
    """Return the motions (..., 4, 4) between two cameras after both images are mirrored left to right.

    The result is S T S with S = diag(-1, 1, 1, 1). Mirror both cameras with `cameras.mirror_camera`.

    T: (..., 4, 4) motions between the cameras of the images that are not mirrored.

    Examples:
        >>> T_right_left = from_rotation_translation(np.eye(3), np.array([-0.5, 0.0, 0.0]))
        >>> mirror_x(T_right_left)[:3, 3].tolist()
        [0.5, 0.0, 0.0]
    """
    sign = array_namespace(T).ones(4, dtype=T.dtype, device=T.device)
    sign[0] = -1
    return sign[:, None] * T * sign


# -- quaternions


def quaternion_wxyz_from_matrix(R: Array) -> Array:
    """Convert rotation matrices (..., 3, 3) to unit quaternions (..., 4) with w >= 0 (Shepperd 1978).

    Examples:
        >>> quaternion_wxyz_from_matrix(np.eye(3)).tolist()
        [1.0, 0.0, 0.0, 0.0]
    """
    xp, R = array_namespace(R), at_least_float32(R)
    (a, b, c), (d, e, f), (g, h, i) = ([R[..., row, column] for column in range(3)] for row in range(3))
    rows = (
        (1 + a + e + i, h - f, c - g, d - b),
        (h - f, 1 + a - e - i, b + d, c + g),
        (c - g, b + d, 1 - a + e - i, f + h),
        (d - b, c + g, f + h, 1 - a - e + i),
    )
    outer = xp.stack([xp.stack(row, axis=-1) for row in rows], axis=-2)
    longest = xp.linalg.diagonal(outer).argmax(-1)
    row = xp.take_along_axis(outer, longest[..., None, None], axis=-2)[..., 0, :]
    return normalize(xp.where(row[..., :1] < 0, -row, row))


def matrix_from_quaternion_wxyz(quaternion: Array) -> Array:
    """Convert quaternions (..., 4) of any nonzero length to rotation matrices (..., 3, 3).

    Examples:
        >>> matrix_from_quaternion_wxyz(np.array([2.0, 0.0, 0.0, 0.0])).tolist()  # of any length
        [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    xp, unit = array_namespace(quaternion), normalize(at_least_float32(quaternion))
    w, x, y, z = unit[..., 0], unit[..., 1], unit[..., 2], unit[..., 3]
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
    return xp.stack([xp.stack(row, axis=-1) for row in rows], axis=-2)


def rotation_angle_deg(R: Array) -> Array:
    """Return the angles (...) of rotations (..., 3, 3) in degrees, from 0 to 180; they are accurate near 0.

    Examples:
        >>> round(rotation_angle_deg(so3_exp(np.array([0.0, np.pi / 2, 0.0]))).item(), 3)
        90.0
    """
    xp, quaternion = array_namespace(R), quaternion_wxyz_from_matrix(R)
    return 360 / math.pi * xp.atan2(xp.linalg.vector_norm(quaternion[..., 1:], axis=-1), quaternion[..., 0])


# -- Euler angles


def matrix_from_euler(angles: Array, order: str) -> Array:
    """Convert Euler angles (..., 3) in radians to rotation matrices (..., 3, 3), with SciPy's names of axis orders.

    angles: (..., 3) angles, in the order of the letters of `order`.
    order: three of the letters x, y, z. A lower-case order rotates about fixed axes: "xyz" is Rz Ry Rx. An upper-case
        order rotates about moving axes: "XYZ" is Rx Ry Rz.

    Raises GeometryError for another order, or if neighboring letters are equal.

    Examples:
        >>> R = matrix_from_euler(np.array([0.0, 0.0, np.pi / 2]), "xyz")
        >>> round((R @ np.array([1.0, 0.0, 0.0]))[1].item(), 4)  # a quarter turn about z: x becomes y
        1.0
    """
    axes = ["xyz".find(letter) for letter in order.lower()]
    is_repeated = len(order) != 3 or axes[0] == axes[1] or axes[1] == axes[2]
    if is_repeated or -1 in axes or order not in (order.lower(), order.upper()):
        expected, fix = "three axes such as 'xyz' or 'ZYX'", "lower case: fixed axes; upper: moving"
        raise GeometryError("Euler order", found=f"'{order}'", expected=expected, fix=fix)
    unit = array_namespace(angles).eye(3, dtype=angles.dtype, device=angles.device)
    first, second, third = (so3_exp(angles[..., i, None] * unit[axis]) for i, axis in enumerate(axes))
    return matmul(first, matmul(second, third)) if order.isupper() else matmul(third, matmul(second, first))


# -- quaternion products and averages: any length above 0 is a rotation, and q and -q are equal


def quaternion_conjugate(quaternion: Array) -> Array:
    """Return the conjugate quaternions (..., 4), which describe the inverse rotation and have the same length.

    quaternion: (..., 4) w, x, y, z.

    Examples:
        >>> quaternion_conjugate(np.array([0.5, 0.5, 0.5, 0.5])).tolist()
        [0.5, -0.5, -0.5, -0.5]
    """
    return array_namespace(quaternion).concat((quaternion[..., :1], -quaternion[..., 1:]), axis=-1)


def quaternion_multiply(a: Array, b: Array) -> Array:
    """Return the products of quaternions a and b, (..., 4) each. The product rotates by b first, then by a.

    Examples:
        >>> quarter = np.array([0.5**0.5, 0.0, 0.0, 0.5**0.5])  # about z
        >>> quaternion_multiply(quarter, quarter).round(3).tolist()  # a half turn
        [0.0, 0.0, 0.0, 1.0]
    """
    a_w, a_x, a_y, a_z = (a[..., i] for i in range(4))
    b_w, b_x, b_y, b_z = (b[..., i] for i in range(4))
    product = (
        a_w * b_w - a_x * b_x - a_y * b_y - a_z * b_z,
        a_w * b_x + a_x * b_w + a_y * b_z - a_z * b_y,
        a_w * b_y - a_x * b_z + a_y * b_w + a_z * b_x,
        a_w * b_z + a_x * b_y - a_y * b_x + a_z * b_w,
    )
    return array_namespace(a, b).stack(product, axis=-1)


def quaternion_from_ray(ray: Array) -> Array:
    """Return the shortest rotation, as quaternions (..., 4), that turns the optical axis (0, 0, 1) into a viewing ray.

    The orientation of an object relative to the camera is q_camera = q_of_ray * q_relative_to_ray, with q_of_ray this
    rotation. The object's appearance depends on the second factor only (Kundu et al., 3D-RCNN, CVPR 2018, section 3.3).

    ray: (..., 3) directions of any length, with z > 0.

    Examples:
        >>> abs(quaternion_from_ray(np.array([0.0, 0.0, 3.0]))).tolist()  # straight ahead: no rotation
        [1.0, 0.0, 0.0, 0.0]
    """
    xp, unit = array_namespace(ray), normalize(ray)
    x, y, z = unit[..., 0], unit[..., 1], unit[..., 2]
    return normalize(xp.stack((1 + z, -y, x, xp.zeros_like(z)), axis=-1))
