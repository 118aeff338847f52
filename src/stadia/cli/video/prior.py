"""`stadia prior`: heights of objects by their appearance, or by their class."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stadia.cli.arguments import EveryOption, ForceOption, argument, option
from stadia.cli.output import print_lines, show_progress

app = typer.Typer(help="Train, score and measure heights of cars.", no_args_is_help=True)


@app.command("train")
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
    from stadia.files.output_files import check_replaceable

    out = check_replaceable(out, "size prior", inputs=[data], force=force)

    from stadia.apps.size_prior.train_prior import PriorRequest, run_train

    request = PriorRequest(data=data, out=out, steps=steps, encoder=encoder, every=every, seed=seed)
    with show_progress() as bars:
        print_lines(run_train(request, bars.track))


@app.command("evaluate")
def evaluate_prior(
    prior: Annotated[Path, argument("A file of `stadia prior train`.")],
    data: Annotated[Path, argument("RoadWorld, KITTI's object data, or DVM-CAR.")],
    every: EveryOption = 1,
) -> None:
    """Score a size prior on unseen cars: RoadWorld's split test, or KITTI's boxes."""
    from stadia.apps.size_prior.train_prior import run_evaluate

    with show_progress() as bars:
        print_lines(run_evaluate(prior, data, every, bars.track))


@app.command("measure")
def measure_prior(
    data: Annotated[Path, argument("KITTI's object data, with label_2.")],
    masks: Annotated[Path | None, option("Masks of its images: only boxes that they find count.")] = None,
    every: EveryOption = 1,
) -> None:
    """Print mean and deviation of labeled heights by class."""
    from stadia.apps.size_prior.height_crops import describe_heights, measure_heights

    print_lines(describe_heights(measure_heights(data, masks, every), data.name))
