"""`stadia compare`: two runs side by side, or networks on a video."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from stadia.cli.arguments import ForceOption, argument, option
from stadia.cli.output import echo, print_lines, show_progress
from stadia.core.errors import ConfigError, DataError

if TYPE_CHECKING:
    from stadia.predict.ranking import Ranking

RUN_RECORD = "run.json"


def compare(
    things: Annotated[list[Path], argument("Two runs; or networks and folders of depth, then a video.", metavar="A B")],
    image: Annotated[Path | None, option("Of two runs: draw their curves, a .svg or .png.")] = None,
    out: Annotated[Path | None, option("Of networks: the page, compare.html by default.")] = None,
    force: ForceOption = False,
) -> None:
    """Compare two runs, or rank networks on a video without ground truth.

    `stadia compare NET NET ... VIDEO` ranks networks, and depth folders of other programs, by the map of the video.
    Settings of the video such as data.camera.K_file=K.txt follow it.
    """
    settings = [str(thing) for thing in things if "=" in str(thing) and not thing.exists()]
    paths = [thing for thing in things if str(thing) not in settings]
    if len(paths) < 2:
        fix = "stadia compare RUN RUN, or stadia compare NET NET VIDEO"
        raise ConfigError("compare", found=f"{len(paths)} names", expected="two or more", fix=fix)
    if len(paths) == 2 and all((path / RUN_RECORD).is_file() or not path.exists() for path in paths):
        _compare_runs(paths[0], paths[1], image, force=force)
    else:
        _rank([str(path) for path in paths[:-1]], paths[-1], settings, out, force=force)


def _compare_runs(first: Path, second: Path, image: Path | None, *, force: bool) -> None:
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


def _rank(networks: list[str], video: Path, settings: list[str], out: Path | None, *, force: bool) -> None:
    from stadia.evaluation.plots.colormaps import color_inverse_depth
    from stadia.files.output_files import check_replaceable
    from stadia.predict.options import parse_source_options
    from stadia.predict.ranking import COLUMNS, rank_networks
    from stadia.report.ranking_page import write_ranking_page

    page = check_replaceable(out or Path("compare.html"), "comparison", inputs=[video], force=force)
    with show_progress() as bars:
        ranking = rank_networks(networks, video, parse_source_options(settings), bars.track)
    conclusion = describe_conclusion(ranking)
    print_lines([*_describe_rows(ranking), conclusion, *(f"note: {note}" for note in list_notes(ranking))])
    pictures: dict[str, Any] = {}
    for name, image in ranking.images.items():
        depths = {candidate: color_inverse_depth(depth) for candidate, depth in ranking.shown[name].items()}
        pictures[name] = {"image": image[..., ::-1], **{key: shown[..., ::-1] for key, shown in depths.items()}}
    write_ranking_page(
        page,
        title=f"Networks on {ranking.video}",
        conclusion=conclusion,
        columns=dict(COLUMNS.values()),
        rows=[
            {
                "name": row.name,
                "licence": row.candidate.licence or "unknown",
                "weights": f"{row.candidate.weights_mb:.0f} MB" if row.candidate.weights_mb else "",
                "is_tied": row.is_tied,
                "cells": [_format(row.estimates[name], with_range=name != "ms") for name in COLUMNS],
            }
            for row in ranking.rows
        ],
        pictures=pictures,
        notes=list_notes(ranking),
    )
    echo(f"page: {page}")


def describe_conclusion(ranking: Ranking) -> str:
    """Return which network is best, or that the video cannot tell."""
    tied, best = ranking.tied, ranking.rows[0]
    on = f"{ranking.frames} frames with {ranking.points} points each"
    if len(tied) == 1:
        return f"best: {best.name}, error {best.estimates['error'].value:.1%} at the points of the map ({on})"
    return f"cannot tell: {', '.join(tied)} differ by less than the noise ({on})"


def list_notes(ranking: Ranking) -> list[str]:
    """Return what limits a ranking."""
    notes = []
    if ranking.map_grade != "usable":
        notes.append(f"the map is {ranking.map_grade}, and so is this order")
    affine = [row.name for row in ranking.rows if row.candidate.is_affine]
    if affine:
        notes.append(f"scale and shift of {', '.join(affine)} were fitted to the points in each frame")
    return [*notes, "the points do not show depth in metres, on smooth surfaces, or of things that move"]


def _describe_rows(ranking: Ranking) -> list[str]:
    from stadia.predict.ranking import COLUMNS

    table = [["network", *(title for title, _ in COLUMNS.values())]]
    for row in ranking.rows:
        cells = [_format(row.estimates[name], with_range=name == "error") for name in COLUMNS]
        table.append([f"{row.name}{' *' * row.is_tied}", *cells])
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in table]


def _format(estimate: Any, *, with_range: bool) -> str:
    if estimate.value != estimate.value:
        return "-"
    text = f"{estimate.value:.3g}"
    return f"{text} ({estimate.low:.2g} to {estimate.high:.2g})" if with_range else text
