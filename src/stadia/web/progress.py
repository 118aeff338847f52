"""The progress of the whole work on a video: its share that is done, and the remaining time."""

from collections.abc import Mapping, Sequence

WEIGHTS: Mapping[str, Mapping[str, float]] = {
    "waiting": {"": 0},
    "decoding": {"": 2},
    "mapping": {
        "reading": 2,
        "choosing": 2,
        "features": 5,
        "matching": 11,
        "mapping": 46,
        "rolling": 2,
        "placing": 3,
        "judging": 15,
        "writing": 2,
    },
    "adapting": {"": 100},
    "predicting": {"": 10},
}
"""Typical share of the time, in percent, of each state of a job, and of the loops in it by the first word of what they
count.

They were measured on a hand-held walk of 60 frames, whose camera is searched; a drive with a known camera maps faster.
"""

PLAN = ("decoding", "mapping", "predicting")
"""The states of an uploaded video, in order."""

REPEATED = 0.75
"""Share of a loop that is left after each repetition: the number of tries of a map is unknown."""

MIN_SHARE, MIN_AGE_S = 0.08, 5.0
"""Share and age from which the remaining time is estimated."""


def estimate_share(plan: Sequence[str], state: str, what: str, part: float, repetition: int) -> float:
    """Return the share of the whole work that is done, from 0 to 1.

    plan: the states of the job, in order.
    state: its state.
    what: what it counts.
    part: share of the counted items that are done.
    repetition: how often it counted the same before.

    Examples:
        >>> estimate_share(PLAN, "decoding", "", 0.5, 0) < estimate_share(PLAN, "mapping", "matching", 0.0, 0)
        True
        >>> estimate_share(("predicting",), "predicting", "", 0.5, 0)
        0.5
    """
    weights = [(one, loop, weight) for one in plan for loop, weight in WEIGHTS[one].items()]
    word = what.partition(" ")[0].rstrip(",")
    total, is_known = sum(weight for *_, weight in weights), word in WEIGHTS.get(state, {})
    done = 0.0
    for one, loop, weight in weights:
        if one == state and (loop == word or not is_known):
            if loop == "mapping":  # each try is a part of what is left
                part = 1 - REPEATED**repetition * (1 - part * (1 - REPEATED))
            return (done + weight * part) / total
        done += weight
    return 0.0


def estimate_left_s(share: float, age_s: float) -> float | None:
    """Return the remaining time, seconds; None if too little is done to estimate it.

    Examples:
        >>> estimate_left_s(0.25, 20.0)
        60.0
    """
    if share < MIN_SHARE or age_s < MIN_AGE_S:
        return None
    return age_s * (1 - share) / share
