"""Write docs/findings.md from the catalog."""

from __future__ import annotations

import sys
import textwrap

from stadia.diagnostics.catalog import CATALOG
from stadia.diagnostics.catalog.entries import FAMILIES, READINGS, Entry

INTRODUCTION = """\
# Findings

*Generated from the catalog (`src/stadia/diagnostics/catalog`) by `python -m
stadia.diagnostics.catalog.findings_page`. Change it there.*

A finding gives what was measured, what was expected, the likely cause and the fix. `stadia check
DATA` prints the findings that need no training, and every training starts with them. A **stop**
refuses to train unless `--on-stop warn` is given. A **warn** may work and should be checked. A
**note** names what could not be checked, and why.

The evidence is numbers, a table of the residual under each hypothesis, and an image where that
helps: the right image warped with both signs of the baseline, the image size that K fits, the
points of an adjacent frame projected with the poses. A run keeps these images in `findings/` and
shows them in its report. `stadia check DATA --out FOLDER` writes them.

Monitors report during training what persisted: the rows or validations span 100 steps. Nothing
counts before step 100 or while the learning rate rises. Some failures are never chance and are
reported at once: values that are not finite, a learning rate or gradient of 0, a loss constant to
the last digit, impossible sums, times and scores. Loss spikes and updates that raise the loss above
its start are also reported at once, while there is time to stop. Two findings stop a training by
themselves: values that are not finite (T08) and zero gradients (T10). `--on-stop warn` disables the
second. A resumed run reads its logged rows again, so that monitors keep their state.

Every check uses samples, so that it takes seconds whatever the size of the data: geometry on 6
frames of a recording.

`stadia explain CODE` prints one of them in a terminal, with the line of the specifications or the
bug behind it, and the test that proves it by breaking something on purpose. Lines of the
specifications without a finding are in [lines without a finding](lines-without-a-finding.md), each
with the reason.

Fix findings in this order: later ones are often symptoms of earlier ones. An optimizer that changes
nothing, or too much, comes before view synthesis. Splits that share data come last, since they
distort scores only. `stadia diagnose RUN` sorts the findings of a run: what to fix first (a stop
before a warning), what may follow from it, what has another cause, and what could not be checked.
`--json` is for scripts, and the exit status is 1 where there is a stop. `python
benchmarks/mutation_table.py` breaks one thing after the other on purpose, and prints which finding
named it. `benchmarks/preflight.py` measures each threshold again, on clean and on broken data.
"""

CALIBRATED = """\
Clean: nine RoadWorld worlds of three seeds, KITTI odometry 06 (stereo), KITTI raw (mono, LiDAR,
LiDAR odometry), 7-Scenes kitchen (RGB-D). Broken: the mutations of `tests/mutations`. `python
benchmarks/preflight.py` prints every value.
"""


def write_markdown() -> str:
    """Return the page: a table of codes, then each entry by family."""
    families = {letter: [e for e in CATALOG.values() if e.code[0] == letter] for letter in FAMILIES}
    parts = [INTRODUCTION, "| code | finding | family |\n|---|---|---|"]
    parts[-1] += "".join(
        f"\n| [{e.code}](#{_anchor(e)}) | {e.title} | {FAMILIES[e.code[0]]} |" for es in families.values() for e in es
    )
    for letter, entries in families.items():
        if entries:
            parts.append(f"## {FAMILIES[letter].capitalize()}")
            parts += [_section(entry) for entry in entries]
    parts += ["## Measured values behind the thresholds", CALIBRATED, _table()]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def _table() -> str:
    rows = [(r.measurement, r.codes, r.roadworld, r.real, r.broken, r.warns, r.stops) for r in READINGS]
    head = ("measurement", "codes", "clean RoadWorld", "clean real data", "broken", "warns", "stops")
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ("---",) * len(head), *rows))


def _anchor(entry: Entry) -> str:
    """Return the anchor that GitHub gives the heading of an entry."""
    kept = "".join(c for c in f"{entry.code} {entry.title}".lower() if c.isalnum() or c in " -")
    return kept.replace(" ", "-")


def _section(entry: Entry) -> str:
    lines = [f"### {entry.code} {entry.title}", ""]
    for name in ("symptom", "cause", "fix", "measured", "source"):
        text = getattr(entry, name)
        item = f"- **{name}**: {text}{'' if text.endswith('.') else '.'}"
        lines.append(textwrap.fill(item, 100, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False))
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(write_markdown())
