"""Judge the training of a network by the files of its run (T40), and name a user's own loss term as a cause."""

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import asdict

from stadia.judge.catalog import Case, describe_case, make_finding
from stadia.judge.depth.frame_measurements import MAX_AUTO_MASKED
from stadia.judge.depth.training_record import LEARNING_CODES, TrainingRecord
from stadia.judge.finding import Finding, Severity
from stadia.judge.limits import TRAINING_LIMITS

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
