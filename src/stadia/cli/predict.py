"""`stadia predict`: depth and camera motion of images and videos."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stadia.cli.arguments import (
    RUNS,
    BackendOption,
    EveryOption,
    FlipOption,
    InputSettings,
    MotionOption,
    OptionalInput,
    PrecisionOption,
    ScaleOption,
    SizeOption,
    SteadyOption,
    StrictOption,
    argument,
    check_scale_sources,
    flag,
    option,
    take_default_network,
)
from stadia.cli.output import echo, make_tracker, print_lines, show_progress
from stadia.core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from stadia.predict.requests import PredictRequest
    from stadia.training.checkpoint import Checkpoint

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
    opened = open_network(checkpoint, source, request.options, settings, out)
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
    from stadia.adapt import adapt_network
    from stadia.cli.adapt import print_adaptation
    from stadia.predict.requests import refuse_finished

    refuse_finished(request.out)
    adapted = adapt_network(
        str(network),
        request.source,
        steps=steps,
        out=RUNS,
        settings=options,
        network_settings=settings,
        track=make_tracker(),
    )
    print_adaptation(adapted, request.source)
    return Path(adapted.network), settings if adapted.kept == "before" else []


def open_network(
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
