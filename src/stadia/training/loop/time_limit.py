"""End the steps of a training after a time, or early enough before the end of the command."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class CommandEnd:
    """The end of a command by the clock.

    at_s: the time by time.perf_counter, seconds.
    after_s: seconds of the command after its training's steps.
    """

    at_s: float
    after_s: float


class TimeLimit:
    """The time limit of a training (`training.max_minutes`): its steps count, validations and checkpoints do not.

    With the end of a command the clock counts: the steps end early enough for the rest, at their latest pace.

    share: share of the time that is over, equal in all processes; 0 without a limit.
    """

    def __init__(self, minutes: float | None, end: CommandEnd | None = None) -> None:
        self.limit_s = None if minutes is None else 60 * minutes
        self.end = end
        self.spent_s = 0.0
        self.begun_s = self.since_s = time.perf_counter()
        self.share = 0.0

    @property
    def is_over(self) -> bool:
        """Return whether the time is over; the latest step is the last then."""
        return self.share >= 1

    @property
    def left_s(self) -> float:
        """Return the seconds that are left for steps; infinite without a limit."""
        if self.end is not None:
            return max(self.end.at_s - self.end.after_s - time.perf_counter(), 0.0)
        return math.inf if self.limit_s is None else max(self.limit_s - self.spent_s, 0.0)

    def restart(self) -> None:
        """Count from now on."""
        self.since_s = time.perf_counter()

    def add_step(self, largest: Callable[[float], float]) -> None:
        """Add the time since the last step, or since `restart`.

        largest: returns the largest value of all processes.
        """
        now_s = time.perf_counter()
        step_s = now_s - self.since_s
        self.spent_s += step_s
        self.since_s = now_s
        if self.end is not None:
            ended_s = now_s + step_s / 2  # half of the last steps end after it, half before
            share = (ended_s - self.begun_s) / max(self.end.at_s - self.end.after_s - self.begun_s, 1e-9)
            self.share = min(max(largest(share), 0.0), 1.0)
        elif self.limit_s is not None:
            self.share = min(largest(self.spent_s / self.limit_s), 1.0)

    def restore(self, spent_s: float) -> None:
        """Continue after so many seconds of a checkpoint."""
        self.spent_s = spent_s
        self.share = 0.0 if self.limit_s is None else min(spent_s / self.limit_s, 1.0)
