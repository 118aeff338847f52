"""A sweep in a real PostgreSQL, started for the test: two workers share the trials."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from stadia.apps.studies.sweep import SearchRange, Sweep


def find_server() -> Path | None:
    """The folder of initdb and postgres: on the path, or of Debian's package."""
    found = [Path(path).parent for name in ("initdb",) if (path := shutil.which(name))]
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((folder for folder in found if (folder / "initdb").exists() and (folder / "postgres").exists()), None)


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    """URL of a database on loopback; root starts it as nobody, which PostgreSQL requires."""
    pytest.importorskip("pg8000")
    pytest.importorskip("optuna")
    server = find_server()
    if server is None:
        pytest.skip("no PostgreSQL server is installed")
    user = {"user": "nobody"} if os.geteuid() == 0 else {}
    folder = Path(tempfile.mkdtemp(prefix="stadia-postgres-"))
    if user:
        shutil.chown(folder, "nobody")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    initialize = [server / "initdb", "-D", folder / "data", "-U", "stadia", "-A", "trust", "--no-sync"]
    subprocess.run(initialize, check=True, capture_output=True, cwd=folder, **user)
    command = [server / "postgres", "-D", folder / "data", "-p", str(port), "-k", folder, "-h", "127.0.0.1", "-F"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder, **user)
    try:
        for _ in range(300):
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                time.sleep(0.1)
        yield f"postgresql://stadia@127.0.0.1:{port}/postgres"
    finally:
        process.send_signal(signal.SIGINT)  # it does not wait for connections
        process.wait(timeout=60)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Heartbeat of storage", "ignore:RDBStorage")
def test_workers_share_the_trials_of_one_database(postgres: str, tmp_path: Path) -> None:
    space = {"optimizer.lr": SearchRange(low=1e-5, high=1e-3, log=True)}
    sweeps = [
        Sweep(tmp_path / "sweep", "selfsup", [], space, "val/residual", "lower", storage=postgres) for _ in range(2)
    ]
    first, second = (sweep.open_study() for sweep in sweeps)
    asked = [study.ask() for study in (first, second, first)]
    assert [trial.number for trial in asked] == [0, 1, 2]
    first.tell(asked[0], 0.5)
    second.tell(asked[1], 0.25)
    assert first.best_value == second.best_value == 0.25
    assert not (tmp_path / "sweep" / "trials.db").exists()
    for study in (first, second):
        study._storage._backend.engine.dispose()
