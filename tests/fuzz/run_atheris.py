"""Fuzz parsers with atheris, guided by the coverage of their Python code: `python -m tests.fuzz.run_atheris TARGET`.

atheris is the extra `fuzz`; nothing else needs it. TARGET is a name of `targets.py`, several, or `all`. Each runs in a
process of its own until its minutes are over, or an input breaks a promise. That input is written to
`corpus/TARGET/crash-*`, where `test_targets.py` runs it from then on. build/fuzz/TARGET keeps the inputs that cover
more, and the next run starts from them. Code of C libraries is run, not measured.
"""

import argparse
import importlib.util
import os
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).parents[2]
CORPUS = Path(__file__).parent / "corpus"
INSTRUMENTED = ["stadia", "yaml", "zipfile", "csv", "numpy.lib._format_impl"]
"""Packages whose Python code is measured. torch, pydantic and others are trusted, and would hide these."""

LIMITS = ("-max_len=16384", "-rss_limit_mb=3000", "-timeout=40", "-print_final_stats=1")


def fuzz_here(name: str, words: list[str]) -> None:
    """Fuzz one target in this process until libFuzzer ends it.

    Only atheris is imported before the parsers, so that all of them are instrumented.
    """
    import atheris

    with tempfile.TemporaryDirectory(prefix="stadia-fuzz-") as folder:
        with atheris.instrument_imports(include=INSTRUMENTED):
            from tests.fuzz import targets

            targets.prepare_target(name, Path(folder))
            for seed in sorted((CORPUS / name).glob("*"))[:1]:  # it imports what the parser needs
                with suppress(targets.BrokenPromiseError):  # imports take seconds
                    targets.check_target(name, seed.read_bytes(), Path(folder))
        atheris.Setup([sys.argv[0], *words], lambda data: targets.check_target(name, data, Path(folder)))
        atheris.Fuzz()


def fuzz_target(name: str, minutes: float) -> bool:
    """Fuzz one target in a process of its own; return whether an input broke a promise."""
    inputs, corpus = ROOT / "build" / "fuzz" / name, CORPUS / name
    for folder in (inputs, corpus):
        folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "tests.fuzz.run_atheris", name, "--here", str(inputs), str(corpus), *LIMITS]
    command += [f"-max_total_time={round(60 * minutes)}", f"-artifact_prefix={corpus}/crash-"]
    env = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=ROOT, env=env, check=False).returncode != 0


def main() -> int:
    """Fuzz the targets of the command line; return how many had findings."""
    if sys.argv[2:3] == ["--here"]:
        fuzz_here(sys.argv[1], sys.argv[3:])
    from tests.fuzz.targets import TARGETS

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="+", choices=["all", *sorted(TARGETS)])
    parser.add_argument("--minutes", type=float, default=1.0, help="for each target")
    given = parser.parse_args()
    if importlib.util.find_spec("atheris") is None:
        print("skipped: atheris is not installed (pip install 'stadia[fuzz]')")
        return 0
    names = sorted(TARGETS) if "all" in given.targets else given.targets
    broken = [name for name in names if fuzz_target(name, given.minutes)]
    print(f"{len(names)} targets, {len(broken)} with findings: {', '.join(broken) or 'none'}")
    return min(len(broken), 100)


if __name__ == "__main__":
    sys.exit(main())
