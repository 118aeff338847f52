"""The path of the predicted motion: where it ends, how it is repeated, and how it is drawn."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.tensor_cameras import intrinsics

from stadia.core.types import Camera
from stadia.data.frame_preparation import read_frames
from stadia.differentiable.direct_alignment import DirectAlignment
from stadia.evaluation.predictions_folder import Predictions, Provenance
from stadia.io.records.read import read_kitti_trajectory
from stadia.predict.describe import prediction_lines
from stadia.predict.predict_frames import FrameArrays, FrameMotion, predict_to_folder, stream_predictions
from stadia.training.prediction.aligned_motion import align_motion

MADE_BY = Provenance(recipe="selfsup", config_hash="0123456789abcdef", motion="network")
Make = Callable[..., object]


def run(recording: object, predictor: object, out: Path) -> Predictions:
    return predict_to_folder(predictor, read_frames(recording), out, MADE_BY, source="drive")  # type: ignore[arg-type]


def test_path_ends_at_unknown_motion(tmp_path: Path, drive: Make, red_reader: Make) -> None:
    """The fourth image has another camera, whose motion the predictor does not predict."""
    predictor, recording = red_reader(), drive(6)
    usual, other = recording.camera(0), intrinsics(70, 60, 44.5, 14.5, height=30, width=90)
    recording.camera = lambda index, side="left": other if index == 3 else usual

    def unknown_of_other(now: np.ndarray, camera: Camera, following: np.ndarray, then: Camera) -> np.ndarray | None:
        return np.tile(np.eye(4), (len(now), 1, 1)) if np.array_equal(camera.K, then.K) else None

    predictor.T_next_now = unknown_of_other
    record = run(recording, predictor, tmp_path / "out").record
    assert record is not None
    assert (len(record.entries), record.path) == (6, ("000000", "000001", "000002"))
    assert record.path_ends == "the path ends at 000002: the motion to 000003 is unknown"
    assert len(read_kitti_trajectory(tmp_path / "out" / "trajectory.txt").T_world_camera) == 3


def test_each_motion_gets_the_previous_one(drive: Make, red_reader: Make) -> None:
    told = []

    def counting(
        predictor: object, now: FrameArrays, following: FrameArrays, T_before: np.ndarray | None
    ) -> list[FrameMotion]:
        told.append((len(now.image), T_before if T_before is None else int(T_before[0, 3])))
        T = np.tile(np.eye(4), (len(now.image), 1, 1))
        T[:, 0, 3] = 10 * len(told) + np.arange(len(T))
        return [FrameMotion(one) for one in T]

    list(stream_predictions(red_reader(), read_frames(drive(10)), counting))
    assert told == [(3, None), (4, 12), (2, 23)], "pairs of a batch, and the motion before the first"
    told.clear()
    cameras = [
        replace(frame, K=frame.K * [[1 + number], [1], [1]]) for number, frame in enumerate(read_frames(drive(4)))
    ]
    list(stream_predictions(red_reader(), cameras, counting))
    assert told == [(1, None), (1, 10), (1, 20)], "other cameras, one by one"


@pytest.mark.parametrize(("residual", "expected"), [(0.06, -1.2), (0.2, 1.0)])
def test_an_alignment_that_turns_back_is_repeated_from_the_motion_before(
    drive: Make, red_reader: Make, monkeypatch: pytest.MonkeyPatch, residual: float, expected: float
) -> None:
    """From a network without motion the fourth pair ends a metre back, with a residual of 0.14."""

    def align(*given: object) -> DirectAlignment:
        start = given[-1]
        assert isinstance(start, torch.Tensor)
        is_again = bool(start[0, 2, 3] != 0)
        pairs.extend([is_again] * len(start))
        T, one = torch.eye(4, dtype=torch.float64).repeat(len(start), 1, 1), torch.ones(len(start))
        T[:, 2, 3] = -1.2 if is_again or len(pairs) < 4 else 1.0
        return DirectAlignment(T, one, 0 * one, one, one * (residual if is_again else 0.14))

    pairs: list[bool] = []
    monkeypatch.setattr("stadia.training.prediction.aligned_motion.align_direct", align)
    network = red_reader()
    network.T_next_now = lambda now, *_: np.tile(np.eye(4), (len(now), 1, 1))
    *_, before, last = stream_predictions(network, read_frames(drive(5)), align_motion)
    assert pairs == [False, False, False, False, True]
    assert last.T_world_camera[2, 3] - before.T_world_camera[2, 3] == pytest.approx(-expected)


def test_motions_that_no_alignment_confirms_are_counted(
    tmp_path: Path, drive: Make, red_reader: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The network's stand in for them; without alignment nothing is counted."""

    def align(*given: object) -> DirectAlignment:
        start = given[-1]
        assert isinstance(start, torch.Tensor)
        one = torch.ones(len(start))
        pairs.extend(range(len(start)))
        return DirectAlignment(start, one, 0 * one, one * (0.9 if len(pairs) <= 3 else 0.1), 0.1 * one)

    pairs: list[int] = []
    monkeypatch.setattr("stadia.training.prediction.aligned_motion.align_direct", align)
    network = red_reader()
    network.T_next_now = lambda now, *_: np.tile(np.eye(4), (len(now), 1, 1))
    found = {}
    for motion in ("aligned", "network"):
        made_by = MADE_BY.model_copy(update={"motion": motion})
        found[motion] = predict_to_folder(network, read_frames(drive(8)), tmp_path / motion, made_by, source="drive")
    assert {name: one.record.not_aligned for name, one in found.items()} == {"aligned": 4, "network": None}
    lines = list(prediction_lines(tmp_path / "aligned", found["aligned"]))
    (note,) = (line for line in lines if "4 of 7 motions" in line)
    assert note.endswith("do not rely on the path")
    assert not [line for line in prediction_lines(tmp_path / "network", found["network"]) if line.startswith("note")]
