"""Loading processes leave signals to their training."""

import contextlib
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.combinations import mark_others

SIGNALS = """
import multiprocessing, os, signal, sys, time
from stadia.data.loading.loader import Loader

class Numbers:
    def __len__(self):
        return 8

    def packed(self, key):
        os.write(2, b"warning of a decoder\\n")
        return key

    def stack(self, packed):
        return packed

    def unpack(self, packed, device):
        return packed

if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    loader = Loader(Numbers(), batch_size=1, shuffle=False, workers=1)
    if sys.argv[2] == "before":
        loader.start()
    batches = iter(loader)
    next(batches)
    (worker,) = loader._batches._iterator._workers
    sender = os.fork()
    if not sender:  # as a service manager, to each process
        os.kill(worker.pid, signal.SIGTERM)
        os._exit(0)
    os.waitpid(sender, 0)
    time.sleep(0.2)
    print("batches", 1 + len(list(batches)), flush=True)
    worker.terminate()
    worker.join(120)
    print("code", worker.exitcode, flush=True)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "sigwaitinfo"), reason="the sender of a signal is not known")
@pytest.mark.parametrize(
    ("method", "starts"), mark_others([("fork", "before"), ("spawn", "in the loop")], [("fork", "before")])
)
def test_a_worker_obeys_its_training_alone_and_may_print_in_the_background(
    method: str, starts: str, tmp_path: Path
) -> None:
    """On a terminal with `stty tostop`, where printing stops a process of another group.

    starts: before the first batch is asked for (`Loader.start`), or in the loop, as after `Loader.rest`.
    """
    program = tmp_path / "program.py"
    program.write_text(SIGNALS)
    reads, writes = os.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", TERMINAL, sys.executable, str(program), method, starts],
        stdin=writes, stdout=writes, stderr=writes, start_new_session=True,
    ) as process:  # fmt: skip
        os.close(writes)
        said = b""
        try:
            with contextlib.suppress(OSError):  # EIO at the end
                while select.select([reads], [], [], 60)[0] and (part := os.read(reads, 4096)):
                    said += part
            process.wait(timeout=600)
        finally:
            process.kill()
            os.close(reads)
    assert b"batches 8" in said
    assert b"code 0" in said


TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
values = termios.tcgetattr(0)
values[3] |= termios.TOSTOP
termios.tcsetattr(0, termios.TCSANOW, values)
os.execv(sys.argv[1], sys.argv[1:])
"""
