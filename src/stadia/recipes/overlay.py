"""The recipe `overlay`: depth and mask of an image that something was pasted onto, from it and the same image without."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor

from stadia.core.types import Claim, Meta, OverlayInputs, OverlayTargets
from stadia.data.cache import Progress
from stadia.diagnostics.catalog import finding
from stadia.diagnostics.contract.exact import Exact
from stadia.diagnostics.contract.labeled import of_overlay
from stadia.diagnostics.finding import Severity
from stadia.evaluation.colors import color_inverse_depth, to_uint8
from stadia.evaluation.overlay_scores import image_sums, overlay_scores, weaker
from stadia.evaluation.watch import Watch
from stadia.geometry.depth_maps import inverse_from_depth
from stadia.losses.overlay import OverlayLoss
from stadia.losses.report import LossReport
from stadia.models.overlay_config import check_size
from stadia.models.overlay_net import OverlayMaps, OverlayNet
from stadia.recipes import overlay_commands as commands
from stadia.recipes.asked import EvaluationAsked, PredictionAsked
from stadia.recipes.overlay_config import OverlayConfig
from stadia.recipes.overlay_data import OverlayBatch, OverlayData, open_overlay_data
from stadia.recipes.recipe import Recipe
from stadia.training.gradient_balance import GradientBalance
from stadia.training.run import Run
from stadia.training.scores import of_all_processes

MOST_TIMES = 2.0
"""The mean weight of the loss, or its inverse, from which on plain descent has another learning rate than it says."""


class OverlayRecipe(Recipe[OverlayConfig, OverlayData, OverlayInputs, OverlayTargets]):
    """Network, loss, and what is looked at while it trains.

    Args:
        config: with every "auto" settled; the label of depth too.
    """

    recipe = "overlay"
    best_metrics = ("val/depth_and_mask_error",)
    in_stages = True

    def __init__(self, config: OverlayConfig) -> None:
        super().__init__(config)
        self.network = OverlayNet(config.model)
        self.loss = OverlayLoss(config.loss)
        self.balance = GradientBalance(config.loss.balance_every)
        self.scored_as = self.claim
        self._sums: dict[Meta, dict[str, float]] = {}  # of the validation that runs

    @classmethod
    def prepare(cls, config: OverlayConfig, console: Console) -> tuple[OverlayConfig, OverlayData]:
        """Open the data; RoadWorld and TableWorld where none is named. Raises DataError, ConfigError."""
        check_size(config.data.height, config.data.width)
        data = open_overlay_data(config, console)
        label = data.overlays.label
        return config.model_copy(update={"depth_source": label.source, "depth_claim": label.claim}), data

    @property
    def claim(self) -> Claim:
        """Of its depth: that of the labels which it learnt from."""
        return self.config.depth_claim or Claim.METRES

    @property
    def about(self) -> Mapping[str, object]:
        """Its claim, where its labels are from, and by what the weights of the loss multiply the learning rate of plain
        descent.
        """
        source = self.config.depth_source or "exact"
        factor = {"effective_lr": self._effective_lr(self.loss.weights)} if self._plain else {}
        return {
            "claim": str(self.claim),
            "scale_from": f"the depth that it was taught ({source})",
            "depth_source": source,
            **factor,
        }

    @property
    def _plain(self) -> bool:
        """Whether a factor on the loss is one on the step."""
        return self.config.optimizer.name == "sgd"

    def _effective_lr(self, entering: Mapping[str, float]) -> float:
        """By the weights as they enter: from the first step on they are balanced, which `train/effective_lr` follows."""
        return self.config.optimizer.lr * sum(entering.values())

    def remember(self, data: OverlayData) -> None:
        """What its labels allow to score; and what the weights of the loss are to plain descent is found here, before
        the first step.
        """
        self.scored_as = weaker(self.claim, data.overlays.label.claim)
        weights, config = self.loss.weights, self.config
        times = sum(weights.values()) / len(weights)
        if self._plain and not 1 / MOST_TIMES <= times <= MOST_TIMES:
            self.found.append(
                finding(
                    "C13",
                    Severity.WARN,
                    measured=(
                        f"the weights of the loss add up to {sum(weights.values()):g}: an effective learning rate of "
                        f"{self.about['effective_lr']:g} where optimizer.lr says {config.optimizer.lr:g}"
                    ),
                    expected=f"weights of 1 on average, within {MOST_TIMES:g} times",
                    evidence={"weights": sum(weights.values()), "effective_lr": self.about["effective_lr"]},
                )
            )

    def maps(self, inputs: OverlayInputs) -> OverlayMaps:
        """What the network says of B images and their backgrounds."""
        said: OverlayMaps = self.network(torch.cat((inputs.background, inputs.image), dim=1))
        return said

    def exact_losses(self, batch: OverlayBatch) -> Mapping[str, Exact]:
        """The loss against depth and mask of a wall, within the range that the loss reads."""
        nearest, farthest = self.config.loss.min_depth, self.config.loss.max_depth
        unit = 1.0 if nearest < 3 and farthest > 20 else (nearest + farthest) / 20
        return {"loss": of_overlay(self.loss, self.loss.weights, unit)}

    # -- a step
    # ---------------------------------------------------------------------------------------------------------

    def training_step(self, batch: OverlayBatch) -> LossReport:
        said, targets, weights = self.maps(batch.inputs), batch.targets, self.loss.weights
        assert targets.depth_m is not None, "composed images have depth"
        terms = self.loss.terms(said.log_depth, said.mask_logits, targets.depth_m, targets.mask)
        if self.training and said.shared.requires_grad:
            self.balance.measure(self.global_step, terms, said.shared)
        factors = self.balance.factors() if self.config.loss.balance else {}
        report = self.loss.report(terms, factors)
        entering = {name: weight * factors.get(name, 1.0) for name, weight in weights.items()}
        seen = {f"weight/{name}": weight for name, weight in entering.items()}
        seen |= {f"balance/{name}": factor for name, factor in factors.items()}
        if self._plain:
            seen["effective_lr"] = self._effective_lr(entering)
        seen |= {f"gradient_share/{name}": share for name, share in self.balance.shares(entering).items()}
        return replace(report, seen={name: report.total.new_tensor(value) for name, value in seen.items()})

    def training_state(self) -> dict[str, Any]:
        return {"gradient_balance": self.balance.state_dict()}

    def load_training_state(self, state: Mapping[str, Any]) -> None:
        self.balance.load_state_dict(state["gradient_balance"])

    # -- validation
    # -----------------------------------------------------------------------------------------------------

    def on_validation_start(self) -> None:
        self._sums = {}

    def validation_step(self, batch: OverlayBatch) -> Mapping[str, Tensor | float]:
        """Nothing yet: scores are of all pixels of the set, see `scores_of_the_whole`."""
        assert batch.targets.depth_m is not None
        said, loss = self.maps(batch.inputs), self.config.loss
        scored = (loss.min_depth, loss.max_depth)
        sums = image_sums(
            said.log_depth.exp(), said.mask_logits, batch.targets.depth_m, batch.targets.mask, self.scored_as, scored
        )
        self._sums |= dict(zip(batch.meta, sums, strict=True))
        return {}

    def scores_of_the_whole(self) -> Mapping[str, float]:
        """Depth errors and mask scores over all pixels; an image that two processes were given counts once."""
        images: dict[Meta, dict[str, float]] = {}
        for part in of_all_processes(self._sums):
            images |= part
        return overlay_scores(images.values())

    @torch.no_grad()
    def images(self, batch: OverlayBatch, report: LossReport) -> Mapping[str, NDArray[np.uint8]]:
        """The first sample: background and image, the mask and the depth said, and the true ones."""
        was_training = self.training
        first = OverlayInputs(
            image=batch.inputs.image[:1],
            sources=batch.inputs.sources[:1],
            camera=batch.inputs.camera,
            T_source_target_rig=batch.inputs.T_source_target_rig[:1],
            background=batch.inputs.background[:1],
        )
        said = self.eval().maps(first)
        self.train(was_training)
        assert batch.targets.depth_m is not None
        true = inverse_from_depth(batch.targets.depth_m[0, 0]).cpu()
        return {
            "background": to_uint8(first.background[0].cpu()),
            "image": to_uint8(first.image[0].cpu()),
            "mask": to_uint8(said.mask_logits[0].sigmoid().expand(3, -1, -1).cpu()),
            "true mask": to_uint8(batch.targets.mask[0].float().expand(3, -1, -1).cpu()),
            "inverse depth": color_inverse_depth((-said.log_depth[0, 0]).exp().cpu()),
            "true inverse depth": color_inverse_depth(true),
        }

    # -- the commands
    # ---------------------------------------------------------------------------------------------------

    def predict(self, asked: PredictionAsked, watch: Watch) -> Iterator[str]:
        """Depth and mask of an image and its background, or of folders of both; see `recipes.overlay_commands`."""
        return commands.predict(self, asked, watch)

    def evaluate(
        self, asked: EvaluationAsked, run: Path, watch: Watch, progress: Progress
    ) -> tuple[dict[str, Any], list[Path]]:
        """Depth and mask of a set of composed images, from disk; see `recipes.overlay_commands`."""
        return commands.evaluate(self, asked, run, watch, progress)

    def score(self, data: OverlayData, run: Run, console: Console) -> None:
        """The images that validated, from disk, beside the mean depth of the training's."""
        commands.score_validation(self, data, run, console)
