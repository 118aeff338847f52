"""One order of verdicts, and limits that are read from one table."""

from dataclasses import fields

import pytest

from stadia.core.verdict import Verdict, find_worst
from stadia.geometry.scale_fit import ScaleFit
from stadia.judge import limits
from stadia.judge.depth import FrameMeasurements, PointMeasurements, TrainingRecord
from stadia.judge.depth.training_record import RECIPE_TERMS
from stadia.judge.limits import (
    DEPTH_LIMITS,
    MAP_CAMERA_LIMITS,
    MAP_LIMITS,
    PANORAMA_LIMITS,
    POINT_LIMITS,
    SCALE_LIMITS,
    TRAINING_LIMITS,
    above,
    below,
)
from stadia.judge.map_verdict import MapEvidence
from stadia.judge.scale_verdict import judge_scale
from stadia.losses import SPARSE_DEPTH_LOSSES
from stadia.sfm.panorama_map import PanoramaEvidence


def test_the_order_hides_neither_a_fault_nor_a_missing_check() -> None:
    assert sorted(Verdict, key=lambda verdict: verdict.rank) == ["usable", "not judged", "doubtful", "unusable"]
    for one in Verdict:
        assert not one.is_worse_than(one)
        for other in Verdict:
            assert find_worst([one, other]) in (one, other)
            assert not find_worst([one, other]).rank < max(one.rank, other.rank)


@pytest.mark.parametrize(
    ("evidence", "table"),
    [
        (MapEvidence, MAP_LIMITS | MAP_CAMERA_LIMITS),
        (PanoramaEvidence, PANORAMA_LIMITS),
        (ScaleFit, SCALE_LIMITS),
        (FrameMeasurements, DEPTH_LIMITS),
        (PointMeasurements, POINT_LIMITS),
        (TrainingRecord, TRAINING_LIMITS),
    ],
)
def test_a_limit_names_a_field_of_its_evidence(evidence: type, table: dict[str, limits.Limit]) -> None:
    known = {field.name for field in fields(evidence)} | set(dir(evidence))
    assert table.keys() <= known


def test_every_limit_has_a_reason_a_source_and_bounds_in_order() -> None:
    tables = [table for name, table in vars(limits).items() if name.endswith("_LIMITS")]
    assert len(tables) >= 5
    for limit in (limit for table in tables for limit in table.values()):
        assert limit.reason
        assert limit.source
        bounds = limit.bounds.values
        assert bounds
        if {Verdict.DOUBTFUL, Verdict.UNUSABLE} <= bounds.keys():
            assert (limit.doubtful < limit.unusable) is limit.bounds.is_upper


def test_a_bound_itself_is_within_the_limit() -> None:
    for bounds, better, worse in ((above(doubtful=1, unusable=2), -1, 1), (below(doubtful=-1, unusable=-2), 1, -1)):
        sign = worse
        assert bounds.judge(sign * 1) is Verdict.USABLE
        assert bounds.judge(sign * 2) is Verdict.DOUBTFUL
        assert bounds.judge(sign * 2.1) is Verdict.UNUSABLE
        assert bounds.judge(better) is Verdict.USABLE
    assert above(unusable=1).judge(float("nan")) is Verdict.USABLE


@pytest.mark.parametrize(
    ("deviation", "inliers", "verdict"),
    [
        (0.02, 1.0, "usable"),
        (0.2, 1.0, "usable"),
        (0.3, 1.0, "doubtful"),
        (0.6, 1.0, "unusable"),
        (0.02, 0.4, "doubtful"),
    ],
)
def test_a_scale_is_judged_by_deviation_and_inliers(deviation: float, inliers: float, verdict: str) -> None:
    assert judge_scale(ScaleFit(2.0, deviation, 0.1, inliers, 9, 3)) == verdict


def test_terms_of_supervised_depth_are_known_to_the_verdict() -> None:
    """The table of losses needs PyTorch, so the verdict lists their names again."""
    assert {*RECIPE_TERMS["supervised"]} == {*SPARSE_DEPTH_LOSSES, "teacher"}
