"""Depth in metres is not better than the measurement of its scale."""

from __future__ import annotations

import pytest

from stadia.core.types import DepthScale
from stadia.diagnostics.prediction_checks import TrainingRecord, Verdict
from stadia.diagnostics.prediction_checks.scale_verdict import check_scale_verdict
from stadia.recipes.prediction.verdict import PredictionGate


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
    assert "do not rely on lengths in metres of them (M38)" in gate.describe_trust()
