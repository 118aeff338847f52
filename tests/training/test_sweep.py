"""`stadia sweep`, with trainings that are a few lines of Python."""

import sqlite3
import sys
from types import SimpleNamespace

import pytest
from tests.refusals import refuses

from stadia.core.errors import ConfigError, ConfigMistakes
from stadia.training.studies import sweep as sweep_module
from stadia.training.studies.launch import Job
from stadia.training.studies.study_metric import choose_metric
from stadia.training.studies.sweep import SearchRange, Sweep, rank_keys, read_space

pytestmark = pytest.mark.slow  # its fixtures train or compile

pytest.importorskip("optuna")

import sqlalchemy  # noqa: E402


@sqlalchemy.event.listens_for(sqlalchemy.Engine, "connect")
def leave_writing_to_the_system(connection, _):
    """Each commit of SQLite would wait for the disk; other tests of this process use other databases."""
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA synchronous = OFF")


PROGRAM = """
import json, pathlib, signal, sys, time
signal.signal(signal.SIGINT, signal.SIG_IGN)  # as what a script starts in the background
config = json.loads(pathlib.Path(sys.argv[1]).read_text())
is_resumed = sys.argv[2] == "--resume"
folder = pathlib.Path(sys.argv[1 if is_resumed else 2])
folder = folder.parent if is_resumed else folder / f"2026-01-01-000000-{config['name']}"
folder.mkdir(parents=True, exist_ok=True)
(folder / "config.json").write_text(json.dumps(config))
facts = {"name": config["name"], "recipe": "selfsup", "seed": 0, "status": "finished", "started": "2026-01-01T00:00:00"}
facts |= {"command": "", "version": "", "code": {}, "environment": {}, "data": {}}
(folder / "run.json").write_text(json.dumps(facts))
bad = abs(config["x"] - 3)
text = f"step,{config.get('column', 'val/abs_rel')}\\n"
for step in (1, 2):
    text += f"{step},{bad + 1 / step}\\n"
(folder / "metrics.csv").write_text(text)
if config["x"] > 90:
    print("a trial that is far off is given up"); time.sleep(600); (folder / "waited").touch()
if config["x"] < 0:
    print("stadia: x is below 0")
if config.get("disk") and not is_resumed:
    print("stadia: last.safetensors: found a full disk; expected free space")
sys.exit(config["x"] < 0 or ("disk" in config and not is_resumed))
"""
SPACE = {"x": SearchRange(low=0.0, high=10.0), "y": SearchRange(low=0.0, high=1.0)}


def resolve(words):
    pairs = dict(word.split("=") for word in words)
    return {"name": pairs["name"], "x": float(pairs["x"])}


def list_words(job):
    """Return the configuration, and the folder of runs or --resume."""
    if job.words[1] == "--resume":
        return f"{job.words[2]}/config.json", "--resume"
    return job.words[3], job.words[5]


def set_up(patch):
    """Let trials train by PROGRAM, and let a heartbeat be stale soon."""
    patch.setattr(Job, "command", property(lambda job: [sys.executable, "-S", "-c", PROGRAM, *list_words(job)]))
    for name, seconds in (("POLL_S", 0.05), ("HEARTBEAT_S", 1), ("GRACE_S", 2)):
        patch.setattr(sweep_module, name, seconds)


@pytest.fixture
def sweep(tmp_path, monkeypatch):
    set_up(monkeypatch)
    return lambda **changes: Sweep(
        **{
            "folder": tmp_path / "sweep",
            "recipe": "selfsup",
            "base": (),
            "space": {"x": SPACE["x"]},
            "metric": "val/abs_rel",
            "better": "lower",
        }
        | changes
    )


def list_states(trials):
    return [(trial.number, trial.state.name) for trial in trials]


def test_a_search_finds_what_is_good_and_goes_on(sweep):
    ended = []
    study = sweep().run(6, resolve, ended.append)
    assert [trial.number for trial in ended] == list(range(6))
    assert study.best_value == pytest.approx(min(abs(trial.params["x"] - 3) for trial in ended) + 0.5)
    again = []
    study = sweep().run(8, resolve, again.append)
    assert [trial.number for trial in again] == [6, 7]
    assert len({trial.params["x"] for trial in study.trials}) == 8  # the sampler does not begin anew
    assert sweep().run(8, resolve, again.append).best_value == study.best_value
    assert len(again) == 2
    assert rank_keys(study) == {}, "too few trials"


def test_a_trial_that_lags_behind_is_given_up(sweep):
    search, ended = sweep(space={"x": SearchRange(low=0.0, high=100.0)}), []
    search.run(6, lambda words: resolve(words) | {"x": min(resolve(words)["x"], 80)}, lambda trial: None)
    search.run(7, lambda words: resolve(words) | {"x": 95}, ended.append)
    assert list_states(ended) == [(6, "PRUNED")]
    assert not list(search.folder.glob("runs/*/waited")), "its process was stopped"


@pytest.mark.parametrize(
    ("metric", "column", "expected"),
    [("val/d1", "val/abs_rel", "one of val/abs_rel"), ("val/abs_rel", "train/loss", "validation frames")],
)
def test_a_metric_without_a_value_stops_the_search_at_its_first_trial(sweep, tmp_path, metric, column, expected):
    """As depth scores of a video without ground truth: all trials would be trained, and fail without a reason."""
    with refuses(ConfigError, where="--metric", found=metric, expected=expected):
        sweep(metric=metric).run(3, lambda words: resolve(words) | {"column": column}, lambda trial: None)
    assert list_states(sweep(metric=metric).open_study().trials) == [(0, "FAIL")]
    if column.startswith("val/"):
        search = sweep(metric=column, folder=tmp_path / "another")
        assert search.run(1, lambda words: resolve(words) | {"column": column}, lambda trial: None).best_value > 0


def refuse_small(words):
    if (x := resolve(words)["x"]) < 5:
        raise ConfigMistakes([ConfigError("x", found=f"{x}, which goes with no y", expected="another")])
    return resolve(words)


def test_invalid_combination_is_reported_and_search_continues(sweep):
    ended = []
    study = sweep(space={"x": SearchRange(low=0, high=9)}).run(8, refuse_small, ended.append)
    states = [trial.state.name for trial in ended]
    assert len(ended) == len(study.trials) == 8
    assert {"FAIL", "COMPLETE"} <= set(states)
    assert all((trial.state.name == "FAIL") == (trial.params["x"] < 5) for trial in ended)
    assert ended[states.index("FAIL")].user_attrs["why"].count("goes with no y")


def test_what_is_searched_for_is_known_before_the_first_trial(stadia, monkeypatch):
    best = {"supervised": ("val/abs_rel",), "metric": ()}
    monkeypatch.setattr("stadia.training.recipes.RECIPES.load", lambda name: SimpleNamespace(best_metrics=best[name]))
    assert choose_metric("supervised", None, None) == (("val/abs_rel",), "lower")
    assert choose_metric("supervised", "val/d1", None) == (("val/d1",), "higher")
    for recipe, metric, better in (
        ("metric", None, None),
        ("supervised", None, "higher"),
        ("supervised", "val/d1", "lower"),
        ("supervised", "val/rmsee", "lower"),
    ):
        with pytest.raises(ConfigError):
            choose_metric(recipe, metric, better)
    code, _, err = stadia("sweep", "supervised", "--metric", "train/loss", "--better", "lower")
    assert (code, "train/loss" in err) == (2, True)


@pytest.mark.parametrize(
    "text",
    [
        "x: {low: 2, high: 1}",
        "x: {low: 0, high: 1, log: true}",
        "x: {low: -.inf, high: 1}",
        "x: {low: -1.0e+308, high: 1.0e+308}",
        "x: {choices: []}",
        "x: {lo: 1}",
        "{}",
    ],
)
def test_ranges_that_are_none_are_refused(tmp_path, text):
    (tmp_path / "space.yaml").write_text(text)
    with refuses(ConfigMistakes, where="space"):
        read_space(tmp_path / "space.yaml")
