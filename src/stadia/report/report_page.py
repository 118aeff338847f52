"""Write report.html: one self-contained file from a run's folder."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from stadia import __version__
from stadia.files.atomic_files import write_text
from stadia.files.input_files import read_text
from stadia.report import figures, score_tables, sections
from stadia.report.metric_labels import (
    describe_depth_scale,
    describe_scale_source,
    describe_status,
    format_duration,
    format_number,
    is_finite,
)
from stadia.report.panel_labels import explain_sheets
from stadia.report.path_figures import make_path_figures
from stadia.report.private_parts import hide_private_parts
from stadia.report.quality_summary import describe_quality
from stadia.report.report_images import (
    describe_color_scale,
    embed_drawn_predictions,
    embed_predicted_depth,
    load_point_clouds,
)
from stadia.report.run_files import RunFiles, find_previous_run, flatten_mapping, read_run
from stadia.report.run_journal import compare_runs
from stadia.report.training_plots import (
    is_calibration,
    make_calibration_plot,
    make_layer_plots,
    make_sparsification_plots,
    summarize_time,
)

TEMPLATE_FOLDER = Path(__file__).parent / "templates"
SCRIPTS = ("report.js", "cloud.js")
SEVERITIES = ("stop", "warn", "note")
MAX_PATCH_LINES = 400
MAX_VALUE_CHARS = 200  # of a value in the table of the run; lists of hashes are longer
PATH_METRICS = ("path_m", "ate_m", "ate_rmse_m")  # scores of a camera's path


def build_report(
    run: Path, out: Path | None = None, *, private: bool = False, warn: Callable[[str], object] = lambda line: None
) -> Path:
    """Write the report of a run's folder, one file that needs nothing else, and return its path.

    The report may be shared: it shows no command line, no absolute path and no uncommitted code.

    run: runs/<date>-<name>, finished or not.
    out: where to write it; RUN/report.html by default.
    private: also show these parts.
    warn: called with a line for each file that the run has lost, or that cannot be read.

    Raises DataError where the folder is not a run.
    """
    files = read_run(run)
    before = find_previous_run(files)
    if not private:
        files, before = hide_private_parts(files), before and hide_private_parts(before)
    path = out or files.folder / "report.html"
    page = _render_page(files, before)
    for line in [*files.lost, *files.unreadable]:
        warn(str(line))
    write_text(path, page.encode("utf-8", "replace").decode("utf-8"))  # names of any bytes, half of a surrogate pair
    return path


@functools.cache
def _make_environment() -> Environment:
    """Make what the templates see. They are compiled once a process, which takes as long as to fill them."""
    options: Any = {"autoescape": True, "undefined": StrictUndefined, "trim_blocks": True, "lstrip_blocks": True}
    environment = Environment(loader=FileSystemLoader(TEMPLATE_FOLDER), **options)
    environment.filters["number"] = format_number
    environment.globals["figures"] = figures
    return environment


def _render_page(run: RunFiles, before: RunFiles | None) -> str:
    """Render the report as HTML. Everything from files is escaped, and the page cannot load anything."""
    template = _make_environment().get_template("report.html")
    depth_scale, findings = _describe_depth_scale(run), sections.list_findings(run)
    script = "".join(read_text(TEMPLATE_FOLDER / name, expected="a part of the report") for name in SCRIPTS)
    paths, scores = make_path_figures(run.scores), score_tables.merge_equal_scores(run.scores)
    facts = {
        key: value for key, value in flatten_mapping(run.run).items() if not key.startswith(("environment", "time."))
    }
    series = [one for one in run.series if not is_calibration(one)]
    return template.render(
        name=run.folder.resolve().name,
        run=run,
        stadia_version=__version__,
        model=str(run.run.get("model") or ""),
        status=describe_status(run.run.get("status")),
        facts=_list_run_facts(run),
        error=run.run.get("error"),
        depth_scale=depth_scale,
        quality=describe_quality(run, predicts_depth=depth_scale is not None),
        tiles=sections.make_tiles(run),
        findings=findings,
        not_checked=sections.list_unchecked(run),
        severities={s: count for s in SEVERITIES if (count := sum(f.severity == s for f in findings))},
        short_series=sections.list_short_series(series, run.spreads),
        curves=sections.make_curves(series, sections.list_stages(run)),
        layers=make_layer_plots(run.spreads),
        time_spent=summarize_time(run.run.get("time")),
        uncertainty=[*make_sparsification_plots(scores), *filter(None, [make_calibration_plot(run.series)])],
        sheets=sections.embed_image_sheets(run),
        sheet_notes=explain_sheets(one.name for one in series),
        of_validation=sections.embed_validation_images(run),
        predicted=embed_predicted_depth(run),
        color_scale=describe_color_scale(),
        has_depth_scores=score_tables.has_depth_scores(run),
        drawn=embed_drawn_predictions(run),
        clouds=load_point_clouds(run),
        score_tables=score_tables.make_score_tables(scores),
        image_scores=score_tables.make_image_scores(score_tables.leave_out_mirrored(scores)),
        odometry=[one for one in paths if one.is_open],
        odometry_folded=[one for one in paths if not one.is_open],
        odometry_methods=dict.fromkeys(method for one in paths for method in one.methods),
        changes=compare_runs(before, run) if before is not None else None,
        config=json.dumps(run.config, indent=2, ensure_ascii=False),
        environment=flatten_mapping(run.run.get("environment", {})),
        provenance={key: _shorten(value) for key, value in facts.items()},
        patch="\n".join(run.patch.splitlines()[:MAX_PATCH_LINES]),
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def _shorten(value: Any) -> str:
    """Return a value as text, cut at MAX_VALUE_CHARS."""
    text = str(value)
    return text if len(text) <= MAX_VALUE_CHARS else f"{text[:MAX_VALUE_CHARS]}… ({len(text)} characters)"


def _describe_depth_scale(run: RunFiles) -> tuple[str, str] | None:
    """Describe the depth scale of the result, the run or the first score file; None for a finished run without one."""
    depth_scales = (values.get("depth_scale") for values in (run.result, run.run, *run.scores.values()))
    depth_scale = next(filter(None, depth_scales), None)
    if depth_scale is None and run.run.get("status") == "finished":
        return None
    keys = (key for values in (run.result, *run.scores.values()) for key in flatten_mapping(values))
    has_path = any(key.rsplit(".", 1)[-1] in PATH_METRICS for key in keys)
    label, meaning = describe_depth_scale(depth_scale, run.run.get("scale_from"), path=has_path)
    source = describe_scale_source(depth_scale, run.run.get("rests_on"), run.run.get("no_metres"))
    fits = score_tables.describe_alignments(run.scores)
    return label, " ".join(filter(None, (meaning, source, fits)))


def _list_run_facts(run: RunFiles) -> list[str]:
    """Describe when the run started, how long it took, and its initial weights."""
    started, finished = (_parse_time(run.run.get(key)) for key in ("started", "finished"))
    facts = [f"{started.day} {started:%B %Y, %H:%M}"] if started else []
    if time_text := _describe_duration(run, started, finished):
        facts.append(time_text)
    if (steps := run.steps) is not None:
        facts.append(f"{format_number(steps)} step{'s' * (steps != 1)}{_describe_best_step(run, steps)}")
    if run.recipe_class:
        facts.append(f"trained by the class {run.recipe_class}")
    if isinstance(weights := run.run.get("weights"), dict) and weights:
        facts.append(", ".join(f"{name.replace('_', ' ')} {origin}" for name, origin in weights.items()))
    return facts


def _describe_duration(run: RunFiles, started: datetime | None, finished: datetime | None) -> str:
    """Describe how long a run took. The time between the parts of a resumed one is not its own."""
    if parts := len(score_tables.as_list(run.run.get("resumed"))):
        times, text = run.run.get("time"), f"in {parts + 1} parts"
        if not isinstance(times, dict) or times.get("steps") != run.steps:  # of one part alone
            return text
        if not is_finite(known := times.get("wall_s")) or known < 0:
            return text
        return f"took {format_duration(known)} to train and validate, {text}"
    if started and finished and (seconds := finished.timestamp() - started.timestamp()) >= 0:
        return f"took {format_duration(seconds)} to train and validate"
    return ""


def _describe_best_step(run: RunFiles, steps: int) -> str:
    """Return ` (best checkpoint: step 60)` where the verdict and the scores are of an earlier step; else nothing."""
    judged = run.run.get("judged")
    best = judged.get("steps") if isinstance(judged, dict) else None
    return f" (best checkpoint: step {best})" if isinstance(best, int) and 0 <= best < steps else ""


def _parse_time(text: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(str(text))
    except ValueError:
        return None
