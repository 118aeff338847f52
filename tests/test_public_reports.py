"""Inputs that people reported to go wrong: stadia reads them, or names the cure (benchmarks/public_reports.py)."""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from website import input_pages


def _load() -> ModuleType:
    path = Path(__file__).parents[1] / "benchmarks" / "public_reports.py"
    spec = importlib.util.spec_from_file_location("public_reports", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["public_reports"] = module
    spec.loader.exec_module(module)
    return module


REPORTS = _load().REPORTS
ELSEWHERE = {"R04b", "R10", "R12", "R13", "R14", "R16", "R18", "R20", "R23", "R24", "S02", "S03", "S04"}  # preflight
ELSEWHERE |= {"E02", "L00"}  # E02b and L00b read the same samples, and more of them
ELSEWHERE |= {"L01c", "L03c"}  # mutations of tests/mutations/recordings.py
ELSEWHERE |= {"F10b"}  # tests/judge/recordings/test_frame_checks.py
ELSEWHERE |= {"F21"}  # tests/data/test_image_files.py
ELSEWHERE |= {"B00"}  # tests/objectpose/data/test_bop_recall.py
ELSEWHERE |= {"B03", "B04", "B11"}  # tests/objectpose/data/test_bop.py
"""Reports of real samples whose mistakes other tests have, of the same samples or drawn."""


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STADIA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "400")


Stadia = Callable[..., tuple[int, str, str]]


def _check(name: str, tmp_path: Path, data: Path, stadia: Stadia) -> None:
    case = next(case for case in REPORTS if case.name == name)
    folder = tmp_path / "input"
    folder.mkdir()
    _, out, err = stadia(*case.make(folder, data))
    outcome, output = sys.modules["public_reports"].judge(case, out + err)
    assert outcome == case.outcome, output


@pytest.mark.slow
@pytest.mark.parametrize("name", [case.name for case in REPORTS if not case.needs])
def test_drawn_inputs(name: str, tmp_path: Path, stadia: Stadia) -> None:
    _check(name, tmp_path, tmp_path, stadia)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(case.name, marks=[pytest.mark.exhaustive] * (case.name in ELSEWHERE))
        for case in REPORTS
        if case.needs and case.after is None and not case.needs.startswith("..")
    ],
)
def test_inputs_of_real_samples(name: str, tmp_path: Path, real_data: Path, stadia: Stadia) -> None:
    _check(name, tmp_path, real_data, stadia)


def test_the_page_of_messages_is_written_by_the_program() -> None:
    page = Path(__file__).parents[1] / "docs" / "reference" / "it-says-that.md"
    assert page.read_text(encoding="utf-8") == sys.modules["public_reports"].write_page()


def test_the_table_of_inputs_is_written_by_the_program() -> None:
    assert input_pages.PAGE.read_text(encoding="utf-8") == input_pages.write_page(), "run python -m website.input_pages"


def test_names_are_distinct_and_each_has_a_source() -> None:
    names = [case.name for case in REPORTS]
    assert len(set(names)) == len(names)
    assert all(case.source and case.expected for case in REPORTS)
