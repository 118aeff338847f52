"""Fixed cameras: laws of the measured turn and zoom, what happened to a camera, and the commands."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from benchmarks.fixed_cameras import View, make_photo_view, record
from numpy.typing import NDArray

from stadia.cli.main import run
from stadia.core.errors import DataError
from stadia.geometry.poses import so3_exp
from stadia.judge.purposes import FIXED_PURPOSES, parse_purpose
from stadia.judge.rigs.fixed_cameras import make_background, measure_view
from stadia.judge.rigs.pinned_rig import CameraVerdict, PinnedCamera, judge_camera, read_rig, write_rig

Image = NDArray[np.uint8]


def draw_photo(seed: int) -> Image:
    """Return a picture with corners and edges of all sizes."""
    random = np.random.default_rng(seed)
    photo = np.full((400, 640, 3), 120, np.uint8)
    for _ in range(400):
        center, size = random.integers((0, 0), (640, 400)), random.integers(4, 40, 2)
        angle, color = float(random.uniform(0, 180)), random.integers(0, 255, 3).tolist()
        box = cv2.boxPoints(((float(center[0]), float(center[1])), (float(size[0]), float(size[1])), angle))
        cv2.fillPoly(photo, [box.astype(np.int32)], color, lineType=cv2.LINE_AA)
    return np.asarray(cv2.GaussianBlur(photo, (0, 0), 0.8), np.uint8)


@pytest.fixture(scope="module")
def view() -> View:
    return make_photo_view("gate", draw_photo(0))


def judge(view: View, image: Image, **settings: object) -> CameraVerdict:
    random = np.random.default_rng(1)
    pinned = make_background(record(view.render(np.eye(3), 1.0), random))
    fresh = make_background(record(image, random))
    return judge_camera(PinnedCamera(view.name, pinned, view.K, True), fresh, **settings)  # type: ignore[arg-type]


def list_causes(verdict: CameraVerdict) -> list[str]:
    return [cause.name for cause in verdict.causes if cause.name != "exposure"]


@pytest.mark.parametrize("turn_deg", [(0.3, 0, 0), (0, -0.5, 0), (0, 0, 0.8), (2.0, 1.0, -1.5)])
def test_a_turn_is_measured_about_each_axis(view: View, turn_deg: tuple[float, float, float]) -> None:
    R = so3_exp(np.radians(turn_deg))
    first, second = (make_background([view.render(one, 1.0)]) for one in (np.eye(3), R))
    change = measure_view(first, second, view.K)
    assert change.rotation_deg is not None
    for measured, true in zip(change.rotation_deg, turn_deg, strict=True):
        assert measured.value == pytest.approx(true, abs=max(3 * measured.deviation, 0.003))
    assert change.zoom_share is not None
    assert abs(change.zoom_share.value) < 4 * change.zoom_share.deviation


def test_turns_back_and_forth_are_opposite(view: View) -> None:
    R = so3_exp(np.radians([0.5, -1.0, 0.7]))
    first, second = (make_background([view.render(one, 1.0)]) for one in (np.eye(3), R))
    there, back = measure_view(first, second, view.K), measure_view(second, first, view.K)
    assert there.homography is not None
    assert back.homography is not None
    both = there.homography @ back.homography
    np.testing.assert_allclose(both / both[2, 2], np.eye(3), atol=0.1)


@pytest.mark.parametrize("zoom", [0.98, 1.01, 1.05])
def test_a_zoom_is_measured_and_named(view: View, zoom: float) -> None:
    verdict = judge(view, view.render(np.eye(3), zoom))
    assert verdict.change.zoom_share is not None
    measured = verdict.change.zoom_share
    assert measured.value == pytest.approx(zoom - 1, abs=3 * measured.deviation)
    assert list_causes(verdict) == ["zoomed"]


def test_a_camera_that_stays_is_not_accused(view: View) -> None:
    verdict = judge(view, view.render(np.eye(3), 1.0))
    assert list_causes(verdict) == []
    assert verdict.grade == "usable"


def test_a_moved_camera_is_good_for_what_its_displacement_allows(view: View) -> None:
    image = view.render(so3_exp(np.radians([0.0, 0.5, 0.0])), 1.0)  # 4 pixels
    verdict = judge(view, image)
    assert list_causes(verdict) == ["moved"]
    assert verdict.change.shift_px is not None
    assert verdict.change.shift_px.value == pytest.approx(np.radians(0.5) * view.K[0, 0], rel=0.1)
    assert {one.purpose.name: one.holds for one in verdict.purposes} == {"points": False, "regions": True}
    assert judge(view, image, purposes=[parse_purpose("points=9px", FIXED_PURPOSES)]).grade == "usable"


def test_what_happened_to_a_camera_is_named(view: View) -> None:
    image = view.render(np.eye(3), 1.0)
    assert list_causes(judge(view, np.ascontiguousarray(image[:, ::-1]))) == ["mirrored"]
    assert list_causes(judge(view, np.full_like(image, 30))) == ["covered"]
    part = image.copy()
    part[:, : image.shape[1] // 3] = 40
    assert list_causes(judge(view, part)) == ["covered"]
    assert list_causes(judge(view, np.asarray(cv2.GaussianBlur(image, (0, 0), 2.5), np.uint8))) == ["refocused"]
    dark = judge(view, (image // 3).astype(np.uint8))
    assert [cause.name for cause in dark.causes] == ["exposure"]
    assert dark.grade == "usable"


def test_an_exchanged_camera_is_named(view: View) -> None:
    other = make_photo_view("yard", draw_photo(5))
    image = other.render(np.eye(3), 1.0)
    pinned = PinnedCamera("yard", make_background([image]), other.K, True)
    verdict = judge(view, image, others=[pinned])
    assert list_causes(verdict) == ["swapped"]
    assert verdict.causes[0].items == ("yard",)


def test_another_place_is_not_judged(view: View) -> None:
    verdict = judge(view, make_photo_view("yard", draw_photo(6)).render(np.eye(3), 1.0))
    assert (verdict.grade, list_causes(verdict)) == ("not judged", [])


def call(*words: object) -> int:
    with pytest.raises(SystemExit) as ending:
        run(["rig", *map(str, words)])
    return int(str(ending.value.code))


def write_recording(folder: Path, images: dict[str, Image]) -> Path:
    random = np.random.default_rng(3)
    for name, image in images.items():
        (folder / name).mkdir(parents=True)
        for number, frame in enumerate(record(image, random)):
            cv2.imwrite(str(folder / name / f"{number}.png"), frame)
    return folder


def test_the_commands_pin_and_check(view: View, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = make_photo_view("yard", draw_photo(5))
    still = {"gate": view.render(np.eye(3), 1.0), "yard": other.render(np.eye(3), 1.0)}
    before = write_recording(tmp_path / "may", still)
    R = so3_exp(np.radians([0.0, 2.0, 0.0]))
    later = write_recording(tmp_path / "june", {**still, "gate": view.render(R, 1.0)})
    swapped = write_recording(tmp_path / "july", {"gate": still["yard"], "yard": still["gate"]})
    camera = f"fx={view.K[0, 0]},cx={view.K[0, 2]},cy={view.K[1, 2]}"
    rig = tmp_path / "rig"
    assert call("pin", before, "--out", rig, "--camera", camera) == 0
    assert call("check", rig, before, "--for", "points=2px") == 0
    assert call("pin", later, "--out", rig) == 2  # the pinned views would be lost
    capsys.readouterr()
    assert call("check", rig / "rig.json", later, "--for", "points=2px", "--report", tmp_path / "report", "--json") == 1
    cameras = {one["name"]: one for one in json.loads(capsys.readouterr().out)["cameras"]}
    assert [cause["name"] for cause in cameras["gate"]["causes"] if cause["name"] != "exposure"] == ["moved"]
    assert cameras["gate"]["right_deg"]["value"] == pytest.approx(2.0, abs=0.03)
    assert cameras["yard"]["grade"] == "usable"
    assert len(list((tmp_path / "report").glob("camera-*.png"))) == 2
    page = (tmp_path / "report" / "rig-check.html").read_text()
    assert all(
        text in page for text in ("gate", "yard", "the camera turned by", "data:image/jpeg", "points to 2px: no")
    )
    assert call("check", rig, swapped) == 1
    assert "the recording is of camera yard" in capsys.readouterr().out
    strange = write_recording(tmp_path / "august", {"door": still["gate"], "roof": still["yard"]})
    assert call("check", rig, strange) == 2  # no recording has the name of a camera


def test_a_damaged_rig_is_refused(view: View, tmp_path: Path) -> None:
    background = make_background([view.render(np.eye(3), 1.0)])
    record_file = write_rig(tmp_path, [PinnedCamera("gate", background, view.K, True)])
    assert read_rig(tmp_path)[0].name == "gate"
    sound = json.loads(record_file.read_text())
    for key, value in (("background", "../outside.npz"), ("K", [[1, 0], [0, 1]]), ("width", -1), ("K", None)):
        damaged = {**sound, "cameras": [{**sound["cameras"][0], key: value}]}
        record_file.write_text(json.dumps(damaged))
        with pytest.raises(DataError):
            read_rig(tmp_path)
    for text in ("[]", '{"format": "stadia-rig", "cameras": []}', '{"format": "stadia-rig", "cameras": [3]}'):
        record_file.write_text(text)
        with pytest.raises(DataError):
            read_rig(tmp_path)
