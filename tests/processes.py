"""Child processes of a test that need each other, and processes of other programs."""

import time
from collections.abc import Sequence
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from pathlib import Path

from stadia.io.atomic_files import THIS_MACHINE


def join_together(processes: Sequence[BaseProcess], timeout: float) -> list[int | None]:
    """Wait until every process has ended, or until one has failed or the time (s) is over: then kill the others.

    Processes that wait for each other would wait for one that died until their own time runs out.

    Returns: the exit codes, in order; -9 for one that was killed here.
    """
    give_up = time.monotonic() + timeout
    while running := [one for one in processes if one.exitcode is None]:
        if any(one.exitcode for one in processes) or time.monotonic() > give_up:
            for one in running:
                one.kill()
                one.join()
            break
        connection.wait([one.sentinel for one in running], timeout=max(0.0, give_up - time.monotonic()))
    return [one.exitcode for one in processes]


def leave_stale_file(path: Path) -> Path:
    """Leave the temporary file of a process that was killed while it wrote `path`. Return its path."""
    name = f".{path.stem}.{THIS_MACHINE}-999999999.x1y2z3_4.partial{path.suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_name(name).write_bytes(b"half")
    return path.with_name(name)


def leave_stale_folder(path: Path) -> Path:
    """Leave the temporary folder of a process that was killed while it filled `path`. Return its path."""
    folder = path.with_name(f".{path.name}.{THIS_MACHINE}-999999999.0a1b2c3d.partial")
    folder.mkdir(parents=True)
    (folder / "half").write_bytes(b"half")
    return folder
