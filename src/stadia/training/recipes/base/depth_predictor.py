"""Predict depth and motion with networks in PyTorch: `DepthPredictor`, and the adapter of your own predictors."""

import functools
from collections.abc import Callable, Iterable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stadia.core.errors import CheckpointError, ConfigError
from stadia.core.types import Camera, PredictedMaps, Predictor
from stadia.data.frame_preparation import Frame, PreparedFrame, TrainingLens
from stadia.networks.depth.depth_network import DepthNetwork
from stadia.predict.predict_frames import average_mirrored

# -- arrays of NumPy for methods that take tensors


def accept_arrays(method: Callable[..., Any]) -> Callable[..., Any]:
    """Let a method that takes tensors also take NumPy arrays. It then returns arrays."""

    @functools.wraps(method)
    def run(self: object, *values: Any) -> Any:
        if isinstance(values[0], np.ndarray):
            return to_arrays(method(self, *map(to_tensors, values)))
        return method(self, *values)

    return run


def to_tensors(value: Any) -> Any:
    """Return a NumPy array, or a camera with a NumPy K, with torch tensors; other values stay as they are."""
    if isinstance(value, Camera):
        return Camera(to_tensors(value.K), value.height, value.width)
    if isinstance(value, np.ndarray):  # torch warns of arrays that cannot be written
        return torch.from_numpy(np.require(value, requirements=("C", "W")))
    return value


def to_arrays(value: Any) -> Any:
    """Return a tensor, or predicted maps of tensors, as NumPy arrays of float32 or float64; None stays None."""
    if isinstance(value, PredictedMaps):
        return PredictedMaps(**{field.name: to_arrays(getattr(value, field.name)) for field in fields(value)})
    if not isinstance(value, Tensor):
        return value
    value = value.detach().cpu()
    return (value if value.dtype is torch.float64 else value.float()).numpy()


class TensorPredictor:
    """Adapter of your own predictor, whose methods take torch tensors: it takes NumPy arrays, too.

    predictor: the predictor.
    """

    def __init__(self, predictor: Any) -> None:
        self.predictor = predictor
        self.depth_scale = predictor.depth_scale
        self.height, self.width, self.crop = predictor.height, predictor.width, predictor.crop

    @accept_arrays
    def inverse_depth(self, image: Tensor, camera: Camera) -> Tensor:
        """Predict inverse depth, (B, 3, H, W) to (B, 1, H, W)."""
        return self.predictor.inverse_depth(image, camera)

    @accept_arrays
    def maps(self, image: Tensor, camera: Camera) -> PredictedMaps:
        """Predict all maps of images (B, 3, H, W); of a predictor without maps, its inverse depth."""
        if hasattr(self.predictor, "maps"):
            return self.predictor.maps(image, camera)
        return PredictedMaps(self.predictor.inverse_depth(image, camera))

    @accept_arrays
    def T_next_now(self, now: Tensor, camera: Camera, following: Tensor, next_camera: Camera) -> Tensor | None:
        """Predict the motion (B, 4, 4) between images (B, 3, H, W); None if no motion is predicted."""
        return self.predictor.T_next_now(now, camera, following, next_camera)


def adapt_predictor(predictor: Any) -> Any:
    """Return a recipe's predictor so that it takes NumPy arrays; None stays None."""
    return predictor if predictor is None or isinstance(predictor, DepthPredictor) else TensorPredictor(predictor)


def choose_device() -> torch.device:
    """Return the GPU if there is one, otherwise the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


# -- the network of a recipe


class DepthPredictor:
    """A depth network with its recipe, for predictions: a `DepthRecipe`, or a `NetworkRecipe` of published weights.

    It runs on a GPU if there is one. Its methods take NumPy arrays or torch tensors, and return the same kind; those
    that a subclass overrides take tensors, and arrays are converted for them.

    With another focal length than the training's, inverse depth is scaled by the ratio (`TrainingLens`), and the pose
    network is not used.

    precision: "bf16" runs the networks under autocast; the maps are float32.
    flip: average maps with the mirrored image's (`average_mirrored`).
    """

    flip = False

    def __init_subclass__(cls) -> None:
        for name in ("inverse_depth", "maps", "T_next_now"):
            if name in vars(cls):
                setattr(cls, name, accept_arrays(vars(cls)[name]))

    def __init__(
        self, recipe: Any, size: tuple[int, int] | None = None, crop: str | None = None, precision: str = "float32"
    ) -> None:
        self.precision = precision
        self.device = choose_device()
        self.recipe = recipe.eval().to(self.device)
        self.depth_scale, self.crop = recipe.depth_scale, crop or recipe.crop
        self.height: int
        self.width: int
        self.height, self.width = size or (recipe.height, recipe.width)
        network = recipe.depth_network
        scaled = "" if network is not None and network.uses_camera else "depth is scaled by it, and "
        self.lens = TrainingLens(recipe.focal.tolist(), f"{scaled}the pose network is not used")

    def move(self, device: torch.device) -> None:
        """Run on another device from now on."""
        self.device, self.recipe = device, self.recipe.to(device)

    @accept_arrays
    def inverse_depth(self, image: Tensor, camera: Camera) -> Tensor:
        """Predict (B, 3, H, W) to (B, 1, H, W), in the unit of `depth_scale`."""
        return self.maps(image, camera).inverse_depth

    @accept_arrays
    @torch.inference_mode()
    def maps(self, image: Tensor, camera: Camera) -> PredictedMaps:
        """Predict (B, 3, H, W) to (B, 1, H, W) each; see `core.types.MapsPredictor`."""
        predict = self._predict_maps
        return average_mirrored(predict, image, camera) if self.flip else predict(image, camera)

    def _predict_maps(self, image: Tensor, camera: Camera) -> PredictedMaps:
        image = image.to(self.device)
        with self._autocast():
            predicted = self.recipe.maps(image, camera.to(self.device)).to(torch.float32)
        ratio = self._focal_ratio(camera, image)
        right = None if predicted.inverse_depth_right is None else predicted.inverse_depth_right / ratio
        return replace(predicted, inverse_depth=predicted.inverse_depth / ratio, inverse_depth_right=right)

    @accept_arrays
    @torch.inference_mode()
    def T_next_now(self, now: Tensor, camera: Camera, following: Tensor, next_camera: Camera) -> Tensor | None:
        """Predict motion, (B, 3, H, W) twice to (B, 4, 4), translation in the unit of depth.

        Returns None if motion was not trained, or the focal length differs from the training's.
        """
        for lens in (camera, next_camera):  # the pose network takes no camera
            if (self.lens.ratio(lens.K.cpu().numpy(), lens.height, lens.width) != 1).any():
                return None
        return self._predict_motion(now, following)

    def _predict_motion(self, now: Tensor, following: Tensor) -> Tensor | None:
        with self._autocast():
            T = self.recipe.T_next_now(now.to(self.device), following.to(self.device))
        return None if T is None else T.float()

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16")

    def _focal_ratio(self, camera: Camera, image: Tensor) -> Tensor:
        """Return this camera's focal length over the training's (..., 1, 1, 1); 1 if the network uses the camera."""
        network = self.recipe.depth_network
        if network is not None and network.uses_camera:
            return torch.ones(1, 1, 1, 1).to(image)
        ratio = self.lens.ratio(camera.K.cpu().numpy(), camera.height, camera.width)
        return torch.from_numpy(ratio).to(image).reshape(-1, 1, 1, 1)


def make_predictor(recipe: Any, place: Path, size: tuple[int, int] | None = None, *, flip: bool = False) -> Any:
    """Return a predictor of a recipe whose weights are loaded; it takes NumPy arrays or torch tensors.

    place: the path of its checkpoint, for errors.
    size: (height, width) of the network's images; None for the training's.
    flip: average the maps with the maps of mirrored images.

    Raises CheckpointError for a recipe without depth, ConfigError if it supports no such size or no flip.
    """
    predictor = adapt_predictor(recipe.predictor(size))
    if predictor is None:
        found, fix = f"a checkpoint of recipe '{recipe.recipe}'", "pass a checkpoint of a recipe that predicts depth"
        raise CheckpointError(place, found=found, expected="a recipe that predicts depth", fix=fix)
    return choose_flip(predictor, flip)


def choose_flip(predictor: Predictor, flip: bool) -> Predictor:
    """Let a predictor average its maps with mirrored images, or not; return it. Raises ConfigError if it cannot."""
    if isinstance(predictor, DepthPredictor) and type(predictor).maps is DepthPredictor.maps:
        predictor.flip = flip
    elif flip:
        found, expected = f"a {type(predictor).__name__}", "a DepthPredictor that keeps its method maps"
        raise ConfigError("--flip", found=found, expected=expected, fix="leave it out")
    return predictor


@torch.no_grad()
def find_focals(recipe: Any, predictor: Any, frames: Iterable[Frame]) -> list[float]:
    """Return the focal length, fx / width, that a recipe's network predicts for each frame; [] if it predicts none.

    predictor: predictor of the recipe, which prepares the frames.
    """
    network = getattr(recipe, "depth_network", None)
    if not isinstance(network, DepthNetwork) or type(network).predict_focal is DepthNetwork.predict_focal:
        return []
    device, focals = next(network.parameters()).device, []
    for frame in frames:
        focal = network.predict_focal(to_tensors(PreparedFrame.prepare(predictor, frame).image[None]).to(device))
        if focal is None:
            return []
        focals.append(float(focal[0]))
    return focals
