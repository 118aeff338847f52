"""Findings about composed images: silence on good sets, and each code on a set broken in just that way."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from tests.mutations.composites import composed, cut

from stadia.overlay.composites import open_composites
from stadia.overlay.config import OverlayDataConfig
from stadia.overlay.label_checks import CompositeSurvey, check_composites, survey_composites


@pytest.fixture
def good(tmp_path: Path) -> OverlayDataConfig:
    return composed(tmp_path)


def seen(config: OverlayDataConfig) -> CompositeSurvey:
    return survey_composites(open_composites(config, seed=0))


def codes(survey: CompositeSurvey) -> list[tuple[str, str]]:
    return [(finding.code, str(finding.severity)) for finding in check_composites(survey)]


def test_correct_composites_have_no_findings(good) -> None:
    survey = seen(good)
    assert codes(survey) == []
    lines = survey.lines()
    assert lines[0].split() == ["train", "val", "shared"]
    assert lines[1].split() == ["background", "12", "12", "0"]
    assert lines[4].split() == ["object", "4", "2", "0"]
    assert "evened out: 11.9" in lines[6]
    assert lines[7] == "depth: exact, metres"
    assert lines[8] == "cut-outs: files of up to 24 pixels, pasted 10 to 19 pixels long"


def test_a_background_on_both_sides_stops_and_a_recording_warns(good, tmp_path: Path) -> None:
    copy = tmp_path / "roads" / "b" / "left" / "000003.png"
    copy.write_bytes((tmp_path / "roads" / "a" / "left" / "000007.png").read_bytes())
    (found,) = check_composites(seen(good))
    assert (found.code, found.severity) == ("C01", "stop")
    assert (
        "1 background in two of the splits train, val, such as roads/a/left/000007 (there roads/b/left/000003)"
        in found.measured
    )
    assert found.evidence["splits"]["shared"][0] == 1
    alone = good.backgrounds.model_copy(
        update={
            "path": str(tmp_path / "roads" / "a"),
            "split_by": good.backgrounds.split_by.model_copy(update={"val_share": 0.2}),
        }
    )
    assert ("C01", "warn") in codes(seen(good.model_copy(update={"backgrounds": alone})))


@pytest.mark.slow
def test_an_object_on_both_sides_stops_under_any_name(good, tmp_path: Path) -> None:
    (tmp_path / "cut" / "val" / "other.png").write_bytes((tmp_path / "cut" / "train" / "2.png").read_bytes())
    (found,) = check_composites(seen(good))
    assert (found.code, found.severity) == ("C02", "stop")
    assert "1 object in two of the splits train, val, such as 2 (there other)" in found.measured
    rgba = cv2.imread(str(tmp_path / "cut" / "train" / "2.png"), cv2.IMREAD_UNCHANGED)
    rgba[6, 9] = (1, 2, 3, 200)
    cv2.imwrite(str(tmp_path / "cut" / "train" / "2.png"), rgba)
    assert codes(seen(good)) == [], "not the same any more"
    (tmp_path / "cut" / "val" / "other.png").unlink()
    cut(tmp_path / "cut" / "val" / "0.png", 99)
    assert codes(seen(good)) == [], "a file of the same number shows another object"


def test_labels_outside_of_the_depth_range_are_reported(good) -> None:
    """Of a road of 2 to 30 m: metres fit, and a range for [0, 1] does not."""
    opened = open_composites(good, seed=0)
    assert check_composites(survey_composites(opened, (0.25, 80.0))) == []
    assert survey_composites(opened).unscored == 0
    (found,) = check_composites(survey_composites(opened, (0.25, 10.0)))
    assert (found.code, found.severity) == ("C14", "warn")
    depths = np.concatenate(
        [opened.images[split].composed(n).depth.ravel() for split in ("train", "val") for n in range(12)]
    )
    assert f"{(depths >= 10).mean():.0%}"[0] == found.measured[0]
    assert "99 % are in 2 to " in found.measured


def test_other_file_layout_is_reported(good) -> None:
    survey = replace(
        seen(good),
        source="teacher: DenseDepth",
        depth_scale="up-to-scale",
        lossy=(("bg1/fg_1/mask_/3.jpg", "a mask with values between 0 and 255 at 7.0% of its pixels"),),
        missing=tuple(f"bg1/fg_1/depth/{number}.jpg" for number in range(1, 13)),
        renamed=("99 folders 'mask_' for 'mask'",),
    )
    assert codes(survey) == [("C03", "warn"), ("C05", "warn"), ("C04", "note"), ("C07", "note")]
    missing = next(found for found in check_composites(survey) if found.code == "C03")
    assert len(missing.evidence["missing"]["path"]) == 10
    assert "12 paths are missing: bg1/fg_1/depth/1.jpg" in missing.measured
    assert "10.jpg ..." in missing.measured
