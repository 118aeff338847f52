"""Validation means over samples, each once, over all processes."""

from __future__ import annotations

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
"""Data set, recording, index, side, mirrored, instance, and how often this process had it before."""

Scores = dict[str, dict[Sample, float]]


class ValidationScores:
    """The scores of the validation batches of a process. Values stay on their device until `means`."""

    def __init__(self) -> None:
        self._batches: list[tuple[tuple[Meta, ...], dict[str, Tensor]]] = []
        self.by_sample: Scores = {}  # set by `means`: of all processes
        self.without: dict[str, tuple[int, int]] = {}  # set by `means`: samples without a score, and all, by name

    def add(self, meta: tuple[Meta, ...], values: Mapping[str, Tensor | float]) -> None:
        """Add scores of a batch by name: (B,), or one number for each of its samples."""
        each = {name: torch.as_tensor(value).detach().expand(len(meta)) for name, value in values.items()}
        self._batches.append((meta, each))

    def means(self) -> dict[str, float]:
        """Return the means over all processes, see `compute_means`, and forget the samples. Called by all processes."""
        mine, self._batches = _scores_by_sample(self._batches), []
        parts = gather_from_processes(mine)
        self.by_sample, self.without = _merge_parts(parts), count_unscored(parts)
        return compute_means(parts)

    def warn_of_unscored(self) -> None:
        """Warn of the samples that `means` left out, a line for each number of them."""
        for count, total in dict.fromkeys(self.without.values()):
            names = ", ".join(name for name, of in self.without.items() if of == (count, total))
            line = "validation: %d of %d samples have no ground truth for %s, and are left out of its mean"
            log.warning(line, count, total, names)


def gather_from_processes(mine: T) -> list[T]:
    """Return the objects of all processes, by rank. Called by all processes."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return [mine]
    parts = [mine] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(parts, mine)
    return parts


def compute_means(parts: Iterable[Scores]) -> dict[str, float]:
    """Return the mean of each score over the samples that have it in any part, without NaN; NaN where none has it.

    A sample in several parts counts once: processes get the same number, so some samples repeat. Sums are exact
    (`math.fsum`), so the order has no influence.

    Several data sets have means of their own, "NAME/score". Where all have a score, the mean of their means has the
    plain name: a small data set has the weight of a large one, so forgetting shows.
    """
    joined = _merge_parts(parts)
    data_sets = dict.fromkeys(sample[0] for of_sample in joined.values() for sample in of_sample)
    if not any(data_sets):
        return {name: _mean(of_sample.values()) for name, of_sample in joined.items()}
    means: dict[str, float] = {}
    for name, of_sample in joined.items():
        values = {one: [value for sample, value in of_sample.items() if sample[0] == one] for one in data_sets}
        each = {one: _mean(found) for one, found in values.items() if found}
        means |= {f"{one}/{name}": mean for one, mean in each.items()}
        if len(each) == len(data_sets):
            means[name] = fmean(each.values())  # NaN where one of them is
    return means


def _mean(values: Iterable[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return fmean(known) if known else math.nan


def count_unscored(parts: Iterable[Scores]) -> dict[str, tuple[int, int]]:
    """Return the number of samples without a score (no ground truth there) and of all, by name, where there are any."""
    values = {name: of_sample.values() for name, of_sample in _merge_parts(parts).items()}
    counts = {name: (sum(map(math.isnan, each)), len(each)) for name, each in values.items()}
    return {name: count for name, count in counts.items() if count[0]}


def _merge_parts(parts: Iterable[Scores]) -> Scores:
    scores: Scores = {}
    for part in parts:
        for name, of_sample in part.items():
            scores.setdefault(name, {}).update(of_sample)
    return scores


def _scores_by_sample(batches: list[tuple[tuple[Meta, ...], dict[str, Tensor]]]) -> Scores:
    scores: Scores = {}
    times: Counter[tuple[str, str, int, str, bool, int]] = Counter()
    for meta, values in batches:
        samples: list[Sample] = []
        for one in meta:
            seen = (one.data, one.recording, one.index, one.side, one.mirrored, one.instance)
            samples.append((*seen, times[seen]))
            times[seen] += 1
        for name, value in values.items():
            scores.setdefault(name, {}).update(zip(samples, value.tolist(), strict=True))
    return scores
