"""Everything that the tests break on purpose, and what is told of it: a line each, and how many are caught. Minutes on
one core.

    python benchmarks/mutation_table.py [--only TEXT] [--out TABLE.md]

Each mutation says which code must name it, at which stage. "caught": that code is told first, at that stage; "another":
something else is; "missed": nothing is; "false alarm": what it was made from is not silent. Ends with 1 where fewer
than 95 % are caught.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from mutations.sound_and_broken import ELSEWHERE, ROWS  # noqa: E402
from mutations.table import Outcome, judged  # noqa: E402

from stadia.core.files import write_text  # noqa: E402
from stadia.diagnostics.catalog import CATALOG  # noqa: E402

LEAST = 0.95
"""Of the mutations, to be caught by the right code at the claimed stage."""


def main(only: str, out: Path | None) -> int:
    """Print the table as Markdown; the exit status."""
    rows = [row for row in ROWS if only.lower() in f"{row.name} {' '.join(row.codes)}".lower()]
    if not rows:
        print(f"--only {only}: found no mutation of this name or code", file=sys.stderr)
        return 2
    lines = ["| stage | broken | must be told | told | |", "|---|---|---|---|---|"]
    outcomes, began = Counter[Outcome](), time.monotonic()
    for number, row in enumerate(rows, start=1):
        with tempfile.TemporaryDirectory() as folder:
            one = judged(row, Path(folder))
        outcomes[one.outcome] += 1
        told = ", ".join(dict.fromkeys(one.told)) or "nothing"
        lines.append(f"| {row.stage} | {row.name} | {' or '.join(row.codes)} | {told} | {one.outcome} |")
        print(f"{number}/{len(rows)} {one.outcome}: {row.name}", file=sys.stderr)
    share = outcomes[Outcome.CAUGHT] / len(rows)
    counted = ", ".join(f"{outcomes[outcome]} {outcome}" for outcome in Outcome)
    codes = {code for row in rows for code in row.codes}
    total = (
        f"{len(rows)} mutations of {len(codes)} of {len(CATALOG)} codes: {counted}; {share:.0%} caught (goal"
        f" {LEAST:.0%})."
    )
    proven = f"{len(ELSEWHERE)} codes are proven by tests of their own: {', '.join(sorted(ELSEWHERE))}."
    text = "\n".join([*lines, "", total, *([] if only else [proven])])
    print(text)
    print(f"{time.monotonic() - began:.0f} s", file=sys.stderr)
    if out is not None:
        write_text(out, text + "\n")
    return 0 if share >= LEAST else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="TEXT", help="mutations with this in their name or their codes")
    parser.add_argument("--out", type=Path, help="write the table there as well")
    asked = parser.parse_args()
    sys.exit(main(asked.only, asked.out))
