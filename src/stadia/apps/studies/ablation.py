"""Train the missing runs of an ablation study, and judge all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stadia.apps.studies.config import PlannedRun, StudyConfig
from stadia.apps.studies.launch import Job, Launch
from stadia.apps.studies.study_folder import StudyFolder, add_line, write_lines
from stadia.apps.studies.study_verdicts import check_budgets, judge_study
from stadia.core.errors import RunError
from stadia.files.atomic_files import write_json
from stadia.metrics.statistics import Better
from stadia.report import build_report
from stadia.report.run_files import read_run
from stadia.report.study_report import RESULTS, make_result_row, write_ablation_report
from stadia.training.run_folder import Run


@dataclass(frozen=True)
class JudgedStudy:
    """The verdicts (content of verdicts.json), the written files, and the number of unfinished runs."""

    study: dict[str, Any]
    files: Sequence[Path]
    unfinished: int


@dataclass(frozen=True)
class Ablation:
    """A study, its folder and planned runs, and its metric: the first of `metrics` that a run has."""

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
        """Return a run's row of results.jsonl; None if it never began. Raise RunError if its metric is missing."""
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
        root = self.folder.root
        rows = [row for run in self.runs if (row := self.read_row(run)) is not None]
        write_lines(root / RESULTS, rows)
        metric = next((row["metric"] for row in rows if row["metric"]), self.metrics[0])
        study = judge_study(self.folder.study, self.better, metric, self.runs, rows)
        write_json(root / "verdicts.json", study)
        unfinished = sum(row["status"] != "finished" for row in rows)
        return JudgedStudy(study, write_ablation_report(root), unfinished)
