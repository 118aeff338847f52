"""`stadia evaluate`: score a network, depth maps, a trajectory, or poses of objects."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stadia.cli.arguments import ForceOption, JsonOption, VerboseOption, add_options, argument, flag, number, option
from stadia.cli.data import WING_COMMANDS
from stadia.cli.output import echo, print_lines, show_progress
from stadia.cli.results import check_choice, check_score_file, print_scores, write_score_file
from stadia.core.errors import ConfigError
from stadia.predict.options import (
    EvaluateOptions,
    PredictOptions,
    check_scale_sources,
    parse_source_options,
    split_settings,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

NETWORK = "CHECKPOINT DATA"


def parse_parts_of_frames(by: str | None) -> tuple[str, ...]:
    """Return the groups of pixels ("distance", "region") that are scored separately, from the text of `--by`.

    Raises ConfigError for "class", because frames have no classes of pixels.
    """
    from stadia.evaluation.protocols import parse_parts

    parts = parse_parts(by)
    if "class" in parts:
        expected, fix = "distance and region", f"score files instead: {DEPTH}"
        raise ConfigError("--by", found=f"class with {NETWORK}", expected=expected, fix=fix)
    return parts


def score_network(
    checkpoint: Path, data: Path, options: EvaluateOptions, settings: list[str], out: Path | None
) -> dict[str, Any]:
    """Predict and score labeled data with a network; return the scores by name. Options are checked before slow
    imports.

    checkpoint: run, checkpoint or name of the network.
    data: the labeled data.
    options: options of the evaluation.
    settings: `network.KEY=VALUE` of a network without a run.
    out: folder for the predictions; None takes the default of `stadia.predict.tasks.evaluate_network`.

    Raises ConfigError for options that exclude each other.
    """
    from stadia.evaluation.protocols import find_protocol

    if options.frames is not None and options.every != 1:
        fix = "remove --every"
        raise ConfigError("--every", found="used together with --frames", expected="one of the two", fix=fix)
    find_protocol(options.protocol)

    from stadia.networks.published_networks import describe_licence
    from stadia.predict.network import open_network
    from stadia.predict.tasks import evaluate_network

    network = open_network(checkpoint, settings)
    if not network.has_own_size and (line := describe_licence(network.licence)):
        echo(line, err=True)
    with show_progress() as bars:
        done = evaluate_network(network, data, options, out=out, track=bars.track, progress=bars.progress)
    for path in done.files:
        echo(f"note: wrote {path}", err=True)
    return dict(done.summary)


DEPTH = "--depth DIR --reference DIR"


DepthFactorOption = Annotated[
    float | None,
    number("Integers a metre in depth files: 256 KITTI, 1000 mm, 5000 TUM; the protocol's by default.", min=1e-6),
]
ReferenceFactorOption = Annotated[
    float | None, number("The same for --reference; --depth-factor by default.", min=1e-6)
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
    """Folders of depth maps and of their ground truth, and how to read them.

    depth: the depth maps to score.
    reference: the ground truth.
    depth_scale: name of the kind of scale of the maps; None takes metres, or the scale in the record.
    crop: name of the crop of the image that the maps show; None is the whole image.
    depth_factor: for integer maps, their value per metre; None takes the protocol's.
    reference_factor: the same for the ground truth.
    """

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
    find_protocol: str | None = None,
) -> dict[str, Any]:
    """Score depth maps, write the requested files, and return the scores by name.

    maps: the folders.
    protocol: name of the depth protocol.
    by: groups of pixels that are scored separately, as the text of `--by`; None for none.
    classes: folder of classes of pixels for "class" in `by`; else None.
    error_maps: new folder for drawings of the errors; None draws none.
    scores: score file to write; None writes none.
    find_protocol: published figures whose protocol is searched; None searches none.

    Raises ConfigError for options that do not fit, DataError for maps that cannot be read.
    """
    from stadia.core.types import DepthScale
    from stadia.evaluation import protocols
    from stadia.evaluation.depth_score import open_ground_truth_folder, pair_with_truth, score_depth
    from stadia.evaluation.predictions_folder import Predictions
    from stadia.evaluation.protocol_search import parse_published, search_protocols
    from stadia.evaluation.recording_scores import read_labeled_maps
    from stadia.geometry.cameras import IMAGE_CROPS

    published = None if find_protocol is None else parse_published(find_protocol)
    rules = protocols.find_protocol(protocol, protocols.parse_parts(by))
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
        searched = None
        if published is not None:
            predictions, truth, _ = pair_with_truth(predictions, truth)
            maps_with_truth = partial(read_labeled_maps, [(predictions, truth)], rules)
            searched = search_protocols(
                published, maps_with_truth, predictions.depth_scale, count=len(truth), track=bars.track
            )
    if scores is not None:
        write_score_file(scores, score.to_json())
    if error_maps is not None:
        from stadia.evaluation.plots.charts import write_error_maps
        from stadia.io.output_files import fill_new_folder

        predictions, truth, _ = pair_with_truth(predictions, truth)
        with fill_new_folder(error_maps) as folder:
            drawn = write_error_maps(folder, predictions, truth, rules, score)
        echo(f"note: wrote {', '.join(path.name for path in drawn)} into {error_maps}", err=True)
    return {**score.summary(), **({} if searched is None else {"protocols": searched.to_json()})}


TRAJECTORY = "--trajectory EST --reference REF"


FormatOption = Annotated[
    str | None, option("Format of --trajectory, else by its content: kitti, tum, euroc, transforms or colmap.")
]
MaxDifferenceOption = Annotated[
    float,
    number("Largest time difference of associated poses, in seconds.", name="--max-difference", show_default=True),
]
RpeOption = Annotated[
    float | None, number("Also RPE over so many seconds, such as 1 (TUM); from frame to frame by default.", min=1e-6)
]


def score_trajectory_file(
    trajectory: Path,
    reference: Path,
    *,
    format: str | None,
    reference_format: str | None,
    align: str,
    max_difference_s: float,
    rpe_interval_s: float | None,
    scores: Path | None,
    plot: Path | None,
    as_json: bool,
) -> dict[str, Any]:
    """Score a camera trajectory in a file, write the requested files, and return the scores by name.

    trajectory: file of the estimated poses.
    reference: file of the true poses.
    format, reference_format: names of the formats; None detects them.
    align: alignment to the reference: none, scale, se3 or sim3.
    max_difference_s: largest time difference of two poses that are compared, seconds.
    rpe_interval_s: interval of the relative pose error, seconds; None compares successive frames.
    scores: score file to write; None writes none.
    plot: drawing to write; None draws none.
    as_json: whether the scores are printed as JSON, so that no headline is printed.

    Raises ConfigError for a wrong option, DataError for a file that cannot be read.
    """
    from stadia.evaluation.recording_scores import score_trajectory
    from stadia.io.records.formats import TrajectoryFormat
    from stadia.io.records.read import read_trajectory
    from stadia.io.records.trajectory import add_recorded_frames
    from stadia.metrics.trajectory_metrics import PathAlignment

    formats = [
        None if text is None else TrajectoryFormat(check_choice(name, text, [*TrajectoryFormat]))
        for name, text in (("--format", format), ("--reference-format", reference_format))
    ]
    alignment = PathAlignment(check_choice("--align", align, [*PathAlignment]))
    estimated = read_trajectory(trajectory, formats[0])
    truth = read_trajectory(reference, formats[1], is_reference=True)
    estimated = add_recorded_frames(trajectory, estimated, truth)
    score = score_trajectory(estimated, truth, alignment, max_difference_s, rpe_interval_s)
    if not as_json:
        echo(score.headline)
    if scores is not None:
        write_score_file(scores, score.to_json())
    if plot is not None:
        from stadia.core.types import DepthScale
        from stadia.evaluation.plots.charts import draw_paths

        draw_paths(plot, score.paths_from_start, DepthScale.METRES, title=score.headline, gaps=score.gaps)
        echo(f"note: wrote {plot}", err=True)
    return score.summary()


def check_drawing(plot: Path, inputs: Iterable[Path | None], *, force: bool) -> Path:
    """Return the file of the drawing, after a check that it may be written.

    plot: the file.
    inputs: files that must not be overwritten.
    force: whether a file that stadia did not write may be replaced.

    Raises ConfigError for a format other than .png and .svg, StadiaError for a file that must not be replaced.
    """
    from stadia.io.output_files import check_replaceable

    if plot.suffix not in (".png", ".svg"):
        fix = f"--plot {plot.stem or 'paths'}.png"
        raise ConfigError("--plot", found=f"'{plot.name}'", expected="a name that ends in .png or .svg", fix=fix)
    return check_replaceable(plot, "drawing of paths", inputs=inputs, force=force)


ByOption = Annotated[str | None, option("Also score parts of images: distance, region, class, or distance,region.")]

OBJECTS = "--objects RESULTS --reference DATA"
OPTIONS = {
    (NETWORK,): ("frames", "every", "held_out", "motion", "size", "flip", "smooth", "scale_from", "out"),
    (DEPTH,): ("classes", "error_maps", "depth_scale", "crop", "depth_factor", "reference_factor"),
    (TRAJECTORY,): ("format", "reference_format", "align", "max_difference_s", "rpe_seconds", "plot"),
    (OBJECTS,): ("split", "held_out_of"),
    (NETWORK, DEPTH): ("protocol", "by", "find_protocol"),
    (DEPTH, TRAJECTORY, OBJECTS): ("reference", "scores", "force"),
}
FORMS_OF = {option: forms for forms, options in OPTIONS.items() for option in options}


ProtocolOption = Annotated[
    str | None,
    option("Depth protocol, of `stadia list protocols`, or options such as crop=eigen,max=50; metric by default."),
]
FindProtocolOption = Annotated[
    str | None, option("List the protocols that give a published score: .115 (AbsRel), or abs_rel=.115,a1=.877.")
]
DepthScaleOption = Annotated[
    str | None,
    option("Scale of other programs' maps: metres (default), up-to-scale, affine-inverse (disparity), affine-depth."),
]


def group_by_form(command: Callable[..., None]) -> Callable[..., None]:
    """Group the options in the help of a command by the form of the call that they belong to."""
    for name, parameter in inspect.signature(command).parameters.items():
        forms = FORMS_OF.get(name, ())
        if len(forms) == 1:
            parameter.annotation.__metadata__[0].rich_help_panel = forms[0]
    return command


@group_by_form
@add_options(PredictOptions, "every", "motion", "size", "flip", "smooth", "scale_from")
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
    protocol: ProtocolOption = None,
    find_protocol: FindProtocolOption = None,
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
    held_out: Annotated[bool, flag("--held-out", "Only frames of DATA that did not train CHECKPOINT.")] = False,
    *,
    out: Annotated[Path | None, option("Folder for predictions of CHECKPOINT; in its run by default.")] = None,
    scores: Annotated[Path | None, option("Also write a score file with every image.")] = None,
    plot: Annotated[Path | None, option("Also draw both paths: a .png or .svg.")] = None,
    force: ForceOption = False,
    verbose: VerboseOption = False,
    as_json: JsonOption = False,
    **options: Any,
) -> None:
    """Score a network, depth maps, a trajectory or objects."""
    forms = {NETWORK: (checkpoint, data), DEPTH: (depth, reference), TRAJECTORY: (trajectory, reference)}
    forms[OBJECTS] = (objects, reference)
    truth = _require_truth(context, forms)
    inputs = (checkpoint, data, depth, trajectory, objects, reference, held_out_of)
    options["scale_from"] = check_scale_sources(options["scale_from"])
    scores = check_score_file(scores, inputs, force=force)
    protocol = protocol or ("metric" if find_protocol is None else "relative")
    if depth is not None:
        maps = DepthMaps(
            depth=depth,
            reference=truth,
            depth_scale=depth_scale,
            crop=crop,
            depth_factor=depth_factor,
            reference_factor=reference_factor or depth_factor,
        )
        summary = score_depth_maps(
            maps, protocol, by, classes=classes, error_maps=error_maps, scores=scores, find_protocol=find_protocol
        )
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
            plot=None if plot is None else check_drawing(plot, inputs, force=force),
            as_json=as_json,
        )
    elif objects is not None:
        summary = WING_COMMANDS.load("score-objects")(objects, truth, split, held_out_of, scores=scores)
    else:
        assert checkpoint is not None
        given, settings = split_settings(overrides)
        chosen = EvaluateOptions(
            data=parse_source_options(given),
            protocol=protocol,
            by=parse_parts_of_frames(by),
            frames=frames,
            held_out=held_out,
            find_protocol=find_protocol,
            **{**options, "motion": options["motion"] or "aligned"},
        )
        summary = score_network(checkpoint, truth, chosen, settings, out)
    if "protocols" in summary and not as_json:
        print_lines(describe_protocol_search(summary["protocols"], has_all=verbose))
    else:
        print_scores(summary, as_json=as_json, verbose=verbose)


MAX_LISTED_PROTOCOLS = 5
"""Most protocols that are printed without `--verbose`."""


def describe_protocol_search(found: Mapping[str, Any], *, has_all: bool) -> list[str]:
    """Return lines about the protocols that reproduce published figures.

    found: JSON of a `ProtocolSearch`.
    has_all: whether all matches are listed, with the schemes that are equivalent to each.
    """
    wanted = ", ".join(f"{metric} {text}" for metric, text in found["published"].items())
    matches = found["matches"]
    tried = f"{found['tried']} protocols tried on {found['images']} images, {found['distinct']} distinct results"
    lines = [f"{len(matches)} results give {wanted} ({tried}; {found['expected_by_chance']:.2g} expected by chance)"]
    shown = matches if has_all else matches[:MAX_LISTED_PROTOCOLS]
    if not matches:
        lines[0] = f"no protocol gives {wanted} ({tried}); the nearest:"
        shown = [found["nearest"]]
    for match in shown:
        figures = ", ".join(f"{metric} {match[metric]:.6g}" for metric in found["published"])
        lines.append(f"{figures}: {match['protocol']}")
        equal = match["equivalent"]
        more = f"{len(equal)} equivalent" if equal else ""
        option = match.get("option", "no option of stadia evaluate")
        lines.append(f"  {'; '.join(filter(None, (option, more)))}")
        lines += [f"    = {scheme}" for scheme in equal] if has_all else []
    if len(matches) > len(shown):
        lines.append(f"... and {len(matches) - len(shown)} more: --verbose shows them; another figure of the paper, "
                     "such as rmse=4.8, excludes some")  # fmt: skip
    return lines


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
