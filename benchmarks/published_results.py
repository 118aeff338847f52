"""Judge published results of other programs: python benchmarks/published_results.py FOLDER [--split choose].

benchmarks/published_results.csv lists results that people published together with their images: program, repository,
commit, paths, licence, number of images, what is known of the truth, and the split. `camera` is what the repository
states about a camera that is not in the result: a file next to it, or the numbers of its code. All results of a
repository, and all copies of a data set, are in one split. Judge the split "judge" once, after all choices are made.

FOLDER contains NAME/result and NAME/images for each line, as they are in the repository; a transforms.json also has
the images at the paths that it names (hard links), because their size may complete its camera. Each result is judged by
`stadia check RESULT --images IMAGES --json` in a process of its own. Its JSON, standard error and exit code are kept
in FOLDER/../verdicts/NAME.json (--keep names another folder); remove the file to judge the result again. Prints a table
of all verdicts, and then what is wrong: right results that are accused, wrong ones that pass, and results that cannot
be read.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness import Row, make_parser, measure_command, print_table, write_results

LOG = Path(__file__).with_suffix(".csv")

LIMIT_S = 600.0
"""Seconds for one result: no result of the log has needed half of it."""

KILLED = -9

ERRORS = ("rotation_deg", "position_share", "focal_share", "drift_deg")
"""Errors of the contract of `--json` that are columns of the table."""

ACCUSED = ("unusable", "doubtful")


@dataclass(frozen=True)
class JudgedResult:
    """A line of the log, and what the command returned for it."""

    row: Mapping[str, str]
    exit_code: int
    record: Mapping[str, Any] | None
    """The JSON of the verdict; None if the command printed none."""
    message: str
    """What the command wrote to standard error."""
    seconds: float
    cpu_s: float
    peak_gb: float

    @property
    def is_right(self) -> bool | None:
        """Return whether the published result is right; None if it is unknown."""
        return {"right": True, "wrong": False}.get(self.row["truth"].partition(":")[0])

    @property
    def grade(self) -> str:
        """Return the grade of the verdict, or why there is none."""
        if self.record is not None:
            return str(self.record.get("grade") or "not measurable")
        return "too slow" if self.exit_code == KILLED else "not read"

    @property
    def causes(self) -> list[str]:
        """Return the names of the causes."""
        return [str(cause.get("name")) for cause in (self.record or {}).get("causes") or ()]

    def find_error(self, name: str) -> str:
        """Return an error of the verdict with its deviation; "" if it is not measured."""
        measured = ((self.record or {}).get("error") or {}).get(name)
        if not isinstance(measured, Mapping) or measured.get("value") is None:
            return ""
        deviation = measured.get("deviation")
        return f"{measured['value']:.3g}" + ("" if deviation is None else f" ± {deviation:.2g}")

    def list_reasons(self) -> Iterator[str]:
        """Yield the lines that explain the verdict."""
        if self.record is None:
            yield next((line for line in reversed(self.message.splitlines()) if line.strip()), "no message")
            return
        if (why := self.record.get("not_measurable")) is not None:
            yield f"not measurable: {why}"
        for purpose in self.record.get("purposes") or ():
            if not purpose.get("holds"):
                yield f"not good for {purpose.get('name')}: {purpose.get('reason')}"
        wrong = [str(image.get("name")) for image in self.record.get("images") or () if image.get("is_wrong")]
        if wrong:
            yield f"{len(wrong)} images with a wrong pose: {', '.join(wrong[:5])}"
        yield from (f"cause: {cause}" for cause in self.causes)

    def describe(self) -> Row:
        """Return the line of the table."""
        return {
            "name": self.row["name"],
            "program": self.row["program"],
            "truth": self.row["truth"].partition(":")[0],
            "images": self.row["count"],
            "exit": self.exit_code,
            "grade": self.grade,
            **{name: self.find_error(name) for name in ERRORS},
            "causes": "; ".join(self.causes),
            "seconds": round(self.seconds, 1),
            "cpu_s": round(self.cpu_s, 1),
            "peak_gb": round(self.peak_gb, 2),
        }


def find_result(folder: Path, row: Mapping[str, str]) -> Path:
    """Return the file that a result consists of, or its folder if it consists of several."""
    first = folder / Path(row["result"].partition(";")[0]).name
    is_model = any((folder / name).is_file() for name in ("images.bin", "images.txt"))
    return first if first.is_file() and not is_model else folder


def judge_result(folder: Path, kept: Path, row: Mapping[str, str], limit_s: float) -> JudgedResult:
    """Judge one result, or read the verdict that is kept."""
    file = kept / f"{row['name']}.json"
    if not file.is_file():
        given = folder / row["name"] / "result"
        check = [sys.executable, "-m", "stadia", "check", find_result(given, row)]
        check += ["--images", folder / row["name"] / "images", "--json"]
        if camera := row["camera"]:
            check += ["--camera", given / camera if (given / camera).is_file() else camera]
        run = measure_command(*check, limit_s=limit_s)
        file.write_text(json.dumps(asdict(run)), encoding="utf-8")
    run = json.loads(file.read_text(encoding="utf-8"))
    try:
        record = json.loads(run["output"])
    except json.JSONDecodeError:
        record = None
    return JudgedResult(
        row=row,
        exit_code=run["exit_code"],
        record=record,
        message=run["errors"],
        seconds=run["seconds"],
        cpu_s=run["cpu_s"],
        peak_gb=run["peak_gb"],
    )


def read_log(arguments: argparse.Namespace) -> list[dict[str, str]]:
    """Return the lines of the log that the arguments choose."""
    with LOG.open(encoding="utf-8") as stream:
        rows = [row for row in csv.DictReader(stream) if row["split"] == arguments.split]
    return [row for row in rows if not arguments.only or row["name"] in arguments.only]


def summarize(judged: Iterable[JudgedResult]) -> Iterator[str]:
    """Yield what is wrong: right results that are accused, wrong ones that pass, results without a verdict."""
    judged = list(judged)
    right = [result for result in judged if result.is_right]
    wrong = [result for result in judged if result.is_right is False]
    unknown = [result for result in judged if result.is_right is None]
    yield f"{len(judged)} results of {len({result.row['program'] for result in judged})} programs"
    groups = (
        ("right, called unusable", [result for result in right if result.grade == "unusable"], len(right)),
        ("right, called doubtful", [result for result in right if result.grade == "doubtful"], len(right)),
        ("wrong, called usable", [result for result in wrong if result.grade == "usable"], len(wrong)),
        ("unknown, called unusable or doubtful", [r for r in unknown if r.grade in ACCUSED], len(unknown)),
        ("without a verdict", [result for result in judged if result.record is None], len(judged)),
    )
    for title, members, count in groups:
        yield f"{title}: {len(members)} of {count}"
        for result in members:
            yield f"  {result.row['name']} ({result.row['program']}; {result.row['truth']})"
            yield from (f"    {line}" for line in result.list_reasons())
    for is_right, name in ((True, "right"), (False, "wrong"), (None, "unknown")):
        grades = Counter(result.grade for result in judged if result.is_right is is_right)
        yield f"grades of {name} ones: {', '.join(f'{grade} {count}' for grade, count in grades.most_common())}"


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("folder", type=Path, help="NAME/result and NAME/images of each result")
    parser.add_argument("--split", choices=("choose", "judge"), default="choose")
    parser.add_argument("--only", nargs="*", default=[], metavar="NAME")
    parser.add_argument("--keep", type=Path, help="a folder for the verdicts (FOLDER/../verdicts)")
    parser.add_argument("--limit", type=float, default=LIMIT_S, metavar="SECONDS", help="for one result")
    parser.add_argument("--out", type=Path, help="a JSON file for the table")
    arguments = parser.parse_args()
    kept = arguments.keep or arguments.folder.parent / "verdicts"
    kept.mkdir(exist_ok=True, parents=True)
    judged = []
    for row in read_log(arguments):
        if not (arguments.folder / row["name"] / "result").is_dir():
            print(f"{row['name']}: no such folder in {arguments.folder}", file=sys.stderr)
            continue
        judged.append(judge_result(arguments.folder, kept, row, arguments.limit))
        print(f"{row['name']}: {judged[-1].grade}, {judged[-1].seconds:.0f} s", file=sys.stderr)
    rows = [result.describe() for result in judged]
    print_table(rows)
    print(*summarize(judged), sep="\n")
    if arguments.out is not None:
        write_results(arguments.out, rows, split=arguments.split)


if __name__ == "__main__":
    main()
