"""Rates are measured once on a processor, and again for another one or if their file is damaged."""

import json
from pathlib import Path

import pytest

from stadia.io.kept_rates import RATES_FOLDER, describe_processor, find_rates


class Meter:
    """Counts how often it measured."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> dict[str, float]:
        self.count += 1
        return {"float32": 1.5, "bf16": 3.0}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STADIA_CACHE", str(tmp_path))
    return tmp_path / RATES_FOLDER


def test_what_was_measured_is_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    meter = Meter()
    assert find_rates("numbers", {"torch": "2"}, meter) == find_rates("numbers", {"torch": "2"}, meter)
    assert (meter.count, len(list(folder.iterdir()))) == (1, 1)
    find_rates("numbers", {"torch": "3"}, meter)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    find_rates("numbers", {"torch": "3"}, meter)
    assert (meter.count, len(list(folder.iterdir()))) == (3, 3)


@pytest.mark.parametrize("damaged", ["", "{", "[]", "{}", '{"rates": {}}', '{"rates": {"bf16": -1.0}}', "[" * 9000])
def test_a_damaged_file_is_measured_again(damaged: str, folder: Path) -> None:
    meter = Meter()
    expected = find_rates("numbers", {}, meter)
    (file,) = folder.iterdir()
    whole = json.loads(file.read_text())
    file.write_text(damaged)
    assert (find_rates("numbers", {}, meter), meter.count) == (expected, 2)
    assert json.loads(file.read_text()) == whole


def test_a_cache_that_cannot_be_written_is_not_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("STADIA_CACHE", str(tmp_path / "file"))
    assert find_rates("numbers", {}, Meter()) == Meter()()


def test_a_processor_is_described_by_its_first_core(tmp_path: Path) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text(
        "processor\t: 0\nmodel name\t: Some CPU\nflags\t\t: avx2 amx_bf16\n\nprocessor\t: 1\nflags\t: none\n"
    )
    described = describe_processor(file)
    assert (described["name"], described["flags"]) == ("Some CPU", "avx2 amx_bf16")
    assert "flags" not in describe_processor(tmp_path / "missing")
