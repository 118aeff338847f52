"""Fail each call that changes files: `python -m tests.campaign.run_faults [COMMANDS] [--every N]` (`make faults`).

Each call of a command fails once with an error and once with SIGKILL, then the same command runs undisturbed in the
same folder. COMMANDS choose by parts of their names. Prints a line for each wrong result, then a table.
"""

import argparse
import math
import os
import queue
import random
import re
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.campaign.faults import COMMANDS, ERRORS, Command, Result, Workplace, compile_shim, judge, judge_rerun
from tests.campaign.harness import Server
from tests.campaign.sound import build

_TEMPORARY = re.compile(r"\.([^/]*)\.[0-9a-f]{8}-\d+\.[a-z0-9_]{8}\.partial")
_KILL = 0


@dataclass
class Row:
    """What was found of one command. calls: of an undisturbed run.  disturbed: failed or killed, each with a rerun."""

    command: str
    calls: int
    disturbed: int = 0
    killed: int = 0
    wrong: int = 0
    litter: int = 0
    faults: list[str] = field(default_factory=list)

    def add(self, one: "Row") -> None:
        """Count one disturbed run."""
        self.disturbed += one.disturbed
        self.killed += one.killed
        self.wrong += one.wrong
        self.litter += one.litter


def choose_calls(
    calls: Sequence[str], *, most: int | None, every: int, matching: str = "", first: int = 1
) -> list[tuple[int, int]]:
    """Return (number, error) of calls to fail, in the order of the calls; error 0 is SIGKILL.

    matching: a regular expression that a call, as `name path`, holds.
    most: of each name and file, where numbers in names do not count, spread from the first to the last; None for all.
    every: each n-th of these.
    first: number of the call to begin with.
    """
    kinds: dict[str, list[int]] = {}
    for number, call in enumerate(calls, start=1):
        if not re.search(matching, call):
            continue
        kinds.setdefault(re.sub(r"\d+", "0", _TEMPORARY.sub(r"\1", call)), []).append(number)
    numbers = sorted(number for same in kinds.values() for number in _spread(same, most))[::every]
    chosen = [(number, error) for at, number in enumerate(numbers) for error in (ERRORS[at % len(ERRORS)], _KILL)]
    return [(number, error) for number, error in chosen if number >= first]


def _spread(numbers: list[int], most: int | None) -> list[int]:
    if most is None or len(numbers) <= most:
        return numbers
    return [numbers[k * (len(numbers) - 1) // max(most - 1, 1)] for k in range(most)]


def disturb(place: Workplace, command: Command, sound: Result, before: Sequence[str], number: int, error: int) -> Row:
    """Fail one call in a fresh folder, run the command again, and judge both."""
    place.fresh(command)
    stale, call = place.list_litter(), sound.calls[number - 1]
    result = place.run(command, fail_at=number, error=error)
    if result.code == sound.code and not call.startswith("unlink"):
        stale = []  # it was done, so it has removed what a killed run left
    faults = judge(result, sound, before, killed=error == _KILL, stale=stale)
    if result.code != sound.code:
        faults += judge_rerun(place.run(command), sound)
    name = "SIGKILL" if error == _KILL else os.strerror(error)
    row = Row(command.name, 0, 1, int(error == _KILL))
    row.litter = int(any(fault.startswith("litter") for fault in faults))
    row.wrong = int(any(not fault.startswith("litter") for fault in faults))
    tail = result.said.strip()[-300:]
    row.faults = [f"{command.name}, call {number} ({call}), {name}: {'; '.join(faults)}: {tail!r}"] if faults else []
    return row


def run_command(
    places: queue.Queue[Workplace],
    command: Command,
    *,
    most: int | None,
    every: int,
    minutes: float = math.inf,
    matching: str = "",
    first: int = 1,
) -> Iterator[Row]:
    """Yield the row of the undisturbed run, then one for each disturbed run that starts within the minutes."""
    ends = time.monotonic() + 60 * minutes
    place = places.get()
    place.fresh(command)
    before = place.list_finished()
    sound = place.run(command)
    places.put(place)
    if sound.code not in (0, 1):
        raise RuntimeError(f"{command.name} ended with {sound.code}: {sound.said[-2000:]}")
    yield Row(command.name, len(sound.calls))

    def work(one: tuple[int, int]) -> Row:
        if time.monotonic() > ends:
            return Row(command.name, 0)
        place = places.get()
        try:
            return disturb(place, command, sound, before, *one)
        finally:
            places.put(place)

    with ThreadPoolExecutor(places.qsize()) as threads:
        chosen = choose_calls(sound.calls, most=most, every=every, matching=matching, first=first)
        if minutes < math.inf:
            random.Random(0).shuffle(chosen)  # those of the time are spread over the command
        for done, row in enumerate(threads.map(work, chosen), start=1):
            if done * 10 // len(chosen) > (done - 1) * 10 // len(chosen):
                progress = f"{command.name}: {done} of {len(chosen)}, call {chosen[done - 1][0]}"
                print(progress, file=sys.stderr, flush=True)
            yield row


def make_parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser of what both programs share: the sound inputs and the number of servers."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--sound", type=Path, help="sound inputs of an earlier call; made where the folder is missing")
    parser.add_argument("--servers", type=int, default=os.cpu_count() or 1)
    return parser


@contextmanager
def open_places(sound: Path | None, servers: int) -> Iterator[queue.Queue[Workplace]]:
    """Make the sound inputs where they are missing, and start servers with the shim."""
    with tempfile.TemporaryDirectory(prefix="stadia-faults-") as name, ExitStack() as stack:
        folder = Path(name)
        shim = compile_shim(folder)
        if shim is None:
            raise RuntimeError("no C compiler")
        sound = sound or folder / "sound"
        if not sound.exists():
            build(sound)
        places: queue.Queue[Workplace] = queue.Queue()
        for number in range(servers):
            server = stack.enter_context(Server({"LD_PRELOAD": str(shim)}))
            places.put(Workplace(sound, folder / f"place{number}", server))
        yield places


def main() -> int:
    parser = make_parser(__doc__)
    parser.add_argument("commands", nargs="*")
    parser.add_argument("--every", type=int, default=1, help="fail each n-th call")
    parser.add_argument(
        "--minutes", type=float, default=math.inf, help="for each command; a part that is drawn by chance"
    )
    parser.add_argument("--matching", default="", help="only calls, as `name path`, that this regular expression finds")
    parser.add_argument("--first", type=int, default=1, help="call to begin with, where a campaign was stopped")
    parser.add_argument("--most", type=int, help="fail at most so many calls of each name and file, first to last")
    arguments = parser.parse_args()
    rows: list[Row] = []
    # Ctrl-C prints the table of what was done.
    with open_places(arguments.sound, arguments.servers) as places, suppress(KeyboardInterrupt):
        for command in COMMANDS:
            if arguments.commands and not any(word in command.name for word in arguments.commands):
                continue
            chosen = {"most": arguments.most, "every": arguments.every, "first": arguments.first}
            found = run_command(places, command, **chosen, minutes=arguments.minutes, matching=arguments.matching)
            rows.append(next(found))
            for one in found:
                rows[-1].add(one)
                for fault in one.faults:
                    print(fault, flush=True)
    print(f"{'command':16} {'calls':>6} {'failed':>7} {'killed':>7} {'wrong':>6} {'litter':>7}")
    for row in rows:
        failed = row.disturbed - row.killed
        print(f"{row.command:16} {row.calls:6} {failed:7} {row.killed:7} {row.wrong:6} {row.litter:7}")
    return int(any(row.wrong or row.litter for row in rows))


if __name__ == "__main__":
    sys.exit(main())
