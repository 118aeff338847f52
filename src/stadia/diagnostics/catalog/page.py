"""docs/findings.md, written from the catalog: `python -m stadia.diagnostics.catalog.page > docs/findings.md`."""

from __future__ import annotations

import sys

from stadia.diagnostics.catalog import CATALOG
from stadia.diagnostics.catalog.calibration import READINGS
from stadia.diagnostics.catalog.entry import FAMILIES, Entry

INTRODUCTION = """\
# Findings

*Written from the catalog (`src/stadia/diagnostics/catalog`) by `python -m stadia.diagnostics.catalog.page`; change it there.*

A finding says what was measured, what was expected, the likely cause and the fix. `stadia check DATA` prints those that need no
training, and every training starts with them: it refuses to go on where one says **stop**, unless told `--on-stop warn`.
**warn** can work, and deserves a look. **note** says what could not be checked, and why.

The evidence is numbers, a small table of what each hypothesis would leave over, and an image where one says more: both warps of the right
camera for a wrong sign, the image that K fits drawn around yours, the points of a neighbor where the poses put them. A run keeps the
images in `findings/` and shows them in its report; `stadia check DATA --out FOLDER` writes them to look at.

What is told while a run trains has lasted: its rows or validations span 100 steps, and nothing before step 100 or while the learning rate
rises counts. What is never so by chance is told at once: what is not finite, a rate or gradient of 0, a loss alike to the last digit,
sums, times and scores that cannot be; and the spike of a batch, and updates that throw the loss above its start, while there is time to
stop. Two stop a training by themselves: what is not finite (T08) and weights without a gradient (T10); `--on-stop warn` lets the second
be. A run that goes on goes through what it logged again, and remembers its start.

Every check looks at samples, so that it takes seconds whatever the size of the data: geometry on 6 frames of a recording.

`stadia explain CODE` tells one of them in a terminal, with the line of the specifications or the bug that it comes from, and the test that
proves it by breaking something on purpose. Lines of the specifications that no finding comes from stand in
[lines without a finding](lines-without-a-finding.md), each with the reason.

Look in this order: what comes later is often a symptom of what comes earlier. An optimizer that moves nothing, or too far, comes before
sampling, and splits that share something come last: they spoil scores alone. `stadia diagnose RUN` puts what was found of a run into it:
what to mend first (what says stop before what warns), what may only follow from it, what has another cause and what nobody could check;
`--json` for scripts, and the exit status is 1 where something says stop. `python benchmarks/mutation_table.py` breaks one thing after the
other on purpose, and prints which finding named it. `benchmarks/preflight.py` measures each threshold
again: on clean data, and on data that was broken in the way that the finding is about.
"""

CALIBRATED = """\
Clean: nine RoadWorld worlds of three seeds, KITTI odometry 06 (stereo), KITTI raw (mono, LiDAR, LiDAR odometry), 7-Scenes kitchen
(RGB-D). Broken: the mutations of `tests/mutations`. All of it by `python benchmarks/preflight.py`, which prints every reading.
"""


def markdown() -> str:
    """The page: a table of codes, then each entry, family by family."""
    families = {letter: [e for e in CATALOG.values() if e.code[0] == letter] for letter in FAMILIES}
    parts = [INTRODUCTION, "| code | finding | family |\n|---|---|---|"]
    parts[-1] += "".join(
        f"\n| [{e.code}](#{_anchor(e)}) | {e.title} | {FAMILIES[e.code[0]]} |" for es in families.values() for e in es
    )
    for letter, entries in families.items():
        if entries:
            parts.append(f"## {FAMILIES[letter].capitalize()}")
            parts += [_section(entry) for entry in entries]
    parts += ["## What the instruments read", CALIBRATED, _table()]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def _table() -> str:
    rows = [(r.instrument, r.codes, r.roadworld, r.real, r.broken, r.warns, r.stops) for r in READINGS]
    head = ("instrument", "codes", "clean RoadWorld", "clean real data", "broken", "warns", "stops")
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ("---",) * len(head), *rows))


def _anchor(entry: Entry) -> str:
    """GitHub's anchor of the entry's heading."""
    kept = "".join(c for c in f"{entry.code} {entry.title}".lower() if c.isalnum() or c in " -")
    return kept.replace(" ", "-")


def _section(entry: Entry) -> str:
    lines = [f"### {entry.code} {entry.title}", ""]
    for name in ("symptom", "cause", "fix", "measured", "seen"):
        text = getattr(entry, name)
        lines.append(f"- **{name}**: {text}{'' if text.endswith('.') else '.'}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(markdown())
