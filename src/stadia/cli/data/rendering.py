"""What the commands that render a data set share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from stadia.cli.arguments import argument
from stadia.cli.output import echo, show_progress
from stadia.core.errors import ConfigError

OutFolder = Annotated[Path, typer.Option(help="Folder of the data set. The same command resumes.")]
Preset = Annotated[str, typer.Option(help="tiny, demo or full.")]
Seed = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="The same seed gives the same bytes.")]
Workers = Annotated[int | None, typer.Option(min=1, help="Threads; all cores by default.")]
Settings = Annotated[list[str] | None, argument("Other settings, such as train=500.", metavar="KEY=VALUE")]


def split_counts(option: str, value: str | None) -> list[str]:
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


def render(write: Callable[..., Path], title: str, total: int) -> None:
    """Write a data set with its progress, and print its path. write: takes `advance(number of items)`."""
    done = 0
    with show_progress() as bars:

        def advance(count: int) -> None:
            nonlocal done
            done += count
            bars.progress(title, done, total)

        path = write(advance=advance)
    echo(f"{path}  (preview: {path.parent / 'preview.png'})")
