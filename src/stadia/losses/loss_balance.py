"""Balance several losses: heights against the photometric loss, and datasets that train together."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stadia.losses.config import MetricScaleConfig

MAX_FACTOR = 10.0
"""Largest factor of "variation". A loss whose mean is near 0 could get any variation."""

MIN_BATCHES = 3
"""The balance "variation" needs this many batches."""


@dataclass
class RunningVariation:
    """Running mean and variance (Welford's method) of a loss divided by its running mean, for CoV-Weighting."""

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
        """Return the standard deviation divided by the mean; NaN for too few batches."""
        if self.count < MIN_BATCHES or self.mean <= 0:
            return math.nan
        return math.sqrt(self.squares / self.count) / self.mean


@dataclass
class HeightLossBalance:
    """The factors of the height losses. Each factor is kept for `config.balance_every` batches.

    Source: Groenendijk et al., WACV 2021, arXiv 2009.01717.
    """

    config: MetricScaleConfig
    batches: int = 0
    factors: dict[str, float] = field(default_factory=lambda: {"object_height": 1.0, "camera_height": 1.0})
    losses: dict[str, RunningVariation] = field(default_factory=dict)

    def update(self, photometric: Tensor, errors: Mapping[str, Tensor]) -> Mapping[str, float]:
        """Return the factor of each height term for a batch.

        photometric: photometric loss, a scalar.
        errors: mean height error in metres of each term, scalars.
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
        """Return the state with which a training resumes exactly."""
        losses = {name: vars(loss) for name, loss in self.losses.items()}
        return {"batches": self.batches, "factors": dict(self.factors), "losses": losses}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state that `state_dict` returned."""
        self.batches, self.factors = int(state["batches"]), dict(state["factors"])
        self.losses = {name: RunningVariation(**values) for name, values in state["losses"].items()}


# -- weights of datasets by the shortest convex combination of their gradients (MGDA)


def find_min_norm_weights(gradients: Tensor) -> Tensor:
    """Return the non-negative weights (N,) with sum 1 that make the weighted sum of gradients (N, P) shortest.

    A step along this sum lowers every loss, if such a step exists (Sener and Koltun, NeurIPS 2018, arXiv 1810.04650).
    Non-negative least squares finds the a that minimizes |sum a_i g_i|^2 + L^2 (1 - sum a_i)^2 for any L.
    """
    from scipy.optimize import nnls  # slow to import

    gram = (gradients.double() @ gradients.double().T).cpu().numpy()
    longest = float(gram.diagonal().max())
    if not longest > 0:
        return torch.full((len(gram),), 1 / len(gram), dtype=gradients.dtype)
    values, vectors = np.linalg.eigh(gram / longest)
    root = np.sqrt(np.clip(values, 0, None))[:, None] * vectors.T  # root^T root = gram
    ones = np.ones((1, len(gram)))
    weights, _ = nnls(np.concatenate([root, ones]), np.append(np.zeros(len(gram)), 1.0))
    return torch.from_numpy(weights / weights.sum()).to(gradients.dtype)


class DataSetBalance:
    """The factors of the losses of several datasets, from the latest gradient of each. Their mean is 1.

    Each batch is from one dataset. All factors are 1 until every dataset has a gradient.
    """

    def __init__(self, names: tuple[str, ...], every: int) -> None:
        self.names, self.every = names, every
        self.gradients: dict[str, Tensor] = {}
        self.factors = dict.fromkeys(names, 1.0)
        self.batches = dict.fromkeys(names, 0)

    def is_due(self, name: str) -> bool:
        """Count a batch of a dataset, and return whether its gradient should be measured now."""
        due = self.batches[name] % self.every == 0
        self.batches[name] += 1
        return due

    def update(self, name: str, gradient: Tensor) -> None:
        """Store the gradient (P,) of a dataset's loss, and compute new factors as soon as all datasets have one."""
        self.gradients[name] = gradient.detach().flatten().float().cpu()
        if len(self.gradients) < len(self.names):
            return
        weights = find_min_norm_weights(torch.stack([self.gradients[name] for name in self.names]))
        self.factors = {name: len(self.names) * float(weight) for name, weight in zip(self.names, weights, strict=True)}

    def state_dict(self) -> dict[str, object]:
        """Return the state with which a training resumes exactly."""
        named = [{"name": name, "batches": self.batches[name], "factor": self.factors[name]} for name in self.names]
        return {"data_sets": named, "gradients": dict(self.gradients)}

    def load_state_dict(self, state: dict[str, object]) -> None:
        """Restore the state that `state_dict` returned."""
        rows: list[dict[str, float]] = state["data_sets"]  # type: ignore[assignment]
        self.batches = {str(row["name"]): int(row["batches"]) for row in rows}
        self.factors = {str(row["name"]): float(row["factor"]) for row in rows}
        self.gradients = dict(state["gradients"])  # type: ignore[call-overload]
