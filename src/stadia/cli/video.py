"""Commands for your own video: its camera, map and masks; heights of camera and objects; metres for other programs'
results.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from stadia.cli.options import (
    EngineOption,
    EveryOption,
    ForceOption,
    InputArgument,
    InputSettings,
    StrictOption,
    WorkersOption,
    argument,
    flag,
    number,
    option,
    refuse_options,
)
from stadia.cli.output import echo, print_lines, show_progress
from stadia.cli.results import print_batch
from stadia.core.errors import ConfigError
from stadia.predict.options import check_scale_sources

CALIBRATION_HELP = "A calibration file, such as of OpenCV, ROS or Metashape, or K: three rows of three numbers."
FIT_HELP = "How the images differ in shape from the images of --calibration."


def camera(
    source: InputArgument,
    fov: Annotated[float | None, number("Field of view, left to right edge, degrees.", min=1, max=179)] = None,
    focal_px: Annotated[float | None, number("Focal length, pixels.", min=2)] = None,
    focal_mm: Annotated[float | None, number('"35 mm equivalent" of the lens, mm.', min=1)] = None,
    calibration: Annotated[Path | None, option(CALIBRATION_HELP)] = None,
    name: Annotated[str | None, typer.Option("--camera", help="Name of the camera in --calibration.")] = None,
    fit: Annotated[
        Literal["turned-right", "turned-left", "cropped", "stretched"] | None,
        typer.Option(help=FIT_HELP, show_default=False),
    ] = None,
    force: ForceOption = False,
) -> None:
    """Write the camera of a video or photo once, for every command. By default from the file's metadata."""
    from stadia.data.camera_file import CameraRequest, write_camera_file

    request = CameraRequest(
        source=source,
        fov_deg=fov,
        focal_px=focal_px,
        focal_mm=focal_mm,
        calibration=calibration,
        name=name,
        fit=fit,
        force=force,
    )
    print_lines(write_camera_file(request))


def calibrate(
    source: Annotated[Path, argument("The video, photo or folder, or its camera file.", metavar="CAMERA")],
    lengths: Annotated[
        list[str], argument("point=X,Y:METRES, or distance=X,Y..X,Y:METRES; @PICTURE if there are several.")
    ],
    pictures: Annotated[
        list[Path] | None,
        typer.Option("--from", help="A photo of this camera with the lengths. Repeat for more.", show_default=False),
    ] = None,
    network: Annotated[str, typer.Option("--network", help="The network whose metres are measured.")] = "base",
) -> None:
    """Measure a network's metres by a tape measure, and keep them with the camera for every command."""
    from stadia.predict.describe import describe_calibration
    from stadia.predict.network import open_network
    from stadia.predict.tape import TapeRequest, calibrate_camera

    request = TapeRequest(camera=source, texts=lengths, pictures=pictures or ())
    with show_progress() as bars:
        for _ in bars.track(range(1), 1, "measuring"):
            calibration = calibrate_camera(open_network(network), request)
    print_lines(describe_calibration(calibration))


def map_source(
    context: typer.Context,
    source: Annotated[Path, argument("A video, photos, a folder of videos, a bag, or a dataset.", metavar="INPUT")],
    overrides: InputSettings = None,
    out: Annotated[Path | None, option("The map's folder; by default drive.map for drive.mp4.")] = None,
    views: Annotated[bool, flag("--views", "Also write undistorted keyframes, for nerfstudio and gsplat.")] = False,
    depth: Annotated[str | None, option("Also write --views with their depth by this network, such as base.")] = None,
    masks: Annotated[Path | None, option("Masks of `stadia masks`, to leave out cars and people.")] = None,
    each: Annotated[bool, flag("--each", "Map each video of a folder, glob or list by itself.")] = False,
    workers: WorkersOption = None,
    engine: EngineOption = "local",
) -> None:
    """Recover camera, path and sparse points of a video, photos, or a dataset. The same command resumes.

    `data.frames=[100,400]` takes some of the frames, `data.recordings=[06]` a recording of a dataset.
    """
    if each:
        _refuse_one_video(context, source, "each")
        refuse_options(context, ["masks"], found="no effect on many videos", expected="the column masks of a list")
        _map_each(source, overrides or [], out, has_views=views, depth=depth, workers=workers, engine=engine)
        return
    refuse_options(context, ["workers", "engine"], found="no effect on one map", expected="--each for a map each")
    try:
        with show_progress() as bars:
            for _ in bars.track(range(1), 1, "loading"):
                from stadia.core.config import resolve_config
                from stadia.data.config import CacheConfig, CameraConfig, parse_source_options
                from stadia.io.input_files import expand_home
                from stadia.sfm.describe_map import describe_map
                from stadia.sfm.frame_stream import is_panorama_video
                from stadia.sfm.map_video import map_video

                options = parse_source_options(overrides or [])
                predict_depth = None if depth is None else _open_depth(depth)
                is_panorama = "camera" not in options and is_panorama_video(expand_home(source))
            if is_panorama:
                from stadia.sfm import panorama_map

                panorama_map.refuse_options(source, {**options, "--masks": masks, "--depth": depth})
                found = panorama_map.map_panorama(expand_home(source), out=out, has_views=views, track=bars.track)
                print_lines(panorama_map.describe_panorama_map(found))
                return
            mapped = map_video(
                source,
                camera=resolve_config(CameraConfig, options.pop("camera", {})),
                format=options.pop("format", "auto"),
                cache=resolve_config(CacheConfig, options.pop("cache", {})),
                options=options,
                out=out,
                masks=masks,
                has_views=views or depth is not None,
                predict_depth=predict_depth,
                track=bars.track,
            )
            print_lines(describe_map(mapped))
    except KeyboardInterrupt:
        print_lines(["note: stopped. The same command resumes"])
        raise


def _refuse_one_video(context: typer.Context, source: Path, name: str) -> None:
    """Raise ConfigError for an option of many videos, if the input is none of them."""
    from stadia.data.video.video_list import VideoList
    from stadia.io.input_files import check_path_exists, expand_home

    check_path_exists(expand_home(source))
    if not VideoList().recognizes(expand_home(source)):
        expected = "a folder, a quoted glob or a list (.txt, .csv) of videos"
        refuse_options(context, [name], found=f"no effect on {source}", expected=expected)


def _map_each(
    source: Path,
    settings: list[str],
    out: Path | None,
    *,
    has_views: bool,
    depth: str | None,
    workers: int | None,
    engine: str,
) -> None:
    from stadia.core.config import resolve_config
    from stadia.data.config import CacheConfig, CameraConfig, parse_source_options
    from stadia.sfm.map_batch import MapBatchRequest, map_videos

    options = parse_source_options(settings)
    request = MapBatchRequest(
        source=source,
        out=Path(f"{source.stem}-maps") if out is None else out,
        camera=resolve_config(CameraConfig, options.pop("camera")) if "camera" in options else None,
        format=options.pop("format", "auto"),
        cache=resolve_config(CacheConfig, options.pop("cache", {})),
        options=options,
        has_views=has_views,
        depth=depth,
        open_depth=None if depth is None else _open_depth,
        workers=1 if workers is None else workers,
        engine=engine,
    )
    with show_progress() as bars:
        done = map_videos(request, bars.track, lambda line: echo(line, err=True))
    print_batch(request.out, done)


def _open_depth(name: str) -> Callable[[Any, Any], Any]:
    """Return the function from an image and its K to depth by a network. Processes open their own."""
    from stadia.predict.network import open_network

    network = open_network(name)
    return lambda image, K: network.predict(image, K=K).depth


def masks(
    context: typer.Context,
    source: InputArgument,
    overrides: InputSettings = None,
    by: Annotated[
        str,
        typer.Option(
            help="A .tflite or .onnx, polygons of COCO, labelme, VIA, CVAT, Supervisely or Label Studio, a folder"
            " of masks, or a hub network."
        ),
    ] = "facebook/mask2former-swin-tiny-cityscapes-panoptic",
    road_by: Annotated[str | None, typer.Option(help="The same for the road alone.")] = None,
    out: Annotated[Path | None, option("A folder; NAME-masks by default.")] = None,
    heights: Annotated[Path | None, option("A size prior of `stadia prior train`.")] = None,
    every: EveryOption = 1,
    workers: WorkersOption = None,
    engine: EngineOption = "local",
) -> None:
    """Make masks of road and objects. The same command resumes. Check the sheet before training.

    With --workers, processes work on the videos of a folder, glob or list.
    """
    from stadia.data.config import parse_source_options
    from stadia.io.input_files import check_path_exists, expand_home

    check_path_exists(expand_home(source))
    options = parse_source_options(overrides or [])

    from stadia.predict.masks import MasksRequest, prepare_masks

    folder = out or Path(f"{source.stem}-masks")
    request = MasksRequest(
        source=source, by=by, out=folder, options=options, every=every, heights=heights, road_by=road_by
    )
    if workers is not None:
        _refuse_one_video(context, source, "workers")

        from stadia.predict.masks_batch import mask_videos

        with show_progress() as bars:
            done = mask_videos(request, bars.track, lambda line: echo(line, err=True), workers=workers, engine=engine)
        print_batch(folder, done)
        return
    refuse_options(context, ["engine"], found="no effect without --workers", expected="--workers for many videos")
    with show_progress() as bars:
        print_lines(prepare_masks(request, bars.track))


def camera_height(
    context: typer.Context,
    source: Annotated[Path, argument("A video, images or a dataset, with masks or KITTI boxes.", metavar="INPUT")],
    overrides: Annotated[
        list[str] | None,
        argument("masks=FOLDER, priors=mixed, horizon=edges: docs/how-to/camera-height.md", metavar="KEY=VALUE"),
    ] = None,
    out: Annotated[Path | None, option("A folder for the result and its images.")] = None,
    every: EveryOption = 1,
    checkpoint: Annotated[str | None, option("A run or network whose depth gives height and scale.")] = None,
    depth: Annotated[Path | None, option("Depth maps of any program, up to a factor.")] = None,
    depth_factor: Annotated[float | None, number("Integers a metre of --depth.")] = None,
    labels: Annotated[Path | None, option("A new folder for this depth in metres, to train on.")] = None,
    force: ForceOption = False,
) -> None:
    """Measure the camera's height from cars and people. By the horizon, or by a depth."""
    from stadia.scale.camera_height.config import CameraHeightRequest, parse_camera_height_config

    config = parse_camera_height_config(overrides or [])
    if out is None:
        refuse_options(context, ["force"], found="no effect without --out", expected="a folder of --out")
    else:
        from stadia.io.output_files import check_output_folder
        from stadia.training.recipes.base.config import list_paths

        inputs = [source, *list_paths(config), *([] if depth is None else [depth])]
        out = check_output_folder(out, "camera_height.json", "camera height", inputs=inputs, force=force)

    from stadia.scale.camera_height.run_camera_height import run_camera_height

    with show_progress() as bars:
        request = CameraHeightRequest(
            source=source,
            config=config,
            every=every,
            out=out,
            checkpoint=checkpoint,
            depth=depth,
            depth_factor=depth_factor,
            labels=labels,
        )
        print_lines(run_camera_height(request, bars.track))


PAIR_HELP = (
    "Calibration of the pair, one or two files. A file with K alone, `fx 0 cx`, `0 fy cy`, `0 0 1`, needs --baseline."
)

SYNC_HELP = "For two videos that were started by hand: find their offset, and rectify them. Needs --baseline."


def stereo(
    left: Annotated[Path, argument("Video or folder of images of the left camera.")],
    right: Annotated[Path, argument("Video or folder of images of the right camera.")],
    calibrations: Annotated[list[Path], argument(PAIR_HELP, metavar="CALIB")],
    out: Annotated[Path, option("A new folder.")],
    cameras: Annotated[str | None, option("Names in CALIB, left first: P2,P3.", metavar="LEFT,RIGHT")] = None,
    baseline: Annotated[
        float | None, number("Distance of the cameras, metres, at most 10.", min=1e-4, show_default=True)
    ] = None,
    every: EveryOption = 1,
    fps: Annotated[
        float | None,
        number("Frames a second of LEFT and RIGHT, before --every.", min=1e-3, metavar="HZ", show_default=True),
    ] = None,
    poses: Annotated[Path | None, option("Poses of the left camera: a KITTI or TUM row for each frame.")] = None,
    sync: Annotated[str | None, option(SYNC_HELP, metavar="auto|sound|motion|SECONDS")] = None,
) -> None:
    """Write a rectified stereo pair as a dataset."""
    names = tuple((cameras or "").split(","))
    if cameras is not None and (len(names) != 2 or not all(names)):
        raise ConfigError("--cameras", found=f"'{cameras}'", expected="two names", fix="for example --cameras P2,P3")

    from stadia.sfm.stereo_folder import StereoRequest, write_stereo_folder

    pair = (names[0], names[1]) if cameras is not None else None
    request = StereoRequest(
        left=left,
        right=right,
        calibrations=calibrations,
        out=out,
        cameras=pair,
        baseline_m=baseline,
        every=every,
        fps=fps,
        poses=poses,
        sync=sync,
    )
    with show_progress() as bars:
        print_lines(write_stereo_folder(request, bars.track))


prior = typer.Typer(help="Train, score and measure heights of cars.", no_args_is_help=True)


@prior.command("train")
def train_prior(
    data: Annotated[Path, argument("RoadWorld, or a folder of DVM-CAR.")],
    out: Annotated[Path, option("File of the prior.")] = Path("size_prior.safetensors"),
    steps: Annotated[int, typer.Option(min=1, max=1_000_000, help="Updates.")] = 900,
    encoder: Annotated[str, option("An encoder of timm.")] = "resnet10t",
    every: EveryOption = 1,
    seed: Annotated[int, typer.Option(min=0, help="Of the training.")] = 0,
    force: ForceOption = False,
) -> None:
    """Train a network that predicts the height of a car from its image; score it on unseen cars."""
    from stadia.io.output_files import check_replaceable

    out = check_replaceable(out, "size prior", inputs=[data], force=force)

    from stadia.training.size_prior import run_train

    with show_progress() as bars:
        print_lines(run_train(data, out, steps=steps, encoder=encoder, every=every, seed=seed, track=bars.track))


@prior.command("evaluate")
def evaluate_prior(
    weights: Annotated[Path, argument("A file of `stadia prior train`.")],
    data: Annotated[Path, argument("RoadWorld, KITTI's object data, or DVM-CAR.")],
    every: EveryOption = 1,
) -> None:
    """Score a size prior on unseen cars: RoadWorld's split test, or KITTI's boxes."""
    from stadia.training.size_prior import run_evaluate

    with show_progress() as bars:
        print_lines(run_evaluate(weights, data, every, bars.track))


@prior.command("measure")
def measure_prior(
    data: Annotated[Path, argument("KITTI's object data, with label_2.")],
    masks: Annotated[Path | None, option("Masks of its images: only boxes that they find count.")] = None,
    every: EveryOption = 1,
) -> None:
    """Print mean and deviation of labeled heights by class."""
    from stadia.training.size_prior_crops import describe_heights, measure_heights

    print_lines(describe_heights(measure_heights(data, masks, every), data.name))


def scale(
    context: typer.Context,
    result: Annotated[
        Path,
        argument(
            "A COLMAP model, a trajectory, a PLY file, a folder of depth maps, or transforms.json.", metavar="THING"
        ),
    ],
    overrides: InputSettings = None,
    scale_from: Annotated[
        list[str] | None,
        option(
            "Measure metres by: height=1.5, distance=A..B:METRES (images, or x,y,z points), gps=FILE (GPX, NMEA, "
            "photos), speed=10, baseline=0.54, and for depth the sources of `predict`. Repeat to compare."
        ),
    ] = None,
    images: Annotated[Path | None, option("The images of THING: a folder, a video, or a dataset.")] = None,
    out: Annotated[Path | None, option("The copy in metres; THING.metres by default.")] = None,
    strict: StrictOption = False,
) -> None:
    """Measure metres for what another program made, and write a copy in metres.

    The copy has the same format. A receipt (.receipt.json) next to it states the factor and its deviation.
    """
    from stadia.data.config import parse_source_options
    from stadia.scale.scale_receipt import describe_receipt
    from stadia.scale.scale_result import scale_result

    sources = check_scale_sources(scale_from)
    if images is None:
        refuse_options(context, ["overrides"], found="no effect without --images", expected="settings of --images")
    scaled = scale_result(result, sources, out=out, images=images, data=parse_source_options(overrides or []))
    receipt = scaled.receipt
    print_lines(describe_receipt(receipt))
    print_lines([
        f"{scaled.copy}: {scaled.result.kind} in metres, {receipt.factor:.6g} times the original,"
        f" +- {receipt.deviation:.1%}: {receipt.verdict}",
        f"receipt: {scaled.receipt_file}",
    ])  # fmt: skip
    if strict and receipt.verdict == "unusable":
        raise typer.Exit(1)
