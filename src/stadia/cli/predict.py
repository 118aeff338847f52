"""`stadia predict`, `odometry`, `activations` and `export`: use a trained checkpoint."""

from __future__ import annotations

import shlex
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stadia.cli.arguments import (
    RUNS,
    BackendOption,
    CheckpointArgument,
    EveryOption,
    FlipOption,
    ForceOption,
    InputArgument,
    InputSettings,
    MotionOption,
    PrecisionOption,
    ScaleOption,
    SizeOption,
    SteadyOption,
    StrictOption,
    argument,
    check_scale_sources,
    flag,
    option,
)
from stadia.cli.output import echo, make_tracker, print_lines, show_progress
from stadia.core.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from stadia.predict.requests import PredictRequest
    from stadia.training.checkpoint import Checkpoint


def take_default_network(
    network: Path, source: Path | None, settings: list[str] | None
) -> tuple[Path, Path, list[str] | None]:
    """Return network, input and settings of a command line that may name the input alone: the network is base then."""
    from stadia.models import DEFAULT_NETWORK

    if source is None:
        return Path(DEFAULT_NETWORK), network, settings
    if "=" in str(source) and not source.exists():
        return Path(DEFAULT_NETWORK), network, [str(source), *(settings or [])]
    return network, source, settings


DefaultNetwork = Annotated[Path, argument("A checkpoint, a run's folder, or a network's name; by default base.")]
OptionalInput = Annotated[Path | None, argument("An image, a folder, a video, or a dataset.", metavar="INPUT")]
BatchOut = Annotated[
    Path | None, option("A new folder, NAME-depth here by default; of many videos also a URL: s3://bucket/prefix.")
]


def predict(
    checkpoint: Annotated[
        Path, argument("A checkpoint, a run's folder, a model.onnx, or a network's name; by default base.")
    ],
    source: OptionalInput = None,
    overrides: InputSettings = None,
    out: BatchOut = None,
    every: EveryOption = 1,
    motion: MotionOption = None,
    size: SizeOption = None,
    flip: FlipOption = False,
    steady: SteadyOption = False,
    video: Annotated[bool, typer.Option("--video/--no-video", help="Write the side-by-side video.")] = True,
    cloud: Annotated[bool | None, flag("--cloud/--no-cloud", "Write the point cloud (default: yes).")] = None,
    glb: Annotated[Path | None, option("Also write points and path as a .glb, for browsers and Blender.")] = None,
    rerun: Annotated[Path | None, option("Also write a recording (.rrd) for the viewer of rerun.")] = None,
    background: Annotated[
        Path | None, option("Of overlay: INPUT without what was pasted, an image or a folder.")
    ] = None,
    backend: BackendOption = None,
    precision: PrecisionOption = "float32",
    scale_from: ScaleOption = None,
    refine: Annotated[
        int, option("Fine-tune a published network on INPUT for so many steps first, as adapt; then --steady.", min=0)
    ] = 0,
    strict: StrictOption = False,
    engine: Annotated[str | None, option("What predicts many videos: local (default), ray, slurm.")] = None,
    workers: Annotated[
        int | None, typer.Option(min=0, max=4096, help="Processes, actors or jobs for many videos.", show_default=False)
    ] = None,
    slurm: Annotated[
        list[str] | None, option("Parameters of submitit, for --engine slurm.", metavar="KEY=VALUE")
    ] = None,
) -> None:
    """Predict depth and camera motion, objects, or composite depth and mask, depending on the recipe of CHECKPOINT.

    With INPUT alone, the network of the package predicts: `stadia predict photo.jpg --out depth`.
    objectpose: boxes, masks and poses of objects, as drawings, json and csv.
    overlay: depth and foreground mask of an image with its --background.
    Other recipes: depth as npz and 16-bit png, a side-by-side video, a point cloud, the path and its plot.
    A folder, glob or list of videos: a folder for each, and a ledger; the same command resumes, failed ones included.
    """
    from stadia.predict.requests import PredictRequest, parse_source_options, refuse_finished, split_settings

    checkpoint, source, overrides = take_default_network(checkpoint, source, overrides)
    options, settings = split_settings(overrides)
    out = Path(f"{source.resolve().stem}-depth") if out is None else out
    request = PredictRequest(
        source=source,
        out=out,
        options=parse_source_options(options),
        every=every,
        motion=motion,
        size=size,
        flip=flip,
        steady=steady,
        video=video,
        cloud=cloud,
        background=background,
        backend=backend,
        precision=precision,
        strict=strict,
        scale_from=check_scale_sources(scale_from),
        glb=glb,
        rerun=rerun,
    )
    if refine:
        checkpoint, settings = _refine_network(checkpoint, request, refine, options, settings)
        request = replace(request, steady=True)
    if _is_batch(source, out, engine=engine, workers=workers):
        _predict_batch(checkpoint, request, settings, engine or "local", workers, slurm or [])
        return
    if checkpoint.suffix.lower() == ".onnx":  # needs no torch
        refuse_finished(out)
        from stadia.predict.predict_exported import run_predict_exported

        with show_progress() as bars:
            print_lines(run_predict_exported(checkpoint, request, bars.track))
        return
    from stadia.evaluation.backends import check_backend

    check_backend(request.backend_choice)
    opened = _open_network(checkpoint, source, request.options, settings, out)
    from stadia.predict.task import run_predict

    with show_progress() as bars, _advise_again(out):
        print_lines(run_predict(opened, request, bars.track))


@contextmanager
def _advise_again(out: Path) -> Iterator[None]:
    """Print, where the user interrupts a prediction, that the same command starts it again."""
    try:
        yield
    except KeyboardInterrupt:
        if out.is_dir():
            echo(f"{out}: unfinished; the same command starts it again", err=True)
        raise


def _is_batch(source: Path, out: Path, *, engine: str | None, workers: int | None) -> bool:
    """Return whether the input is many videos. Raises ConfigError where an option of these is used with another."""
    from stadia.datasets.video.video_list import VideoList
    from stadia.files.paths import expand_home
    from stadia.files.remote_store import is_url, restore_url

    if VideoList().recognizes(expand_home(source)):
        return True
    given = {"--engine": engine, "--workers": workers, "--out": restore_url(out) if is_url(out) else None}
    if used := [f"{name} {value}" for name, value in given.items() if value is not None]:
        expected = "a folder, a quoted glob or a list (.txt, .csv) of videos"
        raise ConfigError(used[0], found=f"INPUT {source}", expected=expected, fix="leave it out, or pass a list")
    return False


def _predict_batch(
    network: Path, request: PredictRequest, settings: list[str], engine: str, workers: int | None, slurm: list[str]
) -> None:
    """Predict many videos; exit with 1 where one failed, or with --strict where one is unusable."""
    from stadia.apps.batch_prediction.predict_batch import BatchRequest, BatchSummary, predict_batch
    from stadia.apps.studies.launch import count_cores_per_process, slurm_options

    count = 1 if workers is None else workers
    batch = BatchRequest(
        network=str(network),
        request=request,
        out=str(request.out),
        settings=tuple(settings),
        engine=engine,
        workers=count,
        threads=count_cores_per_process(count) if engine == "local" and count else None,
        engine_options=slurm_options(slurm),
    )
    with show_progress() as bars:
        for line in predict_batch(batch, bars.track):
            if not isinstance(line, BatchSummary):
                echo(line, err=True)
                continue
            counted = f"{line.done} done ({line.before} of them before), {line.failed} failed"
            echo(f"{request.out}: {counted}; ledger.jsonl has a line for each")
            if not line.is_complete:
                echo("the same command tries the failed ones again", err=True)
            if line.unusable:
                echo(f"{line.unusable} of them have unusable predictions, see `verdict` in the ledger", err=True)
            if not line.is_complete or (request.strict and line.unusable):
                raise typer.Exit(1)


def _refine_network(
    network: Path, request: PredictRequest, steps: int, options: list[str], settings: list[str]
) -> tuple[Path, list[str]]:
    """Fine-tune a network on the input; return it with its settings, or the folder of the run where that is better."""
    from stadia.apps.adapt import adapt_network
    from stadia.predict.requests import refuse_finished

    refuse_finished(request.out)
    lines = adapt_network(
        str(network),
        request.source,
        out=RUNS,
        length=steps,
        settings=options,
        network_settings=settings,
        track=make_tracker(),
    )
    while True:
        try:
            echo(next(lines))
        except StopIteration as ended:
            return Path(ended.value), settings if ended.value == str(network) else []


def _open_network(
    network: Path, source: Path, options: Mapping[str, Any], settings: list[str], out: Path | None
) -> Checkpoint:
    """Open a checkpoint, or a network without a run for the images of an input; print what it is.

    Finished predictions in `out` are refused before torch is imported, which takes seconds.
    """
    from stadia.models.network_names import is_network_name, refuse_misspelt_network
    from stadia.predict.requests import describe_checkpoint, refuse_finished
    from stadia.training.checkpoint import Checkpoint

    if not is_network_name(str(network)) and not settings:
        refuse_misspelt_network(str(network))
        opened = Checkpoint.open(network)
        echo(describe_checkpoint(opened), err=True)
        if out is not None:
            refuse_finished(out)
        return opened
    if out is not None:
        refuse_finished(out)
    from stadia.predict.prediction_inputs import open_network_for
    from stadia.recipes.base.network_checkpoint import describe_network

    opened = open_network_for(network, source, options, settings)
    echo(describe_checkpoint(opened), err=True)
    if line := describe_network(opened):
        echo(line, err=True)
    return opened


def odometry(
    checkpoint: DefaultNetwork,
    source: OptionalInput = None,
    overrides: InputSettings = None,
    out: Annotated[Path | None, option("A new folder; in CHECKPOINT's run by default.")] = None,
    method: Annotated[str, typer.Option(help="Method; `stadia list odometry-methods` lists them.")] = "refined",
    size: SizeOption = None,
    flip: FlipOption = False,
    backend: BackendOption = None,
    precision: PrecisionOption = "float32",
    strict: StrictOption = False,
    scale_from: ScaleOption = None,
) -> None:
    """Track the camera: write its path as KITTI and TUM rows, a plot and a point map, and score it.

    With INPUT alone, the depth is that of the network of the package: `stadia odometry drive.mp4 --out path`.
    """
    from stadia.evaluation.backends import TORCH, BackendChoice, check_backend
    from stadia.predict.requests import OdometryRequest, parse_source_options, split_settings

    checkpoint, source, overrides = take_default_network(checkpoint, source, overrides)
    choice = BackendChoice(backend or TORCH, precision)
    check_backend(choice)
    given, settings = split_settings(overrides)
    request = OdometryRequest(
        source=source,
        options=parse_source_options(given),
        method=method,
        size=size,
        out=out,
        backend_choice=choice,
        strict=strict,
        flip=flip,
        scale_from=check_scale_sources(scale_from),
    )
    without_poses = {name: value for name, value in request.options.items() if name != "poses"}
    opened = _open_network(checkpoint, source, without_poses, settings, None)
    from stadia.apps.run_odometry import run_odometry

    with show_progress() as bars:
        print_lines(run_odometry(opened, request, bars.track))


def activations(
    checkpoint: CheckpointArgument,
    source: InputArgument,
    overrides: InputSettings = None,
    out: Annotated[Path, option("The new .mp4 file.")] = ...,  # type: ignore[assignment]
    every: EveryOption = 1,
    over_steps: Annotated[bool, flag("--over-steps", "One image over the checkpoints of training.keep_every.")] = False,
    force: ForceOption = False,
) -> None:
    """Show the activations of CHECKPOINT's network for INPUT: the four most variable channels of each stage."""
    from stadia.evaluation.plots.activation_steps import write_activations_over_steps
    from stadia.evaluation.plots.activations import write_activation_video
    from stadia.files.output_files import check_replaceable
    from stadia.predict.prediction_inputs import add_training_options, open_inputs
    from stadia.predict.requests import parse_source_options
    from stadia.recipes.base.build_recipe import load_recipe
    from stadia.training.checkpoint import Checkpoint

    options = parse_source_options(overrides or [])
    if out.suffix.lower() != ".mp4":
        raise ConfigError("--out", found=f"'{out.name}'", expected="a new .mp4", fix="choose another name")
    out = check_replaceable(out, "video of activations", inputs=[checkpoint, source], force=force)
    opened = Checkpoint.open(checkpoint)
    recipe = load_recipe(opened)
    predictor = recipe.predictor()
    if predictor is None:
        found, expected = f"'{recipe.recipe}'", "a network that predicts depth"
        raise CheckpointError(checkpoint, found=found, expected=expected, fix="pass another")
    given, *more = open_inputs(source, every=every, **add_training_options(opened, source, options))
    if more:
        found = f"{1 + len(more)} recordings ({', '.join(recording.name for recording in (given, *more[:3]))})"
        raise ConfigError("INPUT", found=found, expected="one", fix="choose it by data.recordings")
    if over_steps:
        frame = next(iter(given.frames))
        check_replaceable(out.with_suffix(".png"), "sheet of activations", inputs=[checkpoint, source], force=force)

        def open_step(step: Checkpoint) -> tuple[Any, Any]:
            network = load_recipe(step)
            return network, network.predictor()

        steps, sheet = write_activations_over_steps(checkpoint, open_step, frame, out)
        echo(f"{out}: {steps} checkpoints; {sheet}")
        return
    with show_progress() as bars:
        frames = bars.track(given.frames, given.count, f"running {given.name}")
        count = write_activation_video(recipe, predictor, frames, out, given.rate_hz)
    echo(f"{out}: {count} frames")


def export(
    checkpoint: CheckpointArgument,
    overrides: Annotated[list[str] | None, argument("Keys of a published network.", metavar="KEY=VALUE")] = None,
    out: Annotated[Path, option("A new file: model.onnx, or model.pt2.")] = ...,  # type: ignore[assignment]
    force: ForceOption = False,
) -> None:
    """Write a trained depth network as ONNX or torch.export archive, and compare the file with the checkpoint."""
    from stadia.evaluation.io.predictions_folder import SCALE_DESCRIPTIONS
    from stadia.files.output_files import check_replaceable
    from stadia.predict.export import export_checkpoint
    from stadia.recipes.base.network_checkpoint import describe_network, open_network

    check_replaceable(out, "exported network", inputs=[checkpoint], force=force)
    opened = open_network(checkpoint, settings=overrides or ())
    if line := describe_network(opened):
        echo(line, err=True)
    about, compared = export_checkpoint(opened, out, lambda step: echo(step, err=True), force=force)
    echo(f"{out}: {out.stat().st_size / 1e6:.1f} MB, image (B, 3, H, W) to inverse_depth (B, 1, H, W)")
    echo(f"  any B; H and W multiples of {about.stride}, trained at {about.width}x{about.height}")
    for comparison in compared:
        echo(f"  {comparison}")
    if out.suffix == ".onnx":
        echo(f"run it: stadia predict {shlex.quote(str(out))} INPUT --out DIR")
    echo(f"depth scale: {SCALE_DESCRIPTIONS[about.depth_scale]}")
    echo(f"verdict on record of its run: {about.describe_verdict() or 'none'}")


def import_network(
    source: Annotated[Path, argument("A folder of Monodepth2, or a file of DPT or MiDaS.")],
    overrides: Annotated[list[str] | None, argument("Keys of the network.", metavar="KEY=VALUE")] = None,
    kind: Annotated[str, typer.Option("--as", help="What wrote it: monodepth2, dpt or midas.")] = "monodepth2",
    out: Annotated[Path, option("A new .safetensors file.")] = ...,  # type: ignore[assignment]
) -> None:
    """Read published weights of another program, mapped whole, into a checkpoint that every command takes."""
    from stadia.evaluation.io.predictions_folder import SCALE_DESCRIPTIONS
    from stadia.models.published_networks import describe_licence
    from stadia.recipes.base.network_checkpoint import import_network

    recipe = import_network(source, kind, out, overrides or ())
    millions = sum(parameter.numel() for parameter in recipe.parameters()) / 1e6
    echo(f"{out}: {millions:.1f} M parameters, {recipe.width}x{recipe.height}")
    if line := describe_licence(recipe.model.licence):
        echo(line)
    echo(f"depth scale: {SCALE_DESCRIPTIONS[recipe.depth_scale]}")
    echo(f"run it: stadia predict {shlex.quote(str(out))} INPUT --out DIR")


def adapt(
    network: Annotated[str, argument("A published network, a folder of one, or module:Class; by default base.")],
    video: OptionalInput = None,
    overrides: Annotated[list[str] | None, argument("Keys of selfsup and network.*", metavar="KEY=VALUE")] = None,
    minutes: Annotated[float, typer.Option(min=0.1, help="Time of the whole command, with map and figures.")] = 5.0,
    scope: Annotated[str, typer.Option(help="What is trained: decoder, head, adapters or all.")] = "decoder",
    out: Annotated[Path, typer.Option(help="The folder for runs.")] = Path("runs"),
) -> None:
    """Fine-tune NETWORK on one video without labels, compare it with the start, and keep the better weights."""
    started_s = time.perf_counter()
    from stadia.predict.requests import split_settings
    from stadia.process.terminal import Terminal, announce_step

    chosen_network, video, overrides = take_default_network(Path(network), video, overrides)
    network = network if chosen_network == Path(network) else str(chosen_network)
    settings, network_settings = split_settings(overrides)
    with announce_step(Terminal(stderr=True), "loading the libraries"):
        from stadia.apps.adapt import SCOPES, adapt_network
        from stadia.launch.time_budget import TimeBudget

    chosen = next((name for name in SCOPES if name == scope), None)
    if chosen is None:
        expected = f"one of {', '.join(SCOPES)}"
        raise ConfigError("--scope", found=f"'{scope}'", expected=expected, fix="choose one of them")

    print_lines(
        adapt_network(
            network,
            video,
            out=out,
            length=TimeBudget(minutes, started_s),
            scope=chosen,
            settings=settings,
            network_settings=network_settings,
            track=make_tracker(),
        )
    )
