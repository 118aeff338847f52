"""The recipe `supervised`: depth from sparse or dense ground truth.

Single images: no neighbors in time, no motion. Pretrained weights that predict depth up to scale and shift are fitted
once to the training's ground truth, before the first step; from then on the network predicts 1/m.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import asdict, replace

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor

from stadia.core.errors import GeometryError
from stadia.core.types import Batch, DepthScale
from stadia.diagnostics.loss_checks.loss_case import LossCase, make_depth_case
from stadia.evaluation.plots.colormaps import color_heat, color_inverse_depth
from stadia.evaluation.validation_metrics import compute_depth_scores
from stadia.geometry.align import ScaleShift, ScaleShiftEstimator, fit_scale_median
from stadia.geometry.depth_maps import inverse_from_depth
from stadia.losses.loss_report import LossReport, masked_mean
from stadia.losses.sparse_depth import SparseDepthLoss
from stadia.models.dpt_architectures import check_stride_multiples, check_transformers_installed
from stadia.models.dpt_net import DptNet, find_weights_file
from stadia.recipes.base.depth_recipe import DepthRecipe
from stadia.recipes.base.video_data import VideoData, open_video
from stadia.recipes.supervised.config import SupervisedConfig
from stadia.training import optim
from stadia.training.batches import select_device

log = logging.getLogger(__name__)

FITTED_IMAGES = 64
"""Number of training images for the fit of scale and shift, evenly spaced."""

FAR_LIMIT_M = 200.0
"""Fitted weights must reach at least this depth: beyond any ground truth (LiDAR range 120 m)."""

BACKBONE_LR_FACTOR = 0.1
"""Default for a pretrained backbone: 1e-5 beside the decoder's 1e-4 (DPT, section 4)."""

METRIC_PARTS = ("silog_per_image", "silog_pooled", "log_l1")
"""Parts of the loss that depend on metres; the others are invariant to scale and shift."""


class SupervisedRecipe(DepthRecipe[SupervisedConfig]):
    """Depth by a transformer, from sparse ground truth.

    Args:
        config: with every "auto" resolved.
    """

    recipe = "supervised"
    best_metrics = ("val/abs_rel",)
    supports_stages = True

    def __init__(self, config: SupervisedConfig) -> None:
        super().__init__(config)
        self.network = DptNet(config.model)
        self.loss = SparseDepthLoss(config.loss)
        self.fitted: ScaleShift | None = None  # to the training's ground truth, before the first step
        if self.network.weights["network"].startswith("pretrained"):
            self.start_steps = math.inf  # published weights that predict depth

    @classmethod
    def prepare(cls, config: SupervisedConfig, console: Console) -> tuple[SupervisedConfig, VideoData]:
        """Open the data; return the configuration with every "auto" resolved, and the data.

        Raises ConfigError without transformers, before images are decoded, and DataError.
        """
        check_transformers_installed()
        data = open_video(config.data, config.training, seed=config.seed, console=console)
        return config.model_copy(update={"data": data.config}), data

    @classmethod
    def check_init_weights(cls, config: SupervisedConfig) -> None:
        find_weights_file(config.model)

    def check_size(self, height: int, width: int) -> None:
        """Allow any multiple of the network stride: position embeddings are resized to its grid."""
        check_stride_multiples(self.config.model.network, self.network.stride, height=height, width=width)

    @property
    def depth_scale(self) -> DepthScale:
        """Return metres, unless every part of the loss is invariant to scale and shift."""
        metric = any(getattr(self.config.loss, part) > 0 for part in METRIC_PARTS)
        return DepthScale.METRES if metric else DepthScale.AFFINE_INVERSE

    @property
    def stride(self) -> int:
        return self.network.stride

    @property
    def weights(self) -> Mapping[str, str]:
        return self.network.weights

    @property
    def run_metadata(self) -> Mapping[str, object]:
        network = self.network
        is_metric = self.depth_scale is DepthScale.METRES
        return {
            **super().run_metadata,
            **({"scale_from": "the ground truth that it was trained on"} if is_metric else {}),
            "model": self.model_description,
            "inverse_depth": {"scale": float(network.scale), "shift": float(network.shift)},
            "backbone_lr_factor": self.backbone_lr_factor,
            **({} if self.fitted is None else {"fitted": asdict(self.fitted)}),
            **({} if network.load_report is None else {"load_report": network.load_report.summary()}),
        }

    @property
    def model_description(self) -> str:
        """Return a description for reports: network, attention and crop."""
        crop = f", crop {self.crop}" if self.crop != "none" else ""
        return f"{self.config.model.network}, attention {self.config.model.attention.name}{crop}"

    @property
    def backbone_lr_factor(self) -> float:
        """Return the backbone's learning rate over the decoder's."""
        if self.config.backbone_lr_factor is not None:
            return self.config.backbone_lr_factor
        starts_from_weights = bool(self.started_from) or self.network.weights["network"] != "random"
        return BACKBONE_LR_FACTOR if starts_from_weights else 1.0

    def parameter_groups(self) -> optim.Groups:
        """Return groups: decoder and head at `optimizer.lr`, the backbone at a share of it.

        Biases and normalization layers have no weight decay.
        """
        lr, decay = self.config.optimizer.lr, self.config.optimizer.weight_decay
        head = optim.group_parameters(self.network.head_parameters(), decay)
        backbone = optim.group_parameters(self.network.backbone_parameters(), decay)
        return [*head, *({**group, "lr": lr * self.backbone_lr_factor} for group in backbone)]

    def save_data_stats(self, data: VideoData) -> None:
        """Keep the focal length; fit scale and shift of pretrained weights to the ground truth."""
        super().save_data_stats(data)
        self._log_weights()
        if (
            self.network.weights["network"] != "random"
            and self.config.model.scale is None
            and self.depth_scale is DepthScale.METRES
        ):
            self._fit(data)

    def _log_weights(self) -> None:
        """Log how the weights were loaded, and the cost of approximate attention at this size."""
        network, attention = self.network, self.config.model.attention
        if network.load_report is not None:
            log.warning("%s", network.load_report.table())
        if attention.name not in ("sdpa", "explicit"):
            log.warning("%s", network.attention_cost(self.height, self.width))

    @torch.no_grad()
    def _fit(self, data: VideoData) -> None:
        """Fit scale and shift on images spread evenly over the training set, the same in every process."""
        samples, network, was_training = data.train.samples, self.network.eval().to(select_device()), self.training
        fit, ratios = ScaleShiftEstimator(), []
        for index in np.unique(np.linspace(0, len(samples) - 1, FITTED_IMAGES).astype(int)):
            batch = samples.unpack(samples.stack([samples.packed((0, int(index)))]), network.scale.device)
            true = inverse_from_depth(_read_labels(batch)).flatten(1)
            raw = network.raw(batch.inputs.image).flatten(1)
            fit.add(raw, true, true > 0)
            ratios.append(float(fit_scale_median(raw, true - 1 / FAR_LIMIT_M, true > 0)))
        network.cpu().train(was_training)
        try:
            self.fitted = found = fit.result()
        except GeometryError:
            if network.load_report is None or not network.load_report.drawn:
                raise
            # Random weights have outputs of either sign, so only the median is scaled to the ground truth's.
            network.calibrate(float(np.nanmedian(ratios)), 1 / FAR_LIMIT_M)
            log.warning(
                "some weights are random: outputs are scaled to the median of the ground truth instead of fitted"
            )
            return
        # A smaller shift puts an output of 0 beyond any ground truth or infinity, without a gradient.
        far_enough = found.shift >= 1 / FAR_LIMIT_M
        scaled = (float(np.nanmedian(ratios)), 1 / FAR_LIMIT_M)
        network.calibrate(*((found.scale, found.shift) if far_enough else scaled))
        log.warning(
            "inverse depth in 1/m is %.4g times the network output plus %.4g, fitted to %d images "
            "(spread %.2g and %.2g; left out: %d without labels, %d that fall where it grows)%s",
            network.scale,
            network.shift,
            found.images,
            found.scale_spread,
            found.shift_spread,
            found.unlabeled,
            found.falling,
            "" if far_enough else f"; {found.shift:.2g} fitted best, but has 0 beyond {FAR_LIMIT_M:g} m",
        )

    def inverse_depth(self, image: Tensor) -> Tensor:
        return self.network(image)

    def loss_cases(self, batch: Batch) -> Mapping[str, LossCase]:
        """Return the loss case of a synthetic plane, within the depth range of the loss."""
        unit = self.config.loss.max_depth_m / 20 if self.config.loss.max_depth_m < 20 else 1.0
        return {"loss": make_depth_case(self.loss, forgives_scale=self.depth_scale is not DepthScale.METRES, unit=unit)}

    def training_step(self, batch: Batch) -> LossReport:
        inverse_depth, true_m = self.network(batch.inputs.image), _read_labels(batch)
        report = self.loss(inverse_depth, true_m)
        at_floor = (inverse_depth.detach() <= self.network.floor).float()
        return replace(report, logged={"at_floor": masked_mean(at_floor, self.loss.known(true_m))})

    def validation_step(self, batch: Batch) -> Mapping[str, Tensor | float]:
        """Return `abs_rel`, `rmse` and `d1` in metres, or after the alignment that the depth scale requires.

        NaN for an image without ground truth.
        """
        if batch.targets.depth_m is None:
            return {}
        return compute_depth_scores(self.network(batch.inputs.image), batch.targets.depth_m, self.depth_scale)

    def images(self, batch: Batch, report: LossReport) -> Mapping[str, NDArray[np.uint8]]:
        """Draw the first sample: input, prediction, ground truth and log error."""
        return {
            **super().images(batch, report),
            "ground truth": color_inverse_depth(inverse_from_depth(_read_labels(batch)[0, 0])),
            "|ln z - ln truth|": color_heat(report.maps["log_error"][0, 0]),
        }


def _read_labels(batch: Batch) -> Tensor:
    """Return (B, 1, H, W) ground truth in metres, 0 = none: of a batch, too, in which no frame has any."""
    if batch.targets.depth_m is None:
        return torch.zeros_like(batch.inputs.image[:, :1])
    return batch.targets.depth_m
