"""The files of `cases`: one folder for each program, with what it contains in expected.json."""

import json
from pathlib import Path

import numpy as np

CASES = Path(__file__).parent / "cases"
PATH = json.loads((CASES / "path.json").read_text())
T = np.array(PATH["T_world_camera"])
K = np.array(PATH["K"])
EXPECTED = {file.parent.name: json.loads(file.read_text()) for file in sorted(CASES.glob("*/expected.json"))}
