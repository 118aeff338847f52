"""The recipe `selfsup`: depth and camera motion from unlabelled video (Monodepth2, arXiv 1806.01260).

A batch goes through the networks and the loss; the loss sees the sources through the predicted depth and motion and asks
that they look like the target. With a stereo source, whose transform is the rig's in metres, depth is in metres.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor

from stadia.core.errors import ConfigError
from stadia.core.types import Batch, Claim, PictureMaps, Prediction
from stadia.evaluation.colours import category_key, colour_categories, colour_heat, to_uint8
from stadia.evaluation.monitor import depth_scores, uncertainty_scores
from stadia.losses.brightness import BrightnessGate
from stadia.losses.report import LossReport
from stadia.losses.selfsup import SelfSupervisedLoss
from stadia.models.depth_and_motion import DepthAndMotion
from stadia.models.encoders import check_encoder
from stadia.recipes.depth import DepthRecipe
from stadia.recipes.selfsup_config import SelfsupConfig
from stadia.recipes.video import VideoData, open_video
from stadia.training.task import Report

SAME_RIG = 0.01
"""Of the baseline: rigs that differ by less teach one right view."""


class Selfsup(DepthRecipe[SelfsupConfig]):
    """Networks, loss, and what is looked at while they train.

    Args:
        config: with `data.stereo` settled to true or false.
    """

    T_right_left: Tensor  # (4, 4) of the pairs that trained the right view, NaN where that is not known; only where there is such a view
    recipe = "selfsup"
    best_metrics = ("val/abs_rel", "val/residual")

    def __init__(self, config: SelfsupConfig) -> None:
        super().__init__(config, height=config.data.height, width=config.data.width, crop=config.data.crop)
        self.model = DepthAndMotion(config.model, motion=bool(config.data.offsets), size=(config.data.height, config.data.width))
        self.loss = SelfSupervisedLoss(config.loss)
        # Only where there is something to hold: it has buffers, and checkpoints without brightness stay as they are.
        self.gate = BrightnessGate(config.loss.brightness_from_step) if config.model.brightness else None
        if config.model.right_view:
            self.register_buffer("T_right_left", torch.full((4, 4), torch.nan))

    @classmethod
    def prepare(cls, config: SelfsupConfig, console: Console) -> tuple[SelfsupConfig, VideoData]:
        """Open the data; the configuration comes back with every "auto" of it settled.

        An encoder that timm does not know, or that the pictures' size does not suit, is refused before anything is decoded; a right view
        that no recording has, once that is known.
        """
        for name in config.model.encoders(motion=bool(config.data.offsets)):
            check_encoder(name, height=config.data.height, width=config.data.width)
        data = open_video(config.data, config.training, seed=config.seed, console=console)
        if config.model.right_view and not data.config.stereo:
            raise ConfigError(
                "model.right_view", found="recordings of one camera", expected="a stereo pair, which teaches it", cure="leave it out"
            )
        return config.model_copy(update={"data": data.config}), data

    def check_size(self, height: int, width: int) -> None:
        """As large or small as the encoders allow: convolutions and their strides. A linear pose head is bound to the training's size."""
        if self.config.data.offsets and self.config.model.pose_head == "linear":
            super().check_size(height, width)
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

    def remember(self, data: VideoData) -> None:
        """The lens; and the rig that teaches the right view, where all pairs are of one."""
        super().remember(data)
        if not self.config.model.right_view:
            return
        rigs = np.stack([recording.T_right_left for recording in data.recordings["train"] if recording.T_right_left is not None])
        if np.ptp(rigs, axis=0).max() < SAME_RIG * np.linalg.norm(rigs[0, :3, 3]):
            self.T_right_left.copy_(torch.from_numpy(rigs[0]))

    def inverse_depth(self, image: Tensor) -> Tensor:
        return self.maps(image).inverse_depth

    def maps(self, image: Tensor) -> PictureMaps:
        left, right, log_uncertainty = self.model.depth(image)
        rig = None if right is None or self.T_right_left.isnan().any() else self.T_right_left
        return PictureMaps(left[0], right and right[0], log_uncertainty and log_uncertainty[0], rig)

    def T_next_now(self, now: Tensor, following: Tensor) -> Tensor | None:
        motion = self.model.motion(now, following)
        return None if motion is None else motion.T_later_earlier

    def step(self, batch: Batch) -> LossReport:
        prediction = self.model(batch)
        through = self.gate(prediction, self.global_step) if self.gate else prediction
        report = self.loss(batch.targets, through, batch.source_names, self.global_step)
        if self.gate and self.training:
            self.gate.watch(report.seen["warped_over_unwarped"])
        return replace(report, seen={**report.seen, **_said(prediction, batch.source_names)})

    def validate(self, batch: Batch) -> Mapping[str, Tensor | float]:
        """`residual` of the finest scale and `residual_unwarped`, what it would be without depth and motion; where there is ground truth
        `abs_rel`, `rmse` and `d1` (median-scaled unless in metres). Of pictures as they are: neither uncertainty nor brightness enters,
        which could lower a residual by themselves, so that trainings with and without them compare. What the uncertainty is worth stands
        beside them: of the residual that teaches it, so with the brightness, and of depth.
        """
        said = self.model(batch)
        prediction = replace(said, inverse_depth_right=None, log_uncertainty=None, brightness=None)
        end = self.plan.total_steps if self.plan else 0  # the same candidates at every validation, so that its residuals compare
        report = self.loss(batch.targets, prediction, batch.source_names, end)
        scores: dict[str, Tensor | float] = {
            "residual": report.maps["residual"].mean(dim=(1, 2, 3)),
            "residual_unwarped": report.maps["unwarped"].mean(dim=(1, 2, 3)),
        }
        log_uncertainty = said.log_uncertainty and said.log_uncertainty[0]
        if log_uncertainty is not None:
            if self.gate:
                taught = replace(prediction, brightness=self.gate(said, self.global_step).brightness)
                report = self.loss(batch.targets, taught, batch.source_names, end)
            scores |= uncertainty_scores(report.maps["residual"], log_uncertainty)
        if batch.targets.depth_m is not None:
            scores |= depth_scores(prediction.inverse_depth[0], batch.targets.depth_m, self.claim, log_uncertainty)
        return scores

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


def _said(prediction: Prediction, source_names: Sequence[str]) -> dict[str, Tensor]:
    """What the networks say beside depth and motion, as scalars to log: mean gain and offset of each source, quantiles of log Sigma."""
    seen: dict[str, Tensor] = {}
    if prediction.brightness is not None:
        for name, (gain, offset) in zip(source_names, prediction.brightness.detach().mean(dim=0), strict=True):
            seen |= {f"gain/{name}": gain, f"offset/{name}": offset}
    if prediction.log_uncertainty is not None:
        pixels = prediction.log_uncertainty[0].detach()[..., ::8, ::8].flatten().float()  # enough of them: all would be sorted at each step
        percents = (10, 50, 90)
        quantiles = pixels.quantile(pixels.new_tensor(percents) / 100)
        seen |= {f"log_uncertainty/p{percent}": value for percent, value in zip(percents, quantiles, strict=True)}
    return seen
