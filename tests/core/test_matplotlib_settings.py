"""A `matplotlibrc` in the current folder may come with data, and is not obeyed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import stadia

PROGRAM = "import stadia, os, matplotlib; print(matplotlib.rcParams['text.usetex'], os.path.exists('matplotlibrc'))"


def test_settings_of_the_current_folder_are_ignored(tmp_path: Path) -> None:
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\n")
    environment = {"PYTHONPATH": str(Path(stadia.__file__).parents[1]), "HOME": str(tmp_path), "PATH": ""}
    command = [sys.executable, "-P", "-c", PROGRAM]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "False True\n"
