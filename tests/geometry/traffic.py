"""Roads with cars on them, ray-cast: depth, road and objects exactly as a pinhole camera sees them.

The level frame is the camera's without its pitch and roll: x right, y down, z forward, in metres, the road at y =
camera height.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from tests import tensor_cameras
from torch import Tensor

from stadia.core.types import Camera
from stadia.geometry import cameras
from stadia.geometry.ground import road_plane

KITTI = (371.2, 368.64, 320.0, 96.0, 192, 640)  # fx, fy, cx, cy, height, width
FARTHEST_ROAD_M = 60.0


def kitti_camera(size: float = 1.0) -> Camera:
    """KITTI's at 640x192, or a share of it."""
    fx, fy, cx, cy, height, width = KITTI
    camera = tensor_cameras.intrinsics(fx, fy, cx, cy, height=height, width=width)
    return camera if size == 1 else cameras.resize_camera(camera, round(height * size), round(width * size))


class CameraHeight(NamedTuple):
    """(B,) distances to one plane through the road, and medians over its pixels."""

    by_plane: Tensor
    by_median: Tensor


def camera_height(depth_m: Tensor, camera: Camera, road: Tensor) -> CameraHeight:
    """The camera's height from depth and road (B, 1, H, W), in both ways."""
    by_median = road_plane.road_pixel_heights(depth_m, camera, road, min_road_share=0.0).median_height
    known = depth_m.isfinite() & (depth_m > 0)
    points = cameras.backproject(depth_m.where(known, 0.0), camera).flatten(2).mT
    planes = [
        road_plane.fit_plane_ransac(on_road[use].detach().numpy())
        for on_road, use in zip(points, (road & known).flatten(1), strict=True)
    ]
    return CameraHeight(torch.from_numpy(np.stack(planes))[:, 3], by_median)


@dataclass(frozen=True)
class Box:
    """An upright box: (x, z) of its middle, y of top and bottom, its lengths along its own x and z, turned by yaw
    (radians).
    """

    x: float
    z: float
    top: float
    bottom: float
    width: float
    length: float
    yaw: float = 0.0


@dataclass(frozen=True)
class Car:
    """Body and cabin; `height_m` is that of the cabin's roof above the ground."""

    x: float
    z: float
    yaw: float
    height_m: float

    def boxes(self, ground: float) -> tuple[Box, Box]:
        middle = ground - 0.6 * self.height_m
        dx, dz = -0.3 * np.sin(self.yaw), -0.3 * np.cos(self.yaw)
        cabin = Box(self.x + dx, self.z + dz, ground - self.height_m, middle, 1.5, 2.2, self.yaw)
        return Box(self.x, self.z, middle, ground, 1.7, 4.0, self.yaw), cabin


@dataclass(frozen=True)
class Scene:
    """grade: of the road from 20 m on, up positive. crown: fall of the road to both sides. kerb_m: a sidewalk beyond x
    = 3.5 m that the road mask wrongly holds. facades: x of walls to the right. pitch, roll: of the camera, radians.
    """

    camera_height: float = 1.65
    pitch: float = 0.0
    roll: float = 0.0
    cars: tuple[Car, ...] = ()
    grade: float = 0.0
    crown: float = 0.0
    kerb_m: float = 0.0
    facades: tuple[float, ...] = ()

    @property
    def up(self) -> np.ndarray:
        """(3,) the road's normal in the camera's frame."""
        return self.rotation @ (0, -1, 0)

    @property
    def rotation(self) -> np.ndarray:
        """R_camera_level."""
        return Rotation.from_rotvec((self.pitch, 0, self.roll)).as_matrix()

    @property
    def plane(self) -> Tensor:
        """(4,) of the road under the camera."""
        return torch.tensor([*self.up, self.camera_height], dtype=torch.float64)


@dataclass
class View:
    """depth (1, H, W) z in metres, 0 = sky. road (1, H, W) bool. objects (H, W): n = the n-th car. whole (cars,) bool:
    nothing hides it, nor the image's border.
    """

    depth: Tensor
    road: Tensor
    objects: Tensor
    whole: Tensor


@dataclass
class _Canvas:
    rays: np.ndarray  # (3, H, W) in the level frame; z of the camera's frame is 1
    depth: np.ndarray = field(init=False)
    label: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.depth = np.full(self.rays.shape[1:], np.inf)
        self.label = np.zeros(self.rays.shape[1:], int)

    def paint(self, window: tuple[slice, slice], depth: np.ndarray, label: int) -> None:
        nearer = depth < self.depth[window]
        self.depth[window][nearer] = depth[nearer]
        self.label[window][nearer] = label


def see(scene: Scene, camera: Camera) -> View:
    """What the camera sees."""
    K = camera.K.numpy()
    x, y = np.meshgrid(np.arange(camera.width), np.arange(camera.height))
    rays = np.einsum(
        "ij,jhw->ihw", scene.rotation.T @ np.linalg.inv(K), np.stack((x, y, np.ones_like(x))).astype(float)
    )
    canvas, everywhere = _Canvas(rays), (slice(None), slice(None))
    for depth in _road(scene, rays):
        canvas.paint(everywhere, depth, -1)
    if scene.kerb_m:
        canvas.paint(
            everywhere, _hit(Box(8.5, 50, scene.camera_height - scene.kerb_m, scene.camera_height, 10, 110), rays), -1
        )
    for wall in scene.facades:
        canvas.paint(everywhere, _hit(Box(wall + 5, 40, -8, scene.camera_height, 10, 60), rays), -2)
    size = np.zeros(len(scene.cars), int)
    for number, car in enumerate(scene.cars, start=1):
        outline = np.zeros(rays.shape[1:], bool)
        for box in car.boxes(scene.camera_height):
            window = _window(box, scene, K, rays.shape[1:])
            depth = _hit(box, rays[:, *window])
            canvas.paint(window, depth, number)
            outline[window] |= np.isfinite(depth)
        inside = not (outline[0].any() or outline[-1].any() or outline[:, 0].any() or outline[:, -1].any())
        size[number - 1] = outline.sum() if inside else -1
    label, depth = canvas.label, np.where(np.isfinite(canvas.depth), canvas.depth, 0)
    shown = np.bincount(np.maximum(label, 0).ravel(), minlength=len(size) + 1)[1:]
    road = (label == -1) & (depth < FARTHEST_ROAD_M)
    return View(
        torch.tensor(depth)[None],
        torch.tensor(road)[None],
        torch.tensor(np.maximum(label, 0)),
        torch.tensor(shown == size),
    )


def _road(scene: Scene, rays: np.ndarray) -> Iterator[np.ndarray]:
    """The depths of the planes that the road is made of, each where it is the road; infinite elsewhere."""
    x, y, z = rays

    def where(depth: np.ndarray, here: np.ndarray) -> np.ndarray:
        return np.where((depth > 0) & np.isfinite(depth) & here, depth, np.inf)

    with np.errstate(divide="ignore", invalid="ignore"):
        if scene.crown:
            for side in (-1, 1):
                depth = scene.camera_height / (y - side * scene.crown * x)
                yield where(depth, side * x >= 0)
            return
        depth = scene.camera_height / y
        yield where(depth, (depth * z < 20) | (scene.grade == 0))
        if scene.grade:
            depth = (scene.camera_height + 20 * scene.grade) / (y + scene.grade * z)
            yield where(depth, depth * z >= 20)


def _turned(yaw: float, points: np.ndarray) -> np.ndarray:
    """Points (3, ...) of the level frame in axes turned about y by yaw."""
    c, s = np.cos(yaw), np.sin(yaw)
    return np.stack((c * points[0] - s * points[2], points[1], s * points[0] + c * points[2]))


def _hit(box: Box, rays: np.ndarray) -> np.ndarray:
    """Where rays (3, ...) from the origin meet the box, infinite where they do not."""
    direction = _turned(box.yaw, rays)
    middle = _turned(box.yaw, np.array([box.x, (box.top + box.bottom) / 2, box.z]))
    half = np.array([box.width, box.bottom - box.top, box.length]) / 2
    shape = (3,) + (1,) * (rays.ndim - 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        ends = np.stack(((middle - half).reshape(shape) / direction, (middle + half).reshape(shape) / direction))
    near, far = ends.min(0).max(0), ends.max(0).min(0)
    return np.where((near <= far) & (near > 0), near, np.inf)


def _window(box: Box, scene: Scene, K: np.ndarray, shape: tuple[int, ...]) -> tuple[slice, slice]:
    """The part of the image in which a box can be seen."""
    corner = np.array(np.meshgrid((-0.5, 0.5), (0, 1), (-0.5, 0.5))).reshape(3, -1)
    corner = np.stack((corner[0] * box.width, box.top + corner[1] * (box.bottom - box.top), corner[2] * box.length))
    corner = _turned(-box.yaw, corner) + np.array([[box.x], [0], [box.z]])
    seen = K @ scene.rotation @ corner
    if (seen[2] <= 0.1).any():
        return slice(None), slice(None)
    (left, top), (right, bottom) = (edge(seen[:2] / seen[2], axis=1) for edge in (np.min, np.max))
    rows, columns = (
        slice(int(np.clip(a - 1, 0, n)), int(np.clip(b + 2, 0, n)))
        for a, b, n in ((top, bottom, shape[0]), (left, right, shape[1]))
    )
    return rows, columns


def street(
    rng: np.random.Generator, cars: int, *, tilt_deg: float = 1.0, roll_deg: float | None = None, **options: float
) -> Scene:
    """A random road with cars 6 to 45 m away, heights of 1.53 +- 0.10 m, any yaw, and a camera tilted by up to
    `tilt_deg`.
    """
    tilt = np.radians(rng.uniform(-tilt_deg, tilt_deg, 2))
    z = rng.uniform(6, 45, cars)
    x = rng.uniform(-0.6, 0.6, cars) * z
    placed = tuple(
        Car(*each) for each in zip(x, z, rng.uniform(0, 2 * np.pi, cars), rng.normal(1.53, 0.10, cars), strict=True)
    )
    roll = tilt[1] if roll_deg is None else np.radians(roll_deg)
    return Scene(pitch=tilt[0], roll=roll, cars=placed, **{"camera_height": rng.uniform(1.2, 2.0)} | options)
