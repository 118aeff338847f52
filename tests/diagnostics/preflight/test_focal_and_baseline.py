"""Where fx and fx times baseline are off, one cure remains: that of fx, alone or first."""

from __future__ import annotations

from pathlib import Path

import pytest
from mutations.mutated_recording import Mutated
from mutations.recordings import _times, _with_K

from stadia.datasets.open_dataset import open_recordings
from stadia.diagnostics.catalog import find_root_cause, make_finding
from stadia.diagnostics.finding import Finding, Severity
from stadia.diagnostics.preflight.focal_and_baseline import explain_baseline_by_focal
from stadia.diagnostics.preflight.preflight_runner import run_preflight

STOP, WARN, NOTE = Severity.STOP, Severity.WARN, Severity.NOTE


def focal(factor: float, code: str = "K04", severity: Severity = WARN, **evidence: float) -> Finding:
    return make_finding(code, severity, "fx 358", "705 to 723", evidence={"focal_factor": factor, **evidence})


def baseline(factor: float, severity: Severity = STOP) -> Finding:
    evidence = {"factor": factor, "smallest_factor": factor / 1.03, "largest_factor": factor * 1.03}
    return make_finding("E03", severity, "fx times baseline", "1", evidence={**evidence, "baseline_m": 0.537})


def severities(found: list[Finding]) -> dict[str, Severity]:
    return {one.code: one.severity for one in found}


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
    wide = explain_baseline_by_focal([focal(0.5, "K06", log_error=0.15), baseline(0.44)])
    assert severities(wide)["E03"] is NOTE, "within what rotations measure"


@pytest.mark.parametrize(
    "found", [[baseline(0.5)], [focal(0.5)], [focal(0.5), baseline(0.5, NOTE)], [make_finding("K04", WARN, "-", "-")]]
)
def test_other_findings_stay(found: list[Finding]) -> None:
    assert explain_baseline_by_focal(found) == found


@pytest.mark.real
def test_half_the_focal_length_of_kitti_leaves_its_baseline(real_data: Path) -> None:
    (drive,) = open_recordings(real_data / "kitti_odometry", recordings=["06"])

    halved = Mutated(drive, camera=_with_K(_times(0.5, both=False)))
    found = [one for one in run_preflight([halved], checks=["resize", "baseline"]) if one.code[0] in "KE"]
    assert severities(found) == {"K04": STOP, "E03": NOTE}
    assert found[1].evidence["factor"] == pytest.approx(0.5, rel=0.05)
