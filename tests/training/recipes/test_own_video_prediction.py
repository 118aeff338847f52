"""Of your own video every frame gets depth, and the path goes through the frames that a training would choose."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from tests.sessions import write_bare

from stadia.core.types import Camera, DepthScale
from stadia.data.open_dataset import open_recordings
from stadia.evaluation.predictions_folder import Predictions, Provenance
from stadia.io.records.formats import TrajectoryFormat
from stadia.io.records.read import read_kitti_trajectory, read_trajectory
from stadia.predict.inputs import open_inputs

FOCAL = {"focal_px": 120}
CHOSEN = [0, 4, 5, 6, 7]  # a frame that stands, three more like it, and four that move


class Watcher:
    depth_scale, height, width, crop = DepthScale.AFFINE_INVERSE, 32, 64, "none"

    def __init__(self) -> None:
        self.compared: list[tuple[float, float]] = []

    def inverse_depth(self, image: np.ndarray, camera: Camera) -> np.ndarray:
        return np.ones((len(image), 1, 32, 64), np.float32)

    def T_next_now(self, now: np.ndarray, camera: Camera, following: np.ndarray, next_camera: Camera) -> np.ndarray:
        self.compared += [(float(one.mean()), float(other.mean())) for one, other in zip(now, following, strict=True)]
        T = np.tile(np.eye(4, dtype=np.float32), (len(now), 1, 1))
        T[:, 2, 3] = -1
        return T


@pytest.fixture
def frames() -> list[np.ndarray]:
    noise = np.random.default_rng(0).integers(0, 200, (24, 40, 3), np.uint8)
    picture = cv2.resize(noise, (160, 96), interpolation=cv2.INTER_CUBIC)
    moving = [
        np.clip(np.roll(picture, 3 * step, 1).astype(int) + 5 * step, 0, 255).astype(np.uint8) for step in range(5)
    ]
    return [moving[0]] * 4 + moving[1:]


@pytest.fixture(params=["file", "folder"])
def source(
    request: pytest.FixtureRequest, tmp_path: Path, frames: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> Path:
    monkeypatch.setenv("STADIA_CACHE", str(tmp_path / "cache"))
    if request.param == "folder":
        (tmp_path / "drive").mkdir()
        for number, frame in enumerate(frames):
            cv2.imwrite(str(tmp_path / "drive" / f"{number:06d}.png"), cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
        return tmp_path / "drive"
    with av.open(str(tmp_path / "drive.mp4"), "w") as container:
        stream = container.add_stream("libx264rgb", rate=10, options={"qp": "0"})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "rgb24"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return tmp_path / "drive.mp4"


@pytest.fixture
def predicted(source: Path, tmp_path: Path) -> Callable[..., tuple[Predictions, Watcher]]:
    def predict(every: int = 1, **options: Any) -> tuple[Predictions, Watcher]:
        watcher = Watcher()
        (given,) = open_inputs(
            source, every=every, camera=FOCAL, frame_rate_hz=10 if source.is_dir() else None, **options
        )
        made_by = Provenance(recipe="selfsup", config_hash="0")
        return write_bare(watcher, given, tmp_path / "out", made_by, video=False), watcher

    return predict


def names(numbers: list[int]) -> tuple[str, ...]:
    return tuple(f"{number:06d}" for number in numbers)


@pytest.mark.slow
def test_the_path_goes_through_the_frames_of_a_training(
    source: Path, predicted: Callable[..., tuple[Predictions, Watcher]], frames: list[np.ndarray]
) -> None:
    (trained,) = open_recordings(source, camera=FOCAL)
    predictions, watcher = predicted()
    assert trained.selection.kept == CHOSEN
    assert predictions.record.entries == names(list(range(8))), "every frame has depth"
    assert predictions.record.path == names(CHOSEN)
    path, timed = (
        read_kitti_trajectory(predictions.folder / "trajectory.txt"),
        read_trajectory(predictions.folder / "trajectory_tum.txt", TrajectoryFormat.TUM),
    )
    np.testing.assert_allclose(path.T_world_camera[:, 2, 3], np.arange(5))
    np.testing.assert_allclose(timed.times_s, np.array(CHOSEN) / 10)
    gray = [frame.mean() / 255 for frame in frames]
    expected = [(gray[now], gray[following]) for now, following in pairwise(CHOSEN)]
    np.testing.assert_allclose(watcher.compared, expected, atol=2e-3)
