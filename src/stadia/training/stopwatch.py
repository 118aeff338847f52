"""Which phase the time between two marks belongs to: by the processor's clock, or by that of a GPU, which works on its
own.
"""

from __future__ import annotations

import statistics
import time
from collections import deque
from typing import Any

import torch

from stadia.training.flops import synchronize

KEPT_STEPS = 1000
"""Whose phases are kept for the medians: the last ones."""


class Stopwatch:
    """`mark` says to which phase the time since the last mark belonged, so nothing is counted twice or left out.

    On CUDA a mark is an event in the queue of the GPU: the time between two is what the GPU spent between them, working
        or waiting for
    the processor, however far ahead that has run; nothing waits for it. Elsewhere it is the processor's clock, on other
    devices after they have done what they were given.

    totals: seconds by phase since the start, of what has been settled.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.totals: dict[str, float] = {}
        self.steps: deque[dict[str, float]] = deque(maxlen=KEPT_STEPS)
        self._pending: deque[tuple[str | None, Any]] = deque()
        self._step: dict[str, float] = {}
        self._lapped: dict[str, float] = {}
        self._last = self._now()

    def _now(self) -> Any:
        if self.device.type != "cuda":
            synchronize(self.device)
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event

    def mark(self, phase: str) -> None:
        """The time since the last mark was this phase's."""
        self._pending.append((phase, self._now()))
        if self.device.type != "cuda":
            self._settle()

    def end_step(self, keep: bool = True) -> None:
        """A step is over; its phases enter the medians where it is one to keep."""
        self._pending.append(("" if keep else None, None))
        self._settle()

    def _settle(self) -> None:
        """Count what is known: of a GPU what it has passed."""
        while self._pending:
            phase, moment = self._pending[0]
            if moment is None:
                if phase is not None:
                    self.steps.append(self._step)
                self._step = {}
            elif self.device.type == "cuda" and not moment.query():
                return
            else:
                assert phase is not None
                seconds = self._last.elapsed_time(moment) / 1e3 if self.device.type == "cuda" else moment - self._last
                self._last = moment
                self.totals[phase] = self.totals.get(phase, 0.0) + seconds
                self._step[phase] = self._step.get(phase, 0.0) + seconds
            self._pending.popleft()

    def lap(self) -> dict[str, float]:
        """Seconds by phase since the last lap. Waits for the device."""
        synchronize(self.device)
        self._settle()
        lapped, self._lapped = self._lapped, dict(self.totals)
        return {phase: seconds - lapped.get(phase, 0.0) for phase, seconds in self.totals.items()}

    def forget_steps(self) -> None:
        """Medians begin anew, with the next step that ends. Waits for the device."""
        synchronize(self.device)
        self._settle()
        self.steps.clear()

    def medians(self) -> dict[str, float]:
        """Of a step, by phase; over the last KEPT_STEPS that were to be kept, since steps were forgotten."""
        phases = dict.fromkeys(phase for step in self.steps for phase in step)
        return {phase: statistics.median(step.get(phase, 0.0) for step in self.steps) for phase in phases}
