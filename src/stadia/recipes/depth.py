"""`DepthRecipe`: a recipe that predicts depth, which `stadia predict` and `stadia evaluate` can use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic

import torch
from rich.console import Console
from torch import Tensor

from stadia.core.types import Claim, InputsT, Predictor, TargetsT
from stadia.recipes.recipe import ConfigT, Recipe
from stadia.recipes.scoring import score_validation
from stadia.recipes.video import VideoData
from stadia.training.run import Run


class DepthRecipe(Recipe[ConfigT, VideoData, InputsT, TargetsT], Generic[ConfigT, InputsT, TargetsT]):
    """Learns from frames of recordings, with sources or without (`data.offsets=[]`), and gives depth of a picture.

    It is scored on its validation's depth and, where it has motion, paths.
    """

    focal: Tensor  # () fx / width of the cameras that trained; 0 before training

    def __init__(self, config: ConfigT) -> None:
        super().__init__(config)
        self.register_buffer("focal", torch.zeros(()))

    @property
    def claim(self) -> Claim:
        """What its depth can be trusted for: metres, or less. The report, the predictions and the protocols go by it."""
        raise NotImplementedError(f"{type(self).__name__} claims nothing")

    def predictor(self) -> Predictor:
        """What `stadia predict` and `stadia evaluate` use."""
        raise NotImplementedError(f"{type(self).__name__} predicts nothing")

    def remember(self, data: VideoData) -> None:
        """The median focal length over the training's recordings."""
        cameras = [recording.camera(0) for recording in data.recordings["train"]]
        self.focal.copy_(torch.stack([camera.fx / camera.width for camera in cameras]).median())

    @property
    def about(self) -> Mapping[str, object]:
        """Its claim: said by the report where nothing can be scored, too."""
        return {"claim": str(self.claim)}

    def score(self, data: VideoData, run: Run, console: Console) -> None:
        """Depth and paths of the validation's frames."""
        score_validation(self.predictor(), data, run, console)
