"""Export a trained depth recipe to one file that runs without stadia."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from stadia.apps.export_network import ExportComparison, export_onnx, export_torch
from stadia.core.errors import CheckpointError, ConfigError, StadiaError
from stadia.core.files import check_writable
from stadia.evaluation.io.predictions_folder import Provenance
from stadia.evaluation.predict.exported_network import ExportDescription
from stadia.recipes.base.build_recipe import load_task
from stadia.recipes.base.depth_recipe import DepthRecipe

FORMATS = {".onnx": export_onnx, ".pt2": export_torch}


def export_checkpoint(
    checkpoint: Path, out: Path, on_step: Callable[[str], object] = lambda step: None
) -> tuple[ExportDescription, list[ExportComparison]]:
    """Export a checkpoint, or the best one of a run, and compare the file with it before it is kept.

    Args:
        checkpoint: of a recipe that predicts depth.
        out: new file: .onnx, or .pt2 for torch.export.
        on_step: called with a line before each slow step.

    Returns the description in the file, and its differences from the checkpoint at two sizes.
    Raises ConfigError for another suffix or a missing extra; CheckpointError as `load_task`, and for a recipe without
    depth; StadiaError if `out` exists or cannot be written, or the file differs.
    """
    out = Path(out)
    if out.suffix not in FORMATS:
        found = f"the suffix '{out.suffix}'" if out.suffix else "a name without a suffix"
        raise ConfigError("--out", found=found, expected=" or ".join(FORMATS), fix="for example --out model.onnx")
    if out.exists():
        raise StadiaError(
            out,
            found="something there already",
            expected="a new file",
            fix="choose another --out: nothing is overwritten",
        )
    check_writable(out.parent)
    on_step(f"reading {checkpoint}")
    task, made_by = load_task(checkpoint), Provenance.of(checkpoint)
    if not isinstance(task, DepthRecipe):
        raise CheckpointError(
            checkpoint,
            found=f"a checkpoint of '{made_by.recipe}', which predicts no depth",
            expected="a recipe that does",
            fix="pass another checkpoint",
        )
    focal = float(task.focal.flatten()[0])  # of several data sets the first's, whose size it has
    if not focal > 0:
        raise CheckpointError(
            checkpoint, found="a network that was never trained", expected="the lens of its training", fix="train it"
        )
    size = {"height": task.height, "width": task.width, "crop": task.crop, "stride": task.stride}
    parameters = sum(parameter.numel() for parameter in task.parameters())
    on_step(
        f"tracing {parameters / 1e6:.1f} M parameters, then comparing the file with the checkpoint: up to some minutes"
    )
    about = ExportDescription.of(made_by, task.depth_scale, focal=focal, **size)
    return about, FORMATS[out.suffix](_InverseDepth(task).eval(), out, about)


class _InverseDepth(nn.Module):
    """The inverse depth of a recipe as a network."""

    def __init__(self, task: DepthRecipe[Any, Any, Any, Any]) -> None:
        super().__init__()
        self.task = task

    def forward(self, image: Tensor) -> Tensor:
        """Predict (B, 3, H, W) to (B, 1, H, W)."""
        return self.task.inverse_depth(image)
