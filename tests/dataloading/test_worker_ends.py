"""A loading process ends with a training that is killed, also where that comes while the process starts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.processes import is_running

PROGRAM = """
import os, signal, sys, time
from pathlib import Path
from torch.utils.data import DataLoader
from stadia.dataloading import loader

training, mark = os.getpid(), Path(sys.argv[1])

def start_late(number):
    mark.with_suffix(".new").write_text(str(os.getpid()))
    os.replace(mark.with_suffix(".new"), mark)
    while os.getppid() == training:
        time.sleep(0.01)
    loader.start_worker(number)

if __name__ == "__main__":
    loading = DataLoader(range(9), num_workers=1, worker_init_fn=start_late, multiprocessing_context=sys.argv[2])
    batches = iter(loading)
    while not mark.exists():
        time.sleep(0.01)
    os.kill(training, signal.SIGKILL)
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="no SIGKILL")
@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_a_worker_whose_training_is_killed_while_it_starts_ends(method: str, tmp_path: Path) -> None:
    program, mark = tmp_path / "program.py", tmp_path / "pid"
    program.write_text(PROGRAM)
    subprocess.run([sys.executable, str(program), str(mark), method], timeout=60, check=False, capture_output=True)
    worker = int(mark.read_text())
    end = time.monotonic() + 30
    try:
        while is_running(worker):
            assert time.monotonic() < end, "it waits for ever"
            time.sleep(0.05)
    finally:
        if is_running(worker):
            os.kill(worker, signal.SIGKILL)
