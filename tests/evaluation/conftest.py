"""Folders of depth maps as other programs write them, and a world of which everything is known."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from stadia.core.types import LEFT, Camera, DepthScale, Recording
from stadia.geometry.cameras import intrinsics
from stadia.io.run_facts import UNKNOWN_FACTS, write_run_facts
from stadia.training.loop.checkpoint import CheckpointHeader, write_checkpoint

Maps = Mapping[str, NDArray]


@pytest.fixture
def truth_m() -> dict[str, NDArray[np.float64]]:
    """Three sparse ground truths, 40x120, in steps of 1/256 m so that a uint16 PNG holds them exactly; some beyond 80
    m.
    """
    rng = np.random.default_rng(0)
    maps = {}
    for name in ("000000", "000001", "000002"):
        depth = np.rint(rng.uniform(2, 90, (40, 120)) * 256) / 256
        depth[rng.random(depth.shape) > 0.3] = 0
        maps[name] = depth
    return maps


@pytest.fixture
def write_maps(tmp_path: Path) -> Callable[..., Path]:
    """Writes {stem: map} into a folder, with cv2 and numpy alone, and returns the folder."""

    def write(maps: Maps, folder: str, suffix: str = ".npy") -> Path:
        out = tmp_path / folder
        out.mkdir(parents=True, exist_ok=True)
        for name, values in maps.items():
            if suffix == ".png":
                cv2.imwrite(str(out / f"{name}.png"), np.rint(values * 256).astype(np.uint16))
            elif suffix == ".npz":
                np.savez(out / f"{name}.npz", anything=values)
            else:
                np.save(out / f"{name}.npy", values)
        return out

    return write


class Drive(Recording):
    """A drive along z without any file: an image, exact depth, poses and times. Frame 1 has neither ground truth nor
    pose.
    """

    def __init__(
        self, frames: int = 6, *, name: str = "drive", height: int = 30, width: int = 90, step_m: float = 0.5
    ) -> None:
        self.name, self.frames, self.height, self.width, self.step_m = name, frames, height, width, step_m

    def __len__(self) -> int:
        return self.frames

    def image(self, index: int, side: str = LEFT) -> NDArray[np.uint8]:
        rows, columns = np.mgrid[: self.height, : self.width]
        return np.stack([rows * 8, columns * 2, np.full_like(rows, index * 10)], -1).astype(np.uint8)

    def camera(self, index: int, side: str = LEFT) -> Camera:
        return intrinsics(60, 60, (self.width - 1) / 2, (self.height - 1) / 2, height=self.height, width=self.width)

    def depth_m(self, index: int, side: str = LEFT) -> NDArray[np.float32] | None:
        return (
            None
            if index == 1
            else 1 / predict_inverse_depth(torch.arange(self.height) * 8.0 / 255)[:, None].repeat(1, self.width).numpy()
        )

    def T_world_camera(self, index: int, side: str = LEFT) -> NDArray[np.float64] | None:
        T = np.eye(4)
        T[:3, 3] = 5, 0, 7 + index * self.step_m  # a world that starts elsewhere
        return None if index == 1 else T

    def timestamp_s(self, index: int) -> float | None:
        return 100 + index / 20


def predict_inverse_depth(red: np.ndarray) -> np.ndarray:
    """The law of Drive's world: from 1/25 to about 1/3 per metre, by the red of a pixel."""
    return 0.04 + 0.3 * red


class RedReader:
    """A predictor that knows the law of Drive's world, and its motion."""

    def __init__(
        self,
        depth_scale: DepthScale = DepthScale.METRES,
        *,
        height: int = 15,
        width: int = 45,
        scale: float = 1.0,
        step_m: float = 0.5,
    ) -> None:
        self.depth_scale, self.height, self.width, self.scale, self.step_m, self.crop = (
            depth_scale,
            height,
            width,
            scale,
            step_m,
            "none",
        )

    def inverse_depth(self, image: np.ndarray, camera: Camera) -> np.ndarray:
        assert image.shape[-2:] == (camera.height, camera.width) == (self.height, self.width)
        return predict_inverse_depth(image[:, :1]) / self.scale

    def T_next_now(self, now: np.ndarray, camera: Camera, following: np.ndarray, next_camera: Camera) -> np.ndarray:
        T = np.tile(np.eye(4, dtype=np.float32), (len(now), 1, 1))
        T[:, 2, 3] = -self.step_m * self.scale
        return T


class RedRecipe:
    """A trained recipe of depth, as the commands see it: its predictor is a RedReader, by default of 45x15."""

    def __init__(self, depth_scale: DepthScale = DepthScale.METRES) -> None:
        self.depth_scale = depth_scale

    def predictor(self, size: tuple[int, int] | None = None) -> RedReader:
        height, width = size or (15, 45)
        return RedReader(self.depth_scale, height=height, width=width)


@pytest.fixture
def red_recipe() -> Callable[..., RedRecipe]:
    """The class of a trained recipe that is right on it."""
    return RedRecipe


@pytest.fixture
def drive() -> Callable[..., Drive]:
    """The class of a recording without files."""
    return Drive


@pytest.fixture
def red_reader() -> Callable[..., RedReader]:
    """The class of a predictor that is right on it."""
    return RedReader


@pytest.fixture
def drive_folder(tmp_path: Path) -> Path:
    """Drive in the stadia layout, one recording called `a` in split `test`: every frame has ground truth and a pose."""
    source, folder = Drive(), tmp_path / "world"
    recording = folder / "a"
    (recording / "left").mkdir(parents=True)
    (recording / "depth" / "left").mkdir(parents=True)
    rows = []
    for index in range(len(source)):
        cv2.imwrite(str(recording / "left" / f"{index:06d}.png"), source.image(index)[..., ::-1])
        np.save(recording / "depth" / "left" / f"{index:06d}.npy", np.float32(source.depth_m(0)))
        T = source.T_world_camera(0)
        assert T is not None
        T[2, 3] = index * source.step_m
        rows.append(" ".join(f"{value:.6f}" for value in T[:3].ravel()))
    (recording / "poses.txt").write_text("\n".join(rows) + "\n")
    camera = {"K": source.camera(0).K.tolist(), "height": source.height, "width": source.width}
    (recording / "recording.json").write_text(
        json.dumps({"cameras": {"left": camera}, "T_right_left": None, "frame_rate_hz": 20})
    )
    (folder / "dataset.json").write_text(
        json.dumps({"format": "stadia", "version": 1, "splits": {"train": [], "test": ["a"]}})
    )
    return folder


@pytest.fixture
def checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkpoint in a run's folder whose predictor is a RedReader in metres, trained at 45x15 and able to run at any
    size.
    """
    run = tmp_path / "runs" / "2026-01-01-000000-test"
    header = CheckpointHeader(
        recipe="selfsup",
        config={"name": "test", "data": {"height": 15, "width": 45}},
        kind="weights",
        step=7,
        epoch=0,
        metrics={},
    )
    write_checkpoint(run / "checkpoints" / "best.safetensors", header, {"state_dict": {"weight": torch.zeros(1)}})
    write_run_facts(run, UNKNOWN_FACTS)
    monkeypatch.setattr("stadia.training.recipes.base.build_recipe.load_recipe", lambda path: RedRecipe())
    return run / "checkpoints" / "best.safetensors"


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Twelve frames of 64x32 at 24 Hz."""
    path = tmp_path / "own.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=24)
        stream.width, stream.height, stream.pix_fmt = 64, 32, "yuv420p"
        for index in range(12):
            picture = np.full((32, 64, 3), 20 * index, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path
