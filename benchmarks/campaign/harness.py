"""What every command line must survive: hostile files, options and folders.

A case writes its files into an empty folder and runs one command there. Whatever the input:

- the exit code is 0 (done), 1 or 2 (refused); never 70 (internal error), never a signal;
- a refusal is one line (or one line for each mistake of a configuration) with found and expected;
- it ends in `seconds` and stays below `max_bytes`;
- no file that was there is changed, also behind links; no temporary file and no process is left;
- nothing that it prints is obeyed by a terminal;
- no code of the input runs: every attempt would create the file CANARY.
"""

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
CANARY = "code-was-run"
SECONDS, MAX_BYTES = 60.0, 2 << 30
_REFUSAL = re.compile(r"^stadia: .+: found .+; expected .+[.!?]", re.DOTALL)
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_TRACEBACK = re.compile(r"^Traceback |internal error|Segmentation fault|Fatal Python error", re.MULTILINE)


VERDICT_RECORD = "run/findings.jsonl", "run/.lock"
"""What `predict` may change in the run of its checkpoint: a verdict that is worse than that on record is added."""


@dataclass(frozen=True)
class Case:
    """One hostile command line.

    name: unique; `group/what`.  write: makes the files in an empty folder.  argv: words after `stadia`; `{dir}` is
    that folder.  accepted: whether the command may also succeed (0): an input that is odd and right.
    changes: names (of files or folders in the folder) that the command may create or change.
    """

    name: str
    write: Callable[[Path], None]
    argv: Sequence[str]
    accepted: bool = False
    changes: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    seconds: float = SECONDS
    max_bytes: int = MAX_BYTES


@dataclass(frozen=True)
class Outcome:
    """What a case did. faults: why it failed; empty where it passed.  said: what it printed."""

    name: str
    code: int
    seconds: float
    peak_bytes: int
    said: str
    faults: tuple[str, ...]


class Server:
    """A process of `server.py`, as a context manager. `run` runs one case in a folder; `run_job` any job.

    env: further variables of the process, such as LD_PRELOAD.
    """

    def __init__(self, env: Mapping[str, str] | None = None) -> None:
        self._env = dict(env or {})

    def __enter__(self) -> "Server":
        env = os.environ | {"PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}", "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
        env |= self._env
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.campaign.server"],
            cwd=ROOT,
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._read()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=30)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the campaign's server ended")
        return dict(json.loads(line))

    def run_job(self, job: Mapping[str, Any]) -> dict[str, Any]:
        """Run a job of `server.py`, and return its outcome."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        return self._read()

    def run(self, case: Case, folder: Path) -> Outcome:
        """Write the files of a case into `folder` (empty), run it, and judge it."""
        work, before = prepare_case(case, folder)
        output = folder / "output"
        job = {
            "argv": [word.replace("{dir}", str(work)) for word in case.argv],
            "cwd": str(work),
            "env": {"STADIA_CANARY": str(folder / CANARY), "CUDA_VISIBLE_DEVICES": "", **case.env},
            "seconds": case.seconds,
            "max_bytes": case.max_bytes,
            "out": str(output),
        }
        result = self.run_job(job)
        said = output.read_text(encoding="utf-8", errors="replace")
        faults = [*_judge_process(case, result), *judge_output(case, result["code"], said)]
        faults += judge_files(case, folder, before)
        return Outcome(case.name, result["code"], result["seconds"], result["peak_bytes"], said, tuple(faults))


def prepare_case(case: Case, folder: Path) -> tuple[Path, dict[str, str]]:
    """Write the files of a case, and return the folder where its command runs and the fingerprint of that folder."""
    work = folder / "work"
    work.mkdir(parents=True)
    case.write(work)
    return work, fingerprint(work)


def _judge_process(case: Case, result: Mapping[str, Any]) -> list[str]:
    faults = []
    if result["seconds"] > case.seconds:
        faults.append(f"hangs: stopped after {case.seconds:.0f} s")
    elif result["code"] < 0:
        faults.append(f"crashed with signal {-result['code']}")
    if result["peak_bytes"] > case.max_bytes:
        faults.append(f"{result['peak_bytes'] / 2**30:.1f} GiB of memory")
    if result["orphans"]:
        faults.append("a process was left running")
    return faults


def judge_output(case: Case, code: int, said: str) -> list[str]:
    """Return the faults of an exit code and of what the command printed."""
    faults = []
    if code > 2:
        faults.append(f"exit code {code}")
    elif code == 0 and not case.accepted:
        faults.append("accepted")
    if _TRACEBACK.search(said):
        faults.append("an internal error or traceback")
    if _CONTROL.search(said):
        faults.append("control characters are printed")
    if code == 2 and not any(_REFUSAL.match(part) for part in _split_messages(said)):
        faults.append("refused without found and expected")
    return faults


def judge_files(case: Case, folder: Path, before: Mapping[str, str]) -> list[str]:
    """Return the faults of the files that a command left. before: the fingerprint of `prepare_case`."""
    recorded = VERDICT_RECORD if "predict" in case.argv else ()
    faults = _compare(before, fingerprint(folder / "work"), [*case.changes, *recorded])
    if (folder / CANARY).exists():
        faults.append("code of the input was run")
    return faults


def _split_messages(said: str) -> list[str]:
    """Return the messages of `stadia: ` in an output, each with the lines that continue it."""
    starts = [match.start() for match in re.finditer(r"^stadia: ", said, re.MULTILINE)]
    return [said[start:end] for start, end in pairwise([*starts, len(said)])]


def fingerprint(folder: Path) -> dict[str, str]:
    """Return the content of every file below a folder as a hash, by its path; links and odd files by their kind.

    A link to a folder beside it counts with the files there, which a command that follows the link would change.
    """
    found: dict[str, str] = {}
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(place, name)
            key = str(path.relative_to(folder))
            if path.is_symlink():
                found[key] = f"-> {path.readlink()}"
                there = Path(os.path.realpath(path))
                if there.is_dir() and there.parent == folder.parent.resolve() and there != folder.resolve():
                    found |= {f"{key}/{name}": value for name, value in fingerprint(there).items()}
            elif path.is_file():
                found[key] = hashlib.sha256(path.read_bytes()).hexdigest() if path.stat().st_size < 1 << 28 else "large"
            else:
                found[key] = "folder" if path.is_dir() else "odd"
    return found


def _compare(before: Mapping[str, str], after: Mapping[str, str], allowed: Sequence[str]) -> list[str]:
    """Return the faults of a folder: files changed, removed or created that may not be, and temporary files."""
    faults = []
    for name in sorted(before.keys() | after.keys()):
        may_change = any(name == one or name.startswith(f"{one}/") for one in allowed)
        if before.get(name) == after.get(name):
            continue
        last = Path(name).name
        if last.startswith(".") and last != ".lock" and name not in before:
            faults.append(f"litter: {name}")
        elif not may_change:
            verb = "created" if name not in before else "removed" if name not in after else "changed"
            faults.append(f"{verb}: {name}")
    return faults
