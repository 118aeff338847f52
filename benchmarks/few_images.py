"""Compare the poses of few images of a walk with those of all its images: python benchmarks/few_images.py [--draws 20].

Each draw has 12 or 20 images, every third to every ninth. Their poses and their camera are adjusted as `stadia check`
does, and compared with the adjustment of all 186 images. Printed are the ratios of errors to their standard deviations
(with right deviations, the median is .9 for poses and .7 for numbers), the images whose error is measured, and the
largest focal length that is named against what all images measure.

Uses walk/ of STADIA_REAL_DATA, or of ../shared/data.
"""

# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from harness import REAL_DATA, make_parser, print_table
from numpy.typing import NDArray

from stadia.io.records.read import read_reconstruction
from stadia.io.records.reconstruction import Reconstruction
from stadia.judge.reconstructions.check_reconstruction import replace_camera
from stadia.sfm.image_matches import ImageMatches, match_images
from stadia.sfm.pose_error import compare_poses
from stadia.sfm.pose_refinement import AdjustedPoses, adjust_poses

WALK = REAL_DATA / "walk"


def adjust(rows: NDArray[np.intp], folder: Path) -> AdjustedPoses:
    """Adjust the given poses of some images of the walk, whose pictures are linked into a folder."""
    images = sorted((WALK / "images").iterdir())
    folder.mkdir(parents=True)
    for row in rows:
        (folder / images[row].name).symlink_to(images[row])
    given = read_reconstruction(WALK / "poses.txt")
    some: Reconstruction = replace(given.rows(rows), names=tuple(images[row].name for row in rows), frames=None)
    matches: ImageMatches = match_images(folder, folder.with_name(f"{folder.name}-matches"))
    return adjust_poses(replace_camera(some, matches, str(WALK / "K.txt")), matches)


def main() -> None:
    """Draw images, adjust them, and print how far errors are from their deviations."""
    parser = make_parser(__doc__)
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, required=True, help="a new folder for links and matches")
    arguments = parser.parse_args()
    random = np.random.default_rng(arguments.seed)
    total = len(list((WALK / "images").iterdir()))
    every = adjust(np.arange(total), arguments.work / "all")
    T_all, focal_all = every.posed.T_camera_world, float(every.cameras[0].focal_factor)
    turns, moves, focals, measured, wrong = list[float](), list[float](), list[float](), 0, 0.0
    for draw in range(arguments.draws):
        step, count = int(random.integers(3, 10)), int(random.choice((12, 20)))
        first = int(random.integers(max(total - step * count, 1)))
        rows = np.arange(first, total, step)[:count]
        adjusted = adjust(rows, arguments.work / f"draw-{draw}")
        camera = adjusted.cameras[0]
        off = float(np.log(camera.focal_factor / focal_all))
        if np.isfinite(camera.focal_deviation):
            focals.append(abs(off) / camera.focal_deviation)
        if not np.array_equal(adjusted.posed.K, adjusted.given.K):
            wrong = max(wrong, abs(off))
        for part in adjusted.covariances:
            T = adjusted.posed.T_camera_world[part.rows]
            known = part.of_rotations, part.of_positions
            difference = compare_poses(T_all[rows[part.rows]], T, of_turns=known[0], of_moves=known[1])
            turns += (difference.degrees / difference.deviations_deg).tolist()
            moves += (difference.shares / difference.deviations).tolist()
            measured += len(part.rows)
    ratios_of = {"rotation": turns, "position": moves, "focal length": focals}
    quantiles = {name: np.quantile(ratios, (0.5, 0.9)) for name, ratios in ratios_of.items()}
    print_table(
        [{"quantity": name, "median": f"{low:.2f}", "90 %": f"{high:.2f}"} for name, (low, high) in quantiles.items()]
    )
    print(f"{measured} images measured; largest error of a changed focal length {wrong:.1%}")


if __name__ == "__main__":
    main()
