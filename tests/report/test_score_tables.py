"""Score files in the report: tables, distributions, paths, and what was fitted to the truth."""

import json

import pytest
from tests.report.conftest import build_page, build_words, make_scores, read_words, write_scores

from stadia.report.score_tables import make_image_scores, make_path_figures, order_scores


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


@pytest.mark.slow
def test_depth_of_two_ways_of_motion_is_one_column(make_run):
    """Test and test-network are of one checkpoint: the same depth, and two paths."""
    depth = make_scores()["depth-test"]
    scores = {"test": {**depth, "motion": "aligned"}, "test-network": {**depth, "motion": "network"}}
    page = build_page(write_scores(make_run(), scores))
    assert page.count("<strong>test, test-network</strong>") == 1
    assert "<strong>test</strong>" not in page
    assert read_words(page).count("AbsRel of each image") == 1


def test_a_runs_own_predictions_come_before_the_pose_network_and_baselines() -> None:
    scores = {
        "test-mean-depth": {"motion": "aligned", "checkpoint": "", "metrics": {"ate_m": 2.0}},
        "test-network": {"motion": "network", "checkpoint": "best", "metrics": {"ate_m": 1.0}},
        "test-refined": {"motion": "refined", "checkpoint": "best", "metrics": {"ate_m": 0.4}},
        "val": {"motion": "aligned", "checkpoint": "best", "metrics": {"ate_m": 0.5}},
    }
    assert list(order_scores(scores)) == ["test-refined", "val", "test-network", "test-mean-depth"]


def test_missed_objects_are_the_worst(make_run):
    def score(*entries: dict) -> dict:
        return {"images": 1, "metrics": {"objects": len(entries), "rotation_error_deg": 40.0}, "per_object": entries}

    hit = {"name": "a/1, mug 1", "missed": False, "rotation_error_deg": 40.0}
    (shown,) = make_image_scores({"val": json.loads(json.dumps(score(hit, {"name": "a/2, can 1", "missed": True})))})
    assert [name for name, _, _ in shown.worst] == ["a/2, can 1, missed", "a/1, mug 1"]
    assert shown.worst[0][1].startswith("180")
    assert shown.counted == "2 objects, 1 of them missed"
    none_found = score(*({"name": f"a/{i}, mug 1", "missed": True} for i in range(7)))
    words = build_words(write_scores(make_run(), {"val": none_found}))
    assert "7 objects, 7 of them missed" in words
    assert "a/0, mug 1, missed" in words


# -- Paths.


def make_path(length: float = 3.0, **facts: object) -> dict:
    """A path that ends as far ahead as the true one is long."""
    path = {"motion": "aligned", "path_estimated_m": [[0, 0], [0, 3]], "path_true_m": [[0, 0], [0, length]]}
    return {**path, "metrics": {"ate_rmse_m": 2.31}, **facts}


@pytest.mark.slow
def test_of_many_paths_the_worst_and_the_median_are_open(make_run):
    """Sorted by error over length: 0.1, 0.2, 0.3, 0.4, 0.6 of a path of 10 m."""
    scores = {
        f"test-{number}": make_path(
            6.0 + number, recording=f"world/{number}", metrics={"ate_rmse_m": error}, path_m=10.0
        )
        for number, error in enumerate((2.0, 6.0, 1.0, 3.0, 4.0))
    }
    figures = make_path_figures(scores)
    assert [(one.recording, one.place) for one in figures if one.is_open] == [
        ("world/1", "worst"),
        ("world/3", "median"),
    ]
    words = build_words(write_scores(make_run(), scores))
    assert "The worst and the median of" in words
    assert "3 more recordings" in words
    del scores["test-4"]
    assert all(figure.is_open and not figure.place for figure in make_path_figures(scores))


@pytest.mark.slow
def test_the_paths_of_a_recording_share_a_figure_with_a_legend(make_run):
    """The pose network and image alignment on one recording; a second recording of one method."""
    scores = {
        "odometry": make_path(recording="world/000", align="se3"),
        "test-network": make_path(recording="world/000", align="se3", motion="network", metrics={"ate_rmse_m": 7.5}),
        "test-other": make_path(4.0, recording="world/001", motion="network"),
    }
    first, second = make_path_figures(scores)
    assert (first.recording, second.recording) == ("world/000", "world/001")
    assert [(row.name, row.color, row.value) for row in first.charts[0].legend] == [
        ("image alignment", 0, "ATE 2.31 m"),
        ("pose network", 1, "ATE 7.50 m"),
        ("true path", "truth", ""),
    ]
    assert [(row.name, row.color) for row in second.charts[0].legend][:1] == [("pose network", 1)]
    page = build_page(write_scores(make_run(), scores))
    assert "Pose network: predicts the motion." in page
    assert "Image alignment: aligns neighboring images with the predicted depth." in page
    assert page.index('<section id="images">') < page.index('<section id="paths">')
    again = {name: make_path(motion="network") for name in ("odometry", "odometry-again")}
    (shared,) = make_path_figures(again)
    names = [row.name for row in shared.charts[0].legend]
    assert names == ["odometry", "odometry-again", "true path"], "two of one method have the names of their files"


@pytest.mark.slow
def test_each_figure_names_what_was_fitted_to_the_truth(make_run):
    """Above a path that is aligned by SE(3), the page said that nothing is fitted."""
    scores = {
        "depth": {"depth_scale": "metres", "alignment": "none", "metrics": {"abs_rel": 0.1}},
        "first": make_path(1.0, align="se3"),
        "second": make_path(2.0, align="se3"),
        "second-sim3": make_path(2.0, align="sim3"),
        "third": make_path(3.0, align="none"),
    }
    page = build_page(write_scores(make_run(without=("result.json",)), scores))
    assert "nothing is fitted" not in page
    assert "Depths are scored as predicted. Some of the scored paths are moved and turned onto the true path" in page
    first, second, third = make_path_figures(scores)
    assert first.aligned == ["Moved and turned onto the true path (se3)."]
    assert sorted(second.aligned) == [
        "second-sim3: moved, turned and scaled onto the true path (sim3).",
        "second: moved and turned onto the true path (se3).",
    ]
    assert third.aligned == ["As estimated, not aligned."]
    assert first.aligned[0] in page
