"""`stadia evaluate --depth`: score depth maps of any program."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from stadia.cli.arguments import option
from stadia.cli.evaluate.score_output import check_choice, write_score_file
from stadia.cli.output import echo, show_progress
from stadia.core.errors import ConfigError

DEPTH = "--depth DIR --reference DIR"


DepthFactorOption = Annotated[
    float | None,
    option("Integers a metre in depth files: 256 KITTI, 1000 mm, 5000 TUM; the protocol's by default.", min=1e-6),
]
ReferenceFactorOption = Annotated[
    float | None, option("The same for --reference; --depth-factor by default.", min=1e-6)
]
DepthOption = Annotated[
    Path | None, option("A folder of depth maps: uint16 png, tiff, npz, npy, pfm, exr; or one npy or npz (N, H, W).")
]


ClassesOption = Annotated[
    Path | None, option("For --by class: a folder of PNG with classes, named as the ground truth.")
]
ErrorMapsOption = Annotated[Path | None, option("Draw the errors of the best and the worst maps, into a new folder.")]


@dataclass(frozen=True, kw_only=True)
class DepthMaps:
    """Folders of depth maps and of their ground truth, and how to read them."""

    depth: Path
    reference: Path
    depth_scale: str | None
    crop: str | None
    depth_factor: float | None
    reference_factor: float | None


def score_depth_maps(
    maps: DepthMaps,
    protocol: str,
    by: str | None,
    *,
    classes: Path | None,
    error_maps: Path | None,
    scores: Path | None,
) -> dict[str, Any]:
    """Score the maps, write the requested files, and return the scores. Raises ConfigError, DataError."""
    from stadia.core.types import DepthScale
    from stadia.evaluation.depth_score import open_ground_truth_folder, pair_with_truth, score_depth
    from stadia.evaluation.io.predictions_folder import Predictions
    from stadia.evaluation.protocols import find_protocol
    from stadia.evaluation.score_parts import parse_parts
    from stadia.geometry.numpy_camera import IMAGE_CROPS

    rules = find_protocol(protocol, parse_parts(by))
    if (classes is not None) != ("class" in rules.by):
        found = "--classes without --by class" if classes is not None else "--by class without --classes"
        raise ConfigError("stadia evaluate", found=found, expected="both or neither", fix="add the other one")
    scale = maps.depth_scale
    depth_scale = None if scale is None else DepthScale(check_choice("--depth-scale", scale, [*DepthScale]))
    shown = None if maps.crop is None else check_choice("--crop", maps.crop, [*IMAGE_CROPS])
    predictions = Predictions.open(maps.depth, depth_scale, shown, factor=maps.depth_factor)
    truth = open_ground_truth_folder(maps.reference, rules, maps.reference_factor)
    with show_progress() as bars:
        score = score_depth(predictions, truth, rules, classes=classes, track=bars.track)
    if scores is not None:
        write_score_file(scores, score.to_json())
    if error_maps is not None:
        from stadia.evaluation.plots.image_overlays import write_error_maps
        from stadia.files.output_files import fill_new_folder

        predictions, truth, _ = pair_with_truth(predictions, truth)
        with fill_new_folder(error_maps) as folder:
            drawn = write_error_maps(folder, predictions, truth, rules, score)
        echo(f"note: wrote {', '.join(path.name for path in drawn)} into {error_maps}", err=True)
    return score.summary()
