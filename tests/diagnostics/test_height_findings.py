"""Scale from heights: what masks cannot teach (H01 to H05, H16), what a training says of it (H06 to H15, T07), each broken on purpose."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from stadia.core.recording import LEFT, Recording
from stadia.core.types import Camera
from stadia.data.road_config import RoadConfig
from stadia.data.road_masks import MaskFiles
from stadia.data.road_survey import survey_road
from stadia.diagnostics.finding import Finding
from stadia.diagnostics.heights import drift_findings, mask_findings
from stadia.diagnostics.watching.heights import FROM_STEP, ROWS, RULES, FlatDepth, Lasting, Rule, ScaleIgnored
from stadia.geometry.camera import intrinsics

HEIGHT, WIDTH, FRAMES = 48, 80, 8
Masks = tuple[NDArray[np.uint8], NDArray[np.uint8]]
Change = Callable[[NDArray[np.uint8], NDArray[np.uint8]], Masks | None]


class Drive(Recording):
    """A recording of which only its masks are asked for; its first frame is number 100 of the video."""

    name = "drive"

    def __len__(self) -> int:
        return FRAMES

    def image(self, index: int, side: str = LEFT) -> NDArray[np.uint8]:
        """A dark road under a bright sky, and a grey car where the masks have it."""
        picture = np.full((HEIGHT, WIDTH, 3), 200, np.uint8)
        picture[HEIGHT // 2 :] = 60
        picture[20:34, 20:36] = 120
        return picture

    def camera(self, index: int, side: str = LEFT) -> Camera:
        return intrinsics(50.0, 50.0, 39.5, 23.5, height=HEIGHT, width=WIDTH)

    def number(self, index: int) -> int:
        return 100 + index


def drive(folder: Path, change: Change = lambda semantic, instance: (semantic, instance), *, frames: range = range(FRAMES)) -> Recording:
    """A road in the lower half with a car on it; `frames` of it are changed, None has no file."""
    for kind in ("semantic", "instance"):
        (folder / kind / "left").mkdir(parents=True)
    (folder / "classes.json").write_text(json.dumps({7: "road", 26: "car", 28: "bus", 23: "sky"}))
    for index in range(FRAMES):
        semantic, instance = np.full((HEIGHT, WIDTH), 23, np.uint8), np.zeros((HEIGHT, WIDTH), np.uint8)
        semantic[HEIGHT // 2 :] = 7
        semantic[20:34, 20:36], instance[20:34, 20:36] = 26, 4
        written = change(semantic, instance) if index in frames else (semantic, instance)
        for kind, values in zip(("semantic", "instance"), written or (), strict=False):
            cv2.imwrite(str(folder / kind / "left" / f"{100 + index:06d}.png"), values)
    recording = Drive()
    recording.mask_reader = MaskFiles(folder)
    return recording


def of_masks(recording: Recording, **config: object) -> list[Finding]:
    return mask_findings(survey_road([recording], RoadConfig(priors="kitti", **config)))


def test_masks_as_they_should_be_are_silent(tmp_path):
    assert of_masks(drive(tmp_path)) == []


def painted(number: int) -> Change:
    return lambda semantic, instance: (np.full_like(semantic, number), np.zeros_like(instance))


def an_empty_road(semantic: NDArray[np.uint8], instance: NDArray[np.uint8]) -> Masks:
    return np.where(instance > 0, 7, semantic).astype(np.uint8), np.zeros_like(instance)


def a_bus(semantic: NDArray[np.uint8], instance: NDArray[np.uint8]) -> Masks:
    return np.where(instance > 0, 28, semantic).astype(np.uint8), instance


MUTATIONS: dict[str, tuple[Change, range, set[str], str]] = {
    "the camera looks at the sky": (painted(23), range(FRAMES), {"H01", "H02"}, "8 of 8 frames show no road, such as frame 100"),
    "the road is seen in three frames alone": (painted(23), range(3, FRAMES), {"H01"}, "5 of 8 frames show no road, such as frame 103"),
    "no objects": (an_empty_road, range(FRAMES), {"H02"}, "8 of 8 frames show no object of known height (0 objects), such as frame 100"),
    "no mask file": (lambda s, i: None, range(2, 4), {"H03"}, "masks of 2 of 8 frames cannot be used, such as frame 102: no mask file"),
    "masks of a cropped picture": (lambda s, i: (s[:, :60], i[:, :60]), range(5, 6), {"H03"}, "frame 105: "),
    "a class without a prior": (a_bus, range(1, 3), {"H04"}, "2 of class bus, such as in frame 101"),
    "stored mirrored": (lambda s, i: (s[:, ::-1], i[:, ::-1]), range(FRAMES), {"H16"}, "in 8 of 8 frames the picture's edges fit"),
    "stored upside down": (lambda s, i: (s[::-1], i[::-1]), range(6, FRAMES), {"H05"}, "of frame 106 less than half"),
}


@pytest.mark.parametrize(("change", "frames", "codes", "words"), MUTATIONS.values(), ids=MUTATIONS)
def test_masks_that_teach_nothing_are_named_with_their_frames(change, frames, codes, words, tmp_path):
    found = of_masks(drive(tmp_path, change, frames=frames), objects=("car", "bus"))
    assert {one.code for one in found} == codes
    assert any(words in one.measured for one in found), [one.measured for one in found]
    for one in found:
        assert one.where == ("drive",)
        assert one.cure
        assert set(one.evidence.get("frames", {"frame": []})["frame"]) <= {100 + index for index in frames}


# ------------------------------------------------------------------------------------------------------- while it trains


def test_a_height_that_drifts_is_told_and_one_that_wanders_is_not():
    rising = [1.65 * 1.02**epoch for epoch in range(6)]
    (found,) = drift_findings({"roof": [math.nan, *rising], "bonnet": [1.2] * 7})
    assert (found.code, found.where) == ("H08", ("roof",))
    assert "from 1.65 m to 1.82 m, +2.0% an epoch" in found.measured
    assert drift_findings({"roof": rising[:5]}) == [], "five steps are asked for"
    assert drift_findings({"roof": [1.65, 1.7, 1.66, 1.75, 1.8, 1.85]}) == [], "it went back once"
    assert drift_findings({"roof": [1.65 * 1.005**epoch for epoch in range(9)]}) == []


def test_depth_that_keeps_a_scale_of_its_own():
    def asked(values: list[float]) -> list[Finding]:
        watch = ScaleIgnored()
        rows = [watch.on_row(step, {"train/metric/off_camera_height": value}) for step, value in enumerate(values)]
        return [found for found in rows if found]

    (found, *_) = asked([0.5] * 25)
    assert (found.code, found.evidence["step"]) == ("H09", 19)
    assert f"{math.exp(0.5):.2f} times the camera's height" in found.measured
    assert asked([0.5] * 19 + [0.1] + [-0.5] * 19) == [], "never twenty in a row"
    assert asked([math.nan, 0.1] * 20) == []
    assert ScaleIgnored().on_row(1, {"val/abs_rel": 0.5}) is None


def test_depth_that_is_one_value_all_over():
    watch = FlatDepth()
    assert watch.on_row(99, {"train/metric/depth_spread": 0.01}) is None, "a start is flat"
    assert watch.on_row(100, {"train/metric/depth_spread": 0.16}) is None
    assert watch.on_row(100, {"train/loss": 0.1}) is None
    found = watch.on_row(100, {"train/metric/depth_spread": 0.01})
    assert found is not None
    assert found.code == "H10"


BAD = {"H11": -0.25, "H12": 0.01, "H13": 0.2, "H14": 0.6, "H15": 0.1, "T07": 0.8}
GOOD = {"H11": 0.15, "H12": 0.05, "H13": 0.05, "H14": 0.4, "H15": 0.01, "T07": 0.6}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.code)
@pytest.mark.parametrize("of", ["train/{}", "train/selfsup/{}"])
def test_what_lasts_is_told_and_what_passes_is_not(rule: Rule, of: str) -> None:
    def asked(values: list[float], first: int = FROM_STEP) -> list[Finding]:
        watch = Lasting(rule)
        rows = [watch.on_row(first + step, {of.format(rule.name): value}) for step, value in enumerate(values)]
        return [found for found in rows if found]

    bad, good = BAD[rule.code], GOOD[rule.code]
    (found,) = asked([bad] * ROWS)
    assert found.code == rule.code
    assert asked([good] * 50) == []
    assert asked(([bad] * (ROWS - 1) + [good]) * 3) == [], "never twenty in a row"
    assert asked(([bad] * (ROWS - 1) + [math.nan]) * 3) == []
    assert asked([bad] * ROWS, first=FROM_STEP - ROWS) == [], "a start is anything"
    assert Lasting(rule).on_row(FROM_STEP, {"val/abs_rel": 0.1}) is None
