"""`stadia compare`: two runs side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from stadia.cli.arguments import ForceOption, RunArgument, argument, option
from stadia.cli.output import echo
from stadia.core.errors import DataError


def compare(
    first: RunArgument,
    second: Annotated[Path, argument("Another run's folder.")],
    image: Annotated[Path | None, option("Draw their curves: a .svg or .png.")] = None,
    force: ForceOption = False,
) -> None:
    """Compare two runs."""
    from stadia.files.output_files import check_replaceable
    from stadia.report.run_files import read_run
    from stadia.report.run_journal import draw_comparison, write_comparison

    if image is not None:
        if image.suffix not in (".svg", ".png"):
            raise DataError(image, found=f"'{image.suffix}'", expected=".svg or .png", fix="rename it")
        image = check_replaceable(image, "comparison", inputs=[first, second], force=force)
    a, b = read_run(first), read_run(second)
    echo(write_comparison(a, b), nl=False)
    if image is not None:
        echo(f"image: {image if draw_comparison(a, b, image) else 'no common curve'}")
