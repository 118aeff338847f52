"""`stadia evaluate`: score a network, depth maps, a trajectory, or poses of objects."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stadia.cli.data import WING_COMMANDS
from stadia.cli.options import add_options_of_inputs, argument, is_given, refuse_options, take_options
from stadia.cli.output import echo, print_lines, show_progress
from stadia.cli.results import check_choice, check_score_file, print_scores, write_score_file
from stadia.core.errors import ConfigError
from stadia.predict.options import EvaluateOptions, about, check_scale_sources, split_settings

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, kw_only=True)
class ScoringOptions:
    """Options of `stadia evaluate` for everything that it scores."""

    verbose: bool = field(default=False, metadata=about("Show all evidence, notes and reasons."))
    as_json: bool = field(default=False, metadata=about("Print only JSON.", name="--json"))


@dataclass(frozen=True, kw_only=True)
class NetworkScoring(EvaluateOptions, ScoringOptions):
    """Options of `stadia evaluate` for a network: those of `stadia.evaluate`, and where its predictions are written."""

    out: Path | None = field(
        default=None, metadata=about("Folder for predictions of CHECKPOINT; in its run by default.")
    )


@dataclass(frozen=True, kw_only=True)
class FileScoring(ScoringOptions):
    """Options of `stadia evaluate` for files of any program, which are compared with a reference."""

    reference: Path | None = field(default=None, metadata=about("The ground truth: a folder, or a file."))
    scores: Path | None = field(default=None, metadata=about("Also write a score file with every image."))
    force: bool = field(default=False, metadata=about("Replace a file that stadia did not write."))


MIN_FACTOR = 1e-6
"""Smallest factor of integers a metre, and smallest interval in seconds: above zero."""


@dataclass(frozen=True, kw_only=True)
class DepthScoring(FileScoring):
    """Options of `stadia evaluate` for depth maps: the maps, how to read them, and the rules."""

    depth: Path | None = field(
        default=None,
        metadata=about("A folder of depth maps: uint16 png, tiff, npz, npy, pfm, exr; or one npy or npz (N, H, W)."),
    )
    protocol: str = field(default="metric", metadata=about("Rules of the scores, as for a network."))
    find_protocol: str | None = field(default=None, metadata=about("Published scores, as for a network."))
    depth_scale: str | None = field(
        default=None,
        metadata=about(
            "Scale of other programs' maps: metres (default), up-to-scale, affine-inverse (disparity), affine-depth."
        ),
    )
    depth_factor: float | None = field(
        default=None,
        metadata=about(
            "Integers a metre in depth files: 256 KITTI, 1000 mm, 5000 TUM; the protocol's by default.",
            least=MIN_FACTOR,
        ),
    )
    reference_factor: float | None = field(
        default=None, metadata=about("The same for --reference; --depth-factor by default.", least=MIN_FACTOR)
    )
    by: tuple[str, ...] = field(default=(), metadata=about("Parts of images, as for a network; and class."))
    classes: Path | None = field(
        default=None, metadata=about("For --by class: a folder of PNG with classes, named as the ground truth.")
    )
    error_maps: Path | None = field(
        default=None, metadata=about("Draw the errors of the best and the worst maps, as for a network.")
    )
    crop: str | None = field(
        default=None, metadata=about("Part of the image in other programs' maps: kb; all by default.")
    )


@dataclass(frozen=True, kw_only=True)
class TrajectoryScoring(FileScoring):
    """Options of `stadia evaluate` for a camera trajectory."""

    trajectory: Path | None = field(default=None, metadata=about("A file of camera-to-world poses."))
    format: str | None = field(
        default=None,
        metadata=about("Format of --trajectory, else by its content: kitti, tum, euroc, transforms or colmap."),
    )
    reference_format: str | None = field(
        default=None, metadata=about("Format of --reference; by its content by default.")
    )
    align: str = field(default="se3", metadata=about("Alignment to the reference: none, scale, se3 or sim3."))
    max_difference_s: float = field(
        default=0.01,
        metadata=about("Largest time difference of associated poses, in seconds.", name="--max-difference"),
    )
    rpe_seconds: float | None = field(
        default=None,
        metadata=about(
            "Also RPE over so many seconds, such as 1 (TUM); from frame to frame by default.", least=MIN_FACTOR
        ),
    )
    plot: Path | None = field(default=None, metadata=about("Also draw both paths: a .png or .svg."))


@dataclass(frozen=True, kw_only=True)
class ObjectScoring(FileScoring):
    """Options of `stadia evaluate` for boxes and poses of objects."""

    objects: Path | None = field(default=None, metadata=about("Predicted boxes: a BOP csv, or KITTI label files."))
    split: str | None = field(default=None, metadata=about("Split of the objects in --reference; test by default."))
    held_out_of: Path | None = field(
        default=None, metadata=about("A run whose held-out part of --reference is scored.")
    )


NETWORK, DEPTH = "CHECKPOINT DATA", "--depth DIR --reference DIR"
TRAJECTORY, OBJECTS = "--trajectory EST --reference REF", "--objects RESULTS --reference DATA"
INPUTS: dict[str, type[ScoringOptions]] = {
    NETWORK: NetworkScoring,
    DEPTH: DepthScoring,
    TRAJECTORY: TrajectoryScoring,
    OBJECTS: ObjectScoring,
}
"""Options of each form of the command."""


@add_options_of_inputs(INPUTS)
def evaluate(
    context: typer.Context,
    checkpoint: Annotated[Path | None, argument("A checkpoint, a run's folder, or a published network.")] = None,
    data: Annotated[Path | None, argument("Recordings with ground truth, or labeled objects.")] = None,
    overrides: Annotated[list[str] | None, argument("How to open DATA: data.split=test", metavar="KEY=VALUE")] = None,
    **options: Any,
) -> None:
    """Score a network, depth maps, a trajectory or objects."""
    scored = {NETWORK: checkpoint, **{title: options[title[2:].split()[0]] for title in (DEPTH, TRAJECTORY, OBJECTS)}}
    requested = [title for title, path in scored.items() if path is not None]
    if len(requested) != 1:
        found, expected = " and ".join(requested) or "nothing to score", f"one of: {', '.join(scored)}"
        raise ConfigError("stadia evaluate", found=found, expected=expected, fix="see stadia evaluate --help")
    options["scale_from"] = check_scale_sources(options["scale_from"])
    if options["find_protocol"] is not None and not is_given(context, "protocol"):
        options["protocol"] = "relative"
    chosen = take_options(context, INPUTS, requested[0], options)
    if chosen.as_json:
        refuse_options(context, ["verbose"], found="no effect on --json, which has all", expected="a table")
    if isinstance(chosen, NetworkScoring):
        assert checkpoint is not None
        summary = score_network(checkpoint, data, chosen, overrides or [])
    else:
        assert isinstance(chosen, FileScoring)
        summary = _score_files(context, chosen)
    if "protocols" in summary and not chosen.as_json:
        print_lines(describe_protocol_search(summary["protocols"], has_all=chosen.verbose))
    else:
        print_scores(summary, as_json=chosen.as_json, verbose=chosen.verbose)


def score_network(checkpoint: Path, data: Path | None, options: NetworkScoring, overrides: list[str]) -> dict[str, Any]:
    """Predict and score labeled data with a network; return the scores by name. Options are checked before slow
    imports.

    checkpoint: run, checkpoint or name of the network.
    data: the labeled data; None raises ConfigError.
    options: options of the evaluation.
    overrides: `data.KEY=VALUE`, and `network.KEY=VALUE` of a network without a run.

    Raises ConfigError for options that exclude each other.
    """
    from stadia.data.config import parse_source_options
    from stadia.evaluation.protocols import find_protocol, parse_parts

    if data is None:
        found, fix = "no DATA", "pass the path of the ground truth"
        raise ConfigError("stadia evaluate", found=found, expected=NETWORK, fix=fix)
    if options.frames is not None and options.every != 1:
        fix = "remove --every"
        raise ConfigError("--every", found="used together with --frames", expected="one of the two", fix=fix)
    parts = parse_parts(",".join(options.by))
    if "class" in parts:  # frames have no classes of pixels
        expected, fix = "distance and region", f"score files instead: {DEPTH}"
        raise ConfigError("--by", found=f"class with {NETWORK}", expected=expected, fix=fix)
    find_protocol(options.protocol)
    given, settings = split_settings(overrides)
    shared = {one.name: getattr(options, one.name) for one in fields(EvaluateOptions)}
    chosen = EvaluateOptions(**{**shared, "data": parse_source_options(given), "by": parts})

    from stadia.predict.network import open_network
    from stadia.predict.networks.published_networks import describe_licence
    from stadia.predict.tasks import evaluate_network

    network = open_network(checkpoint, settings)
    if not network.has_own_size and (line := describe_licence(network.licence)):
        echo(line, err=True)
    with show_progress() as bars:
        done = evaluate_network(network, data, chosen, out=options.out, track=bars.track, progress=bars.progress)
    for path in done.files:
        echo(f"note: wrote {path}", err=True)
    return dict(done.summary)


def _score_files(context: typer.Context, options: FileScoring) -> dict[str, Any]:
    truth = options.reference
    if truth is None:
        title = next(title for title, kind in INPUTS.items() if isinstance(options, kind))
        found, fix = "no --reference", "pass the path of the ground truth"
        raise ConfigError("stadia evaluate", found=found, expected=title, fix=fix)
    is_written = options.scores is not None or (isinstance(options, TrajectoryScoring) and options.plot is not None)
    if not is_written:
        refuse_options(context, ["force"], found="no effect without --scores", expected="a file to write")
    inputs = [truth, *(getattr(options, name, None) for name in ("depth", "trajectory", "objects", "held_out_of"))]
    scores = check_score_file(options.scores, inputs, force=options.force)
    if isinstance(options, DepthScoring):
        return score_depth_maps(truth, options, scores)
    if isinstance(options, TrajectoryScoring):
        plot = None if options.plot is None else check_drawing(options.plot, inputs, force=options.force)
        return score_trajectory_file(truth, options, scores, plot)
    assert isinstance(options, ObjectScoring)
    score_objects = WING_COMMANDS.load("score-objects")
    summary: dict[str, Any] = score_objects(options.objects, truth, options.split, options.held_out_of, scores=scores)
    return summary


def score_depth_maps(reference: Path, options: DepthScoring, scores: Path | None) -> dict[str, Any]:
    """Score depth maps, write the requested files, and return the scores by name.

    reference: the ground truth.
    options: the maps, and how they are read and scored.
    scores: score file to write; None writes none.

    Raises ConfigError for options that do not fit, DataError for maps that cannot be read.
    """
    from stadia.core.types import DepthScale
    from stadia.evaluation import protocols
    from stadia.evaluation.depth_score import open_ground_truth_folder, pair_with_truth, score_depth
    from stadia.evaluation.predictions_folder import Predictions
    from stadia.evaluation.protocol_search import parse_published, search_protocols
    from stadia.evaluation.recording_scores import read_labeled_maps
    from stadia.geometry.cameras import IMAGE_CROPS

    assert options.depth is not None
    published = None if options.find_protocol is None else parse_published(options.find_protocol)
    rules = protocols.find_protocol(options.protocol, protocols.parse_parts(",".join(options.by)))
    classes = options.classes
    if (classes is not None) != ("class" in rules.by):
        found = "--classes without --by class" if classes is not None else "--by class without --classes"
        raise ConfigError("stadia evaluate", found=found, expected="both or neither", fix="add the other one")
    scale, crop = options.depth_scale, options.crop
    depth_scale = None if scale is None else DepthScale(check_choice("--depth-scale", scale, [*DepthScale]))
    shown = None if crop is None else check_choice("--crop", crop, [*IMAGE_CROPS])
    predictions = Predictions.open(options.depth, depth_scale, shown, factor=options.depth_factor)
    truth = open_ground_truth_folder(reference, rules, options.reference_factor or options.depth_factor)
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
    if options.error_maps is not None:
        from stadia.evaluation.plots.error_maps import write_error_maps
        from stadia.io.output_files import fill_new_folder

        predictions, truth, _ = pair_with_truth(predictions, truth)
        with fill_new_folder(options.error_maps) as folder:
            drawn = write_error_maps(folder, {"": (predictions, truth)}, rules, score)
        echo(f"note: wrote {', '.join(path.name for path in drawn)} into {options.error_maps}", err=True)
    return {**score.summary(), **({} if searched is None else {"protocols": searched.to_json()})}


def score_trajectory_file(
    reference: Path, options: TrajectoryScoring, scores: Path | None, plot: Path | None
) -> dict[str, Any]:
    """Score a camera trajectory in a file, write the requested files, and return the scores by name.

    reference: file of the true poses.
    options: the trajectory, and how it is read and compared.
    scores: score file to write; None writes none.
    plot: drawing to write; None draws none.

    Raises ConfigError for a wrong option, DataError for a file that cannot be read.
    """
    from stadia.evaluation.recording_scores import score_trajectory
    from stadia.io.records.formats import TrajectoryFormat
    from stadia.io.records.read import read_trajectory
    from stadia.io.records.trajectory import add_recorded_frames
    from stadia.metrics.trajectory_metrics import PathAlignment

    formats = [
        None if text is None else TrajectoryFormat(check_choice(name, text, [*TrajectoryFormat]))
        for name, text in (("--format", options.format), ("--reference-format", options.reference_format))
    ]
    alignment = PathAlignment(check_choice("--align", options.align, [*PathAlignment]))
    assert options.trajectory is not None
    estimated = read_trajectory(options.trajectory, formats[0])
    truth = read_trajectory(reference, formats[1], is_reference=True)
    estimated = add_recorded_frames(options.trajectory, estimated, truth)
    score = score_trajectory(estimated, truth, alignment, options.max_difference_s, options.rpe_seconds)
    if not options.as_json:
        echo(score.headline)
    if scores is not None:
        write_score_file(scores, score.to_json())
    if plot is not None:
        from stadia.core.types import DepthScale
        from stadia.evaluation.plots.path_chart import draw_paths

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
