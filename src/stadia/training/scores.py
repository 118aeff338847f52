"""The mean of a validation: over its samples, each once, however many processes share them and whichever of them has a
score.
"""

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


class ScoreBook:
    """What a process's validation batches scored. Values stay where they are until `means`, so that no batch waits for
    them.
    """

    def __init__(self) -> None:
        self._batches: list[tuple[tuple[Meta, ...], dict[str, Tensor]]] = []
        self.without: dict[str, tuple[int, int]] = {}  # set by `means`: samples without a score, and all, by name

    def add(self, meta: tuple[Meta, ...], values: Mapping[str, Tensor | float]) -> None:
        """Scores of a batch by name: (B,), or one number that each of its samples gets."""
        self._batches.append(
            (meta, {name: torch.as_tensor(value).detach().expand(len(meta)) for name, value in values.items()})
        )

    def means(self) -> dict[str, float]:
        """`means_of` what every process has scored, the same in each of them. Called by all of them; empties the book."""
        mine, self._batches = _by_sample(self._batches), []
        parts = of_all_processes(mine)
        self.without = without_score(parts)
        return means_of(parts)

    def warn_of_unscored(self) -> None:
        """Warn of the samples that `means` left out, a line for each number of them."""
        for count, total in dict.fromkeys(self.without.values()):
            names = ", ".join(name for name, of in self.without.items() if of == (count, total))
            line = "validation: %d of %d samples have no %s (nothing to score it by) and are in no mean"
            log.warning(line, count, total, names)


def of_all_processes(mine: T) -> list[T]:
    """What each process has, the same list in all of them; they all have to call it."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return [mine]
    parts = [mine] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(parts, mine)
    return parts


def means_of(parts: Iterable[Scores]) -> dict[str, float]:
    """The mean of each name over the samples that have it in any part; NaN is no score, and a name without any is NaN.

    A sample in several parts counts once: processes get equally many, so that some may be given twice. Sums are exact
    (`math.fsum`), so the order of samples and parts changes nothing.

    Of several data sets each has means of its own, "NAME/score". The mean of these has the plain name, where all of
    them have the score: a small data set counts as much in it as a large one, and a network that forgets one is seen.
    """
    joined = _joined(parts)
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


def without_score(parts: Iterable[Scores]) -> dict[str, tuple[int, int]]:
    """Of each name that a sample has no score of (no ground truth there, or nothing that it is of): how many samples,
    and of how many.
    """
    counts = {
        name: (sum(map(math.isnan, of_sample.values())), len(of_sample)) for name, of_sample in _joined(parts).items()
    }
    return {name: (without, total) for name, (without, total) in counts.items() if without}


def _joined(parts: Iterable[Scores]) -> Scores:
    scores: Scores = {}
    for part in parts:
        for name, of_sample in part.items():
            scores.setdefault(name, {}).update(of_sample)
    return scores


def _by_sample(batches: list[tuple[tuple[Meta, ...], dict[str, Tensor]]]) -> Scores:
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
