"""Weights of the height losses against the photometric loss: fixed, by the losses' ratio, or by their variation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from stadia.losses.config import MetricScaleConfig

MAX_FACTOR = 10.0
"""Largest factor of "variation": a loss of almost no mean has any variation."""

MIN_BATCHES = 3
"""Batches before "variation" counts: two values have no deviation that means anything."""


@dataclass
class RunningVariation:
    """Mean and variance of the ratio of a loss to its own mean before (Welford), as CoV-Weighting takes them."""

    count: int = 0
    mean_loss: float = 0.0
    mean: float = 0.0
    squares: float = 0.0

    def add(self, loss: float) -> None:
        """Add the loss of a batch."""
        ratio = loss / self.mean_loss if self.count and self.mean_loss > 0 else 1.0
        self.count += 1
        self.mean_loss += (loss - self.mean_loss) / self.count
        before = ratio - self.mean
        self.mean += before / self.count
        self.squares += before * (ratio - self.mean)

    @property
    def variation(self) -> float:
        """Return the standard deviation over the mean; NaN for too few batches.

        Examples:
            >>> steady = RunningVariation()
            >>> for _ in range(5):
            ...     steady.add(2.0)
            >>> steady.variation
            0.0
        """
        if self.count < MIN_BATCHES or self.mean <= 0:
            return math.nan
        return math.sqrt(self.squares / self.count) / self.mean


@dataclass
class HeightLossBalance:
    """Factors of the height losses, each kept for `config.balance_every` batches.

    Source: the ratio of detached losses, and Groenendijk et al., "Multi-Loss Weighting with Coefficient of Variations",
    WACV 2021, arXiv 2009.01717.
    """

    config: MetricScaleConfig
    batches: int = 0
    factors: dict[str, float] = field(default_factory=lambda: {"object_height": 1.0, "camera_height": 1.0})
    losses: dict[str, RunningVariation] = field(default_factory=dict)

    def update(self, photometric: Tensor, errors: Mapping[str, Tensor]) -> Mapping[str, float]:
        """Return the factors of a batch, by the term's name.

        Args:
            photometric: (), the photometric loss.
            errors: () the mean errors in metres by term, without weights; 0 where nothing is known.
        """
        if self.config.balance == "fixed":
            return self.factors
        if self.config.balance == "variation":
            for name, value in {"photometric": photometric, **errors}.items():
                if (loss := float(value.detach())) > 0:
                    self.losses.setdefault(name, RunningVariation()).add(loss)
        if self.batches % self.config.balance_every == 0:
            self._renew(float(photometric.detach()), {name: float(error.detach()) for name, error in errors.items()})
        self.batches += 1
        return self.factors

    def _renew(self, photometric: float, errors: Mapping[str, float]) -> None:
        if self.config.balance == "ratio":
            error, weight = errors.get("camera_height", 0.0), self.config.camera_height
            if error > 0 and weight > 0:
                self.factors["camera_height"] = min(photometric / error, weight) / weight
            return
        base = self.losses.get("photometric", RunningVariation()).variation
        for name in self.factors:
            own = self.losses.get(name, RunningVariation()).variation
            if own > 0 and base > 0:
                self.factors[name] = min(own / base, MAX_FACTOR)

    def state_dict(self) -> dict[str, Any]:
        """Return the state for an exact resume."""
        losses = {name: vars(loss) for name, loss in self.losses.items()}
        return {"batches": self.batches, "factors": dict(self.factors), "losses": losses}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.batches, self.factors = int(state["batches"]), dict(state["factors"])
        self.losses = {name: RunningVariation(**values) for name, values in state["losses"].items()}
