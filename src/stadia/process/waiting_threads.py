"""Choose how OpenMP's threads wait for each other, before torch is imported."""

from __future__ import annotations

import os

SPINS = "1000"
"""Rounds that a thread of GNU OpenMP waits actively before it sleeps: a few microseconds."""


def choose_waiting() -> None:
    """Let threads wait actively for a moment, and then sleep.

    Torch's OpenMP reads these variables of the environment when it loads; what the user has set is kept. To wake a
    thread takes long on some virtual machines, and a thread that does not sleep keeps other programs from the core.
    Steps a second of the demo on two cores (docs/results/demo.md): with 0, 1,000 and 10,000 rounds 1.8, 2.5 and 2.5 on
    idle cores, and 1.6, 1.4 and .7 where another program has one of the two cores. OpenMP's own number is 300,000.
    """
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys():
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
        os.environ["GOMP_SPINCOUNT"] = SPINS
