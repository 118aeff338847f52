"""Where fx and fx times baseline are off, one cure remains: that of fx, alone or first."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from mutations.mutated_recording import Mutated
from mutations.recordings import _times, _with_K

from stadia.core.recording import Recording
from stadia.datasets.open_dataset import open_recordings
from stadia.diagnostics.catalog import find_root_cause, make_finding
from stadia.diagnostics.finding import Finding, Severity
from stadia.diagnostics.preflight import preflight_runner
from stadia.diagnostics.preflight.preflight_runner import run_preflight
from stadia.diagnostics.preflight.recording_survey import RecordingSurvey
from stadia.diagnostics.preflight.scale_errors import explain_baseline_by_focal

STOP, WARN, NOTE = Severity.STOP, Severity.WARN, Severity.NOTE


def focal(factor: float, code: str = "K04", severity: Severity = WARN, **evidence: float) -> Finding:
    return make_finding(code, severity, "fx 358", "705 to 723", evidence={"focal_factor": factor, **evidence})


def baseline(factor: float, severity: Severity = STOP) -> Finding:
    evidence = {"factor": factor, "smallest_factor": factor / 1.03, "largest_factor": factor * 1.03}
    return make_finding("E03", severity, "fx times baseline", "1", evidence={**evidence, "baseline_m": 0.537})


def severities(found: list[Finding]) -> dict[str, Severity]:
    return {finding.code: finding.severity for finding in found}


@pytest.mark.parametrize("code", ["K04", "K06"])
def test_one_factor_has_one_cure(code: str) -> None:
    found = explain_baseline_by_focal([focal(0.5, code), baseline(0.49)])
    assert severities(found) == {code: STOP, "E03": NOTE}, "two measurements agree on fx"
    assert found[1].fix == f"correct fx as {code} describes, and leave the baseline of 0.537 m as it is"
    first = find_root_cause(found).first
    assert first is not None
    assert first.code == code


def test_two_factors_are_corrected_one_after_the_other() -> None:
    found = explain_baseline_by_focal([focal(0.5), baseline(0.44)])
    assert severities(found) == {"K04": WARN, "E03": STOP}
    assert found[1].fix.startswith("correct fx first, as K04 describes, and check again")
    assert "which is another factor" in found[1].cause


def test_fx_that_rotations_contradict_is_not_called_right() -> None:
    """Another camera may have the fields of view of KITTI by a wrong fx."""
    rig = baseline(1.44)
    rig = replace(rig, evidence={**rig.evidence, "is_focal_right": True})
    (found,) = explain_baseline_by_focal([focal(1.2, "K06", log_error=0.01), rig])[1:]
    assert found.cause == "fx is 1.20 times its true length (K06), which is another factor"


@pytest.mark.parametrize(("log_error", "is_settled"), [(0.0, True), (0.01, True), (0.02, False), (0.2, False)])
def test_a_baseline_is_right_only_where_fx_is_known_well(log_error: float, is_settled: bool) -> None:
    """Fx to 20 % leaves room for a baseline that is 14 % off."""
    rotations, rig = focal(1.75, "K06", log_error=log_error), baseline(1.75 if is_settled else 1.75 * 1.02)
    found = explain_baseline_by_focal([rotations, rig])
    assert severities(found) == ({"K06": STOP, "E03": NOTE} if is_settled else {"K06": WARN, "E03": STOP})
    assert ("the baseline is right" in found[1].cause) == is_settled
    if not is_settled:
        assert found[0] == rotations
        assert "that is not precise enough to judge the baseline" in found[1].cause
        assert found[1].fix.startswith("correct fx first, as K06 describes, and check again")


def test_one_rig_has_one_cure_in_all_of_its_recordings() -> None:
    """Rotations show fx in the drive that turns alone; lengths show fx times baseline in both."""
    straight, turns, other = baseline(0.49), baseline(0.5), baseline(0.44)
    rotations = [focal(0.5, "K06", log_error=error) for error in (0.1, 0.01)]
    found = explain_baseline_by_focal([straight, rotations[0], turns, rotations[1]])
    assert [finding.severity for finding in found] == [NOTE, STOP, NOTE, STOP], "by the most precise fx"
    assert found[0].fix == found[2].fix
    apart = explain_baseline_by_focal([straight, rotations[1], other])
    assert [finding.severity for finding in apart] == [STOP, WARN, STOP]
    assert {finding.fix.partition(",")[0] for finding in (apart[0], apart[2])} == {"correct fx first"}
    far = focal(0.8, "K06", log_error=0.02)
    assert explain_baseline_by_focal([turns, rotations[1], far])[2] == far, "that factor is another one"


def make_drive(recording: Recording, name: str, fx: float = 1.0, baseline: float = 1.0) -> Recording:
    """Return a drive whose rig has this many times the focal length and the baseline."""

    def scale(T: np.ndarray) -> np.ndarray:
        T[:3, 3] *= baseline
        return T

    drive = Mutated(recording, camera=_with_K(_times(fx, both=False)), rig=scale)
    drive.name = name
    return drive


@pytest.mark.slow
@pytest.mark.parametrize(("changed", "is_same_rig"), [({}, True), ({"fx": 1.1}, False), ({"baseline": 1.1}, False)])
def test_recordings_of_one_rig_are_settled_together(
    recording: Recording, monkeypatch: pytest.MonkeyPatch, changed: dict[str, float], is_same_rig: bool
) -> None:
    """A user who corrects the baseline by the report of the straight drive would spoil a right one."""

    def check(survey: RecordingSurvey, checks: object) -> list[Finding]:
        found = [baseline(1.2)] if survey.recording.name == "straight" else [focal(1.2, "K06"), baseline(1.2)]
        return [replace(finding, where=(survey.recording.name,)) for finding in found]

    monkeypatch.setattr(preflight_runner, "_check_recording", check)
    drives = [make_drive(recording, "straight"), make_drive(recording, "turns", **changed)]
    found = [finding for finding in run_preflight(drives, checks=[]) if finding.code == "E03"]
    assert {name: finding.severity for finding in found for name in finding.where} == {
        "straight": NOTE if is_same_rig else STOP,
        "turns": NOTE,
    }
    assert len(found) == (1 if is_same_rig else 2)


@pytest.mark.parametrize(
    "found", [[baseline(0.5)], [focal(0.5)], [focal(0.5), baseline(0.5, NOTE)], [make_finding("K04", WARN, "-", "-")]]
)
def test_other_findings_stay(found: list[Finding]) -> None:
    assert explain_baseline_by_focal(found) == found


@pytest.mark.real
def test_half_the_focal_length_of_kitti_leaves_its_baseline(real_data: Path) -> None:
    (drive,) = open_recordings(real_data / "kitti_odometry", recordings=["06"])

    halved = Mutated(drive, camera=_with_K(_times(0.5, both=False)))
    found = [finding for finding in run_preflight([halved], checks=["resize", "baseline"]) if finding.code[0] in "KE"]
    assert severities(found) == {"K04": STOP, "E03": NOTE}
    assert found[1].evidence["factor"] == pytest.approx(0.5, rel=0.05)


@pytest.mark.real
@pytest.mark.parametrize(("fx", "baseline", "is_baseline"), [(1.0, 1.33, True), (1.0, 1.7, True), (1.33, 1.0, False)])
def test_cause_follows_what_was_scaled(real_data: Path, fx: float, baseline: float, is_baseline: bool) -> None:
    """E03 named K_02 of KITTI for a baseline that is 1.33 times too long, although fx is the rectified one."""
    (drive,) = open_recordings(real_data / "kitti_odometry", recordings=["06"])
    found = run_preflight([make_drive(drive, "06", fx, baseline)], checks=["resize", "baseline"])
    (wrong,) = [finding for finding in found if finding.code == "E03"]
    assert ("the baseline is wrong" in wrong.cause) == is_baseline
    assert ("K04" in severities(found)) != is_baseline
