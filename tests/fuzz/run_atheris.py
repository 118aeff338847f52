"""Fuzz parsers with atheris, guided by the coverage of their Python code: `python -m tests.fuzz.run_atheris TARGET`.

atheris is the extra `fuzz`; nothing else needs it. TARGET is a name of `targets.py`, several, or `all`. Each runs in a
process of its own, which is started again after a crash, a hang or memory beyond the limit, until its minutes are over.
Every other broken promise is recorded, and the process goes on. Inputs that broke one are written to
`corpus/TARGET/crash-*`, where `test_targets.py` runs them from then on. Code of C libraries is run, not measured.

The search is done in portions of five minutes, and goes on where it was stopped: FOLDER/TARGET keeps the inputs that
cover more, and the next portion starts from them. FOLDER/results.jsonl has one row for each target, with executions and
processor seconds of all portions; `--minutes` are those of all together, and a target that has had them is skipped. So
the search is as long on a busy machine.
Several runs may share a folder where their targets differ: one a core.
FOLDER is build/fuzz, or `--folder`.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock
from tests.fuzz.targets import CORPUS, MAX_SECONDS, TARGETS

from stadia.files.atomic_files import atomic_write

ROOT = Path(__file__).parents[2]
MAX_LENGTH = 16384
MAX_CRASH_BYTES = 4096  # larger ones are reported and not kept
_STATUS = re.compile(r"#(\d+)\s+\w+\s+cov: (\d+) ft: (\d+)")
_RSS_MB = 3000
_FIRST_START_SECONDS = 60  # imports are instrumented
_LEAST_SECONDS = 10  # worth another start
_PORTION_SECONDS = 300  # of the processor: a run that is killed loses the counts of one portion
_WORDS = (
    *("NaN", "-Infinity", "inf", "1e308", "1e400", "-1", "9223372036854775808", "9" * 30, "0x1f", "null", "true"),
    *(
        "[[[[[[[[",
        "{}",
        "[]",
        '""',
        "\\u0000",
        "\\ud800",
        "\\u001b[31m",
        "../..",
        "/dev/zero",
        "&a",
        "*a",
        "<<: ",
        "!!int ",
        "? ",
    ),
    *(
        "!!timestamp ",
        "!!binary ",
        "\u00b2",
        "\u2028",
        "\x1b[31m",
        "\0",
        "\xff\xc0",
        "\xff\xda",
        "IHDR",
        "IDAT",
        "PK\x05\x06",
    ),
)
"""Pieces that a mutation may insert."""


@dataclass(slots=True)
class FuzzResult:
    """Of one target, in all runs.

    seconds: of the processor.
    edges, features: the most that a process covered.
    seed: of the next process: a portion does not repeat the one before.
    findings: the input that broke a promise, by what was broken.
    """

    name: str
    executions: int = 0
    edges: int = 0
    features: int = 0
    seconds: float = 0.0
    seed: int = 1
    findings: dict[str, bytes] = field(default_factory=dict)

    def row(self) -> dict[str, Any]:
        """Return the row of results.jsonl."""
        return asdict(self) | {"findings": {place: data.hex() for place, data in self.findings.items()}}

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> FuzzResult:
        """Return what `row` was made of."""
        return cls(**row | {"findings": {place: bytes.fromhex(data) for place, data in row["findings"].items()}})

    def __str__(self) -> str:
        """Return one line."""
        numbers = f"{self.executions:>9} executions, {self.edges:>6} edges, {self.features:>6} features"
        return f"{self.name:<20} {numbers}, {self.seconds:>5.0f} s, {len(self.findings)} findings"


def fuzz_target(result: FuzzResult, seconds: float, inputs: Path) -> None:
    """Fuzz one target for so many more seconds of the processor, from the inputs of a folder on; add to its result."""
    start, earlier = _processor_seconds(), result.seconds
    inputs.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="stadia-fuzz-", dir=find_memory_folder()) as folder:
        work = Path(folder)
        (work / "words").write_text("".join(f'"{_escape(word)}"\n' for word in _WORDS))
        while (left := seconds - (_processor_seconds() - start)) > _LEAST_SECONDS:
            before = result.executions
            _run_process(result, work, left, inputs)
            result.seed += 1
            if result.executions == before:
                break  # it cannot start: the findings say why
    result.seconds = earlier + _processor_seconds() - start


def find_memory_folder() -> Path | None:
    """Return a folder in memory, where there is one: each input is written to a file, which takes longer on a disk."""
    folder = Path("/dev/shm")
    return folder if os.access(folder, os.W_OK) else None


def _processor_seconds() -> float:
    """Return what the processes that have ended took."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def read_results(path: Path) -> dict[str, FuzzResult]:
    """Return the results of earlier runs by target."""
    lines = path.read_text().splitlines() if path.exists() else []
    return {row["name"]: FuzzResult.from_row(row) for row in map(json.loads, lines)}


def write_results(path: Path, results: dict[str, FuzzResult]) -> None:
    """Write one row for each target; a run that is killed leaves the rows before."""
    with atomic_write(path) as temporary:
        temporary.write_text("".join(json.dumps(results[name].row()) + "\n" for name in sorted(results)))


def _escape(word: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in word.encode("latin-1", "replace"))


def _run_process(result: FuzzResult, work: Path, seconds: float, inputs: Path) -> None:
    corpus = CORPUS / result.name
    command = [
        *(sys.executable, "-m", "tests.fuzz.atheris_process", result.name, str(work)),
        *(str(inputs.absolute()), *([str(corpus)] if corpus.is_dir() else [])),
        *(
            f"-max_total_time={int(seconds)}",
            f"-seed={result.seed}",
            f"-max_len={MAX_LENGTH}",
            f"-rss_limit_mb={_RSS_MB}",
        ),
        *(f"-timeout={int(2 * MAX_SECONDS)}", f"-artifact_prefix={work}/artifact-", "-print_final_stats=1"),
        f"-dict={work}/words",
    ]
    env = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    log = work / "log"
    with log.open("wb") as stream:
        limit = seconds + 4 * MAX_SECONDS + _FIRST_START_SECONDS
        try:
            code = subprocess.run(command, cwd=ROOT, env=env, stdout=stream, stderr=stream, timeout=limit).returncode
        except subprocess.TimeoutExpired:  # other programs had the processor: an input that hangs ends the process
            code = 0
    text = log.read_text(errors="replace")
    counts = [tuple(map(int, match.groups())) for match in _STATUS.finditer(text)]
    total = re.search(r"number_of_executed_units: (\d+)", text)
    result.executions += int(total[1]) if total else counts[-1][0] if counts else 0
    if counts:
        result.edges, result.features = max(result.edges, counts[-1][1]), max(result.features, counts[-1][2])
    for place, data in _read_findings(work):
        result.findings.setdefault(place, data)
    artifacts = sorted(work.glob("artifact-*"))
    for artifact in artifacts:
        kind = artifact.name.split("-")[1]
        if kind == "crash" or _breaks_alone(result.name, work, artifact):
            result.findings.setdefault(f"{kind} of the process", artifact.read_bytes())
        artifact.unlink()
    if code and not artifacts and not result.findings:
        result.findings[f"the process ended with {code}: {text[-1000:]}"] = b""


def _breaks_alone(name: str, work: Path, file: Path) -> bool:
    """Return whether one input hangs or fills the memory in a process of its own, three times: machines are busy.

    A long search grows by itself: atheris keeps each object that numpy compares. A busy machine makes any input slow.
    """
    limits = (f"-rss_limit_mb={_RSS_MB}", f"-timeout={int(2 * MAX_SECONDS)}", f"-artifact_prefix={work}/again-")
    command = [sys.executable, "-m", "tests.fuzz.atheris_process", name, str(work), *limits, str(file)]
    limit = 4 * MAX_SECONDS + _FIRST_START_SECONDS
    try:
        return all(subprocess.run(command, cwd=ROOT, capture_output=True, timeout=limit).returncode for _ in range(3))
    except subprocess.TimeoutExpired:
        return True


def _read_findings(work: Path) -> Iterator[tuple[str, bytes]]:
    path = work / "findings.jsonl"
    for line in path.read_text().splitlines() if path.exists() else []:
        found = json.loads(line)
        yield found["place"], bytes.fromhex(found["data"])


def _keep_findings(result: FuzzResult) -> None:
    for data in result.findings.values():
        if 0 < len(data) <= MAX_CRASH_BYTES:
            path = CORPUS / result.name / f"crash-{hashlib.sha256(data).hexdigest()[:12]}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)


def main() -> int:
    """Fuzz the targets of the command line; return how many had findings."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="+", help="names of tests/fuzz/targets.py, or all")
    parser.add_argument("--minutes", type=float, default=1.0, help="for each target, in all runs together")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "fuzz", help="results and inputs of all runs")
    given = parser.parse_args()
    names = sorted(TARGETS) if given.targets == ["all"] else given.targets
    if unknown := [name for name in names if name not in TARGETS]:
        parser.error(f"no target {unknown[0]}; there are {', '.join(sorted(TARGETS))}")
    if importlib.util.find_spec("atheris") is None:
        print("skipped: atheris is not installed (pip install 'stadia[fuzz]')")
        return 0
    broken, table = 0, given.folder / "results.jsonl"
    for name in names:
        result = read_results(table).get(name, FuzzResult(name))
        while (left := 60 * given.minutes - result.seconds) > _LEAST_SECONDS:
            before = result.executions
            fuzz_target(result, min(left, _PORTION_SECONDS), given.folder / name)
            with FileLock(table.with_suffix(".lock")):  # another run adds rows meanwhile
                write_results(table, read_results(table) | {name: result})
            if result.executions == before:
                break  # it cannot start: the findings say why
        print(result, flush=True)
        for place, data in result.findings.items():
            print(f"    {place} ({len(data)} bytes)", flush=True)
        _keep_findings(result)
        broken += bool(result.findings)
    return min(broken, 100)


if __name__ == "__main__":
    sys.exit(main())
