"""Read the files of a run that a verdict on its network needs, and judge the training by them (T40)."""

import shlex
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from stadia.core.errors import DataError
from stadia.io.metrics_table import read_rows
from stadia.io.run_facts import JudgedTraining, find_run_facts
from stadia.judge.catalog import Case, describe_case, make_finding
from stadia.judge.depth.frame_measurements import MAX_AUTO_MASKED
from stadia.judge.depth.training_rules import GEOMETRY_RULES, HEIGHT_RULES, MAX_UPDATE_RATIO, rename_base_values
from stadia.judge.finding import Finding, Severity, Stage, read_valid_findings
from stadia.judge.limits import TRAINING_LIMITS

LEARNING_CODES = {  # the network learns little or nothing
    *("L20", "M20", "M21", "M22", "M23", "R20", "S20", "S21", "S22", "S23", "S24"),
    *("T02", "T03", "T07", "T08", "T09", "T10", "T15"),
}

DATA_CAUSES = {"D03": Severity.STOP, "D18": Severity.NOTE, "K05": Severity.WARN, "K06": Severity.WARN}
"""Findings about the data that explain why a network learned no depth, with the smallest severity that does so."""

MAX_LAST_ROWS = 10  # last logged rows up to the checkpoint, for medians

PHOTOMETRIC_TERMS = (
    "photometric",
    "motion",
    "smoothness",
    "teacher",
    "right_view",
    "left_right_consistency",
    "brightness",
)
RECIPE_TERMS = {  # Each term is logged as `train/term/NAME`; other terms come from the user's class.
    "selfsup": PHOTOMETRIC_TERMS,
    "metric": (*PHOTOMETRIC_TERMS, "metric/object_height", "metric/camera_height"),
    "supervised": ("silog_per_image", "silog_pooled", "affine_invariant", "gradient_matching", "log_l1", "teacher"),
}

TERM = "train/term/"


@dataclass(frozen=True, slots=True)
class TrainingRecord:
    """Hold what the files of a run record about the training of a network; None or empty where unknown.

    The "judged checkpoint" is the one whose predictions are judged. An unusable verdict has the codes of its
    findings.

    steps: number of updates of the weights up to the judged checkpoint.
    warped_over_unwarped: residual of source images warped by depth and motion, without auto-mask, divided by the
        residual of unwarped ones, on training images; median of the last logged rows up to the checkpoint.
    auto_masked: share of pixels that the auto-mask excludes, the same median.
    validation_warped: ratio like warped_over_unwarped of the last validation up to the checkpoint.
    codes: codes of the findings of the training's monitors up to the checkpoint that still hold.
    focal: fx / width of the cameras of each of the training's datasets.
    trained_steps: number of updates of the whole training.
    data_causes: findings about the data that explain useless predictions.
    folder: folder of the run.
    recipe: name of its recipe.
    recipe_class: name of the user's own class, if one replaces the recipe.
    own_terms: names of the loss terms that this class added.
    unusable_codes: codes of an unusable verdict on validation images, if the judged images are training images, on
        which predictions are better.
    recorded_codes: codes of the same verdict, for any judged images.
    turn_deg: largest predicted rotation in degrees to a neighboring video frame, median of the last logged rows.
    motion_over_depth: largest predicted translation to a neighboring video frame, divided by depth, the same median.
    is_worse_than_start: whether the start weights of the training score better on validation images.
    depth_gain: share of the start's depth error, at points of a map or at matches, that the training removed.
    start_steps: number of updates of the depth weights that it started from; MAX_STEPS for published weights.
    checkpoint: file and step of the judged checkpoint.
    other_checkpoint: best or last checkpoint, if it is of another step.
    is_published: whether the weights are published ones.
    """

    steps: int | None = None
    warped_over_unwarped: float | None = None
    auto_masked: float | None = None
    validation_warped: float | None = None
    codes: tuple[str, ...] = ()
    focal: tuple[float, ...] = ()
    trained_steps: int | None = None
    data_causes: tuple[Finding, ...] = ()
    folder: Path | None = field(default=None, compare=False)
    recipe: str | None = field(default=None, compare=False)
    recipe_class: str | None = field(default=None, compare=False)
    own_terms: tuple[str, ...] = field(default=(), compare=False)
    unusable_codes: tuple[str, ...] = ()
    recorded_codes: tuple[str, ...] = field(default=(), compare=False)
    turn_deg: float | None = None
    motion_over_depth: float | None = None
    is_worse_than_start: bool = field(default=False, compare=False)
    depth_gain: float | None = field(default=None, compare=False)
    start_steps: float = field(default=0, compare=False)
    checkpoint: str | None = field(default=None, compare=False)
    other_checkpoint: str | None = field(default=None, compare=False)
    is_published: bool = False

    @classmethod
    def read(
        cls, run: Path, *, steps: int | None = None, focal: tuple[float, ...] = (), trained_steps: int | None = None
    ) -> "TrainingRecord":
        """Read a run's metrics and findings up to a checkpoint.

        trained_steps: number of updates of the last checkpoint, if known.
        """
        rows = _read_numbers(run / "metrics.csv")
        ends = [int(rows[-1]["step"])] if rows else []
        ends += [known for known in (steps, trained_steps) if known is not None]
        rows = rows if steps is None else [row for row in rows if row["step"] <= steps]
        facts = find_run_facts(run)
        recipe = facts.recipe if facts else None
        recipe_class = facts.recipe_class.rpartition(".")[2] if facts and facts.recipe_class else None
        return cls(
            steps=steps if steps is not None or not rows else int(rows[-1]["step"]),
            warped_over_unwarped=_last_median(rows, "train/warped_over_unwarped"),
            auto_masked=_last_median(rows, "train/auto_masked"),
            validation_warped=_last_median(rows, "val/warped_over_unwarped", 1),
            turn_deg=_find_largest(rows, "train/motion/turn_deg/"),
            motion_over_depth=_find_largest(rows, "train/motion/over_depth/"),
            codes=_read_codes(run / "findings.jsonl", rows, steps),
            data_causes=_read_data_causes(run / "findings.jsonl"),
            focal=focal,
            trained_steps=max(ends, default=None),
            folder=run if rows else None,
            recipe=recipe,
            recipe_class=recipe_class,
            own_terms=_find_own_terms(rows, recipe) if recipe_class else (),
            is_worse_than_start=facts is not None and facts.worse_than_start is True,
            depth_gain=facts.depth_gain if facts else None,
            start_steps=facts.start_steps if facts else 0,
        )

    def judged(self, *, has_trained_frames: bool) -> JudgedTraining:
        """Return what run.json keeps.

        has_trained_frames: whether frames that trained were judged, too.
        """
        return JudgedTraining(
            steps=self.steps,
            trained_steps=self.trained_steps,
            warped_over_unwarped=self.warped_over_unwarped,
            has_trained_frames=has_trained_frames,
        )


def _find_own_terms(rows: list[dict[str, float]], recipe: str | None) -> tuple[str, ...]:
    """Return the names of the logged loss terms that a recipe does not have."""
    terms = dict.fromkeys(name.removeprefix(TERM) for row in rows for name in row if name.startswith(TERM))
    known = RECIPE_TERMS.get(recipe or "", ())
    # `rename_base_values` has removed the part of photometric terms; other parts have any name.
    in_parts = tuple(f"/{name}" for name in known if name not in PHOTOMETRIC_TERMS)
    return tuple(name for name in terms if name not in known and not name.endswith(in_parts))


def _read_numbers(path: Path) -> list[dict[str, float]]:
    try:
        rows = read_rows(path) if path.is_file() else []
    except DataError:
        return []
    numbers = ({name: float(cell) for name, cell in row.items() if cell and name != "name"} for row in rows)
    return [dict(rename_base_values(row)) for row in numbers]


def _last_median(rows: list[dict[str, float]], name: str, count: int = MAX_LAST_ROWS) -> float | None:
    values = [row[name] for row in rows if name in row][-count:]
    return statistics.median(values) if values else None


def _find_largest(rows: list[dict[str, float]], prefix: str) -> float | None:
    """Return the largest of the last medians of several sources."""
    names = dict.fromkeys(name for row in rows for name in row if name.startswith(prefix))
    medians = (_last_median(rows, name) for name in names)
    return max((value for value in medians if value is not None), default=None)


def _read_codes(path: Path, rows: list[dict[str, float]], steps: int | None) -> tuple[str, ...]:
    """Return the codes of findings up to step `steps` that the last `rows` do not refute."""
    if not path.is_file():
        return ()
    findings, _ = read_valid_findings(path)
    severe = (
        finding for finding in findings if finding.stage is Stage.TRAINING and finding.severity is not Severity.NOTE
    )
    early = [finding.code for finding in severe if steps is None or finding.evidence.get("step", 0) <= steps]
    return tuple(code for code in dict.fromkeys(early) if _still_holds(code, rows))


def _read_data_causes(path: Path) -> tuple[Finding, ...]:
    findings, _ = read_valid_findings(path) if path.is_file() else ([], [])
    rank = list(Severity).index
    known = [finding for finding in findings if finding.stage is Stage.DATA and finding.code in DATA_CAUSES]
    severe = [finding for finding in known if rank(finding.severity) <= rank(DATA_CAUSES[finding.code])]
    return tuple({finding.code: finding for finding in reversed(severe)}.values())


def _still_holds(code: str, rows: list[dict[str, float]]) -> bool:
    """Return whether the value of a finding is still bad in the last rows; True if it is not logged."""
    if code == "T02":
        last = _last_median(rows, "train/update_ratio")
        return last is None or last > MAX_UPDATE_RATIO
    rule = next((rule for rule in (*GEOMETRY_RULES, *HEIGHT_RULES) if rule.code == code), None)
    last = None if rule is None else _last_median(rows, f"train/{rule.name}")
    return rule is None or last is None or rule.is_bad(last)


MIN_DEPTH_GAIN = 0.05  # required fall of the error, relative to the start; a fall of .01 was worse by LiDAR (KITTI raw)

MAX_NAMED_TERMS = 3  # loss terms of a user's class that a finding names


def describe_own_term(recipe_class: str, own_terms: Sequence[str]) -> Case:
    """Return cause and fix of useless depth for a user's class with its own loss terms."""
    columns = ", ".join(f"train/term/{name}" for name in own_terms[:MAX_NAMED_TERMS])
    columns += " ..." * (len(own_terms) > MAX_NAMED_TERMS)
    return describe_case("M30", "own_term", {"recipe_class": recipe_class, "columns": columns})


def _list_exceeded(training: TrainingRecord, *limits: tuple[str, float, str, str]) -> list[tuple[str, str]]:
    """Return measured and expected texts of each value above its limit."""
    values = ((getattr(training, name), most, measured, expected) for name, most, measured, expected in limits)
    return [
        (measured.format(value), f"at most {expected.format(most)}")
        for value, most, measured, expected in values
        if value is not None and value > most
    ]


# Values of `TrainingRecord`, the largest allowed, the measured and the expected text.
_OF_RESIDUAL = (
    ("warped_over_unwarped", TRAINING_LIMITS["warped_over_unwarped"].doubtful,
     "the residual of the training images ended at {:.2f} times the unwarped one",
     "{:g} times in the training"),
    ("validation_warped", TRAINING_LIMITS["validation_warped"].doubtful,
     "the residual of the validation images was {:.2f} times the unwarped one",
     "{:g} times in the validation"),
    ("auto_masked", MAX_AUTO_MASKED, "the auto-mask covered {:.0%} of the pixels", "{:.0%} of the pixels"),
)  # fmt: skip

_OF_MOTION = (
    ("turn_deg", TRAINING_LIMITS["turn_deg"].doubtful,
     "the predicted rotation to the next image ended at {:.0f} degrees", "{:g} degrees"),
    ("motion_over_depth", TRAINING_LIMITS["motion_over_depth"].doubtful,
     "the predicted motion to the next image ended at {:.2g} times the depth", "{:g} times the depth"),
)  # fmt: skip


def check_training(training: TrainingRecord) -> Iterator[Finding]:
    """Report a training that hardly learned, or whose motion is no video's (T40).

    training: record of the network's training.
    """
    reasons: list[tuple[str, str]] = []  # measured, expected
    if training.steps is not None and training.steps + training.start_steps < TRAINING_LIMITS["steps"].doubtful:
        steps = _describe_steps(training.steps, training.trained_steps)
        reasons.append((steps, f"at least {TRAINING_LIMITS['steps'].doubtful} steps (thousands are usual)"))
    reasons += _list_exceeded(training, *_OF_MOTION)
    of_residual = _list_exceeded(training, *_OF_RESIDUAL)
    if codes := [code for code in training.codes if code in LEARNING_CODES]:
        of_residual.append((f"the training reported {', '.join(codes)}", f"a training without {' and '.join(codes)}"))
    has_gain = training.depth_gain is not None and training.depth_gain >= MIN_DEPTH_GAIN
    reasons += [] if has_gain else of_residual
    if training.unusable_codes:
        codes_text = ", ".join(training.unusable_codes)
        measured = f"these frames trained, and predictions of other frames were unusable ({codes_text})"
        reasons.append((measured, "validation frames that are not unusable"))
    severity = Severity.WARN if reasons else Severity.NOTE
    if has_gain and of_residual:  # measured depth decides; the rest is a note
        (first, *others), better = of_residual, f"depth fits points or matches {training.depth_gain:.0%} better, but "
        reasons += [(better + first[0], first[1]), *others]
    if training.is_worse_than_start:
        reasons.append(("the weights that it started from score better on validation frames", "a better score"))
    if reasons:
        unnamed = {"focal", "folder", "recipe", "recipe_class", "own_terms", "data_causes", "recorded_codes"}
        unnamed |= {"is_worse_than_start", "start_steps"}
        evidence = {
            name: value for name, value in asdict(training).items() if name not in unnamed and value is not None
        }
        measured, expected = ("; ".join(texts) for texts in zip(*reasons, strict=True))
        if training.other_checkpoint is not None:
            measured += f" (judged: {training.checkpoint}; the other checkpoint: {training.other_checkpoint})"
        case, values = _choose_case(training)
        yield make_finding("T40", severity, measured, expected, case=case, values=values, evidence=evidence)


def _choose_case(training: TrainingRecord) -> tuple[str, dict[str, object]]:
    has_lost_motion = (training.turn_deg or 0) > TRAINING_LIMITS["turn_deg"].doubtful
    has_lost_motion |= (training.motion_over_depth or 0) > TRAINING_LIMITS["motion_over_depth"].doubtful
    if training.is_worse_than_start:
        return "worse_than_start", {}
    if has_lost_motion:
        return "lost_motion", {}
    if training.folder is None:
        return "", {}
    values: dict[str, object] = {
        "recipe": training.recipe or "RECIPE",
        "recipe_class": training.recipe_class,
        "run": shlex.quote(str(training.folder)),
        "config": shlex.quote(str(training.folder / "config.json")),
    }
    return ("longer_own_class" if training.recipe_class is not None else "longer"), values


def _describe_steps(steps: int, trained: int | None) -> str:
    if trained is not None and trained > steps:
        return f"best checkpoint: step {steps} of {trained}"
    return f"{steps} step{'s' * (steps != 1)}"
