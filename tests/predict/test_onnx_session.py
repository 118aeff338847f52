"""ONNX Runtime writes no identifier of the machine and no store of events."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

OPEN = "from stadia.predict.networks.base import open_session; open_session()"


@pytest.mark.slow
def test_a_session_writes_nothing_into_the_users_folders(tmp_path: Path) -> None:
    kept = {name: value for name, value in os.environ.items() if name not in ("ORT_DISABLE_TELEMETRY", "CI")}
    environment = {**kept, "HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    subprocess.run([sys.executable, "-c", OPEN], env=environment, check=True)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
