"""`make gpu-check` without a GPU: every part is executed, and what it estimates is marked as an estimate."""

import contextlib
import json
import time
from typing import Any

import gpu_check
import gpu_estimate
import pytest
import torch
from gpu_estimate import CARDS, Operation
from step import made_up_batch

from stadia.training import recipes
from stadia.training.recipes.selfsup.recipe import SelfsupRecipe

TINY = gpu_check.Setting(torch.device("cpu"), 2, 64, 96, "mobilenetv3_small_050", 1, time.monotonic() + 1e6, "a100")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    """The results of all parts but the tests, which are in tests/gpu."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: False)
        patch.setattr(gpu_estimate, "HEIGHT", 64)
        patch.setattr(gpu_estimate, "WIDTH", 128)
        patch.setattr(gpu_check, "SMALL_VARIANTS", (gpu_check.Variant(), gpu_check.Variant("bf16")))
        folder = tmp_path_factory.mktemp("gpu-check")
        assert gpu_check.main(["--out", str(folder), "--parts", "agreement,step,waits,loader,video,estimate"]) == 0
    return json.loads((folder / "gpu-check.json").read_text()), (folder / "gpu-check.md").read_text()


@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.filterwarnings("default")
def test_a_dry_run_executes_every_part(found: tuple[dict[str, Any], str]) -> None:
    results, table = found
    assert results["dry_run"] is True
    assert {name: part["ok"] for name, part in results["parts"].items()} == dict.fromkeys(
        list(gpu_check.PARTS)[1:], True
    )
    assert set(results["parts"]["step"]["variants"]) == {"32", "bf16"}
    assert results["parts"]["agreement"]["device_over_cpu"]["loss"] == 0, "the CPU is compared with itself"
    assert results["parts"]["waits"]["waits"] == {}
    assert results["parts"]["video"]["largest_difference"] == 0, "the CPU is compared with itself"
    assert "DRY RUN on the CPU: no number of it is of a GPU" in table.splitlines()[0]


@pytest.mark.slow
@pytest.mark.exhaustive
def test_the_estimate_is_marked_and_names_its_assumptions(found: tuple[dict[str, Any], str]) -> None:
    results, table = found
    estimate = results["parts"]["estimate"]
    assert estimate["is_estimate"] is True
    assert estimate["card"]["name"] == CARDS["a100"].name
    assert 0 < estimate["seconds"]["networks"] < estimate["seconds"]["step"]
    rows = [line for line in table.splitlines() if "ms" in line and CARDS["a100"].name in line]
    assert rows
    assert all(line.startswith("| ESTIMATE ") for line in rows)
    assert "launch 5 us" in estimate["assumptions"]


def test_an_operation_takes_the_longest_of_arithmetic_memory_and_launch() -> None:
    card = gpu_estimate.Card("even", 1e12, 1e12, 1e12)
    arithmetic = Operation(1e9, 0, is_bf16=True).seconds(card, 2)
    assert arithmetic == pytest.approx(2e-3 / gpu_estimate.FLOP_SHARE)
    assert Operation(0, 1e9, is_bf16=False).seconds(card, 2) == pytest.approx(2e-3 / gpu_estimate.BANDWIDTH_SHARE)
    assert Operation(0, 4, is_bf16=False).seconds(card, 2) == gpu_estimate.LAUNCH_S
    update = Operation(0, 1e9, is_bf16=False, per_sample=False)
    assert update.seconds(card, 1) == update.seconds(card, 8)


def test_a_part_that_fails_stops_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(setting: object) -> dict[str, Any]:
        raise RuntimeError("no kernel image")

    monkeypatch.setitem(gpu_check.PARTS, "agreement", fail)
    monkeypatch.setitem(gpu_check.PARTS, "waits", lambda setting: {"waits": {}, "operations": 3, "ok": True})
    results = gpu_check.check(TINY, ("agreement", "waits"))
    assert results["ok"] is False
    assert results["parts"]["agreement"]["failed"] == "RuntimeError: no kernel image"
    assert results["parts"]["waits"]["ok"] is True
    assert "| agreement | failed: RuntimeError: no kernel image |" in gpu_check.format_table(results)


def test_a_part_is_skipped_where_no_time_is_left() -> None:
    late = gpu_check.Setting(torch.device("cpu"), 2, 64, 96, "mobilenetv3_small_050", 1, time.monotonic(), "a100")
    assert gpu_check.check(late, ("waits",))["parts"]["waits"]["failed"] == "TimeoutError: no time left"


@pytest.mark.slow
@pytest.mark.parametrize(
    "words", [["model.network.encoder=resnet18"], ["model.network=base"], ["--preset", "d3vo-kitti"]]
)
def test_a_training_step_makes_no_tensor_on_another_device(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The device `meta` refuses operations with tensors of the processor, as a GPU does."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())
    preset = words[1] if words[0] == "--preset" else None
    keys = ["model.pretrained=false", "model.pose_encoder=resnet18", "data.height=64", "data.width=96"]
    keys += ["data.stereo=true"] if preset is None else []
    config = recipes.configure(
        "selfsup", [*keys, *(words if preset is None else [])], preset=preset, data={"path": "."}
    )
    recipe = SelfsupRecipe(config).train().to("meta")
    report = recipe.training_step(made_up_batch(2, 64, 96).to("meta"))
    report.total.backward()
    assert {value.device.type for value in [report.total, *report.terms.values()]} == {"meta"}
    assert any(parameter.grad is not None for parameter in recipe.parameters())
