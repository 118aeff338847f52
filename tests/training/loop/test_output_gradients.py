"""The gradient of the loss by what the networks say."""

from pathlib import Path

import pytest
import torch
from tests.training.loop import small_recipe
from torch import Tensor, nn

from stadia.differentiable.batch import Prediction
from stadia.io.metrics_table import read_rows
from stadia.training.loop.callbacks import OutputGradients

NAMES = ("-1", "stereo")


class Says(nn.Module):
    def __init__(self, brightness: bool = True) -> None:
        super().__init__()
        maps = [nn.Parameter(torch.full((2, 1, 8 >> s, 12 >> s), 0.1)) for s in range(2)]
        self.maps = nn.ParameterList(maps)
        self.T = nn.Parameter(torch.eye(4).repeat(2, 2, 1, 1))
        self.brightness = nn.Parameter(torch.tensor([1.0, 0.0]).repeat(2, 2, 1)) if brightness else None

    def forward(self) -> Prediction:
        brightness = None if self.brightness is None else self.brightness * 1
        return Prediction(
            tuple(one * 1 for one in self.maps), self.T * 1, log_uncertainty=(self.maps[0] * 2,), brightness=brightness
        )


def sizes_of(loss: object, network: nn.Module, names: tuple[str, ...] = NAMES) -> dict[str, float]:
    recipe, gradients = nn.ModuleDict({"network": network, "loss": nn.ReLU()}), OutputGradients()
    gradients.attach(recipe)
    loss(recipe["network"]()).backward()  # type: ignore[operator]
    found = {name: float(size) for name, size in gradients.collect(names).items()}
    assert not recipe["network"]._forward_hooks
    return found


def test_mean_has_the_same_gradient_at_every_scale_and_unused_outputs_none() -> None:
    def loss(said: Prediction) -> Tensor:
        return (
            3 * said.inverse_depth[0].mean() + 3 * said.inverse_depth[1].mean() + said.T_source_target[:, :, 2, 3].sum()
        )

    found = sizes_of(loss, Says())
    unused = {"rotation": 0, "log_uncertainty/0": 0, "gain": 0, "offset": 0}
    assert found == pytest.approx({"inverse_depth/0": 3, "inverse_depth/1": 3, "translation": 2, **unused})


@pytest.mark.slow
def test_output_gradients_are_logged_and_change_no_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, _ = small_recipe.train(tmp_path / "seen", max_steps=4, log_every=2, validate_every=3)
    rows = read_rows(run.metrics_csv)
    assert [row["step"] for row in rows if row["gradient/output"]] == ["2", "4"]
    assert all(float(row["gradient/output"]) > 0 for row in rows if row["gradient/output"])
    monkeypatch.setattr(OutputGradients, "attach", lambda self, recipe: None)
    without, _ = small_recipe.train(tmp_path / "unseen", max_steps=4, log_every=2, validate_every=3)
    assert [row["train/loss"] for row in read_rows(without.metrics_csv)] == [row["train/loss"] for row in rows]
