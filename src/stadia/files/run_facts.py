"""The record of a run, `run.json`, and what is in the place of a run: files that it lost, runs that a path may mean."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from stadia.core.config import ABSENT, ValueChange, shorten, shorten_hashes
from stadia.core.errors import DataError, StadiaError
from stadia.files.atomic_files import write_json
from stadia.files.input_files import read_text
from stadia.files.json_files import check_json_values

RUN_FILE = "run.json"

MAX_NAMED_RUNS = 3

RUN_FILES = (
    *("config.json", "run.json", "metrics.csv", "histograms.csv", "findings.jsonl"),
    *("data.csv", "diff.patch", "camera.json", "exposure.json", "heights.json"),
)
"""Files beside `report.html` in the folder of a run; all others are in folders within it."""

Status = Literal["running", "finished", "interrupted", "failed"]
Count = Annotated[int, Field(ge=0)]
Seconds = Annotated[float, Field(ge=0, le=1e12)]  # sums of more would not be finite
Side = Annotated[int, Field(ge=1)]
Row = tuple[float, float, float]

_STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class CodeVersion:
    """The checkout that trained; an installed package is none.

    commit: of git.  dirty: whether it had uncommitted changes, which are in diff.patch.
    """

    commit: str | None = None
    dirty: bool | None = None


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Environment:
    """Python, platform, cores of the processor, and versions of the packages that influence numbers."""

    python: str = ""
    platform: str = ""
    cores: int | None = None
    packages: dict[str, str] = Field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class TrainingTimes:
    """Where the time of a training went, from its first step on, without the time in which it was stopped.

    device, threads: that trained; threads are those of torch on the processor.
    steps: updates made.
    wall_s: by the clock of the processor.  phases_s: by phase; they add up to it.
    step_s: median of a step by phase, without warm-up.
    flops, flops_per_s, peak_flops_per_s, of_peak: of runs of earlier versions, which counted operations.
    """

    device: str
    threads: int
    steps: Count
    wall_s: Seconds
    phases_s: dict[str, Seconds]
    step_s: dict[str, Seconds]
    flops: dict[str, int] = Field(default_factory=dict)
    flops_per_s: dict[str, float] = Field(default_factory=dict)
    peak_flops_per_s: Annotated[float, Field(gt=0)] | None = None
    of_peak: dict[str, float] = Field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class TimeLimitEnd:
    """The end of a training by `training.max_minutes`.

    step: the last one.  seconds: of all steps.
    """

    step: Count
    seconds: Seconds


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class StageFacts:
    """A stage of progressive resizing.

    first_step: from 1.  steps: updates.  lr_factor: on the learning rate. The others: see `StageConfig`.
    """

    height: int
    width: int
    share: float
    batch_size: int
    first_step: int
    steps: int
    lr_factor: float


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class CheckpointComparison:
    """The best checkpoint beside the last one.

    name: of the score that chooses the best, `val/NAME`.
    step, score: of the best.  last_step, last_score: of the last.
    samples: validation samples; 0 where that is unknown.
    standard_error: of the difference of both scores; None where it is unknown.
    doubt: what makes the choice doubtful; "" where the samples are many and the difference is beyond its spread.
    """

    name: str
    step: Count
    last_step: Count
    score: float
    last_score: float
    samples: Count
    standard_error: float | None
    doubt: str


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class JudgedTraining:
    """What the verdict on the predictions is about.

    steps: updates that made the judged checkpoint.  trained_steps: of the whole training.
    warped_over_unwarped: residual of the warped training images over that of the unwarped ones.
    has_trained_frames: whether frames that trained were judged too, because few validate.
    """

    steps: Count | None = None
    trained_steps: Count | None = None
    warped_over_unwarped: float | None = None
    has_trained_frames: bool = False


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class TrainedCamera:
    """The camera of the images that trained.

    K: (3, 3) of the images as filmed.  size: height and width of these.
    """

    K: tuple[Row, Row, Row]
    size: tuple[Side, Side]


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class RecipeFacts:
    """What a recipe records of its training.

    depth_scale: of the predicted depth, a value of `DepthScale`.
    scale_from: where the metres come from.  rests_on: known lengths from which the recipe learns metres.
    no_metres: why depth is up to scale nevertheless.
    model: the network in words.  licence: of its published weights.
    camera: of the images that trained; None where they have several.
    own: further facts of this recipe by name.
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
    """The record of a run.

    name: of the run, without the date.  recipe: that trains it.  recipe_class: the user's class, where one trains.
    command: that started it.  version: of stadia.  code, environment: see there.  seed: of everything random.
    data: the identity of the data, with keys of each kind of data; a resume compares it.
    started, finished: ISO 8601, with the offset from UTC.  resumed: when it went on after a stop.
    status, error: how it ended; "running" also after a kill.
    weights: what each network started from, or `weights of`: checkpoint and step.
    start_steps: updates that made the weights that it started from, with those of their own starts.
    worse_than_start: whether these weights score better than all of its own; None where it started from none.
    depth_gain: share of the error of their depth at points of a map, or of matches, that the best checkpoint removed.
    stages: of progressive resizing.
    time: until the latest checkpoint.
    ended_by_time: where `training.max_minutes` ended it.
    best_checkpoint: how the best compares with the last, where they differ.
    predictions: the verdict of the prediction checks at its end.  judged: what that is about.
    recipe_facts: see there.
    own_values: numbers, flags and short texts of the user's class; None without one.
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
    best_checkpoint: CheckpointComparison | None = None
    predictions: str | None = None
    judged: JudgedTraining | None = None
    recipe_facts: RecipeFacts = Field(default_factory=RecipeFacts)
    own_values: dict[str, bool | int | float | str] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return what run.json holds, without fields that have their default."""
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
"""The record of a run whose run.json is absent or cannot be read: a report shows the other files."""


def read_run_facts(folder: Path) -> RunFacts:
    """Return the record of a run. Raises DataError, with the file and the field, where it is missing or invalid."""
    path = folder / RUN_FILE
    expected = "the record of a run"
    text = read_text(path, expected=expected)
    check_json_values(path, text)
    try:
        return _ADAPTER.validate_json(text)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        key = ".".join(map(str, problem["loc"]))
        fix = "restore the file, or use the version of stadia that wrote it"
        if problem["type"] == "unexpected_keyword_argument":
            known = ", ".join(field.name for field in dataclasses.fields(RunFacts))
            expected = f"one of {known}" if len(problem["loc"]) == 1 else "a field of the record"
            raise DataError(path, found=f"unknown field '{key}'", expected=expected, fix=fix) from error
        found = f"{key or 'the whole'}: {shorten(problem['input'])}"
        if problem["type"] == "missing_keyword_only_argument":
            found = f"no '{key}'"
        message = problem["msg"].removeprefix("Input should be ")
        raise DataError(path, found=found, expected=message, fix=fix) from error


def find_run_facts(folder: Path) -> RunFacts | None:
    """Return the record of a run; None where the folder has none that can be read."""
    try:
        return read_run_facts(folder) if (folder / RUN_FILE).is_file() else None
    except (StadiaError, OSError):  # OSError: the name of a checkpoint may be too long for a path
        return None


def write_run_facts(folder: Path, facts: RunFacts) -> None:
    """Write run.json atomically."""
    write_json(folder / RUN_FILE, facts.to_json())


# -- the data of a run, compared with what they are now

MEASURED_FACTS = ("poses", "depth")
"""Facts that are hashes or sums of files: their values mean nothing to a reader."""

ROUNDING = 1e-6
"""Largest difference of two sums of poses that counts as none, in metres: processors differ in the last digits."""


def match_facts(facts: Any, recorded: Any) -> Any:
    """Return facts of data with the recorded numbers in the place of those that differ by ROUNDING at most.

    Examples:
        >>> match_facts({"poses": {"01": [2.0, 0.30000000000000004]}}, {"poses": {"01": [2.0, 0.3]}})
        {'poses': {'01': [2.0, 0.3]}}
    """
    if isinstance(facts, Mapping) and isinstance(recorded, Mapping):
        return {key: match_facts(fact, recorded.get(key)) for key, fact in facts.items()}
    return recorded if _is_close(facts, recorded) else facts


def describe_change(change: ValueChange) -> str:
    """Return a change of facts in words: the hashes and sums that measure poses and depth mean nothing to a reader.

    Examples:
        >>> describe_change(ValueChange("depth.drive", "1f2a", "None"))
        'depth.drive: missing'
    """
    if not set(MEASURED_FACTS).intersection(change.key.split(".")):
        return str(shorten_hashes(change))
    absent = ("None", ABSENT)
    return f"{change.key}: {'missing' if change.now in absent else 'added' if change.before in absent else 'others'}"


def _is_close(now: Any, before: Any) -> bool:
    """Return whether both are lists of numbers that differ by rounding alone."""
    if not isinstance(now, list) or not isinstance(before, list) or len(now) != len(before):
        return False
    if {type(number) for number in (*now, *before)} != {float}:
        return False
    return all(math.isclose(a, b, rel_tol=0, abs_tol=ROUNDING) for a, b in zip(now, before, strict=True))


# -- files that a run lost, and runs that a wrong path may mean


@dataclasses.dataclass(frozen=True)
class LostFile:
    """A file that the folder of a run had and has no longer.

    name: path within the folder.
    reason: how that is known ("the run is finished").
    effect: what its absence means, for a reader of the report.
    is_needed: whether a resume without it would lose or overwrite something.
    is_empty: whether a file without a byte is in its place.
    """

    name: str
    reason: str
    effect: str = "this report lacks what it held"
    is_needed: bool = True
    is_empty: bool = False

    def __str__(self) -> str:
        return f"{self.name} is {'empty' if self.is_empty else 'not there'}, though {self.reason}"


def list_lost_files(folder: Path, facts: RunFacts, config: Mapping[str, Any]) -> Iterator[LostFile]:
    """Yield the files that the folder of a run has lost.

    facts, config: what run.json and config.json hold; `UNKNOWN_FACTS` and empty where they are absent.
    """
    for name in ("run.json", "config.json"):
        if not (folder / name).is_file():
            yield LostFile(name, "each run has one")
    status, checkpoints = facts.status, folder / "checkpoints"
    is_saved, is_noted = ((checkpoints / f"last.{suffix}").is_file() for suffix in ("safetensors", "json"))
    if not is_saved:
        reason = "last.json is there" if is_noted else ""
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
    """Return the advice to pass one of the runs of the first folder that holds some, the newest ones first.

    Args:
        folders: those that may hold runs, the likeliest first.
        need_checkpoint: only a run with a checkpoint counts.
        without: a run that is not named, since it was refused.

    Returns:
        "pass a run: A, B, C (N more)"; "" where no folder holds one.

    Examples:
        >>> describe_runs([Path("a-folder-without-runs")])
        ''
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


def describe_place(folder: Path, *, inside: str) -> str:
    """Return what is in the place of a run's folder: `inside` for a folder, "a file", or "no such folder".

    Examples:
        >>> describe_place(Path("a-folder-that-is-not-there"), inside="no run in it")
        'no such folder'
    """
    if folder.is_dir():
        return inside
    return "a file" if folder.is_file() else "no such folder"
