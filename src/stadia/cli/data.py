"""Commands of `stadia data`: render, survey and shard datasets."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from stadia.cli.options import InputSettings, argument, option
from stadia.cli.output import echo, print_lines, show_progress
from stadia.core.errors import ConfigError
from stadia.core.registry import Registry

OutFolder = Annotated[Path, typer.Option(help="Folder of the dataset. The same command resumes.")]
Preset = Annotated[str, typer.Option(help="tiny, demo or full.")]
Seed = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="The same seed gives the same bytes.")]
Workers = Annotated[int | None, typer.Option(min=1, help="Threads; all cores by default.")]
Settings = Annotated[list[str] | None, argument("Other settings, such as train=500.", metavar="KEY=VALUE")]


def split_counts(option: str, value: str | None) -> list[str]:
    """Convert the numbers of worlds such as "10,1,2" to settings of the splits train, val and test.

    option: name of the option that an error message names.
    value: the text; None gives no setting.

    Raises ConfigError for anything but three numbers.
    """
    from stadia.io.input_files import parse_integer
    from stadia.synthetic.config import MAX_SCENES, SPLITS

    if value is None:
        return []
    numbers = value.split(",")
    counts = [parse_integer(number.strip(), most=MAX_SCENES) for number in numbers]
    if len(counts) != len(SPLITS) or None in counts:
        expected = f"three numbers up to {MAX_SCENES}"
        raise ConfigError(option, found=repr(value), expected=expected, fix=f"for example {option} 10,1,2")
    return [f"{split}={count}" for split, count in zip(SPLITS, counts, strict=True)]


def render(write: Callable[..., Path], title: str, total: int) -> None:
    """Write a dataset while its progress is shown, and print its path.

    write: writes the dataset and returns its path; it calls `advance` with the number of finished images.
    title: name in the progress display.
    total: number of images.
    """
    done = 0
    with show_progress() as bars:

        def advance(count: int) -> None:
            nonlocal done
            done += count
            bars.progress(title, done, total)

        path = write(advance=advance)
    echo(f"{path}  (preview: {path.parent / 'preview.png'})")


def roadworld(
    out: OutFolder,
    preset: Preset = "demo",
    seed: Seed = 0,
    worlds: Annotated[
        str | None, typer.Option(metavar="TRAIN,VAL,TEST", help="Numbers of worlds, instead of the preset's.")
    ] = None,
    workers: Workers = None,
    overrides: Settings = None,
) -> None:
    """Render a road world: stereo video with exact labels."""
    from stadia.core.config import resolve_config
    from stadia.synthetic.config import ROADWORLD_PRESETS, RoadWorldConfig, find_preset

    extra = split_counts("--worlds", worlds) + list(overrides or [])
    config = resolve_config(RoadWorldConfig, find_preset(ROADWORLD_PRESETS, preset).model_dump(mode="json"), extra)

    from stadia.synthetic.roadworld.roadworld_writer import write_roadworld

    write = partial(write_roadworld, config, out, seed=seed, workers=workers)
    render(write, "rendering RoadWorld", sum(config.counts.values()) * config.frames)


def survey(
    videos: Annotated[Path, argument("A folder, a quoted glob, or a list (.txt, .csv) of videos.")],
    overrides: InputSettings = None,
    out: Annotated[Path | None, option("A new .csv with a row for each video.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, max=256, help="Videos at once; all cores by default.")] = None,
) -> None:
    """Survey many videos: size, length, camera, faults. Exits with 1 if a video cannot be used."""
    import os

    from stadia.core.config import resolve_config
    from stadia.data.config import SourceOptions, parse_source_options
    from stadia.data.surveys import format_table, summarize_survey, survey_videos
    from stadia.data.video.video_list import read_entries
    from stadia.io.atomic_files import write_text
    from stadia.io.input_files import check_path_exists, expand_home

    videos = expand_home(videos)
    check_path_exists(videos)
    if out is not None and (out.suffix.lower() != ".csv" or out.exists()):
        found = f"existing {out}" if out.exists() else f"'{out.name}'"
        raise ConfigError(
            "--out", found=found, expected="a new .csv", fix="choose a new name for --out that ends in .csv"
        )
    options = resolve_config(SourceOptions, parse_source_options(overrides or []))
    entries = read_entries(videos)
    with show_progress() as bars:
        rows = survey_videos(entries, options, workers=workers or os.cpu_count() or 1, progress=bars.progress)
    if out is not None:
        write_text(out, format_table(rows))
    print_lines(summarize_survey(rows))
    if any(row.fault for row in rows):
        raise typer.Exit(1)


def shard(
    source: Annotated[Path, argument("A dataset, a video, or a folder, glob or list of videos.", metavar="SOURCE")],
    url: Annotated[str, argument("A folder, or a URL: s3://bucket/prefix.", metavar="URL")],
    overrides: InputSettings = None,
    format: Annotated[str, typer.Option(help="Format of SOURCE; `stadia list datasets` lists them.")] = "auto",
    size: Annotated[str | None, option("Resize to WIDTHxHEIGHT.")] = None,
) -> None:
    """Write a dataset as shards, into a folder or a store."""
    from stadia.data.config import parse_source_options
    from stadia.data.shard_writer import shard_dataset
    from stadia.predict.options import parse_size

    with show_progress() as bars:
        lines = shard_dataset(
            source,
            url,
            format=format,
            options=parse_source_options(overrides or []),
            size=None if size is None else parse_size(size),
            progress=bars.progress,
        )
        print_lines(lines)


WING_COMMANDS = Registry(
    "command of a wing",
    {
        "tableworld": "stadia.objectpose.commands:tableworld",
        "show": "stadia.objectpose.commands:show",
        "score-objects": "stadia.objectpose.commands:score_object_files",
        "foregrounds": "stadia.overlay.commands:foregrounds",
        "overlay": "stadia.overlay.commands:overlay",
    },
)
