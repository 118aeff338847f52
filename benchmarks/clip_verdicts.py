"""Judge clips whose answer is known: python benchmarks/clip_verdicts.py FOLDER [--split choose] [--only ID ...].

FOLDER has clips.csv with a line for each clip: id, file (a video or a folder of images), split, motion, and the
answers depth_by_eye (0 to 10), is_mappable, camera_determined and metres_by_eye (yes, partly or no). eye_depth.csv
with id, depth_by_eye and metres_by_eye may complete them. Metres are right if they fit the scene and the depth is
good. Each clip is judged by one network without a map, unless a map is next to it. The result is kept in
FOLDER/verdicts/ID.json; remove the file to judge the clip again. Prints for each question how often the verdict is
right, the false alarms (a good result that is doubted), the missed faults, and every wrong verdict.

benchmarks/clips.csv lists public clips with source, licence and answers; fetch them, and add the column `file`.
`python benchmarks/clip_verdicts.py benchmarks --scenes` counts the answers by kind of scene, and judges nothing.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from stadia.core.errors import StadiaError
from stadia.judge.questions import Question
from stadia.predict.network import open_network

GOOD_DEPTH, BAD_DEPTH = 6.0, 5.0
"""Depth by eye from which it is good, and up to which it is bad; between them no verdict is wrong."""

UNCOMPARABLE = ("still", "rotation only", "cuts")
"""Motions without parallax: depth, and metres that depend on it, are rightly "not judged" there."""


@dataclass(frozen=True)
class JudgedClip:
    """A clip with its answers and the verdict on each question."""

    row: dict[str, str]
    questions: dict[str, dict[str, str]]
    codes: list[str]

    def find_truth(self, question: Question) -> bool | None:
        """Return whether the result is good for this question; None if the answer is unknown or between."""
        if question is Question.DEPTH:
            text = self.row.get("depth_by_eye") or ""
            depth = float(text) if text else None
            return None if depth is None or BAD_DEPTH < depth < GOOD_DEPTH else depth >= GOOD_DEPTH
        if question is Question.SCALE:
            is_good = self.find_truth(Question.DEPTH)
            fits = {"yes": True, "no": False}.get(self.row.get("metres_by_eye") or "")
            return False if fits is False or is_good is False else is_good and fits
        column = {Question.PATH: "is_mappable", Question.CAMERA: "camera_determined"}[question]
        return {"yes": True, "no": False}.get(self.row.get(column) or "")

    def classify(self, question: Question) -> str | None:
        """Return "right", "false alarm", "missed" or "withheld"; None if the answer is unknown."""
        is_good, word = self.find_truth(question), self.questions[question]["verdict"]
        has_map = self.questions[question]["basis"].startswith("a map")
        if is_good is None or (question is Question.PATH and not has_map):
            return None
        if word == "not judged":
            has_no_depth = self.questions[Question.DEPTH]["verdict"] == "not judged"
            is_of_depth = question in (Question.DEPTH, Question.SCALE)
            is_open = is_of_depth and has_no_depth and self.row["motion"] in UNCOMPARABLE
            is_refused = question is not Question.DEPTH and not is_good
            return "right" if is_open or is_refused else "withheld"
        if (word == "usable") == is_good:
            return "right"
        return "false alarm" if is_good else "missed"


def read_rows(folder: Path) -> Iterator[dict[str, str]]:
    eye: dict[str, dict[str, str]] = {}
    if (folder / "eye_depth.csv").is_file():
        with (folder / "eye_depth.csv").open() as stream:
            eye = {row["id"]: row for row in csv.DictReader(stream)}
    with (folder / "clips.csv").open() as stream:
        for row in csv.DictReader(stream):
            yield {**row, **eye.get(row["id"], {})}


def judge_clip(path: Path, network: str) -> dict[str, object]:
    session = open_network(network).open(path)[0]
    session.start()
    judged = session.judge().to_json()
    codes = [f"{finding['severity']} {finding['code']}" for finding in judged["findings"]]
    return {"questions": judged["questions"], "codes": codes, "measured": judged["measured"]}


def judge_clips(folder: Path, rows: list[dict[str, str]], network: str) -> Iterator[JudgedClip]:
    kept = folder / "verdicts"
    kept.mkdir(exist_ok=True)
    for row in rows:
        file = kept / f"{row['id']}.json"
        if not file.is_file():
            try:
                file.write_text(json.dumps(judge_clip(folder / row["file"], network)))
            except StadiaError as error:
                print(f"{row['id']}: {error}", file=sys.stderr)
                continue
        known = json.loads(file.read_text())
        yield JudgedClip(row, known["questions"], known["codes"])


def describe(question: Question, clips: list[JudgedClip]) -> Iterator[str]:
    kinds = [(clip, kind) for clip in clips if (kind := clip.classify(question)) is not None]
    if not kinds:
        return
    counts = Counter(kind for _, kind in kinds)
    good = sum(bool(clip.find_truth(question)) for clip, _ in kinds)
    bad = len(kinds) - good
    yield f"{question}: {counts['right']} of {len(kinds)} right ({counts['right'] / len(kinds):.0%}),"
    yield f"  false alarms {counts['false alarm']} of {good}, missed faults {counts['missed']} of {bad},"
    yield f"  withheld {counts['withheld']}"
    for clip, kind in kinds:
        if kind != "right":
            answer = clip.questions[question]
            truth = clip.row.get("depth_by_eye") if question is Question.DEPTH else clip.find_truth(question)
            yield f"  {kind}: {clip.row['id']} (answer {truth}): {answer['verdict']}: {answer['reason']}"


def count_codes(clips: list[JudgedClip]) -> Iterator[str]:
    """Yield how often each warning is reported for good and for bad depth."""
    for is_good in (True, False):
        chosen = [clip for clip in clips if clip.find_truth(Question.DEPTH) is is_good]
        codes = Counter(code for clip in chosen for code in set(clip.codes) if not code.startswith("note"))
        listed = ", ".join(f"{code} {count}" for code, count in codes.most_common())
        yield f"findings on {len(chosen)} clips with {'good' if is_good else 'bad'} depth: {listed}"


def describe_scenes(rows: Iterable[dict[str, str]]) -> Iterator[str]:
    """Yield for each kind of scene how many clips have good depth, and right metres, by eye."""
    by_scene: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        if row.get("depth_by_eye"):
            by_scene.setdefault(row["scene"], []).append(row)
    for scene, clips in by_scene.items():
        good = sum(float(row["depth_by_eye"]) >= GOOD_DEPTH for row in clips)
        metres = sum(row["metres_by_eye"] == "yes" for row in clips)
        yield f"{scene}: depth is good in {good} of {len(clips)} clips, metres are right in {metres}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--split", default="choose")
    parser.add_argument("--network", default="base")
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--scenes", action="store_true", help="count the answers by kind of scene")
    options = parser.parse_args()
    if options.scenes:
        print(*describe_scenes(read_rows(options.folder)), sep="\n")
        return
    rows = [row for row in read_rows(options.folder) if row["split"] == options.split]
    rows = [row for row in rows if not options.only or row["id"] in options.only]
    clips = list(judge_clips(options.folder, rows, options.network))
    for question in Question:
        print(*describe(question, clips), sep="\n")
    print(*count_codes(clips), sep="\n")


if __name__ == "__main__":
    main()
