"""Outputs of the U-Net: depth without an upper limit, limits of the uncertainty."""

import hashlib
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from stadia.core.types import Camera
from stadia.differentiable.depth_activations import init_softplus_bias, softplus_to_inverse_depth
from stadia.networks.config import BaseConfig, UnetConfig
from stadia.networks.depth.depth_network import compute_focal_ratio
from stadia.networks.depth.unet import BaseNetwork, Unet
from stadia.predict.networks.base import BASE_FILE
from stadia.synthetic.config import ROADWORLD_TINY
from stadia.synthetic.roadworld.road_world import RoadRenderer, make_world


@pytest.mark.parametrize("init_m", [0.6, 12.0, 400.0])
def test_softplus_starts_at_the_initial_depth_without_an_upper_limit(init_m: float) -> None:
    bias = init_softplus_bias(init_m, 0.5)
    assert 1 / softplus_to_inverse_depth(torch.tensor(bias, dtype=torch.float64), 0.5).item() == pytest.approx(init_m)
    depth = 1 / softplus_to_inverse_depth(torch.linspace(-50, 5000, 200), 0.5)
    assert (depth.diff() >= 0).all()
    assert depth[0].item() == pytest.approx(0.5)
    assert depth[-1] > 4000


def test_unet_predicts_softplus_depth() -> None:
    torch.manual_seed(0)
    config = UnetConfig(encoder="resnet10t", depth_output="softplus", init_depth_m=300.0, max_depth_m=100.0, scales=2)
    assert config.depth_range_m is None
    maps = Unet(config, pretrained=False).eval()(torch.rand(1, 3, 64, 64)).inverse_depth
    assert (1 / maps[0]).median().item() == pytest.approx(300, rel=0.1)
    with pytest.raises(ValidationError, match=r"min_depth_m.*init_depth_m"):
        UnetConfig(depth_output="softplus", init_depth_m=0.4)


# -- a network with a canonical camera: depth follows the focal length, and nothing else of the camera


def camera(focal: float, width: int = 64, height: int = 32) -> Camera:
    f = focal * math.sqrt(width * height)
    return Camera(torch.tensor([[[f, 0, 31.5], [0, f, 15.5], [0, 0, 1]]]), height, width)


def build(canonical_focal: float | None) -> Unet:
    torch.manual_seed(0)
    config = UnetConfig(encoder="resnet18", scales=2, canonical_focal=canonical_focal)
    return Unet(config, pretrained=False).eval()


@pytest.mark.slow
def test_depth_is_proportional_to_the_focal_length_and_that_of_the_network_at_the_canonical_one() -> None:
    network, plain, image = build(0.5), build(None), torch.rand(1, 3, 32, 64)
    with torch.no_grad():
        own = plain(image, camera(0.9)).inverse_depth
        for scale in (0, 1):
            torch.testing.assert_close(network(image, camera(0.5)).inverse_depth[scale], own[scale])
            torch.testing.assert_close(network(image, camera(1.0)).inverse_depth[scale], own[scale] / 2)
            torch.testing.assert_close(network(image).inverse_depth[scale], own[scale])
    assert network.uses_camera
    assert not plain.uses_camera


def test_a_resized_image_has_the_same_ratio_and_a_batch_one_for_each() -> None:
    several = Camera(torch.cat([camera(0.5).K, camera(0.25).K]), 32, 64)
    torch.testing.assert_close(compute_focal_ratio(several, 0.5).flatten(), torch.tensor([1.0, 0.5]))
    assert compute_focal_ratio(camera(0.7, 640, 320), 0.5).allclose(compute_focal_ratio(camera(0.7), 0.5))


@pytest.mark.slow
def test_fixed_batch_statistics_stay_and_training_predicts_as_evaluation() -> None:
    torch.manual_seed(0)
    network = Unet(UnetConfig(encoder="resnet18", scales=1, fixed_batch_statistics=True), pretrained=False)
    before = {name: value.clone() for name, value in network.state_dict().items() if "running" in name}
    image = torch.rand(2, 3, 32, 64)
    trained = network.train()(image).inverse_depth[0]
    torch.testing.assert_close(trained, network.eval()(image).inverse_depth[0])
    assert before
    assert all(torch.equal(network.state_dict()[name], value) for name, value in before.items())
    assert any(parameter.requires_grad for parameter in network.encoder.parameters())


# -- the network whose weights are part of the package: their file, and depth of a world that it never saw


CARD = Path(__file__).parents[2] / "docs" / "reference" / "base-network.md"


def test_the_weights_are_small_and_those_of_the_model_card() -> None:
    assert BASE_FILE.stat().st_size < 12e6
    assert hashlib.sha256(BASE_FILE.read_bytes()).hexdigest() in CARD.read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_road_that_it_never_saw_has_depth_in_metres() -> None:
    height, width = BaseNetwork(BaseConfig()).image_size(375, 1242)
    config = ROADWORLD_TINY.model_copy(update={"height": height, "width": width, "stereo": False})
    world = make_world(987_654_321, config)
    view = RoadRenderer(world, config).render(0)["left"]
    image = torch.from_numpy(view.image.copy()).permute(2, 0, 1)[None].float() / 255
    camera = Camera(torch.from_numpy(np.asarray(world.K, np.float32))[None], height, width)
    with torch.no_grad():
        maps = BaseNetwork(BaseConfig()).eval()(image, camera)
    known = (view.depth_m > 0) & (view.depth_m < 80)
    ratio = 1 / maps.inverse_depth[0][0, 0].numpy()[known] / view.depth_m[known]
    assert 0.8 < np.median(ratio) < 1.25
    assert np.mean(abs(ratio - 1)) < 0.3
