"""Three rulers: which one is blamed, by the pairs that disagree."""

from __future__ import annotations

import re
from types import SimpleNamespace

import numpy as np
import pytest

from stadia.diagnostics.preflight import scale_consistency
from stadia.diagnostics.preflight.scale_consistency import ScaleComparison, ScaleSource

RIG, POSES, DEPTH = ScaleSource.RIG, ScaleSource.POSES, ScaleSource.DEPTH
TRUE_SCALES = {RIG: 0.54, POSES: 10.0, DEPTH: 15.0}


def judge(
    monkeypatch: pytest.MonkeyPatch,
    scales: dict[ScaleSource, float],
    pairs: dict[tuple[ScaleSource, ScaleSource], float],
    log_error: float = 0.002,
):
    comparisons = [ScaleComparison(first, second, ratio, log_error, 6) for (first, second), ratio in pairs.items()]
    monkeypatch.setattr(scale_consistency, "measure_scales", lambda survey: scales)
    monkeypatch.setattr(scale_consistency, "compare_scales", lambda survey: comparisons)
    return scale_consistency.find_scale_errors(None)  # type: ignore[arg-type]


def all_pairs(rig: float = 1, poses: float = 1, depth: float = 1) -> dict[tuple[ScaleSource, ScaleSource], float]:
    """Ratios where each ruler is so many times too long."""
    return {(POSES, RIG): poses / rig, (POSES, DEPTH): poses / depth, (RIG, DEPTH): rig / depth}


def test_scale_sources_that_agree_are_correct(monkeypatch: pytest.MonkeyPatch) -> None:
    assert judge(monkeypatch, TRUE_SCALES, all_pairs(rig=1.01, depth=1.03)) == []


@pytest.mark.parametrize(
    ("wrong", "factor", "word"),
    [
        (RIG, 0.8833, "P3"),
        (RIG, 2.0, "twice as wide"),
        (RIG, 1.9406, "640 px"),
        (POSES, 100.0, "centimetres"),
        (DEPTH, 1 / 5.4, "5.4"),
        (DEPTH, 1 / 80, "80 m"),
        (DEPTH, 0.7, None),
    ],
)
def test_third_scale_source_decides(
    wrong: ScaleSource, factor: float, word: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = {RIG: "rig", POSES: "poses", DEPTH: "depth"}[wrong]
    scales = (
        {**TRUE_SCALES, POSES: 0.5} if wrong is POSES else TRUE_SCALES
    )  # 50 m/s in centimetres is not absurd by itself
    (verdict,) = judge(monkeypatch, scales, all_pairs(**{name: factor}))
    assert (verdict.source, verdict.severe, verdict.sure) == (wrong, True, True)
    assert verdict.factor == pytest.approx(factor)
    assert (word in (verdict.cause or "")) if word else verdict.cause is None


@pytest.mark.parametrize(
    ("pair", "ratio", "blamed", "word"),
    [
        ((POSES, RIG), 1 / 0.8833, RIG, "P3"),
        ((POSES, RIG), 100.0, POSES, "centimetres"),
        ((POSES, DEPTH), 5.4, DEPTH, "5.4"),
        ((POSES, DEPTH), 3.7, POSES, None),
        ((RIG, DEPTH), 1 / 256, DEPTH, "256"),
        ((RIG, DEPTH), 1.2, RIG, None),
        ((RIG, DEPTH), 3.3, DEPTH, None),
        ((POSES, RIG), 0.37, POSES, None),
    ],
)
def test_two_scale_sources_are_distinguished_by_the_factor(
    pair: tuple[ScaleSource, ScaleSource],
    ratio: float,
    blamed: ScaleSource,
    word: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (verdict,) = judge(monkeypatch, {source: TRUE_SCALES[source] for source in pair}, {pair: ratio})
    assert (verdict.source, verdict.sure) == (blamed, False)
    assert (word in (verdict.cause or "")) if word else verdict.cause is None


@pytest.mark.parametrize(
    ("source", "value"), [(RIG, 540.0), (RIG, 0.001), (POSES, 10_000.0), (DEPTH, 15_000.0), (DEPTH, 0.015)]
)
def test_absurd_scale_source_is_wrong_by_itself(
    source: ScaleSource, value: float, monkeypatch: pytest.MonkeyPatch
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
    error = scale_consistency.ScaleError(
        RIG, factor, True, False, None, None, value, (ScaleComparison(POSES, RIG, 1 / factor, log_error, 6),)
    )
    steps = SimpleNamespace(steps=[], measure_steps_between=list)
    monkeypatch.setattr(scale_consistency, "find_scale_errors", lambda survey: [error])
    (found,) = scale_consistency.check_scale(steps, RIG)  # type: ignore[arg-type]
    return found.fix


@pytest.mark.parametrize("factor", [0.5, 0.88, 1.117, 1.12])
def test_cure_of_a_wrong_baseline_is_an_interval_with_the_true_one(
    factor: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As measured on KITTI 06, where poses and calibrated rig differ by 0.6 %."""
    fix = interval_of(monkeypatch, factor * 1.006, factor * 0.5372)
    low, high = map(float, re.findall(r"([\d.]+) to ([\d.]+) m", fix)[0])
    assert low <= 0.5372 <= high
    assert high / low < 1.09
    assert not re.search(r"0\.5\d{3}", fix.split("not")[0]), "no digit that the measurement does not carry"


def test_noise_widens_the_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    low, high = map(float, re.findall(r"([\d.]+) to ([\d.]+) m", interval_of(monkeypatch, 1.2, 0.6, log_error=0.05))[0])
    assert low < 0.45
    assert high > 0.55


def test_half_a_baseline_is_undecided_between_baseline_and_fx(monkeypatch: pytest.MonkeyPatch) -> None:
    (verdict,) = judge(monkeypatch, {RIG: 0.27, POSES: 10.0}, {(POSES, RIG): 2.0})
    assert verdict.source is RIG
    assert (verdict.cause or "").startswith("undecided: the baseline is half the true one, or fx")


@pytest.mark.parametrize(
    ("width", "fx", "baseline_m", "is_found"),
    [(1226, 707.1, 0.2686, True), (1226, 707.1, 0.5372, False), (1226, 800.0, 0.2686, False), (640, 707.1, 0.1, False)],
)
def test_kitti_images_have_the_baseline_of_kitti(width: int, fx: float, baseline_m: float, is_found: bool) -> None:
    camera = SimpleNamespace(width=width, height=370, K=np.diag([fx, fx, 1.0]))
    T = np.eye(4)
    T[0, 3] = -baseline_m
    survey = SimpleNamespace(recording=SimpleNamespace(camera=lambda index: camera), anchors=(0,), T_right_left=T)
    found = scale_consistency.check_kitti_baseline(survey)  # type: ignore[arg-type]
    assert (found is not None and found.code == "E03") == is_found


def test_crooked_ground_truth_has_no_length() -> None:
    logs = np.zeros(100)
    assert scale_consistency.DepthProportionality(logs, 0.95, 0.03, 0.01).straight
    assert not scale_consistency.DepthProportionality(logs, -0.9, 0.03, 0.01).straight
    assert not scale_consistency.DepthProportionality(logs, 0.95, 0.3, 0.01).straight
    assert not scale_consistency.DepthProportionality(logs, 0.95, 0.03, -0.2).straight
