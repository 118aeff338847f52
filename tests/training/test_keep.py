"""Which network is kept, as laws: no improvement keeps the old one, a clear one the new, a contradiction the old."""

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch

from stadia.training.keep import MEASURES, DepthErrors, choose_network, choose_weights
from stadia.training.loop.checkpoint import Checkpoint, CheckpointHeader, write_checkpoint

FRAMES = 20


def make_errors(seed: int = 0) -> DepthErrors:
    random = np.random.default_rng(seed)
    return DepthErrors(**{name: tuple(random.uniform(0.1, 0.9, FRAMES).tolist()) for name in MEASURES})


def scale(errors: DepthErrors, factor: float, *names: str) -> DepthErrors:
    chosen = {name: tuple(factor * value for value in getattr(errors, name)) for name in names or MEASURES}
    return replace(errors, **chosen)


def test_the_same_network_is_kept_as_it_was() -> None:
    decision = choose_network(make_errors(), make_errors())
    assert decision.kept == "before"
    assert not any(change.is_better or change.is_worse for change in decision.changes)


def test_a_network_that_is_better_everywhere_is_kept() -> None:
    before = make_errors()
    assert choose_network(before, scale(before, 0.9)).kept == "after"
    assert choose_network(scale(before, 0.9), before).kept == "before"


def test_measures_that_contradict_each_other_keep_the_old_network() -> None:
    before = replace(make_errors(), abs_rel=(), stereo_difference=())
    after = scale(scale(before, 0.34, "point_error"), 1.11, "match_error")
    decision = choose_network(before, after)
    assert decision.kept == "before"
    assert [(change.name, change.is_better, change.is_worse) for change in decision.changes] == [
        ("point_error", True, False),
        ("match_error", False, True),
    ]


def test_a_change_within_its_scatter_is_none() -> None:
    before = DepthErrors(match_error=(0.5,) * FRAMES)
    factors = [0.5, 2.0] * (FRAMES // 2 - 1) + [0.5, 0.5]
    after = DepthErrors(match_error=tuple(0.5 * factor for factor in factors))
    (change,) = choose_network(before, after).changes
    assert change.change < 0 < change.scatter
    assert choose_network(before, after).kept == "before"


def test_the_unit_of_an_error_does_not_matter() -> None:
    before, after = make_errors(), scale(make_errors(), 0.97)
    tens = [choose_network(scale(before, factor), scale(after, factor)).changes[0].change for factor in (1.0, 10.0)]
    assert tens[0] == pytest.approx(tens[1])
    assert tens[0] == pytest.approx(math.log(0.97))


@pytest.mark.parametrize("correlation", [0.0, 0.9])
def test_frames_that_resemble_each_other_count_less(correlation: float) -> None:
    """Equal networks are found better by a standard error in a sixth of the draws, however frames correlate."""
    random, found = np.random.default_rng(0), 0
    for _ in range(400):
        noise = random.normal(size=60)
        for row in range(1, 60):
            noise[row] = correlation * noise[row - 1] + math.sqrt(1 - correlation**2) * noise[row]
        after = DepthErrors(match_error=tuple(0.5 * np.exp(0.1 * noise)))
        found += choose_network(DepthErrors(match_error=(0.5,) * 60), after).kept == "after"
    assert found / 400 < 0.25


@pytest.mark.parametrize(("factor", "kept"), [(1.3, "after"), (4.0, "before")])
def test_a_network_that_shifts_half_of_the_depth_is_not_kept(factor: float, kept: str) -> None:
    """Points and matches fall, and half of the image moves; a factor on the whole image is none."""
    inverse = np.random.default_rng(0).uniform(0.1, 1, (12, 16))
    moved = 3 * np.where(np.arange(16) < 9, inverse, factor * inverse)
    before = replace(make_errors(), abs_rel=(), stereo_difference=(), outputs=(inverse,))
    after = replace(scale(before, 0.5), outputs=(moved,))
    decision = choose_network(before, after)
    assert decision.kept == kept
    assert decision.shift == pytest.approx(7 / 16 * math.log(factor))
    truth = (0.3,) * FRAMES
    assert choose_network(replace(before, abs_rel=truth), replace(after, abs_rel=(0.1,) * FRAMES)).kept == "after"


class TestChooseWeights:
    """Of a run whose start has all weights 0 and whose trained network has all weights 2."""

    BEFORE = DepthErrors(point_error=(0.4, 0.5), match_error=(0.5, 0.6))
    BETTER = DepthErrors(point_error=(0.2, 0.25), match_error=(0.4, 0.48))
    MIXED = DepthErrors(point_error=(0.1, 0.125), match_error=(0.7, 0.84))

    @pytest.mark.parametrize(
        ("errors", "kept", "value"),
        [
            ([BETTER], "after", 2.0),
            ([MIXED, BETTER], "after", 1.0),
            ([MIXED, MIXED], "before", 0.0),
            ([BEFORE], "before", 0.0),
        ],
    )
    def test_the_trained_network_comes_first_then_the_mean_then_the_start(
        self, errors: list[DepthErrors], kept: str, value: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        weights = {"model.depth.weight": torch.full((3,), 2.0), "model.depth.count": torch.tensor(7)}
        weights["model.depth.lora_A"] = torch.full((3,), 2.0)
        numbers = {"weight": torch.zeros(3), "count": torch.tensor(5), "lora_A": torch.full((3,), 8.0)}
        start = SimpleNamespace(state_dict=lambda: numbers)
        monkeypatch.setattr("stadia.training.keep.build_depth_network", lambda model: start)
        header = CheckpointHeader(kind="training", recipe="selfsup", config={}, step=9, epoch=1, metrics={})
        write_checkpoint(tmp_path / "last.safetensors", header, {"state_dict": weights})
        trained, given = Checkpoint.open(tmp_path / "last.safetensors"), list(errors)
        run: Any = SimpleNamespace(checkpoints=tmp_path)
        after, decision, _ = choose_weights(self.BEFORE, run, trained, cast("Any", None), lambda *_: given.pop(0))
        assert (decision.kept, given) == (kept, [])
        assert after is (errors[-1] if kept == "after" else errors[0])
        best = Checkpoint.open(tmp_path / "best.safetensors")
        assert best.weights()["model.depth.weight"].tolist() == [value] * 3
        assert best.weights()["model.depth.lora_A"].tolist() == [2.0 if kept == "after" else 8.0] * 3
        assert best.header.step == (9 if kept == "after" else 0)

        def stop(*_: object) -> DepthErrors:
            raise KeyboardInterrupt

        given = [self.MIXED]
        with pytest.raises(KeyboardInterrupt):
            choose_weights(self.BEFORE, run, trained, cast("Any", None), lambda *_: given.pop(0) if given else stop())
        assert Checkpoint.open(tmp_path / "best.safetensors").header.step == 0, "the start"
