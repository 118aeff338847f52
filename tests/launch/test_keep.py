"""Which network is kept, as laws: no improvement keeps the old one, a clear one the new, a contradiction the old."""

import math
from dataclasses import replace

import numpy as np
import pytest

from stadia.launch.keep import MEASURES, DepthErrors, choose_network

FRAMES = 20


def make_errors(seed: int = 0) -> DepthErrors:
    random = np.random.default_rng(seed)
    return DepthErrors(**{name: tuple(random.uniform(0.1, 0.9, FRAMES).tolist()) for name in MEASURES})


def scale(errors: DepthErrors, factor: float, *names: str) -> DepthErrors:
    chosen = {name: tuple(factor * value for value in getattr(errors, name)) for name in names or MEASURES}
    return replace(errors, **chosen)


def test_the_same_network_is_kept_as_it_was() -> None:
    decision = choose_network(make_errors(), make_errors())
    assert decision.kept == "before"
    assert not any(change.is_better or change.is_worse for change in decision.changes)


def test_a_network_that_is_better_everywhere_is_kept() -> None:
    before = make_errors()
    assert choose_network(before, scale(before, 0.9)).kept == "after"
    assert choose_network(scale(before, 0.9), before).kept == "before"


@pytest.mark.parametrize("name", list(MEASURES))
def test_any_measure_decides_alone(name: str) -> None:
    before = DepthErrors(**{name: getattr(make_errors(), name)})
    assert choose_network(before, scale(before, 0.9, name)).kept == "after"


def test_measures_that_contradict_each_other_keep_the_old_network() -> None:
    before = replace(make_errors(), abs_rel=(), stereo_difference=())
    after = scale(scale(before, 0.34, "point_error"), 1.11, "match_error")
    decision = choose_network(before, after)
    assert decision.kept == "before"
    assert [(change.name, change.is_better, change.is_worse) for change in decision.changes] == [
        ("point_error", True, False),
        ("match_error", False, True),
    ]


def test_a_deciding_error_that_rises_keeps_the_old_network() -> None:
    before = make_errors()
    assert choose_network(before, scale(scale(before, 0.5), 2.2, "abs_rel")).kept == "before"


def test_a_change_within_its_scatter_is_none() -> None:
    before = DepthErrors(match_error=(0.5,) * FRAMES)
    factors = [0.5, 2.0] * (FRAMES // 2 - 1) + [0.5, 0.5]
    after = DepthErrors(match_error=tuple(0.5 * factor for factor in factors))
    (change,) = choose_network(before, after).changes
    assert change.change < 0 < change.scatter
    assert choose_network(before, after).kept == "before"


def test_the_unit_of_an_error_does_not_matter() -> None:
    before, after = make_errors(), scale(make_errors(), 0.97)
    tens = [choose_network(scale(before, factor), scale(after, factor)).changes[0].change for factor in (1.0, 10.0)]
    assert tens[0] == pytest.approx(tens[1])
    assert tens[0] == pytest.approx(math.log(0.97))


def test_frames_that_one_network_lacks_are_left_out_of_both() -> None:
    before = DepthErrors(match_error=(0.5, math.nan, 0.4, 9.0))
    after = DepthErrors(match_error=(0.4, 0.1, 0.3, math.nan))
    (change,) = choose_network(before, after).changes
    assert (change.before, change.after) == (pytest.approx(0.45), pytest.approx(0.35))


@pytest.mark.parametrize("errors", [(), (math.nan,), (0.2,)])
def test_too_little_is_no_reason_to_change(errors: tuple[float, ...]) -> None:
    after = DepthErrors(match_error=tuple(value / 9 for value in errors))
    assert choose_network(DepthErrors(match_error=errors), after).kept == "before"
