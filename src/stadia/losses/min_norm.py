"""Weights of several losses by the shortest convex combination of their gradients (MGDA).

The step along it lowers every loss, or none can be lowered without raising another one: Sener and Koltun, "Multi-Task
Learning as Multi-Objective Optimization", NeurIPS 2018, arXiv 1810.04650; MiDaS (arXiv 1907.01341, section 5) balances
data sets by it.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def find_min_norm_weights(gradients: Tensor) -> Tensor:
    """Return weights (N,) of gradients (N, P) whose weighted sum is shortest; not negative, their sum is 1.

    By non-negative least squares: the a that minimizes |sum a_i g_i|^2 + L^2 (1 - sum a_i)^2, divided by its sum, is
    that combination for any L.

    Examples:
        >>> find_min_norm_weights(torch.tensor([[1.0, 0.0], [0.0, 1.0]])).tolist()  # equally long, at a right angle
        [0.5, 0.5]
        >>> find_min_norm_weights(torch.tensor([[1.0, 0.0], [3.0, 0.0]])).tolist()  # the shorter one points there too
        [1.0, 0.0]
    """
    from scipy.optimize import nnls  # here: slow to import

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
    """Factors of the losses of several data sets, from the last gradient of each; their mean is 1.

    Each batch is of one data set, so gradients of different steps are combined. Before every data set has one, all
    factors are 1.
    """

    def __init__(self, names: tuple[str, ...], every: int) -> None:
        self.names, self.every = names, every
        self.gradients: dict[str, Tensor] = {}
        self.factors = dict.fromkeys(names, 1.0)
        self.batches = dict.fromkeys(names, 0)

    def is_due(self, name: str) -> bool:
        """Return whether the gradient of this batch of a data set is to be measured; counts the batch."""
        due = self.batches[name] % self.every == 0
        self.batches[name] += 1
        return due

    def update(self, name: str, gradient: Tensor) -> None:
        """Keep the gradient (P,) of a data set's loss, and find new factors where all data sets have one."""
        self.gradients[name] = gradient.detach().flatten().float().cpu()
        if len(self.gradients) < len(self.names):
            return
        weights = find_min_norm_weights(torch.stack([self.gradients[name] for name in self.names]))
        self.factors = {name: len(self.names) * float(weight) for name, weight in zip(self.names, weights, strict=True)}

    def state_dict(self) -> dict[str, object]:
        """Return the state for an exact resume."""
        named = [{"name": name, "batches": self.batches[name], "factor": self.factors[name]} for name in self.names]
        return {"data_sets": named, "gradients": dict(self.gradients)}

    def load_state_dict(self, state: dict[str, object]) -> None:
        """Restore what `state_dict` returned."""
        rows: list[dict[str, float]] = state["data_sets"]  # type: ignore[assignment]
        self.batches = {str(row["name"]): int(row["batches"]) for row in rows}
        self.factors = {str(row["name"]): float(row["factor"]) for row in rows}
        self.gradients = dict(state["gradients"])  # type: ignore[call-overload]
