"""Three rulers: which one is blamed, by the pairs that disagree."""

from __future__ import annotations

import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from stadia.diagnostics.catalog import CATALOG
from stadia.diagnostics.preflight import scale_errors, stereo_checks
from stadia.diagnostics.preflight.scale_consistency import LengthSource, ScaleComparison
from stadia.diagnostics.preflight.scale_errors import (
    ScaleError,
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
    camera = SimpleNamespace(width=width, height=height, K=np.diag([fx, fy, 1.0]))
    T = np.eye(4)
    T[0, 3] = -baseline_m
    recording = SimpleNamespace(camera=lambda index, side: camera)
    survey = SimpleNamespace(recording=recording, anchors=(0,), T_right_left=T, stereo=True)
    assert is_baseline_alone_wrong(survey) == is_alone  # type: ignore[arg-type]


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
    camera = SimpleNamespace(width=width, height=height, K=np.diag([fx, fy, 1.0]))
    T = np.eye(4)
    T[0, 3] = -baseline_m
    survey = SimpleNamespace(recording=SimpleNamespace(camera=lambda index: camera), anchors=(0,), T_right_left=T)
    found = stereo_checks._check_kitti_baseline(survey)  # type: ignore[arg-type]
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
