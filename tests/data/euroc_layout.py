"""Writes EuRoC's layout: a world seen through known lenses, whose formulas are written out here and owe nothing to
OpenCV.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

Array = NDArray[np.float64]

T_BS0 = np.array(
    [
        [0.0148655429818, -0.999880929698, 0.00414029679422, -0.0216401454975],
        [0.999557249008, 0.0149672133247, 0.025715529948, -0.064676986768],
        [-0.0257744366974, 0.00375618835797, 0.999660727178, 0.00981073058949],
        [0.0, 0.0, 0.0, 1.0],
    ]
)
T_BS1 = np.array(
    [
        [0.0125552670891, -0.999755099723, 0.0182237714554, -0.0198435579556],
        [0.999598781151, 0.0130119051815, 0.0251588363115, 0.0453689425024],
        [-0.0253898008918, 0.0179005838253, 0.999517347078, 0.00786212447038],
        [0.0, 0.0, 0.0, 1.0],
    ]
)
RADTAN = ((-0.28340811, 0.07395907, 0.00019359, 1.76187114e-05), (-0.28368365, 0.07451284, -0.00010473, -3.5559e-05))
TANGENTIAL = (
    (-0.28, 0.07, 0.004, -0.003),
    (-0.27, 0.06, -0.003, 0.004),
)  # as much as EuRoC has would not be seen in small images
EQUIDISTANT = ((-0.0135, 0.0207, -0.0128, 0.0025), (-0.0112, 0.0164, -0.0097, 0.0019))
INTRINSICS = ((458.654, 457.296, 367.215, 248.375), (457.587, 456.134, 379.999, 255.238))
SIZE = (752, 480)
SMALL = 4  # the rendered images are smaller by this factor
START_NS = 1403715273262142976
FRAME_NS = 50_000_000


@dataclass(frozen=True)
class Camera:
    """The content of one sensor.yaml."""

    T_BS: Array
    intrinsics: tuple[float, ...]
    coefficients: tuple[float, ...]
    model: str = "radial-tangential"
    size: tuple[int, int] = SIZE

    def smaller(self) -> "Camera":
        fx, fy, cx, cy = self.intrinsics
        center = ((c + 0.5) / SMALL - 0.5 for c in (cx, cy))
        return replace(
            self, intrinsics=(fx / SMALL, fy / SMALL, *center), size=(self.size[0] // SMALL, self.size[1] // SMALL)
        )

    def write(self, folder: Path, **changes: Any) -> Path:
        about = {
            "sensor_type": "camera",
            "T_BS": {"cols": 4, "rows": 4, "data": self.T_BS.ravel().tolist()},
            "rate_hz": 20,
            "resolution": list(self.size),
            "camera_model": "pinhole",
            "intrinsics": list(self.intrinsics),
            "distortion_model": self.model,
            "distortion_coefficients": list(self.coefficients),
        }
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "sensor.yaml"
        path.write_text("%YAML:1.0\n" + yaml.safe_dump({k: v for k, v in (about | changes).items() if v is not None}))
        return path

    def distorted(self, x: Array, y: Array) -> tuple[Array, Array]:
        """From x / z and y / z to those that are seen: the models' own formulas, without OpenCV."""
        k1, k2, k3, k4 = self.coefficients
        r2 = x * x + y * y
        if self.model == "equidistant":
            r = np.sqrt(r2)
            a = np.arctan(r)
            scale = a * (1 + k1 * a**2 + k2 * a**4 + k3 * a**6 + k4 * a**8) / np.maximum(r, 1e-12)
            return x * scale, y * scale
        radial = 1 + k1 * r2 + k2 * r2 * r2
        return x * radial + 2 * k3 * x * y + k4 * (r2 + 2 * x * x), y * radial + k3 * (r2 + 2 * y * y) + 2 * k4 * x * y

    def rays(self) -> Array:
        """(H, W, 3) with z = 1 of every pixel of the distorted image: the formulas inverted, step by step."""
        fx, fy, cx, cy = self.intrinsics
        u, v = np.meshgrid((np.arange(self.size[0]) - cx) / fx, (np.arange(self.size[1]) - cy) / fy)
        x, y = u.copy(), v.copy()
        for _ in range(60):
            seen_x, seen_y = self.distorted(x, y)
            x, y = x + 0.7 * (u - seen_x), y + 0.7 * (v - seen_y)
        assert max(np.abs(seen_x - u).max(), np.abs(seen_y - v).max()) < 1e-6
        return np.stack([x, y, np.ones_like(x)], -1)


CAM0 = Camera(T_BS0, INTRINSICS[0], RADTAN[0])
CAM1 = Camera(T_BS1, INTRINSICS[1], RADTAN[1])


def T_world_lens(seconds: float) -> Array:
    """Of cam0 as it is, not rectified: flying ahead at 1 m/s, to the right, up, and turning about all axes."""
    T = np.eye(4)
    T[:3, :3] = Rotation.from_rotvec(seconds * np.array([0.05, 0.12, -0.08])).as_matrix()
    T[:3, 3] = seconds * np.array([0.3, -0.2, 1.0])
    return T


def csv(path: Path, header: str, rows: list[tuple[Any, ...]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#{header}\n" + "".join(",".join(map(str, row)) + "\n" for row in rows))


def write_ground_truth(mav0: Path, seconds: Array, start_ns: int = START_NS) -> None:
    rows = []
    for second in seconds:
        T = T_world_lens(second) @ np.linalg.inv(T_BS0)  # of the body
        x, y, z, w = Rotation.from_matrix(T[:3, :3]).as_quat()
        rows.append((start_ns + round(second * 1e9), *T[:3, 3], w, x, y, z, *[0] * 9))
    csv(mav0 / "state_groundtruth_estimate0" / "data.csv", "timestamp, p_RS_R_x [m], ...", rows)
    identity = {"T_BS": {"cols": 4, "rows": 4, "data": np.eye(4).ravel().tolist()}}
    (mav0 / "state_groundtruth_estimate0" / "sensor.yaml").write_text(yaml.safe_dump(identity))


def write_images(camera: Path, moments: list[int], image: Callable[[int], NDArray[np.uint8]]) -> None:
    stamps = [START_NS + FRAME_NS * index for index in moments]
    csv(camera / "data.csv", "timestamp [ns],filename", [(stamp, f"{stamp}.png") for stamp in stamps])
    (camera / "data").mkdir(parents=True, exist_ok=True)
    for index, stamp in zip(moments, stamps, strict=True):
        assert cv2.imwrite(str(camera / "data" / f"{stamp}.png"), image(index))


def write_sequence(world: Any, folder: Path, cam0: Camera, cam1: Camera, frames: int = 3) -> Path:
    """The gray images of the world through both lenses."""
    mav0 = folder / "mav0"
    for name, camera in (("cam0", cam0), ("cam1", cam1)):
        T_lens0_lens, rays = np.linalg.inv(cam0.T_BS) @ camera.T_BS, camera.rays()

        def image(index: int, T: Array = T_lens0_lens, rays: Array = rays) -> NDArray[np.uint8]:
            return world.paint(T_world_lens(index * FRAME_NS / 1e9) @ T, rays)[0][..., 0]

        camera.write(mav0 / name)
        write_images(mav0 / name, list(range(frames)), image)
    write_ground_truth(mav0, np.arange(-3, frames * 10) * 0.005 + 0.0013)
    return folder


def write_flat_sequence(folder: Path) -> Path:
    """mav0 of a sequence of three flat images: for what is wrong with the files beside them."""
    mav0 = folder / "mav0"
    for name, camera in (("cam0", CAM0.smaller()), ("cam1", CAM1.smaller())):
        camera.write(mav0 / name)
        write_images(mav0 / name, [0, 1, 2], lambda index: np.full((120, 188), 40 * index, np.uint8))
    write_ground_truth(mav0, np.arange(0, 25) * 0.005)
    return mav0
