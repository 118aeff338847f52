"""Write report.html: one self-contained file from a run's folder."""

from __future__ import annotations

import base64
import hashlib
import json
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from stadia import __version__
from stadia.core.files import write_text
from stadia.report import figures, sections, wording
from stadia.report.changes import compare, flatten
from stadia.report.clouds import clouds
from stadia.report.images import drawn, predicted
from stadia.report.layers import layer_plots
from stadia.report.quality import quality
from stadia.report.run_files import RunFiles, previous_run, read_run
from stadia.report.time_spent import time_spent
from stadia.report.uncertainty import calibration_plot, is_calibration, sparsification_plots

TEMPLATES = Path(__file__).parent / "templates"
SCRIPTS = ("report.js", "cloud.js")
SEVERITIES = ("stop", "warn", "note")
MAX_PATCH_LINES = 400
PATH = ("path_m", "ate_m", "ate_rmse_m")
"""Scores of a camera's path."""


def write_page(folder: Path, out: Path | None = None) -> Path:
    """Read a run's folder and write its report (RUN/report.html by default). Raises DataError where it is no run."""
    run = read_run(folder)
    path = out if out is not None else run.folder / "report.html"
    write_text(path, render(run, previous_run(run)))
    return path


def render(run: RunFiles, before: RunFiles | None = None) -> str:
    """Render the report as HTML. Everything from files is escaped, and the page cannot load anything."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = wording.number
    environment.globals["figures"] = figures
    claim, findings = _describe_claim(run), sections.findings(run)
    script = "".join((TEMPLATES / name).read_text(encoding="utf-8") for name in SCRIPTS)
    return environment.get_template("report.html").render(
        name=run.folder.resolve().name,
        run=run,
        stadia_version=__version__,
        model=str(run.run.get("model") or ""),
        status=wording.status(run.run.get("status")),
        facts=_list_run_facts(run),
        error=run.run.get("error"),
        claim=claim,
        quality=quality(run, claimed=claim is not None),
        tiles=sections.tiles(run),
        findings=findings,
        not_checked=sections.not_checked(run),
        severities={s: count for s in SEVERITIES if (count := sum(f.severity == s for f in findings))},
        logged_once=sections.logged_once([series for series in run.series if not is_calibration(series)]),
        curves=sections.curves([series for series in run.series if not is_calibration(series)], sections.stages(run)),
        layers=layer_plots(run.spreads),
        time_spent=time_spent(run.run.get("time")),
        uncertainty=[*sparsification_plots(run.scores), *filter(None, [calibration_plot(run.series)])],
        sheets=sections.sheets(run),
        of_validation=sections.of_validation(run),
        predicted=predicted(run),
        drawn=drawn(run),
        clouds=clouds(run),
        score_tables=sections.score_tables(run.scores),
        image_scores=sections.image_scores(run.scores),
        odometry=sections.odometry(run.scores),
        changes=compare(before, run) if before is not None else None,
        config=json.dumps(run.config, indent=2),
        environment=flatten(run.run.get("environment", {})),
        provenance={k: v for k, v in flatten(run.run).items() if not k.startswith(("environment", "time."))},
        patch="\n".join(run.patch.splitlines()[:MAX_PATCH_LINES]),
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def _describe_claim(run: RunFiles) -> tuple[str, str] | None:
    """Describe the depth scale of the result, the run or the first score file; None for a finished run without one."""
    holders = (run.result, run.run, *run.scores.values())
    claim = next((holder["claim"] for holder in holders if holder.get("claim")), None)
    if claim is None and run.run.get("status") == "finished":
        return None
    path = any(
        key.rsplit(".", 1)[-1] in PATH for holder in (run.result, *run.scores.values()) for key in flatten(holder)
    )
    label, meaning = wording.claim(claim, run.run.get("scale_from"), path=path)
    return label, f"{meaning} {wording.scale(claim, run.run.get('rests_on'), run.run.get('no_metres'))}".rstrip()


def _list_run_facts(run: RunFiles) -> list[str]:
    """Describe when the run started, how long it took, and its initial weights."""
    started, finished = (_parse_time(run.run.get(key)) for key in ("started", "finished"))
    facts = [f"{started.day} {started:%B %Y, %H:%M}"] if started else []
    if started and finished and (seconds := finished.timestamp() - started.timestamp()) >= 0:
        facts.append(f"took {wording.duration(seconds)} to train and validate")
    if run.series:
        steps = max(s.steps[-1] for s in run.series)
        facts.append(f"{wording.number(steps)} step{'s' * (steps != 1)}")
    if isinstance(weights := run.run.get("weights"), dict) and weights:
        facts.append(", ".join(f"{name.replace('_', ' ')} {origin}" for name, origin in weights.items()))
    return facts


def _parse_time(text: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(str(text))
    except ValueError:
        return None
