"""Comparison of runs with known differences."""

import json

import pytest

from stadia.report.run_comparison import draw_comparison, write_comparison
from stadia.report.run_files import read_run

PATCH = (
    "diff --git a/src/stadia/{0}.py b/src/stadia/{0}.py\n--- a/src/stadia/{0}.py\n+++ b/src/stadia/{0}.py\n@@ -1 +1"
    " @@\n-a = 1\n+a = {1}\n"
)
BASE = {"optimizer": {"lr": 1e-3}, "training": {"workers": 1}, "start_from": None, "seed": 0}


def edited(folder, name, **changes):
    values = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps(values | changes))
    return folder


@pytest.fixture
def three(make_run):
    """The second has another rate, code and number of workers; the third other data, another package and another start
    than the second.
    """
    first = make_run("2026-03-01-100000-a", run={"started": "2026-03-01T10:00:00+00:00"}, config=BASE)
    second = make_run(
        "2026-03-02-100000-b",
        run={"started": "2026-03-02T10:00:00+00:00", "code": {"commit": "9d8e7f6", "dirty": True}},
        config=BASE | {"optimizer": {"lr": 3e-4}, "training": {"workers": 4}},
    )
    (second / "diff.patch").write_text(PATCH.format("losses", 2))
    third = make_run(
        "2026-03-03-100000-c",
        run={
            "started": "2026-03-03T10:00:00+00:00",
            "code": {"commit": "9d8e7f6", "dirty": True},
            "data": {"fingerprint": "ffff0000"},
            "environment": {"python": "3.11.9", "cores": 2, "packages": {"torch": "2.14.0"}},
            "status": "failed",
            "error": "RunError: the loss is not finite",
        },
        config=BASE | {"optimizer": {"lr": 3e-4}, "training": {"workers": 4}, "start_from": str(second)},
        findings=[],
    )
    (third / "diff.patch").write_text(PATCH.format("losses", 2))
    return [first, second, third]


def test_runs_that_lost_files_are_named(three):
    """Without metrics.csv a finished run was said to have 0 steps, without run.json to have ended as None."""
    edited(three[0], "config.json", training={"loggers": ["csv"]})
    (three[0] / "metrics.csv").unlink()
    (three[1] / "run.json").unlink()
    first, second = map(read_run, three[:2])
    comparison = write_comparison(first, second)
    assert "- 2026-03-01-100000-a: metrics.csv is missing, although the run has a checkpoint." in comparison
    assert "- 2026-03-02-100000-b: run.json is missing, although every run has one." in comparison
    assert "2026-03-02-100000-b: 299 steps, ended without a reason (killed, or still running)." in comparison


def test_comparison_of_two_runs(three):
    text = write_comparison(read_run(three[0]), read_run(three[1]))
    assert text.index("optimizer.lr") < text.index("val/abs_rel")  # differences first
    assert "| val/abs_rel | ↓ | 0." in text
    assert "initial weights" not in text
    assert "keys differ" not in text  # the number of workers is no key that matters
    assert "One run each" in text


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".svg", ".png"])
def test_comparison_plot_is_written(three, tmp_path, suffix):
    assert draw_comparison(read_run(three[0]), read_run(three[1]), tmp_path / f"x{suffix}")
    assert (tmp_path / f"x{suffix}").read_bytes()[:5] in (b"<?xml", b"\x89PNG\r")


@pytest.mark.slow
def test_compare_command(three, stadia, tmp_path):
    code, out, _ = stadia("compare", three[0], three[1], "--plot", tmp_path / "x.svg")
    assert (code, "plot: " in out) == (0, True)
    code, _, error = stadia("compare", three[0], three[1], "--plot", tmp_path / "x.txt")
    assert (code, "expected .svg or .png" in error) == (2, True)
