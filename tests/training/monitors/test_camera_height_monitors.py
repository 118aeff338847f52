"""Metric scale from heights: findings of masks (H01 to H05, H16, H21) and of a training (H06 to H15, T07), right and
broken data.
"""

import math

import pytest
from tests.mutations.masks import MUTATIONS, check_masks_of, drive

from stadia.judge.depth.training_rules import HEIGHT_RULES, Rule, rename_base_values
from stadia.judge.finding import Finding, Severity
from stadia.training.monitors.persistence import FROM_STEP, ROWS, PersistentRule
from stadia.training.monitors.training_monitor import CameraHeightMonitor, check_drift, check_epoch
from stadia.training.recipes.metric.camera_heights import EpochEstimate


def test_correct_masks_have_no_findings(tmp_path):
    assert check_masks_of(drive(tmp_path)) == []


@pytest.mark.parametrize(("change", "frames", "codes", "words"), MUTATIONS.values(), ids=MUTATIONS)
def test_unusable_masks_are_reported_with_their_frames(change, frames, codes, words, tmp_path):
    found = check_masks_of(drive(tmp_path, change, frames=frames), objects=("car", "bus"))
    assert {finding.code for finding in found} == codes
    assert any(words in finding.measured for finding in found), [finding.measured for finding in found]
    for finding in found:
        assert finding.where == ("drive",)
        assert finding.fix
        assert set(finding.evidence.get("frames", {"frame": []})["frame"]) <= {100 + index for index in frames}


# -- while it trains


def test_drifting_camera_height_is_reported():
    rising = [1.65 * 1.02**epoch for epoch in range(6)]
    (found,) = check_drift({"roof": [math.nan, *rising], "bonnet": [1.2] * 7})
    assert (found.code, found.where) == ("H08", ("roof",))
    assert "from 1.65 m to 1.82 m, +2.0% an epoch" in found.measured
    assert check_drift({"roof": rising[:5]}) == [], "five steps are asked for"
    assert check_drift({"roof": [1.65, 1.7, 1.66, 1.75, 1.8, 1.85]}) == [], "it went back once"
    assert check_drift({"roof": [1.65 * 1.005**epoch for epoch in range(9)]}) == []


def test_depth_that_keeps_a_scale_of_its_own():
    def run_monitor(values: list[float]) -> list[Finding]:
        monitor = CameraHeightMonitor()
        off = "train/metric/off_camera_height"
        rows = [monitor.on_row(FROM_STEP + 10 * number, {off: value}) for number, value in enumerate(values)]
        return [found for found in rows if found]

    (found, *_) = run_monitor([0.5] * 25)
    assert (found.code, found.evidence["step"]) == ("H09", FROM_STEP + 190)
    assert f"{math.exp(0.5):.2f} times the known one" in found.measured
    assert run_monitor([0.5] * 19 + [0.1] + [-0.5] * 19) == [], "never twenty in a row"
    assert run_monitor([math.nan, 0.1] * 20) == []
    assert CameraHeightMonitor().on_row(1, {"val/abs_rel": 0.5}) is None


BAD = {"H10": 0.01, "H18": 0.3, "H11": -0.25, "H12": 0.01, "H13": 0.2, "H14": 0.6, "H15": 0.1, "T07": 0.8}
GOOD = {"H10": 0.3, "H18": 0.6, "H11": 0.15, "H12": 0.05, "H13": 0.05, "H14": 0.4, "H15": 0.01, "T07": 0.6}


@pytest.mark.parametrize("rule", HEIGHT_RULES, ids=lambda rule: rule.code)
@pytest.mark.parametrize("of", ["train/{}", "train/selfsup/{}"])
def test_persistent_values_are_reported_only(rule: Rule, of: str) -> None:
    def run_monitor(values: list[float], first: int = FROM_STEP) -> list[Finding]:
        monitor = PersistentRule(rule)
        rows = [
            monitor.on_row(first + 10 * number, rename_base_values({of.format(rule.name): value}, "selfsup"))
            for number, value in enumerate(values)
        ]
        return [found for found in rows if found]

    bad, good = BAD[rule.code], GOOD[rule.code]
    (found,) = run_monitor([bad] * ROWS)
    assert found.code == rule.code
    assert run_monitor([good] * 50) == []
    assert run_monitor(([bad] * (ROWS - 1) + [good]) * 3) == [], "never twenty in a row"
    assert run_monitor(([bad] * (ROWS - 1) + [math.nan]) * 3) == []
    assert run_monitor([bad] * ROWS, first=FROM_STEP - 10) == [], "a start is anything"
    assert PersistentRule(rule).on_row(FROM_STEP, {"val/abs_rel": 0.1}) is None


@pytest.mark.parametrize(("known_m", "severity"), [(1.7, Severity.NOTE), (math.nan, Severity.WARN)])
def test_epoch_without_a_camera_height_warns(known_m: float, severity: Severity) -> None:
    refused = EpochEstimate(math.nan, 0, 40, 0.0, math.nan, math.nan, refused="two ways to a height part by 20 %")
    (found,) = check_epoch(2, {"roof": refused}, first_epoch=1, known_m={"roof": known_m})
    assert (found.code, found.severity) == ("H06", severity)
    assert ("1.70 m, known before, is used" in found.measured) == (severity is Severity.NOTE)
