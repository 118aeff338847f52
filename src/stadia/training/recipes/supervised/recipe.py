"""The recipe `supervised`: depth of single images from sparse or dense ground truth.

Pretrained weights up to scale and shift are fitted once to the ground truth before the first step.
"""

import logging
import math
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor

from stadia.core.errors import ConfigError, GeometryError
from stadia.core.types import DepthScale
from stadia.differentiable.batch import Batch
from stadia.evaluation.plots.colormaps import color_heat, color_inverse_depth
from stadia.geometry.align import ScaleShift, ScaleShiftEstimator, fit_scale_median
from stadia.geometry.cameras import inverse_from_depth
from stadia.io.run_facts import RecipeFacts
from stadia.losses.config import SparseDepthConfig, load_loss
from stadia.losses.loss_balance import DataSetBalance
from stadia.losses.loss_report import LossReport, check_report, combine_losses, masked_mean
from stadia.losses.sparse_depth import SparseDepthLoss
from stadia.networks.depth.depth_network import (
    AffineDepthNetwork,
    build_depth_network,
    check_depth_network,
    check_trains,
)
from stadia.networks.depth.dpt_weights import LoadReport
from stadia.training.loss_checks.loss_case import LossCase, make_depth_case
from stadia.training.recipes.base.depth_recipe import DepthRecipe
from stadia.training.recipes.base.self_supervised import TeacherTerm, check_teacher
from stadia.training.recipes.base.validation_scores import compute_depth_scores
from stadia.training.recipes.base.video_data import VideoData, open_data_sets
from stadia.training.recipes.supervised.config import SupervisedConfig

log = logging.getLogger(__name__)

FITTED_IMAGES = 64
"""The fit of scale and shift uses this many evenly spaced training images."""

FAR_LIMIT_M = 200.0
"""Fitted weights must reach this depth, beyond any ground truth."""

LAST_WEIGHTS = 4
"""The gradient of these last parameters, which all datasets share, represents the whole network's."""

METRIC_PARTS = ("silog_per_image", "silog_pooled", "log_l1")
"""These parts of the loss depend on metres."""


class SupervisedRecipe(DepthRecipe[SupervisedConfig]):
    """Depth by any network, from sparse or dense ground truth."""

    recipe = "supervised"
    best_metrics = ("val/abs_rel",)
    supports_stages = True

    def __init__(self, config: SupervisedConfig) -> None:
        super().__init__(config)
        self.model = build_depth_network(config.model)
        self.loss = load_loss(config.loss.name, SparseDepthLoss)(config.loss)
        self.teacher = TeacherTerm(config.teacher) if config.teacher.is_used else None
        self.balance = DataSetBalance(tuple(config.data.sets), config.balance_every)
        self.fitted: ScaleShift | None = None  # fit to the training's ground truth, before the first step
        if self.model.predicts_depth_at_start:
            self.start_steps = math.inf

    @classmethod
    def prepare(cls, config: SupervisedConfig, console: Console) -> tuple[SupervisedConfig, VideoData]:
        """Open the data; return the configuration with every "auto" resolved, and the data.

        Raises ConfigError for a network that cannot be built, and for a loss that does not fit the depth of all data
        sets.
        """
        check_trains(config.model)
        load_loss(config.loss.name, SparseDepthLoss)
        check_depth_network(config.model, [(config.data.height, config.data.width)])
        if config.teacher.is_used:
            check_teacher(config.teacher, config.data.height, config.data.width, console)
        data = open_data_sets(config.data, config.training, seed=config.seed, console=console)
        check_common_loss(config.loss, data)
        return config.model_copy(update={"data": data.config}), data

    @property
    def depth_scale(self) -> DepthScale:
        return DepthScale.METRES if _find_metric_parts(self.config.loss) else DepthScale.AFFINE_INVERSE

    @property
    def run_metadata(self) -> RecipeFacts:
        facts, network = super().run_metadata, self.model
        own = {**facts.own, "backbone_lr_factor": self.backbone_lr_factor}
        if isinstance(network, AffineDepthNetwork):
            own["inverse_depth"] = {"scale": float(network.scale), "shift": float(network.shift)}
        if self.fitted is not None:
            own["fitted"] = asdict(self.fitted)
        if self.load_report is not None:
            own["load_report"] = self.load_report.summary()
        is_metric = self.depth_scale is DepthScale.METRES
        scale_from = "the ground truth that it was trained on" if is_metric else None
        return replace(facts, scale_from=scale_from, model=self.model_description, own=own)

    @property
    def load_report(self) -> LoadReport | None:
        """Return the load report of a file's weights, or None."""
        report: LoadReport | None = getattr(self.model, "load_report", None)
        return report

    @property
    def model_description(self) -> str:
        """Return a description for reports: network, attention and crop."""
        crop = f", crop {self.crop}" if self.crop != "none" else ""
        return f"{self.config.model.network.title}{crop}"

    def save_data_stats(self, data: VideoData) -> None:
        super().save_data_stats(data)
        if self.load_report is not None:
            log.warning("%s", self.load_report.table())
        network = self.model
        is_calibrated = getattr(network.config, "scale", None) is not None
        if (
            isinstance(network, AffineDepthNetwork)
            and network.predicts_depth_at_start
            and not is_calibrated
            and network.output is not DepthScale.METRES
            and self.depth_scale is DepthScale.METRES
        ):
            self._fit(network, data)

    @torch.no_grad()
    def _fit(self, network: AffineDepthNetwork, data: VideoData) -> None:
        fit, ratios = ScaleShiftEstimator(), []
        far = 1 / FAR_LIMIT_M if network.output.is_affine else 0.0  # ratios of depth are known without a shift
        for output, batch in self.predict_raw(network, data, FITTED_IMAGES):
            raw, true = output.flatten(1), inverse_from_depth(_read_labels(batch)).flatten(1)
            fit.add(raw, true, true > 0)
            ratios.append(float(fit_scale_median(raw, true - far, true > 0)))
        if not network.output.is_affine:
            network.calibrate(float(np.nanmedian(ratios)), 0.0)
            log.warning(
                "the network output times %.4g is inverse depth in 1/m: then median depths equal the true ones",
                network.scale,
            )
            return
        try:
            self.fitted = fitted = fit.result()
        except GeometryError:
            if self.load_report is None or not self.load_report.drawn:
                raise
            # Random weights have outputs of either sign, so only the median is scaled to the ground truth's.
            network.calibrate(float(np.nanmedian(ratios)), 1 / FAR_LIMIT_M)
            log.warning("some weights are random: outputs are only scaled to the median of the ground truth")
            return
        # A smaller shift puts an output of 0 beyond any ground truth or infinity, without a gradient.
        far_enough = fitted.shift >= 1 / FAR_LIMIT_M
        scaled = (float(np.nanmedian(ratios)), 1 / FAR_LIMIT_M)
        network.calibrate(*((fitted.scale, fitted.shift) if far_enough else scaled))
        log.warning(
            "inverse depth in 1/m is %.4g times the network output plus %.4g, fitted to %d images "
            "(standard deviations %.2g and %.2g; left out: %d without labels, %d with a negative factor)%s",
            network.scale,
            network.shift,
            fitted.images,
            fitted.scale_spread,
            fitted.shift_spread,
            fitted.unlabeled,
            fitted.falling,
            "" if far_enough else f"; {fitted.shift:.2g} fitted best, but has 0 beyond {FAR_LIMIT_M:g} m",
        )

    def loss_cases(self, batch: Batch) -> Mapping[str, LossCase]:
        unit = self.config.loss.max_depth_m / 20 if self.config.loss.max_depth_m < 20 else 1.0
        return {"loss": make_depth_case(self.loss, forgives_scale=self.depth_scale is not DepthScale.METRES, unit=unit)}

    def training_step(self, batch: Batch) -> LossReport:
        inverse_depth = self.model(batch.inputs.image, batch.inputs.camera).inverse_depth[0]
        true_m = _read_labels(batch)
        report = check_report(self.loss(inverse_depth, true_m), "loss.name", maps=("log_error",))
        if self.config.balance == "min_norm" and self.training:
            report = self._balance_data_sets(report, batch)
        if self.teacher is not None:
            report = self.teacher.add(
                report,
                inverse_depth,
                batch,
                student_scale=self.depth_scale,
                step=self.global_step,
                last_step=self.last_step,
            )
        at_floor = (inverse_depth.detach() <= self.model.min_inverse_depth.to(inverse_depth.device)).float()
        return replace(report, logged={**report.logged, "at_floor": masked_mean(at_floor, self.loss.known(true_m))})

    def _balance_data_sets(self, report: LossReport, batch: Batch) -> LossReport:
        name = batch.meta[0].data or self.config.data.name
        if self.balance.is_due(name):
            last = [weight for weight in self.model.parameters() if weight.requires_grad][-LAST_WEIGHTS:]
            gradients = torch.autograd.grad(report.total, last, retain_graph=True, allow_unused=True)
            parts = [
                torch.zeros_like(weight) if gradient is None else gradient
                for weight, gradient in zip(last, gradients, strict=True)
            ]
            self.balance.update(name, torch.cat([part.flatten() for part in parts]))
        weighted = combine_losses({"depth": (self.balance.factors[name], report)})
        terms = {term.removeprefix("depth/"): value for term, value in weighted.terms.items()}
        least = {term.removeprefix("depth/"): value for term, value in weighted.least.items()}
        logged = {**report.logged, f"balance/{name}": torch.tensor(self.balance.factors[name])}
        return replace(report, total=weighted.total, terms=terms, least=least, logged=logged)

    def training_state(self) -> dict[str, Any]:
        return {"balance": self.balance.state_dict()} if self.config.balance == "min_norm" else {}

    def load_training_state(self, state: Mapping[str, Any]) -> None:
        if "balance" in state:
            self.balance.load_state_dict(state["balance"])

    def validation_step(self, batch: Batch) -> Mapping[str, Tensor | float]:
        if batch.targets.depth_m is None:
            return {}
        inverse_depth = self.model(batch.inputs.image, batch.inputs.camera).inverse_depth[0]
        return compute_depth_scores(inverse_depth, batch.targets.depth_m, self.depth_scale)

    def images(self, batch: Batch, report: LossReport) -> Mapping[str, NDArray[np.uint8]]:
        return {
            **super().images(batch, report),
            "ground truth": color_inverse_depth(inverse_from_depth(_read_labels(batch)[0, 0])),
            "|ln z - ln truth|": color_heat(report.maps["log_error"][0, 0]),
        }


def _find_metric_parts(loss: SparseDepthConfig) -> list[str]:
    return [part for part in METRIC_PARTS if getattr(loss, part) > 0]


def check_common_loss(loss: SparseDepthConfig, data: VideoData) -> None:
    """Raise ConfigError if the loss needs metres and the depth of a recording is not in metres."""
    recordings = [
        recording
        for data_set in data.data_sets.values()
        for split in data_set.recordings.values()
        for recording in split
        if not recording.has_metric_depth
    ]
    parts = _find_metric_parts(loss)
    if not recordings or not parts:
        return
    used = " and ".join(f"loss.{part}={getattr(loss, part):g}" for part in parts)
    raise ConfigError(
        "loss",
        found=f"{used}, which need metres, and depth without a unit in {len(recordings)} recordings, such as"
        f" '{recordings[0].name}'",
        expected="a loss that fits the depth of all datasets",
        fix=" ".join(f"loss.{part}=0" for part in parts) + " loss.affine_invariant=1 loss.gradient_matching=0.5",
    )


def _read_labels(batch: Batch) -> Tensor:
    if batch.targets.depth_m is None:
        return torch.zeros_like(batch.inputs.image[:, :1])
    return batch.targets.depth_m
