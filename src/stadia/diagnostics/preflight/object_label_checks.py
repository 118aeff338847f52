"""Check labels of object poses against their masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Protocol

from stadia.diagnostics.catalog import make_finding, sort_findings
from stadia.diagnostics.finding import Finding, Severity

MIN_INSIDE = 0.9
"""Share of a mask inside its projected box. Of 1208 objects of TableWorld and Linemod-Occluded the minimum is 1."""

WARN_BEYOND, STOP_BEYOND = 0.02, 0.1
"""Share of objects whose mask reaches beyond the box: 0 for those. With quaternions x, y, z, w read as w, x, y, z at
least 20 %, with inverse rotations 16 %, with the list reversed 88 %, with sizes or distances ten times off (too small
a box) all.
"""

MIN_OVERLAP = 0.15
"""Median IoU of the rectangles around mask and box: .54 or more for correct labels, .02 for sizes ten times off."""


class BoxFitResult(Protocol):
    """How a labeled box lies on its mask (`datasets.surveys.BoxMaskFit`)."""

    @property
    def file(self) -> str: ...
    @property
    def object(self) -> int: ...
    @property
    def inside(self) -> float: ...
    @property
    def overlap(self) -> float: ...


class ObjectSurveyResult(Protocol):
    """Statistics of the images of a split (`datasets.surveys.ObjectSurvey`).

    images: how many of `whole` were checked.  objects: visible ones by class.  hidden: (file, object) without a
        visible pixel.
    left_out: (file, object, reason) of visible ones without a label.  unreadable: (file, error) of images.
    """

    @property
    def images(self) -> int: ...
    @property
    def whole(self) -> int: ...
    @property
    def objects(self) -> Mapping[str, int]: ...
    @property
    def hidden(self) -> Sequence[tuple[str, int]]: ...
    @property
    def left_out(self) -> Sequence[tuple[str, int, str]]: ...
    @property
    def unreadable(self) -> Sequence[tuple[str, str]]: ...
    @property
    def fits(self) -> Sequence[BoxFitResult]: ...


def check_object_labels(surveys: Mapping[str, ObjectSurveyResult]) -> list[Finding]:
    """Return findings of the splits by name, "train" among them.

    D01: unreadable images.  O01 to O05: objects that are not trained, have no label or no pixel, or boxes that do not
    match their masks.  N02: how many images were checked, where not all.
    """
    train, found = surveys["train"], []
    if not train.objects and not train.unreadable:
        found.append(
            make_finding(
                "O02", Severity.STOP, f"no visible object in {train.images} training images", "objects to learn from"
            )
        )
    for split, one in surveys.items():
        if one.unreadable:
            found.append(_report_unreadable(split, one))
        if one.hidden:
            found.append(_report_hidden(split, one))
        unknown = sorted(one.objects.keys() - train.objects.keys())
        if unknown and train.objects:
            measured = f"'{split}' shows {', '.join(unknown)}; none in {train.images} training images"
            found.append(make_finding("O03", Severity.WARN, measured, "each class in training"))
        if one.left_out:
            found.append(_report_unlabeled(split, one))
        found += _check_boxes(split, one)
    return sort_findings([*found, *_report_sampling(surveys)])


def _report_unreadable(split: str, one: ObjectSurveyResult) -> Finding:
    files, faults = zip(*one.unreadable, strict=True)
    measured = f"{len(files)} of {one.whole} images of '{split}' cannot be read, such as {files[0]}: {faults[0]}"
    fix = "fetch or write them again, or take out their entries"
    evidence = {"unreadable": {"file": list(files[:10]), "found": list(faults[:10])}}
    return make_finding("D01", Severity.STOP, measured, "whole images", fix=fix, evidence=evidence)


def _report_hidden(split: str, one: ObjectSurveyResult) -> Finding:
    files, objects = zip(*one.hidden, strict=True)
    measured = f"{len(files)} labeled objects in {len(set(files))} of {one.images} images of '{split}' have no pixel, "
    measured += f"such as number {objects[0]} of {files[0]}"
    evidence = {"hidden": {"file": list(files[:10]), "object": list(objects[:10])}}
    return make_finding("O01", Severity.NOTE, measured, "objects that can be seen", evidence=evidence)


def _report_unlabeled(split: str, one: ObjectSurveyResult) -> Finding:
    files, objects, reasons = zip(*one.left_out, strict=True)
    measured = f"{len(objects)} visible objects in {len(set(files))} of {one.images} images of '{split}' have no pose, "
    measured += f"such as number {objects[0]} of {files[0]}: {reasons[0]}"
    evidence = {"left_out": {"file": list(files[:10]), "object": list(objects[:10]), "reason": list(reasons[:10])}}
    return make_finding("O04", Severity.WARN, measured, "a pose of each object that can be seen", evidence=evidence)


def _check_boxes(split: str, one: ObjectSurveyResult) -> list[Finding]:
    """Return O05 for masks outside their boxes, or for boxes that are much too large."""
    if not one.fits:
        return []
    beyond = sorted((fit for fit in one.fits if fit.inside < MIN_INSIDE), key=lambda fit: fit.inside)
    share, overlap = len(beyond) / len(one.fits), median(fit.overlap for fit in one.fits)
    if share < WARN_BEYOND and overlap >= MIN_OVERLAP:
        return []
    if share >= WARN_BEYOND:
        worst = beyond[0]
        measured = f"of {len(beyond)} of {len(one.fits)} objects of '{split}' the mask is not in the projected box, "
        measured += f"such as number {worst.object} of {worst.file} ({worst.inside:.0%} of it is)"
    else:
        measured = f"projected boxes of '{split}' are much larger than their masks (rectangles about both have a "
        measured += f"median IoU of {overlap:.2g})"
    worst_fits = (beyond or sorted(one.fits, key=lambda fit: fit.overlap))[:10]
    expected = "each mask in its object's projected box, and about as large"
    evidence = {
        "worst": {
            "file": [fit.file for fit in worst_fits],
            "object": [fit.object for fit in worst_fits],
            "inside": [round(fit.inside, 3) for fit in worst_fits],
            "overlap": [round(fit.overlap, 3) for fit in worst_fits],
        }
    }
    found = make_finding(
        "O05", Severity.stop_if(share >= STOP_BEYOND or overlap < MIN_OVERLAP), measured, expected, evidence=evidence
    )
    return [found]


def _report_sampling(surveys: Mapping[str, ObjectSurveyResult]) -> list[Finding]:
    checked, whole = sum(one.images for one in surveys.values()), sum(one.whole for one in surveys.values())
    if checked >= whole:
        return []
    measured = f"{checked} of {whole} images were checked, with their labels; of the others only the first and last "
    measured += "bytes"
    fix = "nothing to do: they are spread evenly over each split"
    return [
        make_finding("N02", Severity.NOTE, measured, "all", cause="more images than fit the time for checking", fix=fix)
    ]
