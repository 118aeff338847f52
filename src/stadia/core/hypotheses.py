"""Try hypotheses about data on the data itself: turned, cropped, transposed, another unit, another order.

A hypothesis is a name for people and a function that undoes the mistake. The score decides, not the name of a format.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

Data = TypeVar("Data")


@dataclass(frozen=True)
class Hypothesis(Generic[Data]):
    """One way in which data may differ from what was expected.

    name: completes "the data are ...", such as "turned by 180 degrees".
    undo: returns the data as they should be.
    """

    name: str
    undo: Callable[[Data], Data]


def find_best(
    data: Data, hypotheses: Iterable[Hypothesis[Data]], score: Callable[[Data], float], *, max_share: float
) -> tuple[Hypothesis[Data], float] | None:
    """Return the hypothesis with the lowest score; None if no score is below `max_share` of the unchanged data's score.

    A score that cannot be computed is NaN. Its hypothesis is never returned.

    Examples:
        >>> negated = Hypothesis("negative", lambda value: -value)
        >>> found = find_best(-3.0, [negated], lambda value: abs(value - 3.1), max_share=0.5)
        >>> found[0].name
        'negative'
    """
    given = score(data)
    scored = [(score(hypothesis.undo(data)), hypothesis) for hypothesis in hypotheses]
    scored = [entry for entry in scored if entry[0] <= max_share * given or given != given]
    if not scored:
        return None
    best = min(scored, key=lambda entry: entry[0])
    return (best[1], best[0]) if best[0] == best[0] else None
