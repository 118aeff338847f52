"""Draw lengths in results that are "good for measuring=1%", and count those within 1 % of the true ones.

    python benchmarks/measured_lengths.py [--seed 0] [--recordings drone] [--lengths 200] [--work FOLDER]

The right poses of rendered recordings are disturbed by small amounts, and judged. Lengths between points are measured
with the given poses and cameras, and with the true ones, from the same features, up to one scale. The table shows for
each verdict how many lengths are within 1 %.
"""

# mypy: disable-error-code="misc, no-untyped-call, no-untyped-def, var-annotated"

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from disturbed_results import DISTURBANCES, FLIGHTS, Recording, move_world, open_recording
from harness import make_parser, print_table, write_results
from numpy.typing import NDArray

from stadia.io.records.reconstruction import Reconstruction
from stadia.judge.purposes import parse_purpose
from stadia.judge.reconstructions.check_reconstruction import judge_reconstruction
from stadia.sfm.match_triangulation import pose_images, triangulate_tracks, view_matches

STRENGTHS = {
    "rotation-noise": (0.02, 0.05, 0.1, 0.3),
    "position-noise": (0.0003, 0.001, 0.003),
    "focal-length": (1.003, 1.01, 1.03),
    "stretched-axis": (1.005, 1.01, 1.02),
    "scale-drift": (1.01, 1.03, 1.1),
    "drift": (0.1, 0.5),
    "principal-point": (1, 4),
}
PURPOSE = "measuring=1%"
MIN_TRACK = 4
"""Fewest images that see the end of a length."""

MISS_PX = 30.0
"""Largest distance of a feature from a point of disturbed poses, pixels of 640."""


def draw_lengths(
    recording: Recording, result: Reconstruction, count: int, random: np.random.Generator
) -> NDArray[np.float64]:
    """Return the ratios (count,) of lengths in the result to true ones; their median is 1."""
    truth = view_matches(pose_images(recording.truth, recording.matches), recording.matches)
    frame, xy, track, _ = truth.list_tracks()
    points, kept = triangulate_tracks(truth.posed.T_camera_world, truth.camera, frame, xy, track, 1.5)
    posed = pose_images(result, recording.matches)
    K, K_given = truth.posed.K[frame], posed.K[frame]
    pixels = K[:, (0, 1), (0, 1)] * (xy - truth.camera.center_px) / truth.camera.focal_px + K[:, :2, 2]
    rays = (pixels - K_given[:, :2, 2]) / K_given[:, (0, 1), (0, 1)]
    moved = truth.camera.focal_px * rays + truth.camera.center_px
    found, seen = triangulate_tracks(posed.T_camera_world, truth.camera, frame[kept], moved[kept], track[kept], MISS_PX)
    often = np.bincount(track[kept][seen], minlength=len(found))[: len(points)] >= MIN_TRACK
    rows = np.flatnonzero(often)
    ends = random.choice(rows, (2, 20 * count))
    lengths = [np.linalg.norm(places[ends[0]] - places[ends[1]], axis=1) for places in (found, points)]
    usable = np.flatnonzero(lengths[1] > np.quantile(lengths[1], 0.25))[:count]
    ratios = lengths[0][usable] / lengths[1][usable]
    return ratios / np.median(ratios)


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--recordings", nargs="*", choices=FLIGHTS, default=list(FLIGHTS))
    parser.add_argument("--lengths", type=int, default=200, help="lengths that are drawn from all results of a verdict")
    parser.add_argument("--work", type=Path, help="folder for pictures and matches, which are kept")
    parser.add_argument("--json", type=Path, help="file for the rows")
    options = parser.parse_args()
    random, drawn, rows = np.random.default_rng(options.seed), dict[str, list[np.ndarray]](), []
    with tempfile.TemporaryDirectory() as temporary:
        for name in options.recordings:
            recording = open_recording(name, options.work or Path(temporary))
            for kind, strengths in STRENGTHS.items():
                for strength in strengths:
                    made = DISTURBANCES[kind].disturb(recording, strength, random)
                    if made is None:
                        continue
                    given = move_world(made.result, random)
                    verdict = judge_reconstruction(given, recording.matches, [parse_purpose(PURPOSE)])
                    holds = {True: "good", False: "not good", None: "open"}[verdict.purposes[0].holds]
                    ratios = draw_lengths(recording, given, options.lengths, random)
                    drawn.setdefault(holds, []).append(ratios)
                    share = verdict.error.length_share
                    row = {
                        "recording": name,
                        "disturbance": kind,
                        "strength": strength,
                        "verdict": holds,
                        "measured_95": None if share is None else round(share.value, 4),
                        "deviation": None if share is None else round(share.deviation, 4),
                        "true_95": round(float(np.quantile(np.abs(ratios - 1), 0.95)), 4),
                    }
                    print(row, flush=True)
                    rows.append(row)
    if options.json is not None:
        write_results(options.json, rows)
    lines = []
    for holds, of_results in drawn.items():
        chosen = random.choice(np.concatenate(of_results), options.lengths, replace=False)
        within = f"{(np.abs(chosen - 1) < 0.01).mean():.1%}"
        lines.append({"verdict": holds, "results": len(of_results), "lengths": len(chosen), "within 1 %": within})
    print_table(lines)


if __name__ == "__main__":
    main()
