"""Compare the scores of the best checkpoint and of the last one: which is better may be chance."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from stadia.files.run_facts import CheckpointComparison
from stadia.training.validation_scores import Sample

MIN_SAMPLES = 30
"""Fewer validation samples make the choice of a checkpoint doubtful, since neighboring frames are alike."""

MIN_STANDARD_ERRORS = 2.0
"""A smaller difference between two checkpoints, in standard errors over the same samples, may be chance."""


@dataclass(frozen=True)
class CheckpointScore:
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


def compare_checkpoints(best: CheckpointScore, last: CheckpointScore) -> CheckpointComparison:
    """Return steps and scores of two checkpoints, and what makes the choice between them doubtful."""
    known = {sample: value for sample, value in last.samples.items() if math.isfinite(value)}
    error = _estimate_error({sample: value - best.samples.get(sample, math.nan) for sample, value in known.items()})
    difference = last.value - best.value
    count = len(known) or last.count
    sets = Counter(sample[0] for sample in known)
    smallest = min(sets.values(), default=count)
    doubts = []
    if 0 < smallest < MIN_SAMPLES:
        of_set = " of a data set" if smallest < count else ""
        doubts.append(f"{smallest} validation samples{of_set} are few")
    if error is not None and difference < MIN_STANDARD_ERRORS * error:
        over = "them" if doubts else f"{count} validation samples"
        doubts.append(f"the difference is within its spread over {over}")
    elif known and not best.samples and not _is_beyond_own_spreads(difference, known):
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
    sets: dict[str, list[float]] = {}
    for sample, value in values.items():
        if math.isfinite(value):
            sets.setdefault(sample[0], []).append(value)
    if not sets or min(map(len, sets.values())) < 2:
        return None
    errors = (statistics.stdev(scores) / math.sqrt(len(scores)) for scores in sets.values())
    return math.hypot(*errors) / len(sets)


def _is_beyond_own_spreads(difference: float, last: Mapping[Sample, float]) -> bool:
    """Return whether two scores differ even if their samples were independent, each with the spread of the last."""
    error = _estimate_error(last)
    return error is not None and difference >= MIN_STANDARD_ERRORS * math.sqrt(2) * error
