"""Photometric and virtual-stereo residuals of points with their Jacobians, for direct bundle adjustment.

A point is a pixel of its host image together with an inverse depth. The pattern of eight pixels around it shares this
inverse depth (Engel et al., DSO, PAMI 2018, eq. 1 to 4; Yang et al., D3VO, arXiv 2003.01060, eq. 9 to 11). Poses are
updated by a left twist (v, w): T <- exp(twist) T.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from stadia.geometry.cameras import NEAR, inverse_intrinsics
from stadia.geometry.poses import compose, invert_pose, se3_exp

PATTERN = ((0, 0), (0, -2), (-1, -1), (1, -1), (-2, 0), (2, 0), (-1, 1), (0, 2))
"""Offsets (x, y) of a point's eight pattern pixels from the point's pixel (DSO, fig. 4)."""

MARGIN = 2  # radius of the pattern in pixels

RELIEF = (0.8, 1.25)
"""The pattern of a point shows one surface if its inverse depths, divided by the point's, are within this range."""

_CONTRAST = 0.2  # typical gradient per pixel, for the weights
_ALPHA = 0.1  # typical residual, for the weights


@dataclass(frozen=True, slots=True)
class WindowFrames:
    """The F frames of one bundle adjustment window.

    gray: (F, H, W) gray values in [0, 1].
    K: (F, 3, 3) intrinsics in pixels.
    T_camera_world: (F, 4, 4) float64 world-to-camera poses.
    brightness: (F, 2) float64 with columns a and b: a frame shows exp(a) times the scene's brightness, plus b.
    T_first: (F, 4, 4) poses at which Jacobians are computed (first-estimate Jacobians: Huang et al., ISER 2008). None
        uses T_camera_world.
    """

    gray: Tensor
    K: Tensor
    T_camera_world: Tensor
    brightness: Tensor
    T_first: Tensor | None = None

    def __len__(self) -> int:
        return len(self.gray)


@dataclass(frozen=True, slots=True)
class HostPoints:
    """The P points of a window, each in the frame that hosts it.

    host: (P,) index of the host frame.
    pixel: (P, 2) x and y in the host image.
    ray: (P, 8, 3) rays of the pattern's pixels, with z = 1 in the host camera's frame.
    inverse_depth: (P,) inverse depth of the point.
    relief: (P, 8) predicted inverse depth of each pattern pixel, divided by the point's.
    value: (P, 8) gray value of each pattern pixel in the host image.
    weight: (P, 8) weight of each squared residual.
    """

    host: Tensor
    pixel: Tensor
    ray: Tensor
    inverse_depth: Tensor
    relief: Tensor
    value: Tensor
    weight: Tensor

    def __len__(self) -> int:
        return len(self.host)

    def select(self, rows: Tensor) -> "HostPoints":
        """Return the points that `rows` selects: indices (M,) or a mask (P,) bool."""
        return HostPoints(*(getattr(self, name)[rows] for name in HostPoints.__slots__))


@dataclass(frozen=True, slots=True)
class Observations:
    """S observations: each pairs a point with a frame other than its host.

    point, frame: (S,) indices of the point and of the frame. No pair occurs twice.
    """

    point: Tensor
    frame: Tensor

    def __len__(self) -> int:
        return len(self.point)


@dataclass(frozen=True, slots=True)
class PhotometricResiduals:
    """The residuals of S observations with their slopes.

    value: (S, 8) residual of each pattern pixel.
    seen: (S,) bool, true if the frame shows the whole pattern.
    slope: (S, 8, 9) derivatives with respect to the frame's left twist (6), its a and b (2), and the inverse depth (1).
        `host_jacobians` converts the first eight to derivatives with respect to the host's unknowns.
    """

    value: Tensor
    seen: Tensor
    slope: Tensor


def make_host_points(
    gray: Tensor, K: Tensor, host: int, pixel: Tensor, inverse_depth: Tensor, weight: Tensor
) -> HostPoints:
    """Return the points of one host image at the given pixels.

    gray: (H, W) gray values in [0, 1].
    K: (3, 3) intrinsics in pixels.
    host: index of the frame.
    pixel: (P, 2) integer x and y, at least MARGIN pixels from the image's edge.
    inverse_depth, weight: (H, W) maps that provide the values of the points.
    """
    x, y = (pixel[:, None].long() + torch.tensor(PATTERN, device=pixel.device)).unbind(-1)
    around = torch.stack((x, y, torch.ones_like(x)), -1).to(K)
    own = inverse_depth[y[:, 0], x[:, 0]]
    relief = (inverse_depth[y, x] / own[:, None]).clamp(*RELIEF)
    index = torch.full((len(pixel),), host, dtype=torch.long, device=pixel.device)
    ray = (around @ inverse_intrinsics(K).mT).to(gray)
    return HostPoints(index, pixel.to(gray), ray, own.to(gray), relief.to(gray), gray[y, x], weight[y, x].to(gray))


def se3_adjoint(T: Tensor) -> Tensor:
    """Return the adjoints (..., 6, 6) of motions T (..., 4, 4).

    They satisfy T exp(x) = exp(adjoint x) T for every twist x = (v, w).
    """
    R, t = T[..., :3, :3], T[..., :3, 3]
    crossed = torch.linalg.cross(t[..., :, None].expand_as(R), R, dim=-2)
    top, bottom = torch.cat((R, crossed), -1), torch.cat((torch.zeros_like(R), R), -1)
    return torch.cat((top, bottom), -2)


def sample_frames(gray: Tensor, frame: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Sample gray images (F, H, W) bilinearly at pixels (S, 8, 2), in the frame of index `frame` (S,) each.

    Returns the values and their exact slopes along x and y, each (S, 8). A bool mask (S, 8) is true for pixels within
    the centers of the outermost pixels.
    """
    height, width = gray.shape[-2:]
    x, y = pixels.unbind(-1)
    inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    left, top = (  # a NaN must not become an index
        at.detach().floor().nan_to_num(nan=0.0).clamp(0, size - 2) for at, size in ((x, width), (y, height))
    )
    right_of, below = x - left, y - top
    corner = (frame[:, None] * height + top.long()) * width + left.long()
    flat = gray.flatten()
    a, b, c, d = (flat[corner + step] for step in (0, 1, width, width + 1))
    along_x = (b - a) + below * (d - c - b + a)
    along_y = (c - a) + right_of * (d - c - b + a)
    return a + right_of * (b - a) + below * along_y, along_x, along_y, inside


def rotate_rays(ray: Tensor, R: Tensor) -> Tensor:
    """Rotate rays (S, N, 3) by R (S, 3, 3) without a matrix product.

    With a matrix product, oneDNN would cache up to 1024 compiled programs, one for each number of rows (90 MB).
    """
    x, y, z = (column[:, None] for column in R.unbind(-1))
    return ray[..., :1] * x + ray[..., 1:2] * y + ray[..., 2:] * z


def project_rays(
    T: Tensor, ray: Tensor, inverse_depth: Tensor, K: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Project points, given by rays (S, 8, 3) with z = 1 and inverse depths (S, 8), by T (S, 4, 4) and K (S, 3, 3).

    Returns pixels (S, 8, 2), and x, y, nearness and is_in_front, each (S, 8). The nearness is the point's z before the
    motion T divided by its z after it.
    """
    R, t = T[..., :3, :3].to(ray), T[..., :3, 3].to(ray)
    moved = rotate_rays(ray, R) + inverse_depth[..., None] * t[:, None]
    nearness = moved[..., 2]
    in_front = nearness > NEAR
    x, y = (moved[..., k] / torch.where(in_front, nearness, torch.ones_like(nearness)) for k in (0, 1))
    K = K.to(ray)[:, None]
    pixels = torch.stack((K[..., 0, 0] * x + K[..., 0, 1] * y + K[..., 0, 2], K[..., 1, 1] * y + K[..., 1, 2]), -1)
    return pixels, x, y, nearness, in_front


def compute_residuals(frames: WindowFrames, points: HostPoints, sightings: Observations) -> PhotometricResiduals:
    """Return the residual (I_j[p'] - b_j) - exp(a_j - a_i) (I_i[p] - b_i) of every pattern pixel, with its slopes.

    p' is the pixel of frame j that shows pixel p of the host frame i. Slopes are computed at the poses frames.T_first.
    """
    i, j = points.host[sightings.point], sightings.frame
    ray, relief = points.ray[sightings.point], points.relief[sightings.point]
    inverse_depth = points.inverse_depth[sightings.point][:, None] * relief
    T = _relative_motions(frames.T_camera_world, i, j)
    pixels, *_, in_front = project_rays(T, ray, inverse_depth, frames.K[j])
    gray, along_x, along_y, inside = sample_frames(frames.gray, j, pixels)
    a, b = frames.brightness.to(gray).unbind(-1)
    gain = (a[j] - a[i]).exp()
    expected = gain[:, None] * (points.value[sightings.point] - b[i][:, None])
    value = gray - b[j][:, None] - expected

    T = T if frames.T_first is None else _relative_motions(frames.T_first, i, j)
    slope = _brightness_slopes(T, ray, inverse_depth, frames.K[j].to(gray), along_x, along_y)
    own = (-expected[..., None], -torch.ones_like(slope[..., :1]))
    slope = torch.cat((slope[..., :6], *own, slope[..., 6:] * relief[..., None]), -1)
    return PhotometricResiduals(value, (inside & in_front).all(-1), slope)


def host_jacobians(frames: WindowFrames) -> Tensor:
    """Return the factors (F, F, 8, 8) float64 from slopes in a frame's unknowns to slopes in its host's unknowns.

    The first axis is the frame and the second one the host. Moving the host moves its points the other way:
    T_frame_host exp(-x) = exp(-adjoint x) T_frame_host.
    """
    first = frames.T_camera_world if frames.T_first is None else frames.T_first
    a = frames.brightness[:, 0]
    turn = a.new_zeros(len(frames), len(frames), 8, 8)
    turn[..., :6, :6] = -se3_adjoint(compose(first[:, None], invert_pose(first)[None]))
    turn[..., 6, 6] = -1
    turn[..., 7, 7] = -(a[:, None] - a[None]).exp()
    return turn


def _relative_motions(T_camera_world: Tensor, host: Tensor, frame: Tensor) -> Tensor:
    return compose(T_camera_world[:, None], invert_pose(T_camera_world)[None])[frame, host]


def _brightness_slopes(
    T: Tensor, ray: Tensor, inverse_depth: Tensor, K: Tensor, along_x: Tensor, along_y: Tensor
) -> Tensor:
    """Return the derivatives (S, 8, 7) of brightness in the twist and the inverse depth."""
    _, x, y, nearness, in_front = project_rays(T, ray, inverse_depth, K)
    nearer = in_front / torch.where(in_front, nearness, torch.ones_like(nearness))
    in_x = along_x * K[:, None, 0, 0]
    in_y = along_x * K[:, None, 0, 1] + along_y * K[:, None, 1, 1]
    outwards = in_x * x + in_y * y
    per_metre = inverse_depth * nearer
    t = T[:, None, :3, 3].to(ray)
    in_depth = nearer * (in_x * t[..., 0] + in_y * t[..., 1] - outwards * t[..., 2])
    in_translation = (in_x * per_metre, in_y * per_metre, -outwards * per_metre)
    in_rotation = (-in_y - outwards * y, in_x + outwards * x, in_y * x - in_x * y)
    return torch.stack((*in_translation, *in_rotation, in_depth), -1)


def huber_cost(residual: Tensor, bend: float) -> tuple[Tensor, Tensor]:
    """Return Huber's cost of residuals of any shape, and the weight that r^2 / 2 has in it, both of the same shape.

    bend: the cost is r^2 / 2 up to |r| = bend, and linear beyond it.
    """
    size = residual.abs()
    weight = bend / size.clamp(min=bend)
    return torch.where(size <= bend, residual.square() / 2, bend * (size - bend / 2)), weight


def gradient_weight(slope_squared: Tensor) -> Tensor:
    """Return the weights c^2 / (c^2 + |grad I|^2), with the same shape as the squared gradients (DSO, eq. 7).

    Pixels on steep edges weigh less, because position errors change their brightness most.
    """
    return _CONTRAST**2 / (_CONTRAST**2 + slope_squared)


def uncertainty_weight(log_uncertainty: Tensor) -> Tensor:
    """Return the weights alpha^2 / (alpha^2 + Sigma^2) from log Sigma, with the same shape (D3VO, eq. 12).

    D3VO's factor alpha in front is left out.
    """
    return _ALPHA**2 / (_ALPHA**2 + (2 * log_uncertainty).exp())


def select_pixels(gray: Tensor, allowed: Tensor, count: int) -> Tensor:
    """Return about `count` pixels (P, 2), x then y: the pixel with the largest gradient in each cell of a square grid.

    gray: (H, W) gray values in [0, 1].
    allowed: (H, W) bool, true for pixels that may be selected. Pixels within MARGIN + 1 of the edge are never selected.

    A selected pixel's gradient exceeds the image's median gradient and one gray level of 255 per pixel (DSO, 3.2).
    """
    height, width = gray.shape
    squared = squared_gradient(gray)
    steep = torch.zeros_like(squared)
    inner = slice(MARGIN + 1, height - MARGIN - 1), slice(MARGIN + 1, width - MARGIN - 1)
    steep[inner] = (squared * allowed)[inner]
    cell = max(2, round((height * width / count) ** 0.5))
    best, index = torch.nn.functional.max_pool2d(steep[None, None], cell, ceil_mode=True, return_indices=True)
    least = max(float(squared.median()), 1 / 255**2)
    index = index[best > least]
    return torch.stack((index % width, index // width), -1)


def squared_gradient(gray: Tensor) -> Tensor:
    """Return the squared gradient (..., H, W) of images (..., H, W), by central differences; it is 0 at the edge."""
    squared = torch.zeros_like(gray)
    along_x = (gray[..., 1:-1, 2:] - gray[..., 1:-1, :-2]) / 2
    along_y = (gray[..., 2:, 1:-1] - gray[..., :-2, 1:-1]) / 2
    squared[..., 1:-1, 1:-1] = along_x.square() + along_y.square()
    return squared


def apply_step(frames: WindowFrames, step: Tensor) -> WindowFrames:
    """Return the frames after a step (F, 8): six columns of the left twist, then the changes of a and b."""
    T = compose(se3_exp(step[:, :6]), frames.T_camera_world)
    return replace(frames, T_camera_world=T, brightness=frames.brightness + step[:, 6:])


# -- virtual stereo: a point's depth compared with predicted depth in the rig's other camera (Yang et al., Deep virtual
# stereo odometry, ECCV 2018, eq. 8 and 9; D3VO, arXiv 2003.01060, eq. 14 and 15)


@dataclass(frozen=True, slots=True)
class VirtualStereo:
    """Depth of a window's frames in a virtual right camera, as a network predicts it.

    inverse_depth_right: (F, H, W) inverse depth at the right camera's pixels; the right camera has the frame's K.
    T_right_left: (4, 4) float64 motion from the left to the right camera's frame, in the unit of depth.
    """

    inverse_depth_right: Tensor
    T_right_left: Tensor


@dataclass(frozen=True, slots=True)
class StereoResiduals:
    """Virtual-stereo residuals of P points.

    value: (P, 8) residuals.
    slope: (P, 8) derivatives with respect to the inverse depth.
    seen: (P,) bool, true if both cameras show the whole pattern.
    """

    value: Tensor
    slope: Tensor
    seen: Tensor


def compute_stereo_residuals(gray: Tensor, K: Tensor, points: HostPoints, stereo: VirtualStereo) -> StereoResiduals:
    """Return the residuals I[p''] - I[p] of the virtual stereo pair.

    Pixel p is mapped to p' in the right camera by the point's depth, and back to p'' by the right camera's predicted
    depth. If the two depths agree, p'' = p. The rig's baseline thus fixes the scale.

    gray: (F, H, W) gray values in [0, 1].
    K: (F, 3, 3) intrinsics in pixels.
    points: the P points of the window.
    stereo: predicted depth in the right camera.
    """
    K, to_right = K[points.host], stereo.T_right_left.expand(len(points), 4, 4)
    to_left = invert_pose(to_right)
    inverse_depth = points.inverse_depth[:, None] * points.relief
    right, x, y, nearness, in_front = project_rays(to_right, points.ray, inverse_depth, K)
    predicted, along_x, along_y, inside = sample_frames(stereo.inverse_depth_right, points.host, right)
    ray = torch.stack((x, y, torch.ones_like(x)), -1)
    left, *there, in_front_again = project_rays(to_left, ray, predicted, K)
    value, slope_x, slope_y, inside_again = sample_frames(gray, points.host, left)

    R, t = to_left[..., :3, :3].to(ray), to_left[:, None, :3, 3].to(ray)
    ray_moves = _project_motion(to_right[:, None, :3, 3].to(ray), x, y, nearness)
    right_moves = _multiply_by_focal(ray_moves, K)
    depth_moves = along_x * right_moves[..., 0] + along_y * right_moves[..., 1]
    point_moves = rotate_rays(torch.nn.functional.pad(ray_moves, (0, 1)), R) + depth_moves[..., None] * t
    left_moves = _multiply_by_focal(_project_motion(point_moves, *there), K)
    slope = (slope_x * left_moves[..., 0] + slope_y * left_moves[..., 1]) * points.relief
    return StereoResiduals(value - points.value, slope, (inside & in_front & inside_again & in_front_again).all(-1))


def _multiply_by_focal(moves: Tensor, K: Tensor) -> Tensor:
    K, (x, y) = K.to(moves)[:, None], moves.unbind(-1)
    return torch.stack((K[..., 0, 0] * x + K[..., 0, 1] * y, K[..., 1, 1] * y), -1)


def _project_motion(moves: Tensor, x: Tensor, y: Tensor, nearness: Tensor) -> Tensor:
    """Return the motion (..., 2) of x and y at z = 1, if the point (x, y, 1) nearness moves by (..., 3)."""
    nearer = torch.where(nearness > NEAR, 1 / nearness, torch.zeros_like(nearness))
    return torch.stack((moves[..., 0] - x * moves[..., 2], moves[..., 1] - y * moves[..., 2]), -1) * nearer[..., None]
