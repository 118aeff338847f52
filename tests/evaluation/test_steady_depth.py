"""Flicker of predicted video: measured by poses, in the verdict, and made smaller by a window of neighbors."""

import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stadia.core.types import DepthScale
from stadia.data.frame_preparation import Frame, PredictedFrame
from stadia.evaluation.predictions_folder import Provenance
from stadia.evaluation.protocols import PROTOCOLS
from stadia.evaluation.steady_depth import measure_frame_flicker, steady_frames
from stadia.geometry.cameras import CropWindow
from stadia.judge.depth import TrainingRecord
from stadia.predict.describe import verdict_lines
from stadia.predict.evaluate_recordings import evaluate_recordings
from stadia.predict.verdict import PredictionGate

Make = Callable[..., Any]
K = np.array([[40.0, 0, 31.5], [0, 40, 15.5], [0, 0, 1]])
JITTER = 0.1
"""ln of the factor of every second frame."""


def predict(number: int, *, on_path: bool = True, posed: bool = True) -> PredictedFrame:
    """Return a frame of a camera that moves ahead half a metre a frame to a wall, with a wrong scale in turns."""
    depth = np.full((32, 64), 30.0 - 0.5 * number) * math.exp(JITTER * (-1) ** number)
    T = np.eye(4)
    T[2, 3] = 0.5 * number
    image = np.zeros((32, 64, 3), np.uint8)
    frame = Frame(f"{number:06d}", image, K, on_path=on_path)
    inverse_depth = (1 / depth).astype(np.float32)
    box = CropWindow(0, 0, 32, 64)
    return PredictedFrame(frame, DepthScale.METRES, inverse_depth, K, T if posed else None, (32, 64), box)


def flicker(frames: list[PredictedFrame]) -> float:
    return float(np.mean([measure_frame_flicker(before, now) or 0 for before, now in pairwise(frames)]))


def test_a_window_makes_depth_steady() -> None:
    frames = [predict(number) for number in range(9)]
    steadied = list(steady_frames(iter(frames)))
    assert [frame.frame.name for frame in steadied] == [frame.frame.name for frame in frames]
    assert flicker(frames) == pytest.approx(2 * JITTER, abs=0.01)
    assert flicker(steadied[2:-2]) < 0.25 * flicker(frames)
    mean = np.mean([np.log(frame.depth()).mean() - np.log(30 - 0.5 * i) for i, frame in enumerate(steadied)])
    assert abs(mean) < 0.02


def test_the_verdict_has_the_flicker() -> None:
    gate = PredictionGate(DepthScale.METRES, TrainingRecord())
    for number in range(5):
        gate(predict(number))
    assert gate.to_json()["flicker"] == pytest.approx(2 * JITTER, abs=0.01)
    assert any("neighboring frames differs by" in line for line in verdict_lines(gate.to_json()))
    assert "flicker" not in PredictionGate(DepthScale.AFFINE_INVERSE, TrainingRecord()).to_json()


class WallReader:
    """A predictor of a wall 30 m ahead of the first frame, with a wrong scale in turns; blue is the frame's number."""

    height, width, crop = 15, 45, "none"

    def __init__(self, depth_scale: DepthScale, unit: float = 1.0, jitter: float = JITTER) -> None:
        self.depth_scale, self.unit, self.jitter = depth_scale, unit, jitter

    def inverse_depth(self, image: np.ndarray, camera: Any) -> np.ndarray:
        number = (image[:, 2:] * 25.5).round()
        factor = np.exp(self.jitter * (1 - 2 * (number % 2)))
        return 1 / ((30 - 0.5 * number) * factor * self.unit)

    def T_next_now(self, now: np.ndarray, *others: Any) -> np.ndarray:
        T = np.tile(np.eye(4, dtype=np.float32), (len(now), 1, 1))
        T[:, 2, 3] = -0.5 * self.unit
        return T


@pytest.fixture
def evaluate(drive: Make, tmp_path: Path) -> Make:
    """Score a predictor on seven frames, of which the second has no pose."""
    made_by = Provenance(recipe="selfsup", config_hash="0123456789abcdef", motion="network")

    def run(predictor: WallReader) -> Any:
        protocol = PROTOCOLS["metric" if predictor.depth_scale is DepthScale.METRES else "relative"]
        folder = tmp_path / f"{predictor.unit}-{predictor.jitter}"
        return evaluate_recordings(predictor, [drive(7)], protocol, folder, made_by)  # type: ignore[arg-type]

    return run
