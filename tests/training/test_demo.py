"""Output of the demo: all numbers that there are, and `none` for a path that there is not."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from stadia.cli.demo import _print_demo_scores
from stadia.evaluation.depth_score import DepthScore
from stadia.evaluation.recording_scores import RecordingScores, score_trajectory
from stadia.io.records.trajectory import Trajectory
from stadia.metrics.trajectory_metrics import PathAlignment
from stadia.training.demo import summarize_demo

pytestmark = pytest.mark.slow  # its fixtures train or compile

DEPTH = SimpleNamespace(
    depth_scale="metres",
    protocol="metric",
    metrics={"abs_rel": 0.2, "rmse": 4.0, "d1": 0.7},
    scale_ratio_median=1.0,
    scale_ratio_spread=0.1,
)


def evaluation(drift_by_world: Mapping[str, float]) -> RecordingScores:
    """Paths of 10 m, which leave the truth sideways by so much at their middle."""
    true = np.tile(np.eye(4), (11, 1, 1))
    true[:, 2, 3] = np.arange(11)
    paths = {}
    for name, drift_m in drift_by_world.items():
        estimated = true.copy()
        estimated[5, 0, 3] = drift_m
        paths[name] = score_trajectory(Trajectory(estimated), Trajectory(true), PathAlignment.NONE)
    depth = cast(DepthScore, SimpleNamespace(**vars(DEPTH), per_image=[0] * 4))
    return RecordingScores(depth, paths)


def summary(scores: Mapping[str, float], network: Mapping[str, float], baseline: Mapping[str, float]) -> dict[str, Any]:
    return summarize_demo(evaluation(scores), evaluation(network), evaluation(baseline), wall_s=60, peak_rss_mb=1000)


def test_the_worst_world_speaks(capsys: pytest.CaptureFixture[str]) -> None:
    drifts = {"test-000": 0.5, "test-001": 2.0}
    result = summary(drifts, {"test-000": 4.0, "test-001": 1.0}, {name: drift / 2 for name, drift in drifts.items()})
    odometry = result["odometry"]
    assert (odometry["recording"], odometry["path_m"]) == ("test-001", 10)
    assert odometry["ate_m"] == pytest.approx(2 / 11**0.5)
    assert odometry["worst_ate_over_path"] == pytest.approx(0.2 / 11**0.5)
    assert odometry["worst_ate_over_path_network"] == pytest.approx(0.4 / 11**0.5), "each way by its own worst world"
    _print_demo_scores(result)
    assert "6.0%, 12.1% by the pose network alone, 3.0% by the mean depth" in " ".join(capsys.readouterr().out.split())
