"""A study's folder: study.yaml, configs/, runs/, logs/. Imports no torch."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from stadia.core.config import ValueChange, diff_mappings, select_relevant_changes
from stadia.core.errors import ConfigMistakes, DataError, RunError
from stadia.io.atomic_files import write_json, write_text
from stadia.io.input_files import check_no_links
from stadia.io.output_files import ANOTHER_OUT, check_output_folder
from stadia.io.run_facts import find_run_facts
from stadia.report.study_report import RESULTS, read_results
from stadia.training.loop.run_folder import Run
from stadia.training.studies.config import PlannedRun, Resolve, StudyConfig, plan_runs, read_json_mapping, read_study
from stadia.training.studies.launch import Job

VERDICT_KEYS = {"metric", "better", "at", "margin", "alpha", "max_seeds", "scores"}
"""Keys of a study's configuration that may change after its runs were trained, because they only alter the judgement.
"""

WRITTEN = ("configs", "runs", "logs", RESULTS, "verdicts.json", "table.md", "plot.svg", "plot.png")
"""Names that a study writes into its folder. A folder that has them without study.yaml belongs to another program."""


class StudyFolder:
    """`root`/study.yaml, configs/RUN.json, runs/ as in any training, logs/RUN.log."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        self.runs, self.configs, self.logs = (self.root / name for name in ("runs", "configs", "logs"))
        self.study_yaml = self.root / "study.yaml"

    def write(self, study: StudyConfig, runs: Sequence[PlannedRun]) -> None:
        """Write the study and its configurations. An existing study may get more seeds, changes, and another judgement.

        Raises RunError if trained runs do not belong to this study, StadiaError for a symbolic link to anything but a
        run.
        """
        check_no_links(self.root, skip=("runs",))
        check_output_folder(self.root, "study.yaml", "study", names=WRITTEN, fix=ANOTHER_OUT)
        if self.study_yaml.exists():
            before = self.study
            self._check_extended(before, study)
            choices = list(before.post_hoc_choices)
            if read_results(self.root):
                choices += [choice for choice in find_post_hoc_choices(before, study) if choice not in choices]
            study = study.model_copy(update={"post_hoc_choices": tuple(choices)})
        new = [run for run in runs if not self._has_config(run)]
        for run in runs:
            if run not in new and (changes := self._find_changes(run)):
                found = f"another configuration of {run.name} ({'; '.join(map(str, changes))})"
                expected = "its first configuration"
                raise RunError(self.root, found=found, expected=expected, fix=ANOTHER_OUT)
        values = study.model_dump(mode="json")
        # First, since it marks the folder as its own.
        write_text(self.study_yaml, yaml.safe_dump(values, sort_keys=False, allow_unicode=True))
        for run in new:
            write_json(self.configs / f"{run.name}.json", run.config)

    @property
    def study(self) -> StudyConfig:
        """Return study.yaml. Raise DataError if it is invalid."""
        try:
            return read_study(self.study_yaml, {}, [])
        except ConfigMistakes as error:
            found, expected = " ".join(map(str, error.mistakes)), "a study that stadia wrote"
            raise DataError(self.study_yaml, found=found, expected=expected, fix=ANOTHER_OUT) from error

    def plan(self, study: StudyConfig, resolve: Resolve) -> tuple[StudyConfig, list[PlannedRun]]:
        """Return a study and its runs. Those that `until` has added so far belong to them.

        study: configuration of the study.
        resolve: returns the configuration of a run, see `plan_runs`.

        Raises the errors of `plan_runs`, and DataError if study.yaml is invalid.
        """
        if study.until is None or not self.study_yaml.exists():
            return study, plan_runs(study, resolve)
        extended = study.model_copy(update={"seeds": tuple(dict.fromkeys((*study.seeds, *self.study.seeds)))})
        runs = plan_runs(extended, resolve)
        return extended, [run for run in runs if run.seed in study.seeds or self._has_config(run)]

    def _has_config(self, run: PlannedRun) -> bool:
        return (self.configs / f"{run.name}.json").exists()

    def find(self, name: str) -> Path | None:
        """Return the folder of the run with this name, the newest of several; None if the run never began.

        name: name of the run.
        """
        starts = []
        for path in self.runs.glob(f"*{name}*/run.json"):
            facts = find_run_facts(path.parent)
            if facts is not None and facts.name == name:
                starts.append((facts.started, path.parent.name, path.parent))
        return max(starts)[2] if starts else None

    def reuse(self, other: "StudyFolder", runs: Sequence[PlannedRun]) -> list[str]:
        """Link runs that another study has finished, if this study plans the same ones; return their names.

        Runs are the same if name and configuration are equal.

        other: folder of the other study.
        runs: planned runs of this study.

        Raises RunError if the other folder contains no study.
        """
        if not other.study_yaml.exists():
            expected, fix = "the folder of a study", "for example studies/NAME"
            raise RunError(other.root, found="no study.yaml", expected=expected, fix=fix)
        linked = []
        for run in runs:
            trained = other.find(run.name)
            if trained is None or self.find(run.name) is not None or other._find_changes(run):
                continue
            if Run.open(trained).facts.status == "finished":
                self.runs.mkdir(parents=True, exist_ok=True)
                target = os.path.relpath(trained.resolve(), self.runs.resolve())
                (self.runs / trained.name).symlink_to(target, target_is_directory=True)
                linked.append(run.name)
        return linked

    def job(self, run: PlannedRun, recipe: str, *, retry_failed: bool, has_scores: bool) -> Job | None:
        """Return the job that trains or resumes a run; None if it is finished, or failed without `retry_failed`.

        has_scores: whether the run is scored and judged at its end.

        Raises RunError if another process trains it.
        """
        folder = self.find(run.name)
        status = None if folder is None else Run.open(folder).facts.status
        if status == "finished" or (status == "failed" and not retry_failed):
            return None
        if folder is None or status == "failed":
            config, out = (path.absolute() for path in (self.configs / f"{run.name}.json", self.runs))
            words: tuple[str, ...] = ("train", recipe, "--config", str(config), "--out", str(out))
        else:
            with Run.open(folder).held():  # raises where another process trains in it
                words = ("train", "--resume", str(folder.absolute()))
        words += () if has_scores else ("--no-scores",)
        return Job(run.name, words, self.logs / f"{run.name}.log")

    def _find_changes(self, run: PlannedRun) -> list[ValueChange]:
        path = self.configs / f"{run.name}.json"
        before = read_json_mapping(path, "a configuration") if path.exists() else {}
        return select_relevant_changes(diff_mappings(before, run.config))

    def _check_extended(self, before: StudyConfig, study: StudyConfig) -> None:
        removed = [f"seed {seed}" for seed in before.seeds if seed not in study.seeds]
        removed += [name for name in before.changes if name not in study.changes]
        if removed:
            raise RunError(
                self.root,
                found=f"a trained study that also has {', '.join(removed)}",
                expected="at least what was trained",
                fix=f"add it again, or {ANOTHER_OUT}",
            )


def find_post_hoc_choices(before: StudyConfig, study: StudyConfig) -> list[str]:
    """Return sentences about what was chosen after results existed: added seeds or changes, another way of judging.

    Seeds that `until` adds are not a choice: its intervals hold for any number of seeds.

    before: configuration of the study when it was last written.
    study: its configuration now.
    """
    added = [] if study.until is not None else [seed for seed in study.seeds if seed not in before.seeds]
    choices = [f"seed {seed} added" for seed in added]
    choices += [f"change '{name}' added" for name in study.changes if name not in before.changes]
    kept = [name for name in before.changes if name in study.changes]
    judgement_before, judgement = (
        config.model_dump(include=VERDICT_KEYS) | {f"expect of '{name}'": config.changes[name].expect for name in kept}
        for config in (before, study)
    )
    return [*choices, *map(str, diff_mappings(judgement_before, judgement))]


def write_lines(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write JSON lines atomically."""
    write_text(path, "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows))


def add_line(path: Path, row: dict[str, Any]) -> None:
    """Add a row to a file of JSON lines; a row with the same "name" is replaced.

    path: the file.
    row: the row, which has a "name".
    """
    write_lines(path, [*(before for before in read_results(path.parent) if before.get("name") != row["name"]), row])
