"""`stadia data survey`: examine many videos."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stadia.cli.arguments import InputSettings, argument, option
from stadia.cli.output import print_lines, show_progress
from stadia.core.errors import ConfigError


def survey(
    videos: Annotated[Path, argument("A folder, a quoted glob, or a list (.txt, .csv) of videos.")],
    overrides: InputSettings = None,
    out: Annotated[Path | None, option("A new .csv with a row for each video.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, max=256, help="Videos at once; all cores by default.")] = None,
) -> None:
    """Survey many videos: size, length, camera, faults. Exits with 1 if a video cannot be used."""
    import os

    from stadia.core.config import resolve_config
    from stadia.datasets.config import SourceOptions
    from stadia.datasets.open_dataset import check_path_exists
    from stadia.datasets.surveys import format_table, summarize_survey, survey_videos
    from stadia.datasets.video.video_list import read_entries
    from stadia.files.atomic_files import write_text
    from stadia.files.paths import expand_home
    from stadia.predict.options import parse_source_options

    videos = expand_home(videos)
    check_path_exists(videos)
    if out is not None and (out.suffix.lower() != ".csv" or out.exists()):
        found = f"existing {out}" if out.exists() else f"'{out.name}'"
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
