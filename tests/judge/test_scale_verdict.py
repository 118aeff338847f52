"""Depth in metres is not better than the measurement of its scale."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from stadia.core.types import DepthScale
from stadia.core.verdict import Verdict
from stadia.geometry.cameras import FocalEstimate
from stadia.geometry.scale_fit import fit_scale, fuse_scales
from stadia.judge.depth import TrainingRecord
from stadia.judge.depth.prediction_verdict import (
    check_focal_estimates,
    find_overall_verdict,
    judge_measurements,
    propagate_findings,
)
from stadia.judge.questions import Question, QuestionVerdict
from stadia.judge.scale_verdict import check_scale_verdict
from stadia.predict.describe import verdict_lines
from stadia.predict.verdict import PredictionGate
from stadia.scale.scale_receipt import ScaleReceipt


def test_a_usable_scale_has_no_finding():
    assert check_scale_verdict("usable", "height=1.5", 0.04) == []


@pytest.mark.parametrize(
    ("verdict", "expected", "trust"),
    [
        ("doubtful", Verdict.DOUBTFUL, "a standard deviation of 14 %"),
        ("unusable", Verdict.UNUSABLE, "Do not rely on their lengths in metres"),
    ],
)
def test_metres_are_not_better_than_their_scale(verdict: str, expected: Verdict, trust: str):
    gate = PredictionGate(DepthScale.METRES, TrainingRecord(is_published=True))
    gate.of_scale += check_scale_verdict(verdict, "height=1.23", 0.143)
    judged = gate.judge()
    assert judged.verdict is expected
    (finding,) = judged.findings
    assert finding.code == "M38"
    assert "height=1.23" in finding.measured
    assert "14.3%" in finding.measured
    assert trust in gate.describe_trust()


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"deviation": 0.143}, "5%"),
        ({"deviation": 0.02, "inliers": 0.4}, "50%"),
        ({"deviation": 0.02, "is_contradicted": True}, "agree"),
    ],
    ids=["deviation", "inliers", "contradiction"],
)
def test_the_finding_states_the_limit_that_the_scale_misses(facts: dict[str, Any], expected: str):
    """A scale of +- 2 % whose measurements disagree does not miss the limit of 5 %."""
    (finding,) = check_scale_verdict(Verdict.DOUBTFUL, "height=1.5", **facts)
    assert expected in finding.expected


def make_verdicts(**verdicts: Verdict) -> dict[Question, QuestionVerdict]:
    usable = {question: QuestionVerdict(Verdict.USABLE, "-") for question in Question}
    return usable | {Question(name): QuestionVerdict(verdict, "-") for name, verdict in verdicts.items()}


@pytest.mark.parametrize("verdict", [Verdict.DOUBTFUL, Verdict.UNUSABLE])
def test_metres_are_no_better_than_depth_and_camera_and_nothing_else_is_worsened(verdict: Verdict):
    for cause in ("depth", "camera"):
        completed = propagate_findings(make_verdicts(**{cause: verdict}), [])
        assert completed[Question.SCALE].verdict is verdict
        assert completed[Question.SCALE].reason != "-"
        assert completed[Question.PATH].verdict is Verdict.USABLE
    for cause in ("scale", "path"):
        completed = propagate_findings(make_verdicts(**{cause: verdict}), [])
        assert completed[Question.DEPTH].verdict is Verdict.USABLE
        assert completed[Question.CAMERA].verdict is Verdict.USABLE
    unknown = propagate_findings(make_verdicts(depth=verdict, scale=Verdict.NOT_JUDGED), [])
    assert unknown[Question.SCALE].verdict is Verdict.NOT_JUDGED, "there are no metres"


def test_learned_metres_of_a_video_need_a_depth_that_is_judged():
    """Metres that a source measured are right whatever the matches show."""
    verdicts = make_verdicts(depth=Verdict.NOT_JUDGED)
    assert propagate_findings(verdicts, [])[Question.SCALE].verdict is Verdict.USABLE
    learned = propagate_findings(verdicts, [], has_learned_metres=True)
    assert learned[Question.SCALE].verdict is Verdict.NOT_JUDGED
    doubtful = make_verdicts(depth=Verdict.NOT_JUDGED, scale=Verdict.DOUBTFUL)
    assert propagate_findings(doubtful, [], has_learned_metres=True) == doubtful
    scale = {Question.SCALE: QuestionVerdict(Verdict.USABLE, "-")}
    judged = judge_measurements(None, TrainingRecord(), verdicts=scale, has_learned_metres=True)
    assert judged.verdicts[Question.SCALE].verdict is Verdict.NOT_JUDGED


def test_a_doubtful_scale_does_not_condemn_the_depth():
    gate = PredictionGate(DepthScale.METRES, TrainingRecord(is_published=True))
    gate.of_scale += check_scale_verdict("unusable", "height=1.23", 0.143)
    judged = gate.judge()
    assert judged.verdict is Verdict.UNUSABLE, "a length was asked for"
    assert judged.verdicts[Question.DEPTH].verdict is Verdict.NOT_JUDGED
    questions = gate.to_json()["questions"]
    assert list(questions) == [str(question) for question in Question]
    assert all(set(entry) == {"verdict", "reason", "basis"} and entry["reason"] for entry in questions.values())
    lines = list(verdict_lines(gate.to_json()))
    for question, entry in questions.items():
        assert any(line.startswith(f"  {question}: {entry['verdict']}") for line in lines)
    older = {name: value for name, value in gate.to_json().items() if name != "questions"}
    assert len(list(verdict_lines(older))) == len(lines) - len(questions)


def test_a_question_that_was_not_asked_does_not_count():
    verdicts = make_verdicts(path=Verdict.UNUSABLE)
    assert find_overall_verdict(verdicts, {Question.DEPTH}) is Verdict.USABLE
    assert find_overall_verdict(verdicts, {Question.DEPTH, Question.PATH}) is Verdict.UNUSABLE
    unknown = make_verdicts(path=Verdict.NOT_JUDGED)
    assert find_overall_verdict(unknown, {Question.DEPTH, Question.PATH}) is Verdict.NOT_JUDGED, "it is not hidden"
    assert (
        find_overall_verdict(unknown | {Question.DEPTH: QuestionVerdict(Verdict.DOUBTFUL, "-")}, Question)
        is Verdict.DOUBTFUL
    )


def test_with_a_map_the_fix_is_no_map():
    without, beside = (
        check_scale_verdict("doubtful", "height=1.5", 0.1, has_map=has_map)[0] for has_map in (False, True)
    )
    assert "stadia map VIDEO" in without.fix
    assert "stadia map" not in beside.fix
    assert "stadia adapt" in beside.fix
    (photo,) = check_scale_verdict("doubtful", "height=1.5", 0.1, is_photo=True)
    assert "stadia map" not in photo.fix


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


@pytest.mark.parametrize("ratio", [1.3, 2.0, 1 / 1.3, 0.5])
def test_a_wrong_focal_length_is_named_with_both(ratio: float) -> None:
    (finding,) = check_focal_estimates(0.58 * ratio, [FocalEstimate(0.58, "the network")])
    assert finding.code == "K31"
    assert finding.evidence["ratio"] == pytest.approx(ratio)
    assert "is given" in finding.measured
    assert "the network gives 82 degrees (0.58)" in finding.measured


def test_a_right_focal_length_is_not_named() -> None:
    for ratio in (1.0, 1.1, 1 / 1.1):
        assert check_focal_estimates(0.58 * ratio, [FocalEstimate(0.58, "the network")]) == []
    assert check_focal_estimates(0.8, [FocalEstimate(0.58, "a noisy source", 0.2)]) == []
    assert check_focal_estimates(None, [FocalEstimate(0.58, "the network")]) == []


def test_the_verdict_is_doubtful() -> None:
    judged = judge_measurements(None, TrainingRecord(), focal=1.2, focal_estimates=[FocalEstimate(0.58, "the network")])
    assert judged.verdict is Verdict.DOUBTFUL
    assert [finding.code for finding in judged.findings] == ["K31"]


def make_receipt(by_baseline: float, by_poses: float, *, growing: tuple[str, ...] = ("baseline",)) -> ScaleReceipt:
    fits = {
        name: fit_scale([(np.ones(1), np.full(1, factor))] * 5, systematic=0.02)
        for name, factor in (("baseline", by_baseline), ("gps", by_poses))
    }
    return ScaleReceipt(fits, {}, fuse_scales(fits), growing, 1.3 * 0.58)


def test_two_sources_of_scale_tell_the_focal_length() -> None:
    estimate = make_receipt(1.3 * 0.1, 0.1).find_focal()
    assert estimate is not None
    assert estimate.focal == pytest.approx(0.58)
    assert estimate.source == "the ratio of baseline and gps"
    assert [finding.code for finding in check_focal_estimates(1.3 * 0.58, [estimate])] == ["K31"]


def test_errors_of_the_network_cancel_image_by_image() -> None:
    """The factor differs by a half between images, for both sources alike."""
    images = dict(enumerate((0.1, 0.15, 0.08, 0.12)))
    receipt = replace(
        make_receipt(0.13, 0.1), by_image={"baseline": {n: 1.3 * factor for n, factor in images.items()}, "gps": images}
    )
    estimate = receipt.find_focal()
    assert estimate is not None
    assert (estimate.focal, estimate.deviation) == (pytest.approx(0.58), pytest.approx(0, abs=1e-6))


def test_sources_of_one_kind_tell_none() -> None:
    assert make_receipt(0.13, 0.1, growing=()).find_focal() is None
