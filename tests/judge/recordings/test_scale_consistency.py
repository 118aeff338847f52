"""Three rulers: which one is blamed, by the pairs that disagree."""

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tests.mutations.mutated_recording import Mutated
from tests.mutations.recordings import _times, _with_K

from stadia.data.open_dataset import open_recordings
from stadia.judge.catalog import CATALOG, find_root_cause, make_finding
from stadia.judge.finding import Finding, Severity
from stadia.judge.recordings import scale_errors, stereo_checks
from stadia.judge.recordings.preflight_runner import run_preflight
from stadia.judge.recordings.scale_comparison import LengthSource, ScaleComparison
from stadia.judge.recordings.scale_errors import (
    ScaleError,
    explain_baseline_by_focal,
    find_known_mistake,
    is_baseline_alone_wrong,
    report_error,
)

RIG, POSES, DEPTH = LengthSource.RIG, LengthSource.POSES, LengthSource.DEPTH
TRUE_SCALES = {RIG: 0.54, POSES: 10.0, DEPTH: 15.0}


@pytest.fixture(autouse=True)
def unknown_focal(monkeypatch: pytest.MonkeyPatch) -> None:
    """These sources have no images, which would show whether fx is that of KITTI."""
    monkeypatch.setattr(scale_errors, "is_baseline_alone_wrong", lambda survey: False)


def judge(
    monkeypatch: pytest.MonkeyPatch,
    scales: dict[LengthSource, float],
    pairs: dict[tuple[LengthSource, LengthSource], float],
    log_error: float = 0.002,
):
    comparisons = [ScaleComparison(first, second, ratio, log_error, 6) for (first, second), ratio in pairs.items()]
    monkeypatch.setattr(scale_errors, "measure_scales", lambda survey: scales)
    return scale_errors.find_scale_errors(None, comparisons)  # type: ignore[arg-type]


def all_pairs(rig: float = 1, poses: float = 1, depth: float = 1) -> dict[tuple[LengthSource, LengthSource], float]:
    """Ratios where each ruler is so many times too long."""
    return {(POSES, RIG): poses / rig, (POSES, DEPTH): poses / depth, (RIG, DEPTH): rig / depth}


def test_scale_sources_that_agree_are_correct(monkeypatch: pytest.MonkeyPatch) -> None:
    assert judge(monkeypatch, TRUE_SCALES, all_pairs(rig=1.01, depth=1.03)) == []


@pytest.mark.parametrize(
    ("wrong", "factor", "mistake"),
    [
        (RIG, 0.8833, "P3_alone"),
        (RIG, 1.9406, "K_of_1242_at_640"),
        (POSES, 100.0, "centimetres"),
        (DEPTH, 1 / 5.4, "nominal_baseline_left"),
        (DEPTH, 0.7, ""),
    ],
)
def test_third_scale_source_decides(
    wrong: LengthSource, factor: float, mistake: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = {RIG: "rig", POSES: "poses", DEPTH: "depth"}[wrong]
    scales = (
        {**TRUE_SCALES, POSES: 0.5} if wrong is POSES else TRUE_SCALES
    )  # 50 m/s in centimetres is not absurd by itself
    (verdict,) = judge(monkeypatch, scales, all_pairs(**{name: factor}))
    assert (verdict.source, verdict.severe, verdict.sure) == (wrong, True, True)
    assert verdict.factor == pytest.approx(factor)
    assert verdict.mistake == mistake


@pytest.mark.parametrize(
    ("pair", "ratio", "blamed", "mistake"),
    [
        ((POSES, RIG), 1 / 0.8833, RIG, "P3_alone"),
        ((POSES, RIG), 100.0, POSES, "centimetres"),
        ((POSES, DEPTH), 2.3, POSES, ""),
        ((POSES, DEPTH), 3.7, DEPTH, "kitti_as_millimetres"),
        ((POSES, DEPTH), 1 / 3.5, DEPTH, "millimetres_as_kitti"),
        ((RIG, DEPTH), 1 / 256, DEPTH, "kitti_png"),
        ((RIG, DEPTH), 1.2, RIG, ""),
        ((RIG, DEPTH), 3.3, DEPTH, ""),
    ],
)
def test_two_scale_sources_are_distinguished_by_the_factor(
    pair: tuple[LengthSource, LengthSource],
    ratio: float,
    blamed: LengthSource,
    mistake: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (verdict,) = judge(monkeypatch, {source: TRUE_SCALES[source] for source in pair}, {pair: ratio})
    assert (verdict.source, verdict.sure, verdict.mistake) == (blamed, False, mistake)


@pytest.mark.parametrize(
    ("source", "value"), [(RIG, 540.0), (RIG, 0.0005), (POSES, 10_000.0), (DEPTH, 15_000.0), (DEPTH, 0.015)]
)
def test_absurd_scale_source_is_wrong_by_itself(
    source: LengthSource, value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    (verdict,) = judge(monkeypatch, {source: value}, {})
    assert (verdict.source, verdict.factor, verdict.sure) == (source, None, True)


def test_noise_is_no_disagreement_and_a_small_one_warns(monkeypatch: pytest.MonkeyPatch) -> None:
    assert judge(monkeypatch, TRUE_SCALES, {(POSES, RIG): 1.12}, log_error=0.05) == []
    (verdict,) = judge(monkeypatch, TRUE_SCALES, {(POSES, RIG): 1.06})
    assert not verdict.severe
    assert judge(monkeypatch, TRUE_SCALES, {(POSES, DEPTH): 1.12}) == []  # looser: neither is measured by the images


def interval_of(monkeypatch: pytest.MonkeyPatch, factor: float, value: float, *, log_error: float = 0.003) -> str:
    """The cure of a rig whose baseline is so many times too long by six steps."""
    against = (ScaleComparison(POSES, RIG, 1 / factor, log_error, 6),)
    error = ScaleError(RIG, factor, True, False, find_known_mistake(RIG, factor), value, against)
    steps = SimpleNamespace(steps=[], measure_steps_between=list)
    monkeypatch.setattr(scale_errors, "find_scale_errors", lambda survey, comparisons: [error])
    (found,) = scale_errors.check_scale(steps, RIG, [])  # type: ignore[arg-type]
    return found.fix


@pytest.mark.parametrize("factor", [0.5, 0.88, 1.117, 1.12])
def test_cure_of_a_wrong_baseline_is_an_interval_with_the_true_one(
    factor: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As measured on KITTI 06, where poses and calibrated rig differ by 0.6 %."""
    fix = interval_of(monkeypatch, factor * 1.006, factor * 0.5372)
    best, low, high = map(float, re.findall(r"it is ([\d.]+) m \(([\d.]+) to ([\d.]+) m\)", fix)[0])
    assert low <= 0.5372 <= high
    assert high / low < 1.09
    assert low < best < high
    assert best == pytest.approx(0.5372 / 1.006, abs=5e-4)
    assert not re.search(r"0\.5\d{3}", fix.split("not")[0]), "no digit that the measurement does not carry"


@pytest.mark.parametrize(("log_ratio", "log_error", "count"), [(0.14, 0.04, 2), (0.18, 0.045, 2), (0.2, 0.055, 3)])
def test_few_steps_do_not_stop_what_their_interval_holds(
    log_ratio: float, log_error: float, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two steps gave a stop about a baseline of 0.537 m, which was `0.37 to 0.54 m`."""
    monkeypatch.setattr(scale_errors, "measure_scales", lambda survey: {RIG: 0.537, POSES: 8.0})
    survey = SimpleNamespace(steps=[], measure_steps_between=list)
    for error, is_found in ((log_error, False), (0.001, True)):
        comparisons = [ScaleComparison(POSES, RIG, float(np.exp(-log_ratio)), error, count)]
        found = scale_errors.check_scale(survey, RIG, comparisons)  # type: ignore[arg-type]
        assert bool(found) == is_found


@pytest.mark.parametrize("factor", [0.7, 0.8833, 1.3302, 2.0])
def test_baseline_alone_is_wrong_where_fx_fits_the_images(monkeypatch: pytest.MonkeyPatch, factor: float) -> None:
    """A factor of fx, such as that of KITTI's K_02, is no cause then; a known mistake of the baseline still is."""
    monkeypatch.setattr(scale_errors, "is_baseline_alone_wrong", lambda survey: True)
    (error,) = judge(monkeypatch, {RIG: factor * 0.5372, POSES: 10.0}, {(POSES, RIG): 1 / factor})
    found = report_error(replace(error, interval=(factor / 1.03, factor * 1.03)))
    assert error.source is RIG
    assert found.cause == (
        CATALOG["E03"].cases["P3_alone"].cause if factor == 0.8833 else CATALOG["E03"].cases["baseline_alone"].cause
    )
    assert not re.search("K06|check fx|P_rect|if fx|K with", found.fix), found.fix
    assert re.search(r"it is 0\.537 m \(0\.52 to 0\.56 m\) if the poses are right", found.fix)


def survey_rig(width: int, height: int, fx: float, fy: float, baseline_m: float) -> Any:
    camera = SimpleNamespace(width=width, height=height, K=np.diag([fx, fy, 1.0]))
    T = np.eye(4)
    T[0, 3] = -baseline_m
    recording = SimpleNamespace(camera=lambda index, side="left": camera)
    return SimpleNamespace(recording=recording, anchors=(0,), T_right_left=T, stereo=True)


@pytest.mark.parametrize(
    ("width", "height", "fx", "fy", "baseline_m", "is_alone"),
    [
        (1226, 370, 707.1, 707.1, 0.7146, True),
        (640, 192, 371.8, 369.4, 0.7146, True),
        (1226, 370, 707.1 * 1.33, 707.1 * 1.33, 0.7146, False),
        (1226, 370, 707.1, 707.1, 0.5372, False),
        (640, 480, 500.0, 500.0, 0.7146, False),
    ],
)
def test_scaling_fx_does_not_leave_the_cause_at_the_baseline(
    width: int, height: int, fx: float, fy: float, baseline_m: float, is_alone: bool
) -> None:
    survey = survey_rig(width, height, fx, fy, baseline_m)
    assert is_baseline_alone_wrong(survey) == is_alone


@pytest.mark.parametrize(
    ("width", "height", "fx", "fy", "baseline_m", "is_found"),
    [
        (1226, 370, 707.1, 707.1, 0.2686, True),
        (640, 192, 371.8, 369.4, 0.2686, True),
        (1226, 370, 707.1, 707.1, 0.5372, False),
        (640, 480, 371.8, 371.8, 0.1, False),
    ],
)
def test_kitti_images_have_the_baseline_of_kitti_at_any_size(
    width: int, height: int, fx: float, fy: float, baseline_m: float, is_found: bool
) -> None:
    found = stereo_checks._check_kitti_baseline(survey_rig(width, height, fx, fy, baseline_m))
    assert (found is not None and found.code == "E03") == is_found


@pytest.mark.parametrize(
    ("baseline", "cause", "fix"),
    [
        (537.0, "looks like millimetres", "divide it by 1000 (0.537 m)"),
        (53.7, "millimetres or centimetres", "by 100 (0.537 m)"),
    ],
)
def test_a_baseline_in_another_unit_is_named_by_its_value(
    monkeypatch: pytest.MonkeyPatch, baseline: float, cause: str, fix: str
) -> None:
    found = report_error(*judge(monkeypatch, {RIG: baseline}, {}))
    assert cause in found.cause
    assert fix in found.fix


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
    (drive,) = open_recordings(real_data / "kitti_odometry", recordings=["06"], frames=(0, 25))
    halved = Mutated(drive, camera=_with_K(_times(0.5, both=False)))
    found = [finding for finding in run_preflight([halved], checks=["resize", "baseline"]) if finding.code[0] in "KE"]
    assert severities(found) == {"K04": STOP, "E03": NOTE}
    assert found[1].evidence["factor"] == pytest.approx(0.5, rel=0.05)
