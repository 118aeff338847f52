"""The recipe `selfsup`: depth and camera motion from unlabelled video (Monodepth2, arXiv 1806.01260).

A batch goes through the networks and the loss; the loss sees the sources through the predicted depth and motion and asks
that they look like the target. With a stereo source, whose transform is the rig's in metres, depth is in metres.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor

from stadia.core.types import Batch, Claim
from stadia.evaluation.colours import category_key, colour_categories, colour_heat, to_uint8
from stadia.evaluation.monitor import depth_scores
from stadia.losses.photometric import photometric_residual, residual_to_beat
from stadia.losses.report import LossReport
from stadia.losses.selfsup import SelfSupervisedLoss
from stadia.models.depth_and_motion import DepthAndMotion
from stadia.models.encoders import check_encoder
from stadia.recipes.depth import DepthRecipe
from stadia.recipes.selfsup_config import SelfsupConfig
from stadia.recipes.video import VideoData, open_video
from stadia.training.task import Report


class Selfsup(DepthRecipe[SelfsupConfig]):
    """Networks, loss, and what is looked at while they train.

    Args:
        config: with `data.stereo` settled to true or false.
    """

    recipe = "selfsup"
    best_metrics = ("val/abs_rel", "val/residual")

    def __init__(self, config: SelfsupConfig) -> None:
        super().__init__(config, height=config.data.height, width=config.data.width, crop=config.data.crop)
        self.model = DepthAndMotion(config.model, motion=bool(config.data.offsets), size=(config.data.height, config.data.width))
        self.loss = SelfSupervisedLoss(config.loss)

    @classmethod
    def prepare(cls, config: SelfsupConfig, console: Console) -> tuple[SelfsupConfig, VideoData]:
        """Open the data; the configuration comes back with every "auto" of it settled.

        An encoder that timm does not know, or that the pictures' size does not suit, is refused before anything is decoded.
        """
        for name in config.model.encoders(motion=bool(config.data.offsets)):
            check_encoder(name, height=config.data.height, width=config.data.width)
        data = open_video(config.data, config.training, seed=config.seed, console=console)
        return config.model_copy(update={"data": data.config}), data

    def check_size(self, height: int, width: int) -> None:
        """As large or small as the encoders allow: convolutions and their strides."""
        for name in self.config.model.encoders(motion=bool(self.config.data.offsets)):
            check_encoder(name, height=height, width=width)

    @property
    def claim(self) -> Claim:
        """Metres where a rig's baseline trained it, else depth up to one unknown scale."""
        return Claim.METRES if self.config.data.stereo else Claim.UP_TO_SCALE

    @property
    def about(self) -> Mapping[str, object]:
        metres = {"scale_from": "the baseline of the stereo pair"} if self.claim is Claim.METRES else {}
        return {**super().about, **metres}

    @property
    def weights(self) -> Mapping[str, str]:
        return self.model.weights

    def inverse_depth(self, image: Tensor) -> Tensor:
        finest: Tensor = self.model.depth(image).inverse_depth[0]
        return finest

    def T_next_now(self, now: Tensor, following: Tensor) -> Tensor | None:
        motion = self.model.motion(now, following)
        return None if motion is None else motion.T_later_earlier

    def step(self, batch: Batch) -> LossReport:
        prediction = self.model(batch)
        return self.loss(batch.targets, prediction, batch.source_names, self.global_step)

    def validate(self, batch: Batch) -> Mapping[str, Tensor | float]:
        """`residual` of the finest scale and `residual_unwarped`, what it would be without depth and motion; where there is ground truth
        `abs_rel`, `rmse` and `d1` (median-scaled unless in metres).
        """
        prediction = self.model(batch)
        end = self.plan.total_steps if self.plan else 0  # the same candidates at every validation, so that its residuals compare
        report = self.loss(batch.targets, prediction, batch.source_names, end)
        scores: dict[str, Tensor | float] = {
            "residual": report.maps["residual"].mean(dim=(1, 2, 3)),
            "residual_unwarped": self._residual_unwarped(batch, end),
        }
        if batch.targets.depth_m is not None:
            scores |= depth_scores(prediction.inverse_depth[0], batch.targets.depth_m, self.claim)
        return scores

    def _residual_unwarped(self, batch: Batch, step: int) -> Tensor:
        """(B,) the mean residual to beat of the sources that teach depth."""
        teachers, _ = self.loss.teachers(batch.source_names, step)
        target, sources = batch.targets.image, batch.targets.sources
        residuals = [photometric_residual(sources[:, i], target, self.config.loss.ssim_weight) for i in teachers]
        to_beat = residual_to_beat(torch.cat(residuals, dim=1), [batch.source_names[i] for i in teachers])
        return to_beat.amax(dim=1).mean(dim=(1, 2))

    def pictures(self, batch: Batch, report: Report) -> Mapping[str, NDArray[np.uint8]]:
        """The first sample: what went in, what came out, what the loss compared, and which candidate explained each pixel."""
        names = (*batch.source_names, *(f"{name} unwarped" for name in batch.source_names))
        return {
            **super().pictures(batch, report),
            "best warped source": to_uint8(report.maps["warped"][0]),
            "residual": colour_heat(report.maps["residual"][0, 0]),
            "winner": colour_categories(report.maps["winner"][0, 0], len(names)),
            "winner's colours": category_key(names, self.height, self.width),
        }
