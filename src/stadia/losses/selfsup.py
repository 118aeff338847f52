"""The loss that needs no labels: the sources, seen through predicted depth and motion, must look like the target."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from stadia.core.errors import GeometryError
from stadia.core.types import Prediction, Targets, is_temporal
from stadia.geometry.depth_maps import resize_map
from stadia.losses.config import LossConfig
from stadia.losses.report import LossReport
from stadia.losses.reprojection import Pictures, Reprojection, Reprojector, TorchReprojector, sources_at
from stadia.losses.reprojection_fast import FusedReprojector
from stadia.losses.smoothness import edge_aware_smoothness


class SelfSupervisedLoss:
    """Photometric minimum over the sources plus edge-aware smoothness, averaged over the prediction's scales.

    `loss(targets, prediction, source_names, step)` synthesises the views itself, since each scale's depth is brought to full
    resolution first (Monodepth2, arXiv 1806.01260, section 3.2), so a recipe's step is a model and a loss.

    *How far it reaches*: with `LossConfig.pyramid` every map is also compared at smaller sizes of the pictures, where a match that
    is far away is near (as Monodepth, arXiv 1609.03677, does with its coarser maps). From random weights that is where depth
    comes from first; pretrained ones can do without.

    *Which sources teach depth* may change while training (`LossConfig.temporal_from_step`). Those that do compete in one
    minimum. Those that do not yet have a minimum of their own in which depth is a constant, so that they train the pose
    network without taking pixels from the others; it is reported as the term "motion", and has no auto-mask.

    Runs in float32 at least, whatever autocast says: at half precision a projection is wrong by whole pixels.

    Args:
        config: weights and schedule.
        reprojector: who warps and compares; None takes the fastest for the device (they agree, see the tests).
    """

    def __init__(self, config: LossConfig | None = None, *, reprojector: type[Reprojector] | None = None) -> None:
        self.config = config or LossConfig()
        self.reprojector = reprojector

    def __call__(self, targets: Targets, prediction: Prediction, source_names: Sequence[str], step: int = 0) -> LossReport:
        """The loss of a batch.

        Args:
            targets: pictures and cameras as recorded.
            prediction: inverse depth at S scales, finest first, and T_source_target (B, N, 4, 4).
            source_names: the N sources, in the order of `targets.sources`.
            step: of the optimiser, for the schedule.

        Raises GeometryError where the number of sources differs between targets, prediction and names.
        """
        _check_sources(targets, prediction, source_names)
        with torch.autocast(targets.image.device.type, enabled=False):
            targets = targets.to(torch.promote_types(targets.image.dtype, torch.float32))
            prediction = prediction.to(torch.promote_types(prediction.inverse_depth[0].dtype, torch.float32))
            pictures = Pictures(targets.image, targets.camera, targets.sources, targets.source_camera, tuple(source_names))
            return self._report(pictures, prediction, step)

    def _report(self, pictures: Pictures, prediction: Prediction, step: int) -> LossReport:
        teachers, others = self.teachers(pictures.source_names, step)
        T_teachers, T_others = (sources_at(prediction.T_source_target, indices) for indices in (teachers, others))
        terms: dict[str, Tensor] = {}
        maps: dict[str, Tensor] = {}
        for level in range(self.config.pyramid):
            seen = pictures.halved(level)
            reproject = self._reprojector(seen.select(teachers), auto_mask=self.config.auto_mask)
            # Unmasked: a motion that starts too small is beaten by the unwarped picture just where it would learn to grow.
            reproject_motion = self._reprojector(seen.select(others), auto_mask=False) if others else None
            for scale, inverse_depth in enumerate(prediction.inverse_depth):
                compared = _at_size(inverse_depth, *seen.target.shape[-2:])
                reprojection = reproject(compared, T_teachers)
                # The one reduction: what weighs pixels (an uncertainty, say) belongs on the map before it.
                _add(terms, "photometric", reprojection.minimum.residual.mean() / self.config.pyramid)
                if reproject_motion:
                    motion = reproject_motion(compared.detach(), T_others)
                    _add(terms, "motion", motion.minimum.residual.mean() / self.config.pyramid)
                if level == scale == 0:
                    maps = _maps(reprojection, teachers, len(pictures.source_names))
        for scale, inverse_depth in enumerate(prediction.inverse_depth):
            image = functional.interpolate(pictures.target, inverse_depth.shape[-2:], mode="area")
            _add(terms, "smoothness", self.config.smoothness / 2**scale * edge_aware_smoothness(inverse_depth, image))
        # A transform that is not finite sees nothing, and what is not seen is no error: it must show all the same.
        terms["photometric"] = terms["photometric"] + 0 * prediction.T_source_target.sum()
        terms = {name: value / len(prediction.inverse_depth) for name, value in terms.items()}
        total = torch.stack(list(terms.values())).sum()
        return LossReport(total, {name: value.detach() for name, value in terms.items()}, maps)

    def teachers(self, source_names: Sequence[str], step: int) -> tuple[list[int], list[int]]:
        """Indices of the sources that teach depth at this step, and of those that train the pose network alone."""
        temporal = [i for i, name in enumerate(source_names) if is_temporal(name)]
        rig = [i for i, name in enumerate(source_names) if not is_temporal(name)]
        start = self.config.temporal_from_step
        if rig and temporal and (start is None or step < start):
            return rig, temporal
        return list(range(len(source_names))), []

    def _reprojector(self, pictures: Pictures, *, auto_mask: bool) -> Reprojector:
        reprojector = self.reprojector or fastest_reprojector(pictures.target)
        return reprojector(pictures, ssim_weight=self.config.ssim_weight, auto_mask=auto_mask)


def fastest_reprojector(target: Tensor) -> type[Reprojector]:
    """The compiled loops for pictures in the processor's memory, plain torch elsewhere."""
    return FusedReprojector if target.device.type == "cpu" else TorchReprojector


def _at_size(inverse_depth: Tensor, height: int, width: int) -> Tensor:
    """(B, 1, h, w) inverse depth to (B, 1, H, W): bilinear to a larger size, means of what each pixel covers to a smaller one."""
    if inverse_depth.shape[-2] > height:
        return functional.interpolate(inverse_depth, (height, width), mode="area")
    return resize_map(inverse_depth, height, width)


def _add(terms: dict[str, Tensor], name: str, value: Tensor) -> None:
    terms[name] = terms[name] + value if name in terms else value


def _maps(reprojection: Reprojection, indices: list[int], count: int) -> dict[str, Tensor]:
    """The pictures of LossReport, with winners numbered among all `count` sources."""
    minimum = reprojection.minimum
    winner = torch.full_like(minimum.winner, -1, dtype=torch.int64)
    for own, number in enumerate([*indices, *(count + i for i in indices)]):
        winner = winner.masked_fill(minimum.winner == own, number)
    return {"residual": minimum.residual.detach(), "winner": winner, "warped": reprojection.nearest_view()}


def _check_sources(targets: Targets, prediction: Prediction, source_names: Sequence[str]) -> None:
    counts = (targets.sources.shape[1], targets.source_camera.K.shape[1], prediction.T_source_target.shape[1], len(source_names))
    if len(set(counts)) > 1:
        raise GeometryError(
            "sources",
            found="{} pictures, {} cameras, {} transforms, {} names".format(*counts),
            expected="one of each a source",
            cure="pass the batch's own source_names and the prediction for this batch",
        )
