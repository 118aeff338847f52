"""Three rulers: which one is blamed, by the pairs that disagree."""

from __future__ import annotations

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


def test_crooked_ground_truth_has_no_length() -> None:
    logs = np.zeros(100)
    assert scale_consistency.DepthProportionality(logs, 0.95, 0.03, 0.01).straight
    assert not scale_consistency.DepthProportionality(logs, -0.9, 0.03, 0.01).straight
    assert not scale_consistency.DepthProportionality(logs, 0.95, 0.3, 0.01).straight
    assert not scale_consistency.DepthProportionality(logs, 0.95, 0.03, -0.2).straight
