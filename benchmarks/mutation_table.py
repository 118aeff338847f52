"""Print every mutation of the tests with the finding that named it, and count those that are caught. Takes minutes.

    python benchmarks/mutation_table.py [--only TEXT] [--out TABLE.md]

Each mutation has the code that must name it, and the stage. "caught": this code is reported first, at this stage;
"another": another one is; "missed": none is; "false alarm": the unbroken original has findings. Exits with 1 where
fewer than 95 % are caught.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.mutations.all_mutations import PROVEN_ELSEWHERE, ROWS  # noqa: E402
from tests.mutations.mutation import Outcome, run_mutation  # noqa: E402

from stadia.io.atomic_files import write_text  # noqa: E402
from stadia.judge.catalog import CATALOG  # noqa: E402

MIN_CAUGHT = 0.95
"""Share of the mutations that the right code must catch at the right stage."""


def main(only: str, out: Path | None) -> int:
    """Print the table as Markdown. Return the exit status."""
    torch.set_num_threads(1)  # the images are small: threads that wait for a busy core cost more than they save
    rows = [row for row in ROWS if only.lower() in f"{row.name} {' '.join(row.codes)}".lower()]
    if not rows:
        print(f"--only {only}: found no mutation of this name or code", file=sys.stderr)
        return 2
    lines = ["| stage | mutation | expected | reported | |", "|---|---|---|---|---|"]
    outcomes, began = Counter[Outcome](), time.monotonic()
    for number, row in enumerate(rows, start=1):
        with tempfile.TemporaryDirectory() as folder:
            result = run_mutation(row, Path(folder))
        outcomes[result.outcome] += 1
        reported = ", ".join(dict.fromkeys(result.reported)) or "nothing"
        lines.append(f"| {row.stage} | {row.name} | {' or '.join(row.codes)} | {reported} | {result.outcome} |")
        print(f"{number}/{len(rows)} {result.outcome}: {row.name}", file=sys.stderr)
    share = outcomes[Outcome.CAUGHT] / len(rows)
    counted = ", ".join(f"{outcomes[outcome]} {outcome}" for outcome in Outcome)
    codes = {code for row in rows for code in row.codes}
    total = (
        f"{len(rows)} mutations of {len(codes)} of {len(CATALOG)} codes: {counted}; {share:.0%} caught (goal"
        f" {MIN_CAUGHT:.0%})."
    )
    proven = f"{len(PROVEN_ELSEWHERE)} codes are proven by tests of their own: {', '.join(sorted(PROVEN_ELSEWHERE))}."
    text = "\n".join([*lines, "", total, *([] if only else [proven])])
    print(text)
    print(f"{time.monotonic() - began:.0f} s", file=sys.stderr)
    if out is not None:
        write_text(out, text + "\n")
    return 0 if share >= MIN_CAUGHT else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="TEXT", help="mutations with this in their name or their codes")
    parser.add_argument("--out", type=Path, help="write the table there as well")
    arguments = parser.parse_args()
    sys.exit(main(arguments.only, arguments.out))
