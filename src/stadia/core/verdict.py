"""The verdict on a recording, a map, a prediction or another program's result, and the order of verdicts."""

from collections.abc import Iterable
from enum import StrEnum


class Verdict(StrEnum):
    """The verdict on one question, or on a whole result. The values are in order, the best first.

    "not judged" is worse than "usable", so that it is never hidden, and better than "doubtful", so that it hides no
    fault.

    USABLE ("usable"): all checks passed.
    NOT_JUDGED ("not judged"): the deciding check could not run.
    DOUBTFUL ("doubtful"): a check warns.
    UNUSABLE ("unusable"): a check found that the result must not be used for this question.
    """

    USABLE = "usable"
    NOT_JUDGED = "not judged"
    DOUBTFUL = "doubtful"
    UNUSABLE = "unusable"

    @property
    def rank(self) -> int:
        """The place in the order: 0 for the best verdict, 3 for the worst."""
        return list(Verdict).index(self)

    def is_worse_than(self, other: "Verdict") -> bool:
        """Return whether this verdict is worse than another one.

        Examples:
            >>> Verdict.NOT_JUDGED.is_worse_than(Verdict.USABLE), Verdict.NOT_JUDGED.is_worse_than(Verdict.DOUBTFUL)
            (True, False)
        """
        return self.rank > other.rank


def find_worst(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the worst verdict; `usable` without any.

    Examples:
        >>> str(find_worst([Verdict.USABLE, Verdict.NOT_JUDGED]))
        'not judged'
    """
    return max(verdicts, key=lambda verdict: verdict.rank, default=Verdict.USABLE)
