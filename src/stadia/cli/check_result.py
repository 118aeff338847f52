"""Judge and refine results of other programs by their images: `stadia check RESULT --images` and `stadia refine`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stadia.cli.options import JsonOption, argument, option
from stadia.cli.output import echo, print_lines, show_progress
from stadia.cli.results import STOPPED
from stadia.predict.options import about

if TYPE_CHECKING:
    from stadia.io.records.reconstruction import Reconstruction
    from stadia.judge.questions import QuestionVerdict
    from stadia.judge.reconstructions.check_reconstruction import ReconstructionVerdict
    from stadia.sfm.image_matches import ImageMatches
    from stadia.sfm.pose_refinement import RefinedReconstruction

MAX_LISTED = 8
"""Most contradicting images that are listed without --verbose."""


@dataclass(frozen=True, kw_only=True)
class CheckOptions:
    """Options of `stadia check` for every kind of input."""

    force: bool = field(default=False, metadata=about("Replace a file that stadia did not write."))
    verbose: bool = field(default=False, metadata=about("Show all evidence, notes and reasons."))
    as_json: bool = field(default=False, metadata=about("Print only JSON.", name="--json"))


@dataclass(frozen=True, kw_only=True)
class ResultOptions(CheckOptions):
    """Options of `stadia check` for a result of another program."""

    images: Path | None = field(
        default=None, metadata=about("Images or video of the result DATA: judge its path, camera and depth.")
    )
    camera: str | None = field(
        default=None, metadata=about("Camera of --images: a file, or fx=700,fy=700,cx=640,cy=360.")
    )
    fix: Path | None = field(
        default=None, metadata=about("Write the result with the mistakes undone that --images shows.")
    )
    report: Path | None = field(default=None, metadata=about("A folder for a page about the result."))


def check_result(result: Path, options: ResultOptions) -> None:
    """Print the verdict on the result of another program; exit with 1 if it is unusable."""
    from stadia.io.input_files import check_path_exists, expand_home
    from stadia.io.output_files import check_output_folder

    assert options.images is not None
    result, images, camera, as_json = expand_home(result), expand_home(options.images), options.camera, options.as_json
    for given in (result, images):
        check_path_exists(given)
    report = options.report
    if report is not None:
        report = check_output_folder(report, PAGE, "report of a result", inputs=[result], force=options.force)

    from stadia.io.records.read import choose_output, read_reconstruction, write_reconstruction
    from stadia.judge.reconstructions.check_reconstruction import (
        fix_reconstruction,
        judge_reconstruction,
        replace_camera,
    )
    from stadia.sfm.image_matches import check_images, match_images
    from stadia.sfm.match_triangulation import make_camera_error

    with show_progress() as bars:
        reconstruction = read_reconstruction(result)  # wrong files are found before the images are matched
        if options.fix is not None:
            choose_output(reconstruction, expand_home(options.fix))
        if camera is None and not reconstruction.has_camera:
            raise make_camera_error(reconstruction)
        check_images(reconstruction, images)
        matches = match_images(images, track=bars.track)
        reconstruction = replace_camera(reconstruction, matches, camera)
        for _ in bars.track(range(1), 1, "judging"):
            verdict = judge_reconstruction(reconstruction, matches)
    record = describe_verdict(verdict)
    if not as_json:
        print_lines(list_lines(result, verdict, verbose=options.verbose))
    if options.fix is not None:
        record["fixed"] = None
        if (fixed := fix_reconstruction(reconstruction, matches, verdict)) is None:
            echo("Nothing to fix: no convention explains the images better", err=as_json)
        else:
            written = write_reconstruction(fixed, expand_home(options.fix))
            right = camera and describe_camera(fixed)
            again = judge_reconstruction(replace_camera(read_reconstruction(written), matches, right), matches)
            record["fixed"] = {"path": str(written), "given_camera": right, **describe_verdict(again)}
            if not as_json:
                print_lines(["", *list_lines(written, again, verbose=options.verbose)])
                if right is not None and right != describe_camera(reconstruction):
                    print_lines([f"  its camera: --camera {right}"])
    if report is not None:
        write_page(report / PAGE, result.name, reconstruction, matches, verdict)
        echo(report / PAGE, err=as_json)
    if as_json:
        from stadia.io.input_files import replace_nan

        echo(json.dumps(replace_nan(record), indent=2, allow_nan=False))
    if verdict.grade == "unusable":
        raise typer.Exit(STOPPED)


PAGE = "result.html"


def describe_camera(reconstruction: Reconstruction) -> str:
    """Return the camera of a reconstruction with one camera as `--camera` takes it."""
    K, (width, height) = reconstruction.K[0], reconstruction.sizes[0]
    lens = zip(("k1", "k2", "p1", "p2"), reconstruction.distortion[0], strict=True)
    numbers = {"fx": K[0, 0], "fy": K[1, 1], "cx": K[0, 2], "cy": K[1, 2], "width": width, "height": height}
    return ",".join(f"{key}={value:.7g}" for key, value in (*numbers.items(), *lens) if value)


def list_lines(result: Path, verdict: ReconstructionVerdict, *, verbose: bool) -> Iterator[str]:
    """Yield the lines of a verdict: the grade, one line for each question, and the images that contradict."""
    posed = len(verdict.images)
    compared = [image for image in verdict.images if image.agree + image.contradict]
    parts = len({image.part for image in compared})
    is_split = parts > 1 and verdict.search.found is None  # a wrong convention splits any path
    yield (
        f"{result} is {verdict.grade}: {posed} of {verdict.count} images have a pose"
        + f", and {len(compared)} of them matches" * (len(compared) < posed)
        + f"; matches that fit the poses join them only within {parts} groups" * is_split
    )
    for name, question in list_questions(verdict).items():
        yield f"  {name + ':':13}{question.verdict}: {question.reason} ({question.basis})"
    if (found := verdict.search.found) is not None:
        yield f"  fix: {found.fix}; then {found.fits:.0%} of the matches fit ({found.fits_given:.0%} now)"
        yield from (f"  or: {other}; these images show no difference" for other in found.others)
    contradicting = verdict.contradicting
    if contradicting and found is None:
        yield f"  {len(contradicting)} of {posed} images contradict their matches:"
        for image in contradicting[: None if verbose else MAX_LISTED]:
            yield f"    {image.name}: {image.share:.0%} of {image.agree + image.contradict} matches"
        if len(contradicting) > MAX_LISTED and not verbose:
            yield "    ... (--verbose lists all)"
    yield from (f"  note: {note}" for note in verdict.notes)


def write_page(
    path: Path, title: str, reconstruction: Reconstruction, matches: ImageMatches, verdict: ReconstructionVerdict
) -> None:
    """Write the page of `--report`."""
    from dataclasses import asdict

    import numpy as np

    from stadia.geometry.poses import invert_pose
    from stadia.judge.reconstructions.worst_pairs import show_worst_pairs
    from stadia.report.reconstruction_page import PairPicture, write_reconstruction_page
    from stadia.sfm.match_triangulation import pose_images

    shown = show_worst_pairs(reconstruction, matches)
    images = matches.read_images([end for pair in shown for end in (pair.first, pair.second)])
    pictures = [
        PairPicture(
            title=f"{matches.names[pair.first]} and {matches.names[pair.second]}: "
            f"{(~pair.agrees).sum()} of {len(pair.agrees)} matches contradict",
            first=images[pair.first],
            second=images[pair.second],
            xy_first=pair.xy_first,
            xy_second=pair.xy_second,
            agrees=pair.agrees,
            lines=list(zip(pair.shown, pair.lines, strict=True)),
        )
        for pair in shown
    ]
    summary, *others = list_lines(Path(title), verdict, verbose=False)
    questions = {name: describe_question(question) for name, question in list_questions(verdict).items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_reconstruction_page(
        path,
        title=title,
        grade=verdict.grade,
        summary=summary,
        questions=questions,
        positions=np.asarray(invert_pose(pose_images(reconstruction, matches).T_camera_world)[:, :3, 3], np.float64),
        rows=[{**asdict(image), "share": image.share} for image in verdict.images],
        pictures=pictures,
        notes=[line.strip() for line in others if line.startswith(("  fix", "  or", "  note"))],
    )


def list_questions(verdict: ReconstructionVerdict) -> dict[str, QuestionVerdict]:
    """Return the verdict on each question by its name."""
    questions = {"path": verdict.path, "camera": verdict.camera, "conventions": verdict.conventions}
    return questions if verdict.depth is None else {**questions, "depth": verdict.depth}


def describe_question(question: QuestionVerdict) -> dict[str, str]:
    """Return the fields of the verdict on one question for JSON."""
    return {"grade": question.verdict, "reason": question.reason, "rests_on": question.basis}


def describe_verdict(verdict: ReconstructionVerdict) -> dict[str, Any]:
    """Return all fields of a verdict for JSON."""
    from dataclasses import asdict

    questions = {name: describe_question(question) for name, question in list_questions(verdict).items()}
    return {
        "grade": verdict.grade,
        "depth": None,
        **questions,
        "search": asdict(verdict.search),
        "meaning": None if verdict.meaning is None else asdict(verdict.meaning),
        "evidence": None if verdict.evidence is None else asdict(verdict.evidence),
        "reasons": [asdict(reason) for reason in verdict.reasons],
        "images": [{**asdict(image), "share": image.share} for image in verdict.images],
        "contradicting": [image.name for image in verdict.contradicting],
        "pairs": [asdict(pair) for pair in verdict.pairs],
        "count": verdict.count,
        "notes": verdict.notes,
    }


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

    from stadia.judge.reconstructions.refine_reconstruction import refine_reconstruction

    with show_progress() as bars:
        refined = refine_reconstruction(result, images, camera=camera, out=out, track=bars.track)
    if as_json:
        from stadia.io.input_files import replace_nan

        echo(json.dumps(replace_nan(describe_refined(refined)), indent=2, allow_nan=False))
    else:
        print_lines(list_refined_lines(result, out, refined))


def list_refined_lines(result: Path, out: Path, refined: RefinedReconstruction) -> Iterator[str]:
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
