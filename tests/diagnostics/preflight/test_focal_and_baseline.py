"""Where fx and fx times baseline are off, one cure remains: that of fx, alone or first."""

from __future__ import annotations

from pathlib import Path

import pytest
from mutations.mutated_recording import Mutated
from mutations.recordings import _times, _with_K

from stadia.datasets.open_dataset import open_recordings
from stadia.diagnostics.catalog import find_root_cause, make_finding
from stadia.diagnostics.finding import Finding, Severity
from stadia.diagnostics.preflight.preflight_runner import run_preflight
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
    assert code in found[1].fix
    assert "0.537 m" in found[1].fix
    first = find_root_cause(found).first
    assert first is not None
    assert first.code == code


@pytest.mark.parametrize(("log_error", "is_settled"), [(0.0, True), (0.01, True), (0.02, False), (0.2, False)])
def test_a_baseline_is_right_only_where_fx_is_known_well(log_error: float, is_settled: bool) -> None:
    """Fx to 20 % leaves room for a baseline that is 14 % off."""
    rotations, rig = focal(1.75, "K06", log_error=log_error), baseline(1.75 if is_settled else 1.75 * 1.02)
    found = explain_baseline_by_focal([rotations, rig])
    assert severities(found) == ({"K06": STOP, "E03": NOTE} if is_settled else {"K06": WARN, "E03": STOP})
    assert ("the baseline is right" in found[1].cause) == is_settled
    if not is_settled:
        assert found[0] == rotations
        assert "K06" in found[1].cause
        assert "K06" in found[1].fix


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
