"""Findings about pictures of objects, from what was counted in them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from stadia.diagnostics.catalogue import finding, in_order
from stadia.diagnostics.finding import Finding, Severity


class Surveyed(Protocol):
    """What was counted in pictures of a split (`data.object_survey.Survey`).

    pictures: how many were looked at.  objects: visible ones by class.  hidden: (picture, object) of those that no pixel shows.
    left_out: (picture, object, reason) of those that pixels show, and that have no label.
    """

    @property
    def pictures(self) -> int: ...
    @property
    def objects(self) -> Mapping[str, int]: ...
    @property
    def hidden(self) -> tuple[tuple[int, int], ...]: ...
    @property
    def left_out(self) -> tuple[tuple[int, int, str], ...]: ...


def object_findings(surveys: Mapping[str, Surveyed]) -> list[Finding]:
    """Of the splits by name, "train" among them: what no pixel shows, what does not train, and what has no label (O01 to O04)."""
    train, found = surveys["train"], []
    if not train.objects:
        found.append(
            finding(
                "O02", Severity.STOP, measured=f"no visible object in {train.pictures} training pictures", expected="objects to learn from"
            )
        )
    for split, one in surveys.items():
        if one.hidden:
            pictures = len({picture for picture, _ in one.hidden})
            found.append(
                finding(
                    "O01",
                    Severity.NOTE,
                    measured=f"{len(one.hidden)} labelled objects in {pictures} of {one.pictures} pictures of '{split}' have no pixel",
                    expected="objects that can be seen",
                    evidence={"hidden": {"picture": [p for p, _ in one.hidden[:10]], "object": [o for _, o in one.hidden[:10]]}},
                )
            )
        unknown = sorted(one.objects.keys() - train.objects.keys())
        if unknown and train.objects:
            found.append(
                finding(
                    "O03",
                    Severity.WARN,
                    measured=f"'{split}' shows {', '.join(unknown)}; none in {train.pictures} training pictures",
                    expected="each class in training",
                )
            )
        if one.left_out:
            found.append(_left_out(split, one))
    return in_order(found)


def _left_out(split: str, one: Surveyed) -> Finding:
    pictures, objects, reasons = zip(*one.left_out, strict=True)
    return finding(
        "O04",
        Severity.WARN,
        measured=f"{len(objects)} visible objects in {len(set(pictures))} of {one.pictures} pictures of '{split}' have no pose, "
        f"such as number {objects[0]} of picture {pictures[0]}: {reasons[0]}",
        expected="a pose of each object that can be seen",
        evidence={"left_out": {"picture": list(pictures[:10]), "object": list(objects[:10]), "reason": list(reasons[:10])}},
    )
