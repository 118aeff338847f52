"""`stadia evaluate`: score depth maps, a trajectory, poses of objects, or a checkpoint, from any program."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stadia.cli.arguments import (
    EveryOption,
    FlipOption,
    ForceOption,
    JsonOption,
    MotionOption,
    ScaleOption,
    SizeOption,
    SteadyOption,
    argument,
    check_scale_sources,
    flag,
    option,
)
from stadia.cli.output import echo, show_progress
from stadia.core.errors import ConfigError
from stadia.core.registry import find_nearest_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stadia.predict.requests import EvaluateRequest

DepthFactorOption = Annotated[
    float | None,
    option("Integers a metre in depth files: 256 KITTI, 1000 mm, 5000 TUM; the protocol's by default.", min=1e-6),
]
ReferenceFactorOption = Annotated[
    float | None, option("The same of --reference; that of --depth-factor by default.", min=1e-6)
]
DepthOption = Annotated[
    Path | None, option("A folder of depth maps: uint16 png, tiff, npz, npy, pfm, exr; or one npy or npz (N, H, W).")
]
ByOption = Annotated[
    str | None, option("Also score parts of the images: distance, region, class, or several: distance,region.")
]
ClassesOption = Annotated[
    Path | None, option("For --by class: a folder of PNG with a class a pixel, named as the ground truth.")
]
ErrorMapsOption = Annotated[Path | None, option("Draw where the best and the worst maps are wrong, into a new folder.")]
FormatOption = Annotated[
    str | None, option("Format of --trajectory, else by its content: kitti, tum, euroc, transforms or colmap.")
]
MaxDifferenceOption = Annotated[
    float, typer.Option("--max-difference", help="Largest time difference of associated poses, in seconds.")
]
RpeOption = Annotated[
    float | None, option("Also RPE over so many seconds, such as 1 (TUM); from frame to frame by default.", min=1e-6)
]

_CHECKPOINT, _DEPTH, _TRAJECTORY = "CHECKPOINT DATA", "--depth DIR --reference DIR", "--trajectory EST --reference REF"
_OBJECTS = "--objects RESULTS --reference DATA"
_FORMS_OF = {
    **dict.fromkeys(
        ("frames", "every", "held_out", "motion", "size", "flip", "steady", "scale_from", "out"), (_CHECKPOINT,)
    ),
    **dict.fromkeys(("protocol", "by"), (_CHECKPOINT, _DEPTH)),
    **dict.fromkeys(("classes", "error_maps"), (_DEPTH,)),
    **dict.fromkeys(("depth_scale", "crop", "depth_factor", "reference_factor"), (_DEPTH,)),
    **dict.fromkeys(
        ("format", "reference_format", "align", "max_difference_s", "rpe_seconds", "image"), (_TRAJECTORY,)
    ),
    **dict.fromkeys(("split", "held_out_of"), (_OBJECTS,)),
    **dict.fromkeys(("reference", "scores", "force"), (_DEPTH, _TRAJECTORY, _OBJECTS)),
}
"""The forms of each option that not every form has."""


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
    depth_scale: Annotated[str | None, option("Scale of other programs' maps; metres by default.")] = None,
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
    frames: Annotated[Path | None, option("A file with the frames of DATA: `recording frame l` a line.")] = None,
    every: EveryOption = 1,
    held_out: Annotated[bool, flag("--held-out", "Use the frames of DATA that did not train CHECKPOINT.")] = False,
    motion: MotionOption = None,
    size: SizeOption = None,
    flip: FlipOption = False,
    steady: SteadyOption = False,
    scale_from: ScaleOption = None,
    out: Annotated[Path | None, option("Folder for predictions of CHECKPOINT; in its run by default.")] = None,
    scores: Annotated[Path | None, option("Also write a score file with every image.")] = None,
    image: Annotated[Path | None, option("Also draw both paths: a .png or .svg.")] = None,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Score a checkpoint on DATA, a folder of depth maps, a trajectory, or boxes of objects, from files."""
    forms = {_CHECKPOINT: (checkpoint, data), _DEPTH: (depth, reference), _TRAJECTORY: (trajectory, reference)}
    truth = _require_truth(context, {**forms, _OBJECTS: (objects, reference)})
    inputs = (checkpoint, data, depth, trajectory, objects, reference, held_out_of)
    scale_sources = check_scale_sources(scale_from)
    if scores is not None:
        from stadia.files.output_files import check_replaceable

        scores = check_replaceable(scores, "score file", inputs=inputs, force=force)
    if depth is not None:
        factors = depth_factor, reference_factor or depth_factor
        maps = _DepthMaps(depth, truth, depth_scale, crop, factors)
        summary = _score_depth(maps, protocol, by, classes=classes, error_maps=error_maps, scores=scores)
    elif trajectory is not None:
        summary = _score_trajectory(
            trajectory,
            truth,
            format=format,
            reference_format=reference_format,
            align=align,
            max_difference_s=max_difference_s,
            rpe_interval_s=rpe_seconds,
            scores=scores,
            image=None if image is None else _check_drawing(image, inputs, force=force),
            as_json=as_json,
        )
    elif objects is not None:
        summary = _score_objects(objects, truth, split, held_out_of, scores=scores)
    else:
        from stadia.predict.requests import EvaluateRequest, parse_source_options, split_settings

        assert checkpoint is not None
        options, settings = split_settings(overrides)
        request = EvaluateRequest(
            data=truth,
            options=parse_source_options(options),
            protocol=protocol,
            by=_parse_parts_of_frames(by),
            frames=frames,
            every=every,
            held_out=held_out,
            motion=motion or "aligned",
            size=size,
            flip=flip,
            steady=steady,
            scale_from=scale_sources,
            out=out,
        )
        summary = _score_checkpoint(checkpoint, request, settings)
    _print(summary, as_json=as_json)


def _parse_parts_of_frames(by: str | None) -> tuple[str, ...]:
    """Return the parts that frames of recordings are scored by. Raises ConfigError for classes, which they lack."""
    from stadia.evaluation.score_parts import parse_parts

    parts = parse_parts(by)
    if "class" in parts:
        expected, fix = "distance and region", f"score the maps by class from files: {_DEPTH}"
        raise ConfigError("--by", found=f"class with {_CHECKPOINT}", expected=expected, fix=fix)
    return parts


def _score_objects(
    objects: Path, truth: Path, split: str | None, held_out_of: Path | None, *, scores: Path | None
) -> dict[str, Any]:
    from stadia.objectpose.task import score_results

    summary: dict[str, Any] = score_results(objects, truth, split, held_out_of)
    if scores is not None:
        _write_score(scores, summary)
    return summary


def _write_score(path: Path, score: dict[str, Any]) -> None:
    """Write a score file, and print the name of an earlier one that is kept."""
    from stadia.evaluation.recording_scores import write_score

    if kept := write_score(path, score):
        echo(f"note: the earlier scores are kept as {kept}", err=True)


def _require_truth(context: typer.Context, forms: Mapping[str, tuple[Path | None, Path | None]]) -> Path:
    """Return the ground truth of the one requested form.

    Raises ConfigError for none, two, an option of another form, or no ground truth.
    """
    requested = [form for form, (scored, _) in forms.items() if scored is not None]
    if len(requested) != 1:
        found, expected = " and ".join(requested) or "nothing to score", f"one of: {', '.join(forms)}"
        raise ConfigError("stadia evaluate", found=found, expected=expected, fix="see stadia evaluate --help")
    form = requested[0]
    for parameter in context.command.params:
        allowed = _FORMS_OF.get(parameter.name or "", (form,))
        source = context.get_parameter_source(parameter.name or "")
        if form not in allowed and source is not None and source.name == "COMMANDLINE":
            expected = f"it with {' or '.join(allowed)} alone"
            raise ConfigError(
                parameter.opts[0], found=f"used together with {form}", expected=expected, fix="leave it out"
            )
    truth = forms[form][1]
    if truth is None:
        found, fix = "no DATA" if form == _CHECKPOINT else "no --reference", "pass the path of the ground truth"
        raise ConfigError("stadia evaluate", found=found, expected=form, fix=fix)
    return truth


def _check_choice(option: str, text: str, choices: Sequence[str]) -> str:
    """Return the choice itself. Raise ConfigError with the nearest one."""
    if text not in choices:
        near = find_nearest_name(text, list(choices))
        fix = f"did you mean '{near}'?" if near else f"choose one of them for {option}"
        raise ConfigError(option, found=f"'{text}'", expected=f"one of {', '.join(choices)}", fix=fix)
    return text


@dataclass(frozen=True)
class _DepthMaps:
    """Folders of depth maps of other programs and of their ground truth, and how they are read."""

    depth: Path
    reference: Path
    depth_scale: str | None
    crop: str | None
    factors: tuple[float | None, float | None]


def _score_depth(
    maps: _DepthMaps,
    protocol: str,
    by: str | None,
    *,
    classes: Path | None,
    error_maps: Path | None,
    scores: Path | None,
) -> dict[str, Any]:
    from stadia.core.types import DepthScale
    from stadia.evaluation.depth_score import score_depth
    from stadia.evaluation.ground_truth_folder import open_ground_truth_folder, pair_with_truth
    from stadia.evaluation.io.predictions_folder import Predictions
    from stadia.evaluation.protocols import find_protocol
    from stadia.evaluation.score_parts import parse_parts
    from stadia.geometry.numpy_camera import IMAGE_CROPS

    rules = find_protocol(protocol, parse_parts(by))
    if (classes is not None) != ("class" in rules.by):
        found = "--classes without --by class" if classes is not None else "--by class without --classes"
        raise ConfigError("stadia evaluate", found=found, expected="both or neither", fix="add the other one")
    scale = maps.depth_scale
    depth_scale = None if scale is None else DepthScale(_check_choice("--depth-scale", scale, [*DepthScale]))
    shown = None if maps.crop is None else _check_choice("--crop", maps.crop, [*IMAGE_CROPS])
    predictions = Predictions.open(maps.depth, depth_scale, shown, factor=maps.factors[0])
    truth = open_ground_truth_folder(maps.reference, rules, maps.factors[1])
    with show_progress() as bars:
        score = score_depth(predictions, truth, rules, classes=classes, track=bars.track)
    if scores is not None:
        _write_score(scores, score.to_json())
    if error_maps is not None:
        from stadia.evaluation.plots.error_maps import write_error_maps
        from stadia.files.output_files import fill_new_folder

        predictions, truth, _ = pair_with_truth(predictions, truth)
        with fill_new_folder(error_maps) as folder:
            drawn = write_error_maps(folder, predictions, truth, rules, score)
        echo(f"note: wrote {', '.join(path.name for path in drawn)} into {error_maps}", err=True)
    return score.summary()


def _score_trajectory(
    trajectory: Path,
    reference: Path,
    *,
    format: str | None,
    reference_format: str | None,
    align: str,
    max_difference_s: float,
    rpe_interval_s: float | None,
    scores: Path | None,
    image: Path | None,
    as_json: bool,
) -> dict[str, Any]:
    from stadia.evaluation.io.trajectory_files import add_recorded_frames
    from stadia.evaluation.io.trajectory_formats import TrajectoryFormat, read_trajectory
    from stadia.evaluation.recording_scores import score_trajectory
    from stadia.metrics.trajectory_metrics import PathAlignment

    formats = [
        None if text is None else TrajectoryFormat(_check_choice(name, text, [*TrajectoryFormat]))
        for name, text in (("--format", format), ("--reference-format", reference_format))
    ]
    alignment = PathAlignment(_check_choice("--align", align, [*PathAlignment]))
    estimated = read_trajectory(trajectory, formats[0])
    truth = read_trajectory(reference, formats[1], is_reference=True)
    estimated = add_recorded_frames(trajectory, estimated, truth)
    score = score_trajectory(estimated, truth, alignment, max_difference_s, rpe_interval_s)
    if not as_json:
        echo(score.headline)
    if scores is not None:
        _write_score(scores, score.to_json())
    if image is not None:
        from stadia.core.types import DepthScale
        from stadia.evaluation.plots.charts import draw_paths

        draw_paths(image, score.paths_from_start, DepthScale.METRES, title=score.headline, gaps=score.gaps)
        echo(f"note: wrote {image}", err=True)
    return score.summary()


def _check_drawing(image: Path, inputs: Iterable[Path | None], *, force: bool) -> Path:
    """Return the file to draw.

    Raises ConfigError for a format that is not drawn, StadiaError for a file that is not stadia's.
    """
    from stadia.files.output_files import check_replaceable

    if image.suffix not in (".png", ".svg"):
        fix = f"--image {image.stem or 'paths'}.png"
        raise ConfigError("--image", found=f"'{image.name}'", expected="a name that ends in .png or .svg", fix=fix)
    return check_replaceable(image, "drawing of paths", inputs=inputs, force=force)


def _score_checkpoint(checkpoint: Path, request: EvaluateRequest, settings: list[str]) -> dict[str, Any]:
    """Score a checkpoint with its recipe. Options are checked before heavy imports."""
    from stadia.evaluation.protocols import find_protocol

    if request.frames is not None and request.every != 1:
        fix = "leave it out: the list names the frames"
        raise ConfigError("--every", found="used together with --frames", expected="one of the two", fix=fix)
    find_protocol(request.protocol)

    from stadia.predict.prediction_inputs import open_network_for
    from stadia.predict.task import run_evaluate
    from stadia.recipes.base.network_checkpoint import describe_network

    opened = open_network_for(checkpoint, request.data, request.options, settings)
    if line := describe_network(opened):
        echo(line, err=True)
    with show_progress() as bars:
        summary, written = run_evaluate(opened, request, bars.track, bars.progress)
    for path in written:
        echo(f"note: wrote {path}", err=True)
    return summary


def _print(summary: dict[str, Any], *, as_json: bool) -> None:
    """Print JSON on stdout and notes on stderr, or a table."""
    if not as_json:
        _print_table(summary)
        return
    for note in summary.get("notes", ()):
        echo(f"note: {note}", err=True)
    echo(json.dumps(summary, indent=2, allow_nan=False))


def _print_table(summary: dict[str, Any]) -> None:
    """Print name and value in rows, notes in lines, and nested scores under their headings.

    Without scored images the rows of depth are left out: the notes and the scores of paths hold everything.
    """
    from rich.markup import escape
    from rich.table import Table

    from stadia.process.terminal import Terminal

    console = Terminal()
    table = Table(show_header=False, box=None)
    has_rows = summary.get("images") != 0
    for name, value in summary.items() if has_rows else ():
        if not isinstance(value, dict | list):
            shown = f"{value:.6g}" if isinstance(value, float) else "-" if value is None else str(value)
            table.add_row(escape(name), escape(shown))
    if table.row_count:
        console.print(table)
    for note in summary.get("notes", ()):
        console.print(f"note: {note}", markup=False, highlight=False, soft_wrap=True)
    for heading, values in summary.items():
        if isinstance(values, dict):
            for name, nested in values.items():
                console.print(f"\n{heading}: {name}", markup=False, highlight=False)
                _print_table(nested)
