"""Findings about images of objects."""

from __future__ import annotations

from dataclasses import replace

from stadia.objectpose.label_checks import BoxMaskFit, ObjectSurvey, check_object_labels


def test_hidden_objects_and_untrained_classes_are_reported() -> None:
    good = ObjectSurvey(10, {"cup": 5, "can": 3}, (), ())
    assert check_object_labels({"train": good, "val": good}) == []
    hidden = replace(good, hidden=(("a/004.png", 1), ("a/004.png", 2), ("a/007.png", 1)))
    (found,) = check_object_labels({"train": hidden, "val": good})
    assert (found.code, found.severity) == ("O01", "note")
    assert (
        "3 labeled objects in 2 of 10 images of 'train' have no pixel, such as number 1 of a/004.png" in found.measured
    )
    (found,) = check_object_labels({"train": replace(good, objects={"cup": 5}), "val": good})
    assert (found.code, found.severity) == ("O03", "warn")
    assert "'val' shows can" in found.measured
    (found,) = check_object_labels({"train": replace(good, objects={}), "val": good})
    assert (found.code, found.severity) == ("O02", "stop")


def test_visible_objects_without_a_pose_are_reported() -> None:
    good = ObjectSurvey(10, {"cup": 5}, (), ())
    (found,) = check_object_labels(
        {
            "train": good,
            "val": replace(good, left_out=(("4", 7, "no depth"), ("4", 2, "few agree"), ("6", 1, "no depth"))),
        }
    )
    assert (found.code, found.severity) == ("O04", "warn")
    assert (
        "3 visible objects in 2 of 10 images of 'val' have no pose, such as number 7 of 4: no depth" in found.measured
    )
    assert found.evidence["left_out"]["object"] == [7, 2, 1]


def test_unreadable_images_stop_and_hide_missing_objects() -> None:
    good = ObjectSurvey(10, {"cup": 5}, (), ())
    (found,) = check_object_labels(
        {"train": ObjectSurvey(2, {}, (), (), 2, (("t/image/000.png", "no such file"), ("t/image/001.png", "text")))}
    )
    assert (found.code, found.severity) == ("D01", "stop")
    assert "2 of 2 images of 'train' cannot be read, such as t/image/000.png: no such file" in found.measured
    assert found.evidence["unreadable"]["found"] == ["no such file", "text"]
    (found,) = check_object_labels({"train": replace(good, whole=30), "val": replace(good, whole=10)})
    assert (found.code, "20 of 40 images" in found.measured) == ("N02", True)


def test_boxes_beside_their_masks_warn_and_many_of_them_stop() -> None:
    def reported(*fits: tuple[float, float]) -> list[tuple[str, str]]:
        survey = ObjectSurvey(
            10, {"cup": 5}, (), (), fits=tuple(BoxMaskFit("t/000.png", n, *fit) for n, fit in enumerate(fits, start=1))
        )
        return [(found.code, str(found.severity)) for found in check_object_labels({"train": survey})]

    assert reported(*[(1.0, 0.6)] * 99, (0.5, 0.6)) == []
    assert reported(*[(1.0, 0.6)] * 96, *[(0.5, 0.6)] * 4) == [("O05", "warn")]
    assert reported(*[(1.0, 0.6)] * 80, *[(0.5, 0.6)] * 20) == [("O05", "stop")]
    assert reported(*[(1.0, 0.02)] * 10) == [("O05", "stop")], "boxes that are much too large hold everything"
