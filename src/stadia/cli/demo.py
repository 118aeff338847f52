"""`stadia demo`: the main job on the synthetic road world, from nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


def demo(
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Dotted keys: training.max_steps=200", show_default=False)
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="The folder that holds runs; this one gets a folder of its own in it.")] = Path("runs"),
) -> None:
    """Render worlds, train on their stereo video, predict worlds never seen, score them in metres, and write the report."""
    from stadia.core.files import check_writable

    check_writable(out)

    from stadia import report
    from stadia.recipes import demo as steps

    done = steps.run(out, overrides or [])
    page = report.build(done.run.folder)
    _print_table(done.result)
    typer.echo(f"report: {page}")
    typer.echo(f"result: {done.run.folder / 'result.json'}")


def _print_table(result: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    depth, odometry = result["depth"], result["odometry"]
    table = Table(title=f"{depth['images']} pictures of worlds never seen in training, in {result['claim']}, no alignment", min_width=78)
    for column in ("", "AbsRel", "RMSE (m)", "d1", "scale ratio"):
        table.add_column(column, justify="left" if column == "" else "right")
    ratio = f"{depth['scale_ratio_median']:.3f}"
    table.add_row("stadia selfsup", f"{depth['abs_rel']:.3f}", f"{depth['rmse']:.2f}", f"{depth['d1']:.3f}", ratio)
    mean = [f"{depth[f'{name}_mean_baseline']:.{digits}f}" for name, digits in (("abs_rel", 3), ("rmse", 2), ("d1", 3))]
    table.add_row("mean depth of each pixel", *mean, "")
    console = Console()
    console.print(table)
    console.print(_odometry_line(odometry))
    console.print(f"time {result['wall_s']:.0f} s, peak memory {result['peak_rss_mb']:.0f} MB, all processes together")


def _odometry_line(odometry: dict[str, Any]) -> str:
    if odometry["path_m"] is None:
        return "odometry: none, the motion between some frames is not known"
    ways = {"": "", "_network": " by the pose network alone", "_mean_baseline": " by the mean depth"}
    shares = {by: odometry[f"worst_ate_over_path{way}"] for way, by in ways.items()}
    told = ", ".join(("none" if share is None else f"{share:.1%}") + by for by, share in shares.items())
    return f"odometry, the worst of them: ATE over path, {odometry['align']}-aligned: {told}"
