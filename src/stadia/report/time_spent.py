"""Show where a training's time went: phases, time a step, and share of the device's peak."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from stadia.report import figures, wording

LEAST = 0.005
"""Of the whole: smaller phases are one."""

MOST = figures.COLORS - 1
"""Phases with a color of their own; the others are small, too."""

SMALL = "the rest"


@dataclass(frozen=True)
class Phase:
    """name, its color (class of the stylesheet), left edge and width in the bar (SVG units); and as text: share, all
    of it, a step, and what of the peak it reaches (empty where unknown).
    """

    name: str
    color: int
    left: float
    width: float
    share: str
    seconds: str
    step: str
    of_peak: str


@dataclass(frozen=True)
class TimeSpent:
    """phases: the longest first.  about: what it is of, and whether the parts make the whole.  has_peak: whether the
    peak is known.
    """

    phases: list[Phase]
    about: str
    has_peak: bool


def time_spent(found: Any) -> TimeSpent | None:
    """Read `time` of run.json; None where it is missing or invalid."""
    if (
        not isinstance(found, dict)
        or not (seconds := _finite_numbers(found.get("phases_s")))
        or not (total := sum(seconds.values())) > 0
    ):
        return None
    steps, of_peak = _finite_numbers(found.get("step_s")), _finite_numbers(found.get("of_peak"))
    small = sum(value for value in seconds.values() if value < LEAST * total)
    longest = sorted(((value, name) for name, value in seconds.items() if value >= LEAST * total), reverse=True)
    small += sum(value for value, _ in longest[MOST:])
    longest = longest[:MOST] + ([(small, SMALL)] if small else [])
    phases, left = [], 0.0
    for color, (value, name) in enumerate(longest):
        width = value / total * figures.WIDTH
        step = f"{1e3 * steps[name]:.3g} ms" if steps.get(name) else ""
        reached = f"{of_peak[name]:.0%}" if name in of_peak else ""
        phases.append(Phase(name, color, left, width, f"{value / total:.1%}", wording.duration(value), step, reached))
        left += width
    return TimeSpent(phases, _describe_time(found, total), any(phase.of_peak for phase in phases))


def _describe_time(found: dict[str, Any], total: float) -> str:
    known = _finite_numbers(found)
    wall_s, peak = known.get("wall_s", math.nan), known.get("peak_flops_per_s")
    text = f"{known.get('steps', 0):.0f} steps in {wording.duration(wall_s)}, without setup and teardown"
    text += f"; the phases cover {total / wall_s:.1%} of it" if wall_s > 0 else ""
    if peak is None:
        return text + "."
    step = _finite_numbers(found.get("of_peak")).get("step")
    reached = f", of which a step reaches {step:.0%}" if step is not None else ""
    threads = known.get("threads", 0) if found.get("device") == "cpu" else 0
    on = f" on {threads:.0f} thread{'s' * (threads != 1)}" if threads else ""
    return (
        f"{text}. Products of large matrices made {peak / 1e9:.3g} GFLOP/s here{on} when the training ended{reached}:"
        " convolutions and products are counted. It varies with the load of the machine."
    )


def _finite_numbers(value: Any) -> dict[str, float]:
    """Return the finite numbers of a mapping by name."""
    items = value.items() if isinstance(value, dict) else ()
    return {str(name): float(one) for name, one in items if isinstance(one, int | float) and math.isfinite(one)}
