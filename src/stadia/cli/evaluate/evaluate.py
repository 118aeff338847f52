"""`stadia evaluate`: score a network, depth maps, a trajectory, or poses of objects."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from stadia.cli.arguments import (
    EveryOption,
    FlipOption,
    ForceOption,
    JsonOption,
    MotionOption,
    ScaleOption,
    SizeOption,
    SteadyOption,
    VerboseOption,
    argument,
    check_scale_sources,
    flag,
    option,
)
from stadia.cli.evaluate.depth import (
    DEPTH,
    ClassesOption,
    DepthFactorOption,
    DepthMaps,
    DepthOption,
    ErrorMapsOption,
    ReferenceFactorOption,
    score_depth_maps,
)
from stadia.cli.evaluate.network import NETWORK, parse_parts_of_frames, score_network
from stadia.cli.evaluate.score_output import check_score_file, print_scores
from stadia.cli.evaluate.trajectory import (
    TRAJECTORY,
    FormatOption,
    MaxDifferenceOption,
    RpeOption,
    check_drawing,
    score_trajectory_file,
)
from stadia.cli.wing_commands import WING_COMMANDS
from stadia.core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping


ByOption = Annotated[str | None, option("Also score parts of images: distance, region, class, or distance,region.")]

OBJECTS = "--objects RESULTS --reference DATA"
OPTIONS = {
    (NETWORK,): ("frames", "every", "held_out", "motion", "size", "flip", "steady", "scale_from", "out"),
    (DEPTH,): ("classes", "error_maps", "depth_scale", "crop", "depth_factor", "reference_factor"),
    (TRAJECTORY,): ("format", "reference_format", "align", "max_difference_s", "rpe_seconds", "image"),
    (OBJECTS,): ("split", "held_out_of"),
    (NETWORK, DEPTH): ("protocol", "by"),
    (DEPTH, TRAJECTORY, OBJECTS): ("reference", "scores", "force"),
}
FORMS_OF = {option: forms for forms, options in OPTIONS.items() for option in options}


DepthScaleOption = Annotated[
    str | None,
    option("Scale of other programs' maps: metres (default), up-to-scale, affine-inverse (disparity), affine-depth."),
]


class EvaluateCommand(TyperCommand):
    """Group the options in the help by the form that they belong to."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        for parameter in self.params:
            forms = FORMS_OF.get(parameter.name or "", ())
            if len(forms) == 1:
                parameter.rich_help_panel = forms[0]  # type: ignore[attr-defined]


def evaluate(
    context: typer.Context,
    checkpoint: Annotated[Path | None, argument("A checkpoint, a run's folder, or a published network.")] = None,
    data: Annotated[Path | None, argument("Recordings with ground truth, or labeled objects.")] = None,
    overrides: Annotated[list[str] | None, argument("How to open DATA: data.split=test", metavar="KEY=VALUE")] = None,
    depth: DepthOption = None,
    trajectory: Annotated[Path | None, option("A file of camera-to-world poses.")] = None,
    objects: Annotated[Path | None, option("Predicted boxes: a BOP csv, or KITTI label files.")] = None,
    reference: Annotated[Path | None, option("The ground truth: a folder, or a file.")] = None,
    split: Annotated[str | None, option("Split of the objects in --reference; test by default.")] = None,
    held_out_of: Annotated[Path | None, option("A run whose held-out part of --reference is scored.")] = None,
    protocol: Annotated[str, typer.Option(help="Depth protocol; `stadia list protocols` lists them.")] = "metric",
    depth_scale: DepthScaleOption = None,
    depth_factor: DepthFactorOption = None,
    reference_factor: ReferenceFactorOption = None,
    by: ByOption = None,
    classes: ClassesOption = None,
    error_maps: ErrorMapsOption = None,
    crop: Annotated[str | None, option("Part of the image in other programs' maps: kb; all by default.")] = None,
    format: FormatOption = None,
    reference_format: Annotated[str | None, option("Format of --reference; by its content by default.")] = None,
    align: Annotated[str, typer.Option(help="Alignment to the reference: none, scale, se3 or sim3.")] = "se3",
    max_difference_s: MaxDifferenceOption = 0.01,
    rpe_seconds: RpeOption = None,
    frames: Annotated[Path | None, option("A file with frames of DATA, `recording frame l` a line.")] = None,
    every: EveryOption = 1,
    held_out: Annotated[bool, flag("--held-out", "Only frames of DATA that did not train CHECKPOINT.")] = False,
    motion: MotionOption = None,
    size: SizeOption = None,
    flip: FlipOption = False,
    steady: SteadyOption = False,
    scale_from: ScaleOption = None,
    out: Annotated[Path | None, option("Folder for predictions of CHECKPOINT; in its run by default.")] = None,
    scores: Annotated[Path | None, option("Also write a score file with every image.")] = None,
    image: Annotated[Path | None, option("Also draw both paths: a .png or .svg.")] = None,
    force: ForceOption = False,
    verbose: VerboseOption = False,
    as_json: JsonOption = False,
) -> None:
    """Score a network, depth maps, a trajectory or objects."""
    forms = {NETWORK: (checkpoint, data), DEPTH: (depth, reference), TRAJECTORY: (trajectory, reference)}
    forms[OBJECTS] = (objects, reference)
    truth = _require_truth(context, forms)
    inputs = (checkpoint, data, depth, trajectory, objects, reference, held_out_of)
    scale_sources = check_scale_sources(scale_from)
    scores = check_score_file(scores, inputs, force=force)
    if depth is not None:
        maps = DepthMaps(
            depth=depth,
            reference=truth,
            depth_scale=depth_scale,
            crop=crop,
            depth_factor=depth_factor,
            reference_factor=reference_factor or depth_factor,
        )
        summary = score_depth_maps(maps, protocol, by, classes=classes, error_maps=error_maps, scores=scores)
    elif trajectory is not None:
        summary = score_trajectory_file(
            trajectory,
            truth,
            format=format,
            reference_format=reference_format,
            align=align,
            max_difference_s=max_difference_s,
            rpe_interval_s=rpe_seconds,
            scores=scores,
            image=None if image is None else check_drawing(image, inputs, force=force),
            as_json=as_json,
        )
    elif objects is not None:
        summary = WING_COMMANDS.load("score-objects")(objects, truth, split, held_out_of, scores=scores)
    else:
        from stadia.predict.options import EvaluateOptions, parse_source_options, split_settings

        assert checkpoint is not None
        given, settings = split_settings(overrides)
        options = EvaluateOptions(
            data=parse_source_options(given),
            protocol=protocol,
            by=parse_parts_of_frames(by),
            frames=frames,
            every=every,
            held_out=held_out,
            motion=motion or "aligned",
            size=size,
            flip=flip,
            steady=steady,
            scale_from=scale_sources,
        )
        summary = score_network(checkpoint, truth, options, settings, out)
    print_scores(summary, as_json=as_json, verbose=verbose)


def _require_truth(context: typer.Context, forms: Mapping[str, tuple[Path | None, Path | None]]) -> Path:
    requested = [form for form, (scored, _) in forms.items() if scored is not None]
    if len(requested) != 1:
        found, expected = " and ".join(requested) or "nothing to score", f"one of: {', '.join(forms)}"
        raise ConfigError("stadia evaluate", found=found, expected=expected, fix="see stadia evaluate --help")
    form = requested[0]
    for parameter in context.command.params:
        allowed = FORMS_OF.get(parameter.name or "", (form,))
        source = context.get_parameter_source(parameter.name or "")
        if form not in allowed and source is not None and source.name == "COMMANDLINE":
            raise ConfigError(parameter.opts[0], found=form, expected=" or ".join(allowed), fix="remove it")
    truth = forms[form][1]
    if truth is None:
        found, fix = "no DATA" if form == NETWORK else "no --reference", "pass the path of the ground truth"
        raise ConfigError("stadia evaluate", found=found, expected=form, fix=fix)
    return truth
