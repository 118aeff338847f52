"""`stadia data`, `camera`, `init`, `prepare` and `camera-height`: make data sets, and what your own video needs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from stadia.cli.arguments import EveryOption, ForceOption, InputArgument, InputSettings, argument, flag, option
from stadia.cli.output import echo, print_lines, show_progress
from stadia.core.errors import ConfigError

MAX_COUNT = 1_000_000

CALIBRATION_HELP = "A calibration of OpenCV, Kalibr, ROS, EuRoC or KITTI, or K: three rows of three numbers."
PAIR_HELP = (
    "Calibration of the rectified pair; or two files. A file with K alone, three rows `fx 0 cx`, `0 fy cy`, `0 0 1`,"
    " needs --baseline."
)

app = typer.Typer(help="Make and draw data sets.", no_args_is_help=True)

OutFolder = Annotated[Path, typer.Option(help="Folder of the data set; an interrupted one is continued.")]
Preset = Annotated[str, typer.Option(help="tiny, demo or full.")]
Seed = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="The same seed gives the same bytes.")]
Workers = Annotated[int | None, typer.Option(min=1, help="Threads; all cores by default.")]
Settings = Annotated[
    list[str] | None, argument("Any other setting, as train=500 or supersampling=1.", metavar="KEY=VALUE")
]


def _split_settings(option: str, value: str | None) -> list[str]:
    """Convert numbers such as "10,1,2" to settings of the splits."""
    from stadia.files.input_files import parse_integer
    from stadia.synthetic.config import MAX_SCENES, SPLITS

    if value is None:
        return []
    numbers = value.split(",")
    counts = [parse_integer(number.strip(), most=MAX_SCENES) for number in numbers]
    if len(counts) != len(SPLITS) or None in counts:
        expected = f"three numbers up to {MAX_SCENES}"
        raise ConfigError(option, found=repr(value), expected=expected, fix=f"for example {option} 10,1,2")
    return [f"{split}={count}" for split, count in zip(SPLITS, counts, strict=True)]


def _render(write: Callable[..., Path], title: str, total: int) -> None:
    """Write a data set with its progress, and print its path. write: `advance` takes the number of finished items."""
    done = 0
    with show_progress() as bars:

        def advance(count: int) -> None:
            nonlocal done
            done += count
            bars.progress(title, done, total)

        path = write(advance=advance)
    echo(f"{path}  (preview: {path.parent / 'preview.png'})")


@app.command()
def roadworld(
    out: OutFolder,
    preset: Preset = "demo",
    seed: Seed = 0,
    worlds: Annotated[
        str | None, typer.Option(metavar="TRAIN,VAL,TEST", help="Numbers of worlds, instead of the preset's.")
    ] = None,
    exposure: Annotated[bool, flag("--exposure", "Let the exposure drift.")] = False,
    noise: Annotated[bool, flag("--noise", "Add a sensor's noise.")] = False,
    workers: Workers = None,
    overrides: Settings = None,
) -> None:
    """Render a synthetic road world: stereo video with exact depth, normals, classes, instances and poses."""
    from stadia.core.config import resolve_config
    from stadia.synthetic.config import ROADWORLD_PRESETS, RoadWorldConfig, find_preset

    extra = _split_settings("--worlds", worlds) + list(overrides or [])
    extra += [f"{name}=true" for name, wanted in (("exposure", exposure), ("noise", noise)) if wanted]
    config = resolve_config(RoadWorldConfig, find_preset(ROADWORLD_PRESETS, preset).model_dump(mode="json"), extra)

    from stadia.synthetic.roadworld.roadworld_writer import write_roadworld

    write = partial(write_roadworld, config, out, seed=seed, workers=workers)
    _render(write, "rendering RoadWorld", sum(config.counts.values()) * config.frames)


@app.command()
def roomworld(
    out: OutFolder,
    preset: Preset = "demo",
    seed: Seed = 0,
    rooms: Annotated[
        str | None, typer.Option(metavar="TRAIN,VAL,TEST", help="Numbers of rooms, instead of the preset's.")
    ] = None,
    workers: Workers = None,
    overrides: Settings = None,
) -> None:
    """Render furnished rooms and corridors: video of a hand-held camera with exact depth and poses."""
    from stadia.core.config import resolve_config
    from stadia.synthetic.config import ROOMWORLD_PRESETS, RoomWorldConfig, find_preset

    extra = _split_settings("--rooms", rooms) + list(overrides or [])
    config = resolve_config(RoomWorldConfig, find_preset(ROOMWORLD_PRESETS, preset).model_dump(mode="json"), extra)

    from stadia.synthetic.roomworld.roomworld_writer import write_roomworld

    write = partial(write_roomworld, config, out, seed=seed, workers=workers)
    _render(write, "rendering RoomWorld", sum(config.counts.values()) * config.frames)


@app.command()
def tableworld(
    out: OutFolder,
    preset: Preset = "demo",
    seed: Seed = 0,
    tables: Annotated[
        str | None, typer.Option(metavar="TRAIN,VAL,TEST", help="Numbers of tables, instead of the preset's.")
    ] = None,
    workers: Workers = None,
    overrides: Settings = None,
) -> None:
    """Render objects on tables: images with exact masks, depth, poses and sizes."""
    from stadia.core.config import resolve_config
    from stadia.synthetic.config import TABLEWORLD_PRESETS, TableWorldConfig, find_preset

    extra = _split_settings("--tables", tables) + list(overrides or [])
    config = resolve_config(TableWorldConfig, find_preset(TABLEWORLD_PRESETS, preset).model_dump(mode="json"), extra)

    from stadia.synthetic.tableworld.tableworld_writer import write_tableworld

    write = partial(write_tableworld, config, out, seed=seed, workers=workers)
    _render(write, "rendering TableWorld", sum(config.counts.values()) * config.views)


@app.command()
def foregrounds(out: OutFolder, seed: Seed = 0, workers: Workers = None, overrides: Settings = None) -> None:
    """Render cut-out objects with alpha for pasting onto backgrounds: FOLDER/SPLIT/OBJECT/VIEW.png, license CC0."""
    from stadia.core.config import resolve_config
    from stadia.synthetic.config import CutoutConfig

    config = resolve_config(CutoutConfig, {}, list(overrides or []))

    from stadia.synthetic.tableworld.tableworld_writer import write_cutouts

    write = partial(write_cutouts, config, out, seed=seed, workers=workers)
    _render(write, "rendering cut-outs", sum(config.counts.values()) * config.views)


@app.command()
def overlay(
    out: Annotated[Path | None, option("Folder to write to; an interrupted one is continued.")] = None,
    sheet: Annotated[Path | None, option("Write only a PNG overview of any set (path=FOLDER).")] = None,
    count: Annotated[int, typer.Option(min=1, max=MAX_COUNT, help="Images to train on.")] = 10_000,
    val: Annotated[
        int, typer.Option(min=0, max=MAX_COUNT, help="Images to validate on, and to test where there is such a split.")
    ] = 500,
    seed: Seed = 0,
    workers: Workers = None,
    overrides: Annotated[list[str] | None, argument("As height=128, or data.height=128.", metavar="KEY=VALUE")] = None,
    force: ForceOption = False,
) -> None:
    """Paste cut-outs onto backgrounds with depth, write images, depth and masks, and report overlaps of the splits."""
    from stadia.core.config import resolve_config
    from stadia.dataloading.config import OverlayDataConfig
    from stadia.files.output_files import check_replaceable

    if (out is None) == (sheet is None):
        found = "both" if out else "neither"
        raise ConfigError("overlay", found=found, expected="--out or --sheet", fix="pass one of them")
    settings = [word.removeprefix("data.") for word in overrides or []]  # keys of `stadia train` work here too
    config = resolve_config(OverlayDataConfig, {}, [f"samples={count}", f"val_samples={val}", *settings])
    if sheet is not None:
        from stadia.recipes.base.config import list_paths

        sheet = check_replaceable(sheet, "overview", inputs=list_paths(config), force=force)

    from stadia.overlay.data import draw_overlays, write_overlay_set

    with show_progress() as bars:
        if sheet is not None:
            print_lines(draw_overlays(config, sheet, seed, bars.progress))
        elif out is not None:
            print_lines(write_overlay_set(config, out, seed, workers, bars.progress))


@app.command()
def show(
    data: Annotated[Path, argument("Images of objects: stadia's own layout, BOP, NOCS, KITTI.")],
    split: Annotated[str, argument("Split of DATA, such as train, test, training.")],
    out: Annotated[Path, typer.Option(help="Folder of the drawings.")],
    images: Annotated[int, typer.Option(min=1, help="Largest number of images, evenly spread over the split.")] = 16,
    format: Annotated[str, typer.Option(help="Format of DATA: objects, bop, nocs or kitti.")] = "auto",
) -> None:
    """Draw the labels of objects on their images: boxes, axes, classes and masks."""
    from stadia.files.output_files import fill_new_folder
    from stadia.objectpose.object_pose_scores import draw_labels

    with fill_new_folder(out) as folder:
        names = [file.name for file in draw_labels(data, split, folder, images, format)]
    for name in names:
        echo(out / name)


@app.command()
def survey(
    videos: Annotated[Path, argument("A folder, a quoted glob, or a list (.txt, .csv) of videos.")],
    overrides: InputSettings = None,
    out: Annotated[Path | None, option("A new .csv with a row for each video.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, max=256, help="Videos at once; all cores by default.")] = None,
) -> None:
    """Survey many videos in parallel: size, length, camera, faults. Exits with 1 where a video cannot be used."""
    import os

    from stadia.core.config import resolve_config
    from stadia.datasets.config import SourceOptions
    from stadia.datasets.open_dataset import check_path_exists
    from stadia.datasets.video.video_list import read_entries
    from stadia.datasets.video.video_survey import format_table, summarize_survey, survey_videos
    from stadia.files.atomic_files import write_text
    from stadia.files.paths import expand_home
    from stadia.predict.requests import parse_source_options

    videos = expand_home(videos)
    check_path_exists(videos)
    if out is not None and (out.suffix.lower() != ".csv" or out.exists()):
        found = f"{out}, which exists" if out.exists() else f"'{out.name}'"
        raise ConfigError("--out", found=found, expected="a new .csv", fix="choose another name")
    options = resolve_config(SourceOptions, parse_source_options(overrides or []))
    entries = read_entries(videos)
    with show_progress() as bars:
        rows = survey_videos(entries, options, workers=workers or os.cpu_count() or 1, progress=bars.progress)
    if out is not None:
        write_text(out, format_table(rows))
    print_lines(summarize_survey(rows))
    if any(row.fault for row in rows):
        raise typer.Exit(1)


@app.command()
def shard(
    source: Annotated[Path, argument("A data set, a video, or a folder, glob or list of videos.", metavar="SOURCE")],
    url: Annotated[str, argument("A folder, or a URL: s3://bucket/prefix.", metavar="URL")],
    overrides: InputSettings = None,
    format: Annotated[str, typer.Option(help="Format of SOURCE; `stadia list datasets` lists them.")] = "auto",
    size: Annotated[str | None, option("Resize to WIDTHxHEIGHT; by default each recording keeps its size.")] = None,
    encoding: Annotated[str, typer.Option(help="png (exact), jpeg (smaller), raw (fastest).")] = "png",
    shard_mb: Annotated[int, typer.Option(min=1, max=4096, help="Megabytes of a shard.")] = 64,
) -> None:
    """Write a data set as shards with an index, into a folder or a store, from which trainings read."""
    from stadia.datasets.shards.shard_source import ShardRequest, shard_dataset
    from stadia.predict.requests import parse_size, parse_source_options

    if encoding not in ("png", "jpeg", "raw"):
        raise ConfigError("--encoding", found=f"'{encoding}'", expected="png, jpeg or raw", fix="choose one of them")
    request = ShardRequest(
        source=source,
        url=url,
        format=format,
        options=parse_source_options(overrides or []),
        size=None if size is None else parse_size(size),
        encoding=encoding,  # type: ignore[arg-type]
        shard_bytes=shard_mb << 20,
    )
    with show_progress() as bars:
        print_lines(shard_dataset(request, bars.progress))


def camera(
    source: InputArgument,
    fov: Annotated[
        float | None,
        typer.Option(min=1, max=179, help="Field of view, left to right edge, degrees.", show_default=False),
    ] = None,
    focal_px: Annotated[float | None, typer.Option(min=2, help="Focal length, pixels.", show_default=False)] = None,
    focal_mm: Annotated[
        float | None, typer.Option(min=1, help='"35 mm equivalent" of the lens, mm.', show_default=False)
    ] = None,
    calibration: Annotated[Path | None, option(CALIBRATION_HELP)] = None,
    name: Annotated[str | None, typer.Option("--camera", help="Name of the camera in --calibration.")] = None,
    force: ForceOption = False,
) -> None:
    """Write the camera of INPUT beside it, once: every command then reads it. By default from the file's metadata."""
    from stadia.apps.camera_file import CameraRequest, write_camera_file

    request = CameraRequest(
        source=source,
        fov_deg=fov,
        focal_px=focal_px,
        focal_mm=focal_mm,
        calibration=calibration,
        name=name,
        force=force,
    )
    print_lines(write_camera_file(request))


def map_video(
    source: Annotated[Path, argument("A video, or a folder of its frames.", metavar="INPUT")],
    overrides: InputSettings = None,
    out: Annotated[Path | None, option("The map's folder; beside INPUT by default, drive.map for drive.mp4.")] = None,
    masks: Annotated[Path | None, option("Of `stadia prepare INPUT --masks`: cars and people are left out.")] = None,
) -> None:
    """Recover camera, path and sparse points of INPUT from matched features. The same command resumes."""
    from stadia.datasets.config import CacheConfig, CameraConfig, SourceOptions
    from stadia.mapping.run_map import MapRequest, run_map
    from stadia.predict.requests import parse_source_options

    options = parse_source_options(overrides or [])
    if others := sorted(options.keys() - {"camera", "cache"}):
        keys = ", ".join(f"data.{key}" for key in others)
        fix = "remove it: a map takes every frame" if set(others) <= SourceOptions.model_fields.keys() else "remove it"
        raise ConfigError(keys, found="a value", expected="data.camera or data.cache", fix=fix)
    request = MapRequest(
        source=source,
        camera=CameraConfig(**options.get("camera", {})),
        out=out,
        masks=masks,
        cache=CacheConfig(**options.get("cache", {})),
    )
    try:
        with show_progress() as bars:
            print_lines(run_map(request, bars.track))
    except KeyboardInterrupt:
        print_lines(["note: what is done is kept: the same command goes on from there"])
        raise


def init(
    left: Annotated[Path, argument("Video or folder of images of the left camera.")],
    right: Annotated[Path, argument("Video or folder of images of the right camera.")],
    calibrations: Annotated[list[Path], argument(PAIR_HELP, metavar="CALIB")],
    out: Annotated[Path, option("A new folder.")],
    cameras: Annotated[str | None, option("Names in CALIB, left first: P2,P3.", metavar="LEFT,RIGHT")] = None,
    baseline: Annotated[
        float | None, typer.Option(min=1e-4, help="Distance of the cameras, metres, at most 10.")
    ] = None,
    every: EveryOption = 1,
    fps: Annotated[
        float | None, typer.Option(min=1e-3, help="Frames a second of LEFT and RIGHT, before --every.", metavar="HZ")
    ] = None,
    poses: Annotated[Path | None, option("Poses of the left camera: a KITTI or TUM row for each frame.")] = None,
) -> None:
    """Write a rectified stereo pair as a data set of stadia: images, cameras and baseline. Nothing is overwritten."""
    names = tuple((cameras or "").split(","))
    if cameras is not None and (len(names) != 2 or not all(names)):
        raise ConfigError("--cameras", found=f"'{cameras}'", expected="two names", fix="for example --cameras P2,P3")

    from stadia.apps.stereo_folder import StereoRequest, write_stereo_folder

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
    )
    with show_progress() as bars:
        print_lines(write_stereo_folder(request, bars.track))


def prepare(
    source: InputArgument,
    overrides: InputSettings = None,
    masks: Annotated[bool, flag("--masks", "Make masks of road and objects of every frame.")] = False,
    by: Annotated[
        str, typer.Option(help="A .tflite, a COCO .json, a folder of masks, or a transformers network.")
    ] = "facebook/mask2former-swin-tiny-cityscapes-panoptic",
    road_by: Annotated[str | None, typer.Option(help="The same for the road alone, where --by has none.")] = None,
    out: Annotated[Path | None, option("A folder; INPUT's name with -masks by default.")] = None,
    heights: Annotated[Path | None, option("A learned size prior that predicts the height of each car.")] = None,
    every: EveryOption = 1,
) -> None:
    """Make masks of road and objects for your own video. The same command resumes. Check its sheet before training."""
    from stadia.datasets.open_dataset import check_path_exists
    from stadia.files.paths import expand_home
    from stadia.predict.requests import parse_source_options

    check_path_exists(expand_home(source))
    if not masks:
        raise ConfigError("prepare", found="nothing to prepare", expected="--masks", fix="see `stadia prepare --help`")
    options = parse_source_options(overrides or [])

    from stadia.apps.masks import MasksRequest, prepare_masks

    folder = out or Path(f"{source.stem}-masks")
    request = MasksRequest(
        source=source, by=by, out=folder, options=options, every=every, heights=heights, road_by=road_by
    )
    with show_progress() as bars:
        print_lines(prepare_masks(request, bars.track))


def camera_height(
    source: Annotated[Path, argument("A video, images or a dataset with masks; KITTI boxes.", metavar="INPUT")],
    overrides: Annotated[
        list[str] | None,
        argument("masks=FOLDER, priors=mixed, horizon=edges: docs/how-to/camera-height.md", metavar="KEY=VALUE"),
    ] = None,
    out: Annotated[Path | None, option("A folder for the result and its images.")] = None,
    every: EveryOption = 1,
    checkpoint: Annotated[str | None, option("A run or network whose depth gives height and scale.")] = None,
    depth: Annotated[Path | None, option("Depth maps of any program, up to a factor.")] = None,
    depth_factor: Annotated[float | None, option("Integers a metre of --depth.")] = None,
    labels: Annotated[Path | None, option("A new folder for this depth in metres, to train on.")] = None,
    force: ForceOption = False,
) -> None:
    """Estimate the camera's height from cars and people of known heights: by the horizon, or by a depth."""
    from stadia.apps.camera_height.config import CameraHeightRequest, parse_camera_height_config

    config = parse_camera_height_config(overrides or [])
    if out is not None:
        from stadia.files.output_files import check_output_folder
        from stadia.recipes.base.config import list_paths

        inputs = [source, *list_paths(config), *([] if depth is None else [depth])]
        out = check_output_folder(out, "camera_height.json", "camera height", inputs=inputs, force=force)

    from stadia.apps.camera_height.run_camera_height import run_camera_height

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
