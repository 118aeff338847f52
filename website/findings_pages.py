"""Write the pages of the findings from the catalog: a table of all codes, and a page for each family."""

from __future__ import annotations

from stadia.judge.catalog import CATALOG, Entry
from stadia.judge.finding import Family
from website.markdown_text import escape, table

INTRODUCTION = """\
# Findings

A finding has a code, what was measured, what was expected, the likely cause and the fix.
[How checks work](../explanation/checks.md) explains when each is computed and in which order to fix
them. `stadia explain CODE` prints an entry in a terminal.
"""


def write_findings() -> dict[str, str]:
    """Return the text of each page by its path below docs/."""
    families = {family: [entry for entry in CATALOG.values() if entry.family is family] for family in Family}
    rows = [
        (f"[{entry.code}](findings/{_slug(family)}.md#{entry.code.lower()})", escape(entry.title), family.label)
        for family, entries in families.items()
        for entry in entries
    ]
    pages = {"reference/findings.md": "\n".join((INTRODUCTION, table(("code", "finding", "family"), rows), ""))}
    for family, entries in families.items():
        title = f"# Findings {family}: {family.label}"
        pages[f"reference/findings/{_slug(family)}.md"] = "\n\n".join((title, *map(_write_entry, entries))) + "\n"
    return pages


def _slug(family: Family) -> str:
    return family.label.replace(" ", "-")


def _write_entry(entry: Entry) -> str:
    rows = [
        ("When", entry.stage.value.replace("_", " ")),
        *((name.capitalize(), getattr(entry, name)) for name in ("symptom", "cause", "fix", "measured", "source")),
    ]
    items = [f"- **{name}:** {escape(text)}{'' if text.rstrip().endswith('.') else '.'}" for name, text in rows if text]
    return "\n".join((f"## {entry.code} {escape(entry.title)} {{ #{entry.code.lower()} }}", "", *items))
