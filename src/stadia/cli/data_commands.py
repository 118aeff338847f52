"""`stadia data`: make and draw data sets."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from stadia.cli.arguments import argument, option

app = typer.Typer(help="Make and draw data sets.", no_args_is_help=True)


@app.callback()
def _data() -> None:
    """Make and draw data sets."""


def _numbers(option: str, value: str | None, splits: Sequence[str]) -> list[str]:
    """Convert numbers such as "10,1,2" to settings of the splits."""
    from stadia.core.errors import ConfigError

    if value is None:
        return []
    numbers = value.split(",")
    if len(numbers) != len(splits) or not all(n.strip().isdigit() for n in numbers):
        raise ConfigError(option, found=value, expected="three numbers", fix=f"for example {option} 10,1,2")
    return [f"{split}={int(n)}" for split, n in zip(splits, numbers, strict=True)]


def _without_group(words: Sequence[str]) -> list[str]:
    """Strip `data.` from settings, so that keys of `stadia train` work here too."""
    return [word.removeprefix("data.") for word in words]


@contextmanager
def _progress(title: str, unit: str, total: int, images: int = 1) -> Iterator[Callable[[int], None]]:
    """Show a bar on a terminal, nothing elsewhere. Yield a function that takes the number of finished items.

    images: number of images in each item.
    """
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Speed(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.speed * images:.1f} images/s" if task.speed else "", style="cyan")

    columns = (TextColumn(title), BarColumn(), MofNCompleteColumn(), TextColumn(unit), Speed(), TimeRemainingColumn())
    with Progress(*columns, disable=not sys.stdout.isatty()) as progress:
        bar = progress.add_task("", total=total)
        yield lambda count: progress.advance(bar, count)


@app.command()
def roadworld(
    out: Annotated[Path, typer.Option(help="Folder of the data set; an interrupted one is continued.")],
    preset: Annotated[str, typer.Option(help="tiny, demo or full.")] = "demo",
    seed: Annotated[int, typer.Option(help="The same seed gives the same bytes.")] = 0,
    worlds: Annotated[
        str | None, typer.Option(metavar="TRAIN,VAL,TEST", help="Numbers of worlds, instead of the preset's.")
    ] = None,
    exposure: Annotated[bool, typer.Option("--exposure", help="Let the exposure drift.")] = False,
    noise: Annotated[bool, typer.Option("--noise", help="Add a sensor's noise.")] = False,
    workers: Annotated[int | None, typer.Option(min=1, help="Threads; all cores by default.")] = None,
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Any other setting, as frames=20 or stereo=false.")
    ] = None,
) -> None:
    """Render a synthetic road world: stereo video with exact depth, normals, classes, instances and poses."""
    from stadia.core.config import resolve_config
    from stadia.synthetic.rendering.dataset_files import SPLITS
    from stadia.synthetic.roadworld.config import RoadWorldConfig
    from stadia.synthetic.roadworld.config import find_roadworld_preset as find_preset

    extra = _numbers("--worlds", worlds, SPLITS) + list(overrides or [])
    extra += [f"{name}=true" for name, wanted in (("exposure", exposure), ("noise", noise)) if wanted]
    config = resolve_config(RoadWorldConfig, find_preset(preset).model_dump(mode="json"), extra)

    from stadia.synthetic.roadworld.roadworld_writer import write_roadworld

    with _progress(
        "RoadWorld", "frames", sum(config.worlds.values()) * config.frames, images=1 + config.stereo
    ) as advance:
        path = write_roadworld(config, out, seed=seed, workers=workers, advance=advance)
    typer.echo(f"{path}  (preview: {path.parent / 'preview.png'})")


@app.command()
def tableworld(
    out: Annotated[Path, typer.Option(help="Folder of the data set; an interrupted one is continued.")],
    preset: Annotated[str, typer.Option(help="tiny, demo or full.")] = "demo",
    seed: Annotated[int, typer.Option(help="The same seed gives the same bytes.")] = 0,
    tables: Annotated[
        str | None, typer.Option(metavar="TRAIN,VAL,TEST", help="Numbers of tables, instead of the preset's.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Threads; all cores by default.")] = None,
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Any other setting, as views=8 or noise=false.")
    ] = None,
) -> None:
    """Render objects on tables: images with exact masks, depth, poses and sizes."""
    from stadia.core.config import resolve_config
    from stadia.synthetic.rendering.dataset_files import SPLITS
    from stadia.synthetic.tableworld.config import TableWorldConfig
    from stadia.synthetic.tableworld.config import find_tableworld_preset as find_preset

    extra = _numbers("--tables", tables, SPLITS) + list(overrides or [])
    config = resolve_config(TableWorldConfig, find_preset(preset).model_dump(mode="json"), extra)

    from stadia.synthetic.tableworld.tableworld_writer import write_tableworld

    with _progress("TableWorld", "images", sum(config.tables.values()) * config.views) as advance:
        path = write_tableworld(config, out, seed=seed, workers=workers, advance=advance)
    typer.echo(f"{path}  (preview: {path.parent / 'preview.png'})")


@app.command()
def foregrounds(
    out: Annotated[Path, typer.Option(help="Folder of the cut-outs; an interrupted one is continued.")],
    seed: Annotated[int, typer.Option(help="The same seed gives the same bytes.")] = 0,
    workers: Annotated[int | None, typer.Option(min=1, help="Threads; all cores by default.")] = None,
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="As train=500, val=50, views=4 or side=256.")
    ] = None,
) -> None:
    """Render cut-out objects with alpha for pasting onto backgrounds: FOLDER/SPLIT/OBJECT/VIEW.png, license CC0."""
    from stadia.core.config import resolve_config
    from stadia.synthetic.tableworld.config import CutoutConfig

    config = resolve_config(CutoutConfig, {}, list(overrides or []))

    from stadia.synthetic.tableworld.tableworld_writer import write_cutouts

    with _progress("objects", "images", sum(config.objects.values()) * config.views) as advance:
        path = write_cutouts(config, out, seed=seed, workers=workers, advance=advance)
    typer.echo(f"{path}  (preview: {path.parent / 'preview.png'})")


@app.command()
def overlay(
    out: Annotated[Path | None, option("--out", "Folder to write to; an interrupted one is continued.")] = None,
    sheet: Annotated[Path | None, option("--sheet", "Write only a PNG overview of any set (path=FOLDER).")] = None,
    count: Annotated[int, typer.Option(min=1, help="Images to train on.")] = 10_000,
    val: Annotated[
        int, typer.Option(min=0, help="Images to validate on, and as many to test, where there is a split for it.")
    ] = 500,
    seed: Annotated[
        int, typer.Option(help="The same seed gives the same bytes, written or composed while it trains.")
    ] = 0,
    workers: Annotated[int | None, typer.Option(min=1, help="Threads; all cores by default.")] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY=VALUE", help="As height=128, backgrounds.path=FOLDER; of `stadia train`: data.height=128."
        ),
    ] = None,
) -> None:
    """Paste cut-outs onto backgrounds with depth, write images, depth and masks, and report overlaps of the splits."""
    from stadia.core.config import resolve_config
    from stadia.core.errors import ConfigError
    from stadia.dataloading.config import OverlayDataConfig

    if (out is None) == (sheet is None):
        raise ConfigError(
            "overlay", found="both" if out else "neither", expected="--out or --sheet", fix="pass one of them"
        )
    config = resolve_config(
        OverlayDataConfig, {}, [f"samples={count}", f"val_samples={val}", *_without_group(overrides or [])]
    )

    from stadia.cli.progress_display import show_progress
    from stadia.recipes.overlay.data import draw_overlays, write_overlay_set

    with show_progress() as bars:
        if sheet is not None:
            lines = draw_overlays(config, sheet, seed, bars.progress)
        else:
            assert out is not None
            lines = write_overlay_set(config, out, seed, workers, bars.progress)
        for line in lines:
            typer.echo(line)


@app.command()
def show(
    data: Annotated[Path, argument("Images of objects: stadia's own layout, BOP, NOCS, KITTI.")],
    split: Annotated[str, argument("Split of DATA, such as train, test, training.")],
    out: Annotated[Path, typer.Option(help="Folder of the drawings.")],
    images: Annotated[int, typer.Option(min=1, help="Largest number of images, evenly spread over the split.")] = 16,
    format: Annotated[str, typer.Option("--format", help="Format of DATA: objects, bop, nocs or kitti.")] = "auto",
) -> None:
    """Draw the labels of objects on their images: boxes, axes, classes and masks."""
    from stadia.core.errors import StadiaError
    from stadia.recipes.objectpose.object_pose_scores import draw_labels

    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise StadiaError(out, found="files in it", expected="a new folder", fix="choose another --out")

    for file in draw_labels(data, split, out, images, format):
        typer.echo(file)
