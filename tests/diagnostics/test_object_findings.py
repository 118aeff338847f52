"""Findings about pictures of objects."""

from __future__ import annotations

from dataclasses import replace

from stadia.data.object_survey import Survey
from stadia.diagnostics.objects import object_findings


def test_findings_tell_what_no_pixel_shows_and_what_does_not_train() -> None:
    good = Survey(10, {"cup": 5, "can": 3}, {}, (), (), 90.0)
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
