"""`stadia predict`: depth and camera motion of images and videos."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stadia.cli.options import (
    RUNS,
    EngineOption,
    InputSettings,
    OptionalInput,
    StrictOption,
    VerboseOption,
    WorkersOption,
    add_options,
    argument,
    option,
    refuse_options,
)
from stadia.cli.output import echo, print_lines, show_progress, track_loop
from stadia.cli.results import print_batch
from stadia.core.errors import ConfigError
from stadia.predict.options import (
    PredictOptions,
    check_scale_sources,
    refuse_finished,
    split_settings,
    take_default_network,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stadia.core.progress import TrackProgress
    from stadia.predict.network import Network

BatchOut = Annotated[
    Path | None,
    option("A new folder, by default NAME-depth; or an .mcap, .bag or .db3; for many videos also s3://bucket/prefix."),
]
NetworkOption = Annotated[Path | None, option("The network, instead of the first argument: `stadia list networks`.")]

BAG_SUFFIXES = (".mcap", ".bag", ".db3")
"""Suffixes of `--out` that write a bag instead of a folder."""


@add_options(PredictOptions)
def predict(
    context: typer.Context,
    checkpoint: Annotated[
        Path,
        argument(
            "A run, a checkpoint, a model.onnx, or a network's name. For base, the input alone: predict photo.jpg."
        ),
    ],
    source: OptionalInput = None,
    overrides: InputSettings = None,
    out: BatchOut = None,
    network: NetworkOption = None,
    *,
    refine: Annotated[
        int,
        option(
            "First fine-tune a published network on INPUT for so many steps, as `stadia adapt`. Implies --smooth.",
            min=0,
        ),
    ] = 0,
    verbose: VerboseOption = False,
    strict: StrictOption = False,
    workers: WorkersOption = None,
    engine: EngineOption = "local",
    **options: Any,
) -> None:
    """Predict depth and camera motion of photos and videos.

    With INPUT alone, the network of the package predicts: `stadia predict photo.jpg --out depth`.
    Writes depth as npz and 16-bit png, a side-by-side video, a point cloud, and the camera's path.
    A recipe of objects writes boxes, masks and poses; `overlay` writes depth and mask, and needs --background.
    For a folder, glob or list of videos, each video gets a folder; the same command resumes.
    """
    from stadia.data.config import parse_source_options

    checkpoint, source, overrides = take_default_network(checkpoint, source, overrides, network)
    data, settings = split_settings(overrides)
    out = Path(f"{source.resolve().stem}-depth") if out is None else out
    options["scale_from"] = check_scale_sources(options["scale_from"])
    options["smooth"] |= bool(refine)
    chosen = PredictOptions(data=parse_source_options(data), **options)
    if refine:
        refuse_finished(out)
        checkpoint, settings = _refine_network(checkpoint, source, refine, data, settings)
    if _is_batch(source, out, workers):
        found = "no effect on many videos, whose lines are in ledger.jsonl"
        refuse_options(context, ["verbose"], found=found, expected="one photo or video")
        _predict_batch(checkpoint, source, out, chosen, settings, workers=workers, engine=engine, strict=strict)
        return
    refuse_options(context, ["engine"], found="no effect on one photo or video", expected="many videos")
    if out.suffix.lower() in BAG_SUFFIXES:
        idle, found = ("video", "color", "cloud", "glb", "rerun", "verbose"), "no effect on a bag, which has messages"
        refuse_options(context, idle, found=found, expected="--out FOLDER")
    refuse_finished(out)
    from stadia.predict.networks import DEFAULT_NETWORK

    if checkpoint.suffix.lower() != ".onnx":
        chosen.check_backend(is_exported=str(checkpoint) == DEFAULT_NETWORK)
    from stadia.predict.networks.published_networks import HUB

    # a download has bars of its own
    with nullcontext() if str(checkpoint).startswith(HUB) else show_progress("opening the network"):
        from stadia.predict.network import open_network

        opened = open_network(checkpoint, settings)
    with show_progress() as bars, _advise_again(out):
        _predict(opened, source, out, chosen, bars.track, strict=strict, verbose=verbose)


def _predict(
    network: Network,
    source: Path,
    out: Path,
    options: PredictOptions,
    track: TrackProgress,
    *,
    strict: bool,
    verbose: bool,
) -> None:
    from stadia.predict.describe import (
        describe,
        describe_closing,
        describe_network,
        describe_opened,
        list_files,
        summarize,
    )
    from stadia.predict.run import predict_to_folders
    from stadia.predict.verdict import refuse_unusable

    if network.has_own_size and not network.is_exported:
        print_lines(describe_network(network), err=True)
    sessions = network.open_any(source, options)
    if not network.has_own_size:
        print_lines(describe_network(sessions[0].network), err=True)
    print_lines(describe_opened(network, [session.count for session in sessions], options))
    if out.suffix.lower() in BAG_SUFFIXES:
        from stadia.predict.bag_output import predict_to_bag
        from stadia.predict.describe import verdict_lines

        verdicts = {}
        for opened, checks, count in predict_to_bag(network.require_depth(sessions), out, track):
            print_lines([*describe(opened), f"{out}: {count} frames of {opened.name}", *verdict_lines(checks)])
            verdicts[opened.name] = checks
        if strict:
            refuse_unusable(verdicts)
        return
    results = []
    for session, result in predict_to_folders(sessions, out, track):
        if result is None:
            print_lines(describe(session))
            continue
        print_lines(describe(result) if verbose else summarize(result))
        print_lines([list_files(result.folder)])
        results.append(result)
    print_lines(describe_closing(results))
    if strict:
        refuse_unusable({result.name: result.checks for result in results})


@contextmanager
def _advise_again(out: Path) -> Iterator[None]:
    """If the user interrupts a prediction, print what was written and how to start it again."""
    try:
        yield
    except KeyboardInterrupt:
        if out.is_dir():
            count = len([*out.glob("**/depth/*.npz")])
            maps = f"{count} depth map{'s' * (count != 1)} written"
            echo(f"{out} is unfinished, {maps}. The same command starts it again.", err=True)
        raise


def _is_batch(source: Path, out: Path, workers: int | None) -> bool:
    from stadia.data.video.input_camera import is_image_file

    if not is_image_file(source):
        from stadia.data.video.video_list import VideoList
        from stadia.io.input_files import expand_home

        if VideoList().recognizes(expand_home(source)):
            return True
    given: dict[str, object] = {"--workers": workers, "--out": None}
    if ":" in str(out):
        from stadia.io.input_files import is_url, restore_url

        given["--out"] = restore_url(out) if is_url(out) else None
    if used := [f"{name} {value}" for name, value in given.items() if value is not None]:
        expected = "a folder, a quoted glob or a list (.txt, .csv) of videos"
        raise ConfigError(used[0], found=f"INPUT {source}", expected=expected, fix="remove it, or pass a list")
    return False


def _predict_batch(
    network: Path,
    source: Path,
    out: Path,
    options: PredictOptions,
    settings: list[str],
    *,
    workers: int | None,
    engine: str,
    strict: bool,
) -> None:
    from stadia.predict.batch import BatchRequest, predict_batch
    from stadia.training.studies.launch import count_cores_per_process

    count = 1 if workers is None else workers
    batch = BatchRequest(
        network=str(network),
        source=source,
        options=options,
        out=str(out),
        settings=tuple(settings),
        workers=count,
        threads=count_cores_per_process(count) if count else None,
        engine=engine,
    )
    with show_progress() as bars:
        done = predict_batch(batch, bars.track, lambda line: echo(line, err=True))
    print_batch(out, done, strict=strict)


def _refine_network(
    network: Path, source: Path, steps: int, data: list[str], settings: list[str]
) -> tuple[Path, list[str]]:
    from stadia.cli.networks import print_adaptation
    from stadia.training import adapt_network

    adapted = adapt_network(
        str(network), source, steps=steps, out=RUNS, settings=data, network_settings=settings, track=track_loop
    )
    print_adaptation(adapted, source)
    return Path(adapted.network), settings if adapted.kept == "before" else []
