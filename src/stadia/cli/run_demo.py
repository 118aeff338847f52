"""`stadia demo`: train and evaluate on the synthetic road world; `--recipe metric` learns metres from one camera."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from stadia.cli.arguments import RUNS, RunsOption, argument


def demo(
    overrides: Annotated[list[str] | None, argument("Dotted keys: training.max_steps=200", metavar="KEY=VALUE")] = None,
    out: RunsOption = RUNS,
    recipe: Annotated[
        str, typer.Option("--recipe", help="selfsup: metres from stereo video. metric: from one camera's.")
    ] = "selfsup",
) -> None:
    """Render worlds, train on their video, predict unseen worlds, score them in metres, and write the report."""
    from stadia.apps import DEMOS
    from stadia.core.files import check_writable

    DEMOS.check(recipe)
    check_writable(out)

    from stadia import report

    done = DEMOS.load(recipe)(out, overrides or [])
    page = report.build_report(done.run.folder)
    (_print_table if recipe == "selfsup" else _print_scales)(done.result)
    typer.echo(f"report: {page}")
    typer.echo(f"result: {done.run.folder / 'result.json'}")


def _print_table(result: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    depth, odometry = result["depth"], result["odometry"]
    unseen = f"{depth['images']} images of worlds never seen in training"
    table = Table(title=f"{unseen}, in {result['depth_scale']}, no alignment", min_width=78)
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
        return "odometry: none, the motion between some frames is unknown"
    ways = {"": "", "_network": " by the pose network alone", "_mean_baseline": " by the mean depth"}
    shares = {by: odometry[f"worst_ate_over_path{way}"] for way, by in ways.items()}
    errors = ", ".join(("none" if share is None else f"{share:.1%}") + by for by, share in shares.items())
    return f"odometry, the worst of them: ATE over path, {odometry['align']}-aligned: {errors}"


def _print_scales(result: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    with_metres, without, camera = result["depth"], result["without_metres"], result["camera_height"]
    table = Table(title=f"{with_metres['images']} images of worlds never seen in training, one camera", min_width=78)
    for column in ("", "AbsRel", "median-scaled", "true/predicted", "camera at"):
        table.add_column(column, justify="left" if column == "" else "right", no_wrap=True)
    rows = (
        ("selfsup alone", without, without["abs_rel_median_scaled"], camera["in_depth_without_metres_m"]),
        ("metric on top of it", with_metres, result["median_scaled"]["abs_rel"], camera["in_depth_m"]),
    )
    for name, scores, scaled, camera_m in rows:
        numbers = (f"{value:.3f}" for value in (scores["abs_rel"], scaled, scores["scale_ratio_median"]))
        table.add_row(name, *numbers, f"{camera_m:.2f} m")
    table.add_row("mean depth of each pixel", f"{with_metres['abs_rel_mean_baseline']:.3f}", "", "", "")
    lines = ["AbsRel of depth as it is, and of each image by the ratio of its medians first", _camera_line(camera)]
    if result["depth_scale"] != "metres":
        lines.append("depth is not in metres: see the notes above; longer trainings (training.max_steps=3000) help")
    console = Console()
    console.print(table)
    console.print("\n".join(lines), highlight=False, soft_wrap=True)
    console.print(f"time {result['wall_s']:.0f} s, peak memory {result['peak_rss_mb']:.0f} MB, all processes together")


def _camera_line(camera: dict[str, Any]) -> str:
    true_m, learnt_m = camera["true_m"], camera["learnt_m"]
    learnt = "not learnt" if learnt_m is None else f"{learnt_m:.2f} m learnt, {learnt_m / true_m - 1:+.1%}"
    in_depth = f"in the depth of unseen worlds {camera['in_depth_m'] / true_m - 1:+.1%}"
    return f"camera's height: {learnt}; true {true_m:.2f} m; {in_depth}"
