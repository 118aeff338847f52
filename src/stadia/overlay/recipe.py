"""The recipe `overlay`: depth and mask of a composite image."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from statistics import fmean
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from stadia.core.types import DepthScale
from stadia.differentiable.batch import Meta
from stadia.evaluation.plots.colormaps import color_inverse_depth, to_uint8
from stadia.geometry.cameras import inverse_from_depth
from stadia.io.run_facts import RecipeFacts
from stadia.judge.catalog import make_finding
from stadia.judge.finding import Severity
from stadia.losses.config import load_loss
from stadia.losses.loss_report import LossReport
from stadia.overlay.composites import OverlayInputs, OverlayTargets
from stadia.overlay.config import OverlayConfig, check_overlay_size
from stadia.overlay.losses import OverlayLoss
from stadia.overlay.metrics import compute_image_sums, compute_overlay_scores, weaker_scale
from stadia.overlay.network import OverlayMaps, OverlayNet
from stadia.overlay.overlay_data import OverlayBatch, OverlayData, fit_label_range, open_overlay_data
from stadia.training.loop.batches import gather_from_processes
from stadia.training.loop.recipe import Recipe
from stadia.training.loss_checks.loss_case import (
    CONFIDENT,
    DEPTH_FACTORS,
    ErrorAxis,
    LossCase,
    Outputs,
    add_label_forms,
)

LOG_DEPTH_NOISE = 0.6
"""Standard deviation of the noise of ln z for which SSIM must be near its limit; half of it must cost most of that."""

OverlayLossFunction = Callable[[Tensor, Tensor, Tensor, Tensor], Any]


def make_overlay_case(loss: OverlayLossFunction, terms: Mapping[str, float], unit: float = 1.0) -> LossCase:
    """Return the test case of a loss of maps (B, 1, H, W): ln z, mask logits, true z (0 means unknown), and true mask.

    terms: weights by name. Only terms with a weight are tested.
    unit: unit of the labels; the depths are 3 to 16 units.
    """
    has_depth = any(name.startswith("depth") and weight > 0 for name, weight in terms.items())
    has_mask = any(name.startswith("mask") and weight > 0 for name, weight in terms.items())

    def build(true: Tensor) -> LossCase:
        filled = torch.where(true > 0, true, 8.0 * unit)
        height, width = true.shape[-2:]
        pasted = torch.zeros(true.shape, dtype=torch.bool)
        pasted[..., height // 4 : height // 2, width // 3 : width // 2] = True
        log_depth, logits = filled.log(), torch.where(pasted, CONFIDENT, -CONFIDENT).double()
        right = {"log_depth": log_depth, "mask_logits": logits}
        off = {"log_depth": log_depth + 0.1 + 0.05 * (20 * filled / unit).sin(), "mask_logits": logits / 8 + 0.2}
        axes = []
        if has_depth:
            wrong = {x: {**right, "log_depth": log_depth + torch.tensor(x).log()} for x in DEPTH_FACTORS}
            axes.append(ErrorAxis("depth, times the true one", "L01", 1.0, wrong))
        if has_mask:
            scaled = {x: {**right, "mask_logits": logits * x} for x in (-1.0, -0.2, 0.0, 0.2, 1.0)}
            axes.append(ErrorAxis("logits of the mask, times the right ones", "L17", 1.0, scaled))

        def evaluate(values: Outputs) -> Any:
            return loss(values["log_depth"], values["mask_logits"], true, pasted)

        unlabeled = {"log_depth": true == 0}
        return LossCase(evaluate, right, off, tuple(axes), {"labels": true}, unlabeled=unlabeled)

    case = add_label_forms(build, unit)
    if not has_depth:
        return case

    def add_noise(share: float) -> LossCase:
        dense = build(case.right["log_depth"].exp())  # windows of SSIM need labels at every pixel
        normal = torch.randn(dense.right["log_depth"].shape, generator=torch.Generator().manual_seed(0))
        noisy = dense.right["log_depth"] + share * LOG_DEPTH_NOISE * normal.double()
        return replace(dense, right={**dense.right, "log_depth": noisy})

    noise = {"noise": lambda: add_noise(1.0), "half of it noise": lambda: add_noise(0.5)}
    return replace(case, forms={**case.forms, **noise})


MAX_LR_FACTOR = 2.0  # largest mean loss weight (or its inverse) before SGD's effective learning rate is reported


class OverlayRecipe(Recipe[OverlayConfig, OverlayData, OverlayInputs, OverlayTargets]):
    """Depth and mask of a composite image: what was pasted into it, and how far away the scene is."""

    recipe = "overlay"
    best_metrics = ("val/depth_and_mask_error",)
    supports_stages = True

    def __init__(self, config: OverlayConfig) -> None:
        super().__init__(config)
        self.network = OverlayNet(config.model)
        self.loss = load_loss(config.loss.name, OverlayLoss)(config.loss)
        self.balance = GradientBalance(config.loss.balance_every)
        self.scored_as = self.depth_scale
        self._sums: dict[Meta, dict[str, float]] = {}  # sums of the current validation

    @classmethod
    def prepare(cls, config: OverlayConfig, console: Console) -> tuple[OverlayConfig, OverlayData]:
        """Open the data, by default RoadWorld and TableWorld. Raises DataError or ConfigError."""
        check_overlay_size(config.data.height, config.data.width)
        config = fit_label_range(config, console)
        data = open_overlay_data(config, console)
        label = data.overlays.label
        return config.model_copy(update={"depth_source": label.source, "depth_scale": label.depth_scale}), data

    @property
    def depth_scale(self) -> DepthScale:
        """Return the scale of the predicted depth, which equals the scale of its labels."""
        return self.config.depth_scale or DepthScale.METRES

    @property
    def run_metadata(self) -> RecipeFacts:
        """Return the depth scale, the origin of the labels, and the effective learning rate of SGD."""
        source = self.config.depth_source or "exact"
        factor = {"effective_lr": self._effective_lr(self.loss.weights)} if self._plain else {}
        return RecipeFacts(
            depth_scale=str(self.depth_scale),
            scale_from=f"the depth that it was taught ({source})",
            own={"depth_source": source, **factor},
        )

    @property
    def _plain(self) -> bool:
        return self.config.optimizer.name == "sgd"

    def _effective_lr(self, entering: Mapping[str, float]) -> float:
        return self.config.optimizer.lr * sum(entering.values())

    def save_data_stats(self, data: OverlayData) -> None:
        """Store the scale at which the labels can be scored, and check the effective learning rate of SGD."""
        self.scored_as = weaker_scale(self.depth_scale, data.overlays.label.depth_scale)
        total, lr = sum(self.loss.weights.values()), self.config.optimizer.lr
        if self._plain and not 1 / MAX_LR_FACTOR <= total / len(self.loss.weights) <= MAX_LR_FACTOR:
            effective = self._effective_lr(self.loss.weights)
            measured = f"loss weights of {total:g} in total turn optimizer.lr={lr:g} into {effective:g}"
            evidence = {"weights": total, "effective_lr": effective}
            expected = f"mean weight 1, within {MAX_LR_FACTOR:g} times"
            self.found.append(make_finding("C13", Severity.WARN, measured, expected, evidence=evidence))

    def maps(self, inputs: OverlayInputs) -> OverlayMaps:
        """Return the predicted maps of B images and their backgrounds."""
        predicted: OverlayMaps = self.network(torch.cat((inputs.background, inputs.image), dim=1))
        return predicted

    def loss_cases(self, batch: OverlayBatch) -> Mapping[str, LossCase]:
        """Return the loss case of a synthetic plane within the depth range of the loss."""
        nearest, farthest = self.config.loss.min_depth, self.config.loss.max_depth
        unit = 1.0 if nearest < 3 and farthest > 20 else (nearest + farthest) / 20
        return {"loss": make_overlay_case(self.loss, self.loss.weights, unit)}

    def training_step(self, batch: OverlayBatch) -> LossReport:
        predicted, targets, weights = self.maps(batch.inputs), batch.targets, self.loss.weights
        assert targets.depth_m is not None, "composed images have depth"
        terms = self.loss.terms(predicted.log_depth, predicted.mask_logits, targets.depth_m, targets.mask)
        if self.training and predicted.shared.requires_grad:
            self.balance.measure(self.global_step, terms, predicted.shared)
        factors = self.balance.factors() if self.config.loss.balance else {}
        report = self.loss.report(terms, factors)
        entering = {name: weight * factors.get(name, 1.0) for name, weight in weights.items()}
        logged = {f"weight/{name}": weight for name, weight in entering.items()}
        logged |= {f"balance/{name}": factor for name, factor in factors.items()}
        if self._plain:
            logged["effective_lr"] = self._effective_lr(entering)
        logged |= {f"gradient_share/{name}": share for name, share in self.balance.shares(entering).items()}
        if self.config.loss.monitor and (self.global_step + 1) % self.config.training.log_every == 0:
            maps = predicted.log_depth, predicted.mask_logits, targets.depth_m, targets.mask
            logged |= {name: float(value) for name, value in self.loss.monitor(*maps).items()}
        return replace(report, logged={name: report.total.new_tensor(value) for name, value in logged.items()})

    def training_state(self) -> dict[str, Any]:
        return {"gradient_balance": self.balance.state_dict()}

    def load_training_state(self, state: Mapping[str, Any]) -> None:
        self.balance.load_state_dict(state["gradient_balance"])

    def on_validation_start(self) -> None:
        self._sums = {}

    def validation_step(self, batch: OverlayBatch) -> Mapping[str, Tensor | float]:
        """Collect the sums of each image. `validation_summary` computes scores over all pixels from them.

        The returned mapping is empty, because scores of a single batch have no meaning.
        """
        predicted, loss, targets = self.maps(batch.inputs), self.config.loss, batch.targets
        assert targets.depth_m is not None
        depth, scored = predicted.log_depth.exp(), (loss.min_depth, loss.max_depth)
        sums = compute_image_sums(depth, predicted.mask_logits, targets.depth_m, targets.mask, self.scored_as, scored)
        self._sums |= dict(zip(batch.meta, sums, strict=True))
        return {}

    def validation_summary(self) -> Mapping[str, float]:
        """Return depth errors and mask scores over all pixels. Each image counts only once."""
        images: dict[Meta, dict[str, float]] = {}
        for part in gather_from_processes(self._sums):
            images |= part
        return compute_overlay_scores(images.values())

    @torch.no_grad()
    def images(self, batch: OverlayBatch, report: LossReport) -> Mapping[str, NDArray[np.uint8]]:
        """Return drawings (H, W, 3) of the first sample: background, image, predicted and true mask and depth."""
        was_training = self.training
        first = OverlayInputs(
            image=batch.inputs.image[:1],
            sources=batch.inputs.sources[:1],
            camera=batch.inputs.camera,
            T_source_target_rig=batch.inputs.T_source_target_rig[:1],
            background=batch.inputs.background[:1],
        )
        predicted = self.eval().maps(first)
        self.train(was_training)
        assert batch.targets.depth_m is not None
        true = inverse_from_depth(batch.targets.depth_m[0, 0]).cpu()
        return {
            "background": to_uint8(first.background[0].cpu()),
            "image": to_uint8(first.image[0].cpu()),
            "mask": to_uint8(predicted.mask_logits[0].sigmoid().expand(3, -1, -1).cpu()),
            "true mask": to_uint8(batch.targets.mask[0].float().expand(3, -1, -1).cpu()),
            "inverse depth": color_inverse_depth((-predicted.log_depth[0, 0]).exp().cpu()),
            "true inverse depth": color_inverse_depth(true),
        }


MOMENTUM = 0.8  # Each measurement moves the mean by the rest, since one batch is noisy.
MAX_FACTOR = 10.0  # the largest factor (its inverse is the smallest): a learnt term has almost no gradient


class GradientBalance:
    """Balance loss terms by moving means of the size of their gradients, as in GradNorm (arXiv 1711.02257).

    The gradients are taken with respect to the features that the depth head and the mask head share.
    """

    def __init__(self, every: int) -> None:
        self.every = every
        self.sizes: dict[str, float] = {}
        self._measured_at = -1

    def measure(self, step: int, terms: Mapping[str, Tensor], shared: Tensor) -> None:
        """Measure the size of each term's gradient at the shared features, if a measurement is due at this step.

        All processes must call it at the same steps.

        step: number of the training step.
        terms: unweighted scalar terms by name.
        shared: (B, C, h, w) features that both heads take.
        """
        if step == self._measured_at or (self.sizes and step % self.every):
            return
        self._measured_at = step
        found = {}
        for name, term in terms.items():
            with _disable_current_modes():  # The plots are no part of a step, so their operations are not counted.
                (gradient,) = torch.autograd.grad(term, shared, retain_graph=True, allow_unused=True)
            found[name] = 0.0 if gradient is None else float(gradient.float().norm())
        each = gather_from_processes(found)
        for name in found:
            size = fmean(one[name] for one in each)
            if 0 < size < math.inf:
                self.sizes[name] = MOMENTUM * self.sizes[name] + (1 - MOMENTUM) * size if name in self.sizes else size

    def factors(self) -> dict[str, float]:
        """Return the factor of each term, by name, that would make the gradients of all terms equally large.

        Factors are limited to the range from 1 / MAX_FACTOR to MAX_FACTOR. The result is empty before the first
        measurement.
        """
        if not self.sizes:
            return {}
        mean = math.exp(fmean(map(math.log, self.sizes.values())))
        return {name: min(max(mean / size, 1 / MAX_FACTOR), MAX_FACTOR) for name, size in self.sizes.items()}

    def shares(self, weights: Mapping[str, float]) -> dict[str, float]:
        """Return each term's share in the sum of all gradient sizes, by name; empty before the first measurement.

        weights: weight of each term by name; the size of its gradient is multiplied by it.
        """
        sizes = {name: weights[name] * size for name, size in self.sizes.items() if name in weights}
        total = sum(sizes.values())
        return {name: size / total for name, size in sizes.items()} if total else {}

    def state_dict(self) -> dict[str, Any]:
        """Return the measured sizes of the gradients; a checkpoint stores them."""
        return {"sizes": dict(self.sizes), "measured_at": self._measured_at}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the measured sizes from a checkpoint."""
        self.sizes = {str(name): float(size) for name, size in state["sizes"].items()}
        self._measured_at = int(state["measured_at"])
