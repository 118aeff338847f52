"""Predicted against true motion over a validation: scores of each axis, and an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from stadia.core.types import Claim, Meta, is_temporal
from stadia.geometry.se3 import inverse
from stadia.metrics.motion import AXES, agreement, along_the_true, motion_axes, scale_of_translation
from stadia.training.scores import of_all_processes

MOST_DRAWN = 2000

_Pair = tuple[Meta, str]


@dataclass
class Motions:
    """The motions between neighbors in time of one validation, in order of time: of a pair that is seen both ways round
    the truth would lie in two heaps, and a network that always says "ahead" would agree with them. Each once, however
    many processes share them.

    claim: translation up to scale is brought to the true size by one factor for all, or for each of several data sets.
    """

    claim: Claim
    pairs: dict[_Pair, tuple[NDArray[np.float64], NDArray[np.float64]]] = field(default_factory=dict)

    def add(self, meta: Sequence[Meta], source_names: Sequence[str], predicted: Tensor, true: Tensor) -> None:
        """T_source_target (B, N, 4, 4) twice, the true ones NaN where they are not known."""
        for n, name in enumerate(source_names):
            if not is_temporal(name):
                continue
            both = torch.stack([predicted[:, n], true[:, n]]).detach().double().cpu()
            axes = motion_axes(inverse(both) if name.startswith("-") else both).numpy()
            self.pairs |= {
                (m, name): (axes[0, b], axes[1, b]) for b, m in enumerate(meta) if np.isfinite(axes[:, b]).all()
            }

    def of_all(self) -> tuple[Tensor, Tensor]:
        """(N, 6) predicted and true, of all processes, which all have to call it; predicted at the size that the claim
        lets compare.
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
        """What brings predicted translation to the true size, by the data set's name; empty for one data set. Called as
        `of_all`.
        """
        return {
            name: float(scale_of_translation(predicted, true))
            for name, (predicted, true) in self._parts().items()
            if name
        }

    def _parts(self) -> dict[str, tuple[Tensor, Tensor]]:
        """(N, 6) predicted and true by data set, of all processes."""
        parts: dict[str, list[tuple[NDArray[np.float64], NDArray[np.float64]]]] = {}
        for (meta, _), pair in {
            key: pair for part in of_all_processes(self.pairs) for key, pair in part.items()
        }.items():
            parts.setdefault(meta.data, []).append(pair)
        predicted, true = 0, 1
        both = {name: torch.tensor(np.array(pairs)) for name, pairs in parts.items()}
        return {name: (pairs[:, predicted], pairs[:, true]) for name, pairs in both.items()}


def motion_scores(predicted: Tensor, true: Tensor) -> dict[str, float]:
    """`motion_slope/AXIS` and `motion_correlation/AXIS`, see `metrics.motion.agreement`, and `motion_along`, see
    `along_the_true`; nothing where no motion is known.
    """
    told, along = agreement(predicted, true), along_the_true(predicted, true)
    slopes = {f"motion_slope/{axis}": slope for axis, (slope, _) in told.items()}
    correlations = {f"motion_correlation/{axis}": correlation for axis, (_, correlation) in told.items()}
    return slopes | correlations | ({} if along is None else {"motion_along": along})


def draw_motions(predicted: Tensor, true: Tensor, claim: Claim) -> NDArray[np.uint8]:
    """(H, W, 3) RGB: predicted over true of each axis, with the line on which they would be equal."""
    figure = Figure(figsize=(10, 7), dpi=100)  # a layout that is found costs more than the drawing, at every validation
    figure.subplots_adjust(left=0.07, right=0.98, bottom=0.07, top=0.89, wspace=0.25, hspace=0.3)
    canvas, told = FigureCanvasAgg(figure), agreement(predicted, true)
    shown = np.unique(np.linspace(0, len(true) - 1, min(len(true), MOST_DRAWN)).astype(int))
    for i, (axis, axes) in enumerate(zip(AXES, figure.subplots(2, 3).flat, strict=True)):
        x, y = true[shown, i].numpy(), predicted[shown, i].numpy()
        axes.plot(x, y, ".", color="#0072b2", markersize=4, alpha=0.6)
        low, high = min(x.min(), y.min()), max(x.max(), y.max())
        margin = 0.05 * (high - low) or 1e-3
        axes.set(
            xlim=(low - margin, high + margin), ylim=(low - margin, high + margin), aspect="equal"
        )  # one scale: a slope looks as it is
        axes.axline((low, low), slope=1, color="#999999", linewidth=1, zorder=0)
        unit = "°" if axis.startswith("r") else "m"
        words = "slope {:.2f}, correlation {:.2f}".format(*told[axis]) if axis in told else "the truth does not move"
        axes.set_title(f"{axis}: {words}", fontsize=9)
        axes.set_xlabel(f"true, {unit}", fontsize=8)
        axes.set_ylabel(f"predicted, {unit}", fontsize=8)
        axes.tick_params(labelsize=7)
        axes.locator_params(nbins=5)
        axes.grid(visible=True, linewidth=0.4, alpha=0.6)
    scaled = "" if claim is Claim.METRES else "; translations brought to the true size by one factor"
    figure.suptitle(f"predicted over true motion to the next frame, {len(true)} pairs{scaled}", fontsize=10)
    canvas.draw()
    return np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[..., :3])
