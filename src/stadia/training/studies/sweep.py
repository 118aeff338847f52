"""Search a recipe's keys with Optuna: each trial trains in its own process and is pruned if it lags behind.

Trials are rows of an SQLite file in the sweep's folder. A trial whose heartbeat stopped is tried again and
resumes its run.
"""

import hashlib
import json
import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, model_validator

from stadia.core.config import StrictModel, resolve_config
from stadia.core.errors import ConfigError, ConfigMistakes, DataError, RunError, StadiaError, summarize_exception
from stadia.io.atomic_files import FULL_DISK, write_json
from stadia.io.input_files import check_no_links
from stadia.io.metrics_table import read_rows
from stadia.io.output_files import ANOTHER_OUT, check_output_folder
from stadia.training.loop.run_folder import remove_stale_files_of_run
from stadia.training.studies.config import SEE_DOCS, read_json_mapping, read_yaml_mapping
from stadia.training.studies.launch import Job

POLL_S = 1.0  # interval at which other processes' trials are looked at
HEARTBEAT_S = 10  # interval at which a running trial shows that it lives
GRACE_S = 30  # a trial with an older heartbeat was killed
MAX_RETRIES = 10  # the settings of a trial may kill its process
MAX_INVALID_TRIALS = 10  # A wrong key makes so many trials at the start invalid.
TEST_SEEDS = 5  # seeds that confirm the best trial; the search has other seeds
DATABASE = "sweep.db"

Resolve = Callable[[Sequence[str]], Mapping[str, Any]]


Number = Annotated[float, Field(allow_inf_nan=False)] | int
Limit = Annotated[Number, Field(ge=-(10**15), le=10**15)]  # integers up to there are exact in float64


class SearchRange(StrictModel):
    """Define the values of one configuration key that a sweep searches: an interval, or a list of choices.

    low: lower end of the interval.
    high: upper end of the interval. If both ends are integers, only integers are searched.
    log: search the logarithm of the value instead of the value.
    choices: values to choose from, instead of an interval.
    """

    low: Limit | None = None
    high: Limit | None = None
    log: bool = False
    choices: tuple[str | Number | bool | None, ...] | None = None

    @model_validator(mode="after")
    def _check_bounds(self) -> "SearchRange":
        if self.choices is not None:
            if not self.choices or self.low is not None or self.high is not None or self.log:
                raise ValueError("set either choices, or low and high")
        elif self.low is None or self.high is None or not self.low < self.high:
            raise ValueError("set low and high with low < high, or choices")
        elif self.log and not self.low > 0:
            raise ValueError("a logarithmic range starts above 0")
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

    def run(
        self,
        trials: int,
        resolve: Resolve,
        on_trial_end: Callable[[Any], None],
        on_wait: Callable[[str], None] = lambda _: None,
    ) -> Any:
        """Train until `trials` trials have completed or were pruned; return Optuna's study.

        A trial depends on the seed, its number and earlier trials only, so a stopped search ends as an undisturbed one.

        trials: number of all trials, earlier calls included.
        resolve: returns the configuration of `dotted.key=value` settings. ConfigMistakes fail the trial, whose
            attribute "why" has the message.
        on_trial_end: called with each ended trial.
        on_wait: called with the reason before a wait for other processes.

        Raises ConfigMistakes if the first MAX_INVALID_TRIALS trials are invalid, ConfigError if finished trials lack
        the metric, RunError for a full disk.
        """
        optuna = _import_optuna()
        ended = optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED
        with self._explain_storage_errors():
            study = self.open_study()
            self._retry_stale_trials(study, on_wait)
            missing = trials - len(study.get_trials(deepcopy=False, states=ended))
            callbacks = [
                lambda _, trial: on_trial_end(trial),
                optuna.study.MaxTrialsCallback(trials, states=ended),  # those of other processes count
            ]
            if missing > 0:
                study.optimize(lambda trial: self._try_settings(trial, resolve), missing, callbacks=callbacks)
        return study

    def open_study(self) -> Any:
        """Return Optuna's study, new or resumed. Raises RunError without Optuna, or for other settings."""
        optuna = _import_optuna()
        settings = {
            "recipe": self.recipe,
            "base": list(self.base),
            "space": {key: limits.model_dump(mode="json") for key, limits in self.space.items()},
            "metric": self.metric,
            "better": self.better,
        }
        check_no_links(self.folder, skip=("runs",))
        check_output_folder(self.folder, "sweep.json", "sweep", names=("configs", "runs", "logs", DATABASE))
        path = self.folder / "sweep.json"
        kept = read_json_mapping(path, "a sweep that stadia wrote") if path.exists() else settings
        if keys := [key for key in settings if kept.get(key) != settings[key]]:
            found = f"a sweep with another {', '.join(keys)}"
            raise RunError(self.folder, found=found, expected="the settings of its start", fix=ANOTHER_OUT)
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(path, settings)
        digest = hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:8]
        with self._explain_storage_errors():
            return optuna.create_study(
                storage=self._open_storage(),
                study_name=f"{self.folder.resolve().name}-{digest}",
                load_if_exists=True,
                direction="minimize" if self.better == "lower" else "maximize",
                pruner=optuna.pruners.MedianPruner(n_startup_trials=5),
            )

    def _open_storage(self) -> Any:
        from optuna.storages import RDBStorage

        return RDBStorage(
            f"sqlite:///{(self.folder / DATABASE).absolute()}",
            engine_kwargs={"connect_args": {"timeout": 60}},
            heartbeat_interval=HEARTBEAT_S,
            grace_period=GRACE_S,
            heartbeat_stale_trial_callback=_make_retry(),
        )

    @contextmanager
    def _explain_storage_errors(self) -> Iterator[None]:
        from optuna.exceptions import OptunaError
        from sqlalchemy.exc import SQLAlchemyError

        try:
            yield
        except StadiaError:
            raise
        except Exception as error:
            cause: BaseException | None = error
            while cause is not None and not isinstance(cause, SQLAlchemyError | OptunaError | ImportError):
                cause = cause.__context__  # Optuna (5.0) raises an error of its own where it lost a database
            if cause is None:
                raise
            found, expected = summarize_exception(cause.__cause__ or cause), "a database of trials"
            raise DataError(self.folder / DATABASE, found=found, expected=expected, fix=ANOTHER_OUT) from error

    def _retry_stale_trials(self, study: Any, on_wait: Callable[[str], None]) -> None:
        optuna = _import_optuna()
        running, end_s = (optuna.trial.TrialState.RUNNING,), time.monotonic() + GRACE_S + HEARTBEAT_S
        if study.get_trials(deepcopy=False, states=running):
            on_wait(f"waiting up to {GRACE_S + HEARTBEAT_S} s for a trial that is running or was killed")
        while study.get_trials(deepcopy=False, states=running) and time.monotonic() < end_s:
            time.sleep(POLL_S)
            optuna.storages.fail_stale_trials(study)

    def _try_settings(self, trial: Any, resolve: Resolve) -> float:
        import optuna

        study, words = trial.study, []
        *earlier, frozen = study.get_trials(deepcopy=False)[: trial.number + 1]
        name = f"trial{find_first_number(frozen)}"
        number = sum(find_first_number(past) == past.number for past in earlier)
        seed = int(np.random.SeedSequence([self.seed, number]).generate_state(1)[0])
        study.sampler = optuna.samplers.TPESampler(seed=seed)
        for key, limits in self.space.items():
            words.append(f"{key}={_format_value(suggest_value(trial, key, limits))}")
        try:
            config = resolve([*self.base, *words, f"name={name}"])
        except ConfigMistakes as error:
            trial.set_user_attr("why", " ".join(map(str, error.mistakes)))
            if len(earlier) + 1 >= MAX_INVALID_TRIALS and all(past.state.name == "FAIL" for past in earlier):
                raise  # a wrong key or base
            return math.nan
        trial.set_user_attr("seed", config.get("seed"))
        write_json(self.folder / "configs" / f"{name}.json", dict(config))
        try:
            return self._train(trial, name, is_retry=name != f"trial{trial.number}")
        except (KeyboardInterrupt, RunError):  # the same command resumes it
            _make_retry()(study, study.trials[trial.number])
            raise

    def _find_run(self, name: str) -> Path | None:
        runs = (self.folder / "runs").glob(f"*-{name}/run.json")
        return max((path.parent for path in runs), default=None, key=lambda folder: folder.name)

    def _train(self, trial: Any, name: str, *, is_retry: bool) -> float:
        import optuna

        run, config, out = self._find_run(name), self.folder / "configs" / f"{name}.json", self.folder / "runs"
        words = ["train", self.recipe, "--config", str(config.absolute()), "--out", str(out.absolute())]
        if run is not None:
            words = ["train", "--resume", str(run.absolute())]
            if not is_retry:
                found = "a run of another database"
                raise ConfigError(str(run), found=found, expected=f"no run of {name}", fix=ANOTHER_OUT)
        job, values = Job(name, tuple(words), self.folder / "logs" / f"{name}.log"), dict[int, float]()
        process = job.start()
        try:
            while True:
                has_ended = process.poll() is not None
                for step, value in self._read_validations(name).items() - values.items():
                    values[step] = value
                    trial.report(value, step)
                if has_ended:
                    break
                if trial.should_prune():
                    raise optuna.TrialPruned
                time.sleep(POLL_S)
        finally:
            if process.poll() is None:
                process.terminate()  # background processes ignore SIGINT
            code = process.wait()
        if code == 0 and values:
            return values[max(values)]
        for folder in out.glob(f"*-{name}"):
            remove_stale_files_of_run(folder)
        why = job.explain_failure(code) if code else f"no finite {self.metric}"
        if FULL_DISK in why:  # other trials would fail too
            fix = "free some space, then run the same command"
            raise RunError(name, found=f"{FULL_DISK} ({why})", expected="free space", fix=fix)
        trial.set_user_attr("why", why)
        reports = [past.intermediate_values for past in trial.study.get_trials(deepcopy=False)]
        if code == 0 and not any(reports):
            self._check_metric(name)
        return math.nan

    def _read_validations(self, name: str) -> dict[int, float]:
        with suppress(DataError):  # a damaged table, which its training refuses
            rows = [(int(row["step"]), float(row.get(self.metric) or "nan")) for row in self._read_rows(name)]
            return {step: value for step, value in rows if math.isfinite(value)}
        return {}

    def _read_rows(self, name: str) -> list[dict[str, str]]:
        run = self._find_run(name)
        return read_rows(run / "metrics.csv") if run is not None and (run / "metrics.csv").exists() else []

    def _check_metric(self, name: str) -> None:
        cells = [cell for row in self._read_rows(name) for cell in row.items()]
        logged = sorted({column for column, cell in cells if column.startswith("val/") and cell})
        if self.metric not in logged:  # else it diverged
            found = f"no value of '{self.metric}' in a finished run"
            expected = f"one of {', '.join(logged)}" if logged else "validation frames"
            fix = (
                "choose another --metric and another --out" if logged else "set data.split_by, and choose another --out"
            )
            raise ConfigError("--metric", found=found, expected=expected, fix=fix)


def _import_optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        fix = "pip install 'stadia[sweep]'"
        raise RunError("sweep", found="no optuna", expected="the extra 'sweep'", fix=fix) from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # heartbeats have been so since 2021
    return optuna


def _make_retry() -> Callable[[Any, Any], None]:
    from optuna.storages import RetryHeartbeatStaleTrialCallback

    return RetryHeartbeatStaleTrialCallback(MAX_RETRIES)


def find_first_number(trial: Any) -> int:
    """Return the number of the trial that this one retries, or its own."""
    from optuna.storages import RetryHeartbeatStaleTrialCallback

    number = RetryHeartbeatStaleTrialCallback.retried_trial_number(trial)
    return int(trial.number if number is None else number)


def suggest_value(trial: Any, key: str, limits: SearchRange) -> Any:
    """Return Optuna's suggestion for a range: a choice, an integer, or a float."""
    if limits.choices is not None:
        return trial.suggest_categorical(key, limits.choices)
    assert limits.low is not None
    assert limits.high is not None
    if isinstance(limits.low, int) and isinstance(limits.high, int):
        return trial.suggest_int(key, limits.low, limits.high, log=limits.log)
    return trial.suggest_float(key, limits.low, limits.high, log=limits.log)


def _format_value(value: Any) -> str:
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)


def confirm_command(sweep: Sweep, best: Any) -> list[str]:
    """Return the command that tests a trial against the base, with seeds that the search did not use."""
    seeds = [seed for seed in range(TEST_SEEDS + 1) if seed != best.user_attrs["seed"]][:TEST_SEEDS]
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
