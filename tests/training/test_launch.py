"""Where a study's runs are trained: in processes of this machine."""

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

import stadia
from stadia.training.studies.launch import Job, count_cores_per_process, run_here

SOURCE = Path(stadia.__file__).parents[1]


@dataclass(frozen=True)
class Program(Job):
    @property
    def command(self):
        return [sys.executable, "-c", self.words[0]]


@pytest.mark.slow
def test_local_processes_share_the_cores(tmp_path):
    """All of them run, two in parallel; output is kept; exit codes are reported."""
    program = (
        "import os, sys; print(os.environ['OMP_NUM_THREADS'], flush=True); sys.exit(int(sys.argv[0] != '-c') or {0})"
    )
    jobs = [Program(f"j{k}", (program.format(k),), tmp_path / "logs" / f"j{k}.log") for k in range(3)]
    codes = {}
    run_here(jobs, lambda job, code: codes.update({job.name: code}), at_once=2)
    assert codes == {"j0": 0, "j1": 1, "j2": 2}
    expected = os.environ.get("OMP_NUM_THREADS", str(count_cores_per_process(2)))
    assert (tmp_path / "logs/j0.log").read_text().strip() == expected


def wait_until(condition):
    end = time.monotonic() + 600
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)
