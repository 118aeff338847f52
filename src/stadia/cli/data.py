"""`stadia data`: make and look at data sets."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Make data sets.", no_args_is_help=True)


@app.callback()
def _data() -> None:
    """Make data sets."""


@app.command()
def roadworld(
    out: Annotated[Path, typer.Option(help="Folder of the data set; an interrupted one is continued.")],
    preset: Annotated[str, typer.Option(help="tiny, demo or full.")] = "demo",
    seed: Annotated[int, typer.Option(help="The same seed gives the same bytes.")] = 0,
    worlds: Annotated[str | None, typer.Option(metavar="TRAIN,VAL,TEST", help="Numbers of worlds, instead of the preset's.")] = None,
    exposure: Annotated[bool, typer.Option("--exposure", help="Let the exposure drift.")] = False,
    noise: Annotated[bool, typer.Option("--noise", help="Add a sensor's noise.")] = False,
    workers: Annotated[int | None, typer.Option(min=1, help="Threads; all cores by default.")] = None,
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Any other setting, as frames=20 or stereo=false.")
    ] = None,
) -> None:
    """Render a synthetic road world: stereo video with exact depth, normals, classes, instances and poses."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
    from rich.text import Text

    from stadia.core.config import resolve
    from stadia.core.errors import ConfigError
    from stadia.data.roadworld.presets import SPLITS, RoadWorldConfig
    from stadia.data.roadworld.presets import preset as find_preset

    extra = list(overrides or [])
    if worlds is not None:
        numbers = worlds.split(",")
        if len(numbers) != 3 or not all(n.strip().isdigit() for n in numbers):
            raise ConfigError("--worlds", found=worlds, expected="three numbers", cure="for example --worlds 10,1,2")
        extra = [f"{split}={int(n)}" for split, n in zip(SPLITS, numbers, strict=True)] + extra
    extra += [f"{name}=true" for name, wanted in (("exposure", exposure), ("noise", noise)) if wanted]
    config = resolve(RoadWorldConfig, find_preset(preset).model_dump(mode="json"), extra)

    from stadia.data.roadworld.write import write_roadworld

    class Speed(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.speed * (1 + config.stereo):.1f} pictures/s" if task.speed else "", style="cyan")

    columns = (TextColumn("RoadWorld"), BarColumn(), MofNCompleteColumn(), TextColumn("frames"), Speed(), TimeRemainingColumn())
    with Progress(*columns, disable=not sys.stdout.isatty()) as progress:
        bar = progress.add_task("", total=sum(config.worlds.values()) * config.frames)
        path = write_roadworld(config, out, seed=seed, workers=workers, advance=lambda frames: progress.advance(bar, frames))
    typer.echo(f"{path}  (look at {path.parent / 'preview.png'})")
