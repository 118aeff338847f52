"""`stadia map` enters few files of the package: the way through the code is short, and no data set reader is asked."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.mapping.textured_room import TexturedRoom, find_arc_pose, write_images

import stadia

MAX_FILES = 40
"""Files in which a function runs while six frames are mapped, without those that start a process of the package."""

MEASURE = """
import pathlib, sys, threading
package = str(pathlib.Path(sys.argv[1])) + "/"
entered, local = set(), threading.local()

def record(frame, event, _):
    code = frame.f_code
    importing = getattr(local, "importing", 0)
    if code.co_name == "<module>":
        local.importing = importing + (event == "call") - (event == "return")
    elif event == "call" and not importing and code.co_filename.startswith(package):
        entered.add(code.co_filename[len(package):])

from stadia.cli.main import run
threading.setprofile(record)
sys.setprofile(record)
try:
    run(sys.argv[2:])
finally:
    sys.setprofile(None)
    print("entered:", *sorted(entered))
"""


def list_entered_files(*arguments: object, cache: Path) -> list[str]:
    """Return the files of the package in which a function runs, in any thread, while a command runs."""
    package = Path(stadia.__file__).parent
    line = [sys.executable, "-c", MEASURE, str(package), *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(package.parent), "STADIA_CACHE": str(cache)}
    done = subprocess.run(line, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1].split()[1:]


def test_a_map_of_six_frames_enters_few_files_and_no_reader_of_data_sets(tmp_path: Path) -> None:
    pytest.importorskip("pycolmap", reason="the extra `map` is not installed")
    room = TexturedRoom()
    images = write_images(tmp_path / "room", [room.draw(*find_arc_pose(index)) for index in range(0, 24, 4)])
    entered = list_entered_files("map", images, "--out", tmp_path / "out", cache=tmp_path / "cache")
    files = [name for name in entered if not name.startswith("process/")]
    assert (tmp_path / "out" / "map.json").is_file()
    assert not [name for name in files if name.startswith(("datasets/formats/", "datasets/open_dataset"))]
    assert len(files) <= MAX_FILES, files
