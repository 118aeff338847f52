"""`stadia refine RESULT --images IMAGES --out OUT`: refine the poses of another program by its images."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from stadia.cli.arguments import JsonOption, argument, option
from stadia.cli.output import echo, print_lines, show_progress

if TYPE_CHECKING:
    from stadia.sfm.pose_refinement import RefinedReconstruction


def refine(
    result: Annotated[Path, argument("The result of any program: poses of images.")],
    images: Annotated[Path, option("The folder of images, or the video, of the result.")],
    out: Annotated[Path, option("A new folder.")],
    camera: Annotated[str | None, option("Camera of --images: a file, or fx=700,fy=700,cx=640,cy=360.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Refine the poses of any program by bundle adjustment with its images. Never worse.

    Writes the result in its own format, the deviation of each pose, and a COLMAP model with points for splats. If
    matches that took no part do not fit better, the poses stay as they are.
    """
    from stadia.core.errors import StadiaError
    from stadia.io.input_files import check_path_exists, expand_home, is_existing_path

    result, images, out = expand_home(result), expand_home(images), expand_home(out)
    for given in (result, images):
        check_path_exists(given)
    if is_existing_path(out):
        raise StadiaError(out, found="a file or folder", expected="a new name", fix="choose another --out")

    from stadia.sfm.refine_reconstruction import refine_reconstruction

    with show_progress() as bars:
        refined = refine_reconstruction(result, images, camera=camera, out=out, track=bars.track)
    if as_json:
        from stadia.io.input_files import replace_nan

        echo(json.dumps(replace_nan(describe_refined(refined)), indent=2, allow_nan=False))
    else:
        print_lines(list_lines(result, out, refined))


def list_lines(result: Path, out: Path, refined: RefinedReconstruction) -> Iterator[str]:
    """Yield the lines about a refined result: whether it changed, by how much, and how sure the poses are."""
    import numpy as np

    gain, count = refined.gain, len(refined.images)
    if not refined.is_changed:
        yield f"{result} is unchanged: no adjustment fits the {gain.count} held-out matches better by their scatter"
    else:
        yield (
            f"{result} is refined: held-out matches miss by {gain.after_px:.2f} px, {gain.before_px:.2f} px before "
            f"({gain.count} matches, of images of 640 px)"
        )
        yield (
            f"  {count} poses moved by {np.median(refined.moved_deg):.2g} degrees and "
            f"{np.median(refined.moved):.2%} of the path (median)"
        )
        changed = np.unique(refined.focal_factors[refined.focal_factors != 1])
        yield from (f"  focal length times {factor:.4f}" for factor in changed[:3])
    if np.isfinite(refined.deviations_deg).any():
        yield (
            f"  deviation of a pose: {np.nanmedian(refined.deviations_deg):.2g} degrees and "
            f"{np.nanmedian(refined.deviations):.2g} of the path (median)"
        )
    yield from (f"  note: {note}" for note in refined.notes)
    yield f"{out}: poses, deviations.csv, sparse/0 and transforms.json for splats"


def describe_refined(refined: RefinedReconstruction) -> dict[str, object]:
    """Return the fields of a refined result for JSON."""
    from dataclasses import asdict

    return {
        "is_changed": refined.is_changed,
        "gain": asdict(refined.gain),
        "images": refined.images.tolist(),
        "deviations_deg": refined.deviations_deg.tolist(),
        "deviations": refined.deviations.tolist(),
        "moved_deg": refined.moved_deg.tolist(),
        "moved": refined.moved.tolist(),
        "focal_factors": refined.focal_factors.tolist(),
        "notes": refined.notes,
    }
