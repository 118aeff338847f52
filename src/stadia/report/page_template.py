"""Templates, scripts and style that the pages of reports share."""

import base64
import functools
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from stadia.io.input_files import read_text
from stadia.report.charts import Chart

TEMPLATE_FOLDER = Path(__file__).parent / "templates"
SHARED_FOLDER = Path(__file__).parent / "shared"  # files that the app serves too: colors, type, and points in 3D

POINTS_SCRIPT, PAGE_SCRIPT = SHARED_FOLDER / "points.js", TEMPLATE_FOLDER / "report.js"


@functools.cache
def make_environment() -> Environment:
    """Return the environment of the templates, which are compiled once per process."""
    options: Any = {"autoescape": True, "undefined": StrictUndefined, "trim_blocks": True, "lstrip_blocks": True}
    environment = Environment(loader=FileSystemLoader(TEMPLATE_FOLDER), **options)
    sheets = SHARED_FOLDER / "theme.css", TEMPLATE_FOLDER / "report.css"
    environment.globals["style"] = "".join(read_text(sheet, expected="a part of the page") for sheet in sheets)
    return environment


def embed_scripts(paths: Sequence[Path]) -> dict[str, str]:
    """Return the text of scripts and its hash, which the security policy of the page names."""
    script = "".join(read_text(path, expected="a part of the page") for path in paths)
    return {"script": script, "script_hash": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}


def render_charts(charts: Sequence[Chart]) -> list[str]:
    """Return charts with their legends as HTML. The app shows them, too."""
    macros = make_environment().get_template("macros.html").module
    return [str(macros.chart_card(chart)) for chart in charts]  # type: ignore[attr-defined]
