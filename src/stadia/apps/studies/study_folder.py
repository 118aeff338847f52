"""A study's folder: study.yaml, configs/, runs/, logs/, and which runs are not trained yet. Imports no torch."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from stadia.apps.studies.config import OTHER_STUDY, PlannedRun, StudyConfig, read_json_mapping, read_yaml_mapping
from stadia.apps.studies.launch import Job
from stadia.core.config import diff_mappings, resolve_config, select_relevant_changes
from stadia.core.errors import ConfigMistakes, DataError, RunError, StadiaError
from stadia.files.atomic_files import write_json, write_text
from stadia.files.json_files import read_json, read_json_objects
from stadia.files.output_files import check_own_folder
from stadia.files.paths import check_no_links
from stadia.training.run_folder import Run

EXTENDABLE_KEYS = ("seeds", "changes")
VERDICT_KEYS = ("metric", "better", "at", "margin", "alpha")
"""Keys of a study that no training depends on."""

RESULTS = "results.jsonl"
_REWRITE = "move it away: the same command writes it again"
WRITTEN = ("configs", "runs", "logs", RESULTS, "verdicts.json", "table.md", "plot.svg", "plot.png")
"""Names in a study's folder beside its study.yaml, which is written before them."""

POST_HOC_CHOICES = "post_hoc_choices"
"""Key of study.yaml: phrases for what was chosen after results existed. Not a key of StudyConfig."""


class StudyFolder:
    """`root`/study.yaml (the study), configs/RUN.json, runs/ as of any training, logs/RUN.log."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        self.runs, self.configs, self.logs = (self.root / name for name in ("runs", "configs", "logs"))
        self.study_yaml = self.root / "study.yaml"

    def write(self, study: StudyConfig, runs: Sequence[PlannedRun]) -> None:
        """Write the study and its configurations. An existing study may get more seeds, changes, and another judgement.

        Raises RunError, with the keys, if its trained runs would not belong to this study, and StadiaError where the
        folder holds a symbolic link to anything but a run.
        """
        check_no_links(self.root, skip=("runs",))
        check_own_folder(self.root, "study.yaml", "study", WRITTEN, fix="choose another --name, or another --out")
        values, after = study.model_dump(mode="json"), []
        if self.study_yaml.exists():
            kept = self.study
            after = kept.pop(POST_HOC_CHOICES, [])
            self._check_same(kept, values)
            if (self.root / RESULTS).exists():
                read_result_rows(self.root / RESULTS)
                after += [change for change in find_post_hoc_choices(kept, values) if change not in after]
        new = list[PlannedRun]()
        for run in runs:
            path = self.configs / f"{run.name}.json"
            if path.exists():
                changes = select_relevant_changes(diff_mappings(read_json_mapping(path, "a configuration"), run.config))
                self._refuse(f"configuration of {run.name}", changes)
            else:
                new.append(run)
        values |= {POST_HOC_CHOICES: after} if after else {}
        # First, since it marks the folder as its own.
        write_text(self.study_yaml, yaml.safe_dump(values, sort_keys=False, allow_unicode=True))
        for run in new:
            write_json(self.configs / f"{run.name}.json", run.config)

    @property
    def study(self) -> dict[str, Any]:
        """Return study.yaml: StudyConfig's keys, and POST_HOC_CHOICES. Raise DataError where it is no study."""
        expected = "a study that stadia wrote"
        values = read_yaml_mapping(self.study_yaml, expected)
        after = values.pop(POST_HOC_CHOICES, [])
        if not isinstance(after, list):
            found = f"{POST_HOC_CHOICES}: {type(after).__name__}"
            raise DataError(self.study_yaml, found=found, expected="a list", fix=OTHER_STUDY)
        try:
            study = resolve_config(StudyConfig, values).model_dump(mode="json")
        except ConfigMistakes as error:
            found = "; ".join(error.mistakes)
            raise DataError(self.study_yaml, found=found, expected=expected, fix=OTHER_STUDY) from error
        return study | ({POST_HOC_CHOICES: [str(choice) for choice in after]} if after else {})

    def find(self, name: str) -> Path | None:
        """Return the newest folder of a run, or None."""
        named = []
        for path in self.runs.glob(f"*{name}*/run.json"):
            try:
                facts = read_json(path)
            except StadiaError:
                continue
            if isinstance(facts, dict) and facts.get("name") == name:
                named.append((str(facts.get("started")), path.parent.name, path.parent))
        return max(named)[2] if named else None

    def reuse(self, other: StudyFolder, runs: Sequence[PlannedRun]) -> list[str]:
        """Link finished runs of another study with equal name and configuration; return their names.

        Studies on one base then train it once. Raises RunError if the other folder holds no study.
        """
        if not other.study_yaml.exists():
            expected, fix = "the folder of a study", "for example studies/NAME"
            raise RunError(other.root, found="no study.yaml", expected=expected, fix=fix)
        if other.study["recipe"] != self.study["recipe"]:
            return []
        linked = []
        for run in runs:
            found, config = other.find(run.name), other.configs / f"{run.name}.json"
            if found is None or self.find(run.name) is not None or not config.exists():
                continue
            before = read_json_mapping(config, "a configuration")
            changes = select_relevant_changes(diff_mappings(before, run.config))
            if changes or Run.open(found).facts["status"] != "finished":
                continue
            self.runs.mkdir(parents=True, exist_ok=True)
            link, there = self.runs / found.name, found.resolve()
            link.symlink_to(os.path.relpath(there, self.runs.resolve()), target_is_directory=True)
            linked.append(run.name)
        return linked

    def job(self, run: PlannedRun, recipe: str, *, retry_failed: bool) -> Job | None:
        """Return the job that trains or resumes a run; None if it is finished, or failed without `retry_failed`.

        Raises RunError if it is being trained.
        """
        found = self.find(run.name)
        status = None if found is None else Run.open(found).facts["status"]
        if status == "finished" or (status == "failed" and not retry_failed):
            return None
        if found is None or status == "failed":
            config, out = (path.absolute() for path in (self.configs / f"{run.name}.json", self.runs))
            words: tuple[str, ...] = ("train", recipe, "--config", str(config), "--out", str(out))
        else:
            with Run.open(found).held():  # raises where another process trains in it
                words = ("train", "--resume", str(found.absolute()))
        return Job(run.name, words, self.logs / f"{run.name}.log")

    def _check_same(self, kept: dict[str, Any], values: dict[str, Any]) -> None:
        before, after = ({**of, "base": _read_base(of["base"])} for of in (kept, values))
        changes = diff_mappings(before, after)
        self._refuse("study", [change for change in changes if not change.is_within((*VERDICT_KEYS, *EXTENDABLE_KEYS))])
        both = kept["changes"].keys() & values["changes"].keys()
        was, now = ({name: of["changes"][name]["set"] for name in both} for of in (kept, values))
        self._refuse("study", diff_mappings(was, now, "changes."))
        removed = [f"seed {seed}" for seed in kept["seeds"] if seed not in values["seeds"]]
        removed += [name for name in kept["changes"] if name not in values["changes"]]
        if removed:
            raise RunError(
                self.root,
                found=f"a study that has {', '.join(removed)} too",
                expected="one with at least what was trained",
                fix="keep what was trained; or start another study, with --out",
            )

    def _refuse(self, what: str, changes: Sequence[object]) -> None:
        if changes:
            found, expected = f"another {what} ({'; '.join(map(str, changes))})", "the one that it was started with"
            raise RunError(self.root, found=found, expected=expected, fix=OTHER_STUDY)


def _read_base(words: Any) -> Any:
    """Return the settings of all runs by key, so that a difference names the key; anything but words as it is."""
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        return words
    return dict(word.partition("=")[::2] for word in words)


def find_post_hoc_choices(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Return phrases for what a study has and did not before: seeds, changes, judgement, expectations."""
    found = [f"seed {seed} added" for seed in now["seeds"] if seed not in before["seeds"]]
    found += [f"change '{name}' added" for name in now["changes"] if name not in before["changes"]]
    was, current = ({key: study[key] for key in VERDICT_KEYS} for study in (before, now))
    both = [name for name in now["changes"] if name in before["changes"]]
    was |= {f"expect of '{name}'": before["changes"][name]["expect"] for name in both}
    current |= {f"expect of '{name}'": now["changes"][name]["expect"] for name in both}
    return [*found, *map(str, diff_mappings(was, current))]


def write_lines(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write JSON lines atomically."""
    write_text(path, "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows))


def add_line(path: Path, row: dict[str, Any]) -> None:
    """Add a row, or replace the row of the same name."""
    before = read_result_rows(path) if path.exists() else []
    write_lines(path, [*(one for one in before if one.get("name") != row["name"]), row])


def read_result_rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows of results.jsonl. Raises DataError for a line that is no JSON object."""
    expected = "a JSON object a line"
    return read_json_objects(path, expected=expected, fix=_REWRITE)
