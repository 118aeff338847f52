"""Findings about pictures of objects."""

from __future__ import annotations

from dataclasses import replace

from stadia.data.object_survey import Survey
from stadia.diagnostics.objects import object_findings


def test_findings_tell_what_no_pixel_shows_and_what_does_not_train() -> None:
    good = Survey(10, {"cup": 5, "can": 3}, (), ())
    assert object_findings({"train": good, "val": good}) == []
    hidden = replace(good, hidden=((4, 1), (4, 2), (7, 1)))
    (found,) = object_findings({"train": hidden, "val": good})
    assert (found.code, found.severity) == ("O01", "note")
    assert "3 labelled objects in 2 of 10 pictures of 'train'" in found.measured
    (found,) = object_findings({"train": replace(good, objects={"cup": 5}), "val": good})
    assert (found.code, found.severity) == ("O03", "warn")
    assert "'val' shows can" in found.measured
    (found,) = object_findings({"train": replace(good, objects={}), "val": good})
    assert (found.code, found.severity) == ("O02", "stop")


def test_a_finding_tells_what_is_seen_and_has_no_pose() -> None:
    good = Survey(10, {"cup": 5}, (), ())
    (found,) = object_findings(
        {"train": good, "val": replace(good, left_out=((4, 7, "no depth"), (4, 2, "few agree"), (6, 1, "no depth")))}
    )
    assert (found.code, found.severity) == ("O04", "warn")
    assert "3 visible objects in 2 of 10 pictures of 'val' have no pose, such as number 7 of picture 4: no depth" in found.measured
    assert found.evidence["left_out"]["object"] == [7, 2, 1]
