"""Choose how OpenMP's threads wait for each other, before torch is imported."""

from __future__ import annotations

import os

SPINS = "10000"
"""How often a thread of GNU OpenMP looks for work before it sleeps: some 50 microseconds."""
IDLE_SHARE = 0.55
"""Share of the cores without a program that runs, in the last minute, from which a machine counts as idle."""


def choose_waiting(*, is_training: bool) -> None:
    """Let threads sleep while they wait; in a training on an idle machine, let them stay awake a little longer.

    Torch's OpenMP reads these variables of the environment when it loads; what the user has set is kept. To wake a
    thread takes long on some virtual machines: there a training on idle cores makes 2.8 steps a second with SPINS
    instead of 2.0. Where another program has one of the two cores, it makes .7 instead of 1.5 (4 s a step with OpenMP's
    own 300,000). Runs that a study starts inherit the choice.
    """
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys():
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
        os.environ["GOMP_SPINCOUNT"] = SPINS if is_training and measure_idle_share() > IDLE_SHARE else "0"


def measure_idle_share() -> float:
    """Return 1 - load / cores over the last minute, at least 0; 0 where the system has no load average (Windows).

    Shares of the processor's time over a tenth of a second are wrong on some virtual machines.
    """
    if not hasattr(os, "getloadavg"):
        return 0.0
    return max(0.0, 1 - os.getloadavg()[0] / (os.cpu_count() or 1))
