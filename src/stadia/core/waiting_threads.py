"""Choose how OpenMP's threads wait for each other, before torch is imported."""

from __future__ import annotations

import os
import statistics
import time
from pathlib import Path

SPINS = "10000"
"""How often a thread of GNU OpenMP looks for work before it sleeps: some 50 microseconds."""
IDLE_SHARE = 0.55
"""Share of the cores without a thread that runs, from which a machine counts as idle."""
SAMPLES = 5
SAMPLE_PAUSE_S = 0.02
LOAD_FILE = Path("/proc/loadavg")


def choose_waiting(*, is_long: bool) -> None:
    """Let threads sleep while they wait; in a long command on an idle machine, let them stay awake a little longer.

    Torch's OpenMP reads these variables of the environment when it loads; what the user has set is kept. To wake a
    thread takes long on some virtual machines: there a training on idle cores makes 2.8 steps a second with SPINS
    instead of 2.0, and `predict` 28.9 frames instead of 25.2. Where another program has one of the two cores, the
    training makes .7 instead of 1.5 (4 s a step with OpenMP's own 300,000). Runs of a study inherit the choice.
    """
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys():
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
        os.environ["GOMP_SPINCOUNT"] = SPINS if is_long and measure_idle_share() > IDLE_SHARE else "0"


def measure_idle_share() -> float:
    """Return 1 - threads that run now, this one excepted, over the cores of this process, at least 0.

    0 where Linux's LOAD_FILE is missing.

    It is the median of a few samples over a tenth of a second. The load average of a minute would count an installation
    that has just ended, and shares of processor time over a tenth of a second are wrong on some virtual machines.
    """
    if not LOAD_FILE.exists():
        return 0.0
    running = []
    for _ in range(SAMPLES):
        time.sleep(SAMPLE_PAUSE_S)
        running.append(int(LOAD_FILE.read_text(encoding="ascii").split()[3].split("/")[0]) - 1)
    return max(0.0, 1 - statistics.median(running) / _count_cores())


def _count_cores() -> int:
    """Return how many cores this process may use: a container often has a few of a large machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
