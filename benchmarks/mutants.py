"""Measure what the tests protect: change one operator of the package at a time, and run the tests of its module.

pip install cosmic-ray
python benchmarks/mutants.py sample MUTANTS.json --count 200 --seed 88
nice -n 19 python benchmarks/mutants.py run MUTANTS.json RESULTS.json --limit 100

The operators are those of cosmic-ray. A line of code is drawn among all lines that one of them changes, so a module
counts by its length. `run` changes the files of this checkout, so use a checkout of its own. It continues where it
stopped. In another version of the code a mutant is applied if the function still has the line.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import importlib
import json
import os
import random
import re
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "stadia"
LIBRARIES = """
    torch cv2 scipy.optimize scipy.ndimage pytest matplotlib.pyplot pydantic lightning_fabric typer numba onnxruntime
"""
"""What the tests import, loaded once: each mutant is tested by a fork of one process."""
QUIET = ("-W", "ignore::pytest.PytestAssertRewriteWarning")
"""Some plugins of pytest are loaded with the libraries, so pytest cannot rewrite their assertions."""
TESTS_S = 25.0
"""Processor seconds of the tests of one mutant; the most specific test files run first."""
TEST_S = 20.0
"""Processor seconds after which one test counts as hanging, which the mutant causes."""


def name_functions(tree: ast.Module) -> Iterator[tuple[str, int, int]]:
    """Yield each function's name with its class, first line and last line; nested functions belong to the outer one."""
    for node in tree.body:
        members = node.body if isinstance(node, ast.ClassDef) else [node]
        prefix = f"{node.name}." if isinstance(node, ast.ClassDef) else ""
        for member in members:
            if isinstance(member, ast.FunctionDef):
                yield prefix + member.name, member.lineno, member.end_lineno or member.lineno


def find_mutations(path: Path) -> dict[int, dict[str, list[tuple[str, int]]]]:
    """Return what cosmic-ray can change in functions of a file: line, kind of operator, (operator, occurrence)."""
    import cosmic_ray.plugins
    from cosmic_ray.ast import ast_nodes, get_ast_from_path

    functions = list(name_functions(ast.parse(path.read_text(encoding="utf-8"))))
    nodes = list(ast_nodes(get_ast_from_path(path)))
    found: dict[int, dict[str, list[tuple[str, int]]]] = defaultdict(lambda: defaultdict(list))
    for name in cosmic_ray.plugins.operator_names():
        operator_class = cosmic_ray.plugins.get_operator(name)
        if operator_class.arguments() or "RemoveDecorator" in name:
            continue
        operator = operator_class()
        positions = [position for node in nodes for position in operator.mutation_positions(node)]
        for occurrence, ((line, _), _) in enumerate(positions):
            if any(first < line <= last for _, first, last in functions):
                found[line][name.split("_")[0]].append((name, occurrence))
    return found


def make_mutant(path: Path, operator_name: str, occurrence: int) -> dict[str, Any]:
    """Return the lines that an operator replaces, and the function that holds them."""
    import cosmic_ray.plugins
    from cosmic_ray.mutating import MutationVisitor

    source = path.read_text(encoding="utf-8")
    operator = cosmic_ray.plugins.get_operator(operator_name)()
    changed = MutationVisitor.mutate_code(source, operator, occurrence)
    old, new = source.splitlines(), changed.splitlines()
    first = next(index for index, (before, after) in enumerate(zip(old, new, strict=False)) if before != after)
    last = len(old) - next(
        index for index, (before, after) in enumerate(zip(old[::-1], new[::-1], strict=False)) if before != after
    )
    function, start = next(
        (name, start) for name, start, end in name_functions(ast.parse(source)) if start <= first + 1 <= end
    )
    before, after = old[first:last], new[first : last + len(new) - len(old)]
    nth = sum(old[index : index + len(before)] == before for index in range(start - 1, first))
    return {
        "file": str(path.relative_to(ROOT)), "line": first + 1, "function": function, "nth": nth,
        "operator": operator_name.removeprefix("core/"), "before": before, "after": after,
    }  # fmt: skip


def sample_mutants(count: int, seed: int) -> list[dict[str, Any]]:
    """Draw mutants: a line of all that can change, then a kind of operator, then an operator."""
    paths = sorted(PACKAGE.rglob("*.py"))
    mutations = [find_mutations(path) for path in paths]
    lines = [(path, kinds) for path, found in zip(paths, mutations, strict=True) for _, kinds in sorted(found.items())]
    drawn = random.Random(seed)
    mutants = []
    for path, kinds in drawn.sample(lines, count):
        operator, occurrence = drawn.choice(kinds[drawn.choice(sorted(kinds))])
        mutants.append(make_mutant(path, operator, occurrence))
    return mutants


def apply_mutant(mutant: dict[str, Any]) -> tuple[Path, str] | None:
    """Return the file that holds the mutant's function and line, and its changed text; None if no file does."""
    paths = sorted(PACKAGE.rglob("*.py"), key=lambda path: (path != ROOT / mutant["file"], path))
    before = mutant["before"]
    for path in paths:
        source = path.read_text(encoding="utf-8")
        if before[0] not in source:
            continue
        lines = source.splitlines()
        for name, start, end in name_functions(ast.parse(source)):
            places = [i for i in range(start - 1, end) if lines[i : i + len(before)] == before]
            if name == mutant["function"] and len(places) > mutant["nth"]:
                place = places[mutant["nth"]]
                changed = [*lines[:place], *mutant["after"], *lines[place + len(before) :]]
                return path, "\n".join(changed) + "\n"
    return None


def name_module(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def read_imports(path: Path) -> dict[str, int]:
    """Return the modules of the package that a file imports, also through the `__init__` of a package, with counts."""
    counts: dict[str, int] = defaultdict(int)
    text = path.read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                counts[alias.name] += text.count(alias.asname or alias.name)
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("stadia"):
            for alias in node.names:
                home = node.module
                with contextlib.suppress(Exception):
                    value = getattr(importlib.import_module(home), alias.name)
                    home = (
                        value.__name__ if hasattr(value, "__path__") or hasattr(value, "__spec__") else value.__module__
                    )
                counts[home if home.startswith("stadia") else node.module] += len(
                    re.findall(rf"\b{alias.asname or alias.name}\b", text)
                )
    return {name: count for name, count in counts.items() if name.startswith("stadia")}


def map_tests() -> dict[str, list[str]]:
    """Return the test files of each module, those that name it most first.

    Those of the modules that import a module follow the ones that import it themselves.
    """
    tests = sorted((ROOT / "tests").glob("*/**/test_*.py"))  # those of no folder run commands and read documents
    of_tests = {test: read_imports(test) for test in tests}
    users: dict[str, set[str]] = defaultdict(set)
    for path in PACKAGE.rglob("*.py"):
        for module in read_imports(path):
            users[module].add(name_module(path))
    modules = [name_module(path) for path in PACKAGE.rglob("*.py")]
    chosen = {}
    for module in modules:
        order: list[str] = []
        near, seen = {module}, {module}
        while near and len(order) < 12:
            ranked = sorted(
                ((module.split(".")[-1] in test.stem, sum(of.get(name, 0) for name in near), test)
                 for test, of in of_tests.items()), key=lambda row: (-row[0], -row[1], row[2])
            )  # fmt: skip
            order += [str(test.relative_to(ROOT)) for _, count, test in ranked if count]
            order = list(dict.fromkeys(order))
            near = {user for name in near for user in users[name]} - seen
            seen |= near
        chosen[module] = order[:24]
    return chosen


class Limits:
    """A plugin of pytest: end a test that hangs, and stop after the time of one mutant."""

    def __init__(self) -> None:
        self.failed: list[str] = []
        self.passed = 0

    def spent(self) -> float:
        return sum(os.times()[:4])

    def pytest_runtest_setup(self, item: Any) -> None:
        def hang(*_: object) -> None:
            raise TimeoutError(f"{TEST_S} s of processor time")

        signal.signal(signal.SIGPROF, hang)
        signal.setitimer(signal.ITIMER_PROF, TEST_S)

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed:
            self.failed.append(report.nodeid)
        self.passed += report.passed and report.when == "call"
        if report.when == "teardown" and self.spent() > TESTS_S:
            self.session.shouldstop = "time of one mutant"

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed:
            self.failed.append(report.nodeid)

    def pytest_sessionstart(self, session: Any) -> None:
        self.session = session


def run_tests(tests: list[str], log: Path, broken: Sequence[str] = ()) -> dict[str, Any]:
    """Run tests in a fork of this process, which has the libraries loaded, until the first failure."""
    answer = log.with_suffix(".json")
    left_out = [f"--deselect={name}" if "::" in name else f"--ignore={name}" for name in broken]
    answer.unlink(missing_ok=True)
    child = os.fork()
    if not child:
        os.setsid()
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        import pytest

        limits = Limits()
        code = -1
        with contextlib.suppress(BaseException):
            code = pytest.main(
                [*tests, "-x", "-q", "-p", "no:cacheprovider", "--timeout=0", *QUIET, *left_out], [limits]
            )
        answer.write_text(json.dumps({
            "code": int(code), "failed": limits.failed, "passed": limits.passed, "seconds": round(limits.spent(), 1)
        }))  # fmt: skip
        os._exit(0)
    deadline = time.monotonic() + 20 * TESTS_S
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        time.sleep(0.2)
        if time.monotonic() > deadline:
            os.killpg(child, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    if not answer.exists():
        return {"code": -1, "failed": ["the process ended"], "passed": 0, "seconds": 0.0}
    found: dict[str, Any] = json.loads(answer.read_text())
    return found


def run_mutant(path: Path, text: str, tests: list[str], log: Path, broken: Sequence[str]) -> dict[str, Any]:
    """Return what the tests find while a file has another text."""
    original, times = path.read_text(encoding="utf-8"), path.stat()
    try:
        path.write_text(text, encoding="utf-8")
        return run_tests(tests, log, broken)
    finally:
        path.write_text(original, encoding="utf-8")
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def run_mutants(mutants: list[dict[str, Any]], results: Path, limit: int) -> None:
    """Write for each mutant whether a test failed, and which one."""
    sys.dont_write_bytecode = True
    for name in LIBRARIES.split():
        importlib.import_module(name)
    os.chdir(ROOT)
    tests = map_tests()
    for name in [name for name in sys.modules if name.split(".")[0] == "stadia"]:
        del sys.modules[name]
    log = results.with_suffix(".tests.log")
    done: dict[str, Any] = json.loads(results.read_text()) if results.exists() else {}
    broken: list[str] = []
    sound: set[str] = set()
    for index, mutant in enumerate(mutants[:limit]):
        if str(index) in done:
            continue
        applied = apply_mutant(mutant)
        if applied is None:
            done[str(index)] = {"status": "the line is gone"}
        else:
            path, text = applied
            found = run_mutant(path, text, tests[name_module(path)], log, broken)
            while found["failed"] and found["failed"][0] not in sound:
                name = found["failed"][0]
                if not run_tests([name], log)["failed"]:
                    sound.add(name)
                    break
                broken.append(name)  # it fails without the mutant too
                found = run_mutant(path, text, tests[name_module(path)], log, broken)
            done[str(index)] = {"status": "caught" if found["failed"] else "missed", "applied": str(path), **found}
        results.write_text(json.dumps(done, indent=1))
        print(index, mutant["file"], mutant["function"], done[str(index)], flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    sample = commands.add_parser("sample")
    sample.add_argument("mutants", type=Path)
    sample.add_argument("--count", type=int, default=200)
    sample.add_argument("--seed", type=int, default=88)
    run = commands.add_parser("run")
    run.add_argument("mutants", type=Path)
    run.add_argument("results", type=Path)
    run.add_argument("--limit", type=int, default=200)
    given = parser.parse_args()
    if given.command == "sample":
        given.mutants.write_text(json.dumps(sample_mutants(given.count, given.seed), indent=1))
    else:
        run_mutants(json.loads(given.mutants.read_text()), given.results.resolve(), given.limit)


if __name__ == "__main__":
    main()
