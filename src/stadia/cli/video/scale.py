"""`stadia scale`: metres for the result of another program."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stadia.cli.arguments import InputSettings, StrictOption, argument, check_scale_sources, option
from stadia.cli.output import print_lines


def scale(
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
    images: Annotated[Path | None, option("The images of THING: a folder, a video, or a data set.")] = None,
    out: Annotated[Path | None, option("The copy in metres; THING.metres by default.")] = None,
    strict: StrictOption = False,
) -> None:
    """Measure metres for what another program made, and write a copy in metres.

    The copy has the same format. A receipt (.receipt.json) next to it states the factor and its deviation.
    """
    from stadia.predict.describe import describe_receipt
    from stadia.predict.options import parse_source_options
    from stadia.predict.scale.scale_result import scale_result

    sources = check_scale_sources(scale_from)
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
