"""Run the campaign: `python -m benchmarks.campaign.run_campaign [WORDS] [--every N] [--out FILE]` (`make campaign`).

WORDS choose cases by parts of their names. Prints a line for each case that failed, then a table of the groups.
"""

import argparse
import collections
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

from benchmarks.campaign.cases import list_cases
from benchmarks.campaign.harness import Case, Outcome, Server, fingerprint
from tests.sound import build

BATCH = 40
"""Cases that one server runs."""


def run_cases(cases: Sequence[Case], folder: Path, servers: int, batch: int = BATCH) -> Iterator[Outcome]:
    """Run cases on several servers below `folder`, and yield their outcomes in order. A passed case's folder goes.

    batch: cases that one server runs.
    """

    def run_batch(some: Sequence[tuple[int, Case]]) -> list[Outcome]:
        with Server() as server:
            found = []
            for number, case in some:
                place = folder / f"{number:05d}"
                outcome = server.run(case, place)
                if not outcome.faults:
                    shutil.rmtree(place, ignore_errors=True)
                found.append(outcome)
            return found

    numbered = iter(enumerate(cases))
    batches = iter(lambda: list(islice(numbered, batch)), [])
    with ThreadPoolExecutor(servers) as threads:
        for found in threads.map(run_batch, batches):
            yield from found


def print_table(outcomes: Sequence[Outcome]) -> None:
    """Print cases, refusals, failures, the longest time and the most memory of each group."""
    groups: dict[str, list[Outcome]] = collections.defaultdict(list)
    for outcome in outcomes:
        groups[outcome.name.partition("/")[0]].append(outcome)
    print(f"{'group':14} {'cases':>6} {'refused':>8} {'failed':>7} {'longest':>8} {'memory':>9}")
    for name, found in [*groups.items(), ("all", list(outcomes))]:
        refused = sum(outcome.code == 2 for outcome in found)
        failed = sum(bool(outcome.faults) for outcome in found)
        longest, peak = max(o.seconds for o in found), max(o.peak_bytes for o in found)
        print(f"{name:14} {len(found):6} {refused:8} {failed:7} {longest:6.1f} s {peak / 2**20:5.0f} MiB")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("words", nargs="*")
    parser.add_argument("--every", type=int, default=1, help="run each n-th case")
    parser.add_argument("--out", type=Path, help="write every outcome as a line of JSON")
    parser.add_argument("--sound", type=Path, help="sound inputs of an earlier call; made where the folder is missing")
    parser.add_argument("--servers", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="stadia-campaign-") as folder:
        sound = arguments.sound or Path(folder, "sound")
        if not sound.exists():
            build(sound)
        cases = [
            case for case in list_cases(sound) if not arguments.words or any(w in case.name for w in arguments.words)
        ]
        cases = cases[:: arguments.every]
        before, start, outcomes = fingerprint(sound), time.monotonic(), []
        for outcome in run_cases(cases, Path(folder, "cases"), arguments.servers):
            outcomes.append(outcome)
            if outcome.faults:
                print(f"{outcome.name}: {'; '.join(outcome.faults)}: {outcome.said.strip()[-300:]!r}", flush=True)
        if arguments.out:
            lines = [json.dumps(outcome.__dict__) + "\n" for outcome in outcomes]
            arguments.out.write_text("".join(lines), encoding="utf-8", errors="backslashreplace")
        print_table(outcomes)
        print(f"{len(outcomes)} cases in {time.monotonic() - start:.0f} s")
        if fingerprint(sound) != before:
            print("the sound inputs were changed")
            return 1
    return int(any(outcome.faults for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
