"""Where the time went, and where the images grew: in the report of a run whose run.json says so."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from stadia import report
from stadia.report import figures
from stadia.report.training_plots import summarize_time

TIME = {
    "device": "cuda", "steps": 300, "wall_s": 200.0,
    "phases_s": {"forward": 100.0, "backward": 80.0, "loading": 19.0, "other": 0.6, "images": 0.4},
    "step_s": {"forward": 0.33, "backward": 0.26, "loading": 0.06},
    "flops_per_s": {"step": 4e12}, "peak_flops_per_s": 1e13, "of_peak": {"forward": 0.5, "step": 0.4},
}  # fmt: skip


def test_the_bar_is_as_long_as_the_whole() -> None:
    spent = summarize_time(TIME)
    assert spent is not None
    assert [phase.name for phase in spent.phases] == ["forward", "backward", "loading", "the rest"]
    assert sum(phase.width for phase in spent.phases) == pytest.approx(figures.WIDTH)
    assert [phase.left for phase in spent.phases[1:]] == pytest.approx([p.left + p.width for p in spent.phases[:-1]])
    first = spent.phases[0]
    assert (first.share, first.seconds, first.step, first.of_peak) == ("50.0%", "1 min 40 s", "330 ms", "50%")
    assert spent.about.startswith("300 steps in 3 min 20 s, without setup and teardown; the phases cover 100.0% of it.")
    assert "1e+04 GFLOP/s here when the training ended, of which a step reaches 40%" in spent.about
    on_cpu = summarize_time(TIME | {"device": "cpu", "threads": 2})
    assert on_cpu is not None
    assert "GFLOP/s here on 2 threads when" in on_cpu.about


def test_every_phase_has_a_color_of_its_own_and_no_column_is_empty() -> None:
    spent = summarize_time({"wall_s": 12.0, "phases_s": {f"phase {n}": 1.0 for n in range(12)}})
    assert spent is not None
    assert [phase.color for phase in spent.phases] == list(range(figures.PALETTE_SIZE))
    assert (spent.phases[-1].name, spent.phases[-1].share) == ("the rest", "41.7%")
    assert not spent.has_peak


@pytest.mark.parametrize("found", [None, [], {}, {"phases_s": {"a": "b"}}, {"phases_s": {"a": 0.0}}, {"phases_s": 3}])
def test_a_run_without_an_account(found: Any) -> None:
    assert summarize_time(found) is None


def test_both_stand_in_the_report(make_run: Any) -> None:
    folder: Path = make_run()
    plain = report.build_report(folder).read_text()
    assert 'id="time"' not in plain
    assert '<line class="mark"' not in plain
    facts = json.loads((folder / "run.json").read_text())
    stages = [
        {"height": 32, "width": 96, "first_step": 1},
        {"height": 64, "width": 192, "first_step": 150},
        {"height": 64},
    ]
    (folder / "run.json").write_text(json.dumps(facts | {"time": TIME, "stages": stages}))
    text = report.build_report(folder).read_text()
    assert 'id="time"' in text
    first, *_, last = re.findall(r'<line class="mark" x1="([\d.]+)"', text)
    assert figures.LEFT <= float(first) < float(last) < figures.WIDTH - figures.RIGHT
    assert "192x64</text>" in text
    assert "phases_s" not in text, "told once"
