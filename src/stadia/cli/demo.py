"""`stadia demo`: render worlds, train, and score unseen worlds."""

from typing import Annotated, Any

import typer

from stadia.cli.options import RUNS, RunsOption, TrainingSettings
from stadia.cli.output import echo


def demo(
    overrides: TrainingSettings = None,
    out: RunsOption = RUNS,
    recipe: Annotated[str, typer.Option(help="selfsup: from stereo video. metric: from one camera.")] = "selfsup",
) -> None:
    """Train on rendered worlds and score unseen ones."""
    from stadia.io.input_files import check_writable
    from stadia.training import DEMOS

    DEMOS.check(recipe)
    check_writable(out)

    from stadia import report

    done = DEMOS.load(recipe)(out, overrides or [])
    page = report.build_report(done.run.folder)
    (_print_demo_scores if recipe == "selfsup" else _print_metric_demo_scores)(done.result)
    echo(f"report: {page}")
    echo(f"result: {done.run.folder / 'result.json'}")


def _print_demo_scores(result: dict[str, Any]) -> None:
    depth, odometry = result["depth"], result["odometry"]
    scores = [f"{depth['abs_rel']:.3f}", f"{depth['rmse']:.2f}", f"{depth['d1']:.3f}"]
    baseline = [f"{depth['abs_rel_mean_baseline']:.3f}", f"{depth['rmse_mean_baseline']:.2f}"]
    rows = [
        ["stadia selfsup", *scores, f"{depth['scale_ratio_median']:.3f}"],
        ["mean depth of each pixel", *baseline, f"{depth['d1_mean_baseline']:.3f}", ""],
    ]
    title = f"{depth['images']} images of unseen worlds, in {result['depth_scale']}, not aligned"
    line = "odometry: unknown motion between some frames"
    if odometry["path_m"] is not None:
        ways = {"": "", "_network": " by the pose network alone", "_mean_baseline": " by the mean depth"}
        shares = {by: odometry[f"worst_ate_over_path{way}"] for way, by in ways.items()}
        errors = ", ".join(("none" if share is None else f"{share:.1%}") + by for by, share in shares.items())
        line = f"odometry, worst world: ATE over path, {odometry['align']}-aligned: {errors}"
    _print_scores(result, title, ["AbsRel", "RMSE (m)", "d1", "scale ratio"], rows, [line])


def _print_metric_demo_scores(result: dict[str, Any]) -> None:
    depth, without, camera = result["depth"], result["without_metres"], result["camera_height"]
    rows = [["mean depth of each pixel", f"{depth['abs_rel_mean_baseline']:.3f}", "", "", ""]]
    for name, scores, scaled, camera_m in (
        ("metric on top of it", depth, result["median_scaled"]["abs_rel"], camera["in_depth_m"]),
        ("selfsup alone", without, without["abs_rel_median_scaled"], camera["in_depth_without_metres_m"]),
    ):
        numbers = (f"{value:.3f}" for value in (scores["abs_rel"], scaled, scores["scale_ratio_median"]))
        rows.insert(0, [name, *numbers, f"{camera_m:.2f} m"])
    true_m, learnt_m = camera["true_m"], camera["learnt_m"]
    learnt = "not learnt" if learnt_m is None else f"{learnt_m:.2f} m learnt, {learnt_m / true_m - 1:+.1%}"
    in_depth = f"in depth {camera['in_depth_m'] / true_m - 1:+.1%}"
    lines = [f"camera's height: {learnt}; true {true_m:.2f} m; {in_depth}"]
    if result["depth_scale"] != "metres":
        lines.append("depth is not in metres; train longer (training.max_steps=3000)")
    title = f"{depth['images']} images of unseen worlds, one camera"
    _print_scores(result, title, ["AbsRel", "median-scaled", "true/predicted", "camera at"], rows, lines)


def _print_scores(
    result: dict[str, Any], title: str, columns: list[str], rows: list[list[str]], lines: list[str]
) -> None:
    from rich.table import Table

    from stadia.core.terminal import Terminal

    table = Table("", title=title, min_width=78)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    console = Terminal()
    console.print(table)
    spent = f"time {result['wall_s']:.0f} s, peak memory {result['peak_rss_mb']:.0f} MB"
    console.print("\n".join([*lines, spent]), highlight=False, soft_wrap=True)
