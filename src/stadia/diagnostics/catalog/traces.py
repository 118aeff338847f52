"""Where each finding comes from, and the test that proves it. Imports no torch.

Lines are those of the project's specifications: "4.1 A5" of the self-supervised one (section 4), "F-09" of metric scale
(section 7), and "D-09", "P-20", "M-14" of DPT, pose and mask (section 4). A finding without a line names the bug that
occurred in this project. A line without a finding is listed in docs/lines-without-a-finding.md;
tests/diagnostics/test_lines_of_the_specifications.py checks both.
"""

from __future__ import annotations

from dataclasses import dataclass

from stadia.diagnostics.catalog.entry import read_tables


@dataclass(frozen=True, slots=True)
class Trace:
    """lines: of the specifications.  here: the bug that occurred in this project, where there is no line.

    proof: the file of the mutation that this code must find.
    """

    proof: str
    lines: tuple[str, ...] = ()
    here: str = ""


RECORDINGS = "tests/mutations/recordings.py"

TRACES = {
    code: Trace(table["proof"], tuple(table.get("lines", ())), table.get("here", ""))
    for code, table in read_tables().items()
}
"""Traces by the code of the finding."""
