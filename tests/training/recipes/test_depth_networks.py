"""Every depth network in every recipe of depth: it trains, predicts, exports and resumes; so does a user's own."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from tests.combinations import mark_others
from tests.conformance.model_interfaces import TINY_NETWORKS as SMALL
from tests.refusals import refuses
from tests.tensor_cameras import intrinsics
from torch import Tensor, nn

from stadia import training as launch
from stadia.core.errors import ConfigError
from stadia.core.types import Camera
from stadia.networks import DEPTH_NETWORKS
from stadia.networks.config import DepthNetworkConfig
from stadia.networks.depth.depth_network import DepthMaps, DepthNetwork
from stadia.predict.exported_network import ExportedNetwork
from stadia.training import recipes
from stadia.training.loop.checkpoint import Checkpoint
from stadia.training.prediction.export import export_checkpoint
from stadia.training.recipes import RECIPES
from stadia.training.recipes.base.build_recipe import load_recipe
from stadia.training.recipes.selfsup.config import SelfsupConfig

TINY_NETWORKS: dict[str, dict[str, Any]] = {
    **{name: SMALL[name] for name in ("base", "dpt", "depth_anything", "monodepth2", "midas")},
    "unet": {"name": "unet", "encoder": "test_efficientnet", "decoder_channels": (4, 4, 8, 8, 8)},
}
"""The smallest configuration of each network of the table; a new one needs a line here."""
OWN = f"{Path(__file__).stem}:Ramp"
COMBINATIONS = [(name, recipe) for name in (*TINY_NETWORKS, OWN) for recipe in ("supervised", "selfsup", "metric")]
TRAINED = ((OWN, "metric"),)
"""Combination that the suite trains; training/loop/test_resume.py has `selfsup`, test_supervised.py `supervised`, and
tests/conformance the networks.
"""


class RampConfig(DepthNetworkConfig):
    """A network of the user's own, with one key.

    width: channels.
    """

    width: int = 8


class Ramp(DepthNetwork):
    Config = RampConfig
    config: RampConfig

    def __init__(self, config: RampConfig, *, pretrained: bool = True) -> None:
        super().__init__(config)
        self.layers = nn.Sequential(
            nn.Conv2d(3, config.width, 3, padding=1), nn.ELU(), nn.Conv2d(config.width, 1, 3, padding=1)
        )
        nn.init.zeros_(self.layers[-1].weight)  # type: ignore[arg-type]

    def forward(self, image: Tensor, camera: Camera | None = None) -> DepthMaps:
        rows = torch.ones_like(image[:, :1]).cumsum(dim=2) / image.shape[-2]  # an export follows it at any size
        return DepthMaps((((0.2 + rows) / self.config.start_m) * self.layers(self.normalize(image)).exp(),))


class Silent(Ramp):
    def forward(self, image: Tensor, camera: Camera | None = None) -> Any:
        return image


class OneSided(Ramp):
    class Config(RampConfig):
        @property
        def predicts_right_view(self) -> bool:
            return True


@pytest.fixture
def own_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


def configure(recipe: str, world: SelfsupConfig, network: dict[str, Any] | str) -> Any:
    data = {"path": world.data.path, "height": 32, "width": 96, "cache": world.data.cache.model_dump()}
    settings: dict[str, Any] = {"model": {"network": network, "pretrained": False}}
    if recipe == "metric":
        data |= {"stereo": False, "offsets": [-1, 1]}
        settings["road"] = {"priors": "roadworld"}
    if recipe != "supervised":
        settings["model"]["pose_net"] = "correlation"
    training = {"max_steps": 3, "max_epochs": None, "batch_size": 2, "workers": 0, "checkpoint_every": 1}
    training |= {"check_seconds": 0, "loggers": ["csv"], "threads": 1}
    return recipes.configure(recipe, data=data, training=training, **settings)


def interrupt(recipe: str, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe_class = RECIPES.load(recipe)
    training_step = recipe_class.training_step

    def stop(self: Any, batch: Any) -> Any:
        if self.global_step == step - 1:
            raise KeyboardInterrupt
        return training_step(self, batch)

    monkeypatch.setattr(recipe_class, "training_step", stop)


def test_each_network_is_trained() -> None:
    assert {*TINY_NETWORKS, "published"} == {*DEPTH_NETWORKS}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "recipe"), mark_others(COMBINATIONS, TRAINED))
def test_it_trains_predicts_exports_and_resumes(
    name: str,
    recipe: str,
    small: SelfsupConfig,
    tmp_path: Path,
    own_module: None,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    config = configure(recipe, small, TINY_NETWORKS[name] if name in DEPTH_NETWORKS else {"name": name, "width": 4})
    run = launch.train(config, out=tmp_path / "whole")
    assert Checkpoint.open(run.folder / "checkpoints" / "last.safetensors").header.step == 3

    image = torch.rand(1, 3, 32, 96, generator=torch.Generator().manual_seed(0))
    camera = intrinsics(57.6, 57.6, 47.5, 15.5, height=32, width=96)
    inverse_depth = recipes.load_predictor(run.folder).inverse_depth(image, camera)
    assert inverse_depth.shape == (1, 1, 32, 96)
    assert (inverse_depth > 0).all()

    if request.config.getoption("exhaustive"):  # takes seconds; tests/predict/test_export.py has the unet
        export_checkpoint(Checkpoint.open(run.folder), tmp_path / "model.onnx")
        expected = load_recipe(run.folder).inverse_depth(image).detach().numpy()
        exported = ExportedNetwork(tmp_path / "model.onnx", threads=1).inverse_depth(image.numpy())
        assert np.abs(exported - expected).max() <= 1e-3 * np.abs(expected).max()

    with monkeypatch.context() as patch:
        interrupt(recipe, 3, patch)
        with pytest.raises(KeyboardInterrupt):
            launch.train(config, out=tmp_path / "stopped")
    (stopped,) = (tmp_path / "stopped").iterdir()
    assert Checkpoint.open(stopped / "checkpoints" / "last.safetensors").header.step == 2
    launch.train(config, resume=stopped)
    whole, resumed = (
        Checkpoint.open(folder / "checkpoints" / "last.safetensors").weights() for folder in (run.folder, stopped)
    )
    assert whole.keys() == resumed.keys()
    assert [key for key in whole if not torch.equal(whole[key].nan_to_num(), resumed[key].nan_to_num())] == []


# -- what is refused, in one line, before images are decoded


@pytest.mark.parametrize(
    ("network", "names"),
    [
        ("unett", ("model.network", "unet")),
        ("json:loads", ("model.network", "stadia.networks.depth.depth_network.DepthNetwork")),
        ("nowhere:Net", ("model.network", "PYTHONPATH=FOLDER")),
        ({"name": "dpt", "encoder": "resnet18"}, ("model.network.encoder",)),
        ({"name": "dpt", "right_view": True}, ("model.network.right_view",)),
        ({"name": OWN, "width": "wide"}, ("model.network.width", "wide")),
    ],
)
def test_a_network_that_is_none_and_keys_of_another_are_refused(
    network: Any, names: tuple[str, ...], own_module: None
) -> None:
    with refuses(ConfigError, names=names):
        recipes.configure("selfsup", data={"path": "nowhere"}, model={"network": network})


@pytest.mark.parametrize(("name", "names"), [("Silent", ("DepthMaps",)), ("OneSided", ("inverse_depth_right",))])
def test_an_output_that_a_recipe_cannot_use_is_refused_before_images_are_decoded(
    name: str, names: tuple[str, ...], own_module: None
) -> None:
    module = Path(__file__).stem
    config = recipes.configure(
        "selfsup",
        data={"path": "nowhere", "height": 64, "width": 96},
        model={"network": f"{module}:{name}", "pose_net": "correlation"},
    )
    with refuses(ConfigError, names=names):
        RECIPES.load("selfsup").prepare(config, Console(quiet=True))


def test_a_loss_on_two_views_needs_a_network_that_predicts_both() -> None:
    with refuses(ConfigError, found="model.network=unet"):
        recipes.configure("selfsup", ["model.network=dpt", "loss.left_right_consistency=1"], data={"path": "nowhere"})


def test_a_pose_network_cannot_share_an_encoder_that_is_not_there() -> None:
    with refuses(ConfigError, where="model", found="pose_net=shared"):
        recipes.configure("selfsup", ["model.network=dpt", "model.pose_net=shared"], data={"path": "nowhere"})


def test_keys_of_a_network_are_those_of_the_chosen_one_in_any_order() -> None:
    config = recipes.configure(
        "selfsup", ["model.network.size=tiny", "model.network=dpt"], data={"path": "nowhere"}, preset="tiny-laptop"
    )
    assert config.model.network.model_dump(include={"name", "size"}) == {"name": "dpt", "size": "tiny"}
    kept = recipes.configure(
        "selfsup", ["model.network.decoder_channels=4,4,4,4,4"], data={"path": "nowhere"}, preset="monodepth2-kitti"
    )
    assert kept.model.network.min_depth_m == 0.1
    assert kept.model.network.decoder_channels == (4, 4, 4, 4, 4)
