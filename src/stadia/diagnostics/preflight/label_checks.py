"""Check the labels of a dataset from statistics of its files: object poses, masks of roads and objects, composites."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import TYPE_CHECKING, Any

from stadia.diagnostics.catalog import make_finding, sort_findings
from stadia.diagnostics.finding import Finding, Severity
from stadia.diagnostics.not_checked import SAMPLED

if TYPE_CHECKING:
    from stadia.dataloading.composite_survey import CompositeSurvey, SharedFactor
    from stadia.datasets.surveys import MaskSurvey, ObjectSurvey

MIN_INSIDE = 0.9
"""Share of a mask inside its projected box. Of 1208 objects of TableWorld and Linemod-Occluded the minimum is 1."""

WARN_BEYOND = 0.02  # share of objects whose mask reaches beyond the box: 0 for those

STOP_BEYOND = 0.1
"""The same share, for a stop. With quaternions x, y, z, w read as w, x, y, z at least .20, with inverse rotations .16,
with the list reversed .88, with sizes or distances ten times off (too small a box) all.
"""

MIN_OVERLAP = 0.15
"""Median IoU of the rectangles around mask and box: .54 or more for correct labels, .02 for sizes ten times off."""

MAX_WITHOUT_ROAD = 0.5  # share of the frames without a road
MAX_WITHOUT_OBJECT = 0.9  # share of the frames without an object of known height
MIN_IN_LOWER_HALF = 0.9  # share of the road pixels in the lower half of the image
MIN_OUTLINES = 4  # frames with outlines of masks that show whether these are mirrored
MIN_MIRRORED = 0.9  # share of these frames that fit better mirrored. None of 128 of RoadWorld does
MIN_MIRRORED_GAIN = 1.1  # factor by which mirrored masks fit better. RoadWorld's fit 1.3 to 1.7 times better unmirrored
MAX_OTHER_CLASSES = 4  # other classes that are named in the message
MIN_BACKGROUNDS = 10  # effective number in an epoch; 30,000 consecutive images of the published set have 7.5

MAX_UNSCORED = 0.2
"""Share of the depth labels outside of the trained and scored range; of the demo roads 6 % are beyond 80 m."""

MAX_LISTED_FILES = 10  # files in the evidence


def check_object_labels(surveys: Mapping[str, ObjectSurvey]) -> list[Finding]:
    """Return findings of the splits by name, "train" among them.

    D01: unreadable images.  O01 to O05: objects that are not trained, have no label or no pixel, or boxes that do not
    match their masks.  N02: how many images were checked, where not all.
    """
    return sort_findings(list(_check_objects(surveys)))


def _check_objects(surveys: Mapping[str, ObjectSurvey]) -> Iterator[Finding]:
    train = surveys["train"]
    if not train.objects and not train.unreadable:
        measured = f"no visible object in {train.images} training images"
        yield make_finding("O02", Severity.STOP, measured, "objects to learn from")
    for split, survey in surveys.items():
        yield from _check_object_files(split, survey)
        unknown = sorted(survey.objects.keys() - train.objects.keys())
        if unknown and train.objects:
            measured = f"'{split}' shows {', '.join(unknown)}; none in {train.images} training images"
            yield make_finding("O03", Severity.WARN, measured, "each class in training")
        yield from _check_boxes(split, survey)
    checked = sum(survey.images for survey in surveys.values())
    whole = sum(survey.whole for survey in surveys.values())
    if checked < whole:
        measured = f"{checked} of {whole} images were checked, with their labels; "
        measured += "of the others only the first and last bytes"
        yield make_finding(SAMPLED, Severity.NOTE, measured, "all", case="images")


def _check_object_files(split: str, survey: ObjectSurvey) -> Iterator[Finding]:
    """Yield D01, O01 and O04: images that cannot be read, objects without a pixel, objects without a pose."""
    if survey.unreadable:
        (file, error), *_ = survey.unreadable
        measured = f"{len(survey.unreadable)} of {survey.whole} images of '{split}' cannot be read, "
        measured += f"such as {file}: {error}"
        evidence = {"unreadable": _list_columns(("file", "found"), survey.unreadable)}
        yield make_finding("D01", Severity.STOP, measured, "whole images", case="objects", evidence=evidence)
    if survey.hidden:
        files = {file for file, _ in survey.hidden}
        (file, number), *_ = survey.hidden
        measured = f"{len(survey.hidden)} labeled objects in {len(files)} of {survey.images} images of '{split}' have "
        measured += f"no pixel, such as number {number} of {file}"
        evidence = {"hidden": _list_columns(("file", "object"), survey.hidden)}
        yield make_finding("O01", Severity.NOTE, measured, "objects that can be seen", evidence=evidence)
    if survey.left_out:
        files = {file for file, *_ in survey.left_out}
        (file, number, reason), *_ = survey.left_out
        measured = f"{len(survey.left_out)} visible objects in {len(files)} of {survey.images} images of '{split}' "
        measured += f"have no pose, such as number {number} of {file}: {reason}"
        evidence = {"left_out": _list_columns(("file", "object", "reason"), survey.left_out)}
        yield make_finding("O04", Severity.WARN, measured, "a pose of each object that can be seen", evidence=evidence)


def _list_columns(names: Sequence[str], rows: Sequence[Sequence[object]]) -> dict[str, list[Any]]:
    """Return the first rows as columns by name."""
    columns = zip(*rows[:MAX_LISTED_FILES], strict=True)
    return {name: list(column) for name, column in zip(names, columns, strict=True)}


def _check_boxes(split: str, survey: ObjectSurvey) -> Iterator[Finding]:
    """Yield O05 for masks outside their boxes, or for boxes that are much too large."""
    if not survey.fits:
        return
    beyond = sorted((fit for fit in survey.fits if fit.inside < MIN_INSIDE), key=lambda fit: fit.inside)
    share, overlap = len(beyond) / len(survey.fits), median(fit.overlap for fit in survey.fits)
    if share >= WARN_BEYOND:
        worst = beyond[0]
        measured = f"of {len(beyond)} of {len(survey.fits)} objects of '{split}' the mask is not in the projected box, "
        measured += f"such as number {worst.object} of {worst.file} ({worst.inside:.0%} of it is)"
    elif overlap < MIN_OVERLAP:
        measured = f"projected boxes of '{split}' are much larger than their masks "
        measured += f"(rectangles about both have a median IoU of {overlap:.2g})"
    else:
        return
    worst_fits = (beyond or sorted(survey.fits, key=lambda fit: fit.overlap))[:MAX_LISTED_FILES]
    rows = [(fit.file, fit.object, round(fit.inside, 3), round(fit.overlap, 3)) for fit in worst_fits]
    evidence = {"worst": _list_columns(("file", "object", "inside", "overlap"), rows)}
    severity = Severity.stop_if(share >= STOP_BEYOND or overlap < MIN_OVERLAP)
    expected = "each mask in its object's projected box, and about as large"
    yield make_finding("O05", severity, measured, expected, evidence=evidence)


def check_masks(surveys: Sequence[MaskSurvey]) -> list[Finding]:
    """Return H01 to H05 and H16, with the frames: training continues, but cannot use them. H03 stops where no frame of
    any recording has masks: depth would never be in metres.
    """
    if surveys and all(len(_frames_without_masks(survey)) == survey.frames for survey in surveys):
        frames = sum(survey.frames for survey in surveys)
        where = [survey.recording for survey in surveys]
        reasons = [reason for survey in surveys for reason in survey.unusable.values()]
        measured = f"none of {frames} sampled frames has masks: {next(iter(reasons), 'no mask file')}"
        expected = "masks of road and objects"
        return [make_finding("H03", Severity.STOP, measured, expected, where=where, case="no_masks")]
    by_recording = [finding for survey in surveys for finding in _check_recording_masks(survey)]
    return sort_findings([*by_recording, *_check_known_objects(surveys)])


def _frames_without_masks(survey: MaskSurvey) -> tuple[int, ...]:
    return (*survey.unusable, *survey.without_masks)


def _check_recording_masks(survey: MaskSurvey) -> Iterator[Finding]:
    def warn(code: str, measured: str, expected: str, frames: Sequence[int] = ()) -> Finding:
        evidence = {"frames": {"frame": list(frames)}} if frames else {}
        return make_finding(code, Severity.WARN, measured, expected, where=survey.recording, evidence=evidence)

    bare, without_road = _frames_without_masks(survey), survey.without_road
    if bare:
        reason = next(iter(survey.unusable.values()), "no mask file")
        measured = f"masks of {len(bare)} of {survey.frames} frames cannot be used, such as frame {bare[0]}: {reason}"
        yield warn("H03", measured, "masks of every frame", bare)
    if len(without_road) > MAX_WITHOUT_ROAD * survey.frames:
        measured = f"{len(without_road)} of {survey.frames} frames show no road, such as frame {without_road[0]}"
        yield warn("H01", measured, "a road in most frames", without_road)
    if survey.road_in_lower_half < MIN_IN_LOWER_HALF and len(without_road) + len(bare) < survey.frames:
        such = f", of frame {survey.upside_down[0]} less than half" if survey.upside_down else ""
        measured = f"{survey.road_in_lower_half:.0%} of the road is in the lower half of the images{such}"
        yield warn("H05", measured, f"at least {MIN_IN_LOWER_HALF:.0%}", survey.upside_down)
    if survey.no_prior:
        classes = sorted(survey.no_prior.items())
        counts = ", ".join(f"{len(at)} of class {name}, such as in frame {at[0]}" for name, at in classes)
        frames = sorted({frame for _, at in classes for frame in at})
        yield warn("H04", f"objects without a height: {counts}", "a height of each class in road.objects", frames)
    fits, count = survey.as_they_are, len(survey.as_they_are)
    mirrored = sum(value < 0 for value in fits)
    if count >= MIN_OUTLINES and mirrored >= MIN_MIRRORED * count and sum(fits) / count <= -math.log(MIN_MIRRORED_GAIN):
        measured = f"in {mirrored} of {count} frames the image's edges fit the masks better mirrored, "
        measured += f"{math.exp(-sum(fits) / count):.2f} times on the whole"
        yield warn("H16", measured, "edges along the unmirrored masks")


def _check_known_objects(surveys: Sequence[MaskSurvey]) -> Iterator[Finding]:
    """Yield H02: too few frames show an object of known height."""
    frames = sum(survey.frames for survey in surveys)
    bare_frames = sum(map(_count_without_object, surveys))
    if bare_frames <= MAX_WITHOUT_OBJECT * frames:
        return
    worst = max(surveys, key=lambda survey: len(survey.without_object))
    count = sum(survey.objects for survey in surveys)
    others = sum((Counter(survey.others) for survey in surveys), Counter())
    measured = f"{bare_frames} of {frames} frames show no object of known height ({count} objects)"
    if worst.without_object:
        measured += f", such as frame {worst.without_object[0]} of {worst.recording}"
    if others:
        most = others.most_common(MAX_OTHER_CLASSES)
        listed = ", ".join(f"{times} of class {name or 'without a name'}" for name, times in most)
        measured += f"; of other classes than road.objects: {listed}"
    expected = f"one in at least {1 - MAX_WITHOUT_OBJECT:.0%} of the frames"
    frames_of_worst = list(worst.without_object)
    table = {"recording": [worst.recording] * len(frames_of_worst), "frame": frames_of_worst}
    where = [survey.recording for survey in surveys if _count_without_object(survey)]
    yield make_finding("H02", Severity.WARN, measured, expected, where=where, evidence={"frames": table})


def _count_without_object(survey: MaskSurvey) -> int:
    """Count frames that do not contribute to the scale, for any reason."""
    return sum(map(len, (survey.without_masks, survey.unusable, survey.without_road, survey.without_object)))


def check_composites(survey: CompositeSurvey) -> list[Finding]:
    """Return C01 to C09, C14, and D01 of unreadable images; empty where nothing is wrong and depth is exact."""
    factors = {factor.name: factor for factor in survey.factors}
    findings = [*_check_shared(survey, factors), *_check_composite_files(survey), *_check_composite_labels(survey)]
    if survey.effective_backgrounds < MIN_BACKGROUNDS:
        measured = f"{factors['background'].counts['train']} backgrounds train, as unevenly as "
        measured += f"{survey.effective_backgrounds:.1f} of equal frequency, in {survey.images['train']} images"
        findings.append(make_finding("C06", Severity.WARN, measured, f"{MIN_BACKGROUNDS} and more"))
    return sort_findings(findings)


def _check_shared(survey: CompositeSurvey, factors: Mapping[str, SharedFactor]) -> Iterator[Finding]:
    """Yield C01 and C02, with the table of what splits share."""
    table = {
        "factor": list(factors),
        **{split: [factor.counts.get(split, 0) for factor in factors.values()] for split in survey.images},
        "shared": [len(factor.shared) for factor in factors.values()],
    }

    def report(code: str, severity: Severity, name: str, expected: str) -> Finding:
        shared = factors[name].shared
        measured = f"{len(shared)} {name}{'s' * (len(shared) > 1)} in two of "
        measured += f"the splits {', '.join(survey.images)}, such as {shared[0]}"
        return make_finding(code, severity, measured, expected, evidence={"splits": table})

    if factors["background"].shared:
        yield report("C01", Severity.STOP, "background", "each background in one split")
    elif factors["world"].shared:
        yield report("C01", Severity.WARN, "world", "each recording in one split")
    if name := next((kind for kind in ("object", "foreground") if factors[kind].shared), ""):
        yield report("C02", Severity.STOP, name, "each object in one split")


def _check_composite_labels(survey: CompositeSurvey) -> Iterator[Finding]:
    """Yield C07, C08 and C14: depth of another source, equal to the mask, or outside of the scored range."""
    if survey.source != "exact":
        measured = f"depth is of '{survey.source}', {survey.depth_scale}"
        yield make_finding("C07", Severity.NOTE, measured, "exact depth, or a name for its source")
    if survey.alike:
        measured = f"of {survey.num_checked} images depth and mask both have {survey.alike}"
        yield make_finding("C08", Severity.STOP, measured, "depth that is not the mask")
    if survey.unscored > MAX_UNSCORED:
        low, high = survey.depths
        measured = f"{survey.unscored:.0%} of the depth labels lie outside of "
        measured += f"loss.min_depth to loss.max_depth; 99 % lie in {low:.3g} to {high:.3g}"
        yield make_finding("C14", Severity.WARN, measured, f"at most {MAX_UNSCORED:.0%}")


def _check_composite_files(survey: CompositeSurvey) -> Iterator[Finding]:
    """Yield C03 to C05, C09 and D01: missing and renamed files, and files that do not hold what they should."""
    if survey.missing:
        paths = list(survey.missing[:MAX_LISTED_FILES])
        are = "paths are" if len(survey.missing) > 1 else "path is"
        more = " ..." if len(survey.missing) > MAX_LISTED_FILES else ""
        measured = f"{len(survey.missing)} {are} missing: {', '.join(paths)}{more}"
        evidence = {"missing": {"path": paths}}
        yield make_finding("C03", Severity.WARN, measured, "every file of the layout", evidence=evidence)
    if survey.renamed:
        yield make_finding("C04", Severity.NOTE, "; ".join(survey.renamed), "the names of the layout")
    for code, severity, faults, what, expected, case in (
        ("C05", Severity.WARN, survey.lossy, "label", "labels without loss", ""),
        ("C09", Severity.STOP, survey.uncut, "foreground", "objects cut out", ""),
        ("D01", Severity.STOP, survey.unreadable, "image", "images that can be read", "composites"),
    ):
        if faults:
            (file, fault), *_ = faults
            measured = f"{len(faults)} {what}{'s' * (len(faults) > 1)} of those checked, such as {file}: {fault}"
            evidence = {"files": _list_columns(("file", "found"), faults)}
            yield make_finding(code, severity, measured, expected, case=case, evidence=evidence)
