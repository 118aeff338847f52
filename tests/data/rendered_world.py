"""Render a small world of two textured planes exactly, and write it in every layout that is read."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from stadia.core.errors import StadiaError

HEIGHT, WIDTH = 96, 160
FOCAL = 120.0
BASELINE_M = 0.5
STEP_M = 0.2
K = np.array([[FOCAL, 0, 77.0], [0, FOCAL, 41.0], [0, 0, 1]])
T_RIGHT_LEFT = np.eye(4)
T_RIGHT_LEFT[0, 3] = -BASELINE_M


def write_video(path: Path, frames: list[np.ndarray], rate: int = 10, **container_options: str) -> Path:
    """Lossless, so that frames can be compared to the bit; a keyframe every 5."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options=container_options) as container:
        stream = container.add_stream("libx264rgb", rate=rate, options={"qp": "0", "preset": "ultrafast", "g": "5"})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "rgb24"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STADIA_CACHE", str(tmp_path / "cache"))


def one_line(error: StadiaError, *parts: object) -> None:
    """The form of every message: one line, found, expected, and these parts."""
    text = str(error)
    assert "\n" not in text
    assert "found" in text
    assert "expected" in text
    for part in parts:
        assert str(part) in text, f"{part!r} is not in {text!r}"


@pytest.fixture(name="one_line", scope="session")
def _one_line() -> Callable[..., None]:
    return one_line


def pose(index: int) -> NDArray[np.float64]:
    """T_world_camera of the left camera: forward, slightly to the side, and turning a little."""
    angle = 0.004 * index
    return np.array(
        [
            [np.cos(angle), 0, np.sin(angle), 0.02 * index],
            [0, 1, 0, 0],
            [-np.sin(angle), 0, np.cos(angle), STEP_M * index],
            [0, 0, 0, 1],
        ]
    )


def paint(
    T_world_camera: NDArray[np.float64], rays: NDArray[np.float64]
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """(H, W, 3) image and (H, W) depth of a camera whose pixels see along rays (H, W, 3) with z = 1, whatever its lens.

    The road 1.5 m below the first camera and a wall 12 m ahead of it, both smoothly textured.
    """
    rays = rays @ T_world_camera[:3, :3].T  # world directions, camera z = 1
    origin = T_world_camera[:3, 3]
    with np.errstate(divide="ignore"):
        road = np.where(rays[..., 1] > 1e-9, (1.5 - origin[1]) / rays[..., 1], np.inf)
    wall = (12.0 - origin[2]) / rays[..., 2]
    depth = np.minimum(road, wall)
    points = origin + depth[..., None] * rays
    u, v = points[..., 0], np.where(road < wall, points[..., 2], points[..., 1])
    waves = np.stack(
        [np.sin(2.1 * u + 0.4) * np.cos(1.3 * v), np.cos(1.7 * u) * np.sin(1.9 * v), np.sin(1.1 * (u + v))], -1
    )
    return np.uint8(np.clip(127 + 90 * waves, 0, 255).round()), depth.astype(np.float32)


def pinhole_rays(K: NDArray[np.float64], height: int, width: int) -> NDArray[np.float64]:
    """(H, W, 3) with z = 1."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    return np.stack([x, y, np.ones_like(x)], -1) @ np.linalg.inv(K).T


def render(index: int, side: str = "left") -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """(H, W, 3) image and (H, W) depth of the moving rig."""
    T = pose(index) @ (np.linalg.inv(T_RIGHT_LEFT) if side == "right" else np.eye(4))
    return paint(T, pinhole_rays(K, HEIGHT, WIDTH))


def save(path: Path, rgb: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))


def rows(poses: list[NDArray[np.float64]]) -> str:
    return "".join(" ".join(f"{v:.12g}" for v in T[:3].ravel()) + "\n" for T in poses)


@dataclass(frozen=True)
class World:
    """The renderer and the writers, for tests."""

    height: int = HEIGHT
    width: int = WIDTH
    baseline_m: float = BASELINE_M
    step_m: float = STEP_M
    K = K
    T_right_left = T_RIGHT_LEFT
    pose = staticmethod(pose)
    render = staticmethod(render)
    paint = staticmethod(paint)
    pinhole_rays = staticmethod(pinhole_rays)
    save = staticmethod(save)
    rows = staticmethod(rows)

    def recording(self, folder: Path, frames: int = 5, *, stereo: bool = True, depth: bool = True) -> Path:
        """One recording in the stadia layout."""
        sides = ("left", "right") if stereo else ("left",)
        camera = {"K": K.tolist(), "height": HEIGHT, "width": WIDTH}
        for side in sides:
            for index in range(frames):
                rgb, depth_m = render(index, side)
                save(folder / side / f"{index:06d}.png", rgb)
                if depth:
                    (folder / "depth" / side).mkdir(parents=True, exist_ok=True)
                    np.save(folder / "depth" / side / f"{index:06d}.npy", depth_m)
        about = {
            "cameras": dict.fromkeys(sides, camera),
            "T_right_left": T_RIGHT_LEFT.tolist() if stereo else None,
            "frame_rate_hz": 10,
        }
        (folder / "recording.json").write_text(json.dumps(about))
        (folder / "poses.txt").write_text(rows([pose(i) for i in range(frames)]))
        return folder

    def dataset(self, root: Path, splits: dict[str, list[str]], frames: int = 5, **options: bool) -> Path:
        """A dataset in the stadia layout."""
        for name in {name for names in splits.values() for name in names}:
            self.recording(root / name, frames, **options)
        (root / "dataset.json").write_text(json.dumps({"format": "stadia", "version": 1, "splits": splits}))
        return root

    def kitti_odometry(
        self, root: Path, frames: int = 5, *, sequence: str = "06", first: int = 0, cameras: tuple[int, ...] = (0, 1)
    ) -> Path:
        """A sequence in KITTI's layout; cameras 2 and 3 sit 6 cm beside camera 0, as in the real one."""
        folder = root / "sequences" / sequence
        offsets = {0: 0.0, 1: -BASELINE_M, 2: 0.06, 3: 0.06 - BASELINE_M}
        for camera in cameras:
            for index in range(frames):
                save(
                    folder / f"image_{camera}" / f"{first + index:06d}.png",
                    render(index, "left" if camera % 2 == 0 else "right")[0],
                )
        calibration = ""
        for camera, offset in offsets.items():
            P = np.hstack([K, K @ np.array([[offset], [0], [0]])])
            calibration += f"P{camera}: " + " ".join(f"{v:.12e}" for v in P.ravel()) + "\n"
        (folder / "calib.txt").write_text(calibration)
        (folder / "times.txt").write_text("".join(f"{0.1 * i:.6e}\n" for i in range(first + frames)))
        (root / "poses").mkdir(exist_ok=True)
        (root / "poses" / f"{sequence}.txt").write_text(rows([pose(i - first) for i in range(first + frames)]))
        return root


@pytest.fixture(scope="session")
def world() -> World:
    return World()
