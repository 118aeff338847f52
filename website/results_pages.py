"""Write docs/results/*.md from docs/results/figures.toml: `python -m website.results_pages`.

A figure may name a CSV file in this folder as `table`; the page has a link to it.
"""

from __future__ import annotations

import re
import textwrap
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from website.markdown_text import table

FOLDER = Path(__file__).parents[1] / "docs" / "results"
HEADS = ("what", "measured", "goal", "compared with")

INTRODUCTION = """\
# Results

Every figure was measured, and its page has the command. "Goal" was set before the measurement.
"Compared with" is another method on the same data and machine. .127 means 0.127.
[Metrics](../reference/metrics.md) and the [glossary](../reference/glossary.md) explain the terms.

Unless a row states otherwise, the machine has two cores of a server processor, no GPU, 24 GiB,
Python 3.11 and torch 2.13.0, and the seed is 0. The real samples are small parts of public datasets
(`STADIA_REAL_DATA`).
"""

MORE = """\
- [Code structure](code-size.md): programs that measure the code.
- [Notebooks](notebooks.md): the hypotheses of the founders' notebooks, tested.
- [Mistakes of the notebooks](notebook-bugs.md): each injected into a training, and what names it.
- [The network of the package](../reference/base-network.md): training and what was tried.
"""

Figure = Mapping[str, Any]


def read_areas() -> dict[str, Mapping[str, Any]]:
    """Return the areas by their page's name."""
    return tomllib.loads((FOLDER / "figures.toml").read_text(encoding="utf-8"))


def write_pages() -> dict[str, str]:
    """Return the text of each page by its path below docs/."""
    areas = read_areas()
    pages = {name: _write_area(area) for name, area in areas.items()}
    pages["index"] = _write_index(areas)
    return {f"results/{name}.md": text for name, text in pages.items()}


def _write_index(areas: Mapping[str, Mapping[str, Any]]) -> str:
    lines = []
    for name, area in areas.items():
        first = next((figure for figure in area["figures"] if figure.get("first")), area["figures"][0])
        rival = f" ({first['compared']})" if "compared" in first else ""
        lines.append(_wrap(f"- [{area['title']}]({name}.md). {first['what']}: **{first['measured']}**{rival}"))
    return "\n".join((INTRODUCTION, *lines, MORE))


def _write_area(area: Mapping[str, Any]) -> str:
    figures: Sequence[Figure] = area["figures"]
    commands = list(dict.fromkeys(figure["command"] for figure in figures))
    causes = [
        _wrap(f"- **{_name_row(figure, figures)}**: {figure['cause']}") for figure in figures if "cause" in figure
    ]
    parts = [f"# {area['title']}", _wrap(area["about"]), _write_rows(figures)]
    if causes:
        parts += ["## Causes", "\n".join(causes)]
    for figure in figures:
        if "table" in figure:
            parts.append(
                _wrap(f"**{_name_row(figure, figures)}**: [{figure['table']}]({figure['table']}) has each case.")
            )
    return "\n\n".join((*parts, "## Commands", "```text\n" + "\n".join(commands) + "\n```")) + "\n"


def _name_row(figure: Figure, figures: Sequence[Figure]) -> str:
    """Return the first words of a row, as many as no other row of the page begins with."""
    first = re.split(r"[:;,] ", figure["what"])[0]
    is_unique = sum(other["what"].startswith(first) for other in figures) == 1
    words = first.split() if is_unique else figure["what"].split()
    most = 7 if is_unique else 9
    return " ".join(words[:most]).rstrip(":;,") + (" ..." if len(words) > most else "")


def _wrap(text: str) -> str:
    indent = "  " if text.startswith("- ") else ""
    return textwrap.fill(" ".join(text.split()), 100, subsequent_indent=indent, break_on_hyphens=False)


def _write_rows(figures: Sequence[Figure]) -> str:
    rows = [(f["what"], f"**{f['measured']}**", f.get("goal", ""), f.get("compared", "")) for f in figures]
    return table(HEADS, rows)


def main() -> None:
    for path, text in write_pages().items():
        (FOLDER.parent / path).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
