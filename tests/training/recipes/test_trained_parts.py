"""Trainings of a part of a network: exact resume, plain weights for predictions and exports, and starts from them."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.combinations import mark_others
from tests.training.recipes.published_folders import write_network
from tests.training.recipes.test_depth_networks import configure, interrupt

from stadia import training
from stadia.networks.depth.depth_network import list_adapter_names, name_for_adapters
from stadia.training.loop.checkpoint import Checkpoint
from stadia.training.prediction.export import export_checkpoint
from stadia.training.recipes.base.build_recipe import load_recipe, read_plain_weights
from stadia.training.recipes.selfsup.config import SelfsupConfig


def configure_part(small: SelfsupConfig, source: Path, **model: Any) -> Any:
    config = configure("selfsup", small, {"name": "published", "source": str(source)})
    values = {"pretrained": True, "adapter_rank": 2, **model}
    return config.model_copy(
        update={"model": type(config.model).model_validate({**config.model.model_dump(), **values})}
    )


@pytest.mark.slow
@pytest.mark.parametrize("precision", mark_others(["32", "bf16"], ["bf16"]))
def test_adapters_resume_exactly_and_predict_merged(
    precision: str, small: SelfsupConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_network(tmp_path / "source", "glpn")
    config = configure_part(small, source, trained="adapters", backbone_precision=precision)
    whole = training.train(config, out=tmp_path / "whole")
    with monkeypatch.context() as patch:
        interrupt("selfsup", 3, patch)
        with pytest.raises(KeyboardInterrupt):
            training.train(config, out=tmp_path / "stopped")
    (stopped,) = (tmp_path / "stopped").iterdir()
    resumed = training.train(config, resume=stopped)
    last = [Checkpoint.open(run.folder / "checkpoints" / "last.safetensors") for run in (whole, resumed)]
    assert last[0].checksum == last[1].checksum

    recipe: Any = load_recipe(last[0])
    names = list_adapter_names(recipe.state_dict())
    assert names == []
    assert all(tensor.dtype is torch.float32 for tensor in recipe.parameters())
    if precision != "32":
        return
    image = torch.rand(1, 3, 32, 96, generator=torch.Generator().manual_seed(0))
    _, compared = export_checkpoint(last[0], tmp_path / "model.onnx")
    assert all(comparison.is_close for comparison in compared)

    plain = configure_part(small, source, trained="decoder").model_copy(update={"start_from": str(last[0].path)})
    again = configure_part(small, source, trained="adapters").model_copy(update={"start_from": str(last[0].path)})
    with torch.no_grad():
        expected = recipe.inverse_depth(image)
        for config in (plain, again):
            started = type(recipe)(config).eval()
            weights = name_for_adapters(read_plain_weights(last[0]), started.state_dict())
            started.load_state_dict(weights, strict=False)
            torch.testing.assert_close(started.inverse_depth(image), expected, rtol=1e-4, atol=1e-6)
    run = training.train(again, out=tmp_path / "again")
    assert list_adapter_names(Checkpoint.open(run.folder).names)
