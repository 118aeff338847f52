"""Depth in metres is not better than the measurement of its scale."""

from __future__ import annotations

from dataclasses import replace

import pytest

from stadia.core.types import DepthScale
from stadia.diagnostics.prediction_checks import TrainingRecord, Verdict
from stadia.diagnostics.prediction_checks.metric_checks import check_scale_verdict
from stadia.predict.describe import verdict_lines
from stadia.predict.verdict import PredictionGate


def test_a_usable_scale_has_no_finding():
    assert check_scale_verdict("usable", "height=1.5", 0.04) == []


@pytest.mark.parametrize(("verdict", "expected"), [("doubtful", Verdict.DOUBTFUL), ("unusable", Verdict.UNUSABLE)])
def test_metres_are_not_better_than_their_scale(verdict: str, expected: Verdict):
    gate = PredictionGate(DepthScale.METRES, TrainingRecord(is_published=True))
    gate.of_scale += check_scale_verdict(verdict, "height=1.23", 0.143)
    judged = gate.judge()
    assert judged.verdict is expected
    (finding,) = judged.findings
    assert finding.code == "M38"
    assert "height=1.23" in finding.measured
    assert "14.3%" in finding.measured
    assert "their lengths in metres (M38)" in gate.describe_trust()


def test_with_a_map_the_fix_is_no_map():
    without, beside = (
        check_scale_verdict("doubtful", "height=1.5", 0.1, has_map=has_map)[0] for has_map in (False, True)
    )
    assert "stadia map VIDEO" in without.fix
    assert "stadia map" not in beside.fix
    assert "stadia adapt" in beside.fix


def test_the_path_of_a_map_stays_where_depth_is_doubtful():
    gate = PredictionGate(DepthScale.METRES, TrainingRecord(is_published=True))
    gate.of_scale += check_scale_verdict("doubtful", "height=1.23", 0.143)
    gate.of_scale += [replace(gate.of_scale[0], code="M35")]
    assert "their depth, ratios or path" in gate.describe_trust()
    gate.has_own_path = True
    trust = gate.describe_trust()
    assert "their depth or ratios" in trust


def test_a_fix_is_printed_once():
    gate = PredictionGate(DepthScale.METRES, TrainingRecord(is_published=True))
    (finding,) = check_scale_verdict("doubtful", "height=1.23", 0.143)
    checks = {**gate.to_json(), "findings": [{**finding.to_dict(), "code": code} for code in ("M35", "M36")]}
    fixes = [line.strip() for line in verdict_lines(checks) if line.strip().startswith("fix:")]
    assert fixes == [f"fix: {finding.fix}", "fix: as for M35"]
