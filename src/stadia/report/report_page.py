"""Write report.html: one self-contained file about a run's folder."""

import json
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from stadia import __version__
from stadia.core.errors import DataError
from stadia.io.atomic_files import write_text
from stadia.io.input_files import safe_join
from stadia.report import score_tables, training_charts, uncertainty_charts
from stadia.report.embedded_images import (
    EmbeddedImage,
    describe_color_scale,
    embed_drawn_predictions,
    embed_image_file,
    embed_image_sheets,
    embed_predicted_depth,
    embed_validation_images,
)
from stadia.report.page_template import PAGE_SCRIPT, POINTS_SCRIPT, embed_scripts, make_environment
from stadia.report.path_charts import make_path_figures
from stadia.report.point_cloud_figures import load_point_clouds
from stadia.report.private_parts import hide_private_parts
from stadia.report.quality_summary import describe_quality, make_tiles, make_verdict
from stadia.report.run_comparison import compare_runs
from stadia.report.run_files import (
    EvidenceLayout,
    RunFiles,
    arrange_evidence,
    as_list,
    describe_depth_scale,
    describe_scale_source,
    describe_status,
    explain_sheets,
    find_previous_run,
    flatten_mapping,
    format_duration,
    format_number,
    read_run,
)
from stadia.report.score_tables import list_scale_receipts
from stadia.report.training_charts import MIN_CURVE_STEPS

SEVERITIES = ("stop", "warn", "note")
NOT_CHECKED_FAMILY = "N"  # codes of checks that could not run, as in `diagnostics.finding.Family`
MAX_PATCH_LINES = 400
MAIN_CURVES = 4  # unfolded: the loss, its terms, validation
MAX_NAMES = 3  # recordings of a finding
MAX_SHORT_SERIES = 12  # listed by name; more are counted
PATH_METRICS = ("path_m", "ate_m", "ate_rmse_m")  # scores of a camera's path


def build_report(
    run: Path, out: Path | None = None, *, private: bool = False, warn: Callable[[str], object] = lambda line: None
) -> Path:
    """Write the report of a run as one self-contained HTML file, and return its path. The run may be unfinished.

    run: folder of the run.
    out: file to write; by default RUN/report.html.
    private: whether to show command line, absolute paths and uncommitted code.
    warn: called with a line for each file that is lost or unreadable.

    Raises DataError if the folder is not a run.
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


def _render_page(run: RunFiles, before: RunFiles | None) -> str:
    template = make_environment().get_template("report.html")
    depth_scale, findings = _describe_depth_scale(run), list_findings(run)
    clouds = load_point_clouds(run)
    scores = score_tables.merge_equal_scores(run.scores)
    facts = {
        key: value
        for key, value in flatten_mapping(run.facts.to_json()).items()
        if not key.startswith(("environment", "time."))
    }
    series = [s for s in run.series if not uncertainty_charts.is_calibration(s)]
    return template.render(
        name=run.folder.resolve().name,
        run=run,
        stadia_version=__version__,
        model=run.facts.recipe_facts.model or "",
        status=describe_status(run.facts.status, run.facts.predictions),
        trained_on=_describe_training(run),
        facts=_list_run_facts(run),
        error=run.facts.error,
        depth_scale=depth_scale,
        quality=describe_quality(run, predicts_depth=depth_scale is not None),
        verdict=make_verdict(run),
        tiles=make_tiles(run),
        findings=findings,
        not_checked=list_unchecked(run),
        severities={s: count for s in SEVERITIES if (count := sum(f.get("severity") == s for f, *_ in findings))},
        short_series=training_charts.list_short_series(series, run.spreads),
        curves=training_charts.make_curves(series, training_charts.list_stages(run)),
        main_curves=MAIN_CURVES,
        max_short_series=MAX_SHORT_SERIES,
        min_curve_steps=MIN_CURVE_STEPS,
        layers=training_charts.make_layer_plots(run.spreads),
        time_spent=training_charts.summarize_time(run.facts.time),
        uncertainty=[
            *uncertainty_charts.make_sparsification_plots(scores),
            *filter(None, [uncertainty_charts.make_calibration_plot(run.series)]),
        ],
        sheets=embed_image_sheets(run),
        sheet_notes=explain_sheets(s.name for s in series),
        of_validation=embed_validation_images(run),
        predicted=embed_predicted_depth(run),
        color_scale=describe_color_scale(),
        has_depth_scores=score_tables.has_depth_scores(run),
        drawn=embed_drawn_predictions(run),
        clouds=clouds,
        receipts=list_scale_receipts(run),
        score_tables=score_tables.make_score_tables(scores),
        image_scores=score_tables.make_image_scores(score_tables.leave_out_mirrored(scores)),
        paths=make_path_figures(run.scores),
        changes=compare_runs(before, run) if before is not None else None,
        config=json.dumps(run.config, indent=2, ensure_ascii=False),
        environment={name: value for name, value in flatten_mapping(asdict(run.facts.environment)).items() if value},
        provenance=facts,
        patch="\n".join(run.patch.splitlines()[:MAX_PATCH_LINES]),
        **embed_scripts([POINTS_SCRIPT, PAGE_SCRIPT] if clouds else [PAGE_SCRIPT]),
    )


def _describe_depth_scale(run: RunFiles) -> tuple[str, str] | None:
    facts = run.facts.recipe_facts
    depth_scales = (
        run.result.get("depth_scale"),
        facts.depth_scale,
        *(s.get("depth_scale") for s in run.scores.values()),
    )
    depth_scale = next(filter(None, depth_scales), None)
    if depth_scale is None and run.facts.status == "finished":
        return None
    keys = (key for values in (run.result, *run.scores.values()) for key in flatten_mapping(values))
    has_path = any(key.rsplit(".", 1)[-1] in PATH_METRICS for key in keys)
    label, meaning = describe_depth_scale(depth_scale, facts.scale_from, path=has_path)
    source = describe_scale_source(depth_scale, facts.rests_on, facts.no_metres)
    fits = score_tables.describe_alignments(run.scores)
    return label, " ".join(filter(None, (meaning, source, fits)))


def _describe_training(run: RunFiles) -> str:
    path, steps = run.facts.data.get("path"), run.steps
    name = Path(path).name if isinstance(path, str) else ""
    on_data = f" on {name}" if name not in ("", "…") else ""  # a home folder is hidden
    return f"trained{on_data}" + (f", {format_number(steps)} step{'s' * (steps != 1)}" if steps is not None else "")


def _list_run_facts(run: RunFiles) -> list[str]:
    started, finished = (_parse_time(text) for text in (run.facts.started, run.facts.finished))
    facts = [f"{started.day} {started:%B %Y, %H:%M}"] if started else []
    if time_text := _describe_duration(run, started, finished):
        facts.append(time_text)
    if (steps := run.steps) is not None:
        facts.append(f"{format_number(steps)} step{'s' * (steps != 1)}{_describe_best_step(run, steps)}")
    if run.recipe_class:
        facts.append(f"trained by the class {run.recipe_class}")
    if weights := run.facts.weights:
        facts.append(", ".join(f"{name.replace('_', ' ')} {origin}" for name, origin in weights.items()))
    if licence := run.facts.recipe_facts.licence:
        facts.append(f"licence of the published weights: {licence}")
    return facts


def _describe_duration(run: RunFiles, started: datetime | None, finished: datetime | None) -> str:
    if parts := len(run.facts.resumed):
        times = run.facts.time
        is_whole = times is not None and times.steps == run.steps  # The times cover all parts of the run.
        took = f"took {format_duration(times.wall_s)} to train and validate, " if times and is_whole else ""
        return f"{took}in {parts + 1} parts"
    if started and finished and (seconds := finished.timestamp() - started.timestamp()) >= 0:
        return f"took {format_duration(seconds)} to train and validate"
    return ""


def _describe_best_step(run: RunFiles, steps: int) -> str:
    best = run.facts.judged.steps if run.facts.judged else None
    return f" (best checkpoint: step {best})" if best is not None and best < steps else ""


def _parse_time(text: str | None) -> datetime | None:
    try:
        return datetime.fromisoformat(str(text))
    except ValueError:
        return None


def list_findings(run: RunFiles) -> list[tuple[dict[str, Any], str, EvidenceLayout, EmbeddedImage | None]]:
    """Return (finding, where, evidence, image) in written order, without skipped checks."""
    shown = []
    for finding in run.findings:
        if not _is_skipped_check(finding):
            evidence = finding.get("evidence")
            arranged = arrange_evidence(evidence if isinstance(evidence, dict) else {})
            shown.append((finding, _format_where(finding), arranged, _embed_evidence_image(arranged.image, run)))
    return shown


def list_unchecked(run: RunFiles) -> list[tuple[str, str]]:
    """Return (what was not checked and why, where) of each skipped check."""
    skipped = filter(_is_skipped_check, run.findings)
    return [(str(finding.get("measured") or ""), _format_where(finding)) for finding in skipped]


def _is_skipped_check(finding: dict[str, Any]) -> bool:
    return str(finding.get("code")).startswith(NOT_CHECKED_FAMILY) and finding.get("severity") == "note"


def _format_where(finding: dict[str, Any]) -> str:
    names = list(map(str, as_list(finding.get("where"))))
    return ", ".join(names[:MAX_NAMES]) + (f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else "")


def _embed_evidence_image(name: str, run: RunFiles) -> EmbeddedImage | None:
    if not name:
        return None
    try:
        return embed_image_file(safe_join(run.folder, name), name, run)
    except (DataError, OSError, ValueError) as error:
        run.unreadable.append(f"{name}: {error.found if isinstance(error, DataError) else error}")
        return None
