"""Kill commands at random moments: `python -m tests.campaign.run_kills [--kills 200] [--seed 0]` (`make kills`).

After each SIGKILL the same command runs undisturbed in the same folder; a training is resumed where it had begun. Its
result must be the undisturbed one, without temporary files and without a process that runs on. Prints a line for each
kill, then a table.
"""

import dataclasses
import json
import queue
import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.campaign.faults import COMMANDS, Command, Result, Workplace, judge, judge_rerun, list_runs
from tests.campaign.run_faults import make_parser, open_places

_BY_NAME = {command.name: command for command in COMMANDS}
_WORKERS = dataclasses.replace(
    _BY_NAME["train"],
    name="train-workers",
    line=_BY_NAME["train"].line.replace("training.workers=0", "training.workers=2"),
)
SHARES: Mapping[str, int] = {
    "train": 30,
    "train-workers": 30,
    "resume": 20,
    "predict-images": 30,
    "predict-video": 25,
    "odometry": 30,
    "report": 15,
    "overlay": 10,
    "roadworld": 5,
    "ablate": 5,
}
"""Kills of each command in 200: training (its first steps fill the frame store), predicting, odometry, reports, shards
of composite images, a rendered data set, and a study.
"""
_LATEST = 1.05  # of the undisturbed time, so that some kills come after the end


@dataclass
class Kill:
    """One kill. after_s: when it came.  code: exit code of the killed command; 0 where it had ended before."""

    command: str
    after_s: float
    code: int
    faults: list[str]


def plan_kills(kills: int, seed: int) -> list[tuple[Command, float]]:
    """Return commands in a random order, each with a moment as a share of its undisturbed time."""
    generator = random.Random(seed)
    commands = {**_BY_NAME, _WORKERS.name: _WORKERS}
    names = [name for name, share in SHARES.items() for _ in range(share)]
    generator.shuffle(names)
    chosen = [names[k % len(names)] for k in range(kills)]
    return [(commands[name], generator.uniform(0, _LATEST)) for name in chosen]


def run_kill(place: Workplace, command: Command, share: float, sound: Result, before: Sequence[str]) -> Kill:
    """Kill a command in a fresh folder, run it again or resume it, and judge both."""
    place.fresh(command)
    after_s = share * sound.seconds
    killed = place.run(command, kill_s=after_s)
    faults = judge(killed, sound, before, killed=True)
    if killed.code != sound.code:
        faults += judge_rerun(place.run(_continue(command, place.work)), sound)
    return Kill(command.name, after_s, killed.code, faults)


def _continue(command: Command, work: Path) -> Command:
    """Return the command, or for a training that has begun its resumption."""
    if command.line.startswith("train selfsup"):
        for run in list_runs(work / "out"):
            if (run / "run.json").exists() and json.loads((run / "run.json").read_text())["status"] != "finished":
                return dataclasses.replace(command, line=f"train --resume out/{run.name}")
    return command


def run_kills(places: queue.Queue[Workplace], plan: Sequence[tuple[Command, float]]) -> Iterator[Kill]:
    """Yield each kill of a plan, after an undisturbed run of each command."""
    sounds: dict[str, tuple[Result, list[str]]] = {}
    place = places.get()
    for command in {command.name: command for command, _ in plan}.values():
        place.fresh(command)
        before = place.list_finished()
        sounds[command.name] = place.run(command), before
        if sounds[command.name][0].code not in (0, 1):
            raise RuntimeError(f"{command.name}: {sounds[command.name][0].said[-2000:]}")
    places.put(place)

    def work(one: tuple[Command, float]) -> Kill:
        place = places.get()
        try:
            return run_kill(place, *one, *sounds[one[0].name])
        finally:
            places.put(place)

    with ThreadPoolExecutor(places.qsize()) as threads:
        yield from threads.map(work, plan)


def main() -> int:
    parser = make_parser(__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rows: dict[str, list[Kill]] = {}
    # Ctrl-C prints the table of what was done.
    with open_places(arguments.sound, arguments.servers) as places, suppress(KeyboardInterrupt):
        for kill in run_kills(places, plan_kills(arguments.kills, arguments.seed)):
            rows.setdefault(kill.command, []).append(kill)
            said = "; ".join(kill.faults) or "right"
            print(f"{kill.command}, killed after {kill.after_s:.3f} s ({kill.code}): {said}", flush=True)
    print(f"{'command':16} {'kills':>6} {'in time':>8} {'wrong':>6} {'litter':>7} {'orphans':>8}")
    for command, kills in [*rows.items(), ("all", [kill for row in rows.values() for kill in row])]:
        in_time = sum(kill.code != 0 for kill in kills)
        faults = [fault for kill in kills for fault in kill.faults]
        litter, orphans = (sum(word in fault for fault in faults) for word in ("litter", "left running"))
        wrong = len(faults) - litter - orphans
        print(f"{command:16} {len(kills):6} {in_time:8} {wrong:6} {litter:7} {orphans:8}")
    return int(any(kill.faults for row in rows.values() for kill in row))


if __name__ == "__main__":
    sys.exit(main())
