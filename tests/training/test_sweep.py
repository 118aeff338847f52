"""`stadia sweep`, with trainings that are a few lines of Python."""

import sqlite3
import sys
from types import SimpleNamespace

import pytest
from tests.refusals import refuses

from stadia.core.errors import ConfigError, ConfigMistakes, RunError, StadiaError
from stadia.training.studies import sweep as sweep_module
from stadia.training.studies.launch import Job
from stadia.training.studies.study_metric import choose_metric
from stadia.training.studies.sweep import SearchRange, Sweep, confirm_command, rank_keys, read_space

pytestmark = pytest.mark.slow  # its fixtures train or compile

pytest.importorskip("optuna")

import sqlalchemy  # noqa: E402
from optuna.storages import _heartbeat  # noqa: E402


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


class Killed(BaseException):
    """Ends a search as kill -9 does: nothing is written after it."""


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


def test_failed_trial_is_reported_and_not_counted(sweep):
    ended = []
    sweep().run(1, lambda words: resolve(words) | {"x": -1}, ended.append)
    assert list_states(ended) == [(0, "FAIL")]
    assert ended[0].user_attrs["why"] == "x is below 0"


@pytest.mark.parametrize(
    ("metric", "column", "expected"),
    [("val/d1", "val/abs_rel", "one of val/abs_rel"), ("val/abs_rel", "train/loss", "validation frames")],
)
def test_a_metric_without_a_value_stops_the_search_at_its_first_trial(sweep, metric, column, expected):
    """As depth scores of a video without ground truth: all trials would be trained, and fail without a reason."""
    with refuses(ConfigError, where="--metric", found=metric, expected=expected):
        sweep(metric=metric).run(3, lambda words: resolve(words) | {"column": column}, lambda trial: None)
    assert list_states(sweep(metric=metric).open_study().trials) == [(0, "FAIL")]


def test_without_optuna_no_folder_is_made(sweep, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with refuses(RunError, where="sweep"):
        sweep().run(1, resolve, lambda trial: None)
    assert not (tmp_path / "sweep").exists()


@pytest.mark.parametrize("stop", [KeyboardInterrupt, pytest.param(Killed, marks=pytest.mark.exhaustive)])
def test_a_search_that_was_stopped_ends_as_an_undisturbed_one(sweep, monkeypatch, tmp_path, stop):
    def without_y(words):
        return resolve([word for word in words if not word.startswith("y=")])

    whole = sweep(folder=tmp_path / "whole", space=SPACE).run(4, without_y, lambda trial: None)
    search, read, waits, ended = sweep(space=SPACE), Sweep._read_validations, [], []

    def stop_third(self, name):
        if name == "trial2" and self._find_run(name) is not None:
            raise stop
        return read(self, name)

    with monkeypatch.context() as patch:
        patch.setattr(Sweep, "_read_validations", stop_third)
        with pytest.raises(stop):
            search.run(4, without_y, lambda trial: None)
    study = search.run(4, without_y, ended.append, waits.append)
    assert len(waits) == (stop is Killed)
    assert list_states(study.trials)[2:] == [(2, "FAIL"), (3, "COMPLETE"), (4, "COMPLETE")]
    tried = [trial.params for trial in study.trials if trial.state.name == "COMPLETE"]
    assert tried == [trial.params for trial in whole.trials]
    runs = sorted(path.name[-6:] for path in (tmp_path / "sweep" / "runs").iterdir())
    assert runs == ["trial0", "trial1", "trial2", "trial4"], "trial 3 resumed the run of trial 2"


@pytest.mark.filterwarnings("ignore:Heartbeat of storage")
def test_a_trial_of_another_process_is_left_until_its_heartbeat_stops(sweep):
    search, waits = sweep(), []
    study = search.open_study()  # as of another process
    trial = study.ask()
    x = trial.suggest_float("x", 0.0, 10.0)
    with _heartbeat.get_heartbeat_thread(trial._trial_id, study._storage):
        trials = search.run(2, resolve, lambda trial: None, waits.append).trials
    assert list_states(trials) == [(0, "RUNNING"), (1, "COMPLETE"), (2, "COMPLETE")]
    trials = search.run(3, resolve, lambda trial: None, waits.append).trials
    assert list_states(trials) == [(0, "FAIL"), (1, "COMPLETE"), (2, "COMPLETE"), (3, "COMPLETE")]
    assert (trials[3].params, len(waits)) == ({"x": x}, 2)


def test_a_trial_takes_no_run_of_another_database(sweep, tmp_path):
    """The score of other settings would be taken for its own."""
    sweep().run(1, resolve, lambda trial: None)
    (tmp_path / "sweep" / "sweep.db").unlink()
    with refuses(ConfigError, where="-trial0", fix="--out"):
        sweep().run(1, resolve, lambda trial: None)


@pytest.mark.parametrize("name", ["sweep.db", "configs/trial0.json"])
def test_a_folder_of_others_is_refused(sweep, tmp_path, name):
    path = tmp_path / "sweep" / name
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    with refuses(StadiaError, where="sweep", found=(name.partition("/")[0], "sweep.json")):
        sweep().run(1, resolve, lambda trial: None)
    assert path.read_text() == "mine"
    assert len(list((tmp_path / "sweep").iterdir())) == 1


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


def test_the_best_is_proven_from_seeds_that_did_not_choose_it(sweep):
    space = {"x": SearchRange(low=0.0, high=10.0), "fixed": SearchRange(choices=(None, True, False))}
    search = sweep(space=space, base=("data.path=a b",))

    def of_seed(seed):
        return lambda words: {"name": words[-1].removeprefix("name="), "x": float(words[1][2:]), "seed": seed}

    study = search.run(3, of_seed(0), lambda trial: None)
    words = confirm_command(search, study.best_trial)
    assert words[words.index("--seeds") + 1] == "1,2,3,4,5"
    assert "data.path=a b" in words
    best, written = study.best_params, {None: "null", True: "true", False: "false"}
    assert words[-1] == f"best: x={best['x']} fixed={written[best['fixed']]}"  # as the command line reads it
    late = search.run(4, of_seed(2), lambda trial: None).trials[3]
    assert confirm_command(search, late)[5 + 1] == "0,1,3,4,5"


def test_ranges(tmp_path):
    path = tmp_path / "space.yaml"
    path.write_text(
        "optimizer.lr: {low: 1.0e-5, high: 1.0e-2, log: true}\n"
        "training.grad_accumulation_steps: {low: 1, high: 4}\n"
        "x: {choices: [a, null]}\n"
    )
    space = read_space(path)
    assert space["optimizer.lr"].log
    assert (space["training.grad_accumulation_steps"].high, space["x"].choices) == (4, ("a", None))


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


def test_other_files_in_the_folder_of_a_sweep_are_left_and_links_refused(sweep, tmp_path):
    """As the output of the command itself."""
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "console.log").touch()
    sweep().open_study()
    (tmp_path / "sweep" / "logs").symlink_to(tmp_path)
    with refuses(StadiaError, where="logs", found="link"):
        sweep().open_study()
