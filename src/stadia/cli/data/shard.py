"""`stadia data shard`: write a data set as shards."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stadia.cli.arguments import InputSettings, argument, option
from stadia.cli.output import print_lines, show_progress
from stadia.core.errors import ConfigError


def shard(
    source: Annotated[Path, argument("A data set, a video, or a folder, glob or list of videos.", metavar="SOURCE")],
    url: Annotated[str, argument("A folder, or a URL: s3://bucket/prefix.", metavar="URL")],
    overrides: InputSettings = None,
    format: Annotated[str, typer.Option(help="Format of SOURCE; `stadia list datasets` lists them.")] = "auto",
    size: Annotated[str | None, option("Resize to WIDTHxHEIGHT.")] = None,
    encoding: Annotated[str, typer.Option(help="png (exact), jpeg (smaller), raw (fastest).")] = "png",
    shard_mb: Annotated[int, typer.Option(min=1, max=4096, help="Megabytes of a shard.")] = 64,
) -> None:
    """Write a data set as shards, into a folder or a store."""
    from stadia.datasets.shard_writer import ShardRequest, shard_dataset
    from stadia.predict.options import parse_size, parse_source_options

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
