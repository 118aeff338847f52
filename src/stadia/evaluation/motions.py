"""Compare predicted and true motion over a validation: scores of each axis, and a plot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from stadia.core.types import Claim, Meta, is_temporal
from stadia.evaluation.drawings import render_figure
from stadia.geometry.se3 import inverse
from stadia.metrics.motion import AXES, agreement, along_the_true, motion_axes, scale_of_translation
from stadia.training.scores import of_all_processes

MOST_DRAWN = 2000

_Pair = tuple[Meta, str]


@dataclass
class Motions:
    """Motions between neighboring frames of one validation, in order of time.

    Pairs are stored forward in time. With both directions the truth would form two clusters, and a constant prediction
    would correlate with it. Each pair counts once, in however many processes it occurs.

    claim: translations up to scale are scaled to the truth by one factor for all, or for each of several data sets.
    """

    claim: Claim
    pairs: dict[_Pair, tuple[NDArray[np.float64], NDArray[np.float64]]] = field(default_factory=dict)

    def add(self, meta: Sequence[Meta], source_names: Sequence[str], predicted: Tensor, true: Tensor) -> None:
        """Add T_source_target (B, N, 4, 4), predicted and true. Unknown true motions are NaN."""
        for n, name in enumerate(source_names):
            if not is_temporal(name):
                continue
            both = torch.stack([predicted[:, n], true[:, n]]).detach().double().cpu()
            axes = motion_axes(inverse(both) if name.startswith("-") else both).numpy()
            self.pairs |= {
                (m, name): (axes[0, b], axes[1, b]) for b, m in enumerate(meta) if np.isfinite(axes[:, b]).all()
            }

    def of_all(self) -> tuple[Tensor, Tensor]:
        """Return (N, 6) predicted and true motions of all processes, the predicted ones scaled as `claim` requires.

        Every process has to call it.
        """
        parts = self._parts()
        if self.claim is not Claim.METRES:
            parts = {
                name: (
                    torch.cat([predicted[:, :3] * scale_of_translation(predicted, true), predicted[:, 3:]], dim=1),
                    true,
                )
                for name, (predicted, true) in parts.items()
            }
        empty = torch.empty(0, 6, dtype=torch.float64)
        predicted, true = (
            (torch.cat([empty, *each]) for each in zip(*parts.values(), strict=True)) if parts else (empty, empty)
        )
        return predicted, true

    def scales(self) -> dict[str, float]:
        """Return the factor from predicted to true translation by data set; empty for a single data set. Call it as
        `of_all`.
        """
        return {
            name: float(scale_of_translation(predicted, true))
            for name, (predicted, true) in self._parts().items()
            if name
        }

    def _parts(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Return (N, 6) predicted and true motions by data set, of all processes."""
        parts: dict[str, list[tuple[NDArray[np.float64], NDArray[np.float64]]]] = {}
        for (meta, _), pair in {
            key: pair for part in of_all_processes(self.pairs) for key, pair in part.items()
        }.items():
            parts.setdefault(meta.data, []).append(pair)
        predicted, true = 0, 1
        both = {name: torch.tensor(np.array(pairs)) for name, pairs in parts.items()}
        return {name: (pairs[:, predicted], pairs[:, true]) for name, pairs in both.items()}


def motion_scores(predicted: Tensor, true: Tensor) -> dict[str, float]:
    """Return `motion_slope/AXIS`, `motion_correlation/AXIS` (`metrics.motion.agreement`) and `motion_along`
    (`along_the_true`).

    The result is empty where no true motion is known.
    """
    axes, along = agreement(predicted, true), along_the_true(predicted, true)
    slopes = {f"motion_slope/{axis}": slope for axis, (slope, _) in axes.items()}
    correlations = {f"motion_correlation/{axis}": correlation for axis, (_, correlation) in axes.items()}
    return slopes | correlations | ({} if along is None else {"motion_along": along})


def draw_motions(predicted: Tensor, true: Tensor, claim: Claim) -> NDArray[np.uint8]:
    """Plot predicted over true motion of each axis, with the line of equality, as (H, W, 3) RGB."""
    figure = Figure(figsize=(10, 7), dpi=100)  # a constrained layout costs more time than the plot
    figure.subplots_adjust(left=0.07, right=0.98, bottom=0.07, top=0.89, wspace=0.25, hspace=0.3)
    fits = agreement(predicted, true)
    shown = np.unique(np.linspace(0, len(true) - 1, min(len(true), MOST_DRAWN)).astype(int))
    for i, (axis, axes) in enumerate(zip(AXES, figure.subplots(2, 3).flat, strict=True)):
        x, y = true[shown, i].numpy(), predicted[shown, i].numpy()
        axes.plot(x, y, ".", color="#0072b2", markersize=4, alpha=0.6)
        low, high = min(x.min(), y.min()), max(x.max(), y.max())
        margin = 0.05 * (high - low) or 1e-3
        axes.set(
            xlim=(low - margin, high + margin), ylim=(low - margin, high + margin), aspect="equal"
        )  # equal scales show the true slope
        axes.axline((low, low), slope=1, color="#999999", linewidth=1, zorder=0)
        unit = "°" if axis.startswith("r") else "m"
        label = "slope {:.2f}, correlation {:.2f}".format(*fits[axis]) if axis in fits else "the truth does not move"
        axes.set_title(f"{axis}: {label}", fontsize=9)
        axes.set_xlabel(f"true, {unit}", fontsize=8)
        axes.set_ylabel(f"predicted, {unit}", fontsize=8)
        axes.tick_params(labelsize=7)
        axes.locator_params(nbins=5)
        axes.grid(visible=True, linewidth=0.4, alpha=0.6)
    scaled = "" if claim is Claim.METRES else "; translations scaled to the truth by one factor"
    figure.suptitle(f"predicted over true motion to the next frame, {len(true)} pairs{scaled}", fontsize=10)
    return render_figure(figure)
