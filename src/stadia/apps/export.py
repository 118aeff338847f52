"""Export a trained depth recipe to one file, ONNX or torch.export, and compare the file with the recipe."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from stadia.core.errors import ConfigError
from stadia.evaluation.exported_network import ExportDescription
from stadia.evaluation.network_export import ExportComparison, export_onnx, export_torch
from stadia.files.output_files import check_replaceable
from stadia.recipes.base.build_recipe import load_recipe
from stadia.recipes.prediction.recipe_export import describe_export
from stadia.recipes.prediction.verdict_record import find_recorded_verdict
from stadia.training.checkpoint import Checkpoint


def export_checkpoint(
    checkpoint: Path, out: Path, on_step: Callable[[str], object] = lambda step: None, *, force: bool = False
) -> tuple[ExportDescription, list[ExportComparison]]:
    """Export a checkpoint, or the best one of a run, and compare the file with it before it is kept.

    Args:
        checkpoint: of a recipe that predicts depth.
        out: new file: .onnx, or .pt2 for torch.export; an earlier export is replaced.
        on_step: called with a line before each slow step.
        force: replace any other file, too.

    Returns the description in the file, and its differences from the checkpoint at two sizes.
    Raises ConfigError for another suffix or a missing extra; CheckpointError as `load_recipe`, and for a recipe without
    depth; StadiaError if `out` is another's file or cannot be written, or the file differs.
    """
    out, formats = Path(out), {".onnx": export_onnx, ".pt2": export_torch}
    if out.suffix not in formats:
        found = f"the suffix '{out.suffix}'" if out.suffix else "a name without a suffix"
        raise ConfigError("--out", found=found, expected=" or ".join(formats), fix="for example --out model.onnx")
    out = check_replaceable(out, "exported network", inputs=[Path(checkpoint)], force=force)
    on_step(f"reading {checkpoint}")
    about, network = describe_export(checkpoint, load_recipe(checkpoint))
    recorded = find_recorded_verdict(Checkpoint.open(checkpoint).path.parent.parent)
    if recorded is not None:
        about = about.model_copy(update={"verdict": str(recorded[0]), "verdict_codes": ", ".join(recorded[1])})
    millions = sum(parameter.numel() for parameter in network.parameters()) / 1e6
    on_step(f"tracing {millions:.1f} M parameters, then comparing the file with the checkpoint: up to some minutes")
    return about, formats[out.suffix](network, out, about)
