"""Depth of the matches of stereo pairs is that of the scene, in the unit of the baseline."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from stadia.core.recording import Recording
from stadia.diagnostics.preflight.match_depth import MatchDepth, measure_match_depth
from stadia.diagnostics.preflight.recording_survey import RecordingSurvey, sample_depth


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
def test_twice_the_baseline_is_twice_the_depth(recording: Recording) -> None:
    wide = copy.copy(recording)
    assert recording.T_right_left is not None
    wide.T_right_left = recording.T_right_left.copy()
    wide.T_right_left[:3, 3] *= 2
    one, two = measure_match_depth([recording]), measure_match_depth([wide])
    assert (one.pairs, one.is_known) == (5, True)
    assert two.median_m == pytest.approx(2 * one.median_m)
    assert two.range_m == pytest.approx(2 * np.array(one.range_m))


def test_pairs_are_spread_over_the_recordings(recording: Recording) -> None:
    assert measure_match_depth([recording] * 4).pairs == 8
    assert measure_match_depth([recording] * 20).pairs == 6


def test_one_camera_has_no_depth(recording: Recording) -> None:
    mono = copy.copy(recording)
    mono.sides, mono.T_right_left = ("left",), None
    found = measure_match_depth([mono])
    assert (found.pairs, found.is_known, len(found.depth_m)) == (0, False, 0)
    assert not MatchDepth(np.ones(29), 6).is_known
