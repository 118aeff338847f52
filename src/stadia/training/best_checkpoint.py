"""Compare the best checkpoint with the last one, and with the weights that the training started from."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from stadia.files.run_facts import CheckpointComparison
from stadia.training.validation_scores import Sample

if TYPE_CHECKING:
    from stadia.training.loop import TrainingLoop

MIN_SAMPLES = 30
"""Validation samples below which the choice of a checkpoint is doubtful: neighboring frames are alike."""

MIN_STANDARD_ERRORS = 2.0
"""Of the difference between two checkpoints over the same samples, in standard errors: below it may be chance."""


@dataclass(frozen=True)
class ValidationScore:
    """The score that chooses the best checkpoint, of one validation.

    name: `val/NAME`.  step: updates made before it.  value: lower is better.
    count: validation samples; 0 where that is unknown.
    samples: the same score by sample; empty where it is no mean over samples, or of a training before its resume.
    """

    name: str
    step: int
    value: float
    count: int = 0
    samples: Mapping[Sample, float] = field(default_factory=dict)


def compare_checkpoints(best: ValidationScore, last: ValidationScore) -> CheckpointComparison:
    """Return steps and scores of two checkpoints, and what makes the choice between them doubtful."""
    known = {one: value for one, value in last.samples.items() if math.isfinite(value)}
    differences = {one: value - best.samples.get(one, math.nan) for one, value in known.items()}
    count, error = len(known) or last.count, _estimate_error(differences)
    smallest = min(Counter(one[0] for one in known).values(), default=count)
    of_set = "" if smallest == count else " of a data set"
    doubts = [f"{smallest} validation samples{of_set} are few"] if 0 < smallest < MIN_SAMPLES else []
    if error is not None and last.value - best.value < MIN_STANDARD_ERRORS * error:
        doubts.append("the difference is within its spread over them" if doubts else _describe_spread(count))
    elif known and not best.samples and not _is_beyond_own_spreads(last.value - best.value, known):
        doubts.append("the spread of the difference is unknown, since the training was resumed")
    return CheckpointComparison(
        name=best.name,
        step=best.step,
        last_step=last.step,
        score=best.value,
        last_score=last.value,
        samples=count,
        standard_error=error,
        doubt=", and ".join(doubts),
    )


def _estimate_error(values: Mapping[Sample, float]) -> float | None:
    """Return the standard error of the mean of finite values; None without two of each data set.

    The score of several data sets is the mean of their means (`compute_means`), and its error that of this mean.
    """
    of_sets: dict[str, list[float]] = {}
    for one, value in values.items():
        if math.isfinite(value):
            of_sets.setdefault(one[0], []).append(value)
    if not of_sets or min(map(len, of_sets.values())) < 2:
        return None
    errors = (statistics.stdev(each) / math.sqrt(len(each)) for each in of_sets.values())
    return math.hypot(*errors) / len(of_sets)


def _is_beyond_own_spreads(difference: float, last: Mapping[Sample, float]) -> bool:
    """Return whether two scores differ even if their samples were independent, each with the spread of the last."""
    error = _estimate_error(last)
    return error is not None and difference >= MIN_STANDARD_ERRORS * math.sqrt(2) * error


def _describe_spread(count: int) -> str:
    return f"the difference is within its spread over {count} validation samples"


def note_best_checkpoint(loop: TrainingLoop) -> CheckpointComparison | None:
    """Write into run.json how the best checkpoint compares with the last, and return it; None where they are one.

    Only in the process that writes the run: of the others, one may come here before the file is there.
    """
    best, last, run = loop.best_score, loop.last_score, loop.run
    if not run.writes:
        return None
    is_other = best is not None and last is not None and best.name == last.name and best.step < last.step == loop.step
    compared = compare_checkpoints(best, last) if best and last and is_other else None
    if compared != run.facts.best_checkpoint:
        run.update_facts(lambda facts: replace(facts, best_checkpoint=compared))
    return compared


def describe_best_checkpoint(loop: TrainingLoop, compared: CheckpointComparison | None) -> Iterator[str]:
    """Yield a note where the choice between the best and the last checkpoint is doubtful."""
    if compared is not None and compared.doubt:
        name = loop.recipe.describe_score(compared.name)
        scores = (
            f"the best checkpoint is that of step {compared.step} ({name} {compared.score:.4g}), "
            f"the last that of step {compared.last_step} ({compared.last_score:.4g})"
        )
        fix = "predict with both (checkpoints/best.safetensors, checkpoints/last.safetensors), or validate on more"
        yield f"note: {scores}; {compared.doubt}: the last may be the better one. Fix: {fix} samples"


def compare_with_start(loop: TrainingLoop) -> Iterator[str]:
    """Yield a note where no validation scored better than the weights that the training started from."""
    if loop.start_score is None or not loop.is_worse_than_start:
        return
    name, score = loop.start_score
    lost = f"the weights that it started from have {name} {score:.4g} on these frames, its own best {loop.best:.4g}"
    yield f"note: {lost}. Fix: use those of the start, or train with a lower optimizer.lr or on more images"
