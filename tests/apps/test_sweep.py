"""`stadia sweep`, with trainings that are a few lines of Python."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import pytest

from stadia.apps.studies.launch import Job
from stadia.apps.studies.sweep import SearchRange, Sweep, confirm_command, rank_keys, read_space
from stadia.cli.studies import choose_metric
from stadia.core.errors import ConfigError, ConfigMistakes, DataError, RunError, StadiaError
from stadia.files.locks import hold_folder

pytestmark = pytest.mark.slow  # its fixtures train or compile

pytest.importorskip("optuna")

PROGRAM = """
import json, pathlib, signal, sys, time
signal.signal(signal.SIGINT, signal.SIG_IGN)  # as what a script starts in the background
config = json.loads(pathlib.Path(sys.argv[1]).read_text())
is_resumed = sys.argv[2] == "--resume"
folder = pathlib.Path(sys.argv[1 if is_resumed else 2])
folder = folder.parent if is_resumed else folder / f"2026-01-01-000000-{config['name']}"
folder.mkdir(parents=True, exist_ok=True)
(folder / "config.json").write_text(json.dumps(config))
facts = {"recipe": "selfsup", "seed": 0, "status": "finished", "name": config["name"]}
(folder / "run.json").write_text(json.dumps(facts))
bad = abs(config["x"] - 3)
text = f"step,{config.get('column', 'val/abs_rel')}\\n"
for step in (1, 2):
    text += f"{step},{bad + 1 / step}\\n"
(folder / "metrics.csv").write_text(text)
if config["x"] > 90:
    print("a trial that is far off is given up"); time.sleep(60); (folder / "waited").touch()
if config["x"] < 0:
    print("stadia: x is below 0")
if config.get("disk") and not is_resumed:
    print("stadia: last.safetensors: found a full disk; expected free space")
sys.exit(config["x"] < 0 or ("disk" in config and not is_resumed))
"""
FAR = {"name": "trial0", "x": -1.0}


def list_words(job):
    """Return the configuration, and the folder of runs or --resume."""
    if job.words[1] == "--resume":
        return f"{job.words[2]}/config.json", "--resume"
    return job.words[3], job.words[5]


@pytest.fixture
def sweep(tmp_path, monkeypatch):
    monkeypatch.setattr(Job, "command", property(lambda job: [sys.executable, "-S", "-c", PROGRAM, *list_words(job)]))
    monkeypatch.setattr("stadia.apps.studies.sweep.POLL_S", 0.05)
    return lambda **changes: Sweep(
        **{
            "folder": tmp_path / "sweep",
            "recipe": "selfsup",
            "base": (),
            "space": {"x": SearchRange(low=0.0, high=10.0)},
            "metric": "val/abs_rel",
            "better": "lower",
        }
        | changes
    )


def resolved(words):
    pairs = dict(word.split("=") for word in words)
    return {"name": pairs["name"], "x": float(pairs["x"])}


def test_a_search_finds_what_is_good_and_goes_on(sweep):
    told = []
    study = sweep().run(6, resolved, told.append)
    assert [trial.number for trial in told] == list(range(6))
    assert study.best_value == pytest.approx(min(abs(trial.params["x"] - 3) for trial in told) + 0.5)
    again = []
    study = sweep().run(8, resolved, again.append)
    assert [trial.number for trial in again] == [6, 7]
    assert len({trial.params["x"] for trial in study.trials}) == 8  # the sampler does not begin anew
    assert sweep().run(8, resolved, again.append).best_value == study.best_value
    assert len(again) == 2


def test_a_trial_that_lags_behind_is_given_up(sweep):
    from optuna.trial import TrialState

    asked = sweep(space={"x": SearchRange(low=0.0, high=100.0)})
    asked.run(6, lambda words: resolved(words) | {"x": min(resolved(words)["x"], 80)}, lambda trial: None)
    told = []
    asked.run(7, lambda words: resolved(words) | {"x": 95}, told.append)
    assert told[0].state == TrialState.PRUNED
    assert not list(asked.folder.glob("runs/*/waited")), "its process was stopped"


def test_failed_trial_is_reported_and_not_counted(sweep):
    told = []
    sweep().run(1, lambda words: resolved(words) | {"x": -1}, told.append)
    assert [trial.state.name for trial in told] == ["FAIL"]
    assert told[0].user_attrs["why"] == "x is below 0"


def test_a_lock_that_a_killed_search_left_is_removed(sweep, tmp_path, monkeypatch):
    """Optuna waited for it for ever: the link leads nowhere from the sweep's folder."""
    asked = sweep(folder=Path("sweep"))
    monkeypatch.chdir(tmp_path)
    asked.run(1, resolved, lambda trial: None)
    (tmp_path / "sweep" / "optuna.log.lock").symlink_to("sweep/optuna.log")
    assert len(asked.run(2, resolved, lambda trial: None).trials) == 2
    with hold_folder(tmp_path / "sweep"), pytest.raises(StadiaError, match="another process that writes it"):
        asked.run(3, resolved, lambda trial: None)


def test_a_metric_without_a_value_stops_the_search_at_its_first_trial(sweep):
    """As depth scores of a video without ground truth: all trials were trained, and failed without a reason."""
    asked, told = sweep(metric="val/d1"), []
    for number in range(2):  # the rerun goes on: another trial may have it
        with pytest.raises(ConfigError, match=r"--metric: found 'val/d1', .* expected one of val/abs_rel"):
            asked.run(3, resolved, told.append)
        assert [(trial.number, trial.state.name) for trial in told] == [(k, "FAIL") for k in range(number + 1)]


def test_a_search_without_validation_stops_at_its_first_trial(sweep):
    with pytest.raises(ConfigError, match="expected runs with frames to validate"):
        sweep().run(3, lambda words: resolved(words) | {"column": "train/loss"}, lambda trial: None)


def test_a_later_trial_without_the_metric_fails_alone(sweep):
    """As val/ause of trainings without uncertainty: it ended the search, also of each rerun."""
    told = []

    def lacking(words):
        config = resolved(words)
        return config | ({"column": "val/loss"} if config["name"] == "trial1" else {})

    sweep().run(2, lacking, told.append)
    sweep().run(2, resolved, told.append)
    assert [(trial.number, trial.state.name) for trial in told] == [(0, "COMPLETE"), (1, "FAIL"), (2, "COMPLETE")]
    assert told[1].user_attrs["why"] == "no finite val/abs_rel"


def test_half_a_line_and_links_of_a_stopped_process_are_removed(sweep, tmp_path):
    """Optuna appended to half a line of a full disk, and every later run refused the file."""
    asked = sweep()
    asked.run(2, resolved, lambda trial: None)
    log = tmp_path / "sweep" / "optuna.log"
    whole = log.read_bytes()
    log.write_bytes(whole + b'{"op_code":4,"worker' + b" " * 100_000)
    (tmp_path / "sweep" / "optuna.log.lock0.rename").symlink_to(log)
    assert len(asked.run(2, resolved, lambda trial: None).trials) == 2
    assert log.read_bytes().startswith(whole)
    assert b"worker " not in log.read_bytes()
    assert not list((tmp_path / "sweep").glob("*lock*"))


def test_without_optuna_no_folder_is_made(sweep, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(RunError, match="found no optuna"):
        sweep().run(1, resolved, lambda trial: None)
    assert not (tmp_path / "sweep").exists()


def test_a_search_without_any_value_says_so(sweep, stadia, monkeypatch, tmp_path):
    monkeypatch.setattr(
        "stadia.cli.studies._resolve", lambda recipe, words: SimpleNamespace(model_dump=lambda mode: FAR)
    )
    (tmp_path / "space.yaml").write_text("x: {low: 0.0, high: 10.0}")
    words = ("--space", tmp_path / "space.yaml", "--trials", "1", "--metric", "val/abs_rel", "--out", tmp_path / "s")
    code, _, err = stadia("sweep", "selfsup", *map(str, words))
    assert (code, "no trial has a value of val/abs_rel. Fix: read" in err) == (1, True), err
    assert "trial 0: fail (x is below 0)" in err


def test_a_search_that_was_stopped_ends_as_an_undisturbed_one(sweep, monkeypatch, tmp_path):
    """Its trial was trained again from the start, under another number, and later trials tried other values."""
    space = {"x": SearchRange(low=0.0, high=10.0), "y": SearchRange(low=0.0, high=1.0)}

    def without_y(words):
        return resolved([word for word in words if not word.startswith("y=")])

    whole = sweep(folder=tmp_path / "whole", space=space).run(4, without_y, lambda trial: None)
    asked = sweep(space=space)

    def stop(self, number):
        if number == 2 and self._find_run(number) is not None:
            raise KeyboardInterrupt
        return ()

    with monkeypatch.context() as patch:
        patch.setattr(Sweep, "validations", stop)
        patch.setattr(Sweep, "_check_metric", lambda *_: None)
        with pytest.raises(KeyboardInterrupt):
            asked.run(4, without_y, lambda trial: None)
    told = []
    ended = asked.run(4, without_y, told.append)
    assert told[0].number == 2
    assert [trial.params for trial in ended.trials[:4]] == [trial.params for trial in whole.trials]
    assert len(list((tmp_path / "sweep" / "runs").glob("*trial2"))) == 1, "resumed"


def test_a_full_disk_stops_the_search_and_its_trial_goes_on(sweep):
    """Every later trial failed too, and none of their values was tried again."""
    told = []
    with pytest.raises(RunError, match=r"trial0: found a full disk .* the same command goes on"):
        sweep().run(2, lambda words: resolved(words) | {"disk": "full"}, told.append)
    assert told == []
    sweep().run(
        2,
        lambda words: resolved(words) | {"disk": "full"} if words[-1] == "name=trial0" else resolved(words),
        told.append,
    )
    assert [(trial.number, trial.state.name) for trial in told] == [(0, "COMPLETE"), (1, "COMPLETE")]


def leave_stopped(sweep, monkeypatch, changes):
    """Return a sweep whose first trial was stopped while it trained."""
    asked = sweep(**changes)

    def stop(self, number):
        if (run := self._find_run(number)) is not None and (run / "metrics.csv").exists():
            raise KeyboardInterrupt
        return ()

    with monkeypatch.context() as patch:
        patch.setattr(Sweep, "validations", stop)
        with pytest.raises(KeyboardInterrupt):
            asked.run(2, resolved, lambda trial: None)
    return asked, asked._find_run(0)


def test_a_trial_whose_run_is_refused_stops_the_search_twice_and_then_fails(sweep, monkeypatch):
    """As while its data are away: each trial of such a search failed. For ever it would block the search."""
    space = {"x": SearchRange(low=0.0, high=10.0)}
    asked, run = leave_stopped(sweep, monkeypatch, {"space": space})
    (run / "metrics.csv").write_text("step,val/abs_rel\nx,y\n")  # damaged, which blocked every rerun
    run_facts = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(run_facts | {"status": "interrupted"}))
    monkeypatch.setattr(Job, "command", property(refuse_resume))
    for _ in range(2):
        with pytest.raises(RunError, match=r"trial0: found a run that is not resumed \(data are away\)"):
            asked.run(1, resolved, lambda trial: None)
    told = []
    asked.run(1, resolved, told.append)
    assert [(trial.number, trial.state.name) for trial in told] == [(0, "FAIL")]
    assert told[0].user_attrs["why"] == "data are away"


def test_a_trial_that_goes_on_and_fails_is_not_tried_again(sweep, monkeypatch):
    asked, run = leave_stopped(sweep, monkeypatch, {})
    (run / "run.json").write_text((run / "run.json").read_text().replace("finished", "interrupted"))
    (run / "metrics.csv").unlink()
    monkeypatch.setattr("stadia.apps.studies.sweep._count_resumes", Mock(side_effect=[0, 1]))
    monkeypatch.setattr(Job, "command", property(refuse_resume))
    told = []
    asked.run(1, resolved, told.append)
    assert [(trial.number, trial.state.name) for trial in told] == [(0, "FAIL")]


def refuse_resume(job):
    code = "print('stadia: data are away'); raise SystemExit(2)"
    return [sys.executable, "-S", "-c", *([code] if job.words[1] == "--resume" else [PROGRAM, *list_words(job)])]


def test_a_trial_takes_no_run_of_another_one(sweep, monkeypatch):
    """An older copy of the record, or another seed: the score of other settings was taken for its own."""
    asked, run = leave_stopped(sweep, monkeypatch, {})
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | {"x": 9.5}))
    with pytest.raises(RunError, match=r"trial0 is of other settings: x: 9.5 -> "):
        asked.run(1, resolved, lambda trial: None)


def test_a_record_without_a_whole_line_is_no_new_search(sweep, tmp_path):
    sweep().run(1, resolved, lambda trial: None)
    for content, found in ((b"", "an empty file beside runs"), (bytes(500), "a damaged file")):
        (tmp_path / "sweep" / "optuna.log").write_bytes(content)
        with pytest.raises(DataError, match=f"optuna.log: found {found}"):
            sweep().run(2, resolved, lambda trial: None)
        assert (tmp_path / "sweep" / "optuna.log").read_bytes() == content


def test_a_record_of_another_program_is_kept(sweep, tmp_path):
    log = tmp_path / "sweep" / "optuna.log"
    log.parent.mkdir()
    log.write_text("notes without an end of the line")
    with pytest.raises(StadiaError, match=r"found optuna\.log in it, and no sweep\.json"):
        sweep().run(1, resolved, lambda trial: None)
    assert log.read_text() == "notes without an end of the line"


def test_other_files_in_the_folder_of_a_sweep_are_left(sweep, tmp_path):
    """As the output of the command itself."""
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "console.log").touch()
    assert len(sweep().run(1, resolved, lambda trial: None).trials) == 1


def test_a_folder_of_others_is_refused(sweep, tmp_path):
    (tmp_path / "sweep" / "configs").mkdir(parents=True)
    (tmp_path / "sweep" / "configs" / "trial0.json").write_text("mine")
    with pytest.raises(StadiaError, match=r"sweep: found configs in it, and no sweep\.json"):
        sweep().run(1, resolved, lambda trial: None)
    assert (tmp_path / "sweep" / "configs" / "trial0.json").read_text() == "mine"
    assert len(list((tmp_path / "sweep").iterdir())) == 1


def test_trials_without_their_record_are_refused(sweep, tmp_path):
    sweep().run(1, resolved, lambda trial: None)
    (tmp_path / "sweep" / "optuna.log").unlink()
    with pytest.raises(DataError, match=r"optuna.log: found no such file beside runs; .* Fix: restore it"):
        sweep().run(2, resolved, lambda trial: None)


def refused(words):
    if (x := resolved(words)["x"]) < 5:
        raise ConfigMistakes([f"x={x} goes with no y"], fix="correct it")
    return resolved(words)


def test_invalid_combination_is_reported_and_search_continues(sweep):
    told = []
    study = sweep(space={"x": SearchRange(low=0, high=9)}).run(8, refused, told.append)
    states = [trial.state.name for trial in told]
    assert len(told) == 8
    assert {"FAIL", "COMPLETE"} <= set(states)
    assert all((trial.state.name == "FAIL") == (trial.params["x"] < 5) for trial in told)
    assert told[states.index("FAIL")].user_attrs["why"].endswith("goes with no y")
    before = len(study.trials)
    assert len(sweep(space={"x": SearchRange(low=0, high=9)}).study().trials) == before  # none waits to be tried again


def test_a_combination_that_stopped_a_sweep_twice_before_it_began_is_not_tried_again(sweep):
    def broken(words):
        raise RuntimeError("killed")

    for _ in range(2):
        with pytest.raises(RuntimeError):
            sweep().run(1, broken, lambda trial: None)
    assert [trial.state.name for trial in sweep().study().trials] == ["RUNNING"]
    assert [trial.state.name for trial in sweep().run(1, resolved, lambda trial: None).trials] == ["FAIL", "COMPLETE"]


def test_a_space_of_which_nothing_can_be_is_refused(sweep):
    told = []
    with pytest.raises(ConfigMistakes, match="goes with no y"):
        sweep(space={"x": SearchRange(low=0, high=4)}).run(100, refused, told.append)
    assert len(told) == 10


def test_another_space_is_another_sweep(sweep):
    sweep().study()
    with pytest.raises(RunError, match="another space"):
        sweep(space={"x": SearchRange(low=1.0, high=2.0)}).study()


def test_what_is_searched_for_is_known_before_the_first_trial(stadia, monkeypatch):
    best = {"supervised": ("val/abs_rel",), "metric": ()}
    monkeypatch.setattr("stadia.recipes.RECIPES.load", lambda name: SimpleNamespace(best_metrics=best[name]))
    assert choose_metric("supervised", None, None) == (("val/abs_rel",), "lower")
    assert choose_metric("supervised", "val/d1", None) == (("val/d1",), "higher")
    wrong = (
        ("metric", None, None),
        ("supervised", None, "higher"),
        ("supervised", "val/d1", "lower"),
        ("supervised", "val/rmsee", "lower"),
    )
    for words in wrong:
        with pytest.raises(ConfigError):
            choose_metric(*words)
    code, _, err = stadia("sweep", "supervised", "--metric", "train/loss", "--better", "lower")
    assert (code, "--metric: found 'train/loss'; expected one of validation" in err) == (2, True)


def test_the_best_is_proven_from_seeds_that_did_not_choose_it(sweep):
    space = {"x": SearchRange(low=0.0, high=10.0), "fixed": SearchRange(choices=(None, True, False))}
    asked = sweep(space=space, base=("data.path=a b",))

    def of_seed(seed):
        return lambda words: {
            "name": words[-1].removeprefix("name="),
            "x": float(words[1].removeprefix("x=")),
            "seed": seed,
        }

    study = asked.run(3, of_seed(0), lambda trial: None)
    words = confirm_command(asked, study.best_trial)
    assert words[words.index("--seeds") + 1] == "1,2,3,4,5"
    assert "data.path=a b" in words
    best, said = study.best_params, {None: "null", True: "true", False: "false"}
    assert words[-1] == f"best: x={best['x']} fixed={said[best['fixed']]}"  # as the command line reads it
    asked.run(4, of_seed(2), lambda trial: None)
    (late,) = (trial for trial in asked.study().trials if trial.number == 3)
    assert confirm_command(asked, late)[5 + 1] == "0,1,3,4,5"


def test_importance_is_of_enough_trials(sweep):
    study = sweep().run(3, resolved, lambda trial: None)
    assert rank_keys(study) == {}


def test_ranges(tmp_path):
    path = tmp_path / "space.yaml"
    path.write_text(
        "optimizer.lr: {low: 1.0e-5, high: 1.0e-2, log: true}\n"
        "training.grad_accumulation_steps: {low: 1, high: 4}\nx: {choices: [a,"
        " null]}\n"
    )
    space = read_space(path)
    assert (space["optimizer.lr"].log, space["training.grad_accumulation_steps"].high, space["x"].choices) == (
        True,
        4,
        ("a", None),
    )


@pytest.mark.parametrize(
    "text", ["x: {low: 2, high: 1}", "x: {low: 0, high: 1, log: true}", "x: {choices: []}", "x: {lo: 1}", "{}"]
)
def test_ranges_that_are_none_are_refused(tmp_path, text):
    (tmp_path / "space.yaml").write_text(text)
    with pytest.raises(ConfigMistakes):
        read_space(tmp_path / "space.yaml")
