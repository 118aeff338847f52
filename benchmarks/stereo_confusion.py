"""Break stereo recordings in ways that look alike, and count which of them `stadia check` names. Prints Markdown.

    python benchmarks/stereo_confusion.py [--data FOLDER_OF_REAL_SAMPLES] [--seeds 3]

Rows are what was broken, columns what the first finding names: the right and the left camera swapped, the right camera
1 to 3 frames late or early, mirrored images, the baseline with the wrong sign or length. "undecided": the finding names
both causes, and a cure that tells them apart; it is not counted as named right. "not visible": the recording cannot
show it (EuRoC's camera stands, so each shift shows the same image and no motion measures the baseline) and nothing is
named. A wrong cure is a finding that names another cause, or an interval without the true baseline. Exits with 1 below
95 % named right, or where a cure is wrong.
"""

# mypy: disable-error-code="assignment"

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from harness import REAL_DATA  # noqa: E402
from tests.mutations.mutated_recording import MirroredImages, Mutated, ShiftedRight  # noqa: E402

from stadia.core.types import LEFT, RIGHT, Recording  # noqa: E402
from stadia.data.open_dataset import open_recordings  # noqa: E402
from stadia.geometry.image_features import SiftFeatures, detect_features  # noqa: E402
from stadia.judge.finding import Finding, Severity  # noqa: E402
from stadia.judge.recordings import recording_survey, stereo_checks  # noqa: E402
from stadia.judge.recordings.pose_checks import MAX_SHIFT, describe_shift  # noqa: E402
from stadia.judge.recordings.preflight_runner import run_preflight  # noqa: E402
from stadia.synthetic.config import ROADWORLD_TINY  # noqa: E402
from stadia.synthetic.roadworld.roadworld_writer import write_roadworld  # noqa: E402

MIN_RIGHT = 0.95
STATIC = "euroc"
CHECKS = ("frames", "intrinsics", "resize", "synchronization", "sides", "baseline")
UNDECIDED = ("swapped", "all mirrored")
"""Without poses and turns these two are the same; E02 then names both and how to tell them apart."""

FRAMES = 16
FACTORS = (0.5, 0.88, 1.12)
SHIFTS = [shift for shift in range(-MAX_SHIFT, MAX_SHIFT + 1) if shift != 0]

Break = Callable[[Recording], Recording]


def _swap(side: str) -> str:
    return RIGHT if side == LEFT else LEFT


def scale_baseline(recording: Recording, factor: float) -> Recording:
    """Return the recording with another length of its baseline."""

    def rig(T: np.ndarray) -> np.ndarray:
        T[:3, 3] *= factor
        return T

    return Mutated(recording, rig=rig)


def list_cases() -> dict[str, dict[str, Break]]:
    """Return the mutations by the name that the finding must give, and by their own name."""
    return {
        "nothing": {"clean": lambda r: r},
        "swapped": {"swapped": lambda r: Mutated(r, side=_swap)},
        **{describe_shift(s): {f"right {describe_shift(s)}": partial(ShiftedRight, frames_late=s)} for s in SHIFTS},
        "mirrored": {
            "right mirrored": lambda r: MirroredImages(r, (RIGHT,)),
            "all mirrored": lambda r: MirroredImages(r, (LEFT, RIGHT)),
        },
        "sign": {"wrong sign": lambda r: Mutated(r, rig=np.linalg.inv)},
        "length": {f"baseline x{factor:g}": partial(scale_baseline, factor=factor) for factor in FACTORS},
    }


def name_finding(findings: list[Finding]) -> str:
    """Return what the first finding names, in the words of `list_cases`."""
    severe = [one for one in findings if one.severity is not Severity.NOTE and one.code != "D03"]
    if not severe:
        return "nothing"
    first = severe[0]
    if "undecided" in f"{first.cause} {first.fix}" and first.code in ("E02", "E10"):
        return "undecided"
    if first.code == "E10":
        return describe_shift(first.evidence["shift_frames"])
    return {"E01": "sign", "E02": "swapped", "E03": "length", "E12": "mirrored"}.get(first.code, first.code)


def has_wrong_length(findings: list[Finding], baseline_m: float) -> bool:
    """Return whether E03 prescribes an interval without the true baseline, or one number."""
    texts = [f"{one.fix} {one.expected}" for one in findings if one.code == "E03" and one.severity is not Severity.NOTE]
    intervals = re.findall(r"([\d.]+) to ([\d.]+) m", " ".join(texts))
    return any(not float(low) <= baseline_m <= float(high) for low, high in intervals)


def keep_features() -> None:
    """Detect the features of an image once, however often its recording is broken."""
    known: dict[tuple[tuple[int, ...], int], SiftFeatures] = {}

    def detect_once(image: np.ndarray) -> SiftFeatures:
        key = (image.shape, hash(image.tobytes()))
        if key not in known:
            known[key] = detect_features(image)
        return known[key]

    recording_survey.detect_features = stereo_checks.detect_features = detect_once  # type: ignore[attr-defined]


def open_all(data: Path, scratch: Path, seeds: int) -> Iterator[tuple[str, Recording]]:
    """Yield the recordings with their names: RoadWorld's, then the real ones that are available."""
    for seed in range(seeds):
        write_roadworld(ROADWORLD_TINY.model_copy(update={"frames": FRAMES}), scratch / str(seed), seed=seed)
        yield from ((f"roadworld {seed} {one.name}", one) for one in open_recordings(scratch / str(seed)))
    for name in ("euroc", "kitti_odometry"):
        if (data / name).is_dir():
            yield from ((name, one) for one in open_recordings(data / name))


def main() -> None:
    """Print the matrix and each case that is not named right."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=REAL_DATA)
    parser.add_argument("--seeds", type=int, default=3, help="worlds of RoadWorld, of three recordings each")
    arguments = parser.parse_args()
    keep_features()
    matrix: dict[str, Counter[str]] = {}
    right = undecided = wrong_cures = hidden = total = 0
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        for name, recording in open_all(arguments.data, Path(scratch), arguments.seeds):
            assert recording.T_right_left is not None
            baseline_m = float(np.linalg.norm(recording.T_right_left[:3, 3]))
            for expected, cases in list_cases().items():
                for case, apply in cases.items():
                    findings = run_preflight([apply(recording)], checks=CHECKS)
                    named = name_finding(findings)
                    needs_motion = expected == "length" or case.endswith(("late", "early"))
                    if name == STATIC and needs_motion and named == "nothing":
                        named = "not visible"
                    is_right, is_open = named == expected, named == "undecided" and case in UNDECIDED
                    is_wrong = not is_right and named not in ("nothing", "undecided", "not visible")
                    is_wrong |= has_wrong_length(findings, baseline_m)
                    matrix.setdefault(case, Counter())[named] += 1
                    total, hidden = total + 1, hidden + (named == "not visible")
                    right, undecided, wrong_cures = right + is_right, undecided + is_open, wrong_cures + is_wrong
                    if not (is_right or is_open) or is_wrong:
                        why = "; ".join(f"{f.code} {f.measured} -> {f.fix}" for f in findings if f.code[0] != "N")
                        print(f"{name}, {case}: {named} ({why})", file=sys.stderr, flush=True)
            print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    columns = list(dict.fromkeys(["nothing", *(named for row in matrix.values() for named in row)]))
    print(f"| broken \\ named | {' | '.join(columns)} |\n|{'---|' * (len(columns) + 1)}")
    for case, row in matrix.items():
        print(f"| {case} | {' | '.join(str(row[name] or '') for name in columns)} |")
    visible = total - hidden
    print(
        f"\n{right} of {visible} visible cases named right ({right / visible:.1%}), {undecided} undecided with", end=" "
    )
    print(f"a cure that decides, {hidden} not visible; {wrong_cures} wrong cures.")
    sys.exit(right < MIN_RIGHT * visible or wrong_cures > 0)


if __name__ == "__main__":
    main()
