"""Means of validation scores over samples, each once, over all processes."""

import logging
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from statistics import fmean
from typing import TypeVar

import torch
from torch import Tensor

from stadia.core.types import Meta

log = logging.getLogger(__name__)

T = TypeVar("T")
Sample = tuple[str, str, int, str, bool, int, int]
"""A sample is a data set, recording, index, side, mirrored, instance, and its number in this process."""

Scores = dict[str, dict[Sample, float]]


class ValidationScores:
    """The scores of the validation batches of a process.

    by_sample: of all processes; set by `means`.
    unscored: (samples without a score, all) by name; set by `means`.
    """

    def __init__(self) -> None:
        self._batches: list[tuple[tuple[Meta, ...], dict[str, Tensor]]] = []
        self.by_sample: Scores = {}
        self.unscored: dict[str, tuple[int, int]] = {}

    def add(self, meta: tuple[Meta, ...], values: Mapping[str, Tensor | float]) -> None:
        """Add scores of a batch by name: (B,), or one number for each of its samples."""
        expanded = {name: torch.as_tensor(value).detach().expand(len(meta)) for name, value in values.items()}
        self._batches.append((meta, expanded))

    def means(self) -> dict[str, float]:
        """Return the means over all processes (`compute_means`), and forget the samples. Called by all processes."""
        mine, self._batches = _list_scores(self._batches), []
        self.by_sample = {}
        for part in gather_from_processes(mine):
            for name, scores in part.items():
                self.by_sample.setdefault(name, {}).update(scores)
        counts = {name: (sum(map(math.isnan, scores.values())), len(scores)) for name, scores in self.by_sample.items()}
        self.unscored = {name: count for name, count in counts.items() if count[0]}
        return compute_means(self.by_sample)

    def warn_of_unscored(self) -> None:
        """Warn of the samples that `means` left out."""
        for count in dict.fromkeys(self.unscored.values()):
            names = ", ".join(name for name, other_count in self.unscored.items() if other_count == count)
            line = "validation: %d of %d samples have no ground truth for %s; the mean leaves them out"
            log.warning(line, *count, names)


def gather_from_processes(mine: T) -> list[T]:
    """Return the objects of all processes, by rank. Called by all processes."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return [mine]
    parts = [mine] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(parts, mine)
    return parts


def compute_means(scores: Scores) -> dict[str, float]:
    """Return the mean of each score over the samples that have it; NaN if no sample has it.

    A sample that several processes scored counts once. Sums are exact (`math.fsum`), so the order does not matter.

    Several data sets have their own means, "NAME/score". If all have a score, the plain name is the mean of their
    means.
    """
    names = dict.fromkeys(sample[0] for values in scores.values() for sample in values)
    if not any(names):
        return {score: _mean(values.values()) for score, values in scores.items()}
    means: dict[str, float] = {}
    for score, values in scores.items():
        sets = {name: [value for sample, value in values.items() if sample[0] == name] for name in names}
        of_sets = {name: _mean(some) for name, some in sets.items() if some}
        means |= {f"{name}/{score}": mean for name, mean in of_sets.items()}
        if len(of_sets) == len(names):
            means[score] = fmean(of_sets.values())  # NaN if one of them is
    return means


def _mean(values: Iterable[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return fmean(known) if known else math.nan


def _list_scores(batches: list[tuple[tuple[Meta, ...], dict[str, Tensor]]]) -> Scores:
    scores: Scores = {}
    times: Counter[tuple[str, str, int, str, bool, int]] = Counter()
    for metas, values in batches:
        samples: list[Sample] = []
        for meta in metas:
            key = (meta.data, meta.recording, meta.index, meta.side, meta.mirrored, meta.instance)
            samples.append((*key, times[key]))
            times[key] += 1
        for name, value in values.items():
            scores.setdefault(name, {}).update(zip(samples, value.tolist(), strict=True))
    return scores
