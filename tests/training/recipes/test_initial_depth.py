"""A training starts at the given depth within reach of the matches, else at their median, in one line."""

import copy
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from stadia.core.types import Recording
from stadia.data.open_dataset import open_recordings
from stadia.judge.recordings.recording_survey import RecordingSurvey, sample_depth
from stadia.networks.config import UnetConfig
from stadia.training.recipes.base import video_data
from stadia.training.recipes.base.video_data import MatchDepth, measure_match_depth, resolve_initial_depth


def resolve(monkeypatch: pytest.MonkeyPatch, depth_m: np.ndarray, **given: object) -> UnetConfig:
    monkeypatch.setattr(
        video_data, "measure_match_depth", lambda recordings, max_pairs=6: MatchDepth(depth_m, max_pairs)
    )
    return resolve_initial_depth(UnetConfig(**given), ["a pair"], Console(stderr=True))  # type: ignore[list-item,arg-type]


def test_the_start_is_the_median_of_the_matches(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = resolve(monkeypatch, np.linspace(2, 18.468, 101))
    assert (found.init_depth_m, found.min_depth_m, found.max_depth_m) == (10.2, 0.5, 100)
    assert capsys.readouterr().err == "initial depth: 10.2 m, the median of 101 matches\n"


@pytest.mark.parametrize("start_m", [4.1, 10.0, 35.9])
def test_a_given_start_within_reach_of_the_matches_is_kept(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], start_m: float
) -> None:
    assert resolve(monkeypatch, np.full(50, 12.0), init_depth_m=start_m).init_depth_m == start_m
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("start_m", [0.6, 3.9, 36.1, 99.0])
def test_a_given_start_out_of_reach_of_the_matches_is_moved_to_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], start_m: float
) -> None:
    assert resolve(monkeypatch, np.full(50, 12.0), init_depth_m=start_m).init_depth_m == 12
    line = (
        f"initial depth: 12 m, the median of 50 matches; model.network.init_depth_m={start_m:g} is out of their reach\n"
    )
    assert capsys.readouterr().err == line


# -- The depth of the matches.


@pytest.fixture
def recording(worlds: Path) -> Recording:
    return copy.copy(open_recordings(worlds)[0])


@pytest.mark.slow
def test_matches_have_the_depth_of_the_scene(recording: Recording) -> None:
    survey = RecordingSurvey(recording)
    pair = survey.match_pair(survey.anchors[0])
    true_m = survey.depth(pair.index)
    assert true_m is not None
    true_m, depth_m = sample_depth(true_m, pair.matches.first_px), survey.rig_depth(pair)
    known = (true_m > 0) & (depth_m > 0)
    assert known.sum() > 50
    assert np.median(np.abs(depth_m[known] / true_m[known] - 1)) < 0.02


@pytest.mark.slow
def test_twice_the_baseline_is_twice_the_depth_and_one_camera_has_none(recording: Recording) -> None:
    single = measure_match_depth([recording])
    assert recording.T_right_left is not None
    recording.T_right_left = recording.T_right_left.copy()
    recording.T_right_left[:3, 3] *= 2
    double = measure_match_depth([recording])
    assert (single.pairs, single.is_known) == (4, True)
    assert double.median_m == pytest.approx(2 * single.median_m)
    assert double.range_m == pytest.approx(2 * np.array(single.range_m))
    recording.sides, recording.T_right_left = ("left",), None
    mono = measure_match_depth([recording])
    assert (mono.pairs, mono.is_known, len(mono.depth_m)) == (0, False, 0)
