"""The recipe `selfsup`: depth and camera motion from unlabelled video (Monodepth2, arXiv 1806.01260).

A batch goes through the networks and the loss; the loss sees the sources through the predicted depth and motion and asks
that they look like the target. With a stereo source, whose transform is the rig's in metres, depth is in metres.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor

from stadia.core.types import Batch, Camera, Claim
from stadia.evaluation.colours import colour_categories, colour_heat, colour_inverse_depth, to_uint8
from stadia.evaluation.monitor import depth_scores
from stadia.losses.report import LossReport
from stadia.losses.selfsup import SelfSupervisedLoss
from stadia.models.depth_and_motion import DepthAndMotion
from stadia.models.encoders import check_encoder
from stadia.recipes.depth import DepthRecipe
from stadia.recipes.selfsup_config import SelfsupConfig
from stadia.recipes.video import VideoData, open_video

log = logging.getLogger(__name__)

FOCAL_TOLERANCE = 0.02


class Selfsup(DepthRecipe[SelfsupConfig]):
    """Networks, loss, and what is looked at while they train.

    Args:
        config: with `data.stereo` settled to true or false.
    """

    recipe = "selfsup"
    best_metrics = ("val/abs_rel", "val/residual")

    def __init__(self, config: SelfsupConfig) -> None:
        super().__init__(config)
        self.model = DepthAndMotion(config.model, motion=bool(config.data.offsets))
        self.loss = SelfSupervisedLoss(config.loss)

    @classmethod
    def prepare(cls, config: SelfsupConfig, console: Console) -> tuple[SelfsupConfig, VideoData]:
        """Open the data; the configuration comes back with every "auto" of it settled.

        An encoder that timm does not know, or that the pictures' size does not suit, is refused before anything is decoded.
        """
        for name in (config.model.encoder, *([config.model.pose_encoder] if config.data.offsets else [])):
            check_encoder(name, height=config.data.height, width=config.data.width)
        data = open_video(config.data, config.training, seed=config.seed, console=console)
        return config.model_copy(update={"data": data.config}), data

    def predictor(self) -> SelfsupPredictor:
        return SelfsupPredictor(self)

    @property
    def claim(self) -> Claim:
        """Metres where a rig's baseline trained it, else depth up to one unknown scale."""
        return Claim.METRES if self.config.data.stereo else Claim.UP_TO_SCALE

    @property
    def weights(self) -> Mapping[str, str]:
        return self.model.weights

    def step(self, batch: Batch) -> LossReport:
        prediction = self.model(batch)
        return self.loss(batch.targets, prediction, batch.source_names, self.global_step)

    def validate(self, batch: Batch) -> Mapping[str, Tensor | float]:
        """`residual` of the finest scale, and where there is ground truth `abs_rel`, `rmse` and `d1` (median-scaled unless in metres)."""
        prediction = self.model(batch)
        end = self.plan.total_steps if self.plan else 0  # the same candidates at every validation, so that its residuals compare
        report = self.loss(batch.targets, prediction, batch.source_names, end)
        scores: dict[str, Tensor | float] = {"residual": report.maps["residual"].mean(dim=(1, 2, 3))}
        if batch.targets.depth_m is not None:
            scores |= depth_scores(prediction.inverse_depth[0], batch.targets.depth_m, self.claim)
        return scores

    @torch.no_grad()
    def pictures(self, batch: Batch, report: LossReport) -> Mapping[str, NDArray[np.uint8]]:
        """The first sample: what went in, what came out, what the loss compared, and which candidate explained each pixel."""
        was_training = self.training
        inverse_depth = self.eval().model.depth(batch.inputs.image[:1])[0]
        self.train(was_training)
        names = (*batch.source_names, *(f"{name} unwarped" for name in batch.source_names))
        return {
            "input": to_uint8(batch.inputs.image[0]),
            "inverse depth": colour_inverse_depth(inverse_depth[0, 0]),
            "best warped source": to_uint8(report.maps["warped"][0]),
            "residual": colour_heat(report.maps["residual"][0, 0]),
            f"winner: {', '.join(names)}": colour_categories(report.maps["winner"][0, 0], len(names)),
        }


class SelfsupPredictor:
    """A trained `selfsup`, as evaluation uses it.

    A network learns how large things look through its training camera. Through a longer lens everything looks nearer by the
    ratio of the focal lengths, so inverse depth is brought back by it, and said so once. Turns look larger by it but advances
    do not, so the pose network is not asked through another lens. Runs on a GPU where there is one.
    """

    def __init__(self, task: Selfsup) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.task = task.eval().to(self.device)
        self.claim, self.height, self.width = task.claim, task.config.data.height, task.config.data.width
        self._lens_was_told = False

    @torch.inference_mode()
    def inverse_depth(self, image: Tensor, camera: Camera) -> Tensor:
        """(B, 3, H, W) to (B, 1, H, W), in 1/m or up to scale by `claim`."""
        image = image.to(self.device)
        inverse_depth: Tensor = self.task.model.depth(image)[0] / self._focal_ratio(camera, image)
        return inverse_depth

    @torch.inference_mode()
    def T_next_now(self, now: Tensor, camera: Camera, following: Tensor, next_camera: Camera) -> Tensor | None:
        """(B, 3, H, W) twice to (B, 4, 4), translation in the unit of depth; None where motion was not trained, or not for this lens."""
        if self.task.model.pose is None or any(bool((self._focal_ratio(each, now) != 1).any()) for each in (camera, next_camera)):
            return None
        T_next_now: Tensor = self.task.model.pose(now.to(self.device), following.to(self.device))
        return T_next_now

    def _focal_ratio(self, camera: Camera, image: Tensor) -> Tensor:
        """(..., 1, 1, 1): this camera's focal length over the training camera's, 1 within the tolerance; said once where it is another."""
        ratio = ((camera.fx / camera.width).to(self.task.focal) / self.task.focal).to(image)
        ratio = torch.where((ratio - 1).abs() < FOCAL_TOLERANCE, torch.ones_like(ratio), ratio)
        if not self._lens_was_told and bool((ratio != 1).any()):
            self._lens_was_told = True
            words = "focal length is %.2f times the training camera's: depth is scaled by it, and the pose network is not asked"
            log.warning(words, ratio.max().item())
        return ratio.reshape(-1, 1, 1, 1)
