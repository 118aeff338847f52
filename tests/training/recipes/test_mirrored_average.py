"""Maps that are averaged with those of the mirrored image: laws, and what the commands keep of it."""

from collections.abc import Callable
from typing import Any, cast

import pytest
import torch
from tests.tensor_cameras import intrinsics
from torch import Tensor

from stadia.core.types import Camera, DepthScale, PredictedMaps
from stadia.differentiable.images import mirror
from stadia.predict.predict_frames import average_mirrored
from stadia.training.recipes.base.depth_predictor import DepthPredictor, choose_flip

HEIGHT, WIDTH = 4, 7

Predict = Callable[[Tensor, Camera], PredictedMaps]


def lean(image: Tensor, camera: Camera) -> PredictedMaps:
    x = torch.arange(image.shape[-1], dtype=image.dtype)
    maps = image.mean(1, keepdim=True) * (1 + 0.1 * x) + 0.01 * camera.cx.reshape(-1, 1, 1, 1)
    return PredictedMaps(maps, log_uncertainty=maps.log())


@pytest.fixture
def given() -> tuple[Tensor, Camera]:
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(2, 3, HEIGHT, WIDTH, generator=generator, dtype=torch.float64)
    return image, intrinsics(5.0, 5.0, 2.2, 1.5, height=HEIGHT, width=WIDTH)


def test_a_mirrored_image_has_the_mirrored_maps(given: tuple[Tensor, Camera]) -> None:
    maps, mirrored = average_mirrored(lean, *given), average_mirrored(lean, *mirror(*given))
    assert not torch.allclose(lean(*given).inverse_depth, lean(*mirror(*given)).inverse_depth.flip(-1))
    torch.testing.assert_close(maps.inverse_depth, mirrored.inverse_depth.flip(-1), rtol=1e-14, atol=0)
    assert maps.log_uncertainty is not None
    assert mirrored.log_uncertainty is not None
    torch.testing.assert_close(maps.log_uncertainty, mirrored.log_uncertainty.flip(-1), rtol=1e-13, atol=1e-15)


def test_maps_that_mirror_with_the_image_stay(given: tuple[Tensor, Camera]) -> None:
    def predict(image: Tensor, camera: Camera) -> PredictedMaps:
        return PredictedMaps(image[:, :1], inverse_depth_right=image[:, 1:2])

    maps = average_mirrored(predict, *given)
    assert maps.inverse_depth.equal(given[0][:, :1])
    assert maps.log_uncertainty is None
    assert maps.inverse_depth_right is not None
    assert maps.inverse_depth_right.equal(given[0][:, 1:2]), "the right view is that of the image as it is"


class SmallRecipe(torch.nn.Module):
    depth_scale, crop, height, width = DepthScale.METRES, "none", HEIGHT, WIDTH
    depth_network = None

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("focal", torch.tensor(5.0 / WIDTH))

    def maps(self, image: Tensor, camera: Camera) -> PredictedMaps:
        return lean(image.double(), intrinsics(5.0, 5.0, 3.0, 1.5, height=HEIGHT, width=WIDTH))


@pytest.fixture
def predictor(given: tuple[Tensor, Camera]) -> DepthPredictor:
    found = DepthPredictor(cast(Any, SmallRecipe()))
    found.lens.ratio = lambda K, height, width: torch.ones(1).numpy()  # type: ignore[method-assign]
    return found


def test_a_predictor_averages_where_it_is_chosen(predictor: DepthPredictor, given: tuple[Tensor, Camera]) -> None:
    alone, mirrored = predictor.inverse_depth(*given), predictor.inverse_depth(*mirror(*given)).flip(-1)
    averaged = choose_flip(predictor, True).inverse_depth(*given)
    torch.testing.assert_close(averaged, (alone + mirrored) / 2, rtol=1e-6, atol=0)
    assert not torch.allclose(averaged, alone)
    assert choose_flip(predictor, False).inverse_depth(*given).equal(alone)
