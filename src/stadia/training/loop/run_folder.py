"""The folder of a run: configuration, code version, environment, status. Imports no torch."""

import contextlib
import copy
import functools
import importlib.metadata
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import stadia
from stadia.core.config import StrictModel, diff_mappings, select_relevant_changes
from stadia.core.errors import DataError, RunError, mask_secrets, mask_values
from stadia.io.atomic_files import LOCK_FILE, hold_lock, remove_stale_files, write_json, write_text
from stadia.io.input_files import check_no_links, read_json
from stadia.io.run_facts import (
    RUN_FILE,
    CodeVersion,
    Environment,
    RunFacts,
    Status,
    describe_change,
    describe_place,
    describe_runs,
    match_facts,
    read_run_facts,
    write_run_facts,
)

_PACKAGES = (
    "torch",
    "lightning-fabric",
    "timm",
    "numpy",
    "opencv-python-headless",
    "safetensors",
    "scipy",
    "av",
    "pydantic",
)
_LARGEST_DIFF = 16 << 20  # a larger one is somebody's data, not code
# the pattern of `Run.create`
_RUN_FOLDERS = "[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]-[0-9][0-9][0-9][0-9][0-9][0-9]-*"

MAX_MINUTES = "training.max_minutes"
"""A resume may raise the time limit."""

BATCH_KEYS = tuple(f"training.{key}" for key in ("batch_size", "devices", "strategy", "grad_accumulation_steps"))
"""These keys may differ in a resume with `training.global_batch_size`, because they share one batch differently."""


@dataclass(frozen=True)
class Run:
    """The folder of a training run. `Run.create` makes a new one, `Run.open` opens an existing one.

    folder: path of the folder, runs/<date-time>-<name>.
    recipe, config, seed: name of the recipe, complete configuration, and seed, as stored when the run was made.
    writes: whether this process writes files; False in the other processes of a distributed training.
    """

    folder: Path
    recipe: str
    config: dict[str, Any]
    seed: int
    writes: bool = True

    @classmethod
    def create(
        cls,
        root: Path,
        name: str,
        config: StrictModel | Mapping[str, Any],
        *,
        recipe: str,
        seed: int,
        command: str | None = None,
        data: Mapping[str, Any] | None = None,
    ) -> "Run":
        """Create a new folder, and write the configuration.

        Raises RunError for a name that cannot name a folder, or a root that cannot be written to.
        """
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
            expected = "letters, digits, '.', '_' and '-'"
            raise RunError("run name", found=repr(name), expected=expected, fix="choose another name")
        started = datetime.now().astimezone()
        wanted = Path(root) / f"{started:%Y-%m-%d-%H%M%S}-{name}"
        values = mask_values(config.model_dump(mode="json") if isinstance(config, StrictModel) else dict(config))
        if not is_main_process():
            return cls(wanted, recipe, values, seed, writes=False)
        for folder in {*Path(root).glob(_RUN_FOLDERS), *(file.parent for file in Path(root).glob("*/run.json"))}:
            remove_stale_files_of_run(folder)
        run = cls(_new_folder(wanted), recipe, values, seed)
        code, difference = _code_version()
        if difference:
            write_text(run.folder / "diff.patch", difference)
        write_json(run.folder / "config.json", values)
        facts = RunFacts(
            name=name,
            recipe=recipe,
            command=mask_secrets(command or " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])),
            version=stadia.__version__,
            code=code,
            environment=_describe_environment(),
            seed=seed,
            data=mask_values(dict(data or {})),
            started=started.isoformat(timespec="seconds"),
            status="running",
        )
        write_run_facts(run.folder, facts)
        return run

    @classmethod
    def open(cls, folder: Path) -> "Run":
        """Return an existing run. Raises RunError without a run, DataError for damaged files."""
        folder = Path(folder)
        missing = [name for name in (RUN_FILE, "config.json") if not (folder / name).is_file()]
        if missing:
            found = describe_place(folder, inside=f"no {' and no '.join(missing)}")
            fix = describe_runs([folder, folder.parent, Path("runs")], without=folder) or "pass runs/<date>-<name>"
            fix = f"restore {missing[0]}" if len(missing) == 1 else fix
            raise RunError(folder, found=found, expected="a run's folder", fix=fix)
        facts, config = read_run_facts(folder), _read_config(folder)
        return cls(folder, facts.recipe, config, facts.seed, writes=is_main_process())

    @property
    def facts(self) -> RunFacts:
        """Return the record of the run, read from run.json."""
        return read_run_facts(self.folder)

    @property
    def metrics_csv(self) -> Path:
        """Return the path of the table of logged values."""
        return self.folder / "metrics.csv"

    @property
    def histograms_csv(self) -> Path:
        """Return the path of the table of weights and gradients."""
        return self.folder / "histograms.csv"

    @property
    def checkpoints(self) -> Path:
        """Return the folder of the checkpoints."""
        return self.folder / "checkpoints"

    @property
    def images(self) -> Path:
        """Return the folder of the image sheets."""
        return self.folder / "images"

    def check_config(
        self, config: StrictModel | Mapping[str, Any], within: str | None = None, free: Collection[str] = ()
    ) -> None:
        """Raise RunError, naming each key, if a configuration differs from the run's.

        config: the whole configuration, or one group of it.
        within: the key of that group ("training").
        free: further keys, or groups of them, that may differ, besides keys without effect and a larger time limit.
        """
        after = config.model_dump(mode="json") if isinstance(config, StrictModel) else dict(config)
        before = self.config if within is None else self.config.get(within, after)
        changes = diff_mappings(before, after, f"{within}." if within else "")
        training = after if within == "training" else after.get("training", {}) if within is None else {}
        longer = [MAX_MINUTES] if self.has_shorter_time_limit(training.get("max_minutes", 0)) else []
        shared = BATCH_KEYS if training.get("global_batch_size") is not None else ()
        changes = select_relevant_changes(changes, [*free, *longer, *shared])
        if changes:
            found = f"other configuration ({'; '.join(map(str, changes))})"
            expected = "what the run was made with"
            raise RunError(self.folder, found=found, expected=expected, fix=advise_new_run(self.folder))

    def has_shorter_time_limit(self, minutes: float | None) -> bool:
        """Return whether a time limit is longer than the run's; None is unlimited."""
        training = self.config.get("training")
        own = training.get("max_minutes") if isinstance(training, dict) else None
        return isinstance(own, int | float) and (minutes is None or minutes > own)

    def set_time_limit(self, minutes: float | None) -> None:
        """Write another time limit into the configuration, and clear the record that the old one ended the run."""
        self.config["training"]["max_minutes"] = minutes
        self.update_facts(lambda facts: replace(facts, ended_by_time=None))
        if self.writes:  # the configuration last: a resume after a stop in between raises the limit again
            write_json(self.folder / "config.json", self.config)

    def set_values(self, values: Mapping[str, Any]) -> None:
        """Write values by key ("data.path") into the configuration; unknown keys are left out."""
        before = copy.deepcopy(self.config)
        for key, value in values.items():
            *groups, name = key.split(".")
            group: Any = self.config
            for key_part in groups:
                group = group.get(key_part) if isinstance(group, dict) else None
            if isinstance(group, dict) and name in group:
                group[name] = value
        if self.writes and self.config != before:
            write_json(self.folder / "config.json", self.config)

    def check_data(self, data: Mapping[str, Any]) -> None:
        """Raise RunError if the data differ from the run's. Their paths may differ."""
        before = self.facts.data
        after = match_facts(json.loads(json.dumps(data)), before)
        prefixes = ["", *(f"extra_datasets.{name}." for name in before.get("extra_datasets", {}))]
        keys = ("path", "train_images", "train_videos", "train_sessions")
        free = {prefix + key for prefix in prefixes for key in keys}
        changes = [change for change in diff_mappings(before, after) if not change.is_within(free)]
        if changes and _have_equal_videos(before, after) and self.config.get("motion") == "map":
            found, expected = "another map of the same video, which was made after the training", "the map of the run"
            raise RunError(self.folder, found=found, expected=expected, fix=advise_new_run(self.folder))
        if changes:
            found = f"other data than the run was trained on ({'; '.join(map(describe_change, changes))})"
            expected = f"the data of the run, {before.get('path') or 'unchanged'}"
            raise RunError(self.folder, found=found, expected=expected, fix=advise_new_run(self.folder))

    def update_facts(self, change: Callable[[RunFacts], RunFacts]) -> None:
        """Write the changed record; nothing in further processes."""
        if self.writes:
            write_run_facts(self.folder, change(self.facts))

    def end(self, status: Status, error: str | None = None) -> None:
        """Write the final status and the time into run.json."""
        self.update_facts(lambda facts: replace(facts, status=status, finished=_now(), error=error))

    def failed(self, error: BaseException) -> None:
        """Write that the run failed, and the error."""
        self.end("failed", mask_secrets(" ".join(f"{type(error).__name__}: {error}".split())))

    def resume(self, *, from_start: bool = False) -> None:
        """Record that the run was resumed.

        from_start: whether it resumes at step 0, without the times before.
        """

        def change(facts: RunFacts) -> RunFacts:
            facts = replace(facts, status="running", finished=None, error=None, resumed=(*facts.resumed, _now()))
            return replace(facts, time=None) if from_start else facts

        self.update_facts(change)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Lock the run, so that no second process trains in its folder.

        Raises RunError if it is locked, and StadiaError if it contains a symbolic link.
        """
        if not self.writes:
            yield
            return
        check_no_links(self.folder)
        found, expected = "a training that runs in it", "a run that has stopped"
        refusal = RunError(self.folder, found=found, expected=expected, fix="wait, or stop it first")
        with hold_lock(self.folder / LOCK_FILE, self.folder, refusal):
            yield


def advise_new_run(folder: Path) -> str:
    """Return the fix of a run that cannot be resumed, because something of it is lost or differs."""
    return f"restore it, or train a new run from its weights: start_from={folder}"


def is_main_process() -> bool:
    """Return False in the further processes of a distributed training."""
    ranks = (os.environ.get(name) for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID"))
    return next((rank for rank in ranks if rank is not None), "0") == "0"


def remove_stale_files_of_run(run: Path) -> None:
    """Remove the temporary files that killed trainings left in a run's folder."""
    for folder in (run, run / "checkpoints", run / "images"):
        if folder.is_dir() and not any(place.is_symlink() for place in (folder, folder.parent)):
            remove_stale_files(folder)


def _new_folder(wanted: Path) -> Path:
    try:
        wanted.parent.mkdir(parents=True, exist_ok=True)
        for number in range(1, 1000):
            folder = wanted if number == 1 else wanted.with_name(f"{wanted.name}-{number}")
            with contextlib.suppress(FileExistsError):
                folder.mkdir()
                return folder
    except OSError as error:
        found = f"no permission to make a folder ({error.strerror or 'no access'})"
        expected = "a folder that can be written to"
        raise RunError(wanted.parent, found=found, expected=expected, fix="choose another --out") from error
    raise RunError(wanted, found="1000 runs of one second", expected="a free name", fix="choose another --out")


def _have_equal_videos(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    return bool(before.get("train_videos")) and set(before["train_videos"]) == set(after.get("train_videos") or {})


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    value = read_json(path)
    if not isinstance(value, dict):
        raise DataError(path, found=type(value).__name__, expected="a JSON object", fix="restore the file")
    return value


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")


def run_git(*arguments: str) -> str | None:
    """Return what git prints about the folder of the package, or None if git fails or is missing."""
    command = ["git", "-C", str(Path(stadia.__file__).parent), *arguments]
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    try:
        done = subprocess.run(command, capture_output=True, timeout=20, check=True, env=environment)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode("utf-8", errors="replace")


def _code_version() -> tuple[CodeVersion, str]:
    commit = run_git("rev-parse", "HEAD") if run_git("ls-files", "--error-unmatch", "__init__.py") else None
    if commit is None:
        return CodeVersion(), ""
    changes = run_git("status", "--porcelain", "--", ".")
    difference = run_git("diff", "HEAD", "--", ".") or ""
    if len(difference) > _LARGEST_DIFF:
        difference = difference[:_LARGEST_DIFF] + "\n... cut here\n"
    return CodeVersion(commit=commit.strip(), dirty=bool(changes)), difference


def _describe_environment() -> Environment:
    return Environment(
        python=platform.python_version(),
        platform=platform.platform(),
        cores=os.cpu_count(),
        packages=dict(_read_versions()),
    )


@functools.cache
def _read_versions() -> Mapping[str, str]:
    versions = {}
    for package in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return versions
