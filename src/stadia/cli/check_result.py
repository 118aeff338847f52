"""Judge and refine results of other programs by their images: `stadia check RESULT --images` and `stadia refine`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stadia.cli.options import JsonOption, argument, option
from stadia.cli.output import echo, list_purposes, print_lines, show_progress
from stadia.cli.results import LEFT_OPEN, STOPPED
from stadia.predict.options import about

if TYPE_CHECKING:
    from stadia.io.records.reconstruction import Reconstruction
    from stadia.judge.reconstructions.check_reconstruction import ReconstructionVerdict
    from stadia.judge.reconstructions.refine_reconstruction import RefinedReconstruction
    from stadia.report.pipeline_report import PipelineCase

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
    purposes: tuple[str, ...] = field(
        default=(),
        metadata=about(
            "What the result is to be good for: splats, mesh, measuring=1%, navigation, localization=5cm.", name="--for"
        ),
    )
    fix: Path | None = field(
        default=None, metadata=about("Write the result with the mistakes undone that --images shows.")
    )
    report: Path | None = field(default=None, metadata=about("A folder for a page about the result."))
    junit: Path | None = field(default=None, metadata=about("A file for purposes and causes as JUnit XML."))
    github: bool = field(default=False, metadata=about("Print annotations for GitHub in place of the text."))


def check_result(result: Path, options: ResultOptions) -> None:
    """Print the verdict on the result of another program.

    Exits with 0 if all purposes asked for hold, 1 if one does not, and 3 if this cannot be measured. Wrong usage exits
    with 2.
    """
    from stadia.io.input_files import check_path_exists, expand_home
    from stadia.io.output_files import check_output_folder, check_replaceable

    assert options.images is not None
    result, images, camera, as_json = expand_home(result), expand_home(options.images), options.camera, options.as_json
    for given in (result, images):
        check_path_exists(given)
    is_quiet = as_json or options.github
    report = options.report
    if report is not None:
        report = check_output_folder(report, PAGE, "report of a result", inputs=[result], force=options.force)
    junit = options.junit
    if junit is not None:
        junit = check_replaceable(expand_home(junit), JUNIT, inputs=[result, images], force=options.force)

    from stadia.io.records.read import check_new_path, choose_output, read_reconstruction, write_reconstruction
    from stadia.judge.purposes import parse_purpose
    from stadia.sfm.image_matches import check_images, match_images

    purposes = [parse_purpose(text) for text in options.purposes]
    with show_progress() as bars:
        reconstruction = read_reconstruction(result)  # wrong files are found before the images are matched
        camera_file = None
        if options.fix is not None:
            written = choose_output(reconstruction, expand_home(options.fix))
            if camera is not None and Path(camera).is_file():
                camera_file = written.with_suffix(".K.json")
                check_new_path(camera_file)
        _check_camera(reconstruction, camera)
        check_images(reconstruction, images)
        matches = match_images(images, track=bars.track)

        from stadia.cli.result_page import Correction, write_page
        from stadia.judge.reconstructions.check_reconstruction import judge_reconstruction, replace_camera
        from stadia.judge.reconstructions.model_points import add_model_note

        reconstruction = replace_camera(add_model_note(reconstruction), matches, camera)
        for _ in bars.track(range(1), 1, "judging"):
            verdict = judge_reconstruction(reconstruction, matches, purposes, bars.track)
    record, fix = describe_verdict(verdict), None
    if not is_quiet:
        print_lines(list_lines(result, verdict, verbose=options.verbose))
    if options.fix is not None:
        record["fixed"] = None
        if verdict.fixed is None:
            echo("Nothing to fix: no change explains the images better", err=is_quiet)
        else:
            written = write_reconstruction(verdict.fixed, expand_home(options.fix))
            right = camera and describe_camera(verdict.fixed)
            corrected = read_reconstruction(written)
            is_same = camera is not None and right == describe_camera(reconstruction)
            camera_file = None if is_same or corrected.has_camera else camera_file
            if camera_file is not None:
                write_camera(camera_file, verdict.fixed)
            is_kept = is_same and len(corrected) == len(reconstruction)  # a file may have K of each pose
            fitting = camera if is_kept else right if camera_file is None else str(camera_file)
            corrected = replace_camera(corrected, matches, fitting)
            again = judge_reconstruction(corrected, matches, purposes)
            fix = Correction(written, camera_file, corrected, again)
            left_out = max(len(reconstruction) - len(corrected), 0)
            files = {"path": str(written), "camera": None if camera_file is None else str(camera_file)}
            record["fixed"] = {**files, "given_camera": right, "left_out": left_out, **describe_verdict(again)}
            if not is_quiet:
                print_lines(["", *list_lines(written, again, verbose=options.verbose)])
                if left_out:
                    print_lines([f"  left out: {left_out} of {len(reconstruction)} poses, which no image places"])
                if corrected.format == "trajectory" and corrected.pose_format != reconstruction.pose_format:
                    print_lines([f"  its rows: those of {corrected.pose_format.program}, not of the given file"])
                if right is not None and not is_same:
                    print_lines([f"  its camera: --camera {camera_file or right}"])
    if report is not None:
        write_page(report / PAGE, result.name, reconstruction, matches, verdict, fix)
        echo(report / PAGE, err=is_quiet)
    if as_json:
        from stadia.io.input_files import replace_nan

        echo(json.dumps(replace_nan(record), indent=2, allow_nan=False))
    code = find_exit_code(verdict)
    if junit is not None or options.github:
        from stadia.report.pipeline_report import list_annotations, write_junit

        cases = list_cases(verdict, code)
        if junit is not None:
            write_junit(junit, str(result), cases)
        if options.github:
            print_lines(list_annotations(str(result), cases))
    if code:
        raise typer.Exit(code)


def _check_camera(reconstruction: Reconstruction, camera: str | None) -> None:
    if camera is None and not reconstruction.has_camera:
        from stadia.sfm.match_triangulation import make_camera_error

        raise make_camera_error(reconstruction)


PAGE = "result.html"
JUNIT = "JUnit XML"


def write_camera(path: Path, fixed: Reconstruction) -> None:
    """Write the camera of a corrected result, or that of each image if they differ, as `--camera` takes it."""
    import numpy as np

    from stadia.data.camera_file import store_camera
    from stadia.geometry.cameras import Intrinsics
    from stadia.io.records.formats import RADTAN

    K, (width, height) = fixed.K, fixed.sizes[0].tolist()
    K = K[0] if np.array_equal(K, np.broadcast_to(K[0], K.shape)) else K
    lens = (RADTAN, fixed.distortion[0]) if fixed.distortion[0].any() else None
    store_camera(path, Intrinsics(K, height, width), f"corrected with {fixed.path.name}", lens)


def describe_camera(reconstruction: Reconstruction) -> str:
    """Return the camera of a reconstruction with one camera as `--camera` takes it."""
    K, (width, height) = reconstruction.K[0], reconstruction.sizes[0]
    lens = zip(("k1", "k2", "p1", "p2"), reconstruction.distortion[0], strict=True)
    numbers = {"fx": K[0, 0], "fy": K[1, 1], "cx": K[0, 2], "cy": K[1, 2], "width": width, "height": height}
    return ",".join(f"{key}={value:.7g}" for key, value in (*numbers.items(), *lens) if value)


def find_exit_code(verdict: ReconstructionVerdict) -> int:
    """Return 0 if the result holds for what was asked, 1 if it does not, and 3 if this cannot be measured."""
    if verdict.grade == "unusable" or (verdict.are_asked and any(p.holds is False for p in verdict.purposes)):
        return STOPPED
    return LEFT_OPEN if verdict.grade == "not judged" or (verdict.are_asked and verdict.grade != "usable") else 0


def list_cases(verdict: ReconstructionVerdict, code: int) -> list[PipelineCase]:
    """Return the purposes and the causes of a verdict, and the verdict on depth maps, as cases for a pipeline.

    verdict: the verdict.
    code: its exit code. Only cases that explain it count as failed or as not measurable; others are noted.
    """
    from stadia.core.verdict import Verdict
    from stadia.report.pipeline_report import Outcome, PipelineCase

    failed = Outcome.FAILED if code == STOPPED else Outcome.NOTED
    left_open = Outcome.OPEN if code == LEFT_OPEN else Outcome.NOTED
    outcomes = {True: Outcome.PASSED, False: failed, None: left_open}
    cases = [
        PipelineCase(f"good for {purpose.purpose.key}", outcomes[purpose.holds], purpose.reason)
        for purpose in verdict.purposes
    ]
    for cause in verdict.causes:
        images = f"images: {', '.join(cause.images)}" if cause.images else ""
        details = "\n".join(text for text in (f"fix: {cause.fix}", images) if text)
        cases.append(PipelineCase(f"cause: {cause.name}", failed, cause.what, details))
    if verdict.depth is not None:
        grades = {Verdict.USABLE: Outcome.PASSED, Verdict.UNUSABLE: failed, Verdict.NOT_JUDGED: left_open}
        outcome = grades.get(verdict.depth.verdict, Outcome.NOTED)
        cases.append(PipelineCase("depth maps", outcome, verdict.depth.reason))
    return cases


def list_lines(result: Path, verdict: ReconstructionVerdict, *, verbose: bool) -> Iterator[str]:
    """Yield the lines of a verdict: the grade, the measured error, its causes, and what the result is good for."""
    error, count = verdict.error, len(verdict.images)
    yield (
        f"{result} is {verdict.grade}: {count} of {verdict.count} images have a pose"
        + f"; matches join them only within {error.parts} groups" * (error.parts > 1)
    )
    if verdict.search.found is not None:
        yield f"  cause: {verdict.causes[0].what}"
        yield f"    fix: {verdict.causes[0].fix}; then {verdict.search.found.fits:.0%} of the matches fit " + (
            f"({verdict.search.found.fits_given:.0%} now)"
        )
        yield from (f"    or: {other}; these images show no difference" for other in verdict.search.found.others)
        if verdict.error_after_fix.is_measured:
            yield "  after this fix:"
    measured = error if verdict.search.found is None else verdict.error_after_fix
    if measured.reason:
        yield f"  not measurable: {measured.reason}"
    yield from (f"  {name + ':':17}{text}" for name, text in measured.describe().items())
    for cause in verdict.causes[1 if verdict.search.found is not None else 0 :]:
        yield f"  cause: {cause.what}"
        if (gain := cause.gain) is not None:
            missed = f"miss by {gain.after_px:.2f} px ({gain.before_px:.2f} now)"
            if gain.is_far_off:
                yield f"    no fix: {cause.fix}, and held-out matches still {missed}: there is another cause"
            else:
                yield f"    fix: {cause.fix}; then held-out matches {missed}"
        if len(cause.images) > 2:
            shown = cause.images if verbose else cause.images[:MAX_LISTED]
            more = "" if len(shown) == len(cause.images) else ", ... (--verbose lists all)"
            yield f"    images: {', '.join(shown)}{more}"
    if verdict.depth is not None:
        yield f"  {'depth:':17}{verdict.depth.verdict}: {verdict.depth.reason} ({verdict.depth.basis})"
    yield from list_purposes(verdict.purposes)
    if verdict.search.undecided and verbose:
        yield f"  note: the matches fit as well if {verdict.search.undecided[0]}"
    yield from (f"  note: {note}" for note in verdict.notes)


def describe_verdict(verdict: ReconstructionVerdict) -> dict[str, Any]:
    """Return all fields of a verdict for JSON."""
    from dataclasses import asdict

    from stadia.judge.error import describe_measured

    of_images = {image.index: image for image in verdict.error_after_fix.images}
    images = []
    for image in verdict.images:
        measured = of_images.get(image.index)
        images.append(
            {
                **asdict(image),
                "share": image.share,
                "rotation_deg": None if measured is None else measured.rotation_deg._asdict(),
                "position_share": None if measured is None else measured.position_share._asdict(),
                "is_wrong": measured is not None and measured.is_wrong,
            }
        )
    depth = verdict.depth
    return {
        "grade": verdict.grade,
        "error": verdict.error.to_json(),
        "not_measurable": verdict.error.reason or None,
        "error_after_fix": verdict.error_after_fix.to_json(),
        "causes": [
            {
                "name": cause.name,
                "what": cause.what,
                "fix": cause.fix,
                "images": cause.images,
                "size": describe_measured(cause.size),
                "unit": cause.unit or None,
                "held_out": None if cause.gain is None else asdict(cause.gain),
            }
            for cause in verdict.causes
        ],
        "good_for": {purpose.purpose.key: purpose.holds for purpose in verdict.purposes},
        "purposes": [purpose.to_json() for purpose in verdict.purposes],
        "depth": depth and {"grade": depth.verdict, "reason": depth.reason, "rests_on": depth.basis},
        "search": asdict(verdict.search),
        "meaning": None if verdict.meaning is None else asdict(verdict.meaning),
        "images": images,
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
    error, gain = refined.error, refined.gain
    if not refined.is_changed:
        yield f"{result} is unchanged: no adjustment fits the {gain.count} held-out matches better by their scatter"
    else:
        yield (
            f"{result} is refined: held-out matches miss by {gain.after_px:.2f} px, {gain.before_px:.2f} px before "
            f"({gain.count} matches, of images of 640 px)"
        )
    yield from (f"  {name + ':':17}{text}" for name, text in error.describe().items())
    yield from (f"  note: {note}" for note in refined.notes)
    yield f"{out}: poses, deviations.csv, sparse/0 and transforms.json for splats"


def describe_refined(refined: RefinedReconstruction) -> dict[str, object]:
    """Return the fields of a refined result for JSON."""
    from dataclasses import asdict

    return {
        "is_changed": refined.is_changed,
        "gain": asdict(refined.gain),
        "error": refined.error.to_json(),
        "images": refined.images.tolist(),
        "deviations_deg": refined.deviations_deg.tolist(),
        "deviations": refined.deviations.tolist(),
        "notes": refined.notes,
    }
