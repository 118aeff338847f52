"""Write docs/developing/inputs.md, the table of inputs of other programs: `python -m website.input_pages`.

The counts come from benchmarks/public_reports.py, whose outcomes tests/test_public_reports.py asserts.
"""

from __future__ import annotations

import re
from collections import Counter

from benchmarks.public_reports import REPORTS

from website.site_source import DOCS

PAGE = DOCS / "developing" / "inputs.md"
INTRODUCTION = """\
# Which inputs of other programs are tried?

`benchmarks/public_reports.py` has the inputs, and `tests/test_public_reports.py` runs them. Each is
read, or an error names cause and fix. `python -m website.input_pages` writes this table.

| kind | read | cause named |
|---|---:|---:|
"""
KINDS = {
    "poses and positions": r"T\d|P\d|traj-",
    "cameras": r"C\d|cam-|K-of|ros-|record3d|metashape|dso-|ns-",
    "depth maps": r"D\d|depth-",
    "objects and masks": r"B\d|N\d|M\d|bop-|boxes-|masks-",
    "videos and photos": r"V\d|video-|photo",
    "networks and launchers": r"F0[1-5]|hub-|launch-",
    "recordings, stereo and archives": "",
}
"""Patterns of the names of the inputs of a kind; the first that matches counts, and the last has the others."""


def write_page() -> str:
    """Return the text of the page."""
    counts = Counter[tuple[str, str]]()
    for report in REPORTS:
        kind = next(kind for kind, pattern in KINDS.items() if re.match(pattern, report.name))
        counts[kind, report.outcome] += 1
    rows = [f"| {kind} | {counts[kind, 'right']} | {counts[kind, 'cure']} |" for kind in KINDS]
    return INTRODUCTION + "\n".join(rows) + "\n"


if __name__ == "__main__":
    PAGE.write_text(write_page(), encoding="utf-8")
