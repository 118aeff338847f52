"""A network with a canonical camera: depth follows the focal length, and nothing else of the camera."""

from __future__ import annotations

import math

import torch

from stadia.core.types import Camera
from stadia.models.depth.config import UnetConfig
from stadia.models.depth.depth_network import compute_focal_ratio
from stadia.models.depth.unet import Unet


def camera(focal: float, width: int = 64, height: int = 32) -> Camera:
    f = focal * math.sqrt(width * height)
    return Camera(torch.tensor([[[f, 0, 31.5], [0, f, 15.5], [0, 0, 1]]]), height, width)


def build(canonical_focal: float | None) -> Unet:
    torch.manual_seed(0)
    config = UnetConfig(encoder="resnet18", scales=2, canonical_focal=canonical_focal)
    return Unet(config, pretrained=False).eval()


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


def test_images_of_one_number_of_pixels_and_one_focal_length_in_pixels_have_one_ratio() -> None:
    K = torch.tensor([[[300.0, 0, 0], [0, 300, 0], [0, 0, 1]]])
    wide, square = Camera(K, 128, 512), Camera(K, 256, 256)
    torch.testing.assert_close(compute_focal_ratio(wide, 0.5), compute_focal_ratio(square, 0.5))


def test_a_squeezed_image_has_the_ratio_of_its_camera() -> None:
    K = torch.tensor([[[700.0, 0, 0], [0, 700, 0], [0, 0, 1]]])
    squeezed = torch.diag(torch.tensor([256 / 900, 192 / 600, 1.0])) @ K
    own, other = compute_focal_ratio(Camera(K, 600, 900), 0.5), compute_focal_ratio(Camera(squeezed, 192, 256), 0.5)
    torch.testing.assert_close(own, other)


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
