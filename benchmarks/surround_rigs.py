"""Disturb one camera of real surround rigs: is it named, and is its error within the deviations?

    python benchmarks/surround_rigs.py --data FOLDER [--seed 0]

FOLDER has a folder of DDAD scenes, `ddad`: the files of its row of benchmarks/rigs.csv. Each camera that shares a view
is turned by .1, .5 and 2 degrees and moved by 5 and 20 mm, and the images of two cameras are exchanged.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
from harness import make_parser

from stadia.geometry.poses import from_rotation_translation, invert_pose, so3_exp
from stadia.judge.rigs.camera_pair import MIN_SHARED_MATCHES, judge_pair, measure_pair
from stadia.judge.rigs.camera_rig import judge_rig, match_rig, read_rig

TURNS_DEG, MOVES_M = (0.1, 0.5, 2.0), (0.005, 0.02, 0.02)


def main() -> None:
    """Judge, disturb and print."""
    parser = make_parser(__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    cv2.setNumThreads(1)
    random = np.random.default_rng(given.seed)
    accused, pairs, ratios, named = list[str](), 0, list[float](), list[bool]()
    swaps = list[bool]()
    for scene in sorted(path for path in (given.data / "ddad").iterdir() if path.is_dir()):
        cameras = read_rig(scene / "rgb", next((scene / "calibration").iterdir()))
        matches = match_rig(cameras)
        verdict = judge_rig(scene.name, cameras, matches)
        pairs += len(verdict.pairs)
        accused += [f"{one.name}: {cause.name}" for one in verdict.pairs for cause in one.causes]
        for pair in verdict.pairs:
            off = pair.error.epipolar_px
            print(
                f"{scene.name} {pair.name}: {pair.grade}, {off and off.show()} px of {cameras[0].side_px}", flush=True
            )
        for (one, other), instants in matches.items():
            if sum(len(instant.first_px) for instant in instants) < MIN_SHARED_MATCHES:
                continue
            first, second = cameras[one], cameras[other]
            T = second.T_camera_first @ invert_pose(first.T_camera_first)
            before = measure_pair(instants, first.K, second.K, T)
            for angle_deg, length_m in zip(TURNS_DEG, MOVES_M, strict=True):
                axis, way = random.normal(size=(2, 3))
                turn = np.radians(angle_deg) * axis / np.linalg.norm(axis)
                D = from_rotation_translation(so3_exp(turn), length_m * way / np.linalg.norm(way))
                after = measure_pair(instants, first.K, second.K, D @ T)
                if before.rotation_deg is None or after.rotation_deg is None:
                    continue
                numbers = zip(after.rotation_deg, before.rotation_deg, np.degrees(turn), strict=True)
                ratios += [abs(now.value - then.value - true) / now.deviation for now, then, true in numbers]
                causes = [cause.name for cause in judge_pair("", after).causes]
                if angle_deg >= 2:
                    named.append(bool(causes))
                shown = [turned.show() for turned in after.rotation_deg]
                print(f"  {first.name}, {second.name}: {np.degrees(turn).round(2)} {shown} {causes}", flush=True)
        for one, other in list(combinations(range(len(cameras)), 2))[:3]:
            swapped = list(cameras)
            swapped[one] = replace(cameras[other], name=cameras[one].name)
            swapped[other] = replace(cameras[one], name=cameras[other].name)
            causes = [cause.name for cause in judge_rig(scene.name, swapped, matches).causes]
            swaps.append("exchanged" in causes)
            print(f"  {cameras[one].name} and {cameras[other].name} exchanged: {causes}", flush=True)
    print(f"untouched: {pairs} pairs share a view, causes named {len(accused)}", *accused)
    print(f"turns within two deviations: {np.mean(np.array(ratios) < 2):.0%} of {len(ratios)} numbers")
    print(
        f"turns of 2 degrees named: {sum(named)} of {len(named)}; exchanged cameras named: {sum(swaps)} of {len(swaps)}"
    )


if __name__ == "__main__":
    main()
