"""Score files in the report: tables, distributions, paths, and what was fitted to the truth."""

from tests.report.conftest import build_words, write_scores

from stadia.report.score_tables import order_scores


def test_score_files_of_every_form(make_run):
    """Grouped and flat metrics, notes, and numbers that could not be computed."""
    flat = {"ate_rmse_m": 0.5, "t_err_percent": None, "align": "se3", "scale": 1.0, "poses": 50, "path_m": 120.0}
    grouped = {
        "protocol": "relative",
        "depth_scale": "up-to-scale",
        "alignment": "median",
        "metrics": {"abs_rel": 0.1},
        "scale_ratio_median": 30.1,
        "notes": ["2 images have no truth"],
    }
    words = build_words(write_scores(make_run(), {"val-odometry": flat, "val-depth": grouped}))
    assert "aligned by se3, 50 poses" in words
    assert "t_err ↓ –" in words
    assert "protocol relative, up to scale, aligned by median" in words
    assert "Scale ratio, median 30.1" in words  # no arrow: up to scale, it has no right value
    assert "2 images have no truth" in words


def test_many_score_files_are_rows_with_merged_notes(make_run):
    scores = {
        f"test-{i}": {
            "ate_rmse_m": 0.5 + i,
            "t_err_percent": None,
            "path_m": 20.0 + i,
            "align": "sim3",
            "notes": [f"t_err needs a path longer than 100 m; the reference has {20 + i}.0 m"],
        }
        for i in range(5)
    }
    words = build_words(write_scores(make_run(), scores))
    assert "aligned by sim3 ATE ↓ Path test-0 0.500 m 20.0 m test-1 1.50 m 21.0 m" in words
    assert words.count("t_err") == 1
    assert "the reference has 20.0 m (and 4 more)" in words


def test_a_runs_own_predictions_come_before_the_pose_network_and_baselines() -> None:
    scores = {
        "test-mean-depth": {"motion": "aligned", "checkpoint": "", "metrics": {"ate_m": 2.0}},
        "test-network": {"motion": "network", "checkpoint": "best", "metrics": {"ate_m": 1.0}},
        "test-refined": {"motion": "refined", "checkpoint": "best", "metrics": {"ate_m": 0.4}},
        "val": {"motion": "aligned", "checkpoint": "best", "metrics": {"ate_m": 0.5}},
    }
    assert list(order_scores(scores)) == ["test-refined", "val", "test-network", "test-mean-depth"]


# -- Paths.


def make_path(length: float = 3.0, **facts: object) -> dict:
    """A path that ends as far ahead as the true one is long."""
    path = {"motion": "aligned", "path_estimated_m": [[0, 0], [0, 3]], "path_true_m": [[0, 0], [0, length]]}
    return {**path, "metrics": {"ate_rmse_m": 2.31}, **facts}
