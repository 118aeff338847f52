"""A program that uses stadia notices nothing of it: libraries, settings and signal handlers stay as they were."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

PREDICT = """
import json, signal, sys
before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM), signal.set_wakeup_fd(-1)
import numpy as np
import stadia
network = stadia.open_network("base")
network.predict(np.zeros((96, 320, 3), np.uint8))
import stadia.training.loop.loop
after = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM), signal.set_wakeup_fd(-1)
import lightning_fabric, matplotlib, timm, torchvision
versions = [library.__version__ for library in (lightning_fabric, timm, torchvision)]
print(json.dumps({
    "changed": before != after,
    "finders": [str(finder) for finder in sys.meta_path if "stadia" in str(finder)],
    "versions": versions,
    "linewidth": matplotlib.rcParams["lines.linewidth"],
}))
"""


@pytest.mark.slow
def test_a_prediction_leaves_other_libraries_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "matplotlibrc").write_text("lines.linewidth: 7\n")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PREDICT], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    seen = json.loads(done.stdout.splitlines()[-1])
    assert all(seen["versions"])
    assert (seen["changed"], seen["finders"], seen["linewidth"]) == (False, [], 7.0)
