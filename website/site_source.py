"""Collect the Markdown of the site: the pages of docs/ and the reference that is generated from the code."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import yaml

from website.api_pages import write_api
from website.command_pages import write_commands
from website.configuration_pages import write_configuration
from website.findings_pages import write_findings
from website.markdown_text import render_formulas

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
SETTINGS = Path(__file__).with_name("mkdocs.yml")


WIDE = ("results/index.md", "reference/findings.md", "reference/configuration/*", "reference/command-line/*")
"""Pages of wide tables, which use the place of the table of contents."""
HIDE_CONTENTS = "---\nhide:\n  - toc\n---\n\n"


def generate_pages() -> dict[str, str]:
    """Return the text of every generated page by its path below docs/."""
    return {**write_commands(), **write_configuration(), **write_findings(), **write_api()}


def collect_source(folder: Path, *, formulas: bool = True) -> dict[str, str]:
    """Write docs/ and the generated pages into an empty folder; return the generated ones.

    formulas: convert formulas to MathML, which needs the extra `docs`.
    """
    shutil.copytree(DOCS, folder)
    pages = generate_pages()
    for name, text in pages.items():
        path = folder / name
        if path.exists():
            raise FileExistsError(f"{path}: found a page of docs/; expected a generated page. Fix: rename one of them.")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    for path in (path for pattern in WIDE for path in folder.glob(pattern)):
        path.write_text(HIDE_CONTENTS + path.read_text(encoding="utf-8"), encoding="utf-8")
    if formulas:
        for path in folder.rglob("*.md"):
            text = path.read_text(encoding="utf-8")
            if "$" in text and (rendered := render_formulas(text)) != text:
                path.write_text(rendered, encoding="utf-8")
    return pages


def complete_navigation(entries: Any, pages: dict[str, str]) -> Any:
    """Return the navigation in which each `FOLDER/*` stands for the generated pages of a folder."""
    if isinstance(entries, list):
        return [one for entry in entries for one in _expand(entry, pages)]
    if isinstance(entries, dict):
        return {title: complete_navigation(inner, pages) for title, inner in entries.items()}
    return entries


def _expand(entry: Any, pages: dict[str, str]) -> list[Any]:
    if isinstance(entry, str) and entry.endswith("/*"):
        folder = entry.removesuffix("*")
        inside = [name for name in pages if name.startswith(folder) and not name.endswith("index.md")]
        return [{_title(pages[name]): name} for name in sorted(inside)]
    return [complete_navigation(entry, pages)]


def _title(text: str) -> str:
    title = text.partition("\n")[0].removeprefix("# ").replace("`", "")
    return re.sub(r"^(stadia |stadia\.|Keys of |Findings )", "", title)


def write_settings(folder: Path, pages: dict[str, str]) -> Path:
    """Write the complete settings of the builder into a folder that holds `docs`; return their path."""
    settings = yaml.safe_load(SETTINGS.read_text(encoding="utf-8"))
    settings["nav"] = complete_navigation(settings["nav"], pages)
    settings |= {"docs_dir": "docs", "site_dir": "site"}
    for plugin in settings["plugins"]:
        if "mkdocstrings" in plugin:
            plugin["mkdocstrings"]["handlers"]["python"]["paths"] = [str(ROOT / "src")]
    path = folder / "mkdocs.yml"
    path.write_text(yaml.safe_dump(settings, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return path
