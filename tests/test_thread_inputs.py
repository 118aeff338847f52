"""Real samples after public threads whose causes compete by held-out matches (benchmarks/thread_inputs.py)."""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from tests.test_public_reports import REPORTS

COMPETING = (
    "Pi3 60: a focal length that is 20 % short",
    "VGGT-Long 44: K of a network's images",
    "colmap 3404: poses in the order of image_id",
    "vggt 296: a portrait image, of which the middle was seen",
)
"""A scale that drifts, or K of another size, was named with these. The rest is run by the benchmark."""


def _load() -> ModuleType:
    assert REPORTS  # the module that the benchmark imports
    path = Path(__file__).parents[1] / "benchmarks" / "thread_inputs.py"
    spec = importlib.util.spec_from_file_location("thread_inputs", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.parametrize("source", COMPETING)
def test_the_right_cause_wins(
    source: str, tmp_path: Path, real_data: Path, stadia: Callable[..., tuple[int, str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    if not (real_data / "walk").is_dir():
        pytest.skip("without the walk")
    monkeypatch.setenv("STADIA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "400")
    (case,) = (case for case in _load().THREADS if case.source == source)
    folder = tmp_path / "input"
    folder.mkdir()
    _, out, err = stadia(*case.make(folder, real_data))
    outcome, output = sys.modules["public_reports"].judge(case, out + err)
    assert outcome == case.outcome, output
