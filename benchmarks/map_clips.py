"""Map clips whose answer is known, and print how often the verdicts of path and camera are right.

    python benchmarks/map_clips.py CLIPS.csv --out FOLDER [--split choose]

CLIPS.csv has the columns `id`, `file` (relative to the CSV), `is_mappable` ("yes" or "no"; others have no answer and
are left out), `camera_determined` ("yes" or "no") and `split` ("choose" for clips by which thresholds are chosen,
"judge", "unseen20" and "unseen2026" for the others). A path is judged right if it is usable for a clip that can be
mapped, and unusable or refused for one that cannot. A camera is judged right if it is usable where the motion
determines it, and doubtful elsewhere. Of a video, the first `frames` times `stride` frames are read. Finished clips
are in FOLDER with all measurements, and are not mapped again.

benchmarks/clips.csv lists public clips with source, licence and answers; fetch them, and add the column `file`.
"""

# mypy: disable-error-code="misc, no-untyped-def, var-annotated"

from __future__ import annotations

import argparse
import csv
import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

from stadia.core.errors import StadiaError
from stadia.sfm.map_video import map_video

REFUSED = "refused"


def judge_clip(row: dict[str, str], source: Path, out: Path) -> dict[str, Any]:
    """Return the verdict on a clip's path and camera, all measurements, and the seconds; kept in `out`."""
    name = row["id"]
    kept = out / f"{name}.json"
    if kept.is_file():
        return json.loads(kept.read_text())
    start = time.process_time()
    found: dict[str, Any] = {"clip": name}
    options = {} if source.is_dir() else {"frames": [0, int(row["frames"]) * int(row["stride"])]}
    try:
        verdict = map_video(source, options=options, out=out / f"{name}.map").found.verdict
        assert verdict is not None
        found |= verdict.to_json()
    except StadiaError as error:
        found |= {"path": REFUSED, "camera": REFUSED, "reasons": error.found}
    found["processor_s"] = round(time.process_time() - start)
    kept.write_text(json.dumps(found))
    return found


def compare(found: dict[str, Any], *, is_mappable: bool, is_determined: bool) -> dict[str, str]:
    """Return "right", "false alarm" or "missed fault" for the path, and for the camera of a clip with a map."""
    right_grades = ("usable",) if is_mappable else ("unusable", REFUSED)
    sides = {"path": "right" if found["path"] in right_grades else "false alarm" if is_mappable else "missed fault"}
    if is_mappable and found["camera"] != REFUSED:
        is_claimed = found["camera"] == "usable"
        sides["camera"] = "right" if is_claimed == is_determined else "missed fault" if is_claimed else "false alarm"
    return sides


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--split")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    counts = {side: Counter() for side in ("path", "camera")}
    with options.clips.open(newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if options.split in (None, row["split"])]
    for row in rows:
        if row["is_mappable"] not in ("yes", "no"):
            continue
        found = judge_clip(row, options.clips.parent / row["file"], options.out)
        truth = {name: row[name] == "yes" for name in ("is_mappable", "camera_determined")}
        sides = compare(found, is_mappable=truth["is_mappable"], is_determined=truth["camera_determined"])
        for side, outcome in sides.items():
            counts[side][outcome] += 1
        shown = {key: found.get(key) for key in ("clip", "path", "camera", "good_for", "reasons")}
        print(json.dumps({**shown, **truth, "judged": sides}), flush=True)
    print(json.dumps({side: dict(count) for side, count in counts.items()}))


if __name__ == "__main__":
    main()
