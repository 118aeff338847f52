"""Comparison of runs with known differences."""

import json

import pytest

from stadia.report.run_comparison import _split_panels, compare_runs, diff_patches, draw_comparison, write_comparison
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


@pytest.mark.parametrize(
    ("minutes", "shown"),
    [
        ((1.3295943915000377, 2.572190143603296), ("1.32959", "2.57219")),
        ((1.3295943915000377, 1.3295943915010377), None),
        ((1.5, 20.0), ("1.5", "20.0")),
    ],
)
def test_long_numbers_are_rounded_where_they_still_differ(make_run, minutes, shown):
    first, second = (
        read_run(make_run(f"2026-03-0{day}-100000-a", config=BASE | {"training": {"max_minutes": limit}}))
        for day, limit in enumerate(minutes, 1)
    )
    ((_, (change,)),) = compare_runs(first, second).groups
    assert (change.before, change.now) == (shown or tuple(map(str, minutes)))


def test_patches_differ_by_their_lines():
    one, other = PATCH.format("a", 1), PATCH.format("a", 2)
    assert diff_patches(one, one) == []
    assert [change.key for change in diff_patches(one + PATCH.format("b", 1), other)] == [
        "src/stadia/a.py",
        "src/stadia/b.py",
    ]
    many = "".join(PATCH.format(f"f{k}", 1) for k in range(20))
    assert diff_patches("", many)[-1].key == "8 more files"


def test_comparison_of_two_runs(three):
    text = write_comparison(read_run(three[0]), read_run(three[1]))
    assert text.index("optimizer.lr") < text.index("val/abs_rel")  # differences first
    assert "| val/abs_rel | ↓ | 0." in text
    assert "initial weights" not in text
    assert "keys differ" not in text  # the number of workers is no key that matters
    assert "One run each" in text


def test_comparison_lists_cautions(three):
    text = write_comparison(read_run(three[0]), read_run(three[2]))
    assert "initial weights" in text
    assert "data differ" in text
    assert "starts from 2026-03-02-100000-b." in write_comparison(read_run(three[1]), read_run(three[2]))
    edited(three[1], "config.json", optimizer={"lr": 1, "name": "sgd"})
    assert "2 keys differ" in write_comparison(read_run(three[0]), read_run(three[1]))


def test_different_losses_get_separate_panels(three):
    a, b = (read_run(edited(folder, "config.json", loss={"weight": k})) for k, folder in enumerate(three[:2]))
    assert "(loss.weight)" in write_comparison(a, b)
    assert "Their losses" not in write_comparison(a, a)
    loss, error = (next(s for s in a.series if s.name == name) for name in ("train/loss", "val/abs_rel"))
    assert [[number for number, _ in curves] for _, curves in _split_panels(loss, loss, apart=True)] == [[0], [1]]
    assert [[number for number, _ in curves] for _, curves in _split_panels(error, error, apart=True)] == [[0, 1]]
    ((title, _),) = _split_panels(error, error, apart=False)
    assert title.endswith("(the same in both)")


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
