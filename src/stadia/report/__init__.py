"""Reports for people, from files on disk, without torch. Imports core only."""

from __future__ import annotations

from pathlib import Path


def build_report(run: Path, out: Path | None = None) -> Path:
    """Write the report of a run's folder, one file that needs nothing else, and return its path.

    Args:
        run: runs/<date>-<name>, finished or not.
        out: where to write it; RUN/report.html by default.

    Raises DataError where the folder is not a run.
    """
    from stadia.report.report_page import write_report_page

    return write_report_page(run, out)
