"""Folders of predictions and files to score that somebody prepared: links, locks, names, kills and sizes."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.refusals import refuses

from stadia.core.errors import DataError, ProtocolError, StadiaError
from stadia.core.types import DepthScale
from stadia.data.frame_preparation import read_frames
from stadia.evaluation import image_score
from stadia.evaluation.image_score import score_image
from stadia.evaluation.predictions_folder import Predictions, PredictionsRecord, Provenance, write_predictions
from stadia.evaluation.protocols import find_protocol
from stadia.io.records import rows
from stadia.io.records.read import read_trajectory
from stadia.predict.predict_frames import predict_motion, stream_predictions

MADE_BY = Provenance(recipe="selfsup", config_hash="0123456789abcdef", motion="network")


@pytest.fixture
def run(drive: Callable[..., Any], red_reader: Callable[..., Any]) -> Callable[..., Predictions]:
    """Predicts three frames into a folder. name: of the frames, in place of their own."""

    def predict(out: Path, name: str | None = None) -> Predictions:
        predictor = red_reader()
        frames = read_frames(drive(3))
        given = frames if name is None else (replace(frame, name=name) for frame in frames)
        predicted = stream_predictions(predictor, given, predict_motion)
        return write_predictions(predicted, predictor, out, MADE_BY, source="drive")

    return predict


@pytest.mark.parametrize("name", ["depth", "predictions.json"])
def test_a_link_is_refused_and_what_it_leads_to_stays(name: str, run: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis").write_text("mine")
    (tmp_path / "out" / name).symlink_to(tmp_path / "home")
    with pytest.raises(StadiaError):
        run(tmp_path / "out")
    assert [path.name for path in (tmp_path / "home").iterdir()] == ["thesis"]


@pytest.mark.parametrize("writes", [2, 3])
def test_a_kill_at_the_end_leaves_a_prediction_that_starts_again(
    writes: int, run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record is written at the start, with the entries, and as finished."""
    count, write = 0, PredictionsRecord.write

    def stop(record: PredictionsRecord, folder: Path) -> None:
        nonlocal count
        count += 1
        if count == writes:
            raise KeyboardInterrupt
        write(record, folder)

    monkeypatch.setattr(PredictionsRecord, "write", stop)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "out")
    monkeypatch.undo()
    with refuses(DataError, where="predictions.json"):
        Predictions.open(tmp_path / "out")
    assert len(run(tmp_path / "out").files) == 3


@pytest.mark.parametrize("is_prediction", [False, True])
def test_the_size_of_a_scored_map_is_limited(is_prediction: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    small, large = np.full((4, 6), 2.0), np.full((8, 12), 2.0)
    maps = (large, small) if is_prediction else (small, large)
    rules = find_protocol("metric")
    assert score_image("a", *maps, DepthScale.METRES, rules) is not None
    monkeypatch.setattr(image_score, "MAX_SCORED_PIXELS", 90)
    with refuses(ProtocolError, where="a", found="12x8", expected="90"):
        score_image("a", *maps, DepthScale.METRES, rules)


def test_the_number_of_poses_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.txt"
    path.write_text("".join(f"{time} 0 0 {time} 0 0 0 1\n" for time in range(20)))
    assert len(read_trajectory(path)) == 20
    monkeypatch.setattr(rows, "MAX_POSES", 9)
    with refuses(DataError, where="a.txt", found="20", expected="9"):
        read_trajectory(path)
