"""How good a run is, in sentences and key numbers, and whether its training converged."""

import numpy as np
import pytest
from tests.report.conftest import build_words, write_scores

from stadia.report.quality_summary import make_verdict, measure_late_decrease
from stadia.report.run_files import Series, read_run

DEPTH = {"depth_scale": "metres", "alignment": "none", "checkpoint": "best.safetensors, step 60"}


@pytest.mark.parametrize(
    ("metrics", "ratio", "expected"),
    [
        ({"d1": 0.0}, 0.096, ["0% of the pixels", "sizes are wrong", "0.0960 times"]),
        ({"d1": 0.93}, 1.02, ["test: 93% of the pixels are within a quarter of the true depth."]),
    ],
)
def test_quality_is_described_by_scores(make_run, metrics, ratio, expected):
    folder = make_run(without=("scores", "result.json"), run={"depth_scale": "metres"})
    write_scores(folder, {"test": {**DEPTH, "metrics": metrics, "scale_ratio_median": ratio}})
    quality = build_words(folder).partition("Pictures")[0]
    assert all(sentence in quality for sentence in expected), quality
    assert ("sizes are wrong" in quality) == (ratio < 1)


@pytest.mark.parametrize(
    ("run", "severity", "word"),
    [
        ({"predictions": "usable"}, "warn", "usable"),
        ({"predictions": "doubtful"}, "warn", "doubtful"),
        ({"predictions": "usable"}, "stop", "unusable"),
        ({"predictions": None}, "note", "not judged"),
        ({"predictions": "usable", "status": "failed"}, "note", "failed"),
        ({"predictions": None, "status": "running"}, "note", "training"),
    ],
)
def test_a_run_has_one_verdict(make_run, run, severity, word):
    folder = make_run(run=run, findings=[{"code": "K03", "severity": severity, "stage": "training"}])
    assert make_verdict(read_run(folder)).word == word


@pytest.mark.parametrize(
    ("ratio", "sentence"),
    [
        (0.96, "explain 4%"),
        (0.3, "explain 70%"),
        (1.84, "explain nothing: warping makes the residual 1.84 times"),
        (-1, ""),
        ("a", ""),
    ],
)
def test_the_residual_is_that_of_the_verdict(make_run, ratio, sentence):
    """The validation's residual counts masked pixels as unwarped ones, and is never above them: it is no share."""
    facts = {"depth_scale": "up-to-scale", "judged": {"steps": 60, "warped_over_unwarped": ratio}}
    folder = make_run(without=("scores", "result.json"), run=facts)
    (folder / "metrics.csv").write_text("step,epoch,val/residual,val/residual_unwarped\n60,1,0.03,0.048\n")
    words = build_words(folder)
    assert sentence in words
    assert bool(sentence) == ("Depth and motion" in words)
    assert "37%" not in words
    assert "Depth was not scored" in words


# -- Convergence.

STEPS = list(range(0, 2000, 20))


def make_series(values: np.ndarray, name: str = "val/abs_rel") -> Series:
    return Series(name, STEPS, values.tolist())


def test_no_decrease_for_rising_constant_or_short_series() -> None:
    assert measure_late_decrease(make_series(0.2 + np.array(STEPS) * 1e-5)) is None
    assert measure_late_decrease(make_series(np.full(len(STEPS), 0.2))) is None
    assert measure_late_decrease(Series("val/abs_rel", [0, 500, 1000], [0.5, 0.4, 0.3])) is None
    assert measure_late_decrease(Series("val/abs_rel", [], [])) is None


# -- Key numbers.
