"""Measure the checks of `stadia check`: no finding on clean data, and every mutation caught. Prints Markdown.

    python benchmarks/preflight.py [--data FOLDER_OF_REAL_SAMPLES] [--only TEXT]

Clean: three RoadWorld seeds rendered here (stereo, exact ground truth), and the real samples where they are available:
KITTI odometry 06 (stereo), KITTI raw (mono, projected LiDAR, LiDAR odometry), EuRoC (stereo, rectified here; its camera
is static, which is reported), 7-Scenes (RGB-D). The mutations are those of tests/mutations.
"""

# mypy: disable-error-code="assignment"

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Collection, Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from harness import REAL_DATA  # noqa: E402
from tests.mutations.recordings import MUTATIONS, SPLIT_MUTATIONS, Mutation, abilities, clean_splits  # noqa: E402

from stadia.core.types import RIGHT, Recording  # noqa: E402
from stadia.data.frame_selection import shrink_to_gray  # noqa: E402
from stadia.data.open_dataset import open_recordings  # noqa: E402
from stadia.geometry.image_features import median_flow_px  # noqa: E402
from stadia.geometry.two_views import angle_deg, epipolar_distance_px  # noqa: E402
from stadia.judge.finding import Finding, Severity  # noqa: E402
from stadia.judge.recordings import scale_comparison  # noqa: E402
from stadia.judge.recordings.frame_checks import STATIC_FLOW_PX, split_into_windows  # noqa: E402
from stadia.judge.recordings.intrinsics_checks import compare_rotations  # noqa: E402
from stadia.judge.recordings.preflight_runner import run_preflight  # noqa: E402
from stadia.judge.recordings.recording_survey import RecordingSurvey  # noqa: E402
from stadia.judge.recordings.stereo_checks import compare_warps_with_plane, measure_sides  # noqa: E402
from stadia.synthetic.config import ROADWORLD_TINY  # noqa: E402
from stadia.synthetic.roadworld.roadworld_writer import write_roadworld  # noqa: E402

SEEDS = (0, 1, 2)

MISSED = "**missed**"
STATIC = {"euroc/V1_01_easy"}
"""Samples of a static camera (three seconds before its start). D03 is true there, and checks that need motion cannot
run; those of the rig and of invalid poses can.
"""


def real_recordings(folder: Path) -> Iterator[Recording]:
    """Yield the real samples that are available."""
    drive = folder / "kitti_raw" / "2011_09_26" / "2011_09_26_drive_0000_sync"
    if (folder / "kitti_odometry").is_dir():
        yield from open_recordings(folder / "kitti_odometry")
    if drive.is_dir():
        yield from open_recordings(folder / "kitti_raw", poses=str(drive / "lidar_odometry_cam2.txt"))
    if (folder / "euroc").is_dir():
        yield from open_recordings(folder / "euroc")
    if (folder / "sevenscenes" / "kitchen").is_dir():
        yield from open_recordings(folder / "sevenscenes" / "kitchen")


def select_relevant(findings: list[Finding]) -> list[Finding]:
    """Return findings that are neither notes nor known to be true."""
    known = {name: {"D03"} for name in STATIC}
    return [
        f
        for f in findings
        if f.severity is not Severity.NOTE and not all(f.code in known.get(name, ()) for name in f.where or ("",))
    ]


def applicable_mutations(recording: Recording) -> list[Mutation]:
    """Return the mutations that a recording can have."""
    able = abilities(recording)
    return [m for m in MUTATIONS if m.needs <= able and not (recording.name in STATIC and m.codes == ("D03",))]


def describe_first(findings: list[Finding]) -> str:
    """Return the first finding as a cell of a table."""
    return (
        f"{findings[0].severity} {findings[0].code}: {findings[0].measured}".replace("|", "\\|")
        if findings
        else "nothing"
    )


def measure(recording: Recording) -> dict[str, str]:
    """Return measurements on clean data, which are compared with the thresholds."""
    survey = RecordingSurvey(recording)
    camera = recording.camera(0)
    read = {"cx / W, cy / H": f"{float(camera.cx) / camera.width:.3f}, {float(camera.cy) / camera.height:.3f}"}
    read["fx / W"] = f"{float(camera.fx) / camera.width:.3f}"
    flows = []
    for window in split_into_windows(len(recording)):
        images = [shrink_to_gray(recording.image(i)) for i in window]
        flows += [flow for pair in pairwise(images) if (flow := median_flow_px(*pair)) is not None]
    read["static pairs"] = f"{np.mean(np.array(flows) < STATIC_FLOW_PX):.0%}"
    if survey.stereo:
        read["x_left > x_right"] = f"{measure_sides(survey).positive:.3f}"
        cameras = survey.K(0), survey.K(0, RIGHT)
        distances = [
            epipolar_distance_px(p.matches.first_px, p.matches.second_px, *cameras, survey.T_right_left)
            for p in survey.pairs
        ]
        read["epipolar px (% of W)"] = f"{(m := np.median(np.concatenate(distances))):.2f} ({m / camera.width:.3%})"
        proportion = scale_comparison.compare_depth_with_rig(survey)
        if proportion is not None:
            read["rank, spread, bend"] = f"{proportion.rank:.2f}, {proportion.spread:.1%}, {abs(proportion.bend):.1%}"
    angles = [
        angle_deg(m.t, s.T_second_first[:3, 3])
        for s in survey.steps
        if (m := s.measured) is not None and s.T_second_first is not None
    ]
    read["direction, deg"] = f"{np.median(angles):.1f} (up to {max(angles):.1f})" if angles else "-"
    explained = [step.depth_explains for step in survey.steps if step.depth_explains is not None]
    if explained:
        read["depth explains"] = f"{np.median(explained):.2f}"
    if (rotations := compare_rotations(survey)) is not None:
        read["fx by the camera rotation"] = f"{rotations.focal_factor:.2f}"
    if warped := compare_warps_with_plane(survey):
        read["WIR (over flat)"] = (
            f"{np.median([w for _, w, _ in warped]):.2f} ({np.median([w / flat for _, w, flat in warped]):.2f})"
        )
    for comparison in scale_comparison.compare_scales(survey):
        read[f"{comparison.first} / {comparison.second}"] = f"{comparison.ratio:.3f} +- {comparison.log_error:.3f}"
    return read


def assess(name: str, found: list[Finding], codes: Collection[str], *, moving: bool) -> str:
    """Return the last cell of a row. moving: whether it needs motion: no finding is right for a static camera then."""
    if found and found[0].code in codes:
        return "caught"
    return "its camera is static" if moving and not found and name in STATIC else MISSED


def run_one(name: str, recording: Recording, mutation: Mutation) -> tuple[bool, float]:
    """Check a broken recording and print its row. Return whether it was caught, and the seconds."""
    began = time.perf_counter()
    found = select_relevant(run_preflight([mutation.apply(recording)]))
    seconds = time.perf_counter() - began
    verdict = assess(name, found, mutation.codes, moving="poses" in mutation.needs)
    print(
        f"| {name} | {mutation.check} | {mutation.name} | {describe_first(found)} | {seconds:.1f} s | {verdict} |",
        flush=True,
    )
    return verdict != MISSED, seconds


def main() -> None:
    """Print the tables; exits with 1 where clean data has findings or a mutation was missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=REAL_DATA)
    parser.add_argument("--only", default="", help="mutations whose name holds this text")
    arguments = parser.parse_args()
    failures, slowest = [], 0.0
    with tempfile.TemporaryDirectory() as scratch:
        worlds = [Path(scratch) / f"seed-{seed}" for seed in SEEDS]
        for seed, folder in zip(SEEDS, worlds, strict=True):
            write_roadworld(ROADWORLD_TINY, folder, seed=seed)
        real = list(real_recordings(arguments.data))
        clean = [recording for folder in worlds for recording in open_recordings(folder)] + real

        print("| clean recording | findings | time | readings |\n|---|---|---|---|")
        for recording in clean:
            began = time.perf_counter()
            found = select_relevant(run_preflight([recording], clean_splits(recording)))
            seconds = time.perf_counter() - began
            slowest = max(slowest, seconds)
            failures += [f"{recording.name}: {finding.code}" for finding in found]
            values = "; ".join(f"{name} {value}" for name, value in measure(recording).items())
            print(
                f"| {recording.name} | {', '.join(f.code for f in found) or 'none'} | {seconds:.1f} s | {values} |",
                flush=True,
            )

        print("\n| data | check | mutation | first finding | time | |\n|---|---|---|---|---|---|")
        for recording in (clean[0], *real):
            for mutation in applicable_mutations(recording):
                if arguments.only in mutation.name:
                    caught, seconds = run_one(recording.name, recording, mutation)
                    slowest = max(slowest, seconds)
                    failures += [] if caught else [f"{recording.name}: {mutation.name}"]
            for name, code, broken in SPLIT_MUTATIONS:
                began = time.perf_counter()
                found = select_relevant(run_preflight([], broken(recording), checks=["splits"]))
                verdict = assess(recording.name, found, {code}, moving=code == "D10")
                failures += [] if verdict != MISSED else [f"{recording.name}: {name}"]
                took = f"{time.perf_counter() - began:.1f} s"
                print(
                    f"| {recording.name} | splits | {name} | {describe_first(found)} | {took} | {verdict} |", flush=True
                )
    print(f"\nslowest run: {slowest:.1f} s; failures: {', '.join(failures) or 'none'}")
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
