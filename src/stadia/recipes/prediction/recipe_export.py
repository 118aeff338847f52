"""Describe the depth network of a trained recipe for an exported file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from stadia.core.errors import CheckpointError
from stadia.evaluation.exported_network import ExportDescription, TrainingCamera
from stadia.evaluation.io.predictions_record import Provenance
from stadia.models.depth_pose_net import DepthPoseNet
from stadia.recipes.base.depth_recipe import DepthRecipe
from stadia.recipes.prediction.training_camera import find_training_camera


class InverseDepthNetwork(nn.Module):
    """The inverse depth of a recipe as a network."""

    def __init__(self, recipe: DepthRecipe[Any, Any, Any, Any]) -> None:
        super().__init__()
        self.recipe = recipe

    def forward(self, image: Tensor) -> Tensor:
        """Predict (B, 3, H, W) to (B, 1, H, W), at the focal length of the training."""
        return self.recipe.inverse_depth(image)


class MotionNetwork(nn.Module):
    """The pose network of a recipe up to the output of its motion head."""

    def __init__(self, net: DepthPoseNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, pair: Tensor) -> Tensor:
        """Predict of (B, 6, H, W), two images in temporal order, (B, 6) for `PoseNet.transform`."""
        earlier, later = pair.chunk(2, dim=1)
        return self.net.motion_values(earlier, later)


def describe_export(checkpoint: Path, recipe: object) -> tuple[ExportDescription, InverseDepthNetwork]:
    """Return the description of an exported file, and the network that it holds.

    Raises CheckpointError for a recipe that predicts no depth, or was never trained.
    """
    made_by = Provenance.from_checkpoint(checkpoint)
    if not isinstance(recipe, DepthRecipe):
        found, fix = f"a checkpoint of '{made_by.recipe}', which predicts no depth", "pass another checkpoint"
        raise CheckpointError(checkpoint, found=found, expected="a recipe that does", fix=fix)
    focal = float(recipe.focal.flatten()[0])  # of several data sets the first's, whose size it has
    if not focal > 0:
        found, expected = "a network that was never trained", "the lens of its training"
        raise CheckpointError(checkpoint, found=found, expected=expected, fix="train it first")
    size = {"height": recipe.height, "width": recipe.width, "crop": recipe.crop, "stride": recipe.stride}
    known = find_training_camera(checkpoint)
    camera = None if known is None else TrainingCamera.model_validate(known.model_dump(include={"K", "size"}))
    about = ExportDescription.from_provenance(made_by, recipe.depth_scale, focal=focal, camera=camera, **size)
    return about, InverseDepthNetwork(recipe).eval()
