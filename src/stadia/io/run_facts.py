"""The record of a training run, `run.json`, and messages about missing files and runs."""

import dataclasses
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from stadia.core.config import ABSENT, ValueChange, shorten, shorten_hashes
from stadia.core.errors import CheckpointError, DataError, StadiaError
from stadia.io.atomic_files import write_json
from stadia.io.input_files import check_json_values, read_text

RUN_FILE = "run.json"

MAX_NAMED_RUNS = 3

RUN_FILES = (
    *("config.json", "run.json", "metrics.csv", "histograms.csv", "findings.jsonl"),
    *("data.csv", "diff.patch", "camera.json", "exposure.json", "heights.json"),
)
"""Files in the folder of a training run next to `report.html`. All other files are in subfolders."""

Status = Literal["running", "finished", "interrupted", "failed"]
Count = Annotated[int, Field(ge=0)]
Seconds = Annotated[float, Field(ge=0, le=1e12)]  # the limit keeps sums finite
Side = Annotated[int, Field(ge=1)]
Row = tuple[float, float, float]

_STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class CodeVersion:
    """The version of stadia's code that trained. Both fields are None for an installed package.

    commit: git commit.
    dirty: whether files differed from this commit; diff.patch contains the differences.
    """

    commit: str | None = None
    dirty: bool | None = None


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Environment:
    """Versions and properties of the machine that influence the numbers of a training.

    python: version of Python.
    platform: operating system and processor.
    cores: number of processor cores, or None.
    packages: version of each relevant Python package.
    """

    python: str = ""
    platform: str = ""
    cores: int | None = None
    packages: dict[str, str] = Field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class TrainingTimes:
    """How a training used its time, from its first step on, without pauses.

    device: device that trained, such as "cpu" or "cuda".
    threads: number of torch's threads on the CPU.
    steps: number of steps.
    wall_s: total seconds.
    phases_s: total seconds of each phase of a step, such as loading data.
    step_s: median seconds per step of each phase, without warm-up.
    """

    device: str
    threads: int
    steps: Count
    wall_s: Seconds
    phases_s: dict[str, Seconds]
    step_s: dict[str, Seconds]


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class TimeLimitEnd:
    """When the time limit `training.max_minutes` ended a training.

    step: last step.
    seconds: seconds of all steps.
    """

    step: Count
    seconds: Seconds


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class StageFacts:
    """A stage of progressive resizing: a period of a training with one image size.

    height, width: image size of the stage in pixels.
    share: share of all samples of the training that the stage uses.
    batch_size: number of samples per step.
    first_step: first step of the stage; the first step of the training is 1.
    steps: number of updates.
    lr_factor: factor on the learning rate in this stage.
    """

    height: int
    width: int
    share: float
    batch_size: int
    first_step: int
    steps: int
    lr_factor: float


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class JudgedTraining:
    """Facts about the training whose predictions were judged by the prediction checks.

    steps: number of updates of the evaluated checkpoint.
    trained_steps: number of updates of the whole training.
    warped_over_unwarped: photometric residual of training images after warping divided by that without warping.
    has_trained_frames: whether training frames were evaluated too, because there are few validation frames.
    """

    steps: Count | None = None
    trained_steps: Count | None = None
    warped_over_unwarped: float | None = None
    has_trained_frames: bool = False


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class TrainedCamera:
    """The camera of the training images as filmed, before they were resized.

    K: 3x3 intrinsics in pixels.
    size: (height, width) of the images in pixels.
    """

    K: tuple[Row, Row, Row]
    size: tuple[Side, Side]


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class RecipeFacts:
    """What a recipe (the kind of training) records about a training.

    depth_scale: a value of `DepthScale`: metres, up to scale, or up to scale and shift.
    scale_from: source of the metres, such as a stereo baseline.
    rests_on: known lengths that metres are learned from.
    no_metres: why depth is only up to scale.
    model: description of the network.
    licence: licence of its published weights.
    camera: camera of the training images; None if there are several.
    own: further facts that only this recipe records.
    """

    depth_scale: str | None = None
    scale_from: str | None = None
    rests_on: str | None = None
    no_metres: str | None = None
    model: str | None = None
    licence: str | None = None
    camera: TrainedCamera | None = None
    own: dict[str, Any] = Field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class RunFacts:
    """The record of a training run.

    name: name of the run.
    recipe: name of the recipe (the kind of training).
    recipe_class: the user's class, if the recipe is the user's own.
    command: the command that started it.
    version: version of stadia.
    code: commit of stadia's code.
    environment: versions and properties of the machine.
    seed: seed of all random numbers.
    data: facts that identify the data, which a resumed run compares.
    started, finished, resumed: times in ISO 8601, with the offset from UTC.
    status, error: how the run ended. A killed run is "running".
    weights: initial weights of each network, or under `weights of` the checkpoint and its step.
    start_steps: number of updates of the training's start weights.
    worse_than_start: whether these weights score better than all later ones; None if it started from none.
    depth_gain: share of the initial depth error, at map points or stereo matches, that the best checkpoint removed.
    stages: stages of progressive resizing.
    time: how time was used until the latest checkpoint.
    ended_by_time: set if `training.max_minutes` ended the training.
    best_checkpoint: facts about the best checkpoint.
    predictions: verdict of the prediction checks.
    judged: the training that this verdict is about.
    recipe_facts: what the recipe records.
    own_values: numbers, flags and short texts that the user's class records, or None.
    """

    name: str
    recipe: str
    recipe_class: str | None = None
    command: str
    version: str
    code: CodeVersion
    environment: Environment
    seed: Count
    data: dict[str, Any]
    started: str
    finished: str | None = None
    resumed: tuple[str, ...] = ()
    status: Status
    error: str | None = None
    weights: dict[str, str] = Field(default_factory=dict)
    start_steps: Count = 0
    worse_than_start: bool | None = None
    depth_gain: float | None = None
    stages: tuple[StageFacts, ...] = ()
    time: TrainingTimes | None = None
    ended_by_time: TimeLimitEnd | None = None
    best_checkpoint: dict[str, Any] | None = None
    predictions: str | None = None
    judged: JudgedTraining | None = None
    recipe_facts: RecipeFacts = Field(default_factory=RecipeFacts)
    own_values: dict[str, bool | int | float | str] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the content of run.json, without fields that have their default."""
        values: dict[str, Any] = _ADAPTER.dump_python(self, mode="json", exclude_defaults=True)
        return values


_ADAPTER = TypeAdapter(RunFacts)

UNKNOWN_FACTS = RunFacts(
    name="",
    recipe="",
    command="",
    version="",
    code=CodeVersion(),
    environment=Environment(),
    seed=0,
    data={},
    started="",
    status="running",
)
"""A record without content, with which a report shows the other files of a run if run.json is missing or unreadable."""


def read_run_facts(folder: Path) -> RunFacts:
    """Read the record of a training run, run.json.

    folder: folder of the run.

    Raises DataError, with the file and the field, if it is missing or damaged.
    """
    path = folder / RUN_FILE
    expected = "the record of a run"
    text = read_text(path, expected=expected)
    check_json_values(path, text)
    try:
        return _ADAPTER.validate_json(text)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        key = ".".join(map(str, problem["loc"]))
        fix = "restore the file, or use the stadia version that wrote it"
        if problem["type"] == "unexpected_keyword_argument":
            known = ", ".join(field.name for field in dataclasses.fields(RunFacts))
            expected = f"one of {known}" if len(problem["loc"]) == 1 else "a field of the record"
            raise DataError(path, found=f"unknown field '{key}'", expected=expected, fix=fix) from error
        found = f"{key or 'content'}: {shorten(problem['input'])}"
        if problem["type"] == "missing_keyword_only_argument":
            found = f"no '{key}'"
        raise DataError(path, found=found, expected=problem["msg"].removeprefix("Input should be "), fix=fix) from error


def find_run_facts(folder: Path) -> RunFacts | None:
    """Return the record of a training run from its folder; None if it is missing or unreadable."""
    try:
        return read_run_facts(folder) if (folder / RUN_FILE).is_file() else None
    except (StadiaError, OSError):  # OSError: the text may be too long for a path
        return None


def write_run_facts(folder: Path, facts: RunFacts) -> None:
    """Write the record of a training run to run.json in its folder, atomically."""
    write_json(folder / RUN_FILE, facts.to_json())


# -- the data of a run, compared with their state now

MEASURED_FACTS = ("poses", "depth")
"""Keys of data facts that are hashes or sums of files. Messages leave out their values, which mean nothing to a reader.
"""

ROUNDING = 1e-6
"""Sums of poses in metres count as equal if they differ by at most this, because processors differ in the last digits.
"""


def match_facts(facts: Any, recorded: Any) -> Any:
    """Return the facts of data as they are now, with the recorded number in place of each number that is nearly equal.

    facts: facts as they are now.
    recorded: facts as they were recorded.
    """
    if isinstance(facts, Mapping) and isinstance(recorded, Mapping):
        return {key: match_facts(fact, recorded.get(key)) for key, fact in facts.items()}
    return recorded if _is_close(facts, recorded) else facts


def describe_change(change: ValueChange) -> str:
    """Return a text about a change of a data fact. Values of hashes and sums (MEASURED_FACTS) are left out."""
    if not set(MEASURED_FACTS).intersection(change.key.split(".")):
        return str(shorten_hashes(change))
    absent = ("None", ABSENT)
    return f"{change.key}: {'missing' if change.now in absent else 'added' if change.before in absent else 'others'}"


def _is_close(now: Any, before: Any) -> bool:
    if not isinstance(now, list) or not isinstance(before, list) or len(now) != len(before):
        return False
    if {type(number) for number in (*now, *before)} != {float}:
        return False
    return all(math.isclose(a, b, rel_tol=0, abs_tol=ROUNDING) for a, b in zip(now, before, strict=True))


# -- lost files, and runs that a wrong path may mean


@dataclasses.dataclass(frozen=True)
class LostFile:
    """A file that is missing in the folder of a training run.

    name: path in the folder.
    reason: why it must have existed, such as "the run is finished".
    effect: the consequence for the report.
    is_needed: whether a resume without it would lose or overwrite something.
    is_empty: whether an empty file is in its place.
    """

    name: str
    reason: str
    effect: str = "this report lacks what it held"
    is_needed: bool = True
    is_empty: bool = False

    def __str__(self) -> str:
        return f"{self.name} is {'empty' if self.is_empty else 'missing'}, although {self.reason}"


def list_lost_files(folder: Path, facts: RunFacts, config: Mapping[str, Any]) -> Iterator[LostFile]:
    """Yield the files that must have existed in the folder of a training run and are missing.

    folder: folder of the run.
    facts: record of the run.
    config: configuration of the run, or an empty mapping.
    """
    for name in ("run.json", "config.json"):
        if not (folder / name).is_file():
            yield LostFile(name, "every run has one")
    status, checkpoints = facts.status, folder / "checkpoints"
    is_saved, is_noted = ((checkpoints / f"last.{suffix}").is_file() for suffix in ("safetensors", "json"))
    if not is_saved:
        reason = "last.json exists" if is_noted else ""
        if status == "finished" or (status == "interrupted" and (checkpoints / "best.safetensors").is_file()):
            reason = reason or f"the run is {status}"
        if reason:
            yield LostFile("checkpoints/last.safetensors", reason, "the run cannot be resumed")
    training = config.get("training")
    loggers = training.get("loggers") if isinstance(training, Mapping) else None
    is_logged = not config or (isinstance(loggers, list) and "csv" in loggers)
    metrics = folder / "metrics.csv"
    if is_logged and (is_saved or is_noted) and not (metrics.is_file() and metrics.stat().st_size > 0):
        yield LostFile("metrics.csv", "the run has a checkpoint", is_empty=metrics.is_file())
    if status == "finished" and facts.data and not (folder / "findings.jsonl").is_file():
        yield LostFile("findings.jsonl", "the run is finished", is_needed=False)


def describe_runs(folders: Iterable[Path], *, need_checkpoint: bool = False, without: Path | None = None) -> str:
    """Return advice such as "pass a run: A, B (N more)" with the newest training runs of a folder; "" if there are
    none.

    folders: folders to search; the first that contains runs is used.
    need_checkpoint: list only runs with a checkpoint.
    without: a run that is not listed.
    """
    pattern, kind = (
        ("*/checkpoints/*.safetensors", "run with a checkpoint") if need_checkpoint else ("*/run.json", "run")
    )
    for folder in folders:
        found = {folder / path.relative_to(folder).parts[0] for path in folder.glob(pattern)}
        runs = sorted((run for run in found if without is None or run.resolve() != without.resolve()), reverse=True)
        if runs:
            more = f" ({len(runs) - MAX_NAMED_RUNS} more)" if len(runs) > MAX_NAMED_RUNS else ""
            return f"pass a {kind}: {', '.join(map(str, runs[:MAX_NAMED_RUNS]))}{more}"
    return ""


CHECKPOINT_KINDS = (
    "a name of `stadia list networks`, a run's folder, a .safetensors checkpoint, or for some commands a model.onnx"
)


def check_network_exists(path: Path) -> None:
    """Raise CheckpointError if a path contains neither a training run nor a checkpoint. This does not load torch."""
    if not os.path.lexists(path):
        near = describe_runs([path.parent, Path("runs")], need_checkpoint=True)
        fix = "check the path" + (f", or {near}" if near else "")
        raise CheckpointError(path, found="no such file or folder", expected=CHECKPOINT_KINDS, fix=fix)


def describe_place(folder: Path, *, inside: str) -> str:
    """Describe what is at a path that should contain a run: "a file", "no such folder", or `inside`.

    inside: text for a folder.
    """
    if folder.is_dir():
        return inside
    return "a file" if folder.is_file() else "no such folder"
