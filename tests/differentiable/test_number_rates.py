"""bfloat16 is chosen only where it was measured to be faster, and the rates are measured once."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from stadia.differentiable import number_rates
from stadia.differentiable.number_rates import NumberRates, find_rates, measure_rates, note_slow_bf16
from stadia.training.loop import processes
from stadia.training.loop.config import TrainingConfig
from stadia.training.loop.processes import resolve_auto

SLOW = NumberRates(40.0, 4.0, ())
FAST = NumberRates(100.0, 200.0, ("amx_bf16",))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return an empty cache. Rates of this process are forgotten before and after."""
    monkeypatch.setenv("STADIA_CACHE", str(tmp_path))
    monkeypatch.delenv("STADIA_PRECISION", raising=False)
    find_rates.cache_clear()
    note_slow_bf16.cache_clear()
    yield tmp_path
    find_rates.cache_clear()
    note_slow_bf16.cache_clear()


def test_measuring_changes_nothing_in_the_process() -> None:
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    rates = measure_rates()
    assert min(rates["float32"], rates["bf16"]) > 0
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.usefixtures("cache")
def test_rates_are_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[int] = []

    def measure() -> dict[str, float]:
        measured.append(1)
        return {"float32": 100.0, "bf16": 200.0}

    monkeypatch.setattr(number_rates, "measure_rates", measure)
    assert find_rates() is find_rates()
    find_rates.cache_clear()
    assert (find_rates().bf16_gain, len(measured)) == (2.0, 1)  # read from the file


@pytest.mark.parametrize(("rates", "chosen"), [(SLOW, "32"), (FAST, "bf16"), (NumberRates(100.0, 110.0, ()), "32")])
@pytest.mark.usefixtures("cache")
def test_auto_is_the_faster_format(rates: NumberRates, chosen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "find_rates", lambda: rates)
    config = TrainingConfig(accelerator="cpu")
    assert resolve_auto(config).precision == chosen
    assert resolve_auto(config, {"precision": "fp16"}).precision == "fp16"  # a resumed run keeps its own
    assert resolve_auto(config.model_copy(update={"devices": 2})).precision == "32"  # one choice for all processes
    monkeypatch.setenv("STADIA_PRECISION", "32")
    assert resolve_auto(config).precision == "32"


@pytest.mark.parametrize(("rates", "notes"), [(SLOW, 1), (FAST, 0)])
@pytest.mark.usefixtures("cache")
def test_slow_bf16_has_one_note_and_its_fix(
    rates: NumberRates, notes: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(number_rates, "find_rates", lambda: rates)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            processes.check_devices(TrainingConfig(accelerator="cpu", precision="bf16"))
        monkeypatch.setattr(processes, "find_rates", lambda: rates)
        fixed = resolve_auto(TrainingConfig(accelerator="cpu", precision="auto"))
        processes.check_devices(fixed)
    assert [("0.1 times as fast" in text, "amx_bf16" in text) for text in caplog.messages] == [(True, True)] * notes
