"""Objects that nothing was found of are the worst there are, and the report says so."""

from __future__ import annotations

import json

from stadia import report
from stadia.report.sections import image_scores


def objects_scored(*entries: dict) -> dict:
    errors = [e["rotation_error_deg"] for e in entries if not e["missed"]]
    metrics = {"objects": len(entries), "rotation_error_deg": sum(errors) / len(errors) if errors else None}
    return {"images": 1, "metrics": metrics, "per_object": list(entries)}


def test_missed_objects_are_among_the_worst():
    found = {"name": "a/1, mug 1", "missed": False, "rotation_error_deg": 40.0}
    (shown,) = image_scores({"val": objects_scored(found, {"name": "a/2, can 1", "missed": True})})
    assert [name for name, _, _ in shown.worst] == ["a/2, can 1, missed", "a/1, mug 1"]
    assert shown.worst[0][1].startswith("180")
    assert shown.counted == "2 objects, 1 of them missed"
    assert image_scores({"val": objects_scored(found)})[0].counted == "1 objects"


def test_a_run_that_finds_nothing_has_its_worst_too(make_run):
    folder = make_run()
    score = objects_scored(*({"name": f"a/{i}, mug 1", "missed": True} for i in range(7)))
    (folder / "scores" / "val.json").write_text(json.dumps(score), encoding="utf-8")
    text = report.build(folder).read_text(encoding="utf-8")
    assert "7 objects, 7 of them missed" in text
    assert "a/0, mug 1, missed" in text
