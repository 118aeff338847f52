"""Search a recipe's keys with Optuna: each trial trains in its own process and is pruned if validation lags behind."""

from __future__ import annotations

import json
import math
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, model_validator

from stadia.apps.studies.config import OTHER_STUDY, SEE_DOCS, read_json_mapping, read_yaml_mapping
from stadia.apps.studies.launch import Job, read_last_lines
from stadia.core.config import StrictModel, diff_mappings, resolve_config
from stadia.core.errors import ConfigError, ConfigMistakes, DataError, RunError, summarize_exception
from stadia.files.atomic_files import write_json
from stadia.files.input_files import check_input_file, open_input
from stadia.files.locks import hold_folder
from stadia.files.output_files import check_own_folder
from stadia.files.paths import check_no_links
from stadia.files.write_errors import FULL_DISK
from stadia.training.loggers import read_rows
from stadia.training.run_folder import Run, remove_stale_files_of_run

POLL_S = 1.0
MAX_INVALID_TRIALS = 10
"""Number of invalid trials at the start after which the search is stopped."""
TEST_SEEDS = 5
"""Number of seeds of the test of the best trial; none of them was used in the search."""
STORAGE = "optuna.log"
"""File in the sweep's folder: all trials as JSON lines of Optuna, nothing is pickled."""

BEGINS = "begins"
"""Attribute of a trial: the number of searches that went on with it."""

REFUSALS, MAX_REFUSALS = "refusals", 3
"""Attribute of a trial: how often its run was not resumed, which stopped the search; the third time it has failed."""

_LOG = "trials that Optuna wrote"
_BLOCK_BYTES, _MAX_LOG_BYTES = 1 << 16, 1 << 40


Number = Annotated[float, Field(allow_inf_nan=False)] | int
Limit = Annotated[Number, Field(ge=-(10**15), le=10**15)]  # integers up to there are exact in float64


class SearchRange(StrictModel):
    """Search range of one key: low to high, linear or logarithmic, integer if both ends are; or choices."""

    low: Limit | None = None
    high: Limit | None = None
    log: bool = False
    choices: tuple[str | Number | bool | None, ...] | None = None

    @model_validator(mode="after")
    def _one_of_them(self) -> SearchRange:
        if self.choices is not None:
            if not self.choices or self.low is not None or self.high is not None or self.log:
                raise ValueError("either choices, or low and high")
        elif self.low is None or self.high is None or not self.low < self.high:
            raise ValueError("low and high, low first; or choices")
        elif self.log and not self.low > 0:
            raise ValueError("a logarithmic axis starts above 0")
        return self


class SearchSpace(StrictModel):
    """Ranges by dotted key."""

    space: dict[str, SearchRange] = Field(min_length=1)


def read_space(path: Path) -> dict[str, SearchRange]:
    """Read ranges of a YAML file, `dotted.key: {low:, high:, log:}` or `{choices: [...]}`.

    Raises DataError, ConfigError.
    """
    return resolve_config(SearchSpace, {"space": read_yaml_mapping(path, "ranges as YAML")}, fix=SEE_DOCS).space


@dataclass(frozen=True)
class Sweep:
    """A search.

    folder: of the sweep.
    recipe, base: shared by all trials.
    metric, better: column of metrics.csv, at its last validation, and its direction.
    """

    folder: Path
    recipe: str
    base: Sequence[str]
    space: Mapping[str, SearchRange]
    metric: str
    better: Literal["lower", "higher"]
    seed: int = 0

    def study(self) -> Any:
        """Return Optuna's study, new or resumed. Raises RunError without Optuna, or if the search space differs."""
        _check_optuna()
        self._check_same()
        path, expected = self.folder / STORAGE, _LOG
        if path.exists():
            check_input_file(path, expected=expected)
        if not (path.exists() and path.stat().st_size) and self._has_runs():
            found = "an empty file beside runs" if path.exists() else "no such file beside runs"
            raise DataError(path, found=found, expected=expected, fix=f"restore it; {OTHER_STUDY}")
        try:
            return self._open_study(path)
        except Exception as error:  # Optuna raises what the file leads to, assertions too
            found = f"a damaged file ({summarize_exception(error)})"
            raise DataError(path, found=found, expected=expected, fix=OTHER_STUDY) from error

    def _open_study(self, path: Path) -> Any:
        import optuna
        from optuna.storages.journal import JournalFileBackend

        storage = optuna.storages.JournalStorage(JournalFileBackend(str(path.absolute())))  # its lock is a link to it
        return optuna.create_study(
            storage=storage,
            study_name="sweep",
            load_if_exists=True,
            direction="minimize" if self.better == "lower" else "maximize",
            pruner=optuna.pruners.MedianPruner(n_startup_trials=5),
        )

    def _check_same(self) -> None:
        requested = {
            "recipe": self.recipe,
            "base": list(self.base),
            "space": {key: one.model_dump(mode="json") for key, one in self.space.items()},
            "metric": self.metric,
            "better": self.better,
        }
        check_no_links(self.folder, skip=("runs",))
        check_own_folder(self.folder, "sweep.json", "sweep", ("configs", "runs", "logs", STORAGE))
        path = self.folder / "sweep.json"
        if path.exists() and (kept := read_json_mapping(path, "a sweep that stadia wrote")) != requested:
            keys = [key for key in requested if kept.get(key) != requested[key]]
            found, expected = f"a sweep with another {', '.join(keys)}", "the one that it was started with"
            raise RunError(self.folder, found=found, expected=expected, fix="start another sweep, with --out")
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(path, requested)

    def run(
        self, trials: int, resolved: Callable[[Sequence[str]], Mapping[str, Any]], on_trial_end: Callable[[Any], None]
    ) -> Any:
        """Train until `trials` trials have completed or were pruned; return Optuna's study.

        A trial of a search that was stopped is resumed. What a trial tries depends on the seed, its number and the
        trials that ended before, so that a search that was stopped ends as an undisturbed one.

        resolved: returns the configuration of `dotted.key=value` settings. ConfigMistakes fail the trial; its attribute
            "why" has the message.
        on_trial_end: called with each ended trial.

        Raises ConfigMistakes if none of the first MAX_INVALID_TRIALS trials can be configured, ConfigError where no
        trial so far has a value of the metric and a finished one lacks it, and StadiaError where another process
        searches in the folder.
        """
        _check_optuna()
        with hold_folder(self.folder):
            self._check_same()
            self._repair_storage()
            return self._search(trials, resolved, on_trial_end)

    def _repair_storage(self) -> None:
        """Remove what a process left that was killed while it wrote a trial, or had no space: a lock, half a line."""
        for lock in self.folder.glob(f"{STORAGE}.lock*"):
            if lock.is_symlink():
                lock.unlink()
        path = self.folder / STORAGE
        if path.is_symlink() or not path.is_file():
            return
        with open_input(path, expected=_LOG, max_bytes=_MAX_LOG_BYTES) as stream:
            end = start = stream.seek(0, os.SEEK_END)
            kept = -1
            while start > 0 and kept < 0:
                start = max(0, start - _BLOCK_BYTES)
                stream.seek(start)
                kept = stream.read(_BLOCK_BYTES).rfind(b"\n")
        if start + kept + 1 == 0 < end and self._has_runs():
            found = "a damaged file (no whole line) beside runs"
            raise DataError(path, found=found, expected=_LOG, fix=f"restore it; {OTHER_STUDY}")
        if start + kept + 1 < end:
            os.truncate(path, start + kept + 1)

    def _has_runs(self) -> bool:
        return any(self.folder.glob("runs/*-trial*/run.json"))

    def _search(
        self, trials: int, resolved: Callable[[Sequence[str]], Mapping[str, Any]], on_trial_end: Callable[[Any], None]
    ) -> Any:
        study = self.study()
        from optuna.trial import TrialState

        good = (TrialState.COMPLETE, TrialState.PRUNED)
        stopped = deque(study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)))
        wrong: list[ConfigMistakes] = []
        for number in range(trials - len(study.get_trials(deepcopy=False, states=good))):
            trial = self._continue_trial(study, stopped.popleft()) if stopped else study.ask()
            words = []
            for position, (key, one) in enumerate(self.space.items()):
                study.sampler = self._make_sampler(trial.number, position)
                words.append(f"{key}={_format_value(suggest_value(trial, key, one))}")
            try:
                config = resolved([*self.base, *words, f"name=trial{trial.number}"])
            except ConfigMistakes as error:
                trial.set_user_attr("why", "; ".join(error.mistakes))
                state, value = TrialState.FAIL, None
                wrong.append(error)
            else:
                write_json(self.folder / "configs" / f"trial{trial.number}.json", config)
                state, value = self._train(trial)
            study.tell(trial, value if state == TrialState.COMPLETE else None, state=state)
            on_trial_end(study.trials[trial.number])
            if not any(one.intermediate_values for one in study.get_trials(deepcopy=False)):
                self._check_metric(trial.number)
            if len(wrong) == number + 1 == MAX_INVALID_TRIALS:  # a key that there is not, or a base that cannot be
                raise wrong[-1]
        return study

    def _make_sampler(self, number: int, position: int) -> Any:
        """Return the sampler of a trial's key: its draws depend on no earlier ones of this process."""
        from optuna.samplers import TPESampler

        state = np.random.SeedSequence([self.seed, number, position]).generate_state(1)
        return TPESampler(seed=int(state[0]))

    def _continue_trial(self, study: Any, stopped: Any) -> Any:
        """Return the trial of a search that was stopped, as `study.ask` returns a new one.

        One that did not begin in two searches is failed: its settings may be what stopped them.
        """
        import optuna

        trial, begins = optuna.trial.Trial(study, stopped._trial_id), stopped.user_attrs.get(BEGINS, 0) + 1
        if begins > 1 and self._find_run(stopped.number) is None:
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
            return study.ask()
        trial.set_user_attr(BEGINS, begins)
        return trial

    def _find_run(self, number: int) -> Path | None:
        """Return the newest run of a trial."""
        found = (self.folder / "runs").glob(f"*-trial{number}/run.json")
        return max((path.parent for path in found), default=None, key=lambda folder: folder.name)

    def _train(self, trial: Any) -> tuple[Any, float | None]:
        """Train a trial, or resume its run; return its state, and the metric's last value."""
        from optuna.trial import TrialState

        name, runs, resumes = f"trial{trial.number}", self.folder / "runs", 0
        if (run := self._find_run(trial.number)) is not None:
            with Run.open(run).held():  # raises where its training has not ended yet
                pass
            if why := self._find_difference(run, trial.number):
                return self._refuse(trial, why)
            resumes = _count_resumes(run)
            words: tuple[str, ...] = ("train", "--resume", str(run.absolute()))
        else:
            config = (self.folder / "configs" / f"{name}.json").absolute()
            words = ("train", self.recipe, "--config", str(config), "--out", str(runs.absolute()))
        job = Job(name, words, self.folder / "logs" / f"{name}.log")
        process = job.start()
        values = dict(trial.study.trials[trial.number].intermediate_values)
        try:
            while True:
                ended = process.poll() is not None
                for step, value in self._read_validations(trial):
                    if step not in values and math.isfinite(value):
                        values[step] = value
                        trial.report(value, step)
                if ended:
                    break
                if trial.should_prune():
                    return TrialState.PRUNED, None
                time.sleep(POLL_S)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)  # background processes ignore SIGINT
            process.wait()
        if process.returncode or not values:
            for folder in runs.glob(f"*-{name}"):
                remove_stale_files_of_run(folder)
            why = _explain_failure(job.log, process.returncode, self.metric)
            if run is not None and process.returncode and _count_resumes(run) == resumes and FULL_DISK not in why:
                return self._refuse(trial, why)
            if FULL_DISK in why:  # other trials would fail too; this one goes on from its checkpoint
                fix = "free some space; the same command goes on"
                raise RunError(name, found=f"{FULL_DISK} ({why})", expected="free space for its files", fix=fix)
            trial.set_user_attr("why", why)
            return TrialState.FAIL, None
        return TrialState.COMPLETE, values[max(values)]

    def _find_difference(self, run: Path, number: int) -> str:
        """Return why a run is not that of the trial, as beside an older record of trials."""
        config = read_json_mapping(self.folder / "configs" / f"trial{number}.json", "a trial's configuration")
        changes = [one for one in diff_mappings(Run.open(run).config, config) if one.is_within(self.space)]
        return f"{run.name} is of other settings: {'; '.join(map(str, changes))}" if changes else ""

    def _refuse(self, trial: Any, why: str) -> tuple[Any, float | None]:
        """Stop the search where a run is not resumed, as while its data are away; at last fail the trial."""
        from optuna.trial import TrialState

        refusals = trial.user_attrs.get(REFUSALS, 0) + 1
        trial.set_user_attr(REFUSALS, refusals)
        if refusals < MAX_REFUSALS:
            name, fix = f"trial{trial.number}", "correct that; the same command goes on"
            raise RunError(name, found=f"a run that is not resumed ({why})", expected="one that goes on", fix=fix)
        trial.set_user_attr("why", why)
        return TrialState.FAIL, None

    def _read_validations(self, trial: Any) -> list[tuple[int, float]]:
        """Return what a trial has logged, nothing of a damaged table: its training refuses that, too."""
        try:
            return list(self.validations(trial.number))
        except DataError:
            return []

    def validations(self, number: int) -> Iterator[tuple[int, float]]:
        """Yield (step, value) that a trial has logged so far."""
        run = self._find_run(number)
        if run is not None and (run / "metrics.csv").exists():
            for row in read_rows(run / "metrics.csv"):
                with suppress(ValueError, TypeError):
                    yield int(row["step"]), float(row.get(self.metric) or "")

    def _check_metric(self, number: int) -> None:
        """Raise ConfigError where a trial has finished without a value of the metric, and not because it diverged.

        That is without any validation, or with other scores, as of a video without ground truth.
        """
        run, rows, is_finished = self._find_run(number), list[dict[str, str]](), False
        with suppress(DataError, RunError):
            if run is not None and Run.open(run).facts["status"] == "finished":
                rows = read_rows(run / "metrics.csv") if (run / "metrics.csv").exists() else []
                is_finished = True
        cells = [cell for row in rows for cell in row.items()]
        validated = {name for name, cell in cells if name.startswith("val/") and cell}
        known = {name for name, cell in cells if name in validated and _is_finite(cell)}
        if is_finished and (known or not validated):
            found = f"'{self.metric}', without a value in a finished run"
            expected = f"one of {', '.join(sorted(known))}" if known else "runs with frames to validate"
            fix = "name one" if known else "choose such frames by data.split"
            fix = f"{fix}, with another --out; or run it again where other trials may have it"
            raise ConfigError("--metric", found=found, expected=expected, fix=fix)


def _check_optuna() -> None:
    """Raise RunError without Optuna; silence it."""
    try:
        import optuna
    except ImportError as error:
        fix = "pip install 'stadia[sweep]'"
        raise RunError("sweep", found="no optuna", expected="the extra 'sweep'", fix=fix) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def _count_resumes(run: Path) -> int:
    """Return how often a run has gone on; a resume that is refused does not count."""
    return len(Run.open(run).facts.get("resumed", ()))


def _explain_failure(log: Path, code: int, metric: str) -> str:
    """Return why a trial has no value: the last line of its log, or how its process ended."""
    if code == 0:
        return f"no finite {metric}"
    if code < 0:
        return f"its process was killed by signal {-code}"
    last = read_last_lines(log)[-1:] if log.exists() else []
    return last[0].removeprefix("stadia: ") if last else f"exit code {code}; see {log}"


def _is_finite(cell: str | None) -> bool:
    with suppress(ValueError):
        return math.isfinite(float(cell or "nan"))
    return False


def suggest_value(trial: Any, key: str, one: SearchRange) -> Any:
    """Return Optuna's suggestion for a range: a choice, an integer, or a float."""
    if one.choices is not None:
        return trial.suggest_categorical(key, one.choices)
    assert one.low is not None
    assert one.high is not None
    if isinstance(one.low, int) and isinstance(one.high, int):
        return trial.suggest_int(key, one.low, one.high, log=one.log)
    return trial.suggest_float(key, one.low, one.high, log=one.log)


def _format_value(value: Any) -> str:
    """Format a value for the command line."""
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)


def confirm_command(sweep: Sweep, best: Any) -> list[str]:
    """Return the command that tests a trial against the base.

    It uses other seeds than the search: there the best of many trials is biased (winner's curse).
    """
    config = read_json_mapping(sweep.folder / "configs" / f"trial{best.number}.json", "a trial's configuration")
    searched = config.get("seed")
    seeds = [seed for seed in range(TEST_SEEDS + 1) if seed != searched][:TEST_SEEDS]
    change = " ".join(f"{key}={_format_value(value)}" for key, value in best.params.items())
    judged = ["--seeds", ",".join(map(str, seeds)), "--metric", sweep.metric, "--better", sweep.better]
    return ["stadia", "ablate", "--recipe", sweep.recipe, *sweep.base, *judged, "--change", f"best: {change}"]


def rank_keys(study: Any) -> dict[str, float]:
    """Return the importance of each key, descending (PED-ANOVA); empty with fewer than ten trials."""
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
    from optuna.trial import TrialState

    if len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))) < 10:
        return {}
    with suppress(ValueError, RuntimeError):
        return dict(get_param_importances(study, evaluator=PedAnovaImportanceEvaluator()))
    return {}
