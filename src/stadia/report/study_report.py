"""The results of a study: a row for each run, and an ablation as sentences, a table and a plot."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, Literal

import numpy as np

from stadia.core.errors import DataError, RunError, format_plot_text
from stadia.core.plot_style import use_default_style
from stadia.core.registry import find_nearest_name
from stadia.io.atomic_files import atomic_write, write_text
from stadia.io.input_files import read_json, read_json_objects
from stadia.report.quality_summary import LAST_SHARE
from stadia.report.run_files import RunFiles, Series, flatten_mapping, format_number, is_finite

Verdict = Mapping[str, Any]

RESULTS = "results.jsonl"  # A study's file with a row for each ended run

# -- The row of a run in results.jsonl: its result in one metric.


def make_result_row(
    run: RunFiles, metrics: Sequence[str], *, better: Literal["lower", "higher"], at: Literal["last", "best"]
) -> dict[str, Any]:
    """Return the row of a run in a study as JSON: status, result, and provenance.

    The result is the value of the first metric that the run has. `drift` is the relative change over the last fifth.

    metrics: columns of metrics.csv, keys of result.json, or SCOREFILE.metric.
    better: direction of better values of the metric.
    at: whether the last or the best value counts.

    Raises RunError if all metrics are missing in a finished run.
    """
    series = {logged.name: logged for logged in run.series}
    scores = {file: flatten_mapping(score.get("metrics", {})) for file, score in run.scores.items()}
    by_file = {f"{file}.{key}": value for file, flat in scores.items() for key, value in flat.items()}
    results = flatten_mapping(run.result) | by_file
    status, names = run.facts.status, [*series, *results]
    metric = next((name for name in metrics if name in names), None)
    if metric is None and status == "finished":
        raise _missing_metric(run, metrics[0], names)
    value, step = None, None
    if metric in series:
        value, step = _select_value(series[metric], better, at)
    elif is_finite(number := results.get(metric or "")):
        value = float(number)
    steps = max((logged.steps[-1] for logged in run.series), default=0)
    update_ratios = _list_finite(series.get("train/update_ratio"))
    return {
        "run": run.folder.name,
        "status": status,
        "error": run.facts.error,
        "metric": metric,
        "value": value if status == "finished" else None,  # the last value of a failed run is not a result
        "step": step,
        "steps": steps,
        "drift": _measure_drift(series[metric]) if metric in series else None,
        "seconds": _sum_step_seconds(series.get("time/step_s")),
        "learning_rate": max(_list_finite(series.get("train/lr")), default=None),
        "update_ratio": median(update_ratios) if update_ratios else None,
        "samples": _count_trained_samples(run, steps),
        "provenance": _describe_provenance(run),
    }


def _missing_metric(run: RunFiles, metric: str, names: Sequence[str]) -> RunError:
    near = find_nearest_name(metric, list(names))
    logged = [name for name in names if name.startswith("val/")] or names
    expected = f"one of {', '.join(logged[:12])}" if logged else "a logged metric"
    fix = f"did you mean '{near}'?" if near else "see the columns of its metrics.csv"
    return RunError(f"metric '{metric}'", found=f"no column of {run.folder.name}", expected=expected, fix=fix)


def _select_value(series: Series, better: str, at: str) -> tuple[float | None, int | None]:
    if at == "last":
        return series.values[-1] if math.isfinite(series.values[-1]) else None, series.steps[-1]
    return series.find_best(better) or (None, None)


def _measure_drift(series: Series) -> float | None:
    steps, values = np.asarray(series.steps, float), np.asarray(series.values, float)
    late = (steps >= steps.max() - LAST_SHARE * steps.max()) & np.isfinite(values)
    if np.count_nonzero(late) < 3 or not np.abs(values[late]).mean():
        return None
    slope = float(np.polyfit(steps[late] - steps[late].mean(), values[late], 1)[0])
    return slope * float(np.ptp(steps[late])) / float(np.abs(values[late]).mean())


def _list_finite(series: Series | None) -> Sequence[float]:
    return [] if series is None else [value for value in series.values if math.isfinite(value)]


def _sum_step_seconds(steps: Series | None) -> float | None:
    if steps is None:
        return None
    seconds = np.nan_to_num(np.asarray(steps.values, float), nan=0.0, posinf=0.0)
    return float(seconds @ np.diff(steps.steps, prepend=0))


def _describe_provenance(run: RunFiles) -> dict[str, str]:
    environment = run.facts.environment
    changes = f"+{hashlib.sha256(run.patch.encode()).hexdigest()[:8]}" if run.patch else ""
    return {
        "code": f"{str(run.facts.code.commit)[:10]}{changes}",
        "data": str(run.facts.data.get("fingerprint", "")),
        "packages": ", ".join(f"{name} {version}" for name, version in environment.packages.items()),
        "platform": environment.platform,
    }


def _count_trained_samples(run: RunFiles, steps: int) -> int | None:
    training = run.config.get("training", {})
    factors = [training.get(key, 1) for key in ("batch_size", "grad_accumulation_steps", "devices")]
    if training.get("stages") or not all(isinstance(factor, int) for factor in factors):
        return None
    return steps * math.prod(factors)


# -- The report of an ablation.


def write_ablation_report(folder: Path) -> list[Path]:
    """Write table.md, plot.svg and plot.png from the verdicts.json of a study, and return the files.

    Raises DataError if verdicts.json is invalid.
    """
    study = read_verdicts(folder)
    paths = [folder / name for name in ("table.md", "plot.svg", "plot.png")]
    write_text(paths[0], format_markdown(study))
    for path in paths[1:]:
        draw_ablation_plot(study, read_results(folder), path)
    return paths


def read_verdicts(folder: Path) -> dict[str, Any]:
    """Return the content of a study's verdicts.json."""
    study = read_json(Path(folder) / "verdicts.json")
    if not isinstance(study, dict) or not isinstance(study.get("verdicts"), list):
        fix = "run `stadia ablate` again"
        raise DataError(folder, found="no verdicts in verdicts.json", expected="a study's verdicts", fix=fix)
    return study


def read_results(folder: Path) -> list[dict[str, Any]]:
    """Return the rows of results.jsonl, one for each run that ended. Raises DataError for an invalid line."""
    path, fix = Path(folder) / RESULTS, "remove it: the same command writes it again"
    return read_json_objects(path, expected="a JSON object a line", fix=fix) if path.exists() else []


def describe_verdict(study: Mapping[str, Any], verdict: Verdict) -> str:
    """Return a sentence with what the data show about one change, and the numbers."""
    metric, d, change = str(study["metric"]), verdict["difference"], f"'{verdict['change']}'"
    if verdict["decision"] == "not comparable":
        return f"Not comparable: {change} changes how {metric} is measured."
    if d is None:
        return f"Undecided: {change} and the base share {len(verdict['seeds'])} seeds with a value, of at least three."
    shown, percent = verdict["shown"], f"{1 - study['alpha']:.0%}"
    chance = format_p_value(verdict["p_holm"])
    chance = f"p {chance}" if chance.startswith("<") else f"p = {chance}"
    span = f"{format_signed(d['low'])} to {format_signed(d['high'])}"
    percent += " repeated" if study.get("until") else ""
    interval = f"{format_signed(d['mean'])}, {percent} interval {span}, {d['n']} seeds, {chance}"
    if shown == "identical":
        text = f"{change} has no effect: {metric} is the same in all {d['n']} seeds"
    elif shown:
        text = f"{change} makes {metric} {shown} ({interval})"
        if verdict["within_margin"]:
            text += f", but by less than the margin of {format_number(study['margin'])}"
    elif verdict["within_margin"]:
        p_same = f"p of the margin = {format_p_value(verdict['p_same'])}"
        text = f"{change} keeps {metric} within {format_number(study['margin'])} ({interval}; {p_same})"
    elif verdict.get("is_narrow"):
        most = format_number(max(abs(d["low"]), abs(d["high"])))
        text = f"{change} changes {metric} by at most {most} ({interval})"
    else:
        text = f"{change} may or may not change {metric} ({interval}). {_describe_power(study, verdict)}"
    if not shown and (d["low"] > 0 or d["high"] < 0):
        text += f" Its interval excludes 0, but {len(study['verdicts'])} changes were tried (Holm)"
    return f"{verdict['decision'].capitalize()}: {text.rstrip('.')}."


def _describe_power(study: Mapping[str, Any], verdict: Verdict) -> str:
    if not verdict["difference"]["sd"]:
        least = math.ceil(math.log2(2 * len(study["verdicts"]) / study["alpha"]))
        return f"All seeds give the same number; a test of signs needs {least} seeds"
    if study.get("until"):
        return f"About {verdict['needed'] or 'more than 10,000'} seeds decide it"
    detectable, margin = format_number(verdict["detectable"]), format_number(study["margin"])
    text = f"This study detects a difference of {detectable} in 4 of 5 cases"
    if study["margin"] is None:
        return text
    needed = verdict["needed"] or "more than 10,000"
    return f"{text}; the margin, {margin}, needs {needed} seeds"


def format_signed(value: float) -> str:
    """Return a value with three digits and its sign."""
    return f"{'+' if value > 0 else '−' if value < 0 else ''}{format_number(abs(value))}"


def format_p_value(value: float | None) -> str:
    """Return a p value with two digits, or "< 0.001"."""
    return "–" if value is None else "< 0.001" if value < 0.001 else f"{value:.2g}"


TABLE_HEAD = ("change", "mean", "difference", "interval", "p (t, Holm)", "p (signs)", "seeds", "expected", "verdict")


def make_table_cells(study: Mapping[str, Any]) -> list[list[str]]:
    """Return a row for the base and each change, in the columns of TABLE_HEAD."""
    verdicts = study["verdicts"]
    base = next((v["base"] for v in verdicts if v["base"] is not None), None)
    rows = [["base", format_number(base), "", "", "", "", "", "", ""]]
    for v in verdicts:
        tested = ["–"] * 4
        if d := v["difference"]:
            interval = f"{format_signed(d['low'])} … {format_signed(d['high'])}"
            p_values = format_p_value(v["p_holm"]), format_p_value(d["p_signs"])
            tested = [format_signed(d["mean"]), interval, *p_values]
        seeds = str(len(v["seeds"]))
        rows.append([v["change"], format_number(v["changed"]), *tested, seeds, v["expected"], v["decision"]])
    return rows


def format_markdown(study: Mapping[str, Any]) -> str:
    """Return the text of table.md: the metric, the table, a sentence for each change, and cautions."""
    metric = f"`{study['metric']}` ({study['better']} is better) of `{study['recipe']}`, the {study['at']} validation"
    runs = f"seeds {', '.join(map(str, study['seeds']))}; {study['runs']} of {study['planned']} runs"
    about = f"{metric}, {runs}. Difference: change minus base, seed by seed."
    lines = [f"# {study['study']}", "", about, "", *_format_table(TABLE_HEAD, make_table_cells(study)), ""]
    for verdict in study["verdicts"]:
        claim = f"*{verdict['claim']}* " if verdict["claim"] else ""
        lines.append(f"- {claim}{describe_verdict(study, verdict)} Changed: `{'`, `'.join(verdict['keys'])}`.")
        lines += [f"  - {note}" for note in verdict["notes"]]
    notes = [f"- {note}" for note in study["notes"]]
    return "\n".join([*lines, *(["", "Cautions:", "", *notes] if notes else [])]) + "\n"


def _format_table(head: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    def line(row: Sequence[str]) -> str:
        escaped = (cell.replace("|", "\\|") for cell in row)
        return f"| {' | '.join(escaped)} |"

    return [line(head), f"|{' --- |' * len(head)}", *map(line, body)]


@use_default_style()
def draw_ablation_plot(study: Mapping[str, Any], results: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw the difference of each change as SVG or PNG.

    Dots are seeds; the mean has its interval, and the margin is a band.
    """
    from matplotlib.figure import Figure

    verdicts = study["verdicts"]
    figure = Figure(figsize=(7.5, 1.3 + 0.45 * len(verdicts)), layout="constrained")
    axes = figure.subplots()
    if study["margin"] is not None:
        axes.axvspan(-study["margin"], study["margin"], color="0.92", label="margin")
    axes.axvline(0, color="0.5", linewidth=1)
    value = {(row["change"], row["seed"]): row["value"] for row in results}
    colors = {"confirmed": "#1a7f4b", "refuted": "#b3261e", "undecided": "0.35"}
    for y, verdict in enumerate(verdicts):
        if verdict["decision"] == "not comparable":
            continue
        seeds = [seed for seed in verdict["seeds"] if ("base", seed) in value]
        differences = [value[verdict["change"], seed] - value["base", seed] for seed in seeds]
        axes.plot(differences, [y] * len(seeds), "o", color="0.7", markersize=4)
        if d := verdict["difference"]:
            spread = [[d["mean"] - d["low"]], [d["high"] - d["mean"]]]
            axes.errorbar([d["mean"]], [y], xerr=spread, fmt="s", capsize=4, color=colors[verdict["decision"]])
    axes.set_yticks(range(len(verdicts)), [format_plot_text(f"{v['change']} ({v['decision']})") for v in verdicts])
    axes.set_ylim(len(verdicts) - 0.5, -0.5)
    about = f"change minus base ({study['better']} is better); bar: {1 - study['alpha']:.0%} interval"
    axes.set_xlabel(format_plot_text(f"{study['metric']}, {about}"))
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else None)
