"""Findings about pictures of objects, from what was counted in them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from stadia.diagnostics.catalogue import finding, in_order
from stadia.diagnostics.finding import Finding, Severity


class Surveyed(Protocol):
    """What was counted in pictures of a split (`data.object_survey.Survey`).

    pictures: how many were looked at.  objects: visible ones by class.  hidden: (picture, object) of labels that no pixel shows.
    """

    @property
    def pictures(self) -> int: ...
    @property
    def objects(self) -> Mapping[str, int]: ...
    @property
    def hidden(self) -> tuple[tuple[int, int], ...]: ...


def object_findings(surveys: Mapping[str, Surveyed]) -> list[Finding]:
    """Of the splits by name, "train" among them: what no pixel shows, and what does not train (O01 to O03)."""
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
    return in_order(found)
