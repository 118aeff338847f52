"""Folders of predictions and files to score that somebody prepared: links, locks, names, kills and sizes."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.refusals import refuses

from stadia.core.errors import DataError, StadiaError
from stadia.data.frame_preparation import read_frames
from stadia.evaluation.predictions_folder import Predictions, PredictionsRecord, Provenance, write_predictions
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
