"""Train the missing runs of an ablation study, and judge all of them into verdicts.json. Imports no torch."""

import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Any

from scipy import stats

from stadia.core.config import ValueChange
from stadia.core.errors import RunError
from stadia.io.atomic_files import write_json
from stadia.io.input_files import replace_nan
from stadia.metrics.statistics import MIN_SEEDS, Better, judge_changes
from stadia.report import build_report
from stadia.report.run_files import read_run
from stadia.report.study_report import RESULTS, make_result_row, write_ablation_report
from stadia.training.loop.run_folder import Run
from stadia.training.recipes import CONFIGS
from stadia.training.studies.config import BASE, SAMPLE_KEYS, PlannedRun, Resolve, StudyConfig, changed_keys, plan_runs
from stadia.training.studies.launch import Job, Launch
from stadia.training.studies.study_folder import StudyFolder, add_line, write_lines
from stadia.training.studies.study_metric import DEPTH_METRICS, changed_evaluation_keys, has_depth

Row = Mapping[str, Any]

TIME_TOLERANCE = 0.05
"""Largest relative difference between the training times of runs that count as runs of the same length."""
MAX_PACE_RATIO = 1.5
"""Factor between the numbers of updates of a changed run and of the base run above which a note warns.

Such a change also alters the effective learning rate.
"""


def judge_study(
    study: StudyConfig, better: Better, metric: str, runs: Sequence[PlannedRun], rows: Sequence[Row]
) -> dict[str, Any]:
    """Judge every change of an ablation study; return the content of verdicts.json: question, verdicts and notes.

    study: configuration of the study.
    better: "lower" if a smaller metric is better, "higher" if a larger one is.
    metric: name of the compared metric.
    runs: all planned runs.
    rows: results of the runs that have ended, as results.jsonl contains them.

    Raises RunError if the runs were trained for different numbers of samples, or for different times.
    """
    check_budgets(study, rows)
    values: dict[str, dict[int, float]] = {change: {} for change in (BASE, *study.changes)}
    for row in rows:
        values[row["change"]][row["seed"]] = math.nan if row["value"] is None else row["value"]
    configs = {run.change: run.config for run in reversed(runs)}
    keys = {change: changed_keys(configs[BASE], configs[change]) for change in study.changes}
    notes = {change: evaluation_notes(study.recipe, metric, keys[change], configs[BASE]) for change in study.changes}
    verdicts = judge_changes(
        values.pop(BASE),
        values,
        better=better,
        expected={name: change.expect for name, change in study.changes.items()},
        margin=study.margin,
        alpha=study.alpha,
        not_comparable=[change for change in notes if notes[change]],
        until=study.until,
        max_seeds=study.max_seeds,
    )
    described = [
        dataclasses.asdict(verdict)
        | {
            "is_open": study.until is not None and verdict.is_open,
            "claim": study.changes[verdict.change].claim,
            "keys": [str(key) for key in keys[verdict.change]],
            "notes": notes[verdict.change] + _change_notes(verdict.change, rows, keys[verdict.change]),
        }
        for verdict in verdicts
    ]
    study_notes = _study_notes(better, metric, rows)
    if study.post_hoc_choices:
        choices = "; ".join(study.post_hoc_choices)
        study_notes.append(f"Chosen after seeing results: {choices}. p and intervals hold only for earlier choices.")
    return replace_nan(
        {
            "study": study.name,
            **study.model_dump(mode="json", include={"recipe", "at", "margin", "alpha", "until", "seeds"}),
            "metric": metric,
            "better": better,
            "runs": len(rows),
            "planned": len(runs),
            "verdicts": described,
            "rest_seconds": _estimate_rest_seconds(described, rows),
            "notes": study_notes,
        }
    )


def evaluation_notes(recipe: str, metric: str, keys: Sequence[ValueChange], base: Mapping[str, Any]) -> list[str]:
    """Return a note if a change also alters how the metric is measured, with the metric that would decide."""
    altered = changed_evaluation_keys(recipe, metric, keys)
    if not altered:
        return []
    depth_metric, decides = DEPTH_METRICS[0], "Score both with `stadia evaluate`."
    is_validated = depth_metric.removeprefix("val/") in CONFIGS.load(recipe).validation
    if is_validated and not changed_evaluation_keys(recipe, depth_metric, keys):
        truth = has_depth(base)
        if truth is False:
            decides = f"These data have no ground-truth depth for {depth_metric}. {decides}"
        else:
            decides = f"Use --metric {depth_metric}{'' if truth else ', if the data have depth'}."
    return [f"The change alters {metric} itself ({'; '.join(map(str, altered))}). {decides}"]


def check_budgets(study: StudyConfig, rows: Sequence[Row]) -> None:
    """Raise RunError, with runs and keys, if finished runs had different budgets."""
    is_samples = study.budget == "samples"
    tolerance = 0.0 if is_samples else TIME_TOLERANCE
    finished = [row for row in rows if row["status"] == "finished" and row.get(study.budget) is not None]
    if not finished:
        return
    usual = median([row[study.budget] for row in finished if row["change"] == BASE] or [finished[0][study.budget]])
    unequal = [row for row in finished if abs(row[study.budget] - usual) > tolerance * usual]
    if unequal:
        listed = (f"{row['change']} seed {row['seed']}: {row[study.budget]:,.0f}" for row in unequal[:6])
        sample_keys = ", ".join(f"training.{name}" for name in SAMPLE_KEYS)
        keys = f"training.max_steps, {sample_keys}, or the data" if is_samples else "training.max_steps"
        raise RunError(
            f"study '{study.name}'",
            found=f"runs with different {study.budget} ({', '.join(listed)}; other runs {usual:,.0f})",
            expected=f"equal {study.budget} in all runs" + (f", within {tolerance:.0%}" if tolerance else ""),
            fix=f"change {keys}",
        )


def _change_notes(change: str, rows: Sequence[Row], keys: Sequence[ValueChange]) -> list[str]:
    notes = []
    changed, base = ([row for row in rows if row["change"] == name] for name in (change, BASE))
    if len(keys) > 1:
        notes.append(f"{len(keys)} keys changed together, so their effects are not separated.")
    for row in (*changed, *base):
        if row["value"] is None:
            cause = row["error"] or "its value is not finite"
            notes.append(f"No verdict: {row['change']} seed {row['seed']} has no value ({row['status']}: {cause}).")
    paces, base_paces = ([row["update_ratio"] for row in part if row.get("update_ratio")] for part in (changed, base))
    if paces and base_paces and not any(key.is_within(["optimizer.lr"]) for key in keys):
        factor = median(paces) / median(base_paces)
        if max(factor, 1 / factor) > MAX_PACE_RATIO:
            notes.append(f"Also changes the effective learning rate: its steps are {factor:.2g} times the base's.")
    return notes


def _study_notes(better: Better, metric: str, rows: Sequence[Row]) -> list[str]:
    notes = []
    for change in dict.fromkeys(row["change"] for row in rows):
        drifts = [row["drift"] for row in rows if row["change"] == change and row.get("drift") is not None]
        if len(drifts) < MIN_SEEDS:
            continue
        improving = [-drift if better == "lower" else drift for drift in drifts]
        if min(improving) == max(improving):
            continue
        if stats.ttest_1samp(improving, 0, alternative="greater").pvalue <= 0.05:
            gain = f"{metric} of '{change}' still improved by {fmean(improving):.1%} over the last fifth"
            notes.append(f"Not saturated: {gain}. Longer training may reverse the order.")
    if not any(row.get("drift") is not None for row in rows):
        notes.append("Saturation is unknown: the last fifth has fewer than three validations.")
    for part in ("code", "data", "packages", "platform"):
        kinds = dict.fromkeys(row["provenance"].get(part) for row in rows if row["provenance"].get(part) is not None)
        if len(kinds) > 1:
            listed = ", ".join(map(str, kinds))
            notes.append(f"Runs also differ in {part}: {listed}.")
    return notes


def _estimate_rest_seconds(verdicts: Sequence[Mapping[str, Any]], rows: Sequence[Row]) -> float | None:
    """Return the training time in seconds until the open changes of a sequential study are decided.

    A seed of the base is trained once for all changes. The result is None if no number of seeds decides.
    """
    open_verdicts = [verdict for verdict in verdicts if verdict["is_open"]]
    if any(verdict["needed"] is None for verdict in open_verdicts):
        return None
    more = {verdict["change"]: max(1, verdict["needed"] - len(verdict["seeds"])) for verdict in open_verdicts}
    more[BASE] = max(more.values(), default=0)
    trained = [row for row in rows if row["change"] in more and row["seconds"]]
    counts = Counter(row["change"] for row in trained)
    return math.fsum(row["seconds"] * more[row["change"]] / counts[row["change"]] for row in trained)


@dataclass(frozen=True)
class JudgedStudy:
    """Hold the result of judging a study.

    study: content of verdicts.json: question, a verdict for each change, and notes.
    files: files that were written.
    unfinished: number of begun runs that have not finished.
    """

    study: dict[str, Any]
    files: Sequence[Path]
    unfinished: int


@dataclass(frozen=True)
class Ablation:
    """Train and judge the runs of an ablation study.

    config: configuration of the study.
    folder: folder with the study's files.
    runs: planned runs.
    metrics: names of metrics; the first one that a run has is compared.
    better: "lower" if a smaller metric is better, "higher" if a larger one is.
    """

    config: StudyConfig
    folder: StudyFolder
    runs: Sequence[PlannedRun]
    metrics: Sequence[str]
    better: Better

    def list_jobs(self, *, retry_failed: bool) -> list[Job]:
        """Return the jobs of the runs that are not trained yet."""
        has_scores = self.config.has_scores
        jobs = (
            self.folder.job(run, self.config.recipe, retry_failed=retry_failed, has_scores=has_scores)
            for run in self.runs
        )
        return [job for job in jobs if job is not None]

    def train(
        self, launch: Launch, jobs: Sequence[Job], on_run_end: Callable[[Job, int, dict[str, Any], int], None]
    ) -> None:
        """Run the jobs, and update results.jsonl after each. If one is killed, the other jobs continue.

        on_run_end: called with the job, its exit code, its row, and the number of remaining jobs.
        """
        planned = {run.name: run for run in self.runs}
        rows: list[dict[str, Any]] = []

        def end_job(job: Job, code: int) -> None:
            row = self.read_row(planned[job.name])
            if row is None:  # it ended before it made its folder
                found = f"no run ({job.explain_failure(code)})"
                raise RunError(job.name, found=found, expected="a run's folder", fix=f"see {job.log}")
            rows.append(row)
            on_run_end(job, code, row, len(jobs) - len(rows))
            add_line(self.folder.root / RESULTS, row)
            if self.config.budget == "samples":  # seconds are only equal at the end
                check_budgets(self.config, rows)

        launch(jobs, end_job)

    def read_row(self, run: PlannedRun) -> dict[str, Any] | None:
        """Return the result of a run as a row of results.jsonl; None if the run never began.

        run: the planned run.

        Raises RunError if a finished run lacks the study's metric.
        """
        folder = self.folder.find(run.name)
        if folder is None:
            return None
        row = make_result_row(read_run(folder), self.metrics, better=self.better, at=self.config.at)
        if row["status"] == "running":  # its process has ended without a final status
            row |= {"status": "killed", "error": "the process was killed, maybe by a lack of memory"}
        elif row["status"] == "interrupted":
            row |= {"error": "interrupted: the same command resumes it"}
        return {"name": run.name, "change": run.change, "seed": run.seed, **row}

    def write_missing_reports(self) -> dict[str, Path]:
        """Write the report of each finished run that has no report. Return them by run."""
        reports = {}
        for run in self.runs:
            folder = self.folder.find(run.name)
            if folder is None or folder.is_symlink() or (folder / "report.html").exists():  # a link: of another study
                continue
            if Run.open(folder).facts.status == "finished":
                reports[run.name] = build_report(folder)
        return reports

    def judge(self) -> JudgedStudy:
        """Write results.jsonl, verdicts.json and the report."""
        root, rows = self.folder.root, self._read_rows()
        write_lines(root / RESULTS, rows)
        study = self._judge_rows(rows)
        write_json(root / "verdicts.json", study)
        unfinished = sum(row["status"] != "finished" for row in rows)
        return JudgedStudy(study, write_ablation_report(root), unfinished)

    def find_open_changes(self) -> list[str]:
        """Return the changes that `until` adds another seed for; none if the study has `max_seeds`."""
        if self.config.until is None or len(self.config.seeds) >= self.config.max_seeds:
            return []
        study = self._judge_rows(self._read_rows())
        return [verdict["change"] for verdict in study["verdicts"] if verdict["is_open"]]

    def add_seed(self, changes: Sequence[str], resolve: Resolve) -> "Ablation":
        """Write the configurations of another seed, and return the study with its runs.

        changes: changes that are trained, next to the base.
        resolve: returns the configuration of a run, see `plan_runs`.
        """
        seed = max(self.config.seeds) + 1
        config = self.config.model_copy(update={"seeds": (*self.config.seeds, seed)})
        planned = plan_runs(config.model_copy(update={"seeds": (seed,)}), resolve)
        runs = [*self.runs, *(run for run in planned if run.change in (BASE, *changes))]
        self.folder.write(config, runs)
        return dataclasses.replace(self, config=config, runs=runs)

    def _read_rows(self) -> list[dict[str, Any]]:
        return [row for run in self.runs if (row := self.read_row(run)) is not None]

    def _judge_rows(self, rows: Sequence[Row]) -> dict[str, Any]:
        metric = next((row["metric"] for row in rows if row["metric"]), self.metrics[0])
        return judge_study(self.folder.study, self.better, metric, self.runs, rows)
